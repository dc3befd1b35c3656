"""Open pages in the installed Chromium, wide or as on a phone; errors of a page and requests to other machines fail."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request, WebSocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
"""A window on a desktop."""

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
"""A phone in portrait orientation, with a screen of twice the density."""

SCREENS = {"wide": WIDE, "phone": PHONE}

TIMEOUT_MS = 20_000
"""How long each step may take; machines of CI are slow."""


@dataclass(frozen=True)
class Chromium:
    """A running browser."""

    browser: Browser
    loop: asyncio.AbstractEventLoop
    """Playwright's loop, which counts as running in this thread for as long as the browser lives. Between tests it is
    hidden, or no other test of this process could use asyncio."""

    def show_loop(self) -> None:
        """Let Playwright work."""
        asyncio._set_running_loop(self.loop)

    def hide_loop(self) -> None:
        """Let others use asyncio."""
        asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Return a browser without a window; there is one per test process, because it takes a second to start."""
    if CHROMIUM is None:
        pytest.skip("requires Chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("requires the package playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # No name of another machine is resolved, so that a page that asks for one fails at once.
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
            handle_sigint=False,
        )
        running = Chromium(browser, asyncio.get_running_loop())
        running.hide_loop()
        yield running
        running.show_loop()
        browser.close()


@pytest.fixture
def visit(chromium: Chromium) -> Iterator[Visitor]:
    """Return a function that opens a page; the test fails on errors and on requests to other machines."""
    chromium.show_loop()
    visitor = Visitor(chromium.browser)
    try:
        yield visitor
        visitor.close()
    finally:
        chromium.hide_loop()
    assert not visitor.problems, "\n".join(visitor.problems)


class Visitor:
    """Opens pages and records their problems. Each page has its own profile, like another user's."""

    def __init__(self, browser: Browser) -> None:
        self.problems: list[str] = []
        """Errors on the console, uncaught exceptions, and requests to other machines. A test that provokes some clears
        the list."""
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def __call__(self, address: str | Path, screen: str = "wide", **options: Any) -> Page:
        """Open a file or an address.

        Args:
            address: the page.
            screen: a key of ``SCREENS``.
            options: more arguments of Playwright's ``Browser.new_context``.
        """
        context = self._browser.new_context(**SCREENS[screen], **options)
        context.set_default_timeout(TIMEOUT_MS)
        self._contexts.append(context)
        context.on("request", self._check)
        context.on("console", lambda message: message.type == "error" and self._record(f"console: {message.text}"))
        context.on("weberror", lambda error: self._record(f"uncaught: {error.error}"))
        page = context.new_page()
        page.on("websocket", self._check)
        page.goto(address.absolute().as_uri() if isinstance(address, Path) else address)
        return page

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()

    def _check(self, request: Request | WebSocket) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost"):
            self._record(f"request to another machine: {request.url}")

    def _record(self, problem: str) -> None:
        self.problems.append(problem)


def overflow(page: Page) -> int:
    """Return the number of pixels by which a page is wider than the screen."""
    width = page.evaluate("document.documentElement.scrollWidth")
    assert page.viewport_size is not None
    return max(0, int(width) - page.viewport_size["width"])


def broken_images(page: Page) -> list[str]:
    """Scroll through a page, so that every image is loaded, and return the addresses of those that are not."""
    return page.evaluate(
        """async () => {
            for (const image of document.images) {
                image.scrollIntoView();
                await image.decode().catch(() => {});
            }
            scrollTo(0, 0);
            return [...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 200));
        }"""
    )
