"""Predict the example clip and print a summary; run by `make demo`.

    python examples/demo.py [WEIGHTS]

It uses the embedded default weights, so that nothing is downloaded.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CLIP = PROJECT / "examples" / "gallery.mp4"
OUT = PROJECT / "out"


def main() -> None:
    """Run `tinyhd predict` and print the most salient point once per second."""
    options = ["--weights", sys.argv[1]] if len(sys.argv) > 1 else []
    outputs = ["--overlay", str(OUT / "gallery.mp4"), "--csv", str(OUT / "gallery.csv"), "--side-by-side"]
    command = ["predict", str(CLIP), *options, *outputs]
    print("tinyhd", *command)
    subprocess.run([sys.executable, "-m", "tinyhd_cli", *command], check=True)

    rows = list(csv.DictReader((OUT / "gallery.csv").read_text().splitlines()))
    print("\nMost salient point, once per second (pixels from the top left):")
    for row in rows[::25]:
        print(f"  {float(row['time_s']):4.1f} s  peak {float(row['peak_x']):5.0f}, {float(row['peak_y']):4.0f}")
    print(f"\nOverlay video: {OUT / 'gallery.mp4'}")


if __name__ == "__main__":
    main()
