"""What clients have under way to the leader is bounded, for those too who keep to no window."""

import asyncio
from typing import Any

import pytest

from copycat import AsyncClient
from copycat.actors.simulation import Simulation
from copycat.client import commands
from copycat.client import window as client_window
from copycat.protocol.client import Refusal
from copycat.protocol.raft import Propose
from copycat.server import under_way
from copycat.server.connection import Connection
from copycat.server.roles import leader as leader_module
from copycat.server.roles.leader import Leader
from copycat.server.under_way import BATCH_BYTES, SESSIONS_KEPT_MIN, UnderWay
from copycat.storage.batch import BatchKind
from simulated_servers import ENDPOINTS, TallyHandle, start_servers

LOST_AFTER_S = 1.0


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a few kilobytes."""
    monkeypatch.setattr(under_way, "SESSION_BYTES_MAX", 40_000)
    monkeypatch.setattr(under_way, "CLIENT_BYTES_MAX", 80_000)
    monkeypatch.setattr(under_way, "LINK_BYTES_MAX", 120_000)


def take(
    bounds: UnderWay, session: int, first: int, *, client: str = "c", now_s: float = 0.0,
    unsent_bytes: int | None = None,
) -> bool:  # fmt: skip
    text = bounds.take(session, client, first, 10_000 - BATCH_BYTES, now_s, unsent_bytes)
    return not text


def test_each_bound_holds_and_what_is_applied_makes_room() -> None:
    """A session, a client and the link to the leader have bounds of their own."""
    applied = dict.fromkeys(range(1, 20), 0)
    bounds = UnderWay(applied, LOST_AFTER_S)
    assert [take(bounds, 1, first) for first in range(1, 6)] == [True] * 4 + [False]
    assert [take(bounds, 2, first) for first in range(1, 6)] == [True] * 4 + [False]
    assert not take(bounds, 3, 1), "of this client"
    assert [take(bounds, 4, first, client="d") for first in range(1, 5)] == [True] * 4
    assert not take(bounds, 5, 1, client="e", unsent_bytes=0), "of the link"
    assert take(bounds, 5, 1, client="e"), "a leader has no link to itself"
    applied[1] = 4
    assert take(bounds, 3, 1, now_s=0.2), "what another session has done makes room"


def test_rests_of_a_batch_make_room_for_each_other() -> None:
    """However often a batch is carried out in part, what was sent behind it holds up no rest of it."""
    applied = {1: 0}
    bounds = UnderWay(applied, LOST_AFTER_S)
    assert take(bounds, 1, 1)
    assert take(bounds, 1, 101)
    for first in range(2, 100):
        applied[1] = first - 1
        assert take(bounds, 1, first), first
    applied[1] = 100
    assert [take(bounds, 1, first) for first in range(101, 105)] == [True] * 3 + [False]


def test_what_later_ones_wait_for_passes() -> None:
    """Batches that came ahead of their turn never keep out the one they wait for; a copy does not
    pass twice."""
    bounds = UnderWay({1: 4}, LOST_AFTER_S)
    assert [take(bounds, 1, first) for first in (6, 7, 8, 9)] == [True] * 4
    assert not take(bounds, 1, 10)
    assert take(bounds, 1, 5), "the next of the session"
    assert not take(bounds, 1, 5), "of which one is under way now"
    assert not take(bounds, 1, 10)


def test_unsent_bytes_of_the_link_count() -> None:
    """What the link has not taken counts, even where nothing is known to be under way."""
    bounds = UnderWay({1: 0}, LOST_AFTER_S)
    assert not take(bounds, 1, 1, unsent_bytes=115_000)
    assert take(bounds, 1, 1, unsent_bytes=100_000)


def test_a_large_one_passes_alone() -> None:
    """Whatever is legal finds room when nothing else is under way."""
    bounds = UnderWay({1: 0, 2: 0}, LOST_AFTER_S)
    assert bounds.take(1, "c", 1, 500_000, 0.0, 0) == ""
    assert not take(bounds, 2, 1)


def test_refused_and_lost_ones_are_under_way_no_more() -> None:
    """A session is never shut out by what its server has lost sight of."""
    bounds = UnderWay({1: 0}, LOST_AFTER_S)
    for first in range(1, 5):
        assert take(bounds, 1, first)
    bounds.refused(1, 2)
    assert take(bounds, 1, 2), "refused"
    assert not take(bounds, 1, 5)
    assert take(bounds, 1, 5, now_s=LOST_AFTER_S + 0.1), "lost"
    bounds.clear()
    assert take(bounds, 1, 1), "another leader"


def test_a_session_that_moves_to_another_link_takes_its_bytes_along() -> None:
    """They count for the client that has it now, once."""
    bounds = UnderWay({1: 0, 2: 0}, LOST_AFTER_S)
    for first in range(1, 4):
        assert take(bounds, 1, first, client="c")
    assert take(bounds, 1, 4, client="d")
    assert bounds._clients == {"d": 40_000}


def test_sessions_of_the_past_are_forgotten() -> None:
    """The table does not grow with the sessions that there have ever been."""
    applied: dict[int, int] = {}
    bounds = UnderWay(applied, LOST_AFTER_S)
    for session in range(1, 5 * SESSIONS_KEPT_MIN):
        applied[session] = 0
        assert take(bounds, session, 1, now_s=float(session))
        del applied[session]
    assert len(bounds._sessions) <= SESSIONS_KEPT_MIN


def test_a_client_without_a_window_is_refused_and_gets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that sends all at once to a follower fills neither its link nor the leader, and loses
    nothing but time."""
    monkeypatch.setattr(client_window, "BYTES_MAX", 1 << 40)
    monkeypatch.setattr(client_window, "SESSION_BYTES_MAX", 1 << 40)
    monkeypatch.setattr(commands, "BATCHES_IN_FLIGHT_MAX", 1000)
    for name in ("SESSION_BYTES_MAX", "CLIENT_BYTES_MAX", "LINK_BYTES_MAX"):
        monkeypatch.setattr(under_way, name, 500_000)
    refusals: list[Refusal] = []
    most_bytes = 0
    refuse, take = Connection._refuse, UnderWay.take

    def watch_refuse(*arguments: Any) -> None:
        refusals.append(arguments[5])
        refuse(*arguments)

    def watch_take(bounds: UnderWay, *arguments: Any) -> str:
        nonlocal most_bytes
        text = take(bounds, *arguments)
        most_bytes = max(most_bytes, bounds._size_bytes)
        return text

    monkeypatch.setattr(Connection, "_refuse", watch_refuse)
    monkeypatch.setattr(UnderWay, "take", watch_take)
    with Simulation(7) as simulation:
        servers = start_servers(simulation)

        async def story() -> list[Any]:
            async with AsyncClient(*ENDPOINTS, timeout_s=60) as waits:
                await waits.open(TallyHandle, "tally")
            follower = next(s for s in servers.values() if s.role_title == "follower")
            endpoint = follower.options.peers[follower.options.name]
            async with AsyncClient(endpoint, server_selection="any", timeout_s=60) as greedy:
                tally = await greedy.open(TallyHandle, "tally")
                sent = [tally.command("add", 1) for _ in range(2)]
                sent += [
                    greedy.submit_command(tally.resource_id, "no", b"x" * 200_000)
                    for _ in range(20)
                ]
                await asyncio.gather(*sent, return_exceptions=True)
                sent = [greedy.submit_command(tally.resource_id, "add", 1) for _ in range(2)]
                return await asyncio.gather(*sent)

        assert simulation.run(story(), timeout_s=120) == [3, 4]
    assert Refusal.OVERLOADED in refusals
    assert 200_000 < most_bytes <= 500_000


