"""The ``tinyhd`` command: registers the subcommands, and turns errors into one line and an exit code."""

from __future__ import annotations

import functools
import inspect
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from . import errors, settings, storage
from .commands.config_file import option_defaults
from .commands.terminal import loading, say, show_log
from .log_text import traceback_lines

COMMANDS = {
    "predict": "predict.predict",
    "crop": "crop.crop",
    "encode": "encode.encode",
    "report": "report.report",
    "compare": "compare.compare",
    "gaze": "gaze.gaze",
    "live": "live.live",
    "app": "app.app",
    "evaluate": "evaluate.evaluate",
    "export": "export.export",
    "doctor": "doctor.doctor",
    "distill": "distill.distill",
    "train": "train.train",
    "reduce-channels": "reduce_channels.reduce_channels",
    "weights": "weights.app",
    "datasets": "datasets.app",
    "benchmark": "benchmark.app",
}
"""Module of :mod:`.commands` and attribute of each command, in the order of ``--help``; ``app`` in modules with
subcommands."""

COMPLETION_VARIABLE = "_TINYHD_COMPLETE"
"""Environment variable with which the shell asks for completions."""


def show_version(wanted: bool) -> None:
    """Print the version and exit if ``--version`` is given."""
    if wanted:
        from .version import __version__

        print(f"tinyhd {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors; anywhere on the line (or TINYHD_DEBUG=1).")
    ] = False,
    json_log: Annotated[
        bool,
        typer.Option("--json-log", help="Print messages and progress as JSON lines on stderr; anywhere on the line."),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Settings file; replaces ./tinyhd.toml and the user's file (or TINYHD_CONFIG)."
        ),
    ] = None,
) -> None:
    """Predict where people look in a video."""


def documentation(module: str, function: str) -> str:
    """Return the docstring of a module's function from the compiled file, which ``-OO`` omits; the module is not run.

    Args:
        module: full name of the module.
        function: name of the function.
    """
    if sys.flags.optimize > 1:
        return ""
    loader: Any = getattr(find_spec(module), "loader", None)
    codes = [part for part in loader.get_code(module).co_consts if getattr(part, "co_name", None) == function]
    return inspect.cleandoc(str(codes[0].co_consts[0]))


