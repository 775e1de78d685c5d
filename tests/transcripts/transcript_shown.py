"""What steps show: servers and logs, each in a line, without anything that chance or time decides."""

from copycat.actors.codec import decode
from copycat.server.server import Server
from copycat.storage.batch import Batch, BatchKind, Commands
from transcript_stage import Stage


def server_line(stage: Stage, name: str) -> str:
    """What a server is, or why it is no more."""
    if not stage.cluster.is_running(name):
        end = stage.cluster.ends.get(name)
        return f"{name} is down" + (f": {end}" if end else "")
    server = stage.cluster.server(name)
    does = {
        "leader": "leads",
        "candidate": "stands",
        "follower": f"follows {server.leader or 'nobody'}",
        "inactive": "takes no part",
    }[server.role_title]
    return f"{name} {does} in term {server.ballot.term}"


def log_line(server: Server) -> str:
    """Index, term and content of each entry, and a bar after what is known to be committed."""
    log, commit_index = server.log, server.commit_index
    names: dict[int, str] = {}
    shown, index = "", 1
    while index <= log.last_index:
        batch = log.batch_at(index)
        if index == commit_index + 1:
            shown += " | "
        elif shown:
            shown += ", "
        places = f"{index}-{batch.last_index}" if batch.count > 1 else f"{index}"
        shown += f"{places}:{batch.term} {_content(batch, names)}"
        index = batch.last_index + 1
    return shown.strip() or "empty"


def _content(batch: Batch, names: dict[int, str]) -> str:
    """What is in a batch, in two or three words; learns the names of sessions."""
    match batch.kind:
        case BatchKind.OPEN_SESSION:
            names[batch.base_index] = decode(batch.operations)[1]
            return f"session {names[batch.base_index]}"
        case BatchKind.OPEN_RESOURCE:
            name, kind, _ = decode(batch.operations)
            return f"{kind} {name}"
        case BatchKind.COMMANDS | BatchKind.BUNDLE:
            return " ".join(_commands(part, names) for part in batch.commands())
        case BatchKind.KEEP_ALIVE | BatchKind.CLOSE_SESSION:
            return f"{batch.kind.name.lower().replace('_', '-')} {names.get(batch.session, '?')}"
        case _:
            return batch.kind.name.lower().replace("_", "-")


def _commands(commands: Commands, names: dict[int, str]) -> str:
    methods = " ".join(method for _, method, *_ in decode(commands.operations))
    return f"{names.get(commands.session, '?')}#{commands.first_sequence} {methods}"


def log_lines(stage: Stage) -> list[str]:
    """The logs of all servers that run, equal ones in one line."""
    logs: dict[str, list[str]] = {}
    for name in stage.cluster.running:
        logs.setdefault(log_line(stage.cluster.server(name)), []).append(name)
    return [f"{' '.join(names)}: {log}" for log, names in logs.items()]


def everything(stage: Stage) -> str:
    """All of it, for an error."""
    lines = [server_line(stage, name) for name in stage.cluster.names] + log_lines(stage)
    return "".join(f"\n  {line}" for line in lines)
