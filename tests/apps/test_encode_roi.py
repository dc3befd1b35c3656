"""Tests of ``tinyhd encode --roi-file``: the files are what other encoders read, and bits move to the regions."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from helpers.textured import left_saliency_of, textured

from tinyhd_cli.apps.encode import offsets, roi_file
from tinyhd_cli.apps.options import EncodeOptions
from tinyhd_cli.video.options import EncoderOptions
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.regions import Grid

WIDTH, HEIGHT, FRAMES = 200, 136, 14


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a clip whose blocks of 64 x 64 and of 16 x 16 pixels are cut at the right and at the bottom."""
    return textured(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES, width=WIDTH, height=HEIGHT)


@pytest.fixture
def write(clip, monkeypatch, tmp_path):
    """Return a function that writes a region map of the clip, with attention on the left, and returns its path."""
    monkeypatch.setattr(offsets, "saliency_of", left_saliency_of)

    def run(name, file, crf=28):
        options = EncodeOptions(EncoderOptions(crf=crf, preset="medium"))
        model = SimpleNamespace(spec=SimpleNamespace(task="fixation"))
        path = tmp_path / "maps" / file
        found = roi_file.write_roi_file(clip, model, path, name, options)
        assert (found.frames, found.damaged) == (FRAMES, 0)
        assert [item.name for item in path.parent.iterdir()] == [file], "no temporary file is left"
        return path

    return run


