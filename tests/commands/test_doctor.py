"""``tinyhd doctor`` reports the state of the installation correctly."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def findings(capsys):
    return {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_all_findings_are_reported(tinyhd, capsys, cache):
    assert tinyhd("doctor", "--json") == 0
    found = findings(capsys)
    assert {
        "tinyhd",
        "python",
        "packages",
        "FFmpeg",
        "CPU",
        "device",
        "families",
        "encoders",
        "cache",
        "Hub",
    } <= found.keys()
    assert "h264 (libx264)" in found["encoders"]["found"]
    assert found["cache"] == {"what": "cache", "status": "ok", "found": str(cache), "advice": ""}
    assert "TINYHD_CACHE" in found["settings"]["found"]
    assert not cache.exists()  # the checks leave no files behind


def test_table(tinyhd, capsys):
    assert tinyhd("doctor") == 0
    assert "encoders" in capsys.readouterr().out


def test_default_model(tinyhd, capsys, monkeypatch, weights_file, tmp_path):
    monkeypatch.setenv("TINYHD_MODEL", str(weights_file))
    assert tinyhd("doctor", "--json") == 0
    assert findings(capsys)["default model"]["status"] == "ok"
    monkeypatch.setenv("TINYHD_MODEL", str(tmp_path / "gone.safetensors"))
    assert tinyhd("doctor", "--json") == 1
    assert "no such file" in findings(capsys)["default model"]["found"]
    registry = tmp_path / "registry.toml"
    registry.write_text(
        'default = "broken"\n[weights.broken]\nfile = "broken.safetensors"\n'
        f'sha256 = "{"0" * 64}"\n'
        'config = { architecture = "tinyhd", outputs = "multi", width = "quarter", decoders = ["d1", "d2", "d3"] }\n'
    )
    (tmp_path / "broken.safetensors").write_bytes(weights_file.read_bytes())
    monkeypatch.setenv("TINYHD_REGISTRY", str(registry))
    monkeypatch.delenv("TINYHD_MODEL")
    assert tinyhd("doctor", "--json") == 1
    assert findings(capsys)["default model"]["status"] == "fault"


def test_engines(tinyhd, capsys, monkeypatch):
    from tinyhd_cli.engines import base, kernels, self_test

    assert tinyhd("doctor", "--json") == 0
    found = findings(capsys)["engines"]
    assert found["status"] == ("ok" if kernels.available_isas() else "note")
    assert "openvino (openvino 2" in found["found"] and found["found"].endswith("torch")

    if kernels.available_isas():
        assert "fused (openvino 2" in found["found"]
    monkeypatch.setattr(self_test, "available_isas", lambda: [])
    assert tinyhd("doctor", "--json") == 0
    found = findings(capsys)["engines"]
    assert "fused" not in found["found"]
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):  # the platform of the kernels
        assert found["status"] == "note" and "a C compiler" in found["advice"]

    def broken(name):
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(self_test, "self_test", broken)
    assert tinyhd("doctor", "--json") == 0
    found = findings(capsys)["engines"]
    assert (found["status"], found["found"]) == ("note", "torch")
    assert "openvino does not work: ImportError: libopenvino.so" in found["advice"]
    monkeypatch.setattr(base, "PACKAGES", {"openvino": "no-such-package"})
    assert tinyhd("doctor", "--json") == 0
    assert "pip install openvino" in findings(capsys)["engines"]["advice"]


def test_settings_file(tinyhd, capsys):
    Path("tinyhd.toml").write_text("model = [")
    assert tinyhd("doctor", "--json") == 1
    assert "tinyhd.toml is not a TOML file" in findings(capsys)["settings"]["found"]


def test_missing_encoders(tinyhd, capsys, monkeypatch):
    from tinyhd_cli.video import codecs, encoders

    monkeypatch.setattr(codecs, "available_encoders", lambda codec: [] if codec == "hevc" else [codec])
    monkeypatch.setattr(encoders, "can_open", lambda *rest: True)
    assert tinyhd("doctor", "--json") == 0
    assert findings(capsys)["encoders"]["status"] == "note"
    monkeypatch.setattr(encoders, "can_open", lambda *rest: False)
    assert tinyhd("doctor", "--json") == 1
    assert findings(capsys)["encoders"]["status"] == "fault"


@pytest.mark.skipif(sys.platform == "win32", reason="the environment of a container")
def test_in_a_bare_container(tmp_path):
    """Without a writable home folder, Hub, terminal and UTF-8 locale, nothing breaks and all of it is reported."""
    home = tmp_path / "file"
    home.write_text("a home that cannot be")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tinyhd_cli", "doctor", "--json"]
    result = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    found = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 0, result.stderr
    assert found["cache"]["status"] == "note" and "TINYHD_CACHE" in found["cache"]["advice"]
    assert found["Hub"]["status"] == "note" and "offline" in found["Hub"]["found"]


def test_families_of_plugins(tmp_path):
    """Installed packages add families; one that cannot be imported is reported, and everything else works."""
    info = tmp_path / "lemon-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lemon\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[tinyhd.families]\nlemon = lemon:Lemon\nrotten = lemon:Rotten\n")
    (tmp_path / "lemon.py").write_text(
        "from tinyhd_cli.models.family import Family\n"
        "from tinyhd_cli.models.spec import ModelSpec\n"
        "class Lemon(Family):\n"
        "    name = 'lemon'\n"
        "    specs = (ModelSpec('lemon-64', 'lemon'),)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(PROJECT)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tinyhd_cli", "doctor", "--json"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = {finding["what"]: finding for finding in json.loads(result.stdout)}["families"]
    assert found["found"] == "tinyhd, hd2s, uvanet, stkd, thtdnet, vfm, lemon (lemon 1.2)"
    assert found["status"] == "note"
    assert found["advice"].startswith("rotten (lemon 1.2) is ignored: AttributeError: ")
    assert len(result.stderr.splitlines()) == 1, "one warning for the plugin that is ignored"
