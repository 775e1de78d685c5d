"""A test of a program of one's own: run in many simulated worlds, each with faults of its own.

The program is a coroutine function. It runs unmodified, with real clients and servers, in virtual
time; see ``simulated``.
"""

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec

from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.machine import Catalog, StateMachine
from copycat.testing.cluster import CATALOG, SimulatedCluster
from copycat.testing.drawing import draw_faults
from copycat.testing.faults import FaultDriver

P = ParamSpec("P")

SEED_VARIABLE = "COPYCAT_SEED"


class SeedFailed(AssertionError):
    """A program has failed in one of its worlds; the cause is the error that ended it.

    Attributes:
        seed: of the world; with it the run repeats itself exactly.
    """

    def __init__(self, seed: int, program: str, error: BaseException) -> None:
        self.seed = seed
        super().__init__(
            f"{program} failed in the world of seed {seed}: {type(error).__name__}: {error}\n"
            f"the same world again: {SEED_VARIABLE}={seed} with the same test"
        )


class World:
    """What a program is given of its world.

    Attributes:
        seed: what decides everything in it.
        cluster: its servers, to be broken on purpose, or looked at.
        chance: for the program's own choices, so that they repeat, too.
    """

    def __init__(self, seed: int, cluster: SimulatedCluster) -> None:
        self.seed = seed
        self.cluster = cluster
        self.chance: random.Random = cluster.simulation.random_for("program")
        self._calm = asyncio.Event()

    def client(self, **options: Any) -> AsyncClient:
        """A client in a node of its own, to be connected with ``async with``.

        Args:
            options: of ``AsyncClient``.
        """
        return self.cluster.client(**options)

    async def calm(self) -> None:
        """Wait until the faults are over and repaired; from then on the cluster must do its work."""
        await self._calm.wait()

    async def run(self, program: Awaitable[None], driver: FaultDriver, harm_s: float) -> None:
        """Run the program while things break, then repair them and let it come to its end."""

        async def do_harm() -> None:
            await driver.run(harm_s)
            driver.repair()
            self._calm.set()

        await self.cluster.until(self.cluster.leader)
        harm = asyncio.create_task(do_harm())
        try:
            await program
        finally:
            harm.cancel()


def simulated(
    *,
    seeds: int | Iterable[int] = 20,
    servers: int = 3,
    catalog: Mapping[str, type[StateMachine]] | None = None,
    faults: Collection[str] | None = None,
    harm_s: float = 5.0,
    timeout_s: float = 120.0,
) -> Callable[[Callable[Concatenate[World, P], Awaitable[None]]], Callable[P, None]]:
    """Make a coroutine function that takes a ``World`` a test which runs it in many of them.

    Each world has its own faults: servers crash and lose what they had not synced, links are cut,
    slow or lossy, disks fail, clocks run wrong. After every event the cluster is held to the rules of
    Raft and of sessions. What the program asserts is its own affair.

    A world is repeated exactly by its seed, if the program takes time, tasks and chance from its
    world only: ``asyncio``, ``world.chance``, and no sets whose order matters. With ``COPYCAT_SEED``
    in the environment only the world of that seed is run.

    Args:
        seeds: which worlds, or how many of the first ones.
        servers: of the cluster.
        catalog: state machines of the program's own by the name of their type; those of Copycat are
            there in any case.
        faults: kinds of faults, of ``fault.KINDS``; None: some for servers, disks and links, by
            the seed.
        harm_s: how long things break, in virtual seconds.
        timeout_s: after how many virtual seconds a program that has not ended has failed.

    Raises:
        SeedFailed: by the test, at the first world in which the program raised or did not end, or
            the cluster broke a rule.
    """
    types = Catalog({**CATALOG, **(catalog or {})})

    def decorate(program: Callable[Concatenate[World, P], Awaitable[None]]) -> Callable[P, None]:
        name = program.__qualname__

        def run_world(seed: int, *args: P.args, **kwargs: P.kwargs) -> None:
            with _without_server_logs(), Simulation(seed) as simulation:
                cluster = SimulatedCluster(simulation, servers=servers, catalog=types)
                chance = simulation.random_for("faults")
                driver = FaultDriver(
                    cluster, draw_faults(chance, cluster.names, (), harm_s, faults)
                )
                world = World(seed, cluster)
                cluster.start()
                try:
                    story = world.run(program(world, *args, **kwargs), driver, harm_s)
                    cluster.run(story, timeout_s)
                    assert cluster.monitors is not None, "a cluster is monitored"
                    cluster.monitors.check_all()
                except Exception as error:
                    raise SeedFailed(seed, name, error) from error

        @functools.wraps(program)
        def test(*args: P.args, **kwargs: P.kwargs) -> None:
            for seed in _chosen(seeds):
                run_world(seed, *args, **kwargs)

        signature = inspect.signature(program)
        rest = list(signature.parameters.values())[1:]
        # A test runner looks here for what it has to provide: all but the world.
        test.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=rest, return_annotation=None
        )
        return test

    return decorate


@contextlib.contextmanager
def _without_server_logs() -> Iterator[None]:
    """Servers that crash are the point here, and would fill the screen."""
    log = logging.getLogger("copycat")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _chosen(seeds: int | Iterable[int]) -> Iterable[int]:
    only = os.environ.get(SEED_VARIABLE)
    if only is not None:
        return (int(only),)
    return range(seeds) if isinstance(seeds, int) else seeds
