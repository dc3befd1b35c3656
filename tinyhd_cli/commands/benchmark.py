"""``tinyhd benchmark``: what things cost on this machine."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OK, UsageError
from ..inference.model_options import ModelOptions
from .model_options import load
from .option_fields import with_options
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from ..benchmarks.model import ModelRun
    from ..inference.model import Model

app = typer.Typer(no_args_is_help=True)


@app.callback()
def benchmark() -> None:
    """Measure what things cost on this machine."""


@app.command()
@with_options
def predict(
    *,
    short_s: Annotated[float, typer.Option("--short", metavar="SECONDS", help="Length of the short clip.")] = 10,
    long_s: Annotated[float, typer.Option("--long", metavar="SECONDS", help="Length of the long clip.")] = 600,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the clips, even numbers.")] = "640x360",
    rate: Annotated[int, typer.Option(metavar="N", help="Frames a second.")] = 30,
    model: ModelOptions,
    stages: Annotated[
        Path | None,
        typer.Option(metavar="VIDEO", help="Time each stage on this video instead, and say which one binds."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Time and peak memory of `predict --overlay` on a short and a long clip: memory must not grow with length."""
    if stages is not None:
        show_stages(stages, load(model), as_json)
        return OK
    from ..benchmarks.predict import predict_runs

    match = re.fullmatch(r"([1-9]\d*[02468]|[2468])x([1-9]\d*[02468]|[2468])", size)
    if match is None:
        raise UsageError(f"--size must be two even numbers like 640x360, not {size!r}")
    if short_s <= 0 or long_s <= 0 or rate <= 0:
        raise UsageError("--short, --long and --rate must be above 0")
    options = ["--device", model.device, "--engine", model.engine, "--precision", model.precision]
    options += ["--model", model.model] if model.model else []
    options += ["--weights", str(model.weights)] if model.weights else []
    say(f"predicting clips of {short_s:g} s and {long_s:g} s, {size} at {rate} frames a second")
    runs = predict_runs([short_s, long_s], (int(match[1]), int(match[2])), rate, options)
    growth = runs[1].peak_mb - runs[0].peak_mb
    if as_json:
        import json

        print(json.dumps({"runs": [asdict(run) for run in runs], "growth_mb": growth}, indent=2))
        return OK
    from rich.table import Table

    table = Table("clip", "frames", "seconds", "frames a second", "peak memory", box=None)
    for run in runs:
        speed = f"{run.frames / run.seconds:.1f}"
        table.add_row(f"{run.clip_s:g} s", str(run.frames), f"{run.seconds:.1f}", speed, f"{run.peak_mb:.0f} MB")
    console = stdout_console()
    console.print(table)
    console.print(f"The long clip takes {growth:+.0f} MB at its peak.", highlight=False)
    return OK


def show_stages(video: Path, loaded: Model, as_json: bool) -> None:
    """Time the stages of an overlay and print them."""
    from ..benchmarks.stages import stage_times

    found = stage_times(video, loaded)
    if as_json:
        import json

        print(json.dumps(asdict(found), indent=2))
        return
    from rich.table import Table

    table = Table("stage alone", "ms a frame", "of the processor", box=None)
    for stage in found.stages:
        table.add_row(stage.name, f"{stage.ms:.2f}", f"{stage.processor_ms:.2f}")
    console = stdout_console()
    console.print(table)
    console.print(
        f"All at once, with {found.engine} in {found.precision}: {found.frames} frames, {found.frames_per_s:.1f} a"
        f" second, {found.bound:.2f} times what {found.cores} cores need at least. Most goes into: {found.binding}."
    )


