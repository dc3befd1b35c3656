"""Datasets as they are on disk: what is found, in which order, how it is read, and what the doctor says of it."""

from __future__ import annotations

import os
import pickle
import shutil
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.datasets import Video, open_dataset, read_density, read_fixation, read_image
from tinyhd_cli.datasets.check import check_dataset, describe_numbers
from tinyhd_cli.datasets.images import files_by_number, last_number, natural_key, read_map
from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.video.reader import VideoReader


def names(dataset):
    return [video.name for video in dataset.videos]


def numbers(video):
    return [files.number for files, _ in video.read()]


def lines(report, faults_only=False):
    return [str(finding) for finding in (report.faults if faults_only else report.findings)]


# Layouts


def assert_whole(video, size):
    """That each frame is there once, with the maps that were made for it."""
    for files, image in video.read():
        assert image.shape == (size[1], size[0], 3)
        assert image.dtype == np.uint8
        original = on_disk.draw_frame(video.name, files.number, size)
        assert np.abs(image.astype(int) - original).mean() < 6, files.number
        fixations = on_disk.fixation(video.name, files.number, size)
        np.testing.assert_array_equal(read_fixation(files.fixation), fixations > 0)
        np.testing.assert_array_equal(read_density(files.density), on_disk.density(fixations))


@pytest.mark.parametrize("frames", ["avi", "frames", "video", "images"])
def test_dhf1k(tmp_path, frames):
    """The AVI files, and pictures in each of the places where people extract them to."""
    dataset = open_dataset("dhf1k", on_disk.dhf1k(tmp_path, frames=frames))
    assert (dataset.layout, dataset.split, dataset.official.frames) == ("dhf1k", "val", 60_273)
    assert names(dataset) == ["0601", "0602", "0700"]
    for video, count in zip(dataset.videos, on_disk.DHF1K.values(), strict=True):
        assert video.is_file == (frames == "avi")
        assert numbers(video) == [files.number for files in video.frames] == list(range(1, count + 1))
        assert_whole(video, on_disk.SIZE)


def test_dhf1k_avi_is_mpeg_4(tmp_path):
    on_disk.dhf1k(tmp_path)
    with av.open(str(tmp_path / "video" / "601.AVI")) as container:
        assert container.format.name == "avi"
        assert container.streams.video[0].codec_context.codec_tag == "FMP4"


def test_dhf1k_splits_are_by_number(tmp_path):
    """1-600, 601-700, 701-1000; as text, 1000 would come right after 100."""
    videos = dict.fromkeys([1, 99, 100, 600, 601, 700, 701, 999, 1000, 1001], 1)
    on_disk.dhf1k(tmp_path, videos)
    assert names(open_dataset("dhf1k", tmp_path, "train")) == ["0001", "0099", "0100", "0600"]
    assert names(open_dataset("dhf1k", tmp_path, "val")) == ["0601", "0700"]
    test = open_dataset("dhf1k", tmp_path, "test")
    assert names(test) == ["0701", "0999", "1000"]
    assert [video.source.name for video in test.videos] == ["701.AVI", "999.AVI", "1000.AVI"]
    assert test.official.held_out
    assert not any(video.annotated for video in test.videos)
    assert test.videos[0].frames == ()
    assert numbers(test.videos[0]) == [1]


def test_dhf1k_prefers_the_original_video(tmp_path):
    """If several forms are there: the AVI, then video/, then frames/, then annotation/."""
    for frames in ("images", "frames", "video", "avi"):
        on_disk.dhf1k(tmp_path, {601: 2}, frames)
        expected = {"images": "annotation/0601/images", "avi": "video/601.AVI"}.get(frames, f"{frames}/0601")
        assert open_dataset("dhf1k", tmp_path).videos[0].source == tmp_path / expected
    (tmp_path / "video" / "601.AVI").rename(tmp_path / "video" / "0601.avi")
    assert open_dataset("dhf1k", tmp_path).videos[0].source.name == "0601.avi"


def test_dhf1k_annotations_without_video_are_a_video(tmp_path):
    """Maps that somebody else made can be scored without it."""
    on_disk.dhf1k(tmp_path, {601: 3})
    shutil.rmtree(tmp_path / "video")
    (video,) = open_dataset("dhf1k", tmp_path).videos
    assert [files.number for files in video.frames] == [1, 2, 3]
    with pytest.raises(InputError, match=r"^0601: has annotations, but no frames$"):
        next(video.read())


