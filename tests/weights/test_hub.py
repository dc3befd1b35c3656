"""Download and upload weights with the real huggingface_hub, from and to a server on the loopback interface.

huggingface_hub reads its settings on import, so each test runs the command in a new process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import clips
from helpers.hub_server import TOKEN, HubServer

from tinyhd_cli import models, weights
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.hub import one_line_errors
from tinyhd_cli.weights import hub, model_card

NAME = "tinyhd-s-quarter.test"
FILE = f"{NAME}.safetensors"
REPO = f"tinyhd/{NAME}"

ENTRY = """
[weights."{name}"]
config = {{ architecture = "tinyhd", outputs = "{outputs}", width = "{width}", decoders = ["d1", "d2", "d3"] }}
sha256 = "{sha256}"
origin = "https://example.org/original"
upstream_file = "original.pth"
"""


def write_weights(folder: Path, name: str) -> bytes:
    """Write a weights file with seeded weights. Return its content."""
    spec = models.named_spec(name.partition(".")[0])
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    weights.save(path, models.build(spec).state_dict(), spec, name=name, license="MIT", training_data="nothing")
    return path.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_weights(tmp_path_factory.mktemp("weights"), NAME)


@pytest.fixture
def server():
    with HubServer() as running:
        yield running


class Machine:
    """A user's machine: its own home folder, and a registry with one weights file."""

    def __init__(self, folder: Path, url: str, sha256: str, name: str = NAME) -> None:
        self.folder = folder
        registry = folder / "registry.toml"
        outputs = "multi" if "-m" in name else "single"
        width = "quarter" if "quarter" in name else "full"
        registry.write_text(ENTRY.format(name=name, sha256=sha256, outputs=outputs, width=width))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TINYHD_"))}
        self.environment = kept | {
            "HF_ENDPOINT": url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "TINYHD_REGISTRY": str(registry),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "APPDATA": str(folder / "config"),
        }

    def tinyhd(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tinyhd_cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=self.environment | environment,
        )

    def fails(self, *arguments: str, **environment: str) -> str:
        """Run a command that must exit with 4, print nothing on stdout and one line on stderr. Return that line."""
        done = self.tinyhd(*arguments, **environment)
        assert (done.returncode, done.stdout) == (4, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("tinyhd: ")
        return line


@pytest.fixture
def machine(tmp_path: Path, server: HubServer, content: bytes) -> Machine:
    return Machine(tmp_path, server.url, hashlib.sha256(content).hexdigest())


def test_download_once(machine: Machine, server: HubServer, content: bytes):
    server.put(REPO, FILE, content)
    first = machine.tinyhd("weights", "pull", NAME)
    assert first.returncode == 0, first.stderr
    path = Path(first.stdout.removesuffix("\n"))
    assert path.read_bytes() == content
    assert len(first.stdout.splitlines()) == 1

    requests = len(server.requests)
    assert requests
    assert machine.tinyhd("weights", "pull", "tinyhd-s-quarter").stdout == first.stdout  # the bare architecture
    assert machine.tinyhd("weights", "pull", NAME, HF_HUB_OFFLINE="1").stdout == first.stdout
    listed = machine.tinyhd("weights", "list")
    assert listed.stdout.splitlines()[1].split() == [NAME, "0", "2.2", "MB", "cache"]
    assert len(server.requests) == requests

    server.stop()
    assert machine.tinyhd("weights", "pull", NAME).stdout == first.stdout
    verified = machine.tinyhd("weights", "verify")
    assert (verified.returncode, verified.stdout.split()) == (0, ["ok", NAME, str(path)])


def test_offline_and_not_cached(machine: Machine, server: HubServer, content: bytes):
    server.put(REPO, FILE, content)
    assert "HF_HUB_OFFLINE" in machine.fails("weights", "pull", NAME, HF_HUB_OFFLINE="1")
    assert server.requests == []


@pytest.mark.parametrize("there", ["nothing", "the repository"])
def test_weights_missing_on_the_hub_name_the_original_file(machine: Machine, server: HubServer, there: str):
    if there == "the repository":
        server.put(REPO, "README.md", b"# nothing here yet")
    line = machine.fails("weights", "pull", NAME)
    assert f"{REPO}/{FILE}" in line
    assert "original.pth from https://example.org/original" in line
    assert "and use it with --weights original.pth" in line


def test_private_repository(machine: Machine, server: HubServer, content: bytes):
    server.put(REPO, FILE, content).private = True
    assert "HF_TOKEN" in machine.fails("weights", "pull", NAME)
    assert machine.tinyhd("weights", "pull", NAME, HF_TOKEN=TOKEN).returncode == 0


def test_gated_repository(machine: Machine, server: HubServer, content: bytes):
    server.put(REPO, FILE, content).gated = True
    line = machine.fails("weights", "pull", NAME)
    assert "ask" in line and "HF_TOKEN" in line and "403" in line
    assert machine.tinyhd("weights", "pull", NAME, HF_TOKEN=TOKEN).returncode == 0


def test_altered_file_is_refused_until_it_is_repaired(machine: Machine, server: HubServer, content: bytes):
    altered = bytearray(content)
    altered[-1] ^= 1
    server.put(REPO, FILE, bytes(altered))
    done = machine.tinyhd("weights", "pull", NAME)
    line = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (4, "")
    assert hashlib.sha256(altered).hexdigest() in line and hashlib.sha256(content).hexdigest() in line
    assert FILE in line and f"tinyhd weights pull {NAME} --force" in line

    # Neither a second pull nor verify accepts the cached file.
    assert "--force" in machine.fails("weights", "pull", NAME)
    verified = machine.tinyhd("weights", "verify")
    assert (verified.returncode, verified.stdout.split()[:3]) == (4, ["wrong", "hash", NAME])

    server.put(REPO, FILE, content)
    repaired = machine.tinyhd("weights", "pull", NAME, "--force")
    assert repaired.returncode == 0, repaired.stderr
    assert Path(repaired.stdout.strip()).read_bytes() == content
    assert machine.tinyhd("weights", "verify", NAME).returncode == 0

    # The file on the Hub is sound, but the cached one is damaged.
    path = Path(repaired.stdout.strip())
    path.write_bytes(altered)
    assert "--force" in machine.fails("weights", "pull", NAME)
    assert machine.tinyhd("weights", "pull", NAME, "--force").returncode == 0
    assert path.read_bytes() == content


def test_file_of_another_network_is_refused_without_a_known_hash(tmp_path: Path, server: HubServer):
    server.put(REPO, FILE, write_weights(tmp_path, "tinyhd-m-quarter"))
    done = Machine(tmp_path, server.url, sha256="").tinyhd("weights", "pull", NAME)
    assert (done.returncode, done.stdout) == (4, "")
    line = done.stderr.splitlines()[-1]
    assert f"contains tinyhd-m-quarter (d1, d2, d3), but {NAME} is tinyhd-s-quarter (d1, d2, d3)" in line


def test_interrupted_download_is_resumed(tmp_path: Path, server: HubServer):
    name = "tinyhd-s.test"
    large = write_weights(tmp_path, name)
    limit = 11 * 2**20  # huggingface_hub resumes from blocks of 10 MiB
    assert len(large) > limit
    server.put(f"tinyhd/{name}", f"{name}.safetensors", large)
    server.close_after = limit
    machine = Machine(tmp_path, server.url, hashlib.sha256(large).hexdigest(), name)
    done = machine.tinyhd("weights", "pull", name)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == large
    assert [byte_range for method, _, byte_range in server.requests if method == "GET"] == ["", f"bytes={10 * 2**20}-"]


def test_busy_hub_is_retried(machine: Machine, server: HubServer, content: bytes):
    server.put(REPO, FILE, content)
    server.busy_for = 2
    assert machine.tinyhd("weights", "pull", NAME).returncode == 0


def test_no_connection(machine: Machine, server: HubServer, content: bytes):
    (machine.folder / FILE).write_bytes(content)
    offline = machine.fails("weights", "push", FILE, f"someone/{NAME}", HF_HUB_OFFLINE="1")
    assert "not published, and HF_HUB_OFFLINE is set; unset it" in offline
    server.stop()
    assert f"{server.url} cannot be reached" in machine.fails("weights", "pull", NAME)
    push = machine.fails("weights", "push", FILE, f"someone/{NAME}", HF_TOKEN=TOKEN)
    assert "not published, and" in push
    assert push.rstrip().endswith("check the connection")
    clips.make(machine.folder / "clip.mp4", frames=20)
    init = machine.fails(
        "distill", "--quiet", "--batch-size", "1", "--teacher", FILE, "--aux", ".", "--init", "imagenet", "--out", "run"
    )
    assert init.rstrip().endswith("name a file with --init, or use --init none")


def test_push_then_pull(machine: Machine, server: HubServer, content: bytes):
    (machine.folder / FILE).write_bytes(content)
    assert "HF_TOKEN" in machine.fails("weights", "push", FILE, f"someone/{NAME}")
    assert server.repos == {}

    pushed = machine.tinyhd("weights", "push", FILE, f"someone/{NAME}", "--private", HF_TOKEN=TOKEN)
    assert (pushed.returncode, pushed.stdout) == (0, f"{server.url}/someone/{NAME}\n"), pushed.stderr
    repo = server.repos[f"someone/{NAME}"]
    assert repo.private
    assert repo.branches["main"].keys() == {FILE, "README.md"}
    card = repo.branches["main"]["README.md"].decode()
    assert card.startswith("---\nlicense: mit\nlibrary_name: tinyhd\n")
    assert f"hf download someone/{NAME} {FILE}" in card

    settings = {"TINYHD_HUB_OWNER": "someone", "HF_TOKEN": TOKEN}
    pulled = machine.tinyhd("weights", "pull", NAME, **settings)
    assert Path(pulled.stdout.strip()).read_bytes() == content, pulled.stderr

    again = machine.tinyhd("weights", "push", FILE, f"someone/{NAME}", "--revision", "next", HF_TOKEN=TOKEN)
    assert again.returncode == 0, again.stderr
    assert repo.branches["next"] == repo.branches["main"]


def test_owner_of_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "config"))
    monkeypatch.delenv("TINYHD_HUB_OWNER", raising=False)
    monkeypatch.chdir(tmp_path)
    info = weights.describe(models.named_spec("hd2s"), hub=weights.HubFile("hd2s", "hd2s.safetensors"))

    assert hub.hub_location(info).repo == "tinyhd/hd2s"
    users = tmp_path / "config" / "tinyhd" / "tinyhd.toml"
    users.parent.mkdir(parents=True)
    users.write_text('hub_owner = "user"\n')
    assert hub.hub_location(info).repo == "user/hd2s"
    here = tmp_path / "tinyhd.toml"
    here.write_text("# no owner\n")
    assert hub.hub_location(info).repo == "user/hd2s"
    here.write_text('hub_owner = "here"\n')
    assert hub.hub_location(info).repo == "here/hd2s"
    monkeypatch.setenv("TINYHD_HUB_OWNER", "environment")
    assert hub.hub_location(info).repo == "environment/hd2s"
    whole = weights.describe(models.named_spec("hd2s"), hub=weights.HubFile("lab/hd2s", "hd2s.safetensors"))
    assert hub.hub_location(whole).repo == "lab/hd2s"

    monkeypatch.delenv("TINYHD_HUB_OWNER")
    for wrong in ("hub_owner = \n", "hub_owner = 3\n", 'hub_owner = ""\n', "\xff"):
        here.write_text(wrong, encoding="latin-1")
        with pytest.raises(UsageError, match=r"^tinyhd\.toml"):
            hub.hub_location(info)
    monkeypatch.setenv("TINYHD_HUB_OWNER", "not/one")
    with pytest.raises(UsageError, match="not 'not/one'"):
        hub.hub_location(info)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left in"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left in"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written: set HF_HOME"),
        (OSError("Consistency check failed: file should be of size 5 but has size 3"), "run the same command again"),
        (RuntimeError("something\nof many lines"), "RuntimeError: something"),
    ],
)
def test_local_errors(error: Exception, said: str):
    with pytest.raises(WeightsError) as caught, one_line_errors("some.weights"):
        raise error
    assert said in str(caught.value)
    assert str(caught.value).startswith("some.weights: ")
    assert "\n" not in str(caught.value)


def test_reset_connection():
    import httpx2

    with (
        pytest.raises(WeightsError, match=r"connection was interrupted .*run the same command again"),
        one_line_errors("x"),
    ):
        raise httpx2.ReadError("[Errno 104] Connection reset by peer")


def test_model_card_of_every_known_weight():
    for info in weights.registry().values():
        card = model_card.model_card(info, f"{info.name}.safetensors", f"someone/{info.name}")
        front = card.split("---\n")[1]
        expected = {"CC-BY-NC-4.0": "cc-by-nc-4.0", "Apache-2.0": "apache-2.0"}.get(info.license, "unknown")
        assert f"license: {expected}\n" in front
        assert all(f"| {metric} | {score:g} |" in card for metric, score in info.scores.items())
        assert info.origin in card and info.training_data in card
    assert model_card.hub_license("My own license") == ["license: other", "license_name: my-own-license"]
