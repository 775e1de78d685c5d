"""``python -m bench.simulation``: how many simulated events a second a core gets through.

An *event* is a delivery between nodes, a timer, or a disk operation that ends. The worlds are those
that the first seeds make for the tests, with faults, clients and checked histories. Each runs with
monitors and without; monitors must not change what happens, so both must have the same events.

Without options the figures go to docs/testing.md as well.
"""

import argparse
import cProfile
import datetime as dt
import logging
import pstats
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from statistics import median
from typing import Any
from unittest.mock import patch

from bench.measuring import commit, machine
from bench.table import replace_between
from copycat.client.asynchronous import AsyncClient
from copycat.testing import cluster
from copycat.testing.monitors import Monitors
from copycat.testing.seeds import run_seed

SEEDS = 16
SEEDS_PROFILED = 6  # a profiler makes all slower by a factor of 3
PASSES = 3
TARGET_PER_S = 15_000
ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- event rate: begin -->", "<!-- event rate: end -->"

OTHERS = "Python's library: asyncio above all"
PARTS = {
    "the simulated world: time, network, disks": ("actors/simulat",),
    "messages: codec, frames, addresses": (
        "actors/codec", "actors/frame", "actors/message", "actors/address",
    ),
    "actors: mailboxes and turns": ("actors/",),
    "storage": ("storage/",),
    "servers and state machines": ("server/", "machine/", "resources/", "protocol/"),
    "clients": ("client/",),
    "monitors": (
        "testing/monitors", "testing/applied", "testing/told", "testing/ledger",
        "testing/replicated_state", "testing/said", "testing/violation",
    ),
    "what clients do, and histories": ("testing/",),
}  # fmt: skip
"""What the time goes to: where the code of each part is. The first that fits counts."""


class BlindMonitors(Monitors):
    """They look at nothing. What is published they note, since clients compare what they hear."""

    def __init__(self, watched: cluster.SimulatedCluster) -> None:
        super().__init__(watched)
        self.leaders[0] = ("nobody", 0)  # a report wants the highest term
        watched.simulation.after_event.remove(self.look)

    def started(self, name: str) -> None:
        server = self._cluster.server(name)
        applier = self._cluster.node(name).actor_at(server.applier.serial)
        self.applied.note_events(name, applier)

    def wiped(self, name: str) -> None:
        pass

    def check_all(self) -> None:
        pass

    def watch(self, client: AsyncClient) -> None:
        pass


def blind() -> AbstractContextManager[Any]:
    """While this lasts clusters are not watched."""
    return patch.object(cluster, "Monitors", BlindMonitors)


@dataclass(frozen=True, slots=True)
class Pass:
    """All worlds once.

    Attributes:
        traces: what happened in them, as digests.
        events: in all of them.
        processor_s: how long they took, with their setup and the check of their histories.
    """

    traces: list[int]
    events: int
    processor_s: float

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.processor_s


def run_all(seeds: Iterable[int], how: Callable[[], AbstractContextManager[Any]]) -> Pass:
    """Run worlds one after another on this core. Others on the machine cost nothing, but disturb."""
    with how():
        begun_s = time.process_time()
        reports = [run_seed(seed) for seed in seeds]
        spent_s = time.process_time() - begun_s
    traces = [report.trace_hash for report in reports]
    return Pass(traces, sum(report.events for report in reports), spent_s)


def shares(seeds: Iterable[int]) -> dict[str, float]:
    """Which share of the time each part takes, with what it calls of Python itself."""
    profile = cProfile.Profile()
    profile.runcall(run_all, seeds, nullcontext)
    spent: Counter[str] = Counter()
    statistics: Any = pstats.Stats(profile)
    for (file, _, _), (_, _, own_s, _, callers) in statistics.stats.items():
        if file != "~":
            spent[part_of(file)] += own_s
            continue
        for (caller, _, _), (_, _, for_it_s, _) in callers.items():
            spent[part_of(caller)] += for_it_s  # written in C: its caller's affair
    return {part: spent[part] / spent.total() for part in (*PARTS, OTHERS)}


def part_of(file: str) -> str:
    """The part that a source file belongs to."""
    path = PurePath(file)
    if not path.is_relative_to(ROOT):
        return OTHERS
    inside = path.relative_to(ROOT).as_posix().removeprefix("copycat/")
    for part, places in PARTS.items():
        if inside.startswith(places):
            return part
    return OTHERS


def report(watched: list[Pass], unwatched: list[Pass], parts: dict[str, float]) -> list[str]:
    """The figures, as lines of Markdown."""
    rate, without = (median(one.per_s for one in passes) for passes in (watched, unwatched))
    holds = "holds" if rate >= TARGET_PER_S else "MISSED"
    worlds, events, passes = len(watched[0].traces), watched[0].events, len(watched)
    return [
        f"{worlds} worlds with {events:,} events, medians of {passes} passes:",
        "",
        "| | events a second a core |",
        "| --- | --: |",
        f"| with all monitors | {rate:,.0f} |",
        f"| without monitors | {without:,.0f} |",
        f"| target: {TARGET_PER_S:,} with monitors | {holds} |",
        "",
        "| what a core does meanwhile, as a profiler sees it | |",
        "| --- | --: |",
        *[f"| {part} | {share:.0%} |" for part, share in parts.items()],
    ]


def main() -> int:
    """Measure, and print. Returns 0, or 1 when monitors have changed what happened."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulation", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seeds", type=int, help=f"how many; default {SEEDS}")
    parser.add_argument("--passes", type=int, help=f"of all seeds; default {PASSES}")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # servers that crash are the point here
    seeds = range(arguments.seeds or SEEDS)
    run_all(seeds[:1], nullcontext)  # what is made once is made now
    watched, unwatched = [], []
    for _ in range(arguments.passes or PASSES):
        watched.append(run_all(seeds, nullcontext))
        unwatched.append(run_all(seeds, blind))
    changed = [
        seed
        for seed, with_them, without in zip(
            seeds, watched[0].traces, unwatched[0].traces, strict=True
        )
        if with_them != without
    ]
    if changed:
        print(f"monitors have changed what happens in the worlds of {changed}", file=sys.stderr)
        return 1
    lines = report(watched, unwatched, shares(seeds[:SEEDS_PROFILED]))
    lines += ["", f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, commit {commit()}, {machine()}."]
    print("\n".join(lines))
    if not any(vars(arguments).values()):
        replace_between(DOCUMENT, BEGIN, END, ["", *lines, ""])
        print(f"written to {DOCUMENT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
