"""Download datasets with the real huggingface_hub, from a server on the loopback interface."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from helpers import crowdsal
from helpers.hub_data import CROWDSAL, NTIRE, below, content, crowdsal_files, fetched, ntire_files, packed
from huggingface_hub import constants

from tinyhd_cli.datasets import archive, download, folder_of, open_dataset, read_density
from tinyhd_cli.datasets.selection import Selection
from tinyhd_cli.datasets.staging import Staging
from tinyhd_cli.errors import UsageError


def test_parts_of_a_data_set(hub, tinyhd, tmp_path, capsys):
    hub.page = 3  # the listing has several pages
    folder = tmp_path / "data" / "crowdsal"
    assert tinyhd("datasets", "download", "crowdsal", "--split", "train", "--videos", "2-3", "--dry-run") == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "crowdsal, train, videos 2-3: ANDRYHA/CrowdSAL at main (" in output.err
    assert f"license CC-BY 4.0; to download: 8 files, 24,036 bytes (24.0 kB); to {folder}" in output.err
    assert not folder.parent.exists()

    assert tinyhd("datasets", "download", "crowdsal", "--split", "train", "--videos", "2-3", "--yes") == 0
    assert capsys.readouterr().out == f"{folder}\n"
    numbered = {path for path in crowdsal_files() if path.startswith("Train/") and ("0002" in path or "0003" in path)}
    assert below(folder) == {"README.md", "Train/metadata.jsonl", *numbered}
    assert all((folder / path).read_bytes() == crowdsal_files()[path] for path in numbered)
    assert folder_of("crowdsal") == folder
    assert list(folder.parent.iterdir()) == [folder]

    hub.requests.clear()
    hub.repos.clear()  # what is recorded needs no Hub
    assert tinyhd("datasets", "download", "crowdsal", "--split", "train", "--videos", "3") == 0
    assert "all 5 files are in" in capsys.readouterr().err
    assert hub.requests == []
    for path, data in crowdsal_files().items():
        hub.put(CROWDSAL, path, data)
    assert tinyhd("datasets", "download", "crowdsal", "-y", "-q") == 0
    assert below(folder) == crowdsal_files().keys() - {".gitattributes"}
    assert not {*numbered} & {*fetched(hub)}
    assert list(folder.parent.iterdir()) == [folder]


def test_archives(hub, tinyhd, tmp_path, capsys):
    for path, data in ntire_files().items():
        hub.put(NTIRE, path, data)
    folder = tmp_path / "data" / "ntire2026"
    assert tinyhd("datasets", "download", "ntire2026", "--split", "test", "--yes") == 0
    assert "of which 3 archives to unpack" in capsys.readouterr().err
    lists = {"README.md", "TrainTestSplit.json", "VideoInfo.json"}
    test = {"Videos/003.mp4", "Videos/004.mp4", "SaliencyTest/Test/003.mp4", "SaliencyTest/Test/004.mp4"}
    test |= {"FixationsTest/Test/003/fixations.json", "FixationsTest/Test/004/fixations.json"}
    assert below(folder) == lists | test
    assert (folder / "Videos" / "004.mp4").read_bytes() == content("clip 4")

    fetched(hub)
    assert tinyhd("datasets", "download", "ntire2026", "--yes", "-q") == 0
    assert fetched(hub) == ["FixationsTrain.zip", "SaliencyTrain.zip", "Videos.zip"]
    assert {"Videos/001.mp4", "SaliencyTrain/Train/002.mp4"} | test <= below(folder)
    assert tinyhd("datasets", "download", "ntire2026", "-q") == 0
    assert fetched(hub) == []


def test_a_part_of_a_challenge_is_read_by_its_layout(hub, tinyhd, tmp_path):
    """Real videos and maps: each archive is packed without a folder of its own name, as the publishers' are."""
    root = crowdsal.make("ntire2026", tmp_path / "made", videos=2, frames=2, portrait=0)
    for path in root.iterdir():
        inside = {found.relative_to(path).as_posix(): found.read_bytes() for found in path.rglob("*.*")}
        hub.put(NTIRE, f"{path.name}.zip" if inside else path.name, packed(inside) if inside else path.read_bytes())
    assert tinyhd("datasets", "download", "ntire2026", "--split", "public_test", "--yes", "-q") == 0
    folder = folder_of("ntire2026")
    assert folder == tmp_path / "data" / "ntire2026"
    dataset = open_dataset("ntire2026", folder, "public_test")
    assert [video.name for video in dataset.videos] == ["0003"]
    assert [path.name for path in (folder / "Videos").iterdir()] == ["0003.mp4"]
    assert read_density(dataset.videos[0].densities[2]).shape == (64, 96)
    assert tinyhd("datasets", "download", "ntire2026", "--split", "train", "--videos", "2", "--yes", "-q") == 0
    assert sorted(path.name for path in (folder / "Videos").iterdir()) == ["0002.mp4", "0003.mp4"]


