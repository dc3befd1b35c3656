"""Web servers: what their answers mean, files without a known size or without ranges, credentials and queries."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tinyhd_cli import storage
from tinyhd_cli.errors import InputError
from tinyhd_cli.storage import ranges, stores
from tinyhd_cli.video.reader import VideoReader


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path: a status, ``loop``, ``file``, ``short``, ``nosize``, or ``plain``."""

    protocol_version = "HTTP/1.1"
    content = b""
    queries: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.queries.append(self.path.partition("?")[2])
        what, content = self.path.split("/")[1], self.content
        self.send_response(int(what) if what.isdigit() else 302 if what in ("loop", "file") else 200)
        if what in ("loop", "file"):
            self.send_header("Location", self.path if what == "loop" else "file:///etc/hosts")
        if what == "nosize":
            self.close_connection = True
        elif what in ("short", "plain"):
            self.send_header("Content-Length", str(len(content) * (2 if what == "short" else 1)))
            self.close_connection = what == "short"
        else:
            content = b""
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *details: object) -> None:
        pass


@pytest.fixture(scope="module")
def web(clip) -> Iterator[str]:
    """Run the server; return the start of its addresses."""
    Handler.content = clip.read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("404", "no such file"),
        ("410", "no such file"),
        ("401", "the store denied access"),
        ("403", "the store denied access"),
        ("429", "the store is overloaded or out of service: try again later"),
        ("500", "the store failed: 500"),
        ("503", "the store is overloaded or out of service: try again later"),
        ("loop", "the server redirects to no file"),
        ("file", "the server redirects to no file"),
    ],
)
def test_errors_of_the_server(web, what, message):
    path = storage.path_of(f"{web}/{what}/clip.mp4")
    with pytest.raises(InputError) as error:
        VideoReader(path)
    assert str(error.value) == f"{path}: {message}"
    if message == "no such file":
        assert not storage.exists(path)
    else:
        with pytest.raises(InputError, match=message):
            storage.exists(path)


def test_queries_are_sent_as_given(web):
    """A signature may be of the text of the query."""
    for query in ("sig=a%2Fb%3D%20+c%41&d=[1]", "name=a b\u00e9"):
        Handler.queries.clear()
        assert storage.is_file(storage.path_of(f"{web}/plain/a clip.mp4?{query}#token"))
        assert set(Handler.queries) == {query.replace(" ", "%20").replace("\u00e9", "%C3%A9")}


def test_an_answer_that_ends_too_early(web):
    with pytest.raises(InputError, match=r"clip\.mp4: the connection broke: run the same command again"):
        VideoReader(f"{web}/short/clip.mp4")


def test_files_without_a_known_size_are_copied(web, monkeypatch):
    path = storage.path_of(f"{web}/nosize/clip.mp4")
    with VideoReader(path) as reader:
        assert path.is_file()
        assert sum(1 for _ in reader) == 20
    assert not path.exists()
    monkeypatch.setenv("TINYHD_SCRATCH", "1K")  # counted while the copy grows
    with pytest.raises(InputError, match=r"a copy needs [\d,]+ bytes, but --scratch allows 1,000"):
        VideoReader(path)
    assert not list(path.parent.iterdir())


def test_long_files_without_ranges_are_copied(web, monkeypatch):
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1000)
    path = storage.path_of(f"{web}/plain/clip.mp4")
    with VideoReader(path) as reader:
        assert path.is_file()
        assert sum(1 for _ in reader) == 20
    assert not path.exists()


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(stores, "WEB_READ_S", 0.1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:  # accepts connections, but does not serve
        path = storage.path_of(f"http://127.0.0.1:{server.server_port}/clip.mp4")
        with pytest.raises(InputError, match=r"clip\.mp4: the store cannot be reached"):
            VideoReader(path)


def test_short_credentials_and_queries_change_no_output(tinyhd, web, model, capsys):
    address = web.removeprefix("http://")
    assert tinyhd("predict", f"http://a@{address}/plain/clip.mp4?1", "--json", "x.json", "--csv", "x.csv", *model) == 0
    assert tinyhd("predict", f"{web}/plain/clip.mp4", "--json", "y.json", "--csv", "y.csv", *model) == 0
    one, other = (json.loads(Path(f"{name}.json").read_text().replace('"x.', '"y.')) for name in "xy")
    assert one == other
    assert one["video"] == f"{web}/plain/clip.mp4"
    assert Path("x.csv").read_bytes() == Path("y.csv").read_bytes()
    assert tinyhd("predict", *(f"http://a@{address}/404/{name}.mp4?sig=abc" for name in "12"), *model) == 1
    lines = [f"{web}/404/{name}.mp4: no such file" for name in "12"]
    assert capsys.readouterr().err.splitlines() == [
        *(f"tinyhd: {line}" for line in lines),
        "tinyhd: 2 of 2 inputs failed:",
        *(f"  {line}" for line in lines),
    ]


WORK = """
import multiprocessing, os, sys
from tinyhd_cli import storage

def work(end):
    storage.path_of("s3://b/x").parent.mkdir(parents=True)
    if end == "killed":
        os._exit(1)

if __name__ == "__main__":
    storage.path_of("s3://b/x")
    for end in ("usual", "killed"):
        process = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(end,))
        process.start()
        process.join()
        print(len(os.listdir(os.environ["TMPDIR"])))
"""


def test_processes_leave_no_scratch_folders(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "work.py").write_text(WORK)
    command = [sys.executable, tmp_path / "work.py", "spawn"]
    environment = {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "2"]
    assert not list((tmp_path / "tmp").iterdir())
