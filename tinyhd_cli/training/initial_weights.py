"""Initialize the network of a run (``--init``): ImageNet weights, a weights file, or those of the previous stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import hub, weights
from ..errors import UsageError, WeightsError, one_line
from ..models import Family, ModelSpec, build, title
from ..models.registry import named_errors
from ..weights.file import is_safetensors, read_bytes
from ..weights.original import mappings
from ..weights.pytorch_file import unpickle
from .augment import collate, student_clips
from .clips import Clips
from .option_values import as_text
from .options import IMAGENET, TrainConfig
from .picks import PickSampler, validation_picks

FOLDED = ".npz"
"""Suffix of ImageNet weights as NumPy arrays, with BatchNorm folded into the convolutions."""

PYTORCH = (".pth", ".pt")
"""Suffixes of PyTorch files."""

HUB = "hf://"
"""Start of the address of a file on the Hub."""

CALIBRATION_CLIPS = 12
"""Clips of each kind that BatchNorm's statistics are measured on."""


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
