"""Prepare a run before its first step: data, teachers and network."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import cache
from ..callbacks import StartPhase, no_phases
from ..datasets import Video
from ..errors import UsageError
from ..models import build
from ..models.registry import named_errors
from ..processes import process_key
from ..wording import list_names, plural
from . import role_maps, sources
from .clip_cache import Form, Stored, decode_all, form_of, key_of, stored_size
from .clips import Clips
from .initial_weights import calibration, check_init, initialize
from .object_data import check_masks, labeled_count
from .option_values import COMPRESSED
from .options import TrainConfig
from .picks import PickSampler, Schedule, held_out_picks, possible_picks, schedule, single_frames
from .teacher_cache import CachedTeacher, Teachers
from .teachers import Teacher
from .validation import Validator

log = logging.getLogger("tinyhd")


@dataclass(frozen=True)
class Run:
    """A prepared run: everything that the training loop needs."""

    network: nn.Module
    teacher: Teachers | None
    clips: Clips
    sampler: PickSampler
    schedule: Schedule
    validator: Validator
    labeled: int
    """Labeled clips in each part of a batch that a process computes at once, except in steps on pairs."""


def prepare(
    config: TrainConfig,
    device: torch.device,
    rank: int,
    processes: int,
    start_phase: StartPhase,
    *,
    resumed: bool = False,
) -> Run:
    """Find and decode the data, load the teachers, build the network.

    Args:
        config: the run.
        device: of the network and the teachers.
        rank: number of this process.
        processes: their number.
        start_phase: starts a phase and returns the callback for its progress.
        resumed: whether the network's weights are in a checkpoint; the initial weights are not read then.

    Raises:
        UsageError: the configuration cannot be trained.
        InputError: data is missing or unreadable.
        WeightsError: weights cannot be loaded.
        OutputError: the caches cannot be written.
    """
    found = sources.find(config)
    parts = processes * config.accumulate
    schedule(config, labeled_count(config, found.targets), len(found.aux), parts)  # raises errors before the slow steps
    teacher = load_teachers(config, device)
    role_teachers = role_maps.load_teachers(config)
    torch.manual_seed(config.seed)
    network = build(config.spec)
    check_hint(config, network)
    if not resumed:
        check_init(config)

    groups, form = found.groups, form_of(config.spec)
    stored = decode_for(config, groups, teacher, start_phase)
    contexts = teacher.contexts if teacher else {}
    ends = np.cumsum([0, *(len(group) for group in stored[form])])
    videos = {one: [video for group in several for video in group] for one, several in stored.items()}
    numbered = list(enumerate(videos[form]))
    targets, aux, val_targets, val_aux = (numbered[a:b] for a, b in pairwise(ends))

    if config.is_object:
        check_masks(config, targets)
    if not rank:
        report_short(config, videos[form])
    plan = schedule(config, len(single_frames(targets)) if config.is_object else len(targets), len(aux), parts)
    originals = decoded_from([video for group in groups for video in group], videos[form], form)
    maps = role_maps.compute(config, role_teachers, originals, videos[form], cache_root(config), start_phase)
    clips = Clips(videos, form, contexts, config.clip_frames, config.map_frames, maps, config.spec.task)
    sampler = PickSampler(config, plan, targets, aux, rank=rank, processes=processes)
    if not resumed:
        initialize(network, config, calibration(config, clips, sampler))
    with named_errors(config.family):
        for name in config.frozen:
            network.get_submodule(name).requires_grad_(False)
        if config.stills:
            config.family.make_static(network)
    picks = held_out_picks(config, val_targets, labeled=True), held_out_picks(config, val_aux, labeled=False)
    validator = Validator(config, clips, *picks, teacher)
    return Run(network.to(device), teacher, clips, sampler, plan, validator, plan.target // parts)


def check_hint(config: TrainConfig, network: nn.Module) -> None:
    """Raise ``UsageError`` if the layers that make a student's features are not trained, so that a hint is useless."""
    if config.hint and not any(one.requires_grad for one in network.get_submodule(config.family.features).parameters()):
        raise UsageError(
            f"--hint: with these options, the layers of {config.model} that make its features are not trained; change "
            f"the options, or use --hint 0"
        )