def planes(path):
    """Return the luminance of all frames, as it is stored."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p")[: frame.height] for frame in container.decode(video=0)]


def test_svtav1(write):
    lines = [list(map(int, line.split(" "))) for line in write("svtav1", "clip.roi").read_text().splitlines()]
    assert [line[0] for line in lines] == list(range(FRAMES))
    for line in lines:
        blocks = np.reshape(line[1:], (3, 4))
        assert blocks.min() == 0 and blocks.max() == 48, "twice the strength, in AV1's quantizer indices"
        assert len(np.unique(blocks)) <= 8
        assert blocks[1, 0] == 0 and blocks[0, 0] < 24, "the attention is on the left"
        assert (blocks[:, 2:] == 48).all()


@pytest.mark.skipif(
    not shutil.which("SvtAv1EncApp"), reason="needs SvtAv1EncApp 1.6 or later, as in Debian 13's svt-av1"
)
def test_svtav1_in_its_program(write, clip, tmp_path):
    roi = write("svtav1", "clip.roi").read_text()
    with av.open(str(tmp_path / "clip.y4m"), "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("rawvideo", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        with av.open(str(clip)) as source:
            for frame in source.decode(video=0):
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
    (tmp_path / "clip.roi").write_text(roi)
    errors = {}
    for name, options in (("plain", []), ("guided", ["--roi-map-file", str(tmp_path / "clip.roi")])):
        encoded = tmp_path / f"{name}.ivf"
        command = [
            "SvtAv1EncApp",
            "-i",
            str(tmp_path / "clip.y4m"),
            "-b",
            str(encoded),
            "--preset",
            "10",
            "--crf",
            "35",
        ]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=True)
        assert "roi" not in done.stderr.lower()
        pairs = zip(planes(clip), planes(encoded), strict=True)
        errors[name] = np.mean([(one.astype(float) - other) ** 2 for one, other in pairs], axis=0)
    ratio = errors["guided"] / np.maximum(errors["plain"], 0.1)
    assert np.median(ratio[:128, :64]) < 1.1 < 1.5 < np.median(ratio[:128, 128:])


def test_qpfile(write):
    """Frame numbers and types as x264 and x265 read them; about the same bits as with the regions."""
    lines = [line.split(" ") for line in write("x264-qpfile", "clip.qp", 25).read_text().splitlines()]
    assert [int(number) for number, _, _ in lines] == list(range(FRAMES))
    assert "".join(kind for _, kind, _ in lines) == "KbBbPbBbPbBbPb"
    by_type = {kind: int(qp) for _, kind, qp in lines}
    assert by_type["K"] + 3 == by_type["P"] == by_type["B"] - 1 == by_type["b"] - 2
    assert 25 < by_type["P"] < 31, "most blocks are worse"


@pytest.mark.parametrize("name", ["ffmpeg", "x265"])
def test_filter_graph(write, clip, name):
    split, part, concat = write(name, "clip.graph").read_text().splitlines()
    assert split == "[0:v]split=1[0];" and concat == "[r0]concat=1[v]", "the regions do not change"
    match = re.fullmatch(r"\[0\]trim=start_frame=0,setpts=PTS-STARTPTS,(.*)\[r0\];", part)
    regions = [tuple(map(float, found)) for found in re.findall(r"addroi=(\d+):(\d+):(\d+):(\d+):([-.\d]+)", match[1])]
    painted = np.zeros((HEIGHT, WIDTH))
    for x, y, width, height, offset in reversed(regions):  # where they overlap, the first one counts
        assert x % 16 == y % 16 == 0 and x + width <= WIDTH and y + height <= HEIGHT
        painted[int(y) : int(y + height), int(x) : int(x + width)] = 51 * offset
    saliency = next(left_saliency_of([None], None))[1]
    grid = Grid.blocks(WIDTH, HEIGHT, 16)
    cells = grid.means(saliency)
    assert ((painted < 0) == grid.pixels(cells > 1.5 * cells.mean())).all()
    assert painted.min() == pytest.approx(-6, abs=0.01) and painted.max() == pytest.approx(6, abs=0.01)
    if name == "ffmpeg":
        better, worse = encoded_errors(clip, match[1].partition("addroi")[2].split(",addroi"), painted)
        assert better > 2 and worse < -2, "the regions are better, and all others worse, in dB"


def test_filter_graph_is_cut_where_regions_change(write, monkeypatch):
    def moving(reader, model):
        for frame, saliency in left_saliency_of(reader, model):
            yield frame, saliency if frame.index < 6 else saliency[:, ::-1]

    monkeypatch.setattr(offsets, "saliency_of", moving)
    split, first, second, concat = write("ffmpeg", "clip.graph").read_text().splitlines()
    assert split == "[0:v]split=2[0][1];" and concat == "[r0][r1]concat=2[v]"
    assert first.startswith("[0]trim=start_frame=0:end_frame=12,setpts=PTS-STARTPTS,addroi=")
    assert second.startswith("[1]trim=start_frame=12,setpts=PTS-STARTPTS,addroi=")
    assert first.endswith("[r0];") and second.endswith("[r1];")


def encoded_errors(clip, regions, painted):
    """Return the gain in dB of x264 with regions over x264 without them, in blocks with negative offsets and others."""
    errors = []
    for some in ([], regions):
        graph = av.filter.Graph()
        with av.open(str(clip)) as source, av.open(str(clip) + ".mkv", "w") as target:
            stream = target.add_stream("libx264", rate=30, options={"crf": "32", "preset": "fast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            last = graph.add_buffer(template=source.streams.video[0])
            for region in some:
                following = graph.add("addroi", region.lstrip("="))
                last.link_to(following)
                last = following
            last.link_to(sink := graph.add("buffersink"))
            graph.configure()
            for frame in source.decode(video=0):
                graph.push(frame)
                target.mux(stream.encode(sink.pull()))
            target.mux(stream.encode(None))
        pairs = zip(planes(clip), planes(str(clip) + ".mkv"), strict=True)
        errors.append(np.mean([(one.astype(float) - other) ** 2 for one, other in pairs], axis=0))
    plain, guided = ([error[where].mean() for where in (painted < 0, painted > 0)] for error in errors)
    return 10 * np.log10(np.divide(plain, guided))


def test_vmaf(write, clip):
    """The weights are the map, and frames and times are those of the clip."""
    path = write("vmaf", "clip.mkv")
    weights = planes(path)
    assert len(weights) == FRAMES and weights[0].shape == (HEIGHT, WIDTH)
    assert weights[0][HEIGHT // 2, WIDTH // 8] == 255 and weights[0][5, WIDTH - 5] == 0
    with VideoReader(clip) as source, VideoReader(path) as reader:
        times = [[frame.time_s for frame in video] for video in (source, reader)]
    assert times[0] == pytest.approx(times[1], abs=1e-3)


def test_vvenc(write, clip):
    """The video is blurred on the right, and unchanged on the left but for the conversion of its colors."""
    pairs = zip(planes(clip), planes(write("vvenc", "clip.mkv")), strict=True)
    changes = np.mean([np.abs(one.astype(float) - other) for one, other in pairs], axis=0)
    assert changes[30:100, 10:40].mean() < 1.5
    assert changes[:, WIDTH // 2 :].mean() > 3


def test_both(tinyhd, clip, weights_file, capsys):
    """A region map and an encode, with the network's own maps."""
    options = ["--roi-file", "{name}.roi", "--format", "svtav1", "-o", "out.mp4", "--no-compare"]
    assert tinyhd("encode", clip, "--weights", weights_file, *options) == 0
    captured = capsys.readouterr()
    assert f"{FRAMES} frames -> clip.roi: quantizer offsets" in captured.err
    assert "where people look" in captured.out
    assert len(Path("clip.roi").read_text().splitlines()) == FRAMES == len(planes("out.mp4"))


def test_wrong_usage(tinyhd, clip, weights_file, capsys):
    for arguments, message in (
        (["--roi-file", "a.roi"], "--roi-file and --format belong together"),
        (["--format", "svtav1"], "--roi-file and --format belong together"),
        (["--roi-file", "a.roi", "--format", "av1"], "must be one of x264-qpfile, x265"),
        (["--roi-file", "a.y4m", "--format", "vvenc"], "its suffix must be .mkv"),
        (["--roi-file", "a.roi", "--format", "svtav1", "--compare", "20,30"], "give --output, too"),
        (["--roi-file", clip, "--format", "svtav1"], "is the input"),
        (["--compare", "20,30", "--plot", "a.svg"], "the suffix must be .png"),
    ):
        assert tinyhd("encode", clip, "--weights", weights_file, *arguments) == 2, arguments
        assert message in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())
