"""``tinyhd datasets``: list and show the datasets that tinyhd knows, download and check them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OK, SOME_INPUT_FAILED, UsageError
from ..untrusted import json_text, printable
from ..wording import plural
from .terminal import file_size, loading, say, stdout_console

if TYPE_CHECKING:
    from ..datasets.download import Plan

app = typer.Typer(no_args_is_help=True)

NOT_KNOWN = "not known"

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]


@app.callback()
def datasets() -> None:
    """List, show, download and check datasets."""


@app.command("list")
def show_all() -> None:
    """List all known datasets, and where they are."""
    from rich.table import Table

    from ..datasets.catalog import catalog, folder_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "ground truth", "license", "where"):
        table.add_column(name, no_wrap=name != "where", overflow="fold")
    for info in catalog().values():
        folder = folder_of(info.name)
        where = str(folder) if folder else "not on this machine, on the Hub" if info.hub else "not on this machine"
        truth = {"fixation": "fixations", "object": "masks"}.get(info.task, "none")
        table.add_row(info.name, truth, info.license or NOT_KNOWN, printable(where))
    stdout_console().print(table)


@app.command("info")
def show_one(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name that `list` shows.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the facts about a dataset."""
    from ..datasets.catalog import folder_of, known, where_to_name

    info = known(name)
    folder = folder_of(name)
    if as_json:
        print(json_text({**info.to_dict(), "folder": str(folder) if folder else None}), end="")
        return
    facts = {
        "name": info.name,
        "title": info.title,
        "content": info.content,
        "splits": "; ".join(f"{split}: {text}" for split, text in info.splits.items()) or "none",
        "size": info.size or NOT_KNOWN + (" (tinyhd datasets download shows it first)" if info.hub else ""),
        "license": info.license or NOT_KNOWN,
        "citation": info.citation or NOT_KNOWN,
        "homepage": info.homepage or NOT_KNOWN,
        "hub": info.hub.repo if info.hub else "not on the Hub",
        "--dataset": info.layout or "none: unlabeled videos, for --aux",
        "folder": str(folder) if folder else f"not on this machine: {where_to_name(name)}",
    }
    for fact, value in facts.items():
        print(f"{fact:<11}{printable(value)}")


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name that `list` shows.")],
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="Only this split. Default: all.")] = None,
    videos: Annotated[
        str | None, typer.Option(metavar="N-N,N", help="Only the videos with these numbers in their names, as in 1-50.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the dataset. Default: NAME in TINYHD_DATA, or in the user's data folder.",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of the repository. Default: main.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking for confirmation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; download nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Download a dataset from the Hugging Face Hub, and print its folder.

    The plan with the number of bytes is printed first. Run an interrupted command again to resume it: only the missing
    bytes are downloaded. Every file is compared with the Hub's size and hash. The folder appears when it is complete.
    """
    from ..datasets import download as downloads
    from ..datasets.catalog import known
    from ..datasets.selection import Selection
    from .transfer_progress import transfer_display

    loading.start(quiet)
    planned = downloads.plan(known(name), Selection.parse(split, videos), revision, out)
    loading.stop()
    if not quiet:
        say(describe(planned))
    if dry_run:
        return
    if planned.missing and not yes:
        confirm(planned)
    with transfer_display(name, quiet) as progress:
        try:
            folder = downloads.download(planned, progress)
        except KeyboardInterrupt:
            say("tinyhd: the downloaded part is kept: run the same command again to resume")
            raise
    if not quiet and out is not None:
        say(f'to find it by name, add to tinyhd.toml: [datasets], then {name} = "{folder}"')
    print(folder)


def describe(planned: Plan) -> str:
    """Return the plan as one line."""
    commit = f"{planned.manifest.repo} at {planned.manifest.revision} ({planned.manifest.commit[:8]})"
    head = f"{planned.info.name}, {planned.selection}: {commit}, license {planned.info.license or NOT_KNOWN}"
    if not planned.missing:
        count = len(planned.wanted)
        return f"{head}; {f'all {count} files are' if count > 1 else 'the only file is'} in {planned.folder}"
    archives = sum(file.is_archive for file in planned.missing)
    unpacked = f", of which {plural(archives, 'archive')} to unpack" if archives else ""
    there = len(planned.wanted) - len(planned.missing)
    kept = f"; {plural(there, 'file')} already there" if there else ""
    return (
        f"{head}; to download: {plural(len(planned.missing), 'file')}{unpacked}, {planned.bytes:,} bytes "
        f"({file_size(planned.bytes)}){kept}; to {planned.folder}, {file_size(planned.free)} free"
    )


def confirm(planned: Plan) -> None:
    """Ask for confirmation on a terminal; ``UsageError`` without one."""
    if not sys.stdin.isatty():
        raise UsageError(f"nothing downloaded: add --yes to download {file_size(planned.bytes)} without a question")
    typer.confirm(f"Download {file_size(planned.bytes)}?", abort=True, err=True)


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="Name that `list` shows, or a folder.")],
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="Only this split. Default: all.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(metavar="LAYOUT", help="Layout, as for evaluate --dataset. Default: detected."),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Check the files of a dataset: first those of a download against the Hub's hashes, then all ground truth.

    Exit codes: 0 no faults, 1 faults, 2 wrong usage, 3 no such folder.
    """
    from ..datasets.catalog import catalog
    from ..datasets.checking import open_splits, root_and_layout, wrong_files
    from .evaluate_check import run_check
    from .transfer_progress import transfer_display

    loading.start(quiet)
    root, layout = root_and_layout(name, layout)
    with transfer_display(f"{root.name}, hashes", quiet) as progress:
        wrong = wrong_files(root, progress)
    for line in wrong:
        print(printable(f"fault: {line}"))
    if wrong and name in catalog():
        say(f"to fetch them again: tinyhd datasets download {name}, with --split and --videos as before")
    worst = SOME_INPUT_FAILED if wrong else OK

    def skip(absent: str, reason: Exception) -> None:
        print(printable(f"note: {absent} is not checked: {reason}"))

    for opened in open_splits(layout, root, split, skip):
        if not quiet:
            say(f"{root}: {layout}{f', {opened.split}' if opened.split else ''}")
        worst = max(worst, run_check(opened, quiet))
    return worst
