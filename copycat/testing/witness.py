"""The witness: the log says in which order commands took effect, so nothing has to be searched.

Every answer carries the index of the log at which a command took effect, or that of the state that
a query saw. If the order of these indexes respects real time, and explains every result, the
history is linearizable. A witness that fails is a bug for certain; ``check`` is for the case that
the log itself is what is wrong, or lies about it.

    watch(client)  # once it is connected
    ... await history.record("ann", "increment", call=hits.increment()) ...
    report = check_by_index(history, CounterModel())
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from copycat.client.asynchronous import AsyncClient
from copycat.client.batches import Batch
from copycat.client.session import ClientSession
from copycat.errors import InvalidArgument
from copycat.protocol.client import CommandsReply, QueriesReply
from copycat.testing.counterexample import Counterexample
from copycat.testing.history import RECORDED, Operation, Outcome
from copycat.testing.linearizability import STEPS_MAX, Report, check
from copycat.testing.models import Model
from copycat.testing.search import Verdict
from copycat.types import Index


def watch(client: AsyncClient) -> None:
    """Have the operations that a ``History`` records of this client learn their indexes.

    It is for operations that are one call of the cluster each. The answer to one that waits for
    an event, such as a lock's, comes from another index than its effect.

    Args:
        client: connected, and watched by nobody.
    """
    assert client._household is not None, "a connected client lives in a node"
    session = client._household.node.actor_at(client._session.serial)
    assert type(session) is ClientSession, "a connected client has a session"
    recorded: WeakKeyDictionary[Any, Operation] = WeakKeyDictionary()  # by future
    submit_command, submit_query = client.submit_command, client.submit_query
    commands, queries = session._commands, session._queries
    commands_answered, queries_answered = commands.answered, queries.answered

    def watched(future: asyncio.Future[Any], *, is_query: bool) -> asyncio.Future[Any]:
        operation = RECORDED.get()
        if operation is not None:
            operation.is_query = is_query
            recorded[future] = operation
        return future

    def learn(batch: Batch | None, index: Index, step: int) -> None:
        for place, call in enumerate(batch.calls if batch is not None else ()):
            operation = recorded.get(call.future) if call is not None else None
            if operation is not None:
                operation.index = index + step * place

    def learn_commands(reply: CommandsReply) -> float | None:
        learn(commands._in_flight.get(reply.first_sequence), reply.base_index, 1)
        return commands_answered(reply)

    def learn_queries(reply: QueriesReply) -> bool:
        learn(queries._in_flight.get(reply.read), reply.index, 0)
        return queries_answered(reply)

    client.submit_command = lambda *call, **options: watched(  # type: ignore[method-assign]
        submit_command(*call, **options), is_query=False
    )
    client.submit_query = lambda *call, **options: watched(  # type: ignore[method-assign]
        submit_query(*call, **options), is_query=True
    )
    commands.answered = learn_commands  # type: ignore[method-assign]
    queries.answered = learn_queries  # type: ignore[method-assign]


def check_by_index(
    history: Iterable[Operation], model: Model, *, steps_max: int = STEPS_MAX
) -> Report:
    """Check a history in the order of the log: in time that grows with its length, and no more.

    Args:
        history: all operations on the object since its initial state; those that are ``OK`` know
            their indexes. Those of unknown outcome need not.
        model: of the object.
        steps_max: as for ``check``; only operations of unknown outcome make it search.

    Raises:
        InvalidArgument: an operation that is ``OK`` has no index.
    """
    operations = list(history)
    done = [each for each in operations if each.outcome is Outcome.OK]
    for each in done:
        if each.index <= 0:
            raise InvalidArgument(f"{each} does not know the index of the log")
    done.sort(key=_by_place)
    latest: Operation | None = None  # the one that began last, of those before in the log
    before: Operation | None = None
    for each in done:
        if latest is not None and each.returned_s < latest.invoked_s:
            return _contradiction(len(done), each, latest)
        if before is not None and not each.is_query and _place(before) == _place(each):
            return _contradiction(len(done), before, each)
        if latest is None or each.invoked_s > latest.invoked_s:
            latest = each
        before = each
    originals: dict[int, Operation] = {}
    in_log_order = []
    for each, floor in zip(operations, _floors(operations, done), strict=True):
        begin, end = (_place(each),) * 2 if each.outcome is Outcome.OK else (floor, inf)
        placed = Operation(
            each.client, each.method, each.arguments, begin, end, each.outcome, each.result
        )
        originals[id(placed)] = each
        in_log_order.append(placed)
    report = check(in_log_order, model, steps_max=steps_max)
    found = report.counterexample
    if found is None:
        return report
    found = Counterexample(
        tuple([originals[id(each)] for each in found.operations]),
        originals[id(found.blocked)],
        tuple([originals[id(each)] for each in found.suspects]),
        found.left_out,
        "the order of the log does not explain",
    )
    return replace(report, counterexample=found)


def _floors(operations: list[Operation], done: list[Operation]) -> list[float]:
    """After which place of the log each operation takes effect, as what ended before it shows."""
    ended = sorted(done, key=_by_return)
    floors: dict[int, float] = {}
    position, index = 0, 0
    for each in sorted(operations, key=_by_invocation):
        while position < len(ended) and ended[position].returned_s < each.invoked_s:
            index = max(index, ended[position].index)
            position += 1
        # Between the queries of that index and the next command.
        floors[id(each)] = 2 * index + 1.5
    return [floors[id(each)] for each in operations]


def _contradiction(operations: int, first: Operation, second: Operation) -> Report:
    order = "the log has another order than the clock for"
    found = Counterexample((first, second), first, (), 0, order)
    return Report(Verdict.NOT_LINEARIZABLE, operations, 0, 0, found)


def _place(operation: Operation) -> int:
    """Queries come after the command at their index, and any number of them has one place."""
    return 2 * operation.index + operation.is_query


def _by_place(operation: Operation) -> tuple[int, float]:
    return _place(operation), operation.invoked_s


def _by_invocation(operation: Operation) -> float:
    return operation.invoked_s


def _by_return(operation: Operation) -> float:
    return operation.returned_s
