"""Read areas of interest from SVG: each shape is an area, and each named group can be one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from fontTools.misc.transform import Identity, Transform
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

from ..untrusted import parse_xml
from .area_values import MAX_AREAS, MAX_COORDINATE, Drawing, box, drawn_area, name_of, numbers
from .polygons import Points

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

GROUPS = {"svg", "g", "a", "switch", "use"}
"""Elements with shapes inside. Definitions, clip paths, masks and patterns are not drawn themselves."""

SHAPES = {"rect", "circle", "ellipse", "polygon", "polyline", "path"}

CURVE_STEPS = 12
"""Straight lines that replace a Bézier curve."""

CIRCLE_STEPS = 96
"""Straight lines that replace a circle or an ellipse."""

MAX_ELEMENTS = 20_000
"""Maximum number of elements, each counted as often as ``<use>`` repeats it."""

UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
"""Pixels per unit of a length, as in CSS."""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass
class Group:
    """A group of the SVG, and the corners of all shapes in it."""

    name: str
    points: list[Points] = field(default_factory=list)


@dataclass
class Walk:
    """State of a walk through the elements of an SVG."""

    by_id: dict[str, Element]
    size: tuple[float, float]
    """Width and height of the outer ``<svg>`` in its own units, for lengths in percent, also those in nested ones."""
    elements: int = 0
    shapes: list[tuple[str, list[Points]]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


def svg_drawing(text: str) -> Drawing:
    """Return the areas of an SVG; ``ValueError`` if it is invalid."""
    root = parse_xml(text)
    if tag(root) != "svg":
        raise ValueError(f"is not an SVG file: its outer element is <{tag(root)}>")
    view = view_box(root)
    whole = view[2:] if view else (0.0, 0.0)
    size = length(root.get("width", "100%"), whole[0]), length(root.get("height", "100%"), whole[1])
    if min(size) <= 0 or max(size) > MAX_COORDINATE:
        raise ValueError("needs a viewBox, or a width and a height")
    walk = Walk({element.get("id", ""): element for element in root.iter()}, view[2:] if view else size)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite numbers are reported by `numbers`
            visit(root, viewport(root, size), walk, [])
    except RecursionError:
        raise ValueError("a <use> element refers to itself, or to elements nested too deep") from None
    areas = [drawn_area(name, rings, size) for name, rings in walk.shapes]
    groups = [drawn_area(group.name, [around(group.points)], size) for group in walk.groups if group.points]
    if not areas:
        raise ValueError("contains no shapes (rect, circle, ellipse, polygon, polyline, path)")
    return Drawing(areas, groups)


def visit(element: Element, transform: Transform, walk: Walk, inside: Sequence[Group]) -> None:
    """Add the shapes of an element and of all elements in it.

    Args:
        element: the element.
        transform: from the units of the element's parent to the units of the drawing.
        walk: receives the shapes.
        inside: the groups around the element.
    """
    walk.elements += 1
    if walk.elements > MAX_ELEMENTS:
        raise ValueError(f"has more than {MAX_ELEMENTS:,} elements")
    kind = tag(element)
    if element.get("display") == "none" or re.search(r"display\s*:\s*none", element.get("style", "")):
        return
    if kind in SHAPES:
        add_shape(element, kind, transform, walk, inside)
    elif kind in GROUPS:
        name = own_name(element)
        if name and kind == "g":
            group = Group(name)
            walk.groups.append(group)
            inside = [*inside, group]
        transform = transform.transform(transform_of(element.get("transform", "")))
        for child, child_transform in drawn_children(element, kind, transform, walk):
            visit(child, child_transform, walk, inside)


def drawn_children(
    element: Element, kind: str, transform: Transform, walk: Walk
) -> Iterator[tuple[Element, Transform]]:
    """Yield the elements inside a group, or the element that ``<use>`` refers to, with their transforms."""
    if kind != "use":
        for child in element:
            is_svg = tag(child) == "svg"
            yield child, placed(child, child, transform, walk) if is_svg else transform
        return
    name = next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == "href"), "")
    target = walk.by_id.get(name.removeprefix("#"))
    if target is None:
        return
    if tag(target) == "symbol":
        moved = placed(element, target, transform, walk)
        for child in target:
            yield child, moved
    else:
        yield target, transform.translate(*(length(element.get(key, "0"), 0) for key in "xy"))


def placed(element: Element, content: Element, transform: Transform, walk: Walk) -> Transform:
    """Return the transform inside a nested ``<svg>`` or a ``<symbol>``; ``element`` has its place and size."""
    x, y = (length(element.get(key, "0"), side) for key, side in zip("xy", walk.size, strict=True))
    width, height = (
        length(element.get(key, "100%"), side) for key, side in zip(("width", "height"), walk.size, strict=True)
    )
    return transform.translate(x, y).transform(viewport(content, (width, height)))


def add_shape(element: Element, kind: str, transform: Transform, walk: Walk, inside: Sequence[Group]) -> None:
    """Add one shape; a shape without an extent is left out."""
    matrix = transform.transform(transform_of(element.get("transform", "")))
    rings = [
        numbers(np.array(matrix.transformPoints(ring)), f"<{kind}>")
        for ring in shape_rings(element, kind, walk.size)
        if len(ring) > 2
    ]
    rings = [ring for ring in rings if (np.ptp(ring, axis=0) > 0).all()]
    if not rings:
        return
    for group in inside:
        group.points += rings
    walk.shapes.append((own_name(element) or kind, rings))
    if len(walk.shapes) > 100 * MAX_AREAS:
        raise ValueError(f"has more than {100 * MAX_AREAS:,} shapes")


def shape_rings(element: Element, kind: str, size: tuple[float, float]) -> list[Any]:
    """Return the corners of each part of a shape, in its own units."""

    def get(key: str, along: int, default: str = "0") -> float:
        return length(element.get(key, default), size[along])

    if kind == "rect":
        return [box((get("x", 0), get("y", 1), get("width", 0), get("height", 1)))]
    if kind in ("circle", "ellipse"):
        radii = (get("r", 0),) * 2 if kind == "circle" else (get("rx", 0), get("ry", 1))
        angles = np.arange(CIRCLE_STEPS) * (2 * math.pi / CIRCLE_STEPS)
        return [(get("cx", 0), get("cy", 1)) + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii]
    if kind in ("polygon", "polyline"):
        values = [float(value) for value in re.findall(NUMBER, element.get("points", ""))]
        return [np.reshape(values[: len(values) // 2 * 2], (-1, 2))]
    pen = RecordingPen()
    try:
        parse_path(element.get("d", ""), pen)
    except Exception as error:  # fontTools raises many types for a malformed path
        raise ValueError(f"path {own_name(element) or kind!r}: its d attribute is malformed") from error
    return path_rings(pen.value)


def path_rings(commands: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> list[list[tuple[float, float]]]:
    """Return the corners of each part of a path, with short lines instead of curves.

    Args:
        commands: the lines and Bézier curves of the path, in the notation of fontTools' pens.
    """
    rings: list[list[tuple[float, float]]] = []
    for command, points in commands:
        if command == "moveTo":
            rings.append([points[0]])
        elif command == "lineTo":
            rings[-1].append(points[0])
        elif command in ("curveTo", "qCurveTo"):
            handles = np.array([rings[-1][-1], *points])
            order = len(points)
            t = np.linspace(0, 1, CURVE_STEPS + 1)[1:, np.newaxis]
            weights = [math.comb(order, k) * t**k * (1 - t) ** (order - k) for k in range(order + 1)]
            rings[-1] += map(tuple, np.hstack(weights) @ handles)
        elif command == "closePath":  # a command without a moveTo starts where the path was closed
            rings.append([rings[-1][0]])
    return rings


def tag(element: Element) -> str:
    """Return an element's name without its namespace; empty for comments."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def own_name(element: Element) -> str:
    """Return the name that a designer gave an element: Inkscape's label, ``data-name``, its title, or its id."""
    label = next((value for key, value in element.attrib.items() if key.endswith("}label")), "")
    title = next((child.text or "" for child in element if tag(child) == "title"), "")
    text = label or element.get("data-name", "") or title or element.get("id", "")
    # Illustrator writes a space in an id as _x20_.
    text = re.sub(r"_x([0-9A-Fa-f]{2,4})_", lambda match: chr(int(match[1], 16)), text)
    return name_of(text, shorten=True) if text.strip() else ""


