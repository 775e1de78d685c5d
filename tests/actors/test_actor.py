"""What an actor can rely on: typed handlers, order, children, failure, exit, timers."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from thespian.actors import (
    ActorExitRequest,
    ChildActorExited,
    DeadEnvelope,
    PoisonMessage,
    WakeupMessage,
)

from copycat.actors import Actor, NodeAddress, message
from copycat.actors.actor import handlers_of
from copycat.actors.network import NetworkNode
from network_world import Echo, Note, Seen, World, in_world

Body = Callable[[NetworkNode, Seen], Coroutine[Any, Any, None]]


def in_node(body: Body) -> Callable[[], None]:
    """Make a coroutine that takes a node and a probe a test."""

    def run() -> None:
        world = World()

        async def test() -> None:
            node = await world.node("n", listen=None)
            await body(node, Seen(node))

        in_world(test(), world)

    run.__doc__ = body.__doc__
    run.__name__ = body.__name__
    return run


@message(60031)
class Ask:
    """A request."""

    number: int


@message(60032)
class Answer:
    """A reply."""

    number: int


class Adder(Actor):
    """Two handlers, one of them for two messages."""

    def ask(self, message: Ask, sender: NodeAddress) -> None:
        """Answer with one more."""
        self.send(sender, Answer(message.number + 1))

    def other(self, message: Answer | Note, sender: NodeAddress) -> None:
        """Say which it was."""
        self.send(sender, type(message).__name__)


class Doubler(Adder):
    """Inherits one handler and replaces the other."""

    def ask(self, message: Ask, sender: NodeAddress) -> None:
        """Answer with the double."""
        self.send(sender, Answer(message.number * 2))


@in_node
async def test_a_message_goes_to_the_handler_that_names_it(node: NetworkNode, seen: Seen) -> None:
    """Unions name several; a class inherits handlers and may replace them."""
    adder, doubler = node.spawn(Adder), node.spawn(Doubler)
    for target in (adder, doubler):
        seen.say(target, Ask(10))
        seen.say(target, Note(1, None))
    assert await seen.next() == Answer(11)
    assert await seen.next() == "Note"
    assert await seen.next() == Answer(20)
    assert await seen.next() == "Note"
    assert seen.sender == doubler


def test_two_handlers_for_one_message_are_a_bug() -> None:
    """It is noticed when the class is used first."""

    class Undecided(Actor):
        def one(self, message: Ask, sender: NodeAddress) -> None: ...
        def two(self, message: Ask | Answer, sender: NodeAddress) -> None: ...

    with pytest.raises(AssertionError, match="handles Ask twice"):
        handlers_of(Undecided)


@in_node
async def test_an_unrecognized_message_is_dropped(node: NetworkNode, seen: Seen) -> None:
    """It is an error of its sender, and the actor goes on."""
    adder = node.spawn(Adder)
    seen.say(adder, "what?")
    seen.say(adder, Ask(1))
    assert await seen.next() == Answer(2)


@in_node
async def test_messages_between_two_actors_keep_their_order(node: NetworkNode, seen: Seen) -> None:
    """However many."""
    echo = node.spawn(Echo)
    for number in range(1000):
        seen.say(echo, number)
    assert [await seen.next() for _ in range(1000)] == list(range(1000))


class Parent(Actor):
    """Steps a child with arguments, and ends it."""

    def __init__(self) -> None:
        self.counter = self.spawn(Counter, [100])

    def ask(self, message: Ask, sender: NodeAddress) -> None:
        """Have the child count twice, now."""
        first = self.step(self.counter, message)
        second = self.step(self.counter, message)
        self.send(sender, [first, second])

    def stop(self, message: Answer, sender: NodeAddress) -> None:
        """End the child; what was sent to it before is lost."""
        self.send(self.counter, Ask(1))
        self.end(self.counter)
        self.send(sender, self.counter)


class Counter(Actor):
    """Counts from what it was given."""

    def __init__(self, start: list[int]) -> None:
        self.start = start

    def ask(self, message: Ask, sender: NodeAddress) -> int:
        """Count on."""
        self.start[0] += message.number
        return self.start[0]


@in_node
async def test_a_child_is_stepped_at_once(node: NetworkNode, seen: Seen) -> None:
    """Its results are there before the parent goes on."""
    parent = node.spawn(Parent)
    seen.say(parent, Ask(5))
    assert await seen.next() == [105, 110]


@in_node
async def test_an_ended_child_leaves_dead_letters(node: NetworkNode, seen: Seen) -> None:
    """Messages in its mailbox and later ones; its address is never used again."""
    parent = node.spawn(Parent)
    node.handle_dead_letters(seen.address, enable=True)
    seen.say(parent, Answer(0))
    dead = [await seen.next() for _ in range(2)]
    child = next(item for item in dead if type(item) is NodeAddress)
    letter = next(item for item in dead if type(item) is DeadEnvelope)
    assert letter.deadAddress == child
    assert letter.deadMessage == Ask(1)
    seen.say(child, Ask(2))
    assert (await seen.next()).deadMessage == Ask(2)
    assert node.dead_letters == 2


class Family(Actor):
    """Makes a child of its own kind, and reports what ends."""

    def __init__(self, report_to: NodeAddress, depth: int) -> None:
        self.report_to = report_to
        if depth:
            self.spawn(Family, report_to, depth - 1)

    def exits(self, message: ActorExitRequest | ChildActorExited, sender: NodeAddress) -> None:
        """Report it."""
        self.send(self.report_to, (type(message).__name__, self.address.serial))


@in_node
async def test_an_actor_exits_after_its_children(node: NetworkNode, seen: Seen) -> None:
    """The request goes down, then the ends come up; messages in between are dead letters."""
    oldest = node.spawn(Family, seen.address, 2)
    serials = [oldest.serial, oldest.serial + 1, oldest.serial + 2]
    seen.say(oldest, ActorExitRequest())
    for serial in serials:
        assert await seen.next() == ("ActorExitRequest", serial)
    for serial in serials:
        assert not node.has(NodeAddress("n", node.incarnation, serial))
    assert seen.nothing_more()


class Unwilling(Actor):
    """Makes a new child whenever one ends, also while it exits itself."""

    def __init__(self) -> None:
        self.made = [self.createActor(Echo)]

    def exited(self, message: ChildActorExited, sender: NodeAddress) -> None:
        """Replace it."""
        self.made.append(self.createActor(Echo))


@in_node
async def test_an_exit_ends_although_children_are_replaced(node: NetworkNode, seen: Seen) -> None:
    """An actor that exits handles nothing more, so it makes no new children."""
    before = len(node._cells)
    address = node.spawn(Unwilling)
    seen.say(address, ActorExitRequest())
    echo = node.spawn(Echo)
    for _ in range(3):
        seen.say(echo, "turn")
        await seen.next()
    assert len(node._cells) == before + 1


class Shaky(Actor):
    """Fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def note(self, message: Note, sender: NodeAddress) -> None:
        """Change the message, then fail or answer."""
        assert isinstance(message.content, list)
        message.content.append(1)
        if self.failures:
            self.failures -= 1
            raise ValueError("shaky")
        self.send(sender, message.content)


