"""Run the commands and programs of README, guides, and examples; check their options and links."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import yaml
from helpers import clips, study, tensorflow_checkpoints
from helpers import datasets_on_disk as on_disk
from helpers.checkpoints import with_original_names
from helpers.networks import lively
from helpers.tensorflow_checkpoints import dis_variables

from tinyhd_cli import weights
from tinyhd_cli.datasets import read_density, read_mask
from tinyhd_cli.models import create

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = PROJECT / "examples"
FAMILY_GUIDE = PROJECT / "docs" / "add-a-family.md"
PAGES = [PROJECT / "README.md", PROJECT / "weights" / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
"""README and guides."""

WRITTEN = {
    "README.md": "results/one_overlay.mp4 attention.csv report.html",
    "predict.md": "clip_overlay.mp4 out.mp4 out.npz out.csv out.json maps/0017.png results/two_attention.csv "
    "results/two/overlay.mp4 photo_overlay.png heat.webp photo_map.png out.gif",
    "objects.md": "clip_overlay.mp4 tint.mp4 masks/0017.png objects.csv objects.json photo_overlay.png object.webm "
    "object.mov pngs/0017.png cut/two_00002.png photo_cut.png tall.mp4 small.mp4 contour.mp4",
    "areas.md": "areas.png out.json",
    "compare.md": "compare.png edits.png compare.json compare.csv",
    "report.md": "report.html photo.html pages/one_report.html pages/summary.html pages/all.html",
    "crop.md": "vertical.mp4 vertical/two_crop.mp4 calm.mp4",
    "encode.md": "small.mp4 curves.png clip.roi",
    "live.md": "live.mp4",
    "gaze.md": "study/clip.mp4 study/maps/clip/0003.png study/fixation/clip/0003.png agreement.png gaze.mp4 "
    "results.json observers.csv",
    "evaluate.md": "scores.json objects.json frames.csv plots/scores.png plots/similarity.png submission.zip "
    "submission/0701/0002.png",
    "train-and-distill.md": "quarter.safetensors",
    "weights.md": "tinyhd-m-quarter.safetensors dis-32.safetensors out.npz",
    "speed.md": "out.npz reference.npz tinyhd.onnx tinyhd.xml",
}
"""Some files that the commands of each page write."""


def blocks(language, text):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands_in(page, language):
    """Return the tinyhd commands in blocks marked sh (to run), bash (to plan), or shell (to check only)."""
    text = re.sub(r"\\\n *", "", page.read_text(encoding="utf-8"))  # long commands are continued
    lines = [line for block in blocks(language, text) for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split(" | ") if part.strip().startswith("tinyhd ")]


RUN_EACH_TIME = ("README.md", "compare.md")
"""Pages whose commands are run each time; those of other pages are run by ``make test-slow``."""


def pages_with(language):
    found = [page for page in PAGES if commands_in(page, language) and page != FAMILY_GUIDE]
    assert found
    marks = [() if page.name in RUN_EACH_TIME else pytest.mark.slow for page in found]
    pages = [pytest.param(page, marks=mark) for page, mark in zip(found, marks, strict=True)]
    return pytest.mark.parametrize("page", pages, ids=[page.name for page in found])


@pytest.fixture
def readers_folder(tmp_path, monkeypatch, weights_file):
    """Return a folder with the files that the guides assume, and untrained default weights."""
    folder = tmp_path / "reader"
    (folder / "clips").mkdir(parents=True)
    clips.make(folder / "clip.mp4", frames=17, audio="aac")
    for name in ("one", "two"):
        clips.make(folder / "clips" / f"{name}.mp4", frames=2)
    for number in range(3):
        on_disk.write_image(folder / "frames" / f"{number}.png", clips.image(number, 64, 48))
    on_disk.dhf1k(folder / "DHF1K", {601: 3, 602: 2, 701: 2})
    on_disk.folder(folder / "recordings", {"park": 3, "street": 2}, "beside")
    on_disk.folder(folder / "objects", {"park": 3}, kinds=["masks"])
    for observer in range(1, 4):
        study.write_samples(folder / "exports" / f"P{observer}.csv", observer, 0.55, on_screen=True)
    for number in range(1, 4):
        on_disk.write_image(folder / "object_maps" / "park" / f"{number:04d}.png", on_disk.object_mask("park", number))
    for video, frames in (("0601", 3), ("0602", 2)):
        maps = folder / "DHF1K" / "annotation" / video / "maps"
        for number in range(1, frames + 1):
            on_disk.write_image(
                folder / "their_maps" / video / f"{number:04d}.png", read_density(maps / f"{number:04d}.png")
            )
    (folder / "mine.safetensors").write_bytes(weights_file.read_bytes())
    (folder / "registry.toml").write_text(
        'default = "tinyhd-m-quarter.v3"\n[weights."tinyhd-m-quarter.v3"]\nfile = "mine.safetensors"\n'
        'config = { architecture = "tinyhd", outputs = "multi", width = "quarter", decoders = ["d1", "d2", "d3"] }\n'
        '[weights."uva-64.v1"]\nfile = "uva.safetensors"\nspec = "uva-64"\n'
        '[weights."uva-32.v1"]\nfile = "uva.safetensors"\nspec = "uva-32"\n'
        '[weights."stkd-lite.v1"]\nfile = "objects.safetensors"\nspec = "stkd-lite"\n'
    )
    small = lively("uva-64")
    weights.save(folder / "uva.safetensors", small.state_dict(), small.spec)
    objects = lively("stkd-lite")
    weights.save(folder / "objects.safetensors", objects.state_dict(), objects.spec)
    on_disk.write_image(folder / "photo.jpg", clips.image(3, 64, 48))
    for number, name in enumerate(("old", "new")):
        on_disk.write_image(folder / f"{name}.png", clips.image(9 * number, 64, 48))
    (folder / "areas.json").write_text('{"units": "percent", "areas": [{"name": "cta", "box": [50, 40, 30, 40]}]}')
    # An original file has other tensor names; any network with these names will do here.
    torch.save({"student_model": with_original_names(lively())}, folder / "d123m_rc4_rc1T.pth")
    dis = dis_variables(create("dis-32").state_dict(), "fused")
    tensorflow_checkpoints.write(folder / "dis_32.ckpt-3000", dis)
    monkeypatch.setenv("TINYHD_REGISTRY", str(folder / "registry.toml"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def trainers_folder(readers_folder):
    """Return the same folder with photographs, masks, and weights files for training."""
    from helpers.objects import masked_videos
    from helpers.training_data import aux_videos, photographs

    photographs(Path("photos"), count=4)
    masked_videos(Path("composites"), count=4)
    aux_videos(Path("clips"), count=4)
    full = create("tinyhd-m")
    weights.save("full.safetensors", full.state_dict(), full.spec)
    save_folded(Path("mobilenet_v2_imagenet.npz"), full)
    torch.save({"student_model": with_original_names(lively("tinyhd-s-quarter"))}, "d123s_rc4_rc1T.pth")
    return readers_folder


def check_written(page):
    for name in WRITTEN.get(page.name, "").split():
        assert Path(name).stat().st_size, name


@pages_with("sh")
def test_commands(page, readers_folder, capsys):
    from tinyhd_cli import cli

    for command in commands_in(page, "sh"):
        arguments = shlex.split(command.replace("--duration 10", "--duration 1"))[1:]
        quiet = [] if arguments[0] in ("weights", "doctor") else ["--quiet"]
        assert cli.run([*arguments, *quiet]) == 0, (command, capsys.readouterr().err)
    check_written(page)


@pages_with("bash")
def test_training_commands(page, trainers_folder, capsys):
    """Plan each command on small data of the same form; channel reduction is fast enough to be run."""
    from tinyhd_cli import cli

    for command in commands_in(page, "bash"):
        arguments = shlex.split(command)[1:]
        planned = [] if arguments[0] == "reduce-channels" else ["--dry-run"]
        continues = {"--resume", "--extend"} & {*arguments}  # without a run, only the options are checked
        code = cli.run([*arguments, *planned])
        assert code == (3 if continues else 0), (command, capsys.readouterr().err)
    assert "expected time" in capsys.readouterr().out
    check_written(page)


def options_of(arguments):
    """Return the names of a command's options, and the arguments after the command."""
    from tinyhd_cli.cli import commands

    known = commands()
    command, *rest = arguments
    found = known[command]
    while hasattr(found, "commands") and rest:
        found, rest = found.commands[rest[0]], rest[1:]
    return {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}, rest


