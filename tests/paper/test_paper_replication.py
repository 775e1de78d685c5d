"""Replication, rule by rule: chapters 3.5, 3.7 and 10.2.2 of the dissertation."""

from collections.abc import Iterator
from itertools import combinations

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.raft import AppendEntries, AppendEntriesReply
from copycat.storage.batch import Batch
from copycat.testing.cluster import SimulatedCluster
from lone_server import HEARTBEAT_S, LoneServer, append, batch

LONG_S = 6 * HEARTBEAT_S  # who has not answered for so long is silent


@pytest.fixture
def lone() -> Iterator[LoneServer]:
    """One of three servers."""
    with Simulation(1) as simulation:
        yield LoneServer(simulation)


def sent(request: AppendEntries) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """What is said to be before the entries of a request, and their indexes and terms."""
    batches = [Batch.decode(record) for record in request.batches]
    return (request.prev_index, request.prev_term), [(b.base_index, b.term) for b in batches]


# The follower's part (§3.5).


@pytest.mark.parametrize(
    "prev", [(4, 2), (9, 2), (3, 1), (2, 2)], ids=["a gap", "far off", "earlier", "later"]
)
def test_entries_are_taken_where_they_continue_the_log(
    lone: LoneServer, prev: tuple[int, int]
) -> None:
    """§3.5: a request whose preceding entry is missing, or of another term, changes nothing."""
    lone.replicate("n2", append(2, 1, 1, 2))
    assert not lone.replicate("n2", append(2, 2, prev=prev, commit=4)).accepted
    assert (lone.log, lone.commit_index) == ([1, 1, 2], 0)
    reply = lone.replicate("n2", append(2, 2, prev=(3, 2)))
    assert (reply.accepted, reply.match_index) == (True, 4)
    assert lone.log == [1, 1, 2, 2]


def test_what_contradicts_the_leader_is_cut_off(lone: LoneServer) -> None:
    """§3.5: from the first entry of another term on the log becomes that of the leader."""
    lone.replicate("n2", append(1, 1, 1, 1, 1))
    reply = lone.replicate("n3", append(2, 1, 2, prev=(1, 1), leader=3))
    assert (reply.accepted, reply.match_index) == (True, 3)
    assert lone.log == [1, 1, 2]
    assert lone.server.log.batch_at(3) == batch(3, 2)


def test_what_agrees_with_the_leader_is_kept(lone: LoneServer) -> None:
    """§3.5: a request that was overtaken is about the beginning of the log, and cuts nothing off."""
    lone.replicate("n2", append(1, 1, 1, 1))
    reply = lone.replicate("n2", append(1, 1))
    assert (reply.accepted, reply.match_index) == (True, 1)
    assert lone.log == [1, 1, 1]
    assert lone.replicate("n2", append(1)).match_index == 0
    assert lone.log == [1, 1, 1]


def test_a_request_that_comes_twice_does_the_same_once(lone: LoneServer) -> None:
    """§3.5: the answer is the same each time, and so is the log."""
    request = append(1, 1, 1, commit=1)
    replies = [lone.replicate("n2", request) for _ in range(3)]
    assert [(reply.accepted, reply.match_index) for reply in replies] == [(True, 2)] * 3
    assert (lone.log, lone.commit_index, lone.applied_index) == ([1, 1], 1, 1)


# The leader's part (§3.5).


def test_a_leader_says_what_is_before_its_entries(lone: LoneServer) -> None:
    """§3.5: with each request goes index and term of the entry just before the new ones."""
    lone.replicate("n2", append(4, 4, 4))
    lone.elect("n2")
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((2, 4), [(3, 5)])


def test_a_leader_goes_back_to_where_the_logs_agree(lone: LoneServer) -> None:
    """§3.5: after a refusal it asks for earlier entries, and then sends everything from there."""
    lone.replicate("n2", append(4, 1, 1, 4))
    lone.elect("n2")
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((3, 4), [(4, 5)])
    lone.refuse("n3", hint=1)
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((1, 1), [])
    lone.refuse("n3", hint=0)
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((0, 0), [])
    lone.accept("n3")
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((0, 0), [(1, 1), (2, 1), (3, 4), (4, 5)])


def test_a_refusal_changes_nothing_in_the_log_of_a_leader(lone: LoneServer) -> None:
    """§3.5: a leader only appends, whatever the others have (Leader Append-Only)."""
    lone.replicate("n2", append(1, 1, 1))
    lone.elect("n2")
    before = [lone.server.log.batch_at(index) for index in (1, 2, 3)]
    for hint in (9, 1, 0):
        lone.refuse("n3", hint)
    reply = lone.replicate("n3", append(1, 1, 1, 1, 1, leader=3, commit=4))
    assert (reply.accepted, reply.term) == (False, 2)
    assert [lone.server.log.batch_at(index) for index in (1, 2, 3)] == before
    assert lone.log == [1, 1, 2]


