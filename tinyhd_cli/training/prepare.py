"""Prepare a run before its first step: data, teachers and network."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import cache, hub, weights
from ..callbacks import StartPhase, no_phases
from ..datasets import Video
from ..errors import UsageError, WeightsError, one_line
from ..models import Family, ModelSpec, build, title
from ..models.registry import named_errors
from ..processes import process_key
from ..weights.file import is_safetensors, read_bytes
from ..weights.original import mappings
from ..weights.pytorch_file import unpickle
from ..wording import list_names, plural
from . import role_maps, sources
from .augment import collate, student_clips
from .clip_cache import Form, Stored, decode_all, form_of, key_of, stored_size
from .clips import Clips
from .object_data import check_masks, labeled_count
from .option_values import COMPRESSED, as_text
from .options import IMAGENET, TrainConfig
from .picks import PickSampler, Schedule, held_out_picks, possible_picks, schedule, single_frames, validation_picks
from .teacher_cache import CachedTeacher, Teachers
from .teachers import Teacher
from .validation import Validator

log = logging.getLogger("tinyhd")

FOLDED = ".npz"
"""Suffix of ImageNet weights as NumPy arrays, with BatchNorm folded into the convolutions."""

PYTORCH = (".pth", ".pt")
"""Suffixes of PyTorch files."""

HUB = "hf://"
"""Start of the address of a file on the Hub."""

CALIBRATION_CLIPS = 12
"""Clips of each kind that BatchNorm's statistics are measured on."""


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


def read_imagenet(config: TrainConfig) -> Mapping[str, Tensor] | None:
    """Return the tensors of ImageNet weights that ``--init`` names; None if it names a weights file of the network.

    Raises:
        UsageError: the network cannot be initialized from ImageNet.
        WeightsError: the file cannot be downloaded or read.
    """
    kind, path = config.family, initial_file(config)
    if path.suffix in PYTORCH:
        return read_pytorch(kind, path)
    if not is_safetensors(path) and path.suffix != FOLDED:
        return None
    try:
        if path.suffix == FOLDED:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            if not kind.is_imagenet(dict.fromkeys(file.keys())):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except OSError as error:
        raise WeightsError(f"--init {path}: cannot be read: {error.strerror or one_line(error)}") from error
    except Exception as error:  # NumPy and safetensors raise many kinds of errors for damaged files
        raise WeightsError(f"--init {path}: damaged, or not a weights file ({one_line(error)})") from error


