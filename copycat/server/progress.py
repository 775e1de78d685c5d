"""What the Applier lets the rest of its server see of the replicated state, and who is attached."""

from dataclasses import dataclass
from typing import NamedTuple

from copycat.actors import NodeAddress
from copycat.server.session import Left
from copycat.types import Index, ResourceId, SessionId


class Progress:
    """How far the log has been applied on this server, and what follows from it.

    Only the Applier writes here, but for ``wanted_index`` and what a leader takes out of ``cut``.

    Attributes:
        applied_index: all entries up to here have been applied.
        moved_s: when ``applied_index`` last moved, on the node's monotonic clock.
        wanted_index: the Server is told once when this index is applied; None: it waits for none.
        next_due_us: the log time of the next timer or expiry, or an earlier one that is not near; None
            when there is none.
        sequences: of each open session, the sequence of its last applied command.
        cut: the open sessions of whose last batch only a part was applied: what the leader has appended
            behind it counts as not received.
        nonces: of each open session, the nonce that its client opened it with.
        resources: of each resource, by its name: its id, type and version.
        commands_applied: since the start of this server, retries not counted.
        queries_answered: since the start of this server.
    """

    def __init__(self) -> None:
        self.applied_index: Index = 0
        self.moved_s = 0.0
        self.wanted_index: Index | None = None
        self.next_due_us: int | None = None
        self.sequences: dict[SessionId, int] = {}
        self.cut: dict[SessionId, None] = {}
        self.nonces: dict[SessionId, bytes] = {}
        self.resources: dict[str, tuple[ResourceId, str, int]] = {}
        self.commands_applied = 0
        self.queries_answered = 0


@dataclass(slots=True)
class Attachment:
    """Where a session, or a request for one, belongs on this server.

    Attributes:
        connection: who is told what becomes of it.
        client: the client's own actor, on another node: answers and events go there at once.
        sent: the sequence of the last event that it was sent, or has received elsewhere.
        left: what its queue has behind that.
        question: the number of its last question for events that it misses.
    """

    connection: NodeAddress
    client: NodeAddress
    sent: int = 0
    left: Left = Left.NOTHING
    question: int = 0

    @property
    def is_behind(self) -> bool:
        """Whether its queue has events that it was not sent."""
        return self.left is not Left.NOTHING

    def is_of(self, connection: NodeAddress, client: NodeAddress) -> bool:
        """Whether this is who it belongs to."""
        return self.connection == connection and self.client == client


class _Belongings(NamedTuple):
    """What belongs to one connection, in the order in which it came."""

    sessions: dict[SessionId, None]
    opening: dict[bytes, None]


class Attachments:
    """The sessions, and requests for one, that belong to connections of this server.

    This is knowledge of this server alone: another one has other connections. Nothing belongs to
    a connection that has not begun or is gone, whatever is still on its way to it.

    Attributes:
        sessions: those that are attached. Others only read it, and ``opening``.
        opening: by nonce, the requests for a session that is not in the log yet.
    """

    def __init__(self) -> None:
        self.sessions: dict[SessionId, Attachment] = {}
        self.opening: dict[bytes, Attachment] = {}
        self._connections: dict[NodeAddress, _Belongings] = {}

    def begin(self, connection: NodeAddress) -> None:
        """A connection is there."""
        self._connections[connection] = _Belongings({}, {})

    def has(self, connection: NodeAddress) -> bool:
        """Whether a connection is there still."""
        return connection in self._connections

    def drop(self, connection: NodeAddress) -> None:
        """Forget a connection that is gone."""
        belongings = self._connections.pop(connection)
        for session in belongings.sessions:
            del self.sessions[session]
        for nonce in belongings.opening:
            del self.opening[nonce]

    def ask(self, nonce: bytes, at: Attachment) -> None:
        """A session was asked for, perhaps not for the first time."""
        self.ask_no_more(nonce)
        self.opening[nonce] = at
        self._connections[at.connection].opening[nonce] = None

    def ask_no_more(self, nonce: bytes) -> Attachment | None:
        """A session that was asked for is open, or will not be. Returns who asked, if any did."""
        at = self.opening.pop(nonce, None)
        if at is not None:
            del self._connections[at.connection].opening[nonce]
        return at

    def attach(self, session: SessionId, at: Attachment) -> bool:
        """Let a session go on over a connection, and no other; False if that is gone."""
        belongings = self._connections.get(at.connection)
        if belongings is None:
            return False
        self.detach(session)
        self.sessions[session] = at
        belongings.sessions[session] = None
        return True

    def detach(self, session: SessionId) -> Attachment | None:
        """A session has ended or moved. Returns where it was attached, if it was."""
        at = self.sessions.pop(session, None)
        if at is not None:
            del self._connections[at.connection].sessions[session]
        return at
