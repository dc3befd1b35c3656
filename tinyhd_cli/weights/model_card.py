"""Write the model card of a Hub repository from the metadata of its weights."""

from __future__ import annotations

import re

from ..models import title
from ..models.registry import family
from ..models.spec import Task
from .registry import NOT_STATED, WeightsInfo

PURPOSE: dict[Task, tuple[str, tuple[str, ...]]] = {
    "fixation": ("Predicts where people look in a video.", ("video-saliency", "visual-attention", "tinyhd")),
    "object": ("Finds the salient objects in a video.", ("video-saliency", "salient-object-detection", "tinyhd")),
}
"""First sentence and tags of a card, by task of the network."""


def hub_license(license: str) -> list[str]:
    """Return the front matter lines that state a license. The Hub uses lower-case SPDX identifiers."""
    if license in ("", NOT_STATED):
        return ["license: unknown"]
    slug = re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-")
    return [f"license: {slug}"] if slug == license.lower() else ["license: other", f"license_name: {slug}"]


def cell(text: str) -> str:
    """Return text escaped for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def score_table(info: WeightsInfo) -> list[str]:
    """Return the lines of the table of scores; none without scores."""
    if not info.scores:
        return []
    return [
        f"\n{'Scores' if info.provenance else 'Published scores'}: {info.scores_on}\n",
        "| metric | value |",
        "|---|---|",
        *[f"| {cell(metric)} | {score:g} |" for metric, score in info.scores.items()],
    ]


def model_card(info: WeightsInfo, filename: str, repo: str) -> str:
    """Return the README of a Hub repository: YAML front matter, then the metadata of the weights in Markdown.

    Args:
        info: the weights.
        filename: name of the weights file in the repository.
        repo: the repository, ``owner/name``.
    """
    text, tags = PURPOSE[info.spec.task]
    height, width = info.input_size
    spec, paper = info.spec, family(info.spec).paper
    mean, std = (list(values) for values in (spec.preprocess.mean, spec.preprocess.std))
    facts = {
        "Network": f"{title(spec)}, {paper}" if paper else title(spec),
        "Maps": f"{spec.maps} for {spec.clip_frames} frames",
        "Parameters": f"{info.parameters:,}" if info.parameters else "",
        "Input": f"RGB, {height} x {width}, RGB / 255 minus {mean}, divided by {std}",
        "Trained on": info.training_data,
        "License": info.license or NOT_STATED,
        "From": ", ".join(part for part in (info.origin, info.upstream_file) if part),
        **{name.capitalize(): f"`{value}`" for name, value in info.provenance.items()},
    }
    lines = [
        "---",
        *hub_license(info.license),
        "library_name: tinyhd",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# {info.name}",
        "",
        text,
        "",
        "| | |",
        "|---|---|",
        *[f"| {cell(name)} | {cell(value)} |" for name, value in facts.items() if value],
        *score_table(info),
        "",
        "```sh",
        f"hf download {repo} {filename} --local-dir .",
        f"tinyhd predict video.mp4 --overlay out.mp4 --weights {filename}",
        "```",
        "",
    ]
    return "\n".join(lines)
