"""Actor: Thespian's Actor with typed handlers, local children and one more rule about failure.

A handler is a public method whose first parameter is called ``message`` and names, by its
annotation, the message it takes; the second is the sender's address::

    class Greeter(Actor):
        def greet(self, message: Greet, sender: NodeAddress) -> None:
            self.send(sender, Greeting(message.name))

An annotation may be a union. The handlers of a class include those it inherits.
"""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar

from thespian.actors import Actor as ThespianActor
from thespian.actors import ActorSystemMessage

from copycat.actors.address import NodeAddress
from copycat.actors.environment import Environment
from copycat.actors.message import is_message

Handler = Callable[[Any, Any, NodeAddress], Any]


class Actor(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Something with an address that handles one message at a time."""

    fail_stop: ClassVar[bool] = False
    """What an exception in a handler means. False: Thespian's rules for user actors (one more
    try with a copy of the message, then it goes back as a PoisonMessage). True: the whole node
    stops, because a half-done step must not run twice."""

    environment: Environment
    """The world as this actor's node sees it; there from before ``__init__`` runs."""

    address: NodeAddress
    """The address of this actor; final from before its ``__init__`` runs."""

    def send(self, target: NodeAddress, message: Any) -> None:
        """Put a message on its way; messages between one pair of actors keep their order.

        Delivery is not certain: a message to another node may be lost with the link, one to an
        actor that has ended becomes a dead letter.
        """
        self._myRef.node.deliver(target, message, self.address)

    def spawn(self, actor: type["Actor"], *arguments: Any) -> NodeAddress:
        """Make a child in this node at once, with these arguments for its ``__init__``.

        Arguments of a local child are the only sharing between actors that is allowed.
        """
        return typing.cast("NodeAddress", self._myRef.spawn(actor, arguments))

    def admits(self, message: Any, sender: NodeAddress) -> bool:
        """Whether a message from another node is handled; one that is not is dropped.

        It is asked before any handler, about nothing that comes from the own node.
        """
        return True

    def step(self, child: NodeAddress, message: Any, sender: NodeAddress | None = None) -> Any:
        """Have a local child handle one message now, ahead of its mailbox; returns its result.

        This gives several children one order that does not depend on their mailboxes.
        """
        return self._myRef.step(child, message, sender)

    def end(self, child: NodeAddress) -> None:
        """End a local child and its children at once; what is in their mailboxes is dropped."""
        self._myRef.end(child)

    def wake_after(self, delay_s: float, payload: Any = None) -> None:
        """Send this actor a Thespian ``WakeupMessage`` after a delay. It cannot be cancelled."""
        self._myRef.wakeupAfter(delay_s, payload)

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Hand a message to the handler that names its type."""
        handler = table_of(type(self)).get(type(message))
        if handler is None:
            return self.unrecognized(message, sender)
        return handler(self, message, sender)

    def unrecognized(self, message: Any, sender: NodeAddress) -> Any:
        """Called with a message that no handler names. Notices of the runtime are ignored;
        anything else is an error of its sender and is dropped with a log line."""
        if not isinstance(message, ActorSystemMessage):
            self.logger("copycat.actors").warning(
                "unrecognized message actor=%s message=%s sender=%s",
                type(self).__name__, type(message).__name__, sender,
            )  # fmt: skip


_tables: dict[type, dict[type, Handler]] = {}


def table_of(cls: type[Actor]) -> dict[type, Handler]:
    """The handlers of a class, worked out once."""
    table = _tables.get(cls)
    if table is None:
        table = _tables[cls] = handlers_of(cls)
    return table


def handlers_of(cls: type) -> dict[type, Handler]:
    """The handler for each type of message that a class of actors takes."""
    table: dict[type, Handler] = {}
    for owner in reversed(cls.__mro__):
        if owner is Actor:
            continue
        own: dict[type, Handler] = {}
        for name, method in vars(owner).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            for taken in _messages_taken(method):
                assert taken not in own, f"{owner.__name__} handles {taken.__name__} twice"
                own[taken] = method
        table.update(own)
    return table


def _messages_taken(method: Callable[..., Any]) -> list[type]:
    parameters = list(inspect.signature(method).parameters.values())
    if len(parameters) < 3 or parameters[1].name != "message":
        return []
    hint = typing.get_type_hints(method).get("message")
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [
        member
        for member in members
        if is_message(member)
        or (isinstance(member, type) and issubclass(member, ActorSystemMessage))
    ]