def report_short(config: TrainConfig, videos: Sequence[Stored]) -> None:
    """Log which videos are shorter than a clip."""
    if short := [video.name for video in videos if not video.still and video.frames < config.clip_frames]:
        log.warning(
            "%s shorter than a clip of %d frames, with the first frame repeated in front: %s",
            plural(len(short), "video"),
            config.clip_frames,
            list_names(short),
        )


def decoded_from(videos: Sequence[Video], stored: Sequence[Stored], form: Form) -> list[Video]:
    """Return the source of each decoded video, found by key: names are not unique across datasets."""
    by_key = {key_of(video, stored_size(video, form.size), form.preprocess): video for video in videos}
    return [by_key[one.key] for one in stored]


def fill_cache(config: TrainConfig, start_phase: StartPhase = no_phases) -> Path:
    """Decode all videos of a run that are not in its cache, and return their folder; see :func:`prepare`.

    Several processes can fill a cache at the same time: each starts at another video, and skips those that are there.
    """
    teacher = load_teachers(config, torch.device("cpu"))
    forms = [form_of(config.spec), *(teacher.contexts if teacher else ())]
    start = zlib.crc32(repr(process_key()).encode())
    groups = [rotated(group, start) for group in sources.find(config).groups]
    decode_groups(config, groups, forms, start_phase)
    return clips_folder(config)


def rotated(videos: Sequence[Video], start: int) -> Sequence[Video]:
    """Return videos in order, from the one with the number ``start``, modulo their number."""
    first = start % max(1, len(videos))
    return [*videos[first:], *videos[:first]]


def decode_groups(
    config: TrainConfig, groups: Sequence[Sequence[Video]], forms: Iterable[Form], start_phase: StartPhase
) -> dict[Form, list[list[Stored]]]:
    """Decode groups of videos in each form; a video that is damaged in one form is left out of all."""
    root = clips_folder(config)
    stored = {
        form: [
            decode_all(
                videos,
                root,
                form.size,
                form.preprocess,
                config.workers,
                start_phase("decoding"),
                compressed=config.cache_format == COMPRESSED,
            )
            for videos in groups
        ]
        for form in dict.fromkeys(forms)
    }
    names = [
        set.intersection(*({video.name for video in several[index]} for several in stored.values()))
        for index in range(len(groups))
    ]
    return {
        form: [[video for video in group if video.name in known] for group, known in zip(several, names, strict=True)]
        for form, several in stored.items()
    }


def decode_for(
    config: TrainConfig, groups: Sequence[Sequence[Video]], teacher: Teachers | None, start_phase: StartPhase
) -> dict[Form, list[list[Stored]]]:
    """Decode groups of videos for a student and its teachers; see :func:`decode_groups`.

    Teachers whose maps of all clips are cached are not needed; the others are loaded.
    """
    form = form_of(config.spec)
    stored = decode_groups(config, groups, [form], start_phase)
    if teacher is None:
        return stored
    teacher.look_up(possible_picks(config, stored[form]))
    teacher.load()
    return decode_groups(config, groups, [form, *teacher.contexts], start_phase) if teacher.contexts else stored


def cache_root(config: TrainConfig) -> Path:
    """Return the private folder for decoded clips and the teacher's maps.

    Raises:
        UsageError: another user can change its contents.
        OutputError: it cannot be created.
    """
    root = config.cache or config.out / "cache"  # shared by all stages
    cache.require_private(root, "--cache")
    return root


def clips_folder(config: TrainConfig) -> Path:
    """Return the folder of the decoded clips in the private folder."""
    return cache_root(config) / "clips"


def maps_folder(config: TrainConfig) -> Path:
    """Return the folder of the teachers' maps in the private folder."""
    return cache_root(config) / "teacher"


def load_teachers(config: TrainConfig, device: torch.device) -> Teachers | None:
    """Return the teachers, if any. They are loaded now, unless some of their maps may be cached."""
    folder = maps_folder(config) if config.cache else None
    found = [
        CachedTeacher(Teacher(config, name, device), folder, config.cache_dtype, config.cache_scale)
        for name in config.clip_teachers
    ]
    if not found:
        return None
    teachers = Teachers(found)
    if all(one.folder is None or not any(one.folder.iterdir()) for one in found):
        teachers.load()  # an error is raised before data is decoded
    return teachers
