"""The system base for Thespian's ``ActorSystem``: the outside of a node, for code that blocks.

    system = ActorSystem(systemBase=SystemBase(), transientUnique=True)

Actors live in a node of the real world whose loop runs in a thread. Any class derived from
Thespian's ``Actor`` will do. Sources cannot be loaded: a class has to be importable.
"""

import queue
import sys
from datetime import timedelta
from typing import Any

from thespian.actors import Actor as ThespianActor
from thespian.actors import ActorSystemException, ActorSystemFailure, ThespianGeneration
from thespian.system import isInternalActorSystemMessage

from copycat.actors.address import NodeAddress
from copycat.actors.cell import NotOfferedError
from copycat.actors.environment import Identity
from copycat.actors.network import NetworkNode
from copycat.actors.network_thread import NetworkThread

Timeout = timedelta | float | None


class _Endpoint(ThespianActor):  # type: ignore[misc]  # Thespian carries no types
    """Where messages to the outside arrive. It lives on the loop and is read by another thread."""

    def __init__(self) -> None:
        self.arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def receiveMessage(self, message: Any, sender: NodeAddress) -> None:
        """Keep a message until the outside asks for it."""
        if not isInternalActorSystemMessage(message):
            self.arrived.put(message)


class Outside:
    """One mailbox outside of all actors, for one thread; Thespian's ``private()`` makes more."""

    def __init__(self, thread: NetworkThread, node: NetworkNode) -> None:
        self._thread = thread
        self._node = node
        cell = thread.call(node.make, None, _Endpoint, ())
        self._address: NodeAddress = cell.address
        self._arrived: queue.SimpleQueue[Any] = cell.actor.arrived

    def newPrimaryActor(
        self, actor: Any, requirements: Any, global_name: Any, source_hash: Any
    ) -> NodeAddress:
        """Make an actor that has no parent.

        Raises:
            ActorSystemException: Thespian's errors, as its documentation names them; no actor was
                made. What the actor's ``__init__`` raised is the cause of an ActorSystemFailure.
        """
        try:
            return self._thread.call(
                self._node.create, None, actor, requirements, global_name, source_hash
            )
        except (ActorSystemException, ImportError):
            raise
        except Exception as error:
            raise ActorSystemFailure(f"{actor} could not be made: {error!r}") from error

    def tell(self, target: NodeAddress, message: Any) -> None:
        """Send a message; it is in its mailbox, or on its way, when this returns."""
        self._thread.call(self._node.deliver, target, message, self._address)

    def ask(self, target: NodeAddress, message: Any, timeout: Timeout) -> Any:
        """Send a message and wait for the next one that arrives here, from any actor."""
        self.tell(target, message)
        return self.listen(timeout)

    def listen(self, timeout: Timeout) -> Any:
        """Wait for the next message.

        Args:
            timeout: a timedelta or seconds; None waits for ever.

        Returns:
            The message; None if none has come in time.
        """
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        try:
            return self._arrived.get(timeout=None if timeout is None else max(0.0, timeout))
        except queue.Empty:
            return None

    def exit_context(self) -> None:
        """End this mailbox; Thespian calls it at the end of ``private()``."""
        self._thread.call(self._node.end, self._address)


class SystemBase(Outside):
    """What ``ActorSystem(systemBase=..., transientUnique=True)`` takes. It may be used from one
    thread at a time; other threads take ``private()``."""

    def __init__(
        self,
        thread: NetworkThread | None = None,
        node: NetworkNode | None = None,
        capabilities: dict[str, Any] | None = None,
    ) -> None:
        """Take a node that lives on the loop of ``thread``, or make both.

        Args:
            thread: None makes one, which ends with ``shutdown``.
            node: on that thread's loop; None makes one that has no links and no disk. In any case
                ``shutdown`` stops it.
            capabilities: what actors of this node can be required to find.
        """
        assert node is None or thread is not None, "a node comes with its thread"
        self._own_thread = NetworkThread("actor system") if thread is None else None
        thread = thread or self._own_thread
        assert thread is not None
        if node is None:
            node = thread.call(lambda: NetworkNode(Identity("actors"), loop=thread.loop))
        super().__init__(thread, node)
        own = {
            "Python Version": tuple(sys.version_info),
            "Thespian ActorSystem Name": "copycat",
            "Thespian ActorSystem Version": 1,
            "Thespian Generation": ThespianGeneration,
            "Thespian Version": str(int(node.environment.clock.wall_time_s() * 1000)),
            "Thespian Watch Supported": False,
        }
        for key, value in {**own, **(capabilities or {})}.items():
            self.updateCapability(key, value)

    def shutdown(self) -> None:
        """Stop the node and, if it was made here, the thread. A second call changes nothing."""
        if self._own_thread is None:
            self._thread.call(self._node.stop)
        elif not self._own_thread.is_stopped():
            self._thread.call(self._node.stop)
            self._own_thread.stop()

    def updateCapability(self, name: str, value: Any = None) -> None:
        """Set a capability of the node; None takes it away. Actors that require it are asked to
        exit."""
        self._thread.call(self._node.update_capability, name, value)

    def external_clone(self) -> Outside:
        """Another mailbox, for another thread."""
        return Outside(self._thread, self._node)

    def loadActorSource(self, source: Any) -> str:
        """Not offered yet: it raises."""
        raise NotOfferedError(f"loading actor sources is not offered yet: {source!s:.80}")

    def unloadActorSource(self, source_hash: str) -> None:
        """Not offered yet: it raises."""
        raise NotOfferedError(f"loading actor sources is not offered yet: {source_hash:.80}")

    def _handleDeadLetters(self, address: NodeAddress, enable: bool) -> None:
        self._thread.call(self._node.handle_dead_letters, address, enable)
