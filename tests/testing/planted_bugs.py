"""Bugs to be caught: each is one that implementations of Raft have had, planted into ours."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import bugs_of_rules as bugs
import bugs_of_time
from copycat.actors import actor
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    Propose,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from copycat.resources.lock import LockMachine
from copycat.resources.map import MapMachine
from copycat.server import replicator
from copycat.server.applier import Applier
from copycat.server.membership import LOST_DATA
from copycat.server.outbox import Outbox
from copycat.server.reading import ReadQueue
from copycat.server.reads import Reads
from copycat.server.replicator import Replicator
from copycat.server.roles.follower import Follower
from copycat.server.roles.leader import Leader
from copycat.server.server import Server
from copycat.server.session import Left, Session, ToSend
from copycat.server.steps import CommandsAnswered, EventsAfter, FlushReads, Replicate
from copycat.server.window import Sequencer
from copycat.storage.ballot import Ballot
from copycat.storage.log import Log
from copycat.testing import rules
from copycat.testing.monitors import Monitors
from copycat.testing.said import Said
from copycat.testing.workload import IN_ORDER, LINEARIZABLE


@dataclass(frozen=True)
class PlantedBug:
    """A bug, the rules it breaks, and the faults under which it shows.

    The first rule is the one whose monitor must notice it; those after it may be broken before.
    """

    name: str
    rules: tuple[str, ...]
    faults: tuple[str, ...]
    plant: Callable[[], AbstractContextManager[Any]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the bug while this lasts."""
        # Actors look their handlers up once a class.
        with patch.dict(actor._tables, clear=True), self.plant():
            yield


def votes_for_everybody() -> AbstractContextManager[Any]:
    def vote(ballot: Ballot, server_id: int) -> None:
        ballot.voted_for = server_id
        ballot.written += 1

    def request_vote(role: Follower, message: RequestVote, sender: Any) -> None:
        server = role.server
        granted = message.term == server.ballot.term and server.is_up_to_date(
            message.last_term, message.last_index
        )
        if granted:
            server.ballot.vote(message.candidate)
            server.ballot.start_sync(server.address)
        role._answer_vote(message, sender, granted=granted)

    return together(
        patch.object(Ballot, "vote", vote), patch.object(Follower, "request_vote", request_vote)
    )


def forgets_its_vote() -> AbstractContextManager[Any]:
    content = Ballot._content

    def without_vote(ballot: Ballot) -> bytes:
        voted_for, ballot.voted_for = ballot.voted_for, 0
        try:
            return content(ballot)
        finally:
            ballot.voted_for = voted_for

    return patch.object(Ballot, "_content", without_vote)


def syncs_nothing() -> AbstractContextManager[Any]:
    made = SimulatedDisk.__init__

    def lying(disk: SimulatedDisk, *arguments: Any, **options: Any) -> None:
        made(disk, *arguments, **options)
        disk.lose_syncs = True

    return patch.object(SimulatedDisk, "__init__", lying)


def speaks_before_it_is_durable() -> AbstractContextManager[Any]:
    def send(outbox: Outbox, sender: Any, target: Any, message: Any) -> None:
        sender.send(target, message)

    return patch.object(Outbox, "send", send)


def votes_before_it_is_durable() -> AbstractContextManager[Any]:
    send = Outbox.send

    def send_votes(outbox: Outbox, sender: Any, target: Any, message: Any) -> None:
        if type(message) is RequestVoteReply:
            sender.send(target, message)
        else:
            send(outbox, sender, target, message)

    return patch.object(Outbox, "send", send_votes)


def counts_its_own_unsynced_log() -> AbstractContextManager[Any]:
    advance = Leader._advance_commit_index

    def advance_early(role: Leader) -> None:
        with patch.object(Log, "synced_index", property(lambda log: log.last_index)):
            advance(role)

    return patch.object(Leader, "_advance_commit_index", advance_early)


