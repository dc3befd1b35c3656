"""Which cluster works on the inputs of a command. Imports no Dask, so that ``--help`` stays fast."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UsageError, did_you_mean
from ..fields import RUN, option

BATCH_SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
"""Class of dask-jobqueue for each batch system."""

LOCAL = re.compile(r"local:(\d+)")
"""Matches a cluster of processes of this machine."""

REMOTE = re.compile(r"(tcp|tls|ws|wss|ucx)://.+")
"""Matches the address of a Dask scheduler."""


@dataclass(frozen=True)
class Cluster:
    """Workers of a Dask cluster.

    ``address`` is that of ``--cluster``: ``local:N``, the address or the file of a scheduler, or a batch system.
    """

    address: str
    workers: int | None = None
    """Number of workers to start in a batch system, or to wait for."""
    retries: int = 3
    """Number of workers that may be lost while they work on an item, before it fails."""
    threads: int | None = None
    """CPU threads of each worker; None: those that Dask counts for the worker."""
    check: Callable[[], None] | None = None
    """Picklable; called once on each worker before the work, and raises ``TinyhdError`` if it cannot work.

    Workers keep what they have prepared for runs with an equal check: it must differ when files have changed that the
    preparation reads, such as weights.
    """
    shared_folder: bool = True
    """Whether items have paths that are relative to the current folder, so that workers must be in it, too."""

    @property
    def local(self) -> int | None:
        """Number of processes of this machine; None for another cluster."""
        found = LOCAL.fullmatch(self.address)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class ClusterOptions:
    """Options of commands that can work on a cluster."""

    cluster: str | None = option(
        None,
        RUN,
        "ADDRESS",
        "Work on a Dask cluster: local:N, tcp://HOST:PORT, a scheduler's FILE.json, or slurm, pbs, lsf, sge.",
    )
    cluster_workers: int | None = option(
        None, RUN, "N", "Number of workers to start with slurm, pbs, lsf, sge, or to wait for with other clusters."
    )
    retries: int = option(
        3, RUN, "N", "With --cluster: workers that may be lost during the work on one input, before the input fails."
    )
    threads: int | None = option(None, RUN, "N", "CPU threads of each process. Default: its share of the cores.")

    def __post_init__(self) -> None:
        for name, value in (
            ("cluster-workers", self.cluster_workers),
            ("retries", self.retries),
            ("threads", self.threads),
        ):
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value}: give at least 1")
        if self.cluster is None:
            if self.cluster_workers is not None:
                raise UsageError("--cluster-workers needs --cluster, such as --cluster slurm")
            return
        found = LOCAL.fullmatch(self.cluster)
        if found and int(found[1]) < 1:
            raise UsageError(f"--cluster {self.cluster}: give at least local:1")
        known = found or REMOTE.fullmatch(self.cluster) or self.cluster in BATCH_SYSTEMS
        if not known and not self.cluster.endswith(".json"):
            advice = did_you_mean(self.cluster, ["local:2", "tcp://HOST:8786", "scheduler.json", *BATCH_SYSTEMS])
            raise UsageError(f"--cluster {self.cluster}: unknown; {advice}")
        import importlib.util  # 10 ms that only this option should cost

        if importlib.util.find_spec("distributed") is None:
            raise UsageError("--cluster needs Dask: pip install 'tinyhd[cluster]'")

    @property
    def is_remote(self) -> bool:
        """Whether workers may be on other machines."""
        return self.cluster is not None and LOCAL.fullmatch(self.cluster) is None

    def where(self, check: Callable[[], None] | None = None, shared_folder: bool = True) -> Cluster | None:
        """Return the cluster; None without ``--cluster``. See :class:`Cluster` for the arguments."""
        if self.cluster is None:
            return None
        return Cluster(self.cluster, self.cluster_workers, self.retries, self.threads, check, shared_folder)
