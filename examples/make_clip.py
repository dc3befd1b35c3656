"""Make the example clip: a slow pan along a gallery wall, a visitor who walks by, a balloon, and audible footsteps.

    python examples/make_clip.py examples/gallery.mp4

The pictures on the wall are sample data of matplotlib: a portrait of Grace Hopper (a photograph by the U.S. Navy, in
the public domain) and two elevation models, which are shaded here. Everything else is drawn.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib import cbook, colormaps
from matplotlib.colors import LightSource

WIDTH, HEIGHT = 640, 360
RATE = 25
FRAMES = 150
WALL_WIDTH = 1180
FLOOR = 292  # first row below the wall
SCALE = 2  # everything is drawn at twice the size and then averaged

SAMPLE_RATE = 48000
STEP_FRAMES = 13  # frames between two footsteps


def portrait() -> np.ndarray:
    """Return the portrait, uint8 RGB."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        data = np.frombuffer(file.read(), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def relief(elevation: np.ndarray, colormap: str) -> np.ndarray:
    """Return a shaded relief of an elevation model, lit from the northwest, uint8 RGB."""
    shaded = LightSource(315, 45).shade(elevation, colormaps[colormap], vert_exag=0.05, blend_mode="soft")
    return np.round(shaded[..., :3] * 255).astype(np.uint8)


def hang(wall: np.ndarray, picture: np.ndarray, x: int, y: int, height: int, wood: tuple[int, int, int]) -> None:
    """Draw a framed picture on the wall: shadow, frame, mount, picture."""
    width = round(picture.shape[1] * height / picture.shape[0])
    picture = cv2.resize(picture, (width * SCALE, height * SCALE), interpolation=cv2.INTER_AREA)

    def rectangle(border: int, color: tuple[int, int, int], shift: int = 0) -> None:
        corners = [(x - border + shift, y - border + shift), (x + width + border + shift, y + height + border + shift)]
        cv2.rectangle(wall, *[(a * SCALE, b * SCALE) for a, b in corners], color, cv2.FILLED)

    shadow = wall.copy()
    rectangle(17, tuple(int(c * 0.45) for c in wall[y * SCALE, x * SCALE]), shift=6)
    wall[:] = cv2.addWeighted(wall, 0.6, cv2.GaussianBlur(shadow, (0, 0), 9), 0.4, 0)
    rectangle(17, wood)
    rectangle(13, tuple(min(255, int(c * 1.35)) for c in wood))
    rectangle(11, (238, 234, 224))
    wall[y * SCALE : (y + height) * SCALE, x * SCALE : (x + width) * SCALE] = picture


def spotlight(x: int, y: int) -> np.ndarray:
    """Return the light of a spotlight on the wall, as a factor for each pixel."""
    rows, columns = np.mgrid[: HEIGHT * SCALE, : WALL_WIDTH * SCALE]
    distance = ((columns - x * SCALE) / (150 * SCALE)) ** 2 + ((rows - y * SCALE) / (170 * SCALE)) ** 2
    return 0.85 * np.exp(-distance)


def gallery() -> np.ndarray:
    """Return the whole wall with its floor at twice the size, uint8 RGB."""
    rng = np.random.default_rng(1)
    shape = (HEIGHT * SCALE, WALL_WIDTH * SCALE)
    plaster = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 2) * 9
    wall = np.clip(np.array([176, 168, 152]) + plaster[..., np.newaxis], 0, 255).astype(np.uint8)
    with cbook.get_sample_data("jacksboro_fault_dem.npz") as data:
        fault = relief(data["elevation"], "gist_earth")
    with cbook.get_sample_data("topobathy.npz") as data:
        coast = relief(data["topo"][::-1], "terrain")
    hang(wall, coast, 70, 90, 130, (62, 44, 30))
    hang(wall, portrait(), 480, 62, 170, (120, 88, 36))
    hang(wall, fault, 900, 84, 140, (40, 40, 44))
    light = 0.5 + sum(spotlight(x, 150) for x in (155, 552, 980))
    room = wall * light[..., np.newaxis]

    # Floorboards below a baseboard, with a dim reflection of the wall.
    floor = FLOOR * SCALE
    depth = shape[0] - floor
    boards = np.array([112, 78, 50]) + cv2.GaussianBlur(rng.normal(0, 1, (depth, shape[1])), (41, 3), 0)[..., None] * 40
    mirrored = cv2.GaussianBlur(room[floor - depth : floor][::-1], (0, 0), 7)
    room[floor:] = 0.62 * boards * light[floor:, :, np.newaxis].clip(0.6) + 0.3 * mirrored
    for board in range(1, 5):
        row = floor + round(depth * (board / 5) ** 1.6)
        room[row : row + 2] *= 0.7
    room[floor - 16 : floor] = np.array([206, 200, 190]) * 0.8
    return np.clip(room, 0, 255).astype(np.uint8)


