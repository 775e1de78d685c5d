"""``copycat top``: the live dashboard."""

import click

from copycat.console.cli import failures
from copycat.console.cli.parameters import DURATION
from copycat.console.cli.settings import Settings, pass_settings

INTERVAL_MIN_S = 0.25
INTERVAL_MAX_S = 60.0


@click.command("top", short_help="Watch the cluster live.")
@click.option("--once", is_flag=True, help="Print one plain picture and end.")
@click.option(
    "--interval",
    "interval_s",
    type=DURATION,
    default=1.0,
    help="Between two looks, from 250ms to 60s; 1s if not given.",
)
@pass_settings
@click.pass_context
def command(context: click.Context, settings: Settings, interval_s: float, *, once: bool) -> None:
    """Watch the cluster: its servers, how far they are, what is written and read.

    Keys: q quits, p pauses, ? explains. Without a terminal it prints one plain picture, as with
    --once. With no server reachable, a picture says so and the exit code is 5.
    """
    if not INTERVAL_MIN_S <= interval_s <= INTERVAL_MAX_S:
        raise click.BadParameter("from 250ms to 60s", context, param_hint="--interval")
    endpoints = settings.endpoints()
    import asyncio

    from rich.console import Console

    from copycat.console.dashboard.live import snapshot, watch
    from copycat.console.dashboard.terminal import is_usable

    console = Console()
    if not once and is_usable(console):
        number = asyncio.run(watch(console, endpoints, interval_s))
        context.exit(failures.SIGNALLED + number if number else failures.DONE)
    if not once:
        click.echo("copycat: not a terminal that can show live figures; one picture", err=True)
    picture = asyncio.run(snapshot(console, endpoints, settings.timeout_s))
    if picture.health.verdict == "unreachable":
        context.exit(failures.UNREACHABLE)
