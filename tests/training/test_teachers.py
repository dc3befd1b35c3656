"""Alignment of teachers and students in time, against a plain definition."""

from __future__ import annotations

import itertools

import pytest
import torch

from tinyhd_cli.models import ModelSpec
from tinyhd_cli.training.teachers import Alignment

LENGTHS = (1, 2, 3, 16, 32)
START = 50
"""Number of the first frame of the student's clip."""


def kinds(length: int) -> list[tuple[int, int]]:
    """Return maps and map frame of networks with clips of a length: blocks, and sliding with each kind of map frame."""
    return [(length, 0), *((1, frame) for frame in sorted({0, length // 2, length - 1}))]


NETWORKS = [
    ModelSpec("any", "test", clip_frames=length, maps=maps, map_frame=frame)
    for length in LENGTHS
    for maps, frame in dict.fromkeys(kinds(length))
]


def map_frames(spec: ModelSpec) -> tuple[int, ...]:
    """Return the frames of a clip that the maps belong to."""
    return tuple(range(spec.clip_frames)) if spec.maps == spec.clip_frames else (spec.map_frame,)


def run(alignment: Alignment, read: list[int]) -> list[int]:
    """Return the numbers of the frames whose maps a teacher gives the student, if it reads frames of these numbers."""
    spec = alignment.teacher
    clips = [read[start + alignment.before :][: spec.clip_frames] for start in alignment.starts]
    assert all(len(clip) == spec.clip_frames for clip in clips)
    maps = torch.tensor([[clip[frame] for frame in map_frames(spec)] for clip in clips])
    return alignment.select(maps[..., None, None])[:, 0, 0].tolist()


@pytest.mark.parametrize("student", NETWORKS, ids=lambda s: f"{s.clip_frames}:{s.maps}@{s.map_frame}")
@pytest.mark.parametrize("lag", [0, 1])
def test_the_maps_of_student_and_teacher_belong_to_the_same_frames(student, lag):
    wanted = map_frames(student)
    for teacher in NETWORKS:
        sliding = teacher.windowing == "sliding"
        alignment = Alignment(wanted, student.clip_frames, teacher, lag)
        first, last = START - alignment.before, START + student.clip_frames + alignment.after
        found = run(alignment, list(range(first, last)))
        assert found == [START + frame - (lag if sliding else 0) for frame in wanted], teacher
        # No frame beyond the student's clip is read in vain, and no clip of the teacher either.
        used = {start + i for start in alignment.starts for i in range(teacher.clip_frames)}
        assert (alignment.before, alignment.after) == (
            max(0, -min(used)),
            max(0, max(used) + 1 - student.clip_frames),
        )
        for start in alignment.starts:
            own = {start + frame + (lag if sliding else 0) for frame in map_frames(teacher)}
            assert own & set(wanted), f"the clip from {start} of {teacher} has no map of the student's"
        if not sliding:  # blocks do not look beyond the student's clip, and do not overlap
            assert alignment.after == 0
            assert all(b - a == teacher.clip_frames for a, b in itertools.pairwise(alignment.starts))
