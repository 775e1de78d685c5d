"""What clients record of an object that is linearizable by construction."""

import random
from collections.abc import Callable
from typing import Any

from copycat.testing.history import Operation, Outcome, frozen
from copycat.testing.models import CounterModel, Model, RegisterModel

Invocation = tuple[str, tuple[Any, ...]]


def simulated(
    chance: random.Random,
    model: Model,
    call: Callable[[random.Random], Invocation],
    *,
    operations: int,
    clients: int,
    unknown: float = 0.05,
) -> list[Operation]:
    """What clients record of an object on which every call takes effect at one moment."""
    free_s = [0.0] * clients
    calls = []
    for _ in range(operations):
        client = chance.randrange(clients)
        begin = free_s[client] + chance.expovariate(1.0)
        free_s[client] = end = begin + chance.expovariate(1.0)
        outcome = Outcome.UNKNOWN if chance.random() < unknown else Outcome.OK
        effect = chance.uniform(begin, end)
        if outcome is Outcome.UNKNOWN:
            effect += chance.expovariate(0.1)
        calls.append((effect, begin, end, client, outcome))
    calls.sort()
    state = model.initial
    history = []
    for index, (_, begin, end, client, outcome) in enumerate(calls, 1):
        method, arguments = call(chance)
        operation = Operation(f"c{client}", method, arguments, begin, index=index)
        if outcome is Outcome.OK or chance.random() < 0.5:
            state, result = model.apply(state, method, *arguments)
            if outcome is Outcome.OK:
                operation.outcome, operation.returned_s = outcome, end
                operation.result = frozen(result)
        history.append(operation)
    return history


class Registers(RegisterModel):
    """Several registers; every method names one first."""

    initial: Any = ()

    def __init__(self) -> None:
        super().__init__(())

    def keys(self, operation: Operation) -> tuple[Any, ...]:
        return operation.arguments[:1]

    def apply(self, state: Any, method: str, *arguments: Any) -> tuple[Any, Any]:
        registers = dict(state)
        key, *rest = arguments
        registers[key], result = super().apply(registers.get(key), method, *rest)
        return tuple(sorted(registers.items())), result


def any_register_call(chance: random.Random) -> Invocation:
    key = chance.randrange(5)
    match chance.randrange(3):
        case 0:
            return "read", (key,)
        case 1:
            return "write", (key, chance.randrange(4))
        case _:
            return "compare_and_set", (key, chance.randrange(4), chance.randrange(4))


def any_counter_call(chance: random.Random) -> Invocation:
    return ("increment", ()) if chance.random() < 0.7 else ("value", ())


MODELS = [(Registers(), any_register_call), (CounterModel(), any_counter_call)]
