"""A Replicator brings one follower up to date and keeps it there (dissertation §3.5, §10.2.1).

Every request has a number that its answer repeats. So an answer is taken for what it says of its
own request: a late or doubled acceptance proves what the follower had then and no more, and a
rejection from before the present attempt proves nothing. What the follower has is either known,
then the Replicator *streams*: several requests in flight, ``next_index`` advancing as they leave;
or it is not, then it *probes* with empty requests, until one is accepted. Whoever was just elected
begins by streaming, one request at a time, with its own first entry: most followers lack no more.

**What counts as lost.** Nothing is sent again because time has passed. Over a live link everything
arrives, if need be after seconds, and nobody but the link's end can say that it will not: then, or
when another link takes over, it probes anew from what is known to match. Where single messages are
lost over a live link, as the simulated world has it, the next request shows it: each one, the empty
ones of the heartbeat too, names what must stand before it. It is rejected, and probing finds the
place from which to go on. So what is under way on a slow link is never doubled, and what was lost
is made good a heartbeat and two round trips later.

**Who is not fed.** A follower that has said nothing for some heartbeats is *silent*; it hears the
heartbeat, which carries leadership, and no batches, until it answers; then what was in flight still
is. The same holds while the link has too much that it has not taken yet. What was damaged on its
way goes again with growing pauses. One handler sends one request at most, and leaves the rest to
the next; its size follows the time that answers take, so that heartbeats never wait for long behind
it; and only a bounded number of batches is in flight, as small ones cost the follower more than
their bytes.

Invariants: ``match_index`` only grows and moves only by an accepted reply of this term;
``next_index`` is the base of a batch of the leader's log, or one past its end, and above the match
index.
"""

from collections import deque
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.actors.environment import LinkDrained
from copycat.protocol.raft import AppendEntries, AppendEntriesReply
from copycat.server.log_time import LogClock
from copycat.server.peers import Following, Peer
from copycat.server.server_actor import ServerActor
from copycat.server.steps import PeerAnswered, PeerLinked, Proceed, Replicate, TermSeen
from copycat.storage.batch import Batch
from copycat.storage.errors import BatchCorruptError, MemoryDamagedError
from copycat.types import Index, Term

if TYPE_CHECKING:
    from copycat.server.roles.leader import Rounds
    from copycat.server.server import Server

REQUEST_BYTES_MIN = 16 << 10
REQUEST_BYTES_FIRST = 64 << 10
REQUEST_BYTES_MAX = 512 << 10
REQUEST_BATCHES_MAX = 512
REQUESTS_IN_FLIGHT_MAX = 32
BATCHES_IN_FLIGHT_MAX = 1024
BYTES_IN_FLIGHT_MAX = 4 << 20  # far below what a link buffers before it gives up
UNSENT_BYTES_MAX = 128 << 10  # of all that waits for the link; beyond it only heartbeats follow
QUICK_HEARTBEATS = 1  # an answer that comes sooner lets requests grow
SLOW_HEARTBEATS = 4  # one that takes longer makes them smaller
PATIENCE_HEARTBEATS = 6  # a follower that has said nothing for this long is silent
PAUSES_MAX = 6  # how often the pause before what was damaged is sent again is doubled

