"""The interface of a model family: everything that is specific to one kind of network, in one place.

Only :attr:`Family.specs` and :meth:`Family.build` are required; all else has a default. Importing a family should not
import torch, because its specs are needed to list models and check options: import it inside the methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import UsageError, did_you_mean
from .spec import ModelSpec, is_count, is_number, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["kl", "kl-eps", "mse", "bce", "logits", "cc", "nss"]
"""Kullback-Leibler divergence, the same with the epsilon of saliency benchmarks, mean squared error, binary
cross-entropy of probabilities and of logits, 1 - CC, and -NSS."""

FINAL = "final"
"""Name of a network's output, in addition to the names of its intermediate maps."""

FEATURES = "features"
"""Name of a network's features, which ``--hint`` compares with the teacher's."""

INTERMEDIATE = "intermediate"
"""Name of all intermediate maps of a network."""


def matches(pattern: str, value: object) -> bool:
    """Return whether a value is a text with a pattern."""
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def is_frames(value: object) -> bool:
    """Return whether a value is a tuple of numbers of frames."""
    return isinstance(value, tuple) and all(is_count(frame) and frame >= 0 for frame in value)


GROUND_TRUTH = ("density", "fixation", "mask")
"""Targets of loss terms that are recorded data: maps of fixations, and masks of objects."""

ROLES = {
    "spatial": "is run on a static clip of each frame",
    "temporal": "is run on the video",
}
"""Roles of teachers: the input that a teacher with the role is run on."""


@dataclass(frozen=True)
class LossTerm:
    """A term of the training loss: the distance of one of the student's outputs from a target."""

    name: str
    """Name in logs and in ``--weight``, e.g. ``final``; logs put ``target/`` (labeled clips) or ``aux/`` before it."""

    kind: Kind
    of: str = FINAL
    """The student's output: ``final``, a key of its intermediate maps, ``KEY.I`` for map I of that key, from 0,
    ``intermediate`` for all of these maps, or ``features`` (see :attr:`Family.features`). A key stands for all of its
    maps, and for numbered repetitions of it (``d1`` for ``d1_2``); their terms are averaged. The kind ``logits`` is for
    outputs without activation."""

    to: str = "teacher"
    """The target: ``teacher`` (its final maps), ``teacher.I`` (map I of its hierarchy), ``teacher.ROLE`` (the maps of
    the teacher with a role, see :attr:`Family.roles`), ``teacher.features``, ``density``, ``fixation`` or ``mask``
    (ground truth), ``student.KEY`` (another output of the student), or ``neighbor.KEY`` (the student's output for the
    frames before and after each frame). For the kind ``logits``, the target is the sigmoid of such outputs."""

    weight: float = 1.0
    """Default weight; a term of weight 0 is computed only if ``--weight`` gives it one."""

    aux_weight: float | None = None
    """Default weight on auxiliary clips; None: :attr:`weight`."""

    pair_weight: float | None = None
    """Default weight on pairs of frames, with which object networks are trained in some steps; None: :attr:`weight`.
    On pairs, a term is the sum over both frames."""

    frames: tuple[int, ...] | None = None
    """Numbers of the frames of a clip that the term is for, from 0; None: all."""

    detached: bool = True
    """Whether a target that is an output of the student has no gradient."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.-]+", self.name):
            raise UsageError(f"loss term {shown(self.name)}: a name must be letters, digits, dots and dashes")
        kinds = get_args(Kind)
        to = "teacher, teacher.I, teacher.ROLE, density, fixation, mask, student.KEY or neighbor.KEY"
        roles = "|".join(ROLES)
        targets = rf"teacher(\.(\d+|{roles}|{FEATURES}))?|density|fixation|mask|(student|neighbor)\.[^\s.]+(\.\d+)?"
        for field, valid, wanted in (
            ("kind", self.kind in kinds, f"one of {', '.join(kinds)}"),
            ("of", matches(r"[^\s.]+(\.\d+)?", self.of), "final, KEY or KEY.I"),
            ("to", matches(targets, self.to), to),
            ("weight", is_number(self.weight), "a number"),
            ("aux_weight", self.aux_weight is None or is_number(self.aux_weight), "a number or None"),
            ("pair_weight", self.pair_weight is None or is_number(self.pair_weight), "a number or None"),
            ("frames", self.frames is None or is_frames(self.frames), "numbers of frames or None"),
            ("detached", isinstance(self.detached, bool), "True or False"),
        ):
            if not valid:
                raise UsageError(f"loss term {self.name}: {field} must be {wanted}, not {shown(getattr(self, field))}")

    @property
    def labeled_only(self) -> bool:
        """Whether the term needs ground truth, which auxiliary clips do not have."""
        return self.to in GROUND_TRUTH

    @property
    def own_output(self) -> str:
        """The student's output that is the target, or empty."""
        place, _, output = self.to.partition(".")
        return output if place in ("student", "neighbor") else ""


