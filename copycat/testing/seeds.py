"""One seed, one world: a cluster with clients, harm for a while, repair, and then the reckoning.

>>> report = run_seed(17)  # doctest: +SKIP
>>> report.trace_hash == run_seed(17).trace_hash  # doctest: +SKIP
True
"""

import logging
import multiprocessing
import traceback
from collections.abc import Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from copycat.actors.simulation import Simulation
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.faults import FaultDriver
from copycat.testing.limits import small_limits
from copycat.testing.search import Verdict
from copycat.testing.workload import Workload

HARM_S = 6.0
PROGRESS_WITHIN_S = 60.0
"""How long after the last repair every call must have ended, in virtual time.

An election takes a second. But a connection that was cut is given up after 30 seconds, and so is
one to a server that crashed without a word.
"""

COMMAND = "python -c 'from copycat.testing.seeds import run_seed; run_seed({seed})'"


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What became of one world in which no rule was broken."""

    seed: int
    servers: int
    trace_hash: int
    virtual_s: float
    events: int
    terms: int  # the highest term
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


def run_seed(
    seed: int,
    *,
    servers: int = 0,
    harm_s: float = HARM_S,
    faults: Collection[str] | None = None,
    replay: str = COMMAND,
) -> SeedReport:
    """Run one world.

    Args:
        seed: decides everything.
        servers: how many; 0: 3 or 5, by the seed.
        harm_s: how long faults happen, in virtual time.
        faults: which kinds; None: some, by the seed.
        replay: the command that a failure names, with ``{seed}`` in it.

    Raises:
        InvariantViolated: a rule was broken; the error tells the story.
        TimeoutError: after the repair there was no progress.
        Exception: what made a server fail.
    """
    with Simulation(seed) as simulation, small_limits(simulation.random_for("limits")) as limits:
        cluster = SimulatedCluster(simulation, servers=servers or (3, 5)[seed % 2])
        monitors = cluster.monitors
        assert monitors is not None, "a cluster is monitored unless told otherwise"
        monitors.story.replay = replay.format(seed=seed)
        driver = FaultDriver(cluster, simulation.random_for("faults"), faults)
        workload = Workload(
            cluster, simulation.random_for("workload"), refusals_hold=not driver.doubles
        )
        cluster.start()

        async def harm() -> None:
            await cluster.until(cluster.leader)
            await driver.run(harm_s)
            driver.repair()

        simulation.run(workload.run(harm, PROGRESS_WITHIN_S))
        monitors.story.tell("the workload", "has come to its end")
        cluster.run(workload.look_again(), PROGRESS_WITHIN_S)
        # The sessions of clients that crashed expire while nobody does anything.
        cluster.run_until(lambda: not _sessions(cluster), PROGRESS_WITHIN_S)
        cluster.settle(PROGRESS_WITHIN_S)
        cluster.restart()
        cluster.run(workload.look_again(), PROGRESS_WITHIN_S)
        monitors.check_all()
        histories = workload.check_histories()
        return SeedReport(
            seed=seed,
            servers=len(cluster.names),
            trace_hash=simulation.trace_hash,
            virtual_s=simulation.now_s,
            events=simulation.events,
            terms=max(monitors.leaders),
            commands=monitors.applied.commands,
            calls=workload.calls,
            not_applied=workload.not_applied,
            unknown=workload.unknown,
            checked=sum(report.operations for report in histories),
            undecided=sum(report.verdict is Verdict.UNKNOWN for report in histories),
            grants=workload.grants,
            heard=workload.heard,
            faults=driver.done,
            limits=tuple(limits),
        )


def failure_of(seed: int, replay: str = COMMAND) -> str | None:
    """Run one world; what went wrong, as text that can cross processes, or None."""
    logging.disable(logging.CRITICAL)  # servers that crash are the point here
    try:
        run_seed(seed, replay=replay)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed has failed
        told = "".join(traceback.format_exception(error))
        return f"seed {seed} failed; replay: {replay.format(seed=seed)}\n{told}"
    finally:
        logging.disable(logging.NOTSET)
    return None


def failures_of(
    seeds: Iterable[int], *, processes: int | None = None, replay: str = COMMAND
) -> list[str]:
    """Run many worlds, in several processes: what ``failure_of`` said of those that failed.

    Args:
        seeds: which.
        processes: how many at a time; None: one for each core.
        replay: as for ``run_seed``.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        told = pool.map(partial(failure_of, replay=replay), seeds, chunksize=4)
        return [failure for failure in told if failure is not None]


def _sessions(cluster: SimulatedCluster) -> int:
    """How many sessions there are on the server that has most."""
    return max(len(cluster.server(name).progress.sequences) for name in cluster.running)
