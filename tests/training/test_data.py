"""Sources of clips, reading of clips, and maps of teachers."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import clips
from helpers.networks import lively
from helpers.training_data import SIZE, aux_videos, labeled_videos, photographs

from tinyhd_cli import weights
from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.training import clip_cache, sources
from tinyhd_cli.training.augment import collate, ground_truth, recolored, student_clips, targets
from tinyhd_cli.training.clip_cache import decode_all, form_of
from tinyhd_cli.training.clips import WHOLE, Clips, Pick
from tinyhd_cli.training.losses import Targets, cc, distribution
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.picks import PickSampler, Schedule, starts, validation_picks
from tinyhd_cli.training.teacher_cache import CachedTeacher, Teachers, packed, unpacked
from tinyhd_cli.training.teachers import Teacher, interpolation, mean

CPU = torch.device("cpu")
PREPROCESS = TrainConfig().spec.preprocess
FORM = form_of(TrainConfig(size=SIZE).spec)
CLIP_FRAMES = 16


def reader_of(stored, before=0):
    """Return a reader of clips with some frames before them."""
    return Clips({FORM: stored}, FORM, {FORM: (before, 0)}, CLIP_FRAMES)


def decoded(videos, root, workers=0, *, compressed=False):
    return decode_all(videos, root, SIZE, PREPROCESS, workers, lambda *progress: None, compressed=compressed)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        "videos": labeled_videos(root / "videos"),
        "photos": photographs(root / "photos"),
        "aux": aux_videos(root / "aux"),
    }


def test_labeled_videos_are_stored_with_their_maps(folders, tmp_path):
    found = sources.find(TrainConfig(data=(str(folders["videos"]),), hold_out=0))
    stored = decoded(found.targets, tmp_path)
    assert [(video.name, video.frames, video.labeled, video.still) for video in stored] == [
        (f"v{i}", 20, True, False) for i in range(3)
    ]
    density, points = stored[1].ground_truth("density"), stored[1].ground_truth("fixation")
    assert density.shape == (20, *SIZE)
    y, x = np.unravel_index(density[4].argmax(), SIZE)
    assert (x / SIZE[1], y / SIZE[0]) == pytest.approx((0.3 + 0.02 * 7, 0.6), abs=0.03)
    assert density[4, points[4] > 0].min() > 200
    assert 0 < points[4].sum() < 60
    before = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.u8")]
    decoded(found.targets, tmp_path)  # decodes nothing again
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.u8")] == before


def test_compressed_clips_have_exact_maps_and_almost_the_same_frames(folders, tmp_path):
    found = sources.find(TrainConfig(data=(str(folders["videos"]), f"images:{folders['photos']}"), hold_out=0))
    raw, small = (decoded(found.targets, tmp_path / kind, compressed=kind == "jpeg") for kind in ("raw", "jpeg"))
    picks = [Pick(0, 3), Pick(2, -2), Pick(3, 0, trajectory=2)]  # of a video, before its start, and of a photograph
    for one, other in ((reader_of(raw)[pick], reader_of(small)[pick]) for pick in picks):
        assert one["key"] == other["key"]
        assert torch.equal(one["density"], other["density"])
        assert torch.equal(one["fixation"], other["fixation"])
        error = (one["reads"][FORM].float() - other["reads"][FORM].float()).abs()
        assert 0 < error.mean() < 2
        assert error.amax((-2, -1)).float().mean() < 12
    sizes = [sum(path.stat().st_size for path in (tmp_path / kind).rglob("*")) for kind in ("raw", "jpeg")]
    assert sizes[1] < sizes[0] / 4
    # Either format is used, whichever is wanted.
    assert [video.compressed for video in decoded(found.targets, tmp_path / "jpeg")] == [True] * 6


def test_damaged_compressed_clips_are_decoded_again_or_named(folders, tmp_path):
    found = sources.unlabeled(str(aux_videos(tmp_path / "aux", count=1)))
    (video,) = decoded(found, tmp_path, compressed=True)
    file = video.folder / "frames.images"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    (again,) = decoded(found, tmp_path, compressed=True)
    assert file.read_bytes() == content
    file.write_bytes(bytes(len(content)))
    with pytest.raises(InputError, match=r"image 4 is damaged; remove this folder of the cache"):
        again.pixels()[np.array([3])]


@pytest.mark.parametrize("step", ["write_frames", "publish_or_use"])
def test_a_video_that_another_run_decodes_in_the_meantime_is_kept(folders, tmp_path, monkeypatch, step):
    """A run that decodes to the other format must not replace files that the first one has open."""
    found = sources.find(TrainConfig(data=(str(folders["videos"]),), hold_out=0)).targets[:1]
    (first,) = decoded(found, tmp_path / "first")
    original = getattr(clip_cache, step)

    def after_another_run(*arguments, **options):
        shutil.copytree(tmp_path / "first", tmp_path / "cache", dirs_exist_ok=True)
        return original(*arguments, **options)

    monkeypatch.setattr(clip_cache, step, after_another_run)
    (second,) = decoded(found, tmp_path / "cache", compressed=True)
    assert (second.key, second.compressed) == (first.key, False)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [second.key]


def test_damaged_clips_are_reported_and_skipped(folders, tmp_path, caplog):
    root = aux_videos(tmp_path / "aux", count=2)
    (root / "class0" / "broken.mp4").write_bytes(b"no video at all" * 100)
    (root / "class1" / "notes.txt").write_text("no video")
    videos = sources.unlabeled(str(root))
    assert [video.name for video in videos] == ["class0/broken.mp4", "class0/clip0.mkv", "class1/clip1.mkv"]
    logging.getLogger("tinyhd").propagate = True
    stored = decoded(videos, tmp_path / "cache")
    assert [video.name for video in stored] == ["class0/clip0.mkv", "class1/clip1.mkv"]
    assert "broken.mp4" in caplog.text
    assert "skipped" in caplog.text


def test_worker_processes_decode_the_same_frames(folders, tmp_path):
    videos = sources.unlabeled(str(aux_videos(tmp_path / "aux", count=4)))
    for one, other in zip(decoded(videos, tmp_path / "a"), decoded(videos, tmp_path / "b", workers=2), strict=True):
        assert one.key == other.key
        assert np.array_equal(one.pixels(), other.pixels())


def test_a_flat_folder_of_photographs_is_recognized(folders):
    found = sources.labeled(str(folders["photos"]), ("train",))
    assert [video.name for video in found] == ["1000", "1007", "1014"]
    one_video = sources.labeled(str(folders["videos"] / "v0"), ("train",))
    assert [len(video.frames) for video in one_video] == [20]


def test_photographs_are_static_or_move_slowly(folders, tmp_path):
    stored = decoded(sources.labeled(f"images:{folders['photos']}", ("train",)), tmp_path)
    reader = reader_of(stored)
    static, moving = reader[Pick(0, 0)], reader[Pick(0, 0, trajectory=1)]
    assert (static["reads"][FORM] == static["reads"][FORM][:1]).all()
    assert static["reads"][FORM].shape == (16, *SIZE, 3)
    steps = (moving["reads"][FORM][1:].float() - moving["reads"][FORM][:-1].float()).abs().mean((1, 2, 3))
    assert (steps > 0).float().mean() > 0.6
    assert steps.max() < 12
    # The maps move with the image: the peak of the density stays on the yellow disc.
    for sample in (static, moving):
        for frame in (0, 15):
            y, x = np.unravel_index(sample["density"][frame].numpy().argmax(), SIZE)
            red, _, blue = sample["reads"][FORM][frame, y, x].tolist()
            assert red > 180
            assert blue < 120
            points = sample["fixation"][frame].bool()
            assert points.any()
            assert sample["density"][frame][points].min() > 150


def test_the_clips_depend_on_the_seed_and_not_on_the_number_of_processes(folders, tmp_path):
    stored = decoded(sources.unlabeled(str(folders["aux"])), tmp_path)
    videos = list(enumerate(stored))
    config = TrainConfig(aux=("x",), seed=3)
    plan = Schedule(2, 4, steps_per_epoch=1, steps=6)
    single = PickSampler(config, plan, videos[:2], videos)
    assert list(single) == list(PickSampler(config, plan, videos[:2], videos))
    halves = [PickSampler(config, plan, videos[:2], videos, rank=rank, processes=2) for rank in (0, 1)]
    for step, together in enumerate(single):
        first, second = (half.picks(step) for half in halves)
        assert len(first) == len(second) == 3
        assert together == [first[0], second[0], *first[1:], *second[1:]]
    later = PickSampler(config, plan, videos[:2], videos, first_step=4)
    assert list(later) == list(single)[4:]
    assert list(single) != list(PickSampler(TrainConfig(aux=("x",), seed=4), plan, videos[:2], videos))
    picked = Counter(pick.video for step in range(3) for pick in single.picks(step)[2:])
    assert set(picked.values()) == {4}  # each video equally often
    flips = [pick.flip for step in range(6) for pick in single.picks(step)]
    assert 8 < sum(flips) < 28


def test_clips_start_on_the_grid_and_include_the_last_frame():
    assert starts(40, 16, CLIP_FRAMES) == [0, 16, 24]
    assert starts(18, 1, CLIP_FRAMES) == [0, 1, 2]
    assert starts(16, 16, CLIP_FRAMES) == [0]
    assert starts(5, 16, CLIP_FRAMES) == [-11]  # a video of five frames: the first one is repeated


def test_validation_clips_fit_their_videos(folders, tmp_path):
    stored = decoded(sources.unlabeled(str(folders["aux"])), tmp_path)
    assert validation_picks(list(enumerate(stored)), CLIP_FRAMES)[:2] == [Pick(0, 0), Pick(0, 8)]


# ---------------------------------------------------------------------------------------------------------- teachers


class Recorded:
    """Stand-in for a teacher's network. It records and outputs frame numbers, which are encoded as brightness."""

    def __init__(self, frames_out):
        self.frames_out, self.windows = frames_out, []

    def __call__(self, x, intermediate):
        numbers = (x.mean((1, 3, 4)) * 255).round().int()  # (N, 16): frame numbers
        self.windows += numbers.tolist()
        last = numbers[:, -self.frames_out :].float()
        final = last[:, :, None, None].expand(-1, -1, *SIZE) / 255
        return final, {"d1": final[:, None, -1:].expand(-1, 4, -1, -1, -1) * torch.arange(1, 5).view(1, 4, 1, 1, 1)}


