"""Monitors of what servers say: votes, acknowledgements, confirmations, and answers to queries.

They see each message as it leaves a server, and as it arrives at one. What may not be said is a
broken rule at once, whether or not it does harm in that world: a read that nobody has confirmed is
stale only when another leader was there already.
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from copycat.actors import NodeAddress
from copycat.actors.simulated_processor import Processor
from copycat.protocol.client import Consistency, QueriesReply, SubmitQueries
from copycat.protocol.introductions import Welcome
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    ReadIndex,
    ReadIndexReply,
    RequestVoteReply,
)
from copycat.server.steps import RunReads
from copycat.storage.batch import Batch
from copycat.testing import rules
from copycat.testing.ledger import Ledger
from copycat.testing.violation import Story
from copycat.types import Index, SessionId, Term

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode
    from copycat.server.server import Server

Moment = int
"""How many messages had been said before; 0 is before all."""


class Said:
    """What the servers of one world say to each other and to clients."""

    def __init__(self, story: Story, ledger: Ledger, majority: int) -> None:
        self.story = story
        self.ledger = ledger
        self.majority = majority
        self.now: Moment = 0
        self.links: defaultdict[tuple[str, str], _Link] = defaultdict(_Link)
        self._votes: dict[tuple[str, Term], set[int]] = {}
        self._promised: dict[str, Index] = {}  # by server: committed, as its disk said at the start
        self._forgetful: dict[
            str, tuple[int, Collection[str]]
        ] = {}  # life before, who must refuse it

    def started(self, name: str, node: "SimulatedNode", server: "Server") -> None:
        """Watch a server that has just started."""
        self._promised[name] = server.log.floor.promise.last_index
        speaker = _Speaker(self, name, server)
        arrives, leaves = speaker.arrives, speaker.leaves
        kinds = arrives.keys() | leaves.keys()
        deliver = node.deliver

        def watched_deliver(target: NodeAddress, message: Any, sender: NodeAddress) -> None:
            kind = type(message)
            if kind in kinds:  # most are not
                self.now += 1
                # What a monitor decodes is no work of its node.
                before, Processor.at_work = Processor.at_work, None
                try:
                    if target.node == name and kind in arrives:
                        arrives[kind](message, sender)
                    if sender.node == name and kind in leaves:
                        leaves[kind](message, target)
                finally:
                    Processor.at_work = before
            deliver(target, message, sender)

        node.deliver = watched_deliver  # type: ignore[method-assign]

    def forgets(self, name: str, incarnation: int, known_to: Collection[str]) -> None:
        """A server goes on with less than it had.

        Args:
            name: of the server.
            incarnation: of its last life with all that it had.
            known_to: the servers that can know, and have to refuse it from now on.
        """
        self._forgetful[name] = incarnation, known_to

    def check_welcome(self, name: str, target: NodeAddress) -> None:
        """A server takes another one for a peer that has all it promised."""
        incarnation, known_to = self._forgetful.get(target.node, (0, ()))
        if name in known_to and target.incarnation > incarnation:
            raise self.story.violated(
                rules.COPIES_REFUSED,
                f"{name} welcomes {target.node}, which was brought back without a life that {name} has"
                " met",
                who=(name, target.node),
            )

    def voted(self, candidate: str, message: RequestVoteReply) -> None:
        """An answer to a request for a vote has arrived."""
        if message.granted:
            self._votes.setdefault((candidate, message.term), set()).add(message.voter)

    def check_elected(self, name: str, server_id: int, term: Term) -> None:
        """Who leads has heard of the votes of a majority, with its own."""
        voters = self._votes.get((name, term), set()) | {server_id}
        if len(voters) < self.majority:
            raise self.story.violated(
                rules.VOTES,
                f"{name} leads in term {term} and has heard of {len(voters)} votes, its own"
                " included",
                who=(name,),
            )

    def check_commit(self, name: str, terms: range, index: Index) -> None:
        """A follower that was in these terms since the last look has moved its commit index."""
        links = [link for (_, follower), link in self.links.items() if follower == name]
        covered = max([link.covered.get(term, 0) for link in links for term in terms], default=0)
        if index > max(covered, self._promised[name]):
            raise self.story.violated(
                rules.COVERED,
                f"{name}, in term {terms[-1]}, commits {index}, and was sent requests that went to"
                f" {covered}",
                who=(name,),
                index=index,
            )


class _Link:
    """What a leader and one follower have said to each other, as far as its leadership is
    concerned.

    Attributes:
        confirmed: by term, when the latest request left that the leader knows to be answered.
        covered: by term, how far the requests go that have arrived.
    """

    def __init__(self) -> None:
        self.confirmed: dict[Term, Moment] = {}
        self.covered: dict[Term, Index] = {}
        self._sent: dict[tuple[Term, int], Moment] = {}  # requests by their number

    def request_leaves(self, message: AppendEntries, now: Moment) -> None:
        self._sent[message.term, message.request] = now

    def request_arrives(self, message: AppendEntries) -> None:
        term, batches = message.term, message.batches
        end = Batch.decode(batches[-1]).last_index if batches else message.prev_index
        self.covered[term] = max(self.covered.get(term, 0), end)

    def reply_arrives(self, message: AppendEntriesReply) -> None:
        sent = self._sent.get((message.term, message.request), 0)
        self.confirmed[message.term] = max(self.confirmed.get(message.term, 0), sent)


class _Speaker:
    """One life of a server.

    Attributes:
        arrives, leaves: what to do with a message of a type, and who it is from or for.
    """

    def __init__(self, said: Said, name: str, server: "Server") -> None:
        self.arrives: dict[type, Callable[[Any, NodeAddress], None]] = {
            AppendEntries: lambda m, sender: self._from(sender).request_arrives(m),
            AppendEntriesReply: lambda m, sender: self._to(sender).reply_arrives(m),
            RequestVoteReply: lambda m, _: said.voted(name, m),
            ReadIndex: self._read_index_asked,
            SubmitQueries: self._queries_arrive,
            RunReads: self._reads_may_run,
        }
        self.leaves: dict[type, Callable[[Any, NodeAddress], None]] = {
            AppendEntries: lambda m, target: self._to(target).request_leaves(m, said.now),
            AppendEntriesReply: self._acknowledges,
            ReadIndex: self._read_index_wanted,
            ReadIndexReply: self._read_index_given,
            QueriesReply: self._queries_answered,
            Welcome: lambda _, target: said.check_welcome(name, target),
        }
        self._said = said
        self._name = name
        self._server = server
        self._questions: set[int] = set()
        self._asked: dict[tuple[NodeAddress, int], Moment] = {}
        self._queries: dict[tuple[SessionId, int], tuple[Index, SubmitQueries]] = {}

    def _to(self, follower: NodeAddress) -> _Link:
        return self._said.links[self._name, follower.node]

    def _from(self, leader: NodeAddress) -> _Link:
        return self._said.links[leader.node, self._name]

    # Replication.

    def _acknowledges(self, message: AppendEntriesReply, target: NodeAddress) -> None:
        link = self._from(target)
        covered = link.covered.get(message.term, 0)
        if message.accepted and message.match_index > covered:
            raise self._said.story.violated(
                rules.COVERED,
                f"{self._name} acknowledges {message.match_index} in term {message.term} to"
                f" {target.node}, whose requests went to {covered}",
                who=(self._name, target.node),
                index=message.match_index,
            )

    # Reads.

    def _read_index_wanted(self, message: ReadIndex, target: NodeAddress) -> None:
        if message.request in self._questions:
            raise self._said.story.violated(
                rules.READS_TOLD_APART,
                f"{self._name} asks {target.node} for a read index once more under the number"
                f" {message.request}",
                who=(self._name, target.node),
            )
        self._questions.add(message.request)

    def _read_index_asked(self, message: ReadIndex, sender: NodeAddress) -> None:
        self._asked.setdefault((sender, message.request), self._said.now)

    def _read_index_given(self, message: ReadIndexReply, target: NodeAddress) -> None:
        asked = self._asked.pop((target, message.request), None)
        if asked is None or message.index == 0:
            return
        term = self._server.ballot.term
        confirming = [
            follower
            for (leader, follower), link in self._said.links.items()
            if leader == self._name and link.confirmed.get(term, 0) > asked
        ]
        if len(confirming) + 1 < self._said.majority:
            raise self._said.story.violated(
                rules.READS_CONFIRMED,
                f"{self._name}, in term {term}, tells {target.node} to read at {message.index}; of"
                f" what it sent since it was asked it knows the answers of"
                f" {', '.join(confirming) or 'nobody'}",
                who=(self._name, target.node),
                index=message.index,
            )

    def _queries_arrive(self, message: SubmitQueries, _sender: NodeAddress) -> None:
        committed = self._said.ledger.committed
        index = committed[-1].place.last_index if committed else 0
        self._queries.setdefault((message.session, message.read), (index, message))

    def _reads_may_run(self, message: RunReads, _sender: NodeAddress) -> None:
        for read in message.reads:
            queries = read.queries
            key = (queries.session, queries.read) if queries is not None else (0, 0)
            if key in self._queries:
                index, arrived = self._queries[key]
                self._queries[key] = max(index, message.index), arrived

    def _queries_answered(self, message: QueriesReply, target: NodeAddress) -> None:
        index, queries = self._queries.pop((message.session, message.read), (0, None))
        if queries is None:
            return  # a second answer: the network had doubled the question
        story, who = self._said.story, (self._name, target.node)
        told = f"{self._name} answers {queries!r} of {target.node} at {message.index}"
        if queries.consistency == Consistency.LINEARIZABLE and message.index < index:
            detail = f"{told}; up to {index} was committed when they arrived, or the leader asked"
            raise story.violated(rules.READS_FRESH, detail, who=who, index=index)
        sequence = self._server.progress.sequences.get(message.session, queries.sequence)
        if message.index < queries.index or sequence < queries.sequence:
            detail = f"{told}, when commands of the session up to {sequence} were applied"
            raise story.violated(rules.QUERIES_IN_ORDER, detail, who=who, index=message.index)
