"""Commands on ``memory://``: the same files as on a disk, and the same errors."""

from __future__ import annotations

import errno
import json
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import clips
from helpers.stores import copies_of, put
from PIL import Image

from tinyhd_cli.commands.batch import InProcess
from tinyhd_cli.errors import InputError
from tinyhd_cli.inference.inputs import find_videos
from tinyhd_cli.storage import addresses, copies, fetched, path_of, share_scratch, stores

OUTPUTS = ("--csv", "{name}.csv", "--maps", "{name}", "--npz", "{name}.npz", "--json", "{name}.json")


def content_of(store, folder: str) -> dict[str, bytes]:
    return {path.removeprefix(f"/{folder}/"): store.cat_file(path) for path in store.find(f"/{folder}")}


def test_predict_from_memory_into_memory_is_as_on_disk(tinyhd, memory, clip, model, tmp_path):
    here = copies_of(clip, tmp_path / "in", ["a.mp4", "b.mp4"])
    put(memory, "/in/deep", *here)
    command = ("--normalize", "video", "--overlay", "{name}.mp4", *OUTPUTS, *model)
    assert tinyhd("predict", tmp_path / "in", "--out-dir", tmp_path / "out", *command) == 0
    assert tinyhd("predict", "memory://in/**/*.mp4", "--out-dir", "memory://out/x", *command) == 0
    found = content_of(memory, "out/x")
    expected = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        if name.endswith(".json"):
            one, other = json.loads(found[name]), json.loads(content)
            assert one.pop("video") == f"memory://in/deep/{Path(name).stem}.mp4"
            assert one.pop("outputs")["csv"] == f"memory://out/x/{Path(name).stem}.csv"
            other.pop("video"), other.pop("outputs")
            assert one == other
        else:
            assert found[name] == content, name
    (tmp_path / "back.mp4").write_bytes(found["a.mp4"])
    assert clips.audio_packets(tmp_path / "back.mp4")


def test_existing_objects_are_not_made_again(tinyhd, memory, clip, model, tmp_path, capsys):
    put(memory, "/in", *copies_of(clip, tmp_path / "in", ["a.mp4", "b.mp4"]))
    command = (
        "predict",
        "memory://in",
        "--out-dir",
        "memory://out",
        "--skip-existing",
        "--maps",
        "{name}",
        *model[:-1],
    )
    assert tinyhd(*command) == 0
    before = {path: memory.created(path) for path in memory.find("/out")}
    memory.pipe_file("/out/b/0021.png", b"of a longer video")
    memory.rm_file("/out/b/0001.png")  # as in a folder of which only some files were put
    capsys.readouterr()
    assert tinyhd(*command) == 0
    assert "a.mp4 (1/2): skipped, all outputs exist" in capsys.readouterr().err
    after = {path: memory.created(path) for path in memory.find("/out")}
    assert before.keys() == after.keys()
    assert {path for path in after if after[path] != before[path]} == {path for path in after if "/b/" in path}
    assert max(after, key=after.__getitem__) == "/out/b/0001.png"


@pytest.mark.parametrize(
    "command", ["crop", pytest.param("encode", marks=pytest.mark.slow), pytest.param("report", marks=pytest.mark.slow)]
)
def test_other_commands_use_stores(tinyhd, memory, clip, model, command, capsys):
    put(memory, "/in", clip)
    arguments = (command, "memory://in/clip.mp4", "--out-dir", "memory://out", "--skip-existing", *model[:-1])
    assert tinyhd(*arguments) == 0
    (made,) = memory.find("/out")
    assert memory.size(made) > 1000
    assert str(addresses._root) not in memory.cat_file(made).decode("latin-1")
    output = capsys.readouterr()
    assert str(addresses._root) not in output.err + output.out
    before = memory.created(made)
    assert tinyhd(*arguments) == 0
    assert "clip.mp4: skipped, all outputs exist" in capsys.readouterr().err
    assert memory.created(made) == before


