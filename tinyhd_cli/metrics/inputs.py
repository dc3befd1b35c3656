"""Convert the arguments of metrics to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError


def to_map(name: str, values: ArrayLike | None) -> NDArray[Any] | None:
    """Convert an input to an array ``(H, W)``; ``InputError`` if it is not a map."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        raise InputError(f"{name}: must be a numeric array of shape (height, width), not {array.dtype} {array.shape}")
    return array


def to_mask(name: str, values: ArrayLike | None) -> NDArray[np.bool_] | None:
    """Convert an input to a binary map ``(H, W)``; ``InputError`` if it is not a map."""
    array = to_map(name, values)
    return None if array is None else array.astype(bool, copy=False)


def is_finite(values: NDArray[Any]) -> bool:
    """Return whether a map contains neither NaN nor infinity."""
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def check_same_size(maps: dict[str, NDArray[Any] | None]) -> tuple[int, int] | None:
    """Return height and width of the maps of a frame, None without maps; ``InputError`` if they differ in size."""
    sizes = {name: (values.shape[0], values.shape[1]) for name, values in maps.items() if values is not None}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{name} {width} x {height}" for name, (height, width) in sizes.items())
        raise InputError(f"the maps of a frame must have the same size, not {text}")
    return next(iter(sizes.values()), None)
