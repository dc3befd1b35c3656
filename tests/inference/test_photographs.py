"""Photographs: many at a time, with the maps of still clips."""

from pathlib import Path

import numpy as np
import pytest
from helpers import clips
from PIL import Image

from tinyhd_cli import InputError, load_model, predict
from tinyhd_cli.inference.model import FEW_STILLS
from tinyhd_cli.inference.options import Outputs, PredictOptions
from tinyhd_cli.inference.photographs import photograph_maps
from tinyhd_cli.inference.predict import predict_file
from tinyhd_cli.video.options import OverlayStyle


@pytest.fixture(scope="module")
def model(engine_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYHD_ENGINE_CACHE", str(engine_cache))
        loaded = load_model(device="cpu")
        _ = loaded.still_engine  # compiled once for all tests of the module
        return loaded


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(5)
    for number in range(FEW_STILLS + 2):
        size = (96 + 8 * number, 64)
        small = Image.fromarray(rng.integers(0, 255, (4, 6, 3), np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_maps_equal_those_of_a_still_clip(model, files):
    found = list(photograph_maps(files, model))
    assert model.still_engine is not None or model.engine.name not in ("fused", "openvino")
    for file, saliency in zip(files, found, strict=True):
        image = np.asarray(Image.open(file))
        clip = np.repeat(model.prepare(image)[:, np.newaxis], model.spec.clip_frames, axis=1)
        expected = model.infer(clip)[-1]
        assert np.abs(saliency - expected).max() <= 1e-5 * expected.max()


def test_the_first_maps_are_those_of_predict_and_of_arrays(model, files):
    few = files[:2]
    expected = [saliency for file in few for _, saliency in predict(file, model)]
    arrays = [np.asarray(Image.open(file)) for file in few]
    for photographs in (few, map(str, few), arrays):
        for one, other in zip(photograph_maps(photographs, model), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    assert list(photograph_maps([], model)) == []


@pytest.mark.parametrize("before", [1, FEW_STILLS + 2])
def test_an_unreadable_file_is_reported_in_its_turn(model, files, tmp_path, before):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    maps = photograph_maps([*files[:before], tmp_path / "bad.png"], model)
    for _ in range(before):
        assert next(maps).shape == model.input_size
    with pytest.raises(InputError, match=r"bad\.png"):
        next(maps)


@pytest.mark.parametrize("size", [(96, 64), (1500, 1000)], ids=["as it is", "reduced for the network"])
def test_an_overlay_is_drawn_on_the_whole_image(model, tmp_path, size):
    """Without opacity, it is the image itself."""
    source, overlay = tmp_path / "photo.png", tmp_path / "overlay.png"
    small = Image.fromarray(np.random.default_rng(6).integers(0, 255, (8, 12, 3), np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(source)
    predict_file(source, model, Outputs(overlay), PredictOptions(style=OverlayStyle(alpha=0.0)))
    with Image.open(source) as image, Image.open(overlay) as painted:
        assert np.array_equal(np.asarray(image), np.asarray(painted))


def facts(path):
    with Image.open(path) as image:
        return image.size, image.mode, getattr(image, "n_frames", 1)


def test_images_and_videos_in_one_call(tinyhd, files, tmp_path, weights_file, capsys):
    """Each input has its own default output; an image's outputs are images, a video's are animated."""
    clip = clips.make(tmp_path / "clip.mp4", frames=3)
    rest = ("--weights", weights_file, "--engine", "torch", "--jobs", "1")
    assert tinyhd("predict", files[0], clip, *rest) == 0
    assert tinyhd("predict", files[0], *rest, "-o", "heat.webp", "--maps", "map.tiff") == 0
    assert tinyhd("predict", clip, *rest, "-o", "heat.gif", "--maps", "map.apng") == 0
    assert sorted(path.name for path in Path.cwd().glob("*.*") if path != clip) == sorted(
        ["0_overlay.png", "clip_overlay.mp4", "heat.gif", "heat.webp", "map.apng", "map.tiff"]
    )
    size = facts(files[0])[0]
    assert [facts(name) for name in ("0_overlay.png", "heat.webp")] == 2 * [(size, "RGB", 1)]
    assert facts("map.tiff") == (size, "L", 1)
    assert [facts(name)[2] for name in ("heat.gif", "map.apng")] == [3, 3]
    capsys.readouterr()
    assert tinyhd("predict", clip, *rest, "-o", "heat.tiff") == 2
    assert "clip.mp4 is not a single image; name a video or an animated image instead" in capsys.readouterr().err
