"""Train a network on CrowdSAL, from the download to the Hub. Each step is a command, printed before it is run.

python examples/train_crowdsal.py plan --preset crowdsal-m
python examples/train_crowdsal.py download cache train evaluate card --preset crowdsal-m
python examples/train_crowdsal.py publish --preset crowdsal-m --repo OWNER/NAME

A step that was interrupted continues when it is run again. plan prints the commands, the hours, and the disk space that
they take. With --teacher, the network is distilled. Options that this program does not have, such as --batch-size 64,
are passed on to tinyhd train or tinyhd distill.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyhd_cli import TrainConfig, cli
from tinyhd_cli.training import build_config
from tinyhd_cli.training.checkpoints import paths

STEPS = ("download", "cache", "train", "evaluate", "card", "publish")

TRAIN_VIDEOS, TEST_VIDEOS = 3000, 2000

FRAMES = 552
"""Frames of a video, on average: 18.4 s with 30 frames per second."""

DATA_BYTES = 28_000_000
"""Bytes of a video with its maps and fixations. AViMoS, which is encoded in the same way, has 29 MB per 19 s."""

CACHED_BYTES = 40_000
"""Bytes of a frame of 192 x 256 with its maps in the cache: 30,000 to 48,000, measured on real videos."""

CACHE_S, SCORE_S = 0.025, 0.080
"""Seconds of one CPU core for a frame of 1920 x 1080: to decode and cache it with its maps, and to predict and score
it. Measured on one core of an x86 server; docs/train-and-distill.md."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line; ``rest`` are those for the training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("steps", nargs="+", choices=("plan", *STEPS), metavar="STEP", help=f"plan, or any of {', '.join(STEPS)}")
    add("--preset", default="crowdsal-m", help="crowdsal-m (default), crowdsal-s or crowdsal-quarter")
    add("--root", type=Path, default=Path("crowdsal"), help="folder of the data (default: crowdsal)")
    add("--videos", metavar="N-N,N", help="download only videos with these numbers, as in 1-50,3001-3010")
    add("--teacher", action="append", default=[], metavar="NAME|FILE", help="distill the network from this teacher")
    add("--epochs", type=int, help="passes over the training videos (default: the preset's)")
    add("--gpus", type=int, default=1, help="number of GPUs, for Accelerate (default: 1)")
    add("--cache", type=Path, help="folder of the decoded videos (default: ROOT-cache)")
    add("--out", type=Path, help="folder of the run (default: runs/PRESET)")
    add("--license", help="license of the weights (default: CC-BY-4.0, that of the data; with --teacher, none)")
    add("--repo", metavar="OWNER/NAME", help="repository on the Hub to publish in")
    add("--clips-per-s", type=float, help="speed of the training for the plan (default: measured on this machine)")
    options, options.rest = parser.parse_known_args(arguments)
    options.cache = options.cache or options.root.with_name(f"{options.root.name}-cache")
    options.out = options.out or Path("runs") / options.preset
    if "publish" in options.steps and not options.repo:
        parser.error("publish: name the repository with --repo OWNER/NAME")
    return options


def commands(step: str, options: argparse.Namespace) -> list[str]:
    """Return the arguments of the tinyhd command of a step."""
    best, scores = options.out / "best.safetensors", options.out / "scores.json"
    training = ["distill" if options.teacher else "train", "--preset", options.preset]
    training += ["--data", f"crowdsal:{options.root}", "--cache", options.cache, "--out", options.out]
    training += [part for teacher in options.teacher for part in ("--teacher", teacher)]
    training += [*(["--epochs", options.epochs] if options.epochs else []), *options.rest]
    selection = ["--videos", options.videos] if options.videos else []
    data = "CrowdSAL (CC-BY 4.0, ANDRYHA/CrowdSAL on the Hub), split train"
    learned = f"{data}, and the maps of {', '.join(options.teacher)}" if options.teacher else data
    license = options.license or ("" if options.teacher else "CC-BY-4.0")  # a teacher has a license of its own
    found = {
        "download": ["datasets", "download", "crowdsal", *selection, "--out", options.root, "--yes"],
        "cache": [*training, "--cache-only"],
        "train": [*training, *(["--resume"] if paths(options.out) else [])],
        "evaluate": ["evaluate", "--dataset", "crowdsal", "--root", options.root, "--split", "test"],
        "card": ["weights", "card", best, "--data", learned, *(["--license", license] if license else [])],
        "publish": ["weights", "push", best, options.repo or "OWNER/NAME"],
    }[step]
    if step == "evaluate":
        found += ["--protocol", "crowdsal", "--weights", best, "--json", scores]
    if step == "card":
        found += ["--scores", scores]
    return [str(part) for part in found]