def watch_refusals(monkeypatch: pytest.MonkeyPatch) -> list[Propose]:
    """What a leader refuses from now on."""
    refused: list[Propose] = []
    refuse = Leader._refuse

    def watch_refuse(leader: Leader, message: Propose, *arguments: Any) -> None:
        refused.append(message)
        refuse(leader, message, *arguments)

    monkeypatch.setattr(Leader, "_refuse", watch_refuse)
    return refused


def test_a_full_leader_has_room_for_small_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a large command is refused, a small one is still taken."""
    monkeypatch.setattr(leader_module, "OPEN_BYTES_MAX", 100_000)
    refused = watch_refusals(monkeypatch)
    with Simulation(7) as simulation:
        start_servers(simulation)

        async def story() -> Any:
            async with AsyncClient(*ENDPOINTS, timeout_s=60) as first:
                tally = await first.open(TallyHandle, "tally")
                others = [await first.new_session() for _ in range(5)]
                large = [
                    other.submit_command(tally.resource_id, "no", b"x" * 15_000)
                    for other in others
                    for _ in range(4)
                ]
                small = [
                    other.submit_command(tally.resource_id, "add", 1)
                    for other in [await first.new_session() for _ in range(5)]
                ]
                ends = await asyncio.gather(*small)
                await asyncio.gather(*large, return_exceptions=True)
                return ends

        assert sorted(simulation.run(story(), timeout_s=120)) == [1, 2, 3, 4, 5]
    assert refused
    assert min(len(proposal.operations) for proposal in refused) > 10_000


def test_a_full_leader_takes_every_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of others fill the leader, and a session that only lives goes on and ends in order."""
    monkeypatch.setattr(leader_module, "OPEN_BYTES_MAX", 0)
    refused = watch_refusals(monkeypatch)
    with Simulation(7) as simulation:
        start_servers(simulation)

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS, timeout_s=60) as greedy:
                tally = await greedy.open(TallyHandle, "tally")
                sessions = [await greedy.new_session() for _ in range(5)]
                async with AsyncClient(*ENDPOINTS, timeout_s=60) as idle:
                    ends_s = simulation.now_s + 60
                    while simulation.now_s < ends_s:
                        sent = [one.submit_command(tally.resource_id, "add", 1) for one in sessions]
                        await asyncio.gather(*sent)
                    assert idle.session_id is not None

        simulation.run(story(), timeout_s=200)
    kinds = {proposal.kind for proposal in refused}
    assert BatchKind.COMMANDS in kinds
    assert not {BatchKind.KEEP_ALIVE, BatchKind.CLOSE_SESSION} & kinds


def test_what_follows_what_is_done_is_counted_with_the_client() -> None:
    """A session has nothing else under way, but its client's other sessions have."""
    applied = {1: 1, 2: 0}
    counted = under_way.UnderWay(applied, 10.0)
    assert counted.take(1, "client", 1, 100, 0.0, None) == ""
    assert counted.take(2, "client", 1, under_way.CLIENT_BYTES_MAX - 2_000, 0.0, None) == ""
    assert counted.take(1, "client", 2, 1_000, 0.0, None) == ""
    applied[1] = 2
    assert counted.take(1, "client", 3, 10_000, 0.0, None) != ""
    applied[2] = 1
    assert counted.take(2, "client", 2, 10, 0.0, None) == ""
    assert counted.take(1, "client", 3, 10_000, 0.0, None) == ""
