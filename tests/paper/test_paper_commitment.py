"""Commitment and what survives, rule by rule: chapters 3.5 to 3.9 of the dissertation, 10.2.1."""

from collections.abc import Iterator

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.raft import AppendEntries, AppendEntriesReply
from copycat.resources.counter import AsyncDistributedCounter
from copycat.testing.cluster import SimulatedCluster
from lone_server import TIMEOUT_MIN_S, LoneServer, append


@pytest.fixture
def lone() -> Iterator[LoneServer]:
    """One of three servers."""
    with Simulation(1) as simulation:
        yield LoneServer(simulation)


# What is committed (§3.5, §3.6).


def test_an_entry_is_committed_when_a_majority_has_it() -> None:
    """§3.5: of five servers three, the leader among them; an answer that comes twice is one."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation, servers=5)
        lone.elect("n2", "n3")
        lone.accept("n2")
        lone.accept("n2")
        assert lone.commit_index == 0
        lone.accept("n3")
        assert lone.commit_index == 1


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting(lone: LoneServer) -> None:
    """§3.6.2: even on a majority it may be overwritten, until an entry of the leader's own term
    is committed behind it."""
    lone.replicate("n2", append(1, 1, 1))
    lone.elect("n2")
    assert lone.log == [1, 1, 2]
    lone.accept("n2", match_index=2)
    lone.accept("n3", match_index=2)
    assert lone.commit_index == 0
    lone.accept("n3", match_index=3)
    assert lone.commit_index == 3


def test_a_leader_begins_its_term_with_an_entry(lone: LoneServer) -> None:
    """§6.4: an empty one, by which it learns what is committed without waiting for clients."""
    lone.replicate("n2", append(1, 1, 1, commit=1))
    lone.elect("n2")
    assert lone.log == [1, 1, 2]
    assert lone.server.log.batch_at(3).operations == b""
    lone.accept("n2")
    assert lone.commit_index == 3


def test_a_follower_commits_what_it_has_compared(lone: LoneServer) -> None:
    """§3.5: the leader's commit index says nothing of entries that it has not sent or verified."""
    lone.replicate("n2", append(1, 1, 1, 1))
    lone.replicate("n3", append(2, prev=(1, 1), commit=3, leader=3))
    assert lone.commit_index == 1
    lone.replicate("n3", append(2, 2, prev=(1, 1), commit=9, leader=3))
    assert lone.commit_index == 2


def test_a_commit_index_does_not_go_back(lone: LoneServer) -> None:
    """§3.6.3: a request that was overtaken, or a new leader that knows less, takes nothing back."""
    lone.replicate("n2", append(1, 1, 1, 1, commit=3))
    lone.replicate("n2", append(1, prev=(3, 1), commit=1))
    assert lone.commit_index == 3
    lone.replicate("n3", append(2, 2, prev=(3, 1), commit=0, leader=3))
    assert lone.commit_index == 3


def test_what_is_committed_is_never_cut_off(lone: LoneServer) -> None:
    """§3.6.3: a leader that contradicts it cannot be; a server stops rather than believe it."""
    lone.replicate("n2", append(1, 1, 1, commit=2))
    with pytest.raises(AssertionError, match="what is committed is never cut"):
        lone.replicate("n3", append(2, 2, prev=(1, 1), leader=3))
    assert lone.log == [1, 1]


def test_only_what_is_committed_is_applied(lone: LoneServer) -> None:
    """§3.6.3: each entry in its turn, up to the commit index and no further (State Machine
    Safety)."""
    lone.replicate("n2", append(1, 1, 1, 1))
    for index in range(4):
        lone.replicate("n2", append(1, prev=(3, 1), commit=index))
        assert lone.applied_index == index


def test_every_leader_has_what_was_committed() -> None:
    """§3.6.3: two of five servers miss what is acknowledged, and the leader crashes. Those two have
    fast clocks and stand first, and yet one leads that has it (Leader Completeness)."""
    with Simulation(2) as simulation:
        cluster = SimulatedCluster(simulation, servers=5, monitored=False)

        async def count() -> int:
            async with cluster.client() as client:
                return await (await client.open(AsyncDistributedCounter, "hits")).increment()

        leaders = set()
        for time in range(1, 9):
            cluster.start()
            old = cluster.wait_for_leader()
            cluster.settle()
            rest = [name for name in cluster.names if name != old]
            away = [rest[time % 4], rest[(time + 1) % 4]]
            cluster.partition(away, [name for name in cluster.names if name not in away])
            assert cluster.run(count(), timeout_s=30) == time
            log = cluster.server(old).log
            index = log.end_at_or_before(cluster.server(old).commit_index)
            committed = log.batch_at(index)
            assert all(cluster.server(name).log.last_index < index for name in away)
            cluster.crash(old)
            cluster.heal()
            for name in away:
                cluster.node(name).clock.rate = 10.0
            cluster.run_until(cluster.leader)
            new = cluster.leader()
            assert new is not None
            assert cluster.server(new).log.batch_at(index) == committed
            leaders.add(new)
            for name in away:
                cluster.node(name).clock.rate = 1.0
        assert len(leaders) > 1


