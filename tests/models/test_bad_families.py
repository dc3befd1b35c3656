"""Families of other packages whose code is wrong: one line that names the family, and no output."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from helpers import clips, training_data
from helpers.pair import Pair, PairFamily
from torch import nn

from tinyhd_cli import models, weights
from tinyhd_cli.errors import UsageError
from tinyhd_cli.models import LossTerm, Stage, plugins, registry

SPEC = PairFamily.specs[0]
FAILED = "the model family 'pair' failed with "


@pytest.fixture(autouse=True)
def no_families(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.network_state.cache_clear()
    yield
    registry.network_state.cache_clear()


class Entry(metadata.EntryPoint):
    """An entry point that runs a function when it is loaded."""

    def load(self):
        return self.run()


def load(run, name="x"):
    """Return the plugin of an entry point that runs a function."""
    entry = Entry(name, "x:y", plugins.GROUP)
    entry.__dict__.update(run=run)
    return plugins.load_plugin(entry, "package 1", set())


def leave():
    sys.exit("bye")


def fail():
    raise RuntimeError("\x1b[2Jred\nsecond line")


def test_an_import_that_ends_the_program():
    assert load(leave).problem == "SystemExit: bye"
    assert load(fail).problem == r"RuntimeError: \x1b[2Jred"
    assert load(fail, name="\x1b[2J\n").name == r"\x1b[2J\n"


def test_ctrl_c_during_an_import_stops_the_program():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(interrupt)


def test_what_an_import_prints_is_not_data(capsys):
    def chatty():
        print("hello")
        return PairFamily

    assert load(chatty).family is not None
    assert capsys.readouterr() == ("", "hello\n")


def raising(self):
    raise OSError("no GPU")


TERM = LossTerm("final", "mse")
BAD_ATTRIBUTES = {
    "specs a text": ({"specs": "pair-64"}, "specs must be a tuple of ModelSpec, not 'pair-64'"),
    "specs dicts": ({"specs": ({"name": "x"},)}, "specs must be a tuple of ModelSpec, not ({'name': 'x'},)"),
    "specs twice": ({"specs": (SPEC, SPEC)}, "specs: two networks are named 'pair-64'"),
    "specs raise": ({"specs": property(raising)}, "OSError: no GPU"),
    "name a number": ({"name": 3}, "pair-64 names the family 'pair', not 3"),
    "anchors a text": ({"anchors": "early.weight"}, "anchors must be a tuple of texts, not 'early.weight'"),
    "an empty anchor": ({"anchors": ("",)}, "anchors must be a tuple of texts, not ('',)"),
    "init": ({"init": "imagenet"}, "init must be none, or imagenet if the attribute imagenet is set"),
    "training options": ({"training_options": ("drop",)}, "training_options: pair-64 has no option 'drop'"),
    "hierarchy": ({"hierarchy": None}, "hierarchy must be a string, not None"),
    "terms": ({"terms": ("final",)}, "terms must be a tuple of LossTerm, not ('final',)"),
    "terms twice": ({"terms": (TERM, TERM)}, "terms: two terms are named 'final'"),
    "slips": ({"slips": ("final",)}, "slips must be a tuple of LossTerm, not ('final',)"),
    "intermediate": (
        {"intermediate": False, "terms": (replace(TERM, of="early"),)},
        "terms: final uses an intermediate map, but the family sets intermediate = False",
    ),
    "roles a text": ({"roles": "spatial"}, "roles must be a tuple of some of spatial, temporal, not 'spatial'"),
    "roles unknown": ({"roles": ("audio",)}, "roles must be a tuple of some of spatial, temporal, not ('audio',)"),
    "role of a term": (
        {"terms": (replace(TERM, to="teacher.spatial"),)},
        "terms: final names the role 'spatial', which the family's roles lack",
    ),
    "stages": ({"stages": ({"terms": ()},)}, "stages must be a tuple of Stage, not ({'terms': ()},)"),
    "stage terms": ({"stages": (Stage({}, (TERM,)), Stage({}, ("x",)))}, "stage 2: terms must be a tuple of LossTerm"),
    "stage options": ({"stages": (Stage(("x",), ()),)}, "stage 1: options must be a table, not ('x',)"),
    "stage option": ({"stages": (Stage({"heads": 2}, ()),)}, "stage 1: options: pair-64 has no option 'heads'"),
    "stage frozen": ({"stages": (Stage({}, (), "low"),)}, "stage 1: frozen must be a tuple of names of modules"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a=\x1b"}, r"loss term 'a=\x1b': a name must be letters"),
        ({"name": None}, "loss term None: a name must be letters"),
        ({"kind": "l1"}, "loss term final: kind must be one of kl, kl-eps, mse, bce, logits, cc, nss, not 'l1'"),
        ({"kind": ["kl"]}, "loss term final: kind must be one of kl, kl-eps, mse, bce, logits, cc, nss, not ['kl']"),
        ({"of": "early.x"}, "loss term final: of must be final, KEY or KEY.I, not 'early.x'"),
        ({"of": 3}, "loss term final: of must be final, KEY or KEY.I, not 3"),
        (
            {"to": "truth"},
            "loss term final: to must be teacher, teacher.I, teacher.ROLE, density, fixation, mask, student.KEY or "
            "neighbor.KEY, not 'truth'",
        ),
        (
            {"to": None},
            "loss term final: to must be teacher, teacher.I, teacher.ROLE, density, fixation, mask, student.KEY or "
            "neighbor.KEY, not None",
        ),
        ({"weight": float("nan")}, "loss term final: weight must be a number, not nan"),
        ({"weight": "1"}, "loss term final: weight must be a number, not '1'"),
        ({"pair_weight": "1"}, "loss term final: pair_weight must be a number or None, not '1'"),
        ({"frames": (-1,)}, "loss term final: frames must be numbers of frames or None, not (-1,)"),
        ({"detached": None}, "loss term final: detached must be True or False, not None"),
    ],
)
def test_invalid_terms(change, message):
    with pytest.raises(UsageError) as error:
        replace(TERM, **change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("kind", BAD_ATTRIBUTES)
def test_invalid_attributes(kind):
    attributes, problem = BAD_ATTRIBUTES[kind]
    plugin = load(lambda: type("Bad", (PairFamily,), attributes))
    assert plugin.family is None
    assert plugin.problem.startswith(problem)


def test_invalid_families_cannot_be_registered():
    with pytest.raises(UsageError, match="terms must be a tuple of LossTerm"):
        models.register(type("Bad", (PairFamily,), {"terms": (None,)})())


def network(forward):
    """Return a family whose networks have another ``forward(clip)``."""
    changed = type("Changed", (Pair,), {"forward": lambda self, clip, intermediate=False: forward(self, clip)})
    return type("Bad", (PairFamily,), {"intermediate": False, "terms": (TERM,), "build": lambda self, s: changed(s)})()


def plain(self, clip):
    return Pair.forward(self, clip)


BAD_NETWORKS = {
    "raises": (lambda self, clip: fail(), FAILED + r"RuntimeError: \x1b[2Jred"),
    "another size": (
        lambda self, clip: plain(self, clip)[..., :32],
        "outputs maps of shape (1, 64, 32), but its spec states (1, 64, 64)",
    ),
    "two maps": (
        lambda self, clip: plain(self, clip).repeat(1, 2, 1, 1),
        "outputs maps of shape (2, 64, 64), but its spec states (1, 64, 64)",
    ),
    "no map": (lambda self, clip: None, FAILED + "TypeError: 'NoneType' object is not subscriptable"),
    "NaN": (lambda self, clip: plain(self, clip) * torch.nan, "the saliency maps contain NaN or infinity"),
}


def saved_by_a_sound_family(tmp_path):
    models.register(PairFamily())
    torch.manual_seed(0)
    path = tmp_path / "pair.safetensors"
    weights.save(path, Pair(SPEC).state_dict(), SPEC)
    registry.network_state.cache_clear()
    registry._registered.clear()
    return path


@pytest.mark.parametrize("engine", ["torch", "auto"])
@pytest.mark.parametrize("kind", BAD_NETWORKS)
def test_wrong_networks(tinyhd, capsys, tmp_path, kind, engine):
    forward, message = BAD_NETWORKS[kind]
    path = saved_by_a_sound_family(tmp_path)
    models.register(network(forward))
    clips.make(Path("clip.mp4"), frames=2)
    assert tinyhd("predict", "clip.mp4", "--weights", path, "--csv", "o.csv", "--engine", engine) == 4
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("o.csv").exists()


def test_maps_of_another_type_are_converted(tinyhd, tmp_path):
    path = saved_by_a_sound_family(tmp_path)
    models.register(network(lambda self, clip: plain(self, clip).double()))
    clips.make(Path("clip.mp4"), frames=2)
    assert tinyhd("predict", "clip.mp4", "--weights", path, "--csv", "o.csv", "--engine", "torch") == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda self, spec: raising(self), FAILED + "OSError: no GPU"),
        (lambda self, spec: sys.exit(3), FAILED + "SystemExit: 3"),
        (lambda self, spec: 3, FAILED + "TypeError: build must return a torch.nn.Module, not int"),
        (lambda self, spec: nn.Conv2d(3, 3, 1), "not weights of pair-64: they lack 'bias'"),
    ],
)
def test_networks_that_cannot_be_built(tinyhd, capsys, tmp_path, build, message):
    path = saved_by_a_sound_family(tmp_path)
    models.register(type("Bad", (PairFamily,), {"build": build})())
    clips.make(Path("clip.mp4"), frames=2)
    assert tinyhd("predict", "clip.mp4", "--weights", path, "--csv", "o.csv") == 4
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_networks_that_cannot_be_exported(tinyhd, capsys, tmp_path):
    """The sum decides about the map, which a graph cannot express."""
    path = saved_by_a_sound_family(tmp_path)
    models.register(network(lambda self, clip: plain(self, clip) * (1 if clip.sum().item() > 0 else 0.5)))
    for format, name in (("onnx", "pair.onnx"), ("openvino", "pair.xml")):
        assert tinyhd("export", "--weights", path, "--format", format, "--out", name) == 5
        err = capsys.readouterr().err
        assert err.startswith(f"tinyhd: {name}: not written: the network cannot be converted to ")
        assert err.count("\n") == 1
        assert not list(Path().iterdir())


def train(tinyhd, tmp_path, **attributes):
    """Train a family for a step and return the exit code."""
    models.register(type("Bad", (PairFamily,), attributes)())
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=4)
    options = ("--steps", "1", "--batch-size", "1", "--workers", "0", "--device", "cpu", "--quiet")
    return tinyhd("train", "--data", root, "--model", "pair-64", "--out", "run", "--hold-out", "0", *options)


def with_outputs(change):
    """Return a family's ``build`` whose networks have other outputs in training."""

    def forward(self, clip, intermediate=False):
        result = Pair.forward(self, clip, intermediate)
        return change(*result) if intermediate else result

    changed = type("Changed", (Pair,), {"forward": forward})
    return lambda self, spec: changed(spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saliency, maps: saliency, FAILED + "ValueError: not enough values to unpack"),
        (lambda saliency, maps: (saliency, [maps]), FAILED + "AttributeError: 'list' object has no attribute 'items'"),
        (lambda saliency, maps: (saliency, {"early": 3}), FAILED + "AttributeError: 'int' object has no attribute"),
        (
            lambda saliency, maps: (saliency, {"early": maps["early"][:, 0, 0]}),
            "the network outputs early of shape (1, 64, 64), not (1, T, 64, 64)",
        ),
        (
            lambda saliency, maps: (saliency.repeat(1, 2, 1, 1), maps),
            "the network outputs saliency of shape (1, 2, 64, 64), not (1, 1, 64, 64)",
        ),
    ],
)
def test_wrong_outputs_in_training(tinyhd, capsys, tmp_path, change, message):
    assert train(tinyhd, tmp_path, build=with_outputs(change)) == 4
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path("run").glob("*.safetensors"))


def test_terms_without_an_output_are_reported_once(tinyhd, capsys, tmp_path):
    terms = (*PairFamily.terms, LossTerm("deep", "mse", of="late", to="student.nothing"))
    assert train(tinyhd, tmp_path, terms=terms) == 0
    assert capsys.readouterr().err == (
        "tinyhd: warning: terms of the loss are left out, because the network lacks their output: "
        "deep (late), deep (nothing)\n"
    )


def test_a_loss_without_any_term(tinyhd, capsys, tmp_path):
    """There is no teacher, so the only term has no target."""
    assert train(tinyhd, tmp_path, terms=(TERM,)) == 2
    assert capsys.readouterr().err.startswith("tinyhd: no term of the loss of pair-64 can be computed")
