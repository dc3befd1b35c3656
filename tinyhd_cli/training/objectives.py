"""The terms of the training loss by name, with their weights. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError, did_you_mean
from ..models import LossTerm

LABELED, AUXILIARY = "target", "aux"
"""Kinds of clips, and the prefixes of terms in logs and in ``--weight``."""


@dataclass(frozen=True)
class Objectives:
    """The loss of a run: the family's terms for both kinds of clips, and the weight of each."""

    terms: tuple[LossTerm, ...]
    weights: Mapping[str, float]
    """Weight by full name, e.g. ``target/final``; in the order of the columns of the log."""

    @property
    def value_based(self) -> bool:
        """Whether a term with a weight compares the values of averaged maps of teachers, not only their shape.

        Terms of teachers with roles do not: the maps of these teachers are scaled to a maximum of 1.
        """
        without_role = re.compile(r"teacher(\.\d+)?")
        return any(
            term.kind in ("mse", "bce") and without_role.fullmatch(term.to) and any(self.weights_of(term).values())
            for term in self.terms
        )

    def weights_of(self, term: LossTerm) -> dict[str, float]:
        """Return the weights of a term by kind of clips."""
        names = {kind: f"{kind}/{term.name}" for kind in (LABELED, AUXILIARY)}
        return {kind: self.weights[name] for kind, name in names.items() if name in self.weights}


def default_weights(terms: Sequence[LossTerm]) -> dict[str, float]:
    """Return the default weights by full name: first of all terms in use, then of optional ones."""
    weights = {
        f"{kind}/{term.name}": term.weight if kind == LABELED or term.aux_weight is None else term.aux_weight
        for kind in (LABELED, AUXILIARY)
        for term in terms
        if not (kind == AUXILIARY and term.labeled_only)
    }
    return dict(sorted(weights.items(), key=lambda item: not item[1]))


def objectives(terms: Sequence[LossTerm], overrides: Sequence[str] = ()) -> Objectives:
    """Return the objectives of a run.

    Args:
        terms: those of the student's family.
        overrides: texts such as ``target/cc=1``, or ``final=2`` for both kinds of clips.

    Raises:
        UsageError: a term is unknown, or a weight is not a number.
    """
    weights = default_weights(terms)
    for item in overrides:
        name, _, value = item.partition("=")
        meant = named(name, weights)
        if not meant:
            raise UsageError(f"--weight {item}: {did_you_mean(name, weights)}")
        try:
            weights.update({term: finite(value) for term in meant})
        except ValueError:
            raise UsageError(f"--weight {item}: must be TERM=NUMBER") from None
    return Objectives(tuple(terms), weights)


def named(name: str, weights: Iterable[str]) -> list[str]:
    """Return the full names of the terms that a name in ``--weight`` selects, such as ``aux/final`` for ``final``."""
    return [term for term in weights if name in (term, term.partition("/")[2])]


def finite(text: str) -> float:
    """Return a finite number; ``ValueError`` if the text is not one."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
