"""Fixtures for all tests."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values beside the project; the test is skipped where it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: reference values of the original networks")
    return SHARED


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true a shared test that skips although the folder exists is a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and "shared" in item.keywords and SHARED.is_dir() and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although {SHARED} is there: {report.longrepr}"


def pytest_collection_modifyitems(items):
    """Every test that asks for the fixture carries the marker."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """A weight file of a quarter-width multi-output network that was never trained but reacts to what it sees."""
    from helpers.networks import lively

    from tinyhd_cli import weights

    network = lively("tinyhd-m-quarter")
    path = tmp_path_factory.mktemp("weights") / "lively.safetensors"
    weights.save(path, network.state_dict(), network.config)
    return path


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory):
    """Compiled graphs, shared by all tests: each would have to compile its own and compare it with PyTorch."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path, engine_cache):
    """The folder of what tinyhd keeps between runs: an own one for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TINYHD_CACHE", str(folder))
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(engine_cache))
    return folder


@pytest.fixture(autouse=True)
def log_as_imported(monkeypatch):
    """Restore the package's logger to its state at import, whichever tests ran before in this process."""
    logger = logging.getLogger("tinyhd")
    for name, value in (("propagate", True), ("handlers", []), ("level", logging.NOTSET)):
        monkeypatch.setattr(logger, name, value)


@pytest.fixture
def tinyhd(monkeypatch, tmp_path):
    """Runs the command line in this process, in an empty folder; returns the exit code."""
    from tinyhd_cli import cli
    from tinyhd_cli.commands import terminal

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(terminal, "LOADING_MESSAGE_S", 3600.0)  # a busy machine must not add a line to what is tested

    def run(*args):
        terminal.console.cache_clear()  # stderr is another one in each test
        return cli.run([str(arg) for arg in args])

    yield run
    terminal.console.cache_clear()
