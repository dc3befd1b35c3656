"""CrowdSAL, NTIRE 2026 and AViMoS: which files belong to which video and split, and the faults that a check finds."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from helpers import crowdsal

from tinyhd_cli.datasets import check_dataset, open_dataset, read_density, read_fixation, read_fixation_points
from tinyhd_cli.errors import InputError, UsageError

FRAMES = 4


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return a folder with a dataset in each layout."""
    root = tmp_path_factory.mktemp("datasets")
    for layout in ("crowdsal", "ntire2026", "avimos"):
        crowdsal.make(layout, root / layout, videos=4, frames=FRAMES)
    return root


@pytest.fixture
def copy(original, tmp_path):
    """Return a function that copies the dataset in a layout."""
    return lambda layout: shutil.copytree(original / layout, tmp_path / layout)


SPLITS = {
    ("crowdsal", "train"): ["0001", "0002", "0003", "0004"],
    ("crowdsal", None): ["3001", "3002"],
    ("ntire2026", "train"): ["0001", "0002", "0003", "0004"],
    ("ntire2026", None): ["0005", "0006"],
    ("avimos", "public_test"): ["0005"],
    ("avimos", "private_test"): ["0006"],
}


@pytest.mark.parametrize(("layout", "split"), SPLITS)
def test_videos_of_a_split(original, layout, split):
    """Every frame has the maps and fixations that were written, in landscape and portrait videos."""
    dataset = open_dataset(layout, original / layout, split)
    assert [video.name for video in dataset.videos] == SPLITS[layout, split]
    assert dataset.videos[-1].map_size == crowdsal.SIZE, "the last video is portrait, so its height is the larger side"
    for video in map(pickle.loads, map(pickle.dumps, dataset.videos)):
        size = video.map_size[::-1]
        assert video.annotated and not video.unsupported
        assert list(video.densities) == list(video.fixations) == list(range(1, FRAMES + 1))
        assert [path.suffix for path in video.files] == [".mp4", ".json", ".mp4"]
        for files, image in video.read():
            points = crowdsal.fixations(video.name, files.number, size)
            np.testing.assert_array_equal(read_fixation_points(files.fixation), points)
            np.testing.assert_array_equal(read_density(files.density), crowdsal.density(points, size))
            assert read_fixation(files.fixation, video.map_size).sum() == len(np.unique(points, axis=0))
            assert image.shape[:2] == video.map_size
        assert video.frame(FRAMES + 1).density is None and video.frame(0).fixation is None


def test_split_file(copy):
    """Names may have a suffix; without a list of training videos, these are all that are in no test."""
    root = copy("avimos")
    path = root / "TrainTestSplit.json"
    path.write_text(json.dumps({"public_test": ["0005.mp4"], "private_test": ["0006.mp4", "0002"]}))
    assert [video.name for video in open_dataset("avimos", root, "train").videos] == ["0001", "0003", "0004"]
    assert [video.name for video in open_dataset("avimos", root).videos] == ["0002", "0005", "0006"]
    path.write_text(json.dumps({"public_test": ["0005"]}))
    assert [video.name for video in open_dataset("avimos", root).videos] == ["0005"]
    for content, reason in {
        '{"train": ["0001"]}': "has no list private_test, only train",
        '{"private_test": ["../0001"]}': "'../0001' is not the name of a video",
        '{"private_test": {"0001": 1}}': "must contain lists of names",
        '{"private_test": ["0001", ': "cannot be read",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=rf"TrainTestSplit\.json: {reason}"):
            open_dataset("avimos", root, "private_test")
    path.unlink()
    with pytest.raises(InputError, match=r"TrainTestSplit\.json: no such file; it lists the videos of each split"):
        open_dataset("avimos", root)


def test_archives_without_inner_folders(copy):
    root = copy("ntire2026")
    for kind in ("Saliency", "Fixations"):
        for part in ("Train", "Test"):
            (root / f"{kind}{part}" / part).rename(root / "inner")
            (root / f"{kind}{part}").rmdir()
            (root / "inner").rename(root / f"{kind}{part}")
    shutil.move(root / "Videos", root / "inner")
    (root / "inner").rename(root / "Videos")
    for split in ("train", "test"):
        assert all(
            video.density_video and video.fixation_list for video in open_dataset("ntire2026", root, split).videos
        )


