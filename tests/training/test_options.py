"""Configurations of training runs: their sources, former names, and options of the network."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from helpers.pair import PairFamily

from tinyhd_cli import models
from tinyhd_cli.errors import UsageError
from tinyhd_cli.models import registry
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.settings import build_config


class Shapes(PairFamily):
    """A family whose options have all types."""

    name = "shapes"
    specs = (
        dataclasses.replace(
            PairFamily.specs[0],
            name="shapes-64",
            family="shapes",
            options={"widths": (8, 16), "rates": (0.5,), "kinds": ("a", "b"), "deep": False, "scale": 1.5, "width": 8},
        ),
    )


@pytest.fixture
def shapes(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    models.register(Shapes())


@pytest.fixture
def write(tmp_path):
    """Write a settings file."""

    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def test_the_command_line_wins_over_former_names_in_a_file(write, caplog):
    file = write("optimiser: adamw\ndecoders: [d2, d3, d1]\nbatch-size: 4\n")
    logging.getLogger("tinyhd").propagate = True
    config = build_config({}, file=file)
    assert (config.optimizer, config.set, config.batch_size) == ("adamw", ("decoders=d2,d3,d1",), 4)
    assert "run.yaml: the setting 'optimiser' is now called 'optimizer'" in caplog.text
    given = {"optimizer": "sgd", "set": ["decoders=d1,d1"], "batch_size": 2}
    for saved in (None, TrainConfig()):
        config = build_config(given, file=file, saved=saved)
        assert (config.optimizer, config.set, config.batch_size) == ("sgd", ("decoders=d1,d1",), 2)


def test_options_of_the_network_win_one_by_one(write):
    file = write("model: tinyhd-m\ndecoders: [d2, d3, d1]\n")
    config = build_config({"set": ["width=half"]}, file=file)
    assert (config.model, config.set) == ("tinyhd-m-half", ("decoders=d2,d3,d1",))
    resumed = build_config({"set": ["decoders=d1,d1"]}, saved=config)
    assert (resumed.model, resumed.set) == ("tinyhd-m-half", ("decoders=d1,d1",))


def test_former_names_in_checkpoints_are_not_reported(caplog):
    """Nobody can rename them there."""
    from tinyhd_cli.training.settings import from_dict

    logging.getLogger("tinyhd").propagate = True
    assert from_dict({"optimiser": "adamw", "dark_start": True}).optimizer == "adamw"
    assert not caplog.records


@pytest.mark.parametrize(
    ("given", "model", "options"),
    [
        (("width=half",), "tinyhd-m-half", ()),
        (("outputs=single", "width=quarter"), "tinyhd-s-quarter", ()),
        (("decoders=d1,d2,d3",), "tinyhd-m", ()),
        (("width=half", "width=full"), "tinyhd-m", ()),
    ],
)
def test_equal_networks_have_equal_configurations(given, model, options):
    config = TrainConfig(model="tinyhd-m", set=given)
    assert (config.model, config.set) == (model, options)
    assert config == TrainConfig(model=model)


def test_options_of_every_type_survive_the_text_form(shapes):
    items = ("widths=1,2,3", "rates=0.25,2", "kinds=c", "deep=true", "scale=2")
    config = TrainConfig(model="shapes-64", set=items)
    wanted = {"widths": (1, 2, 3), "rates": (0.25, 2.0), "kinds": ("c",), "deep": True, "scale": 2.0, "width": 8}
    assert config.spec.options == wanted
    assert build_config({}, saved=config) == config
    with pytest.raises(UsageError, match="--set widths=1,x: must be a whole number"):
        TrainConfig(model="shapes-64", set=("widths=1,x",))


def test_averaged_maps_are_not_compared_by_value(shapes):
    """The mean of a map and that of the mirrored clip is a distribution, on another scale than the student's maps."""
    with pytest.raises(UsageError, match="--teacher-flip is not possible, because the loss of this network compares"):
        TrainConfig(model="shapes-64", teacher="x", teacher_flip=True)
    with pytest.raises(UsageError, match="--teacher: more than one is not possible"):
        TrainConfig(model="shapes-64", teacher=("x", "y"))
    assert TrainConfig(model="shapes-64", teacher="x", teacher_flip=True, weight=("final=0",)).teacher_flip
    assert TrainConfig(teacher=("x", "y"), teacher_flip=True).teacher_flip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "--optimizer must be one of sgd, adam, adamw, not lion"),
        ({"hold_out": 1.5}, "--hold-out must be from 0 to 1, not 1.5"),
        ({"warmup": float("nan")}, "--warmup must be from 0 to 1, not nan"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1, not 0"),
        ({"bias_lr": -1}, "--bias-lr must be at least 0, not -1"),
        ({"lr": 0}, "--lr must be above 0, not 0"),
        ({"milestones": (0.5, 1)}, "--milestones are fractions of the run"),
        ({"stage": 1}, "stage must be one of 0, not 1"),
        ({"model": "uva-32", "stage": 3}, "stage must be one of 0,1,2, not 3"),
    ],
)
def test_values_out_of_range(changes, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**changes)


def test_the_stage_that_is_running_is_no_setting(write):
    with pytest.raises(UsageError, match="unknown setting 'stage': did you mean stages"):
        build_config({}, file=write("model: uva-32\nstage: first\n"))
