"""Tests of the pages of ``tinyhd report`` in a browser: a video, images, and the summary, wide and on a phone."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips
from helpers.browser import broken_images, overflow

from tinyhd_cli import ReportOptions, load_model
from tinyhd_cli.apps import report_file, summarize, write_summary
from tinyhd_cli.inference.areas import Area

FILES = ("b10.mp4", "b9.png", "a & <b>.png", "tall #1.png")
"""Names that are not sorted, of which one must be escaped in HTML and one in addresses."""

FAILURES = {"folder/broken <i>.mp4": "folder/broken <i>.mp4: not a video", "missing.mp4": "missing.mp4: no such file"}

LEGIBLE_PX = 9
"""Smallest size of text in a plot, in CSS pixels."""


def corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


AREAS = tuple(
    Area(name, (0.0,), (points,), in_pixels=False)
    for name, points in {"left & top": corners(0, 0, 0.5, 0.5), "\u0141\xf3d\u017a": corners(0.3, 0.4, 1, 1)}.items()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights_file):
    """Write the pages once."""
    folder = tmp_path_factory.mktemp("pages")
    clips.make(folder / FILES[0], frames=18, width=640, height=360)
    for name, (width, height) in zip(FILES[1:], [(64, 48), (900, 600), (200, 900)], strict=True):
        cv2.imencode(".png", clips.image(1, width, height))[1].tofile(folder / name)
    model = load_model(weights_file, "cpu", engine="torch")
    (folder / "single").mkdir()
    files = []
    for name in FILES:
        page = folder / "single" / f"{name}.html"
        summary = summarize(report_file(folder / name, model, page, ReportOptions(areas=AREAS)), page, model)
        files.append(pickle.loads(pickle.dumps(summary)))  # as worker processes return it
    write_summary(files, FAILURES, folder / "summary.html")
    return folder


def names(page) -> list[str]:
    return page.locator("#files tbody td:first-child").evaluate_all("cells => cells.map(cell => cell.dataset.value)")


def column(page, name: str) -> list[str]:
    cells = page.locator(f'#files tbody td[data-name="{name}"]')
    return cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")


def smallest_text(page) -> float:
    """Return the size of the smallest visible text in the plots, in CSS pixels."""
    return page.evaluate(
        """() => Math.min(...[...document.querySelectorAll(".plot text")]
            .filter(text => text.getClientRects().length)
            .map(text => {
                const {a, b} = text.getScreenCTM();
                return Math.hypot(a, b) * parseFloat(getComputedStyle(text).fontSize);
            }))"""
    )


@pytest.mark.parametrize("screen", ["wide", "phone"])
def test_summary_lists_everything(visit, folder, screen):
    page = visit(folder / "summary.html", screen)
    assert page.inner_text("h1") == "Summary of 6 files"
    assert overflow(page) == 0
    assert broken_images(page) == []
    assert page.locator("#files tbody img").count() == len(FILES)
    assert page.locator("#files .outline").count() == len(FILES) * len(AREAS)
    assert names(page) == list(FILES)
    assert "1 video (0:00.6 in total) and 3 images; 2 failed" in page.inner_text("p.lead")
    failures = page.locator("h2#failures + table tbody tr")
    assert [re.split(r"\s*[\t\n]\s*", row) for row in failures.all_inner_texts()] == [
        ["folder/broken <i>.mp4", "not a video"],
        ["missing.mp4", "no such file"],
    ]
    mean = page.locator('#files tfoot td[data-name="left & top"]').inner_text()
    shares = [float(value) for value in column(page, "left & top")]
    assert mean == f"{np.mean(shares):.1%}"
    bars = page.locator("#files .bar").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    every = [float(share) for area in AREAS for share in column(page, area.name)]
    assert sorted(np.array(bars) / max(bars)) == pytest.approx(sorted(np.array(every) / max(every)), abs=0.02)


@pytest.mark.parametrize("screen", ["wide", "phone"])
def test_sorting(visit, folder, screen):
    page = visit(folder / "summary.html", screen)
    press = "tap" if screen == "phone" else "click"

    def sort(name: str) -> None:
        getattr(page.get_by_role("button", name=name, exact=True), press)()

    sort("spread")
    numbers = [float(value) for value in column(page, "spread")]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 1
    sort("spread")
    assert [float(value) for value in column(page, "spread")] == sorted(numbers)
    assert page.locator("#files th[aria-sort=ascending]").inner_text().strip() == "spread"
    assert page.locator("#files th[aria-sort=none]").count() == 6
    sort("file")
    assert names(page) == ["a & <b>.png", "b9.png", "b10.mp4", "tall #1.png"]
    for _ in range(2):  # files without a length are last in both orders
        sort("length")
        assert names(page)[0] == "b10.mp4"
    page.get_by_role("button", name="size", exact=True).focus()
    page.keyboard.press("Enter")
    assert names(page) == ["a & <b>.png", "b10.mp4", "tall #1.png", "b9.png"]


def test_links_lead_to_the_reports(visit, folder):
    page = visit(folder / "summary.html")
    for name in FILES:
        page.locator("#files").get_by_role("link", name=name, exact=True).last.click()
        assert page.inner_text("h1") == name
        assert Path(page.url.removeprefix("file://")).parent == folder / "single"
        page.go_back()
    page.locator("#files img").first.click()
    assert page.inner_text("h1") == FILES[0]


@pytest.mark.parametrize("screen", ["wide", "phone"])
def test_report_of_a_video(visit, folder, screen):
    page = visit(folder / "single" / f"{FILES[0]}.html", screen)
    assert overflow(page) == 0
    assert broken_images(page) == []
    assert page.locator("#filmstrip img").count() == 12
    assert page.locator(".plot svg:visible").count() == 3
    assert smallest_text(page) >= LEGIBLE_PX
    labels = page.locator("#filmstrip figure").first.locator(".label")
    assert labels.all_inner_texts() == [area.name for area in AREAS]
    image = page.locator("#filmstrip img").first
    density = image.evaluate("image => image.naturalWidth / image.clientWidth")
    assert density >= 2
    # A plot must not refer to parts of the one that is hidden.
    shared = page.evaluate(
        """() => {
            const ids = [...document.querySelectorAll(".plot defs [id], .plot clipPath[id]")].map(part => part.id);
            return ids.length - new Set(ids).size;
        }"""
    )
    assert shared == 0


@pytest.mark.parametrize(
    ("name", "screen"), [(FILES[1], "wide"), (FILES[2], "phone"), (FILES[3], "wide"), (FILES[3], "phone")]
)
def test_report_of_an_image(visit, folder, name, screen):
    page = visit(folder / "single" / f"{name}.html", screen)
    assert overflow(page) == 0
    assert broken_images(page) == []
    assert page.locator(".plot, #filmstrip, #scenes").count() == 0
    text = page.inner_text("body")
    assert "over time" not in text and "seconds" not in text
    assert page.locator("#contours .label").all_inner_texts() == ["25%", "50%", "75%"]
    # Lines and labels are within the image, which keeps its shape.
    frame = page.locator("#contours .frame").bounding_box()
    height, width = cv2.imdecode(np.fromfile(folder / name, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert frame["width"] / frame["height"] == pytest.approx(width / height, rel=0.02)
    for part in page.locator("#contours path.line, #contours .label").all():
        box = part.bounding_box()
        assert frame["x"] - 1 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
        assert frame["y"] - 1 <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] + 1
    shares = page.locator("#areas tbody tr").first.inner_text()
    assert "25.0%" in shares  # of the image
    assert page.locator("#numbers tr").count() == 5
