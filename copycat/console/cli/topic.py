"""``copycat topic``: messages for everybody who listens."""

from typing import Any

import click

from copycat.console.cli.parameters import VALUE
from copycat.console.cli.settings import Settings, pass_settings
from copycat.console.notation import value_text


@click.group("topic")
def command() -> None:
    """Publish messages, and listen to them.

    A message is read as JSON, or as a text if it is not JSON; messages are printed as JSON.
    """


@command.command("pub", context_settings={"ignore_unknown_options": True})  # -5 is a message
@click.argument("name")
@click.argument("message", type=VALUE)
@pass_settings
def pub(settings: Settings, name: str, message: Any) -> None:
    """Send MESSAGE to all who listen to the topic NAME now."""
    with settings.client() as client:
        from copycat.resources import DistributedTopic

        topic: DistributedTopic[Any] = client.open(DistributedTopic, name)
        topic.publish(message)


@command.command("sub")
@click.argument("name")
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@pass_settings
def sub(settings: Settings, name: str, count: int | None) -> None:
    """Print each message of the topic NAME, one a line, until Ctrl-C.

    Notes, also of messages that may have been missed, go to stderr.
    """
    with settings.client() as client:
        from copycat.resources import DistributedTopic, Gap

        topic: DistributedTopic[Any] = client.open(DistributedTopic, name)
        left = count
        with topic.subscribe() as messages:
            click.echo(f"listening to {name}", err=True)
            for message in messages:
                if isinstance(message, Gap):
                    click.echo("copycat: messages may be missing here", err=True)
                    continue
                click.echo(value_text(message))
                if left is not None:
                    left -= 1
                    if not left:
                        break
