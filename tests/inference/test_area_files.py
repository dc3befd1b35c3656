"""Tests of areas of interest from files of other programs: SVG, COCO, Figma, mask images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.inference.area_mask import outlines
from tinyhd_cli.inference.area_parsing import parse_areas
from tinyhd_cli.inference.area_values import box
from tinyhd_cli.inference.areas import warn_of_shape
from tinyhd_cli.inference.polygons import Attention, covered_fraction, joined
from tinyhd_cli.video.overlay import draw_outline

WIDTH, HEIGHT = 200, 100


def read(path, content, *, names="", picture=""):
    """Write a file and return its areas by name, as boxes x0, y0, x1, y1 in a frame of 200 x 100 pixels."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return boxes(parse_areas([f"{path}{names}"], picture))


def boxes(areas):
    found = {}
    for area in areas:
        points = area.at(0, WIDTH, HEIGHT)
        found[area.name] = [round(float(value), 3) for value in (*points.min(axis=0), *points.max(axis=0))]
    return found


def covered(area):
    return covered_fraction(area.at(0, WIDTH, HEIGHT), WIDTH, HEIGHT) * WIDTH * HEIGHT


def svg(inside, attributes='viewBox="0 0 200 100"'):
    links = 'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {links} {attributes}>{inside}</svg>'


def test_shapes_of_an_svg(tmp_path):
    shapes = """<rect id="rect" x="10" y="20" width="30" height="40"/><circle id="circle" cx="100" cy="50" r="10"/>
        <ellipse id="ellipse" cx="100" cy="50" rx="20" ry="10"/><polygon id="polygon" points="0,0 10,0 10,10"/>
        <path id="path" d="M150 10 h20 v30 H150 z"/><path id="curve" d="M0,50 C0,20 60,20 60,50 Z"/>
        <path id="arc" d="M 20 90 A 5 5 0 1 1 30 90 z"/><path id="quadratic" d="M0 0 Q 50 100 100 0 z"/>
        <rect x="1" y="2" width="3" height="4"/><line id="line" x1="0" x2="9"/><text id="text">Buy</text>"""
    found = read(tmp_path / "a.svg", svg(shapes))
    assert found["rect"] == [10, 20, 40, 60]
    assert found["circle"] == [90, 40, 110, 60]
    assert found["ellipse"] == [80, 40, 120, 60]
    assert found["polygon"] == [0, 0, 10, 10]
    assert found["path"] == [150, 10, 170, 40]
    assert found["curve"] == [0, 27.5, 60, 50]
    assert found["arc"][:3] == pytest.approx([20, 85, 30], abs=0.05)
    assert found["quadratic"] == [0, 0, 100, 50]
    assert found["rect 2"] == [1, 2, 4, 6]
    assert len(found) == 9
    areas = {area.name: area for area in parse_areas([str(tmp_path / "a.svg")])}
    assert covered(areas["circle"]) == pytest.approx(math.pi * 100, rel=0.02)
    assert covered(areas["quadratic"]) == pytest.approx(2 / 3 * 100 * 50, rel=0.02)


def test_transforms_of_an_svg(tmp_path):
    shapes = """<g transform="translate(10 20) scale(2)"><rect id="a" width="5" height="10" transform="translate(1,2)"/>
        <rect id="b" width="10" height="4" transform="rotate(90 5 5)"/></g>
        <rect id="c" width="4" height="2" transform="matrix(0 1 -1 0 50 60)"/>
        <rect id="d" width="10" height="10" transform="skewX(45)"/>
        <svg x="100" y="50" width="100" height="50" viewBox="0 0 10 10"><rect id="e" width="10" height="10"/></svg>
        <defs><rect id="f" width="6" height="7"/></defs><use xlink:href="#f" x="30" y="40"/>
        <clipPath><rect id="clip" width="9" height="9"/></clipPath>
        <rect id="no" width="9" height="9" display="none"/>"""
    found = read(tmp_path / "a.svg", svg(shapes))
    assert found == {
        "a": [12, 24, 22, 44],
        "b": [22, 20, 30, 40],
        "c": [48, 60, 50, 64],
        "d": [0, 0, 20, 10],
        "e": [125, 50, 175, 100],
        "f": [30, 40, 36, 47],
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('viewBox="0 0 400 200"', [20, 10, 40, 20]),  # scaled to the frame
        ('viewBox="20 0 200 100"', [20, 20, 60, 40]),
        ('width="200px" height="100"', [40, 20, 80, 40]),
        ('width="200" height="100" viewBox="0 0 50 50"', [130, 40, 210, 80]),  # centered
        ('width="200" height="100" viewBox="0 0 50 50" preserveAspectRatio="none"', [160, 40, 320, 80]),
        ('width="20cm" height="10cm" viewBox="0 0 200 100"', [40, 20, 80, 40]),
        ('width="210mm" height="105mm" viewBox="0 0 200 100"', [40, 20, 80, 40]),
    ],
)
def test_the_frame_of_an_svg(tmp_path, attributes, expected):
    found = read(tmp_path / "a.svg", svg('<rect id="a" x="40" y="20" width="40" height="20"/>', attributes))
    assert found["a"] == pytest.approx(expected)


