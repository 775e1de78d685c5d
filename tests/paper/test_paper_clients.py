"""Clients and their sessions, rule by rule: chapters 6.2, 6.3 and 6.4 of the dissertation."""

from collections.abc import Iterator

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.client import (
    CommandsReply,
    Consistency,
    LeaderChanged,
    OpenSessionReply,
    QueriesReply,
    Refusal,
    Refused,
    SessionEnded,
)
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    Propose,
    ReadIndex,
    ReadIndexReply,
)
from copycat.storage.batch import Batch, BatchKind
from lone_client import SESSION, TIMEOUT_S, LoneClient, increment, opening, values_in
from lone_server import HEARTBEAT_S, TIMEOUT_MAX_S, LoneServer, append, batch

SECOND_US = 1_000_000


@pytest.fixture
def lone() -> Iterator[LoneServer]:
    """One of three servers."""
    with Simulation(1) as simulation:
        yield LoneServer(simulation)


@pytest.fixture
def client(lone: LoneServer) -> LoneClient:
    """A client that is attached to a follower of n2; the log has its session and a counter."""
    lone.replicate("n2", append(1, *opening(), commit=2))
    client = LoneClient(lone)
    client.attach()
    return client


def led_on(lone: LoneServer, *entries: Batch) -> None:
    """Let n2, the leader of term 1, replicate more, and commit it."""
    log = lone.server.log
    prev = (log.last_index, log.last_term)
    assert lone.replicate("n2", append(1, *entries, prev=prev, commit=9)).accepted


# Who serves (§6.2).


def test_a_leader_that_no_majority_hears_steps_down(lone: LoneServer) -> None:
    """§6.2: clients must not wait for ever for one that can commit nothing."""
    lone.elect("n2")
    for _ in range(20):
        lone.pass_time(HEARTBEAT_S)
        lone.accept("n2")
    assert lone.role == "leader"
    lone.pass_time(TIMEOUT_MAX_S + 2 * HEARTBEAT_S)
    assert (lone.role, lone.term) == ("follower", 1)


def test_a_follower_passes_commands_on_to_the_leader(lone: LoneServer, client: LoneClient) -> None:
    """§6.2: it appends nothing itself; and while it knows no leader it says so."""
    client.say(client.command(1))
    (proposal,) = lone.heard("n2", Propose)
    assert (proposal.kind, proposal.first_sequence) == (BatchKind.COMMANDS, 1)
    assert lone.server.log.last_index == 2
    lone.run_until(lambda: lone.server.leader is None)
    (refused,) = [one for one in client.say(client.command(1)) if isinstance(one, Refused)]
    assert refused.reason == Refusal.NO_LEADER


def test_clients_are_told_who_leads(lone: LoneServer, client: LoneClient) -> None:
    """§6.2: when a session begins at a server, and whenever it follows another leader."""
    lone.replicate("n3", append(2, leader=3))
    told = [(news.leader, news.term) for news in client.heard(LeaderChanged)]
    assert told[0] == ("n2:7401", 1)
    assert told[-1] == ("n3:7401", 2)


# Sessions (§6.3).


def test_a_session_is_opened_by_the_log_once(lone: LoneServer) -> None:
    """§6.3: it has the index of its entry, on every server; asked for again it is the same."""
    lone.elect("n2")
    lone.accept("n2")
    client = LoneClient(lone)
    client.ask_for_session()
    assert client.heard(OpenSessionReply) == []
    lone.accept("n2")
    client.ask_for_session()
    lone.accept("n2")
    client.ask_for_session(b"another client 's"[:16])
    lone.accept("n2")
    assert [reply.session for reply in client.heard(OpenSessionReply)] == [2, 2, 4]


def test_a_command_that_is_in_the_log_twice_is_applied_once(
    lone: LoneServer, client: LoneClient
) -> None:
    """§6.3: the second time its client gets the answer of the first."""
    led_on(lone, increment(3, 1), increment(4, 2), increment(5, 1))
    answers = [(r.first_sequence, values_in(r.results)) for r in client.heard(CommandsReply)]
    assert answers == [(1, [1]), (2, [2]), (1, [1])]
    assert lone.server.progress.commands_applied == 2


def test_an_answer_is_given_again_as_long_as_it_may_be_missing(
    lone: LoneServer, client: LoneClient
) -> None:
    """§6.3: a command that was applied is answered from the session, until the client has said that
    it has the answer."""
    led_on(lone, increment(3, 1))
    for _ in range(2):
        (reply,) = client.say(client.command(1))
        assert (reply.first_sequence, values_in(reply.results)) == (1, [1])
    assert lone.heard("n2", Propose) == []
    led_on(lone, increment(4, 2, response_sequence=1))
    assert client.say(client.command(1)) == []
    (reply,) = client.say(client.command(2))
    assert values_in(reply.results) == [2]


