"""Options of a session, checked before anything is done with them."""

from dataclasses import dataclass
from typing import Literal, get_args

from copycat.errors import InvalidArgument
from copycat.types import NAME_CHARACTERS_MAX

ServerSelection = Literal["leader", "any"]
"""Which server carries a session: the one that leads, or the first one that was reached."""

SESSION_TIMEOUT_MIN_S = 0.1
SESSION_TIMEOUT_MAX_S = 24 * 3600.0
CLIENT_NAME_CHARACTERS_MAX = NAME_CHARACTERS_MAX - 20  # the node's name has a suffix


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session is told at its start."""

    endpoints: tuple[str, ...]  # at least one "host:port", in order of preference
    name: str  # for people
    timeout_s: float = 10.0  # without a sign of life for so long the cluster ends the session
    selection: ServerSelection = "leader"

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            InvalidArgument: says which option, and what it may be.
        """
        if (
            not isinstance(self.name, str)
            or len(self.name) > CLIENT_NAME_CHARACTERS_MAX
            or not self.name.isprintable()
        ):
            raise InvalidArgument(
                f"a client's name has at most {CLIENT_NAME_CHARACTERS_MAX} printable characters"
            )
        if (
            not isinstance(self.timeout_s, int | float)
            or not SESSION_TIMEOUT_MIN_S <= self.timeout_s <= SESSION_TIMEOUT_MAX_S
        ):
            raise InvalidArgument(
                f"session_timeout_s is from {SESSION_TIMEOUT_MIN_S:g} to"
                f" {SESSION_TIMEOUT_MAX_S:g}, not {self.timeout_s!r}"
            )
        if self.selection not in get_args(ServerSelection):
            raise InvalidArgument(f"server_selection is leader or any, not {self.selection!r}")
