"""Settings: what the global options say, and the way from there to a cluster."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGHUP, SIGTERM
from types import FrameType
from typing import TYPE_CHECKING

import click

from copycat.console.cli.failures import SIGNALLED

if TYPE_CHECKING:
    from copycat.client.blocking import Client

TIMEOUT_S = 5.0
SESSION_TIMEOUT_S = 10.0
CLIENT_NAME = "copycat-cli"


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options of one call of ``copycat``."""

    given: tuple[str, ...] = ()  # by --endpoint
    timeout_s: float = TIMEOUT_S
    debug: bool = False

    def endpoints(self) -> tuple[str, ...]:
        """The servers to talk to.

        Raises:
            UsageError: none is named, and there is no playground.
        """
        from copycat.client.endpoints import default_endpoints
        from copycat.console.playground import Playground

        found = self.given or default_endpoints() or Playground.of_user().endpoints()
        if not found:
            raise click.UsageError(
                "which cluster? Name a server with --endpoint HOST:PORT or in COPYCAT_ENDPOINTS,"
                " or start a playground with `copycat cluster up`"
            )
        return found

    @contextmanager
    def client(
        self, session_timeout_s: float = SESSION_TIMEOUT_S, timeout_s: float | None = None
    ) -> Iterator["Client"]:
        """A connected client, closed at the end, also when the end is a TERM or a HUP.

        So what it holds or waits for is given up at once, and not when its session expires.

        Args:
            session_timeout_s: without a sign of life for so long the cluster ends the session.
            timeout_s: the deadline of its operations; None: that of the settings.
        """
        endpoints = self.endpoints()
        from copycat.client.blocking import Client

        before = {number: signal.signal(number, _exit) for number in (SIGTERM, SIGHUP)}
        try:
            with Client(
                *endpoints,
                timeout_s=self.timeout_s if timeout_s is None else timeout_s,
                session_timeout_s=session_timeout_s,
                name=CLIENT_NAME,
            ) as client:
                yield client
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(SIGNALLED + number)


pass_settings = click.make_pass_decorator(Settings, ensure=True)
"""Gives a command the settings as its first argument."""
