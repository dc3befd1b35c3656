"""Choose the device that runs a network. PyTorch is imported only if there may be a GPU."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from ..errors import UsageError

GPU_FILES = (
    *("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/nvhost-ctrl-gpu", "/dev/nvmap"),
    *("/dev/kfd", "/dev/dxg"),
)
"""Files of drivers of GPUs on Linux: of NVIDIA, of AMD, and of either in the Windows subsystem for Linux."""


def may_have_gpu() -> bool:
    """Return whether this machine may have a GPU that PyTorch supports, without importing PyTorch."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").is_file()
    return any(Path(file).exists() for file in GPU_FILES)


def pick_device(name: str) -> str:
    """Return the device for a name: ``auto`` (the fastest available), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UsageError: the device is not available.
    """
    if name == "cpu" or (name == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, _, number = name.partition(":")
    if not available.get(kind) or (number and not number.isdigit()):
        here = ", ".join(kind for kind, there in available.items() if there)
        raise UsageError(f"--device {name!r} is not available here; available: {here}")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {name!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return name
