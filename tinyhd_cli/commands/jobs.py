"""Number of inputs that a command processes at the same time (``--jobs``)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..storage import is_own_process_only
from ..system import available_cores, available_memory_mb
from ..wording import plural
from .terminal import say

if TYPE_CHECKING:
    from ..inference.io_paths import Job

JOB_MEMORY_MB = 800
"""Memory that one process needs for 1080p video (700 MB), with a margin."""


def count_processes(jobs: int | None, inputs: Sequence[Job], device: str, items: int | None = None) -> int:
    """Return the number of processes for the inputs; 1 if this process is to do all.

    Args:
        jobs: the requested number; None for the default.
        inputs: the inputs.
        device: name of the device that runs the network.
        items: number of items of work, if some inputs are several.

    Raises:
        UsageError: the number is less than 1.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: give at least 1")
    count = min(default_jobs(device) if jobs is None else jobs, items or len(inputs))
    pipe = next((path for job in inputs for path in streams(job)), None)
    if count > 1 and pipe is not None:  # it is open in this process only
        if jobs is not None:
            say(f"--jobs {jobs}: {plural(len(inputs), 'input')} are processed one after the other, because of {pipe}")
        return 1
    return count


def streams(job: Job) -> list[Path]:
    """Return the inputs and outputs of a job that only this process can use: pipes, devices, and ``memory://``."""
    from ..atomic_files import is_special
    from ..inference.options import STDOUT
    from ..video.source import is_read_once

    found = [path for path in job.outputs.values() if path == STDOUT or is_special(path) or is_own_process_only(path)]
    return [job.video, *found] if is_read_once(job.video) or is_own_process_only(job.video) else found


def default_jobs(device: str) -> int:
    """Return one job per core, as far as memory allows; 1 if a GPU may run the network."""
    if device not in ("auto", "cpu") or (device == "auto" and may_have_gpu()):
        return 1
    memory = available_memory_mb()
    return max(1, available_cores() if memory is None else min(available_cores(), int(memory // JOB_MEMORY_MB)))


def may_have_gpu() -> bool:
    """Return whether PyTorch may find a GPU; importing it to find out takes a second."""
    return sys.platform == "darwin" or shutil.which("nvidia-smi") is not None or Path("/dev/kfd").exists()
