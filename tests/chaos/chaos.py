"""Chaos: real server processes are harmed while real clients work, and what these saw is checked.

``make chaos`` does that for twenty minutes; ``MINUTES=2 SERVERS=5 SEED=17`` for two, with five
servers and the plan of faults of that seed. The same seed gives the same plan, not the same run.
It ends with 0 if all is well, with 1 if not, and with 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from chaos_clients import Clients
from chaos_faults import Faults
from chaos_plan import draw
from chaos_report import Report
from chaos_world import END_S, World, now_s, unshared
from copycat.client.status import ask_status
from copycat.protocol.status import Status

ROOT = Path(__file__).resolve().parent.parent.parent
ERA_S = 30.0
ERAS_MIN = 3
ENDED = 130
"""The exit code of a run that was told to end."""

READY_S = 60.0
"""How long the servers may take to be of one mind when nothing is wrong."""


async def agreed(world: World) -> int:
    """Wait until all servers follow one leader and have applied the same. Returns up to where.

    Raises:
        TimeoutError: they do not get there.
    """
    seen: list[str] = []
    try:
        async with asyncio.timeout(READY_S):
            while True:
                answers = await ask_status(world.endpoints, timeout_s=1.0)
                told = [each for each in answers if isinstance(each, Status)]
                seen = [f"{each.name}: {each.role} {each.applied_index}" for each in told]
                if len(told) == len(world.names):
                    leaders = {each.leader for each in told}
                    ends = {each.applied_index for each in told}
                    if len(leaders) == len(ends) == 1 and "" not in leaders:
                        return ends.pop()
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TimeoutError(f"the servers do not come to the same end: {seen}") from None


async def harm(world: World, faults: Faults, clients: Clients, length_s: float) -> None:
    """The whole story: work under faults, everything repaired, all killed once more, a last look."""
    await agreed(world)
    await faults.lengthen(faults.plan.log_commands)
    await clients.work(faults.run(length_s))
    await agreed(world)
    world.kill(*world.names)
    faults.start_all()
    await agreed(world)
    async with asyncio.timeout(READY_S):
        await clients.look_again()
    world.look()


def inside(told: argparse.Namespace) -> int:
    """Run where the servers may be harmed. Returns the exit code."""
    length_s, servers = told.minutes * 60, told.servers
    plan = draw(told.seed, servers, length_s)
    names = [f"n{place}" for place in range(1, servers + 1)]
    world = World(told.inside, names, plan.small_disk, alone=told.alone)
    with world:
        faults = Faults(world, plan)
        clients = Clients(world.endpoints, told.seed, min(ERA_S, length_s / ERAS_MIN))
        report = Report(world, faults, clients, told.again)
        report.tell(told.again)
        began_s = now_s()
        try:
            asyncio.run(harm(world, faults, clients, length_s))
        except KeyboardInterrupt:
            report.tell_what_was_done(now_s() - began_s)
            return ENDED
        except TimeoutError as error:
            faults.broken.append(str(error) or f"the last look took longer than {READY_S:g} s")
    report.tell_what_was_done(now_s() - began_s)
    if report.tell_verdicts():
        return 0
    report.keep(ROOT / "build" / "chaos" / f"{servers}-servers-seed-{told.seed}")
    return 1


def outside(told: argparse.Namespace) -> int:
    """Run ``inside`` in namespaces of its own, and leave nothing behind. Returns its exit code."""
    before, refused = unshared()
    if refused:
        print(f"SKIPPED: {refused}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="copycat-chaos-"))
    words = [*before, sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    words += ["--inside", str(directory), "--alone", refused]
    words += ["--seed", str(told.seed)]

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(ENDED)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    child = subprocess.Popen(words)
    try:
        return child.wait()
    except KeyboardInterrupt:
        # Ctrl-C has reached the child, too, which still tells what was done.
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(END_S)
        return ENDED
    finally:
        if refused and child.poll() is None:
            child.send_signal(signal.SIGINT)
            child.wait(END_S)
        child.kill()  # with `unshare` everything goes that is inside
        child.wait()
        end_s = now_s() + END_S
        while directory.exists() and now_s() < end_s:  # the last processes may still write there
            shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--servers", type=int, default=3, choices=(3, 5))
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--alone", default="", help=argparse.SUPPRESS)
    told = parser.parse_args()
    told.again = f"make chaos MINUTES={told.minutes:g} SERVERS={told.servers} SEED={told.seed}"
    sys.exit(inside(told) if told.inside else outside(told))


if __name__ == "__main__":
    main()
