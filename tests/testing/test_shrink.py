"""Shrinking: what is left of a world that fails is what its failure needs."""

from dataclasses import replace
from pathlib import Path

import pytest

from copycat.testing import replay
from copycat.testing.schedule import CLIENTS, Schedule
from copycat.testing.seeds import failures_of
from copycat.testing.shrink import fails_alike, failure_kind, shrink, write_shrunk
from one_process import OneProcess
from planted_bugs import BUGS

LARGE = next(
    schedule
    for seed in range(1, 1_000)
    for schedule in (Schedule.drawn(seed),)
    if len(schedule.faults) > 20 and len(schedule.limits) > 3 and schedule.servers == 5
)
BUG = next(bug for bug in BUGS if bug.name == "old token")


def test_only_what_the_failure_needs_is_left() -> None:
    """A world that fails for two faults and one client in time has nothing else in the end."""
    needed = (LARGE.faults[3], LARGE.faults[17])

    def fails(schedule: Schedule) -> bool:
        kept = tuple(fault for fault in schedule.faults if fault in needed)
        return kept == needed and "lock1" in schedule.clients and schedule.rounds != 1

    needed_only = shrink(LARGE, fails)
    assert needed_only.faults == needed
    assert needed_only.clients == ("lock1",)
    assert needed_only.rounds == 2
    assert not needed_only.limits
    assert needed_only.harm_s < LARGE.harm_s
    assert needed_only.rest == "as they are"


def test_a_world_that_fails_for_nothing_in_it_becomes_empty() -> None:
    """No faults, no clients, no limits and three servers: nothing can be taken from that."""
    smallest = shrink(LARGE, lambda schedule: True)
    assert (smallest.faults, smallest.clients, dict(smallest.limits)) == ((), (), {})
    assert (smallest.servers, smallest.core, smallest.rounds) == (3, 3, 1)


def test_shrinking_goes_the_same_way_every_time_and_ends_in_time() -> None:
    """The same schedules are run in the same order, and never more than are allowed."""
    ways: list[list[Schedule]] = []
    for runs_max in (300, 300, 7):
        way: list[Schedule] = []

        def fails(schedule: Schedule, way: list[Schedule] = way) -> bool:
            way.append(schedule)
            return LARGE.faults[9] in schedule.faults

        shrink(LARGE, fails, runs_max=runs_max)
        ways.append(way)
    assert ways[0] == ways[1]
    assert ways[2] == ways[0][:7]
    assert len(ways[0]) < 150


def test_what_does_not_fail_is_not_shrunk() -> None:
    """Without a failure there is nothing to keep, and the schedule stays as it is."""
    schedule = Schedule.drawn(4, servers=3, harm_s=0.5)
    assert failure_kind(schedule) is None
    assert shrink(schedule, fails_alike(schedule), runs_max=3) == schedule


def test_a_planted_bug_shrinks_to_a_handful(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It still breaks the same rule; its file replays it as long as the bug is there."""
    file = tmp_path / "schedules" / "planted.json"
    drawn = Schedule.drawn(LARGE.seed, servers=3, harm_s=2.0)
    with BUG.planted():
        kind = failure_kind(drawn)
        assert kind == BUG.rules[0]
        smallest = write_shrunk(drawn, file)
        assert failure_kind(smallest) == kind
        assert replay.main([str(file)]) == replay.BROKEN
    told = capsys.readouterr().err
    assert told.startswith(kind)
    assert told.rstrip().endswith(f"replay: python -m copycat.testing.replay {file}")
    assert len(smallest.faults) <= 3 < len(drawn.faults)
    assert len(smallest.clients) <= 2 < len(CLIENTS)
    assert not smallest.limits
    assert replay.main([str(file)]) == 0
    assert "no rule was broken" in capsys.readouterr().out


def test_a_file_that_is_no_schedule_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with 2, as for any wrong use, whether there is a file or not."""
    file = tmp_path / "none.json"
    for content in (None, "{}"):
        if content is not None:
            file.write_text(content)
        assert replay.main([str(file)]) == replay.USAGE
        assert capsys.readouterr().err.count("\n") == 1


def test_a_seed_that_fails_leaves_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where it is and how to run it; worlds that are well leave nothing."""
    monkeypatch.setattr("copycat.testing.seeds.ProcessPoolExecutor", OneProcess)
    monkeypatch.setattr(
        Schedule, "drawn", lambda seed, **_: replace(SHORT, seed=seed), raising=True
    )
    assert failures_of([5], schedules=tmp_path) == []
    assert not list(tmp_path.iterdir())
    with BUG.planted():
        (told,) = failures_of([5], schedules=tmp_path)
    file = tmp_path / "seed-5.json"
    assert f"replay: python -m copycat.testing.replay {file}" in told
    assert Schedule.from_json(file.read_text()).seed == 5


SHORT = replace(Schedule.drawn(5, servers=3, harm_s=1.0, faults=()), clients=("lock1",), limits={})
