"""The server of the page: limits, refused requests, and the removal of files."""

from __future__ import annotations

import runpy
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from helpers import clips

from tinyhd_cli.apps.web.options import AppOptions, parse_bytes, size_text, time_text
from tinyhd_cli.apps.web.uploads import safe_name
from tinyhd_cli.apps.web.workspace import Workspace
from tinyhd_cli.errors import UsageError

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def client(served):
    with httpx.Client(base_url=served.address, trust_env=False) as client:
        yield client


def test_a_large_upload_is_refused_before_it_is_written(client, served):
    before = served.files()
    lines = ["POST /uploads?name=film.mp4 HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {3 * 10**9}", "", ""]
    with socket.create_connection(("127.0.0.1", httpx.URL(served.address).port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())  # and nothing of the body
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'{"error":"film.mp4 is larger than 2 MB, the limit; choose a smaller file"}' in answer
    assert served.files() == before


def test_an_upload_of_unstated_size_stops_at_the_limit(client, served):
    before = served.files()
    answer = client.post("/uploads?name=film.mp4", content=(bytes(500_000) for _ in range(9)))
    assert (answer.status_code, answer.json()["error"][:31]) == (413, "film.mp4 is larger than 2 MB, t")
    assert served.files() == before


def test_a_long_video_is_refused(client, served, tmp_path):
    path = clips.make(tmp_path / "film.mp4", frames=10, durations=(600 * 60,))
    answer = client.post("/uploads?name=film.mp4", content=path.read_bytes())
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("film.mp4 is ")
    assert "the limit is 2 minutes" in answer.json()["error"]
    assert "film.mp4" not in served.files()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"Host": "evil.example"}, 403),
        ("/", {"Host": "["}, 403),
        ("/", {"Host": "127.0.0.2"}, 200),
        ("/ui/settings", {"Origin": "http://["}, 403),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("/ui/settings", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/ui/settings", {"Origin": "http://evil.example"}, 403),
        ("/ui/settings", {"Origin": "null"}, 403),
        ("/gradio_api/queue/data?session_hash=a", {"Sec-Fetch-Site": "same-site"}, 403),
        ("/gradio_api/file=/etc/hostname", {}, 404),
        ("/gradio_api/file/etc/hostname", {}, 404),
        ("/gradio_api/proxy=http://127.0.0.1/", {}, 404),
        ("/config", {}, 404),
        ("/ui/..%2fserver.py", {}, 404),
        ("/ui/%2e%2e/gradio_api/file=/etc/hostname", {}, 404),
        ("/results/..%2f..%2fetc/hostname", {}, 404),
        ("/uploads/..%2f..%2fetc%2fhostname", {}, 404),
    ],
)
def test_requests_of_others_are_refused(client, path, headers, status):
    assert client.get(path, headers=headers).status_code == status


def test_no_page_may_load_anything_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "http://evil.example"}).headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a.mov", "a.mov"),
        ("a\nb.mp4", "a_nb.mp4"),
        ("{name}%05d.png", "_name__05d.png"),
        (".htaccess", "htaccess"),
        ("…/..", "file"),
        ("x" * 300 + ".mp4", "x" * 80 + ".mp4"),
        ("Füße 1.JPG", "Füße 1.JPG"),
        ("no suffix. really", "no suffix. really"),
    ],
)
def test_names_of_uploads(given, kept):
    assert safe_name(given) == kept


def test_files_are_removed_an_hour_after_their_last_use(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    space = Workspace()
    (old, entry), (new, _), (used, working) = space.add(), space.add(), space.add()
    (entry.folder / "clip.mp4").write_bytes(b"x")
    for one in (entry, working):
        one.used_s = time.monotonic() - 3601
    with space.using(working):
        working.used_s = time.monotonic() - 3601
        space.sweep()
        assert space.find(old) is None and not entry.folder.exists()
        assert space.find(new) and space.find(used)
        space.remove(used)
        assert space.find(used) is None and working.folder.exists()  # a job works with it
    assert not working.folder.exists()
    space.close()
    assert not list(tmp_path.iterdir())


def test_folders_of_killed_processes_are_removed(monkeypatch, tmp_path):
    from tinyhd_cli.apps.web.workspace import remove_abandoned
    from tinyhd_cli.processes import machine_id, process_key

    mine = tmp_path / "-".join(["tinyhd-app", *map(str, process_key()), "abc"])
    left = tmp_path / f"tinyhd-app-{machine_id()}-4194305-1-abc"
    for folder in (mine, left):
        folder.mkdir()
    remove_abandoned(tmp_path)
    assert mine.exists() and not left.exists()


def test_sizes_and_times():
    assert [parse_bytes(text) for text in ("500MB", "1.5 gb", "10kB", "7b")] == [500_000_000, 1_500_000_000, 10_000, 7]
    assert (size_text(2 * 10**9), size_text(1_530_000), size_text(12)) == ("2 GB", "1.5 MB", "12 bytes")
    assert (time_text(90), time_text(600), time_text(1)) == ("90 seconds", "10 minutes", "1 second")
    with pytest.raises(UsageError, match="must be a size such as 500MB"):
        parse_bytes("large")
    assert AppOptions().is_local and AppOptions(host="::1").is_local and not AppOptions(host="0.0.0.0").is_local


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "0"), "--port must be from 1 to 65535, not 0"),
        (("--max-size", "many"), "--max-size 'many': must be a size such as 500MB or 2GB"),
        (("--max-seconds", "0"), "--max-seconds must be above 0, not 0"),
    ],
)
def test_wrong_options(tinyhd, capsys, arguments, message):
    assert tinyhd("app", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use(tinyhd, capsys, served):
    port = httpx.URL(served.address).port
    assert tinyhd("app", "--port", port) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_without_gradio(tinyhd, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert tinyhd("app") == 2
    assert capsys.readouterr().err == "tinyhd: the page needs Gradio; install it with pip install 'tinyhd[app]'\n"


def test_the_space_starts_the_page_with_its_limits(monkeypatch):
    """The header is what Hugging Face reads, and the versions suit this project."""
    import tomllib

    import yaml
    from packaging.requirements import Requirement

    space = PROJECT / "examples" / "space"
    header = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (header["sdk"], header["app_file"]) == ("gradio", "app.py") and len(header["short_description"]) <= 60
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert header["sdk_version"] in Requirement(extras["app"][0]).specifier
    assert "tinyhd[app]" in (space / "requirements.txt").read_text().splitlines()

    class StartedError(Exception):
        pass

    def running(options):
        assert (options.host, options.port) == ("0.0.0.0", 7860) and not options.is_local
        assert options.max_size <= 10**8 and options.max_seconds <= 60
        raise StartedError

    monkeypatch.setattr("tinyhd_cli.apps.web.server.running", running)
    with pytest.raises(StartedError):
        runpy.run_path(str(space / "app.py"), run_name="__main__")
