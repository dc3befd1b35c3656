"""Former name of :mod:`tinyhd_cli.models.original_names`, kept for programs that import from it."""

from .original_names import convert

__all__ = ["convert"]
