"""What clients have seen, checked as they see it: small linearizability checks without a search.

Each works because its clients write only what makes the order plain: a counter that only grows,
and keys that one client each sets to ever larger numbers. What a call returns is compared with
what was known when it began: whatever had ended before must be seen (real-time order), and what
nobody has asked for yet cannot be.
"""

from collections.abc import Callable

Violated = Callable[[str, str], Exception]
"""Makes the error to raise from a rule and what broke it."""

LINEARIZABLE = "Linearizability: a call takes effect once, between its beginning and its end (§6.4)"


class CounterHistory:
    """Increments by one of a counter that begins at 0, and reads of it.

    Attributes:
        begun: how many increments were ever asked for.
        acknowledged: how many have returned.
        unknown: how many have ended without anybody's knowing whether they happened.
    """

    def __init__(self, violated: Violated) -> None:
        self.begun = 0
        self.acknowledged = 0
        self.unknown = 0
        self._violated = violated
        self._highest = 0  # that any call has returned
        self._returned: set[int] = set()

    def begin_increment(self) -> int:
        """An increment is submitted; returns what ``end_increment`` wants to know of it."""
        self.begun += 1
        return self._highest

    def end_increment(self, floor: int, value: int) -> None:
        """An increment has returned."""
        self.acknowledged += 1
        if value in self._returned:
            raise self._violated(LINEARIZABLE, f"two increments have returned {value}")
        self._returned.add(value)
        self._check(floor + 1, value, "an increment")

    def begin_read(self) -> int:
        """A read is submitted."""
        return self._highest

    def end_read(self, floor: int, value: int) -> None:
        """A read has returned."""
        self._check(floor, value, "a read")

    def _check(self, floor: int, value: int, what: str) -> None:
        if not floor <= value <= self.begun:
            raise self._violated(
                LINEARIZABLE,
                f"{what} returned {value}; what had returned before it began asks for at least"
                f" {floor}, and {self.begun} increments were ever begun",
            )
        self._highest = max(self._highest, value)

    def check_final(self, value: int) -> None:
        """The value after all increments have ended, one way or the other."""
        most = self.acknowledged + self.unknown
        if not self.acknowledged <= value <= most:
            raise self._violated(
                "Exactly once: every acknowledged increment counts, and every other at most once"
                " (§6.3)",
                f"the counter ends with {value}; {self.acknowledged} increments were acknowledged,"
                f" and of {self.unknown} nobody knows",
            )


class RegisterHistory:
    """One key that one client sets to 1, 2, 3 and so on, and that everybody reads."""

    def __init__(self, key: str, violated: Violated) -> None:
        self.key = key
        self._violated = violated
        self._begun = 0
        self._highest = 0  # that is known to have been written
        self._refused: set[int] = set()

    def begin_write(self) -> int:
        """A write is submitted; returns the number to write."""
        self._begun += 1
        return self._begun

    def end_write(self, number: int) -> None:
        """A write was acknowledged."""
        self._highest = max(self._highest, number)

    def refuse_write(self, number: int) -> None:
        """A write was not applied, and never will be."""
        self._refused.add(number)

    def begin_read(self) -> int:
        """A read is submitted."""
        return self._highest

    def end_read(self, floor: int, number: int | None) -> None:
        """A read has found this number, or nothing."""
        found = number or 0
        if found in self._refused:
            raise self._violated(
                "Refusals: what a client was told is not applied is never applied",
                f"key {self.key!r} has {found}, which was refused",
            )
        if not floor <= found <= self._begun:
            raise self._violated(
                LINEARIZABLE,
                f"key {self.key!r} was read as {found}; when the read began {floor} was there, and"
                f" {self._begun} is the last number ever written",
            )
        self._highest = max(self._highest, found)


class EventHistory:
    """What one client has heard from one resource, compared with what was published to it."""

    def __init__(self, resource: int, violated: Violated) -> None:
        self.resource = resource
        self.heard = 0  # in this session
        self._violated = violated

    def begin_session(self) -> None:
        """The client has another session."""
        self.heard = 0

    def hear(self, published: list[tuple[int, list[object]]], index: int, values: object) -> None:
        """An event has come.

        Args:
            published: index and content of all that was published to the session so far.
            index: of the entry of the log that published the event.
            values: what the client heard.
        """
        expected = published[self.heard] if self.heard < len(published) else None
        if expected != (index, values):
            raise self._violated(
                "Events: a session hears what was published to it in order, without a gap and"
                " nothing twice (§6.3)",
                f"event number {self.heard + 1} is {values!r} of index {index}, and should be"
                f" {expected!r}",
            )
        self.heard += 1
