"""The recipe ``examples/train_crowdsal.py``: its plan, and all of its steps on a set of 4 clips."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from helpers import crowdsal
from helpers.hub_server import TOKEN, HubServer
from huggingface_hub import constants

from tinyhd_cli import TrainConfig, weights
from tinyhd_cli.training import sources

RECIPE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "train_crowdsal.py"))

SMALL = "--size 64x64 --init none --steps 2 --batch-size 2 --workers 0 --device cpu --quiet"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return a server that has a CrowdSAL of 4 videos to train on and 2 to test, set as the Hub of this process."""
    made = crowdsal.make("crowdsal", tmp_path / "made", frames=4, size=(64, 48))
    with HubServer() as server:
        for path in made.rglob("*.*"):
            server.put("datasets/ANDRYHA/CrowdSAL", path.relative_to(made).as_posix(), path.read_bytes())
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("TINYHD_DATA", str(tmp_path / "data"))
        yield server


def recipe(*arguments):
    RECIPE["main"]([*map(str, arguments), "--preset", "crowdsal-quarter"])


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub, when it uploads
def test_all_steps(hub, tinyhd, capsys):
    # Choosing an engine and starting processes takes longer than to score so few frames.
    Path("tinyhd.toml").write_text('[evaluate]\nengine = "torch"\nworkers = 1\n')
    recipe("download", "cache", *SMALL.split())
    clips = {path: path.stat().st_mtime_ns for path in Path("crowdsal-cache/clips").rglob("*.images")}
    assert len(clips) == 12  # frames, density maps and fixations of 4 videos
    assert not Path("runs").exists()
    recipe("train", "evaluate", "card", "publish", "--repo", "me/mine", *SMALL.split())
    assert clips == {path: path.stat().st_mtime_ns for path in Path("crowdsal-cache/clips").rglob("*.images")}
    commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ tinyhd")]
    assert [line.split()[2] for line in commands] == ["datasets", "train", "train", "evaluate", "weights", "weights"]

    run = Path("runs/crowdsal-quarter")
    results = json.loads((run / "scores.json").read_text())
    assert results["protocol"]["name"] == "crowdsal"
    assert results["dataset"]["split"] == "test"
    assert results["frames"]["scored"] == 8
    info = weights.load(run / "best.safetensors").info
    assert info.license == "CC-BY-4.0"
    assert info.scores == {name: pytest.approx(value, abs=1e-5) for name, value in results["macro_mean"].items()}
    assert info.provenance["steps"] == "2"
    published = hub.repos["me/mine"].branches["main"]
    assert published["best.safetensors"] == (run / "best.safetensors").read_bytes()
    card = published["README.md"].decode()
    assert "crowdsal test, 2 videos, 8 frames, protocol crowdsal; mean of videos" in card
    assert "CrowdSAL (CC-BY 4.0" in card

    recipe("download", "train", *SMALL.split())  # continues; nothing is left to do
    assert "train --preset crowdsal-quarter" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        recipe("card", "--out", "nothing")
    assert stopped.value.code == 3


def test_the_plan_names_the_commands_and_their_costs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe("plan", "--clips-per-s", 100, "--gpus", 4, "--epochs", 100, "--teacher", "hd2s")
    *commands, _, _, download, cache, train, evaluate, total, note = capsys.readouterr().out.splitlines()
    starts = ["datasets download", "distill", "distill", "evaluate", "weights card", "weights push"]
    assert all(
        command.partition("tinyhd ")[2].startswith(start) or "accelerate launch --num_processes 4" in command
        for command, start in zip(commands, starts, strict=True)
    )
    assert download.split()[:3] == ["download", "0.8", "140.0"]
    # 3,000 videos of 552 frames at 40,000 bytes; 100 epochs of 84 batches of 32 clips at 4 times 100 per second
    assert cache.split()[2] == "66.2"
    assert train.split()[1] == f"{100 * 84 * 32 / 400 / 3600:.1f}"
    assert evaluate.startswith("evaluate")
    assert float(total.split()[2]) == pytest.approx(140 + 66.2 + 1, abs=0.2)
    assert "tinyhd distill --dry-run" in note


def test_the_public_test_of_a_challenge_validates(tmp_path):
    """The private one is left for the final scores."""
    data = f"ntire2026:{crowdsal.make('ntire2026', tmp_path, frames=1, size=(64, 48))}"
    found = sources.find(TrainConfig(data=(data,), val=(data,)))
    assert [video.name for video in found.targets] == ["0001", "0002", "0003", "0004"]
    assert [video.name for video in found.val_targets] == ["0005"]


def test_publishing_needs_a_repository(capsys):
    with pytest.raises(SystemExit):
        recipe("publish")
    assert "--repo OWNER/NAME" in capsys.readouterr().err
