"""Inverted residuals in compiled kernels have the outputs, statistics and gradients of PyTorch's own layers."""

from __future__ import annotations

import copy
import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tinyhd_cli.engines.kernels import available_isas
from tinyhd_cli.models.blocks.mobilenet3d import ConvNorm, InvertedResidual, Upsampling
from tinyhd_cli.training import block_kernels, cpu_layers

pytestmark = pytest.mark.skipif(block_kernels.load() is None, reason="no kernels for this machine")

BLOCKS = [  # channels, channels of the result, expansion, kernel, stride, padding, shape of the input, skip
    (7, 7, 2, (3, 3, 3), (1, 1, 1), (1, 1, 1), (2, 7, 5, 9, 37), None),
    (4, 6, 6, (3, 3, 3), (1, 2, 2), (1, 1, 1), (1, 4, 4, 12, 40), None),
    (4, 6, 6, (3, 3, 3), (2, 2, 2), (1, 1, 1), (2, 4, 5, 11, 33), None),
    (5, 1, 2, (3, 3, 3), (2, 1, 1), (1, 1, 1), (2, 5, 4, 20, 64), False),
    (9, 13, 2, (2, 3, 3), (1, 2, 2), (0, 1, 1), (1, 9, 2, 6, 8), None),
    (8, 4, 1, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 8, 16, 70, 64), None),  # several bands of rows
    (4, 4, 1, (1, 3, 3), (1, 1, 1), (0, 1, 1), (3, 4, 2, 3, 1), None),
    (30, 26, 6, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 30, 2, 16, 24), False),
]


def layers():
    """Return networks of one block or layer each, with the shapes of their inputs."""
    for channels, outputs, expansion, kernel, stride, padding, shape, skip in BLOCKS:
        settings = {"kernel": kernel, "stride": stride, "padding": padding}
        yield InvertedResidual(channels, outputs, expansion=expansion, skip=skip, **settings), shape
    yield ConvNorm(3, 8, kernel=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)), (2, 3, 4, 10, 12)
    yield ConvNorm(10, 17), (1, 10, 3, 9, 11)
    yield ConvNorm(10, 17, activation=False), (2, 10, 4, 10, 12)


def lively(layer, generator):
    """Give BatchNorm weights and statistics with which ReLU6 cuts on both sides."""
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm3d):
            for values in (module.weight.data, module.bias.data, module.running_mean):
                values.normal_(generator=generator)
            module.bias.data += 1
            module.running_var.uniform_(0.5, 2, generator=generator)
    return layer.double()


def fast(layer, dtype=torch.float64):
    """Return a copy of a layer that runs in compiled kernels."""
    network = nn.Sequential(copy.deepcopy(layer).to(dtype))
    cpu_layers.accelerate(network)
    return network


def step(network, x, weights):
    """Return the output and the gradients, of the input and of all parameters, and the buffers."""
    x = x.clone().requires_grad_()
    network.zero_grad()
    y = network(x)
    (y * weights).sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in network.parameters()), *network.buffers()]


def assert_equal(found, expected, tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        largest = max(1e-6, float(other.double().abs().max()))
        assert float((one.double() - other.double()).abs().max()) <= tolerance * largest


@pytest.mark.parametrize("isa", available_isas(part="training"))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("training", [True, False], ids=["training", "frozen"])
def test_outputs_statistics_and_gradients(monkeypatch, isa, dtype, tolerance, training):
    monkeypatch.setattr(block_kernels, "available_isas", lambda part: [isa])
    monkeypatch.setattr(block_kernels, "load", functools.cache(block_kernels.load.__wrapped__))
    generator = torch.Generator().manual_seed(0)
    for layer, shape in layers():
        reference = lively(layer, generator).train(training)
        x = torch.randn(shape, dtype=torch.float64, generator=generator)
        weights = torch.randn(reference(x).shape, dtype=torch.float64, generator=generator)
        reference = copy.deepcopy(reference)  # without a second update of the statistics
        network = fast(reference, dtype)
        found = step(network, x.to(dtype), weights.to(dtype))
        assert_equal(found, step(reference, x, weights), tolerance)
        assert "Chain" in str(network(x.to(dtype).requires_grad_()).grad_fn)
        names = [name.removeprefix("0.") for name in network.state_dict()]
        assert names == list(reference.state_dict())


@pytest.fixture
def block():
    torch.manual_seed(0)
    return lively(InvertedResidual(6, 6), torch.Generator().manual_seed(1)).float()


@pytest.fixture
def clip():
    return torch.randn(2, 6, 4, 24, 40, generator=torch.Generator().manual_seed(2))


def test_bfloat16_is_more_accurate_than_pytorchs_own(block, clip):
    weights = torch.randn(clip.shape, generator=torch.Generator().manual_seed(3))
    expected = step(copy.deepcopy(block), clip, weights)
    with torch.autocast("cpu", torch.bfloat16):
        found, reference = (step(network, clip, weights) for network in (fast(block, torch.float32), block))
    assert found[0].dtype == torch.bfloat16
    for one, other, exact in zip(found, reference, expected, strict=True):
        if not exact.is_floating_point():
            continue  # the number of batches
        assert float((one - exact).norm()) <= 1.1 * float((other - exact).norm()) + 1e-5 * float(exact.norm())


def test_the_result_does_not_depend_on_the_number_of_threads(block, clip):
    clip = clip.repeat(2, 1, 2, 3, 1)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 3):
            torch.set_num_threads(count)
            results.append(step(fast(block, torch.float32), clip, torch.ones(())))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


