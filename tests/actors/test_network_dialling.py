"""Dialling, refusing, limits, and what ends a node of the real world."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable

import pytest

from copycat.actors import Actor, NodeAddress
from copycat.actors.endpoint import EndpointError, parse_endpoint
from copycat.actors.environment import NodeConnected, NodeDisconnected, NodeUnreachable
from copycat.actors.network import ListenError, NoDirectoryError, free_ports
from copycat.actors.network_dial import CONNECT_TIMEOUT_S
from copycat.actors.network_dial import connect as network_dial_connect
from copycat.actors.network_link import HELLO_TIMEOUT_S, Link
from copycat.actors.network_links import LOOK_EVERY_S, NetworkLinks
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
async def test_a_refused_node_is_told_why(world: World) -> None:
    """Also one that had been admitted: the layer above may know more than the Hello says."""
    a, b, watcher = await linked(world)
    on_a = Seen(a, watching=True)
    a.links.refuse("b", "wiped server")
    down = await watcher.next()
    assert type(down) is NodeDisconnected
    refused = await watcher.next()
    assert type(refused) is NodeUnreachable
    assert refused.refused
    assert "wiped server" in refused.reason
    assert (await on_a.next()).node == b.name


@world_test
async def test_hanging_up_ends_the_link_for_good(world: World) -> None:
    """It is reported once, and nothing is dialled again."""
    a, b, watcher = await linked(world)
    on_a = Seen(a, watching=True)
    assert a.listening is not None
    b.links.hang_up(a.listening)
    assert (await watcher.next()).reason == "hung up"
    assert type(await on_a.next()) is NodeDisconnected
    b.links.hang_up(a.listening)
    b.links.dial(a.listening)
    assert type(await watcher.next()) is NodeConnected
    assert type(await on_a.next()) is NodeConnected


@world_test
async def test_an_unreachable_endpoint_is_reported_and_tried_again(world: World) -> None:
    """With the reason in words; once somebody listens there, the link comes up."""
    endpoint = f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}"
    b = await world.node("b")
    watcher = Seen(b, watching=True)
    b.links.dial(endpoint)
    for _ in range(2):
        assert await watcher.next() == NodeUnreachable(endpoint, "connection refused", False)
    await world.node("a", listen=endpoint)
    assert (await watcher.next_of(NodeConnected)).node == "a"


@world_test
async def test_a_port_in_use_is_a_clear_error(world: World) -> None:
    """It names the endpoint and what to do."""
    a = await world.node("a")
    assert a.listening is not None
    with pytest.raises(ListenError, match="address already in use; free the port") as refused:
        await world.node("b", listen=a.listening)
    assert refused.value.endpoint == a.listening


@pytest.mark.parametrize("endpoint", ["", "host", "host:", ":1", "host:x", "::1:5", "h:65536"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    """Before anything is dialled."""
    with pytest.raises(EndpointError):
        parse_endpoint(endpoint)


def test_an_endpoint_has_a_host_and_a_port() -> None:
    """An IPv6 address stands in brackets."""
    assert parse_endpoint("n1:7401") == ("n1", 7401)
    assert parse_endpoint("[::1]:0") == ("::1", 0)


def test_a_silent_stranger_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that says less than a Hello."""
    monkeypatch.setattr("copycat.actors.network_link.HELLO_TIMEOUT_S", 0.02)

    async def body(world: World) -> None:
        a, b, _ = await linked(world)
        for said in (b"", hello()[:10]):
            stranger = await Stranger.to(a)
            stranger.writer.write(said)
            await stranger.closed()
        seen = Seen(b)
        seen.say(a.spawn(Echo), Note(1, None))
        assert await seen.next() == Note(1, None)

    world_test(body)()


