"""The commands that run many worlds, add them up, and say what has failed or was not reached."""

import importlib
import re
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from copycat.testing import proof, soak
from copycat.testing.fault import KINDS
from copycat.testing.limits import LIMITS
from copycat.testing.reached import COUNTED
from copycat.testing.schedule import Schedule
from copycat.testing.seeds import SeedOutcome, WorldStuckError, outcome_of
from copycat.testing.sums import GOALS, SEEDS_PROVING, Sums
from copycat.testing.worlds import run_schedule
from one_process import OneProcess

DOCUMENT = f"# Tests\n\n{proof.BEGIN_MARK}\nearlier tables\n{proof.END_MARK}\n\nThe end.\n"


@pytest.fixture
def short_worlds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Worlds of half a second, in this process; what they leave behind is not left here."""
    drawn = Schedule.drawn
    monkeypatch.setattr("copycat.testing.seeds.ProcessPoolExecutor", OneProcess)
    monkeypatch.setattr("copycat.testing.seeds.SHRINKING_RUNS_MAX", 2)
    monkeypatch.setattr(Schedule, "drawn", lambda seed, **_: drawn(seed, servers=3, harm_s=0.5))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other world fails."""

    def fail(schedule: Schedule, **_: object) -> object:
        if schedule.seed % 2:
            raise RuntimeError("planted")
        return run_schedule(schedule)

    monkeypatch.setattr("copycat.testing.seeds.run_schedule", fail)
    # The name of this module is that of its function, too.
    monkeypatch.setattr(importlib.import_module("copycat.testing.shrink"), "run_schedule", fail)


def whole() -> Sums:
    """Of a run that proves everything."""
    sums = Sums(seeds=SEEDS_PROVING)
    sums.fields.update(GOALS)
    sums.faults.update(KINDS.keys())
    sums.limits.update(LIMITS.keys())
    sums.reached.update(COUNTED)
    return sums


# Sums.


def test_the_sums_are_those_of_the_worlds() -> None:
    """Every field, fault, limit and branch of the reports, and the failures beside them."""
    outcomes = [outcome_of(3), outcome_of(12)]
    sums = Sums()
    for outcome in (*outcomes, SeedOutcome(99, None, "it was bad", 0.5)):
        sums.add(outcome)
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    assert len(reports) == 2
    assert sums.seeds == 3
    assert sums.failures == {99: "it was bad"}
    assert sums.cpu_s == sum(outcome.cpu_s for outcome in outcomes) + 0.5
    assert sums.fields["checked"] == sum(report.checked for report in reports) > 100
    assert sums.faults.total() == sum(sum(report.faults.values()) for report in reports)
    for name in COUNTED:
        assert sums.reached[name] == sum(report.reached[name] for report in reports)
    kinds = {kind for report in reports for kind, count in report.faults.items() if count}
    assert set(sums.worlds) == kinds >= set(sums.meanwhile)


def test_crashes_and_leaders_are_counted_as_they_are() -> None:
    """A world without faults has none: the restart of all in its reckoning does not count."""
    report = run_schedule(Schedule.drawn(4, servers=3, harm_s=1.0, faults=()))
    assert report.crashes == report.restarts == 0
    assert report.leader_changes == report.reached["leaders elected"] - 1 == 1
    assert report.meanwhile == {}


def test_what_was_not_reached_is_an_objection() -> None:
    """A kind of fault, a small limit, a branch or a sum that is lacking, each by its name; in a
    few worlds anything may be."""
    assert whole().objections() == []
    for field, name, told in (
        ("faults", "bridge", "fault: bridge"),
        ("limits", "readers", "small limit: readers"),
        ("reached", "log truncations", "branch: log truncations"),
    ):
        sums = whole()
        getattr(sums, field)[name] = 0
        assert sums.objections() == [told]
        sums.seeds -= 1
        assert sums.objections() == []
    sums = whole()
    sums.fields["crashes"] -= 1
    assert sums.objections() == ["crashes: 19,999 of 20,000"]
    sums.failures[7] = "it was bad"
    sums.seeds = 1
    assert sums.objections() == ["seed 7 failed"]


# The proof.


