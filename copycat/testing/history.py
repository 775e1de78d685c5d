"""Histories: what clients asked of one object, when, and what they know of the outcome.

A history is recorded while clients work, and checked when they are done; see ``linearizability``.

    history = History(loop.time)
    await history.record("ann", "put", "color", "red", call=users.put("color", "red"))

Record one history for each object: objects are linearizable together if each is by itself.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from math import inf, nextafter
from typing import Any, TypeVar

from copycat.errors import NotApplied
from copycat.types import Index

T = TypeVar("T")

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class Outcome(Enum):
    """What a client knows of an operation."""

    OK = "ok"  # it took effect once, between its beginning and its end
    NOT_APPLIED = "not applied"  # it never took effect, and never will
    UNKNOWN = "unknown"  # it takes effect at any time after its beginning, or never


@dataclass(eq=False, slots=True)
class Operation:
    """One operation of one client.

    Attributes:
        client: who asked for it; only people read it.
        method, arguments: what was asked for. The arguments can be hashed; see ``frozen``.
        invoked_s, returned_s: when it began and ended, by the clock of the history; an operation
            that ended before another began takes effect before it. ``math.inf``: not yet.
        outcome: what is known of it. While it is under way that is nothing.
        result: what it returned, if it is ``OK``.
        index: of the entry of the log at which a command took effect, or of the state that a
            query saw; 0 when nobody knows. See ``witness``.
        is_query: whether ``index`` is that of a query.
    """

    client: str
    method: str
    arguments: tuple[Any, ...]
    invoked_s: float
    returned_s: float = inf
    outcome: Outcome = Outcome.UNKNOWN
    result: Any = None
    index: Index = 0
    is_query: bool = False

    def __str__(self) -> str:
        call = f"{self.method}({', '.join(map(repr, self.arguments))})"
        if self.outcome is Outcome.OK:
            return f"{call} -> {self.result!r}"
        return f"{call}: {self.outcome.value}"


RECORDED: ContextVar[Operation | None] = ContextVar("RECORDED", default=None)
"""The operation that ``History.record`` is recording in this task."""


class History:
    """All operations on one object, in the order in which they began.

    It is not for several threads. Histories that were recorded by one clock, in several processes
    too, can be joined: give all their operations to another history.

    Attributes:
        operations: may be looked at and added to at any time.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        operations: Iterable[Operation] = (),
        *,
        refusals_hold: bool = True,
    ) -> None:
        """Begin a history.

        Args:
            clock: seconds; it never goes back. What it does not tell apart is ordered as recorded.
            operations: to begin with.
            refusals_hold: False: what was refused may have happened nevertheless.
        """
        self.operations = sorted(operations, key=_by_invocation)
        self.refusals_hold = refusals_hold
        self._clock = clock
        self._last_s = -inf

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    async def record(self, client: str, method: str, *arguments: Any, call: Awaitable[T]) -> T:
        """Await a call, and record what comes of it.

        Any error but ``NotApplied``, and being cancelled, leaves the outcome unknown.

        Args:
            client: who calls.
            method, arguments: what the model is told; see ``frozen`` for what they may be.
            call: not begun yet: a coroutine, or a future that was made in this turn of the loop.

        Returns:
            What the call returns; it raises what the call raises.
        """
        operation = self.invoke(client, method, *arguments)
        token = RECORDED.set(operation)
        try:
            result = await call
        except NotApplied:
            self.not_applied(operation)
            raise
        finally:
            RECORDED.reset(token)
        self.ok(operation, result)
        return result

    def invoke(self, client: str, method: str, *arguments: Any) -> Operation:
        """An operation begins now. Unless it is told how it ends, nobody knows."""
        operation = Operation(client, method, frozen(arguments), self._now_s())
        self.operations.append(operation)
        return operation

    def ok(self, operation: Operation, result: Any = None) -> None:
        """An operation has returned this."""
        operation.result = frozen(result)
        operation.outcome = Outcome.OK
        operation.returned_s = self._now_s()

    def not_applied(self, operation: Operation) -> None:
        """An operation was refused: it had no effect, and will not have one."""
        if self.refusals_hold:
            operation.outcome = Outcome.NOT_APPLIED
            operation.returned_s = self._now_s()

    def _now_s(self) -> float:
        # What happened in one instant of a coarse or a simulated clock has an order, too.
        now_s = self._clock()
        if now_s <= self._last_s:
            now_s = nextafter(self._last_s, inf)
        self._last_s = now_s
        return now_s


def frozen(value: Any) -> Any:
    """A copy of a value that never changes and can be hashed.

    Lists become tuples, sets frozensets, and dicts tuples of their items, sorted. Dataclasses are
    copied with their fields frozen. Anything else has to be hashable as it is.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return tuple([frozen(item) for item in value])
    if kind is dict:
        return tuple(sorted(((frozen(key), frozen(item)) for key, item in value.items()), key=repr))
    if kind is set or kind is frozenset:
        return frozenset(frozen(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{field.name: frozen(getattr(value, field.name)) for field in fields(value)}
        )
    return value


def _by_invocation(operation: Operation) -> float:
    return operation.invoked_s
