"""Small eye-tracking datasets that the tests write for themselves, laid out as the official downloads are.

Every builder takes the dataset's folder, writes it and returns it. A disc wanders through each video; a few observers
look near it, and the density is their fixations blurred, so that a map of the disc scores well and the ground truth is
as consistent as a real one. Sizes are (width, height).
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

Size = tuple[int, int]

SIZE: Size = (64, 36)
OBSERVERS = 12

DHF1K = {601: 6, 602: 4, 700: 5}
"""Videos of the validation split and how many frames they have."""

HOLLYWOOD2: dict[str, tuple[range, Size]] = {
    "actioncliptest00001_1": (range(3, 9), (64, 36)),
    "actioncliptest00001_2": (range(12, 13), (64, 36)),  # one frame; 9 to 11 were cut between the shots
    "actioncliptest00001_4": (range(16, 21), (64, 36)),  # there is no shot 3
    "actioncliptest00002_1": (range(3, 7), (72, 30)),
    "actioncliptest00002_10": (range(7, 10), (72, 30)),
}
"""Shots, the numbers of their frames within the whole video, and their size."""

UCF_SPORTS: dict[str, tuple[int, Size]] = {
    "Diving-Side-001": (5, (72, 40)),
    "Golf-Swing-Back-010": (4, (72, 58)),
    "Run-Side-002": (3, (48, 36)),
}
"""Videos, how many frames they have, and their size."""


def gaze(video: str, number: int, size: Size) -> tuple[float, float]:
    """Where the disc of a frame is, x and y in pixels."""
    phase = zlib.crc32(video.encode()) % 628 / 100
    width, height = size
    return (
        width * (0.5 + 0.3 * np.sin(phase + number / 4)),
        height * (0.5 + 0.25 * np.cos(2 * phase + number / 5)),
    )


def picture(video: str, number: int, size: Size = SIZE) -> np.ndarray:
    """A frame, RGB: a bright disc on a dark gradient."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    image = np.stack([40 + 60 * x / width, 60 + 40 * y / height, np.full((height, width), 70.0)], axis=-1)
    gaze_x, gaze_y = gaze(video, number, size)
    image[(x - gaze_x) ** 2 + (y - gaze_y) ** 2 < (height / 7) ** 2] = (250, 230, 80)
    return image.astype(np.uint8)


def fixation(video: str, number: int, size: Size = SIZE) -> np.ndarray:
    """A fixation map: 255 at a few pixels near the disc."""
    rng = np.random.default_rng([zlib.crc32(video.encode()), number])
    points = rng.normal(gaze(video, number, size), size[1] / 9, (OBSERVERS, 2)).round().astype(int)
    columns, rows = points.clip(0, np.array(size) - 1).T
    fixations = np.zeros(size[::-1], np.uint8)
    fixations[rows, columns] = 255
    return fixations


def density(fixations: np.ndarray) -> np.ndarray:
    """The density map of a fixation map: blurred, with 255 as the greatest value."""
    blurred = cv2.GaussianBlur(fixations.astype(np.float64), (0, 0), fixations.shape[1] / 25)
    return (blurred / (blurred.max() or 1) * 255).round().astype(np.uint8)


def write_picture(path: Path, image: np.ndarray) -> Path:
    """Write a picture, RGB or gray, in the format of the path's ending, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image)
    assert done
    path.write_bytes(data.tobytes())
    return path


def write_video(path: Path, pictures: Iterable[np.ndarray], codec: str = "mpeg4", key_frames: int = 12) -> Path:
    """Write a video of 30 frames a second; MPEG-4 part 2 in AVI as in DHF1K, if not told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi" if codec == "mpeg4" else None) as container:
        stream = container.add_stream(codec, rate=30, options={"g": str(key_frames)})
        assert isinstance(stream, VideoStream)
        stream.bit_rate = 4_000_000
        for index, image in enumerate(pictures):
            if not index:
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_truth(folder: Path, video: str, stems: Mapping[int, str], size: Size = SIZE, inside: str = "") -> None:
    """Write the maps of a video.

    Args:
        folder: holds ``maps`` and ``fixation``.
        video: its name.
        stems: file names by frame number.
        size: of the maps.
        inside: folder within ``maps`` and ``fixation``.
    """
    for number, stem in stems.items():
        fixations = fixation(video, number, size)
        write_picture(folder / "fixation" / inside / f"{stem}.png", fixations)
        write_picture(folder / "maps" / inside / f"{stem}.png", density(fixations))


def write_frames(folder: Path, video: str, stems: Mapping[int, str], size: Size = SIZE, suffix: str = ".png") -> None:
    """Write the frames of a video as pictures into a folder."""
    for number, stem in stems.items():
        write_picture(folder / f"{stem}{suffix}", picture(video, number, size))


