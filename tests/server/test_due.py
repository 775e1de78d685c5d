"""What is due: the order, what was cancelled, and that no timer holds up the log for ever."""

import asyncio
import random
from math import inf
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st

from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.server.due import DueQueue, Entry
from copycat.storage.batch import BatchKind
from simulated_servers import ENDPOINTS, TallyHandle, start_servers

RESTLESS_MAX = 10_000


def take_all(queue: DueQueue, now_us: int) -> list[Entry]:
    """What is due now, in order."""
    taken = []
    while queue.front_us <= now_us:
        entry = queue.take_front()
        if entry is not None:
            taken.append(entry)
    return taken


def next_due_us(queue: DueQueue) -> float:
    """The log time of the earliest."""
    while not queue.settle():
        pass
    return queue.front_us


@given(st.randoms(use_true_random=False))
def test_the_queue_gives_what_is_planned_in_order_and_nothing_else(chance: random.Random) -> None:
    """Whatever is added, moved, cancelled and ended, the queue and a sorted list agree."""
    queue = DueQueue()
    planned: dict[tuple[int, int], Entry] = {}
    timeouts_us: dict[int, int] = {}
    now_us = 0

    def move(session: int) -> None:
        planned[0, session] = (now_us + timeouts_us[session], session, 0, 0)

    for made in range(1, 301):
        acts = ["timer", "timer", "timer", "cancel", "session", "move", "all", "end", "end", "pass"]
        match chance.choice(acts):
            case "timer":
                planned[7, made] = (now_us + chance.randrange(50), made, made, 7)
                queue.add_timer(*planned[7, made])
            case "session":
                timeouts_us[made] = chance.randrange(50)
                queue.add_session(made, timeouts_us[made], now_us)
                move(made)
            case "pass":
                now_us += chance.randrange(20)
                due = sorted(entry for entry in planned.values() if entry[0] <= now_us)
                assert take_all(queue, now_us) == due
                planned = {key: entry for key, entry in planned.items() if entry not in due}
            case "all":
                queue.renew_all(now_us)
                for resource, session in list(planned):
                    if resource == 0:
                        move(session)
            case act if planned:
                resource, number = chance.choice(list(planned))
                if resource == 7 and act == "cancel":
                    queue.cancel_timer(number, 7)
                    del planned[7, number]
                elif resource == 0 and act == "end":
                    queue.drop_session(number)
                    del planned[0, number]
                elif resource == 0 and act == "move":
                    queue.renew(number, now_us)
                    move(number)
        assert queue.front_us <= min((entry[0] for entry in planned.values()), default=inf)
        if chance.random() < 0.5:
            assert next_due_us(queue) == min((e[0] for e in planned.values()), default=inf)
        expiries = {
            number: entry[0] for (resource, number), entry in planned.items() if not resource
        }
        assert queue.expiries() == expiries
        assert len(queue) <= 3 * len(planned) + 64


def test_a_timer_is_cancelled_once() -> None:
    """To cancel what was called, was cancelled, or never was, changes nothing."""
    queue = DueQueue()
    queue.add_timer(5, 1, 1, 7)
    queue.cancel_timer(1, 8)
    queue.cancel_timer(2, 7)
    assert take_all(queue, 5) == [(5, 1, 1, 7)]
    queue.cancel_timer(1, 7)
    assert next_due_us(queue) == inf


def test_tidying_up_takes_a_few_entries_at_once() -> None:
    """However many are cancelled, no cancellation moves more than a few of those that are left;
    when all is said, the dead are gone."""
    queue = DueQueue()
    for timer in range(10_000):
        queue.add_timer(timer, 1, timer, 7)
    for timer in range(10_000):
        if timer % 10:
            before = len(queue._left)
            queue.cancel_timer(timer, 7)
            assert before - len(queue._left) <= 4
    assert len(queue) <= 2 * 1_000 + 64
    assert take_all(queue, 10_000) == [(timer, 1, timer, 7) for timer in range(0, 10_000, 10)]


class Restless(StateMachine):
    """Schedules again whenever it is called, without a delay; and plans what it cancels."""

    def __init__(self) -> None:
        self.calls = 0

    @command
    def begin(self, commit: Commit) -> None:
        """Never rest again."""
        self.again(commit)

    def again(self, commit: Commit) -> None:
        """Ask for the next call."""
        self.calls += 1
        if self.calls < RESTLESS_MAX:
            commit.schedule(0.0, self.again)

    @command
    def waver(self, commit: Commit) -> None:
        """Plan something for much later, and think better of it."""
        commit.cancel(commit.schedule(3600.0, self.again))

    @query
    def called(self) -> int:
        """How often."""
        return self.calls


class RestlessHandle:
    """The client's side of ``Restless``."""

    resource_type: ClassVar[str] = "restless"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: Any, resource_id: int, name: str) -> None:
        self.client = client
        self.resource_id = resource_id

    def begin(self) -> Any:
        return self.client.submit_command(self.resource_id, "begin")

    def waver(self) -> Any:
        return self.client.submit_command(self.resource_id, "waver")

    def called(self) -> Any:
        return self.client.submit_query(self.resource_id, "called")


def test_a_call_that_schedules_itself_at_once_does_not_hold_up_the_log() -> None:
    """It is called once for an entry of the log, and everybody else is served."""
    with Simulation(31) as simulation:
        servers = start_servers(simulation, Catalog({"restless": Restless}))

        async def story() -> int:
            async with AsyncClient(*ENDPOINTS) as client:
                restless = await client.open(RestlessHandle, "restless")
                await restless.begin()
                for _ in range(20):
                    await restless.waver()
                    await asyncio.sleep(0.01)
                called: int = await restless.called()
                return called

        called = simulation.run(story(), timeout_s=30)
        entries = next(iter(servers.values())).log.last_index
        assert 1 < called <= entries < RESTLESS_MAX / 10


def test_what_was_cancelled_leaves_no_trace_in_the_queue() -> None:
    """Calls that are planned for much later and cancelled do not pile up until then."""
    with Simulation(32) as simulation:
        servers = start_servers(simulation, Catalog({"restless": Restless}))

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                restless = await client.open(RestlessHandle, "restless")
                await asyncio.gather(*[restless.waver() for _ in range(1000)])

        simulation.run(story(), timeout_s=30)
        for server in servers.values():
            applier = server._myRef.node.actor_at(server.applier.serial)
            assert server.progress.applied_index > 500
            assert len(applier._due) < 100


def test_nothing_is_written_for_what_moves_or_ends_before_it_is_due() -> None:
    """Neither the expiry of a session that goes on writing, nor that of one that was closed, makes the
    leader write an entry for it."""
    with Simulation(7) as simulation:
        servers = start_servers(simulation)

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS, session_timeout_s=8.0) as client:
                tally = await client.open(TallyHandle, "tally")
                for _ in range(50):
                    await tally.command("add", 1)
                    await asyncio.sleep(0.5)

        simulation.run(story(), timeout_s=60)
        simulation.run_for(30)
        for server in servers.values():
            log = server.log
            kinds = {log.batch_at(index).kind for index in range(1, log.last_index + 1)}
            assert BatchKind.COMMANDS in kinds
            assert BatchKind.TICK not in kinds
            assert server.progress.next_due_us is None
