"""Documents from files are limited in size and depth; their text cannot control a terminal or a spreadsheet."""

from __future__ import annotations

import pytest

from tinyhd_cli.untrusted import csv_cell, parse_json, parse_toml, parse_yaml, printable, read_document


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("one\ntinyhd: two\r", "one\\ntinyhd: two\\r"),
        ("gpj\u202eexe", "gpj\\u202eexe"),
        ("caf\u00e9 \u4e2d\u6587 \U0001f469\u200d\U0001f52c", "caf\u00e9 \u4e2d\u6587 \U0001f469\u200d\U0001f52c"),
        ("\udcff", "\\udcff"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_csv_cells_are_not_formulas():
    assert [csv_cell(text) for text in ("logo", "=cmd|'/c calc'!A1", "+1", "a\nb", "-x", "@sum")] == [
        *("logo", "'=cmd|'/c calc'!A1", "'+1", "a\\nb", "'-x", "'@sum"),
    ]


def test_documents_within_limits(tmp_path):
    assert parse_json('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert parse_toml("[a.b]\nc = [1]") == {"a": {"b": {"c": [1]}}}
    assert parse_yaml("a: {b: [1]}") == {"a": {"b": [1]}}
    (tmp_path / "long").write_bytes(b"x" * 100)
    assert read_document(tmp_path / "long", 100) == "x" * 100
    with pytest.raises(ValueError, match="larger than"):
        read_document(tmp_path / "long", 99)


@pytest.mark.parametrize("levels", [65, 100_000])
@pytest.mark.parametrize(
    ("parse", "pattern"),
    [
        (parse_json, ("[", "]")),
        (parse_json, ('{"a":', "}")),
        (parse_toml, ("[", "]")),
        (parse_yaml, ("[", "]")),
    ],
    ids=["json-list", "json-object", "toml", "yaml"],
)
def test_deep_documents(parse, pattern, levels):
    opening, closing = pattern
    inside = "1" if ":" in opening else ""
    text = ("a = " if parse is parse_toml else "") + opening * levels + inside + closing * levels
    with pytest.raises(ValueError, match="nested more than 64 levels deep"):
        parse(text)


def test_yaml_with_aliases_and_tags():
    with pytest.raises(ValueError, match="aliases"):
        parse_yaml("a: &a [1, 1]\nb: [*a, *a, *a]")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        parse_yaml("!!python/object/apply:os.system ['true']")
