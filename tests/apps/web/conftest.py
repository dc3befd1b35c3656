"""One server for all tests of the page in a process."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

START = """
import sys
log, *arguments = sys.argv[1:]
def watch(event, values):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = values[1] if event == "socket.connect" else values[0]
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", "localhost", "::1"):
            open(log, "a").write(f"{event} {host}\\n")
sys.addaudithook(watch)
sys.argv = ["tinyhd", *arguments]
from tinyhd_cli.__main__ import main
main()
"""
"""Runs the command, and writes down the other machines that the process looks for."""


@dataclass(frozen=True)
class Served:
    """A running page."""

    address: str
    folder: Path
    """The temporary folder in which it keeps its files."""
    process: int

    def files(self) -> set[str]:
        """Return the names of all files that it keeps."""
        return {path.name for path in self.folder.glob("tinyhd-app-*/*/*")}


@pytest.fixture(scope="session")
def served(weights_file, engine_cache, tmp_path_factory) -> Iterator[Served]:
    """Return a running page, with small limits and an untrained network."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("requires the extra app: pip install 'tinyhd[app]'")
    folder = tmp_path_factory.mktemp("page")
    environment = {**os.environ, "TMPDIR": str(folder), "TINYHD_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment["TINYHD_ENGINE_CACHE"] = str(engine_cache)
    options = ["--weights", weights_file, "--max-size", "2MB", "--max-seconds", "120"]
    command = [sys.executable, "-c", START, str(folder / "outside"), "app", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = []
            while not (lines and lines[-1].startswith("http://127.0.0.1:")):
                lines.append(process.stderr.readline())
                assert lines[-1], "".join(lines)
            yield Served(lines[-1].split()[0].rstrip("/"), folder, process.pid)
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate(timeout=30)
        finally:
            process.kill()
    assert rest == "tinyhd: interrupted\n"
    assert not list(folder.glob("tinyhd-app-*"))
    assert not (folder / "outside").exists(), (folder / "outside").read_text()
