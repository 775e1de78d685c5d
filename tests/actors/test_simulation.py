"""A simulation is decided by its seed, in every process, and fails loudly."""

import asyncio
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import PoisonMessage

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import DiskDone, Identity, NodeConnected
from copycat.actors.message import Plain, message
from copycat.actors.simulated_loop import SimulatedLoop, SimulationStalled
from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from copycat.actors.system import ActorEndedError

ROOT = Path(__file__).parents[2]
SERVICE = 1


@message(61011)
class Store:
    number: int
    text: str


@message(61012)
class Stored:
    number: int


@message(61013)
class Baggage:
    content: Plain


class Shop(Actor):
    """Writes what it is given to its disk, and answers when it is durable."""

    fail_stop = True

    def __init__(self) -> None:
        self.file = self.environment.disk.open("stock", create=True)
        self.waiting: dict[int, tuple[NodeAddress, int]] = {}

    def store(self, message: Store, sender: NodeAddress) -> None:
        token = len(self.waiting)
        self.waiting[token] = (sender, message.number)
        self.file.write(self.file.size(), message.text.encode())
        self.environment.disk.sync(self.file, self.address, token)

    def done(self, message: DiskDone, sender: NodeAddress) -> None:
        customer, number = self.waiting[message.token]
        self.send(customer, Stored(number))


class Customer(Actor):
    """Stores one thing after the other, and asks again when no answer comes."""

    fail_stop = True

    def __init__(self, endpoint: str, shop: str, answers: list[int]) -> None:
        self.shop = NodeAddress.well_known(shop, SERVICE)
        self.answers = answers
        self.number = 0
        self.environment.links.dial(endpoint)
        self.ask()

    def ask(self) -> None:
        self.send(self.shop, Store(self.number, f"thing {self.environment.random.random()}"))
        self.wake_after(0.5, self.number)

    def stored(self, message: Stored, sender: NodeAddress) -> None:
        if message.number == self.number:
            self.answers.append(message.number)
            self.number += 1
            self.ask()

    def unrecognized(self, message: Any, sender: NodeAddress) -> None:
        if message.payload == self.number:
            self.ask()


def trade(seed: int) -> tuple[Simulation, list[int]]:
    """A shop and three customers, with every fault, a crash and a cut; the world is closed."""
    simulation = Simulation(seed)
    simulation.faults = NetworkFaults.random(simulation.random)
    answers: list[int] = []
    disk = simulation.disk("shop")

    def open_shop() -> None:
        node = simulation.node(Identity("shop"), endpoint="shop:1", disk=disk)
        node.spawn(Shop, serial=SERVICE)

    async def story() -> None:
        open_shop()
        for number in range(3):
            node = simulation.node(Identity(f"customer{number}"))
            node.spawn(Customer, "shop:1", "shop", answers)
        await asyncio.sleep(1)
        simulation.network.cut("shop", "customer1")
        await asyncio.sleep(0.7)
        simulation.network.heal()
        simulation.crash("shop")
        await asyncio.sleep(0.5)
        open_shop()
        await asyncio.sleep(1)

    simulation.run(story(), timeout_s=60)
    simulation.close()
    return simulation, answers


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(1) as made:
        yield made


def test_the_same_seed_gives_the_same_world(seed: int) -> None:
    """Two runs of a seed agree in every event, time and byte; the next seed differs."""
    (first, answers), (second, same_answers) = trade(seed), trade(seed)
    assert (first.trace_hash, first.events, answers) == (
        second.trace_hash,
        second.events,
        same_answers,
    )
    assert len(answers) > 10
    assert trade(seed + 1)[0].trace_hash != first.trace_hash


def test_the_same_seed_gives_the_same_world_in_another_process() -> None:
    """The trace does not depend on hash seeds, addresses in memory or the time of day."""
    code = "import test_simulation as t; print([t.trade(seed)[0].trace_hash for seed in range(3)])"
    printed = set()
    for hash_seed in ("0", "1", "4242"):
        path = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(done.stdout)
    assert printed == {f"{[trade(seed)[0].trace_hash for seed in range(3)]}\n"}