def test_several_networks_at_once(block, clip):
    expected = step(fast(block, torch.float32), clip, torch.ones(()))
    networks = [fast(block, torch.float32) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda network: step(network, clip, torch.ones(())), networks):
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_partly_frozen(block, clip):
    """Only the gradients that are needed are computed; BatchNorm may be frozen in some layers."""
    for module in (block.expand, block.project.norm):
        module.eval()
    block.expand.requires_grad_(False)
    network = fast(block, torch.float32)
    pairs = zip(network.modules(), nn.Sequential(block).modules(), strict=False)
    assert {one.training for one, _ in pairs} == {True, False}
    for one in (network, block):
        one(clip).square().sum().backward()
    found, expected = ([parameter.grad for parameter in one.parameters()] for one in (network, block))
    assert found[:3] == expected[:3] == [None] * 3
    assert_equal(found[3:], expected[3:], 1e-4)


def test_copies_checkpoints_and_transposed_inputs(block, clip):
    network = copy.deepcopy(fast(block, torch.float32)).eval()
    copied = clip.transpose(3, 4).contiguous().transpose(3, 4).requires_grad_()
    checkpoint(network, copied, use_reentrant=False).square().sum().backward()
    other = clip.clone().requires_grad_()
    block.eval()(other).square().sum().backward()
    assert_equal([copied.grad], [other.grad], 1e-4)


def test_not_a_number_is_not_hidden(block, clip):
    clip[0, 0, 0, 0, 0] = float("nan")
    assert fast(block, torch.float32)(clip).isnan().all()


def test_without_kernels(block, clip, monkeypatch):
    weights = torch.randn(clip.shape, generator=torch.Generator().manual_seed(3))
    expected = step(fast(block, torch.float32), clip, weights)
    monkeypatch.setattr(block_kernels, "load", lambda: None)
    assert_equal(step(fast(block, torch.float32), clip, weights), expected, 1e-4)


@pytest.mark.parametrize("isa", available_isas(part="training"))
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_upsampling(monkeypatch, isa, dtype, tolerance):
    monkeypatch.setattr(block_kernels, "available_isas", lambda part: [isa])
    monkeypatch.setattr(block_kernels, "load", functools.cache(block_kernels.load.__wrapped__))
    generator = torch.Generator().manual_seed(0)
    network = nn.ModuleList([Upsampling()])
    cpu_layers.accelerate(network)
    for settings in ({"shuffle": True}, {"shuffle": True, "time": 2}, {"time": 2, "space": 2}, {"space": 2}, {}):
        for shape in ((2, 8, 4, 12, 16), (1, 4, 2, 2, 3), (1, 4, 3, 7, 37)):
            x = torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)
            results = []
            for module, clip in ((network[0], x.clone()), (Upsampling(), x.double())):
                y = module(clip.requires_grad_(), **settings)
                slopes = torch.linspace(0, 1, y.shape[-1], dtype=y.dtype)
                (y * slopes).square().sum().backward()
                results.append([y.detach(), clip.grad])
            assert_equal(*results, tolerance)


def test_half_precision_uses_pytorchs_layers():
    layer = fast(ConvNorm(6, 8), torch.float32)
    with torch.autocast("cpu", torch.float16):
        assert layer(torch.ones(1, 6, 2, 4, 4)).dtype == torch.float16


