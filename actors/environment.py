"""All that an actor may ask of the world: time, randomness, a disk, and links to other nodes.

Two worlds provide it: ``network`` (the real one) and ``simulation``. Nothing here does
anything; these are the contracts that both worlds keep. Whatever takes time ends as a
message to the actor that asked, never as a return.
"""

import random
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from copycat.actors.address import NodeAddress
from copycat.actors.handler_times import HandlerTimes
from copycat.actors.message import message


class Clock(Protocol):
    """Time as one node sees it."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment; never goes back. Intervals are measured with it.

        Time in which the machine slept counts, where the system can tell.
        """
        ...

    @property
    def set_back_s(self) -> float:
        """By how much the clock of the machine was set back so far; ``monotonic_s`` ran on."""
        ...

    def passing_s(self) -> float:
        """Seconds since an arbitrary moment, at the least cost: for what takes milliseconds. It goes
        back when the machine's clock is set back."""
        ...

    def wall_time_s(self) -> float:
        """Seconds since 1970 by the node's wall clock, which may jump. For people only."""
        ...


class File(Protocol):
    """One open file of a node's disk. Every error of the disk is an ``OSError``."""

    name: str

    def size(self) -> int:
        """Bytes in the file, preallocated ones included."""
        ...

    def read(self, offset: int, size_bytes: int) -> bytes:
        """At most ``size_bytes`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def write(self, offset: int, content: bytes) -> None:
        """Put all of ``content`` at ``offset``: visible at once, durable only after a sync."""
        ...

    def close(self) -> None:
        """Give the file up; what was not synced stays undecided."""
        ...


class Disk(Protocol):
    """A node's own directory of files.

    ``sync``, ``replace`` and ``allocate`` end as a ``DiskDone`` message to ``reply_to`` with the
    same token; several may be under way at once and end in any order. A failed one is never
    tried again by the disk, and must not be by the caller.
    """

    def names(self) -> list[str]:
        """The files there are, sorted."""
        ...

    def open(self, name: str, *, create: bool = False) -> File:
        """Open a file for reading and writing; ``create`` makes an empty one if there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file. It may be back after a crash."""
        ...

    def load(self, name: str) -> bytes | None:
        """The whole of a small file, or None when there is no such file."""
        ...

    def sync(self, file: File, reply_to: NodeAddress, token: int) -> None:
        """Make durable all that was written to ``file`` before this call, and its name."""
        ...

    def replace(self, name: str, content: bytes, reply_to: NodeAddress, token: int) -> None:
        """Atomically give file ``name`` this content: after a crash it has the old or the new."""
        ...

    def allocate(self, name: str, size_bytes: int, reply_to: NodeAddress, token: int) -> None:
        """Make file ``name``, filled with zeros and durable, without holding up the loop."""
        ...


@message(1)
class DiskDone:
    """A disk operation has ended."""

    token: int  # the caller's, as it was given
    error: str | None  # what failed; None when all is durable


@dataclass(frozen=True, slots=True)
class Identity:
    """How a node introduces itself at every connection."""

    name: str  # unique in the cluster; addresses carry it
    cluster_id: int = 0  # 0: does not belong to a cluster (a client), or not yet
    node_id: int = 0  # drawn by a server at its first start; 0 for clients
    offers: tuple[str, ...] = ()  # what the node can do, in words of the layer above


@message(2)
class NodeConnected:
    """A link to another node is up; both sides have said who they are and agreed."""

    node: str
    incarnation: int
    endpoint: str  # "host:port" as it was dialled; "" when the other node dialled
    cluster_id: int
    node_id: int
    offers: tuple[str, ...]


@message(3)
class NodeDisconnected:
    """A link that was up has gone; what was sent on it may or may not have arrived."""

    node: str
    incarnation: int
    endpoint: str  # as in NodeConnected
    reason: str


@message(4)
class NodeUnreachable:
    """An attempt to dial an endpoint failed; the next one follows by itself, with back-off."""

    endpoint: str
    reason: str  # one line: "connection refused", "wrong cluster: ..."
    refused: bool  # the node is there but did not admit us, or we did not admit it


@message(8)
class LinkDrained:
    """Few bytes wait for a node by now: the answer to ``Links.ask_drained``."""

    node: str


class Traffic(NamedTuple):
    """What has gone over the link to a node, counted from its beginning."""

    received_bytes: int  # frames that are still incomplete are counted
    taken_bytes: int  # that the link has taken of what was sent
    unsent_bytes: int  # that it has not taken yet; see ``Links.unsent_bytes``


DRAINED_BYTES_MAX = 64 * 1024
"""What may still wait on a link that is called drained: enough that it does not fall idle before
more is sent."""


class Links(Protocol):
    """Connections to other nodes, kept up by the runtime.

    Each side may have dialled the other, so there may be two links. Messages to a node travel over
    the one that came up first, as long as it is up, and keep their order on it; those to an actor of
    one life of a node over a link that leads to that life, if there is one. With no link they are
    dropped.

    Bulk messages (``message(number, bulk=True)``) to a node that was dialled take a
    link of their own, which is made when the first is sent and which nobody is told of: no other
    message waits behind them, and when it breaks, only they are lost.

    A node of which nothing is heard for some seconds is disconnected, also when its host lives.
    """

    def dial(self, endpoint: str, *, spare: bool = False) -> None:
        """Connect to ``"host:port"`` and stay connected, trying again with back-off, until hung up.

        Args:
            endpoint: whom to reach. A later call changes ``spare``.
            spare: nobody waits for this connection, and so it is tried less and less often.
        """
        ...

    def hang_up(self, endpoint: str) -> None:
        """Drop the link that was dialled with this endpoint, if any, and stop trying."""
        ...

    def watch(self, watcher: NodeAddress) -> None:
        """From now on tell this local actor of every link: NodeConnected, NodeDisconnected,
        NodeUnreachable."""
        ...

    def introduce(self, identity: Identity) -> None:
        """Introduce this node by ``identity`` in every connection made from now on."""
        ...

    def refuse(self, node: str, reason: str) -> None:
        """Close the links to ``node`` and tell it why; it sees NodeUnreachable with ``refused``."""
        ...

    def flush(self, node: str) -> None:
        """Write what has been sent to ``node`` now and not at the end of the turn: it has work to
        begin while this node goes on with its own."""
        ...

    def guard(self) -> None:
        """From now on, a node that connects is a stranger until it is admitted or preferred.

        A stranger's frames have at most 256 KiB and few values. Who sends several messages that
        nobody takes is disconnected, be it a stranger or admitted.
        """
        ...

    def admit(self, node: str) -> None:
        """A stranger that is connected has shown that it has business here."""
        ...

    def prefer(self, node: str, node_id: int) -> None:
        """A node that introduces itself by this name and id is one of ours, now and later.

        What it sends is taken before what others send, what is sent to it is written first, and it
        finds room when others have taken all. A link that another life of it has made does not end
        the one there was: it is for the layer above to find out which of them lives. Two are kept,
        the oldest and the newest.
        """
        ...

    def unsent_bytes(self, node: str, *, bulk: bool = False) -> int:
        """How many bytes for ``node`` wait in this node, because the link does not take them yet.

        With ``bulk`` those of its bulk messages, without it all others.
        What was sent in this turn and not flushed need not be among them. 0 without a link.
        """
        ...

    def traffic(self, node: str) -> Traffic:
        """What has gone over the link that leads to ``node``; zeros without one."""
        ...

    def ask_drained(self, node: str, asker: NodeAddress) -> None:
        """Tell this local actor once, by ``LinkDrained``, when the link to ``node`` has taken all
        but ``DRAINED_BYTES_MAX`` of what was sent until the end of this turn.

        Whoever has much to send sends until ``unsent_bytes`` reaches a bound of its own, asks, and
        goes on when it is told; so no timer is needed, and no link is cut by this node's backlog.
        The answer comes after this turn at the earliest, and also when the link ends or there is
        none. Asking again before it came changes nothing.
        """
        ...


class Environment(Protocol):
    """What an actor holds of the world it lives in."""

    clock: Clock
    random: random.Random
    disk: Disk
    links: Links
    node: str  # the name of the node this actor lives in
    handlers: HandlerTimes  # which handlers of the node took long
