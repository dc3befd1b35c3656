"""Which clips a network is shown."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from tinyhd_cli.inference.windows import batched, consecutive, first_frame_needed, sliding
from tinyhd_cli.models import ModelSpec

BLOCK = ModelSpec("block", "test", clip_frames=16, maps=16)
SLIDING = ModelSpec("sliding", "test", clip_frames=16, maps=1)
PAIR = ModelSpec("pair", "test", clip_frames=2, maps=1, map_frame=0)


def numbered(count):
    """Frames whose one pixel is their number."""
    return ((index, np.full((1, 1, 1), index, np.float32)) for index in range(count))


class Recorder:
    """A network that answers with the frames' numbers plus 1000 for each clip, and remembers the clips."""

    def __init__(self, spec):
        self.spec = spec
        self.clips = []

    def __call__(self, clip):
        assert clip.shape == (1, self.spec.clip_frames, 1, 1)
        self.clips.append([int(value) for value in clip.flatten()])
        maps = clip[0] if self.spec.windowing == "block" else clip[0, [self.spec.map_frame]]
        return maps + 1000 * len(self.clips)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 32, 33, 47, 540])
def test_consecutive_gives_each_frame_its_map(count):
    network = Recorder(BLOCK)
    answers = list(consecutive(BLOCK, numbered(count), network))
    assert [frame for frame, _ in answers] == list(range(count))
    assert [int(saliency[0, 0]) % 1000 for _, saliency in answers] == [frame % 1000 for frame in range(count)]


def test_consecutive_moves_the_last_clip_back_and_replaces():
    network = Recorder(BLOCK)
    answers = list(consecutive(BLOCK, numbered(40), network))
    assert network.clips == [list(range(16)), list(range(16, 32)), list(range(24, 40))]
    from_clip = [int(saliency[0, 0]) // 1000 for _, saliency in answers]
    assert from_clip == [1] * 16 + [2] * 8 + [3] * 16


def test_consecutive_pads_short_videos_in_front():
    network = Recorder(BLOCK)
    list(consecutive(BLOCK, numbered(3), network))
    assert network.clips == [[0] * 13 + [0, 1, 2]]


def test_nothing_in_nothing_out():
    assert list(consecutive(BLOCK, numbered(0), Recorder(BLOCK))) == []
    assert list(sliding(SLIDING, numbered(0), Recorder(SLIDING))) == []


def test_consecutive_is_lazy():
    """No more than two clips of frames are read ahead of the map that is handed out."""
    read = 0

    def frames():
        nonlocal read
        for item in numbered(1000):
            read += 1
            yield item

    for frame, _ in consecutive(BLOCK, frames(), Recorder(BLOCK)):
        assert read - frame <= 32


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40])
def test_sliding(count):
    network = Recorder(SLIDING)
    answers = list(sliding(SLIDING, numbered(count), network))
    assert [(frame, int(saliency[0, 0]) % 1000) for frame, saliency in answers] == [(i, i) for i in range(count)]
    for last, clip in enumerate(network.clips):
        assert clip == [max(0, index) for index in range(last - 15, last + 1)]
    assert all(isinstance(saliency, np.ndarray) for _, saliency in answers)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_a_map_of_the_first_frame_needs_the_next_one(count):
    network = Recorder(PAIR)
    maps = list(sliding(PAIR, numbered(count), network))
    assert [(frame, int(saliency[0, 0]) % 1000) for frame, saliency in maps] == [(i, i) for i in range(count)]
    assert network.clips == [[i, min(i + 1, count - 1)] for i in range(count)]


