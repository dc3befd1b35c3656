"""Options of an evaluation, shared by the command line and the Python API. Imports neither OpenCV nor PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import UsageError, did_you_mean
from ..fields import OUTPUTS, Adjust, group, option
from ..inference.model_options import ModelOptions
from ..layouts import DEFAULT, EXPECTED
from ..parallel import ClusterOptions

if TYPE_CHECKING:
    from ..datasets import Dataset

BaselineKind = Literal["auto", "train", "self", "gaussian", "none"]

ProtocolKind = Literal["auto", "dhf1k", "crowdsal", "object", "stdistill"]

FORMER_PROTOCOLS: dict[str, ProtocolKind] = {"fixation": "dhf1k"}
"""Protocols by their former names."""

CalibrationKind = Literal["none", "train", "part"]

OTHER_FRAMES = 10
"""Number of frames of other videos whose fixations are the negatives of shuffled AUC."""

DATA = "Dataset"
MAPS = "Maps to score"
PROTOCOL = "Protocol"

CLUSTER_HELP = {
    "cluster": "Score the videos by the workers of a Dask cluster: local:N, tcp://HOST:PORT, a scheduler's FILE.json,"
    " or slurm, pbs, lsf, sge.",
    "retries": "With --cluster: workers that may be lost during the work on one video, before the video fails.",
}
"""Help of the options of a cluster."""


@dataclass(frozen=True)
class DatasetOptions:
    """The dataset to read."""

    layout: str = option(DEFAULT, DATA, "|".join(EXPECTED), "Folder layout.", flag="dataset", kind=str)
    root: Path | None = option(
        None, DATA, "DIR", "Folder of the dataset. Default: the one that tinyhd datasets list shows.", kind=Path
    )
    split: str | None = option(
        None, DATA, "train|val|test|...", "Default: the split for which papers report results.", kind=str
    )

    def open(self) -> Dataset:
        """Find the videos of the dataset.

        Raises:
            UsageError: the folder is not given and not known, or the layout or split does not exist.
            InputError: the folder does not exist or contains no videos in this layout.
        """
        from ..datasets import open_dataset

        return open_dataset(self.layout, self.folder, self.split)

    @property
    def folder(self) -> Path:
        """The folder of the dataset: ``root``, or that of the known dataset of this name.

        Raises:
            UsageError: the folder is not given and not known.
        """
        from ..datasets.catalog import catalog, folder_of, where_to_name

        found = self.root or folder_of(self.layout)
        if found is None:
            expected = EXPECTED.get(self.layout)
            content = f", which must contain {expected} (--dataset {self.layout})" if expected else ""
            known = f"; or {where_to_name(self.layout)}" if self.layout in catalog() else ""
            raise UsageError(
                f"--root is missing: give the dataset's folder{content}{known}; "
                "tinyhd evaluate --help lists all layouts"
            )
        return found


@dataclass(frozen=True)
class PredictionSpec(ModelOptions):
    """The maps to score: of a network, from files, or the center bias. Picklable and small."""

    engine: str = option(
        "torch",
        MAPS,
        "torch|auto|fused|openvino|onnx",
        "Inference engine: torch is the reference, auto is several times faster.",
    )
    precision: str = option("auto", MAPS, "auto|float32|bf16|int8", "Numeric precision. auto: float32.")
    folder: Path | None = option(
        None,
        MAPS,
        "DIR",
        "Existing maps: NAME/0001.png, NAME.mp4 or NAME.npz for each video.",
        flag="pred-dir",
        kind=Path,
    )
    prior: bool = option(False, MAPS, "", "The center bias, which a useful model must outperform.")

    def __post_init__(self) -> None:
        sources = {"--model": self.model, "--weights": self.weights, "--pred-dir": self.folder, "--prior": self.prior}
        check_exclusive(sources)


@dataclass(frozen=True)
class EvaluationOutputs:
    """Files to write after an evaluation or a comparison; None for those not requested."""

    json: Path | None = option(None, OUTPUTS, "FILE", "All results.", kind=Path)
    csv: Path | None = option(None, OUTPUTS, "FILE", "Scores of every frame.", kind=Path)
    plot: Path | None = option(
        None, OUTPUTS, "DIR", "Plots: scores over videos and over time, best and worst frames.", kind=Path
    )

    def __post_init__(self) -> None:
        for flag, path in (("--json", self.json), ("--csv", self.csv)):
            if path is not None and path.is_dir():
                raise UsageError(f"{flag} {path}: is a folder; give the name of a file")
        if self.plot is not None and self.plot.exists() and not self.plot.is_dir():
            raise UsageError(f"--plot {self.plot}: is not a folder")


@dataclass(frozen=True)
class EvaluateOptions:
    """The protocol of an evaluation and its number of processes."""

    protocol: ProtocolKind = option(
        "auto",
        PROTOCOL,
        "auto|dhf1k|crowdsal|object|stdistill",
        "The ground truth and its metrics. dhf1k, crowdsal: fixations, as the DHF1K benchmark or the organizers of"
        " CrowdSAL score them; object: masks of objects; stdistill: masks, with MAE and maximum F as in the code of"
        " STDistill. auto: the task of the model; for maps from files, fixations if the dataset has any, else objects;"
        " for fixations, crowdsal if the dataset is crowdsal, ntire2026 or avimos, else dhf1k.",
        kind=str,
    )

    seed: int = option(0, PROTOCOL, "N", "Seed for the choice of the other videos' frames in s-AUC.")

    monte_carlo: int | None = option(
        None,
        PROTOCOL,
        "SEED",
        "Compute AUCs from random draws, as the MATLAB code does, instead of their exact expectations.",
    )

    baseline: BaselineKind = option(
        "auto",
        PROTOCOL,
        "auto|train|self|gaussian|none",
        "The center bias that IG is relative to and that --prior scores. train: fixations of the training split; self:"
        " fixations of the dataset's other videos; gaussian: a Gaussian. auto: train if available, else self.",
        kind=str,
    )

    calibrate: CalibrationKind = option(
        "none",
        PROTOCOL,
        "none|train|part",
        "Score the maps a second time after a correction of their brightness and a center prior, which are fitted to"
        " density maps. train: to those of the training split; part: to every fourth video, the others are scored.",
        kind=str,
    )

    workers: int = option(0, PROTOCOL, "N", "Number of parallel processes; 0: one per CPU core.")

    cluster: ClusterOptions = group(ClusterOptions, Adjust(help=CLUSTER_HELP))

    def __post_init__(self) -> None:
        object.__setattr__(self, "protocol", FORMER_PROTOCOLS.get(self.protocol, self.protocol))
        choices: tuple[tuple[str, str, object], ...] = (
            ("--baseline", self.baseline, BaselineKind),
            ("--protocol", self.protocol, ProtocolKind),
            ("--calibrate", self.calibrate, CalibrationKind),
        )
        for flag, value, kind in choices:
            if value not in get_args(kind):
                raise UsageError(f"{flag} {value!r} is unknown: {did_you_mean(value, get_args(kind))}")
        check_exclusive({"--workers": self.workers or None, "--cluster": self.cluster.cluster})
        if self.workers < 0:
            raise UsageError(f"--workers must be 0 or more, not {self.workers}")
        for flag, seed in (("--seed", self.seed), ("--monte-carlo", self.monte_carlo)):
            if seed is not None and seed < 0:
                raise UsageError(f"{flag} must be 0 or more, not {seed}")


def check_exclusive(values: Mapping[str, object]) -> None:
    """Raise ``UsageError`` if more than one option is set.

    Args:
        values: value of each option; None and False mean that it is not set.
    """
    flags = [flag for flag, value in values.items() if value is not None and value is not False]
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)} cannot be combined")
