"""The cache of the teacher's maps: filled in shards, copied between machines, and used without the teacher."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import clips
from helpers.networks import lively
from helpers.training_data import OPTIONS, aux_videos, labeled_videos, photographs

from tinyhd_cli import weights
from tinyhd_cli.training import filling
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.prepare import rotated
from tinyhd_cli.training.teachers import Teacher

STUDENT = "tinyhd-s-quarter"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of labeled videos, photographs, unlabeled clips, and a teacher of another input size."""
    root = tmp_path_factory.mktemp("machine-a")
    labeled_videos(root / "videos", count=2, frames=17)
    photographs(root / "photos", count=1)
    aux_videos(root / "aux", count=2, frames=17)
    network = lively("tinyhd-m-quarter", seed=5)
    weights.save(root / "teacher.safetensors", network.state_dict(), network.spec, input_size=(64, 96))
    return root


def command(data: Path, cache: Path, *more: object) -> list[str]:
    """Return the command line of a run on the data of one machine."""
    sources = ("--data", data / "videos", "--data", f"images:{data / 'photos'}", "--aux", data / "aux")
    run = ("distill", "--model", STUDENT, "--teacher", data / "teacher.safetensors", "--hold-out", "0.5")
    return [str(part) for part in (*run, *sources, *OPTIONS, "--cache", cache, *more)]


