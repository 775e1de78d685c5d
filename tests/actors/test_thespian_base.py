"""Thespian's ActorSystem runs on our node as its documentation says.

Thespian's own tests pass as well, with a fixture that makes this base; here is what matters most.
"""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import Actor as ThespianActor
from thespian.actors import (
    ActorExitRequest,
    ActorSystem,
    ActorSystemFailure,
    ActorTypeDispatcher,
    ChildActorExited,
    DeadEnvelope,
    InvalidActorSpecification,
    NoCompatibleSystemForActor,
    PoisonMessage,
    WakeupMessage,
    requireCapability,
)

from copycat.actors import Identity
from copycat.actors.cell import NotOfferedError
from copycat.actors.network import NetworkNode
from copycat.actors.network_thread import NetworkThread
from copycat.actors.thespian_base import SystemBase

PATIENCE = timedelta(seconds=20)


@pytest.fixture
def system() -> Iterator[Any]:
    """An actor system on our base."""
    base = SystemBase(capabilities={"Disk": "fast"})
    made = ActorSystem(systemBase=base, transientUnique=True)
    yield made
    made.shutdown()


class Greeter(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Thespian's first example."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, str):
            self.send(sender, f"hello {message}")


class Parent(ActorTypeDispatcher):  # type: ignore[misc]  # Thespian carries no types
    """Makes children and reports their ends."""

    def receiveMsg_str(self, message: str, sender: Any) -> None:
        self.reporter = sender
        kinds = {"greeter": Greeter, "stillborn": Stillborn, "by name": f"{__name__}.Greeter"}
        self.child = self.createActor(kinds[message])
        self.send(sender, self.child)

    def receiveMsg_ChildActorExited(self, message: Any, sender: Any) -> None:
        self.send(self.reporter, ("exited", message.childAddress))


class Stillborn(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Cannot be made."""

    def __init__(self) -> None:
        raise ValueError("no")


def test_ask_returns_the_answer(system: Any) -> None:
    """From an actor that knows nothing of us."""
    greeter = system.createActor(Greeter)
    assert system.ask(greeter, "world", PATIENCE) == "hello world"
    assert system.ask(greeter, "again", 20) == "hello again"


def test_an_ask_without_an_answer_returns_none(system: Any) -> None:
    """After its time; an answer that comes later is the next one's."""
    greeter = system.createActor(Greeter)
    assert system.ask(greeter, 5, 0) is None
    system.tell(greeter, "late")
    assert system.listen(PATIENCE) == "hello late"
    assert system.listen(timedelta()) is None


def test_an_actor_may_be_named_by_a_text(system: Any) -> None:
    """Its class is imported; what is no dotted name or not there is an error."""
    greeter = system.createActor(f"{__name__}.Greeter")
    assert system.ask(greeter, "x", PATIENCE) == "hello x"
    with pytest.raises(InvalidActorSpecification):
        system.createActor("Greeter")
    with pytest.raises(ImportError):
        system.createActor("no.such.Greeter")


def test_a_primary_actor_that_cannot_be_made_is_an_error(system: Any) -> None:
    """With the reason."""
    with pytest.raises(ActorSystemFailure, match="no"):
        system.createActor(Stillborn)


@pytest.mark.parametrize("kind", ["greeter", "by name"])
def test_a_parent_learns_of_its_childs_end(system: Any, kind: str) -> None:
    """The address was final when the child was made, and is hashable."""
    parent = system.createActor(Parent)
    child = system.ask(parent, kind, PATIENCE)
    assert system.ask(child, "child", PATIENCE) == "hello child"
    system.tell(child, ActorExitRequest())
    exited = system.listen(PATIENCE)
    assert exited == ("exited", child)
    assert {child: 1}[exited[1]] == 1


def test_a_stillborn_child_has_exited(system: Any) -> None:
    """Its parent gets an address and then the notice."""
    parent = system.createActor(Parent)
    child = system.ask(parent, "stillborn", PATIENCE)
    assert system.listen(PATIENCE) == ("exited", child)


class Bitten(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Fails at every text, and counts how often."""

    tried = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, str):
            self.tried += 1
            raise RuntimeError("bitten")  # noqa: TRY004 - it is no question of types
        self.send(sender, self.tried)


def test_poison_comes_back_after_one_more_try(system: Any) -> None:
    """The sender sees what it sent, and why."""
    bitten = system.createActor(Bitten)
    poison = system.ask(bitten, "apple", PATIENCE)
    assert type(poison) is PoisonMessage
    assert poison.poisonMessage == "apple"
    assert "bitten" in poison.details
    assert system.ask(bitten, 0, PATIENCE) == 2


class Sleeper(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Answers when it wakes up."""

    asker: Any = None

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, WakeupMessage):
            self.send(self.asker, (message.payload, message.delayPeriod))
        elif isinstance(message, float):
            self.asker = sender
            self.wakeupAfter(timedelta(seconds=message), payload="morning")


def test_wakeup_after_a_while(system: Any) -> None:
    """With the payload and the period that were asked for."""
    sleeper = system.createActor(Sleeper)
    awake = system.ask(sleeper, 0.01, PATIENCE)
    assert awake == ("morning", timedelta(seconds=0.01))


class Undertaker(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Gets the dead letters."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if message == "begin":
            self.owner = sender
            self.handleDeadLetters()
            self.send(sender, "ready")
        elif isinstance(message, DeadEnvelope):
            self.send(self.owner, (message.deadAddress, message.deadMessage))


def test_dead_letters_reach_their_handler(system: Any) -> None:
    """But no notices of the runtime, and not another's exit."""
    undertaker = system.createActor(Undertaker)
    assert system.ask(undertaker, "begin", PATIENCE) == "ready"
    greeter = system.createActor(Greeter)
    system.tell(greeter, ActorExitRequest())
    system.tell(greeter, ActorExitRequest())
    system.tell(greeter, ChildActorExited(greeter))
    system.tell(greeter, "too late")
    assert system.listen(PATIENCE) == (greeter, "too late")


def test_threads_do_not_get_each_others_answers(system: Any) -> None:
    """Each has its own ``private()``; all its answers are its own, in order."""
    greeter = system.createActor(Greeter)
    wrong: list[str] = []

    def ask_often(name: str) -> None:
        with system.private() as mine:
            for number in range(50):
                answer = mine.ask(greeter, f"{name}{number}", PATIENCE)
                if answer != f"hello {name}{number}":
                    wrong.append(answer)

    threads = [threading.Thread(target=ask_often, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@requireCapability("Disk", "fast")
class Picky(Greeter):
    """Needs a fast disk."""


def test_capabilities_are_required_and_may_go(system: Any) -> None:
    """An actor that the node no longer suits exits; another is not made."""
    picky = system.createActor(Picky)
    assert system.ask(picky, "x", PATIENCE) == "hello x"
    undertaker = system.createActor(Undertaker)
    assert system.ask(undertaker, "begin", PATIENCE) == "ready"
    system.updateCapability("Disk")
    assert system.ask(picky, "y", PATIENCE) == (picky, "y")
    with pytest.raises(NoCompatibleSystemForActor):
        system.createActor(Picky)


def test_a_global_name_is_taken_once(system: Any) -> None:
    """Whoever asks for it again gets the actor that has it."""
    first = system.createActor(Greeter, globalName="the one")
    assert system.createActor(Sleeper, globalName="the one") == first


def test_sources_are_not_offered(system: Any) -> None:
    """The error says so."""
    with pytest.raises(NotOfferedError, match="not offered yet"):
        system.loadActorSource("actors.zip")
    with pytest.raises(NotOfferedError, match="not offered yet"):
        system.createActor(Greeter, sourceHash="00ff")


def test_it_runs_on_a_node_that_is_there_already() -> None:
    """Then the thread is the caller's, and shutdown stops the node."""
    thread = NetworkThread()
    node = thread.call(lambda: NetworkNode(Identity("mine"), loop=thread.loop))
    system = ActorSystem(systemBase=SystemBase(thread, node), transientUnique=True)
    greeter = system.createActor(Greeter)
    assert greeter.node == "mine"
    assert system.ask(greeter, "x", PATIENCE) == "hello x"
    system.shutdown()
    assert node.stopped
    thread.stop()
