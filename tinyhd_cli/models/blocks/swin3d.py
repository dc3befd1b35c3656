"""Video Swin transformer: attention within 3D windows, which every second block shifts by half a window.

Source: Liu et al., "Video Swin Transformer", CVPR 2022. The tensors have the names and shapes of torchvision's
``swin3d_t``, ``swin3d_s`` and ``swin3d_b``, so that their weights on Kinetics-400 can be loaded. Features are
``(N, T, H, W, C)`` inside; the shapes in comments are those of Video Swin-S for 32 x 224 x 384.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Size3 = tuple[int, int, int]

PATCH: Size3 = (2, 4, 4)
"""Frames, rows and columns of a patch."""

WINDOW: Size3 = (8, 7, 7)
"""Size of a window, in patches. In every second block, the windows are shifted by half of it."""

HEAD_CHANNELS = 32
"""Channels of an attention head."""

SECTION_CHANNELS = 8
"""Channels that tell the sections of a shifted window apart: one per axis; kernels of GPUs need a multiple of 8."""

SECTION = 16.0
"""Absolute value of such a channel."""


def overhang(size: Size3, multiple: Size3) -> list[int]:
    """Return the padding for ``F.pad`` that extends ``(..., T, H, W, C)`` at the end of each axis to a multiple."""
    time, height, width = (-side % step for side, step in zip(size, multiple, strict=True))
    return [0, 0, 0, width, 0, height, 0, time]


def size_of(x: Tensor) -> Size3:
    """Return T, H and W of features ``(N, T, H, W, C)``."""
    return (x.shape[1], x.shape[2], x.shape[3])


def fitting(size: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """Return the window and its shift for features: an axis that fits into one window has a smaller one, unshifted."""
    sides, offsets = list(window), list(shift)
    for axis, side in enumerate(size):
        if side <= window[axis]:
            sides[axis], offsets[axis] = side, 0
    return (sides[0], sides[1], sides[2]), (offsets[0], offsets[1], offsets[2])


def relative_positions(window: Size3) -> Tensor:
    """Return the row of the bias table for each pair of positions in a window; ``(392, 392)`` for the usual one."""
    axes = [torch.arange(side) for side in window]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    time, height, width = positions[:, :, None] - positions[:, None, :] + (torch.tensor(window) - 1)[:, None, None]
    row: Tensor = (time * (2 * window[1] - 1) + height) * (2 * window[2] - 1) + width
    return row


def split(x: Tensor, window: Size3) -> Tensor:
    """Return the windows ``(N * windows, positions, C)`` of features whose sides are multiples of the window's."""
    count, *sides, channels = x.shape
    time, height, width = (side // step for side, step in zip(sides, window, strict=True))
    x = x.view(count, time, window[0], height, window[1], width, window[2], channels)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window[0] * window[1] * window[2], channels)


