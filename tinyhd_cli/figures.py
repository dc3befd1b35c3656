"""Figures that need no display, and in which text from outside is drawn as it stands."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN: dict[str, Any] = {"text.parse_math": False, "text.usetex": False}
"""Settings of matplotlib under which ``$`` begins no formula."""


@contextlib.contextmanager
def plain_text(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw text as it stands while the block runs; a letter that the font lacks becomes a box, without a warning.

    Figures must be made and saved inside the block: some of their text comes into being only then.

    Args:
        settings: further settings of matplotlib.
    """
    from matplotlib import rc_context

    values: Any = PLAIN | dict(settings or {})  # its stubs list every name that there is
    with rc_context(values), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def legend(axes: Axes, names: Sequence[str], **place: Any) -> None:
    """Add a legend with a name for each line, whatever the name begins with: matplotlib leaves out ``_name``."""
    box = axes.legend(axes.get_lines(), [str(number) for number in range(len(names))], **place)
    for text, name in zip(box.get_texts(), names, strict=True):
        text.set_text(name)


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG; ``OutputError`` if that is impossible."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
