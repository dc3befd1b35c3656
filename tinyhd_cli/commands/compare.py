"""``tinyhd compare``: compare the attention on areas of interest in versions of a design or a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import CompareOptions
from ..errors import OK, SOME_INPUT_FAILED
from ..fields import AREAS, OUTPUTS, RUN
from ..inference.model_options import ModelOptions
from ..inference.options import STDOUT
from ..storage import path_of
from ..untrusted import printable
from .batch import warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import Quiet
from .progress import progress_display
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from ..apps.compare.results import Comparison, Version


def show_schema(wanted: bool) -> None:
    """Print the JSON schema of ``--json`` and exit if ``--schema`` is given."""
    if wanted:
        from ..apps.compare.results import schema
        from ..untrusted import json_text

        print(json_text(schema()), end="")
        raise typer.Exit


@with_options
def compare(
    versions: Annotated[
        list[str],
        typer.Argument(metavar="VERSION", help="Two or more images or videos: A, B, ...", show_default=False),
    ],
    *,
    aoi: Annotated[
        list[str],
        typer.Option(
            metavar="[VERSION=]NAME=X,Y,W,H|FILE",
            help="Area of interest, as for tinyhd predict; B=FILE: only of version B. Can be repeated.",
            rich_help_panel=AREAS,
            show_default=False,
        ),
    ] = [],  # noqa: B006 (Typer copies it)
    order: Annotated[
        bool,
        typer.Option("--order", help="Name the areas in their predicted order; also draw it.", rich_help_panel=AREAS),
    ] = False,
    fail_if: Annotated[
        list[str],
        typer.Option(
            metavar="CONDITION",
            help="Exit with code 1 if this holds: 'cta < 12%', 'B.cta < A.cta', 'B.logo.order > 3'. Can be repeated.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None,
        typer.Option("--plot", "-o", metavar="FILE", help="Versions side by side, as PNG.", rich_help_panel=OUTPUTS),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="All results; - for standard output.", rich_help_panel=OUTPUTS),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One row per version and area.", rich_help_panel=OUTPUTS),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            callback=show_schema,
            is_eager=True,
            help="Print the JSON schema of --json and exit.",
            rich_help_panel=OUTPUTS,
        ),
    ] = False,
    model: ModelOptions,
    options: CompareOptions,
    quiet: Quiet = False,
) -> int:
    """Compare where people look in versions of a design or a video: which gets more attention on the areas that matter?

    tinyhd compare old.png new.png --aoi areas.json -o compare.png

    Exit codes: 0 done, 1 a condition of --fail-if holds, 2 wrong usage, 3 input unreadable, 4 weights, 5 output.
    """
    from ..apps.compare.areas import parse_version_areas
    from ..apps.compare.outputs import check_outputs, write_outputs
    from ..apps.compare.run import check_model, name_versions, prepare, run

    paths = [path_of(version) for version in versions]
    areas, own_areas = parse_version_areas(aoi, name_versions(paths))
    outputs = check_outputs({"plot": plot, "json": json, "csv": csv}, paths)
    plan = prepare(paths, areas, own_areas, fail_if, options)
    loaded = load(model, exact=True)
    check_model(loaded.spec)
    with progress_display(quiet) as progress:
        result = run(plan, loaded, progress.video)
    for version in result.versions:
        warn_of_damage(version.path, version.damaged)
    write_outputs(result, outputs, order)
    if STDOUT not in outputs.values():
        show(result, order)
    if not quiet and outputs:
        say(f"compared -> {', '.join(str(path) for path in outputs.values())}")
    for check in result.checks:
        if check.holds:
            where = f" (in {', '.join(check.versions)})" if check.versions else ""
            say(f"tinyhd: failed, because {check.condition}{where}")
    return SOME_INPUT_FAILED if result.failed else OK


def show(result: Comparison, order: bool) -> None:
    """Print the table of a comparison on stdout, and which version wins."""
    from rich.table import Table

    console = stdout_console()
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a log or a pipe has no width
    for version in result.versions:
        console.print(f"{version.label}: {describe(version)}")
    timed = ["first attended"] if result.has_time else []
    columns = ["size", *(version.id for version in result.versions), "order", *timed, "winner"]
    table = Table("area", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for area in result.areas:
        table.add_row(*row(result, area))
    console.print(table)
    for version in result.versions if order else ():
        console.print(order_of(version))
    wins = [f"{version.label} {result.wins()[version.id]}" for version in result.versions]
    console.print("Fractions of the attention; in parentheses, the change from the first version in percentage points.")
    console.print(f"Areas won, of {len(result.areas)}: {', '.join(wins)}")


def describe(version: Version) -> str:
    """Return the file, size and length of a version."""
    length = "" if version.kind == "image" else f", {version.duration_s:.1f} s"
    return f"{printable(version.path.name)}, {version.width} x {version.height}{length}"


def order_of(version: Version) -> str:
    """Return the predicted order of a version's areas as a sentence."""
    places = {name: values["order"] for name, values in version.results.items()}
    reached = sorted((place, name) for name, place in places.items() if place is not None)
    missed = [name for name, place in places.items() if place is None]
    rest = f"; not reached: {', '.join(missed)}" if missed else ""
    return f"Order in {version.label}: {' → '.join(name for _, name in reached) or 'none'}{rest}"


def row(result: Comparison, area: str) -> list[str]:
    """Return the cells of an area."""
    lead = result.lead(area)
    found = [version.results.get(area) for version in result.versions]
    first = next(iter(lead.shares.values()))
    cells = [area, " → ".join(dict.fromkeys(percent(values["size"]) for values in found if values))]
    base = next(iter(lead.shares))
    for version in result.versions:
        share = lead.shares.get(version.id)
        change = "" if share is None or version.id == base else f" ({100 * (share - first):+.1f})"
        cells.append("-" if share is None else percent(share) + change)
    places = [values["order"] if values else None for values in found]
    cells.append(" → ".join("-" if place is None else f"{place:.0f}." for place in places))
    if result.has_time:
        cells.append(" → ".join(time_of(values) for values in found))
    return [*cells, winner(result, area)]


def percent(value: float | None) -> str:
    """Return a fraction in percent."""
    return f"{100 * (value or 0.0):.1f} %"


def time_of(values: dict[str, float | None] | None) -> str:
    """Return the time at which an area is first attended."""
    if values is None or values["time_s"] is None:  # no such area, or an image
        return "-"
    return "never" if values["first_s"] is None else f"{values['first_s']:.1f} s"


def winner(result: Comparison, area: str) -> str:
    """Return the version that wins an area."""
    lead = result.lead(area)
    if len(lead.shares) < 2:
        return f"only in {next(iter(lead.shares))}"
    return "even" if lead.winner is None else f"{lead.winner} by {100 * lead.lead:.1f}"
