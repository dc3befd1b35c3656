"""Compile the C code when the package is built. Without a compiler, tinyhd works but is slower."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ENGINES, METRICS, VIDEO = "tinyhd_cli/engines/csrc", "tinyhd_cli/metrics/csrc", "tinyhd_cli/video/csrc"

X86 = {
    "avx512fp16": ["-mavx512fp16", "-mavx512bw", "-mfma", "-mtune=icelake-server"],
    "avx512": ["-mavx512f", "-mfma", "-mtune=icelake-server"],
    "avx2": ["-mavx2", "-mfma"],
}
"""Instruction sets of x86 CPUs that the kernels are compiled for, with their compiler flags."""

OPTIONAL = ("avx512fp16",)
"""Instruction sets that older compilers do not know (GCC before version 12); their libraries may be missing."""

ARM = {"neon": list[str]()}
"""Instruction sets of 64-bit ARM CPUs; all have NEON."""


class Platform(NamedTuple):
    """A kind of machine that the C code can be compiled for."""

    isas: Mapping[str, Sequence[str]]
    suffix: str = ".so"
    """Suffix of a library; must match ``tinyhd_cli/system.py``."""
    flags: Sequence[str] = ("-fPIC",)
    libraries: Sequence[str] = ("-lm",)
    """Libraries that ``weighted_f.c`` needs."""
    gcc_flags: Sequence[str] = ()
    """Flags for GCC only."""
    compilers: Sequence[str] = ("cc",)
    """Compilers to use without the variable ``CC``: the first that is installed."""

    def commands(self, compiler: Sequence[str]) -> dict[Path, list[str]]:
        """Return the command for each library, by its path in the project. Commands lack the name of the output.

        Args:
            compiler: name of a GCC or Clang, and its arguments.
        """
        gcc_flags = () if "clang" in Path(compiler[0]).name else self.gcc_flags
        start = [*compiler, "-O3", "-shared", *self.flags, *gcc_flags]
        commands = {
            Path(METRICS, f"_weighted_f{self.suffix}"): [*start, "weighted_f.c", *self.libraries],
            Path(VIDEO, f"_pixels{self.suffix}"): [*start, "-ffp-contract=off", "pixels.c"],
        }
        for isa, flags in self.isas.items():
            commands[Path(ENGINES, f"_blocks_{isa}{self.suffix}")] = [*start, *flags, "blocks.c"]
            if isa not in OPTIONAL:  # training never computes in half precision
                commands[Path(ENGINES, f"_training_{isa}{self.suffix}")] = [*start, *flags, "training.c"]
        return commands


MACOS = "11.0"
"""The oldest macOS that runs on ARM."""

PLATFORMS = {
    ("linux", "x86_64"): Platform(X86),
    ("linux", "aarch64"): Platform(ARM),
    ("darwin", "arm64"): Platform(ARM, ".dylib", ["-arch", "arm64", f"-mmacosx-version-min={MACOS}"]),
    # GCC does not align the stack for vectors of 32 bytes on Windows, so the assembler must not assume that it does.
    ("win32", "AMD64"): Platform(
        X86,
        ".dll",
        flags=[],
        libraries=[],
        gcc_flags=["-static-libgcc", "-Wa,-muse-unaligned-vector-move"],
        compilers=("clang", "gcc"),
    ),
}
"""Platforms by ``sys.platform`` and ``platform.machine()``. Others get a wheel without libraries."""


def compiler_of(target: Platform) -> list[str]:
    """Return the name and the arguments of the C compiler for a platform."""
    installed = [name for name in target.compilers if shutil.which(name)]
    return shlex.split(os.environ.get("CC", (installed or target.compilers)[0]))


def platform_tag() -> str:
    """Return the last part of the name of a wheel for this platform."""
    # Python for macOS often is a universal program, but the libraries are for ARM only.
    tag = f"macosx-{MACOS}-arm64" if sys.platform == "darwin" else sysconfig.get_platform()
    return tag.replace("-", "_").replace(".", "_")


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the kernels for each instruction set, and the other C files; tags the wheel for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels. Hatchling calls this before it builds a wheel, or an editable installation.

        Args:
            version: kind of build, such as ``standard`` or ``editable``.
            build_data: build settings of hatchling, which this changes.
        """
        target = PLATFORMS.get((sys.platform, platform.machine()))
        if self.target_name != "wheel" or target is None:
            return
        commands = target.commands(compiler_of(target))
        try:
            # Replaced only after compilation, because a running tinyhd may have mapped the old files.
            with tempfile.TemporaryDirectory(dir=Path(self.root, ENGINES)) as partial:

                def compile_one(library: Path) -> None:
                    output = ["-o", str(Path(partial, library.name))]
                    required = not library.stem.endswith(OPTIONAL)
                    subprocess.run([*commands[library], *output], check=required, cwd=Path(self.root, library.parent))

                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    list(pool.map(compile_one, commands))
                compiled = [library for library in commands if Path(partial, library.name).exists()]
                for library in commands:
                    if library in compiled:
                        Path(partial, library.name).replace(Path(self.root, library))
                    else:  # a library of older C files would be used
                        Path(self.root, library).unlink(missing_ok=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"the C code of tinyhd was not compiled, so it is slower ({error})")
            if version == "editable":  # libraries of older C files would be used
                for library in commands:
                    Path(self.root, library).unlink(missing_ok=True)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"
        build_data["artifacts"] += [f"/{library.as_posix()}" for library in compiled]
