"""Write the model card of a Hub repository from the metadata of its weights, and its scores from a file of results."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..atomic_files import atomic_write
from ..errors import InputError, one_line
from ..models import title
from ..models.registry import family
from ..models.spec import Task
from ..untrusted import parse_json, printable, read_document
from ..wording import plural
from .registry import NOT_STATED, WeightsInfo

PURPOSE: dict[Task, tuple[str, tuple[str, ...]]] = {
    "fixation": ("Predicts where people look in a video.", ("video-saliency", "visual-attention", "tinyhd")),
    "object": ("Finds the salient objects in a video.", ("video-saliency", "salient-object-detection", "tinyhd")),
}
"""First sentence and tags of a card, by task of the network."""


def write_card(path: Path, info: WeightsInfo) -> Path:
    """Write the model card of a weights file, ``README.md`` in the same folder, and return its path."""
    card = path.with_name("README.md")
    with atomic_write(card) as temporary:
        temporary.write_text(model_card(info, path.name, f"OWNER/{info.name}"), encoding="utf-8")
    return card


def read_scores(path: Path) -> tuple[dict[str, float], str]:
    """Return the main scores in a JSON file of ``tinyhd evaluate``, and how they were measured, for a model card.

    Raises:
        InputError: the file cannot be read, or has another content.
    """
    try:
        results = parse_json(read_document(path))
        protocol, dataset, frames = (results[name] for name in ("protocol", "dataset", "frames"))
        over_videos = protocol.get("main") == "macro_mean"
        means = results["macro_mean" if over_videos else "mean"]
        scores = {str(name): round(float(value), 5) for name, value in means.items() if value is not None}
        if not scores or not all(map(math.isfinite, scores.values())):
            raise ValueError("no scores")
        data = " ".join(str(dataset[name]) for name in ("layout", "split") if dataset[name])
        size = f"{plural(len(results['videos']), 'video')}, {plural(int(frames['scored']), 'frame')}"
        name = f", protocol {protocol['name']}" if "name" in protocol else ""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"not results of tinyhd evaluate --json ({one_line(error)})"
        raise InputError(f"{path}: {reason}") from error
    return scores, printable(f"{data}, {size}{name}; mean of {'videos' if over_videos else 'frames'}")


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
