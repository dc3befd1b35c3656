"""PyTorch files of other programs: wrapped state dicts, other content, and files with false sizes."""

from __future__ import annotations

import argparse
import datetime
import io
import logging
import pathlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import original_state
from safetensors.torch import save_file

from tinyhd_cli import models, weights
from tinyhd_cli.errors import WeightsError
from tinyhd_cli.models.original_names import convert
from tinyhd_cli.weights import store


@pytest.fixture(scope="module")
def state():
    return original_state()


@pytest.fixture(scope="module")
def converted(state):
    return convert(state, "tinyhd-s-quarter")


@pytest.fixture(autouse=True)
def propagate_log(monkeypatch):
    monkeypatch.setattr(logging.getLogger("tinyhd"), "propagate", True)


def assert_loads(path: Path, checkpoint: object, converted: dict[str, torch.Tensor], **how: object) -> None:
    """Save a checkpoint, load it, and compare the network and every tensor."""
    torch.save(checkpoint, path, **how)
    found = weights.load(path)
    assert found.spec.with_size((192, 256)) == models.named_spec("tinyhd-s-quarter")
    assert found.state_dict.keys() == converted.keys()
    assert all(torch.equal(found.state_dict[name], tensor) for name, tensor in converted.items())


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        weights.load(path)
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


def named(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


PREFIXES = """
    module. _orig_mod. module._orig_mod. _orig_mod.module. model. model._orig_mod. model.module. net. network. student.
    module.student. student._orig_mod.net. lit.model.backbone. encoder. _fsdp_wrapped_module.
""".split()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes(tmp_path, state, converted, prefix):
    assert_loads(tmp_path / "wrapped.pth", named(prefix, state), converted)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"student_model": s, "epoch": 3},
        lambda s: {"state_dict": named("model.", s), "epoch": 3, "optimizer_states": [{"state": {0: {}}}]},
        lambda s: {"state_dict": {**named("net.", s), "criterion.weight": torch.ones(2)}},
        lambda s: {"model_state_dict": named("module._orig_mod.", s), "optimizer": {"param_groups": [{"lr": 0.1}]}},
        lambda s: {"net": s, "acc": 0.5},
        lambda s: {"ema": s, "step": 5},
        lambda s: {"ema": named("module.", s), "model": None},
        lambda s: {"checkpoint": {"networks": {"generator": named("module.", s)}}},
        lambda s: {**named("module.", s), "n_averaged": torch.tensor(3)},
        lambda s: {**s, "total_ops": torch.zeros(1), "encoder.total_params": torch.zeros(1)},
        lambda s: {name.replace("encoder.encoder.", "encoder._orig_mod.encoder."): t for name, t in s.items()},
        lambda s: {"state_dict": {name: tensor.numpy() for name, tensor in s.items()}},
        lambda s: torch.nn.ParameterDict({"x": torch.ones(1)}).state_dict() | s,
    ],
    ids="original lightning criterion ddp net ema ema-alone deep swa profiled compiled-part numpy extra".split(),
)
def test_wrappers(tmp_path, state, converted, wrap, request):
    path = tmp_path / "checkpoint.pt"
    if "extra" in request.node.callspec.id:  # an unknown tensor at the top level is an error
        torch.save(wrap(state), path)
        assert refusal(path) == "the original tinyhd-s-quarter has no tensor 'x'"
        return
    assert_loads(path, wrap(state), converted)


def test_the_network_is_preferred_to_its_copies(tmp_path, state, converted, caplog):
    other = {name: tensor + 1 for name, tensor in state.items()}
    assert_loads(tmp_path / "a.pth", {"ema": other, "model": state}, converted)
    assert "contains several networks (model, ema); reading the one in model" in caplog.text
    caplog.clear()
    assert_loads(tmp_path / "b.pth", {"state_dict": named("teacher.", other) | named("student.", state)}, converted)
    assert "reading the one in state_dict.student" in caplog.text


def test_a_name_with_and_without_its_wrapper(tmp_path, state):
    torch.save({**state, "module.decoder.decoder.0.bias": torch.zeros(1)}, tmp_path / "twice.pth")
    assert refusal(tmp_path / "twice.pth").startswith("it contains 'decoder.decoder.0.bias' twice")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        np.float64(3.2),
        np.int64(4),
        np.str_("x"),
        np.arange(6.0).reshape(2, 3),
        np.dtype("f4"),
        np.float32,
        [np.bool_(True)],
        argparse.Namespace(lr=1e-3, out=pathlib.PurePosixPath("x")),
        datetime.timedelta(seconds=3),
    ],
    ids=repr,
)
def test_values_that_are_not_code(tmp_path, state, converted, beside, new):
    assert_loads(
        tmp_path / "x.pth", {"state_dict": state, "beside": beside}, converted, _use_new_zipfile_serialization=new
    )


