"""Progress bars in notebooks. Elsewhere, the library prints nothing unless it is asked to."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from .callbacks import OnProgress


def in_notebook() -> bool:
    """Return whether this code runs in the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


@contextlib.contextmanager
def progress_bar(label: str, wanted: bool | None = None) -> Iterator[OnProgress | None]:
    """Show a progress bar over frames while the block runs.

    It is tqdm's: a widget where ipywidgets is installed, otherwise text on stderr, which all notebooks show. rich would
    replace the whole output of the cell at each update.

    Args:
        label: text before the bar.
        wanted: whether to show it; None: only in notebooks.

    Yields:
        The callback that moves the bar; None if there is no bar.
    """
    if not (in_notebook() if wanted is None else wanted):
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "install ipywidgets": text is fine
        from tqdm.auto import tqdm
    bar: Any = None

    def report(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:  # a widget keeps the total that it starts with
            bar = tqdm(desc=label, total=total, unit=" frames", leave=False)
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
