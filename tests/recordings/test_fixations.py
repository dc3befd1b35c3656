"""Detection of fixations against pymovements, on regular and irregular samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.recordings import FixationOptions, Recording, Samples, detect_fixations, quality

SCREEN = (1920, 1080)
DESK = {"distance_cm": 65.0, "screen_width_cm": 52.0}


def wandering(rate: int, seconds: float, noise: float, seed: int = 0):
    """Return pixels (n, 2) of fixations at random places with slow drift and noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(int(0.05 * rate) + 2, int(0.6 * rate), size=int(seconds / 0.1))
    places = rng.uniform((100, 100), (1800, 1000), (len(lengths), 2))
    gaze = np.repeat(places, lengths, axis=0)[: int(seconds * rate)]
    drift = rng.normal(0, noise / 20, gaze.shape).cumsum(axis=0)
    return (gaze + drift + rng.normal(0, noise, gaze.shape)).astype(np.float32)


def recording_of(gaze, rate, valid=None, time=None):
    time = np.arange(len(gaze)) / rate if time is None else time
    valid = np.ones(len(gaze), bool) if valid is None else valid
    x, y = np.where(valid, gaze[:, 0], np.nan), np.where(valid, gaze[:, 1], np.nan)
    return Recording("p", Path("p.csv"), Samples(time, x, y, valid), None, SCREEN)


def reference(events, time, gaze):
    frame = events.frame
    first, last = frame["onset"].to_numpy(), frame["offset"].to_numpy()
    means = [gaze[a : b + 1].mean(axis=0) for a, b in zip(first, last, strict=True)]
    return time[first], time[last], np.array(means).reshape(-1, 2)


def agrees(table, expected, least):
    start, end, means = expected
    assert len(table) == len(start) >= least
    np.testing.assert_array_equal(table.start_s, start)
    np.testing.assert_array_equal(table.end_s, end)
    np.testing.assert_allclose(np.stack([table.x, table.y], axis=1), means, rtol=1e-6)


@pytest.mark.parametrize(("rate", "noise"), [(60, 2), (60, 12), (250, 5), (1000, 3), (1000, 12)])
@pytest.mark.parametrize("method", ["idt", "ivt"])
def test_agrees_with_pymovements(method, rate, noise):
    """In degrees of visual angle, over 10 s: onsets and offsets are equal, positions are the means."""
    import pymovements as pm

    gaze = wandering(rate, 10, noise)
    recording = recording_of(gaze, rate)
    degrees = pm.transforms.numpy.pix2deg(gaze, SCREEN, (52.0, 52.0 * 9 / 16), 65.0, "upper left")
    shortest = int(np.ceil(0.06 * rate))
    if method == "idt":
        events = pm.events.idt(degrees, minimum_duration=shortest, dispersion_threshold=1.0)
    else:
        how = (
            {"method": "smooth"}
            if rate < 300
            else {"method": "savitzky_golay", "window_length": 21, "polyorder": 2, "mode": "nearest"}
        )
        velocities = pm.transforms.numpy.pos2vel(degrees, sampling_rate=rate, **how)
        events = pm.events.ivt(velocities, minimum_duration=shortest, velocity_threshold=60.0)
    options = FixationOptions(method=method, velocity=60, dispersion=1, **DESK)
    least = 0 if (noise == 12 and rate == 1000) else 15
    agrees(detect_fixations(recording, options), reference(events, recording.samples.time_s, gaze), least)


