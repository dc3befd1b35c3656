"""Train the embedded weights of UVA-Net: one command, on one GPU, in minutes.

python examples/train_uvanet.py DATA --model uva-64 --teachers tinyhd-m-quarter.v2 --out RUN --minutes 1.2 1 0.7

DATA is the folder of examples/train_default.py, and the clips are built in the same way: photographs, photographs under
a moving camera, photographs with moving patches, and videos. First, a pool of clips is built, with the teachers' maps
of them: maps of the moving clips for the temporal path, and of static clips of single frames for the spatial path. Then
both stages are trained on pairs of frames of the pool. In stage 1, each path learns from its own maps. In stage 2, the
paths are frozen, and the head that fuses them learns from the maps of the moving clips. Photographs add their density
maps. The teachers take a hundred times as long for a pair as the network, so each pair is used many times, in other
colors and mirrored.

RUN/stage-1.safetensors is the two-head network, RUN/average.safetensors the result. The commands that made the embedded
weights are in their model cards. ``tinyhd distill --preset uva`` does the same with any data, more slowly: it reads
files and caches the teachers' maps.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from train_default import (
    LAYERS,
    emphasize_motion,
    forward,
    import_layers,
    load_data,
    load_network,
    probe_motion,
    teacher_targets,
    timer,
)

from tinyhd_cli import weights
from tinyhd_cli.models import create
from tinyhd_cli.models.families.tinyhd.network import TinyHD
from tinyhd_cli.models.families.uvanet.network import CoupledNetwork
from tinyhd_cli.models.spec import IMAGENET
from tinyhd_cli.training import losses
from tinyhd_cli.training.augment import recolored
from tinyhd_cli.training.optimizer import build_optimizer, ema_decay, lr_factor, set_lr
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.resident import CLIP_FRAMES, CONTEXT, Batches
from tinyhd_cli.training.settings import build_config

PAIRS = CLIP_FRAMES - 1
"""Pairs of consecutive frames in a clip."""

SCHEDULE_STEPS = 10_000
"""Resolution of the learning-rate schedule, which follows the elapsed time instead of the steps."""

FROZEN = ("low", "spatial", "temporal")
"""Parts of the network that stage 2 does not change."""


SPATIAL_FRAME = 7
"""Frame of a clip for which the teachers are also run on a static clip, in every second clip."""

SPATIAL, LABELED, OTHERS = 128, 128, 256
"""Pairs in a batch: with a map of a static clip, with ground truth, and any."""

# ------------------------------------------------------------------------------------------------------- networks


def build_network(name: str, heads: str, init: Path | str | None = None) -> CoupledNetwork:
    """Return a network with the tensors that a weights file has for it, and random values in the others."""
    torch.manual_seed(0)
    network = create(name, heads=heads, output="sigmoid")
    assert isinstance(network, CoupledNetwork)
    if init is not None:
        own = network.state_dict()
        found = {key: value for key, value in weights.load(init).state_dict.items() if key in own}
        network.load_state_dict(found, strict=False)
        print(f"{init}: {len(found)} of {len(own)} tensors", flush=True)
    return network


def set_mode(network: CoupledNetwork) -> CoupledNetwork:
    """Put a network into training mode; of a fused network, only the head."""
    network.train()
    if network.heads == "fused":
        for name in FROZEN:
            network.get_submodule(name).eval().requires_grad_(False)
    return network


# --------------------------------------------------------------------------------------------- clips and their maps


def scale_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images ``(N, C, H, W)`` in a smaller size; each pixel is the mean of the area that it covers."""
    return F.interpolate(images, size, mode="area")


