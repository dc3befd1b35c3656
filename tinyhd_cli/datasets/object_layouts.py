"""Layouts of datasets of salient objects, with masks instead of fixations.

Each dataset is found as its publishers distribute it. DAVIS, FBMS, SegTrack-V2, ViSal and VOS are also found in the
form in which the benchmark of DAVSOD (github.com/DengPingFan/DAVSOD, ``Datasets``) distributes them: a folder for each
sequence, with its frames in ``Imgs`` and its masks in ``ground-truth``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from .. import storage
from ..errors import InputError
from .fbms import labeled_frames
from .images import IMAGE_SUFFIXES, folders, last_number, list_files, natural_key, sorted_files
from .masks import MASK_SUFFIXES, MaskFiles
from .video import Video

FRAME_FOLDERS = ("Imgs", "RGB")
"""Names of the folder of frames in the folder of a sequence."""

MASK_FOLDERS = ("GT_object_level", "ground-truth", "GroundTruth", "GT")
"""Names of the folder of masks next to the folder of frames."""

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
"""Names of the folders of frames and masks of DAVIS, in order of preference; papers report results for 480p."""

DAVIS_LISTS = {
    "train": ("480p/train.txt", "2016/train.txt"),
    "val": ("480p/val.txt", "2016/val.txt"),
    "train-2017": ("2017/train.txt",),
    "val-2017": ("2017/val.txt",),
}
"""Lists of sequences in ``ImageSets``, by split."""

DAVSOD_FOLDERS = {
    "train": ("DAVSOD-TrainingSet", "TrainingSet"),
    "val": ("DAVSOD-ValidationSet", "ValidationSet"),
    "easy": ("Easy-35",),
    "normal": ("Normal-25",),
    "difficult": ("Difficult-20",),
}
"""Folders of DAVSOD, by split."""

FBMS_FOLDERS = {"train": ("Trainingset", "TrainingSet"), "test": ("Testset", "TestSet")}
"""Folders of FBMS-59, by split."""

MAX_LIST_BYTES = 1 << 20
"""Size limit of a list of sequences."""


def first_folder(parent: Path, names: Iterable[str]) -> Path | None:
    """Return the first of these folders that exists."""
    return next((parent / name for name in names if (parent / name).is_dir()), None)


def find_sequences(parent: Path, depth: int = 0) -> Iterator[Video]:
    """Yield the sequences of a folder whose frames and masks are in folders of the sequence: ``Imgs, ground-truth``.

    Args:
        parent: the folder.
        depth: number of levels of other folders that may contain sequences.
    """
    for folder in folders(parent):
        if frames := first_folder(folder, FRAME_FOLDERS):
            masks = first_folder(folder, MASK_FOLDERS)
            yield Video(folder.name, frames, None, None, mask_folders=(masks,) if masks else ())
        elif depth:
            yield from find_sequences(folder, depth - 1)


def object_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders of the masks of a sequence: one for each object, ``1``, ``2``, ..., or the folder itself."""
    numbered = [path for path in folders(folder) if path.name.isdecimal()]
    return tuple(sorted(numbered, key=lambda path: natural_key(path.name))) or (folder,)


def find_parallel(
    frames: Path, masks: Path, names: Iterable[str] | None = None, listed: Path | None = None
) -> Iterator[Video]:
    """Yield the sequences whose frames and masks are in folders of the same name.

    Args:
        frames: the folder of the folders of frames.
        masks: the folder of the folders of masks.
        names: names of the sequences; None for all folders with images.
        listed: the file that lists these names.
    """
    for name in names or sorted({path.name for parent in (frames, masks) for path in folders(parent)}):
        source, objects = frames / name, object_folders(masks / name)
        found = any(any(list_files(folder, MASK_SUFFIXES)) for folder in (source, *objects))
        if found or names:
            problem = "" if found else f"is named in {listed}, but has neither frames nor masks"
            yield Video(name, source if source.is_dir() else None, None, None, mask_folders=objects, problem=problem)


def read_list(path: Path) -> list[str]:
    """Return the names in a list of sequences, or of the frames and masks of sequences, without repetitions.

    Lines are ``bear``, or ``/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png``.

    Raises:
        InputError: the file cannot be read, is not a list, or is empty.
    """
    try:
        with storage.open_file(path) as file:
            lines = file.read(MAX_LIST_BYTES).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    names: dict[str, None] = {}
    for line in filter(None, map(str.split, lines)):
        path_in_line = PurePosixPath(line[0])
        name = path_in_line.parent.name if path_in_line.suffix else path_in_line.name
        if name in {"", ".."} or "\\" in name or "\0" in name:
            raise InputError(f"{path}: {line[0]!r} does not name a sequence")
        names[name] = None
    if not names:
        raise InputError(f"{path}: lists no sequences")
    return list(names)


