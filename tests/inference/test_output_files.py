"""Tests of outputs that are links, pipes or devices, of leftovers of killed processes, and of unusual names."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from helpers import clips
from helpers import datasets_on_disk as on_disk

from tinyhd_cli import atomic_files, processes
from tinyhd_cli.apps.encode.run import encode_file
from tinyhd_cli.apps.options import EncodeOptions
from tinyhd_cli.apps.report.run import check_page
from tinyhd_cli.atomic_files import atomic_write
from tinyhd_cli.complete import is_complete
from tinyhd_cli.errors import OUTPUT_FAILED, WRONG_USAGE, OutputError, UsageError
from tinyhd_cli.inference.io_paths import fill
from tinyhd_cli.inference.options import Outputs
from tinyhd_cli.video.options import EncoderOptions

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices by name")


@pytest.fixture
def clip(tinyhd):
    """Make a clip in the current folder, which the other fixture sets."""
    return clips.make(Path("clip.mp4"), frames=3)


@pytest.fixture
def predict(tinyhd, clip, weights_file):
    def run(*args, video=clip):
        return tinyhd("predict", video, "--weights", weights_file, "--quiet", *args)

    return run


@pytest.fixture
def pipe(tmp_path):
    """Return a function that makes a FIFO, reads it in a thread, and returns its path and a getter of the content."""

    def make(name):
        path = tmp_path / name
        os.mkfifo(path)
        received = []
        reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
        reader.start()

        def result():
            reader.join(20)
            assert received, "the pipe received nothing"
            return received[0]

        return path, result

    return make


@pytest.fixture
def null(tmp_path):
    """Make a null device for the test, so that the system's device is not at risk."""
    path = tmp_path / "null.csv"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_bytes(b"")
    except (OSError, AttributeError):
        pytest.skip("devices cannot be made or used here")
    return path


def hidden(folder="."):
    return sorted(path.name for path in Path(folder).rglob(".*"))


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


@posix
def test_every_output_goes_through_a_pipe(predict, pipe):
    names = {"-o": "o.mkv", "--maps": "maps.mp4", "--npz": "n.npz", "--csv": "c.csv", "--json": "j.json"}
    pipes = {option: pipe(name) for option, name in names.items()}
    assert predict(*(part for option, (path, _) in pipes.items() for part in (option, path))) == 0
    content = {option: result() for option, (_, result) in pipes.items()}
    for path, _ in pipes.values():
        assert stat.S_ISFIFO(path.stat().st_mode), "it must still be a pipe"
    for option in ("-o", "--maps"):
        with av.open(io.BytesIO(content[option])) as container:
            assert len(list(container.decode(video=0))) == 3
    with np.load(io.BytesIO(content["--npz"])) as arrays:
        assert arrays["saliency"].shape == (3, 192, 256)
    assert content["--csv"].count(b"\n") == 4
    assert json.loads(content["--json"])["frames"] == 3
    assert not hidden(), "no temporary file may be left"


