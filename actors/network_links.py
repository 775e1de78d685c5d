"""All links of a node in the real world: dialling, admitting, choosing one, telling the watchers."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

from copycat.actors.address import NodeAddress
from copycat.actors.environment import (
    DRAINED_BYTES_MAX,
    Identity,
    LinkDrained,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
    Traffic,
)
from copycat.actors.frame import FIRST_FRAME_BYTES_MAX, encode_control
from copycat.actors.hello import Hello, hello_of
from copycat.actors.network_link import Link

if TYPE_CHECKING:
    from copycat.actors.network import NetworkNode

ACCEPTED_LINKS_MAX = 4096
UNFINISHED_BYTES_MAX = 128 * 1024 * 1024  # of frames that those who dialled have only begun
CONNECT_TIMEOUT_S = 5.0
BUFFER_BYTES = 256 * 1024
RETRY_FIRST_S = 0.05
RETRY_LAST_S = 2.0
PORT_MAX = 65535


class EndpointError(ValueError):
    """A text that is no ``host:port``. Nothing was dialled or opened."""


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of ``"host:port"``; an IPv6 address stands in brackets.

    Raises:
        EndpointError: it is not of this form.
    """
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise EndpointError(f"{endpoint!r:.300} is no endpoint: write host:port or [::1]:port")
    return host, int(port)