def length(text: str, whole: float) -> float:
    """Return a length in pixels; ``whole`` is the length of 100 %. ``ValueError`` if it is malformed."""
    match = re.fullmatch(rf"\s*({NUMBER})\s*(%|[a-z]*)\s*", text)
    if match is None or match[2] not in (*UNITS, "%"):
        raise ValueError(f"{text!r} is not a length")
    return float(match[1]) * (whole / 100 if match[2] == "%" else UNITS[match[2]])


def view_box(element: Element) -> tuple[float, float, float, float] | None:
    """Return x, y, width and height of an element's ``viewBox``; None if it has none."""
    found = element.get("viewBox")
    if found is None:
        return None
    values = [float(value) for value in re.findall(NUMBER, found)]
    if len(values) != 4 or min(values[2:]) <= 0:
        raise ValueError(f"viewBox {found!r}: must be x, y, width and height, with width and height above 0")
    return values[0], values[1], values[2], values[3]


def viewport(element: Element, size: tuple[float, float]) -> Transform:
    """Return the transform from the units inside an ``<svg>`` or ``<symbol>`` to the units around it.

    Args:
        element: the element, with its ``viewBox`` and ``preserveAspectRatio``.
        size: its width and height in the units around it.
    """
    view = view_box(element)
    if view is None:
        return Identity
    x_scale, y_scale = size[0] / view[2], size[1] / view[3]
    align = element.get("preserveAspectRatio", "xMidYMid").split() or ["xMidYMid"]
    x_shift = y_shift = 0.0
    if align[0] != "none":
        x_scale = y_scale = max(x_scale, y_scale) if "slice" in align else min(x_scale, y_scale)
        shares = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
        x_shift = (size[0] - x_scale * view[2]) * shares.get(align[0][1:4], 0.5)
        y_shift = (size[1] - y_scale * view[3]) * shares.get(align[0][5:8], 0.5)
    return Transform(x_scale, 0, 0, y_scale, x_shift - x_scale * view[0], y_shift - y_scale * view[1])


