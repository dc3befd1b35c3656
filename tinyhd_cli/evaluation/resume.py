"""The scores of the videos that an interrupted evaluation finished, so that the next run resumes there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import cache
from ..atomic_files import atomic_write, remove
from ..untrusted import parse_json, read_document
from .fixations import fingerprint
from .scoring import VideoScores

MAX_BYTES = 1 << 28
"""Size limit of a file of scores; a frame takes about 200 bytes."""

FORMAT = 1
"""Version of the files; increase it when the meaning of the scores changes."""


class FinishedVideos:
    """The scores of finished videos, kept on disk until the whole run is done.

    Args:
        inputs: everything that the scores depend on except the videos' own files; different inputs are different runs.
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True)
        key = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        parent = cache.folder("evaluations")
        self.folder = parent / key[:32] if parent else None

    def _path(self, name: str, files: Sequence[Path]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
        return self.folder / f"{digest[:16]}-{fingerprint(files)[:16]}.json"

    def get(self, name: str, files: Sequence[Path]) -> VideoScores | None:
        """Return the scores of a video; None if it was not finished or one of its files has changed since."""
        if self.folder is None:
            return None
        try:
            scores = VideoScores(**parse_json(read_document(self._path(name, files), MAX_BYTES)))
            whole = all(len(column) == len(scores.numbers) for column in scores.scores.values())
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return scores if whole else None

    def put(self, scores: VideoScores, files: Sequence[Path]) -> None:
        """Save the scores of a video; ``OutputError`` if the cache cannot be written."""
        if self.folder is None:
            return
        with atomic_write(self._path(scores.name, files)) as temporary:
            temporary.write_text(json.dumps(scores.to_dict()), encoding="utf-8")

    def clear(self) -> None:
        """Delete all saved scores, after the run is complete."""
        if self.folder is not None:
            remove(self.folder)
