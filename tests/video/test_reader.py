"""VideoReader yields every frame once, upright, with the correct timestamp."""

from __future__ import annotations

import gc
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import InputError
from tinyhd_cli.video.reader import VideoReader

RED, BLUE = (220, 30, 30), (30, 30, 220)


def is_near(color, expected):
    return np.abs(np.asarray(color, int) - expected).max() < 30


def read(path):
    with VideoReader(path) as reader:
        frames = list(reader)
        return reader, frames


def test_variable_frame_rate(tmp_path):
    clip = clips.Clip(frames=11, durations=(20, 35, 15))
    reader, frames = read(clips.make(tmp_path / "vfr.mp4", clip))
    assert [frame.pts * reader.info.time_base for frame in frames] == clip.timestamps
    assert [frame.time_s for frame in frames] == [float(time) for time in clip.timestamps]
    expected = [clip.durations[index % 3] * clips.TIME_BASE for index in range(10)]
    assert [frame.duration * reader.info.time_base for frame in frames[:-1]] == expected
    assert [frame.index for frame in frames] == list(range(11))
    assert reader.info.frame_count == 11
    assert reader.damaged == 0


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation(tmp_path, rotation):
    reader, frames = read(clips.make(tmp_path / "turned.mp4", frames=3, rotation=rotation))
    stored = clips.image(0, 64, 48)
    upright = np.rot90(stored, rotation // 90)
    assert (reader.info.height, reader.info.width) == upright.shape[:2]
    assert reader.info.rotation == rotation
    assert frames[0].rgb().shape == upright.shape
    # The centers of the red and the blue band after the rotation.
    red = np.argwhere((upright == RED).all(-1)).mean(0).astype(int)
    blue = np.argwhere((upright == BLUE).all(-1)).mean(0).astype(int)
    assert is_near(frames[0].rgb()[tuple(red)], RED)
    assert is_near(frames[0].rgb()[tuple(blue)], BLUE)


def test_phone_clip_with_clockwise_rotation(tmp_path):
    """Phones write a rotation of -90 degrees for portrait: the top of the stored frame becomes the right side."""
    _, frames = read(clips.make(tmp_path / "phone.mp4", frames=2, rotation=-90))
    image = frames[0].rgb()
    assert image.shape == (64, 48, 3)
    assert is_near(image[32, -4], RED)
    assert is_near(image[3, 12], BLUE)


@pytest.mark.parametrize(("hflip", "vflip"), [(True, False), (False, True), (True, True)])
def test_mirrored_frames(tmp_path, hflip, vflip):
    """Some front cameras write mirrored frames."""
    _, frames = read(clips.make(tmp_path / "mirrored.mp4", frames=2, flips=(hflip, vflip)))
    upright = clips.image(0, 64, 48)
    upright = upright[:, ::-1] if hflip else upright
    upright = upright[::-1] if vflip else upright
    assert np.abs(frames[0].rgb().astype(int) - upright).mean() < 6


@pytest.mark.parametrize("colorspace", [8, 10, 14, 1, 9])
def test_unusual_color_matrices(tmp_path, colorspace):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace = colorspace
        frame = av.VideoFrame.from_ndarray(clips.image(0, 64, 64), "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == colorspace
    _, frames = read(path)
    assert is_near(frames[0].rgb()[4, 32], RED) or colorspace in (1, 9)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "gray", ".mkv"),
        ("libx264", "yuv444p", ".mp4"),
        ("libx265", "yuv420p", ".mp4"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("libsvtav1", "yuv420p", ".mp4"),
        ("mpeg4", "yuv420p", ".avi"),
        ("mjpeg", "yuvj420p", ".avi"),
        ("ffv1", "yuv420p", ".mkv"),
        ("mpeg2video", "yuv420p", ".mpg"),
        ("gif", "rgb8", ".gif"),
    ],
)
def test_codecs(tmp_path, codec, pixel_format, suffix, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "1")
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader, frames = read(path)
    assert len(frames) == 8
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(8) / 25, atol=0.011)
    image = frames[0].rgb()
    assert image.shape == (64, 64, 3)
    if pixel_format == "gray":
        assert np.ptp(image.astype(int), axis=-1).max() <= 2
    else:
        assert np.abs(image[4, 32].astype(int) - RED).max() < 45
    assert reader.info.codec


