"""Asking for status: every server once, whatever it is called, whether it answers or not."""

import asyncio
import socket

import pytest

import copycat
from copycat.client.status import Inquiry, NoAnswer, ask_status
from copycat.errors import InvalidArgument
from copycat.local_cluster import LocalCluster
from copycat.protocol.status import Status

TIMEOUT_S = 10.0


def names(answers: list[Status | NoAnswer]) -> list[str]:
    """Who answered."""
    return sorted(answer.name for answer in answers if isinstance(answer, Status))


@pytest.fixture
def cluster() -> LocalCluster:
    """Three servers in this process."""
    return copycat.local(nodes=3)


def test_one_endpoint_is_enough(cluster: LocalCluster) -> None:
    """The others are learnt from whoever answers, and named by him when they do not."""
    with cluster:
        cluster.client()
        assert names(asyncio.run(ask_status(cluster.endpoints[:1], TIMEOUT_S))) == [
            "n1",
            "n2",
            "n3",
        ]
        cluster.kill("n3")
        answers = asyncio.run(ask_status(cluster.endpoints[:1], TIMEOUT_S))
    assert names(answers) == ["n1", "n2"]
    (silent,) = [answer for answer in answers if isinstance(answer, NoAnswer)]
    assert (silent.name, silent.endpoint) == ("n3", cluster.endpoints[2])
    assert silent.reason == "connection refused"


def test_a_server_with_two_names_answers_once(cluster: LocalCluster) -> None:
    """The names localhost and 127.0.0.1 are one server, in whichever order they answer."""
    with cluster:
        port = cluster.endpoints[0].rpartition(":")[2]
        endpoints = (f"localhost:{port}", *cluster.endpoints, f"localhost:{port}")
        assert names(asyncio.run(ask_status(endpoints, TIMEOUT_S))) == ["n1", "n2", "n3"]


def test_a_dead_name_of_a_living_server_is_not_reported(cluster: LocalCluster) -> None:
    """What a server is called elsewhere does not matter if it answers under another name."""
    with cluster, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        answers = asyncio.run(ask_status((dead, cluster.endpoints[0]), TIMEOUT_S))
    assert names(answers) == ["n1", "n2", "n3"]
    assert [answer.endpoint for answer in answers if isinstance(answer, NoAnswer)] == [dead]


def test_whoever_says_nothing_holds_up_nobody(cluster: LocalCluster) -> None:
    """The time is up for the one that hangs; all others have answered, also those learnt late."""
    with cluster, socket.create_server(("127.0.0.1", 0)) as mute:
        hanging = f"127.0.0.1:{mute.getsockname()[1]}"
        answers = asyncio.run(ask_status((hanging, cluster.endpoints[1]), 1.0))
    assert names(answers) == ["n1", "n2", "n3"]
    (silent,) = [answer for answer in answers if isinstance(answer, NoAnswer)]
    assert silent.endpoint == hanging
    assert "no answer within" in silent.reason


def test_an_inquiry_sees_servers_go_and_come(cluster: LocalCluster) -> None:
    """Its connections are kept and made again."""

    async def ask_on() -> None:
        async with Inquiry(cluster.endpoints) as inquiry:
            assert names(await inquiry.ask(TIMEOUT_S)) == ["n1", "n2", "n3"]
            await asyncio.to_thread(cluster.kill, "n2")
            while names(await inquiry.ask(TIMEOUT_S)) != ["n1", "n3"]:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(cluster.restart, "n2")
            while names(await inquiry.ask(TIMEOUT_S)) != ["n1", "n2", "n3"]:
                await asyncio.sleep(0.01)

    with cluster:
        asyncio.run(asyncio.wait_for(ask_on(), 3 * TIMEOUT_S))


def test_wrong_endpoints_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is dialled."""
    monkeypatch.delenv("COPYCAT_ENDPOINTS", raising=False)
    for endpoints in ((), ("nowhere",)):
        with pytest.raises(InvalidArgument):
            asyncio.run(ask_status(endpoints, TIMEOUT_S))
