"""Networks on pretrained video models: the adapters, the decoder, what is trained, and what is saved."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import video_backbones
from torch import nn

from tinyhd_cli import models, weights
from tinyhd_cli.engines.generic import digest_of
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models.families.vfm import FAMILY, files
from tinyhd_cli.models.families.vfm.adapters import read_facts, read_normalization
from tinyhd_cli.models.registry import network_state

GRIDS = {
    "vjepa2": (4, 4, 4),
    "videomae": (4, 4, 4),
    "videoprism": (4, 4, 4),
    "vivit": (4, 4, 4),
    "timesformer": (4, 4, 4),
}
"""Tokens in time, height and width."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a folder with each of the tiny backbones, by name."""
    root = tmp_path_factory.mktemp("backbones")
    return {kind: video_backbones.write(root / kind, kind) for kind in GRIDS}


@pytest.fixture(autouse=True)
def fresh():
    files.find_backbone.cache_clear()


def spec_of(folder, **options):
    return models.named_spec("vfm", backbone=str(folder), **{"decoder_width": 128, "lora_rank": 4, **options})


def network_of(folder, seed=1, **options):
    torch.manual_seed(seed)
    return models.build(spec_of(folder, **options))


def clip_of(spec, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, spec.clip_frames, *spec.input_size, generator=generator)


# ------------------------------------------------------------------------------------------------------------ adapters


