"""The numbers and files of a finished job, as the page shows them."""

from __future__ import annotations

import csv
import json
import math
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...atomic_files import atomic_write
from ...untrusted import json_text
from ...wording import damage
from ..report.data import diagonal
from ..report.page import describe_focus
from .uploads import Upload

MAX_POINTS = 2000
"""Maximum number of points of a curve that are sent to the page; more cannot be seen."""

ARCHIVE = "all"
"""Stands for the archive of all files, in addresses."""

LABELS = {
    "overlay": "Overlay",
    "maps": "Maps in gray",
    "cutout": "Cut-out",
    "csv": "Numbers per frame",
    "json": "Summary",
    "aoi_plot": "Plot of the areas",
    "areas": "Areas",
}
"""Kinds of files, in the order in which the page lists them, and their names there."""


@dataclass
class Result:
    """The files of a finished job."""

    stem: str
    files: dict[str, Path] = field(default_factory=dict)
    """The files that can be downloaded, by kind; see ``LABELS``."""
    is_wide: bool = False
    """Whether the overlay has the source at its left."""
    source: Path | None = None
    """A copy of the source that browsers can play, if they cannot play the upload."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def find(self, kind: str) -> Path | None:
        """Return the file of a kind; None if there is none."""
        if kind == "source":
            return self.source
        return self.archive() if kind == ARCHIVE else self.files.get(kind)

    def archive(self) -> Path:
        """Return a ZIP archive of all files; it is written when it is first wanted."""
        path = self.files["overlay"].with_name(f"{self.stem}_tinyhd.zip")
        with self._lock:
            if not path.exists():
                with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:  # they are compressed
                    for file in self.files.values():
                        archive.write(file, file.name)
        return path


def describe(identifier: str, result: Result, upload: Upload, is_object: bool) -> dict[str, Any]:
    """Return the description of a result for the page: files, numbers and curves."""
    summary = json.loads(result.files["json"].read_text(encoding="utf-8"))
    address = f"results/{identifier}/"
    files = [
        {"kind": kind, "label": label, "name": file.name, "url": address + kind, "bytes": file.stat().st_size}
        for kind, label in LABELS.items()
        if (file := result.files.get(kind))
    ]
    return {
        "files": files,
        "archive": address + ARCHIVE,
        "source": f"{address}source" if result.source else None,
        "is_image": upload.is_image,
        "is_object": is_object,
        "is_wide": result.is_wide,
        "damaged": damage(summary["damaged"]) if summary["damaged"] else "",
        "seconds": summary["duration_s"],
        "mean": {"area": summary["mean"].get("area")},
        "focus": "" if is_object else describe_focus(summary["mean"]["spread"], upload.info),
        "areas": summary.get("areas", {}),
        "model": summary["model"]["name"],
        "curves": curves(result.files["csv"], upload, list(summary.get("areas", {})), is_object),
    }


def curves(table: Path, upload: Upload, areas: Sequence[str], is_object: bool) -> dict[str, Any]:
    """Return the curves over time: of each area, and of the spread of the attention or the object's size.

    Returns:
        ``time_s`` (seconds), ``main`` (fractions of the diagonal, or of the frame), and ``areas`` by name (fractions of
        the attention or of the object).
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    header, rows = rows[0], rows[1:]
    rows = rows[:: math.ceil(len(rows) / MAX_POINTS) or 1]
    time_column, main_column = header.index("time_s"), header.index("area" if is_object else "spread")
    first_area = len(header) - len(areas)
    unit = 1.0 if is_object else diagonal(upload.info)
    return {
        "time_s": [float(row[time_column]) for row in rows],
        "main": [round(float(row[main_column]) / unit, 5) for row in rows],
        "areas": {name: [float(row[first_area + index]) for row in rows] for index, name in enumerate(areas)},
    }


def strip_folders(summary: Path, upload: Upload) -> None:
    """Replace the paths in a JSON summary by names, so that visitors do not learn the folders of this machine."""
    content = json.loads(summary.read_text(encoding="utf-8"))
    content["video"] = upload.path.name
    content["outputs"] = {kind: Path(path).name for kind, path in content["outputs"].items()}
    summary.write_text(json_text(content), encoding="utf-8")
