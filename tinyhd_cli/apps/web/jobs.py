"""Run one job: predict an upload with the settings of the page."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...callbacks import OnProgress
from ...errors import InputError, TinyhdError, UsageError, describe_unexpected
from ...inference.area_parsing import parse_areas
from ...inference.model_options import ModelOptions
from ...inference.options import Outputs, PredictOptions
from ...inference.predict import predict_file
from ...system import trim_heap
from ...untrusted import json_text
from ...video.options import OverlayStyle
from ...video.reader import VideoReader
from ...video.writer import VideoWriter
from ...weights import local_weights
from ...weights.location import locate
from .options import AppOptions
from .results import Result, describe, strip_folders
from .uploads import Upload, check_duration, without_folder
from .workspace import Workspace

if TYPE_CHECKING:
    from ...inference.model import Model

log = logging.getLogger("tinyhd")

MAX_MODELS = 2
"""Number of models that stay loaded."""

MAX_CANCELED = 1000
"""Number of canceled jobs that are remembered, for those that still wait."""


class CanceledError(TinyhdError):
    """The visitor canceled the job, or left."""


@dataclass(frozen=True)
class Request:
    """The settings of a job as the page sends them. Raises ``UsageError`` for invalid values."""

    model: str = ""
    """Name of the weights; empty: the default."""
    colormap: str = "turbo"
    alpha: float | None = None
    threshold: float | None = None
    normalize: str | None = None
    side_by_side: bool = False
    cutout: bool = False
    """Whether the object alone is written, with transparency; for object models."""
    copy_source: bool = False
    """Whether the browser cannot play the upload and needs a copy."""
    areas: tuple[Mapping[str, Any], ...] = ()
    """``name`` and ``box`` in percent, as in a JSON file of areas."""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Request:
        """Return the settings in a JSON object."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "model": str,
            "colormap": str,
            "alpha": (int, float, type(None)),
            "threshold": (int, float, type(None)),
            "normalize": (str, type(None)),
            "side_by_side": bool,
            "cutout": bool,
            "copy_source": bool,
            "areas": list,
        }
        for name, value in values.items():
            if name not in kinds or not isinstance(value, kinds[name]):
                raise UsageError(f"the page sent an unknown setting: {name}; reload it")
        known = dict(values)
        return cls(**known | {"areas": tuple(known.get("areas", ()))})


class Jobs:
    """Runs jobs, one at a time, and cancels them. All of them run in one thread.

    Args:
        workspace: the files.
        model_options: the default model, and how all models are run.
        options: the limits.
    """

    def __init__(self, workspace: Workspace, model_options: ModelOptions, options: AppOptions) -> None:
        self._workspace = workspace
        self._model_options = model_options
        self._options = options
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._canceled: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._is_closed = False
        # Always the same thread: FFmpeg, OpenCV and the engines keep memory for each thread that has used them.
        self.thread = ThreadPoolExecutor(1, "tinyhd-job")

    def model_names(self) -> list[dict[str, Any]]:
        """Return the models that the page offers: those on this machine, the default first."""
        chosen = locate(self._model_options.source).info  # downloads weights that are named and absent
        offered = [
            {"name": located.info.name, "value": located.info.name, "is_object": located.info.spec.task == "object"}
            for located in local_weights()
            if located.info
        ]
        if chosen is None:  # a file
            is_object = self.load("").spec.task == "object"
            return [{"name": Path(self._model_options.source).name, "value": "", "is_object": is_object}, *offered]
        return sorted(offered, key=lambda model: model["name"] != chosen.name)

    def load(self, name: str) -> Model:
        """Return a model by its name, one of those that the page offers; empty: the default."""
        with self._loading:
            if name not in self._models:
                if name and name not in {located.info.name for located in local_weights() if located.info}:
                    raise UsageError(f"the model {name} is not on this machine")
                options = replace(self._model_options, model=name, weights=None) if name else self._model_options
                self._models[name] = options.load(exact=True)  # the numbers matter
            self._models.move_to_end(name)
            while len(self._models) > MAX_MODELS:
                self._models.popitem(last=False)
            return self._models[name]

    def load_ahead(self, name: str) -> None:
        """Load a model in another thread, so that the first job need not wait for it."""

        def load() -> None:
            with contextlib.suppress(TinyhdError):  # the first job reports it
                self.load(name)

        threading.Thread(target=load, name="tinyhd-load", daemon=True).start()

    def cancel(self, key: str) -> None:
        """Cancel a job, by the key that the page gave it. A job that waits ends as soon as it starts."""
        with self._lock:
            self._canceled[key[:64]] = None
            while len(self._canceled) > MAX_CANCELED:
                self._canceled.popitem(last=False)

    def close(self) -> None:
        """Cancel all jobs, and wait for the one that runs."""
        self._is_closed = True
        self.thread.shutdown(cancel_futures=True)

    def run(self, key: str, upload_id: str, settings: Mapping[str, Any], progress: OnProgress) -> dict[str, Any]:
        """Run a job, and return the result for the page. Call it in :attr:`thread`.

        Args:
            key: identifies the job in :meth:`cancel`.
            upload_id: identifies the upload.
            settings: see :class:`Request`.
            progress: called after each frame.

        Raises:
            TinyhdError: the job failed; the message is for the visitor.
            CanceledError: it was canceled.
        """
        entry = self._workspace.find(upload_id)
        if entry is None or not isinstance(entry.value, Upload):
            raise InputError("This file was removed; add it again.")
        upload = entry.value

        def report(done: int, total: int | None) -> None:
            if self._is_closed or key in self._canceled:
                raise CanceledError("canceled")
            if not upload.is_image:  # a file may contain more than it states
                check_duration(upload, done / float(upload.info.rate), self._options)
            progress(done, total)

        identifier, target = self._workspace.add()
        try:
            with self._workspace.using(entry), self._workspace.using(target):
                report(0, None)
                request = Request.parse(settings)
                model = self.load(request.model)
                target.value = predict_upload(upload, target.folder, model, request, report)
                return describe(identifier, target.value, upload, model.spec.task == "object")
        except BaseException as error:
            self._workspace.remove(identifier)
            raise for_visitors(error, upload) from error
        finally:
            with self._lock:
                self._canceled.pop(key, None)
            gc.collect()  # decoders are part of reference cycles: their frames and threads would stay for many jobs
            trim_heap()