def test_the_loop_knows_its_world(simulation: Simulation) -> None:
    """A coroutine finds the simulation it runs in through its running loop."""

    async def look() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        assert loop.simulation is simulation

    simulation.run(look())


def test_generators_of_different_purposes_are_independent() -> None:
    """Drawing for one purpose does not move another; equal seeds and purposes draw the same."""
    first, second = Simulation(5), Simulation(5)
    first.random.random()
    assert first.random_for("x").random() == second.random_for("x").random()
    assert first.network.random.random() == second.network.random.random()
    assert first.random_for("x").random() != first.random_for("y").random()
    first.close()
    second.close()


def test_a_monitor_runs_after_every_event_and_its_turn(simulation: Simulation) -> None:
    """A monitor sees each delivery when the turn it caused is over."""
    answers: list[int] = []
    seen: list[tuple[int, int]] = []
    simulation.node(Identity("shop"), endpoint="shop:1").spawn(Shop, serial=SERVICE)
    simulation.node(Identity("customer")).spawn(Customer, "shop:1", "shop", answers)
    simulation.after_event.append(lambda: seen.append((simulation.events, len(answers))))
    simulation.run_for(2)
    assert [events for events, _ in seen] == list(range(1, simulation.events + 1))
    grown = [count for _, count in seen]
    assert {after - before for before, after in itertools.pairwise(grown)} == {0, 1}
    assert grown[-1] == len(answers) > 10


def test_a_monitor_that_raises_fails_the_run(simulation: Simulation) -> None:
    """What a monitor raises is raised out of the run, at the event it was found after."""

    def check() -> None:
        assert simulation.now_s < 3, "the rule is broken"

    simulation.after_event.append(check)
    with pytest.raises(AssertionError, match="the rule is broken"):
        simulation.run(asyncio.sleep(3))
    assert simulation.now_s == 3


class Bomb(Actor):
    fail_stop = True

    def __init__(self, end: BaseException | None = None) -> None:
        self.reason = end or ZeroDivisionError()

    def store(self, message: Store, sender: NodeAddress) -> None:
        raise self.reason


def test_a_failing_server_actor_fails_the_run(simulation: Simulation) -> None:
    """A fail-stop actor's exception stops its node and is raised out of the run."""
    node = simulation.node(Identity("n1"))
    node.tell(node.spawn(Bomb), Store(1, ""))
    with pytest.raises(ZeroDivisionError):
        simulation.run_for(1)
    assert node.stopped


def test_a_node_may_be_allowed_to_fail(simulation: Simulation) -> None:
    """Who expects a failure sets on_failure, and the world goes on."""
    node = simulation.node(Identity("n1"))
    failures: list[BaseException] = []
    node.on_failure = failures.append
    node.tell(node.spawn(Bomb), Store(1, ""))
    simulation.run_for(1)
    assert [type(error) for error in failures] == [ZeroDivisionError]


@pytest.mark.parametrize(
    "end", [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), StopIteration()]
)
def test_whatever_ends_a_fail_stop_actor_stops_its_node_alone(
    simulation: Simulation, end: BaseException
) -> None:
    """It is told as an exception that ends nothing else, with the end itself as its cause."""
    node, other = simulation.node(Identity("n1")), simulation.node(Identity("n2"))
    failures: list[BaseException] = []
    node.on_failure = failures.append
    node.tell(node.spawn(Bomb, end), Store(1, ""))
    simulation.run_for(1)
    assert node.stopped
    assert not other.stopped
    assert [type(failure) for failure in failures] == [ActorEndedError]
    assert failures[0].__cause__ is end


def test_an_interrupt_in_an_actor_ends_the_run(simulation: Simulation) -> None:
    """Who presses Ctrl-C does not want to hear of a failed server."""
    node = simulation.node(Identity("n1"))
    node.tell(node.spawn(Bomb, KeyboardInterrupt()), Store(1, ""))
    with pytest.raises(KeyboardInterrupt):
        simulation.run_for(1)


