"""Entry point of the ``tinyhd`` command and of ``python -m tinyhd_cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C while modules are imported prints no traceback."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        print("tinyhd: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