def for_visitors(error: BaseException, upload: Upload) -> BaseException:
    """Return an error whose message does not name folders of this machine."""
    if isinstance(error, CanceledError) or not isinstance(error, Exception):
        return error
    log.debug("%s", upload.path, exc_info=error)
    message = str(error) if isinstance(error, TinyhdError) else describe_unexpected(error)
    return TinyhdError(without_folder(message, upload.path.parents[1]))


def predict_upload(upload: Upload, folder: Path, model: Model, request: Request, progress: OnProgress) -> Result:
    """Predict an upload and write all files to a folder."""
    stem = upload.path.stem
    is_object = model.spec.task == "object"
    picture = ".png" if upload.is_image else ".mp4"
    wanted = {
        "overlay": f"overlay{picture}",
        "maps": f"maps{picture}",
        "csv": "numbers.csv",
        "json": "summary.json",
        **({"cutout": f"cutout{'.png' if upload.is_image else '.webm'}"} if request.cutout and is_object else {}),
        **({"aoi_plot": "areas.png"} if request.areas and not upload.is_image else {}),
    }
    outputs = Outputs(**{kind: folder / f"{stem}_{name}" for kind, name in wanted.items()})
    result = Result(stem, dict(outputs.requested()), request.side_by_side)
    if request.areas:
        result.files["areas"] = folder / f"{stem}_areas.json"
        content = {"units": "percent", "areas": [dict(area) for area in request.areas]}
        result.files["areas"].write_text(json_text(content), encoding="utf-8")
    options = PredictOptions(
        normalize=None if is_object else request.normalize,  # type: ignore[arg-type] # PredictOptions checks it
        style=OverlayStyle(request.colormap, request.alpha, request.threshold, request.side_by_side),
        areas=parse_areas([str(result.files["areas"])]) if request.areas else (),
    )
    predict_file(upload.path, model, outputs, options, progress)
    strip_folders(result.files["json"], upload)
    if request.copy_source:
        result.source = folder / f"{stem}_source.mp4"
        copy_video(upload.path, result.source, progress)
    return result


def copy_video(source: Path, target: Path, progress: OnProgress) -> None:
    """Encode a video so that browsers play it; the audio is in the overlay."""
    with VideoReader(source) as reader:
        size = (reader.info.width, reader.info.height)
        with VideoWriter(target, reader.info.as_sdr, size, audio=False) as writer:
            for frame in reader:
                writer.write(frame.rgb(), frame)
                progress(frame.index + 1, reader.frame_count)
