"""Counterexamples: what of a history cannot be explained, cut down to what a reader can grasp."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf

from copycat.testing.history import Operation, Outcome
from copycat.testing.models import Model
from copycat.testing.search import Search, Verdict

STEPS_MAX = 2_000_000
"""Steps of the model after which nothing more is left out, which takes seconds."""

REFUSED_MAX = 20  # of the last refused operations, to ask whether one of them explains it
LINES_MAX = 40
COLUMNS_MAX = 60


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Operations that no order explains.

    Attributes:
        operations: in the order of their beginnings. None of them can be left out, unless there
            was no time to find that out; fewer others may fail, too.
        blocked: the one of them by whose end it was certain.
        suspects: operations that were refused, each of which would explain it had it happened.
        left_out: how many others of this part of the object began before the last of these ended.
            With them it is unexplained all the same, whenever each of them took effect, if at all.
        reason: what is wrong with the operations, as the beginning of a sentence.
    """

    operations: tuple[Operation, ...]
    blocked: Operation
    suspects: tuple[Operation, ...]
    left_out: int
    reason: str = "no order explains"

    def __str__(self) -> str:
        count = len(self.operations)
        told = f"{self.reason} {'these' if count != 1 else 'this'}"
        if count > LINES_MAX:
            told = f"{self.reason} these {count} operations, of which the last are shown"
        if self.left_out:
            others = f"{self.left_out} other operation{'s' * (self.left_out > 1)}"
            told += f", whatever {others} did before, between and after"
        return "\n".join([f"{told}:", *self.timeline()])

    def timeline(self) -> list[str]:
        """One line for each operation: its client, when it began and ended, and what it was.

        Its bar stands where it began and ended among the others, not to any scale.
        """
        shown = sorted((*self.operations, *self.suspects), key=_by_invocation)
        moments = {each.invoked_s for each in shown} | {each.returned_s for each in shown}
        columns = {at_s: place for place, at_s in enumerate(sorted(moments - {inf}))}
        step = min(4, COLUMNS_MAX / max(1, len(columns)))
        column = {at_s: round(step * place) for at_s, place in columns.items()}
        column[inf] = round(step * len(columns))
        bars = [_bar(column[each.invoked_s], column[each.returned_s], each) for each in shown]
        name = max(len(each.client) for each in shown)
        width = max(map(len, bars))
        return [
            f"  {each.client:{name}}  {bar:{width}}  {each}  ({_when(each)}){self._remark(each)}"
            for each, bar in zip(shown, bars, strict=True)
        ][-LINES_MAX:]

    def _remark(self, operation: Operation) -> str:
        if operation is self.blocked:
            return "  <- nothing explains this"
        if operation in self.suspects:
            return "  <- yet it seems to have happened"
        return ""


def _bar(begin: int, end: int, operation: Operation) -> str:
    mark = "|" if operation.returned_s < inf else ">"
    return " " * begin + "|" + "-" * (end - begin - 1) + mark


def _when(operation: Operation) -> str:
    index = f"index {operation.index}, " if operation.index else ""
    if operation.returned_s == inf:
        return f"{index}from {operation.invoked_s:.6f} s"
    return f"{index}{operation.invoked_s:.6f} to {operation.returned_s:.6f} s"


def reduce(
    part: Sequence[Operation],
    blocked: Operation,
    refused: Sequence[Operation],
    model: Model,
    *,
    steps_max: int = STEPS_MAX,
) -> Counterexample:
    """Leave out of a history what its failure does not need.

    An operation is left out when it makes no difference whether and when it took effect. So what
    remains is not explained by anything that was left out, and not by itself either. When any one
    of the rest is left out, too, there is an explanation.

    What was left out is in doubt, and to rule it out takes the longer the more different things
    it asks for: some hundred different writes of one key may use up the steps. Then more remains
    than is needed, and still nothing explains it.

    Args:
        part: what cannot be explained, without anything refused.
        blocked: as ``Search`` has found it.
        refused: operations that were not applied.
        model: of what they were done on.
        steps_max: of the model, as a whole. It may take twice as many, and once through the
            operations for each attempt, which counts as a step for each of them.
    """
    # No order gets past the end of this one, so what began later does not matter. What began
    # before and ended later does, with its result: it may be the very one that is wrong.
    begun = [each for each in part if _is_ok(each) and each.invoked_s <= blocked.returned_s]
    attempts = _Attempts(part, begun, model, steps_max)
    needed = attempts.fewest(attempts.enough(blocked))
    blocked = attempts.fails(needed) or blocked
    suspects = [
        each
        for each in _of_the_same_part(refused, part, model)[-REFUSED_MAX:]
        if attempts.explains(needed, each)
    ]
    until_s = _end(needed)
    left_out = sum(each.invoked_s <= until_s for each in part) - len(needed)
    return Counterexample(tuple(needed), blocked, tuple(suspects), left_out)


