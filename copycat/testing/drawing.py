"""Draws the faults of a world by chance: which kinds it has, how often, when, where and how long.

In some worlds servers also crash in quick succession, whatever else goes wrong there.
"""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from copycat.actors.simulated_network import NetworkFaults
from copycat.testing.fault import (
    AMNESIA_KINDS,
    APART_KINDS,
    CLIENT_KINDS,
    KINDS,
    LEADER,
    Fault,
)

KIND_CHANCES = (0.15, 0.3, 0.6)
PACES_S = (0.2, 0.6, 2.0)
LASTS_PACES = 2.0
"""How long a fault lasts on average, in times between two faults: so that two or three overlap."""

STORM_KINDS = ("crash", "crash all", "kill")
STORM_CHANCE = 0.75
STORM_PACES_S = (0.1, 0.2, 0.4)

AMNESIA_CHANCE = 0.25

PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.5
CLIENT_PAUSE_MAX_S = 3.0
"""Longer than the shorter time-outs of sessions, as in the next ones."""

DEAF_MAX_S = 0.5
MUTE_MAX_S = 3.0
"""A client that is lost first hears nothing, and then is not heard either."""

CLOCK_DRIFT_MAX = 0.05
WALL_JUMP_MAX_S = 3600.0
STALL_MAX_S = 1.0
RING_SERVERS_MIN = 4
CLOG_BYTES_PER_S = (2_000, 20_000, 200_000)
CLOG_WAITING_S = (0.5, 5.0)
"""How many seconds of bytes a clogged link lets wait before it breaks."""
CLOGGED_CLIENT_CHANCE = 0.5
"""How often it is all links to one client, whose answers and events have to wait: if only one of them
were, the client could use another."""

CLIENT_CLOG_BYTES_PER_S = (500, 2_000)
CLIENT_CLOG_WAITING_S = (5.0, 50.0)
"""These carry less, as little is sent to a client, and break later."""

SLOW_CLIENTS_CHANCE = 0.2
SLOW_CLIENTS_MAX = 4

ROOM_BYTES_MAX = 10_000

Drawn = dict[str, Any]


def draw_faults(
    chance: random.Random,
    servers: Sequence[str],
    clients: Sequence[str],
    harm_s: float,
    kinds: Collection[str] | None = None,
) -> tuple[Fault, ...]:
    """Draw faults for a while.

    Args:
        chance: decides everything.
        servers: the names of all.
        clients: of those that may be harmed; without any, none of the kinds for clients is drawn.
        harm_s: from when to when.
        kinds: the kinds that there may be; None: some, by chance.
    """
    drawing = _Drawing(chance, tuple(servers), tuple(clients))
    possible = [kind for kind in KINDS if clients or kind not in CLIENT_KINDS]
    if kinds is None:
        possible = [kind for kind in possible if kind not in APART_KINDS]
    if kinds is None:
        likely = chance.choice(KIND_CHANCES)
        chosen = [kind for kind in possible if chance.random() < likely]
    else:
        unknown = sorted(set(kinds) - KINDS.keys())
        assert not unknown, f"not a kind of fault: {', '.join(unknown)}"
        chosen = [kind for kind in possible if kind in kinds]
    weights = [chance.choice((1, 1, 3)) for _ in chosen]
    pace_s = chance.choice(PACES_S)
    faults: list[Fault] = []
    at_s = chance.expovariate(1 / pace_s)
    while chosen and at_s < harm_s:
        kind = chance.choices(chosen, weights)[0]
        if kind == "lost client":
            faults += drawing.lost_client(at_s)
        else:
            lasts_s = min(harm_s, chance.expovariate(1 / (LASTS_PACES * pace_s)))
            drawn = {"lasts_s": round(lasts_s, 3), **drawing.draw(kind)}
            faults.append(Fault(kind, round(at_s, 3), **drawn))
        at_s += chance.expovariate(1 / pace_s)
    return tuple(faults)


