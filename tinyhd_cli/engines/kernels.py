"""Load the compiled kernels of ``csrc/blocks.c``: their ctypes structures, instruction sets and version check."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from ctypes import POINTER, c_float, c_int32, c_int64
from pathlib import Path

from ..system import LIBRARY_SUFFIX, cpu_features

FEATURES = {"avx512": {"avx512f", "fma"}, "avx2": {"avx2", "fma"}, "neon": {"neon"}}
"""Instruction sets that the kernels are compiled for, the fastest first, with the features that a CPU must have."""

PLANES, SHUFFLED, UPSAMPLED = range(3)
"""Kinds of block source: raw planes, the input of a pixel shuffle, the input of a trilinear interpolation."""

MAX_TAPS = 3
"""Maximum temporal size of a depthwise kernel; must match ``blocks.c``."""

MAX_MAPS = 8
"""Maximum number of maps in the fusion; must match ``blocks.c``."""

GAP = 16
"""Unused floats between the channels of a block's result; must match ``blocks.c``."""


class CBlock(ctypes.Structure):
    """``struct block`` of ``blocks.c``."""

    _fields_ = [
        *((name, POINTER(c_float)) for name in ("source", "added", "result")),
        *((f"{name}{part}", POINTER(c_float)) for name in ("expand", "depthwise", "project") for part in ("", "_bias")),
        *((name, c_int32) for name in ("kind", "channels", "inner", "outer")),
        *((name, c_int32) for name in ("source_frames", "added_frames", "frames_in", "frames_out")),
        *((name, c_int32) for name in ("taps", "stride", "padding", "next", "done")),
    ]


class CFusion(ctypes.Structure):
    """``struct fusion`` of ``blocks.c``."""

    _fields_ = [
        ("maps", POINTER(c_float) * MAX_MAPS),
        ("weights", c_float * MAX_MAPS),
        ("frames", c_int32 * MAX_MAPS),
        ("result", POINTER(c_float)),
        ("bias", c_float),
        *((name, c_int32) for name in ("count", "frames_out", "next", "done")),
    ]


class CProgram(ctypes.Structure):
    """``struct program`` of ``blocks.c``."""

    _fields_ = [
        ("blocks", POINTER(CBlock)),
        ("fusion", CFusion),
        *((name, c_int32) for name in ("count", "height", "width")),
    ]


def library(isa: str) -> Path:
    """Return the path of the kernels for an instruction set. A package built without a compiler lacks the file."""
    return Path(__file__).parent / "csrc" / f"_blocks_{isa}{LIBRARY_SUFFIX}"


@functools.cache
def available_isas() -> list[str]:
    """Return the instruction sets that this CPU supports and that the kernels are compiled for, the fastest first."""
    return [isa for isa, features in FEATURES.items() if features <= cpu_features() and library(isa).exists()]


def expected_layout() -> list[int]:
    """Return ``layout`` of ``blocks.c`` for the structures of this module."""
    return [*map(ctypes.sizeof, (CBlock, CFusion, CProgram)), MAX_TAPS, MAX_MAPS, GAP]


def load(isa: str) -> ctypes.CDLL:
    """Load the kernels for an instruction set.

    Raises:
        OSError: the file cannot be loaded, or was compiled for another layout of the structures.
    """
    kernels = ctypes.CDLL(str(library(isa)))
    expected = expected_layout()
    try:
        compiled = list((c_int32 * len(expected)).in_dll(kernels, "layout"))
    except ValueError:  # the symbol does not exist
        compiled = []
    if compiled != expected:
        raise OSError("the kernels were compiled for another version of tinyhd: install it again")
    kernels.scratch.restype = c_int64
    kernels.run.restype = None
    return kernels


def fingerprint() -> str:
    """Return the SHA-256 of the fastest available kernels; empty if none are available."""
    return "".join(hashlib.sha256(library(isa).read_bytes()).hexdigest() for isa in available_isas()[:1])
