"""A whole evaluation: score every video of a dataset, several at a time; resume an interrupted run."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import storage, weights
from ..callbacks import OnProgress, StartPhase, no_phases
from ..datasets import LAYOUTS, Dataset, Video
from ..errors import InputError, OutputError, TinyhdError, UsageError, WeightsError, describe_unexpected
from ..metrics.frame import FixationProtocol
from ..metrics.object_scores import ObjectProtocol
from ..parallel import Processes, Where
from ..system import available_cores
from ..version import __version__
from .calibration import Calibration, fit_calibration
from .center_bias import choose_baseline
from .crowdsal_truth import CrowdsalTruth
from .each_video import Item, OnFrame, Work, each_video, files_to_copy
from .fixations import read_fixations
from .ground_truth import FixationTruth, GroundTruth, MaskTruth
from .options import EvaluateOptions, PredictionSpec
from .paper_tables import rows_for
from .predictions import NetworkSource, PredictionSource, open_predictions
from .protocol import check_annotated, choose_protocol, dataset_notes, describe_dataset
from .results import Results
from .resume import FinishedVideos
from .scoring import VideoScores, score_video

GPU_WORKERS = 4
"""Maximum number of processes that share one GPU; each loads its own copy of CUDA's libraries into memory."""


@dataclass(frozen=True)
class Scoring:
    """Factory of the function that scores videos. Picklable, so that every worker process can call it."""

    names: tuple[str, ...]
    """The names of the dataset's videos."""
    predictions: PredictionSpec
    ground_truth: GroundTruth
    calibration: Calibration | None = None

    def __call__(self) -> Work:
        return self.scorer(None)

    def scorer(self, source: PredictionSource | None) -> Work:
        """Return the function that scores a video.

        Args:
            source: an open source of maps; None to open one.
        """
        opened = source or open_predictions(self.predictions, self.names, self.ground_truth.center_bias())
        reader = self.ground_truth.reader()

        def score(item: Item, on_frame: OnFrame) -> VideoScores:
            index, video = item.index, item.video
            try:
                with storage.copied(item.files):
                    return score_video(
                        index, video, opened, self.ground_truth, reader, on_frame, self.calibration_for(video)
                    )
            except InputError as error:  # of a store
                return VideoScores(video.name, failures=[str(error)])
            except WeightsError:  # unusable weights would fail on all other videos, too
                raise
            except Exception as error:  # an error in one video must not stop the others
                return VideoScores(video.name, failures=[f"{video.name}: {describe_unexpected(error)}"])

        return score

    def calibration_for(self, video: Video) -> Calibration | None:
        """Return the calibration of a video; None for a video that it was fitted to."""
        fitted = self.calibration is not None and video.name in self.calibration.videos
        return None if fitted else self.calibration


