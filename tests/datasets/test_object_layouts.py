"""Layouts of salient objects: which sequences are found, with which masks, and which faults the check finds."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers import object_datasets as objects

from tinyhd_cli.commands import evaluate_check
from tinyhd_cli.datasets import check_dataset, open_dataset, read_mask
from tinyhd_cli.datasets.check_masks import missing_at_intervals
from tinyhd_cli.errors import InputError, UsageError

SIZE = on_disk.SIZE[::-1]

SEQUENCES = {
    "davis": {"dog": [0, 1, 2, 3]},
    "davsod": {"select_0004": [31, 32, 33, 34], "select_0005_2": [31, 32, 33, 34]},
    "segtrack": {"bmx": [6668, 6669, 6670, 6671], "frog": [0, 1, 2, 3]},
    "fbms": {"cars1": [1, 3, 5], "cats01": [1, 3, 5]},
    "visal": {"boat": [1, 3, 5, 7, 9], "boat2": [1, 3, 5, 7, 9]},
    "vos": {"53": [1, 3, 5, 7, 9], "101": [1, 3, 5, 7, 9]},
}
"""Sequences of the split that papers report results for, and the numbers of the frames with a mask."""

LAYOUTS = list(SEQUENCES)


def lines(report, faults_only=True):
    return [str(finding) for finding in (report.faults if faults_only else report.findings)]


def own_faults(dataset):
    """Return the faults, without those about the number of sequences and frames, of which the tests write few."""
    return [line for line in lines(check_dataset(dataset)) if "are here" not in line]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sequences_and_masks(tmp_path, layout):
    """Every frame is read; the masks of frames that have one are the disc, with all its objects."""
    dataset = open_dataset(layout, objects.BUILDERS[layout](tmp_path))
    assert {video.name: video.annotated_numbers for video in dataset.videos} == SEQUENCES[layout]
    for video in dataset.videos:
        frames = list(video.read())
        assert [files.number for files, _ in frames] == list(video.images)
        assert len(frames) >= len(video.masks) > 0
        for files, image in frames:
            assert files.density is files.fixation is None
            assert files.annotated == (files.number in SEQUENCES[layout][video.name])
            if files.mask:
                mask = read_mask(files.mask, image.shape[:2])
                np.testing.assert_array_equal(mask, on_disk.object_mask(video.name, files.number) > 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_check_finds_no_fault_in_intact_files(tmp_path, layout):
    dataset = open_dataset(layout, objects.BUILDERS[layout](tmp_path))
    report = check_dataset(dataset)
    assert all("are here" in line for line in lines(report, faults_only=False))
    assert report.scored == sum(map(len, SEQUENCES[layout].values()))
    assert report.frames == sum(len(video.images) for video in dataset.videos)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "davsod"])
def test_the_form_of_the_benchmark(tmp_path, layout):
    dataset = open_dataset(layout, objects.benchmark(tmp_path))
    assert [video.name for video in dataset.videos] == ["dog", "goat"]
    assert own_faults(dataset) == []


def test_splits_of_davis(tmp_path):
    root = objects.davis(tmp_path)

    def names(split):
        return [video.name for video in open_dataset("davis", root, split).videos]

    assert (names("train"), names("val"), names("val-2017")) == (["bear"], ["dog"], ["dog", "goat"])
    with pytest.raises(InputError) as caught:
        names("train-2017")
    assert str(caught.value) == (
        f"{root}/ImageSets/2017/train.txt: is missing, the list of the train-2017 split;"
        " use --split train or val or val-2017"
    )
    files = "/JPEGImages/480p/goat/0000{0}.jpg /Annotations/480p/goat/0000{0}.png \n"
    objects.write_text(root / "ImageSets" / "480p" / "val.txt", "".join(map(files.format, range(4))))
    assert names("val") == ["goat"]
    for text in ("../../secret/\n", "..\n", "/\n"):
        objects.write_text(root / "ImageSets" / "480p" / "val.txt", text)
        if text.startswith("../../"):
            assert names("val") == ["secret"]  # a name, not a path
        else:
            with pytest.raises(InputError, match=r"val\.txt: '\S+' does not name a sequence$"):
                names("val")
    objects.write_text(root / "ImageSets" / "480p" / "val.txt", "\n")
    with pytest.raises(InputError, match=r"val\.txt: lists no sequences$"):
        names("val")
    shutil.rmtree(root / "ImageSets")
    with pytest.raises(InputError, match=r"the list of the val split; copy it from the download of DAVIS$"):
        names("val")


def test_a_sequence_that_only_the_list_has(tmp_path):
    """It is one fault, which names the list; the other sequences are scored."""
    root = objects.davis(tmp_path)
    objects.write_text(root / "ImageSets" / "2016" / "val.txt", "dog\nzebra\n")
    dataset = open_dataset("davis", root)
    assert own_faults(dataset) == [
        f"zebra: is named in {root}/ImageSets/2016/val.txt, but has neither frames nor masks"
    ]
    assert check_dataset(dataset).scored == 4


def test_splits_of_davsod(tmp_path):
    root = objects.davsod(tmp_path / "DAVSOD")
    nested = tmp_path / "nested"
    shutil.copytree(root / "Easy-35" / "select_0004", nested / "Easy-35" / "Easy-35" / "select_0007")
    for place, split, names in (
        (root, "train", ["select_0001"]),
        (root, None, ["select_0004", "select_0005_2"]),
        (root / "Easy-35", "easy", ["select_0004", "select_0005_2"]),
        (root.parent, "easy", ["select_0004", "select_0005_2"]),
        (nested, "easy", ["select_0007"]),
    ):
        assert [video.name for video in open_dataset("davsod", place, split).videos] == names
    with pytest.raises(InputError, match="no normal videos in the davsod layout"):
        open_dataset("davsod", root, "normal")
    with pytest.raises(UsageError, match=r"davsod has train, val, easy, normal, difficult$"):
        open_dataset("davsod", root, "test")


def test_fbms_without_definition_file(tmp_path):
    """Masks are found by the numbers in their names; files of probabilities are not masks."""
    root = objects.fbms(tmp_path)
    assert [video.name for video in open_dataset("fbms", root, "train").videos] == ["bear01"]
    truth = root / "Testset" / "cars1" / "GroundTruth"
    (truth / "cars1Def.dat").unlink()
    for number in (1, 3, 5):
        (truth / f"cars1_0{number}_gt.pgm").unlink()
        on_disk.write_image(truth / f"cars1_0{number}.png", on_disk.object_mask("cars1", number))
    assert own_faults(open_dataset("fbms", root)) == []
    assert list(open_dataset("fbms", root).videos[0].masks) == [1, 3, 5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Scale of region", "Size of region", "does not list the colors of the regions; copy or download it again"),
        ("0\nScale", "zero\nScale", "does not list the colors of the regions; copy or download it again"),
        ("Input file name:\ncars1_03.ppm\n", "", "lists 3 masks for 2 frames; copy or download it again"),
        (":\ncars1_03.ppm", ":\nlast.ppm", "no number in the name of the frame 'last.ppm'"),
        ("_03_gt.pgm", "_03\0.pgm", "is not a definition file; copy or download it again"),
        ("\n80\n", f"\n{'8' * 5000}\n", "is not a definition file; copy or download it again"),
        ("\n80\n", f"\n{'8' * 100}\n", "does not list the colors of the regions; copy or download it again"),
    ],
)
def test_damaged_definition_files_of_fbms(tmp_path, old, new, message):
    """The sequence has a fault; the other sequences are scored."""
    path = objects.fbms(tmp_path) / "Testset" / "cars1" / "GroundTruth" / "cars1Def.dat"
    path.write_text(path.read_text().replace(old, new))
    dataset = open_dataset("fbms", tmp_path)
    (fault,) = own_faults(dataset)
    assert fault.startswith(f"cars1: {path}: ")
    assert fault.endswith(message)
    assert [video.annotated for video in dataset.videos] == [False, True]


def test_definition_files_cannot_name_files_elsewhere(tmp_path):
    path = objects.fbms(tmp_path / "FBMS") / "Testset" / "cars1" / "GroundTruth" / "cars1Def.dat"
    path.write_text(path.read_text().replace("\ncars1_03_gt.pgm", "\n../../../../secret_03.pgm"))
    video = open_dataset("fbms", tmp_path / "FBMS").videos[0]
    assert video.masks[3].paths == (path.parent / "secret_03.pgm",)


def test_visal_with_a_folder_of_masks_for_each_sequence(tmp_path):
    root = objects.visal(tmp_path)
    for path in list((root / "GroundTruth").iterdir()):
        folder = root / "GroundTruth" / path.name.rsplit("_", 1)[0]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    for name in ("boat", "boat2"):
        (root / "ViSal" / name).rename(root / name)
    (root / "ViSal").rmdir()
    dataset = open_dataset("visal", root)
    assert {video.name: list(video.masks) for video in dataset.videos} == SEQUENCES["visal"]
    assert own_faults(dataset) == []


FIRST = {
    "davis": ("dog", "JPEGImages/480p/dog/00002.jpg", "Annotations/480p/dog/00002.png"),
    "davsod": ("select_0004", "Easy-35/select_0004/Imgs/0033.jpg", "Easy-35/select_0004/GT_object_level/0033.png"),
    "segtrack": ("frog", "JPEGImages/frog/frog_00002.bmp", "GroundTruth/frog/frog_00002.png"),
    "fbms": ("cars1", "Testset/cars1/cars1_03.jpg", "Testset/cars1/GroundTruth/cars1_03_gt.pgm"),
    "visal": ("boat", "ViSal/boat/boat_0003.jpg", "GroundTruth/boat_0003.png"),
    "vos": ("53", "VOS_test/53/Imgs/00003.jpg", "VOS_test/53/ground-truth/00003.png"),
    "folder": ("cat", "cat/images/frame3.jpg", "cat/masks/frame3.png"),
    "images": ("i10", "images/i10.jpg", "masks/i10.png"),
}
"""A sequence of each layout, with one of its frames and the mask of this frame."""


NUMBERS = {"davis": 2, "davsod": 33, "segtrack": 2, "images": 1}
"""The number of this frame, where it is not 3."""


def build(layout, root):
    if layout == "folder":
        return on_disk.folder(root, {"cat": 4, "dog": 4}, kinds=("masks",))
    if layout == "images":
        return on_disk.images(root, kinds=("masks",))
    return objects.BUILDERS[layout](root)


def masks_of(layout, root):
    video = next(video for video in open_dataset(layout, root).videos if video.name == FIRST[layout][0])
    return [path for files in video.masks.values() for path in files.paths]


@pytest.mark.parametrize("layout", FIRST)
def test_a_missing_mask(tmp_path, layout):
    """It is a fault where every frame has a mask, and where a list names it; else a note, if masks are regular."""
    root = build(layout, tmp_path)
    name, _, mask = FIRST[layout]
    (root / mask).unlink()
    dataset = open_dataset(layout, root)
    message = {
        "fbms": f"{name}: {root / mask}: cannot be read: No such file or directory",
        "images": f"{name}: has no annotations",
        "visal": f"{name}: masks are at regular intervals, but none for a frame: 3",
        "vos": f"{name}: masks are at regular intervals, but none for a frame: 3",
    }.get(layout, f"{name}: no mask for a frame: {NUMBERS.get(layout, 3)}")
    found = [finding for finding in check_dataset(dataset).findings if finding.video]
    assert [str(finding) for finding in found] == [message]
    assert found[0].fault == (layout not in {"visal", "vos"})


@pytest.mark.parametrize("layout", FIRST)
def test_a_missing_frame(tmp_path, layout):
    root = build(layout, tmp_path)
    name, frame, _ = FIRST[layout]
    (root / frame).unlink()
    expected = "has no frames" if layout == "images" else f"no frame for a mask: {NUMBERS.get(layout, 3)}"
    assert own_faults(open_dataset(layout, root)) == [f"{name}: {expected}"]


@pytest.mark.parametrize("layout", FIRST)
def test_a_mask_of_another_size(tmp_path, layout):
    root = build(layout, tmp_path)
    name, _, mask = FIRST[layout]
    on_disk.write_image(root / mask, np.zeros((9, 16), np.uint8))
    number = NUMBERS.get(layout, 3)
    assert f"{name}: masks differ in size from the frames: {number}" in own_faults(open_dataset(layout, root))
    video = next(video for video in open_dataset(layout, root).videos if video.name == name)
    with pytest.raises(InputError) as caught:
        read_mask(video.masks[number], SIZE)
    assert str(caught.value) == f"{root / mask}: is 16 x 9, but the frame is 64 x 36; masks are not resized"


@pytest.mark.parametrize("layout", FIRST)
def test_a_mask_that_is_not_binary(tmp_path, layout):
    """Not a fault in FBMS, whose definition files say which levels are objects."""
    root = build(layout, tmp_path)
    name, _, mask = FIRST[layout]
    on_disk.write_image(root / mask, np.tile(np.linspace(0, 255, SIZE[1]).astype(np.uint8), (SIZE[0], 1)))
    number = NUMBERS.get(layout, 3)
    expected = [f"{name}: masks are not binary, such as {root / mask}: {number}"] if layout != "fbms" else []
    assert own_faults(open_dataset(layout, root)) == expected


@pytest.mark.parametrize("layout", FIRST)
def test_masks_without_any_object(tmp_path, layout):
    """One empty mask is a note; a sequence with empty masks only is a fault."""
    root = build(layout, tmp_path)
    name = FIRST[layout][0]
    paths = masks_of(layout, root)
    for path in paths:
        on_disk.write_image(path, np.zeros(SIZE, np.uint8))
    assert own_faults(open_dataset(layout, root)) == [f"{name}: no mask has an object"]
    if len(paths) > 1:
        white = np.zeros(SIZE, np.uint8)
        white[5:9, 5:9] = 80 if layout == "fbms" else 255
        for path in paths[1:]:
            on_disk.write_image(path, white)
        report = check_dataset(open_dataset(layout, root))
        number = next(iter(next(v for v in open_dataset(layout, root).videos if v.name == name).masks))
        assert f"{name}: masks without an object: {number}" in lines(report, faults_only=False)
        assert [line for line in lines(report) if "are here" not in line] == []


@pytest.mark.parametrize("layout", FIRST)
def test_unreadable_files(tmp_path, layout):
    root = build(layout, tmp_path)
    name, frame, mask = FIRST[layout]
    (root / mask).write_bytes(b"<html>404</html>")
    (root / frame).write_bytes(b"")
    assert own_faults(open_dataset(layout, root)) == [
        f"{name}: {root / frame}: is empty",
        f"{name}: {root / mask}: is not an image that OpenCV can decode",
    ]


@pytest.mark.parametrize("layout", [name for name in FIRST if name != "images"])
def test_a_sequence_without_any_mask(tmp_path, layout):
    root = build(layout, tmp_path)
    name = FIRST[layout][0]
    paths = masks_of(layout, root)
    if layout == "visal":
        for path in paths:
            path.unlink()
    else:
        shutil.rmtree(paths[0].parent)
    if layout == "folder":  # without its folder of masks, it is not a dataset's video
        assert open_dataset(layout, root).ignored == (name,)
        (root / name / "masks").mkdir()
    assert own_faults(open_dataset(layout, root)) == [
        f"{name}: has no {'annotations' if layout == 'folder' else 'masks'}"
    ]


def test_a_missing_object_and_objects_of_different_sizes(tmp_path):
    root = objects.segtrack(tmp_path)
    (root / "GroundTruth" / "bmx" / "2" / "bmx_06669.png").unlink()
    on_disk.write_image(root / "GroundTruth" / "bmx" / "2" / "bmx_06670.png", np.zeros((9, 16), np.uint8))
    assert own_faults(open_dataset("segtrack", root)) == [
        "bmx: no mask of object 2 for a frame: 6669",
        "bmx: masks of the objects of frame 6670 differ in size: 16 x 9 and 64 x 36",
    ]


def test_a_mask_without_background_is_a_note(tmp_path):
    root = objects.vos(tmp_path)
    on_disk.write_image(root / FIRST["vos"][2], np.full(SIZE, 255, np.uint8))
    report = check_dataset(open_dataset("vos", root))
    assert (lines(report), lines(report, faults_only=False)) == ([], ["53: masks without background: 3"])


def test_masks_beside_maps_and_fixations_are_checked_too(tmp_path):
    root = on_disk.folder(tmp_path, {"cat": 4}, kinds=("maps", "fixation", "masks"))
    assert own_faults(open_dataset("folder", root)) == []
    (root / "cat" / "masks" / "frame2.png").unlink()
    (root / "cat" / "maps" / "frame3.png").unlink()
    assert own_faults(open_dataset("folder", root)) == [
        "cat: no density map for a frame: 3",
        "cat: no mask for a frame: 2",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_check_prints_faults_and_fails(tmp_path, capsys, layout):
    root = build(layout, tmp_path)
    on_disk.truncate(root / FIRST[layout][2])
    assert evaluate_check.run_check(open_dataset(layout, root), quiet=True) == 1
    out = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"fault: {FIRST[layout][0]}: {root / FIRST[layout][2]}: ") for line in out)
    assert out[-2].startswith(f"{len(open_dataset(layout, root).videos)} video")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wrong_folder_says_what_is_expected(tmp_path, layout):
    """If the dataset is in a folder of that folder, the message names it."""
    (tmp_path / "holiday").mkdir()
    message = rf"^{tmp_path}: no (\w+ )?videos in the {layout} layout \(\S+/\S+, [^;]+\)"
    with pytest.raises(InputError, match=message + "$"):
        open_dataset(layout, tmp_path)
    if layout != "davsod":  # its folders are found one level deeper
        root = objects.BUILDERS[layout](tmp_path / "data")
        with pytest.raises(InputError, match=message + rf"; did you mean {root}\?$"):
            open_dataset(layout, tmp_path)


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([], []),
        ([4], []),
        ([1, 2, 3], []),
        ([10, 20, 40, 50, 60, 70], [30]),
        ([1, 2, 3, 40, 80, 81], []),
        ([1, 11, 21, 51, 61, 71, 81], [31, 41]),
    ],
)
def test_missing_numbers_in_regular_sequences(numbers, missing):
    assert missing_at_intervals(numbers) == missing
