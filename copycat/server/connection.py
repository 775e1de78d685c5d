"""Connection: what one server alone knows of one client node, and its way in and out.

It checks what clients send and hands the leader what is to be appended; what was applied is
answered by the Applier, straight to the client. The link to the client's node ends it; the sessions live on in the log.
"""

from typing import TYPE_CHECKING, Any

from copycat.actors import NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.codec import encode, holds_more_values
from copycat.protocol.client import (
    COMMANDS_PER_BATCH_MAX,
    OPERATIONS_BYTES_MAX,
    SPARE_VALUES,
    AttachSession,
    CloseSession,
    Consistency,
    DetachSession,
    KeepAlive,
    LeaderChanged,
    OpenResource,
    OpenSession,
    OpenSessionReply,
    Refusal,
    Refused,
    Request,
    ResetEvents,
    SessionEnded,
    SubmitCommands,
    SubmitQueries,
)
from copycat.protocol.client import AttachSessionReply as AttachReply
from copycat.protocol.raft import ProposalRefused, Propose
from copycat.server.progress import Attachment
from copycat.server.server_actor import ServerActor
from copycat.server.steps import (
    AnswerAgain,
    LeaderNews,
    ProceedTelling,
    Read,
    ResendEvents,
    RunReads,
    SessionAttached,
    SessionOpened,
)
from copycat.storage.batch import BatchKind
from copycat.types import (
    NAME_CHARACTERS_MAX,
    OPERATION_BYTES_MAX,
    OPERATION_VALUES_MAX,
    SessionId,
)

if TYPE_CHECKING:
    from copycat.server.server import Server

SESSIONS_PER_CONNECTION_MAX = 10_000
NONCE_BYTES = 16

_REQUEST_OF = {
    BatchKind.OPEN_SESSION: Request.OPEN_SESSION,
    BatchKind.CLOSE_SESSION: Request.CLOSE_SESSION,
    BatchKind.KEEP_ALIVE: Request.KEEP_ALIVE,
    BatchKind.COMMANDS: Request.COMMANDS,
    BatchKind.OPEN_RESOURCE: Request.OPEN_RESOURCE,
}


def _holds_too_many_values(message: SubmitCommands | SubmitQueries) -> bool:
    values_max = OPERATION_VALUES_MAX + SPARE_VALUES * message.count
    return holds_more_values(message.operations, values_max)


