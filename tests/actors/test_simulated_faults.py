"""The simulated network breaks what it was told to break, as often as it was told, and no more."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import NodeDisconnected
from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from simulated_pair import ENDPOINT, Note, Pair, kinds


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    made.wait()
    yield made
    made.simulation.close()


@pytest.mark.parametrize("lose_unsynced", [True, False])
def test_a_crash_is_noticed_and_the_next_life_connected(lose_unsynced: bool) -> None:
    """Peers lose the link soon, and get a new one with the next incarnation."""
    pair = Pair()
    pair.wait()
    old = pair.nodes["n2"]
    pair.simulation.crash("n2", lose_unsynced=lose_unsynced, silent=False)
    pair.forget()
    pair.wait(0.02)
    assert pair.news("n1")[0] == NodeDisconnected(
        "n2", old.incarnation, ENDPOINT, "connection reset by peer"
    )
    new = pair.start("n2")
    pair.wait(5)
    assert new.incarnation > old.incarnation
    assert pair.news("n1")[-1].incarnation == new.incarnation
    pair.simulation.close()


def test_late_messages_do_not_reach_the_next_life(pair: Pair) -> None:
    """What was sent to an actor of a life that ended is not delivered in the next one."""

    class Echo(Actor):
        def note(self, message: Note, sender: NodeAddress) -> None:
            raise AssertionError("this message was for another")

    old = pair.nodes["n2"].spawn(Echo)
    pair.simulation.crash("n2", silent=False)
    new_node = pair.start("n2")
    assert new_node.spawn(Echo).serial == old.serial
    pair.wait(5)
    pair.nodes["n1"].tell(old, Note(1, None))
    pair.wait()
    assert new_node.dead_letters == 1


def test_a_silent_crash_is_noticed_late(pair: Pair) -> None:
    """After a silent crash the link stays up for a second at least and half a minute at most."""
    pair.simulation.crash("n2", silent=True)
    pair.forget()
    pair.send("n1", 1)
    pair.wait(0.9)
    assert pair.news("n1") == []
    pair.wait(30)
    assert kinds(pair.news("n1"))[0] == "NodeDisconnected"


def test_a_silent_crash_is_noticed_by_sending_to_the_next_life(pair: Pair) -> None:
    """A machine that is back knows nothing of the old link and resets it when it is used."""
    pair.simulation.crash("n2", silent=True)
    pair.start("n2")
    pair.forget()
    pair.wait(0.1)
    assert pair.news("n1") == []
    pair.send("n1", 1)
    pair.wait(0.5)
    assert kinds(pair.news("n1")) == ["NodeDisconnected", "NodeConnected"]
    assert pair.numbers("n2") == []


def test_an_orderly_end_loses_nothing(pair: Pair) -> None:
    """What a node sent before it was stopped arrives before the news of its end."""
    pair.forget()
    pair.send("n1", 1, 2, 3)
    pair.nodes["n1"].stop()
    pair.wait()
    assert pair.numbers("n2") == [1, 2, 3]
    assert kinds([one for _, one in pair.seen["n2"]])[-1] == "NodeDisconnected"


def test_a_cut_holds_and_healing_delivers(pair: Pair) -> None:
    """What is sent into a cut arrives after it, in order and before what is sent later."""
    pair.network.cut("n1", "n2")
    pair.send("n1", 1, 2)
    pair.send("n2", 3)
    pair.wait(20)
    assert pair.numbers("n1") == pair.numbers("n2") == []
    pair.network.heal()
    pair.send("n1", 4)
    pair.wait()
    assert pair.numbers("n2") == [1, 2, 4]
    assert pair.numbers("n1") == [3]
    assert kinds(pair.news("n1")) == ["NodeConnected"]


def test_what_was_held_is_not_overtaken() -> None:
    """A message that is under way when a cut heals arrives behind those that were held."""
    for seed in range(20):
        pair = Pair(seed)
        pair.wait()
        pair.network.cut("n1", "n2")
        pair.send("n1", 1)
        pair.wait()
        pair.send("n1", 2)
        pair.wait(0.0004)
        pair.network.heal()
        pair.wait()
        assert pair.numbers("n2") == [1, 2]
        pair.simulation.close()


def test_a_new_cut_keeps_what_the_old_one_held(pair: Pair) -> None:
    """A cut that heals and comes back at once has let nothing through."""
    pair.network.cut("n1", "n2")
    pair.send("n1", 1)
    pair.wait()
    pair.network.heal()
    pair.network.cut("n1", "n2")
    pair.wait()
    assert pair.numbers("n2") == []
    pair.network.heal()
    pair.wait()
    assert pair.numbers("n2") == [1]


def test_a_cut_may_lose_and_then_resets() -> None:
    """A connection that lost something in a cut is reset when the cut heals."""
    pair = Pair(faults=NetworkFaults(hold=0.0))
    pair.wait()
    pair.network.cut("n1", "n2")
    pair.send("n1", 1)
    pair.wait(10)
    pair.network.heal("n1", "n2")
    pair.forget()
    pair.wait(5)
    assert pair.numbers("n2") == []
    assert kinds(pair.news("n1")) == kinds(pair.news("n2")) == ["NodeDisconnected", "NodeConnected"]
    pair.simulation.close()


def test_a_long_cut_ends_the_connection(pair: Pair) -> None:
    """What is not confirmed for half a minute makes both sides give the connection up."""
    pair.network.cut("n1", "n2")
    pair.send("n1", 1)
    pair.forget()
    pair.wait(40)
    assert pair.news("n2")[0].reason == "connection timed out"
    assert kinds(pair.news("n1"))[:2] == ["NodeDisconnected", "NodeUnreachable"]
    assert pair.news("n1")[1].reason == "no answer within 0.5 s"
    pair.network.heal()
    pair.wait(10)
    assert kinds(pair.news("n1"))[-1] == "NodeConnected"
    assert pair.numbers("n2") == []


def test_a_cut_one_way_lets_the_other_pass(pair: Pair) -> None:
    """Messages against the cut direction arrive as ever."""
    pair.network.cut_one_way("n1", "n2")
    pair.send("n1", 1)
    pair.send("n2", 2)
    pair.wait()
    assert (pair.numbers("n1"), pair.numbers("n2")) == ([2], [])


def test_partitions_cut_groups_and_heal_by_node() -> None:
    """Between groups nothing passes, within them all; heal(a) joins one node with everybody."""
    network = Simulation(1).network
    network.partition(["a", "b"], ["c"], ["d"])
    assert network.is_cut("a", "c")
    assert network.is_cut("d", "b")
    assert not network.is_cut("a", "b")
    network.heal("c")
    assert not network.is_cut("c", "d")
    assert network.is_cut("a", "d")
    network.heal()
    assert not network.is_cut("a", "d")
    network.loop.close()


def test_a_reset_takes_the_link_down_on_both_sides(pair: Pair) -> None:
    """Both sides see the link go and come back; nothing is reported by only one of them."""
    pair.forget()
    pair.network.reset("n2", "n1")
    pair.wait(5)
    assert kinds(pair.news("n1")) == kinds(pair.news("n2")) == ["NodeDisconnected", "NodeConnected"]


@pytest.mark.parametrize(
    ("fault", "rate"), [("loss", 0.2), ("duplicate", 0.3), ("reorder", 0.3), ("reset", 0.02)]
)
def test_faults_come_at_their_rates(fault: str, rate: float) -> None:
    """Over many messages a fault is about as frequent as asked for, and no other is seen."""
    pair = Pair()
    pair.wait()
    pair.simulation.faults = replace(NetworkFaults.none(), **{fault: rate})
    sent = 3000
    for number in range(sent):
        pair.send("n1", number)
        pair.wait(0.002)
    pair.simulation.faults = NetworkFaults.none()
    pair.wait()
    got = pair.numbers("n2")
    missing = sent - len(set(got))
    doubled = len(got) - len(set(got))
    overtaken = sum(1 for before, after in itertools.pairwise(got) if after < before)
    links = kinds(pair.news("n2")).count("NodeConnected")
    pair.simulation.close()
    assert (missing > 0) == (fault in {"loss", "reset"})
    assert (doubled > 0) == (fault == "duplicate")
    assert (overtaken > 0) == (fault in {"duplicate", "reorder"})
    assert (links > 1) == (fault == "reset")
    if fault == "loss":
        assert missing == pair.network.lost == pytest.approx(sent * rate, rel=0.2)
    if fault == "duplicate":
        assert doubled == pair.network.duplicated == pytest.approx(sent * rate, rel=0.2)
    if fault == "reorder":
        assert pair.network.reordered == pytest.approx(sent * rate, rel=0.2)


def test_random_faults_are_each_seen_and_each_missed() -> None:
    """Over the seeds every fault is on in about half of the worlds."""
    drawn = [NetworkFaults.random(random.Random(seed)) for seed in range(200)]
    for fault in ("loss", "duplicate", "reorder", "reset"):
        on = sum(1 for faults in drawn if getattr(faults, fault) > 0)
        assert 60 < on < 140
    assert {0.0, 1.0} < {faults.hold for faults in drawn}


def test_a_paused_node_answers_when_it_goes_on(pair: Pair) -> None:
    """Messages to a paused node wait; its own timers do too; then all are handled in order."""
    pair.nodes["n2"].pause(3)
    pair.send("n1", 1, 2)
    pair.wait(2.9)
    assert pair.numbers("n2") == []
    pair.wait(0.2)
    assert pair.numbers("n2") == [1, 2]


def test_a_paused_node_lets_nobody_in() -> None:
    """Who dials a paused node is admitted after the pause."""
    pair = Pair()
    pair.nodes["n2"].pause(3)
    pair.wait(2.9)
    assert pair.news("n1") == []
    pair.wait(1)
    assert kinds(pair.news("n1")) == ["NodeConnected"]
    pair.simulation.close()


def test_who_waits_at_a_paused_node_that_dies_knocks_again() -> None:
    """A node that crashes in its pause turns those away whom it has let wait: they try its next
    life."""
    pair = Pair()
    pair.nodes["n2"].pause(3)
    pair.wait(1)
    pair.simulation.crash("n2")
    pair.start("n2")
    pair.wait(1)
    assert kinds(pair.news("n1")) == ["NodeUnreachable", "NodeConnected"]
    pair.simulation.close()