def counts_copies_of_earlier_terms() -> AbstractContextManager[Any]:
    def advance(role: Leader) -> None:
        server = role.server
        matches = sorted(
            [f.match_index for f in role._following.values()] + [server.log.synced_index]
        )
        index = matches[-server.options.majority]
        if index <= server.commit_index:
            return
        server.commit_to(index)
        while role._open and role._open[0][0] <= index:
            role._open_bytes -= role._open.popleft()[1]
        for name, following in role._following.items():
            if following.serves_clients:
                role.step(role._replicators[name], Replicate(True))

    # One batch a request, so that a majority may have those of earlier terms and not the last one.
    return together(
        patch.object(Leader, "_advance_commit_index", advance),
        patch.object(replicator, "REQUEST_BYTES_MAX", 1),
    )


def commits_beyond_what_was_verified() -> AbstractContextManager[Any]:
    append_entries = Follower.append_entries

    def commit_all(role: Follower, message: AppendEntries, sender: Any) -> None:
        server = role.server
        commit_to = server.commit_to

        def commit(index: int, **options: Any) -> None:
            commit_to(max(index, min(message.commit_index, server.log.last_index)), **options)

        with patch.object(server, "commit_to", commit):
            append_entries(role, message, sender)

    return patch.object(Follower, "append_entries", commit_all)


def commits_beyond_what_was_verified_unseen() -> AbstractContextManager[Any]:
    """The same, past the monitor that would notice before anything else."""
    return together(
        commits_beyond_what_was_verified(),
        patch.object(Said, "check_commit", lambda said, name, terms, index: None),
    )


def acknowledges_more_than_was_verified() -> AbstractContextManager[Any]:
    send = Outbox.send

    def send_more(outbox: Outbox, sender: Any, target: Any, message: Any) -> None:
        if type(message) is AppendEntriesReply and message.accepted:
            message = replace(message, match_index=outbox._log.last_index)
        send(outbox, sender, target, message)

    return patch.object(Outbox, "send", send_more)


def drops_what_it_has_already() -> AbstractContextManager[Any]:
    def take(role: Follower, batch: Any) -> None:
        log = role.server.log
        if batch.base_index <= log.last_index:
            log.truncate(batch.base_index - 1)
        log.append(batch)

    return patch.object(Follower, "_take", take)


def asks_nobody_before_a_read() -> AbstractContextManager[Any]:
    read_index = Leader.read_index

    def answer_at_once(role: Leader, message: ReadIndex, sender: Any) -> None:
        read_index(role, message, sender)
        for _, index, asker, request in role._reads:
            role.send(asker, ReadIndexReply(request, index))
        role._reads = []

    return patch.object(Leader, "read_index", answer_at_once)


def asks_under_one_number() -> AbstractContextManager[Any]:
    flush_reads = Reads.flush_reads

    def flush_again(reads: Reads, message: FlushReads, sender: Any) -> None:
        reads._requests = 0
        flush_reads(reads, message, sender)

    return patch.object(Reads, "flush_reads", flush_again)


def elects_who_is_behind() -> AbstractContextManager[Any]:
    return patch.object(Server, "is_up_to_date", lambda server, last_term, last_index: True)


def appends_every_copy() -> AbstractContextManager[Any]:
    """Harmless by itself: what is in the log twice is applied once."""
    arrive = Sequencer.arrive

    def let_pass(sequencer: Sequencer, message: Propose, sender: Any) -> Any:
        verdict = arrive(sequencer, message, sender)
        return [(message, sender)] if verdict is None and _is_old(sequencer, message) else verdict

    return patch.object(Sequencer, "arrive", let_pass)


def _is_old(sequencer: Sequencer, message: Propose) -> bool:
    appended = sequencer._appended.get(message.session, 0)
    return message.first_sequence <= max(appended, sequencer._applied.get(message.session, 0))