def dhf1k(root: Path, videos: Mapping[int, int] = DHF1K, frames: str = "avi", size: Size = SIZE) -> Path:
    """Write DHF1K.

    Args:
        root: the dataset's folder.
        videos: numbers of videos and of their frames. Annotations of the test split (701 and on) are held out.
        frames: where the frames are: ``avi``, or pictures in ``frames``, ``video`` or ``images``, the places where
            people extract them to.
        size: of all frames.
    """
    for video, count in videos.items():
        name = f"{video:04d}"
        numbers = range(1, count + 1)
        stems = {number: f"{number:04d}" for number in numbers}
        annotation = root / "annotation" / name
        if video <= 700:
            write_truth(annotation, name, stems, size)
            for number in numbers:  # the download has them, too
                other = annotation / "fixation" / "maps" / f"{number:04d}.mat"
                other.parent.mkdir(exist_ok=True)
                other.write_bytes(b"MATLAB 5.0 MAT-file")
            (annotation / "maps" / ".DS_Store").write_bytes(b"\0Bud1")
            (annotation / "maps" / "._0001.png").write_bytes(b"\0\5\26\7")
        if frames == "avi":
            pictures = (picture(name, number, size) for number in numbers)
            write_video(root / "video" / f"{video:03d}.AVI", pictures)
        else:
            places = {"frames": root / "frames" / name, "video": root / "video" / name, "images": annotation / "images"}
            write_frames(places[frames], name, stems, size)
    return root


def hollywood2(
    root: Path, shots: Mapping[str, tuple[range, Size]] = HOLLYWOOD2, split: str = "test", missing: Iterable[int] = ()
) -> Path:
    """Write Hollywood-2: a folder for each shot, files numbered by the frame of the whole video.

    Args:
        root: the dataset's folder.
        shots: names, frame numbers and sizes.
        split: ``train`` or ``test``.
        missing: numbers of frames whose picture is not there in any shot, although their maps are.
    """
    for name, (numbers, size) in shots.items():
        folder = root / f"{split}ing" / name
        stems = {number: f"{name.rsplit('_', 1)[0]}_{number:05d}" for number in numbers}
        write_truth(folder, name, stems, size)
        write_frames(folder / "images", name, stems, size)
        for number in set(missing) & set(numbers):
            (folder / "images" / f"{stems[number]}.png").unlink()
    return root


def ucf_sports(root: Path, videos: Mapping[str, tuple[int, Size]] = UCF_SPORTS, split: str = "test") -> Path:
    """Write UCF-Sports: ``testing/Diving-Side-001/images/Diving-Side_001_001.png`` and its maps."""
    for name, (count, size) in videos.items():
        folder = root / f"{split}ing" / name
        stems = {number: f"{'_'.join(name.rsplit('-', 1))}_{number:03d}" for number in range(1, count + 1)}
        write_truth(folder, name, stems, size)
        write_frames(folder / "images", name, stems, size)
    return root


def folder(root: Path, videos: Mapping[str, int], form: str = "images", size: Size = SIZE) -> Path:
    """Write a dataset as anybody might have it.

    Args:
        root: the dataset's folder.
        videos: their names, which may be paths, and numbers of frames.
        form: ``images``: ``NAME/{images,maps,fixation}``; ``inside``: the same with frames in ``NAME`` itself;
            ``beside``: ``NAME.mp4`` with ``maps/NAME`` and ``fixation/NAME`` beside it.
        size: of all frames.
    """
    for name, count in videos.items():
        stems = {number: f"frame{number}" for number in range(1, count + 1)}
        if form == "beside":
            path = root / f"{name}.mp4"
            write_video(path, (picture(name, number, size) for number in stems), "libx264")
            write_truth(path.parent, name, stems, size, inside=path.stem)
        else:
            write_truth(root / name, name, stems, size)
            write_frames(root / name / ("images" if form == "images" else ""), name, stems, size, ".jpg")
    return root


def photographs(root: Path, names: Iterable[str] = ("beach", "i2", "i10"), size: Size = SIZE) -> Path:
    """Write photographs with their maps: ``images/NAME.jpg``, ``maps/NAME.png``, ``fixation/NAME.png``."""
    for name in names:
        write_truth(root, name, {1: name}, size)
        write_frames(root / "images", name, {1: name}, size, ".jpg")
    return root


def cut(path: Path, keep: float = 0.5) -> None:
    """Leave the first part of a file, as a download that broke off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def spoil_frame(path: Path, number: int) -> None:
    """Overwrite one frame of a video file, so that it does not decode."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    spoiled = packets[number - 1]
    assert spoiled.pos is not None
    data = bytearray(path.read_bytes())
    at = data.index(bytes(spoiled), spoiled.pos)
    data[at : at + spoiled.size] = b"\xff" * spoiled.size
    path.write_bytes(bytes(data))


