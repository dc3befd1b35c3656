"""Commands on a real S3 server: bytes, errors, and a process that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from helpers.stores import RefusingServer, copies_of, environment

from tinyhd_cli import storage
from tinyhd_cli.errors import InputError, OutputError
from tinyhd_cli.video.reader import VideoReader

NAMES = [f"{number:02d}.mp4" for number in range(20)]
OUTPUTS = ("--csv", "{name}.csv", "--maps", "{name}", "--npz", "{name}.npz")


@pytest.fixture(scope="module")
def clips_bucket(s3, clip, tmp_path_factory):
    """Make the bucket ``clips`` with 20 clips in ``in/``, and an empty bucket ``out``; return the local clips."""
    files = copies_of(clip, tmp_path_factory.mktemp("clips") / "in", NAMES)
    for bucket in ("clips", "out"):
        s3.client.create_bucket(Bucket=bucket)
    for file in files:
        s3.client.upload_file(str(file), "clips", f"in/{file.name}")
    return files


def test_from_a_bucket_into_a_bucket(tinyhd, s3, clips_bucket, model, tmp_path):
    assert tinyhd("predict", *clips_bucket[:2], "--out-dir", tmp_path, *OUTPUTS, *model) == 0
    assert tinyhd("predict", "s3://clips/in/0[01].mp4", "--out-dir", "s3://out/a", *OUTPUTS, *model) == 0
    expected = {
        f"a/{path.relative_to(tmp_path).as_posix()}": path.read_bytes()
        for path in tmp_path.rglob("*.*")
        if path.is_file() and path.relative_to(tmp_path).parts[0].startswith("0")
    }
    assert len(expected) == 2 * (2 + 20)
    assert s3.objects("out", "a/") == expected


@pytest.mark.slow
def test_several_processes_skip_what_is_there(tinyhd, s3, clips_bucket, model, capsys):
    assert tinyhd("predict", "s3://clips/in/0[01].mp4", "--out-dir", "s3://out/c", "--csv", "n.csv", *model) == 0
    before = s3.objects("out", "c/")
    command = ("predict", "s3://clips/in/0[0-2].mp4", "--out-dir", "s3://out/c", "--csv", "n.csv", "--skip-existing")
    assert tinyhd(*command, "--jobs", "2") == 0  # other processes have no replaced network
    assert capsys.readouterr().err.splitlines()[-1] == "3 inputs: 1 done, 2 skipped"
    found = s3.objects("out", "c/")
    assert found.keys() - before.keys() == {"c/02_n.csv"}
    assert before.items() <= found.items()


def test_a_long_video_is_read_by_ranges(s3, clips_bucket, clip, monkeypatch):
    import s3fs

    content = clip.read_bytes()
    size = 32 << 20
    empty = (size + 8).to_bytes(4) + b"free" + bytes(size)
    at = int.from_bytes(content[:4])  # after ftyp; the offsets of the samples do not fit, so the box goes to the end
    assert content[at - 4 : at]
    s3.client.put_object(Bucket="clips", Key="long.mp4", Body=content + empty)
    read = []
    fetch = s3fs.core._fetch_range

    def counted(*arguments, **named):
        read.append(arguments[5] - arguments[4])
        return fetch(*arguments, **named)

    monkeypatch.setattr(s3fs.core, "_fetch_range", counted)
    with VideoReader("s3://clips/long.mp4") as reader:
        assert sum(1 for _ in reader) == 20
    assert 0 < sum(read) < size / 2


def test_a_folder_is_complete_when_it_has_its_first_file(s3, clips_bucket, tmp_path, monkeypatch):
    for number in range(5):
        (tmp_path / f"{number:04d}.png").write_bytes(b"x")
    storage.publish(tmp_path, storage.path_of("s3://out/folder"))
    assert len(s3.objects("out", "folder/")) == 5
    put = storage.publication.publish_file

    def fail(source, path):
        if source.name == "0003.png":
            raise OutputError("away")
        put(source, path)

    monkeypatch.setattr(storage.publication, "publish_file", fail)
    with pytest.raises(OutputError):
        storage.publish(tmp_path, storage.path_of("s3://out/folder"))
    assert "folder/0000.png" not in s3.objects("out", "folder/")


PUT = """
import sys
from pathlib import Path
from tinyhd_cli import storage
folder, small, large = map(Path, sys.argv[1:])
storage.check_destination([storage.path_of("s3://out/killed")])
print("ready", flush=True)
storage.publish(folder, storage.path_of("s3://out/killed/folder"))
for number in range(1000):
    storage.publish(small, storage.path_of(f"s3://out/killed/small{number}"))
    storage.publish(large, storage.path_of(f"s3://out/killed/large{number}"))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_partial_object(s3, clips_bucket, tmp_path):
    folder, small, large = tmp_path / "folder", tmp_path / "small", tmp_path / "large"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.png").write_bytes(os.urandom(200_000))
    small.write_bytes(os.urandom(3_000_000))
    with large.open("wb") as file:  # in several parts
        file.truncate(110 << 20)
    process = subprocess.Popen([sys.executable, "-c", PUT, folder, small, large], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    while not (found := keys_of(s3, "killed/small")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # in the middle of a part
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = {item["Key"]: item["Size"] for item in listed(s3, "killed/")}
    assert found.pop("killed/small0") == 3_000_000
    assert sum(size == 200_000 for size in found.values()) == 8
    assert {size for key, size in found.items() if "folder" not in key} <= {3_000_000, 110 << 20}
    s3.client.delete_objects(Bucket="out", Delete={"Objects": [{"Key": key} for key in found]})


def listed(s3, prefix: str) -> list[dict]:
    return s3.client.list_objects_v2(Bucket="out", Prefix=prefix).get("Contents", [])


def keys_of(s3, prefix: str) -> set[str]:
    return {item["Key"] for item in listed(s3, prefix)}


@pytest.mark.slow
def test_a_killed_run_is_resumed(tinyhd, s3, clips_bucket, tmp_path, capsys):
    assert tinyhd("predict", *clips_bucket, "--out-dir", tmp_path / "all", *OUTPUTS, "--quiet") == 0
    expected = {
        f"b/{path.relative_to(tmp_path / 'all').as_posix()}": path.read_bytes()
        for path in (tmp_path / "all").rglob("*.*")
        if path.is_file()
    }
    command = ("predict", "s3://clips/in", "--out-dir", "s3://out/b", *OUTPUTS, "--skip-existing")
    process = subprocess.Popen([sys.executable, "-m", "tinyhd_cli", *command, "--jobs", "1"], stderr=subprocess.PIPE)
    while len(keys_of(s3, "b/")) < 3 * 22 + 9:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    after = s3.objects("out", "b/")
    assert all(expected[key] == value for key, value in after.items())
    whole = [name for name in NAMES if {key for key in expected if key[2:4] == name[:2]} <= after.keys()]
    assert 3 <= len(whole) < 20
    assert tinyhd(*command) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"20 inputs: {20 - len(whole)} done, {len(whole)} skipped"
    assert s3.objects("out", "b/") == expected


def test_buckets_that_do_not_exist(tinyhd, s3, clips_bucket, model, capsys):
    assert tinyhd("predict", "s3://none/a.mp4", *model) == 3
    assert tinyhd("predict", "s3://none/*.mp4", *model) == 3
    assert tinyhd("predict", "s3://clips/in", "--out-dir", "s3://none", *model) == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "tinyhd: s3://none/a.mp4: the bucket does not exist",
        "tinyhd: s3://none/*.mp4: the bucket does not exist",
        "tinyhd: s3://none: the bucket does not exist",
    ]


def test_denied_keys_are_reported_and_not_shown(tinyhd, s3, clips_bucket, model, clip, capsys):
    s3.check_keys(True)
    try:
        assert tinyhd("predict", "s3://clips/in/00.mp4", *model) == 3
        assert tinyhd("predict", clip, "--csv", "s3://out/x.csv", *model) == 5
        assert tinyhd("predict", clip, "--weights", "s3://out/w.safetensors") == 4
    finally:
        s3.check_keys(False)
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 3
    assert error.count("the store denied access; check the credentials (AWS_PROFILE or AWS_ACCESS_KEY_ID)") == 3
    assert "a-secret-key" not in error


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (507, "XMinioStorageFull", "the store is full: free space there, or write elsewhere"),
        (403, "QuotaExceeded", "the store is full: free space there, or write elsewhere"),
        (400, "InvalidRequest", "the store failed: InvalidRequest"),
    ],
)
def test_uploads_that_are_refused(tinyhd, clip, model, monkeypatch, capsys, status, code, message):
    with RefusingServer(status, code) as server:
        for name, value in environment(server.url).items():
            monkeypatch.setenv(name, value)
        assert tinyhd("predict", clip, "--csv", "s3://full/x.csv", *model) == 5
    error = capsys.readouterr().err
    assert error.startswith(f"tinyhd: s3://full/x.csv: {message}")
    assert error.count("\n") == 1