def applies_every_copy() -> AbstractContextManager[Any]:
    apply_commands = Applier._apply_commands
    answered = Session.commands_answered

    def apply_again(applier: Applier, batch: Any) -> Any:
        sequences = applier._progress.sequences
        if batch.session in sequences:
            sequences[batch.session] = batch.first_sequence - 1
        return apply_commands(applier, batch)

    def answer_again(session: Session, message: CommandsAnswered, sender: Any) -> None:
        session.sequence = message.first_sequence - 1
        answered(session, message, sender)

    return together(
        appends_every_copy(),
        patch.object(Applier, "_apply_commands", apply_again),
        patch.object(Session, "commands_answered", answer_again),
    )


def reads_what_it_has() -> AbstractContextManager[Any]:
    """A server answers reads from its own state, however old."""
    add = ReadQueue.add

    def add_ready(queue: ReadQueue, read: Any, index: int, *rest: Any) -> None:
        if read.queries is not None:
            read = replace(read, queries=replace(read.queries, index=0))
        add(queue, read, 0, *rest)

    return patch.object(ReadQueue, "add", add_ready)


def waits_for_no_command() -> AbstractContextManager[Any]:
    """A query runs before the commands that were submitted before it."""
    add = ReadQueue.add

    def add_unordered(queue: ReadQueue, read: Any, *rest: Any) -> None:
        if read.queries is not None:
            read = replace(read, queries=replace(read.queries, sequence=0))
        add(queue, read, *rest)

    return patch.object(ReadQueue, "add", add_unordered)


def takes_a_refusal_for_an_answer() -> AbstractContextManager[Any]:
    append_entries_reply = Replicator.append_entries_reply

    def reply(role: Replicator, message: AppendEntriesReply, sender: Any) -> None:
        if message.term == role._term and not message.accepted:
            role._accepted(message.request, role._next_index - 1)
        append_entries_reply(role, message, sender)

    return patch.object(Replicator, "append_entries_reply", reply)


def appends_to_anything() -> AbstractContextManager[Any]:
    """A follower does not look at what is before the batches it is sent; it learns only later that
    they are committed, or that would be noticed first."""
    append_entries = Follower.append_entries

    def append(role: Follower, message: AppendEntries, sender: Any) -> None:
        log = role.server.log
        index = message.prev_index
        if index == log.end_at_or_before(index) and log.term_at(index) != message.prev_term:
            message = replace(message, prev_term=log.term_at(index), commit_index=0)
        append_entries(role, message, sender)

    # The probes of leaders would be noticed before anything is appended.
    return together(
        patch.object(Follower, "append_entries", append),
        patch.object(Monitors, "_look_at_followers", lambda monitors, watched: None),
    )


def expires_by_its_own_clock() -> AbstractContextManager[Any]:
    fire_due = Applier._fire_due

    def fire(applier: Applier, log_time_us: int, index: int) -> Iterator[None]:
        own_us = round(applier.environment.clock.wall_time_s() * 1_000_000) % 1_000_000
        return fire_due(applier, log_time_us + own_us, index)

    return patch.object(Applier, "_fire_due", fire)


def keeps_the_locks_of_the_dead() -> AbstractContextManager[Any]:
    return patch.object(LockMachine, "session_ended", lambda machine, commit, session: None)


def grants_the_same_token_again() -> AbstractContextManager[Any]:
    grant = LockMachine._grant

    def grant_again(machine: LockMachine, commit: Any, session: int, request: int) -> int:
        grant(machine, commit, session, request)
        machine._holder = [session, request, 7]
        return 7

    return patch.object(LockMachine, "_grant", grant_again)


def replaces_any_version() -> AbstractContextManager[Any]:
    """All servers agree on it; only those who have asked for the version know better."""
    return patch.object(MapMachine, "_is_at", lambda machine, key, version: key in machine._entries)


def sends_events_once() -> AbstractContextManager[Any]:
    """Events that were lost on the way are not sent again."""

    def drop(session: Session, message: EventsAfter, sender: Any) -> ToSend:
        return ToSend([], 0, Left.NOTHING)

    return patch.object(Session, "events_after", drop)