def check_options(command):
    names, rest = options_of(shlex.split(command)[1:])
    used = [argument.partition("=")[0] for argument in rest if re.match(r"--?[a-z]", argument)]
    assert set(used) <= names | {"--help"}, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page):
    """Also those that are not run, because they need a camera, a network connection, or minutes."""
    for language in ("sh", "bash", "shell"):
        for command in commands_in(page, language):
            check_options(command)


def test_commands_and_options_in_the_text():
    from tinyhd_cli.cli import commands

    known = {"--help", "--version", "--debug", "--json-log", "--config"}
    for name, command in commands().items():
        for arguments in [[name, sub] for sub in getattr(command, "commands", {})] or [[name]]:
            known |= options_of(arguments)[0]
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`([^`\n]+)`", prose):
            if re.match(r"tinyhd [a-z]", code) and "COMMAND" not in code:
                check_options(code)
            if not code.startswith(("pip ", "docker ")):
                assert {*re.findall(r"(?<![\w-])--[a-z][\w-]*", code)} <= known, (page.name, code)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "```python\n" in page.read_text("utf-8") and page != FAMILY_GUIDE],
    ids=lambda page: page.name,
)
def test_programs(page, readers_folder, capsys):
    from tinyhd_cli import VideoReader, cli, load_model, saliency_of

    if page.name == "speed.md":
        assert cli.run(["export", "--out", "tinyhd.onnx", "--quiet"]) == 0
    for block in blocks("python", page.read_text(encoding="utf-8")):
        names = {}
        exec(compile(block, page.name, "exec"), names)
    if page.name == "speed.md":  # the prepared frames and the maps are those of tinyhd
        model = load_model(engine="torch")
        with VideoReader("clip.mp4") as reader:
            frames = [model.prepare(frame.rgb()) for frame, _ in saliency_of(reader, model)][:16]
        np.testing.assert_allclose(names["saliency"][0], model.infer(np.stack(frames, 1)), atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    if page.name == "README.md":
        assert len(lines) == 17
        assert lines[-1].startswith("0.53 s: (192, 256), peak 0.")
    if page.name == "python.md":
        assert lines[0] == "tinyhd-m-quarter.v3 (192, 256)"
        assert len(lines) == 25  # with a table of five frames
        assert lines[-1].startswith("missing.mp4: ")
    if page.name == "evaluate.md":
        assert abs(float(lines[0])) < 0.1  # the CC of noise


@pytest.fixture
def plugin(trainers_folder, monkeypatch):
    """Install the package of the guide on families, with the metadata that pip would write."""
    from tinyhd_cli.models import registry

    site = trainers_folder / "site-packages"
    text = FAMILY_GUIDE.read_text(encoding="utf-8")
    for title, content in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
        (site / title).parent.mkdir(parents=True, exist_ok=True)
        (site / title).write_text(content)
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, entries),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(site)
    registry.plugins.cache_clear()
    yield project["name"]
    monkeypatch.undo()
    registry.plugins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "gaze_pair"]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_guide_on_families(plugin, capsys):
    """Train, distill, predict, evaluate, and export the family of the guide, as a plugin."""
    from tinyhd_cli import cli

    for command in commands_in(FAMILY_GUIDE, "sh"):
        arguments = shlex.split(command)[1:]
        here = ["--workers", "0"] if arguments[0] in ("train", "distill") else []
        assert cli.run([*arguments, *here]) == 0, (command, capsys.readouterr().err)
        if arguments[0] == "doctor":
            assert "gaze-pair 0.1.0" in " ".join(capsys.readouterr().out.split())
    for path in ("run/best.safetensors", "distilled/best.safetensors", "out.mp4", "gaze_pair.onnx"):
        assert Path(path).stat().st_size, path


