"""The simulated network keeps the contract of links."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import PoisonMessage

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import (
    DRAINED_BYTES_MAX,
    Identity,
    LinkDrained,
    NodeConnected,
    NodeUnreachable,
)
from copycat.actors.message import message
from copycat.actors.simulated_node import SimulatedNode
from copycat.actors.simulation import Simulation
from simulated_pair import ENDPOINT, WITNESS, Note, Pair, Witness, kinds


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    made.wait()
    yield made
    made.simulation.close()


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
    """An endpoint where nobody listens is reported each time, rarer and rarer, up to half a second."""
    pair = Pair()
    pair.nodes["n1"].links.dial("nobody:1")
    pair.wait(60)
    tries = [at_s for at_s, one in pair.seen["n1"] if type(one) is NodeUnreachable]
    gaps = [after_s - before_s for before_s, after_s in itertools.pairwise(tries)]
    assert gaps[0] < 0.1
    assert gaps[1] < 0.15
    assert 0.4 < max(gaps[6:]) < 0.51
    assert pair.news("n1")[0] == NodeUnreachable("nobody:1", "connection refused", refused=False)
    pair.simulation.close()


def test_the_back_off_starts_anew_after_a_connection() -> None:
    """However long it took to connect, a lost link is dialled again within a tenth of a second."""
    pair = Pair()
    pair.simulation.crash("n2", silent=False)
    pair.wait(20)
    pair.start("n2")
    pair.wait(5)
    pair.forget()
    pair.network.reset("n1", "n2")
    pair.wait(0.1)
    assert kinds(pair.news("n1")) == ["NodeDisconnected", "NodeConnected"]
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


def test_who_asks_is_told_when_a_link_has_drained(pair: Pair) -> None:
    """Not while a clog or a cut keeps much of what was sent, and once; without a link, at once."""
    links = pair.nodes["n1"].links
    asker = NodeAddress("n1", pair.nodes["n1"].incarnation, WITNESS)
    pair.forget()
    links.ask_drained("nobody", asker)
    pair.wait(0.1)
    assert pair.news("n1") == [LinkDrained("nobody")]
    pair.network.clog("n1", "n2", bytes_per_s=1_000_000, waiting_bytes=10_000_000)
    pair.nodes["n1"].tell(NodeAddress.well_known("n2", WITNESS), Note(1, bytes(2_000_000)))
    pair.forget()
    for _ in range(2):
        links.ask_drained("n2", asker)
    pair.wait(1.5)
    assert pair.news("n1") == []
    assert links.unsent_bytes("n2") > DRAINED_BYTES_MAX
    pair.wait(1)
    assert pair.news("n1") == [LinkDrained("n2")]


def test_a_second_link_overtakes_nothing(pair: Pair) -> None:
    """Both nodes dial; what was sent on the first link arrives before what is sent later."""
    pair.network.clog("n2", "n1", bytes_per_s=1_000_000, waiting_bytes=10_000_000)
    pair.nodes["n2"].tell(NodeAddress.well_known("n1", WITNESS), Note(0, bytes(500_000)))
    pair.network.unclog()
    pair.simulation.network._listeners["n1:7401"] = pair.nodes["n1"]
    pair.nodes["n2"].links.dial("n1:7401")
    pair.wait(0.1)
    assert kinds(pair.news("n2"))[-1] == "NodeConnected"
    pair.send("n2", 1, 2)
    pair.wait()
    assert pair.numbers("n1") == [0, 1, 2]


def test_a_stranger_who_is_a_nuisance_loses_the_link(pair: Pair) -> None:
    """Where nodes have to be admitted: by a large frame, or by a few messages that nobody takes."""

    class Choosy(Actor):
        def admits(self, message: Any, sender: NodeAddress) -> bool:
            return False

    pair.nodes["n2"].links.guard()
    pair.nodes["n2"].spawn(Choosy, serial=9)
    pair.network.reset("n1", "n2")
    pair.wait()
    pair.forget()
    to_n2 = NodeAddress.well_known("n2", WITNESS)
    pair.nodes["n1"].tell(to_n2, Note(1, bytes(300_000)))
    pair.wait()
    assert kinds(pair.news("n1")) == ["NodeDisconnected", "NodeUnreachable", "NodeConnected"]
    pair.nodes["n2"].links.admit("n1")
    pair.nodes["n1"].tell(to_n2, Note(2, bytes(300_000)))
    pair.wait()
    assert pair.numbers("n2") == [2]
    pair.forget()
    for number in range(8):
        assert pair.news("n1") == []
        pair.nodes["n1"].tell(NodeAddress.well_known("n2", 9), Note(number, None))
        pair.wait()
    assert kinds(pair.news("n1")) == ["NodeDisconnected", "NodeUnreachable", "NodeConnected"]


def test_nothing_waits_behind_bulk_messages(pair: Pair) -> None:
    """On a clogged link they have an order of their own, and others pass them."""

    @message(61030, bulk=True)
    class Load:
        number: int
        content: bytes

    pair.network.clog("n1", "n2", bytes_per_s=1_000_000, waiting_bytes=10_000_000)
    to_n2 = NodeAddress.well_known("n2", WITNESS)
    for number in (1, 2):
        pair.nodes["n1"].tell(to_n2, Load(number, bytes(1_000_000)))
    links = pair.nodes["n1"].links
    assert links.unsent_bytes("n2", bulk=True) > 1_900_000
    assert links.unsent_bytes("n2") == 0
    pair.send("n1", 3)
    pair.wait(0.1)
    assert pair.numbers("n2") == [3]
    pair.wait(2)
    loads = [one.number for one in pair.news("n2") if type(one) is Load]
    assert loads == [1, 2]


def test_a_node_that_stands_still_is_noticed(pair: Pair) -> None:
    """Within seconds by the other one, and by itself when it goes on; a short pause by nobody."""
    pair.forget()
    pair.nodes["n2"].pause(3)
    pair.wait(5)
    assert pair.news("n1") == pair.news("n2") == []
    pair.nodes["n2"].pause(10)
    pair.wait(5)
    assert kinds(pair.news("n1")) == ["NodeDisconnected"]
    assert pair.news("n2") == []
    pair.wait(6)
    assert kinds(pair.news("n1")) == ["NodeDisconnected", "NodeConnected"]
    assert kinds(pair.news("n2")) == ["NodeDisconnected", "NodeConnected"]


def test_a_node_is_back_soon_after_a_cut(pair: Pair) -> None:
    """Whatever back-off it was in: within a second of a cut of any length."""
    for cut_s in (1.0, 7.3, 33.1, 100.7):
        pair.network.cut("n1", "n2")
        pair.send("n1", 1)
        pair.send("n2", 1)
        pair.wait(cut_s)
        pair.network.heal()
        pair.wait(1.0)
        pair.forget()
        pair.send("n1", 7)
        pair.send("n2", 7)
        pair.wait(0.01)
        assert pair.numbers("n1") == pair.numbers("n2") == [7]


def test_two_lives_of_a_preferred_node_are_both_linked() -> None:
    """As in the real world: the oldest and the newest stay, and each gets what is for it."""
    with Simulation(1) as simulation:
        seen: list[tuple[float, Any]] = []
        n2 = simulation.node(Identity("n2"), endpoint=ENDPOINT)
        n2.spawn(Witness, seen, n2, serial=WITNESS)
        n2.links.prefer("ours", 5)

        def life() -> tuple[SimulatedNode, list[tuple[float, Any]]]:
            arrived: list[tuple[float, Any]] = []
            node = simulation.node(Identity("ours", node_id=5))
            node.spawn(Witness, arrived, node, serial=WITNESS)
            node.links.dial(ENDPOINT)
            simulation.run_for(0.02)
            return node, arrived

        def news() -> list[tuple[str, int]]:
            told = [(type(one).__name__, one.incarnation) for _, one in seen]
            seen.clear()
            return told

        (first, to_first), (second, to_second) = life(), life()
        one, two = first.incarnation, second.incarnation
        assert news() == [("NodeConnected", one), ("NodeConnected", two)]
        for incarnation in (one, two):
            n2.tell(NodeAddress("ours", incarnation, WITNESS), Note(incarnation, None))
        simulation.run_for(0.01)
        assert [to_first[-1][1].number, to_second[-1][1].number] == [one, two]
        third, _ = life()
        three = third.incarnation
        assert news() == [("NodeDisconnected", two), ("NodeConnected", three)]
        second.stop()
        first.stop()
        simulation.run_for(1)
        assert news() == [("NodeDisconnected", one)]
        n2.links.refuse("ours", "not today")
        simulation.run_for(0.01)
        assert news() == [("NodeDisconnected", three)]
