"""Every error that a caller of the library may catch.

::

    CopycatError
    ├── NotApplied              nothing happened; a retry cannot apply twice
    │   ├── Unreachable         no server could be reached           (also ConnectionError)
    │   ├── NoLeader            a server answered, but none leads
    │   ├── Overloaded          the cluster takes no more for the moment
    │   ├── SessionExpired      the session had ended before the call reached it
    │   ├── InvalidArgument     a value, key or name that is not taken (also ValueError)
    │   │   └── TooLarge        more bytes than the limit
    │   ├── InvalidType         a value or key of a wrong type         (also TypeError)
    │   ├── WrongResourceType   the name belongs to a resource of another type (also TypeError)
    │   ├── UnknownResourceType a server does not know the type
    │   ├── CannotBeMade        the state machine of the resource failed in its constructor
    │   ├── Rejected            the state machine refused the operation before it changed anything
    │   ├── QueryFailed         a query failed, and has changed nothing
    │   ├── LockTimeout         a lock was not free in time            (also TimeoutError)
    │   ├── ClientClosed        the client had been closed
    │   └── SyncInAsyncError    the blocking client was used inside a running event loop
    ├── OperationFailed         a command was carried out once, and ended by an exception
    │   └── AnswerLost          a command was carried out once; its answer cannot be sent
    │                                                             (also OutcomeUnknown)
    ├── OutcomeUnknown          it may have happened, once, or may still   (also TimeoutError)
    ├── OwnershipLost           what was held is held no longer
    │   └── LockLost
    └── ServerError             a server cannot start, or has to stop
        ├── MachineError        a state machine ended in a way that may strike one server alone
        ├── ConfigurationError  what it was told contradicts itself or what is stored
        └── IdentityRefused     the other servers know another server by this name

Every error of a call is a ``NotApplied``, an ``OperationFailed`` or an ``OutcomeUnknown``: the
first question after a failure is whether it happened.
"""

LEAVE_STOPPED = (
    "leave it stopped: the others go on as long as they are a majority, and a lost server cannot be"
    " replaced yet"
)
"""What is left to do with a server that has forgotten what it promised."""

BRING_BACK = (
    "bring it back as it was when this server last stopped, if it has not run since; else"
    f" {LEAVE_STOPPED}"
)
"""What is left to do with a file or directory that is damaged or gone."""


class CopycatError(Exception):
    """The root of all errors that this package raises on purpose.

    Attributes:
        causes: what each endpoint said, as pairs of endpoint and one line; empty when the
            error does not come from the network.
    """

    retryable = False
    """Whether the same call may succeed later without anything being changed."""

    def __init__(self, message: str, *, causes: tuple[tuple[str, str], ...] = ()) -> None:
        self.causes = causes
        told = "".join(f"; {endpoint}: {cause}" for endpoint, cause in causes)
        super().__init__(message + told)


class NotApplied(CopycatError):
    """The operation was not applied and will not be: a retry is safe."""


class Unreachable(NotApplied, ConnectionError):
    """No server could be reached before the deadline."""

    retryable = True


class NoLeader(NotApplied):
    """Servers were reached, but none of them knew a leader before the deadline."""

    retryable = True


class Overloaded(NotApplied):
    """The cluster refused the operation because too much is under way already."""

    retryable = True


class SessionExpired(NotApplied):
    """The session ended before the operation reached it. The client opens a new one by itself."""

    retryable = True


class InvalidArgument(NotApplied, ValueError):
    """An argument that no retry can make acceptable."""


class TooLarge(InvalidArgument):
    """A value or an operation with more bytes, or an operation with more values, than the limit."""


class InvalidType(NotApplied, TypeError):
    """A value or key of a type that cannot be stored."""


class WrongResourceType(NotApplied, TypeError):
    """The name is taken by a resource of another type."""


class UnknownResourceType(NotApplied):
    """A voting server does not know this type of resource, so none may be opened."""


class CannotBeMade(NotApplied):
    """The constructor of the resource's state machine raised: there is no such resource, and its
    name stays free. The text has what it raised."""


class Rejected(NotApplied):
    """An operation was refused before it changed anything: that is its result, on all servers.

    A state machine raises it, before its first change. It is raised for it where nobody can carry
    an operation out: it cannot be decoded, or there is no such resource, operation or arguments.

    Attributes:
        kind: the name of the exception's class in the state machine.
        reason: its text.
    """

    def __init__(self, reason: str, *, kind: str = "Rejected") -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(reason)


class QueryFailed(NotApplied):
    """The state machine failed to answer a query, which has changed nothing.

    Attributes:
        kind: the name of the exception's class in the state machine.
        reason: its text.
    """

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"the query failed: {kind}: {reason}")


class LockTimeout(NotApplied, TimeoutError):
    """A lock was not free in time. The request for it has been taken back."""

    retryable = True


class ClientClosed(NotApplied):
    """The client had been closed before the call."""


class SyncInAsyncError(NotApplied, RuntimeError):
    """The blocking client was called where an event loop is running; use the asyncio one there."""


class OperationFailed(CopycatError):
    """A command was carried out once, and ended by an exception: its result on all servers.

    What its method had assigned before stays changed; what it published or scheduled is dropped.
    The machines of this package check before they change anything, and raise ``Rejected``.

    Attributes:
        kind: the name of the exception's class in the state machine.
        reason: its text.
    """

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{self._told}: {kind}: {reason}")

    _told = "the command was carried out once and failed; what it had changed stays changed"


class OutcomeUnknown(CopycatError, TimeoutError):
    """The operation may have been applied, once, or may still be: nobody answered in time."""


class AnswerLost(OperationFailed, OutcomeUnknown):
    """A command was carried out once, and its answer cannot be sent: too large, or of a kind that
    does not travel. What it has changed, published and scheduled stays."""

    _told = "the command was carried out once, and its answer is lost"


class OwnershipLost(CopycatError):
    """Something that was held, such as a lock, is not held any more."""


class LockLost(OwnershipLost):
    """The lock is not held any more: another holder with a larger token may be at work."""


class ServerError(CopycatError):
    """A server cannot start or go on; what is on its disk was not touched by this."""


class MachineError(ServerError):
    """A state machine ended in ``MemoryError`` or another way that may strike one server alone.

    It is no result, so the server stopped before it applied it. It comes to it again when it starts.
    """


class ConfigurationError(ServerError):
    """What the server was told contradicts itself, or what it has stored."""


class IdentityRefused(ServerError):
    """The other servers know another server by this name: this one was wiped, is an earlier copy of
    itself, a second one beside the first, or has lost what it had acknowledged.

    It must not vote under the old name: it has forgotten what it voted and acknowledged.
    """
