"""No telemetry is sent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_openvino_sends_no_telemetry(tmp_path):
    """OpenVINO's telemetry package is not loaded and leaves no files in the home folder."""
    pytest.importorskip("openvino")
    code = (
        "import tinyhd_cli.engines.openvino, sys; from openvino.tools.ovc import telemetry_utils as used;"
        "print(used.tm.__name__, sys.modules['openvino_telemetry'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "openvino.tools.ovc.telemetry_stub None\n"), done.stderr
    assert list(tmp_path.iterdir()) == []
