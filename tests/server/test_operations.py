"""Operations that cannot be carried out are answered, the same on every server, and nothing stops."""

import asyncio
import gc
from typing import Any, ClassVar

import pytest

from copycat import AsyncClient
from copycat.actors import Actor, Identity, NodeAddress
from copycat.actors.codec import decode
from copycat.actors.simulation import Simulation
from copycat.errors import (
    CannotBeMade,
    OperationFailed,
    QueryFailed,
    Rejected,
    UnknownResourceType,
    WrongResourceType,
)
from copycat.protocol.client import SERVER, AttachSession, Branch, CommandsReply, SubmitCommands
from simulated_servers import ENDPOINTS, TallyHandle, start_servers


class OtherHandle(TallyHandle):
    """A handle of a type that no server knows."""

    resource_type: ClassVar[str] = "unheard-of"


class NewerHandle(TallyHandle):
    """A handle of a version that no server knows."""

    resource_version: ClassVar[int] = 2


class NotedHandle(TallyHandle):
    """A handle of another known type."""

    resource_type: ClassVar[str] = "note"


class UnbornHandle(TallyHandle):
    """A handle of a type that cannot be made."""

    resource_type: ClassVar[str] = "unborn"


async def rejected(handle: TallyHandle, method: str, *arguments: Any) -> str:
    with pytest.raises(Rejected) as caught:
        await handle.command(method, *arguments)
    return caught.value.kind


def test_what_a_machine_cannot_do_is_an_error_and_changes_nothing() -> None:
    """Unknown methods and resources and wrong arguments are refused; the next one works."""

    async def story() -> None:
        async with AsyncClient(*ENDPOINTS) as client:
            tally = await client.open(TallyHandle, "tally")
            assert await rejected(tally, "no_such_method") == "UnknownOperation"
            assert await rejected(tally, "value") == "UnknownOperation"
            assert await rejected(tally, "add", 1, 2, 3) == "WrongArguments"
            assert await tally.command("add", 5) == 5
            with pytest.raises(Rejected):
                await client.submit_command(999_999, "add", 1)
            with pytest.raises(QueryFailed):
                await client.submit_query(999_999, "value")
            with pytest.raises(QueryFailed):
                await tally.query("add")
            assert await tally.query("value") == 5

    with Simulation(3) as simulation:
        start_servers(simulation)
        simulation.run(story(), timeout_s=30)


def test_a_failed_command_publishes_and_schedules_nothing() -> None:
    """What a command published or scheduled before it raised is dropped on every server."""
    with Simulation(4) as simulation:
        servers = start_servers(simulation)
        heard: list[str] = []

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                tally = await client.open(TallyHandle, "tally")
                client.listen(tally.resource_id, lambda event, values, index: heard.append(event))
                with pytest.raises(OperationFailed) as caught:
                    await tally.command("fail_after_publishing")
                assert caught.value.kind == "ValueError"
                await tally.command("later", 0.1)
                await asyncio.sleep(2)

        simulation.run(story(), timeout_s=30)
        simulation.run_for(1)  # the followers learn of the last commit with a heartbeat
        assert heard == ["fired"]
        assert all(server.progress.next_due_us is None for server in servers.values())


def test_a_name_has_one_type() -> None:
    """Opening a name as another type is refused; so is a type that no voter knows or can make."""

    async def story() -> None:
        async with AsyncClient(*ENDPOINTS) as client:
            await client.open(TallyHandle, "tally")
            with pytest.raises(UnknownResourceType):
                await client.open(OtherHandle, "other")
            with pytest.raises(UnknownResourceType):
                await client.open(NewerHandle, "newer")
            with pytest.raises(CannotBeMade, match="cannot be made: ValueError: as planned"):
                await client.open(UnbornHandle, "unborn")
            with pytest.raises(WrongResourceType):
                await client.open(NotedHandle, "tally")

    with Simulation(5) as simulation:
        start_servers(simulation)
        simulation.run(story(), timeout_s=30)


class Hostile(Actor):
    """Takes over a session and sends what no client would."""

    def __init__(self, server: str, session: int, nonce: bytes, answers: list[Any]) -> None:
        self._session = session
        self._nonce = nonce
        self._answers = answers
        self.environment.links.dial(server)
        self.wake_after(1.0)

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Attach, then send commands that are no CBOR, then too few of them."""
        name = type(message).__name__
        if name == "WakeupMessage":
            target = NodeAddress.well_known("n1", SERVER)
            self.send(target, AttachSession(self._session, self._nonce, self._session))
        elif name == "AttachSessionReply":
            self.send(sender, SubmitCommands(self._session, 1, 2, 0, 0, b"\xff\x00garbage"))
            self.send(sender, SubmitCommands(self._session, 3, 2, 2, 0, b"\x81\x01"))
            self.send(sender, SubmitCommands(self._session, 5, 0, 2, 0, b""))
        elif isinstance(message, CommandsReply):
            self._answers.append(decode(message.results))


def test_an_operation_nobody_can_decode_stops_no_server() -> None:
    """Garbage in the log is answered with an error for every command of the batch."""
    with Simulation(6) as simulation:
        servers = start_servers(simulation)
        answers: list[Any] = []

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                node = simulation.node(Identity("hostile"))
                session = client.session_id
                nonce = servers["n1"].progress.nonces[session]
                node.spawn(Hostile, ENDPOINTS[0], session, nonce, answers)
                await asyncio.sleep(5)

        simulation.run(story(), timeout_s=30)
        simulation.run_for(1)
        failures = [failure[1:3] for _, failures in answers for failure in failures]
        assert failures == [[Branch.REJECTED, "Undecodable"]] * 4
        applied = {server.progress.applied_index for server in servers.values()}
        assert len(applied) == 1


def test_a_hundred_thousand_commands_leave_no_cycles() -> None:
    """A server may run without the cyclic garbage collector: commands make nothing for it."""

    async def story() -> None:
        async with AsyncClient(*ENDPOINTS, timeout_s=60) as client:
            tally = await client.open(TallyHandle, "tally")
            await asyncio.gather(*[tally.command("add", 1) for _ in range(1000)])
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await asyncio.gather(*[tally.command("add", 1) for _ in range(5000)])
                found = gc.collect()
            finally:
                gc.enable()
            assert await tally.query("value") == 101_000
            assert found < 1000, f"{found} objects in cycles"

    with Simulation(9) as simulation:
        start_servers(simulation)
        simulation.run(story(), timeout_s=120)


def test_large_answers_side_by_side_all_arrive() -> None:
    """However much commands and queries of one turn answer together, each answer is given."""

    async def story() -> None:
        async with AsyncClient(*ENDPOINTS, timeout_s=60) as client:
            note = await client.open(NotedHandle, "note")
            written = await asyncio.gather(
                *[note.command("write", 1_000_000 + place) for place in range(8)]
            )
            assert [len(text) for text in written] == [1_000_000 + place for place in range(8)]
            read = await asyncio.gather(*[note.query("read") for _ in range(8)])
            assert {len(text) for text in read} == {1_000_007}
            assert await note.query("count") == 8

    with Simulation(7) as simulation:
        start_servers(simulation)
        simulation.run(story(), timeout_s=60)
