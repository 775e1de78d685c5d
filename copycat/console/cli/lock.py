"""``copycat lock run``: a command that runs while, and only while, a lock is held."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from copycat.console.cli import failures
from copycat.console.cli.parameters import DURATION
from copycat.console.cli.settings import SESSION_TIMEOUT_S, Settings, pass_settings

if TYPE_CHECKING:
    from copycat.resources import DistributedLock, LockGrant

SESSION_TIMEOUT_MIN_S = 1.0  # what servers allow
SESSION_TIMEOUT_MAX_S = 3600.0
REACH_MIN_S = 1.0  # that the cluster is given to be reached, however short the wait
LATE_S = 0.5  # after the wait, when the cluster should have said that the lock was not free
LOOK_EVERY_S = 0.1  # whether the lock is still held
GRACE_S = 10.0  # between TERM and KILL


@click.group("lock")
def command() -> None:
    """Hold a lock."""


@command.command("run", short_help="Run a command while holding the lock NAME.")
@click.argument("name")
@click.option(
    "--wait",
    "wait_s",
    type=DURATION,
    help="Give up after so long, with 3 if the lock was not free, with 4 or 5 if the cluster could not"
    " be reached; 0s only tries. Without it: wait for both for ever.",
)
@click.option(
    "--session-timeout",
    "session_timeout_s",
    type=DURATION,
    default=SESSION_TIMEOUT_S,
    help="Out of contact for so long we lose the lock to the next, from 1s to 1h; 10s if not"
    " given.",
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@pass_settings
@click.pass_context
def run(
    context: click.Context,
    settings: Settings,
    name: str,
    wait_s: float | None,
    session_timeout_s: float,
    words: tuple[str, ...],
) -> None:
    """Run a command while holding the lock NAME, and exit with its exit code.

    The command finds the fencing token in COPYCAT_FENCE: it is larger than that of every earlier
    holder, and whatever the lock protects should refuse smaller ones. If the lock is lost, the
    command gets TERM, ten seconds later KILL, and the exit code is 75.
    """
    if not SESSION_TIMEOUT_MIN_S <= session_timeout_s <= SESSION_TIMEOUT_MAX_S:
        raise click.BadParameter("from 1s to 1h", context, param_hint="--session-timeout")
    end_s = inf if wait_s is None else time.monotonic() + wait_s
    with ExitStack() as stack:
        reach_s = end_s if wait_s else end_s + settings.timeout_s
        lock = _reach(stack, settings, name, session_timeout_s, reach_s)
        left_s = None if wait_s is None else max(0.0, end_s - time.monotonic())
        from copycat.errors import LockTimeout

        late_s = None if left_s is None else left_s + LATE_S
        with _ended_after(late_s, LockTimeout(f"lock {name!r} was not free in time")):
            grant = lock.acquire(timeout_s=left_s)
        try:
            code = _hold(name, grant, words)
        finally:
            _give_back(grant, name, settings.timeout_s)
    context.exit(code)


def _reach(
    stack: ExitStack, settings: Settings, name: str, session_timeout_s: float, end_s: float
) -> "DistributedLock":
    """Open the lock, however often that has to be tried until then; say once that it has to be.

    Raises:
        NotApplied: the last attempt has failed, and the time is over.
    """
    from copycat.errors import NotApplied
    from copycat.resources import DistributedLock

    is_said = False
    while True:
        left_s = max(end_s - time.monotonic(), REACH_MIN_S)
        try:
            client = stack.enter_context(
                settings.client(session_timeout_s, min(left_s, settings.timeout_s))
            )
            return client.open(DistributedLock, name)
        except NotApplied as error:
            stack.close()
            if not error.retryable or time.monotonic() >= end_s:
                raise
            if not is_said:
                click.echo(f"copycat: {error}; trying again until it is there", err=True)
                is_said = True


def _give_back(grant: "LockGrant", name: str, timeout_s: float) -> None:
    """Release the lock if it is held still; who cannot reach the cluster leaves that to the session's
    end."""
    if grant.lost.is_set():
        return
    try:
        with _ended_after(timeout_s, TimeoutError()):
            grant.release()
    except TimeoutError:
        click.echo(
            f"copycat: lock {name!r} could not be given back: it passes on when the session ends",
            err=True,
        )


@contextmanager
def _ended_after(limit_s: float | None, error: Exception) -> Iterator[None]:
    """Raise this error within the block when the time is over, also when the cluster cannot say so:
    without a majority its time stands still. None: never."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s or 0.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _hold(name: str, grant: "LockGrant", words: tuple[str, ...]) -> int:
    """Run the command to its end, or to the end of the grant. Returns our exit code."""
    environment = {**os.environ, "COPYCAT_LOCK": name, "COPYCAT_FENCE": str(grant.token)}
    with _Signals() as signals:
        try:
            child = subprocess.Popen(words, env=environment)
        except FileNotFoundError:
            click.echo(f"copycat: {words[0]}: not found", err=True)
            return failures.NOT_FOUND
        except OSError as error:
            click.echo(f"copycat: {words[0]}: {error.strerror}", err=True)
            return failures.NOT_EXECUTABLE
        signals.pass_to(child)
        while not grant.lost.is_set():
            try:
                child.wait(LOOK_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                continue
        if grant.lost.is_set():
            _end(child, name)
            return failures.LOST
    if signals.received:
        return failures.SIGNALLED + signals.received[0]
    return child.returncode if child.returncode >= 0 else failures.SIGNALLED - child.returncode


def _end(child: "subprocess.Popen[bytes]", name: str) -> None:
    """The lock is lost: the command must not go on."""
    if child.poll() is not None:
        click.echo(f"copycat: lock {name!r} was lost while the command ended", err=True)
        return
    click.echo(f"copycat: lock {name!r} was lost; sending TERM to pid {child.pid}", err=True)
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        click.echo(f"copycat: pid {child.pid} is still there; sending KILL", err=True)
        child.kill()
        child.wait()


class _Signals:
    """Lets the command end by the signals that we get, so that the lock outlives it.

    Attributes:
        received: the signals that came, also before there was a command.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def pass_to(self, child: "subprocess.Popen[bytes]") -> None:
        """From now on; and what has come by now."""
        self._child = child
        for number in self.received:
            self._pass(number)

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        self._pass(number)

    def _pass(self, number: int) -> None:
        # A terminal has sent its Ctrl-C to the command as well.
        if self._child is not None and (number != signal.SIGINT or not sys.stdin.isatty()):
            self._child.send_signal(number)
