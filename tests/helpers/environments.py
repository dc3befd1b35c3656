"""Build the wheel, and install it into fresh environments that lack parts. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path, compiler: str) -> Path:
    """Build the wheel in an empty folder with this C compiler, and return its path."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("tinyhd_cli", "weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    run = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(run, cwd=folder, env=os.environ | {"CC": compiler}, check=True, capture_output=True)
    (found,) = (folder / "dist").glob("*.whl")
    return found


def install(wheel: Path, folder: Path, without: Collection[str] = ()) -> Path:
    """Install a wheel into a new virtual environment.

    Its dependencies are those of this environment, linked one by one: without extras, and without what no other
    dependency needs.

    Args:
        wheel: the wheel.
        folder: of the environment.
        without: dependencies to leave out.

    Returns:
        The folder of the environment's programs.
    """
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    uv = shutil.which("uv", path=Path(sys.executable).parent) or "uv"
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(programs / "python")]
    subprocess.run([*install, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in dependencies("tinyhd", without) - {"tinyhd"}:
        for entry in top_level(name):
            (packages / entry.name).symlink_to(entry)
    return programs


def dependencies(name: str, without: Collection[str]) -> set[str]:
    """Return the distributions that one needs, itself included, with lower-case names."""
    found, waiting = set[str](), [name]
    while waiting:
        distribution = waiting.pop().lower().replace("_", "-")
        if distribution in found or distribution in without:
            continue
        found.add(distribution)
        required = map(Requirement, metadata.requires(distribution) or ())
        waiting += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def top_level(name: str) -> Iterator[Path]:
    """Yield the files and folders that a distribution has in ``site-packages``."""
    distribution = metadata.distribution(name)
    names = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for entry in names:
        yield Path(str(distribution.locate_file(entry)))
