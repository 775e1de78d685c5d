"""Resource: one state machine on one server, stepped by the Applier in log order.

An exception of the machine is the operation's result: what it published or scheduled is
dropped, the same on every server. ``MemoryError`` and ``RecursionError`` may strike one server
and spare another, so they stop the node.
"""

from collections.abc import Callable
from typing import Any

from copycat.actors import NodeAddress
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
from copycat.server.server_actor import ServerActor
from copycat.server.steps import AnswerQueries, ApplyOperations, EndSession, FireTimer
from copycat.types import ResourceId

Failure = tuple[int, str, str]
Results = tuple[list[Any], list[Failure]]
REASON_CHARACTERS_MAX = 500


class Resource(ServerActor):
    """The replicated side of one resource."""

    def __init__(self, resource: ResourceId, kind: str, machine: type[StateMachine]) -> None:
        self.resource = resource
        self.kind = kind
        self.machine = machine()
        self.timers: dict[Timer, Scheduling] = {}
        self._operations = operations_of(machine)
        self._timers_drawn = 0

    def draw_timer(self) -> Timer:
        """Number a timer of this resource."""
        self._timers_drawn += 1
        return self._timers_drawn

    def apply_operations(self, message: ApplyOperations, sender: NodeAddress) -> Results:
        """Apply commands in a row."""
        values: list[Any] = []
        failures: list[Failure] = []
        effects: list[Any] = message.effects  # type: ignore[assignment]
        index = message.first_index
        log_time_s = message.log_time_us / 1_000_000
        session, machine = message.session, self.machine
        for operation in message.operations:  # type: ignore[attr-defined]
            declared = self._operations.get(operation[1])
            value: Any = None
            if declared is None or declared.kind != "command":
                failures.append((len(values), *_unknown(operation, "command")))
            else:
                before = len(effects)
                commit = Commit(index, log_time_s, session, self, effects)
                try:
                    value = declared.call(machine, commit, *operation[2:])
                except (MemoryError, RecursionError):
                    raise
                except Exception as error:  # noqa: BLE001 - user code; its exception is the result
                    failures.append((len(values), *_failure(declared, operation, error)))
                    del effects[before:]
                if len(effects) > before:
                    self._keep_timers(effects, before)
            values.append(value)
            index += 1
        return values, failures

    def answer_queries(self, message: AnswerQueries, sender: NodeAddress) -> Results:
        """Answer queries in a row; nothing changes."""
        values: list[Any] = []
        failures: list[Failure] = []
        for operation in message.operations:  # type: ignore[attr-defined]
            declared = self._operations.get(operation[1])
            value: Any = None
            if declared is None or declared.kind != "query":
                failures.append((len(values), *_unknown(operation, "query")))
            else:
                try:
                    value = declared.call(self.machine, *operation[2:])
                except (MemoryError, RecursionError):
                    raise
                except Exception as error:  # noqa: BLE001 - user code; its exception is the result
                    failures.append((len(values), *_failure(declared, operation, error)))
            values.append(value)
        return values, failures

    def fire_timer(self, message: FireTimer, sender: NodeAddress) -> None:
        """Make a scheduled call, unless it was cancelled."""
        timer = self.timers.pop(message.timer, None)
        if timer is None:
            return
        method = getattr(self.machine, timer.method, None)
        if method is None:
            self.logger("copycat.server").warning(
                "state machine scheduled what is no method of it resource=%d method=%s",
                self.resource, timer.method,
            )  # fmt: skip
            return
        self._effectful(
            method, message.index, message.due_us, timer.session, timer.values, message.effects
        )

    def end_session(self, message: EndSession, sender: NodeAddress) -> None:
        """Tell the machine that a session which used it is no more."""
        self._effectful(
            self.machine.session_ended,
            message.index,
            message.log_time_us,
            message.session,
            (message.session,),
            message.effects,
        )

    def _effectful(
        self,
        method: Callable[..., None],
        index: int,
        log_time_us: int,
        session: int,
        values: tuple[Any, ...],
        effects: Any,
    ) -> None:
        before = len(effects)
        commit = Commit(index, log_time_us / 1_000_000, session, self, effects)
        try:
            method(commit, *values)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001 - user code; the same on every server
            self.logger("copycat.server").warning(
                "state machine failed resource=%d method=%s error=%r",
                self.resource, method.__name__, error,
            )  # fmt: skip
            del effects[before:]
        else:
            self._keep_timers(effects, before)

    def _keep_timers(self, effects: list[Any], start: int) -> None:
        for effect in effects[start:]:
            if type(effect) is Scheduling:
                self.timers[effect.timer] = effect
            elif type(effect) is Cancellation:
                self.timers.pop(effect.timer, None)
            else:
                assert type(effect) is Publication, "a commit has three kinds of effects"


def _failure(declared: Operation, operation: list[Any], error: Exception) -> tuple[str, str]:
    if isinstance(error, TypeError) and not declared.fits(operation[2:]):
        return "WrongArguments", f"{declared.name} does not take these arguments"
    return type(error).__name__, _reason(error)


def _reason(error: Exception) -> str:
    """What an exception of user code says, as far as that can be had and can travel."""
    try:
        text = str(error)[:REASON_CHARACTERS_MAX]
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001 - user code; the same on every server
        text = ""
    return text.encode("utf-8", "replace").decode("utf-8")


def _unknown(operation: list[Any], kind: str) -> tuple[str, str]:
    return "UnknownOperation", f"there is no {kind} {operation[1]!r:.60}"