class _Attempts:
    """Attempts to leave operations out: these are no longer known to have happened."""

    def __init__(
        self,
        part: Sequence[Operation],
        operations: list[Operation],
        model: Model,
        steps_max: int,
    ) -> None:
        """Prepare.

        Args:
            part: everything there is.
            operations: the ones that fail, whatever the rest of the part did.
            model: of what they were done on.
            steps_max: for all attempts. One may take an eighth of them.
        """
        until_s = _end(operations)
        self._operations = operations
        self._in_doubt = [
            (each, _in_doubt(each))
            for each in part
            if each.invoked_s <= until_s and each.method not in model.queries
        ]
        self._model = model
        self._steps_max = self._steps_left = steps_max

    def enough(self, blocked: Operation) -> list[Operation]:
        """Some operations that fail with all others left out.

        Those are tried first that have most values in common with the one that is unexplained,
        and of these the last ones. When there is no time all of them are enough.
        """
        values = _values(blocked)

        def rank(operation: Operation) -> tuple[bool, int, float]:
            in_common = len(values & _values(operation))
            return operation is not blocked, -in_common, -operation.invoked_s

        ranked = sorted(self._operations, key=rank)
        count = 1
        while count < len(ranked) and self._steps_left > 0:
            some = sorted(ranked[:count], key=_by_invocation)
            if self.fails(some) is not None:
                return some
            count *= 2
        return self._operations

    def fewest(self, needed: list[Operation]) -> list[Operation]:
        """Leave out as many of these as possible.

        Once round is enough: what cannot be left out cannot be so with still fewer others.
        """
        for each in needed:
            if self._steps_left <= 0:
                break
            fewer = [other for other in needed if other is not each]
            if fewer and self.fails(fewer) is not None:
                needed = fewer
        return needed

    def fails(self, needed: list[Operation]) -> Operation | None:
        """The operation that is unexplained, if these fail with all others left out."""
        search = self._search(needed, steps_max=self._steps_max // 8)
        return search.blocked if search.verdict is Verdict.NOT_LINEARIZABLE else None

    def explains(self, needed: list[Operation], refused: Operation) -> bool:
        """Whether they do not fail if a refused operation has happened."""
        search = self._search(needed, _in_doubt(refused), steps_max=self._steps_max // 40)
        return search.verdict is Verdict.LINEARIZABLE

    def _search(self, needed: list[Operation], *more: Operation, steps_max: int) -> Search:
        kept = {id(each) for each in needed}
        until_s = _end(needed)
        left_out = [
            in_doubt
            for each, in_doubt in self._in_doubt
            if each.invoked_s <= until_s and id(each) not in kept
        ]
        operations = [*needed, *left_out, *more]
        search = Search(operations, self._model, steps_max)
        search.run()
        self._steps_left -= search.steps + len(operations)
        return search


def _values(operation: Operation) -> set[Hashable]:
    """What it was told and has returned, as far as that tells operations apart."""
    found: set[Hashable] = set()
    rest = [operation.arguments, operation.result]
    while rest:
        value = rest.pop()
        if isinstance(value, tuple):
            rest += value
        elif value is not None and type(value) is not bool:
            found.add(value)
    return found


def _is_ok(operation: Operation) -> bool:
    return operation.outcome is Outcome.OK


def _in_doubt(operation: Operation) -> Operation:
    return replace(operation, outcome=Outcome.UNKNOWN, result=None, returned_s=inf)


def _end(operations: Sequence[Operation]) -> float:
    """When the last of them returned: what began later explains none of them."""
    return max(each.returned_s for each in operations)


def _of_the_same_part(
    refused: Sequence[Operation], part: Sequence[Operation], model: Model
) -> list[Operation]:
    keys: set[Hashable] = set()
    for operation in part:
        named = model.keys(operation)
        if named is None:
            return list(refused)
        keys.update(named)
    return [each for each in refused if keys.intersection(model.keys(each) or keys)]


def _by_invocation(operation: Operation) -> float:
    return operation.invoked_s
