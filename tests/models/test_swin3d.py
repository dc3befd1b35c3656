"""The Video Swin transformer against values of torchvision's swin3d_s."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.reference import check

from tinyhd_cli.models.blocks.swin3d import swin3d_s

TOLERANCE = 1e-5
"""Largest difference, relative to the largest value; measured: 2e-6."""

STEPS = {
    (18, 72, 100): ((8, 2, 3, 3), (8, 1, 2, 2), (8, 1, 1, 1), (8, 1, 1, 1), (8, 1, 1, 1)),
    (16, 112, 192): ((8, 2, 4, 4), (8, 1, 4, 4), (8, 1, 2, 2), (8, 1, 1, 1), (8, 1, 1, 1)),
    (32, 224, 384): ((8, 4, 8, 8), (8, 2, 8, 8), (8, 2, 4, 4), (8, 2, 2, 2), (8, 2, 1, 1)),
}
"""Distances of the values that the reference contains, by size of the clip: of the patches and the four stages."""


@pytest.fixture(scope="module")
def swin(shared):
    """The network with the reference's procedural weights, its tensors, its inputs, and its expected values."""
    procedural, inputs = reference.modules(shared)
    tensors = json.loads((shared / "reference" / "swin3d_s_tensors.json").read_text())
    shapes = {name: shape for name, shape in tensors["shapes"].items() if name not in tensors["integer_buffers"]}
    network = swin3d_s().eval()
    state = {
        name: torch.from_numpy(value)
        for name, value in procedural.state_dict(shapes).items()
        if not name.startswith("head.")
    }
    own = network.state_dict()
    network.load_state_dict(state | {name: own[name] for name in tensors["integer_buffers"]})
    return network, tensors, inputs, np.load(shared / "reference" / "swin3d_s_expected.npz")


def test_tensors_have_torchvisions_names_and_shapes(swin):
    network, tensors, _, _ = swin
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == {name: shape for name, shape in tensors["shapes"].items() if not name.startswith("head.")}
    assert sum(one.numel() for one in network.parameters()) == 49_509_078


@pytest.mark.parametrize("size", [*list(STEPS)[:2], pytest.param(list(STEPS)[2], marks=pytest.mark.slow)], ids=str)
def test_the_stages_agree_with_torchvision(swin, size):
    network, _, inputs, expected = swin
    prefix = f"{'odd_' if size[0] == 18 else ''}{'x'.join(map(str, size))}"
    clip = torch.from_numpy(inputs.frames((1, 3, *size), 2.0))
    with torch.no_grad():
        patches = network.patch_embed(clip)
        stages = network.stages(patches)
    found = (patches.permute(0, 4, 1, 2, 3), *stages)
    for name, values, steps in zip(("patch_embed", "y1", "y2", "y3", "norm"), found, STEPS[size], strict=True):
        assert values.shape[2] == (size[0] + 1) // 2
        every = tuple(slice(None, None, step) for step in steps)
        check(values[0][every], expected[f"{prefix}/{name}"], TOLERANCE, name)
