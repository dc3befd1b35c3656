"""Stores for tests: an S3 server (moto) on the loopback interface, and one that refuses uploads.

with S3Server() as server:
    server.client.create_bucket(Bucket="clips")
    # set server.environment, for this process or another one
"""

from __future__ import annotations

import shutil
import threading
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class S3Server:
    """moto's server in a thread; its content is in the memory of this process."""

    def __enter__(self) -> S3Server:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        return self

    def __exit__(self, *details: object) -> None:
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process uses this server."""
        return environment(self.url)

    @cached_property
    def client(self) -> Any:
        """boto3's client."""
        import boto3

        key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, **key)

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return the content of all objects of a bucket, by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def check_keys(self, wanted: bool) -> None:
        """Deny all requests whose key is not that of a user, or allow all of them."""
        from moto import settings

        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0 if wanted else float("inf")


def environment(url: str) -> dict[str, str]:
    """Return the variables with which a process uses an S3 server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


class RefusingServer:
    """A server that has every bucket, no object, and answers each upload with an error.

    Args:
        status: HTTP status of the answer.
        code: S3's code of the error.
    """

    def __init__(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_bucket = self.path.partition("?")[0].count("/") < 2
                self.send_response(status if self.command == "PUT" else 200 if is_bucket else 404)
                content = body if self.command == "PUT" else LISTING if is_bucket else b""
                self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *details: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RefusingServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()


LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
"""An empty bucket."""


def put(store: Any, folder: str, *files: Path) -> None:
    """Copy files to a folder of an fsspec store."""
    for file in files:
        store.pipe_file(f"{folder}/{file.name}", file.read_bytes())


def copies_of(file: Path, folder: Path, names: list[str]) -> list[Path]:
    """Return copies of a file with these names."""
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copyfile(file, folder / name)) for name in names]
