"""A link of the real world: one TCP connection to another node, from its first byte to its end.

What goes wrong on a link ends that link and nothing else: bytes that are no frames, messages that
do not decode, a Hello that is late or not admitted, a peer that does not read.
"""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, cast

from copycat.actors.address import NodeAddress
from copycat.actors.codec import CodecError
from copycat.actors.environment import DRAINED_BYTES_MAX
from copycat.actors.frame import (
    FrameError,
    FrameReader,
    decode_payload,
    encode_control,
    encode_envelopes,
    envelope,
)
from copycat.actors.hello import Hello, HelloRefused, refusal
from copycat.actors.message import MalformedMessageError

if TYPE_CHECKING:
    from copycat.actors.network_links import NetworkLinks

HELLO_TIMEOUT_S = 5.0  # from connecting to the other node's Hello
WRITE_BUFFER_BYTES_MAX = 32 * 1024 * 1024  # of what the other node has not read yet
REASON_MAX = 300  # characters of a reason that the other node gives
PROBE_AFTER_S = 15  # without traffic, the kernel asks whether the other host is there
PROBE_EVERY_S = 5
PROBES = 3
UNACKNOWLEDGED_S = 30  # bytes that the other host has not confirmed for so long end the link
UNSENT_BYTES_MAX = 128 * 1024  # that the kernel takes and has not sent; the rest is seen to wait


class Link(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        endpoint: what was dialled; "" when the other node dialled.
        hello: what the other node said of itself; None until both have agreed.
        ended: whether it is over. Nothing is sent or received after that.
        held_bytes: of an unfinished frame that the other node, having dialled, has begun to send.
        received_bytes, written_bytes: of frames, since the beginning.
    """

    def __init__(self, links: "NetworkLinks", endpoint: str) -> None:
        self.endpoint = endpoint
        self.hello: Hello | None = None
        self.ended = False
        self.hung_up = False  # by this node's own wish
        self.held_bytes = 0
        self.received_bytes = 0
        self.written_bytes = 0
        self._links = links
        self._reader = FrameReader()
        self._outbox: list[list[Any]] = []
        self._sent: list[tuple[Any, NodeAddress]] = []  # message and sender of each envelope
        self._transport: asyncio.Transport | None = None
        self._hello_timer: asyncio.TimerHandle | None = None

    def __str__(self) -> str:
        name = self.hello.name if self.hello is not None else "?"
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        place = f"{peer[0]}:{peer[1]}" if peer else "?"
        return f"node={name} endpoint={self.endpoint or '-'} peer={place}"

    @property
    def unsent_bytes(self) -> int:
        """How many bytes were written that the system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say Hello, and expect one in time."""
        # Not checked: the transports of other loops, such as uvloop's, are of no class of asyncio's.
        connection = self._transport = cast("asyncio.Transport", transport)
        _set_options(connection)
        connection.set_write_buffer_limits(DRAINED_BYTES_MAX, DRAINED_BYTES_MAX)
        if self.ended or not self._links.admits(self):
            connection.abort()
            return
        connection.write(encode_control(self._links.hello()))
        self._hello_timer = self._links.node.loop.call_later(
            HELLO_TIMEOUT_S, self.end, "it did not introduce itself"
        )

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: asyncio fills it and calls ``buffer_updated`` at once, so all
        links of a node share one."""
        return self._links.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the other node sent."""
        node = self._links.node
        self.received_bytes += nbytes
        held = node.hold_turn()
        node.handlers.begin()
        try:
            payloads = self._reader.feed(bytes(self._links.buffer[:nbytes]))
            if self._reader.held_bytes != self.held_bytes:
                self._links.hold(self, self._reader.held_bytes)
            for payload in payloads:
                if self.ended:
                    return
                self._take(decode_payload(payload))
        except (FrameError, CodecError, MalformedMessageError) as error:
            node.log.warning("malformed bytes %s error=%s", self, error)
            self.end(f"malformed bytes: {error}")
        finally:
            node.handlers.ended("Link.receive")
            if held:
                node.release_turn()

    def resume_writing(self) -> None:
        """What waits has fallen to the mark again."""
        self._links.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, by our own doing or not."""
        strerror = exc.strerror if isinstance(exc, OSError) else None
        self.end((strerror or "connection closed").lower())

    # What is said on it.

    def _take(self, content: Any) -> None:
        if type(content) is list and self.hello is not None:
            self._links.receive(self.hello, content)
        elif type(content) is Hello and self.hello is None:
            reason = refusal(self._links.hello(), content)
            if reason is not None:
                self._links.node.log.warning("node refused %s reason=%s", self, reason)
                self.refuse(reason)
                return
            self._on_time()
            self.hello = content
            self._links.up(self)
        elif type(content) is HelloRefused:
            reason = "".join(c if c.isprintable() else "?" for c in content.reason[:REASON_MAX])
            self.end(f"refused by the other node: {reason}", refused=True)
        else:
            raise MalformedMessageError("a Hello is said once, and before anything else")

    def send(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        """Put a message in the outbox, which is written by ``flush``.

        Raises:
            CodecError: the message cannot travel.
        """
        made = envelope(target, message, sender.serial)
        if not self._outbox:
            self._links.written_at_end_of_turn(self)
        self._outbox.append(made)
        self._sent.append((message, sender))

    def flush(self) -> None:
        """Write the outbox at once. What is too large goes back to its sender."""
        outbox, self._outbox = self._outbox, []
        sent, self._sent = self._sent, []
        assert self._transport is not None, "a link that is up has a transport"
        if self.ended or self._transport.is_closing():  # asyncio logs what is written to such a one
            self._links.lost += len(outbox)
            return
        frames, refused = encode_envelopes(outbox)
        if frames:
            self._transport.write(frames)
            self.written_bytes += len(frames)
        for at, reason in refused:
            self._links.node.return_to_sender(*sent[at], reason)
        if self._transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            self._links.node.log.warning("link not read by the other node %s", self)
            self.end("the other node does not read", at_once=True)

    # Its end.

    def refuse(self, reason: str) -> None:
        """Tell the other node why this one does not talk to it, and end the link."""
        if self._transport is not None and not self.ended:
            self._transport.write(encode_control(HelloRefused(reason)))
        self.end(reason, refused=True)

    def end(self, reason: str, *, refused: bool = False, at_once: bool = False) -> None:
        """End the link; a second call changes nothing.

        Args:
            reason: for people, one line.
            refused: one of the two nodes did not admit the other.
            at_once: do not wait until what was written is on its way.
        """
        if self.ended:
            return
        self.ended = True
        self._on_time()
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()
        self._links.down(self, reason, refused=refused)

    def _on_time(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None


def _set_options(transport: asyncio.Transport) -> None:
    """No delay for small frames; notice a host that vanished without a word."""
    connection = transport.get_extra_info("socket")
    tcp = socket.IPPROTO_TCP
    with contextlib.suppress(OSError):  # it may be gone already
        connection.setsockopt(tcp, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(tcp, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
        connection.setsockopt(tcp, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
        connection.setsockopt(tcp, socket.TCP_KEEPCNT, PROBES)
        connection.setsockopt(tcp, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_S * 1000)
        connection.setsockopt(tcp, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