def transform_of(text: str) -> Transform:
    """Return the transform of a ``transform`` attribute; ``ValueError`` if it is malformed."""
    transform = Identity
    rest = re.sub(r"(\w+)\s*\(([^()]*)\)[\s,]*", "", text)
    if rest.strip():
        raise ValueError(f"transform {text[:40]!r} is malformed")
    for name, inside in re.findall(r"(\w+)\s*\(([^()]*)\)", text):
        values = [float(value) for value in re.findall(NUMBER, inside)]
        transform = transform.transform(one_transform(name, values))
    return transform


def one_transform(name: str, values: Sequence[float]) -> Transform:
    """Return the transform of one function, such as ``rotate(45)``; ``ValueError`` if it is malformed."""
    count = len(values)
    if name == "matrix" and count == 6:
        return Transform(*values)
    if name == "translate" and count in (1, 2):
        return Identity.translate(*values)
    if name == "scale" and count in (1, 2):
        return Identity.scale(values[0], values[-1])
    if name == "rotate" and count in (1, 3):
        center = values[1:] or (0.0, 0.0)
        return Identity.translate(*center).rotate(math.radians(values[0])).translate(-center[0], -center[1])
    if name in ("skewX", "skewY") and count == 1:
        angle = math.radians(values[0])
        return Identity.skew(angle, 0) if name == "skewX" else Identity.skew(0, angle)
    raise ValueError(f"transform {name}({', '.join(f'{value:g}' for value in values)}) is malformed")


def around(rings: Sequence[Points]) -> Points:
    """Return the box around several rings."""
    points = np.vstack(rings)
    low, high = points.min(axis=0), points.max(axis=0)
    return box((*low, *(high - low)))
