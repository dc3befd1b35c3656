"""Inverted residuals that train faster on a CPU, with compiled kernels.

A 1x1x1 or depthwise convolution, its BatchNorm and its ReLU6 are a stage; an inverted residual is a chain of up to
three stages with one backward pass. Only the outputs of the convolutions are kept for that, and each kernel reads and
writes memory once: see ``engines/csrc/training.c``. Tensors are planes, ``(N, C, T, H, W)``, contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import block_kernels
from .block_kernels import SLOTS, TYPES, Pass
from .fast_layers import Apply, follow, pool, world_size

REAL_TYPES = (torch.float32, torch.float64)
"""Types of parameters that the kernels support."""

DENSE, POINTWISE, DEPTHWISE = range(3)
"""Kinds of stage. The convolution of a dense one is run before the stage."""


class Stage(NamedTuple):
    """A convolution and its BatchNorm, of a layer that is replaceable (:func:`.fast_layers.is_replaceable`)."""

    conv: nn.Conv3d
    norm: nn.BatchNorm3d
    activated: bool
    """Whether ReLU6 follows."""

    @property
    def kind(self) -> int | None:
        """The kind of its convolution; None if the kernels do not support it."""
        conv, norm = self.conv, self.norm
        if norm.weight.dtype not in REAL_TYPES or conv.weight.dtype != norm.weight.dtype:
            return None
        if conv.groups == 1:
            plain = conv.kernel_size == conv.stride == (1, 1, 1) and conv.padding == (0, 0, 0)
            return POINTWISE if plain else DENSE
        (taps, *space), (before, *around), (step, *steps) = geometry(conv)
        supported = conv.groups == conv.in_channels == conv.out_channels and space == [3, 3] and around == [1, 1]
        supported = supported and taps <= 3 and before < taps and step <= 2 and steps in ([1, 1], [2, 2])
        return DEPTHWISE if supported else None

    def output_size(self, shape: torch.Size) -> torch.Size:
        """Return the shape of the convolution's output."""
        sides = zip(shape[2:], *geometry(self.conv), strict=True)
        return torch.Size((shape[0], self.conv.out_channels, *((n + 2 * p - k) // s + 1 for n, k, p, s in sides)))

    def depthwise_fields(self, output: Tensor) -> dict[str, int]:
        """Return the fields of the kernels of a depthwise convolution."""
        kernel, padding, stride = geometry(self.conv)
        sizes = dict(zip(("frames_out", "height_out", "width_out"), output.shape[2:], strict=True))
        return sizes | {"taps": kernel[0], "padding": padding[0], "stride": stride[0], "space": stride[1]}


def geometry(conv: nn.Conv3d) -> tuple[list[int], list[int], list[int]]:
    """Return the kernel size, padding and stride of a convolution."""
    assert not isinstance(conv.padding, str)
    return list(conv.kernel_size), list(conv.padding), list(conv.stride)


class Norm(NamedTuple):
    """BatchNorm of one stage: what its kernels and its backward pass need; all per channel."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor
    """Inverse of the standard deviation."""
    values: int
    """Number of values whose statistics these are; 0 for running ones, which are constants."""


def norm_of(stage: Stage, sums: Tensor, gamma: Tensor, beta: Tensor) -> Norm:
    """Return the BatchNorm of a stage, and update its running statistics in training mode.

    Args:
        stage: the stage.
        sums: count, mean and sum of squared deviations of parts of the output ``(parts, C, 3)``, float64.
        gamma: weight of BatchNorm.
        beta: bias of BatchNorm.
    """
    norm, count = stage.norm, 0
    if norm.training:
        counts, means, squares = sums.unbind(2)
        count = int(counts[:, 0].sum())
        mean = (counts * means).sum(0) / count
        var = (squares + counts * (means - mean).square()).sum(0) / count
        mean, var, count = pool(mean, var, count)
        follow(norm, mean, var, count)
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        mean, var = mean.to(gamma.dtype), var.to(gamma.dtype)
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = norm.running_mean, norm.running_var
    inverse = (var + norm.eps).rsqrt()
    scale = gamma * inverse
    return Norm(scale, beta - mean * scale, mean.clone(), inverse, count)


def convolve(stage: Stage, x: Tensor, weight: Tensor, before: Norm | None, activated: bool) -> tuple[Tensor, Tensor]:
    """Return the output of a stage's convolution, and its sums for :func:`norm_of`.

    Args:
        stage: the stage.
        x: its input, before BatchNorm and ReLU6.
        weight: of the convolution.
        before: BatchNorm of the input, if any.
        activated: whether ReLU6 follows that.
    """
    if stage.kind == DENSE:
        sums = torch.zeros(len(x), x.shape[1], 3, dtype=torch.float64)
        block_kernels.run(Pass.STATISTICS, x.dtype, x.shape, output=x, sums=sums)
        return x, sums
    output = x.new_empty(stage.output_size(x.shape))
    pointwise = stage.kind == POINTWISE
    sums = torch.zeros(SLOTS if pointwise else len(x), output.shape[1], 3, dtype=torch.float64)
    fields: dict[str, Any] = {"input": x, "output": output, "sums": sums, "outputs": output.shape[1]}
    fields |= input_fields(before, activated)
    # The transposed copy must live as long as the kernel runs.
    kernel = weight.flatten(1).t().contiguous() if pointwise else weight.contiguous()
    if not pointwise:
        fields |= stage.depthwise_fields(output)
    operation = Pass.POINTWISE if pointwise else Pass.DEPTHWISE
    block_kernels.run(operation, x.dtype, x.shape, weight=kernel, **fields)
    return output, sums


def input_fields(norm: Norm | None, activated: bool) -> dict[str, Any]:
    """Return the fields for the BatchNorm of an input."""
    if norm is None:
        return {}
    return {"in_scale": norm.scale, "in_shift": norm.shift, "in_mean": norm.mean, "activated": int(activated)}


class Gradients(NamedTuple):
    """Gradients of one stage."""

    input: Tensor | None
    weight: Tensor | None
    gamma: Tensor
    beta: Tensor
    sums: Tensor | None
    """Sums for the BatchNorm of the input, see :func:`stage_gradients`."""


class Kept(NamedTuple):
    """Tensors of one stage that its backward pass needs."""

    stage: Stage
    input: Tensor
    output: Tensor
    weight: Tensor
    before: Norm | None
    norm: Norm
    activated_input: bool


def stage_gradients(
    kept: Kept, grad: Tensor, sums: Tensor, masked: bool, added: Tensor | None, needs_input: bool, needs_weight: bool
) -> Gradients:
    """Return the gradients of one stage.

    Args:
        kept: tensors of the forward pass.
        grad: gradient of its output after BatchNorm; with ``masked``, after ReLU6.
        sums: sums of that gradient before ReLU6, and of its products with the deviations from the mean,
            ``(parts, C, 2)``, float64.
        masked: see ``grad``.
        added: added to the gradient of the input.
        needs_input: whether the gradient of the input is needed.
        needs_weight: whether that of the convolution's weight is needed.
    """
    stage, x, output, weight, before, norm, activated_input = kept
    total = sums.sum(0).t()
    beta, gamma = total[0].to(norm.mean.dtype), total[1].to(norm.mean.dtype) * norm.inverse
    out_slope, constant = torch.zeros_like(norm.mean), torch.zeros_like(norm.mean)
    if norm.values:
        if world_size() > 1:
            total = total.contiguous()
            dist.all_reduce(total)
        # scale * (g - mean(g) - x_normalized * mean(g * x_normalized)), as slope * g + out_slope * output + constant
        out_slope = (-norm.scale * norm.inverse.square() * total[1] / norm.values).to(norm.mean.dtype)
        constant = (-norm.scale * total[0] / norm.values).to(norm.mean.dtype) - out_slope * norm.mean
    fields: dict[str, Any] = {"gradient": grad, "output": output, "added": added, "outputs": output.shape[1]}
    fields |= {"slope": norm.scale, "out_slope": out_slope, "constant": constant}
    if masked:
        fields |= {"mask_scale": norm.scale, "mask_shift": norm.shift}
    result = torch.empty_like(x) if needs_input else None
    if stage.kind == DENSE:
        if result is not None:
            block_kernels.run(Pass.APPLY_GRADIENT, x.dtype, x.shape, result=result, **fields)
        return Gradients(result, None, gamma, beta, None)
    pointwise = stage.kind == POINTWISE
    parts = SLOTS if pointwise else len(x)
    in_sums = None if before is None else torch.zeros(parts, x.shape[1], 2, dtype=torch.float64)
    weight_gradient = weight.new_zeros(parts, *weight.shape) if needs_weight else None
    fields |= input_fields(before, activated_input)
    if not pointwise:
        fields |= stage.depthwise_fields(output)
    operation = Pass.POINTWISE_GRADIENT if pointwise else Pass.DEPTHWISE_GRADIENT
    kernel = weight.contiguous()
    fields |= {"input": x, "weight": kernel, "result": result, "sums": in_sums, "weight_gradient": weight_gradient}
    block_kernels.run(operation, x.dtype, x.shape, **fields)
    return Gradients(result, None if weight_gradient is None else weight_gradient.sum(0), gamma, beta, in_sums)


class Chain(torch.autograd.Function):
    """Several stages, one after the other, and optionally the addition of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stages: Sequence[Stage], skip: bool, *parameters: Tensor) -> Tensor:
        saved: list[Tensor] = [x]
        norms: list[Norm] = []
        output, activated = x, False
        for number, stage in enumerate(stages):
            weight, gamma, beta = parameters[3 * number : 3 * number + 3]
            output, sums = convolve(stage, output, weight, norms[-1] if norms else None, activated)
            norms.append(norm_of(stage, sums, gamma, beta))
            activated = stage.activated
            saved += [output, weight, *norms[-1][:4]]
        y = torch.empty_like(output)
        fields = input_fields(norms[-1], activated)
        added = x if skip else None
        block_kernels.run(Pass.NORMALIZE, x.dtype, output.shape, input=output, result=y, added=added, **fields)
        ctx.save_for_backward(*saved)
        ctx.stages, ctx.skip, ctx.counts = stages, skip, [norm.values for norm in norms]
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        kept: list[Kept] = []
        for number, (stage, count) in enumerate(zip(ctx.stages, ctx.counts, strict=True)):
            output, weight, *values = saved[6 * number : 6 * number + 6]
            last = kept[-1] if kept else None
            norm = Norm(values[0], values[1], values[2], values[3], count)
            source = (x, None, False) if last is None else (last.output, last.norm, last.stage.activated)
            kept.append(Kept(stage, source[0], output, weight, source[1], norm, source[2]))
        y_gradient = grad.contiguous()
        gradient, sums = y_gradient, output_sums(kept[-1], y_gradient)
        found: list[Tensor | None] = []
        for number, one in reversed(list(enumerate(kept))):
            masked = one.stage.activated and one is kept[-1]
            first = number == 0
            gradients = stage_gradients(
                one,
                gradient,
                sums,
                masked,
                y_gradient if first and ctx.skip else None,
                not first or ctx.needs_input_grad[0],
                ctx.needs_input_grad[3 + 3 * number],
            )
            found = [gradients.weight, gradients.gamma, gradients.beta, *found]
            if not first:
                assert gradients.input is not None
                assert gradients.sums is not None
                gradient, sums = gradients.input, gradients.sums
        return gradients.input, None, None, *found


def output_sums(kept: Kept, grad: Tensor) -> Tensor:
    """Return the sums of the gradient of the last stage, see :func:`stage_gradients`."""
    norm, output = kept.norm, kept.output
    sums = torch.zeros(len(grad), grad.shape[1], 2, dtype=torch.float64)
    fields: dict[str, Any] = {"gradient": grad, "output": output, "in_mean": norm.mean, "sums": sums}
    if kept.stage.activated:
        fields |= {"mask_scale": norm.scale, "mask_shift": norm.shift}
    block_kernels.run(Pass.GRADIENT_SUMS, grad.dtype, grad.shape, **fields)
    return sums


def fits(stages: Sequence[Stage], shape: torch.Size, skip: bool = False) -> bool:
    """Return whether stages can process a tensor; else PyTorch's layers raise an error, or process an empty one.

    Args:
        stages: the stages, one after the other.
        shape: of the input of the first one's convolution.
        skip: whether the input is added to the result.

    Raises:
        ValueError: BatchNorm would get one value per channel in training mode. No statistics have changed yet.
    """
    first = shape
    for stage in stages:
        if len(shape) != 5 or shape[1] != stage.conv.in_channels or stage.conv.out_channels != stage.norm.num_features:
            return False
        shape = stage.output_size(shape)
        if min(shape) < 1:
            return False
        if stage.norm.training and shape.numel() == shape[1] and world_size() == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {shape}")
    return shape == first or not skip


def supported(stages: Sequence[Stage], x: Tensor, dtype: torch.dtype) -> bool:
    """Return whether the kernels can run a chain: a dense convolution must be the only one.

    Args:
        stages: of the chain.
        x: its input.
        dtype: type in which the tensors are kept.
    """
    kinds = [stage.kind for stage in stages]
    if None in kinds or (DENSE in kinds and len(kinds) > 1) or dtype not in TYPES or x.device.type != "cpu":
        return False
    real = torch.float64 if dtype == torch.float64 else torch.float32
    return all(stage.norm.weight.dtype == real for stage in stages) and block_kernels.load() is not None


def run_chain(stages: Sequence[Stage], x: Tensor, dtype: torch.dtype, skip: bool = False) -> Tensor:
    """Run stages whose :func:`supported` is true.

    Args:
        stages: the stages.
        x: input ``(N, C, T, H, W)``; that of a dense convolution's stage is its output.
        dtype: type in which the tensors are kept.
        skip: add the input to the result.
    """
    parameters = [value for stage in stages for value in (stage.conv.weight, stage.norm.weight, stage.norm.bias)]
    apply: Apply = Chain.apply
    return apply(x.to(dtype).contiguous(), stages, skip, *parameters)
