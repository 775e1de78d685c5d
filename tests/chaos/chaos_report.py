"""What a run of chaos tells: what was done, what came of it, and whether that may be."""

import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from chaos_clients import Clients
from chaos_faults import Faults
from chaos_plan import TELLS
from chaos_world import World
from copycat.testing import (
    CounterModel,
    LockModel,
    MapModel,
    Model,
    Outcome,
    Verdict,
    check,
    check_by_index,
)

OBJECTS: tuple[tuple[str, Model], ...] = (
    ("counters", CounterModel()),
    ("maps", MapModel()),
    ("locks", LockModel()),
)
BY_INDEX = ("counters", "maps")
"""Who waits for a lock gets it at another index than that of the request."""


CUTS = ("isolate", "halves", "deaf", "mute", "bridge", "ring", "no clients")
RELAYED = ("slow links", "far away")
GAP_S_MAX = 60.0
TIMES_MIN = 3


class Report:
    """Of one run, written to standard output as it becomes known."""

    def __init__(self, world: World, faults: Faults, clients: Clients, again: str) -> None:
        self.world = world
        self.faults = faults
        self.clients = clients
        self.again = again
        self._lines: list[str] = []
        faults.tell = self.tell

    def tell(self, line: str) -> None:
        """Write a line."""
        self._lines.append(line)
        print(line, flush=True)

    def tell_what_was_done(self, length_s: float) -> None:
        """Faults, calls and leaders, as far as it came."""
        faults, clients = self.faults, self.clients
        self._dropped = {kind: self.world.dropped(kind) for kind in ("cut", "lossy")}
        self.tell(f"{len(self.world.names)} servers, {length_s:.0f} s")
        for kind, told in TELLS.items():
            if kind in faults.skipped:
                self.tell(f"  SKIPPED  {told}: {faults.skipped[kind]}")
            else:
                self.tell(f"  {faults.done[kind]:7}  {told}")
        outcomes = clients.outcomes()
        self.tell(
            f"{outcomes.total()} operations of {clients.lives} clients:"
            f" {outcomes[Outcome.OK]} ok, {outcomes[Outcome.NOT_APPLIED]} not applied,"
            f" {outcomes[Outcome.UNKNOWN]} unknown"
        )
        errors = ", ".join(f"{count} {name}" for name, count in clients.errors.most_common())
        self.tell(f"errors: {errors or 'none'}")
        led = [name for _, name in sorted(faults.leaders.items())]
        changes = sum(one != other for one, other in pairwise(led))
        self.tell(
            f"{len(led)} terms with a leader were seen, {changes} times another server than before"
        )
        self.tell(
            f"{self._dropped['cut']} packets cut off, {self._dropped['lossy']} lost;"
            f" {self.world.resets} connections broken;"
            f" {self.world.relayed[0]} packets late, {self.world.relayed[1]} of such lost;"
            f" {self.world.disk_stops} stops because of a disk"
        )
        self.tell(
            f"the longest time in which no call ended well: {clients.gap_s:.1f} s,"
            f" until {clients.gap_at_s:.0f} s"
        )

    def tell_verdicts(self) -> bool:
        """Check everything. Returns whether all is well."""
        broken = [*self.world.ended_oddly, *self.faults.broken, *self.clients.broken]
        broken += [*self.world.tracebacks(), *self._without_effect()]
        for place, (name, model) in enumerate(OBJECTS):
            verdicts: Counter[str] = Counter()
            operations = 0
            for era in self.clients.eras:
                history = era.histories[place]
                found = [check(history, model)]
                if name in BY_INDEX:
                    found.append(check_by_index(history, model))
                operations += found[0].operations
                verdicts.update(report.verdict.value for report in found)
                wrong = [report for report in found if report.counterexample is not None]
                if wrong:
                    broken.append(f"the {name} of era {era.number}: {wrong[0]}")
                elif not any(report.verdict is Verdict.LINEARIZABLE for report in found):
                    broken.append(f"the {name} of era {era.number} were given up")
            told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
            also = ", by the log and without it" if name in BY_INDEX else ""
            self.tell(f"{name}: {operations} operations, {told or 'nothing to check'}{also}")
        for line in broken:
            self.tell(f"BROKEN: {line}")
        self.tell(f"{'all is well' if not broken else 'not all is well'}; again: {self.again}")
        return not broken

    def _without_effect(self) -> Iterator[str]:
        """What should have come of it, and did not."""
        # One alone may have come while the server it was meant for was down.
        done, clients = self.faults.done, self.clients
        if sum(done[kind] for kind in CUTS) >= TIMES_MIN and not self._dropped["cut"]:
            yield "the servers were parted, and not one packet was dropped"
        if done["loss"] >= TIMES_MIN and not self._dropped["lossy"]:
            yield "packets should have been lost, and were not"
        if done["reset"] >= TIMES_MIN and not self.world.resets:
            yield "connections should have been broken, and were not"
        if sum(done[kind] for kind in RELAYED) >= TIMES_MIN and not self.world.relayed[0]:
            yield "packets should have gone through the relay, and did not"
        if not clients.outcomes()[Outcome.OK]:
            yield "no call has ended well"
        if clients.gap_s > GAP_S_MAX:
            yield f"no call ended well for {clients.gap_s:.1f} s"

    def keep(self, place: Path) -> None:
        """Keep what the servers said, all histories, and this report."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for server in self.world.servers.values():
            if server.errors.exists():
                shutil.copy(server.errors, place)
        for era in self.clients.eras:
            for (name, _), history in zip(OBJECTS, era.histories, strict=True):
                lines = [
                    f"{each.invoked_s:.6f} {each.returned_s:.6f} {each.index} {each.client} {each}"
                    for each in history
                ]
                place.joinpath(f"{name}-{era.number}").write_text("\n".join(lines))
        self.tell(f"what the servers said, and all histories: {place}")
        place.joinpath("report").write_text("\n".join(self._lines))
