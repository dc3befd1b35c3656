"""Draw the curves of size and quality of guided and plain encodes."""

from __future__ import annotations

from pathlib import Path

from ... import figures
from .quality import Quality
from .run import Curves, EncodeSummary


def plot_curves(summary: EncodeSummary, curves: Curves, path: Path, title: str) -> None:
    """Write a plot of the curves as a PNG file.

    Args:
        summary: the encode, whose duration gives the bit rates.
        curves: its comparison with plain encodes.
        path: the file to write.
        title: shown above the plot.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    with figures.plain_text():
        figure = figures.new_figure(10, 4.2)
        figure.suptitle(title)
        axes = figure.subplots(1, 2)
        panels = (
            ("attention-weighted PSNR", curves.bd_rate_weighted_percent, weighted_psnr),
            ("PSNR", curves.bd_rate_percent, whole_psnr),
        )
        for axis, (name, difference, value) in zip(axes, panels, strict=True):
            for label, marker, qualities in (("tinyhd", "o", curves.guided), ("plain", "s", curves.plain)):
                rates = [summary.kbit_per_s(quality) for quality in qualities]
                axis.plot(rates, [value(quality) for quality in qualities], marker=marker, label=label)
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel("kbit/s")
            axis.set_ylabel(f"{name}, dB")
            axis.set_title("BD-rate: " + describe(difference), fontsize=10)
            axis.grid(alpha=0.3, which="both")
            axis.legend()
        figures.save_figure(figure, path, dpi=130)


def weighted_psnr(quality: Quality) -> float:
    """Return the weighted PSNR; NaN, which is not drawn, if there is none."""
    return float("nan") if quality.weighted_psnr_db is None else quality.weighted_psnr_db


def whole_psnr(quality: Quality) -> float:
    """Return the PSNR of the whole video."""
    return quality.psnr_db


def describe(bd_rate_percent: float | None) -> str:
    """Return a difference of sizes as text."""
    return (
        "none, because the curves have no quality in common or do not rise"
        if bd_rate_percent is None
        else f"{bd_rate_percent:+.1f} %"
    )
