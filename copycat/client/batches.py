"""Batches: operations that travel together, encoded once, each with the call that waits for it.

A batch holds at most ``COMMANDS_PER_BATCH_MAX`` operations and ``OPERATIONS_BYTES_MAX`` bytes; one
larger operation travels alone. The operations are encoded in the turn they were submitted in, so
a program may change its arguments afterwards.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from copycat.actors.codec import CodecError, decode, encode, encode_list, holds_more_values
from copycat.client.calls import OperationCall
from copycat.errors import (
    AnswerLost,
    CopycatError,
    InvalidType,
    OperationFailed,
    OutcomeUnknown,
    QueryFailed,
    Rejected,
    TooLarge,
)
from copycat.protocol.client import COMMANDS_PER_BATCH_MAX, OPERATIONS_BYTES_MAX, Branch
from copycat.types import OPERATION_BYTES_MAX, OPERATION_VALUES_MAX

Packed = tuple[list[OperationCall | None], bytes]


def _failure(branch: int, kind: str, text: str) -> CopycatError:
    match branch:
        case Branch.REJECTED:
            return Rejected(text, kind=kind)
        case Branch.FAILED:
            return OperationFailed(kind, text)
        case Branch.ANSWER_LOST:
            return AnswerLost(kind, text)
        case Branch.QUERY_FAILED:
            return QueryFailed(kind, text)
    raise ValueError(f"{branch!r:.60} is no branch of failures")


class Batch:
    """Calls and their encoded operations, in the same order.

    Attributes:
        calls: None stands for a call that has failed while its operation is still under way.
        operations: the codec's list of ``[resource, method, argument, ...]``.
        deadline_s: not later than the earliest deadline of the calls.
        retry_at_s: when it is sent again if nothing has been heard of it.
        retry_delay_s: how long after this sending that is.
    """

    __slots__ = ("calls", "deadline_s", "operations", "retry_at_s", "retry_delay_s")

    def __init__(self, calls: list[OperationCall | None], operations: bytes) -> None:
        self.calls = calls
        self.operations = operations
        self.deadline_s = earliest_deadline_s(calls)
        self.retry_at_s = inf
        self.retry_delay_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for it."""
        return any(self.calls)

    def expired(self, now_s: float) -> list[int]:
        """The places of the calls whose deadline has passed."""
        return [
            place
            for place, call in enumerate(self.calls)
            if call is not None and call.deadline_s <= now_s
        ]

    def complete(self, results: bytes) -> None:
        """End all calls with what the state machine answered."""
        try:
            values, failures = decode(results)
            if type(values) is not list or len(values) != len(self.calls):
                raise ValueError(f"{len(self.calls)} results were expected")
            failed = {
                place: _failure(branch, str(kind), str(text))
                for place, branch, kind, text in failures
            }
        except (TypeError, ValueError) as error:
            unread = f"the answer of the server cannot be read: {error}"
            self.fail(lambda: OutcomeUnknown(unread))
            return
        for place, call in enumerate(self.calls) if failed else ():
            if call is not None and place in failed:
                call.fail(failed[place])
        for call, value in zip(self.calls, values, strict=True):
            if call is not None:
                call.succeed(value)
        self.clear()

    def fail(self, error: Callable[[], Exception]) -> None:
        """End every call with an error of its own."""
        for call in self.calls:
            if call is not None:
                call.fail(error())
        self.clear()

    def clear(self) -> None:
        """Let go of calls and bytes: what still refers to the batch may do so for a while."""
        self.calls = []
        self.operations = b""


def earliest_deadline_s(calls: Sequence[OperationCall | None]) -> float:
    """The first deadline of these calls, or ``inf``."""
    return min([call.deadline_s for call in calls if call is not None], default=inf)


def pack(calls: Sequence[OperationCall]) -> list[Packed]:
    """Encode calls in few batches. A call that cannot be encoded, or is too large, fails here."""
    packed: list[Packed] = []
    most = COMMANDS_PER_BATCH_MAX
    rest = deque((calls,) if 0 < len(calls) <= most else _slices(calls, most))
    while rest:
        some = rest.popleft()
        try:
            if len(some) == 1:
                operations = encode_list(encode(some[0].operation))
            else:
                operations = encode([call.operation for call in some])
        except CodecError as error:
            if len(some) == 1:
                some[0].fail(InvalidType(f"an argument cannot be sent: {error}"))
            else:
                rest.extendleft(reversed(_parts(some, 2)))
            continue
        size_bytes = len(operations)
        if size_bytes <= OPERATIONS_BYTES_MAX:
            packed.append((list(some), operations))
        elif len(some) > 1:
            # A few more parts than the size asks for: the operations are not equally large.
            rest.extendleft(
                reversed(_parts(some, 2 + size_bytes * 9 // (OPERATIONS_BYTES_MAX * 8)))
            )
        elif size_bytes > OPERATION_BYTES_MAX:
            some[0].fail(
                TooLarge(f"an operation of {size_bytes} bytes; {OPERATION_BYTES_MAX} at most")
            )
        elif holds_more_values(operations, OPERATION_VALUES_MAX):
            some[0].fail(TooLarge(f"an operation of more than {OPERATION_VALUES_MAX} values"))
        else:
            packed.append((list(some), operations))
    return packed


def _parts(calls: Sequence[OperationCall], count: int) -> list[Sequence[OperationCall]]:
    return _slices(calls, max(1, -(-len(calls) // count)))


def _slices(calls: Sequence[OperationCall], size: int) -> list[Sequence[OperationCall]]:
    return [calls[start : start + size] for start in range(0, len(calls), size)]


def without(batch: Batch, places: list[int]) -> Packed:
    """What remains of a batch without the calls at these places."""
    gone = set(places)
    operations: list[Any] = decode(batch.operations)
    return (
        [call for place, call in enumerate(batch.calls) if place not in gone],
        encode([operation for place, operation in enumerate(operations) if place not in gone]),
    )


def split(batch: Batch) -> tuple[Packed, Packed]:
    """The two halves of a batch."""
    middle = len(batch.calls) // 2
    operations: list[Any] = decode(batch.operations)
    return (
        (batch.calls[:middle], encode(operations[:middle])),
        (batch.calls[middle:], encode(operations[middle:])),
    )


def joined(batches: Sequence[Batch]) -> Packed:
    """All calls of these batches in one."""
    operations: list[Any] = []
    calls: list[OperationCall | None] = []
    for batch in batches:
        operations += decode(batch.operations)
        calls += batch.calls
    return calls, encode(operations)


def run_that_fits(waiting: Iterable[Batch]) -> int:
    """How many of the first of these batches go into one; at least one."""
    count = size_bytes = batches = 0
    for batch in waiting:
        count += len(batch.calls)
        size_bytes += len(batch.operations)
        if batches and (count > COMMANDS_PER_BATCH_MAX or size_bytes > OPERATIONS_BYTES_MAX):
            break
        batches += 1
    return batches
