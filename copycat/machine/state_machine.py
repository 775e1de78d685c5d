"""StateMachine: what a resource is on every server, and how its operations are declared.

A state machine is deterministic: equal commands in equal order leave equal state on every
server. So a method takes all it needs from its arguments, from ``self`` and from the
``Commit``: never from a clock, from chance, from the network, or from the order of a set.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast

from copycat.actors.codec import encode
from copycat.types import EVENT_BYTES_MAX

F = TypeVar("F", bound=Callable[..., Any])
Timer = int
"""Names one scheduled call of one resource, for ``Commit.cancel``."""


class Commit:
    """One committed command, or a timer that came due, as a method of a state machine sees it.

    It is over when the method has ended: what publishes or schedules by it later, such as a query of
    one server, raises ``RuntimeError``.

    Attributes:
        index: the command's place in the log; for a timer, of the batch it came due before.
        log_time_s: elapsed log time in seconds: the same on every server, never goes back,
            stands still while there is no leader. Not a wall-clock time.
        session: who submitted the command; for a timer, who submitted the command that
            scheduled it. 0 when there is none.
        owner: the resource that carries out what is asked for; None when the method has ended.
    """

    __slots__ = ("_effects", "index", "log_time_s", "owner", "session")

    def __init__(
        self, index: int, log_time_s: float, session: int, owner: "Scheduler", effects: list[Any]
    ) -> None:
        self.owner: Scheduler | None = owner
        self.index = index
        self.log_time_s = log_time_s
        self.session = session
        self._effects = effects

    def publish(self, sessions: int | Iterable[int], event: str, *values: Any) -> None:
        """Send an event to sessions: each gets it once and in order, or ends.

        Args:
            sessions: one, or several in a defined order; one that has ended is skipped.
            event: the event's name, which the handle's listener is told.
            values: what the codec carries: None, bool, int, float, str, bytes, list, dict.

        Raises:
            CodecError: a value is of another kind.
            TypeError: a session is no int.
            ValueError: the event is too large to travel.
        """
        owner = self._owner()
        receivers = (sessions,) if isinstance(sessions, int) else tuple(sessions)
        if not all(type(receiver) is int for receiver in receivers):
            raise TypeError("an event is published to sessions, which are ints")
        encoded = encode([owner.resource, event, values])
        if len(encoded) > EVENT_BYTES_MAX:
            raise ValueError(
                f"an event has at most {EVENT_BYTES_MAX:,} bytes, and this has {len(encoded):,}"
            )
        self._effects.append(Publication(receivers, encoded))

    def schedule(self, delay_s: float, method: Callable[..., None], *values: Any) -> Timer:
        """Call ``method(commit, *values)`` of this machine when log time has moved by ``delay_s``.

        The call comes before a later entry of the log: with a delay of 0 before the next one that
        has a later log time. So what a scheduled call schedules in turn is not called at once.

        Args:
            delay_s: 0 or more.
            method: a bound method of this machine, named by its name in the log's state.
            values: as for ``publish``.

        Returns:
            What ``cancel`` takes.
        """
        owner = self._owner()
        assert delay_s >= 0, "a timer is due in the future"
        due_us = round((self.log_time_s + float(delay_s)) * 1_000_000)
        timer = owner.draw_timer()
        self._effects.append(
            Scheduling(owner.resource, timer, due_us, method.__name__, values, self.session)
        )
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget a scheduled call; one that was called or cancelled already is ignored.

        Raises:
            TypeError: it is not what ``schedule`` returned.
        """
        owner = self._owner()
        if type(timer) is not int:
            raise TypeError("a timer is an int")
        self._effects.append(Cancellation(owner.resource, timer))

    def _owner(self) -> "Scheduler":
        if self.owner is None:
            raise RuntimeError("the method that this commit was made for has ended")
        return self.owner


class Scheduler(Protocol):
    """The resource that a commit belongs to."""

    resource: int

    def draw_timer(self) -> Timer:
        """Number a timer; never the same twice in the life of the resource."""
        ...


class Publication:
    """An effect of a command: an event for some sessions."""

    __slots__ = ("event", "sessions")

    def __init__(self, sessions: tuple[int, ...], event: bytes) -> None:
        self.sessions = sessions
        self.event = event  # the codec's [resource, event, values]


class Scheduling:
    """An effect of a command: a call that is due later."""

    __slots__ = ("due_us", "method", "resource", "session", "timer", "values")

    def __init__(
        self,
        resource: int,
        timer: Timer,
        due_us: int,
        method: str,
        values: tuple[Any, ...],
        session: int,
    ) -> None:
        self.resource = resource
        self.timer = timer
        self.due_us = due_us
        self.method = method
        self.values = values
        self.session = session


class Cancellation:
    """An effect of a command: a scheduled call that is no longer wanted."""

    __slots__ = ("resource", "timer")

    def __init__(self, resource: int, timer: Timer) -> None:
        self.resource = resource
        self.timer = timer


class StateMachine:
    """The replicated side of a resource; subclass it and declare methods.

    A method marked ``@command`` takes a ``Commit`` and the operation's arguments, may change the
    state, publish and schedule; its return value is the answer. One marked ``@query`` takes only
    the arguments and changes nothing. However it ends is the operation's result, on every server:
    the caller is told ``OperationFailed``, or ``QueryFailed`` of a query. What the method had
    assigned stays, what it published and scheduled is dropped; so raise ``Rejected`` before the
    first change, and the caller knows that nothing happened.
    """

    version: ClassVar[int] = 1
    """Raise it when the meaning of an operation changes; servers must agree on it."""

    def session_ended(self, commit: Commit, session: int) -> None:
        """Called when a session that has used this resource closed or expired."""


def command(method: F) -> F:
    """Mark a method ``(self, commit, *arguments)`` as an operation that changes the state."""
    method.__operation__ = "command"  # type: ignore[attr-defined]  # the mark of an operation
    return method


def query(method: F) -> F:
    """Mark a method ``(self, *arguments)`` as an operation that only reads."""
    method.__operation__ = "query"  # type: ignore[attr-defined]  # the mark of an operation
    return method


class Operation:
    """One declared operation of a class of state machines."""

    __slots__ = ("call", "kind", "name", "signature")

    def __init__(self, name: str, kind: Literal["command", "query"], call: Callable[..., Any]):
        self.name = name
        self.kind = kind
        self.call = call
        self.signature = inspect.signature(call, follow_wrapped=False)  # of what is called

    def fits(self, arguments: list[Any]) -> bool:
        """Whether the method can be called with these arguments at all."""
        before = (None, None) if self.kind == "command" else (None,)
        try:
            self.signature.bind(*before, *arguments)
        except TypeError:
            return False
        return True


_operations: dict[type[StateMachine], dict[str, Operation]] = {}


def operations_of(machine: type[StateMachine]) -> Mapping[str, Operation]:
    """The operations that a class declares or inherits, by name; worked out once a class."""
    known = _operations.get(machine)
    if known is None:
        known = _operations[machine] = _worked_out(machine)
    return known


def _worked_out(machine: type[StateMachine]) -> dict[str, Operation]:
    found: dict[str, Operation] = {}
    for owner in reversed(machine.__mro__):
        for name, method in vars(owner).items():
            kind = getattr(method, "__operation__", None)
            if kind is not None:
                found[name] = Operation(name, cast("Literal['command', 'query']", kind), method)
    return found
