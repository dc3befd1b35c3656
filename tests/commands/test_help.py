"""The list of commands is shown without importing the commands."""

from __future__ import annotations

import os
import subprocess
import sys

from tinyhd_cli import cli


def printed_help(command, capsys):
    command.main(["--help"], prog_name="tinyhd", standalone_mode=False)
    return capsys.readouterr().out


def test_the_outline_shows_the_same_as_all_commands(capsys):
    outline = printed_help(cli.application(outline=True), capsys)
    assert outline == printed_help(cli.application(), capsys)
    assert "Predict where people look in videos" in outline
    assert all(f" {name} " in outline for name in cli.COMMANDS)


def test_help_imports_no_command():
    program = (
        "import sys; from tinyhd_cli.cli import run; run(['--help'])\n"
        "allowed = {'tinyhd_cli.commands.config_file', 'tinyhd_cli.commands.terminal', 'tinyhd_cli.commands'}\n"
        "found = {name for name in sys.modules if name.startswith('tinyhd_cli.commands')} - allowed\n"
        "found |= {'importlib.metadata', 'numpy', 'torch', 'yaml'} & sys.modules.keys()\n"
        "print(sorted(found), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_completion_knows_the_options_of_commands():
    question = {"_TINYHD_COMPLETE": "complete_bash", "COMP_WORDS": "tinyhd predict --overl", "COMP_CWORD": "2"}
    program = "import sys; from tinyhd_cli.cli import run; sys.exit(run([]))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | question, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["--overlay"], done.stderr
