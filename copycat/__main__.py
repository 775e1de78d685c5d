"""``python -m copycat`` is the command ``copycat``."""

from copycat.console.cli import main

if __name__ == "__main__":
    main()
