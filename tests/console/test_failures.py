"""Each failure has its exit code, and is told in a few lines."""

import inspect

import pytest

from copycat import errors
from copycat.actors.disk import DirectoryInUseError
from copycat.actors.network import ListenError
from copycat.console.cli.failures import CODES, HINTS, code_of, lines_of, tell
from copycat.console.playground import NoPlaygroundError, PlaygroundError
from copycat.errors import CopycatError, LockTimeout, NoLeader, OutcomeUnknown, Unreachable
from copycat.storage.errors import LogCorruptError, StorageError

OTHERS = (DirectoryInUseError, ListenError, PlaygroundError, NoPlaygroundError, StorageError)
OURS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, CopycatError)
}


def test_the_table_names_classes_that_exist() -> None:
    """A class that is renamed does not lose its exit code unnoticed."""
    assert set(CODES) <= {*OURS, *(kind.__name__ for kind in OTHERS)}
    assert set(HINTS) <= set(CODES)


@pytest.mark.parametrize("kind", sorted(OURS))
def test_every_error_of_the_library_has_a_code(kind: str) -> None:
    """Nothing that a caller may catch ends as an unexpected failure."""
    if kind != "CopycatError":
        assert any(each.__name__ in CODES for each in OURS[kind].__mro__)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("x"), 1),
        (errors.InvalidArgument("x"), 2),
        (errors.TooLarge("x"), 2),
        (LockTimeout("x"), 3),
        (errors.OperationFailed("ValueError", "x"), 3),
        (NoLeader("x"), 4),
        (Unreachable("x"), 5),
        (OutcomeUnknown("x"), 6),
        (errors.IdentityRefused("x"), 8),
        (errors.LockLost("x"), 75),
        (errors.ConfigurationError("x"), 2),
        (ListenError("127.0.0.1:1", "in use"), 2),
        (LogCorruptError("000001.log", 4096, "x"), 1),
    ],
)
def test_codes_are_the_documented_ones(error: Exception, code: int) -> None:
    """The closest class decides: a LockTimeout is a TimeoutError too, and a NotApplied."""
    assert code_of(error) == code


def test_what_each_endpoint_said_has_its_line() -> None:
    """The sentence comes first, then the causes, then what is known and what to do."""
    error = Unreachable("no server answered", causes=(("a:1", "refused"), ("b:2", "timed out")))
    assert lines_of(error) == [
        "copycat: no server answered",
        "  a:1  refused",
        "  b:2  timed out",
        "  nothing was applied: a retry is safe",
        f"  {HINTS['Unreachable']}",
    ]


def test_an_unexpected_failure_says_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is for those who ask for it."""
    with pytest.raises(KeyError) as raised:
        dict[str, int]()["oops"]
    assert tell(raised.value, debug=False) == 1
    told = capsys.readouterr().err
    tell(raised.value, debug=True)
    assert "KeyError: 'oops'" in told
    assert "--debug" in told
    assert "Traceback" not in told
    assert "Traceback" in capsys.readouterr().err


def test_a_want_of_memory_is_told_as_what_it_is() -> None:
    """It is a limit of the machine and no bug, and the error itself says nothing."""
    assert lines_of(MemoryError()) == [
        "copycat: out of memory: see `ulimit -v`, or the limit of the container"
    ]
    assert code_of(MemoryError()) == 1


def test_what_the_system_refuses_is_told_in_its_words() -> None:
    """A full disk behind stdout, or a file that may not be read, is no bug either."""
    assert lines_of(OSError(28, "No space left on device")) == [
        "copycat: the system refused: No space left on device"
    ]
    assert lines_of(PermissionError(13, "Permission denied", "/x")) == [
        "copycat: the system refused: /x: Permission denied"
    ]
    assert "unexpected failure" in lines_of(OSError("something"))[0]
