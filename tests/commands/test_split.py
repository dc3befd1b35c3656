"""``--split``: long videos in parts look like any other input of a command."""

from __future__ import annotations

import av
import pytest
from helpers import clips
from helpers.networks import lively

from tinyhd_cli import weights
from tinyhd_cli.atomic_files import remove
from tinyhd_cli.commands import parts
from tinyhd_cli.commands.batch import unseen
from tinyhd_cli.commands.predict import Prediction
from tinyhd_cli.commands.split_lengths import lengths_of
from tinyhd_cli.commands.task import Turn
from tinyhd_cli.errors import TinyhdError
from tinyhd_cli.inference import PredictOptions
from tinyhd_cli.inference.io_paths import Job
from tinyhd_cli.inference.model_options import ModelOptions
from tinyhd_cli.parallel import Finished, Progress, Ready
from tinyhd_cli.storage import path_of


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return a weights file of a small network."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network = lively("uva-32")
    weights.save(path, network.state_dict(), network.spec)
    return path


@pytest.fixture
def rounds(monkeypatch):
    """Work on all parts in this process, and return the numbers of items of each round."""
    counts = []

    def run(make_work, items, where):
        counts.append(len(items))
        work = make_work()
        yield Ready()
        for number, item in enumerate(items):
            yield Progress(number, "", 1, 1)
            yield Finished(number, work(item, lambda phase, done, total: None))

    monkeypatch.setattr(parts, "run", run)
    return counts


def without_frame(path, lost):
    """Write a clip of which one packet cannot be decoded, and return its path."""
    whole = clips.make(path.with_name("whole.mkv"), frames=50, options={"g": "12", "bf": "0"})
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size:
                found = av.Packet(b"\0" * 9) if number == lost else packet
                found.pts, found.dts, found.time_base = packet.pts, packet.dts, packet.time_base
                found.stream = stream
                container.mux(found)
    whole.unlink()
    return path


def test_several_videos(tinyhd, tmp_path, network, rounds, capsys):
    """A video with a lost frame takes a second round; a short one and a missing one are as ever."""
    long = clips.make(tmp_path / "long.mp4", frames=50, options={"g": "12"})
    damaged = without_frame(tmp_path / "damaged.mkv", 30)
    short = clips.make(tmp_path / "short.mp4", frames=20)
    inputs = (long, damaged, tmp_path / "missing.mp4", short)
    look = ("--weights", network, "--engine", "torch", "--csv", "f.csv", "--json", "f.json", "-o", "o.mp4")
    assert tinyhd("predict", *inputs, *look, "--out-dir", "whole") == 1
    capsys.readouterr()
    assert tinyhd("predict", *inputs, *look, "--out-dir", "parts", "--split", "1s") == 1
    assert rounds == [2 + 2 + 1, 2]
    messages = capsys.readouterr().err
    assert "long.mp4 (1/3): 50 frames" in messages and "damaged.mkv (2/3): 49 frames" in messages
    assert messages.count("skipped 1 damaged") == 1
    assert "missing.mp4: no such file" in messages and "4 inputs: 3 done, 1 failed" in messages
    here = tmp_path / "here"
    names = sorted(path.name for path in (here / "whole").iterdir())
    assert sorted(path.name for path in (here / "parts").iterdir()) == names and len(names) == 9
    for name in names:
        if not name.endswith(".mp4"):
            expected = (here / "whole" / name).read_bytes().replace(b'"whole/', b'"parts/')
            assert (here / "parts" / name).read_bytes() == expected


