"""Specs: what each field allows, how clips and maps follow from them, and their form in files."""

from __future__ import annotations

import json

import pytest

from tinyhd_cli import models
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models import ModelSpec, Preprocess, all_families, from_dict
from tinyhd_cli.models.families.tinyhd import FAMILY as TINYHD

KNOWN = [
    # In a file, the spec of a network with a pretrained part states its digest: see test_vfm.
    *(one for kind in all_families().values() if not kind.pretrained for one in kind.specs),
    TINYHD.spec("single", "half", ("d2", "d2")),
    TINYHD.spec("multi", "full", ("d2", "d3", "d1")),
    models.named_spec("tinyhd-m", input_size=(96, 128)),
    models.named_spec("hd2s", preprocess=Preprocess(mean=(0, 0, 0), std=(1, 1, 1), resize="area", reduce_above=None)),
]


def spec(**changes):
    """Return a spec of no family, with some fields changed."""
    return ModelSpec(**{"name": "net", "family": "nets"} | changes)


SIDES = "both sides must be multiples of 32 from 64 to 1024"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name must be 1 to 100 printable characters, not ''"),
        ({"name": 3}, "name must be 1 to 100 printable characters, not 3"),
        ({"name": "a\nb"}, r"name must be 1 to 100 printable characters, not 'a\nb'"),
        ({"family": None}, "family must be 1 to 100 printable characters, not None"),
        ({"family": "x" * 101}, f"family must be 1 to 100 printable characters, not '{'x' * 59}"),
        ({"clip_frames": 0}, "clip_frames must be from 1 to 512, not 0"),
        ({"clip_frames": 513}, "clip_frames must be from 1 to 512, not 513"),
        ({"clip_frames": True}, "clip_frames must be from 1 to 512, not True"),
        ({"clip_frames": 16.0}, "clip_frames must be from 1 to 512, not 16.0"),
        ({"maps": 2}, "maps must be 1 or clip_frames (16), not 2"),
        ({"maps": "1"}, "maps must be 1 or clip_frames (16), not '1'"),
        ({"map_frame": 16}, "map_frame 16 is outside a clip of 16 frames"),
        ({"map_frame": -17}, "map_frame -17 is outside a clip of 16 frames"),
        ({"map_frame": None}, "map_frame None is outside a clip of 16 frames"),
        ({"input_size": (192,)}, "input_size must be 2 whole numbers, not (192,)"),
        ({"input_size": (192, 256.0)}, "input_size must be 2 whole numbers, not (192, 256.0)"),
        ({"input_size": "192x256"}, "input_size must be 2 whole numbers, not '192x256'"),
        ({"input_size": (100, 256)}, f"input_size 100x256: {SIDES}"),
        ({"input_size": (192, 32)}, f"input_size 192x32: {SIDES}"),
        ({"input_size": (2048, 256)}, f"input_size 2048x256: {SIDES}"),
        ({"size_multiple": 0}, "size_multiple must be at least 1, not 0"),
        ({"size_multiple": 1.5}, "size_multiple must be at least 1, not 1.5"),
        ({"side_limits": (0, 64)}, "side_limits must be from 1 to 4096, not (0, 64)"),
        ({"side_limits": (128, 64)}, "side_limits must be from 1 to 4096, not (128, 64)"),
        ({"side_limits": (64, 4097)}, "side_limits must be from 1 to 4096, not (64, 4097)"),
        ({"side_limits": 64}, "side_limits must be 2 whole numbers, not 64"),
        ({"task": "faces"}, "task must be one of fixation, object, not 'faces'"),
        ({"preprocess": {"mean": [0, 0, 0]}}, "preprocess must be a table, not {'mean': [0, 0, 0]}"),
        ({"options": ["width"]}, "options must be a table, not ['width']"),
        ({"options": {3: 1}}, "options must be a table, not {3: 1}"),
        (
            {"options": {"width": {"a": 1}}},
            "options must be printable text, numbers, booleans or lists of them, not {'a': 1}",
        ),
        (
            {"options": {"width": float("nan")}},
            "options must be printable text, numbers, booleans or lists of them, not nan",
        ),
    ],
)
def test_invalid_fields(changes, message):
    with pytest.raises(UsageError) as caught:
        spec(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5, 0.5)}, "preprocess: mean must be 3 numbers, not (0.5, 0.5)"),
        ({"mean": (0.5, 0.5, "0")}, "preprocess: mean must be 3 numbers, not (0.5, 0.5, '0')"),
        ({"mean": 0.5}, "preprocess: mean must be 3 numbers, not 0.5"),
        ({"std": (1, 1, float("inf"))}, "preprocess: std must be 3 numbers, not (1, 1, inf)"),
        ({"std": (1, 1, 0)}, "preprocess: std must be above 0, not (1.0, 1.0, 0.0)"),
        ({"resize": "nearest"}, "preprocess: resize must be one of bilinear, area, bicubic, not 'nearest'"),
        ({"reduce_above": 0}, "preprocess: reduce_above must be a number of pixels, not 0"),
        ({"reduce_above": 1.5}, "preprocess: reduce_above must be a number of pixels, not 1.5"),
        ({"reduce_above": True}, "preprocess: reduce_above must be a number of pixels, not True"),
    ],
)
def test_invalid_preprocessing(changes, message):
    with pytest.raises(UsageError) as caught:
        Preprocess(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("known", KNOWN, ids=lambda one: f"{one.name} {one.input_size}")
def test_round_trip_through_json(known):
    text = json.dumps(known.to_dict(), allow_nan=False)
    found = from_dict(json.loads(text))
    assert found == known
    assert hash(found) == hash(known)
    assert json.dumps(found.to_dict()) == text
    assert from_dict({**json.loads(text), "from_a_later_version": 1}) == known


def test_equality():
    assert len(set(KNOWN)) == len(KNOWN)
    for field, other in (
        ("clip_frames", 8),
        ("maps", 16),
        ("map_frame", 0),
        ("input_size", (96, 128)),
        ("size_multiple", 16),
        ("side_limits", (64, 512)),
        ("preprocess", Preprocess(resize="area")),
        ("task", "object"),
        ("options", {"width": 2}),
        ("name", "other"),
        ("family", "others"),
    ):
        changed = spec(**{field: other})
        assert changed != spec(), field
        assert hash(changed) != hash(spec()), field
        assert changed.same_network(spec()) == (field not in ("options", "family")), field
    assert spec(options={"kinds": ["a", "b"]}) == spec(options={"kinds": ("a", "b")})


def test_options_cannot_be_changed_from_outside():
    options = {"kinds": ["a"]}
    made = spec(options=options)
    options["kinds"].append("b")
    assert made.options == {"kinds": ("a",)}


def test_another_size():
    wide = spec().with_size((64, 1024))
    assert (wide.input_size, spec().input_size) == ((64, 1024), (192, 256))
    assert wide.with_size((192, 256)) == spec()
    with pytest.raises(UsageError, match=f"input_size 64x1056: {SIDES}"):
        wide.with_size((64, 1056))
    with pytest.raises(UsageError, match="both sides must be multiples of 32 from 64 to 512"):
        models.named_spec("hd2s").with_size((1024, 1024))


@pytest.mark.parametrize(
    ("changes", "windowing", "before", "lookahead"),
    [
        ({"maps": 16}, "block", None, 15),
        ({"maps": 1}, "sliding", 15, 0),
        ({"maps": 1, "map_frame": 0}, "sliding", 0, 15),
        ({"maps": 1, "map_frame": 7}, "sliding", 7, 8),
        ({"maps": 1, "map_frame": -9}, "sliding", 7, 8),
        ({"clip_frames": 1}, "sliding", 0, 0),
    ],
)
def test_windowing(changes, windowing, before, lookahead):
    made = spec(**changes)
    assert (made.windowing, made.lookahead) == (windowing, lookahead)
    if before is not None:
        assert made.frames_before == before


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "hd2s"}, models.named_spec("hd2s")),
        ({"name": "hd2s", "input_size": [96, 128]}, models.named_spec("hd2s", input_size=(96, 128))),
        (
            {"name": "tinyhd-m", "options": {"decoders": ["d2", "d1"]}},
            models.named_spec("tinyhd-m", decoders=("d2", "d1")),
        ),
        ({"architecture": "hd2s"}, models.named_spec("hd2s")),
        (
            {"architecture": "tinyhd", "outputs": "single", "width": "half", "decoders": ["d2", "d3", "d1"]},
            models.named_spec("tinyhd-s-half", decoders=("d2", "d3", "d1")),
        ),
        ({"architecture": "tinyhd"}, models.named_spec("tinyhd-m")),
    ],
)
def test_short_and_old_forms(values, expected):
    """The name of a network with what differs from it, and configurations of version 0.1."""
    assert from_dict(values) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "the network's configuration must be a table"),
        ([], "the network's configuration must be a table"),
        ({}, "unknown model None"),
        ({"name": "tased"}, "unknown model 'tased'"),
        ({"name": ["hd2s"]}, "unknown model ['hd2s']"),
        ({"family": "hd2s"}, "'name' is missing"),
        ({"name": "hd2s", "options": 3}, "options must be a table, not 3"),
        ({"name": "hd2s", "options": {"width": "half"}}, "hd2s has no option 'width': it has no options"),
        ({"name": "tinyhd-m", "options": {"widht": "half"}}, "tinyhd-m has no option 'widht': did you mean width?"),
        ({"name": "tinyhd-m", "maps": 1}, "maps must be 16, not 1"),
        (
            {"name": "tinyhd-s", "family": "tinyhd", "options": {"outputs": "multi"}},
            "name must be tinyhd-m, not tinyhd-s",
        ),
        ({"name": "hd2s", "preprocess": 3}, "preprocess must be a table, not 3"),
        ({"architecture": "hd2s", "width": "half"}, "hd2s has no option 'width': it has no options"),
        ({"architecture": "tinyhd", "width": "third"}, "width must be one of full, half, quarter, not 'third'"),
    ],
)
def test_invalid_tables(values, message):
    with pytest.raises(UsageError) as caught:
        from_dict(values)
    assert str(caught.value) == message


@pytest.mark.parametrize("values", [{"architecture": "tased"}, {"name": "tased-x", "family": "tased"}])
def test_a_family_that_is_not_installed(values):
    with pytest.raises(WeightsError) as caught:
        from_dict(values)
    assert str(caught.value) == (
        "the model family 'tased' is not installed here; install the package that provides it "
        "(tinyhd doctor lists the installed families)"
    )
