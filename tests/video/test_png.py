"""PNG files are read by other programs as the image that was written, whichever library compresses them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tinyhd_cli.video import png

MODES = {(): "L", (3,): "RGB", (4,): "RGBA"}


@pytest.mark.parametrize("library", ["isal", "opencv"])
@pytest.mark.parametrize("channels", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 53)])
def test_pillow_reads_the_same_pixels(monkeypatch, library, channels, size):
    if library == "opencv":
        monkeypatch.setattr(png, "isal_zlib", lambda: None)
    elif png.isal_zlib() is None:
        pytest.skip("isal is not installed")
    image = np.random.default_rng(3).integers(0, 256, (*size, *channels), np.uint8)
    with Image.open(io.BytesIO(png.encode(image))) as found:
        found.verify()  # checksums
    with Image.open(io.BytesIO(png.encode(image))) as found:
        assert found.mode == MODES[channels]
        assert np.array_equal(np.asarray(found), image)


def test_a_part_of_an_image_is_encoded_like_its_copy():
    image = np.random.default_rng(4).integers(0, 256, (20, 30, 3), np.uint8)
    assert png.encode(image[3:17, 5:25]) == png.encode(image[3:17, 5:25].copy())


def test_smooth_images_are_compressed():
    ramp = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)
    assert len(png.encode(ramp)) < ramp.size / 20


def test_16_bits_are_kept_and_other_arrays_refused():
    image = np.random.default_rng(5).integers(0, 65536, (9, 11), np.uint16)
    with Image.open(io.BytesIO(png.encode(image))) as found:
        assert np.array_equal(np.asarray(found), image)
    for shape in ((4, 5, 2), (0, 5), (0, 5, 3)):
        with pytest.raises(cv2.error):
            png.encode(np.zeros(shape, np.uint8))
