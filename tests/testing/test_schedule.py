"""Schedules: drawn by a seed, written and read, and run as they say."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from copycat.actors.simulation import Simulation
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.drawing import draw_faults
from copycat.testing.fault import CLIENT_KINDS, KINDS, LEADER, Fault
from copycat.testing.faults import FaultDriver
from copycat.testing.limits import LIMITS
from copycat.testing.schedule import CLIENTS, Schedule, ScheduleError
from copycat.testing.worlds import run_schedule

DRAWN = [Schedule.drawn(seed) for seed in range(300)]


def test_a_seed_always_draws_the_same() -> None:
    """And another one something else."""
    assert Schedule.drawn(7) == Schedule.drawn(7) == DRAWN[7]
    assert Schedule.drawn(7) != replace(Schedule.drawn(8), seed=7)


def test_what_is_written_is_read() -> None:
    """Every schedule is the same after it was written as text and read."""
    for schedule in DRAWN:
        assert Schedule.from_json(schedule.to_json()) == schedule


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "not of format 1"),
        ({"faults": [{"kind": "meteor", "at_s": 1.0}]}, "meteor"),
        ({"faults": [{"kind": "crash", "at_s": 1.0, "how": "hard"}]}, "has no how"),
        ({"faults": [{"kind": "crash"}]}, "at_s"),
        ({"limits": {"patience": 1}}, "patience"),
        ({"clients": ["dancer1"]}, "dancer1"),
        ({"mending": ["n9"]}, "n9"),
        ({"rest": "asleep"}, "asleep"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_run_is_refused(change: dict[str, object], told: str) -> None:
    """The error names what is not known; nothing is guessed."""
    text = json.dumps({**json.loads(DRAWN[3].to_json()), **change})
    with pytest.raises(ScheduleError, match=told):
        Schedule.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", "17", "no schedule"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    """Whatever the text is, the error is one."""
    with pytest.raises(ScheduleError):
        Schedule.from_json(text)


def test_each_world_has_faults_of_its_own() -> None:
    """Every kind and every limit is drawn, none in all worlds, and some worlds have few kinds."""
    kinds = [{fault.kind for fault in schedule.faults} for schedule in DRAWN]
    drawn = Counter(kind for world in kinds for kind in world)
    assert drawn.keys() == KINDS.keys()
    assert max(drawn.values()) < len(DRAWN) * 0.9
    assert min(len(world) for world in kinds) <= 1
    assert max(len(world) for world in kinds) >= len(KINDS) / 3
    limits = Counter(name for schedule in DRAWN for name in schedule.limits)
    assert limits.keys() == LIMITS.keys()
    assert any(not schedule.limits for schedule in DRAWN)
    assert {schedule.rest for schedule in DRAWN} == {"as they are", "stopped", "deaf"}


def test_progress_is_demanded_of_a_majority_that_is_not_all() -> None:
    """For three servers that is two, for five three or four; in any combination."""
    cores = {(schedule.servers, schedule.core) for schedule in DRAWN}
    assert cores == {(3, 2), (5, 3), (5, 4)}
    assert len({schedule.mending[:2] for schedule in DRAWN if schedule.servers == 3}) == 6


def test_only_what_was_asked_for_is_drawn() -> None:
    """The kinds can be chosen, the time is kept, and without clients none is harmed."""
    some = Schedule.drawn(5, faults=("crash", "ring"), harm_s=20.0)
    assert {fault.kind for fault in some.faults} == {"crash", "ring"}
    assert 0.0 < some.faults[0].at_s < some.faults[-1].at_s < 20.0
    assert not Schedule.drawn(5, faults=()).faults
    for schedule in DRAWN:
        faults = draw_faults(schedule_chance(schedule), ("n1", "n2", "n3"), (), 5.0)
        places = {name for fault in faults for name in (*fault.where, *sum(fault.groups, ()))}
        assert places <= {"n1", "n2", "n3", "leader"}
        assert not {fault.kind for fault in faults} & set(CLIENT_KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_happens_and_is_counted(kind: str) -> None:
    """A world that has just this one is well, and reports how often it was done."""
    for seed in range(8):
        drawn = Schedule.drawn(seed, servers=3, harm_s=3.0, faults=(kind,))
        clients = CLIENTS if kind in CLIENT_KINDS else ("count1", "lock1", "write1")
        report = run_schedule(replace(drawn, clients=clients))
        assert set(report.faults) <= {kind}
        if report.faults.get(kind):
            return
    pytest.fail(f"{kind} never applied")


def test_slow_clients_are_so_from_every_server_and_fill_their_links() -> None:
    """In some worlds and not in most; a link is full there with whatever waits."""
    slow = [
        schedule
        for schedule in DRAWN
        if any(f.kind == "clog" and f.at_s == 0.0 and len(f.where) == 1 for f in schedule.faults)
    ]
    assert len(DRAWN) / 20 < len(slow) < len(DRAWN) / 2
    assert all("event_backlog_bytes" in schedule.limits for schedule in slow)


@pytest.mark.parametrize("where", [("n2", "read1"), ("read1",)])
def test_a_clog_is_of_one_link_or_of_all_to_a_client(where: tuple[str, ...]) -> None:
    """What goes there waits until it is unclogged; what goes elsewhere does not."""
    with Simulation(1) as simulation:
        cluster = SimulatedCluster(simulation)
        driver = FaultDriver(cluster, ())
        numbers = {"bytes_per_s": 500.0, "waiting_bytes": 1_000.0}
        unclog = driver.begin(Fault("clog", 0.0, 1.0, where, numbers=numbers))
        sources = where[:-1] or ("n1", "n2", "n3")
        assert simulation.network._clogs.keys() == {(name, "read1") for name in sources}
        assert unclog is not None
        unclog()
        assert simulation.network.is_well()


def test_a_schedule_decides_everything() -> None:
    """Read from text, it is the same world to the last byte on the wire."""
    schedule = replace(Schedule.drawn(11), harm_s=2.0)
    again = Schedule.from_json(schedule.to_json())
    assert run_schedule(schedule).trace_hash == run_schedule(again).trace_hash


def test_a_fault_that_does_not_apply_is_skipped() -> None:
    """A leader that is not there, servers that are down, clients who are not: nothing happens."""
    numbers = {"machine": 0.0}
    schedule = replace(
        Schedule.drawn(3, servers=3, harm_s=2.0),
        clients=("count1",),
        faults=(
            Fault("crash all", 0.5, 1.0, where=("n1", "n2", "n3"), numbers=numbers),
            Fault("crash", 0.6, 0.1, where=("n2",), numbers=numbers),
            Fault("crash leader", 0.6, 0.1, where=(LEADER,), numbers=numbers),
            Fault("isolate leader", 0.6, 0.1, groups=((LEADER,), ("n1", "n2", "n3"))),
            Fault("client crash", 0.6, where=("lock1",)),
        ),
    )
    report = run_schedule(schedule)
    assert {kind: count for kind, count in report.faults.items() if count} == {"crash all": 1}
    assert len(report.faults) == 5


def schedule_chance(schedule: Schedule) -> random.Random:
    return random.Random(schedule.seed)