def test_the_program_of_the_guide_on_families(plugin, monkeypatch, capsys):
    """Register the family without its entry point."""
    from tinyhd_cli.models import registry

    monkeypatch.setattr(registry, "plugins", lambda: ())
    monkeypatch.setattr(registry, "_registered", {})
    (program,) = blocks("python", FAMILY_GUIDE.read_text(encoding="utf-8"))
    exec(compile(program, FAMILY_GUIDE.name, "exec"), {})
    assert re.fullmatch(r"[\d,]+ parameters\n", capsys.readouterr().out)


def test_all_names_of_the_package_are_in_the_python_guide():
    import tinyhd_cli

    rows = re.findall(r"^\|.*\|(.*)\|$", (PROJECT / "docs" / "python.md").read_text("utf-8"), re.MULTILINE)
    names = re.findall(r"`(\w+)`", " ".join(rows[1:]))
    assert sorted(names) == sorted(name for name in tinyhd_cli.__all__ if not name.startswith("__"))


def test_files_in_the_text(readers_folder):
    """Read the settings, areas, and training settings of the guides."""
    from tinyhd_cli.cli import commands
    from tinyhd_cli.commands.config_file import check
    from tinyhd_cli.inference.area_parsing import parse_areas
    from tinyhd_cli.training.settings import build_config

    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    (settings,) = blocks("toml", texts)  # the block of a package has a title
    check(Path("tinyhd.toml"), tomllib.loads(settings), commands())
    (areas,) = blocks("json", texts)
    Path("areas.json").write_text(areas)
    assert [area.name for area in parse_areas(["areas.json"])] == ["face", "ball"]
    (training,) = blocks("yaml", texts)
    assert build_config(yaml.safe_load(training) | {"data": ["photos"], "out": "run"}, None).steps == 600


