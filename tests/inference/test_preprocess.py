"""A frame enters prediction, live, evaluation and export as the same values; training rounds them to 8 bits."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers import clips

from tinyhd_cli import models
from tinyhd_cli.apps.live.run import FrameGrabber, Predictor
from tinyhd_cli.datasets import Video
from tinyhd_cli.engines.export import SPEC_KEY, metadata_of
from tinyhd_cli.evaluation.predictions import NetworkSource
from tinyhd_cli.inference.predict import prepare
from tinyhd_cli.inference.preprocess import (
    has_exact_weights,
    network_input,
    reduced,
    reduced_image,
    reduction,
    resized,
    scale_and_shift,
)
from tinyhd_cli.models import Preprocess
from tinyhd_cli.training.augment import collate, student_clips
from tinyhd_cli.training.clip_cache import decode, form_of
from tinyhd_cli.training.clips import Clips, Pick
from tinyhd_cli.video.reader import VideoReader

SPECS = {
    "imagenet": models.named_spec("tinyhd-m-quarter"),
    "halves": models.named_spec("hd2s"),
    "area": replace(models.named_spec("tinyhd-s-quarter"), input_size=(64, 96), preprocess=Preprocess(resize="area")),
    "unreduced": replace(models.named_spec("tinyhd-s-quarter"), preprocess=Preprocess(reduce_above=None)),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two frames of 1080p in the layout of a dataset."""
    folder = tmp_path_factory.mktemp("videos")
    return clips.make(folder / "large.mkv", frames=2, width=1920, height=1080, codec="ffv1")


class Recorder:
    """A model whose network only records its input."""

    def __init__(self, spec):
        self.spec, self.name, self.sha256 = spec, "recorder", ""
        self.network = torch.nn.Identity()
        self.engine = SimpleNamespace(name="torch", precision="float32")
        self.prepare = lambda image: network_input(image, spec)
        self.frames = []

    def maps(self, frames):
        for number, pixels in frames:
            self.frames.append(pixels)
            yield number, pixels[0]


def predicted(video, spec):
    with VideoReader(video) as reader:
        return [pixels for _, pixels in prepare(reader, Recorder(spec))]


@pytest.mark.parametrize("name", SPECS)
def test_a_large_frame_enters_all_five_alike(video, tmp_path, name):
    spec = SPECS[name]
    expected = predicted(video, spec)[0]
    assert expected.shape == (3, *spec.input_size)

    with VideoReader(video) as reader:
        grabber = FrameGrabber(reader, paced=False, clip_frames=16)
        grabber.run()
        live = Predictor(grabber, Recorder(spec))._pixels(grabber.clip()[:1])
    assert np.array_equal(live[:, -1], expected)

    model = Recorder(spec)
    entry = Video("large", video, None, None)
    list(NetworkSource(model).maps(entry, print))
    assert np.array_equal(model.frames[0], expected)

    exported = models.from_dict(json.loads(metadata_of(Recorder(spec))[SPEC_KEY]))
    with VideoReader(video) as reader:
        assert np.array_equal(network_input(reduced(next(iter(reader)), exported.preprocess), exported), expected)

    # Training stores frames in 8 bits: from there on, to the bit; before, the same values rounded.
    stored = decode(entry, tmp_path, spec.input_size, spec.preprocess)
    with VideoReader(video) as reader:
        image = reduced(next(iter(reader)), spec.preprocess)
    rounded = np.rint(resized(image, spec.preprocess, spec.input_size)).clip(0, 255).astype(np.uint8)
    assert np.array_equal(stored.pixels()[0], rounded)
    batch = collate([Clips({form_of(spec): [stored]}, form_of(spec), {}, 1)[Pick(0, 0)]])
    trained = student_clips(batch, spec.preprocess, torch.device("cpu"))[0, :, 0].numpy()
    assert np.array_equal(trained, network_input(rounded, spec))
    assert np.abs(trained - expected).max() <= 0.5001 / 255 / min(spec.preprocess.std)


def test_images_are_reduced_as_frames_are(tmp_path):
    """An RGB image and an RGB frame go through the same scaler."""
    video = clips.make(tmp_path / "rgb.mkv", frames=1, width=1280, height=720, codec="ffv1", pixel_format="bgr0")
    with VideoReader(video) as reader:
        frame = next(iter(reader))
        difference = reduced_image(frame.rgb(), Preprocess()).astype(int) - reduced(frame, Preprocess())
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "factor"), [(640, 360, 1), (960, 540, 1), (961, 540, 1.5003), (1920, 1080, 3), (64, 48, 1)]
)
def test_frames_above_2_25_times_the_limit_are_reduced_to_it(width, height, factor):
    assert reduction(Preprocess(), width, height) == pytest.approx(factor, abs=1e-3)
    assert reduction(Preprocess(reduce_above=None), width, height) == 1


def test_the_library_prepares_as_documented(video):
    """Against the definition: area average, bilinear resize, (x / 255 - mean) / std."""
    spec = SPECS["imagenet"]
    with VideoReader(video) as reader:
        image = reduced(next(iter(reader)), spec.preprocess)
    assert image.shape == (360, 640, 3)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, spec.input_size, mode="bilinear", align_corners=False)[0].numpy()
    mean, std = (np.array(values)[:, None, None] for values in (spec.preprocess.mean, spec.preprocess.std))
    np.testing.assert_allclose(network_input(image, spec), (x / 255 - mean) / std, atol=2e-5)


def test_mean_and_std_are_rounded_to_float32_first():
    """The last bit of the input, and so of the maps, depends on it; the green channel's would differ."""
    expected = []
    for mean, std in zip(*(np.float32(values) for values in (Preprocess().mean, Preprocess().std)), strict=True):
        expected.append((np.float32(1 / 255 / float(std)), np.float32(float(mean) / float(std))))
    assert list(zip(*scale_and_shift(Preprocess()), strict=True)) == expected
    assert expected[1] != (np.float32(1 / 255 / 0.224), np.float32(0.456 / 0.224))


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (128, 128), (32, 256), (1, 1), (64, 96), (179, 200)])
def test_a_large_reduction_equals_that_of_opencv(size):
    rng = np.random.default_rng(0)
    for shape in [(360, 640), (480, 271), (719, 405), (381, 64), (129, 130)]:
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(resized(image, Preprocess(), size), expected)


def test_only_sizes_with_exact_weights_are_interpolated_by_rows():
    assert [size for size in [(64, 64), (128, 128), (64, 512), (64, 96), (192, 256)] if has_exact_weights(size)] == [
        (64, 64),
        (128, 128),
    ]