def draw_amnesia(chance: random.Random, servers: Sequence[str], harm_s: float) -> tuple[Fault, ...]:
    """Draw a server that loses files, or is brought back as it was; none in most worlds.

    Args:
        chance: decides everything.
        servers: the names of all.
        harm_s: from when to when.
    """
    return _draw_seldom(chance, servers, harm_s, AMNESIA_KINDS)


def draw_old_file(
    chance: random.Random, servers: Sequence[str], harm_s: float
) -> tuple[Fault, ...]:
    """Draw a server of which one file is brought back as it was; none in most worlds."""
    return _draw_seldom(chance, servers, harm_s, ("old file",))


def _draw_seldom(
    chance: random.Random, servers: Sequence[str], harm_s: float, kinds: Sequence[str]
) -> tuple[Fault, ...]:
    if chance.random() >= AMNESIA_CHANCE:
        return ()
    drawing = _Drawing(chance, tuple(servers), ())
    kind = chance.choice(kinds)
    at_s = chance.uniform(0, harm_s / 2)
    lasts_s = round(chance.uniform(0, harm_s / 2), 3)
    return (Fault(kind, round(at_s, 3), **{"lasts_s": lasts_s, **drawing.draw(kind)}),)


def draw_slow_clients(
    chance: random.Random, servers: Sequence[str], clients: Sequence[str], harm_s: float
) -> tuple[Fault, ...]:
    """Draw clients that take in little for a long time, from whatever server; none in most worlds.

    Args:
        chance: decides everything.
        servers: the names of all.
        clients: the names of all.
        harm_s: from when to when.
    """
    if chance.random() >= SLOW_CLIENTS_CHANCE:
        return ()
    slow = chance.sample(clients, chance.randint(1, SLOW_CLIENTS_MAX))
    drawing = _Drawing(chance, tuple(servers), tuple(clients))
    faults: list[Fault] = []
    for client in slow:
        # Mostly from the first leader on: later there may be none for long, and nothing to answer.
        at_s = chance.choice((0.0, 0.0, round(chance.uniform(0, harm_s / 2), 3)))
        lasts_s = round(chance.uniform(0, harm_s / 2), 3)
        faults.append(Fault("clog", at_s, lasts_s, (client,), numbers=drawing.slow_client()))
    return tuple(faults)


def draw_storm(chance: random.Random, servers: Sequence[str], harm_s: float) -> tuple[Fault, ...]:
    """Draw crashes in quick succession; none in some worlds.

    A server is up again after about the time between two of them: who is elected crashes soon, who
    recovers is cut short, and what one has left behind is found by many.

    Args:
        chance: decides everything.
        servers: the names of all.
        harm_s: from when to when.
    """
    if chance.random() >= STORM_CHANCE:
        return ()
    drawing = _Drawing(chance, tuple(servers), ())
    others = chance.sample(STORM_KINDS, chance.randint(0, len(STORM_KINDS)))
    pace_s, down_s = chance.choice(STORM_PACES_S), chance.choice(STORM_PACES_S)
    faults: list[Fault] = []
    at_s = chance.expovariate(1 / pace_s)
    while at_s < harm_s:
        kind = chance.choice(("crash leader", *others))
        lasts_s = round(chance.expovariate(1 / down_s), 3)
        faults.append(Fault(kind, round(at_s, 3), lasts_s, **drawing.draw(kind)))
        at_s += chance.expovariate(1 / pace_s)
    return tuple(faults)


