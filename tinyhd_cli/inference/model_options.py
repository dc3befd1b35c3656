"""Choice of a model and of the engine that runs it: shared by the command line and the Python API. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from ..fields import MODEL, option
from ..storage import name_of

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True)
class ModelOptions:
    """Which model to load, and how to run it.

    With both ``model`` and ``weights``, the file must contain the named network. With neither, the default is loaded.
    """

    model: str | None = option(None, MODEL, "NAME", "Name of a model; `tinyhd weights list` shows all names.")
    weights: Path | None = option(
        None, MODEL, "FILE", "Weights file: safetensors, or an original .pth or .index.", kind=Path
    )
    device: str = option("auto", MODEL, "auto|cpu|cuda|mps", "Device that runs the network.")
    engine: str = option(
        "auto",
        MODEL,
        "auto|torch|fused|openvino|onnx",
        "Inference engine. auto: the fastest installed engine that agrees with PyTorch.",
    )
    precision: str = option(
        "auto",
        MODEL,
        "auto|float32|bf16|int8",
        "Numeric precision. auto: bf16 if the maps are only displayed and the CPU supports it, else float32.",
    )

    @property
    def source(self) -> str:
        """Name or file of the weights."""
        from ..weights import default_name

        return name_of(self.weights) if self.weights else self.model or default_name()

    def load(self, *, exact: bool = True) -> Model:
        """Load the model.

        Args:
            exact: whether the values of the maps matter. If the maps are only displayed, precision ``auto`` may choose
                bf16.

        Raises:
            WeightsError: the weights are missing or damaged, or contain another network than ``model``.
            UsageError: the model, device, engine or precision is unknown or not available.
        """
        from ..models import named_spec
        from .model import load_model

        expected = named_spec(self.model.partition(".")[0]) if self.model and self.weights else None
        name = self.weights or self.model
        loaded = load_model(name, self.device, engine=self.engine, precision=self.precision, exact=exact)
        if expected is not None and loaded.spec.name != expected.name:
            raise WeightsError(f"{self.weights}: contains {loaded.spec.name}, not {expected.name}")
        return loaded
