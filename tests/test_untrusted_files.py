"""Files with false headers or excessive content cause a one-line error, and no memory is allocated for them."""

from __future__ import annotations

import io
import json
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips
from helpers import datasets_on_disk as on_disk

from tinyhd_cli import arrays, settings
from tinyhd_cli.datasets.headers import claimed_size
from tinyhd_cli.datasets.images import read_image, read_map
from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.inference.area_parsing import parse_areas
from tinyhd_cli.inference.polygons import Attention
from tinyhd_cli.training.settings import build_config


def header(descr: str, shape: tuple[int, ...], order: bool = False) -> bytes:
    """Return the header of an npy file with a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": order, "shape": shape})
    return file.getvalue()


def npz(path: Path, member: bytes, name: str = "saliency.npy") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return path


PEBIBYTES = header("<f4", (20_000_000_000, 192, 256))
NO_ARRAY = "is not an npz file with a numeric array"
BAD_ARCHIVES = {
    "3.5 PiB": (PEBIBYTES, "is too short for the array float32 (20000000000, 192, 256)"),
    "one huge map": (header("<f4", (1, 10**9, 10**9)), "is too short for the array"),
    "negative": (header("<f4", (-1, 9, 9)), NO_ARRAY),
    "no side": (header("<f4", (10**15, 0, 9)), "must contain maps (frames, height, width)"),
    "brackets": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000, NO_ARRAY),
    "later version": (b"\x93NUMPY\x03\x00" + struct.pack("<I", 2**31) + b" " * 100, NO_ARRAY),
    "text": (header("<U5", (3, 9, 9)) + bytes(5000), "must contain maps (frames, height, width), not <U5"),
    "complex": (header("<c8", (3, 9, 9)) + bytes(5000), "must contain maps"),
    "objects": (header("|O", (3, 9, 9)) + bytes(5000), NO_ARRAY),
    "a bomb": (header("<f8", (1, 30_000, 30_000)) + bytes(1000), "is too short for the array"),
    "a flat map": (np.zeros(9).tobytes(), NO_ARRAY),
}


@pytest.fixture
def park(tmp_path):
    """A video of three frames."""
    return on_disk.folder(tmp_path / "data", {"park": 3})


@pytest.mark.parametrize(("member", "message"), BAD_ARCHIVES.values(), ids=list(BAD_ARCHIVES))
def test_archives_with_false_headers(tinyhd, park, capsys, member, message):
    npz(Path("maps/park.npz"), member)
    assert tinyhd("evaluate", "--root", park, "--baseline", "none", "--pred-dir", "maps") == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyhd: ")]
    assert len(lines) == 1 and message in lines[0] and "maps/park.npz: " in lines[0] and "unexpected" not in lines[0]


def test_zip_bomb_takes_the_memory_of_one_map(tmp_path):
    """It is compressed 250:1 and read map by map."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "bomb.npz"
    zeros = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("saliency.npy", "w", force_zip64=True) as file,
    ):
        file.write(header("<f4", (64, 512, 512)))
        for _ in range(64):
            file.write(zeros)
    assert path.stat().st_size < 1 << 19
    with arrays.Archive(path) as archive, archive.open("saliency") as array:
        assert sum(not one.any() for one in array.items()) == 64
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB
    (tmp_path / "large.npy").write_bytes(header("<f8", (20_000, 20_000)))
    with pytest.raises(InputError, match="too short for the array"):
        read_map(tmp_path / "large.npy")


