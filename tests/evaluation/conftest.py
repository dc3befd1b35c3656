"""Fixtures for tests of evaluations."""

from __future__ import annotations

import pytest
from helpers import datasets_on_disk as on_disk
from helpers.evaluations import VIDEOS, write_maps


@pytest.fixture
def park(tmp_path):
    """Return the folder of a dataset of three videos in the ``folder`` layout."""
    return on_disk.folder(tmp_path / "data", VIDEOS)


@pytest.fixture
def maps(park, tmp_path):
    """Return the folder of maps for the dataset."""
    return write_maps(park, tmp_path / "maps")
