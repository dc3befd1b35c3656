"""Alignment of teachers and students in time, against a plain definition."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import training_data
from helpers.networks import lively
from torch import nn

from tinyhd_cli import load_model, models, weights
from tinyhd_cli.callbacks import no_phases
from tinyhd_cli.errors import WeightsError
from tinyhd_cli.inference.preprocess import resized
from tinyhd_cli.models import Family, ModelSpec, Preprocess, registry
from tinyhd_cli.training import sources
from tinyhd_cli.training.augment import collate, student_clips, targets
from tinyhd_cli.training.clip_cache import Stored, form_of
from tinyhd_cli.training.clips import Clips, Pick
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.prepare import decode_groups
from tinyhd_cli.training.teacher_cache import CachedTeacher, Teachers
from tinyhd_cli.training.teachers import Alignment, Teacher

CPU = torch.device("cpu")

LENGTHS = (1, 2, 3, 16, 32)
START = 50
"""Number of the first frame of the student's clip."""


def kinds(length: int) -> list[tuple[int, int]]:
    """Return maps and map frame of networks with clips of a length: blocks, and sliding with each kind of map frame."""
    return [(length, 0), *((1, frame) for frame in sorted({0, length // 2, length - 1}))]


NETWORKS = [
    ModelSpec("any", "test", clip_frames=length, maps=maps, map_frame=frame)
    for length in LENGTHS
    for maps, frame in dict.fromkeys(kinds(length))
]


def map_frames(spec: ModelSpec) -> tuple[int, ...]:
    """Return the frames of a clip that the maps belong to."""
    return tuple(range(spec.clip_frames)) if spec.maps == spec.clip_frames else (spec.map_frame,)


def run(alignment: Alignment, read: list[int]) -> list[int]:
    """Return the numbers of the frames whose maps a teacher gives the student, if it reads frames of these numbers."""
    spec = alignment.teacher
    clips = [read[start + alignment.before :][: spec.clip_frames] for start in alignment.starts]
    assert all(len(clip) == spec.clip_frames for clip in clips)
    maps = torch.tensor([[clip[frame] for frame in map_frames(spec)] for clip in clips])
    return alignment.select(maps[..., None, None])[:, 0, 0].tolist()


@pytest.mark.parametrize("student", NETWORKS, ids=lambda s: f"{s.clip_frames}:{s.maps}@{s.map_frame}")
@pytest.mark.parametrize("lag", [0, 1])
def test_the_maps_of_student_and_teacher_belong_to_the_same_frames(student, lag):
    wanted = map_frames(student)
    for teacher in NETWORKS:
        sliding = teacher.windowing == "sliding"
        alignment = Alignment(wanted, student.clip_frames, teacher, lag)
        first, last = START - alignment.before, START + student.clip_frames + alignment.after
        found = run(alignment, list(range(first, last)))
        assert found == [START + frame - (lag if sliding else 0) for frame in wanted], teacher
        # No frame beyond the student's clip is read in vain, and no clip of the teacher either.
        used = {start + i for start in alignment.starts for i in range(teacher.clip_frames)}
        assert (alignment.before, alignment.after) == (
            max(0, -min(used)),
            max(0, max(used) + 1 - student.clip_frames),
        )
        for start in alignment.starts:
            own = {start + frame + (lag if sliding else 0) for frame in map_frames(teacher)}
            assert own & set(wanted), f"the clip from {start} of {teacher} has no map of the student's"
        if not sliding:  # blocks do not look beyond the student's clip, and do not overlap
            assert alignment.after == 0
            assert all(b - a == teacher.clip_frames for a, b in itertools.pairwise(alignment.starts))


# ---------------------------------------------------------------------------------------- whole teachers on real clips


class Numbers(nn.Module):
    """A network whose maps are the mean brightness of their frames."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec, self.scale = spec, nn.Parameter(torch.ones(1))

    def forward(self, clip):
        mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (self.spec.preprocess.mean, self.spec.preprocess.std))
        values = (clip * std + mean).mean(1)[:, list(map_frames(self.spec))]
        return values.mean((-2, -1), keepdim=True).expand_as(values) * self.scale


def numbers_spec(name: str, **changes) -> ModelSpec:
    return ModelSpec(name, "numbers", **{"input_size": (32, 64), "size_multiple": 8, "side_limits": (32, 96)} | changes)


HALF = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class NumbersFamily(Family):
    """Students and teachers of several clip lengths, map frames, sizes and kinds of preprocessing."""

    name = "numbers"
    specs = (
        numbers_spec("block-3", clip_frames=3, maps=3),
        numbers_spec("image", clip_frames=1),
        numbers_spec("middle-5", clip_frames=5, map_frame=2, preprocess=HALF),
        numbers_spec("first-4", clip_frames=4, map_frame=0, input_size=(64, 32)),
        numbers_spec("block-8", clip_frames=8, maps=8, input_size=(96, 96)),
        numbers_spec("bicubic-2", clip_frames=2, preprocess=Preprocess(resize="bicubic", reduce_above=None)),
    )

    def build(self, spec):
        return Numbers(spec)

    def make_static(self, network):
        network.spec = dataclasses.replace(network.spec, clip_frames=1, maps=1, map_frame=0)


NAMES = [spec.name for spec in NumbersFamily.specs]


@pytest.fixture
def numbers(monkeypatch, tmp_path):
    """Register the family, run it in PyTorch, and return the weights files of its networks by name."""
    monkeypatch.setattr(Teacher, "engine", None)
    monkeypatch.setattr(registry, "_registered", {})
    models.register(NumbersFamily())
    files = {}
    for name in NAMES:
        files[name] = tmp_path / f"{name}.safetensors"
        weights.save(files[name], models.create(name).state_dict(), models.named_spec(name))
    return files


def stored_video(folder, form, frames: int) -> Stored:
    """Write a decoded video whose frame i has the brightness 10 i."""
    folder = folder / f"{abs(hash(form))}"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((frames, *form.size, 3), np.uint8)
    pixels[:] = (10 * np.arange(frames))[:, None, None, None]
    (folder / "frames.u8").write_bytes(pixels.tobytes())
    return Stored("v", "key", folder, frames, form.size, False, False)


def teachers_of(config, cache=None) -> Teachers:
    return Teachers([CachedTeacher(Teacher(config, name, CPU), cache) for name in config.teacher])


def clips_of(config, teachers, folder, frames: int) -> Clips:
    forms = dict.fromkeys([form_of(config.spec), *teachers.contexts])
    videos = {form: [stored_video(folder, form, frames)] for form in forms}
    return Clips(videos, form_of(config.spec), teachers.contexts, config.clip_frames)


@pytest.mark.parametrize("student", NAMES)
@pytest.mark.parametrize("teacher", NAMES)
@pytest.mark.parametrize(("frames", "start"), [(20, 6), (20, 0), (20, None), (1, 0), (2, None)])
def test_a_teachers_maps_are_of_the_students_frames(numbers, tmp_path, student, teacher, frames, start):
    """In the middle of a video, at its ends, and in videos shorter than a clip."""
    config = TrainConfig(aux=("x",), model=student, teacher=str(numbers[teacher]))
    start = frames - config.clip_frames if start is None else start
    teachers = teachers_of(config)
    batch = collate([clips_of(config, teachers, tmp_path, frames)[Pick(0, start)]])
    final = targets(batch, teachers, CPU).final
    assert final.shape == (1, config.num_maps, *config.input_size)
    wanted = [10 * min(max(0, start + frame), frames - 1) / 255 for frame in config.map_frames]
    assert final.amax((-2, -1))[0].tolist() == pytest.approx(wanted, abs=1e-5)
    student_input = student_clips(batch, config.spec.preprocess, CPU)
    assert models.build(config.spec)(student_input).amax((-2, -1))[0].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("student", NAMES)
def test_teachers_of_different_sizes_and_contexts_in_one_run(numbers, tmp_path, student):
    config = TrainConfig(aux=("x",), model=student, teacher=tuple(map(str, numbers.values())))
    teachers = teachers_of(config, tmp_path / "maps")
    assert len(teachers.contexts) == 4
    batch = collate([clips_of(config, teachers, tmp_path, 20)[Pick(0, 6)]] * 2)
    first = targets(batch, teachers, CPU)
    # Every teacher's map is constant in space, and so is the mean of the distributions.
    torch.testing.assert_close(first.final, torch.full_like(first.final, 1 / first.final[0, 0].numel()))
    assert len(list((tmp_path / "maps").rglob("*.npz"))) == len(NAMES)
    again = targets(batch, teachers_of(config, tmp_path / "maps"), CPU)
    assert torch.equal(again.final, first.final)


@pytest.mark.parametrize("teacher", NAMES)
def test_static_students_and_teachers_of_any_kind(numbers, tmp_path, teacher):
    config = TrainConfig(aux=("x",), model="block-3", stills=True, teacher=str(numbers[teacher]))
    teachers = teachers_of(config)
    videos = {form: [stored_video(tmp_path, form, 9)] for form in [form_of(config.spec), *teachers.contexts]}
    clips = Clips(videos, form_of(config.spec), dict.fromkeys(teachers.contexts, (0, 0)), config.clip_frames)
    final = targets(collate([clips[Pick(0, 4)]]), teachers, CPU).final
    assert final.shape == (1, 1, *config.input_size)
    assert float(final.max()) == pytest.approx(40 / 255)


SIZE = (64, 64)


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "tinyhd-s-quarter"])
def test_teachers_run_in_a_faster_engine(tmp_path, name):
    """It gives the maps of PyTorch, which is used for a few steps, for features, and with ``--eager``."""
    network = lively(name)
    path = str(tmp_path / "t.safetensors")
    weights.save(path, network.state_dict(), network.spec, input_size=SIZE)
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=path, size=SIZE, teacher_step=5)
    fast, *others = (
        Teacher(dataclasses.replace(config, **changes), path, CPU)
        for changes in ({}, {"eager": True}, {"steps": 1}, {"hint": 1.0})
    )
    assert fast.engine.name in ("fused", "openvino")
    assert all(other.engine is None for other in others)
    assert Teacher(dataclasses.replace(config, steps=8), path, CPU).engine is not None
    generator = torch.Generator().manual_seed(1)
    read = torch.randint(0, 256, (fast.before + 16, *SIZE, 3), dtype=torch.uint8, generator=generator)
    for clip in (read, read[:1]):
        found, expected = fast.targets(clip), others[0].targets(clip)
        torch.testing.assert_close(found.final, expected.final, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found.intermediate, expected.intermediate, rtol=1e-3, atol=1e-5)


def test_a_teacher_without_hierarchy_runs_in_a_faster_engine(tmp_path):
    network = lively("uva-64")
    path = str(tmp_path / "t.safetensors")
    weights.save(path, network.state_dict(), network.spec)
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=path, teacher_step=5)
    fast, plain = (Teacher(dataclasses.replace(config, eager=eager), path, CPU) for eager in (False, True))
    assert (fast.engine.name, plain.engine) == ("openvino", None)
    size = (fast.before + 16 + fast.after, *fast.spec.input_size, 3)
    read = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found, expected = fast.targets(read), plain.targets(read)
    assert found.intermediate is expected.intermediate is None
    torch.testing.assert_close(found.final, expected.final, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "uva-64"])
def test_a_teacher_without_another_engine_runs_in_pytorch(monkeypatch, tmp_path, name):
    """It has no engine, so that PyTorch runs several clips in one pass, in the precision of the run."""

    def first_usable(attempts, options, make):
        return None

    monkeypatch.setattr("tinyhd_cli.engines.hierarchy.first_usable", first_usable)
    monkeypatch.setattr("tinyhd_cli.engines.selection.first_usable", first_usable)
    network = lively(name)
    weights.save(tmp_path / "t.safetensors", network.state_dict(), network.spec)
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=str(tmp_path / "t.safetensors"))
    assert Teacher(config, config.teacher[0], CPU).engine is None


def test_maps_that_are_cached_are_not_computed_again(tmp_path):
    """The cache is filled without reading the maps back; maps that are not finite are not written."""
    files = []
    for seed in (1, 2):
        network = lively("tinyhd-m-quarter", seed)
        files.append(str(tmp_path / f"{seed}.safetensors"))
        weights.save(files[-1], network.state_dict(), network.spec, input_size=SIZE)
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=tuple(files), size=SIZE, eager=True)
    teachers = teachers_of(config, tmp_path / "maps")
    read = torch.randint(0, 256, (1, 16, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    [form] = teachers.contexts
    first, second = teachers.teachers
    first.write("clip", read[0])
    expected = first.load("clip").final
    first.teacher.targets = lambda read: pytest.fail("computed again")
    teachers.fill("clip", {form: read})
    assert first.has("clip") and second.has("clip")
    assert torch.equal(first.load("clip").final, expected)
    assert not torch.equal(second.load("clip").final, expected)
    found = second.teacher.targets(read[0])
    second.teacher.targets = lambda read: dataclasses.replace(found, intermediate=found.intermediate * torch.nan)
    with pytest.raises(WeightsError, match="NaN or infinity"):
        second.write("another", read[0])
    assert not second.has("another")


def test_identities_differ_where_the_maps_do(numbers):
    base = {"aux": ("x",), "model": "block-3", "teacher": str(numbers["middle-5"])}
    variants = [
        base,
        base | {"teacher": str(numbers["block-8"])},
        base | {"teacher": str(numbers["first-4"])},
        base | {"size": (64, 64)},
        base | {"model": "image"},
        base | {"model": "middle-5"},
        base | {"teacher_flip": True},
        base | {"teacher_step": 2},
        base | {"upstream_alignment": True},
        base | {"stills": True},
        base | {"precision": "bf16"},
    ]
    found = [teacher.identity for teacher in (Teacher(TrainConfig(**v), v["teacher"], CPU) for v in variants)]
    assert len(set(found)) == len(variants)
    assert Teacher(TrainConfig(**base, lr=0.5), base["teacher"], CPU).identity == found[0]


def test_identities_of_students_of_different_lengths_differ(numbers, monkeypatch):
    """A clip of a photograph depends on its length: the camera moves over all of it."""
    lengths = (8, 32)
    specs = tuple(numbers_spec(f"at-7-of-{n}", clip_frames=n, map_frame=7) for n in lengths)
    monkeypatch.setattr(NumbersFamily, "specs", (*NumbersFamily.specs, *specs))
    teacher = str(numbers["middle-5"])
    configs = [TrainConfig(aux=("x",), model=spec.name, teacher=teacher) for spec in specs]
    made = [Teacher(config, teacher, CPU) for config in configs]
    assert made[0].alignment.starts == made[1].alignment.starts
    assert made[0].identity != made[1].identity


def test_the_camera_is_as_slow_in_short_clips(tmp_path):
    """Over a photograph, it moves as far per frame in a clip of 2 frames as in one of 16."""
    form = form_of(models.named_spec("tinyhd-m").with_size((64, 64)))
    photo = dataclasses.replace(stored_video(tmp_path, form, 1), still=True, size=(96, 96))
    (photo.folder / "frames.u8").write_bytes(bytes(96 * 96 * 3))
    short, long = (Clips({form: [photo]}, form, {}, frames) for frames in (2, 16))
    for place in (-3, 0, 1):
        assert np.array_equal(
            short.view(photo, Pick(0, 0, trajectory=1), place), long.view(photo, Pick(0, 0, trajectory=1), place)
        )


def test_a_teacher_reads_frames_as_for_prediction(numbers, tmp_path):
    """Its own interpolation is used, not the student's, although both have the same size."""
    videos = training_data.labeled_videos(tmp_path / "set", count=2, frames=3)
    teacher = str(numbers["bicubic-2"])
    config = TrainConfig(data=(str(videos),), model="block-3", teacher=teacher, out=tmp_path / "run", workers=0)
    forms = [form_of(config.spec), *teachers_of(config).contexts]
    found = sources.find(config)
    stored = decode_groups(config, [found.targets], forms, no_phases)
    spec, video = models.named_spec("bicubic-2"), found.targets[0]
    _, image = next(iter(video.read(lambda line: None, lambda width, height: 1.0)))
    expected = np.rint(resized(image, spec.preprocess, spec.input_size)).clip(0, 255)
    own, students = (stored[form][0][0].pixels()[0] for form in reversed(forms))
    assert np.array_equal(own, expected)
    assert not np.array_equal(students, expected)


# ------------------------------------------------------------------------------------ families of all kinds, end to end


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 2, 3, 20])
def test_predicted_maps_are_of_their_frames(numbers, name, frames):
    model = load_model(numbers[name], "cpu", engine="torch")
    images = [np.full((48, 80, 3), 10 * number, np.uint8) for number in range(frames)]
    found = list(model.maps((number, model.prepare(image)) for number, image in enumerate(images)))
    assert [number for number, _ in found] == list(range(frames))
    for number, saliency in found:
        assert saliency.shape == model.input_size
        assert float(saliency.max()) == pytest.approx(10 * number / 255, abs=1e-5)


@pytest.mark.parametrize("student", NAMES)
def test_families_without_intermediate_maps_are_trained_and_validated(numbers, tmp_path, tinyhd, capsys, student):
    """Also on videos that are shorter than their clips, and with teachers of other lengths and sizes."""
    labeled = training_data.labeled_videos(tmp_path / "set", count=3, frames=4)
    unlabeled = training_data.aux_videos(tmp_path / "videos", count=2, frames=9)
    teachers = [item for name in NAMES if name != student for item in ("--teacher", numbers[name])]
    options = ("--model", student, "--batch-size", "1", "--workers", "0", "--device", "cpu", "--steps", "2", "--quiet")
    run = ("distill", "--data", labeled, "--aux", unlabeled, "--hold-out", "0.4", "--cache", "cache", "--out", "run")
    assert tinyhd(*run, *teachers, *options, "--dry-run") == 0
    assert student in capsys.readouterr().out
    assert tinyhd(*run, *teachers, *options) == 0
    assert list(Path("run").rglob("epoch-*.png"))
    rows = list(csv.DictReader(Path("run/log.csv").read_text(encoding="utf-8").splitlines()))
    for row in rows:
        assert all(float(row[term]) > -1e-4 for term in ("loss", "target/final", "target/ground-truth", "aux/final"))
    assert {row["split"] for row in rows} == {"train", "val"}
    assert weights.load("run/last.safetensors").spec == models.named_spec(student)