def evaluate(
    dataset: Dataset,
    predictions: PredictionSpec | None = None,
    options: EvaluateOptions | None = None,
    start_phase: StartPhase = no_phases,
    on_video: Callable[[VideoScores], None] | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Results:
    """Score maps against a dataset.

    Args:
        dataset: result of :func:`tinyhd_cli.datasets.open_dataset`.
        predictions: the maps to score; None for those of the default network.
        options: the protocol.
        start_phase: called with the name of each phase; returns its progress callback.
        on_video: called with the scores of each video as soon as they are computed.
        notify: called with remarks on a cluster, such as the address of its dashboard.

    Returns:
        The scores of all videos. Frames that could not be scored are counted and listed in them.

    Raises:
        InputError: no video has annotations.
        WeightsError: the network's weights cannot be loaded.
        UsageError: the options contradict each other, or the dataset lacks the ground truth of the network's task.
    """
    predictions, options = predictions or PredictionSpec(), options or EvaluateOptions()
    check_annotated(dataset)
    readiness = check_place(dataset, predictions, options)
    source, ground_truth = open_both(dataset, predictions, options, start_phase)
    where = place_to_work(options, [source], len(dataset.videos), readiness)
    calibration = fit_calibration(dataset, predictions, options, where, source.files, start_phase)
    scoring = Scoring(dataset.names, predictions, ground_truth, calibration)
    finished = finished_videos(dataset, scoring, source)
    scores = score_all(dataset, scoring, source, where, finished, start_phase, on_video or (lambda video: None), notify)
    return Results(
        videos=tuple(scores),
        dataset=describe_dataset(dataset),
        prediction=source.describe(),
        protocol=ground_truth.describe(),
        published=rows_for(dataset.layout, source.spec.name) if isinstance(source, NetworkSource) else (),
        notes=(*dataset_notes(dataset), *ground_truth.notes()),
        calibration=calibration.to_dict() if calibration else None,
    )


def finished_videos(dataset: Dataset, scoring: Scoring, source: PredictionSource) -> FinishedVideos:
    """Return the scores that an interrupted run with the same data, maps and protocol saved."""
    return FinishedVideos(
        {
            "tinyhd": __version__,
            "dataset": {"layout": dataset.layout, "root": name_of_root(dataset.root), "split": dataset.split},
            "videos": list(dataset.names),
            **scoring.ground_truth.keys(),
            "prediction": source.describe(),
            "protocol": scoring.ground_truth.describe(),
            "calibration": scoring.calibration.to_dict() if scoring.calibration else None,
        }
    )


def name_of_root(root: Path) -> str:
    """Return the complete path of a dataset's folder, or its URL."""
    return storage.name_of(root) if storage.url_of(root) else str(root.resolve())


def open_both(
    dataset: Dataset, predictions: PredictionSpec, options: EvaluateOptions, start_phase: StartPhase = no_phases
) -> tuple[PredictionSource, GroundTruth]:
    """Return the source of maps and the ground truth that :func:`evaluate` uses."""
    if predictions.folder is not None:
        storage.mirror(predictions.folder)
    source = None if predictions.prior else open_predictions(predictions, dataset.names)
    spec = source.spec if isinstance(source, NetworkSource) else None
    protocol = choose_protocol(dataset, spec, options)
    if predictions.prior and protocol in ("object", "stdistill"):
        raise UsageError("--prior is the center bias of fixations: it is not scored against masks of objects")
    ground_truth = read_ground_truth(dataset, protocol, predictions, options, start_phase)
    return source or open_predictions(predictions, dataset.names, ground_truth.center_bias()), ground_truth


def read_ground_truth(
    dataset: Dataset,
    protocol: FixationProtocol | ObjectProtocol,
    predictions: PredictionSpec,
    options: EvaluateOptions,
    start_phase: StartPhase,
) -> GroundTruth:
    """Return the ground truth of a protocol, with the center bias if scores or maps depend on it."""
    if protocol in ("object", "stdistill"):
        return MaskTruth(protocol, LAYOUTS[dataset.layout].sparse)
    if protocol == "crowdsal" and not predictions.prior:
        return CrowdsalTruth()
    fixations = read_fixations(dataset.videos, workers=available_cores(), progress=start_phase("reading fixations"))
    if options.cluster.is_remote:
        fixations = fixations.in_memory()
    bias = choose_baseline(dataset, fixations, options, start_phase)
    if protocol == "crowdsal":
        return CrowdsalTruth(bias, fixations.key)
    return FixationTruth(options, fixations, bias)


@dataclass(frozen=True)
class Readiness:
    """Checks whether a worker of a cluster sees the data and has the same weights. Picklable."""

    folders: tuple[Path, ...]
    networks: tuple[weights.SameWeights, ...] = ()
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Differs between runs, so that no worker keeps what it has read: files of maps may have changed since."""

    @classmethod
    def of(cls, folders: Sequence[Path], predictions: Sequence[PredictionSpec], options: EvaluateOptions) -> Readiness:
        """Return the check; without a cluster, it reads no weights.

        Args:
            folders: the folders of the data and of maps.
            predictions: the sources of maps.
            options: name the cluster.
        """
        names = [
            one.weights or one.model or weights.default_name()
            for one in predictions
            if one.folder is None and not one.prior and options.cluster.cluster is not None
        ]
        return cls(tuple(folders), tuple(map(weights.SameWeights.of, names)))

    def __call__(self) -> None:
        for folder in self.folders:
            if storage.url_of(folder) is None and not folder.exists():
                raise InputError(f"{folder}: no such folder there; workers need the same files at the same places")
        for check in self.networks:
            check()


def check_place(dataset: Dataset, predictions: PredictionSpec, options: EvaluateOptions) -> Readiness:
    """Return the check of a cluster's workers; ``UsageError`` if they cannot see the data."""
    folders = [dataset.root, *([predictions.folder] if predictions.folder else [])]
    if options.cluster.cluster is not None and any(map(storage.is_own_process_only, folders)):
        raise UsageError("--cluster: files in memory:// belong to one process; use another store, such as s3://")
    return Readiness.of(folders, [predictions], options)


def place_to_work(
    options: EvaluateOptions, sources: Sequence[PredictionSource], videos: int, readiness: Readiness
) -> Where | None:
    """Return where ``videos`` videos are worked on, given the sources of maps; None for this process."""
    if any(map(storage.is_own_process_only, readiness.folders)):
        return None
    relative = any(storage.url_of(folder) is None and not folder.is_absolute() for folder in readiness.folders)
    if cluster := options.cluster.where(readiness, shared_folder=relative):
        return cluster
    wanted = options.workers or available_cores()
    others = {source.model.device for source in sources if isinstance(source, NetworkSource)} - {"cpu"}
    if others and not options.workers:
        wanted = min(wanted, GPU_WORKERS) if all(device.startswith("cuda") for device in others) else 1
    count = min(wanted, videos)
    return Processes(count, "--workers", options.cluster.threads) if count > 1 else None


def count_frames(videos: Sequence[Video], ground_truth: GroundTruth, progress: OnProgress) -> list[int | None]:
    """Return the number of annotated frames of each video; None if a file in a store would have to be read for that.

    Local lists of fixations are read for that, the first time.
    """
    counts: list[int | None] = []
    for video in videos:
        whole = [path for path in (video.density_video, video.fixation_list) if path is not None]
        unknown = any(storage.url_of(path) is not None for path in whole)
        counts.append(None if unknown else len(ground_truth.numbers(video)))
        progress(sum(filter(None, counts)), None)
    return counts


def score_all(
    dataset: Dataset,
    scoring: Scoring,
    source: PredictionSource,
    where: Where | None,
    finished: FinishedVideos,
    start_phase: StartPhase,
    on_video: Callable[[VideoScores], None],
    notify: Callable[[str], None],
) -> list[VideoScores]:
    """Score the videos that are not finished yet; return the scores of all videos in the dataset's order."""
    videos, ground_truth = dataset.videos, scoring.ground_truth
    files = [[*source.files(video), *ground_truth.files(video)] for video in videos]
    scores: dict[int, VideoScores] = {}
    for index, video in enumerate(videos):
        earlier = finished.get(video.name, files[index])
        if earlier is not None:
            scores[index] = earlier
            on_video(replace(earlier))
    frames = count_frames(videos, ground_truth, start_phase("finding frames"))
    progress = start_phase("scoring")
    before = sum(frames[index] or 0 for index in scores)
    total = None if None in frames else sum(filter(None, frames))
    remaining = [
        Item(index, video, files_to_copy(video, files[index]))
        for index, video in enumerate(videos)
        if index not in scores
    ]
    if isinstance(where, Processes) and len(remaining) < 2:  # too few for starting processes
        where = None
    make_work = scoring if where else lambda: scoring.scorer(source)

    unfinished = set()

    def report(done: int) -> None:
        progress(before + done, total)

    def lose(item: Item, error: TinyhdError) -> VideoScores:
        unfinished.add(item.index)
        return VideoScores(item.video.name, failures=[f"{item.video.name}: {error}"])

    for index, result in each_video(make_work, remaining, where, report, lose, notify):
        scores[index] = result
        if index not in unfinished:
            with contextlib.suppress(OutputError):  # without a writable cache, the run is complete, but cannot resume
                finished.put(result, files[index])
        on_video(result)
    if not unfinished:  # otherwise, the next run scores only the videos whose processes were killed
        finished.clear()
    return [scores[index] for index in range(len(videos))]
