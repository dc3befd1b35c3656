"""Tests of the tests' browser: errors of a page and requests to other machines are noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from helpers.browser import Visitor, broken_images, overflow

PAGES = {
    "console: broken": "<script>console.error('broken')</script>",
    "uncaught: broken": "<script>throw Error('broken')</script>",
    "request to another machine: https://tinyhd.example/a.js": "<script src='https://tinyhd.example/a.js'></script>",
    "request to another machine: wss://tinyhd.example/": "<script>new WebSocket('wss://tinyhd.example')</script>",
}


def written(path: Path, body: str) -> Path:
    head = '<!doctype html><link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
    path.write_text(f"{head}<body>{body}")
    return path


@pytest.mark.parametrize(("problem", "body"), PAGES.items(), ids=range(len(PAGES)))
def test_problems_are_recorded(visit, tmp_path, problem, body):
    page = visit(written(tmp_path / "page.html", body))
    for _ in range(100):
        if not visit.problems:
            page.wait_for_timeout(50)
    assert any(problem in found for found in visit.problems), visit.problems
    visit.problems.clear()


@pytest.mark.parametrize("screen", ["wide", "phone"])
def test_widths_and_images(visit, tmp_path, screen):
    page = visit(
        written(tmp_path / "fits.html", "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAAC'>"), screen
    )
    assert overflow(page) == 0
    page = visit(written(tmp_path / "wide.html", "<div style='width: 1500px'>wide</div><img src='data:,no'>"), screen)
    assert overflow(page) >= 1500 - page.viewport_size["width"]
    assert broken_images(page) == ["data:,no"]


def test_asyncio_works_between_visits(chromium):
    """Playwright's loop does not stop other tests from running theirs."""
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"


def test_a_page_after_that(visit, tmp_path):
    assert isinstance(visit, Visitor)
    assert visit(written(tmp_path / "page.html", "<p>text")).inner_text("p") == "text"
