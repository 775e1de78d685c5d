"""A bug for every rule that no known bug of Raft breaks first."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import patch

from copycat.actors.codec import decode, encode
from copycat.client.commands import Commands
from copycat.client.event_order import EventOrder
from copycat.machine.state_machine import Publication
from copycat.protocol.client import CommandsReply, Events
from copycat.protocol.introductions import Introduce
from copycat.protocol.raft import AppendEntries, AppendEntriesReply
from copycat.resources.lock import LockMachine
from copycat.server import operations
from copycat.server.applier import Applier
from copycat.server.introductions import Introductions
from copycat.server.log_time import LogClock
from copycat.server.peers import Peer
from copycat.server.replicator import Replicator
from copycat.server.resource import Resource
from copycat.server.roles import leader
from copycat.server.roles.follower import Follower
from copycat.server.roles.leader import Leader
from copycat.server.server import Server
from copycat.server.session import Session
from copycat.server.steps import (
    Advance,
    AnswerQueries,
    ApplyOperations,
    CommandsAnswered,
    PeerLinked,
    Tick,
)
from copycat.storage import recovery
from copycat.storage.batch import Batch
from copycat.storage.lives import packed, unpacked

Bug = Callable[[], AbstractContextManager[Any]]

# Elections.


def leads_again_after_restart() -> AbstractContextManager[Any]:
    """It finds its own vote on the disk and takes that for an election won."""
    ask = Follower._ask

    def lead_or_ask(role: Follower) -> None:
        server = role.server
        if server.ballot.voted_for == server.identity.server_id and server.commit_index == 0:
            server.become_leader()
        else:
            ask(role)

    return patch.object(Follower, "_ask", lead_or_ask)


def forgets_its_vote_at_its_start() -> AbstractContextManager[Any]:
    made = Server.__init__

    def forget(server: Server, *arguments: Any) -> None:
        made(server, *arguments)
        server.ballot.voted_for = 0

    return patch.object(Server, "__init__", forget)


# Logs.


def drops_what_nobody_has_confirmed() -> AbstractContextManager[Any]:
    """A leader with a long tail begins it anew."""
    tick = Leader.tick

    def tick_and_drop(role: Leader, message: Tick, sender: Any) -> float:
        next_s = tick(role, message, sender)
        log, server = role.server.log, role.server
        if role._ready and role.address == server.role and log.last_index > server.commit_index:
            log.truncate(server.commit_index)
        return next_s

    return patch.object(Leader, "tick", tick_and_drop)


def stamped(batch: Batch, wall_time_us: int) -> Batch:
    """The batch with another wall time, and so with other bytes."""
    return Batch.encode(
        kind=batch.kind,
        base_index=batch.base_index,
        count=batch.count,
        term=batch.term,
        log_time_us=batch.log_time_us,
        wall_time_us=wall_time_us,
        session=batch.session,
        first_sequence=batch.first_sequence,
        response_sequence=batch.response_sequence,
        event_sequence=batch.event_sequence,
        operations=batch.operations,
    )


def refuses_no_damage() -> AbstractContextManager[Any]:
    """A server takes whatever cannot be read for torn."""
    return patch.object(recovery, "_refuse_damage", lambda *_: None)


def stamps_what_it_takes() -> AbstractContextManager[Any]:
    """A follower puts its own wall time on batches."""
    take = Follower._take

    def stamp(role: Follower, batch: Batch) -> None:
        wall_time_us = round(role.environment.clock.wall_time_s() * 1_000_000)
        take(role, stamped(batch, wall_time_us + 1))

    return patch.object(Follower, "_take", stamp)


def changes_what_it_has_taken() -> AbstractContextManager[Any]:
    """What a follower gives out of its log is not what it has put in."""
    append_entries = Follower.append_entries

    def change(role: Follower, message: AppendEntries, sender: Any) -> None:
        cached = role.server.log._cached
        for base, batch in list(cached.items())[-1:]:
            cached[base] = stamped(batch, batch.wall_time_us + 1)
        append_entries(role, message, sender)

    return patch.object(Follower, "append_entries", change)


def forgets_the_term_of_the_first_batch() -> AbstractContextManager[Any]:
    """A follower's log tells another term for what has been in it for long."""
    append_entries = Follower.append_entries

    def forget(role: Follower, message: AppendEntries, sender: Any) -> None:
        index = role.server.log._index
        if len(index) > 20:
            index._terms[0] = 0
        append_entries(role, message, sender)

    return patch.object(Follower, "append_entries", forget)


