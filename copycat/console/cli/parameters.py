"""The notation of durations, endpoints and values, for click's arguments and options."""

from collections.abc import Callable
from typing import Any

import click

from copycat.console import notation


class Notation(click.ParamType):  # type: ignore[type-arg]  # it is generic since click 8.5 only
    """A parameter that one function of ``notation`` reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it, or fail as a wrong usage of this parameter."""
        if not isinstance(value, str):
            return value  # a default, which is a value already
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Notation("duration", notation.parse_duration)
DURATION_RANGE = Notation("range", notation.parse_duration_range)
ENDPOINT = Notation("host:port", notation.checked_endpoint)
PEERS = Notation("name=host:port,...", notation.parse_peers)
VALUE = Notation("value", notation.parse_value)
