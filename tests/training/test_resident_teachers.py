"""Teachers of a dataset in memory: their maps on the CPU are those of PyTorch, interpolated and averaged."""

from __future__ import annotations

import pytest
import torch
from helpers.networks import lively

from tinyhd_cli import models, weights
from tinyhd_cli.errors import UsageError
from tinyhd_cli.training.losses import distribution
from tinyhd_cli.training.resident import CONTEXT, Batch
from tinyhd_cli.training.resident_teachers import Teacher, teacher_targets

SIZE = (64, 64)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Return the weights files of two networks by the kind of output."""
    folder, found = tmp_path_factory.mktemp("teachers"), {}
    for kind in ("m", "s"):
        network = lively(f"tinyhd-{kind}-quarter")
        found[kind] = str(folder / f"{kind}.safetensors")
        weights.save(found[kind], network.state_dict(), network.spec, input_size=SIZE)
    return found


def run(network, x):
    return network(x, intermediate=True)


def network_of(file: str):
    checkpoint = weights.load(file)
    network = models.build(checkpoint.spec)
    network.load_state_dict(checkpoint.state_dict)
    return network.eval()


def teacher_of(file: str, **options) -> Teacher:
    return Teacher(file, network_of(file), run, CPU, **options)


def clips(count: int) -> torch.Tensor:
    noise = torch.rand((count, 3, 6, 8, 8), generator=torch.Generator().manual_seed(4)) * 4 - 2
    return torch.nn.functional.interpolate(noise, (CONTEXT + 16, *SIZE), mode="trilinear")


@torch.no_grad()
def test_a_teacher_with_a_map_of_each_frame(files):
    x = clips(2)
    teacher = teacher_of(files["m"])
    assert teacher.engine.name in ("fused", "openvino")
    found = teacher.targets(x)
    saliency, maps = run(network_of(files["m"]), x[:, :, CONTEXT:])
    torch.testing.assert_close(found.final, saliency, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.intermediate, maps["d1"].mean(2), rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_teacher_with_one_map_is_run_on_some_frames(files):
    x, network = clips(1), network_of(files["s"])
    found = teacher_of(files["s"], frames=(0, 5, 15)).targets(x)
    runs = {frame: run(network, x[:, :, frame : frame + 16]) for frame in (0, 5, 15)}
    assert found.final.shape == (1, 16, *SIZE)
    for frame, (saliency, _) in runs.items():
        torch.testing.assert_close(found.final[:, frame], saliency[:, 0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.final[:, 10], (found.final[:, 5] + found.final[:, 15]) / 2)
    deep = torch.stack([maps["d1"].mean(2) for _, maps in runs.values()]).mean(0)
    torch.testing.assert_close(found.intermediate, deep, rtol=1e-3, atol=1e-5)


def test_teachers_that_cannot_be_used(files):
    for frames in ((15,), (0, 5, 10), (0, 10, 5, 15)):
        with pytest.raises(UsageError, match="must ascend from 0 to 15"):
            teacher_of(files["s"], frames=frames)
    with pytest.raises(UsageError, match="uva-64 has no hierarchical maps"):
        Teacher("u.safetensors", lively("uva-64"), run, CPU)


def test_the_targets_of_a_batch(files):
    """Photographs have the first teacher's maps, other clips the mean, and static clips that of all frames."""
    x, static = clips(3), torch.tensor([False, True, False])
    batch = Batch(x, x[:, :, CONTEXT:], static, None, x[:0, 0])
    teachers = [teacher_of(files[kind], frames=(0, 15)) for kind in ("m", "s")]
    found = teacher_targets(teachers, batch, single=1)
    first, second = (teacher.targets(x) for teacher in teachers)
    both = (distribution(first.final) + distribution(second.final)) / 2
    torch.testing.assert_close(found.final[0], distribution(first.final)[0])
    torch.testing.assert_close(found.final[1], both[1].mean(0, keepdim=True).expand(16, -1, -1))
    torch.testing.assert_close(found.final[2], both[2])
    torch.testing.assert_close(found.final.sum((-2, -1)), torch.ones(3, 16))
