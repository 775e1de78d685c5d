"""One actor's life: its mailbox, its children, its failures and its end.

A cell is also what Thespian calls an actor's ``_myRef``: the members which
``thespian.actors.Actor`` uses carry Thespian's names.
"""

import copy
import traceback
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from thespian.actors import (
    Actor as ThespianActor,
)
from thespian.actors import (
    ActorExitRequest,
    ActorSystemException,
    ActorSystemMessage,
    ChildActorExited,
    DeadEnvelope,
    PoisonMessage,
    WakeupMessage,
)
from thespian.system.utilis import withPossibleInitArgs

from copycat.actors.actor import Actor, Handler, table_of
from copycat.actors.address import NodeAddress

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from copycat.actors.environment import Environment
    from copycat.actors.system import Node


class NotOfferedError(ActorSystemException, AttributeError):  # type: ignore[misc]  # Thespian carries no types
    """Something that Thespian has and this runtime has not (yet). Nothing was done."""


class Cell:
    """The runtime's side of one actor."""

    def __init__(self, node: "Node", address: NodeAddress, parent: "Cell | None") -> None:
        self.node = node
        self.address = address
        self.parent = parent
        self.globalName: str | None = None  # Thespian's, for what the node has once
        self.requirements: Any = None  # of the node's capabilities, by Thespian's createActor
        self.actor: Any = None
        self._handlers: dict[type, Handler] = {}  # of the actor's class, if nothing is overridden
        self._admits: Callable[[Any, NodeAddress], bool] | None = None  # None: it takes everything
        self.mailbox: deque[tuple[Any, NodeAddress]] = deque()
        self.children: dict[int, Cell] = {}  # by serial, which is one of this node's
        self.queued = False  # whether the node has this cell among those with messages
        self.exiting = False
        self.ended = False
        self._timers: dict[int, TimerHandle] = {}
        self._timers_made = 0

    @property
    def environment(self) -> "Environment":
        """The world as the node sees it."""
        return self.node.environment

    def begin(self, actor: type[ThespianActor], arguments: tuple[Any, ...]) -> None:
        """Make the actor itself. One of ours knows its address and environment from the start."""
        if issubclass(actor, Actor):
            self.actor = actor.__new__(actor)
            self.actor._myRef = self
            self.actor.environment = self.node.environment
            self.actor.address = self.address
            self.actor.step = self.step
            if actor.receiveMessage is Actor.receiveMessage:
                self._handlers = table_of(actor)
            if actor.admits is not Actor.admits:
                self._admits = self.actor.admits
            self.actor.__init__(*arguments)
        else:
            self.actor = withPossibleInitArgs(
                capabilities=self.node.capabilities, requirements=self.requirements
            ).create(actor)
            self.actor._myRef = self

    def run(self) -> None:
        """Handle the messages that are in the mailbox now; later ones wait for the next turn."""
        mailbox, handlers = self.mailbox, self.node.handlers
        left = len(mailbox)
        while left and mailbox:  # which is empty when the actor was ended by its own handler
            left -= 1
            message, sender = mailbox.popleft()
            self.handle(message, sender)
            ended_s = handlers.now_s()
            if ended_s - handlers.began_s > handlers.limit_s:
                handlers.was_long(self._name_of_handler(message), ended_s - handlers.began_s)
            handlers.began_s = ended_s

    def _name_of_handler(self, message: Any) -> str:
        """Who takes a message, for people: a child, when it takes what this actor takes too and
        so was handed on, as by a Server to its role."""
        kind = type(message)
        for cell in (*self.children.values(), self):
            handler = cell._handlers.get(kind)
            if handler is not None:
                return f"{type(cell.actor).__name__}.{handler.__name__}"
        return f"{type(self.actor).__name__}.{kind.__name__}"

    def handle(self, message: Any, sender: NodeAddress) -> Any:
        """Give one message to the actor, with the rules for exceptions of its class."""
        if self.exiting:
            self._handle_late(message)
            return None
        if (
            self._admits is not None
            and sender.node != self.address.node
            and not self._admits(message, sender)
        ):
            self.node.refused(message, sender)
            return None
        actor = self.actor
        try:
            handler = self._handlers.get(type(message))
            if handler is None:
                return actor.receiveMessage(message, sender)
            return handler(actor, message, sender)
        except BaseException as error:  # noqa: BLE001 - the runtime is where failures of actors end
            self._failed(error, message, sender)
            return None
        finally:
            if type(message) is ActorExitRequest:
                self._begin_exit(recursive=message.isRecursive)

    def _failed(self, error: BaseException, message: Any, sender: NodeAddress) -> None:
        """A handler has ended by an exception: what follows is decided by the actor's class."""
        if getattr(self.actor, "fail_stop", False):
            self.node.fail(error)
        elif isinstance(error, SystemExit):
            self.node.deliver(self.address, ActorExitRequest(recursive=True), self.address)
        elif isinstance(error, KeyboardInterrupt):
            raise error
        elif not self.ended:
            self._retry(message, sender)

    def _handle_late(self, message: Any) -> None:
        """An actor that only waits for its children to end handles nothing, and makes no new
        ones."""
        if type(message) is ChildActorExited:
            self._finish_exit_if_alone()
        elif not isinstance(message, DeadEnvelope | ActorSystemMessage):
            self.node.dead_letter(self.address, message)

    def step(self, child: NodeAddress, message: Any, sender: NodeAddress | None = None) -> Any:
        """Have a child handle a message now; its exceptions are this actor's own."""
        cell = self.children[child.serial]
        handler = cell._handlers.get(type(message))
        if handler is None:
            return cell.actor.receiveMessage(message, sender or self.address)
        return handler(cell.actor, message, sender or self.address)

    def _retry(self, message: Any, sender: NodeAddress) -> None:
        try:
            self.actor.receiveMessage(copy.deepcopy(message), sender)
        except SystemExit:
            self.node.deliver(self.address, ActorExitRequest(recursive=True), self.address)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as in handle
            details = traceback.format_exc()
            self.node.log.warning("message refused actor=%s\n%s", self.address, details)
            if not isinstance(message, ActorSystemMessage):
                self.node.deliver(sender, PoisonMessage(message, details), self.address)

    # What Thespian's Actor asks of its reference.

    def actor_send(self, target: NodeAddress, message: Any) -> None:
        """Send a message from this actor."""
        self.node.deliver(target, message, self.address)

    def createActor(
        self, actor: Any, requirements: Any, global_name: Any, source_hash: Any
    ) -> NodeAddress:
        """Make a child by Thespian's rules: a failing ``__init__`` is told as ChildActorExited."""
        return self.node.create(self, actor, requirements, global_name, source_hash)

    def spawn(self, actor: type[Actor], arguments: tuple[Any, ...]) -> NodeAddress:
        """Make a local child with arguments."""
        return self.node.make(self, actor, arguments).address

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        """Send the actor a WakeupMessage after ``period``, a timedelta or seconds."""
        delay_s = period.total_seconds() if isinstance(period, timedelta) else float(period)
        self._timers_made += 1
        number = self._timers_made

        def due() -> None:
            del self._timers[number]
            self.node.deliver(self.address, WakeupMessage(period, payload), self.address)

        self._timers[number] = self.node.call_later(max(0.0, delay_s), due)

    def handleDeadLetters(self, address: NodeAddress, enable: bool) -> None:
        """Start or stop sending this actor the node's dead letters."""
        self.node.handle_dead_letters(address, enable)

    def updateCapability(self, name: str, value: Any) -> None:
        """Set a capability of the node, or take it away with None."""
        self.node.update_capability(name, value)

    def __getattr__(self, name: str) -> Any:
        raise NotOfferedError(f"{name} is not offered to actors of this runtime")

    def actorSystemShutdown(self) -> None:
        """Stop the whole node."""
        self.node.stop()

    # The end.

    def end(self, child: NodeAddress) -> None:
        """End a child and all below it at once."""
        cell = self.children.pop(child.serial, None)
        if cell is not None:
            cell.drop()

    def drop(self) -> None:
        """Stop existing now: no exit messages, the mailbox becomes dead letters."""
        self.ended = True
        for child in list(self.children.values()):
            child.drop()
        self.children.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.node.forget(self)
        while self.mailbox:
            message, _ = self.mailbox.popleft()
            if not isinstance(message, DeadEnvelope | ActorSystemMessage):
                self.node.dead_letter(self.address, message)

    def _begin_exit(self, *, recursive: bool) -> None:
        if self.ended or self.exiting:
            return
        self.exiting = True
        if not recursive:
            for child in self.children.values():
                child.parent = None
            self.children.clear()
        for child in list(self.children.values()):
            self.node.deliver(child.address, ActorExitRequest(recursive=True), self.address)
        self._finish_exit_if_alone()

    def _finish_exit_if_alone(self) -> None:
        if self.children or self.ended:
            return
        self.drop()
        if self.parent is not None and not self.parent.ended:
            self.parent.children.pop(self.address.serial, None)
            self.node.deliver(self.parent.address, ChildActorExited(self.address), self.address)