def join(windows: Tensor, window: Size3, size: Size3) -> Tensor:
    """Return the features ``(N, T, H, W, C)`` of windows: the inverse of :func:`split`."""
    time, height, width = (side // step for side, step in zip(size, window, strict=True))
    x = windows.view(-1, time, height, width, *window, windows.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *size, windows.shape[-1])


def sections(size: Size3, window: Size3, shift: Size3, like: Tensor) -> Tensor:
    """Return the channels that tell the sections of shifted windows apart, ``(windows, positions, 8)``.

    Features are shifted cyclically, so the last window of an axis contains the last rows and the first ones, which are
    no neighbors and must not attend to each other. A mask with -100 for such pairs would be larger than the features:
    413 MB in the first stage. Instead, query and key have a channel for each axis, negative in the first rows. Its
    product lowers the logits of pairs in different sections by 91 relative to the others, which softmax turns into 0.
    """
    channels = torch.zeros(*size, SECTION_CHANNELS, dtype=like.dtype, device=like.device)
    for axis, (side, offset) in enumerate(zip(size, shift, strict=True)):
        if offset:
            first = torch.arange(side, device=like.device) >= side - offset
            values = torch.where(first, -SECTION, SECTION).to(like.dtype)
            channels[..., axis] = values.view([-1 if axis == one else 1 for one in range(3)])
    return split(channels.unsqueeze(0), window)


def keep_index(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Replace the index in a state dict by the module's own: a damaged one could name rows that do not exist."""
    name = f"{prefix}relative_position_index"
    if name in state_dict:
        state_dict[name] = module.relative_position_index


class WindowAttention(nn.Module):
    """Attention among the positions of each window, with a learned bias for each relative position.

    Args:
        channels: of the features.
        shifted: whether the windows are shifted by half of their size.
        window: size of a window.
        heads: number of heads; None: one for each ``HEAD_CHANNELS`` channels.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, *, shifted: bool, window: Size3 = WINDOW, heads: int | None = None) -> None:
        super().__init__()
        self.heads = heads or channels // HEAD_CHANNELS
        self.window = window
        self.shift = (window[0] // 2, window[1] // 2, window[2] // 2) if shifted else (0, 0, 0)
        rows = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, self.heads))
        self.register_buffer("relative_position_index", relative_positions(window))
        self.register_load_state_dict_pre_hook(keep_index)  # type: ignore[no-untyped-call]
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended features ``(N, T, H, W, C)``."""
        size = size_of(x)
        window, shift = fitting(size, self.window, self.shift)
        x = F.pad(x, overhang(size, window))
        padded = size_of(x)
        if any(shift):
            x = torch.roll(x, [-offset for offset in shift], (1, 2, 3))
        parts = sections(padded, window, shift, x) if any(shift) else None
        x = join(self.attend(split(x, window), parts), window, padded)
        if any(shift):
            x = torch.roll(x, shift, (1, 2, 3))
        return x[:, : size[0], : size[1], : size[2]]

    def attend(self, windows: Tensor, parts: Tensor | None) -> Tensor:
        """Return the attention of windows ``(N * windows, positions, C)``; ``parts`` as from :func:`sections`."""
        count, positions, channels = windows.shape
        depth = channels // self.heads
        query, key, value = self.qkv(windows).view(count, positions, 3, self.heads, depth).permute(2, 0, 3, 1, 4)
        if parts is not None:
            more = parts.to(query.dtype).repeat(count // len(parts), 1, 1).unsqueeze(1).expand(-1, self.heads, -1, -1)
            query, key = torch.cat([query, more], -1), torch.cat([key, more], -1)
            value = F.pad(value, (0, SECTION_CHANNELS))  # fast kernels need the same number of channels
        bias = self.bias(positions).to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, bias, scale=depth**-0.5)[..., :depth]
        x: Tensor = self.proj(attended.transpose(1, 2).reshape(count, positions, channels))
        return x

    def bias(self, positions: int) -> Tensor:
        """Return the bias of each pair of positions, ``(1, heads, positions, positions)``.

        A window that is smaller than usual has the biases of the first positions of a usual one. That is wrong for
        their distances, but all implementations do it, and so the weights depend on it.
        """
        index = self.relative_position_index[:positions, :positions].flatten()
        return self.relative_position_bias_table[index].view(positions, positions, -1).permute(2, 0, 1).unsqueeze(0)


class Block(nn.Module):
    """Window attention and a perceptron, each after LayerNorm and added to its input.

    Args:
        channels: of the features.
        shifted, window, heads: see :class:`WindowAttention`.
        drop: probability that a branch is dropped for a clip in training.
    """

    def __init__(
        self,
        channels: int,
        *,
        shifted: bool,
        drop: float = 0.0,
        window: Size3 = WINDOW,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, shifted=shifted, window=window, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        # Torchvision has dropout of probability 0 at 2 and 4.
        layers = nn.Linear(channels, 4 * channels), nn.GELU(), nn.Identity(), nn.Linear(4 * channels, channels)
        self.mlp = nn.Sequential(*layers)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, ``(N, T, H, W, C)``."""
        x = x + self.dropped(self.attn(self.norm1(x)))
        return x + self.dropped(self.mlp(self.norm2(x)))

    def dropped(self, x: Tensor) -> Tensor:
        """Return a branch. In training, it is 0 for some clips and scaled up for the others (stochastic depth)."""
        if not self.training or not self.drop:
            return x
        kept = torch.rand(len(x), 1, 1, 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


class Merging(nn.Module):
    """Merges 2 x 2 neighbors in space into one position of twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, T, H / 2, W / 2, 2 C)`` from ``(N, T, H, W, C)``."""
        x = F.pad(x, overhang(size_of(x), (1, 2, 2)))
        parts = [x[:, :, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        merged: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return merged


class PatchEmbedding(nn.Module):
    """Turns each patch of the clip into a position with ``channels`` values, normalized or not."""

    def __init__(self, channels: int, *, normalized: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, channels, PATCH, PATCH)
        self.norm = nn.LayerNorm(channels) if normalized else nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        """Return ``(N, T / 2, H / 4, W / 4, C)`` from ``(N, 3, T, H, W)``."""
        missing = overhang((clip.shape[2], clip.shape[3], clip.shape[4]), PATCH)[2:]
        embedded: Tensor = self.norm(self.proj(F.pad(clip, missing)).permute(0, 2, 3, 4, 1))
        return embedded


class Swin3D(nn.Module):
    """The encoder, which returns the features of its four stages.

    Args:
        channels: of the first stage; each later stage has twice as many as the one before.
        depths: blocks of each stage.
        drop_path: probability that a branch of the last block is dropped in training; it increases linearly from 0.
        checkpointed: whether training recomputes each block in the backward pass, which saves most of the memory.
        patch_norm: whether LayerNorm follows the embedding of the patches, as in torchvision.
    """

    def __init__(
        self,
        channels: int = 96,
        depths: tuple[int, int, int, int] = (2, 2, 18, 2),
        *,
        drop_path: float = 0.1,
        checkpointed: bool = False,
        patch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels << stage for stage in range(4))
        self.checkpointed = checkpointed
        self.patch_embed = PatchEmbedding(channels, normalized=patch_norm)
        drops = (drop_path * block / max(1, sum(depths) - 1) for block in itertools.count())
        layers: list[nn.Module] = []
        for stage, (width, depth) in enumerate(zip(self.channels, depths, strict=True)):
            if stage:
                layers.append(Merging(width // 2))
            blocks = (Block(width, shifted=index % 2 == 1, drop=next(drops)) for index in range(depth))
            layers.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*layers)  # stages and mergings in turn
        self.norm = nn.LayerNorm(self.channels[-1])
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the outputs of the stages, the last one normalized, of a clip ``(N, 3, T, H, W)``.

        Returns:
            Features ``(N, C, T / 2, H / s, W / s)`` with C of 96, 192, 384, 768 and s of 4, 8, 16, 32.
        """
        return self.stages(self.patch_embed(clip))

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the same features from embedded patches ``(N, T / 2, H / 4, W / 4, C)``."""
        found = []
        for index, layer in enumerate(self.features):
            if index % 2:
                x = layer(x)
                continue
            assert isinstance(layer, nn.Sequential)
            for block in layer:
                recomputed = self.checkpointed and self.training and torch.is_grad_enabled()
                x = checkpoint(block, x, use_reentrant=False) if recomputed else block(x)
            found.append(x)
        found[-1] = self.norm(x)
        y1, y2, y3, y4 = (features.permute(0, 4, 1, 2, 3) for features in found)
        return y1, y2, y3, y4


def swin3d_s() -> Swin3D:
    """Return Video Swin-S with initial weights."""
    return Swin3D()
