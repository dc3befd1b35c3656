"""Check submissions of all datasets, and write that of DHF1K: a folder of PNGs for each video, and a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write, cannot_write, make_parent, publish, remove, temporary_path
from ..callbacks import OnProgress, StartPhase
from ..complete import holds_complete
from ..datasets import Dataset, Video
from ..datasets.images import Map
from ..errors import InputError, UsageError
from ..metrics import resize
from ..untrusted import json_text, parse_json, read_document
from .predictions import NetworkSource
from .protocol import CROWDSAL_LAYOUTS

SIZE = (360, 640)
"""Height and width of DHF1K's videos and of the maps in a submission."""


def check_submission(dataset: Dataset) -> None:
    """Raise ``UsageError`` for a dataset without a form of submissions."""
    if dataset.layout not in CROWDSAL_LAYOUTS and (dataset.layout != "dhf1k" or dataset.split != "test"):
        raise UsageError(
            "--submission is for the benchmark of DHF1K (add --dataset dhf1k --split test) and for the videos of"
            f" {', '.join(CROWDSAL_LAYOUTS)}"
        )


def claim_folder(folder: Path, source: NetworkSource) -> None:
    """Record the model of a submission beside its folder, because complete maps of an earlier run are kept.

    Raises:
        UsageError: the folder has maps of another model.
        OutputError: the record cannot be written.
    """
    record = folder.with_name(f"{folder.name}.model.json")
    model = {"name": source.model.name, "sha256": source.model.sha256}
    try:
        earlier = parse_json(read_document(record)) if folder.is_dir() and record.is_file() else model
    except (OSError, ValueError):
        earlier = None
    if earlier != model:
        name = earlier.get("name") if isinstance(earlier, dict) else "another model"
        raise UsageError(f"--submission {folder}: has maps of {name}, not of {model['name']}; choose another folder")
    with atomic_write(record) as temporary:
        temporary.write_text(json_text(model), encoding="utf-8")


def write_submission(
    dataset: Dataset,
    source: NetworkSource,
    folder: Path,
    start_phase: StartPhase,
    on_failure: Callable[[str], None],
) -> tuple[int, Path]:
    """Predict all test videos into ``folder/0701/0001.png`` and so on, and pack them as ``folder.zip``.

    The folder of a video is created when its maps are complete. Complete folders of an earlier run are kept, so that an
    interrupted run is resumed.

    Args:
        dataset: DHF1K's test split.
        source: the network.
        folder: where to write.
        start_phase: called with the name and number of each video; returns its progress callback.
        on_failure: called with a message about each file or video that cannot be read.

    Returns:
        Number of complete videos and path of the zip.

    Raises:
        OutputError: a file cannot be written.
        UsageError: the dataset is not DHF1K's test split.
    """
    check_submission(dataset)
    complete = []
    for number, video in enumerate(dataset.videos, start=1):
        target = folder / video.name
        if not holds_complete(target, "*.png"):
            try:
                progress = start_phase(f"{video.name} ({number}/{len(dataset.videos)})")
                write_maps(video, source, target, progress, on_failure)
            except InputError as error:
                on_failure(str(error))
                continue
        complete.append(target)
    archive = folder.with_name(f"{folder.name}.zip")
    with atomic_write(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
        for target in complete:
            for png in sorted(target.glob("*.png")):
                packed.write(png, f"{target.name}/{png.name}")
    return len(complete), archive


def write_maps(
    video: Video, source: NetworkSource, target: Path, progress: OnProgress, on_failure: Callable[[str], None]
) -> None:
    """Write the maps of one video; the folder is created only if all maps were written."""
    make_parent(target)
    temporary = temporary_path(target)
    try:
        temporary.mkdir(exist_ok=True)
        for number, saliency in source.maps(video, on_failure):
            (temporary / f"{number:04d}.png").write_bytes(as_png(saliency))
            progress(number, len(video.frames) or None)
        publish(temporary, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        remove(temporary)


def as_png(saliency: Map) -> bytes:
    """Return a map as the PNG that the benchmark requires: 8 bits, maximum 255, size of the videos."""
    scaled: NDArray[np.float64] = np.maximum(resize(saliency, SIZE), 0)
    peak = scaled.max()
    eight_bits = np.round(scaled * (255 / peak if peak > 0 else 0)).astype(np.uint8)
    _, png = cv2.imencode(".png", eight_bits)
    return png.tobytes()
