"""What is told of an operation that failed is what is known of it: changed nothing, or carried out."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from copycat.actors.simulation import Simulation
from copycat.errors import (
    CopycatError,
    InvalidArgument,
    NotApplied,
    OperationFailed,
    QueryFailed,
    Rejected,
)
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.resources import AsyncDistributedMap
from copycat.testing.cluster import SimulatedCluster
from simulated_servers import TallyHandle


class RefusedByOwnClass(NotApplied):
    """A user's class of errors that says more than it can know."""


def counted(method: Callable[..., Any]) -> Callable[..., Any]:
    """Change the state before the method that is wrapped sees its arguments."""

    @functools.wraps(method)
    def wrapper(machine: Any, commit: Commit, *arguments: Any) -> Any:
        machine.count += 1
        return method(machine, commit, *arguments)

    return wrapper


class Changing(StateMachine):
    """Changes before it fails, and so has been applied whatever it raises."""

    def __init__(self) -> None:
        self.count = 0

    @command
    @counted
    def wrapped(self, commit: Commit, one: int) -> int:
        return one

    @command
    def fail(self, commit: Commit, name: str) -> None:
        if name == "Rejected":
            raise Rejected("not now")
        self.count += 1
        raise {"InvalidArgument": InvalidArgument, "own": RefusedByOwnClass}[name]("too late")

    @query
    def value(self) -> int:
        return self.count


def test_what_has_changed_something_is_never_called_not_applied() -> None:
    """Not by wrong arguments behind a decorator, nor by the class of error that it raises."""

    class ChangingHandle(TallyHandle):
        resource_type: ClassVar[str] = "changing"

    async def fails(call: Any) -> Any:
        with pytest.raises(CopycatError) as caught:
            await call
        return caught.value

    with Simulation(42) as simulation:
        cluster = SimulatedCluster(simulation, catalog=Catalog({"changing": Changing}))
        cluster.start()

        async def story() -> None:
            async with cluster.client() as client:
                changing = await client.open(ChangingHandle, "c")
                for call in (
                    changing.command("wrapped"),
                    changing.command("fail", "InvalidArgument"),
                    changing.command("fail", "own"),
                ):
                    error = await fails(call)
                    assert type(error) is OperationFailed, error
                assert await changing.query("value") == 3
                assert type(await fails(changing.command("fail", "Rejected"))) is Rejected
                assert type(await fails(changing.command("fail"))) is Rejected
                assert await changing.query("value") == 3

        cluster.run(story(), timeout_s=60)


def test_the_checks_of_a_built_in_machine_have_changed_nothing() -> None:
    """A bare client that sends a map what no handle would is told so."""
    with Simulation(43) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()

        async def story() -> None:
            async with cluster.client() as client:
                entries = await client.open(AsyncDistributedMap[Any, Any], "m")
                resource = entries._resource
                for arguments in ([1.5, b""], ["a", 7], ["a" * 1_000_000, b""]):
                    with pytest.raises(Rejected):
                        await client.submit_command(resource, "put", *arguments)
                with pytest.raises(Rejected, match="1,001 keys"):
                    pairs = [[number, b""] for number in range(1_001)]
                    await client.submit_command(resource, "put_many", pairs)
                with pytest.raises(QueryFailed):
                    await client.submit_query(resource, "get", 1.5)

        cluster.run(story(), timeout_s=60)
