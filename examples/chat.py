"""A chat over a topic: everybody reads the same messages in the same order."""

import asyncio

import copycat
from copycat.resources import AsyncDistributedTopic, Gap

LINES = 3


async def person(name: str, endpoints: tuple[str, ...], everybody: asyncio.Barrier) -> list[str]:
    """Say some lines and read everybody's."""
    seen: list[str] = []
    async with copycat.AsyncClient(*endpoints, name=name) as client:
        topic: AsyncDistributedTopic[str] = await client.open(AsyncDistributedTopic, "lobby")
        async with topic.subscribe() as messages:
            await everybody.wait()  # nothing is kept for those who come later
            for number in range(LINES):
                await topic.publish(f"{name}: line {number}")
            while len(seen) < LINES * everybody.parties:
                message = await anext(messages)
                seen.append("(some lines are missing)" if isinstance(message, Gap) else message)
        await everybody.wait()
    return seen


async def talk(endpoints: tuple[str, ...]) -> None:
    """Three people at once."""
    everybody = asyncio.Barrier(3)
    ann, bob, eve = await asyncio.gather(
        *[person(name, endpoints, everybody) for name in ("ann", "bob", "eve")]
    )
    print(*ann, sep="\n")
    assert ann == bob == eve


def main() -> None:
    """A cluster of three in this process, and a chat on it."""
    with copycat.local(nodes=3) as cluster:
        asyncio.run(talk(cluster.endpoints))


if __name__ == "__main__":
    main()
