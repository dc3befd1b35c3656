"""Damaged, absurd and hostile weights files: exit code 4, a one-line error, and no output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clips
from helpers.networks import lively

from tinyhd_cli import models, weights
from tinyhd_cli.errors import UsageError, WeightsError

CONFIG = models.spec("tinyhd-s-quarter")
DELETE = object()


class Base:
    """The parts of a sound weights file."""

    def __init__(self, data: bytes) -> None:
        length = int.from_bytes(data[:8], "little")
        self.header = json.loads(data[8 : 8 + length])
        self.facts = json.loads(self.header["__metadata__"]["tinyhd"])
        self.body = data[8 + length :]

    def file(self, facts=None, header=None, body=None, length=None):
        """Return the file with some parts replaced; facts and header may be values or text."""
        if facts is not None:
            text = facts if isinstance(facts, str) else json.dumps(facts)
            header = {**self.header, "__metadata__": {"tinyhd": text}}
        text = header if isinstance(header, str) else json.dumps(self.header if header is None else header)
        encoded = text.encode()
        size = len(encoded) if length is None else length
        return size.to_bytes(8, "little") + encoded + (self.body if body is None else body)

    def with_values(self, name, change):
        """Return the file without a digest, with the values of a tensor modified by ``change(array)``."""
        start, end = self.header[name]["data_offsets"]
        body = bytearray(self.body)
        values = np.frombuffer(bytes(body[start:end]), "<f4").copy()
        change(values)
        body[start:end] = values.tobytes()
        return self.file({**self.facts, "tensors_sha256": ""}, body=bytes(body))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "sound.safetensors"
    weights.save(path, lively("tinyhd-s-quarter").state_dict(), CONFIG, name="mine", scores={"NSS": 1.5})
    return Base(path.read_bytes())


def facts(**changes):
    """Return a function that makes a file with other facts."""

    def make(base):
        changed = {**base.facts, **changes}
        return base.file({name: value for name, value in changed.items() if value is not DELETE})

    return make


def config(**changes):
    return lambda base: base.file({**base.facts, "config": {**base.facts["config"], **changes}})


def header(**changes):
    return lambda base: base.file(header={**base.header, **changes})


def tensor(name="fusion.bias", **changes):
    return lambda base: base.file(header={**base.header, name: {**base.header[name], **changes}})


def values(name, change):
    return lambda base: base.with_values(name, change)


def filled(number, where=slice(None)):
    return lambda array: array.__setitem__(where, number)


def flipped(base):
    body = bytearray(base.body)
    body[len(body) // 2] ^= 1
    return base.file(body=bytes(body))


def twice(base):
    text = json.dumps(base.header)
    return base.file(header=f'{text[:-1]}, "fusion.bias": {json.dumps(base.header["fusion.bias"])}}}')


def all_zero(base):
    return base.file({**base.facts, "tensors_sha256": ""}, body=bytes(len(base.body)))


DEEP = "[" * 100_000 + "]" * 100_000
FACTS, DAMAGED = "not a description of weights: ", "damaged, or not a safetensors file"
SIZE, MEAN, STD = "input_size must be 2 whole numbers", "mean must be 3 numbers", "std must be 3 numbers"
SIDES = "both sides must be multiples of 32 from 64 to 1024"
METADATA, NO_METADATA = "the tinyhd metadata is damaged", "without tinyhd's metadata"
VARIANCE = "encoder.stem.norm.running_var"

BAD = {
    # the metadata
    "null": (lambda base: base.file("null"), FACTS + "it must be a table"),
    "a number": (lambda base: base.file("3"), FACTS + "it must be a table"),
    "a list": (lambda base: base.file("[1, 2]"), FACTS + "it must be a table"),
    "a text": (lambda base: base.file('"x"'), FACTS + "it must be a table"),
    "no JSON": (lambda base: base.file("{name: mine}"), METADATA),
    "nothing": (lambda base: base.file(""), METADATA),
    "deep": (lambda base: base.file(DEEP), METADATA),
    "deep dicts": (lambda base: base.file('{"a":' * 100_000 + "1" + "}" * 100_000), METADATA),
    "rather deep": (facts(provenance=json.loads("[" * 90 + "]" * 90)), METADATA),
    "a key twice": (lambda base: base.file('{"name": "a", ' + json.dumps(base.facts)[1:]), METADATA),
    "no name": (facts(name=DELETE), FACTS + "'name' is missing"),
    "no config": (facts(config=DELETE), FACTS + "'config' is missing"),
    "name null": (facts(name=None), "name must be a text of 1 to 200 characters, not None"),
    "name empty": (facts(name=""), "name must be a text of 1 to 200 characters, not ''"),
    "name long": (facts(name="x" * 10**6), "name must be a text of 1 to 200 characters, not 'xxx"),
    "name hostile": (facts(name=["\x1b[2J\n"]), r"name must be a text of 1 to 200 characters, not ['\x1b[2J\n']"),
    "config null": (facts(config=None), "configuration must be a table"),
    "config list": (facts(config=[1]), "configuration must be a table"),
    "architecture": (config(architecture="vgg"), "the model family 'vgg' is not installed here"),
    "architecture list": (config(architecture=["tinyhd"]), "not installed here"),
    "architecture hostile": (config(architecture="\x1b]0;x\x07"), r"the model family '\x1b]0;x\x07' is not installed"),
    "outputs": (config(outputs="many"), "outputs must be single or multi"),
    "outputs list": (config(outputs=["single"]), "outputs must be single or multi"),
    "width": (config(width=4), "width must be one of full, half, quarter"),
    "width list": (config(width=[]), "width must be one of full, half, quarter"),
    "decoders text": (config(decoders="d1"), "decoders must be a list of at most 8 names"),
    "decoders none": (config(decoders=[]), "decoders must be taken from d1, d2, d3"),
    "decoders many": (config(decoders=["d1"] * 10**5), "decoders must be a list of at most 8 names"),
    "decoders nested": (config(decoders=[["d1"]]), "decoders must be taken from d1, d2, d3"),
    "config unknown": (config(depth=3), "tinyhd-m has no option 'depth'"),
    "size huge": (facts(input_size=[10**5, 10**5]), SIDES),
    "size large": (facts(input_size=[4000, 4000]), SIDES),
    "size 1": (facts(input_size=[1, 1]), SIDES),
    "size 0": (facts(input_size=[0, 0]), SIDES),
    "size 100": (facts(input_size=[100, 100]), SIDES),
    "size negative": (facts(input_size=[-192, 256]), "input_size must be a whole number, not -192"),
    "size half": (facts(input_size=[192.5, 256]), "input_size must be a whole number, not 192.5"),
    "size infinite": (facts(input_size=[float("inf"), 256]), "input_size must be a whole number, not inf"),
    "size true": (facts(input_size=[True, True]), "input_size must be a whole number, not True"),
    "size text": (facts(input_size=["192", "256"]), "input_size must be a whole number, not '192'"),
    "size beyond": (facts(input_size=[10**30, 256]), "input_size must be a whole number"),
    "size of one": (facts(input_size=[192]), SIZE),
    "size a number": (facts(input_size=192), SIZE),
    "size null": (facts(input_size=None), SIZE),
    "mean NaN": (facts(mean=[float("nan"), 0, 0]), MEAN),
    "mean infinite": (facts(mean=[0, float("inf"), 0]), MEAN),
    "mean huge": (facts(mean=[1e30, 0, 0]), MEAN),
    "mean of 0..255": (facts(mean=[123.7, 116.3, 103.5]), MEAN),
    "mean beyond": (lambda base: base.file(json.dumps({**base.facts, "mean": [10**400, 0, 0]})), MEAN),
    "mean text": (facts(mean="0.5"), MEAN),
    "mean of two": (facts(mean=[0.5, 0.5]), MEAN),
    "std zero": (facts(std=[0.2, 0, 0.2]), STD),
    "std tiny": (facts(std=[1e-30] * 3), STD),
    "std negative": (facts(std=[-0.2] * 3), STD),
    "std infinite": (facts(std=[float("inf")] * 3), STD),
    "std nested": (facts(std=[[0.2]] * 3), STD),
    "scores list": (facts(scores=[1]), "scores must be a table"),
    "scores NaN": (facts(scores={"NSS": float("nan")}), "scores must be a number"),
    "scores text": (facts(scores={"NSS": "high"}), "scores must be a number"),
    "scores many": (facts(scores={str(i): 1 for i in range(1000)}), "scores must be a table of at most 100"),
    "parameters": (facts(parameters="many"), "parameters must be a whole number"),
    "license": (facts(license=3), "license must be a text"),
    "provenance": (facts(provenance={"command": None}), "provenance must be a text"),
    "hub": (facts(hub=3), "hub must be a table"),
    "file": (facts(file="../../etc/passwd"), "file must be a plain file name"),
    "sha256": (facts(upstream_sha256="zz"), "upstream_sha256 must be 64 hexadecimal digits"),
    "digest": (facts(tensors_sha256=5), "tensors_sha256 must be 64 hexadecimal digits"),
    # the safetensors format
    "length beyond": (lambda base: base.file(length=2**63), DAMAGED),
    "length large": (lambda base: base.file(length=3 << 20), DAMAGED),
    "length short": (lambda base: base.file(length=100), DAMAGED),
    "header null": (lambda base: base.file(header="null"), DAMAGED),
    "header list": (lambda base: base.file(header="[]"), DAMAGED),
    "header deep": (lambda base: base.file(header=DEEP), DAMAGED),
    "tensor twice": (twice, DAMAGED),
    "metadata null": (header(__metadata__=None), NO_METADATA),
    "metadata list": (header(__metadata__=["tinyhd"]), NO_METADATA),
    "metadata number": (header(__metadata__=3), NO_METADATA),
    "metadata no text": (header(__metadata__={"tinyhd": None}), METADATA),
    "tensor null": (header(**{"fusion.bias": None}), DAMAGED),
    "offsets beyond": (tensor(data_offsets=[0, 10**12]), "damaged"),
    "offsets reversed": (tensor(data_offsets=[100, 0]), "damaged"),
    "offsets text": (tensor(data_offsets="ab"), DAMAGED),
    "type unknown": (tensor(dtype="F1"), "damaged"),
    "shape claim": (tensor(shape=[10**12]), "damaged"),
    "shape null": (tensor(shape=None), "damaged"),
    # the tensors
    "bit flipped": (flipped, "the tensors do not match the digest in the metadata"),
    "cut": (lambda base: base.file(body=base.body[:-1000]), "damaged"),
    "NaN": (values("fusion.bias", filled(np.nan)), "'fusion.bias' contains NaN or infinity"),
    "infinity": (values(VARIANCE, filled(np.inf, 0)), f"'{VARIANCE}' contains NaN or infinity"),
    "zeros": (all_zero, "all tensors are zero"),
    "negative variance": (values(VARIANCE, filled(-0.5, 3)), f"'{VARIANCE}' contains negative variances"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tinyhd, capsys, base, kind):
    make, said = BAD[kind]
    Path("bad.safetensors").write_bytes(make(base))
    assert tinyhd("weights", "convert", "bad.safetensors", "--out", "new.safetensors") == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tinyhd: bad.safetensors: ") and err.count("\n") == 1 and len(err) < 400
    assert said in err
    assert [path.name for path in Path().iterdir()] == ["bad.safetensors"]


def test_the_base_is_sound(tinyhd, base):
    for number, data in enumerate((base.file(), base.file({**base.facts, "tensors_sha256": ""}))):
        Path(f"{number}.safetensors").write_bytes(data)
        assert tinyhd("weights", "convert", f"{number}.safetensors", "--out", f"new{number}.safetensors") == 0
    assert Path("new0.safetensors").read_bytes() == Path("new1.safetensors").read_bytes()


@pytest.mark.parametrize("command", [["predict", "clip.mp4", "--npz", "o.npz"], ["predict", "clip.mp4", "-o", "o.mp4"]])
def test_bad_files_in_predict(tinyhd, capsys, base, command):
    clips.make(Path("clip.mp4"), frames=2)
    Path("bad.safetensors").write_bytes(flipped(base))
    assert tinyhd(*command, "--weights", "bad.safetensors") == 4
    assert "do not match the digest" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["bad.safetensors", "clip.mp4"]


def test_verify_uses_the_digest(tinyhd, capsys, base):
    Path("a.safetensors").write_bytes(base.file())
    Path("b.safetensors").write_bytes(flipped(base))
    Path("c.safetensors").write_bytes(base.file({**base.facts, "tensors_sha256": ""}))
    assert tinyhd("weights", "verify", "a.safetensors", "c.safetensors") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "ok            a.safetensors"
    assert second.startswith("unknown hash  c.safetensors  sha256 ")
    assert tinyhd("weights", "verify", "a.safetensors", "b.safetensors") == 4
    assert capsys.readouterr().out.splitlines()[1].startswith("wrong hash    b.safetensors  sha256 ")


def test_half_precision_has_another_digest(tmp_path, base):
    """The digest is computed from the stored tensors, before conversion to float32."""
    state = {
        name: t.half() if t.is_floating_point() else t for name, t in lively("tinyhd-s-quarter").state_dict().items()
    }
    info = weights.save(tmp_path / "half.safetensors", state, CONFIG)
    assert info.tensors_sha256 not in ("", base.facts["tensors_sha256"])
    assert weights.load(tmp_path / "half.safetensors").info.tensors_sha256 == info.tensors_sha256
    assert weights.verify(tmp_path / "half.safetensors").state == "ok"


def test_text_in_a_file_cannot_forge_lines(tinyhd, capsys, base):
    name = "mine\nsha256          0000\x1b[31m\u202e"
    Path("forged.safetensors").write_bytes(base.file({**base.facts, "name": name, "license": "MIT\r\nsize 3"}))
    assert tinyhd("weights", "info", "forged.safetensors") == 0
    out = capsys.readouterr().out
    assert out.isprintable() or set(out) - {"\n"} <= set(filter(str.isprintable, out))
    assert r"name            mine\nsha256          0000\x1b[31m\u202e" in out.splitlines()
    assert sum(line.startswith("sha256") for line in out.splitlines()) == 1
    from tinyhd_cli.weights.model_card import model_card

    card = model_card(weights.load("forged.safetensors").info, "forged.safetensors", "me/mine")
    assert r"# mine\nsha256          0000\x1b[31m\u202e" in card.splitlines()


def test_markup_in_the_registry_is_text(tinyhd, capsys, monkeypatch):
    entry = 'config = { architecture = "hd2s" }\nlicense = "[red]MIT[/] :smile:"\n'
    Path("registry.toml").write_text(f'default = "hd2s"\n[weights."hd2s.x"]\n{entry}', encoding="utf-8")
    monkeypatch.setenv("TINYHD_REGISTRY", "registry.toml")
    assert tinyhd("weights", "list") == 0
    assert "[red]MIT[/] :smile:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = " + DEEP, "nested more than 64 levels deep"),
        ("weights = 3", "must be tables"),
        ("weights = []", "must be tables"),
        ("defaults = 'x'\n[weights.a]", "must be tables"),
        ("[weights]\na = 3", "a: not a description of weights: it must be a table"),
        ("[weights.a]\nhub = 3\nconfig = 4", "configuration must be a table"),
        ("[weights.a]\nhub = 3\nconfig = {architecture='hd2s'}", "hub must be a table of repo, filename and revision"),
        ("[weights.a]\nhub = {repo='a/b/c'}\nconfig = {architecture='hd2s'}", "must be a Hub repository"),
        ("[weights.a]\nfile = '../x'\nconfig = {architecture='hd2s'}", "file must be a plain file name"),
        ("[weights.a]\nbytes = 'x'\nconfig = {architecture='hd2s'}", "bytes must be a whole number"),
        ("[weights.a]\ninput_size = [1024, 1024]\nconfig = {architecture='hd2s'}", "from 64 to 512"),
    ],
)
def test_bad_registries(tinyhd, capsys, monkeypatch, text, said):
    Path("registry.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("TINYHD_REGISTRY", "registry.toml")
    assert tinyhd("weights", "list") == 4
    err = capsys.readouterr().err
    assert said in err and err.startswith("tinyhd: registry.toml") and err.count("\n") == 1


def with_tensors(path, network, **changes):
    """Write the weights file of a network, with some tensors filled with a number."""
    state = network.state_dict()
    for name, number in changes.items():
        state[name.replace("__", ".")].fill_(number)
    weights.save(path, state, network.spec, input_size=(64, 64))
    return path


def test_maps_that_are_not_finite_are_never_written(tinyhd, capsys):
    clips.make(Path("clip.mp4"), frames=2)
    bad = with_tensors(
        "bad.safetensors", lively(), encoder__stem__norm__weight=3e38, encoder__stem__norm__running_var=0
    )
    assert tinyhd("predict", "clip.mp4", "--weights", bad, "--engine", "torch", "--npz", "o.npz", "--csv", "o.csv") == 4
    err = capsys.readouterr().err
    assert err == "tinyhd: tinyhd-m-quarter: the saliency maps contain NaN or infinity; use other weights\n"
    assert sorted(path.name for path in Path().iterdir()) == ["bad.safetensors", "clip.mp4"]


def test_a_constant_map_is_reported_once_per_video(tinyhd, capsys):
    for name in "ab":
        clips.make(Path(f"{name}.mp4"), frames=40)
    flat = with_tensors("flat.safetensors", lively(), fusion__weight=0)
    assert tinyhd("predict", "a.mp4", "b.mp4", "--weights", flat, "--engine", "torch", "--csv", "{name}.csv") == 0
    assert capsys.readouterr().err.count("a saliency map is constant") == 2


def test_input_sizes_of_training_match_those_of_weights(tmp_path):
    from tinyhd_cli.training.options import TrainConfig

    for size in ((64, 64), (1024, 1024)):
        TrainConfig(out=tmp_path, size=size)
    with pytest.raises(UsageError, match="--size: an input of 1056x64 pixels: both sides must be multiples of 32"):
        TrainConfig(out=tmp_path, size=(1056, 64))


def test_values_are_checked_by_the_python_api(tmp_path, base):
    (tmp_path / "bad.safetensors").write_bytes(values("fusion.weight", filled(torch.nan))(base))
    with pytest.raises(WeightsError, match="NaN or infinity"):
        weights.load(tmp_path / "bad.safetensors")


def test_info_and_verify_refuse_damaged_files_and_other_files(tinyhd, capsys, base):
    Path("flipped.safetensors").write_bytes(flipped(base))
    Path("half.safetensors").write_bytes(base.file()[: len(base.file()) // 2])
    clips.make(Path("clip.mp4"), frames=2)
    for command, name, code, message in (
        ("info", "flipped.safetensors", 4, "the tensors do not match the digest"),
        ("info", "half.safetensors", 4, "damaged"),
        ("verify", "half.safetensors", 4, ""),
        ("verify", "clip.mp4", 4, "clip.mp4: "),
    ):
        assert tinyhd("weights", command, name) == code, (command, name)
        said = capsys.readouterr()
        assert message in said.err
        assert "scores" not in said.out
