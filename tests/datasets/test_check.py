"""``check_dataset`` finds the faults of datasets, and none in intact ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.datasets import open_dataset
from tinyhd_cli.datasets.check import check_dataset
from tinyhd_cli.datasets.findings import describe_numbers


def lines(report, faults_only=False):
    return [str(finding) for finding in (report.faults if faults_only else report.findings)]


COUNTS = ["3 of the val split's 100 videos are here", "15 of the val split's 60,273 frames are here"]


@pytest.mark.parametrize("frames", ["avi", "frames", "video", "images"])
def test_only_counts_are_reported_for_an_intact_dataset(tmp_path, frames):
    seen = []
    report = check_dataset(
        open_dataset("dhf1k", on_disk.dhf1k(tmp_path, frames=frames)), 2, lambda done, total: seen.append((done, total))
    )
    assert lines(report) == lines(report, faults_only=True) == COUNTS
    assert (report.videos, report.frames, report.scored) == (3, 15, 15)
    assert report.sizes == {on_disk.SIZE: 3}
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_intact_datasets_of_other_layouts(tmp_path):
    on_disk.hollywood2(tmp_path / "h")
    on_disk.ucf_sports(tmp_path / "u")
    on_disk.images(tmp_path / "p")
    for form in ("images", "inside", "beside"):
        on_disk.folder(tmp_path / form, {"cat": 3, "sub/dog": 2}, form)
        assert lines(check_dataset(open_dataset("folder", tmp_path / form))) == []
    assert lines(check_dataset(open_dataset("images", tmp_path / "p"))) == []
    assert lines(check_dataset(open_dataset("hollywood2", tmp_path / "h"))) == [
        "5 of the test split's 3,558 videos are here",
        "19 of the test split's 244,860 frames are here",
    ]
    report = check_dataset(open_dataset("ucf-sports", tmp_path / "u"))
    assert lines(report) == [
        "3 of the test split's 47 videos are here",
        "12 of the test split's 2,929 frames are here",
    ]
    assert report.sizes == {size: 1 for _, size in on_disk.UCF_SPORTS.values()}


@pytest.mark.parametrize("name", on_disk.DHF1K_FAULTS)
def test_each_fault_is_found(tmp_path, name):
    """The finding names the video and the frame or file, and counts as a fault; other videos have no findings."""
    on_disk.dhf1k(tmp_path)
    fault = on_disk.DHF1K_FAULTS[name]
    fault.plant(tmp_path)
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    found = [finding for finding in report.findings if all(part in str(finding) for part in fault.message)]
    assert len(found) == 1, lines(report)
    assert found[0].fault
    assert {finding.video for finding in report.findings} == {"0601", ""}
    assert len(report.faults) <= 5  # the fault, its consequences, and the counts


def test_many_faults_at_once(tmp_path):
    on_disk.dhf1k(tmp_path, {601: 8, 602: 4})
    together = [
        *("a fixation map missing", "a truncated density map", "an empty fixation file"),
        *("density and fixation map differ in size", "one number twice", "a file without number"),
    ]
    for name in together:
        on_disk.DHF1K_FAULTS[name].plant(tmp_path)
    (tmp_path / "video" / "602.AVI").unlink()
    messages = lines(check_dataset(open_dataset("dhf1k", tmp_path)), faults_only=True)
    for name in together:
        assert any(all(part in line for part in on_disk.DHF1K_FAULTS[name].message) for line in messages), name
    assert "0602: has no frames" in messages


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda frames: (frames / "0003.png").unlink(), "0601: no frame for a density map: 3"),
        (lambda frames: (frames / "0001.png").unlink(), "0601: begins with frame 2, not 1"),
        (
            lambda frames: on_disk.truncate(frames / "0002.png"),
            "frames/0601/0002.png: is truncated; copy or download it again",
        ),
        (
            lambda frames: on_disk.write_image(frames / "0002.png", on_disk.draw_frame("a", 1, (32, 18))),
            "0601: frames differ in size: 64 x 36, 32 x 18",
        ),
        (
            lambda frames: [path.unlink() for path in frames.iterdir()],
            "0601: contains no images",
        ),
        (
            lambda frames: shutil.copy(frames / "0002.png", frames / "2.jpg"),
            "frames/0601 for a frame: 2",
        ),
    ],
)
def test_faults_of_extracted_frames(tmp_path, plant, message):
    on_disk.dhf1k(tmp_path, frames="frames")
    plant(tmp_path / "frames" / "0601")
    assert any(
        line.endswith(message) for line in lines(check_dataset(open_dataset("dhf1k", tmp_path)), faults_only=True)
    )


def test_an_unreadable_image_is_not_a_missing_frame(tmp_path):
    """The image is reported as damaged; its frame number is not missing, and its maps have a frame."""
    on_disk.dhf1k(tmp_path, {601: 5}, "frames")
    on_disk.truncate(tmp_path / "frames" / "0601" / "0003.png")
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    assert [str(finding) for finding in report.findings if finding.video] == [
        f"0601: {tmp_path}/frames/0601/0003.png: is truncated; copy or download it again"
    ]
    assert (report.frames, report.scored) == (4, 4)


def test_the_lost_frame_of_a_damaged_avi_is_named(tmp_path):
    on_disk.dhf1k(tmp_path, {601: 6})
    on_disk.corrupt_frame(tmp_path / "video" / "601.AVI", 4)
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    assert "0601: no frame for a density map: 4" in lines(report)
    assert (report.frames, report.scored) == (5, 5)


def test_oddities_are_notes(tmp_path):
    """Frames without fixations, held-out annotations and gaps in the numbers of Hollywood-2 are not faults."""
    root = on_disk.dhf1k(tmp_path / "d", {601: 3, 701: 2})
    for kind in ("maps", "fixation"):
        on_disk.write_image(root / "annotation" / "0601" / kind / "0002.png", np.zeros((36, 64), np.uint8))
    report = check_dataset(open_dataset("dhf1k", root))
    notes = [str(finding) for finding in report.findings if not finding.fault]
    assert notes == ["0601: frames without fixations (AUCs, NSS, CC and IG are not defined): 2"]
    assert all("split's" in line for line in lines(report, faults_only=True))
    report = check_dataset(open_dataset("dhf1k", root, "test"))
    assert [(str(finding), finding.fault) for finding in report.findings][:1] == [("0701: has no annotations", False)]
    assert (report.frames, report.scored) == (2, 0)
    shots = {"actioncliptest00001_1": (range(3, 12, 3), on_disk.SIZE)}
    report = check_dataset(open_dataset("hollywood2", on_disk.hollywood2(tmp_path / "h", shots)))
    notes = [str(finding) for finding in report.findings if not finding.fault]
    assert notes == ["actioncliptest00001_1: missing frame numbers: 4-5, 7-8"]


def test_scored_frames_are_counted(tmp_path):
    """Frames with a density map or a fixation map would be scored, frames without either would not."""
    on_disk.dhf1k(tmp_path, {601: 5})
    annotation = tmp_path / "annotation" / "0601"
    for file in ("maps/0002.png", "fixation/0002.png", "fixation/0004.png"):
        (annotation / file).unlink()
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    assert (report.frames, report.scored) == (5, 4)


def test_videos_without_frames(tmp_path):
    on_disk.images(tmp_path)
    (tmp_path / "images" / "i2.jpg").unlink()
    assert lines(check_dataset(open_dataset("images", tmp_path))) == ["i2: has no frames"]


@pytest.mark.parametrize(
    ("listing", "text"),
    [
        ([3], "3"),
        ([3, 4, 5, 9], "3-5, 9"),
        ([1, 3, 5, 7, 9], "1, 3, 5, 7, 9"),
        ([1, 3, 5, 7, 9, 11, 12], "1, 3, 5, 7, 9, ... (7 in all)"),
    ],
)
def test_frame_numbers_as_text(listing, text):
    assert describe_numbers(listing) == text
