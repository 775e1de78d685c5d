"""A follower answers leaders and candidates, and asks for an election when it hears from neither.

Before it raises its term it asks whether it could win (pre-vote, dissertation §9.6), so a server
that was cut off does not depose a leader when it comes back.

Invariants: the commit index never passes what a request of this term has verified; the log is cut
only where it contradicts the leader's, never at or below the commit index; nothing of a term is
written to the log before a ballot of that term is durable, or a crash could leave records of a term
that this server does not know, and it would vote in it again.
"""

from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    RequestVote,
)
from copycat.server.peers import Peer
from copycat.server.roles.role import NEVER_S, Role
from copycat.server.steps import Durable, LeaderLost, PeerLinked, Tick
from copycat.storage.batch import Batch
from copycat.storage.errors import BatchCorruptError, BatchFormatError, UnknownRecordError

if TYPE_CHECKING:
    from copycat.server.server import Server

HINT_DELAY_MAX_S = 0.030  # after a reset connection, so that not all ask at the same moment
EARLY_MAX = 64  # requests that wait for the ballot; what comes beyond is lost, and sent again


class Follower(Role):
    """The role of a server that does not lead."""

    title = "follower"

    def __init__(self, server: "Server", patience_s: float | None = None) -> None:
        """Begin to follow.

        Args:
            server: whose role this is.
            patience_s: how long to wait for a leader; None: an election time-out drawn by chance.
        """
        super().__init__(server)
        self._granted: set[int] | None = None  # server ids; None: not asking
        self._request: PreVote | None = None  # what it asks, or has asked
        self._ask_again_s = NEVER_S
        self._timeout_s = server.draw_election_timeout_s()
        self._deadline_s = 0.0
        self._was_patient = False  # whether the deadline was put off already
        self._early: list[tuple[AppendEntries, NodeAddress]] = []
        self._wait(patience_s)

    def tick(self, message: Tick, sender: NodeAddress) -> float:
        """Ask for an election when the leader has been silent for too long."""
        if message.now_s >= self._deadline_s and not self._puts_off():
            self._ask()
        elif self._granted is not None and message.now_s >= self._ask_again_s:
            self._ask_others()
        return min(self._deadline_s, self._ask_again_s)

    def leader_lost(self, message: LeaderLost, sender: NodeAddress) -> None:
        """Take a reset connection as a hint and ask soon; who still hears the leader refuses."""
        if self._granted is None and not self._was_patient:
            self._wait(self.environment.random.uniform(0, HINT_DELAY_MAX_S))
            self.server.wake_at(self._deadline_s)

    # Elections.

    def _wait(self, patience_s: float | None = None) -> None:
        self._deadline_s = self.server.now_s() + (
            self._timeout_s if patience_s is None else patience_s
        )
        self._ask_again_s = NEVER_S
        self._was_patient = False

    def _puts_off(self) -> bool:
        """Leave it to others, once and for a while, if this server could not serve soon."""
        if self._was_patient:
            return False
        patience_s = self.server.readiness.patience_s(self.server.draw_election_timeout_s())
        self._deadline_s += patience_s
        self._was_patient = True
        return self._deadline_s > self.server.now_s()

    def _ask(self) -> None:
        """Ask every other server whether this one could win."""
        server = self.server
        server.leader_is(None)
        self._timeout_s = server.draw_election_timeout_s()  # whose was alike, has another next time
        self._wait()
        self._granted = {server.identity.server_id}
        server.pre_votes_asked += 1
        self._request = PreVote(
            server.ballot.term + 1,
            server.identity.server_id,
            server.log.last_index,
            server.log.last_term,
            server.pre_votes_asked,
        )
        self._ask_others()
        self._campaign_with_majority()

    def _ask_others(self) -> None:
        """Ask who has not answered yet, or has refused: that may have been lost, or be over."""
        self._ask_again_s = self.server.now_s() + self.server.options.votes_again_s
        for peer in self.server.peers.values():
            self._ask_one(peer)

    def _ask_one(self, peer: Peer) -> None:
        if self._granted is not None and peer.server_id not in self._granted:
            self.send(peer.address, self._request)

    def peer_linked(self, message: PeerLinked, sender: NodeAddress) -> None:
        """Ask a peer that could not be asked before."""
        self._ask_one(self.server.peers[message.name])

    def pre_vote_reply(self, message: PreVoteReply, sender: NodeAddress) -> None:
        """Count a voter that would vote for this server."""
        term = self.server.ballot.term
        if not message.granted:
            if message.term > term:
                self.server.observe_term(message.term)
        elif (
            self._granted is not None
            and self._request is not None
            and message.round == self._request.round
            and message.term == term + 1
            and self._gave(message.voter, sender)
        ):
            self._granted.add(message.voter)
            self._campaign_with_majority()

    def _campaign_with_majority(self) -> None:
        assert self._granted is not None, "answers are counted while asking"
        if len(self._granted) >= self.server.options.majority:
            self.server.become_candidate()

    def pre_vote(self, message: PreVote, sender: NodeAddress) -> None:
        """Say whether the asker would get this vote; nothing is promised by it."""
        server = self.server
        granted = (
            message.term > server.ballot.term
            and not server.hears_leader()
            and server.is_up_to_date(message.last_term, message.last_index)
        )
        if self._was_patient and not server.is_up_to_date(message.last_term, message.last_index):
            # Patience was for others, and this one cannot win.
            wait_s = server.draw_election_timeout_s()
            self._deadline_s = min(self._deadline_s, server.now_s() + wait_s)
            server.wake_at(self._deadline_s)
        self._answer_pre_vote(message, sender, granted=granted)

    def request_vote(self, message: RequestVote, sender: NodeAddress) -> None:
        """Vote for the first candidate of the term whose log is not behind this one's (§3.6.1)."""
        server = self.server
        ballot = server.ballot
        granted = (
            message.term == ballot.term
            and ballot.voted_for in (0, message.candidate)
            and not server.hears_leader()
            and server.is_up_to_date(message.last_term, message.last_index)
        )
        if granted:
            ballot.vote(message.candidate)
            ballot.start_sync(server.address)
            self._granted = None
            self._wait()
        self._answer_vote(message, sender, granted=granted)

    # Replication.

    def append_entries(self, message: AppendEntries, sender: NodeAddress) -> None:
        """Take over what the leader has, where it is proved to continue this log (§3.5)."""
        server = self.server
        if message.term < server.ballot.term:
            self._reject(message, sender, 0)
            return
        server.hear_leader(message.leader)
        server.heard_log_time.hear(message.term, message.log_time_us)
        self._granted = None
        self._wait()
        if server.ballot.durable == server.ballot.written:
            self._take_over(message, sender)
        elif len(self._early) < EARLY_MAX:
            self._early.append((message, sender))

    def durable(self, message: Durable, sender: NodeAddress) -> None:
        """Take over what came before the ballot of its term was durable."""
        if self._early and self.server.ballot.durable == self.server.ballot.written:
            early, self._early = self._early, []
            for request, leader in early:
                self._take_over(request, leader)

    def _take_over(self, message: AppendEntries, sender: NodeAddress) -> None:
        server = self.server
        log = server.log
        if (
            message.prev_index > log.last_index
            or log.term_at(message.prev_index) != message.prev_term
        ):
            self._reject(message, sender, self._hint(message))
            return
        match_index = message.prev_index
        try:
            for record in message.batches:
                batch = Batch.decode(record)
                if batch.base_index != match_index + 1:
                    raise BatchCorruptError("the batches of a request do not follow each other")
                self._take(batch)
                match_index = batch.last_index
        except BatchFormatError as error:
            raise UnknownRecordError(match_index + 1, error.reason) from error
        except BatchCorruptError as error:  # the answer says how far it was whole
            server.note(
                "warning", f"a request of the leader was damaged behind {match_index}: {error}"
            )
        if message.batches:
            server.flush_soon()
        server.commit_to(min(message.commit_index, match_index), after_sync=True)
        reply = AppendEntriesReply(
            message.term, True, match_index, message.request, message.round, server.serves_clients
        )
        server.outbox.send(self, sender, reply)

    def _take(self, batch: Batch) -> None:
        log = self.server.log
        if batch.base_index <= log.last_index:
            if log.term_at(batch.base_index) == batch.term:
                return  # it is the same batch: a leader appends one batch at an index of its term
            assert batch.base_index > self.server.commit_index, "what is committed is never cut"
            log.truncate(batch.base_index - 1)
        log.append(batch)

    def _hint(self, message: AppendEntries) -> int:
        """Where the leader may try next: before the last entries that cannot be the leader's."""
        log = self.server.log
        hint = log.end_at_or_before(min(message.prev_index - 1, log.last_index))
        return max(min(hint, log.end_of_term(message.prev_term)), self.server.commit_index)
