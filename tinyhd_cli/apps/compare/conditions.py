"""Conditions on a comparison, such as ``cta < 12%`` or ``B.cta - A.cta < 2%``, which make a check in CI fail.

    condition  = sum ("<" | "<=" | ">" | ">=" | "==" | "!=") sum
    sum        = product {("+" | "-") product}
    product    = factor {("*" | "/") factor}
    factor     = "-" factor | "(" sum ")" | number ["%" | "s" | "ms"] | value
    value      = [version "."] area ["." measure]

Names with other characters than letters, digits and underscores may be quoted. A value without a version stands for
each version in turn, and the condition holds if it holds for one of them.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...errors import UsageError, did_you_mean

Unit = Literal["fractions", "seconds", "numbers"]

MEASURES: dict[str, tuple[str, Unit]] = {
    "share": ("share", "fractions"),
    "size": ("size", "fractions"),
    "density": ("density", "numbers"),
    "most": ("most", "fractions"),
    "first": ("first_s", "seconds"),
    "time": ("time_s", "seconds"),
    "peak": ("peak_s", "seconds"),
    "order": ("order", "numbers"),
}
"""Measures of an area: the key of the JSON output, and the unit."""

OF_TIME = frozenset({"first", "time", "peak"})
"""Measures that images do not have."""

UNITS: dict[str, tuple[Unit, float]] = {"%": ("fractions", 0.01), "s": ("seconds", 1.0), "ms": ("seconds", 0.001)}

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda one, other: one / other if other else math.copysign(math.inf, one) if one else math.nan,
}

MAX_LENGTH = 300
"""Maximum number of characters of a condition, which also limits its nesting."""

Values = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Version, area, key: the numbers of a comparison. None stands for infinity: an area that is never attended."""

Evaluate = Callable[[Values, str], float]
"""Returns the value of an expression for the version that values without a version stand for."""


@dataclass(frozen=True)
class Expression:
    """Part of a condition."""

    unit: Unit | None
    """None for a plain number, which goes with any unit."""
    evaluate: Evaluate
    areas: frozenset[str] = frozenset()
    """Areas of values without a version."""


@dataclass(frozen=True)
class Condition:
    """A condition on the numbers of a comparison."""

    text: str
    left: Expression
    right: Expression
    compare: Callable[[float, float], bool]

    @property
    def is_open(self) -> bool:
        """Whether a value has no version, so that the condition is about each version."""
        return bool(self.left.areas | self.right.areas)

    def holds(self, values: Values) -> list[str]:
        """Return the versions for which the condition holds; of a condition without open versions, all or none."""
        areas = self.left.areas | self.right.areas
        return [
            version
            for version, found in values.items()
            if areas <= found.keys()
            and self.compare(self.left.evaluate(values, version), self.right.evaluate(values, version))
        ]