def test_percentages_of_an_svg_refer_to_its_view_box(tmp_path):
    found = read(
        tmp_path / "a.svg",
        svg('<rect id="a" width="50%" height="100%"/>', 'width="210mm" height="105mm" viewBox="0 0 200 100"'),
    )
    assert found["a"] == [0, 0, 100, 100]


def test_names_of_an_svg(tmp_path):
    shapes = """<g id="Card_x20_1"><rect id="x" inkscape:label="Call to action" width="9" height="9"/>
        <rect data-name="Price" x="20" width="10" height="5"/></g>
        <rect width="9" height="9"><title>Logo</title></rect><rect id="Logo" width="3" height="9"/>"""
    path = tmp_path / "a.svg"
    assert list(read(path, svg(shapes))) == ["Call to action", "Price", "Logo", "Logo 2"]
    assert read(path, svg(shapes), names="#Card 1=card, Price") == {"card": [0, 0, 30, 9], "Price": [20, 0, 30, 5]}
    with pytest.raises(UsageError, match="has no area 'Prize'; did you mean Price"):
        parse_areas([f"{path}#Prize"])


def test_holes_and_parts_of_an_area(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text(svg('<path id="a" d="M10 10H90V90H10z M30 30H70V70H30z M150 10h10v10h-10z"/>'))
    (area,) = parse_areas([str(path)])
    points = area.at(0, WIDTH, HEIGHT)
    assert covered(area) == pytest.approx(80 * 80 - 40 * 40 + 100, rel=0.01)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    draw_outline(image, points, "", 0, WIDTH)
    drawn = image.any(axis=2)
    assert drawn[50, 10] and drawn[50, 30] and drawn[15, 150]
    assert not drawn[20, 20] and not drawn[20, 25] and not drawn[10, 120], "connections between parts are not drawn"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<svg", "is not valid XML"),
        ('<!DOCTYPE svg [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><svg>&c;</svg>', "XML entities"),
        ('<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>', "XML entities"),
        ("<html/>", "its outer element is <html>"),
        ("<svg/>", "needs a viewBox"),
        (svg(""), "contains no shapes"),
        (svg('<path d="M 0 0 L 5 x"/>'), "its d attribute is malformed"),
        (svg('<rect width="1" height="a"/>'), "'a' is not a length"),
        (svg('<rect width="9" height="9" transform="rotate(a)"/>'), "malformed"),
        (svg('<rect width="9e9" height="9"/>'), "a number beyond"),
        (svg('<g id="a"><use href="#a"/><use href="#a"/></g>'), "refers to itself"),
        ("<a>" * 99 + "</a>" * 99, "levels deep"),
    ],
)
def test_malformed_svg(tmp_path, content, message):
    path = tmp_path / "a.svg"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        parse_areas([str(path)])
    assert "\n" not in str(error.value)


COCO = {
    "images": [
        {"id": 1, "file_name": "designs/old.png", "width": 200, "height": 100},
        {"id": 2, "file_name": "new.png", "width": 400, "height": 200},
    ],
    "categories": [{"id": 7, "name": "button"}, {"id": 8, "name": "face"}],
    "annotations": [
        {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]},
        {"image_id": 1, "category_id": 7, "segmentation": [[0, 0, 10, 0, 10, 10], [50, 50, 60, 50, 60, 60, 50, 60]]},
        {"image_id": 2, "category_id": 8, "segmentation": [[40, 40, 80, 40, 80, 60]]},
    ],
}


