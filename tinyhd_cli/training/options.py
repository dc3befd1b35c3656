"""What a training run is: one frozen dataclass for the command line, YAML files and checkpoints. Imports no torch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import UsageError, did_you_mean, one_line
from ..models.registry import config as named_config
from ..models.spec import CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH, ModelConfig
from ..untrusted import parse_yaml, read_document

log = logging.getLogger("tinyhd")

INTERMEDIATE = ("d1.1", "d1.2", "d1.3", "d1.4")
"""The teacher's four intermediate maps, shallow to deep, that d1's four are compared with."""

TERMS = {
    **{f"target/{name}": 1.0 for name in (*INTERMEDIATE, "final", "ground-truth")},
    **{f"aux/{name}": 1.0 for name in (*INTERMEDIATE, "final")},
    "target/cc": 0.0,
    "target/nss": 0.0,
}
"""The terms of the loss by name, with their weights in the paper (equations 2 and 3); CC and NSS came later."""

DATA, MODEL, LOSS, OPTIMIZER, RUN = "Data", "Model", "Loss", "Optimizer", "Run"


def option(default: Any, panel: str, metavar: str, help: str, *, fixed: bool = True) -> Any:
    """A field of the configuration.

    Args:
        default: its value where neither the command line nor a preset nor a file says otherwise.
        panel: its group in ``--help``.
        metavar: what it takes, for ``--help``; empty for a switch.
        help: what it is for.
        fixed: whether it is part of what is trained, so that a resumed run must have the same value.
    """
    return field(default=default, metadata={"panel": panel, "metavar": metavar, "help": help, "fixed": fixed})


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are those of the paper (section 4.2) and its code."""

    # Data
    data: tuple[str, ...] = option(
        (), DATA, "[LAYOUT:]DIR", "Labeled data. Layouts: as for tinyhd evaluate; without one, images or folder."
    )
    aux: tuple[str, ...] = option((), DATA, "DIR", "Unlabeled videos for distillation, at any depth of a folder.")
    val: tuple[str, ...] = option(
        (), DATA, "[LAYOUT:]DIR", "Labeled data to validate on. Default: what --hold-out keeps back."
    )
    hold_out: float = option(0.1, DATA, "0..1", "Share of data and aux to validate on, evenly spread by name.")
    cache: Path | None = option(
        None,
        DATA,
        "DIR",
        "Keep decoded clips here, and the teacher's maps, so that each is made once. Default: clips alone, in OUT.",
        fixed=False,
    )
    cache_dtype: str = option("float16", DATA, "float16|uint8", "Numbers of the teacher's maps in --cache.")
    cache_scale: int = option(1, DATA, "1|2|4", "What the teacher's maps in --cache are reduced by.")
    window_step: int | None = option(
        None,
        DATA,
        "N",
        "Clips begin at every Nth frame. Default: 1, with --cache 16, so that a teacher's map is used again.",
    )
    still_motion: float = option(
        0.5, DATA, "0..1", "Share of clips made of a photograph that pan and zoom slowly; the others stand still."
    )
    stills: bool = option(
        False,
        DATA,
        "",
        "Train on single frames, without time, several times as fast; what comes out is for videos all the same, "
        "and a start (--init) for training on clips.",
    )
    no_flip: bool = option(False, DATA, "", "Do not mirror half of the clips.")
    jitter: float = option(
        0.0, DATA, "0..1", "Change brightness, contrast and saturation of the student's clips by up to this share."
    )
    crop: float = option(
        0.0, DATA, "0..1", "Show the student half of the clips enlarged, by up to this share less wide and high."
    )
    aux_ratio: float = option(1.0, DATA, "X", "Clips of --aux for each one of --data (equation 3: one).")
    size: tuple[int, int] = option((INPUT_HEIGHT, INPUT_WIDTH), DATA, "HxW", "Pixels of the network's input.")

    # Model
    model: str = option("tinyhd-m", MODEL, "NAME", "The network to train.")
    decoders: tuple[str, ...] = option(("d1", "d2", "d3"), MODEL, "ORDER", "Its decoders, in fusion order.")
    init: str = option(
        "imagenet",
        MODEL,
        "imagenet|none|FILE",
        "First weights: MobileNetV2 of ImageNet, from the Hub or an .npz or .safetensors file; a TinyHD file; none.",
    )
    sparse_init: bool = option(
        False,
        MODEL,
        "",
        "Fresh maps begin dark but for peaks, as people look at few places; else hundreds of steps go into that.",
    )
    teacher: tuple[str, ...] = option(
        (), MODEL, "hd2s|NAME|FILE", "Network whose maps are to be matched; of several, the mean of their maps."
    )
    teacher_flip: bool = option(
        False, MODEL, "", "Ask the teacher for the mirrored clip too, and take the mean: better maps in twice the time."
    )
    teacher_step: int = option(
        1, MODEL, "N", "Ask a single-output teacher for every Nth frame of a clip alone, and blend between these."
    )
    upstream_alignment: bool = option(
        False,
        MODEL,
        "",
        "As the original: a single-output teacher's maps are one frame behind a multi-output student's.",
    )

    # Loss
    weight: tuple[str, ...] = option(
        (),
        LOSS,
        "TERM=X",
        f"Weight of a term, such as target/cc=1; final=2 is target/ and aux/. Terms: {', '.join(TERMS)}.",
    )

    # Optimizer
    epochs: int = option(200, OPTIMIZER, "N", "Passes over --data, or over --aux where there is no --data.")
    steps: int | None = option(None, OPTIMIZER, "N", "Optimizer steps, instead of --epochs.")
    batch_size: int = option(12, OPTIMIZER, "N", "Clips of --data in a step, over all processes; --aux comes on top.")
    accumulate: int = option(1, OPTIMIZER, "N", "Parts that a batch is computed in, one after the other.")
    optimizer: str = option("sgd", OPTIMIZER, "sgd|adamw", "SGD with momentum, or AdamW.")
    lr: float = option(0.01, OPTIMIZER, "X", "Learning rate; the encoder has half of it, biases have double.")
    momentum: float = option(0.9, OPTIMIZER, "X", "Of SGD.")
    weight_decay: float = option(5e-4, OPTIMIZER, "X", "Of all but biases.")
    schedule: str = option("steps", OPTIMIZER, "steps|cosine", "x 0.1 at each of --milestones, or a cosine to 0.")
    milestones: tuple[float, ...] = option((0.5, 0.75, 0.9), OPTIMIZER, "X,X,..", "Shares of the run, for steps.")
    reload_best: bool = option(False, OPTIMIZER, "", "Go on from the best weights at each milestone.")
    warmup: float = option(0.0, OPTIMIZER, "0..1", "Share of the run in which the learning rate rises from 0.")
    clip: float = option(0.0, OPTIMIZER, "X", "Greatest norm of the gradient; 0: any.")
    ema: float = option(
        0.0, OPTIMIZER, "0..1", "Decay of a running mean of the weights, which is then what is kept; 0: none."
    )

    # Run
    out: Path = option(Path("run"), RUN, "DIR", "Folder of the run: weights, checkpoints, logs, pictures.", fixed=False)
    seed: int = option(0, RUN, "N", "Of weights and of the order of the data.")
    precision: str = option("fp32", RUN, "fp32|bf16", "bf16: mixed precision.")
    eager: bool = option(False, RUN, "", "PyTorch's own layers on a CPU too, not ours, which are faster there.")
    device: str = option("auto", RUN, "auto|cpu|cuda", "Where to train.", fixed=False)
    workers: int = option(2, RUN, "N", "Processes that decode and load clips; 0: none.", fixed=False)
    validate_every: int = option(1, RUN, "N", "Epochs between validations.")
    checkpoint_every: int | None = option(
        None, RUN, "N", "Steps between checkpoints. Default: one at the end of each epoch.", fixed=False
    )
    keep: int = option(3, RUN, "N", "Checkpoints to keep.", fixed=False)
    tensorboard: bool = option(False, RUN, "", "Write a TensorBoard log too (pip install tensorboard).", fixed=False)

    def __post_init__(self) -> None:
        if self.teacher is None or isinstance(self.teacher, str):  # one, as older configurations have it
            object.__setattr__(self, "teacher", (self.teacher,) if self.teacher else ())
        texts = ("data", "aux", "val", "weight", "teacher")
        for name, kind in (*((name, str) for name in texts), ("milestones", float)):
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
        object.__setattr__(self, "decoders", tuple(self.decoders))
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "cache", Path(self.cache) if self.cache is not None else None)
        self._check_choices()
        self._check_numbers()
        if self.model_config.name == "hd2s":
            raise UsageError("--model hd2s: only TinyHD networks are trained here; hd2s is a teacher")
        try:
            self.model_config.check_size(self.size)
        except UsageError as error:
            raise UsageError(f"--size: {error}") from None
        self.weights  # noqa: B018  # raises if a term is unknown

    def _check_choices(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"{flag(name)} must be one of {', '.join(map(str, choices))}, not {getattr(self, name)}"
                )

    def _check_numbers(self) -> None:
        for name in ("hold_out", "still_motion", "jitter", "crop", "momentum", "warmup", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{flag(name)} must be from 0 to 1, not {getattr(self, name)}")
        for name in (
            "batch_size",
            "accumulate",
            "epochs",
            "steps",
            "keep",
            "validate_every",
            "window_step",
            "teacher_step",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{flag(name)} must be at least 1, not {getattr(self, name)}")
        for name in ("aux_ratio", "weight_decay", "clip", "workers"):
            if getattr(self, name) < 0:
                raise UsageError(f"{flag(name)} must not be below 0, not {getattr(self, name)}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise UsageError(f"--lr must be above 0, not {self.lr}")
        if not all(0 < share < 1 for share in self.milestones):
            raise UsageError("--milestones are shares of the run, between 0 and 1, such as 0.5,0.75,0.9")

    @property
    def model_config(self) -> ModelConfig:
        """The network."""
        overrides = {} if self.model == "hd2s" else {"decoders": self.decoders}
        return named_config(self.model, **overrides)

    @property
    def clip_frames(self) -> int:
        """Frames of a clip that the student sees."""
        return 1 if self.stills else CLIP_FRAMES

    @property
    def maps(self) -> int:
        """Maps that the student gives for a clip."""
        return 1 if self.stills or self.model_config.frames_out == 1 else CLIP_FRAMES

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term of the loss."""
        weights = dict(TERMS)
        for item in self.weight:
            name, _, value = item.partition("=")
            meant = [term for term in TERMS if name in (term, term.partition("/")[2])]
            if not meant:
                raise UsageError(f"--weight {item}: {did_you_mean(name, TERMS)}")
            try:
                weights.update({term: float(value) for term in meant})
            except ValueError:
                raise UsageError(f"--weight {item}: must be TERM=NUMBER") from None
        return weights

    @property
    def start_grid(self) -> int:
        """Frames between the places where clips may begin."""
        return self.window_step or (16 if self.cache else 1)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for YAML, JSON and checkpoints."""
        plain = {}
        for item in fields(self):
            value = getattr(self, item.name)
            plain[item.name] = (
                list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
            )
        return plain

    def differences(self, other: TrainConfig) -> list[str]:
        """Names of the fields that make it another training than ``other``, for a run that is resumed."""
        return [f.name for f in fields(self) if f.metadata["fixed"] and getattr(self, f.name) != getattr(other, f.name)]


CHOICES: dict[str, tuple[Any, ...]] = {
    "cache_dtype": ("float16", "uint8"),
    "cache_scale": (1, 2, 4),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("steps", "cosine"),
    "precision": ("fp32", "bf16"),
}


def flag(name: str) -> str:
    """How a field is called on the command line."""
    return f"--{name.replace('_', '-')}"


def from_dict(values: Mapping[str, Any], where: str = "configuration") -> TrainConfig:
    """The configuration of plain values; ``UsageError`` names what is unknown or wrong."""
    known = {item.name: item for item in fields(TrainConfig)}
    values = renamed({str(name).replace("-", "_"): value for name, value in values.items()}, where)
    for name in values:
        if name not in known:
            raise UsageError(f"{where}: unknown setting {name!r}: {did_you_mean(name, known)}")
    try:
        for name, value in values.items():
            if isinstance(value, str) and str(known[name].type) == "float":
                values[name] = value = float(value)  # YAML reads 1e-4, without a point, as a string
            if not fits(value, known[name]):
                shown = repr(value) if len(repr(value)) < 80 else type(value).__name__
                raise ValueError(
                    f"{flag(name)} must be {known[name].metadata['metavar'] or 'true or false'}, not {shown}"
                )
        return TrainConfig(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


RENAMED = {"optimiser": "optimizer", "dark_start": "sparse_init"}
"""Settings by their former names."""


def renamed(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings under their present names; each former name is reported."""
    for old in values.keys() & RENAMED.keys():
        log.warning("%s: the setting %r is now called %r", where, old, RENAMED[old])
    return {RENAMED.get(name, name): value for name, value in values.items()}


def fits(value: Any, item: dataclasses.Field[Any]) -> bool:
    """Return whether a plain value has the type of a field."""
    kind, _, optional = str(item.type).partition(" | ")
    if value is None:
        return bool(optional) or item.name == "teacher"
    if kind.startswith("tuple"):
        if item.name == "teacher" and isinstance(value, str):  # the format of older configurations
            return True
        of, count = kind.removeprefix("tuple[").split(", ")[0], 2 if kind == "tuple[int, int]" else None
        several = isinstance(value, list | tuple) and len(value) == (count or len(value))
        return several and all(is_a(of, one) for one in value)
    return is_a(kind, value)


def is_a(kind: str, value: Any) -> bool:
    """Return whether a plain value has the type named ``kind``."""
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "float":
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, {"int": int, "str": str, "Path": str | Path}[kind])


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files(__package__) / "presets"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """The settings in a YAML text; ``UsageError`` if it has another form."""
    try:
        values = parse_yaml(text) or {}
    except ValueError as error:
        raise UsageError(f"{where}: is not valid YAML: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{where}: must be settings, one a line, such as lr: 0.01")
    return values


def build_config(
    given: Mapping[str, Any], preset: str | None = None, file: Path | None = None, saved: TrainConfig | None = None
) -> TrainConfig:
    """The configuration of a command line.

    Args:
        given: what the command line says; None where it is silent.
        preset: name of a preset to begin with.
        file: a YAML file, which wins over the preset; the command line wins over both.
        saved: what to begin with instead of the defaults: that of a run that is resumed.

    Raises:
        UsageError: a preset, setting or value is unknown or wrong.
    """
    values: dict[str, Any] = saved.to_dict() if saved else {}
    if preset is not None:
        if preset not in presets():
            raise UsageError(f"--preset {preset!r} is unknown: {did_you_mean(preset, presets())}")
        text = (resources.files(__package__) / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
        values |= read_yaml(text, f"preset {preset}")
    if file is not None:
        try:
            text = read_document(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"--config {file}: cannot be read: {getattr(error, 'strerror', error)}") from error
        values |= read_yaml(text, str(file))
    values |= {name: value for name, value in given.items() if value is not None}
    return from_dict(values, where=str(file or preset or "command line"))


def replace(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The configuration with some fields changed."""
    return dataclasses.replace(config, **changes)
