"""Messages: dataclasses that have a place on the wire and never change.

That they never change is checked by mypy (``dataclass_transform``) and not at run time: a frozen
dataclass takes three times as long to make, and messages are made all the time.

``@message(number)`` declares one. Its number and the order of its fields are the
wire format: a message travels as its number and the list of its fields, so a field
may be renamed but never moved. The one table of numbers is ``MESSAGES``.

Field types are checked exactly when a message is decoded: ``int`` is an unsigned
64-bit number and never a bool, ``float``, ``str``, ``bytes``, ``bool``,
``NodeAddress``, ``tuple[T, ...]``, ``T | None``, other messages, and ``Plain`` for
anything the codec carries.
"""

import operator
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

from copycat.actors.address import NodeAddress
from copycat.actors.codec import is_plain

T = TypeVar("T")
Plain = object
"""The annotation of a field that may hold anything which the codec carries."""

INTEGER_MAX = 2**64 - 1
MESSAGES: dict[int, type] = {}
BULK_MESSAGES: set[type] = set()
BYTES_FIELDS: dict[int, tuple[int, ...]] = {}
"""By number, which fields of the messages that were sent are byte strings, or tuples of them."""

_SCALARS = {int, str, bytes, bool, float}

_wire_forms: dict[type, tuple[int, Callable[[Any], list[Any]], bool]] = {}
_from_wire: dict[int, Callable[[list[Any]], Any]] = {}


class MalformedMessageError(ValueError):
    """Bytes that decode, but not to the message they claim to be. Nothing was done with them."""


@dataclass_transform(frozen_default=True)
def message(number: int, *, bulk: bool = False) -> Callable[[type[T]], type[T]]:
    """Make a class a message with this number on the wire.

    Args:
        number: from 1 to 65535, unique in the program and never reused for another meaning.
        bulk: many bytes on behalf of others, such as clients: nothing else may wait behind them.
            They take a link of their own to a node that was dialled, so they keep their order only
            among themselves.
    """

    def declare(cls: type[T]) -> type[T]:
        made = dataclass(slots=True, unsafe_hash=True)(cls)
        other = MESSAGES.get(number)
        assert other is None or other.__qualname__ == made.__qualname__, (
            f"message number {number} is taken by {other}"
        )
        MESSAGES[number] = made
        if bulk:
            BULK_MESSAGES.add(made)
        made.__message_number__ = number  # type: ignore[attr-defined]  # the mark of a message
        return made

    return declare


def is_message(cls: object) -> bool:
    """Whether ``cls`` was declared with ``@message``."""
    return isinstance(cls, type) and "__message_number__" in cls.__dict__


def number_of(value: Any) -> int:
    """The wire number of a message."""
    return typing.cast("int", type(value).__message_number__)


def wire_form(cls: type) -> tuple[int, Callable[[Any], list[Any]], bool] | None:
    """How a class of messages travels: its number, ``to_wire`` for it, and ``has_plain_fields``;
    None for a class that was not declared with ``@message``."""
    form = _wire_forms.get(cls)
    if form is None and is_message(cls):
        number = typing.cast("int", cls.__message_number__)  # type: ignore[attr-defined]  # the mark of a message
        form = _wire_forms[cls] = (number, _writer(cls), has_plain_fields(cls))
        hints = typing.get_type_hints(cls)
        kinds = [hints[field.name] for field in fields(typing.cast("Any", cls))]
        BYTES_FIELDS[number] = tuple(
            place for place, kind in enumerate(kinds) if kind in (bytes, tuple[bytes, ...])
        )
    return form


def has_plain_fields(cls: type) -> bool:
    """Whether a message has fields that may hold anything: they are looked into when it leaves."""
    return any(_mentions_plain(hint) for hint in typing.get_type_hints(cls).values())


def _mentions_plain(hint: Any) -> bool:
    if hint is Plain or (is_message(hint) and has_plain_fields(hint)):
        return True
    return any(_mentions_plain(part) for part in typing.get_args(hint))


def to_wire(value: Any) -> list[Any]:
    """The fields of a message as plain values, in the order of the wire."""
    form = wire_form(type(value))
    assert form is not None, "only messages have a form on the wire"
    return form[1](value)


def from_wire(number: int, values: Any) -> Any:
    """The message with this number and these fields.

    Raises:
        MalformedMessageError: the number is unknown, or a field has a wrong type or range.
    """
    read = _from_wire.get(number) if type(number) is int else None
    if read is None:
        cls = MESSAGES.get(number) if type(number) is int else None
        if cls is None:
            raise MalformedMessageError(f"no message has number {number!r:.40}")
        read = _from_wire[number] = _reader(cls)
    return read(values)


