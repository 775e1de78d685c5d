"""Counterexamples: what of a history cannot be explained, cut down to what a reader can grasp."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf

from copycat.testing.history import Operation, Outcome
from copycat.testing.models import Model
from copycat.testing.search import Search, Verdict

STEPS_MAX = 2_000_000
"""Steps of the model after which nothing more is left out."""

REFUSED_MAX = 20  # of the last refused operations, to ask whether one of them explains it
LINES_MAX = 40
COLUMNS_MAX = 60


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Operations that no order explains.

    Attributes:
        operations: the fewest that were found, in the order of their beginnings.
        blocked: the one of them by whose end it was certain.
        suspects: operations that were refused, each of which would explain it had it happened.
        left_out: how many others of this part of the object there are before. With them it is
            unexplained all the same, whenever each of them took effect, if at all.
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
) -> Counterexample:
    """Leave out of a history what its failure does not need.

    An operation is left out when it makes no difference whether and when it took effect. So what
    remains is not explained by anything that was left out.

    Args:
        part: what cannot be explained, without anything refused.
        blocked: as ``Search`` has found it.
        refused: operations that were not applied.
        model: of what they were done on.
    """
    # Prefixes: what ends later than this is not asked to be explained, and what begins later
    # does not matter.
    until_s = blocked.returned_s
    begun = [each for each in part if each.invoked_s <= until_s]
    needed = [each for each in begun if _is_ok(each) and each.returned_s <= until_s]
    doubtful = [_in_doubt(each) for each in begun if not _is_ok(each) or each.returned_s > until_s]
    attempts = _Attempts(needed, doubtful, model)
    needed = attempts.fewest(attempts.enough(blocked))
    blocked = attempts.fails(needed) or blocked
    suspects = [
        each
        for each in _of_the_same_part(refused, part, model)[-REFUSED_MAX:]
        if attempts.explains(needed, each)
    ]
    return Counterexample(tuple(needed), blocked, tuple(suspects), len(begun) - len(needed))


class _Attempts:
    """Attempts to leave operations out: these are no longer known to have happened."""

    def __init__(
        self, operations: list[Operation], doubtful: list[Operation], model: Model
    ) -> None:
        self._operations = operations
        self._doubtful = [each for each in doubtful if each.method not in model.queries]
        self._model = model
        self._steps_left = STEPS_MAX

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
            fewer = [other for other in needed if other is not each]
            if fewer and self._steps_left > 0 and self.fails(fewer) is not None:
                needed = fewer
        return needed

    def fails(self, needed: list[Operation]) -> Operation | None:
        """The operation that is unexplained, if these fail with all others left out."""
        search = self._search(needed)
        return search.blocked if search.verdict is Verdict.NOT_LINEARIZABLE else None

    def explains(self, needed: list[Operation], refused: Operation) -> bool:
        """Whether they do not fail if a refused operation has happened."""
        search = self._search(needed, _in_doubt(refused), steps_max=STEPS_MAX // 40)
        return search.verdict is Verdict.LINEARIZABLE

    def _search(
        self, needed: list[Operation], *more: Operation, steps_max: int = STEPS_MAX // 8
    ) -> Search:
        kept = {id(each) for each in needed}
        left_out = [
            _in_doubt(each)
            for each in self._operations
            if id(each) not in kept and each.method not in self._model.queries
        ]
        operations = [*needed, *self._doubtful, *left_out, *more]
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
