"""ClientSession: a client's side of its session, which outlives any one connection (§6.3).

It opens the session, keeps it alive, moves it when its server fails or another one leads, and opens a new
one when it is lost; see also ``commands``, ``queries``, ``openings``, ``attachment`` and ``contact``.

Invariant: what is sent on a connection was asked for by this session alone, and every answer is
recognised by its content, so it does not matter over which connection, how often, or when it comes.
"""

from functools import partial
from math import inf
from typing import Any

from thespian.actors import ActorExitRequest, WakeupMessage

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.environment import NodeConnected, NodeDisconnected, NodeUnreachable
from copycat.client.attachment import Attachment
from copycat.client.calls import (
    Close,
    ConnectCall,
    Flush,
    Inbox,
    Turn,
    closed,
    expired,
    unanswered,
)
from copycat.client.commands import Commands
from copycat.client.contact import Contact
from copycat.client.deadlines import Deadlines, Failure
from copycat.client.event_order import EventOrder
from copycat.client.openings import Openings
from copycat.client.options import SessionOptions
from copycat.client.patience import Patience
from copycat.client.queries import Queries
from copycat.client.servers import Servers, SharedLinks
from copycat.client.window import Proceed, Room
from copycat.protocol.client import (
    AttachSession,
    AttachSessionReply,
    CloseSession,
    CommandsReply,
    Events,
    KeepAlive,
    KeepAliveReply,
    LeaderChanged,
    OpenResourceReply,
    OpenSession,
    OpenSessionReply,
    QueriesReply,
    Refusal,
    Refused,
    Request,
    ResetEventsReply,
    SessionEnded,
)

NONCE_BYTES = 16
CLOSE_TIMEOUT_S = 1.0
CLOSE_AGAIN_S = 0.25
WAKE_SOONEST_S = 0.001
BUSY_WAKE_S = 0.2  # shorter than all that sending and answers make due


