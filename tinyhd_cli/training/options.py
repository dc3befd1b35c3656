"""The configuration of a training run: one dataclass for the command line, YAML and checkpoints. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..models import Family, ModelSpec, named_spec
from ..models.registry import default_student, family, parse_options
from .object_options import check_object_options
from .objectives import SELF, TEMPORAL, Objectives, default_weights, distilled, hinted, named, objectives
from .option_values import as_options, as_text, check_values
from .roles import by_role
from .stage_numbers import chosen_stages

IMAGENET = "imagenet"
"""Value of ``--init`` for the ImageNet weights on the Hub."""

CACHED_STEP = 16
"""Default of ``--window-step`` if the teachers' maps are stored."""

DATA, MODEL, LOSS, OPTIMIZER, RUN = "Data", "Model", "Loss", "Optimizer", "Run"


def option(default: Any, panel: str, metavar: str, help: str, *, fixed: bool = True) -> Any:
    """Return a field of the configuration.

    Args:
        default: value if the command line, the preset and the file do not set it.
        panel: group in ``--help``.
        metavar: placeholder of the value in ``--help``; empty for a switch.
        help: description in ``--help``.
        fixed: whether a resumed run must have the same value.
    """
    return field(default=default, metadata={"panel": panel, "metavar": metavar, "help": help, "fixed": fixed})


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are those of Hu et al., WACV 2023 (section 4.2) and their code."""

    # Data
    data: tuple[str, ...] = option(
        (),
        DATA,
        "NAME|[LAYOUT:]DIR",
        "Labeled data. Layouts: as for tinyhd evaluate. Default: known datasets.",
    )
    aux: tuple[str, ...] = option((), DATA, "DIR", "Unlabeled videos for distillation; subfolders are searched.")
    val: tuple[str, ...] = option(
        (), DATA, "[LAYOUT:]DIR", "Labeled data for validation. Default: the part that --hold-out keeps back."
    )
    hold_out: float = option(0.1, DATA, "0..1", "Fraction of data and aux for validation, evenly spaced by name.")
    cache: Path | None = option(
        None,
        DATA,
        "DIR",
        "Cache decoded clips and the teacher's maps here. Default: clips, and maps of teachers with roles, in OUT.",
        fixed=False,
    )
    cache_format: str = option(
        "raw", DATA, "raw|jpeg", "Format of decoded clips. jpeg: 5 to 8 times smaller, exact maps.", fixed=False
    )
    cache_dtype: str = option("float16", DATA, "float16|uint8", "Type of the teacher's maps in --cache.")
    cache_scale: int = option(1, DATA, "1|2|4", "Factor by which the teacher's maps in --cache are reduced.")
    window_step: int | None = option(
        None,
        DATA,
        "N",
        "Start clips only at every Nth frame. Default: 1; 16 if the teacher's maps are stored (with --cache, or with "
        "teachers that have roles), so that they are reused.",
    )
    still_motion: float = option(
        0.5, DATA, "0..1", "Fraction of clips made from a photograph that pan and zoom slowly; the others are static."
    )
    stills: bool = option(
        False,
        DATA,
        "",
        "Train the static 2D twin of the network on single frames, several times as fast. The result can be used on "
        "videos, and as --init for training on clips.",
    )
    no_flip: bool = option(False, DATA, "", "Do not mirror half of the clips.")
    jitter: float = option(
        0.0, DATA, "0..1", "Vary brightness, contrast and saturation of the student's clips by up to this fraction."
    )
    crop: float = option(
        0.0,
        DATA,
        "0..1",
        "Random crop: for half of the clips, crop away up to this fraction of width and height and rescale.",
    )
    rotate: float = option(
        0.0, DATA, "DEGREES", "Rotate the student's clips and masks by up to this angle. Only for object networks."
    )
    pair_every: int | None = option(
        None,
        DATA,
        "N",
        "Train on pairs of frames of --data in every Nth step, and on single frames in the others; 0: never. Only for "
        "object networks. Default: 0; 1 for networks that read pairs.",
    )
    pair_batch_size: int | None = option(
        None, DATA, "N", "Pairs of frames per step, over all processes. Default: half of --batch-size, at least 2."
    )
    aux_ratio: float = option(1.0, DATA, "X", "Number of --aux clips per --data clip (equation 3: one).")
    size: tuple[int, int] | None = option(None, DATA, "HxW", "Input size in pixels. Default: the network's.")

    # Model
    model: str = option(default_student(), MODEL, "NAME", "Network to train.")
    set: tuple[str, ...] = option((), MODEL, "OPTION=VALUE", "Option of the network, such as decoders=d2,d3,d1.")
    init: str | None = option(
        None,
        MODEL,
        "imagenet|none|FILE",
        "Initial weights: ImageNet or Kinetics, from the Hub or an .npz, .safetensors or .pth file; a weights file of "
        "the same network; or none. A file on the Hub is named hf://OWNER/REPO/FILE. Default: imagenet if the network "
        "supports it, else none.",
    )
    sparse_init: bool = option(
        False,
        MODEL,
        "",
        "Initialize output biases so that untrained maps start near zero (focal-loss prior); saves hundreds of steps.",
    )
    teacher: tuple[str, ...] = option(
        (),
        MODEL,
        "[ROLE=]NAME|FILE",
        "Network whose maps the student learns; of several, the mean of their maps. For students with two paths, ROLE "
        "is spatial (the teacher is run on a static clip of each frame) or temporal (on the video); default: both.",
    )
    teacher_flip: bool = option(
        False,
        MODEL,
        "",
        "Average the teacher's maps of the clip and of its mirror image: better maps, twice the time. Not with roles.",
    )
    teacher_step: int = option(
        1,
        MODEL,
        "N",
        "Run a teacher with one map per clip only for every Nth frame, and interpolate. Not with roles.",
    )
    upstream_alignment: bool = option(
        False,
        MODEL,
        "",
        "Reproduce the authors' code: maps of a teacher with one map per clip are one frame late.",
    )

    # Stages
    stages: tuple[int, ...] = option(
        (),
        MODEL,
        "N,N",
        "Training stages to run, for networks that are trained in stages. Default: all. To run only a later stage, "
        "give the weights of the stage before it with --init FILE.",
    )

    # Loss
    weight: tuple[str, ...] = option(
        (),
        LOSS,
        "TERM=X",
        "Weight of a loss term, such as target/cc=1; final=2 sets target/final and aux/final. "
        f"Terms of {default_student()}: {', '.join(default_weights(family(named_spec(default_student())).terms))}.",
    )
    self_distill: float | None = option(
        None,
        LOSS,
        "X",
        "Weight of self-distillation: the intermediate maps learn the network's own final map. Default: the network's, "
        "mostly 0.",
    )
    temporal_distill: float | None = option(
        None,
        LOSS,
        "X",
        "Weight of temporal distillation: the maps of neighboring frames learn each other. Default: the network's, "
        "mostly 0.",
    )
    hint: float | None = option(
        None,
        LOSS,
        "X",
        "Weight of the hint: the features of the student's encoder learn those of the teacher's (MSE), through a 1x1x1 "
        "convolution that is not saved with the weights. Default: 0.",
    )
    original_slips: bool = option(
        False, LOSS, "", "Reproduce the mistakes in the loss of the authors' program, if any are known."
    )

    # Optimizer
    epochs: int = option(200, OPTIMIZER, "N", "Passes over --data, or over --aux without --data; per stage.")
    steps: int | None = option(None, OPTIMIZER, "N", "Optimizer steps per stage, instead of --epochs.")
    batch_size: int = option(12, OPTIMIZER, "N", "Clips of --data per step, over all processes; --aux clips are added.")
    accumulate: int = option(1, OPTIMIZER, "N", "Number of parts that a batch is computed in (gradient accumulation).")
    optimizer: str = option("sgd", OPTIMIZER, "sgd|adam|adamw", "SGD with momentum, Adam, or AdamW.")
    lr: float = option(0.01, OPTIMIZER, "X", "Learning rate.")
    encoder_lr: float = option(0.5, OPTIMIZER, "X", "Learning rate of the encoder, relative to --lr.")
    bias_lr: float = option(2.0, OPTIMIZER, "X", "Learning rate of biases, relative to --lr.")
    momentum: float = option(0.9, OPTIMIZER, "X", "Momentum of SGD.")
    weight_decay: float = option(5e-4, OPTIMIZER, "X", "Weight decay of all parameters but biases.")
    schedule: str = option(
        "steps",
        OPTIMIZER,
        "steps|cosine|poly",
        "Decay: x 0.1 at each of --milestones, a cosine to 0, or the power 0.9 of the rest of the run.",
    )
    milestones: tuple[float, ...] = option(
        (0.5, 0.75, 0.9), OPTIMIZER, "X,X,..", "Fractions of the run at which the learning rate drops."
    )
    reload_best: bool = option(False, OPTIMIZER, "", "Continue from the best weights at each milestone.")
    warmup: float = option(0.0, OPTIMIZER, "0..1", "Fraction of the run in which the learning rate rises from 0.")
    clip: float = option(0.0, OPTIMIZER, "X", "Maximum norm of the gradient; 0: no clipping.")
    ema: float = option(
        0.0, OPTIMIZER, "0..1", "Decay of an exponential moving average of the weights, which is saved; 0: none."
    )

    # Run
    out: Path = option(
        Path("run"), RUN, "DIR", "Folder for weights, checkpoints, logs, images. Default: runs/MODEL-N.", fixed=False
    )
    seed: int = option(0, RUN, "N", "Seed of the weights and of the order of the data.")
    precision: str = option("fp32", RUN, "fp32|bf16", "bf16: mixed precision.")
    eager: bool = option(False, RUN, "", "On a CPU, use PyTorch's own layers, and run teachers in PyTorch.")
    device: str = option("auto", RUN, "auto|cpu|cuda", "Device to train on.", fixed=False)
    workers: int = option(2, RUN, "N", "Processes that decode and load clips; 0: none.", fixed=False)
    validate_every: int = option(1, RUN, "N", "Epochs between validations.")
    checkpoint_every: int | None = option(
        None, RUN, "N", "Steps between checkpoints. Default: one at the end of each epoch.", fixed=False
    )
    keep: int = option(3, RUN, "N", "Number of checkpoints to keep.", fixed=False)
    tensorboard: bool = option(False, RUN, "", "Also write a TensorBoard log (pip install tensorboard).", fixed=False)

    stage: int = field(default=0, metadata={"metavar": "N", "fixed": True, "internal": True})
    """The stage that this configuration is for, from 1; 0: all of ``stages``, or a network without stages."""

    def __post_init__(self) -> None:
        if self.teacher is None or isinstance(self.teacher, str):  # the format of older configurations
            object.__setattr__(self, "teacher", (self.teacher,) if self.teacher else ())
        texts = ("data", "aux", "val", "weight", "teacher", "set")
        for name, kind in (*((name, str) for name in texts), ("milestones", float), ("stages", int)):
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "cache", Path(self.cache) if self.cache is not None else None)
        check_values(vars(self))
        self._resolve_model()

    def _resolve_model(self) -> None:
        """Fill in the network's defaults, and check that it can be trained like this."""
        base = named_spec(self.model)
        if not family(base).trainable:
            raise UsageError(f"--model {self.model}: is a teacher and cannot be trained")
        spec = family(base).resolve(family(base).configure(base, parse_options(base, self.set)))
        self._resolve_stages(base)
        size = tuple(self.size) if self.size is not None else spec.input_size
        try:
            spec.check_size((size[0], size[1]))
        except UsageError as error:
            raise UsageError(f"--size: {error}") from None
        object.__setattr__(self, "size", size)
        # The canonical form, so that equal networks have equal configurations.
        object.__setattr__(self, "model", spec.name)
        object.__setattr__(self, "set", as_options(spec))
        object.__setattr__(self, "init", self.init or family(base).init)
        check_object_options(vars(self), spec, family(base), self.pairs)
        objectives = self.objectives  # raises if --weight is wrong
        roles = by_role(self.teacher, family(base))
        if self.stills and "temporal" in roles:
            raise UsageError(
                f"--teacher temporal={roles['temporal'][0]}: --stills trains on single frames, which have no motion; "
                "give only a spatial teacher"
            )
        if self.hint:
            self._check_hint()
        averaging = (
            "--teacher: more than one" if len(self.teacher) > 1 else "--teacher-flip" if self.teacher_flip else ""
        )
        if averaging and objectives.value_based:  # averaged maps are distributions
            raise UsageError(f"{averaging} is not possible, because the loss of this network compares values of maps")

    def _check_hint(self) -> None:
        """Raise ``UsageError`` if the student or the kind of run has no features to compare."""
        if not self.family.features or self.family.stages:
            raise UsageError(f"--hint: {self.model} cannot learn features; use another --model, or --hint 0")
        if self.stills or len(self.teacher) != 1:
            reason = "not with --stills" if self.stills else f"needs one --teacher, not {len(self.teacher)}"
            raise UsageError(f"--hint: {reason}")

    def _resolve_stages(self, base: ModelSpec) -> None:
        """Fill in the stages of training, and check that they can be run."""
        stages = chosen_stages(self.stages, family(base), self.model)
        if self.stage not in (0, *stages):
            raise UsageError(f"stage must be one of {as_text((0, *stages))}, not {self.stage}")
        taken = {name for number in stages for name in family(base).stages[number - 1].options}
        for item in self.set:
            if (name := item.partition("=")[0].strip()) in taken:
                raise UsageError(f"--set {item}: each stage of training sets {name}; choose stages with --stages")
        if stages and stages[0] > 1 and (self.init or "none") in ("none", IMAGENET):
            raise UsageError(
                f"--stages {as_text(stages)}: needs the weights of stage {stages[0] - 1}; give their file with --init"
            )
        object.__setattr__(self, "stages", stages)

    @property
    def family(self) -> Family:
        """Family of the student."""
        return family(named_spec(self.model))

    @property
    def spec(self) -> ModelSpec:
        """The student, with the input size of this run; that of the last stage, if the configuration is for several."""
        return self.spec_of_stage(self.stage or (self.stages[-1] if self.stages else 0))

    def spec_of_stage(self, stage: int) -> ModelSpec:
        """Return the network that a stage trains; 0 for networks without stages."""
        base = named_spec(self.model)
        options = parse_options(base, self.set) | dict(self.family.stages[stage - 1].options if stage else {})
        return self.family.resolve(self.family.configure(base, options)).with_size(self.input_size)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Modules of the network that keep the weights and running statistics of the previous stage."""
        return self.family.stages[self.stage - 1].frozen if self.stage else ()

    @property
    def folder(self) -> Path:
        """Folder of the checkpoints, logs and weights: ``out``, or a folder inside it for all stages but the last."""
        return self.out / f"stage-{self.stage}" if self.stage and self.stage != self.stages[-1] else self.out

    @property
    def initial_weights(self) -> str:
        """Source of the initial weights: ``init``, or the weights file of the previous stage."""
        if self.stage and self.stage != self.stages[0]:
            return str(replace(self, stage=self.stage - 1).folder / "best.safetensors")
        return self.init or "none"

    @property
    def role_teachers(self) -> Mapping[str, tuple[str, ...]]:
        """Teachers by role; empty for students whose teachers have no roles."""
        return by_role(self.teacher, self.family)

    @property
    def clip_teachers(self) -> tuple[str, ...]:
        """Teachers that are run on the student's clips: all of them, unless the student's family has roles."""
        return () if self.family.roles else self.teacher

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the student's input, in pixels."""
        assert self.size is not None
        return self.size

    @property
    def is_object(self) -> bool:
        """Whether the student finds objects: its ground truth is masks."""
        return self.spec.task == "object"

    @property
    def pairs(self) -> int:
        """Number N such that every Nth step is on pairs of frames; 0: none."""
        if not self.is_object:
            return 0
        return self.pair_every if self.pair_every is not None else int(self.spec.clip_frames > 1)

    @property
    def clip_frames(self) -> int:
        """Frames of a clip that the student reads."""
        return 1 if self.stills else self.spec.clip_frames

    @property
    def map_frames(self) -> tuple[int, ...]:
        """Frames of the clip that the student's maps belong to."""
        if self.stills:
            return (0,)
        spec = self.spec
        return tuple(range(spec.clip_frames)) if spec.windowing == "block" else (spec.frames_before,)

    @property
    def num_maps(self) -> int:
        """Maps that the student outputs per clip."""
        return len(self.map_frames)

    @property
    def objectives(self) -> Objectives:
        """Terms of the loss and their weights; those of all stages, if the configuration is for no particular one."""
        every, pairs = self.family.stages, self.pairs > 0
        if not every:
            terms = self.family.loss(self.spec, original_slips=self.original_slips)
            terms = distilled(terms, SELF, self.self_distill)
            terms = hinted(distilled(terms, TEMPORAL, self.temporal_distill), self.hint)
            return objectives(terms, self.weight, pairs=pairs)
        if not self.stage:
            return objectives(tuple({term.name: term for stage in every for term in stage.terms}.values()), self.weight)
        terms = every[self.stage - 1].terms
        weights = default_weights(terms)
        return objectives(terms, [item for item in self.weight if named(item.partition("=")[0], weights)])

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of every term of the loss, by full name."""
        return self.objectives.weights

    @property
    def start_grid(self) -> int:
        """Number of frames between possible starts of clips."""
        stored = self.teacher and (self.cache or self.role_teachers)
        return self.window_step or (CACHED_STEP if stored else 1)

    def value(self, name: str) -> Any:
        """Return the value of a setting that a run has; the default of ``--window-step`` depends on other settings."""
        return self.start_grid if name == "window_step" else getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values, for YAML, JSON and checkpoints."""
        plain = {}
        for item in fields(self):
            value = getattr(self, item.name)
            plain[item.name] = (
                list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
            )
        return plain

    def differences(self, other: TrainConfig) -> list[str]:
        """Return the names of fields that a resumed run may not change, and that differ from ``other``."""
        return [f.name for f in fields(self) if f.metadata["fixed"] and self.value(f.name) != other.value(f.name)]