@in_node
async def test_a_failed_message_is_tried_once_more_with_a_copy(
    node: NetworkNode, seen: Seen
) -> None:
    """That is Thespian's rule for users' actors."""
    note = Note(1, [])
    seen.say(node.spawn(Shaky, 1), note)
    assert await seen.next() == [1, 1]
    assert note == Note(1, [1])


@in_node
async def test_a_message_that_fails_twice_goes_back(node: NetworkNode, seen: Seen) -> None:
    """With the traceback; the actor lives on."""
    shaky = node.spawn(Shaky, 2)
    note = Note(1, [])
    seen.say(shaky, note)
    poison = await seen.next()
    assert type(poison) is PoisonMessage
    assert poison.poisonMessage is note
    assert "ValueError: shaky" in poison.details
    seen.say(shaky, Note(2, []))
    assert await seen.next() == [1]


class Leaver(Actor):
    """Leaves by the emergency exit."""

    def ask(self, message: Ask, sender: NodeAddress) -> None:
        """Exit as Thespian's users may."""
        raise SystemExit(0)


@in_node
async def test_sys_exit_ends_the_actor_only(node: NetworkNode, seen: Seen) -> None:
    """Not the process, as it would where actors are processes."""
    leaver = node.spawn(Leaver)
    node.handle_dead_letters(seen.address, enable=True)
    seen.say(leaver, Ask(1))
    echo = node.spawn(Echo)
    while node.has(leaver):
        seen.say(echo, 0)
        await seen.next()
    seen.say(leaver, Ask(2))
    assert type(await seen.next()) is DeadEnvelope