class ClientSession(Actor):
    """One session of a client. It ends when it was told to close.

    Attributes:
        session: its id; 0 while there is none.
    """

    def __init__(
        self, options: SessionOptions, inbox: Inbox, shared: SharedLinks | None = None
    ) -> None:
        self.session = 0
        self._now_s = self.environment.clock.monotonic_s
        self._options = options
        self._inbox = inbox
        self._nonce = self.environment.random.randbytes(NONCE_BYTES)
        shared = shared or SharedLinks()
        self._window = shared.window
        room = Room(self._window, self.address)
        self._deadlines = Deadlines()
        self._commands = Commands(self._transmit, self._deadlines, room)
        self._queries = Queries(self._transmit, self._deadlines, self._commands, room)
        self._openings = Openings(self._transmit, self._deadlines)
        self._connects: dict[ConnectCall, None] = {}
        self._servers = Servers(options, shared, self.environment.links)
        self._patience = Patience(self.environment.random)
        self._attachment = Attachment(self._servers, self._patience, self.send, self._question)
        self._opening_s = inf  # when the session was asked for first
        self._resend_at_s = inf  # when to go on after a refusal; nothing is sent before then
        self._contact = Contact(lambda state: inbox.session_changed(state, self.session))
        self._events = EventOrder(self._transmit)
        self._index = 0  # the highest index seen
        self._close_at_s = inf  # when to send CloseSession (again)
        self._close_by_s = inf
        self._closing = False
        self._wake_s = inf

        self.environment.links.watch(self.address)
        now_s = self._now_s()
        self._servers.dial_next(now_s)
        self._attachment.use_best(now_s)
        self._plan(now_s)

    # What the client says.

    def proceed(self, message: Proceed, sender: NodeAddress) -> None:
        """It is this session's turn to send what found no room."""
        self._go_on(self._now_s())

    def flush(self, message: Flush, sender: NodeAddress) -> None:
        """Take the calls of one turn of the loop: commands go as one batch, queries likewise."""
        calls = self._inbox.take()
        if self._closing:
            for call in calls:
                call.fail(closed())
            return
        before, turn = self._commands.last_ordinal, Turn(calls)
        if turn.commands:
            connected = self._attachment.connection is not None
            self._commands.submit(turn.commands, may_be_sent=connected)
        for alike, commands_before in turn.queries.values():
            after = min(before + commands_before, self._commands.last_ordinal)
            self._queries.submit(alike, alike[0].consistency, after)
        for opening in turn.openings:
            self._openings.submit(opening)
        for connect in turn.connects:
            self._deadlines.add(connect, self._connect_expired)
            self._connects[connect] = None
        if self._connects:
            self._end_connects()
        self._go_on(self._now_s())

    def close(self, message: Close, sender: NodeAddress) -> None:
        """End all calls, then the session, for which the cluster gets a second."""
        if self._closing:
            return
        now_s = self._now_s()
        self._closing = True
        self._commands.lose(closed, partial(unanswered, "the client has been closed"))
        self._queries.lose(closed)
        self._openings.close(closed)
        for call in (*self._inbox.take(), *self._connects):
            call.fail(closed())
        self._close_at_s = now_s
        self._close_by_s = now_s + CLOSE_TIMEOUT_S
        self._tick(now_s)

    def _end(self) -> None:
        """Let go of everything; nothing is handled after this."""
        self._close_by_s = inf
        self._let_next_proceed(self._window.leave(self.address))
        self._servers.close()
        self._contact.change("closed")
        self._inbox.session_closed()
        self.send(self.address, ActorExitRequest())

    def _connect_expired(self, call: ConnectCall, now_s: float, not_applied: Failure) -> None:
        del self._connects[call]
        call.fail(not_applied())

    def _end_connects(self) -> None:
        if self.session:
            for call in self._connects:
                call.succeed(self.session)
            self._connects.clear()

    # Links, and the server in use.

    def node_connected(self, message: NodeConnected, sender: NodeAddress) -> None:
        """A server may be there to be used; one without an id is asked again by a later link."""
        if message.node_id == 0:
            self.environment.links.refuse(message.node, "it has not said its server id yet")
            return
        now_s = self._now_s()
        self._servers.connected(message)
        self._attachment.reached(message.node, now_s)
        self._plan(now_s)

    def node_disconnected(self, message: NodeDisconnected, sender: NodeAddress) -> None:
        """Go on with another server at once if this was the one in use."""
        now_s = self._now_s()
        self._servers.disconnected(message)
        if message.node == self._attachment.node:
            self._attachment.use_best(now_s)
        self._plan(now_s)

    def node_unreachable(self, message: NodeUnreachable, sender: NodeAddress) -> None:
        """Try the next endpoint."""
        now_s = self._now_s()
        self._servers.unreachable(message, now_s)
        self._plan(now_s)

    def leader_changed(self, message: LeaderChanged, sender: NodeAddress) -> None:
        """Go where the leader is, or ask it anew what the one before may not have heard of."""
        now_s = self._now_s()
        self._attachment.heard(sender)
        is_first = self._servers.leader_term == 0  # nothing was sent on to another leader
        if self._servers.leader_changed(message.leader, message.term):
            self._attachment.move_to_leader(now_s)
            if self._attachment.connection is not None:
                self._resend_at_s = now_s
                if not is_first:
                    self._ask_anew(now_s)
            elif self._patience.refusal is not None or sender.node == self._attachment.node:
                self._attachment.ask_at(now_s)
        self._tick(now_s)

    def _question(self, now_s: float) -> OpenSession | AttachSession:
        """What a server is asked before it is used."""
        if self.session:
            return AttachSession(self.session, self._nonce, self._events.sequence)
        self._opening_s = min(self._opening_s, now_s)
        timeout_ms = round(self._options.timeout_s * 1000)
        return OpenSession(self._nonce, self._options.name, timeout_ms)

    def session_opened(self, message: OpenSessionReply, sender: NodeAddress) -> None:
        """The session is there."""
        if message.nonce != self._nonce or self.session or not self._attachment.is_awaited(sender):
            return
        now_s = self._now_s()
        self.session = message.session
        self._index = max(self._index, message.session)
        self._events.begin()
        self._contact.begin(message.timeout_ms / 1000, self._opening_s, now_s)
        self._patience.restored()
        self._attached(sender, message.servers, now_s)
        self._end_connects()
        self._tick(now_s)

    def session_attached(self, message: AttachSessionReply, sender: NodeAddress) -> None:
        """The session goes on with another server, or on another connection."""
        if message.session != self.session or not self._attachment.is_awaited(sender):
            return
        now_s = self._now_s()
        self._attached(sender, message.servers, now_s)
        self._contact.keep_alive_at_s = now_s
        self._tick(now_s)

    def _attached(self, connection: NodeAddress, members: tuple[str, ...], now_s: float) -> None:
        self._attachment.made(connection, self.session, members)
        self._events.attached()
        self._ask_anew(now_s)

    def _ask_anew(self, now_s: float) -> None:
        """Send all that is unanswered again, in order: who had it before may be gone."""
        self._resend_at_s = inf
        self._commands.resend(now_s)
        self._queries.redraw()
        self._openings.resend()

    # Answers.

    def commands_answered(self, message: CommandsReply, sender: NodeAddress) -> None:
        """Complete a batch, and what it has held up."""
        if message.session == self.session:
            self._attachment.heard(sender)
            if (sent_s := self._commands.answered(message)) is not None:
                now_s = self._now_s()
                self._contact.made(sent_s, now_s)
                self._queries.release()
                self._progressed(message.base_index, now_s)
                if self._commands.are_held_up and self._resend_at_s == inf:
                    self._resend_at_s = now_s
                    self._tick(now_s)

    def queries_answered(self, message: QueriesReply, sender: NodeAddress) -> None:
        """Complete the queries of a read."""
        if message.session == self.session:
            self._attachment.heard(sender)
            if self._queries.answered(message):
                self._progressed(message.index, self._now_s())

    def resource_opened(self, message: OpenResourceReply, sender: NodeAddress) -> None:
        """Complete the opening of a resource."""
        if message.session == self.session:
            self._attachment.heard(sender)
            if self._openings.answered(message):
                self._progressed(message.resource, self._now_s())

    def keep_alive_answered(self, message: KeepAliveReply, sender: NodeAddress) -> None:
        """A sign of life has arrived."""
        if message.session == self.session and not self._closing:
            self._attachment.heard(sender)
            now_s = self._now_s()
            self._contact.keep_alive_answered(message.number, now_s)
            self._events.sent(message.event_sequence, now_s)
            self._speak_of_events(now_s)
            self._progressed(0, now_s)

    def _progressed(self, index: int, now_s: float) -> None:
        """The cluster did what it was asked, and stands at this index or beyond."""
        self._index = max(self._index, index)
        self._patience.restored()
        self._go_on(now_s)

    def events_published(self, message: Events, sender: NodeAddress) -> None:
        """Deliver events once and in order; ask for those that are missing."""
        if message.session != self.session:
            return
        self._attachment.heard(sender)
        now_s = self._now_s()
        self._index = max(self._index, message.index)
        for event in self._events.accept(message, now_s):
            self._inbox.deliver(event, message.index)
        self._speak_of_events(now_s)

    def events_reset(self, message: ResetEventsReply, sender: NodeAddress) -> None:
        """What was asked for comes from here on."""
        if message.session == self.session:
            self._attachment.heard(sender)
            self._events.answered(message.number)

    def _speak_of_events(self, now_s: float) -> None:
        """Acknowledge many at once, for the cluster keeps them until then; ask for missing ones."""
        events = self._events
        if events.ask_at_s <= now_s or (events.are_many and self._contact.hurry(now_s)):
            self._tick(now_s)

    def session_ended(self, message: SessionEnded, sender: NodeAddress) -> None:
        """The session is no more, by our own wish or not."""
        if self.session and message.session == self.session:
            self._lose(message.text, self._now_s())

    def refused(self, message: Refused, sender: NodeAddress) -> None:
        """Try again what may be taken later, and end what will never be."""
        if message.session != self.session:
            return
        self._attachment.heard(sender)
        now_s = self._now_s()
        waits = False  # whether something is to be tried again
        match message.request:
            case Request.COMMANDS:
                waits = self._commands.refused(message.number)
            case Request.QUERIES if message.reason == Refusal.TOO_LARGE:
                self._queries.answer_too_large(message.number, message.text)
            case Request.QUERIES:
                waits = self._queries.refused(message.number)
            case Request.OPEN_RESOURCE:
                waits = self._openings.refused(message)
            case Request.OPEN_SESSION | Request.ATTACH_SESSION:
                waits = self._attachment.is_awaited(sender)
            case Request.KEEP_ALIVE:
                self._contact.keep_alive_refused(now_s)
                waits = True
        if waits and message.reason == Refusal.OVERLOADED:
            self._window.narrow()
        if message.reason == Refusal.UNKNOWN_SESSION and self.session:
            self._lose(message.text, now_s)
        elif message.reason == Refusal.NOT_ATTACHED:
            if sender == self._attachment.connection:
                self._attachment.use(sender.node, now_s)
        elif waits and self._patience.refused(message, now_s):
            self._attachment.move_on(now_s)
        elif waits and self._attachment.connection is None:
            self._attachment.ask_at(now_s + self._patience.back_off_s())
        elif waits and self._resend_at_s == inf:
            self._resend_at_s = now_s + self._patience.back_off_s()
        self._go_on(now_s)
        self._plan(now_s)

    def _lose(self, text: str, now_s: float) -> None:
        """The cluster has ended the session: end its calls, and open a new one."""
        if self._closing:
            self.session = 0
            self._tick(now_s)
            return
        unsent = partial(expired, text)
        self._commands.lose(unsent, partial(unanswered, text))
        self._queries.lose(unsent)
        self._contact.change("lost")
        self.session = 0
        self._nonce = self.environment.random.randbytes(NONCE_BYTES)
        self._opening_s = inf
        self._contact.change("connecting")
        self._attachment.use_best(now_s)
        self._plan(now_s)

    # Sending.

    def _transmit(self, message: Any, now_s: float) -> None:
        """Send something that is answered."""
        connection = self._attachment.connection
        assert connection is not None, "requests travel on a connection"
        self._patience.asked(now_s)
        self.send(connection, message)

    def _go_on(self, now_s: float) -> None:
        """Send what waits, unless a refusal asks for patience.

        In busy times a wake-up is always near, and it plans for whatever this has made due.
        """
        ready = self._attachment.connection is not None and self._resend_at_s == inf
        if ready and not self._closing:
            if self._queries.lack_room:
                self._queries.send_waiting(now_s, self.session, self._index)
            if self._commands.unsent.batches and self._commands.send_waiting(
                now_s, self.session, self._events.sequence
            ):
                self._events.acknowledged()
            if self._queries.waiting.batches:
                self._queries.send_waiting(now_s, self.session, self._index)
            if self._openings.waiting or self._openings.retry_at_s <= now_s:
                self._openings.send_waiting(now_s, self.session)
        if self._window.waiting:
            self._let_next_proceed(self._window.next)
        if self._wake_s > now_s + BUSY_WAKE_S or self._deadlines.next_s < self._wake_s:
            self._plan(now_s)

    def _let_next_proceed(self, session: NodeAddress | None) -> None:
        """Tell the session whose turn it is. A turn of this one that it did not take is over."""
        if session == self.address:
            session = self._window.leave(self.address)
        if session is not None:
            self.send(session, Proceed())

    # Time.

    def wake(self, message: WakeupMessage, sender: NodeAddress) -> None:
        """Something may be due; by a clock that was slowed down, it is not due yet."""
        if message.payload == self._wake_s:
            self._wake_s = inf
        self._tick(self._now_s())

    def _tick(self, now_s: float) -> None:
        """Do everything that is due."""
        self._expire(now_s)
        if self._closing and (not self.session or self._close_by_s <= now_s):
            self._end()
            return
        self._attachment.tick(now_s)
        self._contact.tick(now_s)
        if self._attachment.connection is not None:
            self._say_what_is_due(now_s)
        self._go_on(now_s)
        self._plan(now_s)

    def _say_what_is_due(self, now_s: float) -> None:
        if self._closing:
            if self._close_at_s <= now_s:
                self._close_at_s = now_s + CLOSE_AGAIN_S
                self._transmit(CloseSession(self.session), now_s)
            return
        if self._resend_at_s <= now_s:
            self._resend_at_s = inf
            self._commands.resend_refused(now_s)
        if self._resend_at_s == inf:
            may_be_lost = not self._patience.bytes_move
            if self._commands.retry_at_s <= now_s:
                self._commands.retry(now_s, may_be_lost=may_be_lost)
            if self._queries.retry_at_s <= now_s:
                self._queries.retry(now_s, may_be_lost=may_be_lost)
        self._events.ask(now_s, self.session)
        if self._contact.keep_alive_at_s <= now_s:
            number = self._contact.keep_alive_sent(now_s)
            answered = self._commands.answered_sequence
            self._transmit(KeepAlive(self.session, number, answered, self._events.sequence), now_s)
            self._events.acknowledged()

    def _plan(self, now_s: float) -> None:
        """Have this actor woken when the next thing is due."""
        due_s = min(
            self._deadlines.next_s,
            self._attachment.due_s,
            self._close_by_s,
            self._contact.doubtful_at_s,
        )
        if self._attachment.connection is not None:
            due_s = min(
                due_s,
                self._resend_at_s,
                self._events.ask_at_s,
                self._contact.keep_alive_at_s,
                self._close_at_s,
            )
            if self._resend_at_s == inf:
                retries = (self._commands, self._queries, self._openings)
                due_s = min(due_s, *[each.retry_at_s for each in retries])
        if self._commands.are_unanswered or self._queries.are_unanswered:
            due_s = min(due_s, now_s + BUSY_WAKE_S)
        if due_s < self._wake_s:
            self._wake_s = due_s
            self.wake_after(max(due_s - now_s, WAKE_SOONEST_S), due_s)

    def _expire(self, now_s: float) -> None:
        """End the calls whose deadline has passed."""
        if self._deadlines.next_s > now_s:
            return
        last_sequence = self._commands.last_sequence
        not_applied = self._attachment.why_not_applied()
        self._deadlines.expire(now_s, not_applied, Budget(self.environment.clock))
        if self._commands.last_sequence < last_sequence:  # some were taken back
            self._queries.redraw(self._commands.last_sequence)
        self._queries.release()