@pytest.mark.parametrize("method", ["idt", "ivt"])
def test_pixels_gaps_and_jitter(method):
    """Two fixations, known in pixels: short gaps are bridged, long ones split, irregular samples are resampled."""
    rate = 100
    gaze = np.repeat([[300.0, 400.0], [900.0, 500.0]], 50, axis=0)
    valid = np.ones(100, bool)
    valid[20:25] = False  # 60 ms: bridged
    valid[70:85] = False  # 160 ms: splits
    options = FixationOptions(method=method, in_pixels=True, velocity=500, dispersion=20)
    table = detect_fixations(recording_of(gaze, rate, valid), options)
    assert len(table) == 3
    np.testing.assert_allclose(table.x, [300, 900, 900], atol=0.01 if method == "ivt" else 13)
    assert table.start_s[0] == 0 and table.end_s[0] == pytest.approx(0.49, abs=0.03)
    assert table.end_s[1] == pytest.approx(0.69, abs=0.03) and table.start_s[2] == pytest.approx(0.85, abs=0.03)
    time = np.arange(100) / rate + np.random.default_rng(0).uniform(-0.002, 0.002, 100)
    jittered = detect_fixations(recording_of(gaze, rate, time=time), options)
    assert len(jittered) == 2
    np.testing.assert_allclose(jittered.start_s, [0, 0.5], atol=0.04)


def test_degrees_are_assumed_without_a_distance():
    """One degree is a fortieth of the screen, about 53 pixels of 1920 in the middle."""
    gaze = np.full((100, 2), (960.0, 540.0), np.float32)
    gaze[::2, 0] += 45
    close = detect_fixations(recording_of(gaze, 100), FixationOptions(method="idt", dispersion=1))
    gaze[::2, 0] += 15
    far = detect_fixations(recording_of(gaze, 100), FixationOptions(method="idt", dispersion=1))
    assert len(close) == 1 and len(far) == 0


def test_short_unknown_and_stated():
    gaze = np.zeros((3, 2), np.float32)
    assert len(detect_fixations(recording_of(gaze, 100))) == 0
    unknown = Recording("p", Path("p.csv"), recording_of(np.zeros((50, 2)), 100).samples, None, None)
    with pytest.raises(InputError, match="--screen"):
        detect_fixations(unknown)
    stated = detect_fixations(recording_of(np.full((50, 2), 5.0), 100), FixationOptions(in_pixels=True))
    both = Recording("p", Path("p.csv"), unknown.samples, stated, None)
    assert detect_fixations(both) is stated


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distance_cm": 60.0}, "--distance needs --screen-width"),
        ({"screen_width_cm": 60.0}, "--screen-width needs --distance"),
        ({"velocity": 0}, "--velocity"),
        ({"min_duration_s": 1e307}, "--min-fixation"),
        ({"method": "idtt"}, "did you mean idt"),
        ({"max_gap_s": -1}, "--max-gap"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(UsageError, match=words):
        FixationOptions(**options)


def test_quality():
    """10 of 100 samples are invalid, and a stretch of 20 is missing altogether."""
    gaze = np.tile([[100.0, 100.0], [5000.0, 100.0]], (50, 1))
    time = np.concatenate([np.arange(60), np.arange(80, 120)]) / 100
    valid = np.ones(100, bool)
    valid[10:20] = False
    result = quality(recording_of(gaze, 100, valid, time))
    assert result.observer == "p" and result.duration_s == pytest.approx(1.19)
    assert result.rate == pytest.approx(100) and result.valid == pytest.approx(0.9)
    assert result.lost == pytest.approx(30 / 120) and result.longest_gap_s == pytest.approx(0.21)
    assert result.outside == pytest.approx(0.5) and result.fixations is None
    fixations = detect_fixations(recording_of(gaze[::2], 100), FixationOptions(in_pixels=True))
    assert quality(recording_of(gaze, 100), fixations).fixations == 1


@pytest.mark.parametrize("count", [8, 40, 2000])
def test_gaps_at_both_ends_at_1000_samples_per_second(count):
    """Also recordings that are shorter than the window of the velocity."""
    gaze = np.full((count, 2), 400.0) + np.random.default_rng(0).normal(0, 3, (count, 2))
    valid = np.ones(count, bool)
    valid[: count // 4] = valid[-(count // 4) :] = False
    table = detect_fixations(recording_of(gaze, 1000, valid=valid), FixationOptions(method="ivt", **DESK))
    assert len(table) == (count == 2000)
    assert all(0.4 < start < 0.6 for start in table.start_s)
