"""What a transcript can do, step by step, and what it can show."""

import errno
from typing import Any

import transcript_facts  # noqa: F401 - its facts are what `expect` knows
from copycat.server.server import Server
from copycat.storage.recovery import OFFSET_BITS
from copycat.storage.segment import segment_name
from transcript_file import ScriptError
from transcript_shown import everything, log_line, log_lines, server_line
from transcript_stage import Rule, Stage
from transcript_words import Call, fact_of, must_not_run, must_run, one_of, running, step

PATIENCE_S = 30.0  # of `wait until`, and of everything else that must come true
ELECTION_S = 5.0  # for one that the script orders
ELECTION_AGAIN_S = 0.1
FOREVER = float("inf")
ENVELOPE_BYTES = 20  # what stands on the disk before each entry


# Servers.


@step("start SERVERS")
def start(stage: Stage, names: list[str]) -> None:
    """Start servers, each with the disk of its earlier life."""
    for name in names:
        must_not_run(stage, name)
        stage.start(name)


@step("start SERVER knowing SERVERS")
def start_knowing(stage: Stage, name: str, told: list[str]) -> None:
    """Start one that is told that these are all servers."""
    stage.cluster.told[name] = told
    start(stage, [name])


@step("start SERVER on the disk of SERVER")
def start_on_disk(stage: Stage, name: str, other: str) -> None:
    """Start one with the disk of another, which must not run."""
    must_not_run(stage, other)
    stage.cluster.disks[name] = stage.cluster.disks[other]
    start(stage, [name])


@step("elect SERVER")
def elect(stage: Stage, name: str) -> None:
    """Let it ask for elections until it leads and serves clients."""
    must_run(stage, name)
    server = stage.cluster.server(name)
    end_s = stage.simulation.now_s + ELECTION_S
    while not (server.role_title == "leader" and server.progress.wanted_index is None):
        if stage.simulation.now_s > end_s:
            raise ScriptError(f"{name} was not elected within {ELECTION_S:g} s")
        stage.end_patience(name)
        stage.simulation.run_for(ELECTION_AGAIN_S)


@step("stand SERVER")
def stand(stage: Stage, name: str) -> None:
    """Let it ask for an election once, whatever comes of it."""
    must_run(stage, name)
    stage.end_patience(name)


@step("let elections happen")
def let_elections_happen(stage: Stage) -> None:
    """From now on servers ask for elections by themselves."""
    stage.let_elections_happen()


@step("crash NODES")
def crash(stage: Stage, names: list[str]) -> None:
    """Cut the power: what was not synced is lost. Others notice at once."""
    for name in names:
        must_run(stage, name)
        stage.crash(name)


@step("crash NODE silently")
def crash_silently(stage: Stage, name: str) -> None:
    """The same, but the others notice only by its silence."""
    must_run(stage, name)
    stage.crash(name, silent=True)


@step("crash SERVER in the middle of a write")
def crash_torn(stage: Stage, name: str) -> None:
    """The same, but half of what was not synced of its log is there."""
    must_run(stage, name)
    stage.crash(name, torn=True)


@step("pause NODE for SECONDS")
def pause(stage: Stage, name: str, duration_s: float) -> None:
    """Let it do nothing; messages wait, and its clock goes on."""
    must_run(stage, name)
    stage.simulation.nodes[name].pause(duration_s)


@step("run the clock of NODE at NUMBER")
def set_clock(stage: Stage, name: str, rate: float) -> None:
    """Let it run faster (above 1) or slower."""
    stage.simulation.nodes[name].clock.rate = rate


@step("set the clock of NODE forward by SECONDS")
def jump_clock(stage: Stage, name: str, by_s: float) -> None:
    """Its wall clock; back when negative."""
    stage.simulation.nodes[name].clock.jump_wall(by_s)


# Disks.


@step("wipe SERVER")
def wipe(stage: Stage, name: str) -> None:
    """Give one that does not run an empty disk."""
    must_not_run(stage, name)
    stage.cluster.wipe(name)


@step("stall the disk of SERVER for SECONDS")
def stall(stage: Stage, name: str, duration_s: float) -> None:
    """Let nothing become durable for a while."""
    stage.cluster.disks[name].stall(duration_s)


@step("fail the next sync of SERVER")
def fail_sync(stage: Stage, name: str) -> None:
    """Its log's, with EIO; no later one saves what this one should."""
    stage.cluster.disks[name].fail_next_sync()


