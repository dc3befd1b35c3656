"""The datasets that tinyhd knows, their folders, and commands that find them by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import crowdsal
from helpers import datasets_on_disk as on_disk
from helpers.networks import lively

from tinyhd_cli import weights
from tinyhd_cli.datasets import LAYOUTS, folder_of
from tinyhd_cli.datasets.archive import Member
from tinyhd_cli.datasets.catalog import catalog, download_folder
from tinyhd_cli.datasets.manifest import HubFile, Manifest
from tinyhd_cli.errors import UsageError
from tinyhd_cli.layouts import EXPECTED
from tinyhd_cli.training import run_defaults, sources, stages
from tinyhd_cli.training.options import TrainConfig


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """Set an empty folder of settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TINYHD_CONFIG", raising=False)


def test_the_catalog_fits_the_layouts():
    for info in catalog().values():
        assert info.title and info.content
        if info.layout:
            layout = LAYOUTS[info.layout]
            assert info.layout in EXPECTED
            assert (info.task == "object") == layout.masks
            assert info.splits.keys() <= layout.splits.keys()
        if info.hub:
            assert info.hub.splits.keys() <= LAYOUTS[info.layout].splits.keys()
            assert bool(info.hub.lists) == bool(info.hub.keys)
            assert not info.hub.keys or info.hub.keys.keys() == info.hub.splits.keys()
            assert info.license
    official = catalog()["dhf1k"].splits
    for split, counts in LAYOUTS["dhf1k"].splits.items():
        assert official[split].startswith(f"{counts.videos} videos, {counts.frames:,} frames")


