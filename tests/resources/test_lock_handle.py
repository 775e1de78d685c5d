"""The lock's handle: grants, time-outs, cancellation, and what it says when it cannot know."""

import asyncio
from math import inf, nan

import pytest

from copycat.errors import (
    ClientClosed,
    InvalidArgument,
    InvalidType,
    LockLost,
    LockTimeout,
    NoLeader,
    OutcomeUnknown,
    SessionExpired,
)
from copycat.resources.lock import AsyncDistributedLock, LockMachine
from driven import RESOURCE
from fake_client import FakeClient, FakeCluster, run, settle


def locks(count: int) -> tuple[FakeCluster, list[FakeClient], list[AsyncDistributedLock]]:
    """A lock as several clients see it."""
    cluster = FakeCluster(LockMachine)
    clients = [cluster.client() for _ in range(count)]
    return cluster, clients, [AsyncDistributedLock(one, RESOURCE, "nightly") for one in clients]


def test_the_lock_is_passed_on_in_order() -> None:
    """Waiters get it one after another, each with a larger token, and it is free at the end."""

    async def main() -> None:
        _cluster, clients, (first, second, third) = locks(3)
        order: list[str] = []

        async def work(name: str, lock: AsyncDistributedLock) -> int:
            async with await lock.acquire() as grant:
                order.append(name)
                grant.check()
                assert (await lock.holder()).token == grant.token  # type: ignore[union-attr]
                return grant.token

        async with await first.acquire() as grant:
            tasks = [
                asyncio.create_task(work("second", second)),
                asyncio.create_task(work("third", third)),
            ]
            await settle()
            assert await first.waiting() == 2
            assert order == []
            assert await third.try_acquire() is None
        tokens = [grant.token, *[await task for task in tasks]]
        assert order == ["second", "third"]
        assert tokens == sorted(set(tokens))
        assert await first.holder() is None
        assert not any(client.listeners or client.session_listeners for client in clients)

    run(main())


def test_a_wait_ends_by_log_time() -> None:
    """The time-out is an error that says that nothing is held; the queue is empty then."""

    async def main() -> None:
        cluster, _clients, (first, second) = locks(2)
        grant = await first.acquire()
        waiting = asyncio.create_task(second.acquire(timeout_s=5))
        await settle()
        cluster.pass_time(4.9)
        await settle()
        assert not waiting.done()
        cluster.pass_time(0.2)
        with pytest.raises(LockTimeout, match="within 5 s"):
            await waiting
        assert await first.waiting() == 0
        assert await grant.release()
        assert not await grant.release()
        assert grant.lost.is_set() is False

    run(main())


def test_the_request_travels_for_as_long_as_it_may_wait() -> None:
    """The deadline of the command is never shorter than the wait, nor than the client's own."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        for wait_s in (None, inf, 60.0, 0.001):
            await (await lock.acquire(timeout_s=wait_s)).release()
        asked = [call[1:] for call in client.submitted if call[0] == "acquire"]
        assert [(arguments[1], deadline) for arguments, deadline in asked] == [
            (None, inf),
            (None, inf),
            (60.0, 60.0),
            (0.001, 5.0),
        ]

    run(main())


@pytest.mark.parametrize("reached", ["sent", "queued", "granted"])
def test_a_cancelled_acquire_leaves_no_ghost(reached: str) -> None:
    """Wherever the request was when its task was cancelled, the lock is free afterwards."""

    async def main() -> None:
        cluster, (holder, waiter), (first, second) = locks(2)
        grant = await first.acquire()
        waiter.silent = reached == "sent"
        waiting = asyncio.create_task(second.acquire())
        await settle()
        if reached == "granted":
            # The event has arrived, and the task is cancelled before it runs.
            assert cluster.driver.command(holder.session_id, "release", grant.token)
            cluster.deliver()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        waiter.speak()
        await settle()
        await grant.release()
        assert await first.holder() is None
        assert await first.waiting() == 0

    run(main())


def test_an_unanswered_acquire_is_taken_back() -> None:
    """When nobody answers in time, a grant that comes later is given back at once."""

    async def main() -> None:
        cluster, (client,), (lock,) = locks(1)
        client.silent = True
        waiting = asyncio.create_task(lock.acquire(timeout_s=1))
        await settle()
        ((future, late),) = client.unanswered
        client.unanswered.clear()
        future.set_exception(OutcomeUnknown("no answer"))
        with pytest.raises(LockTimeout, match="nobody answered"):
            await waiting
        late()
        assert cluster.driver.query("holder") is not None
        client.speak()
        await settle()
        assert cluster.driver.query("holder") is None

    run(main())


def test_an_acquire_that_was_not_applied_says_so() -> None:
    """What certainly did not happen needs no taking back, and keeps its own error."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        client.silent = True
        waiting = asyncio.create_task(lock.acquire())
        await settle()
        client.fail(NoLeader("none"))
        with pytest.raises(NoLeader):
            await waiting
        assert [call[0] for call in client.submitted] == ["acquire"]

    run(main())