def images_of(clips: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the frames of clips ``(N, 3, T, H, W)`` that are normalized for TinyHD: ``(N, T, 3, *size)`` in 0..1."""
    mean, std = (torch.tensor(values, device=clips.device).view(3, 1, 1, 1) for values in IMAGENET)
    images = (clips * std + mean).transpose(1, 2)
    return scale_to(images.flatten(0, 1), size).clamp(0, 1).view(*images.shape[:3], *size)


@torch.no_grad()
def static_maps(teachers: Sequence[TinyHD], images: Tensor) -> Tensor:
    """Return the teachers' mean map of static clips of normalized images ``(N, 3, H, W)``: ``(N, H, W)``, sum 1."""
    clips = images.unsqueeze(2).expand(-1, -1, CLIP_FRAMES, -1, -1)
    return torch.stack([losses.distribution(forward(teacher, clips)[0].mean(1)) for teacher in teachers]).mean(0)


@dataclass(frozen=True)
class Pool:
    """Clips at the input size of the network, with the maps that it learns; C clips, L of them with ground truth."""

    frames: Tensor
    """uint8 ``(C, 16, 3, H, W)``."""
    final: Tensor
    """The teachers' maps of all frames but the last, ``(C, 15, H, W)``, float16 with a mean of 1."""
    spatial: Tensor
    """The teachers' maps of static clips of ``SPATIAL_FRAME`` in every second clip, ``(C / 2, H, W)``, likewise."""
    labeled: Tensor
    """Indices of the clips with ground truth, ``(L,)``."""
    density: Tensor
    """Their density maps, ``(L, 15, H, W)``, float16."""


@torch.no_grad()
def build_pool(
    teachers: Sequence[TinyHD], batches: Batches, size: tuple[int, int], stir: float, enough: Callable[[int], bool]
) -> Pool:
    """Build clips and run the teachers on them until there are enough.

    Args:
        teachers: networks whose maps are learned.
        batches: source of the clips.
        size: input size of the network.
        stir: fraction of an animated clip's target on the moving patches.
        enough: whether a number of batches is enough.
    """
    parts: list[tuple[Tensor, ...]] = []
    while not enough(len(parts)):
        batch = batches.batch(len(parts))
        final = emphasize_motion(teacher_targets(teachers, batch), batch.motion, batches.mix.labeled, stir).final
        static = static_maps(teachers, batch.teacher_clips[::2, :, CONTEXT + SPATIAL_FRAME])
        frames = images_of(batch.teacher_clips[:, :, CONTEXT:], size)
        truth = batch.ground_truth
        density = final[:0] if truth is None else truth.density.float()
        maps = [half(scale_to(m, size)) for m in (final[:, :PAIRS], static.unsqueeze(1), density[:, :PAIRS])]
        parts.append(((frames * 255).round().byte(), *maps))
    frames, final, static, density = (torch.cat(part) for part in zip(*parts, strict=True))
    mix = batches.mix
    labeled = torch.arange(len(parts)).view(-1, 1) * mix.total + torch.arange(mix.labeled)
    return Pool(frames, final, static.squeeze(1), labeled.flatten().to(frames.device), density)


def half(maps: Tensor) -> Tensor:
    """Return maps in half precision, scaled to a mean of 1; maps of zeros stay zero."""
    return (losses.distribution(maps) * maps[0, 0].numel()).half() if len(maps) else maps.half()


def agreement(maps: Tensor, target: Tensor) -> Tensor:
    """Return the KL divergence from a target plus 1 - CC, averaged over maps; maps whose target is 0 add nothing."""
    known = (target.sum((-2, -1)) > 0).float()
    return losses.masked_mean(losses.kl_divergence(maps, target) + 1 - losses.cc(maps, target), known)


# ------------------------------------------------------------------------------------------------------- training


class Stage:
    """A stage of the training: the network, the running mean of its weights, and the optimizer.

    Args:
        config: optimizer, schedule and color jitter.
        network: the network; two heads in stage 1, one fused head in stage 2.
        pool: clips and maps.
    """

    def __init__(self, config: TrainConfig, network: CoupledNetwork, pool: Pool) -> None:
        self.config, self.network, self.pool = config, network, pool
        set_mode(network)
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = build_optimizer(network, config)
        pairs = zip(self.average.state_dict().values(), network.state_dict().values(), strict=True)
        averages, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        self.averages, self.values = list(averages), list(values)
        self.generator = torch.Generator(pool.frames.device).manual_seed(config.seed)
        self.step = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def random(self, limit: int, count: int) -> Tensor:
        """Return random integers below a limit."""
        return torch.randint(limit, (count,), generator=self.generator, device=self.pool.frames.device)

    def batch(self) -> list[Tensor]:
        """Return random pairs and their maps.

        Returns:
            Pairs ``(B, 3, 2, H, W)`` in -1..1, their final maps ``(B, H, W)``, the maps of static clips of the first
            ``SPATIAL`` ones, and the density maps of the following ``LABELED`` ones.
        """
        pool = self.pool
        spatial, labeled = self.random(len(pool.spatial), SPATIAL), self.random(len(pool.labeled), LABELED)
        clips = torch.cat([spatial * 2, pool.labeled[labeled], self.random(len(pool.frames), OTHERS)])
        times = self.random(PAIRS, len(clips))
        times[:SPATIAL] = SPATIAL_FRAME
        pairs = torch.stack([pool.frames[clips, times], pool.frames[clips, times + 1]], 2).float() / 255
        density = pool.density[labeled, times[SPATIAL : SPATIAL + LABELED]]
        maps = [pool.final[clips, times], pool.spatial[spatial], density]
        jitter = torch.rand((len(clips), 3), generator=self.generator, device=pairs.device) * 2 - 1
        tensors = [recolored(pairs, 1 + self.config.jitter * jitter) * 2 - 1, *(m.float() for m in maps)]
        return [tensor.flip(-1) for tensor in tensors] if self.step % 2 else tensors

    def compute_gradients(self, pairs: Tensor, final: Tensor, spatial: Tensor, density: Tensor) -> dict[str, Tensor]:
        """Compute the gradients for a batch and return the terms of the loss; all have a weight of 1."""
        saliency, heads = self.network(pairs, intermediate=True)
        maps = {name: m.squeeze(1) for name, m in (heads or {"fused": saliency}).items()}
        targets = {"temporal": final, "fused": final, "spatial": spatial}
        terms = {name: agreement(m[: len(targets[name])], targets[name]) for name, m in maps.items()}
        for name, m in maps.items():
            terms[f"{name}-ground-truth"] = agreement(m[SPATIAL : SPATIAL + LABELED], density)
        torch.stack(list(terms.values())).sum().backward()
        return {name: value.detach() for name, value in terms.items()}

    def advance(self, position: float) -> dict[str, Tensor]:
        """Run one step at a position of the schedule, 0 to 1, and return the terms of its loss."""
        set_lr(self.optimizer, lr_factor(self.config, int(position * SCHEDULE_STEPS), SCHEDULE_STEPS))
        batch = self.batch()
        if self.graph is None:
            self.optimizer.zero_grad()
            terms = self.compute_gradients(*batch)
        else:
            for new, old in zip(batch, self.recorded_batch, strict=True):
                old.copy_(new)
            self.graph.replay()
            terms = self.recorded_terms
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.values, 1 - ema_decay(self.config, self.step))
        return terms

    def record(self) -> None:
        """Record the gradients of a step as a CUDA graph, because its many small kernels take longer to launch."""
        self.recorded_batch = self.batch()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.optimizer.zero_grad()
                self.compute_gradients(*self.recorded_batch)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.recorded_terms = self.compute_gradients(*self.recorded_batch)

    @torch.no_grad()
    def recalibrated(self, count: int) -> CoupledNetwork:
        """Return the running mean of the weights, with BatchNorm statistics recomputed on ``count`` batches."""
        network = set_mode(copy.deepcopy(self.average))
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
        for number in range(count):
            for norm in norms:
                norm.momentum = 1 / (number + 1)  # the mean over all batches
            network(self.batch()[0])
        return network.eval()


