"""``copycat counter``: one number that everybody shares."""

import click

from copycat.console.cli.settings import Settings, pass_settings


@click.group("counter")
def command() -> None:
    """Increment and read a counter."""


@command.command(
    "incr",
    short_help="Add N to the counter NAME, and print the value.",
    context_settings={"ignore_unknown_options": True},  # -5 is a number
)
@click.argument("name")
@click.argument("n", type=int, default=1)
@pass_settings
def incr(settings: Settings, name: str, n: int) -> None:
    """Add N, which may be negative, to the counter NAME, and print the new value."""
    with settings.client() as client:
        from copycat.resources import DistributedCounter

        click.echo(client.open(DistributedCounter, name).increment(n))


@command.command("get")
@click.argument("name")
@pass_settings
def get(settings: Settings, name: str) -> None:
    """Print the value of the counter NAME."""
    with settings.client() as client:
        from copycat.resources import DistributedCounter

        click.echo(client.open(DistributedCounter, name).value())
