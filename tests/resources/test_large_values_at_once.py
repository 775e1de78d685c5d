"""Large values that are taken out of a map side by side, over real sockets and disks."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import copycat
from copycat import AsyncClient
from copycat.local_cluster import LocalCluster
from copycat.resources import AsyncDistributedMap
from copycat.resources.map import MapMachine

MEGABYTE = b"x" * 1_000_000
COUNT = 300
SMALL = 10_000


def test_large_values_that_are_taken_out_at_once_are_in_somebodys_hands() -> None:
    """Each comes back exactly once, whichever verb takes it out and however many do so at once."""
    with copycat.local(nodes=3, types={"map": MapMachine}) as cluster:
        asyncio.run(take_out(cluster))


async def take_out(cluster: LocalCluster) -> None:
    async with AsyncClient(*cluster.endpoints, timeout_s=60) as client:
        large = await client.open(AsyncDistributedMap[str, bytes], "large")
        small = await client.open(AsyncDistributedMap[int, bytes], "small")

        async def fill() -> None:
            for number in range(4):
                await large.put(f"k{number}", b"%d" % number + MEGABYTE)
            values = {number: b"%d " % number + bytes(SMALL) for number in range(COUNT)}
            for start in range(0, COUNT, 50):
                await small.put_many({n: values[n] for n in range(start, start + 50)})

        async def expect(calls: list[Awaitable[Any]], expected: list[bytes]) -> None:
            assert await asyncio.gather(*calls) == expected

        megabytes = [b"%d" % number + MEGABYTE for number in range(4)]
        values = [b"%d " % number + bytes(SMALL) for number in range(COUNT)]
        await fill()
        await expect([large.remove(f"k{number}") for number in range(4)], megabytes)
        await expect([small.remove(number) for number in range(COUNT)], values)
        await fill()
        await expect([large.put(f"k{number}", b"") for number in range(4)], megabytes)
        await expect([small.put(number, b"") for number in range(COUNT)], values)
        await fill()
        popped = await asyncio.gather(*[large.popitem() for _ in range(4)])
        assert [value for _, value in popped] == megabytes[::-1]
        items = await asyncio.gather(*[small.popitem() for _ in range(COUNT)])
        assert [value for _, value in items] == values[::-1]
        await fill()
        await expect([large.put_if_absent(f"k{number}", b"") for number in range(4)], megabytes)
        await expect([large.remove(f"k{number}") for number in range(4)], megabytes)
