"""Datasets and maps in object stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest
from helpers import crowdsal
from helpers.evaluations import VIDEOS, results

from tinyhd_cli.storage import addresses, copies, mirrors


@pytest.fixture
def bucket(park, maps):
    """Return the store with the dataset ``park`` and its maps."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    mirrors._mirrored.clear()
    mirrors._empty.clear()
    put(park, "data")
    put(maps, "maps")
    yield store
    store.store.clear()
    shutil.rmtree(addresses._root or "none", ignore_errors=True)  # the mirrors, which other tests would find


def put(folder: Path, name: str) -> None:
    """Copy a folder into the bucket."""
    store = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"memory://bucket/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def without_places(found: dict) -> dict:
    """Return results without the places of the data and the maps."""
    return {**found, "dataset": {**found["dataset"], "root": ""}, "prediction": ""}


def test_scores_are_those_of_local_files(tinyhd, park, maps, bucket, monkeypatch, capsys):
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--workers", "1", "--json", "local.json") == 0
    held = []
    original = mirrors.fetch_all
    monkeypatch.setattr(mirrors, "fetch_all", lambda files: held.append(len(files)) or original(files))
    url = ["evaluate", "--root", "memory://bucket/data", "--pred-dir", "memory://bucket/maps"]
    for name in ("url.json", "again.json"):
        mirrors._mirrored.clear()
        assert tinyhd(*url, "--json", name) == 0
    assert results("url.json")["dataset"]["root"] == "memory://bucket/data"
    assert results("url.json")["prediction"] == {"maps": "memory://bucket/maps"}
    assert without_places(results("url.json")) == without_places(results("local.json"))
    assert Path("again.json").read_bytes() == Path("url.json").read_bytes()
    assert held == [3 * frames for frames in VIDEOS.values()] * 2, "copies of one video at a time"
    assert not copies._sizes and not copies._used, "no copy is left"


def test_faults_are_reported_by_video(tinyhd, park, maps, bucket, capsys):
    bucket.rm_file("/bucket/maps/street/0003.png")
    broken = bucket.cat_file("/bucket/maps/yard/0002.png")
    bucket.pipe_file("/bucket/maps/yard/0002.png", broken[: len(broken) // 2])
    command = ["evaluate", "--root", "memory://bucket/data", "--pred-dir", "memory://bucket/maps"]
    assert tinyhd(*command, "--json", "scores.json") == 1
    failures = [video["failures"] for video in results()["videos"].values()]
    assert failures[1] == ["street: no map for frame 3"]
    assert failures[2][0] == "memory://bucket/maps/yard/0002.png: is truncated; copy or download it again"


def test_small_scratch(tinyhd, bucket, monkeypatch, capsys):
    monkeypatch.setenv("TINYHD_SCRATCH", "1G")  # is restored after the option has changed it
    command = ["evaluate", "--root", "memory://bucket/data", "--pred-dir", "memory://bucket/maps"]
    assert tinyhd(*command, "--scratch", "2K") == 3
    assert "--scratch allows 2,000" in capsys.readouterr().err
    assert not copies._sizes and not copies._used, "no copy is left"


def test_maps_in_videos(tinyhd, tmp_path, bucket, weights_file):
    """The map videos and lists of CrowdSAL are copied for one video at a time; the clips are read by ranges."""
    root = crowdsal.make("crowdsal", tmp_path / "crowdsal")
    put(root, "crowdsal")
    shown = {}
    for name, place in (("local", root), ("url", "memory://bucket/crowdsal")):
        options = ["--dataset", "crowdsal", "--root", place, "--workers", "1", "--json", f"{name}.json"]
        assert tinyhd("evaluate", *options, "--weights", weights_file) == 0
        shown[name] = without_places(results(f"{name}.json"))
    assert shown["local"] == shown["url"]


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("memory://bucket/nothing", "memory://bucket/nothing: no such folder"),
        ("nfs://bucket/data", "nfs:// is not supported"),
    ],
)
def test_missing_folders(tinyhd, bucket, capsys, root, message):
    assert tinyhd("evaluate", "--root", root, "--pred-dir", "memory://bucket/maps") in (2, 3)
    assert message in capsys.readouterr().err


def test_a_cluster_does_not_see_the_memory_of_this_process(tinyhd, bucket, capsys):
    command = ["evaluate", "--root", "memory://bucket/data", "--pred-dir", "memory://bucket/maps"]
    assert tinyhd(*command, "--cluster", "local:2") == 2
    assert "files in memory:// belong to one process" in capsys.readouterr().err
