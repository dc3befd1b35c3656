"""The random number generators of a run: each process drops branches of its own, and a resumed run drops the same ones.

The data does not depend on them: each clip is drawn from generators of its own (see :mod:`.picks`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CPU = "cpu"


def seed(number: int, rank: int) -> None:
    """Give a process random numbers of its own, once the processes have built the same network from the same seed."""
    if rank:  # the numbers of the first process are those of a run with one process
        torch.manual_seed(number + rank)


def state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators of this process, by type of device: of the CPU, and of another device."""
    found = {CPU: torch.get_rng_state()}
    if device.type != CPU:
        found[device.type] = torch.get_device_module(device).get_rng_state()
    return found


def gather(device: torch.device) -> list[dict[str, Tensor]]:
    """Return the state of every process, in their order; all must call it."""
    from accelerate.utils import gather_object

    states: list[dict[str, Tensor]] = gather_object([state(device)])
    return states


def restore(states: Sequence[dict[str, Tensor]], rank: int, device: torch.device) -> None:
    """Set the generators of this process to the states that it had.

    Those of a process that the run did not have before, or of a device that it did not use, stay as they are.
    """
    saved = states[rank] if rank < len(states) else {}
    if CPU in saved:
        torch.set_rng_state(saved[CPU])
    if device.type != CPU and device.type in saved:
        torch.get_device_module(device).set_rng_state(saved[device.type])
