"""Load the compiled kernels of ``csrc/blocks.c``: their ctypes structures, instruction sets and version check."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from ctypes import POINTER, c_float, c_int32, c_int64
from pathlib import Path

from ..system import LIBRARY_SUFFIX, cpu_features

FEATURES = {
    "avx512fp16": {"avx512_fp16", "avx512bw"},
    "avx512": {"avx512f", "fma"},
    "avx2": {"avx2", "fma"},
    "neon": {"neon"},
}
"""Instruction sets that the kernels are compiled for, the fastest first, with the features that a CPU must have."""

HALF = ("avx512fp16",)
"""Instruction sets whose kernels compute in half precision."""

PLANES, SHUFFLED, UPSAMPLED = range(3)
"""Kinds of source: one of the same resolution, the input of a pixel shuffle, the input of a trilinear interpolation."""

MAX_TAPS = 3
"""Maximum temporal size of a depthwise kernel; must match ``blocks.c``."""

MAX_PLANES = 9
"""Maximum number of frames times channels that the encoder's first convolution reads; must match ``blocks.c``."""

MAX_MAPS = 8
"""Maximum number of maps in the fusion; must match ``blocks.c``."""

GAP = 32
"""Unused numbers between the channels of a tensor; must match ``blocks.c``."""


class CCopy(ctypes.Structure):
    """``struct copy`` of ``blocks.c``."""

    _fields_ = [
        *((name, POINTER(c_float)) for name in ("from_", "to")),
        *((name, c_int32) for name in ("channels", "pixels")),
    ]


class CTensor(ctypes.Structure):
    """``struct tensor`` of ``blocks.c``."""

    _fields_ = [("data", POINTER(c_float)), ("step", c_int64), ("kind", c_int32), ("frames", c_int32)]


class CBlock(ctypes.Structure):
    """``struct block`` of ``blocks.c``."""

    _fields_ = [
        ("source", CTensor),
        ("added", CTensor),
        ("result", POINTER(c_float)),
        ("result_step", c_int64),
        *((f"{name}{part}", POINTER(c_float)) for name in ("expand", "filter", "project") for part in ("", "_bias")),
        ("mixed", POINTER(c_int32)),
        ("mix_weights", POINTER(c_float)),
        *((name, c_int32) for name in ("height", "width", "channels", "inner", "outer")),
        *((name, c_int32) for name in ("frames_in", "frames_out", "taps", "stride", "padding", "space", "dense")),
        ("after", c_int32 * 2),
        ("until", c_int32),
        *((name, c_int32) for name in ("next", "done")),
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
        ("copies", POINTER(CCopy)),
        ("blocks", POINTER(CBlock)),
        ("fusion", CFusion),
        *((name, c_int32) for name in ("copies_count", "count", "height", "width", "next", "done")),
    ]


def library(isa: str, part: str = "blocks") -> Path:
    """Return the path of the kernels for an instruction set. A package built without a compiler lacks the file.

    Args:
        isa: the instruction set.
        part: name of the C file: ``blocks``, or ``training`` for the kernels of training steps.
    """
    return Path(__file__).parent / "csrc" / f"_{part}_{isa}{LIBRARY_SUFFIX}"


def available_isas(*, half: bool = False, part: str = "blocks") -> list[str]:
    """Return the instruction sets that this CPU supports and that the kernels are compiled for, the fastest first.

    Args:
        half: return those whose kernels compute in half precision, not those that compute in single precision.
        part: name of the C file, see :func:`library`.
    """
    return [isa for isa in _supported_isas(part) if (isa in HALF) == half]


@functools.cache
def _supported_isas(part: str) -> list[str]:
    """Return the instruction sets of both precisions."""
    return [isa for isa, features in FEATURES.items() if features <= cpu_features() and library(isa, part).exists()]


def expected_layout(isa: str = "") -> list[int]:
    """Return ``layout`` of ``blocks.c`` for the structures of this module, compiled for an instruction set."""
    structures = map(ctypes.sizeof, (CCopy, CBlock, CFusion, CProgram))
    return [2 if isa in HALF else 4, *structures, MAX_TAPS, MAX_PLANES, MAX_MAPS, GAP]


def load(isa: str) -> ctypes.CDLL:
    """Load the kernels for an instruction set.

    Raises:
        OSError: the file cannot be loaded, or was compiled for another layout of the structures.
    """
    kernels = ctypes.CDLL(str(library(isa)))
    expected = expected_layout(isa)
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
    """Return the SHA-256 of the fastest available kernels of each precision; empty if none are available."""
    isas = available_isas()[:1] + available_isas(half=True)[:1]
    return "".join(hashlib.sha256(library(isa).read_bytes()).hexdigest() for isa in isas)
