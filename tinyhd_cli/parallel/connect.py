"""Connect to a Dask cluster, or start one, and check that its workers fit this client before any work."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import platform
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from ..errors import TinyhdError, UsageError, one_line
from ..version import __version__
from . import remote
from .description import BATCH_SYSTEMS, REMOTE, Cluster
from .interrupts import interrupts_blocked

CONNECT_TIMEOUT_S = 10.0
"""Time in which a scheduler must accept a connection."""

FILE_ATTEMPTS = 5
"""Number of attempts to read a scheduler's file, which the scheduler may be writing."""

CHECK_TIMEOUT_S = 120.0
"""Time in which all workers must have checked the weights; the first import of PyTorch takes long on slow disks."""

CONFIGURATION = {
    "distributed.scheduler.worker-ttl": "60s",  # without a sign of life, a worker is replaced
    "distributed.scheduler.allowed-failures": 0,  # this client counts the lost workers of each item itself
    "distributed.deploy.lost-worker-timeout": "120s",  # a busy machine needs more than 15 s to start a worker again
}
"""Dask's configuration of clusters that tinyhd starts."""

CLOSE_TIMEOUT_S = 15.0
"""Time that the workers of a cluster that tinyhd started have for stopping."""

PACKAGES = ("tinyhd", "tinyhd_cli")
"""Names under which Dask finds the version of tinyhd: the distribution, and in older versions the module."""

NOISY = ("", ".client", ".core", ".scheduler", ".worker", ".nanny", ".batched", ".comm", ".deploy")
"""Loggers of Dask that report lost workers as errors, which tinyhd handles."""


SILENT = logging.CRITICAL + 1
"""Level of loggers that print nothing."""


@contextlib.contextmanager
def connected(where: Cluster) -> Iterator[Any]:
    """Connect to a cluster, or start it and close it at the end; yield Dask's client.

    Raises:
        TinyhdError: the scheduler cannot be reached, or the cluster cannot be started.
    """
    import dask

    quiet = not logging.getLogger("tinyhd").isEnabledFor(logging.DEBUG)
    for name in NOISY if quiet else ():
        logging.getLogger(f"distributed{name}").setLevel(SILENT)
    configured = dask.config.set(CONFIGURATION)
    with configured, contextlib.ExitStack() as stack:
        if where.local is not None and sys.platform != "win32":
            resource_tracker.ensure_running()  # starting it would unblock Ctrl-C for the processes that follow
        try:
            with interrupts_blocked():  # also in the threads and processes that start here
                cluster = started(where, quiet)
                if cluster is not None:
                    stack.callback(cluster.close, timeout=CLOSE_TIMEOUT_S)
                    client = client_of(cluster)
                else:
                    client = client_of(address_of(where), timeout=CONNECT_TIMEOUT_S)
                stack.callback(client.close, timeout=CLOSE_TIMEOUT_S)
        except TinyhdError:
            raise
        except Exception as error:  # another service's answer makes Dask raise any error, such as MemoryError
            raise TinyhdError(cannot_start(where, error)) from error
        yield client


def client_of(cluster: Any, **options: Any) -> Any:
    """Return Dask's client of a cluster or an address.

    It connects in a thread, because Dask waits without end for the answer of some services that are no scheduler.
    """
    import distributed

    client: Any = object.__new__(distributed.Client)
    result: Future[None] = Future()

    def connect() -> None:
        try:
            client.__init__(cluster, set_as_default=False, **options)
            result.set_result(None)
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=connect, name="tinyhd-connect", daemon=True).start()
    try:
        result.result(2 * options["timeout"] if "timeout" in options else None)
    except BaseException:
        client.status = "closed"  # otherwise, its end would wait for the scheduler, and print a traceback
        raise
    return client


def started(where: Cluster, quiet: bool) -> Any:
    """Start the processes of this machine, or the jobs of a batch system; return None for a running cluster."""
    level = SILENT if quiet else logging.INFO
    if where.local is not None:
        import distributed

        if importlib.util.find_spec("cryptography") is None:
            raise UsageError(f"--cluster {where.address} needs cryptography: pip install 'tinyhd[cluster]'")
        make_cluster: Any = distributed.LocalCluster
        # Dask would stop workers by their memory, which is the network's and not Dask's.
        return make_cluster(
            n_workers=where.local,
            threads_per_worker=1,
            memory_limit=None,
            security=True,  # TLS by a temporary certificate: others on this machine cannot send code to the processes
            silence_logs=level,
            dashboard_address="127.0.0.1:0",
        )
    if where.address in BATCH_SYSTEMS:
        try:
            import dask_jobqueue
        except ImportError as error:
            raise UsageError(f"--cluster {where.address} needs dask-jobqueue: pip install 'tinyhd[cluster]'") from error
        cluster = getattr(dask_jobqueue, BATCH_SYSTEMS[where.address])(silence_logs=level)
        count = where.workers or 1
        cluster.adapt(minimum=count, maximum=count)  # jobs that end at their time limit are submitted again
        return cluster
    return None


