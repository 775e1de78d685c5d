"""Whole clusters under faults, one world a seed, with every rule checked after every event."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from copycat.testing.faults import FaultDriver
from copycat.testing.proof import figures, prove, tell_failures
from copycat.testing.seeds import run_seed

SEEDS_BY_DEFAULT = 200
SCHEDULES = Path("build/schedules")
REPLAY = "make test SEED={seed} ONLY=test_seeds"


@pytest.mark.timeout(1800)
def test_seeds() -> None:
    """Crashes, cuts, loss, failing disks and wrong clocks break no rule, and nothing hangs after.

    Of as many worlds as `make check` runs, every fault, small limit and rare branch was reached,
    and they come to what the tests claim to try.
    """
    only = os.environ.get("COPYCAT_SEED")
    if only:
        run_seed(int(only), replay=REPLAY)
        return
    # The other tests that take seeds have enough of fewer than `make check` runs here.
    told = os.environ.get("COPYCAT_WORLDS") or os.environ.get("COPYCAT_SEEDS")
    sums = prove(range(int(told or SEEDS_BY_DEFAULT)), replay=REPLAY)
    print(figures(sums))
    tell_failures(sums, SCHEDULES)
    if objections := sums.objections():
        pytest.fail("\n".join(objections), pytrace=False)


def test_worlds_are_worth_their_while() -> None:
    """A few seeds together have elections, refusals, doubts, grants and events; none is idle, and
    what its clients have seen is checked."""
    reports = [run_seed(seed) for seed in (3, 19, 20, 24)]
    assert {report.servers for report in reports} == {3, 5}
    assert all(report.terms > 1 for report in reports)
    assert all(report.commands > 50 for report in reports)
    assert all(report.checked > 100 and not report.undecided for report in reports)
    assert sum(report.not_applied for report in reports) > 0
    assert sum(report.unknown for report in reports) > 0
    assert sum(report.grants for report in reports) > 0
    assert sum(report.heard for report in reports) > 0
    assert all(sum(report.faults.values()) > 0 for report in reports)


def test_worlds_give_the_garbage_collector_back() -> None:
    """They run without it, and those that fail do so, too."""
    seen = []

    def failing(*_: object, **__: object) -> None:
        seen.append(gc.isenabled())
        raise RuntimeError("nothing is mended")

    with (
        patch.object(FaultDriver, "mend", failing),
        pytest.raises(RuntimeError, match="nothing is mended"),
    ):
        run_seed(3)
    assert seen == [False]
    assert gc.isenabled()


@pytest.mark.parametrize("world", [8, 9])
def test_a_seed_decides_everything(world: int) -> None:
    """Processes that hash differently have the same world; seed 8 also encodes what stays at home."""
    reports = {report_of(world, hash_seed) for hash_seed in ("1", "2")}
    assert len(reports) == 1
    assert f"seed={world}" in reports.pop()


def test_another_seed_is_another_world() -> None:
    """Or the test above would show nothing."""
    assert run_seed(8).trace_hash != run_seed(9).trace_hash


def report_of(seed: int, hash_seed: str) -> str:
    """The report of a world in a process of its own, its trace's hash included."""
    program = f"from copycat.testing.seeds import run_seed; print(run_seed({seed}))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout
