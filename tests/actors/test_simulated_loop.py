"""The simulated loop runs asyncio code in virtual time, in a defined order, in one thread."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from copycat.actors.simulated_loop import NotSimulatedError, SimulatedLoop, SimulationStalled


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    made = SimulatedLoop()
    yield made
    made.settle()
    made.close()


def test_sleeping_takes_virtual_time_only(loop: SimulatedLoop) -> None:
    """A sleep ends at its time to the bit, and sleeps of other tasks end in between."""
    ends: list[tuple[str, float]] = []

    async def sleeper(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        ends.append((name, loop.time()))

    async def main() -> None:
        await asyncio.gather(sleeper("late", 86_400.0), sleeper("early", 0.5))

    loop.run_until_complete(main())
    assert ends == [("early", 0.5), ("late", 86_400.0)]


def test_an_idle_hour_costs_one_event_a_timer(loop: SimulatedLoop) -> None:
    """An hour with a timer every 50 ms is 72,000 events and no waiting."""

    async def idle() -> None:
        for _ in range(72_000):
            await asyncio.sleep(0.05)

    loop.run_until_complete(idle())
    assert loop.events == 72_000
    assert loop.time() == pytest.approx(3600.0)


def test_equal_times_keep_the_order_of_the_calls(loop: SimulatedLoop) -> None:
    """What is planned for one moment happens in the order in which it was planned."""
    happened: list[int] = []
    for number in range(100):
        if number % 2:
            loop.call_at(1.0, happened.append, number)
        else:
            loop.plan(1.0, happened.append, number)
    loop.plan(1.0, lambda _: loop.stop(), None)
    loop.run_forever()
    assert happened == list(range(100))


def test_an_event_is_over_before_the_next(loop: SimulatedLoop) -> None:
    """All that becomes ready through an event runs before a later event of the same time."""
    happened: list[str] = []

    def first(_: None) -> None:
        happened.append("first")
        loop.call_soon(lambda: loop.call_soon(happened.append, "its last consequence"))

    loop.plan(1.0, first, None)
    loop.plan(1.0, happened.append, "second")
    loop.after_event.append(lambda: happened.append("hook"))
    loop.call_at(1.0, loop.stop)
    loop.run_forever()
    assert happened == ["first", "its last consequence", "hook", "second", "hook", "hook"]


def test_what_a_hook_starts_is_over_before_the_next_event(loop: SimulatedLoop) -> None:
    """A monitor may wake somebody, who then runs at once."""
    happened: list[str] = []

    def wake_somebody() -> None:
        loop.call_soon(happened.append, "woken")

    loop.after_event.append(wake_somebody)
    loop.plan(1.0, happened.append, "first")
    loop.plan(1.0, happened.append, "second")
    loop.call_at(1.0, loop.stop)
    loop.run_forever()
    assert happened[:4] == ["first", "woken", "second", "woken"]


async def queue_passes_items() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)

    async def produce() -> None:
        for number in range(5):
            await queue.put(number)

    task = asyncio.create_task(produce())
    assert [await queue.get() for _ in range(5)] == list(range(5))
    await task


async def event_wakes() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(3, event.set)
    await event.wait()


async def wait_for_gives_up() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 5)


async def lock_excludes() -> None:
    lock = asyncio.Lock()
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with lock:
            inside += 1
            await asyncio.sleep(1)
            assert inside == 1
            inside -= 1

    await asyncio.gather(*[enter() for _ in range(3)])


async def timeout_cancels() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.sleep(2)


async def threads_of_the_own_kind() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(lambda: None)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("story", "ends_at_s"),
    [
        (queue_passes_items, 0),
        (event_wakes, 3),
        (wait_for_gives_up, 5),
        (lock_excludes, 3),
        (timeout_cancels, 1),
        (threads_of_the_own_kind, 0),
    ],
)
def test_asyncio_works_unmodified(loop: SimulatedLoop, story: Any, ends_at_s: float) -> None:
    """Queues, events, locks, timeouts and the rest behave, and take the virtual time they say."""
    threads = threading.active_count()
    loop.run_until_complete(story())
    assert loop.time() == ends_at_s
    assert threading.active_count() == threads


def test_a_coroutine_that_waits_for_ever_is_reported(loop: SimulatedLoop) -> None:
    """When nothing is planned any more, the run ends with the place where the task waits."""

    async def innermost() -> None:
        await asyncio.Event().wait()

    async def outermost() -> None:
        await asyncio.sleep(7)
        await innermost()

    task = loop.create_task(outermost(), name="patient")
    with pytest.raises(SimulationStalled, match=r"7\.0.* s; patient waits in .*outermost.*innerm"):
        loop.run_until_complete(task)
    task.cancel()


def test_events_without_end_at_one_time_are_a_failure(
    loop: SimulatedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer that plans itself for the same moment again and again is told, and hangs nobody."""
    monkeypatch.setattr("copycat.actors.simulated_loop.EVENTS_AT_ONCE_MAX", 100)

    def again() -> None:
        loop.call_later(0.0, again)

    loop.call_later(3.0, again)
    task = loop.create_task(asyncio.sleep(7), name="patient")
    with pytest.raises(SimulationStalled, match=r"time does not go on at 3\.0.* s; patient waits"):
        loop.run_until_complete(task)
    task.cancel()


