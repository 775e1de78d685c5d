"""The command ``copycat``, also as ``python -m copycat``."""

import sys


def main() -> None:
    """Run the command line; it ends the process."""
    try:
        from copycat.console.cli import main as run
    except KeyboardInterrupt:  # it takes a moment to load, and may be the wrong command
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
