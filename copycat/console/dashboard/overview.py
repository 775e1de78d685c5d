"""The overview: the whole cluster on one screen, in whatever condition it is.

Pure functions of a picture and a size. A condition is always a word and a mark (``!`` look at
it, ``X`` gone) and never a colour alone.
"""

import textwrap
from datetime import UTC, datetime

from rich.text import Text

from copycat.console.dashboard.lines import (
    BAD,
    DIM,
    LEVELS,
    OK,
    TITLE,
    WARNING,
    Piece,
    Section,
    columns,
    curve,
    fitting,
    line,
    stacked,
)
from copycat.console.dashboard.model import Leaderless, Picture, Row
from copycat.console.health import Health
from copycat.console.notation import age_text, bytes_text, count_text, printable, rate_text

FRAME_WIDTH = 4  # a bar and a blank on both sides
WIDTH_MIN = 60
HEIGHT_MIN = 15
CURVE_WIDTH_MAX = 60
RATE_WIDTH = 22  # what stands before a curve, and its brackets
NAME = " copycat   "
KEYS = " q quit   p pause   ? help"
COLUMNS = "NODE ROLE STATE MATCH LAG APPLY-LAG HEARD UP TERM CLIENTS LOG ADDRESS".split()
DROPPED = "ADDRESS LOG CLIENTS TERM UP HEARD APPLY-LAG MATCH".split()
LEADERLESS_COLUMNS = "NODE ROLE STATE TERM LAST COMMIT APPLY-LAG UP CLIENTS LOG ADDRESS".split()
LEADERLESS_DROPPED = "ADDRESS LOG CLIENTS UP APPLY-LAG COMMIT".split()
WORDS = ("NODE", "ROLE", "STATE", "ADDRESS")  # columns that are no figures
NOT_RUNNING = ("connection refused", "connection closed", "connection reset by peer")
KEYS_OF_HELP = " q quit   p pause   ? back"
HELP = (
    ("NODE", "the server's name; * leads"),
    ("ROLE", "leader, follower, candidate; inactive: not yet started with the others"),
    (
        "STATE",
        (
            "OK; !BEHIND by over 1,000 entries; !WAITS for servers never met; !STARTS: it applies its"
            " log; XCUT: the leader does not hear of it; XSTILL: it applies nothing; XDOWN: no answer"
        ),
    ),
    ("MATCH", "up to where its log agrees with the leader's, as that one knows"),
    ("LAG", "entries of the leader that it has not got yet"),
    ("LAST", "the end of its log; COMMIT: how much of it is decided, as it knows"),
    ("APPLY-LAG", "entries that are committed and not applied yet"),
    ("HEARD", "since it answered the leader last; UP: since it was started"),
    ("TERM", "the election that it knows of"),
    ("CLIENTS", "connections of clients; LOG: its files; ADDRESS: where it is"),
    ("Write", "commands a second, as the leader applies them"),
    ("Read", "queries a second, answered by all servers together"),
    (f"[{LEVELS}]", "these rates look by look, newest to the right; # is the highest"),
    ("Elect", "how often a server stood for election"),
    ("Slow", "what kept a server from all else for longer than 50 ms; in full: status --json"),
    ("", "Each server tells what it knows itself, so no leader is needed."),
)
HELP_INDENT = 11


def render(
    picture: Picture, width: int, height: int, *, interval_s: float = 1.0, paused: bool = False
) -> list[Text]:
    """The screen, as lines of exactly this width, as many as the height or fewer."""
    head = _head(picture, width, interval_s, paused=paused)
    if width < WIDTH_MIN or height < HEIGHT_MIN:
        return [line(head, width)]
    sections = _sections(picture, width)
    body = stacked(sections, width, height - 2)
    return [line(head, width), *body, line(((KEYS, DIM),), width)]


def render_help(width: int, height: int) -> list[Text]:
    """The page behind ``?``."""
    if width < WIDTH_MIN or height < HEIGHT_MIN:
        return [line(("? back   q quit   p pause",), width)]
    lines: list[tuple[Piece, ...]] = []
    for word, text in HELP:
        first, *others = textwrap.wrap(text, width - FRAME_WIDTH - HELP_INDENT)
        lines.append((f"{word:<{HELP_INDENT}}{first}",))
        lines += [(f"{'':<{HELP_INDENT}}{other}",) for other in others]
    section = Section("Help", tuple(lines), keeps=0)
    return [*stacked([section], width, height - 1), line(((KEYS_OF_HELP, DIM),), width)]


def render_plain(picture: Picture, width: int) -> list[Text]:
    """A snapshot for pipes and files: as long as it needs to be, and without keys."""
    if width < WIDTH_MIN:
        return [line(_head(picture, width), width)]
    drawn = [line(_head(picture, width), width)]
    return [*drawn, *stacked(_sections(picture, width), width, 10_000)]


