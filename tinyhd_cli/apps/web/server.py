"""Start and stop the server of the page, which is Gradio's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import UsageError
from ...inference.model_options import ModelOptions
from .options import AppOptions

if TYPE_CHECKING:
    from gradio import Server

MISSING = "the page needs Gradio; install it with pip install 'tinyhd[app]'"


def load_gradio() -> None:
    """Import Gradio with its telemetry and its search for new versions turned off.

    Raises:
        UsageError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UsageError(MISSING) from None


@contextmanager
def running(options: AppOptions | None = None, model: ModelOptions | None = None) -> Iterator[str]:
    """Serve the page in other threads, and yield its address. All files are removed at the end.

    Raises:
        UsageError: Gradio is not installed, the port is in use, or the model is unknown.
        WeightsError: the model cannot be loaded.
    """
    options, model = options or AppOptions(), model or ModelOptions()
    check_address(options)
    load_gradio()
    from .jobs import Jobs
    from .routes import build
    from .workspace import Workspace

    workspace = Workspace()
    try:
        # Gradio's own temporary files; the page writes none of them.
        os.environ["GRADIO_TEMP_DIR"] = str(workspace.root / "gradio")
        jobs = Jobs(workspace, model, options)
        try:
            server = build(workspace, jobs, options)
            address = launch(server, options)
            try:
                yield address
            finally:
                server.get_blocks().close(verbose=False)
        finally:
            jobs.close()
    finally:
        workspace.close()


def check_address(options: AppOptions) -> None:
    """Raise ``UsageError`` if the page cannot listen on its address; Gradio reports that only later."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port or 0, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as test:
            if os.name == "posix":  # elsewhere, it would allow a port that is in use
                test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            test.bind(address)
    except OSError as error:
        place = f"{options.host}:{options.port}" if options.port else options.host
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {place} ({reason}); choose another --port or --host") from error


def launch(server: Server, options: AppOptions) -> str:
    """Start a server and return its address."""
    _, address, _ = server.launch(
        server_name=f"[{options.host}]" if ":" in options.host else options.host,  # Gradio makes an address of it
        server_port=options.port,
        max_file_size=options.max_size,
        prevent_thread_lock=True,
        inbrowser=options.open,
        share=False,
        quiet=True,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        state_session_capacity=100,
        _frontend=False,
    )
    return address
