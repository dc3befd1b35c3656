"""Layouts of datasets: which videos are found, in which order, with which frames and maps."""

from __future__ import annotations

import os
import shutil

import av
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.datasets import open_dataset, read_density, read_fixation
from tinyhd_cli.errors import InputError, UsageError


def names(dataset):
    return [video.name for video in dataset.videos]


def numbers(video):
    return [files.number for files, _ in video.read()]


def assert_complete(video, size):
    """Assert that each frame is read with the maps that were generated for it."""
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
    """Frames are found in AVI files and as images in each of the usual folders."""
    dataset = open_dataset("dhf1k", on_disk.dhf1k(tmp_path, frames=frames))
    assert (dataset.layout, dataset.split, dataset.official.frames) == ("dhf1k", "val", 60_273)
    assert names(dataset) == ["0601", "0602", "0700"]
    for video, count in zip(dataset.videos, on_disk.DHF1K.values(), strict=True):
        assert video.is_file == (frames == "avi")
        assert numbers(video) == [files.number for files in video.frames] == list(range(1, count + 1))
        assert_complete(video, on_disk.SIZE)


def test_dhf1k_avi_is_mpeg_4(tmp_path):
    on_disk.dhf1k(tmp_path)
    with av.open(str(tmp_path / "video" / "601.AVI")) as container:
        assert container.format.name == "avi"
        assert container.streams.video[0].codec_context.codec_tag == "FMP4"


def test_dhf1k_splits_are_by_number(tmp_path):
    """The splits are 1-600, 601-700 and 701-1000; numbers are compared as numbers, not as text."""
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
    """Of several sources, the AVI is used first, then video/, frames/ and annotation/."""
    for frames in ("images", "frames", "video", "avi"):
        on_disk.dhf1k(tmp_path, {601: 2}, frames)
        expected = {"images": "annotation/0601/images", "avi": "video/601.AVI"}.get(frames, f"{frames}/0601")
        assert open_dataset("dhf1k", tmp_path).videos[0].source == tmp_path / expected
    (tmp_path / "video" / "601.AVI").rename(tmp_path / "video" / "0601.avi")
    assert open_dataset("dhf1k", tmp_path).videos[0].source.name == "0601.avi"


def test_dhf1k_annotations_without_video_are_a_video(tmp_path):
    """Existing maps can be scored without the video."""
    on_disk.dhf1k(tmp_path, {601: 3})
    shutil.rmtree(tmp_path / "video")
    (video,) = open_dataset("dhf1k", tmp_path).videos
    assert [files.number for files in video.frames] == [1, 2, 3]
    with pytest.raises(InputError, match=r"^0601: has annotations, but no frames$"):
        next(video.read())


def test_hollywood2(tmp_path):
    """Frames have the numbers of the whole video; shots are in numeric order and may have one frame and any size."""
    dataset = open_dataset("hollywood2", on_disk.hollywood2(tmp_path))
    assert dataset.split == "test"
    assert names(dataset) == list(on_disk.HOLLYWOOD2)
    for video, (expected, size) in zip(dataset.videos, on_disk.HOLLYWOOD2.values(), strict=True):
        assert numbers(video) == list(expected)
        assert_complete(video, size)


def test_hollywood2_with_a_missing_frame(tmp_path):
    """The missing frame keeps its maps, and the frames around it keep theirs."""
    dataset = open_dataset("hollywood2", on_disk.hollywood2(tmp_path, missing=[5]))
    video = dataset.videos[0]
    assert numbers(video) == [files.number for files in video.frames] == [3, 4, 6, 7, 8]
    assert list(video.densities) == [3, 4, 5, 6, 7, 8]
    assert_complete(video, (64, 36))


def test_ucf_sports(tmp_path):
    dataset = open_dataset("ucf-sports", on_disk.ucf_sports(tmp_path))
    assert names(dataset) == list(on_disk.UCF_SPORTS)
    for video, (count, size) in zip(dataset.videos, on_disk.UCF_SPORTS.values(), strict=True):
        assert numbers(video) == list(range(1, count + 1))
        assert_complete(video, size)


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
        assert_complete(video, on_disk.SIZE)


