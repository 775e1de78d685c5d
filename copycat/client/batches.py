"""Batches: operations that travel together, encoded once, each with the call that waits for it.

A batch holds at most ``COMMANDS_PER_BATCH_MAX`` operations, ``OPERATIONS_BYTES_MAX`` bytes and
``OPERATION_VALUES_MAX`` values; one operation of more bytes travels alone. Operations are encoded in the turn they were submitted in, so a
program may change its arguments afterwards. Large ones that nobody can change, of str and bytes,
are encoded when they are sent: those that wait take no more memory than their program gave them,
and a turn never encodes more than goes on its way in it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

from copycat.actors.codec import (
    DEPTH_MAX,
    INTEGER_BOUND,
    CodecError,
    decode,
    encode,
    encode_list,
    encode_trusted,
)
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
from copycat.types import OPERATION_BYTES_MAX, OPERATION_VALUES_MAX, Unencoded

Packed = tuple[list[OperationCall | None], bytes, int]
"""Calls, their operations, encoded or not yet, and how many values these hold."""

_CONTAINERS = frozenset((list, tuple, dict))

LATE_BYTES_MIN = 16 * 1024  # smaller ones are encoded at once

_NUMBERS = frozenset((int, float, bool, type(None)))
OPERATION_WEIGHT = 8  # of an operation besides its parts


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
            A batch without calls is over; whoever comes across it leaves it out.
        operations: the codec's list of ``[resource, method, argument, ...]``; empty as long as
            they are not encoded.
        size_bytes: of the operations, or about so many.
        values: how many the operations hold, or more.
        taken_bytes: of the window, while it is on its way.
        deadline_s: not later than the earliest deadline of the calls.
        retry_at_s: when it is sent again if nothing has been heard of it.
        retry_delay_s: how long after this sending that is.
    """

    __slots__ = (
        "calls",
        "deadline_s",
        "operations",
        "retry_at_s",
        "retry_delay_s",
        "size_bytes",
        "taken_bytes",
        "values",
    )

    def __init__(self, packed: Packed, size_bytes: int = 0) -> None:
        self.calls, self.operations, self.values = packed
        self.size_bytes = size_bytes or len(self.operations)
        self.taken_bytes = 0
        self.deadline_s = earliest_deadline_s(self.calls)
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

    def complete(self, results: bytes, *, fewest: int = 0) -> list[OperationCall | None]:
        """End all calls with what the state machine answered, or the first ones if no more of them was
        carried out.

        Args:
            results: as they have come.
            fewest: so few of them have to be there; 0: all.

        Returns:
            The other calls.
        """
        calls = self.calls
        try:
            values, failures = decode(results)
            if type(values) is not list or not (fewest or len(calls)) <= len(values) <= len(calls):
                raise ValueError(f"{len(calls)} results were expected")
            failed = {
                place: _failure(branch, str(kind), str(text))
                for place, branch, kind, text in failures
            }
        except (TypeError, ValueError) as error:
            unread = f"the answer of the server cannot be read: {error}"
            self.fail(lambda: OutcomeUnknown(unread))
            return []
        for place, call in enumerate(calls) if failed else ():
            if call is not None and place in failed:
                call.fail(failed[place])
        for call, value in zip(calls, values, strict=False):
            if call is not None:
                call.succeed(value)
        self.clear()
        return calls[len(values) :]

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


B = TypeVar("B", bound=Batch)


def earliest_deadline_s(calls: Sequence[OperationCall | None]) -> float:
    """The first deadline of these calls, or ``inf``."""
    if len(calls) == 1 and calls[0] is not None:
        return calls[0].deadline_s
    return min([call.deadline_s for call in calls if call is not None], default=inf)


