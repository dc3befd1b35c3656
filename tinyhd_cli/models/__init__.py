"""The networks: their specs, their families, and how to build them. Importing it loads no torch."""

from .family import Family, Flag, LossTerm, Reduced, Stage
from .original_names import convert
from .registry import all_families, build, create, from_dict, model_names, named_spec, register, title
from .spec import ModelSpec, Preprocess

__all__ = [
    "Family",
    "Flag",
    "LossTerm",
    "ModelSpec",
    "Preprocess",
    "Reduced",
    "Stage",
    "all_families",
    "build",
    "convert",
    "create",
    "from_dict",
    "model_names",
    "named_spec",
    "register",
    "title",
]
