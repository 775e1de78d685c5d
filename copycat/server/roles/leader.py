"""The leader appends what clients propose, replicates it, and knows what is committed (§3.5, §6).

It takes proposals and reads only when its own first entry has been applied here: from then on the
replicated state and its own appends tell it all sequences and sessions.

Invariants: only an entry of the own term moves the commit index (§3.6.2); the own log counts as
far as it is durable; nothing is appended after a pause in which another may have been elected.
"""

from collections import deque
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.actors.codec import decode
from copycat.protocol.client import Refusal
from copycat.protocol.raft import AppendEntries, Propose, ReadIndex, ReadIndexReply
from copycat.server.log_time import US_PER_S, LogClock
from copycat.server.peers import Following
from copycat.server.replicator import Replicator
from copycat.server.roles.role import Role
from copycat.server.steps import (
    AskFollowing,
    Begin,
    Durable,
    PeerAnswered,
    PeerLinked,
    Reached,
    Replicate,
    Retire,
    Tick,
)
from copycat.server.window import EARLY_MAX, Held, Sequencer
from copycat.storage.batch import (
    COMMANDS_PER_BATCH_MAX,
    OPERATIONS_BYTES_MAX,
    Batch,
    BatchKind,
    bundled,
)
from copycat.types import Index

if TYPE_CHECKING:
    from copycat.server.server import Server

OPEN_BYTES_MAX = 64 << 20
"""How much may be appended and not yet committed before proposals are refused; a new leader
keeps no more either until it serves."""

ROOM_TIMES = 16
"""A proposal needs room for so many of its size, unless nothing is open: small ones find room where
large ones do not."""

SIGNS_OF_LIFE_BYTES_MAX = 16 << 20
"""So much more may be open when a session gives a sign of life or ends, which the commands of others
must not hold up: as many sessions as there may be find room in it."""

SESSIONS_MAX = 100_000
RESOURCES_MAX = 100_000
"""How many a cluster has; what is on its way when a limit is reached still gets through."""

TICK_AFTER_US = 60 * US_PER_S
"""So much log time passes at most without an entry while something is pending; it is what is lost
when all servers start again."""

_COMMANDS = BatchKind.COMMANDS  # to look it up takes as long as much else that a command needs
_NEVER_HELD_UP = {BatchKind.KEEP_ALIVE, BatchKind.CLOSE_SESSION}


def _room_bytes(message: Propose) -> int:
    """How much may be open already when this is appended."""
    if message.kind in _NEVER_HELD_UP:
        return OPEN_BYTES_MAX + SIGNS_OF_LIFE_BYTES_MAX
    return max(OPEN_BYTES_MAX - ROOM_TIMES * len(message.operations), 0)


class Rounds:
    """Confirmations of leadership, shared with the replicators.

    Attributes:
        current: the round that requests carry now.
        sent: the highest round that any request has carried.
    """

    def __init__(self) -> None:
        self.current = 1
        self.sent = 0


