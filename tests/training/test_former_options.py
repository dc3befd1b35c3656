"""Former names of options and settings: they work, but not beside the present name, and never win over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyhd_cli.errors import UsageError
from tinyhd_cli.training.settings import build_config, from_dict


def test_the_command_line_takes_precedence_over_former_names_in_a_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("optimiser: adamw\ndark-start: true\ndecoders: [d2, d3, d1]\n")
    config = build_config({}, file=file)
    assert (config.optimizer, config.sparse_init, config.set) == ("adamw", True, ("decoders=d2,d3,d1",))
    config = build_config({"optimizer": "sgd", "set": ["decoders=d3,d2,d1"]}, file=file)
    assert (config.optimizer, config.set) == ("sgd", ("decoders=d3,d2,d1",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser: adamw\noptimizer: sgd", "'optimiser' is now called 'optimizer'; remove one of them"),
        ("dark_start: true\nsparse-init: true", "'dark_start' is now called 'sparse_init'; remove one of them"),
        ("decoders: d1\nset: [decoders=d2]", "'decoders' is now part of 'set', which also contains it"),
        ("decoders: 3", "decoders must be one or more of d1, d2, d3, not 3"),
        ("decoders: {d1: d2}", "decoders must be one or more of d1, d2, d3"),
        ("decoders: d1\nset: 5", "--set must be OPTION=VALUE, not 5"),
        ("set: decoders=d1", "--set must be OPTION=VALUE, not 'decoders=d1'"),
        ("set: [5]", "--set must be OPTION=VALUE, not [5]"),
        ("weight: {final: 2}", "--weight must be TERM=X, not {'final': 2}"),
        ("weight: [final]", "--weight final: must be TERM=NUMBER"),
        ("weight: [final=nan]", "--weight final=nan: must be TERM=NUMBER"),
        ("size: [192]", "--size must be HxW, not [192]"),
        ("size: [192.0, 256]", "--size must be HxW, not [192.0, 256]"),
        ("size: [0, 0]", "--size: input_size 0x0: both sides must be multiples of 32 from 64 to 1024"),
        ("lr: fast", "--lr must be X, not 'fast'"),
        (f"lr: 1{'0' * 400}", "--lr must be X, not"),
        (f"steps: 1{'0' * 400}", "--steps must be N, not"),
        ("lr: .nan", "--lr must be X, not nan"),
        ("milestones: [.inf]", "--milestones must be X,X,.., not [inf]"),
        ("model: [tinyhd-m]", "--model must be NAME, not ['tinyhd-m']"),
        ("model: hd2s", "--model hd2s: is a teacher and cannot be trained"),
        ("1: 2", "unknown setting '1'"),
    ],
)
def test_wrong_settings(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        build_config({}, file=file)
    assert message in str(error.value)


def test_both_names_on_the_command_line(tinyhd, capsys):
    for arguments, message in (
        (("--optimiser", "sgd", "--optimizer", "adamw"), "--optimiser is now called --optimizer; remove one of them"),
        (("--dark-start", "--sparse-init"), "--dark-start is now called --sparse-init; remove one of them"),
        (("--decoders", "d1", "--set", "decoders=d2"), "--decoders: --set decoders=... gives it, too"),
    ):
        assert tinyhd("train", "--data", "nowhere", *arguments) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_saved_configuration_of_version_0_1():
    assert from_dict({"decoders": ["d3", "d2", "d1"], "optimiser": "adamw"}).set == ("decoders=d3,d2,d1",)