@pytest.mark.parametrize("kind", GRIDS)
def test_features_have_time_and_space(folders, kind):
    """Changing one token's pixels changes the features of this token most of all."""
    network = network_of(folders[kind]).eval()
    spec = network.spec
    clip = clip_of(spec)
    with torch.no_grad():
        before = network.backbone(clip)
        assert before.shape == (1, video_backbones.WIDTH, *GRIDS[kind])
        for token in ((0, 1, 2), (3, 2, 0), (2, 0, 3)):
            steps = [side // tokens for side, tokens in zip(clip.shape[2:], GRIDS[kind], strict=True)]
            t, y, x = (slice(at * step, (at + 1) * step) for at, step in zip(token, steps, strict=True))
            changed = clip.clone()
            changed[:, :, t, y, x] += 3
            difference = (network.backbone(changed) - before).abs().sum(1)[0]
            assert tuple(int(at) for at in torch.unravel_index(difference.argmax(), GRIDS[kind])) == token
        maps = network(clip)
        with torch.autocast("cpu", torch.bfloat16):
            half = network.backbone(clip).float()
    assert float((half - before).norm() / before.norm()) < 0.015  # bfloat16 has 8 bits
    assert maps.shape == (1, 1, *spec.input_size)
    assert 0 < float(maps.min()) < float(maps.max()) < 1


@pytest.mark.parametrize("kind", GRIDS)
def test_gradients_reach_the_lora_and_the_decoder_only(folders, kind):
    network = network_of(folders[kind]).train()
    network.decoder.eval()  # no branch is dropped
    with torch.no_grad():  # the second factor of a new LoRA is 0, so that the first one has no gradient
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    network(clip_of(network.spec)).mean().backward()
    trained = {name for name, one in network.named_parameters() if one.grad is not None and bool(one.grad.any())}
    lora = {name for name in trained if name.startswith("backbone.")}
    # Attention over a single step does not depend on queries, keys and their bias.
    constant = {name for name, _ in network.named_parameters() if ".attend3." in name and ".attn." in name}
    decoder = {name for name, _ in network.named_parameters() if name.startswith("decoder.")}
    assert decoder - constant <= trained <= decoder | lora
    assert lora == {name for name, _ in network.named_parameters() if ".lora_" in name}
    assert len(lora) == 16
    assert trained | constant == {name for name, one in network.named_parameters() if one.requires_grad}


def test_a_new_lora_changes_nothing(folders):
    with_lora, without = network_of(folders["vjepa2"]).eval(), network_of(folders["vjepa2"], lora_rank=0).train()
    clip = clip_of(with_lora.spec)
    with torch.no_grad():
        assert torch.equal(with_lora.backbone(clip), without.backbone(clip))
    features = without.backbone(clip)
    assert not features.requires_grad
    assert without.training and without.decoder.training and not without.backbone.training
    assert all(name.startswith("decoder.") for name in without.state_dict())


def test_blocks_are_recomputed_in_the_backward_pass(folders):
    network = network_of(folders["vjepa2"]).train()
    calls = []
    network.backbone.model.layer[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    network(clip_of(network.spec)).sum().backward()
    assert len(calls) == 2
    calls.clear()
    with torch.no_grad():
        network.eval()(clip_of(network.spec))
    assert len(calls) == 1


def test_other_sizes_and_lengths_of_clips(folders):
    """V-JEPA 2 reads any even number of frames and any square; its positions must follow the size."""
    spec = spec_of(folders["vjepa2"], frames=16).with_size((96, 96))
    network = models.build(spec).eval()
    assert network.backbone(clip_of(spec)).shape[2:] == (8, 6, 6)
    assert network.backbone.model.layer[0].attention.grid_size == 6
    with pytest.raises(UsageError, match=r"--size 64x96: V-JEPA 2 reads square clips"):
        models.build(spec.with_size((64, 96)))
    with pytest.raises(UsageError, match=r"frames=7: V-JEPA 2 reads clips whose length is a multiple of 2"):
        spec_of(folders["vjepa2"], frames=7)
    with pytest.raises(UsageError, match=r"frames=16: VideoMAE reads clips whose length is 8"):
        spec_of(folders["videomae"], frames=16)
    with pytest.raises(UsageError, match=r"input_size 96x96: both sides must be multiples of 64 from 64 to 64"):
        spec_of(folders["videomae"]).with_size((96, 96))


# ---------------------------------------------------------------------------------------------------- saving, loading


def test_weights_files_have_the_decoder_and_the_lora(folders, tmp_path):
    network = network_of(folders["vjepa2"]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.normal_(0, 0.1)
        path = tmp_path / "trained.safetensors"
        weights.save(path, network.state_dict(), network.spec)
        loaded = weights.load(path)
        assert loaded.spec == network.spec
        options = loaded.spec.options
        assert options["backbone"] == str(folders["vjepa2"])
        assert options["sha256"] == files.file_sha256(folders["vjepa2"] / "model.safetensors")
        assert {name.partition(".")[0] for name in loaded.state_dict} == {"backbone", "decoder"}
        assert all(name.startswith("decoder.") or ".lora_" in name for name in loaded.state_dict)
        assert loaded.state_dict.keys() == network_state(loaded.spec).keys()
        again = network_of(folders["vjepa2"], seed=5).eval()
        clip = clip_of(network.spec)
        assert not torch.equal(again(clip), network(clip))
        again.load_state_dict(loaded.state_dict)
        assert torch.equal(again(clip), network(clip))
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict({name: one for name, one in loaded.state_dict.items() if ".lora_" not in name})


def test_a_changed_backbone_is_refused(folders, tmp_path):
    folder = video_backbones.write(tmp_path / "moved")
    network = network_of(folder)
    path = tmp_path / "trained.safetensors"
    weights.save(path, network.state_dict(), network.spec)
    files.find_backbone.cache_clear()
    video_backbones.write(folder, seed=3)
    with pytest.raises(WeightsError, match=r"not the one that these weights were trained on: its weights have the sha"):
        models.build(weights.inspect(path)[0].spec)
    files.find_backbone.cache_clear()
    assert weights.inspect(path)[0].spec == network.spec  # needs no backbone
    (folder / "config.json").unlink()
    files.find_backbone.cache_clear()
    with pytest.raises(WeightsError, match=r"moved: has no config\.json, so it is not a model of transformers"):
        models.build(network.spec)


def test_a_changed_configuration_is_refused(tmp_path):
    """The weights of two heads have the shapes of those of four, but other features."""
    folder = video_backbones.write(tmp_path / "b")
    found = spec_of(folder)
    config = json.loads((folder / "config.json").read_text())
    for changed in ({"transformers_version": "9.9", "architectures": ["X"], "_name_or_path": "y"}, {}):
        (folder / "config.json").write_text(json.dumps(dict(reversed((config | changed).items()))))
        files.find_backbone.cache_clear()
        assert FAMILY.resolve(found) == found
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))
    files.find_backbone.cache_clear()
    with pytest.raises(WeightsError, match=r"weights were trained on: .*config\.json differs; restore that file"):
        models.build(found)


def test_a_backbone_that_was_moved(folders, tmp_path, monkeypatch):
    """The folder of the setting is searched for it by name, also for repositories of the Hub."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    content = (folders["vjepa2"] / "model.safetensors").read_bytes()
    for name, revision in ((str(tmp_path / "gone" / "vjepa2"), ""), ("acme/vjepa2", "0" * 40)):
        options = dict(spec_of(folders["vjepa2"]).options) | {"backbone": name, "revision": revision}
        spec = replace(spec_of(folders["vjepa2"]), options=options)
        monkeypatch.setenv("TINYHD_BACKBONES", str(folders["vjepa2"].parent))
        assert models.build(spec).spec == spec
        assert FAMILY.resolve(spec) == spec
        (tmp_path / "vjepa2").mkdir(exist_ok=True)
        (tmp_path / "vjepa2" / "config.json").write_bytes((folders["vjepa2"] / "config.json").read_bytes())
        (tmp_path / "vjepa2" / "model.safetensors").write_bytes(content + b" ")
        monkeypatch.setenv("TINYHD_BACKBONES", str(tmp_path))
        with pytest.raises(WeightsError, match="not the one that these weights were trained on"):
            models.build(spec)
    monkeypatch.delenv("TINYHD_BACKBONES")
    options["backbone"], options["revision"] = str(tmp_path / "gone" / "vjepa2"), ""
    with pytest.raises(WeightsError, match="no such folder; name the folder that vjepa2 is in with TINYHD_BACKBONES"):
        models.build(replace(spec, options=options))


def test_a_copy_shares_the_frozen_tensors(folders):
    network = network_of(folders["vjepa2"])
    copied = copy.deepcopy(network)
    originals = dict(network.named_parameters())
    assert originals.keys() == dict(copied.named_parameters()).keys()
    for name, parameter in copied.named_parameters():
        assert (parameter is originals[name]) == (not parameter.requires_grad), name
    assert copied.state_dict().keys() == network.state_dict().keys()
    for hook in (nn.Module.state_dict, lambda one: one.eval()(clip_of(one.spec))):
        hook(copied)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora_rank": -1}, "lora_rank=-1: must be a whole number from 0 to 512"),
        ({"lora_alpha": 0}, "lora_alpha=0: must be a whole number from 1 to 4096"),
        ({"decoder_width": 140}, "decoder_width=140: must be a multiple of 32"),
        ({"frames": True}, "frames=True: must be a whole number from 0 to 512"),
        ({"revision": "a b"}, "revision='a b': is not valid"),
        ({"sha256": "abc"}, "sha256='abc': is not valid"),
        ({"width": 3}, "vfm has no option 'width'"),
        ({"backbone": "no/such/folder"}, "no/such/folder: no such folder, and not a repository of the Hub"),
        ({"backbone": "../../x"}, r"\.\./\.\./x: no such folder, and not a repository of the Hub"),
    ],
)
def test_invalid_options(options, said):
    with pytest.raises(UsageError, match=said):
        models.named_spec("vfm", **options)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bert"}, "a model of type 'bert', not a video model with an adapter: choose from timesformer"),
        (
            {"model_type": "vit"},
            "type 'vit', not a video .*: choose from timesformer, videomae, videoprism, .*, vivit, vjepa2$",
        ),
        ({"model_type": "vjepa2", "num_hidden_layers": -2}, "num_hidden_layers in config.json must be from 1 to 256"),
        ({"model_type": "vjepa2", "pred_num_hidden_layers": 10**9}, "pred_num_hidden_layers .* must be from 0 to 256"),
        ({"model_type": "vivit", "num_attention_heads": 0}, "num_attention_heads in config.json must be from 1 to"),
        (
            {"model_type": "videoprism", "vision_config": {"num_spatial_layers": 0}},
            "num_spatial_layers in config.json must be from 1 to 256, not 0",
        ),
        ([], "a model of type None, not a video model with an adapter"),
        ({"model_type": "vjepa2", "crop_size": "256"}, "crop_size in config.json must be a positive number"),
        ({"model_type": "vjepa2", "crop_size": 250}, "clips of 64 x 250 x 250 are not whole tokens"),
        ({"model_type": "vivit", "image_size": [224, 384]}, "image_size in config.json must be a positive number"),
        ({"model_type": "videoprism", "vision_config": {"tubelet_size": 3}}, "patch_size in config.json must be"),
        ({"model_type": "videomae", "num_channels": 1}, r"num_channels in config\.json must be 3, not 1"),
        ({"model_type": "vjepa2", "in_chans": 4}, r"in_chans in config\.json must be 3, not 4"),
        (
            {"model_type": "timesformer", "attention_type": "space_only"},
            "must be 'divided.*' or 'joint.*', not 'space_",
        ),
    ],
)
def test_configurations_that_cannot_be_used(config, said):
    with pytest.raises(WeightsError, match=said):
        read_facts(config, "backbone x")


def test_facts_of_the_published_backbones():
    """The configurations of the classes state the sizes in the table of the guide."""
    defaults = {
        "vjepa2": (1024, 64, 32, 256, 2, 16),
        "videomae": (768, 16, 16, 224, 2, 16),
        "videoprism": (768, 16, 16, 288, 1, 18),
        "vivit": (768, 32, 32, 224, 2, 16),
        "timesformer": (768, 8, 8, 224, 1, 16),
    }
    for kind, expected in defaults.items():
        facts = read_facts({"model_type": kind, "vision_config": {}}, kind)
        found = (facts.channels, facts.frames, facts.clip_frames, facts.side, facts.tubelet, facts.patch)
        assert found == expected, kind


IMAGENET_RANGE = ([(0 - 0.485) / 0.229, (0 - 0.406) / 0.225], [(1 - 0.485) / 0.229, (1 - 0.406) / 0.225])
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
ZERO_CENTERED = {"do_normalize": False, "rescale_factor": 1 / 127.5}


@pytest.mark.parametrize(
    ("kind", "preprocessor", "low", "high"),
    [
        ("vjepa2", None, *IMAGENET_RANGE),
        ("videomae", {}, *IMAGENET_RANGE),
        ("timesformer", {"do_normalize": True, "rescale_factor": 1 / 255, **HALVES}, -1, 1),
        ("videoprism", None, 0, 1),
        ("videoprism", {"do_normalize": False, "do_rescale": True, "rescale_factor": 1 / 255}, 0, 1),
        ("vivit", None, -1, 1),
        ("vivit", {"do_normalize": False}, -1, 1),
        ("vivit", {**ZERO_CENTERED, **HALVES, "offset": True}, -1, 1),  # as published
        ("vivit", {**ZERO_CENTERED, "do_zero_centering": True}, -1, 1),  # as published, of an earlier version
        ("vivit", {**ZERO_CENTERED, "do_zero_centering": False}, 0, 2),
        ("vivit", {**ZERO_CENTERED, **HALVES, "do_normalize": True}, -3, 1),
        ("vivit", {**ZERO_CENTERED, "offset": False, "rescale_factor": 1 / 255}, 0, 1),
        ("vjepa2", {"do_rescale": False, "do_normalize": False}, 0, 255),
        ("videomae", {"do_normalize": False, "image_mean": [9, 9, 9]}, 0, 1),
        ("vivit", {"rescale_factor": "x", "image_mean": [0.1, 0.2], "image_std": [0, 1, 1]}, -1, 1),
    ],
)
def test_range_of_the_input(kind, preprocessor, low, high):
    """Black and white must become what the backbone was trained on, as its processor in transformers makes them."""
    mean, std = read_normalization(preprocessor, read_facts({"model_type": kind, "vision_config": {}}, kind))
    for value, expected in ((0, low), (1, high)):
        found = [(value - mean[channel]) / std[channel] for channel in (0, 2)]
        assert found == pytest.approx(expected if isinstance(expected, list) else [expected] * 2, abs=1e-6)


def test_the_range_is_that_of_a_processor_of_transformers():
    from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

    for fields in ({"do_normalize": False}, {**HALVES}, {"offset": False, "image_mean": [0.1, 0.2, 0.3]}):
        processor = VivitImageProcessor(**fields, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        expected = processor(image)["pixel_values"][0][0]
        mean, std = read_normalization(processor.to_dict(), read_facts({"model_type": "vivit"}, "vivit"))
        assert np.allclose(((image / 255 - mean) / std).transpose(2, 0, 1), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [*GRIDS, "videomae with a norm"])
def test_features_are_normalized(folders, tmp_path, kind):
    """The classes differ in whether their last layer is a norm; the decoder reads normalized features of all."""
    folder = (
        folders[kind] if kind in folders else video_backbones.write(tmp_path / "x", "videomae", use_mean_pooling=False)
    )
    network = network_of(folder).eval()
    with torch.no_grad():
        features = network.backbone(clip_of(network.spec))
    # New norms have no effect but the normalization.
    assert torch.allclose(features.mean(1), torch.zeros(()), atol=1e-4)
    assert torch.allclose(features.var(1, unbiased=False), torch.ones(()), atol=1e-3)


def test_compiled_networks_of_other_backbones_are_not_used(folders, tmp_path):
    """Engines store compiled networks by this digest. The state dict lacks the backbone, and its text its heads."""
    network = network_of(folders["vjepa2"])
    digests = {digest_of(network, network.spec)}
    assert digest_of(network_of(folders["vjepa2"]), network.spec) in digests
    with torch.no_grad():
        network.backbone.model.layernorm.bias[0] += 1
    digests.add(digest_of(network, network.spec))
    network.backbone.model.layer[0].attention.num_attention_heads = 4
    digests.add(digest_of(network, network.spec))
    assert len(digests) == 3
