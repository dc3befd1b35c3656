"""Open stores by fsspec, and turn their errors into one line each."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, TinyhdError, one_line
from .addresses import url_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from yarl import URL

log = logging.getLogger("tinyhd")

S3_OPTIONS: dict[str, Any] = {
    # A store that is away is reported within seconds; a server that is overloaded is asked again.
    "config_kwargs": {
        "connect_timeout": 2,
        "read_timeout": 10,
        "retries": {"mode": "standard", "total_max_attempts": 2},
    },
}

S3_ATTEMPTS = 2
"""Attempts of s3fs, each with all attempts of botocore."""


WEB_CONNECT_S, WEB_READ_S = 5.0, 20.0
"""Seconds to wait for a web server's connection, and for its next bytes. A transfer may take any time."""


@dataclass(frozen=True)
class Backend:
    """A kind of store."""

    module: str
    """Module that fsspec needs for it."""
    install: str
    """Argument of ``pip install`` that brings the module."""
    atomic: bool = False
    """Whether an object becomes visible only when it is complete."""
    writable: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the file system."""
    credentials: str = ""
    """Where credentials are set, for messages."""


S3 = Backend("s3fs", "tinyhd[s3]", True, options=S3_OPTIONS, credentials="AWS_PROFILE or AWS_ACCESS_KEY_ID")
GOOGLE = Backend("gcsfs", "tinyhd[gcs]", True, credentials="GOOGLE_APPLICATION_CREDENTIALS")
AZURE = Backend("adlfs", "tinyhd[azure]", True, credentials="AZURE_STORAGE_CONNECTION_STRING")
HUB = Backend("huggingface_hub", "huggingface-hub", True, credentials="HF_TOKEN")
WEB = Backend("aiohttp", "aiohttp", writable=False)

BACKENDS = {
    "s3": S3,
    "gs": GOOGLE,
    "gcs": GOOGLE,
    "az": AZURE,
    "abfs": AZURE,
    "hf": HUB,
    "http": WEB,
    "https": WEB,
    "memory": Backend("fsspec", "fsspec"),
}
"""Kinds of stores by scheme."""


def backend_of(path: Path) -> Backend:
    """Return the kind of the store of a stand-in."""
    return BACKENDS[scheme_of(path)]


def scheme_of(path: Path) -> str:
    """Return the scheme of the URL of a stand-in."""
    return str(url_of(path)).partition("://")[0]


def store_of(path: Path) -> AbstractFileSystem:
    """Return the store of a stand-in; ``ImportError`` if its package is missing."""
    return open_store(scheme_of(path))


@functools.cache
def open_store(scheme: str) -> AbstractFileSystem:
    """Return the file system of a scheme. It caches no listings: other processes write, too."""
    backend = BACKENDS[scheme]
    importlib.import_module(backend.module)
    import fsspec

    logging.getLogger("fsspec").setLevel(logging.ERROR)
    options = backend.options
    if backend is WEB:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=WEB_CONNECT_S, sock_read=WEB_READ_S)
        options = {"client_kwargs": {"timeout": timeout, "requote_redirect_url": False}}
    store = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **options)
    if backend is S3:
        store.retries = S3_ATTEMPTS
    if backend is WEB:
        store.encode_url = encoded
    return store


def encoded(url: str) -> URL:
    """Return a web address whose query is sent as given: signatures may be of its text."""
    from urllib.parse import quote

    from yarl import URL

    address, mark, query = url.partition("?")
    return URL(f"{URL(address)}{mark}{quote(query, safe=PRINTED)}", encoded=True)


PRINTED = "".join(map(chr, range(33, 127)))
"""All characters that a query can contain, for those that are not escaped."""


@contextlib.contextmanager
def store_errors(path: Path, kind: type[TinyhdError] = InputError) -> Iterator[None]:
    """Turn every error in the block into one of a kind, with one line about the object or folder ``path``.

    Each backend raises errors of its own libraries, some of which contain signed URLs; only their types are used.
    """
    try:
        yield
    except TinyhdError:
        raise
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        raise kind(f"{path}: {problem(path, error)}") from error


def problem(path: Path, error: BaseException) -> str:
    """Return what an error of a store means, and what to do about it."""
    backend = backend_of(path)
    chain = list(causes(error))
    codes = {str(code) for one in chain for code in codes_of(one)}
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    if isinstance(error, ImportError):
        return f"needs {backend.module}, which cannot be imported; install it with: pip install '{backend.install}'"
    if codes & {"NoSuchBucket"}:
        return "the bucket does not exist"
    if kinds & {"FileNotFoundError"} and is_absent(backend, kinds, codes):
        return ABSENT
    where = f": set {backend.credentials}" if backend.credentials else ""
    if kinds & {"NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError", "DefaultCredentialsError"}:
        return f"no credentials for {scheme_of(path)}:// were found{where}"
    if codes & FULL or any(getattr(one, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for one in chain):
        return "the store is full: free space there, or write elsewhere"
    if kinds & {"PermissionError"} or codes & {"401", "403"}:
        hint = f"; check the credentials ({backend.credentials}) and their rights" if backend.credentials else ""
        return f"the store denied access{hint}"
    if backend is S3 and codes == {"400"}:
        return (
            f"the store refused the request (400); check whether the credentials have expired ({backend.credentials})"
        )
    if codes & {"429", "503", "SlowDown", "ServiceUnavailable"}:
        return "the store is overloaded or out of service: try again later"
    if kinds & {"FileExpired"} or codes & {"412", "PreconditionFailed"}:
        return "was replaced while it was read: run the same command again"
    if kinds & BROKEN:
        return "the connection broke: run the same command again"
    if kinds & AWAY:
        return f"the store cannot be reached{reached(path)}; check the connection and the address"
    if kinds & {"TooManyRedirects", "RedirectClientError"}:
        return "the server redirects to no file"
    text = f" ({one_line(error)})" if isinstance(error, ValueError | NotImplementedError) else ""
    named = sorted(code for code in codes if not code.isdigit()) or sorted(codes) or [type(error).__name__]
    return f"the store failed: {', '.join(named)}{text}"


def is_absent(backend: Backend, kinds: set[str], codes: set[str]) -> bool:
    """Return whether ``FileNotFoundError`` means that there is no file. fsspec raises it for web servers' errors, too.

    Args:
        backend: the kind of the store.
        kinds: names of the classes of the error and of its causes.
        codes: codes of responses.
    """
    if backend is WEB and "ClientError" in kinds:
        return bool(codes & {"404", "410"})
    return not (kinds & AWAY or codes & {"401", "403"})


ABSENT = "no such file"
"""The message about an object that does not exist."""

FULL = {"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "EntityTooLarge", "BucketQuotaExceeded"}
"""Codes of a store without free space."""

BROKEN = {"ClientPayloadError", "ResponseStreamingError", "IncompleteRead", "IncompleteReadError"}
"""Names of errors of responses that end too early."""

AWAY = {
    "ConnectionError",
    "TimeoutError",
    "ClientConnectionError",
    "ClientConnectorError",
    "EndpointConnectionError",
    "ConnectionClosedError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "HTTPClientError",
    "ServerDisconnectedError",
    "gaierror",
}
"""Names of errors of a connection that fails or breaks."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all from which it was raised."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def codes_of(error: BaseException) -> Iterator[object]:
    """Yield the codes that a response of a store has."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        yield response.get("Error", {}).get("Code", "")
        yield response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    for name in ("status", "status_code", "code"):  # aiohttp, azure, gcsfs
        value = getattr(error, name, None)
        if isinstance(value, int | str):
            yield value
            return


def reached(path: Path) -> str:
    """Return the address of a server that was set instead of the usual one, for messages; else nothing."""
    if backend_of(path) is not S3:
        return ""
    import os

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f" at {endpoint} (AWS_ENDPOINT_URL)" if endpoint else ""
