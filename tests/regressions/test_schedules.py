"""Worlds that once failed, made small: one file each, named after what it shows."""

from pathlib import Path

import pytest

from copycat.testing.schedule import Schedule
from copycat.testing.shrink import REPLAY
from copycat.testing.worlds import run_schedule

FILES = sorted(Path(__file__).parent.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_world_that_failed_does_not_fail_again(file: Path) -> None:
    """No rule is broken in it any more, and every call comes to its end."""
    schedule = Schedule.from_json(file.read_text())
    run_schedule(schedule, replay=REPLAY.format(file=file))
