"""Tables with named columns: usual names, mappings, units, and problems."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest

from tinyhd_cli.errors import UsageError
from tinyhd_cli.recordings import RecordingOptions, read_recordings


def write(path, header, rows, separator=","):
    lines = [separator.join(header), *(separator.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(*paths, **options):
    problems = []
    recordings = read_recordings(paths, RecordingOptions(**options), problems.append)
    return recordings, [str(problem).removeprefix(f"{problem.path}") for problem in problems]


TIME = np.arange(50) / 100
X, Y = 100 + 10 * np.arange(50), 400 - 5 * np.arange(50)


def agrees(recording, time=TIME, x=X, y=Y):
    np.testing.assert_allclose(recording.samples.time_s, time, atol=1e-9)
    np.testing.assert_allclose(recording.samples.x, x, rtol=1e-6)
    np.testing.assert_allclose(recording.samples.y, y, rtol=1e-6)
    assert recording.samples.valid.all()


def test_observers_in_a_column(tmp_path):
    """Rows of the observers alternate."""
    rows = [(name, t, x + shift, y) for t, x, y in zip(TIME, X, Y, strict=True) for name, shift in (("a", 0), ("b", 7))]
    recordings, problems = read(write(tmp_path / "all.csv", ["Participant", "time", "x", "y"], rows))
    assert [recording.observer for recording in recordings] == ["a", "b"] and not problems
    agrees(recordings[0])
    agrees(recordings[1], x=X + 7)


@pytest.mark.parametrize(
    ("header", "factor", "separator"),
    [
        (["Timestamp [ms]", "Gaze point X", "Gaze point Y"], 1e3, "\t"),
        (["time_us", "gaze_x", "gaze_y"], 1e6, ";"),
        (["t", "GazeX (px)", "GazeY (px)"], 1e3, ","),
        (["timestamp", "x_gaze", "y_gaze"], 1e9, "\t"),
        (["TIMESTAMP", "AVERAGE_GAZE_X", "AVERAGE_GAZE_Y"], 1, "|"),
        (["time", "x", "y"], 1e3, "  "),
    ],
)
def test_names_units_and_separators(tmp_path, header, factor, separator):
    """The unit is in the name, or follows from the intervals."""
    path = write(tmp_path / "p1.txt", header, zip(TIME * factor, X, Y, strict=True), separator)
    path.write_text(f"# a comment\nsep={separator[0]}\n{path.read_text()}")
    (recording,), problems = read(path)
    assert recording.observer == "p1" and not problems
    agrees(recording)


def test_mapping_encoding_and_compression(tmp_path):
    """Names that nobody can know, with commas in them, in UTF-16 and through gzip."""
    text = "Zeit; Blick, waagrecht;Blick, senkrecht;gültig\n"
    text += "".join(f"{t:.2f};{x};{y};{int(x != 110)}\n".replace(".", ",") for t, x, y in zip(TIME, X, Y, strict=True))
    utf16, packed = tmp_path / "one.csv", tmp_path / "two.csv.gz"
    utf16.write_bytes(text.encode("utf-16"))
    packed.write_bytes(gzip.compress(text.encode()))
    columns = (("time", "Zeit"), ("x", "Blick, waagrecht"), ("y", "Blick, senkrecht"), ("valid", "gültig"))
    recordings, problems = read(utf16, packed, columns=columns)
    assert [recording.observer for recording in recordings] == ["one", "two"] and not problems
    for recording in recordings:
        assert not recording.samples.valid[1] and np.isnan(recording.samples.x[1])
        np.testing.assert_allclose(recording.samples.x[2:], X[2:])
        np.testing.assert_allclose(recording.samples.time_s, TIME, atol=1e-9)


def test_mean_of_both_eyes_or_one(tmp_path):
    rows = [(t, x - 10, y, "" if i == 3 else x + 10, y) for i, (t, x, y) in enumerate(zip(TIME, X, Y, strict=True))]
    path = write(tmp_path / "p.csv", ["time", "left_x", "left_y", "right_x", "right_y"], rows)
    (both,), _ = read(path)
    (left,), _ = read(path, eye="left")
    expected = X.astype(float)
    expected[3] -= 10
    agrees(both, x=expected)
    agrees(left, x=X - 10)


def test_normalized_and_centered(tmp_path):
    path = write(tmp_path / "p.csv", ["time", "x", "y"], zip(TIME, X / 1000, Y / 500, strict=True))
    (recording,), _ = read(path, screen=(1000, 500))
    agrees(recording)
    assert any("fractions" in note for note in recording.notes)
    _, (problem,) = read(path)
    assert "--screen" in problem
    (recording,), _ = read(path, screen=(1000, 500), coordinates="normalized-up")
    agrees(recording, y=500 - Y)
    path = write(tmp_path / "q.csv", ["time", "x", "y"], zip(TIME, X - 500, 250 - Y, strict=True))
    (recording,), _ = read(path, screen=(1000, 500), coordinates="centered")
    agrees(recording)
    (recording,), _ = read(path, screen=(1000, 500), coordinates="pixels-up")
    agrees(recording, x=X - 500, y=250 + Y)


@pytest.mark.parametrize(
    ("header", "scale", "other"),
    [
        (["start", "end", "x", "y"], 1, "end"),
        (["CURRENT_FIX_START", "CURRENT_FIX_END", "CURRENT_FIX_X", "CURRENT_FIX_Y"], 1e3, "end"),
        (["onset", "duration", "fix_x", "fix_y"], 1e3, "duration"),
        (["start", "duration_ms", "x", "y"], 1, "duration"),
        (["timestamp", "duration", "mean_x", "mean_y"], 1e6, "duration"),
    ],
)
def test_fixations(tmp_path, header, scale, other):
    """Ends or durations, in the unit of the start or another."""
    start, duration = np.array([0.1, 0.45, 0.9]), np.array([0.3, 0.4, 0.25])
    length = duration * (1e3 if "ms" in header[1] else scale)
    second = (start + duration) * scale if other == "end" else length
    path = write(tmp_path / "p.csv", header, zip(start * scale, second, [1, 2, 3], [4, 5, 6], strict=True))
    (recording,), problems = read(path)
    assert recording.samples is None and not problems
    table = recording.fixations
    np.testing.assert_allclose(table.start_s, start)
    np.testing.assert_allclose(table.end_s, start + duration)
    assert table.x.tolist() == [1, 2, 3] and table.y.tolist() == [4, 5, 6]


def test_fixations_by_number_of_samples(tmp_path):
    number = np.repeat([0, 1, 1, 0, 2], 10)
    path = write(tmp_path / "p.csv", ["time", "x", "y", "fixation_id"], zip(TIME, X, Y, number, strict=True))
    (recording,), _ = read(path)
    agrees(recording)
    np.testing.assert_allclose(recording.fixations.start_s, [0.1, 0.4])
    np.testing.assert_allclose(recording.fixations.end_s, [0.29, 0.49])
    np.testing.assert_allclose(recording.fixations.x, [X[10:30].mean(), X[40:].mean()])


def test_start_of_the_video(tmp_path):
    """By the clock of the file, by the first sample, by an event, by an offset."""
    events = ["", "ready", "video onset"] + [""] * 47
    path = write(tmp_path / "p.csv", ["time", "x", "y", "event"], zip(TIME + 5, X, Y, events, strict=True))
    for options, first in (
        ({}, 5),
        ({"time_zero": "first"}, 0),
        ({"start_event": "video"}, -0.02),
        ({"time_zero": "first", "offset_s": -0.25}, -0.25),
    ):
        (recording,), problems = read(path, **options)
        assert recording.samples.time_s[0] == pytest.approx(first) and not problems
    assert read(path, start_event="nothing") == ([], [" (p): has no event or message with 'nothing' (--start-event)"])
    path = write(tmp_path / "q.csv", ["time", "x", "y"], zip(TIME + 1.7e9, X, Y, strict=True))
    (recording,), _ = read(path)
    assert recording.samples.time_s[0] == 0 and any("calendar" in note for note in recording.notes)


def test_each_problem_is_one_line_and_others_are_read(tmp_path):
    rows = list(zip(TIME, X, Y, strict=True))
    good = write(tmp_path / "good.csv", ["time", "x", "y"], rows)
    bad = {
        "columns": write(tmp_path / "columns.csv", ["when", "across", "down"], rows),
        "back": write(tmp_path / "back.csv", ["time", "x", "y"], [*rows[:9], (0.01, 1, 1), *rows[9:]]),
        "invalid": write(tmp_path / "invalid.csv", ["time", "x", "y"], [(t, "", "") for t in TIME]),
        "empty": write(tmp_path / "empty.csv", ["time", "x", "y"], []),
        "nothing": tmp_path / "nothing.csv",
        "twice": write(tmp_path / "twice.csv", ["observer", "time", "x", "y"], [("good", *row) for row in rows]),
        "missing": tmp_path / "missing.csv",
        "binary": tmp_path / "binary.bin",
    }
    bad["nothing"].write_bytes(b"\n")
    bad["binary"].write_bytes(bytes(range(256)) * 10)
    outside = write(tmp_path / "outside.csv", ["time", "x", "y"], [(t, x + 500, y) for t, x, y in rows])
    problems = []
    files = [good, *bad.values(), outside]
    recordings = read_recordings(files, RecordingOptions(screen=(700, 500)), problems.append)
    assert [recording.observer for recording in recordings] == ["good", "outside"]
    assert [problem.lost for problem in problems] == [True] * len(bad) + [False]
    lines = dict(zip([*bad, "outside"], map(str, problems), strict=True))
    assert not any("\n" in line for line in lines.values())
    assert "when, across, down" in lines["columns"] and "--columns" in lines["columns"]
    assert "runs back at sample 10, from 0.08 s to 0.01 s" in lines["back"]
    assert "all samples are invalid" in lines["invalid"]
    assert "no rows" in lines["empty"] and "is empty" in lines["nothing"]
    assert f"(good): the observer is also in {good}" in lines["twice"]
    assert "No such file" in lines["missing"] and "known format" in lines["binary"]
    assert "78% of the gaze is outside the screen of 700x500 pixels" in lines["outside"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "tobi"}, "did you mean tobii"),
        ({"eye": "third"}, "--eye"),
        ({"time_unit": "h"}, "--time-unit"),
        ({"placed": (0, 0, 0, 9)}, "--placed"),
        ({"offset_s": float("nan")}, "--offset"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(UsageError, match=words):
        RecordingOptions(**options)


def test_columns_option():
    from tinyhd_cli.recordings.options import parse_columns

    assert parse_columns("time=T [ms],x=Gaze, X,y=b=c") == (("time", "T [ms]"), ("x", "Gaze, X"), ("y", "b=c"))
    for text in ("time", "when=T", "time=,x=1", "x=1,x=2"):
        with pytest.raises(UsageError, match="--columns"):
            parse_columns(text)


def test_lines_of_other_lengths_and_quotes(tmp_path):
    """Cells that are missing at the end, too many cells, quoted cells with separators, an inch in a message."""
    lines = ['"time","x","y","event, as text"']
    for i, (t, x, y) in enumerate(zip(TIME, X, Y, strict=True)):
        end = {0: "", 1: ',"a, b"', 2: ',"c",5,6,7', 3: ',24" screen'}.get(i, ",-")
        lines.append(f'"{t:.2f}",{x},{y}{end}')
    (tmp_path / "p.csv").write_text("\r\n".join(lines))
    (recording,), problems = read(tmp_path / "p.csv")
    agrees(recording)
    assert not problems


def test_a_column_of_many_values_is_no_observer(tmp_path):
    rows = [(f"id{i}", i / 100, 1, 2) for i in range(2_050)]
    _, (problem,) = read(write(tmp_path / "p.csv", ["subject", "time", "x", "y"], rows))
    assert "more than 1,000 observers by subject" in problem


def test_the_extra_is_named_if_it_is_missing(tmp_path, monkeypatch):
    path = write(tmp_path / "p.csv", ["time", "x", "y"], zip(TIME, X, Y, strict=True))
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match=r"pip install 'tinyhd\[gaze\]'"):
        read(path)


def test_files_of_one_name_are_named_by_their_folders(tmp_path):
    paths = []
    for name in ("anna", "ben"):
        (tmp_path / name / "export").mkdir(parents=True)
        paths.append(write(tmp_path / name / "export" / "data.csv", ["time", "x", "y"], zip(TIME, X, Y, strict=True)))
    for arguments in (paths, [tmp_path]):
        recordings, problems = read(*arguments)
        assert [recording.observer for recording in recordings] == ["anna", "ben"] and not problems
    (tmp_path / "none").mkdir()
    assert "has no recordings" in read(tmp_path / "none")[1][0]
