"""Small eye-tracking datasets that tests generate, in the layouts of the official downloads.

Every builder takes the dataset's folder, writes the dataset and returns the folder. A disc moves through each video,
simulated observers fixate points near it, and the density map is their blurred fixations. So a map of the disc scores
well, and the ground truth is as consistent as recorded data. Sizes are (width, height).
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
"""Default size of frames."""

OBSERVERS = 12
"""Number of fixations in a frame."""

DHF1K = {601: 6, 602: 4, 700: 5}
"""Numbers of frames of videos of the validation split, by the number of the video."""

HOLLYWOOD2: dict[str, tuple[range, Size]] = {
    "actioncliptest00001_1": (range(3, 9), (64, 36)),
    "actioncliptest00001_2": (range(12, 13), (64, 36)),  # one frame; frames 9 to 11 belong to no shot
    "actioncliptest00001_4": (range(16, 21), (64, 36)),  # shot 3 does not exist
    "actioncliptest00002_1": (range(3, 7), (72, 30)),
    "actioncliptest00002_10": (range(7, 10), (72, 30)),
}
"""Frame numbers within the whole video and size, by the name of the shot."""

UCF_SPORTS: dict[str, tuple[int, Size]] = {
    "Diving-Side-001": (5, (72, 40)),
    "Golf-Swing-Back-010": (4, (72, 58)),
    "Run-Side-002": (3, (48, 36)),
}
"""Number of frames and size, by the name of the video."""


def gaze(video: str, number: int, size: Size) -> tuple[float, float]:
    """Return the center of the disc in a frame, x and y in pixels."""
    phase = zlib.crc32(video.encode()) % 628 / 100
    width, height = size
    return (
        width * (0.5 + 0.3 * np.sin(phase + number / 4)),
        height * (0.5 + 0.25 * np.cos(2 * phase + number / 5)),
    )


def draw_frame(video: str, number: int, size: Size = SIZE) -> np.ndarray:
    """Return a frame, uint8 RGB: a bright disc on a dark gradient."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    image = np.stack([40 + 60 * x / width, 60 + 40 * y / height, np.full((height, width), 70.0)], axis=-1)
    gaze_x, gaze_y = gaze(video, number, size)
    image[(x - gaze_x) ** 2 + (y - gaze_y) ** 2 < (height / 7) ** 2] = (250, 230, 80)
    return image.astype(np.uint8)


def fixation(video: str, number: int, size: Size = SIZE) -> np.ndarray:
    """Return a fixation map: 255 at a few pixels near the disc."""
    rng = np.random.default_rng([zlib.crc32(video.encode()), number])
    points = rng.normal(gaze(video, number, size), size[1] / 9, (OBSERVERS, 2)).round().astype(int)
    columns, rows = points.clip(0, np.array(size) - 1).T
    fixations = np.zeros(size[::-1], np.uint8)
    fixations[rows, columns] = 255
    return fixations


def density(fixations: np.ndarray) -> np.ndarray:
    """Return the density map of a fixation map: blurred, with a maximum of 255."""
    blurred = cv2.GaussianBlur(fixations.astype(np.float64), (0, 0), fixations.shape[1] / 25)
    return (blurred / (blurred.max() or 1) * 255).round().astype(np.uint8)


def write_image(path: Path, image: np.ndarray) -> Path:
    """Write an RGB or grayscale image in the format of the path's suffix; create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image)
    assert done
    path.write_bytes(data.tobytes())
    return path


def write_video(path: Path, images: Iterable[np.ndarray], codec: str = "mpeg4", key_frames: int = 12) -> Path:
    """Write a video of 30 frames per second, by default MPEG-4 part 2 in AVI as in DHF1K; create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi" if codec == "mpeg4" else None) as container:
        stream = container.add_stream(codec, rate=30, options={"g": str(key_frames)})
        assert isinstance(stream, VideoStream)
        stream.bit_rate = 4_000_000
        for index, image in enumerate(images):
            if not index:
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def object_mask(video: str, number: int, size: Size = SIZE) -> np.ndarray:
    """Return the mask of the disc in a frame: 255 on the disc, else 0."""
    y, x = np.mgrid[: size[1], : size[0]]
    gaze_x, gaze_y = gaze(video, number, size)
    return ((x - gaze_x) ** 2 + (y - gaze_y) ** 2 < (size[1] / 7) ** 2).astype(np.uint8) * 255


KINDS = ("maps", "fixation")
"""Kinds of ground truth for the prediction of fixations; the third one is ``masks``, of objects."""


