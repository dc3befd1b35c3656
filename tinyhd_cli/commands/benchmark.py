"""``tinyhd benchmark``: measure speed and memory on this machine."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OK, UsageError
from ..inference.model_options import ModelOptions
from .model_options import load
from .option_fields import with_options
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from ..benchmarks.cost import Cost
    from ..benchmarks.model import ModelRun
    from ..benchmarks.predict import PredictRun
    from ..inference.model import Model

app = typer.Typer(no_args_is_help=True)

EVEN = r"([1-9]\d*[02468]|[2468])"
"""A positive even number."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Rounds = Annotated[int, typer.Option(metavar="N", help="Number of measurements of each operation.")]


@app.callback()
def benchmark() -> None:
    """Measure speed and memory on this machine."""


@app.command()
@with_options
def predict(
    *,
    short_s: Annotated[float, typer.Option("--short", metavar="SECONDS", help="Length of the short clip.")] = 10,
    long_s: Annotated[float, typer.Option("--long", metavar="SECONDS", help="Length of the long clip.")] = 600,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the clips, even numbers.")] = "640x360",
    rate: Annotated[int, typer.Option(metavar="N", help="Frames per second of the clips.")] = 30,
    model: ModelOptions,
    stages: Annotated[
        Path | None,
        typer.Option(metavar="VIDEO", help="Time each stage on this video instead, and name the bottleneck."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Measure time and peak memory of `predict --overlay` for a short and a long clip; memory must not grow."""
    if stages is not None:
        show_stages(stages, load(model), as_json)
        return OK
    from ..benchmarks import predict_runs

    width, height = parse_size(size)
    if short_s <= 0 or long_s <= 0 or rate <= 0:
        raise UsageError("--short, --long and --rate must be above 0")
    options = ["--device", model.device, "--engine", model.engine, "--precision", model.precision]
    options += ["--model", model.model] if model.model else []
    options += ["--weights", str(model.weights)] if model.weights else []
    say(f"predicting clips of {short_s:g} s and {long_s:g} s, {size} at {rate} frames per second")
    runs = predict_runs([short_s, long_s], (width, height), rate, options)
    growth = runs[1].peak_mb - runs[0].peak_mb
    if as_json:
        print_json({"runs": [asdict(run) for run in runs], "growth_mb": growth})
        return OK
    show_predict_runs(runs, growth)
    return OK


def parse_size(size: str) -> tuple[int, int]:
    """Return width and height of a ``--size``; ``UsageError`` unless both are even."""
    match = re.fullmatch(f"{EVEN}x{EVEN}", size)
    if match is None:
        raise UsageError(f"--size must be two even numbers like 640x360, not {size!r}")
    return int(match[1]), int(match[2])


def print_json(values: Any) -> None:
    """Print plain values as JSON on stdout."""
    import json

    print(json.dumps(values, indent=2))


def show_predict_runs(runs: list[PredictRun], growth: float) -> None:
    """Print the time and peak memory of each clip.

    Args:
        runs: the measurements.
        growth: difference in peak memory, in 10^6 bytes.
    """
    from rich.table import Table

    table = Table("clip", "frames", "seconds", "frames per second", "peak memory", box=None)
    for run in runs:
        speed = f"{run.frames / run.seconds:.1f}"
        table.add_row(f"{run.clip_s:g} s", str(run.frames), f"{run.seconds:.1f}", speed, f"{run.peak_mb:.0f} MB")
    console = stdout_console()
    console.print(table)
    console.print(f"Difference in peak memory: {growth:+.0f} MB for the long clip.", highlight=False)


def show_stages(video: Path, loaded: Model, as_json: bool) -> None:
    """Time the stages of an overlay and print the times."""
    from ..benchmarks import stage_times

    found = stage_times(video, loaded)
    if as_json:
        print_json(asdict(found))
        return
    from rich.table import Table

    table = Table("stage alone", "ms per frame", "CPU ms per frame", box=None)
    for stage in found.stages:
        table.add_row(stage.name, f"{stage.ms:.2f}", f"{stage.cpu_ms:.2f}")
    console = stdout_console()
    console.print(table)
    console.print(
        f"All stages together, {found.engine} in {found.precision}: {found.frames} frames at {found.frames_per_s:.1f}"
        f" fps, {found.overhead:.2f} times the ideal time on {found.cores} cores. Bottleneck: {found.bottleneck}."
        f" Decoding and encoding alone: {found.copied_per_s:.1f} fps. CPU time: {found.cpu_ms:.1f} ms per frame,"
        f" {found.cpu_ms / found.copied_cpu_ms:.2f} times that of decoding and encoding alone. Encoding frames without"
        f" maps: {found.encode_source_cpu_ms:.2f} ms of CPU time."
    )


@app.command()
def model(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]",
            help="Networks. Default: all that can be trained and have at most 40 million parameters.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trained weights, to compare the maps of the engines too.")
    ] = None,
    rounds: Rounds = 5,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too, in one process per engine.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure networks in every engine: time, operations, memory, and the speed relative to PyTorch in the same run."""
    from ..benchmarks.networks import MAPS, engine_networks
    from ..models import named_spec
    from ..weights import load

    if models and weights:
        raise UsageError("--weights: the file determines the network; give no name")
    names = models or ([load(weights).spec.name] if weights else engine_networks())
    if rounds < 1:
        raise UsageError(f"--rounds must be above 0, not {rounds}")
    sizes = [named_spec(name).input_size for name in names]  # raises an error for an unknown name
    from ..benchmarks import costs, model_runs

    shown = ", ".join(dict.fromkeys(f"{height} x {width}" for height, width in sizes))
    say(f"{', '.join(names)}: {MAPS} maps of {shown}, {rounds} rounds")
    found = [costs(name) for name in names]
    runs = list(model_runs(names, rounds, weights, memory=memory))
    if as_json:
        print_json({"networks": list(map(asdict, found)), "runs": list(map(asdict, runs))})
        return
    show_model_runs(found, runs)


def show_model_runs(found: list[Cost], runs: list[ModelRun]) -> None:
    """Print one table for each network, with one row per engine."""
    from rich.table import Table

    console = stdout_console()
    for cost in found:
        title = (
            f"{cost.network}: {cost.parameters:,} parameters, {cost.macs / 1e6:.1f} M multiply-adds per map,\n"
            f"activations: {cost.activation_mb:.2f} MB at the peak, {cost.outputs_mb:.2f} MB in total"
        )
        columns = ("engine", "", "ms", "median", "maps/s", "times", "median", "CC", "MB")
        table = Table(*columns, box=None, title=title)
        for run in runs:
            if run.network == cost.network:
                table.add_row(*cells(run))
        console.print(table)


def cells(run: ModelRun) -> tuple[str, ...]:
    """Return a row of the table."""
    digits = 0 if run.median_ms >= 100 else 1
    times = (f"{run.best_ms:.{digits}f}", f"{run.median_ms:.{digits}f}", f"{run.maps_per_s:,.0f}")
    ratios = (f"{run.ratio:.1f}", f"{run.median_ratio:.1f}")
    correlation = f"{run.correlation:.4f}" if run.correlation is not None else ""
    return run.engine, run.precision, *times, *ratios, correlation, f"{run.peak_mb:.0f}" if run.peak_mb else ""


@app.command()
def metrics(rounds: Rounds = 50, as_json: AsJson = False) -> None:
    """Measure the milliseconds of the metrics per frame, beside those of decoding, on one thread."""
    from ..benchmarks.metrics import crowdsal_timings, metric_timings, object_timings, ratio

    if rounds < 1:
        raise UsageError(f"--rounds must be above 0, not {rounds}")
    timings, of_crowdsal, of_objects = metric_timings(rounds), crowdsal_timings(rounds), object_timings(rounds)
    speedup = ratio(timings, "all eight, 100 random splits", "all eight")
    object_speedup = ratio(of_objects, "all nine, pixel by pixel", "all nine, sharp map")
    if as_json:
        values, crowdsal_values, object_values = (
            {timing.name: {"median_ms": timing.median_ms, "best_ms": timing.best_ms} for timing in kind}
            for kind in (timings, of_crowdsal, of_objects)
        )
        speedups = {"times_faster_than_random_splits": speedup, "times_faster_than_pixel_by_pixel": object_speedup}
        found = {"timings": values, "crowdsal_timings": crowdsal_values, "object_timings": object_values}
        print_json({**found, **speedups})
        return
    from rich.table import Table

    console = stdout_console()
    tables = {
        "360 x 640 uint8 maps, one thread": timings,
        "protocol crowdsal, all four": of_crowdsal,
        "salient objects": of_objects,
    }
    for title, kind in tables.items():
        table = Table(title, "median ms", "best ms", box=None)
        for timing in kind:
            table.add_row(timing.name, f"{timing.median_ms:.2f}", f"{timing.best_ms:.2f}")
        console.print(table)
    console.print(f"Exact expectations are {speedup:.1f} times faster than 100 random splits.")
    console.print(f"The metrics of salient objects are {object_speedup:,.0f} times faster than pixel by pixel.")


@app.command()
def teacher(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Weights of the teacher.")],
    student: Annotated[
        str | None, typer.Option(metavar="NAME", help="The student. Default: the network of the default weights.")
    ] = None,
    teacher_step: Annotated[int, typer.Option(metavar="N", help="As for `tinyhd distill`.")] = 1,
    rounds: Rounds = 5,
    as_json: AsJson = False,
) -> None:
    """Measure the time for a teacher's maps of one clip, in PyTorch and in the engine that `distill` uses on a CPU."""
    if rounds < 1:
        raise UsageError("--rounds must be at least 1")
    from ..benchmarks import teacher_runs
    from ..benchmarks.networks import trainable_network

    network = trainable_network(student)
    say(f"maps of one clip of {network.name}, {rounds} rounds, the engines in turn")
    runs = teacher_runs(name, network.name, teacher_step, rounds)
    if as_json:
        print_json({"teacher": name, "student": network.name, "runs": [asdict(run) for run in runs]})
        return
    from rich.table import Table

    table = Table("engine", "s per clip", "median", "frames per second", "ratio", "difference", box=None)
    for run in runs:
        values = (f"{run.clip_s:.3f}", f"{run.median_clip_s:.3f}", f"{run.frames_per_s:.0f}", f"{run.ratio:.2f}")
        table.add_row(run.engine, *values, f"{run.difference:.0e}")
    stdout_console().print(table)


@app.command()
def train(
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network. Default: that of the default weights.")
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Clips in a step.")] = 2,
    steps: Annotated[int, typer.Option(metavar="N", help="Number of timed steps of each kind.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Measure the clips per second of training steps, and the speed relative to PyTorch's layers in the same run."""
    if batch < 1 or steps < 1:
        raise UsageError("--batch and --steps must be at least 1")
    from ..benchmarks.networks import trainable_network

    name = trainable_network(model).name
    from ..benchmarks import train_runs

    say(f"{name}, {batch} clips per step, {steps} timed steps of each kind in turn")
    runs = train_runs(name, batch, steps)
    if as_json:
        print_json({"model": name, "batch": batch, "runs": [asdict(run) for run in runs]})
        return
    from rich.table import Table

    table = Table("device", "step", "clips per second", "median", "ratio", box=None)
    for run in runs:
        values = (f"{run.clips_per_s:.2f}", f"{run.median_clips_per_s:.2f}", f"{run.ratio:.2f}")
        table.add_row(run.device, run.name, *values)
    stdout_console().print(table)