def begins_log_time_anew() -> AbstractContextManager[Any]:
    """Each leader counts from its own election."""

    class OwnClock(LogClock):
        def __init__(self, now_s: Callable[[], float], base_us: int) -> None:
            super().__init__(now_s, 0)

    return patch.object(leader, "LogClock", OwnClock)


def forgets_what_matched() -> AbstractContextManager[Any]:
    reply = Replicator.append_entries_reply

    def forget(role: Replicator, message: AppendEntriesReply, sender: Any) -> None:
        if message.term == role._term and not message.accepted:
            role._following.match_index = 0
        reply(role, message, sender)

    def forget_at_link(role: Replicator, message: PeerLinked, sender: Any) -> None:
        role._following.match_index = 0
        peer_linked(role, message, sender)

    peer_linked = Replicator.peer_linked
    return patch.multiple(Replicator, append_entries_reply=forget, peer_linked=forget_at_link)


# Commitment.


def follows_the_commit_index_back() -> AbstractContextManager[Any]:
    """A follower takes over the commit index of a leader that knows less."""
    append_entries = Follower.append_entries

    def take_over(role: Follower, message: AppendEntries, sender: Any) -> None:
        append_entries(role, message, sender)
        server = role.server
        if message.term == server.ballot.term and message.commit_index < server.commit_index:
            server.commit_index = message.commit_index

    return patch.object(Follower, "append_entries", take_over)


def applies_what_it_has() -> AbstractContextManager[Any]:
    """Everything in the log is applied as soon as anything new is committed."""
    advance = Applier.advance

    def advance_far(applier: Applier, message: Advance, sender: Any) -> None:
        end = max(applier._log.last_index, applier._progress.applied_index)
        advance(applier, Advance(max(end, applier._commit_index)), sender)

    return patch.object(Applier, "advance", advance_far)


# What is applied.


def counts_its_reads() -> AbstractContextManager[Any]:
    """A query changes state, on the one server that answers it."""
    answer_queries = Resource.answer_queries

    def count_too(resource: Resource, message: AnswerQueries, sender: Any) -> Any:
        fields = vars(resource.machine)
        fields["_reads"] = fields.get("_reads", 0) + 1
        return answer_queries(resource, message, sender)

    return patch.object(Resource, "answer_queries", count_too)


def answers_by_chance() -> AbstractContextManager[Any]:
    """What a command returns is not decided by the log alone."""
    apply_operations = Resource.apply_operations
    calls = count()

    def apply(resource: Resource, message: ApplyOperations, sender: Any) -> Any:
        values, failures = apply_operations(resource, message, sender)
        if resource.kind == "counter" and not failures:
            values[-1] += next(calls) % 2
        return values, failures

    return patch.object(Resource, "apply_operations", apply)


def publishes_by_chance() -> AbstractContextManager[Any]:
    """What a command publishes is not decided by the log alone."""
    apply_operations = Resource.apply_operations
    calls = count()

    def apply(resource: Resource, message: ApplyOperations, sender: Any) -> Any:
        found = apply_operations(resource, message, sender)
        effects: list[Any] = message.effects  # type: ignore[assignment]
        for place, effect in enumerate(effects):
            if type(effect) is Publication and resource.kind == "topic":
                number, name, _ = decode(effect.event)
                event = encode([number, name, [next(calls)]])
                effects[place] = Publication(effect.sessions, event)
        return found

    return patch.object(Resource, "apply_operations", apply)


