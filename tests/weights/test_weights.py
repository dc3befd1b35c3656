"""Weights by name and by file: the registry, the file format, damaged and hostile files, the command."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinyhd_cli import cli, models, weights
from tinyhd_cli.errors import OutputError, UsageError, WeightsError
from tinyhd_cli.models.registry import network_state

SHARED_FILES = {"d123m_rc4_rc1T.pth": "tinyhd-m-quarter.dhf1k", "d123s_rc4_rc1T.pth": "tinyhd-s-quarter.dhf1k"}


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No settings, no cache, and a log that propagates to pytest."""
    import huggingface_hub.constants

    for name in [name for name in os.environ if name.startswith("TINYHD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(logging.getLogger("tinyhd"), "propagate", True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Untrained weights of tinyhd-s-quarter."""
    torch.manual_seed(0)
    return models.create("tinyhd-s-quarter").state_dict()


CONFIG = models.named_spec("tinyhd-s-quarter")


@pytest.fixture
def file(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    """A sound weights file."""
    weights.save(tmp_path / "sound.safetensors", state, CONFIG, name="mine", license="MIT", scores={"NSS": 1.5})
    return tmp_path / "sound.safetensors"


def refusal(path: Path) -> str:
    """Return the one-line error for a file, without the path at its start."""
    with pytest.raises(WeightsError) as caught:
        weights.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


# The registry


PUBLISHED = [
    *[f"tinyhd-{outputs}{width}.dhf1k" for outputs in "ms" for width in ("", "-half", "-quarter")],
    *["tinyhd-m.ucf", "tinyhd-s.ucf", "hd2s.dhf1k"],
]


def test_every_entry_describes_its_network():
    entries = weights.registry()
    for name, info in entries.items():
        assert name.partition(".")[0] == info.spec.name
        with torch.device("meta"):
            network = models.build(info.spec)
        assert info.parameters == sum(parameter.numel() for parameter in network.parameters())
        known = models.named_spec(info.spec.name)
        assert (info.input_size, info.spec.preprocess) == (known.input_size, known.preprocess)
        assert info.license and info.training_data
        assert bool(info.bytes) == bool(info.sha256)
    for name in PUBLISHED:
        assert entries[name].upstream_file and entries[name].origin and entries[name].scores and entries[name].scores_on


def test_facts_that_are_easily_confused():
    entries = weights.registry()
    assert entries["tinyhd-m.dhf1k"].spec.options["decoders"] == ("d2", "d3", "d1")
    assert all(
        info.spec.options["decoders"] == ("d1", "d2", "d3")
        for name, info in entries.items()
        if name in PUBLISHED and name not in ("tinyhd-m.dhf1k", "hd2s.dhf1k")
    )
    assert entries["hd2s.dhf1k"].spec.preprocess.mean == (0.5, 0.5, 0.5)
    assert entries["hd2s.dhf1k"].license == "CC-BY-NC-4.0"
    assert "validation" in entries["tinyhd-m-half.dhf1k"].scores_on
    assert "test" in entries["tinyhd-s.dhf1k"].scores_on


def test_default_and_bare_names():
    assert weights.find(weights.default_name()).spec.name == "tinyhd-m-quarter"
    assert weights.find("tinyhd-m").name == "tinyhd-m.dhf1k"
    assert weights.find("tinyhd-m.ucf").name == "tinyhd-m.ucf"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("tinyhd-m-quater", "tinyhd-m-quarter"),
        ("TINYHD-S.UCF", "tinyhd-s.ucf"),
        ("hds2", "hd2s"),
        ("x", "choose from hd2s"),
    ],
)
def test_unknown_name(wrong: str, meant: str):
    with pytest.raises(UsageError, match=meant):
        weights.load(wrong)


@pytest.mark.parametrize("missing", ["no/such/tinyhd-m", "nothing.pth", "nothing.pt", "nothing.safetensors", Path("x")])
def test_missing_file_is_not_treated_as_a_name(missing: str | Path):
    with pytest.raises(WeightsError, match="no such file"):
        weights.load(missing)


def test_folder(tmp_path: Path):
    with pytest.raises(WeightsError, match="a folder, not a weights file"):
        weights.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml at all", "not a TOML file"),
        ('[weights."a.b"]\n', "a.b: the metadata is invalid: 'spec' is missing"),
        ('[weights."a.b"]\nconfig = {architecture = "tinyhd", width = "tenth"}\n', "width must be one of"),
        ('[weights."a.b"]\nconfig = {architecture = "hd2s"}\nmean = 3\n', "a.b: the metadata is invalid"),
        ('[weights."a.b"]\nconfig = {architecture = "hd2s"}\nstd = [1, 1, 0]\n', "std must be 3 numbers"),
    ],
)
def test_malformed_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str):
    (tmp_path / "registry.toml").write_text(text)
    monkeypatch.setenv("TINYHD_REGISTRY", str(tmp_path / "registry.toml"))
    with pytest.raises(WeightsError) as caught:
        weights.registry()
    assert said in str(caught.value) and "registry.toml" in str(caught.value)


