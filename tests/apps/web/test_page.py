"""The page of ``tinyhd app`` in a browser: upload, draw an area, run, play, download, cancel, compare."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips
from helpers.browser import overflow

expect = pytest.importorskip("playwright.sync_api", reason="requires the package playwright").expect
expect.set_options(timeout=60_000)  # the machines of CI are slow

PASTE = """async ([red, green, blue]) => {
    const canvas = new OffscreenCanvas(320, 200);
    const context = canvas.getContext("2d");
    context.fillStyle = `rgb(${red}, ${green}, ${blue})`;
    context.fillRect(0, 0, 320, 200);
    context.fillStyle = "white";
    context.fillRect(40, 40, 90, 60);
    const data = new DataTransfer();
    data.items.add(new File([await canvas.convertToBlob()], `${red}.png`, {type: "image/png"}));
    dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
}"""
"""Pastes a picture with a white box."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Return a clip of a second with audio."""
    path = tmp_path_factory.mktemp("clips") / "a disc.mp4"
    return clips.make(path, frames=30, width=160, height=120, audio="aac")


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an area on the source, between two points in fractions of its sides."""
    frame = page.locator(".layer").bounding_box()
    places = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=3)
    page.mouse.up()


def download(page, label: str) -> bytes:
    with page.expect_download() as started:
        page.locator("#downloads a", has_text=label).click()
    return Path(started.value.path()).read_bytes()


@pytest.mark.parametrize("screen", ["wide", "phone"])
def test_the_first_screen_says_what_to_do(visit, served, screen):
    page = visit(served.address, screen)
    expect(page.get_by_role("heading", name="Where will people look?")).to_be_visible()
    expect(page.locator("#drop")).to_contain_text("Drop videos or pictures here")
    expect(page.locator("#limits")).to_have_text("Up to 2 MB and 2 minutes each")
    assert overflow(page) == 0


def test_upload_draw_run_play_download(visit, served, clip):
    page = visit(served.address, accept_downloads=True)
    page.set_input_files("#files", clip)
    expect(page.locator("#list .ready")).to_have_count(1)
    drag(page, (0.25, 0.4), (0.75, 0.9))
    page.get_by_label("Name of Area 1").fill("disc")
    page.get_by_label("Name of Area 1").press("Enter")
    expect(page.locator(".area")).to_have_text("disc")
    page.select_option("[name=colormap]", "viridis")
    page.click("#run")
    expect(page.locator("#overlay")).to_be_visible()
    expect(page.locator("#list .done")).to_have_count(1)
    assert page.locator("#numbers tr").nth(1).inner_text().split()[0] == "disc"
    played = page.evaluate(
        """async () => {
            const [source, overlay] = document.querySelectorAll(".screen video");
            overlay.muted = true;
            await overlay.play();
            const start = document.querySelector(".playhead").getAttribute("x1");
            await new Promise((resolve) => setTimeout(resolve, 600));
            overlay.pause();
            await new Promise((resolve) => setTimeout(resolve, 200));
            const heads = [...document.querySelectorAll(".playhead")].map((head) => Number(head.getAttribute("x1")));
            return {start: Number(start), heads, source: source.currentTime, overlay: overlay.currentTime};
        }"""
    )
    assert played["overlay"] > 0.2
    assert abs(played["source"] - played["overlay"]) < 0.05
    assert len(set(played["heads"])) == 1  # the area and the spread
    assert played["heads"][0] > played["start"]
    page.locator(".chart").first.click(position={"x": 300, "y": 60})
    expect(page.locator(".chart").first).not_to_have_attribute("aria-valuenow", f"{played['overlay']:.2f}")

    archive = zipfile.ZipFile(io.BytesIO(download(page, "All files")))
    kinds = {"overlay.mp4", "maps.mp4", "numbers.csv", "summary.json", "areas.png", "areas.json"}
    assert set(archive.namelist()) == {f"a disc_{kind}" for kind in kinds}
    summary = json.loads(archive.read("a disc_summary.json"))
    assert summary["video"] == "a disc.mp4" and summary["frames"] == 30
    assert not re.search(r"tinyhd-app|/tmp", json.dumps(summary))
    assert summary["areas"]["disc"]["size"] == pytest.approx(0.25, abs=0.02)
    rows = list(csv.DictReader(io.StringIO(download(page, "Numbers per frame").decode())))
    shares = [float(row["aoi_disc"]) for row in rows]
    assert summary["areas"]["disc"]["share"] == pytest.approx(np.mean(shares), abs=1e-3)
    overlay = clip.with_name("overlay.mp4")
    overlay.write_bytes(download(page, "Overlay"))
    assert clips.audio_packets(overlay)
    assert clips.timestamps(overlay) == clips.timestamps(clip)


@pytest.fixture(scope="module")
def long(clip) -> Path:
    """Return a clip that takes much longer than a test."""
    return clips.make(clip.with_name("long.mp4"), frames=2500, width=64, height=48)


def test_areas_by_keyboard(visit, served, clip):
    page = visit(served.address)
    page.set_input_files("#files", clip)
    expect(page.locator("#list .ready")).to_have_count(1)
    page.get_by_role("button", name="Add an area").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".area")).to_have_attribute("style", re.compile(r"left: ?37%"))
    page.keyboard.press("Delete")
    expect(page.locator(".area")).to_have_count(0)


def test_closing_the_page_ends_its_job_and_removes_its_files(visit, served, long):
    page = visit(served.address)
    page.set_input_files("#files", long)
    expect(page.locator("#list .ready")).to_have_count(1)
    page.click("#run")
    expect(page.locator("#list .running .state")).to_contain_text("Predicting")
    assert [name for name in served.files() if name.startswith(".long_overlay")]
    page.close(run_before_unload=True)
    end = time.monotonic() + 60
    while [name for name in served.files() if "long" in name]:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_two_users_take_turns_and_can_cancel(visit, served, clip, long):
    first, second = visit(served.address), visit(served.address)
    for page, file in ((first, long), (second, clip)):
        page.set_input_files("#files", file)
        expect(page.locator("#list .ready")).to_have_count(1)
    first.click("#run")
    expect(first.locator("#list .running .state")).to_contain_text("Predicting")
    second.click("#run")
    expect(second.locator("#list .running .state")).to_have_text("Next in the queue")
    first.get_by_role("button", name="Cancel").hover()
    first.mouse.down()  # as slowly as a person
    first.wait_for_timeout(400)
    first.mouse.up()
    expect(first.locator("#list .canceled")).to_have_count(1)
    expect(second.locator("#list .done")).to_have_count(1)
    expect(second.locator("#list li")).to_have_count(1)  # each sees only their own files
    assert not [name for name in served.files() if name.startswith(("long_", ".long_"))]
    first.get_by_role("button", name="Remove long.mp4").click()
    expect(first.locator("#welcome")).to_be_visible()
    assert "long.mp4" not in served.files()


def test_files_that_cannot_be_used(visit, served, clip, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(clip.read_bytes()[:2000])
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3_000_000))
    page = visit(served.address)
    page.set_input_files("#files", [damaged, large, clip])
    expect(page.locator("#list .ready")).to_have_count(1)
    expect(page.locator("#list .failed")).to_have_count(2)
    expect(page.locator("#stage .message")).to_contain_text("damaged.mp4: ")
    page.locator("#list .pick").nth(1).click()
    expect(page.locator("#stage .message")).to_have_text(
        "large.mp4 is larger than 2 MB, the limit; choose a smaller file."
    )
    assert "large.mp4" not in served.files()
    assert all("status of 422" in problem for problem in visit.problems)
    visit.problems.clear()


def test_pasted_pictures_are_compared(visit, served):
    page = visit(served.address, "phone", color_scheme="dark")
    for color in ([200, 40, 40], [40, 90, 200]):
        page.evaluate(PASTE, color)
    expect(page.locator("#list .ready")).to_have_count(2)
    page.get_by_role("button", name="Add an area").click()
    page.get_by_role("button", name="Use for all files").click()
    page.click("#run")
    expect(page.locator("#list .done")).to_have_count(2)
    assert overflow(page) == 0
    overlay = page.request.get(f"{served.address}/{page.locator('#overlay').get_attribute('src')}").body()
    assert cv2.imdecode(np.frombuffer(overlay, np.uint8), cv2.IMREAD_COLOR).shape == (200, 320, 3)
    page.click("#compare")
    row = page.locator("#comparison tr").nth(1)
    name, first, second, difference = row.locator("td").all_inner_texts()
    assert name == "Area 1"
    shares = [float(text.split()[0]) for text in (first, second)]
    assert float(difference.split()[0].replace("\N{MINUS SIGN}", "-").lstrip("+±")) == pytest.approx(
        shares[1] - shares[0], abs=0.15
    )
    assert overflow(page) == 0