class Leader(Role):
    """The role of the one server that appends."""

    title = "leader"

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        assert server.ballot.voted_for == server.identity.server_id, "a leader voted for itself"
        assert server.ballot.durable == server.ballot.written, "votes come when the term is durable"
        self._term = server.ballot.term
        self._ticked_s = server.now_s()
        self._log_clock = LogClock(
            server.now_s, max(server.heard_log_time.latest_us, server.log.last_log_time_us)
        )
        self._rounds = Rounds()
        self._following = {name: Following(self._ticked_s) for name in server.peers}
        self._replicators: dict[str, NodeAddress] = {}
        self._sequencer = Sequencer(server.progress.sequences, server.progress.cut)
        self._early: list[tuple[Propose | ReadIndex, NodeAddress]] = []
        self._early_bytes = 0
        self._gathered: list[Held] = []  # commands that are appended at the end of the turn
        self._gathered_count = 0
        self._gathered_bytes = 0
        self._reads: list[tuple[int, Index, NodeAddress, int]] = []  # round, index, asker, request
        self._open: deque[tuple[Index, int]] = (
            deque()
        )  # last index and bytes of what is not committed
        self._open_bytes = 0
        self._ready = False
        self._first_index = server.log.last_index + 1
        self._append(BatchKind.NO_OP)
        server.progress.wanted_index = self._first_index

    def begin(self, message: Begin, sender: NodeAddress) -> None:
        """Make the replicators, and say that this server leads."""
        for name, peer in self.server.peers.items():
            self._replicators[name] = self.spawn(
                Replicator, self.server, self.address, peer, self._following[name], self._rounds,
                self._log_clock,
            )  # fmt: skip
        self._replicate(announce=True)

    # Time.

    def tick(self, message: Tick, sender: NodeAddress) -> float:
        """Say that this server leads; step down when no majority hears it."""
        options = self.server.options
        if self._paused_or_cut_off(message.now_s):
            return message.now_s
        self._ticked_s = message.now_s
        if self._has_to_tick():
            self._append(BatchKind.TICK)
        self._replicate(announce=False)
        return message.now_s + options.heartbeat_s

    def _has_to_tick(self) -> bool:
        """Whether something is due, or might be late by too much if all servers started again."""
        due_us, log = self.server.progress.next_due_us, self.server.log
        if (
            not self._ready
            or due_us is None
            or log.last_index != self.server.progress.applied_index
        ):
            return False
        return self._log_clock.now_us() >= min(due_us, log.last_log_time_us + TICK_AFTER_US)

    def _paused_or_cut_off(self, now_s: float) -> bool:
        """Step down when this server slept, or when a majority has been silent, for too long."""
        limit_s = self.server.options.election_timeout_max_s
        contacts = sorted((f.contact_s for f in self._following.values()), reverse=True)
        needed = self.server.options.majority - 1  # besides this server
        if now_s - self._ticked_s > limit_s:
            reason = f"slept for {now_s - self._ticked_s:.1f} s"
        elif needed and now_s - contacts[needed - 1] > limit_s:
            reason = f"no majority answered for {now_s - contacts[needed - 1]:.1f} s"
        else:
            return False
        self.server.note("warning", f"stepped down in term {self._term}: {reason}")
        self.server.become_follower()
        return True

    def _has_slept(self) -> bool:
        """Whether another may have been elected meanwhile; this server has stepped down then."""
        now_s = self.server.now_s()
        if now_s - self._ticked_s <= self.server.options.election_timeout_max_s:
            return False
        return self._paused_or_cut_off(now_s)

    # Proposals.

    def propose(self, message: Propose, sender: NodeAddress) -> None:
        """Append what a connection proposes, in the order of its session."""
        if self._has_slept():
            self.server.forward(message, sender)
            return
        if not self._ready:
            self._keep_early(message, sender)
            return
        if self._open_bytes > _room_bytes(message):
            text = f"{self._open_bytes:,} bytes wait to be committed"
            self._refuse(message, sender, Refusal.OVERLOADED, text)
            return
        if message.session > self.server.progress.applied_index:
            # Another server has applied its opening already; here it may not be called unknown.
            text = (
                f"{self.server.options.name} has not applied as much as session {message.session}"
            )
            self._refuse(message, sender, Refusal.OVERLOADED, text)
        elif message.kind == _COMMANDS:
            self._propose_commands(message, sender)
        elif message.kind == BatchKind.OPEN_SESSION:
            if len(self.server.progress.sequences) < SESSIONS_MAX:
                self._append_proposal(message)
            else:
                text = (
                    f"the cluster has {SESSIONS_MAX:,} sessions and opens no more: close clients,"
                    " or let sessions expire"
                )
                self._refuse(message, sender, Refusal.OVERLOADED, text)
        elif self._knows_session(message, sender):
            if message.kind == BatchKind.OPEN_RESOURCE and self._may_not_open(message, sender):
                return
            self._append_gathered()
            self._append_proposal(message)

    def _propose_commands(self, message: Propose, sender: NodeAddress) -> None:
        verdict = self._sequencer.arrive(message, sender)
        if verdict is None:
            return
        if isinstance(verdict, Refusal):
            text = {
                Refusal.UNKNOWN_SESSION: "the session has ended",
                Refusal.OVERLOADED: "too many commands came ahead of their turn",
            }[verdict]
            self._refuse(message, sender, verdict, text)
            return
        for held in verdict:
            self._gather(held)

    def _gather(self, held: Held) -> None:
        """Have commands appended at the end of the turn, in one batch with others that come in it."""
        count, size_bytes = held[0].count, len(held[0].operations)
        if (
            self._gathered_count + count > COMMANDS_PER_BATCH_MAX
            or self._gathered_bytes + size_bytes > OPERATIONS_BYTES_MAX
        ):
            self._append_gathered()
        self._gathered.append(held)
        self._gathered_count += count
        self._gathered_bytes += size_bytes
        self.server.flush_soon()

    def _append_gathered(self) -> None:
        gathered = self._gathered
        if len(gathered) == 1:
            self._append_proposal(gathered[0][0])
        elif gathered:
            parts = [
                (
                    each.session, each.first_sequence, each.count,
                    each.response_sequence, each.event_sequence, each.operations,
                )
                for each, _ in gathered
            ]  # fmt: skip
            self._append(BatchKind.BUNDLE, count=self._gathered_count, operations=bundled(parts))
        gathered.clear()
        self._gathered_count = self._gathered_bytes = 0

    def _knows_session(self, message: Propose, sender: NodeAddress) -> bool:
        if message.session in self.server.progress.sequences:
            return True
        self._refuse(message, sender, Refusal.UNKNOWN_SESSION, "the session has ended")
        return False

    def _may_not_open(self, message: Propose, sender: NodeAddress) -> bool:
        """Refuse to open a type of resource that a voter does not know, or one resource more."""
        name, kind, version = decode(message.operations)
        resources = self.server.progress.resources
        if len(resources) >= RESOURCES_MAX and name not in resources:
            text = f"the cluster has {RESOURCES_MAX:,} resources and makes no more: use names again"
            self._refuse(message, sender, Refusal.OVERLOADED, text)
            return True
        wanted = f"{kind}/{version}"
        known = {self.server.options.name: self.server.offers}
        known |= {
            peer.name: peer.offers for peer in self.server.peers.values() if peer.offers is not None
        }
        lacking = [name for name, offers in known.items() if wanted not in offers]
        if lacking:
            text = f"{', '.join(lacking)} does not know the type {kind} version {version}"
            self._refuse(message, sender, Refusal.LACKS_TYPE, text)
        return bool(lacking)

    def _append_proposal(self, proposal: Propose) -> None:
        self._append(
            BatchKind(proposal.kind),
            session=proposal.session,
            first_sequence=proposal.first_sequence,
            count=proposal.count,
            response_sequence=proposal.response_sequence,
            event_sequence=proposal.event_sequence,
            operations=proposal.operations,
        )

    def _append(
        self,
        kind: BatchKind,
        *,
        session: int = 0,
        first_sequence: int = 0,
        count: int = 1,
        response_sequence: int = 0,
        event_sequence: int = 0,
        operations: bytes = b"",
    ) -> None:
        server = self.server
        batch = Batch.encode(
            kind=kind,
            base_index=server.log.last_index + 1,
            count=count,
            term=self._term,
            log_time_us=self._log_clock.now_us(),
            wall_time_us=round(self.environment.clock.wall_time_s() * 1_000_000),
            session=session,
            first_sequence=first_sequence,
            response_sequence=response_sequence,
            event_sequence=event_sequence,
            operations=operations,
        )
        server.log.append(batch)
        self._open.append((batch.last_index, len(batch.record)))
        self._open_bytes += len(batch.record)
        server.flush_soon()

    def _keep_early(self, message: Propose | ReadIndex, sender: NodeAddress) -> None:
        size_bytes = len(message.operations) if isinstance(message, Propose) else 0
        if len(self._early) < EARLY_MAX and self._early_bytes + size_bytes <= OPEN_BYTES_MAX:
            self._early.append((message, sender))
            self._early_bytes += size_bytes
        else:
            self._refuse_to_lead(message, sender)

    def reached(self, message: Reached, sender: NodeAddress) -> None:
        """The own first entry has been applied: begin to serve."""
        if self._ready or self.server.progress.applied_index < self._first_index:
            return
        self._ready = True
        self._log_clock.start()
        early, self._early = self._early, []
        for request, asker in early:
            if isinstance(request, Propose):
                self.propose(request, asker)
            else:
                self.read_index(request, asker)

    # Replication and commitment.

    def replicate(self, message: Replicate, sender: NodeAddress) -> None:
        """Append what has come in this turn, and have every follower sent what it lacks."""
        if self._gathered:
            if self._has_slept():
                return
            self._append_gathered()
        self._replicate(announce=message.announce)

    def ask_following(self, message: AskFollowing, sender: NodeAddress) -> dict[str, Following]:
        """What is known of the followers."""
        return self._following

    def _replicate(self, *, announce: bool) -> None:
        for replicator in self._replicators.values():
            self.step(replicator, Replicate(announce))

    def peer_linked(self, message: PeerLinked, sender: NodeAddress) -> None:
        """A follower can be reached (again)."""
        self.step(self._replicators[message.name], message)

    def durable(self, message: Durable, sender: NodeAddress) -> None:
        """The own log counts now, as far as it is durable."""
        self._advance_commit_index()

    def peer_answered(self, message: PeerAnswered, sender: NodeAddress) -> None:
        """A follower has more, or has confirmed that this server leads."""
        self._advance_commit_index()
        self._confirm_reads()

    def _advance_commit_index(self) -> None:
        server = self.server
        matches = sorted(
            [0 if f.has_lost_data else f.match_index for f in self._following.values()]
            + [server.log.synced_index]
        )
        index = matches[-server.options.majority]
        if index <= server.commit_index or server.log.term_at(index) != self._term:
            return
        server.commit_to(index)
        while self._open and self._open[0][0] <= index:
            self._open_bytes -= self._open.popleft()[1]
        for name, following in self._following.items():
            if following.serves_clients:
                self.step(self._replicators[name], Replicate(True))

    # Reads.

    def read_index(self, message: ReadIndex, sender: NodeAddress) -> None:
        """Answer when a majority has confirmed, after this moment, that this server leads (§6.4)."""
        if not self._ready:
            self._keep_early(message, sender)
            return
        if self._rounds.sent >= self._rounds.current:
            self._rounds.current += 1
        self._reads.append(
            (self._rounds.current, self.server.commit_index, sender, message.request)
        )
        self.server.flush_soon()
        if not self._following:
            self._rounds.sent = self._rounds.current
            self._confirm_reads()

    def _confirm_reads(self) -> None:
        if not self._reads:
            return
        rounds = sorted([f.round for f in self._following.values()] + [self._rounds.current])
        confirmed = rounds[-self.server.options.majority]
        waiting = []
        for read in self._reads:
            number, index, asker, request = read
            if number <= confirmed:
                self.send(asker, ReadIndexReply(request, index))
            else:
                waiting.append(read)
        self._reads = waiting

    def retire(self, message: Retire, sender: NodeAddress) -> None:
        """Answer what is still open, before the role ends."""
        self.server.heard_log_time.hear(self._term, self._log_clock.now_us())
        for _, _, asker, number in self._reads:
            self.send(asker, ReadIndexReply(number, 0))
        held = [*self._early, *self._gathered, *self._sequencer.waiting()]
        self._reads, self._early, self._gathered = [], [], []
        for request, asker in held:
            self._refuse_to_lead(request, asker)

    def _refuse_to_lead(self, message: Propose | ReadIndex, sender: NodeAddress) -> None:
        if isinstance(message, Propose):
            super().propose(message, sender)
        else:
            super().read_index(message, sender)

    # Rivals.

    def append_entries(self, message: AppendEntries, sender: NodeAddress) -> None:
        """Only a deposed leader can still send this: one term has one leader (§3.2)."""
        assert message.term < self._term, "a term has one leader"
        self._reject(message, sender, 0)
