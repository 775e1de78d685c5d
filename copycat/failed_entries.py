"""Failed entries: which commands of the log an operator has decided to be failures.

A command that makes a state machine end in ``MemoryError``, or never return, is in the log of every
server and comes again at each start. ``serve --fail-entry INDEX`` has it carried out by nobody. That is
a decision about what the log means, so it is kept with the log, for ever, and servers with other
decisions are refused.
"""

import os
from pathlib import Path

from copycat.errors import ConfigurationError

FILE = "failed-entries"
_END = "end"


def failed_entries(directory: Path) -> frozenset[int]:
    """What has been decided in a server's directory, which nobody else uses now.

    Raises:
        ConfigurationError: the file is damaged. Nothing was changed.
        OSError: it could not be read.
    """
    path = directory / FILE
    if not path.exists():
        return frozenset()
    *indexes, end = path.read_text(errors="replace").split() or [""]
    if end != _END or not all(each.isascii() and each.isdecimal() for each in indexes):
        raise ConfigurationError(
            f"file {path} is damaged: write into it the index of each command that was failed by"
            f" --fail-entry, one a line, and '{_END}' in the last one"
        )
    return frozenset(int(each) for each in indexes)


def keep_failed_entries(directory: Path, decided: frozenset[int]) -> None:
    """Write down all that has been decided; it is durable when this returns.

    Raises:
        OSError: it could not be written.
    """
    path = directory / FILE
    text = "".join(f"{index}\n" for index in sorted(decided)) + f"{_END}\n"
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