def test_a_failed_part(tinyhd, tmp_path, network, rounds, capsys, monkeypatch):
    """The video fails with one line, its other parts are left, and other inputs go on; finished parts can be kept."""
    from tinyhd_cli.inference import split_join, split_part
    from tinyhd_cli.inference.predict import Summary
    from tinyhd_cli.inference.split_plan import read_plan

    one = clips.make(tmp_path / "one.mp4", frames=75, options={"g": "12"})
    two = clips.make(tmp_path / "two.mp4", frames=75, options={"g": "12"})
    begun, failing = [], {("one.mp4", 1)}

    def predict_part(video, part, *rest):
        read_plan(part.folder)  # a part of a video that has failed is not begun
        begun.append((video.name, part.number))
        if begun[-1] in failing:
            raise TinyhdError("the disk is full")
        part.done.mkdir(exist_ok=True)

    def join_parts(video, parts, outputs, options):
        assert all(part.done.is_dir() for part in parts)
        outputs.csv.write_text("joined\n")
        remove(parts[0].folder)
        return Summary(75, 0, 2.5, outputs)

    monkeypatch.setattr(split_part, "predict_part", predict_part)
    monkeypatch.setattr(split_join, "join_parts", join_parts)
    options = ("--weights", network, "--engine", "torch", "--csv", "{name}.csv", "--split", "1s")
    assert tinyhd("predict", one, two, *options) == 1
    messages = capsys.readouterr().err
    assert messages.count("one.mp4: the disk is full") == 2  # at once, and in the list of failures
    assert "2 inputs: 1 done, 1 failed" in messages
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["two.csv"]
    assert begun == [("one.mp4", 0), ("one.mp4", 1), ("two.mp4", 0), ("two.mp4", 1), ("two.mp4", 2)]
    assert tinyhd("predict", one, *options, "--skip-existing") == 1
    assert len(list((tmp_path / "here").glob(".*.parts/part-00000"))) == 1
    assert "finished parts are kept in" in capsys.readouterr().err
    assert tinyhd("predict", one, *options[:-2]) == 0  # in one piece
    assert list((tmp_path / "here").glob(".*.parts")) == []
    (tmp_path / "here" / "one.csv").unlink()
    failing.clear()
    assert tinyhd("predict", one, *options, "--skip-existing") == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["one.csv", "two.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-",), "--split 1s: - is a pipe, which can be read only once; leave the option out"),
        (("clip.mp4", "-o", "a.gif"), "--overlay a.gif is an animated image, which is not joined from parts"),
        (("clip.mp4", "-o", "-"), "--overlay - is a pipe, which needs all frames in order"),
        (("clip.mp4", "-o", "memory://a/b.mp4"), "--overlay memory://a/b.mp4 is in an object store"),
    ],
)
def test_inputs_and_outputs_that_have_no_parts(tinyhd, tmp_path, network, arguments, message, capsys):
    clips.make(tmp_path / "here" / "clip.mp4", frames=3)
    assert tinyhd("predict", *arguments, "--weights", network, "--split", "1s") == 2
    assert message in capsys.readouterr().err


def test_an_invalid_length(tinyhd, tmp_path, capsys):
    clips.make(tmp_path / "here" / "clip.mp4", frames=3)
    assert tinyhd("predict", "clip.mp4", "--split", "long") == 2
    assert "--split long: give a length of time, such as 5m, 300s or 1h" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("video", "overlay", "reason"),
    [
        ("clip.mp4", "s3://b/o.mp4", "--overlay s3://b/o.mp4 is in an object store, in which parts are not joined"),
        ("clip.mp4", "o.gif", "--overlay o.gif is an animated image, which is not joined from parts"),
        ("s3://b/clip.mp4", "o.mp4", "s3://b/clip.mp4 is in an object store; use --split to cut it"),
        ("s3://b/image.png", "o.png", ""),
    ],
)
def test_videos_that_are_not_cut_on_a_cluster(video, overlay, reason):
    """They are not read, and one line says why, for all of them."""
    task = Prediction((), False, ModelOptions(), PredictOptions(), False)
    turn = Turn(Job(path_of(video), {"overlay": path_of(overlay)}), video, unseen)
    divided = parts.divide([turn, turn], task, lengths_of(None, True, keep=False))
    assert divided.videos == {}
    assert divided.note == (f"long videos are not cut into parts: {reason}" if reason else "")
