"""THTD-Net: sizes, weights of Video Swin transformers, recomputation, and a video end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import clips, training_data

from tinyhd_cli import hub, load_model, weights
from tinyhd_cli.engines.self_test import compare, self_test_clip
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models import create, named_spec
from tinyhd_cli.models.families.thtdnet.network import WIDTHS, Decoder
from tinyhd_cli.models.original_names import recognize
from tinyhd_cli.models.registry import family, network_state
from tinyhd_cli.training.initial_weights import whole_network
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.video.reader import VideoReader

TINY = {"channels": 32, "depths": (1, 2, 1, 1), "input_size": (64, 64)}
PUBLISHED_MIB = 220


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return create("thtdnet", **TINY).eval()


def parameters(part, **options):
    state = network_state(named_spec("thtdnet", **options))
    names = (name for name in state if name.startswith(part) and not name.endswith("index"))
    return sum(state[name].numel() for name in names)


@pytest.mark.parametrize(
    ("options", "decoder"), [({}, 817_648), ({"laterals": False}, 762_128), ({"decoder": "wide"}, 6_518_536)]
)
def test_the_size_of_the_weights(options, decoder):
    assert parameters("encoder.", **options) == 49_509_078
    assert parameters("decoder.", **options) == decoder
    state = network_state(named_spec("thtdnet", **options))
    mib = sum(tensor.numel() * tensor.element_size() for tensor in state.values()) / 2**20
    assert (round(mib) == PUBLISHED_MIB) == (options.get("decoder") != "wide")


def test_the_map_depends_on_all_32_frames(network):
    clip = torch.randn(1, 3, 32, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    saliency = network(clip)
    assert saliency.shape == (1, 1, 64, 64)
    saliency.sum().backward()
    assert (clip.grad.abs().amax((0, 1, 3, 4)) > 0).all()
    assert family(network.spec).specs[0].map_frame == -1


@pytest.mark.parametrize(
    "options", [{}, {"laterals": False}, {"decoder": "wide"}, {"channels": 64}, {"patch_norm": False}]
)
def test_recognizes_own_tensors(options):
    spec = named_spec("thtdnet", **{**TINY, **options})
    assert recognize(network_state(spec)).same_network(spec)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("channels", 48), ("depths", (2, 2, 2)), ("decoder", "deep"), ("drop_path", 1.0), ("laterals", 1)),
        ("patch_norm", "no"),
    ],
)
def test_options_that_no_network_has(name, value):
    with pytest.raises(UsageError, match=f"^--set {name}=.*: must be "):
        named_spec("thtdnet", **{name: value})


# ------------------------------------------------------------------------------------------- weights of the encoder


def classifier(network, names):
    """Return the encoder's tensors with values of their own, as a classifier by the names of a program."""
    generator = torch.Generator().manual_seed(7)
    state = {}
    for name, tensor in network.encoder.state_dict().items():
        value = tensor if name.endswith("index") else torch.randn(tensor.shape, generator=generator)
        if names == "authors":
            kind, index, *rest = name.split(".")
            if kind == "features":
                before = ("layers", str(int(index) // 2))
                rest = ["blocks", *rest] if int(index) % 2 == 0 else ["downsample", *rest]
                name = ".".join([*before, *rest]).replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
            name = f"backbone.{name}"
        state[name] = value
    head = "head" if names == "torchvision" else "cls_head.fc_cls"
    return {**state, f"{head}.weight": torch.zeros(400, 256), f"{head}.bias": torch.zeros(400)}


@pytest.mark.parametrize("names", ["torchvision", "authors"])
def test_starts_from_a_video_swin_transformer(network, names):
    state = classifier(network, names)
    kind, fresh = family(network.spec), create("thtdnet", **TINY)
    assert kind.is_imagenet(dict.fromkeys(state))
    decoder = {name: tensor.clone() for name, tensor in fresh.decoder.state_dict().items()}
    kind.initialize(fresh, network.spec, state, [])
    for name, tensor in classifier(network, "torchvision").items():
        assert name.startswith("head.") or torch.equal(fresh.encoder.state_dict()[name], tensor), name
    assert all(torch.equal(tensor, fresh.decoder.state_dict()[name]) for name, tensor in decoder.items())


def test_weights_of_another_size_are_refused(network):
    deeper = create("thtdnet", **{**TINY, "depths": (1, 2, 2, 1)})
    with pytest.raises(WeightsError, match=r"^--init: not a Video Swin transformer of this size: no features\.4\.1\."):
        family(deeper.spec).initialize(deeper, deeper.spec, classifier(network, "torchvision"), [])


def test_starts_from_an_encoder_without_layernorm_after_the_patches(network):
    """The lab's code has none."""
    complete = classifier(network, "authors")
    state = {name: tensor for name, tensor in complete.items() if "patch_embed.norm" not in name}
    assert len(complete) - len(state) == 2
    kind, fresh = family(network.spec), create("thtdnet", **TINY, patch_norm=False).eval()
    assert kind.is_imagenet(dict.fromkeys(state))
    kind.initialize(fresh, fresh.spec, state, [])
    clip = torch.randn(1, 3, 32, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        embedded = fresh.encoder.patch_embed(clip)
        kernel, bias = (state[f"backbone.patch_embed.proj.{part}"] for part in ("weight", "bias"))
        torch.testing.assert_close(embedded.permute(0, 4, 1, 2, 3), F.conv3d(clip, kernel, bias, (2, 4, 4)))
    with pytest.raises(WeightsError, match=r"^the encoder has no LayerNorm after .*; add --set patch_norm=false$"):
        kind.initialize(network, network.spec, state, [])
    with pytest.raises(WeightsError, match=r"^the encoder has a LayerNorm after .*; add --set patch_norm=true$"):
        kind.initialize(fresh, fresh.spec, complete, [])


def decoded(decoder, y1, y2, y3, y4):
    """Return the map of a narrow decoder, layer by layer as in the table of its design."""
    weights = {name: tensor.detach().double() for name, tensor in decoder.state_dict().items()}

    def point(x, name):
        return F.conv3d(x, weights[f"{name}.weight"][:, :, None, None, None], weights[f"{name}.bias"])

    def layer(x, index, stride, padding):
        return F.relu(F.conv3d(x, weights[f"layers.{index}.weight"], None, (stride, 1, 1), (padding, 1, 1)))

    def up(x):
        size = (x.shape[2], 2 * x.shape[3], 2 * x.shape[4])
        return F.interpolate(x, size=size, mode="trilinear", align_corners=False)

    x = point(y4, "project")
    x = up(layer(x, 0, 1, 1)) + point(y3, "laterals.0")
    x = up(layer(x, 1, 1, 1)) + point(y2, "laterals.1")
    pairs = F.avg_pool3d(y1, (2, 1, 1))
    x = up(layer(x, 2, 2, 0)) + point(pairs, "laterals.2")
    x = up(layer(x, 3, 2, 0))
    x = up(layer(x, 4, 2, 0))
    x = layer(x, 5, 2, 0)
    return F.conv3d(x, weights["to_map.weight"], None, 1, (0, 1, 1)).sigmoid()[:, :, 0]


def test_the_decoder_in_float64():
    generator = torch.Generator().manual_seed(6)
    channels = (4, 8, 16, 32)
    decoder = Decoder(channels, WIDTHS["narrow"], laterals=True)
    with torch.no_grad():
        for parameter in decoder.parameters():  # of a size at which the map keeps to no limit of the sigmoid
            spread = 1.5 / max(1, parameter[0].numel()) ** 0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
        features = [
            torch.randn(2, width, 16, 3 << 3 - stage, 2 << 3 - stage, generator=generator)
            for stage, width in enumerate(channels)
        ]
        found = decoder(*features)
        expected = decoded(decoder, *(one.double() for one in features))
    assert found.shape == (2, 1, 96, 64)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_tensors_of_an_impossible_size(network):
    state = {name: tensor for name, tensor in network.state_dict().items() if ".6.0." not in name}
    with pytest.raises(WeightsError, match=r"^not weights of THTD-Net: depths=1,2,1,0: must be 4 numbers from 1 to 64"):
        recognize(state)


def test_a_network_with_another_decoder_is_not_taken_for_this_one(network, tmp_path):
    state = classifier(network, "authors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "thtd.pth")
    with pytest.raises(WeightsError, match=r"Video Swin transformer, but not the decoder .* --init FILE"):
        weights.load(tmp_path / "thtd.pth")


# ------------------------------------------------------------------------------------------------------- prediction


def test_a_video_is_padded_with_its_first_frame(network, tmp_path):
    weights.save(tmp_path / "tiny.safetensors", network.state_dict(), network.spec)
    model = load_model(tmp_path / "tiny.safetensors", "cpu", engine="torch")
    with VideoReader(clips.make(tmp_path / "clip.mp4", frames=3)) as reader:
        frames = [model.prepare(frame.rgb()) for frame in reader]
        maps = [saliency for _, saliency in model.maps(enumerate(frames))]
    assert len(maps) == 3
    for index, saliency in enumerate(maps):
        clip = np.stack([frames[0]] * (31 - index) + frames[: index + 1], axis=1)
        np.testing.assert_allclose(saliency, model.infer(clip)[0], atol=1e-6)
    assert np.abs(maps[2] - maps[0]).max() > 1e-6


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnx", marks=pytest.mark.slow)])
def test_engines_agree_with_pytorch(network, tmp_path, engine):
    """An engine whose maps of the self-test differ from PyTorch's is not used."""
    weights.save(tmp_path / "tiny.safetensors", network.state_dict(), network.spec)
    model = load_model(tmp_path / "tiny.safetensors", "cpu", engine=engine)
    assert (model.engine.name, model.engine.precision) == (engine, "float32")
    clip = torch.randn(1, 3, 32, 64, 64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = network(clip)[0].numpy()
    np.testing.assert_allclose(model.infer(clip[0].numpy()), expected, atol=1e-5)


@pytest.mark.slow  # compiles for half a minute
def test_int8_quantizes_the_linear_layers(network, tmp_path, caplog):
    weights.save(tmp_path / "tiny.safetensors", network.state_dict(), network.spec)
    model = load_model(tmp_path / "tiny.safetensors", "cpu", engine="openvino", precision="int8")
    assert (model.engine.name, model.engine.precision) == ("openvino", "int8")
    assert not [record for record in caplog.records if record.name == "tinyhd"]
    exact = load_model(tmp_path / "tiny.safetensors", "cpu", engine="openvino")
    clip = self_test_clip((3, 32, 64, 64))
    difference, correlation = compare(model.infer(clip), exact.infer(clip))
    assert 1e-5 < difference < 0.1
    assert correlation > 0.99


def test_maps_are_blurred_as_published(network, tinyhd, tmp_path):
    weights.save(tmp_path / "tiny.safetensors", network.state_dict(), network.spec)
    clips.make(tmp_path / "clip.mp4", frames=2, width=96, height=80)
    command = ("predict", tmp_path / "clip.mp4", "--weights", tmp_path / "tiny.safetensors", "--engine", "torch", "-q")
    assert tinyhd(*command, "--maps", "maps", "--blur", "--npz", "raw.npz", "--json", "run.json") == 0
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / 8)
    kernel /= kernel.sum()
    for index, saliency in enumerate(np.load("raw.npz")["saliency"]):
        stretched = (saliency - saliency.min()) / np.ptp(saliency)
        blurred = np.pad(cv2.resize(stretched, (96, 80)), 5, "reflect")
        for axis in (0, 1):
            blurred = np.apply_along_axis(np.convolve, axis, blurred, kernel, "valid")
        found = cv2.imdecode(np.fromfile(f"maps/{index + 1:04}.png", np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.abs(found - 255 * blurred).max() < 0.51
    assert json.loads(Path("run.json").read_text())["blur"] is True
    assert tinyhd(*command, "--blur", "--csv", "out.csv") == 2


def test_other_indices_in_a_file_are_ignored(network):
    state = network.state_dict()
    name = "encoder.features.2.1.attn.relative_position_index"
    other = create("thtdnet", **TINY)
    other.load_state_dict({**state, name: torch.full_like(state[name], 10**9)})
    assert torch.equal(other.state_dict()[name], state[name])


# --------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("names", ["torchvision", "authors"])
def test_training_starts_from_a_file_of_kinetics(network, names, tinyhd, tmp_path, monkeypatch):
    state = classifier(network, names)
    torch.save(state if names == "torchvision" else {"meta": {"epoch": 30}, "state_dict": state}, tmp_path / "k.pth")
    images = training_data.photographs(tmp_path / "photos", count=2)
    command = ("train", "--model", "thtdnet", "--set", "channels=32", "--set", "depths=1,2,1,1", "--size", "64x64")
    command += ("--data", f"images:{images}", "--steps", "1", "--batch-size", "1", "--lr", "1e-9", "--out", "run")
    init = tmp_path / "k.pth"
    if names == "authors":
        monkeypatch.setattr(
            hub, "cached", lambda *file: tmp_path / "k.pth" if file == ("someone/kinetics", "swin/k.pth") else None
        )
        init = "hf://someone/kinetics/swin/k.pth"
        assert tinyhd(*command, "--init", "hf://someone/kinetics", "-q") == 2
    assert tinyhd(*command, "--init", init, "--workers", "0", "-q") == 0
    trained = weights.load("run/last.safetensors").state_dict
    for name, tensor in classifier(network, "torchvision").items():
        if not name.startswith("head."):
            torch.testing.assert_close(trained[f"encoder.{name}"], tensor, atol=1e-5, rtol=1e-5)


def test_weights_trained_in_another_way_are_accepted(network, tmp_path):
    path = tmp_path / "tiny.safetensors"
    weights.save(path, network.state_dict(), network.spec)
    options = ("channels=32", "depths=1,2,1,1", "checkpoint=true", "drop_path=0")
    config = TrainConfig(model="thtdnet", set=options, size=(64, 64), init=str(path))
    assert whole_network(config).keys() == network.state_dict().keys()
    with pytest.raises(WeightsError, match=r"contains thtdnet \(.*laterals=true.*not thtdnet \(.*laterals=false"):
        whole_network(replace(config, set=(*options, "laterals=false")))


def test_recomputed_blocks_have_the_same_gradients(network):
    clip = torch.randn(1, 3, 32, 64, 64, generator=torch.Generator().manual_seed(2))
    found = []
    for checkpoint in (False, True):
        one = create("thtdnet", **TINY, checkpoint=checkpoint, drop_path=0.5).train()
        one.load_state_dict(network.state_dict())
        torch.manual_seed(3)  # the same branches are dropped
        one(clip).square().mean().backward()
        found.append({name: parameter.grad for name, parameter in one.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)
