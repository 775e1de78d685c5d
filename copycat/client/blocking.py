"""Client: the same verbs as ``AsyncClient``, for programs without an event loop.

All blocking clients of a process share one daemon thread with a loop; they may be used from any
number of threads. When the interpreter exits, their sessions are closed, which takes at most a
second.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, Protocol, TypeVar

from copycat.actors.network_thread import NetworkThread
from copycat.client.asynchronous import AsyncClient, Handle, name_of
from copycat.client.options import ServerSelection
from copycat.errors import ClientClosed, InvalidArgument, InvalidType, SyncInAsyncError
from copycat.types import SessionId

EXIT_TIMEOUT_S = 1.5  # a session takes a second at most to close

T = TypeVar("T")


class Runner:
    """The loop of an asyncio client, seen from other threads."""

    def __init__(self, thread: NetworkThread) -> None:
        self._thread = thread
        self._process = os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """Run a coroutine on the loop, and block the calling thread until it is done.

        An exception in the waiting thread, above all a KeyboardInterrupt, ends the waiting at once
        and cancels the coroutine.

        Raises:
            SyncInAsyncError: the calling thread runs an event loop, which would stand still.
            InvalidArgument: the client was made before this process was forked.
            ClientClosed: the interpreter is exiting, and has closed the client.
        """
        try:
            self._check()
        except BaseException:
            coroutine.close()
            raise
        return self._thread.run(coroutine)

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise InvalidArgument(
                "this client was made before the process was forked, and works in the parent only:"
                " create the client in the worker process"
            )
        if asyncio._get_running_loop() is not None:
            raise SyncInAsyncError(
                "copycat.Client blocks, and an event loop is running in this thread; use"
                " `async with copycat.AsyncClient(...) as client`, `await client.open(...)` and the"
                " Async... handles"
            )
        if self._thread.is_stopped():
            raise ClientClosed("the client has been closed, because the interpreter exits")


class BlockingHandle(Protocol):
    """What ``Client.open`` makes: a resource as one blocking client sees it."""

    asynchronous: ClassVar[Any]  # the class of the asyncio handle below it

    def __init__(self, handle: Any, runner: Any) -> None: ...


B = TypeVar("B", bound=BlockingHandle)


class Client:
    """A session with a cluster, for programs that block.

    Use it as ``with Client("host:port") as client``, or call ``close`` when done. It keeps the
    promises of ``AsyncClient``, and may be used by several threads at once.
    """

    def __init__(
        self,
        *endpoints: str,
        timeout_s: float = 5.0,
        session_timeout_s: float = 10.0,
        name: str = "",
        server_selection: ServerSelection = "leader",
    ) -> None:
        """Connect to a cluster; the arguments are those of ``AsyncClient``.

        Raises:
            InvalidArgument: an endpoint is no ``host:port``, or a number is out of range.
            Unreachable, NoLeader: there was no session within ``timeout_s``; the error names
                what each endpoint said.
            SyncInAsyncError: an event loop is running in this thread; use ``AsyncClient``.
        """
        asynchronous = AsyncClient(
            *endpoints,
            timeout_s=timeout_s,
            session_timeout_s=session_timeout_s,
            name=name,
            server_selection=server_selection,
        )
        runner = Runner(_process.thread())
        runner.run(asynchronous.connect())
        self._begin(asynchronous, runner)

    def _begin(self, asynchronous: AsyncClient, runner: Runner) -> None:
        self._asynchronous = asynchronous
        self._runner = runner
        _process.add(asynchronous)

    def new_session(
        self,
        *,
        timeout_s: float | None = None,
        session_timeout_s: float | None = None,
        name: str | None = None,
    ) -> "Client":
        """Open another session over the same connections; see ``AsyncClient.new_session``."""
        other = Client.__new__(Client)
        opening = self._asynchronous.new_session(
            timeout_s=timeout_s, session_timeout_s=session_timeout_s, name=name
        )
        other._begin(self._runner.run(opening), self._runner)
        return other

    def open(self, handle: type[B], name: str, *, timeout_s: float | None = None) -> B:
        """Open a resource, making it if there is none of this name.

        Args:
            handle: the class of its blocking handle, such as ``DistributedMap``.
            name: 1 to 255 printable characters; every name belongs to one type.
            timeout_s: None: the client's; ``math.inf`` waits for ever.

        Raises:
            InvalidType: it is no class of blocking handles.
            WrongResourceType: the name belongs to a resource of another type.
            UnknownResourceType: a voting server does not know the type.
        """
        kind: type[Handle] | None = getattr(handle, "asynchronous", None)
        if kind is None:
            raise InvalidType(
                f"{name_of(handle)} is no blocking handle, which names the asyncio handle below it as"
                " `asynchronous`: write one (docs/resources.md shows how), or use copycat.AsyncClient"
            )
        below = self._runner.run(self._asynchronous.open(kind, name, timeout_s=timeout_s))
        return handle(below, self._runner)

    def close(self) -> None:
        """End the session, and with it all that it holds; see ``AsyncClient.close``. Closing
        twice does nothing."""
        if self._asynchronous._household is not None and not self._runner._thread.is_stopped():
            self._runner.run(self._asynchronous.close())
            _process.remove(self._asynchronous)

    @property
    def state(self) -> str:
        """``connecting``, ``connected``, ``suspended``, ``lost`` or ``closed``; see
        ``AsyncClient.state``."""
        return self._asynchronous.state

    @property
    def session_id(self) -> SessionId:
        """The session in use; 0 while there is none."""
        return self._asynchronous.session_id

    @property
    def timeout_s(self) -> float:
        """The deadline of a call that names none, in seconds."""
        return self._asynchronous.timeout_s

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._asynchronous).replace("<AsyncClient", "<Client", 1)


class _Process:
    """What all blocking clients of this process share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: NetworkThread | None = None
        self._clients: dict[AsyncClient, None] = {}

    def thread(self) -> NetworkThread:
        """The thread, made when it is needed first."""
        with self._lock:
            if self._thread is None or self._thread.is_stopped():
                self._thread = NetworkThread("copycat-clients")
            return self._thread

    def add(self, client: AsyncClient) -> None:
        """Close this client at exit."""
        with self._lock:
            self._clients[client] = None

    def remove(self, client: AsyncClient) -> None:
        """This client has closed."""
        with self._lock:
            self._clients.pop(client, None)

    def end(self) -> None:
        """Close all clients together, then the thread."""
        with self._lock:
            thread, clients = self._thread, list(self._clients)
        if thread is None or thread.is_stopped():
            return

        async def close_all() -> None:
            closing = [client.close() for client in clients]
            await asyncio.gather(*closing, return_exceptions=True)

        try:
            thread.run(close_all(), EXIT_TIMEOUT_S)
        except TimeoutError:
            pass  # the cluster ends the sessions when they expire
        thread.stop()


_process = _Process()


def _end_process() -> None:
    # Looked up now: a forked child has nothing to do with what its parent registered.
    _process.end()


def _forget_parent() -> None:
    """After a fork: the thread exists in the parent only."""
    global _process
    _process = _Process()


atexit.register(_end_process)
os.register_at_fork(after_in_child=_forget_parent)
