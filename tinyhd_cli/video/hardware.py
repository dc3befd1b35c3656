"""Decode on hardware where FFmpeg and the machine offer it, and only if it gives the frames that the software gives."""

from __future__ import annotations

import logging
from operator import attrgetter
from pathlib import Path

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available

from ..errors import InputError, one_line
from .container import ContainerDecoder
from .decoded import Decoded
from .options import InputOptions
from .source import is_read_once

log = logging.getLogger("tinyhd")

TOLERANCE = 0.5
"""Mean difference of two frames up to which they are the same, in levels of 8-bit RGB. Decoders of old codecs may round
in different ways."""


def open_decoder(path: Path, options: InputOptions) -> ContainerDecoder:
    """Return the decoder of an input: on the device that the options name if it can be used, else in software.

    Pipes, streams and cameras are decoded in software, because devices are tried on the start of the input.
    """
    if options.hwaccel != "none" and not options.address and not is_read_once(path):
        automatic = options.hwaccel == "auto"
        for device in hwdevices_available() if automatic else [options.hwaccel]:
            if reason := why_not(device, path, options):
                say = log.debug if automatic else log.warning
                say("%s: %s does not decode it (%s); decoding in software", path, device, reason)
                continue
            log.debug("%s: decoding on %s", path, device)
            return ContainerDecoder(path, options, new_device(device))
    return ContainerDecoder(path, options)


def new_device(name: str) -> HWAccel:
    """Return a device for one input, from which an error is raised if it does not support the codec."""
    return HWAccel(name, allow_software_fallback=False)


def why_not(device: str, path: Path, options: InputOptions) -> str:
    """Return why a device is not used for an input; empty if its first frame is that of the software.

    Raises:
        InputError: the software cannot decode the input either.
    """
    expected = first_frame(ContainerDecoder(path, options))
    try:
        found = first_frame(ContainerDecoder(path, options, new_device(device)))
    except InputError as error:
        if isinstance(error.__context__, PermissionError):  # of the driver, because the software could read the file
            return "this machine has no such device, or no driver for it"
        return str(error).removeprefix(f"{path}: ")
    # Drivers and PyAV raise errors of all these kinds for a device that cannot be used; the software is used then.
    except (av.FFmpegError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        return one_line(error)
    if found is None or expected is None:
        return "no frame" if expected else ""
    return "" if is_same(found, expected) else "its frames differ from those of the software"


def first_frame(decoder: ContainerDecoder) -> Decoded | None:
    """Return the first frame of a decoder, and close it."""
    try:
        return next(decoder.decode(), None)
    finally:
        decoder.close()


def is_same(one: Decoded, other: Decoded) -> bool:
    """Return whether two frames look the same, and have the same time, orientation and colors."""
    facts = ("width", "height", "format.name", "colorspace", "color_range", "color_primaries", "color_trc")
    if (one.pts, one.orientation) != (other.pts, other.orientation):
        return False
    if any(attrgetter(fact)(one.av_frame) != attrgetter(fact)(other.av_frame) for fact in facts):
        return False
    images = (decoded.av_frame.to_ndarray(format="rgb24").astype(np.int16) for decoded in (one, other))
    return float(np.abs(np.subtract(*images)).mean()) <= TOLERANCE
