"""Strangers on a server's port: it drops them, stays small, and goes on serving."""

import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from copycat import Client
from copycat.actors import NodeAddress
from copycat.actors.codec import decode, encode
from copycat.actors.frame import (
    FRAME_BYTES_MAX,
    STRANGER_BYTES_MAX,
    FrameReader,
    decode_payload,
    encode_control,
    encode_envelopes,
    envelope,
    frame,
)
from copycat.actors.hello import PROTOCOL_VERSION, Hello
from copycat.actors.network_intake import HELD_BYTES_MAX
from copycat.protocol.client import (
    SERVER,
    CommandsReply,
    OpenSession,
    OpenSessionReply,
    SubmitCommands,
)
from copycat.resources import DistributedCounter
from process_cluster import WAIT_S, ProcessCluster

RANDOM = random.Random(7)
HELLO = Hello(PROTOCOL_VERSION, 0, "stranger", 0, 99, (), False)
GROWTH_BYTES_MAX = 64 << 20  # some frames of the largest size, whatever is sent
LARGE = FRAME_BYTES_MAX.to_bytes(4, "big")
LARGEST = STRANGER_BYTES_MAX.to_bytes(4, "big")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Three servers that all tests share, and none harms."""
    with ProcessCluster(tmp_path_factory.mktemp("strangers")) as cluster:
        cluster.leader()
        yield cluster


def memory_bytes(cluster: ProcessCluster, name: str) -> int:
    """The most memory that a server has ever had."""
    status = Path(f"/proc/{cluster.processes[name].pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def dial(cluster: ProcessCluster, name: str) -> socket.socket:
    """A connection to a server."""
    host, _, port = cluster.peers[name].rpartition(":")
    return socket.create_connection((host, int(port)), WAIT_S)


def said_until_the_end(cluster: ProcessCluster, name: str, *content: bytes) -> bytes:
    """Send bytes, and return all that the server says until it closes the connection."""
    heard = bytearray()
    with dial(cluster, name) as stranger:
        try:
            for each in content:
                stranger.sendall(each)
            while received := stranger.recv(65536):
                heard += received
        except ConnectionError:
            pass  # it was closed with some of our bytes unread
    return bytes(heard)


def said(**fields: Any) -> bytes:
    """A Hello on the wire."""
    return encode_control(replace(HELLO, **fields))


def listed(item: bytes) -> bytes:
    """A list of as many of these encoded items as go into a frame."""
    count = (FRAME_BYTES_MAX - 5) // len(item)
    return b"\x9a" + count.to_bytes(4, "big") + item * count


OFFENCES = {
    "random bytes": [RANDOM.randbytes(5000)],
    "another protocol": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "a length of 4 GB": [b"\xff\xff\xff\xff"],
    "a length of 4 GB after a Hello": [said(), b"\xff\xff\xff\xff"],
    "a large first frame": [LARGE],
    "nothing in a frame": [frame(b"")],
    "deep nesting": [frame(b"\x81" * 60_000)],
    "deep nesting after a Hello": [said(), frame(b"\x81" * FRAME_BYTES_MAX)],
    "bytes behind a Hello": [frame(said()[4:] + b"\0")],
    "two Hellos": [said(), said()],
    "random bytes after a Hello": [said(), frame(RANDOM.randbytes(FRAME_BYTES_MAX))],
    "a length that no list has": [said(), frame(b"\x9b" + b"\xff" * 8)],
    "a text of exabytes": [said(), frame(b"\x7b" + b"\x7f" * 8)],
    "millions of lists": [said(), frame(listed(b"\x80"))],
    "millions of dicts": [said(), frame(listed(b"\xa1\x00" * 30 + b"\x00"))],
    "a list as a key": [said(), frame(b"\xa1\x82\x01\x02\x00")],
    "a tag": [said(), frame(b"\xc2\x41\x01")],
    "an unknown message": [said(), frame(encode([[0, SERVER, 1, 65_000, []]]))],
    "wrong fields": [said(), frame(encode([[0, SERVER, 1, 20, ["no", "bytes", "here"]]]))],
    "a notice of the runtime": [said(), frame(encode([[0, SERVER, 1, 1, [1, None]]]))],
    "negative addresses": [said(), frame(encode([[-1, SERVER, 1, 20, []]]))],
    "a name with a line end": [said(name="a\nb")],
    "another version": [said(protocol_version=999)],
    "another cluster": [said(cluster_id=1)],
    "a server that nobody knows": [said(name="n9", node_id=5)],
    "the name of the server": [said(name="n1")],
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_malformed_bytes_end_their_connection(cluster: ProcessCluster, offence: str) -> None:
    """Whatever it is, again and again, from many at once: the server closes, and serves others."""
    before = memory_bytes(cluster, "n1")
    crowd = [dial(cluster, "n1") for _ in range(20)]  # who says nothing disturbs nobody
    for _ in range(5):
        heard = FrameReader().feed(said_until_the_end(cluster, "n1", *OFFENCES[offence]))
        # What was not read when the connection was closed may take the Hello with it.
        assert not heard or type(decode_payload(heard[0])) is Hello
    for stranger in crowd:
        stranger.close()
    assert memory_bytes(cluster, "n1") - before < GROWTH_BYTES_MAX
    with Client(cluster.peers["n1"], timeout_s=WAIT_S) as client:
        counter = client.open(DistributedCounter, f"after {offence}")
        assert counter.increment() == 1


def test_frames_that_never_end_do_not_add_up(cluster: ProcessCluster) -> None:
    """What a stranger has sent of a large frame is given back when he goes."""
    before = memory_bytes(cluster, "n1")
    for _ in range(20):
        with dial(cluster, "n1") as stranger:
            stranger.sendall(said() + LARGEST + bytes(STRANGER_BYTES_MAX - 1))
    assert cluster.copycat("status").returncode == 0
    assert memory_bytes(cluster, "n1") - before < GROWTH_BYTES_MAX


def test_frames_that_never_end_are_bounded_together(cluster: ProcessCluster) -> None:
    """A crowd that begins large frames and keeps its connections loses those it has too many of."""
    before = memory_bytes(cluster, "n3")
    crowd = []
    for number in range(2 * HELD_BYTES_MAX // FRAME_BYTES_MAX):
        client = RawClient(cluster, "n3", f"client {number}")
        crowd.append(client)
        client.send(LARGE + bytes(FRAME_BYTES_MAX - 1))
    assert cluster.copycat("status").returncode == 0
    assert memory_bytes(cluster, "n3") - before < HELD_BYTES_MAX + GROWTH_BYTES_MAX
    for client in crowd:
        client.close()


class RawClient:
    """A session by hand, for what no client of ours would send."""

    def __init__(self, cluster: ProcessCluster, name: str, own_name: str = "by hand") -> None:
        self._reader = FrameReader()
        self._arrived: list[Any] = []
        self._socket = dial(cluster, name)
        self._socket.sendall(said(name=own_name))
        hello = self.next()
        self.tell(NodeAddress.well_known(name, SERVER), OpenSession(bytes(16), "by hand", 10_000))
        *_, serial, self.opened = self.next()
        assert type(self.opened) is OpenSessionReply
        self.connection = NodeAddress(name, hello.incarnation, serial)

    def tell(self, target: NodeAddress, message: object) -> None:
        """Send a message."""
        frames, refused = encode_envelopes([envelope(target, message, 1)])
        assert not refused
        self.send(frames)

    def send(self, content: bytes) -> None:
        """Send bytes, whatever they are."""
        self._socket.sendall(content)

    def next(self) -> Any:
        """The next control message, or envelope as a tuple."""
        while not self._arrived:
            received = self._socket.recv(65536)
            assert received, "the server closed the connection"
            for payload in self._reader.feed(received):
                content = decode_payload(payload)
                self._arrived += content if type(content) is list else [content]
        return self._arrived.pop(0)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def test_operations_nobody_can_decode_are_answered(cluster: ProcessCluster) -> None:
    """They get into the log, and each server of the cluster answers and outlives them."""
    client = RawClient(cluster, "n2")
    try:
        for sequence, operations in enumerate(
            [
                b"\xff",
                b"",
                RANDOM.randbytes(1000),
                b"\x81" * 1000,
                encode([]),
                encode([7]),
                encode([[10**9, "increment", 1]]),
                encode([["x", None]]),
            ],
            1,
        ):
            session = client.opened.session
            submitted = SubmitCommands(session, sequence, 1, sequence - 1, 0, operations)
            client.tell(client.connection, submitted)
            reply = client.next()[-1]
            while type(reply) is not CommandsReply:
                reply = client.next()[-1]
            values, failures = decode(reply.results)
            assert values == [None], operations
            assert [failure[0] for failure in failures] == [0], operations
    finally:
        client.close()
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as other:
        assert other.open(DistributedCounter, "after garbage").increment() == 1
    statuses = cluster.statuses()
    assert sorted(statuses) == ["n1", "n2", "n3"]
    assert all("Traceback" not in cluster.errors(name) for name in statuses)