@pytest.mark.parametrize("state", ["suspended", "lost", "closed"])
def test_a_grant_is_lost_when_the_session_is_in_doubt(state: str) -> None:
    """The holder learns of it at once, everywhere it may look, and leaving the block raises."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        with pytest.raises(LockLost, match="nightly"):
            async with await lock.acquire() as grant:
                told = asyncio.create_task(grant.lost.wait())
                await settle()
                assert not told.done()
                client.turn(state)
                await told
                assert grant.lost.is_set()
                with pytest.raises(LockLost, match="token"):
                    grant.check()

    run(main())


def test_a_lock_in_doubt_is_given_back_all_the_same() -> None:
    """A session that turns out to be alive does not keep a lock that its client gave up."""

    async def main() -> None:
        _cluster, (client, _), (lock, other) = locks(2)
        grant = await lock.acquire()
        client.out_of_contact = True
        client.turn("suspended")
        assert not await grant.release()
        assert await other.try_acquire() is None
        client.speak()
        client.turn("connected")
        await settle()
        assert grant.lost.is_set(), "a lost grant does not come back"
        assert await other.try_acquire() is not None

    run(main())


def test_a_grant_that_comes_with_the_doubt_is_given_back() -> None:
    """Between the event and its reader the session falls into doubt: there is no grant."""

    async def main() -> None:
        cluster, (holder, waiter), (first, second) = locks(2)
        grant = await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await settle()
        cluster.driver.command(holder.session_id, "release", grant.token)
        cluster.deliver()
        waiter.turn("suspended")
        with pytest.raises(SessionExpired):
            await waiting
        await settle()
        assert await first.holder() is None

    run(main())


def test_a_lock_that_expired_is_lost_though_nobody_said_so() -> None:
    """A release that finds another holder frees nothing, and leaving the block raises."""

    async def main() -> None:
        cluster, (client, _), (lock, other) = locks(2)
        grant = await lock.acquire()
        cluster.driver.command(client.session_id, "release", grant.token)
        theirs = await other.acquire()
        with pytest.raises(LockLost):
            async with grant:
                pass
        assert (await other.holder()).token == theirs.token  # type: ignore[union-attr]

    run(main())


def test_an_error_in_the_block_is_not_hidden() -> None:
    """Losing the lock is the lesser news when the block itself fails."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        with pytest.raises(ZeroDivisionError):
            async with await lock.acquire():
                client.turn("lost")
                raise ZeroDivisionError

    run(main())


def test_a_waiter_learns_of_a_lost_session() -> None:
    """It does not wait for an event that cannot come, and holds nothing in the new session."""

    async def main() -> None:
        _cluster, (_, client), (first, second) = locks(2)
        grant = await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await settle()
        client.lose_session()
        with pytest.raises(SessionExpired):
            await waiting
        client.silent = True
        waiting = asyncio.create_task(second.acquire())
        await settle()
        client.lose_session()
        with pytest.raises(SessionExpired):
            await waiting
        await grant.release()
        assert await second.try_acquire() is not None

    run(main())


