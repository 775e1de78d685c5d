"""``copycat lock run``: a command that runs while, and only while, a lock is held."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from copycat.console.cli import failures
from copycat.console.cli.parameters import DURATION
from copycat.console.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from copycat.resources import LockGrant

LOOK_EVERY_S = 0.1  # whether the lock is still held
GRACE_S = 10.0  # between TERM and KILL


@click.group("lock")
def command() -> None:
    """Hold a lock."""


@command.command("run")
@click.argument("name")
@click.option(
    "--wait",
    "wait_s",
    type=DURATION,
    help="Give up, and exit with 3, after so long; 0s only tries. Without it: wait for ever.",
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@pass_settings
@click.pass_context
def run(
    context: click.Context,
    settings: Settings,
    name: str,
    wait_s: float | None,
    words: tuple[str, ...],
) -> None:
    """Run a command while holding the lock NAME, and exit with its exit code.

    The command finds the fencing token in COPYCAT_FENCE: it is larger than that of every earlier
    holder, and whatever the lock protects should refuse smaller ones. If the lock is lost, the
    command gets TERM, ten seconds later KILL, and the exit code is 75.
    """
    with settings.client() as client:
        from copycat.resources import DistributedLock

        grant = client.open(DistributedLock, name).acquire(timeout_s=wait_s)
        try:
            code = _hold(name, grant, words)
        finally:
            if not grant.lost.is_set():
                grant.release()
    context.exit(code)


def _hold(name: str, grant: "LockGrant", words: tuple[str, ...]) -> int:
    """Run the command to its end, or to the end of the grant. Returns our exit code."""
    environment = {**os.environ, "COPYCAT_LOCK": name, "COPYCAT_FENCE": str(grant.token)}
    try:
        child = subprocess.Popen(words, env=environment)
    except FileNotFoundError:
        click.echo(f"copycat: {words[0]}: not found", err=True)
        return failures.NOT_FOUND
    except OSError as error:
        click.echo(f"copycat: {words[0]}: {error.strerror}", err=True)
        return failures.NOT_EXECUTABLE
    with _passing_signals_to(child) as received:
        while not grant.lost.is_set():
            try:
                child.wait(LOOK_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                continue
        if grant.lost.is_set():
            _end(child, name)
            return failures.LOST
    if received:
        return failures.SIGNALLED + received[0]
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


@contextmanager
def _passing_signals_to(child: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Let the command end by the signals that we get, so that the lock outlives it.

    Yields:
        The signals that came.
    """
    received: list[int] = []

    def take(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        # A terminal has sent its Ctrl-C to the command as well.
        if number != signal.SIGINT or not sys.stdin.isatty():
            child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
