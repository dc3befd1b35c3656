"""Families from other packages, installed into an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
import torch
from helpers import clips, pair

from tinyhd_cli import models, weights
from tinyhd_cli.models import plugins, registry

PROJECT = Path(__file__).resolve().parents[2]

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.2"

[project.entry-points."tinyhd.families"]
{entry} = "{module}:{attribute}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""


def write_package(folder: Path, module: str, entry: str, attribute: str, code: str) -> Path:
    """Write a package with one entry point."""
    (folder / module).mkdir(parents=True)
    name = module.replace("_", "-")
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name, module=module, entry=entry, attribute=attribute))
    (folder / module / "__init__.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of an environment with three plugins: a good one, one that fails, and one with a taken name."""
    folder = tmp_path_factory.mktemp("environment")
    code = Path(pair.__file__).read_text(encoding="utf-8")
    taken = code.replace('name="pair-64"', 'name="tinyhd-m"').replace('"pair"', '"other"')
    packages = [
        write_package(folder / "good", "tinyhd_pair", "pair", "PairFamily", code),
        write_package(folder / "bad", "tinyhd_broken", "broken", "Family", "import a_package_that_does_not_exist\n"),
        write_package(folder / "taken", "tinyhd_taken", "other", "PairFamily", taken),
    ]
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    inside = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # The packages of this environment, without another download.
    outer = "\n".join([str(PROJECT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(inside.stdout.strip()) / "outer.pth").write_text(outer)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv is one of the development tools"
    for package in packages:
        command = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--offline",
            "--no-deps",
            "--no-build-isolation",
            "--python",
            python,
        ]
        subprocess.run([*command, package], check=True, capture_output=True, text=True)
    return python


def run(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "tinyhd_cli", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def test_an_installed_family(environment, tmp_path, monkeypatch):
    """Its weights are predicted and exported by the command line; broken plugins cost one line each."""
    monkeypatch.setattr(registry, "_registered", {})
    models.register(pair.PairFamily())
    torch.manual_seed(0)
    path = tmp_path / "pair.safetensors"
    weights.save(path, models.create("pair-64").state_dict(), models.named_spec("pair-64"))
    video = clips.make(tmp_path / "clip.mp4", frames=4)

    done = run(environment, "predict", video, "--weights", path, "--npz", tmp_path / "maps.npz", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps.npz").is_file()
    warnings = sorted(line for line in done.stderr.splitlines() if "plugin" in line)
    assert warnings == [
        "tinyhd: warning: plugin broken (tinyhd-broken 1.2) is ignored: ModuleNotFoundError: "
        "No module named 'a_package_that_does_not_exist'",
        "tinyhd: warning: plugin other (tinyhd-taken 1.2) is ignored: the name 'tinyhd-m' is taken",
    ]
    assert len(done.stderr.splitlines()) == 2, done.stderr

    [finding] = [one for one in json.loads(run(environment, "doctor", "--json").stdout) if one["what"] == "families"]
    assert finding["status"] == "note"
    assert "pair (tinyhd-pair 1.2)" in finding["found"]
    assert "No module named 'a_package_that_does_not_exist'" in finding["advice"]
    assert "the name 'tinyhd-m' is taken" in finding["advice"]


def test_built_in_networks_do_not_import_plugins(environment):
    """Plugins cost nothing where they are not used."""
    done = run(environment, "weights", "info", "tinyhd-m-quarter")
    assert (done.returncode, done.stderr) == (0, "")


class Entry(metadata.EntryPoint):
    """An entry point whose object is given."""

    def load(self):
        value = self.value
        if isinstance(value, Exception):
            raise value
        return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (SystemError("first line\nsecond line"), "SystemError: first line"),
        (object(), "it is not an instance of Family with a name and specs"),
        (type("Empty", (models.Family,), {"name": "empty"}), "it is not an instance of Family with a name and specs"),
        (
            type("Wrong", (models.Family,), {"name": "wrong", "specs": pair.PairFamily.specs}),
            "pair-64 names the family 'pair', not 'wrong'",
        ),
        (type("HD2S", (pair.PairFamily,), {"name": "hd2s", "specs": ()}), "it is not an instance of Family"),
    ],
)
def test_problems_are_told_in_one_line(value, problem):
    entry = Entry("x", "x:y", plugins.GROUP)
    entry.__dict__.update(value=value)
    plugin = plugins.load_plugin(entry, "package 1", set())
    assert plugin.family is None
    assert plugin.problem.startswith(problem)
    assert "\n" not in plugin.problem


def test_two_plugins_of_one_name():
    entry = Entry("pair", "x:y", plugins.GROUP)
    entry.__dict__.update(value=pair.PairFamily)
    assert plugins.load_plugin(entry, "package 1", set()).family is not None
    assert plugins.load_plugin(entry, "package 2", {"pair-64"}).problem == "the name 'pair-64' is taken"
