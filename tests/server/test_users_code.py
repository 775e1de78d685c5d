"""However users' code ends, all servers come to the same, or the one that cannot know it stops."""

import asyncio
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from copycat.actors.simulation import Simulation
from copycat.errors import (
    CannotBeMade,
    ConfigurationError,
    CopycatError,
    MachineError,
    OperationFailed,
    QueryFailed,
    Rejected,
)
from copycat.failed_entries import FILE, failed_entries, keep_failed_entries
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.server.users_code import FRAMES_MAX, PYTHON, Recursion, UsersCode, reason_of
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.replicated_state import children_of
from odd_ends import (
    end_in_itself,
    end_in_many_groups,
    end_oddly,
    end_without_a_name,
    fall_silent,
)
from simulated_servers import TallyHandle


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


def close_generator() -> None:
    raise GeneratorExit


def be_cancelled() -> None:
    raise asyncio.CancelledError


class OwnEnd(BaseException):
    """What users derive from BaseException."""


def end_in_own_way() -> None:
    raise OwnEnd


def end_in_a_group() -> None:
    raise BaseExceptionGroup("several", [SystemExit(1), ValueError("x")])


def run_out_of_memory() -> None:
    raise MemoryError


def be_interrupted() -> None:
    raise KeyboardInterrupt


def run_out_in_a_group() -> None:
    raise BaseExceptionGroup("several", [ValueError("x"), BaseExceptionGroup("", [MemoryError()])])


ENDS: dict[str, Callable[[], Any]] = {
    "SystemExit": sys.exit,
    "CancelledError": be_cancelled,
    "GeneratorExit": close_generator,
    "RecursionError": recurse,
    "OwnEnd": end_in_own_way,
    "BaseExceptionGroup": end_in_a_group,
    "OddError": end_oddly,
    "OddGroup": end_in_itself,
    "Unnamed": end_without_a_name,
    "Twice": end_in_many_groups,
}


STOPS: dict[str, Callable[[], Any]] = {
    "MemoryError": run_out_of_memory,
    "KeyboardInterrupt": be_interrupted,
    "ExceptionGroup": run_out_in_a_group,
    "Speechless": fall_silent,
}


