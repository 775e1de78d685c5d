"""Listening in the real world: a node takes connections, a few at a time, while it has descriptors.

Accepted connections take no more descriptors than the system gives this process less a reserve,
for disks, for the node's own dialling and for the rest of the process: nobody outside can take
those. Where the system gives so few that the reserve would leave little, it is three fifths. Who has connected and not introduced itself waits in a room of its own, from which the
oldest has to go when it is full; so a crowd that says nothing keeps nobody out who does.
"""

import asyncio
import contextlib
import errno
import resource
import socket
from typing import TYPE_CHECKING

from copycat.actors.network_link import Link

if TYPE_CHECKING:
    from copycat.actors.network_links import NetworkLinks

INTRODUCED_MAX = 4096
INTRODUCING_MAX = 128
RESERVED_DESCRIPTORS = 64
ACCEPTED_AT_ONCE = 16  # in one turn of the loop, which has other work
BACKLOG = 1024
SHORT_PAUSE_S = 0.1  # when there is no descriptor to accept with

_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def room_for_links() -> tuple[int, int]:
    """How many accepted links may be introduced, and how many may not be yet, in this process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return INTRODUCED_MAX, INTRODUCING_MAX
    room = max(limit - RESERVED_DESCRIPTORS, limit * 2 // 5)
    introducing = min(INTRODUCING_MAX, room // 4)
    return min(INTRODUCED_MAX, room - introducing), introducing


def scarcity() -> str:
    """What an operator should know of the descriptors of this process; "" if there are enough."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = sum(room_for_links())
    if limit == resource.RLIM_INFINITY or limit - room >= RESERVED_DESCRIPTORS:
        return ""
    return (
        f"only {limit} descriptors may be open (ulimit -Hn): {limit - room} are kept for the server"
        f" itself, which are few, and {room} connections are taken; let it have 1,024"
    )


class Listener:
    """The port of one node."""

    def __init__(self, links: "NetworkLinks") -> None:
        self._links = links
        self._loop = links.node.loop
        self._sockets: list[socket.socket] = []
        self._opening: dict[asyncio.Task[None], None] = {}
        # So many are not counted yet, and so many have been ended to make room and are still open.
        self._at_once = max(1, min(ACCEPTED_AT_ONCE, room_for_links()[1]))
        self._closed = False

    async def start(self, host: str, port: int) -> int:
        """Listen on all addresses of a host; with port 0 on one, at a port that the system chooses.

        Returns:
            The port.

        Raises:
            OSError: it cannot be had.
            UnicodeError: the host is no name.
        """
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        places = dict.fromkeys((family, address) for family, _, _, _, address in found)
        for family, address in list(places)[: 1 if port == 0 else None]:
            made = socket.create_server(address, family=family, backlog=BACKLOG)
            made.setblocking(False)
            self._sockets.append(made)
        self._listen()
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take no more connections."""
        self._closed = True
        self._pause()
        for each in self._sockets:
            each.close()

    def _listen(self) -> None:
        if not self._closed:
            for each in self._sockets:
                self._loop.add_reader(each.fileno(), self._accept, each)

    def _pause(self) -> None:
        for each in self._sockets:
            self._loop.remove_reader(each.fileno())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(self._at_once - len(self._opening)):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORT_OF:
                    continue  # of the connection that was to be accepted
                self._links.node.log.warning("no connection can be accepted error=%s", error)
                self._pause()
                self._loop.call_later(SHORT_PAUSE_S, self._listen)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._open(accepted))
            self._opening[task] = None
            task.add_done_callback(self._opening.pop)

    async def _open(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may be gone already
            await self._loop.connect_accepted_socket(lambda: Link(self._links, ""), accepted)
