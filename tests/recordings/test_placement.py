"""From the screen to the video: letterboxed, or as stated."""

from __future__ import annotations

import numpy as np
import pytest

from tinyhd_cli.errors import UsageError
from tinyhd_cli.recordings import FixationTable, Placement, RecordingOptions, Samples, place, placement_of
from tinyhd_cli.recordings.options import parse_placed, parse_screen


@pytest.mark.parametrize(
    ("video", "screen", "rectangle"),
    [
        ((640, 360), (1920, 1080), (0, 0, 1920, 1080)),
        ((640, 480), (1920, 1080), (240, 0, 1440, 1080)),
        ((1080, 1920), (1920, 1080), (656.25, 0, 607.5, 1080)),
        ((2560, 1080), (1920, 1080), (0, 135, 1920, 810)),
        ((640, 360), None, (0, 0, 640, 360)),
    ],
)
def test_letterbox(video, screen, rectangle):
    placement = placement_of(video, screen)
    assert placement.rectangle == pytest.approx(rectangle) and placement.video == video
    left, top, width, _ = rectangle
    corners = Samples(
        np.arange(3.0), np.float32([left, left + width / 2, left + width]), np.float32([top] * 3), np.ones(3, bool)
    )
    placed = place(corners, placement)
    np.testing.assert_allclose(placed.x, [0, video[0] / 2, video[0]], rtol=1e-6)
    np.testing.assert_allclose(placed.y, 0, atol=1e-4)
    assert placed.x.dtype == np.float32


def test_stated():
    options = RecordingOptions(placed=parse_placed("100,50,800,600"), screen=parse_screen("1920x1080"))
    placement = placement_of((400, 300), options.screen, options)
    assert placement == Placement((100, 50, 800, 600), (400, 300))
    table = FixationTable(np.zeros(2), np.ones(2), np.float32([100, 50]), np.float32([650, 50]))
    placed = place(table, placement)
    np.testing.assert_allclose(placed.x, [0, -25])
    np.testing.assert_allclose(placed.y, [300, 0])


@pytest.mark.parametrize(("parse", "text"), [(parse_placed, "1,2,3"), (parse_placed, "a,b,c,d"), (parse_screen, "19")])
def test_wrong(parse, text):
    with pytest.raises(UsageError, match="--"):
        parse(text)