def test_hollywood2(tmp_path):
    """Frame numbers are those of the whole video; shots of one frame; numeric order; sizes that differ."""
    dataset = open_dataset("hollywood2", on_disk.hollywood2(tmp_path))
    assert dataset.split == "test"
    assert names(dataset) == list(on_disk.HOLLYWOOD2)
    for video, (expected, size) in zip(dataset.videos, on_disk.HOLLYWOOD2.values(), strict=True):
        assert numbers(video) == list(expected)
        assert_whole(video, size)


def test_hollywood2_with_a_missing_frame(tmp_path):
    """It keeps its maps; its neighbors keep theirs."""
    dataset = open_dataset("hollywood2", on_disk.hollywood2(tmp_path, missing=[5]))
    video = dataset.videos[0]
    assert numbers(video) == [files.number for files in video.frames] == [3, 4, 6, 7, 8]
    assert list(video.densities) == [3, 4, 5, 6, 7, 8]
    assert_whole(video, (64, 36))


def test_ucf_sports(tmp_path):
    dataset = open_dataset("ucf-sports", on_disk.ucf_sports(tmp_path))
    assert names(dataset) == list(on_disk.UCF_SPORTS)
    for video, (count, size) in zip(dataset.videos, on_disk.UCF_SPORTS.values(), strict=True):
        assert numbers(video) == list(range(1, count + 1))
        assert_whole(video, size)


@pytest.mark.parametrize("layout", ["hollywood2", "ucf-sports"])
def test_splits_are_folders(tmp_path, layout):
    build = {"hollywood2": on_disk.hollywood2, "ucf-sports": on_disk.ucf_sports}[layout]
    build(tmp_path, split="train")
    assert len(open_dataset(layout, tmp_path, "train").videos) > 1
    with pytest.raises(InputError, match=rf"no test videos in the {layout} layout \(testing/"):
        open_dataset(layout, tmp_path)


@pytest.mark.parametrize("form", ["images", "inside", "beside"])
def test_any_folder(tmp_path, form):
    videos = {"cat": 4, "walk 2": 2, "walk 10": 3, "more/deep/dog": 3}
    dataset = open_dataset("folder", on_disk.folder(tmp_path, videos, form))
    assert dataset.split is dataset.official is None
    assert names(dataset) == ["cat", "more/deep/dog", "walk 2", "walk 10"]
    for video in dataset.videos:
        assert numbers(video) == list(range(1, videos[video.name] + 1))
        assert_whole(video, on_disk.SIZE)


def test_folders_of_frames_beside_their_maps(tmp_path):
    for name in ("a", "b"):
        on_disk.write_ground_truth(tmp_path, name, {1: "1", 2: "2"}, inside=name)
        on_disk.write_frames(tmp_path / name, name, {1: "1", 2: "2"})
    dataset = open_dataset("folder", tmp_path)
    assert names(dataset) == ["a", "b"]
    assert_whole(dataset.videos[1], on_disk.SIZE)


@pytest.mark.parametrize("kinds", [("maps", "fixation"), ("maps",), ("fixation",)])
def test_one_video_with_its_maps(tmp_path, kinds):
    """The dataset's folder is the video's; one kind of map is enough."""
    root = tmp_path / "cat"
    on_disk.write_video(root / "whatever.mkv", (on_disk.draw_frame("cat", number) for number in (1, 2)), "libx264")
    on_disk.write_ground_truth(root, "cat", {1: "1", 2: "2"})
    for kind in {"maps", "fixation"} - set(kinds):
        shutil.rmtree(root / kind)
    (video,) = open_dataset("folder", root).videos
    assert video.name == "cat"
    assert numbers(video) == [1, 2]
    assert (len(video.densities), len(video.fixations)) == (2 * ("maps" in kinds), 2 * ("fixation" in kinds))


