"""Names from files and command lines are always shown as plain text on one line."""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import clips
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.commands import progress, terminal
from tinyhd_cli.errors import describe_unexpected
from tinyhd_cli.figures import add_legend, new_figure, plain_text
from tinyhd_cli.untrusted import json_text
from tinyhd_cli.wording import list_names, plural

NAMES = [
    "$\\frac{$",
    "_hidden",
    "=cmd|'/c calc'!A1\n,x",
    ":x: [bold]<script>alert(1)</script>",
    "\u202egpj \x1b[31m",
    "entropy",
]
SHOWN = ["$\\frac{$", "_hidden", "=cmd|'/c calc'!A1\\n,x", NAMES[3], "\\u202egpj \\x1b[31m", "entropy"]
"""The names as they must be shown."""


@pytest.fixture
def areas():
    boxes = [{"name": name, "box": [10 * number, 4, 9, 30]} for number, name in enumerate(NAMES)]
    Path("areas.json").write_text(json.dumps({"areas": boxes}))
    return ["--aoi", "areas.json", "--aoi", ":-1:=1,1,9,9"]


def test_names_of_areas(tinyhd, tmp_path, weights_file, areas, capsys):
    """They appear in CSV, JSON, the plot, the overlay and messages; one equals the name of a statistic."""
    clip = clips.make(tmp_path / "clip.mp4", frames=2)
    outputs = ["--csv", "o.csv", "--json", "o.json", "--aoi-plot", "p.png", "--overlay", "o.mp4"]
    assert tinyhd("predict", clip, "--weights", weights_file, *areas, *outputs) == 0
    output = capsys.readouterr()
    for name in [*SHOWN, ":-1:"]:
        assert re.search(f"^{re.escape(name)}: .* of the attention", output.err, re.MULTILINE), name
    assert "\x1b" not in output.err and "\u202e" not in output.err
    text = Path("o.csv").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 3
    header, row, _ = csv.reader(text.splitlines())
    assert header[8:] == [f"aoi_{name}" for name in [*SHOWN, ":-1:"]]
    assert len(row) == len(header) and float(row[6]) > 5  # the entropy in bits, not the area of that name
    assert list(json.loads(Path("o.json").read_text(encoding="utf-8"))["areas"]) == [*SHOWN, ":-1:"]
    assert Path("p.png").stat().st_size > 5000


