"""Channel reduction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import lively

from tinyhd_cli import load_model, weights
from tinyhd_cli.errors import UsageError
from tinyhd_cli.models import build, create, named_spec
from tinyhd_cli.models.families.tinyhd.reduce import BEFORE_SHUFFLE, merge_layer, pairs, reduce_channels
from tinyhd_cli.models.registry import family

PARAMETERS = {"m": (1_366_979, 515_281), "s": (1_370_291, 513_121)}


@pytest.mark.parametrize("kind", ["m", "s"])
def test_full_to_half_to_quarter(tmp_path, tinyhd, capsys, kind):
    parent = create(f"tinyhd-{kind}")
    full, half, quarter = (tmp_path / f"{width}.safetensors" for width in ("full", "half", "quarter"))
    weights.save(full, parent.state_dict(), parent.spec)
    assert tinyhd("reduce-channels", "--from", full, "--to", "half", "-o", half) == 0
    assert (
        "24 layers cannot be reduced and start from new weights: decoders.d2.to_map.expand" in capsys.readouterr().err
    )
    assert tinyhd("reduce-channels", "--from", half, "--to", "quarter", "-o", quarter) == 0
    for path, width, count in zip((half, quarter), ("half", "quarter"), PARAMETERS[kind], strict=True):
        model = load_model(path, "cpu", engine="torch")  # other engines take the size of the weights file only
        assert model.spec == named_spec(f"tinyhd-{kind}-{width}")
        assert weights.inspect(path)[0].parameters == count
        maps = model.infer(np.zeros((3, 16, 64, 64), "f4"))
        assert maps.shape == ((16 if kind == "m" else 1), 64, 64)
        assert 0 < maps.min() <= maps.max() < 1


def test_two_steps_at_once_are_the_same():
    parent = create("tinyhd-m")
    at_once = reduce_channels(parent.spec, parent.state_dict(), "quarter")
    half = reduce_channels(parent.spec, parent.state_dict(), "half")
    by_steps = reduce_channels(half.spec, half.state_dict, "quarter")
    assert at_once.spec == by_steps.spec
    assert set(by_steps.fresh) <= set(at_once.fresh)
    for name, value in at_once.state_dict.items():
        assert torch.equal(value, by_steps.state_dict[name]), name


def doubled(values, dim, index):
    """The opposite of merging: each channel twice."""
    wide = torch.empty([2 * n if d == dim else n for d, n in enumerate(values.shape)])
    for place in (0, 1):
        wide.index_copy_(dim, index[:, place], values)
    return wide


@pytest.mark.parametrize(
    "layer", ["encoder.blocks.5.project", "encoder.blocks.6.expand", "decoders.d2.from_x3.project"]
)
def test_a_network_of_twins_is_merged_into_one_of_singles(layer):
    """If both channels of each pair are the same, their mean says all that they said, wherever they stand."""
    narrow = lively("tinyhd-m-half").state_dict()
    kernel = narrow[f"{layer}.conv.weight"]
    ours = pairs(2 * kernel.shape[0], BEFORE_SHUFFLE.fullmatch(layer) is not None)
    theirs = pairs(2 * kernel.shape[1], layer == "encoder.blocks.6.expand")
    wide = {f"{layer}.conv.weight": doubled(doubled(kernel, 0, ours), 1, theirs) / 2}
    for name in ("weight", "bias", "running_mean", "running_var"):
        wide[f"{layer}.norm.{name}"] = doubled(narrow[f"{layer}.norm.{name}"], 0, ours)
    wide[f"{layer}.norm.num_batches_tracked"] = torch.tensor(0)
    merged = merge_layer(wide, narrow, layer, "sum")
    # The kernel comes back with BatchNorm's scale folded in; in training mode the layer's answers are the same.
    scale = narrow[f"{layer}.norm.weight"] / (narrow[f"{layer}.norm.running_var"] + 1e-5).sqrt()
    assert torch.allclose(merged[f"{layer}.conv.weight"], kernel * scale.view(-1, 1, 1, 1, 1), atol=1e-6)
    for name in ("weight", "bias"):
        assert torch.allclose(
            merged[f"{layer}.norm.{name}"],
            narrow[f"{layer}.norm.{name}"].abs() if name == "weight" else narrow[f"{layer}.norm.{name}"],
            atol=1e-6,
        )


def test_pairs_before_a_pixel_shuffle_keep_their_place():
    assert pairs(8, shuffled=False).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    index = pairs(16, shuffled=True)
    assert index.tolist()[:5] == [[0, 4], [1, 5], [2, 6], [3, 7], [8, 12]]
    assert (index % 4 == (torch.arange(8) % 4).view(-1, 1)).all()
    assert sorted(index.flatten().tolist()) == list(range(16))
    assert pairs(12, shuffled=True).tolist() == pairs(12, shuffled=False).tolist()  # does not divide by 8


def test_activations_keep_their_scale():
    """Halfway down the encoder, a merged network's signal is about as strong as its parent's."""
    parent = lively("tinyhd-m")
    reduced = reduce_channels(parent.spec, parent.state_dict(), "half")
    child = build(reduced.spec)
    child.load_state_dict(reduced.state_dict)
    clip = torch.nn.functional.interpolate(torch.randn(2, 3, 16, 8, 8), (16, 64, 64))
    with torch.no_grad():
        pairs_of_streams = zip(parent.encoder(clip), child.eval().encoder(clip), strict=True)
        ratios = [float(ours.std() / theirs.std()) for theirs, ours in pairs_of_streams]
    assert all(0.5 < ratio < 1.5 for ratio in ratios), ratios
    assert build(reduced.spec).state_dict().keys() == reduced.state_dict.keys()


def test_wrong_usage(tmp_path, tinyhd, capsys):
    quarter = lively("tinyhd-m-quarter")
    weights.save(tmp_path / "quarter.safetensors", quarter.state_dict(), quarter.spec)
    arguments = ("reduce-channels", "--from", tmp_path / "quarter.safetensors", "-o", tmp_path / "out.safetensors")
    for wrong, message in (("half", "can be reduced to a smaller one only"), ("third", "--to third")):
        assert tinyhd(*arguments, "--to", wrong) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UsageError, match="--merge"):
        reduce_channels(named_spec("tinyhd-m"), create("tinyhd-m").state_dict(), "half", "product")
    with pytest.raises(UsageError, match="hd2s has one width"):
        family("hd2s").reduce_channels(named_spec("hd2s"), {}, "half")
