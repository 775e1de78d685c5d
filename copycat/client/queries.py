"""Queries: the queries of one session on their way (§6.4).

Invariants: every attempt has a read number of its own, so an answer that comes late fits nothing;
a query completes after the commands that were submitted before it.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any

from copycat.client.batches import (
    Batch,
    Packed,
    Waiting,
    divide,
    earliest_deadline_s,
    encoded,
    pack,
    pack_small,
    run_that_fits,
    split,
    unpacked,
)
from copycat.client.calls import QueryCall
from copycat.client.commands import RETRY_LAST_S, Commands, retry_first_s
from copycat.client.deadlines import Deadlines, Failure
from copycat.client.window import Room
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

    def __init__(
        self, packed: Packed, consistency: Consistency, after_ordinal: int, size_bytes: int = 0
    ) -> None:
        super().__init__(packed, size_bytes)
        self.consistency = consistency
        self.after_ordinal = after_ordinal
        self.sequence = 0
        self.results: bytes | None = None
        self.is_part = False  # of a batch whose answers did not fit; it is not joined again

    def clear(self) -> None:
        """Let go of calls and bytes."""
        super().clear()
        self.results = None


class Queries:
    """The queries of one session.

    Attributes:
        retry_at_s: when to call ``retry``; it may be too early.
        lack_room: whether they wait for room; then it is theirs before any command's.
        waiting: what is to be sent.
    """

    def __init__(
        self,
        send: Callable[[Any, float], None],
        deadlines: Deadlines,
        commands: Commands,
        room: Room,
    ) -> None:
        """``send``: puts a message on its way, at this time."""
        self.retry_at_s = inf
        self.lack_room = False
        self.waiting: Waiting[QueryBatch] = Waiting()
        self._send = send
        self._deadlines = deadlines
        self._commands = commands
        self._reads = 0  # drawn so far
        self._room = room
        self._in_flight: dict[int, QueryBatch] = {}  # by read number
        # Answered, but earlier commands are not: a heap by the last of these.
        self._held: list[tuple[int, int, QueryBatch]] = []

    @property
    def are_unanswered(self) -> bool:
        """Whether a query is under way or waits to be."""
        return bool(self._in_flight or self.waiting.batches)

    def submit(
        self, calls: Sequence[QueryCall], consistency: Consistency, after_ordinal: int
    ) -> None:
        """Take queries in; ``send_waiting`` sends them."""
        if len(calls) == 1 and (small := pack_small(calls[0])) is not None:
            self._append(QueryBatch(small, consistency, after_ordinal))
            return
        for some, late_bytes, are_simple in divide(calls):
            for packed in [unpacked(some)] if late_bytes else pack(some, are_simple=are_simple):
                self._append(QueryBatch(packed, consistency, after_ordinal, late_bytes))

    def _append(self, batch: QueryBatch) -> None:
        self.waiting.append(batch)
        self._deadlines.add(batch, self.expire)

    def send_waiting(self, now_s: float, session: SessionId, index: Index) -> None:
        """Send what waits, as far as the windows and the commands before it allow."""
        waiting = self.waiting
        self.lack_room = False
        while waiting.batches and len(self._in_flight) < BATCHES_IN_FLIGHT_MAX:
            first = waiting.batches[0]
            if not self._commands.are_numbered_to(first.after_ordinal):
                break
            if len(waiting.batches) == 1:  # as nearly always
                count, size_bytes = 1, first.size_bytes
            else:
                count, size_bytes = run_that_fits(self._alike())
            if not self._room.take(size_bytes):
                self.lack_room = True
                break
            batch = self._next_batch(count)
            if batch is None:
                self._room.give(size_bytes)
                continue
            batch.taken_bytes = size_bytes
            batch.sequence = self._commands.sequence_at(batch.after_ordinal)
            batch.retry_delay_s = min(batch.retry_delay_s * 2 or retry_first_s(batch), RETRY_LAST_S)
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
                ),
                now_s,
            )

    def _alike(self) -> Iterator[QueryBatch]:
        """The first that waits, and those after it which may go with it."""
        first = self.waiting.batches[0]
        yield first
        for batch in self.waiting if not first.is_part else ():
            if batch is first:
                continue
            if batch.is_part or batch.consistency != first.consistency:
                return
            if not self._commands.are_numbered_to(batch.after_ordinal):
                return
            yield batch

    def _next_batch(self, count: int) -> QueryBatch | None:
        """Make one batch of the first ones; None if nothing in them can be encoded."""
        parts = self.waiting.take(count)
        first = parts[0]
        if count == 1 and first.operations:
            return first
        # What was refused waits in any order, so the last part need not be the youngest.
        after_ordinal = max(part.after_ordinal for part in parts)
        made = [QueryBatch(each, first.consistency, after_ordinal) for each in encoded(parts)]
        for part in parts:
            part.clear()
        for batch in made:
            self._deadlines.add(batch, self.expire)
        self.waiting.prepend(made[1:])
        return made[0] if made else None

    # Answers.

    def answered(self, reply: QueriesReply) -> bool:
        """Complete the queries of a read, now or when the commands before them are.

        Returns:
            Whether the answer is to a present attempt.
        """
        batch = self._in_flight.pop(reply.read, None)
        if batch is None:
            return False
        self._room.answered(batch)
        if self._commands.are_complete_to(batch.after_ordinal):
            batch.complete(reply.results)
        else:
            batch.results = reply.results
            heappush(self._held, (batch.after_ordinal, reply.read, batch))
        return True

    def release(self) -> None:
        """Complete what has waited for commands that are complete now."""
        held = self._held
        while held and self._commands.are_complete_to(held[0][0]):
            _, _, batch = heappop(held)
            if batch.calls:
                assert batch.results is not None, "a held batch has its answer"
                batch.complete(batch.results)

    def refused(self, read: int) -> bool:
        """Let a refused read wait for its next attempt.

        Returns:
            Whether it is a present attempt.
        """
        batch = self._in_flight.pop(read, None)
        if batch is None:
            return False
        batch.retry_delay_s = 0.0
        self._wait_again([batch])
        return True

    def _wait_again(self, batches: list[QueryBatch]) -> None:
        """Let the next attempt at these come first, in this order."""
        for batch in batches:
            self._room.give_back(batch)
        self.waiting.prepend(batches)

    def answer_too_large(self, read: int, text: str) -> None:
        """Ask for the answers in two halves, or give up if there is only one."""
        batch = self._in_flight.pop(read, None)
        if batch is None:
            return
        self._room.give_back(batch)
        if len(batch.calls) == 1:
            batch.fail(lambda: TooLarge(text))
            return
        halves = [
            QueryBatch(packed, batch.consistency, batch.after_ordinal) for packed in split(batch)
        ]
        for half in halves:
            half.is_part = True
            self._deadlines.add(half, self.expire)
        self.waiting.prepend(halves)
        batch.clear()

    # Sending again.

    def redraw(self, beyond_sequence: int = -1) -> None:
        """Give up the present attempts, or those which wait for a sequence beyond this one."""
        again = {
            read: batch
            for read, batch in self._in_flight.items()
            if batch.sequence > beyond_sequence
        }
        for read, batch in again.items():
            del self._in_flight[read]
            batch.retry_delay_s = 0.0
        self._wait_again(list(again.values()))

    def retry(self, now_s: float, *, may_be_lost: bool) -> None:
        """Give up the attempts that have been unanswered for long; see ``Commands.retry``."""
        overdue = [read for read, batch in self._in_flight.items() if batch.retry_at_s <= now_s]
        if may_be_lost:
            self._wait_again([self._in_flight.pop(read) for read in overdue])
        for read in overdue if not may_be_lost else ():
            batch = self._in_flight[read]
            batch.retry_at_s = now_s + batch.retry_delay_s
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
            self._deadlines.add(batch, self.expire)
            return
        is_held = batch.results is not None
        batch.clear()
        if not is_held and not self._give_up(batch):
            self.waiting.one_is_over()

    def _give_up(self, batch: QueryBatch) -> bool:
        """End the present attempt at a batch, if there is one."""
        for read, other in self._in_flight.items():
            if other is batch:
                del self._in_flight[read]
                self._room.give_back(batch)
                return True
        return False

    def lose(self, error: Failure) -> None:
        """The session is gone: end all calls."""
        for batch in self._in_flight.values():
            self._room.give_back(batch)
        for batch in (*self._in_flight.values(), *self.waiting):
            batch.fail(error)
        for _, _, batch in self._held:
            if batch.calls:
                assert batch.results is not None, "a held batch has its answer"
                batch.complete(batch.results)
        self._in_flight.clear()
        self.waiting.clear()
        self._held.clear()
        self.retry_at_s = inf
