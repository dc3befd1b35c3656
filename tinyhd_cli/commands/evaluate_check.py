"""``tinyhd evaluate --check``: check the files of a dataset for faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OK, SOME_INPUT_FAILED
from ..untrusted import printable
from ..wording import plural
from .progress import progress_display

if TYPE_CHECKING:
    from ..datasets import Dataset

MAX_SIZES = 5
"""Maximum number of frame sizes in the summary."""


def run_check(dataset: Dataset, quiet: bool) -> int:
    """Check a dataset, print the findings and a summary, and return the exit code."""
    from ..datasets import check_dataset
    from ..system import available_cores

    with progress_display(quiet) as progress:
        report = check_dataset(dataset, available_cores(), progress.video("checking"))
    for finding in report.findings:
        print(printable(f"{'fault' if finding.fault else 'note'}: {finding}"))
    sizes = ", ".join(f"{width} x {height} ({count})" for (width, height), count in report.sizes.most_common(MAX_SIZES))
    more = f" and {len(report.sizes) - MAX_SIZES} more" if len(report.sizes) > MAX_SIZES else ""
    print(
        f"{plural(report.videos, 'video')}, {plural(report.frames, 'frame')}, of which {report.scored} would be scored;"
        f" sizes: {sizes or 'unknown'}{more}"
    )
    faults = len(report.faults)
    print(plural(faults, "fault") if faults else "no faults")
    return SOME_INPUT_FAILED if faults else OK
