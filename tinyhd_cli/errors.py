"""Define the errors and exit codes of tinyhd. Imports no other module of the package, so that all can use it."""

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
"""Exit codes of the commands."""

MAX_NAMES = 12
"""Maximum number of names in a message."""


class TinyhdError(Exception):
    """An error with a message for the user: one line that states what is wrong and what to do."""

    exit_code = SOME_INPUT_FAILED
    """Exit code of a command that fails with this error."""


class UsageError(TinyhdError):
    """The command line or the configuration is invalid."""

    exit_code = WRONG_USAGE


class InputError(TinyhdError):
    """An input cannot be read or has invalid content."""

    exit_code = INPUT_UNREADABLE


class WeightsError(TinyhdError):
    """Weights are missing, damaged, not trusted, or belong to a different network."""

    exit_code = WEIGHTS_UNAVAILABLE


class OutputError(TinyhdError):
    """An output cannot be written."""

    exit_code = OUTPUT_FAILED


def one_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


NO_MEMORY = "not enough memory"
"""Message of all errors caused by a lack of memory."""


def describe_unexpected(error: Exception) -> str:
    """Return the message for an exception that nothing handled: a bug, unless memory ran out or PyTorch is missing."""
    opencv_code = -4  # cv2.Error.StsNoMem
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # PyTorch, on a GPU
        or getattr(error, "code", None) == opencv_code
        or "DefaultCPUAllocator" in str(error)
    ):
        return NO_MEMORY
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "torch":
        return "needs PyTorch, which cannot be imported (pip install torch); the embedded default model runs without it"
    return f"unexpected {type(error).__name__}: {one_line(error)} (use --debug for a traceback)"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: ``did you mean a or b?``, or the known names.

    Args:
        wrong: the unknown name.
        known: all known names.
    """
    names = sorted(known)
    near = difflib.get_close_matches(wrong.lower(), names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose from {', '.join(names[:MAX_NAMES])}{' and more' if len(names) > MAX_NAMES else ''}"