@pytest.mark.usefixtures("short_worlds")
def test_the_tables_are_written_between_the_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the commit, in place of what was there; the same is printed."""
    file = tmp_path / "testing.md"
    file.write_text(DOCUMENT)
    arguments = ["--seeds", "2", "--first", "6", "--docs", str(file), "--commit", "abc123"]
    assert proof.main(arguments) == 0
    told, written = capsys.readouterr().out, file.read_text()
    assert told in written
    assert "abc123" in told
    assert re.search(r"^\| seeds \| 2 \|$", told, re.MULTILINE)
    assert re.search(r"^\| violations \| 0 \|$", told, re.MULTILINE)
    for name in COUNTED:
        assert f"| {name} |" in told
    assert "earlier" not in written
    assert written.startswith("# Tests\n")
    assert written.endswith("\n\nThe end.\n")
    assert proof.replaced(written, "old") == proof.replaced(DOCUMENT, "old")


@pytest.mark.parametrize("document", [None, "", proof.END_MARK + proof.BEGIN_MARK])
def test_a_document_without_marks_is_refused_first(
    document: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits eight minutes for tables that have no place."""
    file = tmp_path / "testing.md"
    if document is not None:
        file.write_text(document)
    assert proof.main(["--docs", str(file)]) == proof.USAGE
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("short_worlds", "bug")
def test_a_world_that_fails_fails_the_proof(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told with its seed, and its schedule is left; the others are added up."""
    assert proof.main(["--seeds", "2", "--first", "4"]) == proof.FAILED
    told = capsys.readouterr()
    assert "| seeds | 2 |" in told.out
    assert "| violations | 1 |" in told.out
    assert "seed 5 failed" in told.err
    assert "planted" in told.err
    assert "python -m copycat.testing.replay build/schedules/seed-5.json" in told.err
    assert (tmp_path / "build/schedules/seed-5.json").exists()


def test_a_world_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its tasks catch: what it was doing is told, and the next world can run."""

    def never_end(_schedule: Schedule, **_: object) -> None:
        caught = 0
        while caught < 2:
            try:
                while True:
                    pass
            except WorldStuckError:
                caught += 1
        raise WorldStuckError("at last")

    monkeypatch.setattr("copycat.testing.seeds.WORLD_WALL_S_MAX", 0.01)
    monkeypatch.setattr("copycat.testing.seeds.STUCK_AGAIN_S", 0.01)
    with monkeypatch.context() as stuck:
        stuck.setattr("copycat.testing.seeds.run_schedule", never_end)
        outcome = outcome_of(3)
    assert outcome.report is None
    assert outcome.failure is not None
    assert "never_end" in outcome.failure


# The soak.


@pytest.mark.usefixtures("short_worlds")
def test_a_soak_runs_new_worlds_until_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some at a time, in any case once; the report has the sums of all."""
    now_s = iter(range(0, 10_000, 900))  # a quarter of an hour from look to look
    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    report = tmp_path / "report.md"
    arguments = ["--first", "4", "--at-a-time", "2", "--report", str(report), "--commit", "abc123"]
    assert soak.main([*arguments, "--hours", "0"]) == 0
    assert "| seeds | 2 |" in report.read_text()
    assert soak.main([*arguments, "--hours", "1"]) == 0
    told = report.read_text()
    assert "seeds 4 to 7, 0 failed" in told
    assert "| seeds | 4 |" in told
    assert "abc123" in told


@pytest.mark.usefixtures("short_worlds", "bug")
def test_a_soak_survives_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are in the report, with what is left of their schedules, and in the exit code."""
    report = tmp_path / "soak" / "report.md"
    monkeypatch.setattr(soak, "SHRUNK_MAX", 1)
    arguments = ["--first", "4", "--at-a-time", "4", "--report", str(report), "--hours", "0"]
    assert soak.main(arguments) == proof.FAILED
    told = report.read_text()
    assert "seeds 4 to 7, 2 failed" in told
    assert "## Seed 5" in told
    assert "## Seed 7" in told
    assert told.count("planted") >= 2
    assert (report.parent / "seed-5.json").exists()
    assert not (report.parent / "seed-7.json").exists()


@pytest.mark.usefixtures("short_worlds")
def test_a_soak_survives_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies is a failure of the worlds it ran, and the next ones are run."""

    def die(seeds: range, **_: object) -> object:
        if seeds.start == 4:
            raise BrokenExecutor("it died")
        return map(outcome_of, seeds)

    now_s = iter(range(0, 10_000, 900))
    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    monkeypatch.setattr(soak, "outcomes_of", die)
    report = tmp_path / "report.md"
    arguments = ["--first", "4", "--at-a-time", "1", "--report", str(report), "--hours", "1"]
    assert soak.main(arguments) == proof.FAILED
    told = report.read_text()
    assert "a process died at seed 4" in told
    assert "seeds 4 to 5, 1 failed" in told
