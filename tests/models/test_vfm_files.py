"""Backbones on the Hub and in folders: found once, pinned, checked, and refused with one line if unusable."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from helpers import video_backbones
from helpers.hub_server import HubServer
from helpers.training_data import labeled_videos

from tinyhd_cli import models, weights
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models.families import vfm
from tinyhd_cli.models.families.vfm import files
from tinyhd_cli.training import checkpoints

REPO = "acme/tiny-vjepa2"
CARD = b"---\ntags: [video]\nlicense: cc-by-nc-4.0\n---\n# A backbone\n"


@pytest.fixture(autouse=True)
def fresh():
    files.find_backbone.cache_clear()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return a server with a backbone, set as the Hub of this process."""
    with HubServer() as server:
        server.use(monkeypatch, tmp_path / "hf")
        for name, data in (video_backbones.content() | {"README.md": CARD}).items():
            server.put(REPO, name, data)
        yield server


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return labeled_videos(tmp_path_factory.mktemp("videos"))


def train(tinyhd, capsys, videos, *options):
    """Run ``tinyhd train``; return the exit code and the lines on stderr."""
    common = ("--model", "vfm", "--data", videos, "--set", "decoder_width=128", "--device", "cpu", "--workers", "0")
    code = tinyhd("train", *common, *options)
    return code, capsys.readouterr().err.splitlines()


def spec(backbone=REPO, **options):
    return models.named_spec("vfm", backbone=backbone, decoder_width=128, **options)


def blob(name: str = "model.safetensors") -> Path:
    return files.find_backbone(REPO, "main").files.find(name).resolve()


# ------------------------------------------------------------------------------------------------------- with the Hub


def test_train_and_predict(hub, tinyhd, capsys, videos, tmp_path, monkeypatch):
    """From the Hub to a weights file, then to maps, without a connection."""
    out = tmp_path / "run"
    options = ("--backbone", REPO, "--lora-rank", "2", "--lora-alpha", "6", "--steps", "2", "--batch-size", "1")
    code, said = train(tinyhd, capsys, videos, *options, "--out", out, "--ema", "0.5")
    assert code == 0, said
    commit = hub.repos[REPO].commit_hash("main")
    assert said[0] == f"backbone {REPO} at {commit[:12]} (V-JEPA 2): license cc-by-nc-4.0"
    assert all(path.startswith(f"/{REPO}/resolve/") for _, path, _ in hub.requests)  # nothing but its files
    requested = [path for method, path, _ in hub.requests if method == "GET"]
    assert sum(path.endswith("/model.safetensors") for path in requested) == 1
    loaded = weights.load(out / "best.safetensors")
    assert {name: loaded.spec.options[name] for name in ("backbone", "revision", "lora_rank", "lora_alpha")} == {
        "backbone": REPO,
        "revision": commit,
        "lora_rank": 2,
        "lora_alpha": 6,
    }
    assert loaded.spec.options["sha256"] == blob().name
    last, _ = checkpoints.read(out)
    for name in (name for name in loaded.state_dict if "lora_B" in name):  # 0 at the start
        assert 0 < float(loaded.state_dict[name].norm()) < float(last.model[name].norm()), name
    assert loaded.info.provenance["pretrained"] == said[0]
    assert "license cc-by-nc-4.0" in (out / "README.md").read_text("utf-8")
    assert tinyhd("weights", "info", out / "best.safetensors") == 0
    shown = capsys.readouterr().out
    assert f"pretrained      {said[0]}\n" in shown
    assert f"backbone={REPO}, revision={commit}, sha256={blob().name}, config_sha256=" in shown
    assert "frames=8, lora_rank=2" in shown

    hub.stop()
    files.find_backbone.cache_clear()
    video = videos / "v0" / "images"
    options = ("--weights", out / "best.safetensors", "--device", "cpu", "--engine", "torch", "-q")
    assert tinyhd("predict", video, *options, "--npz", tmp_path / "maps.npz") == 0, capsys.readouterr().err
    assert (tmp_path / "maps.npz").stat().st_size > 20 * 64 * 64
    # The run goes on from its checkpoint, without a connection, too.
    same = ("--backbone", REPO, "--revision", "main")
    code, said = train(tinyhd, capsys, videos, *same, "--out", out, "--extend", "--steps", "3")
    assert code == 0, said

    other = video_backbones.write(tmp_path / "other", seed=4)
    code, said = train(
        tinyhd, capsys, videos, "--backbone", other, "--batch-size", "1", "--init", out / "best.safetensors"
    )
    assert code == 4
    digest = files.find_backbone(str(other), "main").sha256
    assert said[-1].endswith(f": contains vfm ({REPO}, {commit[:7]}), not vfm ({other}, {digest[:7]})")

    options = ("--data", videos, "--out", out, "--device", "cpu")
    assert tinyhd("train", "--model", "tinyhd-s-quarter", *options, "--resume") == 2
    expected = f"tinyhd: --resume: {out} is a run of vfm, not tinyhd-s-quarter; name another run with --out\n"
    assert capsys.readouterr().err == expected


