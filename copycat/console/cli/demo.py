"""``copycat demo``: a tour of everything, on servers of its own."""

import click


@click.command("demo", short_help="See it all, and a crash under load, in some seconds.")
def command() -> None:
    """Start three servers, use every resource, kill the leader under load, and count.

    It uses a directory and ports of its own, touches nothing else, and cleans up behind itself.
    Exits with 10 if anything acknowledged was lost.
    """
    from copycat.console.demo import tour

    raise SystemExit(tour.run())