@pytest.mark.parametrize("form", ["images", "inside", "beside"])
def test_any_folder_without_frames(tmp_path, form):
    """Ground truth alone is enough to score maps from elsewhere."""
    on_disk.folder(tmp_path, {"cat": 4, "sub/dog": 3}, form)
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.mp4")]:
        path.unlink()
    for path in tmp_path.rglob("images"):
        path.rmdir()
    dataset = open_dataset("folder", tmp_path)
    assert [(video.name, video.source, len(video.frames)) for video in dataset.videos] == [
        ("cat", None, 4),
        ("sub/dog", None, 3),
    ]


def test_any_folder_takes_the_video_rather_than_its_frames(tmp_path):
    on_disk.folder(tmp_path, {"cat": 2}, "beside")
    on_disk.write_frames(tmp_path / "cat", "cat", {1: "1"})
    assert [video.source for video in open_dataset("folder", tmp_path).videos] == [tmp_path / "cat.mp4"]


def test_hidden_folders_and_what_has_no_maps_are_passed_over(tmp_path):
    on_disk.folder(tmp_path, {"cat": 1, ".trash/old": 1}, "images")
    on_disk.write_frames(tmp_path / "holiday", "holiday", {1: "1"})
    on_disk.folder(tmp_path / "b", {"dog": 1}, "beside")
    for parent in ("cat", "b"):  # as in DHF1K
        (tmp_path / parent / "fixation" / "maps").mkdir()
    assert names(open_dataset("folder", tmp_path)) == ["b/dog", "cat"]


def test_photographs(tmp_path):
    """Each is a video of one frame; natural order; the maps go by name."""
    dataset = open_dataset("images", on_disk.images(tmp_path))
    assert names(dataset) == ["beach", "i2", "i10"]
    for video in dataset.videos:
        assert not video.is_file
        assert numbers(video) == [1]
        assert_whole(video, on_disk.SIZE)
    (tmp_path / "images" / "beach.jpg").unlink()
    (tmp_path / "fixation" / "i2.png").unlink()
    beach, second, _ = open_dataset("images", tmp_path).videos
    assert (beach.source, len(beach.frames), beach.annotated) == (None, 1, True)
    assert (len(second.densities), len(second.fixations)) == (1, 0)


@pytest.mark.parametrize("layout", ["folder", "images"])
def test_two_videos_of_one_name_are_refused(tmp_path, layout):
    if layout == "folder":
        on_disk.folder(tmp_path, {"cat": 1}, "beside")
        shutil.copy(tmp_path / "cat.mp4", tmp_path / "cat.avi")
    else:
        on_disk.images(tmp_path, ["cat"])
        shutil.copy(tmp_path / "images" / "cat.jpg", tmp_path / "images" / "cat.jpeg")
    with pytest.raises(InputError, match=r"two videos are named cat: .*cat\.\w+ and .*cat\.\w+$"):
        open_dataset(layout, tmp_path)


