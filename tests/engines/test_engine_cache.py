"""Cached graphs and verdicts: concurrent processes, damaged files, folders of other users."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers.networks import lively

from tinyhd_cli import cache, load_model, weights
from tinyhd_cli.engines import engine_cache, selection, self_test
from tinyhd_cli.errors import UsageError
from tinyhd_cli.training.prepare import cache_root

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")
CLIP = self_test.self_test_clip((3, 16, 64, 64))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Weights with an input of 64 x 64, which compile and pass the self-test quickly."""
    network = lively("tinyhd-m-quarter")
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(path, network.state_dict(), network.spec, input_size=(64, 64))
    return path


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An engine cache for this test only."""
    monkeypatch.delenv("TINYHD_ENGINE_CACHE")
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "own"))
    return tmp_path / "own" / "engines"


@pytest.fixture
def tested(monkeypatch):
    """A list with one entry per self-test."""
    calls = []
    mismatch = selection.mismatch
    monkeypatch.setattr(selection, "mismatch", lambda *rest: calls.append(1) or mismatch(*rest))
    return calls


@pytest.fixture(autouse=True)
def propagate_log(monkeypatch):
    monkeypatch.setattr(logging.getLogger("tinyhd"), "propagate", True)
    cache.warn_once.cache_clear()


def load(small):
    loaded = load_model(small, "cpu", engine="openvino")
    assert loaded.engine.name == "openvino"
    return loaded.engine


def graph_path(folder):
    (path,) = (folder / "compiled").glob("*.blob")
    return path


SEVERAL = """
    import hashlib, sys
    from tinyhd_cli import load_model
    from tinyhd_cli.engines.self_test import self_test_clip
    engine = load_model(sys.argv[1], "cpu", engine="openvino").engine
    print(engine.name, hashlib.sha256(engine.infer(self_test_clip((3, 16, 64, 64))).tobytes()).hexdigest())
