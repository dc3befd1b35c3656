"""Tests of repeated runs in a folder: outputs of the first run are not inputs of the second."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.inference import io_paths
from tinyhd_cli.inference.inputs import find_videos
from tinyhd_cli.inference.io_paths import DEFAULT_OUTPUT, make_plan


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def planned(*arguments: str, out_dir: str | None = None, **wanted: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the outputs by video, and the ignored files."""
    found = find_videos(arguments)
    assert not found.errors
    plan = make_plan(found.found, wanted or DEFAULT_OUTPUT, Path(out_dir) if out_dir else None)
    outputs = {str(job.video): [str(path) for path in job.outputs.values()] for job in plan.jobs}
    return outputs, [str(path) for path in plan.ignored]


def write_outputs(outputs: dict[str, list[str]]) -> None:
    """Write the files, or folders of maps, that a run would write."""
    for paths in outputs.values():
        touch(*(path if Path(path).suffix else f"{path}/{number:04d}.png" for path in paths for number in (1, 2)))


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        (".", {}),
        ("*.mp4", {}),
        ("**/*.mp4", {"output": "{name}_crop.mp4"}),
        ("**", {"out_dir": "deep/out", "overlay": "o.mp4", "maps": "m", "npz": "n.npz", "csv": "c.csv"}),
        ("*", {"maps": "{name}_maps", "json": "{name}.json"}),
        ("deep/**/*.mp4", {"out_dir": "deep", "output": "{name}_encoded.mp4"}),
        ("deep", {"out_dir": "deep"}),
        ("deep/.", {"overlay": "deep/o.mp4"}),
        ("images", {"overlay": "images/o.mp4"}),
        ("imag*", {}),
        ("photos/..", {"out_dir": "photos"}),
    ],
)
def test_second_plan_equals_the_first(argument, options):
    touch("clip.mp4", "b.mkv", "deep/x.mp4", "images/1.png", "images/2.png", "photos/9.jpg")
    first, nothing = planned(argument, **options)
    assert first and not nothing
    for _ in range(3):
        write_outputs(first)
        again, ignored = planned(argument, **options)
        assert again == first
        found = {str(item.path) for item in find_videos([argument]).found}
        assert set(ignored) == found - set(first)


def test_outputs_of_earlier_outputs_are_not_inputs():
    touch(
        "clip.mp4", "clip_overlay.mp4", "clip_overlay_overlay.mp4", "clip_overlay_overlay_overlay.mp4", "x_overlay.mp4"
    )
    outputs, ignored = planned(".")
    assert list(outputs) == ["clip.mp4", "x_overlay.mp4"], "the video of x_overlay.mp4 is not in this folder"
    assert len(ignored) == 3


def test_explicitly_named_file_is_an_input():
    touch("clip.mp4", "clip_overlay.mp4")
    assert list(planned("clip.mp4", ".")[0]) == ["clip.mp4"]
    for arguments in (["clip.mp4", "clip_overlay.mp4"], [".", "clip_overlay.mp4"], ["clip_overlay.mp4", "*.mp4"]):
        with pytest.raises(
            UsageError, match=r"clip_overlay.mp4: is one of the inputs; remove it from the inputs, or .*--out-dir DIR"
        ):
            planned(*arguments)
    assert planned("clip_overlay.mp4")[0] == {"clip_overlay.mp4": ["clip_overlay_overlay.mp4"]}
    assert len(planned("clip.mp4", "clip_overlay.mp4", out_dir="out")[0]) == 2


def test_original_of_the_same_name_is_not_overwritten():
    touch("clip.mov", "clip.mp4")
    with pytest.raises(UsageError, match=r"clip\.mp4: is one of the inputs"):
        planned(".", overlay="{name}.mp4")
    os.link("clip.mp4", "other.mp4")
    with pytest.raises(UsageError, match=r"other\.mp4: is the input itself"):
        planned("clip.mp4", overlay="other.mp4")


def test_outputs_of_videos_with_the_same_name():
    touch("a/clip.mp4", "b/clip.mp4", "b/clip.mov")
    with pytest.raises(UsageError, match=r"for different names use --overlay '\{folder\}_\{name\}_overlay.\{ext\}'"):
        planned("a/clip.mp4", "b/clip.mp4")
    with pytest.raises(UsageError, match=r"for different names use --csv '\{suffix\}_\{name\}_x.csv'"):
        planned("b", out_dir="out", csv="x.csv")
    assert planned("a", "b", out_dir="out", csv="{folder}/{name}.{suffix}.csv")[0] == {
        "a/clip.mp4": ["out/a/clip.mp4.csv"],
        "b/clip.mov": ["out/b/clip.mov.csv"],
        "b/clip.mp4": ["out/b/clip.mp4.csv"],
    }


