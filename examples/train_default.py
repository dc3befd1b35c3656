"""How the embedded default weights were trained: one command, on one GPU, in minutes.

python examples/train_default.py DATA --teachers MULTI SINGLE --init FILE --out RUN --minutes 9

DATA holds folders of videos with a MANIFEST.json (clips, clips2) and of photographs with images/, maps/ and fixation/
(static/*, static2/*). MULTI and SINGLE are weights of networks whose mean is taught. The whole of the data is decoded
into GPU memory; clips are built, the teachers run and the student trained there, each step recorded as one graph.
The learning rate follows the clock, so that a run ends in time whatever the machine. RUN/average.safetensors is the
result, RUN/state.pt the state for --resume. The card of tinyhd-m-quarter.v2 has the commands that made it.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyhd_cli import weights
from tinyhd_cli.models import build
from tinyhd_cli.models.families.tinyhd import TinyHD
from tinyhd_cli.models.spec import CLIP_FRAMES
from tinyhd_cli.training import losses, resident
from tinyhd_cli.training.init_weights import darken, load_encoder
from tinyhd_cli.training.losses import Targets
from tinyhd_cli.training.optimizer import build_optimizer, lr_factor, set_lr
from tinyhd_cli.training.options import TrainConfig, build_config
from tinyhd_cli.training.resident import CONTEXT, Batch, Batches, Mix
from tinyhd_cli.training.teachers import between, mean

ASKED = (0, 5, 10, 15)
"""Frames of a clip for which a single-output teacher is run; its maps are interpolated between them."""

PARTS = 10_000
"""Scale of the schedule: the elapsed share of the run's time, expressed in steps."""

PHOTOGRAPHS = ("static/osie", "static/sun500", "static/mit1003", "static2/crowd", "static2/etocvd")
VIDEOS = ("clips2", "clips")


def network_of(name: str, device: torch.device) -> TinyHD:
    """Return a network with its weights."""
    checkpoint = weights.load(name)
    network = build(checkpoint.config)
    assert isinstance(network, TinyHD)
    network.load_state_dict(checkpoint.state_dict)
    return network.to(device).eval()


