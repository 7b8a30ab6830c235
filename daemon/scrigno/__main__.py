# SPDX-License-Identifier: Apache-2.0
"""The command `scrigno`: the daemon by `serve`, everything else by its client."""

import sys
from collections.abc import Sequence

from scrigno.cli.main import run_command
from scrigno.cli.parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 failed or refused, 2 wrong use)."""
    options = build_parser().parse_args(arguments)
    if options.command == "serve":
        # The daemon's rooms take a third of a second to import; the client does not need them.
        from scrigno.app.serve import serve

        return serve(options.config, welcome=options.welcome)
    return run_command(options)


if __name__ == "__main__":
    sys.exit(main())
