"""``tinyhd doctor``: check the installation."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from ..errors import OK, SOME_INPUT_FAILED
from ..untrusted import printable
from .config_file import check
from .terminal import stdout_console

STYLES = {"ok": "green", "note": "yellow", "fault": "bold red"}


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check versions, devices, engines, encoders, weights, folders and settings, and show how to fix problems.

    Exit codes: 0 everything required works, 1 something does not work.
    """
    from ..diagnostics import examine

    commands: dict[str, Any] = getattr(context.find_root().command, "commands", {})
    findings = examine(partial(check, commands=commands))
    code = SOME_INPUT_FAILED if any(finding.status == "fault" for finding in findings) else OK
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return code
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        style = STYLES[finding.status]
        table.add_row(finding.what, Text(finding.status, style), printable(finding.found))
        if finding.advice:
            table.add_row("", "", Text(printable(finding.advice), style))
    stdout_console().print(table)
    return code
