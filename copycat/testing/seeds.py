"""Many worlds: each is drawn from a seed, run, and when it fails it is made smaller.

>>> report = run_seed(17)  # doctest: +SKIP
>>> report.trace_hash == run_seed(17).trace_hash  # doctest: +SKIP
True
"""

import logging
import multiprocessing
import traceback
from collections.abc import Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from copycat.testing.schedule import HARM_S, Schedule
from copycat.testing.shrink import REPLAY, write_shrunk
from copycat.testing.worlds import SeedReport, run_schedule

SHRINKING_RUNS_MAX = 100

COMMAND = "python -c 'from copycat.testing.seeds import run_seed; run_seed({seed})'"


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
    seeds: Iterable[int],
    *,
    processes: int | None = None,
    replay: str = COMMAND,
    schedules: Path | None = None,
) -> list[str]:
    """Run many worlds, in several processes: what ``failure_of`` said of those that failed.

    Args:
        seeds: which.
        processes: how many at a time; None: one for each core.
        replay: as for ``run_seed``.
        schedules: a directory, to which the first schedule that fails is written when it has been
            made as small as it gets; None: it is not.
    """
    numbers = list(seeds)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        told = list(pool.map(partial(failure_of, replay=replay), numbers, chunksize=4))
    failed = [(seed, failure) for seed, failure in zip(numbers, told, strict=True) if failure]
    failures = [failure for _, failure in failed]
    if failed and schedules is not None:
        failures[0] += _shrunk(failed[0][0], schedules)
    return failures


def _shrunk(seed: int, directory: Path) -> str:
    file = directory / f"seed-{seed}.json"
    schedule = Schedule.drawn(seed)
    smallest = write_shrunk(schedule, file, runs_max=SHRINKING_RUNS_MAX)
    return (
        f"as small as it gets: {len(smallest.faults)} of {len(schedule.faults)} faults,"
        f" {len(smallest.clients)} of {len(schedule.clients)} clients;"
        f" replay: {REPLAY.format(file=file)}\n"
    )
