"""Chaos in its short form: faults of real processes, networks and disks, and nothing is broken.

What a machine lacks for a kind of fault is told by the test that is skipped for it.
"""

import os
import re
import signal
import subprocess
import sys
import time
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from chaos_clients import Clients
from chaos_faults import Faults
from chaos_plan import CLIENTS, LANES, TELLS, Plan, Step, cuts, draw
from chaos_relay import QUEUE_BYTES_MAX, Wire
from chaos_report import Report
from chaos_world import World
from copycat.testing import Operation

CHAOS = Path(__file__).with_name("chaos.py")
SHORT_MINUTES = 0.2
SEED = 1
WAIT_S = 200.0


def words(*more: str) -> list[str]:
    """The command line of a run of chaos."""
    return [sys.executable, str(CHAOS), "--seed", str(SEED), *more]


@cache
def run_of(servers: int) -> "subprocess.CompletedProcess[str]":
    """One short run. All that is asked about it is asked of the same one."""
    return subprocess.run(
        words("--minutes", str(SHORT_MINUTES), "--servers", str(servers)),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


@pytest.mark.long
@pytest.mark.parametrize("servers", [3, 5])
def test_nothing_is_broken_by_chaos(servers: int) -> None:
    """Every history is linearizable, every call ends, and the servers come to the same end."""
    ended = run_of(servers)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all is well" in ended.stdout


@pytest.mark.long
@pytest.mark.parametrize("kind", TELLS)
def test_each_kind_of_fault_has_come(kind: str) -> None:
    """In a short run, too; what is not possible on this machine is left out and told."""
    output = run_of(3).stdout
    told = re.escape(TELLS[kind])
    skipped = re.search(rf"SKIPPED  {told}: (.+)", output)
    if skipped:
        pytest.skip(skipped[1])
    done = re.search(rf"(\d+)  {told}$", output, re.MULTILINE)
    assert done, output
    assert int(done[1]) >= 1


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_run_that_was_ended(tmp_path: Path, how: signal.Signals) -> None:
    """No process and no file; networks and mounts are gone with the processes."""
    running = subprocess.Popen(
        words("--minutes", "5"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    with running.stdout as output:
        assert any(" s  " in line for line in output), "a fault has come"
        assert processes_below(tmp_path)
        # Ctrl-C reaches all processes of a terminal; TERM only the one that is meant.
        if how is signal.SIGINT:
            os.killpg(running.pid, how)
        else:
            running.send_signal(how)
        rest = output.read()
    assert running.wait(WAIT_S) == 130
    assert how is signal.SIGTERM or " operations of " in rest
    end_s = time.monotonic() + WAIT_S
    while processes_below(tmp_path):  # the kernel is still taking them down
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert not list(tmp_path.iterdir())
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def processes_below(directory: Path) -> list[str]:
    """The processes that were given a file in this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = entry.joinpath("cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:  # it has ended meanwhile
            continue
        if str(directory).encode() in line:
            found.append(entry.name)
    return found


# Plans.


def test_a_seed_decides_the_plan() -> None:
    """The same seed draws the same faults, another one others."""
    assert draw(7, 5, 120.0) == draw(7, 5, 120.0)
    assert draw(7, 5, 120.0) != draw(8, 5, 120.0)


@pytest.mark.parametrize("lane", LANES)
def test_every_kind_comes_before_any_comes_again(lane: str) -> None:
    """So a run of some length has all of them, one after the other."""
    for seed in range(50):
        steps = draw(seed, 5, 1200.0).lanes[lane]
        kinds = [step.kind for step in steps]
        count = len(LANES[lane])
        rounds = [kinds[place : place + count] for place in range(0, len(kinds), count)]
        assert len(rounds) > 2
        assert all(sorted(each) == sorted(LANES[lane]) for each in rounds[:-1])
        assert steps[-1].end_s <= 1200.0
        assert all(one.end_s < other.begin_s for one, other in pairwise(steps))


def a_step(kind: str, servers: int, *, count: int = 1, clients: int = 2) -> Step:
    """One of a kind, to the servers in their order."""
    order = tuple(f"n{place}" for place in range(1, servers + 1))
    return Step(kind, 0.0, 1.0, order, to_leader=False, count=count, clients=clients, extent=0.5)


def hears(step: Step, name: str) -> set[str]:
    """What one place of a network hears of the others."""
    deaf_to = {source for source, target in cuts(step, list(step.order)) if target == name}
    return {*step.order, CLIENTS} - deaf_to - {name}


@pytest.mark.parametrize(
    ("step", "name", "heard"),
    [
        (a_step("isolate", 3), "n1", {CLIENTS}),
        (a_step("isolate", 3, clients=1), "n1", set()),
        (a_step("isolate", 3, clients=0), "n2", {"n3"}),
        (a_step("halves", 5, count=2), "n1", {"n2", CLIENTS}),
        (a_step("halves", 5, count=2, clients=0), CLIENTS, {"n1", "n2"}),
        (a_step("deaf", 3), "n1", {CLIENTS}),
        (a_step("deaf", 3), "n2", {"n1", "n3", CLIENTS}),
        (a_step("mute", 3), "n1", {"n2", "n3", CLIENTS}),
        (a_step("mute", 3), "n2", {"n3", CLIENTS}),
        (a_step("bridge", 5), "n1", {"n2", "n3", CLIENTS}),
        (a_step("bridge", 5), "n3", {"n1", "n2", "n4", "n5", CLIENTS}),
        (a_step("ring", 5), "n1", {"n2", "n5", CLIENTS}),
        (a_step("ring", 3), "n1", {"n2", CLIENTS}),
        (a_step("no clients", 3), "n1", {"n2", "n3"}),
    ],
    ids=lambda value: value.kind if isinstance(value, Step) else None,
)
def test_a_cut_is_between_the_right_ones(step: Step, name: str, heard: set[str]) -> None:
    """Who hears whom while it lasts."""
    assert hears(step, name) == heard


def test_the_leader_is_put_first() -> None:
    """A fault that is meant for it comes to whoever leads by then, if anybody does."""
    step = Step(
        "isolate", 0.0, 1.0, ("n2", "n3", "n1"), to_leader=True, count=1, clients=2, extent=0.5
    )
    assert step.names("n1") == ["n1", "n2", "n3"]
    assert step.names("") == ["n2", "n3", "n1"]


# The relay.


def test_a_packet_takes_the_time_of_its_way() -> None:
    """The delay, and that of all bytes before it on the same wire."""
    wire = Wire(delay_s=0.1, bytes_per_s=1000.0, loss=0.0)
    assert wire.due_s(10.0, 500, 0.5) == pytest.approx(10.6)
    assert wire.due_s(10.0, 500, 0.5) == pytest.approx(11.1)
    assert wire.due_s(20.0, 500, 0.5) == pytest.approx(20.6)


def test_a_wire_loses_as_many_packets_as_it_is_told() -> None:
    """By chance, and whatever finds its queue full."""
    wire = Wire(delay_s=0.0, bytes_per_s=1.0, loss=0.1)
    assert wire.due_s(0.0, 100, 0.09) is None
    assert wire.due_s(0.0, QUEUE_BYTES_MAX, 0.1) is not None
    assert wire.due_s(0.0, 1, 0.5) is None


# Verdicts.


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Of a run in which nothing happened, in an era with one increment."""
    world = World(tmp_path, ("n1", "n2", "n3"), "n1", alone="not here", no_networks="not here")
    faults = Faults(world, Plan(dict.fromkeys(LANES, ()), "n1"))
    clients = Clients(("127.0.0.1:1",), SEED, 1.0)
    report = Report(world, faults, clients, "make chaos")
    counted(clients, 1)
    report.tell_what_was_done(1.0)
    return report


def counted(clients: Clients, value: int) -> Operation:
    """An increment that was answered by this value."""
    era = clients.era()
    operation = era.hits.invoke("ann", "increment")
    era.hits.ok(operation, value)
    operation.index = 10 * len(era.hits)
    return operation


def test_a_run_without_a_fault_is_well(report: Report) -> None:
    """Otherwise the tests below would show nothing."""
    assert report.tell_verdicts()


def test_an_increment_that_was_lost_is_noticed(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report shows it, and how to run the plan again."""
    counted(report.clients, 1)
    assert not report.tell_verdicts()
    told = capsys.readouterr().out
    assert "BROKEN: the counters of era 0: not linearizable" in told
    assert "not all is well; again: make chaos" in told


def test_a_history_that_only_the_log_refutes_is_noticed(report: Report) -> None:
    """Two increments at one index, whatever they have returned."""
    counted(report.clients, 2).index = 10
    assert not report.tell_verdicts()


def test_a_lock_with_two_holders_is_noticed(report: Report) -> None:
    """The token of the second is smaller than that of the first, who still holds it."""
    nightly = report.clients.era().nightly
    nightly.ok(nightly.invoke("ann", "acquire", 1), 7)
    nightly.ok(nightly.invoke("bob", "acquire", 2), 8)
    assert not report.tell_verdicts()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: report.world.ended_oddly.append("n1 ended with 1: whatever"),
        lambda report: report.faults.broken.append("n1 and n2 lead in term 3"),
        lambda report: report.clients.broken.append("a call has not ended"),
        lambda report: report.faults.done.update(["halves"] * 3),
        lambda report: report.faults.done.update(["loss"] * 3),
        lambda report: report.faults.done.update(["reset"] * 3),
        lambda report: report.faults.done.update(["far away"] * 3),
        lambda report: setattr(report.clients, "gap_s", 1e3),
        lambda report: report.clients.eras[0].hits.operations.clear(),
    ],
)  # fmt: skip
def test_whatever_else_is_wrong_is_noticed(report: Report, spoil: object) -> None:
    """A server that ends, a call that does not, and a fault without any effect."""
    assert callable(spoil)
    spoil(report)
    assert not report.tell_verdicts()


def test_a_server_that_ends_by_itself_is_odd_unless_its_disk_fails(tmp_path: Path) -> None:
    """Only what a fault explains is excused."""
    world = World(tmp_path, ("n1",), "n1", alone="not here")
    with world:
        server = world.servers["n1"]
        for line, fails, excused in (
            ("copycat: the disk failed to sync", True, True),
            ("copycat: the disk failed to sync", False, False),
            ("copycat: out of ideas", True, False),
        ):
            world.kill("n1")
            server.errors.write_text(f"{line}\n")
            server.process = subprocess.Popen(["false"])
            server.process.wait()
            server.disk_fails = fails
            world.ended_oddly.clear()
            world.look()
            assert (not world.ended_oddly) is excused
            assert not server.process
