"""Packages import their public names on first use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ("tinyhd_cli.apps", "tinyhd_cli.inference", "tinyhd_cli.metrics", "tinyhd_cli.training", "tinyhd_cli.video")


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_no_heavy_dependency(package):
    heavy = {"av", "cv2", "numpy", "torch", "matplotlib"}
    program = f"import sys, {package}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_all_public_names_are_documented(package):
    module = import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert value is getattr(module, name)
        if callable(value):
            assert value.__doc__ and not value.__doc__.startswith(f"{name}("), name  # dataclasses get a signature


def test_a_submodule_does_not_replace_a_function():
    program = "import tinyhd_cli.metrics.frame; from tinyhd_cli.metrics import resize; print(resize([[1, 2]], (1, 1)))"
    code = program.replace("[[1, 2]]", "__import__('numpy').ones((1, 2))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[[1.]]\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_unknown_names_are_attribute_errors(package):
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        import_module(package).no_such_name  # noqa: B018  # the access itself is tested