def weigh(operation: tuple[Any, ...]) -> int:
    """About how many bytes an operation takes; less than 0 if somebody can change it meanwhile, or
    if it may not be plain."""
    size_bytes = OPERATION_WEIGHT
    fixed = True
    for part in operation:
        kind = type(part)
        if kind is str or kind is bytes:
            size_bytes += len(part)
        elif kind is int:
            fixed = fixed and -INTEGER_BOUND <= part < INTEGER_BOUND  # or it is no plain value
        elif kind is Unencoded:
            size_bytes += part.size_bytes
        elif kind not in _NUMBERS:
            fixed = False
            size_bytes += _weight_within(part, DEPTH_MAX)
    return size_bytes if fixed else -size_bytes


def _weight_within(value: Any, depth_left: int) -> int:
    """About how many bytes a list or dict takes, or enough to know that it travels alone."""
    size_bytes = 8
    kind = type(value)
    if depth_left == 0 or (kind is not list and kind is not tuple and kind is not dict):
        return size_bytes
    for items in (value, value.values()) if kind is dict else (value,):
        for item in items:
            kind = type(item)
            if kind is str or kind is bytes:
                size_bytes += len(item)
            elif kind not in _NUMBERS:
                size_bytes += _weight_within(item, depth_left - 1)
            if size_bytes > OPERATIONS_BYTES_MAX:
                return size_bytes
    return size_bytes


class Divided(NamedTuple):
    """Calls that go into one batch.

    Attributes:
        calls: some of those that were divided.
        late_bytes: how many bytes they take if they may be encoded late; 0 if they may not, or if it
            is not worth while.
        are_simple: whether their operations are known to be plain, without lists and dicts.
    """

    calls: Sequence[OperationCall]
    late_bytes: int
    are_simple: bool = False


def divide(calls: Sequence[OperationCall]) -> list[Divided]:
    """Put calls together that go into one batch."""
    if len(calls) == 1:
        weight = weigh(calls[0].operation)
        return [Divided(calls, weight if weight >= LATE_BYTES_MIN else 0)]
    divided: list[Divided] = []
    for start in range(0, len(calls), COMMANDS_PER_BATCH_MAX):
        some = calls[start : start + COMMANDS_PER_BATCH_MAX]
        size_bytes = _weight_of_simple([call.operation for call in some])
        if not 0 < size_bytes <= OPERATIONS_BYTES_MAX:
            return divided + _divided_singly(calls[start:])
        late_bytes = size_bytes if size_bytes >= LATE_BYTES_MIN else 0
        divided.append(Divided(some, late_bytes, are_simple=True))
    return divided


def _weight_of_simple(operations: Sequence[tuple[Any, ...]]) -> int:
    """What ``weigh`` says of all together, in far less time; 0 if they are not as simple as most:
    alike, and of plain values that are no lists and no dicts."""
    length = len(operations[0])
    if not {length}.issuperset(map(len, operations)):
        return 0
    size_bytes = OPERATION_WEIGHT * len(operations)
    for parts in zip(*operations, strict=True):
        kind = type(parts[0])
        if not {kind}.issuperset(map(type, parts)):
            return 0
        if kind is str or kind is bytes:
            size_bytes += sum(map(len, parts))
        elif kind is int:
            if not -INTEGER_BOUND <= min(parts) <= max(parts) < INTEGER_BOUND:
                return 0
        elif kind not in _NUMBERS:
            return 0
    return size_bytes


def _divided_singly(calls: Sequence[OperationCall]) -> list[Divided]:
    divided: list[Divided] = []
    start = size_bytes = 0
    fixed = True
    for at, call in enumerate(calls):
        weight = weigh(call.operation)
        larger_bytes = size_bytes + abs(weight)
        if at > start and (
            at - start >= COMMANDS_PER_BATCH_MAX or larger_bytes > OPERATIONS_BYTES_MAX
        ):
            late = fixed and size_bytes >= LATE_BYTES_MIN
            divided.append(Divided(calls[start:at], size_bytes if late else 0))
            start, larger_bytes, fixed = at, abs(weight), True
        size_bytes = larger_bytes
        fixed = fixed and weight > 0
    if calls:
        late = fixed and size_bytes >= LATE_BYTES_MIN
        divided.append(Divided(calls[start:] if start else calls, size_bytes if late else 0))
    return divided


