"""Operations of a batch find their resources: decoding, routing in runs, and one encoded answer."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from copycat.actors import Actor, NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.codec import (
    DEPTH_MAX,
    INTEGER_BOUND,
    CodecError,
    decode_unchecked,
    encode,
    encode_trusted,
    join_lists,
    list_head,
    takes_more_bytes,
)
from copycat.protocol.client import RESULTS_BYTES_MAX, Branch
from copycat.server.resource import FAILED_BY_OPERATOR, Failure, weight
from copycat.server.steps import AnswerQueries, ApplyOperations
from copycat.server.users_code import Recursion, UsersCode
from copycat.storage.batch import Batch, Commands
from copycat.types import ResourceId

Run = tuple[int, ResourceId, list[list[Any]]]  # place of the first, resource, operations

UNDECODABLE = ("Undecodable", "the operation cannot be decoded")
UNKNOWN_RESOURCE = ("UnknownResource", "there is no such resource")
_NO_FAILURES = encode([])
_LIST_OF_ONE, _LIST_OF_TWO = encode([0])[:1], encode([0, 0])[:1]  # heads, before encoded values
UNENCODABLE = ("Unencodable", "the state machine's answer cannot be encoded")
TOO_LARGE = ("AnswerTooLarge", "the answer has more bytes than can be sent")
VALUES_BYTES_MAX = RESULTS_BYTES_MAX - (128 << 10)
"""Of what the commands of a batch answer; texts of failures are not counted, as they are no state."""
VALUE_BYTES_MAX = VALUES_BYTES_MAX - (512 << 10)
"""Of what one operation answers, whatever is asked beside it."""
ANSWERED_BYTES_MAX = 368 << 10
"""When commands of a batch have answered more than this, those behind them are not carried out. So
there is room for whatever one of them answers, for ``SMALL_BYTES`` of each, and 16 KiB for heads.

