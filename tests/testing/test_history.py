"""Histories: what is recorded of calls, in which order, and what remains of their arguments."""

import asyncio
from collections.abc import Awaitable
from math import inf
from typing import Any

import pytest

from copycat.errors import NotApplied, OutcomeUnknown
from copycat.resources.map import Versioned
from copycat.testing.history import RECORDED, History, Operation, Outcome, frozen


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


def recorded(call: Awaitable[Any], **options: Any) -> tuple[Operation, BaseException | None]:
    """What a history says of one call, and what the call has raised."""
    history = History(Clock(), **options)

    async def program() -> None:
        await history.record("ann", "put", "k", [1], call=call)

    raised: BaseException | None = None
    try:
        asyncio.run(program())
    except BaseException as error:
        raised = error
    (operation,) = history
    return operation, raised


async def answer() -> list[int]:
    await asyncio.sleep(0)
    return [7]


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def test_a_call_that_returns_is_ok() -> None:
    """With who asked for what, what came back, and an end after its beginning."""
    operation, raised = recorded(answer())
    assert raised is None
    assert (operation.client, operation.method, operation.arguments) == ("ann", "put", ("k", (1,)))
    assert (operation.outcome, operation.result) == (Outcome.OK, (7,))
    assert operation.invoked_s < operation.returned_s < inf


def test_a_refused_call_is_not_applied() -> None:
    """A ``NotApplied`` is a promise, and the caller still hears of it."""
    operation, raised = recorded(fail(NotApplied("no")))
    assert operation.outcome is Outcome.NOT_APPLIED
    assert isinstance(raised, NotApplied)


def test_a_refusal_that_does_not_hold_leaves_doubt() -> None:
    """Where messages are doubled, what was refused may have happened."""
    operation, _ = recorded(fail(NotApplied("no")), refusals_hold=False)
    assert (operation.outcome, operation.returned_s) == (Outcome.UNKNOWN, inf)


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("?"), asyncio.CancelledError(), KeyError("bug"), KeyboardInterrupt()]
)
def test_any_other_end_leaves_doubt(error: BaseException) -> None:
    """Whatever else ends a call says nothing of whether it happened."""
    operation, raised = recorded(fail(error))
    assert (operation.outcome, operation.returned_s) == (Outcome.UNKNOWN, inf)
    assert type(raised) is type(error)


def test_one_instant_has_an_order() -> None:
    """What happens while the clock stands still, or steps back, is ordered as it was recorded."""
    clock = Clock()
    history = History(clock)
    first = history.invoke("a", "read")
    history.ok(first, 1)
    clock.now_s -= 5
    second = history.invoke("a", "read")
    history.ok(second, 1)
    moments = [first.invoked_s, first.returned_s, second.invoked_s, second.returned_s]
    assert moments == sorted(set(moments))


def test_histories_join() -> None:
    """Operations that others have recorded come in the order of their beginnings."""
    later, earlier = Operation("a", "read", (), 2.0), Operation("b", "read", (), 1.0)
    history = History(Clock(), [later, earlier])
    assert list(history) == [earlier, later]
    assert len(history) == 2


def test_a_call_knows_by_whom_it_is_recorded() -> None:
    """Each task its own operation, and none afterwards."""
    history = History(Clock())
    seen: list[Operation | None] = []

    async def call() -> None:
        await asyncio.sleep(0)
        seen.append(RECORDED.get())

    async def program() -> None:
        calls = [history.record(name, "read", call=call()) for name in ("a", "b")]
        await asyncio.gather(*calls)
        await history.record("c", "read", call=call())
        assert RECORDED.get() is None

    asyncio.run(program())
    assert seen == list(history)


def test_what_was_recorded_does_not_change() -> None:
    """A program may go on with its arguments; lists and dicts of equal content stay equal."""
    value: dict[str, Any] = {"b": [1, {2}], "a": None}
    kept = frozen(value)
    value["b"].append(3)
    assert kept == frozen({"a": None, "b": [1, {2}]})
    assert kept != frozen(value)
    assert {kept}
    assert frozen(Versioned([1], 5)) == Versioned((1,), 5)


def test_operations_read_well() -> None:
    """As calls, with what they have returned or what is known of them."""
    operation = Operation("a", "put", ("k", 1), 0.0)
    assert str(operation) == "put('k', 1): unknown"
    operation.outcome, operation.result = Outcome.OK, None
    assert str(operation) == "put('k', 1) -> None"
