"""What a monitor says when a rule was broken: the rule, what broke it, and what led to it."""

from collections import deque
from math import inf

from copycat.actors.simulation import Simulation

LINES_TOLD = 30
LINES_KEPT = 10_000  # for rules that are checked when all is over
COMMITS_TOLD = 10  # besides; there are so many that they would push out everything else

Line = tuple[int, float, int, str, str]
"""Number, virtual time, event, who, what."""


class InvariantViolated(AssertionError):
    """A rule that must always hold did not, in a simulated world.

    Attributes:
        rule: the rule, in words.
        detail: who broke it, and how.
        seed: of the world in which it happened.
    """

    def __init__(self, rule: str, detail: str, seed: int, story: str) -> None:
        self.rule = rule
        self.detail = detail
        self.seed = seed
        super().__init__(f"{rule}\n  {detail}\n{story}")

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        # It crosses process borders when seeds are run in several processes.
        return AssertionError, (str(self),)


class Story:
    """The recent happenings of a simulated world, as far as they concern its servers.

    Attributes:
        replay: the command that runs the same world again; empty when there is none.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.replay = ""
        self._simulation = simulation
        self._lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._commits: deque[Line] = deque(maxlen=LINES_KEPT)
        self._told = 0

    def tell(self, who: str, what: str) -> None:
        """Add a line.

        Args:
            who: a server, or who did something to servers.
            what: what happened, as a sentence that goes on after ``who``.
        """
        self._lines.append(self._line(who, what))

    def tell_commit(self, who: str, index: int) -> None:
        """Add that a server's commit index has moved."""
        self._commits.append(self._line(who, f"commits {index}"))

    def _line(self, who: str, what: str) -> Line:
        self._told += 1
        return (self._told, self._simulation.now_s, self._simulation.events, who, what)

    def violated(self, rule: str, detail: str, *, until_s: float = inf) -> InvariantViolated:
        """The error to raise for a broken rule.

        Args:
            rule, detail: see ``InvariantViolated``.
            until_s: when it was broken, if that is not now.
        """
        simulation = self._simulation
        told = [line for line in self._lines if line[1] <= until_s][-LINES_TOLD:]
        commits = [line for line in self._commits if line[1] <= until_s][-COMMITS_TOLD:]
        text = [
            f"  at {simulation.now_s:.6f} s, event {simulation.events:,}, seed {simulation.seed}",
            "what happened to the servers before:",
            *(
                f"  {when_s:11.6f} s {event:7,}  {who} {what}"
                for _, when_s, event, who, what in sorted([*told, *commits])
            ),
        ]
        if self.replay:
            text.append(f"replay: {self.replay}")
        return InvariantViolated(rule, detail, simulation.seed, "\n".join(text))
