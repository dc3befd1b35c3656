"""``tinyhd reduce-channels``: make a network with fewer channels from a wider one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..training.option_values import as_options
from .terminal import say
from .train_options import CLUSTER_NAMES, run, with_training_options


@with_training_options(without=(*CLUSTER_NAMES, "out", "model", "set", "init", "teacher", "teacher_shard"))
def reduce_channels(
    source: Annotated[str, typer.Option("--from", metavar="NAME|FILE", help="Wider network.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="half|quarter", help="The new width.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Weights file to write.", show_default=False)
    ],
    merge: Annotated[
        str, typer.Option(metavar="sum|mean", help="How to merge two kernels along the input channels.")
    ] = "sum",
    distill: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Then distill into this folder, with the wider network as teacher assistant (requires --data or "
            "--aux; the options below apply to this step).",
        ),
    ] = None,
    **options: Any,
) -> int:
    """Make a network of half the width by merging pairs of kernels (section 3.3.2 of the paper).

    tinyhd reduce-channels --from best.safetensors --to half --out half.safetensors
    """
    from .. import weights
    from ..models import title
    from ..models.registry import family

    parent = weights.load(source)
    reduced = family(parent.spec).reduce_channels(parent.spec, parent.state_dict, to, merge)
    info = weights.save(
        out,
        reduced.state_dict,
        reduced.spec,
        license=parent.info.license,
        training_data=parent.info.training_data,
        provenance={"reduced from": parent.info.name, "merge": merge},
    )
    say(f"{title(reduced.spec)}, {info.parameters:,} parameters, from {parent.spec.name}")
    if reduced.fresh:
        say(f"{len(reduced.fresh)} layers cannot be reduced and start from new weights: {', '.join(reduced.fresh)}")
    print(out)
    if distill is None:
        return 0
    student = {"model": reduced.spec.name, "set": as_options(reduced.spec)}
    return run(options, out=distill, init=str(out), teacher=(source,), **student)
