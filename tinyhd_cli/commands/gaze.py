"""``tinyhd gaze``: turn eye-tracking recordings into maps, an overlay, and the ceiling of a model's scores."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.gaze.options import GazeOptions, GazeOutputs
from ..errors import OK, SOME_INPUT_FAILED
from ..inference.model_options import ModelOptions
from ..inference.options import STDOUT
from ..storage import exists, fetched_tree, is_pattern, is_url, matches, path_of
from ..wording import list_names, plural
from .batch import warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import Quiet
from .progress import progress_display
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from ..apps.gaze.results import GazeResult, Observer, Scores
    from ..recordings import Problem


@with_options
def gaze(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="Video that the observers saw.", show_default=False)],
    recordings: Annotated[
        list[str],
        typer.Argument(
            metavar="RECORDING",
            help="Exports of an eye tracker, folders of them, glob patterns: one or several observers in each file.",
            show_default=False,
        ),
    ],
    *,
    outputs: GazeOutputs,
    options: GazeOptions,
    model: ModelOptions,
    quiet: Quiet = False,
) -> int:
    """Turn recorded gaze into maps and an overlay, and score a model against the agreement of the observers.

    The table shows how well the gaze of the others predicts each observer, which is the ceiling for a model. A model is
    run with --model, --weights or --overlay:
    tinyhd gaze clip.mp4 recordings/*.tsv --out study --overlay gaze.mp4
    """
    from ..apps.gaze.frames import MALLOC_KEEP_BYTES
    from ..apps.gaze.run import READING, gaze_file
    from ..system import keep_freed_memory

    keep_freed_memory(MALLOC_KEEP_BYTES)

    lost: list[Problem] = []

    def on_problem(problem: Problem) -> None:
        say(f"tinyhd: {problem}")
        if problem.lost:
            lost.append(problem)

    paths = matching(recordings)
    wanted = model.model is not None or model.weights is not None or outputs.overlay is not None
    outputs.check_inputs(video, paths)
    loaded = load(model, exact=True) if wanted else None
    with progress_display(quiet) as progress:
        result = gaze_file(
            video,
            paths,
            outputs,
            options,
            loaded,
            lambda phase: progress.video(video.name, phase=phase, unit="recording" if phase == READING else "frame"),
            on_problem,
        )
    warn_of_damage(video, result.damaged)
    if STDOUT not in (outputs.json, outputs.csv):
        show(result)
    for note, names in ({} if quiet else result.notes()).items():
        say(f"{list_names(names)}: {note}")
    for assumption in () if quiet else result.assumptions:
        say(f"{video.name}: {assumption}")
    written = [str(path) for _, path in outputs.requested() if path != STDOUT]
    if written and not quiet:
        say(f"{plural(len(result.observers), 'observer')}, {plural(result.frames, 'frame')} -> {', '.join(written)}")
    return SOME_INPUT_FAILED if lost else OK


def matching(arguments: Sequence[str]) -> list[Path]:
    """Return the files and folders of arguments: glob patterns that the shell did not expand are expanded.

    Those in stores are copied, until the command ends.
    """
    from ..inference.inputs import expanded

    paths: list[Path] = []
    for argument in arguments:
        if is_url(argument):
            paths += map(fetched_tree, in_store(argument))
            continue
        is_pattern = glob.has_magic(argument) and not Path(argument).exists()
        paths += (sorted(expanded(argument)) if is_pattern else []) or [Path(argument)]
    return paths


def in_store(url: str) -> list[Path]:
    """Return the file or folder at a URL, or those that match it as a pattern; the URL itself for none."""
    path = path_of(url)
    if not is_pattern(url) or exists(path):
        return [path]
    return [entry.path for entry in matches(url)] or [path]


def show(result: GazeResult) -> None:
    """Print the observers, the ceiling, and the model's share of it on stdout."""
    from rich.table import Table

    console = stdout_console()
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a log or a pipe has no width
    table = Table("observer", box=None, header_style="bold", pad_edge=False)
    model = [] if result.model is None else ["model NSS", "AUC", "CC"]
    for column in ("valid", "lost", "fixations", "on video", "frames", "NSS", "AUC", "CC", *model):
        table.add_column(column, justify="right", no_wrap=True)
    for observer in result.observers:
        table.add_row(*row(observer, bool(model)))
    console.print(table)
    console.print()
    for line in summary(result):
        console.print(line, soft_wrap=True)


def row(observer: Observer, model: bool) -> list[str]:
    """Return the cells of an observer."""
    from ..untrusted import printable

    facts = [percent(observer.valid), percent(observer.lost), f"{observer.fixations:,}", percent(observer.on_video)]
    scores = [*cells(observer.others), *(cells(observer.model) if model else [])]
    return [printable(observer.name), *facts, f"{observer.frames:,}", *scores]


def cells(scores: Scores | None) -> list[str]:
    """Return NSS, AUC and CC as text."""
    found = scores or {}
    return [number(found.get(name)) for name in ("NSS", "AUC", "CC")]


def summary(result: GazeResult) -> list[str]:
    """Return the lines below the table."""
    if result.ceiling is None:
        return ["Agreement cannot be measured: no frame has the gaze of two observers."]
    lines = [
        f"{sentence('Ceiling (each observer against all others)', result.ceiling.leave_one_out)}; {sigma_text(result)}",
        sentence("Halves of the observers against each other", result.ceiling.halves),
    ]
    if result.model is not None and result.share is not None:
        share = ", ".join(f"{name} {percent(value)}" for name, value in result.share.items())
        lines.append(sentence(f"{result.model.name} against each observer", result.model.leave_one_out))
        lines.append(f"Share of the ceiling above chance: {share}")
    least = result.least_agreeing()
    if least:
        named = ", ".join(f"{one.name} (NSS {number((one.others or {}).get('NSS'))})" for one in least)
        lines.append(f"Least agreement with the others: {named}")
    return lines


def sentence(subject: str, scores: Scores) -> str:
    """Return a line with the scores of a map."""
    return f"{subject}: {', '.join(f'{name} {number(value)}' for name, value in scores.items())}"


def sigma_text(result: GazeResult) -> str:
    """Return the standard deviation of the Gaussians with its unit."""
    sides = dict.fromkeys(f"{side:.1f}" for side in result.sigma)
    degrees = "" if result.sigma_deg is None else f" ({result.sigma_deg:g} deg)"
    return f"sigma {' x '.join(sides)} pixels{degrees}"


def number(value: float | None) -> str:
    """Return a score with three decimals."""
    return "-" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a fraction in percent."""
    return "-" if value is None else f"{100 * value:.1f} %"
