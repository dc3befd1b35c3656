"""Values of original programs: their inputs and procedural weights, and the comparison of arrays."""

from __future__ import annotations

import importlib
import sys

import numpy as np


def modules(shared):
    """Return the modules ``procedural`` (weights) and ``inputs`` of the reference."""
    folders = [str(shared / "upstream"), str(shared / "reference")]
    sys.path[:0] = folders
    try:
        return importlib.import_module("procedural"), importlib.import_module("inputs")
    finally:
        for folder in folders:
            sys.path.remove(folder)
        sys.modules.pop("inputs", None)
        sys.modules.pop("procedural", None)


def check(found, expected, tolerance, name=""):
    """Compare arrays with a tolerance relative to the largest expected value."""
    found = found.detach().numpy()
    assert found.shape == expected.shape, name
    assert np.isfinite(found).all()
    largest = np.abs(expected).max()
    assert largest > 0
    difference = np.abs(found.astype(np.float64) - expected).max() / largest
    assert difference <= tolerance, f"{name}: {difference:.2e} of the largest value, {largest:g}"
