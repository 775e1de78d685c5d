"""The Applier: committed batches become state, in log order, the same on every server.

It is the parent of all sessions and resources and *steps* them, so replicated work has one order
that no mailbox can change. Before a batch is applied, what is due at its log time fires.

A batch that takes long, for many sessions may expire before it, is applied in several turns: all
that belongs to it happens in one order, and nobody reads the state in between.

Invariant: ``applied_index`` is the end of a batch and never above the commit index.
"""

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

from copycat.actors import NodeAddress
from copycat.actors.budget import BUDGET_S, Budget
from copycat.actors.codec import decode
from copycat.actors.environment import LinkDrained
from copycat.errors import ConfigurationError
from copycat.machine import Catalog
from copycat.machine.state_machine import Publication, Scheduling
from copycat.protocol.client import (
    CommandsReply,
    KeepAliveReply,
    OpenResourceReply,
    Refusal,
    Refused,
    Request,
    SessionEnded,
)
from copycat.server.delivery import Delivery
from copycat.server.due import DueQueue
from copycat.server.fan_out import FanOut
from copycat.server.operations import Router
from copycat.server.progress import Attachments, Progress
from copycat.server.reading import ReadQueue
from copycat.server.resource import Resource
from copycat.server.retained import Retained
from copycat.server.server_actor import ServerActor
from copycat.server.session import Answer, Left, Session
from copycat.server.steps import (
    Acknowledged,
    Advance,
    AnswerAgain,
    AskAnswer,
    CommandsAnswered,
    ConnectionGone,
    Deliver,
    Ending,
    EndSession,
    FireTimer,
    Forget,
    Proceed,
    ProceedReading,
    Reached,
    ResendEvents,
    RunReads,
    SessionOpened,
)
from copycat.server.users_code import Recursion, UsersCode
from copycat.storage.batch import Batch, BatchKind, Commands
from copycat.storage.log import Log
from copycat.types import Index, ResourceId, SessionId

PARTS_AT_ONCE = 4  # of a bundle, between two looks at the clock
SOON_US = 5_000_000  # of log time
_NOTHING_LEFT = Left.NOTHING
_NO_OP, _COMMANDS, _BUNDLE = BatchKind.NO_OP, BatchKind.COMMANDS, BatchKind.BUNDLE