def make_teacher(tmp_path, student, teacher, **options):
    network = lively(teacher)
    path = tmp_path / f"{teacher}.safetensors"
    weights.save(path, network.state_dict(), network.spec, input_size=SIZE)
    config = TrainConfig(aux=("x",), model=student, teacher=str(path), size=SIZE, **options)
    made = Teacher(config, str(path), CPU)
    made.engine = None  # the network below is run in PyTorch
    recorded = Recorded(network.spec.maps)
    vars(made.model.loaded)["module"] = recorded
    identity = dataclasses.replace(made.spec.preprocess, mean=(0.0,) * 3, std=(1.0,) * 3)
    made.spec = dataclasses.replace(made.spec, preprocess=identity)
    return made, recorded


def numbered_frames(first, count):
    return torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SIZE, 3).contiguous()


@pytest.mark.parametrize(("upstream", "lag"), [(False, 0), (True, 1)])
def test_a_single_output_teachers_windows_end_at_the_students_frames(tmp_path, upstream, lag):
    """The student's frames are 100 to 115; the original implementation is one frame behind."""
    teacher, recorded = make_teacher(tmp_path, "tinyhd-m-quarter", "tinyhd-s-quarter", upstream_alignment=upstream)
    assert teacher.before == 15 + lag
    maps = teacher.targets(numbered_frames(100 - teacher.before, teacher.before + 16))
    assert [window[-1] for window in recorded.windows] == list(range(100 - lag, 116 - lag))
    assert all(window == list(range(window[-1] - 15, window[-1] + 1)) for window in recorded.windows)
    assert (maps.final[0, :, 0, 0] * 255).round().tolist() == list(range(100 - lag, 116 - lag))
    mean = np.mean(range(100 - lag, 116 - lag)) / 255  # over time, because d1 has one map for the whole clip
    assert maps.intermediate[0, :, 0, 0].tolist() == pytest.approx([mean, 2 * mean, 3 * mean, 4 * mean])


