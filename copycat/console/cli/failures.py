"""Failures: what the user is told, and the exit code. The one place for both.

| code | meaning |
|---|---|
| 0 | done, or healthy |
| 1 | a bug, or something unexpected; a server that had to stop |
| 2 | wrong usage or configuration |
| 3 | the answer is no: no such key, the lock was not free in time, the operation was refused |
| 4 | the cluster could not do it now, above all for want of a leader; nothing was applied |
| 5 | no server could be reached; nothing was applied |
| 6 | no answer in time: the outcome is unknown |
| 8 | the other servers know another server by this name, or know what this one has lost |
| 9 | degraded: a server cannot be reached or is not well (``status`` only) |
| 10 | a check failed (``demo``) |
| 75 | the lock was lost while the command ran |
| 126, 127 | the command of ``lock run`` cannot be executed, or was not found |
| 128 + n | ended by signal n; 130 is Ctrl-C |
"""

import sys
import traceback

from copycat.errors import CopycatError, NotApplied

DONE = 0
UNEXPECTED = 1
USAGE = 2
NEGATIVE = 3
UNAVAILABLE = 4
UNREACHABLE = 5
UNKNOWN = 6
FOREIGN = 8
DEGRADED = 9
CHECK_FAILED = 10
LOST = 75
NOT_EXECUTABLE = 126
NOT_FOUND = 127
SIGNALLED = 128  # plus the signal's number

# By name, so that the table needs none of the modules that the classes live in: most commands
# never load them.
CODES = {
    "NotApplied": UNAVAILABLE,
    "Unreachable": UNREACHABLE,
    "NoLeader": UNAVAILABLE,
    "Overloaded": UNAVAILABLE,
    "SessionExpired": UNAVAILABLE,
    "InvalidArgument": USAGE,
    "InvalidType": USAGE,
    "WrongResourceType": USAGE,
    "UnknownResourceType": USAGE,
    "CannotBeMade": USAGE,
    "Rejected": NEGATIVE,
    "QueryFailed": NEGATIVE,
    "OperationFailed": NEGATIVE,
    "AnswerLost": UNKNOWN,
    "LockTimeout": NEGATIVE,
    "ClientClosed": UNEXPECTED,
    "SyncInAsyncError": UNEXPECTED,
    "OutcomeUnknown": UNKNOWN,
    "OwnershipLost": LOST,
    "ConfigurationError": USAGE,
    "IdentityRefused": FOREIGN,
    "ServerError": UNEXPECTED,
    "StorageError": UNEXPECTED,
    "DirectoryInUseError": USAGE,
    "ListenError": USAGE,
    "NoPlaygroundError": NEGATIVE,
    "PlaygroundError": UNEXPECTED,
}
HINTS = {
    "Unreachable": "are the servers running? `copycat cluster up` starts some on this machine",
    "NoLeader": "`copycat status` shows what each server knows",
    "OutcomeUnknown": "it may have been applied, once, or may still be: look before you retry",
}


def code_of(error: BaseException) -> int:
    """The exit code for an error, by the closest of its classes that has one."""
    for kind in type(error).__mro__:
        if kind.__name__ in CODES:
            return CODES[kind.__name__]
    return UNEXPECTED


def tell(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what happened, in a few lines. Returns the exit code."""
    if debug:
        traceback.print_exception(error)
    for line in lines_of(error):
        print(line, file=sys.stderr)
    return code_of(error)


def lines_of(error: BaseException) -> list[str]:
    """What is said of an error."""
    known = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in CODES), "")
    if isinstance(error, MemoryError):
        return ["copycat: out of memory: see `ulimit -v`, or the limit of the container"]
    if not known and isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: " if error.filename else ""
        return [f"copycat: the system refused: {what}{error.strerror}"]
    if not known:
        return [
            f"copycat: unexpected failure: {type(error).__name__}: {error}",
            "  `copycat --debug ...` shows where",
        ]
    causes = error.causes if isinstance(error, CopycatError) else ()
    text = str(error).removesuffix("".join(f"; {place}: {cause}" for place, cause in causes))
    lines = [f"copycat: {text}", *[f"  {place}  {cause}" for place, cause in causes]]
    if isinstance(error, NotApplied) and error.retryable:
        lines.append("  nothing was applied: a retry is safe")
    if known in HINTS:
        lines.append(f"  {HINTS[known]}")
    return lines
