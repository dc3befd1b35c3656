"""The public API: lazy, complete, documented, and independent of an installation."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinyhd_cli

PACKAGE = Path(tinyhd_cli.__file__).parent
HEAVY = ("torch", "cv2", "av", "numpy", "matplotlib", "safetensors", "huggingface_hub", "typer", "rich")


def fresh(code, *flags, folder=PACKAGE.parent):
    """Run code in a new Python that finds the package in a folder; return what it prints, from JSON."""
    command = [sys.executable, *flags, "-c", f"import json, sys, time\n{code}"]
    paths = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


def test_importing_loads_no_large_package():
    loaded = fresh("import tinyhd_cli; print(json.dumps(list(sys.modules)))")
    assert "tinyhd_cli" in loaded
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_importing_is_fast():
    code = "start = time.process_time(); import tinyhd_cli; print(json.dumps(time.process_time() - start))"
    assert min(fresh(code) for _ in range(5)) < 0.1


def test_options_load_no_large_package():
    """The command line builds its options from these classes, so that --help is fast."""
    options = [name for name in tinyhd_cli.__all__ if name.endswith("Options") or name in ("Outputs", "OverlayStyle")]
    assert len(options) >= 8
    loaded = fresh(f"from tinyhd_cli import {', '.join(options)}; print(json.dumps(list(sys.modules)))")
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "cv2", "av", "numpy", "matplotlib"}


@pytest.mark.parametrize("name", [name for name in tinyhd_cli.__all__ if name != "__version__"])
def test_every_name_exists_and_is_documented(name):
    value = getattr(tinyhd_cli, name)
    assert inspect.getdoc(value)
    assert not (value.__doc__ or "").startswith(f"{name}("), "dataclasses without a docstring show their signature"


def test_the_table_and_the_names_for_type_checkers_agree():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module or alias.name for node in block.body for alias in node.names}
    assert imported == tinyhd_cli.MODULES
    assert sorted(imported) == sorted(tinyhd_cli.__all__)


def test_dir_lists_the_names():
    assert set(tinyhd_cli.__all__) <= set(fresh("import tinyhd_cli; print(json.dumps(dir(tinyhd_cli)))"))
    with pytest.raises(AttributeError, match="no attribute 'load_models'"):
        tinyhd_cli.load_models  # noqa: B018


def test_a_checkout_that_is_not_installed(tmp_path):
    """A copy of the package, in a Python without site-packages: there is no metadata to read the version from."""
    shutil.copytree(PACKAGE, tmp_path / "tinyhd_cli", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    code = "import tinyhd_cli; print(json.dumps([tinyhd_cli.__version__, tinyhd_cli.__file__]))"
    version, file = fresh(code, "-S", folder=tmp_path)
    assert Path(file).is_relative_to(tmp_path)
    assert re.match(r"\d+", version)
    limits = fresh(
        "from tinyhd_cli import CropOptions; print(json.dumps(CropOptions(max_speed=0.1).max_speed))",
        "-S",
        folder=tmp_path,
    )
    assert limits == 0.1
