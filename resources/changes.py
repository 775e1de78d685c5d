"""Changes of a map, as those who watch it are told."""

from dataclasses import dataclass
from typing import Any, Generic

from copycat.errors import InvalidArgument
from copycat.resources.values import K, V, decode_value


@dataclass(frozen=True, slots=True)
class Put(Generic[K, V]):
    """Event: the key has this value since the log index ``version``."""

    key: K
    value: V
    version: int


@dataclass(frozen=True, slots=True)
class Removed(Generic[K]):
    """Event: the key is gone since the log index ``version``."""

    key: K
    version: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """Event: the map is empty since the log index ``version``; comes instead of each removal."""

    version: int


@dataclass(frozen=True, slots=True)
class Resync:
    """Events may be missing before this: read the map again. After ``version`` none is missing."""

    version: int


MapEvent = Put[K, V] | Removed[K] | Cleared | Resync


def change(name: str, values: list[Any]) -> MapEvent[Any, Any]:
    """The event of this name, as the machine has published it."""
    match name:
        case "put":
            version, key, value = values
            return Put(key, decode_value(value), version)
        case "removed":
            version, key = values
            return Removed(key, version)
        case "cleared":
            return Cleared(values[0])
    raise InvalidArgument(f"a map has no event {name!r}")
