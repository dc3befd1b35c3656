"""Write fixation maps and density maps of every frame as a dataset in the ``folder`` layout."""

from __future__ import annotations

import shutil
from pathlib import Path

from ...atomic_files import cannot_write, remove, temporary_path
from ...errors import OutputError, UsageError
from ...inference.outputs import map_names
from ...video.image_writer import ImageSequenceWriter
from ...video.source import is_read_once
from .frames import FrameResult


class FolderWriter:
    """Writes the dataset ``root``: ``NAME.mp4``, a link to the video; ``maps/NAME`` and ``fixation/NAME`` with PNGs.

    ``tinyhd evaluate --dataset folder --root`` and ``tinyhd train --data`` read it. Several videos can share a root.
    Frames without gaze get no maps.

    Args:
        root: the dataset's folder.
        video: a video file or a folder of images.

    Raises:
        UsageError: the video is a pipe.
        OutputError: the folder cannot be written, or has another video of this name.
    """

    def __init__(self, root: Path, video: Path) -> None:
        if is_read_once(video):
            raise UsageError(f"--out: a dataset cannot contain {video}, a pipe; give a file")
        self._link, self._video = root / video.resolve().name, video.resolve()
        if self._link.exists() and not self._is_video():
            raise OutputError(f"{self._link}: is another video of this name; give another --out")
        name = self._link.stem if video.is_file() else self._link.name
        names = map_names(video)
        self._density = ImageSequenceWriter(root / "maps" / name, names)
        self._fixation = ImageSequenceWriter(root / "fixation" / name, names)

    def _is_video(self) -> bool:
        """Return whether the link, or the file at its place, is the video or a copy of it."""
        if self._link.samefile(self._video):
            return True
        if self._link.is_symlink() or not self._link.is_file():
            return False
        return self._link.stat().st_size == self._video.stat().st_size

    def write(self, done: FrameResult) -> None:
        """Write the maps of the next frame."""
        self._density.store(done.density_png, done.shown.frame)
        self._fixation.store(done.fixation_png, done.shown.frame)

    def close(self) -> None:
        """Give the folders their final names, and link the video."""
        self._density.close()
        self._fixation.close()
        if self._link.exists() and self._is_video():
            return
        link_to(self._video, self._link)

    def abort(self) -> None:
        """Remove all temporary folders."""
        self._density.abort()
        self._fixation.abort()


def link_to(source: Path, link: Path) -> None:
    """Make a symbolic link, or a copy where links are not allowed; it replaces an earlier link.

    Raises:
        OutputError: neither is possible.
    """
    if link.is_symlink():
        link.unlink()  # or the temporary path would be next to its target
    temporary = temporary_path(link)
    try:
        try:
            temporary.symlink_to(source)
        except OSError:  # Windows, without the right to make links
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, temporary)
        temporary.replace(link)
    except OSError as error:
        raise cannot_write(link, error) from error
    finally:
        remove(temporary)
