"""A Replicator brings one follower up to date and keeps it there (dissertation §3.5, §10.2.1).

It *probes*, one request at a time, until the follower has accepted one; then it *streams*, several
requests in flight, advancing ``next_index`` as it sends. Anything unexpected makes it probe again
from what is known to match, or from the end of the log while nothing is.

Invariants: ``match_index`` only grows and moves only by an accepted reply of this term;
``next_index`` is the base of a batch of the leader's log, or one past its end, and above the match
index unless a probe was refused there, which only a disk that lost something can cause.
"""

from collections import deque
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.protocol.raft import AppendEntries, AppendEntriesReply
from copycat.server.log_time import LogClock
from copycat.server.peers import Following, Peer
from copycat.server.server_actor import ServerActor
from copycat.server.steps import PeerAnswered, PeerLinked, Replicate, TermSeen
from copycat.types import Index, Term

if TYPE_CHECKING:
    from copycat.server.roles.leader import Rounds
    from copycat.server.server import Server

REQUEST_BYTES_MAX = 512 * 1024
REQUEST_BATCHES_MAX = 512  # small ones cost the follower more than their bytes
REQUESTS_IN_FLIGHT_MAX = 32
BYTES_IN_FLIGHT_MAX = 4 << 20  # far below what a link buffers before it gives up
PATIENCE_HEARTBEATS = 6  # without an answer for this long, what was sent counts as lost


class Replicator(ServerActor):
    """The leader's hand for one follower."""

    from_servers = frozenset((AppendEntriesReply,))

    def __init__(
        self,
        server: "Server",
        leader: NodeAddress,
        peer: Peer,
        following: Following,
        rounds: "Rounds",
        log_clock: LogClock,
    ) -> None:
        self.server = server
        self._leader = leader
        self._peer = peer
        self._following = following
        self._rounds = rounds
        self._log_clock = log_clock
        self._term: Term = server.ballot.term
        self._next_index: Index = server.log.last_index + 1
        self._probing = True
        self._in_flight: deque[tuple[Index, int]] = deque()  # last index and bytes of a request
        self._in_flight_bytes = 0
        self._asked_s = float("-inf")  # when the oldest unanswered request left
        self._sent_s = float("-inf")
        self._sent_round = 0

    def replicate(self, message: Replicate, sender: NodeAddress) -> None:
        """Send what the follower lacks; failing that, an empty request if one is wanted."""
        if not self._peer.connected:
            return
        now_s = self.server.now_s()
        if self._in_flight and now_s - self._asked_s > self._patience_s:
            self._probe_again()
        sent = False
        log = self.server.log
        window = 1 if self._probing else REQUESTS_IN_FLIGHT_MAX
        while (
            self._next_index <= log.last_index
            and len(self._in_flight) < window
            and self._in_flight_bytes < BYTES_IN_FLIGHT_MAX
        ):
            found = log.records_from(self._next_index, REQUEST_BYTES_MAX, REQUEST_BATCHES_MAX)
            self._send(now_s, *found)
            sent = True
        if not sent and (
            message.announce
            or self._sent_round < self._rounds.current
            or now_s - self._sent_s >= self.server.options.heartbeat_s * 0.9
        ):
            self._send(now_s, [], self._next_index - 1)

    def peer_linked(self, message: PeerLinked, sender: NodeAddress) -> None:
        """The link is new: what was sent over the old one may be lost."""
        self._probe_again()
        self.replicate(Replicate(True), sender)

    def append_entries_reply(self, message: AppendEntriesReply, sender: NodeAddress) -> None:
        """Learn from an answer, and send on."""
        if message.term > self._term:
            self.send(self.server.address, TermSeen(message.term))
            return
        if message.term < self._term:
            return
        following = self._following
        following.contact_s = self.server.now_s()
        following.serves_clients = message.serves_clients
        following.round = max(following.round, message.round)
        if message.accepted:
            self._accepted(message.match_index)
        elif message.match_index < self._next_index - 1 or self._in_flight:
            # Below what matched only when a probe was refused: the follower's disk has lost that.
            floor = 0 if self._probing else following.match_index
            self._probe_again()
            hint = max(floor, message.match_index)
            log = self.server.log
            self._next_index = log.end_at_or_before(min(hint, log.last_index)) + 1
        self.send(self._leader, PeerAnswered())
        self.replicate(Replicate(False), sender)

    def _accepted(self, match_index: Index) -> None:
        following, in_flight = self._following, self._in_flight
        following.match_index = max(following.match_index, match_index)
        while in_flight and in_flight[0][0] <= match_index:
            self._in_flight_bytes -= in_flight.popleft()[1]
        self._asked_s = self.server.now_s()
        self._probing = False
        self._next_index = max(self._next_index, match_index + 1)

    def _send(self, now_s: float, records: list[bytes], last_index: Index) -> None:
        log = self.server.log
        prev_index = self._next_index - 1
        request = AppendEntries(
            self._term,
            self.server.identity.server_id,
            prev_index,
            log.term_at(prev_index),
            self.server.commit_index,
            self._rounds.current,
            tuple(records),
            self._log_clock.now_us(),
        )
        self._rounds.sent = max(self._rounds.sent, self._rounds.current)
        self._sent_round = self._rounds.current
        self._sent_s = now_s
        if records:
            if not self._in_flight:
                self._asked_s = now_s
            self._next_index = last_index + 1
            size_bytes = sum(map(len, records))
            self._in_flight.append((last_index, size_bytes))
            self._in_flight_bytes += size_bytes
        self.send(self._peer.address, request)
        self.environment.links.flush(self._peer.name)

    def _probe_again(self) -> None:
        self._probing = True
        self._in_flight.clear()
        self._in_flight_bytes = 0
        # What the follower has is not known before it has accepted anything: its refusal says where
        # to go on, and the whole log need not be sent again.
        self._next_index = (self._following.match_index or self.server.log.last_index) + 1

    @property
    def _patience_s(self) -> float:
        return PATIENCE_HEARTBEATS * self.server.options.heartbeat_s
