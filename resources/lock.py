"""The lock: held by one grant at a time, each with a token that is larger than all before.

A lock is held by a session, and a session can end without its client's knowing at once: a
program that was paused may believe for a moment that it still holds what another one has been
given. Hence the tokens: pass yours with every write to whatever the lock protects, and let that
refuse a token smaller than the largest it has seen.
"""

from contextlib import suppress
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, cast

from copycat.errors import (
    ClientClosed,
    InvalidArgument,
    InvalidType,
    LockLost,
    LockTimeout,
    NotApplied,
    OutcomeUnknown,
    SessionExpired,
)
from copycat.machine import Commit, StateMachine, command, query
from copycat.protocol.client import Consistency
from copycat.resources.handle import AsyncHandle, HandleClient, Promise, forget
from copycat.resources.values import check_integer

WAIT_S_MAX = 1_000_000_000.0
"""The longest limited wait for a lock, some thirty years."""


class LockMachine(StateMachine):
    """The replicated side of a lock: the holder, and a queue in the order of requests.

    A request is a number that the client draws, of one session. It is answered by a token, or
    queued and answered by one event, ``granted`` or ``timed_out``, never by both: whichever the
    log has first takes the request out of the queue.
    """

    def __init__(self) -> None:
        self._holder: list[int] | None = None  # session, request, token
        self._queue: dict[int, list[Any]] = {}  # ticket -> [session, request, timer or None]
        self._tickets: dict[int, dict[int, int]] = {}  # session -> {request: ticket}
        self._last_token = 0

    @command
    def acquire(self, commit: Commit, request: int, timeout_s: float | None) -> int | None:
        """Returns the token, None when the request is queued, or 0 when it may not wait."""
        check_integer(request, "a request", minimum=0)
        _check_timeout(timeout_s)
        if self._holder is not None and self._holder[:2] == [commit.session, request]:
            return self._holder[2]
        if request in self._tickets.get(commit.session, {}):
            return None
        if self._holder is None:
            assert not self._queue, "nobody waits for a free lock"
            return self._grant(commit, commit.session, request)
        if timeout_s == 0:
            return 0
        ticket = commit.index
        timer = None if timeout_s is None else commit.schedule(timeout_s, self.time_out, ticket)
        self._queue[ticket] = [commit.session, request, timer]
        self._tickets.setdefault(commit.session, {})[request] = ticket
        return None

    @command
    def release(self, commit: Commit, token: int) -> bool:
        """Returns whether this session held the lock under this token until now."""
        check_integer(token, "a token", minimum=0)
        holder = self._holder
        if holder is None or holder[0] != commit.session or holder[2] != token:
            return False
        self._pass_on(commit)
        return True

    @command
    def cancel(self, commit: Commit, request: int) -> bool:
        """Take back a request, queued or granted. Returns whether there was one."""
        check_integer(request, "a request", minimum=0)
        if self._holder is not None and self._holder[:2] == [commit.session, request]:
            self._pass_on(commit)
            return True
        ticket = self._tickets.get(commit.session, {}).get(request)
        if ticket is None:
            return False
        self._leave(commit, ticket)
        return True

    @query
    def holder(self) -> list[int] | None:
        """Returns session and token."""
        return None if self._holder is None else [self._holder[0], self._holder[2]]

    @query
    def waiting(self) -> int:
        return len(self._queue)

    def time_out(self, commit: Commit, ticket: int) -> None:
        """A queued request has waited for as long as it wanted to."""
        if ticket in self._queue:
            session, request, _ = self._queue[ticket]
            self._leave(commit, ticket)
            commit.publish(session, "timed_out", request)

    def session_ended(self, commit: Commit, session: int) -> None:
        # Its requests go first, so that the lock is not passed from the session to itself.
        for ticket in list(self._tickets.get(session, {}).values()):
            self._leave(commit, ticket)
        if self._holder is not None and self._holder[0] == session:
            self._pass_on(commit)

    def _grant(self, commit: Commit, session: int, request: int) -> int:
        # Several sessions may end at one index, and each end may grant.
        self._last_token = max(commit.index, self._last_token + 1)
        self._holder = [session, request, self._last_token]
        return self._last_token

    def _pass_on(self, commit: Commit) -> None:
        """Give the lock to whoever has waited longest."""
        self._holder = None
        if self._queue:
            ticket = next(iter(self._queue))
            session, request, _ = self._queue[ticket]
            self._leave(commit, ticket)
            commit.publish(session, "granted", request, self._grant(commit, session, request))

    def _leave(self, commit: Commit, ticket: int) -> None:
        session, request, timer = self._queue.pop(ticket)
        del self._tickets[session][request]
        if not self._tickets[session]:
            del self._tickets[session]
        if timer is not None:
            commit.cancel(timer)