def clock_text(wall_s: float | None) -> str:
    """A moment as a UTC clock shows it."""
    if wall_s is None:
        return "-"
    return datetime.fromtimestamp(wall_s, UTC).strftime("%H:%M:%S")


def _sections(picture: Picture, width: int) -> list[Section]:
    if picture.health.verdict == "unreachable":
        return [_unreachable(picture, width)]
    sections = [_members(picture, width)]
    if picture.leaderless is not None:
        sections.insert(0, _no_leader(picture, picture.leaderless))
    return [*sections, _cluster(picture, width), _events(picture)]


def _head(
    picture: Picture, width: int, interval_s: float | None = None, *, paused: bool = False
) -> tuple[Piece, ...]:
    health = picture.health
    servers = f"servers {health.well}/{health.total}"
    term = "term -" if health.term is None else f"term {health.term}"
    leader = f"leader {printable(health.leader or '-')}"
    told: list[Piece]
    if health.verdict == "unreachable":
        told = [("XX CANNOT REACH ANY SERVER", BAD), f"attempt {picture.looks}"]
    elif picture.leaderless is not None:
        said = f"XX NO LEADER {age_text(picture.leaderless.age_s)}"
        told = [(said, BAD), f"{servers} (need {health.majority})", term]
    elif health.verdict == "degraded":
        told = [("!! DEGRADED", WARNING), leader, servers]
        if health.well == health.majority:
            told.append(("ONE MORE FAILURE STOPS WRITES", BAD))
    else:
        told = [("OK HEALTHY", OK), leader, term, servers]
    if paused:
        told.insert(0, ("PAUSED", WARNING))
    told.append(f"{clock_text(picture.wall_s)}Z")
    if interval_s is not None and not paused:
        told.append(age_text(interval_s))
    return (NAME, *fitting(told, width - len(NAME)))


def _members(picture: Picture, width: int) -> Section:
    shown, dropped = COLUMNS, DROPPED
    if picture.leaderless is not None:
        shown, dropped = LEADERLESS_COLUMNS, LEADERLESS_DROPPED
    cells = [_cells(row) for row in picture.rows]
    rows = [[each[title] for title in shown] for each in cells]
    table = columns(shown, rows, left=WORDS, dropped=dropped, width=width - FRAME_WIDTH)
    below = [piece for row in picture.rows if row.reason for piece in _why(row, width)]
    return Section("Members", (*table, *below), keeps=3)


def _cells(row: Row) -> dict[str, Piece]:
    """What stands in each column."""
    style = {"O": OK, "!": WARNING, "X": BAD}[row.condition[0]]
    name = ("* " if row.leads else "  ") + printable(row.name)
    return {
        "NODE": (name, TITLE if row.leads else ""),
        "ROLE": printable(row.role),
        "STATE": (row.condition, style),
        "MATCH": count_text(row.match),
        "LAG": count_text(row.lag),
        "LAST": count_text(row.last),
        "COMMIT": count_text(row.commit),
        "APPLY-LAG": count_text(row.apply_lag),
        "HEARD": age_text(row.heard_s),
        "UP": age_text(row.uptime_s),
        "TERM": "-" if row.term is None else str(row.term),
        "CLIENTS": count_text(row.connections),
        "LOG": bytes_text(row.log_bytes),
        "ADDRESS": printable(row.endpoint) or "-",
    }


def _why(row: Row, width: int) -> list[tuple[Piece, ...]]:
    name = "" if row.name == row.endpoint else f"{printable(row.name)} at "
    text = f"{name}{printable(row.endpoint)}: {printable(row.reason)}"
    if row.condition == "XDOWN" and row.seen_s is not None:
        text += f"; seen {age_text(row.seen_s)} ago"
    elif row.condition == "XDOWN" and row.heard_s is None:
        text += "; never seen"  # neither from here nor by the leader
    return [((each, BAD),) for each in textwrap.wrap(text, width - FRAME_WIDTH)]


