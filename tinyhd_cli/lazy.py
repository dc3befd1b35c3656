"""Import the public names of a package on first use, so that importing the package itself is fast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_imports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose public names are imported on first use.

    A name that equals its submodule stands for the submodule. No other name may equal that of a submodule, because
    Python stores imported submodules under the same attribute.

    Args:
        package: ``__name__`` of the package.
        modules: the submodule of each public name, such as ``{"VideoReader": "reader"}``.
    """

    def get_attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f".{modules[name]}", package)
        value = module if modules[name] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)  # later accesses do not call this function
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get_attribute, list_names