@app.command()
def model(
    models: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Networks. Default: all six.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trained weights, to see how far answers agree.")
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="How often everything is timed.")] = 5,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, too: a process for each engine.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time, operations and memory of the networks in every engine, and the ratio to PyTorch in the same run."""
    from ..models import CONFIGS, config
    from ..weights import load

    if models and weights:
        raise UsageError("--weights: its file says which network it is, none needs to be named")
    names = models or ([load(weights).config.name] if weights else [name for name in CONFIGS if name != "hd2s"])
    if rounds < 1:
        raise UsageError(f"--rounds must be above 0, not {rounds}")
    for name in names:
        if config(name).name == "hd2s":
            raise UsageError("hd2s: runs on PyTorch alone, there is nothing to compare")
    from ..benchmarks.model import costs, model_runs

    say(f"{', '.join(names)}: 16 maps of 192 x 256, {rounds} rounds")
    found = {name: costs(name) for name in names}
    runs = list(model_runs(names, rounds, weights, memory=memory))
    if as_json:
        import json

        print(json.dumps({"networks": [asdict(found[n]) for n in names], "runs": list(map(asdict, runs))}, indent=2))
        return
    from rich.table import Table

    console = stdout_console()
    for cost in found.values():
        title = f"{cost.network}: {cost.parameters:,} parameters, {cost.gmacs:.2f} G multiply-adds for 16 maps"
        table = Table("engine", "", "ms", "median", "times", "median", "CC", "MB", box=None, title=title)
        for run in runs:
            if run.network == cost.network:
                table.add_row(*cells(run))
        console.print(table)


def cells(run: ModelRun) -> tuple[str, ...]:
    """A row of the table."""
    times = (f"{run.best_ms:.0f}", f"{run.median_ms:.0f}", f"{run.ratio:.1f}", f"{run.median_ratio:.1f}")
    agreement = f"{run.correlation:.4f}" if run.correlation is not None else ""
    return run.engine, run.precision, *times, agreement, f"{run.peak_mb:.0f}" if run.peak_mb else ""


@app.command()
def metrics(
    rounds: Annotated[int, typer.Option(metavar="N", help="How often everything is timed.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Milliseconds a 360 x 640 frame for each metric, decoding apart, on one thread."""
    from ..benchmarks.metrics import metric_timings, ratio

    if rounds < 1:
        raise UsageError(f"--rounds must be above 0, not {rounds}")
    timings = metric_timings(rounds)
    faster = ratio(timings, "all eight, 100 random splits", "all eight")
    if as_json:
        import json

        values = {timing.what: {"median_ms": timing.median_ms, "best_ms": timing.best_ms} for timing in timings}
        print(json.dumps({"timings": values, "times_faster_than_random_splits": faster}, indent=2))
        return
    from rich.table import Table

    table = Table("360 x 640 uint8 maps, one thread", "median ms", "best ms", box=None)
    for timing in timings:
        table.add_row(timing.what, f"{timing.median_ms:.2f}", f"{timing.best_ms:.2f}")
    console = stdout_console()
    console.print(table)
    console.print(f"Exact expectations are {faster:.1f} times faster than 100 random splits.")


@app.command()
def train(
    model: Annotated[str, typer.Option(metavar="NAME", help="The network.")] = "tinyhd-m-quarter",
    batch: Annotated[int, typer.Option(metavar="N", help="Clips in a step.")] = 2,
    steps: Annotated[int, typer.Option(metavar="N", help="Timed steps of each kind.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Clips per second of a training step, and the ratio to PyTorch's own layers in the same run."""
    if batch < 1 or steps < 1:
        raise UsageError("--batch and --steps must be at least 1")
    from ..models import config

    if config(model).name == "hd2s":
        raise UsageError("--model hd2s: only TinyHD networks are trained here")
    from ..benchmarks.train import train_runs

    say(f"{model}, {batch} clips a step, {steps} timed steps of each kind in turn")
    runs = train_runs(model, batch, steps)
    if as_json:
        import json

        print(json.dumps({"model": model, "batch": batch, "runs": [asdict(run) for run in runs]}, indent=2))
        return
    from rich.table import Table

    table = Table("device", "step", "clips a second", "median", "ratio", box=None)
    for run in runs:
        values = (f"{run.clips_per_s:.2f}", f"{run.median_clips_per_s:.2f}", f"{run.ratio:.2f}")
        table.add_row(run.device, run.name, *values)
    stdout_console().print(table)
