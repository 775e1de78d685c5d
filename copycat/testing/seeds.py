"""Many worlds: each is drawn from a seed, run, and when it fails it is made smaller.

>>> report = run_seed(17)  # doctest: +SKIP
>>> report.trace_hash == run_seed(17).trace_hash  # doctest: +SKIP
True
"""

import logging
import multiprocessing
import signal
import time
import traceback
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from copycat.testing.schedule import HARM_S, Schedule
from copycat.testing.shrink import REPLAY, write_shrunk
from copycat.testing.worlds import SeedReport, run_schedule

SHRINKING_RUNS_MAX = 100
WORLD_WALL_S_MAX = 300.0
"""A world that takes longer than this, where one takes a second, will never end."""

STUCK_AGAIN_S = 1.0

COMMAND = "python -c 'from copycat.testing.seeds import run_seed; run_seed({seed})'"


@dataclass(frozen=True, slots=True)
class SeedOutcome:
    """What became of the world of one seed; it can cross processes.

    Attributes:
        seed: which.
        report: of a world in which no rule was broken; None: one was, or it has failed otherwise.
        failure: what went wrong, as text; None: nothing did.
        cpu_s: how long the processor has worked for it.
    """

    seed: int
    report: SeedReport | None
    failure: str | None
    cpu_s: float


class WorldStuckError(BaseException):
    """A world takes so long that it may never end. Nothing in that world may catch it."""


def run_seed(
    seed: int,
    *,
    servers: int = 0,
    harm_s: float = HARM_S,
    faults: Collection[str] | None = None,
    replay: str = COMMAND,
) -> SeedReport:
    """Run the world of a seed, see ``Schedule.drawn`` and ``run_schedule``.

    Args:
        seed: decides everything.
        servers: how many; 0: 3 or 5, by the seed.
        harm_s: how long faults happen, in virtual time.
        faults: which kinds; None: some, by the seed.
        replay: the command that a failure names, with ``{seed}`` in it.
    """
    schedule = Schedule.drawn(seed, servers=servers, harm_s=harm_s, faults=faults)
    return run_schedule(schedule, replay=replay.format(seed=seed))


def outcome_of(seed: int, replay: str = COMMAND) -> SeedOutcome:
    """Run one world, and survive it."""
    logging.disable(logging.CRITICAL)  # servers that crash are the point here
    report, failure = None, None
    began_s = time.process_time()
    try:
        with _limited(WORLD_WALL_S_MAX):
            report = run_seed(seed, replay=replay)
    except (Exception, WorldStuckError) as error:  # noqa: BLE001 - whatever it is, it has failed
        told = "".join(traceback.format_exception(error))
        failure = f"seed {seed} failed; replay: {replay.format(seed=seed)}\n{told}"
    finally:
        logging.disable(logging.NOTSET)
    return SeedOutcome(seed, report, failure, time.process_time() - began_s)


def outcomes_of(
    seeds: Iterable[int], *, processes: int | None = None, replay: str = COMMAND
) -> Iterator[SeedOutcome]:
    """Run many worlds, in several processes; gives the outcomes in the order of the seeds.

    Args:
        seeds: which.
        processes: how many at a time; None: one for each core.
        replay: as for ``run_seed``.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        yield from pool.map(partial(outcome_of, replay=replay), list(seeds), chunksize=4)


def failures_of(
    seeds: Iterable[int],
    *,
    processes: int | None = None,
    replay: str = COMMAND,
    schedules: Path | None = None,
) -> list[str]:
    """Run many worlds, in several processes; says of each that failed what went wrong.

    Args:
        seeds: which.
        processes: how many at a time; None: one for each core.
        replay: as for ``run_seed``.
        schedules: a directory, to which the first schedule that fails is written when it has been
            made as small as it gets; None: it is not.
    """
    outcomes = outcomes_of(seeds, processes=processes, replay=replay)
    failed = [(each.seed, each.failure) for each in outcomes if each.failure is not None]
    failures = [failure for _, failure in failed]
    if failed and schedules is not None:
        failures[0] += shrunk(failed[0][0], schedules)
    return failures


def shrunk(seed: int, directory: Path) -> str:
    """Make the schedule of a seed that fails smaller, and write it to ``seed-N.json`` in a
    directory; says how far that went, and how to run it."""
    file = directory / f"seed-{seed}.json"
    schedule = Schedule.drawn(seed)
    smallest = write_shrunk(schedule, file, runs_max=SHRINKING_RUNS_MAX)
    return (
        f"as small as it gets: {len(smallest.faults)} of {len(schedule.faults)} faults,"
        f" {len(smallest.clients)} of {len(schedule.clients)} clients;"
        f" replay: {REPLAY.format(file=file)}\n"
    )


@contextmanager
def _limited(wall_s: float) -> Iterator[None]:
    """Raise ``WorldStuckError`` out of what takes longer, and says where it was."""

    def stuck(_signal: int, frame: FrameType | None) -> None:
        raise WorldStuckError("".join(traceback.format_stack(frame)[-3:]))

    before = signal.signal(signal.SIGALRM, stuck)
    # Again and again, for a task of the loop may have swallowed the first one.
    signal.setitimer(signal.ITIMER_REAL, wall_s, STUCK_AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
