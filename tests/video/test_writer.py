"""VideoWriter keeps timestamps, audio, orientation, colors and aspect ratio of the source."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import OutputError, UsageError
from tinyhd_cli.video import encoders
from tinyhd_cli.video.options import EncoderOptions
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.writer import VideoWriter


@pytest.fixture(autouse=True)
def quiet_svt(monkeypatch):
    monkeypatch.setenv("SVT_LOG", "1")


def copy(source, target, options=None, **kwargs):
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader.info, (reader.info.width, reader.info.height), options, **kwargs) as writer,
    ):
        for frame in reader:
            writer.write(frame.rgb(), frame)
    return target


def stream_duration(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.duration * stream.time_base


def test_phone_clip(tmp_path):
    """A clip with audio, variable frame rate, rotation and an odd size keeps all of these."""
    clip = clips.Clip(
        frames=41, width=97, height=63, durations=(20, 31, 17), rotation=-90, audio="aac", pixel_format="yuv444p"
    )
    source = clips.make(tmp_path / "phone.mp4", clip)
    target = copy(source, tmp_path / "out.mp4")

    assert clips.timestamps(target) == clips.timestamps(source) == clip.timestamps
    assert stream_duration(target) == stream_duration(source)
    with VideoReader(source) as one, VideoReader(target) as other:
        assert [f.duration * one.info.time_base for f in one] == [f.duration * other.info.time_base for f in other]
    assert clips.audio_packets(target) == clips.audio_packets(source)
    assert len(clips.audio_packets(target)) > 50

    upright = [np.rot90(image, -1) for image in clips.frames(source)]
    written = clips.frames(target)
    assert written[0].shape == (98, 64, 3), "upright, with odd sides padded"
    for found, expected in zip(written, upright, strict=True):
        assert np.abs(found[:97, :63].astype(int) - expected).mean() < 4
    with av.open(str(target)) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".m4v", ".webm", ".avi"])
def test_containers(tmp_path, suffix):
    source = clips.make(tmp_path / "clip.mp4", frames=12, audio="aac")
    target = copy(source, tmp_path / f"out{suffix}")
    np.testing.assert_allclose(
        [float(t) for t in clips.timestamps(target)], [float(t) for t in clips.timestamps(source)], atol=0.001
    )
    assert len(clips.audio_packets(target)) > 5


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1", "mpeg4", "libx264"])
def test_codecs(tmp_path, codec):
    source = clips.make(tmp_path / "clip.mp4", frames=10, width=128, height=96)
    target = copy(source, tmp_path / "out.mkv", EncoderOptions(codec=codec, crf=20))
    images = clips.frames(target)
    assert len(images) == 10
    assert np.abs(images[5].astype(int) - clips.image(5, 128, 96)).mean() < 8
    with av.open(str(target)) as container:
        names = {"h265": "hevc", "libx264": "h264"}
        assert container.streams.video[0].codec.canonical_name == names.get(codec, codec)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_hevc_of_few_frames(tmp_path, frames):
    """x265 sometimes returns uninitialized decoding times for very short videos, hence several attempts."""
    source = clips.make(tmp_path / "clip.mp4", frames=frames, width=64, height=64)
    for attempt in range(12):
        target = copy(source, tmp_path / f"{attempt}.mp4", EncoderOptions(codec="hevc"))
        assert clips.timestamps(target) == pytest.approx(clips.timestamps(source), abs=0.001)


def test_crf_sets_the_quality(tmp_path):
    source = clips.make(tmp_path / "clip.mp4", frames=10, width=320, height=240)
    sizes = [
        copy(source, tmp_path / f"{crf}.mp4", EncoderOptions(crf=crf), audio=False).stat().st_size for crf in (10, 40)
    ]
    assert sizes[0] > 1.5 * sizes[1]


def test_audio_that_the_container_does_not_support_is_reencoded(tmp_path, caplog):
    source = clips.make(tmp_path / "clip.mkv", frames=30, audio="pcm_s16le")
    target = tmp_path / "out.webm"
    with caplog.at_level(logging.WARNING, "tinyhd"):
        copy(source, target)
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert seconds == pytest.approx(1.0, abs=0.05)
    assert "pcm_s16le" in caplog.text


def test_broadcast_streams_keep_audio_and_video_in_sync(tmp_path):
    """A transport stream starts at any time; the copy starts at zero with the same offset between audio and video."""
    source = clips.make(tmp_path / "clip.ts", frames=60, audio="aac", container={"output_ts_offset": "5000"})
    target = copy(source, tmp_path / "out.mp4")

    def offset(path):
        return float(clips.timestamps(path)[0] - clips.audio_packets(path)[0][0])

    assert clips.timestamps(source)[0] >= 5000
    assert offset(target) == pytest.approx(offset(source), abs=1e-3)
    assert min(clips.timestamps(target)[0], clips.audio_packets(target)[0][0]) == 0
    assert len(clips.audio_packets(target)) == len(clips.audio_packets(source))
    with av.open(str(target)) as container:
        order = [packet.stream.type for packet in container.demux() if packet.size]
    assert order.index("audio") < 30, "interleaved"


def test_without_audio(tmp_path):
    source = clips.make(tmp_path / "clip.mp4", audio="aac")
    target = copy(source, tmp_path / "out.mp4", audio=False)
    with av.open(str(target)) as container:
        assert not container.streams.audio


def test_audio_stream_before_the_video_stream(tmp_path):
    """In some files, audio is stream 0."""
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        audio = clips.add_audio(container, "aac")
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        clips.write_tone(container, audio, 0.4)
    target = copy(source, tmp_path / "out.mp4")
    assert [data for _, data in clips.audio_packets(target)] == [data for _, data in clips.audio_packets(source)]


def test_two_languages(tmp_path):
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        tracks = [clips.add_audio(container, "aac"), clips.add_audio(container, "libopus")]
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for track in tracks:
            clips.write_tone(container, track, 0.2)
    target = copy(source, tmp_path / "out.mkv")
    with av.open(str(target)) as container:
        assert [s.codec.canonical_name for s in container.streams.audio] == ["aac", "opus"]


def test_pixel_aspect_ratio_and_colors_are_kept(tmp_path):
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.sample_aspect_ratio = Fraction(4, 3)
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1  # BT.709
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=1)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    target = copy(source, tmp_path / "out.mkv", EncoderOptions(crf=1))
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
        found = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(found - clips.frames(source)[0]).mean() < 2, (
        "converted with a different matrix than stated in the stream"
    )


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("ffv1", "bgr0", ".mkv"),
        ("ffv1", "gray10le", ".mkv"),
        ("gif", "rgb8", ".gif"),
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "yuv422p", ".mkv"),
        ("mjpeg", "yuvj422p", ".avi"),
        ("png", "rgb24", ".mov"),
    ],
)
def test_colors_of_all_pixel_formats_are_kept(tmp_path, codec, pixel_format, suffix):
    source = tmp_path / f"clip{suffix}"
    with av.open(str(source), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    target = copy(source, tmp_path / "out.mp4", EncoderOptions(crf=2))
    with VideoReader(source) as one, VideoReader(target) as other:
        for expected, found in zip(one, other, strict=True):
            # Means of cells of 8 x 8 pixels: 4:2:0 averages the dither pattern of GIFs.
            means = [image.rgb().reshape(8, 8, 8, 8, 3).mean((1, 3)) for image in (found, expected)]
            assert np.abs(means[0] - means[1]).mean() < 3


@pytest.mark.parametrize("size", [(2, 2), (1, 1), (16, 700), (700, 16), (35, 3)])
def test_unusual_sizes(tmp_path, size):
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "bgr0"
        frame = av.VideoFrame.from_ndarray(clips.image(0, *size), "rgb24").reformat(format="bgr0")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    image = clips.frames(copy(source, tmp_path / "out.mp4"))[0]
    assert image.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_reencoded_audio_keeps_its_channels(tmp_path, layout):
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("flac", rate=44100)
        audio.codec_context.layout = layout
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(clips.image(index, 64, 64), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        channels = audio.codec_context.channels
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8820 * channels), np.int16), format="s16", layout=layout)
        frame.rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    target = copy(source, tmp_path / "out.webm")
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.channels == channels


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_clips(tmp_path, count):
    source = clips.make(tmp_path / "clip.mp4", frames=count)
    assert clips.timestamps(copy(source, tmp_path / "out.mp4")) == clips.timestamps(source)


def test_fallback_encoder_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    source = clips.make(tmp_path / "clip.mp4", frames=4)
    can_open = encoders.can_open
    monkeypatch.setattr(encoders, "can_open", lambda name, *args: "264" not in name and can_open(name, *args))
    with caplog.at_level(logging.WARNING, "tinyhd"):
        target = copy(source, tmp_path / "out.mp4")
    assert "libx264 is not available; using mpeg4" in caplog.text
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert len(clips.frames(target)) == 4


def test_no_encoder_works(tmp_path, monkeypatch):
    source = clips.make(tmp_path / "clip.mp4", frames=4)
    monkeypatch.setattr(encoders, "can_open", lambda *args: False)
    with pytest.raises(OutputError, match="no encoder works"):
        copy(source, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]


def test_failure_during_writing_leaves_no_file(tmp_path):
    source = clips.make(tmp_path / "clip.mp4", frames=20)
    earlier = tmp_path / "out.mp4"
    earlier.write_bytes(b"an earlier result")
    with (
        pytest.raises(RuntimeError, match="half-way"),
        VideoReader(source) as reader,
        VideoWriter(earlier, reader.info, (64, 48)) as writer,
    ):
        for frame in reader:
            if frame.index == 10:
                raise RuntimeError("half-way")
            writer.write(frame.rgb(), frame)
    assert earlier.read_bytes() == b"an earlier result"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "h246"}, "did you mean .*h264"),
        ({"codec": "aac"}, "is not available"),
        ({"crf": 64}, "--crf"),
        ({"preset": "mediun"}, "did you mean medium"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        EncoderOptions(**options)