def test_there_is_room_for_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told so; one of ours finds room; when one has gone there is room again."""
    monkeypatch.setattr("copycat.actors.network_links.room_for_links", lambda: (2, 2))

    async def body(world: World) -> None:
        a = await world.node("a")
        a.links.prefer("ours", 5)
        on_a = Seen(a, watching=True)
        admitted = []
        for name in ("x", "y"):
            stranger = await Stranger.to(a)
            stranger.writer.write(hello(name))
            await on_a.next_of(NodeConnected)
            admitted.append(stranger)
        third = await Stranger.to(a)
        third.writer.write(hello("third"))
        await third.control()
        assert "too many connections" in (await third.control()).reason
        await third.closed()
        ours = await Stranger.to(a)
        ours.writer.write(hello("ours", node_id=5))
        assert (await on_a.next_of(NodeConnected)).node == "ours"
        for leaving in (admitted[0], ours):
            leaving.writer.close()
            await on_a.next_of(NodeDisconnected)
        again = await Stranger.to(a)
        again.writer.write(hello("z"))
        assert (await on_a.next_of(NodeConnected)).node == "z"
        for stranger in (admitted[1], again):
            stranger.writer.close()

    world_test(body)()


def test_who_says_nothing_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those who have not introduced themselves, the oldest goes when another one comes."""
    monkeypatch.setattr("copycat.actors.network_links.room_for_links", lambda: (2, 3))

    async def body(world: World) -> None:
        a = await world.node("a")
        on_a = Seen(a, watching=True)
        silent = [await Stranger.to(a) for _ in range(10)]
        speaking = await Stranger.to(a)
        speaking.writer.write(hello("z"))
        assert (await on_a.next_of(NodeConnected)).node == "z"
        for each in silent[:7]:
            await each.closed()
        assert not silent[9].reader.at_eof()
        for each in (*silent, speaking):
            each.writer.close()

    world_test(body)()


