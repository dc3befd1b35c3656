"""Lists of fixations in JSON: the fast parser of integers agrees with a JSON parser, and malformed files are errors."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tinyhd_cli.datasets import FixationFrame, fixation_lists, read_fixation, read_fixation_points
from tinyhd_cli.datasets.fixation_lists import parse_any, parse_integers
from tinyhd_cli.errors import InputError


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("seed", range(6))
def test_parsers_agree(seed, indent):
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 2000, (rng.integers(0, 4), 2)).tolist() for _ in range(rng.integers(0, 7))]
    fast, general = parse_integers(json.dumps(frames, indent=indent).encode()), parse_any(frames)
    assert fast is not None
    np.testing.assert_array_equal(fast.points, general.points)
    np.testing.assert_array_equal(fast.starts, general.starts)
    assert [points.tolist() for points in fast] == frames
    assert fast.points.dtype == np.int32


@pytest.mark.parametrize(
    "text",
    [
        "[[[1,2],[3]],[[4]]]",
        "[[[1,2,3,4]]]",
        "[[1,2]]",
        "[[[1,2]]",
        "[[[[1,2]]]]",
        "[][]",
        "7",
        "[[[1,2]],]",
        "[[[1 2]]]",
    ],
)
def test_irregular_text_goes_to_the_json_parser(text):
    assert parse_integers(text.encode()) is None


def test_points_and_maps(tmp_path):
    """Repetitions are points of their own; fractions lie in a pixel; fixations outside are in no map."""
    path = tmp_path / "fixations.json"
    path.write_text("[[[2, 5], [2, 5], [0, 0]], [], [[3.75, 1.5], [-1, 2], [4, 0]]]")
    assert read_fixation_points(FixationFrame(path, 0)).tolist() == [[2, 5], [2, 5], [0, 0]]
    assert np.argwhere(read_fixation(FixationFrame(path, 0), (4, 6))).tolist() == [[0, 0], [2, 5]]
    assert not read_fixation(FixationFrame(path, 1), (4, 6)).any()
    assert read_fixation_points(FixationFrame(path, 1)).shape == (0, 2)
    assert read_fixation_points(FixationFrame(path, 2)).tolist() == [[3, 1], [-1, 2], [4, 0]]
    assert np.argwhere(read_fixation(FixationFrame(path, 2), (4, 6))).tolist() == [[3, 1]]
    with pytest.raises(InputError, match=r"fixations\.json: has no frame 4, only 3"):
        read_fixation_points(FixationFrame(path, 3))
    with pytest.raises(ValueError, match="give the size"):
        read_fixation(FixationFrame(path, 0))
    path.write_text("[[[1, 1]]]")
    os.utime(path, (1, 1))
    assert read_fixation_points(FixationFrame(path, 0)).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[[[1, 2], [3,", "Expecting value"),
        (b"", "Expecting value"),
        (b"<html>404</html>", "Expecting value"),
        (b'{"0": [[1, 2]]}', "a frame is not a list"),
        (b"[[1, 2]]", r"a fixation is not \[row, column\]"),
        (b"[[[1, 2, 3]]]", r"a fixation is not \[row, column\]"),
        (b'[[["5", 2]]]', "a coordinate is not a number"),
        (b"[[[true, 2]]]", "a coordinate is not a number"),
        (b"[[[1 2, 3], [, 4]]]", "Expecting"),
        (b"[[[NaN, 2]]]", "a coordinate is not a pixel"),
        (b"[[[99999999999, 2]]]", "a coordinate is not a pixel"),
        (b"[[[[1], 2]]]", "a coordinate is not a number"),
        (b"[" * 100_000, "nested more than"),
        (b"\xff\xfe[[[1,2]]]", "decode|Expecting value|utf"),
    ],
)
def test_malformed_files(tmp_path, content, reason):
    path = tmp_path / "fixations.json"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"fixations\.json: must be a JSON list, per frame, of \[row, column\] .*({reason})"
    ):
        read_fixation_points(FixationFrame(path, 0))


def test_kept_files_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(fixation_lists, "kept_files", {})
    monkeypatch.setattr(fixation_lists, "KEPT_BYTES", 3 * 8)
    for number in range(6):
        path = tmp_path / f"{number}.json"
        path.write_text(f"[[[{number}, 2]]]")
        assert read_fixation_points(FixationFrame(path, 0)).tolist() == [[number, 2]]
    assert [key[0][-6:] for key in fixation_lists.kept_files] == ["3.json", "4.json", "5.json"]


def test_other_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"none\.json: No such file"):
        read_fixation_points(FixationFrame(tmp_path / "none.json", 0))
    path = tmp_path / "large.json"
    path.write_text("[[[1, 2]]]" + " " * 100)
    monkeypatch.setattr(fixation_lists, "MAX_BYTES", 64)
    with pytest.raises(InputError, match=r"large\.json: is larger than"):
        read_fixation_points(FixationFrame(path, 0))
