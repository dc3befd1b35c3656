"""``tinyhd weights``: list, show, download, verify, convert and publish weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import WeightsError
from ..untrusted import printable
from .terminal import file_size, say

if TYPE_CHECKING:
    from ..weights import Located, WeightsInfo

app = typer.Typer(no_args_is_help=True)


@app.callback()
def weights() -> None:
    """List, download, verify, convert and publish weights."""


def where(located: Located | None) -> str:
    """Return where weights are stored, in one or two words."""
    return located.source if located else "not here"


def size(info: WeightsInfo, located: Located | None) -> str:
    """Return the size of the file, or an estimate of its size after the download."""
    if located:
        return file_size(located.path.stat().st_size)
    if info.bytes:
        return file_size(info.bytes)
    return f"~{file_size(4 * info.parameters)}" if info.parameters else "?"


@app.command("list")
def show_all() -> None:
    """List all named weights."""
    from rich.console import Console
    from rich.table import Table

    from .. import weights

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("license", overflow="fold")
    absent = 0
    for info in weights.registry().values():
        located = weights.find_local(info)
        absent += located is None
        table.add_row(info.name, f"{info.parameters or 0:,}", size(info, located), where(located), info.license)
    Console(highlight=False, markup=False, emoji=False).print(table)
    say(f"Default: {weights.default_name()}")
    if absent:
        say("Weights that are not here: tinyhd weights pull NAME; tinyhd weights info NAME shows the original file")


@app.command("info")
def show_one(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name that `list` shows, or a weights file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the properties of weights."""
    import json

    from .. import weights

    info, located = weights.inspect(name)
    if as_json:
        here = {"where": located.source if located else None, "path": str(located.path) if located else None}
        print(json.dumps({**info.to_dict(), **here}, indent=2))
        return
    for what, value in facts(info, located).items():
        if value:
            print(f"{what:<16}{printable(value)}")
    if card := weights.card(info):
        print(f"\n{card}", end="")


def facts(info: WeightsInfo, located: Located | None) -> dict[str, str]:
    """Return the properties of weights as printed."""
    from ..models import title
    from ..training.option_values import as_text
    from ..weights.hub import hub_location

    home = hub_location(info)
    return {
        "name": info.name,
        "network": title(info.spec),
        "options": ", ".join(f"{name}={as_text(value)}" for name, value in info.spec.options.items()),
        "maps": f"{info.spec.maps} for {info.spec.clip_frames} frames",
        "parameters": f"{info.parameters:,}" if info.parameters else "",
        "input": f"{info.input_size[0]} x {info.input_size[1]} (height x width)",
        "mean": ", ".join(f"{value:g}" for value in info.spec.preprocess.mean),
        "std": ", ".join(f"{value:g}" for value in info.spec.preprocess.std),
        "trained on": info.training_data,
        "pretrained": info.provenance.get("pretrained", ""),
        "scores": ", ".join(f"{metric} {score:g}" for metric, score in info.scores.items()),
        "scores on": info.scores_on,
        "license": info.license,
        "origin": info.origin,
        "original file": info.upstream_file,
        "original sha256": info.upstream_sha256,
        "size": f"{info.bytes:,} bytes" if info.bytes else "",
        "sha256": info.sha256,
        "tensors sha256": info.tensors_sha256,
        "hub": f"{home.repo}, {home.filename}, revision {home.revision}" if info.hub else "",
        "where": where(located),
        "path": str(located.path) if located else "",
    }


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name that `list` shows.")],
    force: Annotated[bool, typer.Option("--force", help="Download the file even if it is already here.")] = False,
) -> None:
    """Download weights and print the path of the file."""
    from .. import weights

    print(weights.pull(name, force=force))


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME|FILE", help="Weights to check. Default: all on this machine.", show_default=False),
    ] = None,
) -> None:
    """Compare files with their expected sha256: ok, wrong hash, or unknown hash.

    For a file without a registered name, the tensors are compared with the digest in the file's metadata, if any.
    Exit code 4 if a hash is wrong or a file is missing.
    """
    from .. import weights

    chosen = names or [located.info.name for located in weights.local_weights() if located.info]
    if not chosen:
        say("No named weights on this machine; download some: tinyhd weights pull NAME")
    failed = []
    for name in chosen:
        try:
            verdict = weights.verify(name)
        except WeightsError as error:
            say(f"tinyhd: {error}")
            failed.append(name)
            continue
        called = verdict.name if verdict.name == str(verdict.path) else f"{verdict.name}  {verdict.path}"
        print(
            f"{verdict.state:<12}  {printable(called)}"
            + ("" if verdict.state == "ok" else f"  sha256 {verdict.sha256}")
        )
        if verdict.state == "wrong hash":
            failed.append(name)
    if failed:
        raise WeightsError(f"{len(failed)} of {len(chosen)} wrong or missing: {', '.join(failed)}")


@app.command()
def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Original .pth or .pt file, or TensorFlow's .index file.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT", help="File to write. Default: FILE with the suffix .safetensors."),
    ] = None,
    decoders: Annotated[
        str | None,
        typer.Option(metavar="ORDER", help="Fusion order, such as d2,d3,d1, if the file's name does not contain it."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name to store in the file.")] = None,
) -> None:
    """Convert an original file to a safetensors file, which cannot run code and describes its content."""
    from .. import weights
    from ..models import title

    order = [part.strip() for part in decoders.split(",")] if decoders else None
    out = out or file.with_suffix(".safetensors")
    info = weights.convert(file, out, decoders=order, name=name)
    say(f"{info.name}: {title(info.spec)}, {info.bytes:,} bytes, sha256 {info.sha256}")
    print(out)


@app.command()
def card(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A tinyhd .safetensors file.", show_default=False)],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the weights.")] = None,
    license: Annotated[str | None, typer.Option(metavar="ID", help="License of the weights, as in CC-BY-4.0.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The data that the weights were trained on, in words.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file of `tinyhd evaluate` with the scores.")
    ] = None,
) -> None:
    """State name, license, data and scores of weights in their file, and write the model card README.md next to it."""
    from .. import weights

    print(weights.annotate(file, name=name, license=license, training_data=data, results=scores))


@app.command()
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A tinyhd .safetensors file.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Create a new repository as private.")] = False,
    revision: Annotated[str | None, typer.Option(metavar="BRANCH", help="Branch to commit to.")] = None,
) -> None:
    """Publish a weights file on the Hugging Face Hub, with a model card, and print the address.

    Requires a token with write access: HF_TOKEN, or hf auth login.
    """
    from .. import weights

    print(weights.push(file, repo_id, private=private, revision=revision))
