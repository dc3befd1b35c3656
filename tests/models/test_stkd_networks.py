"""The networks of STKD: sizes, frames, the narrow network, and initial weights from ImageNet."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tinyhd_cli import load_model, weights
from tinyhd_cli.engines import self_test
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models import create, named_spec
from tinyhd_cli.models.families.stkd.network import OverFrames, enlarge, load_trunk, resize
from tinyhd_cli.models.imagenet import torchvision_layer
from tinyhd_cli.models.registry import family
from tinyhd_cli.models.spec import IMAGENET
from tinyhd_cli.training.initial_weights import read_imagenet
from tinyhd_cli.training.options import TrainConfig

NAMES = ("stkd", "stkd-pair", "stkd-lite")


def network_for(name, side=64):
    """Return a network with seeded weights and the statistics of noise, in evaluation mode."""
    torch.manual_seed(0)
    network = create(name, input_size=(side, side))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(noise(8, network.spec.clip_frames, side))
    return network.eval()


def noise(count, frames, side, seed=1):
    """Return clips of noise in many scales."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.randn(count * frames, 3, cells, cells, generator=generator) for cells in (1, 4, 16, side)]
    clips = sum(nn.functional.interpolate(one, (side, side)) for one in coarse)
    return clips.view(count, frames, 3, side, side).transpose(1, 2)


# --------------------------------------------------------------------------------------------------------------- shapes


def test_specs():
    for name, side in (("stkd", 473), ("stkd-pair", 473), ("stkd-lite", 256)):
        spec = named_spec(name)
        assert (spec.task, spec.input_size, spec.maps, spec.lookahead) == ("object", (side, side), 1, 0)
        assert (spec.preprocess.mean, spec.preprocess.std) == IMAGENET
    assert named_spec("stkd-pair").frames_before == 1


def test_the_narrow_network_has_at_most_3_million_parameters():
    assert sum(one.numel() for one in create("stkd-lite").parameters()) == 2_103_914


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (101, 70)])
def test_any_size_is_possible(name, size):
    network = create(name, input_size=size).eval()
    frames = network.spec.clip_frames
    clip = torch.randn(2, 3, frames, *size)
    with torch.no_grad():
        saliency, logits = network(clip, intermediate=True)
        alone = network(clip)
    assert list(logits) == ["p0", "p1", "p2", "p3"][: 4 if name == "stkd-pair" else 3]
    assert {one.shape for one in logits.values()} == {(2, frames, *size)}
    assert saliency.shape == (2, 1, *size)
    torch.testing.assert_close(alone, saliency)
    torch.testing.assert_close(list(logits.values())[-1][:, -1:].sigmoid(), saliency)


def test_maps_are_enlarged_as_by_the_resize():
    logits, clip = torch.randn(2, 1, 17, 23, dtype=torch.float64), torch.zeros(2, 3, 1, 65, 91)
    torch.testing.assert_close(enlarge(logits, clip), resize(logits, clip))
    torch.testing.assert_close(enlarge(logits, clip)[:, :, 0, 0], logits[:, :, 0, 0])  # corners are aligned


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trunk": "vgg"}, "--set: no network has trunk=vgg, mutual=false: stkd-lite has trunk=mobilenetv2"),
        ({"trunk": "mobilenetv2", "mutual": True}, "no network has trunk=mobilenetv2, mutual=true"),
        ({"input_size": (32, 64)}, "from 64 to 1024"),
        ({"width": 3}, "width"),
    ],
    ids=str,
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        create("stkd", **options)


def test_options_name_the_network():
    assert named_spec("stkd", mutual=True).name == "stkd-pair"
    assert named_spec("stkd", mutual=True).clip_frames == 2


def test_a_batch_of_one_cannot_be_normalized():
    with pytest.raises(UsageError, match=r"--batch-size 1: .* at least 2 clips"):
        create("stkd-lite")(torch.zeros(1, 3, 1, 64, 64))


# --------------------------------------------------------------------------------------------------------------- frames


