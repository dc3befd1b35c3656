"""Read HTML reports."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The content of an HTML page: embedded images, external links, the number of captions, the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.captions = 0
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value:
                (self.images if value.startswith("data:") else self.links).append(value)
        self.captions += tag == "figcaption"

    def handle_data(self, data):
        self.text += data
