"""Who is not known yet, or sends what nobody takes, costs little; who is known comes first."""

import asyncio
from typing import Any

import pytest

from copycat.actors import Actor, NodeAddress, message
from copycat.actors.codec import encode
from copycat.actors.environment import NodeConnected, NodeDisconnected
from copycat.actors.frame import (
    STRANGER_BYTES_MAX,
    STRANGER_VALUES_MAX,
    encode_envelopes,
    envelope,
    frame,
)
from copycat.actors.hello import Hello
from copycat.actors.network import NetworkNode
from copycat.actors.network_links import DEAD_LETTERS_MAX
from network_world import Echo, Note, Seen, Stranger, World, hello, linked, world_test

UNKNOWN = [0, 1, 1, 65_000, []]


@message(60091, bulk=True)
class Load:
    """Many bytes on behalf of others."""

    number: int
    content: bytes


class Choosy(Actor):
    """Takes notes of nobody else."""

    def admits(self, message: Any, sender: NodeAddress) -> bool:
        return False


def notes(count: int, serial: int = 1) -> bytes:
    """Frames with so many notes for one actor."""
    target = NodeAddress("a", 0, serial)
    frames, _ = encode_envelopes([envelope(target, Note(n, None), 1) for n in range(count)])
    return frames


@world_test
async def test_a_message_of_unknown_number_is_dropped_alone(world: World) -> None:
    """As after half of an upgrade: what is around it arrives in order, and the link holds."""
    a = await world.node("a")
    on_a = Seen(a, watching=True, serial=1)
    stranger = await Stranger.to(a)
    stranger.writer.write(hello())
    await on_a.next_of(NodeConnected)
    for number in range(50):
        stranger.writer.write(frame(encode([[0, 1, 1, 0, number], UNKNOWN, [0, 1, 1, 0, -number]])))
    for number in range(50):
        assert [await on_a.next(), await on_a.next()] == [number, -number]
    assert on_a.nothing_more()
    stranger.writer.close()


@pytest.mark.parametrize(
    "said",
    [
        STRANGER_BYTES_MAX.to_bytes(4, "big")[:3] + b"\x01",
        frame(encode([[0, 1, 1, 0, [0] * STRANGER_VALUES_MAX]])),
        frame(encode([UNKNOWN])),
        notes(8, serial=2),
        notes(DEAD_LETTERS_MAX, serial=99),
    ],
    ids=["a long frame", "many values", "unknown", "not taken", "for nobody"],
)
def test_a_stranger_who_is_a_nuisance_loses_the_link(said: bytes) -> None:
    """Where nodes have to be admitted; who behaves is served, also by large frames afterwards."""

    async def body(world: World) -> None:
        a = await world.node("a")
        a.links.guard()
        on_a = Seen(a, watching=True)
        a.spawn(Echo, serial=1)
        a.spawn(Choosy, serial=2)
        good = await Stranger.to(a)
        good.writer.write(hello("good") + notes(1))
        await on_a.next_of(NodeConnected)
        stranger = await Stranger.to(a)
        stranger.writer.write(hello() + said)
        await stranger.closed()
        a.links.admit("good")
        large, _ = encode_envelopes([envelope(NodeAddress("a", 0, 1), bytes(2_000_000), 1)])
        good.writer.write(large)
        await good.control()
        assert (await good.control())[0][3] == Note(0, None)
        assert len((await good.control())[0][3]) == 2_000_000
        good.writer.close()

    world_test(body)()


@world_test
async def test_a_preferred_node_is_heard_before_a_crowd(world: World) -> None:
    """What others have sent waits, frame by frame and in turns; one of ours is answered before most
    of it has been looked at."""
    a = await world.node("a")
    a.links.prefer("ours", 5)
    on_a = Seen(a, watching=True)
    handled: list[str] = []

    class Slow(Actor):
        def note(self, message: Note, sender: NodeAddress) -> None:
            handled.append(sender.node)
            for _ in range(2_000):
                pass

    a.spawn(Slow, serial=1)
    ours = await Stranger.to(a)
    ours.writer.write(hello("ours", node_id=5))
    await on_a.next_of(NodeConnected)
    crowd = [await Stranger.to(a) for _ in range(8)]
    for place, one in enumerate(crowd):
        one.writer.write(hello(f"c{place}"))
        await on_a.next_of(NodeConnected)
    for one in crowd:
        one.writer.write(notes(3_000))
    while not handled:
        await asyncio.sleep(0)
    ours.writer.write(notes(1))
    while "ours" not in handled:
        await asyncio.sleep(0)
    assert len(handled) < 12_000
    while len(handled) < 24_001:
        await asyncio.sleep(0)
    for one in (ours, *crowd):
        one.writer.close()


@world_test
async def test_all_that_arrived_is_taken_before_the_end_of_its_link(world: World) -> None:
    """Who sends much and closes has said it all."""
    a = await world.node("a")
    on_a = Seen(a, watching=True, serial=1)
    stranger = await Stranger.to(a)
    stranger.writer.write(hello() + notes(20_000))
    stranger.writer.write_eof()
    await on_a.next_of(NodeConnected)
    assert [(await on_a.next_of(Note)).number for _ in range(20_000)] == list(range(20_000))
    assert type(await on_a.next()) is NodeDisconnected
    stranger.writer.close()


