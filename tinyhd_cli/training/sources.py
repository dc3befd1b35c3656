"""Where clips come from: labeled sets, folders of videos, and what of them is kept back for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..datasets import LAYOUTS, Video, open_dataset
from ..datasets.images import natural_key
from ..datasets.layouts import VIDEO_SUFFIXES
from ..errors import InputError, UsageError
from ..wording import plural
from .options import TrainConfig

TRAINING_SPLIT = "train"
VALIDATION_SPLITS = ("val", "test")


@dataclass(frozen=True)
class Found:
    """The videos of a run. Nothing of them is read yet."""

    targets: tuple[Video, ...]
    """Labeled ones to train on."""
    aux: tuple[Video, ...]
    """Unlabeled ones."""
    val_targets: tuple[Video, ...]
    """Labeled ones to validate on."""
    val_aux: tuple[Video, ...]
    """Unlabeled ones whose teacher's maps are validated on."""


def split_name(argument: str) -> tuple[str | None, Path]:
    """Layout, if it is named, and folder of ``[LAYOUT:]DIR``."""
    layout, colon, rest = argument.partition(":")
    return (layout, Path(rest)) if colon and layout in LAYOUTS else (None, Path(argument))


def labeled(argument: str, splits: Sequence[str]) -> tuple[Video, ...]:
    """The videos of ``[LAYOUT:]DIR`` that have ground truth.

    Args:
        argument: without a layout, ``images`` where pictures are named as their maps are, else ``folder``.
        splits: the first of these that the layout has.

    Raises:
        InputError: there are none, or labels and frames do not match.
    """
    layout, root = split_name(argument)
    if layout is None:
        flat = (root / "images").is_dir() and (root / "maps").is_dir() and not looks_like_a_video(root)
        layout = "images" if flat else "folder"
    split = next((name for name in splits if name in LAYOUTS[layout].splits), None)
    videos = open_dataset(layout, root, split).videos
    for video in videos:
        check(video)
    annotated = tuple(video for video in videos if video.annotated)
    if not annotated:
        raise InputError(
            f"{root}: no ground truth for any of {plural(len(videos), 'video')}; to train without it, use --aux"
        )
    return annotated


def looks_like_a_video(root: Path) -> bool:
    """Whether a folder with ``images`` and ``maps`` is one video, whose frames are numbered from about 1 on."""
    from ..datasets.images import IMAGE_SUFFIXES, MAP_SUFFIXES, files_by_number

    kinds = (("images", IMAGE_SUFFIXES), ("maps", MAP_SUFFIXES))
    numbers = [set(files_by_number(root / kind, suffixes)) for kind, suffixes in kinds]
    consecutive = bool(numbers[0]) and max(numbers[0]) - min(numbers[0]) + 1 == len(numbers[0])
    return consecutive and len(numbers[0]) > 1 and min(numbers[0]) <= 1


def check(video: Video) -> None:
    """Raise ``InputError`` if a video's ground truth belongs to none of its frames."""
    if video.images and video.annotated and not any(frame.density or frame.fixation for frame in video.frames):
        raise InputError(f"{video.source}: no map has the number of a frame: labels and frames do not match")


def unlabeled(folder: str) -> tuple[Video, ...]:
    """The videos at any depth of a folder, in the order of their paths: Kinetics' layout, or flat."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: {'is no folder' if root.exists() else 'no such folder'}")
    paths = [path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if not paths:
        raise InputError(f"{root}: no videos in it")
    named = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return tuple(Video(name, path, None, None) for name, path in sorted(named, key=lambda pair: natural_key(pair[0])))


def hold_out(videos: Sequence[Video], share: float) -> tuple[tuple[Video, ...], tuple[Video, ...]]:
    """Videos to train on, and a share of them to validate on, evenly spread over their order."""
    if not share or len(videos) < 2:
        return tuple(videos), ()
    every = max(2, round(1 / share))
    return (
        tuple(video for index, video in enumerate(videos) if index % every != every - 1),
        tuple(videos[every - 1 :: every]),
    )


def find(config: TrainConfig) -> Found:
    """The videos that a configuration names.

    Raises:
        UsageError: it names none, or a loss without the data that it needs.
        InputError: there is nothing where it says.
    """
    if not config.data and not config.aux:
        raise UsageError("nothing to train on: name labeled data with --data, or videos with --aux")
    if not config.teacher and not config.data:
        raise UsageError("without a teacher the loss needs ground truth: name labeled data with --data")
    if not config.teacher and config.aux:
        raise UsageError("--aux has no ground truth: it needs a teacher (tinyhd distill --teacher)")
    targets: list[Video] = []
    val_targets = [video for name in config.val for video in labeled(name, VALIDATION_SPLITS)]
    for name in config.data:
        kept, held = hold_out(labeled(name, (TRAINING_SPLIT,)), 0 if config.val else config.hold_out)
        targets += kept
        val_targets += held
    aux: list[Video] = []
    val_aux: list[Video] = []
    for name in config.aux:
        kept, held = hold_out(unlabeled(name), config.hold_out)
        aux += kept
        val_aux += held
    needs = {"density": ("ground-truth", "cc"), "fixation": ("nss",)}
    for kind, terms in needs.items():
        wanted = [f"target/{term}" for term in terms if config.weights[f"target/{term}"]]
        have = any(video.densities if kind == "density" else video.fixations for video in targets)
        if wanted and targets and not have:
            raise InputError(f"the loss {wanted[0]} needs {kind} maps and --data has none (--weight {wanted[0]}=0)")
    return Found(tuple(targets), tuple(aux), tuple(val_targets), tuple(val_aux))
