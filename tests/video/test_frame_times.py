"""Timestamps, sizes and fields of frames in unusual and damaged files."""

from __future__ import annotations

import base64
import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.apps.report.page import FILMSTRIP
from tinyhd_cli.video.container import DisplayOrder
from tinyhd_cli.video.reader import VideoReader


def write(path, images, codec="libx264", rate=25, pixel_format="yuv420p", aspect=None, field=None, **options):
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        if aspect:
            stream.sample_aspect_ratio = aspect
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixel_format)
            frame = flagged(frame, field) if field else frame
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def flagged(frame, field):
    """Flag a frame as interlaced; the first field is the top ("tff") or the bottom field ("bff")."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))
    graph.link_nodes(source, graph.add("setfield", f"mode={field}"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def read(path):
    with VideoReader(path) as reader:
        return reader.info, list(reader)


def clip_images(count, width=64, height=48):
    return [clips.image(number, width, height) for number in range(count)]


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", 3), ("mpeg4", 2), ("libx264", 0)])
def test_avi_with_b_frames(tmp_path, codec, b_frames):
    """AVI stores no presentation times; each frame must still get its own."""
    images = clip_images(24)
    _, frames = read(write(tmp_path / "clip.avi", images, codec, bf=str(b_frames)))
    assert [round(frame.time_s, 6) for frame in frames] == [round(number / 25, 6) for number in range(24)]
    assert all(np.abs(frame.rgb().astype(int) - image).mean() < 8 for frame, image in zip(frames, images, strict=True))


def test_times_of_lost_frames_are_not_reused():
    order = DisplayOrder(1)
    for dts in range(9):
        order.add(dts)
    # Decoded in the order I P B B P B B P; the frame decoded at 3 is lost.
    times = [order.presentation_time(dts, 1) for dts in (0, 2, 1, 5, 6, 4, 8, 7)]
    assert times == [0, 1, 2, 4, 5, 6, 7, 8]
    plain = DisplayOrder(1)
    for dts in range(5):
        plain.add(dts)
    assert [plain.presentation_time(dts, 0) for dts in (0, 1, 3, 4)] == [0, 1, 3, 4]


@pytest.mark.parametrize(("rate", "scale"), [(10**9, 1), (2**32 - 1, 1), (1, 10**9), (0, 0), (1, 0)])
def test_avi_with_an_implausible_rate(tmp_path, tinyhd, weights_file, rate, scale, capsys):
    path = write(tmp_path / "clip.avi", clip_images(6), "mpeg4")
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, data.index(b"strh") + 28, scale, rate)
    path.write_bytes(data)
    info, frames = read(path)
    assert info.rate == 25 and [round(frame.time_s, 6) for frame in frames] == [0, 0.04, 0.08, 0.12, 0.16, 0.2]
    if (rate, scale) == (10**9, 1):
        assert tinyhd("predict", path, "-o", "out.avi", "--weights", weights_file, "--engine", "torch") == 0
        assert len(clips.timestamps(Path("out.avi"))) == 6


def test_an_implausible_rate_causes_one_warning(tmp_path, caplog):
    path = write(tmp_path / "clip.avi", clip_images(3), "mpeg4")
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, data.index(b"strh") + 28, 1, 10**8)
    path.write_bytes(data)
    for _ in range(2):
        read(path)
    claim = "claims an implausible rate of 1e+08 frames per second; assuming 25"
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {claim}"]


def set_frame_duration(path, nanoseconds):
    """Change the frame duration in the header of a Matroska file."""
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83") + 4
    size = data[at - 1] & 0x7F
    path.write_bytes(data[:at] + nanoseconds.to_bytes(size, "big") + data[at + size :])
    return path


@pytest.mark.parametrize("nanoseconds", [1, 10**6, 4 * 10**9])
def test_matroska_with_a_wrong_rate(tmp_path, tinyhd, weights_file, nanoseconds):
    """The timestamps are used, not the frame duration in the header."""
    path = set_frame_duration(write(tmp_path / "clip.mkv", clip_images(12)), nanoseconds)
    info, frames = read(path)
    assert [round(frame.time_s, 6) for frame in frames] == [round(number / 25, 6) for number in range(12)]
    assert float(frames[-1].duration * info.time_base) <= 0.08


def filmstrip(page):
    """Return the times in seconds and the images of a report's filmstrip."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="Frame at (\d+):([\d.]+)', page.read_text())
    images = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data, *_ in found]
    return [60 * int(minutes) + float(seconds) for _, minutes, seconds in found], images


