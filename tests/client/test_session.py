"""What a session promises while connections, leaders and servers fail, in the simulated world."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.errors import (
    ClientClosed,
    InvalidType,
    NoLeader,
    NotApplied,
    OperationFailed,
    OutcomeUnknown,
    Overloaded,
    SessionExpired,
    TooLarge,
    Unreachable,
    WrongResourceType,
)
from copycat.protocol.client import (
    AttachSession,
    Consistency,
    DetachSession,
    KeepAlive,
    OpenSession,
    Refusal,
    ResetEvents,
    SubmitCommands,
    SubmitQueries,
)
from fake_cluster import FakeCluster, FakeSession


class AsyncBag:
    """A handle of the least kind."""

    resource_type = "bag"
    resource_version = 1

    def __init__(self, client: AsyncClient, resource_id: int, name: str) -> None:
        self.client = client
        self.id = resource_id
        self.name = name


class AsyncSack(AsyncBag):
    resource_type = "sack"


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(8) as simulation:
        yield simulation


@pytest.fixture
def cluster(simulation: Simulation) -> FakeCluster:
    return FakeCluster(simulation)


def client_of(cluster: FakeCluster, **options: Any) -> AsyncClient:
    return AsyncClient(*cluster.endpoints, **options)


def session_of(cluster: FakeCluster, client: AsyncClient) -> FakeSession:
    return cluster.sessions[client.session_id]


def batches(cluster: FakeCluster) -> list[SubmitCommands]:
    return [message for message in cluster.received if type(message) is SubmitCommands]


def test_commands_of_one_turn_are_one_batch(simulation: Simulation, cluster: FakeCluster) -> None:
    """What is submitted without awaiting travels together, and is answered in order."""

    async def run() -> list[int]:
        async with client_of(cluster) as client:
            return await asyncio.gather(
                *[client.submit_command(1, "append", value) for value in range(100)]
            )

    assert simulation.run(run()) == list(range(1, 101))
    assert [batch.count for batch in batches(cluster)] == [100]
    assert not cluster.sessions  # closed


def test_arguments_may_change_when_the_turn_is_over(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Operations are encoded in their own turn, even when they cannot be sent yet."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.leader = ""
            await_refusal = client.submit_command(1, "append", 0)
            await asyncio.sleep(0.01)
            value = [1]
            later = client.submit_command(1, "append", value)
            await asyncio.sleep(0)
            value.append(2)
            cluster.elect("n2")
            await asyncio.gather(await_refusal, later)

    simulation.run(run())
    assert cluster.lists[1] == [0, [1]]


def test_everything_unanswered_is_sent_again_after_a_disconnection(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Another server gets the same batches in the same order; nothing is applied twice."""

    async def run() -> list[int]:
        async with client_of(cluster) as client:
            cluster.mute = True
            first = client.submit_command(1, "append", "a")
            await asyncio.sleep(0.01)
            second = client.submit_command(1, "append", "b")
            await asyncio.sleep(0.01)
            cluster.mute = False
            simulation.crash("n1", silent=False)
            return await asyncio.gather(first, second)

    assert simulation.run(run()) == [1, 2]
    assert cluster.lists[1] == ["a", "b"]
    assert [batch.first_sequence for batch in batches(cluster)] == [1, 2, 1, 2]


