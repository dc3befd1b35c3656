"""Tests of ``tinyhd compare``: designs and videos that the tests draw, conditions, and the outputs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli import InputError, UsageError, compare, load_model, parse_areas
from tinyhd_cli.apps.compare.areas import assign_areas, parse_version_areas, split_version
from tinyhd_cli.apps.compare.conditions import MAX_LENGTH, MEASURES, OF_TIME, parse_condition
from tinyhd_cli.apps.compare.order import MAX_FIXATIONS, gaze_path, order_of_path, order_of_times
from tinyhd_cli.apps.compare.results import Version, schema

SIZE = (640, 360)


def design(path: Path, button: tuple[int, int], color: tuple[int, int, int], size: tuple[int, int] = SIZE) -> Path:
    """Draw a page: a title, lines of text, and a button at a place."""
    image = np.full((SIZE[1], SIZE[0], 3), 245, np.uint8)
    cv2.putText(image, "Acme", (20, 35), cv2.FONT_HERSHEY_DUPLEX, 0.9, (60, 60, 60), 2, cv2.LINE_AA)
    for number in range(4):
        cv2.rectangle(image, (40, 100 + 22 * number), (250 - 30 * (number % 2), 106 + 22 * number), (200,) * 3, -1)
    x, y = button
    cv2.rectangle(image, (x, y), (x + 130, y + 44), color, -1)
    cv2.putText(image, "Buy now", (x + 14, y + 29), cv2.FONT_HERSHEY_DUPLEX, 0.8, (255,) * 3, 1, cv2.LINE_AA)
    path.write_bytes(cv2.imencode(".png", cv2.resize(image, size))[1].tobytes())
    return path


@pytest.fixture(scope="module")
def model():
    return load_model(device="cpu", engine="torch")


@pytest.fixture(scope="module")
def designs(tmp_path_factory):
    """Return a folder with an old design, a new one whose button is red and in the middle, and their areas."""
    folder = tmp_path_factory.mktemp("designs")
    design(folder / "old.png", (490, 300), (225, 222, 220))
    design(folder / "new.png", (270, 170), (30, 40, 230))
    for name, place in (("areas", "490 300"), ("areas_new", "270 170")):
        (folder / f"{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360"><rect id="text" x="35" y="90" width="220"'
            f' height="95"/><path id="cta" transform="translate({place})" d="M0 0h130v44h-130z"/></svg>'
        )
    return folder


@pytest.fixture(scope="module")
def result(designs, model):
    own = {"B": parse_areas([str(designs / "areas_new.svg")])}
    areas = parse_areas([str(designs / "areas.svg")])
    checks = ["cta < 10%", "B.cta < A.cta", "B.cta.order > 1", "new.cta / old.cta > 2"]
    return compare([designs / "old.png", designs / "new.png"], areas, model, own_areas=own, fail_if=checks)


def test_the_button_that_was_moved_and_colored_wins(result):
    old, new = (version.results["cta"] for version in result.versions)
    assert new["share"] > 2 * old["share"]
    assert new["size"] == pytest.approx(old["size"]) == pytest.approx(130 * 44 / 640 / 360, rel=0.005)
    assert result.lead("cta").winner == "B"
    assert result.lead("cta").lead == pytest.approx(new["share"] - old["share"], abs=1e-4)
    assert result.wins()["B"] >= 1
    assert new["order"] == 1
    assert new["density"] == pytest.approx(new["share"] / new["size"], abs=0.01)
    assert new["first_s"] is new["time_s"] is None, "images have no time"


def test_conditions_of_the_result(result):
    old, new = (version.results["cta"]["share"] for version in result.versions)
    found = {check.condition: check for check in result.checks}
    assert found["cta < 10%"].versions == [name for name, share in (("A", old), ("B", new)) if share < 0.1]
    assert not found["B.cta < A.cta"].holds
    assert not found["B.cta.order > 1"].holds
    assert found["new.cta / old.cta > 2"].holds
    assert found["new.cta / old.cta > 2"].versions == []


def test_json_and_csv(result):
    jsonschema.Draft202012Validator.check_schema(schema())
    content = json.loads(json.dumps(result.to_dict()))
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(content)
    assert content["areas"]["cta"]["winner"] == "B"
    assert content["areas"]["cta"]["differences"]["B"] == pytest.approx(content["areas"]["cta"]["lead"])
    assert [version["kind"] for version in content["versions"]] == ["image", "image"]
    assert content["versions"][1]["gaze_path"][0]["area"] == "cta"
    content["versions"][0]["areas"]["cta"]["share"] = 1.5
    content["wins"]["A"] = "all"
    assert len(list(validator.iter_errors(content))) == 2, "the schema is not one that accepts everything"
    rows = list(csv.DictReader(result.to_csv().splitlines()))
    assert [(row["version"], row["area"]) for row in rows] == [(v, a) for v in "AB" for a in ("text", "cta")]
    assert float(rows[3]["share"]) == content["versions"][1]["areas"]["cta"]["share"]


def test_the_command(tinyhd, designs, capsys, model, monkeypatch):
    monkeypatch.setattr("tinyhd_cli.commands.compare.load", lambda options, exact: model)
    files = [designs / "old.png", designs / "new.png", "--aoi", designs / "areas.svg"]
    areas = ["--aoi", f"B={designs / 'areas_new.svg'}"]
    outputs = ["-o", "plot.png", "--json", "out.json", "--csv", "out.csv"]
    checks = ["--fail-if", "B.cta < A.cta", "--fail-if", "cta < 99%"]
    assert tinyhd("compare", *files, *areas, *outputs, *checks, "--order") == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "A (old): old.png, 640 x 360"
    assert lines[-1].startswith("Areas won, of 2: A (old) ")
    cta = next(line for line in lines if line.startswith("cta"))
    assert " B by " in cta and "→ 1." in cta
    assert any(line.startswith("Order in B (new): cta") for line in lines)
    assert "tinyhd: failed, because cta < 99% (in A, B)" in printed.err
    assert "B.cta < A.cta" not in printed.err
    jsonschema.validate(json.loads(Path("out.json").read_text()), schema())
    assert len(Path("out.csv").read_text().splitlines()) == 5
    plot = cv2.imdecode(np.fromfile("plot.png", np.uint8), cv2.IMREAD_COLOR)
    assert plot.shape[1] > 1200
    red = (np.abs(plot[: plot.shape[0] // 2].astype(int) - (30, 40, 230)).max(axis=2) < 40).nonzero()[1]
    assert len(red) and np.median(red) > plot.shape[1] / 2, "the new design is on the right"


def test_the_schema_is_printed(tinyhd, capsys):
    assert tinyhd("compare", "--schema") == 0
    assert json.loads(capsys.readouterr().out) == schema()


def edit(path: Path, light: tuple[int, int], since: int) -> Path:
    """Write a clip of 16 frames in which a bright disc appears."""

    def image(index, width, height):
        frame = np.full((height, width, 3), 70, np.uint8)
        cv2.rectangle(frame, (10, 10), (40, 30), (100, 90, 80), -1)
        if index >= since:
            cv2.circle(frame, light, 9, (255, 60, 30), -1)
        return frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "image", image)
        return clips.make(path, frames=16, width=128, height=96)


@pytest.mark.slow
def test_two_edits_of_a_clip(tinyhd, tmp_path, capsys, model, monkeypatch):
    edit(tmp_path / "one.mp4", (96, 64), since=99)
    edit(tmp_path / "two.mp4", (96, 64), since=6)
    monkeypatch.setattr("tinyhd_cli.commands.compare.load", lambda options, exact: model)
    files = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    areas = ["--aoi", "light=60%,50%,30%,33%", "--aoi", "box=8%,10%,25%,22%", "--aoi-threshold", "0.2"]
    outputs = ["--json", "-", "--plot", "plot.png", "--quiet"]
    assert tinyhd("compare", *files, *areas, *outputs, "--fail-if", "B.light.first > 0.5s") == 0
    content = json.loads(capsys.readouterr().out)
    jsonschema.validate(content, schema())
    one, two = (version["areas"]["light"] for version in content["versions"])
    assert content["areas"]["light"]["winner"] == "B"
    assert one["first_s"] is None
    assert two["first_s"] is not None and two["first_s"] <= 0.5
    assert two["most_at_s"] >= 0.2
    assert two["share"] > one["share"] and two["time_s"] > one["time_s"]
    assert content["versions"][1]["gaze_path"] == []
    drawn = cv2.imdecode(np.fromfile("plot.png", np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape[0] > 1000, "the curves are below the bars"


def numbers(share, **more):
    return {"share": share, "size": 0.1, "density": 10 * share, "most": share, "first_s": None, "time_s": 0.0} | {
        "peak_s": 0.0,
        "order": None,
        **more,
    }


VALUES = {
    "A": {"cta": numbers(0.1, first_s=2.0, order=2), "hero-image": numbers(0.4, first_s=0.0, order=1)},
    "B": {"cta": numbers(0.16, first_s=0.5, order=1), "hero-image": numbers(0.3), "3D view": numbers(0.05)},
}
AREAS = {version: list(found) for version, found in VALUES.items()}
NAMES = {"A": "A", "B": "B", "old": "A", "new design": "B"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cta < 12%", ["A"]),
        ("cta<0.12", ["A"]),
        ("cta < 1/8", ["A"]),
        ("cta.share >= 10 %", ["A", "B"]),
        ("B.cta - A.cta < 6.1%", ["A", "B"]),
        ("B.cta - A.cta < 5.9%", []),
        ("B.cta < 1.5 * A.cta", []),
        ("cta < A.cta * 1.5", ["A"]),
        ("B.cta / A.cta > 1.5", ["A", "B"]),
        ("hero-image < 35%", ["B"]),
        ('"hero-image" < 35%', ["B"]),
        ("hero-image - cta > 20%", ["A"]),
        ("3D view < 6%", ["B"]),  # only B has it
        ("cta.first > 1s", ["A"]),
        ("cta.first > 1500ms", ["A"]),
        ("hero-image.first > 100 s", ["B"]),  # never
        ("cta.order != 1", ["A"]),
        ("hero-image.order > 3", ["B"]),  # not reached
        ("old.cta.order == 2", ["A", "B"]),
        ("new design.cta > 15%", ["A", "B"]),
        ("'new design'.cta > 15%", ["A", "B"]),
        ("-(cta - 20%) > 5%", ["A"]),
        ("cta + hero-image * 2 > 85%", ["A"]),
        ("cta.density == 1", ["A"]),
    ],
)
def test_conditions(text, expected):
    assert parse_condition(text, AREAS, NAMES).holds(VALUES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an area or a number at the end"),
        ("cta", "expected a comparison"),
        ("cta <", "at the end"),
        ("cta < 5% 3", "too much"),
        ("cta < 5% < 7%", "too much"),
        ("ctr < 5%", "no area is named 'ctr'; did you mean cta"),
        ("A.ctr < 5%", "no area is named 'ctr'"),
        ("C.cta < 5%", "no area is named 'C'"),
        ("A.3D view < 5%", "version A has no area '3D view'"),
        ("cta.shares < 5%", "'shares' is no measure; did you mean share"),
        ("cta < 2s", "compares fractions with seconds"),
        ("cta + cta.first < 2", r"\+ mixes fractions and seconds"),
        ("cta * cta < 2", "needs a plain number"),
        ("(cta < 2", "a closing parenthesis is missing"),
        ("__import__('os') < 2", "no area is named"),
        ("cta; cta < 2", "';' is not understood"),
        ("(" * 200, "expected an area"),
        ("-" * 290, "expected an area"),
        ("1" * (MAX_LENGTH + 1), "the limit is"),
    ],
)
def test_malformed_conditions(text, message):
    with pytest.raises(UsageError, match=message) as error:
        parse_condition(text, AREAS, NAMES)
    assert "\n" not in str(error.value)


def test_images_have_no_times():
    measures = [name for name in MEASURES if name not in OF_TIME]
    with pytest.raises(UsageError, match="first needs videos; images have share, size"):
        parse_condition("cta.first > 1s", AREAS, NAMES, measures)


def test_the_path_goes_from_peak_to_peak():
    saliency = np.zeros((60, 80), np.float32)
    y, x = np.mgrid[:60, :80]
    for row, column, height in ((15, 60, 1.0), (45, 20, 0.8), (10, 10, 0.5)):
        saliency += height * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8).astype(np.float32)
    areas = parse_areas(["low=15%,65%,20%,20%", "page=0%,0%,100%,100%", "first=70%,15%,15%,20%"])
    path = gaze_path(saliency, areas, 800, 600)
    assert [stop.area for stop in path[:3]] == ["first", "low", "page"]
    assert (path[0].x, path[0].y) == (605, 155)
    assert order_of_path(path) == {"first": 1, "low": 2, "page": 3}
    assert len(path) < MAX_FIXATIONS, "it ends when nothing is left"
    assert gaze_path(np.zeros((6, 8), np.float32), areas, 800, 600) == []
    assert len(gaze_path(np.ones((60, 80), np.float32), areas, 800, 600)) == MAX_FIXATIONS


def test_the_order_of_a_video_is_that_of_times():
    found = order_of_times({"a": 1.0, "b": None, "c": 0.0, "d": 1.0}, {"a": 0.1, "b": 0.5, "c": 0.1, "d": 0.2})
    assert found == {"c": 1, "d": 2, "a": 3}


def versions(*sizes):
    found = [Version(chr(65 + number), f"v{number}", Path(f"v{number}.png"), ()) for number in range(len(sizes))]
    for version, (width, height) in zip(found, sizes, strict=True):
        version.width, version.height = width, height
    return found


def test_areas_of_versions(tmp_path):
    known = {"A": "A", "B": "B", "old": "A"}
    path = tmp_path / "areas.json"
    path.write_text(json.dumps({"areas": [{"name": "cta", "box": [1, 2, 3, 4]}]}))
    assert split_version("logo=1,2,3,4", known) == ("", "logo=1,2,3,4")
    assert split_version("B=1,2,3,4", known) == ("", "B=1,2,3,4"), "an area may be called B"
    assert split_version(f"old={path}", known) == ("A", str(path))
    assert split_version("B=logo=1,2,3,4", known) == ("B", "logo=1,2,3,4")
    with pytest.raises(UsageError, match="no version is named 'C'"):
        split_version(f"C={path}", known)
    two = versions((640, 360), (640, 360))
    common, own = parse_version_areas([str(path), f"v1={path}#cta=other", "B=cta=5,6,7,8"], two)
    assign_areas(two, common, own)
    assert [area.name for area in two[0].areas] == ["cta"]
    assert [area.name for area in two[1].areas] == ["other", "cta"]
    assert two[1].areas[1].at(0, 640, 360)[0].tolist() == [5, 6]


def test_each_version_finds_its_own_areas_in_a_common_file(tmp_path):
    images = [{"id": number, "file_name": f"v{number}.jpg", "width": 100, "height": 100} for number in range(2)]
    boxes = [{"image_id": number, "category_id": 1, "bbox": [10 + number, 10, 20, 20]} for number in range(2)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cta"}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    two = versions((100, 100), (200, 200))
    common, own = parse_version_areas([str(tmp_path / "coco.json")], two)
    assert common == ()
    assert [float(own[key][0].at(0, 100, 100)[0, 0]) for key in "AB"] == [10, 11]
    boxes[1]["bbox"] = boxes[0]["bbox"]
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    common, own = parse_version_areas([str(tmp_path / "coco.json")], two)
    assert (len(common), own) == (1, {})


@pytest.mark.parametrize(
    ("sizes", "areas", "message"),
    [
        (
            ((640, 360), (360, 640)),
            ["a=1%,1%,9%,9%"],
            "different shapes; give B areas of its own: --aoi B=FILE",
        ),
        (((640, 360), (1280, 720)), ["a=1,1,9,9"], "--aoi a: is in pixels, but A .* and B .*; use percent"),
        (((640, 360), (640, 360)), ["B=a=1,1,9,9"], r"version A \(v0\) has no areas"),
    ],
)
def test_areas_that_do_not_fit(sizes, areas, message):
    found = versions(*sizes)
    with pytest.raises(UsageError, match=message):
        assign_areas(found, *parse_version_areas(areas, found))


def test_areas_of_their_own_may_have_any_shape():
    found = versions((640, 360), (360, 640), (1280, 720))
    assign_areas(found, *parse_version_areas(["a=1%,1%,9%,9%", "B=a=1,1,9,9"], found))
    with pytest.raises(InputError, match=r"v1\.png: --aoi a: is outside the frame, which is 360 x 640 pixels"):
        assign_areas(found, *parse_version_areas(["a=1%,1%,9%,9%", "B=a=400,1,9,9"], found))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["old.png"], 2, "compare needs 2 to 26 images or videos, not 1"),
        (["old.png", "new.png"], 2, "compare needs areas: --aoi"),
        (["old.png", "no.png", "--aoi", "a=1,1,9,9"], 3, "no.png"),
        (["old.png", "tall.png", "--aoi", "a=1%,1%,9%,9%"], 2, "the same areas do not fit different shapes"),
        (["old.png", "new.png", "--aoi", "a=900,1,9,9"], 3, "old.png: --aoi a: is outside the frame"),
        (["old.png", "new.png", "--aoi", "a=1%,1%,9%,9%", "--fail-if", "b < 3%"], 2, "no area is named 'b'"),
        (["old.png", "new.png", "--aoi", "a=1%,1%,9%,9%", "--fail-if", "a.first < 3"], 2, "first needs videos"),
        (["old.png", "new.png", "--aoi", "a=1,1,9,9", "-o", "plot.jpg"], 2, "the plot's name must end in .png"),
        (["old.png", "new.png", "--aoi", "a=1,1,9,9", "-o", "old.png"], 2, "is an input"),
        (["old.png", "new.png", "--aoi", "a=1,1,9,9", "--json", "a", "--csv", "a"], 2, "two outputs"),
        (["old.png", "new.png", "--aoi", "a=1,1,9,9", "--aoi-threshold", "2"], 2, "--aoi-threshold"),
    ],
)
def test_bad_input(tinyhd, designs, arguments, code, message, capsys, monkeypatch):
    monkeypatch.chdir(designs)
    design(designs / "tall.png", (0, 0), (0, 0, 0), (180, 320))
    monkeypatch.setattr("tinyhd_cli.commands.compare.load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert tinyhd("compare", *arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_models_of_objects_are_refused(designs):
    from tinyhd_cli.apps.compare.run import check_model
    from tinyhd_cli.models import named_spec

    with pytest.raises(UsageError, match="compare"):
        check_model(named_spec("stkd-lite"))
