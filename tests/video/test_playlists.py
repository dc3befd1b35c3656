"""Files that refer to other files are read only with ``--allow-playlists``."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import InputError
from tinyhd_cli.video.options import InputOptions
from tinyhd_cli.video.reader import VideoReader

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"

PLAYLISTS = {
    "ffconcat": ("a.mp4", "ffconcat version 1.0\nfile 'secret/secret.mp4'\n"),
    "ffconcat, absolute": ("a.mkv", "ffconcat version 1.0\nfile '{here}/secret/secret.mp4'\n"),
    "ffconcat, as an image": ("a.jpg", "ffconcat version 1.0\nfile 'secret/secret.mp4'\n"),
    "HLS": ("a.m3u8", HLS.format("secret/secret.ts")),
    "HLS, by protocol": ("b.m3u8", HLS.format("file:{here}/secret/secret.ts")),
    "HLS, misnamed": ("a.ts", HLS.format("secret/secret.ts")),
    "DASH": ("a.mpd", '<?xml version="1.0"?>\n<MPD type="static"><Period/></MPD>'),
    "SDP": ("a.sdp", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5004 RTP/AVP 96\r\n"),
    "VobSub": ("a.idx", "# VobSub index file, v7 (do not modify this line!)\n"),
}

READABLE = ("ffconcat", "ffconcat, absolute", "HLS", "HLS, by protocol")
"""Playlists that FFmpeg can read if they are allowed."""


@pytest.fixture
def secret(tmp_path):
    """A folder whose videos a playlist must not access."""
    (tmp_path / "secret").mkdir()
    clips.make(tmp_path / "secret" / "secret.mp4", frames=5)
    clips.make(tmp_path / "secret" / "secret.ts", frames=5)
    return tmp_path


def write(folder, kind):
    name, text = PLAYLISTS[kind]
    path = folder / name
    path.write_text(text.replace("{here}", str(folder)))
    return path


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_are_refused(secret, kind):
    path = write(secret, kind)
    with pytest.raises(InputError) as error:
        VideoReader(path)
    name = kind.partition(",")[0]
    reason = f"is a playlist ({name}), which can refer to any other file; to read it, use --allow-playlists"
    assert str(error.value) == f"{path}: {reason}"


@pytest.mark.parametrize("kind", READABLE)
def test_playlists_are_read_if_allowed(secret, kind):
    with VideoReader(write(secret, kind), InputOptions(playlists=True)) as reader:
        assert len(list(reader)) == 5


def test_image_names_are_not_patterns(tmp_path):
    """By default, FFmpeg would read img0.png, img1.png, ..."""
    from PIL import Image

    for number in range(3):
        Image.fromarray(clips.image(number, 64, 48)).save(tmp_path / f"img{number}.png")
    Image.fromarray(np.full((48, 64, 3), 77, np.uint8)).save(tmp_path / "img%d.png")
    with VideoReader(tmp_path / "img%d.png") as reader:
        frames = list(reader)
    assert [frame.rgb().mean() for frame in frames] == [77]


def test_external_tracks_of_a_mov_are_not_followed(secret):
    """QuickTime files can store their frames in another file."""
    data = bytearray((secret / "secret" / "secret.mp4").read_bytes())
    reference = alias(str(secret / "secret" / "secret.mp4"))
    at = data.index(b"url \0\0\0\1") - 4
    data[at : at + 12] = reference
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.rindex(box, 0, at) - 4
        size = int.from_bytes(data[start : start + 4], "big") + len(reference) - 12
        data[start : start + 4] = size.to_bytes(4, "big")
    (secret / "a.mov").write_bytes(data)
    with av.open(str(secret / "a.mov"), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5, "the test itself"
    with pytest.raises(InputError, match="no frame could be decoded"):
        VideoReader(secret / "a.mov")


def alias(path):
    """Return a QuickTime data reference to a file."""
    name = path.rpartition("/")[2]
    record = bytes(10) + bytes(28) + bytes(12) + bytes([len(name)]) + name.encode().ljust(63, b"\0")
    record += bytes(16) + (1).to_bytes(2, "big") + (2).to_bytes(2, "big") + bytes(16)
    text = path.encode() + bytes(len(path) % 2)
    record += (2).to_bytes(2, "big") + len(text).to_bytes(2, "big") + text + b"\xff\xff\0\0"
    return (12 + len(record)).to_bytes(4, "big") + b"alis" + bytes(4) + record


def test_allow_playlists_option(secret, tinyhd, weights_file, capsys):
    path = write(secret, "ffconcat, absolute")
    model = ("--weights", weights_file, "--engine", "torch")
    for command in ("predict", "report", "crop", "encode"):
        assert tinyhd(command, path, *model) == 3
        assert capsys.readouterr().err.splitlines()[-1].endswith("use --allow-playlists")
    assert not list(Path().iterdir())
    assert tinyhd("predict", path, "--csv", "a.csv", "--allow-playlists", *model) == 0
    assert len(Path("a.csv").read_text().splitlines()) == 6
    assert tinyhd("live", path, "-o", "live.mp4", *model) == 3
    assert tinyhd("live", path, "-o", "live.mp4", "--allow-playlists", *model) == 0


@pytest.fixture
def site(secret):
    """The address of a local HTTP server for the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(secret)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_network_streams_cannot_open_local_files(secret, site):
    from tinyhd_cli.apps.live.run import find_source

    (secret / "near.m3u8").write_text(HLS.format("secret/secret.ts"))
    (secret / "evil.m3u8").write_text(HLS.format(f"file://{secret}/secret/secret.ts"))
    with find_source(f"{site}/near.m3u8", None).open() as reader:
        assert len(list(reader)) == 5
    with pytest.raises(InputError):
        find_source(f"{site}/evil.m3u8", None).open()


def test_file_urls_are_opened_as_files(secret):
    from tinyhd_cli.apps.live.run import find_source

    with find_source((secret / "secret" / "secret.mp4").as_uri(), None).open() as reader:
        assert len(list(reader)) == 5
    with pytest.raises(InputError, match="is a playlist"):
        find_source(write(secret, "ffconcat").as_uri(), None).open()
