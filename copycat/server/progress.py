"""What the Applier lets the rest of its server see of the replicated state, and who is attached."""

from typing import NamedTuple

from copycat.actors import NodeAddress
from copycat.types import Index, ResourceId, SessionId


class Progress:
    """How far the log has been applied on this server, and what follows from it.

    Only the Applier writes here, but for ``wanted_index``.

    Attributes:
        applied_index: all entries up to here have been applied.
        wanted_index: the Server is told once when this index is applied; None: it waits for none.
        next_due_us: the log time of the next timer or expiry; None when there is none.
        sequences: of each open session, the sequence of its last applied command.
        nonces: of each open session, the nonce that its client opened it with.
        resources: of each resource, by its name: its id, type and version.
        commands_applied: since the start of this server, retries not counted.
        queries_answered: since the start of this server.
    """

    def __init__(self) -> None:
        self.applied_index: Index = 0
        self.wanted_index: Index | None = None
        self.next_due_us: int | None = None
        self.sequences: dict[SessionId, int] = {}
        self.nonces: dict[SessionId, bytes] = {}
        self.resources: dict[str, tuple[ResourceId, str, int]] = {}
        self.commands_applied = 0
        self.queries_answered = 0


class Attachment(NamedTuple):
    """Where a session, or a request for one, belongs on this server.

    Attributes:
        connection: who is told what becomes of it.
        client: the client's own actor, on another node: answers and events go there at once.
    """

    connection: NodeAddress
    client: NodeAddress


class Attachments:
    """The sessions, and requests for one, that belong to connections of this server.

    This is knowledge of this server alone: another one has other connections.
    """

    def __init__(self) -> None:
        self.sessions: dict[SessionId, Attachment] = {}
        self.opening: dict[bytes, Attachment] = {}  # by nonce

    def drop(self, connection: NodeAddress) -> None:
        """Forget a connection that is gone."""
        self.sessions = {s: a for s, a in self.sessions.items() if a.connection != connection}
        self.opening = {n: a for n, a in self.opening.items() if a.connection != connection}