def _encodable(operation: tuple[Any, ...]) -> tuple[Any, ...]:
    """An operation with what it lets stand for bytes encoded."""
    for part in operation:
        if type(part) is Unencoded:
            return tuple(
                encode(part.value) if type(part) is Unencoded else part for part in operation
            )
    return operation


def pack(
    calls: Sequence[OperationCall], *, are_simple: bool = False, late: bool = False
) -> list[Packed]:
    """Encode calls in few batches. A call that cannot be encoded, or is too large, fails here.

    Args:
        calls: of one batch, as far as ``divide`` can know.
        are_simple: as ``divide`` has found.
        late: they were ``unpacked`` before, and something in them may be ``Unencoded``.
    """
    packed: list[Packed] = []
    rest = deque((calls,) if calls else ())
    while rest:
        some = rest.popleft()
        try:
            parts = [call.operation for call in some]
            if late and Unencoded in set(map(type, chain.from_iterable(parts))):
                parts = [_encodable(operation) for operation in parts]
            if len(parts) == 1:
                operations = encode_list(encode(parts[0]))
            elif are_simple or (late and _weight_of_simple(parts)):
                operations = encode_trusted(parts)
            else:
                operations = encode(parts)
        except CodecError as error:
            if len(some) == 1:
                some[0].fail(InvalidType(f"an argument cannot be sent: {error}"))
            else:
                rest.extendleft(reversed(_parts(some, 2)))
            continue
        is_flat = are_simple or late
        size_bytes, values = len(operations), (_values_of_flat if is_flat else _values)(parts)
        if size_bytes <= OPERATIONS_BYTES_MAX and values <= OPERATION_VALUES_MAX:
            packed.append((list(some), operations, values))
        elif len(some) > 1:
            # A few more parts than the size asks for: the operations are not equally large.
            excess = max(size_bytes / OPERATIONS_BYTES_MAX, values / OPERATION_VALUES_MAX)
            rest.extendleft(reversed(_parts(some, 2 + int(excess * 9 / 8))))
        elif size_bytes > OPERATION_BYTES_MAX:
            some[0].fail(
                TooLarge(f"an operation of {size_bytes:,} bytes; {OPERATION_BYTES_MAX:,} at most")
            )
        elif values > OPERATION_VALUES_MAX:
            text = f"an operation of {values:,} values; {OPERATION_VALUES_MAX:,} at most: divide it"
            some[0].fail(TooLarge(text))
        else:
            packed.append((list(some), operations, values))
    return packed


def pack_small(call: OperationCall) -> Packed | None:
    """Encode a call that travels alone, as nearly all do; None if ``divide`` has to look at it."""
    operation = call.operation
    if not 0 < weigh(operation) < LATE_BYTES_MIN or len(operation) > OPERATION_VALUES_MAX - 2:
        return None
    try:
        return [call], encode_trusted([operation]), len(operation) + 2
    except CodecError:
        return None


def unpacked(calls: Sequence[OperationCall]) -> Packed:
    """Calls that are to be encoded when they are sent; ``divide`` has found no list or dict there."""
    return list(calls), b"", _values_of_flat([call.operation for call in calls])


def _values_of_flat(operations: Sequence[Sequence[Any]]) -> int:
    """How many values operations without lists and dicts hold."""
    return 1 + len(operations) + sum(map(len, operations))


def _values(operations: Sequence[Sequence[Any]]) -> int:
    """How many values these operations hold, as a server counts them; they can be encoded."""
    count = _values_of_flat(operations)
    parts = operations[0] if len(operations) == 1 else chain.from_iterable(operations)
    if not _CONTAINERS.isdisjoint(map(type, parts)):
        left = [item for item in chain.from_iterable(operations) if type(item) in _CONTAINERS]
        while left:
            container = left.pop()
            if type(container) is dict:
                count += len(container)
                container = container.values()
            count += len(container)
            left += [item for item in container if type(item) in _CONTAINERS]
    return count


