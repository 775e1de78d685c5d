"""kill -9 of the leader, and of all servers, under load: no acknowledged increment is lost."""

import asyncio
from pathlib import Path

from copycat import AsyncClient, NotApplied, OutcomeUnknown
from copycat.client.status import ask_status
from copycat.protocol.status import Status
from copycat.resources import AsyncDistributedCounter
from process_cluster import ProcessCluster, now_s

LEADER_KILLS = 20
KILLS_OF_ALL = 10
CLIENTS = 8
WAIT_S = 30.0


class Tally:
    """What the clients were told about their increments."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unknown = 0
        self.stopping = False


async def increment_for_ever(endpoints: tuple[str, ...], tally: Tally) -> None:
    """One client, one increment at a time, until told to stop."""
    async with AsyncClient(*endpoints, timeout_s=10.0) as client:
        counter = await client.open(AsyncDistributedCounter, "hits")
        while not tally.stopping:
            try:
                await counter.increment()
                tally.acknowledged += 1
            except NotApplied:
                pass
            except OutcomeUnknown:
                tally.unknown += 1


async def leader_of(client: AsyncClient, cluster: ProcessCluster) -> str:
    """The name of the server that leads, by asking the servers."""
    end_s = now_s() + WAIT_S
    while now_s() < end_s:
        answers = await ask_status(cluster.endpoints, timeout_s=1.0)
        leaders = [a for a in answers if isinstance(a, Status) and a.role == "leader"]
        if leaders:
            return max(leaders, key=lambda status: status.term).name
        await asyncio.sleep(0.02)
    raise TimeoutError("no leader")


async def more_are_acknowledged(tally: Tally, more: int) -> None:
    """Wait until the clients have got on."""
    goal = tally.acknowledged + more
    end_s = now_s() + WAIT_S
    while tally.acknowledged < goal:
        assert now_s() < end_s, "the clients do not get on after a kill"
        await asyncio.sleep(0.005)


async def kill_under_load(cluster: ProcessCluster) -> None:
    """The whole story: load, kills, and the final count."""
    tally = Tally()
    async with AsyncClient(*cluster.endpoints, timeout_s=WAIT_S) as client:
        counter = await client.open(AsyncDistributedCounter, "hits")
        loads = [
            asyncio.create_task(increment_for_ever(cluster.endpoints, tally))
            for _ in range(CLIENTS)
        ]
        for _ in range(LEADER_KILLS):
            await more_are_acknowledged(tally, 50)
            leader = await leader_of(client, cluster)
            cluster.kill(leader)
            await more_are_acknowledged(tally, 50)
            cluster.start(leader)
        for _ in range(KILLS_OF_ALL):
            await more_are_acknowledged(tally, 50)
            for name in cluster.peers:
                cluster.processes[name].kill()
            for name in cluster.peers:
                cluster.processes[name].wait()
                cluster.start(name)
        await more_are_acknowledged(tally, 50)
        tally.stopping = True
        for load in loads:
            await load
        final = await counter.value()
    assert tally.acknowledged <= final <= tally.acknowledged + tally.unknown
    assert tally.acknowledged > 0


def test_nothing_acknowledged_is_lost_when_servers_are_killed(tmp_path: Path) -> None:
    """20 kills of the leader and 10 of all three servers under 8 clients: the count is exact."""
    with ProcessCluster(tmp_path) as cluster:
        asyncio.run(kill_under_load(cluster))