def save_folded(path, network):
    """Write the encoder of a full-width network with torchvision's names and biases, as ``--init`` expects."""
    layers = {"stem": "features.0.0", "blocks.18": "features.18.0", "blocks.1.depthwise": "features.1.conv.0.0"}
    layers["blocks.1.project"] = "features.1.conv.1"
    for block in range(2, 18):
        for part, place in (("expand", "0.0"), ("depthwise", "1.0"), ("project", "2")):
            layers[f"blocks.{block}.{part}"] = f"features.{block}.conv.{place}"
    state, arrays = network.encoder.state_dict(), {}
    for ours, theirs in layers.items():
        arrays[f"{theirs}.weight"] = state[f"{ours}.conv.weight"][:, :, 0].numpy()
        arrays[f"{theirs}.bias"] = state[f"{ours}.norm.bias"].numpy()
    np.savez(path, **arrays)


@pytest.mark.slow
def test_the_cookbook(readers_folder, monkeypatch, capsys):
    """Run each recipe with the included weights."""
    monkeypatch.delenv("TINYHD_REGISTRY")
    recipes = blocks("python", (EXAMPLES / "cookbook.md").read_text(encoding="utf-8"))
    for recipe in recipes:
        exec(compile(recipe, "cookbook.md", "exec"), {})
    said = capsys.readouterr().out
    assert len(recipes) == 9
    assert "20 maps, the last one's peak" in said
    assert "(1, 16, 192, 256) 515,281 parameters" in said
    written = ("thumbnail.jpg", "overlay.mp4", "attention.csv", "maps.npz", "clip_areas.csv", "story.mp4")
    assert all((readers_folder / name).stat().st_size for name in written)


