"""Stores of the tests: memory, and an S3 server on the loopback interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import clips
from helpers.stores import S3Server

from tinyhd_cli.storage import addresses, copies, publication, stores


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Open each store anew, because the tests change the environment; leave no copies to the next test."""
    monkeypatch.setenv("TINYHD_SCRATCH", "1G")  # restored after --scratch
    stores.open_store.cache_clear()
    publication.check_bucket.cache_clear()
    yield
    copies.clean()
    assert addresses._root == "" or not [path for path in Path(addresses._root).rglob("*") if path.is_file()]


@pytest.fixture
def memory():
    """Return the file system of ``memory://``, which is empty."""
    store = stores.open_store("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()


@pytest.fixture(scope="module")
def s3():
    """Return an S3 server, whose address and key are in the environment."""
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Return a clip of 20 frames with sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    clips.make(path, frames=20, audio="aac")
    return path


@pytest.fixture
def model(weights_file, monkeypatch):
    """Return the options of a model; constant maps replace the network, which is not under test."""
    from tinyhd_cli.inference.model import Model

    maps = np.random.default_rng(0).random((16, 192, 256)).astype(np.float32)
    monkeypatch.setattr(Model, "infer", lambda self, clip: maps)
    return ("--weights", weights_file, "--engine", "torch", "--quiet")
