"""Refuse requests that do not come from the page itself, before they reach Gradio."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .options import is_loopback

ROUTES = ("/ui/", "/uploads", "/results/", "/jobs/")
"""Starts of the paths that the page uses, in addition to ``EXACT``."""

EXACT = {"/", "/favicon.ico", "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/startup-events"}
"""Other paths that are open: the page, its icon, and the routes of Gradio that it uses. Gradio's other routes are
closed, among them the one that serves files by their path."""

POLICY = (
    "default-src 'self'; img-src 'self'; media-src 'self' blob:; style-src 'self' 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors {}"
)
"""Content security policy: the browser itself refuses requests to other addresses."""


class Guard:
    """ASGI middleware that answers only the page's own requests.

    Args:
        app: the application.
        local: whether the page is for this machine only. Then the host must be one of its names, so that no web site
            can reach the page by pointing its own name at 127.0.0.1, and no other page may show it in a frame.
    """

    def __init__(self, app: ASGIApp, local: bool) -> None:
        self._app = app
        self._local = local
        self._policy = POLICY.format("'none'" if local else "*")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page needs no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).extend(
                    [
                        (b"content-security-policy", self._policy.encode()),
                        (b"x-content-type-options", b"nosniff"),
                        (b"referrer-policy", b"no-referrer"),
                        (b"cross-origin-resource-policy", b"same-origin"),
                    ]
                )
            await send(message)

        await self._app(scope, receive, send_with_policy)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self._local and not is_loopback(part_of(f"//{host}", "hostname")):
            return PlainTextResponse("This page is only for the machine that it runs on.", 403)
        if path not in EXACT and not path.startswith(ROUTES):
            return PlainTextResponse("Not found.", 404)
        opens_page = path == "/" and scope["method"] in ("GET", "HEAD")
        if not opens_page and is_foreign(headers, host):
            return PlainTextResponse("Requests of other pages are refused.", 403)
        return None


def part_of(address: str, part: str) -> str:
    """Return a part of an address by its name in ``urlsplit``; empty if it is missing or the address is malformed."""
    try:
        return getattr(urlsplit(address), part) or ""
    except ValueError:
        return ""


def is_foreign(headers: Headers, host: str) -> bool:
    """Return whether a browser sent a request on behalf of another page."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")  # browsers send only this to pages without encryption in a network
    return origin is not None and part_of(origin, "netloc") not in (host, headers.get("x-forwarded-host"))