def parse_condition(
    text: str, areas: Mapping[str, Sequence[str]], names: Mapping[str, str], measures: Collection[str] = MEASURES
) -> Condition:
    """Parse a condition.

    Args:
        text: the condition.
        areas: names of the areas of each version.
        names: version of each name that versions have in conditions.
        measures: the measures that all versions have.

    Raises:
        UsageError: it is malformed, mixes units, or names an unknown version, area or measure.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"--fail-if: has {len(text):,} characters; the limit is {MAX_LENGTH}")
    try:
        return Parser(text, areas, names, measures).condition()
    except ValueError as error:
        raise UsageError(f"--fail-if {text!r}: {error}") from error


class Parser:
    """Parses one condition by recursive descent; raises ``ValueError`` if it is invalid."""

    def __init__(
        self, text: str, areas: Mapping[str, Sequence[str]], names: Mapping[str, str], measures: Collection[str]
    ) -> None:
        self._text = text
        self._measures = measures
        self._areas = areas
        self._versions = names
        known = {name for found in areas.values() for name in found}
        # The longest name comes first, so that "hero-image" is not read as a difference.
        words = sorted({*known, *names} - {""}, key=len, reverse=True)
        pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)
        self._tokens = list(tokens(text, pattern))
        self._known = known

    def condition(self) -> Condition:
        left = self._sum()
        kind, sign = self._take()
        if kind != "sign" or sign not in COMPARISONS:
            raise ValueError(f"expected a comparison ({' '.join(COMPARISONS)}) {self._where(sign)}")
        right = self._sum()
        kind, rest = self._take()
        if kind != "end":
            raise ValueError(f"{rest!r} is too much; write several conditions as several --fail-if")
        check_units(left, right, f"compares {left.unit} with {right.unit}")
        return Condition(self._text, left, right, COMPARISONS[sign])

    def _sum(self) -> Expression:
        left = self._product()
        while self._tokens[0] in (("sign", "+"), ("sign", "-")):
            _, sign = self._take()
            right = self._product()
            check_units(left, right, f"{sign} mixes {left.unit} and {right.unit}")
            left = combined(sign, left, right, left.unit or right.unit)
        return left

    def _product(self) -> Expression:
        left = self._factor()
        while self._tokens[0] in (("sign", "*"), ("sign", "/")):
            _, sign = self._take()
            right = self._factor()
            if sign == "/" and left.unit == right.unit:
                left = combined(sign, left, right, "numbers" if left.unit else None)
            elif right.unit in (None, "numbers"):
                left = combined(sign, left, right, left.unit or right.unit)
            elif left.unit in (None, "numbers") and sign == "*":
                left = combined(sign, left, right, right.unit)
            else:
                place = "on its right" if sign == "/" else "on one side"
                raise ValueError(f"{sign} needs a plain number {place}")
        return left

    def _factor(self) -> Expression:
        kind, text = self._take()
        if kind == "number":
            return self._number(float(text))
        if kind in ("name", "quoted"):
            return self._value(text)
        if (kind, text) == ("sign", "-"):
            inner = self._factor()
            return Expression(inner.unit, lambda values, version: -inner.evaluate(values, version), inner.areas)
        if (kind, text) == ("sign", "("):
            inner = self._sum()
            if self._take() != ("sign", ")"):
                raise ValueError("a closing parenthesis is missing")
            return inner
        raise ValueError(f"expected an area or a number {self._where(text)}")

    def _number(self, value: float) -> Expression:
        unit, factor = None, 1.0
        if self._tokens[0][1] in UNITS and self._tokens[0][0] in ("sign", "unit"):
            unit, factor = UNITS[self._take()[1]]
        return Expression(unit, lambda values, version: value * factor)

    def _value(self, first: str) -> Expression:
        parts = [first]
        while self._tokens[0] == ("sign", ".") and len(parts) < 3:
            self._take()
            parts.append(self._take()[1])
        version = ""
        may_be_area = parts[0] in self._known and len(parts) == 2 and parts[1] not in self._known
        if len(parts) > 1 and parts[0] in self._versions and not may_be_area:
            version, parts = self._versions[parts[0]], parts[1:]
        area, *rest = parts
        if area not in self._known:
            raise ValueError(f"no area is named {area!r}; {did_you_mean(area, self._known)}")
        if version and area not in self._areas[version]:
            raise ValueError(f"version {version} has no area {area!r}; {did_you_mean(area, self._areas[version])}")
        measure = rest[0] if rest else "share"
        if measure not in MEASURES or len(rest) > 1:
            raise ValueError(f"{measure!r} is no measure; {did_you_mean(measure, MEASURES)}")
        if measure not in self._measures:
            raise ValueError(f"{measure} needs videos; images have {', '.join(self._measures)}")
        key, unit = MEASURES[measure]

        def evaluate(values: Values, current: str) -> float:
            found = values[version or current][area][key]
            return math.inf if found is None else found

        return Expression(unit, evaluate, frozenset() if version else frozenset([area]))

    def _take(self) -> tuple[str, str]:
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]

    @staticmethod
    def _where(text: str) -> str:
        return f"instead of {text!r}" if text else "at the end"


def tokens(text: str, names: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and text of each token, and an end.

    Args:
        text: the condition.
        names: regular expression of the known names; empty if there are none.
    """
    kinds = [
        ("quoted", r'"([^"]*)"|' + r"'([^']*)'"),
        ("number", r"\d+\.?\d*(?:[eE][-+]?\d+)?"),
        ("unit", r"(?<=[\d.\s])(?:ms|s)(?!\w)"),
        ("name", f"{names}|\\w+" if names else r"\w+"),
        ("sign", r"<=|>=|==|!=|[-+*/()<>.%]"),
    ]
    at, last = 0, ""
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        for kind, pattern in kinds:
            if kind == "unit" and last != "number":
                continue
            if match := re.compile(pattern).match(text, at):
                break
        else:
            raise ValueError(f"{text[at]!r} is not understood")
        found = match[0]
        longer = re.compile(names).match(text, at) if names and kind == "number" else None
        if longer and longer.end() > match.end():  # an area may be called 3D or 2 buttons
            kind, found, match = "name", longer[0], longer
        yield kind, found[1:-1] if kind == "quoted" else found
        at, last = match.end(), kind
    yield "end", ""


def check_units(left: Expression, right: Expression, message: str) -> None:
    """Raise ``ValueError`` if two expressions have different units."""
    if None not in (left.unit, right.unit) and left.unit != right.unit:
        raise ValueError(message)


def combined(sign: str, left: Expression, right: Expression, unit: Unit | None) -> Expression:
    """Return the sum, difference, product or quotient of two expressions."""
    operation = OPERATIONS[sign]
    return Expression(
        unit,
        lambda values, version: operation(left.evaluate(values, version), right.evaluate(values, version)),
        left.areas | right.areas,
    )
