"""Options of commands that work on many inputs: where they work, and the measurements that they publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..fields import OUTPUTS, group, option
from ..parallel import Cluster, ClusterOptions, Processes, Where
from ..storage import is_own_process_only, name_of, url_of
from .jobs import count_processes, streams

if TYPE_CHECKING:
    from ..inference.io_paths import Job
    from ..inference.model_options import ModelOptions


@dataclass(frozen=True)
class RunOptions:
    """Where a command works on its inputs, and the file with its measurements."""

    cluster: ClusterOptions = group(ClusterOptions)
    metrics: Path | None = option(
        None,
        OUTPUTS,
        "FILE",
        "Write counts of inputs, frames, and failures during the run as Prometheus text; node exporters read *.prom.",
        kind=Path,
    )

    def where(self, jobs: int | None, inputs: Sequence[Job], model: ModelOptions) -> Where:
        """Return the processes or the cluster for the inputs; one process is this one.

        Args:
            jobs: value of ``--jobs``.
            inputs: the inputs.
            model: the model, which workers of a cluster must have, too.

        Raises:
            UsageError: the number is less than 1, or a cluster cannot read the inputs.
        """
        if self.cluster.cluster is None:
            return Processes(count_processes(jobs, inputs, model.device), threads=self.cluster.threads)
        if jobs is not None:
            raise UsageError("--jobs and --cluster exclude each other; use --cluster local:N for this machine")
        if own := next((path for job in inputs for path in streams(job)), None):
            kind = "memory:// belongs to one process" if is_own_process_only(own) else "it is open in this process only"
            shown = "standard input" if str(own) == "-" and own in [job.video for job in inputs] else name_of(own)
            raise UsageError(f"--cluster: workers cannot use {shown}, because {kind}; give files or URLs")
        from ..weights import SameWeights

        paths = [path for job in inputs for path in (job.video, *job.outputs.values())]
        if model.weights is not None:
            paths.append(model.weights)
        check = SameWeights.of(model.weights or model.source)
        where = self.cluster.where(check, shared_folder=any(url_of(path) is None for path in paths))
        assert isinstance(where, Cluster)
        return where
