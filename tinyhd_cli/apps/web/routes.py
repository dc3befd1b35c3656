"""The routes of the page. Imports Gradio, which may be absent; ``server`` reports that."""

import asyncio
import contextvars
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio
from fastapi import Request
from fastapi.responses import FileResponse, JSONResponse, Response
from gradio import Server
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from ...errors import TinyhdError, describe_unexpected
from ...video.options import HEAT_ALPHA, HEAT_THRESHOLD, OBJECT_ALPHA, OBJECT_THRESHOLD, OverlayStyle
from ...video.overlay import AREA_COLORS
from ..report.shots import hex_color
from .guard import Guard
from .jobs import CanceledError, Jobs
from .options import KEEP_S, AppOptions, size_text, time_text
from .results import Result
from .uploads import TooLarge, Upload, inspect, receive
from .workspace import Workspace

PAGE = Path(__file__).with_name("page")
"""Folder of the HTML, CSS and JavaScript."""

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Content types of the page's files."""

COLORMAPS = ("turbo", "inferno", "magma", "viridis", "cividis", "hot", "jet", "Reds", "Blues", "gray")
"""Colormaps that the page offers: the common ones of Matplotlib's many."""

GRADIENT_STEP = 17
"""Step between the colors of a gradient, in levels of 256; it includes the first and the last."""

REPORT_S = 0.1
"""Minimum seconds between two messages on the progress of a job."""


def build(workspace: Workspace, jobs: Jobs, options: AppOptions) -> Server:
    """Return the server with all routes."""
    guard = Middleware(Guard, local=options.is_local)
    server = Server(title="tinyhd", openapi_url=None, docs_url=None, redoc_url=None, middleware=[guard])
    add_page(server, jobs, options)
    add_files(server, workspace, options)
    add_jobs(server, jobs)
    return server


def add_page(server: Server, jobs: Jobs, options: AppOptions) -> None:
    """Add the routes of the page itself."""
    files = {file.name: file for file in PAGE.iterdir() if file.suffix in KINDS}
    models = jobs.model_names()
    jobs.load_ahead(models[0]["value"])
    settings = {
        "models": models,
        "colormaps": [{"name": name, "colors": gradient(name)} for name in COLORMAPS],
        "area_colors": [hex_color(number) for number in range(len(AREA_COLORS))],
        "defaults": {
            "fixation": {"alpha": HEAT_ALPHA, "threshold": HEAT_THRESHOLD},
            "object": {"alpha": OBJECT_ALPHA, "threshold": OBJECT_THRESHOLD},
        },
        "max_bytes": options.max_size,
        "max_size": size_text(options.max_size),
        "max_time": time_text(options.max_seconds),
        "keep_s": KEEP_S,
        "is_local": options.is_local,
    }

    def show(name: str) -> Response:
        file = files.get(name)
        if file is None:
            return Response(status_code=404)
        return Response(file.read_bytes(), media_type=KINDS[file.suffix], headers={"Cache-Control": "no-cache"})

    server.add_api_route("/", lambda: show("index.html"), methods=["GET", "HEAD"])
    server.add_api_route("/favicon.ico", lambda: show("icon.svg"))
    server.add_api_route("/ui/settings", lambda: JSONResponse(settings), methods=["GET"])
    server.add_api_route("/ui/{name}", show, response_class=Response)


def gradient(colormap: str) -> list[str]:
    """Return some colors of a colormap for CSS, from low to high."""
    levels = OverlayStyle(colormap).colors()[::GRADIENT_STEP]
    return ["rgb({:.0f} {:.0f} {:.0f})".format(*(255 * level)) for level in levels]


def add_files(server: Server, workspace: Workspace, options: AppOptions) -> None:
    """Add the routes that upload, show and remove files. A path in a request never becomes a path on the disk."""
    thread = ThreadPoolExecutor(1, "tinyhd-inspect")  # one, for the same reason as that of the jobs

    async def upload(request: Request) -> Response:
        claimed = int(size) if (size := request.headers.get("content-length", "")).isdigit() else 0
        name, identifier = request.query_params.get("name", "file"), ""
        try:
            identifier, path = await receive(request.stream(), claimed, name, workspace, options)
            found = await asyncio.get_running_loop().run_in_executor(thread, inspect, path, options)
        except Exception as error:
            workspace.remove(identifier)
            if isinstance(error, ClientDisconnect):
                raise
            message = str(error) if isinstance(error, TinyhdError) else describe_unexpected(error)
            return JSONResponse({"error": message}, 413 if isinstance(error, TooLarge) else 422)
        entry = workspace.find(identifier)
        if entry is None:
            return Response(status_code=404)
        entry.value = found
        return JSONResponse(
            {
                "id": identifier,
                "width": found.info.width,
                "height": found.info.height,
                "aspect": float(found.info.width * found.info.sample_aspect_ratio / found.info.height),
                "seconds": found.seconds,
                "is_image": found.is_image,
                "poster": f"uploads/{identifier}",
            }
        )

    def poster(identifier: str) -> Response:
        entry = workspace.find(identifier)
        if entry is None or not isinstance(entry.value, Upload):
            return Response(status_code=404)
        return FileResponse(entry.value.poster, media_type="image/jpeg")

    def result(identifier: str, kind: str, download: bool = False) -> Response:
        entry = workspace.find(identifier)
        path = entry.value.find(kind) if entry and isinstance(entry.value, Result) else None
        if path is None:
            return Response("This file was removed; add it again.", 404)
        way = "attachment" if download else "inline"
        return FileResponse(path, filename=path.name, content_disposition_type=way)

    def forget(identifier: str) -> Response:
        workspace.remove(identifier)
        return Response(status_code=204)

    server.add_api_route("/uploads", upload, methods=["POST"], response_model=None)
    server.add_api_route("/uploads/{identifier}", poster, response_class=Response)
    server.add_api_route("/results/{identifier}/{kind}", result, response_class=Response)
    server.add_api_route("/uploads/{identifier}", forget, methods=["DELETE"], response_class=Response)
    server.add_api_route("/results/{identifier}", forget, methods=["DELETE"], response_class=Response)


def add_jobs(server: Server, jobs: Jobs) -> None:
    """Add the job to Gradio's queue, where one runs at a time, and the route that cancels it."""

    def work(key: str, upload: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        progress, told_s = gradio.Progress(), 0.0

        def report(done: int, total: int | None) -> None:
            nonlocal told_s
            if (now := time.monotonic()) - told_s >= REPORT_S or done == total:
                told_s = now
                progress((done, total))

        try:
            return jobs.run(key, upload, settings, report)
        except CanceledError:
            return {"canceled": True}
        except TinyhdError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    async def predict(key: str, upload: str, settings: dict) -> dict:  # type: ignore[type-arg] # Gradio reads them
        context = contextvars.copy_context()  # Gradio's progress needs it
        return await asyncio.get_running_loop().run_in_executor(jobs.thread, context.run, work, key, upload, settings)

    def cancel(key: str) -> Response:
        jobs.cancel(key)
        return Response(status_code=204)

    server.api(predict, name="predict", concurrency_limit=1, api_visibility="undocumented")
    server.add_api_route("/jobs/{key}/cancel", cancel, methods=["POST"], response_class=Response)