def test_a_poller_does_not_stop_time(loop: SimulatedLoop) -> None:
    """A task that asks again and again without sleeping sees the event it waits for."""
    flag: list[bool] = []

    async def poll() -> None:
        while not flag:
            await asyncio.sleep(0)

    loop.call_later(1, flag.append, True)
    loop.run_until_complete(poll())
    assert loop.time() == 1


def test_cancelled_timers_do_not_pile_up(loop: SimulatedLoop) -> None:
    """Requests whose long time limits are cancelled leave nothing behind."""

    async def ask_often() -> None:
        for _ in range(10_000):
            limit = loop.call_later(3600, lambda: None)
            await asyncio.sleep(0.001)
            limit.cancel()

    loop.run_until_complete(ask_often())
    assert len(loop._planned) < 1000
    assert loop.time() < 11


async def use_a_thread() -> None:
    await asyncio.to_thread(print)


async def open_a_connection() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def start_a_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def catch_a_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(1, print)


@pytest.mark.parametrize(
    "story", [use_a_thread, open_a_connection, start_a_process, catch_a_signal]
)
def test_the_real_world_is_out_of_reach(loop: SimulatedLoop, story: Any) -> None:
    """What would leave the simulated world is refused with an error that says so."""
    with pytest.raises(NotSimulatedError, match="simulated world has no"):
        loop.run_until_complete(story())


def test_a_failing_callback_fails_the_run(loop: SimulatedLoop) -> None:
    """An exception that asyncio would only log is raised out of the run."""

    def fail() -> None:
        raise ZeroDivisionError

    loop.call_later(1, fail)
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(asyncio.sleep(2))
    loop.run_until_complete(asyncio.sleep(0))


def test_a_task_that_failed_unseen_fails_the_run(loop: SimulatedLoop) -> None:
    """A background task does not die in silence."""

    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        asyncio.create_task(fail())  # noqa: RUF006 - that nobody keeps it is the point
        await asyncio.sleep(1)

    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(main())


def run_and_trace(story: Coroutine[Any, Any, None]) -> bytes:
    loop = SimulatedLoop()
    loop.run_until_complete(story)
    loop.close()
    return loop.trace.digest()


def test_the_trace_depends_on_times_and_records() -> None:
    """Equal runs have equal traces; another delay or other recorded bytes make another trace."""

    async def story(delay_s: float, content: bytes) -> None:
        await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.record(content)

    same = run_and_trace(story(1.0, b"a"))
    assert run_and_trace(story(1.0, b"a")) == same
    assert run_and_trace(story(1.0, b"b")) != same
    assert run_and_trace(story(1.5, b"a")) != same


def test_nothing_is_logged(loop: SimulatedLoop, caplog: pytest.LogCaptureFixture) -> None:
    """A run that goes well is silent."""
    with caplog.at_level(logging.DEBUG):
        loop.run_until_complete(asyncio.sleep(1))
    assert not caplog.records
