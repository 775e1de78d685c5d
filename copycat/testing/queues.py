"""Monitors of memory: what waits anywhere stays within the budget that is stated for it.

Limits are read when they are compared, for a world may have made them small. One element may go beyond
a budget where it is looked at before each and not after, so the largest element is allowed on top.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copycat.client import commands
from copycat.client.session import ClientSession
from copycat.server import reading, replicator, session, window
from copycat.server.applier import Applier
from copycat.server.replicator import Replicator
from copycat.server.roles import leader
from copycat.server.roles.leader import Leader
from copycat.server.session import Session
from copycat.storage.batch import RECORD_BYTES_MAX

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode


@dataclass(frozen=True, slots=True)
class Queue:
    """A place where something waits.

    Attributes:
        owner: the class of actors that have it.
        held: how much waits in one.
        most: how much may.
    """

    owner: type
    held: Callable[[Any], int]
    most: Callable[[], int]


def _most_of_reads(applier: Applier) -> int:
    return max((held.size_bytes for held in applier._reads._held.values()), default=0)


QUEUES: Mapping[str, Queue] = {
    "bytes of requests on their way to a follower": Queue(
        Replicator,
        lambda one: one._in_flight_bytes,
        lambda: (
            replicator.BYTES_IN_FLIGHT_MAX + max(replicator.REQUEST_BYTES_MAX, RECORD_BYTES_MAX)
        ),
    ),
    "requests on their way to a follower": Queue(
        Replicator, lambda one: len(one._in_flight), lambda: replicator.REQUESTS_IN_FLIGHT_MAX
    ),
    "bytes that wait to be committed": Queue(
        Leader,
        lambda one: one._open_bytes,
        lambda: leader.OPEN_BYTES_MAX + leader.SIGNS_OF_LIFE_BYTES_MAX + 2 * RECORD_BYTES_MAX,
    ),
    "bytes that a leader keeps until it serves": Queue(
        Leader, lambda one: one._early_bytes, lambda: leader.OPEN_BYTES_MAX
    ),
    "bytes of commands ahead of their turn": Queue(
        Leader, lambda one: one._sequencer._waiting_bytes, lambda: window.WAITING_BYTES_MAX
    ),
    "bytes of answers that a session has not acknowledged": Queue(
        Session, lambda one: one._answers_bytes, lambda: session.ANSWERS_BYTES_MAX
    ),
    "bytes of events that a session has not acknowledged": Queue(
        Session, lambda one: one._events_bytes, lambda: session.EVENTS_BYTES_MAX
    ),
    "bytes of reads of a connection that wait": Queue(
        Applier, _most_of_reads, lambda: reading.READS_BYTES_MAX
    ),
    "batches of commands of a client that are under way": Queue(
        ClientSession,
        lambda one: len(one._commands._in_flight),
        lambda: commands.BATCHES_IN_FLIGHT_MAX,
    ),
}
"""Every queue that is looked at, by what waits there."""


def overfull(node: "SimulatedNode") -> str | None:
    """What waits on a node beyond its budget, in words; None when nothing does."""
    for cell in node._cells.values():
        owner = type(cell.actor)
        for what, queue in _of(owner):
            held, most = queue.held(cell.actor), queue.most()
            if held > most:
                return f"{held:,} {what}, where {most:,} may"
    return None


_known: dict[type, list[tuple[str, Queue]]] = {}


def _of(owner: type) -> list[tuple[str, Queue]]:
    found = _known.get(owner)
    if found is None:
        found = [(what, queue) for what, queue in QUEUES.items() if queue.owner is owner]
        _known[owner] = found
    return found
