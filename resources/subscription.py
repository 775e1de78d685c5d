"""Subscriptions: how a machine keeps its audience, and how a handle reads what it is told.

A subscription is one number, drawn by the client, in one session: to subscribe or unsubscribe
twice is to do it once. A machine publishes an event once to each session in its audience, with
the index of the change as its first value; each subscription takes what has a larger index than
its own beginning. A session's end takes its subscriptions with it.
"""

from collections import deque
from collections.abc import Callable, Generator
from math import inf
from typing import Any, Generic, TypeVar

from copycat.errors import ClientClosed, InvalidArgument, OutcomeUnknown, SessionExpired
from copycat.machine import Commit, StateMachine, command, query
from copycat.resources.handle import HandleClient, Promise, forget
from copycat.resources.values import check_integer

T = TypeVar("T")

SUBSCRIPTIONS_PER_SESSION_MAX = 1_024
EVENTS_BUFFERED_MAX = 10_000
READ_IN_A_TURN = 16  # of events that are there already, before the loop does what else is due

_GAP = object()  # stands in the buffer where events may be missing


class PublishingMachine(StateMachine):
    """A machine that sessions subscribe to."""

    def __init__(self) -> None:
        self._audience: dict[int, list[int]] = {}  # session -> its subscriptions

    @command
    def subscribe(self, commit: Commit, number: int) -> int:
        """Returns the index behind which the subscription is told everything."""
        check_integer(number, "a subscription", minimum=0)
        numbers = self._audience.get(commit.session, [])
        if number not in numbers:
            if len(numbers) >= SUBSCRIPTIONS_PER_SESSION_MAX:
                raise InvalidArgument(
                    f"a session has at most {SUBSCRIPTIONS_PER_SESSION_MAX} subscriptions"
                )
            self._audience[commit.session] = [*numbers, number]
        return commit.index

    @command
    def unsubscribe(self, commit: Commit, number: int) -> bool:
        """Returns whether there was such a subscription."""
        numbers = self._audience.get(commit.session, [])
        if type(number) is not int or number not in numbers:
            return False
        numbers.remove(number)
        if not numbers:
            del self._audience[commit.session]
        return True

    @query
    def subscriptions(self) -> int:
        """How many there are in all sessions."""
        return sum(len(numbers) for numbers in self._audience.values())

    def session_ended(self, commit: Commit, session: int) -> None:
        self._audience.pop(session, None)

    def _tell(self, commit: Commit, event: str, *values: Any) -> None:
        if self._audience:
            commit.publish(self._audience, event, commit.index, *values)


class _Turn:
    """Awaited, it lets the loop do what is due, and goes on in the next turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class AsyncSubscription(Generic[T]):
    """Events of one resource: ``async with`` opens it, ``async for`` reads it, leaving closes it.

    It is told everything that is applied after it was opened, once and in order, or a gap item
    that says so: after the session was lost (the subscription then goes on in the client's new
    one, once the cluster is reachable again), or when its buffer had run over because nobody
    read. Reading waits without limit and raises ``ClientClosed`` when the client closes. One
    task reads at a time; while there is always more to read, the loop has a turn now and then, in
    which the client keeps its session alive.
    """

    def __init__(
        self,
        client: HandleClient,
        resource_id: int,
        read: Callable[[str, list[Any]], T],
        gap: Callable[[int], T],
        buffered_max: int,
    ) -> None:
        check_integer(buffered_max, "buffered_max", minimum=1)
        self._client = client
        self._resource = resource_id
        self._read = read
        self._gap = gap
        self._buffered_max = buffered_max
        self._number = 0  # 0: not opened yet
        self._since = 0  # what has this index or a smaller one is not for us
        self._buffer: deque[Any] = deque()
        self._wake: Promise[None] | None = None
        self._closed = False
        self._read_in_turn = 0

    async def __aenter__(self) -> "AsyncSubscription[T]":
        if self._number:
            raise InvalidArgument("a subscription is opened once; make a new one")
        self._number = self._client.new_number()
        self._client.listen(self._resource, self._event)
        self._client.on_session(self._session)
        try:
            self._since = await self._client.submit_command(
                self._resource, "subscribe", self._number
            )
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._close()

    def __aiter__(self) -> "AsyncSubscription[T]":
        return self

    async def __anext__(self) -> T:
        if not self._number:
            raise InvalidArgument("open the subscription first: async with ... as events")
        if self._wake is not None:
            raise InvalidArgument("somebody is waiting for this subscription already")
        self._read_in_turn += 1
        if self._read_in_turn > READ_IN_A_TURN:
            self._read_in_turn = 1
            await _Turn()
        while not self._closed:
            if not self._buffer:
                await self._more()
            elif self._buffer[0] is _GAP:
                return self._gap(await self._subscribe_again())
            else:
                name, values = self._buffer.popleft()
                if values[0] > self._since:
                    return self._read(name, values)
        raise StopAsyncIteration

    async def _more(self) -> None:
        self._wake = self._client.new_future()
        try:
            await self._wake
        finally:
            self._wake = None

    async def _subscribe_again(self) -> int:
        # Taken off before, so that a session lost from here on puts a gap of its own behind.
        self._buffer.popleft()
        while True:
            try:
                self._since = await self._client.submit_command(
                    self._resource, "subscribe", self._number, timeout_s=inf
                )
            except (SessionExpired, OutcomeUnknown):
                continue  # Another session was lost meanwhile; the client opens the next one.
            except BaseException:
                self._buffer.appendleft(_GAP)
                raise
            return self._since

    def _event(self, name: str, values: list[Any], _index: int) -> None:
        if len(self._buffer) >= self._buffered_max:
            self._buffer.clear()
            self._buffer.append(_GAP)
        else:
            self._buffer.append((name, values))
        self._woken()

    def _session(self, state: str, _session: int) -> None:
        if state in ("lost", "closed"):
            if not self._buffer or self._buffer[-1] is not _GAP:
                self._buffer.append(_GAP)
            self._woken()

    def _woken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._client.unlisten(self._resource, self._event)
        self._client.off_session(self._session)
        self._buffer.clear()
        self._woken()
        try:
            forget(
                self._client.submit_command(
                    self._resource, "unsubscribe", self._number, timeout_s=inf
                )
            )
        except ClientClosed:
            pass  # The session's end has taken the subscription with it.
