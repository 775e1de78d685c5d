"""Runs ever new worlds for as long as it is told: ``python -m copycat.testing.soak --hours 8``.

It goes on when worlds fail, writes a report as it goes, and ends with 1 if any has failed.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from copycat.testing.proof import FAILED, branches, figures, limits, matrix
from copycat.testing.seeds import WorldStuckError, outcomes_of, shrunk
from copycat.testing.sums import SEEDS_PROVING, Sums

SEEDS_AT_A_TIME = 200
SHRUNK_MAX = 10
"""How many failures are made smaller; a bug that fails more worlds is known by then."""

REPORT = Path("build/soak/report.md")


class Soak:
    """One long run.

    Attributes:
        sums: of all worlds so far.
    """

    def __init__(self, first: int, report: Path, commit: str, processes: int | None) -> None:
        self.sums = Sums()
        self._first = self._next = first
        self._report = report
        self._commit = commit
        self._processes = processes
        self._began_s = time.monotonic()
        self._shrunk: dict[int, str] = {}

    def run(self, hours: float, seeds_at_a_time: int = SEEDS_AT_A_TIME) -> None:
        """Run worlds, some at a time, until the time is over; some in any case."""
        while True:
            seeds = range(self._next, self._next + seeds_at_a_time)
            self._next = seeds.stop
            self._run_some(seeds)
            self._shrink()
            self._write()
            if time.monotonic() - self._began_s >= hours * 3600:
                return

    def _run_some(self, seeds: range) -> None:
        done = 0
        try:
            for outcome in outcomes_of(seeds, processes=self._processes):
                self.sums.add(outcome)
                done += 1
        except BrokenExecutor:
            told = f"a process died at seed {seeds[done]} or one of the next\n"
            self.sums.failures[seeds[done]] = told + traceback.format_exc()

    def _shrink(self) -> None:
        """Make those that have failed since the last time smaller, each on its own."""
        for seed, failure in self.sums.failures.items():
            if seed in self._shrunk or len(self._shrunk) == SHRUNK_MAX:
                continue
            if WorldStuckError.__name__ in failure or failure.startswith("a process died"):
                self._shrunk[seed] = "It is not made smaller: it might never end.\n"
                continue
            try:
                self._shrunk[seed] = shrunk(seed, self._report.parent)
            except Exception:  # noqa: BLE001 - the soak goes on, whatever it is
                self._shrunk[seed] = traceback.format_exc()

    def _write(self) -> None:
        """Write the report anew; it is whole at any time."""
        text = self.told()
        self._report.parent.mkdir(parents=True, exist_ok=True)
        new = self._report.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self._report)
        first_line = text.splitlines()[2]
        sys.stderr.write(f"{first_line}\n")

    def told(self) -> str:
        """The report: how far it is, the sums, and what has failed."""
        sums = self.sums
        wall_s = time.monotonic() - self._began_s
        parts = [
            f"# A soak at {self._commit}\n",
            (
                f"{wall_s / 3600:.2f} hours, seeds {self._first} to {self._next - 1},"
                f" {len(sums.failures)} failed.\n"
            ),
            figures(sums, wall_s),
            matrix(sums),
            branches(sums),
            limits(sums),
        ]
        if sums.seeds >= SEEDS_PROVING and (missing := sums.missing()):
            parts.append("Never reached:\n\n" + "".join(f"- {name}\n" for name in missing))
        for seed, failure in sums.failures.items():
            parts.append(f"## Seed {seed}\n\n```text\n{failure}{self._shrunk.get(seed, '')}```\n")
        return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m copycat.testing.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="for how long; fractions too")
    parser.add_argument("--first", type=int, help="the first seed; by the clock if it is left out")
    parser.add_argument("--at-a-time", type=int, default=SEEDS_AT_A_TIME, help="between reports")
    parser.add_argument("--processes", type=int, help="how many at a time; one for each core")
    parser.add_argument("--report", type=Path, default=REPORT, help="the file to write")
    parser.add_argument("--commit", default="an unknown commit", help="what is run")
    told = parser.parse_args(arguments)
    first = int(time.time()) * 1000 if told.first is None else told.first
    soak = Soak(first, told.report, told.commit, told.processes)
    soak.run(told.hours, told.at_a_time)
    sys.stdout.write(f"the report is in {told.report}\n")
    return FAILED if soak.sums.failures else 0


if __name__ == "__main__":
    sys.exit(main())
