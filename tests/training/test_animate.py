"""Photographs as clips: cameras, patches, moving ground truth, the mix of a batch, and the measure of grid patterns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clips

from tinyhd_cli.training import animate, resident
from tinyhd_cli.training.losses import grid_pattern

SIZE = (48, 64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def single_view(scale: float, center: tuple[float, float]) -> animate.View:
    """Return the view of one camera in one frame."""
    return animate.View(torch.tensor([[[scale, abs(scale)]]]), torch.tensor([[center]]))


def ramp() -> torch.Tensor:
    """Return an image whose values are its x coordinates."""
    return animate.pixel_grid(SIZE, torch.device("cpu"))[..., 0].expand(1, 1, *SIZE)


def test_render_views_crops_and_mirrors():
    whole = animate.render_views(ramp(), single_view(1.0, (0.0, 0.0)), SIZE)
    assert whole.shape == (1, 1, 1, *SIZE)
    assert torch.allclose(whole[:, :, 0], ramp(), atol=1e-5)
    right_half = animate.render_views(ramp(), single_view(0.5, (0.4, 0.0)), SIZE)[0, 0, 0, 0]
    assert right_half[0] == pytest.approx(0.4 - 0.5 * (1 - 1 / 64), abs=1e-4)
    mirrored = animate.render_views(ramp(), single_view(-1.0, (0.0, 0.0)), SIZE)[0, 0, 0]
    assert torch.allclose(mirrored, ramp()[0, 0].flip(-1), atol=1e-5)


def test_fixations_move_with_the_image():
    """A bright spot and the fixation on it stay together under every camera; fixations outside the view are dropped."""
    image = torch.zeros(1, 1, 240, 320)
    image[..., 90:98, 200:208] = 1
    spot = torch.tensor([204 * 2 / 320 - 1, 94 * 2 / 240 - 1])
    points = torch.stack([spot, torch.tensor([float("nan")] * 2), torch.tensor([-0.99, -0.99])]).unsqueeze(0)
    view = animate.random_views(40, 16, generator(), pan=0.7, shake=0.5)
    found = 0
    for index in range(40):
        one = animate.View(view.scale[index : index + 1], view.center[index : index + 1])
        maps = animate.render_points(points, one, SIZE)[0]
        rendered = animate.render_views(image, one, SIZE)[0, 0]
        for frame, map_ in zip(rendered, maps, strict=True):
            assert map_.sum() <= 2
            inside = map_ > 0
            if inside.any() and frame.max() > 0.3:
                row, column = divmod(int(frame.argmax()), SIZE[1])
                near = inside[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
                found += bool(near.any())
    assert found > 400


def test_patches_move_and_stay_inside_the_clip():
    patches = animate.random_patches(50, 31, 9, 3, generator())
    assert ((patches.position.abs() + patches.radius) < 1.06).all()
    assert (patches.visible[:, 0] == 1).all()
    displacement = (patches.position[:, 0, -1] - patches.position[:, 0, 0]).norm(dim=-1)
    assert (displacement > 0.05).float().mean() > 0.6
    assert (patches.source < 9).all()


def test_the_motion_map_lies_on_the_pasted_patch():
    background = torch.zeros(1, 3, 31, *SIZE)
    images = torch.full((2, 3, *SIZE), 200.0)
    patches = animate.random_patches(1, 31, 2, 1, generator(2))
    clip = animate.paste_patches(background, images, patches)
    maps = animate.motion_maps(patches, 15, SIZE)
    assert clip.max() == pytest.approx(200)
    assert (clip == 0).float().mean() > 0.8  # the background is unchanged
    for frame, map_ in zip(clip[0, 0, 15:], maps[0], strict=True):
        row, column = divmod(int(map_.argmax()), SIZE[1])
        assert frame[row, column] == pytest.approx(200, abs=1)


def test_a_static_patch_has_no_motion_map():
    patches = animate.random_patches(1, 31, 2, 1, generator())
    static = animate.Patches(**{**vars(patches), "position": patches.position[:, :, :1].expand(-1, -1, 31, -1)})
    assert animate.motion_maps(static, 15, SIZE).sum() == 0


def batches(seed: int = 0) -> resident.Batches:
    """Return batches of two videos, one of counted frames and one of a constant gray, and of six photographs."""
    counting = torch.arange(60, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SIZE, 3).contiguous()
    videos = resident.Videos(["a", "b"], [counting, torch.full_like(counting, 90)], [30.0, 30.0], np.array([0.9, 0.1]))
    pixels = torch.randint(0, 255, (6, 3, *resident.PHOTO_SIZE), generator=generator(), dtype=torch.uint8)
    photographs = resident.Photographs(pixels, pixels[:, :1], torch.rand((6, 20, 2), generator=generator()) * 2 - 1)
    return resident.Batches(videos, photographs, resident.Mix(1, 2, 2, 11), SIZE, 0.2, seed)


def test_a_batch_depends_only_on_seed_and_number():
    one, again, other = batches().batch(3), batches().batch(3), batches(1).batch(3)
    assert torch.equal(one.teacher_clips, again.teacher_clips)
    assert torch.equal(one.student_clips, again.student_clips)
    assert not torch.equal(one.teacher_clips, other.teacher_clips)
    assert one.teacher_clips.shape == (16, 3, 31, *SIZE)
    assert one.student_clips.shape == (16, 3, 16, *SIZE)
    assert one.ground_truth is not None
    assert one.ground_truth.density.shape == one.ground_truth.fixation.shape == (3, 16, *SIZE)


def test_a_batch_without_some_kinds():
    whole = batches()
    for mix in (resident.Mix(0, 0, 0, 2), resident.Mix(1, 0, 1, 0), resident.Mix(0, 1, 0, 1)):
        whole.mix = mix
        batch = whole.batch(0)
        assert len(batch.student_clips) == len(batch.static) == mix.total
        assert len(batch.motion) == mix.animated
        assert (batch.ground_truth is None) == (mix.labeled == 0)


def test_decoded_videos_are_mapped_from_files(tmp_path: Path, monkeypatch):
    clips.make(tmp_path / "clip.mp4", frames=5, width=96, height=64)
    item = {"path": tmp_path / "clip.mp4", "file": "clip.mp4", "fps": 25.0, "repository": "a"}
    folder = tmp_path / "frames"
    folder.mkdir()
    cpu = torch.device("cpu")
    plain = resident.load_videos([item], SIZE, cpu, 1)
    mapped = resident.load_videos([item], SIZE, cpu, 1, folder)
    assert plain.pixels[0].shape == (5, *SIZE, 3)
    assert torch.equal(mapped.pixels[0], plain.pixels[0])
    monkeypatch.setattr(resident, "decode", lambda path, size: pytest.fail("decoded again"))
    assert torch.equal(resident.load_videos([item], SIZE, cpu, 1, folder).pixels[0], plain.pixels[0])
    monkeypatch.undo()
    clips.make(tmp_path / "clip.mp4", frames=7, width=96, height=64)
    assert len(resident.load_videos([item], SIZE, cpu, 1, folder).pixels[0]) == 7


def test_static_clips_do_not_change():
    batch = batches().batch(0)
    change = batch.teacher_clips.diff(dim=2).abs().amax((1, 2, 3, 4))
    assert batch.static[0]
    assert (change[batch.static] < 1e-4).all()
    assert (change[3:5] > 0.1).all()  # patches move


def test_clips_have_several_frame_rates_and_stay_in_the_video():
    maker = batches()
    strides = []
    for seed in range(200):
        numbers = maker.frame_numbers(0, 31, np.random.default_rng(seed))
        assert numbers.min() >= 0
        assert numbers.max() < 60
        strides.append(int(numbers[-1] - numbers[-2]))
        assert len(set(numbers[-16:].tolist())) == 16  # no frame of the clip itself is repeated
    shares = [strides.count(stride) / 200 for stride in (1, 2, 3)]
    assert shares == pytest.approx([0.6, 0.25, 0.15], abs=0.1)


def test_split_screens_show_several_videos_of_which_often_one_moves():
    maker = batches()
    maker.videos = resident.favor(maker.videos, {"b": 0.0})  # only the video of counted frames
    held, parts = 0, []
    for seed in range(200):
        clip = maker.split_screen(31, np.random.default_rng(seed))
        assert clip.shape == (31, *SIZE, 3)
        columns = clip[:, 0, :, 0].long()
        edges = columns.diff(dim=1).ne(0).any(0).nonzero().flatten() + 1
        parts.append(len(edges) + 1)
        assert set(edges.tolist()) <= {21, 32, 42}
        moving = columns.diff(dim=0).ne(0).any(0)  # of each column
        held += not moving.all()
        assert moving.any()
    assert parts.count(2) / 200 == pytest.approx(0.7, abs=0.1)
    assert held / 200 == pytest.approx(0.75, abs=0.1)


def test_split_screens_in_batches():
    plain, maker = batches(), batches()
    maker.split = 1.0
    whole, split = plain.batch(5), maker.batch(5)
    assert torch.equal(split.teacher_clips, maker.batch(5).teacher_clips)
    assert torch.equal(split.teacher_clips[:5], whole.teacher_clips[:5])  # photographs stay as they are
    assert not split.static[5:].any()
    assert (split.teacher_clips[5:] != whole.teacher_clips[5:]).flatten(1).any(1).all()


def test_favored_videos_are_sampled_more_often():
    videos = resident.favor(batches().videos, {"b": 9.0, "unknown": 5.0})
    assert videos.weights == pytest.approx([0.5, 0.5])


def test_every_tenth_source_is_held_out_as_a_whole(tmp_path: Path):
    items = [{"file": f"{n}-{k}.mp4", "repository": f"r{n:02d}"} for n in range(20) for k in range(3)]
    (tmp_path / "MANIFEST.json").write_text(json.dumps(items))
    kept, held_out = resident.split_by_source(items, tmp_path)
    assert {item["repository"] for item in held_out} == {"r09", "r19"}
    assert len(kept) == 54


def test_sampling_prefers_motion_and_small_sources():
    items = [{"repository": "calm", "motion": 0.4}, {"repository": "lively", "motion": 9.0}]
    items += [{"repository": "large", "motion": 9.0}] * 16
    weights = resident.sampling_weights(items)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx((5 / 0.5) ** 0.5)
    assert weights[2:].sum() / weights[1] == pytest.approx(4)


@pytest.mark.parametrize(("period", "detected"), [(2, True), (4, True), (8, True), (3, False)])
def test_grid_pattern_detects_periods_of_2_4_and_8(period: int, detected: bool):
    y, x = torch.meshgrid(torch.arange(192.0), torch.arange(256.0), indexing="ij")
    blob = torch.exp(-((x - 120) ** 2 + (y - 90) ** 2) / 450)
    lines = blob * (1 + 0.02 * torch.cos(2 * torch.pi * (x % period) / period))
    assert float(grid_pattern(blob.unsqueeze(0))) < 1e-4
    assert (float(grid_pattern(lines.unsqueeze(0))) > 5e-3) == detected


def test_the_penalty_on_grid_patterns_removes_them():
    """Gradient steps on the map itself remove the pattern and keep the blob."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-((x - 30) ** 2 + (y - 34) ** 2) / 200)
    maps = (blob * (1 + 0.05 * (x % 2))).unsqueeze(0).requires_grad_()
    before = float(grid_pattern(maps.detach()))
    for _ in range(60):
        (gradient,) = torch.autograd.grad(grid_pattern(maps), maps)
        with torch.no_grad():
            maps -= 0.15 * gradient / gradient.abs().max() * 0.01
    assert float(grid_pattern(maps.detach())) < before / 4
    assert (maps.detach()[0] - blob).abs().max() < 0.08


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the kernels are written in Triton")
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (2, 1, 1), (1, 2, 2)])
def test_the_gpu_layers_agree_with_pytorchs_own(stride: tuple[int, int, int]):
    import copy

    from tinyhd_cli.models.blocks.mobilenet3d import ConvNorm
    from tinyhd_cli.training import gpu_layers

    reference = ConvNorm(6, 6, kernel=(3, 3, 3), stride=stride, padding=(1, 1, 1), groups=6).cuda()
    fast = gpu_layers.GpuConvNorm(copy.deepcopy(reference))
    clip = torch.randn(2, 6, 4, 24, 32, device="cuda")
    inputs = [clip.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(x) for layer, x in zip((reference, fast), inputs, strict=True)]
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4)
    weight = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weight).sum().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-4)
    for expected, found in zip(reference.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(expected.grad, found.grad, rtol=1e-3, atol=1e-3)
