"""Work on items by workers of a Dask cluster: two processes of one thread, and one of two threads."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import platform
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import prometheus_client.parser
import pytest
from helpers import clips, work_items
from helpers.networks import lively

from tinyhd_cli import weights
from tinyhd_cli.commands import parts, split_lengths
from tinyhd_cli.commands.run_options import RunOptions
from tinyhd_cli.errors import TinyhdError, UsageError, WeightsError
from tinyhd_cli.inference.model_options import ModelOptions
from tinyhd_cli.parallel import (
    Again,
    Cluster,
    ClusterOptions,
    Finished,
    Message,
    Progress,
    Ready,
    cluster,
    connect,
    run,
)
from tinyhd_cli.weights import SameWeights

pytest.importorskip("distributed", reason="needs tinyhd[cluster]")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler that tinyhd did not start, so that it has Dask's configuration."""
    import distributed

    with distributed.LocalCluster(
        2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None, silence_logs=connect.SILENT
    ) as started:
        yield started.scheduler_address


def finished(events):
    """Return the last events of the items by number."""
    return {event.number: event for event in events if isinstance(event, Finished)}


def test_results_messages_and_progress_as_those_of_processes(scheduler):
    events = list(run(work_items.noisy, [1, 2, None, 3], Cluster(scheduler)))
    assert sum(isinstance(event, Ready) for event in events) == 1
    texts = [event.text for event in events if isinstance(event, Message) and event.level > logging.INFO]
    assert texts == ["prepared"], "once, not per process"
    assert next(event.text[:16] for event in events if isinstance(event, Message)) == "Dask dashboard: "
    ends = finished(events)
    assert {number: end.result for number, end in ends.items()} == {0: 2, 1: 4, 2: None, 3: 6}
    assert [message.text for message in ends[1].messages] == ["item 2"]
    assert "pickle" in str(ends[2].error)
    reports = [event for event in events if isinstance(event, Progress) and event.number == 0]
    assert [(report.phase, report.done, report.total) for report in reports] == [("last", 2, 2)]
    events = list(run(work_items.noisy, list(range(1, 60)), Cluster(scheduler)))
    assert {end.result for end in finished(events).values()} == {2 * number for number in range(1, 60)}
    texts = [event.text for event in events if isinstance(event, Message) and event.level > logging.INFO]
    assert texts == [], "workers keep what they have prepared"