class Ender(StateMachine):
    """Ends in every way that there is, wherever users' code is called."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.last_way = ""
        self.last_ways: list[str] = []

    @command
    def hello(self, commit: Commit) -> list[str]:
        return list(self.begun)

    @command
    def end(self, commit: Commit, way: str) -> Any:
        self.begun.append(way)
        commit.publish(commit.session, "ghost")
        commit.schedule(0.1, self.fire, "never")
        return {**ENDS, **STOPS}[way]()

    @command
    def end_later(self, commit: Commit, way: str) -> None:
        commit.schedule(0.1, self.fire, way)

    @command
    def end_with_session(self, commit: Commit, way: str) -> None:
        self.last_way = way if way in ENDS else ""
        self.last_ways.append(way)

    @query
    def last_ways_known(self) -> list[str]:
        return self.last_ways

    @query
    def end_query(self, way: str) -> Any:
        return {**ENDS, **STOPS}[way]()

    def fire(self, commit: Commit, way: str) -> None:
        self.begun.append(f"timer {way}")
        commit.publish(commit.session, "ghost")
        ENDS[way]()

    def session_ended(self, commit: Commit, session: int) -> None:
        way, self.last_way = self.last_way, ""
        if way:
            self.begun.append(f"session {way}")
            ENDS[way]()


def unborn(way: str) -> type[StateMachine]:
    class Unborn(StateMachine):
        def __init__(self) -> None:
            ENDS[way]()

    return Unborn


CATALOG = Catalog({"ender": Ender, **{f"unborn {way}": unborn(way) for way in ENDS}})


class EnderHandle(TallyHandle):
    resource_type: ClassVar[str] = "ender"


def cluster_of(simulation: Simulation, **options: Any) -> SimulatedCluster:
    cluster = SimulatedCluster(simulation, catalog=CATALOG, **options)
    cluster.start()
    return cluster


@pytest.mark.parametrize("way", ENDS)
def test_however_a_command_ends_it_is_its_result_also_at_every_replay(way: str) -> None:
    """It is answered, drops its effects, and the servers agree, also when they start again."""
    with Simulation(31) as simulation:
        cluster = cluster_of(simulation)
        heard: list[str] = []

        async def story() -> list[str]:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                client.listen(ender.resource_id, lambda event, values, index: heard.append(event))
                with pytest.raises(OperationFailed) as caught:
                    await ender.command("end", way)
                assert caught.value.kind == way
                await asyncio.sleep(1)
                cluster.restart()
                answer: list[str] = await ender.command("hello")
                return answer

        assert cluster.run(story(), timeout_s=60) == [way]
        assert heard == []


@pytest.mark.parametrize("way", ENDS)
def test_however_a_query_ends_it_is_its_callers_answer(way: str) -> None:
    """No server minds."""
    with Simulation(32) as simulation:
        cluster = cluster_of(simulation)

        async def story() -> None:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                with pytest.raises(QueryFailed) as caught:
                    await ender.query("end_query", way)
                assert caught.value.kind == way
                assert await ender.command("hello") == []
            assert len(cluster.running) == 3

        cluster.run(story(), timeout_s=60)


@pytest.mark.parametrize("way", ENDS)
def test_however_timers_and_ends_of_sessions_fail_the_servers_go_on(way: str) -> None:
    """What they had published is dropped, what they had assigned stays, also at a replay."""
    with Simulation(33) as simulation:
        cluster = cluster_of(simulation)
        heard: list[str] = []

        async def story() -> list[str]:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                client.listen(ender.resource_id, lambda event, values, index: heard.append(event))
                await ender.command("end_later", way)
                await asyncio.sleep(1)
                async with cluster.client() as other:
                    leaving = await other.open(EnderHandle, "e")
                    await leaving.command("end_with_session", way)
                cluster.restart()
                answer: list[str] = await ender.command("hello")
                return answer

        assert cluster.run(story(), timeout_s=60) == [f"timer {way}", f"session {way}"]
        assert heard == []


@pytest.mark.parametrize("way", ENDS)
def test_however_a_constructor_ends_the_name_stays_free(way: str) -> None:
    """Who opens is told by what, and the name can be opened as something else."""

    class UnbornHandle(TallyHandle):
        resource_type: ClassVar[str] = f"unborn {way}"

    with Simulation(34) as simulation:
        cluster = cluster_of(simulation)

        async def story() -> None:
            async with cluster.client() as client:
                with pytest.raises(CannotBeMade, match=way):
                    await client.open(UnbornHandle, "e")
                ender = await client.open(EnderHandle, "e")
                cluster.restart()
                assert await ender.command("hello") == []

        cluster.run(story(), timeout_s=60)


@pytest.mark.parametrize("way", ["MemoryError", "ExceptionGroup", "Speechless"])
def test_a_query_without_memory_is_answered_and_stops_nothing(way: str) -> None:
    """Its caller's retries would take it from server to server until none is left."""
    with Simulation(44) as simulation:
        cluster = cluster_of(simulation)

        async def story() -> None:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                with pytest.raises(QueryFailed):
                    await ender.query("end_query", way)
                assert await ender.command("hello") == []
            assert len(cluster.running) == 3

        cluster.run(story(), timeout_s=60)


def test_an_interrupt_in_a_query_is_somebodys_where_others_share_the_process() -> None:
    """Only a process that is the server alone, which takes its signals otherwise, knows better."""
    for recursion in Recursion:
        code = UsersCode(recursion)
        if recursion is Recursion.COUNTED:
            assert code.answer(KeyboardInterrupt(), "a query") == ("KeyboardInterrupt", "")
        else:
            with pytest.raises(MachineError):
                code.answer(KeyboardInterrupt(), "a query")


