"""A browser shows the transparency of a cut-out."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from helpers import clips
from helpers.bright import BrightFamily, write_bright

from tinyhd_cli import models
from tinyhd_cli.models import registry

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PAGE = """\
<body style="margin:0; background:#0040c0">
<video id="video" src="cut.webm" muted></video>
<img src="/wait" style="display:none">
<script>
  video.onerror = () => fetch("/pixels?error=" + video.error.message);
  video.onloadeddata = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const counts = [0, 0, 0];
    for (let i = 3; i < pixels.length; i += 4) counts[pixels[i] == 0 ? 0 : pixels[i] < 255 ? 1 : 2]++;
    fetch("/pixels?clear=" + counts[0] + "&soft=" + counts[1] + "&opaque=" + counts[2]);
  };
</script>
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the current folder; an image arrives, and the page is loaded, once the page has reported its pixels."""

    received = threading.Event()
    counts: dict[str, list[str]]

    def do_GET(self):
        if self.path == "/wait":
            self.received.wait(60)
            self.send_error(404)
        elif self.path.startswith("/pixels"):
            Handler.counts = parse_qs(urlsplit(self.path).query)
            self.send_response(204)
            self.end_headers()
            self.received.set()
        else:
            super().do_GET()

    def log_message(self, *details):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="requires Chromium")
def test_the_background_shows_around_the_object(tinyhd, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registered", {})
    models.register(BrightFamily())
    clips.make(Path("clip.mp4"), frames=4, width=320, height=180)
    weights = write_bright(Path("bright.safetensors"))
    command = ("predict", "clip.mp4", "--weights", weights, "--engine", "torch", "-q", "--cutout", "cut.webm")
    assert tinyhd(*command) == 0
    Path("page.html").write_text(PAGE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    options += f" --disable-component-update --user-data-dir={tmp_path / 'browser'} --window-size=640,480"
    address = f"http://127.0.0.1:{server.server_port}/page.html"
    try:
        subprocess.run(
            [CHROMIUM, *options.split(), "--screenshot=page.png", address], check=True, capture_output=True, timeout=120
        )
    finally:
        server.shutdown()
        server.server_close()
    clear, soft, opaque = (int(Handler.counts[name][0]) for name in ("clear", "soft", "opaque"))
    disc = (clips.image(0, 320, 180) == (250, 240, 60)).all(axis=2)
    assert 0.7 * disc.sum() < opaque < 1.05 * disc.sum()
    assert 100 < soft < 1000
    assert clear + soft + opaque == 320 * 180
    shown = cv2.imdecode(np.fromfile("page.png", np.uint8), cv2.IMREAD_COLOR)[:180, :320, ::-1].astype(int)
    inner = cv2.erode(disc.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    outside = cv2.dilate(disc.astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
    assert np.abs(shown[inner] - (250, 240, 60)).mean() < 12
    assert np.abs(shown[outside] - (0, 64, 192)).max() < 6