def test_names_of_areas_in_a_report(tinyhd, tmp_path, weights_file, areas):
    clip = clips.make(tmp_path / "clip\n\u202e<b>.mp4", frames=2)
    assert tinyhd("report", clip, "--weights", weights_file, *areas, "-o", "r.html", "-q") == 0
    page = Path("r.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "\u202e" not in page and "<b>.mp4" not in page
    assert "clip\\n\\u202e&lt;b&gt;.mp4" in page
    svg = page[page.index('id="areas"') :]
    svg = svg[svg.index("<svg") : svg.index("</svg>")]
    for name in ("$\\frac{$", "_hidden", ":-1:", "[bold]&lt;script&gt;alert(1)"):
        assert name in svg, name


def test_legends_contain_all_names():
    with plain_text():
        axes = new_figure(3, 2).add_subplot()
        for _ in NAMES:
            axes.plot([1, 2])
        add_legend(axes, NAMES)
        axes.figure.canvas.draw()  # mathtext would fail here
        found = axes.get_legend().get_texts()
        assert [text.get_text() for text in found] == NAMES
        assert not any(text.get_parse_math() for text in found)


def test_messages_cannot_forge_lines(capsys):
    forged = "a\ntinyhd: all is well \x1b[2J\x9b31m \u202e :x: [bold]b[/]"
    shown = "a\\ntinyhd: all is well \\x1b[2J\\x9b31m \\u202e :x: [bold]b[/]"
    terminal.console.cache_clear()
    terminal.show_log(debug=False)
    terminal.say(f"tinyhd: {forged}")
    logging.getLogger("tinyhd").warning("%s: damaged", forged)
    terminal.show_log(debug=False, json_log=True)
    try:
        logging.getLogger("tinyhd").warning("%s: damaged", forged)
        terminal.say(forged)
    finally:
        terminal.show_log(debug=False)
        terminal.console.cache_clear()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [f"tinyhd: {shown}", f"tinyhd: warning: {shown}: damaged"]
    assert [json.loads(line)["message"] for line in lines[2:]] == [f"{shown}: damaged", shown]


def test_progress_labels_are_text(monkeypatch):
    from io import StringIO

    from rich.console import Console

    screen = StringIO()
    console = Console(file=screen, force_terminal=True, emoji=False, markup=False, width=100)
    monkeypatch.setattr(progress, "console", lambda: console)
    with progress.progress_display() as display:
        display.video(":x: [bold]\x1b[2J\u202e.mp4")(1, 2)
    assert ":x: [bold]\\x1b[2J" in screen.getvalue()
    assert "\u202e" not in screen.getvalue() and "\x1b[2J" not in screen.getvalue()


def test_names_of_videos_in_an_evaluation(tinyhd, tmp_path, capsys):
    """They appear in the table, the CSV, the JSON, the output of --check and the plots."""
    names = ["=1+1", "$\\frac{$ :x:", "a\nb\u202e"]
    root = tmp_path / "data"
    for name in names:
        for number in (1, 2):
            fixations = on_disk.fixation("v", number)
            on_disk.write_image(root / name / "fixation" / f"{number}.png", fixations)
            on_disk.write_image(root / name / "maps" / f"{number}.png", on_disk.density(fixations))
            on_disk.write_image(root / name / "images" / f"{number}.png", on_disk.draw_frame("v", number))
    outputs = ["--csv", "s.csv", "--json", "s.json", "--plot", "plots", "--workers", "1"]
    assert tinyhd("evaluate", "--root", root, "--prior", *outputs) == 0
    output = capsys.readouterr()
    for name in ("=1+1", "$\\frac{$ :x:", "a\\nb\\u202e"):
        assert any(line.startswith(name) for line in output.out.splitlines()), output.out
    with Path("s.csv").open(encoding="utf-8", newline="") as file:
        assert {row[0] for row in csv.reader(file)} == {"video", "'=1+1", "$\\frac{$ :x:", "a\\nb\\u202e"}
    text = Path("s.json").read_text(encoding="utf-8")
    assert "\u202e" not in text and set(json.loads(text)["videos"]) == set(names)
    assert len(list(Path("plots").iterdir())) == 6
    (root / "a\nb\u202e" / "maps" / "2.png").write_bytes(b"")
    assert tinyhd("evaluate", "--root", root, "--check") == 1
    output = capsys.readouterr().out
    assert "fault: a\\nb\\u202e: " in output and "\u202e" not in output


def test_json_is_readable_and_escaped():
    value = {"中文 \x9b\u202e\n": ["\U000e0001", "\udcff", 0.5]}
    text = json_text(value)
    assert json.loads(text) == value
    assert "中文" in text and all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 3.5 PiB"), "not enough memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "not enough memory"),
        (ZeroDivisionError("x\ny"), "unexpected ZeroDivisionError: x (use --debug for a traceback)"),
    ],
)
def test_unhandled_errors(error, message):
    assert describe_unexpected(error) == message


def test_plural_and_list_names():
    assert [plural(count, "frame") for count in (0, 1, 2, 1200)] == ["0 frames", "1 frame", "2 frames", "1,200 frames"]
    assert plural(2, "box", "boxes") == "2 boxes"
    assert list_names("abc") == "a, b, c" and list_names("abcdefg", 2) == "a, b and 5 more"


def test_singular_of_one_frame(tinyhd, tmp_path, weights_file, capsys):
    clip = clips.make(tmp_path / "clip.mp4", frames=1)
    assert tinyhd("predict", clip, "--weights", weights_file, "--csv", "o.csv") == 0
    assert "clip.mp4: 1 frame in " in capsys.readouterr().err
    assert np.loadtxt("o.csv", delimiter=",", skiprows=1)[0] == 1