def test_a_node_out_of_descriptors_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be accepted waits until there are descriptors again; the log has a line each
    time, and no traceback."""

    async def body(world: World) -> None:
        a, b, _ = await linked(world)
        seen = Seen(b)
        echo = a.spawn(Echo)
        assert a.listening is not None
        host, port = parse_endpoint(a.listening)
        waiting = socket.socket()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, before[1]))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect((host, port))
            for number in range(20):
                await asyncio.sleep(0.01)
                seen.say(echo, Note(number, None))
                assert await seen.next() == Note(number, None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        with waiting:
            waiting.setblocking(True)
            waiting.settimeout(PATIENCE_S)
            assert await asyncio.to_thread(waiting.recv, 1)

    world_test(body)()
    lines = [record for record in caplog.records if "accepted" in record.getMessage()]
    assert 1 <= len(lines) < 20
    assert all(record.exc_info is None for record in caplog.records)


def test_retries_slow_down_and_start_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 50 ms doubling to 400 ms, with jitter; a link that was up begins again, a refused one
    does not."""
    monkeypatch.setattr("copycat.actors.network_dial.OVERLAP_S", 100.0)
    delays_s: list[float] = []

    async def body(world: World) -> None:
        endpoint = f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}"
        b = await world.node("b")
        call_later = b.call_later

        def hasten(delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
            if delay_s > 0.6:
                return call_later(delay_s, callback)
            delays_s.append(delay_s)
            return call_later(0, callback)

        monkeypatch.setattr(b, "call_later", hasten)
        watcher = Seen(b, watching=True)
        b.links.dial(endpoint)
        for _ in range(8):
            assert type(await watcher.next()) is NodeUnreachable
        for delay_s, middle_s in zip(delays_s, [0.05, 0.1, 0.2, 0.4, 0.4, 0.4], strict=False):
            assert 0.75 * middle_s <= delay_s <= 1.25 * middle_s
        a = await world.node("a", listen=endpoint)
        await watcher.next_of(NodeConnected)
        delays_s.clear()
        a.links.refuse("b", "go away")
        await watcher.next_of(NodeConnected)
        assert delays_s[0] > 0.25
        delays_s.clear()
        a.stop()
        await watcher.next_of(NodeUnreachable)
        assert delays_s[0] < 0.07

    world_test(body)()


def test_who_finds_no_room_stays_away_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 300 ms up to seconds; a connection that ends before the refusal was read changes neither
    that nor the reason. When there is room it is let in."""
    monkeypatch.setattr("copycat.actors.network_links.room_for_links", lambda: (0, 2))
    monkeypatch.setattr("copycat.actors.network_dial.OVERLAP_S", 100.0)
    delays_s: list[float] = []

    async def body(world: World) -> None:
        a = await world.node("a")
        b = await world.node("b")
        call_later = b.call_later

        def hasten(delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
            if delay_s in {LOOK_EVERY_S, CONNECT_TIMEOUT_S, HELLO_TIMEOUT_S} or delay_s > 50:
                return call_later(delay_s, callback)
            delays_s.append(delay_s)
            return call_later(0, callback)

        monkeypatch.setattr(b, "call_later", hasten)
        watcher = Seen(b, watching=True)
        assert a.listening is not None
        b.links.dial(a.listening)
        reasons = [(await watcher.next_of(NodeUnreachable)).reason for _ in range(4)]

        def cut(link: Link, reason: str) -> None:
            link._transport.abort()  # type: ignore[union-attr]
            link.end(reason)

        monkeypatch.setattr(Link, "refuse", cut)
        reasons += [(await watcher.next_of(NodeUnreachable)).reason for _ in range(3)]
        assert set(reasons) == {"refused by the other node: too many connections"}
        for delay_s, middle_s in zip(delays_s, (0.3, 0.6, 1.2, 2.4, 4.8, 4.8), strict=False):
            assert 0.75 * middle_s <= delay_s <= 1.25 * middle_s
        a.links._incoming_max = 1
        on_a = Seen(a, watching=True)
        assert (await on_a.next_of(NodeConnected)).node == "b"

    world_test(body)()


def test_what_is_spare_is_tried_seldom_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to every three seconds, one attempt at a time; when it is needed the next one begins soon
    beside one that nobody answers."""
    monkeypatch.setattr("copycat.actors.network_dial.OVERLAP_S", 0.05)
    delays_s: list[float] = []

    async def body(world: World) -> None:
        endpoint = f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}"
        b = await world.node("b")
        call_later = b.call_later
        attempts: list[Link] = []
        answers = True

        def hasten(delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
            delays_s.append(delay_s)
            return call_later(0 if answers else delay_s, callback)

        async def connect_or_wait(link: Link, links: NetworkLinks) -> None:
            attempts.append(link)
            if not answers and len(attempts) == 1:
                await asyncio.sleep(PATIENCE_S)
            await network_dial_connect(link, links)

        monkeypatch.setattr(b, "call_later", hasten)
        monkeypatch.setattr("copycat.actors.network_dial.connect", connect_or_wait)
        watcher = Seen(b, watching=True)
        b.links.dial(endpoint, spare=True)
        for _ in range(9):
            assert type(await watcher.next()) is NodeUnreachable
        for delay_s, middle_s in zip(
            delays_s, (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2), strict=False
        ):
            assert 0.75 * middle_s <= delay_s <= 1.25 * middle_s
        b.links.hang_up(endpoint)
        answers = False
        attempts.clear()
        b.links.dial(endpoint, spare=True)
        await asyncio.sleep(0.2)
        assert len(attempts) == 1
        await world.node("a", listen=endpoint)
        b.links.dial(endpoint)
        assert type(await watcher.next_of(NodeConnected)) is NodeConnected
        assert len(attempts) == 2

    world_test(body)()


def test_an_attempt_that_nobody_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a cut, which may heal at once: the next one begins beside it, and the first that comes
    through is the link; the others are given up without a word."""
    monkeypatch.setattr("copycat.actors.network_dial.OVERLAP_S", 0.01)
    unanswered: list[Link] = []

    async def body(world: World) -> None:
        a = await world.node("a")
        b = await world.node("b")
        watcher = Seen(b, watching=True)

        async def connect_fourth(link: Link, links: NetworkLinks) -> None:
            if len(unanswered) < 3:
                unanswered.append(link)
                await asyncio.sleep(PATIENCE_S)
            await network_dial_connect(link, links)

        monkeypatch.setattr("copycat.actors.network_dial.connect", connect_fourth)
        assert a.listening is not None
        b.links.dial(a.listening)
        assert type(await watcher.next()) is NodeConnected
        assert all(link.ended for link in unanswered)
        assert watcher.nothing_more()

    world_test(body)()


def test_of_several_attempts_that_are_accepted_one_is_introduced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by a node that listens and has not come to accepting yet: it hears of one link, which stays."""
    monkeypatch.setattr("copycat.actors.network_dial.OVERLAP_S", 0.01)

    async def body(world: World) -> None:
        a = await world.node("a")
        b = await world.node("b")
        on_a, on_b = Seen(a, watching=True), Seen(b, watching=True)
        attempts: list[Link] = []
        all_made = asyncio.Event()

        async def connect_together(link: Link, links: NetworkLinks) -> None:
            attempts.append(link)
            if len(attempts) == 4:
                all_made.set()
            await all_made.wait()
            await network_dial_connect(link, links)

        monkeypatch.setattr("copycat.actors.network_dial.connect", connect_together)
        assert a.listening is not None
        b.links.dial(a.listening)
        assert type(await on_a.next()) is NodeConnected
        assert type(await on_b.next()) is NodeConnected
        await asyncio.sleep(0.2)
        assert len(attempts) == 4
        assert on_a.nothing_more()
        assert on_b.nothing_more()

    world_test(body)()


@world_test
async def test_a_free_port_that_connects_to_itself_is_nobody(world: World) -> None:
    """Dialled often enough, a port of this host may be drawn for the attempt itself; it is not kept
    from who wants to listen there."""
    with socket.socket() as itself:
        itself.bind(("127.0.0.1", 0))
        itself.connect(itself.getsockname())
        b = await world.node("b")
        link = Link(b.links, f"127.0.0.1:{itself.getsockname()[1]}")
        await b.loop.create_connection(lambda: link, sock=itself.dup())
        assert link.ended


class Broken(Actor):
    """One of our own actors, with a bug."""

    fail_stop = True

    def note(self, message: Note, sender: NodeAddress) -> None:
        """Have half a step done."""
        self.send(sender, Note(99, None))
        raise ZeroDivisionError


@world_test
async def test_a_failed_step_stops_the_whole_node(world: World) -> None:
    """Once, with the reason; others see the link end, and nothing the step had said."""
    a, _, watcher = await linked(world)
    failures: list[BaseException] = []
    a.on_failure = failures.append
    broken = a.spawn(Broken)
    watcher.say(broken, Note(1, None))
    watcher.say(broken, Note(2, None))
    assert type(await watcher.next()) is NodeDisconnected
    assert [type(error) for error in failures] == [ZeroDivisionError]
    assert a.stopped
    assert isinstance(a.failure, ZeroDivisionError)
    assert a.listening is not None
    assert (await watcher.next_of(NodeUnreachable)).reason == "connection refused"


@world_test
async def test_a_node_without_a_directory_has_no_disk(world: World) -> None:
    """Asking for it is an error that says so."""
    a = await world.node("a")
    with pytest.raises(NoDirectoryError):
        a.environment.disk.names()


@world_test
async def test_a_message_to_nobody_is_lost_and_counted(world: World) -> None:
    """No link, no error."""
    a = await world.node("a")
    Seen(a).say(NodeAddress.well_known("elsewhere", 1), Note(1, None))
    assert a.links.lost == 1
