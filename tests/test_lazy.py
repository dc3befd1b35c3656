"""Packages import their public names on first use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

ROOMS = (
    "apps",
    "benchmarks",
    "datasets",
    "engines",
    "evaluation",
    "inference",
    "metrics",
    "models",
    "training",
    "video",
)
PACKAGES = [f"tinyhd_cli.{room}" for room in ROOMS]


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_no_heavy_dependency(package):
    heavy = {"av", "cv2", "numpy", "torch", "matplotlib"}
    program = f"import sys, {package}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_all_public_names_are_documented(package):
    module = import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert value is getattr(module, name)
        assert not isinstance(value, ModuleType), "a submodule has the same name"
        if callable(value):
            assert value.__doc__ and not value.__doc__.startswith(f"{name}("), name  # dataclasses get a signature


@pytest.mark.parametrize("room", ["apps", "inference", "metrics", "training", "video"])
def test_lazy_names_are_listed(room):
    module = import_module(f"tinyhd_cli.{room}")
    assert set(module.__all__) <= set(dir(module))


def test_a_submodule_does_not_replace_a_function():
    program = "import tinyhd_cli.metrics.frame; from tinyhd_cli.metrics import resize; print(resize([[1, 2]], (1, 1)))"
    code = program.replace("[[1, 2]]", "__import__('numpy').ones((1, 2))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[[1.]]\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_unknown_names_are_attribute_errors(package):
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        import_module(package).no_such_name  # noqa: B018  # the access itself is tested