def _parts(calls: Sequence[OperationCall], count: int) -> list[Sequence[OperationCall]]:
    size = max(1, -(-len(calls) // count))
    return [calls[start : start + size] for start in range(0, len(calls), size)]


def leave_out(batch: Batch, places: list[int]) -> None:
    """Take the calls at these places out of a batch that is not under way."""
    gone = set(places)
    batch.calls = [call for place, call in enumerate(batch.calls) if place not in gone]
    if not batch.calls:
        batch.clear()
    elif batch.operations:
        operations: list[Any] = decode(batch.operations)
        left = [operation for place, operation in enumerate(operations) if place not in gone]
        batch.operations = encode(left)


def split(batch: Batch) -> tuple[Packed, Packed]:
    """The two halves of a batch."""
    middle = len(batch.calls) // 2
    operations: list[Any] = decode(batch.operations)
    return (
        (batch.calls[:middle], encode(operations[:middle]), _values(operations[:middle])),
        rest_of(batch.operations, batch.calls[middle:]),
    )


def rest_of(operations_bytes: bytes, calls: list[OperationCall | None]) -> Packed:
    """The last of these operations, with the calls that wait for them."""
    operations: list[Any] = decode(operations_bytes)[-len(calls) :]
    return calls, encode(operations), _values(operations)


def encoded(batches: Sequence[Batch]) -> list[Packed]:
    """All calls of these batches, in one if they fit; without those that cannot be encoded."""
    if not batches[0].operations:
        calls = [call for batch in batches for call in batch.calls if call is not None]
        return pack(calls, late=True)
    if len(batches) == 1:
        return [(batches[0].calls, batches[0].operations, batches[0].values)]
    operations: list[Any] = []
    joined: list[OperationCall | None] = []
    for batch in batches:
        operations += decode(batch.operations)
        joined += batch.calls
    return [(joined, encode(operations), _values(operations))]


def run_that_fits(waiting: Iterable[Batch]) -> tuple[int, int]:
    """How many of the first of these batches go into one, at least one, and in how many bytes."""
    count = size_bytes = values = batches = 0
    late = False
    for batch in waiting:
        count += len(batch.calls)
        values += batch.values
        larger_bytes = size_bytes + batch.size_bytes
        if not batches:
            late = not batch.operations
        elif (
            count > COMMANDS_PER_BATCH_MAX
            or larger_bytes > OPERATIONS_BYTES_MAX
            or values > OPERATION_VALUES_MAX
            or late == bool(batch.operations)  # what was encoded is not to be looked at again
        ):
            break
        size_bytes = larger_bytes
        batches += 1
    return batches, size_bytes


class Waiting(Generic[B]):
    """Batches that are to be sent, in order; those that are over are left out in passing.

    Attributes:
        batches: all of them, for others to look at: whether there are any, and the first, which is
            never over.
    """

    __slots__ = ("_over", "batches")

    def __init__(self) -> None:
        self.batches: deque[B] = deque()
        self._over = 0

    def __iter__(self) -> Iterator[B]:
        return (batch for batch in self.batches if batch.calls)

    def append(self, batch: B) -> None:
        """Let a batch come last."""
        self.batches.append(batch)

    def prepend(self, batches: Sequence[B]) -> None:
        """Let these come first, in this order."""
        self.batches.extendleft(reversed(batches))

    def take(self, count: int) -> list[B]:
        """Take the first ones out."""
        taken: list[B] = []
        while len(taken) < count:
            batch = self.batches.popleft()
            if batch.calls:
                taken.append(batch)
            else:
                self._over -= 1
        self._begin_with_open()
        return taken

    def one_is_over(self) -> None:
        """A batch has become over, by its deadline: in time that costs no more than its coming."""
        self._over += 1
        if self._over * 2 > len(self.batches):
            self.batches = deque(self)
            self._over = 0
        self._begin_with_open()

    def _begin_with_open(self) -> None:
        while self.batches and not self.batches[0].calls:
            self.batches.popleft()
            self._over -= 1

    def clear(self) -> None:
        """Forget all."""
        self.batches.clear()
        self._over = 0
