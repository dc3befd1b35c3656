"""Compile the C code when the package is built. Without a compiler, tinyhd works but is slower."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ENGINES, METRICS = "tinyhd_cli/engines/csrc", "tinyhd_cli/metrics/csrc"

ISAS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"]}
"""Instruction sets of x86 CPUs, with their compiler flags."""


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles ``blocks.c`` for each instruction set, and ``weighted_f.c``; tags the wheel for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels. Hatchling calls this before it builds a wheel, or an editable installation.

        Args:
            version: kind of build, such as ``standard`` or ``editable``.
            build_data: build settings of hatchling, which this changes.
        """
        if self.target_name != "wheel" or sys.platform != "linux" or platform.machine() != "x86_64":
            return
        compiler = [*shlex.split(os.environ.get("CC", "cc")), "-O3", "-fPIC", "-shared"]
        libraries = {Path(ENGINES, f"_blocks_{isa}.so"): [*flags, "blocks.c"] for isa, flags in ISAS.items()}
        libraries[Path(METRICS, "_weighted_f.so")] = ["weighted_f.c", "-lm"]
        try:
            # Replaced only after compilation, because a running tinyhd may have mapped the old files.
            with tempfile.TemporaryDirectory(dir=Path(self.root, ENGINES)) as partial:
                for library, arguments in libraries.items():
                    command = [*compiler, *arguments, "-o", str(Path(partial, library.name))]
                    subprocess.run(command, check=True, cwd=Path(self.root, library.parent))
                for library in libraries:
                    Path(partial, library.name).replace(Path(self.root, library))
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"the C code of tinyhd was not compiled, so it is slower ({error})")
            if version == "editable":  # libraries of older C files would be used
                for library in libraries:
                    Path(self.root, library).unlink(missing_ok=True)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"] += [f"/{library.as_posix()}" for library in libraries]