def test_images_and_areas(tinyhd, memory, model, tmp_path, monkeypatch, capsys):
    frames = [tmp_path / f"{number:03d}.png" for number in range(3)]
    for number, frame in enumerate(frames):
        Image.fromarray(clips.image(number, 64, 48)).save(frame)
    put(memory, "/seq", *frames)
    memory.pipe_file("/areas.json", json.dumps({"areas": [{"name": "logo", "box": [0, 0, 20, 20]}]}).encode())
    arguments = ("predict", "memory://seq", "--out-dir", "memory://out", "--csv", "n.csv", *model)
    assert tinyhd(*arguments, "--aoi", "memory://areas.json#logo", "--maps", "maps") == 0
    assert sorted(memory.ls("/out/seq_maps", detail=False)) == [f"/out/seq_maps/{file.stem}.png" for file in frames]
    assert memory.cat_file("/out/seq_n.csv").startswith(b"frame,")
    assert b"logo" in memory.cat_file("/out/seq_n.csv")
    assert tinyhd(*arguments, "--scratch", "100") == 3
    assert "a copy needs" in (error := capsys.readouterr().err)
    assert "give a larger --scratch" in error
    monkeypatch.setenv("TINYHD_SCRATCH", "1M")
    assert tinyhd("compare", *(f"memory://seq/{file.name}" for file in frames[:2]), "--aoi", "a=0,0,9,9", *model) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("memory://in/none.mp4",), 3, "memory://in/none.mp4: no such file"),
        (("memory://in/*.mov",), 3, "memory://in/*.mov: matches no file"),
        (
            ("memory://in", "memory://in/a.mp4", "--csv", "memory://out/x.csv"),
            2,
            "2 inputs would be written to one file",
        ),
        (("memory://in/a.mp4", "memory://other/a.mp4", "--out-dir", "memory://out"), 2, "would both be written to"),
        (("memory://in/a.mp4", "--overlay", "memory://in/a.mp4"), 2, "is the input itself"),
        (("memory://in/a.mp4", "--out-dir", "memory://out/x", "--csv", "../../y.csv"), 2, "'..' cannot be part of an"),
        (("memory://in/a.mp4", "--out-dir", "https://host/out"), 5, "https:// can only be read"),
        (("memory://in/a.mp4", "--weights", "memory://w.safetensors"), 4, "memory://w.safetensors: no such file"),
        (("memory://in//a.mp4",), 3, "a part of this address is empty"),
        (("memory://in/a.mp4", "--scratch", "much"), 2, "--scratch 'much': give a size"),
    ],
)
def test_errors_before_work(tinyhd, memory, clip, tmp_path, monkeypatch, capsys, arguments, code, message):
    from tinyhd_cli.inference.model import Model

    put(memory, "/in", *copies_of(clip, tmp_path / "in", ["a.mp4", "b.mp4"]))
    put(memory, "/other", tmp_path / "in" / "a.mp4")
    monkeypatch.setattr(Model, "maps", lambda *details: pytest.fail("work began"))
    assert tinyhd("predict", *arguments, "--engine", "torch") == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not memory.find("/out")


def test_names_that_are_too_long_are_listed_once(tinyhd, memory, clip, capsys):
    long = f"/in/{'m' * 260}.mp4"
    for name in (long, f"{long}.mp4"):
        memory.pipe_file(name, clip.read_bytes())
    assert tinyhd("predict", "memory://in", "--out-dir", "memory://out", "--csv", "m.csv") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3] == "tinyhd: 2 of 2 inputs failed:"
    for line, name in zip(lines[-2:], (long, f"{long}.mp4"), strict=True):
        assert line.startswith(f"  memory:/{name}: the output's name has ")


def test_a_full_disk_is_not_a_full_store(memory, monkeypatch):
    memory.pipe_file("/in/a.png", b"x")

    def fail(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(memory), "get_file", fail)
    with pytest.raises(InputError, match=r"^memory://in/a.png: the disk of temporary files \(.*\) is full; set TMPDIR"):
        fetched(path_of("memory://in/a.png"))


def test_space_for_copies(monkeypatch):
    one, other = path_of("memory://b/1"), path_of("memory://b/2")
    free = SimpleNamespace(free=100)
    monkeypatch.delenv(copies.SCRATCH_VARIABLE)
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: free)
    copies.reserve(one, 30, InputError)
    with pytest.raises(InputError, match=r"needs 30 bytes, but --scratch allows 50, 30 of which are in use"):
        copies.reserve(other, 30, InputError)  # nothing of the first copy is on the disk
    copies.discard(one)
    monkeypatch.setenv(copies.SCRATCH_VARIABLE, "80")
    work = pickle.loads(pickle.dumps(InProcess(None, 2)))  # as sent to a worker of a cluster
    monkeypatch.delenv(copies.SCRATCH_VARIABLE)
    try:
        share_scratch(work.processes, work.scratch)
        assert copies.scratch_limit() == 40
    finally:
        share_scratch(1, None)
    assert copies.scratch_limit() == 50


