"""MkDocs hook that writes the API reference from the public names of the package.

The public names are those in ``__all__`` of ``tinyhd_cli`` and of each of its rooms. The sources are parsed, not
imported. A public name without a docstring fails the build.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = "tinyhd_cli"
ROOMS = (
    "models",
    "weights",
    "engines",
    "video",
    "inference",
    "apps",
    "metrics",
    "datasets",
    "recordings",
    "evaluation",
    "training",
)
"""The subpackages with public names, from the ground up."""

IMAGES = ("examples/overlay.jpg",)
"""Images outside ``docs`` that pages show as ``images/NAME``."""


def on_files(files: Any, config: Any) -> Any:
    """Add one page per room, one for the package itself, and the images of the examples."""
    for path, text in pages(load()).items():
        files.append(File.generated(config, path, content=text))
    for image in IMAGES:
        files.append(File.generated(config, f"images/{Path(image).name}", abs_src_path=str(PROJECT / image)))
    return files


def load(folder: Path = PROJECT) -> griffe.Module:
    """Parse the package in a folder."""
    package = griffe.load(
        PACKAGE,
        search_paths=[folder],
        try_relative_path=False,
        allow_inspection=False,
        extensions=griffe.Extensions(Docstrings()),
    )
    assert isinstance(package, griffe.Module)
    return package


def pages(package: griffe.Module) -> dict[str, str]:
    """Return the Markdown of each reference page by its path.

    Raises:
        PluginError: Public names have no docstring, or are not defined.
    """
    modules = {PACKAGE: package} | {room: package[room] for room in ROOMS}
    names = {title: public_names(package, module) for title, module in modules.items()}
    undocumented = [
        f"{modules[title].path}.{name}" for title in names for name, found in names[title].items() if not summary(found)
    ]
    if undocumented:
        raise PluginError(f"public names without a docstring: {', '.join(undocumented)}")
    home = {found.path: title for title in reversed(names) for found in names[title].values()}
    return {f"reference/{title}.md": page(modules[title], names[title], title, home) for title in names}


def public_names(package: griffe.Module, module: griffe.Module) -> dict[str, griffe.Object]:
    """Return the definition of each name in a module's ``__all__``."""
    names = [str(name) for name in module.exports or ()]
    return {name: definition(package, module, name) for name in names if not name.startswith("__")}


def definition(package: griffe.Module, module: griffe.Module, name: str) -> griffe.Object:
    """Follow imports to where a name is defined; a name can be that of a submodule, too (``inference.predict``)."""
    path = module.imports.get(name)
    if path is not None and path != f"{module.path}.{name}":
        parent, _, member = path.rpartition(".")
        found = package if parent == PACKAGE else package[parent.removeprefix(f"{PACKAGE}.")]
        return definition(package, found, member)
    if name not in module.members:
        raise PluginError(f"{module.path}.{name} is public, but not defined")
    return module.members[name]  # type: ignore[return-value]


def summary(found: griffe.Object) -> str:
    """Return the first sentence or line of a docstring, for the table at the top of a page."""
    text = found.docstring.value if found.docstring else ""
    return " ".join(text.partition("\n\n")[0].split())


def page(module: griffe.Module, names: dict[str, griffe.Object], title: str, home: dict[str, str]) -> str:
    """Return a page: a table of the names, then each in full, unless it has a page, or is on another one."""
    lines = [f"# {module.path}", "", summary(module), ""]
    if names:
        lines += [f"Import these names from `{module.path}`.", "", "| Name | Description |", "|---|---|"]
        for name, found in sorted(names.items()):
            target = f"({name}.md)" if found.is_module else f"[{found.path}]"
            lines.append(f"| [`{name}`]{target} | {summary(found)} |")
    for _, found in sorted(names.items()):
        if home[found.path] == title and not found.is_module:
            lines += ["", f"::: {found.path}"]
    return "\n".join(lines) + "\n"


class Docstrings(griffe.Extension):
    """Griffe extension that prepares docstrings and fields of options for display."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Turn roles like ``:func:`load` `` into plain code."""
        if obj.docstring:
            obj.docstring.value = re.sub(r":[a-z]+:`([^`]+)`", r"`\1`", obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Show the default of a field that is an option or a group of options, and the help text as its docstring."""
        if not isinstance(attr.value, griffe.ExprCall):
            return
        arguments = attr.value.arguments
        if str(attr.value.function) == "option":  # option(default, panel, metavar, help)
            attr.value = arguments[0]
            attr.docstring = attr.docstring or griffe.Docstring(literal(str(arguments[3])), parent=attr)
        elif str(attr.value.function) == "group":  # group(class, ...)
            attr.value = f"{arguments[0]}()"


def literal(source: str) -> str:
    """Return the text of a string or an f-string; values in an f-string become an ellipsis."""
    tree = ast.parse(source, mode="eval").body
    parts = tree.values if isinstance(tree, ast.JoinedStr) else [tree]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts)
