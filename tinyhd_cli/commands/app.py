"""``tinyhd app``: a local page to drop videos and images on."""

from __future__ import annotations

import threading

from ..apps.web.options import AppOptions
from ..errors import OK
from ..inference.model_options import ModelOptions
from .option_fields import with_options
from .options import Quiet
from .terminal import loading, say


@with_options
def app(*, options: AppOptions, model: ModelOptions, quiet: Quiet = False) -> int:
    """Open a page to drop videos and images on, and see where people look; Ctrl-C ends it.

    The page is for this machine only, and sends nothing anywhere. Files are removed an hour after their last use:
    tinyhd app --open
    """
    from ..apps.web.server import running

    with running(options, model) as address:
        loading.stop()
        if not quiet:
            say(f"{address} is ready; Ctrl-C ends it")
            if not options.is_local:
                say("every machine that reaches this address can use the page: it has no password")
        threading.Event().wait()
    return OK
