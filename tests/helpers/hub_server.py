"""A Hugging Face Hub on the loopback interface: its protocol for weights, up and down, and for downloads of data.

    with HubServer() as hub:
        hub.put("owner/name", "model.safetensors", content)
        hub.put("datasets/owner/name", "Train/Videos/0001.mp4", content)
        # set HF_ENDPOINT=hub.url for a new process, because huggingface_hub reads it on import

Names of repositories of data start with ``datasets/``, as in the Hub's URLs. Their files ``*.md`` and ``*.json`` are
listed as regular files, others as files of Git LFS. Files named ``*.safetensors`` are uploaded by Git LFS, others in
the commit, as on the real Hub without Xet.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

import pytest

TOKEN = "hf_the_only_token_this_server_knows"


@dataclass
class Repo:
    """A repository: its branches with their files, and its access rights."""

    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    private: bool = False
    gated: bool = False

    def branch(self, revision: str) -> str | None:
        """Return the branch of a revision: its name, or its present commit."""
        return next((name for name in self.branches if revision in (name, self.commit_hash(name))), None)

    def commit_hash(self, branch: str) -> str:
        """Return 40 hexadecimal digits that depend on the content, as on the Hub."""
        digest = hashlib.sha1()
        for name, content in sorted(self.branches[branch].items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


class HubServer:
    """A server of repositories in memory, running until the end of the ``with`` block."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and Range header of every request."""

        self.close_after: int | None = None
        """Number of bytes of the next response after which the connection is closed, once."""

        self.busy_for = 0
        """Number of following requests that get the status 503."""

        self.page = 1000
        """Number of files in a page of a listing."""

        self.pause_s = 0.0
        """Pause in seconds before each kilobyte of a response's body."""

        self.ranges = True
        """Whether a Range header is respected; otherwise the whole file is sent."""

        self.listed: dict[str, tuple[int, str]] = {}
        """Size and sha256 to list instead of those of the content, by the name of a file."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop accepting connections. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def use(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """Make it the Hub of this process during a test, with an empty cache in ``home``."""
        from huggingface_hub import constants

        template = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in (
            ("ENDPOINT", self.url),
            ("HUGGINGFACE_CO_URL_TEMPLATE", template),
            ("HF_HUB_CACHE", str(home / "hub")),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value)

    def put(self, repo: str, name: str, content: bytes, branch: str = "main") -> Repo:
        """Put a file into a repository, which is created if necessary."""
        created = self.repos.setdefault(repo, Repo())
        created.branches.setdefault(branch, {})[name] = content
        return created


class Handler(BaseHTTPRequestHandler):
    """The handler of one connection."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.route()

    do_GET = do_POST = do_PUT = do_HEAD

    def route(self) -> None:
        """Dispatch the request to one of the methods below."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if self.hub.busy_for:
            self.hub.busy_for -= 1
            self.refuse(503, "busy")
            return
        reads = self.command in ("HEAD", "GET")
        if reads and (match := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)):
            self.resolve(*match.groups())
        elif reads and (match := re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)/(revision|tree)/([^/]+)", path)):
            if self.found(match[1], match[3]):
                getattr(self, match[2])(match[1], match[3])
        elif not self.allowed():
            self.refuse(401, "Invalid username or password.")
        elif path == "/api/validate-yaml":
            self.respond({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|branch|commit)/(.+)", path):
            getattr(self, match[2])(match[1], match[3])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch()
        elif match := re.fullmatch(r"/lfs/(\w+)", path):
            self.upload(match[1])
        else:
            self.refuse(404, f"this server has no {self.command} {path}")

    # Responses

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}" or self.path.startswith("/lfs/")

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit, self.hub.close_after = self.hub.close_after, None
        step = 1024 if self.hub.pause_s else len(body) + 1
        with contextlib.suppress(ConnectionError):  # the client was killed
            for start in range(0, len(body[:limit]), step):
                time.sleep(self.hub.pause_s)
                self.wfile.write(body[:limit][start : start + step])
        self.close_connection = self.close_connection or limit is not None

    def respond(self, values: object) -> None:
        self.send(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, message: str, code: str = "", commit: str = "") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        headers |= {"X-Repo-Commit": commit} if commit else {}
        self.send(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **headers})

    # Downloads

    def found(self, name: str, revision: str) -> bool:
        """Return whether a repository has a branch or commit and may be read; otherwise respond with the error."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.allowed()):
            # Without a token, the Hub does not reveal that a private repository exists.
            self.refuse(404 if self.allowed() else 401, "Repository not found", "RepoNotFound")
        elif repo.gated and not self.allowed():
            self.refuse(403, "Access to this repository is restricted", "GatedRepo")
        elif repo.branch(revision) is None:
            self.refuse(404, "Invalid rev id", "RevisionNotFound")
        else:
            return True
        return False

    def resolve(self, name: str, revision: str, file: str) -> None:
        if not self.found(name, revision):
            return
        repo = self.hub.repos[name]
        branch = repo.branch(revision)
        if file not in repo.branches[branch]:
            self.refuse(404, "Entry not found", "EntryNotFound", repo.commit_hash(branch))
        else:
            self.file(repo.branches[branch][file], repo.commit_hash(branch))

    def revision(self, name: str, revision: str) -> None:
        repo = self.hub.repos[name]
        self.respond({"id": name.removeprefix("datasets/"), "sha": repo.commit_hash(repo.branch(revision)), "tags": []})

    def tree(self, name: str, revision: str) -> None:
        repo = self.hub.repos[name]
        files = sorted(repo.branches[repo.branch(revision)].items())
        first = int(parse_qs(self.path.partition("?")[2]).get("cursor", ["0"])[0])
        entries = []
        for path, content in files[first : first + self.hub.page]:
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            size, digest = self.hub.listed.get(path, (len(content), hashlib.sha256(content).hexdigest()))
            lfs = {} if path.endswith((".md", ".json")) else {"lfs": {"oid": digest, "size": size, "pointerSize": 134}}
            entries.append({"type": "file", "oid": git, "size": size, "path": path, **lfs})
        headers = {"Content-Type": "application/json"}
        if first + self.hub.page < len(files):
            following = f"{self.hub.url}/api/{name}/tree/{revision}?recursive=True&cursor={first + self.hub.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        self.send(200, json.dumps(entries).encode(), headers)

    def file(self, content: bytes, commit: str) -> None:
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "ETag": f'"{digest}"',
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{digest}"',
            "Accept-Ranges": "bytes",
        }
        if self.hub.ranges and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], headers)
        else:
            self.send(200, content, headers)

    # Uploads

    def create(self) -> None:
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.hub.repos:
            # The client reads the URL from the body of a 409, too.
            self.send(409, json.dumps({"url": f"{self.hub.url}/{name}"}).encode(), {"Content-Type": "application/json"})
            return
        self.hub.repos[name] = Repo(private=wanted.get("visibility") == "private")
        self.respond({"url": f"{self.hub.url}/{name}"})

    def preupload(self, name: str, branch: str) -> None:
        files = [file["path"] for file in json.loads(self.body)["files"]]
        mode = {True: "lfs", False: "regular"}
        self.respond(
            {
                "files": [
                    {"path": file, "uploadMode": mode[file.endswith(".safetensors")], "shouldIgnore": False}
                    for file in files
                ],
            },
        )

    def branch(self, name: str, branch: str) -> None:
        repo = self.hub.repos[name]
        if branch in repo.branches:
            self.refuse(409, "Reference already exists")
            return
        repo.branches[branch] = dict(repo.branches["main"])
        self.respond({})

    def batch(self) -> None:
        wanted = json.loads(self.body)["objects"]
        actions = [{**item, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}} for item in wanted]
        self.respond({"transfer": "basic", "objects": actions})

    def upload(self, digest: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != digest:
            self.refuse(400, "the content does not match the announced hash")
            return
        self.hub.lfs[digest] = self.body
        self.respond({})

    def commit(self, name: str, branch: str) -> None:
        files = self.hub.repos[name].branches[branch]
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
        commit = self.hub.repos[name].commit_hash(branch)
        self.respond({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})