class Connection(ServerActor):
    """The server's end of the link to one client node, which may carry many sessions."""

    from_anybody = frozenset(
        (
            OpenSession, AttachSession, DetachSession, SubmitCommands, SubmitQueries,
            OpenResource, KeepAlive, CloseSession, ResetEvents,
        )
    )  # fmt: skip
    from_servers = frozenset((ProposalRefused,))

    def __init__(self, server: "Server", node: str) -> None:
        self.server = server
        self._node = node
        self._clients: dict[SessionId, NodeAddress] = {}
        self._opening: dict[bytes, NodeAddress] = {}  # by nonce
        self._attaching: dict[SessionId, NodeAddress] = {}
        self._untold: list[NodeAddress] = []  # clients that are to be told who leads
        self._telling = False
        server.attachments.begin(self.address)

    @property
    def session_count(self) -> int:
        """How many sessions are attached here."""
        return len(self._clients)

    def admits(self, message: Any, sender: NodeAddress) -> bool:
        """Of all clients, those of one node are served here."""
        if type(message) in self.from_anybody:
            return sender.node == self._node
        return super().admits(message, sender)

    # From the client.

    def open_session(self, message: OpenSession, sender: NodeAddress) -> None:
        """Have a session opened."""
        if (
            len(message.nonce) != NONCE_BYTES
            or len(message.client) > NAME_CHARACTERS_MAX
            or not message.client.isprintable()
        ):
            self._refuse(sender, 0, Request.OPEN_SESSION, 0, Refusal.TOO_LARGE, "not a name")
            return
        if len(self._clients) + len(self._opening) >= SESSIONS_PER_CONNECTION_MAX:
            text = "too many sessions on one connection"
            self._refuse(sender, 0, Request.OPEN_SESSION, 0, Refusal.OVERLOADED, text)
            return
        options = self.server.options
        timeout_ms = min(
            max(message.timeout_ms, round(options.session_timeout_min_s * 1000)),
            round(options.session_timeout_max_s * 1000),
        )
        self._opening[message.nonce] = sender
        self.server.attachments.ask(message.nonce, Attachment(self.address, sender))
        operations = encode([message.nonce, message.client, timeout_ms])
        if not self._propose(BatchKind.OPEN_SESSION, 0, 0, 1, operations=operations):
            del self._opening[message.nonce]
            self.server.attachments.ask_no_more(message.nonce)
            self._refuse(sender, 0, Request.OPEN_SESSION, 0, Refusal.NO_LEADER, self._no_leader())

    def attach_session(self, message: AttachSession, sender: NodeAddress) -> None:
        """Let a session go on here, once it is certain that it exists."""
        self._attaching[message.session] = sender
        read = Read(None, message, self.address, sender)
        if message.session in self.server.progress.sequences:
            self.send(self.server.applier, RunReads(0, (read,)))
        else:
            self.send(self.server.reads, read)

    def detach_session(self, message: DetachSession, sender: NodeAddress) -> None:
        """Stop sending for a session that has moved."""
        if self._clients.get(message.session) == sender:
            del self._clients[message.session]
            attachments = self.server.attachments
            at = attachments.sessions.get(message.session)
            if at is not None and at.is_of(self.address, sender):
                attachments.detach(message.session)

    def submit_commands(self, message: SubmitCommands, sender: NodeAddress) -> None:
        """Hand commands to the leader, or repeat an answer that was lost."""
        session, first = message.session, message.first_sequence
        if not self._attached(session, sender, Request.COMMANDS, first):
            return
        size = len(message.operations)
        if (
            not 1 <= message.count <= COMMANDS_PER_BATCH_MAX
            or first < 1
            or size > (OPERATION_BYTES_MAX if message.count == 1 else OPERATIONS_BYTES_MAX)
            or (size > OPERATION_VALUES_MAX and _holds_too_many_values(message))
        ):
            text = (
                f"{message.count} commands in {size:,} bytes are no batch, or have too many values"
            )
            self._refuse(sender, session, Request.COMMANDS, first, Refusal.TOO_LARGE, text)
            return
        if first <= self.server.progress.sequences.get(session, 0):
            self.send(self.server.applier, AnswerAgain(session, first, sender))
        elif text := self._why_not_under_way(session, first, size):
            self._refuse(sender, session, Request.COMMANDS, first, Refusal.OVERLOADED, text)
        elif not self._propose(
            BatchKind.COMMANDS,
            session,
            first,
            message.count,
            message.response_sequence,
            message.event_sequence,
            message.operations,
        ):
            text = self._no_leader()
            self._refuse(sender, session, Request.COMMANDS, first, Refusal.NO_LEADER, text)

    def submit_queries(self, message: SubmitQueries, sender: NodeAddress) -> None:
        """Have queries run when the state is new enough for them."""
        session, read = message.session, message.read
        if not self._attached(session, sender, Request.QUERIES, read):
            return
        size = len(message.operations)
        if (
            not 1 <= message.count <= COMMANDS_PER_BATCH_MAX
            or size > OPERATION_BYTES_MAX
            or (size > OPERATION_VALUES_MAX and _holds_too_many_values(message))
        ):
            text = (
                f"{message.count} queries in {size:,} bytes are no batch, or have too many values"
            )
            self._refuse(sender, session, Request.QUERIES, read, Refusal.TOO_LARGE, text)
        elif message.consistency == Consistency.SEQUENTIAL:
            self.send(
                self.server.applier, RunReads(0, (Read(message, None, self.address, sender),))
            )
        else:
            self.send(self.server.reads, Read(message, None, self.address, sender))

    def open_resource(self, message: OpenResource, sender: NodeAddress) -> None:
        """Have a resource opened."""
        session, request = message.session, message.request
        if not self._attached(session, sender, Request.OPEN_RESOURCE, request):
            return
        name = message.name
        if not all(
            0 < len(n) <= NAME_CHARACTERS_MAX and n.isprintable() for n in (name, message.type)
        ):
            text = "a name or type has 1 to 255 printable characters"
            self._refuse(sender, session, Request.OPEN_RESOURCE, request, Refusal.TOO_LARGE, text)
            return
        operations = encode([name, message.type, message.version])
        if not self._propose(BatchKind.OPEN_RESOURCE, session, request, 1, operations=operations):
            text = self._no_leader()
            self._refuse(sender, session, Request.OPEN_RESOURCE, request, Refusal.NO_LEADER, text)

    def keep_alive(self, message: KeepAlive, sender: NodeAddress) -> None:
        """Put a sign of life into the log."""
        session = message.session
        if not self._attached(session, sender, Request.KEEP_ALIVE, 0):
            return
        if not self._propose(
            BatchKind.KEEP_ALIVE,
            session,
            message.number,
            1,
            message.response_sequence,
            message.event_sequence,
        ):
            text = self._no_leader()
            self._refuse(sender, session, Request.KEEP_ALIVE, 0, Refusal.NO_LEADER, text)

    def close_session(self, message: CloseSession, sender: NodeAddress) -> None:
        """Have the session ended."""
        session = message.session
        if self._attached(session, sender, Request.CLOSE_SESSION, 0) and not self._propose(
            BatchKind.CLOSE_SESSION, session, 0, 1
        ):
            text = self._no_leader()
            self._refuse(sender, session, Request.CLOSE_SESSION, 0, Refusal.NO_LEADER, text)

    def reset_events(self, message: ResetEvents, sender: NodeAddress) -> None:
        """Have events sent again."""
        session = message.session
        if self._clients.get(session) == sender:
            again = ResendEvents(session, message.event_sequence, message.number, sender)
            self.send(self.server.applier, again)

    # From this server.

    def session_opened(self, message: SessionOpened, sender: NodeAddress) -> None:
        """Tell the client that its session is open."""
        client = self._opening.pop(message.nonce, None)
        if client is not None:
            self.environment.links.admit(self._node)
            self._clients[message.session] = client
            reply = OpenSessionReply(
                message.nonce, message.session, message.timeout_ms, self.server.endpoints
            )
            self.send(client, reply)
            self._tell_leader(client)

    def session_attached(self, message: SessionAttached, sender: NodeAddress) -> None:
        """Tell the client that its session goes on here."""
        client = self._attaching.pop(message.session, None) or self._clients.get(message.session)
        if client is not None:
            self.environment.links.admit(self._node)
            self._clients[message.session] = client
            self.send(client, AttachReply(message.session, self.server.endpoints))
            self._tell_leader(client)

    def session_ended(self, message: SessionEnded, sender: NodeAddress) -> None:
        """Tell the client that its session is no more."""
        attaching = self._attaching.pop(message.session, None)
        client = self._clients.pop(message.session, attaching)
        if client is not None:
            self.send(client, message)

    def leader_news(self, message: LeaderNews, sender: NodeAddress) -> None:
        """Tell every session of a change of leader, and those who have asked for one: the leader
        before may not have heard of it."""
        asking = (*self._opening.values(), *self._attaching.values())
        self._untold = [*self._clients.values(), *asking]
        self._tell_more()

    def proceed_telling(self, message: ProceedTelling, sender: NodeAddress) -> None:
        """Tell the others."""
        self._telling = False
        self._tell_more()

    def _tell_more(self) -> None:
        budget = Budget(self.environment.clock)
        while self._untold:
            self._tell_leader(self._untold.pop())
            if budget.spent:
                break
        if self._untold and not self._telling:
            self._telling = True
            self.send(self.address, ProceedTelling())

    def proposal_refused(self, message: ProposalRefused, sender: NodeAddress) -> None:
        """Pass the leader's refusal on."""
        if message.kind == BatchKind.OPEN_SESSION:
            client = self._opening.pop(message.nonce, None)
            self.server.attachments.ask_no_more(message.nonce)
        else:
            client = self._clients.get(message.session)
            self.server.under_way.refused(message.session, message.first_sequence)
        if client is not None:
            self._refuse(
                client, message.session, _REQUEST_OF[BatchKind(message.kind)],
                message.first_sequence, Refusal(message.reason), message.text,
            )  # fmt: skip

    def refused(self, message: Refused, sender: NodeAddress) -> None:
        """Pass on that reads cannot be run."""
        if message.request == Request.ATTACH_SESSION:
            client = self._attaching.pop(message.session, None)
        else:
            client = self._clients.get(message.session)
        if client is not None:
            self.send(client, message)

    # Inside.

    def _attached(
        self, session: SessionId, sender: NodeAddress, request: Request, number: int
    ) -> bool:
        if self._clients.get(session) == sender:
            return True
        text = "the session is not attached to this connection"
        self._refuse(sender, session, request, number, Refusal.NOT_ATTACHED, text)
        return False

    def _why_not_under_way(self, session: SessionId, first_sequence: int, size_bytes: int) -> str:
        """Why so much more of a session's may not go to the leader; empty if it may."""
        server = self.server
        if server.leader is None:
            return ""
        unsent_bytes = None
        if server.leader != server.options.name:
            unsent_bytes = self.environment.links.unsent_bytes(server.leader, bulk=True)
        return server.under_way.take(
            session, self._node, first_sequence, size_bytes, server.now_s(), unsent_bytes
        )

    def _propose(
        self,
        kind: BatchKind,
        session: SessionId,
        first_sequence: int,
        count: int,
        response_sequence: int = 0,
        event_sequence: int = 0,
        operations: bytes = b"",
    ) -> bool:
        """Hand something to the leader; False when none is known."""
        leader = self.server.leader_address
        if leader is None:
            return False
        proposal = Propose(
            int(kind), session, first_sequence, count, response_sequence, event_sequence, operations
        )
        if leader is self.server.address:
            self.server.asked_of_leader(proposal, self.address)
        else:
            self.send(leader, proposal)
        return True

    def _no_leader(self) -> str:
        return f"{self.server.options.name} knows no leader (term {self.server.ballot.term})"

    def _tell_leader(self, client: NodeAddress) -> None:
        endpoint = self.server.leader_endpoint
        self.send(client, LeaderChanged(endpoint, self.server.ballot.term))

    def _refuse(
        self,
        client: NodeAddress,
        session: SessionId,
        request: Request,
        number: int,
        reason: Refusal,
        text: str,
    ) -> None:
        self.send(client, Refused(session, int(request), number, int(reason), text))