OLD_DEFAULTS = """
[defaults]
input_size = [192, 256]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""
OLD_TINYHD = 'config = { architecture = "tinyhd", outputs = "single", width = "half", decoders = ["d2", "d1"] }\n'
OLD_HD2S = 'config = { architecture = "hd2s" }\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n'


@pytest.mark.parametrize(
    ("old", "new", "spec"),
    [
        (
            OLD_TINYHD,
            'spec = { name = "tinyhd-s-half", options = { decoders = ["d2", "d1"] } }\n',
            models.named_spec("tinyhd-s-half", decoders=("d2", "d1")),
        ),
        (OLD_HD2S, 'spec = "hd2s"\n', models.named_spec("hd2s")),
        (
            OLD_HD2S + "input_size = [96, 128]\n",
            'spec = { name = "hd2s", input_size = [96, 128] }\n',
            models.named_spec("hd2s", input_size=(96, 128)),
        ),
        (
            OLD_TINYHD + "mean = [0.4, 0.5, 0.6]\n",
            'spec = { name = "tinyhd-s-half", options = { decoders = ["d2", "d1"] } }\nmean = [0.4, 0.5, 0.6]\n',
            models.named_spec(
                "tinyhd-s-half", decoders=("d2", "d1"), preprocess=models.Preprocess(mean=(0.4, 0.5, 0.6))
            ),
        ),
    ],
    ids="options name size mean".split(),
)
def test_registries_of_version_0_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, spec: object):
    """They have the configuration of the network, and its input beside it."""
    monkeypatch.setenv("TINYHD_REGISTRY", str(tmp_path / "registry.toml"))
    for text in (f'{OLD_DEFAULTS}[weights."a.b"]\nlicence = "MIT"\n{old}', f'[weights."a.b"]\nlicense = "MIT"\n{new}'):
        (tmp_path / "registry.toml").write_text(text)
        info = weights.registry()["a.b"]
        assert (info.spec, info.license, info.input_size) == (spec, "MIT", spec.input_size)


# Weights files


def test_save_then_load(file: Path, state: dict[str, torch.Tensor]):
    checkpoint = weights.load(file)
    assert checkpoint.spec == CONFIG
    assert checkpoint.state_dict.keys() == state.keys()
    assert all(torch.equal(checkpoint.state_dict[name], tensor) for name, tensor in state.items())
    info = checkpoint.info
    assert (info.name, info.license, info.scores) == ("mine", "MIT", {"NSS": 1.5})
    assert (info.bytes, info.sha256) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    models.build(checkpoint.spec).load_state_dict(checkpoint.state_dict)


def test_same_tensors_same_bytes(file: Path, tmp_path: Path, state: dict[str, torch.Tensor]):
    backwards = dict(reversed(state.items()))
    facts = {"scores": {"NSS": 1.5}, "license": "MIT", "name": "mine"}
    weights.save(tmp_path / "again.safetensors", backwards, CONFIG, **facts)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_half_precision_loads_as_float32(tmp_path: Path, state: dict[str, torch.Tensor]):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    weights.save(tmp_path / "half.safetensors", half, CONFIG)
    assert load_file(tmp_path / "half.safetensors")["fusion.weight"].dtype == torch.float16
    loaded = weights.load(tmp_path / "half.safetensors").state_dict
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(loaded["fusion.weight"], state["fusion.weight"], rtol=1e-3, atol=1e-4)


def test_input_of_each_kind_of_network():
    assert weights.describe(models.named_spec("hd2s")).spec.preprocess.std == (0.5, 0.5, 0.5)
    assert weights.describe(CONFIG).spec.preprocess.mean == (0.485, 0.456, 0.406)


def test_tensors_of_another_network(tmp_path: Path, state: dict[str, torch.Tensor]):
    lies = {"name": "tinyhd-m-quarter", "config": models.named_spec("tinyhd-m-quarter").to_dict()}
    save_file(state, tmp_path / "lies.safetensors", {"tinyhd": json.dumps(lies)})
    assert refusal(tmp_path / "lies.safetensors").startswith("not weights of tinyhd-m-quarter")
    with pytest.raises(WeightsError, match="not weights of tinyhd-m-quarter"):
        weights.save(tmp_path / "new.safetensors", state, models.named_spec("tinyhd-m-quarter"))
    assert not (tmp_path / "new.safetensors").exists()


def test_missing_and_unknown_tensors(tmp_path: Path, state: dict[str, torch.Tensor]):
    metadata = {"tinyhd": json.dumps({"name": "x", "config": CONFIG.to_dict()})}
    save_file(
        {name: tensor for name, tensor in state.items() if name != "fusion.bias"}, tmp_path / "a.safetensors", metadata
    )
    assert "they lack 'fusion.bias'" in refusal(tmp_path / "a.safetensors")
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "b.safetensors", metadata)
    assert "unknown 'extra'" in refusal(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"tinyhd": "not json"}, {"tinyhd": "[]"}, {"tinyhd": '{"name": "x"}'}],
)
def test_safetensors_without_metadata_of_tinyhd(tmp_path: Path, metadata: dict[str, str] | None):
    save_file({"x": torch.zeros(1)}, tmp_path / "theirs.safetensors", metadata)
    said = refusal(tmp_path / "theirs.safetensors")
    assert "metadata" in said


@pytest.mark.parametrize("keep", [0, 4, 100, 50_000, -1])
def test_truncated_safetensors(file: Path, keep: int):
    file.write_bytes(file.read_bytes()[:keep])
    assert refusal(file).startswith("damaged" if keep else "empty file")


def test_text_named_safetensors(tmp_path: Path):
    (tmp_path / "text.safetensors").write_text("<html>Sign in to continue</html>" * 20)
    assert refusal(tmp_path / "text.safetensors").startswith("damaged, or not a safetensors file")


def test_target_must_be_safetensors(tmp_path: Path, state: dict[str, torch.Tensor]):
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        weights.save(tmp_path / "x.pth", state, CONFIG)


def test_failed_write_leaves_nothing(file: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch):
    before = file.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        weights.save(file, state, CONFIG)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before
    with pytest.raises(OutputError):
        weights.save(file / "inside_a_file.safetensors", state, CONFIG)


# Original files


class Bomb:
    """An object that creates a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("bombed",)


