"""Schedules: all that is decided about a world before it begins, as a plain value.

A schedule is drawn from a seed, swarm style: each world has a few kinds of faults of its own, at
rates of its own, so that rare combinations get long runs. It can be written to a file, read by
people, made smaller by ``shrink``, and run again; the seed in it decides what is left to chance
then: latencies, what a crash keeps, which message is lost.
"""

import json
import random
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from copycat.testing.costs import draw_processors
from copycat.testing.drawing import (
    draw_amnesia,
    draw_faults,
    draw_old_file,
    draw_slow_clients,
    draw_storm,
)
from copycat.testing.fault import KINDS, Fault
from copycat.testing.limits import LIMITS, draw_limits, limits_with_slow_clients

FORMAT = 1
HARM_S = 6.0
CLIENTS = (
    "count1", "count2", "read1", "write1", "write2", "lock1", "lock2", "publish1", "visitor",
)  # fmt: skip
"""The clients of every world by name; without its digits a name says what the client does."""

PIPELINE = 8
PIPELINES = (6, 48, 300)
"""How many calls a client makes at once, at most: few or many, by the world."""

RESTS = ("as they are", "stopped", "deaf")
"""What becomes of the servers that are not mended: nothing, or they stop, or hear the others no
more."""


class ScheduleError(ValueError):
    """A text is no schedule that this version can run."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One world.

    Attributes:
        seed: decides what the schedule leaves to chance.
        servers: how many: n1, n2, ...
        harm_s: how long faults happen, in virtual seconds from the first leader on.
        faults: what goes wrong, by time.
        limits: which limits of the code are small, see ``limits``.
        processors: how many times as long as stated work takes on a node, see ``costs``; on others
            it takes no time.
        clients: who works, of ``CLIENTS``.
        rounds: how many rounds of work each client does at most; None: until the faults end.
        pipeline: how many calls a client that counts makes at once, at most.
        mending: the servers in the order in which they are mended when the faults end.
        core: of how many of them the first progress is demanded: a majority, but not all.
        rest: what becomes of the others until then, of ``RESTS``.
    """

    seed: int
    servers: int
    harm_s: float
    faults: tuple[Fault, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    processors: Mapping[str, float] = field(default_factory=dict)
    clients: tuple[str, ...] = CLIENTS
    rounds: int | None = None
    pipeline: int = PIPELINE
    mending: tuple[str, ...] = ()
    core: int = 0
    rest: str = RESTS[0]

    @classmethod
    def drawn(
        cls,
        seed: int,
        *,
        servers: int = 0,
        harm_s: float = HARM_S,
        faults: Collection[str] | None = None,
    ) -> "Schedule":
        """The world of a seed.

        Args:
            seed: decides everything.
            servers: how many; 0: 3 or 5, by the seed.
            harm_s: how long faults happen.
            faults: which kinds there may be; None: some, by the seed.
        """
        count = servers or (3, 5)[seed % 2]
        names = server_names(count)
        chance = random.Random(f"{seed} schedule")
        mending = chance.sample(names, count)
        majority = count // 2 + 1
        limits = draw_limits(random.Random(f"{seed} limits"))
        drawn = draw_faults(random.Random(f"{seed} faults"), names, CLIENTS, harm_s, faults)
        if faults is None:
            drawn += draw_storm(random.Random(f"{seed} storm"), names, harm_s)
            slow = draw_slow_clients(random.Random(f"{seed} slow clients"), names, CLIENTS, harm_s)
            drawn += slow
            if slow:
                limits = limits_with_slow_clients(limits)
            drawn += draw_amnesia(random.Random(f"{seed} amnesia"), names, harm_s)
            drawn += draw_old_file(random.Random(f"{seed} old file"), names, harm_s)
        return cls(
            seed=seed,
            servers=count,
            harm_s=harm_s,
            faults=tuple(sorted(drawn, key=lambda fault: fault.at_s)),
            pipeline=random.Random(f"{seed} load").choice(PIPELINES),
            limits=limits,
            processors=draw_processors(random.Random(f"{seed} processors"), (*names, *CLIENTS)),
            mending=tuple(mending),
            core=chance.randint(majority, max(majority, count - 1)),
            rest=chance.choice(RESTS),
        )

    def to_json(self) -> str:
        """The schedule as text, with one line for each fault."""
        plain = asdict(self)
        faults = [_without_defaults(fault) for fault in plain.pop("faults")]
        lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items()]
        told = ",\n  ".join(json.dumps(fault) for fault in faults)
        lines.append(f' "faults": [\n  {told}\n ]' if faults else ' "faults": []')
        return f'{{\n "format": {FORMAT},\n' + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> "Schedule":
        """Read what ``to_json`` has written.

        Raises:
            ScheduleError: it is something else, or of another version.
        """
        try:
            plain = json.loads(text)
            if plain.pop("format") != FORMAT:
                raise ScheduleError(f"the schedule is not of format {FORMAT}: draw it again")
            plain["faults"] = tuple(_fault(fault) for fault in plain["faults"])
            plain["clients"] = tuple(plain["clients"])
            plain["mending"] = tuple(plain["mending"])
            made = cls(**plain)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ScheduleError(f"this is no schedule: {error}") from error
        made._check()
        return made

    def _check(self) -> None:
        names = server_names(self.servers)
        unknown = [
            *({fault.kind for fault in self.faults} - KINDS.keys()),
            *(self.limits.keys() - LIMITS.keys()),
            *(name for name in self.clients if name not in CLIENTS),
            *(name for name in self.mending if name not in names),
            *(name for name in self.processors if name not in (*names, *CLIENTS)),
            *(rest for rest in (self.rest,) if rest not in RESTS),
        ]
        if unknown:
            raise ScheduleError(f"not known here: {', '.join(sorted(unknown))}")


def server_names(count: int) -> tuple[str, ...]:
    """The names of the servers of a simulated cluster."""
    return tuple(f"n{place}" for place in range(1, count + 1))


def _without_defaults(fault: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fault.items() if value not in (None, (), {})}


def _fault(plain: dict[str, Any]) -> Fault:
    known = [each.name for each in fields(Fault)]
    unknown = sorted(plain.keys() - set(known))
    if unknown:
        raise ScheduleError(f"a fault has no {', '.join(unknown)}")
    return Fault(
        kind=plain["kind"],
        at_s=plain["at_s"],
        lasts_s=plain.get("lasts_s"),
        where=tuple(plain.get("where", ())),
        groups=tuple(tuple(group) for group in plain.get("groups", ())),
        numbers=dict(plain.get("numbers", {})),
    )
