"""Memory of long recordings: it does not grow with the number of files."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import resource, sys
from pathlib import Path
from tinyhd_cli.recordings import FixationOptions, RecordingOptions, detect_fixations, iter_recordings, quality
for recording in iter_recordings([Path(name) for name in sys.argv[2:]], RecordingOptions(screen=(1920, 1080)), print):
    fixations = detect_fixations(recording, FixationOptions(method=sys.argv[1]))
    print(recording.observer, len(recording.samples), quality(recording, fixations).fixations)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ivt", "idt"])
def test_ten_minutes_at_1000_hz(tmp_path, method):
    """600,000 samples each of 4 observers, within 600 MB."""
    rng = np.random.default_rng(0)
    gaze = np.repeat(rng.uniform(100, 1000, (2000, 2)), 300, axis=0) + rng.normal(0, 1, (600_000, 2))
    rows = "".join(f"{t},{x:.1f},{y:.1f},1\n" for t, (x, y) in enumerate(gaze))
    first = tmp_path / "p0.csv"
    first.write_text(f"time_ms,x,y,valid\n{rows}")
    files = [first, *(tmp_path / f"p{number}.csv" for number in range(1, 4))]
    for file in files[1:]:
        os.link(first, file)
    command = [sys.executable, "-c", PROGRAM, method, *map(str, files)]
    *lines, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[f"p{number}", "600000"] for number in range(4)]
    assert all(1900 < int(line.split()[2]) < 2100 for line in lines)
    assert int(memory) < 600