@pytest.mark.parametrize("end", [asyncio.CancelledError(), GeneratorExit()])
def test_an_ordinary_actor_that_is_cancelled_returns_the_message(
    simulation: Simulation, end: BaseException
) -> None:
    """As after an exception: its node goes on, and whoever asked is told."""

    class Cancelled(Actor):
        def store(self, message: Store, sender: NodeAddress) -> None:
            raise end

    class Asker(Actor):
        def __init__(self) -> None:
            self.returned: list[Any] = []
            self.send(self.spawn(Cancelled), Store(1, ""))

        def poison_message(self, message: PoisonMessage, sender: NodeAddress) -> None:
            self.returned.append(message.poisonMessage)

    node = simulation.node(Identity("n1"))
    asker = node.spawn(Asker)
    simulation.run_for(1)
    assert node.actor_at(asker.serial).returned == [Store(1, "")]
    assert not node.stopped


def test_waiting_in_vain_is_reported(simulation: Simulation) -> None:
    """A coroutine that nothing will ever wake ends the run, and is cancelled."""
    cleaned: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(SimulationStalled, match="wait"):
        simulation.run(wait())
    assert cleaned == [True]


def test_a_run_may_be_limited(simulation: Simulation) -> None:
    """A coroutine that takes too long is cancelled; the error says where it was."""

    async def dawdle() -> None:
        await asyncio.sleep(100)

    with pytest.raises(TimeoutError, match=r"not done after 5 s; .*dawdle"):
        simulation.run(dawdle(), timeout_s=5)
    assert simulation.now_s == 5
    assert simulation.run(asyncio.sleep(1, "result"), timeout_s=5) == "result"
    assert simulation.now_s == 6


