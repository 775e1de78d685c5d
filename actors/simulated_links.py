"""One simulated node's connections: whom it dials, who dialled it, and who is told.

Both worlds keep the contract of ``environment.Links``; here a connection is two ``End`` objects
that the simulated network carries frames between.
"""

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copycat.actors.address import NodeAddress
from copycat.actors.codec import CodecError
from copycat.actors.environment import (
    DRAINED_BYTES_MAX,
    Identity,
    LinkDrained,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
    Traffic,
)
from copycat.actors.frame import (
    STRANGER_BYTES_MAX,
    Unreadable,
    decode_payload,
    encode_envelopes,
    envelope,
)
from copycat.actors.hello import REPLACED, Hello, hello_of, is_name
from copycat.actors.message import BULK_MESSAGES
from copycat.actors.simulated_processor import Processor

if TYPE_CHECKING:
    from copycat.actors.simulated_network import SimulatedNetwork
    from copycat.actors.simulated_node import SimulatedNode

RETRY_FIRST_S = 0.05
RETRY_LAST_S = 0.4
SPARE_RETRY_LAST_S = 3.2
REFUSED_MAX = 8  # messages that nobody takes, of a node that is guarded against
DRAINED_POLL_S = 0.05  # how often it is looked whether a link has drained
FRAME_LENGTH_BYTES = 4

_RESET = os.strerror(errno.ECONNRESET).lower()


@dataclass(frozen=True, slots=True)
class Closing:
    """The last thing that arrives at an end of a connection."""

    reason: str
    refused: bool = False  # one of the two nodes does not admit the other


class End:
    """One side of a connection.

    Attributes:
        up: whether this side believes in the connection.
        dial: who keeps it up, on the side that dialled; None on the other.
        hello: what the other side said of itself.
        last_arrival_s: when the last thing that keeps its order arrives here.
        last_bulk_s: likewise of bulk messages, which have an order of their own.
        is_stranger: whether the other node has yet to be admitted by the layer above.
        refused: messages of the other node that nobody here takes.
        sent_bytes: from here, lost ones too.
        held: what a cut keeps back, in order of arrival.
        holds: whether it does, or loses; None before the first thing was stopped.
        stopped_at_s: when a cut first stopped something here.
        has_lost: whether a cut has lost anything that was to arrive here.
        refusal: why this side has refused the other, if it has.
    """

    __slots__ = (
        "_label", "dial", "has_lost", "held", "hello", "holds", "is_stranger", "last_arrival_s",
        "last_bulk_s", "network", "node", "peer", "refusal", "refused", "sent_bytes",
        "stopped_at_s", "up",
    )  # fmt: skip

    peer: "End"

    def __init__(
        self,
        network: "SimulatedNetwork",
        node: "SimulatedNode",
        dial: "Dial | None",
        hello: Hello,
    ) -> None:
        self.network = network
        self.node = node
        self.dial = dial
        self.hello = hello
        self.up = False
        self.last_arrival_s = 0.0
        self.last_bulk_s = 0.0
        self.is_stranger = False
        self.refused = 0
        self.sent_bytes = 0
        self.held: list[bytes | Closing] = []
        self.holds: bool | None = None
        self.stopped_at_s = 0.0
        self.has_lost = False
        self.refusal: Closing | None = None
        self._label = b""

    def connect(self, peer: "End") -> None:
        """Make this end and another one a connection."""
        self.peer, peer.peer = peer, self
        for end in (self, peer):
            end._label = f"{end.peer.node.name}>{end.node.name}\n".encode()

    @property
    def endpoint(self) -> str:
        """What was dialled; empty on the other side."""
        return "" if self.dial is None else self.dial.endpoint

    def arrive(self, item: bytes | Closing) -> None:
        """A frame, or the end of the connection, has come through the wire."""
        if not self.up:
            self.network.miss(self)
        elif not self.network.stops(self, item):
            self.take(item)

    def fall(self, closing: Closing) -> None:
        """The connection ends on this side by its own judgement; no cut can stop that."""
        if self.up:
            self.take(closing)

    def take(self, item: bytes | Closing) -> None:
        """Hand what has arrived to the node."""
        node, network = self.node, self.network
        if type(item) is not bytes:
            assert type(item) is Closing, "frames and the end arrive, nothing else"
            node.links.down(self, item)
            return
        other, loop = self.hello, network.loop
        if self.is_stranger and len(item) > STRANGER_BYTES_MAX + FRAME_LENGTH_BYTES:
            node.links.refuse(other.name, f"a frame of {len(item)} bytes of a stranger")
            return
        network.delivered += 1
        network.latest.append((loop.events, loop.time(), other.name, node.name, item))
        loop.record(self._label + item)
        before, Processor.at_work = Processor.at_work, node.processor
        try:
            for incarnation, serial, sender, message in decode_payload(item[FRAME_LENGTH_BYTES:]):
                if type(message) is Unreadable:
                    node.links.refused(other.name, message.reason)
                    continue
                node.deliver(
                    NodeAddress(node.name, incarnation, serial),
                    message,
                    NodeAddress(other.name, other.incarnation, sender),
                )
        finally:
            Processor.at_work = before


