"""Options that several commands share and that belong to no configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..fields import OUTPUTS, RUN
from ..storage import limit_scratch

VIDEOS = "Videos, folders of videos or images, glob patterns"

Videos = Annotated[list[str], typer.Argument(metavar="VIDEO", help=f"{VIDEOS}.", show_default=False)]
OutDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for all outputs. {name}, {folder} and {suffix} in the name of an output are replaced by parts of"
        " the video's path; without a placeholder, the video's name is prepended.",
        rich_help_panel=OUTPUTS,
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and warnings.", rich_help_panel=RUN)]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        help="Number of inputs to process at the same time, each in its own process. Default: one per core on CPUs, as"
        " far as memory allows; 1 on GPUs.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Do not write outputs that already exist.", rich_help_panel=OUTPUTS)
]
Scratch = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        callback=limit_scratch,
        help="Space for temporary copies of inputs in object stores (s3://...), such as 20G. Default: half of the free"
        " disk space.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
"""Has an effect by its callback; commands do not use the value."""
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="LENGTH",
        help="Cut longer videos into parts of at most this length (5m, 300s, 1h) that are processed at the same time"
        " (see --jobs) and then joined.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
