"""What waits on a link is seen, told when it has gone, and never overtaken by a second link."""

import asyncio
import logging
import socket
import struct
from typing import Any

from thespian.actors import PoisonMessage

from copycat.actors import NodeAddress, message
from copycat.actors.environment import (
    DRAINED_BYTES_MAX,
    LinkDrained,
    NodeConnected,
    NodeDisconnected,
)
from copycat.actors.frame import LARGE_BYTES
from network_world import Echo, Note, Seen, Stranger, World, hello, linked, world_test

MEBIBYTE = bytes(1 << 20)


@world_test
async def test_who_asks_is_told_when_a_link_has_drained(world: World) -> None:
    """Not before the other node reads, and once; what waits can be seen meanwhile."""
    a = await world.node("a")
    on_a = Seen(a, watching=True)
    stranger = await Stranger.to(a)
    stranger.writer.write(hello())
    await on_a.next_of(NodeConnected)
    stranger.reader._transport.pause_reading()  # type: ignore[attr-defined]  # streams do not offer it
    while a.links.unsent_bytes("stranger") < 4 * len(MEBIBYTE):
        on_a.say(NodeAddress("stranger", 7, 1), Note(1, MEBIBYTE))
        await asyncio.sleep(0)
    a.links.ask_drained("stranger", on_a.address)
    a.links.ask_drained("stranger", on_a.address)
    for _ in range(20):
        await asyncio.sleep(0)
    assert on_a.nothing_more()
    stranger.reader._transport.resume_reading()  # type: ignore[attr-defined]  # as above
    reading = asyncio.create_task(stranger.closed())
    assert await on_a.next() == LinkDrained("stranger")
    assert a.links.unsent_bytes("stranger") <= DRAINED_BYTES_MAX
    assert on_a.nothing_more()
    a.links.refuse("stranger", "enough")
    await reading


@world_test
async def test_a_link_that_ends_has_drained(world: World) -> None:
    """Nobody waits for ever: what was sent is gone, and so it is where there never was a link."""
    a = await world.node("a")
    on_a = Seen(a, watching=True)
    a.links.ask_drained("nobody", on_a.address)
    assert await on_a.next() == LinkDrained("nobody")
    stranger = await Stranger.to(a)
    stranger.writer.write(hello())
    await on_a.next_of(NodeConnected)
    stranger.reader._transport.pause_reading()  # type: ignore[attr-defined]  # streams do not offer it
    while a.links.unsent_bytes("stranger") < 4 * len(MEBIBYTE):
        on_a.say(NodeAddress("stranger", 7, 1), Note(1, MEBIBYTE))
        await asyncio.sleep(0)
    a.links.ask_drained("stranger", on_a.address)
    stranger.writer.transport.abort()
    assert await on_a.next_of(LinkDrained) == LinkDrained("stranger")


@world_test
async def test_a_second_link_overtakes_nothing(world: World) -> None:
    """A pair of nodes stays with the link it uses: numbers arrive in order while both dial."""
    a = await world.node("a")
    b = await world.node("b")
    on_a, on_b = Seen(a), Seen(b, watching=True)
    assert a.listening is not None
    assert b.listening is not None
    a.links.dial(b.listening)
    await on_b.next_of(NodeConnected)
    b.links.dial(a.listening)
    sent = 0
    up: Any = None
    while up is None:
        on_b.say(on_a.address, Note(sent, MEBIBYTE))
        sent += 1
        await asyncio.sleep(0)
        if not on_b.nothing_more():
            up = await on_b.next_of(NodeConnected)
    for _ in range(20):
        on_b.say(on_a.address, Note(sent, None))
        sent += 1
    assert [(await on_a.next_of(Note)).number for _ in range(sent)] == list(range(sent))


@world_test
async def test_what_cannot_travel_ends_no_link(world: World) -> None:
    """Also when it is the first or the only one in its turn: the sender gets it back, and what
    follows arrives over the same link."""
    a, b, watcher = await linked(world)
    echo = a.spawn(Echo)
    seen = Seen(b)
    for number in range(3):
        seen.say(echo, object())
        await asyncio.sleep(0)
        seen.say(echo, Note(number, None))
    arrived = [await seen.next() for _ in range(6)]
    assert sum(type(each) is PoisonMessage for each in arrived) == 3
    assert [each for each in arrived if type(each) is Note] == [Note(n, None) for n in range(3)]
    assert watcher.nothing_more()


@message(60020)
class Cargo:
    """What is written in several pieces."""

    parts: tuple[bytes, ...]


CARGO = Cargo((bytes(LARGE_BYTES),) * 10)


@world_test
async def test_what_is_written_to_a_dead_connection_is_lost_in_silence(world: World) -> None:
    """Asyncio complains of the fifth such write, where its loop has not yet said that it is dead."""
    await write_to_the_dead(world, *[Note(number, None) for number in range(20)])


@world_test
async def test_so_is_what_is_written_in_pieces(world: World) -> None:
    """Of which the first finds that the connection is dead."""
    await write_to_the_dead(world, CARGO)


async def write_to_the_dead(world: World, *messages: Any) -> None:
    a = await world.node("a")
    on_a = Seen(a, watching=True)
    stranger = await Stranger.to(a)
    stranger.writer.write(hello())
    await on_a.next_of(NodeConnected)
    complaints: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]  # as short
    logging.getLogger("asyncio").addHandler(handler)
    try:
        linger = struct.pack("ii", 1, 0)  # a reset, not an orderly end
        connection = stranger.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stranger.writer.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for each in messages:
            on_a.say(NodeAddress("stranger", 7, 1), each)
            a.links.flush("stranger")
        await on_a.next_of(NodeDisconnected)
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert complaints == []
    assert a.links.lost > 0 or len(messages) == 1