def test_settings_and_folder(scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    large = partial(work_items.doubling, "x" * cluster.LARGE_BYTES)
    assert len(finished(run(large, [1, 2], Cluster(scheduler)))) == 2
    ends = finished(run(work_items.stating, [0] * 8, Cluster(scheduler, threads=3)))
    assert {end.result for end in ends.values()} == {(3, str(tmp_path), True)}
    assert {end.result[0] for end in finished(run(work_items.stating, [0], Cluster(scheduler))).values()} == {1}


def test_changed_weights_are_loaded_again(scheduler, tmp_path):
    """A worker keeps what it has loaded only as long as the file has the same content."""
    file = tmp_path / "w.safetensors"
    model = ModelOptions(weights=file)

    def loaded():
        where = RunOptions(cluster=ClusterOptions(cluster=scheduler)).where(None, [], model)
        return {end.result for end in finished(run(partial(work_items.loading, file), [0] * 4, where)).values()}

    for content in (b"one", b"two"):
        file.write_bytes(content)
        assert loaded() == {content}


def test_a_worker_that_joins_later_is_checked(scheduler, monkeypatch):
    """Its first item runs the check, because the client's came too early for it."""
    monkeypatch.setattr(connect, "check_workers", lambda client, order: None)
    with pytest.raises(WeightsError, match="no such weights there"):
        list(run(work_items.doubling, [1], Cluster(scheduler, check=work_items.refusing)))


def test_several_threads_of_a_worker_work_one_after_the_other(tmp_path, monkeypatch):
    import distributed

    monkeypatch.chdir(tmp_path)
    with distributed.LocalCluster(
        1, threads_per_worker=4, processes=False, dashboard_address="127.0.0.1:0", silence_logs=connect.SILENT
    ) as one:
        ends = finished(run(work_items.stating, [0] * 12, Cluster(one.scheduler_address)))
    assert {end.result for end in ends.values()} == {(4, str(tmp_path), True)}


def test_closing_cancels_and_removes_partial_files(scheduler, tmp_path):
    events = run(work_items.counting, [str(tmp_path)], Cluster(scheduler))
    next(event for event in events if isinstance(event, Progress))
    assert (tmp_path / "partial").exists()
    events.close()
    assert list(tmp_path.iterdir()) == []
    assert len(finished(run(work_items.doubling, [1, 2, 3], Cluster(scheduler)))) == 3, "no worker is busy"


def test_workers_that_do_not_fit(scheduler, monkeypatch, tmp_path):
    def failure(where, make_work=work_items.doubling):
        with pytest.raises(TinyhdError) as raised:
            list(run(make_work, [1], where))
        return raised.value

    assert "no such weights" in str(failure(Cluster(scheduler), work_items.missing))
    refused = failure(Cluster(scheduler, check=work_items.refusing))
    assert isinstance(refused, WeightsError)
    assert str(refused).startswith("the worker tcp://127.0.0.1:")
    assert str(refused).endswith(": no such weights there")
    with monkeypatch.context() as patched:
        patched.setattr(connect, "__version__", "9.8")
        text = str(failure(Cluster(scheduler)))
        assert text.startswith("the scheduler has tinyhd ")
        assert text.endswith(", but this client has 9.8; install the same version on both")
    with monkeypatch.context() as patched:
        mine = platform.python_version()
        patched.setattr(platform, "python_version", lambda: "2.7.18")
        expected = f"the scheduler has Python {mine}, but this client has 2.7.18; use the same version on both"
        assert str(failure(Cluster(scheduler))) == expected
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "gone")
    assert f"has no folder {tmp_path}/gone; give workers the same shared file system" in str(
        failure(Cluster(scheduler))
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cluster": "local:0"}, "--cluster local:0: give at least local:1"),
        ({"cluster": "slrum"}, "--cluster slrum: unknown; did you mean slurm?"),
        ({"cluster_workers": 2}, "--cluster-workers needs --cluster, such as --cluster slurm"),
        ({"cluster": "local:2", "retries": 0}, "--retries 0: give at least 1"),
        ({"threads": 0}, "--threads 0: give at least 1"),
    ],
)
def test_invalid_options(values, message):
    with pytest.raises(UsageError) as raised:
        ClusterOptions(**values)
    assert str(raised.value) == message


def test_a_missing_scheduler_and_a_missing_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(TinyhdError, match="no Dask scheduler answers; start one with dask scheduler"):
        list(run(work_items.doubling, [1], Cluster("tcp://127.0.0.1:9")))
    with pytest.raises(UsageError, match=r"none\.json: no such file; start a scheduler: dask scheduler"):
        list(run(work_items.doubling, [1], Cluster(str(tmp_path / "none.json"))))
    other = tmp_path / "other.json"
    for content in ("{bad", "[]", '{"address": 3}', '{"address": "x"}'):
        other.write_text(content)
        with pytest.raises(UsageError, match=r"other\.json: is not the file of a scheduler; start a scheduler: dask "):
            list(run(work_items.doubling, [1], Cluster(str(other))))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--cluster local:2 needs cryptography: pip install 'tinyhd\[cluster\]'$"):
        list(run(work_items.doubling, [1], Cluster("local:2")))
    with pytest.raises(UsageError, match=r"^--cluster needs Dask: pip install 'tinyhd\[cluster\]'$"):
        ClusterOptions(cluster="local:2")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b""])
