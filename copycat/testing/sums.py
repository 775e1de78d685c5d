"""Sums of what many worlds have done, and what they have to come to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from copycat.testing.fault import KINDS
from copycat.testing.limits import LIMITS
from copycat.testing.reached import COUNTED
from copycat.testing.seeds import SeedOutcome

SUMMED = (
    "virtual_s",
    "events",
    "checked",
    "calls",
    "commands",
    "not_applied",
    "unknown",
    "grants",
    "heard",
    "crashes",
    "restarts",
    "leader_changes",
    "undecided",
)
"""The fields of ``SeedReport`` that are added up."""

REQUIRED_FAULTS = tuple(KINDS)
REQUIRED_LIMITS = tuple(LIMITS)
REQUIRED_BRANCHES = COUNTED
"""What a run that is to prove something must have reached: all of it at least once."""

SEEDS_PROVING = 1_000
"""How many seeds such a run has at least; in fewer, what is rare may be missing by chance."""

GOALS: Mapping[str, int] = {
    "checked": 1_000_000,
    "crashes": 20_000,
    "restarts": 20_000,
    "leader_changes": 5_000,
}
"""What so many seeds must come to, by field."""


@dataclass
class Sums:
    """What worlds have done together.

    Attributes:
        seeds: how many worlds there were.
        cpu_s: how long processors have worked for them.
        fields: the sums of ``SUMMED``.
        faults: how often each kind of fault happened.
        worlds: in how many worlds it did.
        limits: in how many worlds each limit was small.
        reached: how often each branch was taken.
        meanwhile: the same while a kind of fault was in force, by kind.
        lost: how many servers were damaged or wiped, and stayed out.
        failures: what was said of the seeds that failed.
    """

    seeds: int = 0
    cpu_s: float = 0.0
    fields: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    worlds: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    meanwhile: dict[str, Counter[str]] = field(default_factory=dict)
    lost: int = 0
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, outcome: SeedOutcome) -> None:
        """Add one world. Of one that failed only the failure counts."""
        self.seeds += 1
        self.cpu_s += outcome.cpu_s
        if outcome.failure is not None:
            self.failures[outcome.seed] = outcome.failure
        report = outcome.report
        if report is None:
            return
        for name in SUMMED:
            self.fields[name] += getattr(report, name)
        self.faults.update(report.faults)
        self.worlds.update(kind for kind, count in report.faults.items() if count)
        self.limits.update(report.limits)
        self.reached.update(report.reached)
        for kind, counts in report.meanwhile.items():
            self.meanwhile.setdefault(kind, Counter()).update(counts)
        self.lost += len(report.lost)

    def missing(self) -> list[str]:
        """What was required and never reached."""
        return [
            *(f"fault: {kind}" for kind in REQUIRED_FAULTS if not self.faults[kind]),
            *(f"small limit: {name}" for name in REQUIRED_LIMITS if not self.limits[name]),
            *(f"branch: {name}" for name in REQUIRED_BRANCHES if not self.reached[name]),
        ]

    def shortfalls(self) -> list[str]:
        """Where the sums are below ``GOALS``."""
        return [
            f"{name}: {self.fields[name]:,} of {goal:,}"
            for name, goal in GOALS.items()
            if self.fields[name] < goal
        ]

    def objections(self) -> list[str]:
        """Why these worlds prove nothing yet: what failed, and of enough seeds what is missing."""
        objections = [f"seed {seed} failed" for seed in self.failures]
        if self.seeds >= SEEDS_PROVING:
            objections += self.missing() + self.shortfalls()
        return objections
