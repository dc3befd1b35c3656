"""A whole evaluation: every video of a dataset, in parallel, going on where an earlier run stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..datasets import LAYOUTS, Dataset, Video, describe_left_out, open_dataset
from ..errors import InputError, OutputError, UsageError, WeightsError, describe_unexpected
from ..system import available_cores
from ..version import __version__
from ..wording import plural
from . import parallel
from .center_bias import CenterBias
from .fixations import Fixations, OnProgress, read_fixations
from .options import OTHER_FRAMES, EvaluateOptions
from .paper_tables import rows_for
from .predictions import FileSource, NetworkSource, PriorSource, Source
from .results import Results
from .resume import Finished
from .scoring import GroundTruthReader, VideoScores, score_video

BASELINE_STEP = 10
"""The training split's center bias is learned from every tenth frame: the rest would say the same."""

GPU_WORKERS = 4
"""Processes that share one GPU; each takes memory for its own copy of CUDA's libraries."""

Phase = Callable[[str], OnProgress]
"""Called with a phase's name; gives what to call as its frames are done."""


@dataclass(frozen=True)
class Maps:
    """Which maps to score: of a network, from files, or the center bias. Small enough to be sent to other processes."""

    model: str | Path | None = None
    """A name or a weight file; None for the default network, if the other two are not given."""
    device: str = "auto"
    folder: Path | None = None
    """Maps that somebody else made."""
    prior: bool = False
    """The center bias."""
    engine: str = "torch"
    """What runs the network: the reference computes what is published."""
    precision: str = "auto"
    """How exactly; ``auto`` is float32."""

    def open(self, dataset: Dataset, baseline: CenterBias | None) -> Source:
        """The maps' source; networks are loaded.

        Raises:
            WeightsError: the weights cannot be had.
            InputError: there is no such folder.
            UsageError: the center bias is asked for and there is no baseline.
        """
        if self.prior:
            if baseline is None:
                raise UsageError("--prior needs a --baseline other than none")
            return PriorSource(baseline, {video.name: index for index, video in enumerate(dataset.videos)})
        if self.folder is not None:
            return FileSource(self.folder, alone=len(dataset.videos) == 1)
        from ..inference.model import load_model

        return NetworkSource(load_model(self.model, self.device, engine=self.engine, precision=self.precision))


@dataclass(frozen=True)
class Scoring:
    """Makes the work of a worker process: scoring videos."""

    dataset: Dataset
    maps: Maps
    fixations: Fixations
    bias: Bias
    options: EvaluateOptions

    def __call__(self) -> parallel.Work:
        return self.scorer(None)

    def scorer(self, source: Source | None) -> parallel.Work:
        """What scores a video, with a source that is open already or opened here."""
        baseline = self.bias.open(self.fixations)
        opened = source or self.maps.open(self.dataset, baseline)
        truth = GroundTruthReader(self.dataset.videos, self.fixations, baseline, self.options)

        def score(index: int, done: parallel.Done) -> VideoScores:
            try:
                return score_video(index, opened, truth, done)
            except (parallel.Stopped, WeightsError):  # weights that cannot be used fail on the other videos, too
                raise
            except Exception as error:  # one video must not stop the others, whatever is wrong with it
                name = self.dataset.videos[index].name
                return VideoScores(name, failures=[f"{name}: {describe_unexpected(error)}"])

        return score


@dataclass(frozen=True)
class Bias:
    """Where the center bias comes from."""

    kind: str
    """``train``, ``self``, ``gaussian`` or ``none``."""
    training: Fixations | None = None

    def open(self, fixations: Fixations) -> CenterBias | None:
        """The center bias, beside the fixations of the set that is scored."""
        if self.kind == "none":
            return None
        if self.kind == "gaussian":
            return CenterBias(None, leave_out=False)
        if self.training is not None:
            return CenterBias(self.training, leave_out=False)
        return CenterBias(fixations, leave_out=fixations.videos > 1)

    def describe(self, fixations: Fixations) -> str:
        """What the protocol says of it."""
        if self.training is not None:
            return (
                f"fixations of {plural(self.training.frames, 'frame')} of the training split (every {BASELINE_STEP}th)"
            )
        if self.kind == "self":
            left_out = "without those of the video itself" if fixations.videos > 1 else "which is a single video"
            return f"fixations of the set itself, {left_out} ({plural(fixations.frames, 'frame')})"
        return {"gaussian": "Gaussian at the center, sigma a quarter of either side", "none": "none"}[self.kind]


def evaluate(
    dataset: Dataset,
    maps: Maps | None = None,
    options: EvaluateOptions | None = None,
    phase: Phase | None = None,
    on_video: Callable[[VideoScores], None] | None = None,
) -> Results:
    """Score maps against a dataset.

    Args:
        dataset: what :func:`tinyhd_cli.datasets.open_dataset` found.
        maps: whose maps; the default network's if None.
        options: the protocol.
        phase: told what is being done, for progress.
        on_video: told the scores of each video as soon as they are there.

    Returns:
        The scores of all videos. What could not be scored is counted in them, and said.

    Raises:
        InputError: nothing in the dataset is annotated.
        WeightsError: the network's weights cannot be had.
        UsageError: the options do not go together.
    """
    maps, options = maps or Maps(), options or EvaluateOptions()
    phase = phase or (lambda label: lambda done, total: None)
    check_annotated(dataset)
    fixations = read_fixations(dataset.videos, workers=available_cores(), progress=phase("reading fixations"))
    bias = find_bias(dataset, options, phase)
    scoring = Scoring(dataset, maps, fixations, bias, options)
    source = maps.open(dataset, bias.open(fixations))
    protocol = describe_protocol(options, fixations, bias)
    where = {"layout": dataset.layout, "root": str(dataset.root), "split": dataset.split}
    finished = Finished(
        {
            "tinyhd": __version__,
            "dataset": {**where, "root": str(dataset.root.resolve())},
            "videos": [video.name for video in dataset.videos],
            "fixations": fixations.key,
            "training": bias.training.key if bias.training else "",
            "prediction": source.describe(),
            "protocol": protocol,
        }
    )
    scores = run(scoring, source, finished, phase("scoring"), on_video or (lambda video: None))
    return Results(
        videos=tuple(scores),
        dataset={**where, "videos": len(dataset.videos), "official": official(dataset)},
        prediction=source.describe(),
        protocol=protocol,
        published=rows_for(dataset.layout, source.config.name) if isinstance(source, NetworkSource) else (),
        notes=tuple(general_notes(dataset, fixations)),
    )