def test_full_range_is_not_stretched(tmp_path):
    """In full range, 16 is dark gray; interpreted as limited range it would be black."""
    path = tmp_path / "full.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.color_range = 2
        frame = av.VideoFrame.from_ndarray(np.full((48, 32), 128, np.uint8), "yuv420p")
        memory = np.frombuffer(frame.planes[0], np.uint8)
        memory[:] = 16
        frame.pts, frame.time_base, frame.color_range = 0, Fraction(1, 25), 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, frames = read(path)
    assert frames[0].av_frame.color_range == 2
    assert abs(int(frames[0].rgb()[5, 5, 1]) - 16) <= 1


def test_sample_aspect_ratio_and_odd_size(tmp_path):
    path = clips.make(
        tmp_path / "odd.mkv", frames=3, width=63, height=47, pixel_format="yuv444p", aspect=Fraction(4, 3), rotation=90
    )
    reader, frames = read(path)
    assert (reader.info.width, reader.info.height) == (47, 63)
    assert reader.info.sample_aspect_ratio == Fraction(3, 4)
    assert frames[0].rgb().shape == (63, 47, 3)


def test_reduced_frames_are_averaged(tmp_path):
    """A checkerboard of single pixels becomes gray."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    path = tmp_path / "board.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        frame = av.VideoFrame.from_ndarray(board.astype(np.uint8), "gray")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, frames = read(path)
    reduced = frames[0].reduced_rgb(4)
    assert reduced.shape == (16, 16, 3)
    assert np.abs(reduced.astype(int) - 127).max() < 12


def test_cover_art_is_not_a_video(tmp_path):
    path = tmp_path / "album.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        audio = clips.add_audio(container, "aac")
        frame = av.VideoFrame.from_ndarray(clips.image(0, 32, 32), "rgb24").reformat(format="yuvj420p")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        container.mux(cover.encode(frame))
        clips.write_tone(container, audio, 0.3)
    with pytest.raises(InputError, match="no video stream"):
        VideoReader(path)


def test_cover_art_before_the_video_is_skipped(tmp_path):
    path = tmp_path / "both.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(clips.image(0, 32, 32), "rgb24").reformat(format="yuvj420p")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        container.mux(cover.encode(frame))
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    reader, frames = read(path)
    assert (reader.info.width, len(frames)) == (64, 5)


def test_transport_streams_start_at_zero(tmp_path):
    path = clips.make(tmp_path / "broadcast.ts", frames=6, container={"output_ts_offset": "5000"})
    with av.open(str(path)) as container:
        assert container.start_time >= 5000 * av.time_base
    _, frames = read(path)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(6) / 30, atol=1e-3)


def test_damaged_frames_are_skipped_and_counted(tmp_path):
    path = clips.make(tmp_path / "clip.mkv", frames=30, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as container:
        positions = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in positions[10:13]:
        data[position + 20 : position + size] = bytes(size - 20)
    path.write_bytes(data)
    reader, frames = read(path)
    assert reader.damaged == 3
    assert len(frames) == 27
    times = [frame.time_s for frame in frames]
    assert times == sorted(set(times))


def test_frames_of_truncated_files(tmp_path):
    path = clips.make(tmp_path / "clip.mkv", frames=60, width=320, height=240)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, frames = read(path)
    assert 5 < len(frames) < 60


def test_timestamps_always_increase(tmp_path):
    """Raw streams contain no timestamps."""
    source = clips.make(tmp_path / "clip.mp4", frames=10, options={"bf": "0"})
    raw = tmp_path / "clip.h264"
    with av.open(str(source)) as container, av.open(str(raw), "w", format="h264") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    _, frames = read(raw)
    assert len(frames) == 10
    times = [frame.pts for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert all(frame.duration > 0 for frame in frames)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"this is a text, not a video\n" * 50, "not a video that FFmpeg can read"),
        (bytes(100_000), "not a video that FFmpeg can read"),
    ],
    ids=["missing", "empty", "text", "zeros"],
)
def test_files_that_are_not_videos(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        VideoReader(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_folders_and_audio_are_not_videos(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        VideoReader(tmp_path)
    with pytest.raises(InputError, match="only audio"):
        VideoReader(clips.audio_only(tmp_path / "song.mp4"))


def frames_alive():
    return sum(type(found) is av.VideoFrame for found in gc.get_objects())


def test_frames_are_freed_with_their_last_reference(tmp_path):
    """Frames in reference cycles would fill the memory until Python looks for such cycles."""
    video = clips.make(tmp_path / "clip.mp4", frames=30)
    gc.collect()
    before = frames_alive()  # of readers that are open elsewhere
    gc.disable()
    try:
        with VideoReader(video) as reader:
            for _ in reader:
                pass
            alive = frames_alive()
    finally:
        gc.enable()
    assert alive - before <= 4
