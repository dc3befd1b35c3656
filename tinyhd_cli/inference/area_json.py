"""Read areas of interest from JSON: tinyhd's own format, COCO annotations, and Figma's nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from .area_mask import MAX_PIXELS, outlines
from .area_values import Drawing, box, check_corners, drawn_area, name_of, numbers, size_of
from .areas import Area
from .polygons import Points

CONTAINERS = {"FRAME", "GROUP", "COMPONENT", "COMPONENT_SET", "INSTANCE", "SECTION"}
"""Figma's types of nodes that are areas at any depth; others are areas directly inside the outer frame."""

OUTSIDE = {"DOCUMENT", "CANVAS", "SECTION"}
"""Figma's types of nodes around the outer frames: the file, its pages, and their sections."""


def json_drawings(content: Any, file: str) -> list[Drawing]:
    """Return the areas of a JSON document; ``KeyError``, ``TypeError`` or ``ValueError`` if it is invalid.

    Args:
        content: the parsed document.
        file: its name, for the advice about percent.
    """
    if isinstance(content, dict) and "annotations" in content:
        return coco_drawings(content)
    if isinstance(content, dict) and {"document", "nodes", "absoluteBoundingBox", "children"} & content.keys():
        return figma_drawings(content)
    return [Drawing(own_areas(content, file))]


def own_areas(content: Any, file: str) -> list[Area]:
    """Return the areas of tinyhd's own format.

    It is ``{"units": "pixels", "areas": [{"name": "logo", "box": [x, y, w, h]}, {"name": "face", "polygon":
    [[x, y], ...]}, {"name": "ball", "keyframes": [{"time_s": 0, "box": [...]}, {"time_s": 2.5, "box": [...]}]}]}``.
    ``units`` may also be ``percent``.
    """
    if not isinstance(content, dict):
        raise ValueError('must contain an object, {"areas": [...]}')
    units = content.get("units", "pixels")
    if units not in ("pixels", "percent"):
        raise ValueError(f"units must be pixels or percent, not {units!r}")
    areas = [area_of(entry, units == "pixels") for entry in entries(content, "areas")]
    if "units" not in content:
        areas = [replace(area, percent_advice=f'add "units": "percent" to {file}') for area in areas]
    if not areas:
        raise ValueError("contains no areas")
    if len({area.name for area in areas}) < len(areas):
        raise ValueError("two areas have the same name; use different names")
    return areas


