"""The kernels on random graphs, compiled with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tinyhd_cli.engines import kernels
from tinyhd_cli.engines.kernels import available_isas

TESTS = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,  # takes minutes
    pytest.mark.skipif(sys.platform != "linux", reason="loads the sanitizers of GCC on Linux"),
]


def run_with_sanitizers(part, isa, seed, folder, script):
    """Compile a C file with the sanitizers, and run a script of ``tests/helpers`` with it."""
    build = runpy.run_path(str(TESTS.parent / "hatch_build.py"))
    flags = (build["X86"] | build["ARM"])[isa]
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    source = Path(kernels.__file__).parent / "csrc" / f"{part}.c"
    target = folder / kernels.library(isa, part).name
    subprocess.run(["gcc", "-O1", "-g", "-shared", "-fPIC", *sanitizers, *flags, source, "-o", target], check=True)
    # libstdc++ too: otherwise, the exceptions of PyTorch are not intercepted.
    libraries = [
        subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    environment = os.environ | {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, TESTS / "helpers" / script, folder, isa, str(seed)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-4000:]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("isa", available_isas() + available_isas(half=True))
def test_random_graphs(isa, seed, tmp_path):
    run_with_sanitizers("blocks", isa, seed, tmp_path, "fuzz_kernels.py")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("isa", available_isas(part="training"))
def test_random_training_steps(isa, seed, tmp_path):
    run_with_sanitizers("training", isa, seed, tmp_path, "fuzz_training.py")