def test_expired_tokens():
    """S3 answers 400 to HEAD, without a text."""
    from botocore.exceptions import ClientError

    error = ClientError({"Error": {"Code": "400"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "HeadObject")
    message = storage.stores.problem(storage.path_of("s3://b/x"), error)
    assert "check whether the credentials have expired (AWS_PROFILE" in message


def test_a_store_that_is_away(tinyhd, clip, model, monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"  # no one listens
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        started = time.monotonic()
        assert tinyhd("predict", "s3://clips/a.mp4", *model) == 3
        assert tinyhd("predict", clip, "--out-dir", "s3://out", *model) == 5
        assert time.monotonic() - started < 20
    away = f"the store cannot be reached at {address} (AWS_ENDPOINT_URL); check the connection and the address"
    assert capsys.readouterr().err == f"tinyhd: s3://clips/a.mp4: {away}\ntinyhd: s3://out: {away}\n"


def test_an_object_that_is_replaced_while_it_is_read(s3, clips_bucket, clip):
    content = clip.read_bytes() + bytes(20 << 20)
    s3.client.put_object(Bucket="clips", Key="changing.mp4", Body=content)
    with storage.open_file(storage.path_of("s3://clips/changing.mp4")) as file:
        assert file.read(16) == content[:16]
        s3.client.put_object(Bucket="clips", Key="changing.mp4", Body=b"x" * len(content))
        with pytest.raises(InputError, match="was replaced while it was read"):
            file.seek(18 << 20), file.read(16)


def test_copies_are_made_by_several_threads_once(s3, clips_bucket):
    path = storage.path_of("s3://clips/in")
    names = NAMES[:6]
    files = [path / name for name in names]
    done = []

    def read():
        storage.hold(path, files)
        done.append(all((path / name).stat().st_size for name in names))
        storage.release(path)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert done == [True] * 3
    assert not path.exists()