def _check_timeout(timeout_s: object) -> None:
    if timeout_s is None:
        return
    if type(timeout_s) not in (int, float):
        raise InvalidType(f"timeout_s is a number or None, not {type(timeout_s).__qualname__}")
    timeout = cast("float", timeout_s)
    if not 0 <= timeout <= WAIT_S_MAX:  # nor what is no number
        raise InvalidArgument(f"timeout_s is from 0 to {WAIT_S_MAX:.0f} seconds")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: a session, and the token it was granted."""

    session: int
    token: int


class AsyncLost:
    """The signal that a grant is held no longer, or that this cannot be known any more."""

    def __init__(self, client: HandleClient) -> None:
        self._client = client
        self._is_set = False
        self._waiting: list[Promise[None]] = []

    def is_set(self) -> bool:
        """Whether the grant is lost. It never becomes False again."""
        return self._is_set

    async def wait(self) -> None:
        """Wait until the grant is lost: for ever, if it is released before."""
        if not self._is_set:
            waiting = self._client.new_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)

    def _set(self) -> None:
        self._is_set = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class AsyncLockGrant:
    """A lock that is held: ``async with`` it, or ``release()`` it.

    Leaving the ``async with`` block releases the lock; if it was lost meanwhile, leaving raises
    ``LockLost``, unless another exception is on its way. A lost grant is never taken again by
    itself.

    Attributes:
        token: larger than the token of every earlier grant of this lock.
        lost: set when the session ended, or was out of contact for so long that it may have.
    """

    def __init__(self, lock: "AsyncDistributedLock", token: int) -> None:
        self.token = token
        self.lost = AsyncLost(lock._client)
        self._lock = lock
        self._released = False

    def check(self) -> None:
        """Do nothing while the lock is held, as far as this client knows.

        Raises:
            LockLost: it was lost, or has been released.
        """
        if self.lost.is_set():
            raise self._lost()
        if self._released:
            raise LockLost(f"lock {self._lock.name!r} (token {self.token}) has been released")

    async def release(self) -> bool:
        """Give the lock back. Returns whether it was held until now; False if called again.

        Waits until the lock is known to be free or lost, at most for the session's timeout. The
        release is carried out also when this call is cancelled.
        """
        if self._released:
            return False
        held = await self._lock._release(self)
        if not held:
            self.lost._set()
        return held

    async def __aenter__(self) -> "AsyncLockGrant":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._released and not await self.release() and error is None:
            raise self._lost()

    def __repr__(self) -> str:
        status = "lost" if self.lost.is_set() else "released" if self._released else "held"
        return f"<{type(self).__name__} {self._lock.name!r}, token {self.token}, {status}>"

    def _lost(self) -> LockLost:
        return LockLost(
            f"lock {self._lock.name!r} (token {self.token}) was lost: its session ended or was "
            "out of contact; another holder with a larger token may be at work"
        )


class AsyncDistributedLock(AsyncHandle):
    """A lock that one program at a time holds, for asyncio.

    Whoever has waited longest gets it next. It is not reentrant: a second ``acquire`` in the same
    client waits like any other. A lock whose holder's session ends goes to the next.
    """

    resource_type = "lock"
    resource_version = LockMachine.version

    def __init__(self, client: HandleClient, resource_id: int, name: str) -> None:
        super().__init__(client, resource_id, name)
        self._requests: dict[int, Promise[int | None]] = {}  # settled by token, 0 or None: lost
        self._grants: dict[int, AsyncLockGrant] = {}  # by token

    async def acquire(self, *, timeout_s: float | None = None) -> AsyncLockGrant:
        """Wait for the lock.

        Args:
            timeout_s: how long to wait in the queue, in log time, which stands still while the
                cluster has no leader. None waits for as long as it takes.

        Raises:
            LockTimeout: the time has passed. The request has been taken back.
            SessionExpired: the session was lost while waiting, and the place in the queue with it.
        """
        grant = await self._acquire(None if timeout_s == inf else timeout_s)
        if grant is None:
            raise LockTimeout(f"lock {self.name!r} was not free within {timeout_s} s")
        return grant

    async def try_acquire(self) -> AsyncLockGrant | None:
        """Take the lock if it is free; None if it is not."""
        return await self._acquire(0)

    async def holder(
        self,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> Holder | None:
        """Who holds the lock, or None when it is free."""
        found = await self._query("holder", consistency=consistency, timeout_s=timeout_s)
        return None if found is None else Holder(session=found[0], token=found[1])

    async def waiting(
        self,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> int:
        """How many requests are in the queue."""
        count = await self._query("waiting", consistency=consistency, timeout_s=timeout_s)
        return cast("int", count)

    async def _acquire(self, wait_s: float | None) -> AsyncLockGrant | None:
        _check_timeout(wait_s)
        client, session = self._client, self._client.session_id
        # The request is brought to the cluster for at least as long as it may wait there.
        deadline_s = inf if wait_s is None else max(wait_s, client.timeout_s)
        request, settled = client.new_number(), client.new_future()
        self._listen()
        self._requests[request] = settled
        try:
            token = await self._command("acquire", request, wait_s, timeout_s=deadline_s)
            if token is None:
                token = await settled
            if token == 0:
                return None
            if token is None or client.state != "connected":
                self._withdraw(request)
                raise self._session_lost()
            grant = self._grants[token] = AsyncLockGrant(self, token)
        except NotApplied:
            raise
        except OutcomeUnknown:
            self._withdraw(request)
            if session not in (0, client.session_id) or client.state == "closed":
                raise self._session_lost() from None
            raise LockTimeout(f"nobody answered the request for lock {self.name!r}") from None
        except BaseException:
            self._withdraw(request)
            raise
        finally:
            del self._requests[request]
            self._unlisten_if_idle()
        return grant

    def _session_lost(self) -> SessionExpired:
        return SessionExpired(f"the session was lost while lock {self.name!r} was awaited")

    def _withdraw(self, request: int) -> None:
        """See to it that a request nobody awaits any more does not keep the lock."""
        try:
            forget(self._command("cancel", request, timeout_s=inf))
        except ClientClosed:
            pass  # The session's end takes the request with it.

    async def _release(self, grant: AsyncLockGrant) -> bool:
        answer: Promise[Any] | None = None
        with suppress(SessionExpired, OutcomeUnknown, ClientClosed):
            # Also when it seems lost: the session may live on and would keep the lock for ever. Who is
            # refused because of his event loop holds it as before.
            answer = self._command("release", grant.token, timeout_s=inf)
        grant._released = True
        self._grants.pop(grant.token, None)
        self._unlisten_if_idle()
        if answer is None:
            return False
        if grant.lost.is_set():
            forget(answer)
            return False
        try:
            return cast("bool", await answer)
        except (SessionExpired, OutcomeUnknown, ClientClosed):
            return False

    def _listen(self) -> None:
        if not self._requests and not self._grants:
            self._client.listen(self._resource, self._event)
            self._client.on_session(self._session)

    def _unlisten_if_idle(self) -> None:
        if not self._requests and not self._grants:
            self._client.unlisten(self._resource, self._event)
            self._client.off_session(self._session)

    def _event(self, name: str, values: list[Any], _index: int) -> None:
        # One that is not awaited here is another handle's, or withdrawn.
        settled = self._requests.get(values[0])
        if settled is not None and not settled.done():
            settled.set_result(values[1] if name == "granted" else 0)

    def _session(self, state: str, _session: int) -> None:
        if state in ("suspended", "lost", "closed"):
            for grant in self._grants.values():
                grant.lost._set()
        if state in ("lost", "closed"):
            for settled in self._requests.values():
                if not settled.done():
                    settled.set_result(None)