def test_what_cannot_be_opened(tmp_path):
    on_disk.ucf_sports(tmp_path / "ucf", split="train")
    with pytest.raises(UsageError, match=r"^--dataset 'dhf-1k' is unknown: did you mean dhf1k\?$"):
        open_dataset("dhf-1k", tmp_path)
    with pytest.raises(UsageError, match=r"^--split 'val' is unknown: ucf-sports has train, test$"):
        open_dataset("ucf-sports", tmp_path / "ucf", "val")
    with pytest.raises(UsageError, match=r"^--split 'val' is unknown: folder has no splits$"):
        open_dataset("folder", tmp_path, "val")
    with pytest.raises(InputError, match=r"nowhere: no such folder$"):
        open_dataset("dhf1k", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: is not a folder$"):
        open_dataset("dhf1k", tmp_path / "file")
    with pytest.raises(InputError, match=r"ucf: no val videos in the dhf1k layout \(video/0601\.AVI or "):
        open_dataset("dhf1k", tmp_path / "ucf")
    with pytest.raises(InputError, match=r": no videos in the images layout \(images/NAME\.jpg, "):
        open_dataset("images", tmp_path / "ucf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path):
    root = on_disk.ucf_sports(tmp_path)
    (root / "testing").chmod(0)
    try:
        with pytest.raises(InputError, match=r"testing: Permission denied$"):
            open_dataset("ucf-sports", root)
    finally:
        (root / "testing").chmod(0o755)


# Names


def test_natural_order():
    words = ["shot_10", "shot_2", "Shot_1", "1000", "999", "100", "", "a1b10", "a1b9", "²"]
    expected = ["", "100", "999", "1000", "Shot_1", "a1b9", "a1b10", "shot_2", "shot_10", "²"]
    assert sorted(words, key=natural_key) == expected


@pytest.mark.parametrize(
    ("stem", "number"),
    [("0001", 1), ("actioncliptest00001_00003", 3), ("Diving-Side_001_012", 12), ("frame7b", 7), ("mean", None)],
)
def test_frame_numbers_are_the_last_ones_in_names(stem, number):
    assert last_number(stem) == number


def test_frames_of_a_folder_in_numeric_order(tmp_path):
    """By number, not by text; hidden files, other kinds of files and folders are left out; the first of two counts."""
    for name in ("2.png", "10.png", "1.PNG", "._3.png", "4.mat", "0010.png", "mean.png"):
        (tmp_path / name).touch()
    (tmp_path / "5.png").mkdir()
    files = files_by_number(tmp_path, (".png",))
    assert [(number, path.name) for number, path in files.items()] == [(1, "1.PNG"), (2, "2.png"), (10, "0010.png")]
    assert files_by_number(tmp_path / "nowhere", (".png",)) == files_by_number(None, (".png",)) == {}


# Reading


def test_reading_is_lazy(tmp_path, monkeypatch):
    """Opening reads no file; the second frame is decoded when it is asked for."""
    on_disk.dhf1k(tmp_path, {601: 6}, "frames")
    read = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.name), read_bytes(path))[1])
    (video,) = open_dataset("dhf1k", tmp_path).videos
    assert len(video.frames) == 6
    assert video.annotated
    assert read == []
    list(islice(video.read(), 2))
    assert read == ["0001.png", "0002.png"]


def test_videos_can_be_sent_to_other_processes(tmp_path):
    dataset = open_dataset("dhf1k", on_disk.dhf1k(tmp_path))
    assert dataset.videos[0].frames
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy == dataset
    assert copy.videos[0].frames == dataset.videos[0].frames


def test_a_damaged_picture_in_the_middle_is_passed_over(tmp_path, caplog):
    """The frames after it keep their numbers; it is reported once, in the log if nobody asks."""
    on_disk.dhf1k(tmp_path, {601: 5}, "frames")
    on_disk.truncate(tmp_path / "frames" / "0601" / "0003.png")
    (video,) = open_dataset("dhf1k", tmp_path).videos
    said = []
    assert [files.number for files, _ in video.read(said.append)] == [1, 2, 4, 5]
    assert said == [f"{tmp_path}/frames/0601/0003.png: is truncated; copy or download it again"]
    assert not caplog.records
    assert numbers(video) == [1, 2, 4, 5]
    assert [record.message for record in caplog.records] == said


@pytest.mark.parametrize(
    ("spoiled", "key_frames"),
    [
        ([4], 12),
        ([4, 5, 9], 12),
        ([20], 12),
        ([1], 3),
        ([1, 2, 7], 1),
    ],
)
def test_frames_after_a_damaged_one_in_an_avi_keep_their_numbers(tmp_path, spoiled, key_frames):
    """At the start, in the middle, at the end."""
    pictures = [on_disk.draw_frame("cat", number) for number in range(1, 21)]
    path = on_disk.write_video(tmp_path / "cat.avi", pictures, key_frames=key_frames)
    for number in spoiled:
        on_disk.corrupt_frame(path, number)
    said = []
    there = {files.number: image for files, image in Video("cat", path, None, None).read(said.append)}
    assert list(there) == [number for number in range(1, 21) if number not in spoiled]
    if spoiled != [20]:  # the decoder is silent about the last one
        assert len(said) == 1
        assert "skipped" in said[0] and "damaged packet" in said[0]
    for number in (15, 19):  # which come after the next key frame
        errors = [np.abs(there[number].astype(int) - picture).mean() for picture in pictures]
        assert int(np.argmin(errors)) + 1 == number


