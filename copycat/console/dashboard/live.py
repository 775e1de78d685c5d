"""The live dashboard: look, draw, listen to keys, until it is told to quit."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable

from rich.console import Console

from copycat.client.status import Inquiry
from copycat.console.dashboard.model import Observer, Picture
from copycat.console.dashboard.overview import render, render_help, render_plain
from copycat.console.dashboard.terminal import Terminal

LOOK_TIMEOUT_S = 0.8
SNAPSHOT_GAP_S = 0.5  # rates are the difference of two looks


class Dashboard:
    """What is shown now, and what the keys do to it."""

    def __init__(self, terminal: Terminal, interval_s: float, quit_now: Callable[[], None]) -> None:
        self._terminal = terminal
        self._interval_s = interval_s
        self._quit = quit_now
        self._picture: Picture | None = None
        self._helping = False
        self._paused = False

    def show(self, picture: Picture) -> None:
        """There is a newer picture; nobody sees it while the screen is paused."""
        if not self._paused:
            self._picture = picture
            self.draw()

    def draw(self) -> None:
        """Draw again, above all because the size has changed."""
        width, height = self._terminal.size
        if self._helping:
            self._terminal.draw(render_help(width, height))
        elif self._picture is not None:
            self._terminal.draw(
                render(
                    self._picture,
                    width,
                    height,
                    interval_s=self._interval_s,
                    paused=self._paused,
                )
            )

    def keys_are_there(self) -> None:
        """Take what was typed."""
        keys = self._terminal.read_keys()
        if keys is None:
            self._quit()
        for key in keys or "":
            if key == "q":
                self._quit()
            elif key == "?":
                self._helping = not self._helping
            elif key == "p":
                self._paused = not self._paused
        self.draw()

    def suspend(self) -> None:
        """Stop as Ctrl-Z wants it, with the terminal as it was, and go on when told to."""
        self._terminal.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._terminal.enter()
        self.draw()


async def watch(console: Console, endpoints: tuple[str, ...], interval_s: float) -> int:
    """Show the live dashboard until ``q``, a signal or the end of the terminal.

    Returns:
        The number of the signal (SIGTERM or SIGHUP) that ended it; 0 if none did.

    Raises:
        CancelledError: Ctrl-C.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def quit_now(number: int = 0) -> None:
        if not ended.done():
            ended.set_result(number)

    async with Inquiry(endpoints) as inquiry:
        with Terminal(console) as terminal:
            dashboard = Dashboard(terminal, interval_s, quit_now)
            looking = loop.create_task(_look_for_ever(inquiry, dashboard, interval_s))
            looking.add_done_callback(lambda _: quit_now())
            loop.add_reader(sys.stdin.fileno(), dashboard.keys_are_there)
            loop.add_signal_handler(signal.SIGWINCH, dashboard.draw)
            loop.add_signal_handler(signal.SIGTSTP, dashboard.suspend)
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, quit_now, number)
            try:
                ended_by = await ended
            finally:
                loop.remove_reader(sys.stdin.fileno())
                looking.cancel()
                (outcome,) = await asyncio.gather(looking, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome
    return ended_by


async def _look_for_ever(inquiry: Inquiry, dashboard: Dashboard, interval_s: float) -> None:
    observer = Observer()
    while True:
        dashboard.show(await _look(inquiry, observer, LOOK_TIMEOUT_S))
        await asyncio.sleep(interval_s)


async def snapshot(console: Console, endpoints: tuple[str, ...], timeout_s: float) -> Picture:
    """Print one plain picture. Returns it."""
    observer = Observer()
    async with Inquiry(endpoints) as inquiry:
        picture = await _look(inquiry, observer, timeout_s)
        if picture.health.statuses:
            await asyncio.sleep(SNAPSHOT_GAP_S)
            picture = await _look(inquiry, observer, timeout_s)
    for text in render_plain(picture, console.width):
        text.rstrip()
        console.print(text, soft_wrap=True, highlight=False)
    return picture


async def _look(inquiry: Inquiry, observer: Observer, timeout_s: float) -> Picture:
    return observer.observe(await inquiry.ask(timeout_s), time.monotonic(), time.time())
