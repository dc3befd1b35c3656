"""A Hugging Face Space of ``tinyhd app``: the same page, with limits for a machine that many people share."""

from __future__ import annotations

import threading

from tinyhd_cli.apps.web.options import AppOptions
from tinyhd_cli.apps.web.server import running

LIMITS = AppOptions(host="0.0.0.0", port=7860, max_size=100 * 10**6, max_seconds=60)
"""A minute of video takes about as long on the two cores of the free hardware; Spaces reach the page at this port."""


def main() -> None:
    with running(LIMITS):
        threading.Event().wait()


if __name__ == "__main__":
    main()
