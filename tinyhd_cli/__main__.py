"""The entry point of the ``tinyhd`` command, and of ``python -m tinyhd_cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while its modules are still being imported is no reason for a traceback."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        print("tinyhd: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