def open_maps(dataset: Dataset, maps: Maps, options: EvaluateOptions) -> Source:
    """The source of maps as :func:`evaluate` opens it, to look at some of them again."""
    silent: Phase = lambda label: lambda done, total: None  # noqa: E731
    fixations = read_fixations(dataset.videos, workers=available_cores())
    return maps.open(dataset, find_bias(dataset, options, silent).open(fixations))


def check_annotated(dataset: Dataset) -> None:
    """Refuse a dataset of which nothing can be scored."""
    if any(video.annotated for video in dataset.videos):
        return
    if dataset.official is not None and dataset.official.held_out:
        raise InputError(
            f"{dataset.root}: the annotations of the {dataset.split} split are held out by the publishers of"
            f" {dataset.layout}, so there is nothing to score; --submission DIR writes the maps that they ask for"
        )
    raise InputError(f"{dataset.root}: no video has annotations (tinyhd evaluate --check says what is there)")


def find_bias(dataset: Dataset, options: EvaluateOptions, phase: Phase) -> Bias:
    """Where the center bias is to come from, having read the training split if that is it."""
    kind = options.baseline
    if kind not in ("auto", "train"):
        return Bias(kind)
    training: tuple[Video, ...] = ()
    if "train" in LAYOUTS[dataset.layout].splits and dataset.split != "train":
        with contextlib.suppress(InputError):
            training = open_dataset(dataset.layout, dataset.root, "train").videos
    if any(video.fixations for video in training):
        progress = phase("reading fixations of the training split")
        return Bias("train", read_fixations(training, BASELINE_STEP, available_cores(), progress))
    if kind == "train":
        raise UsageError(f"--baseline train: {dataset.root} has no annotated training split beside this one")
    return Bias("self")


def describe_protocol(options: EvaluateOptions, fixations: Fixations, bias: Bias) -> dict[str, Any]:
    """How the numbers are made: all that a reader of a paper needs to repeat them."""
    monte_carlo = options.monte_carlo
    return {
        "metrics": "as the MATLAB code of the DHF1K benchmark (cvzoya/saliency)",
        "resize": "maps to the ground truth's size, bicubic as MATLAB's imresize; ground truth never",
        "frames": "all annotated frames",
        "mean": "over all frames in which a metric is defined; macro_mean: over videos",
        "aucs": "exact expectations" if monte_carlo is None else f"100 random splits, seed {monte_carlo}",
        "seed": options.seed,
        "other_fixations": f"of {OTHER_FRAMES} random frames of other videos"
        if fixations.videos > 1
        else "none: there is no other video, so no s-AUC",
        "baseline": bias.describe(fixations),
    }


def general_notes(dataset: Dataset, fixations: Fixations) -> Iterable[str]:
    """What a reader of the numbers must know besides."""
    known = dataset.official
    if known is not None and known.videos != len(dataset.videos):
        yield f"{len(dataset.videos)} of the split's {known.videos} videos are here: not comparable to published scores"
    if dataset.left_out:
        yield describe_left_out(dataset.left_out)
    if fixations.videos <= 1:
        yield "s-AUC is left out: its negatives are fixations of other videos, and there is no other"


def official(dataset: Dataset) -> dict[str, Any] | None:
    """The publisher's counts, for the results."""
    return asdict(dataset.official) if dataset.official else None


def pick_workers(options: EvaluateOptions, source: Source, videos: int) -> int:
    """How many processes score side by side."""
    wanted = options.workers or available_cores()
    if not options.workers and isinstance(source, NetworkSource) and source.model.device.type != "cpu":
        wanted = min(wanted, GPU_WORKERS) if source.model.device.type == "cuda" else 1
    return max(1, min(wanted, videos))


def run(
    scoring: Scoring,
    source: Source,
    finished: Finished,
    progress: OnProgress,
    on_video: Callable[[VideoScores], None],
) -> list[VideoScores]:
    """Score the videos that are not finished yet, and give the scores of all."""
    videos = scoring.dataset.videos
    files = [[*source.files(video), *video.densities.values(), *video.fixations.values()] for video in videos]
    scores: dict[int, VideoScores] = {}
    for index, video in enumerate(videos):
        earlier = finished.get(video.name, files[index])
        if earlier is not None:
            scores[index] = earlier
            on_video(replace(earlier))
    frames = [len({*video.densities, *video.fixations}) for video in videos]
    before, total = sum(frames[index] for index in scores), sum(frames)
    left = [index for index in range(len(videos)) if index not in scores]
    workers = pick_workers(scoring.options, source, len(left))
    make_work = (lambda: scoring.scorer(source)) if workers == 1 else scoring
    threads = max(1, available_cores() // workers)
    for index, result in parallel.run(make_work, left, workers, threads, lambda done: progress(before + done, total)):
        scores[index] = result
        with contextlib.suppress(OutputError):  # a cache that cannot be written is done without
            finished.put(result, files[index])
        on_video(result)
    finished.clear()
    return [scores[index] for index in range(len(videos))]
