"""Kinds of images: AVIF, HEIC, CMYK, documents, scans; folders of them; animated images as outputs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers import clips
from PIL import Image, ImageCms, ImageSequence

from tinyhd_cli.errors import InputError, OutputError
from tinyhd_cli.video import pillow_images
from tinyhd_cli.video.animation_writer import FORMATS, AnimationWriter
from tinyhd_cli.video.frame_folders import is_sequence
from tinyhd_cli.video.image_writer import encode_image
from tinyhd_cli.video.images import is_static_image, stored_size
from tinyhd_cli.video.reader import VideoReader

IMAGE = clips.image(7, 64, 48)


def first(path):
    with VideoReader(path) as reader:
        return next(iter(reader)).rgb()


def difference(image, expected):
    return np.abs(image.astype(int) - np.asarray(expected).astype(int)).mean()


@pytest.mark.parametrize(
    ("name", "mode"), [("a.avif", "RGB"), ("a.avif", "RGBA"), ("c.jpg", "CMYK"), ("c.tif", "CMYK"), ("a.jfif", "RGB")]
)
def test_kinds(tmp_path, name, mode):
    path = tmp_path / name
    Image.fromarray(IMAGE).convert(mode).save(path, "JPEG" if name == "a.jfif" else None, quality=95)
    assert is_static_image(path)
    assert stored_size(path) == (64, 48)
    assert difference(first(path), IMAGE) < 6


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_upright_avif(tmp_path, orientation):
    exif = Image.Exif()
    exif[pillow_images.ORIENTATION] = orientation
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    Image.fromarray(IMAGE).transpose(turn).save(tmp_path / "a.avif", exif=exif, quality=95)
    assert difference(first(tmp_path / "a.avif"), IMAGE) < 6


def test_damaged_exif(tmp_path, monkeypatch):
    """An image whose EXIF data is damaged is shown as stored."""
    monkeypatch.setattr(pillow_images, "MAX_PIXELS", 40 * 30)
    exif, path = Image.Exif(), tmp_path / "a.webp"
    exif[pillow_images.ORIENTATION] = 6
    Image.fromarray(IMAGE).save(path, exif=exif)
    path.write_bytes(path.read_bytes().replace(b"II*\0", b"XXXX").replace(b"MM\0*", b"XXXX"))
    assert first(path).shape == (30, 40, 3)


def test_color_profiles(tmp_path):
    """A profile that is not sRGB changes the colors; one that is damaged does not."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)  # red, green
    shown = {}
    for name, profile in (("none", None), ("srgb", srgb), ("damaged", srgb[:50]), ("other", swapped)):
        Image.fromarray(IMAGE).save(tmp_path / "a.avif", quality=95, icc_profile=profile)
        shown[name] = first(tmp_path / "a.avif")
    assert difference(shown["srgb"], shown["none"]) < 2
    np.testing.assert_array_equal(shown["damaged"], shown["none"])
    assert difference(shown["other"], shown["none"]) > 10
    Image.fromarray(IMAGE).convert("CMYK").save(tmp_path / "c.jpg", quality=95, icc_profile=srgb)  # of another model
    assert difference(first(tmp_path / "c.jpg"), IMAGE) < 6


@pytest.mark.parametrize(
    ("content", "kind"), [(b"%PDF-1.7\n", "PDF"), (b"8BPS\0\1", "Photoshop"), (b"%!PS-Adobe", "PostScript")]
)
def test_documents(tmp_path, content, kind):
    for suffix in (".jpg", ".pdf"):
        path = tmp_path / f"poster{suffix}"
        path.write_bytes(content + b"\xff\xd8\xff" + bytes(5000))
        with pytest.raises(InputError, match=rf"poster{suffix}: is a {kind} document, not an image; export it as PNG"):
            VideoReader(path)


