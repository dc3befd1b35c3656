"""Prediction works in fresh environments without the C code, without OpenVINO, and without PyTorch, more slowly."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import clips
from helpers.environments import build_wheel, install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("cc") or (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="needs the C code, and an engine that is not PyTorch",
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that predicts a clip in a fresh environment, and what that environment's doctor says."""
    folder = tmp_path_factory.mktemp("missing")
    clip = clips.make(folder / "clip.mp4", frames=20, width=96, height=64)
    wheels = {compiler: build_wheel(tmp_path_factory.mktemp("wheel"), compiler) for compiler in ("cc", "false")}

    def run_without(name="", compiler="cc"):
        own = folder / (name or compiler)
        programs = install(wheels[compiler], own, {name})
        missing = name and subprocess.run([programs / "python", "-c", f"import {name}"], capture_output=True).returncode
        assert bool(missing) == bool(name)
        settings = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TINYHD"))}
        settings |= {"TINYHD_CACHE": str(own / "cache"), "HOME": str(own), "OMP_NUM_THREADS": "2"}

        def tinyhd(*arguments):
            command = [programs / "tinyhd", *map(str, arguments)]
            return subprocess.run(command, cwd=own, env=settings, capture_output=True, text=True, check=True)

        outputs = "--overlay", own / "overlay.mp4", "--npz", own / "maps.npz", "--json", own / "summary.json"
        said = tinyhd("predict", clip, *outputs).stderr
        summary = json.loads((own / "summary.json").read_text(encoding="utf-8"))
        return SimpleNamespace(
            engine=summary["engine"]["name"],
            maps=np.load(own / "maps.npz")["saliency"],
            overlay=(own / "overlay.mp4").stat().st_size,
            said=said,
            doctor=tinyhd("doctor").stdout,
        )

    return run_without


@pytest.fixture(scope="module")
def complete(run):
    result = run()
    assert result.engine == "fused" and result.maps.shape == (20, 192, 256) and np.ptp(result.maps) > 0.01
    return result


def check(result, complete, engine):
    """Compare the maps of another engine with those of the complete environment; an overlay is written, too."""
    assert result.engine == engine
    np.testing.assert_allclose(result.maps, complete.maps, atol=1e-4)
    assert result.overlay == pytest.approx(complete.overlay, rel=0.02)
    assert "Traceback" not in result.said + result.doctor


def test_without_the_c_code(run, complete):
    check(run(compiler="false"), complete, "openvino")


def test_without_openvino(run, complete):
    result = run("openvino")
    check(result, complete, "torch")
    assert "not installed (pip install openvino)" in result.said


def test_without_pytorch(run, complete):
    result = run("torch")
    check(result, complete, "fused")
    assert "only the embedded weights can be used" in " ".join(result.doctor.split())
