"""What every asyncio handle is, and all that it asks of its client.

A handle is a name for a resource in one client: it holds no state of the resource, costs
nothing to keep and needs no closing. It does no I/O and knows no clock or thread; it submits
operations to its client and is told answers, events and what becomes of the session.
"""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol, TypeVar

from copycat.protocol.client import Consistency

T = TypeVar("T")

EventListener = Callable[[str, list[Any], int], None]
"""Told an event's name, its values and the index of the entry that published it."""

SessionListener = Callable[[str, int], None]
"""Told the client's new state and the session it speaks of."""


class Promise(Awaitable[T], Protocol[T]):
    """What an ``asyncio.Future`` offers, as far as handles use it."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call ``callback(promise)`` soon after the promise is settled."""
        ...

    def done(self) -> bool:
        """Whether it is settled or cancelled."""
        ...

    def set_result(self, result: T, /) -> None:
        """Settle it."""
        ...


class HandleClient(Protocol):
    """What a handle asks of its client.

    Operations are submitted in the order of the calls. To cancel the promise of one only stops
    the waiting: it goes on until its deadline.
    """

    @property
    def state(self) -> str:
        """``connecting``, ``connected``, ``suspended``, ``lost`` or ``closed``."""
        ...

    @property
    def timeout_s(self) -> float:
        """The deadline of a call that names none, in seconds."""
        ...

    @property
    def session_id(self) -> int:
        """The session in use; 0 while there is none."""
        ...

    def submit_command(
        self, resource: int, method: str, *arguments: Any, timeout_s: float | None = None
    ) -> Promise[Any]:
        """Submit a command at once; the promise holds its result."""
        ...

    def submit_query(
        self,
        resource: int,
        method: str,
        *arguments: Any,
        timeout_s: float | None = None,
        consistency: Consistency = Consistency.LINEARIZABLE,
    ) -> Promise[Any]:
        """Submit a query at once; the promise holds its result."""
        ...

    def listen(self, resource: int, listener: EventListener, /) -> None:
        """Tell the listener each event of this resource; there may be several of them."""
        ...

    def unlisten(self, resource: int, listener: EventListener, /) -> None:
        """Tell it no more."""
        ...

    def on_session(self, listener: SessionListener, /) -> None:
        """Tell the listener each change of the client's state."""
        ...

    def off_session(self, listener: SessionListener, /) -> None:
        """Tell it no more."""
        ...

    def new_future(self) -> Promise[Any]:
        """A promise that the handle settles itself."""
        ...

    def new_number(self) -> int:
        """The next of the numbers 1, 2, 3 ... of this client: never the same twice."""
        ...


class AsyncHandle:
    """A resource as one client sees it. ``await client.open(type, name)`` makes handles.

    The methods of all handles keep these rules:

    - ``timeout_s`` is the deadline of the call in seconds; None means the client's own,
      ``math.inf`` for ever. A failed call raises a ``NotApplied`` or an ``OutcomeUnknown``.
    - ``consistency`` says how fresh the state is that a query sees: a ``copycat.Consistency``.
    - An argument that cannot be taken raises ``InvalidType``, ``InvalidArgument`` or
      ``TooLarge`` before anything is sent.
    - A command that is cancelled while it is awaited may still happen, once.
    """

    resource_type: ClassVar[str]
    """The type's name in the log."""

    resource_version: ClassVar[int] = 1
    """The version of the type's machine that this handle speaks to."""

    def __init__(self, client: HandleClient, resource_id: int, name: str) -> None:
        self._client = client
        self._resource = resource_id
        self._name = name

    @property
    def name(self) -> str:
        """The name under which the resource was opened."""
        return self._name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    def _command(self, method: str, *arguments: Any, timeout_s: float | None) -> Promise[Any]:
        return self._client.submit_command(self._resource, method, *arguments, timeout_s=timeout_s)

    def _query(
        self, method: str, *arguments: Any, consistency: Consistency, timeout_s: float | None
    ) -> Promise[Any]:
        return self._client.submit_query(
            self._resource, method, *arguments, timeout_s=timeout_s, consistency=consistency
        )


def forget(promise: Promise[Any]) -> None:
    """Let a command run on without anybody awaiting it: its failure is nobody's surprise."""
    promise.add_done_callback(_look)


def _look(promise: Any) -> None:
    # An exception that nobody has looked at would be logged as a bug.
    if not promise.cancelled():
        promise.exception()
