"""Cut a long video into parts that are predicted separately, perhaps at the same time and on several machines.

Everything about the parts is in a hidden folder next to the outputs: the plan, and a folder for each finished part.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import cannot_write, destination, is_special, make_parent, remove, temporary_path
from ..errors import TinyhdError, UsageError
from ..storage import name_of, url_of
from ..version import __version__
from ..video.frame_index import FrameIndex, read_index
from ..video.images import image_decoder
from ..video.source import is_read_once
from .options import ANIMATIONS, STDOUT, Outputs, PredictOptions, flag

MAX_FROM_START = 8
"""Maximum number of parts that are decoded from the same keyframe, or from the start of the video, on average."""

PLAN = "plan.npz"
"""File of a folder of parts: the index of the frames, and where the parts begin."""

KEY = "key.json"
"""File of a folder of parts: identifies the work, so that only parts of the same work are used again."""

DONE = "part.json"
"""File of a finished part: facts about it."""


@dataclass(frozen=True)
class Part:
    """A part of a video, as an item of work."""

    number: int
    count: int
    """Number of parts of the video."""
    folder: Path
    """The folder of all parts."""
    passes: int = 1
    """Number of passes over the part: 2 if the maps' scale must be known before they are drawn."""
    only_maps: bool = False
    """Whether only the maps are predicted, in the first of two passes."""

    @property
    def done(self) -> Path:
        """The folder of the results, which exists if the part is finished."""
        return self.folder / f"{'maps' if self.only_maps else 'part'}-{self.number:05d}"

    def facts(self) -> dict[str, Any]:
        """Return the facts about the finished part; ``OSError``, ``ValueError`` or ``KeyError`` if it is damaged."""
        found: dict[str, Any] = json.loads((self.done / DONE).read_text(encoding="utf-8"))
        for name, size in found["files"].items():
            if (self.done / name).stat().st_size != size:
                raise ValueError(f"{self.done / name} is damaged")
        return found


class CancelledError(TinyhdError):
    """The folder of the parts was removed, because another part failed."""


@dataclass(frozen=True)
class Plan:
    """The frames of a video, and where its parts begin."""

    index: FrameIndex
    starts: tuple[int, ...]
    """Number of the first frame of each part."""

    def range_of(self, number: int) -> tuple[int, int | None]:
        """Return the first frame of a part, and the number after its last frame: None for the end of the video."""
        return self.starts[number], self.starts[number + 1] if number + 1 < len(self.starts) else None

    def save(self, folder: Path) -> None:
        """Write the plan to a folder."""
        index, base = self.index, self.index.time_base
        temporary = folder / f".{PLAN}"
        np.savez(
            temporary,
            pts=index.pts,
            keyframes=index.keyframes,
            seek_times=index.seek_times,
            time_base=np.array([base.numerator, base.denominator], np.int64),
            starts=np.array(self.starts, np.int64),
        )
        temporary.replace(folder / PLAN)


def read_plan(folder: Path) -> Plan:
    """Return the plan in a folder of parts; ``CancelledError`` if it does not exist any more."""
    try:
        with (folder / PLAN).open("rb") as file, np.load(file, allow_pickle=False) as found:
            base = Fraction(*found["time_base"].tolist())
            index = FrameIndex(found["pts"], found["keyframes"], found["seek_times"], base)
            return Plan(index, tuple(found["starts"].tolist()))
    except FileNotFoundError:
        raise CancelledError(f"{folder}: was removed") from None


