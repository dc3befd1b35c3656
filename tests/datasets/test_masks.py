"""Masks of objects: which pixels of which files are objects, and where layouts find the files."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from PIL import Image

from tinyhd_cli.datasets import masks, open_dataset, read_mask
from tinyhd_cli.datasets.masks import MaskFiles, load_mask
from tinyhd_cli.errors import InputError

SHAPE = (9, 12)


@pytest.fixture
def labels():
    """Return labels ``(h, w)``: 0 is the background, 1 and 2 are objects."""
    values = np.zeros(SHAPE, np.uint8)
    values[2:5, 3:8], values[6:8, 1:4] = 1, 2
    return values


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch):
    monkeypatch.setattr(masks, "warned", set())
    monkeypatch.setattr(logging.getLogger("tinyhd"), "propagate", True)


def write_palette(path, labels, colors):
    image = Image.fromarray(labels, "P")
    image.putpalette([level for color in colors for level in color])
    image.save(path)
    return path


def test_binary_files(tmp_path, labels, caplog):
    """Files in black and white, of 1, 8 and 16 bits, in gray and in three equal channels, and files of 0 and 1."""
    expected = labels > 0
    white = expected.astype(np.uint8) * 255
    files = {
        "gray.png": white,
        "rgb.png": white[..., np.newaxis].repeat(3, axis=2),
        "ones.png": expected.astype(np.uint8),
        "deep.png": white.astype(np.uint16) * 257,
        "gray.bmp": white,
        "gray.pgm": white,
        "gray.tif": white,
    }
    paths = [on_disk.write_image(tmp_path / name, values) for name, values in files.items()]
    bits = tmp_path / "bits.png"
    bits.write_bytes(cv2.imencode(".png", white, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes())
    for path in [*paths, bits]:
        mask = read_mask(path, SHAPE)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected, err_msg=path.name)
    assert not caplog.records


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (128, 0, 0), (0, 128, 0)],  # as in DAVIS 2017
        [(0, 0, 0), (1, 1, 1), (2, 2, 2)],  # labels as gray levels
    ],
)
def test_every_color_of_a_palette_is_an_object(tmp_path, labels, colors, caplog):
    np.testing.assert_array_equal(read_mask(write_palette(tmp_path / "a.png", labels, colors)), labels > 0)
    assert not caplog.records


def test_colored_files(tmp_path, labels):
    """Every color but black is an object, or only the colors that the dataset defines."""
    colors = np.array([(0, 0, 0), (0, 0, 90), (70, 0, 200)], np.uint8)
    path = on_disk.write_image(tmp_path / "a.png", colors[labels])
    np.testing.assert_array_equal(read_mask(path), labels > 0)
    colors[0] = 255
    path = on_disk.write_image(tmp_path / "a.ppm", colors[labels])
    assert read_mask(path).all()
    objects = MaskFiles((path,), ((0, 0, 90), (70, 0, 200)))
    np.testing.assert_array_equal(read_mask(objects), labels > 0)
    np.testing.assert_array_equal(read_mask(MaskFiles((path,), ((70, 0, 200),))), labels == 2)


def test_jpegs_are_thresholded(tmp_path):
    """Black and white are not exact there, in gray nor in color."""
    white = on_disk.object_mask("v", 1, (64, 48))
    for name, image in (("gray", white), ("color", np.stack([white, white // 3, white // 3], axis=2))):
        mask, binary = load_mask(on_disk.write_image(tmp_path / f"{name}.jpg", image))
        assert np.mean(mask != (white > 0)) < 0.02
        assert not binary


def test_gray_levels_are_thresholded_with_a_warning(tmp_path, caplog):
    """Above 127 is an object; one file of each folder is named."""
    values = np.tile(np.arange(0, 250, 50, dtype=np.uint8), (4, 1))
    paths = [on_disk.write_image(tmp_path / f"{number}.png", values) for number in (1, 2)]
    for path in paths:
        np.testing.assert_array_equal(read_mask(path)[0], [False, False, False, True, True])
    assert [record.message for record in caplog.records] == [
        f"{paths[0]}: is not a binary mask; levels above half of white count as object"
    ]
    assert load_mask(on_disk.write_image(tmp_path / "127.png", np.full(SHAPE, 127, np.uint8)))[0].sum() == 0
    assert load_mask(on_disk.write_image(tmp_path / "128.png", np.full(SHAPE, 128, np.uint8)))[0].all()


def test_objects_of_several_files_are_united(tmp_path, labels):
    paths = [
        on_disk.write_image(tmp_path / f"{label}" / "1.png", (labels == label).astype(np.uint8) * 255)
        for label in (1, 2)
    ]
    np.testing.assert_array_equal(read_mask(MaskFiles(tuple(paths))), labels > 0)
    on_disk.write_image(paths[1], np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError) as caught:
        read_mask(MaskFiles(tuple(paths)))
    assert str(caught.value) == f"{paths[1]}: is 5 x 5, but the mask of another object is 12 x 9; masks are not resized"


def test_files_that_cannot_be_masks(tmp_path):
    path = on_disk.write_image(tmp_path / "a.png", np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError) as caught:
        read_mask(path, (36, 64))
    assert str(caught.value) == f"{path}: is 12 x 9, but the frame is 64 x 36; masks are not resized"
    on_disk.truncate(path)
    with pytest.raises(InputError, match=r"a\.png: is truncated"):
        read_mask(path)
    with pytest.raises(InputError, match=r"b\.tiff: contains NaN or infinity$"):
        read_mask(on_disk.write_image(tmp_path / "b.tiff", np.full(SHAPE, np.nan, np.float32)))


@pytest.mark.parametrize("form", ["images", "inside", "beside"])
def test_masks_in_a_folder_of_videos(tmp_path, form):
    """Masks are found beside or instead of maps and fixations, for all frames or for some."""
    on_disk.folder(tmp_path, {"cat": 3, "sub/dog": 2}, form, kinds=("masks",))
    on_disk.folder(tmp_path, {"both": 2}, form, kinds=("maps", "fixation", "masks"))
    (tmp_path / ("masks/cat" if form == "beside" else "cat/masks") / "frame2.png").unlink()
    dataset = open_dataset("folder", tmp_path)
    assert [(video.name, list(video.masks), len(video.densities)) for video in dataset.videos] == [
        ("both", [1, 2], 2),
        ("cat", [1, 3], 0),
        ("sub/dog", [1, 2], 0),
    ]
    cat = dataset.videos[1]
    assert cat.annotated
    assert cat.annotated_numbers == [1, 3]
    frames = list(cat.read())
    assert [(files.number, files.annotated) for files, _ in frames] == [(1, True), (2, False), (3, True)]
    for files, image in frames[::2]:
        np.testing.assert_array_equal(
            read_mask(files.mask, image.shape[:2]), on_disk.object_mask("cat", files.number) > 0
        )


def test_photographs_with_masks(tmp_path):
    on_disk.images(tmp_path, kinds=("masks",))
    (tmp_path / "masks" / "i2.png").unlink()
    (tmp_path / "images" / "i10.jpg").unlink()
    beach, second, third = open_dataset("images", tmp_path).videos
    assert (beach.annotated, second.annotated, third.source) == (True, False, None)
    ((files, image),) = beach.read()
    np.testing.assert_array_equal(read_mask(files.mask, image.shape[:2]), on_disk.object_mask("beach", 1) > 0)