def test_another_service_is_no_scheduler(monkeypatch, text):
    """Dask takes the first bytes of a web server's answer for a length, of exabytes; others never answer."""
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT_S", 1)
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connections.append(server.accept()[0])
                    connections[-1].sendall(text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        started = time.monotonic()
        with pytest.raises(TinyhdError, match="no Dask scheduler answers"):
            list(run(work_items.doubling, [1], Cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}")))
        gc.collect()
        assert time.monotonic() - started < 15
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # ends accept(), which closing does not
        thread.join(10)
    for connection in connections:
        connection.close()


def test_others_cannot_connect_to_local_processes():
    import distributed

    with connect.connected(Cluster("local:0")) as client:  # the scheduler alone
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        for other in (address, address.replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError, RuntimeError, ValueError)):
                connect.client_of(other, timeout=1, security=distributed.Security())


def test_same_outputs_as_one_process(tinyhd, scheduler, tmp_path, capfd):
    """The outputs, the exit code, and the failures are those of one process; events name the input."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for frames, name in ((5, "c"), (3, "a")):
        clips.make(folder / f"{name}.mp4", frames=frames)
    (folder / "broken.mp4").write_bytes(b"no video")
    command = ["predict", folder, "--csv", "{name}.csv", "--json-log"]
    assert tinyhd(*command, "--out-dir", "one", "--jobs", 1) == 1
    alone = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert tinyhd(*command, "--out-dir", "two", "--cluster", scheduler, "--metrics", "run.prom") == 1
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    for name in ("a", "c"):
        assert Path(f"one/{name}.csv").read_bytes() == Path(f"two/{name}.csv").read_bytes()
    assert events[-1]["failed"] == alone[-1]["failed"]
    for found in (alone, events):
        task = {event["task"]: event["video"] for event in found if " frames in " in event.get("message", "")}
        assert task == {1: f"{folder}/a.mp4", 3: f"{folder}/c.mp4"}
        summary = next(event for event in found if event["level"] == "summary")
        assert {key: summary[key] for key in ("videos", "frames", "failures", "retries")} == {
            "videos": 3,
            "frames": 8,
            "failures": 1,
            "retries": 0,
        }
    assert any(event.get("message", "").startswith("Dask dashboard: http") for event in events)
    check_metrics(Path("run.prom").read_text(encoding="utf-8"))
    assert tinyhd(*command, "--out-dir", "two", "--cluster", scheduler, "--skip-existing", "--metrics", folder) == 5


def check_metrics(text):
    """Check Prometheus text: by a parser, by what the node exporter requires, and by its values."""
    counts = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines() if line[0] != "#"}
    assert counts.pop("tinyhd_run_start_seconds") <= counts.pop("tinyhd_run_update_seconds")
    assert counts == {
        f'tinyhd_run_info{{version="{connect.__version__}"}}': "1",
        "tinyhd_inputs": "3",
        "tinyhd_inputs_waiting": "0",
        'tinyhd_inputs_ended_total{outcome="done"}': "2",
        'tinyhd_inputs_ended_total{outcome="skipped"}': "0",
        'tinyhd_inputs_ended_total{outcome="failed"}': "1",
        "tinyhd_frames_total": "8",
        "tinyhd_retries_total": "0",
    }
    found = list(prometheus_client.parser.text_string_to_metric_families(text))
    assert {family.type for family in found} == {"gauge", "counter"}
    assert sum(len(family.samples) for family in found) == len(counts) + 2
    assert len(found) == 8
    described = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    samples = {line.partition("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    assert set(described) == samples, "the node exporter knows a counter by its complete name"
    assert set(described.values()) == {"gauge", "counter"}, "the node exporter refuses files with other types"


def test_metrics_overwrite_no_input_and_no_output(tinyhd, weights_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip = clips.make(tmp_path / "clip.mp4", frames=2)
    (tmp_path / "frames").mkdir()
    frame = tmp_path / "frames/0001.png"
    frame.write_bytes(b"not read")
    (tmp_path / "link.prom").symlink_to(clip)
    before = {path: path.read_bytes() for path in (clip, frame, weights_file)}
    predict = ("predict", "clip.mp4", "--weights", weights_file, "--csv", "a.csv", "--metrics")
    for metrics in ("./clip.mp4", "link.prom", weights_file):
        assert tinyhd(*predict, metrics) == 2
        assert "is an input of this command; write to another file" in capsys.readouterr().err
    assert tinyhd("predict", "frames", "--as-video", "--csv", "a.csv", "--metrics", frame) == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert tinyhd(*predict, tmp_path / "a.csv") == 2
    assert "a.csv: is an output of this command; write to another file" in capsys.readouterr().err
    report = ("report", "clip.mp4", "-o", "a.html", "--summary-file", "all.html")
    assert tinyhd(*report, "--metrics", "all.html") == 2
    assert "is an output of this command" in capsys.readouterr().err
    assert tinyhd(*predict, "-") == 2
    assert "--metrics -: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".html")]


def test_inputs_that_workers_cannot_read(tinyhd, scheduler, weights_file, tmp_path, capsys):
    clip, other = clips.make(tmp_path / "a.mp4", frames=2), tmp_path / "b.mp4"
    options = ("--weights", weights_file, "--cluster", scheduler)
    assert tinyhd("predict", "-", *options, "--csv", "a.csv") == 2
    assert "--cluster: workers cannot use standard input, because" in capsys.readouterr().err
    assert tinyhd("predict", clip, *options, "--out-dir", "memory://here") == 2
    assert "because memory:// belongs to one process" in capsys.readouterr().err
    assert tinyhd("predict", clip, *options, "--jobs", 2) == 2
    assert "--jobs and --cluster exclude each other" in capsys.readouterr().err
    assert tinyhd("live", clip, *options) == 2
    assert "No such option: --cluster" in capsys.readouterr().err
    other.write_bytes(weights_file.read_bytes())
    check = SameWeights.of(other)
    check()
    other.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        check()
    with pytest.raises(
        WeightsError, match=r"have sha256 .*, but this client's have 0{12}\.\.\.; give workers the same"
    ):
        SameWeights(weights_file, "0" * 64)()


@pytest.mark.parametrize("killed", [(), pytest.param((1,), marks=pytest.mark.slow)])
def test_a_long_video_in_parts(tinyhd, scheduler, tmp_path, monkeypatch, capsys, killed):
    """It is cut without --split, and a part whose worker is killed is done again."""
    path, network = tmp_path / "small.safetensors", lively("uva-32")
    weights.save(path, network.state_dict(), network.spec)
    clip = clips.make(tmp_path / "clip.mp4", frames=75, audio="aac", options={"g": "12"})
    command = ("predict", clip, "--weights", path, "--engine", "torch", "--precision", "float32", "--crf", 0)
    outputs = ("--overlay", "{name}.mp4", "--csv", "{name}.csv", "--npz", "{name}.npz")
    assert tinyhd(*command, *outputs, "--out-dir", "whole", "--threads", 1) == 0
    monkeypatch.setattr(split_lengths, "AUTOMATIC_S", 1.0)
    monkeypatch.setattr(split_lengths, "AUTOMATIC_ABOVE_S", 2.0)
    numbers, marker = [], tmp_path / "killed"

    def run_and_kill(make_work, turns, where):
        numbers.extend(turn.part.number for turn in turns)
        return run(partial(work_items.dying_once, make_work, killed, marker), turns, where)

    monkeypatch.setattr(parts, "run", run_and_kill)
    capsys.readouterr()
    assert tinyhd(*command, *outputs, "--out-dir", "parts", "--cluster", scheduler) == 0
    assert numbers == [0, 1, 2] and marker.exists() == bool(killed)
    assert capsys.readouterr().err.count("(part 2 of 3)") == len(killed)
    assert sorted(path.name for path in Path("parts").iterdir()) == ["clip.csv", "clip.mp4", "clip.npz"]
    for name in ("clip.csv", "clip.npz"):
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes()
    whole, joined = (images_of(Path(folder, "clip.mp4")) for folder in ("whole", "parts"))
    assert len(joined) == 75 and np.array_equal(joined, whole)
    assert clips.audio_packets(Path("parts/clip.mp4")) == clips.audio_packets(Path("whole/clip.mp4")) != []


def images_of(video):
    """Return the images of a video, gray."""
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def test_an_item_whose_workers_are_killed_fails_alone(scheduler):
    started = time.monotonic()
    events = list(run(work_items.noisy, [1, -1, 2, 3], Cluster(scheduler, retries=1)))
    ends = finished(events)
    assert {number: end.result for number, end in ends.items()} == {0: 2, 1: None, 2: 4, 3: 6}
    assert str(ends[1].error).startswith("1 worker ended during the work on it, the last one tcp://127.0.0.1:")
    assert str(ends[1].error).endswith("; perhaps memory ran out")
    assert not [event for event in events if isinstance(event, Again) and event.number == 1]
    assert time.monotonic() - started < 60
