"""Find the videos of a run: labeled datasets, folders of unlabeled videos, and the held-out part for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..datasets import LAYOUTS, Video, open_dataset
from ..datasets.catalog import catalog, require_folder
from ..datasets.images import VIDEO_SUFFIXES, natural_key
from ..errors import InputError, UsageError
from ..models import LossTerm
from ..models.spec import Task
from ..wording import plural
from .objectives import AUXILIARY, LABELED
from .options import TrainConfig

TRAINING_SPLIT = "train"
VALIDATION_SPLITS = ("val", "public_test", "test")
"""Splits to validate on; the first one that a layout has. The private test of a challenge is only for the result."""


@dataclass(frozen=True)
class RunVideos:
    """The videos of a run; none of them has been read."""

    targets: tuple[Video, ...]
    """Labeled videos for training."""
    aux: tuple[Video, ...]
    """Unlabeled videos for training."""
    val_targets: tuple[Video, ...]
    """Labeled videos for validation."""
    val_aux: tuple[Video, ...]
    """Unlabeled videos for validation against the teacher's maps."""

    @property
    def groups(self) -> tuple[tuple[Video, ...], ...]:
        """All videos: those for training, labeled and unlabeled, then those for validation."""
        return self.targets, self.aux, self.val_targets, self.val_aux


def split_argument(argument: str) -> tuple[str | None, Path]:
    """Return the layout (None if not given) and the folder of ``[LAYOUT:]DIR``, or of the name of a known dataset."""
    if named := named_folder(argument):
        return catalog()[argument].layout or None, named
    layout, colon, rest = argument.partition(":")
    return (layout, Path(rest)) if colon and layout in LAYOUTS else (None, Path(argument))


def named_folder(argument: str) -> Path | None:
    """Return the folder of a known dataset; None if the argument is not the name of one, or is a folder.

    Raises:
        UsageError: the folder is not known.
    """
    if argument not in catalog() or Path(argument).is_dir():
        return None
    return require_folder(argument)


def labeled(argument: str, splits: Sequence[str], task: Task = "fixation") -> tuple[Video, ...]:
    """Return the videos of ``[LAYOUT:]DIR``, or of a known dataset, that have ground truth.

    Args:
        argument: Name of a known dataset, or folder and layout. The default layout of a folder is ``images`` if it
            contains images and maps or masks of the same names, else ``folder``.
        splits: Names of splits; the first one that the layout has is used.
        task: Task of the network, which needs masks of objects or maps of fixations.

    Raises:
        InputError: No video has ground truth, or labels and frames do not match.
    """
    layout, root = split_argument(argument)
    if layout is None:
        labels = root / ("masks" if task == "object" else "maps")
        flat = (root / "images").is_dir() and labels.is_dir() and not looks_like_a_video(root)
        layout = "images" if flat else "folder"
    split = next((name for name in splits if name in LAYOUTS[layout].splits), None)
    videos = open_dataset(layout, root, split).videos
    for video in videos:
        check_labels(video)
    annotated = tuple(video for video in videos if has_labels(video, task))
    if not annotated:
        missing = "masks of objects" if task == "object" else "ground truth"
        raise InputError(
            f"{root}: no {missing} for {plural(len(videos), 'video')}; to train without ground truth, use --aux"
        )
    return annotated


def has_labels(video: Video, task: Task) -> bool:
    """Return whether a video has the ground truth of a task."""
    return bool(video.masks) if task == "object" else video.has_maps


def looks_like_a_video(root: Path) -> bool:
    """Return whether a folder with ``images`` and ``maps`` is one video: frames numbered from 0 or 1 without gaps."""
    from ..datasets.images import IMAGE_SUFFIXES, files_by_number

    numbers = set(files_by_number(root / "images", IMAGE_SUFFIXES))
    return len(numbers) > 1 and min(numbers) <= 1 and max(numbers) - min(numbers) + 1 == len(numbers)


def check_labels(video: Video) -> None:
    """Raise ``InputError`` if none of a video's ground-truth maps belongs to a frame."""
    if video.images and video.annotated and not any(frame.annotated for frame in video.frames):
        raise InputError(f"{video.source}: labels and frames do not match: no map has the same number as a frame")