def test_names_that_differ_only_in_case(monkeypatch):
    """They are the same file on a file system that ignores case, and two files on this one."""
    touch("a/CLIP.MP4", "b/clip.mp4")
    assert len(planned("a", "b", out_dir="out")[0]) == 2
    monkeypatch.setattr(io_paths, "ignores_case", lambda folder: True)
    with pytest.raises(UsageError, match=r"a/CLIP\.MP4 and b/clip\.mp4 would both be written to out/clip_overlay\.mp4"):
        planned("a", "b", out_dir="out")


def test_each_link_has_its_own_output():
    touch("real.mp4")
    for name in ("one.mp4", "two.mp4"):
        Path(name).symlink_to("real.mp4")
    Path("loop").symlink_to(".")
    arguments = [".", "one.mp4", "./one.mp4", "loop/two.mp4", str(Path("real.mp4").absolute())]
    outputs = list(planned(*arguments)[0].values())
    assert outputs == [["one_overlay.mp4"], ["real_overlay.mp4"], ["two_overlay.mp4"]]


def test_cyclic_links():
    touch("a/v.mp4", "b/w.mp4", ".hidden/x.mp4", "[b]/y.mp4")
    for folder in "ab":
        for number in range(3):
            Path(folder, f"up{number}").symlink_to("..")
    Path("a/there").symlink_to("../b")
    assert sorted(path for (path,) in planned("**/*.mp4")[0].values()) == [f"{name}_overlay.mp4" for name in "vwy"]
    assert len(find_videos(["?/**/*.mp4"]).found) == 3
    assert [str(item.path) for item in find_videos(["[[]b]/**/y.*"]).found] == ["[b]/y.mp4"]


def test_names_with_dots_or_placeholders():
    touch("...mp4", "{folder}.mp4", "a\nb.mp4")
    assert planned("...mp4", out_dir="results", csv="{name}/x.csv")[0] == {"...mp4": ["results/...mp4/x.csv"]}
    assert planned("{folder}.mp4")[0] == {"{folder}.mp4": ["{folder}_overlay.mp4"]}
    assert planned("a\nb.mp4")[0] == {"a\nb.mp4": ["a\nb_overlay.mp4"]}


def test_names_of_255_bytes():
    long = "é" * 124 + ".mp4"
    touch(long, "ok.mp4")
    plan = make_plan(find_videos(["."]).found, DEFAULT_OUTPUT, None)
    assert [job.video.name for job in plan.jobs] == ["ok.mp4"]
    assert str(plan.errors[long]).endswith("has 260 bytes; the limit is 255; give a shorter name (--overlay FILE)")
    assert list(planned(long, overlay="short.mp4")[0]) == [long]
    assert list(planned(long, overlay="{name}.mkv")[0]) == [long]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("parts", r"parts: no videos directly in this folder; for its subfolders use 'parts/\*\*/\*.mp4'"),
        ("shots", "shots: no videos directly in this folder; images were found in shots/a/images: give that folder"),
        ("empty", "empty: no videos or images in this folder"),
        ("empt*", r"empt\*: matches only folders without videos or images"),
        ("x*.mp4", r"x\*.mp4: matches no file"),
        ("gone.mp4", "gone.mp4: no such file"),
        ("n" * 300, "no such file"),
    ],
)
def test_arguments_without_videos(argument, message):
    touch("parts/1/a.mp4", "shots/a/images/1.png", "empty/notes.txt", "ok.mp4", ".hidden.mp4", ".hidden/v.mp4")
    found = find_videos([argument, "*.mp4"])
    assert [str(item.path) for item in found.found] == ["ok.mp4"]
    with pytest.raises(InputError, match=message):
        raise found.errors[argument]


@pytest.mark.parametrize("command", ["predict", "crop", "encode", "report"])
def test_commands_twice_in_a_folder(tinyhd, weights_file, capsys, monkeypatch, command):
    maps = np.random.default_rng(0).random((16, 192, 256)).astype(np.float32)
    monkeypatch.setattr("tinyhd_cli.inference.model.Model.infer", lambda self, clip: maps)
    touch("d/cover.png")
    video = clips.make(Path("d/clip.mp4"), frames=2)
    more = ["--no-compare"] if command == "encode" else []
    for _ in range(2):
        assert tinyhd(command, "d", "--out-dir", "d", "--weights", weights_file, "--engine", "torch", *more) == 0
        made = {path.name for path in Path("d").iterdir()} - {video.name, "cover.png"}
        assert len(made) == 1
        message = capsys.readouterr().err
        assert "d: images are ignored, because the folder also contains videos" in message
    assert ("ignored as inputs, because they are outputs of this command: d/clip_" in message) == (command != "report")
    if command == "predict":
        assert (
            tinyhd(command, "d", "--out-dir", "d", "--weights", weights_file, "--engine", "torch", "--skip-existing")
            == 0
        )
        assert "clip.mp4: skipped, all outputs exist" in capsys.readouterr().err
