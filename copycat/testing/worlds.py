"""Runs one world as its schedule says: harm for a while, progress of a part, repair, the reckoning.

First the servers and clients have to keep every rule while faults happen. Then the faults end for
some of the servers, a majority but not all, and for all clients: every call must end in a stated
time. Then everything is repaired, and all servers that have not lost their disks must come to the
same end, and keep it.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

from copycat.actors.simulation import Simulation
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.costs import charging
from copycat.testing.faults import FaultDriver
from copycat.testing.limits import small_limits
from copycat.testing.reached import Reached
from copycat.testing.schedule import Schedule
from copycat.testing.search import Verdict
from copycat.testing.workload import Workload
from copycat.types import Term

PROGRESS_WITHIN_S = 60.0
"""How long after the last repair every call must have ended, in virtual time.

An election takes a second. But a connection that was cut is given up after 30 seconds, and so is
one to a server that crashed without a word.
"""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What became of one world in which no rule was broken."""

    seed: int
    servers: int
    trace_hash: int
    virtual_s: float
    events: int
    terms: int  # the highest term
    leader_changes: int  # how often another server led, or the same one in another life
    crashes: int  # of servers, as far as faults have caused them
    restarts: int  # of servers, likewise
    commands: int  # different ones that were applied
    calls: int  # that returned to clients
    not_applied: int  # that were refused
    unknown: int  # operations of which nobody knows whether they happened
    checked: int  # operations in histories that are linearizable
    undecided: int  # histories of which only the log says so
    grants: int  # of the lock
    heard: int  # events that clients were told
    faults: dict[str, int]
    limits: tuple[str, ...]  # that were small
    reached: dict[str, int]  # how often each of ``reached.COUNTED`` was
    meanwhile: dict[str, dict[str, int]]  # the same under each kind of fault
    lost: tuple[str, ...]  # servers that were damaged or wiped, and stayed out
    core_s: float  # when the part that was mended first had done all its work


def run_schedule(schedule: Schedule, *, replay: str = "") -> SeedReport:
    """Run one world, as it is planned.

    Args:
        schedule: decides everything.
        replay: the command that a failure names.

    Raises:
        InvariantViolated: a rule was broken; the error tells the story.
        TimeoutError: after the repair there was no progress.
        Exception: what made a server fail.
    """
    reached = Reached()
    with (
        _without_garbage_collector(),
        small_limits(schedule.limits),
        reached.watching(),
        charging() if schedule.processors else nullcontext(),
        Simulation(schedule.seed, processors=schedule.processors) as simulation,
    ):
        cluster = SimulatedCluster(simulation, servers=schedule.servers)
        monitors = cluster.monitors
        assert monitors is not None, "a cluster is monitored unless told otherwise"
        monitors.story.replay = replay
        workload = Workload(
            cluster,
            simulation.random_for("workload"),
            clients=schedule.clients,
            rounds=schedule.rounds,
            pipeline=schedule.pipeline,
            refusals_hold=not any(fault.numbers.get("duplicate") for fault in schedule.faults),
            reached=reached,
        )
        driver = FaultDriver(
            cluster,
            schedule.faults,
            crash_client=workload.crash,
            pause_client=workload.paused,
        )
        reached.in_force = driver.in_force
        cluster.start()

        async def harm() -> None:
            await cluster.until(cluster.leader)
            await driver.run(schedule.harm_s)
            driver.mend(schedule.mending, schedule.core, schedule.rest)

        simulation.run(workload.run(harm, PROGRESS_WITHIN_S))
        monitors.story.tell("the workload", "has come to its end")
        cluster.run(workload.look_again(), PROGRESS_WITHIN_S)
        core_s = simulation.now_s
        driver.repair()
        by_faults = cluster.crashes, cluster.restarts
        _reckon(cluster, driver, workload)
        monitors.check_all()
        return _report(schedule, cluster, driver, workload, reached, by_faults, core_s)


@contextmanager
def _without_garbage_collector() -> Iterator[None]:
    """A world is small and nearly all of it lives until its end: to look through it again and again
    takes a fifteenth of the time, and finds next to nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _reckon(cluster: SimulatedCluster, driver: FaultDriver, workload: Workload) -> None:
    """Everything is repaired: all servers that can must come to the same end, and keep it."""
    # The sessions of clients that crashed expire while nobody does anything.
    cluster.run_until(lambda: not _sessions(cluster), PROGRESS_WITHIN_S)
    cluster.settle(PROGRESS_WITHIN_S)
    driver.restart()
    cluster.run(workload.look_again(), PROGRESS_WITHIN_S)


def _report(
    schedule: Schedule,
    cluster: SimulatedCluster,
    driver: FaultDriver,
    workload: Workload,
    reached: Reached,
    by_faults: tuple[int, int],
    core_s: float,
) -> SeedReport:
    simulation, monitors = cluster.simulation, cluster.monitors
    assert monitors is not None, "a cluster is monitored unless told otherwise"
    histories = workload.check_histories()
    return SeedReport(
        seed=schedule.seed,
        servers=schedule.servers,
        trace_hash=simulation.trace_hash,
        virtual_s=simulation.now_s,
        events=simulation.events,
        terms=max(monitors.leaders),
        leader_changes=_changes(monitors.leaders),
        crashes=by_faults[0],
        restarts=by_faults[1],
        commands=monitors.applied.commands,
        calls=workload.calls,
        not_applied=workload.not_applied,
        unknown=workload.unknown,
        checked=sum(report.operations for report in histories),
        undecided=sum(report.verdict is Verdict.UNKNOWN for report in histories),
        grants=workload.grants,
        heard=workload.heard,
        faults=dict(driver.done),
        limits=tuple(schedule.limits),
        reached=dict(reached.counts),
        meanwhile={kind: dict(counts) for kind, counts in reached.meanwhile.items()},
        lost=tuple(sorted(driver.lost)),
        core_s=core_s,
    )


def _changes(leaders: Mapping[Term, tuple[str, int]]) -> int:
    """How often the leader of a term was not that of the one before."""
    in_order = [leaders[term] for term in sorted(leaders)]
    return sum(one != other for one, other in pairwise(in_order))


def _sessions(cluster: SimulatedCluster) -> int:
    """How many sessions there are on the server that has most."""
    return max(len(cluster.server(name).progress.sequences) for name in cluster.running)