def train(stage: Stage, minutes: float, steps: int | None, measure: Callable[[CoupledNetwork, str], None]) -> None:
    """Train a stage until the time or the number of steps is reached."""
    started, report, due = time.monotonic(), timer(10), timer(60)
    while (elapsed := (time.monotonic() - started) / (60 * minutes)) < 1 and not (steps and stage.step >= steps):
        terms = stage.advance(elapsed)
        if report() or stage.step in (1, 20, 100):
            values = ", ".join(f"{name} {float(value):.3f}" for name, value in terms.items())
            rate = stage.step / (time.monotonic() - started)
            print(f"{100 * elapsed:.0f} %, step {stage.step}, {rate:.1f} steps/s: {values}", flush=True)
        if due():
            measure(stage.average, f"step {stage.step}")


def save(path: Path, network: CoupledNetwork, facts: dict[str, str]) -> None:
    """Write a weights file."""
    weights.save(
        path,
        network.state_dict(),
        network.spec,
        name=f"{network.spec.name}.new",
        training_data="photographs with fixations and unlabeled videos, distilled from TinyHD",
        provenance=facts,
    )


# --------------------------------------------------------------------------------------------------------- set-up


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    add = parser.add_argument
    add("data", type=Path, help="folder of the training data")
    add("--model", default="uva-64", help="network to train (default: uva-64)")
    add("--teachers", nargs="+", required=True, help="weights of TinyHD networks, by name or file")
    add("--init", help="weights to start from, by name or file; tensors that it lacks start at random")
    add("--out", type=Path, required=True, help="folder for the results")
    stages = ("STAGE1", "STAGE2")
    parts = ("POOL", *stages)
    add("--minutes", type=float, nargs=3, default=(1.2, 1, 0.7), metavar=parts, help="duration (default: 1.2 1 0.7)")
    add("--steps", type=int, nargs=3, default=(None, None, None), metavar=parts, help="maximum number of batches")
    add("--lr", type=float, nargs=2, default=(0.003, 0.003), metavar=stages, help="learning rates (default: 0.003)")
    kinds = ("STATIC", "MOVING", "ANIMATED", "VIDEOS")
    add("--mix", type=int, nargs=4, default=(4, 4, 12, 12), metavar=kinds, help="clips per batch (default: 4 4 12 12)")
    add("--stir", type=float, default=0.3, help="fraction of an animated clip's target on moving patches")
    add("--bias", type=float, default=0, help="added to the last bias at the end; below 0, less of the maps saturates")
    add("--device", default="cuda" if gpu else "cpu")
    add("--layers", choices=LAYERS, default="gpu" if gpu else "torch", help="implementation of the teachers' layers")
    add("--limit", type=int, help="maximum number of videos, and of photographs per folder, for a trial run")
    add("--probe", type=Path, help="folder of clips with truth.json, for the motion probe")
    return parser.parse_args()