def maps_of(network: TinyHD, clips: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the maps of a network, in mixed precision except for its last layer."""
    with torch.autocast(clips.device.type, torch.bfloat16, clips.device.type == "cuda", cache_enabled=False):
        streams = network.encoder(clips)
        raw = {name: decoder(streams) for name, decoder in network.decoders.items()}
    maps = {name: torch.sigmoid(value.float()) for name, value in raw.items()}
    aligned = [m.expand(-1, -1, network.frames, -1, -1) for m in maps.values()]
    return torch.sigmoid(network.fusion(torch.cat(aligned, dim=1))).squeeze(1), maps


@lru_cache
def blending(device: torch.device) -> Tensor:
    """Return the interpolation weights ``(16, P)`` from the P frames a single-output teacher is run for to all 16."""
    return between(torch.eye(len(ASKED)), ASKED).to(device)


@torch.no_grad()
def maps_by(teacher: TinyHD, shown: Tensor) -> Targets:
    """Return a teacher's maps of clips, which are given with the frames before them."""
    if teacher.frames > 1:
        final, maps = maps_of(teacher, shown[:, :, CONTEXT:])
        return Targets(final, maps["d1"].mean(2))
    windows = [maps_of(teacher, shown[:, :, place : place + CLIP_FRAMES]) for place in ASKED]
    final = torch.einsum("tp,pnhw->nthw", blending(shown.device), torch.stack([final[:, 0] for final, _ in windows]))
    return Targets(final, torch.stack([maps["d1"].mean(2) for _, maps in windows]).mean(0))


@torch.no_grad()
def taught(teachers: Sequence[TinyHD], batch: Batch, alone: int = 0) -> Targets:
    """Return the mean of the teachers' maps for a batch; for a static clip, also the mean over time.

    The first ``alone`` clips, which have ground truth besides, are taught by the first teacher alone.
    """
    first = maps_by(teachers[0], batch.shown)
    others = [maps_by(teacher, batch.shown[alone:]) for teacher in teachers[1:]]
    assert first.intermediate is not None
    both = mean([Targets(first.final[alone:], first.intermediate[alone:]), *others])
    assert both.intermediate is not None
    final = torch.cat([losses.distribution(first.final[:alone]), both.final])
    deep = torch.cat([losses.distribution(first.intermediate[:alone]), both.intermediate])
    still = batch.calm.view(-1, 1, 1, 1)
    return Targets(torch.where(still, final.mean(1, keepdim=True), final), deep)


def stirred(wanted: Targets, paths: Tensor, first: int, share: float) -> Targets:
    """Move a share of the target of each animated clip (from index ``first``) onto its moving patches."""
    parts = wanted.final[:first], wanted.final[first : first + len(paths)], wanted.final[first + len(paths) :]
    weight = share * (paths.sum((-2, -1), keepdim=True) > 0)
    mixed = torch.lerp(parts[1], losses.distribution(paths), weight.expand_as(paths))
    return Targets(torch.cat([parts[0], mixed, parts[2]]), wanted.intermediate)


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch in a fixed order."""
    truth = [batch.truth.density, batch.truth.fixation] if batch.truth is not None else []
    return [batch.shown, batch.student, batch.calm, batch.paths, *truth]


class Course:
    """A training run: student, running mean of its weights, optimizer."""

    def __init__(self, config: TrainConfig, student: TinyHD, teachers: Sequence[TinyHD], batches: Batches, grid: float):
        self.config, self.student, self.teachers, self.batches, self.grid = config, student, teachers, batches, grid
        self.average = copy.deepcopy(student).eval().requires_grad_(False)
        self.optimizer = build_optimizer(student, config)
        pairs = zip(self.average.state_dict().values(), student.state_dict().values(), strict=True)
        mine, theirs = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        self.followed = list(mine), list(theirs)
        self.step, self.agreement, self.stir = 0, 0.0, 0.0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.marks: list[torch.cuda.Event] = []

    def state(self) -> dict[str, object]:
        """Return everything that resuming needs."""
        parts = {"student": self.student, "average": self.average, "optimizer": self.optimizer}
        return {"step": self.step, **{name: part.state_dict() for name, part in parts.items()}}

    def resume(self, path: Path) -> None:
        """Resume from a saved state."""
        state = torch.load(path, weights_only=True, map_location=self.batches.device)
        self.step = state["step"]
        for part, name in ((self.student, "student"), (self.average, "average"), (self.optimizer, "optimizer")):
            part.load_state_dict(state[name])

    def steer(self, given: argparse.Namespace) -> None:
        """Apply the settings that were written into the run's folder since the last check."""
        path = given.out / "control.json"
        if not path.is_file():
            return
        wanted = json.loads(path.read_text())
        path.unlink()
        given.minutes = wanted.get("minutes", given.minutes)
        self.grid = wanted.get("grid", self.grid)
        for group in self.optimizer.param_groups:
            group["base_lr"] *= wanted.get("lr", 1)
        print(f"from now on {wanted}", flush=True)

    def advance(self, share: float) -> dict[str, Tensor]:
        """Run one step at a position of the schedule and return the terms of its loss."""
        set_lr(self.optimizer, lr_factor(self.config, int(share * PARTS), PARTS))
        batch = self.batches.batch(self.step)
        if self.graph is None:
            self.optimizer.zero_grad()
            terms = self.gradients(batch)
        else:
            for mine, new in zip(tensors_of(self.held), tensors_of(batch), strict=True):
                mine.copy_(new)
            self.graph.replay()
            terms = self.terms
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self.follow()
        self.wait()
        return {**terms, "norm": norm}

    def wait(self) -> None:
        """Let the CPU run at most one step ahead of the GPU, because the run is limited by time."""
        if self.batches.device.type == "cuda":
            self.marks.append(torch.cuda.Event())
            self.marks[-1].record()
            if len(self.marks) > 2:
                self.marks.pop(0).synchronize()

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of the student's parameters and return the terms of the loss."""
        labeled = self.batches.mix.labeled
        wanted = stirred(taught(self.teachers, batch, labeled), batch.paths, labeled, self.stir)
        self.student.train()
        saliency, maps = maps_of(self.student, batch.student)
        terms = losses.loss_terms(saliency, maps, labeled, wanted, batch.truth, self.config.weights)
        loss = losses.total(terms, self.config.weights)
        final, aggregated = (m[:, 2::4].flatten(0, 1) for m in (saliency, maps["d3"][:, 0]))
        terms["grid"] = losses.grid_pattern(final)
        loss = loss + self.grid * (terms["grid"] + 0.5 * losses.grid_pattern(aggregated))
        if self.agreement:
            terms["cc"] = (1 - losses.correlation(saliency[labeled:], wanted.final[labeled:])).mean()
            loss = loss + self.agreement * terms["cc"]
        loss.backward()
        return {name: value.detach() for name, value in terms.items()}

    def capture(self) -> None:
        """Record a step as a CUDA graph: launching its kernels one by one from the CPU is too slow."""
        self.held = self.batches.batch(self.step)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        before = copy.deepcopy(self.student.state_dict())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.optimizer.zero_grad()
                self.gradients(self.held)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.terms = self.gradients(self.held)
        self.student.load_state_dict(before)  # the statistics were moved
        self.graph = graph

    @torch.no_grad()
    def follow(self) -> None:
        """Update the running mean of weights and BatchNorm statistics."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(*self.followed, 1 - decay)

    @torch.no_grad()
    def settled(self, count: int) -> TinyHD:
        """Return the running mean of the weights, with BatchNorm statistics recomputed on some batches."""
        network = copy.deepcopy(self.average).train()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
        for number in range(count):
            for norm in norms:
                norm.momentum = 1 / (number + 1)  # the mean of all
            maps_of(network, self.batches.batch(10_000_000 + number).student)
        return network.eval()


@torch.inference_mode()
def divergence(network: TinyHD, teachers: Sequence[TinyHD], films: resident.Films) -> float:
    """Return the mean KL divergence of a network's maps from the teachers', on the middle clip of each video."""
    found = []
    for pixels in films.pixels:
        start = max(0, len(pixels) // 2 - CLIP_FRAMES)
        places = torch.arange(start - CONTEXT, start + CLIP_FRAMES).clamp(0, len(pixels) - 1).to(pixels.device)
        shown = resident.normalized(pixels[places].permute(3, 0, 1, 2).unsqueeze(0).float() / 255)
        batch = Batch(
            shown, shown[:, :, CONTEXT:], torch.zeros(1, dtype=torch.bool, device=shown.device), None, shown[:0, 0]
        )
        found.append(losses.kl_divergence(maps_of(network, batch.student)[0], taught(teachers, batch).final).mean())
    return float(torch.stack(found).mean())


@torch.inference_mode()
def probe(network: TinyHD, folder: Path, device: torch.device) -> dict[str, float]:
    """Return the motion probe (z, hit) and the grid, in percent of the range by period, on clips with truth.json."""
    found: dict[str, list[float]] = {"z": [], "hit": [], "grid": []}
    for name, track in json.loads((folder / "truth.json").read_text()).items():
        pixels = torch.from_numpy(resident.decode(folder / f"{name}.mp4", (192, 256))).to(device)
        shown = resident.normalized(pixels[:64].view(-1, CLIP_FRAMES, 192, 256, 3).permute(0, 4, 1, 2, 3).float() / 255)
        saliency = maps_of(network, shown)[0].flatten(0, 1)[CLIP_FRAMES:]
        z = losses.standardized(saliency)
        peak = saliency.flatten(1).argmax(1).tolist()
        for index, (x, y, side) in enumerate(track[CLIP_FRAMES:]):
            found["z"].append(float(z[index, int(y / 240 * 192), int(x / 426 * 256)]))
            row, column = divmod(peak[index], 256)
            away = ((column / 256 * 426 - x) ** 2 + (row / 192 * 240 - y) ** 2) ** 0.5
            found["hit"].append(float(away < max(side, 24)))
        found["grid"].append(100 * float(losses.grid_pattern(saliency[::8])))
    return {name: sum(values) / len(values) for name, values in found.items()}


def save(path: Path, network: TinyHD, config: TrainConfig, facts: dict[str, str]) -> None:
    """Write a weights file."""
    state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    weights.save(
        path,
        state,
        network.config,
        name=f"{network.config.name}.new",
        input_size=config.size,
        training_data="photographs with fixations and unlabeled videos, distilled from two networks trained on DHF1K",
        scores={},
        scores_on="",
        provenance=facts,
    )


def parse() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--teachers", nargs="+", required=True)
    parser.add_argument("--init", required=True, help="weights to begin with, or MobileNetV2 of ImageNet (.npz)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--part", type=float, nargs=2, default=(0.0, 1.0), help="of the schedule, for runs in parts")
    parser.add_argument("--resume", type=Path, help="state.pt of an earlier part")
    parser.add_argument("--steps", type=int, help="at most")
    parser.add_argument("--mix", type=int, nargs=4, default=(1, 2, 5, 8), help="still, moving, animated, films")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--grid", type=float, default=5.0, help="weight of the penalty on periodic patterns")
    parser.add_argument("--agreement", type=float, default=1.0, help="weight of 1 - CC with the teachers' maps")
    parser.add_argument("--stir", type=float, default=0.15, help="share of an animated clip's target on what moves")
    parser.add_argument("--within", type=float, help="seconds from the start of the program, but for the last scores")
    parser.add_argument("--ema", type=float, default=0.997)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, help="videos and photographs of each kind, for a trial")
    parser.add_argument("--probe", type=Path, help="folder of clips with truth.json, to watch the run by")
    parser.add_argument(
        "--layers", default="gpu" if torch.cuda.is_available() else "fast", choices=["gpu", "fast", "plain"]
    )
    parser.add_argument("--eager", action="store_true", help="do not record a step's work")
    parser.add_argument("--save-every", type=float, default=30, help="seconds")
    parser.add_argument("--measure-every", type=float, default=1e9, help="seconds")
    return parser.parse_args()


def load_data(given: argparse.Namespace, config: TrainConfig, device: torch.device) -> tuple[Batches, resident.Films]:
    """Return the training data and the lively videos that are held out."""
    workers = os.cpu_count() or 1
    kept, held = [], []
    for folder in (given.data / name for name in VIDEOS if (given.data / name).is_dir()):
        mine, not_mine = resident.split_by_source(resident.sources_of(folder), folder)
        kept += mine
        held += [item for item in not_mine if item.get("motion", 0) > 2.4925]
    images: list[Path] = []
    for name in (name for name in PHOTOGRAPHS if (given.data / name).is_dir()):
        images += resident.held_back(sorted((given.data / name / "images").iterdir()))[0][: given.limit]
    films = resident.load_films(kept[: given.limit], config.size, device, workers)
    photographs = resident.load_photographs(images, device, workers)
    print(f"{len(films.pixels)} videos, {sum(map(len, films.pixels))} frames, {len(images)} photographs", flush=True)
    mix = Mix(*given.mix)
    batches = Batches(films, photographs, mix, config.size, config.jitter, config.seed)
    return batches, resident.load_films(held[: given.limit or 32], config.size, device, workers)


def warm_up(teachers: Sequence[TinyHD], given: argparse.Namespace, layers: Any, found: list[float]) -> None:
    """Compile all kernels while the data are decoded, and compare their gradients with PyTorch's."""
    began, device = time.monotonic(), torch.device(given.device)
    clip = torch.randn(1, 3, CLIP_FRAMES, 192, 256, device=device)
    gradients = []
    for fast in (True, False):
        network = network_of(given.init, device).train()
        if fast:
            layers.accelerate(network)
        saliency, maps = maps_of(network, clip)
        (saliency.log().mean() + sum(value.square().mean() for value in maps.values())).backward()
        gradients.append(torch.cat([p.grad.float().flatten() for p in network.parameters() if p.grad is not None]))
    with torch.no_grad():
        for teacher in teachers:
            maps_of(teacher, clip)
    found.append(float(nn.functional.cosine_similarity(gradients[0], gradients[1], 0)))
    print(f"kernels compiled after {time.monotonic() - began:.0f} s; gradients' cosine {found[0]:.5f}", flush=True)


def main() -> None:
    """Train until the time is up."""
    given, began = parse(), time.monotonic()
    device = torch.device(given.device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    config = build_config({"lr": given.lr, "ema": given.ema, "out": given.out, "teacher": given.teachers}, "default")
    torch.manual_seed(config.seed)
    teachers = [network_of(name, device) for name in given.teachers]
    if given.layers != "plain":
        layers = importlib.import_module(f"tinyhd_cli.training.{given.layers}")
        for teacher in teachers:
            layers.accelerate(teacher)
        agreed: list[float] = []
        warm = threading.Thread(target=warm_up, args=(teachers, given, layers, agreed))
        if given.layers == "gpu":
            warm.start()
    batches, held = load_data(given, config, device)
    if given.init.endswith(".npz"):
        student = build(config.model_config)
        assert isinstance(student, TinyHD)
        load_encoder(student, given.init, (batches.batch(n).student[:1].cpu() for n in range(24)))
        darken(student)
    else:
        student = network_of(given.init, torch.device("cpu"))
    if given.layers != "plain":
        layers.accelerate(student)
        if given.layers == "gpu":
            warm.join()
            if not agreed or not agreed[0] > 0.9:
                raise SystemExit("the fast layers do not work here: --layers plain")
    course = Course(config, student.to(device), teachers, batches, given.grid)
    course.agreement, course.stir = given.agreement, given.stir
    if given.resume:
        course.resume(given.resume)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = {key: str(value) for key, value in vars(given).items()}

    def measure(network: TinyHD, name: str) -> None:
        found = {"KL": divergence(network, teachers, held)} if held.pixels else {}
        found |= probe(network, given.probe, device) if given.probe else {}
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in found.items()), flush=True)

    print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
    if device.type == "cuda" and not given.eager:
        try:
            course.capture()
        except RuntimeError as error:
            print(f"not recorded: {error}", flush=True)
            course.graph = None
        print(f"recorded after {time.monotonic() - began:.0f} s", flush=True)
    if given.within:
        given.minutes = min(given.minutes, (given.within - (time.monotonic() - began)) / 60)
    started = last_saved = last_shown = last_measured = time.monotonic()
    first = course.step
    while (passed := (time.monotonic() - started) / (60 * given.minutes)) < 1:
        if given.steps and course.step - first >= given.steps:
            break
        terms = course.advance(given.part[0] + (given.part[1] - given.part[0]) * passed)
        now = time.monotonic()
        if now - last_shown > 10 or course.step - first in (1, 5, 20, 60):
            last_shown = now
            rate = (course.step - first) * batches.mix.total / (now - started)
            shown = ", ".join(f"{name} {float(value):.3f}" for name, value in terms.items())
            print(f"{now - started:.0f} s, step {course.step}, {rate:.1f} clips/s: {shown}", flush=True)
        if now - last_saved > given.save_every:
            last_saved = now
            save(given.out / "running.safetensors", course.average, config, facts)
            course.steer(given)
        if now - last_measured > given.measure_every:
            last_measured = now
            measure(course.average, f"{now - started:.0f} s")
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
    torch.save(course.state(), given.out / "state.pt")
    save(given.out / "running.safetensors", course.average, config, facts)
    measure(course.average, "running mean")
    settled = course.settled(40 if device.type == "cuda" else 1)
    facts["steps"] = str(course.step)
    save(given.out / "average.safetensors", settled, config, facts)
    measure(settled, "its statistics taken anew")
    print(f"ended after {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