def write_ground_truth(
    folder: Path,
    video: str,
    stems: Mapping[int, str],
    size: Size = SIZE,
    inside: str = "",
    kinds: Iterable[str] = KINDS,
) -> None:
    """Write the ground truth of a video.

    Args:
        folder: the folder in which ``maps``, ``fixation`` and ``masks`` are created.
        video: name of the video.
        stems: file names without suffix, by the frame's number.
        size: size of the maps.
        inside: path in each of these folders.
        kinds: which of the folders.
    """
    for number, stem in stems.items():
        fixations = fixation(video, number, size)
        images = {"maps": density(fixations), "fixation": fixations, "masks": object_mask(video, number, size)}
        for kind in kinds:
            write_image(folder / kind / inside / f"{stem}.png", images[kind])


def write_frames(folder: Path, video: str, stems: Mapping[int, str], size: Size = SIZE, suffix: str = ".png") -> None:
    """Write the frames of a video as images into a folder."""
    for number, stem in stems.items():
        write_image(folder / f"{stem}{suffix}", draw_frame(video, number, size))


def dhf1k(root: Path, videos: Mapping[int, int] = DHF1K, frames: str = "avi", size: Size = SIZE) -> Path:
    """Write DHF1K.

    Args:
        root: the dataset's folder.
        videos: numbers of frames by the number of the video. Videos from 701 on, the test split, have no annotations.
        frames: location of the frames: ``avi``, or images in ``frames``, ``video`` or ``images``, the folders that
            users extract them to.
        size: size of all frames.
    """
    for video, count in videos.items():
        name = f"{video:04d}"
        numbers = range(1, count + 1)
        stems = {number: f"{number:04d}" for number in numbers}
        annotation = root / "annotation" / name
        if video <= 700:
            write_ground_truth(annotation, name, stems, size)
            for number in numbers:  # the official download has these files, too
                other = annotation / "fixation" / "maps" / f"{number:04d}.mat"
                other.parent.mkdir(exist_ok=True)
                other.write_bytes(b"MATLAB 5.0 MAT-file")
            (annotation / "maps" / ".DS_Store").write_bytes(b"\0Bud1")
            (annotation / "maps" / "._0001.png").write_bytes(b"\0\5\26\7")
        if frames == "avi":
            images = (draw_frame(name, number, size) for number in numbers)
            write_video(root / "video" / f"{video:03d}.AVI", images)
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
        shots: frame numbers and size by the name of the shot.
        split: ``train`` or ``test``.
        missing: numbers of frames that have maps but no image, in all shots.
    """
    for name, (numbers, size) in shots.items():
        folder = root / f"{split}ing" / name
        stems = {number: f"{name.rsplit('_', 1)[0]}_{number:05d}" for number in numbers}
        write_ground_truth(folder, name, stems, size)
        write_frames(folder / "images", name, stems, size)
        for number in set(missing) & set(numbers):
            (folder / "images" / f"{stems[number]}.png").unlink()
    return root


def ucf_sports(root: Path, videos: Mapping[str, tuple[int, Size]] = UCF_SPORTS, split: str = "test") -> Path:
    """Write UCF-Sports: ``testing/Diving-Side-001/images/Diving-Side_001_001.png`` and its maps."""
    for name, (count, size) in videos.items():
        folder = root / f"{split}ing" / name
        stems = {number: f"{'_'.join(name.rsplit('-', 1))}_{number:03d}" for number in range(1, count + 1)}
        write_ground_truth(folder, name, stems, size)
        write_frames(folder / "images", name, stems, size)
    return root


def folder(
    root: Path,
    videos: Mapping[str, int],
    form: str = "images",
    size: Size = SIZE,
    kinds: Iterable[str] = KINDS,
) -> Path:
    """Write a dataset in one of the forms of the ``folder`` layout.

    Args:
        root: the dataset's folder.
        videos: numbers of frames by the name of the video, which may be a path.
        form: ``images``: ``NAME/{images,maps,fixation}``; ``inside``: the same with the frames in ``NAME``;
            ``beside``: ``NAME.mp4`` next to ``maps/NAME`` and ``fixation/NAME``.
        size: size of all frames.
        kinds: kinds of ground truth.
    """
    for name, count in videos.items():
        stems = {number: f"frame{number}" for number in range(1, count + 1)}
        if form == "beside":
            path = root / f"{name}.mp4"
            write_video(path, (draw_frame(name, number, size) for number in stems), "libx264")
            write_ground_truth(path.parent, name, stems, size, inside=path.stem, kinds=kinds)
        else:
            write_ground_truth(root / name, name, stems, size, kinds=kinds)
            write_frames(root / name / ("images" if form == "images" else ""), name, stems, size, ".jpg")
    return root


def images(
    root: Path, names: Iterable[str] = ("beach", "i2", "i10"), size: Size = SIZE, kinds: Iterable[str] = KINDS
) -> Path:
    """Write single images with their maps: ``images/NAME.jpg``, ``maps/NAME.png``, ``fixation/NAME.png``."""
    for name in names:
        write_ground_truth(root, name, {1: name}, size, kinds=kinds)
        write_frames(root / "images", name, {1: name}, size, ".jpg")
    return root


def truncate(path: Path, keep: float = 0.5) -> None:
    """Keep only the first part of a file, as after an interrupted download."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def corrupt_frame(path: Path, number: int) -> None:
    """Overwrite one frame of a video file so that it cannot be decoded."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    packet = packets[number - 1]
    assert packet.pos is not None
    data = bytearray(path.read_bytes())
    at = data.index(bytes(packet), packet.pos)
    data[at : at + packet.size] = b"\xff" * packet.size
    path.write_bytes(bytes(data))


@dataclass(frozen=True)
class Fault:
    """A fault of video 0601 in a dataset of :func:`dhf1k`."""

    plant: Callable[[Path], object]
    """Creates the fault in the dataset with this folder."""
    message: tuple[str, ...]
    """Parts of the message that the check must report, all in one finding."""


def _annotation(root: Path, kind: str, number: int) -> Path:
    return root / "annotation" / "0601" / kind / f"{number:04d}.png"


def _enlarge(path: Path) -> None:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    write_image(path, image.repeat(2, axis=0).repeat(2, axis=1))


def _other_fixations(root: Path) -> None:
    """Write fixations far from the disc, as if the map belonged to another frame."""
    fixations = np.zeros(SIZE[::-1], np.uint8)
    gaze_x, gaze_y = gaze("0601", 2, SIZE)
    fixations[0 if gaze_y > SIZE[1] / 2 else -1, :4] = fixations[:4, 0 if gaze_x > SIZE[0] / 2 else -1] = 255
    write_image(_annotation(root, "fixation", 2), fixations)


DHF1K_FAULTS = {
    "no annotations": Fault(lambda root: shutil.rmtree(root / "annotation" / "0601"), ("0601: has no annotations",)),
    "no video": Fault(lambda root: (root / "video" / "601.AVI").unlink(), ("0601: has no frames",)),
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
    "a truncated density map": Fault(
        lambda root: truncate(_annotation(root, "maps", 2)), ("0601: ", "0002.png: is truncated")
    ),
    "an empty fixation file": Fault(
        lambda root: _annotation(root, "fixation", 5).write_bytes(b""), ("0601: ", "0005.png: is empty")
    ),
    "not an image": Fault(
        lambda root: _annotation(root, "fixation", 5).write_bytes(b"<html>404</html>"),
        ("0601: ", "0005.png: is not an image that OpenCV can decode"),
    ),
    "density and fixation map differ in size": Fault(
        lambda root: _enlarge(_annotation(root, "maps", 3)),
        ("0601: density and fixation map of frame 3 differ in size: 64 x 36 and 128 x 72",),
    ),
    "maps of another size": Fault(
        lambda root: [_enlarge(_annotation(root, kind, 3)) for kind in ("maps", "fixation")],
        ("0601: maps differ in size from the frames: 3",),
    ),
    "a constant density": Fault(
        lambda root: write_image(_annotation(root, "maps", 4), np.full(SIZE[::-1], 0, np.uint8)),
        ("0601: ", "0004.png: has the value 0 everywhere"),
    ),
    "fixations for a density": Fault(
        lambda root: shutil.copy(_annotation(root, "fixation", 4), _annotation(root, "maps", 4)),
        ("0601: ", "0004.png: has only two values, like a fixation map"),
    ),
    "a density for fixations": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 4), _annotation(root, "fixation", 4)),
        ("0601: ", "0004.png: has ", "values, not two, like a density map"),
    ),
    "inverted fixations": Fault(
        lambda root: write_image(_annotation(root, "fixation", 4), 255 - fixation("0601", 4)),
        ("0601: ", "0004.png: marks 99% of all pixels as fixated"),
    ),
    "fixations of another frame": Fault(_other_fixations, ("0601: most fixations lie where the density is lowest: 2",)),
    "one number twice": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 2), _annotation(root, "maps", 2).with_name("2.png")),
        ("0601: several files in ", "maps for a frame: 2"),
    ),
    "a file without number": Fault(
        lambda root: shutil.copy(_annotation(root, "maps", 2), _annotation(root, "maps", 2).with_name("mean.png")),
        ("0601: no number in the name of a file in ", "maps: mean.png"),
    ),
    "a frame that does not decode": Fault(
        lambda root: corrupt_frame(root / "video" / "601.AVI", 4), ("0601: ", "601.AVI: ", "damaged packet")
    ),
    "no video file": Fault(
        lambda root: (root / "video" / "601.AVI").write_bytes(b"not a video"),
        ("0601: ", "601.AVI: not a video that FFmpeg can read"),
    ),
}
"""Faults by description; each causes at least the finding with its message."""
