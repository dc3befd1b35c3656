"""Saliency maps drawn on frames in RGB and on stored YUV planes."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from helpers import clips

from tinyhd_cli.video.options import OverlayStyle
from tinyhd_cli.video.overlay import Painter, PlanePainter
from tinyhd_cli.video.reader import VideoReader

SIZE = (320, 192)
COLORS = {
    "BT.601": (Colorspace.ITU601, ColorRange.MPEG),
    "BT.709": (Colorspace.ITU709, ColorRange.MPEG),
    "BT.709, full range": (Colorspace.ITU709, ColorRange.JPEG),
}


@pytest.fixture(scope="module")
def saliency():
    noise = np.random.default_rng(0).random((192, 256), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 14)
    return (smooth - smooth.min()) / np.ptp(smooth)


@pytest.fixture(params=COLORS)
def colored_video(tmp_path, request):
    """A video of one smooth image in one of the color encodings."""
    space, color_range = COLORS[request.param]
    noise = np.random.default_rng(1).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    image = cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = space, color_range
        av_frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
            format="yuv420p", dst_colorspace=space, dst_color_range=color_range
        )
        av_frame.colorspace, av_frame.color_range = space, color_range
        container.mux(stream.encode(av_frame))
        container.mux(stream.encode(None))
    return path


def test_overlay_on_planes_equals_overlay_in_rgb(colored_video, saliency):
    style = OverlayStyle(alpha=0.7)
    with VideoReader(colored_video) as reader:
        frame = next(iter(reader))
        info = reader.info
    assert frame.has_plain_planes
    expected = Painter(style).paint(frame.rgb(), saliency).astype(int)
    painted = PlanePainter(style, info.color).paint(frame, saliency)
    found = painted.reformat(
        format="rgb24", src_colorspace=info.color.space, src_color_range=info.color.range
    ).to_ndarray()
    difference = np.abs(expected - found)
    assert np.abs(expected - frame.rgb()).mean() > 20, "otherwise this test proves nothing"
    assert difference.mean() < 2
    assert np.percentile(difference, 99) < 10


def test_pixels_without_saliency_keep_their_stored_values(colored_video):
    with VideoReader(colored_video) as reader:
        frame = next(iter(reader))
        painter = PlanePainter(OverlayStyle(), reader.info.color)
    painted = painter.paint(frame, np.zeros((192, 256), np.float32))
    assert np.array_equal(painted.to_ndarray(), frame.av_frame.to_ndarray(format="yuv420p"))


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation": 90},
        {"width": 97, "height": 63, "pixel_format": "yuv444p"},
        {"pixel_format": "yuv420p10le", "codec": "libx265", "options": {"x265-params": "log-level=none:bframes=0"}},
    ],
)
def test_unsupported_frames_are_not_drawn_on_planes(tmp_path, changes):
    path = clips.make(tmp_path / "clip.mp4", frames=2, **changes)
    with VideoReader(path) as reader:
        assert not any(frame.has_plain_planes for frame in reader)
