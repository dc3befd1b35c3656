"""The processes of a training run, as Accelerate's launchers start them."""

from __future__ import annotations

import logging
import os
from typing import Any

from .options import TrainConfig

log = logging.getLogger("tinyhd")


def accelerator(config: TrainConfig) -> Any:
    """Return the Accelerator for a configuration; raise ``UsageError`` if the device is not available."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    from ..inference.devices import pick_device

    device = pick_device(config.device)
    # Steps on single frames leave out the layers that compare the frames of a pair.
    distributed = DistributedDataParallelKwargs(find_unused_parameters=config.pairs > 1 and config.clip_frames > 1)
    # We apply autocast ourselves (``autocast``): Accelerate's setting is global to the process.
    return Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=[distributed])


def check_launcher(processes: int) -> None:
    """Log a warning if several processes were wanted, but this is the only one.

    ``accelerate launch --cpu --num_processes 2`` starts one process, because it expects MPI to start the others.
    """
    if processes == 1 and os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ:
        log.warning(
            "accelerate launch --cpu has started one process only; for several on CPUs, use torchrun --nproc-per-node N"
        )