KILLED = 5
"""Number of complete files after which the download is killed."""


def test_killed_and_gone_on(server, tmp_path):
    """After SIGKILL in the middle of several files, only the rest is fetched, from the byte where each one stopped."""
    files = crowdsal_files()
    for path, data in files.items():
        server.put(CROWDSAL, path, content(path, 60_000) if path.endswith(".mp4") else data)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TINYHD_", "XDG_"))}
    environment = kept | {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hf"),
        "NO_PROXY": "127.0.0.1",
        "TINYHD_DATA": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "APPDATA": str(tmp_path / "config"),
    }
    command = [sys.executable, "-m", "tinyhd_cli", "datasets", "download", "crowdsal", "--yes"]
    staging = Staging(tmp_path / "data" / "crowdsal")
    server.pause_s = 0.003
    running = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60

    def sizes() -> dict[str, int]:
        found = {}
        for path in (staging.root / "parts").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # complete by now, and renamed
                found[path.name] = path.stat().st_size
        return found

    while not (len(below(staging.files)) >= KILLED and any(0 < size < 60_000 for size in sizes().values())):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not staging.folder.exists()
    complete, there = below(staging.files), sizes()
    server.pause_s = 0.0
    time.sleep(0.1)  # the server may still write to the closed connections
    server.requests.clear()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, f"{staging.folder}\n"), done.stderr
    requested = {path.rpartition("/resolve/")[2].partition("/")[2]: first for _, path, first in server.requests}
    assert not complete & requested.keys()
    assert not [path for _, path, _ in server.requests if "/api/" in path]  # the listing was recorded
    resumed = {int(first.removeprefix("bytes=").removesuffix("-")) for first in requested.values() if first}
    assert resumed == {size for size in there.values() if size}
    assert below(staging.folder) == files.keys() - {".gitattributes"}
    stored = server.repos[CROWDSAL].branches["main"]
    assert all((staging.folder / path).read_bytes() == stored[path] for path in below(staging.folder))


def link(name: str) -> zipfile.ZipInfo:
    """Return an entry that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def zipped(*names: str | zipfile.ZipInfo, data: bytes = b"x") -> bytes:
    """Return a zip of files with the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for name in names:
            written.writestr(name, data)
    return buffer.getvalue()


def broken(data: bytes) -> bytes:
    """Return a zip with one changed byte in the middle of its content."""
    middle = len(data) // 3
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