@pytest.mark.parametrize(
    ("student", "teacher", "windows", "last"),
    [
        ("tinyhd-s-quarter", "tinyhd-s-quarter", 1, [115]),
        ("tinyhd-m-quarter", "tinyhd-m-quarter", 1, list(range(100, 116))),
        ("tinyhd-s-quarter", "tinyhd-m-quarter", 1, [115]),
    ],
)
def test_other_teachers_run_on_the_students_clip(tmp_path, student, teacher, windows, last):
    made, recorded = make_teacher(tmp_path, student, teacher, upstream_alignment=True)
    assert made.before == 0
    maps = made.targets(numbered_frames(100, 16))
    assert recorded.windows == [list(range(100, 116))] * windows
    assert (maps.final[0, :, 0, 0] * 255).round().tolist() == last


def test_a_teacher_runs_once_for_a_static_clip(tmp_path):
    teacher, recorded = make_teacher(tmp_path, "tinyhd-m-quarter", "tinyhd-s-quarter")
    maps = teacher.targets(numbered_frames(7, 1).expand(31, -1, -1, -1))
    assert len(recorded.windows) == 1
    assert maps.final.shape == (1, 16, *SIZE)


def test_maps_between_the_teachers_steps_are_interpolated(tmp_path):
    teacher, recorded = make_teacher(tmp_path, "tinyhd-m-quarter", "tinyhd-s-quarter", teacher_step=6)
    maps = teacher.targets(numbered_frames(85, 31))
    assert [window[-1] for window in recorded.windows] == [100, 106, 112, 115]
    assert (maps.final[0, :, 0, 0] * 255).tolist() == pytest.approx(list(range(100, 116)), abs=1e-3)
    assert float(maps.intermediate[0, 0, 0, 0] * 255) == pytest.approx(107.5, abs=1e-3)


