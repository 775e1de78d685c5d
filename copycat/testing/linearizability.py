"""Linearizability: whether a history can be explained as one operation after the other.

A history is linearizable if each of its operations takes effect at one moment between its
beginning and its end, so that each returns what the model returns when they are done one by one
in the order of these moments. An operation of unknown outcome may take effect at any moment after
its beginning, or never.

    report = check(history, MapModel())
    assert report.verdict is Verdict.LINEARIZABLE, report

The search is Wing and Gong's, with Lowe's memory of what was tried: a *configuration* is the set
of operations that have taken effect and the state they have made. What the model declares to be
independent is searched independently.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from copycat.testing.counterexample import Counterexample, reduce
from copycat.testing.history import Operation, Outcome
from copycat.testing.models import Model
from copycat.testing.search import Search, Verdict

STEPS_MAX = 2_000_000
"""Steps of the model before a check gives up, which takes seconds and some hundred megabytes."""

STEPS_PER_OPERATION_MAX = 10
"""Besides, so that a long history does not use them up while nothing is in doubt."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check has found.

    Attributes:
        verdict: ``UNKNOWN`` when the search was given up, for some part of the object at least.
        operations: how many were looked at; what was not applied does not count.
        steps: of the model that it took.
        undecided: how many of the parts of the object were given up.
        counterexample: what cannot be explained, without what that does not need; None unless
            the verdict is ``NOT_LINEARIZABLE``.
    """

    verdict: Verdict
    operations: int
    steps: int
    undecided: int = 0
    counterexample: Counterexample | None = None

    def __str__(self) -> str:
        text = f"{self.verdict.value}: {self.operations} operations, {self.steps} steps"
        return text if self.counterexample is None else f"{text}\n{self.counterexample}"


def check(history: Iterable[Operation], model: Model, *, steps_max: int = STEPS_MAX) -> Report:
    """Check the history of one object.

    It depends on nothing but its arguments. A million operations take seconds as long as few of
    them overlap on one part of the object. Where many do, or many are of unknown outcome, it may
    take for ever, and is given up.

    Args:
        history: all operations on the object since its initial state.
        model: of the object.
        steps_max: steps of the model, above ``STEPS_PER_OPERATION_MAX`` for each operation,
            before it is given up. Small parts come first, and each may take half of what the ones
            before have left, so that none hides the others.
    """
    operations = list(history)
    done = [each for each in operations if each.outcome is not Outcome.NOT_APPLIED]
    steps = undecided = 0
    for part in sorted(partition(done, model), key=len):
        granted = STEPS_PER_OPERATION_MAX * len(part)
        search = Search(part, model, granted + steps_max // 2)
        verdict = search.run()
        steps += search.steps
        steps_max -= max(0, search.steps - granted)
        if verdict is Verdict.NOT_LINEARIZABLE:
            assert search.blocked is not None, "there is an operation that nothing explains"
            refused = [each for each in operations if each.outcome is Outcome.NOT_APPLIED]
            found = reduce(part, search.blocked, refused, model)
            return Report(verdict, len(done), steps, undecided, found)
        undecided += verdict is Verdict.UNKNOWN
    verdict = Verdict.UNKNOWN if undecided else Verdict.LINEARIZABLE
    return Report(verdict, len(done), steps, undecided)


def partition(operations: Sequence[Operation], model: Model) -> list[list[Operation]]:
    """Divide operations into parts that the model says are independent, each in their order."""
    named = [model.keys(operation) for operation in operations]
    joined: dict[Hashable, Hashable] = {}  # a key to another one of its part, in the end the first

    def first_of(key: Hashable) -> Hashable:
        while key in joined:
            key = joined[key]
        return key

    for keys in named:
        if keys is None:
            return [list(operations)]
        for key in keys[1:]:
            one, other = first_of(keys[0]), first_of(key)
            if one != other:
                joined[other] = one
    parts: dict[Hashable, list[Operation]] = {}
    for operation, keys in zip(operations, named, strict=True):
        key = first_of(keys[0]) if keys else operation
        parts.setdefault(key, []).append(operation)
    return list(parts.values())
