"""A thread with a loop of its own, for callers that have none: blocking clients, local clusters,
Thespian's ``ActorSystem``. Nodes live on the loop; other threads reach them through ``run`` and
``call``."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
LAST_TURNS = 4


class NetworkThread:
    """A daemon thread that runs an asyncio loop from now until ``stop``.

    Attributes:
        loop: the loop; only ``call_soon_threadsafe`` of it may be used from other threads.
    """

    def __init__(self, name: str = "copycat") -> None:
        self.loop = asyncio.new_event_loop()
        self._stopped = False
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop and wait for its result, from any other thread.

        Raises:
            TimeoutError: it took longer; it was cancelled.
            RuntimeError: the thread has been stopped; the coroutine did not begin.
        """
        assert not self.is_current(), "the loop must not wait for itself"
        if self._stopped:
            coroutine.close()
            raise RuntimeError("the thread of this loop has been stopped")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()  # nobody waits for it any more, above all after a KeyboardInterrupt
            raise

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the loop and wait for its result, from any thread.

        Raises:
            RuntimeError: the thread has been stopped; nothing was called.
        """
        if self.is_current():
            return function(*arguments)
        if self._stopped:
            raise RuntimeError("the thread of this loop has been stopped")
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
                future.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return future.result()

    def stop(self) -> None:
        """Cancel what runs on the loop, end the thread and close the loop. Nodes on it are to be
        stopped before. A second call changes nothing."""
        assert not self.is_current(), "the loop must not wait for itself"
        if self._stopped:
            return
        self._stopped = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def is_stopped(self) -> bool:
        """Whether ``stop`` has been called."""
        return self._stopped

    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.get_ident() == self._thread.ident

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._clear())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _clear(self) -> None:
        for _ in range(LAST_TURNS):  # connections accepted just now come to be, and are closed
            await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were closed let go of their sockets now
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