def test_a_node_that_talks_to_itself_for_ever_is_reported(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages within a node take no time, so a loop of them would never end."""

    class Restless(Actor):
        def store(self, message: Store, sender: NodeAddress) -> None:
            self.send(self.address, message)

    monkeypatch.setattr("copycat.actors.simulated_node.LOCAL_MESSAGES_MAX", 1000)
    node = simulation.node(Identity("n1"))
    node.tell(node.spawn(Restless), Store(1, ""))
    with pytest.raises(SimulationStalled, match=r"sends itself messages without an end.*Store"):
        simulation.run_for(1)


@pytest.mark.parametrize("encode_always", [True, False])
def test_local_messages_are_encoded_when_asked(encode_always: bool) -> None:
    """With encode_always a message within a node is a copy that went through the codec."""

    class Taker(Actor):
        def __init__(self, taken: list[Any]) -> None:
            self.taken = taken

        def take(self, message: Baggage, sender: NodeAddress) -> None:
            self.taken.append(message.content)

    taken: list[Any] = []
    content = (1, 2)
    with Simulation(1, encode_always=encode_always) as simulation:
        node = simulation.node(Identity("n1"))
        node.tell(node.spawn(Taker, taken), Baggage(content))
        simulation.run_for(1)
    assert taken == [[1, 2] if encode_always else (1, 2)]


def test_every_eighth_seed_encodes() -> None:
    """Seeds divisible by eight prove that local messages could travel."""
    worlds = [Simulation(seed) for seed in range(17)]
    assert [world.seed for world in worlds if world.encode_always] == [0, 8, 16]
    for world in worlds:
        world.close()


def test_what_a_shop_answered_survives_every_crash(seed: int) -> None:
    """A stored thing that was confirmed is on the disk after a crash, whatever else is lost."""
    with Simulation(seed) as simulation:
        answers: list[int] = []
        disk = simulation.disk("shop")
        node = simulation.node(Identity("shop"), endpoint="shop:1", disk=disk)
        node.spawn(Shop, serial=SERVICE)
        simulation.node(Identity("customer")).spawn(Customer, "shop:1", "shop", answers)
        simulation.run_for(1 + simulation.random.random())
        simulation.crash("shop")
        content = disk.load("stock")
    assert content is not None
    assert len(answers) > 10
    assert content.count(b"thing") >= len(answers)


@pytest.mark.parametrize("lose_unsynced", [True, False])
def test_only_a_loss_of_power_loses_writes(lose_unsynced: bool) -> None:
    """A killed process leaves all it wrote; a machine without power may lose what was not synced."""
    found = set()
    for seed in range(20):
        with Simulation(seed) as simulation:
            disk = simulation.disk("n1")
            node = simulation.node(Identity("n1"), disk=disk)
            node.disk.open("file", create=True).write(0, b"content")
            simulation.crash("n1", lose_unsynced=lose_unsynced)
            found.add(disk.load("file"))
    assert b"content" in found
    assert (None in found) == lose_unsynced


def test_the_trace_depends_on_what_messages_say() -> None:
    """Two worlds that differ in the content of one message only have different traces."""
    traces = set()
    for text in ("same", "same", "else"):
        with Simulation(1) as simulation:
            n1, n2 = (
                simulation.node(Identity("n1"), endpoint="n1:1"),
                simulation.node(Identity("n2")),
            )
            n2.links.dial("n1:1")
            simulation.run_for(1)
            n2.tell(NodeAddress.well_known(n1.name, SERVICE), Store(1, text))
            simulation.run_for(1)
            traces.add(simulation.trace_hash)
    assert len(traces) == 2


def test_clocks_of_nodes_are_their_own(simulation: Simulation) -> None:
    """Clocks start anywhere, run at their rate and jump; monotonic ones do not jump."""
    fast, true = (simulation.node(Identity(name)).clock for name in ("fast", "true"))
    fast.rate = 2.0
    began = [clock.monotonic_s() for clock in (fast, true)]
    walls = [clock.wall_time_s() for clock in (fast, true)]
    assert began[0] != began[1]
    fast.jump_wall(-100)
    simulation.run_for(10)
    passed = [clock.monotonic_s() - at_s for clock, at_s in zip((fast, true), began, strict=True)]
    assert passed == pytest.approx([20, 10])
    shown = [clock.wall_time_s() - at_s for clock, at_s in zip((fast, true), walls, strict=True)]
    assert shown == pytest.approx([-80, 10])


def test_timers_follow_the_clock_of_their_node(simulation: Simulation) -> None:
    """On a clock that runs twice as fast a timer of 10 s ends after 5 true ones."""
    node = simulation.node(Identity("fast"))
    node.clock.rate = 2.0
    ended: list[float] = []
    node.call_later(10, lambda: ended.append(simulation.now_s))
    simulation.run_for(20)
    assert ended == pytest.approx([5])


def test_a_timer_takes_time_even_when_rounding_would_leave_none(simulation: Simulation) -> None:
    """Who waits by a clock of large numbers for what is due in the last digit gets there."""
    node = simulation.node(Identity("slow"))
    node.clock.rate = 0.952
    simulation.run_for(4.1)
    due_s = math.nextafter(node.clock.monotonic_s(), math.inf)
    waits: list[float] = []

    def wait() -> None:
        left_s = due_s - node.clock.monotonic_s()
        if left_s > 0 and len(waits) < 10:
            waits.append(left_s)
            node.call_later(min(left_s, 1e-17), wait)

    wait()
    simulation.run_for(1)
    assert 0 < len(waits) < 10


def test_the_watcher_of_a_world_can_join_it_from_a_coroutine(simulation: Simulation) -> None:
    """A coroutine can start nodes and wait for what their actors find out."""

    class Scout(Actor):
        def __init__(self, found: "asyncio.Future[str]") -> None:
            self.found = found
            self.environment.links.watch(self.address)
            self.environment.links.dial("n1:1")

        def up(self, message: NodeConnected, sender: NodeAddress) -> None:
            self.found.set_result(message.node)

    async def join() -> str:
        found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        simulation.node(Identity("scout")).spawn(Scout, found)
        return await asyncio.wait_for(found, 5)

    simulation.node(Identity("n1"), endpoint="n1:1")
    assert simulation.run(join()) == "n1"