@step("fill the disk of SERVER")
def fill(stage: Stage, name: str) -> None:
    """Leave no room for files to grow."""
    disk = stage.cluster.disks[name]
    disk.capacity_bytes = sum(len(disk.load(file) or b"") for file in disk.names())


@step("make the disk of SERVER read-only")
def make_read_only(stage: Stage, name: str) -> None:
    """Let every write, creation and sync fail."""
    stage.cluster.disks[name].write_error = errno.EROFS


@step("repair the disk of SERVER")
def repair(stage: Stage, name: str) -> None:
    """Undo what lasts of the faults above."""
    stage.cluster.disks[name].repair()


@step("flip a bit of file NAME of SERVER")
def flip_file(stage: Stage, file: str, name: str) -> None:
    """Damage a small file: ballot, identity or configuration."""
    disk = stage.cluster.disks[name]
    disk.flip_bit(one_of(disk.names(), file, "file"))


@step("flip a bit of entry NUMBER of SERVER")
def flip_entry(stage: Stage, index: float, name: str) -> None:
    """Damage an entry on its disk, while it runs."""
    file, offset, size_bytes = _place_on_disk(running(stage, name), int(index))
    stage.cluster.disks[name].flip_bit(file, offset + size_bytes - 1)


@step("copy entry NUMBER over entry NUMBER of SERVER")
def copy_entry(stage: Stage, source: float, target: float, name: str) -> None:
    """Let an entry stand a second time on its disk, whole."""
    server = running(stage, name)
    file, offset, size_bytes = _place_on_disk(server, int(source))
    over_file, over, over_bytes = _place_on_disk(server, int(target))
    if size_bytes != over_bytes:
        raise ScriptError(f"entry {target:g} has {over_bytes} bytes, not {size_bytes}")
    disk = stage.cluster.disks[name]
    content = (disk.load(file) or b"")[offset : offset + size_bytes]
    for image in (disk._names[over_file].visible, disk._names[over_file].durable):
        image[over : over + size_bytes] = content


def _place_on_disk(server: Server, index: int) -> tuple[str, int, int]:
    """File, offset and size of an entry with its envelope."""
    position = server.log._index.position(server.log._index.ordinal_of(index))
    segment, offset = position >> OFFSET_BITS, position & ((1 << OFFSET_BITS) - 1)
    record = server.log.batch_at(index).record
    return segment_name(segment), offset, len(record) + ENVELOPE_BYTES


# Links.


@step("cut NODES | NODES")
def cut(stage: Stage, names: list[str], others: list[str]) -> None:
    """Let nothing pass; what is sent meanwhile arrives after the cut."""
    stage.cluster.partition(names, others)


@step("cut NODES > NODES")
def cut_one_way(stage: Stage, names: list[str], others: list[str]) -> None:
    """The same one way; the other way is open."""
    for name in names:
        for other in others:
            stage.network.cut_one_way(name, other)


@step("heal")
def heal(stage: Stage) -> None:
    """Undo all cuts."""
    stage.cluster.heal()


@step("reset NODE NODE")
def reset(stage: Stage, name: str, other: str) -> None:
    """Break their connections; they will connect again."""
    stage.network.reset(name, other)


@step("hold MESSAGE SOURCE > TARGET")
def hold(stage: Stage, kind: str, source: str, target: str) -> None:
    """Keep these messages back; others overtake them."""
    stage.network.rules.append(Rule("hold", kind, source, target, FOREVER))


@step("drop MESSAGE SOURCE > TARGET")
def drop(stage: Stage, kind: str, source: str, target: str) -> None:
    """Lose these messages."""
    stage.network.rules.append(Rule("drop", kind, source, target, FOREVER))


@step("drop the next MESSAGE SOURCE > TARGET")
def drop_next(stage: Stage, kind: str, source: str, target: str) -> None:
    """Lose one of them."""
    stage.network.rules.append(Rule("drop", kind, source, target, 1))


@step("repeat the next MESSAGE SOURCE > TARGET after SECONDS")
def repeat_next(stage: Stage, kind: str, source: str, target: str, after_s: float) -> None:
    """Let one arrive twice."""
    stage.network.rules.append(Rule("repeat", kind, source, target, 1, after_s))


@step("release")
def release(stage: Stage) -> None:
    """Deliver what is kept back, in order, and keep back no more."""
    _release(stage)


@step("release MESSAGE")
def release_kind(stage: Stage, kind: str) -> None:
    """The same, with messages of one kind."""
    _release(stage, kind)


@step("release the newest first")
def release_reversed(stage: Stage) -> None:
    """The same, against the order."""
    _release(stage, reverse=True)


