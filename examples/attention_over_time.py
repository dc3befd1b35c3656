"""Plot the concentration of attention over time in the terminal: the Python API in twenty lines.

python examples/attention_over_time.py VIDEO [MODEL]
"""

from __future__ import annotations

import sys

import numpy as np

from tinyhd_cli import load_model, predict


def main(video: str, model_name: str | None = None) -> None:
    """Print one line per second of the video."""
    model = load_model(model_name)
    concentration: dict[int, list[float]] = {}
    for time_s, saliency in predict(video, model=model):
        # Fraction of the saliency in the most salient tenth of the frame: 0.1 if it is uniform, at most 1.
        brightest = np.sort(saliency.ravel())[-saliency.size // 10 :]
        concentration.setdefault(int(time_s), []).append(float(brightest.sum() / saliency.sum()))
    for second, values in concentration.items():
        print(f"{second:4d} s  {np.mean(values):.2f}  {'#' * round(60 * float(np.mean(values)))}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