REFUSED = [(2, 5, 2, 8, 16), (2, 9, 2, 8, 16), (6, 2, 8, 16), (1, 600, 2, 8, 16)]


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "fallback"])
@pytest.mark.parametrize("layer", [InvertedResidual(6, 6), InvertedResidual(6, 6, expansion=1), ConvNorm(6, 8)])
def test_input_of_another_shape_is_refused_like_by_pytorch(layer, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(block_kernels, "load", lambda: None)
    network = fast(layer, torch.float32)
    before = copy.deepcopy(network.state_dict())
    for shape in REFUSED:
        with pytest.raises((RuntimeError, ValueError)):
            layer.float()(torch.ones(shape))
        with pytest.raises((RuntimeError, ValueError)):
            network(torch.ones(shape))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_sums_and_shuffles_of_other_shapes_are_refused_like_by_pytorch():
    with pytest.raises(RuntimeError):
        fast(InvertedResidual(6, 8, skip=True), torch.float32)(torch.ones(1, 6, 2, 8, 16))
    network = nn.ModuleList([Upsampling()])
    cpu_layers.accelerate(network)
    for shape in ((1, 6, 2, 4, 4), (4, 2, 4, 4)):
        with pytest.raises((RuntimeError, ValueError)):
            network[0](torch.ones(shape), shuffle=True, time=2)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "fallback"])
def test_a_batch_with_one_value_per_channel_changes_no_statistics(kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(block_kernels, "load", lambda: None)
    network = fast(InvertedResidual(6, 6, stride=(2, 2, 2)), torch.float32)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.ones(1, 6, 2, 2, 2))  # the depthwise convolution leaves one value
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network(torch.ones(0, 6, 2, 8, 8)).shape == (0, 6, 1, 4, 4)
    assert all(value.isfinite().all() for value in network.buffers())
    assert network.eval()(torch.ones(1, 6, 2, 2, 2)).shape == (1, 6, 1, 1, 1)


def test_a_library_of_another_version_is_not_used(monkeypatch):
    load = block_kernels.load.__wrapped__
    assert load() is not None
    monkeypatch.setattr(block_kernels, "VERSION", block_kernels.VERSION + 1)
    assert load() is None


def test_an_unknown_operation_is_refused():
    with pytest.raises(RuntimeError, match="lack the operation"):
        block_kernels.run(len(block_kernels.Pass), torch.float32, torch.Size((1, 1, 1, 1, 1)))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["", "expand", "depthwise.conv", "project.norm"])
def test_hooks_are_called(block, clip, name, after):
    network = nn.Sequential(copy.deepcopy(block))

    def hook(path):
        path.get_submodule(f"0.{name}".rstrip(".")).register_forward_hook(lambda module, given, result: result * 2)

    if not after:
        hook(network)
    cpu_layers.accelerate(network)
    if after:
        hook(network)
    reference = nn.Sequential(block)
    hook(reference)
    weights = torch.randn(clip.shape, generator=torch.Generator().manual_seed(3))
    assert_equal(step(network, clip, weights), step(reference, clip, weights), 1e-4)


def changed(**changes):
    """Return a layer of which the convolution or BatchNorm is replaced by one with other settings."""
    layer = ConvNorm(6, 6, kernel=(3, 3, 3), padding=(1, 1, 1), groups=6)
    for name, module in changes.items():
        setattr(layer, name, module)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        changed(norm=nn.BatchNorm3d(6, momentum=None)),
        changed(norm=nn.BatchNorm3d(6, track_running_stats=False)),
        changed(norm=nn.BatchNorm3d(6, affine=False)),
        changed(conv=nn.Conv3d(6, 6, 3, padding="same", groups=6, bias=False)),
        changed(conv=nn.Conv3d(6, 6, 3, padding=1, padding_mode="circular", groups=6)),
        changed(conv=nn.Conv3d(6, 6, 3, padding=1, padding_mode="circular")),
        changed(conv=nn.Conv3d(6, 6, 3, padding=2, dilation=2, groups=3)),
        changed(conv=nn.Conv3d(6, 6, 1, stride=2, bias=False)),
    ],
    ids=["momentum", "untracked", "plain", "same", "circular", "dense", "dilation", "stride"],
)
def test_layers_with_other_settings_are_computed_like_by_pytorch(layer, clip):
    network = fast(layer, torch.float32)
    for _ in range(2):  # an average over batches differs from a moving one in the second
        weights = torch.randn(layer(clip).shape, generator=torch.Generator().manual_seed(3))
        network(clip)
        assert_equal(step(network, clip, weights), step(layer, clip, weights), 1e-4)


def test_bfloat16_keeps_values_that_are_not_a_number():
    shape = torch.Size((1, 1, 1, 4, 5))
    for bits in (0x7FFFFFFF, -1, 0x7FC00000, 0x7F800001):
        scale = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
        x, result = (torch.ones(shape, dtype=torch.bfloat16) for _ in range(2))
        fields = {"input": x, "result": result, "in_scale": scale, "in_shift": torch.zeros(1)}
        block_kernels.run(block_kernels.Pass.NORMALIZE, torch.bfloat16, shape, **fields)
        assert result.isnan().all()