@step("let all through")
def let_through(stage: Stage) -> None:
    """Lose no more."""
    check_used(stage)
    stage.network.rules = [rule for rule in stage.network.rules if rule.action != "drop"]


def _release(stage: Stage, kind: str | None = None, *, reverse: bool = False) -> None:
    check_used(stage)
    if not stage.network.release(kind, reverse=reverse):
        raise ScriptError("nothing is held back that could be released")
    stage.simulation.run_for(0.0)


def check_used(stage: Stage) -> None:
    """Refuse a script whose rules are never used: it does not show what it says."""
    for rule in stage.network.rules:
        if not rule.used:
            raise ScriptError(f"`{rule}` has met no such message")


# Clients.


@step("client NAME")
def client(stage: Stage, name: str) -> list[str] | None:
    """Connect a client; shows its error if it has one."""
    return client_with(stage, name, {})


@step("client NAME OPTIONS")
def client_with(stage: Stage, name: str, options: dict[str, Any]) -> list[str] | None:
    """Of at=SERVER, timeout_s=NUMBER, session_timeout_s=NUMBER."""
    if name in stage.simulation.nodes:
        raise ScriptError(f"there is a node {name} already")
    error = stage.connect(name, options.pop("at", None), **options)
    return None if error is None else [error]


@step("CLIENT begins: CALL")
def begin(stage: Stage, name: str, call: Call) -> None:
    """Call a method of a resource, and do not wait."""
    stage.begin(name, call)


@step("CLIENT: CALL = RESULT")
def call_expecting(stage: Stage, name: str, call: Call, result: str) -> None:
    """Call it; it must have this result, or end with this error."""
    _compare(call_showing(stage, name, call)[0], result)


@step("CLIENT: CALL")
def call_showing(stage: Stage, name: str, call: Call) -> list[str]:
    """Call it, and show the result."""
    if stage.programs[name].under_way:
        raise ScriptError(f"await first what {name} has begun")
    stage.begin(name, call)
    return [stage.result(name)]


@step("await CLIENT = RESULT")
def await_expecting(stage: Stage, name: str, result: str) -> None:
    """The same for what was begun first of what was not awaited."""
    _compare(await_showing(stage, name)[0], result)


@step("await CLIENT")
def await_showing(stage: Stage, name: str) -> list[str]:
    """The same, and show the result."""
    if not stage.programs[name].under_way:
        raise ScriptError(f"{name} has begun nothing that was not awaited")
    return [stage.result(name)]


def _compare(found: str, expected: str) -> None:
    if found != expected:
        raise ScriptError(f"{expected} was expected, and it is {found}")


# Time, and looking.


@step("pass SECONDS")
def pass_time(stage: Stage, duration_s: float) -> None:
    """Let virtual time pass."""
    stage.simulation.run_for(duration_s)


@step("settle")
def settle(stage: Stage) -> None:
    """Wait until all that run have applied the same, whole log."""
    try:
        stage.cluster.settle(PATIENCE_S)
    except TimeoutError:
        raise ScriptError(f"not within {PATIENCE_S:g} s:{everything(stage)}") from None


@step("expect FACT")
def expect(stage: Stage, text: str) -> None:
    """Fail unless it is so now."""
    if not fact_of(stage, text)():
        raise ScriptError(f"it is not so:{everything(stage)}")


@step("wait until FACT")
def wait_until(stage: Stage, text: str) -> None:
    """Let time pass until it is so, at most 30 s."""
    try:
        stage.cluster.run_until(fact_of(stage, text), PATIENCE_S)
    except TimeoutError:
        raise ScriptError(f"not within {PATIENCE_S:g} s:{everything(stage)}") from None


@step("show servers")
def show_servers(stage: Stage) -> list[str]:
    """Role and term of each, or why it is down."""
    return [server_line(stage, name) for name in stage.cluster.names]


@step("show logs")
def show_logs(stage: Stage) -> list[str]:
    """Index, term and content of entries; a bar after the committed ones."""
    return log_lines(stage)


@step("show log SERVER")
def show_log(stage: Stage, name: str) -> list[str]:
    """One of the logs."""
    return [log_line(running(stage, name))]


@step("show leaders")
def show_leaders(stage: Stage) -> list[str]:
    """Who has led in each term so far."""
    assert stage.cluster.monitors is not None, "transcripts are monitored"
    leaders = stage.cluster.monitors.leaders
    return [f"term {term}: {leader}" for term, (leader, _) in sorted(leaders.items())]
