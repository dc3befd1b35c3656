"""The result of a comparison of versions, and its form as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...inference.areas import Area
from ...untrusted import csv_cell, printable
from ...version import __version__
from ...video.reader import Image
from .order import Fixation

MIN_LEAD = 0.005
"""Lead in the fraction of the attention from which a version wins an area: half a percentage point."""

SCHEMA = "urn:tinyhd:compare:1"
"""Identifier of the JSON schema; the number changes when the form of the output does."""

COLUMNS = ("share", "size", "density", "most", "most_at_s", "first_s", "time_s", "peak_s", "order")
"""Keys of the results of an area in JSON, and columns of the CSV file."""


@dataclass
class Version:
    """One of the compared images or videos, and its results."""

    id: str
    """``A``, ``B``, ... in the order of the arguments."""
    name: str
    """The file's name without suffix."""
    path: Path
    areas: tuple[Area, ...]
    kind: str = "video"
    """``image`` or ``video``."""
    width: int = 0
    height: int = 0
    frames: int = 0
    duration_s: float = 0.0
    damaged: int = 0
    """Packets and frames that could not be decoded."""
    results: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Results of each area, by name: the fields of ``areas.AreaSummary``, ``density`` and ``order``."""
    path_of_gaze: list[Fixation] = field(default_factory=list)
    """Predicted fixations; only of images."""
    times_s: list[float] = field(default_factory=list)
    shares: list[tuple[float, ...]] = field(default_factory=list)
    """Fraction of the attention on each area, for each frame."""
    attention: NDArray[np.float64] | None = None
    """Mean map, which sums to 1."""
    image: Image | None = None
    """A frame from the middle, reduced."""
    image_s: float = 0.0
    """Time of that frame."""

    @property
    def label(self) -> str:
        """Identifier and name, for people."""
        return f"{self.id} ({printable(self.name)})"


@dataclass(frozen=True)
class Lead:
    """The version with the largest fraction of the attention on an area."""

    shares: dict[str, float]
    """Fraction of the attention, by version; versions without the area are missing."""
    winner: str | None
    """None if no version leads by ``MIN_LEAD``."""
    lead: float
    """Difference between the largest and the second largest fraction; 0 if only one version has the area."""


@dataclass(frozen=True)
class Check:
    """A condition of ``--fail-if`` and whether it holds."""

    condition: str
    holds: bool
    versions: list[str]
    """Versions for which it holds; empty if the condition names all versions itself."""


@dataclass
class Comparison:
    """The result of comparing versions."""

    versions: list[Version]
    model: dict[str, str]
    threshold: float
    """Fraction of the attention from which an area counts as attended."""
    checks: list[Check] = field(default_factory=list)

    @property
    def areas(self) -> list[str]:
        """Names of all areas, in order."""
        return list(dict.fromkeys(area.name for version in self.versions for area in version.areas))

    @property
    def failed(self) -> bool:
        """Whether a condition of ``--fail-if`` holds."""
        return any(check.holds for check in self.checks)

    @property
    def has_time(self) -> bool:
        """Whether a version is a video."""
        return any(version.kind == "video" for version in self.versions)

    def lead(self, area: str) -> Lead:
        """Return the versions' fractions of the attention on an area, and the winner."""
        having = [version for version in self.versions if area in version.results]
        shares = {version.id: version.results[area]["share"] or 0.0 for version in having}
        ordered = sorted(shares, key=lambda version: -shares[version])
        if len(ordered) < 2:
            return Lead(shares, None, 0.0)
        lead = round(shares[ordered[0]] - shares[ordered[1]], 4)
        return Lead(shares, ordered[0] if lead >= MIN_LEAD else None, lead)

    def wins(self) -> dict[str, int]:
        """Return the number of areas that each version wins."""
        winners = [self.lead(area).winner for area in self.areas]
        return {version.id: winners.count(version.id) for version in self.versions}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON output, which :func:`schema` describes."""
        return {
            "schema": SCHEMA,
            "tinyhd": __version__,
            "model": self.model,
            "threshold": self.threshold,
            "versions": [version_dict(version) for version in self.versions],
            "areas": {area: lead_dict(self.lead(area), self.versions) for area in self.areas},
            "wins": self.wins(),
            "checks": [vars(check) for check in self.checks],
        }

    def to_csv(self) -> str:
        """Return a table with one row per version and area."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["version", "name", "area", *COLUMNS])
        for version in self.versions:
            for area, found in version.results.items():
                values = ["" if found[key] is None else found[key] for key in COLUMNS]
                writer.writerow([version.id, csv_cell(version.name), csv_cell(area), *values])
        return text.getvalue()


def version_dict(version: Version) -> dict[str, Any]:
    """Return the JSON of one version."""
    keys = ("id", "name", "kind", "width", "height", "frames", "damaged")
    return {
        **{key: getattr(version, key) for key in keys},
        "file": str(version.path),
        "duration_s": None if version.kind == "image" else round(version.duration_s, 6),
        "areas": version.results,
        "gaze_path": [vars(fixation) for fixation in version.path_of_gaze],
    }


def lead_dict(lead: Lead, versions: Sequence[Version]) -> dict[str, Any]:
    """Return the JSON of one area: the first version that has it is the base of the differences."""
    base, *others = [version.id for version in versions if version.id in lead.shares]
    return {
        "shares": lead.shares,
        "differences": {other: round(lead.shares[other] - lead.shares[base], 4) for other in others},
        "winner": lead.winner,
        "lead": lead.lead,
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the JSON output."""
    text = resources.files("tinyhd_cli.apps.compare").joinpath("schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