def test_unknown_split_and_layout(original):
    with pytest.raises(UsageError, match="ntire2026 has train, test, public_test, private_test"):
        open_dataset("ntire2026", original / "ntire2026", "val")
    with pytest.raises(InputError, match=r"no test videos in the crowdsal layout .*3001\.json"):
        open_dataset("crowdsal", original / "avimos")
    with pytest.raises(InputError, match=r"did you mean .*crowdsal\?"):
        open_dataset("crowdsal", original)
    with pytest.raises(InputError, match=r"no videos in the folder .* in the layout crowdsal \(train, test\)"):
        open_dataset("folder", original / "crowdsal")
    with pytest.raises(InputError, match=r"it has videos in the layout ntire2026 \(train, .*\) or avimos"):
        open_dataset("dhf1k", original / "avimos")


def test_held_out_annotations(copy, tinyhd, capsys):
    """A test split without annotations cannot be scored; a check finds no fault in that."""
    root = copy("ntire2026")
    for kind in ("Saliency", "Fixations"):
        shutil.rmtree(root / f"{kind}Test")
    report = check_dataset(open_dataset("ntire2026", root, "private_test"))
    assert [(str(finding), finding.fault) for finding in report.findings] == [("0006: has no annotations", False)]
    command = ["evaluate", "--dataset", "ntire2026", "--root", root, "--split", "private_test", "--prior"]
    assert tinyhd(*command) == 3
    assert "held out the annotations of the private_test split" in capsys.readouterr().err