def test_only_the_pair_network_depends_on_the_previous_frame():
    for name in NAMES:
        network = network_for(name)
        clip = noise(2, 2, 64, seed=2)
        other = torch.cat([noise(2, 1, 64, seed=3), clip[:, :, 1:]], 2)
        with torch.no_grad():
            (one, logits), (two, others) = network(clip, intermediate=True), network(other, intermediate=True)
            assert torch.equal(logits["p2"][:, 1], others["p2"][:, 1])
            assert torch.equal(one, two) == (name != "stkd-pair")
            torch.testing.assert_close(logits["p2"][:, 1:], network(clip[:, :, 1:], intermediate=True)[1]["p2"])


@pytest.mark.parametrize("name", NAMES)
def test_over_frames_equals_the_network_on_clips(name):
    network = network_for(name)
    over_frames = family(network.spec).over_frames(network)
    assert isinstance(over_frames, OverFrames)
    frames = noise(5, 1, 64, seed=3)[:, :, 0]
    length = network.spec.clip_frames
    clips = torch.stack([frames[start : len(frames) + 1 - length + start] for start in range(length)], 2)
    with torch.no_grad():
        expected, together = network(clips), over_frames(frames)
    assert together.shape == expected.shape == (6 - length, 1, 64, 64)
    assert expected.std(0).max() > 1e-3
    torch.testing.assert_close(together, expected, atol=1e-4, rtol=0)


def test_the_first_frame_of_a_video_is_paired_with_itself(tmp_path):
    network = network_for("stkd-pair")
    weights.save(tmp_path / "pair.safetensors", network.state_dict(), network.spec)
    model = load_model(tmp_path / "pair.safetensors", "cpu", engine="torch")
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    frames = [model.prepare(image) for image in images]
    maps = [one for _, one in model.maps(enumerate(frames))]
    with torch.no_grad():
        clips = torch.from_numpy(np.stack([[frames[0], frames[0]], [frames[0], frames[1]]])).transpose(1, 2)
        expected = network(clips)[:, 0].numpy()
    np.testing.assert_allclose(maps, expected, atol=1e-4)


# -------------------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("name", ["stkd", "stkd-lite"])
def test_folding_changes_nothing_but_the_rounding(name):
    network = network_for(name).double()
    folded = copy.deepcopy(network)
    fold(folded, by_name=family(network.spec).named_norms)
    assert not any(isinstance(module, nn.BatchNorm2d | nn.PReLU) for module in folded.modules())
    clip = noise(1, 1, 64, seed=5).double()
    with torch.no_grad():
        torch.testing.assert_close(folded(clip), network(clip))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_narrow_network_in_openvino(tmp_path, precision):
    network = network_for("stkd-lite", 96)
    weights.save(tmp_path / "lite.safetensors", network.state_dict(), network.spec)
    model = load_model(tmp_path / "lite.safetensors", "cpu", engine="openvino", precision=precision)
    assert model.engine.name == "openvino"
    assert model.frames_engine is not None
    frames = noise(5, 1, 96, seed=6)[:, :, 0].numpy()
    maps = np.stack([one for _, one in model.maps(enumerate(frames))])
    with torch.no_grad():
        expected = network(torch.from_numpy(frames)[:, :, None])[:, 0].numpy()
    assert not self_test.disagreement(maps, expected, network.spec, self_test.LIMITS[model.engine.precision])


def test_probabilities_of_objects_are_compared_as_they_are():
    """The map of an empty frame is nearly constant; stretched, its rounding errors would look large."""
    spec, limits = named_spec("stkd-lite"), self_test.LIMITS["bf16"]
    empty = np.random.default_rng(0).random((1, 8, 8), np.float32) * 0.02
    other = np.random.default_rng(1).random((1, 8, 8), np.float32) * 0.02
    assert not self_test.disagreement(empty, other, spec, limits)
    assert "by up to 0.1 of" in self_test.disagreement(empty, empty + 0.1, spec, limits)
    assert "by up to 1 of" in self_test.disagreement(empty, np.full_like(empty, np.nan)[:, :4], spec, limits)
    assert self_test.disagreement(np.full_like(empty, np.nan), empty, spec, limits)
    assert self_test.disagreement(empty, other, named_spec("uva-64"), limits)


