"""``python -m tinyhd_cli`` is ``tinyhd``."""

from .cli import main

main()
