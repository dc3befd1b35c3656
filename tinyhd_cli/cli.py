"""The ``tinyhd`` command: collects the subcommands and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from . import errors, settings
from .commands import (
    benchmark,
    crop,
    distill,
    doctor,
    encode,
    evaluate,
    export,
    live,
    predict,
    reduce_channels,
    report,
    train,
    weights,
)
from .commands.config_file import option_defaults
from .commands.terminal import loading, say, show_log, traceback_lines
from .version import __version__

app = typer.Typer(
    name="tinyhd",
    help="Predict where people look in a video.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(predict.predict)
app.command()(crop.crop)
app.command()(encode.encode)
app.command()(report.report)
app.command()(live.live)
app.command(epilog=evaluate.LAYOUTS)(evaluate.evaluate)
app.command()(export.export)
app.command()(doctor.doctor)
app.command()(distill.distill)
app.command()(train.train)
app.command("reduce-channels")(reduce_channels.reduce_channels)
app.add_typer(weights.app, name="weights")
app.add_typer(benchmark.app, name="benchmark")


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        print(f"tinyhd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line, or TINYHD_DEBUG=1).")
    ] = False,
    json_log: Annotated[
        bool, typer.Option("--json-log", help="Messages and progress as JSON lines on stderr (anywhere on the line).")
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Settings, in place of tinyhd.toml here and the user's (or TINYHD_CONFIG)."),
    ] = None,
) -> None:
    """Predict where people look in a video."""


def take(flag: str, args: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without a flag that may stand anywhere before ``--``, and whether it is set, or its variable is."""
    args = list(args)
    end = args.index("--") if "--" in args else len(args)
    kept = [arg for arg in args[:end] if arg != flag] + args[end:]
    variable = f"TINYHD_{flag.strip('-').replace('-', '_').upper()}"
    return kept, len(kept) < len(args) or os.environ.get(variable, "") not in ("", "0")


def take_config(args: Sequence[str]) -> list[str]:
    """The arguments without a ``--config FILE`` before the command, which goes into the environment."""
    args = list(args)
    for index, argument in enumerate(args):
        if not argument.startswith("-"):
            break
        flag, equals, value = argument.partition("=")
        if flag == "--config" and (equals or index + 1 < len(args)):
            os.environ[settings.CONFIG_VARIABLE] = value if equals else args[index + 1]
            return args[:index] + args[index + (1 if equals else 2) :]
    return args


def commands() -> dict[str, Any]:
    """All commands by name, as Typer has them."""
    return dict(getattr(typer.main.get_command(app), "commands", {}))


def defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """What settings files say of the options of the command that is to run."""
    known = commands()
    # The doctor says for itself what is wrong with them, and help is to be had always.
    if not arguments or arguments[0] not in known or arguments[0] == "doctor" or "--help" in arguments:
        return {}
    return {arguments[0]: option_defaults(known, arguments[0])}


def interrupt(number: int, frame: FrameType | None) -> None:
    """Signal handler: as if Ctrl-C had been pressed."""
    raise KeyboardInterrupt


def complain(message: str, debug: bool = False) -> None:
    """The one line on stderr, after the traceback if that is wanted."""
    loading.stop()
    error = sys.exception() if debug else None
    if error is not None:
        print("\n".join(traceback_lines(error)), file=sys.stderr)
    say(f"tinyhd: {message}")


def hint(error: TyperException, arguments: Sequence[str]) -> str:
    """Return advice after wrong usage: see the command's help, or the command or option that was probably meant."""
    if arguments and arguments[0] not in commands() and Path(arguments[0]).exists():
        return f"did you mean tinyhd predict {arguments[0]}?"
    context = getattr(error, "ctx", None)
    extra = re.fullmatch(r"Got unexpected extra argument(?:\(s\))? \((.+)\)", error.format_message())
    if context and extra and any(parameter.name == "out" for parameter in context.command.params):
        return f"did you mean --out {extra[1]}?"
    return f"{context.command_path if context else 'tinyhd'} --help shows what there is"


def folder_exists() -> bool:
    """Return whether the current folder still exists; relative paths are useless without it."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def run(args: Sequence[str]) -> int:
    """Run the command line and return its exit code (see ``errors``)."""
    arguments, debug = take("--debug", args)
    arguments, json_log = take("--json-log", arguments)
    arguments = take_config(arguments)
    show_log(debug, json_log)
    if not folder_exists():
        complain("the current folder no longer exists; change to another folder")
        return errors.WRONG_USAGE
    try:
        return run_command(arguments, debug)
    finally:
        loading.stop()


def run_command(arguments: list[str], debug: bool) -> int:
    """Run a command and return its exit code; print each error as one line."""
    try:
        command = typer.main.get_command(app)
        code = command.main(arguments, prog_name="tinyhd", standalone_mode=False, default_map=defaults(arguments))
    except TyperException as error:
        message = error.format_message()
        if message:  # asking for nothing has none: the help was shown
            complain(f"{message} ({hint(error, arguments)})")
        return errors.WRONG_USAGE
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return errors.INTERRUPTED
    except errors.TinyhdError as error:
        complain(str(error), debug)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OUTPUT_FAILED
    except Exception as error:
        complain(errors.describe_unexpected(error), debug)
        return errors.SOME_INPUT_FAILED
    if code == errors.INTERRUPTED:  # Typer has caught the Ctrl-C
        complain("interrupted")
    return code if isinstance(code, int) else errors.OK


def main() -> None:
    """Entry point of the ``tinyhd`` command."""
    # A killed run tidies up as an interrupted one does, and so does one whose terminal is closed (unless under nohup).
    signal.signal(signal.SIGTERM, interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C, while threads end, would print a traceback
    sys.exit(code)
