"""Operations of a batch find their resources: decoding, routing in runs, and one encoded answer."""

from collections.abc import Callable
from typing import Any

from copycat.actors import Actor, NodeAddress
from copycat.actors.codec import CodecError, decode_unchecked, encode
from copycat.protocol.client import ANSWER_TOO_LARGE, RESULTS_BYTES_MAX
from copycat.server.resource import Failure
from copycat.server.steps import AnswerQueries, ApplyOperations
from copycat.storage.batch import Batch
from copycat.types import ResourceId

UNDECODABLE = ("Undecodable", "the operation cannot be decoded")
UNKNOWN_RESOURCE = ("UnknownResource", "there is no such resource")
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

    def apply(self, batch: Batch, effects: list[Any]) -> tuple[bytes, tuple[ResourceId, ...]]:
        """Apply a batch of commands; returns the encoded results and the resources it was for."""

        def step(start: int, run: list[list[Any]]) -> ApplyOperations:
            index = batch.base_index + start
            return ApplyOperations(index, batch.log_time_us, batch.session, run, effects)

        operations = _decoded(batch.operations, batch.count)
        if operations is None:
            return _all_failed(batch.count, UNDECODABLE), ()
        values, failures, touched = self._route(operations, step)
        results = _encoded(values, failures)
        if len(results) > RESULTS_BYTES_MAX:
            results = _shortened(values, failures)
        return results, tuple(touched)

    def answer(self, operations_bytes: bytes, count: int) -> bytes | None:
        """Run queries; returns the encoded results, or None if fewer must be asked at once."""
        operations = _decoded(operations_bytes, count)
        if operations is None:
            return _all_failed(count, UNDECODABLE)
        values, failures, _ = self._route(operations, lambda _, run: AnswerQueries(run))
        results = _encoded(values, failures)
        if len(results) <= RESULTS_BYTES_MAX:
            return results
        return None if count > 1 else _all_failed(1, TOO_LARGE)

    def _route(
        self,
        operations: list[list[Any]],
        step_for: Callable[[int, list[list[Any]]], Any],
    ) -> tuple[list[Any], list[Failure], dict[ResourceId, None]]:
        """Have each resource take its runs of operations, in order."""
        values: list[Any] = []
        failures: list[Failure] = []
        touched: dict[ResourceId, None] = {}
        for start, end, resource in _runs(operations):
            run = operations if end - start == len(operations) else operations[start:end]
            target = self.resources.get(resource)
            if target is None:
                values += [None] * len(run)
                failures += [(offset, *UNKNOWN_RESOURCE) for offset in range(start, end)]
                continue
            touched[resource] = None
            run_values, run_failures = self._applier.step(target, step_for(start, run))
            values += run_values
            failures += [(start + offset, kind, text) for offset, kind, text in run_failures]
        return values, failures, touched


def _decoded(operations_bytes: bytes, count: int) -> list[list[Any]] | None:
    try:
        operations = decode_unchecked(operations_bytes)  # machines check what they take
    except CodecError:
        return None
    if type(operations) is not list or len(operations) != count:
        return None
    for operation in operations:
        if (
            type(operation) is not list
            or len(operation) < 2
            or type(operation[0]) is not int
            or type(operation[1]) is not str
        ):
            return None
    return operations


def _runs(operations: list[list[Any]]) -> list[tuple[int, int, ResourceId]]:
    """Where operations for one resource follow each other: (start, end, resource)."""
    if len(operations) == 1:
        return [(0, 1, operations[0][0])]
    runs = []
    start, resource = 0, operations[0][0]
    for place, operation in enumerate(operations):
        if operation[0] != resource:
            runs.append((start, place, resource))
            start, resource = place, operation[0]
    runs.append((start, len(operations), resource))
    return runs


def _all_failed(count: int, failure: tuple[str, str]) -> bytes:
    return encode([[None] * count, [[offset, *failure] for offset in range(count)]])


def _encoded(values: list[Any], failures: list[Failure]) -> bytes:
    try:
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