# ------------------------------------------------------------------------------------------------------------- ImageNet


def read(path, model):
    """Return the tensors of a file as ``--init`` reads it."""
    return read_imagenet(TrainConfig(out=path.parent / "run", model=model, init=str(path)))


def test_the_trunk_of_the_narrow_network_has_the_features_of_its_source(shared):
    folder = shared / "data" / "init"
    given, expected = read(folder / "mobilenet_v2_imagenet.npz", "stkd-lite"), np.load(folder / "check.npz")
    network = create("stkd-lite")
    load_trunk(network, given, [noise(2, 1, 64)])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    image = (torch.from_numpy(expected["image"]).permute(2, 0, 1).float() / 255 - mean) / std
    last = nn.Conv2d(320, 1280, 1)
    last.load_state_dict({"weight": given["features.18.0.weight"], "bias": given["features.18.0.bias"]})
    with torch.no_grad():
        features = last(network.trunk.eval()(image[None])[-1]).clamp(0, 6).mean((0, 2, 3)).numpy()
    assert np.corrcoef(features, expected["features_18_symmetric"])[0, 1] > 0.999


def torchvision_mobilenet(trunk):
    """Return a trunk's tensors under torchvision's names."""
    state, tensors = trunk.state_dict(), {}
    convolutions = [
        *("features.0.0", "features.1.conv.0.0", "features.1.conv.1"),
        *(f"features.{block}.conv.{part}" for block in range(2, 18) for part in ("0.0", "1.0", "2")),
    ]
    for name in convolutions:
        layer, (before, _, number) = torchvision_layer(name), name.rpartition(".")
        tensors[f"{name}.weight"] = state[f"{layer}.conv.weight"]
        for field in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{before}.{int(number) + 1}.{field}"] = state[f"{layer}.norm.{field}"]
    return tensors


@pytest.mark.parametrize(("name", "suffix"), [("stkd-lite", ".pth"), ("stkd", ".pth"), ("stkd", ".safetensors")])
def test_files_of_torchvision_and_timm(tmp_path, name, suffix):
    source, path = network_for(name).trunk, tmp_path / f"imagenet{suffix}"
    tensors = torchvision_mobilenet(source) if name == "stkd-lite" else dict(source.state_dict())
    tensors["fc.weight"] = torch.zeros(10, 20)
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file({key: value for key, value in tensors.items() if not key.endswith("tracked")}, path)
    network = create(name)
    head = network.predict0.weight.clone()
    family(network.spec).initialize(network, network.spec, read(path, name), [])
    for key, value in source.state_dict().items():
        if not key.endswith("tracked"):
            assert torch.equal(network.trunk.state_dict()[key], value), key
    assert torch.equal(network.predict0.weight, head)
    assert network.trunk.training


def test_files_of_other_networks(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "layer4.2.conv3.weight": torch.zeros(1)}, tmp_path / "r.pth")
    tensors = read(tmp_path / "r.pth", "stkd")
    for name, message in (("stkd", "not a ResNet-50: no bn1.weight"), ("stkd-lite", "not a MobileNetV2: no stem")):
        with pytest.raises(WeightsError, match=message):
            load_trunk(create(name), tensors, [])
    torch.save({"state_dict": create("stkd-lite").state_dict()}, tmp_path / "own.pth")
    assert read(tmp_path / "own.pth", "stkd-lite") is None  # a weights file of the network
    (tmp_path / "broken.pth").write_bytes(b"PK no archive")
    with pytest.raises(WeightsError, match=r"--init .*broken\.pth: damaged"):
        read(tmp_path / "broken.pth", "stkd")


def test_the_hub_file_of_each_trunk():
    kind = family("stkd")
    files = {name: kind.imagenet_file(named_spec(name))[0] for name in NAMES}
    assert files == {
        "stkd": "timm/resnet50.tv_in1k",
        "stkd-pair": "timm/resnet50.tv_in1k",
        "stkd-lite": "timm/mobilenetv2_100.ra_in1k",
    }
