"""Reads that wait in the Applier until the state is new enough for them."""

import heapq
from collections import deque

from copycat.actors import Actor, NodeAddress
from copycat.actors.budget import Budget
from copycat.protocol.client import (
    QueriesReply,
    Refusal,
    Refused,
    Request,
    SessionEnded,
)
from copycat.server.delivery import Delivery
from copycat.server.operations import Answering, Router
from copycat.server.progress import Attachments, Progress
from copycat.server.steps import Read, SessionAttached
from copycat.types import Index, SessionId

READS_BYTES_MAX = 64 << 20
"""Of the reads of one connection that wait; a client of ours leaves a few open per session."""
READ_BYTES = 512  # what a read takes besides its operations
SKIPPED_MAX = 1_024


class HeldReads:
    """The reads of one connection that wait, by number; none when it has gone."""

    __slots__ = ("reads", "size_bytes")

    def __init__(self) -> None:
        self.reads: dict[int, tuple[Read, int]] = {}  # each with its bytes
        self.size_bytes = 0

    def hold(self, number: int, read: Read) -> bool:
        """Let a read wait, unless too much waits for one connection already."""
        queries = read.queries
        size_bytes = READ_BYTES if queries is None else READ_BYTES + len(queries.operations)
        if self.size_bytes + size_bytes > READS_BYTES_MAX:
            return False
        self.reads[number] = (read, size_bytes)
        self.size_bytes += size_bytes
        return True

    def take(self, number: int) -> Read | None:
        """Let go of a read; None if its connection has gone."""
        read, size_bytes = self.reads.pop(number, (None, 0))
        self.size_bytes -= size_bytes
        return read


_Place = tuple[int, int, HeldReads]
"""In an order: behind which index or command a read may run, its number, and who holds it."""


