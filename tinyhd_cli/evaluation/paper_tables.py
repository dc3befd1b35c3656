"""The scores in the tables of the paper, for comparison with measured ones."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PublishedRow:
    """A row of a table of Hu et al., WACV 2023."""

    table: str
    method: str
    dataset: str
    split: str
    scores: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    """Name of the network in this package; empty for methods that it does not have."""

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {**asdict(self), "scores": dict(self.scores)}


@functools.cache
def rows() -> tuple[PublishedRow, ...]:
    """Return all rows of Tables 1a, 1b, 2 and 5."""
    text = Path(__file__).with_name("paper_tables.toml").read_text(encoding="utf-8")
    return tuple(PublishedRow(**values) for values in tomllib.loads(text)["rows"])


def rows_for(dataset: str, model: str) -> tuple[PublishedRow, ...]:
    """Return the rows of a network on a dataset, for all splits."""
    return tuple(row for row in rows() if row.dataset == dataset and row.model == model)
