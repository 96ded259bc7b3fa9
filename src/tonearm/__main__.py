"""Run the `tonearm` program."""

import sys


def main() -> None:
    """Run the program; a Ctrl-C while it is still being loaded ends it as any other does."""
    try:
        from tonearm.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
