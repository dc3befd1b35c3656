"""The terms of the training loss by name, with their weights. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import UsageError, did_you_mean
from ..models import LossTerm
from ..models.family import FEATURES, FINAL, INTERMEDIATE, Kind

LABELED, AUXILIARY, PAIRS = "target", "aux", "pair"
"""Kinds of clips, and the prefixes of terms in logs and in ``--weight``: labeled clips, unlabeled ones, and pairs of
frames, with which object networks are trained in some steps."""

SELF, TEMPORAL = "student", "neighbor"
"""Targets of self-distillation and of temporal distillation: prefixes of :attr:`LossTerm.to`."""


@dataclass(frozen=True)
class Objectives:
    """The loss of a run: the family's terms for all kinds of clips, and the weight of each."""

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
            term.kind in ("mse", "bce", "logits")
            and without_role.fullmatch(term.to)
            and any(self.weights_of(term).values())
            for term in self.terms
        )

    def titled(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return values of terms by full name with the names that model cards have, e.g. ``KL target/final``."""
        kinds = {term.name: term.kind for term in self.terms}
        titles = {
            "kl": "KL",
            "kl-eps": "KL",
            "cc": "1 - CC of",
            "nss": "-NSS of",
            "mse": "MSE",
            "bce": "BCE",
            "logits": "BCE",
        }
        return {f"{titles[kinds[name.partition('/')[2]]]} {name}": value for name, value in values.items()}

    def weights_of(self, term: LossTerm) -> dict[str, float]:
        """Return the weights of a term by kind of clips."""
        names = {kind: f"{kind}/{term.name}" for kind in (LABELED, AUXILIARY, PAIRS)}
        return {kind: self.weights[name] for kind, name in names.items() if name in self.weights}


def default_weights(terms: Sequence[LossTerm], *, pairs: bool = False) -> dict[str, float]:
    """Return the default weights by full name: first of all terms in use, then of optional ones.

    Args:
        terms: the terms.
        pairs: whether the run has pairs of frames.
    """
    weights = {
        f"{kind}/{term.name}": default_weight(term, kind)
        for kind in (LABELED, AUXILIARY, *([PAIRS] if pairs else []))
        for term in terms
        if not (kind == AUXILIARY and term.labeled_only)
    }
    return dict(sorted(weights.items(), key=lambda item: not item[1]))


def default_weight(term: LossTerm, kind: str) -> float:
    """Return the default weight of a term on clips of a kind."""
    own = {AUXILIARY: term.aux_weight, PAIRS: term.pair_weight}.get(kind)
    return term.weight if own is None else own


def distilled(terms: Sequence[LossTerm], place: str, weight: float | None) -> tuple[LossTerm, ...]:
    """Return terms with another weight of self-distillation or temporal distillation.

    The weight is set for all terms of the kind that have one. If there are none, one term is added, with the function
    that compares the network's final maps.

    Args:
        terms: those of the student's family.
        place: ``SELF`` or ``TEMPORAL``.
        weight: the weight; None: as the family defines.
    """
    if weight is None:
        return tuple(terms)
    own = [term for term in terms if term.to.startswith(f"{place}.") and is_used(term)]
    if own:
        return tuple(reweighted(term, weight) if term in own else term for term in terms)
    if not weight:
        return tuple(terms)
    kind: Kind = next((term.kind for term in terms if term.of == FINAL and term.weight), "kl")
    name, of = ("self", INTERMEDIATE) if place == SELF else ("temporal", FINAL)
    return (*terms, LossTerm(name, kind, of=of, to=f"{place}.{FINAL}", weight=weight))


def hinted(terms: Sequence[LossTerm], weight: float | None) -> tuple[LossTerm, ...]:
    """Return terms with one more, the hint (see :mod:`.hint`); without it if ``weight`` is None or 0."""
    return (
        (*terms, LossTerm("hint", "mse", of=FEATURES, to=f"teacher.{FEATURES}", weight=weight)) if weight else (*terms,)
    )


def is_used(term: LossTerm) -> bool:
    """Return whether a term has a weight on any kind of clips."""
    return any(default_weight(term, kind) for kind in (LABELED, AUXILIARY, PAIRS))


def reweighted(term: LossTerm, weight: float) -> LossTerm:
    """Return a term with another weight on the kinds of clips on which it has one."""
    changed = {kind: weight if default_weight(term, kind) else 0.0 for kind in (LABELED, AUXILIARY, PAIRS)}
    return replace(term, weight=changed[LABELED], aux_weight=changed[AUXILIARY], pair_weight=changed[PAIRS])


def objectives(terms: Sequence[LossTerm], overrides: Sequence[str] = (), *, pairs: bool = False) -> Objectives:
    """Return the objectives of a run.

    Args:
        terms: those of the student's family.
        overrides: texts such as ``target/cc=1``, or ``final=2`` for all kinds of clips.
        pairs: whether the run has pairs of frames.

    Raises:
        UsageError: a term is unknown, or a weight is not a number.
    """
    weights = default_weights(terms, pairs=pairs)
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
