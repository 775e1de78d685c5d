"""A transcript: a script, and below each of its steps what the step is expected to show.

Steps stand at the beginning of a line, what they show is indented by four spaces, ``#`` begins a
comment, and an empty line means nothing. The language of the steps is in ``transcript_steps``.
"""

import difflib
from dataclasses import dataclass, field
from pathlib import Path

INDENT = "    "


class ScriptError(AssertionError):
    """A step that cannot be done, or that came out differently.

    Attributes:
        line: of the step in its file, from 1; 0 while it is not known.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason)


@dataclass
class Step:
    """One step, and what it is expected to show."""

    line: int
    text: str
    shows: list[str] = field(default_factory=list)


class Transcript:
    """One file.

    Attributes:
        path: where it is.
        text: all of it.
        seed: of the world; the first step must say it.
        servers: how many there are: 3, or what the second step says.
        steps: all the others.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.steps: list[Step] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith(INDENT):
                if not self.steps:
                    raise ScriptError("no step could show this", number)
                self.steps[-1].shows.append(line.removeprefix(INDENT))
            elif line != line.strip():
                raise ScriptError("a step is not indented, what it shows is by four spaces", number)
            elif line and not line.startswith("#"):
                self.steps.append(Step(number, line))
        self.seed = self._header("seed", None)
        self.servers = self._header("servers", 3)

    @classmethod
    def load(cls, path: Path) -> "Transcript":
        """Read a file."""
        return cls(path, path.read_text(encoding="utf-8"))

    def _header(self, word: str, default: int | None) -> int:
        step = self.steps[0] if self.steps else Step(1, "")
        first, _, number = step.text.partition(" ")
        if first == word and number.isdecimal():
            del self.steps[0]
            return int(number)
        if default is None or first == word:
            raise ScriptError(f"`{word} NUMBER` comes here, not {step.text!r}", step.line)
        return default

    def with_shown(self, shown: dict[int, list[str]]) -> str:
        """The same file, with what the step of each line has really shown."""
        made = []
        for number, line in enumerate(self.text.splitlines(), 1):
            if not line.startswith(INDENT):
                made.append(line)
            made += [INDENT + one for one in shown.get(number, [])]
        return "\n".join(made) + "\n"

    def difference(self, now: str) -> str:
        """What has changed, line by line, for people."""
        lines = difflib.unified_diff(
            self.text.splitlines(),
            now.splitlines(),
            f"{self.path.name} as it is written",
            f"{self.path.name} as it happens",
            lineterm="",
        )
        return "\n".join(lines)
