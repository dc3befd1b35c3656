"""Compiled code resizes and blends pixels as OpenCV does, and OpenCV is used without it."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tinyhd_cli import models
from tinyhd_cli.inference import preprocess
from tinyhd_cli.models import Preprocess
from tinyhd_cli.video import pixels

compiled = pytest.mark.skipif(pixels.library() is None, reason="pixels.c is not compiled here")

SHAPES = [(360, 640), (1, 1), (2, 3), (97, 131), (540, 960), (192, 256), (720, 90)]
"""Heights and widths of images: reduced, enlarged, and unchanged, by whole and by odd factors."""


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@compiled
@pytest.mark.parametrize("size", [(192, 256), (64, 64), (35, 77), (1, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_is_resized_as_in_opencv(shape, size):
    image = image_of(*shape)
    factors, shifts = preprocess.scale_and_shift(Preprocess())
    planes = pixels.resize_to_planes(image, size, factors, shifts)
    expected = cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    # Rounding of float32 only: 1e-4 of a gray level, of 256.
    np.testing.assert_allclose(planes.transpose(1, 2, 0) / factors, expected - shifts / factors, atol=1e-4)


@compiled
@pytest.mark.parametrize("shape", [(360, 640), (540, 960), (192, 256), (480, 640)])
def test_the_input_of_the_default_network_is_the_same_to_the_bit(shape, monkeypatch):
    spec, image = models.named_spec("tinyhd-m-quarter"), image_of(*shape)
    fast = preprocess.network_input(image, spec)
    monkeypatch.setattr(pixels, "library", lambda: None)
    np.testing.assert_array_equal(fast, preprocess.network_input(image, spec))


@compiled
def test_other_layouts_of_images(monkeypatch):
    """Parts of images are resized in place; mirrored ones, and those of another type, by OpenCV."""
    spec, image = models.named_spec("tinyhd-m-quarter"), image_of(240, 426)
    for view in (image[10:50, 20:90], image[:, ::-1], image[::-1], image.astype(np.float32), image[..., ::-1]):
        found = preprocess.network_input(view, spec)
        with monkeypatch.context() as patch:
            patch.setattr(pixels, "library", lambda: None)
            expected = preprocess.network_input(np.ascontiguousarray(view), spec)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fast", [pytest.param(True, marks=compiled), False])
def test_all_pairs_of_pixel_and_mixture(fast, monkeypatch):
    """Each pixel with each factor, and colors up to an overflow, against the definition."""
    if not fast:
        monkeypatch.setattr(pixels, "library", lambda: None)
    plane = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], 257, axis=1)[:, :256]
    values = np.ascontiguousarray(plane.T)
    kept, colors = np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)[::-1] // 2
    result = np.zeros((256, 300), np.uint8)
    pixels.blend(plane, values, pixels.mixtures(kept, colors), result[:, 3:259])
    expected = np.rint(plane.astype(float) * values / 255) + colors[values]
    np.testing.assert_array_equal(result[:, 3:259], expected.clip(0, 255).astype(np.uint8))
    assert not result[:, :3].any() and not result[:, 259:].any()


def test_a_library_of_another_version_is_not_used(tmp_path, monkeypatch):
    source = tmp_path / "other.c"
    source.write_text(f"const int version = {pixels.VERSION + 1};", encoding="utf-8")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(tmp_path / "other.so")], check=True)
    except FileNotFoundError:
        pytest.skip("needs a C compiler")
    for path in (tmp_path / "other.so", tmp_path / "missing.so"):
        monkeypatch.setattr(pixels, "LIBRARY", path)
        assert pixels.library.__wrapped__() is None


@compiled
def test_the_version_of_the_compiled_code():
    declared = ctypes.c_int32.in_dll(ctypes.CDLL(str(pixels.LIBRARY)), "version").value
    source = Path(pixels.__file__).parent / "csrc" / "pixels.c"
    assert declared == pixels.VERSION
    assert f"version = {pixels.VERSION};" in source.read_text(encoding="utf-8")


@compiled
@pytest.mark.parametrize("first", [0, 26, 200, 256])
def test_values_that_change_nothing(first, monkeypatch):
    """Blocks of pixels without a value from ``first`` on are copied."""
    rng = np.random.default_rng(first)
    plane = rng.integers(0, 256, (70, 333), dtype=np.uint8)
    values = cv2.resize(rng.integers(0, 256, (5, 7), dtype=np.uint8), (333, 70)).astype(np.uint8)
    kept = np.where(np.arange(256) < first, 255, np.arange(256) // 2).astype(np.uint8)
    table = pixels.mixtures(kept, np.where(np.arange(256) < first, 0, 99).astype(np.uint8))
    fast, slow = np.zeros_like(plane), np.zeros_like(plane)
    pixels.blend(plane, values, table, fast)
    monkeypatch.setattr(pixels, "library", lambda: None)
    pixels.blend(plane, values, table, slow)
    np.testing.assert_array_equal(fast, slow)
    assert (fast == plane).all() == (first > values.max())
