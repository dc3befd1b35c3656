"""Run the C code compiled for another platform: for ARM in qemu, for Windows in Wine (``run_elsewhere.c``).

Debian's packages: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user; gcc-mingw-w64-x86-64 and wine.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import struct
import subprocess
from ctypes import POINTER, c_double, c_float, c_int32, c_int64, c_uint8
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tinyhd_cli.video.pixels import CNeighbors

ROOT = Path(__file__).parents[2]

THREADS = 3
"""Number of threads that run the kernels."""


class Machine(NamedTuple):
    """An emulated machine."""

    platform: tuple[str, str]
    """Key of ``PLATFORMS`` in ``hatch_build.py``."""
    compiler: str
    emulator: tuple[str, ...]
    flags: tuple[str, ...] = ()
    """Arguments for the compiler of ``run_elsewhere.c``."""


MACHINES = {
    "ARM": Machine(("linux", "aarch64"), "aarch64-linux-gnu-gcc", ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")),
    "Windows": Machine(("win32", "AMD64"), "x86_64-w64-mingw32-gcc", ("wine",), ("-static",)),
}


class CSums(ctypes.Structure):
    """Arguments of ``weighted_f_sums``."""

    _fields_ = [
        *((name, POINTER(c_uint8)) for name in ("prediction", "mask")),
        *((name, POINTER(c_float)) for name in ("levels", "gauss")),
        *((name, c_double) for name in ("close", "missed")),
        *((name, c_int32) for name in ("height", "width")),
        ("rate", c_float),
        ("failed", c_int32),
    ]


class CResize(ctypes.Structure):
    """Arguments of ``resize``."""

    _fields_ = [
        ("image", POINTER(c_uint8)),
        *((name, POINTER(CNeighbors)) for name in ("rows", "columns")),
        *((name, POINTER(c_float)) for name in ("factors", "shifts", "row", "result")),
        ("stride", c_int64),
        *((name, c_int32) for name in ("pixels", "height", "width")),
    ]


class Emulator:
    """Compiles the C code for a machine and runs it there. Skips the test without the compiler or the emulator.

    Args:
        name: of the machine.
        folder: for the compiled files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.machine, self.folder = MACHINES[name], folder
        for program in (self.machine.compiler, self.machine.emulator[0]):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
        hatch_build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(hatch_build)
        commands = hatch_build.PLATFORMS[self.machine.platform].commands([self.machine.compiler])
        for library, command in commands.items():
            warnings = ["-Wall", "-Wextra", "-Werror"]
            subprocess.run([*command, *warnings, "-o", folder / library.name], check=True, cwd=ROOT / library.parent)
        program = [Path(__file__).with_name("run_elsewhere.c"), "-o", folder / "run.exe", "-pthread"]
        subprocess.run([self.machine.compiler, *program, *self.machine.flags], check=True)
        self.libraries = [library.name for library in commands]

    def call(
        self, library: str, function: str, argument: ctypes.Structure, referenced: list, layout: list = ()
    ) -> None:
        """Call a library's function with a copy of a structure and all memory that it refers to; copy them back.

        Args:
            library: start of the library's name.
            function: name of the function.
            argument: the structure.
            referenced: arrays and structures that it refers to.
            layout: layout constants that the library must have; empty if it has none.
        """
        memory = Memory(argument, referenced)
        (self.folder / "input").write_bytes(memory.content(layout))
        environment = os.environ | {"WINEPREFIX": str(self.folder / "wine"), "WINEDEBUG": "-all", "DISPLAY": ""}
        (file,) = [name for name in self.libraries if name.startswith(library)]
        command = [*self.machine.emulator, "./run.exe", f"./{file}", function, "input", "output"]
        subprocess.run(command, check=True, cwd=self.folder, timeout=300, env=environment)
        memory.copy_back((self.folder / "output").read_bytes())


class Memory:
    """Structures and arrays as one block of bytes, in which pointers are offsets.

    Args:
        argument: a structure.
        referenced: arrays and structures that it refers to.
    """

    def __init__(self, argument: ctypes.Structure, referenced: list) -> None:
        self.parts: dict[int, tuple[int, int]] = {}
        """Size and offset of each piece of memory, by address."""
        structures = [argument, *(one for one in referenced if not isinstance(one, np.ndarray))]
        places = [(ctypes.addressof(one), ctypes.sizeof(one)) for one in structures]
        places += [(one.ctypes.data, one.nbytes) for one in referenced if isinstance(one, np.ndarray)]
        merged: list[list[int]] = []  # starts and ends; arrays may overlap
        for address, size in sorted(places):
            if merged and address < merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], address + size)
            else:
                merged.append([address, address + size])
        used = 0
        for address, end in merged:
            self.parts[address] = end - address, used
            used += (end - address + 127) // 64 * 64  # vectors may be read past the end
        self.size = used
        self.argument = self._offset(ctypes.addressof(argument))
        self.pointers = [pair for one in structures for pair in self._pointers(one)]
        self.start = 0

    def _pointers(self, value: ctypes.Structure | ctypes.Array) -> list[tuple[int, int]]:
        """Return the offsets of the pointers in a structure, and of the memory that each points to."""
        if isinstance(value, ctypes.Structure):
            fields = [(type_, getattr(type(value), name).offset) for name, type_ in value._fields_]
        else:
            fields = [(value._type_, i * ctypes.sizeof(value._type_)) for i in range(len(value))]
        pairs = []
        for type_, offset in fields:
            part = type_.from_buffer(value, offset)
            if isinstance(part, (ctypes.Structure, ctypes.Array)):
                pairs += self._pointers(part)
            elif isinstance(part, (ctypes._Pointer, ctypes.c_void_p)) and part:
                target = part.value if isinstance(part, ctypes.c_void_p) else ctypes.addressof(part.contents)
                pairs.append((self._offset(ctypes.addressof(part)), self._offset(target)))
        return pairs

    def _offset(self, address: int) -> int:
        """Return the offset of an address in this process."""
        return next(
            offset + address - start for start, (size, offset) in self.parts.items() if 0 <= address - start < size
        )

    def content(self, layout: list) -> bytes:
        """Return the bytes, ``struct header`` first."""
        head = 4 * 8 + 16 * 4 + 16 * len(self.pointers)
        self.start = (head + 63) // 64 * 64
        argument = self.start + self.argument
        values = [self.start + offset for pair in self.pointers for offset in pair]
        header = struct.pack(
            "4q16i", len(self.pointers), argument, THREADS, len(layout), *layout, *[0] * (16 - len(layout))
        )
        content = bytearray(header + struct.pack(f"{len(values)}q", *values)).ljust(self.start + self.size, b"\0")
        for address, (size, offset) in self.parts.items():
            content[self.start + offset : self.start + offset + size] = ctypes.string_at(address, size)
        return bytes(content)

    def copy_back(self, content: bytes) -> None:
        """Copy all numbers from bytes that the function has changed; pointers stay."""
        for address, (size, offset) in self.parts.items():
            found = bytearray(content[self.start + offset : self.start + offset + size])
            for at, _ in self.pointers:
                if offset <= at < offset + size:
                    found[at - offset : at - offset + 8] = ctypes.string_at(address + at - offset, 8)
            ctypes.memmove(address, bytes(found), size)