class Applier(ServerActor):
    """Applies what is committed and answers who waits for it on this server."""

    def __init__(
        self,
        server: NodeAddress,
        log: Log,
        catalog: Catalog,
        progress: Progress,
        attachments: Attachments,
        users_code: UsersCode | None = None,
    ) -> None:
        self._server = server
        self._users_code = users_code or UsersCode(Recursion.UNKNOWN)
        self._log = log
        self._catalog = catalog
        self._progress = progress
        self._attachments = attachments
        self._commit_index: Index = 0
        self._proceeding = False
        self._due = DueQueue()
        self._log_time_us = 0  # of the batch that is being applied
        self._sessions: dict[SessionId, NodeAddress] = {}
        self._nonces: dict[bytes, SessionId] = {}
        self._router = Router(self, self._users_code)
        self._delivery = Delivery(self, self._sessions, attachments)
        self._reads = ReadQueue(self, progress, self._router, self._delivery)
        self._reading_on = False
        self._retained = Retained()
        self._fan_out = FanOut(self, self._sessions, self._retained, self._delivery)
        self._effects: list[Any] = []
        self._ahead: Iterator[Batch] = iter(())  # what is committed and not yet begun
        self._begun: Iterator[None] | None = None  # the batch that is being applied
        self._apply = {
            BatchKind.NO_OP: self._apply_nothing,
            BatchKind.TICK: self._apply_nothing,
            BatchKind.OPEN_SESSION: self._apply_open_session,
            BatchKind.KEEP_ALIVE: self._apply_keep_alive,
            BatchKind.OPEN_RESOURCE: self._apply_open_resource,
        }

    # Messages.

    def advance(self, message: Advance, sender: NodeAddress) -> None:
        """Apply up to a new commit index."""
        assert message.commit_index >= self._commit_index, "the commit index never goes back"
        self._commit_index = message.commit_index
        if not self._proceeding:
            self._work()

    def proceed(self, message: Proceed, sender: NodeAddress) -> None:
        """Apply the rest."""
        self._proceeding = False
        self._work()

    def run_reads(self, message: RunReads, sender: NodeAddress) -> None:
        """Run reads now, or when what they must see has been applied."""
        budget = Budget(self.environment.clock)
        for place, read in enumerate(message.reads, 1):
            self._reads.add(read, message.index, self._attachments)
            if place < len(message.reads) and budget.spent:
                self.send(self.address, RunReads(message.index, message.reads[place:]))
                break
        self._run_reads(budget)

    def proceed_reading(self, message: ProceedReading, sender: NodeAddress) -> None:
        """Run the rest of the reads that are ready."""
        self._reading_on = False
        self._run_reads(Budget(self.environment.clock))

    def connection_gone(self, message: ConnectionGone, sender: NodeAddress) -> None:
        """Forget the reads of a connection."""
        self._reads.drop(message.connection)
        self._delivery.gone(message.node)

    def answer_again(self, message: AnswerAgain, sender: NodeAddress) -> None:
        """Repeat an answer that the client has not received."""
        session = self._sessions.get(message.session)
        if session is None:
            self.send(sender, SessionEnded(message.session, "the session has ended"))
            return
        first = message.first_sequence
        answer = self.step(session, AskAnswer(first))
        if answer is not None:
            self._delivery.answer(message.client, CommandsReply(message.session, first, *answer))

    def resend_events(self, message: ResendEvents, sender: NodeAddress) -> None:
        """Send the events again that a client misses."""
        self._delivery.resend(message)

    def deliver(self, message: Deliver, sender: NodeAddress) -> None:
        """Send more of the events that clients lack."""
        self._delivery.deliver()

    def link_drained(self, message: LinkDrained, sender: NodeAddress) -> None:
        """A link has taken the events and answers that it was given."""
        self._delivery.drained(message.node)
        self._reads.drained(message.node)
        self._run_reads(Budget(self.environment.clock))

    # Applying.

    def _work(self) -> None:
        """Apply what is committed, as far as the budget goes."""
        progress, budget = self._progress, Budget(self.environment.clock)
        applied_index = progress.applied_index
        passing_s, end_s = self.environment.clock.passing_s, budget.end_s
        while progress.applied_index < self._commit_index:
            if self._begun is None:
                if self._reads.are_ready:  # or it may never be their turn, between two batches
                    self._run_reads(Budget(self.environment.clock, time_s=BUDGET_S / 2))
                batch = next(self._ahead, None) or self._read_on()
                self._begun = self._apply_batch(batch)
            for _ in self._begun:
                if passing_s() >= end_s:
                    break
            else:
                self._begun = None
            if passing_s() >= end_s:
                break
        if progress.applied_index > applied_index:
            progress.moved_s = self.environment.clock.monotonic_s()
        settled = self._settle(budget)
        if progress.applied_index < self._commit_index or not settled:
            self._proceeding = True
            self.send(self.address, Proceed())
        self._run_reads(budget)
        if progress.wanted_index is not None and progress.applied_index >= progress.wanted_index:
            progress.wanted_index = None
            self.send(self._server, Reached())

    def _read_on(self) -> Batch:
        """The next batch, with which another part of the log begins to be read."""
        first_index = self._progress.applied_index + 1
        self._ahead = self._log.read_ahead(first_index, self._commit_index)
        return next(self._ahead)

    def _settle(self, budget: Budget) -> bool:
        """Find out when the next timer or expiry is due; False if that takes another turn. When it is
        not soon, it may also be later than is said."""
        due, self._progress.next_due_us = self._due, None
        soon_us = self._log_time_us + SOON_US
        while (due.front_us <= soon_us or due.may_be_dead) and not due.settle():
            if budget.spent:
                return False
        if due.front_us < inf:
            self._progress.next_due_us = int(due.front_us)
        return True

    def _run_reads(self, budget: Budget) -> None:
        """Run the reads that are ready; none sees a batch of which a part was applied."""
        if self._begun is not None:
            return
        self._reads.run_ready(budget)
        if self._reads.are_ready and not self._reading_on:
            self._reading_on = True
            self.send(self.address, ProceedReading())

    def _apply_batch(self, batch: Batch) -> Iterator[None]:
        """Apply a batch. It stops wherever the rest may be left to another turn, which changes
        when it happens, and nothing else."""
        assert batch.base_index == self._progress.applied_index + 1, "batches apply in log order"
        kind, now_us = batch.kind, batch.log_time_us
        self._log_time_us = now_us
        fan_out, retained = self._fan_out, self._retained
        parts: Sequence[Batch | Commands] = ()
        if kind is _COMMANDS:
            parts = (batch,)
            self._due.renew(batch.session, now_us)
        elif kind is _BUNDLE:
            parts = batch.commands()
            self._due.renew_each([part.session for part in parts], now_us)
        elif kind is _NO_OP:
            self._due.renew_all(now_us)
        else:
            self._due.renew(batch.session, now_us)
        if self._due.front_us <= now_us:
            yield from self._fire_due(now_us, batch.base_index)
        for place, commands in enumerate(parts):
            reply = self._apply_commands(commands)
            if fan_out.publications or retained.is_too_much:
                last_index = commands.base_index + commands.count - 1
                yield from fan_out.publish(last_index, now_us)
            if reply is not None:
                self._answer(commands.session, reply)
            if place % PARTS_AT_ONCE == PARTS_AT_ONCE - 1:
                yield
        if not parts:
            answer = None
            if kind is BatchKind.CLOSE_SESSION:
                yield from self._close_session(batch)
            else:
                answer = self._apply[kind](batch)
            if fan_out.publications or retained.is_too_much:
                yield from fan_out.publish(batch.last_index, now_us)
            if answer is not None:
                self._answer(batch.session, answer)
        self._progress.applied_index = batch.last_index

    def _answer(self, session: SessionId, answer: Any) -> None:
        """Send an answer, if it belongs here; with it the client's acknowledgements were applied."""
        attachment = self._attachments.sessions.get(session)
        if attachment is not None:
            self._delivery.answer(attachment.client, answer)
            if attachment.left is not _NOTHING_LEFT:
                self._delivery.acknowledged(session, attachment)

    def _apply_nothing(self, batch: Batch) -> None:
        """A tick only lets log time pass, and a new leader's first batch renews the sessions."""

    def _apply_commands(self, commands: Batch | Commands) -> CommandsReply | None:
        progress, session = self._progress, commands.session
        index, first = commands.base_index, commands.first_sequence
        applied = progress.sequences.get(session)
        if applied is None:
            return None  # the session had ended; the same on every server
        answer: Answer | None
        if first != applied + 1:
            # A retry that was appended too is not applied again. What comes ahead of its turn was sent
            # behind a batch of which only a part was applied: it counts as not received.
            self._acknowledge(commands)
            answer = self.step(self._sessions[session], AskAnswer(first))
        else:
            count, results, counted_bytes, resources = self._router.apply(
                commands, self._log_time_us, self._effects
            )
            if self._effects:
                self._settle_effects(index)
            last = applied + count
            if count < commands.count:
                progress.cut[session] = None
            elif progress.cut:
                progress.cut.pop(session, None)
            self.step(
                self._sessions[session],
                CommandsAnswered(
                    first, last, index, results, counted_bytes, resources,
                    commands.response_sequence, commands.event_sequence,
                ),
            )  # fmt: skip
            progress.sequences[session] = last
            if session in self._reads.by_session:
                self._reads.moved(session)
            progress.commands_applied += count
            answer = (index, results)
        if answer is None or session not in self._attachments.sessions:
            return None
        return CommandsReply(session, first, *answer)

    def _apply_open_session(self, batch: Batch) -> None:
        nonce, client, timeout_ms = decode(batch.operations)
        session = self._nonces.get(nonce)
        if session is None:
            session = batch.base_index
            address = self.spawn(Session, session, nonce, client, self._retained)
            self._sessions[session] = address
            self._nonces[nonce] = session
            self._progress.nonces[session] = nonce
            self._progress.sequences[session] = 0
            self._due.add_session(session, timeout_ms * 1000, batch.log_time_us)
        attachment = self._attachments.ask_no_more(nonce)
        if attachment is not None:
            self._attachments.attach(session, attachment)
            self.send(attachment.connection, SessionOpened(nonce, session, timeout_ms))

    def _close_session(self, batch: Batch) -> Iterator[None]:
        if batch.session in self._sessions:
            text = "the session was closed by its client"
            yield from self.end_session(batch.session, batch.base_index, batch.log_time_us, text)

    def _apply_keep_alive(self, batch: Batch) -> KeepAliveReply | None:
        if batch.session not in self._sessions:
            return None
        self._acknowledge(batch)
        attachment = self._attachments.sessions.get(batch.session)
        if attachment is None:
            return None
        return KeepAliveReply(batch.session, batch.first_sequence, attachment.sent)

    def _apply_open_resource(self, batch: Batch) -> OpenResourceReply | Refused | None:
        name, kind, version = decode(batch.operations)
        if batch.session not in self._sessions:
            return None
        known = self._progress.resources.get(name)
        if known is None:
            try:
                known = self._make_resource(batch.base_index, name, kind, version)
            except _NotMadeError as error:
                return _not_opened(batch, str(error), Refusal.CANNOT_BE_MADE)
        resource, known_kind, known_version = known
        if (kind, version) == (known_kind, known_version):
            return OpenResourceReply(batch.session, batch.first_sequence, resource)
        text = f"{name!r} is a {known_kind} of version {known_version}"
        return _not_opened(batch, text, Refusal.WRONG_TYPE)

    def _make_resource(
        self, index: Index, name: str, kind: str, version: int
    ) -> tuple[ResourceId, str, int]:
        machine = self._catalog.get(kind)
        if machine is None or machine.version != version:
            raise ConfigurationError(
                f"the log opens a resource of type {kind} version {version}, which this server"
                " does not have: install the package that provides it, or give `serve` the --load that"
                " the other servers have, and start again; nothing is lost"
            )
        if index in self._users_code.failed_entries:
            raise _NotMadeError(f"a {kind} is not made: the operator has decided that it fails")
        try:
            address = self.spawn(Resource, index, kind, machine, self._users_code)
        except BaseException as error:
            what = f"the constructor of a {kind} at index {index} of the log"
            said = self._users_code.result(error, what)
            raise _NotMadeError(f"a {kind} cannot be made: {': '.join(said)}") from error
        self._router.resources[index] = address
        made = self._progress.resources[name] = (index, kind, version)
        return made

    # Time, ends and effects.

    def _acknowledge(self, batch: Batch | Commands) -> None:
        received = Acknowledged(batch.response_sequence, batch.event_sequence)
        self.step(self._sessions[batch.session], received)

    def _fire_due(self, log_time_us: int, index: Index) -> Iterator[None]:
        due = self._due
        while due.front_us <= log_time_us:
            entry = due.take_front()
            if entry is not None:
                due_us, session, timer, resource = entry
                if resource == 0:
                    yield from self.end_session(session, index, due_us, "the session has expired")
                elif resource in self._router.resources:
                    fire = FireTimer(index, due_us, timer, self._effects)
                    self.step(self._router.resources[resource], fire)
                    self._settle_effects(index)
            yield

    def end_session(
        self, session: SessionId, index: Index, log_time_us: int, text: str
    ) -> Iterator[None]:
        """End a session, and tell its resources and its client; the text is what the client is
        told."""
        address = self._forget_session(session)
        resources: list[ResourceId] = self.step(address, Ending())
        while not self.step(address, Forget()):
            yield
        self.end(address)
        for resource in resources:
            end = EndSession(index, log_time_us, session, self._effects)
            self.step(self._router.resources[resource], end)
            self._settle_effects(index)
            yield
        attachment = self._attachments.detach(session)
        if attachment is not None:
            self.send(attachment.connection, SessionEnded(session, text))

    def _forget_session(self, session: SessionId) -> NodeAddress:
        """Let a session be no more for all others; returns its actor."""
        address = self._sessions.pop(session)
        del self._nonces[self._progress.nonces.pop(session)]
        del self._progress.sequences[session]
        self._progress.cut.pop(session, None)
        self._reads.moved(session)
        self._due.drop_session(session)
        return address

    def _settle_effects(self, index: Index) -> None:
        """Sort what machines asked for: events to their sessions, timers into the queue."""
        for effect in self._effects:
            if type(effect) is Publication:
                self._fan_out.add(effect)
            elif type(effect) is Scheduling:
                # Later than this entry, or a call that schedules itself would never let it end.
                due_us = max(effect.due_us, self._log_time_us + 1)
                self._due.add_timer(due_us, index, effect.timer, effect.resource)
            else:
                self._due.cancel_timer(effect.timer, effect.resource)
        self._effects.clear()


class _NotMadeError(Exception):
    """A constructor of users ended by an exception; the text is what the client is told."""


def _not_opened(batch: Batch, text: str, reason: Refusal) -> Refused:
    request = int(Request.OPEN_RESOURCE)
    return Refused(batch.session, request, batch.first_sequence, int(reason), text)