def failures_of(simulation: Simulation, cluster: SimulatedCluster, way: str) -> list[Any]:
    """What the servers stop by when a command ends so."""
    failures: list[Any] = []
    for name in cluster.names:
        cluster.node(name).on_failure = failures.append

    async def story() -> None:
        async with cluster.client(timeout_s=2) as client:
            ender = await client.open(EnderHandle, "e")
            with pytest.raises(CopycatError):
                await ender.command("end", way)

    cluster.run(story(), timeout_s=60)
    return failures


@pytest.mark.parametrize("way", STOPS)
def test_what_may_strike_one_server_alone_stops_it_and_names_the_command(way: str) -> None:
    """It is no result, so the server neither answers nor applies it."""
    with Simulation(35) as simulation:
        failures = failures_of(simulation, cluster_of(simulation, monitored=False), way)
        assert failures
        assert {type(failure) for failure in failures} == {MachineError}
        told = rf"method 'end' of resource \d+, a ender, at index \d+ of the log ended by {way}"
        assert re.match(told, str(failures[0]))


def test_where_the_depth_is_anybodys_recursion_stops_the_server() -> None:
    """In a process with other frames than the server's, the same call may succeed elsewhere."""
    with Simulation(36) as simulation:
        cluster = cluster_of(simulation, monitored=False, recursion=Recursion.UNKNOWN)
        failures = failures_of(simulation, cluster, "RecursionError")
        assert {type(failure) for failure in failures} == {MachineError}


def test_while_minor_versions_differ_recursion_stops_the_server() -> None:
    """``repr`` of 600 nested lists fails in Python 3.11 and not in 3.13, also at a replay."""
    with Simulation(37) as simulation:
        cluster = cluster_of(simulation, monitored=False)
        simulation.run_for(2)
        for name in cluster.names:
            server = cluster.server(name)
            assert PYTHON in server.offers
            assert not server.users_code.minors_differ
            server.users_code.see_offers([server.offers, ("map/1", "python/3.99")])
        failures = failures_of(simulation, cluster, "RecursionError")
        assert "minor versions" in str(failures[0])


@pytest.mark.parametrize("is_set", [False, True])
def test_a_process_of_its_own_counts_frames_from_the_call(is_set: bool) -> None:
    """Whatever is below, and whatever limit users' code has set itself, it may call FRAMES_MAX frames
    the next time, and not one more."""
    limit = sys.getrecursionlimit()
    code = UsersCode(Recursion.COUNTED)

    def descend(frames: int) -> int:
        return 0 if frames == 1 else descend(frames - 1)

    def room_above(frames_below: int) -> list[bool]:
        if frames_below:
            return room_above(frames_below - 1)
        code.enter((None, None, "test"))
        if is_set:
            sys.setrecursionlimit(sys.getrecursionlimit() + 500)  # as a machine may
            code.enter((None, None, "test"))
        found = []
        for frames in (FRAMES_MAX, FRAMES_MAX + 1):
            try:
                descend(frames)
                found.append(True)
            except RecursionError:
                found.append(False)
        return found

    try:
        assert [room_above(below) for below in (0, 7, 300, 3)] == [[True, False]] * 4
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("recursion", [Recursion.UNKNOWN, Recursion.SHARED])
def test_a_process_that_is_not_the_servers_alone_keeps_its_limit(recursion: Recursion) -> None:
    """The limit is the whole interpreter's, so it is not the server's to set."""
    limit = sys.getrecursionlimit()
    UsersCode(recursion).enter((None, None, "test"))
    assert sys.getrecursionlimit() == limit