def carries_out_what_it_says_it_has_not() -> AbstractContextManager[Any]:
    """Commands behind which there is no room for answers are carried out, and come again."""
    apply_operations = Resource.apply_operations

    def apply_all(resource: Resource, message: ApplyOperations, sender: Any) -> Any:
        every = replace(message, room_bytes=1 << 60)
        values, failures = apply_operations(resource, every, sender)
        told = 1 if message.room_bytes < 1 << 10 else len(values)
        return values[:told], [failure for failure in failures if failure[0] < told]

    return patch.object(Resource, "apply_operations", apply_all)


def applies_what_was_sent_behind_a_rest() -> AbstractContextManager[Any]:
    """Commands are applied in the order of the log, whichever are missing before them."""
    apply_commands = Applier._apply_commands
    answered = Session.commands_answered

    def apply_ahead(applier: Applier, batch: Any) -> Any:
        sequences, before = applier._progress.sequences, batch.first_sequence - 1
        if sequences.get(batch.session, before) < before:
            sequences[batch.session] = before
        return apply_commands(applier, batch)

    def answer_ahead(session: Session, message: CommandsAnswered, sender: Any) -> None:
        session.sequence = message.first_sequence - 1
        answered(session, message, sender)

    stack = ExitStack()
    stack.enter_context(
        patch.object(operations, "ANSWERED_BYTES_MAX", 0)
    )  # or it takes many worlds
    stack.enter_context(patch.object(Applier, "_apply_commands", apply_ahead))
    stack.enter_context(patch.object(Session, "commands_answered", answer_ahead))
    return stack


def passes_on_when_a_wait_is_over() -> AbstractContextManager[Any]:
    """Who has waited too long for a lock takes it from its holder."""

    def time_out(machine: LockMachine, commit: Any, ticket: int) -> None:
        machine._pass_on(commit)

    return patch.object(LockMachine, "time_out", time_out)


def serves_the_last_first() -> AbstractContextManager[Any]:
    """A lock goes to whoever came last."""
    pass_on = LockMachine._pass_on

    def pass_back(machine: LockMachine, commit: Any) -> None:
        machine._queue = dict(reversed(machine._queue.items()))
        pass_on(machine, commit)

    return patch.object(LockMachine, "_pass_on", pass_back)


# What clients are told.


def never_doubts() -> AbstractContextManager[Any]:
    """A client relies on its session for as long as nobody says that it is lost."""
    return patch("copycat.client.contact.DOUBTFUL_PART", 2.0)


def forgets_the_rest() -> AbstractContextManager[Any]:
    """A client waits for what was not carried out of a batch, and does not send it again."""
    return patch.object(Commands, "_go_on_with_first", lambda commands: None)


def takes_any_answer() -> AbstractContextManager[Any]:
    """A client takes the next answer for that to its oldest command, though it may be a copy."""
    answered = Commands.answered

    def take(commands: Commands, reply: CommandsReply) -> float | None:
        oldest = next(iter(commands._in_flight), reply.first_sequence)
        return answered(commands, replace(reply, first_sequence=oldest))

    return patch.object(Commands, "answered", take)


def hears_what_comes() -> AbstractContextManager[Any]:
    """A client passes events on though some before them are missing."""
    accept = EventOrder.accept

    def accept_later(order: EventOrder, events: Events, now_s: float) -> tuple[bytes, ...]:
        first = min(events.first_sequence, order.sequence + 1)
        return accept(order, replace(events, first_sequence=first), now_s)

    return patch.object(EventOrder, "accept", accept_later)


def welcomes_an_earlier_copy() -> AbstractContextManager[Any]:
    """Nobody minds that a server knows nothing of the life that was met, nor does that server."""
    introduced = Introductions._introduced

    def take(one: Introductions, peer: Peer, message: Introduce, incarnation: int) -> None:
        met = one.lives.met.get(peer.server_id, 0)
        lives = unpacked(message.lives)
        if met and met not in lives:
            message = replace(message, lives=packed((met, *lives)))
        introduced(one, peer, replace(message, met=0), incarnation)

    return patch.object(Introductions, "_introduced", take)
