"""The training loop, for training on labels, for distillation, and for networks with reduced channels.

Hugging Face Accelerate runs it in one process on a CPU or GPU, or in several (``accelerate launch``, ``torchrun``). The
loop itself belongs to tinyhd, because runs must resume exactly.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..callbacks import StartPhase, no_phases
from ..errors import TinyhdError, UsageError
from ..models import build
from ..system import keep_freed_memory
from ..weights.model_card import write_card
from . import checkpoints, cpu_layers, generators
from .augment import Batch, autocast, collate, ground_truth, run_student, student_clips, targets
from .hint import build_hint, with_features
from .launch import accelerator, check_launcher
from .losses import left_out, loss_terms, total
from .objectives import LABELED, PAIRS
from .optimizer import build_optimizer, ema_decay, lr_factor, milestones, set_lr
from .options import TrainConfig
from .prepare import Run, prepare
from .run_log import OBJECT_SCORES, SCORES, RunLog, save_image
from .validation import Validation

log = logging.getLogger("tinyhd")


@dataclass(frozen=True)
class Report:
    """State of a run after a step."""

    step: int
    steps: int
    epoch: int
    loss: float
    terms: dict[str, float]
    lr: float
    clips_per_s: float
    left_s: float
    validation: Validation | None = None
    stage: int = 0
    """Training stage, from 1; 0 for a network that is trained in one stage."""
    constant: Mapping[str, float] = field(default_factory=dict)
    """See ``Validator.best_constant``."""


OnReport = Callable[[Report], None]


class Interrupts:
    """Defers Ctrl-C to the end of the step, so that the checkpoint is complete; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Record Ctrl-C and termination while the block runs."""
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler.handle) for number in numbers}
    try:
        yield handler
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def leave_signals_to_parent(worker: int) -> None:
    """Detach a data-loader worker from the run's process group, so that the current step can finish after a signal."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