def read_pytorch(kind: Family, path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of ImageNet weights in a PyTorch file, at any depth; None if it contains something else.

    Raises:
        WeightsError: the file cannot be read, or would run code.
    """
    try:
        content = unpickle(read_bytes(path))
    except WeightsError as error:
        raise WeightsError(f"--init {path}: {str(error).removeprefix(f'{path}: ')}") from error
    with named_errors(kind):
        for _, found in mappings(content):
            if kind.is_imagenet(found):
                return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    return None


def initial_file(config: TrainConfig) -> Path:
    """Return the file of the initial weights, downloaded if it is one of the Hub.

    Raises:
        UsageError: the network cannot be initialized from ImageNet, or the address on the Hub is incomplete.
        WeightsError: the file cannot be downloaded.
    """
    init = config.init or "none"
    if init == IMAGENET:
        hub_file = config.family.imagenet_file(config.spec)
        if hub_file is None:
            raise UsageError(f"--init imagenet: {config.model} has no initialization from ImageNet; use none or a file")
        return download(f"imagenet ({hub_file[0]})", *hub_file)
    if not init.startswith(HUB):
        return Path(init)
    owner, _, rest = init.removeprefix(HUB).partition("/")
    repo, _, filename = rest.partition("/")
    if not (owner and repo and filename):
        raise UsageError(f"--init {init}: must be {HUB}OWNER/REPO/FILE")
    return download(init, f"{owner}/{repo}", filename)


def download(init: str, repo: str, filename: str) -> Path:
    """Return a file of the Hub, from its local cache if possible; ``init`` names it in messages."""
    advice = "name a file with --init, or use --init none"
    with hub.one_line_errors(f"--init {init}", otherwise=advice):
        return hub.cached(repo, filename) or hub.download(repo, filename)


def follows(config: TrainConfig) -> bool:
    """Return whether the configuration is for a stage that starts from the weights of the previous one."""
    return config.stage > 1


def source(config: TrainConfig) -> str:
    """Return the file of the initial weights, for messages: with the option, or with the stage that wrote it."""
    own_stage = config.stage and config.stage != config.stages[0]
    return (
        f"{config.initial_weights} (of stage {config.stage - 1})" if own_stage else f"--init {config.initial_weights}"
    )


def stage_before(config: TrainConfig) -> dict[str, Tensor]:
    """Return the tensors that a stage takes from the previous stage: those that have the same names in both networks.

    Raises:
        WeightsError: the weights cannot be read, or are not of that stage.
    """
    checkpoint = weights.load(config.initial_weights)
    expected = config.spec_of_stage(config.stage - 1)
    if not checkpoint.spec.same_network(expected):
        raise WeightsError(
            f"{source(config)}: contains {with_options(checkpoint.spec)}, not the network of stage "
            f"{config.stage - 1}, {with_options(expected)}"
        )
    with torch.device("meta"):
        own = build(config.spec).state_dict()
    return {name: tensor for name, tensor in checkpoint.state_dict.items() if name in own}


def check_init(config: TrainConfig) -> None:
    """Raise an error if the network cannot be initialized or trained as configured.

    Raises:
        UsageError: its family does not support ``--stills`` or ``--sparse-init``.
        WeightsError: the initial weights cannot be read or are of another network.
    """
    with torch.device("meta"):
        network = build(config.spec)
    if config.sparse_init:
        config.family.init_output_bias(network)
    if config.stills:
        config.family.make_static(network)
    init = config.initial_weights
    if init == "none":
        return
    if init != IMAGENET and not init.startswith(HUB) and not Path(init).is_file():
        raise WeightsError(f"{source(config)}: no such file{'' if follows(config) else ' (or one of: imagenet, none)'}")
    if follows(config):
        stage_before(config)
    elif read_imagenet(config) is None:
        whole_network(config)


def whole_network(config: TrainConfig) -> dict[str, Tensor]:
    """Return the tensors of the weights file that ``--init`` names.

    Raises:
        WeightsError: it cannot be read, or is of another network.
    """
    checkpoint = weights.load(initial_file(config))
    given, wanted = title(checkpoint.spec), title(config.spec)
    of_training = {name: config.spec.options[name] for name in config.family.training_options}
    trained_so = replace(checkpoint.spec, options={**checkpoint.spec.options, **of_training})
    if not trained_so.same_network(config.spec):
        if given == wanted:
            given, wanted = with_options(checkpoint.spec), with_options(config.spec)
        reducible = type(config.family).reduce_channels is not Family.reduce_channels
        narrower = checkpoint.spec.family == config.spec.family and reducible
        advice = " (tinyhd reduce-channels makes narrower networks)" if narrower else ""
        raise WeightsError(f"--init {config.init}: contains {given}, not {wanted}{advice}")
    return checkpoint.state_dict


def with_options(spec: ModelSpec) -> str:
    """Return the title of a network with all of its options, for messages."""
    return f"{title(spec)} ({', '.join(f'{name}={as_text(value)}' for name, value in spec.options.items())})"


def initialize(network: nn.Module, config: TrainConfig, clips: Iterable[Tensor]) -> None:
    """Load the initial weights of a network; statistics that they lack are measured on ``clips``."""
    if follows(config):
        network.load_state_dict(stage_before(config), strict=False)
        return
    init = config.init or "none"
    tensors = read_imagenet(config) if init != "none" else None
    if init != "none" and tensors is None:
        network.load_state_dict(whole_network(config))
        return
    if tensors is not None:
        try:
            with named_errors(config.family):
                config.family.initialize(network, config.spec, tensors, clips)
        except WeightsError as error:
            message = str(error) if str(error).startswith("--init") else f"--init {init}: {error}"
            raise WeightsError(message) from error
    if config.sparse_init:
        with named_errors(config.family):
            config.family.init_output_bias(network)


def calibration(config: TrainConfig, clips: Clips, sampler: PickSampler) -> Iterator[Tensor]:
    """Yield some training clips, one by one; the same ones for any number of processes."""
    videos = [*sampler.targets[:CALIBRATION_CLIPS], *sampler.aux[:CALIBRATION_CLIPS]]
    length = config.spec.clip_frames
    for pick in validation_picks(videos, length, per_video=1):
        clip = student_clips(collate([clips[pick]]), config.spec.preprocess, torch.device("cpu"))
        yield clip.expand(-1, -1, length, -1, -1)  # a single frame becomes a static clip
