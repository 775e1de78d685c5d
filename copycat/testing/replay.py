"""Runs a schedule from a file again: ``python -m copycat.testing.replay FILE``.

It ends with 0 when no rule was broken, with 1 and the story when one was, and with 2 when the file
is no schedule. With ``--shrink`` a schedule that fails is made smaller first, in its file.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from copycat.testing.schedule import Schedule, ScheduleError
from copycat.testing.shrink import REPLAY, write_shrunk
from copycat.testing.violation import InvariantViolated
from copycat.testing.worlds import run_schedule

BROKEN = 1
USAGE = 2


def read(file: Path) -> Schedule:
    """The schedule in a file.

    Raises:
        OSError: the file cannot be read.
        ScheduleError: there is none in it.
    """
    return Schedule.from_json(file.read_text())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m copycat.testing.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="a schedule, as failing seeds write it")
    parser.add_argument("--shrink", action="store_true", help="make it smaller first")
    told = parser.parse_args(arguments)
    try:
        schedule = read(told.file)
    except (OSError, ScheduleError) as error:
        sys.stderr.write(f"{told.file}: {error}\n")
        return USAGE
    if told.shrink:
        schedule = write_shrunk(schedule, told.file)
    logging.disable(logging.CRITICAL)  # servers that crash are the point here
    try:
        run_schedule(schedule, replay=REPLAY.format(file=told.file))
    except InvariantViolated as error:
        sys.stderr.write(f"{error}\n")
        return BROKEN
    finally:
        logging.disable(logging.NOTSET)
    sys.stdout.write(f"{told.file}: no rule was broken\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