def test_a_new_leader_appends_no_command_twice(lone: LoneServer) -> None:
    """§6.3: what the log has of a session tells it which commands are repetitions."""
    lone.replicate("n2", append(1, *opening(), increment(3, 1), commit=2))
    client = LoneClient(lone)
    client.attach()
    lone.elect("n2")
    client.say(client.command(1))
    lone.accept("n2")
    assert lone.server.log.last_index == 4  # with its own first entry
    client.say(client.command(1))
    client.say(client.command(2))
    assert lone.server.log.last_index == 5
    assert lone.server.log.batch_at(5).first_sequence == 2


@pytest.mark.parametrize(("late_us", "lives"), [(-1, True), (0, False)])
def test_a_session_ends_by_the_time_in_the_log(
    lone: LoneServer, client: LoneClient, late_us: int, lives: bool
) -> None:
    """§6.3: at the same entry on every server, whatever their clocks say and however long they
    take; its last sign of life was entry 2."""
    lone.pass_time(0.5)
    end_us = (2 + TIMEOUT_S) * SECOND_US + late_us
    led_on(lone, batch(3, 1, BatchKind.TICK, log_time_us=end_us))
    assert (SESSION in lone.server.progress.sequences) == lives
    assert bool(client.heard(SessionEnded)) == (not lives)


def test_time_alone_ends_no_session(lone: LoneServer, client: LoneClient) -> None:
    """§6.3: the clock of a server has no part in it; only what is in the log has."""
    for _ in range(round(3 * TIMEOUT_S / HEARTBEAT_S)):
        lone.pass_time(HEARTBEAT_S)
        lone.replicate("n2", append(1, prev=(2, 1), commit=2))
    assert lone.server.leader == "n2"
    assert SESSION in lone.server.progress.sequences
    assert client.heard(SessionEnded) == []


def test_a_sign_of_life_in_the_log_keeps_a_session(lone: LoneServer, client: LoneClient) -> None:
    """§6.3: it lives a whole time-out longer, counted from that entry."""
    alive_us = (1 + TIMEOUT_S) * SECOND_US
    for index, kind in ((3, BatchKind.KEEP_ALIVE), (4, BatchKind.TICK)):
        time_us = alive_us + (index - 3) * (TIMEOUT_S * SECOND_US - 1)
        led_on(lone, batch(index, 1, kind, session=SESSION * (index == 3), log_time_us=time_us))
        assert SESSION in lone.server.progress.sequences
    end_us = alive_us + TIMEOUT_S * SECOND_US
    led_on(lone, batch(5, 1, BatchKind.TICK, log_time_us=end_us))
    assert SESSION not in lone.server.progress.sequences
    assert client.heard(SessionEnded)


def test_a_command_of_an_ended_session_is_not_applied(lone: LoneServer, client: LoneClient) -> None:
    """§6.3: whether it has been applied before nobody knows any more; its client is told."""
    late_us = 3 * TIMEOUT_S * SECOND_US
    tick = batch(4, 1, BatchKind.TICK, log_time_us=late_us)
    led_on(lone, increment(3, 1), tick, increment(5, 2, log_time_us=late_us))
    assert lone.server.progress.commands_applied == 1
    assert [reply.first_sequence for reply in client.heard(CommandsReply)] == [1]
    assert client.heard(SessionEnded)


def test_a_new_leader_goes_on_with_the_time_in_the_log(lone: LoneServer) -> None:
    """§6.3: the time of sessions never goes back, whichever clock it comes from."""
    lone.replicate("n2", append(1, batch(1, 1, log_time_us=5000 * SECOND_US)))
    lone.elect("n2")
    time_us = lone.server.log.batch_at(2).log_time_us
    assert 5000 * SECOND_US <= time_us < 5001 * SECOND_US


def test_a_new_leader_goes_on_with_the_time_that_the_last_one_has_told(lone: LoneServer) -> None:
    """§6.3: what passed since the last entry is not lost with the leader; requests that overtake
    each other do not take it back."""
    lone.replicate("n2", append(1, batch(1, 1, log_time_us=50 * SECOND_US)))
    for told_s in (90, 80):
        lone.replicate("n2", append(1, prev=(1, 1), log_time_us=told_s * SECOND_US))
    lone.elect("n2")
    assert lone.server.log.batch_at(2).log_time_us == 90 * SECOND_US


def test_of_two_leaders_the_time_of_the_newer_counts(lone: LoneServer) -> None:
    """§6.3: one that was cut off went on for a while and was heard here alone; what it told would
    let the timers of all the others fire early."""
    lone.replicate("n2", append(1, batch(1, 1), log_time_us=90 * SECOND_US))
    lone.replicate("n3", append(2, prev=(1, 1), log_time_us=70 * SECOND_US, leader=3))
    lone.elect("n3")
    assert lone.server.log.batch_at(2).log_time_us == 70 * SECOND_US


