"""Images as inputs: upright according to EXIF, one frame per file even if the file contains several images."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import clips
from PIL import Image, ImageOps

from tinyhd_cli.errors import InputError
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.source import images_in

FORMATS = {
    "jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tif": ("TIFF", {}),
}


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def stored(orientation, number=0):
    """Return an image that is upright after the transposition of an EXIF orientation."""
    upright = Image.fromarray(clips.image(number, 64, 48))
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's inverse transpositions
    return upright.transpose(Image.Transpose(turned[orientation])) if orientation != 1 else upright


def save(path, image, orientation=None, **options):
    kind, settings = FORMATS[path.suffix[1:]]
    extra = {"exif": exif(orientation)} if orientation else {}
    image.save(path, kind, **settings, **extra, **options)
    return path


def read(path):
    with VideoReader(path) as reader:
        return reader.info, list(reader)


def is_close(image, expected, tolerance=4):
    return image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() < tolerance


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_orientations(tmp_path, suffix):
    for orientation in range(1, 9):
        path = save(tmp_path / f"{orientation}.{suffix}", stored(orientation), orientation)
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert is_close(expected, clips.image(0, 64, 48)), "the test itself"
        info, frames = read(path)
        assert len(frames) == 1 and (info.width, info.height) == (64, 48)
        assert is_close(frames[0].rgb(), expected), orientation


def test_folder_of_images_with_different_orientations(tmp_path):
    for number, orientation in enumerate((1, 6, 8, 3, 5)):
        save(tmp_path / f"IMG_{number:04d}.jpg", stored(orientation, number), orientation)
    info, frames = read(tmp_path)
    assert (info.width, info.height, len(frames)) == (64, 48, 5)
    for number, frame in enumerate(frames):
        assert is_close(frame.rgb(), clips.image(number, 64, 48)), number


def test_images_of_a_different_aspect_ratio_get_bars(tmp_path):
    save(tmp_path / "1.png", Image.fromarray(np.full((48, 64, 3), 200, np.uint8)))
    save(tmp_path / "2.png", Image.fromarray(np.full((96, 48, 3), 200, np.uint8)))  # portrait
    save(tmp_path / "3.png", Image.fromarray(np.full((20, 160, 3), 200, np.uint8)))  # panorama
    save(
        tmp_path / "4.png", Image.fromarray(np.full((96, 128, 3), 200, np.uint8))
    )  # larger, with the same aspect ratio
    _, frames = read(tmp_path)
    filled = [np.argwhere(frame.rgb()[..., 0] > 100) for frame in frames]
    assert [(*area.min(0), *area.max(0)) for area in filled] == [
        (0, 0, 47, 63),
        (0, 20, 47, 43),
        (20, 0, 27, 63),
        (0, 0, 47, 63),
    ]
    assert frames[1].reduced_rgb(2).shape == (24, 32, 3)


def test_exif_in_the_frames_of_a_video(tmp_path):
    """Some cameras write EXIF to the frames of MJPEG videos."""
    path = tmp_path / "camera.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, orientation in enumerate((1, 3, 2)):
            data = io.BytesIO()
            stored(orientation, number).save(data, "JPEG", exif=exif(orientation), quality=95)
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            container.mux(packet)
    _, frames = read(path)
    assert [frame.time_s for frame in frames] == [0, 0.1, 0.2]
    for number, frame in enumerate(frames):
        assert is_close(frame.rgb(), clips.image(number, 64, 48), 8), number


def test_several_images_in_one_file_are_one_frame(tmp_path):
    """Ultra HDR photographs contain a gain map, MPO files a second view."""
    first, second = (Image.fromarray(clips.image(0, 64, 48) // factor) for factor in (1, 2))
    for number in range(3):
        first.save(tmp_path / f"{number}.jpg", "MPO", save_all=True, append_images=[second] * number, quality=95)
    first.save(tmp_path / "3.tif", save_all=True, append_images=[Image.fromarray(clips.image(9, 64, 48))])
    for path in (tmp_path, tmp_path / "2.jpg"):
        _, frames = read(path)
        assert len(frames) == (4 if path == tmp_path else 1)
        assert all(is_close(frame.rgb(), clips.image(0, 64, 48), 8) for frame in frames)


def test_folder_of_all_formats_in_natural_order(tmp_path):
    names = ["p1.png", "p2.jpg", "p3.webp", "p10.tif", "p11.png"]
    for number, name in enumerate(names):
        save(tmp_path / name, Image.fromarray(clips.image(number, 64, 48)))
    assert [path.name for path in images_in(tmp_path)] == names
    info, frames = read(tmp_path)
    assert info.frame_count == 5 and [frame.path.name for frame in frames] == names
    for number, frame in enumerate(frames):
        assert is_close(frame.rgb(), clips.image(number, 64, 48)), number


def test_images_that_cannot_be_decoded_leave_a_gap(tmp_path, caplog):
    for number in range(4):
        save(tmp_path / f"{number}.png", Image.fromarray(clips.image(number, 64, 48)))
    (tmp_path / "1.png").write_text("no image")
    (tmp_path / "2.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    with VideoReader(tmp_path) as reader:
        frames = list(reader)
        assert reader.damaged == 2
    assert [frame.path.name for frame in frames] == ["0.png", "3.png"]
    assert [round(frame.time_s, 6) for frame in frames] == [0, 0.12]
    assert f"{tmp_path / '1.png'}: is not an image, despite its suffix" in caplog.text
    assert f"{tmp_path / '2.png'}: cannot be decoded" in caplog.text


def test_wrong_suffix(tmp_path):
    save(tmp_path / "a.png", Image.fromarray(clips.image(0, 64, 48))).rename(tmp_path / "a.jpg")
    info, _ = read(tmp_path / "a.jpg")
    assert info.codec == "png"


def test_transparent_images_are_blended_with_white(tmp_path):
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, :32, 3], pixels[:, 48:, 3] = 255, 128
    image = Image.fromarray(pixels)
    for name in ("a.png", "a.webp", "a.tif"):
        save(tmp_path / name, image)
    image.convert("LA").save(tmp_path / "la.png")
    image.save(tmp_path / "a.gif")
    image.quantize(8).save(tmp_path / "palette.png")
    for path in tmp_path.iterdir():
        opaque, transparent = (read(path)[1][0].rgb()[20, column] for column in (10, 40))
        assert abs(int(opaque[0]) - (60 if path.name == "la.png" else 200)) <= 2, path
        assert transparent.tolist() == [255, 255, 255], path


def test_depth_and_gray(tmp_path):
    values = np.arange(256, dtype=np.uint16).repeat(12).reshape(48, 64) * 257
    Image.fromarray(values).save(tmp_path / "16.png")
    Image.fromarray((values >> 8).astype(np.uint8)).save(tmp_path / "8.png")
    deep, shallow = (read(tmp_path / name)[1][0].rgb().astype(int) for name in ("16.png", "8.png"))
    assert np.abs(shallow - (values >> 8)[..., None]).max() <= 1
    assert np.abs(deep - shallow).max() <= 1


def test_animations(tmp_path):
    images = [Image.fromarray(clips.image(5 * number, 64, 48)) for number in range(3)]
    several = {"save_all": True, "append_images": images[1:]}
    images[0].save(tmp_path / "a.webp", lossless=True, duration=[100, 300, 50], **several)
    images[0].save(tmp_path / "a.gif", duration=200, **several)
    images[0].save(tmp_path / "a.png", duration=200, **several)
    for name, times, end in (
        ("a.webp", [0, 0.1, 0.4], 0.45),
        ("a.gif", [0, 0.2, 0.4], 0.6),
        ("a.png", [0, 0.2, 0.4], 0.6),
    ):
        info, frames = read(tmp_path / name)
        assert [round(frame.time_s, 6) for frame in frames] == times
        assert float((frames[-1].pts + frames[-1].duration) * info.time_base) == pytest.approx(end)
        for number, frame in enumerate(frames):
            assert is_close(frame.rgb(), clips.image(5 * number, 64, 48), 6), (name, number)


def test_a_damaged_animation(tmp_path):
    Image.fromarray(clips.image(0, 64, 48)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(clips.image(5, 64, 48))], duration=100
    )
    (tmp_path / "a.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:60])
    with pytest.raises(InputError, match="no frame could be decoded"):
        VideoReader(tmp_path / "a.webp")


def test_animation_is_not_described_as_a_single_image(tmp_path):
    from tinyhd_cli.inference.inputs import Input, describe_images

    still, moving = tmp_path / "still.webp", tmp_path / "moving.webp"
    frames = [Image.new("RGB", (32, 24), (value, 0, 0)) for value in (0, 90, 180)]
    frames[0].save(still)
    frames[0].save(moving, save_all=True, append_images=frames[1:], duration=100)
    found = [Input(path, named=False) for path in (moving, still, still)]
    assert describe_images(found[:2], None, "auto") == []
    assert describe_images(found, None, "auto")[0].startswith("2 images, each read separately")
