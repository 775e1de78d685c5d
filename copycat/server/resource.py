"""Resource: one state machine on one server, stepped by the Applier in log order.

However a method of the machine ends, that is the operation's result: what it published or
scheduled is dropped, the same on every server. ``UsersCode`` knows the few ends that may strike one
server and spare another; those stop the node.
"""

import logging
from typing import Any

from copycat.actors import NodeAddress
from copycat.actors.codec import bytes_at_most
from copycat.errors import InvalidArgument, InvalidType, Rejected, TooLarge
from copycat.machine.state_machine import (
    Cancellation,
    Commit,
    Operation,
    Publication,
    Scheduling,
    StateMachine,
    Timer,
    operations_of,
)
from copycat.protocol.client import Branch
from copycat.server.server_actor import ServerActor
from copycat.server.steps import AnswerQueries, ApplyOperations, EndSession, FireTimer
from copycat.server.users_code import QueryInterrupted, Recursion, UsersCode, is_kind, place_of
from copycat.types import ResourceId, SessionId

Failure = tuple[int, int, str, str]  # place, branch, kind, text
Results = tuple[list[Any], list[Failure]]

FAILED_BY_OPERATOR = "\0"  # stands for the method; no declared one has such a name
TOOK_TOO_LONG = ("TookTooLong", "it held up its server for half a second, and was interrupted")
REST_S = 10.0
SMALL_BYTES = 256
LIGHT = frozenset((bool, int, float))
"""There is always room for so many bytes, or one of these, of each command of a batch."""
RESTS = ("TookTooLong", f"one like it has held up its server; none is run for {REST_S:g} s")
_BUILT_IN = "copycat.resources."
_CHECKS = (InvalidArgument, InvalidType, TooLarge)


