"""Read exported text in blocks of whole lines: UTF-8, UTF-16 or Latin-1, compressed by gzip or not."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ..errors import InputError

HEAD_BYTES = 1 << 18
"""Bytes at the start of a file by which its format is recognized; headers of EyeLink files have about 20 KB."""

BLOCK_BYTES = 1 << 23
"""Bytes that are read at once."""

MAX_LINE_BYTES = 1 << 20
"""Size limit of a line; the widest exports have about 10 KB."""

MAX_BYTES = 1 << 34
"""Size limit of a text after decompression."""

SUFFIXES = (".csv", ".tsv", ".txt", ".asc", ".coord", ".mat", ".csv.gz", ".tsv.gz", ".txt.gz", ".asc.gz")
"""Suffixes of recordings."""

FAULTS = (ValueError, ArithmeticError, LookupError, csv.Error)
"""Errors of damaged content, which concern one file."""

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextlib.contextmanager
def input_errors(path: Path) -> Iterator[None]:
    """Convert errors of reading inside the block to ``InputError``."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is not a complete gzip file; copy or export it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text; export the recording as text") from error


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip if it has gzip's signature."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if compressed else path.open("rb")


@dataclass(frozen=True)
class Head:
    """The start of a file."""

    path: Path
    raw: bytes
    """Decompressed bytes."""
    encoding: str
    lines: tuple[str, ...]
    """Complete lines without their ends; empty if the file is not text."""


def bare_name(name: str) -> str:
    """Return the name of a file without the suffixes of recordings; other dots belong to the name."""
    found = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix) and len(name) > len(suffix)]
    return name[: -len(max(found, key=len))] if found else name


def read_head(path: Path) -> Head:
    """Return the start of a file; ``InputError`` if it cannot be read or is empty."""
    with input_errors(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is not a file")
        with open_bytes(path) as file:
            raw = file.read(HEAD_BYTES)
    if not raw.strip():
        raise InputError(f"{path}: is empty")
    encoding = find_encoding(raw)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(raw)
    # Not splitlines(): it splits at other characters, too, which `blocks` does not.
    lines = re.split(r"\r?\n" if "\n" in text else r"\r", text)
    if len(raw) == HEAD_BYTES or not lines[-1]:
        lines = lines[:-1]
    return Head(path, raw, encoding, () if is_binary(raw, encoding) else tuple(lines))


def is_binary(raw: bytes, encoding: str) -> bool:
    """Return whether bytes are no text."""
    return encoding != "utf-16" and b"\0" in raw


def find_encoding(raw: bytes) -> str:
    """Return the encoding of a text by its first bytes."""
    if raw.startswith(UTF16):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw)  # a character may be cut at the end
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else "utf-8"


def blocks(head: Head, skip: int = 0) -> Iterator[bytes]:
    """Yield a file as blocks of whole lines, in UTF-8 with ``\\n`` at their ends.

    Args:
        head: start of the file.
        skip: number of lines at the start to leave out.

    Raises:
        InputError: the file cannot be read, or has an extremely long line.
    """
    decoder = codecs.getincrementaldecoder(head.encoding)("replace")
    rest, size = b"", 0
    with input_errors(head.path), open_bytes(head.path) as file:
        while block := file.read(BLOCK_BYTES):
            size += len(block)
            if size > MAX_BYTES:
                raise InputError(f"{head.path}: has more than {MAX_BYTES >> 30} GiB of text; split it")
            text = block if head.encoding == "utf-8" else decoder.decode(block).encode()
            text = rest + text
            end = text.rfind(b"\n") + 1
            if not end and b"\r" in text:  # classic Mac OS
                text, end = text.replace(b"\r", b"\n"), text.rfind(b"\r") + 1
            text, rest = text[:end], text[end:]
            if len(rest) > MAX_LINE_BYTES:
                raise InputError(f"{head.path}: has a line of more than {MAX_LINE_BYTES >> 20} MiB; it is not a table")
            text, skip = skip_lines(text, skip)
            if text:
                yield text
    rest, _ = skip_lines(rest, skip)
    if rest.strip():
        yield rest + b"\n"


def skip_lines(text: bytes, count: int) -> tuple[bytes, int]:
    """Return a block without its first lines, and the number of lines that are still to leave out."""
    start = 0
    while count and start < len(text):
        end = text.find(b"\n", start) + 1
        start = end or len(text)
        count -= 1
    return text[start:], count
