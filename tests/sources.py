"""The source files of this repository, for the tests that read them."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("actors", "copycat", "resources")
ALL = (*SHIPPED, "bench", "examples", "tests", "tools")


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """Path from the root and text of each Python file below these folders, or named by them.

    The two links in copycat/ are not followed, so each file comes once.
    """
    for folder in folders:
        path = ROOT / folder
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