def test_names_of_tinyhd(tmp_path, converted):
    for number, checkpoint in enumerate((converted, {"model": named("module.", converted)})):
        assert_loads(tmp_path / f"{number}.pth", checkpoint, converted)
    twice = models.create("tinyhd-m-quarter", decoders=("d3", "d1", "d1"))
    torch.save(twice.state_dict(), tmp_path / "twice.pth")
    assert weights.load(tmp_path / "twice.pth").spec == twice.spec


def test_a_checkpoint_of_training(tmp_path, converted):
    run = {"model": "tinyhd-s-quarter", "decoders": ["d1", "d2", "d3"], "size": [96, 128], "stills": False}
    rest = {"optimizer": {}, "best": {}, "best_score": 1.0, "best_step": 0, "rng": torch.zeros(1), "step": 9}
    other = {name: tensor + 1 for name, tensor in converted.items()}
    assert_loads(tmp_path / "step-9.pt", {"config": run, "model": converted, "ema": {}, **rest}, converted)
    assert_loads(tmp_path / "step-9.pt", {"config": run, "model": other, "ema": converted, **rest}, converted)
    assert weights.load(tmp_path / "step-9.pt").info.input_size == (96, 128)
    torch.save({"config": run | {"stills": True}, "model": converted, "ema": {}, **rest}, tmp_path / "step-9.pt")
    assert "single frames; use best.safetensors" in refusal(tmp_path / "step-9.pt")


@pytest.mark.parametrize("command", [("weights", "convert"), ("reduce-channels", "--to", "half", "--from")])
def test_wrapped_checkpoints_in_commands(tinyhd, capsys, command):
    torch.save(
        {"state_dict": named("model._orig_mod.", original_state("tinyhd-s")), "best": np.float64(1)}, "lit.ckpt.pth"
    )
    assert tinyhd(*command, "lit.ckpt.pth", "--out", "new.safetensors") == 0
    assert weights.load("new.safetensors").spec.name == ("tinyhd-s" if "convert" in command else "tinyhd-s-half")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "it contains a list of 1"),
        (torch.zeros(2, 3), "it contains a tensor of shape (2, 3)"),
        (np.float64(1), "it contains an object of type numpy._core.multiarray.scalar"),
        ({}, "it contains a dict of 0"),
        ({1: torch.zeros(1)}, "it contains a dict of 1; keys: 1"),
        (
            {"epoch": 1, "state_dict": {"conv1.weight": torch.zeros(1), "fc.bias\x1b[2J\n": torch.zeros(1)}},
            "it contains a dict of 2; keys: epoch, state_dict; in state_dict: conv1.weight, fc.bias\\x1b[2J\\n",
        ),
        ({f"k{i}": i for i in range(9)}, "it contains a dict of 9; keys: k0, k1, k2, k3, k4, k5 and 3 more"),
    ],
    ids=repr,
)
def test_the_error_describes_the_content(tmp_path, value, said):
    torch.save(value, tmp_path / "other.pth")
    assert refusal(tmp_path / "other.pth") == f"no known network: {said}"


WEIGHT = "decoder.decoder.0.weight"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "is not a tensor but a value of type int"),
        (torch.ones(1, 6, 1, 1).to_sparse(), "is not an ordinary tensor"),
        (torch.ones(1, 6, 1, 1, device="meta"), "is not an ordinary tensor"),
        (torch.ones(1, 6, 1, 1, dtype=torch.complex64), "is not an ordinary tensor"),
        (torch.ones(1, 6, 1, 1, dtype=torch.int32), "weights must be floating-point"),
        (torch.ones(1).expand(10**9), "'fusion.weight' has shape (1000000000,)"),
        (torch.full((1, 6, 1, 1), 1e300, dtype=torch.float64), "contains NaN or infinity"),
        (torch.ones(()), "has shape ()"),
    ],
    ids="number sparse meta complex integers expanded overflow scalar".split(),
)
def test_tensors_that_are_not_weights(tmp_path, state, value, said):
    torch.save({**state, WEIGHT: value}, tmp_path / "bad.pth")
    assert said in refusal(tmp_path / "bad.pth")


@pytest.mark.parametrize("name", ["encoder.encoder.99.conv.7.weight", "aggregator.aggregate_adapter.9999.conv.2.bias"])
def test_names_that_no_network_has(tmp_path, state, name):
    torch.save({**state, name: torch.ones(1)}, tmp_path / "bad.pth")
    assert refusal(tmp_path / "bad.pth") == f"the original tinyhd-s-quarter has no tensor '{name}'"


