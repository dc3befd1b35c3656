"""Compiles the kernels when the package is built, where there is a compiler; without them tinyhd works, but slower."""

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
LEVELS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"]}
"""Instruction sets of processors of the x86 family, and what compilers call them."""


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """Makes ``_blocks_LEVEL.so`` of ``blocks.c`` for each instruction set, and a wheel for this kind of machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before the package is put together, for an editable installation, too."""
        if self.target_name != "wheel" or sys.platform != "linux" or platform.machine() != "x86_64":
            return
        folder = Path(self.root) / FOLDER
        compiler = [*shlex.split(os.environ.get("CC", "cc")), "-O3", "-fPIC", "-shared"]
        made = [f"_blocks_{level}.so" for level in LEVELS]
        try:
            # Under their names only when finished: a running tinyhd may have the old ones open.
            with tempfile.TemporaryDirectory(dir=folder) as partial:
                for name, flags in zip(made, LEVELS.values(), strict=True):
                    command = [*compiler, *flags, str(folder / "blocks.c"), "-o", str(Path(partial, name))]
                    subprocess.run(command, check=True)
                for name in made:
                    Path(partial, name).replace(folder / name)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"tinyhd will be slower than it could be: its kernels were not compiled ({error})")
            if version == "editable":  # what is left of an older blocks.c would be used
                for name in made:
                    (folder / name).unlink(missing_ok=True)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"] += [f"/{FOLDER}/{name}" for name in made]
