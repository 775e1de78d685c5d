"""Programs of users run in many worlds, and a world that went wrong is found again."""

import asyncio
import inspect

import pytest

from copycat.resources import AsyncDistributedCounter
from copycat.testing import SeedFailed, World, simulated

KINDS = ("crash", "crash leader", "partition")


@simulated(seeds=200, faults=KINDS)
async def impatient(world: World) -> None:
    """Takes every failure of a call for its own."""
    async with world.client(timeout_s=0.3) as client:
        hits = await client.open(AsyncDistributedCounter, "hits", timeout_s=60)
        while True:
            await hits.increment()
            await asyncio.sleep(world.chance.random())


def failure_of_impatient() -> SeedFailed:
    with pytest.raises(SeedFailed) as caught:
        impatient()
    return caught.value


def test_a_program_that_fails_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the world, and in that world the program fails in the same way again."""
    first = failure_of_impatient()
    assert f"COPYCAT_SEED={first.seed} " in str(first)
    assert first.__cause__ is not None
    monkeypatch.setenv("COPYCAT_SEED", str(first.seed))
    again = failure_of_impatient()
    assert (again.seed, str(again)) == (first.seed, str(first))


def test_every_world_is_run_and_each_is_another() -> None:
    """A program that holds runs in all its worlds; what it draws differs from world to world."""
    drawn: list[tuple[int, float]] = []

    @simulated(seeds=range(7, 12), harm_s=2.0)
    async def careful(world: World) -> None:
        drawn.append((world.seed, world.chance.random()))
        async with world.client(timeout_s=60) as client:
            hits = await client.open(AsyncDistributedCounter, "hits")
            await world.calm()
            before = await hits.value()
            assert await hits.increment() == before + 1

    careful()
    careful()
    assert [seed for seed, _ in drawn] == [7, 8, 9, 10, 11] * 2
    assert drawn[:5] == drawn[5:]
    assert len({number for _, number in drawn}) == 5


def test_a_program_that_never_ends_fails() -> None:
    """Virtual time runs out, and nobody has waited for it."""

    @simulated(seeds=[1], faults=(), harm_s=1.0, timeout_s=600.0)
    async def waiting(world: World) -> None:
        await asyncio.Event().wait()

    with pytest.raises(SeedFailed, match="TimeoutError"):
        waiting()


def test_what_else_a_test_takes_is_its_caller_s_affair() -> None:
    """A test runner sees all parameters but the world, and hands them over."""
    seen: list[tuple[int, str]] = []

    @simulated(seeds=2, faults=(), harm_s=0.1)
    async def taking(world: World, number: int, *, word: str) -> None:
        seen.append((number, word))

    assert list(inspect.signature(taking).parameters) == ["number", "word"]
    taking(3, word="x")
    assert seen == [(3, "x"), (3, "x")]