def saved_plan(folder: Path) -> Plan | None:
    """Return the plan of an earlier run; None if there is none, or it is damaged."""
    with contextlib.suppress(TinyhdError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return read_plan(folder)
    return None


def check_can_split(video: Path, outputs: Outputs, split: str) -> None:
    """Raise ``UsageError`` if a video with these outputs cannot be cut into parts."""
    if reason := why_whole(video, outputs):
        raise UsageError(f"--split {split}: {reason}; leave the option out")


def why_whole(video: Path, outputs: Outputs) -> str:
    """Return why an input is processed in one piece, whatever its length; empty if it need not be."""
    if is_read_once(video):
        return f"{video} is a pipe, which can be read only once"
    for kind, path in outputs.requested():
        if url_of(path) is not None:
            return f"{flag(kind)} {path} is in an object store, in which parts are not joined"
        if path == STDOUT or is_special(path):
            return f"{flag(kind)} {path} is a pipe, which needs all frames in order"
        if kind in ("overlay", "maps") and path.suffix.lower() in ANIMATIONS:
            return f"{flag(kind)} {path} is an animated image, which is not joined from parts"
    return ""


def make_parts(
    video: Path,
    outputs: Outputs,
    options: PredictOptions,
    seconds: float,
    longer_than_s: float,
    work: object,
    *,
    keep: bool,
    all_outputs: Outputs | None = None,
) -> list[Part]:
    """Plan the parts of a video, and create the folder for them next to its outputs.

    Args:
        video: the input.
        outputs: its outputs.
        options: those of the prediction.
        seconds: maximum length of a part.
        longer_than_s: length up to which a video is not cut, in seconds.
        work: everything else on which the results depend, with a complete ``repr``.
        keep: whether to use finished parts of an earlier run that was interrupted.
        all_outputs: also those that exist already; the folder is named after them, so that a later run finds it.

    Returns:
        The parts; none if the video is not longer, or is not a video.

    Raises:
        InputError: the video cannot be read.
        OutputError: the folder cannot be created.
    """
    if why_whole(video, outputs):
        return []
    if (images := image_decoder(video, options.input)) is not None:
        images.close()
        return []
    index = read_index(video, options.input, longer_than_s=longer_than_s)
    if index is None or index.length_s <= longer_than_s:
        return []
    starts = starts_of(index, seconds)
    if len(starts) < 2:
        return []
    folder, identity = folder_of(all_outputs or outputs), key_of(video, outputs, options, seconds, work)
    try:
        if not (keep and saved_key(folder) == identity):
            remove(folder)
            folder.mkdir()
            (folder / KEY).write_text(json.dumps({"key": identity}), encoding="utf-8")
        plan = saved_plan(folder)
        if plan is None:
            plan = Plan(index, tuple(starts))
            plan.save(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    passes = 2 if needs_two_passes(outputs, options) else 1
    return parts_in(folder, len(plan.starts), passes)


def parts_in(folder: Path, count: int, passes: int) -> list[Part]:
    """Return all parts of a video, for their first pass."""
    return [Part(number, count, folder, passes, only_maps=passes > 1) for number in range(count)]


def starts_of(index: FrameIndex, seconds: float) -> list[int]:
    """Return the first frames of parts of equal length, each at most ``seconds`` long."""
    begin_s, length_s = index.time_s(0), index.length_s
    count = max(1, math.ceil(length_s / seconds))
    count = min(count, MAX_FROM_START * max(1, len(index.keyframes)))
    return sorted({0} | {index.first_at(begin_s + length_s * number / count) for number in range(1, count)})


def cancel(folder: Path) -> None:
    """Stop the work on parts that have not begun: without the plan, it is not started."""
    remove(folder / PLAN)


def replan(parts: list[Part], plan: Plan) -> list[Part]:
    """Plan the parts of a video again, whose index has turned out to be wrong: each is decoded from its start.

    Args:
        parts: all parts.
        plan: their plan.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder, index = parts[0].folder, plan.index.without_seeking()
    starts = starts_of(index, index.length_s / len(parts))
    try:
        identity = (folder / KEY).read_bytes()
        remove(folder)
        folder.mkdir()
        Plan(index, tuple(starts)).save(folder)
        (folder / KEY).write_bytes(identity)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return parts_in(folder, len(starts), parts[0].passes)


def remove_parts(video: Path, outputs: Outputs) -> None:
    """Remove the parts that an interrupted run has kept, because the outputs were written in one piece."""
    if not why_whole(video, outputs):
        remove(folder_of(outputs))


def needs_two_passes(outputs: Outputs, options: PredictOptions) -> bool:
    """Return whether maps are drawn with one scale for the whole video, which is known after all are predicted."""
    return options.normalize == "video" and bool(outputs.overlay or outputs.maps)


def folder_of(outputs: Outputs) -> Path:
    """Return the folder for the parts of a video: hidden, next to its first output."""
    first = outputs.requested()[0][1]
    make_parent(first)
    target = destination(first)
    names = "\0".join(str(path.absolute()) for _, path in outputs.requested())
    return target.with_name(
        f".{target.stem[:24]}.{hashlib.sha256(names.encode(errors='replace')).hexdigest()[:8]}.parts"
    )


def key_of(video: Path, outputs: Outputs, options: PredictOptions, seconds: float, work: object) -> str:
    """Return a text that is the same only for the same work on an unchanged file."""
    state = None if url_of(video) else video.stat()
    file = (name_of(video), state and (state.st_size, state.st_mtime_ns))
    facts = (file, outputs, options, seconds, work, __version__)
    with np.printoptions(threshold=sys.maxsize, precision=17):  # of areas' corners
        return hashlib.sha256(repr(facts).encode(errors="replace")).hexdigest()


def saved_key(folder: Path) -> str:
    """Return the key of the parts in a folder; empty if there are none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((folder / KEY).read_text(encoding="utf-8"))["key"])
    return ""


def new_folder(part: Part) -> Path:
    """Create a temporary folder for the results of a part; a process that is killed leaves no other."""
    folder = temporary_path(part.done)
    try:
        remove(folder)
        folder.mkdir()
    except FileNotFoundError:
        raise CancelledError(f"{part.folder}: was removed") from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def finish(part: Part, folder: Path, facts: dict[str, Any]) -> None:
    """Give the results of a part their final name, unless another process has finished the same part meanwhile."""
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in files:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
        (folder / DONE).write_text(json.dumps({**facts, "files": sizes}), encoding="utf-8")
        if not part.done.exists():
            folder.rename(part.done)
    except OSError as error:
        if not part.done.exists():
            raise cannot_write(part.done, error) from error
