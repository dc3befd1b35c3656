"""Self-tests of engines: whether they work at all, and whether their maps agree with PyTorch's."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from ..models import ModelSpec
from .base import Engine, EngineUnavailable, FramesEngine, StillEngine
from .graph import Array, Input, Shape, convolve, relu6
from .kernels import available_isas, load

NO_KERNELS = "no kernels for this machine: they need AVX2 or a 64-bit ARM CPU, and a C compiler at installation"


@dataclass(frozen=True)
class Tolerance:
    """Limits on the difference between an engine's maps and PyTorch's, both scaled to 0..1."""

    difference: float
    """Maximum difference of any pixel."""
    correlation: float
    """Minimum correlation of each map."""


LIMITS = {
    # Trained networks differ by 2e-6; untrained ones amplify rounding errors.
    "float32": Tolerance(1e-3, 0.99999),
    # Measured on the noise of the self-test; on videos the difference is half of that.
    "bf16": Tolerance(0.06, 0.999),
    "int8": Tolerance(1.0, 0.995),
}


def self_test(name: str) -> str:
    """Run an engine on a 1x1 convolution.

    Returns:
        A note about the engine for ``tinyhd doctor``.

    Raises:
        EngineUnavailable: it returns a wrong value, or has no kernels for this machine.
        Exception: whatever the engine raises.
    """
    if name == "fused":
        if not available_isas():
            raise EngineUnavailable(NO_KERNELS)
        load(available_isas()[0])
        return f", kernels for {available_isas()[0]}"
    clip = np.ones((3, 1, 2, 2), np.float32)
    result = relu6(convolve(Input((3, 1, 2, 2)), np.ones((1, 3, 1, 1, 1), np.float32), np.zeros(1, np.float32)))
    note = ""
    engine: Engine
    if name == "openvino":
        from .openvino import OpenVino, has_bf16, to_openvino

        engine = OpenVino(functools.partial(to_openvino, result), "float32", 1)
        note = ", with bf16" if has_bf16() else ", without bf16"
    else:
        from .onnx import OnnxRuntime, to_onnx

        engine = OnnxRuntime(to_onnx(result).SerializeToString(), 1)
    if not np.allclose(engine.infer(clip), 3):
        raise EngineUnavailable("self-test failed: a 1x1 convolution returned a wrong value")
    return note


def self_test_clip(shape: Shape) -> Array:
    """Return a clip ``(3, T, H, W)`` of smooth, changing noise."""
    noise = np.random.default_rng(0).normal(0, 1.2, (3, 5, 12, 16)).astype(np.float32)
    _, frames, height, width = shape
    at = np.clip((np.arange(frames, dtype=np.float32) + 0.5) * 5 / frames - 0.5, 0, 4)
    before = at.astype(int)
    part = (at - before)[:, np.newaxis, np.newaxis]
    clip = np.empty(shape, np.float32)
    for channel, images in zip(clip, noise, strict=True):
        large = np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in images])
        channel[:] = large[before] * (1 - part) + large[np.minimum(before + 1, 4)] * part
    return clip


@dataclass(frozen=True)
class Expected:
    """PyTorch's maps of the clip of the self-test."""

    maps: Array
    """``(maps, H / step, W / step)``."""
    step: int = 1
    """Distance of the pixels that are compared."""


def mismatch(engine: Engine, expected: Expected, spec: ModelSpec, limits: Tolerance) -> str:
    """Return how an engine's maps of a clip differ from PyTorch's; empty if they are within the limits."""
    maps = engine.infer(self_test_clip((3, spec.clip_frames, *spec.input_size)))
    return disagreement(maps[:, :: expected.step, :: expected.step], expected.maps, spec, limits)


def frames_mismatch(engine: FramesEngine, reference: Engine, spec: ModelSpec, limits: Tolerance) -> str:
    """Return how an engine's maps of many frames differ from the reference's; empty if they are within the limits.

    The reference is run clip by clip, on about four clips of a batch, because it is slow.
    """
    length = spec.clip_frames
    clip = self_test_clip((3, engine.batch + length - 1, *spec.input_size))
    [maps] = engine.stream([np.ascontiguousarray(clip.swapaxes(0, 1))])
    step = max(1, engine.batch // 3)
    clips = (np.ascontiguousarray(clip[:, start : start + length]) for start in range(0, engine.batch, step))
    return disagreement(maps[::step], np.concatenate([reference.infer(one) for one in clips]), spec, limits)


def still_mismatch(engine: StillEngine, reference: Engine, spec: ModelSpec, limits: Tolerance) -> str:
    """Return how an engine's map of a still clip differs from the reference's; empty if it is within the limits.

    Args:
        engine: the engine for still clips.
        reference: an engine for clips that has passed its self-test.
        spec: the network.
        limits: on the difference.
    """
    frame = self_test_clip((3, 1, *spec.input_size))
    expected = reference.infer(np.repeat(frame, spec.clip_frames, axis=1))
    return disagreement(engine.infer(frame[:, 0])[np.newaxis], expected[-1:], spec, limits)


def disagreement(maps: Array, reference: Array, spec: ModelSpec, limits: Tolerance) -> str:
    """Return how maps ``(T, H, W)`` differ from the reference's; empty if they are within the limits.

    Maps of objects are never stretched: their probabilities are compared as they are. Noise contains no object, so the
    correlation of such maps says little.
    """
    if spec.task == "object" and maps.shape == reference.shape and np.isfinite(maps).all():
        difference, correlation = float(np.abs(maps - reference).max()), 1.0
    else:
        difference, correlation = compare(maps, reference)
    if difference <= limits.difference and correlation >= limits.correlation:
        return ""
    return f"maps differ from PyTorch's by up to {difference:.1g} of their range (CC {correlation:.5f})"


def compare(maps: Array, reference: Array) -> tuple[float, float]:
    """Return the largest difference of two sets of maps ``(T, H, W)``, each scaled to 0..1, and the lowest CC of a map.

    Constant maps have no CC and are left out.
    """
    if maps.shape != reference.shape or not np.isfinite(maps).all():
        return 1.0, 0.0
    scaled = [(values - values.min()) / max(float(np.ptp(values)), 1e-12) for values in (maps, reference)]
    difference = float(np.abs(scaled[0] - scaled[1]).max())
    pairs = [(one.ravel(), other.ravel()) for one, other in zip(maps, reference, strict=True)]
    found = [float(np.corrcoef(pair)[0, 1]) for pair in pairs if pair[0].std() > 1e-9 and pair[1].std() > 1e-9]
    return difference, min(found, default=1.0)
