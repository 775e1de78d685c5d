"""The simulated network: wires between nodes, and everything that can go wrong on them.

A connection behaves as TCP does, unless a fault says otherwise: what is sent on it arrives once,
in order, until one side learns that it is gone. A *clogged* direction carries few bytes a second;
the connection breaks when too many wait. Faults go further than TCP on purpose: single
messages may be lost, doubled or overtaken while the connection stays up.

A *cut* stops everything in one direction. Per connection the network either holds what was to
arrive and delivers it after the cut has healed, minutes later if need be, or loses it and resets
the connection when the cut heals.

Invariant: all choices come from ``random``, in the order of the events.
"""

import errno
import os
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copycat.actors.hello import refusal
from copycat.actors.simulated_links import Closing, Dial, End
from copycat.actors.simulated_loop import SimulatedLoop

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode

Delivery = tuple[int, float, str, str, bytes]
"""A frame that arrived: the event, its time, from whom, to whom, and its bytes."""

DELIVERIES_KEPT = 2_000
CONNECT_TIMEOUT_S = 0.5  # until an attempt to dial through a cut is followed by another one
SILENCE_LIMIT_S = 4.0  # of a node that stands still, until the others end their connections
SILENCE_MIN_S = 1.0  # when a silent crash is noticed at the earliest, if nothing is sent
SILENCE_MAX_S = 30.0  # and at the latest
CUT_MAX_S = 30.0  # how long a connection outlives a cut that has stopped something on it

_RESET = os.strerror(errno.ECONNRESET).lower()
_REFUSED = os.strerror(errno.ECONNREFUSED).lower()
_TIMED_OUT = os.strerror(errno.ETIMEDOUT).lower()


@dataclass(frozen=True, slots=True)
class NetworkFaults:
    """How often the network does what. Rates are probabilities from 0 to 1, per message."""

    delay_s: float = 0.0005  # at least, one way
    jitter_s: float = 0.0005  # on top, evenly distributed
    loss: float = 0.0
    duplicate: float = 0.0  # a second copy arrives up to late_s after the first
    reorder: float = 0.0  # arrives up to late_s later, and does not hold up those behind it
    late_s: float = 0.05
    reset: float = 0.0  # the connection is gone, and the message with it
    hold: float = 1.0  # per connection and cut: what is sent meanwhile arrives after the cut
    silent_crash: float = 0.0  # per crash: nobody is told, as when a machine loses power

    @classmethod
    def none(cls) -> "NetworkFaults":
        """A network that only takes its time."""
        return cls()

    @classmethod
    def random(cls, chance: random.Random) -> "NetworkFaults":
        """Each fault with probability 1/2, and then at a random rate; small ones are likelier."""

        def rate(most: float) -> float:
            return most * chance.random() ** 2 if chance.random() < 0.5 else 0.0

        return cls(
            delay_s=0.0002 + rate(0.02),
            jitter_s=0.0005 + rate(0.05),
            loss=rate(0.1),
            duplicate=rate(0.1),
            reorder=rate(0.2),
            late_s=0.005 + rate(1.0),
            reset=rate(0.002),
            hold=chance.choice((0.0, 1.0, chance.random())),
            silent_crash=chance.choice((0.0, 1.0, chance.random())),
        )


@dataclass(slots=True)
class _Clog:
    """One direction between two nodes that carries little.

    Attributes:
        bytes_per_s: how much.
        waiting_bytes: a connection on which more than this waits is given up by its sender.
        free_s: when all that was sent is through, bulk messages apart.
        bulk_free_s: when these are, too; nothing else waits for them.
    """

    bytes_per_s: float
    waiting_bytes: float
    free_s: float = 0.0
    bulk_free_s: float = 0.0


