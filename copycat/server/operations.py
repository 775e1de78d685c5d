"""Operations of a batch find their resources: decoding, routing in runs, and one encoded answer."""

from collections.abc import Callable
from typing import Any

from copycat.actors import Actor, NodeAddress
from copycat.actors.codec import CodecError, decode_unchecked, encode, encode_list
from copycat.protocol.client import ANSWER_TOO_LARGE, RESULTS_BYTES_MAX
from copycat.server.resource import Failure
from copycat.server.steps import AnswerQueries, ApplyOperations
from copycat.storage.batch import Commands
from copycat.types import ResourceId

Run = tuple[int, ResourceId, list[list[Any]]]  # place of the first, resource, operations

UNDECODABLE = ("Undecodable", "the operation cannot be decoded")
UNKNOWN_RESOURCE = ("UnknownResource", "there is no such resource")
_NO_FAILURES = encode([])
UNENCODABLE = ("Unencodable", "the state machine's answer cannot be encoded")
TOO_LARGE = (ANSWER_TOO_LARGE, "the answer has more bytes than can be sent")


class Router:
    """The resources of one server, and the way of operations to them.

    Attributes:
        resources: the actor of each resource.
    """

    def __init__(self, applier: Actor) -> None:
        self._applier = applier
        self.resources: dict[ResourceId, NodeAddress] = {}

    def apply(
        self, commands: Commands, log_time_us: int, effects: list[Any]
    ) -> tuple[bytes, tuple[ResourceId, ...]]:
        """Apply commands; returns the encoded results and the resources they were for."""

        def step(start: int, run: list[list[Any]]) -> ApplyOperations:
            index = commands.base_index + start
            return ApplyOperations(index, log_time_us, commands.session, run, effects)

        runs = _runs(commands.operations, commands.count)
        if runs is None:
            return _all_failed(commands.count, UNDECODABLE), ()
        values, failures, touched = self._route(runs, step)
        results = _encoded(values, failures)
        if len(results) > RESULTS_BYTES_MAX:
            results = _shortened(values, failures)
        return results, tuple(touched)

    def answer(self, operations_bytes: bytes, count: int) -> bytes | None:
        """Run queries; returns the encoded results, or None if fewer must be asked at once."""
        runs = _runs(operations_bytes, count)
        if runs is None:
            return _all_failed(count, UNDECODABLE)
        values, failures, _ = self._route(runs, lambda _, run: AnswerQueries(run))
        results = _encoded(values, failures)
        if len(results) <= RESULTS_BYTES_MAX:
            return results
        return None if count > 1 else _all_failed(1, TOO_LARGE)

    def _route(
        self,
        runs: list[Run],
        step_for: Callable[[int, list[list[Any]]], Any],
    ) -> tuple[list[Any], list[Failure], list[ResourceId]]:
        """Have each resource take its runs of operations, in order."""
        if len(runs) == 1 and (only := self.resources.get(runs[0][1])) is not None:
            return *self._applier.step(only, step_for(0, runs[0][2])), [runs[0][1]]
        values: list[Any] = []
        failures: list[Failure] = []
        touched: list[ResourceId] = []
        for start, resource, run in runs:
            target = self.resources.get(resource)
            if target is None:
                values += [None] * len(run)
                failures += [(start + offset, *UNKNOWN_RESOURCE) for offset in range(len(run))]
                continue
            touched.append(resource)
            run_values, run_failures = self._applier.step(target, step_for(start, run))
            values += run_values
            if run_failures:
                failures += [(start + offset, kind, text) for offset, kind, text in run_failures]
        return values, failures, touched


def _runs(operations_bytes: bytes, count: int) -> list[Run] | None:
    """Decode operations; those for one resource that follow each other are a run. None: these are
    not ``count`` operations."""
    try:
        operations = decode_unchecked(operations_bytes)  # machines check what they take
    except CodecError:
        return None
    if type(operations) is not list or len(operations) != count:
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


def _all_failed(count: int, failure: tuple[str, str]) -> bytes:
    return encode([[None] * count, [[offset, *failure] for offset in range(count)]])


def _encoded(values: list[Any], failures: list[Failure]) -> bytes:
    try:
        if not failures:
            encoded = encode_list(encode(values[0])) if len(values) == 1 else encode(values)
            return encode_list(encoded, _NO_FAILURES)
        return encode([values, failures])
    except CodecError:
        for offset, value in enumerate(values):
            try:
                encode(value)
            except CodecError:
                values[offset] = None
                failures.append((offset, *UNENCODABLE))
        return encode([values, failures])


def _shortened(values: list[Any], failures: list[Failure]) -> bytes:
    """Answers that fit: those that do not are replaced, the same on every server."""
    room_bytes = RESULTS_BYTES_MAX - (128 << 10)  # the rest is for failures
    for offset, value in enumerate(values):
        size_bytes = len(encode(value))
        if size_bytes > room_bytes:
            values[offset] = None
            failures.append((offset, *TOO_LARGE))
        else:
            room_bytes -= size_bytes
    return encode([values, failures])
