"""The dashboard as a user sees it, on a real terminal, against real servers."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shell import Screen, Shell, started, until


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A playground of three servers that all tests share, and none harms."""
    with started(tmp_path_factory.mktemp("state")) as shell:
        yield shell


def test_top_into_a_pipe(shell: Shell) -> None:
    """One plain picture with figures of two looks, and a note that it is one."""
    ended = shell.run("top")
    assert ended.returncode == 0
    assert "OK HEALTHY" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert "-/s" not in ended.stdout
    assert "not a terminal" in ended.stderr
    assert shell.run("top", "--once").stderr == ""


def test_top_on_a_terminal(shell: Shell) -> None:
    """Keys do what the last line says, the size is followed, and q gives the terminal back."""
    screen = Screen(shell, "top", "--interval", "250ms")
    try:
        screen.wait_for("OK HEALTHY")
        assert "\x1b[?1049h" in screen.shown
        screen.press("?")
        screen.wait_for("APPLY-LAG  entries that are committed")
        screen.press("?")
        screen.wait_for("OK HEALTHY")
        screen.press("p")
        screen.wait_for("PAUSED")
        screen.press("\x1b[Ap")
        screen.wait_for("250ms")
        screen.size(50, 10)
        screen.press("")
        screen.process.send_signal(signal.SIGWINCH)
        screen.wait_for("OK HEALTHY")
        assert "Members" not in screen.shown
        screen.press("q")
        assert screen.wait_for_end() == 0
        assert screen.shown.endswith("\x1b[?25h\x1b[?1049l")
    finally:
        screen.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_top_gives_the_terminal_back_on_signals(shell: Shell, number: int) -> None:
    """Whatever ends it."""
    screen = Screen(shell, "top")
    try:
        screen.wait_for("OK HEALTHY")
        screen.process.send_signal(number)
        assert screen.wait_for_end() == 128 + number
        assert "\x1b[?25h\x1b[?1049l" in screen.shown
        assert "Traceback" not in screen.shown
    finally:
        screen.close()


def test_top_can_be_suspended(shell: Shell) -> None:
    """Ctrl-Z gives the terminal back, and fg takes it again."""
    screen = Screen(shell, "top")
    try:
        screen.wait_for("OK HEALTHY")
        screen.process.send_signal(signal.SIGTSTP)
        screen.wait_for("\x1b[?25h\x1b[?1049l")
        stat = Path(f"/proc/{screen.process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stops")
        screen.shown = ""
        screen.process.send_signal(signal.SIGCONT)
        screen.wait_for("\x1b[?1049h")
        screen.wait_for("OK HEALTHY")
        screen.press("q")
        assert screen.wait_for_end() == 0
    finally:
        screen.close()


def test_top_without_colours(shell: Shell) -> None:
    """NO_COLOR takes the colours away; words and marks say the same."""
    shell.environment["NO_COLOR"] = "1"
    screen = Screen(shell, "top")
    try:
        screen.wait_for("OK HEALTHY")
        screen.wait_for("q quit")
        assert "\x1b[32m" not in screen.shown
        screen.press("q")
        assert screen.wait_for_end() == 0
    finally:
        screen.close()
        del shell.environment["NO_COLOR"]


def test_top_on_a_dumb_terminal(shell: Shell) -> None:
    """Without a cursor to move there is one picture."""
    shell.environment["TERM"] = "dumb"
    try:
        assert "OK HEALTHY" in shell.run("top").stdout
    finally:
        del shell.environment["TERM"]


def test_top_waits_for_servers_that_come_back(tmp_path: Path) -> None:
    """It says that nobody answers, whom to start, and goes on when that was done."""
    with started(tmp_path) as shell:
        screen = Screen(shell, "top", "--interval", "250ms")
        try:
            screen.wait_for("OK HEALTHY")
            shell.run("cluster", "down", "--force")
            screen.wait_for("CANNOT REACH ANY SERVER")
            screen.wait_for("copycat cluster up")
            screen.shown = ""
            assert shell.run("cluster", "up").returncode == 0
            screen.wait_for("OK HEALTHY")
            screen.press("q")
            assert screen.wait_for_end() == 0
        finally:
            screen.close()