class ReadQueue:
    """Reads by the index they need; then, by session, by the command they follow.

    A read is held by its connection, and the orders have only its place: so what a connection
    leaves behind is let go of at once, however much waits, and its places are skipped later.
    Invariant: at most half of all places, or ``SKIPPED_MAX``, are of reads that nobody holds.

    Attributes:
        by_session: the places of those that wait for commands of their session; others only look.
    """

    def __init__(
        self, applier: Actor, progress: Progress, router: Router, delivery: Delivery
    ) -> None:
        self._applier = applier
        self._progress = progress
        self._router = router
        self._delivery = delivery
        self._by_index: list[_Place] = []
        self.by_session: dict[SessionId, list[_Place]] = {}
        self._moved: dict[SessionId, None] = {}  # of by_session, those that may have become ready
        self._full: dict[str, deque[_Place]] = {}  # ready, by client's node; its link is to drain
        self._drained: dict[str, None] = {}  # of these, those whose link has
        self._held: dict[NodeAddress, HeldReads] = {}  # by connection, until it goes
        self._under_way: tuple[Read, Answering] | None = None  # some of its queries have been run
        self._added = 0
        self._places = 0
        self._skipped = 0  # of the places, those of reads that are not held any more

    def add(self, read: Read, index: Index, attachments: Attachments) -> None:
        """Queue a read that may run at ``index`` or later, if somebody waits for it."""
        if not attachments.has(read.connection):
            return  # it has gone while this was on its way
        held = self._held.get(read.connection)
        if held is None:
            held = self._held[read.connection] = HeldReads()
        queries = read.queries
        if queries is not None:
            if queries.session not in self._progress.sequences:
                self._refuse(read, Refusal.UNKNOWN_SESSION, "the session has ended")
                return
            at = attachments.sessions.get(queries.session)
            if at is None or not at.is_of(read.connection, read.client):
                text = "the session has moved to another connection"
                self._refuse(read, Refusal.NOT_ATTACHED, text)
                return
        self._added += 1
        needed = index if queries is None else max(index, queries.index)
        if not self._order(self._by_index, needed, self._added, held, read):
            text = "too many queries of this connection wait"
            self._refuse(read, Refusal.OVERLOADED, text)

    def drop(self, connection: NodeAddress) -> None:
        """Forget the reads of a connection that is gone."""
        if self._under_way is not None and self._under_way[0].connection == connection:
            self._under_way = None
        held = self._held.pop(connection, None)
        if held is None:
            return
        self._skipped += len(held.reads)
        held.reads.clear()
        if self._skipped > SKIPPED_MAX and self._skipped > self._places // 2:
            self._by_index = _still_held(self._by_index)
            by_session = {s: _still_held(places) for s, places in self.by_session.items()}
            self.by_session = {s: places for s, places in by_session.items() if places}
            full = {
                node: deque(place for place in places if place[1] in place[2].reads)
                for node, places in self._full.items()
            }
            self._full = {node: places for node, places in full.items() if places}
            self._drained = {node: None for node in self._drained if node in self._full}
            self._places -= self._skipped
            self._skipped = 0

    def moved(self, session: SessionId) -> None:
        """A session has applied commands, or has ended: reads may have waited for that."""
        if session in self.by_session:
            self._moved[session] = None

    @property
    def are_ready(self) -> bool:
        """Whether there may be a read for which enough has been applied."""
        by_index = self._by_index
        return bool(
            self._under_way
            or self._moved
            or self._drained
            or (by_index and by_index[0][0] <= self._progress.applied_index)
        )

    def run_ready(self, budget: Budget) -> None:
        """Run the reads for which enough has been applied, as far as the budget goes."""
        if self._under_way is not None:
            self._go_on(*self._under_way, budget)
        while self._moved and not budget.spent:
            session = next(reversed(self._moved))
            if self._run_behind_commands(session, budget):
                del self._moved[session]
        while self._drained and not budget.spent:
            self._run_behind_link(next(iter(self._drained)), budget)
        by_index, applied_index = self._by_index, self._progress.applied_index
        while by_index and by_index[0][0] <= applied_index and not budget.spent:
            place = heapq.heappop(by_index)
            read = self._take(place)
            if read is None:
                continue
            queries = read.queries
            if queries is None:
                self._attach(read)
            elif queries.sequence > self._progress.sequences.get(queries.session, queries.sequence):
                waiting = self.by_session.setdefault(queries.session, [])
                self._order(waiting, queries.sequence, *place[1:], read)  # there was room
            else:
                self._run_if_room(read, budget)

    def _run_behind_commands(self, session: SessionId, budget: Budget) -> bool:
        """Run what has waited for commands of a session; False if some of it is left."""
        waiting = self.by_session.get(session, [])
        applied = self._progress.sequences.get(session)
        while waiting and (applied is None or waiting[0][0] <= applied):
            if budget.spent:
                return False
            read = self._take(heapq.heappop(waiting))
            if read is not None:
                self._run_if_room(read, budget)
        if not waiting:
            self.by_session.pop(session, None)
        return True

    def drained(self, node: str) -> None:
        """The link to a client's node has taken what was sent, or is no more."""
        if node in self._full:
            self._drained[node] = None

    def _run_behind_link(self, node: str, budget: Budget) -> None:
        """Run the next of those that have waited for the link to a client's node."""
        waiting = self._full[node]
        if not self._delivery.has_room(node):
            del self._drained[node]
            self._applier.environment.links.ask_drained(node, self._applier.address)
            return
        read = self._take(waiting.popleft())
        if not waiting:
            del self._full[node], self._drained[node]
        if read is not None:
            self._run(read, budget)

    def _wait_for_link(self, read: Read) -> None:
        """Let a read that is ready wait until its client takes in more."""
        node, held = read.client.node, self._held.get(read.connection)
        if held is None:
            return  # its connection has gone
        if node not in self._full:
            self._full[node] = deque()
            self._applier.environment.links.ask_drained(node, self._applier.address)
        self._added += 1
        self._full[node].append((0, self._added, held))
        held.hold(self._added, read)  # as before
        self._places += 1

    def _order(
        self, order: list[_Place], needed: int, number: int, held: HeldReads, read: Read
    ) -> bool:
        """Let a read wait in an order; False if its connection has no room for it."""
        if not held.hold(number, read):
            return False
        heapq.heappush(order, (needed, number, held))
        self._places += 1
        return True

    def _take(self, place: _Place) -> Read | None:
        """Let go of a read that has come out of an order; None if its connection has gone."""
        _, number, held = place
        read = held.take(number)
        self._places -= 1
        self._skipped -= read is None
        return read

    def _run_if_room(self, read: Read, budget: Budget) -> None:
        """Run a read, unless its client has so much to take in that it has to wait."""
        node = read.client.node
        if node in self._full or not self._delivery.has_room(node):
            self._wait_for_link(read)
        else:
            self._run(read, budget)

    def _run(self, read: Read, budget: Budget) -> None:
        queries = read.queries
        assert queries is not None, "an attachment follows no command"
        if queries.session not in self._progress.sequences:
            self._refuse(read, Refusal.UNKNOWN_SESSION, "the session has ended")
            return
        self._go_on(read, self._router.answer(queries.operations, queries.count), budget)

    def _go_on(self, read: Read, answering: Answering, budget: Budget) -> None:
        if not answering.go_on(budget):
            self._under_way = (read, answering)
            return
        self._under_way = None
        queries, results = read.queries, answering.results
        assert queries is not None, "an attachment follows no command"
        if results is None:
            text = "the answers of these queries do not fit into one message"
            self._refuse(read, Refusal.TOO_LARGE, text)
            return
        self._progress.queries_answered += queries.count
        reply = QueriesReply(queries.session, queries.read, self._progress.applied_index, results)
        self._applier.send(read.client, reply)
        self._delivery.answered(read.client.node, len(results))

    def _refuse(self, read: Read, reason: Refusal, text: str) -> None:
        self._applier.send(read.connection, refusal_of(read, reason, text))

    def _attach(self, read: Read) -> None:
        attach = read.attach
        assert attach is not None, "a read has queries or attaches a session"
        if self._progress.nonces.get(attach.session) != attach.nonce:
            text = "the session has ended, or is another's"
            self._applier.send(read.connection, SessionEnded(attach.session, text))
            return
        if self._delivery.attach(attach, read.connection, read.client):
            self._applier.send(read.connection, SessionAttached(attach.session))


def refusal_of(read: Read, reason: Refusal, text: str) -> Refused:
    """What the client is told of a read that is not run."""
    if read.queries is not None:
        session, request, number = read.queries.session, Request.QUERIES, read.queries.read
    else:
        assert read.attach is not None, "a read has queries or attaches a session"
        session, request, number = read.attach.session, Request.ATTACH_SESSION, 0
    return Refused(session, int(request), number, int(reason), text)


def _still_held(order: list[_Place]) -> list[_Place]:
    left = [place for place in order if place[1] in place[2].reads]
    heapq.heapify(left)
    return left
