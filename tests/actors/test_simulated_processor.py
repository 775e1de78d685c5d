"""Work takes time in a simulated world: on the node that does it, and only there."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.environment import DiskDone, Identity
from copycat.actors.message import message
from copycat.actors.simulated_disk import LATENCY_MAX_S
from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulated_processor import Processor
from copycat.actors.simulation import Simulation

SERVICE = 1
WORK_S = 0.1
WIRE_S = 0.002  # more than the way between two nodes takes


@message(61211)
class Toil:
    number: int


@message(61212)
class Toiled:
    number: int


def charge(cost_s: float) -> None:
    """Work on the node whose turn it is."""
    assert Processor.at_work is not None
    Processor.at_work.charge(cost_s)


class Toiler(Actor):
    """Works, notes when, and answers."""

    def __init__(self, seen: list[tuple[int, float, float]]) -> None:
        self.seen = seen

    def toil(self, message: Toil, sender: NodeAddress) -> None:
        began_s = self.environment.clock.monotonic_s()
        charge(WORK_S)
        self.seen.append((message.number, began_s, self.environment.clock.monotonic_s()))
        self.send(sender, Toiled(message.number))


class Asker(Actor):
    """Asks once, and notes when it is answered."""

    def __init__(self, endpoint: str, seen: list[float]) -> None:
        self.seen = seen
        self.environment.links.dial(endpoint)
        self.wake_after(1.0)

    def unrecognized(self, message: object, sender: NodeAddress) -> None:
        if type(message).__name__ == "WakeupMessage":
            self.send(NodeAddress.well_known("n1", SERVICE), Toil(1))

    def toiled(self, message: Toiled, sender: NodeAddress) -> None:
        self.seen.append(self.environment.clock.monotonic_s())


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(1, processors={"n1": 1.0, "n2": 3.0}) as simulation:
        yield simulation


def test_work_moves_the_clock_of_its_node(simulation: Simulation) -> None:
    """By its cost, times the scale of the node; not the time of the world."""
    for name, scale in (("n1", 1.0), ("n2", 3.0), ("n3", 0.0)):
        seen: list[tuple[int, float, float]] = []
        node = simulation.node(Identity(name))
        began_s = simulation.now_s
        node.tell(node.spawn(Toiler, seen), Toil(0))
        simulation.run(nothing())
        ((_, before_s, after_s),) = seen
        assert after_s - before_s == pytest.approx(scale * WORK_S)
        assert simulation.now_s == began_s


def test_what_comes_meanwhile_waits(simulation: Simulation) -> None:
    """A node that works begins its next turn when it is done; timers and messages wait."""
    seen: list[tuple[int, float, float]] = []
    node = simulation.node(Identity("n1"))
    toiler = node.spawn(Toiler, seen)
    node.tell(toiler, Toil(0))
    for number in (1, 2):
        node.call_later(number * WORK_S / 10, lambda number=number: node.tell(toiler, Toil(number)))  # type: ignore[misc]  # mypy knows no defaults of lambdas
    simulation.run_for(1.0)
    assert [number for number, _, _ in seen] == [0, 1, 2]
    for (_, _, ended_s), (_, began_s, _) in pairwise(seen):
        assert began_s == pytest.approx(ended_s)


def test_a_turn_ends_when_its_slice_is_used_up(simulation: Simulation) -> None:
    """Else a frame that arrives in between would wait for all that is in the mailboxes."""
    seen: list[tuple[int, float, float]] = []
    node = simulation.node(Identity("n1"))
    for number in range(3):
        node.tell(node.spawn(Toiler, seen), Toil(number))
    simulation.run_for(WORK_S * 1.5)
    assert node.turns == 2


def test_answers_leave_when_the_work_is_done(simulation: Simulation) -> None:
    """The other node, which is not busy, hears of it no sooner, and not much later."""
    simulation.faults = NetworkFaults(delay_s=0.0005, jitter_s=0.0)
    seen: list[float] = []
    node = simulation.node(Identity("n1"), endpoint="n1:7401")
    node.spawn(Toiler, [], serial=SERVICE)
    other = simulation.node(Identity("n3"))
    began_s = other.clock.monotonic_s()
    other.spawn(Asker, "n1:7401", seen)
    simulation.run_for(2.0)
    assert 1.0 + WORK_S <= seen[0] - began_s <= 1.0 + WORK_S + WIRE_S


class Writer(Actor):
    """Works, then asks for a sync; notes when it has ended."""

    def __init__(self, seen: list[float]) -> None:
        self.seen = seen
        self.file = self.environment.disk.open("file", create=True)

    def toil(self, message: Toil, sender: NodeAddress) -> None:
        self.seen.append(self.environment.clock.monotonic_s())
        charge(WORK_S)
        self.environment.disk.sync(self.file, self.address, 1)

    def done(self, message: DiskDone, sender: NodeAddress) -> None:
        self.seen.append(self.environment.clock.monotonic_s())


def test_a_sync_begins_when_the_work_before_it_is_done(simulation: Simulation) -> None:
    """And takes its own time after that."""
    seen: list[float] = []
    node = simulation.node(Identity("n1"))
    node.tell(node.spawn(Writer, seen), Toil(1))
    simulation.run_for(1.0)
    began_s, ended_s = seen
    assert WORK_S < ended_s - began_s <= WORK_S + LATENCY_MAX_S


def test_a_pause_and_work_end_in_either_order(simulation: Simulation) -> None:
    """The next turn comes after both."""
    for pause_s in (WORK_S / 2, WORK_S * 2):
        seen: list[tuple[int, float, float]] = []
        node = simulation.node(Identity("n1"))
        toiler = node.spawn(Toiler, seen)
        node.tell(toiler, Toil(0))
        simulation.run(nothing())
        node.pause(pause_s)
        node.tell(toiler, Toil(1))
        simulation.run_for(1.0)
        assert seen[1][1] - seen[0][1] == pytest.approx(max(WORK_S, pause_s))
        node.stop()


class Sharer(Actor):
    """Does a hundred things, as many in each handler as its budget allows."""

    def __init__(self, done: list[int]) -> None:
        self.done = done
        self.left = 100

    def toil(self, message: Toil, sender: NodeAddress) -> None:
        budget = Budget(self.environment.clock)
        before = self.left
        while self.left and not budget.spent:
            charge(0.0012)
            self.left -= 1
        self.done.append(before - self.left)
        if self.left:
            self.send(self.address, message)


def test_budgets_see_the_work(simulation: Simulation) -> None:
    """A loop with a budget of 5 ms ends after so much of it, sooner on a slower node."""
    for name, each in (("n1", 5), ("n2", 2)):
        done: list[int] = []
        node = simulation.node(Identity(name))
        node.tell(node.spawn(Sharer, done), Toil(0))
        simulation.run_for(1.0)
        assert set(done[:-1]) == {each}
        assert sum(done) == 100
        assert node.handlers.over[0] == {}


async def nothing() -> None:
    """Let what is ready run."""