DEFAULT_TERMS = (
    LossTerm("final", "kl", to="teacher"),
    LossTerm("ground-truth", "kl", to="density"),
    LossTerm("cc", "cc", to="density", weight=0.0),
    LossTerm("final-cc", "cc", to="teacher", weight=0.0),
    LossTerm("nss", "nss", to="fixation", weight=0.0),
)
"""Default loss of a family: divergence from the teacher and from the ground truth; CC and NSS are optional."""

KL_CC_TERMS = (
    LossTerm("final", "kl-eps", to="teacher"),
    LossTerm("ground-truth", "kl-eps", to="density"),
    LossTerm("cc", "cc", to="density"),
    LossTerm("final-cc", "cc", to="teacher"),
    LossTerm("nss", "nss", to="fixation", weight=0.0),
)
"""KL - CC to the ground truth and to the teacher, the loss of THTD-Net and SalFoM. It is larger by 1 per CC term."""


@dataclass(frozen=True)
class Stage:
    """A training stage. It starts from the weights of the previous stage, as far as the tensors have the same names."""

    options: Mapping[str, Any]
    """Options of the network that the stage trains; ``--set`` cannot change them."""

    terms: tuple[LossTerm, ...]
    """Terms of the loss."""

    frozen: tuple[str, ...] = ()
    """Modules that are not trained: they keep the weights and running statistics of the previous stage."""


@dataclass(frozen=True)
class Reduced:
    """A network with fewer channels, made from a wider one."""

    spec: ModelSpec
    state_dict: dict[str, Tensor]
    fresh: tuple[str, ...]
    """Layers that keep their initial weights, because their shape does not halve."""


@dataclass(frozen=True)
class Flag:
    """An option of a family's networks that ``tinyhd train`` and ``distill`` also accept as ``--NAME``."""

    name: str
    """Key in :attr:`ModelSpec.options`."""

    metavar: str
    """Placeholder of the value in ``--help``."""

    help: str
    """Description in ``--help``."""


MOBILENET_V2 = ("timm/mobilenetv2_100.ra_in1k", "model.safetensors")
RESNET_50 = ("timm/resnet50.tv_in1k", "model.safetensors")
"""Hub repositories and files of networks that were trained on ImageNet."""


