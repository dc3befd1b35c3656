"""Options made from dataclasses: names, defaults, adjustments, and the configurations that commands receive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from tinyhd_cli.apps.options import CropOptions, EncodeOptions, ReportOptions
from tinyhd_cli.cli import commands
from tinyhd_cli.commands.option_fields import with_options
from tinyhd_cli.errors import UsageError
from tinyhd_cli.fields import Adjust, group, option
from tinyhd_cli.inference.model_options import ModelOptions
from tinyhd_cli.inference.options import PredictOptions


def doubled(text):
    if not text.isdecimal():
        raise UsageError(f"--twice {text!r}: must be a number")
    return 2 * int(text)


@dataclass(frozen=True)
class Inner:
    """Nested."""

    level: int = option(3, "Levels", "N", "A level.")
    hidden: int = 7


@dataclass(frozen=True)
class Outer:
    """Nesting."""

    name: str | None = option(None, None, "NAME", "A name.", short="-n")
    twice: int = option(10, None, "N", "A number.", kind=str, written="5", parse=doubled)
    audio: bool = option(True, None, "", "Leave out the audio.")
    inner: Inner = group(Inner, Adjust(defaults={"level": 4}))  # noqa: RUF009  # makes a field, as field() does


def run(command, *arguments):
    """Run a command of an app of its own; return the values that it received."""
    received: list[Any] = []
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(with_options(command(received)))
    typer.main.get_command(app).main([*arguments], standalone_mode=False)
    return received[0] if len(received) == 1 else received


def nested(received):
    def command(*, config: Outer, flag: Annotated[bool, typer.Option("--flag")] = False) -> int:
        received.append((config, flag))
        return 0

    command.__annotations__ |= {"config": Outer, "flag": Annotated[bool, typer.Option("--flag")]}
    return command


def adjusted(received):
    def command(*, config, given) -> int:
        received.append((config, given))
        return 0

    command.__annotations__ = {
        "config": Annotated[Inner, Adjust(defaults={"level": 9})],
        "given": Annotated[dict[str, Any], Outer, Adjust(without=("inner",))],
    }
    return command


def test_defaults_of_the_command_line_are_those_of_python():
    assert run(nested) == (Outer(), False)
    assert Outer().inner == Inner(4)


def test_options_become_a_configuration():
    arguments = ("-n", "x", "--twice", "4", "--no-audio", "--level", "1", "--flag")
    assert run(nested, *arguments) == (Outer("x", 8, False, Inner(1)), True)
    with pytest.raises(UsageError, match="--twice 'x'"):
        run(nested, "--twice", "x")


def test_adjustments_and_values_as_they_are_written():
    assert run(adjusted) == (Inner(9), {"twice": "5", "audio": False})
    assert run(adjusted, "--level", "2", "--name", "x") == (Inner(2), {"name": "x", "twice": "5", "audio": False})


@pytest.mark.parametrize(
    ("name", "config"),
    [("predict", PredictOptions), ("crop", CropOptions), ("encode", EncodeOptions), ("report", ReportOptions)],
)
def test_commands_receive_the_defaults_of_the_library(monkeypatch, name, config):
    """Without options, a command works as the library does without arguments."""
    from tinyhd_cli.commands import crop, encode, predict, report

    module = {"predict": predict, "crop": crop, "encode": encode, "report": report}[name]
    received = []
    monkeypatch.setattr(module, "for_each", lambda *arguments, **named: received.append(arguments) or 0)
    commands()[name].main(["clip.mp4", "--quiet"], standalone_mode=False)
    _, _, _, task, quiet = received[0][:5]
    assert (task.options, task.model, quiet) == (config(), ModelOptions(), True)


def test_a_model_of_another_name_in_a_file(tmp_path, weights_file):
    from tinyhd_cli.errors import WeightsError

    assert ModelOptions("tinyhd-m-quarter", Path(weights_file), "cpu", "torch").load().spec.name == "tinyhd-m-quarter"
    with pytest.raises(WeightsError, match="contains tinyhd-m-quarter, not tinyhd-s"):
        ModelOptions("tinyhd-s", Path(weights_file), "cpu", "torch").load()