def entries(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of objects at a key of a JSON object; ``ValueError`` if the value is anything else."""
    found = parent[key]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"{key} must be a list of objects, [{{...}}, ...]")
    return found


def area_of(entry: Mapping[str, Any], in_pixels: bool) -> Area:
    """Return the area described by an entry of a JSON file."""
    name = name_of(entry["name"])
    keyframes = entries(entry, "keyframes") if "keyframes" in entry else [{**entry, "time_s": 0}]
    times = tuple(float(numbers([keyframe["time_s"]], f"area {name!r}: a time")[0]) for keyframe in keyframes)
    corners = tuple(corners_of(name, keyframe) / (1 if in_pixels else 100) for keyframe in keyframes)
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"area {name!r}: the times of its keyframes must be ascending")
    if len({len(points) for points in corners}) > 1:
        raise ValueError(f"area {name!r}: its keyframes must all have the same number of corners")
    return Area(name, times, corners, in_pixels)


def corners_of(name: str, entry: Mapping[str, Any]) -> Points:
    """Return the corners of an entry, which has a box or a polygon."""
    if "box" in entry:
        return box_of(entry["box"], f"area {name!r}: a box")
    points = numbers(entry.get("polygon", []), f"area {name!r}: a polygon")
    if points.ndim != 2 or points.shape[0] < 3 or points.shape[1] != 2:
        raise ValueError(f"area {name!r}: needs a box [x, y, width, height] or a polygon of three or more [x, y]")
    check_corners(name, points)
    return points


def box_of(values: Any, what: str) -> Points:
    """Return the corners of a box in a JSON file; ``what`` is its name in messages."""
    found = numbers(values, what)
    if found.shape != (4,) or found[2] <= 0 or found[3] <= 0:
        raise ValueError(f"{what} must be [x, y, width, height], with width and height above 0")
    return box([float(value) for value in found])


def coco_drawings(content: Mapping[str, Any]) -> list[Drawing]:
    """Return the annotations of a COCO file for each of its images, named by their categories."""
    categories = {entry["id"]: name_of(entry["name"], shorten=True) for entry in content.get("categories", [])}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in entries(content, "annotations"):
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    drawings = []
    for image in entries(content, "images"):
        picture = str(image.get("file_name", image["id"]))
        size = size_of(image.get("width"), image.get("height"), f"image {picture!r}")
        areas = []
        for annotation in by_image.get(image["id"], []):
            name = categories.get(annotation.get("category_id"), f"category {annotation.get('category_id')}")
            areas.append(drawn_area(name, coco_rings(annotation, name, size), size))
        if areas:
            drawings.append(Drawing(areas, picture=picture))
    if not drawings:
        raise ValueError("contains no annotations of its images")
    return drawings


def coco_rings(annotation: Mapping[str, Any], name: str, size: tuple[float, float]) -> list[Points]:
    """Return the parts of an annotation: its polygons, the outline of its run-length mask, or its box."""
    what = f"area {name!r}: a segmentation"
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return outlines(run_length_mask(segmentation, what))
    if not segmentation:
        return [box_of(annotation["bbox"], f"area {name!r}: a box")]
    rings = []
    for polygon in segmentation:
        points = numbers(polygon, what)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2:
            raise ValueError(f"{what} must be a list of polygons [x1, y1, x2, y2, x3, y3, ...]")
        rings.append(points.reshape(-1, 2))
    return rings


def run_length_mask(segmentation: Mapping[str, Any], what: str) -> Any:
    """Return the mask ``(H, W)`` of a run-length encoding, compressed or not, column by column."""
    height, width = (int(side) for side in numbers(segmentation["size"], what))
    counts = segmentation["counts"]
    runs = numbers(decompressed(counts) if isinstance(counts, str) else counts, what, MAX_PIXELS).astype(np.int64)
    if width * height > MAX_PIXELS or runs.ndim != 1 or (runs < 0).any() or runs.sum() != width * height:
        raise ValueError(f"{what} has runs that do not fill {width} x {height} pixels")
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    if not mask.any():
        raise ValueError(f"{what} is empty")
    return mask


def decompressed(text: str) -> list[int]:
    """Return the runs of COCO's compressed text: 5 bits per character, from the third run on as differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:  # the sign bit
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def figma_drawings(content: Mapping[str, Any]) -> list[Drawing]:
    """Return the areas of each outer frame of a Figma file, as returned by its REST API or a plugin.

    The frame is the picture. Visible frames, groups, components and instances inside it are areas, and so is everything
    directly in it; all other nodes can be named.
    """
    if "nodes" in content:
        roots = [node["document"] for node in content["nodes"].values()]
    else:
        roots = [content.get("document", content)]
    drawings = [figma_drawing(frame) for root in roots for frame in outer_frames(root)]
    drawings = [drawing for drawing in drawings if drawing.areas]
    if not drawings:
        raise ValueError("contains no frame with an absoluteBoundingBox and children")
    return drawings


def outer_frames(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the outermost visible nodes that have a place and children."""
    if not isinstance(node, dict) or node.get("visible") is False:
        return
    children = node.get("children") or []
    if node.get("type") in OUTSIDE or not node.get("absoluteBoundingBox"):
        for child in children:
            yield from outer_frames(child)
    elif children:
        yield node


def figma_drawing(frame: Mapping[str, Any]) -> Drawing:
    """Return the areas inside an outer frame."""
    picture = name_of(frame["name"], shorten=True)
    corner, size = figma_box(frame, picture)
    areas: list[Area] = []
    others: list[Area] = []
    for node, depth in visible_nodes(frame["children"], 1):
        if not node.get("absoluteBoundingBox"):
            continue
        name = name_of(node["name"], shorten=True)
        at, extent = figma_box(node, name, may_be_flat=True)
        low, high = at - corner, at - corner + extent
        if min(extent) <= 0 or (low >= size).any() or (high <= 0).any():  # a line, or cut off by the frame
            continue
        area = drawn_area(name, [box((*low, *extent))], size)
        (areas if depth == 1 or node.get("type") in CONTAINERS else others).append(area)
    return Drawing(areas, others, picture)


def visible_nodes(children: Sequence[Any], depth: int) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield the visible nodes of a tree with their depths."""
    for node in children:
        if isinstance(node, dict) and node.get("visible") is not False:
            yield node, depth
            yield from visible_nodes(node.get("children") or [], depth + 1)


def figma_box(node: Mapping[str, Any], name: str, may_be_flat: bool = False) -> tuple[Points, tuple[float, float]]:
    """Return the top left corner of a node, and its width and height."""
    place = node["absoluteBoundingBox"]
    values = numbers([place[key] for key in ("x", "y", "width", "height")], f"node {name!r}: its absoluteBoundingBox")
    if not may_be_flat and (values[2:] <= 0).any():
        raise ValueError(f"node {name!r}: width and height must be above 0")
    return values[:2], (float(values[2]), float(values[3]))
