"""The Server: owner of ballot, log and outbox, home of the role and of everything it is lent.

Every Raft message comes here first. The Server compares terms; on a higher one it becomes a
follower, then gives the same message to the new role. Disk completions come here too, and what
waited for them leaves by the outbox.

At a first start it draws an id, exchanges ids with every server in its options, writes down which
servers they are, and only then takes part. Later the options are only compared.
"""

from typing import TYPE_CHECKING, NamedTuple, cast, get_args

from thespian.actors import WakeupMessage

from copycat.actors import NodeAddress
from copycat.actors.environment import DiskDone, NodeConnected, NodeDisconnected, NodeUnreachable
from copycat.protocol.client import AttachSession, DetachSession, OpenSession
from copycat.protocol.raft import AppendEntries, PreVote, Propose, ReadIndex, RequestVote
from copycat.protocol.status import AskStatus
from copycat.server.applier import Applier
from copycat.server.connection import Connection
from copycat.server.introductions import Introduction, Introductions
from copycat.server.log_time import HeardLogTime
from copycat.server.membership import Membership
from copycat.server.notes import Notes
from copycat.server.options import ServerOptions
from copycat.server.outbox import Outbox
from copycat.server.peers import Following, Peer
from copycat.server.progress import Attachments, Progress
from copycat.server.readiness import Readiness
from copycat.server.reads import Reads
from copycat.server.roles.candidate import Candidate
from copycat.server.roles.follower import Follower
from copycat.server.roles.inactive import Inactive
from copycat.server.roles.leader import Leader
from copycat.server.roles.role import Role
from copycat.server.server_actor import ServerActor
from copycat.server.status import Counters, status_of
from copycat.server.steps import (
    Advance,
    AskFollowing,
    Begin,
    ConnectionGone,
    Durable,
    Flush,
    LeaderLost,
    LeaderNews,
    PeerLinked,
    Reached,
    Replicate,
    Retire,
    TermSeen,
    Tick,
)
from copycat.server.under_way import UnderWay
from copycat.server.users_code import UsersCode
from copycat.storage.ballot import Ballot
from copycat.storage.log import Log
from copycat.types import Index, Term

if TYPE_CHECKING:
    from copycat.storage.identity import ServerIdentity


CLOCK_NOTED_S = 0.001  # a monotonic clock that was set back by so much is noted


LOOK_AFTER_S = 0.4
"""So often it is looked whether the server is idle; what it wrote last is then promised within a
second of its writing: at the second look, by one small sync or two."""


INTRODUCTIONS = frozenset(get_args(Introduction))


class Look(NamedTuple):
    """What a look for idleness compares with: how often the log had changed at the one before."""

    written: int