Like all that decides what a log means, these are to be the same on every server.
"""
VALUE_DEPTH_MAX = DEPTH_MAX - 2  # an answer is in a list of values, beside the failures
_TEXTS = frozenset((str, bytes, type(None)))
_SCALARS = _TEXTS | {int, float, bool}
_SIZED = frozenset((str, bytes))
_NONE = encode(None)
_ANSWER_LOST = Branch.ANSWER_LOST  # to look it up takes as long as much else
QUERIES_AT_ONCE = 16
"""So few queries of one read are run before the time is looked at."""
MORE_AT_ONCE = 4
"""So many times as many are run next if they left some time."""
FAILURE_BYTES = 64  # what a failure is counted with, whatever its text


class Router:
    """The resources of one server, and the way of operations to them.

    Attributes:
        resources: the actor of each resource.
    """

    def __init__(self, applier: Actor, users_code: UsersCode | None = None) -> None:
        self._applier = applier
        self._users_code = users_code or UsersCode(Recursion.UNKNOWN)
        self.resources: dict[ResourceId, NodeAddress] = {}

    def apply(
        self, commands: Batch | Commands, log_time_us: int, effects: list[Any]
    ) -> tuple[int, bytes, int, tuple[ResourceId, ...]]:
        """Apply commands; returns how many of the first ones were carried out, their encoded results,
        how many bytes these are counted with, and the resources they were for."""
        base_index, session = commands.base_index, commands.session
        runs = _runs(commands.operations, commands.count)
        if runs is None:
            results = _all_failed(commands.count, Branch.REJECTED, UNDECODABLE)
            return commands.count, results, FAILURE_BYTES * commands.count, ()
        if self._users_code.failed_entries:
            for place in self._users_code.failed_among(base_index, commands.count):
                _fail(runs, place)
        only = self.resources.get(runs[0][1]) if len(runs) == 1 else None
        if only is not None:  # by far the most frequent case
            step = ApplyOperations(
                base_index, log_time_us, session, runs[0][2], effects, ANSWERED_BYTES_MAX
            )
            values, failures = self._applier.step(only, step)
            touched = [runs[0][1]]
        else:
            values, failures, touched = self._apply_runs(
                runs,
                lambda start, run, room_bytes: ApplyOperations(
                    base_index + start, log_time_us, session, run, effects, room_bytes
                ),
            )
        encoded = _encoded(values)
        if encoded is None:
            encoded = _encoded_one_by_one(values, failures, _ANSWER_LOST, VALUES_BYTES_MAX)
        if failures:
            counted_bytes = len(encoded) + FAILURE_BYTES * len(failures)
            return len(values), _results(encoded, failures), counted_bytes, tuple(touched)
        results = _LIST_OF_TWO + encoded + _NO_FAILURES
        return len(values), results, len(encoded), tuple(touched)

    def answer(self, operations_bytes: bytes, count: int) -> "Answering":
        """Begin to run queries."""
        return Answering(self, _runs(operations_bytes, count), count)

    def query(
        self, resource: ResourceId, operations: list[list[Any]]
    ) -> tuple[list[Any], list[Failure]]:
        """Have a resource answer queries, in order."""
        target = self.resources.get(resource)
        if target is not None:
            values, failures = self._applier.step(target, AnswerQueries(operations))
            return values, failures
        unknown = (int(Branch.QUERY_FAILED), *UNKNOWN_RESOURCE)
        count = len(operations)
        return [None] * count, [(place, *unknown) for place in range(count)]

    def _apply_runs(
        self, runs: list[Run], step_for: Callable[[int, list[list[Any]], int], Any]
    ) -> tuple[list[Any], list[Failure], list[ResourceId]]:
        """Have each resource take its runs of operations, in order, while there is room for what they
        answer."""
        room_bytes, weighed = ANSWERED_BYTES_MAX, 0
        values: list[Any] = []
        failures: list[Failure] = []
        touched: list[ResourceId] = []
        for start, resource, run in runs:
            for value in values[weighed:]:
                room_bytes -= weight(value, room_bytes)
            weighed = len(values)
            if weighed < start or room_bytes < 0:
                break
            target = self.resources.get(resource)
            if target is None:
                values += [None] * len(run)
                unknown = (int(Branch.REJECTED), *UNKNOWN_RESOURCE)
                failures += [(start + offset, *unknown) for offset in range(len(run))]
                continue
            touched.append(resource)
            run_values, run_failures = self._applier.step(target, step_for(start, run, room_bytes))
            values += run_values
            if run_failures:
                failures += [
                    (start + offset, branch, kind, text)
                    for offset, branch, kind, text in run_failures
                ]
        return values, failures, touched


class Answering:
    """The queries of one read, which are run as far as a handler's time goes.

    Attributes:
        results: when all have been run, what is to be sent; None if fewer must be asked at once.
    """

    __slots__ = (
        "_count", "_failures", "_parts", "_place", "_router", "_run", "_runs", "_size_bytes", "results",
    )  # fmt: skip

    def __init__(self, router: Router, runs: list[Run] | None, count: int) -> None:
        self.results: bytes | None = None
        self._router = router
        self._runs = runs
        self._count = count
        self._run = self._place = 0
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._failures: list[Failure] = []

    def go_on(self, budget: Budget) -> bool:
        """Run some queries, a few at least; returns whether nothing is left to do."""
        if self._runs is None:
            self.results = _all_failed(self._count, Branch.QUERY_FAILED, UNDECODABLE)
            return True
        at_once = QUERIES_AT_ONCE
        while self._run < len(self._runs):
            if self._run_some(*self._runs[self._run], at_once):
                self._run, self._place = self._run + 1, 0
            at_once *= MORE_AT_ONCE
            if self._size_bytes > RESULTS_BYTES_MAX:
                return True
            if self._run < len(self._runs) and budget.spent:
                return False
        parts = self._parts
        encoded = parts[0] if len(parts) == 1 else join_lists(parts, self._count)
        self.results = _results(encoded, self._failures)
        return True

    def _run_some(self, start: int, resource: ResourceId, run: list[list[Any]], count: int) -> bool:
        """Run so many of these queries, or fewer, and encode what they say; whether it was the rest."""
        place = self._place
        values, failures = self._router.query(resource, run[place : place + count])
        encoded = _encoded(values)
        if encoded is None:
            # What is too much together is asked for again, by fewer at once.
            room_bytes = VALUE_BYTES_MAX * len(values)
            encoded = _encoded_one_by_one(values, failures, Branch.QUERY_FAILED, room_bytes)
        self._parts.append(encoded)
        self._size_bytes += len(encoded)
        if failures:
            before = start + place
            self._failures += [
                (before + at, branch, kind, text) for at, branch, kind, text in failures
            ]
        self._place = place + len(values)
        return self._place == len(run)


def _runs(operations_bytes: bytes, count: int) -> list[Run] | None:
    """Decode operations; those for one resource that follow each other are a run. None: these are
    not ``count`` operations."""
    try:
        operations = decode_unchecked(operations_bytes)  # machines check what they take
    except CodecError:
        return None
    if type(operations) is not list or len(operations) != count:
        return None
    if count == 1:  # as nearly always
        only = operations[0]
        if type(only) is list and len(only) >= 2 and type(only[0]) is int and type(only[1]) is str:
            return [(0, only[0], operations)]
        return None
    runs: list[Run] = []
    start, current = 0, None
    for place, operation in enumerate(operations):
        if (
            type(operation) is not list
            or len(operation) < 2
            or type(operation[0]) is not int
            or type(operation[1]) is not str
        ):
            return None
        if operation[0] != current:
            if place > 0:
                runs.append((start, operations[start][0], operations[start:place]))
            start, current = place, operation[0]
    runs.append((start, operations[start][0], operations[start:] if start else operations))
    return runs


def _fail(runs: list[Run], place: int) -> None:
    """Put something in the place of an operation that no machine carries out."""
    for start, resource, run in runs:
        if start <= place < start + len(run):
            run[place - start] = [resource, FAILED_BY_OPERATOR]


def _all_failed(count: int, branch: Branch, failure: tuple[str, str]) -> bytes:
    failures = [(offset, int(branch), *failure) for offset in range(count)]
    return _results(encode([None] * count), failures)


def _results(values: bytes, failures: list[Failure]) -> bytes:
    return _LIST_OF_TWO + values + (encode(failures) if failures else _NO_FAILURES)


def _encoded(values: list[Any]) -> bytes | None:
    """The encoded values, by far the fastest way; None if one cannot be, or they take much."""
    if len(values) == 1 and type(values[0]) in _SCALARS:  # as nearly always
        return _encoded_alone(values[0])
    if _TEXTS.issuperset(map(type, values)):
        if sum(map(len, filter(None, values))) > VALUE_BYTES_MAX:
            return None
    elif not _are_flat(values):
        return None
    try:
        encoded = encode_trusted(values)  # by all that was found, these are plain
    except CodecError:
        return None
    return encoded if len(encoded) <= VALUE_BYTES_MAX else None


def _are_flat(values: list[Any]) -> bool:
    """Whether these are scalars and lists of them, as nearly all answers are, and take no more than they
    may; each item takes a byte at least."""
    rows = [value for value in values if type(value) is list]
    size_bytes = sum(map(len, rows)) + len(values) - len(rows)
    if size_bytes > VALUE_BYTES_MAX:
        return False
    columns: list[Sequence[Any]] = [[value for value in values if type(value) is not list]]
    if len(set(map(len, rows))) == 1 and len(rows) > len(rows[0]):
        columns += zip(*rows, strict=True)  # in which one kind follows the other
    else:
        columns.append([*chain.from_iterable(rows)])
    for column in columns:
        kinds = set(map(type, column))
        if not kinds <= _SCALARS:
            return False
        if int in kinds:
            numbers = [item for item in column if type(item) is int]
            if not -INTEGER_BOUND <= min(numbers) <= max(numbers) < INTEGER_BOUND:
                return False
        if not kinds.isdisjoint(_SIZED):
            texts = column if kinds <= _SIZED else [x for x in column if type(x) in _SIZED]
            size_bytes += sum(map(len, texts))
    return size_bytes <= VALUE_BYTES_MAX


def _encoded_alone(value: Any) -> bytes | None:
    if type(value) in _SIZED and len(value) > VALUE_BYTES_MAX:
        return None
    try:
        encoded = _LIST_OF_ONE + encode(value)
    except CodecError:
        return None
    return encoded if len(encoded) <= VALUE_BYTES_MAX else None


def _encoded_one_by_one(
    values: list[Any], failures: list[Failure], lost: Branch, room_bytes: int
) -> bytes:
    """The same of any values, which are replaced by a failure if they have no room either.

    There is none for what is too large alone, nor for what all take together beyond ``room_bytes``:
    that happens only to values that have grown since they were answered, as parts of a machine that
    later commands of the batch have changed.

    However values are put together, each of them may be as deep; and none is encoded that cannot have
    room: it may be of any size, and hold others of its parts again and again.
    """
    parts: list[bytes] = []
    for offset, value in enumerate(values):
        failure, part, bytes_max = TOO_LARGE, b"", min(VALUE_BYTES_MAX, room_bytes)
        if not takes_more_bytes(value, bytes_max):
            try:
                part = encode(value, depth_max=VALUE_DEPTH_MAX)
            except CodecError:
                failure = UNENCODABLE
        if not part or len(part) > bytes_max:
            failures.append((offset, int(lost), *failure))
            part = _NONE
        room_bytes -= len(part)
        parts.append(part)
    return b"".join((list_head(len(parts)), *parts))