class Alarm(Actor):
    """Wakes up."""

    def ask(self, message: Ask, sender: NodeAddress) -> None:
        """Set three alarms, the last first."""
        self.sender = sender
        self.wake_after(0.02, "c")
        self.wake_after(0.01, "b")
        self.wake_after(0, "a")

    def wake(self, message: WakeupMessage, sender: NodeAddress) -> None:
        """Tell which."""
        self.send(self.sender, (message.payload, sender == self.address))


@in_node
async def test_alarms_go_off_in_order(node: NetworkNode, seen: Seen) -> None:
    """Each as a message from the actor to itself."""
    seen.say(node.spawn(Alarm), Ask(1))
    assert [await seen.next() for _ in range(3)] == [("a", True), ("b", True), ("c", True)]


class Stillborn(Actor):
    """Cannot be made."""

    def __init__(self) -> None:
        self.spawn(Echo)
        raise ValueError("no")


@in_node
async def test_an_actor_that_cannot_be_made_leaves_nothing(node: NetworkNode, seen: Seen) -> None:
    """Its error is the caller's, and the children it had made are gone."""
    before = len(node._cells)
    with pytest.raises(ValueError, match="no"):
        node.spawn(Stillborn)
    assert len(node._cells) == before


class Talkative(Actor):
    """Keeps itself busy for ever."""

    def ask(self, message: Ask, sender: NodeAddress) -> None:
        """Go on."""
        self.send(self.address, message)


@in_node
async def test_a_busy_actor_leaves_the_others_their_turn(node: NetworkNode, seen: Seen) -> None:
    """And the loop its timers: a turn ends after its slice of time."""
    seen.say(node.spawn(Talkative), Ask(1))
    seen.say(node.spawn(Alarm), Ask(1))
    assert await seen.next() == ("a", True)


@in_node
async def test_a_broken_world_stops_the_node(node: NetworkNode, seen: Seen) -> None:
    """An error of the runtime itself is not lost in the loop."""
    failures: list[BaseException] = []
    node.on_failure = failures.append
    node.links.flush_all = None  # type: ignore
    node.links.to_write = {None: None}  # type: ignore
    seen.say(node.spawn(Echo), 1)
    await seen.next()
    assert node.stopped
    assert [type(error) for error in failures] == [TypeError]


@in_node
async def test_nothing_is_handled_after_a_stop(node: NetworkNode, seen: Seen) -> None:
    """Neither what is in mailboxes nor what comes later."""
    echo = node.spawn(Echo)
    seen.say(echo, 1)
    node.stop()
    node.tell(seen.address, 2)
    node.stop()
    world = World()
    other = await world.node("m", listen=None)
    ahead = Seen(other)
    ahead.say(other.spawn(Echo), 1)
    await ahead.next()
    await world.stop()
    assert seen.nothing_more()
