"""Handlers that keep the loop are counted by name, and the first of each is logged."""

import logging
from collections.abc import Iterator

import pytest

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import Identity
from copycat.actors.message import message
from copycat.actors.simulated_processor import Processor
from copycat.actors.simulation import Simulation


@message(61201)
class Work:
    took_s: float


@message(61202)
class Errand:
    took_s: float


class Worker(Actor):
    """Works for as long as it is told."""

    def work(self, message: Work, sender: NodeAddress) -> None:
        assert Processor.at_work is not None
        Processor.at_work.charge(message.took_s)

    def errand(self, message: Errand, sender: NodeAddress) -> None:
        self.work(Work(message.took_s), sender)


class Foreman(Actor):
    """Hands errands on to a child."""

    def __init__(self) -> None:
        self.worker = self.spawn(Worker)

    def hand_on(self, message: Errand, sender: NodeAddress) -> None:
        self.step(self.worker, message)


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(1, processors={"n1": 1.0}) as simulation:
        yield simulation


def test_handlers_are_counted_by_name_and_limit(simulation: Simulation) -> None:
    """Each limit counts what took longer, under the actor's class and its handler."""
    node = simulation.node(Identity("n1"))
    worker = node.spawn(Worker)
    for took_s in (0.001, 0.009, 0.011, 0.060, 0.300):
        node.tell(worker, Work(took_s))
    simulation.run_for(1.0)
    name = "Worker.work"
    assert node.handlers.over == ({name: 3}, {name: 2}, {name: 1})


def test_what_is_handed_on_counts_for_the_child(simulation: Simulation) -> None:
    """As a leader's work does, which the server hands to its role."""
    node = simulation.node(Identity("n1"))
    node.tell(node.spawn(Foreman), Errand(0.020))
    simulation.run_for(1.0)
    assert node.handlers.over[0] == {"Worker.errand": 1}


def test_the_first_of_a_name_is_logged(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    """Above 50 ms, once for each name, with the time it took."""
    node = simulation.node(Identity("n1"))
    worker = node.spawn(Worker)
    with caplog.at_level(logging.WARNING, "copycat.actors"):
        for took_s in (0.040, 0.060, 0.070):
            node.tell(worker, Work(took_s))
        node.tell(worker, Errand(0.080))
        simulation.run_for(1.0)
    assert caplog.messages == [
        "handler kept the loop name=Worker.work took_ms=60",
        "handler kept the loop name=Worker.errand took_ms=80",
    ]


def test_waiting_between_turns_is_nobodys_work(simulation: Simulation) -> None:
    """What is measured begins with a turn, not with the end of the one before."""
    node = simulation.node(Identity("n1"))
    worker = node.spawn(Worker)
    for _ in range(3):
        node.tell(worker, Work(0.001))
        simulation.run_for(1.0)
    assert node.handlers.over[0] == {}
