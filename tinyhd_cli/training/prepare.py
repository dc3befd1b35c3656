"""All that a run needs before its first step: data, teacher, network, in this order of cost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from .. import cache, weights
from ..callbacks import StartPhase
from ..errors import UsageError, WeightsError
from ..models import build
from ..models.families.tinyhd import TinyHD
from ..models.spec import CLIP_FRAMES, TinyHDConfig
from ..models.static import make_still
from ..weights.file import is_safetensors
from ..wording import plural
from . import init_weights, sources
from .augment import collate, student_clips
from .clip_cache import decode_all
from .clips import Clips, PickSampler, Schedule, validation_picks
from .options import TrainConfig
from .teachers import CachedTeacher, Teacher, Teachers
from .validation import Validator

log = logging.getLogger("tinyhd")

CALIBRATION_CLIPS = 12
"""Of each kind, for BatchNorm's statistics."""


@dataclass(frozen=True)
class Run:
    """What a run works with."""

    network: TinyHD
    teacher: Teachers | None
    clips: Clips
    sampler: PickSampler
    schedule: Schedule
    validator: Validator
    labeled_share: int
    """Labeled clips in each part that a process computes at once."""


def schedule(config: TrainConfig, targets: int, aux: int, parts: int = 1) -> Schedule:
    """How many clips a step takes and how many steps there are.

    Args:
        config: the run.
        targets: labeled videos to train on.
        aux: auxiliary ones.
        parts: what a step's clips are divided into: processes times accumulation.

    Raises:
        UsageError: a batch is larger than the data, or cannot be divided.
    """
    batch = config.batch_size
    what, there = ("--data", targets) if targets else ("--aux", aux)
    if batch > there:
        raise UsageError(f"--batch-size {batch} is larger than {what}, which has {plural(there, 'video')} to train on")
    aux_clips = round(batch * config.aux_ratio) if targets else batch
    counts = (batch if targets else 0, aux_clips if aux else 0)
    if any(count % parts for count in counts):
        raise UsageError(
            f"--batch-size {batch}: {counts[0]} clips of --data and {counts[1]} of --aux cannot be divided into "
            f"{parts} equal parts (processes times --accumulate)"
        )
    per_epoch = there // batch
    return Schedule(*counts, per_epoch, config.steps or config.epochs * per_epoch)


def check_model(config: TrainConfig) -> TinyHDConfig:
    """The student's configuration."""
    model = config.model_config
    assert isinstance(model, TinyHDConfig)
    return model


def prepare(config: TrainConfig, device: torch.device, rank: int, processes: int, start_phase: StartPhase) -> Run:
    """Find and decode the data, load the teacher, build the network.

    Raises:
        UsageError: the configuration cannot be trained.
        InputError: data is not there, or unreadable.
        WeightsError: weights cannot be loaded.
        OutputError: the caches cannot be written.
    """
    found = sources.find(config)
    parts = processes * config.accumulate
    schedule(config, len(found.targets), len(found.aux), parts)  # before anything that takes long
    teacher = load_teacher(config, device)
    torch.manual_seed(config.seed)
    network = build(check_model(config))
    assert isinstance(network, TinyHD)
    if config.init != "none":
        check_init(config)

    root = cache_root(config) / "clips"
    groups = [found.targets, found.aux, found.val_targets, found.val_aux]
    stored = [decode_all(videos, root, config.size, config.workers, start_phase("decoding")) for videos in groups]
    videos = [video for group in stored for video in group]
    numbered = list(enumerate(videos))
    ends = [sum(len(group) for group in stored[:count]) for count in range(5)]
    targets, aux, val_targets, val_aux = (numbered[a:b] for a, b in pairwise(ends))

    plan = schedule(config, len(targets), len(aux), parts)
    context = teacher.context if teacher and not config.stills else 0
    clips = Clips(videos, config.size, context, config.clip_frames)
    sampler = PickSampler(config, plan, targets, aux, rank=rank, processes=processes)
    initialize(network, config, calibration(clips, sampler))
    if config.stills:
        make_still(network)
    validator = Validator(config, clips, validation_picks(val_targets), validation_picks(val_aux), teacher)
    return Run(network.to(device), teacher, clips, sampler, plan, validator, plan.target // parts)


def cache_root(config: TrainConfig) -> Path:
    """Return the private folder for decoded clips and the teacher's maps.

    Raises:
        UsageError: another user can change its contents.
        OutputError: it cannot be created.
    """
    root = config.cache or config.out / "cache"
    cache.require_private(root, "--cache")
    return root


def load_teacher(config: TrainConfig, device: torch.device) -> Teachers | None:
    """The teachers, if there are any."""
    folder = cache_root(config) / "teacher" if config.cache else None
    found = [
        CachedTeacher(Teacher(config, name, device), folder, config.cache_dtype, config.cache_scale)
        for name in config.teacher
    ]
    return Teachers(found) if found else None


def is_imagenet(config: TrainConfig) -> bool:
    """Whether a run begins with an encoder of ImageNet, rather than with a whole TinyHD network."""
    path = Path(config.init)
    return config.init == "imagenet" or path.suffix == init_weights.FOLDED or (is_safetensors(path) and is_timm(path))


def check_init(config: TrainConfig) -> None:
    """Raise ``WeightsError`` if the first weights cannot be read or are of another network: before decoding begins."""
    if config.init != "imagenet" and not Path(config.init).is_file():
        raise WeightsError(f"--init {config.init}: no such file (or one of: imagenet, none)")
    if is_imagenet(config):
        init_weights.read_imagenet(config.init)
    else:
        whole_network(config)


def whole_network(config: TrainConfig) -> dict[str, Tensor]:
    """The tensors of the TinyHD file that a run begins with.

    Raises:
        WeightsError: it cannot be read, or is of another network.
    """
    checkpoint = weights.load(config.init)
    if checkpoint.config != config.model_config:
        theirs, ours = weights.network_name(checkpoint.config), weights.network_name(config.model_config)
        raise WeightsError(
            f"--init {config.init}: holds {theirs}, not {ours} (tinyhd reduce-channels makes narrower ones)"
        )
    return checkpoint.state_dict


def initialize(network: TinyHD, config: TrainConfig, clips: Iterable[Tensor]) -> None:
    """Give a network its first weights; ``clips`` are looked at where they lack statistics."""
    if config.init != "none" and not is_imagenet(config):
        network.load_state_dict(whole_network(config))
        return
    if config.init != "none":
        init_weights.load_encoder(network, config.init, clips)
    if config.sparse_init:
        init_weights.darken(network)


def is_timm(path: Path) -> bool:
    """Whether a safetensors file has timm's names for MobileNetV2."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return "conv_stem.weight" in file.keys()  # noqa: SIM118  # it is no mapping
    except (OSError, SafetensorError):
        return False


def calibration(clips: Clips, sampler: PickSampler) -> Iterator[Tensor]:
    """Some training clips, one by one: the same ones however many processes train."""
    videos = [*sampler.targets[:CALIBRATION_CLIPS], *sampler.aux[:CALIBRATION_CLIPS]]
    for pick in validation_picks(videos, per_video=1):
        clip = student_clips(collate([clips[pick]]), torch.device("cpu"))
        yield clip.expand(-1, -1, CLIP_FRAMES, -1, -1)  # of a single frame one that stands still
