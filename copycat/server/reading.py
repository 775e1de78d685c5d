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
from copycat.server.progress import Attachments, Progress
from copycat.server.steps import EventsAfter, Read, SessionAttached
from copycat.types import Index, SessionId


class ReadQueue:
    """Reads by the index they need; then by the sequence of the command they follow."""

    def __init__(self, applier: Actor, progress: Progress, router: Router) -> None:
        self._applier = applier
        self._progress = progress
        self._router = router
        self._by_index: list[tuple[Index, int, Read]] = []
        self._by_session: dict[SessionId, list[Read]] = {}
        self._added = 0

    def add(self, read: Read, index: Index) -> None:
        """Queue a read that may run at ``index`` or later."""
        needed = index if read.queries is None else max(index, read.queries.index)
        self._added += 1
        heapq.heappush(self._by_index, (needed, self._added, read))

    def run_ready(self, sessions: dict[SessionId, NodeAddress], attachments: Attachments) -> None:
        """Run all reads for which enough has been applied."""
        if self._by_session:
            waiting, self._by_session = self._by_session, {}
            for reads in waiting.values():
                for read in reads:
                    self._run(read, sessions, attachments)
        by_index, applied = self._by_index, self._progress.applied_index
        while by_index and by_index[0][0] <= applied:
            self._run(heapq.heappop(by_index)[2], sessions, attachments)

    def _run(
        self, read: Read, sessions: dict[SessionId, NodeAddress], attachments: Attachments
    ) -> None:
        if read.queries is None:
            self._attach(read, sessions, attachments)
            return
        queries = read.queries
        sequence = self._progress.sequences.get(queries.session)
        if sequence is None:
            self._refuse(read, queries, Refusal.UNKNOWN_SESSION, "the session has ended")
        elif sequence < queries.sequence:
            self._by_session.setdefault(queries.session, []).append(read)
        else:
            results = self._router.answer(queries.operations, queries.count)
            if results is None:
                text = "the answers of these queries do not fit into one message"
                self._refuse(read, queries, Refusal.TOO_LARGE, text)
                return
            self._progress.queries_answered += queries.count
            reply = QueriesReply(
                queries.session, queries.read, self._progress.applied_index, results
            )
            self._applier.send(read.connection, reply)

    def _refuse(self, read: Read, queries: SubmitQueries, reason: Refusal, text: str) -> None:
        refused = Refused(queries.session, int(Request.QUERIES), queries.read, int(reason), text)
        self._applier.send(read.connection, refused)

    def _attach(
        self, read: Read, sessions: dict[SessionId, NodeAddress], attachments: Attachments
    ) -> None:
        attach = read.attach
        assert attach is not None, "a read has queries or attaches a session"
        session = sessions.get(attach.session)
        if session is None:
            self._applier.send(read.connection, SessionEnded(attach.session, True))
            return
        attachments.sessions[attach.session] = read.connection
        self._applier.send(read.connection, SessionAttached(attach.session))
        for events in self._applier.step(session, EventsAfter(attach.event_index)):
            self._applier.send(read.connection, events)
