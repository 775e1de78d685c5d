"""Queries: the queries of one session on their way (§6.4).

Invariants: every attempt has a read number of its own, so an answer that comes late fits nothing;
a query completes after the commands that were submitted before it.
"""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from copycat.client.batches import (
    Batch,
    Packed,
    earliest_deadline_s,
    joined,
    run_that_fits,
    split,
)
from copycat.client.commands import RETRY_FIRST_S, RETRY_LAST_S, Commands, Failure
from copycat.client.deadlines import Deadlines
from copycat.errors import TooLarge
from copycat.protocol.client import Consistency, QueriesReply, SubmitQueries
from copycat.types import Index, SessionId

BATCHES_IN_FLIGHT_MAX = 8  # times the largest answer is less than a link buffers


class QueryBatch(Batch):
    """Queries of one consistency.

    Attributes:
        after_ordinal: of the last command submitted before them.
        sequence: the one that the present attempt carries.
        results: the answer, while commands before them are unanswered.
    """

    __slots__ = ("after_ordinal", "consistency", "is_part", "results", "sequence")

    def __init__(self, packed: Packed, consistency: Consistency, after_ordinal: int) -> None:
        super().__init__(*packed)
        self.consistency = consistency
        self.after_ordinal = after_ordinal
        self.sequence = 0
        self.results: bytes | None = None
        self.is_part = False  # of a batch whose answers did not fit; it is not joined again


