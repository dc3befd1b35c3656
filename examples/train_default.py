"""Train the embedded default weights: one command, on one GPU, in minutes.

python examples/train_default.py DATA --teachers MULTI SINGLE --init FILE --out RUN --minutes 9

DATA holds folders of videos with a MANIFEST.json (clips, clips2) and folders of photographs with images/, maps/ and
fixation/ (static/*, static2/*). The student learns the mean of the maps of MULTI (16 maps per clip) and SINGLE (one
map per clip). The whole dataset is decoded into GPU memory. The clips are built there, and each training step is
recorded as one CUDA graph. The learning rate follows the elapsed time, so a run ends on time on any machine.

RUN/average.safetensors is the result; RUN/state.pt is the state for --resume. During a run, RUN/control.json can hold
new values: "minutes", "lr" (a factor) and, with --eager, "grid". The commands that made the default weights are in the
model card of tinyhd-m-quarter.v3.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyhd_cli import weights
from tinyhd_cli.models import build
from tinyhd_cli.models.families.tinyhd.network import TinyHD
from tinyhd_cli.system import keep_freed_memory
from tinyhd_cli.training import losses, resident
from tinyhd_cli.training.cpu_layers import MALLOC_KEEP_BYTES
from tinyhd_cli.training.initial_weights import initialize
from tinyhd_cli.training.losses import Targets
from tinyhd_cli.training.optimizer import build_optimizer, ema_decay, lr_factor, set_lr
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.resident import CLIP_FRAMES, CONTEXT, Batch, Batches, Mix
from tinyhd_cli.training.resident_teachers import TEACHER_FRAMES, Teacher, teacher_targets
from tinyhd_cli.training.settings import build_config

PHOTOGRAPH_FOLDERS = ("static/osie", "static/sun500", "static/mit1003", "static2/crowd", "static2/etocvd")
VIDEO_FOLDERS = ("clips2", "clips")

LAYERS = {"gpu": "gpu_layers", "cpu": "cpu_layers", "torch": None}
"""Module of ``tinyhd_cli.training`` that implements the layers; None: PyTorch's own."""

SCHEDULE_STEPS = 10_000
"""Resolution of the learning-rate schedule, which follows the elapsed time instead of the steps."""

MIN_MOTION_SCORE = 2.4925
"""Motion score above which held-out videos are used to measure the divergence from the teachers."""

MIN_COSINE = 0.9
"""Minimum cosine similarity of the gradients of the GPU layers and of PyTorch's own layers."""

INPUT_SIZE = (192, 256)
PROBE_SIZE = (240, 426)
"""Height and width of the videos of the motion probe."""

RECALIBRATION_SEED = 10_000_000
"""Number of the first batch for the final BatchNorm statistics; no run has as many steps."""

# ------------------------------------------------------------------------------------------------ networks and targets


def load_network(name: str) -> TinyHD:
    """Return a network with its weights.

    Args:
        name: name of the weights, or their file.

    Raises:
        SystemExit: it is not a TinyHD network with the decoder d1.
        WeightsError: the weights cannot be loaded.
    """
    checkpoint = weights.load(name)
    network = build(checkpoint.spec)
    if not isinstance(network, TinyHD) or "d1" not in network.decoders:
        raise SystemExit(f"{name}: is not a TinyHD network with the decoder d1")
    network.load_state_dict(checkpoint.state_dict)
    return network.eval()