BAD_ARCHIVES = {
    "parent": (zipped("Videos/001.mp4", "../evil.mp4"), "'../evil.mp4' could lead out"),
    "inner parent": (zipped("Videos/../../evil.mp4"), "could lead out"),
    "absolute": (zipped("/evil.mp4"), "could lead out"),
    "drive": (zipped("C:/evil.mp4"), "could lead out"),
    "backslash": (zipped("Videos\\evil.mp4"), "could lead out"),
    "link": (zipped(link("Videos/001.mp4"), data=b"/etc/passwd"), "'Videos/001.mp4' is a link"),
    "twice": (zipped("Videos/001.mp4", "Videos/001.MP4"), "is in it twice"),
    "bomb": (zipped("Videos/001.mp4", data=bytes(4_000_000)), "would unpack to 4,000,000 bytes"),
    "damaged": (broken(ntire_files()["Videos.zip"]), "is damaged (Bad CRC-32"),
    "cut": (ntire_files()["Videos.zip"][:-300], "is damaged ("),
    "no zip": (b"not an archive", "is damaged (File is not a zip file)"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unsafe_and_damaged_archives(name, hub, tinyhd, tmp_path, capsys):
    data, problem = BAD_ARCHIVES[name]
    for path, good in ntire_files().items():
        hub.put(NTIRE, path, data if path == "Videos.zip" else good)
    assert tinyhd("datasets", "download", "ntire2026", "--yes", "--quiet") == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and problem in lines[0], lines
    assert lines[0].startswith("tinyhd: ntire2026: Videos.zip ")
    assert not (tmp_path / "data" / "ntire2026").exists()
    assert folder_of("ntire2026") is None
    assert not list(tmp_path.rglob("evil*"))


def test_lying_sizes(tmp_path):
    """More or less content than an entry declares is refused, and leaves no file."""
    (tmp_path / "out").mkdir()
    for declared in (3, 30):
        data = bytearray(zipped("a.bin", data=b"0123456789"))
        entry = data.rindex(b"PK\x01\x02")
        data[entry + 24 : entry + 28] = declared.to_bytes(4, "little")
        path = tmp_path / "lying.zip"
        path.write_bytes(data)
        with pytest.raises(Exception, match="is damaged"), archive.opened(path) as packed:
            archive.unpack(packed, archive.list_members(packed, "lying"), tmp_path / "out", tmp_path / "scratch")
        assert below(tmp_path / "out") == set()


def test_no_space(hub, tinyhd, tmp_path, monkeypatch, capsys):
    usage = archive.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert tinyhd("datasets", "download", "crowdsal", "--yes", "--quiet") == 5
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "no space: 72,062 bytes are needed, 1,000 are free" in lines[0]
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: usage)

    for path, data in ntire_files().items():
        hub.put(NTIRE, path, data)
    sizes = iter(
        [usage, usage, usage, usage._replace(free=10)]
    )  # enough for the archives, not for what is in the first one
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: next(sizes))
    assert tinyhd("datasets", "download", "ntire2026", "--yes", "--quiet") == 5
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no space to unpack" in lines[0]
    assert not (tmp_path / "data" / "ntire2026").exists()
    assert fetched(hub)[0] == "FixationsTest.zip"
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: usage)
    assert tinyhd("datasets", "download", "ntire2026", "--yes", "--quiet") == 0
    assert fetched(hub) == ["FixationsTrain.zip", "SaliencyTest.zip", "SaliencyTrain.zip", "Videos.zip"]

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tinyhd_cli.datasets.transfer.receive", full)
    assert tinyhd("datasets", "download", "crowdsal", "--yes", "--quiet") == 5
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no space left; free some, then run the same command again" in lines[0]
    assert not (tmp_path / "data" / "crowdsal").exists()


def test_content_differs_from_the_listing(hub, tinyhd, tmp_path, capsys):
    path = "Train/Videos/0001.mp4"
    hub.listed[path] = (4000, "0" * 64)
    assert tinyhd("datasets", "download", "crowdsal", "--yes", "--quiet") == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"crowdsal: {path} arrived damaged" in lines[0]
    assert not (tmp_path / "data" / "crowdsal").exists()
    hub.listed[path] = (4000, "../../evil")
    assert tinyhd("datasets", "download", "crowdsal", "--yes", "--quiet", "--out", tmp_path / "other") == 3
    assert "refused, because" in capsys.readouterr().err
    hub.put(CROWDSAL, "Train/../../evil.mp4", b"")
    hub.listed.clear()
    assert tinyhd("datasets", "download", "crowdsal", "--yes", "--quiet", "--out", tmp_path / "other") == 3
    assert "could lead out" in capsys.readouterr().err


