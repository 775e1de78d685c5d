"""Role: what a server does in one of its states of Raft (dissertation §3.3).

A role is a child that the Server steps; it lives as long as the server has that role, and what
comes for it later finds nobody, which is the point. It is lent the Server's ballot, log and
outbox. When a handler has made the server change its role it must return at once.
"""

from typing import TYPE_CHECKING, ClassVar

from copycat.actors import NodeAddress
from copycat.actors.codec import decode
from copycat.protocol.client import Refusal
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    ProposalRefused,
    Propose,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from copycat.server.peers import Following
from copycat.server.server_actor import ServerActor
from copycat.server.steps import (
    AskFollowing,
    Begin,
    Durable,
    LeaderLost,
    PeerLinked,
    Reached,
    Replicate,
    Retire,
    Tick,
)
from copycat.storage.batch import BatchKind

if TYPE_CHECKING:
    from copycat.server.server import Server

NEVER_S = float("inf")


class Role(ServerActor):
    """The part of a server that changes with its state of Raft."""

    from_servers = frozenset((PreVoteReply, RequestVoteReply))
    title: ClassVar[str]
    """The word that status and logs show."""

    def __init__(self, server: "Server") -> None:
        self.server = server

    # What every role answers in its own way; these are the answers of one that takes no part.

    def begin(self, message: Begin, sender: NodeAddress) -> None:
        """The server has this role now."""

    def retire(self, message: Retire, sender: NodeAddress) -> None:
        """Answer every open request: the role is about to end."""

    def replicate(self, message: Replicate, sender: NodeAddress) -> None:
        """Send to the followers; this server has none."""

    def ask_following(self, message: AskFollowing, sender: NodeAddress) -> dict[str, Following]:
        """What is known of the followers; this server has none."""
        return {}

    def tick(self, message: Tick, sender: NodeAddress) -> float:
        """The timer; returns when the role wants the next one, on the monotonic clock."""
        return NEVER_S

    def durable(self, message: Durable, sender: NodeAddress) -> None:
        """The disk has caught up."""

    def leader_lost(self, message: LeaderLost, sender: NodeAddress) -> None:
        """The connection from the leader was reset."""

    def peer_linked(self, message: PeerLinked, sender: NodeAddress) -> None:
        """A peer can be reached (again)."""

    def reached(self, message: Reached, sender: NodeAddress) -> None:
        """The index that was waited for has been applied."""

    def pre_vote(self, message: PreVote, sender: NodeAddress) -> None:
        """Refuse: this server does not take part."""
        self._answer_pre_vote(message, sender, granted=False)

    def request_vote(self, message: RequestVote, sender: NodeAddress) -> None:
        """Refuse: this server does not take part."""
        self._answer_vote(message, sender, granted=False)

    def append_entries(self, message: AppendEntries, sender: NodeAddress) -> None:
        """Say nothing: to a leader a refusal would tell how far this server's log goes."""

    def propose(self, message: Propose, sender: NodeAddress) -> None:
        """Refuse: only a leader appends."""
        text = f"{self.server.options.name} does not lead (term {self.server.ballot.term})"
        self._refuse(message, sender, Refusal.NO_LEADER, text)

    def read_index(self, message: ReadIndex, sender: NodeAddress) -> None:
        """Refuse: only a leader knows."""
        self.send(sender, ReadIndexReply(message.request, 0))

    # Inside.

    def _gave(self, voter: int, sender: NodeAddress) -> bool:
        """Whether a vote was given by who sent it: each member has one, whatever it says."""
        return self.server.membership.name_of(voter) == sender.node

    def _answer_pre_vote(self, message: PreVote, sender: NodeAddress, *, granted: bool) -> None:
        server = self.server
        term = message.term if granted else server.ballot.term
        self.send(sender, PreVoteReply(term, server.identity.server_id, granted, message.round))

    def _answer_vote(self, message: RequestVote, sender: NodeAddress, *, granted: bool) -> None:
        server = self.server
        reply = RequestVoteReply(server.ballot.term, server.identity.server_id, granted)
        server.outbox.send(self, sender, reply)

    def _reject(self, message: AppendEntries, sender: NodeAddress, hint: int) -> None:
        server = self.server
        reply = AppendEntriesReply(
            server.ballot.term,
            False,
            hint,
            message.request,
            message.round,
            server.serves_clients,
        )
        server.outbox.send(self, sender, reply)

    def _refuse(self, message: Propose, sender: NodeAddress, reason: Refusal, text: str) -> None:
        opening = message.kind == BatchKind.OPEN_SESSION
        nonce = decode(message.operations)[0] if opening else b""
        self.send(
            sender,
            ProposalRefused(
                message.kind, message.session, message.first_sequence, nonce, int(reason), text
            ),
        )