@pytest.mark.parametrize("suffix", [pytest.param(".mkv", marks=pytest.mark.slow), ".mp4"])
def test_filmstrip_of_a_variable_rate_is_evenly_spaced(tmp_path, tinyhd, weights_file, suffix):
    """The clip has thirty frames in the first second and ten in the following nine seconds."""
    clip = clips.make(tmp_path / f"vfr{suffix}", frames=40, durations=[20] * 30 + [540] * 10)
    assert tinyhd("report", clip, "-o", "out.html", "--weights", weights_file, "--engine", "torch") == 0
    times, _ = filmstrip(Path("out.html"))
    assert len(times) == len(set(times)) and 10 <= len(times) <= FILMSTRIP
    assert np.diff(times).max() <= 1.0 and np.diff(times).min() >= 0.3
    assert times[0] <= 0.5 and times[-1] >= 8


def test_filmstrip_has_the_display_aspect_ratio(tmp_path, tinyhd, weights_file):
    clip = write(tmp_path / "wide.mp4", clip_images(4), aspect=Fraction(2))
    assert tinyhd("report", clip, "-o", "out.html", "--weights", weights_file, "--engine", "torch") == 0
    _, images = filmstrip(Path("out.html"))
    assert {image.shape for image in images} == {(48, 128, 3)}


def bounds(frame):
    """Return the first row, first column, last row and last column of a frame that are not black."""
    where = np.argwhere(frame.rgb().max(-1) > 60)
    return *where.min(0), *where.max(0)


def test_changes_of_size_and_aspect_ratio_are_fitted(tmp_path):
    """One stream: landscape, portrait, anamorphic, and a larger size of the same aspect ratio."""
    gray = {size: [np.full((*size[::-1], 3), 120, np.uint8)] * 8 for size in ((96, 48), (48, 96), (192, 96))}
    parts = [((96, 48), None), ((48, 96), None), ((96, 48), Fraction(2)), ((192, 96), None)]
    data = b""
    for number, (size, aspect) in enumerate(parts):
        part = write(tmp_path / f"{number}.ts", gray[size], aspect=aspect)
        data += part.read_bytes()
    (tmp_path / "all.ts").write_bytes(data)
    info, frames = read(tmp_path / "all.ts")
    assert (info.width, info.height, len(frames)) == (96, 48, 32)
    full, portrait, wide = (0, 0, 47, 95), (0, 36, 47, 59), (12, 0, 35, 95)
    assert [bounds(frame) for frame in frames] == [full] * 8 + [portrait] * 8 + [wide] * 8 + [full] * 8
    assert np.allclose(np.diff([frame.time_s for frame in frames]), 0.04, atol=1e-4)


def combing(image):
    """Return by how much adjacent rows differ more than rows of the same field; 0 without combing artifacts."""
    gray = image.astype(float).mean(-1)
    return np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean() - np.abs(gray[2:] - gray[:-2]).mean() / 2


def moving_bar(field, height=64, width=96):
    """Return an image with a bright bar at its position at the time of a field."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[:, 3 * field + 4 : 3 * field + 20] = 220
    return image


INTERLACED = {
    "top.mkv": ("libx264", "tff", {"x264-params": "tff=1"}),
    "bottom.mkv": ("libx264", "bff", {"x264-params": "bff=1"}),
    "bottom.mpg": ("mpeg2video", "bff", {"flags": "+ildct+ilme"}),
    "top.mxf": ("mpeg2video", "tff", {"flags": "+ildct+ilme"}),
}


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_frames_are_deinterlaced(tmp_path, name):
    codec, field, options = INTERLACED[name]
    images = []
    for number in range(10):
        images.append(moving_bar(2 * number))
        rows = slice(1, None, 2) if field == "tff" else slice(0, None, 2)
        images[-1][rows] = moving_bar(2 * number + 1)[rows]
    info, frames = read(write(tmp_path / name, images, codec, field=field, **options))
    assert len(frames) == 10 and combing(images[5]) > 3
    assert np.allclose(np.diff([frame.time_s for frame in frames]), 0.04, atol=1e-4)
    assert float(frames[-1].duration * info.time_base) == pytest.approx(0.04, abs=1e-3)
    for number, frame in enumerate(frames[1:-1], start=1):
        assert not frame.av_frame.interlaced_frame
        image = frame.rgb()
        assert combing(image) < 0.5
        assert np.abs(image.astype(int) - moving_bar(2 * number)).mean() < 8  # at the time of the first field


def test_progressive_frames_are_not_changed(tmp_path):
    images = clip_images(6)
    _, frames = read(write(tmp_path / "clip.mkv", images, "ffv1", pixel_format="bgr0"))
    assert all(np.array_equal(frame.rgb(), image) for frame, image in zip(frames, images, strict=True))
