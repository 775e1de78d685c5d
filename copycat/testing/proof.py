"""Runs many worlds and shows what they have come to: ``python -m copycat.testing.proof``.

It prints tables, and with ``--docs FILE`` writes them into a document, between two marks. It ends
with 1 when a world has failed, and when at least ``SEEDS_PROVING`` of them have not reached what
they must, see ``sums``.
"""

import argparse
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from copycat.testing.reached import COUNTED
from copycat.testing.seeds import COMMAND, outcomes_of, shrunk
from copycat.testing.sums import SEEDS_PROVING, Sums

FAILED = 1
USAGE = 2
FAILURES_TOLD = 3
PROGRESS_SEEDS = 100
BEGIN_MARK = "<!-- proof: begin -->"
END_MARK = "<!-- proof: end -->"
SCHEDULES = Path("build/schedules")

MATRIX = (
    "leaders elected",
    "split votes",
    "leaders stepped down",
    "unknown outcomes",
    "refusals",
    "reads refused without a leader",
    "sessions expired",
    "sessions moved",
    "lock handovers",
    "log truncations",
    "segment rolls",
    "torn tails recovered",
    "old batches sent",
    "servers failed with their disk",
    "damage refused",
)
"""The columns of the matrix, of ``COUNTED``."""


def prove(
    seeds: Iterable[int],
    *,
    processes: int | None = None,
    replay: str = COMMAND,
    progress: bool = False,
) -> Sums:
    """Run the worlds of these seeds, and add them up.

    Args:
        seeds: which.
        processes: how many at a time; None: one for each core.
        replay: the command that a failure names, with ``{seed}`` in it.
        progress: whether stderr hears how far it is.
    """
    sums = Sums()
    for outcome in outcomes_of(seeds, processes=processes, replay=replay):
        sums.add(outcome)
        if progress and sums.seeds % PROGRESS_SEEDS == 0:
            failed = f", {len(sums.failures)} failed" if sums.failures else ""
            sys.stderr.write(f"{sums.seeds} seeds{failed}\n")
    return sums


# What is shown.


def figures(sums: Sums, wall_s: float | None = None) -> str:
    """The sums as a table in Markdown.

    Args:
        sums: of any number of worlds.
        wall_s: how long they took all together; None: that is left out.
    """
    fields = sums.fields
    rows = [
        ("seeds", f"{sums.seeds:,}"),
        ("violations", f"{len(sums.failures):,}"),
        ("virtual time", f"{fields['virtual_s'] / 3600:,.1f} h"),
        ("simulated events", f"{fields['events']:,}"),
        ("simulated events a second and core", f"{fields['events'] / max(sums.cpu_s, 1e-9):,.0f}"),
        ("client operations checked", f"{fields['checked']:,}"),
        ("commands applied", f"{fields['commands']:,}"),
        ("operations refused", f"{fields['not_applied']:,}"),
        ("operations checked as maybe", f"{fields['unknown']:,}"),
        ("histories that only the log decides", f"{fields['undecided']:,}"),
        ("locks granted", f"{fields['grants']:,}"),
        ("events heard by clients", f"{fields['heard']:,}"),
        ("crashes of servers", f"{fields['crashes']:,}"),
        ("restarts of servers", f"{fields['restarts']:,}"),
        ("leader changes", f"{fields['leader_changes']:,}"),
        ("servers damaged or wiped for good", f"{sums.lost:,}"),
    ]
    if wall_s is not None:
        rows.insert(1, ("minutes it took", f"{wall_s / 60:.1f}"))
    return _table(("what", "how many"), rows)


def branches(sums: Sums) -> str:
    """How often each branch was taken, as a table."""
    return _table(("branch", "how often"), [(name, f"{sums.reached[name]:,}") for name in COUNTED])


def limits(sums: Sums) -> str:
    """In how many worlds each limit was small, as a table."""
    rows = [(name, f"{count:,}") for name, count in sorted(sums.limits.items())]
    return _table(("small limit", "worlds"), rows)


def matrix(sums: Sums) -> str:
    """Each kind of fault, and what was reached while it was in force, as a table."""
    rows = []
    for kind in sorted(sums.faults):
        counts = sums.meanwhile.get(kind, Counter())
        reached = [f"{counts.get(name, 0):,}" for name in MATRIX]
        rows.append((kind, f"{sums.faults[kind]:,}", f"{sums.worlds[kind]:,}", *reached))
    return _table(("fault", "times", "worlds", *MATRIX), rows)


def section(sums: Sums, wall_s: float, told: str) -> str:
    """All tables, with the words between them."""
    return "\n".join(
        [
            f"{told}\n",
            figures(sums, wall_s),
            (
                "What happened while faults of a kind were in force, or had ended less than a second"
                " before. Several\nkinds are in force at a time, so one event counts for each of"
                " them.\n"
            ),
            matrix(sums),
            "The branches that every such run has to reach:\n",
            branches(sums),
            "In how many worlds each limit of the code was small:\n",
            limits(sums),
        ]
    )


def replaced(document: str, text: str) -> str:
    """A document with another text between its marks.

    Raises:
        ValueError: it does not have both of them, in order.
    """
    before, begin, rest = document.partition(BEGIN_MARK)
    _, end, after = rest.partition(END_MARK)
    if not begin or not end:
        raise ValueError(f"it lacks the marks {BEGIN_MARK} and {END_MARK}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# The command.


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m copycat.testing.proof", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_PROVING, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, help="how many at a time; one for each core")
    parser.add_argument("--docs", type=Path, help="a document to write the tables into")
    parser.add_argument("--commit", default="an unknown commit", help="what was run")
    told = parser.parse_args(arguments)
    if told.docs is not None:
        try:
            replaced(told.docs.read_text(encoding="utf-8"), "")
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{told.docs}: {error}\n")
            return USAGE
    began_s = time.monotonic()
    seeds = range(told.first, told.first + told.seeds)
    sums = prove(seeds, processes=told.processes, progress=True)
    wall_s = time.monotonic() - began_s
    cores = told.processes or os.cpu_count() or 1
    where = f"{cores} {'core' if cores == 1 else 'cores'}, Python {platform.python_version()}"
    text = section(sums, wall_s, f"Run at {told.commit}, with {where}.")
    sys.stdout.write(text)
    tell_failures(sums, SCHEDULES)
    if told.docs is not None:
        document = told.docs.read_text(encoding="utf-8")
        told.docs.write_text(replaced(document, text), encoding="utf-8")
    objections = sums.objections()
    for objection in objections:
        sys.stderr.write(f"{objection}\n")
    return FAILED if objections else 0


def tell_failures(sums: Sums, schedules: Path) -> None:
    """Show the first failures, and make the schedule of the first one smaller."""
    for place, (seed, failure) in enumerate(list(sums.failures.items())[:FAILURES_TOLD]):
        sys.stderr.write(failure)
        if place == 0:
            sys.stderr.write(shrunk(seed, schedules))


if __name__ == "__main__":
    sys.exit(main())