def test_the_license_of_a_teacher(hub, tinyhd, capsys, videos, tmp_path):
    """It is shown and stored when a student learns from the teacher, and when that student is trained further."""
    network = models.build(spec(lora_rank=2))
    line = f"backbone {REPO} (V-JEPA 2): license cc-by-nc-4.0"
    weights.save(tmp_path / "t.safetensors", network.state_dict(), network.spec, provenance={"pretrained": line})
    common = "--size 64x64 --workers 0 --steps 1 --batch-size 1 --quiet --device cpu".split()
    data = ("--data", videos, *common)
    run = ("--model", "tinyhd-m-quarter", *data)
    options = ("--teacher", tmp_path / "t.safetensors", "--out", tmp_path / "a", "--init", "none")
    code, said = tinyhd("distill", *run, *options), capsys.readouterr().err.splitlines()
    assert (code, said) == (0, [f"--teacher {tmp_path}/t.safetensors: {line}"])
    student = tmp_path / "a" / "best.safetensors"
    assert weights.load(student).info.provenance["pretrained"] == line
    assert line in (tmp_path / "a" / "README.md").read_text("utf-8")
    code = tinyhd("train", *run, "--init", student, "--out", tmp_path / "b")
    assert (code, capsys.readouterr().err.splitlines()) == (0, [f"--init {student}: {line}"])
    assert weights.load(tmp_path / "b" / "best.safetensors").info.provenance["pretrained"] == line

    options = ("--teacher", student, "--backbone", REPO, "--lora-rank", "0", "--hint", "1", "--out", tmp_path / "c")
    code = tinyhd("distill", "--model", "vfm", "--set", "decoder_width=128", *data, *options)
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert said[-1].startswith(
        "tinyhd: --hint: with these options, the layers of vfm that make its features are not tr"
    )
    assert not (tmp_path / "c" / "best.safetensors").exists()


def test_specs_of_weights_files_need_no_hub(hub):
    found = spec()
    requests = len(hub.requests)
    assert models.from_dict(found.to_dict()) == found
    assert len(hub.requests) == requests


def test_a_revision_is_pinned(hub):
    """Weights that were trained on a revision use it, whatever the branch contains later."""
    hub.repos[REPO].branches["v1"] = dict(hub.repos[REPO].branches["main"])
    trained = spec(revision="v1")
    files.find_backbone.cache_clear()
    for name, data in video_backbones.content(seed=7).items():
        hub.put(REPO, name, data)
    assert spec().options["sha256"] != trained.options["sha256"]
    assert models.build(trained).spec == trained


def test_an_altered_file_is_found(hub):
    found = spec()
    models.build(found)
    path = blob()
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"is damaged or altered \(its sha256 is wrong\); delete it and run"):
        models.build(found)


