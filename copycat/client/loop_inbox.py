"""LoopInbox: where an asyncio loop and a session meet.

Futures and callbacks of the program belong to this side. Callbacks run on the loop, never inside
the session's handlers, in the order in which the session spoke; what one raises is logged.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from copycat.actors.codec import decode
from copycat.client.calls import Call

EventListener = Callable[[str, list[Any], int], None]
SessionListener = Callable[[str, int], None]

log = logging.getLogger("copycat.client")


class LoopInbox:
    """The inbox of one session; see ``calls.Inbox``.

    Attributes:
        calls: those that the session has not taken yet.
        state: the session's; see ``session``.
        session: its id; 0 while there is none.
        closed: done when the session has closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call_after_turn: Callable[[Callable[[], None]], None],
    ) -> None:
        self.calls: list[Call] = []
        self.state = "connecting"
        self.session = 0
        self.closed: asyncio.Future[None] = loop.create_future()
        self._call_after_turn = call_after_turn
        self._listeners: dict[int, list[EventListener]] = {}
        self._session_listeners: list[SessionListener] = []
        self._told: list[tuple[int | None, tuple[Any, ...]]] = []  # resource or None, what

    # For the session.

    def take(self) -> list[Call]:
        """The calls made since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def deliver(self, event: bytes, index: int) -> None:
        """Have an event handed to the listeners of its resource; without any it is dropped."""
        try:
            resource, name, values = decode(event)
            if type(resource) is not int:
                raise TypeError("an event names its resource")
        except (TypeError, ValueError) as error:
            log.error(
                "event cannot be read session=%d index=%d error=%s", self.session, index, error
            )
        else:
            self._tell(resource, (name, values, index))

    def session_changed(self, state: str, session: int) -> None:
        """Note the state at once, and have everybody told who asked for it."""
        self.state = state
        self.session = session
        self._tell(None, (state, session))

    def session_closed(self) -> None:
        """The session has closed."""
        if not self.closed.done():
            self.closed.set_result(None)

    # For the client.

    def listen(self, resource: int, listener: EventListener) -> None:
        """Tell a listener the events of a resource."""
        self._listeners.setdefault(resource, []).append(listener)

    def unlisten(self, resource: int, listener: EventListener) -> None:
        """Tell it no more; one that does not listen is ignored."""
        listeners = self._listeners.get(resource, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(resource, None)

    def on_session(self, listener: SessionListener) -> None:
        """Tell a listener each change of the state."""
        self._session_listeners.append(listener)

    def off_session(self, listener: SessionListener) -> None:
        """Tell it no more; one that does not listen is ignored."""
        if listener in self._session_listeners:
            self._session_listeners.remove(listener)

    # Telling.

    def _tell(self, resource: int | None, what: tuple[Any, ...]) -> None:
        if not self._told:
            self._call_after_turn(self._tell_all)
        self._told.append((resource, what))

    def _tell_all(self) -> None:
        told, self._told = self._told, []
        for resource, what in told:
            listeners: list[Callable[..., None]] = list(self._session_listeners)
            if resource is not None:
                listeners = list(self._listeners.get(resource, ()))
            for listener in listeners:
                try:
                    listener(*what)
                except Exception:  # a listener's failure must not silence the others
                    log.exception("listener failed resource=%s told=%r", resource, what[0])
