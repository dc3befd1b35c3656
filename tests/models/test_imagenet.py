"""Initial weights of the encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import lively
from safetensors.torch import save_file

from tinyhd_cli.errors import WeightsError
from tinyhd_cli.models import create
from tinyhd_cli.models.families.tinyhd.imagenet import load_encoder
from tinyhd_cli.models.imagenet import calibrate, from_folded, from_timm, timm_layers
from tinyhd_cli.models.spec import IMAGENET
from tinyhd_cli.training.initial_weights import read_imagenet
from tinyhd_cli.training.options import TrainConfig

FEATURES = "blocks.18"


def timm_file(path, seed=0):
    """Write a MobileNetV2 with timm's names and seeded weights; return its tensors."""
    state = lively("tinyhd-s", seed).encoder.state_dict()
    tensors = {}
    for layer, (conv, norm) in timm_layers().items():
        kernel = state[f"{layer}.conv.weight"]
        tensors[f"{conv}.weight"] = kernel.sum(2).contiguous()
        for field in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{field}"] = state[f"{layer}.norm.{field}"]
    save_file(tensors, path)
    return tensors


def read(path):
    """Return the tensors of a file as ``--init`` reads it."""
    return read_imagenet(TrainConfig(out=path.parent / "run", init=str(path)))


def middle_features(encoder, image, frames=256):
    """Return the features in the middle of a long static clip, far from the zero padding: ``(C, h, w)``."""
    captured = {}
    hook = encoder.blocks["18"].register_forward_hook(lambda module, inputs, output: captured.update(features=output))
    with torch.no_grad():
        encoder.eval()(image[None, :, None].expand(-1, -1, frames, -1, -1))
    hook.remove()
    return captured["features"][0, :, captured["features"].shape[2] // 2]


def reference_mobilenet(tensors, x):
    """Return the features of the 2D network, run layer by layer with timm's tensors: ``(1, 1280, h, w)``."""
    layers, strides = timm_layers(), {"stem": 2, **{f"blocks.{k}.depthwise": 2 for k in (2, 4, 7, 14)}}

    def layer(name, x, activation=True):
        conv, norm = layers[name]
        kernel = tensors[f"{conv}.weight"]
        groups = len(kernel) if kernel.shape[1] == 1 and len(kernel) > 1 and "depthwise" in name else 1
        x = torch.nn.functional.conv2d(
            x, kernel, stride=strides.get(name, 1), padding=kernel.shape[-1] // 2, groups=groups
        )
        statistics = [tensors[f"{norm}.{field}"] for field in ("running_mean", "running_var", "weight", "bias")]
        x = torch.nn.functional.batch_norm(x, *statistics, False, 0.0, 1e-5)
        return x.clamp(0, 6) if activation else x

    x = layer("stem", x)
    for block in range(1, 18):
        y = x if block == 1 else layer(f"blocks.{block}.expand", x)
        y = layer(f"blocks.{block}.project", layer(f"blocks.{block}.depthwise", y), activation=False)
        x = x + y if x.shape == y.shape else y
    return layer(FEATURES, x)


def test_a_static_clip_has_the_features_of_its_image(tmp_path):
    tensors = timm_file(tmp_path / "timm.safetensors")
    network = create("tinyhd-s")
    load_encoder(network, read(tmp_path / "timm.safetensors"), [])
    image = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(2))
    expected = reference_mobilenet(tensors, image[None])[0]
    found = middle_features(network.encoder, image)
    assert expected.std() > 0.05
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def test_the_folded_file_has_the_features_of_its_source(shared):
    """On the reference image, with ImageNet's normalization instead of the source's."""
    folder = shared / "data" / "init"
    check = np.load(folder / "check.npz")
    network = create("tinyhd-s")
    load_encoder(network, read(folder / "mobilenet_v2_imagenet.npz"), [torch.randn(1, 3, 16, 64, 64)])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    image = (torch.from_numpy(check["image"]).permute(2, 0, 1).float() / 255 - mean) / std
    found = middle_features(network.encoder, image, frames=96).mean((-2, -1)).numpy()
    assert np.corrcoef(found, check["features_18_symmetric"])[0, 1] > 0.999


def test_calibration_keeps_the_features_and_sets_the_statistics():
    network = lively("tinyhd-m-quarter").encoder
    for module in network.modules():  # as after loading a folded file
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.zero_()
            module.running_var.fill_(1)
    clips = [torch.randn(2, 3, 16, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    with torch.no_grad():
        before = network.eval()(clips[0])
        calibrate(network, (network(clip) for clip in clips))
        after = network(clips[0])
        for one, other in zip(before, after, strict=True):
            assert torch.allclose(one, other, atol=1e-3 * float(one.abs().max()))
        norm = network.stem.norm
        stem = torch.cat([network.stem.conv(clip) for clip in clips]).transpose(0, 1).flatten(1)
    assert torch.allclose(norm.running_mean, stem.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, stem.var(1, correction=0), rtol=1e-4)


def test_a_narrow_encoder_is_averaged_from_the_wide_one(tmp_path):
    tensors = timm_file(tmp_path / "timm.safetensors")
    network = create("tinyhd-m-quarter")
    decoder = network.decoders["d2"].from_x3.expand.conv.weight.clone()
    load_encoder(network, tensors, [])
    assert torch.equal(network.decoders["d2"].from_x3.expand.conv.weight, decoder)
    # A kernel of the stem is the mean of four kernels, each scaled by its BatchNorm.
    wide = from_timm(tensors)
    scales = wide["stem.norm.weight"] / (wide["stem.norm.running_var"] + 1e-5).sqrt()
    mean = (wide["stem.conv.weight"] * scales.view(-1, 1, 1, 1)).view(8, 4, 3, 3, 3).mean(1).flatten(1)
    found = network.encoder.stem.conv.weight.sum(2).flatten(1)
    assert torch.nn.functional.cosine_similarity(found, mean).min() > 0.9


def test_files_without_a_mobilenet(tmp_path):
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.safetensors")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    network = create("tinyhd-m")
    with pytest.raises(WeightsError, match="no MobileNetV2"):
        load_encoder(network, read(tmp_path / "part.safetensors"), [])
    with pytest.raises(WeightsError, match="damaged"):
        read(tmp_path / "broken.npz")
    assert from_folded(read(tmp_path / "other.npz")) == {}
    with pytest.raises(WeightsError, match="not a MobileNetV2: no stem"):
        load_encoder(network, read(tmp_path / "other.npz"), [])