def test_a_waiter_of_a_client_without_a_session_may_still_get_the_lock() -> None:
    """A request made while the client connects belongs to the session that comes."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        session, client.session_id, client.state = client.session_id, 0, "connecting"
        client.silent = True
        waiting = asyncio.create_task(lock.acquire())
        await settle()
        (future, _), *_ = client.unanswered
        client.unanswered.clear()
        client.session_id, client.state = session, "connected"
        future.set_result(77)
        assert (await waiting).token == 77

    run(main())


def test_a_release_is_finished_without_its_task() -> None:
    """Cancelling a release neither stops it nor leaves the lock held."""

    async def main() -> None:
        _cluster, (client,), (lock,) = locks(1)
        grant = await lock.acquire()
        client.silent = True
        releasing = asyncio.create_task(grant.release())
        await settle()
        releasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        client.speak()
        assert await lock.holder() is None

    run(main())


def test_a_closed_client_acquires_nothing() -> None:
    """Closing ends a wait, and later calls say why they fail."""

    async def main() -> None:
        _, (_, client), (first, second) = locks(2)
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await settle()
        client.close()
        with pytest.raises(SessionExpired):
            await waiting
        with pytest.raises(ClientClosed):
            await second.acquire()

    run(main())


def test_closing_ends_a_request_that_nobody_has_answered() -> None:
    """It is not told as a lock that was not free: who waits for as long as it takes has no time-out,
    and a retry in a closed client is in vain."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        client.silent = True
        waiting = asyncio.create_task(lock.acquire())
        await settle()
        client.close()
        with pytest.raises(SessionExpired):
            await waiting

    run(main())


def test_what_another_event_loop_asks_for_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client refuses it: a grant is held as before, told when it is lost, and released by its own
    loop; no listener stays behind for a request that was not made."""

    def refuse(*_: object, **__: object) -> None:
        raise InvalidArgument("this client belongs to another event loop")

    async def main() -> None:
        _, (client, other), (lock, others) = locks(2)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(client, "new_future", refuse)
            with pytest.raises(InvalidArgument):
                await lock.acquire()
        assert not client.listeners
        assert not client.session_listeners
        grant = await lock.acquire()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(client, "submit_command", refuse)
            with pytest.raises(InvalidArgument):
                await grant.release()
        grant.check()
        assert client.session_listeners
        assert await grant.release()
        assert not client.session_listeners
        assert await others.try_acquire() is not None
        assert other.listeners

    run(main())


def test_two_requests_of_one_client_are_told_apart() -> None:
    """Two handles, or two tasks, of one session wait for each other like strangers."""

    async def main() -> None:
        _cluster, (client,), (lock,) = locks(1)
        again = AsyncDistributedLock(client, RESOURCE, "nightly")
        grant = await lock.acquire()
        waiting = [asyncio.create_task(one.acquire()) for one in (again, lock)]
        await settle()
        assert not any(task.done() for task in waiting)
        await grant.release()
        await settle()
        assert [task.done() for task in waiting] == [True, False]
        await (await waiting[0]).release()
        await (await waiting[1]).release()

    run(main())


def test_wrong_waits_are_refused_before_anything_is_sent() -> None:
    """A mistake costs no round trip."""

    async def main() -> None:
        _, (client,), (lock,) = locks(1)
        with pytest.raises(InvalidArgument):
            await lock.acquire(timeout_s=-1)
        with pytest.raises(InvalidArgument):
            await lock.acquire(timeout_s=nan)
        with pytest.raises(InvalidArgument):
            await lock.acquire(timeout_s=10**400)  # larger than any float
        with pytest.raises(InvalidType):
            await lock.acquire(timeout_s="5")  # type: ignore[arg-type]
        assert not client.submitted
        assert repr(lock) == "<AsyncDistributedLock 'nightly'>"

    run(main())
