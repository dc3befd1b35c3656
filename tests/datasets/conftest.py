"""A Hub on the loopback interface for the tests of downloads."""

from __future__ import annotations

import pytest
from helpers.hub_data import CROWDSAL, crowdsal_files
from helpers.hub_server import HubServer


@pytest.fixture
def server():
    with HubServer() as running:
        yield running


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """Return the server, set as the Hub of this process; the folder of datasets is ``data``."""
    server.use(monkeypatch, tmp_path / "hf")
    monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for path, data in crowdsal_files().items():
        server.put(CROWDSAL, path, data)
    return server
