"""Settings files: which files are read, valid and invalid content, and the messages about errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import clips

from tinyhd_cli import settings
from tinyhd_cli.cli import commands
from tinyhd_cli.commands.config_file import check, option_defaults


@pytest.fixture(autouse=True)
def no_other_settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "users"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "users"))
    monkeypatch.setenv(settings.CONFIG_VARIABLE, "")  # restores the variable that --config sets


@pytest.fixture
def normalized(tinyhd, tmp_path, weights_file):
    """Predict a clip with some arguments and return the normalization of its maps."""
    video = clips.make(tmp_path / "clip.mp4", frames=2)

    def run(*before, after=()):
        command = ("predict", video, "--weights", weights_file, "--maps", "maps", "--json", "o.json", *after)
        assert tinyhd(*before, *command) == 0
        return json.loads(Path("o.json").read_text())["normalize"]["maps"]

    return run


def test_options_of_a_command(normalized, tmp_path):
    assert normalized() == "frame"
    Path("tinyhd.toml").write_text('[predict]\nnormalize = "video"\nside-by-side = true\nalpha = 0.5\n')
    assert normalized() == "video"
    assert normalized(after=("--normalize", "none")) == "none", "the command line takes precedence"
    users = tmp_path / "users" / "tinyhd" / "tinyhd.toml"
    users.parent.mkdir(parents=True)
    users.write_text('[predict]\nnormalize = "none"\n')
    assert normalized() == "video", "the file in this folder takes precedence"
    Path("tinyhd.toml").unlink()
    assert normalized() == "none"


@pytest.mark.parametrize("arguments", [("--config", "other.toml"), ("--quiet-not", "--config=other.toml")])
def test_a_named_file_replaces_the_others(normalized, arguments):
    Path("tinyhd.toml").write_text('[predict]\nnormalize = "video"\nalpha = 2\n')
    Path("other.toml").write_text('[predict]\nnormalize = "none"\n')
    arguments = [argument.replace("--quiet-not", "--json-log") for argument in arguments]
    assert normalized(*arguments) == "none"


def test_the_variable_names_a_file(normalized, monkeypatch):
    Path("other.toml").write_text('[predict]\nnormalize = "none"\n')
    monkeypatch.setenv(settings.CONFIG_VARIABLE, "other.toml")
    assert normalized() == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[predict]\nalhpa = 1\n", "[predict] has no option 'alhpa': did you mean alpha?"),
        ("[perdict]\nalpha = 1\n", "unknown setting 'perdict': did you mean predict?"),
        ("alpha = 1\n", "unknown setting 'alpha'"),
        ("[distill]\nlr = 1\n", "tinyhd distill --config run.yaml"),
        ("[predict]\nhelp = true\n", "[predict] has no option 'help'"),
        ("[predict]\nalpha = 'much'\n", "; tinyhd.toml sets --alpha\n"),
        ("[predict]\nalpha = 1.5\n", "--alpha must be between 0 and 1, not 1.5; tinyhd.toml sets --alpha\n"),
        ("[predict\n", "is not a TOML file"),
    ],
)
def test_wrong_settings(tinyhd, weights_file, capsys, text, message):
    Path("tinyhd.toml").write_text(text)
    video = clips.make(Path("clip.mp4"), frames=2)
    assert tinyhd("predict", video, "--weights", weights_file) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert tinyhd("predict", "--help") == 0


def test_the_command_line_is_not_blamed_on_the_settings(tinyhd, weights_file, capsys):
    Path("tinyhd.toml").write_text("[predict]\nalpha = 0.5\ncrf = 20\n")
    video = clips.make(Path("clip.mp4"), frames=2)
    for options in (("--alpha", "1.5"), ("--alpha=1.5",)):
        assert tinyhd("predict", video, "--weights", weights_file, *options) == 2
        assert capsys.readouterr().err == "tinyhd: --alpha must be between 0 and 1, not 1.5\n"


def test_the_doctor_reports_wrong_settings(tinyhd, capsys):
    Path("tinyhd.toml").write_text("[predict]\nalhpa = 1\n")
    assert tinyhd("doctor", "--json") == 1
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert "did you mean alpha" in found["settings"]["found"]


def test_a_missing_named_file(tinyhd, capsys):
    assert tinyhd("--config", "gone.toml", "predict", "clip.mp4") == 2
    assert capsys.readouterr().err == "tinyhd: --config gone.toml: no such file\n"


def test_the_example_of_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "exit-codes-and-settings.md").read_text(encoding="utf-8")
    example = guide.partition("```toml\n")[2].partition("```")[0]
    Path("tinyhd.toml").write_text(example)
    check(Path("tinyhd.toml"), settings.read(Path("tinyhd.toml")), commands())
    assert option_defaults(commands(), "crop") == {"aspect": "9:16"}


def test_a_renamed_option_still_works(normalized, capsys):
    Path("tinyhd.toml").write_text('[predict]\nnormalise = "video"\ncolourmap = "magma"\nquiet = true\n')
    assert normalized() == "video"
    assert capsys.readouterr().err.splitlines() == [
        "tinyhd: warning: tinyhd.toml: [predict] 'normalise' is now called 'normalize'; please rename it",
        "tinyhd: warning: tinyhd.toml: [predict] 'colourmap' is now called 'colormap'; please rename it",
    ]
    assert normalized(after=("--normalize", "none")) == "none"


def test_an_option_under_both_names(tinyhd, capsys):
    Path("tinyhd.toml").write_text('[predict]\nnormalize = "none"\nnormalise = "video"\n')
    assert tinyhd("predict", "clip.mp4") == 2
    assert capsys.readouterr().err == (
        "tinyhd: tinyhd.toml: [predict] has 'normalize' twice, under two names; remove one of them\n"
    )