class SimulatedNetwork:
    """All wires of one simulated world.

    Attributes:
        faults: may be replaced at any time.
        delivered: messages that arrived, copies included.
        lost: messages that will never arrive.
        duplicated: messages that arrive twice.
        reordered: messages that others may overtake.
        held: messages that a cut has kept back so far.
        overfull: the connections that broke since more waited on a clogged link than was allowed: from
            whom, to whom, and how many bytes were.
        latest: the last frames that arrived, for the story of a failure.
    """

    def __init__(self, loop: SimulatedLoop, random: random.Random, faults: NetworkFaults) -> None:
        self.loop = loop
        self.random = random
        self.faults = faults
        self.delivered = 0
        self.lost = 0
        self.duplicated = 0
        self.reordered = 0
        self.held = 0
        self.overfull: list[tuple[str, str, float]] = []
        self.latest: deque[Delivery] = deque(maxlen=DELIVERIES_KEPT)
        self._running: dict[int, SimulatedNode] = {}  # by incarnation: two may have one name
        self._listeners: dict[str, SimulatedNode] = {}
        self._owners: dict[str, str] = {}  # endpoint: the name of its last listener
        self._cuts: dict[tuple[str, str], None] = {}  # (from, to)
        self._clogs: dict[tuple[str, str], _Clog] = {}  # likewise

    # Faults on order.

    def cut(self, a: str, b: str) -> None:
        """Nothing passes between two nodes any more, in either direction."""
        self.cut_one_way(a, b)
        self.cut_one_way(b, a)

    def cut_one_way(self, source: str, target: str) -> None:
        """Nothing passes from ``source`` to ``target`` any more. Connecting takes both ways."""
        self._cuts[source, target] = None

    def partition(self, *groups: list[str]) -> None:
        """Cut every node from all nodes of other groups; who is in no group is cut from none."""
        for position, group in enumerate(groups):
            for other in groups[position + 1 :]:
                for a in group:
                    for b in other:
                        self.cut(a, b)

    def heal(self, a: str | None = None, b: str | None = None) -> None:
        """Undo the cuts between two nodes, all cuts of node ``a``, or all cuts."""
        chosen = {one for one in (a, b) if one is not None}
        for pair in list(self._cuts):
            if chosen.issubset(pair):
                del self._cuts[pair]
        self._heal_ends()

    def heal_one_way(self, source: str, target: str) -> None:
        """Undo the cut from ``source`` to ``target``, if there is one."""
        if (source, target) in self._cuts:
            del self._cuts[source, target]
            self._heal_ends()

    def _heal_ends(self) -> None:
        for node in self._running.values():
            for end in node.links.ends():
                if not self._is_cut(end):
                    self._heal(end)

    def clog(self, source: str, target: str, bytes_per_s: float, waiting_bytes: float) -> None:
        """Let little pass from ``source`` to ``target``; what is sent waits for its turn.

        Args:
            source, target: the direction.
            bytes_per_s: how much passes.
            waiting_bytes: when more than this waits, the connection breaks, as it does when the
                other node does not read.
        """
        assert bytes_per_s > 0, "what carries nothing at all is a cut"
        self._clogs[source, target] = _Clog(bytes_per_s, waiting_bytes)

    def unclog(self, source: str | None = None, target: str | None = None) -> None:
        """Let everything pass again in one direction, or in all. What waits keeps its time."""
        if source is None or target is None:
            self._clogs.clear()
        else:
            self._clogs.pop((source, target), None)

    def reset(self, a: str, b: str) -> None:
        """Break the connections between two nodes; both sides notice soon."""
        for node in self._running.values():
            for end in node.links.ends() if node.name == a else ():
                if end.peer.node.name == b:
                    self._reset(end)

    def is_well(self, *, with_clogs: bool = False) -> bool:
        """Whether no fault is in force but cuts: the network only takes its time, and no link is
        clogged, unless that is borne."""
        return (with_clogs or not self._clogs) and self.faults == NetworkFaults.none()

    @property
    def cuts(self) -> tuple[tuple[str, str], ...]:
        """From whom to whom nothing passes."""
        return tuple(self._cuts)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes from ``source`` to ``target``."""
        return (source, target) in self._cuts

    # Nodes come and go.

    def join(self, node: "SimulatedNode") -> None:
        """A node has started, and listens if it has an endpoint."""
        self._running[node.incarnation] = node
        if node.endpoint is not None:
            assert node.endpoint not in self._listeners, f"{node.endpoint} is in use"
            self._listeners[node.endpoint] = node
            self._owners[node.endpoint] = node.name

    def leave(self, node: "SimulatedNode", *, orderly: bool, silent: bool) -> None:
        """A node has ended.

        Args:
            node: which.
            orderly: what it sent arrives before the news that it is gone; else perhaps not.
            silent: the other sides notice late: after seconds, when they send something to the
                node's next life, or when that connects to them.
        """
        del self._running[node.incarnation]
        if node.endpoint is not None:
            del self._listeners[node.endpoint]
        for end in node.links.close():
            if silent:
                span_s = SILENCE_MAX_S - SILENCE_MIN_S
                after_s = SILENCE_MIN_S + self.random.random() * span_s
                self.loop.plan(self.loop.time() + after_s, end.peer.fall, Closing(_TIMED_OUT))
            elif orderly:
                self.close(end.peer, Closing("connection closed"))
            else:
                self.loop.plan(self._soon(), end.peer.arrive, Closing(_RESET))

    def fall_silent(self, node: "SimulatedNode") -> None:
        """A node has stood still for long: the others take it for gone, and it will learn of that."""
        for end in node.links.ends():
            end.peer.fall(Closing("nothing was heard of the other node"))
            self.close(end, Closing(_RESET))

    # Connections.

    def knock(self, dial: Dial) -> None:
        """Try to connect; ends as ``dial.failed`` or ``dial.admitted``."""
        self.loop.plan(self._soon(), self._arrive_at_door, dial)

    def _arrive_at_door(self, dial: Dial) -> None:
        dialler = dial.links.node
        if dial.is_over():
            return
        owner = self._owners.get(dial.endpoint, "")
        if self.is_cut(dialler.name, owner) or self.is_cut(owner, dialler.name):
            due_s = self.loop.time() + CONNECT_TIMEOUT_S
            closing = Closing(f"no answer within {CONNECT_TIMEOUT_S:g} s")
            self.loop.plan(due_s, dial.failed, closing)
            return
        listener = self._listeners.get(dial.endpoint)
        if listener is None:
            self.loop.plan(self._soon(), dial.failed, Closing(_REFUSED))
        elif listener.paused:
            listener.when_resumed(lambda: self._arrive_at_door(dial))
        else:
            self._introduce(dial, listener)

    def _introduce(self, dial: Dial, listener: "SimulatedNode") -> None:
        links = listener.links
        mine, other = dial.links.hello(), links.hello()
        reason = refusal(mine, other)
        if reason is not None:
            self.loop.plan(self._soon(), dial.failed, Closing(reason, refused=True))
            return
        near, far = End(self, dial.links.node, dial, other), End(self, listener, None, mine)
        near.connect(far)
        near.last_arrival_s = self._soon()
        links.opened(far)
        self.loop.plan(near.last_arrival_s, dial.admitted, near)

    def close(self, end: End, closing: Closing) -> None:
        """Tell one end that the other has closed, after all that was sent to it."""
        end.last_arrival_s = max(end.last_arrival_s, self._soon())
        self.loop.plan(end.last_arrival_s, end.arrive, closing)

    def _reset(self, end: End) -> None:
        self.loop.plan(self._soon(), end.fall, Closing(_RESET))
        self.loop.plan(self._soon(), end.peer.fall, Closing(_RESET))

    # Messages.

    def send(self, end: End, frame: bytes, bulk: bool) -> None:
        """Carry a frame with one message, of either kind, from this end to the other."""
        target = end.peer
        end.sent_bytes += len(frame)
        faults, chance, plan = self.faults, self.random.random, self.loop.plan
        when_s = end.node.processor.time() + faults.delay_s + chance() * faults.jitter_s
        if self._clogs:
            passed_s = self._pass_clog(end, len(frame), bulk=bulk)
            if passed_s is None:
                self.lost += 1
                if not bulk:
                    self._reset(end)
                return
            when_s = max(when_s, passed_s)
        when_s = max(when_s, target.last_bulk_s if bulk else target.last_arrival_s)
        if faults.loss and chance() < faults.loss:
            self.lost += 1
            return
        if faults.reset and chance() < faults.reset:
            self.lost += 1
            self._reset(end)
            return
        if faults.duplicate and chance() < faults.duplicate:
            self.duplicated += 1
            plan(when_s + chance() * faults.late_s, target.arrive, frame)
        if faults.reorder and chance() < faults.reorder:
            self.reordered += 1
            when_s += chance() * faults.late_s
        elif bulk:
            target.last_bulk_s = when_s
        else:
            target.last_arrival_s = when_s
        plan(when_s, target.arrive, frame)

    def _pass_clog(self, end: End, size_bytes: int, *, bulk: bool) -> float | None:
        """When so many bytes are through; None when too many wait already."""
        now_s = end.node.processor.time()
        clog = self._clogs.get((end.node.name, end.peer.node.name))
        if clog is None:
            return now_s
        before_s = max(clog.free_s, clog.bulk_free_s if bulk else 0.0, now_s)
        free_s = before_s + size_bytes / clog.bytes_per_s
        if (free_s - now_s) * clog.bytes_per_s > max(clog.waiting_bytes, size_bytes):
            free_s = now_s
            self.overfull.append((end.node.name, end.peer.node.name, clog.waiting_bytes))
        if bulk:
            clog.bulk_free_s = free_s
        else:
            clog.free_s = free_s
        return free_s if free_s > now_s else None

    def waiting_bytes(self, end: End, *, bulk: bool = False) -> int:
        """How many bytes of one kind that this end has sent wait for a clog, or are held by a cut."""
        held_bytes = sum(len(item) for item in end.peer.held if type(item) is bytes)
        clog = self._clogs.get((end.node.name, end.peer.node.name))
        if clog is None:
            return held_bytes
        free_s = clog.bulk_free_s if bulk else clog.free_s
        clogged_s = max(0.0, free_s - end.node.processor.time())
        return held_bytes + round(clogged_s * clog.bytes_per_s)

    def stops(self, end: End, item: bytes | Closing) -> bool:
        """Whether what arrives at this end is kept back or lost by a cut; if so it was dealt with."""
        if not end.held and not (self._cuts and self._is_cut(end)):
            return False
        if end.holds is None:
            end.holds = self.random.random() < self.faults.hold
            end.stopped_at_s = self.loop.time()
            due_s = end.stopped_at_s + CUT_MAX_S
            self.loop.plan(due_s, self._give_up, (end, end.stopped_at_s))
        if end.holds:
            self.held += 1
            end.held.append(item)
        else:
            self.lost += 1
            end.has_lost = True
        return True

    def miss(self, end: End) -> None:
        """Something arrived at an end that is closed. If its machine is up, it says so."""
        is_up = any(node.name == end.node.name for node in self._running.values())
        if end.peer.up and is_up:
            self.loop.plan(self._soon(), end.peer.arrive, Closing(_RESET))

    def _give_up(self, stopped: tuple[End, float]) -> None:
        """What was sent has not been confirmed for so long that both sides end the connection."""
        end, stopped_at_s = stopped
        if end.holds is not None and end.stopped_at_s == stopped_at_s:
            end.fall(Closing(_TIMED_OUT))
            end.peer.fall(Closing(_TIMED_OUT))

    def _heal(self, end: End) -> None:
        if end.has_lost:
            end.has_lost = False
            end.holds = None
            self._reset(end)
        elif end.held:
            self.loop.plan(self._soon(), self._release, end)

    def _release(self, end: End) -> None:
        if self._is_cut(end):
            return
        end.holds = None
        items, end.held = end.held, []
        for item in items:
            if end.up:
                end.take(item)

    def _is_cut(self, end: End) -> bool:
        return (end.peer.node.name, end.node.name) in self._cuts

    def _soon(self) -> float:
        """When something sent now arrives."""
        faults = self.faults
        return self.loop.time() + faults.delay_s + self.random.random() * faults.jitter_s
