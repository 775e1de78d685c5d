"""Node: what both worlds share. It holds the actors of one node and gives them their turns.

All actors of a node live on one event loop. A *turn* runs every actor that has messages until
none has (or the slice of time is used up), then lets the world carry out what waits for the end
of a turn: frames are written, then disks are synced.
"""

import importlib
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thespian.actors import Actor as ThespianActor
from thespian.actors import (
    ActorExitRequest,
    ActorSystemMessage,
    ChildActorExited,
    DeadEnvelope,
    InvalidActorSpecification,
    NoCompatibleSystemForActor,
)
from thespian.system.utilis import checkActorCapabilities

from copycat.actors.actor import Actor
from copycat.actors.address import ANY_INCARNATION, WELL_KNOWN_SERIALS, NodeAddress
from copycat.actors.cell import Cell, NotOfferedError
from copycat.actors.environment import Environment

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle


class ActorEndedError(RuntimeError):
    """An actor whose failure stops its node has ended by its cause, which is no ``Exception``."""


SLICE_S = 0.010  # how long one turn may keep the loop from its sockets and timers


class Node:
    """The actors of one node. Subclasses are its connection to a world.

    Attributes:
        name: unique among the nodes that talk to each other.
        incarnation: this life of the node; never 0.
        address: who sends what comes from outside any actor; nobody lives there.
        handlers: those that took long.
        failure: the exception that stopped the node, if one did.
        on_failure: called once, with that exception.
    """

    def __init__(
        self,
        name: str,
        incarnation: int,
        loop: "AbstractEventLoop",
        environment: Environment,
    ) -> None:
        assert incarnation != ANY_INCARNATION, "an incarnation is never 0"
        self.name = name
        self.incarnation = incarnation
        self.address = NodeAddress(name, incarnation, 0)
        self.loop = loop
        self.environment = environment
        self.log = logging.getLogger("copycat.actors")
        self.handlers = environment.handlers
        self.failure: BaseException | None = None
        self.on_failure: Callable[[BaseException], None] | None = None
        self.dead_letters = 0  # how many there have been
        self.stopped = False
        self.capabilities: dict[str, Any] = {}  # what Thespian's actors may require
        self._cells: dict[int, Cell] = {}
        self._ready: deque[Cell] = deque()
        self._turn_planned = False
        self._after_turn: list[Callable[[], None]] = []
        self._serial = WELL_KNOWN_SERIALS
        self._dead_letter_handler: NodeAddress | None = None
        self._global_names: dict[str, NodeAddress] = {}  # of Thespian's createActor

    # Actors.

    def spawn(self, actor: type[Actor], *arguments: Any, serial: int = 0) -> NodeAddress:
        """Make a top-level actor, with a well-known ``serial`` or, when 0, with a fresh one."""
        return self.make(None, actor, arguments, serial=serial).address

    def make(
        self,
        parent: Cell | None,
        actor: type[ThespianActor],
        arguments: tuple[Any, ...],
        *,
        serial: int = 0,
        requirements: Any = None,
        global_name: str | None = None,
    ) -> Cell:
        """Make an actor; what its ``__init__`` raises is raised here."""
        assert serial == 0 or serial not in self._cells, "a well-known address has one actor"
        if serial == 0:
            self._serial += 1
            serial = self._serial
        cell = Cell(self, NodeAddress(self.name, self.incarnation, serial), parent)
        cell.requirements = requirements
        cell.globalName = global_name
        self._cells[serial] = cell
        if parent is not None:
            parent.children[cell.address.serial] = cell
        try:
            cell.begin(actor, arguments)
        except BaseException:
            cell.drop()
            if parent is not None:
                parent.children.pop(cell.address.serial, None)
            raise
        return cell

    def create(
        self, parent: Cell | None, actor: Any, requirements: Any, name: Any, source: Any
    ) -> NodeAddress:
        """Make an actor as Thespian's ``createActor`` does: by class or dotted name.

        With a global name, of which the node has each once, the actor that has it is returned.
        A child that cannot be made has ended: its parent gets a ``ChildActorExited``.
        """
        if source:
            raise NotOfferedError("loading actor sources is not offered yet")
        if name in self._global_names:
            return self._global_names[name]
        cls = actor if isinstance(actor, type) else _class_named(actor)
        try:
            if not checkActorCapabilities(cls, self.capabilities, requirements):
                raise NoCompatibleSystemForActor(cls, "this node has not what is required")
            owner = None if name else parent
            cell = self.make(owner, cls, (), requirements=requirements, global_name=name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if parent is None:
                raise
            self.log.warning("actor could not be made class=%s", cls.__name__, exc_info=error)
            self._serial += 1
            address = NodeAddress(self.name, self.incarnation, self._serial)
            self.deliver(parent.address, ChildActorExited(address), address)
            return address
        if name:
            self._global_names[name] = cell.address
        return cell.address

    def update_capability(self, name: str, value: Any) -> None:
        """Set a capability of this node, or take it away with None. Actors that the node no longer
        suits are asked to exit."""
        if value is None:
            self.capabilities.pop(name, None)
        else:
            self.capabilities[name] = value
        for cell in list(self._cells.values()):
            if not checkActorCapabilities(type(cell.actor), self.capabilities, cell.requirements):
                self.tell(cell.address, ActorExitRequest(recursive=True))

    def end(self, address: NodeAddress) -> None:
        """End a top-level actor and all below it at once."""
        cell = self._cells.get(address.serial)
        if cell is not None:
            assert cell.parent is None, "a child is ended by its parent"
            cell.drop()

    def has(self, address: NodeAddress) -> bool:
        """Whether this actor of the node is alive."""
        return address.serial in self._cells and address.incarnation == self.incarnation

    def actor_at(self, serial: int) -> Any:
        """The actor with this serial, for whoever runs the node; None when there is none."""
        cell = self._cells.get(serial)
        return None if cell is None else cell.actor

    def forget(self, cell: Cell) -> None:
        """Take a cell that has ended out of the books."""
        cell.ended = True
        self._cells.pop(cell.address.serial, None)
        self.handle_dead_letters(cell.address, enable=False)
        for name, address in list(self._global_names.items()):
            if address == cell.address:
                del self._global_names[name]

    # Messages.

    def tell(self, target: NodeAddress, message: Any) -> None:
        """Send a message from outside any actor, on the loop's thread."""
        self.deliver(target, message, self.address)

    def deliver(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        """Bring a message to an actor of this node, or hand it to the world."""
        if target.node != self.name:
            self._transmit(target, message, sender)
            return
        cell = self._cells.get(target.serial)
        incarnation = target.incarnation
        if (
            cell is None
            or (cell.exiting and type(message) is not ChildActorExited)
            or not (incarnation == self.incarnation or incarnation == ANY_INCARNATION)  # noqa: PLR1714 - a set takes longer, and this is asked for every message
        ):
            if not isinstance(message, ActorSystemMessage):
                self.dead_letter(target, message)
            return
        if self._proves_messages:
            message = self._proved(message)
        cell.mailbox.append((message, sender))
        if not cell.queued:
            cell.queued = True
            self._ready.append(cell)
            self.plan_turn()

    def dead_letter(self, target: NodeAddress, message: Any) -> None:
        """Account for a message whose actor is not there (any more)."""
        self.dead_letters += 1
        if self._dead_letter_handler is not None:
            self.deliver(self._dead_letter_handler, DeadEnvelope(target, message), target)

    def handle_dead_letters(self, handler: NodeAddress, enable: bool) -> None:
        """Send dead letters to this actor from now on, in place of any other, or no longer."""
        if enable:
            self._dead_letter_handler = handler
        elif self._dead_letter_handler == handler:
            self._dead_letter_handler = None

    # Turns.

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "TimerHandle":
        """Call back after a delay, as long as the node runs."""
        return self.loop.call_later(delay_s, self._while_running, callback)

    def _while_running(self, callback: Callable[[], None]) -> None:
        if not self.stopped:
            callback()

    def call_after_turn(self, callback: Callable[[], None]) -> None:
        """Call back when this turn, or the next, has ended and its frames are on their way."""
        self._after_turn.append(callback)
        self.plan_turn()

    def plan_turn(self) -> None:
        """Make sure that a turn follows: something was sent, or asked of the disk."""
        if not self._turn_planned:
            self._turn_planned = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        try:
            self._run_ready()
        except KeyboardInterrupt:
            self._turn_planned = False
            raise
        except BaseException as error:  # noqa: BLE001 - the world is broken, and nobody else sees it
            self.fail(error)

    def _run_ready(self) -> None:
        ready, handlers = self._ready, self.handlers
        handlers.began_s = began_s = handlers.now_s()  # as begin, with a call less a turn
        slice_end_s = began_s + SLICE_S
        while not self.stopped:
            while ready:
                cell = ready.popleft()
                cell.queued = False
                cell.run()
                if cell.mailbox and not cell.queued:
                    cell.queued = True
                    ready.append(cell)
                if self.stopped or (ready and handlers.began_s > slice_end_s):
                    break
            self._end_of_turn()
            if self._after_turn:
                callbacks, self._after_turn = self._after_turn, []
                for callback in callbacks:
                    callback()
            if not ready or handlers.begin() > slice_end_s:
                break
        self._turn_planned = False
        if ready and not self.stopped:
            self.plan_turn()

    # The node's end.

    def fail(self, error: BaseException) -> None:
        """Stop the node because one of its own actors failed: nothing runs after this.

        What is no ``Exception`` would end more than the node when it is raised again, or be taken
        for an order to whoever waits; so it becomes the cause of one.
        """
        if self.failure is not None:
            return
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            ended = ActorEndedError(f"an actor ended by {type(error).__name__}: {error}")
            ended.__cause__ = error
            error = ended
        self.failure = error
        kind = type(error).__name__
        self.log.critical("node failed node=%s error=%s", self.name, kind, exc_info=error)
        self.stop()
        if self.on_failure is not None:
            self.on_failure(error)

    def stop(self) -> None:
        """End all actors at once and leave the world. Nothing is handled after this."""
        if self.stopped:
            return
        self.stopped = True
        self._ready.clear()
        for cell in list(self._cells.values()):
            if cell.parent is None:
                cell.mailbox.clear()
                cell.drop()
        self._leave()

    # What a world provides.

    def refused(self, message: Any, sender: NodeAddress) -> None:
        """Account for a message that an actor does not take from the node of its sender."""

    def _transmit(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        """Send a message to another node, or lose it."""
        raise NotImplementedError

    def _end_of_turn(self) -> None:
        """Write what was sent in this turn, then carry out the syncs that were asked for."""
        raise NotImplementedError

    _proves_messages = False

    def _proved(self, message: Any) -> Any:
        """A message as a local actor gets it; a world may prove here that it could travel."""
        return message

    def _leave(self) -> None:
        """Close links and files."""
        raise NotImplementedError


def _class_named(name: Any) -> type[ThespianActor]:
    if not isinstance(name, str) or "." not in name:
        raise InvalidActorSpecification(name)
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]  # whatever the module has