def test_a_missing_package_is_named(tinyhd, monkeypatch, memory, clip, capsys):
    from dataclasses import replace

    put(memory, "/in", clip)
    monkeypatch.setitem(stores.BACKENDS, "gs", replace(stores.GOOGLE, module="no_such_module"))
    assert tinyhd("predict", "gs://bucket/a.mp4") == 3
    assert tinyhd("predict", "memory://in", "--out-dir", "gs://bucket") == 5
    line = "needs no_such_module, which cannot be imported; install it with: pip install 'tinyhd[gcs]'"
    assert capsys.readouterr().err == f"tinyhd: gs://bucket/a.mp4: {line}\ntinyhd: gs://bucket: {line}\n"


def test_a_clip_that_vanishes(tinyhd, memory, clip, tmp_path, model, monkeypatch, capsys):
    from tinyhd_cli.commands import batch

    put(memory, "/in", *copies_of(clip, tmp_path / "in", ["a.mp4", "b.mp4"]))
    monkeypatch.setattr(batch, "check_destination", lambda paths: memory.rm_file("/in/a.mp4"))
    assert tinyhd("predict", "memory://in", "--csv", "n.csv", "--out-dir", "memory://out", *model) == 1
    assert capsys.readouterr().err.splitlines()[0] == "tinyhd: memory://in/a.mp4: no such file"
    assert memory.find("/out") == ["/out/b_n.csv"]


def test_weights_are_fetched_once(tinyhd, memory, clip, weights_file, model, monkeypatch, capsys):
    put(memory, "/in", clip, weights_file)
    fetched = []
    fetch = copies.fetch
    monkeypatch.setattr(copies, "fetch", lambda path, *rest: (fetched.append(path), fetch(path, *rest)))
    command = ("predict", "memory://in/clip.mp4", "--weights", f"memory://in/{weights_file.name}", "--engine", "torch")
    for _ in range(2):
        assert tinyhd(*command, "--csv", "memory://out/n.csv") == 0
    assert [path.name for path in fetched] == [weights_file.name]
    memory.pipe_file(f"/in/{weights_file.name}", weights_file.read_bytes()[:-100])  # another content
    capsys.readouterr()
    assert tinyhd(*command, "--csv", "memory://out/n.csv") == 4
    assert len(fetched) == 2
    assert f"{weights_file.name}: " in capsys.readouterr().err


def test_many_objects_leave_no_files(memory):
    memory.pipe({f"/many/{number % 10}/{number}.mp4": b"x" for number in range(3000)} | {"/many/1/.hidden.mp4": b"x"})
    found = find_videos(["memory://many/**/*.mp4", "memory://many/3"]).found
    assert len(found) == 3000
    assert found[0].path == path_of("memory://many/0/0.mp4")
    assert not [path for path in Path(addresses.root()).rglob("*") if path.is_file()]


def test_the_api_takes_urls(memory, clip, weights_file, model):
    import tinyhd_cli

    put(memory, "/in", clip, weights_file)
    loaded = tinyhd_cli.load_model(f"memory://in/{weights_file.name}", engine="torch")
    assert len(list(tinyhd_cli.predict("memory://in/clip.mp4", loaded))) == 20
    with pytest.raises(tinyhd_cli.InputError, match=r"^memory://in/none.mp4: no such file$"):
        next(tinyhd_cli.predict("memory://in/none.mp4", loaded))


def test_a_web_server(tinyhd, clip, model, monkeypatch, capsys):
    """It has no ranges and is read by a copy; the query is shown nowhere."""
    handler = partial(SimpleHTTPRequestHandler, directory=clip.parent)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *details: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert tinyhd("predict", f"{url}/clip.mp4?sig=abc123", "--json", "out.json", *model) == 0
        assert tinyhd("predict", f"{url}/none.mp4?sig=abc123", *model) == 3
        server.shutdown()
    assert tinyhd("predict", f"{url}/clip.mp4?sig=abc123", *model) == 3
    written = json.loads(Path("out.json").read_text())
    assert (written["video"], written["frames"]) == (f"{url}/clip.mp4", 20)
    none, away = capsys.readouterr().err.splitlines()
    assert none == f"tinyhd: {url}/none.mp4: no such file"
    assert away == f"tinyhd: {url}/clip.mp4: the store cannot be reached; check the connection and the address"
