"""``copycat map``: the keys and values of a map."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from copycat.console.cli.failures import NEGATIVE
from copycat.console.cli.parameters import VALUE
from copycat.console.cli.settings import Settings, pass_settings
from copycat.console.notation import key_text, value_text

if TYPE_CHECKING:
    from copycat.resources import DistributedMap


@click.group("map")
def command() -> None:
    """Put, get, remove and list what is in a map.

    Keys are texts. A value is read as JSON, or as a text if it is not JSON; values are printed
    as JSON.
    """


@contextmanager
def _opened(settings: Settings, name: str) -> Iterator["DistributedMap[Any, Any]"]:
    with settings.client() as client:
        from copycat.resources import DistributedMap

        yield client.open(DistributedMap, name)


@command.command("put", context_settings={"ignore_unknown_options": True})  # -5 is a value
@click.argument("name")
@click.argument("key")
@click.argument("value", type=VALUE)
@pass_settings
def put(settings: Settings, name: str, key: str, value: Any) -> None:
    """Set KEY of the map NAME to VALUE."""
    with _opened(settings, name) as opened:
        opened.put(key, value)


@command.command("get")
@click.argument("name")
@click.argument("key")
@pass_settings
@click.pass_context
def get(context: click.Context, settings: Settings, name: str, key: str) -> None:
    """Print the value of KEY; exit with 3 if there is none."""
    with _opened(settings, name) as opened:
        entry = opened.get_entry(key)
    if entry is None:
        _say_absent(context, name, key)
    else:
        click.echo(value_text(entry.value))


@command.command("del")
@click.argument("name")
@click.argument("key")
@pass_settings
@click.pass_context
def delete(context: click.Context, settings: Settings, name: str, key: str) -> None:
    """Remove KEY; exit with 3 if there is none."""
    with _opened(settings, name) as opened:
        try:
            del opened[key]
        except KeyError:
            _say_absent(context, name, key)


@command.command("ls", short_help="Print all keys and values, one pair a line.")
@click.argument("name")
@pass_settings
def ls(settings: Settings, name: str) -> None:
    """Print all keys and values, one pair a line with a tab between, in the order of insertion."""
    with _opened(settings, name) as opened:
        for key, value in opened.items():
            click.echo(f"{key_text(key)}\t{value_text(value)}")


def _say_absent(context: click.Context, name: str, key: str) -> None:
    click.echo(f"copycat: the map {name!r} has no key {key!r}", err=True)
    context.exit(NEGATIVE)
