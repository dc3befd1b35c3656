"""The result of ``predict`` in Python and in notebooks: an iterator, a table, and a view; the notebook of examples."""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import clips

from tinyhd_cli import InputError, UsageError, load_model, notebook, predict
from tinyhd_cli.inference import prediction

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(weights_file):
    return load_model(weights_file, "cpu", engine="torch")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clips.make(tmp_path_factory.mktemp("clip") / "a <b>.mp4", frames=5)


@pytest.fixture(scope="module")
def viewed(clip, model):
    """A prediction and its view."""
    made = predict(clip, model)
    return made, made._repr_html_()


def test_it_is_still_an_iterator(clip, model, capsys):
    made = predict(clip, model)
    time_s, first = next(made)
    rest = list(made)
    assert (time_s, first.shape, first.dtype, len(rest)) == (0.0, (192, 256), np.float32, 4)
    assert list(made) == []
    stopped = predict(clip, model, progress=True)
    next(stopped)
    next(stopped)
    stopped.close()
    assert list(stopped) == []
    assert "a <b>.mp4" in capsys.readouterr().err
    missing = predict("missing.mp4", model)
    with pytest.raises(InputError, match=r"missing\.mp4: no such file"):
        next(missing)
    assert missing._repr_html_() == "<p>missing.mp4: no such file</p>"


def test_view_in_a_notebook(viewed):
    _, html = viewed
    assert "a &lt;b&gt;.mp4: tinyhd-m-quarter, 5 frames" in html
    video = base64.b64decode(re.search(r'<video controls .* src="data:video/mp4;base64,([^"]+)"', html)[1])
    assert video[4:8] == b"ftyp"
    assert html.count("<svg") == 1
    assert "spread, % of diagonal" in html
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]+"|<!DOCTYPE[^>]+>', "", html)


def test_table(viewed, monkeypatch):
    made, _ = viewed
    monkeypatch.setattr(prediction, "predict_file", None)  # the view has predicted all
    table = made.to_dataframe()
    assert list(table.columns[:4]) == ["frame", "time_s", "peak_x", "peak_y"]
    assert (len(table), table["frame"].iloc[-1], str(table["spread"].dtype)) == (5, 5, "float64")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        made.to_dataframe()


def test_long_and_large_videos_have_no_player(viewed, clip, model, monkeypatch):
    made, _ = viewed
    monkeypatch.setattr(prediction, "MAX_PLAYER_BYTES", 10)
    html = made._repr_html_()
    assert "<video" not in html
    assert "too large for a notebook" in html
    monkeypatch.setattr(prediction, "MAX_PLAYER_S", 0.01)
    html = predict(clip, model)._repr_html_()
    assert "<video" not in html
    assert "<svg" in html


def test_an_image_and_a_pipe(tmp_path, model):
    import cv2

    cv2.imencode(".png", clips.image(1, 64, 48))[1].tofile(tmp_path / "a.png")
    html = predict(tmp_path / "a.png", model)._repr_html_()
    assert "1 frame<" in html
    assert '<img style="display:block;width:100%;max-width:64px" alt="overlay" src="data:image/png;base64,' in html
    assert "<svg" not in html
    assert predict("-", model)._repr_html_() == "<p>-: is a pipe, which can be read only once; iterate over it</p>"


def test_progress_bar_only_in_notebooks(monkeypatch):
    assert not notebook.in_notebook()
    with notebook.progress_bar("a.mp4") as report:
        assert report is None
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert notebook.in_notebook()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with notebook.progress_bar("a.mp4", True) as report:
        report(1, None)
        report(20, 40)
    assert "a.mp4" in sys.stderr.getvalue()


def test_the_notebook_of_examples(tmp_path):
    """All cells run, and the file in the repository has no outputs."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    source = PROJECT / "examples/attention.ipynb"
    found = nbformat.read(source, as_version=4)
    codes = [cell for cell in found.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in codes)
    shutil.copy(clips.make(tmp_path / "short.mp4", frames=12), tmp_path / "gallery.mp4")
    nbclient.NotebookClient(found, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in codes for output in cell.outputs]
    shown = [output["data"] for output in outputs if "data" in output]
    assert sum("<video controls" in data.get("text/html", "") for data in shown) == 1
    assert sum("<table" in data.get("text/html", "") for data in shown) == 1
    assert sum("image/png" in data for data in shown) == 1
    assert any("12 frames; left half:" in output.get("text", "") for output in outputs)
    assert any("gallery.mp4" in output.get("text", "") for output in outputs if output.get("name") == "stderr")