def test_all_models_are_listed():
    """README and the guide on weights have the same table."""
    from tinyhd_cli.models import model_names

    pages = [PROJECT / "README.md", PROJECT / "docs" / "weights.md"]
    row = re.compile(r"^\| `(?:tinyhd|hd2s|uva-|dis-|stkd|thtdnet|vfm)[\w-]*`(?:, `[\w-]+`)* \|.*$", re.MULTILINE)
    rows = [row.findall(page.read_text("utf-8")) for page in pages]
    assert rows[0] == rows[1]
    assert {name for row in rows[0] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])} == set(model_names())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "weights/README.md", "examples/cookbook.md"])
def test_links(name):
    """Check links outside the guides; ``make docs`` checks those in the guides."""
    page = PROJECT / name
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert not path or (page.parent / path).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (page.parent / path).read_text() if path else text, re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


@pytest.fixture(scope="module")
def reference():
    """Return the functions of the hook that writes the API reference."""
    return runpy.run_path(str(PROJECT / "docs" / "_hooks" / "reference.py"))


def test_every_public_name_is_in_the_reference(reference):
    pages = reference["pages"](reference["load"]())
    for room in ("", *reference["ROOMS"]):
        module = importlib.import_module(f"tinyhd_cli.{room}".rstrip("."))
        page = pages[f"reference/{room or 'tinyhd_cli'}.md"]
        names = [name for name in module.__all__ if not name.startswith("__")]
        assert names
        assert all(f"| [`{name}`]" in page for name in names)
        assert all(getattr(module, name) is not None for name in names)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def load():\n    return 1\n", "public names without a docstring: tinyhd_cli.video.load"),
        ("def other():\n    return 1\n", "tinyhd_cli.video.code.load is public, but not defined"),
    ],
)
def test_public_names_without_docstrings_are_rejected(reference, tmp_path, source, complaint):
    from mkdocs.exceptions import PluginError

    for room in ("", *reference["ROOMS"]):
        (tmp_path / "tinyhd_cli" / room).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tinyhd_cli" / room / "__init__.py").write_text('"""A room."""\n__all__ = []\n')
    video = tmp_path / "tinyhd_cli" / "video"
    (video / "__init__.py").write_text('"""A room."""\nfrom .code import load\n__all__ = ["load"]\n')
    (video / "code.py").write_text(source)
    with pytest.raises(PluginError, match=re.escape(complaint)):
        reference["pages"](reference["load"](tmp_path))


def run_example(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_attention_over_time(readers_folder, monkeypatch, capsys):
    run_example(monkeypatch, "attention_over_time.py", readers_folder / "clip.mp4", readers_folder / "mine.safetensors")
    line = capsys.readouterr().out.splitlines()[0]
    second, share, bar = re.fullmatch(r" +(\d+) s +([\d.]+) +(#+)", line).groups()
    assert int(second) == 0
    assert 0.1 <= float(share) <= 1
    assert len(bar) == pytest.approx(60 * float(share), abs=1)


def test_strip(readers_folder, monkeypatch):
    picture = readers_folder / "strip.jpg"
    run_example(monkeypatch, "strip.py", readers_folder / "clip.mp4", picture, "0", "0.3")
    with av.open(str(picture)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (48, 72)


def test_the_example_clip_is_what_its_script_makes(tmp_path, monkeypatch):
    made = tmp_path / "gallery.mp4"
    run_example(monkeypatch, "make_clip.py", made)
    ours, committed = clips.frames(made), clips.frames(EXAMPLES / "gallery.mp4")
    assert len(ours) == len(committed) == 150
    for frame in (0, 80, 149):
        assert abs(ours[frame].astype(int) - committed[frame]).mean() < 2
    assert clips.audio_packets(made)
    assert (EXAMPLES / "gallery.mp4").stat().st_size < 500_000


def test_demo():
    """Run the demo with the included weights and without a network connection, as `make demo` does."""
    nowhere = {"HF_HUB_OFFLINE": "1", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **nowhere},
    )
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"^ +\d\.0 s +peak +\d+, +\d+$", result.stdout, re.MULTILINE)) == 6


@pytest.fixture
def recipe_data(readers_folder, monkeypatch):
    """Small data of the form that the recipes of the included weights take, at a twelfth of the pixels."""
    from helpers.training_data import aux_videos, photographs

    from tinyhd_cli.training import settings

    build_config = settings.build_config

    def smaller(given, preset):
        return build_config({**given, "size": (64, 64)} if preset == "default" else given, preset)

    monkeypatch.setattr(settings, "build_config", smaller)
    monkeypatch.chdir(readers_folder)
    photographs(Path("data/static/osie"), count=5)
    films = sorted(aux_videos(Path("data/clips2"), count=2, frames=40).rglob("*.mkv"))
    listed = [{"file": str(film.relative_to("data/clips2")), "repository": "a/b", "fps": 25} for film in films]
    Path("data/clips2/MANIFEST.json").write_text(json.dumps(listed))
    for name in ("multi", "single"):
        network = lively(f"tinyhd-{name[0]}-quarter")
        weights.save(f"{name}.safetensors", network.state_dict(), network.spec, input_size=(64, 64))


def run_recipe(monkeypatch, script, arguments):
    """Run a recipe on the CPU."""
    monkeypatch.setattr(sys, "argv", [script, *arguments.split(), "--device", "cpu"])
    monkeypatch.syspath_prepend(EXAMPLES)
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


@pytest.mark.slow
def test_the_recipe_of_the_default_weights(recipe_data, monkeypatch, capsys):
    import torch

    arguments = "data --teachers multi.safetensors single.safetensors --init multi.safetensors --out run"
    run_recipe(monkeypatch, "train_default.py", f"{arguments} --steps 3 --mix 1 1 1 1 --reuse 2 --change 1")
    assert "2 videos, 81 frames, 5 photographs" in capsys.readouterr().out
    before, after = (weights.load(name).state_dict for name in ("multi.safetensors", "run/average.safetensors"))
    assert (before["fusion.weight"] != after["fusion.weight"]).any()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert weights.load("run/average.safetensors").info.provenance["steps"] == "3"
    assert Path("run/state.pt").is_file()


@pytest.mark.slow
def test_the_recipe_of_uvanet(recipe_data, monkeypatch, capsys):
    """Stage 2 changes the head only, and both stages make their loss smaller."""
    import torch

    arguments = "data --teachers multi.safetensors single.safetensors --model uva-32 --out run --minutes 9 9 9"
    run_recipe(monkeypatch, "train_uvanet.py", f"{arguments} --steps 2 25 25 --mix 1 1 1 1")
    lines = capsys.readouterr().out.splitlines()
    assert any("pool of 8 clips" in line for line in lines)
    steps = [re.findall(r"(\S+) (\d\.\d+)", line) for line in lines if re.search(r"step (1|20),", line)]
    first, later, first_fused, later_fused = (sum(float(value) for _, value in found) for found in steps)
    assert later < 0.9 * first and later_fused < 0.9 * first_fused
    coupled, fused = (weights.load(f"run/{name}.safetensors") for name in ("stage-1", "average"))
    assert (coupled.spec.options["heads"], fused.spec.options["heads"]) == ("two", "fused")
    shared = [name for name in fused.state_dict if not name.startswith("head.")]
    assert all(torch.equal(fused.state_dict[name], coupled.state_dict[name]) for name in shared)
    assert all(torch.isfinite(value).all() for value in fused.state_dict.values())


def test_the_training_data_of_object_networks(readers_folder, monkeypatch, capsys):
    """Label photographs of discs by their density maps, then compose clips in which the discs move."""
    from helpers.objects import masked_photographs

    from tinyhd_cli.training import TrainConfig
    from tinyhd_cli.training.sources import hold_out

    for image in sorted((masked_photographs(Path("discs"), count=12) / "images").iterdir()):
        mask = read_mask(Path("discs/masks") / image.name).astype(np.uint8) * 255
        on_disk.write_image(Path("discs/maps") / image.name, cv2.GaussianBlur(mask, (0, 0), 3))
    Path("discs/masks").rename("exact")
    monkeypatch.setattr(sys, "argv", ["label_objects.py", "images:discs", "--out", "objects", "--jobs", "1"])
    runpy.run_path(str(EXAMPLES / "label_objects.py"), run_name="__main__")
    found = sorted(Path("objects/masks").iterdir())
    assert f"objects: {len(found)} masks, from 11 photographs and 0 videos" in capsys.readouterr().out
    assert len(found) > 5
    kept, _ = hold_out(sorted(Path("exact").iterdir()), TrainConfig().hold_out)
    for file in found:
        exact, labeled = (read_mask(path) for path in (kept[int(file.stem.removeprefix("photo-"))], file))
        assert (exact & labeled).sum() > 0.8 * (exact | labeled).sum()

    arguments = "images:objects --backgrounds images:discs --out composites --count 12 --frames 2 --jobs 1"
    monkeypatch.setattr(sys, "argv", ["compose_objects.py", *arguments.split()])
    runpy.run_path(str(EXAMPLES / "compose_objects.py"), run_name="__main__")
    masks = [read_mask(path) for path in sorted(Path("composites").rglob("masks/*.png"))]
    assert len(masks) == 24
    assert 0.004 < np.mean(masks) < 0.5
    assert any((first != second).any() for first, second in zip(masks[::2], masks[1::2], strict=True))


@pytest.mark.slow
def test_the_ablation_of_uvanet(trainers_folder, monkeypatch, capsys):
    """Train one step in each stage, with and without coupled distillation, and score the four networks."""
    teachers = "--teacher spatial=d123s_rc4_rc1T.pth --teacher temporal=d123m_rc4_rc1T.pth"
    arguments = f"--data images:photos --aux clips --val recordings {teachers} --steps 1 --batch-size 2 --workers 0"
    monkeypatch.setattr(sys, "argv", ["uvanet_ablation.py", *arguments.split(), "--out", "ablation"])
    runpy.run_path(str(EXAMPLES / "uvanet_ablation.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ").split()[0] for row in rows] == ["spatial", "temporal", "fused", "fused,"]
    scores = [row[1] for row in rows]
    assert len(set(scores)) == 4
    assert all(float(score) == float(score) for score in scores)


@pytest.mark.slow
def test_the_ablation_of_distillation_without_a_teacher(trainers_folder, monkeypatch, capsys):
    """Train one step with and without each kind, with two seeds, and score the eight networks."""
    arguments = "--data images:photos --val recordings --init none --size 64 64 --steps 1 --batch-size 2 --seeds 2"
    arguments += " --workers 0 --device cpu --out ablation"
    monkeypatch.setattr(sys, "argv", ["distillation_ablation.py", *arguments.split()])
    runpy.run_path(str(EXAMPLES / "distillation_ablation.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| 1 steps, 2 runs each | NSS | CC |"
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["neither", "self-distillation", "temporal distillation", "both"]
    assert all(re.fullmatch(r"-?\d\.\d{3} ± \d\.\d{3}", value) for row in rows for value in row[1:])
    assert len(list(Path("ablation").glob("*-[01]/last.safetensors"))) == 8


def test_animated_photographs(trainers_folder, monkeypatch, capsys):
    """The clips move, are the same for the same seed, and leave out the photographs that are held out."""
    from helpers.training_data import photographs

    photographs(Path("many"), count=10)
    for out in ("one", "two"):
        arguments = ["animate_photographs.py", "images:many", "--out", out, "--count", "2", "--frames", "5"]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(EXAMPLES / "animate_photographs.py"), run_name="__main__")
    assert "one: 2 clips of 5 frames, from 9 photographs" in capsys.readouterr().out
    frames = {}
    for path in sorted(Path().glob("[ot]*/*.mp4")):
        with av.open(str(path)) as file:
            frames[str(path)] = np.stack([frame.to_ndarray(format="gray") for frame in file.decode(video=0)])
    assert [images.shape for images in frames.values()] == [(5, 240, 320)] * 4
    first, second, again, _ = (images.astype(float) for images in frames.values())
    assert np.abs(first - again).mean() < 1  # x264 does not always encode the same frames in the same way
    assert np.abs(first - second).mean() > 5
    assert np.abs(np.diff(first, axis=0)).max() > 20
