"""``copycat serve``: one server, in the foreground."""

from pathlib import Path

import click

from copycat.console.cli.parameters import DURATION, DURATION_RANGE, ENDPOINT, PEERS


@click.command("serve")
@click.option("--id", "name", required=True, help="This server's name, one of --peers.")
@click.option("--listen", type=ENDPOINT, required=True, metavar="HOST:PORT")
@click.option(
    "--peers",
    type=PEERS,
    required=True,
    metavar="NAME=HOST:PORT,...",
    help="All servers of the cluster, this one too.",
)
@click.option(
    "--data",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where this server, and no other, keeps its files; made if there is none.",
)
@click.option(
    "--load",
    "types",
    multiple=True,
    metavar="[NAME=]MODULE:CLASS",
    help="A state machine of your own, as a type of resource; may be repeated. Without NAME the"
    " type is called as the class is, in small letters and without 'Machine'.",
)
@click.option(
    "--heartbeat",
    "heartbeat_s",
    type=DURATION,
    default=0.050,
    help="How often an idle leader says that it leads; 50ms if not given.",
)
@click.option(
    "--election-timeout",
    "election_timeout_s",
    type=DURATION_RANGE,
    default=(0.300, 0.600),
    metavar="SHORTEST..LONGEST",
    help="Without a leader for so long a server stands for election; 300ms..600ms if not given. No"
    " session is shorter than one and a half times the longest.",
)
@click.option(
    "--fail-entry",
    "fail_entries",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="INDEX",
    help="Have the command at this index of the log fail, for ever: it stops a server, or does not"
    " come to its end. Give it to every server; may be repeated. Never name a command that was"
    " answered.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Allow addresses beyond this machine. There is no TLS yet: whoever can reach the port"
    " can read and write everything.",
)
def command(
    name: str,
    listen: str,
    peers: dict[str, str],
    directory: Path,
    types: tuple[str, ...],
    heartbeat_s: float,
    election_timeout_s: tuple[float, float],
    fail_entries: tuple[int, ...],
    *,
    insecure: bool,
) -> None:
    """Run one server of a cluster until TERM or Ctrl-C.

    The first start needs all servers of --peers up once; from then on a majority is enough.
    """
    from copycat.console import serving

    serving.serve(
        serving.options_of(name, peers, types, heartbeat_s, election_timeout_s),
        listen=listen,
        directory=directory,
        insecure=insecure,
        fail_entries=fail_entries,
    )
