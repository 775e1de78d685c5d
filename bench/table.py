"""The results: one table, on the terminal and in docs/performance.md."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.measuring import commit, machine
from bench.workloads import OURS, SHOWN, TARGETS, WORKLOADS, Figures, Medians, Workload

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
FOREIGN_PERCENT_MAX = 25.0
TABLE_WIDTH_MIN = 132


class Results:
    """What came of every trial, as far as it has got.

    Attributes:
        titles: of the systems that were measured, ours first.
        notes: to be printed below the table.
    """

    def __init__(self, titles: Sequence[str], notes: Sequence[str]) -> None:
        self.titles = list(titles)
        self.notes = list(notes)
        self._trials: dict[tuple[str, str], list[Figures]] = {}
        self._failures: dict[tuple[str, str], str] = {}

    def add(self, workload: str, title: str, trials: list[Figures]) -> None:
        """Trials of one system."""
        self._trials.setdefault((workload, title), []).extend(trials)

    def add_failure(self, workload: str, title: str, reason: str) -> None:
        """A workload that a system did not get through."""
        self._failures[workload, title] = reason
        self.notes.append(f"{title}, {workload}: {reason}")

    @property
    def medians(self) -> Medians:
        """Of each measure on its own."""
        return {
            place: {name: median(trial[name] for trial in trials) for name in trials[0]}
            for place, trials in self._trials.items()
            if trials
        }

    @property
    def workloads(self) -> list[Workload]:
        """Those of which there is anything to tell, in the order of the table."""
        known = {key for key, _ in [*self._trials, *self._failures]}
        every = {workload.key: workload for workload in WORKLOADS}
        return [every[key] for key in SHOWN if key in known]

    def rows(self) -> list[list[str]]:
        """What happens, then a cell for each system, then the targets."""
        medians = self.medians
        rows = []
        for workload in self.workloads:
            row = [f"{workload.key}: {workload.title}"]
            ours = medians.get((workload.key, OURS))
            for title in self.titles:
                place = (workload.key, title)
                cell = _cell(medians.get(place), failed=place in self._failures)
                if title != OURS:
                    cell += _ratio(workload.headline, ours, medians.get(place))
                row.append(cell)
            rows.append([*row, "\n".join(_targets(workload.key, medians))])
        return rows

    def header(self) -> list[str]:
        """What stands above the columns of ``rows``."""
        return ["workload", *self.titles, "target"]


def _cell(figures: Figures | None, *, failed: bool) -> str:
    if figures is None:
        return "failed" if failed else "-"
    lines = []
    if "per_s" in figures:
        lines.append(f"{_rounded(figures['per_s'])}/s")
    if "p50_ms" in figures:
        lines.append(f"{figures['p50_ms']:.2f} · {figures['p99_ms']:.2f} ms")
    if "servers_us" in figures:
        client = f" + {_rounded(figures['client_us'])}" if "client_us" in figures else ""
        lines.append(f"{_rounded(figures['servers_us'])}{client} µs")
    if "s" in figures:
        lines.append(f"{figures['s']:.2f} s")
    if "mb" in figures:
        lines.append(f"{figures['mb']:.0f} MB, {figures['percent']:.1f} % of a core")
    if figures.get("foreign_percent", 0.0) > FOREIGN_PERCENT_MAX:
        lines[0] += " †"
    return "\n".join(lines)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(headline: str, ours: Figures | None, theirs: Figures | None) -> str:
    """How many times as good ours is; below 1 it is worse."""
    if not ours or not theirs or not ours[headline] or not theirs[headline]:
        return ""
    times = ours[headline] / theirs[headline]
    if headline != "per_s":
        times = 1 / times  # of all others less is better
    return f"\nours: {times:.2g} x" if times < 10 else f"\nours: {times:.0f} x"


def _targets(workload: str, medians: Medians) -> list[str]:
    lines = []
    for target in TARGETS:
        if target.workload == workload:
            try:
                holds = "holds" if target.holds(medians) else "MISSED"
            except KeyError:
                holds = "not measured"
            lines.append(f"{target.text}: {holds}")
    return lines


LEGEND = (
    "Each cell: operations a second; latency, p50 · p99; processor time of an operation, of the"
    " three servers + of the client. `ours` is how"
    " many times as good Copycat is: by rate, or by latency, time or memory where the row is about"
    " those."
    f" † others had more than {FOREIGN_PERCENT_MAX:.0f} % of a core meanwhile."
)


def print_table(results: Results, how: str) -> None:
    """On the terminal, as wide as need be."""
    console = Console(highlight=False)
    if not console.is_terminal or console.width < TABLE_WIDTH_MIN:
        console.width = TABLE_WIDTH_MIN
    table = Table(show_lines=True)
    for number, name in enumerate(results.header()):
        is_cell = 0 < number < len(results.header()) - 1
        table.add_column(name, justify="right" if is_cell else "left", no_wrap=is_cell)
    for row in results.rows():
        table.add_row(*row)
    console.print(table)
    for line in (LEGEND, *results.notes, how, machine(), f"commit {commit()}"):
        console.print(line, soft_wrap=True)


def write_document(results: Results, how: str, path: Path) -> None:
    """Put the table in the place that the document has for it."""
    lines = [
        "",
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, commit {commit()}, {machine()}. {how}",
        "",
        _markdown(results.header()),
        _markdown(["---", *["--:"] * (len(results.header()) - 1)]),
        *[_markdown(row) for row in results.rows()],
        "",
        LEGEND,
        "",
        *[f"- {note}" for note in results.notes],
        "",
    ]
    replace_between(path, BEGIN, END, lines)


def replace_between(path: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Replace what stands between two lines of a document."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(before + "\n".join([begin, *lines, end]) + after, encoding="utf-8")


def _markdown(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", "<br>") for cell in cells) + " |"