def zipped(pickle: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a PyTorch file with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def lying_size() -> bytes:
    """Return an archive that claims 3 GB for an entry of a few bytes."""
    data = bytearray(zipped(b"\x80\x02}."))
    entry = data.index(b"PK\1\2")
    data[entry + 24 : entry + 28] = (3_000_000_000).to_bytes(4, "little")
    return bytes(data)


DAMAGED = "damaged, or not a PyTorch file of plain tensors"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lying_size(), "it claims to contain more data than its size"),
        (zipped(b"\x80\x02](" + b"]" * 510_000 + b"e."), "its pickle has more than 500,000 steps"),
        (zipped(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "no known network"),
        (zipped(b"\x80\x02X\xff\xff\xff\x7fabc."), DAMAGED),
        (zipped(b"\x80\x02\x8b\xff\xff\xff\x7f1."), DAMAGED),
        (b"\x80\x02](" + b"]" * 510_000 + b"e.", "its pickle has more than 500,000 steps"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.", DAMAGED),
        (bytes(257) + b"ustar" + bytes(999), "the tar format of PyTorch 0.1"),
    ],
    ids="lies objects deep text long legacy bytes8 tar".split(),
)
def test_false_claims(tmp_path, data, said):
    (tmp_path / "bomb.pth").write_bytes(data)
    assert said in refusal(tmp_path / "bomb.pth")


def test_compressed_content_needs_no_memory(tmp_path):
    """The file of 128 KB would expand to 128 MB of zeros."""
    import tracemalloc

    bomb = zipped(b"\x80\x02X\0\0\0\x08" + bytes(1 << 27) + b".", zipfile.ZIP_DEFLATED)
    (tmp_path / "bomb.pth").write_bytes(bomb)
    tracemalloc.start()
    try:
        assert refusal(tmp_path / "bomb.pth") == "refused: its content is compressed, which PyTorch never does"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_files_under_the_wrong_name(tmp_path, converted, state):
    torch.save(state, tmp_path / "a.safetensors")
    assert refusal(tmp_path / "a.safetensors") == "contains a PyTorch file: rename it to end in .pth"
    save_file(converted, tmp_path / "b.pth")
    assert "rename it to end in .safetensors" in refusal(tmp_path / "b.pth")
    torch.save(state, tmp_path / "c.pth", pickle_protocol=4)
    assert "cannot read its pickle protocol" in refusal(tmp_path / "c.pth")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(5 << 30)
    assert refusal(tmp_path / "huge.pth") == "is larger than 1 GiB, the limit for weights files"


def test_convert_with_two_names_hints_at_out(tinyhd, capsys):
    assert tinyhd("weights", "convert", "a.pth", "b.safetensors") == 2
    assert capsys.readouterr().err.endswith("(b.safetensors) (did you mean --out b.safetensors?)\n")


# ------------------------------------------------------------------------------------------ networks that cannot be run


def shaped(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Return tensors of any shape that need no space in a file."""
    return {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}


SALFOM = shaped(**{f"net.merge{n}.weight": (1024, 1024, 2, 3, 3) for n in range(4)}, head=(1, 16, 1, 3, 3))
INTERNVIDEO = shaped(**{"encoder.patch_embed.proj.weight": (1408, 3, 1, 14, 14), "decoder.weight": (1, 8, 3, 3)})
FOREIGN = [
    (SALFOM, "the weights of SalFoM: their backbone, UMT ViT-L, is not in transformers"),
    (INTERNVIDEO, "weights on InternVideo2, as those of ViSAGE: this backbone is not in transformers"),
    (shaped(visage_lora_A=(8, 1408)), "weights on InternVideo2, as those of ViSAGE"),
]


@pytest.mark.parametrize(("tensors", "problem"), FOREIGN)
@pytest.mark.parametrize("large", [False, True])
def test_networks_that_cannot_be_run_are_named(tmp_path, monkeypatch, tensors, problem, large):
    """Also in files that are too large to be read."""
    path = tmp_path / "model.pth"
    torch.save({"epoch": 3, "state_dict": tensors}, path)
    if large:
        monkeypatch.setattr(store, "MAX_BYTES", 100)
    said = refusal(path)
    assert said.startswith(problem)
    assert said.endswith("so tinyhd cannot run them; for a network on another video model: tinyhd train --model vfm")


def test_networks_in_safetensors_that_cannot_be_run_are_named(tmp_path):
    save_file({"backbone.patch_embed.proj.weight": torch.zeros(2, 3, 1, 14, 14)}, tmp_path / "visage.safetensors")
    assert refusal(tmp_path / "visage.safetensors").startswith("weights on InternVideo2")


def test_large_files_of_other_networks_are_not_recognized(tmp_path, monkeypatch, state):
    monkeypatch.setattr(store, "MAX_BYTES", 100)
    path = tmp_path / "model.pth"
    torch.save(state, path)
    assert weights.load(path).spec.name == "tinyhd-s-quarter"  # the limit of reading is another one
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged" in refusal(path)