def test_the_text_of_a_failure_is_no_state() -> None:
    """Servers may word it differently: no digest sees it, and it does not change what is counted."""
    texts = itertools.cycle(["short", "long" * 100, "middle" * 3])
    with Simulation(38) as simulation, pytest.MonkeyPatch.context() as patch:
        patch.setattr("copycat.server.users_code.reason_of", lambda _: next(texts))
        cluster = cluster_of(simulation)  # its monitors compare the state of the servers

        async def story() -> None:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                for _ in range(4):
                    with pytest.raises(OperationFailed):
                        await ender.command("end", "OwnEnd")
                await asyncio.sleep(1)
                counted = {}
                for name in cluster.names:
                    applier = cluster.node(name).actor_at(cluster.server(name).applier.serial)
                    session = applier._sessions[client.session_id]
                    counted[name] = children_of(applier)[session.serial].actor._answers_bytes
                assert len(set(counted.values())) == 1

        cluster.run(story(), timeout_s=60)


def test_a_text_that_cannot_be_had_is_empty() -> None:
    """An exception may fail to say what it is, in whatever way."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert reason_of(Odd()) == ""


def test_a_command_that_an_operator_fails_is_carried_out_by_nobody() -> None:
    """One of its batch is passed, the others are applied; all servers and replays agree."""
    with Simulation(39) as simulation:
        cluster = cluster_of(simulation)

        async def story(failed: int | None) -> tuple[list[Any], int]:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                last_index = max(cluster.server(name).log.last_index for name in cluster.names)
                if failed is None:
                    await asyncio.gather(
                        *[ender.command("end_with_session", way) for way in ("a", "b", "c")]
                    )
                return await ender.query("last_ways_known"), last_index + 2

        ways, failed = cluster.run(story(None), timeout_s=60)
        assert ways == ["a", "b", "c"]
        cluster.crash()
    with Simulation(39) as simulation:
        cluster = cluster_of(simulation, failed_entries=frozenset((failed,)))

        async def again() -> list[Any]:
            async with cluster.client() as client:
                ender = await client.open(EnderHandle, "e")
                first_index = max(cluster.server(name).log.last_index for name in cluster.names) + 1
                assert first_index + 1 == failed
                ends = await asyncio.gather(
                    *[ender.command("end_with_session", way) for way in ("a", "b", "c")],
                    return_exceptions=True,
                )
                assert [type(end) for end in ends] == [type(None), Rejected, type(None)]
                refused: Any = ends[1]
                assert refused.kind == "FailedByOperator"
                cluster.restart()
                ways: list[Any] = await ender.query("last_ways_known")
                return ways

        assert cluster.run(again(), timeout_s=60) == ["a", "c"]


def test_servers_with_other_failed_entries_do_not_talk() -> None:
    """They would come to other states; either says so and refuses the other."""
    with Simulation(40) as simulation:
        cluster = cluster_of(simulation, monitored=False)
        simulation.run_for(2)
        server = cluster.server("n1")
        assert server.users_code.agrees_with(server.offers)
        assert not server.users_code.agrees_with((*server.offers, "failed-entry/7."))
        assert server.users_code.agrees_with(
            (*server.offers, "failed-entry/7")
        )  # a type, version 7
        other = UsersCode(Recursion.UNKNOWN, frozenset((7, 11)))
        assert other.agrees_with(("map/1", *other.offers))
        assert not other.agrees_with(("map/1", *UsersCode(Recursion.UNKNOWN).offers))


def test_decisions_are_kept_with_the_log(tmp_path: Path) -> None:
    """They survive, and a file that lacks something is refused."""
    assert failed_entries(tmp_path) == frozenset()
    for decided in (frozenset((12,)), frozenset((7, 12))):
        keep_failed_entries(tmp_path, decided)
        assert failed_entries(tmp_path) == decided
    content = (tmp_path / FILE).read_text()
    for kept in range(len(content) - 1):
        (tmp_path / FILE).write_text(content[:kept])
        with pytest.raises(ConfigurationError, match="is damaged"):
            failed_entries(tmp_path)
