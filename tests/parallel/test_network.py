"""The cluster under failures: workers that are killed, stopped, or cut off; and the cost of an item. Run by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import clips, work_items
from helpers.dask_network import REPOSITORY, Network, namespaces_allowed

from tinyhd_cli.parallel import Cluster, Finished, run

pytest.importorskip("distributed", reason="needs tinyhd[cluster]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, /proc, network namespaces"),
]

CLIPS, FRAMES = 40, 96
OUTPUTS = ("--csv", "{name}.csv", "--npz", "{name}.npz", "--overlay", "{name}.mp4")


def tinyhd(folder, *arguments):
    """Start tinyhd with outputs of 40 clips."""
    videos = sorted(str(path) for path in folder.glob("clip*.mp4"))
    command = [sys.executable, "-m", "tinyhd_cli", "predict", *videos, *OUTPUTS, *map(str, arguments), "--json-log"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def messages(process):
    """Yield the events of a run."""
    for line in process.stderr:
        yield json.loads(line)


def frames_of(path):
    """Yield the decoded frames of a video."""
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24").tobytes()


def test_forty_clips_with_a_killed_a_stopped_and_a_cut_off_worker(tmp_path):
    isolated = namespaces_allowed()
    for number in range(CLIPS):
        clips.make(tmp_path / f"clip{number:02d}.mp4", frames=FRAMES - number % 7)
    alone = tinyhd(tmp_path, "--out-dir", "alone", "--jobs", "1", "--threads", "1")
    with alone:
        assert [event for event in messages(alone) if event["level"] == "error"] == []
    assert alone.returncode == 0
    with Network(4, tmp_path, isolated) as network:
        process = tinyhd(tmp_path, "--out-dir", "together", "--cluster", network.address, "--cluster-workers", 4)
        done, retried, disturbed = [], [], False
        for event in messages(process):
            text = event.get("message", "")
            print(event)
            if " frames in " in text:
                done.append(event["video"])
            if "is run again" in text:
                retried.append(event["video"])
            if len(done) == 4 and not disturbed:
                disturbed = True
                network.signal(0, signal.SIGKILL)
                network.signal(1, signal.SIGSTOP)
                if isolated:
                    network.cut(2, 20)
        assert process.wait() == 0
        process.stderr.close()
        network.signal(1, signal.SIGCONT)  # it notices that its item was given to another worker
        deadline = time.monotonic() + 60
        while (partial := list((tmp_path / "together").glob(".*"))) and time.monotonic() < deadline:
            time.sleep(0.5)
    assert partial == []
    assert len(done) == CLIPS == len(set(done)), "each once"
    assert retried, "items of the stopped worker"
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "together").iterdir())
    assert len(names) == 3 * CLIPS
    for name in names:
        one, other = tmp_path / "alone" / name, tmp_path / "together" / name
        if name.endswith(".mp4"):
            assert list(frames_of(one)) == list(frames_of(other)), name
        else:
            assert one.read_bytes() == other.read_bytes(), name
    if not isolated:
        pytest.skip("network namespaces are not allowed: the link of the third worker was not cut, the rest passed")


def test_ten_thousand_items_take_three_milliseconds_each_and_no_memory(tmp_path):
    """Time of the scheduler and of this process, in CPU time, because other processes may share the cores."""
    with Network(2, tmp_path, isolated=False) as network:
        where, sizes, count, started = Cluster(network.address, workers=2), [], 0, None
        for event in run(work_items.doubling, range(10_000), where):
            if isinstance(event, Finished):
                started = started or (time.monotonic(), time.process_time(), cpu_seconds(network.scheduler.pid))
                assert event.result == 2 * event.number
                count += 1
                if count % 1000 == 0:
                    sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        wall, client = time.monotonic() - started[0], time.process_time() - started[1]
        scheduler = cpu_seconds(network.scheduler.pid) - started[2]
    print(f"per item: {wall / 10:.2f} ms; CPU: scheduler {scheduler / 10:.2f} ms, client {client / 10:.2f} ms")
    print("memory of the client:", *(f"{size / 1e6:.1f}" for size in sizes), "MB")
    assert count == 10_000
    assert scheduler / 10 <= 3
    assert sizes[-1] - sizes[1] < 8e6


def cpu_seconds(pid):
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
