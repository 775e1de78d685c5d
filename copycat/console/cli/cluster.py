"""``copycat cluster``: a playground of real servers on this machine."""

import click

from copycat.console.cli.failures import NEGATIVE

UP_TIMEOUT_S = 20.0


@click.group("cluster")
def command() -> None:
    """Start and stop servers on this machine, to play with.

    The other commands find them without --endpoint.
    """


@command.command("up", short_help="Start a playground, and wait until it has a leader.")
@click.option(
    "-n",
    "servers",
    type=click.IntRange(1, 9),
    help="How many servers; without it as many as there are, or 3.",
)
def up(servers: int | None) -> None:
    """Start a playground, or what does not run of it, and wait until it has a leader."""
    import asyncio

    from copycat.console.playground import Playground

    playground = Playground.of_user()
    playground.start(servers)
    leader = asyncio.run(playground.elect(UP_TIMEOUT_S))
    for process in playground.processes():
        mark = " *" if process.name == leader else ""
        click.echo(f"{process.name}{mark}\t{process.endpoint}\tpid {process.pid}")
    click.echo("try: copycat map put greeting hello world", err=True)


@command.command("down")
@click.option("--force", is_flag=True, help="Kill at once instead of asking first.")
@click.option("--wipe", is_flag=True, help="Remove the data too.")
def down(*, force: bool, wipe: bool) -> None:
    """Stop the playground; the next `up` goes on with its data."""
    from copycat.console.playground import Playground

    stopped = Playground.of_user().stop(force=force, wipe=wipe)
    servers = "server" if stopped == 1 else "servers"
    click.echo(f"stopped {stopped} {servers}" + (", data removed" if wipe else ""))


@command.command("ls", short_help="List the servers of the playground.")
@click.pass_context
def ls(context: click.Context) -> None:
    """List the servers of the playground; exit with 3 if there is none."""
    from copycat.console.playground import Playground

    playground = Playground.of_user()
    processes = playground.processes()
    for process in processes:
        state = f"pid {process.pid}" if process.is_running() else "stopped"
        log = playground.log_file(process.name)
        click.echo(f"{process.name}\t{process.endpoint}\t{state}\t{log}")
    if not processes:
        click.echo("copycat: there is no playground; `copycat cluster up` starts one", err=True)
        context.exit(NEGATIVE)
