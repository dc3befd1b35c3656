"""Train random layers in the kernels of a folder, and compare with PyTorch: ``fuzz_training.py FOLDER ISA SEED``."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import nn

from tinyhd_cli.models.blocks.mobilenet3d import ConvNorm, InvertedResidual, Upsampling
from tinyhd_cli.system import LIBRARY_SUFFIX
from tinyhd_cli.training import block_kernels, cpu_layers


def random_layer(draw):
    """Return a layer of random size, and the shape of its input."""
    channels, outputs = draw(1, 20), draw(1, 20)
    shape = (draw(1, 4), channels, draw(3, 7), draw(3, 40), draw(3, 70))
    match draw(0, 4):
        case 0:
            return ConvNorm(channels, outputs, activation=bool(draw(0, 2))), shape
        case 1:
            return ConvNorm(channels, outputs, kernel=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)), shape
    taps = draw(1, 4)
    stride, space = draw(1, 3), draw(1, 3)
    settings = {
        "kernel": (taps, 3, 3),
        "stride": (stride, space, space),
        "padding": (draw(0, 2) if taps > 1 else 0, 1, 1),
    }
    return InvertedResidual(channels, outputs, expansion=draw(1, 7), skip=False, **settings), shape


def gradients(network, x, **options):
    """Return the output, and the gradients of the input and of all parameters."""
    x = x.clone().requires_grad_()
    y = network(x, **options)
    (y * torch.linspace(0, 1, y.shape[-1], dtype=y.dtype)).square().sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in network.parameters())]


def assert_equal(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) <= tolerance * max(1.0, float(other.abs().max())), (one, other)


def main(folder, isa, seed):
    block_kernels.library = lambda name, part: Path(folder, f"_{part}_{name}{LIBRARY_SUFFIX}")
    block_kernels.available_isas = lambda part: [isa]
    assert block_kernels.load() is not None
    generator = torch.Generator().manual_seed(int(seed))
    torch.manual_seed(int(seed))

    def draw(first, end):
        return int(torch.randint(first, end, (), generator=generator))

    upsampling = nn.ModuleList([Upsampling()])
    cpu_layers.accelerate(upsampling)
    for _ in range(40):
        layer, shape = random_layer(draw)
        layer.double()
        network = nn.Sequential(copy.deepcopy(layer))
        cpu_layers.accelerate(network)
        x = torch.randn(shape, dtype=torch.float64, generator=generator)
        assert_equal(gradients(network, x), gradients(layer, x), 1e-7)
        for dtype in (torch.float32, torch.bfloat16):  # whose rounding moves values across the limits of ReLU6
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                gradients(network.float(), x.float())
        options = {"shuffle": bool(draw(0, 2)), "time": draw(1, 3), "space": draw(1, 3)}
        x = torch.randn((shape[0], 4 * draw(1, 4), *shape[2:]), dtype=torch.float64, generator=generator)
        assert_equal(gradients(upsampling[0], x, **options), gradients(Upsampling(), x, **options), 1e-9)
        gradients(upsampling[0], x.bfloat16(), **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