def unlabeled(folder: str) -> tuple[Video, ...]:
    """Return the videos at any depth of a folder, or of a known dataset, in the order of their paths.

    This includes the layout of Kinetics.
    """
    root = named_folder(folder) or Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    paths = [path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if not paths:
        raise InputError(f"{root}: contains no videos")
    named = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return tuple(Video(name, path, None, None) for name, path in sorted(named, key=lambda pair: natural_key(pair[0])))


def hold_out(videos: Sequence[Video], fraction: float) -> tuple[tuple[Video, ...], tuple[Video, ...]]:
    """Split videos into a part for training and an evenly spaced fraction for validation."""
    if not fraction or len(videos) < 2:
        return tuple(videos), ()
    every = max(2, round(1 / fraction))
    return (
        tuple(video for index, video in enumerate(videos) if index % every != every - 1),
        tuple(videos[every - 1 :: every]),
    )


def check_targets(config: TrainConfig) -> None:
    """Raise ``UsageError`` if a configuration names no videos, or if no term of its loss has a target."""
    if not config.data and not config.aux:
        raise UsageError(
            "nothing to train on: name labeled data with --data, or videos with --aux; "
            "tinyhd datasets list shows the known datasets, none of which is on this machine"
        )
    if not config.teacher and not config.data:
        raise UsageError("without a teacher, the loss needs ground truth: name labeled data with --data")
    if not config.teacher and config.aux:
        raise UsageError("--aux: training without ground truth needs a teacher; use tinyhd distill --teacher")
    terms = config.objectives.terms
    if not any(has_target(config, term, kind) for term in terms for kind in (LABELED, AUXILIARY)):
        stage = f"stage {config.stage}: " if config.stage else ""
        missing = [] if config.data else ["--data"]
        roles = [f" {role}=NAME" for role in config.family.roles if role not in config.role_teachers]
        missing += [f"--teacher{role}" for role in roles or ([] if config.teacher else [""])]
        advice = " or ".join([*missing, "another --weight"])
        raise UsageError(f"{stage}no term of the loss of {config.model} can be computed: give {advice}")


def has_target(config: TrainConfig, term: LossTerm, kind: str) -> bool:
    """Return whether a term with a weight has a target on the labeled or auxiliary clips of a run."""
    if not (config.data if kind == LABELED else config.aux) or not config.objectives.weights_of(term).get(kind):
        return False
    target, _, part = term.to.partition(".")
    if target == "teacher":
        return part in config.role_teachers if part in config.family.roles else bool(config.clip_teachers)
    return True  # ground truth, or the student itself


def find(config: TrainConfig) -> RunVideos:
    """Return the videos that a configuration names.

    Raises:
        UsageError: The configuration names no videos, or lacks a teacher or ground truth that the loss needs.
        InputError: A folder does not exist, contains no videos, or lacks the ground truth that the loss needs.
    """
    check_targets(config)
    targets: list[Video] = []
    task = config.spec.task
    val_targets = [video for name in config.val for video in labeled(name, VALIDATION_SPLITS, task)]
    for name in config.data:
        kept, held_out = hold_out(labeled(name, (TRAINING_SPLIT,), task), 0 if config.val else config.hold_out)
        targets += kept
        val_targets += held_out
    aux: list[Video] = []
    val_aux: list[Video] = []
    for name in config.aux:
        kept, held_out = hold_out(unlabeled(name), config.hold_out)
        aux += kept
        val_aux += held_out
    for kind in ("density", "fixation"):
        terms = [f"target/{term.name}" for term in config.objectives.terms if term.to == kind]
        enabled = [term for term in terms if config.weights[term]]
        available = any(video.densities if kind == "density" else video.fixations for video in targets)
        if enabled and targets and not available:
            raise InputError(
                f"the loss {enabled[0]} needs {kind} maps, but --data has none; to disable it, --weight {enabled[0]}=0"
            )
    return RunVideos(tuple(targets), tuple(aux), tuple(val_targets), tuple(val_aux))