def test_weights_in_parts(hub, tmp_path):
    """Large models have several files and an index."""
    folder = video_backbones.write(tmp_path / "whole")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    parts = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for index, (name, tensor) in enumerate(sorted(tensors.items())):
        parts[list(parts)[index % 2]][name] = tensor
    (folder / "model.safetensors").unlink()
    for name, some in parts.items():
        save_file(some, folder / name, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: part for part, some in parts.items() for name in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in folder.iterdir():
        hub.put("acme/parts", path.name, path.read_bytes())
    in_parts = models.build(spec("acme/parts"))
    for name, value in in_parts.backbone.model.named_parameters():
        if "lora" not in name:
            assert torch.equal(value, tensors[f"encoder.{name.replace('.base_layer', '')}"]), name
    assert spec(str(folder)).options["sha256"] == spec("acme/parts").options["sha256"]


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({}, ("--backbone", "acme/nothing"), "the Hub has no public repository acme/nothing with the revision main"),
        ({}, ("--revision", "gone"), "has no public repository acme/tiny-vjepa2 with the revision gone; check"),
        ({"config.json": b'{"model_type": "bert"}'}, (), "a model of type 'bert', not a video model with an adapter"),
        ({"config.json": b"{"}, (), "config.json cannot be read: Expecting property name"),
        ({"config.json": None}, (), "has no config.json, so it is not a model of transformers"),
        ({"model.safetensors": None}, (), "has no weights (model.safetensors)"),
        ({"model.safetensors": b"not weights"}, (), "model.safetensors is damaged ("),
    ],
)
def test_backbones_that_cannot_be_used(hub, tinyhd, capsys, videos, tmp_path, changed, options, said):
    for name, data in changed.items():
        if data is None:
            del hub.repos[REPO].branches["main"][name]
        else:
            hub.put(REPO, name, data)
    options = (*(("--backbone", REPO) if "--backbone" not in options else ()), *options)
    code, lines = train(
        tinyhd, capsys, videos, *options, "--batch-size", "1", "--steps", "1", "--out", tmp_path / "run"
    )
    assert code == 4
    assert said in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("backbone acme/")
    assert not (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_connection(hub, tinyhd, capsys, videos, monkeypatch, offline):
    """With nothing cached, one line within seconds."""
    from huggingface_hub import constants

    hub.stop()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    begun = time.monotonic()
    code, lines = train(tinyhd, capsys, videos)
    assert (code, len(lines)) == (4, 1)
    assert time.monotonic() - begun < 5
    reason = "HF_HUB_OFFLINE is set; unset it" if offline else "cannot be reached"
    assert lines[0].startswith("tinyhd: backbone facebook/vjepa2-vitl-fpc64-256: not on this machine, and ")
    assert reason in lines[0]


def test_without_transformers(tinyhd, capsys, videos, monkeypatch):
    found = vfm.importlib.util.find_spec
    monkeypatch.setattr(vfm.importlib.util, "find_spec", lambda name: None if name in vfm.PACKAGES else found(name))
    line = "tinyhd: the network vfm needs transformers and peft: pip install 'tinyhd[vfm]'"
    assert train(tinyhd, capsys, videos) == (2, [line])
    assert tinyhd("predict", videos / "v0" / "images", "--model", "vfm") == 2
    assert capsys.readouterr().err.splitlines()[-1] == line
    with pytest.raises(UsageError, match="needs transformers"):
        models.create("vfm")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("sha256", "", "sha256, the digest of the backbone's weights, is missing"),
        ("config_sha256", "", "config_sha256, the digest of the backbone's configuration, is missing"),
        ("backbone", "acme/x", "revision, that of the backbone acme/x, is missing"),
    ],
)
def test_weights_files_that_do_not_identify_the_backbone(tmp_path, tinyhd, capsys, field, value, said):
    """Any backbone would be accepted, or the present state of a branch be downloaded."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    found = spec(str(video_backbones.write(tmp_path / "backbone")), lora_rank=0)
    path = tmp_path / "changed.safetensors"
    weights.save(path, models.build(found).state_dict(), found)
    with safe_open(path, "pt") as file:
        text = file.metadata()["tinyhd"].replace(json.dumps(found.options[field]), json.dumps(value))
        save_file({name: file.get_tensor(name) for name in file.keys()}, path, {"tinyhd": text})  # noqa: SIM118
    assert tinyhd("weights", "info", path) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("train", "--model", "vfm", "--lora-rank", "x"), "--lora-rank x: must be a whole number"),
        (("train", "--model", "vfm", "--lora-alpha", "0"), "--lora-alpha 0: must be a whole number from 1 to 4096"),
        (("train", "--model", "vfm", "--set", "lora_rank=x"), "--set lora_rank=x: must be a whole number"),
        (("train", "--backbone", "acme/x"), "--backbone: only for --model vfm, not tinyhd-m"),
        (("train", "--preset", "thtdnet", "--backbone", "acme/x"), "--backbone: only for --model vfm, not thtdnet"),
        (
            ("distill", "--preset", "thtdnet-kd", "--teacher", "x.safetensors", "--backbone", "acme/x"),
            "--backbone: only for --model vfm, not thtdnet; the backbone of a teacher is in its weights file",
        ),
    ],
)
def test_errors_name_the_option_that_was_given(tinyhd, capsys, videos, options, said):
    assert tinyhd(*options, "--data", videos) == 2
    assert capsys.readouterr().err == f"tinyhd: {said}\n"


def test_settings_that_would_be_ignored(tmp_path, monkeypatch):
    folder = video_backbones.write(tmp_path / "backbone")
    with pytest.raises(UsageError, match=r"--revision v1: only for repositories of the Hub; .*backbone is a folder"):
        spec(str(folder), revision="v1")
    found = spec(str(folder), revision="main")
    monkeypatch.setenv("TINYHD_BACKBONES", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"nowhere \(TINYHD_BACKBONES or tinyhd\.toml\): no such folder"):
        models.build(found)


def test_weights_of_another_class_are_incomplete(tmp_path):
    """Tensors that the weights lack would be random."""
    from safetensors.torch import load_file, save_file

    folder = video_backbones.write(tmp_path / "incomplete")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    said = r"its weights lack 'encoder\.layernorm\.weight'; use a complete V-JEPA 2 that save_pretrained wrote"
    with pytest.raises(WeightsError, match=said):
        models.build(spec(str(folder)))
    del tensors["encoder.layernorm.bias"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    files.find_backbone.cache_clear()
    with pytest.raises(WeightsError, match=r"lack 'encoder\.layernorm\.bias' and 1 more tensors; use a complete"):
        models.build(spec(str(folder)))


def test_an_adapter_in_the_folder_is_refused(tinyhd, capsys, videos, tmp_path):
    """Transformers would add it to the weights whose digest was checked."""
    folder = video_backbones.write(tmp_path / "adapted")
    (folder / "adapter_config.json").write_text("{}")
    code, lines = train(tinyhd, capsys, videos, "--backbone", folder, "--out", tmp_path / "run")
    assert (code, len(lines)) == (4, 1)
    assert "adapted: contains a PEFT adapter (adapter_config.json); merge it into the weights first" in lines[0]
    assert not (tmp_path / "run").exists()


def test_weights_of_a_model_with_text(tmp_path):
    """VideoPrism with text contains the video model, under longer names."""
    import transformers

    torch.manual_seed(0)
    text = transformers.VideoPrismTextConfig(hidden_size=48, num_attention_heads=2, num_hidden_layers=1, vocab_size=9)
    vision = transformers.VideoPrismVisionConfig(**video_backbones.KINDS["videoprism"][1])
    config = transformers.VideoPrismConfig(vision_config=vision.to_dict(), text_config=text.to_dict())
    model = transformers.VideoPrismClipModel(config).eval()
    model.save_pretrained(tmp_path / "clip")
    network = models.build(spec(str(tmp_path / "clip"), lora_rank=0)).eval()
    clip = torch.randn(1, 3, network.spec.clip_frames, *network.spec.input_size)
    with torch.no_grad():
        expected = model.video_model.vision_model(clip.transpose(1, 2)).last_hidden_state
        assert torch.allclose(network.backbone(clip).flatten(2).transpose(1, 2), expected, atol=1e-5)


def test_code_in_pickles_is_not_run(tmp_path):
    """Old repositories have only PyTorch files; they are read without running code."""
    folder = video_backbones.write(tmp_path / "old")
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    network = models.build(spec(str(folder), lora_rank=0))
    assert torch.equal(network.backbone.model.layernorm.weight, tensors["encoder.layernorm.weight"])

    ran = tmp_path / "ran"
    torch.save({**tensors, "epoch": 3}, folder / "pytorch_model.bin")
    files.find_backbone.cache_clear()
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin contains more than tensors"):
        models.build(spec(str(folder)))
    torch.save(Malicious(ran), folder / "pytorch_model.bin")
    files.find_backbone.cache_clear()
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin contains more than tensors, .*; use model\.saf"):
        models.build(spec(str(folder)))
    assert not ran.exists()


NAMED = {
    "attn_implementation": "acme/kernels",
    "_attn_implementation": "kernels-community/acme",
    "_attn_implementation_internal": "acme/kernels",
    "auto_map": {"AutoModel": "acme/code--model.Model"},
    "quantization_config": {"quant_method": "fp8"},
    "transformers_weights": "other.safetensors",
    "return_dict": False,
}
"""Fields of a configuration that transformers would use to download and run code, or to read other files."""


@pytest.mark.parametrize("kind", ["vjepa2", "videoprism", "nested"])
def test_code_that_a_configuration_names_is_not_run(tmp_path, kind):
    folder = video_backbones.write(tmp_path / "named", "videoprism" if kind == "nested" else kind)
    config = json.loads((folder / "config.json").read_text()) | NAMED
    if kind == "nested":
        config = {"model_type": "videoprism", "vision_config": config, **NAMED}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "other.safetensors").write_bytes(b"")
    found = spec(str(folder))
    network = models.build(found)
    with torch.device("meta"):
        without_values = models.build(found)
    for one in (network, without_values):
        implementations = {part.config._attn_implementation for part in one.modules() if hasattr(part, "config")}
        assert implementations == {"sdpa" if kind == "vjepa2" else "eager"}
    assert network(torch.zeros(1, 3, found.clip_frames, *found.input_size)).shape == (1, 1, *found.input_size)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 1}, r"contain 'encoder\.layer\.1\.[\w.]+', for which config\.json has no place \(fewer"),
        ({"qkv_bias": False}, r"contain 'encoder\.layer\.0\.attention\.key\.bias', for which config\.json has no"),
        ({"num_hidden_layers": 3}, r"its weights lack 'encoder\.layer\.2\.attention\.key\.bias'"),
        ({"hidden_size": 65536}, r"'encoder\.[\w.]+' has the shape \[.*48.*\], but config\.json implies \[.*65536"),
        ({"hidden_size": 96}, r": 'encoder\.[\w.]+' has the shape \[48\], but config\.json implies \[96\]; use the"),
        ({"hidden_act": "acme"}, r"V-JEPA 2 cannot be built from config\.json: .*acme"),
    ],
)
def test_configurations_of_other_weights(tmp_path, changes, said):
    """Layers that are left out, or new ones, would change the network silently."""
    folder = video_backbones.write(tmp_path / "backbone")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(WeightsError, match=said):
        models.build(spec(str(folder)))


def test_heads_of_other_tasks_are_left_out(tmp_path):
    """Published weights are often those of a class with a head, and with the name of the model before each name."""
    from safetensors.torch import load_file, save_file

    folder = video_backbones.write(tmp_path / "classifier", "videomae")
    expected = models.build(spec(str(folder), lora_rank=0)).backbone.state_dict()
    tensors = load_file(folder / "model.safetensors")
    named = {f"videomae.{name}": tensor for name, tensor in tensors.items()} | {"classifier.bias": torch.zeros(5)}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    files.find_backbone.cache_clear()
    found = models.build(spec(str(folder), lora_rank=0)).backbone.state_dict()
    assert len(found) > 20 and all(torch.equal(value, expected[name]) for name, value in found.items())
    save_file(named | {"videomae.encoder.layer.2.x": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    files.find_backbone.cache_clear()
    with pytest.raises(WeightsError, match=r"contain 'videomae\.encoder\.layer\.2\.x'|contain 'encoder\.layer\.2\.x'"):
        models.build(spec(str(folder)))


def test_truncated_weights(tmp_path):
    folder = video_backbones.write(tmp_path / "short")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"short/model\.safetensors is damaged \(.+\); restore it"):
        models.build(spec(str(folder)))


class Malicious:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
