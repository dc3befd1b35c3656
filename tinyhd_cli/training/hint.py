"""The hint: a student's features learn those of its teacher, before any map is made of them.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .augment import autocast, collate, run_student, student_clips, targets
from .features import Tap, during
from .losses import Outputs, Targets
from .options import TrainConfig
from .prepare import Run


class Hint(nn.Module):
    """Brings a student's features to the channels and the grid of the teacher's; it is not part of the student.

    Args:
        student_channels: channels of the student's features.
        teacher_channels: channels of the teacher's.
        frames: frames of the student's clip that the teacher's features belong to: the first one, and the one after
            the last.
        clip_frames: number of frames of the student's clip.
    """

    def __init__(self, student_channels: int, teacher_channels: int, frames: tuple[int, int], clip_frames: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(student_channels, teacher_channels, 1)
        self.frames, self.clip_frames = frames, clip_frames

    def forward(self, features: Tensor, grid: torch.Size) -> Tensor:
        """Return the student's features ``(N, C, T, H, W)`` in the shape of the teacher's, whose grid is ``grid``."""
        projected = self.projection(during(features, self.frames, self.clip_frames))
        return F.interpolate(projected, size=tuple(grid), mode="trilinear", align_corners=False)


def build_hint(
    config: TrainConfig, network: nn.Module, run: Run, device: torch.device
) -> tuple[Tap | None, Hint | None]:
    """Return the recorder of a student's features and their projection; None for a run without a hint.

    Both networks are run on a clip, for the sizes of their features.

    Args:
        config: the run.
        network: the student, which is in training mode afterwards.
        run: its clips and its teacher.
        device: of the networks.
    """
    if not config.hint or run.teacher is None:
        return None, None
    tap, batch = Tap(network, config.family.features), collate([run.clips[run.sampler.picks(0)[0]]])
    learned = targets(batch, run.teacher, device)
    assert learned is not None and learned.features is not None
    with torch.no_grad(), autocast(config, device):
        run_student(network.eval(), student_clips(batch, config.spec.preprocess, device), config)
    network.train()
    frames = run.teacher.teachers[0].teacher.hint_frames
    return tap, Hint(tap.take().shape[1], learned.features.shape[1], frames, config.clip_frames).to(device)


def with_features(outputs: Outputs, targets: Targets | None, hint: nn.Module | None, tap: Tap | None) -> Outputs:
    """Return a student's outputs with its features in the shape of the teacher's, if it learns them.

    Args:
        outputs: its outputs.
        targets: those of the teacher.
        hint: a :class:`Hint`, which may be wrapped for several processes.
        tap: has recorded the features.
    """
    if hint is None or tap is None or targets is None or targets.features is None:
        return outputs
    return replace(outputs, features=hint(tap.take().float(), targets.features.shape[2:]))
