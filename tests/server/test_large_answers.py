"""Answers wait for a client that takes them in slowly: its link is not cut by what it asked for."""

import asyncio
from typing import Any

import pytest

from copycat import AsyncClient
from copycat.actors.simulation import Simulation
from simulated_servers import ENDPOINTS, TallyHandle, start_servers

ANSWER_BYTES = 1_000_000
SESSIONS = 6
EACH = 8
LINK_BYTES_MAX = 16 << 20  # half of what breaks a real link; all answers are three times as much


class NoteHandle(TallyHandle):
    """A resource with large answers."""

    resource_type = "note"


@pytest.mark.parametrize("kind", ["queries", "commands"])
def test_many_large_answers_arrive_over_a_slow_link(kind: str) -> None:
    """Six sessions ask for 48 MB at once, over 2 MB a second: all arrives, on one link."""
    resets = 0
    with Simulation(11) as simulation:
        servers = start_servers(simulation)
        network = simulation.network
        reset = network._reset

        def watch_reset(end: Any) -> None:
            nonlocal resets
            resets += 1
            reset(end)

        network._reset = watch_reset  # type: ignore[method-assign]

        async def story() -> list[int]:
            async with AsyncClient(*ENDPOINTS, timeout_s=300, session_timeout_s=300) as first:
                note = await first.open(NoteHandle, "note")
                await note.command("write", ANSWER_BYTES)
                others = [await first.new_session() for _ in range(SESSIONS - 1)]
                assert first._household is not None
                for server in servers:
                    network.clog(server, first._household.node.name, 2e6, LINK_BYTES_MAX)
                asked = []
                for _ in range(EACH):
                    for session in (first, *others):
                        if kind == "queries":
                            asked.append(session.submit_query(note.resource_id, "read"))
                        else:
                            asked.append(
                                session.submit_command(note.resource_id, "write", ANSWER_BYTES)
                            )
                    await asyncio.sleep(0.001)  # a batch of its own
                return [len(answer) for answer in await asyncio.gather(*asked)]

        assert simulation.run(story(), timeout_s=600) == [ANSWER_BYTES] * SESSIONS * EACH
    assert resets == 0


def test_reads_that_wait_for_a_link_go_with_their_connection() -> None:
    """A client that vanishes while answers wait for it leaves none of its reads behind."""
    with Simulation(12) as simulation:
        servers = start_servers(simulation)

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS, timeout_s=60) as lasting:
                note = await lasting.open(NoteHandle, "note")
                await note.command("write", ANSWER_BYTES)
                leaving = await AsyncClient(*ENDPOINTS, timeout_s=60).connect()
                assert leaving._household is not None
                name = leaving._household.node.name
                for server in servers:
                    simulation.network.clog(server, name, 1e5, LINK_BYTES_MAX)
                asked = []
                for _ in range(EACH):
                    asked.append(leaving.submit_query(note.resource_id, "read"))
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.2)
                reads = [server.node.actor_at(server.applier.serial)._reads for server in nodes()]
                assert any(each._full for each in reads)
                simulation.crash(name, silent=False)
                await asyncio.sleep(2.0)
                assert await note.query("count") == 1
                assert not any(each._full or each._drained for each in reads)

        def nodes() -> list[Any]:
            return [_WithNode(simulation, name, server) for name, server in servers.items()]

        simulation.run(story(), timeout_s=120)


class _WithNode:
    def __init__(self, simulation: Simulation, name: str, server: Any) -> None:
        self.node = simulation.nodes[name]
        self.applier = server.applier
