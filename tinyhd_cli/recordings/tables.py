"""Tables in text: find their columns, and read some of them in chunks of constant size."""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import InputError, UsageError, one_line
from ..untrusted import printable
from ..wording import list_names
from .text import Head, blocks

if TYPE_CHECKING:
    from polars import DataFrame, Series

MISSING = ["", ".", "-", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "None", "undefined"]
"""Texts of missing values."""

SEPARATORS = ("\t", ";", ",", "|")
SPACES = re.compile(rb"[ \t]+")
LINE_EDGES = re.compile(rb"^\t|\t\r?$", re.MULTILINE)
QUOTED_BYTES = 1 << 16
"""Bytes of each block in which quoted cells are looked for."""

COMMENT = re.compile(r"#|sep=.$")
"""Comments before a table, and the line by which Excel knows the separator."""

NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)

MAX_NAME = 60
"""Longest name of a column in a message."""

MAX_COLUMNS = 10_000
"""Limit on the columns of a table; the widest exports have several hundred."""


@dataclass(frozen=True)
class Table:
    """A table in a text file of which only the header has been read."""

    head: Head
    columns: tuple[str, ...]
    """Names of the columns; of a table without a header, numbers from 1."""
    separator: str
    """A space stands for any number of spaces and tabs."""
    skip: int
    """Number of lines before the first row of values."""
    decimal_comma: bool = False

    def first_numbers(self, names: Sequence[str]) -> list[tuple[float, ...]]:
        """Return the numbers in some columns of the rows in the head of the file; NaN where missing."""
        indices = [self.columns.index(name) for name in names]
        rows = [split(line, self.separator) for line in self.head.lines[self.skip :] if line.strip()]
        return [tuple(to_number(row[i]) if i < len(row) else math.nan for i in indices) for row in rows]

    def chunks(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> Iterator[DataFrame]:
        """Yield the rows in chunks, as columns ``numbers`` in float64 (null if not a number) and ``texts``.

        Raises:
            InputError: the file cannot be read, or a column is missing.
        """
        missing = [name for name in (*numbers, *texts) if name not in self.columns]
        if missing:
            raise InputError(f"{self.head.path}: has no column {printable(missing[0])}; {describe(self)}")
        separator = self.separator
        for block in blocks(self.head, self.skip):
            if self.separator == " ":
                block, separator = LINE_EDGES.sub(b"", SPACES.sub(b"\t", block)), "\t"
            yield parse(self.head.path, block, self.columns, (numbers, texts), separator, self.decimal_comma)


def parse(
    path: Path,
    block: bytes,
    columns: Sequence[str],
    wanted: tuple[Sequence[str], Sequence[str]],
    separator: str,
    decimal_comma: bool = False,
) -> DataFrame:
    """Return some columns of a block of lines; longer lines are cut, shorter ones are filled with null.

    Args:
        path: the file, for messages.
        block: lines in UTF-8.
        columns: names of all columns.
        wanted: names of the columns that are numbers, and of those that are text.
        separator: character between columns.
        decimal_comma: whether numbers have decimal commas.

    Raises:
        InputError: the lines are not a table.
    """
    polars = import_extra("polars")
    if b" " + separator.encode() in block or b" \n" in block or b" \r" in block:  # numbers padded with spaces
        block = re.sub(rb" +(?=%b|\r?\n|$)" % re.escape(separator.encode()), b"", block)
    kinds = dict.fromkeys(wanted[0], polars.Float64) | dict.fromkeys(wanted[1], polars.String)
    # A header of our own: without one, the first line of each block would have to have all columns.
    short = {name: f"c{index}" for index, name in enumerate(columns)}
    header = separator.join(short.values()).encode() + b"\n"
    mark = re.escape(separator.encode())
    quoted = re.search(rb'(^|%s)"' % mark, block[:QUOTED_BYTES], re.MULTILINE) is not None
    if quoted and block.count(b'"') % 2:  # such as inches in a message
        block, quoted = block.replace(b'"', b""), False

    def read(kinds: Mapping[str, Any]) -> DataFrame:
        frame = polars.read_csv(
            io.BytesIO(header + block),
            separator=separator,
            columns=[short[name] for name in columns if name in kinds],
            schema_overrides={short[name]: kinds.get(name, polars.String) for name in columns},
            null_values=MISSING,
            decimal_comma=decimal_comma,
            ignore_errors=True,
            truncate_ragged_lines=True,
            quote_char='"' if quoted else None,
            encoding="utf8-lossy",
        )
        return cast("DataFrame", frame.rename({short[name]: name for name in columns if name in kinds}))

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = read(kinds)
            other = b"." if decimal_comma else b","
            suspect = other in block and (quoted or separator.encode() != other)
            lost = [name for name in wanted[0] if suspect and frame[name].null_count()]
            texts = read(dict.fromkeys(lost, polars.String)) if lost else frame
    except polars.exceptions.PolarsError as error:
        raise InputError(f"{path}: is not a regular table: {one_line(error)}") from error
    malformed = [warning for warning in caught if warning.category is UserWarning]
    if malformed:  # a quoted cell that spans lines where none should: rows would be lost
        raise InputError(f"{path}: is not a regular table: {one_line(Warning(malformed[0].message))}")
    if lost and texts.height != frame.height:
        raise InputError(f"{path}: is not a regular table: quotes are not closed")
    for name in lost:
        check_marks(path, texts[name].filter(frame[name].is_null()).drop_nulls().unique())
    return frame


def check_marks(path: Path, texts: Series) -> None:
    """Raise ``InputError`` if one of the texts that were not read as numbers is one with another decimal mark."""
    number = next((text for text in texts.to_list() if NUMBER.fullmatch(text)), None)
    if number is not None:
        raise InputError(
            f"{path}: has numbers such as {printable(number)!r} among numbers with another decimal mark; export it"
            " with decimal points"
        )


def to_number(cell: str) -> float:
    """Return a cell as a number; NaN if it is none."""
    return float(cell.replace(",", ".")) if NUMBER.fullmatch(cell) else math.nan


def import_extra(name: str) -> Any:
    """Import ``polars`` or ``pymovements``; ``UsageError`` if it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise UsageError("recordings need pymovements and polars; run pip install 'tinyhd[gaze]'") from None


def open_table(head: Head, skip: int = 0) -> Table:
    """Return the table of a file by its header line, or with numbered columns if it has none.

    Args:
        head: start of the file.
        skip: number of lines before the header.

    Raises:
        InputError: there is no line with several columns.
    """
    lines = head.lines[skip:]
    start = next((index for index, line in enumerate(lines) if line.strip() and not COMMENT.match(line)), len(lines))
    if start == len(lines):
        raise InputError(f"{head.path}: has no table")
    first = lines[start]
    separator = find_separator(first)
    if not is_header(first):
        return numbered_table(head, skip + start)
    names = split(first, separator)
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{head.path}: has {len(names):,} columns; the limit is {MAX_COLUMNS:,}")
    return Table(head, unique(names), separator, skip + start + 1, has_decimal_commas(lines[start + 1 :], separator))


def numbered_table(head: Head, skip: int = 0) -> Table:
    """Return a table without a header: its columns are numbered from 1; ``InputError`` if it is no table."""
    line = next((line for line in head.lines[skip:] if line.strip()), "")
    separator = find_separator(line)
    cells = split(line, separator)
    if len(cells) < 2 or not any(NUMBER.fullmatch(cell) for cell in cells):
        raise InputError(f"{head.path}: the line {printable(line[:60])!r} has neither names of columns nor numbers")
    names = tuple(str(number) for number in range(1, len(cells) + 1))
    return Table(head, names, separator, skip, has_decimal_commas(head.lines[skip:], separator))


def find_separator(line: str) -> str:
    """Return the most frequent separator of columns in a line; a space if it has none of the usual ones."""
    best = max(SEPARATORS, key=line.count)
    return best if best in line else " "


def split(line: str, separator: str) -> list[str]:
    """Return the cells of a line, without spaces around them."""
    if separator == " ":
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return column names with a number added to those that occur again or are empty."""
    seen: Counter[str] = Counter()
    result = []
    for index, name in enumerate(names, start=1):
        seen[name] += 1
        result.append(name if name and seen[name] == 1 else f"{name or 'column'} #{index}")
    return tuple(result)


def has_decimal_commas(rows: Sequence[str], separator: str) -> bool:
    """Return whether numbers have decimal commas, as exported in some countries."""
    if separator == "," or not any("," in row for row in rows):
        return False
    cells = [cell for row in rows for cell in split(row, separator) if NUMBER.fullmatch(cell)]
    return any("," in cell for cell in cells) and not any("." in cell for cell in cells)


def is_header(line: str) -> bool:
    """Return whether a line names columns: several cells, most of them no numbers."""
    cells = split(line, find_separator(line))
    named = [cell for cell in cells if cell and not NUMBER.fullmatch(cell)]
    return len(cells) >= 2 and len(named) * 2 > len(cells)


def require(table: Table, roles: Mapping[str, str]) -> None:
    """Raise ``InputError`` unless a table has the columns that ``--columns`` names."""
    for role, name in roles.items():
        if name not in table.columns:
            raise InputError(f"{table.head.path}: has no column {name!r} for {role}; {describe(table)}")


def describe(table: Table) -> str:
    """Return the columns of a table as text for a message."""
    if table.columns[0] == "1":
        return f"it has no header, its columns are numbered from 1 to {len(table.columns)}"
    return f"it has the columns {list_names([printable(name[:MAX_NAME]) for name in table.columns], 12)}"
