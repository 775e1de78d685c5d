"""A link of the real world: one TCP connection to another node, from its first byte to its end.

What goes wrong on a link ends that link and nothing else: bytes that are no frames, values that do
not decode, a Hello that is late or not admitted, a peer that does not read, or of which nothing is
heard. A message that has no meaning here is dropped alone.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from copycat.actors.address import NodeAddress
from copycat.actors.codec import CodecError
from copycat.actors.environment import DRAINED_BYTES_MAX
from copycat.actors.frame import (
    FRAME_BYTES_MAX,
    FRAME_VALUES_MAX,
    STRANGER_BYTES_MAX,
    STRANGER_VALUES_MAX,
    FrameError,
    FrameReader,
    decode_payload,
    encode_control,
    encode_envelopes,
    encode_large,
    envelope,
)
from copycat.actors.hello import Beat, Hello, HelloRefused, refusal
from copycat.actors.message import BYTES_FIELDS, MalformedMessageError

if TYPE_CHECKING:
    from copycat.actors.network_dial import Dial
    from copycat.actors.network_links import NetworkLinks

HELLO_TIMEOUT_S = 5.0  # from connecting to the other node's Hello
WRITE_BUFFER_BYTES_MAX = 32 * 1024 * 1024  # of what the other node has not read yet
WAITING_BYTES_MAX = 256 * 1024  # of complete frames; while more wait, the link is not read
REASON_MAX = 300  # characters of a reason that the other node gives
DIALLED_SILENCE_MAX = 4  # looks in which nothing was heard of a node that was dialled or preferred
ACCEPTED_SILENCE_MAX = 10  # likewise of any other
BULK_LOOKS = 3  # one of so many counts where a second link shows that the other node lives
PROBE_AFTER_S = 15  # without traffic, the kernel asks whether the other host is there
PROBE_EVERY_S = 5
PROBES = 3
UNACKNOWLEDGED_S = 30  # bytes that the other host has not confirmed for so long end the link
COPIED_BYTES_MAX = 16 * 1024  # of what comes at once: small frames are cut faster out of a copy
UNSENT_BYTES_MAX = 128 * 1024  # that the kernel takes and has not sent; the rest is seen to wait
SENT_AGAIN_MAX_S = (
    1  # what the other host does not confirm, the kernel sends again as often as this
)
TCP_RTO_MAX_MS = 44  # the option for that, since Linux 6.15

_BEAT = encode_control(Beat())


class Link(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        endpoint: what was dialled; "" when the other node dialled.
        dial: who made it, if it is kept up.
        bulk: the name of the node that its bulk messages go to or come from; "" if it carries all
            others.
        hello: what the other node said of itself; None until both have agreed.
        ended: whether it is over. Nothing is sent or received after that.
        held_bytes: of an unfinished frame that the other node, having dialled, has begun to send.
        received_bytes, written_bytes: of frames, beats apart, since the beginning.
        receipts: how often something has come, beats too.
        target, sender: of the latest message that has come; before that, the node's own and None.
        is_stranger: whether the other node has yet to be admitted by the layer above.
        is_preferred: whether what comes is delivered at once, as it always is by a link that this node
            has dialled.
        refused: messages of the other node that nobody here takes.
        dead_letters: its messages for actors that were not there, while it was a stranger.
        held_bytes: of the other node's, having dialled: an unfinished frame, and what waits.
    """

    def __init__(self, links: "NetworkLinks", endpoint: str, bulk: str = "") -> None:
        self.endpoint = endpoint
        self.dial: Dial | None = None
        self.bulk = bulk
        self.hello: Hello | None = None
        self.ended = False
        self.hung_up = False  # by this node's own wish
        self.is_stranger = links.guarded and not endpoint
        self.is_preferred = False
        self.refused = 0
        self.dead_letters = 0
        self.held_bytes = 0
        self.received_bytes = 0
        self.written_bytes = 0
        self.receipts = 0
        self.target = links.node.address
        self.sender: NodeAddress | None = None
        self._links = links
        self._reader = FrameReader(
            frame_bytes_max=STRANGER_BYTES_MAX if self.is_stranger else FRAME_BYTES_MAX
        )
        self._values_max = STRANGER_VALUES_MAX
        self._waiting: deque[bytes] = deque()  # payloads that are complete
        self._waiting_bytes = 0
        self._ends_with: str | None = None  # the reason, once what waits has been taken
        self._is_read = True
        self._outbox: list[list[Any]] = []
        self._sent: list[tuple[Any, NodeAddress]] = []  # message and sender of each envelope
        self.task: asyncio.Task[None] | None = None  # that connects it, if no dial has it
        self._transport: asyncio.Transport | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        self._receipts_seen = -1  # at the last look, by both links of two
        self._was_written = True  # since then
        self._looks = 0
        self._silence = 0  # of those that count, since something was heard

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
        """Expect a Hello in time. Who was dialled says it first: the other side may have made several
        attempts, and says it in the one that it chooses."""
        # Not checked: the transports of other loops, such as uvloop's, are of no class of asyncio's.
        connection = self._transport = cast("asyncio.Transport", transport)
        _set_options(connection)
        connection.set_write_buffer_limits(DRAINED_BYTES_MAX, DRAINED_BYTES_MAX)
        if self.ended or not self._links.admits(self):
            connection.abort()
            return
        if not self.endpoint:
            self._say_hello(connection)
        elif connection.get_extra_info("sockname") == connection.get_extra_info("peername"):
            self.end("nobody listens there", at_once=True)  # a free port of this host chose itself
            return
        self._hello_timer = self._links.node.loop.call_later(
            HELLO_TIMEOUT_S, self.end, "it did not introduce itself"
        )

    def _say_hello(self, connection: asyncio.Transport) -> None:
        connection.write(encode_control(self._links.hello(is_bulk=bool(self.bulk))))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: asyncio fills it and calls ``buffer_updated`` at once, so all
        links of a node share one, but for large frames."""
        room = self._links.intake.room
        if self._reader.missing_bytes:
            try:
                room = self._reader.room()[: len(room)]
            except MemoryError as error:
                self._out_of_memory(error)
        return room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the other node sent."""
        if self.ended:
            return
        self.receipts += 1
        node = self._links.node
        self.received_bytes += nbytes
        held = node.hold_turn()
        handlers = node.handlers
        handlers.began_s = handlers.now_s()  # as begin, with a call less a message
        reader = self._reader
        try:
            if reader.missing_bytes:
                payloads = reader.filled(nbytes)
            else:
                data: bytes | memoryview = self._links.intake.buffer[:nbytes]
                if nbytes <= COPIED_BYTES_MAX:
                    data = bytes(data)
                payloads = reader.feed(data)
            if (
                len(payloads) == 1
                and not self._waiting
                and (self.is_preferred or self.endpoint or (held and node.is_idle))
            ):
                self._take(decode_payload(payloads[0], self._values_max))  # as nearly always
            else:
                self._sort(payloads)
            while reader.stopped and not self.ended:
                self._sort(reader.feed(b""))
            if not self.endpoint and not self.ended:
                held_bytes = reader.held_bytes + self._waiting_bytes
                if held_bytes != self.held_bytes:
                    self._links.intake.hold(self, held_bytes)
        except (FrameError, CodecError, MalformedMessageError) as error:
            self._end_malformed(error)
        except MemoryError as error:
            self._out_of_memory(error)
        finally:
            ended_s = handlers.now_s()  # as ended, likewise
            if ended_s - handlers.began_s > handlers.limit_s:
                handlers.was_long("Link.receive", ended_s - handlers.began_s)
            handlers.began_s = ended_s
            if held:
                node.release_turn()

    def _out_of_memory(self, error: MemoryError) -> None:
        node = self._links.node
        if node.on_failure is not None:
            node.fail(error)  # asyncio would end the link, again and again
        else:
            # Nobody would hear that the node has stopped, and what waits here would wait for ever.
            self.end("out of memory", at_once=True)

    def _sort(self, payloads: list[bytes]) -> None:
        """Take payloads at once, or let them wait for their turn."""
        for at, payload in enumerate(payloads):
            if self.ended:
                return
            soon = self.is_preferred or self.endpoint or self.hello is None
            if self._waiting or not soon:
                if not self._waiting:
                    self._links.intake.waiting.append(self)
                self._waiting += payloads[at:]
                self._waiting_bytes += sum(map(len, payloads[at:]))
                if self._waiting_bytes > WAITING_BYTES_MAX and self._transport is not None:
                    self._transport.pause_reading()
                    self._is_read = False
                return
            self._take(decode_payload(payload, self._values_max))

    def take_next(self) -> bool:
        """Take the next payload that waits. Returns whether more wait."""
        if self.ended:
            self._waiting.clear()
            return False
        payload = self._waiting.popleft()
        self._waiting_bytes -= len(payload)
        try:
            self._take(decode_payload(payload, self._values_max))
        except (CodecError, MalformedMessageError) as error:
            self._end_malformed(error)
        if self._waiting:
            return True
        if self.held_bytes:
            self._links.intake.hold(self, self._reader.held_bytes)
        if self._ends_with is not None:
            self.end(self._ends_with)
        elif not self._is_read and self._transport is not None:
            self._transport.resume_reading()
            self._is_read = True
        return False

    def resume_writing(self) -> None:
        """What waits to be written has fallen to the mark again."""
        self._links.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, by our own doing or not; what arrived on it is taken before."""
        reason = ((exc.strerror if isinstance(exc, OSError) else "") or "connection closed").lower()
        if self._waiting:
            self._ends_with = reason
        else:
            self.end(reason)

    # What is said on it.

    def _take(self, content: Any) -> None:
        if type(content) is list and self.hello is not None:
            self._links.receive(self, self.hello, content)
        elif type(content) is Hello and self.hello is None:
            if self.endpoint and self._transport is not None:
                self._say_hello(self._transport)
            reason = refusal(self._links.hello(is_bulk=bool(self.bulk)), content)
            if reason is not None:
                self._links.node.log.warning("node refused %s reason=%s", self, reason)
                self.refuse(reason)
                return
            self._on_time()
            self.hello = content
            if not self.is_stranger:
                self.admit()
            self._links.up(self)
        elif type(content) is HelloRefused:
            reason = "".join(c if c.isprintable() else "?" for c in content.reason[:REASON_MAX])
            self.end(f"refused by the other node: {reason}", refused=True)
        elif type(content) is Beat:
            self.received_bytes -= len(_BEAT)
        else:
            raise MalformedMessageError("a Hello is said once, and before anything else")

    def admit(self) -> None:
        """Take frames of any size from now on."""
        self.is_stranger = False
        self._reader.frame_bytes_max = FRAME_BYTES_MAX
        self._values_max = FRAME_VALUES_MAX

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
        """Write the outbox at once, or keep it until the link is up. What is too large goes back to
        its sender."""
        connection = self._transport
        if self.ended or (connection is not None and connection.is_closing()):
            self.lose_outbox()  # asyncio would log what is written now
            return
        if self.hello is None:
            return
        assert connection is not None, "a link that is up has a transport"
        outbox, self._outbox = self._outbox, []
        sent, self._sent = self._sent, []
        pieces = None
        if len(outbox) > 1 or BYTES_FIELDS.get(outbox[0][3]):
            pieces = encode_large(outbox)
        if pieces is None:
            frames, refused = encode_envelopes(outbox)
            if frames:
                self._was_written = True
                connection.write(frames)
                self.written_bytes += len(frames)
            for at, reason in refused:
                self._links.node.return_to_sender(*sent[at], reason)
        else:
            self._was_written = True
            for piece in pieces:
                if connection.is_closing():
                    break  # the piece before found the connection broken
                connection.write(piece)
                self.written_bytes += len(piece)
        if connection.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            self._links.node.log.warning("link not read by the other node %s", self)
            self.end("the other node does not read", at_once=True)

    @property
    def flush_is_due(self) -> bool:
        """Whether something was sent that has not been written."""
        return bool(self._outbox)

    def lose_outbox(self) -> None:
        """Drop what has not been written."""
        self._links.lost += len(self._outbox)
        self._outbox, self._sent = [], []

    def look(self, twin: "Link | None", *, is_spare: bool, may_judge: bool) -> None:
        """Show the other node that this one lives if nothing else has since the last look, and end
        the link if nothing was heard for too many of them.

        Args:
            twin: the other link between the two nodes, if both have dialled: each sends by one of
                them, and nothing need be heard on the other.
            is_spare: whether this node sends by that one.
            may_judge: whether this node itself has looked at its sockets in the meantime.
        """
        connection = self._transport
        self._looks += 1
        if self.bulk and self._looks % BULK_LOOKS:
            return
        if self.ended or connection is None or connection.is_closing():
            return
        if not (is_spare or self._was_written or connection.get_write_buffer_size()):
            connection.write(_BEAT)
        self._was_written = False
        receipts = self.receipts + (twin.receipts if twin is not None else 0)
        if receipts != self._receipts_seen or not self._is_read:
            self._silence = 0
        elif may_judge:
            self._silence += 1
        self._receipts_seen = receipts
        is_soon = self.is_preferred or self.endpoint
        if self._silence >= (DIALLED_SILENCE_MAX if is_soon else ACCEPTED_SILENCE_MAX):
            self._links.node.log.warning("link silent %s looks=%d", self, self._silence)
            self.end("nothing was heard of the other node", at_once=True)

    # Its end.

    def refuse(self, reason: str) -> None:
        """Tell the other node why this one does not talk to it, and end the link."""
        if self._transport is not None and not (self.ended or self._transport.is_closing()):
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
        self._reader = FrameReader()  # what the old one holds may be large, and goes now
        self._on_time()
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()
        self._links.down(self, reason, refused=refused)

    def _end_malformed(self, error: Exception) -> None:
        self._links.node.log.warning("malformed bytes %s error=%s", self, error)
        self.end(f"malformed bytes: {error}")

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
        connection.setsockopt(tcp, TCP_RTO_MAX_MS, SENT_AGAIN_MAX_S * 1000)
