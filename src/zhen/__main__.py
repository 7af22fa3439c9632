"""`python -m zhen`, the `zhen` script, and what torchrun starts."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from zhen.cli.app import run
    from zhen.cli.launch import leave

    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
