"""Stand-ins: the paths that represent URLs."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tinyhd_cli import storage
from tinyhd_cli.errors import UsageError
from tinyhd_cli.inference.inputs import Input
from tinyhd_cli.inference.io_paths import make_plan
from tinyhd_cli.storage import addresses, copies
from tinyhd_cli.untrusted import csv_cell, json_text, printable

SIGNED = "https://user:pass@host:8080/a/clip.mp4?X-Amz-Signature=abc123"


@pytest.mark.parametrize(
    "url", ["s3://bucket/a/clip one.mp4", "s3://bucket", "memory://x/{name}.csv", "hf://datasets/o/n/a.mp4", SIGNED]
)
def test_a_stand_in_is_the_url_and_a_path(url):
    path = storage.path_of(url)
    assert storage.url_of(path) == url
    assert storage.path_of(path) == path
    assert storage.url_of(path.parent / "b.csv") == storage.url_of(path.with_name("b.csv"))
    assert storage.url_of(pickle.loads(pickle.dumps(path))) == storage.url_of(copy.deepcopy({"p": path})["p"]) == url
    assert not path.exists()


def test_local_paths_are_plain_paths():
    for text in ("a//b.mp4", "C:\\a.mp4", "-", "a:b.mp4", "file:///tmp/x"):
        assert storage.url_of(storage.path_of(text)) is None
    assert type(storage.path_of("a/b.mp4")) is type(Path("a/b.mp4"))
    assert storage.path_of("file:///tmp/x") == Path("/tmp/x")
    assert storage.path_of("file://localhost/tmp/a%20b") == Path("/tmp/a b")
    for wrong in ("file://host/tmp/x", "file://x.mp4"):
        with pytest.raises(UsageError, match="write file:///FOLDER/FILE, or the path itself"):
            storage.path_of(wrong)


@pytest.mark.parametrize("url", ["s3://b//x", "s3://b/../x", "s3://b/a/./x", "s3:///x", "s3://../x", "s3://b/a\0b"])
def test_parts_that_paths_do_not_have_are_refused(url):
    with pytest.raises(UsageError, match=r"a part of this address is empty, '\.' or '\.\.'"):
        storage.path_of(url)


def test_unknown_schemes_name_the_known_ones():
    with pytest.raises(UsageError, match=r"^rtsp://\.\.\.@camera/1: rtsp:// is not supported; use s3://.*tinyhd live"):
        storage.path_of("rtsp://me:secret@camera/1")


def test_credentials_and_queries_are_in_no_text():
    path = storage.path_of(SIGNED)
    texts = [f"{path}: x", printable(path), json_text({"a": str(path)}), csv_cell(f"{path}"), storage.name_of(path)]
    texts.append(printable(f"GET {SIGNED} failed"))
    for text in texts:
        assert "https://host:8080/a/clip.mp4" in text.replace("...@", "")
        assert not {"pass", "abc123"} & set(text.replace("?", ":").replace("=", ":").replace("@", ":").split(":"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://AKID:se@cr@et@bucket/x", "s3://...@bucket/x: credentials in URLs are not supported; set them in the"),
        ("s3://AKID:se/cr@et@bucket/x", "s3://...@bucket/x: credentials in URLs are not supported; set them in the"),
        ("http://me:se/cr@et@host/x?et", "http://...@host/x?...: the port is not a number; write / ? @ in a user name"),
        ("http://me:se?cr@et@host/x", "http://...@host/x: the port is not a number"),
        ("ftp://me:se/cr@et@host/x", "ftp://...@host/x: ftp:// is not supported"),
    ],
)
def test_refused_credentials_are_not_shown(url, message):
    with pytest.raises(UsageError) as error:
        storage.path_of(url)
    assert str(error.value).startswith(message)
    assert storage.name_of(url) == message.partition(": ")[0]


def test_addresses_that_look_like_credentials():
    for url in ("s3://bucket/a:b@c.mp4", "https://host:80/@user/x", "https://[::1]:80/a@b", "abfs://box@account/a:b"):
        assert storage.name_of(url) == storage.url_of(storage.path_of(url)) == url


def test_only_urls_of_hosts_with_secrets_are_changed():
    storage.path_of("https://a@one/x?b")
    text = 'a b ? "https://a@two/a?b" https://one/a?b https://a@one/b, https://one/@a#b'
    assert storage.named(text) == 'a b ? "https://a@two/a?b" https://one/a?... https://...@one/b, https://one/@a#...'
    assert storage.name_of(storage.path_of("https://two/x#token=1")) == "https://two/x"


def test_urls_in_paths_are_refused():
    with pytest.raises(UsageError, match=r"^s3:/b/a.mp4: is a URL in a Path.*give the URL as text"):
        storage.path_of(Path("s3://b/a.mp4"))


def test_advice_on_inputs_that_differ_in_their_query_only():
    found = [Input(storage.path_of(f"https://host/x.mp4?v={number}"), named=True) for number in (1, 2)]
    with pytest.raises(
        UsageError, match=r"would both be written to x.csv: process them in two runs, with another --out"
    ):
        make_plan(found, {"csv": "{name}.csv"}, None)


def test_chains_are_refused():
    with pytest.raises(UsageError, match=r"^simplecache::s3://b/a.mp4: simplecache::s3:// is not supported; use s3://"):
        storage.path_of("simplecache::s3://b/a.mp4")


def test_two_queries_are_two_files():
    one, other = (storage.path_of(f"https://host/get?id={number}") for number in (1, 2))
    assert one != other
    assert one.name == other.name == "get"


def test_sizes():
    assert [copies.parse_size(text) for text in ("500M", "20GB", "1.5k", "7")] == [500 * 10**6, 20 * 10**9, 1500, 7]
    for wrong in ("", "x", "-1G", "nan", "inf", "1P", "G"):
        with pytest.raises(UsageError, match="--scratch"):
            copies.parse_size(wrong)


def test_no_store_is_loaded_for_local_paths(tmp_path):
    code = (
        "import sys; from tinyhd_cli import cli; cli.run(['predict', '--help']); cli.run(['predict', 'none.mp4']);"
        "print([name for name in ('fsspec', 's3fs', 'aiohttp', 'botocore') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_roots_of_killed_processes_are_removed(monkeypatch, tmp_path):
    code = (
        "from tinyhd_cli import storage; import os; storage.path_of('s3://b/x').parent.mkdir(parents=True); os._exit(1)"
    )
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(addresses.tempfile, "tempdir", str(tmp_path))
    addresses.sweep()
    assert not list(tmp_path.iterdir())
