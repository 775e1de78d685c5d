"""The simulated network keeps the contract of links, and breaks it only as it was told to."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from thespian.actors import PoisonMessage

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import (
    Identity,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
)
from copycat.actors.message import Plain, message
from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulated_node import SimulatedNode
from copycat.actors.simulation import Simulation

ENDPOINT = "n2:7401"
WITNESS = 1  # the well-known serial of the witness of each node


@message(61001)
class Note:
    number: int
    content: Plain


class Witness(Actor):
    """Writes down everything that reaches it, and when."""

    fail_stop = True

    def __init__(self, seen: list[tuple[float, Any]], node: SimulatedNode) -> None:
        self.seen = seen
        self.node = node
        self.environment.links.watch(self.address)

    def note(
        self,
        message: Note | NodeConnected | NodeDisconnected | NodeUnreachable,
        sender: NodeAddress,
    ) -> None:
        self.seen.append((self.node.loop.time(), message))

    def unrecognized(self, message: Any, sender: NodeAddress) -> None:
        self.seen.append((self.node.loop.time(), message))


class Pair:
    """Nodes n1 and n2 of one world; n1 dials n2."""

    def __init__(self, seed: int = 1, faults: NetworkFaults | None = None) -> None:
        self.simulation = Simulation(seed, faults=faults)
        self.network = self.simulation.network
        self.seen: dict[str, list[tuple[float, Any]]] = {"n1": [], "n2": []}
        self.start("n2")
        self.start("n1")
        self.nodes["n1"].links.dial(ENDPOINT)

    @property
    def nodes(self) -> dict[str, SimulatedNode]:
        return self.simulation.nodes

    def start(self, name: str, **identity: Any) -> SimulatedNode:
        endpoint = ENDPOINT if name == "n2" else None
        node = self.simulation.node(Identity(name, **identity), endpoint=endpoint)
        node.spawn(Witness, self.seen[name], node, serial=WITNESS)
        return node

    def send(self, source: str, *numbers: int) -> None:
        target = NodeAddress.well_known("n2" if source == "n1" else "n1", WITNESS)
        for number in numbers:
            self.nodes[source].tell(target, Note(number, None))

    def numbers(self, name: str) -> list[int]:
        return [one.number for _, one in self.seen[name] if type(one) is Note]

    def news(self, name: str) -> list[Any]:
        return [one for _, one in self.seen[name] if type(one) is not Note]

    def forget(self) -> None:
        for seen in self.seen.values():
            seen.clear()

    def wait(self, duration_s: float = 1.0) -> None:
        self.simulation.run_for(duration_s)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    made.wait()
    yield made
    made.simulation.close()


def kinds(news: list[Any]) -> list[str]:
    return [type(one).__name__ for one in news]


def test_both_sides_are_told_of_a_link(pair: Pair) -> None:
    """Who dialled sees the endpoint, who was dialled an empty one; both see names and lives."""
    (up,) = pair.news("n1")
    assert up == NodeConnected("n2", pair.nodes["n2"].incarnation, ENDPOINT, 0, 0, ())
    (up,) = pair.news("n2")
    assert up == NodeConnected("n1", pair.nodes["n1"].incarnation, "", 0, 0, ())


def test_messages_arrive_once_in_order_and_late(pair: Pair) -> None:
    """Without faults a link carries everything in order, both ways, and takes its time."""
    began_s = pair.simulation.now_s
    pair.send("n1", *range(50))
    pair.send("n2", *range(50))
    assert pair.numbers("n1") == []
    pair.wait()
    assert pair.numbers("n1") == pair.numbers("n2") == list(range(50))
    assert min(at_s for at_s, one in pair.seen["n2"] if type(one) is Note) >= began_s + 0.0005


def test_a_message_is_a_copy(pair: Pair) -> None:
    """What arrives was encoded when it was sent; later changes of the sender do not travel."""
    content = [1, 2]
    pair.nodes["n1"].tell(NodeAddress.well_known("n2", WITNESS), Note(1, content))
    content.append(3)
    pair.wait()
    assert pair.seen["n2"][-1][1].content == [1, 2]


def test_the_sender_is_an_address_to_answer_to(pair: Pair) -> None:
    """A reply to the sender of a message reaches the actor that sent it."""

    class Echo(Actor):
        def note(self, message: Note, sender: NodeAddress) -> None:
            self.send(sender, Note(message.number + 1, None))

    class Asker(Actor):
        def __init__(self, target: NodeAddress, answers: list[tuple[int, NodeAddress]]) -> None:
            self.answers = answers
            self.send(target, Note(1, None))

        def note(self, message: Note, sender: NodeAddress) -> None:
            self.answers.append((message.number, sender))

    echo = pair.nodes["n2"].spawn(Echo)
    answers: list[tuple[int, NodeAddress]] = []
    pair.nodes["n1"].spawn(Asker, echo, answers)
    pair.wait()
    assert answers == [(2, echo)]


def test_what_cannot_travel_comes_back(pair: Pair) -> None:
    """A message that cannot be encoded returns to its sender as poison."""

    class Careless(Actor):
        def __init__(self, seen: list[Any]) -> None:
            self.seen = seen
            self.send(NodeAddress.well_known("n2", WITNESS), Note(1, object()))

        def unrecognized(self, message: Any, sender: NodeAddress) -> None:
            self.seen.append(message)

    seen: list[Any] = []
    pair.nodes["n1"].spawn(Careless, seen)
    pair.wait()
    (poison,) = seen
    assert type(poison) is PoisonMessage


def test_without_a_link_messages_are_lost(pair: Pair) -> None:
    """A message to a node that nobody is connected with is counted and dropped."""
    pair.nodes["n1"].tell(NodeAddress.well_known("n3", WITNESS), Note(1, None))
    assert pair.nodes["n1"].links.lost == 1


def test_a_dead_endpoint_is_tried_again_with_back_off() -> None:
    """An endpoint where nobody listens is reported each time, rarer and rarer, up to 2.5 s."""
    pair = Pair()
    pair.nodes["n1"].links.dial("nobody:1")
    pair.wait(60)
    tries = [at_s for at_s, one in pair.seen["n1"] if type(one) is NodeUnreachable]
    gaps = [after_s - before_s for before_s, after_s in itertools.pairwise(tries)]
    assert gaps[0] < 0.1
    assert gaps[1] < 0.15
    assert 1.4 < max(gaps[6:]) < 2.6
    assert pair.news("n1")[0] == NodeUnreachable("nobody:1", "connection refused", refused=False)
    pair.simulation.close()


def test_hanging_up_ends_link_and_attempts(pair: Pair) -> None:
    """After hang_up both sides see the link gone, and nobody dials again."""
    pair.forget()
    pair.nodes["n1"].links.hang_up(ENDPOINT)
    pair.wait(10)
    assert kinds(pair.news("n1")) == kinds(pair.news("n2")) == ["NodeDisconnected"]
    assert pair.news("n1")[0].reason == "hung up"


def test_clusters_do_not_mix() -> None:
    """Nodes of different clusters refuse each other, and say so; one without a cluster is let in."""
    pair = Pair()
    pair.simulation.crash("n2", silent=False)
    pair.nodes["n1"].links.introduce(Identity("n1", cluster_id=0xA))
    pair.start("n2", cluster_id=0xB)
    pair.forget()
    pair.wait(5)
    assert set(kinds(pair.news("n1"))) == {"NodeUnreachable"}
    assert pair.news("n1")[-1].refused
    assert "wrong cluster" in pair.news("n1")[-1].reason
    assert pair.news("n2") == []
    pair.nodes["n1"].links.introduce(Identity("n1"))
    pair.wait(5)
    assert kinds(pair.news("n1"))[-1] == kinds(pair.news("n2"))[-1] == "NodeConnected"
    pair.simulation.close()


@pytest.mark.parametrize("who", ["n1", "n2"])
def test_refuse_ends_the_link_and_says_why(pair: Pair, who: str) -> None:
    """The node that dialled learns that it was refused, by whichever side, and tries again."""
    pair.forget()
    pair.nodes[who].links.refuse("n2" if who == "n1" else "n1", "not today")
    pair.wait(5)
    assert kinds(pair.news("n1")) == ["NodeDisconnected", "NodeUnreachable", "NodeConnected"]
    assert kinds(pair.news("n2")) == ["NodeDisconnected", "NodeConnected"]
    assert pair.news("n1")[1].refused
    assert "not today" in pair.news("n1")[1].reason


def test_a_second_endpoint_of_the_same_node_is_refused() -> None:
    """Who dials two endpoints that lead to one node is told which of them it has already."""
    with Simulation(1) as simulation:
        seen: list[tuple[float, Any]] = []
        simulation.node(Identity("n2"), endpoint=ENDPOINT)
        n1 = simulation.node(Identity("n1"))
        n1.spawn(Witness, seen, n1)
        n1.links.dial(ENDPOINT)
        simulation.run_for(1)
        simulation.network._listeners["alias:1"] = simulation.nodes["n2"]
        n1.links.dial("alias:1")
        simulation.run_for(1)
        refusals = [one.reason for _, one in seen if type(one) is NodeUnreachable]
        assert f"n2 is already connected as {ENDPOINT}" in refusals


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
    assert pair.news("n1")[1].reason == "no answer within 5 s"
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
    import random

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