class Planted:
    """A training video of CrowdSAL in which a fault is planted."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.clip, self.maps, self.listed = (
            folder / kind / f"{name}{suffix}"
            for kind, suffix in (("Videos", ".mp4"), ("Saliency", ".mp4"), ("Fixations", ".json"))
        )

    def edit(self, change):
        """Change the list of fixations."""
        self.listed.write_text(json.dumps(change(json.loads(self.listed.read_text()))))

    def density(self, number):
        """Return the density map of a frame."""
        return crowdsal.density(crowdsal.fixations(self.name, number))

    def write_maps(self, change, frames=FRAMES):
        """Write the map video again, each map changed, given the map and the number of the frame."""
        self.maps.unlink()
        crowdsal.write_maps(self.maps, (change(self.density(n), n) for n in range(1, frames + 1)))

    def move(self):
        """Give the video another name."""
        for path in (self.clip, self.maps, self.listed):
            path.rename(path.with_name(f"3999{path.suffix}"))


def swapped(frames):
    return [[[column, row] for row, column in frame] for frame in frames]


FAULTS = {
    "no map video": (lambda v: v.maps.unlink(), "{v}: has no map video"),
    # The fixations of this video, the second one, are at columns that do not exist as rows.
    "columns before rows": (
        lambda v: v.edit(swapped),
        "{v}: {v.listed}: fixations outside of the map (they may be [column, row] instead of [row, column]): 1-4",
    ),
    "a map too few": (lambda v: v.write_maps(lambda m, n: m, FRAMES - 1), "{v}: no density map for a frame: 4"),
    "a map too many": (lambda v: v.write_maps(lambda m, n: m, FRAMES + 1), "{v}: no frame for a density map: 5"),
    "a list too few": (lambda v: v.edit(lambda frames: frames[:-1]), "{v}: no list of fixations for a frame: 4"),
    "a list too many": (lambda v: v.edit(lambda frames: frames * 2), "{v}: no frame for a list of fixations: 5-8"),
    "a fixation outside": (
        lambda v: v.edit(lambda frames: [frames[0], [*frames[1], [64, 3]], *frames[2:]]),
        "{v}: {v.listed}: fixations outside of the map: 2",
    ),
    "frames without fixations, one of them black": (
        lambda v: [
            v.edit(lambda frames: [[], frames[1], [], frames[3]]),
            v.write_maps(lambda m, n: np.full_like(m, 64) if n == 3 else m),
        ],
        "{v}: frames without fixations (AUCs, NSS, CC and IG are not defined): 1, 3",
    ),
    "maps of another size": (
        lambda v: v.write_maps(lambda m, n: np.pad(m, ((0, 16), (0, 16)))),
        "{v}: maps differ in size from the frames: 1-4",
    ),
    "a map video that is a web page": (
        lambda v: v.maps.write_bytes(b"<html>404</html>"),
        "{v}: {v.maps}: not a video that FFmpeg can read",
    ),
    "truncated JSON": (
        lambda v: v.listed.write_text("[[[1, 2], [3,"),
        "{v}: {v.listed}: must be a JSON list, per frame, of [row, column]",
    ),
    "no list": (lambda v: v.listed.unlink(), "{v}: has no list of fixations"),
    "no annotations": (lambda v: [v.listed.unlink(), v.maps.unlink()], "{v}: has no annotations"),
    "no frames": (lambda v: v.clip.unlink(), "{v}: has no frames"),
    "black maps": (
        lambda v: v.write_maps(lambda m, n: m if n > 2 else np.full_like(m, 64)),
        "{v}: {v.maps}: has the value 64 everywhere: 1-2",
    ),
    "maps of other frames": (
        lambda v: v.write_maps(lambda m, n: np.roll(m, 48, axis=1)),
        "{v}: most fixations lie where the density is lowest: 1-4",
    ),
    "a truncated video": (
        lambda v: v.clip.write_bytes(v.clip.read_bytes()[:600]),
        "{v}: {v.clip}: not a video that FFmpeg can read",
    ),
    "a test video": (Planted.move, "1 video of the other split in Train, which has 0001-3000: 3999"),
    "a video without license": (lambda v: None, "1 video without a line in {v.folder}/metadata.jsonl: 3999"),
    "a video in both splits": (
        lambda v: shutil.copy(v.clip, v.folder.parent / "Test" / "Videos"),
        "1 video in both Train and Test: {v}",
    ),
}
"""Faults: how each is planted in a video, and the beginning of the finding."""


def test_planted_faults(tmp_path, tinyhd, capsys):
    """Each fault is found, and nothing else."""
    root = crowdsal.make("crowdsal", tmp_path / "data", videos=len(FAULTS), frames=FRAMES, portrait=0)
    command = ["evaluate", "--dataset", "crowdsal", "--root", root, "--split", "train", "--check", "--quiet"]
    incomplete = f"fault: {len(FAULTS)} of the train split's 3,000 videos are here"
    assert tinyhd(*command) == 1
    assert capsys.readouterr().out.splitlines()[:-2] == [incomplete]
    expected = []
    for index, (plant, message) in enumerate(FAULTS.values()):
        video = Planted(root / "Train", f"{index + 1:04d}")
        plant(video)
        expected.append(message.replace("{v}", video.name).format(v=video))
    assert tinyhd(*command) == 1
    found = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[:-2]]
    assert not [line for line in expected if not any(other.startswith(line) for other in found)], found
    assert [line for line in found if not line.startswith(tuple(expected))] == [incomplete.partition(": ")[2]]


def test_faults_of_splits(copy, tinyhd, capsys):
    root = copy("avimos")
    lists = {"train": ["0001", "0002", "0009", "0003"], "public_test": ["0005", "0003"], "private_test": ["0005"]}
    (root / "TrainTestSplit.json").write_text(json.dumps(lists))
    assert tinyhd("evaluate", "--dataset", "avimos", "--root", root, "--split", "train", "--check", "--quiet") == 1
    assert capsys.readouterr().out.splitlines()[:-2] == [
        "fault: 2 videos more than once in TrainTestSplit.json: 0003, 0005",
        "fault: 1 video of train in TrainTestSplit.json without any file: 0009",
        "fault: 2 videos in Videos, but not in TrainTestSplit.json: 0004, 0006",
        "fault: 1 video with annotations among those of Train, but not in this split: 0004",
        "fault: 1 video with annotations among those of Test, but not in this split: 0006",
        "fault: 3 of the train split's 1,000 videos are here",
    ]


def test_metadata(copy):
    root = copy("crowdsal")
    path = root / "Test" / "metadata.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n\n{not json\n")
    findings = check_dataset(open_dataset("crowdsal", root)).findings
    assert any(f"{path}: line 3 is not JSON" in str(finding) for finding in findings)
