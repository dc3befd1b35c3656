"""Options that several commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OUTPUTS = "Outputs"
LOOK = "Look of videos"
MODEL = "Model"
RUN = "Run"
AREAS = "Areas of interest"

VIDEOS = "Videos, folders of videos or of pictures, glob patterns"

Videos = Annotated[list[str], typer.Argument(metavar="VIDEO", help=f"{VIDEOS}.", show_default=False)]
OutDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for all outputs. {name}, {folder} and {suffix} in an output's name are replaced by parts of the"
        " video's path; without any of them, the video's name is prepended.",
        rich_help_panel=OUTPUTS,
        show_default=False,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A model that `tinyhd weights list` shows.", rich_help_panel=MODEL),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A weight file: safetensors, or an original .pth.", rich_help_panel=MODEL),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where the network runs.", rich_help_panel=MODEL)
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="auto|torch|fused|openvino|onnx",
        help="What runs the network. auto: the fastest that is installed and agrees with PyTorch.",
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|float32|bf16|int8",
        help="How exactly it computes. auto: bf16 for what is only looked at, if the processor has it; else float32.",
        rich_help_panel=MODEL,
    ),
]
Crf = Annotated[int, typer.Option(metavar="N", help="Quality: lower is better.", rich_help_panel=LOOK)]
Preset = Annotated[
    str, typer.Option(metavar="NAME", help="Encoding speed, ultrafast to veryslow.", rich_help_panel=LOOK)
]
NoAudio = Annotated[bool, typer.Option("--no-audio", help="Leave the sound out.", rich_help_panel=LOOK)]
Colormap = Annotated[str, typer.Option(metavar="NAME", help="Any color map of matplotlib.", rich_help_panel=LOOK)]
Alpha = Annotated[float, typer.Option(metavar="0..1", help="Opacity of the most salient places.", rich_help_panel=LOOK)]
AllowPlaylists = Annotated[
    bool,
    typer.Option(
        "--allow-playlists",
        help="Read playlists, which refer to other files: ffconcat, HLS, DASH, SDP.",
        rich_help_panel=RUN,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and warnings.", rich_help_panel=RUN)]