class Trainer:
    """A training run.

    Args:
        config: the run.
        resume: resume from the newest checkpoint in ``config.folder``.
        extend: continue a finished run with more steps.
        start_phase: starts a phase of the preparation and returns the callback for its progress.
        on_report: called after every step.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        resume: bool = False,
        extend: bool = False,
        start_phase: StartPhase = no_phases,
        on_report: OnReport = lambda report: None,
    ) -> None:
        self.config, self.on_report = config, on_report
        resume = resume or extend
        self.state = checkpoints.load(config, extend) if resume else checkpoints.State()
        if not resume:
            checkpoints.refuse_old_run(config.folder)
        self.accelerator = accelerator(config)
        self.is_main: bool = self.accelerator.is_main_process
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        check_launcher(processes)
        with self.accelerator.main_process_first():  # it decodes and downloads; the others use the caches
            self.run_data: Run = prepare(config, self.accelerator.device, rank, processes, start_phase, resumed=resume)
        self.network: nn.Module = self.run_data.network
        if resume:
            self._check_end(extend)
        self._build(resume)
        self.run_log: RunLog | None = None
        self.told_left_out = False
        self.constant = self.run_data.validator.best_constant() if self.is_main else {}

    def _check_end(self, extend: bool) -> None:
        """Log how to continue a finished run; raise ``UsageError`` if it would be extended to too few steps."""
        config, done, steps = self.config, self.state.step, self.run_data.schedule.steps
        if extend and done >= steps:
            raise UsageError(
                f"--extend: the run already has {done} steps; give more with --steps or --epochs, not {steps}"
            )
        if extend:
            group = self.state.optimizer["param_groups"][0]
            before, after = group["lr"] / group["base_lr"], lr_factor(config, done, steps)
            message = (
                "--extend: the learning rate follows the schedule of %d steps: from here %.3g x --lr, before %.3g x"
            )
            log.warning(message, steps, after, before)
        elif done >= steps and config.stage in (0, *config.stages[-1:]):
            log.warning("--resume: the run is finished (step %d); to continue it, use --extend --steps N", done)

    def _build(self, resume: bool) -> None:
        """Build the network, the optimizer and the average, with the state of a checkpoint if any."""
        on_cpu = self.accelerator.device.type == "cpu"
        several = self.accelerator.num_processes > 1
        if on_cpu and (several or not self.config.eager):
            cpu_layers.accelerate(self.network)  # these also share BatchNorm's statistics between processes
            keep_freed_memory(cpu_layers.MALLOC_KEEP_BYTES)
            for parameter in self.network.parameters():
                if parameter.dim() == 4:  # the channels-last layout makes the training of 2D networks 20 % faster
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        network: nn.Module = self.network
        if several and not on_cpu:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        if resume:
            network.load_state_dict(self.state.model)
        self.average = copy.deepcopy(network).eval() if self.config.ema else None
        if self.average is not None and self.state.ema:
            self.average.load_state_dict(self.state.ema)
        self.tap, self.hint = build_hint(self.config, network, self.run_data, self.accelerator.device)
        optimizer = build_optimizer(network, self.config, self.hint)
        if self.hint is not None and resume:
            self.hint.load_state_dict(self.state.hint)
        self.model, self.optimizer, self.hint = self.accelerator.prepare(network, optimizer, self.hint)
        rank, device = self.accelerator.process_index, self.accelerator.device
        generators.seed(self.config.seed, rank)
        if resume:
            self.optimizer.load_state_dict(self.state.optimizer)
            generators.restore(self.state.rng, rank, device)

    @property
    def unwrapped(self) -> nn.Module:
        """The network without the wrapper of distributed training."""
        module: nn.Module = self.accelerator.unwrap_model(self.model)
        return module

    @property
    def saved(self) -> nn.Module:
        """The network whose weights are validated and saved: the moving average, if any."""
        return self.average if self.average is not None else self.unwrapped

    def run(self) -> None:
        """Train to the last step.

        Raises:
            KeyboardInterrupt: Ctrl-C; a checkpoint has been written.
            TinyhdError: the loss is not finite.
            OutputError: an output could not be written.
        """
        schedule = self.run_data.schedule
        started, first = time.monotonic(), self.state.step
        with interrupts() as handler, self._run_log():
            batches = iter(self._loader())
            while self.state.step < schedule.steps:
                begun = time.monotonic()
                step = self.state.step
                self._reload_best(step)
                set_lr(self.optimizer, lr_factor(self.config, step, schedule.steps))
                terms, loss = self._step(batches)
                self.state.step = step + 1
                rate = self.run_data.sampler.clips_in(step) / (time.monotonic() - begun)
                left = (time.monotonic() - started) / (step + 1 - first) * (schedule.steps - step - 1)
                self._after_step(terms, loss, rate, left)
                if handler.requested:
                    self._checkpoint()
                    raise KeyboardInterrupt

    @contextlib.contextmanager
    def _run_log(self) -> Iterator[None]:
        """Keep the log open while the block runs; only the first process writes it."""
        if not self.is_main:
            yield
            return
        terms = list(self.config.weights)
        scores = OBJECT_SCORES if self.config.is_object else SCORES
        self.run_log = RunLog(self.config.folder, terms, self.state.step, self.config.tensorboard, scores)
        try:
            yield
        finally:
            self.run_log.close()

    def _loader(self) -> DataLoader[Any]:
        sampler = self.run_data.sampler
        sampler.first_step = self.state.step
        workers = self.config.workers
        return DataLoader(
            self.run_data.clips,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=leave_signals_to_parent if workers else None,
            generator=torch.Generator().manual_seed(
                self.config.seed
            ),  # without it, the loader would use the global generator
        )

    def _step(self, batches: Iterator[Batch]) -> tuple[dict[str, float], float]:
        """Run one optimizer step; return the means of its terms and of the loss over all processes."""
        parts = self.config.accumulate
        sums: dict[str, Tensor] = {}
        self.model.train()
        for name in self.config.frozen:
            self.unwrapped.get_submodule(name).eval()
        for part in range(parts):
            batch = next(batches)
            last = part == parts - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                terms, loss = self._forward(batch)
                self.accelerator.backward(loss / parts)
            for name, value in {**terms, "loss": loss}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / parts
        if self.config.clip:
            projection = () if self.hint is None else self.hint.parameters()
            self.accelerator.clip_grad_norm_([*self.model.parameters(), *projection], self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self._follow(self.average)
        values = self.accelerator.reduce(torch.stack(list(sums.values())), "mean").tolist()
        means = dict(zip(sums, values, strict=True))
        return means, means.pop("loss")

    def _forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        device = self.accelerator.device
        config, labeled, kind = self.config, self.run_data.labeled, LABELED
        if self.run_data.sampler.is_on_pairs(self.state.step):
            labeled, kind = len(batch.keys), PAIRS
        with autocast(config, device):
            outputs = run_student(self.model, student_clips(batch, config.spec.preprocess, device), config)
        teacher_maps = None if kind == PAIRS else targets(batch, self.run_data.teacher, device)
        outputs = with_features(outputs, teacher_maps, self.hint, self.tap)
        labels = ground_truth(batch, labeled, config.map_frames, device)
        if not self.told_left_out and self.is_main and (missing := left_out(outputs, config.objectives)):
            log.warning(
                "terms of the loss are left out, because the network lacks their output: %s", ", ".join(missing)
            )
        self.told_left_out = True
        terms = loss_terms(outputs, labeled, teacher_maps, labels, config.objectives, kind)
        if not terms:
            raise UsageError(
                f"no term of the loss of {config.model} can be computed: give --data or --teacher, or another --weight"
            )
        loss = total(terms, config.weights)
        if not torch.isfinite(loss):
            bad = [name for name, value in terms.items() if not torch.isfinite(value)]
            raise TinyhdError(
                f"the loss is not finite at step {self.state.step + 1} ({', '.join(bad)}); the batch was "
                f"{'; '.join(batch.names)}. A smaller --lr or --clip 1 may help"
            )
        return terms, loss

    @torch.no_grad()
    def _follow(self, average: nn.Module) -> None:
        """Update the moving average of the weights, a shorter one at first; BatchNorm's statistics are copied."""
        share = 1 - ema_decay(self.config, self.state.step)
        for mean, parameter in zip(average.parameters(), self.unwrapped.parameters(), strict=True):
            if mean is not parameter:  # some networks share their frozen parameters with their copies
                mean.lerp_(parameter, share)
        for buffer, value in zip(average.buffers(), self.unwrapped.buffers(), strict=True):
            buffer.copy_(value)

    def _reload_best(self, step: int) -> None:
        """Load the best weights so far at a milestone, as the original code does."""
        if (
            self.config.reload_best
            and self.state.best
            and step in milestones(self.config, self.run_data.schedule.steps)
        ):
            self.unwrapped.load_state_dict(self.state.best)

    def _after_step(self, terms: dict[str, float], loss: float, rate: float, left: float) -> None:
        config, schedule, step = self.config, self.run_data.schedule, self.state.step
        epoch = -(-step // schedule.steps_per_epoch)
        lr = config.lr * lr_factor(config, step - 1, schedule.steps)
        ends, epoch_ends = step == schedule.steps, step % schedule.steps_per_epoch == 0
        validation = None
        if self.run_log is not None:
            self.run_log.write(step, epoch, "train", lr=lr, clips_per_s=rate, loss=loss, **terms)
        if ends or (epoch_ends and epoch % config.validate_every == 0):
            validation = self._validate(epoch, loss)
        due = epoch_ends if config.checkpoint_every is None else step % config.checkpoint_every == 0
        if ends or due:
            self._checkpoint()
        progress = (step, schedule.steps, epoch, loss, terms, lr, rate, left)
        self.on_report(Report(*progress, validation, config.stage, self.constant))

    def _validate(self, epoch: int, loss: float) -> Validation | None:
        """Validate, and save the weights if they are the best. All processes wait for the first one."""
        validation = None
        if self.is_main:
            assert self.run_log is not None
            validation = self.run_data.validator.run(self.saved, self.accelerator.device)
            step = self.state.step
            # Without validation clips, the training loss is used.
            score = validation.selection if len(self.run_data.validator) else loss
            if score < self.state.best_score:
                self.state.best_score, self.state.best_step = score, step
                self.state.best = {
                    name: value.detach().cpu().clone() for name, value in self.saved.state_dict().items()
                }
                self._save("best", validation)
            self._save("last", validation)
            if len(self.run_data.validator):
                self.run_log.write(step, epoch, "val", loss=validation.loss, **validation.terms, **validation.scores)
            if validation.image is not None:
                save_image(self.config.folder / "pictures" / f"epoch-{epoch:04d}.png", validation.image)
            self.run_log.curve(self.constant)
        self.accelerator.wait_for_everyone()
        self._share_best()
        return validation

    def _share_best(self) -> None:
        """Send the best weights to every process, if they will be needed."""
        if self.config.reload_best and self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            shared = broadcast_object_list([self.state.best])
            self.state.best = shared[0]

    def _save(self, name: str, validation: Validation) -> None:
        """Write a weights file and, for the best one, its model card."""
        config, step = self.config, self.state.step
        state: Mapping[str, Tensor] = self.saved.state_dict()
        if config.stills:
            state = config.family.with_time(state, build(config.spec).state_dict())
        scores = validation.scores | config.objectives.titled(validation.terms)
        path = config.folder / f"{name}.safetensors"
        held = f"{clips} held-back clips, the last map of each" if (clips := len(self.run_data.validator)) else ""
        info = checkpoints.save_weights(path, state, config.spec, config, step, scores, held)
        if name == "best":
            write_card(path, info)

    def _checkpoint(self) -> None:
        self.state.rng = generators.gather(self.accelerator.device)
        if self.is_main:
            self.state.model = dict(self.unwrapped.state_dict())
            self.state.optimizer = self.optimizer.state_dict()
            self.state.ema = dict(self.average.state_dict()) if self.average is not None else {}
            self.state.hint = {} if self.hint is None else dict(self.accelerator.unwrap_model(self.hint).state_dict())
            checkpoints.save(self.state, self.config)
        self.accelerator.wait_for_everyone()
