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
from tinyhd_cli.models.spec import IMAGENET_MEAN, IMAGENET_STD

CONFIG = models.named_spec("tinyhd-s-quarter")
HALF = models.named_spec("tinyhd-s-half")
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


@pytest.fixture(scope="module")
def old_base(base):
    """The same file with the metadata of version 0.1: a configuration, and the network's input beside it."""
    old = Base(base.file())
    options = old.facts.pop("spec")["options"]
    old.facts["config"] = {"architecture": "tinyhd", **options}
    old.facts |= {"input_size": [192, 256], "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    return Base(old.file(old.facts))


def facts(**changes):
    """Return a function that makes a file with other facts."""

    def make(base):
        changed = {**base.facts, **changes}
        return base.file({name: value for name, value in changed.items() if value is not DELETE})

    return make


def config(**changes):
    return lambda base: base.file({**base.facts, "config": {**base.facts["config"], **changes}})


def spec(**changes):
    """Return a function that makes a file with other fields of the spec."""

    def make(base):
        changed = {**base.facts["spec"], **changes}
        return facts(spec={name: value for name, value in changed.items() if value is not DELETE})(base)

    return make


def part(name, **changes):
    """Return a function that makes a file with another ``preprocess`` or other ``options`` in its spec."""
    return lambda base: spec(**{name: {**base.facts["spec"][name], **changes}})(base)


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
FACTS, DAMAGED = "the metadata is invalid: ", "damaged, or not a safetensors file"
SIZE, MEAN, STD = "input_size must be 2 whole numbers", "mean must be 3 numbers", "std must be 3 numbers"
SIDES = "both sides must be multiples of 32 from 64 to 1024"
METADATA, NO_METADATA = "the tinyhd metadata is damaged", "without tinyhd's metadata"
VARIANCE = "encoder.stem.norm.running_var"

OLD_BAD = {
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
    "no config": (facts(config=DELETE), FACTS + "'spec' is missing"),
    "name null": (facts(name=None), "name must be a string of 1 to 200 characters, not None"),
    "name empty": (facts(name=""), "name must be a string of 1 to 200 characters, not ''"),
    "name long": (facts(name="x" * 10**6), "name must be a string of 1 to 200 characters, not 'xxx"),
    "name hostile": (facts(name=["\x1b[2J\n"]), r"name must be a string of 1 to 200 characters, not ['\x1b[2J\n']"),
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
    "decoders none": (config(decoders=[]), "decoders must be one or more of d1, d2, d3"),
    "decoders many": (config(decoders=["d1"] * 10**5), "decoders must be a list of at most 8 names"),
    "decoders nested": (config(decoders=[["d1"]]), "decoders must be one or more of d1, d2, d3"),
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
    "license": (facts(license=3), "license must be a string"),
    "provenance": (facts(provenance={"command": None}), "provenance must be a string"),
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


BAD = {
    "no spec": (facts(spec=DELETE), FACTS + "'spec' is missing"),
    "spec null": (facts(spec=None), "configuration must be a table"),
    "spec list": (facts(spec=[1]), "configuration must be a table"),
    "spec a number": (facts(spec=3), "configuration must be a table"),
    "spec an unknown name": (facts(spec="tinyhd-x"), "unknown model 'tinyhd-x'"),
    "spec empty": (facts(spec={}), "unknown model None"),
    "family unknown": (spec(family="vgg"), "the model family 'vgg' is not installed here; install the package"),
    "family hostile": (
        spec(family="\x1b]0;x\x07"),
        r"family must be 1 to 100 printable characters, not '\x1b]0;x\x07'",
    ),
    "family list": (spec(family=["tinyhd"]), "family must be 1 to 100 printable characters, not ['tinyhd']"),
    "family long": (spec(family="x" * 10**6), "family must be 1 to 100 printable characters, not 'xxx"),
    "no name of the network": (spec(name=DELETE), "'name' is missing"),
    "name null": (spec(name=None), "name must be 1 to 100 printable characters, not None"),
    "name hostile": (spec(name=["\x1b[2J\n"]), r"name must be 1 to 100 printable characters, not ['\x1b[2J\n']"),
    "clip of none": (spec(clip_frames=0, maps=0), "clip_frames must be from 1 to 512, not 0"),
    "clip huge": (spec(clip_frames=10**9, maps=1), "clip_frames must be from 1 to 512, not 1000000000"),
    "clip text": (spec(clip_frames="16"), "clip_frames must be from 1 to 512, not '16'"),
    "clip of another network": (spec(clip_frames=8), "clip_frames must be 16, not 8"),
    "maps neither": (spec(maps=3), "maps must be 1 or clip_frames (16), not 3"),
    "maps true": (spec(maps=True), "maps must be 1 or clip_frames (16), not True"),
    "maps of another network": (spec(maps=16), "maps must be 1, not 16"),
    "map after the clip": (spec(map_frame=16), "map_frame 16 is outside a clip of 16 frames"),
    "map before the clip": (spec(map_frame=-17), "map_frame -17 is outside a clip of 16 frames"),
    "map NaN": (spec(map_frame=float("nan")), "map_frame nan is outside a clip of 16 frames"),
    "size not a multiple": (spec(input_size=[100, 256]), "input_size 100x256: " + SIDES),
    "size beyond the limits": (spec(input_size=[2048, 2048]), "input_size 2048x2048: " + SIDES),
    "size of one": (spec(input_size=[192]), "input_size must be 2 whole numbers, not [192]"),
    "size infinite": (spec(input_size=[float("inf"), 256]), "input_size must be 2 whole numbers, not [inf, 256]"),
    "multiple of 0": (spec(size_multiple=0), "size_multiple must be at least 1, not 0"),
    "multiple null": (spec(size_multiple=None), "size_multiple must be at least 1, not None"),
    "limits reversed": (spec(side_limits=[1024, 64]), "side_limits must be from 1 to 4096, not (1024, 64)"),
    "limits huge": (spec(side_limits=[64, 10**6]), "side_limits must be from 1 to 4096, not (64, 1000000)"),
    "limits null": (spec(side_limits=None), "side_limits must be 2 whole numbers, not None"),
    "task": (spec(task="sound"), "task must be one of fixation, object, not 'sound'"),
    "task list": (spec(task=["fixation"]), "task must be one of fixation, object, not ['fixation']"),
    "preprocess null": (spec(preprocess=None), "preprocess must be a table, not None"),
    "preprocess list": (spec(preprocess=[1]), "preprocess must be a table, not [1]"),
    "mean of two": (part("preprocess", mean=[0.5, 0.5]), "preprocess: mean must be 3 numbers, not [0.5, 0.5]"),
    "mean NaN": (part("preprocess", mean=[float("nan"), 0, 0]), "preprocess: mean must be 3 numbers, not [nan, 0, 0]"),
    "mean of 0..255": (part("preprocess", mean=[124, 116, 104]), "preprocess: mean must be 3 numbers from -1 to 2"),
    "mean beyond": (part("preprocess", mean=[10**400, 0, 0]), "preprocess: mean must be 3 numbers, not [1000"),
    "std zero": (part("preprocess", std=[0.2, 0, 0.2]), "preprocess: std must be above 0, not (0.2, 0.0, 0.2)"),
    "std tiny": (part("preprocess", std=[1e-30] * 3), "preprocess: std must be 3 numbers from 0.001 to 10"),
    "resize": (part("preprocess", resize="lanczos"), "resize must be one of bilinear, area, bicubic, not 'lanczos'"),
    "resize list": (part("preprocess", resize=["area"]), "resize must be one of bilinear, area, bicubic, not ['area']"),
    "reduce": (part("preprocess", reduce_above=-1), "preprocess: reduce_above must be a number of pixels, not -1"),
    "options null": (spec(options=None), "options must be a table, not None"),
    "options list": (spec(options=[1]), "options must be a table, not [1]"),
    "options nested": (
        part("options", decoders=["d1", {"d2": 1}]),
        "options must be printable text, numbers, booleans or lists",
    ),
    "options deep": (part("options", decoders=json.loads("[" * 90 + "]" * 90)), METADATA),
    "options NaN": (
        part("options", width=float("nan")),
        "options must be printable text, numbers, booleans or lists of them",
    ),
    "options huge": (part("options", decoders=["d1"] * 10**5), "decoders must be a list of at most 8 names"),
    "options unknown": (part("options", depth=3), "has no option 'depth'"),
    "options wrong": (part("options", width=4), "width must be one of full, half, quarter"),
    "options unhashable": (part("options", outputs=["single"]), "outputs must be single or multi"),
    "options of another network": (part("options", width="half"), "name must be tinyhd-s-half, not tinyhd-s-quarter"),
    "another network": (spec(name="tinyhd-s-half", options=HALF.to_dict()["options"]), "not weights of tinyhd-s-half"),
    "name of another network's family": (spec(name="hd2s"), "tinyhd has no network 'hd2s'"),
    "name forged": (spec(name="a\nb"), r"name must be 1 to 100 printable characters, not 'a\nb'"),
    "options forged": (part("options", **{"a\x1b[2J": 1}), "options must be a table"),
    "option forged": (part("options", width="\u202e"), "options must be printable text, numbers, booleans or lists"),
    "name with escapes": (spec(name="\x1b[2J"), r"name must be 1 to 100 printable characters, not '\x1b["),
    "name with a line": (
        spec(name="tinyhd-m\nx"),
        r"name must be 1 to 100 printable characters, not 'tinyhd",
    ),
    "name of no network": (spec(name="mine"), "tinyhd has no network 'mine'"),
    "name of another network": (spec(name="tinyhd-m"), "name must be tinyhd-s-quarter, not tinyhd-m"),
    "name of another family": (spec(family="hd2s", options={}), "hd2s has no network 'tinyhd-s-quarter'"),
    "tensors of another family": (spec(family="hd2s", name="hd2s", options={}), "not weights of hd2s"),
    "clip of another family": (
        spec(family="hd2s", name="hd2s", options={}, clip_frames=512, maps=512),
        "clip_frames must be 16, not 512",
    ),
    "map of another frame": (spec(map_frame=0), "map_frame must be 15, not 0"),
    "a size with its own multiple": (spec(size_multiple=1, input_size=[101, 103]), "input_size 101x103: " + SIDES),
    "a size with its own limits": (
        spec(side_limits=[1, 4096], input_size=[4096, 4096]),
        "input_size 4096x4096: " + SIDES,
    ),
    "decoders hostile": (part("options", decoders=["\x1b[2J"]), "options must be printable text"),
    "many options": (part("options", **{f"o{i}": 1 for i in range(10**5)}), "has no option 'o0'"),
    "spec and config": (facts(config={"architecture": "tinyhd"}), "it has both 'config' and 'spec'"),
    "license twice": (facts(licence="MIT", license="MIT"), "it has both 'licence' and 'license'"),
    "size beside the spec": (facts(input_size=[100, 100]), SIDES),
}
"""Files with a wrong spec."""


def check_refused(tinyhd, capsys, data, said):
    """Check that a file is refused with one line that contains ``said``, and that nothing is written."""
    Path("bad.safetensors").write_bytes(data)
    assert tinyhd("weights", "convert", "bad.safetensors", "--out", "new.safetensors") == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tinyhd: bad.safetensors: ") and err.count("\n") == 1 and len(err) < 400
    assert said in err
    assert [path.name for path in Path().iterdir()] == ["bad.safetensors"]


@pytest.mark.parametrize("kind", OLD_BAD)
def test_bad_files_of_version_0_1(tinyhd, capsys, old_base, kind):
    make, said = OLD_BAD[kind]
    check_refused(tinyhd, capsys, make(old_base), said)


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tinyhd, capsys, base, kind):
    make, said = BAD[kind]
    check_refused(tinyhd, capsys, make(base), said)


def test_the_bases_are_sound(tinyhd, base, old_base):
    no_digest = base.file({**base.facts, "tensors_sha256": ""})
    later = spec(from_a_later_version=3)(base)
    for number, data in enumerate((base.file(), no_digest, old_base.file(), later)):
        Path(f"{number}.safetensors").write_bytes(data)
        assert tinyhd("weights", "convert", f"{number}.safetensors", "--out", f"new{number}.safetensors") == 0
        assert Path(f"new{number}.safetensors").read_bytes() == Path("new0.safetensors").read_bytes()


def test_files_of_version_0_1_keep_their_size_and_normalization(tmp_path, old_base):
    changed = {**old_base.facts, "input_size": [96, 128], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    (tmp_path / "old.safetensors").write_bytes(old_base.file(changed))
    loaded = weights.load(tmp_path / "old.safetensors")
    steps = models.Preprocess(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    assert loaded.spec == models.named_spec("tinyhd-s-quarter", input_size=(96, 128), preprocess=steps)


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
        ("[weights]\na = 3", "a: the metadata is invalid: it must be a table"),
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
    with pytest.raises(UsageError, match="--size: input_size 1056x64: both sides must be multiples of 32"):
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