class Queries:
    """The queries of one session.

    Attributes:
        retry_at_s: when to call ``retry``; it may be too early.
    """

    def __init__(
        self, send: Callable[[Any], None], deadlines: Deadlines, commands: Commands
    ) -> None:
        self.retry_at_s = inf
        self._send = send
        self._deadlines = deadlines
        self._commands = commands
        self._reads = 0  # drawn so far
        self._waiting: deque[QueryBatch] = deque()
        self._in_flight: dict[int, QueryBatch] = {}  # by read number
        self._held: list[QueryBatch] = []  # answered, but earlier commands are not

    @property
    def wait(self) -> bool:
        """Whether a query is to be sent."""
        return bool(self._waiting)

    @property
    def are_unanswered(self) -> bool:
        """Whether a query is under way or waits to be."""
        return bool(self._in_flight or self._waiting)

    def submit(self, packed: Packed, consistency: Consistency, after_ordinal: int) -> None:
        """Take queries in; ``send_waiting`` sends them."""
        batch = QueryBatch(packed, consistency, after_ordinal)
        self._waiting.append(batch)
        self._deadlines.add(batch)

    def send_waiting(self, now_s: float, session: SessionId, index: Index) -> None:
        """Send what waits, as far as the window and the commands before it allow."""
        waiting = self._waiting
        while waiting and len(self._in_flight) < BATCHES_IN_FLIGHT_MAX:
            if not self._commands.are_numbered_to(waiting[0].after_ordinal):
                break
            batch = waiting.popleft() if len(waiting) == 1 else self._next_run()
            batch.sequence = self._commands.sequence_at(batch.after_ordinal)
            batch.retry_delay_s = min(batch.retry_delay_s * 2 or RETRY_FIRST_S, RETRY_LAST_S)
            batch.retry_at_s = now_s + batch.retry_delay_s
            self.retry_at_s = min(self.retry_at_s, batch.retry_at_s)
            self._reads += 1
            self._in_flight[self._reads] = batch
            self._send(
                SubmitQueries(
                    session,
                    self._reads,
                    len(batch.calls),
                    int(batch.consistency),
                    batch.sequence,
                    index,
                    batch.operations,
                )
            )

    def _next_run(self) -> QueryBatch:
        first = self._waiting[0]
        if first.is_part:
            return self._waiting.popleft()
        alike = []
        for batch in self._waiting:
            if batch.is_part:
                break
            if batch.consistency != first.consistency:
                break
            if not self._commands.are_numbered_to(batch.after_ordinal):
                break
            alike.append(batch)
        parts = [self._waiting.popleft() for _ in range(run_that_fits(alike))]
        if len(parts) == 1:
            return first
        # What was refused waits in any order, so the last part need not be the youngest.
        after_ordinal = max(part.after_ordinal for part in parts)
        batch = QueryBatch(joined(parts), first.consistency, after_ordinal)
        for part in parts:
            part.clear()
        self._deadlines.add(batch)
        return batch

    # Answers.

    def answered(self, reply: QueriesReply) -> bool:
        """Complete the queries of a read, now or when the commands before them are.

        Returns:
            Whether the answer is to a present attempt.
        """
        batch = self._in_flight.pop(reply.read, None)
        if batch is None:
            return False
        if self._commands.are_complete_to(batch.after_ordinal):
            batch.complete(reply.results)
        else:
            batch.results = reply.results
            self._held.append(batch)
        return True

    def release(self) -> None:
        """Complete what has waited for commands that are complete now."""
        if not self._held:
            return
        held, self._held = self._held, []
        for batch in held:
            assert batch.results is not None, "a held batch has its answer"
            if self._commands.are_complete_to(batch.after_ordinal):
                batch.complete(batch.results)
            else:
                self._held.append(batch)

    def refused(self, read: int) -> bool:
        """Let a refused read wait for its next attempt.

        Returns:
            Whether it is a present attempt.
        """
        batch = self._in_flight.pop(read, None)
        if batch is None:
            return False
        batch.retry_delay_s = 0.0
        self._waiting.appendleft(batch)
        return True

    def answer_too_large(self, read: int, text: str) -> None:
        """Ask for the answers in two halves, or give up if there is only one."""
        batch = self._in_flight.pop(read, None)
        if batch is None:
            return
        if len(batch.calls) == 1:
            batch.fail(lambda: TooLarge(text))
            return
        for packed in reversed(split(batch)):
            half = QueryBatch(packed, batch.consistency, batch.after_ordinal)
            half.is_part = True
            self._waiting.appendleft(half)
            self._deadlines.add(half)
        batch.clear()

    # Sending again.

    def redraw(self, beyond_sequence: int = -1) -> None:
        """Give up the present attempts, or those which wait for a sequence beyond this one."""
        again = {
            read: batch
            for read, batch in self._in_flight.items()
            if batch.sequence > beyond_sequence
        }
        for read in reversed(again):
            del self._in_flight[read]
            again[read].retry_delay_s = 0.0
            self._waiting.appendleft(again[read])

    def retry(self, now_s: float) -> None:
        """Give up the attempts that have been unanswered for long."""
        overdue = [read for read, batch in self._in_flight.items() if batch.retry_at_s <= now_s]
        for read in reversed(overdue):
            self._waiting.appendleft(self._in_flight.pop(read))
        self.retry_at_s = min([batch.retry_at_s for batch in self._in_flight.values()], default=inf)

    # Failures.

    def expire(self, batch: QueryBatch, now_s: float, not_applied: Failure) -> None:
        """Fail the queries of a batch whose deadline has passed; the others go on."""
        for place in batch.expired(now_s):
            call = batch.calls[place]
            assert call is not None, "an open call expires"
            call.fail(not_applied())
            batch.calls[place] = None
        if batch.is_open:
            batch.deadline_s = earliest_deadline_s(batch.calls)
            self._deadlines.add(batch)
            return
        self._waiting = deque(other for other in self._waiting if other is not batch)
        self._held = [other for other in self._held if other is not batch]
        self._in_flight = {
            read: other for read, other in self._in_flight.items() if other is not batch
        }
        batch.clear()

    def lose(self, error: Failure) -> None:
        """The session is gone: end all calls."""
        for batch in (*self._in_flight.values(), *self._waiting):
            batch.fail(error)
        for batch in self._held:
            assert batch.results is not None, "a held batch has its answer"
            batch.complete(batch.results)
        self._in_flight.clear()
        self._waiting.clear()
        self._held.clear()
        self.retry_at_s = inf