def test_frames_after_a_damaged_one_in_an_mp4_keep_their_numbers(tmp_path):
    """Its frames are stored in another order than shown, which the decoder loses with a key frame."""
    pictures = [on_disk.draw_frame("cat", number) for number in range(1, 21)]
    for key_frames in (3, 12):
        path = on_disk.write_video(tmp_path / "cat.mp4", pictures, "libx264", key_frames=key_frames)
        on_disk.corrupt_frame(path, 4)
        read = [(files.number, image) for files, image in Video("cat", path, None, None).read(lambda line: None)]
        there = dict(read)
        assert [number for number, _ in read] == sorted(there)
        assert {1, 2, *range(9, 21)} <= set(there) <= set(range(1, 21))
        for number in (14, 17, 20):
            errors = [np.abs(there[number].astype(int) - picture).mean() for picture in pictures]
            assert int(np.argmin(errors)) + 1 == number


def test_videos_of_which_nothing_can_be_read(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: contains no images$"):
        next(Video("a", empty, None, None).read())
    (empty / "1.png").write_bytes(b"no picture")
    said = []
    with pytest.raises(InputError, match=r"empty: none of its images can be read$"):
        next(Video("a", empty, None, None).read(said.append))
    assert said == [f"{empty}/1.png: is not an image that OpenCV can decode"]
    (tmp_path / "a.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"a\.avi: not a video that FFmpeg can read"):
        next(Video("a", tmp_path / "a.avi", None, None).read())


def test_kinds_of_maps(tmp_path):
    """1, 8 and 16 bits, gray and color, with transparency: the values of the file."""
    values = np.random.default_rng(0).integers(0, 256, (9, 12)).astype(np.uint8)
    color = values[..., np.newaxis].repeat(3, axis=2)
    opaque = np.concatenate([color, np.full((9, 12, 1), 255, np.uint8)], axis=2)
    for name, image in (("gray", values), ("color", color), ("opaque", opaque)):
        path = tmp_path / f"{name}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        np.testing.assert_array_equal(read_density(path), values)
        np.testing.assert_array_equal(read_fixation(path), values > 0)
    deep = values.astype(np.uint16) * 257
    read = read_map(on_disk.write_image(tmp_path / "deep.png", deep))
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, deep)
    mask = values > 128
    path = tmp_path / "bits.png"
    path.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes())
    assert read_fixation(path).dtype == bool
    np.testing.assert_array_equal(read_fixation(path), mask)


def test_pictures_in_other_formats(tmp_path):
    image = on_disk.draw_frame("cat", 1)
    for suffix in (".png", ".bmp", ".tif", ".webp", ".jpg", ".jpeg"):
        read = read_image(on_disk.write_image(tmp_path / f"a{suffix}", image))
        assert np.abs(read.astype(int) - image).mean() < 3, suffix


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b"text", "is not an image that OpenCV can decode"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_files_that_are_no_pictures(tmp_path, content, line):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for read in (read_image, read_density, read_fixation):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {line}"


def test_a_png_that_breaks_off_anywhere_is_refused(tmp_path):
    """OpenCV would fill up the rest with zeros. What stands behind its end does no harm."""
    path = on_disk.write_image(tmp_path / "a.png", on_disk.fixation("cat", 1))
    data = path.read_bytes()
    for length in range(1, len(data) - 8, 5):
        path.write_bytes(data[:length])
        with pytest.raises(InputError):
            read_fixation(path)
    path.write_bytes(data + b"\0" * 100)
    assert read_fixation(path).any()


def test_maps_of_floats(tmp_path):
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    np.testing.assert_array_equal(read_density(on_disk.write_image(tmp_path / "a.tiff", values)), values)
    values[1, 1] = np.nan
    with pytest.raises(InputError, match=r"b\.tiff: contains NaN or infinity$"):
        read_density(on_disk.write_image(tmp_path / "b.tiff", values))


# The doctor


COUNTS = ["3 of the val split's 100 videos are here", "15 of the val split's 60,273 frames are here"]


@pytest.mark.parametrize("frames", ["avi", "frames", "video", "images"])
def test_doctor_finds_nothing_but_the_counts_in_a_clean_dataset(tmp_path, frames):
    seen = []
    report = check_dataset(
        open_dataset("dhf1k", on_disk.dhf1k(tmp_path, frames=frames)), 2, lambda done, total: seen.append((done, total))
    )
    assert lines(report) == lines(report, faults_only=True) == COUNTS
    assert (report.videos, report.frames, report.scored) == (3, 15, 15)
    assert report.sizes == {on_disk.SIZE: 3}
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_doctor_finds_nothing_in_other_clean_datasets(tmp_path):
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


