"""Write fixation maps and density maps of every frame as a dataset in the ``folder`` layout."""

from __future__ import annotations

import filecmp
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from ...atomic_files import atomic_write, cannot_write, make_parent, remove, temporary_path
from ...errors import OutputError, UsageError
from ...inference.outputs import map_names
from ...untrusted import json_text
from ...video.image_writer import ImageSequenceWriter
from ...video.source import is_read_once
from ...wording import plural
from .frames import FrameResult

log = logging.getLogger("tinyhd")


class FolderWriter:
    """Writes the dataset ``root``: ``NAME.mp4``, a link to the video; ``maps/NAME`` and ``fixation/NAME`` with PNGs.

    ``tinyhd evaluate --dataset folder --root`` and ``tinyhd train --data`` read it. Several videos can share a root.
    Frames without gaze get no maps. ``gaze/NAME.json`` lists the recordings, so that a later run replaces only maps
    that a run has made.

    Args:
        root: the dataset's folder.
        video: a video file or a folder of images.
        recordings: the files that the maps are made from.

    Raises:
        UsageError: the video is a pipe.
        OutputError: the folder cannot be written, has another video of this name, or has maps of other origin.
    """

    def __init__(self, root: Path, video: Path, recordings: Iterable[Path]) -> None:
        if is_read_once(video):
            raise UsageError(f"--out: a dataset cannot contain {video}, a pipe; give a file")
        self._link, self._video = root / video.resolve().name, video.resolve()
        if self._link.exists() and not self._is_video():
            kind = "a link to another video" if self._link.is_symlink() else "another video"
            raise OutputError(f"{self._link}: is {kind} of the same name; choose another --out")
        name = self._link.stem if video.is_file() else self._link.name
        self._origin = root / "gaze" / f"{name}.json"
        self._recordings = sorted({str(path.resolve()) for path in recordings})
        folders = [root / kind / name for kind in ("maps", "fixation")]
        self._earlier = self._read_earlier(folders)
        names = map_names(video)
        self._density, self._fixation = (ImageSequenceWriter(folder, names) for folder in folders)

    def _read_earlier(self, folders: list[Path]) -> list[str]:
        """Return the recordings of an earlier run, if any.

        Raises:
            OutputError: there are maps, but no earlier run has made them.
        """
        found = [folder for folder in folders if folder.is_file() or (folder.is_dir() and any(folder.iterdir()))]
        if not found:
            return []
        try:
            earlier = json.loads(self._origin.read_bytes())["recordings"]
            return [str(path) for path in earlier]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            message = "has maps that were not made by tinyhd gaze; choose another --out"
            raise OutputError(f"{found[0]}: {message}") from None

    def _is_video(self) -> bool:
        """Return whether the link, or the file at its place, is the video or a copy of it."""
        if self._link.samefile(self._video):
            return True
        if self._link.is_symlink() or not self._link.is_file():
            return False
        return filecmp.cmp(self._link, self._video, shallow=False)

    def write(self, done: FrameResult) -> None:
        """Write the maps of the next frame."""
        self._density.store(done.density_png, done.shown.frame)
        self._fixation.store(done.fixation_png, done.shown.frame)

    def close(self) -> None:
        """Give the folders their final names, and link the video."""
        if self._earlier not in ([], self._recordings):
            log.warning("%s: the maps of %s are replaced", self._density.path, plural(len(self._earlier), "recording"))
        make_parent(self._origin)
        with atomic_write(self._origin) as temporary:  # before the maps: none may be without their origin
            temporary.write_text(json_text({"recordings": self._recordings}), encoding="utf-8")
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
