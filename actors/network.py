"""The real world: a node on an asyncio loop, with TCP links to other nodes and a directory.

One loop runs all actors of a node and does nothing else in a server process. Messages of one turn
to one node leave in one write; what the disk was asked to sync is synced after that.
"""

import asyncio
import random
import secrets
import socket
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from thespian.actors import PoisonMessage

from copycat.actors.address import NodeAddress
from copycat.actors.codec import CodecError
from copycat.actors.disk import DirectoryDisk
from copycat.actors.endpoint import parse_endpoint
from copycat.actors.environment import Clock, Disk, Identity, Links
from copycat.actors.handler_times import HandlerTimes
from copycat.actors.hello import is_name
from copycat.actors.network_dial import reason_of
from copycat.actors.network_links import NetworkLinks
from copycat.actors.network_listener import Listener
from copycat.actors.steady_clock import SteadyClock
from copycat.actors.system import Node

INCARNATION_BITS = 48


class ListenError(OSError):
    """The endpoint to listen on cannot be had. The node has not started."""

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint = endpoint
        super().__init__(
            f"cannot listen on {endpoint}: {reason}; free the port, or give this node another one"
        )


class NoDirectoryError(RuntimeError):
    """A node without a directory was asked for its disk. Nothing was done."""


_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the first also runs in sleep


class RealClock:
    """The clocks of this machine; see ``environment.Clock``."""

    passing_s = staticmethod(time.monotonic)
    wall_time_s = staticmethod(time.time)

    def __init__(self) -> None:
        self._steady = SteadyClock(partial(time.clock_gettime, _MONOTONIC))
        self.monotonic_s = self._steady.monotonic_s

    @property
    def set_back_s(self) -> float:
        """By how much the monotonic one was set back so far."""
        return self._steady.set_back_s


class NoDisk:
    """Stands where the disk would be in a node that was given no directory."""

    def __getattr__(self, name: str) -> Any:
        raise NoDirectoryError(f"disk.{name}: this node was given no directory")


@dataclass(slots=True)
class NetworkEnvironment:
    """The real world as one node sees it; see ``environment.Environment``."""

    clock: Clock
    random: random.Random
    disk: Disk
    links: Links
    node: str
    handlers: HandlerTimes


class NetworkNode(Node):
    """A node of the real world.

    Attributes:
        listening: the ``host:port`` it can be dialled at, after ``start``; None if at none.
        links: its connections.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        listen: str | None = None,
        directory: Path | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        seed: int | None = None,
        shares_loop: bool = False,
    ) -> None:
        """Make a node. Actors can be spawned at once; nobody is reached before ``start``.

        Args:
            identity: how it introduces itself.
            listen: ``"host:port"`` to be dialled at; with port 0 the system chooses one.
            directory: where its files are; None for a node without a disk.
            loop: where it runs; None for the running one.
            seed: of the environment's random numbers; None draws one from the system.
            shares_loop: other nodes, or work that must not wait, run on the loop as well: then
                disks are synced in threads always.

        Raises:
            DirectoryInUseError: another node has the directory.
            EndpointError: ``listen`` is no ``host:port``.
            OSError: the directory cannot be made or read.
        """
        assert is_name(identity.name), "a node has a name of 1 to 255 printable characters"
        loop = loop if loop is not None else asyncio.get_running_loop()
        if listen is not None:
            parse_endpoint(listen)
        environment = NetworkEnvironment(
            clock=RealClock(),
            random=random.Random(secrets.randbits(128) if seed is None else seed),
            disk=NoDisk(),
            links=None,  # type: ignore  # the links need the node, which needs this
            node=identity.name,
            handlers=HandlerTimes(time.monotonic),
        )
        incarnation = secrets.randbits(INCARNATION_BITS) or 1
        super().__init__(identity.name, incarnation, loop, environment)
        self.listening: str | None = None
        self.links = environment.links = NetworkLinks(self, identity)
        self._listen = listen
        self._listener: Listener | None = None
        self._disk: DirectoryDisk | None = None
        if directory is not None:
            self._disk = environment.disk = DirectoryDisk(
                directory,
                self.tell,
                loop.call_soon_threadsafe,
                self.plan_turn,
                shares_loop=shares_loop,
            )

    async def start(self) -> None:
        """Listen, if it was told where.

        Raises:
            ListenError: the port is in use, or the address is not of this machine.
        """
        assert not self.stopped, "a node that was stopped is not started again"
        if self._listen is None:
            return
        host, port = parse_endpoint(self._listen)
        self._listener = Listener(self.links)
        try:
            port = await self._listener.start(host, port)
        except (OSError, UnicodeError) as error:
            self.stop()
            raise ListenError(self._listen, reason_of(error)) from error
        self.listening = f"{self._listen.rpartition(':')[0]}:{port}"

    # What the worlds provide.

    def _transmit(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        if self.stopped:
            return
        try:
            self.links.transmit(target, message, sender)
        except CodecError as error:
            self.return_to_sender(message, sender, str(error))
        self.plan_turn()

    def return_to_sender(self, message: Any, sender: NodeAddress, reason: str) -> None:
        """Give a message that cannot travel back to the actor that sent it."""
        self.log.warning(
            "message cannot travel message=%s sender=%s reason=%s",
            type(message).__name__, sender, reason,
        )  # fmt: skip
        self.deliver(sender, PoisonMessage(message, reason), sender)

    def hold_turn(self) -> bool:
        """Plan no turn until ``release_turn``, which is to be called if this returns True."""
        held = not self._turn_planned
        self._turn_planned = True
        return held

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits here, nor, as far as can be known, on the loop."""
        return not (
            self._ready or self.links.intake.waiting or len(getattr(self.loop, "_ready", (self,)))
        )

    def release_turn(self) -> None:
        """Plan the turn for what came meanwhile, or take it at once if nothing else is ready here.

        A planned turn comes after one more look at all sockets, which takes as long as a small turn
        itself. Asyncio does not say whether anything is ready; its loops have a queue to look at.
        Without one the turn is planned.
        """
        links = self.links
        if not (self._ready or links.to_write or links.intake.waiting):
            self._turn_planned = False
        elif len(getattr(self.loop, "_ready", (self,))) == 0:
            self._turn()
        else:
            self.loop.call_soon(self._turn)

    def refused(self, message: Any, sender: NodeAddress) -> None:
        """An actor does not take a message from another node."""
        self.links.refused(sender.node, f"{type(message).__name__} is not taken from it")

    def _run_ready(self) -> None:
        if self.links.intake.waiting:
            self.links.intake.take()
        super()._run_ready()
        if (self.links.to_write or self.links.intake.waiting) and not self.stopped:
            self.plan_turn()

    def _end_of_turn(self) -> None:
        if self.stopped:
            return
        if self.links.to_write:
            self.links.flush_all()
            self.handlers.ended("Links.flush")
        if self._disk is not None and self._disk.end_turn():
            self.handlers.ended("Disk.end_turn")

    def _leave(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.links.close()
        if self._disk is not None:
            self._disk.close()


def free_ports(count: int, host: str) -> list[int]:
    """Ports that are free on a host now, each only once; somebody else may take them meanwhile."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
