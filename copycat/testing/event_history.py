"""What clients have heard, checked as they hear it."""

from collections.abc import Callable

from copycat.testing import rules

Violated = Callable[[str, str], Exception]
"""Makes the error to raise from a rule and what broke it."""


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
                rules.EVENTS_IN_ORDER,
                f"event number {self.heard + 1} is {values!r} of index {index}, and should be"
                f" {expected!r}",
            )
        self.heard += 1
