"""Create matplotlib figures without a display, in which untrusted text is drawn literally."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic_files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN: dict[str, Any] = {"text.parse_math": False, "text.usetex": False}
"""Matplotlib settings that disable formulas between dollar signs."""

SVG_IMAGE_DPI = 144
"""Resolution of images inside a plot, for screens of twice the usual density."""


@contextlib.contextmanager
def plain_text(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Return a context in which text is drawn literally, and missing glyphs become boxes without a warning.

    Figures must be created and saved inside the block, because some of their text is created only when they are saved.

    Args:
        settings: additional matplotlib settings.
    """
    from matplotlib import rc_context

    values: Any = PLAIN | dict(settings or {})  # the type stubs require literal names
    with rc_context(values), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def add_legend(axes: Axes, names: Sequence[str], **options: Any) -> None:
    """Add a legend with a name for each line, including names such as ``_name``, which matplotlib would omit.

    Args:
        axes: the axes whose lines are named.
        names: one name per line.
        options: arguments of ``Axes.legend``.
    """
    box = axes.legend(axes.get_lines(), [str(number) for number in range(len(names))], **options)
    for text, name in zip(box.get_texts(), names, strict=True):
        text.set_text(name)


def as_svg(name: str, width: float, height: float, draw: Callable[[Axes], object]) -> str:
    """Return a plot as an SVG element that can be embedded in a page.

    Args:
        name: unique on the page, so that no element refers to one of another plot.
        width: inches.
        height: inches.
        draw: draws the plot.
    """
    with plain_text({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": name}):
        figure = new_figure(width, height)
        draw(figure.add_subplot())
        target = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # metadata that names other sites
        figure.savefig(target, format="svg", transparent=True, metadata=nothing, dpi=SVG_IMAGE_DPI)
    text = target.getvalue()
    return text[text.index("<svg") :]


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as a PNG file; ``OutputError`` if it cannot be written."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