class _Dial:
    """The standing wish to be connected to one endpoint."""

    def __init__(self, links: "NetworkLinks", endpoint: str) -> None:
        self.link: Link | None = None
        self._links = links
        self._endpoint = endpoint
        self._host, self._port = parse_endpoint(endpoint)
        self._delay_s = RETRY_FIRST_S
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._task = self._links.node.loop.create_task(self._connect())

    async def _connect(self) -> None:
        link = self.link = Link(self._links, self._endpoint)
        loop = self._links.node.loop
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: link, self._host, self._port)
        except TimeoutError:
            link.end(f"no answer within {CONNECT_TIMEOUT_S:g} s")
        except (OSError, UnicodeError) as error:
            link.end(reason_of(error))

    def again(self, *, was_up: bool) -> None:
        """The link has ended: make the next one after a while."""
        self.link = None
        if was_up:
            self._delay_s = RETRY_FIRST_S
        jitter = self._links.node.environment.random.uniform(0.75, 1.25)
        self._timer = self._links.node.call_later(self._delay_s * jitter, self._begin)
        self._delay_s = min(self._delay_s * 2, RETRY_LAST_S)

    def give_up(self) -> None:
        """Stop trying; the link, if there is one, is the caller's to end."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class NetworkLinks:
    """The connections of one node; see ``environment.Links``.

    Attributes:
        lost: messages that were dropped because there was no link, or it ended before they were
            written.
        buffer: where links receive; in use only while bytes go from the socket to a link.
    """

    def __init__(self, node: "NetworkNode", identity: Identity) -> None:
        self.node = node
        self.lost = 0
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self._dials: dict[str, _Dial] = {}
        self._dialled: dict[str, Link] = {}  # by node, of those that are up
        self._accepted: dict[str, Link] = {}  # likewise
        self._used: dict[str, Link] = {}  # one of these, by which messages go
        self._incoming: dict[Link, None] = {}  # every one that the other side dialled
        self._held_bytes = 0  # of these together
        self._to_write: dict[Link, None] = {}
        self._watchers: dict[NodeAddress, None] = {}
        self._drained: dict[str, dict[NodeAddress, None]] = {}  # who waits for that, by node
        self.introduce(identity)

    # For actors.

    def dial(self, endpoint: str) -> None:
        """Connect and stay connected, trying again with back-off, until hung up.

        Raises:
            EndpointError: it is no ``host:port``.
        """
        if endpoint not in self._dials:
            self._dials[endpoint] = _Dial(self, endpoint)

    def hang_up(self, endpoint: str) -> None:
        """Drop the link that was dialled with this endpoint, if any, and stop trying."""
        dial = self._dials.pop(endpoint, None)
        if dial is None:
            return
        dial.give_up()
        if dial.link is not None:
            dial.link.hung_up = True
            dial.link.end("hung up")

    def watch(self, watcher: NodeAddress) -> None:
        """From now on tell this local actor of every link."""
        assert watcher.node == self.node.name, "a watcher is a local actor"
        self._watchers[watcher] = None

    def introduce(self, identity: Identity) -> None:
        """Introduce this node by ``identity`` in every connection made from now on."""
        assert identity.name == self.node.name, "a node keeps its name"
        self._hello = hello_of(identity, self.node.incarnation)
        hello_bytes = len(encode_control(self._hello))
        assert hello_bytes <= FIRST_FRAME_BYTES_MAX, "others can take this Hello"

    def refuse(self, node: str, reason: str) -> None:
        """Close the links to ``node`` and tell it why."""
        for link in (self._dialled.get(node), self._accepted.get(node)):
            if link is not None:
                self.node.log.warning("node refused %s reason=%s", link, reason)
                link.refuse(reason)

    def flush(self, node: str) -> None:
        """Write what has been sent to ``node``."""
        link = self._used.get(node)
        if link in self._to_write:
            del self._to_write[link]
            link.flush()

    def unsent_bytes(self, node: str) -> int:
        """How many bytes for ``node`` wait in this node."""
        link = self._used.get(node)
        return 0 if link is None else link.unsent_bytes

    def traffic(self, node: str) -> Traffic:
        """What has gone over the link that leads to ``node``."""
        link = self._used.get(node)
        if link is None:
            return Traffic(0, 0, 0)
        unsent_bytes = link.unsent_bytes
        return Traffic(link.received_bytes, link.written_bytes - unsent_bytes, unsent_bytes)

    def ask_drained(self, node: str, asker: NodeAddress) -> None:
        """Tell this local actor when the link to ``node`` has taken what was sent."""
        assert asker.node == self.node.name, "who asks is a local actor"
        waiting = self._drained.setdefault(node, {})
        if not waiting:
            self.node.call_after_turn(lambda: self._tell_drained(node))
        waiting[asker] = None

    def _tell_drained(self, node: str) -> None:
        if self.unsent_bytes(node) <= DRAINED_BYTES_MAX:
            for asker in self._drained.pop(node, ()):
                self.node.tell(asker, LinkDrained(node))

    # For the node.

    def transmit(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        """Send a message by the link to its node, or lose it; it is written at the end of the turn.

        Raises:
            CodecError: the message cannot travel.
        """
        link = self._used.get(target.node)
        if link is None:
            self.lost += 1
        else:
            link.send(target, message, sender)

    def flush_all(self) -> None:
        """Write what was sent since the last call, one write a link."""
        links, self._to_write = self._to_write, {}
        for link in links:
            link.flush()

    def close(self) -> None:
        """End all links; nobody is told."""
        self._watchers.clear()
        for dial in self._dials.values():
            dial.give_up()
        dials, self._dials = self._dials, {}
        for link in [dial.link for dial in dials.values()] + list(self._incoming):
            if link is not None:
                link.end("the node stops")

    # For its links.

    def hello(self) -> Hello:
        """What this node says of itself."""
        return self._hello

    def admits(self, link: Link) -> bool:
        """Whether there is room for a new link."""
        if self.node.stopped:
            return False
        if link.endpoint:
            return True
        if len(self._incoming) >= ACCEPTED_LINKS_MAX:
            self.node.log.warning("too many connections %s max=%d", link, ACCEPTED_LINKS_MAX)
            return False
        self._incoming[link] = None
        return True

    def written_at_end_of_turn(self, link: Link) -> None:
        """This link has something in its outbox."""
        self._to_write[link] = None

    def drained(self, link: Link) -> None:
        """Few bytes wait on a link again."""
        if link.hello is not None and link.hello.name in self._drained:
            self._tell_drained(link.hello.name)

    def hold(self, link: Link, held_bytes: int) -> None:
        """A link now holds so much of an unfinished frame. If all together hold too much, that
        which holds most is ended."""
        if link not in self._incoming:
            return
        self._held_bytes += held_bytes - link.held_bytes
        link.held_bytes = held_bytes
        if self._held_bytes > UNFINISHED_BYTES_MAX:
            largest = max(self._incoming, key=lambda incoming: incoming.held_bytes)
            self.node.log.warning(
                "too many unfinished frames %s bytes=%d", largest, self._held_bytes
            )
            largest.end("too many unfinished frames", at_once=True)

    def receive(self, other: Hello, envelopes: list[tuple[int, int, int, Any]]) -> None:
        """Deliver what another node sent."""
        node = self.node
        target, sender = node.address, node.address
        for incarnation, serial, sender_serial, message in envelopes:
            # Most of what comes together is for one actor, and much of it from one.
            if serial != target.serial or incarnation != target.incarnation:
                target = NodeAddress(node.name, incarnation, serial)
            if sender_serial != sender.serial or sender.node != other.name:
                sender = NodeAddress(other.name, other.incarnation, sender_serial)
            node.deliver(target, message, sender)

    def up(self, link: Link) -> None:
        """Both sides have agreed to use this link. Of two from one node the newer is used."""
        hello = link.hello
        assert hello is not None, "a link is up when both have said Hello"
        same_side = self._dialled if link.endpoint else self._accepted
        older = same_side.get(hello.name)
        if older is not None:
            assert older.hello is not None, "a link is up when both have said Hello"
            if link.endpoint and older.hello.incarnation == hello.incarnation:
                # Else two endpoints of one node would take the link from each other for ever.
                link.hello = None
                link.end(f"{hello.name} is already connected as {older.endpoint}", refused=True)
                return
            # Said to the older as well: if it is another node of this name, it must not come back
            # at once and take the link in its turn.
            older.refuse("replaced by a newer connection with a node of this name")
        same_side[hello.name] = link
        used = self._used.setdefault(hello.name, link)
        if used.hello is not None and used.hello.incarnation != hello.incarnation:
            self._used[hello.name] = (
                link  # the other one leads to an earlier life, or to a namesake
            )
        self._tell(
            NodeConnected(
                hello.name,
                hello.incarnation,
                link.endpoint,
                hello.cluster_id,
                hello.node_id,
                hello.offers,
            )
        )

    def down(self, link: Link, reason: str, *, refused: bool) -> None:
        """A link has ended, whether it had been up or not."""
        self._incoming.pop(link, None)
        self._held_bytes -= link.held_bytes
        link.held_bytes = 0
        hello = link.hello
        if hello is not None:
            same_side = self._dialled if link.endpoint else self._accepted
            assert same_side[hello.name] is link, "a link that is up is in the books"
            del same_side[hello.name]
            if self._used.get(hello.name) is link:
                self._use_another(hello.name)
            self._tell(NodeDisconnected(hello.name, hello.incarnation, link.endpoint, reason))
        dial = self._dials.get(link.endpoint)
        if dial is None or link.hung_up:
            return
        if hello is None or refused:
            self._tell(NodeUnreachable(link.endpoint, reason, refused))
        dial.again(was_up=hello is not None and not refused)

    def _use_another(self, node: str) -> None:
        other = self._dialled.get(node) or self._accepted.get(node)
        if other is None:
            del self._used[node]
        else:
            self._used[node] = other
        if node in self._drained:
            self._tell_drained(node)

    def _tell(self, notice: NodeConnected | NodeDisconnected | NodeUnreachable) -> None:
        node = self.node
        for watcher in list(self._watchers):
            if node.has(watcher):
                node.tell(watcher, notice)
            else:
                del self._watchers[watcher]


def reason_of(error: OSError | UnicodeError) -> str:
    """An error of connecting or listening in a few words; UnicodeError: the host is no name."""
    if isinstance(error, UnicodeError):
        return "the host is not a valid name"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).lower()
