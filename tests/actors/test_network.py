"""Nodes of the real world find each other, agree or refuse, and survive what peers do to them."""

import asyncio
import random
from typing import Any
from unittest.mock import patch

import pytest
from thespian.actors import PoisonMessage

from copycat.actors import Actor, Identity, NodeAddress, network_intake
from copycat.actors.environment import NodeConnected, NodeDisconnected, NodeUnreachable
from copycat.actors.frame import (
    FIRST_FRAME_BYTES_MAX,
    FRAME_BYTES_MAX,
    FrameReader,
    encode_envelopes,
    envelope,
    frame,
)
from copycat.actors.hello import Hello, HelloRefused
from copycat.actors.network import NetworkNode
from copycat.actors.network_link import Link
from network_world import (
    PATIENCE_S,
    Echo,
    Note,
    Seen,
    Stranger,
    World,
    hello,
    linked,
    world_test,
)


@world_test
async def test_both_nodes_learn_of_the_link(world: World) -> None:
    """Who dialled knows by which endpoint, the other by none; both say who they are."""
    a = await world.node("a", cluster_id=5)
    on_a = Seen(a, watching=True)
    identity = Identity("b", cluster_id=5, node_id=77, offers=("map", "lock"))
    b = NetworkNode(identity)
    world.nodes.append(b)
    on_b = Seen(b, watching=True)
    assert a.listening is not None
    b.links.dial(a.listening)
    assert await on_b.next() == NodeConnected("a", a.incarnation, a.listening, 5, 0, ())
    assert await on_a.next() == NodeConnected("b", b.incarnation, "", 5, 77, ("map", "lock"))


@world_test
async def test_messages_arrive_in_order_both_ways(world: World) -> None:
    """Over one link, also when they take several turns and frames."""
    a, b, _ = await linked(world)
    echo = a.spawn(Echo)
    seen = Seen(b)
    for number in range(3000):
        seen.say(echo, Note(number, b"x" * 10_000 if number % 100 == 0 else None))
        if number % 50 == 0:
            await asyncio.sleep(0)
    for number in range(3000):
        note = await seen.next()
        assert note.number == number
        assert seen.sender == echo


@world_test
async def test_plain_values_travel_too(world: World) -> None:
    """Thespian's users send what they like; lists, texts and numbers arrive."""
    a, b, _ = await linked(world)
    seen = Seen(b)
    seen.say(a.spawn(Echo), {"k": [1, "two", None]})
    assert await seen.next() == {"k": [1, "two", None]}


@world_test
async def test_a_well_known_actor_is_found_again_after_a_restart(world: World) -> None:
    """Its address has no incarnation; one with the old incarnation reaches nobody."""
    a, b, watcher = await linked(world)
    seen = Seen(b)
    well_known = NodeAddress.well_known("a", 1)
    a.spawn(Echo, serial=1)
    seen.say(well_known, Note(1, None))
    assert await seen.next() == Note(1, None)
    old = seen.sender
    assert a.listening is not None
    a.stop()
    assert type(await watcher.next()) is NodeDisconnected
    again = await world.node("a", listen=a.listening)
    again.spawn(Echo, serial=1)
    up = await watcher.next_of(NodeConnected)
    assert up.incarnation == again.incarnation != a.incarnation
    seen.say(old, Note(2, None))
    seen.say(well_known, Note(3, None))
    assert await seen.next() == Note(3, None)
    assert again.dead_letters == 1


@world_test
async def test_a_node_without_memory_for_what_comes_stops(world: World) -> None:
    """It would lose each link over and over, and never take in what was sent on it."""
    a, _, watcher = await linked(world)
    failures: list[BaseException] = []
    a.on_failure = failures.append
    with pytest.MonkeyPatch.context() as patch:

        def feed(reader: FrameReader, data: bytes) -> list[bytes]:
            raise MemoryError

        patch.setattr(FrameReader, "feed", feed)
        watcher.say(NodeAddress.well_known("a", 1), Note(1, None))
        assert type(await watcher.next()) is NodeDisconnected
    assert [type(error) for error in failures] == [MemoryError]
    assert a.stopped