class Family:
    """A kind of network. Subclasses override the defaults that do not apply to them."""

    name: str = ""
    """Key of the family in specs and weights files."""

    paper: str = ""
    """Citation for model cards, e.g. ``Hu et al., WACV 2023``."""

    specs: tuple[ModelSpec, ...] = ()
    """The family's networks, each with the default value of every option."""

    flags: tuple[Flag, ...] = ()
    """Options of the networks that have an option of the command line, in addition to ``--set``; only for built-in
    families, because plugins are not imported for ``--help``."""

    pretrained: bool = False
    """Whether networks can be built only with weights from elsewhere, which are downloaded."""

    trainable: bool = True
    """Whether ``tinyhd train`` and ``tinyhd distill`` accept the family as a student."""

    intermediate: bool = False
    """Whether the networks accept ``intermediate=True`` and then return ``(saliency, {name: (N, K, T, H, W)})``,
    or ``(N, T, H, W)`` for K = 1."""

    hierarchy: str = ""
    """Key of the intermediate maps that a student may learn from, ``(N, K, T, H, W)``, shallow to deep; if any."""

    features: str = ""
    """Name of the module that returns the networks' features ``(N, C, T, H, W)``, or several tensors of which the last
    one is that, for ``--hint``; if any. The steps of T are evenly spaced over the clip."""

    named_norms: bool = False
    """Whether each BatchNorm called ``norm`` (``NAME_norm``, ``bn1``) is applied to the output of its sibling ``conv``
    (``NAME``, ``conv1``), so that it can be folded into it for inference. Norms in an ``nn.Sequential`` are folded
    anyway."""

    training_options: tuple[str, ...] = ()
    """Options that change only the training: ``--init`` accepts weights of a network with other values of them."""

    terms: tuple[LossTerm, ...] = DEFAULT_TERMS
    """Terms of the training loss."""

    slips: tuple[LossTerm, ...] = ()
    """Terms with the mistakes of the authors' program, for ``--original-slips``. They replace the terms of the same
    names in :attr:`terms`, or are added to them. Empty: no mistakes are known."""

    roles: tuple[str, ...] = ()
    """Roles of the teachers, keys of ``ROLES``. The terms name a role as ``teacher.ROLE``; a teacher that is given
    without a role has all of them. Empty: the maps of all teachers are averaged."""

    stages: tuple[Stage, ...] = ()
    """Training stages, each with its own terms; empty: one stage with :attr:`terms`."""

    init: str = "none"
    """Default of ``--init``: ``none``, or ``imagenet`` if :meth:`initialize` supports it."""

    imagenet: tuple[str, str] | None = None
    """Hub repository and file that ``--init imagenet`` downloads; see also :meth:`imagenet_file`."""

    anchors: tuple[str, ...] = ()
    """A tensor name that all state dicts of the family contain, one per naming scheme. In a checkpoint, anything
    before such a name is a prefix that a wrapper added."""

    def build(self, spec: ModelSpec) -> nn.Module:
        """Return the network with initial weights, in training mode.

        It takes clips float32 ``(N, 3, clip_frames, H, W)``, preprocessed as in the spec, and returns saliency
        ``(N, maps, H, W)``.
        """
        raise NotImplementedError

    def configure(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        """Return a spec with other values of its options.

        Raises:
            UsageError: an option is unknown or its value is invalid.
        """
        for name in options:
            if name not in spec.options:
                known = did_you_mean(name, spec.options) if spec.options else "it has no options"
                raise UsageError(f"{spec.name} has no option {name!r}: {known}")
        return replace(spec, options={**spec.options, **options})

    def check_installed(self) -> None:
        """Raise ``UsageError`` if a package is missing that only this family needs; the message says how to get it."""

    def resolve(self, spec: ModelSpec) -> ModelSpec:
        """Return a spec with the facts of files that its options name, such as the clip length of a pretrained network.

        Training calls it, so that the weights file states exactly which files it needs. The same arguments must give
        the same spec in one process.

        Raises:
            UsageError: an option does not fit these files.
            WeightsError: the files cannot be found or read.
        """
        return spec

    def notices(self, spec: ModelSpec) -> tuple[str, ...]:
        """Return lines to show before a network is trained, such as the license of a pretrained part."""
        return ()

    def validated(self, spec: ModelSpec) -> ModelSpec:
        """Return a spec that was read from a file, with the limits on the input size that this version has.

        Raises:
            UsageError: it is not that of a network of this family.
        """
        known = {one.name: one for one in self.specs}
        if spec.name not in known:
            raise UsageError(f"{self.name} has no network {shown(spec.name)}: {did_you_mean(spec.name, known)}")
        expected = self.configure(known[spec.name], spec.options)
        for name in ("name", "clip_frames", "maps", "frames_before"):
            found, wanted = getattr(spec, name), getattr(expected, name)
            if found != wanted and not (name == "frames_before" and spec.windowing == "block"):
                shown_name = "map_frame" if name == "frames_before" else name
                raise UsageError(f"{shown_name} must be {wanted}, not {found}")
        return replace(spec, size_multiple=expected.size_multiple, side_limits=expected.side_limits)

    def from_config(self, config: Mapping[str, Any]) -> ModelSpec:
        """Return the spec of a configuration in the format of version 0.1: ``architecture`` and options."""
        return self.configure(self.specs[0], {name: value for name, value in config.items() if name != "architecture"})

    def loss(self, spec: ModelSpec, *, original_slips: bool = False) -> tuple[LossTerm, ...]:
        """Return the terms of the training loss of a network that is trained in one stage.

        Args:
            spec: the network.
            original_slips: whether to reproduce the mistakes of the authors' program.

        Raises:
            UsageError: none are known.
        """
        if not original_slips:
            return tuple(self.terms)
        if not self.slips:
            raise UsageError(f"--original-slips: the loss of {spec.name} has no such variant")
        return tuple({term.name: term for term in (*self.terms, *self.slips)}.values())

    def title(self, spec: ModelSpec) -> str:
        """Return the name of a network with the options that distinguish it, for messages."""
        return spec.name

    def over_frames(self, network: nn.Module) -> nn.Module | None:
        """Return a network with a sliding window in a form that computes several maps in one pass; None without one.

        It takes consecutive frames ``(B + clip_frames - 1, 3, H, W)`` and returns the maps ``(B, 1, H, W)`` of their B
        clips: those that the network returns in evaluation mode.
        """
        return None

    # ------------------------------------------------------------------------------------------------ original files

    def is_original(self, state_dict: Mapping[str, Any]) -> bool:
        """Return whether a state dict has the tensor names of the authors' code."""
        return False

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        """Return the spec that a state dict belongs to, by original names or tinyhd's; None if it is another family's.

        Args:
            state_dict: tensors without prefixes.
            stem: name of the file without its suffix, which is all that distinguishes some original files.

        Raises:
            WeightsError: it belongs to the family, but to none of its networks.
        """
        return None

    def refusal(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return why the weights of a related network cannot be used, and what to do; empty for other tensors.

        Args:
            shapes: shapes of all tensors of a file by name.
        """
        return ""

    def rename(self, name: str) -> str | None:
        """Return tinyhd's name of an original tensor; None for an unknown tensor."""
        return name

    def convert_tensor(self, name: str, tensor: Tensor) -> Tensor:
        """Return an original tensor, given with tinyhd's name, in tinyhd's shape."""
        return tensor

    def ambiguity(self, spec: ModelSpec, stem: str = "") -> str:
        """Return the warning for an original file whose tensors and name do not determine the spec; empty if they do.

        Args:
            spec: as :meth:`recognize` returned it.
            stem: name of the file without its suffix.
        """
        return ""

    def reinterpret(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        """Return the spec with options that the same tensors allow, such as another order of branches.

        Raises:
            UsageError: the tensors do not fit such options.
        """
        if options:
            raise UsageError(f"--{min(options)}: {spec.name} has no such option")
        return spec

    # ------------------------------------------------------------------------------------------------------ training

    def imagenet_file(self, spec: ModelSpec) -> tuple[str, str] | None:
        """Return the Hub repository and file that ``--init imagenet`` downloads for a network; None without one."""
        return self.imagenet

    def is_imagenet(self, state_dict: Mapping[str, Any]) -> bool:
        """Return whether a state dict is of an ImageNet classifier that :meth:`initialize` can start from."""
        return False

    def initialize(
        self, network: nn.Module, spec: ModelSpec, state_dict: Mapping[str, Tensor], clips: Iterable[Tensor]
    ) -> None:
        """Load the weights of an ImageNet classifier into a new network.

        Args:
            network: as :meth:`build` returned it.
            spec: its spec.
            state_dict: tensors of the file.
            clips: training clips ``(N, 3, clip_frames, H, W)``, for statistics that the file lacks.

        Raises:
            WeightsError: the tensors do not fit.
        """
        raise UsageError(f"--init: {self.name} has no initialization from ImageNet; use none or a weights file")

    def init_output_bias(self, network: nn.Module) -> None:
        """Set the output biases so that maps of a new network start near zero."""
        raise UsageError(f"--sparse-init is not available for {self.name}")

    def make_static(self, network: nn.Module) -> None:
        """Turn a network into its static twin for single frames: ``(N, 3, 1, H, W)`` to ``(N, 1, H, W)``, in place."""
        raise UsageError(f"--stills: {self.name} cannot be trained on single frames")

    def with_time(self, state_dict: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a static twin as tensors of the network for clips.

        Args:
            state_dict: tensors of the static twin.
            like: tensors of the network for clips, for their shapes.
        """
        raise UsageError(f"--stills: {self.name} cannot be trained on single frames")

    def reduce_channels(
        self, spec: ModelSpec, state_dict: Mapping[str, Tensor], to: str, merge: str = "sum", seed: int = 0
    ) -> Reduced:
        """Return a narrower network whose kernels are merged from a wider one's.

        Args:
            spec: the wider network.
            state_dict: its tensors.
            to: the width.
            merge: ``sum`` or ``mean`` of merged kernels along the input.
            seed: of layers that cannot be merged.

        Raises:
            UsageError: the network cannot be reduced to that width.
        """
        raise UsageError(f"--from: {spec.name} has one width and cannot be reduced")