def test_folders_of_frames_next_to_their_maps(tmp_path):
    for name in ("a", "b"):
        on_disk.write_ground_truth(tmp_path, name, {1: "1", 2: "2"}, inside=name)
        on_disk.write_frames(tmp_path / name, name, {1: "1", 2: "2"})
    dataset = open_dataset("folder", tmp_path)
    assert names(dataset) == ["a", "b"]
    assert_complete(dataset.videos[1], on_disk.SIZE)


def test_all_forms_in_one_folder(tmp_path):
    """A folder with its own maps is one video, also next to videos whose maps are in ``maps/NAME``."""
    on_disk.folder(tmp_path, {"walk": 2}, "beside")
    on_disk.folder(tmp_path, {"cat": 2}, "images")
    on_disk.write_ground_truth(tmp_path, "dog", {1: "1", 2: "2"}, inside="dog")
    on_disk.write_frames(tmp_path / "dog", "dog", {1: "1", 2: "2"})
    dataset = open_dataset("folder", tmp_path)
    assert names(dataset) == ["cat", "dog", "walk"]
    for video in dataset.videos:
        assert_complete(video, on_disk.SIZE)


@pytest.mark.parametrize("kinds", [("maps", "fixation"), ("maps",), ("fixation",)])
def test_one_video_with_its_maps(tmp_path, kinds):
    """The dataset's folder may be that of its only video; one kind of map is enough."""
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
    """Ground truth without frames is enough to score existing maps."""
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


def test_any_folder_uses_the_video_not_its_frames(tmp_path):
    on_disk.folder(tmp_path, {"cat": 2}, "beside")
    on_disk.write_frames(tmp_path / "cat", "cat", {1: "1"})
    assert [video.source for video in open_dataset("folder", tmp_path).videos] == [tmp_path / "cat.mp4"]


def test_hidden_folders_and_folders_without_maps_are_skipped(tmp_path):
    on_disk.folder(tmp_path, {"cat": 1, ".trash/old": 1}, "images")
    on_disk.write_frames(tmp_path / "holiday", "holiday", {1: "1"})
    on_disk.folder(tmp_path / "b", {"dog": 1}, "beside")
    for parent in ("cat", "b"):  # as in DHF1K
        (tmp_path / parent / "fixation" / "maps").mkdir()
    assert names(open_dataset("folder", tmp_path)) == ["b/dog", "cat"]


def test_images(tmp_path):
    """Each image is a video of one frame; images are in natural order and matched to maps by name."""
    dataset = open_dataset("images", on_disk.images(tmp_path))
    assert names(dataset) == ["beach", "i2", "i10"]
    for video in dataset.videos:
        assert not video.is_file
        assert numbers(video) == [1]
        assert_complete(video, on_disk.SIZE)
    (tmp_path / "images" / "beach.jpg").unlink()
    (tmp_path / "fixation" / "i2.png").unlink()
    beach, second, _ = open_dataset("images", tmp_path).videos
    assert (beach.source, len(beach.frames), beach.annotated) == (None, 1, True)
    assert (len(second.densities), len(second.fixations)) == (1, 0)


@pytest.mark.parametrize("layout", ["folder", "images"])
def test_two_videos_with_one_name_are_rejected(tmp_path, layout):
    if layout == "folder":
        on_disk.folder(tmp_path, {"cat": 1}, "beside")
        shutil.copy(tmp_path / "cat.mp4", tmp_path / "cat.avi")
    else:
        on_disk.images(tmp_path, ["cat"])
        shutil.copy(tmp_path / "images" / "cat.jpg", tmp_path / "images" / "cat.jpeg")
    with pytest.raises(InputError, match=r"two videos are named cat: .*cat\.\w+ and .*cat\.\w+$"):
        open_dataset(layout, tmp_path)


def test_datasets_that_cannot_be_opened(tmp_path):
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all permissions")
def test_a_folder_without_permission(tmp_path):
    root = on_disk.ucf_sports(tmp_path)
    (root / "testing").chmod(0)
    try:
        with pytest.raises(InputError, match=r"testing: Permission denied$"):
            open_dataset("ucf-sports", root)
    finally:
        (root / "testing").chmod(0o755)