def test_coco(tmp_path):
    path = tmp_path / "coco.json"
    old = {"button": [10, 20, 40, 60], "button 2": [0, 0, 60, 60]}
    assert read(path, COCO, picture="old.png") == read(path, COCO, names="#old.png") == old
    assert read(path, COCO, names="#new.png,face=person") == {"person": [20, 20, 40, 30]}
    assert covered(parse_areas([f"{path}#old"])[1]) == pytest.approx(150, rel=0.02)
    with pytest.raises(UsageError, match=r"has areas of 2 pictures \(designs/old.png, new.png\); choose one"):
        parse_areas([str(path)])


def run_lengths(mask):
    """Return COCO's runs of a mask, compressed as in its reference implementation (Lin et al., 2014)."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    text = ""
    for number, run in enumerate(runs):
        value, more = run - (runs[number - 2] if number > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 if more else bits) + 48)
    return runs, text


def test_masks_of_coco(tmp_path):
    mask = np.zeros((100, 200), bool)
    mask[20:60, 10:40] = True
    mask[30:40, 20:30] = False
    runs, text = run_lengths(mask)
    for counts in (runs, text):
        annotation = {"image_id": 1, "category_id": 7, "segmentation": {"size": [100, 200], "counts": counts}}
        read(tmp_path / "coco.json", {**COCO, "images": COCO["images"][:1], "annotations": [annotation]})
        (area,) = parse_areas([str(tmp_path / "coco.json")])
        ones = Attention(np.ones((100, 200), np.float32), WIDTH, HEIGHT)
        assert ones.share(area.at(0, WIDTH, HEIGHT)) == pytest.approx(mask.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 1}]}, "width and height"),
        ({"annotations": []}, "contains no annotations"),
        ({"annotations": [{"image_id": 1, "segmentation": [[1, 2, 3]]}]}, "must be a list of polygons"),
        ({"annotations": [{"image_id": 1}]}, "'bbox' is missing"),
        ({"annotations": [{"image_id": 1, "segmentation": {"size": [9, 9], "counts": [7]}}]}, "do not fill 9 x 9"),
        ({"annotations": [{"image_id": 1, "segmentation": {"size": [9, 9], "counts": "~~~"}}]}, "do not fill 9 x 9"),
    ],
)
def test_malformed_coco(tmp_path, change, message):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**COCO, **change}))
    with pytest.raises(InputError, match=message):
        parse_areas([str(path)], "old.png")


def node(name, kind, place, children=(), **more):
    bounds = dict(zip(("x", "y", "width", "height"), place, strict=True))
    return {"name": name, "type": kind, "absoluteBoundingBox": bounds, "children": list(children), **more}


def figma():
    label = node("Label", "TEXT", (-880, 130, 20, 10))
    button = node("Button", "INSTANCE", (-890, 120, 40, 30), [label])
    hidden = node("Hidden", "FRAME", (-890, 120, 40, 30), visible=False)
    line = node("Line", "LINE", (-900, 110, 100, 0))
    outside = node("Outside", "FRAME", (900, 110, 100, 9))
    hero = node("Hero", "RECTANGLE", (-900, 100, 200, 50))
    home = node("Home", "FRAME", (-900, 100, 200, 100), [button, hidden, line, outside, hero])
    other = node("Phone", "FRAME", (0, 0, 50, 100), [node("Button", "INSTANCE", (0, 50, 50, 25))])
    page = {"name": "Page", "type": "CANVAS", "children": [{"name": "s", "type": "SECTION", "children": [home]}, other]}
    return {"document": {"name": "Document", "type": "DOCUMENT", "children": [page]}}


def test_figma(tmp_path):
    path = tmp_path / "figma.json"
    home = {"Button": [10, 20, 50, 50], "Hero": [0, 0, 200, 50]}
    assert read(path, figma(), names="#Home") == read(path, figma(), picture="shots/home.png") == home
    assert read(path, figma(), names="#Home,Label") == {"Label": [20, 30, 40, 40]}
    assert read(path, figma(), names="#Phone,Button=cta") == {"cta": [0, 50, 200, 75]}
    (home_node,) = figma()["document"]["children"][0]["children"][0]["children"]
    assert read(path, home_node) == read(path, {"nodes": {"1:2": {"document": home_node}}}) == home
    with pytest.raises(UsageError, match=r"2 pictures \(Home, Phone\); choose one, as in FILE#Home"):
        read(path, figma())
    with pytest.raises(InputError, match="contains no frame"):
        read(path, {"document": {"name": "Document", "type": "DOCUMENT", "children": []}})


def mask_file(path, mode="RGB", scale=1):
    """Draw a red ring, a blue box and, in RGBA, a transparent one."""
    image = Image.new("RGB" if mode == "P" else mode, (WIDTH * scale, HEIGHT * scale))
    draw = ImageDraw.Draw(image)
    flat = ["red", "#1020ff", "black"]
    known = {"RGB": flat, "P": ["red", "blue", "black"], "RGBA": ["red", "#1020ff", "#ff00ff10"]}
    colors = known.get(mode, [1, 2, 0])

    def rectangle(x0, y0, x1, y1, color):
        draw.rectangle([x0 * scale, y0 * scale, x1 * scale - 1, y1 * scale - 1], fill=color)

    rectangle(10, 20, 60, 80, colors[0])
    rectangle(30, 40, 40, 60, colors[2])
    rectangle(100, 10, 190, 30, colors[1])
    (image.convert("P") if mode == "P" else image).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_mask_images(tmp_path, mode):
    path = mask_file(tmp_path / "mask.png", mode)
    areas = parse_areas([str(path)])
    names = {"RGB": ["#1020ff", "red"], "RGBA": ["#1020ff", "red"], "P": ["blue", "red"]}
    assert [area.name for area in areas] == names.get(mode, ["label 1", "label 2"])
    assert sorted(boxes(areas).values()) == [[10, 20, 60, 80], [100, 10, 190, 30]]
    assert sorted(covered(area) for area in areas) == pytest.approx([1800, 2800], rel=0.03)


def test_edges_of_a_mask_are_no_areas(tmp_path):
    """Masks with smooth edges, as PNG and as lossless WebP."""
    with Image.open(mask_file(tmp_path / "large.png", scale=4)) as image:
        smooth = image.resize((150, 75), Image.Resampling.BICUBIC)
    for name in ("smooth.png", "smooth.webp"):
        smooth.save(tmp_path / name, lossless=True)
        found = boxes(parse_areas([f"{tmp_path / name}#red=logo,#1020ff=cta"]))
        assert found["logo"] == pytest.approx([10, 20, 60, 80], abs=1.5)
        assert found["cta"] == pytest.approx([100, 10, 190, 30], abs=1.5)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: Image.new("RGB", (20, 10)).save(path), "contains no area"),
        (lambda path: Image.effect_noise((50, 50), 99).save(path), "is not a mask"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n damaged"), "is not an image that can be read"),
        (lambda path: Image.new("RGB", (20, 10), "red").save(path, format="JPEG"), "save it as PNG"),
        (lambda path: path.write_bytes(b""), "is not a JSON file"),
        (
            lambda path: path.write_bytes(b"%PDF-1.7\n\xe2\xe3"),
            "is not a file of areas, which is JSON, SVG, or an image",
        ),
    ],
)
def test_images_that_are_no_masks(tmp_path, write, message):
    path = tmp_path / "mask.png"
    write(path)
    with pytest.raises(InputError, match=message):
        parse_areas([str(path)])


def test_outlines_follow_the_edges_of_pixels():
    random = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        mask = random.random((31, 23)) < share
        saliency = random.random(mask.shape).astype(np.float32)
        expected = saliency[mask].sum(dtype=np.float64) / saliency.sum(dtype=np.float64)
        assert Attention(saliency, 23, 31).share(joined(outlines(mask))) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(outlines(np.ones((3, 4), bool))[0], box((0, 0, 4, 3))[[0, 3, 2, 1]])


def test_an_area_of_another_shape_is_reported(tmp_path, caplog):
    path = tmp_path / "a.svg"
    path.write_text(svg('<rect id="a" width="40" height="20"/>'))
    warn_of_shape.cache_clear()
    parse_areas([str(path)])[0].check(640, 320)
    assert not caplog.messages
    for area in parse_areas([str(path), f"{path}#a=b"]):
        area.check(640, 640)
    message = "--aoi: areas drawn on 200 x 100 are stretched to the frame, which is 640 x 640 pixels"
    assert caplog.messages == [message], "one line for all areas"


def test_a_file_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = json.dumps({"areas": [{"name": "a", "box": [1, 2, 3, 4]}, {"name": "b", "box": [1, 2, 3, 4]}]})
    for name in ("x=1,2,3,4", "x#a", "x"):
        Path(name).write_text(content)
    assert len(parse_areas(["x=1,2,3,4"])) == len(parse_areas(["x#a"])) == 2
    assert [area.name for area in parse_areas(["x#b", "x=1,2,3,4#a"])] == ["b", "a"]
