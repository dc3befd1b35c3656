"""Compile the C kernels when the package is built. Without a compiler, tinyhd works but is slower."""

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

FOLDER = "tinyhd_cli/engines/csrc"

ISAS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"]}
"""Instruction sets of x86 CPUs, with their compiler flags."""


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles ``blocks.c`` to one ``_blocks_ISA.so`` per instruction set, and tags the wheel for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels. Hatchling calls this before it builds a wheel, or an editable installation.

        Args:
            version: kind of build, such as ``standard`` or ``editable``.
            build_data: build settings of hatchling, which this changes.
        """
        if self.target_name != "wheel" or sys.platform != "linux" or platform.machine() != "x86_64":
            return
        folder = Path(self.root) / FOLDER
        compiler = [*shlex.split(os.environ.get("CC", "cc")), "-O3", "-fPIC", "-shared"]
        libraries = [f"_blocks_{isa}.so" for isa in ISAS]
        try:
            # Replaced only after compilation, because a running tinyhd may have mapped the old files.
            with tempfile.TemporaryDirectory(dir=folder) as partial:
                for name, flags in zip(libraries, ISAS.values(), strict=True):
                    command = [*compiler, *flags, str(folder / "blocks.c"), "-o", str(Path(partial, name))]
                    subprocess.run(command, check=True)
                for name in libraries:
                    Path(partial, name).replace(folder / name)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"the C kernels of tinyhd were not compiled, so prediction is slower ({error})")
            if version == "editable":  # libraries of an older blocks.c would be used
                for name in libraries:
                    (folder / name).unlink(missing_ok=True)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"] += [f"/{FOLDER}/{name}" for name in libraries]
