"""Drives state machines as a server would: log indexes, log time, timers, events, sessions.

Two replicas apply everything, arguments and results pass through the codec, and after each
step both must have the same state, made of plain values only, or the driver says so.
"""

from copy import deepcopy
from typing import Any

from copycat.actors.codec import decode, encode
from copycat.errors import Rejected
from copycat.machine import Commit, StateMachine, operations_of
from copycat.machine.state_machine import Cancellation, Publication, Scheduler, Scheduling

RESOURCE = 7


class Timers(Scheduler):
    """Counts the timers of one replica."""

    def __init__(self) -> None:
        self.resource = RESOURCE
        self.last = 0

    def draw_timer(self) -> int:
        self.last += 1
        return self.last


class Replica:
    """One server's copy of a machine, with what it has scheduled and published."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.numbers = Timers()
        self.timers: dict[int, Scheduling] = {}
        self.published: list[tuple[int, str, list[Any]]] = []

    def step(self, index: int, log_time_s: float, session: int, call: Any) -> Any:
        """Call with a commit; the effects of a call that raises are dropped."""
        effects: list[Any] = []
        result = call(self.machine, Commit(index, log_time_s, session, self.numbers, effects))
        for effect in effects:
            match effect:
                case Publication():
                    resource, event, values = decode(effect.event)
                    assert resource == RESOURCE
                    for receiver in effect.sessions:
                        self.published.append((receiver, event, values))
                case Scheduling():
                    self.timers[effect.timer] = effect
                case Cancellation():
                    self.timers.pop(effect.timer, None)
        return result

    def due(self, now_us: int) -> Scheduling | None:
        """The timer that fires next at this log time."""
        waiting = sorted(self.timers.values(), key=lambda timer: (timer.due_us, timer.timer))
        return waiting[0] if waiting and waiting[0].due_us <= now_us else None

    def state(self) -> bytes:
        """All that a snapshot would hold, which fails if something in it is not plain."""
        return encode(vars(self.machine))


class Driver:
    """A machine under one log, and the sessions that use it."""

    def __init__(self, machine: type[StateMachine]) -> None:
        self.operations = operations_of(machine)
        self.replicas = [Replica(machine()), Replica(machine())]
        self.index = 100
        self.log_time_s = 0.0
        self.ended: set[int] = set()
        self.events: dict[int, list[tuple[str, list[Any]]]] = {}

    @property
    def machine(self) -> Any:
        return self.replicas[0].machine

    def command(self, session: int, name: str, *arguments: Any) -> Any:
        """Apply a command; what the machine raises is raised."""
        assert session not in self.ended
        operation = self.operations[name]
        assert operation.kind == "command"
        assert operation.fits(list(arguments))
        self.index += 1
        before = self.replicas[0].state()
        results = []
        for replica in self.replicas:
            given = decode(encode(list(arguments)))
            try:
                results.append(
                    self._step(
                        replica,
                        session,
                        lambda machine, commit, given=given: operation.call(
                            machine, commit, *given
                        ),
                    )
                )
            except (TypeError, ValueError, Rejected) as error:
                results.append(error)
        self._deliver()
        if isinstance(results[0], Exception):
            assert repr(results[0]) == repr(results[1])
            assert self.replicas[0].state() == before, "a command that raises changes nothing"
            raise results[0]
        assert encode(results[0]) == encode(results[1])
        return decode(encode(results[0]))

    def query(self, name: str, *arguments: Any) -> Any:
        """Ask; the state must not change."""
        operation = self.operations[name]
        assert operation.kind == "query"
        before = self.replicas[0].state()
        answer = operation.call(self.machine, *decode(encode(list(arguments))))
        assert self.replicas[0].state() == before, "a query changes nothing"
        return decode(encode(answer))

    def pass_time(self, seconds: float, *, index: int | None = None) -> None:
        """Let log time move, and fire what is due, before the batch with this index."""
        self.log_time_s += seconds
        now_us = round(self.log_time_s * 1_000_000)
        for replica in self.replicas:
            while (timer := replica.due(now_us)) is not None:
                del replica.timers[timer.timer]
                due = deepcopy(timer)
                replica.step(
                    index or self.index + 1,
                    due.due_us / 1_000_000,
                    due.session,
                    lambda machine, commit, due=due: getattr(machine, due.method)(
                        commit, *decode(encode(due.values))
                    ),
                )
        self._deliver()

    def end_session(self, session: int, *, index: int | None = None) -> None:
        """Close or expire a session, before the batch with this index."""
        self.ended.add(session)
        for replica in self.replicas:
            replica.step(
                index or self.index + 1,
                self.log_time_s,
                session,
                lambda machine, commit: machine.session_ended(commit, session),
            )
        self._deliver()

    def take_events(self, session: int) -> list[tuple[str, list[Any]]]:
        """What has been published to a session since the last time."""
        return self.events.pop(session, [])

    def _step(self, replica: Replica, session: int, call: Any) -> Any:
        return replica.step(self.index, self.log_time_s, session, call)

    def _deliver(self) -> None:
        first, second = self.replicas
        assert first.published == second.published, "replicas publish the same"
        assert first.state() == second.state(), "replicas have the same state"
        for session, event, values in first.published:
            if session not in self.ended:
                self.events.setdefault(session, []).append((event, values))
        first.published.clear()
        second.published.clear()