def address_of(where: Cluster) -> str:
    """Return the address of a running scheduler, perhaps from the file that it has written."""
    if not where.address.endswith(".json"):
        return where.address
    start = f"start a scheduler: dask scheduler --scheduler-file {where.address}"
    if not Path(where.address).is_file():
        raise UsageError(f"--cluster {where.address}: no such file; {start}")
    for _ in range(FILE_ATTEMPTS):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            address = json.loads(Path(where.address).read_bytes())["address"]
            if isinstance(address, str) and REMOTE.fullmatch(address):
                return address
        time.sleep(0.1)
    raise UsageError(f"--cluster {where.address}: is not the file of a scheduler; {start}")


def cannot_start(where: Cluster, error: Exception) -> str:
    """Return the message for a cluster that cannot be used."""
    if where.address in BATCH_SYSTEMS:
        advice = f"set jobqueue.{where.address} (cores, memory, walltime) in ~/.config/dask/jobqueue.yaml"
        return f"--cluster {where.address}: {one_line(error)}; {advice}"
    if where.local is not None:
        return f"--cluster {where.address}: the processes cannot be started: {one_line(error)}"
    return f"--cluster {where.address}: no Dask scheduler answers; start one with dask scheduler, or check the address"


def workers_of(client: Any) -> dict[str, dict[str, Any]]:
    """Return Dask's facts about each worker by its address."""
    found: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def check_versions(client: Any) -> None:
    """Refuse a scheduler or workers with another version of tinyhd or Python.

    Raises:
        TinyhdError: the first difference, with both versions.
    """
    found = client.get_versions(packages=PACKAGES)
    mine = platform.python_version()
    theirs = {"the scheduler": found["scheduler"]}
    theirs |= {f"the worker {address}": facts for address, facts in found["workers"].items()}
    for name, facts in theirs.items():
        if not isinstance(facts, dict):  # Dask's marker for a worker that has just gone
            continue
        python = ".".join(str(facts["host"]["python"]).split(".")[:3])
        if python.split(".")[:2] != mine.split(".")[:2]:
            raise TinyhdError(f"{name} has Python {python}, but this client has {mine}; use the same version on both")
        package = next(filter(None, map(facts["packages"].get, PACKAGES)), None)
        if package is None:
            raise TinyhdError(f"{name} has no tinyhd; install tinyhd {__version__} there, as on this client")
        if package != __version__:
            advice = "install the same version on both"
            raise TinyhdError(f"{name} has tinyhd {package}, but this client has {__version__}; {advice}")


def check_workers(client: Any, order: bytes) -> None:
    """Check on each worker that it can do the work, at the same time.

    Raises:
        TinyhdError: the first worker that cannot, with the reason.
    """
    from distributed import TimeoutError as DaskTimeoutError

    async def checks() -> Any:
        return await client._run(remote.check, __version__, order, on_error="return")

    try:
        found = client.sync(checks, callback_timeout=CHECK_TIMEOUT_S)
    except DaskTimeoutError as error:
        raise TinyhdError(
            f"a worker has not answered within {CHECK_TIMEOUT_S:.0f} s; remove it, and try again"
        ) from error
    for address, result in found.items():
        if isinstance(result, TinyhdError):
            raise type(result)(f"the worker {address}: {result}")
        if isinstance(result, Exception) and not isinstance(result, OSError):  # OSError: the worker has just gone
            raise TinyhdError(f"the worker {address} cannot run tinyhd: {one_line(result)}")


def wait_for_workers(client: Any, where: Cluster) -> Iterator[int]:
    """Wait for the first worker, or for as many as are wanted; yield their number while there are too few."""
    wanted = where.workers or where.local or 1
    while (count := len(workers_of(client))) < wanted:
        yield count
        time.sleep(0.2)
