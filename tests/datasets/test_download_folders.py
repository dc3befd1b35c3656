"""Downloads into folders of all kinds, damaged files, several processes, and interruptions."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from helpers.hub_data import CROWDSAL, NTIRE, below, content, crowdsal_files, fetched, ntire_files, packed

from tinyhd_cli.datasets import archive, download, staging, transfer
from tinyhd_cli.datasets.catalog import download_folder, known
from tinyhd_cli.datasets.checking import wrong_files
from tinyhd_cli.datasets.damage import DAMAGED
from tinyhd_cli.datasets.manifest import Manifest
from tinyhd_cli.datasets.map_video_layouts import read_split
from tinyhd_cli.datasets.selection import Selection
from tinyhd_cli.datasets.staging import Staging
from tinyhd_cli.errors import InputError, UsageError

TEST = ("--split", "test", "--yes", "-q")


@pytest.mark.parametrize("kind", ["link", "disk", "fixed parent"])
def test_links_and_disks_as_folders(kind, hub, tinyhd, tmp_path, monkeypatch):
    """The hidden folder is on the disk of the data, and is removed at the end."""
    target = tmp_path / "disk" / "target"
    target.mkdir(parents=True)
    out = target
    if kind == "link":
        out = tmp_path / "link"
        out.symlink_to(target)
    elif kind == "disk":
        (target / "lost+found").mkdir()
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == target)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != target.parent)
    if kind != "link":
        assert Staging(target).root == target / ".target.download"
    assert tinyhd("datasets", "download", "crowdsal", *TEST, "--out", out) == 0
    assert below(target) == {path for path in crowdsal_files() if path.startswith("Test/")} | {"README.md"}
    assert tinyhd("datasets", "download", "crowdsal", *TEST, "--videos", "3001", "--out", out) == 0
    assert not list(tmp_path.rglob(".*.download"))


def test_another_data_set_in_the_folder(hub, tinyhd, tmp_path, capsys):
    folder = tmp_path / "data" / "crowdsal"
    Manifest("owner/other", "main", "0" * 40, ()).write(folder)
    assert tinyhd("datasets", "download", "crowdsal", *TEST) == 2
    assert f"{folder}: holds owner/other, not ANDRYHA/CrowdSAL; choose another" in capsys.readouterr().err


def test_damaged_files_are_fetched_again(hub, tinyhd, tmp_path, capsys):
    for path, data in ntire_files().items():
        hub.put(NTIRE, path, data)
    for name, video in (
        ("crowdsal", "Test/Videos/3001.mp4"),
        ("ntire2026", "Videos/003.mp4"),
        ("ntire2026", "TrainTestSplit.json"),
    ):
        assert tinyhd("datasets", "download", name, *TEST) == 0
        folder = tmp_path / "data" / name
        assert wrong_files(folder) == []
        good = (folder / video).read_bytes()
        (folder / video).write_bytes(good[:-1] + bytes([good[-1] ^ 255]))
        fetched(hub)
        assert tinyhd("datasets", "check", name, "-q") == (3 if video.endswith(".json") else 1)
        output = capsys.readouterr()
        assert f"fault: {folder / video}: differs from the Hub's hash\n" in output.out
        assert f"tinyhd datasets download {name}, with --split and --videos as before" in output.err
        assert tinyhd("datasets", "download", name, *TEST) == 0
        assert fetched(hub) == ["Videos.zip" if video.startswith("Videos/") else video]
        assert (folder / video).read_bytes() == good
        assert tinyhd("datasets", "download", name, *TEST) == 0
        assert wrong_files(folder) == [] and not (folder / DAMAGED).exists()
        assert fetched(hub) == []


def test_splits_that_are_left_out_are_named(hub, tinyhd, tmp_path, capsys):
    folder = tmp_path / "DHF1K"
    (folder / "annotation" / "0601" / "maps").mkdir(parents=True)
    (folder / "annotation" / "0601" / "maps" / "0001.png").touch()
    tinyhd("datasets", "check", folder, "--layout", "dhf1k", "-q")
    assert "note: train is not checked: " in capsys.readouterr().out


def test_plans_of_two_processes(hub, tmp_path):
    """The second one uses the archives and the record of the first."""
    for path, data in ntire_files().items():
        hub.put(NTIRE, path, data)
    out = tmp_path / "two"
    train, test, again = (
        download.plan(known("ntire2026"), Selection(split), None, out) for split in ("train", "test", "test")
    )
    download.download(train)
    download.download(test)
    fetched(hub)
    download.download(again)
    assert fetched(hub) == []
    assert len(Manifest.read(out).archives) == 5
    assert {"Videos/001.mp4", "Videos/003.mp4"} <= below(out)
    changed = Manifest.read(out)
    changed.commit = "1" * 40
    changed.write(out)
    with pytest.raises(UsageError, match="another process has changed it"):
        download.download(again)


def test_the_hidden_folder_is_removed_under_the_lock(tmp_path, monkeypatch):
    hidden, real, refused = Staging(tmp_path / "data"), staging.remove, []

    def remove(path):
        with pytest.raises(UsageError, match="another process is downloading"), staging.locked(hidden, "second"):
            pass
        refused.append(path.name)
        real(path)

    monkeypatch.setattr(staging, "remove", remove)
    with staging.locked(hidden, "first"):
        hidden.files.rmdir()
    assert refused == ["parts"]
    assert list(tmp_path.iterdir()) == []


def test_a_split_that_is_not_listed(hub, tinyhd, tmp_path):
    """Videos in no list of a test are the training split, as for the layout; lists of other uses do not matter."""
    for path, data in ntire_files().items():
        hub.put(NTIRE, path, data)
    lists = {"public_test": ["003"], "private_test": ["004"], "best": ["001"]}
    hub.put(NTIRE, "TrainTestSplit.json", json.dumps(lists).encode())
    assert tinyhd("datasets", "download", "ntire2026", "--split", "train", "--yes", "-q") == 0
    videos = tmp_path / "data" / "ntire2026" / "Videos"
    assert {path.name for path in videos.iterdir()} == {"001.mp4", "002.mp4"}
    sources = {path.stem: path for path in videos.iterdir()}
    assert read_split(videos.parent / "TrainTestSplit.json", "train", sources) == ["001", "002"]


def test_listings_that_make_no_sense(hub, tinyhd, tmp_path, capsys):
    """What no split needs does no harm; the rest is refused in one line."""
    hub.put(CROWDSAL, "notes/a:b.txt", b"a colon")
    assert tinyhd("datasets", "download", "crowdsal", *TEST) == 0

    def refused(text):
        assert tinyhd("datasets", "download", "crowdsal", *TEST, "--out", tmp_path / "other") == 3
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and text in lines[0], lines

    video, files = "Test/Videos/3001.mp4", hub.repos[CROWDSAL].branches["main"]
    for size in (-5, "many", True):
        hub.listed = {video: (size, "0" * 64)}
        refused(f"crowdsal: refused, because '{video}' has the size {size!r}")
    hub.listed = {}
    for other, text in (
        (f"{video}/more.json", f"'{video}' is a file, and the folder of '{video}/more.json'"),
        ("Test/Videos/3001.MP4", "is in it twice"),
        ("Test/Videos/aux.mp4", "'aux.mp4' is a device on Windows"),
    ):
        files[other] = b"1"
        refused(text)
        del files[other]


def test_a_record_of_impossible_numbers(hub, tinyhd, tmp_path, capsys):
    folder = tmp_path / "data" / "crowdsal"
    Manifest("ANDRYHA/CrowdSAL", "main", "0" * 40, ()).write(folder)
    record = folder / ".tinyhd-download.json"
    record.write_text(record.read_text().replace('"files": []', f'"files": [["a.mp4", 1e999, "{"0" * 64}"]]'))
    assert tinyhd("datasets", "download", "crowdsal", *TEST) == 3
    assert f"{record}: is damaged; remove it" in capsys.readouterr().err


def test_folders_in_the_home(hub, tinyhd, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("TINYHD_DATA", "~/sets")
    assert download_folder("crowdsal") == tmp_path / "sets" / "crowdsal"
    known_one = Path(os.environ["XDG_DATA_HOME"]) / "tinyhd" / "datasets" / "crowdsal"
    known_one.mkdir(parents=True)
    assert download_folder("crowdsal") == known_one
    Path("tinyhd.toml").write_text('[datasets]\ncrowdsal = "~nosuchuser/x"\n')
    assert tinyhd("datasets", "list") == 2
    line = "tinyhd.toml: [datasets] crowdsal = '~nosuchuser/x': the home folder is not known"
    assert line in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ archives


def newer_python(info: zipfile.ZipInfo) -> None:
    """Set the name of an entry from its field 0x7075, as Python does since 3.13."""
    if info.extra[:2] == b"\x75\x70":
        info.filename = info.extra[9:].decode()


def test_both_names_of_an_entry_are_checked(tmp_path, monkeypatch):
    name = b"Videos/../../evil.txt"
    info = zipfile.ZipInfo("Videos/001.mp4")
    info.extra = struct.pack("<HHBL", 0x7075, 5 + len(name), 1, zlib.crc32(b"Videos/001.mp4")) + name
    with zipfile.ZipFile(tmp_path / "Videos.zip", "w") as written:
        written.writestr(info, b"evil")
    monkeypatch.setattr(zipfile.ZipInfo, "_decodeExtra", lambda info, *crc: newer_python(info))
    with (
        pytest.raises(InputError, match=r"'Videos/../../evil.txt' could lead out"),
        archive.opened(tmp_path / "Videos.zip") as opened,
    ):
        archive.list_members(opened, "Videos")


@pytest.mark.parametrize("folder", ["aux", "a:b"])
def test_the_finished_path_is_checked(folder, tmp_path):
    (tmp_path / "any.zip").write_bytes(packed({"001.mp4": b"1"}))
    with pytest.raises(InputError, match="refused"), archive.opened(tmp_path / "any.zip") as opened:
        archive.list_members(opened, folder)


def test_methods_and_errors_of_reading(tmp_path):
    path = tmp_path / "a.zip"
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as written:
            written.writestr("V/a.mp4", b"1")
        with pytest.raises(InputError, match="is packed by another method"), archive.opened(path) as opened:
            archive.list_members(opened, "V")
    path.write_bytes(packed({"V/a.mp4": b"1"}))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"^is damaged \(.*negative seek"), archive.opened(path) as opened:
        members = archive.list_members(opened, "V")

        def unreadable(*args):
            raise OSError("negative seek")

        opened.open = unreadable
        archive.unpack(opened, members, tmp_path / "out", tmp_path / "scratch")
    assert str(archive.damage(EOFError())) == "is damaged (EOFError)"


@pytest.mark.parametrize("pair", [("\u00e9", "e\u0301"), ("A", "a"), ("stra\u00dfe", "STRASSE")])
def test_names_that_are_one_file_on_some_systems(pair):
    with pytest.raises(InputError, match="is in it twice"):
        archive.check_collisions([f"Videos/{name}.mp4" for name in pair])


# ------------------------------------------------------------------------------------------------------- interruptions


def part_of(hub, name: str, size: int) -> tuple[str, bytes]:
    """Put a file into the Hub, and return its address and content."""
    data = content(name, size)
    hub.put(CROWDSAL, name, data)
    return f"{hub.url}/{CROWDSAL}/resolve/main/{name}", data


def test_a_slow_transfer_stops_at_once(hub, tmp_path):
    """Everything that has arrived is on the disk."""
    url, data = part_of(hub, "slow.mp4", 400_000)
    hub.pause_s = 0.01
    progress = transfer.Progress(len(data), lambda done, total: done > 20_000 and progress.stopped.set())
    started_s = time.monotonic()
    with pytest.raises(transfer.Stopped):
        transfer.receive_all(url, tmp_path / "part", len(data), progress)
    assert time.monotonic() - started_s < 2  # all of it takes 4 s
    there = (tmp_path / "part").stat().st_size
    assert there >= progress.done > 20_000
    assert data.startswith((tmp_path / "part").read_bytes())


def test_pauses_end_at_once(hub, tmp_path):
    url, data = part_of(hub, "busy.mp4", 1000)
    hub.busy_for = 9
    progress = transfer.Progress(len(data), lambda done, total: None)
    threading.Timer(0.2, progress.stopped.set).start()
    started_s = time.monotonic()
    with pytest.raises(transfer.Stopped):
        transfer.receive_all(url, tmp_path / "part", len(data), progress)
    assert time.monotonic() - started_s < 0.9


def test_a_connection_that_is_closed(hub, tmp_path, monkeypatch):
    """The rest is fetched from the byte where it was closed; then nothing beyond the stated size is written."""
    monkeypatch.setattr(transfer, "PAUSES_S", (0.0,))
    url, data = part_of(hub, "closed.mp4", 50_000)
    hub.close_after, part = 20_000, tmp_path / "part"
    progress = transfer.Progress(len(data), lambda done, total: None)
    transfer.receive_all(url, part, len(data), progress)
    assert hashlib.sha256(part.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert fetched(hub) == ["closed.mp4", "closed.mp420000-"]
    assert progress.done == len(data)
    part.write_bytes(data[:10])
    transfer.receive_all(url, part, 1000, progress)
    assert part.read_bytes() == data[:1000]


def test_a_server_that_sends_all_of_a_file(hub, tmp_path):
    url, data = part_of(hub, "whole.mp4", 5000)
    hub.ranges, part = False, tmp_path / "part"
    part.write_bytes(b"other bytes")
    progress = transfer.Progress(len(data), lambda done, total: None)
    progress.add(part.stat().st_size)
    transfer.receive_all(url, part, len(data), progress)
    assert part.read_bytes() == data and progress.done == len(data)
