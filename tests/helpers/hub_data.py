"""Small datasets as repositories of a :class:`HubServer`, and what a download made of them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from tinyhd_cli.datasets.manifest import MANIFEST

from .hub_server import HubServer

CROWDSAL = "datasets/ANDRYHA/CrowdSAL"
NTIRE = "datasets/ANDRYHA/VideoSaliencyChallenge"


def content(name: str, size: int = 4000) -> bytes:
    """Return bytes that depend on a name; downloads do not decode videos."""
    return np.random.default_rng(list(name.encode())).bytes(size)


def crowdsal_files() -> dict[str, bytes]:
    """Return the files of a small CrowdSAL, by path: 4 videos to train on, 2 to test."""
    files = {"README.md": b"# CrowdSAL", ".gitattributes": b"*.mp4 lfs"}
    for split, numbers in (("Train", range(1, 5)), ("Test", range(3001, 3003))):
        files[f"{split}/metadata.jsonl"] = b'{"file_name": "0001.mp4"}\n'
        for number in numbers:
            for kind, suffix in (("Videos", "mp4"), ("Saliency", "mp4"), ("Fixations", "json")):
                path = f"{split}/{kind}/{number:04d}.{suffix}"
                files[path] = content(path)
    return files


def packed(files: dict[str, bytes | zipfile.ZipInfo]) -> bytes:
    """Return a zip of files, by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in files.items():
            written.writestr(name, data)
    return buffer.getvalue()


def ntire_files(**videos: bytes) -> dict[str, bytes]:
    """Return the files of a small NTIRE 2026, by path, with more files in ``Videos.zip``."""
    names = {"train": ["001", "002"], "public_test": ["003"], "private_test": ["004.mp4"]}
    clips = {f"Videos/{number:03d}.mp4": content(f"clip {number}") for number in range(1, 5)}
    files = {"README.md": b"# NTIRE", "TrainTestSplit.json": json.dumps(names).encode(), "VideoInfo.json": b"{}"}
    files["Videos.zip"] = packed(clips | videos)
    for split, numbers in (("Train", (1, 2)), ("Test", (3, 4))):
        names = [f"{split}/{number:03d}" for number in numbers]
        files[f"Saliency{split}.zip"] = packed({f"{name}.mp4": content(f"map {name}") for name in names})
        fixations = {f"{name}/fixations.json": b"[[[1, 2]]]" for name in names}
        images = {f"{name}/fixations/0001.png": b"an image" for name in names}
        files[f"Fixations{split}.zip"] = packed(fixations | images)
    return files


def below(folder: Path) -> set[str]:
    """Return the paths of all files below a folder, without the record of the download."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}


def fetched(server: HubServer) -> list[str]:
    """Return the files that were requested since the last call, with the first byte of each that was resumed."""
    found = [
        path.rpartition("/resolve/")[2].partition("/")[2] + byte_range.removeprefix("bytes=")
        for method, path, byte_range in server.requests
        if "/resolve/" in path and method == "GET"
    ]
    server.requests.clear()
    return sorted(found)
