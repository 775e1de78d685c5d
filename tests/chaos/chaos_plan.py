"""What goes wrong when: a plan that a seed decides, whatever then comes of it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

SHORT_S = 60.0
"""Shorter runs have shorter faults, so that each kind comes."""

LANES: dict[str, dict[str, str]] = {
    "processes": {
        "kill one": "kill -9 of one server",
        "kill some": "kill -9 of several servers",
        "kill all": "kill -9 of all servers at once",
        "pause one": "SIGSTOP of one server",
        "pause some": "SIGSTOP of several servers",
        "slow syncs": "every sync of one server takes longer",
        "failing sync": "a sync of one server fails",
        "kill at a sync": "kill -9 of one server at a sync",
        "full disk": "no room is left on the small disk of one server",
    },
    "network": {
        "isolate": "one server apart from all others",
        "halves": "the servers in two parts",
        "deaf": "one server hears no other",
        "mute": "no other server hears one",
        "bridge": "two parts with one server in both",
        "ring": "servers that hear only their neighbours",
        "no clients": "one server apart from the clients",
        "loss": "some servers lose three packets in ten",
        "reset": "all connections of one server break, again and again",
        "slow links": "all that one server and the others say takes its time, and little passes",
        "far away": "the same, and packets are lost",
    },
    "weight": {
        "starved core": "one server shares its core with busy processes",
        "stutter": "one server is stopped most of the time, again and again",
        "many sessions": "hundreds of sessions come, and vanish at once",
        "long log": "writers without a pause make the log long",
    },
}
"""The kinds of faults. Those of one lane never overlap, those of two lanes do."""

TELLS = {kind: told for kinds in LANES.values() for kind, told in kinds.items()}

CLIENTS = "clients"
"""The place of all clients, beside the names of the servers."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault.

    Attributes:
        begin_s, end_s: since the clients have begun.
        order: all servers; the first ones are those it happens to.
        to_leader: whoever leads when it begins comes first, instead.
        count: to how many it happens, for kinds that say "some" or make parts.
        clients: where they are in a network of two parts: 0 with the first, 1 with the second,
            2 with both.
        extent: from 0 to 1; how bad it is, for kinds that can be more or less so.
    """

    kind: str
    begin_s: float
    end_s: float
    order: tuple[str, ...]
    to_leader: bool
    count: int
    clients: int
    extent: float

    def names(self, leader: str) -> list[str]:
        """All servers, first those it happens to; "" when nobody leads."""
        if not self.to_leader or leader not in self.order:
            return list(self.order)
        return [leader, *[name for name in self.order if name != leader]]

    def told(self, names: list[str]) -> str:
        """What it is, in a line; ``names`` as ``names`` tells them."""
        match self.kind:
            case "kill some" | "pause some" | "loss":
                whom = " ".join(names[: self.count])
            case "halves":
                whom = f"{' '.join(names[: self.count])} | {' '.join(names[self.count :])}"
            case "kill all" | "bridge" | "ring":
                whom = " ".join(names)
            case "full disk":
                whom = "the small disk"
            case "many sessions" | "long log":
                whom = "a crowd"
            case _:
                whom = names[0]
        if self.kind in ("isolate", "halves"):
            place = ("with the first", "with the others", "with all")[self.clients]
            return f"{self.kind}: {whom}, clients {place}"
        return f"{self.kind}: {whom}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that goes wrong in a run.

    Attributes:
        lanes: the steps of each, in order.
        small_disk: the server whose disk can be made full.
        log_commands: how many commands the log has, one after the other, before anything goes wrong.
    """

    lanes: Mapping[str, tuple[Step, ...]]
    small_disk: str
    log_commands: int = 0


def draw(seed: int, servers: int, length_s: float) -> Plan:
    """Draw a plan. It depends on nothing but the arguments.

    In each lane every kind comes once before any comes again.
    """
    names = tuple(f"n{place}" for place in range(1, servers + 1))
    return Plan(
        {lane: _lane(random.Random(f"{seed} {lane}"), names, lane, length_s) for lane in LANES},
        random.Random(f"{seed} small disk").choice(names),
        random.Random(f"{seed} log").randrange(1, 2 if length_s < SHORT_S else 11) * 10_000,
    )


def _lane(
    chance: random.Random, names: tuple[str, ...], lane: str, length_s: float
) -> tuple[Step, ...]:
    is_short = length_s < SHORT_S
    fault_s, calm_s = ((0.3, 0.9), (0.1, 0.3)) if is_short else ((0.5, 4.0), (0.3, 2.5))
    steps: list[Step] = []
    kinds: list[str] = []
    begin_s = chance.uniform(*calm_s)
    while True:
        if not kinds:
            kinds = list(LANES[lane])
            chance.shuffle(kinds)
        end_s = begin_s + chance.uniform(*fault_s)
        if end_s > length_s:
            return tuple(steps)
        steps.append(
            Step(
                kinds.pop(),
                begin_s,
                end_s,
                tuple(chance.sample(names, len(names))),
                to_leader=chance.random() < 0.75,
                count=chance.randint(1, len(names) - 1),
                clients=chance.randint(0, 2),
                extent=chance.random(),
            )
        )
        begin_s = end_s + chance.uniform(*calm_s)


def cuts(step: Step, names: list[str]) -> set[tuple[str, str]]:
    """Between whom nothing passes, as pairs of source and target.

    Args:
        step: of a kind that cuts.
        names: as ``step.names`` tells them.
    """
    first, others = names[0], names[1:]
    match step.kind:
        case "isolate":
            return _apart(*_with_clients([first], others, step.clients))
        case "halves":
            return _apart(*_with_clients(names[: step.count], names[step.count :], step.clients))
        case "deaf":
            return {(other, first) for other in others}
        case "mute":
            return {(first, other) for other in others}
        case "bridge":
            middle = len(names) // 2
            return _apart(names[:middle], names[middle + 1 :])
        case "ring":
            # Of three servers all are neighbours, so one side of the ring is open.
            near = {(one, names[place - 1]) for place, one in enumerate(names)}
            if len(names) == 3:
                near.discard((names[0], names[-1]))
            near |= {(other, one) for one, other in near}
            return {(one, other) for one in names for other in names if one != other} - near
        case "no clients":
            return _apart([first], [CLIENTS])
    raise AssertionError(f"{step.kind} cuts nothing")


def _with_clients(one: list[str], other: list[str], clients: int) -> tuple[list[str], list[str]]:
    match clients:
        case 0:
            return [*one, CLIENTS], other
        case 1:
            return one, [*other, CLIENTS]
    return one, other


def _apart(one: list[str], other: list[str]) -> set[tuple[str, str]]:
    return {pair for a in one for b in other for pair in ((a, b), (b, a))}
