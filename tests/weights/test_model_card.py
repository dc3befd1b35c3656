"""Model cards: facts and scores that are stated after training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.networks import lively

from tinyhd_cli import weights
from tinyhd_cli.errors import InputError
from tinyhd_cli.weights.model_card import read_scores

RESULTS = {
    "dataset": {"layout": "crowdsal", "split": "test", "root": "/data"},
    "protocol": {"name": "crowdsal", "main": "macro_mean"},
    "frames": {"scored": 1100},
    "mean": {"CC": 0.5, "NSS": 2.0},
    "macro_mean": {"CC": 0.6123456, "NSS": None},
    "videos": {"3001": {}, "3002": {}},
}


@pytest.fixture
def file(tmp_path):
    """Return a weights file of a training run."""
    network = lively("tinyhd-s-quarter")
    facts = {"name": "old", "scores": {"KLDiv": 1.0}, "scores_on": "held-back clips", "provenance": {"seed": "3"}}
    weights.save(tmp_path / "best.safetensors", network.state_dict(), network.spec, input_size=(64, 96), **facts)
    return tmp_path / "best.safetensors"


def test_facts_and_scores_are_stated_in_the_file_and_in_the_card(file, tmp_path, tinyhd, capsys):
    before = weights.load(file)
    (tmp_path / "scores.json").write_text(json.dumps(RESULTS))
    stated = ("--license", "CC-BY-4.0", "--data", "CrowdSAL, train", "--name", "mine")
    assert tinyhd("weights", "card", file, *stated, "--scores", tmp_path / "scores.json") == 0
    card = Path(capsys.readouterr().out.strip())
    assert card == tmp_path / "README.md"
    after = weights.load(file)
    assert after.info.tensors_sha256 == before.info.tensors_sha256
    assert after.spec == before.spec
    assert (after.info.name, after.info.license, after.info.training_data) == ("mine", "CC-BY-4.0", "CrowdSAL, train")
    assert after.info.scores == {"CC": 0.61235}  # the mean that the protocol reports
    assert after.info.scores_on == "crowdsal test, 2 videos, 1,100 frames, protocol crowdsal; mean of videos"
    assert after.info.provenance == {"seed": "3"}
    text = card.read_text()
    assert text.startswith("---\nlicense: cc-by-4.0\n")
    assert "| CC | 0.61235 |" in text
    assert "crowdsal test, 2 videos" in text


def test_what_is_not_given_stays(file):
    card = weights.annotate(file, license="MIT")
    info = weights.load(file).info
    assert (info.name, info.license, info.scores) == ("old", "MIT", {"KLDiv": 1.0})
    assert "held-back clips" in card.read_text()


@pytest.mark.parametrize(
    "content", ["[]", "{}", "no JSON", json.dumps(RESULTS | {"macro_mean": {}}), json.dumps(RESULTS | {"frames": 3})]
)
def test_other_files_are_no_results(tmp_path, content):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(InputError, match=r"scores.json: not results of tinyhd evaluate --json \("):
        read_scores(tmp_path / "scores.json")
    with pytest.raises(InputError, match=r"none.json: cannot be read: No such file"):
        read_scores(tmp_path / "none.json")
