"""The bench starts servers and clients, prints its table and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from bench.etcd_messages import field, fields
from sources import ROOT

WITHIN_S = 60


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The bench, with its temporary files in a directory of the test."""
    return subprocess.run(
        [sys.executable, "-m", "bench", "--peers", "copycat", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        check=False,
        text=True,
        timeout=WITHIN_S,
    )


def test_one_short_workload_of_ours_makes_a_table(tmp_path: Path) -> None:
    """Three servers and two clients start, writes are acknowledged, and their files are removed."""
    ran = run(tmp_path, "--only", "w1", "--rounds", "1", "--seconds", "0.2")
    assert ran.returncode == 0, ran.stderr
    assert "w1: 1 write" in ran.stdout
    assert "ms" in ran.stdout
    assert "failed" not in ran.stdout
    assert not list(tmp_path.iterdir())


def test_a_workload_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A misspelt name is an error of usage, not an empty table."""
    ran = run(tmp_path, "--only", "w1,w99")
    assert ran.returncode == 2
    assert "w99" in ran.stderr


def test_fields_that_are_written_for_etcd_can_be_read() -> None:
    """Integers of several bytes and nested messages survive our own protobuf encoding."""
    message = field(1, 300) + field(15, b"") + field(16, field(2, b"x" * 200))
    assert list(fields(message)) == [(1, 300), (15, b""), (16, field(2, b"x" * 200))]


def test_an_interrupted_bench_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C in the middle ends with 130, without files and without processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "--peers", "copycat", "--only", "w1", "--seconds", "60"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "w1" not in process.stderr.readline():
        assert process.poll() is None, "it has ended before it was interrupted"
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=WITHIN_S)[1]
    assert process.returncode == 130, rest
    assert not list(tmp_path.iterdir())
    assert not [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(tmp_path).encode() in read(path)
    ]


def read(path: Path) -> bytes:
    """A file of /proc, whose process may have ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
