"""Helpers for tests of evaluations: maps to score, and checks of the results."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from helpers import datasets_on_disk as on_disk
from tinyhd_cli.datasets import open_dataset, read_density
from tinyhd_cli.evaluation.run import Scoring
from tinyhd_cli.metrics import METRICS

VIDEOS = {"park": 6, "street": 5, "yard": 4}
"""Numbers of frames of the videos of the dataset ``park``."""


def results(path: Path | str = "scores.json") -> dict:
    return json.loads(Path(path).read_text())


def write_maps(root: Path, target: Path) -> Path:
    """Write maps for the videos of a ``folder`` dataset: their density maps, shifted by three pixels."""
    for video in open_dataset("folder", root).videos:
        for number, path in video.densities.items():
            on_disk.write_image(target / video.name / f"{number:04d}.png", np.roll(read_density(path), 3, axis=1))
    return target


class DeadlyScoring(Scoring):
    """Scores videos, but kills every worker process that scores ``street``, as the system does without memory."""

    def __call__(self):
        score = super().__call__()

        def score_or_die(item, on_frame):
            if item.video.name == "street":
                os.kill(os.getpid(), signal.SIGKILL)
            return score(item, on_frame)

        return score_or_die


def check_scores(found: dict, videos: dict[str, int]) -> None:
    """Check that all eight metrics are plausible, for every video and overall."""
    assert {name: video["frames"] for name, video in found["videos"].items()} == videos
    assert found["frames"]["scored"] == sum(videos.values())
    for scores in (found["mean"], found["macro_mean"], *found["videos"].values()):
        assert [name for name in scores if name in METRICS] == list(METRICS)
        assert all(0 <= scores[name] <= 1 for name in ("AUC-J", "AUC-B", "s-AUC", "SIM"))
        assert scores["KLDiv"] > 0 and -1 <= scores["CC"] <= 1
    weighted = sum(video["CC"] * video["frames"] for video in found["videos"].values())
    assert found["mean"]["CC"] == pytest.approx(weighted / sum(videos.values()), rel=1e-12)
    assert found["macro_mean"]["CC"] == pytest.approx(
        np.mean([video["CC"] for video in found["videos"].values()]), rel=1e-12
    )
