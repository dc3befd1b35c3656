"""Receive the files that visitors drop on the page, within limits, and look at their first frame."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...errors import InputError, TinyhdError
from ...untrusted import printable
from ...video.images import is_static_image
from ...video.reader import VideoInfo, VideoReader
from .options import AppOptions, size_text, time_text
from .workspace import Workspace

MAX_NAME = 80
"""Maximum number of characters of a file's name that are kept."""

POSTER_SIDE = 1280
"""Longer side of the still image that is shown of each file, in pixels."""

SPARE = 200 * 10**6
"""Bytes that must stay free on the disk."""


class TooLarge(TinyhdError):
    """An upload is larger than the limit, or than the disk."""


@dataclass(frozen=True)
class Upload:
    """A file that a visitor uploaded."""

    path: Path
    info: VideoInfo
    seconds: float | None
    """Duration by the file's own account; None if it has none."""
    is_image: bool

    @property
    def poster(self) -> Path:
        """A JPEG of the first frame."""
        return self.path.with_name(".poster.jpg")


def safe_name(name: str) -> str:
    """Return a file name without folders, control characters, and characters that some systems do not allow."""
    base = printable(re.split(r"[/\\]", name)[-1]).replace("\\", "_")
    stem, dot, suffix = re.sub(r'[<>:"|?*{}%$]', "_", base).strip(". ").rpartition(".")
    if not dot or not re.fullmatch(r"\w{1,8}", suffix):
        stem, dot, suffix = stem + dot + suffix, "", ""
    return f"{stem[:MAX_NAME].strip('. ') or 'file'}{dot}{suffix}"


def check_size(size: int, name: str, options: AppOptions, folder: Path) -> None:
    """Raise :class:`TooLarge` for a file of at least ``size`` bytes that is too large for the page or for the disk."""
    if size > options.max_size:
        raise TooLarge(f"{name} is larger than {size_text(options.max_size)}, the limit; choose a smaller file")
    free = shutil.disk_usage(folder).free
    if 2 * size + SPARE > free:
        raise TooLarge(f"{name} does not fit: only {size_text(free)} are free on the disk; try again later")


async def receive(
    chunks: AsyncIterator[bytes], claimed: int, name: str, workspace: Workspace, options: AppOptions
) -> tuple[str, Path]:
    """Write an upload to the workspace, and return its identifier and its path.

    Args:
        chunks: the content.
        claimed: its size in bytes as the browser states it; 0 if it is not stated.
        name: the file's name.
        workspace: keeps the file.
        options: the limits. A file that is too large is refused before anything is written if its size is stated,
            else as soon as the limit is reached.

    Raises:
        TooLarge: the file is too large.
    """
    name = safe_name(name)
    check_size(claimed, name, options, workspace.root)
    identifier, entry = workspace.add()
    path, size = entry.folder / name, 0
    try:
        with workspace.using(entry), path.open("wb") as file:  # a slow upload may take longer than an hour
            async for chunk in chunks:
                size += len(chunk)
                if size > max(claimed, 1 << 20):
                    check_size(size, name, options, workspace.root)
                file.write(chunk)
    except BaseException:  # too large, a full disk, or the visitor has left
        workspace.remove(identifier)
        raise
    return identifier, path


def inspect(path: Path, options: AppOptions) -> Upload:
    """Read the first frame of an upload, and write its poster.

    Raises:
        InputError: it cannot be read, or is too long. The message names the file without its folder.
    """
    try:
        with VideoReader(path) as reader:
            info, frame = reader.info, next(iter(reader), None)
            if frame is None:
                raise InputError(f"{path.name}: contains no frame")
            image = frame.reduced_rgb(max(1.0, max(info.width, info.height) / POSTER_SIDE))
            count = reader.frame_count
    except InputError as error:
        raise InputError(without_folder(str(error), path.parents[1])) from error
    seconds = count / float(info.rate) if count else None
    upload = Upload(path, info, seconds, is_static_image(path))
    if not upload.is_image:
        check_duration(upload, seconds, options)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
    upload.poster.write_bytes(data.tobytes())
    return upload


def check_duration(upload: Upload, seconds: float | None, options: AppOptions) -> None:
    """Raise ``InputError`` for a video that is longer than the limit."""
    if seconds is not None and seconds > options.max_seconds + 1 / float(upload.info.rate):
        limit = time_text(options.max_seconds)
        raise InputError(f"{upload.path.name} is {time_text(seconds)} long; the limit is {limit}; trim it first")


def without_folder(message: str, root: Path) -> str:
    """Return a message without the folders of a workspace, which visitors do not know."""
    return re.sub(rf"{re.escape(str(root))}[/\\][0-9a-f]{{32}}[/\\]?", "", message)