class Server(ServerActor):
    """One server of the cluster."""

    from_anybody = frozenset((OpenSession, AttachSession, DetachSession, AskStatus))
    from_servers = frozenset((AppendEntries, PreVote, RequestVote, Propose, ReadIndex))

    def __init__(self, options: ServerOptions) -> None:
        """Load what is on the disk and begin.

        Raises:
            StorageError: what is on the disk is damaged or cannot be read.
            ConfigurationError: the options contradict what is on the disk.
        """
        disk = self.environment.disk
        self.server = self
        self.options = options
        self.now_s = self.environment.clock.monotonic_s
        self.users_code = UsersCode(options.recursion, options.failed_entries)
        self.offers = self._offers()
        self.ballot = Ballot(disk)
        self.log = Log(disk, segment_bytes=options.segment_bytes)
        self.outbox = Outbox(self.ballot, self.log)
        self.progress = Progress()
        self.readiness = Readiness(
            self.now_s, self.log, self.progress, options.election_timeout_min_s
        )
        self.attachments = Attachments()
        self.under_way = UnderWay(self.progress.sequences, 2 * options.election_timeout_max_s)
        self.notes = Notes(self.environment.clock, options.name)
        self.counters = Counters(self.now_s())
        self.commit_index: Index = 0
        self.behind_since_s = 0.0  # when something was committed while all was applied
        self.peers = {
            name: Peer(name, endpoint)
            for name, endpoint in options.peers.items()
            if name != options.name
        }
        self.endpoints = tuple(options.peers.values())
        self.connections: dict[str, NodeAddress] = {}
        self.leader: str | None = None  # its name
        self.pre_votes_asked = 0  # rounds of them, in the life of this server
        self._leader_heard_s = float("-inf")
        self.heard_log_time = HeardLogTime()
        self._clock_set_back_s = 0.0  # as was noted
        self._flushing = False
        self._applies_after_sync = False
        self._planned_s = float("inf")  # the earliest wake-up that is under way
        self.applier = self.spawn(
            Applier, self.address, self.log, options.catalog, self.progress, self.attachments,
            self.users_code,
        )  # fmt: skip
        self.reads = self.spawn(Reads, self)
        self.role_title = Inactive.title
        self.role = self.spawn(Inactive, self)
        self.environment.links.watch(self.address)
        self.environment.links.guard()
        self._looking = False  # whether there is a look under way for idleness
        self.introductions = Introductions(self, disk)
        self.membership = Membership(self, disk)
        # What is known to be committed is applied before anybody leads, and so an election may
        # find a server that is ready.
        self.commit_to(self.log.floor.promise.last_index)

    # What the roles are lent.

    @property
    def identity(self) -> "ServerIdentity":
        """This server's own name and id."""
        return self.membership.identity

    @property
    def serves_clients(self) -> bool:
        """Whether somebody here waits to learn of a new commit index at once."""
        return bool(self.attachments.sessions)

    @property
    def leader_address(self) -> NodeAddress | None:
        """Where proposals go; None when no leader is known."""
        if self.leader is None:
            return None
        return self.address if self.leader == self.options.name else self.peers[self.leader].address

    @property
    def leader_endpoint(self) -> str:
        """The leader's endpoint; empty when no leader is known."""
        return self.options.peers[self.leader] if self.leader is not None else ""

    def fail_entries(self, indexes: frozenset[Index]) -> None:
        """Have these commands be carried out by nobody; nothing may have been applied yet."""
        assert not self.progress.applied_index and not self.membership.introduced, "it is too late"
        self.users_code.failed_entries = indexes
        self.offers = self._offers()

    def _offers(self) -> tuple[str, ...]:
        """What it says of itself in its HELLO."""
        return (*self.options.catalog.offers(), *self.users_code.offers, self.options.timing)

    def following(self) -> dict[str, Following]:
        """What a leader knows of its followers by name; empty on a server that does not lead."""
        return cast("dict[str, Following]", self.step(self.role, AskFollowing()))

    def draw_election_timeout_s(self) -> float:
        """A fresh random election time-out."""
        options = self.options
        return self.environment.random.uniform(
            options.election_timeout_min_s, options.election_timeout_max_s
        )

    def is_up_to_date(self, last_term: Term, last_index: Index) -> bool:
        """Whether a log that ends like this is not behind the own one (§3.6.1)."""
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def hears_leader(self) -> bool:
        """Whether a leader was heard so recently that no election is in order (§4.2.3)."""
        return (
            self.leader is not None
            and self.now_s() - self._leader_heard_s < self.options.election_timeout_min_s
        )

    def hear_leader(self, server_id: int) -> None:
        """Note a valid request of the term's leader."""
        self._leader_heard_s = self.now_s()
        name = self.membership.name_of(server_id)
        if name != self.leader:
            self.leader_is(name)

    def leader_is(self, name: str | None) -> None:
        """Note who leads, and tell those who wait for a leader."""
        if name == self.leader:
            return
        self.leader = name
        self.under_way.clear()
        if name is not None:
            self.note("info", f"{name} leads in term {self.ballot.term}")
        self.send(self.reads, LeaderNews())
        for connection in self.connections.values():
            self.send(connection, LeaderNews())

    def commit_to(self, index: Index, *, after_sync: bool = False) -> None:
        """Move the commit index; it never goes back.

        Args:
            index: the new one, if it is one.
            after_sync: apply when the sync that is due has ended, for the leader waits for that.
        """
        if index > self.commit_index:
            assert index <= self.log.last_index, "what is committed is in the log"
            if self.progress.applied_index >= self.commit_index:
                self.behind_since_s = self.now_s()
            self.commit_index = index
            if not self._looking:
                self._look_later()
            self.readiness.committed(index)
            if after_sync and self.log.durable < self.log.written:
                self._applies_after_sync = True
            else:
                self.send(self.applier, Advance(index))

    def flush_soon(self) -> None:
        """Sync and replicate at the end of what has arrived by now."""
        if not self._flushing:
            self._flushing = True
            self.send(self.address, Flush())

    def note(self, level: str, text: str) -> None:
        """Log something an operator may want to know, and keep it for status."""
        self.notes.add(level, text)

    # Roles.

    def become_follower(self, patience_s: float | None = None) -> None:
        """Follow whoever leads, and ask for an election after a while."""
        self._become(Follower, patience_s)

    def become_candidate(self) -> None:
        """Stand for election in a new term."""
        self.counters.elections_started += 1
        self._become(Candidate)

    def become_leader(self) -> None:
        """Lead: a majority has voted for this server in this term."""
        self.note("info", f"elected leader in term {self.ballot.term}")
        self._become(Leader)
        self.leader_is(self.options.name)

    def _become(self, role: type[Role], *arguments: object) -> None:
        was = self.role_title
        if role is not Leader:
            self._leader_heard_s = float("-inf")
        self.step(self.role, Retire())
        self.end(self.role)
        if was == Leader.title:
            self.leader_is(None)
        self.role_title = role.title
        self.role = self.spawn(role, self, *arguments)
        self.step(self.role, Begin())
        self._tick()

    def observe_term(self, term: Term) -> None:
        """Enter a higher term as a follower."""
        assert term > self.ballot.term, "only a higher term is entered"
        self.ballot.raise_term(term)
        self.ballot.start_sync(self.address)
        self.leader_is(None)
        self.become_follower()

    def forward(self, message: object, sender: NodeAddress) -> object:
        """Give a message to the role that the server has now."""
        return self.step(self.role, message, sender)

    # Messages between servers.

    def append_entries(self, message: AppendEntries, sender: NodeAddress) -> None:
        """A leader replicates."""
        if message.term > self.ballot.term and self.membership.established:
            self.observe_term(message.term)
        self.forward(message, sender)

    def pre_vote(self, message: PreVote, sender: NodeAddress) -> None:
        """A follower asks whether it could win."""
        self.forward(message, sender)

    def request_vote(self, message: RequestVote, sender: NodeAddress) -> None:
        """A candidate asks for a vote; while a leader is alive its term is not even looked at."""
        if (
            message.term > self.ballot.term
            and self.membership.established
            and self.role_title != Leader.title
            and not self.hears_leader()
        ):
            self.observe_term(message.term)
        self.forward(message, sender)

    def term_seen(self, message: TermSeen, sender: NodeAddress) -> None:
        """A reply carried a higher term."""
        if message.term > self.ballot.term:
            self.observe_term(message.term)

    def asked_of_leader(self, message: Propose | ReadIndex, sender: NodeAddress) -> None:
        """A connection proposes, or asks for a read index."""
        self.step(self.role, message, sender)

    def reached(self, message: Reached, sender: NodeAddress) -> None:
        """The Applier has come to the index that the role waits for."""
        self.forward(message, sender)

    # Disk, time and links.

    def disk_done(self, message: DiskDone, sender: NodeAddress) -> None:
        """The disk has finished something; an error of it stops the server."""
        for owner in (self.log, self.ballot, self.introductions.lives, *self.membership.files):
            if owner.owns(message.token):
                owner.handle(message)
                if owner is self.ballot:
                    self._look_later()
                break
        self.membership.disk_done()
        self.introductions.disk_done()
        self.outbox.release()
        if self._applies_after_sync:
            self._applies_after_sync = False
            self.send(self.applier, Advance(self.commit_index))
        self.step(self.role, Durable())

    def flush(self, message: Flush, sender: NodeAddress) -> None:
        """On a leader, send to the followers; then write to the own disk, while they do so too."""
        self._flushing = False
        self.step(self.role, Replicate(False))
        self.log.start_sync(self.address)

    def wake_up(self, message: WakeupMessage, sender: NodeAddress) -> None:
        """The one timer; a wake-up that an earlier one has replaced is ignored."""
        if message.payload == self._planned_s:
            self._planned_s = float("inf")
            self._tick()
        elif type(message.payload) is Look:
            self._looking = False
            self._look(message.payload)
        elif callable(message.payload):
            message.payload()

    def _look_later(self) -> None:
        """See in a while whether the server is idle, and what it has can be promised."""
        if not self._looking:
            self._looking = True
            self.wake_after(LOOK_AFTER_S, Look(self.log.written))

    def _look(self, earlier: "Look") -> None:
        log, ballot = self.log, self.ballot
        if (
            earlier.written == log.written == log.durable
            and ballot.durable == ballot.written
            and log.raise_floor(self.commit_index, (ballot.term, ballot.voted_for))
        ):
            return
        self._look_later()

    def _tick(self) -> None:
        set_back_s = self.environment.clock.set_back_s
        if set_back_s - self._clock_set_back_s >= CLOCK_NOTED_S:
            by_s, self._clock_set_back_s = set_back_s - self._clock_set_back_s, set_back_s
            self.note(
                "warning",
                f"the machine set its monotonic clock back by {by_s:.3f} s, which it must never do;"
                " this server goes on as if it had not",
            )
        now_s = self.now_s()
        self._wake_at(self.step(self.role, Tick(now_s)), now_s)

    def wake_at(self, moment_s: float) -> None:
        """Tick the role at this moment, if nothing earlier does. Later ticks find what is due."""
        self._wake_at(moment_s, self.now_s())

    def _wake_at(self, moment_s: float, now_s: float) -> None:
        if moment_s < self._planned_s:
            self._planned_s = moment_s
            self.wake_after(max(0.0, moment_s - now_s), moment_s)

    def node_connected(self, message: NodeConnected, sender: NodeAddress) -> None:
        """A link is up: to a peer, or from a client."""
        peer = self.peers.get(message.node)
        if peer is None:
            self.membership.stranger_connected(message)
        elif not self.users_code.agrees_with(message.offers):
            self.membership.refuse_decisions(message)
        elif self.membership.peer_connected(peer, message):
            peer.links[message.endpoint, message.incarnation] = None
            peer.offers = message.offers
            self.membership.compare_timing(message)
            self.users_code.see_offers(
                each.offers for each in self.peers.values() if each.offers is not None
            )
            self.introductions.linked(peer, message.incarnation)
            if message.endpoint:
                self.introductions.sought(peer)

    def introduction(self, message: Introduction, sender: NodeAddress) -> None:
        """A peer says which life it is in, or which life of this server it knows."""
        self.introductions.handle(message, sender)

    def admits_from_anybody(self, kind: type, sender: NodeAddress) -> bool:
        """Who is linked may introduce itself; nothing else is taken before it has."""
        if kind in INTRODUCTIONS:
            return self.introductions.is_linked(sender)
        return kind in self.from_anybody

    def node_disconnected(self, message: NodeDisconnected, sender: NodeAddress) -> None:
        """A link has gone."""
        peer = self.peers.get(message.node)
        if peer is None:
            connection = self.connections.pop(message.node, None)
            if connection is not None:
                self.attachments.drop(connection)
                self.send(self.applier, ConnectionGone(connection, message.node))
                self.send(self.reads, ConnectionGone(connection, message.node))
                self.end(connection)
            return
        link = (message.endpoint, message.incarnation)
        if link not in peer.links:
            return  # somebody else had come by this name, and was refused
        del peer.links[link]
        self.introductions.unlinked(peer, message.incarnation)
        if peer.connected:
            self.step(self.role, PeerLinked(peer.name))
        if (
            message.node == self.leader
            and message.incarnation == peer.incarnation
            and self.role_title != Leader.title
        ):
            self._leader_heard_s = float("-inf")
            self.under_way.clear()
            self.step(self.role, LeaderLost())

    def node_unreachable(self, message: NodeUnreachable, sender: NodeAddress) -> None:
        """A dialled peer did not answer, or refused this server."""
        self.membership.unreachable(message)
        if message.refused:
            self.membership.refused(message)
            return
        for peer in self.peers.values():
            if peer.endpoint == message.endpoint:
                self.introductions.sought(peer)

    # Clients.

    def client_arrived(
        self, message: OpenSession | AttachSession | DetachSession, sender: NodeAddress
    ) -> None:
        """A client speaks to this server for the first time; its Connection answers."""
        if sender.node in self.peers:
            return  # it came by the name of a server, and is being refused
        connection = self.connections.get(sender.node)
        if connection is None:
            connection = self.connections[sender.node] = self.spawn(Connection, self, sender.node)
        self.step(connection, message, sender)

    def ask_status(self, message: AskStatus, sender: NodeAddress) -> None:
        """Tell what this server knows of itself."""
        self.send(sender, status_of(self, message.request))
