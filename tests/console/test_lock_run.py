"""A command under a lock, as a user runs it, against real servers."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shell import WAIT_S, Shell, end, read_line, started, until


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A playground of three servers that all tests share, and none harms."""
    with started(tmp_path_factory.mktemp("state")) as shell:
        yield shell


def test_lock(shell: Shell) -> None:
    """One command at a time runs; the tokens grow; who cannot wait gets 3."""
    holder = shell.begin("lock", "run", "nightly", "--", "sh", "-c", "echo $COPYCAT_FENCE; read x")
    first = int(read_line(holder))
    holder.communicate(timeout=30)
    ended = shell.run("lock", "run", "nightly", "--", "sh", "-c", "echo $COPYCAT_FENCE; exit 7")
    assert ended.returncode == 7
    assert int(ended.stdout) > first


def test_a_lock_that_is_held_is_not_had(shell: Shell) -> None:
    """--wait 0s tries only; and Ctrl-C of the holder ends its command and frees the lock."""
    holder = shell.begin("lock", "run", "busy", "--", "sh", "-c", "echo held; exec sleep 60")
    assert read_line(holder) == "held"
    late = shell.run("lock", "run", "busy", "--wait", "0s", "--", "echo", "never")
    assert (late.returncode, late.stdout) == (3, "")
    code, _, _ = end(holder)
    assert code == 130
    assert shell.run("lock", "run", "busy", "--wait", "0s", "--", "true").returncode == 0


def test_term_passes_through_a_lock(shell: Shell) -> None:
    """The command can end in order before the lock is given back."""
    script = "trap 'echo bye; exit 0' TERM; echo held; while :; do sleep 0.01; done"
    holder = shell.begin("lock", "run", "term", "--", "sh", "-c", script)
    assert read_line(holder) == "held"
    code, out, _ = end(holder, signal.SIGTERM)
    assert (code, out) == (128 + signal.SIGTERM, "bye\n")


def test_a_wait_is_for_a_leader_too(tmp_path: Path) -> None:
    """Without a majority the wait ends with 4, and not before; without a wait it has no end."""
    with started(tmp_path) as shell:
        for name in ("n1", "n2"):
            shell.playground.kill(name)
        words = ("lock", "run", "nightly")
        for timeout, wait, least_s, most_s in (("300ms", "2500ms", 2.5, 5), ("10s", "1s", 1, 3.5)):
            began_s = time.monotonic()
            ended = shell.run("--timeout", timeout, *words, "--wait", wait, "--", "echo", "never")
            assert (ended.returncode, ended.stdout) == (4, ""), ended.stderr
            assert least_s <= time.monotonic() - began_s < most_s
        waiting = shell.begin("--timeout", "300ms", *words, "--", "echo", "held")
        time.sleep(1.5)
        assert waiting.poll() is None
        for name in ("n1", "n2"):
            shell.playground.restart(name)
        out, err = waiting.communicate(timeout=WAIT_S)
        assert (waiting.returncode, out) == (0, "held\n")
        assert err.count("trying again until it is there") == 1


def test_a_wait_in_the_queue_ends_without_a_majority(tmp_path: Path) -> None:
    """The cluster's time stands still then, and so the command looks at its own."""
    with started(tmp_path) as shell:
        hold = ("lock", "run", "busy", "--session-timeout", "1m")
        holder = shell.begin("--timeout", "1s", *hold, "--", "sh", "-c", "echo held; exec sleep 60")
        assert read_line(holder) == "held"
        began_s = time.monotonic()
        waiting = shell.begin("lock", "run", "busy", "--wait", "3s", "--", "echo", "never")
        until(
            lambda: max(server["sessions"] for server in shell.status()["servers"]) >= 2,
            "the second session is there",
        )
        for name in ("n1", "n2"):
            shell.playground.kill(name)
        out, err = waiting.communicate(timeout=WAIT_S)
        assert (waiting.returncode, out) == (3, ""), err
        assert time.monotonic() - began_s < 6
        code, _, err = end(holder)
        assert code == 130
        assert (
            err
            == "copycat: lock 'busy' could not be given back: it passes on when the session ends\n"
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_while_waiting_for_a_lock(shell: Shell, number: int) -> None:
    """It leaves the queue: the lock is free as soon as its holder ends."""
    holder = shell.begin("lock", "run", "queue", "--", "sh", "-c", "echo held; exec sleep 60")
    assert read_line(holder) == "held"
    waiting = shell.begin("lock", "run", "queue", "--", "echo", "never")
    sessions = max(server["sessions"] for server in shell.status()["servers"])
    until(
        lambda: max(server["sessions"] for server in shell.status()["servers"]) >= max(2, sessions),
        "the second session is there",
    )
    code, out, _ = end(waiting, number)
    assert (code, out) == (128 + number, "")
    end(holder)
    assert shell.run("lock", "run", "queue", "--wait", "0s", "--", "true").returncode == 0


# The shortest there is: these tests wait until it is over.
QUICKLY = ("--session-timeout", "1s")
UNTIL_TERM = "trap 'echo ended; exit 0' TERM; echo $COPYCAT_FENCE; while :; do sleep 0.01; done"


def test_a_frozen_holder_finds_its_lock_lost(shell: Shell) -> None:
    """The lock passes on when its session expires; when it wakes, its command ends, with 75."""
    holder = shell.begin("lock", "run", "frozen", *QUICKLY, "--", "sh", "-c", UNTIL_TERM)
    first = int(read_line(holder))
    holder.send_signal(signal.SIGSTOP)
    late = shell.run(
        "lock", "run", "frozen", "--wait", "20s", "--", "sh", "-c", "echo $COPYCAT_FENCE"
    )
    assert int(late.stdout) > first
    holder.send_signal(signal.SIGCONT)
    out, err = holder.communicate(timeout=WAIT_S)
    assert (holder.returncode, out) == (75, "ended\n")
    assert err.startswith("copycat: lock 'frozen' was lost; sending TERM to pid ")
    assert shell.run("lock", "run", "frozen", "--wait", "0s", "--", "true").returncode == 0


def test_a_holder_without_servers_gives_its_lock_up(tmp_path: Path) -> None:
    """Nobody answers for so long that another may hold the lock: the command ends, with 75."""
    with started(tmp_path) as shell:
        holder = shell.begin("lock", "run", "alone", *QUICKLY, "--", "sh", "-c", UNTIL_TERM)
        read_line(holder)
        assert shell.run("cluster", "down", "--force").returncode == 0
        out, err = holder.communicate(timeout=WAIT_S)
    assert (holder.returncode, out) == (75, "ended\n")
    assert "'alone' was lost" in err
    assert "Traceback" not in err