def predictor(network: CoupledNetwork) -> Callable[[Tensor], Tensor]:
    """Return a function that predicts the maps ``(T, h, w)`` of frames, uint8 ``(T, H, W, 3)``."""

    def predict(pixels: Tensor) -> Tensor:
        frames = scale_to(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, network.spec.input_size)
        following = torch.cat([frames[1:], frames[-1:]])
        return network(torch.stack([frames, following], 2)).squeeze(1)

    return predict


def until(minutes: float, count: int | None) -> Callable[[int], bool]:
    """Return a function that tells whether a time has passed since now, or a count is reached."""
    end = time.monotonic() + 60 * minutes
    return lambda done: (done > 0 and time.monotonic() > end) or done == count


def main() -> None:
    """Build the pool, train both stages for the given time, and write the weights."""
    args, started = parse_arguments(), time.monotonic()
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    args.out.mkdir(parents=True, exist_ok=True)
    teachers = [load_network(name).to(device).requires_grad_(False) for name in args.teachers]
    layers = import_layers(args.layers)
    for teacher in teachers if layers else []:
        layers.accelerate(teacher)
    config = build_config({"model": args.model, "out": args.out, "clip": 5.0, "ema": 0.995}, "uva")
    facts = {key: str(value) for key, value in vars(args).items()}

    def measure(network: CoupledNetwork, label: str) -> None:
        values = probe_motion(predictor(network), args.probe, device) if args.probe else {}
        seconds = time.monotonic() - started
        print(f"{seconds:.0f} s, {label}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()), flush=True)

    data = replace(build_config({"out": args.out, "teacher": args.teachers}, "default"), seed=config.seed)
    batches, _ = load_data(args, data, device)
    enough = until(args.minutes[0], args.steps[0])
    network = build_network(args.model, "two", args.init)
    pool = build_pool(teachers, batches, network.spec.input_size, args.stir, enough)
    print(f"{time.monotonic() - started:.0f} s, pool of {len(pool.frames)} clips", flush=True)
    for number, (heads, name) in enumerate((("two", "stage-1"), ("fused", "average")), 1):
        if heads == "fused":
            network = build_network(args.model, heads, args.out / "stage-1.safetensors")
        stage = Stage(replace(config, lr=args.lr[number - 1]), network.to(device), pool)
        if device.type == "cuda":
            stage.record()
        train(stage, args.minutes[number], args.steps[number], measure)
        network = stage.recalibrated(40 if device.type == "cuda" else 1)
        if heads == "fused":
            network.head[-1].norm.bias.data += args.bias
        save(args.out / f"{name}.safetensors", network, {**facts, "steps": str(stage.step)})
        measure(network, f"end of stage {number}")


if __name__ == "__main__":
    main()