@dataclass(frozen=True)
class Fault:
    """Something wrong with video 0601 of a DHF1K tree as :func:`dhf1k` writes it."""

    plant: Callable[[Path], object]
    """Does the damage, given the tree's folder."""
    said: tuple[str, ...]
    """Parts of the line that the dataset doctor must say, all in one finding."""


def _annotation(root: Path, kind: str, number: int) -> Path:
    return root / "annotation" / "0601" / kind / f"{number:04d}.png"


def _enlarge(path: Path) -> None:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    write_picture(path, image.repeat(2, axis=0).repeat(2, axis=1))


def _other_fixations(root: Path) -> None:
    """Fixations far from the disc, as if the maps were those of another frame."""
    fixations = np.zeros(SIZE[::-1], np.uint8)
    gaze_x, gaze_y = gaze("0601", 2, SIZE)
    fixations[0 if gaze_y > SIZE[1] / 2 else -1, :4] = fixations[:4, 0 if gaze_x > SIZE[0] / 2 else -1] = 255
    write_picture(_annotation(root, "fixation", 2), fixations)


DHF1K_FAULTS = {
    "no annotations": Fault(lambda root: shutil.rmtree(root / "annotation" / "0601"), ("0601: has no annotations",)),
    "no video": Fault(lambda root: (root / "video" / "601.AVI").unlink(), ("0601: its frames are not there",)),
    "no density maps": Fault(
        lambda root: shutil.rmtree(root / "annotation" / "0601" / "maps"), ("0601: has no density maps",)
    ),
    "a density map missing": Fault(
        lambda root: _annotation(root, "maps", 3).unlink(), ("0601: no density map for a frame: 3",)
    ),
    "a fixation map missing": Fault(
        lambda root: _annotation(root, "fixation", 4).unlink(), ("0601: no fixation map for a frame: 4",)
    ),
    "maps without frames": Fault(
        lambda root: [
            shutil.copy(_annotation(root, kind, 6), _annotation(root, kind, number))
            for kind in ("maps", "fixation")
            for number in (7, 8)
        ],
        ("0601: no frame for a density map: 7-8",),
    ),
    "numbered from zero": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 1), _annotation(root, "maps", 0)),
        ("0601: no frame for a density map: 0",),
    ),
    "a density map that breaks off": Fault(
        lambda root: cut(_annotation(root, "maps", 2)), ("0601: ", "0002.png: breaks off before its end")
    ),
    "an empty fixation file": Fault(
        lambda root: _annotation(root, "fixation", 5).write_bytes(b""), ("0601: ", "0005.png: is empty")
    ),
    "no picture": Fault(
        lambda root: _annotation(root, "fixation", 5).write_bytes(b"<html>404</html>"),
        ("0601: ", "0005.png: is no picture that OpenCV can decode"),
    ),
    "density and fixation map differ in size": Fault(
        lambda root: _enlarge(_annotation(root, "maps", 3)),
        ("0601: density and fixation map of frame 3 differ in size: 64 x 36 and 128 x 72",),
    ),
    "maps of another size": Fault(
        lambda root: [_enlarge(_annotation(root, kind, 3)) for kind in ("maps", "fixation")],
        ("0601: maps of another size than the frames: 3",),
    ),
    "a constant density": Fault(
        lambda root: write_picture(_annotation(root, "maps", 4), np.full(SIZE[::-1], 0, np.uint8)),
        ("0601: ", "0004.png: has the value 0 everywhere"),
    ),
    "fixations for a density": Fault(
        lambda root: shutil.copy(_annotation(root, "fixation", 4), _annotation(root, "maps", 4)),
        ("0601: ", "0004.png: has two values only, like a fixation map"),
    ),
    "a density for fixations": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 4), _annotation(root, "fixation", 4)),
        ("0601: ", "0004.png: has ", "values, not two, like a density map"),
    ),
    "inverted fixations": Fault(
        lambda root: write_picture(_annotation(root, "fixation", 4), 255 - fixation("0601", 4)),
        ("0601: ", "0004.png: marks 99% of all pixels as fixated"),
    ),
    "fixations of another frame": Fault(_other_fixations, ("0601: most fixations lie where the density is 0: 2",)),
    "one number twice": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 2), _annotation(root, "maps", 2).with_name("2.png")),
        ("0601: several files in ", "maps for a frame: 2"),
    ),
    "a file without number": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 2), _annotation(root, "maps", 2).with_name("mean.png")),
        ("0601: no number in the name of a file in ", "maps: mean.png"),
    ),
    "a frame that does not decode": Fault(
        lambda root: spoil_frame(root / "video" / "601.AVI", 4), ("0601: ", "601.AVI: ", "damaged packet")
    ),
    "no video file": Fault(
        lambda root: (root / "video" / "601.AVI").write_bytes(b"not a video"),
        ("0601: ", "601.AVI: not a video that FFmpeg can read"),
    ),
}
"""Faults by what they are; each makes at least the one finding that it names."""
