"""``copycat status``: what each server says of itself, on one screen or as JSON."""

import json
from typing import TYPE_CHECKING, Any

import click

from copycat.console.cli import failures
from copycat.console.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from copycat.console.health import Health, Member

SCHEMA = "copycat.status/1"
CODES = {
    "healthy": failures.DONE,
    "degraded": failures.DEGRADED,
    "no leader": failures.UNAVAILABLE,
    "unreachable": failures.UNREACHABLE,
}
FIGURES = (
    "role",
    "term",
    "last_index",
    "commit_index",
    "applied_index",
    "apply_stood_ms",
    "log_bytes",
    "sessions",
)


@click.command("status", short_help="Show what each server knows of itself.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, whose form is stable.")
@pass_settings
@click.pass_context
def command(context: click.Context, settings: Settings, *, as_json: bool) -> None:
    """Show what each server knows: this needs neither a leader nor a majority.

    Exits with 0 when all is well, 9 when a server cannot be reached, takes no part or stands still,
    4 when no leader serves, 5 when no server can be reached.
    """
    endpoints = settings.endpoints()
    import asyncio

    from copycat.client.status import ask_status
    from copycat.console.health import health_of

    health = health_of(asyncio.run(ask_status(endpoints, settings.timeout_s)))
    if as_json:
        click.echo(json.dumps(document(health)))
    else:
        for line in lines(health):
            click.echo(line)
    context.exit(CODES[health.verdict])


def document(health: "Health") -> dict[str, Any]:
    """The JSON document; what is not known is null."""
    return {
        "schema": SCHEMA,
        "health": health.verdict,
        "leader": health.leader,
        "term": health.term,
        "servers": [
            {
                "id": member.id,
                **{figure: getattr(member.status, figure, None) for figure in FIGURES},
                "reachable": member.status is not None,
                "reason": member.reason or None,
                **_long_handlers(member),
            }
            for member in health.members
        ],
    }


def _long_handlers(member: "Member") -> dict[str, dict[str, int] | None]:
    """For each limit how many handlers took longer, by name."""
    told: dict[str, dict[str, int] | None] = {}
    for over in ("over_10_ms", "over_50_ms", "over_200_ms"):
        counts = None
        if member.status is not None:
            handlers = member.status.handlers
            counts = {each.name: count for each in handlers if (count := getattr(each, over))}
        told[f"handlers_{over}"] = counts
    return told


def lines(health: "Health") -> list[str]:
    """The screen for people."""
    from copycat.console.notation import printable

    told = [f"{len(health.statuses)} of {health.total} servers reachable"]
    if health.term is not None:
        told.insert(0, f"term {health.term}")
    if health.leader is not None:
        told.insert(0, f"leader {printable(health.leader)}")
    rows = [["SERVER", "ROLE", "TERM", "LAST", "COMMIT", "APPLIED", "LOG", "SESSIONS"]]
    rows += [_row(member, health.leader) for member in health.members]
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(len(rows[0]))]
    return [
        f"{health.verdict}: {', '.join(told)}",
        *["  ".join(_aligned(row, widths)).rstrip() for row in rows],
        *[
            printable(f"{_place(member)}: {member.reason}")
            for member in health.members
            if member.trouble
        ],
    ]


def _place(member: "Member") -> str:
    return member.id if member.id == member.endpoint else f"{member.id} at {member.endpoint}"


def _row(member: "Member", leader: str | None) -> list[str]:
    from copycat.console.notation import bytes_text, count_text, printable

    name = printable(member.id) + (" *" if member.id == leader else "")
    status = member.status
    if status is None:
        return [name, "unreachable"]
    return [
        name,
        printable(status.role),
        str(status.term),
        count_text(status.last_index),
        count_text(status.commit_index),
        count_text(status.applied_index),
        bytes_text(status.log_bytes),
        count_text(status.sessions),
    ]


def _aligned(row: list[str], widths: list[int]) -> list[str]:
    """Words to the left, figures to the right."""
    return [
        cell.ljust(widths[at]) if at < 2 else cell.rjust(widths[at]) for at, cell in enumerate(row)
    ]