@pytest.mark.parametrize("way", ["zip", "legacy", "pickle", "pickle 4"])
def test_file_that_would_run_code_is_refused(tmp_path: Path, way: str):
    path = tmp_path / "bomb.pth"
    if way.startswith("pickle"):
        path.write_bytes(pickle.dumps({"student_model": Bomb()}, protocol=4 if "4" in way else 2))
    else:
        torch.save({"student_model": Bomb()}, path, _use_new_zipfile_serialization=way == "zip")
    said = refusal(path)
    assert not (tmp_path / "bombed").exists()
    if way in ("zip", "legacy"):
        code = f"refused: it contains more than tensors, and loading {os.name}.mkdir would run code"
        assert said == f"{code}; save only the network's state_dict()"


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"hello\n" * 99, b"<!DOCTYPE html>", b"version https://git-lfs", bytes(99)]
)
def test_not_a_pytorch_file(tmp_path: Path, content: bytes):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert refusal(path) == ("damaged, or not a PyTorch file of plain tensors" if content else "empty file")


@pytest.mark.parametrize(
    "value", [[1], torch.zeros(1), {}, {1: torch.zeros(1)}, {"student_model": {"a": torch.zeros(1)}}]
)
def test_pytorch_file_of_something_else(tmp_path: Path, value: object):
    torch.save(value, tmp_path / "other.pth")
    assert refusal(tmp_path / "other.pth").startswith("no known network: it contains ")


@pytest.mark.parametrize("name", SHARED_FILES)
def test_original_converts_to_exactly_the_registered_file(shared: Path, tmp_path: Path, name: str):
    known = weights.registry()[SHARED_FILES[name]]
    info = weights.convert(shared / "upstream" / name, tmp_path / "new.safetensors")
    assert (info.sha256, info.bytes) == (known.sha256, known.bytes)
    assert hashlib.sha256((tmp_path / "new.safetensors").read_bytes()).hexdigest() == known.sha256

    direct, converted = weights.load(shared / "upstream" / name), weights.load(tmp_path / "new.safetensors")
    assert direct.spec == converted.spec == known.spec
    assert direct.state_dict.keys() == converted.state_dict.keys()
    assert all(torch.equal(direct.state_dict[name], tensor) for name, tensor in converted.state_dict.items())
    assert weights.verify(tmp_path / "new.safetensors").state == "ok"
    assert weights.verify(shared / "upstream" / name).state == "ok"


