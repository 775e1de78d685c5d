"""A candidate asks for votes and becomes leader, or follower again (dissertation §3.4).

It lives for one election: a new term is a new candidate, so a late vote of the former election
finds nobody.

Invariants: it voted for itself; its requests leave, and its own vote counts, when the ballot is
durable.
"""

from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.protocol.raft import AppendEntries, PreVote, RequestVote, RequestVoteReply
from copycat.server.peers import Peer
from copycat.server.roles.role import Role
from copycat.server.steps import Durable, PeerLinked, Tick

if TYPE_CHECKING:
    from copycat.server.server import Server


class Candidate(Role):
    """The role of a server that stands for election in one term."""

    title = "candidate"

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        ballot = server.ballot
        ballot.raise_term(ballot.term + 1)
        ballot.vote(server.identity.server_id)
        ballot.start_sync(server.address)
        self._term = ballot.term
        self._votes: set[int] = set()
        self._deadline_s = server.now_s() + server.draw_election_timeout_s()
        self._request = RequestVote(
            self._term, server.identity.server_id, server.log.last_index, server.log.last_term
        )
        self._ask_others()

    def _ask_others(self) -> None:
        """Ask who has not voted for this server: a request or its answer may have been lost."""
        self._ask_again_s = self.server.now_s() + self.server.options.votes_again_s
        for peer in self.server.peers.values():
            self._ask_one(peer)

    def _ask_one(self, peer: Peer) -> None:
        if peer.server_id not in self._votes:
            self.server.outbox.send(self, peer.address, self._request)

    def peer_linked(self, message: PeerLinked, sender: NodeAddress) -> None:
        """Ask a peer that could not be asked before."""
        self._ask_one(self.server.peers[message.name])

    def tick(self, message: Tick, sender: NodeAddress) -> float:
        """Give up when the votes were split, and ask for another election."""
        if message.now_s >= self._deadline_s:
            self.server.become_follower(patience_s=0.0)
        elif message.now_s >= self._ask_again_s:
            self._ask_others()
        return min(self._deadline_s, self._ask_again_s)

    def durable(self, message: Durable, sender: NodeAddress) -> None:
        """Count the own vote."""
        ballot = self.server.ballot
        if ballot.durable == ballot.written:
            self._count(self.server.identity.server_id)

    def request_vote_reply(self, message: RequestVoteReply, sender: NodeAddress) -> None:
        """Count a vote."""
        if message.term > self._term:
            self.server.observe_term(message.term)
        elif message.granted and message.term == self._term and self._gave(message.voter, sender):
            self._count(message.voter)

    def _count(self, voter: int) -> None:
        assert self._term == self.server.ballot.term, "a candidate stands in the current term"
        self._votes.add(voter)
        if len(self._votes) >= self.server.options.majority:
            self.server.become_leader()

    def pre_vote(self, message: PreVote, sender: NodeAddress) -> None:
        """Say whether the asker would get a vote in a later term."""
        server = self.server
        granted = message.term > server.ballot.term and server.is_up_to_date(
            message.last_term, message.last_index
        )
        self._answer_pre_vote(message, sender, granted=granted)

    def request_vote(self, message: RequestVote, sender: NodeAddress) -> None:
        """Refuse: the vote of this term is this server's own."""
        self._answer_vote(message, sender, granted=False)

    def append_entries(self, message: AppendEntries, sender: NodeAddress) -> None:
        """Somebody else won the election of this term; or somebody lost an earlier one."""
        if message.term == self._term:
            self.server.become_follower()
            self.server.forward(message, sender)
        else:
            self._reject(message, sender, 0)
