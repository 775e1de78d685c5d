"""Monitors: they look at all servers after every event and raise when a rule is broken.

Here are the rules of elections, ballots, logs and commitment; those of what is applied are in
``applied``. A look costs as much as what has changed; every ``FULL_CHECK_EVENTS`` events
everything is compared from the beginning.
"""

from typing import TYPE_CHECKING

from copycat.server.peers import Following
from copycat.server.roles.leader import Leader
from copycat.storage.ballot import Ballot
from copycat.storage.errors import StorageError
from copycat.testing.applied import Applied
from copycat.testing.ledger import Ledger, Place
from copycat.testing.violation import Story
from copycat.types import Index, Term

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode
    from copycat.server.server import Server
    from copycat.testing.cluster import SimulatedCluster

FULL_CHECK_EVENTS = 1_000


class Watched:
    """One server, as the monitors remember it over its lives.

    Attributes:
        name: the server's.
        log: the place of each batch in its log, as it was seen last.
        synced_index: all of ``log`` up to here was reported durable by its disk at some time.
        ballot: the last term and vote that was seen on its disk.
        votes: what was seen on its disk of each term: the vote, and 0 for none.
        server, node: of its latest life.
    """

    server: "Server"
    node: "SimulatedNode"

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[Place] = []
        self.synced_index: Index = 0
        self.ballot: tuple[Term, int] = (0, 0)
        self.votes: dict[Term, int] = {}
        self.stopped = True
        self.begin_life()

    def begin_life(self) -> None:
        """Forget what a server may forget when it stops."""
        self.seen: tuple[object, ...] = ()
        self.role: object = None
        self.leads_in: Term = 0  # 0: does not lead
        self.following: list[tuple[str, Following, Index]] = []
        self.term: Term = 0
        self.vote = 0
        self.log_written = -1
        self.ballot_durable = 0
        self.commit_index: Index = 0
        self.committed = 0  # how many batches

    @property
    def last_index(self) -> Index:
        """The end of its log."""
        return self.log[-1].last_index if self.log else 0


