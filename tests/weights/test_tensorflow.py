"""TensorFlow checkpoints: sound ones are read bit for bit; all others are refused with one line."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clips
from helpers import tensorflow_checkpoints as tensorflow
from helpers.tensorflow_checkpoints import entry, message, number, table, varint, write, write_parts

from tinyhd_cli import weights
from tinyhd_cli.models import create
from tinyhd_cli.weights.sorted_table import masked_crc32c, read_table

PREFIX = Path("model.ckpt-3000")
KERNEL = "jointDis/conv5_S/weights"


def dis(heads, seed=0):
    """Return the tensors of an untrained DIS network with statistics that are not the initial ones."""
    torch.manual_seed(seed)
    state = create("dis-64", heads=heads).state_dict()
    for name, values in state.items():
        if name.endswith(("running_mean", "running_var", "norm.weight", "norm.bias")):
            values.uniform_(0.5, 1.5)
    return state


@pytest.fixture(scope="module")
def states():
    return {heads: dis(heads) for heads in ("two", "fused")}


@pytest.fixture(scope="module")
def parts(states):
    """Entries of the index and content of the data file of a two-head network."""
    return tensorflow.index_and_data(tensorflow.dis_variables(states["two"], "two"))


# ------------------------------------------------------------------------------------------------------ sound files


def test_checksum():
    for data, expected in ((b"123456789", 0xE3069283), (b"", 0), (bytes(32), 0x8A9136AA)):
        assert tensorflow.crc32c(data) == expected
        assert masked_crc32c(data).to_bytes(4, "little") == tensorflow.mask(expected)


@pytest.mark.parametrize("heads", ["two", "fused"])
@pytest.mark.parametrize("block_bytes", [200, 100_000])
def test_reads_every_tensor(tmp_path, states, heads, block_bytes):
    variables = tensorflow.dis_variables(states[heads], heads)
    path = write(tmp_path / "dis_96.ckpt-3000", variables, block_bytes=block_bytes)
    checkpoint = weights.load(path)
    assert (checkpoint.spec.name, checkpoint.spec.options["heads"]) == ("dis-96", heads)
    assert checkpoint.spec.options["output"] == "raw"
    assert checkpoint.state_dict.keys() == states[heads].keys()
    for name, values in states[heads].items():
        assert torch.equal(checkpoint.state_dict[name], values), name
    assert weights.load(tmp_path / "dis_96.ckpt-3000").info == checkpoint.info  # TensorFlow names it without the suffix


def test_tables_of_many_blocks():
    entries = {
        f"{number:05}/shared/beginning".encode(): bytes([number % 256]) * (number % 300) for number in range(999)
    }
    for block_bytes in (1, 50, 4096, 10**9):
        assert list(read_table(table(entries, block_bytes=block_bytes)).items()) == sorted(entries.items())


def test_other_precisions(tmp_path, states):
    variables = {
        name: values.astype(np.float64 if index % 2 else np.float16)
        for index, (name, values) in enumerate(tensorflow.dis_variables(states["fused"], "fused").items())
        if "Adam" not in name
    }
    state = weights.load(write(tmp_path / "dis_32", variables)).state_dict
    for name, values in states["fused"].items():
        assert state[name].dtype == values.dtype
        torch.testing.assert_close(state[name], values, atol=1e-3, rtol=1e-3)


def test_the_hash_includes_the_data_file(tmp_path, states):
    path = write(tmp_path / "dis_64", tensorflow.dis_variables(states["fused"], "fused"))
    content = path.read_bytes() + tensorflow.data_file(tmp_path / "dis_64").read_bytes()
    info = weights.load(path).info
    assert (info.bytes, info.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (info.upstream_bytes, info.upstream_sha256) == (info.bytes, info.sha256)


def test_the_assumed_size_is_stated_once(tinyhd, capsys, states):
    variables = tensorflow.dis_variables(states["fused"], "fused")
    write(PREFIX, variables)
    write(Path("dis_128.ckpt-3000"), variables)
    assert tinyhd("weights", "convert", f"{PREFIX}.index", "-o", "a.safetensors") == 0
    assert tinyhd("weights", "convert", "dis_128.ckpt-3000.index") == 0
    out, err = capsys.readouterr()
    assert out.split() == ["a.safetensors", "dis_128.ckpt-3000.safetensors"]
    assert err.count("do not determine the size of the input; 64x64 assumed") == 1
    assert weights.load("a.safetensors").spec.name == "dis-64"
    assert weights.load("dis_128.ckpt-3000.safetensors").spec.name == "dis-128"


def test_info_verify_and_predict(tinyhd, capsys, states):
    path = write(Path("dis_32"), tensorflow.dis_variables(states["two"], "two"))
    assert tinyhd("weights", "info", path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["upstream_file"]) == ("dis-32", "dis_32.index")
    assert tinyhd("weights", "verify", path) == 0
    assert capsys.readouterr().out.startswith("unknown hash  dis_32.index  sha256 ")
    clips.make(Path("clip.mp4"), frames=3)
    assert tinyhd("weights", "convert", path) == 0
    for file, out in ((path, "a.npz"), ("dis_32.safetensors", "b.npz")):
        outputs = ["--npz", out, "--csv", out.replace("npz", "csv"), "--json", out.replace("npz", "json")]
        assert tinyhd("predict", "clip.mp4", "--weights", file, *outputs, "--engine", "torch") == 0
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert a["saliency"].shape == (3, 32, 32)
        assert np.ptp(a["saliency"]) > 0
        assert a["saliency"].min() >= 0
        np.testing.assert_array_equal(a["saliency"], b["saliency"])
    rows = [[float(value) for value in line.split(",")] for line in Path("a.csv").read_text().splitlines()[1:]]
    assert len(rows) == 3
    assert all(0 < value < 1000 for row in rows for value in row[2:])  # the center of mass is inside the frame


# ------------------------------------------------------------------------------------------------------- bad files


def changed(parts, **entries):
    """Return index and data with other entries; None removes one. ``kernel`` stands for ``KERNEL``."""
    found, data = parts
    found = dict(found)
    for name, value in entries.items():
        key = {"kernel": KERNEL.encode(), "header": b""}[name]
        found.pop(key)
        if value is not None:
            found[key] = value
    return table(found), data


def renamed(parts, old, new):
    found, data = parts
    return table({new.encode() if key == old.encode() else key: value for key, value in found.items()}), data


SHAPE = (3, 3, 64, 64)
SIZE = 4 * 9 * 64 * 64


def kernel(dtype=1, shape=SHAPE, offset=0, data=b"", size=SIZE, file=0, more=b""):
    return lambda parts: changed(parts, kernel=entry(dtype, shape, offset, data, size=size, file=file) + more)


def header(content):
    return lambda parts: changed(parts, header=content)


def footer(at, content):
    """Return a function that replaces bytes of the footer."""

    def make(parts):
        index = bytearray(table(parts[0]))
        index[len(index) - 48 + at : len(index) - 48 + at + len(content)] = content
        return bytes(index), parts[1]

    return make


def flipped_data(parts):
    data = bytearray(parts[1])
    data[20] ^= 1  # before it are the 16 bytes of beta1_power, beta2_power and global_step, which are ignored
    return table(parts[0]), bytes(data)


def flipped_index(parts):
    index = bytearray(table(parts[0]))
    index[50] ^= 4
    return bytes(index), parts[1]


def only(*names):
    return lambda parts: (table({key: value for key, value in parts[0].items() if key.decode() in names}), parts[1])


DAMAGED = "damaged, or not the index of a TensorFlow checkpoint"
BAD = {
    "tensor missing": (lambda parts: changed(parts, kernel=None), "they lack 'spatial.0.conv.weight'"),
    "tensor misspelled": (lambda parts: renamed(parts, KERNEL, KERNEL + "s"), "they lack 'spatial.0.conv.weight'"),
    "layer unknown": (
        lambda parts: renamed(parts, KERNEL, "jointDis/conv55_S/weights"),
        "no tensor 'conv55_S.weight'",
    ),
    "tensor twice": (
        lambda parts: renamed(parts, "jointDis/conv6_S/weights", f"other/{KERNEL}"),
        f"it contains 'conv5_S.weight' twice: '{KERNEL}' and 'other/{KERNEL}'",
    ),
    "shape of another network": (
        kernel(shape=(3, 3, 32, 64), size=SIZE // 2, data=bytes(SIZE // 2)),
        f"'{KERNEL}' is wrong",
    ),
    "shape without size": (
        kernel(shape=(3, 3, 64, 65)),
        f"the size of '{KERNEL}', 147,456 bytes, is not that of 3 x 3",
    ),
    "shape huge": (kernel(shape=(1 << 40, 1 << 40)), f"the size of '{KERNEL}'"),
    "shape and size huge": (kernel(shape=(1 << 30,), size=4 << 30), "its tensors have more than 16 MiB"),
    "side negative": (kernel(shape=((1 << 64) - 1,)), f"the size of '{KERNEL}'"),
    "sides that overflow": (kernel(shape=(1 << 32, 1 << 32), size=0), f"the size of '{KERNEL}'"),
    "side zero": (kernel(shape=(0, 1 << 63), size=0), f"the size of '{KERNEL}', 0 bytes"),
    "many sides": (kernel(shape=(1,) * 40, size=4), f"the size of '{KERNEL}'"),
    "one number": (kernel(shape=(), size=SIZE), f"the size of '{KERNEL}', 147,456 bytes, is not that of one number"),
    "offset beyond": (kernel(offset=1 << 40), f"'{KERNEL}' is beyond the end of its data file"),
    "offset at the end": (kernel(offset=5_000_000), f"'{KERNEL}' is beyond the end of its data file"),
    "offset huge": (kernel(offset=(1 << 64) - 1), f"'{KERNEL}' is beyond the end of its data file"),
    "end beyond": (
        lambda parts: kernel(offset=len(parts[1]) - SIZE + 1)(parts),
        f"'{KERNEL}' is beyond the end of its data file",
    ),
    "file beyond": (kernel(file=7), f"'{KERNEL}' is beyond the end of its data file"),
    "text": (kernel(dtype=7), f"'{KERNEL}' has TensorFlow's type 7, which is not supported"),
    "no type": (kernel(dtype=0), f"'{KERNEL}' has TensorFlow's type 0"),
    "type huge": (kernel(dtype=1 << 60), f"'{KERNEL}' has TensorFlow's type 1152921504606846976"),
    "partitioned": (kernel(more=message(7, b"")), f"'{KERNEL}' is partitioned"),
    "field of another kind": (kernel(more=message(1, b"x")), DAMAGED),
    "field cut": (kernel(more=b"\x0a\x7f"), DAMAGED),
    "group": (kernel(more=b"\x0b"), DAMAGED),
    "bit of the data flipped": (flipped_data, "damaged: the checksum of 'jointDis/conv1/BatchNorm/beta' is wrong"),
    "data cut": (lambda parts: (table(parts[0]), parts[1][:-100_000]), "is beyond the end of its data file"),
    "data empty": (lambda parts: (table(parts[0]), b""), "model.ckpt-3000.data-00000-of-00001: empty file"),
    "no header": (header(None), "it states 0 data files"),
    "header of many files": (header(number(1, 10**9)), "it states 1000000000 data files; 1 to 16 are supported"),
    "header of two files": (header(number(1, 2)), "its data file model.ckpt-3000.data-00000-of-00002 is missing"),
    "big-endian": (header(number(1, 1) + number(2, 1)), "its numbers are big-endian"),
    "no layers": (only("", "global_step"), "none of its 1 variables belongs to a tf_slim layer"),
    "nothing": (only(""), "none of its 0 variables"),
    "one layer": (only("", "jointDis/conv1/weights"), "do not belong to an installed model family"),
    "index empty": (lambda parts: (b"", parts[1]), "empty file"),
    "index cut": (lambda parts: (table(parts[0])[:-1], parts[1]), DAMAGED),
    "index of text": (lambda parts: (b"model_checkpoint_path" * 9, parts[1]), DAMAGED),
    "footer only": (lambda parts: (table(parts[0])[-48:], parts[1]), DAMAGED),
    "block beyond": (footer(0, b"\0\0" + varint(1 << 63) + varint(1 << 63)), DAMAGED),
    "number without end": (footer(0, b"\xff" * 40), DAMAGED),
    "magic": (footer(40, b"LevelDB!"), DAMAGED),
    "bit of the index flipped": (flipped_index, "a checksum is wrong"),
    "compressed": (lambda parts: (table(parts[0], kind=1), parts[1]), "its index is compressed"),
    "compressed unknown": (lambda parts: (table(parts[0], kind=9), parts[1]), DAMAGED),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tinyhd, capsys, parts, kind):
    make, expected = BAD[kind]
    index, data = make(parts)
    write_parts(PREFIX, index, data)
    before = sorted(Path().iterdir())
    start = time.process_time()
    assert tinyhd("weights", "convert", f"{PREFIX}.index", "-o", "new.safetensors") == 4
    assert time.process_time() - start < 10
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tinyhd: {PREFIX}.") and err.count("\n") == 1 and len(err) < 400
    assert expected in err and "unexpected" not in err
    assert sorted(Path().iterdir()) == before


def test_a_wrong_shape_is_named(tinyhd, capsys, states):
    variables = tensorflow.dis_variables(states["two"], "two")
    variables[KERNEL] = variables[KERNEL][:, :, :32]
    write(PREFIX, variables)
    clips.make(Path("clip.mp4"), frames=2)
    assert tinyhd("predict", "clip.mp4", "--weights", f"{PREFIX}.index", "--csv", "out.csv") == 4
    assert "'spatial.0.conv.weight' has shape (64, 32, 3, 3), not (64, 64, 3, 3)" in capsys.readouterr().err


def test_a_tensor_of_integers(tinyhd, capsys, states):
    variables = tensorflow.dis_variables(states["two"], "two")
    variables[KERNEL] = variables[KERNEL].astype(np.int32)
    write(PREFIX, variables)
    assert tinyhd("weights", "info", f"{PREFIX}.index") == 4
    assert "'spatial.0.conv.weight' has the type torch.int32; weights must be" in capsys.readouterr().err


def test_names_cannot_forge_lines(tinyhd, capsys, parts):
    entries, data = dict(parts[0]), parts[1]
    entries[b"a\n\x1b[2J\xff/" + KERNEL.encode()] = entries[KERNEL.encode()]
    write_parts(PREFIX, table(entries), data)
    assert tinyhd("weights", "info", f"{PREFIX}.index") == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "\x1b" not in err
    assert r"it contains 'conv5_S.weight' twice: 'a\n\x1b[2J" in err


def test_missing_data_file(tinyhd, capsys, parts):
    path = write_parts(PREFIX, table(parts[0]), parts[1])
    tensorflow.data_file(PREFIX).unlink()
    assert tinyhd("weights", "info", path) == 4
    assert "its data file model.ckpt-3000.data-00000-of-00001 is missing; it must be" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.ckpt-3000", "model.ckpt", "model.pth"])
def test_checkpoints_in_one_file(tinyhd, capsys, parts, name):
    Path(name).write_bytes(table(parts[0]))
    assert tinyhd("weights", "info", f"./{name}") == 4
    assert "a TensorFlow checkpoint in one file (format V1), which is not supported; save it" in capsys.readouterr().err


def test_the_data_file_in_place_of_the_index(tinyhd, capsys, parts):
    write_parts(PREFIX, table(parts[0]), parts[1])
    assert tinyhd("weights", "info", tensorflow.data_file(PREFIX)) == 4
    assert "a data file of a TensorFlow checkpoint; use model.ckpt-3000.index beside it" in capsys.readouterr().err