def launcher(step: str, options: argparse.Namespace) -> list[str]:
    """Return the command that starts tinyhd: by Accelerate to train on several GPUs."""
    several = step == "train" and options.gpus > 1
    return ["accelerate", "launch", "--num_processes", str(options.gpus), "-m", "tinyhd_cli"] if several else ["tinyhd"]


def run(step: str, options: argparse.Namespace) -> None:
    """Print and run the command of a step; exit if it fails."""
    start, arguments = launcher(step, options), commands(step, options)
    print(f"$ {shlex.join([*start, *arguments])}", flush=True)
    if start == ["tinyhd"]:
        code = cli.run(arguments)
    else:
        module = [sys.executable, "-m", "accelerate.commands.launch", *start[2:]]
        code = subprocess.run([*module, *arguments], check=False).returncode
    if code:
        raise SystemExit(code)


@dataclass(frozen=True)
class Cost:
    """Time and disk space of a step."""

    step: str
    seconds: float
    bytes: float
    reason: str


def costs(config: TrainConfig, clips_per_s: float, gpus: int) -> Iterator[Cost]:
    """Yield the costs of each step with the whole dataset."""
    cores = os.cpu_count() or 1
    frames, test_frames = TRAIN_VIDEOS * FRAMES, TEST_VIDEOS * FRAMES
    size = (TRAIN_VIDEOS + TEST_VIDEOS) * DATA_BYTES
    yield Cost("download", size / 50e6, size, f"{DATA_BYTES / 1e6:.0f} MB per video; 50 MB/s")
    reason = f"{frames:,} frames: {1e3 * CACHE_S:.0f} ms of one of {cores} cores, {CACHED_BYTES / 1e3:.0f} kB"
    yield Cost("cache", frames * CACHE_S / cores, frames * CACHED_BYTES, reason)
    kept = round(TRAIN_VIDEOS * (1 - config.hold_out))
    clips = config.epochs * (kept // config.batch_size) * config.batch_size
    reason = f"{config.epochs} epochs, {clips:,} clips: {clips_per_s:.3g} per second on each device"
    yield Cost("train", clips / clips_per_s / gpus, 1e9, reason)
    reason = f"{test_frames:,} frames: {1e3 * SCORE_S:.0f} ms of one of {cores} cores"
    yield Cost("evaluate", test_frames * SCORE_S / cores, 1e7, reason)


def measured_speed(config: TrainConfig) -> float:
    """Return the clips per second of a training step on this machine, as ``tinyhd benchmark train`` measures them."""
    import torch

    from tinyhd_cli.benchmarks.train import make_step

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = config.batch_size if device == "cuda" else 2
    step = make_step(config.model, batch, device, device == "cpu", torch.bfloat16)
    step()  # a warm-up
    return batch / min(step() for _ in range(3))


def plan(options: argparse.Namespace) -> None:
    """Print the commands, and the time and the disk space that they take with the whole dataset."""
    config = build_config({"epochs": options.epochs}, preset=options.preset)
    for step in STEPS:
        print(f"$ {shlex.join([*launcher(step, options), *commands(step, options)])}")
    found = list(costs(config, options.clips_per_s or measured_speed(config), options.gpus))
    print(f"\n{'step':<10}{'hours':>8}{'disk, GB':>10}  worked out from")
    for cost in found:
        print(f"{cost.step:<10}{cost.seconds / 3600:>8.1f}{cost.bytes / 1e9:>10.1f}  {cost.reason}")
    seconds, size = (sum(getattr(cost, name) for cost in found) for name in ("seconds", "bytes"))
    existing = next(folder for folder in options.root.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(existing).free
    print(f"{'all':<10}{seconds / 3600:>8.1f}{size / 1e9:>10.1f}  {free / 1e9:.1f} GB are free in {existing}")
    if options.teacher:
        print("The time that the teacher takes is not included: tinyhd distill --dry-run measures it.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the steps in order."""
    options = parse(arguments)
    for step in options.steps:
        if step == "plan":
            plan(options)
        else:
            run(step, options)


if __name__ == "__main__":
    main()
