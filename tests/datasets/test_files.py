"""Files of datasets: numbers in names, images, maps, and the frames of damaged videos."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.datasets import Video, open_dataset, read_density, read_fixation, read_image
from tinyhd_cli.datasets.images import files_by_number, last_number, natural_key, read_map
from tinyhd_cli.errors import InputError
from tinyhd_cli.video.reader import VideoReader


def numbers(video):
    return [files.number for files, _ in video.read()]


def test_natural_order():
    words = ["shot_10", "shot_2", "Shot_1", "1000", "999", "100", "", "a1b10", "a1b9", "²"]
    expected = ["", "100", "999", "1000", "Shot_1", "a1b9", "a1b10", "shot_2", "shot_10", "²"]
    assert sorted(words, key=natural_key) == expected


@pytest.mark.parametrize(
    ("stem", "number"),
    [("0001", 1), ("actioncliptest00001_00003", 3), ("Diving-Side_001_012", 12), ("frame7b", 7), ("mean", None)],
)
def test_frame_numbers_are_the_last_numbers_in_names(stem, number):
    assert last_number(stem) == number


def test_frames_of_a_folder_in_numeric_order(tmp_path):
    """Files are sorted by number; hidden files, folders and other suffixes are skipped, and duplicates ignored."""
    for name in ("2.png", "10.png", "1.PNG", "._3.png", "4.mat", "0010.png", "mean.png"):
        (tmp_path / name).touch()
    (tmp_path / "5.png").mkdir()
    files = files_by_number(tmp_path, (".png",))
    assert [(number, path.name) for number, path in files.items()] == [(1, "1.PNG"), (2, "2.png"), (10, "0010.png")]
    assert files_by_number(tmp_path / "nowhere", (".png",)) == files_by_number(None, (".png",)) == {}


def test_reading_is_lazy(tmp_path, monkeypatch):
    """Opening a dataset reads no file; frames are decoded one at a time."""
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


def test_a_damaged_image_is_skipped(tmp_path, caplog):
    """The frames after it keep their numbers; it is reported once, in the log if there is no callback."""
    on_disk.dhf1k(tmp_path, {601: 5}, "frames")
    on_disk.truncate(tmp_path / "frames" / "0601" / "0003.png")
    (video,) = open_dataset("dhf1k", tmp_path).videos
    messages = []
    assert [files.number for files, _ in video.read(messages.append)] == [1, 2, 4, 5]
    assert messages == [f"{tmp_path}/frames/0601/0003.png: is truncated; copy or download it again"]
    assert not caplog.records
    assert numbers(video) == [1, 2, 4, 5]
    assert [record.message for record in caplog.records] == messages


@pytest.mark.parametrize(
    ("damaged", "key_frames"),
    [
        ([4], 12),
        ([4, 5, 9], 12),
        ([20], 12),
        ([1], 3),
        ([1, 2, 7], 1),
    ],
)
def test_frames_after_a_damaged_one_in_an_avi_keep_their_numbers(tmp_path, damaged, key_frames):
    """Frames keep their numbers after damage at the start, in the middle and at the end."""
    images = [on_disk.draw_frame("cat", number) for number in range(1, 21)]
    path = on_disk.write_video(tmp_path / "cat.avi", images, key_frames=key_frames)
    for number in damaged:
        on_disk.corrupt_frame(path, number)
    messages = []
    there = {files.number: image for files, image in Video("cat", path, None, None).read(messages.append)}
    assert list(there) == [number for number in range(1, 21) if number not in damaged]
    if damaged != [20]:  # the decoder does not report damage in the last frame
        assert len(messages) == 1
        assert "skipped" in messages[0] and "damaged packet" in messages[0]
    for number in (15, 19):  # frames after the next key frame
        errors = [np.abs(there[number].astype(int) - image).mean() for image in images]
        assert int(np.argmin(errors)) + 1 == number


def test_frames_after_a_damaged_one_in_an_mp4_keep_their_numbers(tmp_path):
    """Frames are stored in decoding order; after a damaged key frame, the decoder outputs some out of order."""
    images = [on_disk.draw_frame("cat", number) for number in range(1, 21)]
    for key_frames in (3, 12):
        path = on_disk.write_video(tmp_path / "cat.mp4", images, "libx264", key_frames=key_frames)
        on_disk.corrupt_frame(path, 4)
        read = [(files.number, image) for files, image in Video("cat", path, None, None).read(lambda line: None)]
        there = dict(read)
        assert [number for number, _ in read] == sorted(there)
        assert {1, 2, *range(9, 21)} <= set(there) <= set(range(1, 21))
        for number in (14, 17, 20):
            errors = [np.abs(there[number].astype(int) - image).mean() for image in images]
            assert int(np.argmin(errors)) + 1 == number


def test_unreadable_videos(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: contains no images$"):
        next(Video("a", empty, None, None).read())
    (empty / "1.png").write_bytes(b"no picture")
    messages = []
    with pytest.raises(InputError, match=r"empty: none of its images can be read$"):
        next(Video("a", empty, None, None).read(messages.append))
    assert messages == [f"{empty}/1.png: is not an image that OpenCV can decode"]
    (tmp_path / "a.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"a\.avi: not a video that FFmpeg can read"):
        next(Video("a", tmp_path / "a.avi", None, None).read())


def test_kinds_of_maps(tmp_path):
    """Maps of 1, 8 and 16 bits, grayscale, color and with transparency are read with the values of the file."""
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


def test_image_formats(tmp_path):
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
def test_files_that_are_not_images(tmp_path, content, line):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for read in (read_image, read_density, read_fixation):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {line}"


def test_truncated_pngs_are_rejected(tmp_path):
    """OpenCV would fill the missing part with zeros. Bytes after the end of the file are ignored."""
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


def test_corrupt_frame_damages_one_frame(tmp_path):
    """Generated clips are intact, and ``corrupt_frame`` changes a single file."""
    path = on_disk.write_video(tmp_path / "a.avi", (on_disk.draw_frame("a", number) for number in range(8)))
    with VideoReader(path) as reader:
        assert (len(list(reader)), reader.damaged) == (8, 0)
    before = path.read_bytes()
    on_disk.corrupt_frame(path, 5)
    after = path.read_bytes()
    changed = np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8))
    assert len(before) == len(after)
    assert 0 < np.ptp(changed) < 1000
