"""Monitors: they look at all servers after every event and raise when a rule is broken.

Here are the rules of elections, ballots, logs and commitment; those of what is applied are in
``applied``, those of what servers say in ``said``, those of what clients are told in ``told``. A look costs as much as what has changed,
and a server changes in its turns only; every ``FULL_CHECK_EVENTS`` events everything is compared
from the beginning.
"""

from typing import TYPE_CHECKING

from copycat.client.asynchronous import AsyncClient
from copycat.server.peers import Following
from copycat.server.roles.leader import Leader
from copycat.storage.ballot import Ballot
from copycat.storage.batch import Batch
from copycat.storage.errors import StorageError
from copycat.testing import rules
from copycat.testing.applied import Applied
from copycat.testing.ledger import Ledger, Place
from copycat.testing.said import Said
from copycat.testing.timeliness import Timeliness
from copycat.testing.told import Told
from copycat.testing.violation import Story, told_batch
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
        self.is_wiped = False
        self.begin_life()

    def begin_life(self) -> None:
        """Forget what a server may forget when it stops."""
        self.turns = -1  # of its node, when it was looked at last
        self.role: object = None
        self.leads_in: Term = 0  # 0: does not lead
        self.following: list[tuple[str, Following, Index]] = []
        self.term: Term = 0
        self.vote = 0
        self.log_written = -1
        self.appended: dict[Index, Batch] = {}  # by base, since it was looked at
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
        said: the monitors of what servers say.
        told: the monitors of what clients are told.
        timeliness: the monitors of time.
        leaders: who led in each term: name and incarnation.
        checks: how many events have been looked at.
    """

    def __init__(self, cluster: "SimulatedCluster") -> None:
        self.story = Story(cluster.simulation, cluster.names)
        self.story.survey = self._survey
        self.ledger = Ledger(self.story)
        self.applied = Applied(self.story, self.ledger)
        self.said = Said(self.story, self.ledger, cluster.majority)
        self.told = Told(self.story, self.applied, cluster.simulation.fail)
        self.timeliness = Timeliness(cluster, self.story, self.applied, self.told)
        self.leaders: dict[Term, tuple[str, int]] = {}
        self.checks = 0
        self._cluster = cluster
        self._watched = {name: Watched(name) for name in cluster.peers}
        self._running: list[Watched] = []
        cluster.simulation.after_event.append(self.look)

    def started(self, name: str) -> None:
        """A server has begun a new life: what it has found on its disk is compared.

        One that was wiped is another server by the same name, and takes no part: nothing that it
        says counts as said by the one there was.
        """
        watched = self._watched[name]
        if watched.is_wiped:
            return
        if not watched.stopped:
            self._stopped(watched)
        node = watched.node = self._cluster.node(name)
        server = watched.server = self._cluster.server(name)
        watched.begin_life()
        watched.stopped = False
        appended, append = watched.appended, server.log.append

        def watched_append(batch: Batch) -> None:
            append(batch)
            appended[batch.base_index] = batch

        server.log.append = watched_append  # type: ignore[method-assign]
        self._running.append(watched)
        self.story.tell(
            name, f"starts in term {server.ballot.term} with index {server.log.last_index}"
        )
        self._check_recovered(watched, server)
        self.applied.started(name, node, server)
        self.said.started(name, node, server)
        self.timeliness.started(name, node, server)
        self._look_at(watched, server)

    def wiped(self, name: str) -> None:
        """A server has been given another disk. What it had said before has been said: those who have
        heard it count on it."""
        if not self._watched[name].stopped:
            self._stopped(self._watched[name])
        self._watched[name].is_wiped = True

    def _check_recovered(self, watched: Watched, server: "Server") -> None:
        log, ballot = server.log, server.ballot
        lost = [place for place in watched.log if place.last_index <= watched.synced_index]
        if lost:
            place = lost[-1]
            if log.last_index < place.last_index or log.term_at(place.last_index) != place.term:
                raise self.story.violated(
                    rules.DURABLE_LOG,
                    f"{watched.name} had synced {place.last_index} of term {place.term} and now"
                    f" ends with {log.last_index} of term {log.last_term}",
                    who=(watched.name,),
                    index=place.base_index,
                )
        term, vote = watched.ballot
        if (ballot.term, ballot.voted_for) < (term, vote) or (
            ballot.term == term and vote and ballot.voted_for != vote
        ):
            raise self.story.violated(
                rules.DURABLE_BALLOT,
                f"{watched.name} had term {term} with the vote {self._name(vote)} and now has term"
                f" {ballot.term} with the vote {self._name(ballot.voted_for)}",
                who=(watched.name,),
            )

    def _stopped(self, watched: Watched) -> None:
        self._look_at(watched, watched.server)
        watched.stopped = True
        watched.leads_in = 0
        watched.following = []
        self._running = [each for each in self._running if each is not watched]
        self.applied.stopped(watched.name)
        self.story.tell(watched.name, "stops")

    # After every event.

    def look(self) -> None:
        """Look at every running server that has had a turn."""
        self.checks += 1
        for watched in self._running:
            node = watched.node
            if node.stopped:
                self._stopped(watched)
            elif node.turns != watched.turns:
                watched.turns = node.turns
                self._look_at(watched, watched.server)
                if watched.leads_in:
                    self._look_at_followers(watched)
        self.timeliness.look()
        if self.checks % FULL_CHECK_EVENTS == 0:
            self.check_all()

    def _look_at(self, watched: Watched, server: "Server") -> None:
        ballot, log = server.ballot, server.log
        term, leads_in = watched.term, watched.leads_in
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
            if not leads_in and not watched.leads_in:
                terms = range(term, ballot.term + 1)
                self.said.check_commit(watched.name, terms, server.commit_index)
        if server.progress.applied_index > watched.commit_index:
            raise self.story.violated(
                rules.SAME_APPLIED,
                f"{watched.name} has applied {server.progress.applied_index} and committed"
                f" {watched.commit_index}",
                who=(watched.name,),
                index=server.progress.applied_index,
            )

    # Elections.

    def _look_at_ballot(self, watched: Watched, ballot: Ballot) -> None:
        if ballot.term < watched.term or (
            ballot.term == watched.term and watched.vote and ballot.voted_for != watched.vote
        ):
            raise self.story.violated(
                rules.BALLOT,
                f"{watched.name} goes from term {watched.term} with the vote"
                f" {self._name(watched.vote)} to term {ballot.term} with the vote"
                f" {self._name(ballot.voted_for)}",
                who=(watched.name,),
            )
        watched.term, watched.vote = ballot.term, ballot.voted_for
        whom = f", votes {self._name(ballot.voted_for)}" if ballot.voted_for else ""
        self.story.tell(watched.name, f"is in term {ballot.term}{whom}")

    def _look_at_disk(self, watched: Watched, ballot: Ballot) -> None:
        watched.ballot_durable = ballot.durable
        disk = watched.node.disk
        with disk.without_errors():
            found = Ballot(disk)
        term, vote = found.term, found.voted_for
        before = watched.votes.get(term, 0)
        if term < watched.ballot[0] or (before and vote != before):
            raise self.story.violated(
                rules.DURABLE_BALLOT,
                f"the disk of {watched.name} has term {term} with the vote {self._name(vote)}, and"
                f" had term {watched.ballot[0]} with the vote {self._name(watched.ballot[1])}",
                who=(watched.name,),
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
                rules.ELECTION_SAFETY,
                f"{watched.name} leads in term {term}, and so did {known[0]} in its life"
                f" {known[1]}",
                who=(watched.name, known[0]),
            )
        self._check_votes(watched, term)
        self.said.check_elected(watched.name, server.identity.server_id, term)
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
            or (not voter.votes.get(term) and voter.ballot[0] > term)
        ]
        if len(voters) < self._cluster.majority:
            raise self.story.violated(
                rules.VOTES,
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
            try:
                with watched.node.disk.without_errors():
                    # Of what is not on the disk yet a read of the log would put it there.
                    index = watched.last_index + 1
                    batch = watched.appended.get(index) or log.batch_at(index)
            except StorageError:
                if watched.node.stopped:
                    return  # it has failed before what it appended was written, or sent
                raise
            known.append(self.ledger.enter(watched.name, batch, known[-1] if known else None))
        watched.appended.clear()

    def _truncated(self, watched: Watched, count: int) -> None:
        self.story.tell(
            watched.name, f"drops {count} batches; its log ends with {watched.last_index}"
        )
        watched.synced_index = min(watched.synced_index, watched.last_index)
        if watched.leads_in:
            raise self.story.violated(
                rules.APPEND_ONLY,
                f"{watched.name}, which leads in term {watched.leads_in}, has dropped {count}"
                f" batches after {watched.last_index}",
                who=(watched.name,),
                index=watched.last_index + 1,
            )
        if watched.last_index < watched.commit_index:
            raise self.story.violated(
                rules.COMMITTED_STAYS,
                f"{watched.name} had committed {watched.commit_index} and has dropped all after"
                f" {watched.last_index}",
                who=(watched.name,),
                index=watched.last_index + 1,
            )

    def _look_at_commit(self, watched: Watched, server: "Server") -> None:
        index, term = server.commit_index, server.ballot.term
        last_index = server.log.last_index  # of one that has just failed not all can be read
        if not watched.commit_index < index <= last_index:
            raise self.story.violated(
                rules.COMMIT_GROWS,
                f"{watched.name} goes from commit index {watched.commit_index} to {index}; its log"
                f" ends with {last_index}",
                who=(watched.name,),
                index=index,
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
                rules.COMMIT_OWN_TERM,
                f"{watched.name} leads in term {watched.leads_in} and commits {index} of term"
                f" {term}",
                who=(watched.name,),
                index=index,
            )
        holders = [
            other.name
            for other in self._watched.values()
            if other.synced_index >= index and _term_at(other.log, index) == term
        ]
        if len(holders) < self._cluster.majority:
            raise self.story.violated(
                rules.COMMIT_DURABLE,
                f"{watched.name} leads in term {term} and commits {index}, which is on the disks of"
                f" {', '.join(holders) or 'nobody'}",
                who=(watched.name,),
                index=index,
            )

    def _look_at_followers(self, watched: Watched) -> None:
        for place, (name, following, matched) in enumerate(watched.following):
            if following.match_index == matched:
                continue
            other = self._watched[name]
            index = following.match_index
            watched.following[place] = (name, following, index)
            term, found = _term_at(watched.log, index), _term_at(other.log, index)
            if index and other.ballot[0] < watched.leads_in:
                raise self.story.violated(
                    rules.DURABLE_BALLOT,
                    f"{name} has acknowledged {index} in term {watched.leads_in} to {watched.name},"
                    f" and on its disk is term {other.ballot[0]}",
                    who=(watched.name, name),
                    index=index,
                )
            # One that is in a higher term may have dropped what it had.
            has_it = other.synced_index >= index and found == term
            if index < matched or (not has_it and other.term <= watched.leads_in):
                raise self.story.violated(
                    rules.REPLICATION,
                    f"{watched.name} leads in term {watched.leads_in} and moves the match index of"
                    f" {name} from {matched} to {index} of term {term}; {name} has term {found}"
                    f" there, and has synced {other.synced_index}",
                    who=(watched.name, name),
                    index=index,
                )

    # Everything.

    def check_all(self) -> None:
        """Compare everything from the beginning.

        The disk is left alone: it may have a fault that its server is to find. What a server reads
        from there is compared when it uses it.
        """
        for watched in self._running:
            log = watched.server.log
            log.check()
            assert log.last_index == watched.last_index, "what is written was looked at"
            # Where a batch ends the next one begins.
            bases, terms = log._index._bases, log._index._terms
            for base_index, term, place in zip(bases, terms, watched.log, strict=True):
                if base_index != place.base_index or term != place.term:
                    raise self.story.violated(
                        rules.LOG_UNCHANGED,
                        f"{watched.name} has another batch than before at {place.base_index}",
                        who=(watched.name,),
                        index=place.base_index,
                    )
            for batch in log._cached.values():
                self.ledger.check_record(watched.name, batch)
            if watched.leads_in:
                self.ledger.check_leader(watched.name, watched.leads_in, watched.log)
        self.applied.check_all()

    # Clients, and people.

    def watch(self, client: AsyncClient) -> None:
        """Watch what a client is told from now on; it has just connected."""
        self.told.watch(client)

    def _survey(self, index: Index | None) -> list[str]:
        """All servers in a line each, and what they have at an index in one more."""
        lines = []
        for watched in self._watched.values():
            log = f"log to {watched.last_index}, {watched.synced_index} synced"
            if watched.stopped:
                lines.append(f"{watched.name} is stopped; {log}")
            else:
                applied = self.applied.index_of(watched.name)
                lines.append(
                    f"{watched.name} is {watched.server.role_title} in term {watched.term}; {log},"
                    f" {watched.commit_index} committed, {applied} applied"
                )
            if index is not None:
                lines.append(f"    at {index}: {self._told_entry(watched, index)}")
        return lines

    def _told_entry(self, watched: Watched, index: Index) -> str:
        for place in watched.log:
            if place.base_index <= index <= place.last_index:
                return told_batch(self.ledger.batch(place))
        return "nothing"

    def _name(self, server_id: int) -> str:
        if server_id == 0:
            return "of nobody"
        names = self.story.names
        if server_id not in names:
            for watched in self._running:
                names[watched.server.identity.server_id] = watched.name
        return f"for {names.get(server_id, f'{server_id:016x}')}"


def _term_at(log: list[Place], index: Index) -> Term:
    """The term at an index; 0 when the log does not reach so far. The end is looked at first."""
    for place in reversed(log):
        if place.base_index <= index:
            return place.term if index <= place.last_index else 0
    return 0
