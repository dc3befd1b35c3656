"""The fast CPU layers have the outputs and gradients of PyTorch's own layers."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.networks import lively
from torch import nn

from tinyhd_cli.training import cpu_layers


def run(network, clip):
    """Return the maps of a clip, and the gradients of a loss that depends on all parameters."""
    network.zero_grad()
    saliency, maps = network(clip, intermediate=True)
    slope = torch.linspace(0, 1, clip.shape[-1], dtype=saliency.dtype)
    (saliency.log().mean() + (saliency * slope).mean() + (maps["d1"].log() * slope).mean()).backward()
    return saliency, {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", [pytest.param("tinyhd-m-quarter", marks=pytest.mark.slow), "tinyhd-s-quarter"])
def test_outputs_and_gradients_in_float64(name):
    reference = lively(name).double().train()
    fast = copy.deepcopy(reference)
    cpu_layers.accelerate(fast)
    clip = torch.randn(1, 3, 16, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected_saliency, expected = run(reference, clip)
    saliency, found = run(fast, clip)
    assert torch.allclose(saliency, expected_saliency, atol=1e-10)
    assert list(found) == list(expected)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for parameter, gradient in expected.items():
        assert torch.allclose(found[parameter], gradient, rtol=1e-6, atol=1e-9 * largest), parameter
    for key, value in reference.state_dict().items():  # also the BatchNorm statistics, under the same names
        assert torch.allclose(fast.state_dict()[key].double(), value.double(), atol=1e-9), key
    with torch.no_grad():
        assert torch.allclose(fast.eval()(clip), reference.eval()(clip), atol=1e-9)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "shape"),
    [
        ((3, 3, 3), (2, 1, 1), (1, 1, 1), (2, 3, 5, 6, 7)),
        ((3, 3, 3), (2, 1, 1), (1, 1, 1), (2, 3, 4, 6, 7)),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1), (2, 3, 4, 6, 8)),
        ((2, 3, 3), (1, 2, 2), (0, 1, 1), (1, 3, 2, 6, 8)),
        ((1, 3, 3), (1, 1, 1), (0, 1, 1), (2, 3, 2, 6, 8)),
        ((3, 3, 3), (1, 1, 1), (1, 1, 1), (2, 1, 1, 5, 5)),
    ],
)
def test_depthwise_gradients(kernel, stride, padding, shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(shape[1], 1, *kernel, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: cpu_layers.Depthwise.apply(x, w, stride, padding), (x, weight))


def test_bfloat16_is_as_accurate_as_pytorchs_own():
    """An untrained network amplifies small differences, so the error is compared with that of PyTorch's own layers."""
    reference = lively().train()
    fast = copy.deepcopy(reference)
    cpu_layers.accelerate(fast)
    clip = torch.randn(1, 3, 16, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = reference(clip)
        with torch.autocast("cpu", torch.bfloat16):
            error, reference_error = (network(clip).float() - exact for network in (fast, reference))
    assert 0 < float(error.norm()) < 1.5 * float(reference_error.norm())
    assert {parameter.dtype for parameter in fast.parameters()} == {torch.float32}


@pytest.mark.parametrize(("inputs", "outputs", "frames", "kernel"), [(6, 1, 1, 1), (3, 32, 4, 3)])
def test_dense_convolutions_in_bfloat16(inputs, outputs, frames, kernel):
    """Shapes for which PyTorch's own bf16 gradient crashes with a segmentation fault on CPUs with AMX."""
    network = nn.Sequential(nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2))
    names = [name for name, _ in network.named_parameters()]
    cpu_layers.accelerate(network)
    assert [name for name, _ in network.named_parameters()] == names
    clip = torch.rand(1, inputs, frames, 192, 256, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        network(clip).sum().backward()
    # The gradient of the sum of the outputs with respect to a tap is the sum of the tap's inputs.
    taps = nn.functional.conv3d(clip.transpose(0, 1), torch.ones(1, 1, *clip.shape[2:]), padding=kernel // 2)
    expected = taps.transpose(0, 1).expand(outputs, -1, -1, -1, -1)
    torch.testing.assert_close(network[0].weight.grad, expected, rtol=1e-4, atol=0)