def test_offline(hub, tinyhd, tmp_path, monkeypatch, capsys):
    """Without the Hub, its local cache is used for a download that has been planned before."""
    commit = hub.repos[CROWDSAL].commit_hash("main")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert tinyhd("datasets", "download", "crowdsal", "--yes", "-q") == 4
    assert "crowdsal: not downloaded, and HF_HUB_OFFLINE is set; unset it" in capsys.readouterr().err

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as online:
        online.setattr(constants, "HF_HUB_OFFLINE", False)
        online.setattr(download, "fetch", interrupt)
        assert tinyhd("datasets", "download", "crowdsal", "--videos", "1", "--yes", "-q") == 130
    assert "the downloaded part is kept: run the same command again to resume" in capsys.readouterr().err
    snapshot = Path(constants.HF_HUB_CACHE, "datasets--ANDRYHA--CrowdSAL", "snapshots", commit)
    for path, data in crowdsal_files().items():
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / path).write_bytes(data)
    assert tinyhd("datasets", "download", "crowdsal", "--videos", "1", "--yes", "-q") == 0
    assert fetched(hub) == []


def test_another_selection_after_an_interrupted_one(hub, tinyhd, tmp_path, monkeypatch, capsys):
    """What an interrupted download left does not appear under the final name with the files of another selection."""
    folder, real = tmp_path / "data" / "crowdsal", download.fetch

    def interrupted(name, manifest, file, part, progress):
        if file.path == "Train/Videos/0003.mp4":
            raise KeyboardInterrupt
        real(name, manifest, file, part, progress)

    with monkeypatch.context() as patched:
        patched.setattr(download, "fetch", interrupted)
        assert tinyhd("datasets", "download", "crowdsal", "--split", "train", "-y", "-q") == 130
    left = {path for path in below(Staging(folder).files) if path.startswith("Train/")}
    assert left and not folder.exists()
    test = {path for path in crowdsal_files() if path.startswith("Test/")} | {"README.md"}
    for _ in range(2):
        assert tinyhd("datasets", "download", "crowdsal", "--split", "test", "-y", "-q") == 0
        assert below(folder) == test
        assert left <= below(Staging(folder).files)
    fetched(hub)
    assert tinyhd("datasets", "download", "crowdsal", "-y", "-q") == 0
    assert not left & {*fetched(hub)}
    assert below(folder) == crowdsal_files().keys() - {".gitattributes"}
    assert list(folder.parent.iterdir()) == [folder]


def test_questions_and_refusals(hub, tinyhd, tmp_path, capsys):
    def refused(code, text, *arguments):
        assert tinyhd("datasets", "download", *arguments) == code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyhd: ")]
        assert len(lines) == 1 and text in lines[0], lines

    refused(2, "nothing downloaded: add --yes to download 72.1 kB", "crowdsal")
    refused(2, "dhf1k is not on the Hub: get it from its authors (https://", "dhf1k")
    refused(2, "dataset 'crowdsa' is unknown: did you mean crowdsal?", "crowdsa")
    refused(2, "--split 'val' is unknown", "crowdsal", "--split", "val")
    refused(2, "no files for train, videos 9000", "crowdsal", "--split", "train", "--videos", "9000")
    refused(2, "--videos must be numbers", "crowdsal", "--videos", "50-1")
    refused(4, "the Hub has no such public dataset, revision or file", "crowdsal", "--revision", "absent")
    refused(4, "the Hub has no such public dataset", "avimos")
    for path, data in ntire_files().items():
        hub.put(NTIRE, path, data)
    refused(
        2, "no files for train, videos 3; its videos are named", "ntire2026", "--split", "train", "--videos", "3", "-y"
    )
    assert not any(path.endswith(".zip") for path in fetched(hub))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").touch()
    refused(2, "exists, but was not made by tinyhd datasets download", "crowdsal", "--out", tmp_path / "mine")
    hub.put(CROWDSAL, "README.md", b"other", branch="v2")
    assert tinyhd("datasets", "download", "crowdsal", "--revision", "v2", "-y", "-q", "--out", tmp_path / "v2") == 0
    assert below(tmp_path / "v2") == {"README.md"}
    refused(2, "holds revision v2", "crowdsal", "--revision", "main", "--out", tmp_path / "v2")


def test_selection():
    assert Selection.parse("train", "1-3, 7").ranges == ((1, 3), (7, 7))
    assert str(Selection.parse(None, "1-3,7")) == "all splits, videos 1-3,7"
    for wrong in ("", "a", "3-1", "1,,2", "-4"):
        with pytest.raises(UsageError, match="--videos must be"):
            Selection.parse(None, wrong)
