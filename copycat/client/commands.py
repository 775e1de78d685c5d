"""Commands: the commands of one session on their way, each applied once and in order (§6.3).

Invariants:

- Sequences are given without a hole, to whole batches, when a batch is sent first; a batch that
  was sent is resent exactly as it was.
- A batch is *clean* when every copy that was sent has been refused: then none is on its way. Only
  a run of clean batches at the end of what is in flight is ever withdrawn; its sequences are
  given anew. So a sequence never means two different commands to the cluster.
- Batches complete in the order of their sequences, whatever order the answers come in.
- Of a batch that was answered in part the rest goes on as a batch, under its sequences. What was sent
  behind it counts as not received: each of these is sent again when it is the first, and nothing
  new before all of them.

A batch also has *ordinals*, which count commands in the order of their submission and, unlike
sequences, are never given anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from copycat.client.batches import (
    Batch,
    Packed,
    Waiting,
    divide,
    earliest_deadline_s,
    encoded,
    leave_out,
    pack,
    pack_small,
    rest_of,
    run_that_fits,
    unpacked,
)
from copycat.client.calls import CommandCall, OperationCall
from copycat.client.deadlines import Deadlines, Failure
from copycat.client.window import Room
from copycat.errors import OutcomeUnknown
from copycat.protocol.client import CommandsReply, SubmitCommands
from copycat.types import SessionId

BATCHES_IN_FLIGHT_MAX = 8  # times the largest answer is less than a link buffers
RETRY_FIRST_S = 1.0  # without a refusal or an answer; the link may have lost either
RETRY_LAST_S = 5.0
RETRY_BYTES_PER_S = 256 << 10  # large ones are under way for longer, and cost more to send again


def retry_first_s(batch: Batch) -> float:
    """How long after the first sending of a batch the second one comes."""
    return min(RETRY_FIRST_S + len(batch.operations) / RETRY_BYTES_PER_S, RETRY_LAST_S)


class CommandBatch(Batch):
    """Commands that are appended to the log as one.

    Attributes:
        first_ordinal, last_ordinal: of its commands.
        first_sequence: 0 before it is sent.
        count: of its commands, when it is sent.
        message: what is sent, and sent again.
        copies: sent, and not refused; one that was lost with its connection stays counted.
        is_refused: whether a copy was refused since one was sent last.
        sent_s: when it was sent first.
        results: the answer, while answers of earlier batches are missing.
    """

    __slots__ = (
        "copies",
        "count",
        "first_ordinal",
        "first_sequence",
        "is_refused",
        "last_ordinal",
        "message",
        "results",
        "sent_s",
    )

    def __init__(
        self, packed: Packed, first_ordinal: int, last_ordinal: int, size_bytes: int = 0
    ) -> None:
        Batch.__init__(self, packed, size_bytes)  # it is said for every command, so without super
        self.first_ordinal = first_ordinal
        self.last_ordinal = last_ordinal
        self.first_sequence = 0
        self.count = 0
        self.message: SubmitCommands | None = None
        self.copies = 0
        self.is_refused = False
        self.sent_s = inf
        self.results: bytes | None = None

    @property
    def last_sequence(self) -> int:
        """The sequence of its last command."""
        assert self.first_sequence, "a batch has sequences when it is sent"
        return self.first_sequence + self.count - 1

    def clear(self) -> None:
        """Let go of calls and bytes."""
        self.calls = []  # as in Batch, without a call for every command
        self.operations = b""
        self.message = self.results = None

    @property
    def is_clean(self) -> bool:
        """Whether no copy is on its way and none has been appended."""
        return self.copies == 0 and self.results is None


class Commands:
    """The commands of one session.

    Attributes:
        last_ordinal: how many commands have been submitted; goes on over sessions.
        last_sequence: the last one given.
        answered_sequence: all responses up to this one have been received.
        are_held_up: whether something is to be sent again at once; see ``resend_refused``.
        retry_at_s: when to call ``retry``; it may be too early.
        unsent: what is to be sent.
    """

    def __init__(
        self, send: Callable[[Any, float], None], deadlines: Deadlines, room: Room
    ) -> None:
        """``send``: puts a message on its way, at this time."""
        self.last_ordinal = 0
        self.last_sequence = 0
        self.answered_sequence = 0
        self.are_held_up = False
        self._cut_sequence = 0  # the last one that was given when a batch was answered in part
        self.retry_at_s = inf
        self.unsent: Waiting[CommandBatch] = Waiting()
        self._send = send
        self._deadlines = deadlines
        self._room = room
        self._in_flight: dict[int, CommandBatch] = {}  # by first sequence, in order

    @property
    def are_unanswered(self) -> bool:
        """Whether a command is under way or waits to be."""
        return bool(self._in_flight or self.unsent.batches)

    def submit(self, calls: Sequence[CommandCall], *, may_be_sent: bool = False) -> None:
        """Take commands in; ``send_waiting`` sends them.

        Args:
            calls: of one turn.
            may_be_sent: whether what finds room is sent at once, so that it need not be encoded late.
        """
        if len(calls) == 1 and (small := pack_small(calls[0])) is not None:
            self._append(small)
            return
        for some, late_bytes, are_simple in divide(calls):
            ahead = len(self._in_flight) + len(self.unsent.batches)
            is_next = may_be_sent and are_simple and ahead < BATCHES_IN_FLIGHT_MAX
            if late_bytes and not is_next:
                self._append(unpacked(some), late_bytes)
            else:
                for packed in pack(some, are_simple=are_simple):
                    self._append(packed)

    def _append(self, packed: Packed, size_bytes: int = 0) -> None:
        first = self.last_ordinal + 1
        self.last_ordinal += len(packed[0])
        batch = CommandBatch(packed, first, self.last_ordinal, size_bytes)
        self.unsent.append(batch)
        self._deadlines.add(batch, self.expire)

    def send_waiting(self, now_s: float, session: SessionId, event_sequence: int) -> bool:
        """Send what waits, as far as the windows allow; small batches that had to wait go as one.

        Returns:
            Whether anything was sent, and with it this index of events.
        """
        unsent, in_flight, sequence = self.unsent, self._in_flight, self.last_sequence
        if self._cut_sequence > self.answered_sequence:
            return False
        while unsent.batches and len(in_flight) < BATCHES_IN_FLIGHT_MAX:
            first = unsent.batches[0]
            is_alone = len(unsent.batches) == 1  # as nearly always
            count, size_bytes = (1, first.size_bytes) if is_alone else run_that_fits(unsent)
            if not self._room.take(size_bytes):
                break
            if is_alone and first.operations:
                batch: CommandBatch | None = unsent.batches.popleft()
            else:
                batch = self._next_batch(count)
            if batch is None:
                self._room.give(size_bytes)
                continue
            batch.taken_bytes = size_bytes
            batch.first_sequence = self.last_sequence + 1
            batch.count = len(batch.calls)
            batch.message = SubmitCommands(
                session,
                batch.first_sequence,
                batch.count,
                self.answered_sequence,
                event_sequence,
                batch.operations,
            )
            batch.sent_s = now_s
            self.last_sequence += batch.count
            in_flight[batch.first_sequence] = batch
            self._send_copy(batch, now_s, retry_first_s(batch))
        return self.last_sequence > sequence

    def _next_batch(self, count: int) -> CommandBatch | None:
        """Make one batch of the first ones; None if nothing in them can be encoded."""
        parts = self.unsent.take(count)
        first = parts[0]
        if count == 1 and first.operations:
            return first
        ordinal, last_ordinal = first.first_ordinal, parts[-1].last_ordinal
        made: list[CommandBatch] = []
        for packed in encoded(parts):
            made.append(CommandBatch(packed, ordinal, last_ordinal))
            ordinal += len(packed[0])
            self._deadlines.add(made[-1], self.expire)
        for part in parts:
            part.clear()
        self.unsent.prepend(made[1:])
        return made[0] if made else None

    def _send_copy(self, batch: CommandBatch, now_s: float, retry_delay_s: float) -> None:
        batch.copies += 1
        batch.is_refused = False
        batch.retry_delay_s = retry_delay_s
        batch.retry_at_s = now_s + retry_delay_s
        self.retry_at_s = min(self.retry_at_s, batch.retry_at_s)
        self._send(batch.message, now_s)

    # Answers.

    def answered(self, reply: CommandsReply) -> float | None:
        """Complete what is complete now.

        Returns:
            When the batch was sent first; None if the answer is not the first one.
        """
        batch = self._in_flight.get(reply.first_sequence)
        if batch is None or batch.results is not None:
            return None
        batch.results = reply.results
        self._room.answered(batch)
        in_flight = self._in_flight
        if next(iter(in_flight)) != reply.first_sequence:
            return batch.sent_s
        for first in list(in_flight):
            done = in_flight[first]
            if done.results is None:
                break
            del in_flight[first]
            message, rest = done.message, done.complete(done.results, fewest=1)
            if rest:
                assert message is not None, "what was answered was sent"
                self._cut(done, message, rest)
            self.answered_sequence = done.last_sequence
            if rest:
                break
        if self._cut_sequence > self.answered_sequence:
            self._go_on_with_first()
        return batch.sent_s

    def _cut(
        self, done: CommandBatch, message: SubmitCommands, calls: list[OperationCall | None]
    ) -> None:
        """Let what was not carried out of a batch go on, before all that was sent behind it."""
        done.count -= len(calls)
        packed, last = rest_of(message.operations, calls), done.last_sequence
        rest = CommandBatch(packed, done.first_ordinal + done.count, done.last_ordinal)
        rest.first_sequence, rest.count = last + 1, len(calls)
        rest.message = replace(
            message,
            first_sequence=rest.first_sequence,
            count=rest.count,
            response_sequence=last,
            operations=rest.operations,
        )
        rest.sent_s = done.sent_s
        rest.retry_delay_s = retry_first_s(rest)
        self._room.take_again(rest)
        later = list(self._in_flight.items())
        self._in_flight.clear()
        self._in_flight.update(((rest.first_sequence, rest), *later))
        self._deadlines.add(rest, self.expire)
        self._cut_sequence = self.last_sequence

    def _go_on_with_first(self) -> None:
        """What is the first now was sent behind a batch that was answered in part, or is its rest."""
        first = next(iter(self._in_flight.values()))
        if first.results is None:
            first.is_refused = self.are_held_up = True

    def refused(self, first_sequence: int) -> bool:
        """Take back one copy of a batch.

        Returns:
            Whether the batch is in flight and unanswered.
        """
        batch = self._in_flight.get(first_sequence)
        if batch is None or batch.results is not None:
            return False
        batch.copies = max(0, batch.copies - 1)
        batch.is_refused = True
        return True

    # Sending again.

    def resend(self, now_s: float) -> None:
        """Send everything unanswered again, in order: there is a new connection."""
        self._cut_sequence = 0
        self.are_held_up = False
        for batch in self._in_flight.values():
            if batch.results is None:
                self._send_copy(batch, now_s, retry_first_s(batch))

    def resend_refused(self, now_s: float) -> None:
        """Send again, in order, what was refused, also if other copies seem to be on their way."""
        self.are_held_up = False
        for batch in self._in_flight.values():
            if batch.is_refused and batch.results is None:
                self._send_copy(batch, now_s, batch.retry_delay_s)

    def retry(self, now_s: float, *, may_be_lost: bool) -> None:
        """Send again what has been unanswered for long, ever more slowly.

        Args:
            now_s: the time.
            may_be_lost: False while it may well be on its way still; then only look again later.
        """
        self.retry_at_s = inf
        for batch in self._in_flight.values():
            if batch.results is not None:
                continue
            if batch.retry_at_s <= now_s and not may_be_lost:
                batch.retry_at_s = now_s + batch.retry_delay_s
            elif batch.retry_at_s <= now_s:
                self._send_copy(batch, now_s, min(batch.retry_delay_s * 2, RETRY_LAST_S))
            self.retry_at_s = min(self.retry_at_s, batch.retry_at_s)

    # What queries ask.

    def are_numbered_to(self, ordinal: int) -> bool:
        """Whether no command up to this one waits to be sent."""
        unsent = self.unsent.batches
        return not unsent or unsent[0].first_ordinal > ordinal

    def sequence_at(self, ordinal: int) -> int:
        """The sequence of the last batch that was submitted up to this command."""
        for batch in reversed(self._in_flight.values()):
            if batch.first_ordinal <= ordinal:
                return batch.last_sequence
        return self.answered_sequence

    def are_complete_to(self, ordinal: int) -> bool:
        """Whether nobody waits for a command up to this one."""
        for batches in (self._in_flight.values(), self.unsent):
            for batch in batches:
                if batch.first_ordinal > ordinal:
                    break
                if batch.is_open:
                    return False
        return True

    # Failures.

    def expire(self, batch: CommandBatch, now_s: float, not_applied: Failure) -> None:
        """End the calls of a batch whose deadline has passed.

        They are withdrawn, with ``not_applied``, if that is certain; else they may still happen:
        their batch goes on.
        """
        places = batch.expired(now_s)
        if places and batch.first_sequence and self._is_clean_from(batch):
            self._withdraw_from(batch)
        for place in places:
            call = batch.calls[place]
            assert call is not None, "an open call expires"
            call.fail(
                OutcomeUnknown("no answer came in time: the command may be applied, now or later")
                if batch.first_sequence
                else not_applied()
            )
            batch.calls[place] = None
        if places and not batch.first_sequence:
            self._leave_out_failed(batch)
        batch.deadline_s = earliest_deadline_s(batch.calls)
        self._deadlines.add(batch, self.expire)

    def _is_clean_from(self, batch: CommandBatch) -> bool:
        return all(
            later.is_clean
            for later in self._in_flight.values()
            if later.first_sequence >= batch.first_sequence
        )

    def _withdraw_from(self, batch: CommandBatch) -> None:
        """Take back the sequences of this batch and of all after it."""
        first = batch.first_sequence
        self.last_sequence = first - 1
        self._cut_sequence = min(self._cut_sequence, self.last_sequence)
        unsent = [self._in_flight.pop(at) for at in list(self._in_flight) if at >= first]
        for withdrawn in unsent:
            self._room.give_back(withdrawn)
            withdrawn.first_sequence = 0
            withdrawn.message = None
            withdrawn.retry_at_s = withdrawn.sent_s = inf
        self.unsent.prepend(unsent)
        for withdrawn in unsent:
            if withdrawn is not batch and not all(withdrawn.calls):
                self._leave_out_failed(withdrawn)

    def _leave_out_failed(self, batch: CommandBatch) -> None:
        """Let an unsent batch be without the calls that have failed."""
        leave_out(batch, [place for place, call in enumerate(batch.calls) if call is None])
        if not batch.calls:
            self.unsent.one_is_over()

    def lose(self, unsent: Failure, sent: Failure) -> None:
        """The session is gone: end all calls, and number the next ones from 1."""
        for batch in self._in_flight.values():
            self._room.give_back(batch)
            if batch.results is not None:
                for call in batch.complete(batch.results, fewest=1):
                    if call is not None:
                        call.fail(unsent())
            else:
                batch.fail(unsent if batch.is_clean else sent)
        for batch in self.unsent:
            batch.fail(unsent)
        self._in_flight.clear()
        self.unsent.clear()
        self.last_sequence = self.answered_sequence = self._cut_sequence = 0
        self.are_held_up = False
        self.retry_at_s = inf
