"""Objects drawn on frames: a tint and a contour, in RGB and on stored YUV planes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.video.frame_painter import FramePainter
from tinyhd_cli.video.object_overlay import ObjectPainter, ObjectPlanePainter, cut_out, find_outline
from tinyhd_cli.video.options import OverlayStyle
from tinyhd_cli.video.reader import VideoReader

WIDTH, HEIGHT = 320, 192


def disc(center_x=0.5, radius=0.25, shape=(96, 160)):
    """Return the probabilities of a disc with a soft edge; center and radius are fractions of the height."""
    rows, columns = shape
    y, x = (np.mgrid[:rows, :columns] + 0.5) / rows
    distance = np.hypot(x - center_x * columns / rows, y - 0.5)
    return (1 / (1 + np.exp((distance - radius) * 60))).astype(np.float32)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    path = clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=2, width=WIDTH, height=HEIGHT)
    with VideoReader(path) as reader:
        return next(iter(reader))


def inside(shrink=0):
    """Return the mask of the disc's pixels, with its radius changed by some pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.hypot(x - WIDTH / 2, y - HEIGHT / 2) < 0.25 * HEIGHT - shrink


def test_the_object_is_tinted_and_the_rest_is_unchanged(frame):
    style = OverlayStyle(colormap="turbo", alpha=0.5)
    image = frame.rgb()
    painted = ObjectPainter(style).paint(image, disc())
    color = 255 * style.object_color()
    within, outside = inside(4), ~inside(-4)
    np.testing.assert_allclose(painted[within], (image[within] + color) / 2, atol=1.01)
    assert np.array_equal(painted[outside], image[outside])
    contour = np.abs(painted - color).max(axis=2) < 1.5
    assert contour[~within & ~outside].mean() > 0.1, "the contour has the color itself"
    assert not contour[outside].any()


def test_planes_and_rgb_agree(frame):
    style = OverlayStyle()
    assert frame.has_plain_planes
    info = frame.info
    in_rgb = ObjectPainter(style).paint(frame.rgb(), disc()).astype(int)
    painted = ObjectPlanePainter(style, info.color).paint(frame, disc())
    on_planes = painted.reformat(
        format="rgb24", src_colorspace=info.color.space, src_color_range=info.color.range
    ).to_ndarray()
    assert np.abs(in_rgb - frame.rgb()).max() > 40, "otherwise this test proves nothing"
    difference = np.abs(in_rgb - on_planes)
    assert difference.mean() < 2
    assert difference[inside(6)].max() < 12


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_frame_without_an_object_is_unchanged(frame, side_by_side):
    """Small probabilities are not stretched, whatever their range."""
    style = OverlayStyle(side_by_side=side_by_side)
    haze = 0.4 * disc()
    assert np.array_equal(ObjectPainter(style).paint(frame.rgb(), haze)[:, -WIDTH:], frame.rgb())
    painted = FramePainter(style, frame.info.color, objects=True).paint(frame, haze)
    if side_by_side:
        assert painted.shape == (HEIGHT, 2 * WIDTH, 3)
    else:
        assert np.array_equal(painted.to_ndarray(), frame.av_frame.to_ndarray(format="yuv420p"))
        assert painted is not frame.av_frame


def test_threshold(frame):
    low, high = (find_outline(disc(), WIDTH, HEIGHT, threshold) for threshold in (0.1, 0.9))
    assert (high.mask > 0).sum() < inside().sum() < (low.mask > 0).sum()
    assert find_outline(0.4 * disc(), WIDTH, HEIGHT, 0.5) is None


@pytest.mark.parametrize("center_x", [0.0, 0.21, 1.0])
def test_the_outline_at_any_position(center_x):
    """The box is placed right at odd positions and at the edges of the frame."""
    outline = find_outline(disc(center_x), WIDTH, HEIGHT, 0.5)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows, columns = outline.mask.shape
    mask[outline.top : outline.top + rows, outline.left : outline.left + columns] = outline.mask
    expected = cv2.resize(disc(center_x), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) > 0.5
    assert (expected != (mask > 0)).mean() < 0.001
    assert outline.left % 2 == outline.top % 2 == 0
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.drawContours(drawn, outline.contours, -1, 255, cv2.FILLED)
    assert np.array_equal(drawn > 0, mask > 0)


def test_a_hole_has_a_contour_too(frame):
    ring = disc(radius=0.3) - disc(radius=0.15)
    outline = find_outline(ring, WIDTH, HEIGHT, 0.5)
    assert len(outline.contours) == 2
    painted = ObjectPainter(OverlayStyle()).paint(frame.rgb(), ring)
    center = (slice(HEIGHT // 2 - 8, HEIGHT // 2 + 8), slice(WIDTH // 2 - 8, WIDTH // 2 + 8))
    assert np.array_equal(painted[center], frame.rgb()[center])


def test_cut_out(frame):
    """The opacity is the probability; colors are kept under the edge, and those of the background are not."""
    image = frame.rgb()
    cut = cut_out(image, disc())
    opacity = cut[..., 3] / 255
    probability = cv2.resize(disc(), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(opacity, np.clip((probability - 0.05) / 0.9, 0, 1), atol=0.012)
    assert ((opacity > 0.1) & (opacity < 0.9)).sum() > 200, "the edge is soft"
    assert np.array_equal(cut[opacity > 0][:, :3], image[opacity > 0])
    far = ~inside(-30)
    assert not cut[far].any()
    assert image[far].any()
    assert not cut_out(image, np.full((96, 160), 0.04, np.float32)).any()
    assert (cut_out(image, np.ones((96, 160), np.float32))[..., 3] == 255).all()
