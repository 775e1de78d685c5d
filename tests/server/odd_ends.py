"""Exceptions that say nothing true of themselves, or nothing at all."""

from typing import Any


class OddText(str):
    """A text that is none."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return 7


class OddError(Exception):
    """Says nothing true of itself."""

    __class__: Any = property(lambda self: 1 / 0)

    def __str__(self) -> str:
        return OddText("odd")


class OddGroup(BaseExceptionGroup[Exception]):
    """Has itself in itself."""

    exceptions: Any = property(lambda self: (self,))


class OddMeta(type):
    """Of a class without a name, equal to all others."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Unnamed(Exception, metaclass=OddMeta):
    """Cannot be asked for its name."""


def end_oddly() -> None:
    raise OddError


def end_in_itself() -> None:
    raise OddGroup("odd", [ValueError("x")])


def end_without_a_name() -> None:
    raise Unnamed


class Twice(ExceptionGroup[Exception]):
    """Has all that is in it twice."""


def end_in_many_groups() -> None:
    error: Exception = ValueError("x")
    for _ in range(60):
        error = Twice("two", [error, error])
    raise error


class Speechless(MemoryError):
    """Has no room to say what it is either."""

    def __str__(self) -> str:
        raise MemoryError


class Dumb(Exception):
    """Runs out of memory when it is asked what it is."""

    def __str__(self) -> str:
        raise Speechless


def fall_silent() -> None:
    raise Dumb
