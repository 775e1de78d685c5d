"""Reads that wait in the Applier until the state is new enough for them."""

import heapq

from copycat.actors import Actor, NodeAddress
from copycat.protocol.client import (
    QueriesReply,
    Refusal,
    Refused,
    Request,
    SessionEnded,
    SubmitQueries,
)
from copycat.server.operations import Router
from copycat.server.progress import Attachment, Attachments, Progress
from copycat.server.steps import EventsAfter, Read, SessionAttached
from copycat.types import Index, SessionId

READS_BYTES_MAX = 64 << 20
"""Of the reads of one connection that wait; a client of ours leaves a few open per session."""
READ_BYTES = 512  # what a read takes besides its operations


class ReadQueue:
    """Reads by the index they need; then, by session, by the command they follow.

    Invariant: ``_held_bytes`` has what waits of each connection, and no other connection.
    """

    def __init__(self, applier: Actor, progress: Progress, router: Router) -> None:
        self._applier = applier
        self._progress = progress
        self._router = router
        self._by_index: list[tuple[Index, int, Read]] = []
        self._by_session: dict[SessionId, list[tuple[int, int, Read]]] = {}
        self._held_bytes: dict[NodeAddress, int] = {}
        self._added = 0

    def add(self, read: Read, index: Index, attachments: Attachments) -> None:
        """Queue a read that may run at ``index`` or later, if somebody waits for it."""
        held_bytes = self._held_bytes.get(read.connection, 0) + _size_bytes(read)
        queries = read.queries
        if queries is not None:
            if queries.session not in self._progress.sequences:
                self._refuse(read, queries, Refusal.UNKNOWN_SESSION, "the session has ended")
                return
            if attachments.sessions.get(queries.session) != (read.connection, read.client):
                text = "the session has moved to another connection"
                self._refuse(read, queries, Refusal.NOT_ATTACHED, text)
                return
            if held_bytes > READS_BYTES_MAX:
                text = "too many queries of this connection wait"
                self._refuse(read, queries, Refusal.OVERLOADED, text)
                return
        self._held_bytes[read.connection] = held_bytes
        needed = index if read.queries is None else max(index, read.queries.index)
        self._added += 1
        heapq.heappush(self._by_index, (needed, self._added, read))

    def drop(self, connection: NodeAddress) -> None:
        """Forget the reads of a connection that is gone."""
        if self._held_bytes.pop(connection, None) is None:
            return
        self._by_index = [held for held in self._by_index if held[2].connection != connection]
        heapq.heapify(self._by_index)
        for session, waiting in list(self._by_session.items()):
            left = [held for held in waiting if held[2].connection != connection]
            heapq.heapify(left)
            if left:
                self._by_session[session] = left
            else:
                del self._by_session[session]

    def run_ready(self, sessions: dict[SessionId, NodeAddress], attachments: Attachments) -> None:
        """Run all reads for which enough has been applied."""
        for session in list(self._by_session):
            waiting = self._by_session[session]
            applied = self._progress.sequences.get(session)
            while waiting and (applied is None or waiting[0][0] <= applied):
                self._run(heapq.heappop(waiting)[2])
            if not waiting:
                del self._by_session[session]
        by_index, applied_index = self._by_index, self._progress.applied_index
        while by_index and by_index[0][0] <= applied_index:
            _, number, read = heapq.heappop(by_index)
            queries = read.queries
            if queries is None:
                self._let_go(read)
                self._attach(read, sessions, attachments)
            elif queries.sequence > self._progress.sequences.get(queries.session, queries.sequence):
                waiting = self._by_session.setdefault(queries.session, [])
                heapq.heappush(waiting, (queries.sequence, number, read))
            else:
                self._run(read)

    def _run(self, read: Read) -> None:
        self._let_go(read)
        queries = read.queries
        assert queries is not None, "an attachment follows no command"
        if queries.session not in self._progress.sequences:
            self._refuse(read, queries, Refusal.UNKNOWN_SESSION, "the session has ended")
            return
        results = self._router.answer(queries.operations, queries.count)
        if results is None:
            text = "the answers of these queries do not fit into one message"
            self._refuse(read, queries, Refusal.TOO_LARGE, text)
            return
        self._progress.queries_answered += queries.count
        reply = QueriesReply(queries.session, queries.read, self._progress.applied_index, results)
        self._applier.send(read.client, reply)

    def _let_go(self, read: Read) -> None:
        left_bytes = self._held_bytes[read.connection] - _size_bytes(read)
        if left_bytes:
            self._held_bytes[read.connection] = left_bytes
        else:
            del self._held_bytes[read.connection]

    def _refuse(self, read: Read, queries: SubmitQueries, reason: Refusal, text: str) -> None:
        refused = Refused(queries.session, int(Request.QUERIES), queries.read, int(reason), text)
        self._applier.send(read.connection, refused)

    def _attach(
        self, read: Read, sessions: dict[SessionId, NodeAddress], attachments: Attachments
    ) -> None:
        attach = read.attach
        assert attach is not None, "a read has queries or attaches a session"
        session = sessions.get(attach.session)
        if session is None or self._progress.nonces[attach.session] != attach.nonce:
            text = "the session has ended, or is another's"
            self._applier.send(read.connection, SessionEnded(attach.session, text))
            return
        attachments.sessions[attach.session] = Attachment(read.connection, read.client)
        self._applier.send(read.connection, SessionAttached(attach.session))
        for events in self._applier.step(session, EventsAfter(attach.event_index)):
            self._applier.send(read.client, events)


def _size_bytes(read: Read) -> int:
    return READ_BYTES if read.queries is None else READ_BYTES + len(read.queries.operations)
