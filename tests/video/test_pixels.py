"""Compiled code resizes, averages and paints pixels as OpenCV does, and OpenCV is used without it."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli import models
from tinyhd_cli.inference import preprocess
from tinyhd_cli.models import Preprocess
from tinyhd_cli.video import pixels
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.yuv import SDR, Color, to_rgb, to_yuv

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


def planes_of(height, width, seed=0):
    """Return luma and chroma of a frame of random pixels, as parts of larger arrays."""
    rng = np.random.default_rng(seed)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return [rng.integers(0, 256, (h, w + 7), dtype=np.uint8)[:, 3 : w + 3] for h, w in sizes]


def painted(planes, values, mixtures):
    """Return the planes, painted; the memory around them must not change."""
    canvases = [np.full((plane.shape[0] + 2, plane.shape[1] + 9), 77, np.uint8) for plane in planes]
    results = [canvas[1:-1, 4:-5] for canvas in canvases]
    pixels.paint(planes, values, mixtures, results)
    for canvas in canvases:
        assert (canvas[[0, -1]] == 77).all()
        assert (canvas[:, :4] == 77).all()
        assert (canvas[:, -5:] == 77).all()
    return results


PLAIN = {"any CPU": 1, "AVX2": 2}
"""Values of ``plain`` in ``pixels.c`` by variant of the compiled code; 0 is the fastest."""


@pytest.fixture(params=[*(pytest.param(name, marks=compiled) for name in ("fastest", *PLAIN)), "OpenCV"])
def code(request, monkeypatch):
    """Each variant of the code that paints."""
    if request.param == "OpenCV":
        monkeypatch.setattr(pixels, "library", lambda: None)
        yield request.param
        return
    plain = ctypes.c_int32.in_dll(pixels.library(), "plain")
    plain.value = PLAIN.get(request.param, 0)
    yield request.param
    plain.value = 0


def test_all_pairs_of_pixel_and_mixture(code):
    """Each pixel with each factor, and colors up to an overflow, against the definition."""
    plane = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], 256, axis=1)
    values = np.ascontiguousarray(plane.T)
    kept, colors = np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)[::-1] // 2
    large = [side.repeat(2, 0).repeat(2, 1) for side in (plane, values)]
    results = painted([large[0], plane, plane], large[1], [pixels.mixtures(kept, colors)] * 3)
    expected = np.rint(plane.astype(float) * values / 255) + colors[values]
    expected = expected.clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(results[0], expected.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(results[1:], [expected, expected])


ENLARGED = [
    ((192, 256), (1080, 1920)),
    ((192, 256), (192, 256)),
    ((64, 64), (98, 66)),
    ((1, 1), (2, 4)),
    ((3, 5), (6, 94)),
]
"""Heights and widths of maps, and of frames that they are enlarged to: by large, small and uneven factors."""


@pytest.mark.parametrize(("small", "size"), ENLARGED)
@pytest.mark.parametrize("smooth", [True, False])
def test_a_map_is_enlarged_as_in_opencv(small, size, smooth, code):
    """Where the mixtures are the values themselves, painting shows the enlarged map."""
    values = np.random.default_rng(1).integers(0, 256, small, dtype=np.uint8)
    if smooth:
        values = cv2.GaussianBlur(values, (0, 0), 3).reshape(small)
    levels = np.arange(256, dtype=np.uint8)
    luma, *chroma = painted(planes_of(*size), values, [pixels.mixtures(0 * levels, levels)] * 3)
    expected = cv2.resize(values, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(size).astype(float)
    assert np.abs(luma - expected).max() <= 1
    halves = expected.reshape(size[0] // 2, 2, size[1] // 2, 2).mean(axis=(1, 3))
    for plane in chroma:
        assert np.abs(plane - halves).max() <= 1.5


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


@pytest.mark.parametrize("first", [0, 26, 200, 256])
def test_values_that_change_nothing(first, code):
    """Blocks of pixels without a value from ``first`` on are copied."""
    rng = np.random.default_rng(first)
    planes = planes_of(70, 334, first)
    values = cv2.resize(rng.integers(0, 256, (5, 7), dtype=np.uint8), (334, 70)).astype(np.uint8)
    kept = np.where(np.arange(256) < first, 255, np.arange(256) // 2).astype(np.uint8)
    table = pixels.mixtures(kept, np.where(np.arange(256) < first, 0, 99).astype(np.uint8))
    luma, *chroma = painted(planes, values, [table, pixels.mixtures(kept | 255, kept * 0), table])
    expected = np.rint(planes[0] * kept[values].astype(float) / 255) + (table[values] >> 8)
    np.testing.assert_array_equal(luma, expected.clip(0, 255))
    np.testing.assert_array_equal(chroma[0], planes[1])
    assert (chroma[1] == planes[2]).all() == (first > values.max())


@pytest.mark.parametrize("first", [1, 60, 180, 250])
def test_blocks_are_copied_only_if_no_value_changes_a_pixel(first, code):
    """Also where bicubic interpolation exceeds the values of the map."""
    rng = np.random.default_rng(first)
    planes, levels = planes_of(150, 1030, first), np.arange(256, dtype=np.uint8)
    small = (rng.integers(0, 2, (13, 31)) * rng.choice([20, first, 255], (13, 31))).astype(np.uint8)
    values = painted(planes, small, [pixels.mixtures(0 * levels, levels)] * 3)
    changes = levels >= first
    kept, colors = np.where(changes, levels // 2, 255).astype(np.uint8), np.where(changes, 70, 0).astype(np.uint8)
    results = painted(planes, small, [pixels.mixtures(kept, colors)] * 3)
    for plane, value, result in zip(planes, values, results, strict=True):
        expected = np.rint(plane * kept[value].astype(float) / 255) + colors[value]
        np.testing.assert_array_equal(result, expected.clip(0, 255))


@compiled
@pytest.mark.parametrize("plain", [0, 1])
@pytest.mark.parametrize("color", [SDR, Color(6, 1, 6, 6), Color(2, 0, 2, 2), Color(5, 2, 5, 6), Color(9, 1, 9, 14)])
@pytest.mark.parametrize(
    ("factor", "size"), [(2, (98, 66)), (3, (18, 210)), (3, (12, 6)), (4, (40, 72)), (5, (10, 70)), (6, (12, 12))]
)
def test_frames_are_averaged(factor, size, color, plain, monkeypatch):
    """Against the definition, with the pixels of chroma repeated."""
    planes = planes_of(*size)
    monkeypatch.setattr(ctypes.c_int32.in_dll(pixels.library(), "plain"), "value", plain)
    found = pixels.reduce_planes(planes, factor, to_rgb(color))
    large = [planes[0], *(plane.repeat(2, 0).repeat(2, 1) for plane in planes[1:])]
    shape = size[0] // factor, factor, size[1] // factor, factor
    yuv = np.stack([plane.reshape(shape).mean(axis=(1, 3)) for plane in large], axis=-1)
    # The inverse of a linear function with a summand.
    black, matrix = to_yuv(np.zeros((1, 3)), color), to_yuv(np.eye(3), color) - to_yuv(np.zeros((1, 3)), color)
    expected = 255 * (yuv - black) @ np.linalg.inv(matrix)
    assert np.abs(found - expected.clip(0, 255)).max() <= 0.501


@compiled
@pytest.mark.parametrize("columns", [2, 10, 12, 30, 640])
def test_all_variants_average_the_same(columns):
    """Their results are the same to the bit."""
    library, planes = pixels.library(), planes_of(18, 3 * columns)
    results = []
    for plain in (0, *PLAIN.values()):
        ctypes.c_int32.in_dll(library, "plain").value = plain
        results.append(pixels.reduce_planes(planes, 3, to_rgb(SDR)))
    ctypes.c_int32.in_dll(library, "plain").value = 0
    np.testing.assert_array_equal(results[1:], results[:1] * 2)


def test_frames_are_averaged_by_ffmpeg_otherwise(tmp_path, monkeypatch):
    """Smooth frames, which FFmpeg's scaler averages to the same colors, except for rounding."""
    path = clips.make(tmp_path / "clip.mp4", frames=2, width=192, height=96, options={"crf": "1"})
    with VideoReader(path) as reader:
        for frame in reader:
            assert frame.has_plain_planes
            for factor in (2, 3, 4.0, 2.5):
                with monkeypatch.context() as patch:
                    fast = frame.reduced_rgb(factor)
                    patch.setattr(pixels, "library", lambda: None)
                    slow = frame.reduced_rgb(factor)
                assert fast.shape == slow.shape
                assert np.abs(fast.astype(int) - slow).mean() < 3


@pytest.mark.parametrize("first", [0, 30, 255, 256])
@pytest.mark.parametrize("size", [(1, 1), (7, 31), (60, 129)])
def test_images_are_blended(size, first, code):
    """Against the definition: each channel has its own color, and low values change nothing."""
    rng = np.random.default_rng(first)
    image, values = image_of(*size), rng.integers(0, 256, size, dtype=np.uint8)
    values[: size[0] // 2] //= 9  # blocks that are copied
    changes = np.arange(256) >= first
    kept = np.where(changes, rng.integers(0, 256, 256), 255).astype(np.uint8)
    colors = np.where(changes[:, np.newaxis], rng.integers(0, 256, (256, 3)), 0).astype(np.uint8)
    expected = np.rint(image.astype(float) * kept[values][..., np.newaxis] / 255) + colors[values]
    for view in (image, image[::-1], np.pad(image, ((0, 0), (1, 2), (0, 0)))[:, 1:-2]):
        found = pixels.blend(view, values[::-1] if view.strides[0] < 0 else values, kept, colors)
        found = found[::-1] if view.strides[0] < 0 else found
        np.testing.assert_array_equal(found, expected.clip(0, 255))
