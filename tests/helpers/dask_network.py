"""A Dask scheduler and workers as processes, each worker in a network namespace of its own if this is allowed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BRIDGE, SUBNET = "thbr0", "10.77.0"


def ip(*arguments, check=True):
    """Run ``ip``."""
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def namespaces_allowed():
    """Return whether this process may create network namespaces."""
    with contextlib.suppress(OSError):
        if ip("netns", "add", "thprobe", check=False).returncode == 0:
            ip("netns", "del", "thprobe")
            return ip("link", "add", BRIDGE, "type", "bridge", check=False).returncode == 0 and remove_bridge()
    return False


def remove_bridge():
    """Remove the bridge."""
    return ip("link", "del", BRIDGE, check=False).returncode == 0


class Network:
    """A scheduler and workers; use it as a context manager.

    Args:
        count: number of workers.
        folder: folder for their files.
        isolated: whether each worker gets a network namespace; otherwise all use the loopback device.
    """

    def __init__(self, count, folder, isolated):
        self.folder, self.isolated = folder, isolated
        self.names = [f"thw{number}" for number in range(count)]
        self.processes = []
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            host = "127.0.0.1"
            if self.isolated:
                host = f"{SUBNET}.1"
                self._connect(stack)
            with socket.socket() as free:
                free.bind((host, 0))
                port = free.getsockname()[1]
            self.address = f"tcp://{host}:{port}"
            options = ["--host", host, "--port", str(port), "--no-dashboard"]
            self.scheduler = self._start(stack, [], "scheduler", *options)
            for number, name in enumerate(self.names):
                inside = ["ip", "netns", "exec", name] if self.isolated else []
                host = f"{SUBNET}.{number + 11}" if self.isolated else "127.0.0.1"
                options = [self.address, "--host", host, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]
                options += ["--local-directory", str(self.folder / name), "--name", name]
                self.processes.append(self._start(stack, inside, "worker", *options))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details):
        self._stack.close()

    def _connect(self, stack):
        ip("link", "add", BRIDGE, "type", "bridge")
        stack.callback(remove_bridge)
        ip("addr", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number, name in enumerate(self.names):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name, check=False)
            ip("link", "add", f"{name}o", "type", "veth", "peer", "name", f"{name}i")
            ip("link", "set", f"{name}o", "master", BRIDGE, "up")
            ip("link", "set", f"{name}i", "netns", name)
            ip("-n", name, "addr", "add", f"{SUBNET}.{number + 11}/24", "dev", f"{name}i")
            ip("-n", name, "link", "set", f"{name}i", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def _start(self, stack, inside, kind, *options):
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "OMP_NUM_THREADS": "1"}
        log = stack.enter_context((self.folder / f"{kind}{len(self.processes)}.log").open("w"))
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", "dask", kind, *options],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=self.folder,
            start_new_session=True,
        )
        stack.callback(end, process)
        return process

    def signal(self, number, what):
        """Send a signal to the processes of a worker, which are its nanny and the worker."""
        os.killpg(self.processes[number].pid, what)

    def cut(self, number, seconds):
        """Cut the link of a worker for some time."""
        ip("link", "set", f"{self.names[number]}o", "down")
        time.sleep(seconds)
        ip("link", "set", f"{self.names[number]}o", "up")


def end(process):
    """End a session of processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