def test_large_scans_are_reduced(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pillow_images, "MAX_PIXELS", 40 * 30)
    expected = Image.fromarray(IMAGE).resize((40, 30), Image.Resampling.BOX)
    for suffix, mode in ((".png", "RGB"), (".jpg", "RGB"), (".tif", "RGB"), (".png", "P"), (".png", "I;16")):
        path, image = tmp_path / f"scan{suffix}", Image.fromarray(IMAGE)
        if mode == "I;16":
            image = Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)
        image = image.convert(mode) if mode == "P" else image
        image.save(path, **({"quality": 95} if suffix == ".jpg" else {}))
        found = first(path)
        assert found.shape == (30, 40, 3)
        assert difference(found, expected) < (12 if mode != "I;16" else 80)
        assert caplog.messages[-1] == f"{path}: 64 x 48 pixels, reduced to 40 x 30, the size of all outputs"
    monkeypatch.setattr(pillow_images, "MAX_STORED_PIXELS", 50 * 50)
    with pytest.raises(InputError, match=r"scan\.png: 64 x 48 pixels are too many .at most 50 x 50"):
        VideoReader(tmp_path / "scan.png")


def test_damaged_images_give_one_reason(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.avif")
    (tmp_path / "a.avif").write_bytes((tmp_path / "a.avif").read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.avif: (is damaged|cannot be decoded)"):
        VideoReader(tmp_path / "a.avif")


def test_heic(tmp_path, monkeypatch):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert is_static_image(path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(InputError, match=r"a\.heic: reading HEIC needs pillow-heif: pip install 'tinyhd\[heic\]'"):
            VideoReader(path)
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    heif.register_heif_opener()
    Image.fromarray(IMAGE).save(path, quality=95)
    assert difference(first(path), IMAGE) < 6


def folder_of(tmp_path, names, sizes=((8, 6),)):
    for number, name in enumerate(names):
        Image.new("RGB", sizes[number % len(sizes)]).save(tmp_path / name)
    return [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("names", "sizes", "expected"),
    [
        (["1.png", "2.png", "3.png"], [(8, 6)], True),
        (["f_0010_x.png", "f_0020_x.png", "f_0030_x.png"], [(8, 6)], True),
        (["1.png", "2.png", "4.png"], [(8, 6)], False),
        (["1.png", "2.png", "3.png"], [(8, 6), (6, 8)], False),
        (["a1.png", "b2.png"], [(8, 6)], False),
        (["1.png", "2.jpg"], [(8, 6)], False),
        (["cat.png", "dog.png"], [(8, 6)], False),
        (["1.png"], [(8, 6)], False),
    ],
)
def test_frames_of_a_video_are_told_from_unrelated_images(tmp_path, names, sizes, expected):
    assert is_sequence(folder_of(tmp_path, names, sizes)) is expected


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("gray", [False, True])
def test_animated_images(tmp_path, suffix, gray):
    source = clips.make(tmp_path / "clip.mp4", width=64, height=48, frames=4)
    path, shown = tmp_path / f"a{suffix}", []
    with VideoReader(source) as reader:
        writer = AnimationWriter(path, (64, 48))
        for frame in reader:
            image = frame.rgb()[..., 1] if gray else frame.rgb()
            shown.append(np.repeat(image[..., np.newaxis], 3, axis=2) if gray else image)
            writer.write(image, frame)
            rate = float(reader.info.rate)
        assert not path.exists()
        writer.close()
    with Image.open(path) as image:
        assert (image.size, image.n_frames, image.info["loop"]) == ((64, 48), 4, 0)
        for frame, expected in zip(ImageSequence.Iterator(image), shown, strict=True):
            assert difference(np.asarray(frame.convert("RGB")), expected) < 8
            assert frame.info["duration"] == pytest.approx(1000 / rate, abs=11)
    assert [file.name for file in tmp_path.iterdir() if file.suffix == suffix] == [path.name]


def test_an_animation_that_cannot_be_written(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "source.png")
    writer = AnimationWriter(tmp_path / "a.webp", (20_000, 10))  # WebP has at most 16383 pixels per side
    with VideoReader(tmp_path / "source.png") as reader, pytest.raises(OutputError, match=r"a\.webp: cannot be"):
        writer.write(np.zeros((10, 20_000, 3), np.uint8), next(iter(reader)))
    writer.abort()
    assert [file.name for file in tmp_path.iterdir()] == ["source.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_still_images_as_outputs(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_image(IMAGE, suffix))
    assert difference(first(path), IMAGE) < 4
