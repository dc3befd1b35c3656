"""Parse small documents from untrusted files within limits, and escape their text before it is shown."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .storage import fetched, named

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_DOCUMENT_BYTES = 16 << 20
"""Size limit of a JSON, TOML or YAML document. Typical documents have a few kilobytes, polygons a few megabytes."""

MAX_DEPTH = 64
"""Limit on the nesting of a document. Typical documents are nested about five levels deep."""

JOINERS = "\u200c\u200d"
"""Zero-width joiner and non-joiner: invisible, but required by Persian words and composed emoji."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets evaluate as formulas."""


def printable(text: object) -> str:
    """Escape characters that could move the cursor, forge a line or reverse the text direction (``\\x1b``, ``\\n``).

    Stand-ins of URLs become the URLs.
    """
    return "".join(
        character if character.isprintable() or character in JOINERS else ascii(character)[1:-1]
        for character in named(str(text))
    )


def csv_cell(text: object) -> str:
    """Return :func:`printable` text for a CSV cell; an apostrophe prevents spreadsheets from evaluating formulas."""
    cell = printable(text)
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def json_text(value: Any) -> str:
    """Return indented JSON with readable Unicode names; characters that :func:`printable` escapes get JSON escapes.

    Stand-ins of URLs become the URLs.
    """
    text = named(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    characters = (
        character
        if character.isprintable() or character in JOINERS or character == "\n"
        else json.dumps(character)[1:-1]
        for character in text
    )
    return "".join([*characters, "\n"])


def read_document(path: Path, limit: int = MAX_DOCUMENT_BYTES) -> str:
    """Read a small UTF-8 text file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger than ``limit`` bytes, or not UTF-8.
    """
    with fetched(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    return data.decode("utf-8")


def parse_json(text: str | bytes, *, unique: bool = False) -> Any:
    """Parse JSON.

    Args:
        text: the document.
        unique: also reject objects with a duplicate key, which other parsers may read differently.

    Raises:
        ValueError: it is malformed, or nests deeper than ``MAX_DEPTH``.
    """
    try:
        value = json.loads(text, object_pairs_hook=unique_keys if unique else None)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(value)
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ``ValueError`` if a key occurs twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; ``ValueError`` if it is malformed, or nests deeper than ``MAX_DEPTH``."""
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(value)
    return value


def parse_yaml(text: str) -> Any:
    """Parse YAML without tags that run code or aliases that multiply.

    Raises:
        ValueError: it is malformed, nests deeper than ``MAX_DEPTH``, or has an alias.
    """
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases (*name) are not supported")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(TOO_DEEP)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return value


def parse_xml(text: str) -> Element:
    """Parse XML without entities of its own, which could multiply; external files are never loaded.

    Raises:
        ValueError: it is malformed, nests deeper than ``MAX_DEPTH``, or declares an entity.
    """
    from xml.etree import ElementTree
    from xml.parsers import expat

    depth = 0

    def start(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(TOO_DEEP)

    def end(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_: Any) -> None:
        raise ValueError("XML entities (<!ENTITY ...>) are not supported; export it without them")

    checker = expat.ParserCreate()
    checker.StartElementHandler, checker.EndElementHandler, checker.EntityDeclHandler = start, end, entity
    try:
        checker.Parse(text.encode(), True)
        return ElementTree.fromstring(text.encode())
    except (expat.ExpatError, ElementTree.ParseError) as error:
        raise ValueError(f"is not valid XML ({error})") from error


TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def check_depth(value: Any) -> None:
    """Raise ``ValueError`` if a parsed document nests deeper than ``MAX_DEPTH``."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in children(outer)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def children(value: Any) -> Iterator[Any]:
    """Yield the containers directly inside a parsed value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from (inner for inner in inside if isinstance(inner, dict | list))
