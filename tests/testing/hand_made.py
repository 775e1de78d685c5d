"""Operations made by hand, and a slow checker that tries every order."""

from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from math import inf
from typing import Any

from copycat.testing.history import Operation, Outcome, frozen
from copycat.testing.models import Model


def ok(begin: float, end: float, call: str, *arguments: Any, returns: Any = None) -> Operation:
    """An operation that returned; ``call`` names its client and its method."""
    client, method = call.split(".")
    return Operation(
        client, method, frozen(arguments), begin, end, Outcome.OK, result=frozen(returns)
    )


def maybe(begin: float, call: str, *arguments: Any) -> Operation:
    """An operation of unknown outcome."""
    client, method = call.split(".")
    return Operation(client, method, frozen(arguments), begin)


def refused(begin: float, end: float, call: str, *arguments: Any) -> Operation:
    """An operation that was not applied."""
    client, method = call.split(".")
    return Operation(client, method, frozen(arguments), begin, end, Outcome.NOT_APPLIED)


def at(index: int, operation: Operation, *, is_query: bool = False) -> Operation:
    """The same, with the index of the log that it was told."""
    operation.index, operation.is_query = index, is_query
    return operation


def is_linearizable(operations: Iterable[Operation], model: Model) -> bool:
    """By the definition: some order of some choice of the unknown ones explains all results."""
    done = [each for each in operations if each.outcome is not Outcome.NOT_APPLIED]
    known = [each for each in done if each.outcome is Outcome.OK]
    maybes = [each for each in done if each.outcome is Outcome.UNKNOWN]
    return any(
        respects_time(order) and explains(order, model)
        for count in range(len(maybes) + 1)
        for some in combinations(maybes, count)
        for order in permutations([*known, *some])
    )


def respects_time(order: Sequence[Operation]) -> bool:
    """Whether nothing stands before what had ended when it began."""
    return all(
        end_of(later) >= earlier.invoked_s
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def end_of(operation: Operation) -> float:
    """When it must have taken effect."""
    return operation.returned_s if operation.outcome is Outcome.OK else inf


def explains(order: Sequence[Operation], model: Model) -> bool:
    """Whether the model returns what was returned, in one of the ways it can go."""
    states = [model.initial]
    for operation in order:
        states = [after for state in states for after in model.step(state, operation)]
    return bool(states)
