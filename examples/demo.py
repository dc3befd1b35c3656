"""The main job on the example clip: what `make demo` runs.

    python examples/demo.py [WEIGHTS]

Uses the embedded default weights. Where there are none yet, the original authors' trained weights do, if they lie
beside the project; their licence does not let us ship them.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from tinyhd_cli import weights

PROJECT = Path(__file__).resolve().parents[1]
CLIP = PROJECT / "examples" / "gallery.mp4"
OUT = PROJECT / "out"
ORIGINAL = PROJECT.parent / "shared" / "upstream" / "d123m_rc4_rc1T.pth"


def choose_weights() -> list[str] | None:
    """The options of `tinyhd predict` that name trained weights, or None if there are none on this machine."""
    if len(sys.argv) > 1:
        return ["--weights", sys.argv[1]]
    if weights.inspect(weights.default_name())[1]:
        return []
    return ["--weights", str(ORIGINAL)] if ORIGINAL.is_file() else None


def main() -> None:
    options = choose_weights()
    if options is None:
        default = weights.find(weights.default_name())
        print(f"No trained weights on this machine: {default.name} is not embedded yet.")
        print(f"Get {default.upstream_file} from {default.origin}, then:")
        print(f"  TINYHD_MODEL={default.upstream_file} make demo")
        return
    outputs = ["--overlay", str(OUT / "gallery.mp4"), "--csv", str(OUT / "gallery.csv"), "--side-by-side"]
    command = ["predict", str(CLIP), *options, *outputs]
    print("tinyhd", *command)
    subprocess.run([sys.executable, "-m", "tinyhd_cli", *command], check=True)

    rows = list(csv.DictReader((OUT / "gallery.csv").read_text().splitlines()))
    print("\nWhere people look, once a second (pixels from the top left):")
    for row in rows[::25]:
        print(f"  {float(row['time_s']):4.1f} s  peak {float(row['peak_x']):5.0f}, {float(row['peak_y']):4.0f}")
    print(f"\nWatch {OUT / 'gallery.mp4'}")


if __name__ == "__main__":
    main()
