"""What can go wrong, and the exit code that says so. Imports nothing, so that every room may use it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OK = 0
SOME_INPUT_FAILED = 1
WRONG_USAGE = 2
INPUT_UNREADABLE = 3
WEIGHTS_UNAVAILABLE = 4
OUTPUT_FAILED = 5
INTERRUPTED = 130


MAX_NAMES = 12
"""How many names a message lists."""


class TinyhdError(Exception):
    """An error whose message is meant for the user: one line, what is wrong and what to do."""

    exit_code = SOME_INPUT_FAILED


class UsageError(TinyhdError):
    """The command or the configuration cannot be right, whatever the input."""

    exit_code = WRONG_USAGE


class InputError(TinyhdError):
    """An input cannot be read as what it should be."""

    exit_code = INPUT_UNREADABLE


class WeightsError(TinyhdError):
    """Weights are missing, damaged, refused, or of another network."""

    exit_code = WEIGHTS_UNAVAILABLE


class OutputError(TinyhdError):
    """An output could not be written."""

    exit_code = OUTPUT_FAILED


def one_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


NO_MEMORY = "not enough memory"


def describe_unexpected(error: Exception) -> str:
    """Describe an unhandled exception: a bug, unless memory ran out."""
    opencv_code = -4  # cv2.Error.StsNoMem
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # PyTorch, on a GPU
        or getattr(error, "code", None) == opencv_code
        or "DefaultCPUAllocator" in str(error)
    ):
        return NO_MEMORY
    return f"unexpected {type(error).__name__}: {one_line(error)} (use --debug for a traceback)"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The nearest known names as the end of a message: ``"did you mean a or b?"``, or what there is if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(wrong.lower(), names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose from {', '.join(names[:MAX_NAMES])}{' and more' if len(names) > MAX_NAMES else ''}"
