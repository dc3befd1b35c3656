"""Tests of the clips that a network is run on."""

from __future__ import annotations

import numpy as np
import pytest

from tinyhd_cli.inference.windows import consecutive, sliding


def numbered(count):
    """Return frames of one pixel, which is the frame's number."""
    return ((index, np.full((1, 1, 1), index, np.float32)) for index in range(count))


class Recorder:
    """A network that records its clips. Its output is the frame numbers plus 1000 times the number of the clip."""

    def __init__(self, frames_out):
        self.frames_out = frames_out
        self.clips = []

    def __call__(self, clip):
        assert clip.shape == (1, 16, 1, 1)
        self.clips.append([int(value) for value in clip.flatten()])
        return clip[0, -self.frames_out :] + 1000 * len(self.clips)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 32, 33, 47, 540])
def test_consecutive_yields_the_map_of_each_frame(count):
    network = Recorder(16)
    pairs = list(consecutive(numbered(count), network))
    assert [frame for frame, _ in pairs] == list(range(count))
    assert [int(saliency[0, 0]) % 1000 for _, saliency in pairs] == [frame % 1000 for frame in range(count)]


def test_consecutive_moves_the_last_clip_back_and_replaces_maps():
    network = Recorder(16)
    pairs = list(consecutive(numbered(40), network))
    assert network.clips == [list(range(16)), list(range(16, 32)), list(range(24, 40))]
    from_clip = [int(saliency[0, 0]) // 1000 for _, saliency in pairs]
    assert from_clip == [1] * 16 + [2] * 8 + [3] * 16


def test_consecutive_pads_short_videos_in_front():
    network = Recorder(16)
    list(consecutive(numbered(3), network))
    assert network.clips == [[0] * 13 + [0, 1, 2]]


def test_no_frames():
    assert list(consecutive(numbered(0), Recorder(16))) == []
    assert list(sliding(numbered(0), Recorder(1))) == []


def test_consecutive_is_lazy():
    """At most two clips of frames are read ahead of the current map."""
    read = 0

    def frames():
        nonlocal read
        for item in numbered(1000):
            read += 1
            yield item

    for frame, _ in consecutive(frames(), Recorder(16)):
        assert read - frame <= 32


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40])
def test_sliding(count):
    network = Recorder(1)
    pairs = list(sliding(numbered(count), network))
    assert [(frame, int(saliency[0, 0]) % 1000) for frame, saliency in pairs] == [(i, i) for i in range(count)]
    for last, clip in enumerate(network.clips):
        assert clip == [max(0, index) for index in range(last - 15, last + 1)]
    assert all(isinstance(saliency, np.ndarray) for _, saliency in pairs)
