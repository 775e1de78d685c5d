"""The bench of the simulated world measures what it says, and its monitors only look on."""

import subprocess
import sys
from contextlib import nullcontext

import pytest

from bench.simulation import OTHERS, blind, part_of, run_all
from sources import ROOT

WITHIN_S = 120


@pytest.mark.parametrize("number", range(4))
def test_monitors_change_nothing(number: int) -> None:
    """A world that is watched has the same events, at the same times, as one that is not."""
    assert run_all([number], nullcontext).traces == run_all([number], blind).traces


def test_one_world_makes_a_table() -> None:
    """Rates with monitors and without, and the parts of the time, add up to something."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench.simulation", "--seeds", "1", "--passes", "1"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=WITHIN_S,
    )
    assert ran.returncode == 0, ran.stderr
    assert "| with all monitors |" in ran.stdout
    rows = [line.split("|") for line in ran.stdout.splitlines() if line.endswith("% |")]
    assert 90 <= sum(int(row[2].strip(" %")) for row in rows) <= 110


def test_every_module_of_ours_has_a_part() -> None:
    """The time of code that no part names would count as that of Python's library."""
    folders = ("actors", "client", "machine", "protocol", "resources", "server", "storage")
    files = [
        file
        for folder in (*folders, "testing")
        for file in (ROOT / "copycat" / folder).glob("*.py")
    ]
    assert [file for file in files if part_of(str(file)) == OTHERS] == []
