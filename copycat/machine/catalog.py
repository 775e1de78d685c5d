"""The catalog: which types of resources a program knows, by the names that stand in the log."""

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from copycat.machine.state_machine import StateMachine

ENTRY_POINT_GROUP = "copycat.resources"


class Catalog(Mapping[str, type[StateMachine]]):
    """Types of state machines by name. It is passed down from where a program is composed."""

    def __init__(self, types: Mapping[str, type[StateMachine]]) -> None:
        self._types = dict(sorted(types.items()))

    def __getitem__(self, name: str) -> type[StateMachine]:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def offers(self) -> tuple[str, ...]:
        """What a server says in its HELLO: each type as ``name/version``."""
        return tuple(f"{name}/{machine.version}" for name, machine in self._types.items())


def installed_catalog(more: Mapping[str, type[StateMachine]] | None = None) -> Catalog:
    """The types that installed packages declare in the entry-point group, and ``more``."""
    types = {point.name: point.load() for point in entry_points(group=ENTRY_POINT_GROUP)}
    return Catalog({**types, **(more or {})})