@functools.cache
def application(only: str | None = None, *, outline: bool = False) -> Any:
    """Return the command line as Typer's command.

    Args:
        only: name of the only subcommand to import, which is faster; None for all.
        outline: whether to import no subcommand at all; all have only a name and a summary.
    """
    app = typer.Typer(
        name="tinyhd",
        help="Predict where people look in a video.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(options)
    for name in [only] if only else COMMANDS:
        module_name, _, attribute = COMMANDS[name].partition(".")
        if outline:
            app.command(name, help=documentation(f"{__package__}.commands.{module_name}", module_name))(lambda: None)
            continue
        module = import_module(f".commands.{module_name}", __package__)
        command = getattr(module, attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, epilog=getattr(module, "EPILOG", None))(command)
    return typer.main.get_command(app)


def extract_flag(flag: str, args: Sequence[str]) -> tuple[list[str], bool]:
    """Remove a flag that is allowed anywhere before ``--``.

    Returns:
        The remaining arguments, and whether the flag or its environment variable is set.
    """
    args = list(args)
    end = args.index("--") if "--" in args else len(args)
    kept = [arg for arg in args[:end] if arg != flag] + args[end:]
    variable = f"TINYHD_{flag.strip('-').replace('-', '_').upper()}"
    return kept, len(kept) < len(args) or os.environ.get(variable, "") not in ("", "0")


def extract_config(args: Sequence[str]) -> list[str]:
    """Move the file of ``--config FILE`` before the command into the environment, and return the other arguments."""
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
    """Return all of Typer's commands by name."""
    return dict(application().commands)


def defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options that the settings files set for the command to run, as Typer's default map."""
    # The doctor reports errors in settings files itself, and --help must always work.
    if not arguments or arguments[0] not in COMMANDS or arguments[0] == "doctor" or "--help" in arguments:
        return {}
    known = commands() if settings.files() else {}  # importing all commands takes time
    return {arguments[0]: option_defaults(known, arguments[0])}


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal like Ctrl-C."""
    raise KeyboardInterrupt


def print_error(message: str, debug: bool = False) -> None:
    """Print an error as one line on stderr, after the traceback with ``debug``."""
    loading.stop()
    error = sys.exception() if debug else None
    if error is not None:
        print("\n".join(traceback_lines(error)), file=sys.stderr)
    say(f"tinyhd: {message}")


def hint(error: TyperException, arguments: Sequence[str]) -> str:
    """Return advice after wrong usage: the command or option that was probably meant, or the command's help."""
    if arguments and arguments[0] not in COMMANDS and Path(arguments[0]).exists():
        return f"did you mean tinyhd predict {arguments[0]}?"
    context = getattr(error, "ctx", None)
    extra = re.fullmatch(r"Got unexpected extra argument(?:\(s\))? \((.+)\)", error.format_message())
    if context and extra and any(parameter.name == "out" for parameter in context.command.params):
        return f"did you mean --out {extra[1]}?"
    return f"{context.command_path if context else 'tinyhd'} --help shows the usage"


def source(message: str, arguments: Sequence[str]) -> str:
    """Return the end of a message about an option that a settings file sets, which names the file; else nothing."""
    try:
        files = {key: path for path in reversed(settings.files()) for key in settings.read(path).get(arguments[0], {})}
    except (errors.UsageError, IndexError, TypeError):  # the message is about the settings file itself
        return ""
    for key, path in files.items():
        flag = f"--{settings.option_key(key)}"
        given = any(argument.partition("=")[0] == flag for argument in arguments)
        if not given and re.search(rf"(?<![\w-]){flag}(?![\w-])", message):
            return f"; {path} sets {flag}"
    return ""


def folder_exists() -> bool:
    """Return whether the current folder still exists. Relative paths need it."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def run(args: Sequence[str]) -> int:
    """Run the command line and return its exit code (see ``errors``)."""
    arguments, debug = extract_flag("--debug", args)
    arguments, json_log = extract_flag("--json-log", arguments)
    arguments = extract_config(arguments)
    show_log(debug, json_log)
    if not folder_exists():
        print_error("the current folder no longer exists; change to another folder")
        return errors.WRONG_USAGE
    try:
        return run_command(arguments, debug)
    finally:
        loading.stop()
        storage.clean()


def run_command(arguments: list[str], debug: bool) -> int:
    """Run a command and return its exit code; print each error as one line."""
    try:
        # The doctor checks the settings of all commands.
        one = bool(arguments) and arguments[0] in COMMANDS and arguments[0] != "doctor"
        outline = COMMANDS.keys().isdisjoint(arguments) and COMPLETION_VARIABLE not in os.environ
        command = application(arguments[0] if one else None, outline=outline)
        code = command.main(arguments, prog_name="tinyhd", standalone_mode=False, default_map=defaults(arguments))
    except TyperException as error:
        message = error.format_message()
        if message:  # an empty message means that Typer already printed the help
            print_error(f"{message} ({hint(error, arguments)}){source(message, arguments)}")
        return errors.WRONG_USAGE
    except (KeyboardInterrupt, typer.Abort):
        print_error("interrupted")
        return errors.INTERRUPTED
    except errors.UsageError as error:
        print_error(f"{error}{source(str(error), arguments)}", debug)
        return error.exit_code
    except errors.TinyhdError as error:
        print_error(str(error), debug)
        return error.exit_code
    except BrokenPipeError:
        # The reader of stdout has closed it; Python would report that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OUTPUT_FAILED
    except Exception as error:
        print_error(errors.describe_unexpected(error), debug)
        return errors.SOME_INPUT_FAILED
    if code == errors.INTERRUPTED:  # Typer caught the Ctrl-C
        print_error("interrupted")
    return code if isinstance(code, int) else errors.OK


def main() -> None:
    """Run the ``tinyhd`` command; its entry point."""
    # A terminated run cleans up like an interrupted one; so does one whose terminal is closed, unless under nohup.
    signal.signal(signal.SIGTERM, interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C while threads end would print a traceback
    sys.exit(code)
