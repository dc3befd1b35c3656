"""MAT files in the forms of classic datasets, and files that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from tinyhd_cli.recordings import RecordingOptions, mat_file, read_recordings

FRAMES = np.arange(40)
X, Y = 100.0 + 10 * FRAMES, 300.0 - 5 * FRAMES


def read(path, **options):
    problems = []
    return read_recordings([path], RecordingOptions(**options), problems.append), [str(p) for p in problems]


def agrees(recording, shift=0.0, interval=0.04):
    np.testing.assert_allclose(recording.samples.time_s, FRAMES * interval, atol=1e-9)
    np.testing.assert_allclose(recording.samples.x, X + shift)
    np.testing.assert_allclose(recording.samples.y, Y)


def cells(*arrays):
    result = np.empty(len(arrays), object)
    result[:] = list(arrays)
    return result


def test_positions_of_each_frame(tmp_path):
    """An array (2, frames, observers) in nested structures, a cell array of (frames, 2), and a plain array."""
    data = np.stack([np.stack([X + shift, Y]) for shift in (0, 7)], axis=2)
    savemat(tmp_path / "clip.mat", {"base": {"sounds": {"clip_1": {"data": data, "info": "text"}}}})
    savemat(tmp_path / "cell.mat", {"gaze": cells(np.stack([X, Y], 1), np.stack([X + 7, Y], 1))})
    savemat(tmp_path / "one.mat", {"gaze": np.stack([X, Y], 1)})
    for name in ("clip", "cell"):
        recordings, problems = read(tmp_path / f"{name}.mat", frame_rate=25)
        assert [recording.observer for recording in recordings] == [f"{name}-01", f"{name}-02"] and not problems
        agrees(recordings[0])
        agrees(recordings[1], 7)
    (recording,), _ = read(tmp_path / "one.mat", frame_rate=25)
    assert recording.observer == "one"
    agrees(recording)
    assert "--frame-rate" in read(tmp_path / "one.mat")[1][0]


def test_fixations(tmp_path):
    rows = np.array([[100.0, 200, 100, 250], [300, 400, 400, 300], [np.nan, 1, 800, 100]])
    both = cells(rows, rows + np.array([1, 0, 0, 0]))
    savemat(tmp_path / "f.mat", {"set": {"video": [{"FixL": both}, {"FixL": rows}]}})
    recordings, problems = read(tmp_path / "f.mat", columns=(("data", "set.video(1).FixL"),))
    assert not problems and len(recordings) == 2
    for shift, recording in enumerate(recordings):
        np.testing.assert_allclose(recording.fixations.start_s, [0.1, 0.4])
        np.testing.assert_allclose(recording.fixations.end_s, [0.35, 0.7])
        assert recording.fixations.x.tolist() == [100 + shift, 300 + shift]


def test_vectors(tmp_path):
    """One observer in vectors, several in columns, fixations in vectors, names that are mapped."""
    savemat(tmp_path / "a.mat", {"time": FRAMES * 40.0, "x": X, "y": Y})
    savemat(tmp_path / "b.mat", {"rec": {"t": FRAMES * 0.04, "x": np.stack([X, X + 7], 1), "y": np.stack([Y, Y], 1)}})
    savemat(tmp_path / "c.mat", {"start": [0.1, 0.5], "duration": [0.3, 0.2], "x": [1, 2], "y": [3, 4]})
    savemat(tmp_path / "d.mat", {"zeit": FRAMES * 40.0, "gx": X, "gy": Y})
    ((one,), _), (several, _), ((fixations,), _) = (read(tmp_path / f"{name}.mat") for name in "abc")
    agrees(one)
    agrees(several[0])
    agrees(several[1], 7)
    np.testing.assert_allclose(fixations.fixations.end_s, [0.4, 0.7])
    (mapped,), _ = read(tmp_path / "d.mat", columns=(("time", "zeit"), ("x", "gx"), ("y", "gy")))
    agrees(mapped)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + b" " * 90 + b"\0\2IM", "save it with -v7"),
        (
            b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + b" " * 86 + b"\0\1IM" + b"\x0e\0\0\0\xff\xff\0\0",
            "not a complete",
        ),
    ],
)
def test_refused_files(tmp_path, content, words):
    (tmp_path / "bad.mat").write_bytes(content)
    recordings, (problem,) = read(tmp_path / "bad.mat")
    assert not recordings and words in problem and "\n" not in problem


def test_refused_content(tmp_path):
    savemat(tmp_path / "none.mat", {"name": "text", "speed": np.arange(3.0)})
    savemat(tmp_path / "two.mat", {"left": np.stack([X, Y], 1), "right": np.stack([X, Y], 1)})
    assert "it has name, speed" in read(tmp_path / "none.mat")[1][0]
    assert "--columns data=NAME: left, right" in read(tmp_path / "two.mat", frame_rate=25)[1][0]
    (chosen,), _ = read(tmp_path / "two.mat", frame_rate=25, columns=(("data", "left"),))
    agrees(chosen)


def test_files_are_read_as_by_scipy(tmp_path):
    """All types of numbers, shapes, nested cells and structures, compressed or not; other classes are left out."""
    from scipy.io import loadmat

    from tinyhd_cli.recordings.mat_file import read_mat_file

    rng = np.random.default_rng(0)
    content = {f"n{kind}": (rng.uniform(0, 100, (3, 4, 2))).astype(kind) for kind in "bBhHiIqQfd"}
    content |= {"one": 5.0, "empty": np.zeros((0, 2)), "flag": np.array([True, False]), "small": np.int8([1])}
    content |= {"text": "word", "complex": np.array([1 + 2j])}
    content |= {"nested": {"cell": cells(np.arange(3.0), cells(np.eye(2))), "deep": {"value": np.arange(4.0)}}}
    for compress in (False, True):
        path = tmp_path / f"{compress}.mat"
        savemat(path, content, do_compression=compress)
        ours, theirs = read_mat_file(path), loadmat(path)
        for name in [*(f"n{kind}" for kind in "bBhHiIqQfd"), "one", "empty", "flag", "small"]:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].shape == theirs[name].shape
        assert ours["text"] is None and ours["complex"] is None
        nested = ours["nested"]
        assert nested["cell"][0].ravel().tolist() == [0, 1, 2] and nested["deep"]["value"].size == 4
        np.testing.assert_array_equal(nested["cell"][1][0], np.eye(2))


def test_damaged_files_are_refused(tmp_path):
    """Files with random damage are read or refused; SciPy's reader ends the process for some of them."""
    from tinyhd_cli.errors import InputError
    from tinyhd_cli.recordings.mat_file import read_mat_file

    source, path = tmp_path / "source.mat", tmp_path / "damaged.mat"
    savemat(source, {"rec": {"t": FRAMES, "x": cells(X, Y), "name": "text"}, "y": np.stack([X, Y], 1)})
    good, rng, refused = source.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(good[: len(good) if rng.uniform() < 0.7 else rng.integers(len(good))])
        for position in rng.integers(0, max(len(data), 1), 3):
            data[position : position + 1] = bytes([rng.integers(256)])
        path.write_bytes(bytes(data))
        try:
            read_mat_file(path)
        except InputError as error:
            refused += "not a complete MAT file" in str(error)
    assert 100 < refused < 300


def test_limits_of_the_content(tmp_path, monkeypatch):
    """Numbers in all variables together, and bytes after decompression."""
    savemat(tmp_path / "a.mat", {f"x{n}": np.zeros((1000, 2), np.int8) for n in range(9)}, do_compression=True)
    for limit, value in (("MAX_NUMBERS", 10_000), ("MAX_BYTES", 8_000)):
        with monkeypatch.context() as patched:
            patched.setattr(mat_file, limit, value)
            assert "too much content" in read(tmp_path / "a.mat")[1][0]
    assert "several arrays" in read(tmp_path / "a.mat")[1][0]
