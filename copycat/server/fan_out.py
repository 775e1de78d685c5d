"""FanOut: what machines publish while a batch is applied, on its way into the queues of sessions.

One event may go to thousands of sessions, so this stops wherever the rest may be left to another
turn; nobody reads the state in between, and what is queued is the same on every server.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.machine.state_machine import Publication
from copycat.server.delivery import Delivery
from copycat.server.retained import RETAINED_BYTES_MAX, Published, Retained
from copycat.server.session import EVENTS_BYTES_MAX
from copycat.server.steps import AskRetained, EventsPublished
from copycat.types import Index, SessionId

if TYPE_CHECKING:
    from copycat.server.applier import Applier

OWN_EVENTS_ARE_TOO_MANY = (
    f"its client left more than {EVENTS_BYTES_MAX >> 20} MiB of events unacknowledged"
)
ALL_KEEP_TOO_MUCH = (
    f"all clients together left more than {RETAINED_BYTES_MAX >> 20} MiB of events and answers"
    " unacknowledged, and its own was among those that left most"
)

SESSIONS_AT_ONCE = 16  # are less work than to look at a clock is worth


class FanOut:
    """The events of the batch that is being applied.

    Attributes:
        publications: what machines have published in it.
    """

    def __init__(
        self,
        applier: "Applier",
        sessions: dict[SessionId, NodeAddress],
        retained: Retained,
        delivery: Delivery,
    ) -> None:
        self._applier = applier
        self._sessions = sessions
        self._retained = retained
        self._delivery = delivery
        self.publications: list[Publication] = []

    def add(self, publication: Publication) -> None:
        """A machine publishes something."""
        self.publications.append(publication)

    @property
    def is_due(self) -> bool:
        """Whether there is something to queue, or sessions have to end as all keep too much."""
        return bool(self.publications) or self._retained.is_too_much

    def publish(self, index: Index, log_time_us: int) -> Iterator[None]:
        """Queue what was published in its sessions, and send it to those that keep up.

        A session that has no room for it ends, and if all together keep too much so do those that
        keep most. That may publish to those that are left, at the same index. It stops, as no
        session ends twice.
        """
        step, sessions, delivery = self._applier.step, self._sessions, self._delivery
        while self.is_due:
            published = yield from self._by_session()
            for number, (session, events) in enumerate(published.items(), 1):
                at = delivery.keeps_up(session)
                sent = at.sent if at is not None else None
                found = step(sessions[session], EventsPublished(index, events, sent))
                if found is None:
                    yield from self._end(session, index, log_time_us, OWN_EVENTS_ARE_TOO_MANY)
                elif at is not None:
                    delivery.send(session, at, found)
                if number % SESSIONS_AT_ONCE == 0:
                    yield
            if self._retained.is_too_much:
                for session in self._largest():
                    yield from self._end(session, index, log_time_us, ALL_KEEP_TOO_MUCH)
                    if self._retained.has_room:
                        break

    def _by_session(self) -> Generator[None, None, dict[SessionId, list[Published]]]:
        """Sort what was published by the sessions that get it."""
        publications, self.publications = self.publications, []
        published: dict[SessionId, list[Published]] = {}
        for publication in publications:
            event = Published(publication.event)
            for session in publication.sessions:
                if session in self._sessions:
                    published.setdefault(session, []).append(event)
            yield
        return published

    def _largest(self) -> list[SessionId]:
        """All sessions, first those that keep most; that they are asked is rare enough."""
        step = self._applier.step
        kept = {session: step(at, AskRetained()) for session, at in self._sessions.items()}
        return sorted(kept, key=lambda session: (-kept[session], session))

    def _end(self, session: SessionId, index: Index, log_time_us: int, why: str) -> Iterator[None]:
        text = f"the session was ended: {why}"
        log = self._applier.logger("copycat.server")
        log.warning("%s session=%d index=%d", text, session, index)
        yield from self._applier.end_session(session, index, log_time_us, text)
