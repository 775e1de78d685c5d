"""A client without a cluster: operations go straight to a driven machine, on an asyncio loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from copycat.actors.codec import encode
from copycat.errors import ClientClosed, OutcomeUnknown, Rejected, SessionExpired
from copycat.machine import StateMachine
from copycat.protocol.client import Consistency
from copycat.types import Unencoded
from driven import RESOURCE, Driver

T = TypeVar("T")


class FakeCluster:
    """One resource and the clients that use it."""

    def __init__(self, machine: type[StateMachine]) -> None:
        self.driver = Driver(machine)
        self.clients: list[FakeClient] = []
        self.sessions = 0

    def client(self) -> "FakeClient":
        """A client with a session of its own."""
        client = FakeClient(self)
        self.clients.append(client)
        return client

    def pass_time(self, seconds: float) -> None:
        """Let log time move."""
        self.driver.pass_time(seconds)
        self.deliver()

    def deliver(self) -> None:
        """Bring all events to their clients."""
        for client in self.clients:
            if client.out_of_contact:
                continue
            for name, values in self.driver.take_events(client.session_id):
                for listener in list(client.listeners):
                    listener(name, values, self.driver.index)


class FakeClient:
    """What a handle sees of a client, and what a test can do to it.

    Attributes:
        silent: operations are kept back; ``speak`` sends them.
        out_of_contact: neither operations nor events come through.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.state = "connected"
        self.timeout_s = 5.0
        self.listeners: list[Any] = []
        self.session_listeners: list[Any] = []
        self.unanswered: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        self.submitted: list[tuple[str, list[Any], float | None]] = []
        self.silent = False
        self.out_of_contact = False
        self.numbers = 0
        self.session_id = self._new_session()

    def submit_command(
        self, resource: int, method: str, *arguments: Any, timeout_s: float | None = None
    ) -> asyncio.Future[Any]:
        assert resource == RESOURCE
        arguments = tuple(encode(a.value) if isinstance(a, Unencoded) else a for a in arguments)
        self.submitted.append((method, list(arguments), timeout_s))
        session = self.session_id

        def operation() -> Any:
            if session in self.cluster.driver.ended:
                raise SessionExpired("the session ended before")
            return self.cluster.driver.command(session, method, *arguments)

        return self._submit(operation)

    def submit_query(
        self,
        resource: int,
        method: str,
        *arguments: Any,
        timeout_s: float | None = None,
        consistency: Consistency = Consistency.LINEARIZABLE,
    ) -> asyncio.Future[Any]:
        assert resource == RESOURCE
        self.submitted.append((method, list(arguments), timeout_s))
        return self._submit(lambda: self.cluster.driver.query(method, *arguments))

    def listen(self, resource: int, listener: Any, /) -> None:
        self.listeners.append(listener)

    def unlisten(self, resource: int, listener: Any, /) -> None:
        self.listeners.remove(listener)

    def on_session(self, listener: Any, /) -> None:
        self.session_listeners.append(listener)

    def off_session(self, listener: Any, /) -> None:
        self.session_listeners.remove(listener)

    def new_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def new_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def speak(self) -> None:
        """Send what was kept back."""
        self.silent = self.out_of_contact = False
        waiting, self.unanswered = self.unanswered, []
        for future, operation in waiting:
            self._carry_out(future, operation)
        self.cluster.deliver()

    def fail(self, error: Exception) -> None:
        """End what was kept back; it is not carried out."""
        waiting, self.unanswered = self.unanswered, []
        for future, _ in waiting:
            if not future.done():
                future.set_exception(error)

    def turn(self, state: str) -> None:
        """Report a state."""
        self.state = state
        for listener in list(self.session_listeners):
            listener(state, self.session_id)

    def lose_session(self) -> None:
        """The session expires; the client hears of it and opens another one."""
        self.cluster.driver.end_session(self.session_id)
        self.fail(OutcomeUnknown("the session ended"))
        self.turn("lost")
        self.session_id = 0
        self.turn("connecting")
        self.session_id = self._new_session()
        self.silent = self.out_of_contact = False
        self.turn("connected")
        self.cluster.deliver()

    def close(self) -> None:
        """The program is done with the client."""
        self.cluster.driver.end_session(self.session_id)
        self.turn("closed")
        self.fail(OutcomeUnknown("the client was closed"))
        self.cluster.deliver()

    def _new_session(self) -> int:
        self.cluster.sessions += 1
        return self.cluster.sessions

    def _submit(self, operation: Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self.state == "closed":
            future.set_exception(ClientClosed("closed"))
        elif self.silent or self.out_of_contact:
            self.unanswered.append((future, operation))
        else:
            loop.call_soon(self._carry_out, future, operation)
        return future

    def _carry_out(self, future: asyncio.Future[Any], operation: Callable[[], Any]) -> None:
        result: Any = None
        failure: Exception | None = None
        try:
            result = operation()
        except (Rejected, SessionExpired) as error:
            failure = error
        except (TypeError, ValueError) as error:
            failure = Rejected(str(error), kind=type(error).__name__)
        self.cluster.deliver()
        if not future.done():
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)


async def settle() -> None:
    """Let everything run that can run without anything more happening."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test, and fail if anything was left that nobody has looked at."""
    complaints: list[dict[str, Any]] = []

    async def guarded() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        result = await main
        await settle()
        return result

    result = asyncio.run(guarded())
    assert not complaints
    return result
