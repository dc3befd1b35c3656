"""Published scores, for comparison with measured ones: those of papers, and development figures from public code."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PublishedRow:
    """The scores of a network on a dataset."""

    table: str
    """Number of the table in the paper; empty for scores from another source."""
    method: str
    dataset: str
    split: str
    """Empty if it is not known."""
    scores: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    """Name of the network in this package; empty for methods that it does not have."""
    source: str = "Hu et al., WACV 2023"
    """Origin of the scores."""

    @property
    def label(self) -> str:
        """Short description for tables of scores."""
        return f"paper, {self.split} ({self.table})" if self.table else "development, not paper"

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {**asdict(self), "scores": dict(self.scores)}


@functools.cache
def rows() -> tuple[PublishedRow, ...]:
    """Return all rows: of Tables 1a, 1b, 2 and 5, and the development figures."""
    text = Path(__file__).with_name("paper_tables.toml").read_text(encoding="utf-8")
    return tuple(PublishedRow(**values) for values in tomllib.loads(text)["rows"])


def rows_for(dataset: str, model: str) -> tuple[PublishedRow, ...]:
    """Return the rows of a network on a dataset, for all splits."""
    return tuple(row for row in rows() if row.dataset == dataset and row.model == model)