def forward(network: TinyHD, clips: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the saliency and the decoders' maps of clips; on a GPU, all layers but the last run in bfloat16."""
    with torch.autocast(clips.device.type, torch.bfloat16, clips.device.type == "cuda", cache_enabled=False):
        streams = network.encoder(clips)
        logits = {name: decoder(streams) for name, decoder in network.decoders.items()}
    maps = {name: torch.sigmoid(value.float()) for name, value in logits.items()}
    aligned = [m.expand(-1, -1, network.frames, -1, -1) for m in maps.values()]
    return torch.sigmoid(network.fusion(torch.cat(aligned, dim=1))).squeeze(1), maps


def emphasize_motion(targets: Targets, motion: Tensor, first: int, fraction: float) -> Targets:
    """Move a fraction of the target of each animated clip (from index ``first``) onto its moving patches."""
    last = first + len(motion)
    before, animated, after = targets.final[:first], targets.final[first:last], targets.final[last:]
    weight = fraction * (motion.sum((-2, -1), keepdim=True) > 0)
    shifted = torch.lerp(animated, losses.distribution(motion), weight.expand_as(motion))
    return Targets(torch.cat([before, shifted, after]), targets.intermediate)


# ------------------------------------------------------------------------------------------------------- training


class Distillation:
    """A training run: the student, the running mean of its weights, and the optimizer.

    Args:
        config: Loss weights, optimizer and schedule.
        student: Network to train.
        teachers: Networks whose maps the student learns.
        batches: Source of the clips.
        args: The command line: ``grid``, ``agreement``, ``stir``, ``change`` and ``reuse``.
    """

    def __init__(
        self,
        config: TrainConfig,
        student: TinyHD,
        teachers: Sequence[Teacher],
        batches: Batches,
        args: argparse.Namespace,
    ) -> None:
        self.config, self.student, self.teachers, self.batches, self.args = config, student, teachers, batches, args
        self.kept: dict[int, Targets] = {}
        self.average = copy.deepcopy(student).eval().requires_grad_(False)
        self.optimizer = build_optimizer(student, config)
        pairs = zip(self.average.state_dict().values(), student.state_dict().values(), strict=True)
        averages, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        self.averages, self.values = list(averages), list(values)
        self.step = 0
        self.graphs: tuple[torch.cuda.CUDAGraph, ...] = ()
        self.events: list[torch.cuda.Event] = []

    def parts(self) -> dict[str, Any]:
        """Return the parts of the run that have a state."""
        return {"student": self.student, "average": self.average, "optimizer": self.optimizer}

    def save_state(self, path: Path) -> None:
        """Write the state from which :meth:`resume` continues."""
        torch.save({"step": self.step, **{name: part.state_dict() for name, part in self.parts().items()}}, path)

    def resume(self, path: Path) -> None:
        """Continue from a saved state."""
        state = torch.load(path, weights_only=True, map_location=self.batches.device)
        self.step = state["step"]
        for name, part in self.parts().items():
            part.load_state_dict(state[name])

    def advance(self, position: float) -> dict[str, Tensor]:
        """Run one step at a position of the schedule, 0 to 1, and return the terms of its loss."""
        set_lr(self.optimizer, lr_factor(self.config, int(position * SCHEDULE_STEPS), SCHEDULE_STEPS))
        terms = self.recorded_step() if self.graphs else self.eager_step()
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self.update_average()
        self.synchronize()
        return {**terms, "norm": norm}

    def batch(self) -> tuple[int, Batch]:
        """Return the next batch and its number, by which its targets are kept."""
        epoch, number = divmod(self.step, self.args.reuse) if self.args.reuse else (0, self.step)
        return number, self.batches.batch(number, epoch)

    def eager_step(self) -> dict[str, Tensor]:
        """Compute the gradients of the next batch; return the terms of the loss."""
        number, batch = self.batch()
        self.optimizer.zero_grad()
        targets = self.kept[number] if number in self.kept else self.compute_targets(batch)
        if self.args.reuse:
            self.keep(number, targets)
        return self.compute_gradients(batch, targets)

    def recorded_step(self) -> dict[str, Tensor]:
        """Do :meth:`eager_step` by replaying the recorded graphs."""
        number, batch = self.batch()
        copy_tensors(batch, self.recorded_batch)
        targets, gradients = self.graphs
        if number in self.kept:
            copy_tensors(self.kept[number], self.recorded_targets)
        else:
            targets.replay()
            if self.args.reuse:
                self.keep(number, self.recorded_targets)
        gradients.replay()
        return self.recorded_terms

    def keep(self, number: int, targets: Targets) -> None:
        """Keep the targets of a batch in half precision."""
        self.kept[number] = targets.map(lambda maps: maps.half())

    @torch.no_grad()
    def compute_targets(self, batch: Batch) -> Targets:
        """Return the targets of a batch, in a scale that suits half precision."""
        labeled = self.batches.mix.labeled
        targets = teacher_targets(self.teachers, batch, labeled)
        targets = emphasize_motion(targets, batch.motion, labeled, self.args.stir)
        return targets.map(lambda maps: maps * maps[0, 0].numel())  # a mean of 1 instead of a sum of 1

    def compute_gradients(self, batch: Batch, targets: Targets) -> dict[str, Tensor]:
        """Compute the gradients of the student's parameters and return the terms of the loss."""
        labeled = self.batches.mix.labeled
        self.student.train()
        saliency, maps = forward(self.student, batch.student_clips)
        outputs, objectives = losses.Outputs(saliency, maps), self.config.objectives
        terms = losses.loss_terms(outputs, labeled, targets, batch.ground_truth, objectives)
        loss = losses.total(terms, self.config.weights)
        final, aggregated = (m[:, 2::4].flatten(0, 1) for m in (saliency, maps["d3"][:, 0]))
        terms["grid"] = losses.grid_pattern(final)
        loss = loss + self.args.grid * (terms["grid"] + 0.5 * losses.grid_pattern(aggregated))
        assert targets.final is not None
        if self.args.agreement:
            terms["cc"] = (1 - losses.cc(saliency[labeled:], targets.final[labeled:])).mean()
            loss = loss + self.args.agreement * terms["cc"]
        if self.args.change:
            terms["change"] = losses.change_error(saliency, targets.final)
            loss = loss + self.args.change * terms["change"]
        loss.backward()
        return {name: value.detach() for name, value in terms.items()}

    def record(self) -> None:
        """Record a step as CUDA graphs, because launching its kernels one by one from the CPU is too slow."""
        _, self.recorded_batch = self.batch()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        before = copy.deepcopy(self.student.state_dict())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.optimizer.zero_grad()
                self.compute_gradients(self.recorded_batch, self.compute_targets(self.recorded_batch))
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad()
        targets, gradients = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(targets):
            self.recorded_targets = self.compute_targets(self.recorded_batch)
        with torch.cuda.graph(gradients, pool=targets.pool()):
            self.recorded_terms = self.compute_gradients(self.recorded_batch, self.recorded_targets)
        self.student.load_state_dict(before)  # recording changed the BatchNorm statistics
        self.graphs = (targets, gradients)

    def synchronize(self) -> None:
        """Let the CPU run at most one step ahead of the GPU, because the run is limited by time."""
        if self.batches.device.type == "cuda":
            self.events.append(torch.cuda.Event())
            self.events[-1].record()
            if len(self.events) > 2:
                self.events.pop(0).synchronize()

    @torch.no_grad()
    def update_average(self) -> None:
        """Update the running mean of the weights and BatchNorm statistics."""
        torch._foreach_lerp_(self.averages, self.values, 1 - ema_decay(self.config, self.step))

    @torch.no_grad()
    def recalibrated(self, count: int) -> TinyHD:
        """Return the running mean of the weights, with BatchNorm statistics recomputed on ``count`` batches."""
        network = copy.deepcopy(self.average).train()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
        for number in range(count):
            for norm in norms:
                norm.momentum = 1 / (number + 1)  # the mean over all batches
            forward(network, self.batches.batch(RECALIBRATION_SEED + number).student_clips)
        return network.eval()


def copy_tensors(source: Batch | Targets, destination: Batch | Targets) -> None:
    """Copy a batch or targets into those that a graph reads."""
    for new, old in zip(source.tensors, destination.tensors, strict=True):
        old.copy_(new)


# ------------------------------------------------------------------------------------------------------ evaluation


@dataclass(frozen=True)
class Monitor:
    """Measurements by which a run is watched."""

    teachers: Sequence[Teacher]
    videos: resident.Videos
    """Held-out videos."""
    probe: Path | None
    """Folder of clips with a moving object and truth.json, its track."""
    device: torch.device

    def report(self, network: TinyHD, label: str) -> None:
        """Print the measurements of a network."""
        values = {"KL": self.divergence(network)} if self.videos.pixels else {}
        values |= probe_motion(self.predictor(network), self.probe, self.device) if self.probe else {}
        print(f"{label}: " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()), flush=True)

    def predictor(self, network: TinyHD) -> Callable[[Tensor], Tensor]:
        """Return a function that predicts the maps ``(T, H, W)`` of frames, uint8 ``(T, H, W, 3)``."""

        def predict(pixels: Tensor) -> Tensor:
            clips = pixels.view(-1, CLIP_FRAMES, *INPUT_SIZE, 3).permute(0, 4, 1, 2, 3).float() / 255
            return forward(network, resident.normalize(clips))[0].flatten(0, 1)

        return predict

    @torch.inference_mode()
    def divergence(self, network: TinyHD) -> float:
        """Return the mean KL divergence from the teachers' maps, on the middle clip of each held-out video."""
        values = []
        for pixels in self.videos.pixels:
            start = max(0, len(pixels) // 2 - CLIP_FRAMES)
            indices = torch.arange(start - CONTEXT, start + CLIP_FRAMES).clamp(0, len(pixels) - 1).to(pixels.device)
            clips = resident.normalize(pixels[indices].permute(3, 0, 1, 2).unsqueeze(0).float() / 255)
            static = torch.zeros(1, dtype=torch.bool, device=clips.device)
            batch = Batch(clips, clips[:, :, CONTEXT:], static, None, clips[:0, 0])
            saliency, _ = forward(network, batch.student_clips)
            values.append(losses.kl_divergence(saliency, teacher_targets(self.teachers, batch).final).mean())
        return float(torch.stack(values).mean())


@torch.inference_mode()
def probe_motion(predict: Callable[[Tensor], Tensor], folder: Path, device: torch.device) -> dict[str, float]:
    """Measure how well a network follows a moving object, on clips with truth.json.

    Args:
        predict: returns the maps ``(64, h, w)`` of 64 frames, uint8 ``(64, H, W, 3)``.
        folder: the clips.
        device: device of the frames.

    Returns:
        ``z``: standardized saliency at the object. ``hit``: fraction of frames whose peak lies on the object.
        ``grid``: periodic pattern, in percent of the range of the maps.
    """
    values: dict[str, list[float]] = {"z": [], "hit": [], "grid": []}
    for name, track in json.loads((folder / "truth.json").read_text()).items():
        pixels = torch.from_numpy(resident.decode(folder / f"{name}.mp4", INPUT_SIZE)).to(device)
        saliency = predict(pixels[:64])[CLIP_FRAMES:]
        height, width = saliency.shape[1:]
        z = losses.standardize(saliency)
        peaks = saliency.flatten(1).argmax(1).tolist()
        for index, (x, y, side) in enumerate(track[CLIP_FRAMES:]):
            values["z"].append(float(z[index, int(y / PROBE_SIZE[0] * height), int(x / PROBE_SIZE[1] * width)]))
            row, column = divmod(peaks[index], width)
            dx, dy = column / width * PROBE_SIZE[1] - x, row / height * PROBE_SIZE[0] - y
            values["hit"].append(float((dx**2 + dy**2) ** 0.5 < max(side, 24)))
        values["grid"].append(100 * float(losses.grid_pattern(saliency[::8])))
    return {name: sum(found) / len(found) for name, found in values.items()}


# --------------------------------------------------------------------------------------------------------- set-up


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    add = parser.add_argument
    add("data", type=Path, help="folder of the training data")
    add("--teachers", nargs="+", required=True, help="weights of the teachers, by name or file")
    add(
        "--teacher-frames",
        type=int,
        nargs="+",
        default=TEACHER_FRAMES,
        metavar="FRAME",
        help="frames of a clip for which a teacher with one map per clip is run, including 0 and 15 "
        "(default: 0 5 10 15)",
    )
    add("--init", required=True, help="initial weights, by name or file, or an ImageNet MobileNetV2 (.npz)")
    add("--out", type=Path, required=True, help="folder for the results")
    add("--minutes", type=float, default=9, help="duration of the training (default: 9)")
    add("--within", type=float, help="seconds after the start of the program when the training ends at the latest")
    add("--steps", type=int, help="maximum number of steps")
    add(
        "--part", type=float, nargs=2, default=(0.0, 1.0), metavar=("BEGIN", "END"), help="part of the schedule, 0 to 1"
    )
    add("--resume", type=Path, help="state.pt of an earlier part")
    kinds = ("STATIC", "MOVING", "ANIMATED", "VIDEOS")
    add("--mix", type=int, nargs=4, default=(1, 2, 5, 8), metavar=kinds, help="clips per batch (default: 1 2 5 8)")
    add("--lr", type=float, default=0.003, help="learning rate (default: 0.003)")
    add("--ema", type=float, default=0.997, help="decay of the running mean of the weights (default: 0.997)")
    add("--grid", type=float, default=5.0, help="weight of the penalty on periodic patterns (default: 5)")
    add("--agreement", type=float, default=1.0, help="weight of 1 - CC with the teachers' maps (default: 1)")
    add("--stir", type=float, default=0.15, help="fraction of an animated clip's target on moving patches")
    add("--change", type=float, default=0.0, help="weight of the error in frame-to-frame changes (default: 0)")
    add("--split", type=float, default=0.0, help="fraction of video clips that are split screens (default: 0)")
    add("--favor", type=Path, help="JSON file with factors of the sampling weights of videos, by name (default: 1)")
    add("--reuse", type=int, default=0, help="batches after which the same clips return (default: 0, never)")
    add("--device", default="cuda" if gpu else "cpu")
    add("--layers", choices=LAYERS, default="gpu" if gpu else "cpu", help="implementation of the layers")
    add("--eager", action="store_true", help="do not record the training step as a CUDA graph")
    add("--frames", type=Path, help="on a CPU, folder for the decoded videos (15 GB); default: in memory")
    add("--limit", type=int, help="maximum number of videos, and of photographs per folder, for a trial run")
    add("--probe", type=Path, help="folder of clips with truth.json, for the motion probe")
    add("--save-every", type=float, default=30, help="seconds between saves of the running mean (default: 30)")
    add("--measure-every", type=float, default=1e9, help="seconds between measurements (default: only at the end)")
    return parser.parse_args()


def load_data(args: argparse.Namespace, config: TrainConfig, device: torch.device) -> tuple[Batches, resident.Videos]:
    """Return the training data, and the held-out videos with much motion."""
    workers = os.cpu_count() or 1
    kept, held_out = [], []
    for folder in (args.data / name for name in VIDEO_FOLDERS if (args.data / name).is_dir()):
        training, others = resident.split_by_source(resident.read_manifest(folder), folder)
        kept += training
        held_out += [item for item in others if item.get("motion", 0) > MIN_MOTION_SCORE]
    images: list[Path] = []
    for name in (name for name in PHOTOGRAPH_FOLDERS if (args.data / name).is_dir()):
        images += resident.hold_out(sorted((args.data / name / "images").iterdir()))[0][: args.limit]
    if args.frames:
        args.frames.mkdir(parents=True, exist_ok=True)
    videos = resident.load_videos(kept[: args.limit], config.size, device, workers, args.frames)
    if args.favor:
        videos = resident.favor(videos, json.loads(args.favor.read_text()))
    photographs = resident.load_photographs(images, device, workers)
    print(f"{len(videos.pixels)} videos, {sum(map(len, videos.pixels))} frames, {len(images)} photographs", flush=True)
    batches = Batches(videos, photographs, Mix(*args.mix), config.size, config.jitter, config.seed, args.split)
    return batches, resident.load_videos(held_out[: args.limit or 32], config.size, device, workers, args.frames)


def build_student(init: str, config: TrainConfig, batches: Batches | None = None) -> TinyHD:
    """Return the student with its initial weights; without ``batches``, an ImageNet file is not loaded."""
    if not init.endswith(".npz"):
        return load_network(init)
    student = build(config.spec)
    assert isinstance(student, TinyHD)
    if batches is not None:
        clips = (batches.batch(number).student_clips[:1].cpu() for number in range(24))
        initialize(student, replace(config, init=init, sparse_init=True), clips)
    return student


def import_layers(name: str) -> Any:
    """Return the module that implements the layers; None for PyTorch's own layers."""
    module = LAYERS[name]
    if module is None:
        return None
    try:
        return importlib.import_module(f"tinyhd_cli.training.{module}")
    except ImportError as error:
        raise SystemExit(f"--layers {name}: {error}; use --layers torch") from error


def check_layers(layers: Any, network: TinyHD, teachers: Sequence[Teacher], device: torch.device) -> None:
    """Compile all kernels; exit if the gradients of the fast layers differ from those of PyTorch's own."""
    started = time.monotonic()
    clip = torch.randn(1, 3, CLIP_FRAMES, *INPUT_SIZE, device=device)
    reference = network.to(device).train()
    fast = copy.deepcopy(reference)
    layers.accelerate(fast)
    gradients = []
    try:
        for candidate in (fast, reference):
            saliency, maps = forward(candidate, clip)
            (saliency.log().mean() + sum(value.square().mean() for value in maps.values())).backward()
            values = [p.grad.float().flatten() for p in candidate.parameters() if p.grad is not None]
            gradients.append(torch.cat(values))
        with torch.no_grad():
            for teacher in teachers:
                teacher.forward(clip)
    except Exception as error:
        raise SystemExit(f"--layers gpu: the kernels failed ({error}); use --layers torch") from error
    cosine = float(nn.functional.cosine_similarity(gradients[0], gradients[1], 0))
    print(f"kernels compiled after {time.monotonic() - started:.0f} s; cosine of gradients {cosine:.5f}", flush=True)
    if not cosine > MIN_COSINE:
        raise SystemExit("--layers gpu: the kernels do not agree with PyTorch's layers; use --layers torch")


def set_up(args: argparse.Namespace, config: TrainConfig, device: torch.device) -> tuple[Distillation, Monitor]:
    """Load the networks and the data; meanwhile, compile and check the GPU layers."""
    layers = import_layers(args.layers)
    networks = [load_network(name).to(device) for name in args.teachers]
    for network in networks if layers else []:
        layers.accelerate(network)
    teachers = [
        Teacher(name, network, forward, device, args.teacher_frames)
        for name, network in zip(args.teachers, networks, strict=True)
    ]
    with ThreadPoolExecutor(1) as pool:
        check = None
        if args.layers == "gpu":
            check = pool.submit(check_layers, layers, build_student(args.init, config), teachers, device)
        batches, held_out = load_data(args, config, device)
        student = build_student(args.init, config, batches)
    if layers:
        layers.accelerate(student)
    if device.type == "cpu":
        keep_freed_memory(MALLOC_KEEP_BYTES)
    if check is not None:
        check.result()
    run = Distillation(config, student.to(device), teachers, batches, args)
    if args.resume:
        run.resume(args.resume)
    return run, Monitor(teachers, held_out, args.probe, device)


# -------------------------------------------------------------------------------------------------------- the run


def timer(seconds: float) -> Callable[[], bool]:
    """Return a function that returns whether a period has passed since it last returned True."""
    last = time.monotonic()

    def is_due() -> bool:
        nonlocal last
        due = time.monotonic() - last > seconds
        last = time.monotonic() if due else last
        return due

    return is_due


def apply_control_file(run: Distillation, args: argparse.Namespace) -> None:
    """Apply the settings in ``control.json`` and remove the file, if it exists."""
    path = args.out / "control.json"
    if not path.is_file():
        return
    settings = json.loads(path.read_text())
    path.unlink()
    args.minutes = settings.get("minutes", args.minutes)
    args.grid = settings.get("grid", args.grid)
    for group in run.optimizer.param_groups:
        group["base_lr"] *= settings.get("lr", 1)
    print(f"new settings: {settings}", flush=True)


def record_graph(run: Distillation) -> None:
    """Record the training step as a CUDA graph; if that fails, run without one."""
    try:
        run.record()
    except RuntimeError as error:
        print(f"not recorded: {error}", flush=True)
        run.graphs = ()


def train(run: Distillation, monitor: Monitor, args: argparse.Namespace, facts: dict[str, str]) -> None:
    """Train until the time or the number of steps is reached."""
    started, first = time.monotonic(), run.step
    report, save, measure = timer(10), timer(args.save_every), timer(args.measure_every)
    begin, end = args.part
    while (elapsed := (time.monotonic() - started) / (60 * args.minutes)) < 1:
        if args.steps and run.step - first >= args.steps:
            break
        terms = run.advance(begin + (end - begin) * elapsed)
        steps, seconds = run.step - first, time.monotonic() - started
        if report() or steps in (1, 5, 20, 60):
            rate = steps * run.batches.mix.total / seconds
            values = ", ".join(f"{name} {float(value):.3f}" for name, value in terms.items())
            print(f"{seconds:.0f} s, step {run.step}, {rate:.1f} clips/s: {values}", flush=True)
        if save():
            save_weights(args.out / "running.safetensors", run.average, run.config, facts)
            apply_control_file(run, args)
        if measure():
            monitor.report(run.average, f"{seconds:.0f} s")


def finish(run: Distillation, monitor: Monitor, args: argparse.Namespace, facts: dict[str, str]) -> None:
    """Write the state, the running mean and the final weights, and measure both networks."""
    run.save_state(args.out / "state.pt")
    save_weights(args.out / "running.safetensors", run.average, run.config, facts)
    monitor.report(run.average, "running mean")
    network = run.recalibrated(40 if monitor.device.type == "cuda" else 1)
    save_weights(args.out / "average.safetensors", network, run.config, {**facts, "steps": str(run.step)})
    monitor.report(network, "with new BatchNorm statistics")


def save_weights(path: Path, network: TinyHD, config: TrainConfig, facts: dict[str, str]) -> None:
    """Write a weights file."""
    weights.save(
        path,
        network.state_dict(),
        network.spec,
        name=f"{network.spec.name}.new",
        input_size=config.size,
        training_data="photographs with fixations and unlabeled videos, distilled from two networks trained on DHF1K",
        provenance=facts,
    )


def main() -> None:
    """Train for the given time and write the weights."""
    args, started = parse_arguments(), time.monotonic()
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    config = build_config({"lr": args.lr, "ema": args.ema, "out": args.out, "teacher": args.teachers}, "default")
    torch.manual_seed(config.seed)
    run, monitor = set_up(args, config, device)
    args.out.mkdir(parents=True, exist_ok=True)
    facts = {key: str(value) for key, value in vars(args).items()}
    print(f"ready after {time.monotonic() - started:.0f} s", flush=True)
    if device.type == "cuda" and not args.eager:
        record_graph(run)
        print(f"recorded after {time.monotonic() - started:.0f} s", flush=True)
    if args.within:
        args.minutes = min(args.minutes, (args.within - (time.monotonic() - started)) / 60)
    train(run, monitor, args, facts)
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
    finish(run, monitor, args, facts)
    print(f"ended after {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