def test_interpolation_in_time():
    assert (interpolation([0, 2, 3]) @ torch.tensor([0.0, 1.0, 4.0])).tolist() == [0, 0.5, 1, 4]
    assert interpolation([0, 1, 2]).tolist() == torch.eye(3).tolist()


def test_teacher_flip_averages_the_maps_of_the_mirrored_clip(tmp_path):
    network = lively("tinyhd-m-quarter")
    path = tmp_path / "m.safetensors"
    weights.save(path, network.state_dict(), network.spec, input_size=SIZE)
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=str(path), size=SIZE)
    once = Teacher(config, str(path), CPU)
    twice = Teacher(replace(config, teacher_flip=True), str(path), CPU)
    assert once.identity != twice.identity
    read = torch.randint(0, 256, (16, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    original, mirrored = once.targets(read), once.targets(read.flip(2))
    expected = (distribution(original.final) + distribution(mirrored.final.flip(-1))) / 2
    torch.testing.assert_close(twice.targets(read).final, expected)
    # Mirroring the clip mirrors the maps and changes nothing else.
    torch.testing.assert_close(twice.targets(read.flip(2)).final.flip(-1), expected)


def test_the_maps_of_several_teachers_are_averaged(folders, tmp_path):
    stored = decoded(sources.unlabeled(str(folders["aux"])), tmp_path / "clips")
    single, recorded = make_teacher(tmp_path, "tinyhd-m-quarter", "tinyhd-s-quarter")
    multi, _ = make_teacher(tmp_path, "tinyhd-m-quarter", "tinyhd-m-quarter")
    both = Teachers([CachedTeacher(single, tmp_path / "maps"), CachedTeacher(multi, tmp_path / "maps")])
    assert both.contexts == {FORM: (15, 0)}
    batch = collate([reader_of(stored, both.contexts[FORM][0])[Pick(0, 8)]])
    found = targets(batch, both, CPU)
    alone = [targets(batch, Teachers([one]), CPU) for one in both.teachers]
    torch.testing.assert_close(found.final, mean(alone).final)
    assert len(recorded.windows) == 16  # once: the maps were cached
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_maps_are_averaged_as_distributions():
    one, other = torch.rand(1, 16, 4, 4), torch.rand(1, 16, 4, 4)
    scaled = mean([Targets(one, None), Targets(1000 * other, None)])
    torch.testing.assert_close(scaled.final, (distribution(one) + distribution(other)) / 2)
    assert scaled.intermediate is None


@pytest.mark.parametrize("teacher", ["tinyhd-s-quarter", "tinyhd-m-quarter"])
def test_teachers_run_on_a_single_frame_as_a_static_clip(tmp_path, teacher):
    made, recorded = make_teacher(tmp_path, "tinyhd-m-quarter", teacher, stills=True)
    maps = made.targets(numbered_frames(7, 1))
    assert recorded.windows == [[7] * 16]
    assert maps.final.shape == (1, 1, *SIZE)
    assert maps.intermediate.shape == (1, 4, *SIZE)


def test_the_maps_of_a_teacher_of_another_size_are_resized(tmp_path):
    """The teacher reads 96 x 128 pixels; its maps are averaged to the student's 64 x 64."""
    network = lively("tinyhd-m-quarter")
    weights.save(tmp_path / "t.safetensors", network.state_dict(), network.spec, input_size=(96, 128))
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=str(tmp_path / "t.safetensors"), size=SIZE)
    teacher = Teacher(config, config.teacher[0], CPU)
    assert teacher.spec.input_size == (96, 128)
    read = torch.randint(0, 256, (16, 96, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    final, _ = teacher.forward([teacher.normalized(read)])
    found = teacher.targets(read)
    assert found.final.shape == (1, 16, *SIZE)
    assert found.intermediate.shape == (1, 4, *SIZE)
    expected = F.interpolate(final, SIZE, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(found.final, expected)


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"), [("float16", 1, 1e-3), ("uint8", 1, 0.01), ("float16", 2, 0.05)]
)
def test_cached_maps_are_restored(tmp_path, dtype, scale, tolerance):
    y, x = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 5, 64), indexing="ij")
    maps = torch.stack([1e-5 * (2 + torch.sin(x + t) * torch.cos(y)) for t in range(3)])
    found = unpacked("final", packed("final", maps, dtype, scale), SIZE)
    assert float((found - maps).abs().max() / maps.max()) < tolerance


def test_a_teacher_runs_once_per_clip(folders, tmp_path):
    stored = decoded(sources.unlabeled(str(folders["aux"])), tmp_path / "clips")
    teacher, recorded = make_teacher(tmp_path, "tinyhd-m-quarter", "tinyhd-s-quarter")
    cached = Teachers([CachedTeacher(teacher, tmp_path / "maps")])
    reader = reader_of(stored, teacher.before)
    batch = collate([reader[Pick(0, 8)], reader[Pick(1, 0, flip=True)]])
    first = targets(batch, cached, CPU)
    windows = len(recorded.windows)
    again = targets(batch, cached, CPU)
    assert windows == 32
    assert len(recorded.windows) == windows
    assert torch.equal(first.final, again.final)
    paths = sorted((tmp_path / "maps").rglob("*.npz"))
    assert len(paths) == 2
    for path, number, value in zip(paths, (3, 16), (1, np.nan), strict=True):  # of another network, and diverged
        np.savez(path, final=np.full((number, 8, 8), value, np.float16), final_peak=np.ones((number, 1, 1), "f4"))
    assert torch.equal(first.final, targets(batch, cached, CPU).final)


@pytest.fixture
def reader_and_teacher(folders, tmp_path):
    """Return a reader of labeled videos and a TinyHD-M teacher."""
    stored = decoded(sources.labeled(str(folders["videos"]), ("train",)), tmp_path / "clips")
    network = lively("tinyhd-m-quarter")
    weights.save(tmp_path / "m.safetensors", network.state_dict(), network.spec, input_size=SIZE)
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", teacher=str(tmp_path / "m.safetensors"), size=SIZE)
    return reader_of(stored), Teachers([CachedTeacher(Teacher(config, config.teacher[0], CPU), None)])


def test_flips_mirror_the_students_clips_and_all_targets(reader_and_teacher):
    reader, cached = reader_and_teacher
    original, flipped = (collate([reader[Pick(0, 2, flip=flip)]]) for flip in (False, True))
    assert torch.equal(student_clips(original, PREPROCESS, CPU).flip(-1), student_clips(flipped, PREPROCESS, CPU))
    for kind in ("density", "fixation"):
        one, other = (getattr(ground_truth(batch, 1, range(16), CPU), kind) for batch in (original, flipped))
        assert torch.equal(one.flip(-1), other)
        assert not torch.equal(one, other)
    assert torch.equal(targets(original, cached, CPU).final.flip(-1), targets(flipped, cached, CPU).final)


def test_crops_enlarge_the_students_clips_and_all_targets(reader_and_teacher):
    reader, cached = reader_and_teacher
    lower_left = (0.5, 1.0, 0.0)
    original, cropped = (collate([reader[Pick(0, 2, crop=crop)]]) for crop in (WHOLE, lower_left))
    assert original.keys == cropped.keys  # the teacher runs on the whole clip
    height, width = SIZE
    corner = (slice(height // 2, None), slice(0, width // 2))

    def close(enlarged, whole):
        one = F.avg_pool2d(enlarged.flatten(0, -3).float(), 16)
        other = F.avg_pool2d(whole[(..., *corner)].flatten(0, -3).float(), 8)
        return float(cc(one, other).min()) > 0.95

    assert close(student_clips(cropped, PREPROCESS, CPU), student_clips(original, PREPROCESS, CPU))
    assert close(ground_truth(cropped, 1, range(16), CPU).density, ground_truth(original, 1, range(16), CPU).density)
    assert close(targets(cropped, cached, CPU).final, targets(original, cached, CPU).final)
    assert close(targets(cropped, cached, CPU).intermediate, targets(original, cached, CPU).intermediate)
    points = ground_truth(original, 1, range(16), CPU).fixation[(..., *corner)]
    assert points.any()
    enlarged_points = ground_truth(cropped, 1, range(16), CPU).fixation
    assert set(enlarged_points.unique().tolist()) <= {0, 1} and enlarged_points.sum() == points.sum()
    assert torch.equal(F.max_pool2d(enlarged_points.float(), 2), points.float())


def test_half_of_the_clips_are_cropped(folders, tmp_path):
    stored = decoded(sources.labeled(str(folders["videos"]), ("train",)), tmp_path / "clips")
    plan, videos = Schedule(2, 0, steps_per_epoch=1, steps=100), list(enumerate(stored))
    whole, cropped = (
        [pick for picks in PickSampler(TrainConfig(aux=("x",), crop=crop), plan, videos, []) for pick in picks]
        for crop in (0.0, 0.4)
    )
    assert all(pick.crop[0] == 1 for pick in whole)
    shares = np.array([pick.crop[0] for pick in cropped])
    assert 0.4 < (shares < 1).mean() < 0.6
    assert 0.6 <= shares.min() < 0.65


def test_color_jitter_changes_the_students_clips_only(folders, tmp_path):
    stored = decoded(sources.labeled(str(folders["videos"]), ("train",)), tmp_path / "clips")
    reader = reader_of(stored)
    original, other = (collate([reader[Pick(0, 2, color=color)]]) for color in ((1.0, 1.0, 1.0), (0.8, 1.1, 0.7)))
    assert torch.equal(original.frames, other.frames) and torch.equal(original.density, other.density)
    assert original.keys == other.keys  # the teacher's maps are the same
    assert (student_clips(original, PREPROCESS, CPU) - student_clips(other, PREPROCESS, CPU)).abs().mean() > 0.05
    plan, videos = Schedule(2, 0, steps_per_epoch=1, steps=20), list(enumerate(stored))
    still, jittered = (
        [pick for picks in PickSampler(TrainConfig(aux=("x",), jitter=jitter), plan, videos, []) for pick in picks]
        for jitter in (0.0, 0.3)
    )
    assert [(pick.video, pick.start, pick.flip) for pick in still] == [
        (pick.video, pick.start, pick.flip) for pick in jittered
    ]
    assert {pick.color for pick in still} == {(1.0, 1.0, 1.0)}
    factors = np.array([pick.color for pick in jittered])
    assert 0.7 <= factors.min() < 0.75 and 1.25 < factors.max() <= 1.3


def test_recolored():
    clips = torch.rand(2, 3, 16, 8, 8) * 0.5 + 0.2
    assert torch.allclose(recolored(clips, torch.ones(2, 3)), clips, atol=1e-6)
    half = recolored(clips, torch.tensor([[0.5, 1, 1], [1, 1, 1]]))
    assert torch.allclose(half[0], clips[0] / 2, atol=1e-6) and torch.allclose(half[1], clips[1], atol=1e-6)
    gray = recolored(clips, torch.tensor([[1.0, 1, 0]] * 2))
    assert torch.allclose(gray[:, 0], gray[:, 2]) and gray.std() > 0.01
    flat = recolored(clips, torch.tensor([[1.0, 0, 1]] * 2))
    assert flat.flatten(1).std(1).max() < 1e-6
    assert recolored(clips, torch.tensor([[9.0, 9, 9]] * 2)).max() <= 1


# --------------------------------------------------------------------------------------------------------- bad input


def test_unusable_data_is_rejected(folders, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    shifted = labeled_videos(tmp_path / "shifted", count=1, frames=2)
    for path in sorted((shifted / "v0" / "maps").iterdir()):
        path.rename(path.with_name(f"9{path.name}"))
    for path in sorted((shifted / "v0" / "fixation").iterdir()):
        path.unlink()
    only_maps = photographs(tmp_path / "maps_only")
    for path in (only_maps / "fixation").iterdir():
        path.unlink()
    cases = [
        ({}, UsageError, "nothing to train on"),
        ({"aux": (str(folders["aux"]),)}, UsageError, "without a teacher"),
        ({"data": (str(folders["videos"]),), "aux": (str(folders["aux"]),)}, UsageError, "needs a teacher"),
        ({"aux": (str(empty),), "teacher": "hd2s"}, InputError, "contains no videos"),
        ({"aux": (str(empty / "none"),), "teacher": "hd2s"}, InputError, "no such folder"),
        ({"data": (str(empty),)}, InputError, str(empty)),
        ({"data": (str(shifted),)}, InputError, "labels and frames do not match"),
        ({"data": (str(only_maps),), "weight": ("nss=1",)}, InputError, "needs fixation maps"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            sources.find(TrainConfig(**options))


def test_held_out_videos_are_evenly_spaced():
    kept, held_out = sources.hold_out([clips.Clip(frames=n) for n in range(20)], 0.1)
    assert [clip.frames for clip in held_out] == [9, 19]
    assert len(kept) == 18
    assert sources.hold_out([clips.Clip()], 0.5) == ((clips.Clip(),), ())