def test_folders_are_known_by_name(monkeypatch, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert folder_of("dhf1k") is None
    assert download_folder("crowdsal") == tmp_path / "share" / "tinyhd" / "datasets" / "crowdsal"
    downloaded = tmp_path / "share" / "tinyhd" / "datasets" / "dhf1k"
    downloaded.mkdir(parents=True)
    assert folder_of("dhf1k") == downloaded

    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    assert folder_of("dhf1k") == downloaded
    for name in ("DHF1K", "UCF_Sports", ".crowdsal.download"):
        (tmp_path / "data" / name).mkdir(parents=True)
    assert folder_of("dhf1k") == tmp_path / "data" / "DHF1K"
    assert folder_of("ucf-sports") == tmp_path / "data" / "UCF_Sports"
    assert folder_of("crowdsal") is None
    assert download_folder("crowdsal") == tmp_path / "data" / "crowdsal"

    (tmp_path / "config" / "tinyhd").mkdir(parents=True)
    (tmp_path / "config" / "tinyhd" / "tinyhd.toml").write_text('[datasets]\ndhf1k = "/user"\ndavis = "DAVIS"\n')
    (here / "tinyhd.toml").write_text('[datasets]\ndhf1k = "sub/DHF1K"\n')
    assert folder_of("dhf1k") == Path("sub/DHF1K")
    assert folder_of("davis") == tmp_path / "config" / "tinyhd" / "DAVIS"
    (here / "tinyhd.toml").write_text("[datasets]\ndhf1k = 1\n")
    with pytest.raises(UsageError, match=r"tinyhd.toml: \[datasets\] dhf1k must be a folder in quotation marks"):
        folder_of("dhf1k")


def test_list_and_info(tinyhd, tmp_path, monkeypatch, capsys):
    (tmp_path / "data" / "davis").mkdir(parents=True)
    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    assert tinyhd("datasets", "list") == 0
    output = capsys.readouterr().out
    assert all(name in output for name in catalog())
    assert "not on this machine, on the Hub" in output
    assert tinyhd("datasets", "info", "dhf1k") == 0
    output = capsys.readouterr().out
    assert "size       not known" in output and "license    not known" in output
    assert "val: 100 videos, 60,273 frames" in output
    assert 'name its folder in tinyhd.toml ([datasets], then dhf1k = "/path")' in output
    assert tinyhd("datasets", "info", "avimos", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["license"] == "CC-BY 4.0" and facts["hub"] == "ANDRYHA/AudioVisualMouseSaliency"
    assert facts["folder"] is None and facts["splits"]["train"] == "1,000 videos"
    assert tinyhd("datasets", "info", "dhf") == 2
    assert "dataset 'dhf' is unknown: did you mean dhf1k?" in capsys.readouterr().err


def test_unknown_names_in_the_settings(tinyhd, capsys):
    Path("tinyhd.toml").write_text('[datasets]\ndhf = "/data"\n')
    assert tinyhd("evaluate", "--dataset", "dhf1k") == 2
    assert "tinyhd.toml: [datasets] has no dataset 'dhf': did you mean dhf1k?" in capsys.readouterr().err


def test_evaluate_and_check_by_name(tinyhd, tmp_path, monkeypatch, capsys):
    on_disk.dhf1k(tmp_path / "data" / "DHF1K", {601: 2})
    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    assert tinyhd("evaluate", "--dataset", "dhf1k", "--prior", "--baseline", "gaussian") == 0
    assert f"defaults: --root {tmp_path / 'data' / 'DHF1K'}\n" in capsys.readouterr().err
    on_disk.folder(tmp_path / "mine", {"park": 2}, "beside")
    for name in ("dhf1k", tmp_path / "data" / "DHF1K"):
        assert tinyhd("datasets", "check", name) == 1  # it is a part of DHF1K
        output = capsys.readouterr()
        assert "1 of the val split's 100 videos are here" in output.out
        assert "1 video, 2 frames" in output.out and "2 faults" in output.out
        assert "DHF1K: dhf1k, val\n" in output.err and "train" not in output.err
    assert tinyhd("datasets", "check", tmp_path / "mine") == 0
    output = capsys.readouterr()
    assert "no faults" in output.out and "mine: folder\n" in output.err
    assert tinyhd("datasets", "check", "davis") == 2
    assert "davis is not on this machine: name its folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert tinyhd("datasets", "check", tmp_path / "empty") == 3
    assert "contains no videos with ground truth in a known layout" in capsys.readouterr().err
    assert tinyhd("datasets", "check", tmp_path / "absent") == 3
    assert "no such folder, and no dataset of this name" in capsys.readouterr().err


def test_check_compares_with_the_hub(tinyhd, tmp_path, capsys):
    """The hashes of a download are checked again, for files of the repository and of archives."""
    root = tmp_path / "park"
    on_disk.folder(root, {"park": 2}, "beside")
    files = {name: root / name for name in ("readme.md", "list.json", "inner.bin", "other.bin")}
    for path in files.values():
        path.write_bytes(b"abc")
    record = Manifest(
        "owner/name",
        "main",
        "0" * 40,
        (
            HubFile("readme.md", 3, "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"),  # git hash-object
            HubFile("list.json", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            HubFile("packed.zip", 9, "0" * 64),
        ),
        {"packed.zip": (Member("inner.bin", "", 3, 0x352441C2), Member("other.bin", "", 3, 1))},
    )
    record.write(root)
    assert Manifest.read(root) == record
    assert tinyhd("datasets", "check", root) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fault: ")]
    assert faults == [f"fault: {files['other.bin']}: differs from the Hub's hash"]
    files["list.json"].write_bytes(b"abcd")
    assert tinyhd("datasets", "check", root) == 1
    assert f"{files['list.json']}: has 4 bytes instead of 3" in capsys.readouterr().out
    (root / ".tinyhd-download.json").write_text("{}")
    assert tinyhd("datasets", "check", root) == 3
    assert "is damaged; remove it" in capsys.readouterr().err


SMALL = "--init none --size 64x64 --batch-size 1 --steps 1 --hold-out 0 --workers 0"


def test_the_command_of_a_teacher_alone(tinyhd, tmp_path, monkeypatch, capsys):
    """Data, network and folder have defaults, which are printed first, and which presets and options override."""
    crowdsal.make("crowdsal", tmp_path / "data" / "crowdsal", videos=1, frames=1, portrait=0)
    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    configs = []
    monkeypatch.setattr(stages, "train", lambda config, **options: configs.append(config))
    known = f"--data crowdsal ({tmp_path / 'data' / 'crowdsal'})"
    for arguments, line in (
        ("distill --teacher hd2s", f"defaults: --model tinyhd-m --out runs/tinyhd-m-1 {known}"),
        ("train --preset crowdsal-s", f"defaults: --out runs/tinyhd-s-1 {known}"),
        ("train --model tinyhd-s --data photos --out mine", "weights, checkpoints, and logs are in mine"),
        ("distill --teacher hd2s --aux clips --model tinyhd-s", "defaults: --out runs/tinyhd-s-1"),
    ):
        assert tinyhd(*arguments.split()) == 0
        assert capsys.readouterr().err.splitlines()[0] == line
    assert [config.data for config in configs] == [("crowdsal",), ("crowdsal",), ("photos",), ()]
    assert [str(config.out) for config in configs] == ["runs/tinyhd-m-1", "runs/tinyhd-s-1", "mine", "runs/tinyhd-s-1"]
    found = sources.find(configs[0])
    assert [video.name for video in found.targets] == ["0001"]


@pytest.mark.slow
def test_training_with_the_known_data(tinyhd, tmp_path, monkeypatch, capsys):
    """A run without ``--data`` and ``--out``, and its continuation."""
    network = lively("tinyhd-m-quarter")
    teacher = tmp_path / "teacher.safetensors"
    weights.save(teacher, network.state_dict(), network.spec, input_size=(64, 64))
    crowdsal.make("crowdsal", tmp_path / "data" / "crowdsal", videos=1, frames=16, portrait=0)
    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    assert tinyhd("distill", "--teacher", teacher, "--model", "tinyhd-m-quarter", *SMALL.split()) == 0
    output = capsys.readouterr()
    first = output.err.splitlines()[0]
    assert first == f"defaults: --out runs/tinyhd-m-quarter-1 --data crowdsal ({tmp_path / 'data' / 'crowdsal'})"
    assert output.out == "runs/tinyhd-m-quarter-1/best.safetensors\n"
    assert tinyhd("distill", "--resume") == 0
    error = capsys.readouterr().err
    assert "defaults: --out runs/tinyhd-m-quarter-1\n" in error and "the run is finished (step 1)" in error
    assert run_defaults.new_folder("tinyhd-m-quarter") == Path("runs/tinyhd-m-quarter-2")


def test_defaults_of_a_run(tinyhd, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    assert tinyhd("train", "--model", "tinyhd-s") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "nothing to train on" in lines[0]
    assert tinyhd("train", "--data", "dhf1k") == 2
    assert "dhf1k is not on this machine: name its folder" in capsys.readouterr().err
    on_disk.dhf1k(tmp_path / "data" / "dhf1k", {601: 1})  # no training split
    (tmp_path / "data" / "kinetics400").mkdir()
    assert run_defaults.run_defaults(TrainConfig()) == {"out": Path("runs/tinyhd-m-1")}
    (tmp_path / "data" / "ucf-sports" / "training" / "Diving-Side-001" / "images").mkdir(parents=True)
    found = run_defaults.run_defaults(TrainConfig(teacher=("hd2s",)))
    assert (found["data"], found["aux"]) == (("ucf-sports",), ("kinetics400",))
    assert run_defaults.run_defaults(TrainConfig(model="stkd")) == {"out": Path("runs/stkd-1")}
    assert "data" not in run_defaults.run_defaults(TrainConfig(data=("photos",)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "out" not in run_defaults.run_defaults(TrainConfig())


def test_teachers_that_are_not_there(tinyhd, tmp_path, capsys):
    for name, text in (("nosuch", "unknown model 'nosuch'"), ("absent.pt", "absent.pt: no such file")):
        on_disk.dhf1k(tmp_path / "DHF1K", {1: 1})
        assert tinyhd("distill", "--teacher", name, "--data", f"dhf1k:{tmp_path / 'DHF1K'}", *SMALL.split(), "-q") == (
            2 if name == "nosuch" else 4
        )
        error = capsys.readouterr().err
        assert text in error and "--teacher FILE" in error and "--weights" not in error
