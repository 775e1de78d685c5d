"""A thread with a loop: results and errors come back, and its end leaves nothing open."""

import asyncio
import threading

import pytest

from copycat.actors.network_thread import NetworkThread


def test_a_coroutine_runs_on_the_loops_thread() -> None:
    """Its result, or its error, is the caller's."""
    thread = NetworkThread("loop of a test")

    async def where() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def fail() -> None:
        raise ZeroDivisionError

    assert thread.run(where()) == "loop of a test"
    with pytest.raises(ZeroDivisionError):
        thread.run(fail())
    thread.stop()


def test_a_function_is_called_on_the_loops_thread() -> None:
    """Also from that thread itself, where it is a plain call."""
    thread = NetworkThread("loop of a test")
    assert thread.call(lambda: thread.call(threading.current_thread)).name == "loop of a test"
    with pytest.raises(KeyError):
        thread.call({}.__getitem__, 1)
    thread.stop()


def test_a_coroutine_that_takes_too_long_is_cancelled() -> None:
    """Nobody waits for it any more."""
    thread = NetworkThread()
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        thread.run(endless(), timeout_s=0.01)
    assert cancelled.wait(20)
    thread.stop()


def test_a_stop_cancels_what_runs() -> None:
    """And then refuses work; a second stop changes nothing."""
    thread = NetworkThread()
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = thread.call(lambda: thread.loop.create_task(endless()))
    thread.call(lambda: None)
    thread.stop()
    thread.stop()
    assert cancelled.is_set()
    assert task.cancelled()
    assert thread.is_stopped()
    with pytest.raises(RuntimeError, match="stopped"):
        thread.call(lambda: None)
    with pytest.raises(RuntimeError, match="stopped"):
        thread.run(asyncio.sleep(0))