class Dial:
    """The will of a node to be connected with an endpoint."""

    __slots__ = ("end", "endpoint", "hung_up", "is_spare", "links", "retry_s")

    def __init__(self, links: "SimulatedLinks", endpoint: str, *, spare: bool) -> None:
        self.links = links
        self.endpoint = endpoint
        self.end: End | None = None
        self.hung_up = False
        self.is_spare = spare
        self.retry_s = RETRY_FIRST_S

    def is_over(self) -> bool:
        """Whether nobody wants this connection any more."""
        return self.hung_up or self.links.node.stopped

    def failed(self, closing: Closing) -> None:
        """An attempt ended without a connection."""
        if not self.is_over():
            self.links.tell(NodeUnreachable(self.endpoint, closing.reason, closing.refused))
            self.retry(was_up=False)

    def admitted(self, end: End) -> None:
        """An attempt succeeded, as far as the other side knew a moment ago."""
        links = self.links
        if self.is_over():
            links.network.close(end.peer, Closing(_RESET))
        elif not end.peer.up:
            self.failed(end.peer.refusal or Closing(_RESET))
        else:
            self.end = end
            links.opened(end)

    def retry(self, *, was_up: bool) -> None:
        """Knock again after the back-off, which starts anew after a connection that was up."""
        node = self.links.node
        self.end = None
        if was_up:
            self.retry_s = RETRY_FIRST_S
        last_s = SPARE_RETRY_LAST_S if self.is_spare else RETRY_LAST_S
        wait_s = min(self.retry_s, last_s) * node.environment.random.uniform(0.75, 1.25)
        self.retry_s = min(2 * self.retry_s, last_s)
        node.loop.plan(node.loop.time() + wait_s, Dial._again, self)

    def _again(self) -> None:
        node = self.links.node
        if self.is_over():
            return
        if node.paused:
            node.when_resumed(self._again)
        else:
            self.links.network.knock(self)


