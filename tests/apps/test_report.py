"""Tests of ``tinyhd report``: a page without external files."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import clips
from helpers.pages import Page

from tinyhd_cli.apps.report.data import MAX_SCENES, ReportCollector, ReportData
from tinyhd_cli.apps.report.page import peak_position
from tinyhd_cli.apps.report.plots import clock


@pytest.fixture
def two_scenes(tmp_path):
    """Make a clip with a cut in its middle and a name that must be escaped in HTML."""
    path = tmp_path / "a <b> & c.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(20):
            image = clips.image(number, 96, 64)
            image = image if number < 10 else 255 - image[::-1]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_page(tinyhd, two_scenes, weights_file, capsys):
    areas = ["--aoi", "left=0%,0%,50%,100%", "--aoi", "<i>right</i>=50%,0%,50%,100%"]
    assert tinyhd("report", two_scenes, "-o", "out.html", "--weights", weights_file, *areas) == 0
    assert "20 frames, 2 scenes" in capsys.readouterr().err
    page = Page(Path("out.html"))
    assert [link for link in page.links if not link.startswith("#")] == []  # no external files
    assert len(page.images) >= 12 + 1 + 2  # filmstrip, heat map, scenes
    assert "a <b> & c.mp4" in page.text and "<i>right</i>" in page.text
    assert "0:00.0 to 0:01.0" in page.text and "0:01.0 to 0:02.0" in page.text
    shares = re.findall(r"(\d+\.\d)%\s*50\.0%\s*\d+\.\d% at", page.text)
    assert len(shares) == 2 and sum(map(float, shares)) == pytest.approx(100, abs=0.15)
    assert "not a measurement" in page.text


def test_default_name_and_wrong_usage(tinyhd, tmp_path, weights_file, capsys):
    clip = clips.make(tmp_path / "clip.mp4", frames=1)
    assert tinyhd("report", clip, "--weights", weights_file) == 0  # also for a single frame
    assert Path("clip_report.html").stat().st_size > 3_000
    for arguments, code, message in (
        (["-o", "out.pdf"], 2, "must end in .html"),
        (["--aoi", "logo"], 2, "no such file"),
        (["--aoi-threshold", "2"], 2, "--aoi-threshold"),
        (["-o", "clip_report.html/out.html"], 5, "cannot be written"),
    ):
        assert tinyhd("report", clip, "--weights", weights_file, *arguments) == code
        assert message in capsys.readouterr().err
    assert tinyhd("report", tmp_path / "no.mp4") == 3
    assert [path.name for path in Path.cwd().iterdir()] == ["clip_report.html"]


def test_summary(tinyhd, tmp_path, weights_file, capsys):
    clip = clips.make(tmp_path / "clip.mp4", frames=1)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    start = ("report", clip, broken, tmp_path / "no.mp4", "--weights", weights_file, "--engine", "torch")
    for arguments, code, message in (
        (["--summary-file", "all.pdf"], 2, "--summary-file all.pdf: the page's name must end in .html"),
        (["--summary-file", "{name}_report.html/"], 2, "{name}_report.html: is a folder"),
        (["--summary-file", "clip_report.html"], 2, "is the report of"),
        (["--summary-file", "file/all.html"], 5, "cannot be written"),
    ):
        Path("file").touch()
        Path("{name}_report.html").mkdir(exist_ok=True)
        assert tinyhd(*start, *arguments) == code
        assert message in capsys.readouterr().err
        assert not Path("clip_report.html").exists()  # checked before the work
    assert tinyhd(*start, "--summary", "--out-dir", "pages") == 1
    assert f"summary of 3 files -> {Path('pages/summary.html')}" in capsys.readouterr().err
    page = Page(Path("pages/summary.html"))
    assert [link for link in page.links if not link.startswith("#")] == ["clip_report.html"] * 2
    assert "1 image; 2 failed" in " ".join(page.text.split())
    assert f"{broken}" in page.text and "no such file" in page.text
    assert tinyhd("report", broken, "--weights", weights_file, "--engine", "torch", "--summary-file", "none.html") == 3
    text = " ".join(Page(Path("none.html")).text.split())
    assert "no report was written; 1 failed. Failures" in text and "Model" not in text


def test_words():
    assert clock(0) == "0:00.0" and clock(75.26) == "1:15.3" and clock(59.97) == "1:00.0"
    attention = np.zeros((192, 256))
    attention[10, 250] = 1
    assert peak_position(attention) == "upper right"
    attention[100, 128] = 2
    assert peak_position(attention) == "center"


def test_memory_does_not_grow_with_scenes(tmp_path, weights_file):
    """Only the times of later scenes are kept."""
    from tinyhd_cli import load_model
    from tinyhd_cli.apps.report.page import render
    from tinyhd_cli.inference.areas import AreaStatistics
    from tinyhd_cli.video.reader import VideoReader

    clip = clips.make(tmp_path / "clip.mp4", frames=2)
    with VideoReader(clip) as reader:
        data = ReportData(reader.info, AreaStatistics((), 0.1))
        collector = ReportCollector(data)
        collector._detector.is_cut = lambda image: True
        frame = next(iter(reader))
        for index in range(MAX_SCENES + 5):
            frame.index, frame.time_s = index, index / 10
            collector.add(frame, np.random.default_rng(index).random((192, 256)).astype(np.float32))
    assert len(data.scenes) == MAX_SCENES + 5
    assert sum(scene.attention is not None for scene in data.scenes) == MAX_SCENES
    assert f"{MAX_SCENES + 5}." in render(data, load_model(weights_file))
