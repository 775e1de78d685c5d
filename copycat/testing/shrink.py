"""Makes a schedule that fails smaller, as long as it fails in the same way.

What is left in the end is what the failure needs: often two or three faults, two clients, and
nothing that is small without need.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from copycat.testing.fault import Fault
from copycat.testing.schedule import RESTS, Schedule, server_names
from copycat.testing.violation import InvariantViolated
from copycat.testing.worlds import run_schedule

REPLAY = "python -m copycat.testing.replay {file}"
RUNS_MAX = 300
ROUNDS = (1, 2, 4, 8, 16)
PIPELINES_TRIED = (1, 8)
SERVERS_MIN = 3
QUIET_S = 0.1
"""How long the harm goes on after the last fault, when it is shortened to that."""


def failure_kind(schedule: Schedule) -> str | None:
    """Run a schedule; the rule that it breaks, or the kind of error that ended it. None: it is
    well."""
    logging.disable(logging.CRITICAL)  # servers that crash are the point here
    try:
        run_schedule(schedule)
    except InvariantViolated as error:
        return error.rule
    except Exception as error:  # noqa: BLE001 - whatever it is, the world has failed
        return type(error).__name__
    finally:
        logging.disable(logging.NOTSET)
    return None


def fails_alike(schedule: Schedule) -> Callable[[Schedule], bool]:
    """What ``shrink`` needs: whether another schedule fails in the way in which this one does."""
    kind = failure_kind(schedule)
    return lambda other: kind is not None and failure_kind(other) == kind


def shrink(
    schedule: Schedule, fails: Callable[[Schedule], bool], *, runs_max: int = RUNS_MAX
) -> Schedule:
    """The smallest schedule that still fails, as far as taking away single parts leads.

    The same schedule and the same outcomes give the same result.

    Args:
        schedule: fails.
        fails: runs another one; see ``fails_alike``.
        runs_max: how many are run at most; after that the smallest so far is the result.
    """
    left = runs_max
    smallest = schedule
    while True:
        before = smallest
        for step in _STEPS:
            smallest, left = _reduce(smallest, step, fails, left)
        if smallest == before or left == 0:
            return smallest


def write_shrunk(schedule: Schedule, file: Path, *, runs_max: int = RUNS_MAX) -> Schedule:
    """Shrink a schedule that fails, see ``shrink``, and write it to a file, whose directory is
    made."""
    smallest = shrink(schedule, fails_alike(schedule), runs_max=runs_max)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(smallest.to_json())
    return smallest


Step = Callable[[Schedule], Iterator[Schedule]]


def _reduce(
    schedule: Schedule, step: Step, fails: Callable[[Schedule], bool], left: int
) -> tuple[Schedule, int]:
    """Take the first smaller schedule that fails, and begin again with it, until none does."""
    tried: list[Schedule] = []
    found = True
    while found and left:
        found = False
        for smaller in step(schedule):
            if left == 0 or smaller == schedule or smaller in tried:
                continue
            left -= 1
            tried.append(smaller)
            if fails(smaller):
                schedule, found = smaller, True
                break
    return schedule, left


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Halves of a sequence, then quarters, down to single places: from where to where."""
    size = max(1, (count + 1) // 2)
    while count:
        for start in range(0, count, size):
            yield start, min(start + size, count)
        if size == 1:
            return
        size = (size + 1) // 2


def _fewer_faults(schedule: Schedule) -> Iterator[Schedule]:
    faults = schedule.faults
    if faults:
        yield replace(schedule, faults=())
    for start, end in _parts(len(faults)):
        yield replace(schedule, faults=faults[:start] + faults[end:])


def _fewer_clients(schedule: Schedule) -> Iterator[Schedule]:
    clients = schedule.clients
    for start, end in _parts(len(clients)):
        yield replace(schedule, clients=clients[:start] + clients[end:])


def _fewer_rounds(schedule: Schedule) -> Iterator[Schedule]:
    for rounds in ROUNDS:
        if schedule.rounds is None or rounds < schedule.rounds:
            yield replace(schedule, rounds=rounds)


def _fewer_calls(schedule: Schedule) -> Iterator[Schedule]:
    for pipeline in PIPELINES_TRIED:
        if pipeline < schedule.pipeline:
            yield replace(schedule, pipeline=pipeline)


def _fewer_limits(schedule: Schedule) -> Iterator[Schedule]:
    if schedule.limits:
        yield replace(schedule, limits={})
    for name in schedule.limits:
        left = {each: value for each, value in schedule.limits.items() if each != name}
        yield replace(schedule, limits=left)


def _faster(schedule: Schedule) -> Iterator[Schedule]:
    """Work takes no time, or on fewer nodes."""
    if schedule.processors:
        yield replace(schedule, processors={})
    for name in schedule.processors:
        left = {each: scale for each, scale in schedule.processors.items() if each != name}
        yield replace(schedule, processors=left)


def _less_time(schedule: Schedule) -> Iterator[Schedule]:
    last_s = max((fault.at_s for fault in schedule.faults), default=0.0)
    for harm_s in (last_s + QUIET_S, schedule.harm_s / 2):
        if harm_s < schedule.harm_s:
            shorter = round(harm_s, 3)
            faults = tuple(fault for fault in schedule.faults if fault.at_s <= shorter)
            yield replace(schedule, harm_s=shorter, faults=faults)


def _simpler_end(schedule: Schedule) -> Iterator[Schedule]:
    """All servers are mended at once, or at least nothing else is done to the rest."""
    yield replace(schedule, core=schedule.servers)
    yield replace(schedule, rest=RESTS[0])


def _fewer_servers(schedule: Schedule) -> Iterator[Schedule]:
    if schedule.servers <= SERVERS_MIN:
        return
    names = server_names(SERVERS_MIN)
    gone = [name for name in server_names(schedule.servers) if name not in names]
    yield replace(
        schedule,
        servers=SERVERS_MIN,
        mending=tuple(name for name in schedule.mending if name in names),
        core=SERVERS_MIN,
        processors={name: scale for name, scale in schedule.processors.items() if name not in gone},
        faults=tuple(fault for each in schedule.faults for fault in _without(each, gone)),
    )


def _without(fault: Fault, gone: list[str]) -> Iterator[Fault]:
    """A fault in a world without some servers; none when nothing of it is left."""
    where = tuple(name for name in fault.where if name not in gone)
    groups = tuple(tuple(name for name in group if name not in gone) for group in fault.groups)
    whole = fault.kind == "crash all" and where
    if whole or len(where) == len(fault.where):
        yield replace(fault, where=where, groups=tuple(group for group in groups if group))


def _simpler_faults(schedule: Schedule) -> Iterator[Schedule]:
    """Rates of the network are left out one by one, faults are mended at once."""
    for place, fault in enumerate(schedule.faults):
        exchange = partial(_with_fault, schedule, place)
        if fault.kind == "network":
            for name in fault.numbers:
                numbers = {each: rate for each, rate in fault.numbers.items() if each != name}
                yield exchange(replace(fault, numbers=numbers))
        for size in (1, 2):
            rounded = round(fault.at_s, size)
            yield exchange(replace(fault, at_s=rounded))
            if fault.lasts_s is not None:
                yield exchange(replace(fault, lasts_s=round(fault.lasts_s, size)))


def _with_fault(schedule: Schedule, place: int, fault: Fault) -> Schedule:
    faults = list(schedule.faults)
    faults[place] = fault
    return replace(schedule, faults=tuple(faults))


_STEPS: tuple[Step, ...] = (
    _fewer_faults,
    _fewer_clients,
    _fewer_limits,
    _faster,
    _less_time,
    _fewer_rounds,
    _fewer_calls,
    _simpler_end,
    _fewer_servers,
    _simpler_faults,
)