Sent = tuple[int, Index, int, int, float]
"""A request with batches: number, last index, bytes and number of its batches, when it left."""


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
        """Begin with the last batch of the log, the leader's first."""
        self.server = server
        self._leader = leader
        self._peer = peer
        self._following = following
        self._rounds = rounds
        self._log_clock = log_clock
        self._term: Term = server.ballot.term
        self._before_term: Index = server.log.base_of(server.log.last_index) - 1
        self._next_index: Index = self._guess() + 1
        self._probing = False
        self._number = 0  # of the latest request
        self._attempt = 1  # a rejection of a request before this one is about the past
        self._after_match = 1  # the first request that was sent when the match index was known
        self._in_flight: deque[Sent] = deque()
        self._in_flight_bytes = 0
        self._in_flight_batches = 0
        self._request_bytes = REQUEST_BYTES_FIRST
        self._heard_s = server.now_s()
        self._sent_s = float("-inf")
        self._sent_round = 0
        self._damaged = 0  # how often in a row
        self._feeds_from_s = float("-inf")
        self._proceeding = False

    def replicate(self, message: Replicate, sender: NodeAddress) -> None:
        """Send what the follower lacks; failing that, an empty request if one is wanted."""
        if self._peer.connected:
            self._replicate(self.server.now_s(), announce=message.announce)

    def _replicate(self, now_s: float, *, announce: bool) -> None:
        heartbeat_s = self.server.options.heartbeat_s
        links, name = self.environment.links, self._peer.name
        is_wanted = (
            announce
            or self._sent_round < self._rounds.current
            or self._next_index <= self.server.log.last_index
        )
        ready = is_wanted and now_s - self._heard_s <= PATIENCE_HEARTBEATS * heartbeat_s
        if ready and links.unsent_bytes(name) > UNSENT_BYTES_MAX:
            ready = False
            links.ask_drained(name, self.address)
        if ready and self._may_feed(now_s):
            bytes_max = min(self._request_bytes, REQUEST_BYTES_MAX)
            log = self.server.log
            self._send(now_s, *log.records_from(self._next_index, bytes_max, REQUEST_BATCHES_MAX))
            if not self._proceeding and self._may_feed(now_s):
                self._proceeding = True
                self.send(self.address, Proceed())
        elif now_s - self._sent_s >= heartbeat_s * 0.9 or (
            ready and (announce or self._sent_round < self._rounds.current)
        ):
            self._send(now_s, [], self._next_index - 1)

    def _may_feed(self, now_s: float) -> bool:
        """Whether there is a batch to send, and room for it in flight."""
        return (
            self._next_index <= self.server.log.last_index
            and not self._probing
            and len(self._in_flight)
            < (REQUESTS_IN_FLIGHT_MAX if self._following.match_index else 1)
            and self._in_flight_bytes < BYTES_IN_FLIGHT_MAX
            and self._in_flight_batches < BATCHES_IN_FLIGHT_MAX
            and now_s >= self._feeds_from_s
        )

    def proceed(self, message: Proceed, sender: NodeAddress) -> None:
        """Send the next of what was too much for one request."""
        self._proceeding = False
        self.replicate(Replicate(False), sender)

    def link_drained(self, message: LinkDrained, sender: NodeAddress) -> None:
        """Go on: the link takes more."""
        self.replicate(Replicate(False), sender)

    def peer_linked(self, message: PeerLinked, sender: NodeAddress) -> None:
        """Another link is in use: what was sent over the old one may be lost."""
        self._heard_s = self.server.now_s()
        self._probe(self._guess() + 1)
        self.replicate(Replicate(True), sender)

    def append_entries_reply(self, message: AppendEntriesReply, sender: NodeAddress) -> None:
        """Learn from an answer, and send on."""
        if message.term > self._term:
            self.send(self.server.address, TermSeen(message.term))
            return
        if message.term < self._term:
            return
        following = self._following
        before = (following.match_index, following.has_lost_data, following.round)
        self._heard_s = self.server.now_s()
        rejected = False
        if message.accepted:
            self._accepted(message.request, message.match_index)
        elif message.match_index < following.match_index and message.request >= self._after_match:
            self._refuse(message.match_index)
        elif message.request >= self._attempt:
            rejected = True
            hint = max(following.match_index, message.match_index)
            log = self.server.log
            self._probe(log.end_at_or_before(min(hint, log.last_index)) + 1)
        if following.has_lost_data:
            return
        following.contact_s = self._heard_s
        following.serves_clients = message.serves_clients
        following.round = max(following.round, message.round)
        if before != (following.match_index, following.has_lost_data, following.round):
            self.send(self._leader, PeerAnswered())
        if self._peer.connected:
            self._replicate(self._heard_s, announce=rejected)

    def _accepted(self, request: int, match_index: Index) -> None:
        following = self._following
        if match_index > following.match_index or match_index >= self.server.commit_index:
            following.matched_s = self._heard_s
        if match_index > following.match_index:
            following.match_index = match_index
            self._after_match = self._number + 1
        self._next_index = max(self._next_index, match_index + 1)
        if request < self._attempt:
            return
        self._attempt = request + 1
        self._probing = False
        following.has_lost_data = False
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= request:
            number, last_index, size_bytes, batches, sent_s = in_flight.popleft()
            self._in_flight_bytes -= size_bytes
            self._in_flight_batches -= batches
            if number == request:
                self._adapt(self._heard_s - sent_s)
                if last_index > match_index:
                    self._send_again_later(match_index)
                    return
                self._damaged = 0

    def _adapt(self, took_s: float) -> None:
        """Let requests grow while they are answered soon, and shrink when they are not."""
        heartbeat_s = self.server.options.heartbeat_s
        if took_s < QUICK_HEARTBEATS * heartbeat_s:
            self._request_bytes = min(self._request_bytes * 2, REQUEST_BYTES_MAX)
        elif took_s > SLOW_HEARTBEATS * heartbeat_s:
            self._request_bytes = max(self._request_bytes // 2, REQUEST_BYTES_MIN)

    def _send_again_later(self, match_index: Index) -> None:
        """The follower could read a request only up to this index.

        Raises:
            MemoryDamagedError: it is here that the next batch is damaged.
        """
        record = self.server.log.records_from(match_index + 1, 0, 1)[0][0]
        try:
            Batch.decode(record)
        except BatchCorruptError as error:
            raise MemoryDamagedError(match_index + 1, error.reason) from error
        pause_s = self.server.options.heartbeat_s * 2 ** min(self._damaged, PAUSES_MAX)
        self._damaged += 1
        self._feeds_from_s = self._heard_s + pause_s
        self._probe(match_index + 1)
        self.server.note(
            "warning",
            f"{self._peer.name} was sent index {match_index + 1} and says that it was damaged on its"
            f" way; it is sent again in {pause_s:.2f} s",
        )

    def _refuse(self, match_index: Index) -> None:
        """The follower does not have what it had acknowledged before it was asked.

        It is probed on, and counts again when it has everything.
        """
        following = self._following
        following.has_lost_data = True
        self._probe(following.match_index + 1)
        self.server.membership.refuse_lost(
            self._peer,
            f"in term {self._term} it acknowledged the log up to {following.match_index}, and now"
            f" says that it has it up to {match_index} at most",
        )

    def _send(self, now_s: float, records: list[bytes], last_index: Index) -> None:
        log = self.server.log
        prev_index = self._next_index - 1
        self._number += 1
        request = AppendEntries(
            self._term,
            self.server.identity.server_id,
            prev_index,
            log.term_at(prev_index),
            self.server.commit_index,
            self._rounds.current,
            tuple(records),
            self._log_clock.us_at(now_s),
            self._number,
        )
        self._rounds.sent = max(self._rounds.sent, self._rounds.current)
        self._sent_round = self._rounds.current
        self._sent_s = now_s
        if records:
            self._next_index = last_index + 1
            size_bytes = sum(map(len, records))
            self._in_flight.append((self._number, last_index, size_bytes, len(records), now_s))
            self._in_flight_bytes += size_bytes
            self._in_flight_batches += len(records)
        self.send(self._peer.address, request)
        self.environment.links.flush(self._peer.name)

    def _guess(self) -> Index:
        """What the follower is believed to have when nothing that is under way counts: what is
        known to match; before it has accepted anything, all but what the leader has appended. If it
        has less, its refusal says where to go on, and the whole log need not be sent again."""
        return self._following.match_index or self._before_term

    def _probe(self, next_index: Index) -> None:
        """Find out what the follower has, beginning here. No earlier rejection counts any more."""
        self._probing = True
        self._next_index = next_index
        self._attempt = self._number + 1
        self._in_flight.clear()
        self._in_flight_bytes = self._in_flight_batches = 0
        self._request_bytes = REQUEST_BYTES_FIRST
