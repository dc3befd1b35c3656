"""Stack some frames of a video vertically in one image, such as the image in the README.

python examples/strip.py VIDEO OUT.jpg SECONDS...
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np


def main(video: str, out: str, *seconds: str) -> None:
    """Write the frames nearest to some times as one image."""
    with av.open(video) as container:
        frames = {frame.time: frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)}
    chosen = [frames[min(frames, key=lambda time, wanted=float(second): abs(time - wanted))] for second in seconds]
    image = cv2.resize(np.vstack(chosen), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(Path(out).suffix, image)
    data.tofile(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