def visitor(image: np.ndarray, x: float, frame: int) -> None:
    """Draw a person who walks from right to left, with the hips at column ``x``."""
    swing = np.sin(np.pi * frame / STEP_FRAMES)
    bob = 3 * abs(swing)
    coat, trousers, skin, hair = (38, 70, 120), (36, 36, 46), (208, 160, 128), (58, 38, 26)

    def point(dx: float, y: float) -> tuple[int, int]:
        return round((x + dx) * SCALE), round((y + bob) * SCALE)

    def limb(start: tuple[float, float], end: tuple[float, float], width: int, color: tuple[int, int, int]) -> None:
        cv2.line(image, point(*start), point(*end), color, width * SCALE, cv2.LINE_AA)

    shadow = image.copy()
    cv2.ellipse(shadow, point(0, 345), (44 * SCALE, 7 * SCALE), 0, 0, 360, (24, 16, 10), cv2.FILLED, cv2.LINE_AA)
    image[:] = cv2.addWeighted(image, 0.5, shadow, 0.5, 0)
    for side in (-1, 1):
        limb((0, 252), (-26 * swing * side, 298), 17, trousers)
        limb((-26 * swing * side, 298), (-40 * swing * side + 5, 342 - 6 * max(0.0, swing * side)), 13, trousers)
    limb((2, 186), (24 * swing, 240), 11, (30, 56, 98))
    body = np.array([point(-20, 176), point(18, 174), point(24, 268), point(-24, 268)])
    cv2.fillConvexPoly(image, body, coat, cv2.LINE_AA)
    limb((0, 180), (-24 * swing, 238), 11, coat)
    cv2.circle(image, point(-24 * swing, 242), 6 * SCALE, skin, cv2.FILLED, cv2.LINE_AA)
    limb((0, 170), (-1, 160), 12, skin)
    cv2.ellipse(image, point(-3, 144), (15 * SCALE, 19 * SCALE), 8, 0, 360, skin, cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(image, point(3, 137), (16 * SCALE, 15 * SCALE), 20, 150, 395, hair, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, point(-13, 143), 2 * SCALE, (40, 30, 26), cv2.FILLED, cv2.LINE_AA)
    limb((-15, 153), (-10, 154), 2, (150, 84, 76))


def balloon(image: np.ndarray, x: float, y: float) -> None:
    """Draw a balloon with its center at ``x`` and ``y``."""
    center = (round(x * SCALE), round(y * SCALE))
    tail = np.array(
        [(center[0] + round(5 * SCALE * np.sin(i / 3)), center[1] + (20 + 4 * i) * SCALE) for i in range(16)]
    )
    cv2.polylines(image, [tail], False, (235, 235, 230), SCALE, cv2.LINE_AA)
    cv2.ellipse(image, center, (18 * SCALE, 22 * SCALE), 0, 0, 360, (206, 32, 40), cv2.FILLED, cv2.LINE_AA)
    shine = (center[0] - 7 * SCALE, center[1] - 9 * SCALE)
    cv2.ellipse(image, shine, (4 * SCALE, 7 * SCALE), 25, 0, 360, (244, 132, 130), cv2.FILLED, cv2.LINE_AA)


def frames() -> list[np.ndarray]:
    """Return the frames of the clip, uint8 RGB."""
    wall = gallery()
    rng = np.random.default_rng(2)
    images = []
    for frame in range(FRAMES):
        t = frame / (FRAMES - 1)
        pan = (WALL_WIDTH - WIDTH) * (3 * t**2 - 2 * t**3)
        left = round(pan * SCALE)
        image = wall[:, left : left + WIDTH * SCALE].copy()
        balloon(image, 700 + 160 * t - pan, 108 - 60 * t + 5 * np.sin(frame / 7))
        if frame > 25:
            visitor(image, 1010 - 5.2 * (frame - 25) - pan, frame)
        image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        grain = rng.normal(0, 1.2, (HEIGHT, WIDTH, 1))
        images.append(np.clip(image + grain, 0, 255).astype(np.uint8))
    return images


def footsteps() -> np.ndarray:
    """Return the audio, quiet noise and footsteps, float32 in -1..1."""
    rng = np.random.default_rng(3)
    samples = 0.004 * np.convolve(rng.normal(0, 1, SAMPLE_RATE * FRAMES // RATE), np.ones(64) / 8, "same")
    time_s = np.arange(SAMPLE_RATE // 6) / SAMPLE_RATE
    step = np.exp(-time_s * 38) * (np.sin(2 * np.pi * 92 * time_s) + 0.35 * rng.normal(0, 1, time_s.size))
    for frame in range(26 + STEP_FRAMES // 2, FRAMES - 5, STEP_FRAMES):
        start = frame * SAMPLE_RATE // RATE
        samples[start : start + step.size] += 0.3 * step
    return samples.clip(-1, 1).astype(np.float32)


def write(path: Path) -> None:
    """Write the clip."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "24", "preset": "slow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE)
        audio.codec_context.layout = "mono"
        audio.codec_context.bit_rate = 48000
        for number, image in enumerate(frames()):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = footsteps()
        for start in range(0, samples.size, 1024):
            part = av.AudioFrame.from_ndarray(samples[np.newaxis, start : start + 1024], format="fltp", layout="mono")
            part.rate, part.pts, part.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "gallery.mp4"))
