"""Delivery: events on their way from the queues of sessions to the clients that are attached here.

The events of an entry go out with it, to each session that keeps up. A session falls behind when
it comes back with much to catch up on, when its client leaves much unacknowledged, or when the
link has taken little of what it was given; then it is sent what it lacks in turns with the others,
as far as client and link take it, and what is published meanwhile waits in its queue. Over one
attachment each event is sent once, unless the client asks for it again because it is missing.

Invariant: a session is behind exactly when its queue has events that it was not sent; then it is
held back, has its turn planned, or is among those whose link is full.
"""

from typing import TYPE_CHECKING, Any

from copycat.actors import NodeAddress
from copycat.actors.budget import Budget
from copycat.protocol.client import AttachSession, CommandsReply, ResetEventsReply
from copycat.server.progress import Attachment, Attachments
from copycat.server.session import Left, ToSend
from copycat.server.steps import Deliver, EventsAfter, ResendEvents
from copycat.types import SessionId

if TYPE_CHECKING:
    from copycat.server.applier import Applier

BACKLOG_BYTES_MAX = 1 << 20
"""Of what a link has not sent, beyond which no events and no answers to queries are put behind it."""

ANSWERS_BEHIND_MAX = 8 << 20
"""Beyond these as well no answers to commands; sessions keep them for clients that ask again."""


class Delivery:
    """The events of one server's clients."""

    def __init__(
        self, applier: "Applier", sessions: dict[SessionId, NodeAddress], attachments: Attachments
    ) -> None:
        self._applier = applier
        self._sessions = sessions
        self._attachments = attachments
        self._turns: dict[str, dict[SessionId, None]] = {}  # those behind, by their client's node
        self._full: dict[str, dict[SessionId, None]] = {}  # likewise; their link is to drain first
        self._room_bytes: dict[str, int] = {}  # what may be sent to a node before it is looked at
        self._planned = False

    # What may begin or move a delivery.

    def keeps_up(self, session: SessionId) -> Attachment | None:
        """Where a session is attached, if it is to have at once what is published to it now; a
        session whose link is full has its turn instead."""
        at = self._attachments.sessions.get(session)
        if at is None or at.left is not Left.NOTHING:
            return None
        if self.has_room(at.client.node):
            return at
        self._plan(session, at)
        return None

    def attach(self, attach: AttachSession, connection: NodeAddress, client: NodeAddress) -> bool:
        """Let a session go on over a connection, behind the events that its client has; False if
        the connection is gone. What was sent there before is not sent again."""
        at = self._attachments.sessions.get(attach.session)
        if at is not None and at.is_of(connection, client):
            at.sent = max(at.sent, attach.event_sequence)
            return True
        at = Attachment(connection, client, attach.event_sequence)
        if not self._attachments.attach(attach.session, at):
            return False
        self._go_on(attach.session, at)
        return True

    def resend(self, message: ResendEvents) -> None:
        """A client misses events that it was sent; a question that comes again changes nothing."""
        session, client = message.session, message.client
        at = self._attachments.sessions.get(session)
        if at is None or at.client != client:
            return
        if message.number > at.question:
            at.question = message.number
            at.sent = message.event_sequence
            self._plan(session, at)
        self._applier.send(client, ResetEventsReply(session, message.number))

    def acknowledged(self, session: SessionId, at: Attachment) -> None:
        """A client has received some of what it was sent."""
        if at.left is Left.HELD_BACK:
            self._plan(session, at)

    def answer(self, client: NodeAddress, answer: Any) -> None:
        """Send a client an answer; if its link lags too far behind, it has to ask for it again."""
        if type(answer) is CommandsReply:
            node, room_bytes = client.node, self._room_bytes
            left_bytes = room_bytes.get(node, 0)
            if left_bytes <= -ANSWERS_BEHIND_MAX:
                self.has_room(node)
                left_bytes = room_bytes[node]
                if left_bytes <= -ANSWERS_BEHIND_MAX:
                    return
            room_bytes[node] = left_bytes - len(answer.results)
        self._applier.send(client, answer)

    def answered(self, node: str, size_bytes: int) -> None:
        """An answer was sent where there was room for it."""
        self._room_bytes[node] = self._room_bytes.get(node, 0) - size_bytes

    def drained(self, node: str) -> None:
        """The link to a node has taken what was sent, or is no more."""
        self._room_bytes[node] = BACKLOG_BYTES_MAX
        if node in self._full:
            self._turns.setdefault(node, {}).update(self._full.pop(node))
            self._plan_turns()

    def gone(self, node: str) -> None:
        """A connection has ended; what was planned for it finds nobody."""
        self._room_bytes.pop(node, None)

    # In turns.

    def deliver(self) -> None:
        """Send some of what those lack that are behind: in turns of nodes, then of sessions."""
        budget = Budget(self._applier.environment.clock)
        self._planned = False
        turns, sessions = self._turns, self._attachments.sessions
        while turns:
            node = next(iter(turns))
            behind = turns.pop(node)
            if not self.has_room(node):
                self._full.setdefault(node, {}).update(behind)
                self._applier.environment.links.ask_drained(node, self._applier.address)
                continue
            session = next(iter(behind))
            del behind[session]
            if behind:
                turns[node] = behind
            at = sessions.get(session)
            if at is not None and at.client.node == node:
                budget.take(self._send_next(session, at))
            if budget.spent:
                break
        self._plan_turns()

    def _go_on(self, session: SessionId, at: Attachment) -> None:
        """Send a session the next that it lacks at once, if its link has room."""
        if self.has_room(at.client.node):
            self._send_next(session, at)
        else:
            self._plan(session, at)

    def _plan(self, session: SessionId, at: Attachment) -> None:
        """A session is behind, and has its turn when its link has room."""
        at.left = Left.MORE
        node = at.client.node
        where = self._full if node in self._full else self._turns
        where.setdefault(node, {})[session] = None
        self._plan_turns()

    def _plan_turns(self) -> None:
        if self._turns and not self._planned:
            self._planned = True
            self._applier.send(self._applier.address, Deliver())

    def _send_next(self, session: SessionId, at: Attachment) -> int:
        """Send a session the next that it lacks. Returns how many bytes that were."""
        found: ToSend = self._applier.step(self._sessions[session], EventsAfter(at.sent))
        self.send(session, at, found)
        return found.size_bytes

    def send(self, session: SessionId, at: Attachment, found: ToSend) -> None:
        """Send a session what was found for it; the rest has its turn."""
        for events in found.messages:
            self._applier.send(at.client, events)
            at.sent = events.last_sequence
        self._room_bytes[at.client.node] -= found.size_bytes
        at.left = found.left
        if found.left is Left.MORE:
            self._plan(session, at)

    def has_room(self, node: str) -> bool:
        """Whether the link takes more. It is looked at when as much has been sent as it had room
        for, so that an event does not cost a look at a link."""
        if self._room_bytes.get(node, 0) <= 0:
            links = self._applier.environment.links
            links.flush(node)
            self._room_bytes[node] = BACKLOG_BYTES_MAX - links.unsent_bytes(node)
        return self._room_bytes[node] > 0
