"""The terminal: a screen of its own, keys without Enter, and everything as before at the end.

While a ``Terminal`` is open, keys are read one by one and the alternate screen is shown. It is
left on every way out of the ``with`` block, before any error is printed.
"""

import contextlib
import os
import re
import select
import sys
import termios
import tty
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen; no cursor
LEAVE = "\x1b[?25h\x1b[?1049l"
BEGIN_FRAME = "\x1b[?2026h"  # terminals that know it show the frame as a whole
END_FRAME = "\x1b[?2026l"
HOME = "\x1b[H"
CLEAR_BELOW = "\x1b[J"
READ_BYTES = 1024
ESCAPE_WAIT_S = 0.05
SEQUENCE = re.compile("\x1b(\\[[0-9;?]*[@-~]|O.)?")


def is_usable(console: Console) -> bool:
    """Whether a live screen makes sense: a terminal for output and input that can move a cursor."""
    return console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty()


class Terminal:
    """The user's terminal, taken over for a while."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._input = sys.stdin.fileno()
        self._before: list[Any] | None = None

    def __enter__(self) -> "Terminal":
        self.enter()
        return self

    def __exit__(self, *_error: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal over."""
        self._before = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        self._write(ENTER)

    def leave(self) -> None:
        """Give it back as it was. A second call changes nothing."""
        if self._before is None:
            return
        before, self._before = self._before, None
        with contextlib.suppress(OSError, termios.error):  # the terminal may have gone
            self._write(LEAVE)
            termios.tcsetattr(self._input, termios.TCSADRAIN, before)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in characters, now."""
        return self._console.size

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines, from the top, and nothing else."""
        with self._console.capture() as capture:
            for text in lines:
                self._console.print(text, end="\n", soft_wrap=True, highlight=False)
        # Each line is as wide as the screen: to clear behind it would take its last character.
        drawn = capture.get().removesuffix("\n")
        if len(lines) < self._console.height:
            drawn += f"\n{CLEAR_BELOW}"
        self._write(f"{BEGIN_FRAME}{HOME}{drawn}{END_FRAME}")

    def read_keys(self) -> str | None:
        """The keys pressed since the last call; None when the terminal has gone.

        Keys that send more than one character, such as arrows, are left out.
        """
        try:
            read = os.read(self._input, READ_BYTES)
            if read.endswith(b"\x1b") and select.select([self._input], [], [], ESCAPE_WAIT_S)[0]:
                read += os.read(self._input, READ_BYTES)
        except OSError:
            return None
        if not read:
            return None
        return _keys(read.decode(errors="replace"))

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def _keys(text: str) -> str:
    """What was typed, without the sequences of arrows and their like."""
    return SEQUENCE.sub("", text)