def png(width: int, height: int) -> bytes:
    """Return a grayscale PNG of a size with almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def enlarged(suffix: str) -> bytes:
    """Return an image file whose header states 60,000 x 60,000 pixels."""
    if suffix == ".png":
        return png(60_000, 60_000)
    if suffix == ".pgm":
        return b"P5 # a comment\n60000\n# 12 34\n60000 255\n" + bytes(99)
    data = bytearray(cv2.imencode(suffix, np.zeros((37, 301), np.uint8))[1].tobytes())
    sizes = {".bmp": "<ii", ".jpg": ">HH", ".tif": "<I"}
    if suffix == ".tif":
        for side in (301, 37):
            at = next(at for at in range(0, len(data) - 12) if bytes(data[at : at + 12]) in tags(side))
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
        return bytes(data)
    small = struct.pack(sizes[suffix], *((37, 301) if suffix == ".jpg" else (301, 37)))
    at = data.index(small)
    data[at : at + len(small)] = struct.pack(sizes[suffix], 60_000, 60_000)
    return bytes(data)


def tags(side: int) -> set[bytes]:
    return {struct.pack("<HHII", tag, kind, 1, side) for tag in (256, 257) for kind in (3, 4)}


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".tif", ".pgm"])
def test_images_with_false_headers(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(enlarged(suffix))
    for read in (read_image, read_map):
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value) == f"{path}: claims 60,000 x 60,000 pixels; the limit is 256 megapixels"


@pytest.mark.parametrize("quality", [80, 101])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".pgm", ".ppm"])
def test_sizes_in_headers(suffix, quality):
    flags = [cv2.IMWRITE_WEBP_QUALITY, quality] if suffix == ".webp" else []
    image = on_disk.draw_frame("v", 1, (301, 37))
    image = image[..., 0] if suffix == ".pgm" else image
    data = cv2.imencode(suffix, image, flags)[1].tobytes()
    assert claimed_size(data) == (301, 37)
    for length in range(0, 60, 7):
        assert claimed_size(data[:length]) in (None, (301, 37))
    assert claimed_size(b"text") is None


DEEP = "[" * 100_000
CORNERS = [[number % 640, number % 360] for number in range(100_000)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DEEP, "is not a JSON file (nested more than 64 levels deep)"),
        (
            json.dumps({"areas": [{"name": "a", "polygon": CORNERS}]}),
            "area 'a': has 100,000 corners; the limit is 10,000",
        ),
        (
            json.dumps({"areas": [{"name": "a" * 101, "box": [0, 0, 1, 1]}]}),
            "the name has 101 characters; the limit is 100",
        ),
        (
            '{"areas": [{"name": "a", "box": [NaN, 0, 1, 1]}]}',
            "area 'a': a box contains NaN or a number beyond 1,000,000",
        ),
        ('{"areas": [{"name": "a", "box": [0, 0, Infinity, 1]}]}', "area 'a': a box contains NaN or a number beyond"),
        ('{"areas": [{"name": "a", "box": [0, 0, 1e300, 1]}]}', "area 'a': a box contains NaN or a number beyond"),
        ('{"areas": [{"name": "a", "box": [0, 0, 1%s, 1]}]}' % ("0" * 400), "area 'a': a box must consist of numbers"),
        ('{"areas": [{"name": "a", "box": ["0", 0, 1, 1]}]}', "area 'a': a box must consist of numbers"),
        ('{"areas": [{"name": "a", "box": null}]}', "area 'a': a box must consist of numbers"),
        ('{"areas": [{"name": "a", "polygon": [[1, 2], [3], [4, 5]]}]}', "area 'a': a polygon must consist of numbers"),
        ('{"areas": [{"name": {"x": 1}, "box": [0, 0, 1, 1]}]}', "area names must be text"),
        ('{"areas": [{"name": " ", "box": [0, 0, 1, 1]}]}', "area names must not be empty"),
        ('{"areas": [{"name": "a", "keyframes": [{"time_s": NaN, "box": [0, 0, 1, 1]}]}]}', "a time contains NaN"),
        ('{"areas": [{"name": "a", "keyframes": "abc"}]}', "keyframes must be a list of objects"),
        ('{"areas": 5}', "areas must be a list of objects"),
        ('{"areas": ["a"]}', "areas must be a list of objects"),
        ("5", "must contain an object"),
    ],
)
def test_invalid_areas(content, message):
    path = Path("areas.json").absolute()
    path.write_text(content)
    try:
        with pytest.raises(InputError) as error:
            parse_areas([str(path)])
    finally:
        path.unlink()
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


def test_too_many_areas(tmp_path):
    path = tmp_path / "areas.json"
    path.write_text(json.dumps({"areas": [{"name": str(number), "box": [0, 0, 1, 1]} for number in range(257)]}))
    with pytest.raises(UsageError, match="257 areas; the limit is 256"):
        parse_areas([str(path)])
    outline = CORNERS[:10_000]
    path.write_text(json.dumps({"areas": [{"name": str(number), "polygon": outline} for number in range(11)]}))
    with pytest.raises(UsageError, match="110,000 corners in total; the limit is 100,000"):
        parse_areas([str(path)])
    path.write_bytes(b" " * (16 << 20) + b"{}")
    with pytest.raises(InputError, match=r"larger than 16 MiB"):
        parse_areas([str(path)])


def test_polygon_with_the_maximum_number_of_corners():
    """It takes little memory, and the result is exact: a circle gets its fraction of the area."""
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    circle = np.stack([320 + 100 * np.cos(angles), 180 + 100 * np.sin(angles)], 1)
    zigzag = np.stack([np.linspace(0, 640, 10_000), np.tile([0.0, 360.0], 5_000)], 1)
    attention = Attention(np.ones((192, 256), np.float32), 640, 360)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert attention.share(circle) == pytest.approx(np.pi * 100**2 / 640 / 360, rel=1e-3)
    assert 0 < attention.share(zigzag[:1000]) < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB; 4 GB before


@pytest.mark.parametrize(
    ("argument", "percent"), [("rock=70%,0,30%,60%", True), ("a=0,0,50%,0.5%", True), ("a=0,0,5,6", False)]
)
def test_zero_needs_no_percent_sign(argument, percent):
    (area,) = parse_areas([argument])
    assert area.in_pixels is not percent
    if argument.startswith("rock"):
        np.testing.assert_allclose(area.at(0, 100, 200), [[70, 0], [100, 0], [100, 120], [70, 120]])


@pytest.mark.parametrize("argument", ["a=70%,5,30%,60%", "a=0,0,5%,6"])
def test_numbers_other_than_zero_need_a_percent_sign(argument):
    with pytest.raises(UsageError, match="mixes pixels and percent"):
        parse_areas([argument])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"a = {DEEP}", "is not a TOML file: nested more than 64 levels deep"),
        ("hub_owner = {a = 1}", "unknown setting"),
        ("\udcff", "is not a TOML file"),
        ("a" * (17 << 20), "is not a TOML file: larger than 16 MiB"),
        ("[predict]\nalpha = [1]", "alpha"),
        ("[predict]\nout-dir = 1979-05-27", "out-dir"),
    ],
)
def test_settings_files(tinyhd, tmp_path, capsys, content, message):
    Path(settings.FILE_NAME).write_text(content, encoding="utf-8", errors="surrogateescape")
    clip = clips.make(tmp_path / "clip.mp4", frames=1)
    assert tinyhd("predict", clip, "--model", "x") == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and "unexpected" not in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"lr: {DEEP}", "is not valid YAML: nested more than 64 levels deep"),
        ("a: &a [1]\nb: *a", "is not valid YAML: aliases"),
        ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("lr: .nan", "--lr must be X, not nan"),
        ("lr: 0", "--lr must be above 0"),
        ("lr: true", "--lr must be X, not True"),
        ("no_flip: 1", "--no-flip must be true or false, not 1"),
        ("weight_decay: .nan", "--weight-decay"),
        ("aux_ratio: .inf", "--aux-ratio"),
        ("steps: many", "steps"),
        ("epochs: 2.5", "epochs"),
        ("data: {a: 1}", "data"),
        ("size: [64]", "size"),
        ("size: 5", "size"),
        ("5", "must contain settings"),
    ],
)
def test_training_configurations(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        build_config({}, file=path)
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1


def test_empty_density_maps(tinyhd, park, capsys):
    """The correlation with zeros is not defined: this is reported, and excluded from means."""
    for path in (park / "park" / "maps").iterdir():
        on_disk.write_image(path, np.zeros((36, 64), np.uint8))
    assert tinyhd("evaluate", "--root", park, "--prior", "--baseline", "gaussian", "--json", "s.json") == 0
    assert "CC in 3" in capsys.readouterr().out
    assert json.loads(Path("s.json").read_text())["mean"]["CC"] is None


def test_ignored_videos_are_reported(tinyhd, park, tmp_path, capsys):
    """The ignored ones are a clip with an npz instead of maps, a video without maps, and frames without maps."""
    on_disk.write_frames(park / "clip3" / "images", "c", {1: "1", 2: "2"})
    npz(park / "clip3" / "saliency.npz", header("<f4", (2, 3, 3)) + bytes(72))
    clips.make(park / "lonely.mp4", frames=1)
    on_disk.write_frames(park / "frames", "f", {1: "1"})
    message = "3 videos ignored, without a maps, fixation or masks folder: clip3, frames, lonely.mp4"
    assert tinyhd("evaluate", "--root", park, "--prior", "--baseline", "gaussian", "--json", "s.json") == 0
    assert message in json.loads(Path("s.json").read_text())["notes"]
    assert message in " ".join(capsys.readouterr().out.split())
    assert tinyhd("evaluate", "--root", park, "--check") == 0
    assert f"note: {message}" in capsys.readouterr().out
    assert tinyhd("evaluate", "--root", park / "clip3") == 3
    assert "1 video ignored" in capsys.readouterr().err


def test_layouts_are_shown(tinyhd, capsys):
    from tinyhd_cli.layouts import EXPECTED

    assert tinyhd("evaluate", "--dataset", "dhf1k") == 2
    assert capsys.readouterr().err == (
        f"tinyhd: --root is missing: give the dataset's folder, which must contain {EXPECTED['dhf1k']}"
        ' (--dataset dhf1k); or name its folder in tinyhd.toml ([datasets], then dhf1k = "/path"); tinyhd evaluate '
        "--help lists all layouts\n"
    )
    assert tinyhd("evaluate", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}: {expected}" in shown for name, expected in EXPECTED.items())