class _Drawing:
    def __init__(
        self, chance: random.Random, servers: tuple[str, ...], clients: tuple[str, ...]
    ) -> None:
        self.chance = chance
        self.servers = servers
        self.clients = clients
        # Servers bear doubled messages; a client that is told "not applied" may be wrong then.
        self.doubles = chance.random() < 0.25
        self._special: dict[str, Callable[[], Drawn]] = {
            "crash leader": self._crash_leader,
            "crash all": self._crash_all,
            "pause": self._pause,
            "clock": self._clock,
            "partition": self._partition,
            "isolate leader": self._isolate_leader,
            "bridge": self._bridge,
            "ring": self._ring,
            "one way": self._one_way,
            "network": self._network,
            "reset": self._reset,
            "clog": self._clog,
            "slow disk": self._slow_disk,
            "failed sync": self._failed_sync,
            "full disk": self._full_disk,
            "flip": self._flip,
            "misdirected write": self._misdirect,
            "lost files": self._lost_files,
            "old file": self._old_file,
            "client pause": self._client_pause,
            "client crash": self._client_crash,
            "client clock": self._client_clock,
        }

    def draw(self, kind: str) -> Drawn:
        """What a fault of this kind has besides its time; most just have a server."""
        if kind in self._special:
            return self._special[kind]()
        drawn = self._one()
        if kind in ("crash", "kill"):
            drawn["numbers"] = self._power()
        return drawn

    def _one(self) -> Drawn:
        return {"where": (self.chance.choice(self.servers),)}

    def _power(self) -> dict[str, float]:
        """Whether the machine was started anew, too, and lost what was still not synced."""
        return {"machine": float(self.chance.random() < 0.5)}

    def _two(self) -> tuple[str, ...]:
        return tuple(self.chance.sample((*self.servers, *self.clients), 2))

    # Servers.

    def _crash_leader(self) -> Drawn:
        return {"where": (LEADER,), "numbers": self._power()}

    def _crash_all(self) -> Drawn:
        return {"where": self.servers, "numbers": self._power()}

    def _pause(self) -> Drawn:
        return {**self._one(), **self._pause_time()}

    def _pause_time(self) -> Drawn:
        return {"lasts_s": round(self.chance.uniform(PAUSE_MIN_S, PAUSE_MAX_S), 3)}

    def _clock(self) -> Drawn:
        jump_s = self.chance.uniform(-WALL_JUMP_MAX_S, WALL_JUMP_MAX_S)
        return {**self._one(), "numbers": {**self._drift(), "jump_s": round(jump_s, 1)}}

    def _drift(self) -> dict[str, float]:
        drift = self.chance.uniform(-CLOCK_DRIFT_MAX, CLOCK_DRIFT_MAX)
        return {"rate": round(1.0 + drift, 3)}

    # Links.

    def _partition(self) -> Drawn:
        nodes = [*self.servers, *self.clients]
        self.chance.shuffle(nodes)
        middle = self.chance.randint(1, len(nodes) - 1) if len(nodes) > 1 else 1
        return {"groups": (tuple(sorted(nodes[:middle])), tuple(sorted(nodes[middle:])))}

    def _isolate_leader(self) -> Drawn:
        return {"groups": ((LEADER,), self.servers)}

    def _bridge(self) -> Drawn:
        nodes = self.chance.sample(self.servers, len(self.servers))
        middle = len(nodes) // 2
        return {"groups": (tuple(nodes[: middle + 1]), tuple(nodes[middle:]))}

    def _ring(self) -> Drawn:
        """Three servers in a ring hear each other all; one link less makes a chain of them."""
        nodes = self.chance.sample(self.servers, len(self.servers))
        pairs = list(pairwise(nodes))
        if len(nodes) >= RING_SERVERS_MIN:
            pairs.append((nodes[-1], nodes[0]))
        return {"groups": tuple(pairs)}

    def _one_way(self) -> Drawn:
        return {"where": self._two()}

    def _network(self) -> Drawn:
        rates = asdict(NetworkFaults.random(self.chance))
        if not self.doubles:
            rates["duplicate"] = 0.0
        plain = asdict(NetworkFaults.none())
        numbers = {name: round(rate, 5) for name, rate in rates.items() if rate != plain[name]}
        # Half of them stay until the next one, so that nothing else is needed for a bad network.
        lasts = {"lasts_s": None} if self.chance.random() < 0.5 else {}
        return {"numbers": numbers, **lasts}

    def _reset(self) -> Drawn:
        return {"where": self._two(), "lasts_s": None}

    def _clog(self) -> Drawn:
        if self.clients and self.chance.random() < CLOGGED_CLIENT_CHANCE:
            return {**self._client(), "numbers": self.slow_client()}
        numbers = self._little(CLOG_BYTES_PER_S, CLOG_WAITING_S)
        return {"where": self._two(), "numbers": numbers}

    def slow_client(self) -> dict[str, float]:
        """How little the links to a client carry that are all clogged."""
        return self._little(CLIENT_CLOG_BYTES_PER_S, CLIENT_CLOG_WAITING_S)

    def _little(self, bytes_per_s: Sequence[float], waits_s: Sequence[float]) -> dict[str, float]:
        carried = self.chance.choice(bytes_per_s)
        return {"bytes_per_s": carried, "waiting_bytes": carried * self.chance.choice(waits_s)}

    # Disks.

    def _slow_disk(self) -> Drawn:
        if self.chance.random() < 0.5:
            return {**self._one(), "lasts_s": round(self.chance.uniform(0, STALL_MAX_S), 3)}
        return {**self._one(), "numbers": {"factor": self.chance.choice((5.0, 50.0))}}

    def _failed_sync(self) -> Drawn:
        return {**self._one(), "lasts_s": None}

    def _full_disk(self) -> Drawn:
        return {**self._one(), "numbers": {"room_bytes": self.chance.randrange(ROOM_BYTES_MAX)}}

    def _flip(self) -> Drawn:
        return self._damage({**self._byte(), "bit": self.chance.randrange(8)})

    def _misdirect(self) -> Drawn:
        source = {f"source_{name}": place for name, place in self._byte().items()}
        return self._damage({**self._byte(), **source})

    def _byte(self) -> dict[str, float]:
        """A place in the files of a disk."""
        return {"file": round(self.chance.random(), 4), "byte": round(self.chance.random(), 6)}

    def _damage(self, numbers: dict[str, float]) -> Drawn:
        # Half of it is repaired by bringing the file back, the rest never.
        lasts = {"lasts_s": None} if self.chance.random() < 0.5 else {}
        return {**self._one(), "numbers": numbers, **lasts}

    def _lost_files(self) -> Drawn:
        return self._damage({"files": round(self.chance.random(), 4)})

    def _old_file(self) -> Drawn:
        return {**self._one(), "numbers": {"file": round(self.chance.random(), 4)}}

    # Clients.

    def _client(self) -> Drawn:
        return {"where": (self.chance.choice(self.clients),)}

    def _client_pause(self) -> Drawn:
        lasts_s = self.chance.uniform(PAUSE_MIN_S, CLIENT_PAUSE_MAX_S)
        return {**self._client(), "lasts_s": round(lasts_s, 3)}

    def _client_crash(self) -> Drawn:
        return {**self._client(), "lasts_s": None}

    def _client_clock(self) -> Drawn:
        return {**self._client(), "numbers": self._drift()}

    def lost_client(self, at_s: float) -> list[Fault]:
        """One that hears nothing, is not heard either a moment later, and may hear again first.

        What it asks in between is done, and what it is answered comes late or never.
        """
        chance, where = self.chance, self._client()["where"]
        before_s, mute_s = chance.uniform(0, DEAF_MAX_S), chance.uniform(0, MUTE_MAX_S)
        deaf_s = before_s + mute_s * chance.choice((chance.random(), 1.0))
        deaf = {"deaf": 1.0, "breaks": float(chance.random() < 0.5)}
        mute = {"deaf": 0.0, "breaks": 0.0}
        return [
            Fault("lost client", round(at_s, 3), round(deaf_s, 3), where, numbers=deaf),
            Fault("lost client", round(at_s + before_s, 3), round(mute_s, 3), where, numbers=mute),
        ]