def test_refused_until_the_deadline_is_no_leader(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A command that every server has refused is withdrawn for good, and the error says why."""

    async def run() -> NoLeader:
        async with client_of(cluster) as client:
            cluster.leader = ""
            with pytest.raises(NoLeader) as caught:
                await client.submit_command(1, "append", "never", timeout_s=1.0)
            cluster.elect("n1")
            await client.submit_command(1, "append", "later")
            return caught.value

    error = simulation.run(run())
    assert cluster.lists[1] == ["later"]
    assert batches(cluster)[-1].first_sequence == 1  # the sequence was given anew
    assert isinstance(error, NotApplied)
    assert dict(error.causes)["n1:7400"] == "no leader known"


def test_a_withdrawn_command_leaves_its_neighbours_alone(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Only the calls whose deadline has passed fail; the others of their batch still happen."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            cluster.leader = ""
            calls = [
                client.submit_command(1, "append", place, timeout_s=0.5 if place % 2 else 5.0)
                for place in range(6)
            ]
            query = client.submit_query(1, "items")
            await asyncio.sleep(1.0)
            cluster.elect("n2")
            return await asyncio.gather(*calls, query, return_exceptions=True)

    *results, items = simulation.run(run())
    assert [type(result) for result in results] == [int, NoLeader] * 3
    assert items == cluster.lists[1] == [0, 2, 4]


def test_silence_until_the_deadline_is_outcome_unknown(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A command that may be on its way keeps its sequence, and is applied once at most."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=60.0) as client:
            cluster.silent.update(cluster.names)
            with pytest.raises(OutcomeUnknown):
                await client.submit_command(1, "append", "perhaps", timeout_s=0.5)
            later = client.submit_command(1, "append", "later", timeout_s=30.0)
            await asyncio.sleep(5.0)
            cluster.silent.clear()
            assert await later == 2

    simulation.run(run())
    assert cluster.lists[1] == ["perhaps", "later"]


def test_a_refused_command_before_one_on_its_way_is_outcome_unknown(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A hole in the sequences would stop the session, so what precedes a sent batch stays."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "too much")
            first = client.submit_command(1, "append", "first", timeout_s=1.0)
            await asyncio.sleep(0)  # another turn, another batch
            second = client.submit_command(1, "append", "second", timeout_s=1.0)
            await asyncio.sleep(0.002)
            cluster.refusal = None
            for name in cluster.names:
                simulation.network.cut_one_way(name, client._household.node.name)  # type: ignore[union-attr]
            assert await asyncio.gather(first, second, return_exceptions=True) is not None
            assert isinstance(first.exception(), OutcomeUnknown)
            simulation.network.heal()
            assert await client.submit_command(1, "append", "third") == 3

    simulation.run(run())
    assert cluster.lists[1] == ["first", "second", "third"]


def test_overload_is_told_apart(simulation: Simulation, cluster: FakeCluster) -> None:
    """The last reason for the refusals is the reason of the error."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "too many proposals")
            with pytest.raises(Overloaded, match="too many proposals"):
                await client.submit_command(1, "append", 1, timeout_s=0.5)
            with pytest.raises(Overloaded):
                await client.submit_query(1, "items", timeout_s=0.5)

    simulation.run(run())


def test_refusals_are_answered_with_patience(simulation: Simulation, cluster: FakeCluster) -> None:
    """While there is no leader a client asks a few times a second, and at once when there is one."""

    async def run() -> float:
        async with client_of(cluster) as client:
            cluster.leader = ""
            call = client.submit_command(1, "append", 1, timeout_s=30.0)
            await asyncio.sleep(3.0)
            begin_s = simulation.now_s
            cluster.elect("n3")
            await call
            return simulation.now_s - begin_s

    assert simulation.run(run()) < 0.025
    assert 10 < len(batches(cluster)) < 60


@pytest.mark.parametrize("selection", ["leader", "any"])
def test_the_leader_is_followed_if_that_is_wished(
    simulation: Simulation, cluster: FakeCluster, selection: str
) -> None:
    """By default a session moves to a new leader, and tells the server it leaves."""

    async def run() -> str:
        async with client_of(cluster, server_selection=selection) as client:
            await asyncio.sleep(1.0)
            cluster.elect("n3")
            await asyncio.sleep(1.0)
            await client.submit_command(1, "append", 1)
            connection = session_of(cluster, client).connection
            assert connection is not None
            return connection.name

    assert simulation.run(run()) == ("n3" if selection == "leader" else "n1")
    assert cluster.count(DetachSession) == (1 if selection == "leader" else 0)


def test_the_first_endpoint_that_is_reached_is_used(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Endpoints are tried in the order in which they were given."""
    simulation.crash("n2", silent=False)

    async def run() -> str:
        endpoints = ("n2:7400", "n3:7400", "n1:7400")
        async with AsyncClient(*endpoints, server_selection="any") as client:
            connection = session_of(cluster, client).connection
            assert connection is not None
            return connection.name

    assert simulation.run(run()) == "n3"


def test_a_silent_server_is_left(simulation: Simulation, cluster: FakeCluster) -> None:
    """A server that hangs while its connection stays up does not hold the session."""

    async def run() -> int:
        async with client_of(cluster) as client:
            await asyncio.sleep(1.0)
            cluster.silent.add("n1")
            return await client.submit_command(1, "append", 1, timeout_s=4.0)

    assert simulation.run(run()) == 1


def test_a_server_without_a_leader_is_left(simulation: Simulation, cluster: FakeCluster) -> None:
    """One that was cut off from the others must not keep its clients to itself."""

    async def run() -> int:
        async with client_of(cluster, server_selection="any") as client:
            await asyncio.sleep(1.0)
            cluster.forwards = False
            cluster.leader = "n2"
            return await client.submit_command(1, "append", 1, timeout_s=4.0)

    assert simulation.run(run()) == 1


def test_queries_follow_commands(simulation: Simulation, cluster: FakeCluster) -> None:
    """A query sees the commands submitted before it, and its sequence says so."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            client.submit_command(1, "append", "a")
            first = client.submit_query(1, "items")
            client.submit_command(1, "append", "b")
            await asyncio.sleep(0)
            client.submit_command(1, "append", "c")
            second = client.submit_query(1, "items", consistency=Consistency.SEQUENTIAL)
            return await asyncio.gather(first, second)

    first, second = simulation.run(run())
    assert "a" in first
    assert second == ["a", "b", "c"]
    sent = [message for message in cluster.received if type(message) is SubmitQueries]
    assert {message.consistency: message.sequence for message in sent} == {0: 2, 1: 3}


def test_every_attempt_of_a_query_has_its_own_number(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """After a refusal or a lost connection a new read is drawn, so late answers fit nothing."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            await client.submit_command(1, "append", "a")
            cluster.leader = ""
            query = client.submit_query(1, "items")
            await asyncio.sleep(0.5)
            cluster.elect("n1")
            return await query  # type: ignore[no-any-return]

    assert simulation.run(run()) == ["a"]
    reads = [message.read for message in cluster.received if type(message) is SubmitQueries]
    assert len(reads) > 2
    assert len(set(reads)) == len(reads)


def test_a_query_never_outruns_a_command(simulation: Simulation, cluster: FakeCluster) -> None:
    """An answer to a query waits for the missing answers to commands before it."""

    async def run() -> list[str]:
        async with client_of(cluster) as client:
            order: list[str] = []
            cluster.mute = True
            command = client.submit_command(1, "append", 1)
            query = client.submit_query(1, "items")
            command.add_done_callback(lambda _: order.append("command"))
            query.add_done_callback(lambda _: order.append("query"))
            await asyncio.sleep(0.5)
            assert not order
            cluster.mute = False
            await asyncio.gather(command, query)
            return order

    assert simulation.run(run()) == ["command", "query"]


def test_a_lost_session_is_replaced(simulation: Simulation, cluster: FakeCluster) -> None:
    """Handles are told of the loss before the new session, and calls work again."""

    async def run() -> list[tuple[str, bool]]:
        async with client_of(cluster) as client:
            told: list[tuple[str, int]] = []
            old = client.session_id
            client.on_session(lambda state, session: told.append((state, session)))
            await client.submit_command(1, "append", 1)
            cluster.expire()
            await asyncio.sleep(1.0)
            assert await client.submit_command(1, "append", 2) == 2
            assert client.session_id not in (0, old)
            return [(state, session == old) for state, session in told]

    assert simulation.run(run()) == [("lost", True), ("connecting", False), ("connected", False)]
    assert batches(cluster)[-1].first_sequence == 1


def test_the_only_copy_was_refused_with_the_session(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A command whose only copy met an ended session was not applied; one with two may have been."""

    async def run() -> None:
        async with client_of(cluster) as client:
            for session in cluster.sessions.values():
                session.connection = None  # nobody is told
            cluster.expire()
            with pytest.raises(SessionExpired):
                await client.submit_command(1, "append", 1)
            await client.submit_command(1, "append", 2)
            cluster.mute = True
            twice = client.submit_command(1, "append", 3, timeout_s=60)
            await asyncio.sleep(1.2)  # it was sent again
            for session in cluster.sessions.values():
                session.connection = None
            cluster.expire()
            with pytest.raises(OutcomeUnknown):
                await twice

    simulation.run(run())


def test_unsent_calls_of_a_lost_session_expire(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """What had not been sent in the old session is not sent in the new one by itself."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "")
            sent = client.submit_command(1, "append", 1)
            await asyncio.sleep(0.004)
            unsent = client.submit_command(1, "append", 2)
            query = client.submit_query(1, "items")
            await asyncio.sleep(0)
            cluster.expire()
            cluster.refusal = None
            return await asyncio.gather(sent, unsent, query, return_exceptions=True)

    results = simulation.run(run())
    assert [type(result) for result in results] == [SessionExpired] * 3
    assert 1 not in cluster.lists


def test_keep_alives_keep_a_session_and_silence_makes_it_doubtful(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Idle sessions are kept alive; 80 % of the timeout without contact is told, and recovery."""

    async def run() -> list[str]:
        async with client_of(cluster, session_timeout_s=6.0) as client:
            told: list[str] = []
            client.on_session(lambda state, _: told.append(state))
            await asyncio.sleep(30.0)
            assert client.state == "connected"
            assert 10 <= cluster.count(KeepAlive) <= 20
            cluster.silent.update(cluster.names)
            begin_s = simulation.now_s
            while client.state == "connected":
                await asyncio.sleep(0.1)
            assert 2.7 < simulation.now_s - begin_s < 5.0
            cluster.silent.clear()
            await asyncio.sleep(6.0)
            return list(told)

    assert simulation.run(run()) == ["suspended", "connected"]


def test_queries_alone_do_not_keep_a_session(simulation: Simulation, cluster: FakeCluster) -> None:
    """Only what reaches the log renews a session, so a session of readers sends keep-alives."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=3.0) as client:
            for _ in range(100):
                await client.submit_query(1, "items")
                await asyncio.sleep(0.1)

    simulation.run(run())
    assert cluster.count(KeepAlive) >= 7


def test_events_come_once_and_in_order(simulation: Simulation, cluster: FakeCluster) -> None:
    """A gap makes the client ask once; what comes twice is dropped; acknowledgements follow."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            told: list[Any] = []
            client.listen(5, lambda event, values, index: told.append((event, values[0])))
            session = session_of(cluster, client)
            cluster.publish(session, [5, "said", [1]])
            cluster.publish(session, [5, "said", [2]], [5, "said", [3]], lose=True)
            cluster.publish(session, [5, "said", [4]], [6, "said", [0]])
            cluster.publish(session, [5, "said", [5]])
            await asyncio.sleep(0.1)
            assert session.connection is not None
            session.connection.say_events_after(0)
            await asyncio.sleep(0.1)
            await client.submit_command(1, "append", 1)
            assert batches(cluster)[-1].event_index == session.event_index
            return told

    assert simulation.run(run()) == [("said", number) for number in range(1, 6)]
    assert cluster.count(ResetEvents) == 1


def test_events_go_on_after_a_move(simulation: Simulation, cluster: FakeCluster) -> None:
    """The new server sends what the old one could not, and the client drops what it has."""

    async def run() -> list[int]:
        async with client_of(cluster) as client:
            told: list[int] = []
            client.listen(5, lambda event, values, index: told.append(values[0]))
            session = session_of(cluster, client)
            cluster.publish(session, [5, "said", [1]])
            await asyncio.sleep(0.1)
            simulation.crash("n1", silent=False)
            cluster.publish(session, [5, "said", [2]])
            cluster.elect("n2")
            await asyncio.sleep(1.0)
            cluster.publish(session, [5, "said", [3]])
            await asyncio.sleep(0.1)
            return told

    assert simulation.run(run()) == [1, 2, 3]


def test_events_come_before_the_answers_of_later_commands(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Who awaits a command has been told what was published before it."""

    async def run() -> list[str]:
        async with client_of(cluster) as client:
            order: list[str] = []
            client.listen(1, lambda *_: order.append("event"))
            for _ in range(5):
                await client.submit_command(1, "publish", 1)
                await client.submit_command(1, "append", 1)
                order.append("answer")
            return order

    assert simulation.run(run()) == ["event", "answer"] * 5


def test_a_failing_listener_does_not_stop_the_others(
    simulation: Simulation, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exception is logged, and the next listener is told."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            told: list[Any] = []

            def fail(event: str, values: list[Any], index: int) -> None:
                raise ZeroDivisionError

            def note(event: str, values: list[Any], index: int) -> None:
                told.append(values)
                client.unlisten(1, note)

            client.listen(1, fail)
            client.listen(1, note)
            await client.submit_command(1, "publish", 1)
            await client.submit_command(1, "publish", 2)
            await client.submit_command(1, "append", 2)
            return told

    assert simulation.run(run()) == [[1]]
    assert "listener failed" in caplog.text


def test_closing_ends_every_call(simulation: Simulation, cluster: FakeCluster) -> None:
    """Each call learns whether it may have happened; closing twice is closing once."""

    async def run() -> list[Any]:
        client = await client_of(cluster).connect()
        cluster.mute = True
        sent = client.submit_command(1, "append", 1)
        await asyncio.sleep(0.1)
        cluster.refusal = (Refusal.OVERLOADED, "")
        unsent = client.submit_command(1, "append", 2)
        query = client.submit_query(1, "items")
        await asyncio.sleep(0.1)
        cluster.refusal = None
        await asyncio.gather(client.close(), client.close())
        assert client.state == "closed"
        with pytest.raises(ClientClosed):
            client.submit_command(1, "append", 3)
        await client.close()
        return await asyncio.gather(sent, unsent, query, return_exceptions=True)

    results = simulation.run(run())
    assert [type(result) for result in results] == [OutcomeUnknown, ClientClosed, ClientClosed]
    assert not cluster.sessions


def test_closing_waits_a_second_for_a_silent_cluster(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A client gets away from servers that do not answer."""

    async def run() -> float:
        client = await client_of(cluster).connect()
        cluster.silent.update(cluster.names)
        begin_s = simulation.now_s
        await client.close()
        return simulation.now_s - begin_s

    assert 0.9 < simulation.run(run()) < 1.1


def test_without_servers_connecting_fails_in_time(simulation: Simulation) -> None:
    """The error names what became of every endpoint."""

    async def run() -> Unreachable:
        with pytest.raises(Unreachable) as caught:
            async with AsyncClient("n1:7400", "n2:7400", timeout_s=2.0):
                pass
        return caught.value

    error = simulation.run(run())
    assert [endpoint for endpoint, _ in error.causes] == ["n1:7400", "n2:7400"]
    assert all("refused" in cause for _, cause in error.causes)
    assert simulation.now_s < 2.5


def test_without_a_leader_connecting_fails_in_time(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Reaching servers is not enough; all attempts have one nonce."""
    cluster.leader = ""

    async def run() -> None:
        with pytest.raises(NoLeader):
            async with client_of(cluster, timeout_s=2.0):
                pass

    simulation.run(run())
    asked = [message.nonce for message in cluster.received if type(message) is OpenSession]
    assert len(asked) > 5
    assert len(set(asked)) == 1


def test_opening_resources(simulation: Simulation, cluster: FakeCluster) -> None:
    """Opening finds or makes, waits for a leader, is remembered, and refuses another type."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.leader = ""
            opening = asyncio.ensure_future(client.open(AsyncBag, "things"))
            await asyncio.sleep(0.5)
            cluster.elect("n2")
            bag = await opening
            assert (await client.open(AsyncBag, "things")).id == bag.id
            with pytest.raises(WrongResourceType, match="things"):
                await client.open(AsyncSack, "things")
            cluster.leader = ""
            with pytest.raises(NoLeader):
                await client.open(AsyncBag, "others", timeout_s=0.5)

    simulation.run(run())


def test_what_cannot_be_sent_fails_alone(simulation: Simulation, cluster: FakeCluster) -> None:
    """An argument of a wrong type or size fails its own call; what is large goes in parts."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            calls = [
                client.submit_command(1, "append", argument)
                for argument in (1, object(), bytes(2_000_000), bytes(1_000_000), 5)
            ]
            calls += [client.submit_command(1, "append", bytes(1000)) for _ in range(700)]
            calls += [client.submit_command(1, "explode")]
            return await asyncio.gather(*calls, return_exceptions=True)

    results = simulation.run(run())
    assert [type(result) for result in results[:5]] == [int, InvalidType, TooLarge, int, int]
    assert isinstance(results[-1], OperationFailed)
    assert results[3:-1] == list(range(2, 704))
    sizes = [len(batch.operations) for batch in batches(cluster)]
    assert sum(size > 256 * 1024 for size in sizes) == 1
    assert len(sizes) < 10


def test_deadlines_need_no_tasks(simulation: Simulation, cluster: FakeCluster) -> None:
    """A thousand calls that wait are a thousand futures and one timer."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.leader = ""
            calls = [client.submit_command(1, "append", 1, timeout_s=1.0) for _ in range(1000)]
            await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) == 1
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {NoLeader}
            assert 0.9 < simulation.now_s < 1.3

    simulation.run(run())


def test_a_cancelled_call_may_still_happen(simulation: Simulation, cluster: FakeCluster) -> None:
    """Cancelling stops the waiting and nothing else."""

    async def run() -> int:
        async with client_of(cluster) as client:
            client.submit_command(1, "append", 1).cancel()
            return await client.submit_command(1, "append", 2)

    assert simulation.run(run()) == 2


def test_calls_wait_for_ever_only_when_told_to(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """``math.inf`` has no deadline."""

    async def run() -> int:
        async with client_of(cluster) as client:
            cluster.leader = ""
            call = client.submit_command(1, "append", 1, timeout_s=inf)
            await asyncio.sleep(1000.0)
            cluster.elect("n1")
            return await call  # type: ignore[no-any-return]

    assert simulation.run(run()) == 1


def test_sessions_of_one_node_share_its_links(simulation: Simulation, cluster: FakeCluster) -> None:
    """A second session is another session on the same connections; each is closed by itself."""

    async def run() -> None:
        async with client_of(cluster) as first:
            nodes = len(simulation.nodes)
            second = await first.new_session(name="second")
            third = await second.new_session()
            assert len({first.session_id, second.session_id, third.session_id}) == 3
            assert len(simulation.nodes) == nodes
            assert await second.submit_command(1, "append", 1) == 1
            await second.close()
            assert await first.submit_command(1, "append", 2) == 2
            await third.close()

    simulation.run(run())
    assert not cluster.sessions


def test_the_window_gathers_what_has_to_wait(simulation: Simulation, cluster: FakeCluster) -> None:
    """Beyond the batches in flight small ones are joined, and all keep their order."""

    async def run() -> list[int]:
        async with client_of(cluster) as client:
            cluster.mute = True
            calls = []
            for number in range(200):
                calls.append(client.submit_command(1, "append", number))
                calls.append(client.submit_query(1, "items"))
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            cluster.mute = False
            return (await asyncio.gather(*calls))[::2]

    assert simulation.run(run()) == list(range(1, 201))
    assert cluster.lists[1] == list(range(200))
    assert len({batch.first_sequence for batch in batches(cluster)}) < 40


def test_hostile_network(seed: int) -> None:
    """Under loss, reordering, duplication and resets every command is applied once, in order."""
    with Simulation(seed) as simulation:
        cluster = FakeCluster(simulation)
        chance = random.Random(seed)

        async def run() -> None:
            async with client_of(cluster, timeout_s=inf, session_timeout_s=600.0) as client:
                told: list[int] = []
                client.listen(1, lambda event, values, index: told.append(values[0]))
                simulation.faults = replace(NetworkFaults.random(chance), silent_crash=0.0)
                calls = []
                for number in range(120):
                    calls.append(client.submit_command(1, "append", number))
                    calls.append(client.submit_command(1, "publish", number))
                    calls.append(client.submit_query(1, "items"))
                    await asyncio.sleep(chance.random() * 0.2)
                    if chance.random() < 0.1:
                        cluster.elect(chance.choice([*cluster.names, ""]))
                cluster.elect("n1")
                results = await asyncio.gather(*calls)
                simulation.faults = NetworkFaults.none()
                assert results[::3] == list(range(1, 121))
                for number, items in enumerate(results[2::3], 1):
                    assert items[:number] == list(range(number))
                await client.submit_command(2, "append", 0)
                await asyncio.sleep(300.0)  # a keep-alive asks for events whose loss nothing shows
                assert told == list(range(120))

        simulation.run(run(), timeout_s=3600.0)
        assert cluster.lists[1] == list(range(120))


def test_errors_tell_the_truth(seed: int) -> None:
    """Whatever fails, NotApplied never happened and a result always did, exactly once.

    Links do not double messages here: no transport does, and a doubled batch would be a copy
    that nobody has counted.
    """
    with Simulation(seed) as simulation:
        cluster = FakeCluster(simulation)
        chance = random.Random(seed)

        async def run() -> list[Any]:
            client = await client_of(cluster, session_timeout_s=600.0).connect()
            faults = NetworkFaults.random(chance)
            simulation.faults = replace(faults, duplicate=0.0, silent_crash=0.0)
            calls = []
            for number in range(150):
                calls.append(
                    client.submit_command(1, "append", number, timeout_s=chance.random() * 3)
                )
                await asyncio.sleep(chance.random() * 0.3)
                if chance.random() < 0.15:
                    cluster.elect(chance.choice([*cluster.names, "", ""]))
                if chance.random() < 0.02:
                    cluster.expire()
            simulation.faults = NetworkFaults.none()
            cluster.elect("n1")
            results = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(60.0)
            await client.close()
            return results

        results = simulation.run(run(), timeout_s=3600.0)
        applied = cluster.lists[1]
        assert len(set(applied)) == len(applied)
        assert applied == sorted(applied)
        for number, result in enumerate(results):
            if isinstance(result, int):
                assert number in applied
            elif isinstance(result, NotApplied):
                assert number not in applied
            else:
                assert isinstance(result, OutcomeUnknown)


def test_a_seed_repeats_its_run() -> None:
    """Nothing in the client depends on anything but the seed."""

    def trace() -> int:
        with Simulation(3) as simulation:
            cluster = FakeCluster(simulation)
            simulation.faults = replace(NetworkFaults.none(), loss=0.05, reorder=0.1)

            async def run() -> None:
                async with client_of(cluster, timeout_s=60.0) as client:
                    for number in range(50):
                        await client.submit_command(1, "append", number)

            simulation.run(run())
            return simulation.trace_hash

    assert trace() == trace()


def test_attaching_asks_for_the_last_event(simulation: Simulation, cluster: FakeCluster) -> None:
    """A new connection starts where the old one stopped."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.publish(session_of(cluster, client), [5, "said", [1]])
            await asyncio.sleep(0.1)
            simulation.network.reset("n1", client._household.node.name)  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            attached = [message for message in cluster.received if type(message) is AttachSession]
            assert attached[-1].event_index == session_of(cluster, client).event_index

    simulation.run(run())