def test_the_time_of_a_leader_runs_from_when_it_serves(lone: LoneServer) -> None:
    """§6.3: while it has to apply its log it takes no signs of life, so nobody gets older."""
    lone.replicate("n2", append(1, batch(1, 1, log_time_us=5 * SECOND_US)))
    lone.elect("n2")
    for _ in range(5):
        lone.pass_time(HEARTBEAT_S)
        lone.refuse("n2", 1)  # it lives, but has nothing
    assert lone.heard("n2", AppendEntries)[-1].log_time_us == 5 * SECOND_US
    lone.accept("n2", match_index=2)
    assert lone.applied_index == 2
    lone.pass_time(2 * HEARTBEAT_S)
    told_us = lone.heard("n2", AppendEntries)[-1].log_time_us
    assert 5 * SECOND_US < told_us <= (5 + 3 * HEARTBEAT_S) * SECOND_US


# Reads (§6.4).


def ask_index(lone: LoneServer, request: int) -> list[ReadIndexReply]:
    """Let n3 ask for a read index; returns the answers within a round."""
    return [one for one in lone.say("n3", ReadIndex(request)) if isinstance(one, ReadIndexReply)]


def confirm(lone: LoneServer, name: str, round_number: int | None = None) -> None:
    """Accept the leader's last request again, as it was or as if it had been of this round."""
    request, asker = lone.last_heard(name, AppendEntries)
    number = request.round if round_number is None else round_number
    match_index = lone.server.log.last_index
    reply = AppendEntriesReply(request.term, True, match_index, request.request, number, False)
    lone.say(name, reply, asker)


def test_a_new_leader_reads_nothing_before_its_first_entry_is_committed(lone: LoneServer) -> None:
    """§6.4: before, it does not know what others have committed, though it has it."""
    lone.replicate("n2", append(1, 1, 1, 1, commit=1))
    lone.elect("n2")
    assert ask_index(lone, 1) == []
    for name in ("n2", "n3"):
        lone.accept(name, match_index=3)
    assert lone.heard("n3", ReadIndexReply) == []
    lone.accept("n2")
    confirm(lone, "n2")
    assert [reply.index for reply in lone.heard("n3", ReadIndexReply)] == [4]


def test_a_read_is_confirmed_by_a_majority_after_it_was_asked_for() -> None:
    """§6.4: of five servers three must take the leader for one; what they said before the question
    does not count, nor does one of them twice."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation, servers=5)
        lone.elect("n2", "n3")
        for name in ("n2", "n3", "n4", "n5"):
            lone.accept(name)
        earlier = lone.heard("n2", AppendEntries)[-1].round
        assert ask_index(lone, 1) == []
        for name in ("n2", "n3", "n4", "n5"):
            confirm(lone, name, earlier)
        confirm(lone, "n2")
        confirm(lone, "n2")
        assert lone.heard("n3", ReadIndexReply) == []
        confirm(lone, "n4")
        assert [reply.request for reply in lone.heard("n3", ReadIndexReply)] == [1]


def test_a_read_sees_what_was_committed_when_it_was_asked_for(lone: LoneServer) -> None:
    """§6.4: its index is the commit index of that moment, and not less."""
    lone.elect("n2")
    lone.accept("n2")
    for nonce in (1, 2):
        lone.propose_session("n2", nonce)
        lone.accept("n2")
    assert ask_index(lone, 1) == []
    confirm(lone, "n2")
    assert [reply.index for reply in lone.heard("n3", ReadIndexReply)] == [3]


def test_reads_that_come_together_share_a_confirmation(lone: LoneServer) -> None:
    """§6.4: one round of requests is enough for all that were asked for before it."""
    lone.elect("n2")
    lone.accept("n2")
    lone.voices["n3"].send(lone.server.address, ReadIndex(1))
    lone.voices["n3"].send(lone.server.address, ReadIndex(2))
    assert ask_index(lone, 3) == []
    confirm(lone, "n2")
    assert [reply.request for reply in lone.heard("n3", ReadIndexReply)] == [1, 2, 3]


def test_a_leader_that_is_deposed_confirms_no_reads(lone: LoneServer) -> None:
    """§6.4: what waits is refused, and may be asked of the next one."""
    lone.elect("n2")
    lone.accept("n2")
    assert ask_index(lone, 1) == []
    assert lone.replicate("n2", append(2, prev=(1, 1))).accepted
    assert [reply.index for reply in lone.heard("n3", ReadIndexReply)] == [0]
    assert [reply.index for reply in ask_index(lone, 2)] == [0]


def test_a_follower_reads_when_it_has_applied_what_the_leader_had(
    lone: LoneServer, client: LoneClient
) -> None:
    """§6.4: it asks the leader for an index, and lets the query run there or later."""
    assert client.say(client.query(7, Consistency.LINEARIZABLE)) == []
    request, asker = lone.last_heard("n2", ReadIndex)
    lone.say("n2", ReadIndexReply(request.request, 4), asker)
    led_on(lone, increment(3, 1))
    assert client.heard(QueriesReply) == []
    led_on(lone, increment(4, 2))
    (reply,) = client.heard(QueriesReply)
    assert (reply.read, reply.index, values_in(reply.results)) == (7, 4, [2])
