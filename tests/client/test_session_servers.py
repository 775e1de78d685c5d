"""A session finds servers, leaves those that fail, and follows the leader."""

import asyncio
from typing import Any

import pytest

from copycat.actors.simulated_links import Dial
from copycat.actors.simulated_network import SimulatedNetwork
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.client.patience import SILENCE_FIRST_S
from copycat.errors import (
    ClientClosed,
    NoLeader,
    OutcomeUnknown,
    Unreachable,
)
from copycat.protocol.client import (
    DetachSession,
    OpenSession,
    Refusal,
)
from fake_cluster import FakeCluster, client_of, session_of


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


def test_servers_of_another_cluster_are_never_used(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """One is among the endpoints by mistake: nothing is written there, though all others fail."""
    other = FakeCluster(simulation, 1, prefix="m", cluster_id=8)

    async def run() -> Unreachable:
        endpoints = (*cluster.endpoints, *other.endpoints)
        async with AsyncClient(*endpoints, session_timeout_s=60) as client:
            await client.submit_command(1, "append", 1)
            for name in cluster.names:
                simulation.crash(name, silent=False)
            await asyncio.sleep(1.0)
            with pytest.raises(Unreachable) as caught:
                await client.submit_command(1, "append", 2)
            for name in cluster.names:
                cluster.start(name)
            await client.submit_command(1, "append", 3)
            return caught.value

    unreachable = simulation.run(run(), timeout_s=60)
    assert "wrong cluster" in dict(unreachable.causes)["m1:7400"]
    assert other.received == []
    assert cluster.lists[1] == [1, 3]


def test_a_silent_server_is_left(simulation: Simulation, cluster: FakeCluster) -> None:
    """A server that hangs while its connection stays up does not hold the session."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            await asyncio.sleep(1.0)
            cluster.silent.add("n1")
            return await client.submit_command(1, "append", 1, timeout_s=4.0)

    assert simulation.run(run()) == 1


@pytest.mark.parametrize("was_silent", [False, True])
def test_a_silent_server_is_left_for_the_first_that_is_back(
    simulation: Simulation, cluster: FakeCluster, was_silent: bool
) -> None:
    """One that was given up is asked again only while there is no other, however patient the session
    has become; what one that is back did not do before is forgotten."""
    simulation.crash("n3", silent=False)

    async def run() -> float:
        async with client_of(cluster, timeout_s=60.0, server_selection="any") as client:
            links = client._household.links  # type: ignore[union-attr]
            cluster.silent.update(("n1", "n2") if was_silent else ("n1",))
            if not was_silent:
                simulation.crash("n2", silent=False)
            call = client.submit_command(1, "append", 1)
            await asyncio.sleep(3.5)
            if was_silent:
                simulation.crash("n2", silent=False)
                cluster.silent.discard("n2")
                await asyncio.sleep(0.1)
            cluster.start("n2")
            while "n2" not in links.up:
                await asyncio.sleep(0.001)
            began_s = simulation.now_s
            await call
            return simulation.now_s - began_s

    assert simulation.run(run(), timeout_s=60) < 0.1


def test_a_server_without_a_leader_is_left(simulation: Simulation, cluster: FakeCluster) -> None:
    """One that was cut off from the others must not keep its clients to itself."""

    async def run() -> Any:
        async with client_of(cluster, server_selection="any") as client:
            await asyncio.sleep(1.0)
            cluster.forwards = False
            cluster.leader = "n2"
            return await client.submit_command(1, "append", 1, timeout_s=4.0)

    assert simulation.run(run()) == 1


def test_closing_ends_every_call(simulation: Simulation, cluster: FakeCluster) -> None:
    """Each call learns whether it may have happened; closing twice is closing once."""

    async def run() -> Any:
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


def test_a_connection_that_forgot_the_session_is_told_again(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A refusal for want of attachment is answered by attaching, and nothing is lost."""

    async def run() -> list[Any]:
        async with client_of(cluster) as client:
            await client.submit_command(1, "append", 1)
            cluster.detached[client.session_id] = None
            calls: list[Any] = [client.submit_command(1, "append", 2)]
            await asyncio.sleep(0)
            calls += [client.submit_command(1, "append", 3), client.submit_query(1, "items")]
            results = await asyncio.gather(*calls)
            assert simulation.now_s < 0.1
            return results

    assert simulation.run(run()) == [2, 3, [1, 2, 3]]


def test_a_new_leader_is_asked_anew(simulation: Simulation, cluster: FakeCluster) -> None:
    """What the server in use had sent on to a leader that died is not waited for."""

    async def run() -> list[Any]:
        async with client_of(cluster, server_selection="any") as client:
            cluster.swallows = True
            calls = [client.submit_command(1, "append", 1), client.submit_query(1, "items")]
            await asyncio.sleep(0.2)
            cluster.swallows = False
            cluster.elect("n2")
            results = await asyncio.gather(*calls)
            assert simulation.now_s < 0.3
            return results

    assert simulation.run(run()) == [1, [1]]


def test_the_first_server_that_is_back_brings_the_others(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Whatever back-off the endpoints are in: when one can be reached, all are tried at once."""

    async def run() -> float:
        async with client_of(cluster, timeout_s=300.0) as client:
            for name in cluster.names:
                cluster.nodes[name].stop()
            await asyncio.sleep(60.0)
            for name in cluster.names:
                cluster.start(name)
            links = client._household.links  # type: ignore[union-attr]
            while not links.up:
                await asyncio.sleep(0.001)
            began_s = simulation.now_s
            while len(links.up) < len(cluster.names):
                await asyncio.sleep(0.001)
            return simulation.now_s - began_s

    assert simulation.run(run()) < 0.1


@pytest.fixture
def knocks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoints that anybody has tried to reach."""
    found: list[str] = []
    knock = SimulatedNetwork.knock

    def counted(network: SimulatedNetwork, dial: Dial) -> None:
        found.append(dial.endpoint)
        knock(network, dial)

    monkeypatch.setattr(SimulatedNetwork, "knock", counted)
    return found


@pytest.mark.parametrize(("name", "was_up"), [("n1", True), ("n3", True), ("n3", False)])
def test_a_dead_server_that_nobody_needs_is_tried_seldom(
    simulation: Simulation, cluster: FakeCluster, knocks: list[str], name: str, was_up: bool
) -> None:
    """Thousands of clients that are served elsewhere leave it and its host alone; once it is there again
    they find it."""
    endpoint = cluster.endpoints[cluster.names.index(name)]
    if not was_up:
        cluster.nodes[name].stop()

    async def run() -> int:
        async with client_of(cluster) as client:
            await asyncio.sleep(1.0)
            cluster.leader = "n2"
            cluster.nodes[name].stop()
            await asyncio.sleep(10.0)
            knocks.clear()
            await asyncio.sleep(60.0)
            count = knocks.count(endpoint)
            cluster.start(name)
            links = client._household.links  # type: ignore[union-attr]
            while name not in links.up:
                await asyncio.sleep(0.001)
            return count

    assert 15 <= simulation.run(run()) <= 25


@pytest.mark.parametrize("rest_s", [0.0, 0.7, 1.9, 3.1])
def test_a_server_that_nobody_needed_is_found_when_it_is_the_last(
    simulation: Simulation, cluster: FakeCluster, rest_s: float
) -> None:
    """Whatever back-off its endpoint was in, and also when no other server is gone but silent."""
    cluster.nodes["n3"].stop()

    async def run(*, silent: bool) -> float:
        async with client_of(cluster, timeout_s=60.0) as client:
            await asyncio.sleep(30.0 + rest_s)
            cluster.leader = "n3"
            cluster.start("n3")
            began_s = simulation.now_s
            if silent:
                cluster.silent.update(("n1", "n2"))
            else:
                cluster.nodes["n1"].stop()
                cluster.nodes["n2"].stop()
            await client.submit_command(1, "append", 1)
            took_s = simulation.now_s - began_s
            cluster.nodes["n3"].stop()
            cluster.silent.clear()
            for name in ("n1", "n2") if not silent else ():
                cluster.start(name)
            return took_s

    assert simulation.run(run(silent=False)) < 1.0
    assert simulation.run(run(silent=True)) < 1.0 + SILENCE_FIRST_S
