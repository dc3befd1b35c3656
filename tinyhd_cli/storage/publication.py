"""Put complete outputs into a store, such that no incomplete object ever has a final name."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Iterable
from pathlib import Path

from ..errors import OutputError
from .addresses import url_of
from .copies import TRANSFERS
from .stores import backend_of, open_store, scheme_of, store_errors, store_of


def check_destination(paths: Iterable[Path]) -> None:
    """Raise ``OutputError`` if the store of an output cannot be written to: no such bucket, or it cannot be reached.

    Rights are not checked: a key that may write objects often may not see the bucket.
    """
    for path in paths:
        if (url := url_of(path)) is None:
            continue
        if not backend_of(path).writable:
            raise OutputError(f"{path}: {scheme_of(path)}:// can only be read; write to a folder or to a bucket")
        scheme, _, rest = url.partition("://")
        check_bucket(scheme, rest.partition("/")[0])


@functools.cache
def check_bucket(scheme: str, bucket: str) -> None:
    """Raise ``OutputError`` if a bucket does not exist or its store cannot be reached."""
    from .addresses import path_of

    path = path_of(f"{scheme}://{bucket}")
    with store_errors(path, OutputError):
        store = open_store(scheme)
        if scheme == "memory":
            return
        try:
            store.info(url_of(path))
        except FileNotFoundError:
            raise OutputError(f"{path}: the bucket does not exist") from None
        except PermissionError:
            return


def publish(source: Path, path: Path) -> None:
    """Put a file, or the files of a folder, into a store under the final name.

    The first file of a folder, by name, is removed first and put last: a folder that has it is complete.

    Raises:
        OutputError: the store cannot be written to.
    """
    if not source.is_dir():
        publish_file(source, path)
        return
    from concurrent.futures import ThreadPoolExecutor

    files = sorted(source.iterdir())
    if not files:
        return
    first, *others = files
    remove(path / first.name)
    with ThreadPoolExecutor(TRANSFERS) as pool:
        for _ in pool.map(lambda file: publish_file(file, path / file.name), others):
            pass
    publish_file(first, path / first.name)


def publish_file(source: Path, path: Path) -> None:
    """Put one file into a store, under another name first unless the store shows only complete objects."""
    with store_errors(path, OutputError):
        store, url = store_of(path), url_of(path)
        if backend_of(path).atomic:
            store.put_file(str(source), url)
            return
        hidden = url_of(path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial"))
        try:
            store.put_file(str(source), hidden)
            store.cp_file(hidden, url)  # at once, in memory
        finally:
            with contextlib.suppress(FileNotFoundError):
                store.rm_file(hidden)


def remove(path: Path) -> None:
    """Remove a file, if it exists.

    Raises:
        OSError: a local file cannot be removed.
        OutputError: a file in a store cannot be removed.
    """
    if url_of(path) is None:
        path.unlink(missing_ok=True)
        return
    with store_errors(path, OutputError), contextlib.suppress(FileNotFoundError):
        store = store_of(path)
        if store.exists(url_of(path)):
            store.rm_file(url_of(path))