class Resource(ServerActor):
    """The replicated side of one resource.

    Attributes:
        is_built_in: whether its machine is one of ours.
    """

    def __init__(
        self,
        resource: ResourceId,
        kind: str,
        machine: type[StateMachine],
        users_code: UsersCode | None = None,
    ) -> None:
        self.resource = resource
        self.kind = kind
        self._users_code = users_code or UsersCode(Recursion.UNKNOWN)
        self._users_code.enter((self, None, "__init__"))
        try:
            self.machine = machine()
        finally:
            self._users_code.running = None
        self.timers: dict[Timer, Scheduling] = {}
        self._operations = operations_of(machine)
        self.is_built_in = machine.__module__.startswith(_BUILT_IN)
        self._timers_drawn = 0
        self._resting: dict[str, float] = {}  # until when, by name, queries that were interrupted

    def draw_timer(self) -> Timer:
        """Number a timer of this resource."""
        self._timers_drawn += 1
        return self._timers_drawn

    def apply_operations(self, message: ApplyOperations, sender: NodeAddress) -> Results:
        """Apply commands in a row, as long as there is room for what they answer."""
        values: list[Any] = []
        failures: list[Failure] = []
        effects: list[Any] = message.effects  # type: ignore[assignment]
        index = message.first_index
        log_time_s = message.log_time_us / 1_000_000
        session, machine = message.session, self.machine
        users_code = self._users_code
        users_code.enter((self, message, values))
        room_bytes, before, find = message.room_bytes, len(effects), self._operations.get
        value: Any = None
        for operation in message.operations:  # type: ignore[attr-defined]
            if value is not None and (  # what the one before has answered: nearly always little
                len(value) > SMALL_BYTES if type(value) is bytes else type(value) not in LIGHT
            ):
                room_bytes -= weight(value, room_bytes)
                if room_bytes < 0:
                    break
            declared = find(operation[1])
            if declared is None or declared.kind != "command":
                refused = _unknown(operation, "command")
                failures.append((len(values), int(Branch.REJECTED), *refused))
                value = None
            else:
                commit = Commit(index, log_time_s, session, self, effects)
                try:
                    value = declared.call(machine, commit, *operation[2:])
                except BaseException as error:  # noqa: BLE001 - users' code
                    said = users_code.result(error, self._place(operation[1], index))
                    failure = self._failure(declared, operation, error, said)
                    failures.append((len(values), *failure))
                    if failure[0] == Branch.FAILED:
                        self._log_failed("command failed", operation[1], index, error, said)
                    del effects[before:]
                    value = None
                commit.owner = None
                if len(effects) > before:
                    self._keep_timers(effects, before)
                    before = len(effects)
            values.append(value)
            index += 1
        users_code.running = None
        return values, failures

    def answer_queries(self, message: AnswerQueries, sender: NodeAddress) -> Results:
        """Answer queries in a row; nothing changes. One that is interrupted is the last of its row:
        with fewer values than queries, the rest is to be asked in another turn. For a while its like
        are not run: however often, and by how many, they are asked, others have this server."""
        values: list[Any] = []
        failures: list[Failure] = []
        users_code = self._users_code
        try:
            users_code.enter((self, message, values))
            for operation in message.operations:  # type: ignore[attr-defined]
                declared = self._operations.get(operation[1])
                value: Any = None
                if declared is None or declared.kind != "query":
                    refused = _unknown(operation, "query")
                    failures.append((len(values), int(Branch.QUERY_FAILED), *refused))
                elif self._resting and self._rests(operation[1]):
                    failures.append((len(values), int(Branch.QUERY_FAILED), *RESTS))
                else:
                    try:
                        value = declared.call(self.machine, *operation[2:])
                    except QueryInterrupted:
                        raise
                    except BaseException as error:  # noqa: BLE001 - users' code
                        said = users_code.answer(error, self._place(operation[1]))
                        _, kind, text = self._failure(declared, operation, error, said)
                        failures.append((len(values), int(Branch.QUERY_FAILED), kind, text))
                values.append(value)
            users_code.running = None
            if users_code.interruption is not None:
                users_code.interruption[1]()
        except QueryInterrupted:
            # It may come anywhere above, but only once, and not behind this.
            users_code.running = None
            place = len(values) if users_code.interruption is None else users_code.interruption[0]
            if place == len(values) < len(message.operations):  # type: ignore[arg-type]
                failures = [each for each in failures if each[0] < place]  # it may have ended, too
                failures.append((place, int(Branch.QUERY_FAILED), *TOOK_TOO_LONG))
                values.append(None)
                name = message.operations[place][1]  # type: ignore[index]
                self._resting[name] = self.environment.clock.monotonic_s() + REST_S
        users_code.interruption = None
        return values, failures

    def _rests(self, name: str) -> bool:
        """Whether no query of this name is run now."""
        if self._resting.get(name, 0.0) > self.environment.clock.monotonic_s():
            return True
        self._resting.pop(name, None)
        return False

    def fire_timer(self, message: FireTimer, sender: NodeAddress) -> None:
        """Make a scheduled call, unless it was cancelled."""
        timer = self.timers.pop(message.timer, None)
        if timer is None:
            return
        self._call(message, timer.method, message.due_us, timer.session, timer.values)

    def end_session(self, message: EndSession, sender: NodeAddress) -> None:
        """Tell the machine that a session which used it is no more."""
        session = message.session
        self._call(message, "session_ended", message.log_time_us, session, (session,))

    def _call(
        self,
        message: FireTimer | EndSession,
        method: str,
        log_time_us: int,
        session: SessionId,
        values: tuple[Any, ...],
    ) -> None:
        """Have the machine do what no operation asks for, and so nobody is answered."""
        effects: list[Any] = message.effects  # type: ignore[assignment]
        before = len(effects)
        commit = Commit(message.index, log_time_us / 1_000_000, session, self, effects)
        users_code = self._users_code
        users_code.enter((self, message, method))
        try:
            getattr(self.machine, method)(commit, *values)
        except BaseException as error:  # noqa: BLE001 - users' code
            said = users_code.result(error, self._place(method, message.index))
            what = "state machine failed, and what it published and scheduled is dropped"
            self._log_failed(what, method, message.index, error, said, logging.WARNING)
            del effects[before:]
        else:
            self._keep_timers(effects, before)
        commit.owner = None
        users_code.running = None

    def _log_failed(
        self,
        what: str,
        method: str,
        index: int,
        error: BaseException,
        said: tuple[str, str],
        level: int = logging.INFO,
    ) -> None:
        """Leave a trace of a failure: the caller of a command has its kind and text, if anybody; where
        it was raised is known here alone."""
        self.logger("copycat.server").log(
            level,
            what + " resource=%d type=%s method=%.60s index=%d error=%s reason=%s%s",
            self.resource, self.kind, method, index, *said, place_of(error),
        )  # fmt: skip

    def _place(self, method: str, index: int | None = None) -> str:
        """How a call is named that stops the server; a query has no index."""
        what = f"method {method!r:.60} of resource {self.resource}, a {self.kind},"
        return what if index is None else f"{what} at index {index} of the log"

    def _failure(
        self,
        declared: Operation,
        operation: list[Any],
        error: BaseException,
        said: tuple[str, str],
    ) -> tuple[int, str, str]:
        """What an operation ended by: a branch, a kind and a text, of which the last is no state."""
        if is_kind(error, TypeError) and not declared.fits(operation[2:]):
            text = f"{declared.name} does not take these arguments"
            return int(Branch.REJECTED), "WrongArguments", text
        branch = Branch.FAILED
        if is_kind(error, Rejected) or (
            # The built-in machines check their arguments before they change anything.
            self.is_built_in and type(error) in _CHECKS
        ):
            branch = Branch.REJECTED
        return int(branch), *said

    def _keep_timers(self, effects: list[Any], start: int) -> None:
        for effect in effects[start:]:
            if type(effect) is Scheduling:
                self.timers[effect.timer] = effect
            elif type(effect) is Cancellation:
                self.timers.pop(effect.timer, None)
            else:
                assert type(effect) is Publication, "a commit has three kinds of effects"


def weight(value: Any, enough: int) -> int:
    """How many bytes an answer is weighed with, as ``bytes_at_most`` says it; 0 if there is room for it
    whatever is answered beside it."""
    if type(value) is bytes:
        return len(value) if len(value) > SMALL_BYTES else 0
    return 0 if value is None or type(value) in LIGHT else bytes_at_most(value, enough)


def _unknown(operation: list[Any], kind: str) -> tuple[str, str]:
    if operation[1] == FAILED_BY_OPERATOR:
        return "FailedByOperator", "the operator of the cluster has decided that it is a failure"
    return "UnknownOperation", f"there is no {kind} {operation[1]!r:.60}"
