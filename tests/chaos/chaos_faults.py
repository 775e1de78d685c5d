"""Doing what a plan says to the servers of a world."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from chaos_plan import LANES, Plan, Step, cuts
from chaos_world import World, now_s
from copycat.client.status import Inquiry
from copycat.protocol.status import Status

ASK_S = 0.5
ASK_EVERY_S = 0.25
LOOK_EVERY_S = 0.1
SLOWEST_SYNC_S = 0.5
SYNCS_MAX = 40  # of those that go well before one fails
RESET_EVERY_S = 0.3
SLOWEST_LINK_S = 0.15
LINK_BYTES_PER_S = 250_000.0
FAR_LOSS = 0.1
BUSY_MAX = 4
STUTTER_S = 0.1
SESSIONS_MAX = 2_000
WRITERS = 32
WRITES_MAX = 1_000_000


class Faults:
    """The plan, as it is carried out.

    Attributes:
        done: how often each kind was.
        skipped: why kinds were left out.
        leaders: who led in each term, as far as it was seen.
        broken: what servers may never tell.
        tell: is told of each fault when it begins.
        leader: whoever was seen to lead last; "" before anybody was.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.done: Counter[str] = Counter()
        self.leaders: dict[int, str] = {}
        self.broken: list[str] = []
        self.leader = ""
        self.tell: Callable[[str], None] = print
        self._held: set[str] = set()
        tampering = ("slow syncs", "failing sync", "kill at a sync")
        self.skipped = {
            **dict.fromkeys(LANES["network"], world.no_networks),
            **dict.fromkeys(tampering, world.no_strace),
            "full disk": world.no_small_disk,
            "reset": world.no_resets,
            **dict.fromkeys(("slow links", "far away"), world.no_relay),
        }
        self.skipped = {kind: reason for kind, reason in self.skipped.items() if reason}
        self._ways: dict[str, Callable[[Step, list[str]], Awaitable[None]]] = {
            "slow syncs": self._tamper,
            "failing sync": self._tamper,
            "kill at a sync": self._tamper,
            "full disk": self._full_disk,
            "loss": self._lose,
            "reset": self._reset,
            "slow links": self._delay,
            "far away": self._delay,
            "starved core": self._starve,
            "stutter": self._stutter,
            "many sessions": self._crowd,
            "long log": self._crowd,
        }

    async def run(self, length_s: float) -> None:
        """Carry the plan out, and repair everything."""
        self._began_s = now_s()
        watching = asyncio.create_task(self.watch())
        minding = asyncio.create_task(self._mind())
        lanes = [asyncio.create_task(self._lane(steps)) for steps in self.plan.lanes.values()]
        try:
            await asyncio.gather(*lanes)
            await self._sleep_until(length_s)
        finally:
            for task in (*lanes, watching, minding):
                task.cancel()
            await asyncio.gather(*lanes, watching, minding, return_exceptions=True)
        self.start_all()
        for task in (watching, minding):
            if not task.cancelled():
                task.result()

    def start_all(self) -> None:
        """Let every server run."""
        self.world.look()
        for name in self.world.names:
            self.world.go_on(name)
            self.world.start(name)

    async def watch(self) -> None:
        """See who leads, for ever."""
        async with Inquiry(self.world.endpoints) as inquiry:
            while True:
                leading = [
                    answer
                    for answer in await inquiry.ask(ASK_S)
                    if isinstance(answer, Status) and answer.role == "leader"
                ]
                for status in leading:
                    other = self.leaders.setdefault(status.term, status.name)
                    if other != status.name:
                        self.broken.append(f"{other} and {status.name} lead in term {status.term}")
                if leading:
                    self.leader = max(leading, key=lambda status: status.term).name
                await asyncio.sleep(ASK_EVERY_S)

    async def _mind(self) -> None:
        """Start servers that have ended by themselves, but those that a fault keeps down."""
        while True:
            self.world.look()
            for name in self.world.names:
                if name not in self._held:
                    self.world.start(name)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, self._began_s + at_s - now_s()))

    async def _lane(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            await self._sleep_until(step.begin_s)
            if step.kind in self.skipped:
                continue
            names = step.names(self.leader)
            self.tell(f"{now_s() - self._began_s:8.1f} s  {step.told(names)}")
            way = self._ways.get(step.kind)
            if way is not None:
                await way(step, names)
            elif step.kind in LANES["network"]:
                await self._cut(step, names)
            else:
                await self._signal(step, names)
            self.done[step.kind] += 1

    async def _signal(self, step: Step, names: list[str]) -> None:
        world, length_s = self.world, step.end_s - step.begin_s
        what, how_many = step.kind.split()
        victims = names[: {"one": 1, "some": step.count, "all": len(names)}[how_many]]
        if what == "kill":
            self._held.update(victims)
            world.kill(*victims)
            await asyncio.sleep(0 if how_many == "all" else length_s)
            self._held.clear()
            return
        for name in victims:
            world.pause(name)
        try:
            await asyncio.sleep(length_s)
        finally:
            for name in victims:
                world.go_on(name)

    async def _cut(self, step: Step, names: list[str]) -> None:
        await self._impair(step, cut=cuts(step, names))

    async def _lose(self, step: Step, names: list[str]) -> None:
        lossy = {
            (source, target)
            for target in names[: step.count]
            for source in names
            if source != target
        }
        await self._impair(step, lossy=lossy)

    async def _impair(
        self,
        step: Step,
        cut: set[tuple[str, str]] | None = None,
        lossy: set[tuple[str, str]] | None = None,
    ) -> None:
        await asyncio.to_thread(self.world.let_pass, cut or set(), lossy or set())
        try:
            await asyncio.sleep(step.end_s - step.begin_s)
        finally:
            await asyncio.to_thread(self.world.let_pass)

    async def _reset(self, step: Step, names: list[str]) -> None:
        end_s = now_s() + step.end_s - step.begin_s
        while now_s() < end_s:
            await asyncio.to_thread(self.world.reset, names[0])
            await asyncio.sleep(RESET_EVERY_S)

    async def _delay(self, step: Step, names: list[str]) -> None:
        pairs = {pair for other in names[1:] for pair in ((names[0], other), (other, names[0]))}
        delay_s = SLOWEST_LINK_S * step.extent
        loss = FAR_LOSS if step.kind == "far away" else 0.0
        try:
            await asyncio.to_thread(self.world.relay, pairs, delay_s, LINK_BYTES_PER_S, loss)
            await asyncio.sleep(step.end_s - step.begin_s)
        finally:
            await asyncio.to_thread(self.world.relay, ())

    async def _starve(self, step: Step, names: list[str]) -> None:
        hungry = self.world.starve(names[0], 1 + round(BUSY_MAX * step.extent))
        try:
            await asyncio.sleep(step.end_s - step.begin_s)
        finally:
            self.world.feed(names[0], hungry)

    async def _stutter(self, step: Step, names: list[str]) -> None:
        end_s = now_s() + step.end_s - step.begin_s
        while now_s() < end_s:
            self.world.pause(names[0])
            try:
                await asyncio.sleep(STUTTER_S * step.extent)
            finally:
                self.world.go_on(names[0])
            await asyncio.sleep(STUTTER_S * (1 - step.extent))

    async def _crowd(self, step: Step, names: list[str]) -> None:
        """Its end is a kill: connections end at once, sessions expire together."""
        many = step.kind == "many sessions"
        sessions = round(SESSIONS_MAX * step.extent) if many else WRITERS
        crowd = self.world.crowd(sessions, 0 if many else WRITES_MAX)
        try:
            await asyncio.sleep(step.end_s - step.begin_s)
        finally:
            self.world.dismiss(crowd)

    async def lengthen(self, commands: int) -> None:
        """Let the log have so many commands more, in batches that are as small as they can be."""
        crowd = self.world.crowd(WRITERS, -(-commands // WRITERS))
        try:
            assert crowd.stdout is not None, "the crowd tells how far it is"
            for _ in range(2):
                await asyncio.to_thread(crowd.stdout.readline)
        finally:
            self.world.dismiss(crowd)

    async def _tamper(self, step: Step, names: list[str]) -> None:
        world, victim = self.world, names[0]
        after = 1 + int(SYNCS_MAX * step.extent)
        how = {
            "slow syncs": [f"delay_enter={int(1e6 * SLOWEST_SYNC_S * step.extent)}"],
            "failing sync": ["error=EIO" if step.extent < 0.5 else "error=ENOSPC", f"when={after}"],
            "kill at a sync": ["signal=KILL", f"when={after}"],
        }[step.kind]
        tracer = world.trace(victim, *how)
        if tracer is None:
            return
        world.servers[victim].disk_fails = step.kind != "slow syncs"
        self._held.add(victim)
        try:
            await asyncio.sleep(step.end_s - step.begin_s)
        finally:
            await asyncio.to_thread(world.detach, tracer)
            self._held.clear()

    async def _full_disk(self, step: Step, names: list[str]) -> None:
        """While there is no room, the leader is paused: whoever votes has to write that down."""
        world, victim = self.world, self.plan.small_disk
        world.servers[victim].disk_fails = True
        self._held.add(victim)
        await asyncio.to_thread(world.set_room, full=True)
        leader = self.leader or victim
        try:
            world.pause(leader)
            await asyncio.sleep(step.end_s - step.begin_s)
        finally:
            world.go_on(leader)
            await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.to_thread(world.set_room, full=False)
            self._held.clear()
