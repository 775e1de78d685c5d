"""Search: whether operations that belong together have an order that explains them.

A configuration says which operations have taken effect, and the state they have made. Operations
that returned are numbered by their beginnings. Of them, a configuration holds the first ones
without a hole, as their number, and some of those after them, as the bits of an int; as only
what overlaps can be out of order, that int is small. Those of unknown outcome are the bits of
another int.

Four things keep the number of configurations low:

- A query that may be next and returns what it has is next: it is in nobody's way.
- One that was seen is not visited again, nor one that has used more operations of unknown outcome
  for the same: whatever comes after it, the other one can do as well.
- Of operations of unknown outcome that ask for the same, the earliest is used first.
- They are used only when there is no other way.
"""

from collections.abc import Hashable, Sequence
from enum import Enum
from math import inf
from typing import Any

from copycat.testing.history import Operation, Outcome
from copycat.testing.models import Model


class Verdict(Enum):
    """What a check has found."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNKNOWN = "unknown"  # the search was given up


_Configuration = tuple[int, int, int, Any, int]
"""How many of the first operations have taken effect; which ones after these, in bits; which ones
of unknown outcome; the state; how many of those that may be next have been tried."""


class Search:
    """One search.

    Attributes:
        verdict: ``UNKNOWN`` before the end.
        steps: of the model that were made.
        blocked: when there is no order, the operation by whose end that is certain: what began
            until then has none that explains what it has returned, then or later, whatever else
            came later.
    """

    def __init__(self, operations: Sequence[Operation], model: Model, steps_max: int) -> None:
        """Prepare.

        Args:
            operations: none that was not applied; those of unknown outcome may be left out.
            model: of what they were done on.
            steps_max: gives up after about so many steps.
        """
        self.verdict = Verdict.UNKNOWN
        self.steps = 0
        self.blocked: Operation | None = None
        self._model = model
        self._steps_max = steps_max
        self._known = [each for each in operations if each.outcome is Outcome.OK]
        self._known.sort(key=_by_invocation)
        self._maybes = [
            each
            for each in operations
            if each.outcome is Outcome.UNKNOWN and each.method not in model.queries
        ]
        self._maybes.sort(key=_by_invocation)
        self._invoked = [each.invoked_s for each in self._known]
        self._invoked.append(inf)
        self._returned = [each.returned_s for each in self._known]
        self._alike = self._by_what_they_ask()
        self._all_used = (1 << len(self._maybes)) - 1
        self._first_maybe_s = self._maybes[0].invoked_s if self._maybes else inf
        self._seen: dict[tuple[int, int, Any], tuple[int, ...]] = {}
        self._stack: list[_Configuration] = []

    def _by_what_they_ask(self) -> list[tuple[float, int]]:
        """Of those of unknown outcome that ask for the same: when the first began; all, in bits."""
        alike: dict[Hashable, list[int]] = {}
        for place, maybe in enumerate(self._maybes):
            alike.setdefault((maybe.method, maybe.arguments), []).append(place)
        return [
            (self._maybes[places[0]].invoked_s, sum(1 << place for place in places))
            for places in alike.values()
        ]

    def run(self) -> Verdict:
        """Look for an order."""
        self.verdict = self._look()
        return self.verdict

    def _look(self) -> Verdict:
        stack, step, known = self._stack, self._model.step, self._known
        stack.append((0, 0, 0, self._model.initial, 0))
        while stack:
            if self.steps > self._steps_max:
                return Verdict.UNKNOWN
            count, others, used, state, tried = stack.pop()
            if not others and not tried:
                count, state = self._run_alone(count, used, state)
            if count == len(known):
                return Verdict.LINEARIZABLE
            ready, until_s = self._ready(count, others)
            query = None if tried else self._query_that_fits(ready, state)
            if query is not None:
                self._push(*self._with(count, others, query), used, state)
                continue
            for place in ready[tried:]:
                self.steps += 1
                tried += 1
                afters = step(state, known[place])
                if afters:
                    stack.append((count, others, used, state, tried))
                    for after in afters:
                        self._push(*self._with(count, others, place), used, after)
                    break
            else:
                if self._first_maybe_s <= until_s and used != self._all_used:
                    self._try_maybes((count, others, used, state), ready, until_s)
        return Verdict.NOT_LINEARIZABLE

    def _run_alone(self, count: int, used: int, state: Any) -> tuple[int, Any]:
        """Go on while nothing overlaps and there is one state only; that needs no memory."""
        step, known, invoked, returned = (
            self._model.step,
            self._known,
            self._invoked,
            self._returned,
        )
        first_maybe_s = self._first_maybe_s if used != self._all_used else inf
        begun, end = count, len(known)
        while count < end and invoked[count + 1] > returned[count]:
            after = step(state, known[count])
            if len(after) != 1:
                break
            if first_maybe_s <= returned[count]:
                self._stack.append((count, 0, used, state, 1))  # nothing else may be next
            state = after[0]
            count += 1
        self.steps += count - begun
        return count, state

    def _ready(self, count: int, others: int) -> tuple[list[int], float]:
        """The operations that may be next, and by when the first of them has to be.

        None may be that began after another one had ended which has not taken effect yet.
        """
        invoked, returned = self._invoked, self._returned
        place, until_s, blocked, end = count, inf, count, len(returned)
        ready = []
        while place < end and invoked[place] <= until_s:
            if not others & 1:
                ready.append(place)
                if returned[place] < until_s:
                    until_s = returned[place]
                    blocked = place
            others >>= 1
            place += 1
        if self.blocked is None or until_s > self.blocked.returned_s:
            self.blocked = self._known[blocked]
        return ready, until_s

    def _query_that_fits(self, ready: list[int], state: Any) -> int | None:
        model, known = self._model, self._known
        for place in ready:
            if known[place].method in model.queries:
                self.steps += 1
                after = model.step(state, known[place])
                if len(after) == 1 and after[0] == state:
                    return place
        return None

    def _try_maybes(
        self, before: tuple[int, int, int, Any], ready: list[int], until_s: float
    ) -> None:
        """Use one operation of unknown outcome; at first those after which another one fits."""
        count, others, used, state = before
        step, known = self._model.step, self._known
        promising = []
        all_unused = ~used
        for first_s, alike in self._alike:
            if first_s > until_s:
                break
            self.steps += 1
            unused = alike & all_unused
            place = (unused & -unused).bit_length() - 1  # the earliest
            if place < 0 or self._maybes[place].invoked_s > until_s:
                continue
            for after in step(state, self._maybes[place]):
                if after == state:
                    continue
                self.steps += len(ready)
                if any(step(after, known[other]) for other in ready):
                    promising.append((used | 1 << place, after))
                else:
                    self._push(count, others, used | 1 << place, after)
        for wider, after in promising:
            self._push(count, others, wider, after)

    @staticmethod
    def _with(count: int, others: int, place: int) -> tuple[int, int]:
        """Add an operation to those that have taken effect."""
        if place != count:
            return count, others | 1 << (place - count)
        count += 1
        others >>= 1
        while others & 1:
            count += 1
            others >>= 1
        return count, others

    def _push(self, count: int, others: int, used: int, state: Any) -> None:
        """Visit a configuration later, unless it has been seen, or one that is no worse."""
        key = (count, others, state)
        seen = self._seen.get(key, ())
        for other in seen:
            if not other & ~used:
                return
        self._seen[key] = (*seen, used)
        self._stack.append((count, others, used, state, 0))


def _by_invocation(operation: Operation) -> float:
    return operation.invoked_s
