"""No telemetry is sent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.hub_server import HubServer


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


def test_the_hub_gets_only_requests_for_files(tmp_path):
    """huggingface_hub does not ask for the list of programs that start others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TINYHD_", "XDG_"))}
    places = {"HF_HOME": "hf", "TINYHD_DATA": "data", "XDG_CONFIG_HOME": "config", "APPDATA": "config"}
    environment = kept | {name: str(tmp_path / folder) for name, folder in places.items()} | {"NO_PROXY": "127.0.0.1"}
    with HubServer() as hub:
        hub.put("datasets/ANDRYHA/CrowdSAL", "Test/Videos/3001.mp4", b"a video")
        command = [sys.executable, "-m", "tinyhd_cli", "datasets", "download", "crowdsal", "--yes"]
        environment["HF_ENDPOINT"] = hub.url
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        commit = hub.repos["datasets/ANDRYHA/CrowdSAL"].commit_hash("main")
        assert [path for _, path, _ in hub.requests] == [
            "/api/datasets/ANDRYHA/CrowdSAL/revision/main",
            f"/api/datasets/ANDRYHA/CrowdSAL/tree/{commit}",
            f"/datasets/ANDRYHA/CrowdSAL/resolve/{commit}/Test/Videos/3001.mp4",
        ]