def _cluster(picture: Picture, width: int) -> Section:
    health = picture.health
    statuses = health.statuses
    foremost = max(statuses, key=lambda each: (each.name == health.leader, each.commit_index))
    curve_width = min(CURVE_WIDTH_MAX, width - FRAME_WIDTH - RATE_WIDTH)
    connections = sum(status.connections for status in statuses)
    elections = sum(status.elections_started for status in statuses)
    lines: list[tuple[Piece, ...]] = [
        _rate("Write", picture.write_per_s, curve(picture.writes, curve_width)),
        _rate("Read ", picture.read_per_s, curve(picture.reads, curve_width)),
        fitting(
            (
                f"Log     last {foremost.last_index:,}",
                f"commit {foremost.commit_index:,}",
                f"applied {foremost.applied_index:,}",
                bytes_text(foremost.log_bytes),
            ),
            width - FRAME_WIDTH,
        ),
        (f"Client  sessions {foremost.sessions:,}   connections {connections:,}",),
        (_stored(foremost.resources, foremost.resource_count, width - FRAME_WIDTH),),
        (f"Elect   {elections:,} stood for since the servers were started",),
    ]
    slow = [
        (each.over_50_ms, status.name, each.name) for status in statuses for each in status.handlers
    ]
    if count := sum(times for times, _, _ in slow):
        _, server, name = max(slow)
        most = f"most often {printable(name)} on {printable(server)}"
        text = f"Slow    {count:,} handlers over 50 ms since the servers were started"
        lines.append(fitting((text, most), width - FRAME_WIDTH))
    return Section("Cluster", tuple(lines), keeps=1)


def _rate(title: str, per_s: float | None, drawn: str) -> tuple[Piece, ...]:
    return (f"{title}   {rate_text(per_s):<12}", (drawn, DIM))


def _stored(resources: tuple[tuple[str, ...], ...], count: int, width: int) -> str:
    if not count:
        return "Stored  nothing yet; try  copycat map put greeting hello world"
    text = f"Stored  resources {count:,}:"
    for place, (name, kind) in enumerate(resources):
        more = f"{',' if place else ''} {printable(name)} ({printable(kind)})"
        if len(text) + len(more) > width - 5:
            return text + ", ..."
        text += more
    return text


def _events(picture: Picture) -> Section:
    lines: list[tuple[Piece, ...]] = []
    for event in picture.events:
        style = WARNING if event.level == "warning" else ""
        level = "WARN" if event.level == "warning" else printable(event.level)
        name = printable(event.server)
        lines.append(
            (
                (f"{clock_text(event.wall_s)} ", DIM),
                (f"{level:<4} ", style),
                f"{name:<4} {printable(event.text)}",
            )
        )
    if not lines:
        lines = [(("none yet", DIM),)]
    return Section("Events (newest first)", tuple(lines), keeps=0)


def _no_leader(picture: Picture, leaderless: Leaderless) -> Section:
    health = picture.health
    last = "never seen" if leaderless.last_leader is None else printable(leaderless.last_leader)
    terms = f"term {health.term}"
    if leaderless.term_before is not None and leaderless.term_before != health.term:
        terms = f"terms {leaderless.term_before} -> {health.term}"
    lines: list[tuple[Piece, ...]] = [
        ("Writes and linearizable reads fail now; sequential reads still work.",),
        (
            f"Last leader {last}   {terms}",
            f"   elections stood for meanwhile {leaderless.elections:,}",
        ),
        (_cause(health),),
    ]
    committed = max(status.commit_index for status in health.statuses)
    lines.append((f"Committed up to {committed:,}, as far as the servers know that answer.",))
    title = f"NO LEADER since {clock_text(leaderless.since_wall_s)}Z, as we have seen"
    return Section(title, tuple(lines), keeps=2, style=BAD)


def _cause(health: Health) -> str:
    silent = [each for each in health.members if each.status is None]
    # Where nobody listens a server has to be started; one that is there and says nothing does not.
    gone = ", ".join(printable(each.id) for each in silent if each.reason in NOT_RUNNING)
    mute = ", ".join(printable(each.id) for each in silent if each.reason not in NOT_RUNNING)
    do = "; ".join([f"start {gone}"] * bool(gone) + [f"{mute} may hang"] * bool(mute))
    if silent and any(status.role == "inactive" for status in health.statuses):
        return f"The first start needs all servers up once: {do}."
    if len(health.statuses) < health.majority:
        return f"{len(health.statuses)} of {health.total} servers answer: {do}."
    return "A majority is there: an election should settle it in a moment."


def _unreachable(picture: Picture, width: int) -> Section:
    rows = [
        (printable(member.endpoint or member.id), printable(member.reason))
        for member in picture.health.members
    ]
    table = columns(
        ("ENDPOINT", "WHY"), rows, left=("ENDPOINT", "WHY"), dropped=(), width=width - FRAME_WIDTH
    )
    contact = "We have not reached any server yet."
    if picture.last_contact_wall_s is not None:
        age = age_text(picture.wall_s - picture.last_contact_wall_s)
        contact = f"Last contact {clock_text(picture.last_contact_wall_s)}Z, {age} ago."
    lines: list[tuple[Piece, ...]] = [
        *table,
        (contact,),
        ("Try  copycat --endpoint HOST:PORT top     another server",),
        ("     copycat cluster up                   a local playground instead",),
    ]
    return Section("Endpoints", tuple(lines), keeps=0)
