"""After many jobs, the memory and the files of the page have not grown."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from helpers import clips

JOBS, WARM_UP = 200, 80
"""Number of jobs, and of those after which the heap has its size: the threads of each job fill other parts of it."""

MAX_GROWTH = 0.1
"""Limit on the growth of memory after the first jobs, as a fraction."""


def memory_mb(process: int) -> float:
    """Return the resident memory of a process in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


def run_job(client: httpx.Client, name: str, content: bytes, **settings: object) -> dict:
    """Upload a file, run a job on it, download all files, and remove them, as the page does."""
    upload = client.post(f"/uploads?name={name}", content=content).json()
    body = {"data": [name, upload["id"], settings], "fn_index": 0, "session_hash": "soak"}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "soak"}) as stream:
        messages = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line]
    last = next(message for message in messages if message["msg"] == "process_completed")
    assert last["success"], last
    result = last["output"]["data"][0]
    assert client.get("/" + result["archive"]).content[:2] == b"PK"
    assert client.delete("/" + result["archive"].removesuffix("/all")).status_code == 204
    assert client.delete(f"/uploads/{upload['id']}").status_code == 204
    return result


@pytest.mark.slow
def test_many_jobs_leave_nothing(served, tmp_path):
    video = clips.make(tmp_path / "clip.mp4", frames=32, width=160, height=120, audio="aac").read_bytes()
    area = {"name": "disc", "box": [20, 20, 50, 50]}
    before, memory, handles = served.files(), [], []
    with httpx.Client(base_url=served.address, trust_env=False, timeout=300) as client:
        for number in range(JOBS):
            run_job(client, f"clip{number}.mp4", video, areas=[area], side_by_side=number % 2 == 0)
            memory.append(memory_mb(served.process))
            handles.append(len(list(Path(f"/proc/{served.process}/fd").iterdir())))
    early, late = memory[WARM_UP - 1], memory[-1]
    print(f"after {WARM_UP} jobs {early:.0f} MB, after {JOBS} jobs {late:.0f} MB; {handles[-1]} open files")
    assert served.files() == before
    assert late < early * (1 + MAX_GROWTH), memory[::20]
    assert handles[-1] <= handles[WARM_UP - 1] + 2, handles[::20]
