"""Fixtures for all tests."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

pytest_plugins = ["helpers.browser"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference values next to the project; skip the test if it does not exist."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} does not exist: reference values of the original networks")
    return SHARED


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true, fail tests that use the shared folder but are skipped although it exists."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and "shared" in item.keywords and SHARED.is_dir() and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although {SHARED} exists: {report.longrepr}"


def pytest_collection_modifyitems(items):
    """Mark every test that uses the fixture."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """Return a weights file of an untrained quarter-width multi-output network whose maps depend on the input."""
    from helpers.networks import lively

    from tinyhd_cli import weights

    network = lively("tinyhd-m-quarter")
    path = tmp_path_factory.mktemp("weights") / "lively.safetensors"
    weights.save(path, network.state_dict(), network.spec)
    return path


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory):
    """Return the folder of compiled engines; all tests share it, because compiling and checking them takes time."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path, engine_cache):
    """Return the cache folder; each test has its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TINYHD_CACHE", str(folder))
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(engine_cache))
    return folder


@pytest.fixture(autouse=True)
def no_known_datasets(monkeypatch, tmp_path):
    """Hide the datasets of this machine: without ``--data``, training would use them."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.delenv("TINYHD_DATA", raising=False)


@pytest.fixture(autouse=True)
def log_as_imported(monkeypatch):
    """Restore the package's logger to its state at import, whichever tests ran before in this process."""
    logger = logging.getLogger("tinyhd")
    for name, value in (("propagate", True), ("handlers", []), ("level", logging.NOTSET)):
        monkeypatch.setattr(logger, name, value)


@pytest.fixture
def tinyhd(monkeypatch, tmp_path):
    """Return a function that runs the command line in this process, in an empty folder, and returns the exit code."""
    from tinyhd_cli import cli
    from tinyhd_cli.commands import jobs, terminal

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(jobs, "default_jobs", lambda device: 1)  # other processes have no replaced functions
    monkeypatch.setattr(terminal, "LOADING_MESSAGE_S", 3600.0)  # or a slow machine would print another line

    def run(*args):
        terminal.console.cache_clear()  # each test has its own stderr
        return cli.run([str(arg) for arg in args])

    yield run
    terminal.console.cache_clear()
