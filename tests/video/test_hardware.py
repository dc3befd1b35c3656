"""Decoding on hardware: only where it gives the frames of the software. No machine for tests has such a device."""

from __future__ import annotations

import logging
from dataclasses import replace

import av
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.video import hardware
from tinyhd_cli.video.container import ContainerDecoder, planar
from tinyhd_cli.video.options import InputOptions
from tinyhd_cli.video.reader import VideoReader

DEVICE = next(iter(hardware.hwdevices_available()), None)

needs_devices = pytest.mark.skipif(DEVICE is None, reason="FFmpeg was built without hardware")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clips.make(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=4, rotation=90)


@pytest.fixture
def device(monkeypatch):
    """Return a function that makes the device decode in software, and change its frames as given."""

    def decode_with(change):
        class Decoder(ContainerDecoder):
            def __init__(self, path, options, device=None):
                super().__init__(path, options)
                self.on_device = device is not None

            def decode(self):
                for decoded in super().decode():
                    yield change(decoded) if self.on_device else decoded

        monkeypatch.setattr(hardware, "ContainerDecoder", Decoder)

    return decode_with


def images(path, choice="none"):
    with VideoReader(path, InputOptions(hwaccel=choice)) as reader:
        return [frame.rgb() for frame in reader]


def as_nv12(decoded):
    return replace(decoded, av_frame=planar(decoded.av_frame.reformat(format="nv12")))


def darker(decoded):
    frame = av.VideoFrame.from_ndarray(decoded.av_frame.to_ndarray(format="rgb24") // 2, "rgb24")
    return replace(decoded, av_frame=frame.reformat(format=decoded.av_frame.format.name))


def turned(decoded):
    return replace(decoded, orientation=decoded.orientation._replace(rotation=0))


@needs_devices
def test_a_device_that_agrees_is_used(clip, device, caplog):
    caplog.set_level(logging.DEBUG, "tinyhd")
    device(as_nv12)
    found = images(clip, "auto")
    assert f"decoding on {DEVICE}" in caplog.text
    np.testing.assert_array_equal(found, images(clip))


@needs_devices
@pytest.mark.parametrize("change", [darker, turned, lambda decoded: replace(decoded, pts=7)])
def test_a_device_that_differs_is_not_used(clip, device, caplog, change):
    device(change)
    found = images(clip, DEVICE)
    assert caplog.messages == [
        f"{clip}: {DEVICE} does not decode it (its frames differ from those of the software); decoding in software"
    ]
    np.testing.assert_array_equal(found, images(clip))


@needs_devices
def test_a_device_that_this_machine_lacks(clip, caplog):
    """One line if it was named; ``auto`` is silent. On a machine with the device, the frames are compared."""
    expected = images(clip)
    assert len(images(clip, "auto")) == 4 and not caplog.messages
    for name in hardware.hwdevices_available():
        caplog.clear()
        assert np.abs(np.subtract(images(clip, name), expected, dtype=np.float32)).mean() <= hardware.TOLERANCE
        assert len(caplog.messages) <= 1
        assert all(message.endswith("; decoding in software") for message in caplog.messages)


@pytest.mark.parametrize("format_", ["nv12", "p010le"])
def test_frames_of_devices_have_the_pixels_of_the_software(format_):
    depth = {"nv12": "yuv420p", "p010le": "yuv420p10le"}[format_]
    image = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=depth)
    frame.pts = 5
    found = planar(frame.reformat(format=format_))
    assert (found.format.name, found.pts) == (depth, 5)
    np.testing.assert_array_equal(found.to_ndarray(), frame.to_ndarray())


def test_an_unknown_device():
    with pytest.raises(UsageError, match="--hwaccel 'cudda' is unknown"):
        InputOptions(hwaccel="cudda")


def test_a_damaged_file_is_reported_as_usual(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="not a video that FFmpeg can read"):
        VideoReader(tmp_path / "bad.mp4", InputOptions(hwaccel="auto"))
