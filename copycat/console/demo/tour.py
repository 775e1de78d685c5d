"""The tour: what is shown, in which order, and what is said about it."""

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from copycat.client.asynchronous import AsyncClient
from copycat.console.cli import failures
from copycat.console.dashboard.live import snapshot
from copycat.console.demo.load import Load, audit
from copycat.console.playground import Playground
from copycat.resources import (
    AsyncDistributedCounter,
    AsyncDistributedLock,
    AsyncDistributedMap,
    AsyncDistributedTopic,
)

SERVERS = 3
START_TIMEOUT_S = 20.0
LOAD_TIMEOUT_S = 20.0
WRITES_BEFORE = 400
WRITES_AFTER = 400
CALL_TIMEOUT_S = 15.0
LOOK_TIMEOUT_S = 1.0


class Tour:
    """One demo, with its servers and its console."""

    def __init__(self, console: Console, playground: Playground) -> None:
        self._console = console
        self._playground = playground
        self._step = 0

    async def walk(self) -> bool:
        """The whole tour. Returns whether nothing acknowledged was lost."""
        await self._start()
        endpoints = self._playground.endpoints()
        async with AsyncClient(*endpoints, timeout_s=CALL_TIMEOUT_S, name="demo") as client:
            async with AsyncClient(*endpoints, timeout_s=CALL_TIMEOUT_S, name="other") as other:
                await self._show_map(client, other)
                await self._show_counter(client, other)
                await self._show_lock(client, other)
                await self._show_topic(client, other)
            self._title("The picture that `copycat top` shows")
            await self._show_picture()
            return await self._show_crash(client)

    async def _start(self) -> None:
        self._title(f"{SERVERS} servers on this machine, each with a log of its own on disk")
        began_s = time.monotonic()
        self._playground.start(SERVERS)
        leader = await self._playground.elect(START_TIMEOUT_S)
        for process in self._playground.processes():
            self._say(f"{process.name}  {process.endpoint}  pid {process.pid}")
        self._say(f"{leader} was elected leader after {time.monotonic() - began_s:.2f} s")

    async def _show_map(self, client: AsyncClient, other: AsyncClient) -> None:
        self._title("A map: what one program puts, every other one sees")
        users: AsyncDistributedMap[str, Any] = await client.open(AsyncDistributedMap, "users")
        same: AsyncDistributedMap[str, Any] = await other.open(AsyncDistributedMap, "users")
        self._code('users.put("ann", {"plan": "free"})')
        await users.put("ann", {"plan": "free"})
        entry = await same.get_entry("ann")
        assert entry is not None, "a linearizable read sees what was acknowledged"
        self._code('users.get_entry("ann")   # another program', entry)
        changed = await users.replace("ann", {"plan": "pro"}, version=entry.version)
        self._code(f'users.replace("ann", {{"plan": "pro"}}, version={entry.version})', changed)
        late = await same.replace("ann", {"plan": "none"}, version=entry.version)
        self._code("the same replace by the other program, which comes too late", late)
        self._code('users.get("ann")', await same.get("ann"))

    async def _show_counter(self, client: AsyncClient, other: AsyncClient) -> None:
        self._title("A counter: each increment counts once, however often it had to be sent")
        mine = await client.open(AsyncDistributedCounter, "hits")
        theirs = await other.open(AsyncDistributedCounter, "hits")
        await asyncio.gather(*[hits.increment() for hits in (mine, theirs) for _ in range(500)])
        self._code("500 times hits.increment() by each of two programs, all at once")
        self._code("hits.value()", await mine.value())

    async def _show_lock(self, client: AsyncClient, other: AsyncClient) -> None:
        self._title("A lock: one holder at a time, with a token that only grows")
        mine = await client.open(AsyncDistributedLock, "nightly")
        theirs = await other.open(AsyncDistributedLock, "nightly")
        grant = await mine.acquire(timeout_s=CALL_TIMEOUT_S)
        self._code("grant = lock.acquire(); grant.token", grant.token)
        self._code("lock.try_acquire()   # another program", await theirs.try_acquire())
        waiting = asyncio.ensure_future(theirs.acquire(timeout_s=CALL_TIMEOUT_S))
        await grant.release()
        later = await waiting
        self._code("grant.release(); the other one, which waited, has token", later.token)
        await later.release()

    async def _show_topic(self, client: AsyncClient, other: AsyncClient) -> None:
        self._title("A topic: all who listen read the same messages in the same order")
        speaker: AsyncDistributedTopic[str] = await client.open(AsyncDistributedTopic, "lobby")
        listener: AsyncDistributedTopic[str] = await other.open(AsyncDistributedTopic, "lobby")
        async with listener.subscribe() as messages:
            for text in ("hello", "world"):
                await speaker.publish(text)
                self._code(f'lobby.publish("{text}")')
            self._code("for message in messages", [await anext(messages) for _ in range(2)])

    async def _show_crash(self, client: AsyncClient) -> bool:
        self._title("A crash: the leader is killed with kill -9 while four programs write")
        async with Load(self._playground.endpoints()) as load:
            await load.get_on(WRITES_BEFORE, LOAD_TIMEOUT_S)
            before = len(load.account.times_s)
            leader = await self._leader()
            killed_s = time.monotonic()
            self._playground.kill(leader)
            self._say(f"{before} writes were acknowledged, then {leader} was killed")
            await load.get_on(WRITES_AFTER, LOAD_TIMEOUT_S)
            successor = await self._leader()
            gap_s = load.account.gap_s(killed_s)
            self._say(f"{successor} leads now; for {gap_s:.2f} s nobody's write was acknowledged")
            await self._show_picture()
            self._say(f"{leader} is started again, with the files it had")
            self._playground.restart(leader)
            await self._playground.elect(START_TIMEOUT_S)
            await load.get_on(WRITES_AFTER, LOAD_TIMEOUT_S)
            await load.finish()
        account = load.account
        verdict = await audit(client, account)
        self._title("The account")
        self._say(f"map entries acknowledged   {len(account.acknowledged):>6}")
        self._say(f"  of those lost            {len(verdict.lost):>6}")
        self._say(f"increments acknowledged    {account.increments:>6}")
        self._say(f"  outcome unknown          {account.unknown:>6}")
        self._say(f"  the counter says         {verdict.count:>6}")
        if verdict.is_exact:
            self._console.print("\nNothing that was acknowledged is lost.", style="bold green")
        else:
            self._console.print("\nTHE ACCOUNT DOES NOT BALANCE.", style="bold red")
        return verdict.is_exact

    async def _leader(self) -> str:
        return await self._playground.elect(START_TIMEOUT_S, servers=SERVERS // 2 + 1)

    async def _show_picture(self) -> None:
        await snapshot(self._console, self._playground.endpoints(), LOOK_TIMEOUT_S)

    def _title(self, text: str) -> None:
        self._step += 1
        self._print(f"\n{self._step}. {text}", "bold")

    def _say(self, text: str) -> None:
        self._print(f"   {text}")

    def _code(self, text: str, *result: Any) -> None:
        self._print(f"   {text}" + "".join(f"  ->  {each!r}" for each in result))

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def run() -> int:
    """Run the demo on servers of its own. Returns the exit code; they are gone then.

    Raises:
        KeyboardInterrupt: Ctrl-C; they are gone as well.
    """
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="copycat-demo-"))
    playground = Playground(directory)
    try:
        return asyncio.run(_run(Tour(console, playground)))
    finally:
        playground.stop(force=True, wipe=True)


async def _run(tour: Tour) -> int:
    """Walk, and turn TERM and HUP into an orderly end."""
    received: list[int] = []
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return failures.DONE if await tour.walk() else failures.CHECK_FAILED
    except asyncio.CancelledError:
        if not received:
            raise
        return failures.SIGNALLED + received[0]