@contextmanager
def together(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


LEADERS = ("isolate leader", "crash leader", "network")
SLOW_DISK = ("slow disk",)
NETWORK = ("network", "reset")

CALLS_END = "every call ends"  # what a workload says of those that do not
DAMAGED = "the log is damaged"  # what a server says of its own disk
CUT_APART = "batches are whole"  # what a leader says of a follower's answer

REIGNS = (rules.ELECTION_SAFETY, rules.VOTES)
COMMITTED = (rules.SAME_COMMITTED, rules.SAME_APPLIED, rules.COMMITTED_STAYS)
INCOMPLETE = (rules.LEADER_COMPLETENESS, *COMMITTED)
ACKNOWLEDGED = (rules.COVERED, rules.REPLICATION, rules.COMMIT_DURABLE, CUT_APART)
TRUNCATED = (rules.COMMITTED_STAYS, rules.REPLICATION, rules.COMMIT_DURABLE, LOST_DATA)
NOT_VERIFIED = (rules.LOG_MATCHING, rules.REPLICATION, rules.COMMIT_DURABLE, *COMMITTED)
OLD_READS = (rules.READS_FRESH, rules.QUERIES_IN_ORDER)
DIVERGED = (
    rules.SAME_ANSWERS,
    rules.SAME_EVENTS,
    rules.LOCKS_OF_THE_LIVING,
    rules.DOUBT_IN_TIME,
)

BUGS = [
    PlantedBug("double vote", (rules.BALLOT,), LEADERS, votes_for_everybody),
    PlantedBug("forgotten vote", (rules.VOTES,), LEADERS, forgets_its_vote),
    PlantedBug("early vote", (rules.VOTES,), LEADERS, votes_before_it_is_durable),
    PlantedBug("early outbox", (rules.VOTES,), LEADERS, speaks_before_it_is_durable),
    PlantedBug("lost vote", (rules.DURABLE_BALLOT,), ("kill",), bugs.forgets_its_vote_at_its_start),
    PlantedBug("second reign", REIGNS, ("kill",), bugs.leads_again_after_restart),
    PlantedBug("missing sync", (rules.DURABLE_LOG, DAMAGED), ("crash",), syncs_nothing),
    PlantedBug("blind start", (rules.DAMAGE_NOTICED,), ("flip",), bugs.refuses_no_damage),
    PlantedBug(
        "welcome copy",
        (rules.COPIES_REFUSED,),
        ("old copy", "crash", "kill"),
        bugs.welcomes_an_earlier_copy,
    ),
    PlantedBug("stamped", (rules.LOG_MATCHING,), (), bugs.stamps_what_it_takes),
    PlantedBug("changed", (rules.LOG_UNCHANGED,), (), bugs.changes_what_it_has_taken),
    PlantedBug(
        "forgotten term", (rules.LOG_UNCHANGED,), (), bugs.forgets_the_term_of_the_first_batch
    ),
    PlantedBug("time anew", (rules.LOG_TIME,), LEADERS, bugs.begins_log_time_anew),
    PlantedBug("dropped tail", (rules.APPEND_ONLY,), LEADERS, bugs.drops_what_nobody_has_confirmed),
    PlantedBug("own unsynced log", (rules.COMMIT_DURABLE,), SLOW_DISK, counts_its_own_unsynced_log),
    PlantedBug("earlier terms", (rules.COMMIT_OWN_TERM,), LEADERS, counts_copies_of_earlier_terms),
    PlantedBug(
        "commit goes back", (rules.COMMIT_GROWS,), LEADERS, bugs.follows_the_commit_index_back
    ),
    PlantedBug(
        "uncovered commit", (rules.COVERED, *COMMITTED), LEADERS, commits_beyond_what_was_verified
    ),
    PlantedBug("unverified commit", COMMITTED, LEADERS, commits_beyond_what_was_verified_unseen),
    PlantedBug("unverified ack", ACKNOWLEDGED, LEADERS, acknowledges_more_than_was_verified),
    PlantedBug("forgotten match", (rules.REPLICATION,), LEADERS, bugs.forgets_what_matched),
    PlantedBug("needless truncation", TRUNCATED, LEADERS, drops_what_it_has_already),
    PlantedBug(
        "refusal counts",
        (rules.COMMIT_DURABLE, rules.REPLICATION),
        LEADERS,
        takes_a_refusal_for_an_answer,
    ),
    PlantedBug("no look back", NOT_VERIFIED, LEADERS, appends_to_anything),
    PlantedBug("behind", INCOMPLETE, ("isolate leader",), elects_who_is_behind),
    PlantedBug("applied early", (rules.SAME_APPLIED,), LEADERS, bugs.applies_what_it_has),
    PlantedBug("counted reads", (rules.SAME_STATE,), (), bugs.counts_its_reads),
    PlantedBug("chance answers", (rules.SAME_ANSWERS,), (), bugs.answers_by_chance),
    PlantedBug("chance events", (rules.SAME_EVENTS,), (), bugs.publishes_by_chance),
    PlantedBug("stale read", (rules.READS_CONFIRMED,), (), asks_nobody_before_a_read),
    PlantedBug("same question", (rules.READS_TOLD_APART,), (), asks_under_one_number),
    PlantedBug("old read", OLD_READS, (*SLOW_DISK, "network"), reads_what_it_has),
    PlantedBug("hasty query", (rules.QUERIES_IN_ORDER,), (), waits_for_no_command),
    PlantedBug("duplicate apply", (rules.EXACTLY_ONCE,), LEADERS, applies_every_copy),
    PlantedBug("out of turn", (rules.EXACTLY_ONCE,), (), bugs.applies_what_was_sent_behind_a_rest),
    PlantedBug(
        "more than told", (LINEARIZABLE, IN_ORDER), (), bugs.carries_out_what_it_says_it_has_not
    ),
    PlantedBug("lost rest", (CALLS_END,), (), bugs.forgets_the_rest),
    PlantedBug("own clock", (rules.SAME_STATE, *DIVERGED), ("clock",), expires_by_its_own_clock),
    PlantedBug("dead holder", (rules.LOCKS_OF_THE_LIVING,), (), keeps_the_locks_of_the_dead),
    PlantedBug("impatience", (rules.HOLDERS_KEEP,), (), bugs.passes_on_when_a_wait_is_over),
    PlantedBug("old token", (rules.TOKENS_GROW,), (), grants_the_same_token_again),
    PlantedBug(
        "queue jumper", (rules.LONGEST_FIRST,), ("client crash",), bugs.serves_the_last_first
    ),
    PlantedBug("lost update", (LINEARIZABLE,), (), replaces_any_version),
    PlantedBug("lost events", (rules.EVENTS_SOON,), ("network", "reset"), sends_events_once),
    PlantedBug("no doubt", (rules.DOUBT_IN_TIME,), ("lost client",), bugs.never_doubts),
    PlantedBug("any answer", (rules.ANSWERS_IN_ORDER,), NETWORK, bugs.takes_any_answer),
    PlantedBug(
        "endless budget", (rules.HANDLERS_SHORT,), ("crash",), bugs_of_time.never_has_enough
    ),
    PlantedBug("short reign", (rules.LED,), (), bugs_of_time.gives_up_after_a_while),
    PlantedBug("slow log time", (rules.TIMERS_ON_TIME,), (), bugs_of_time.lets_log_time_crawl),
    PlantedBug("deaf to life", (rules.SESSIONS_KEPT,), (), bugs_of_time.hears_no_keep_alives),
    PlantedBug("no window", (rules.QUEUES_BOUNDED,), NETWORK, bugs_of_time.feeds_without_an_end),
    PlantedBug("no events", (rules.EVENTS_SOON,), (), bugs_of_time.sends_no_events),
    PlantedBug("hasty events", (rules.EVENTS_IN_ORDER,), NETWORK, bugs.hears_what_comes),
]
