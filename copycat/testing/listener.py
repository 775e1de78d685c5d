"""Compares what one client hears from a topic with what was published to its session."""

from typing import Any

from copycat.actors.codec import decode
from copycat.client.asynchronous import AsyncClient
from copycat.testing.event_history import EventHistory, Violated
from copycat.testing.monitors import Monitors


class Listener:
    """The ears of one client.

    Attributes:
        heard: how many events have come, from all sessions of the client.
    """

    def __init__(
        self, client: AsyncClient, resource: int, monitors: Monitors, violated: Violated
    ) -> None:
        """Listen from now on.

        Args:
            client: who hears.
            resource: the number of the topic.
            monitors: know what was published.
            violated: makes the error for what was heard wrongly.
        """
        self.heard = 0
        self._monitors = monitors
        self._session = client.session_id
        self._published: list[tuple[int, list[object]]] = []  # to its session, as far as was looked
        self._looked_at = 0
        self._history = EventHistory(resource, violated)
        client.on_session(self._session_changed)
        client.listen(resource, self._event)

    def _session_changed(self, state: str, session: int) -> None:
        if state == "connected" and session != self._session:
            self._session = session
            self._published = []
            self._looked_at = 0
            self._history.begin_session()

    def _event(self, name: str, values: list[Any], index: int) -> None:
        self.heard += 1
        self._history.hear(self._all_published(), index, [name, values])

    def has_heard_all(self) -> bool:
        """Whether nothing that was published to its session is on the way."""
        return self._history.heard == len(self._all_published())

    def _all_published(self) -> list[tuple[int, list[object]]]:
        events = self._monitors.applied.events.get(self._session, [])
        while self._looked_at < len(events):
            index, event = events[self._looked_at]
            self._looked_at += 1
            resource, name, values = decode(event)
            if resource == self._history.resource:
                self._published.append((index, [name, values]))
        return self._published