@world_test
async def test_a_wrong_cluster_is_refused_and_reported(world: World) -> None:
    """The node that dialled is told why, and goes on trying; no message gets through."""
    a = await world.node("a", cluster_id=1)
    on_a = Seen(a, watching=True)
    a.spawn(Echo, serial=1)
    b = await world.node("b", cluster_id=2)
    watcher = Seen(b, watching=True)
    assert a.listening is not None
    b.links.dial(a.listening)
    for _ in range(2):
        refused = await watcher.next()
        assert type(refused) is NodeUnreachable
        assert refused.refused
        assert "wrong cluster" in refused.reason
        watcher.say(NodeAddress.well_known("a", 1), Note(1, None))
    assert on_a.nothing_more()
    assert b.links.lost == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello(protocol_version=99), "protocol version 99"),
        (hello(cluster_id=9), "wrong cluster"),
        (hello(name=""), "not valid"),
        (hello(name="a\nb"), "not valid"),
        (hello(name="x" * 256), "not valid"),
        (hello(incarnation=0), "not valid"),
        (hello(name="a"), "two nodes are called a"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused(said: bytes, reason: str) -> None:
    """The stranger gets our Hello, then the reason, then the end."""

    async def body(world: World) -> None:
        a = await world.node("a", cluster_id=5)
        on_a = Seen(a, watching=True)
        stranger = await Stranger.to(a)
        stranger.writer.write(said)
        assert (await stranger.control()).name == "a"
        refused = await stranger.control()
        assert type(refused) is HelloRefused
        assert reason in refused.reason
        await stranger.closed()
        assert on_a.nothing_more()

    world_test(body)()


@world_test
async def test_a_node_does_not_link_to_itself(world: World) -> None:
    """It notices by its own name and incarnation."""
    a = await world.node("a")
    watcher = Seen(a, watching=True)
    assert a.listening is not None
    a.links.dial(a.listening)
    refused = await watcher.next()
    assert type(refused) is NodeUnreachable
    assert "itself" in refused.reason


@world_test
async def test_garbage_ends_its_link_and_no_other(world: World) -> None:
    """Random bytes before and after a Hello, huge lengths, unknown messages, wrong fields."""
    a, b, _ = await linked(world)
    echo = a.spawn(Echo)
    seen = Seen(b)
    generator = random.Random(1)
    early, _ = encode_envelopes([envelope(echo, "x", 1)])
    offences = [
        generator.randbytes(2000),
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b""),
        b"\xff\xff\xff\xff",
        (65 * 1024).to_bytes(4, "big"),
        early,
        hello() + hello(),
        hello() + (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        hello() + frame(generator.randbytes(2000)),
        hello() + frame(b"\x81" * 100_000),
        hello() + frame(b"\x9a\x00\x0f\xff\xff" + b"\x80" * 0xFFFFF),
    ]
    for offence in offences:
        stranger = await Stranger.to(a)
        stranger.writer.write(offence)
        await stranger.closed()
        seen.say(echo, Note(1, None))
        assert await seen.next() == Note(1, None)


@world_test
async def test_a_link_that_becomes_preferred_keeps_the_order(world: World) -> None:
    """What waited for its turn when a node was found to be one of ours comes before what follows."""
    a, _, _ = await linked(world)
    link = Link(a.links, "")
    link.hello = Hello(1, 2, "b", 3, 4, (), False)
    got: list[int] = []
    held = a.hold_turn()  # so that nothing is taken as it comes
    with patch.object(a.links, "receive", lambda _link, _other, content: got.append(content[0][3])):
        for number in range(4):
            frames, _ = encode_envelopes([envelope(a.address, number, 1)])
            link.get_buffer(-1)[: len(frames)] = frames
            link.buffer_updated(len(frames))
            link.is_preferred = number >= 1
        while link.take_next():
            pass
    assert held
    a.release_turn()
    assert got == [0, 1, 2, 3]


@world_test
async def test_want_of_memory_for_a_large_frame_ends_the_link_or_the_node(world: World) -> None:
    """Who is told of a node's failure has the node stop; else the link ends, and nothing else does."""
    a, b, _ = await linked(world)
    failures: list[BaseException] = []
    a.on_failure = failures.append
    begin = FIRST_FRAME_BYTES_MAX.to_bytes(4, "big")
    with patch.object(FrameReader, "room", side_effect=MemoryError):
        for node in (a, b):
            link = Link(node.links, "")
            link.get_buffer(-1)[:4] = begin
            link.buffer_updated(4)
            link.get_buffer(-1)[:4] = begin
            link.buffer_updated(4)
            assert link.ended == (node is b)
    assert [type(failure) for failure in failures] == [MemoryError]
    assert a.stopped
    assert not b.stopped


@world_test
async def test_unfinished_frames_together_are_bounded(world: World) -> None:
    """When those who dialled keep too much waiting, that which keeps most is ended; the others
    go on, and what an ended one has kept counts no more."""
    a, b, _ = await linked(world)
    echo = a.spawn(Echo)
    frames, _ = encode_envelopes([envelope(echo, bytes(1000), 1)])
    with patch.object(network_intake, "HELD_BYTES_MAX", 1_000_000):
        small = await Stranger.to(a)
        small.writer.write(hello("small") + frames[:-1])
        length = FRAME_BYTES_MAX.to_bytes(4, "big")
        open_links = set()
        for number in range(10):
            large = await Stranger.to(a)
            large.writer.write(hello(f"large{number}") + length + bytes(600_000))
            open_links.add(asyncio.create_task(large.closed()))
            if len(open_links) == 2:
                _, open_links = await asyncio.wait(
                    open_links, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
                )
            assert len(open_links) == 1
        small.writer.write(frames[-1:])
        assert type(await small.control()) is Hello
        ((*_, answer),) = await small.control()
        assert answer == bytes(1000)
        (last,) = open_links
        assert not last.done()
        for stranger in (small, large):
            stranger.writer.close()
        await last
    seen = Seen(b)
    seen.say(echo, Note(1, None))
    assert await seen.next() == Note(1, None)


@world_test
async def test_a_peer_that_does_not_read_is_cut_off(world: World) -> None:
    """What waits to be written is bounded; other links go on."""
    a, b, _ = await linked(world)
    on_a = Seen(a, watching=True)
    stranger = await Stranger.to(a)
    stranger.writer.write(hello())
    await on_a.next_of(NodeConnected)
    target = NodeAddress("stranger", 7, 1)
    for _ in range(40):
        on_a.say(target, Note(1, bytes(1024 * 1024)))
        await asyncio.sleep(0)
    lost = await on_a.next_of(NodeDisconnected)
    assert lost.node == "stranger"
    assert "does not read" in lost.reason
    stranger.writer.transport.abort()
    seen = Seen(b)
    seen.say(a.spawn(Echo), Note(2, None))
    assert await seen.next() == Note(2, None)


@world_test
async def test_a_message_that_cannot_travel_comes_back(world: World) -> None:
    """Too large, no plain value, or of a type that is not declared; the next one passes."""
    a, b, _ = await linked(world)
    echo = a.spawn(Echo)
    seen = Seen(b)
    unfit = [Note(1, bytes(FRAME_BYTES_MAX)), Note(2, {1, 2}), object()]
    for message in unfit:
        seen.say(echo, message)
    seen.say(echo, Note(3, "fits"))
    arrived = [await seen.next() for _ in range(4)]
    assert [poison.poisonMessage for poison in arrived[:3]] == [unfit[1], unfit[2], unfit[0]]
    assert arrived[3] == Note(3, "fits")


class Refuser(Actor):
    """A user's actor that always fails."""

    def receiveMessage(self, message: Any, sender: NodeAddress) -> None:
        raise ValueError("not me")


@world_test
async def test_poison_crosses_the_network(world: World) -> None:
    """A message that the other node's actor refuses twice comes back to its sender."""
    a, b, _ = await linked(world)
    seen = Seen(b)
    seen.say(a.spawn(Refuser), Note(4, "bitter"))
    poison = await seen.next()
    assert type(poison) is PoisonMessage
    assert poison.poisonMessage == Note(4, "bitter")
    assert "not me" in poison.details


@world_test
async def test_the_newer_of_two_links_from_one_node_is_used(world: World) -> None:
    """A node that lost its side of a link and dials again is not kept out by the old one."""
    a = await world.node("a")
    on_a = Seen(a, watching=True)
    first = await Stranger.to(a)
    first.writer.write(hello(incarnation=7))
    await on_a.next_of(NodeConnected)
    second = await Stranger.to(a)
    second.writer.write(hello(incarnation=8))
    assert (await on_a.next()) == NodeDisconnected(
        "stranger", 7, "", "replaced by a newer connection with a node of this name"
    )
    assert (await on_a.next()).incarnation == 8
    await first.closed()
    second.writer.close()


@world_test
async def test_two_endpoints_of_one_node_make_one_link(world: World) -> None:
    """The second is refused, else the two would replace each other for ever."""
    a, b, watcher = await linked(world)
    assert a.listening is not None
    other = a.listening.replace("127.0.0.1", "localhost")
    b.links.dial(other)
    refused = await watcher.next()
    assert refused == NodeUnreachable(other, f"a is already connected as {a.listening}", True)