def find_davis(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the sequences of DAVIS 2016 or 2017 (davischallenge.org; Perazzi et al., CVPR 2016).

    Frames are ``JPEGImages/480p/bear/00000.jpg``, masks ``Annotations/480p/bear/00000.png``: in 2016 in black and
    white, in 2017 with a palette, one color for each object. ``ImageSets/480p`` or ``ImageSets/2016`` lists the splits
    of 2016, ``ImageSets/2017`` those of 2017.

    Raises:
        InputError: the list of the split is missing or damaged.
    """
    frames, masks = root / "JPEGImages", root / "Annotations"
    if not frames.is_dir() and not masks.is_dir():
        yield from find_sequences(root) if split == "val" else ()
        return
    lists = {name: [root / "ImageSets" / path for path in paths] for name, paths in DAVIS_LISTS.items()}
    there = {name: path for name, paths in lists.items() for path in reversed(paths) if path.is_file()}
    wanted = split or "val"
    if wanted not in there:
        advice = f"use --split {' or '.join(there)}" if there else "copy it from the download of DAVIS"
        raise InputError(f"{lists[wanted][-1]}: is missing, the list of the {wanted} split; {advice}")
    frames, masks = (first_folder(parent, RESOLUTIONS) or parent for parent in (frames, masks))
    yield from find_parallel(frames, masks, read_list(there[wanted]), there[wanted])


def find_davsod(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the sequences of DAVSOD (github.com/DengPingFan/DAVSOD; Fan et al., CVPR 2019).

    Frames are ``Easy-35/select_0004/Imgs/0001.png``, masks ``Easy-35/select_0004/GT_object_level/0001.png``; numbers
    are those of the video in DHF1K. The archives are ``DAVSOD-TrainingSet``, ``DAVSOD-ValidationSet`` and, of the test
    set, ``Easy-35``, ``Normal-25`` and ``Difficult-20``.
    """
    names = DAVSOD_FOLDERS[split or "easy"]
    found = (first_folder(place, names) for place in (root, *folders(root)))
    folder = root if root.resolve().name in names else next(filter(None, found), None)
    if folder:
        yield from find_sequences(folder, depth=1)  # some programs extract Easy-35.zip to Easy-35/Easy-35


def find_segtrack(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the sequences of SegTrack-V2 (web.engr.oregonstate.edu/~lif/SegTrack2; Li et al., ICCV 2013).

    Frames are ``JPEGImages/frog/frog_00001.png`` or .bmp, masks ``GroundTruth/frog/frog_00001.png``, or for several
    objects ``GroundTruth/bmx/1/bmx_06668.png``, ``GroundTruth/bmx/2/bmx_06668.png``, ...
    """
    masks = first_folder(root, ("GroundTruth", "Annotations"))
    if masks:
        yield from find_parallel(root / "JPEGImages", masks)
    else:
        yield from find_sequences(root)


def find_fbms(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the sequences of FBMS-59 (lmb.informatik.uni-freiburg.de/resources/datasets; Ochs et al., PAMI 2014).

    Frames are ``Testset/cars1/cars1_01.jpg``. ``Testset/cars1/GroundTruth`` has masks of some of the frames, and a file
    ``cars1Def.dat`` that lists them and the colors of the objects. A copy with ``Testset/JPEGImages/cars1`` and
    ``Testset/Annotations/cars1`` is found, too.
    """
    folder = first_folder(root, FBMS_FOLDERS[split or "test"])
    if folder is None:
        yield from find_sequences(root) if split == "test" else ()
    elif (folder / "JPEGImages").is_dir():
        yield from find_parallel(folder / "JPEGImages", folder / "Annotations")
    else:
        for sequence in folders(folder):
            masks: tuple[tuple[int, MaskFiles], ...] = ()
            problem = ""
            try:
                masks = labeled_frames(sequence / "GroundTruth")
            except InputError as error:
                problem = str(error)
            yield Video(sequence.name, sequence, None, None, listed_masks=masks, problem=problem)


def find_visal(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the sequences of ViSal (Wang, Shen and Shao, IEEE TIP 2015).

    Frames are ``ViSal/bird/bird_0001.png``, masks of some of them are ``GroundTruth/bird_0001.png`` or
    ``GroundTruth/bird/bird_0001.png``, with the name of the frame.
    """
    masks = root / "GroundTruth"
    if not masks.is_dir():
        yield from find_sequences(root)
        return
    frames = first_folder(root, ("ViSal",)) or root
    if any(folders(masks)):
        yield from find_parallel(frames, masks)
        return
    found = by_sequence(masks, {path.name: path for path in folders(frames) if path != masks})
    for sequence, by_frame in found.items():
        yield Video(sequence, frames / sequence, None, None, listed_masks=tuple(sorted(by_frame.items())))


def by_sequence(masks: Path, sequences: Mapping[str, Path]) -> dict[str, dict[int, MaskFiles]]:
    """Return the masks in one folder by sequence and frame number.

    A mask has the name of its frame; one without a frame belongs to the sequence whose name it begins with.

    Args:
        masks: the folder.
        sequences: folders of frames by the name of the sequence.
    """
    owners = {path.stem: name for name, folder in sequences.items() for path in list_files(folder, IMAGE_SUFFIXES)}
    found: dict[str, dict[int, MaskFiles]] = {name: {} for name in sequences}
    for path in reversed(sorted_files(masks, MASK_SUFFIXES)):
        owner = owners.get(path.stem) or max(filter(path.stem.startswith, sequences), key=len, default=None)
        number = last_number(path.stem)
        if owner is not None and number is not None:
            found[owner][number] = MaskFiles((path,))
    return found


def find_vos(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the sequences of VOS (Li, Xia and Chen, IEEE TIP 2018), as the benchmark of DAVSOD distributes them.

    Frames are ``VOS_test/53/Imgs/00001.png``, masks of the key frames ``VOS_test/53/ground-truth/00001.png``.
    """
    yield from find_sequences(first_folder(root, ("VOS_test",)) or root)
