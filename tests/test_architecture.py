"""The layers of the package: who may import whom, and who may know the families of networks by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tinyhd_cli.models.registry import built_in, names

PACKAGE = Path(__file__).resolve().parents[1] / "tinyhd_cli"

GROUND = {"storage"}
"""Folders below all rooms, beside the top-level modules."""

LAYERS = (
    {"models", "parallel"},
    {"engines", "metrics", "video", "weights"},
    {"datasets", "recordings"},
    {"inference"},
    {"apps", "evaluation", "training"},
    {"benchmarks"},
    {"diagnostics"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
"""Rooms from the lowest to the highest; all other top-level modules are below them. A room imports only lower ones."""

ABOVE = {"tinyhd_cli"}
"""The lazy table of public names may refer to every room."""

MAY_NAME_FAMILIES = {"models/registry.py", "engines/builders.py", "engines/lower_tinyhd.py"}
"""The registry line, and TinyHD's lowering with the line that registers it."""

SOURCES = {
    ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


class Imports(ast.NodeVisitor):
    """Collects the modules of the package that a module imports, in functions and for type checking, too."""

    def __init__(self, package: str) -> None:
        self.package, self.found = package, set()

    def visit_ImportFrom(self, node):
        parts = self.package.split(".")
        base = (
            ".".join([*parts[: len(parts) + 1 - node.level], *filter(None, [node.module])])
            if node.level
            else node.module
        )
        for alias in node.names:
            full = f"{base}.{alias.name}"
            self.found.add(full if full in SOURCES else base)

    def visit_Import(self, node):
        self.found |= {alias.name for alias in node.names}


def imports_of(name: str) -> set[str]:
    path = SOURCES[name]
    visitor = Imports(name if path.name == "__init__.py" else name.rpartition(".")[0])
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return {found for found in visitor.found if found in SOURCES and found != name}


GRAPH = {name: imports_of(name) for name in SOURCES}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def layer(name: str) -> int:
    return next((index for index, rooms in enumerate(LAYERS, start=1) if room(name) in rooms), 0)


def test_every_room_has_a_layer():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == GROUND.union(*LAYERS) - {"diagnostics", "cli", "__main__"}


def test_imports_run_downward():
    wrong = [
        f"{name} imports {other}"
        for name in GRAPH.keys() - ABOVE
        for other in GRAPH[name] - ABOVE
        if room(other) != room(name) and layer(other) >= max(layer(name), 1)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_module_imports_itself_through_others():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            for other in sorted(GRAPH[name] - ABOVE):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(SOURCES):
        if name not in ABOVE:
            visit(name, ())


def mentions(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and text of all strings but docstrings, and of all names."""
    documentation = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                documentation.add(child.value)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            found.append((node.lineno, node.value))
        elif isinstance(node, ast.Name):
            found.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute):
            found.append((node.lineno, node.attr))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_only_families_know_their_names():
    """No string or name outside ``models/families`` names a family, one of its networks, or a class of it."""
    known = {name for family in built_in().values() for name in names(family)} - {"tinyhd"}  # that is the program, too
    classes = {
        node.name
        for path in (PACKAGE / "models" / "families").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.lower().startswith(tuple(built_in()))
    }
    assert {"TinyHD", "HD2S"} <= classes
    pattern = re.compile(
        rf"(?<![\w-])({'|'.join(map(re.escape, sorted(known | classes, key=len, reverse=True)))})(?![\w-])"
    )
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE).as_posix()
        if relative.startswith("models/families/") or relative in MAY_NAME_FAMILIES:
            continue
        for line, text in mentions(ast.parse(path.read_text(encoding="utf-8"))):
            if (match := pattern.search(text)) or ".families." in text:
                wrong.append(f"{relative}:{line}: {match[0] if match else text}")
    assert not wrong, "\n".join(wrong)
