"""tinyhd predicts where people look in a video.

    from tinyhd_cli import load_model, predict

    model = load_model("tinyhd-m-quarter")
    for time_s, saliency in predict("clip.mp4", model=model):
        ...

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .inference.model import Model, load_model
    from .inference.predict import predict

__all__ = ["Model", "__version__", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load_model"):
        from .inference import model

        return getattr(model, name)
    if name == "predict":
        from .inference.predict import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
