"""Small datasets of salient objects that tests generate, in the layouts of the official downloads.

Every builder takes the dataset's folder, writes the dataset and returns the folder. A disc moves through each video;
the mask is the disc, of one object in its left half and of another one in its right half where there are two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from .datasets_on_disk import SIZE, draw_frame, object_mask, write_image

DAVIS_PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]

FBMS_COLORS = [(255, 255, 255), (0, 255, 255), (255, 0, 255)]
"""Colors of the regions in .ppm masks; the first one is the background."""


def labels(video: str, number: int) -> np.ndarray:
    """Return the background as 0, and the halves of the disc as 1 and 2."""
    disc = object_mask(video, number) > 0
    left = np.cumsum(disc.sum(axis=0)) <= disc.sum() / 2
    return np.where(disc, np.where(left, 1, 2), 0).astype(np.uint8)


def write_palette(path: Path, values: np.ndarray) -> None:
    """Write labels as a PNG with the palette of DAVIS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values, "P")
    image.putpalette([level for color in DAVIS_PALETTE for level in color])
    image.save(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_sequence(frames: Path, masks: Path, video: str, stems: Mapping[int, str], masked: Iterable[int] = ()) -> None:
    """Write the frames of a sequence, .jpg, and their masks, .png, in black and white.

    Args:
        frames: folder of the frames.
        masks: folder of the masks.
        video: name of the sequence.
        stems: file names without suffix, by the frame's number.
        masked: numbers of the frames with a mask; empty for all.
    """
    for number, stem in stems.items():
        write_image(frames / f"{stem}.jpg", draw_frame(video, number))
        if number in (set(masked) or stems):
            write_image(masks / f"{stem}.png", object_mask(video, number))


def davis(root: Path, count: int = 4) -> Path:
    """Write DAVIS with the lists of 2016 and 2017: ``bear`` in black and white, ``dog`` and ``goat`` with a palette."""
    for name in ("bear", "dog", "goat"):
        stems = {number: f"{number:05d}" for number in range(count)}
        masks = root / "Annotations" / "480p" / name
        write_sequence(root / "JPEGImages" / "480p" / name, masks, name, stems)
        for number, stem in stems.items() if name != "bear" else ():
            write_palette(masks / f"{stem}.png", labels(name, number))
    write_text(root / "ImageSets" / "2016" / "train.txt", "bear\n")
    write_text(root / "ImageSets" / "2016" / "val.txt", "dog\n")
    write_text(root / "ImageSets" / "2017" / "val.txt", "dog\ngoat\n")
    return root


def davsod(root: Path, count: int = 4) -> Path:
    """Write DAVSOD: one sequence of the training set and two of the easy test set, numbered as in DHF1K."""
    places = {"DAVSOD-TrainingSet": ["0001"], "Easy-35": ["0004", "0005_2"]}
    for folder, names in places.items():
        for name in names:
            sequence = root / folder / f"select_{name}"
            stems = {number: f"{number:04d}" for number in range(31, 31 + count)}
            write_sequence(sequence / "Imgs", sequence / "GT_object_level", sequence.name, stems)
            write_palette(sequence / "GT_instance_level" / "0031.png", labels(sequence.name, 31))
    return root


def segtrack(root: Path, count: int = 4) -> Path:
    """Write SegTrack-V2: ``frog`` with one object, ``bmx`` with two."""
    for name, first in (("frog", 0), ("bmx", 6668)):
        masks = root / "GroundTruth" / name
        for number in range(first, first + count):
            stem = f"{name}_{number:05d}"
            write_image(root / "JPEGImages" / name / f"{stem}.bmp", draw_frame(name, number))
            if name == "frog":
                write_image(masks / f"{stem}.png", object_mask(name, number))
            for label in (1, 2) if name == "bmx" else ():
                mask = (labels(name, number) == label).astype(np.uint8) * 255
                write_image(masks / str(label) / f"{stem}.{'bmp' if label == 1 else 'png'}", mask)
    return root


def fbms(root: Path, count: int = 6) -> Path:
    """Write FBMS-59: ``bear01`` with colored masks, ``cars1`` with gray ones, each of every second frame."""
    for folder, name, colored in (
        ("Trainingset", "bear01", True),
        ("Testset", "cars1", False),
        ("Testset", "cats01", True),
    ):
        sequence = root / folder / name
        truth = sequence / "GroundTruth"
        scales = [red << 16 | green << 8 | blue for red, green, blue in FBMS_COLORS] if colored else [0, 80, 160]
        lines = ["Ground truth definition file; do not change!", "", "Total number of regions:", "3", ""]
        for region, scale in enumerate(scales):
            lines += [f"Scale of region {region}:", str(scale)]
        lines += ["Confusion penality matrix:", "0 1 1", "1 0 1", "1 1 0", ""]
        lines += ["Total number of frames in this shot:", str(count)]
        lines += ["Total number of labeled frames for this shot:", str((count + 1) // 2)]
        for number in range(1, count + 1):
            write_image(sequence / f"{name}_{number:02d}.jpg", draw_frame(name, number))
            if number % 2:
                values = labels(name, number)
                mask = f"{name}_{number:02d}_gt.{'ppm' if colored else 'pgm'}"
                write_image(truth / mask, np.array(FBMS_COLORS if colored else scales, np.uint8)[values])
                write_image(truth / f"{name}_{number:02d}_PROB_gt.pgm", np.full(SIZE[::-1], 255, np.uint8))
                lines += ["Frame number:", str(number - 1), "File name:", mask]
                lines += ["Input file name:", f"{name}_{number:02d}.ppm"]
        write_text(truth / f"{name}Def.dat", "\n".join(lines) + "\n")
    return root


def visal(root: Path, count: int = 9) -> Path:
    """Write ViSal: the masks of every second frame in one folder; one name begins with another."""
    for name in ("boat", "boat2"):
        stems = {number: f"{name}_{number:04d}" for number in range(1, count + 1)}
        write_sequence(root / "ViSal" / name, root / "GroundTruth", name, stems, range(1, count + 1, 2))
    return root


def vos(root: Path, count: int = 9) -> Path:
    """Write VOS: masks of every second frame, the key frames."""
    for name in ("53", "101"):
        sequence = root / "VOS_test" / name
        stems = {number: f"{number:05d}" for number in range(1, count + 1)}
        write_sequence(sequence / "Imgs", sequence / "ground-truth", name, stems, range(1, count + 1, 2))
    return root


def benchmark(root: Path, count: int = 4) -> Path:
    """Write two sequences as the benchmark of DAVSOD does: ``NAME/Imgs``, ``NAME/ground-truth``."""
    for name in ("dog", "goat"):
        stems = {number: f"{name}_{number:05d}" for number in range(count)}
        write_sequence(root / name / "Imgs", root / name / "ground-truth", name, stems)
    return root


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "davis": davis,
    "davsod": davsod,
    "segtrack": segtrack,
    "fbms": fbms,
    "visal": visal,
    "vos": vos,
}
"""Builders by layout."""
