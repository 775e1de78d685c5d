"""What a machine answers may be of any size, depth and form: it costs the caller its answer at most."""

import asyncio
from typing import Any, ClassVar

import pytest

from copycat.actors.codec import DEPTH_MAX, encode, takes_more_bytes
from copycat.actors.simulation import Simulation
from copycat.errors import AnswerLost, QueryFailed
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.server.operations import VALUE_BYTES_MAX, VALUE_DEPTH_MAX
from copycat.testing.cluster import SimulatedCluster
from simulated_servers import TallyHandle


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def doubled(depth: int) -> Any:
    """A short list of lists that is 2 ** depth values long when it is written out."""
    value: Any = [1]
    for _ in range(depth):
        value = [value, value]
    return value


def in_itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


ANSWERS: dict[str, Any] = {
    "deepest": nested(VALUE_DEPTH_MAX),
    "too deep": nested(VALUE_DEPTH_MAX + 1),
    "as deep as the codec": nested(DEPTH_MAX),
    "in itself": in_itself(),
    "doubled": doubled(30),
    "doubled in a dict": {"a": doubled(28), "b": 1},
    "long list": [b"x" * 100] * (VALUE_BYTES_MAX // 100),
    "long": b"x" * (VALUE_BYTES_MAX + 1),
    "large": b"x" * (VALUE_BYTES_MAX // 4),
    "surrogate": "\ud800",
    "number": 7,
}
UNENCODABLE = {"too deep", "as deep as the codec", "in itself", "surrogate"}
TOO_LARGE = {"doubled", "doubled in a dict", "long list", "long"}


class Answerer(StateMachine):
    """Answers what it is asked to."""

    @command
    def answer(self, commit: Commit, which: str) -> Any:
        return ANSWERS[which]

    @query
    def answer_query(self, which: str) -> Any:
        return ANSWERS[which]


class AnswererHandle(TallyHandle):
    resource_type: ClassVar[str] = "answerer"


@pytest.mark.parametrize("method", ["answer", "answer_query"])
def test_an_answer_has_the_same_end_alone_and_among_others(method: str) -> None:
    """It arrives as it is or its caller is told why not, whatever is answered beside it. What would be
    written out in a billion values never is."""
    with Simulation(41) as simulation:
        cluster = SimulatedCluster(simulation, catalog=Catalog({"answerer": Answerer}))
        cluster.start()

        async def story() -> None:
            async with cluster.client() as client:
                answerer = await client.open(AnswererHandle, "a")
                ask = answerer.command if method == "answer" else answerer.query
                alone = [await end_of(ask(method, which)) for which in ANSWERS]
                together = await asyncio.gather(*[end_of(ask(method, which)) for which in ANSWERS])
                for which, end, beside in zip(ANSWERS, alone, together, strict=True):
                    assert end == beside, which
                    if which in UNENCODABLE:
                        assert end == "Unencodable"
                    elif which in TOO_LARGE:
                        assert end == "AnswerTooLarge"
                    else:
                        assert end == ANSWERS[which]

        cluster.run(story(), timeout_s=60)


async def end_of(call: Any) -> Any:
    try:
        return await call
    except (AnswerLost, QueryFailed) as error:
        return error.kind


@pytest.mark.parametrize("value", [[b"x" * 10] * 9, {"key": ["x"] * 9}, "x" * 99, [[]] * 9, 7, ()])
def test_what_takes_more_bytes_is_never_said_of_what_does_not(value: Any) -> None:
    """It is a bound from below, and of what is large because of its texts a close one."""
    size_bytes = len(encode(value))
    assert not takes_more_bytes(value, size_bytes)
    assert not takes_more_bytes(value, 0) or size_bytes > 0
    if len(repr(value)) > 99:
        assert takes_more_bytes([value] * 2, size_bytes)
