"""Load and run the compiled kernels of ``engines/csrc/training.c``: passes over the tensors of convolutions."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import c_int32, c_void_p
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from ..engines.kernels import available_isas, library

SLOTS = 16
"""Pieces into which a 1x1x1 convolution's pixels are divided, each with its own sums; must match ``training.c``."""

VERSION = 2
"""Version of the operations and fields; must match ``training.c``."""

TILE = 256
"""Pixels that a 1x1x1 convolution processes at a time; must match ``training.c``."""

MIN_SHARED = 1 << 16
"""Numbers of the largest tensor from which it is worth using several threads."""

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2}
"""Types of the tensors that the kernels support, with their numbers in ``training.c``."""


class Pass(IntEnum):
    """Operations of ``training.c``."""

    POINTWISE = 0
    POINTWISE_GRADIENT = 1
    DEPTHWISE = 2
    DEPTHWISE_GRADIENT = 3
    STATISTICS = 4
    GRADIENT_SUMS = 5
    NORMALIZE = 6
    APPLY_GRADIENT = 7
    SHUFFLE = 8
    SHUFFLE_GRADIENT = 9
    INTERPOLATE = 10
    INTERPOLATE_GRADIENT = 11


POINTERS = (
    *("input", "in_scale", "in_shift", "in_mean", "weight", "output", "gradient", "slope", "out_slope", "constant"),
    *("mask_scale", "mask_shift", "added", "result", "sums", "weight_gradient"),
)
NUMBERS = (
    *("operation", "type", "activated", "count", "inputs", "outputs", "frames", "height", "width"),
    *("frames_out", "height_out", "width_out", "taps", "padding", "stride", "space", "next"),
)


class CStage(ctypes.Structure):
    """``struct stage`` of ``training.c``."""

    _fields_ = [*((name, c_void_p) for name in POINTERS), *((name, c_int32) for name in NUMBERS)]


@functools.cache
def load() -> Callable[[Any], int] | None:
    """Return the function ``run`` of the fastest kernels for this CPU; None if none can be loaded."""
    for isa in available_isas(part="training"):
        try:
            kernels = ctypes.CDLL(str(library(isa, "training")))
            compiled = [c_int32.in_dll(kernels, "version").value, *(c_int32 * 3).in_dll(kernels, "layout")]
        except (OSError, ValueError):  # it has another format, or lacks a symbol
            continue
        if compiled == [VERSION, ctypes.sizeof(CStage), SLOTS, TILE]:
            run: Callable[[Any], int] = kernels.run
            return run
    return None


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "tinyhd-training")


def _help(kernels: Callable[[Any], int], stage: CStage, _tensors: Collection[Any]) -> int:
    """Run a pass in a helper thread. The arguments keep memory that it writes, even if Ctrl-C stops the main thread."""
    return kernels(ctypes.byref(stage))


def run(operation: Pass, dtype: torch.dtype, shape: torch.Size, **fields: Tensor | int | None) -> None:
    """Run a pass on as many threads as PyTorch uses.

    Args:
        operation: the operation.
        dtype: type of the tensors in memory, one of :data:`TYPES`.
        shape: of the input, ``(N, C, T, H, W)``.
        fields: other fields of :class:`CStage`. Tensors are contiguous, and have the type that ``training.c`` says.
    """
    kernels = load()
    assert kernels is not None
    pointers = {name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in fields.items()}
    sizes = dict(zip(("count", "inputs", "frames", "height", "width"), shape, strict=True))
    sizes |= {"outputs": shape[1], "frames_out": shape[2], "height_out": shape[3], "width_out": shape[4]}
    stage = CStage(operation=operation, type=TYPES[dtype], **(sizes | pointers))
    pixels = shape[0] * shape[2] * shape[3] * shape[4]
    helpers = torch.get_num_threads() - 1 if pixels * max(stage.inputs, stage.outputs) >= MIN_SHARED else 0
    tensors = tuple(fields.values())
    futures: list[Future[int]] = [_helpers().submit(_help, kernels, stage, tensors) for _ in range(helpers)]
    failures = [kernels(ctypes.byref(stage))]
    # Cancel helpers that have not started; wait for the rest, because they write to the tensors.
    failures += [future.result() for future in futures if not future.cancel()]
    if 2 in failures:
        raise RuntimeError(f"the kernels of training steps lack the operation {operation}: install tinyhd again")
    if any(failures):
        raise MemoryError("not enough memory for the kernels of a training step")
