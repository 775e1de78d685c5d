"""How much a cluster takes on, and what is said to those it has no room for."""

from typing import Any

import pytest

from copycat import AsyncClient, NotApplied
from copycat.actors import NodeAddress
from copycat.actors.simulation import Simulation
from copycat.protocol.client import Refusal
from copycat.protocol.raft import Propose
from copycat.server import window
from copycat.server.roles import leader as leader_module
from copycat.server.window import FORGOTTEN_MAX, Sequencer
from simulated_servers import ENDPOINTS, TallyHandle, start_servers


def test_the_gate_of_commands_forgets_sessions_that_have_ended() -> None:
    """What waits of sessions that expired meanwhile does not grow without a bound."""
    applied: dict[int, int] = {}
    gate = Sequencer(applied, {})
    sender = NodeAddress("n1", 1, 20)
    for session in range(1, 3 * FORGOTTEN_MAX):
        applied[session] = 0
        assert gate.arrive(Propose(2, session, 2, 1, 0, 0, b""), sender) is None
        del applied[session]
    assert len(gate.waiting()) <= FORGOTTEN_MAX + 1


def test_the_gate_of_commands_holds_a_bounded_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits ahead of its turn is bounded over all sessions, and counted out again."""
    monkeypatch.setattr(window, "WAITING_BYTES_MAX", 10_000)
    applied = dict.fromkeys(range(1, 101), 0)
    gate = Sequencer(applied, {})
    sender = NodeAddress("n1", 1, 20)

    def early(session: int, first_sequence: int) -> Any:
        return gate.arrive(Propose(2, session, first_sequence, 1, 0, 0, bytes(1000)), sender)

    assert [early(session, 2) for session in range(1, 11)] == [None] * 10
    assert early(1, 2) is None, "a copy takes the place of the first"
    assert early(11, 2) is Refusal.OVERLOADED
    assert [each.first_sequence for each, _ in early(1, 1)] == [1, 2]
    assert early(11, 2) is None
    assert early(12, 2) is Refusal.OVERLOADED
    del applied[2]
    assert early(2, 3) is Refusal.UNKNOWN_SESSION
    assert early(12, 2) is None
    applied[3] = 4
    assert early(3, 6) is None, "what was overtaken makes room"
    assert len(gate.waiting()) == 10


def test_the_gate_of_commands_goes_on_with_the_rest_of_a_batch() -> None:
    """What was appended behind a part counts for nothing, and the rest is appended once."""
    applied, cut = {1: 0}, dict[int, None]()
    gate = Sequencer(applied, cut)
    sender = NodeAddress("n1", 1, 20)

    def arrives(first_sequence: int, count: int, response_sequence: int = 0) -> Any:
        proposal = Propose(2, 1, first_sequence, count, response_sequence, 0, b"")
        verdict: Any = gate.arrive(proposal, sender)
        return verdict and [each.first_sequence for each, _ in verdict]

    assert arrives(1, 10) == [1]
    assert arrives(11, 10) == [11]
    applied[1], cut[1] = 4, None  # of the first batch so much was applied
    assert arrives(1, 10) is None, "a copy"
    assert arrives(11, 10) is None, "it waits for what is next, or is a copy still"
    assert arrives(5, 6, 4) == [5]
    assert arrives(5, 6, 4) is None, "a copy"
    assert arrives(21, 10, 4) is None, "it waits for the one before, whose first copy was in vain"
    assert arrives(11, 10, 4) == [11, 21]
    assert not cut


def test_the_gate_of_commands_believes_who_has_more_answers_than_it() -> None:
    """A leader that applies later than the server of a client does not take the rest for a copy."""
    applied = {1: 0}
    gate = Sequencer(applied, {})
    sender = NodeAddress("n1", 1, 20)
    arrive = gate.arrive
    assert arrive(Propose(2, 1, 1, 10, 0, 0, b""), sender)
    assert arrive(Propose(2, 1, 5, 6, 0, 0, b""), sender) is None
    assert arrive(Propose(2, 1, 5, 6, 4, 0, b""), sender)
    applied[1] = 10
    assert arrive(Propose(2, 1, 5, 6, 4, 0, b""), sender) is None


def test_a_cluster_has_a_bounded_number_of_sessions_and_resources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One more is refused with the reason, what is there goes on, and what ends makes room."""
    monkeypatch.setattr(leader_module, "SESSIONS_MAX", 2)
    monkeypatch.setattr(leader_module, "RESOURCES_MAX", 1)
    with Simulation(33) as simulation:
        start_servers(simulation)

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS, timeout_s=2) as first:
                await first.open(TallyHandle, "tally")
                with pytest.raises(NotApplied, match="the cluster has 1 resources"):
                    await first.open(TallyHandle, "other")
                async with AsyncClient(*ENDPOINTS, timeout_s=2) as second:
                    tally = await second.open(TallyHandle, "tally")
                    with pytest.raises(NotApplied, match="the cluster has 2 sessions"):
                        await AsyncClient(*ENDPOINTS, timeout_s=2).connect()
                    assert await tally.command("add", 1) == 1
                async with AsyncClient(*ENDPOINTS, timeout_s=2) as third:
                    await third.open(TallyHandle, "tally")

        simulation.run(story(), timeout_s=60)