@pytest.mark.parametrize("what", on_disk.DHF1K_FAULTS)
def test_doctor_finds_each_fault(tmp_path, what):
    """It is named with its video and frame or file, it counts as a fault, and the other videos are not blamed."""
    on_disk.dhf1k(tmp_path)
    fault = on_disk.DHF1K_FAULTS[what]
    fault.plant(tmp_path)
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    found = [finding for finding in report.findings if all(part in str(finding) for part in fault.message)]
    assert len(found) == 1, lines(report)
    assert found[0].fault
    assert {finding.video for finding in report.findings} == {"0601", ""}
    assert len(report.faults) <= 5  # the fault, what follows from it, and the counts


def test_doctor_finds_many_faults_at_once(tmp_path):
    on_disk.dhf1k(tmp_path, {601: 8, 602: 4})
    together = [
        *("a fixation map missing", "a truncated density map", "an empty fixation file"),
        *("density and fixation map differ in size", "one number twice", "a file without number"),
    ]
    for what in together:
        on_disk.DHF1K_FAULTS[what].plant(tmp_path)
    (tmp_path / "video" / "602.AVI").unlink()
    said = lines(check_dataset(open_dataset("dhf1k", tmp_path)), faults_only=True)
    for what in together:
        assert any(all(part in line for part in on_disk.DHF1K_FAULTS[what].message) for line in said), what
    assert "0602: has no frames" in said


@pytest.mark.parametrize(
    ("plant", "said"),
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
def test_doctor_finds_faults_of_extracted_frames(tmp_path, plant, said):
    on_disk.dhf1k(tmp_path, frames="frames")
    plant(tmp_path / "frames" / "0601")
    assert any(line.endswith(said) for line in lines(check_dataset(open_dataset("dhf1k", tmp_path)), faults_only=True))


def test_doctor_does_not_miss_the_frame_of_a_picture_that_cannot_be_read(tmp_path):
    """It is there, and said to be damaged: its maps are not without a frame, and no number is left out."""
    on_disk.dhf1k(tmp_path, {601: 5}, "frames")
    on_disk.truncate(tmp_path / "frames" / "0601" / "0003.png")
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    assert [str(finding) for finding in report.findings if finding.video] == [
        f"0601: {tmp_path}/frames/0601/0003.png: is truncated; copy or download it again"
    ]
    assert (report.frames, report.scored) == (4, 4)


def test_doctor_names_the_frame_that_is_lost_in_a_damaged_avi(tmp_path):
    on_disk.dhf1k(tmp_path, {601: 6})
    on_disk.corrupt_frame(tmp_path / "video" / "601.AVI", 4)
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    assert "0601: no frame for a density map: 4" in lines(report)
    assert (report.frames, report.scored) == (5, 5)


def test_doctor_notes_what_is_odd_but_no_fault(tmp_path):
    """Nobody looked at a frame; annotations that are held out; numbers that leave out frames in Hollywood-2."""
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


def test_doctor_counts_what_would_be_scored(tmp_path):
    """Frames without any map are not, frames with one of the two are."""
    on_disk.dhf1k(tmp_path, {601: 5})
    annotation = tmp_path / "annotation" / "0601"
    for place in ("maps/0002.png", "fixation/0002.png", "fixation/0004.png"):
        (annotation / place).unlink()
    report = check_dataset(open_dataset("dhf1k", tmp_path))
    assert (report.frames, report.scored) == (5, 4)


def test_doctor_on_videos_without_frames(tmp_path):
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
def test_frame_numbers_in_words(listing, text):
    assert describe_numbers(listing) == text


def test_builders_spoil_what_they_say(tmp_path):
    """The clips of these tests: whole unless damaged, and damaged in one place."""
    path = on_disk.write_video(tmp_path / "a.avi", (on_disk.draw_frame("a", number) for number in range(8)))
    with VideoReader(path) as reader:
        assert (len(list(reader)), reader.damaged) == (8, 0)
    before = path.read_bytes()
    on_disk.corrupt_frame(path, 5)
    after = path.read_bytes()
    changed = np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8))
    assert len(before) == len(after)
    assert 0 < np.ptp(changed) < 1000