"""


def run_at_once(small, folder, count):
    """Return the distinct outputs of processes that start together with an empty cache."""
    environment = {**os.environ, "TINYHD_CACHE": str(folder.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(SEVERAL), str(small)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(count)]
    results = [(process.communicate(timeout=300), process.returncode) for process in processes]
    assert [(code, err) for (_, err), code in results] == [(0, "")] * count
    return {out for (out, _), _ in results}


def test_processes_that_start_together(small, folder):
    """All succeed with the same maps, and one of them compiles for all."""
    (printed,) = run_at_once(small, folder, 3)
    assert printed.startswith("openvino ")
    assert len(list((folder / "compiled").iterdir())) == 1
    assert len(list(folder.glob("*.json"))) == 1


@pytest.mark.slow
def test_sixteen_processes_that_start_together(small, tmp_path):
    for number in range(5):
        assert len(run_at_once(small, tmp_path / str(number) / "engines", 16)) == 1


def test_a_graph_in_use_may_be_truncated(small, folder):
    """The file is not memory-mapped; truncating a mapped file would end the process by SIGBUS."""
    load(small)
    source = """
        import os, sys
        from pathlib import Path
        from tinyhd_cli import load_model
        from tinyhd_cli.engines.self_test import self_test_clip
        engine, clip = load_model(sys.argv[1], "cpu", engine="openvino").engine, self_test_clip((3, 16, 64, 64))
        before = engine.infer(clip)
        files = list(Path(sys.argv[2]).rglob("*.blob"))
        for file in files:
            os.chmod(file, 0o600)
            os.truncate(file, 0)
        print(len(files), (engine.infer(clip) == before).all())
    """
    command = [sys.executable, "-c", textwrap.dedent(source), str(small), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 True\n")


def truncate(data):
    return data[: len(data) // 2]


def flip(data):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def test_a_damaged_graph_is_compiled_again(small, folder, tested):
    expected = load(small).infer(CLIP)
    path = graph_path(folder)
    whole = path.read_bytes()
    for damaged in (b"", truncate(whole), flip(whole), whole[100:], b"x" * 5000, whole + b"x"):
        path.write_bytes(damaged)
        assert engine_cache.read_graph(path) is None
    np.testing.assert_array_equal(load(small).infer(CLIP), expected)
    assert engine_cache.read_graph(path)
    assert len(tested) == 2
    load(small)
    assert len(tested) == 2


def test_a_graph_that_openvino_rejects_is_compiled_again(small, folder):
    expected = load(small).infer(CLIP)
    content = truncate(engine_cache.read_graph(graph_path(folder))[0])
    engine_cache.write_graph(graph_path(folder), content)
    np.testing.assert_array_equal(load(small).infer(CLIP), expected)
    assert len(engine_cache.read_graph(graph_path(folder))[0]) > len(content)


def test_the_graph_of_another_network_is_not_used(small, folder, tmp_path):
    expected = load(small).infer(CLIP)
    path = graph_path(folder)
    network = lively("tinyhd-m-quarter", seed=1)
    weights.save(tmp_path / "other.safetensors", network.state_dict(), network.spec, input_size=(64, 64))
    load(tmp_path / "other.safetensors")
    (other,) = set((folder / "compiled").glob("*.blob")) - {path}
    path.write_bytes(other.read_bytes())
    np.testing.assert_array_equal(load(small).infer(CLIP), expected)


def test_a_verdict_belongs_to_one_graph(small, folder, tested):
    load(small)
    load(small)
    assert len(tested) == 1
    graph_path(folder).unlink()  # another compilation may give other bytes
    load(small)
    (verdict,) = folder.glob("*.json")
    stated = json.loads(verdict.read_text())
    assert stated == {"wrong": "", "graph": engine_cache.read_graph(graph_path(folder))[1]}
    verdict.write_text(json.dumps({**stated, "graph": "0" * 64}))
    before = len(tested)
    load(small)
    assert len(tested) == before + 1


DAMAGED_VERDICTS = ["", "null", "3", "[]", '{"wrong": 3}', "[" * 100_000, '{"wrong": "x", "graph": 1}']


@pytest.mark.parametrize("content", DAMAGED_VERDICTS, ids=range(7))
def test_a_damaged_verdict_is_ignored(tmp_path, content):
    path = tmp_path / "verdict.json"
    engine_cache.write_verdict(path, "graph", "slow\x1b")
    assert engine_cache.read_verdict(path, "graph") == r"slow\x1b"
    assert engine_cache.read_verdict(path, "another") is None
    path.write_text(content)
    assert engine_cache.read_verdict(path, "graph") is None


def test_old_graphs_are_removed(tmp_path):
    for number in range(engine_cache.MAX_GRAPHS + 3):
        path = tmp_path / f"{number}.blob"
        assert engine_cache.write_graph(path, b"graph")
        os.utime(path, (number, number))
    assert len(list(tmp_path.iterdir())) == engine_cache.MAX_GRAPHS
    assert engine_cache.read_graph(path) == (b"graph", engine_cache.digest_in(path, b"graph").hex())


def test_a_process_that_waits_too_long_compiles_itself(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(engine_cache, "MAX_WAIT_S", 0.1)
    with engine_cache.compilation_lock(), (folder / "lock").open("ab") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with engine_cache.compilation_lock():
            pass
    with (folder / "lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# The folder


@posix
def test_the_cache_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "a" / "cache"))
    before = os.umask(0o002)
    try:
        assert cache.folder("x", "y") == tmp_path / "a" / "cache" / "x" / "y"
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777, 0o702])
def test_a_cache_that_others_can_write_to_is_not_used(tmp_path, monkeypatch, caplog, small, mode):
    monkeypatch.delenv("TINYHD_ENGINE_CACHE")
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    for _ in range(2):
        assert cache.folder("engines") is None
    line = f"{tmp_path / 'shared'}: is writable by other users, so the cache is not used; run chmod 700"
    assert [record.getMessage() for record in caplog.records] == [f"{line} {tmp_path / 'shared'}"]
    if mode == 0o777:
        assert load(small).graph == ""
        assert list((tmp_path / "shared").iterdir()) == []
    (tmp_path / "shared").chmod(0o755)
    assert cache.folder("engines") == tmp_path / "shared" / "engines"


@posix
def test_the_cache_of_another_user_is_not_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "theirs"))
    (tmp_path / "theirs").mkdir(mode=0o700)
    us = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 1)
    assert cache.folder() is None
    assert "theirs: belongs to another user, so the cache is not used; set TINYHD_CACHE" in caplog.text


@posix
def test_a_symlink_to_the_cache(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "link"))
    assert cache.folder("engines") == tmp_path / "link" / "engines"
    (tmp_path / "disk").chmod(0o777)
    assert cache.folder("engines") is None


@posix
def test_the_cache_of_training(tmp_path):
    from tinyhd_cli.training.options import TrainConfig

    config = TrainConfig(out=tmp_path / "run", cache=tmp_path / "shared")
    assert cache_root(config) == tmp_path / "shared"
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(UsageError, match=r"--cache .*shared: is writable by other users; choose a folder of your own"):
        cache_root(config)


@posix
def test_evaluate_without_a_cache(tmp_path, monkeypatch, caplog):
    from tinyhd_cli.evaluation.resume import FinishedVideos
    from tinyhd_cli.evaluation.scoring import VideoScores

    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    finished = FinishedVideos({})
    finished.put(VideoScores("a"), [])
    assert finished.get("a", []) is None
    finished.clear()
    assert list((tmp_path / "shared").iterdir()) == []
