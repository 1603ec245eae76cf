"""The command `reelworks`. Imports nothing at first, so that Ctrl-C is answered in words from the beginning."""

import sys


def main() -> None:
    """Run the command line and exit with one of `exits.Exit`."""
    try:
        from services.cli.program import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("reelworks: interrupted\n")
        code = 130
    raise SystemExit(code)


if __name__ == "__main__":
    main()
