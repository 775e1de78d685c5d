"""Calls: what a program asks of its session, and the inbox through which they meet.

A call is made by the client on its loop and ends exactly once, with a value or an error. The
session only sees the object: the future behind it belongs to the world the program lives in.
"""

from typing import Any, Protocol

from copycat.actors.message import message
from copycat.errors import ClientClosed, CopycatError, OutcomeUnknown, SessionExpired
from copycat.protocol.client import Consistency


class Future(Protocol):
    """What a call needs of a future; asyncio's has it."""

    def done(self) -> bool:
        """Whether it has ended or was cancelled by who waits for it."""
        ...

    def set_result(self, result: Any, /) -> None:
        """End it with a value."""
        ...

    def set_exception(self, exception: Any, /) -> None:
        """End it with an error."""
        ...


class Call:
    """Something that has to end by a deadline.

    Attributes:
        deadline_s: on the node's monotonic clock; ``math.inf`` waits for ever.
        future: tells the program how it ended. A cancelled one stays as it is: the call goes on
            and its end is told to nobody.
    """

    __slots__ = ("deadline_s", "future")

    def __init__(self, deadline_s: float, future: Future) -> None:
        self.deadline_s = deadline_s
        self.future = future

    @property
    def is_open(self) -> bool:
        """Whether the call has not ended yet."""
        return not self.future.done()

    def succeed(self, value: Any) -> None:
        """End the call with a value, unless it has ended."""
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: Exception) -> None:
        """End the call with an error, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)


class OperationCall(Call):
    """An operation of a resource.

    Attributes:
        operation: resource, method and arguments; they are encoded when the loop's turn ends.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: tuple[Any, ...], deadline_s: float, future: Future) -> None:
        self.operation = operation
        self.deadline_s = deadline_s
        self.future = future


class CommandCall(OperationCall):
    """An operation that changes state."""

    __slots__ = ()


class QueryCall(OperationCall):
    """An operation that only reads."""

    __slots__ = ("consistency",)

    def __init__(
        self,
        operation: tuple[Any, ...],
        deadline_s: float,
        future: Future,
        consistency: Consistency,
    ) -> None:
        self.operation = operation
        self.deadline_s = deadline_s
        self.future = future
        self.consistency = consistency


class OpenCall(Call):
    """The wish to open a resource; its value is the resource's id."""

    __slots__ = ("copies", "name", "number", "retry_at_s", "type", "version")

    def __init__(
        self, name: str, type: str, version: int, deadline_s: float, future: Future
    ) -> None:
        super().__init__(deadline_s, future)
        self.name = name
        self.type = type
        self.version = version
        self.number = 0  # the session's for it; 0 before the session has seen it
        self.copies = 0  # sent, and not refused
        self.retry_at_s = 0.0


class ConnectCall(Call):
    """Ends when the session is open; its value is the session's id."""

    __slots__ = ()


class Turn:
    """The calls of one turn of the loop, by kind.

    Attributes:
        queries: by consistency, with how many of the commands were submitted before the last one.
    """

    __slots__ = ("commands", "connects", "openings", "queries")

    def __init__(self, calls: list[Call]) -> None:
        self.commands: list[CommandCall] = []
        self.queries: dict[Consistency, tuple[list[QueryCall], int]] = {}
        self.openings: list[OpenCall] = []
        self.connects: list[ConnectCall] = []
        for call in calls:
            if type(call) is CommandCall:
                self.commands.append(call)
            elif type(call) is QueryCall:
                alike, _ = self.queries.get(call.consistency, ([], 0))
                alike.append(call)
                self.queries[call.consistency] = (alike, len(self.commands))
            elif type(call) is OpenCall:
                self.openings.append(call)
            else:
                assert type(call) is ConnectCall, "there are four kinds of calls"
                self.connects.append(call)


def unanswered(text: str) -> CopycatError:
    """What a call is told whose session ended, as the text says, while it was under way."""
    return OutcomeUnknown(f"{text}: no answer had come to this, which may have been applied")


def expired(text: str) -> CopycatError:
    """What a call is told that had not been sent when its session ended, as the text says."""
    return SessionExpired(f"{text}: this was not applied, and is not sent in the next session")


def closed() -> CopycatError:
    """What a call is told that had not been sent when the client was closed."""
    return ClientClosed("the client has been closed, and this had not been sent")


class Inbox(Protocol):
    """Where the client puts calls for its session, and the session what is for the program.

    It is shared between the two, which live on one loop.
    """

    def take(self) -> list[Call]:
        """The calls made since the last time, in the order they were made."""
        ...

    def deliver(self, event: bytes, index: int) -> None:
        """Have an event, the codec's ``[resource, event, values]``, handed to the listeners of
        its resource, after those before it."""
        ...

    def session_changed(self, state: str, session: int) -> None:
        """Have everybody told who asked for it, after the events before it."""
        ...

    def session_closed(self) -> None:
        """Called once, when a session that was told to close has done so."""
        ...


@message(90)
class Flush:
    """There are calls in the inbox; said once for all calls of one turn of the loop."""


@message(91)
class Close:
    """The client is done with its session."""