def _writer(cls: type) -> Callable[[Any], list[Any]]:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    if not names:
        return lambda _: []
    if any(_is_structured(hints[name]) for name in names):
        return lambda value: [_plain(getattr(value, name)) for name in names]
    if len(names) == 1:
        only = operator.attrgetter(names[0])
        return lambda value: [only(value)]
    every = operator.attrgetter(*names)
    return lambda value: list(every(value))


def _is_structured(hint: Any) -> bool:
    """Whether values of this type need more than being handed to the encoder."""
    if hint is NodeAddress or is_message(hint):
        return True
    return any(_is_structured(part) for part in typing.get_args(hint))


def _plain(value: Any) -> Any:
    if type(value) is NodeAddress:
        return [value.node, value.incarnation, value.serial]
    if type(value) is tuple:
        return [_plain(item) for item in value]
    if is_message(type(value)):
        return [number_of(value), to_wire(value)]
    return value


def _reader(cls: type) -> Callable[[list[Any]], Any]:
    hints = [typing.get_type_hints(cls)[field.name] for field in fields(cls)]
    checks = [_check(hint) for hint in hints]
    count = len(checks)
    if hints.count(int) > 1 and all(
        hint in _SCALARS or typing.get_origin(hint) is tuple for hint in hints
    ):
        return _flat_reader(cls, hints, checks)

    def read(values: list[Any]) -> Any:
        if type(values) is not list or len(values) != count:
            raise MalformedMessageError(f"{cls.__name__} has {count} fields")
        try:
            return cls(*[check(value) for check, value in zip(checks, values, strict=True)])
        except MalformedMessageError as error:
            raise MalformedMessageError(f"{cls.__name__}: {error}") from None

    return read


def _flat_reader(
    cls: type, hints: list[Any], checks: list[Callable[[Any], Any]]
) -> Callable[[list[Any]], Any]:
    """A reader of messages of scalars and sequences, which are the most frequent: all that is no
    sequence is looked at together."""
    types = [hint if hint in _SCALARS else list for hint in hints]
    integers = operator.itemgetter(*[place for place, hint in enumerate(hints) if hint is int])
    sequences = [(at, checks[at]) for at, expected in enumerate(types) if expected is list]

    def read(values: list[Any]) -> Any:
        if type(values) is not list or [*map(type, values)] != types:
            raise MalformedMessageError(f"{cls.__name__} has other fields")
        numbers = integers(values)
        if min(numbers) < 0 or max(numbers) > INTEGER_MAX:
            raise MalformedMessageError(f"{cls.__name__}: an unsigned 64-bit number was expected")
        for place, check in sequences:
            try:
                values[place] = check(values[place]) if values[place] else ()
            except MalformedMessageError as error:
                raise MalformedMessageError(f"{cls.__name__}: {error}") from None
        return cls(*values)

    return read


def _check(hint: Any) -> Callable[[Any], Any]:
    """A function that returns a decoded value as a field of this type holds it, or raises."""
    if hint is Plain:
        return _plain_value
    if hint is int:
        return _integer
    if hint in (str, bytes, bool, float):
        return _exactly(hint)
    if hint is NodeAddress:
        return _address
    if is_message(hint):
        return _nested(hint)
    if typing.get_origin(hint) is tuple:
        return _sequence(_check(typing.get_args(hint)[0]))
    if isinstance(hint, types.UnionType):
        (some,) = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return _optional(_check(some))
    raise AssertionError(f"no message may have a field of type {hint}")


def _plain_value(value: Any) -> Any:
    if not is_plain(value):
        raise MalformedMessageError("a plain value was expected")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise MalformedMessageError("an unsigned 64-bit number was expected")
    return value


def _exactly(expected: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not expected:
            raise MalformedMessageError(f"{expected.__name__} was expected")
        return value

    return check


def _address(value: Any) -> NodeAddress:
    if type(value) is not list or len(value) != 3 or type(value[0]) is not str:
        raise MalformedMessageError("an address was expected")
    return NodeAddress(value[0], _integer(value[1]), _integer(value[2]))


def _nested(expected: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != 2:
            raise MalformedMessageError(f"{expected.__name__} was expected")
        made = from_wire(value[0], value[1])
        if type(made) is not expected:
            raise MalformedMessageError(f"{expected.__name__} was expected")
        return made

    return check


def _sequence(check_item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise MalformedMessageError("a list was expected")
        return tuple(check_item(item) for item in value)

    return check


def _optional(check_some: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        return None if value is None else check_some(value)

    return check
