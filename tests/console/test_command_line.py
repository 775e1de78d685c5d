"""The command line without any server: what is understood, refused, and how it starts."""

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from copycat.console.cli import COMMANDS, lock, main
from copycat.console.playground import Playground, PlaygroundError
from sources import ROOT


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster of the user is found."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("COPYCAT_ENDPOINTS", raising=False)


def call(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, words)


def groups() -> list[tuple[str, ...]]:
    """Every command and subcommand."""
    context = click.Context(main)
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.commands]
    return found


@pytest.mark.parametrize("words", groups(), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    """--help works everywhere, and says more than the name."""
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize(
    "words",
    [
        ["fetch"],
        ["map"],
        ["map", "get", "users"],
        ["map", "get", "users", "ann", "bob"],
        ["map", "get", "users", "ann", "--yaml"],
        ["counter", "incr", "hits", "many"],
        ["lock", "run", "nightly"],
        ["lock", "run", "nightly", "--wait", "30", "--", "true"],
        ["lock", "run", "nightly", "--session-timeout", "0.5s", "--", "true"],
        ["topic", "sub", "lobby", "--count", "0"],
        ["cluster", "up", "-n", "0"],
        ["cluster", "up", "-n", "10"],
        ["top", "--interval", "1ms"],
        ["--timeout", "5", "status"],
        ["--endpoint", "nowhere", "status"],
        ["--endpoint", "::1:7401", "status"],
        ["serve", "--id", "n1"],
        ["serve", "--id", "n1", "--listen", "127.0.0.1:1", "--peers", "n1", "--data", "x"],
    ],
)
def test_wrong_usage_is_refused_with_2(words: list[str]) -> None:
    """Before anything is dialled, and with a line that says what is wrong."""
    result = call(*words)
    assert result.exit_code == 2
    assert "Error: " in result.stderr or "Usage: " in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("words", [["status"], ["map", "ls", "users"], ["top", "--once"]])
def test_without_a_cluster_it_says_how_to_name_one(words: list[str]) -> None:
    """No endpoint, no variable, no playground."""
    result = call(*words)
    assert result.exit_code == 2
    assert "--endpoint" in result.stderr
    assert "copycat cluster up" in result.stderr


@pytest.mark.parametrize("words", [["cluster", "ls"], ["cluster", "down"]])
def test_without_a_playground_the_answer_is_no(words: list[str]) -> None:
    """Nothing is there to be listed or stopped."""
    result = call(*words)
    assert result.exit_code == 3
    assert "no playground" in result.stderr


def test_a_damaged_playground_file_says_what_to_do(tmp_path: Path) -> None:
    """Instead of a traceback."""
    directory = Playground.of_user().directory
    assert tmp_path in directory.parents
    directory.mkdir(parents=True)
    for content in ("{", "[]", '{"servers": [{"port": 1}]}'):
        (directory / "playground.json").write_text(content)
        result = call("cluster", "ls")
        assert result.exit_code == 1
        assert str(directory) in result.stderr


@pytest.mark.parametrize("words", [["cluster", "up"], ["cluster", "ls"], ["status"]])
def test_a_playground_that_has_no_place_is_told_in_a_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as something unexpected."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    result = call(*words)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"copycat: {tmp_path / 'file'}")
    assert line.endswith("Not a directory")


SERVE = ["serve", "--id", "n1", "--data", "data"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--listen", "0.0.0.0:7401", "--peers", "n1=0.0.0.0:7401"], "--insecure"),
        (["--listen", "127.0.0.1:7401", "--peers", "n1=10.0.0.1:7401"], "--insecure"),
        (["--listen", "no.such.invalid:1", "--peers", "n1=no.such.invalid:1"], "--insecure"),
        (["--listen", "127.0.0.1:1", "--peers", "n2=127.0.0.1:1"], "n2"),
        (["--listen", "127.0.0.1:1", "--peers", "n1=a:1,n2=a:1"], "same endpoint"),
        (["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--heartbeat", "1s"], "heartbeat"),
        (
            ["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--election-timeout", "1000s..9000s"],
            "the longest may be 2400 s",
        ),
        (["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--load", "no.such:Thing"], "no.such"),
        (["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--load", "json:dumps"], "dumps"),
        (["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--load", "json"], "json"),
        (
            ["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--load", "broken:X"],
            "--load broken:X: module 'broken': ZeroDivisionError: division by zero at ",
        ),
        (["--listen", "127.0.0.1:1", "--peers", "n1=a:1", "--load", "broken:X"], "broken.py:2"),
    ],
)
def test_serve_refuses_what_cannot_work(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contradictions, and addresses beyond this machine without a word that it is meant."""
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("X = 1\n1 / 0\n")
    result = call(*SERVE, *words)
    assert not Path("data").exists()
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("group", ["cluster", "counter", "map", "lock", "topic"])
def test_no_line_of_help_is_cut_off(group: str) -> None:
    """What a command does is said to the end, on 80 columns."""
    shown = call(group, "--help").stdout.partition("Commands:")[2]
    assert shown
    assert "..." not in shown


def test_help_and_status_start_quickly() -> None:
    """Neither loads a server, an actor system or a screen before it needs one."""
    script = (
        "import sys; from copycat.console.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in sys.modules if n.startswith(('thespian', 'rich', 'cbor2', 'asyncio'))])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_while_the_command_line_loads() -> None:
    """Even then it is 130 and not a traceback."""
    script = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from copycat.__main__ import main\n"
        "main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


class Lost:
    """Set as soon as a file is there."""

    def __init__(self, sign: Path) -> None:
        self._sign = sign

    def is_set(self) -> bool:
        return self._sign.exists()


class Grant:
    """A lock's grant that is lost when a test says so."""

    def __init__(self, sign: Path) -> None:
        self.token = 1841
        self.lost = Lost(sign)


def test_a_command_that_ignores_term_is_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing works on without its lock."""
    monkeypatch.setattr(lock, "GRACE_S", 0.1)
    sign = tmp_path / "lost"
    script = f"trap '' TERM; echo $$; touch '{sign}'; while :; do sleep 0.01; done"
    assert lock._hold("nightly", Grant(sign), ("sh", "-c", script)) == 75  # type: ignore[arg-type]
    told = capfd.readouterr()
    assert "sending KILL\n" in told.err
    assert not Path("/proc", told.out.strip()).exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", 'test "$COPYCAT_FENCE" = 1841 && test "$COPYCAT_LOCK" = nightly'), 0),
        (("sh", "-c", "kill -9 $$"), 128 + signal.SIGKILL),
        (("/no/such/command",), 127),
        ((str(ROOT / "README.md"),), 126),
    ],
)
def test_the_exit_code_is_that_of_the_command(
    words: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    """As a shell would have it; the command knows its token."""
    assert lock._hold("nightly", Grant(tmp_path / "lost"), words) == code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"servers": [{"name": "n1", "endpoint": "a:1", "pid": 1e400}]}',
                '{"servers": [{"name": "n1", "endpoint": "a:1", "pid": %s}]}' % ("9" * 40)],
    ids=["nested too deep", "no number", "no process"],
)  # fmt: skip
def test_a_damaged_file_of_a_playground_is_told(tmp_path: Path, content: str) -> None:
    """Whatever stands in it, the error says what to do."""
    (tmp_path / "playground.json").write_text(content)
    with pytest.raises(PlaygroundError, match=r"playground\.json is damaged: .* remove "):
        Playground(tmp_path).processes()