class SimulatedLinks:
    """What one simulated node knows of its connections; see ``environment.Links``."""

    def __init__(
        self, node: "SimulatedNode", network: "SimulatedNetwork", identity: Identity
    ) -> None:
        assert is_name(identity.name), "a node's name is 1 to 255 printable characters"
        self.node = node
        self.network = network
        self.lost = 0  # messages to nodes without a link
        self._guarded = False
        self._preferred: dict[str, int] = {}  # node ids, by name
        self._dials: dict[str, Dial] = {}
        self._dialled: dict[str, End] = {}  # by the name of the other node
        self._accepted: dict[str, End] = {}
        self._earlier: dict[str, End] = {}  # likewise, of another life of a preferred node
        self._used: dict[str, End] = {}  # one of these, by which messages go
        self._watchers: dict[NodeAddress, None] = {}
        self._drained: dict[str, dict[NodeAddress, None]] = {}  # who waits for that, by node
        self.introduce(identity)

    # What actors ask of links.

    def dial(self, endpoint: str, *, spare: bool = False) -> None:
        """Connect to an endpoint and stay connected, trying again with back-off."""
        if endpoint in self._dials:
            self._dials[endpoint].is_spare = spare
        else:
            made = self._dials[endpoint] = Dial(self, endpoint, spare=spare)
            self.network.knock(made)

    def hang_up(self, endpoint: str) -> None:
        """Drop the link that was dialled with this endpoint, if any, and stop trying."""
        dial = self._dials.pop(endpoint, None)
        if dial is not None:
            dial.hung_up = True
            if dial.end is not None:
                self.down(dial.end, Closing("hung up"))
                self.network.close(dial.end.peer, Closing("connection closed"))

    def watch(self, watcher: NodeAddress) -> None:
        """From now on tell this local actor of every link."""
        assert watcher.node == self.node.name, "a watcher is a local actor"
        self._watchers[watcher] = None

    def introduce(self, identity: Identity) -> None:
        """Introduce this node by ``identity`` in every connection made from now on."""
        assert identity.name == self.node.name, "a node keeps its name"
        self._hello = hello_of(identity, self.node.incarnation)

    def guard(self) -> None:
        """From now on nodes that connect are strangers until they are admitted."""
        self._guarded = True

    def admit(self, node: str) -> None:
        """A stranger is none any more."""
        end = self._accepted.get(node)
        if end is not None:
            end.is_stranger = False

    def prefer(self, node: str, node_id: int) -> None:
        """The node of this name and id is one of ours."""
        self._preferred[node] = node_id
        end = self._accepted.get(node)
        if end is not None and self._is_ours(end):
            end.is_stranger = False

    def _is_ours(self, end: End) -> bool:
        return self._preferred.get(end.hello.name, 0) == end.hello.node_id != 0

    def refused(self, node: str, reason: str) -> None:
        """A message of a node was refused. One that is guarded against may not send many."""
        end = self._accepted.get(node)
        if end is not None and self._guarded and not self._is_ours(end):
            end.refused += 1
            if end.refused == REFUSED_MAX:
                self.refuse(node, f"messages that nobody takes: {reason}")

    def refuse(self, node: str, reason: str) -> None:
        """Close the links to ``node`` and tell it why."""
        for end in self._all_to(node):
            self._refuse(end, reason)

    def _all_to(self, node: str) -> list[End]:
        """All connections with the nodes of a name."""
        tables = (self._dialled, self._accepted, self._earlier)
        return [table[node] for table in tables if node in table]

    def flush(self, node: str) -> None:
        """Nothing waits here: what is sent is on its way at once."""

    def unsent_bytes(self, node: str, *, bulk: bool = False) -> int:
        """How many bytes for ``node`` wait: for their turn on a clogged link, or for a cut to heal."""
        end = self._used.get(node)
        return 0 if end is None else self.network.waiting_bytes(end, bulk=bulk)

    def traffic(self, node: str) -> Traffic:
        """What has gone over the link that leads to ``node``."""
        end = self._used.get(node)
        if end is None:
            return Traffic(0, 0, 0)
        unsent_bytes = self.network.waiting_bytes(end)
        received_bytes = end.peer.sent_bytes - self.network.waiting_bytes(end.peer)
        return Traffic(received_bytes, end.sent_bytes - unsent_bytes, unsent_bytes)

    def ask_drained(self, node: str, asker: NodeAddress) -> None:
        """Tell this local actor when the link to ``node`` has taken what was sent."""
        waiting = self._drained.setdefault(node, {})
        if not waiting:
            self.node.call_after_turn(lambda: self._tell_drained(node))
        waiting[asker] = None

    def _tell_drained(self, node: str) -> None:
        if self.node.stopped:
            return
        if self.unsent_bytes(node) > DRAINED_BYTES_MAX:
            loop = self.node.loop
            loop.plan(loop.time() + DRAINED_POLL_S, self._tell_drained, node)
            return
        for asker in self._drained.pop(node):
            self.node.tell(asker, LinkDrained(node))

    # What the network and the node ask.

    def hello(self) -> Hello:
        """How the node introduces itself now."""
        return self._hello

    def ends(self) -> list[End]:
        """This node's side of every connection, in the order they were made in."""
        return [*self._dialled.values(), *self._accepted.values(), *self._earlier.values()]

    def leads_to(self, node: str, incarnation: int) -> bool:
        """Whether messages to this node go to this life of it, as far as no fault stops them."""
        end = self._used.get(node)
        return end is not None and end.hello.incarnation == incarnation and end.peer.up

    def transmit(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        """Encode a message and put it on the wire to its node, or lose it.

        Raises:
            CodecError: it cannot travel.
        """
        end = self._used.get(target.node)
        if end is None:
            self.lost += 1
            return
        if target.incarnation:
            end = self._to_life(end, target)
        frame, refused = encode_envelopes([envelope(target, message, sender.serial)])
        if refused:
            raise CodecError(refused[0][1])
        self.network.send(end, frame, type(message) in BULK_MESSAGES)

    def _to_life(self, used: End, target: NodeAddress) -> End:
        """The end that leads to this life of a node, if there is one; else the one in use."""
        for end in (used, *self._all_to(target.node)):
            if end.hello.incarnation == target.incarnation:
                return end
        return used

    def opened(self, end: End) -> None:
        """A connection is up on this side. Of two from one node the newer is used, and the other one
        ends unless it leads to another life of a preferred node."""
        hello = end.hello
        table = self._accepted if end.dial is None else self._dialled
        older = table.get(hello.name)
        if older is not None:
            if end.dial is not None and older.hello.incarnation == hello.incarnation:
                # Else two endpoints of one node would take the link from each other for ever.
                closing = Closing(
                    f"{hello.name} is already connected as {older.endpoint}", refused=True
                )
                end.dial.failed(closing)
                self.network.close(end.peer, Closing("connection closed"))
                return
            self._make_way(end, older)
        end.up = True
        end.is_stranger = self._guarded and end.dial is None and not self._is_ours(end)
        table[hello.name] = end
        if self._used.setdefault(hello.name, end).hello.incarnation != hello.incarnation:
            self._used[hello.name] = end  # the other one leads to an earlier life, or to a namesake
        self.tell(
            NodeConnected(
                hello.name,
                hello.incarnation,
                end.endpoint,
                hello.cluster_id,
                hello.node_id,
                hello.offers,
            )
        )

    def _make_way(self, newer: End, older: End) -> None:
        """End what a newer connection of the same name replaces. What stays is the earlier one."""
        name = newer.hello.name
        for end in (older,) if newer.dial is not None else (self._earlier.get(name), older):
            if end is not None and not self._stays(end, newer):
                self._refuse(end, REPLACED)
        if newer.dial is None and name in self._accepted:
            self._earlier[name] = self._accepted[name]

    def _stays(self, end: End, newer: End) -> bool:
        """Whether an accepted connection stays beside a newer one: when they lead to two lives of a
        preferred node, of which the oldest and the newest are linked."""
        is_other = end.hello.incarnation != newer.hello.incarnation
        is_oldest = self._earlier.get(newer.hello.name, end) is end
        return is_other and is_oldest and self._is_ours(end) and self._is_ours(newer)

    def down(self, end: End, closing: Closing) -> None:
        """A connection is gone on this side."""
        assert end.up, "a connection ends once on each side"
        end.up = False
        end.held.clear()
        hello, dial = end.hello, end.dial
        self._remove(end, hello.name)
        if self._used[hello.name] is end:
            other = self._dialled.get(hello.name) or self._accepted.get(hello.name)
            if other is None:
                del self._used[hello.name]
            else:
                self._used[hello.name] = other
        self.tell(NodeDisconnected(hello.name, hello.incarnation, end.endpoint, closing.reason))
        if dial is not None and not dial.is_over():
            if closing.refused:
                self.tell(NodeUnreachable(dial.endpoint, closing.reason, refused=True))
            dial.retry(was_up=not closing.refused)

    def _remove(self, end: End, name: str) -> None:
        """Take a connection that was up from the books."""
        if self._earlier.get(name) is end:
            del self._earlier[name]
            return
        table = self._accepted if end.dial is None else self._dialled
        assert table[name] is end, "a connection that is up is in the books"
        del table[name]
        if end.dial is None and name in self._earlier:
            self._accepted[name] = self._earlier.pop(name)

    def close(self) -> list[End]:
        """The node has ended: forget all connections, and return those that were up."""
        ends = self.ends()
        for end in ends:
            end.up = False
        self._dialled.clear()
        self._accepted.clear()
        self._earlier.clear()
        self._used.clear()
        self._dials.clear()
        return ends

    def tell(self, news: NodeConnected | NodeDisconnected | NodeUnreachable) -> None:
        """Send news of a link to all watchers."""
        node = self.node
        sender = NodeAddress(node.name, node.incarnation, 0)
        for watcher in list(self._watchers):
            if node.has(watcher):
                node.deliver(watcher, news, sender)
            else:
                del self._watchers[watcher]

    def _refuse(self, end: End, reason: str) -> None:
        """Close a connection from this side, for a reason that the other side is told."""
        self.down(end, Closing(reason, refused=True))
        end.refusal = Closing(f"refused by the other node: {reason}", refused=True)
        self.network.close(end.peer, end.refusal)
