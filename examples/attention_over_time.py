"""The Python API in twenty lines: how concentrated attention is over a video, as a curve in the terminal.

python examples/attention_over_time.py VIDEO [MODEL]
"""

from __future__ import annotations

import sys

import numpy as np

from tinyhd_cli import load_model, predict


def main(video: str, model_name: str | None = None) -> None:
    model = load_model(model_name)
    shares: dict[int, list[float]] = {}
    for time_s, saliency in predict(video, model=model):
        # Share of attention in the most attended tenth of the picture: 0.1 if it is spread evenly, 1 if all is there.
        brightest = np.sort(saliency.ravel())[-saliency.size // 10 :]
        shares.setdefault(int(time_s), []).append(float(brightest.sum() / saliency.sum()))
    for second, values in shares.items():
        print(f"{second:4d} s  {np.mean(values):.2f}  {'#' * round(60 * float(np.mean(values)))}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