@pytest.mark.parametrize(("length", "frame", "count"), [(5, 2, 1), (5, 2, 3), (5, 2, 9), (4, 0, 3), (3, 2, 2)])
def test_a_map_of_any_frame(length, frame, count):
    """Beyond both ends of the video, its outermost frames are repeated."""
    spec = ModelSpec("any", "test", clip_frames=length, map_frame=frame)
    network = Recorder(spec)
    maps = list(sliding(spec, numbered(count), network))
    assert [(number, int(saliency[0, 0]) % 1000) for number, saliency in maps] == [(i, i) for i in range(count)]
    for number, clip in enumerate(network.clips):
        assert clip == [min(max(0, i), count - 1) for i in range(number - frame, number - frame + length)]


def test_a_map_is_yielded_as_soon_as_its_clip_is_read():
    read = 0

    def frames():
        nonlocal read
        for item in numbered(20):
            read += 1
            yield item

    for frame, _ in sliding(PAIR, frames(), Recorder(PAIR)):
        assert read == min(frame + 2, 20)


@pytest.mark.parametrize("spec", [BLOCK, SLIDING, PAIR, ModelSpec("any", "test", clip_frames=5, map_frame=2)])
@pytest.mark.parametrize("start", [0, 1, 15, 16, 33, 39])
def test_maps_from_a_frame_on(spec, start):
    """Reading from the first frame needed gives the same maps as reading the whole video."""

    def infer(clip):
        recorded = clip[0, :, 0, 0]
        maps = recorded if spec.windowing == "block" else recorded[[spec.map_frame]]
        return (maps + 100 * recorded.sum())[:, None, None]

    run = consecutive if spec.windowing == "block" else sliding
    whole = {frame: float(saliency[0, 0]) for frame, saliency in run(spec, numbered(40), infer)}
    first = first_frame_needed(spec, start)
    later = list(run(spec, (item for item in numbered(40) if item[0] >= first), infer))
    assert {frame: float(saliency[0, 0]) for frame, saliency in later if frame >= start} == {
        frame: value for frame, value in whole.items() if frame >= start
    }


class ClipsOfBatches:
    """An engine that is run on many frames at once, with some batches in progress; its maps encode their frames."""

    def __init__(self, spec, batch, ahead):
        self.spec, self.batch, self.ahead = spec, batch, ahead

    def infer(self, clip):
        return np.polyval(clip[0, :, 0, 0], 100.0).reshape(1, 1, 1)

    def stream(self, batches):
        work = deque()
        for frames in batches:
            assert frames.shape == (self.batch + self.spec.clip_frames - 1, 1, 1, 1)
            clips = [frames[at : at + self.spec.clip_frames].swapaxes(0, 1) for at in range(self.batch)]
            work.append(np.concatenate([self.infer(clip) for clip in clips]))
            if len(work) > self.ahead:
                yield work.popleft()
        yield from work


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize(("length", "frame"), [(1, 0), (2, 0), (2, 1), (5, 2), (8, 0), (8, 7)])
def test_batches_give_the_maps_of_single_clips(length, frame, ahead):
    spec = ModelSpec("any", "test", clip_frames=length, map_frame=frame)
    network = ClipsOfBatches(spec, 4, ahead)
    for count in range(14):
        single = [(number, float(found.item())) for number, found in sliding(spec, numbered(count), network.infer)]
        maps = batched(spec, numbered(count), network.batch, network.stream)
        assert [(number, float(found.item())) for number, found in maps] == single
        assert len(single) == count


def test_batches_are_lazy():
    """No more frames are read ahead than the batches in progress contain."""
    read = 0

    def frames():
        nonlocal read
        for item in numbered(1000):
            read += 1
            yield item

    network = ClipsOfBatches(PAIR, 16, 2)
    for frame, _ in batched(PAIR, frames(), network.batch, network.stream):
        assert read - frame <= 3 * 16 + 1


def test_an_error_while_reading_is_raised():
    def frames():
        yield from numbered(20)
        raise ValueError("damaged")

    network = ClipsOfBatches(PAIR, 4, 1)
    with pytest.raises(ValueError, match="damaged"):
        list(batched(PAIR, frames(), network.batch, network.stream))
