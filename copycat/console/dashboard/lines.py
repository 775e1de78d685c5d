"""Lines of a fixed width: the small change that screens are made of.

A screen is a list of ``rich.text.Text``, each exactly as wide as the terminal. Wide tables of
rich are avoided: they measure every cell of every row at every frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text

Piece = str | tuple[str, str]
"""A text, or a text and its style."""

OK = "green"
WARNING = "yellow"
BAD = "bold red"
DIM = "dim"
TITLE = "bold"
LEVELS = " .:-=+*#"
GAP = "   "


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a screen below a titled rule.

    Attributes:
        keeps: sections with the smallest number lose lines first when there are too few.
    """

    title: str
    lines: tuple[tuple[Piece, ...], ...]
    keeps: int
    style: str = ""


def line(pieces: Sequence[Piece], width: int) -> Text:
    """These pieces, one after the other, cut or filled up to the width."""
    text = Text(no_wrap=True, end="")
    for piece in pieces:
        content, style = (piece, "") if isinstance(piece, str) else piece
        text.append(content, style or None)
    text.truncate(width, overflow="crop", pad=True)
    return text


def fitting(pieces: Sequence[Piece], width: int) -> tuple[Piece, ...]:
    """As many of these pieces as there is room for, the first in any case, with gaps between.

    A figure is shown as a whole or not at all: cut, it would be another figure.
    """
    shown = [pieces[0]]
    left = width - Text(_content(pieces[0])).cell_len
    for piece in pieces[1:]:
        left -= len(GAP) + Text(_content(piece)).cell_len
        if left < 0:
            break
        shown += [GAP, piece]
    return tuple(shown)


def framed(pieces: Sequence[Piece], width: int) -> Text:
    """A line between two bars."""
    text = Text("|", no_wrap=True, end="")
    text.append_text(line((" ", *pieces), width - 2))
    text.append("|")
    return text


def rule(title: str, width: int, style: str = "") -> Text:
    """A horizontal line with a title in it."""
    text = Text("+", no_wrap=True, end="")
    if title:
        text.append("- ").append(title, style or TITLE).append(" ")
        text.truncate(max(0, width - 1), overflow="crop")
    text.append("-" * (width - 1 - text.cell_len))
    return text.append("+")


def stacked(sections: Sequence[Section], width: int, height: int) -> list[Text]:
    """Sections below each other, with a rule at the end, in at most so many lines.

    What does not fit is left out from the end of the section that keeps least.
    """
    sections = list(sections)
    while sum(1 + len(section.lines) for section in sections) + 1 > height and sections:
        place = min(range(len(sections)), key=lambda at: (sections[at].keeps, -at))
        lines = sections[place].lines[:-1]
        if lines:
            sections[place] = replace(sections[place], lines=lines)
        else:
            del sections[place]
    drawn: list[Text] = []
    for section in sections:
        drawn.append(rule(section.title, width, section.style))
        drawn += [framed(pieces, width) for pieces in section.lines]
    return [*drawn, rule("", width)]


def columns(
    titles: Sequence[str],
    rows: Sequence[Sequence[Piece]],
    *,
    left: Sequence[str],
    dropped: Sequence[str],
    width: int,
) -> list[tuple[Piece, ...]]:
    """A table without borders.

    Args:
        titles: of the columns.
        rows: as many cells each.
        left: the titles of columns of words; figures stand to the right.
        dropped: titles of columns that may go if the width is not enough, the first first.
        width: in characters; what is wider is left to be cut.
    """
    table = [tuple(titles), *[tuple(row) for row in rows]]
    widths = [max(Text(_content(row[at])).cell_len for row in table) for at in range(len(titles))]
    shown = list(range(len(titles)))
    for title in dropped:
        if sum(widths[at] + 2 for at in shown) - 2 <= width:
            break
        shown.remove(titles.index(title))
    drawn = []
    for number, row in enumerate(table):
        pieces: list[Piece] = []
        for at in shown:
            content = _content(row[at])
            gap = " " * (widths[at] - Text(content).cell_len)
            content = content + gap if titles[at] in left else gap + content
            cell = row[at]
            style = DIM if number == 0 else "" if isinstance(cell, str) else cell[1]
            pieces += [(content, style), "  "]
        drawn.append(tuple(pieces[:-1]))
    return drawn


def _content(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece[0]


def curve(values: Sequence[float | None], width: int) -> str:
    """The last values as heights of ASCII characters, between brackets, newest to the right.

    What is not known has no height.
    """
    shown = [value or 0.0 for value in values[-width:]]
    top = max(shown, default=0.0)
    steps = len(LEVELS) - 1
    drawn = "".join(
        LEVELS[0 if value <= 0 else max(1, round(value / top * steps))] for value in shown
    )
    return f"[{drawn.rjust(width)}]"