# What survives (§3.8).


def test_what_a_follower_acknowledges_is_durable(lone: LoneServer) -> None:
    """§3.8: it answers when its disk has the entries, and all that was said to be there before."""
    with lone.disk_held():
        assert lone.say("n2", append(1, 1, 1)) == []
        assert lone.say("n2", append(1, prev=(2, 1))) == []
    matches = [reply.match_index for reply in lone.heard("n2", AppendEntriesReply)]
    assert matches == [2, 2]


def test_a_log_survives_a_restart(lone: LoneServer) -> None:
    """§3.8: a server that has lost power has what it has acknowledged, and votes accordingly."""
    assert lone.replicate("n2", append(2, 1, 1, 2)).accepted
    lone.restart()
    assert (lone.log, lone.term) == ([1, 1, 2], 2)
    assert not lone.would_vote_for("n3", 9, last=(9, 1))


def test_the_state_is_made_from_the_log_again(lone: LoneServer) -> None:
    """§3.8: after a restart nothing is taken for committed or applied before a leader says so."""
    lone.replicate("n2", append(1, 1, 1, 1, commit=3))
    assert lone.applied_index == 3
    lone.restart()
    assert (lone.commit_index, lone.applied_index) == (0, 0)
    lone.replicate("n2", append(1, prev=(3, 1), commit=2))
    assert (lone.commit_index, lone.applied_index) == (2, 2)


# The leader's own disk (§10.2.1).


def test_a_leader_replicates_before_its_own_disk_has_it(lone: LoneServer) -> None:
    """§10.2.1: the followers write at the same time as the leader."""
    lone.elect("n2")
    lone.accept("n2")
    with lone.disk_held():
        lone.forget()
        lone.propose_session("n2", 1)
        (request,) = lone.heard("n2", AppendEntries)
        assert request.batches
        assert (lone.server.log.last_index, lone.server.log.synced_index) == (2, 1)


def test_the_leaders_own_copy_counts_when_it_is_durable(lone: LoneServer) -> None:
    """§10.2.1: with one of two followers an entry is committed only when the leader's disk has it."""
    lone.elect("n2")
    lone.accept("n2")
    with lone.disk_held():
        lone.propose_session("n2", 1)
        lone.accept("n2")
        assert lone.commit_index == 1
    assert lone.commit_index == 2


def test_the_followers_can_be_a_majority_without_the_leader(lone: LoneServer) -> None:
    """§10.2.1: when both of two followers have it, the leader's slow disk holds up nobody."""
    lone.elect("n2")
    lone.accept("n2")
    lone.accept("n3")
    with lone.disk_held():
        lone.propose_session("n2", 1)
        lone.accept("n2")
        lone.accept("n3")
        assert lone.server.log.synced_index == 1
        assert (lone.commit_index, lone.applied_index) == (2, 2)


# Progress (§3.9).


def test_a_leader_that_is_heard_stays() -> None:
    """§3.9: where messages take much less than an election time-out there is one election."""
    with Simulation(4) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        leader = cluster.wait_for_leader()
        term = cluster.server(leader).ballot.term
        simulation.run_for(60)
        assert cluster.leader() == leader
        assert {cluster.server(name).ballot.term for name in cluster.names} == {term}


@pytest.mark.parametrize(("crashed", "progress"), [(2, True), (3, False)])
def test_a_majority_makes_progress_and_nothing_less_does(crashed: int, progress: bool) -> None:
    """§3.9: of five servers three that reach each other commit; two of them never do."""
    with Simulation(5) as simulation:
        cluster = SimulatedCluster(simulation, servers=5)
        cluster.start()
        leader = cluster.wait_for_leader()
        cluster.settle()
        rest = [name for name in cluster.names if name != leader]
        before = max(cluster.server(name).commit_index for name in cluster.names)
        cluster.crash(leader, *rest[: crashed - 1])
        simulation.run_for(20 * TIMEOUT_MIN_S)
        assert (cluster.leader() is not None) == progress
        after = max(cluster.server(name).commit_index for name in cluster.running)
        assert (after > before) == progress