@posix
def test_a_device_stays_a_device(predict, tinyhd, null, tmp_path):
    assert predict("--csv", null) == 0
    assert stat.S_ISCHR(null.stat().st_mode)
    link = tmp_path / "link.csv"
    link.symlink_to(null)
    assert predict("--csv", link) == 0
    assert link.is_symlink()
    assert stat.S_ISCHR(link.stat().st_mode)
    data = on_disk.folder(tmp_path / "data", {"park": 2})
    command = ("evaluate", "--dataset", "folder", "--root", data, "--prior", "--quiet")
    assert tinyhd(*command, "--json", null, "--csv", null) == 0
    assert stat.S_ISCHR(null.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@posix
def test_standard_output_by_its_path(clip, weights_file, tmp_path):
    """The file behind it is neither replaced nor truncated: text written before and after is kept, in order."""
    command = [sys.executable, "-m", "tinyhd_cli", "predict", str(clip), "--weights", str(weights_file), "--quiet"]
    listing = tmp_path / "listing"
    with listing.open("wb") as file:
        file.write(b"before\n")
        file.flush()
        done = subprocess.run([*command, "--csv", "/dev/stdout"], stdout=file, check=False)
        assert done.returncode == 0
        os.write(file.fileno(), b"after\n")
    lines = listing.read_text().splitlines()
    assert (lines[0], lines[1][:13], lines[-1], len(lines)) == ("before", "frame,time_s,", "after", 6)


@posix
@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link.json"])
def test_open_files_by_number(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    Path("link.json").symlink_to(f"/dev/fd/{writing}")
    with atomic_write(Path(name.format(writing))) as temporary:
        temporary.write_text("content")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "content"
    with pytest.raises(OutputError, match=r"cannot be written: Bad file descriptor"), atomic_write(Path("link.json")):
        atomic_files.temporary_path(Path("link.json")).touch()
        (atomic_files.temporary_path(Path("link.json"))).write_text("content")


def test_links_are_followed(predict, tmp_path):
    """Links to files, missing files, other links and folders are kept, and their targets are written."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "old.csv").write_text("stale")
    Path("a.csv").symlink_to(other / "old.csv")
    Path("middle.json").symlink_to(other / "new.json")
    Path("b.json").symlink_to("middle.json")
    (other / "maps").mkdir()
    (other / "maps" / "note.txt").write_text("mine")
    Path("maps").symlink_to(other / "maps")
    Path("o.mp4").symlink_to(other / "deep" / "o.mp4")
    assert predict("--csv", "a.csv", "--json", "b.json", "--maps", "maps", "-o", "o.mp4") == 0
    for link in ("a.csv", "b.json", "middle.json", "maps", "o.mp4"):
        assert Path(link).is_symlink()
    assert (other / "old.csv").read_text().startswith("frame,")
    assert json.loads((other / "new.json").read_text())["frames"] == 3
    assert names(other / "maps") == ["0001.png", "0002.png", "0003.png", "note.txt"]
    assert is_complete(other / "deep" / "o.mp4")
    assert hidden() == hidden(other) == []


def test_a_loop_of_links_is_an_error(predict, capsys):
    Path("x.csv").symlink_to("y.csv")
    Path("y.csv").symlink_to("x.csv")
    assert predict("--csv", "x.csv") == OUTPUT_FAILED
    message = capsys.readouterr().err.strip()
    assert message == f"tinyhd: x.csv: cannot be written: {os.strerror(errno.ELOOP)}"


@posix
def test_other_hard_links_keep_their_content(predict):
    """The output is a new file: a file that another program may be reading is not changed."""
    Path("a.csv").write_text("old")
    os.link("a.csv", "b.csv")
    assert predict("--csv", "a.csv") == 0
    assert (Path("b.csv").read_text(), Path("a.csv").read_text()[:6]) == ("old", "frame,")


def test_a_file_that_cannot_be_replaced_is_overwritten(tmp_path, monkeypatch):
    """For example, a file that is mounted into a container."""
    target = tmp_path / "mounted.json"
    target.write_text("old")
    inode = target.stat().st_ino

    def busy(self, other):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", busy)
    with atomic_write(target) as temporary:
        temporary.write_text("new")
    assert (target.read_text(), target.stat().st_ino) == ("new", inode)
    assert names(tmp_path) == ["mounted.json"]


@posix
def test_encode_requires_a_regular_file(tmp_path):
    """The output is read again to measure the quality."""
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UsageError, match=r"pipe\.mp4: must be a regular file"):
        encode_file(tmp_path / "clip.mp4", None, tmp_path / "pipe.mp4", EncodeOptions(EncoderOptions()))


@posix
def test_crop_writes_into_a_pipe(tinyhd, clip, weights_file, pipe, tmp_path):
    video, cropped = pipe("c.mkv")
    assert tinyhd("crop", clip, "--weights", weights_file, "-o", video) == 0
    with av.open(io.BytesIO(cropped())) as container:
        assert len(list(container.decode(video=0))) == 3
    os.mkfifo(tmp_path / "page")
    check_page(tmp_path / "page")  # reports may be written to pipes of any name


# --- leftovers of killed processes

KILLED = """
import sys, time
from pathlib import Path
from tinyhd_cli import atomic_files
out = Path(sys.argv[1])
atomic_files.temporary_path(out).write_bytes(b"x" * 1000)
maps = atomic_files.temporary_path(out.with_name("maps"))
maps.mkdir()
(maps / "0001.png").write_bytes(b"x")
print("ready", flush=True)
time.sleep(60)
"""


def start(path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@posix
def test_files_of_killed_processes_are_removed_and_those_of_live_ones_kept(tmp_path):
    killed, live = start(tmp_path / "o.csv"), start(tmp_path / "o.csv")
    try:
        assert len(hidden(tmp_path)) == 4
        killed.send_signal(signal.SIGKILL)
        time.sleep(0.2)  # not waited for: it stays in the process table, as in a container without init
        with atomic_write(tmp_path / "o.csv") as temporary:
            temporary.write_text("new")
        left = hidden(tmp_path)
        assert len(left) == 2, "the file and the folder of the live process must be kept"
        assert all(f"-{live.pid}-" in name for name in left)
    finally:
        for process in (killed, live):
            process.kill()
            process.communicate()
    atomic_files._swept.clear()
    with atomic_write(tmp_path / "o.csv") as temporary:
        temporary.write_text("newer")
    assert names(tmp_path) == ["o.csv"]


@posix
def test_a_killed_prediction(weights_file, predict, clip):
    """Kill a real run while it writes, and run again."""
    long = clips.make(Path("long.mp4"), frames=200)
    command = [sys.executable, "-m", "tinyhd_cli", "predict", long, "--weights", weights_file, "--device", "cpu"]
    process = subprocess.Popen([*map(str, command), "--csv", "c.csv", "--maps", "maps", "--npz", "n.npz"])
    deadline = time.monotonic() + 60
    while len(hidden()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(hidden()) >= 3
    assert predict("--csv", "c.csv") == 0
    assert hidden() == []
    assert names() == ["c.csv", "clip.mp4", "long.mp4"]


@posix
def test_reused_process_numbers(tmp_path):
    """A process with a reused number does not protect a file. Files of other machines are kept until abandoned."""
    machine, pid, started = processes.process_key()
    name = ".o.00000000.{}-{}-{}.partial.csv"
    (tmp_path / name.format(machine, os.getppid(), 1)).touch()  # a live process with another start time
    (tmp_path / name.format(machine, pid, started)).touch()  # this process
    (tmp_path / name.format(machine, 2**31 - 2, 1)).touch()  # no such process
    elsewhere = tmp_path / name.format("ffffffff", 2**31 - 2, 1)  # from another machine
    elsewhere.touch()
    abandoned = tmp_path / name.format("fffffffe", 2**31 - 2, 1)
    abandoned.touch()
    os.utime(abandoned, (time.time() - 2 * atomic_files.ABANDONED_S,) * 2)
    (tmp_path / ".mine.partial.csv").touch()  # a user's file
    atomic_files.temporary_path(tmp_path / "o.csv")
    left = {name.format(machine, pid, started), elsewhere.name, ".mine.partial.csv"}
    if started:
        assert set(hidden(tmp_path)) == left
    assert os.getpid() == pid


def test_temporary_names_are_short_and_differ(tmp_path):
    longest = tmp_path / ("ä" * 125 + ".json")
    names = {
        atomic_files.temporary_path(path).name
        for path in (longest, tmp_path / ("ä" * 124 + "b.json"), tmp_path / "a.json")
    }
    assert len(names) == 3
    assert max(len(os.fsencode(name)) for name in names) <= 255
    assert all(atomic_files.TEMPORARY.fullmatch(name) and name.endswith(".json") for name in names)


# --- complete outputs


def cut(path, fraction):
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * fraction)])


def test_empty_and_truncated_outputs_are_incomplete(predict, capsys):
    wanted = {"-o": "o.mp4", "--npz": "n.npz", "--csv": "c.csv", "--json": "j.json", "--maps": "maps"}
    command = [part for pair in wanted.items() for part in pair]
    assert predict(*command) == 0
    first = {name: Path(name).stat().st_mtime_ns for name in wanted.values() if name != "maps"}
    for name, fraction in (("o.mp4", 0.9), ("n.npz", 0.5), ("c.csv", 0.7), ("j.json", 0), ("maps/0001.png", 0)):
        cut(Path(name), fraction)
        assert not is_complete(Path(name)), name
    assert predict(*command, "--skip-existing") == 0
    for name in (*first, "maps/0001.png"):
        assert is_complete(Path(name)), name
    done = {name: Path(name).stat().st_mtime_ns for name in first}
    assert all(done[name] > first[name] for name in first)
    assert predict(*command, "--skip-existing") == 0
    assert {name: Path(name).stat().st_mtime_ns for name in first} == done, "complete outputs must not be written again"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"])
def test_truncated_videos(tmp_path, suffix):
    whole = clips.make(tmp_path / f"clip{suffix}", frames=8, codec="libvpx-vp9" if suffix == ".webm" else "mpeg4")
    assert is_complete(whole)
    for fraction in (0.98, 0.5, 0.01, 0):
        part = tmp_path / f"part{suffix}"
        part.write_bytes(whole.read_bytes())
        cut(part, fraction)
        assert not is_complete(part), fraction


@posix
def test_pipe_is_never_complete(tmp_path):
    os.mkfifo(tmp_path / "p.csv")
    assert Outputs(csv=tmp_path / "p.csv").missing().csv == tmp_path / "p.csv"
    assert not is_complete(tmp_path / "nothing.csv")
    assert not is_complete(tmp_path)


def test_npz_without_its_central_directory(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("saliency.npy", bytes(1000))
    assert is_complete(tmp_path / "a.npz")
    cut(tmp_path / "a.npz", 0.95)
    assert not is_complete(tmp_path / "a.npz")


# --- names


@pytest.mark.parametrize("name", ["...mp4", "%03d {name} .mp4"])
def test_no_name_leads_out_of_the_folder(predict, clip, name):
    clip.rename(name)
    templates = ("--csv", "{name}/x.csv", "--maps", "{name}/maps", "-o", "{name}/o.mp4")
    assert predict("--out-dir", "results", *templates, video=f"./{name}") == 0
    assert names() == sorted([name, "results"])
    inside = sorted(path.name for path in Path("results").rglob("*") if path.is_file())
    assert inside == ["0001.png", "0002.png", "0003.png", "o.mp4", "x.csv"]
    assert len(names("results")) == 1
    assert not [name for name in hidden("results") if "partial" in name]


@pytest.mark.parametrize("name", ["...mp4", "..mp4", ".mp4", "a/...avi", "/...mkv", "../..", "end .mp4", "...", "-"])
def test_outputs_of_any_video_are_below_the_folder(tinyhd, name):
    for template in ("{name}/x.csv", "{name}", "maps/{name}", "x.csv"):
        path = Path(os.path.normpath(fill(template, Path(name), Path("results"))))
        assert path.parts[0] == "results"
        assert len(path.parts) > 1


@pytest.mark.parametrize(("text", "name"), [("..", "__"), (".", "_"), ("", "_"), ("a/../b", "a_.._b"), ("..a", "..a")])
def test_names_of_files(text, name):
    assert atomic_files.file_name(text) == name


def test_ffmpeg_patterns_are_literal(predict):
    assert predict("-o", "%03d.mp4", "--maps", "m%d.mkv") == 0
    assert names() == ["%03d.mp4", "clip.mp4", "m%d.mkv"]


# --- outputs that cannot be written


@pytest.mark.parametrize("kind", ["-o o.mp4", "--csv c.csv", "--npz n.npz", "--json j.json", "--maps maps"])
def test_a_file_in_place_of_a_folder(predict, capsys, kind):
    Path("file").write_text("not a folder")
    option, name = kind.split()
    assert predict(option, f"file/{name}") == OUTPUT_FAILED
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"tinyhd: file/{name}: cannot be written: ")
    assert Path("file").read_text() == "not a folder"


@pytest.mark.parametrize("option", ["-o o.mp4", "--csv c.csv", "--npz n.npz", "--json j.json", "--maps maps"])
def test_a_folder_that_disappears(predict, capsys, monkeypatch, option):
    from tinyhd_cli.inference import predict as prediction

    open_sinks = prediction.open_sinks

    def open_and_remove_the_folder(*args):
        sinks = open_sinks(*args)
        atomic_files.remove(Path("out"))
        return sinks

    monkeypatch.setattr(prediction, "open_sinks", open_and_remove_the_folder)
    kind, name = option.split()
    assert predict(kind, f"out/{name}") == OUTPUT_FAILED
    message = capsys.readouterr().err.strip()
    assert message == f"tinyhd: out/{name}: cannot be written: {os.strerror(errno.ENOENT)}"


def test_a_path_that_is_too_long(predict, capsys):
    assert predict("--csv", "/".join(["d" * 200] * 30) + "/c.csv") == OUTPUT_FAILED
    assert os.strerror(errno.ENAMETOOLONG) in capsys.readouterr().err


@posix
def test_the_current_folder_is_gone(tinyhd, clip, capsys):
    source = clip.absolute()
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    assert tinyhd("predict", source, "--csv", "x.csv") == WRONG_USAGE
    assert capsys.readouterr().err.strip() == "tinyhd: the current folder no longer exists; change to another folder"


def test_plots_of_similar_names(tmp_path, monkeypatch):
    """Plot videos whose names differ only in characters that are invalid in file names, and one with a long name."""
    from tinyhd_cli.evaluation import plots

    names = ["a b", "a/b", "ü" * 250]
    videos = [
        SimpleNamespace(name=name, numbers=[1, 2], means=lambda: {"CC": 0.5}, scores={"CC": [0.4, 0.6]})
        for name in names
    ]
    results = SimpleNamespace(videos=videos, mean=lambda: {"CC": 0.5})
    monkeypatch.setattr(plots, "plot_distribution", lambda results, path: path)
    monkeypatch.setattr(plots, "pick_frames", lambda *args: [])
    written = plots.plot(results, None, None, tmp_path)[1:]
    assert len(set(written)) == 3
    assert sorted(path.parent for path in written) == [tmp_path] * 3
    assert all(is_complete(path) for path in written)
