"""Tests of reports about very short, very long and uniform videos: no part of a report is empty."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import clips
from helpers.pages import Page

from tinyhd_cli.apps.report.page import FILMSTRIP
from tinyhd_cli.apps.report.plots import clock, mark_times
from tinyhd_cli.inference.frame_samples import MAX_KEPT, FrameSample, FrameSampler


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Replace the network by constant maps, because the network is not under test."""
    from tinyhd_cli.inference.model import Model

    maps = np.random.default_rng(0).random((16, 192, 256)).astype(np.float32)
    monkeypatch.setattr(Model, "infer", lambda self, clip: maps)


def write(path: Path, images: list[np.ndarray], rate: int = 25) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "bgr0"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def page(tinyhd, weights_file):
    """Return a function that makes the report of a video and returns the page and its HTML."""

    def make(video: Path, *options: str) -> tuple[Page, str]:
        assert tinyhd("report", video, "-o", "o.html", "--weights", weights_file, "--engine", "torch", *options) == 0
        return Page(Path("o.html")), Path("o.html").read_text()

    return make


def frames_in(page: Page) -> list[str]:
    """Return the images of a page that show frames. The images inside plots are PNGs."""
    return [image for image in page.images if image.startswith("data:image/jpeg")]


def numbers_of(html: str) -> list[float]:
    """Return the numbers in the page's plots."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", html)
    return [
        float(text.replace("\N{MINUS SIGN}", "-")) for text in texts if re.fullmatch(r"[-\N{MINUS SIGN}\d.]+", text)
    ]


def test_single_image(page, tmp_path):
    import cv2

    cv2.imencode(".png", clips.image(1, 64, 48))[1].tofile(tmp_path / "one.png")
    shown, html = page(tmp_path / "one.png", "--aoi", "logo=0%,0%,50%,100%")
    assert len(frames_in(shown)) == 2  # heat map, contours
    assert '<div class="plot' not in html
    for absent in ("Filmstrip", "over time", "Scenes", "first attended", "frames per second", "0:00.0", "video"):
        assert absent not in shown.text, absent
    assert "64 x 48 pixels" in shown.text
    assert "logo" in shown.text and "50.0%" in shown.text


@pytest.mark.parametrize("frames", [2, 5, 50])
def test_a_short_clip(page, tmp_path, frames):
    video = write(tmp_path / "short.mkv", [clips.image(number, 64, 48) for number in range(frames)])
    shown, html = page(video, "--aoi", "left=0%,0%,50%,100%")
    assert html.count('<div class="plot wide"><svg') == html.count('<div class="plot narrow"><svg') == 3
    assert min(numbers_of(html)) == 0
    assert len(frames_in(shown)) == min(frames, FILMSTRIP) + 1 + 1
    assert (f"Steps every {16} frames" in shown.text) == (frames > 16)


def test_white_frame_has_a_border(page, tmp_path):
    shown, html = page(write(tmp_path / "white.mkv", [np.full((48, 64, 3), 255, np.uint8)] * 20))
    assert len(frames_in(shown)) == FILMSTRIP + 1 + 1
    assert re.search(r"\.frame::after \{[^}]*border: 1px solid", html)


def test_samples_do_not_depend_on_the_claimed_length(page, tmp_path, monkeypatch):
    """The filmstrip is the same whether a container claims too many frames, too few, or none."""
    video = write(tmp_path / "clip.mkv", [clips.image(number, 64, 48) for number in range(30)])
    pages = []
    for claimed in (30, None, 10**6, 1):
        monkeypatch.setattr(
            "tinyhd_cli.video.container.claimed_frame_count", lambda *arguments, claimed=claimed: claimed
        )
        pages.append(frames_in(page(video)[0]))
    assert pages[0] == pages[1] == pages[2] == pages[3]
    assert len(set(pages[0])) == len(pages[0]) == FILMSTRIP + 2


@pytest.mark.parametrize("spacing", ["even", "pause", "slower"])
@pytest.mark.parametrize("count", [13, 100, 5000])
def test_samples_are_evenly_spaced(count, spacing):
    times = np.arange(count, dtype=float)
    times = {"even": times, "pause": times + 9 * count * (times >= count / 2), "slower": times**2}[spacing] + 7
    sampler, most = FrameSampler(), 0
    for time_s in times:
        if sampler.is_due(time_s):
            sampler.add(FrameSample(time_s, np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)))
            most = max(most, len(sampler._kept))
    assert most <= MAX_KEPT + 1
    chosen = np.array([sample.time_s for sample in sampler.select(12, float(times[-1]))])
    assert (np.diff(chosen) > 0).all()
    span = times[-1] - times[0]
    middles = times[0] + span * (np.arange(12) + 0.5) / 12
    # Each sample is the nearest frame to its target time, up to the interval between kept frames.
    for middle in middles:
        there = np.abs(times - middle).min()
        assert np.abs(chosen - middle).min() <= there + 2 * span / MAX_KEPT + 1


def test_times_of_long_videos():
    assert clock(3599.94) == "59:59.9"
    assert clock(3600) == "1:00:00"
    assert clock(3 * 3600 + 62.5) == "3:01:02"


@pytest.mark.parametrize(
    ("seconds", "label", "marks"),
    [
        (20, "seconds", None),
        (150, "time", ["0:00", "0:30", "1:00", "1:30", "2:00", "2:30"]),
        (3 * 3600, "time", ["0:00", "30:00", "1:00:00", "1:30:00", "2:00:00", "2:30:00", "3:00:00"]),
    ],
)
def test_ticks_of_a_time_axis(seconds, label, marks):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    axes.set_xlim(0, seconds)
    assert mark_times(axes.xaxis, seconds) == label
    if marks:
        shown = [
            text for time_s, text in zip(axes.get_xticks(), format_ticks(axes), strict=True) if 0 <= time_s <= seconds
        ]
        assert shown == marks


def format_ticks(axes) -> list[str]:
    return axes.xaxis.get_major_formatter().format_ticks(axes.get_xticks())