async def both_ways(world: World) -> tuple[NetworkNode, NetworkNode, Seen, Seen]:
    """Nodes a and b, of which b has dialled a, each with a probe."""
    a, b, _ = await linked(world)
    return a, b, Seen(a, serial=1), Seen(b, watching=True)


@world_test
async def test_nothing_waits_behind_bulk_messages(world: World) -> None:
    """They have a link of their own, on which they keep their order; nobody is told of it."""
    a, b, on_a, on_b = await both_ways(world)
    for number in range(20):
        on_b.say(on_a.address, Load(number, bytes(1 << 20)))
    for number in range(20):
        on_b.say(on_a.address, Note(number, None))
    arrived = [await on_a.next() for _ in range(40)]
    assert [each.number for each in arrived if type(each) is Load] == list(range(20))
    assert [each.number for each in arrived if type(each) is Note] == list(range(20))
    assert [type(each) for each in arrived[:20]] == [Note] * 20
    assert on_b.nothing_more()
    assert b.links.unsent_bytes("a") == b.links.unsent_bytes("a", bulk=True) == 0
    assert b.links.lost == 0
    a.stop()


@world_test
async def test_what_cuts_bulk_messages_cuts_nothing_else(world: World) -> None:
    """Only they are lost; the next one is sent by a new link."""
    a, b, on_a, on_b = await both_ways(world)
    on_b.say(on_a.address, Load(1, b""))
    assert await on_a.next() == Load(1, b"")
    next(iter(b.links._bulk.values())).end("cut")
    on_b.say(on_a.address, Note(2, None))
    on_b.say(on_a.address, Load(3, b""))
    assert {type(await on_a.next()), type(await on_a.next())} == {Note, Load}
    assert on_b.nothing_more()
    a.stop()


def test_a_node_that_says_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host lives, it has said who it is, and stands still: as a process that was stopped."""
    monkeypatch.setattr("copycat.actors.network_links.LOOK_EVERY_S", 0.02)

    async def body(world: World) -> None:
        a, b, watcher = await linked(world)
        on_a = Seen(a, watching=True)
        stranger = await Stranger.to(a)
        stranger.writer.write(hello())
        await on_a.next_of(NodeConnected)
        lost = await on_a.next_of(NodeDisconnected)
        assert (lost.node, lost.reason) == ("stranger", "nothing was heard of the other node")
        assert watcher.nothing_more()  # two nodes that have nothing to say stay connected
        assert b.links.unsent_bytes("a") == 0
        await stranger.closed()

    world_test(body)()


def test_two_nodes_that_have_dialled_each_other_beat_by_one_link_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is heard on one counts for both; when they stand still both are lost."""
    monkeypatch.setattr("copycat.actors.network_links.LOOK_EVERY_S", 0.02)

    async def body(world: World) -> None:
        a, b, _ = await linked(world)
        on_a = Seen(a, watching=True)
        assert b.listening is not None
        a.links.dial(b.listening)
        await on_a.next_of(NodeConnected)
        both = [a.links._dialled["b"], a.links._accepted["b"]]
        used = a.links._used["b"]
        (spare,) = [link for link in both if link is not used]
        heard = {link: link.receipts for link in both}
        while used.receipts < heard[used] + 20:
            await asyncio.sleep(0.01)
        assert spare.receipts <= heard[spare] + 1, "b sends by the link that a sends by"
        assert not any(link.ended for link in both)
        for link in [*b.links._dialled.values(), *b.links._accepted.values()]:
            monkeypatch.setattr(link, "look", lambda *_, **__: None)
        lost = [await on_a.next_of(NodeDisconnected) for _ in both]
        assert {each.reason for each in lost} == {"nothing was heard of the other node"}

    world_test(body)()


@world_test
async def test_two_lives_of_a_preferred_node_are_both_linked(world: World) -> None:
    """A copy of a server keeps the first one's link, for who lives has to be found out by asking;
    the oldest and the newest stay, and a life that dials again replaces its own link only."""
    a = await world.node("a")
    a.links.prefer("ours", 5)
    on_a = Seen(a, watching=True)

    async def life(incarnation: int) -> Stranger:
        made = await Stranger.to(a)
        made.writer.write(hello("ours", node_id=5, incarnation=incarnation))
        assert type(await made.control()) is Hello
        return made

    async def news() -> tuple[type, int]:
        seen = await on_a.next()
        return type(seen), seen.incarnation

    first, second = await life(7), await life(8)
    assert [await news() for _ in range(2)] == [(NodeConnected, 7), (NodeConnected, 8)]
    for incarnation, link in ((7, first), (8, second)):
        on_a.say(NodeAddress("ours", incarnation, 1), Note(incarnation, None))
        ((to, _, _, said),) = await link.control()
        assert (to, said) == (incarnation, Note(incarnation, None))
    third = await life(9)
    assert [await news() for _ in range(2)] == [(NodeDisconnected, 8), (NodeConnected, 9)]
    again = await life(7)
    assert [await news() for _ in range(2)] == [(NodeDisconnected, 7), (NodeConnected, 7)]
    again.writer.close()
    assert await news() == (NodeDisconnected, 7)
    on_a.say(NodeAddress("ours", 0, 1), Note(1, None))
    assert len(await third.control()) == 1
    last = await life(10)
    assert await news() == (NodeConnected, 10)
    a.links.refuse("ours", "not today")
    assert [await news() for _ in range(2)] == [(NodeDisconnected, 10), (NodeDisconnected, 9)]
    for link in (first, second, third, again, last):
        link.writer.close()
