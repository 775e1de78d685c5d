"""Openings: the resources a session is about to open. To open one twice is to open it once."""

from collections.abc import Callable
from math import inf
from typing import Any

from copycat.client.calls import OpenCall
from copycat.client.commands import RETRY_FIRST_S
from copycat.client.deadlines import Deadlines, Failure
from copycat.errors import (
    CannotBeMade,
    InvalidArgument,
    OutcomeUnknown,
    UnknownResourceType,
    WrongResourceType,
)
from copycat.protocol.client import OpenResource, OpenResourceReply, Refusal, Refused
from copycat.types import SessionId

REFUSALS_THAT_LAST: dict[int, Callable[[str], Exception]] = {
    Refusal.WRONG_TYPE: WrongResourceType,
    Refusal.CANNOT_BE_MADE: CannotBeMade,
    Refusal.LACKS_TYPE: UnknownResourceType,
    Refusal.TOO_LARGE: InvalidArgument,
}


IN_FLIGHT_MAX = 64


class Openings:
    """What is to be opened; it outlives the session that asks for it.

    At most ``IN_FLIGHT_MAX`` are under way at once, in the order of the calls.

    Attributes:
        retry_at_s: when to call ``send_waiting`` again.
        waiting: what was not sent yet, by number.
    """

    def __init__(self, send: Callable[[Any, float], None], deadlines: Deadlines) -> None:
        """``send``: puts a message on its way, at this time."""
        self.retry_at_s = inf
        self._send = send
        self._deadlines = deadlines
        self._numbers = 0
        self.waiting: dict[int, OpenCall] = {}
        self._in_flight: dict[int, OpenCall] = {}

    def submit(self, call: OpenCall) -> None:
        """Take a call in; ``send_waiting`` sends it."""
        self._numbers += 1
        call.number = self._numbers
        self.waiting[call.number] = call
        self._deadlines.add(call, self.expire)

    def send_waiting(self, now_s: float, session: SessionId) -> None:
        """Send what was not sent, was refused, or has been unanswered for long."""
        while self.waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            number = next(iter(self.waiting))
            self._in_flight[number] = self.waiting.pop(number)
            self.retry_at_s = 0.0
        if self.retry_at_s > now_s:
            return
        self.retry_at_s = inf
        for call in self._in_flight.values():
            if call.retry_at_s <= now_s:
                call.copies += 1
                call.retry_at_s = now_s + RETRY_FIRST_S
                self._send(
                    OpenResource(session, call.number, call.name, call.type, call.version), now_s
                )
            self.retry_at_s = min(self.retry_at_s, call.retry_at_s)

    def resend(self) -> None:
        """Let all be sent again: there is a new connection, or a new session."""
        for call in self._in_flight.values():
            call.retry_at_s = self.retry_at_s = 0.0

    def answered(self, reply: OpenResourceReply) -> bool:
        """Complete a call.

        Returns:
            Whether it was waited for.
        """
        call = self._in_flight.pop(reply.request, None)
        if call is not None:
            call.succeed(reply.resource)
        return call is not None

    def refused(self, refusal: Refused) -> bool:
        """Fail a call, or let it be sent again if that may help.

        Returns:
            Whether it may.
        """
        call = self._in_flight.get(refusal.number)
        if call is None:
            return False
        call.copies = max(0, call.copies - 1)
        error = REFUSALS_THAT_LAST.get(refusal.reason)
        if error is None:
            call.retry_at_s = self.retry_at_s = 0.0
            return True
        del self._in_flight[refusal.number]
        call.fail(error(f"{call.name!r} cannot be opened as {call.type!r}: {refusal.text}"))
        return False

    def expire(self, call: OpenCall, now_s: float, not_applied: Failure) -> None:
        """Fail a call whose deadline has passed."""
        if self._in_flight.pop(call.number, None) is None:
            del self.waiting[call.number]
        call.fail(
            OutcomeUnknown(f"no answer came in time: {call.name!r} may have been opened")
            if call.copies
            else not_applied()
        )

    def close(self, not_applied: Failure) -> None:
        """Fail all calls."""
        for call in (*self._in_flight.values(), *self.waiting.values()):
            self.expire(call, inf, not_applied)