def maps_in(cache: Path) -> dict[str, bytes]:
    """Return the files of the teacher's maps by their path in the cache."""
    found = (cache / "teacher").rglob("*.npz")
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def other_machine(data, tmp_path_factory):
    """Return a copy of the data in another folder, whose files have other modification times."""
    root = tmp_path_factory.mktemp("machine-b") / "elsewhere"
    shutil.copytree(data, root, copy_function=shutil.copyfile)
    for path in root.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    return root


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return a cache that one process has filled."""
    from tinyhd_cli import cli

    cache = tmp_path_factory.mktemp("whole")
    assert cli.run(command(data, cache, "--teacher-shard", "1/1")) == 0
    return cache


@pytest.mark.slow
def test_shards_of_two_machines_are_copied_together(tinyhd, data, other_machine, whole, capsys, monkeypatch):
    """Then a run with either cache does not load the teacher."""
    assert tinyhd(*command(data, Path("one"), "--teacher-shard", "1/2")) == 0
    assert capsys.readouterr().out == f"{Path('one/teacher')}\n"
    assert tinyhd(*command(other_machine, Path("two"), "--teacher-shard", "2/2")) == 0
    one, two, every = maps_in(Path("one")), maps_in(Path("two")), maps_in(whole)
    assert one and two and not one.keys() & two.keys()
    assert one | two == every
    shutil.copytree("two/teacher", "one/teacher", dirs_exist_ok=True)
    monkeypatch.setattr(Teacher, "model", property(lambda self: pytest.fail("the teacher was loaded")))
    before = {path.name for path in Path("one/clips").iterdir()}
    assert tinyhd(*command(other_machine, Path("one"), "--steps", "1", "--out", "run")) == 0
    sizes = {
        json.loads((path / "meta.json").read_text())["size"][1]
        for path in Path("one/clips").iterdir()
        if path.name not in before
    }
    assert sizes == {64, 96}  # the student's, of videos and photographs; not 144, the teacher's of photographs


def test_an_interrupted_shard_resumes(tinyhd, data, whole, monkeypatch, capsys):
    original, calls = Teacher.targets, []

    def interrupted(self, read):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, read)

    monkeypatch.setattr(Teacher, "targets", interrupted)
    shard = command(data, Path("cache"), "--teacher-shard", "1/1")
    shard.remove("--quiet")
    assert tinyhd(*shard) == 130
    assert len(maps_in(Path("cache"))) == 3
    capsys.readouterr()
    assert tinyhd(*shard) == 0
    assert maps_in(Path("cache")) == maps_in(whole)
    said = capsys.readouterr().err
    assert f"the maps of {len(maps_in(whole)) - 3} computed" in said
    assert "--out" not in said  # no folder of a run is made


@pytest.mark.slow
def test_two_processes_fill_one_folder_at_the_same_time(data, whole, tmp_path):
    """Even if both compute the same shard."""
    line = command(data, tmp_path / "cache", "--teacher-shard", "1/1")
    both = [subprocess.Popen([sys.executable, "-m", "tinyhd_cli", *line], stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=120)[1] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]
    assert maps_in(tmp_path / "cache") == maps_in(whole)
    assert not [path for path in (tmp_path / "cache/teacher").rglob("*") if path.is_file() and path.suffix != ".npz"]


def test_another_process_may_publish_first(tmp_path, monkeypatch):
    """Its folder is used, even if it appears between the last look and the renaming."""
    from tinyhd_cli.training import clip_cache
    from tinyhd_cli.training.sources import labeled

    video = labeled(str(labeled_videos(tmp_path / "videos", count=1, frames=3)), ("train",))[0]
    steps = TrainConfig(model=STUDENT).spec.preprocess
    original = clip_cache.publish_or_use
    expected = clip_cache.decode(video, tmp_path / "other", (64, 64), steps)
    folder = tmp_path / "cache" / expected.folder.name

    def late(*arguments):
        shutil.copytree(expected.folder, folder)
        return original(*arguments)

    folder.mkdir(parents=True)
    (folder / "meta.json").write_text("{}")  # damaged: it is removed first
    monkeypatch.setattr(clip_cache, "publish_or_use", late)
    found = clip_cache.decode(video, tmp_path / "cache", (64, 64), steps)
    assert found.folder == folder and found.frames == 3
    assert np.array_equal(np.array(found.pixels()), np.array(expected.pixels()))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name], "nothing temporary is left"


def test_several_processes_start_at_different_videos():
    assert [rotated("abcde", start) for start in (0, 2, 7)] == [list("abcde"), list("cdeab"), list("cdeab")]
    assert rotated([], 3) == []


@pytest.mark.slow
def test_a_cluster_fills_the_cache(data, whole, tmp_path):
    """Its files are those of a single process; a second cluster finds nothing to do."""
    line = command(data, tmp_path / "cache", "--cluster", "local:2")
    line.remove("--quiet")
    for computed in (len(maps_in(whole)), 0):
        done = subprocess.run([sys.executable, "-m", "tinyhd_cli", *line], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert f"the maps of {computed} computed" in done.stderr
    assert maps_in(tmp_path / "cache") == maps_in(whole)
    assert not list((tmp_path / "cache").rglob(".*")), "no marker and nothing temporary is left"


@pytest.mark.slow
def test_several_processes_decode_into_one_folder_at_the_same_time(data, tmp_path):
    line = [sys.executable, "-m", "tinyhd_cli", *command(data, tmp_path / "cache", "--cache-only")]
    several = [subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.communicate(timeout=300)[1] for process in several] == [b""] * 4
    assert [process.returncode for process in several] == [0] * 4
    alone = [*line[:-2], tmp_path / "alone", "--cache-only"]
    subprocess.run(alone, check=True, stdout=subprocess.DEVNULL, timeout=300)

    def files(cache):
        return {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*") if path.is_file()}

    assert files(tmp_path / "cache") == files(tmp_path / "alone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "local:2", "--resume"], "--resume: not with --cluster"),
        (["--cluster", "local:2", "--teacher-shard", "1/2"], "--teacher-shard: not with --cluster"),
        (["--cluster", "loca:2"], "--cluster loca:2: unknown"),
        (["--threads", "2"], "--threads needs --cluster"),
    ],
)
def test_options_of_a_cluster(tinyhd, data, capsys, options, message):
    assert tinyhd(*command(data, Path("cache"), *options)) == 2
    assert message in capsys.readouterr().err


def test_markers_of_killed_runs_are_removed(tinyhd, data, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    old, new = cache / ".shared-old", cache / ".shared-new"
    for path, age in ((old, 40), (new, 1)):
        path.touch()
        os.utime(path, (time.time() - age * 86400,) * 2)
    monkeypatch.setattr(filling.parallel, "run", lambda *arguments: (event for event in ()))
    assert tinyhd(*command(data, cache, "--cluster", "local:2")) == 0
    assert [path.name for path in cache.iterdir()] == [new.name]


def test_a_cache_that_cannot_be_written_to(tinyhd, data, tmp_path, monkeypatch, capsys):
    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    assert tinyhd(*command(data, tmp_path / "cache", "--cluster", "local:2")) == 5
    assert "Permission denied; choose another folder" in capsys.readouterr().err


def test_damaged_maps_are_named(tinyhd, data, whole, capsys):
    shutil.copytree(whole, "cache")
    paths = sorted(Path("cache/teacher").rglob("*.npz"))
    arrays = dict(np.load(paths[0]))
    for path in paths:
        np.savez(path, **arrays | {"final": arrays["final"] * np.float16("nan")})
    assert tinyhd(*command(data, Path("cache"), "--steps", "1", "--out", "damaged")) == 3
    assert "damaged or missing; remove it, and start again to compute it" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "1/2/3"])
def test_malformed_shards(tinyhd, data, capsys, text):
    assert tinyhd(*command(data, Path("cache"), f"--teacher-shard={text}")) == 2
    assert f"--teacher-shard {text}: must be I/N with I from 1 to N, such as 1/4" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--resume", "--extend"])
def test_a_shard_continues_no_run(tinyhd, data, capsys, option):
    assert tinyhd(*command(data, Path("cache"), "--teacher-shard", "1/2", option)) == 2
    assert capsys.readouterr().err == f"tinyhd: {option}: not with --teacher-shard, which trains nothing\n"


def test_a_shard_needs_a_cache_and_may_have_no_videos(tinyhd, data, capsys):
    line = command(data, Path("cache"), "--teacher-shard", "9/9")
    at = line.index("--cache")
    assert tinyhd(*line[:at], *line[at + 2 :]) == 2
    assert "--teacher-shard: name the folder of the maps with --cache" in capsys.readouterr().err
    line.remove("--quiet")
    assert tinyhd(*line) == 0
    assert "shard 9/9 has no videos" in capsys.readouterr().err


def test_teachers_with_roles_have_no_shards(tinyhd, data, capsys):
    line = ("distill", "--model", "uva-64", "--teacher", data / "teacher.safetensors", "--data", data / "videos")
    assert tinyhd(*line, "--cache", "cache", "--teacher-shard", "1/2") == 2
    assert "--teacher-shard: not for uva-64, whose teachers have roles" in capsys.readouterr().err


def test_training_has_no_shards(tinyhd, data, capsys):
    assert tinyhd("train", "--data", data / "videos", "--teacher-shard", "1/2") == 2
    assert "--teacher-shard" in capsys.readouterr().err


def test_the_content_of_frames_identifies_a_video(tmp_path):
    from tinyhd_cli.training.clip_cache import content_digest
    from tinyhd_cli.training.sources import labeled, unlabeled

    labeled_videos(tmp_path / "one", count=2, frames=2)
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "deep")
    (tmp_path / "two/deep/v0/maps/0001.png").unlink()  # ground truth does not matter
    first, second = (labeled(str(tmp_path / folder), ("train",)) for folder in ("one", "two/deep"))
    assert [content_digest(video) for video in first] == [content_digest(video) for video in second]
    assert len({content_digest(video) for video in first}) == 2
    image = tmp_path / "two/deep/v0/images/0002.png"
    image.write_bytes((tmp_path / "two/deep/v0/images/0001.png").read_bytes())
    assert content_digest(first[0]) != content_digest(second[0])
    photos = photographs(tmp_path / "photos", count=1)
    digest = content_digest(labeled(str(photos), ("train",))[0])
    for file in photos.rglob("1000.png"):
        file.rename(file.with_name("renamed.png"))
    assert content_digest(labeled(str(photos), ("train",))[0]) != digest  # the camera path depends on the name
    (tmp_path / "videos").mkdir()
    clips.make(tmp_path / "videos/a.mkv", codec="ffv1", frames=2)
    shutil.copyfile(tmp_path / "videos/a.mkv", tmp_path / "videos/b.mkv")
    assert len({content_digest(video) for video in unlabeled(str(tmp_path / "videos"))}) == 1