def test_renamed_original_is_recognized_by_its_hash(shared: Path, tmp_path: Path):
    original = (shared / "upstream" / "d123m_rc4_rc1T.pth").read_bytes()
    (tmp_path / "downloaded.pt").write_bytes(original)
    assert weights.load(tmp_path / "downloaded.pt").info.name == "tinyhd-m-quarter.dhf1k"


def test_damaged_original(shared: Path, tmp_path: Path):
    original = bytearray((shared / "upstream" / "d123s_rc4_rc1T.pth").read_bytes())
    path = tmp_path / "d123s_rc4_rc1T.pth"
    path.write_bytes(original[: len(original) // 2])
    assert refusal(path) == "damaged, or not a PyTorch file of plain tensors"
    original[len(original) // 2] ^= 1
    path.write_bytes(original)
    assert refusal(path).endswith(" is wrong")
    assert weights.verify(path).state == "wrong hash"


def original_file(shared: Path, path: Path, network: str) -> Path:
    """Write an original file whose weights are all ones."""
    shapes = json.loads((shared / "upstream" / "state_dict_shapes.json").read_text())[network]
    torch.save({"student_model": {name: torch.ones(shape) for name, shape in shapes.items()}}, path)
    return path


@pytest.mark.parametrize(
    ("name", "order", "warned", "known"),
    [
        ("d1d2d3_M_lt.pth", ("d2", "d3", "d1"), False, "tinyhd-m.dhf1k"),
        ("ucf_d123m.pth", ("d1", "d2", "d3"), False, "tinyhd-m.ucf"),
        ("mine.pth", ("d1", "d2", "d3"), True, "tinyhd-m"),
    ],
)
def test_fusion_order_of_full_multi(
    shared: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    order: tuple[str],
    warned: bool,
    known: str,
):
    path = original_file(shared, tmp_path / name, "tinyhd-m-x1")
    checkpoint = weights.load(path)
    assert checkpoint.spec.options["decoders"] == order
    assert ("d1,d2,d3 assumed" in caplog.text) == warned
    # The name alone does not prove that the scores belong to these weights.
    assert (checkpoint.info.name, checkpoint.info.scores) == (known, {})

    caplog.clear()
    assert weights.load(path, decoders=["d3", "d1", "d2"]).spec.options["decoders"] == ("d3", "d1", "d2")
    assert not caplog.text


def test_order_override(shared: Path, tmp_path: Path):
    original = shared / "upstream" / "d123m_rc4_rc1T.pth"
    info = weights.convert(original, tmp_path / "x.safetensors", decoders=["d2", "d3", "d1"], name="other")
    assert (info.name, info.spec.options["decoders"], info.scores) == ("other", ("d2", "d3", "d1"), {})
    assert weights.load(tmp_path / "x.safetensors").spec == info.spec
    for wrong in (["d1"], ["d1", "d2", "d4"], ["d1", "d1", "d2"]):
        with pytest.raises(UsageError, match="--decoders must be d1,d2,d3 in some order"):
            weights.load(original, decoders=wrong)


def test_order_override_is_not_for_hd2s(tmp_path: Path):
    state = {
        name: torch.ones_like(tensor, device="cpu") for name, tensor in network_state(models.named_spec("hd2s")).items()
    }
    weights.save(tmp_path / "hd2s.safetensors", state, models.named_spec("hd2s"))
    with pytest.raises(UsageError, match="--decoders: hd2s has no such option"):
        weights.load(tmp_path / "hd2s.safetensors", decoders=["d1", "d2", "d3"])


# Embedded files and the command


@pytest.fixture
def embedded(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedded weights file with its registry."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    copy = folder / "here.safetensors"
    copy.write_bytes(file.read_bytes())
    (folder / "registry.toml").write_text(
        f"""
        default = "tinyhd-s-quarter"
        [weights."tinyhd-s-quarter.here"]
        config = {{ architecture = "tinyhd", outputs = "single", width = "quarter", decoders = ["d1", "d2", "d3"] }}
        file = "here.safetensors"
        sha256 = "{hashlib.sha256(copy.read_bytes()).hexdigest()}"
        license = "MIT"
        """,
    )
    monkeypatch.setenv("TINYHD_REGISTRY", str(folder / "registry.toml"))
    return copy


def test_embedded_file_needs_no_network(embedded: Path, monkeypatch: pytest.MonkeyPatch):
    import socket

    def no_network(*args: object) -> None:
        raise AssertionError("used the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    located = weights.locate("tinyhd-s-quarter")
    assert (located.path, located.source) == (embedded, "embedded")
    checkpoint = weights.load(weights.default_name())
    assert checkpoint.info.name == "tinyhd-s-quarter.here"  # the name in the registry, not in the file
    assert weights.pull("tinyhd-s-quarter", force=True) == embedded


def test_the_card_of_an_embedded_file(embedded: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["weights", "info", "tinyhd-s-quarter"]) == 0
    assert "How it was trained" not in capsys.readouterr().out
    embedded.with_suffix(".md").write_text("# Here\n\nHow it was trained.\n")
    assert cli.run(["weights", "info", "tinyhd-s-quarter"]) == 0
    assert capsys.readouterr().out.endswith("# Here\n\nHow it was trained.\n")


def test_embedded_file_with_the_wrong_hash(embedded: Path, capsys: pytest.CaptureFixture[str]):
    altered = bytearray(embedded.read_bytes())
    altered[-1] ^= 1
    embedded.write_bytes(altered)
    found = hashlib.sha256(altered).hexdigest()
    expected = weights.find("tinyhd-s-quarter").sha256
    with pytest.raises(WeightsError) as caught:
        weights.load("tinyhd-s-quarter")
    assert all(part in str(caught.value) for part in (str(embedded), found, expected, "install tinyhd again"))

    assert cli.run(["weights", "verify"]) == 4
    out, err = capsys.readouterr()
    assert out == f"wrong hash    tinyhd-s-quarter.here  {embedded}  sha256 {found}\n"
    assert err.count("\n") == 1


def test_list(embedded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert cli.run(["weights", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "tinyhd-s-quarter.here",
        "0",
        "2.2",
        "MB",
        "embedded",
        "MIT",
    ]
    monkeypatch.delenv("TINYHD_REGISTRY")
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(weights.registry())
    assert max(map(len, out.splitlines())) <= 80


def test_info(file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["weights", "info", "tinyhd-m"]) == 0
    out = capsys.readouterr().out
    assert "tinyhd-m.dhf1k" in out and "NSS 2.819" in out and "d2, d3, d1" in out and "not stated" in out

    assert cli.run(["weights", "info", str(file), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["spec"] == CONFIG.to_dict()
    assert (values["name"], values["where"], values["path"]) == ("mine", "file", str(file))
    assert values["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert values["parameters"] == 513_121

    assert cli.run(["weights", "info", "tinyhd-s.ucf", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["where"], values["path"]) == (None, None)


def test_convert_command(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    original, target = shared / "upstream" / "d123s_rc4_rc1T.pth", tmp_path / "new" / "s.safetensors"
    assert cli.run(["weights", "convert", str(original), "-o", str(target), "--name", "my-s"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{target}\n"
    assert "my-s" in err
    assert weights.load(target).info.name == "my-s"


def test_verify_command(file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["weights", "verify"]) == 0  # only the embedded files are on this machine
    found = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert found == [["ok", name] for name in ("tinyhd-m-quarter.v3", "uva-64.v1", "uva-32.v1", "stkd-lite.v1")]
    assert cli.run(["weights", "verify", str(file)]) == 0
    assert capsys.readouterr().out == f"ok            {file}\n"
    assert cli.run(["weights", "verify", str(file), "tinyhd-s"]) == 4
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "tinyhd weights pull tinyhd-s.dhf1k" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["info", "tinyhd-x"], 2),
        (["info", "missing.pth"], 4),
        (["pull", "tinyhd-x"], 2),
        (["verify", "missing.safetensors"], 4),
        (["convert", "missing.pth", "-o", "x.safetensors"], 4),
        (["convert", "sound.safetensors", "-o", "x.pth"], 2),
        (["convert", "sound.safetensors", "-o", "x.safetensors", "--decoders", "d1,d5"], 2),
        (["convert", "sound.safetensors", "-o", "sound.safetensors/x.safetensors"], 5),
        (["push", "mine.pth", "me/mine"], 2),
        (["nonsense"], 2),
    ],
)
def test_exit_codes(file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int):
    assert cli.run(["weights", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tinyhd: ")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