class Monitors:
    """All monitors of one cluster.

    Attributes:
        story: what they have seen; others may add what they do to the servers.
        ledger: every batch there ever was.
        applied: the monitors of what is applied.
        leaders: who led in each term: name and incarnation.
        checks: how many events have been looked at.
    """

    def __init__(self, cluster: "SimulatedCluster") -> None:
        self.story = Story(cluster.simulation)
        self.ledger = Ledger(self.story)
        self.applied = Applied(self.story, self.ledger)
        self.leaders: dict[Term, tuple[str, int]] = {}
        self.checks = 0
        self._cluster = cluster
        self._watched = {name: Watched(name) for name in cluster.peers}
        self._running: list[Watched] = []
        self._names: dict[int, str] = {}  # by server id
        cluster.simulation.after_event.append(self.look)

    def started(self, name: str) -> None:
        """A server has begun a new life: what it has found on its disk is compared."""
        watched = self._watched[name]
        if not watched.stopped:
            self._stopped(watched)
        node = watched.node = self._cluster.node(name)
        server = watched.server = self._cluster.server(name)
        watched.begin_life()
        watched.stopped = False
        self._running.append(watched)
        self.story.tell(
            name, f"starts in term {server.ballot.term} with index {server.log.last_index}"
        )
        self._check_recovered(watched, server)
        self.applied.started(name, node, server)
        self._look_at(watched, server)

    def wiped(self, name: str) -> None:
        """A server has been given an empty disk: it is another one by the same name."""
        if not self._watched[name].stopped:
            self._stopped(self._watched[name])
        self._watched[name] = Watched(name)

    def _check_recovered(self, watched: Watched, server: "Server") -> None:
        log, ballot = server.log, server.ballot
        lost = [place for place in watched.log if place.last_index <= watched.synced_index]
        if lost:
            place = lost[-1]
            if log.last_index < place.last_index or log.term_at(place.last_index) != place.term:
                raise self.story.violated(
                    "Durability: what a server's log has reported as synced survives every crash"
                    " (§3.8)",
                    f"{watched.name} had synced {place.last_index} of term {place.term} and now"
                    f" ends with {log.last_index} of term {log.last_term}",
                )
        term, vote = watched.ballot
        if (ballot.term, ballot.voted_for) < (term, vote) or (
            ballot.term == term and vote and ballot.voted_for != vote
        ):
            raise self.story.violated(
                "Durability: a server remembers its term and its vote (§3.8)",
                f"{watched.name} had term {term} with the vote {self._name(vote)} and now has term"
                f" {ballot.term} with the vote {self._name(ballot.voted_for)}",
            )

    def _stopped(self, watched: Watched) -> None:
        self._look_at(watched, watched.server)
        watched.stopped = True
        watched.leads_in = 0
        watched.following = []
        self._running.remove(watched)
        self.applied.stopped(watched.name)
        self.story.tell(watched.name, "stops")

    # After every event.

    def look(self) -> None:
        """Look at every running server."""
        self.checks += 1
        for watched in self._running:
            if watched.node.stopped:
                self._stopped(watched)
                return self.look()
            server = watched.server
            ballot, log = server.ballot, server.log
            seen = (
                server.role, ballot.written, ballot.durable, log.written, log.synced_index,
                server.commit_index,
            )  # fmt: skip
            if seen != watched.seen:
                self._look_at(watched, server)
                watched.seen = seen
            if watched.leads_in:
                self._look_at_followers(watched)
        if self.checks % FULL_CHECK_EVENTS == 0:
            self.check_all()
        return None

    def _look_at(self, watched: Watched, server: "Server") -> None:
        ballot, log = server.ballot, server.log
        if (ballot.term, ballot.voted_for) != (watched.term, watched.vote):
            self._look_at_ballot(watched, ballot)
        if ballot.durable != watched.ballot_durable:
            self._look_at_disk(watched, ballot)
        if server.role != watched.role:
            watched.leads_in = 0  # until it is seen below
        if log.written != watched.log_written:
            self._look_at_log(watched, server)
        watched.synced_index = max(watched.synced_index, log.synced_index)
        if server.role != watched.role:
            self._look_at_role(watched, server)
        if server.commit_index != watched.commit_index:
            self._look_at_commit(watched, server)

    # Elections.

    def _look_at_ballot(self, watched: Watched, ballot: Ballot) -> None:
        if ballot.term < watched.term or (
            ballot.term == watched.term and watched.vote and ballot.voted_for != watched.vote
        ):
            raise self.story.violated(
                "Ballot: the term never falls, and in one term there is one vote (§3.4)",
                f"{watched.name} goes from term {watched.term} with the vote"
                f" {self._name(watched.vote)} to term {ballot.term} with the vote"
                f" {self._name(ballot.voted_for)}",
            )
        watched.term, watched.vote = ballot.term, ballot.voted_for
        whom = f", votes {self._name(ballot.voted_for)}" if ballot.voted_for else ""
        self.story.tell(watched.name, f"is in term {ballot.term}{whom}")

    def _look_at_disk(self, watched: Watched, ballot: Ballot) -> None:
        watched.ballot_durable = ballot.durable
        try:
            found = Ballot(self._cluster.disks[watched.name])
        except StorageError:
            return  # the disk has a fault just now
        term, vote = found.term, found.voted_for
        before = watched.votes.get(term, 0)
        if term < watched.ballot[0] or (before and vote != before):
            raise self.story.violated(
                "Ballot: on the disk, too, the term never falls and a vote is never changed (§3.8)",
                f"the disk of {watched.name} has term {term} with the vote {self._name(vote)}, and"
                f" had term {watched.ballot[0]} with the vote {self._name(watched.ballot[1])}",
            )
        watched.ballot = (term, vote)
        watched.votes[term] = vote

    def _look_at_role(self, watched: Watched, server: "Server") -> None:
        watched.role = server.role
        term = server.ballot.term
        watched.following = []
        if server.role_title != Leader.title:
            self.story.tell(watched.name, f"is {server.role_title} in term {term}")
            return
        self.story.tell(watched.name, f"leads in term {term}")
        known = self.leaders.setdefault(term, (watched.name, watched.node.incarnation))
        if known != (watched.name, watched.node.incarnation):
            raise self.story.violated(
                "Election Safety: a term has at most one leader (§3.4)",
                f"{watched.name} leads in term {term}, and so did {known[0]} in its life"
                f" {known[1]}",
            )
        self._check_votes(watched, term)
        self.ledger.check_leader(watched.name, term, watched.log)
        watched.leads_in = term
        if not watched.node.stopped:  # else its roles are gone
            watched.following = [(name, f, 0) for name, f in server.following().items()]

    def _check_votes(self, watched: Watched, term: Term) -> None:
        elected = watched.server.identity.server_id
        voters = [
            voter.name
            for voter in self._watched.values()
            if voter.votes.get(term) == elected
            # It may have gone on to a higher term before the vote was written.
            or (term not in voter.votes and voter.ballot[0] > term)
        ]
        if len(voters) < self._cluster.majority:
            raise self.story.violated(
                "Votes: a leader has the durable votes of a majority (§3.4, §3.8)",
                f"{watched.name} leads in term {term} with the votes of"
                f" {', '.join(voters) or 'nobody'} on their disks",
            )

    # Logs.

    def _look_at_log(self, watched: Watched, server: "Server") -> None:
        log, known = server.log, watched.log
        watched.log_written = log.written
        before = len(known)
        while known:
            last = known[-1]
            if (
                last.last_index <= log.last_index
                and log.term_at(last.last_index) == last.term
                and log.base_of(last.last_index) == last.base_index
            ):
                break
            known.pop()
        if len(known) < before:
            self._truncated(watched, before - len(known))
        while watched.last_index < log.last_index:
            batch = log.batch_at(watched.last_index + 1)
            known.append(self.ledger.enter(watched.name, batch, known[-1] if known else None))

    def _truncated(self, watched: Watched, count: int) -> None:
        self.story.tell(
            watched.name, f"drops {count} batches; its log ends with {watched.last_index}"
        )
        watched.synced_index = min(watched.synced_index, watched.last_index)
        if watched.leads_in:
            raise self.story.violated(
                "Leader Append-Only: a leader never drops or changes what is in its log (§3.5)",
                f"{watched.name}, which leads in term {watched.leads_in}, has dropped {count}"
                f" batches after {watched.last_index}",
            )
        if watched.last_index < watched.commit_index:
            raise self.story.violated(
                "Commitment: what a server knows to be committed stays in its log (§3.6)",
                f"{watched.name} had committed {watched.commit_index} and has dropped all after"
                f" {watched.last_index}",
            )

    def _look_at_commit(self, watched: Watched, server: "Server") -> None:
        index, term = server.commit_index, server.ballot.term
        if not watched.commit_index < index <= watched.last_index:
            raise self.story.violated(
                "Commitment: the commit index grows, and stays within the log",
                f"{watched.name} goes from commit index {watched.commit_index} to {index}; its log"
                f" ends with {watched.last_index}",
            )
        watched.commit_index = index
        self.story.tell_commit(watched.name, index)
        if watched.leads_in:
            self._check_copies(watched, index)
        log = watched.log
        while watched.committed < len(log) and log[watched.committed].last_index <= index:
            self.ledger.commit(watched.name, watched.committed, log[watched.committed], term)
            watched.committed += 1

    def _check_copies(self, watched: Watched, index: Index) -> None:
        """What the leader commits is of its term, and durable on a majority."""
        term = watched.server.log.term_at(index)
        if term != watched.leads_in:
            raise self.story.violated(
                "Commitment: a leader counts copies only of entries of its own term (§3.6.2)",
                f"{watched.name} leads in term {watched.leads_in} and commits {index} of term"
                f" {term}",
            )
        holders = [
            other.name
            for other in self._watched.values()
            if other.synced_index >= index and _term_at(other.log, index) == term
        ]
        if len(holders) < self._cluster.majority:
            raise self.story.violated(
                "Commitment: what a leader commits is durable on a majority (§3.8, §10.2.1)",
                f"{watched.name} leads in term {term} and commits {index}, which is on the disks of"
                f" {', '.join(holders) or 'nobody'}",
            )

    def _look_at_followers(self, watched: Watched) -> None:
        for place, (name, following, matched) in enumerate(watched.following):
            if following.match_index == matched:
                continue
            other = self._watched[name]
            index = following.match_index
            watched.following[place] = (name, following, index)
            term, found = _term_at(watched.log, index), _term_at(other.log, index)
            # One that is in a higher term may have dropped what it had.
            has_it = other.synced_index >= index and found == term
            if index < matched or (not has_it and other.term <= watched.leads_in):
                raise self.story.violated(
                    "Replication: the match index grows, and what it says is durable there (§3.5)",
                    f"{watched.name} leads in term {watched.leads_in} and moves the match index of"
                    f" {name} from {matched} to {index} of term {term}; {name} has term {found}"
                    f" there, and has synced {other.synced_index}",
                )

    # Everything.

    def check_all(self) -> None:
        """Compare everything from the beginning."""
        for watched in self._running:
            server = watched.server
            server.log.check()
            for place in watched.log:
                if server.log.batch_at(place.base_index).record != self.ledger.record(place):
                    raise self.story.violated(
                        "Log Matching: what is in a log never changes (§3.5)",
                        f"{watched.name} has other bytes than before at {place.base_index}",
                    )
            if watched.leads_in:
                self.ledger.check_leader(watched.name, watched.leads_in, watched.log)
        self.applied.check_all()

    def _name(self, server_id: int) -> str:
        if server_id == 0:
            return "of nobody"
        if server_id not in self._names:
            for watched in self._running:
                self._names[watched.server.identity.server_id] = watched.name
        return f"for {self._names.get(server_id, f'{server_id:016x}')}"


def _term_at(log: list[Place], index: Index) -> Term:
    """The term at an index; 0 when the log does not reach so far. The end is looked at first."""
    for place in reversed(log):
        if place.base_index <= index:
            return place.term if index <= place.last_index else 0
    return 0