def test_a_leader_goes_on_asking_who_does_not_answer(lone: LoneServer) -> None:
    """§3.5: a follower that is silent is asked for ever whether it has what it was sent, also when
    that is committed; when it says that it has not, it is sent the same again."""
    lone.elect("n2")
    lone.accept("n2")
    lone.accept("n3")
    lone.propose_session("n2", 1)
    lone.accept("n2")
    assert lone.commit_index == 2
    for _ in range(3):
        lone.voices["n3"].heard.clear()
        for _ in range(8):
            lone.pass_time(LONG_S / 7)
            lone.accept("n2")
        heard = lone.heard("n3", AppendEntries)
        assert len(heard) >= 4
        assert [sent(one) for one in heard] == [((2, 1), [])] * len(heard)
    lone.refuse("n3", hint=1)
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((1, 1), [])
    lone.accept("n3")
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((1, 1), [(2, 1)])


def test_a_leader_begins_again_with_who_comes_back(lone: LoneServer) -> None:
    """§3.7: a follower that was away is asked what it has as soon as it can be reached, and is
    sent what it lacks."""
    lone.elect("n2")
    lone.accept("n2")
    lone.accept("n3")
    lone.propose_session("n2", 1)
    lone.simulation.network.reset("n1", "n3")
    lone.forget()
    lone.run_until(lambda: lone.heard("n3", AppendEntries))
    assert sent(lone.heard("n3", AppendEntries)[0]) == ((1, 1), [])
    lone.accept("n3")
    assert sent(lone.heard("n3", AppendEntries)[-1]) == ((1, 1), [(2, 1)])


def test_a_slow_follower_holds_up_nobody(lone: LoneServer) -> None:
    """§3.5: what a majority has is committed, though the rest is silent."""
    lone.elect("n2")
    for index in (1, 2, 3):
        lone.accept("n2")
        assert (lone.commit_index, lone.applied_index) == (index, index)
        lone.propose_session("n2", index)
    assert lone.server.following()["n3"].match_index == 0


def test_a_refusal_is_no_copy(lone: LoneServer) -> None:
    """§3.5: only what a follower has accepted, in this term, counts as being there."""
    lone.elect("n2")
    lone.refuse("n2", hint=1)
    _, leader = lone.last_heard("n2", AppendEntries)
    lone.say("n2", AppendEntriesReply(0, True, 1, 1, 1, False), leader)
    assert (lone.server.following()["n2"].match_index, lone.commit_index) == (0, 0)
    lone.accept("n2")
    assert (lone.server.following()["n2"].match_index, lone.commit_index) == (1, 1)


def test_an_answer_that_was_overtaken_takes_nothing_back(lone: LoneServer) -> None:
    """§3.5: what is known to match goes on matching."""
    lone.elect("n2")
    lone.accept("n2")
    lone.propose_session("n2", 1)
    lone.accept("n2")
    for match_index in (1, 0):
        lone.accept("n2", match_index=match_index)
        assert lone.server.following()["n2"].match_index == 2


def test_everybody_learns_what_is_committed(lone: LoneServer) -> None:
    """§3.5: the leader's commit index goes with its later requests, empty ones too."""
    lone.elect("n2")
    lone.accept("n2")
    lone.forget()
    lone.pass_time(2 * HEARTBEAT_S)
    assert {request.commit_index for request in lone.heard("n2", AppendEntries)} == {1}


def test_a_leader_does_not_wait_for_answers(lone: LoneServer) -> None:
    """§10.2.2: once a follower has accepted one request, the next ones follow each other."""
    lone.elect("n2")
    lone.accept("n2")
    lone.forget()
    for nonce in (1, 2, 3):
        lone.propose_session("n2", nonce)
    assert [sent(one) for one in lone.heard("n2", AppendEntries) if one.batches] == [
        ((index - 1, 1), [(index, 1)]) for index in (2, 3, 4)
    ]
    assert [
        one for one in lone.heard("n3", AppendEntries) if one.batches
    ] == []  # has accepted none


# All together (§3.5).


def test_logs_that_agree_in_one_entry_agree_before_it() -> None:
    """§3.5: leaders that could not finish leave different logs; where two of them have an entry
    of the same term, all before it is the same (Log Matching)."""
    with Simulation(3) as simulation:
        cluster = SimulatedCluster(simulation, servers=5)
        cluster.start()
        contradictions = 0
        for _ in range(6):
            cluster.run_until(cluster.leader)  # its first entry is in no other log yet
            leader = cluster.leader()
            assert leader is not None
            other = next(name for name in cluster.names if name != leader)
            away = [leader, other]
            cluster.partition(away, [name for name in cluster.names if name not in away])
            wait_for_another(cluster, leader)
            logs = [batches_of(cluster, name) for name in cluster.names]
            for a, b in combinations(logs, 2):
                terms = [(x.term, y.term) for x, y in zip(a, b, strict=False)]
                agreed = [place for place, (x, y) in enumerate(terms, 1) if x == y]
                assert a[: max(agreed, default=0)] == b[: max(agreed, default=0)]
                contradictions += len(agreed) < len(terms)
            cluster.heal()
            cluster.settle()
            cluster.restart(*[name for name in cluster.names if name == cluster.leader()])
        assert contradictions


def wait_for_another(cluster: SimulatedCluster, leader: str) -> None:
    """Run the world until another server leads in a later term."""
    cluster.run_until(lambda: cluster.leader() not in (None, leader))


def batches_of(cluster: SimulatedCluster, name: str) -> list[Batch]:
    """The whole log of a server."""
    log = cluster.server(name).log
    return [log.batch_at(index) for index in range(1, log.last_index + 1)]
