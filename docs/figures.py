"""Tables of the pages from files of figures, and the check that pages and files are in step.

    python docs/figures.py                       # put the tables of docs/data into the pages
    python docs/figures.py --check               # change nothing; say what is not in step, as the tests do
    python docs/figures.py --take TABLE.md NAME --command "sacma reproduce ..."

A file of figures is ``docs/data/NAME.csv``. It starts with lines ``# key: value``; below them is a CSV table,
its cells as the pages show them. The keys are

    command   what made the figures; may be repeated
    date      when, as 2026-11-30
    commit    from which state of the code
    title     a line above the table; may be left out
    note      a line below the table; may be repeated or left out

A column ``X std`` is shown as ``± std`` behind ``X``, columns ``X low`` and ``X high`` as an interval. A
value of the first column that repeats is shown once. Other programs write such a file by
``Figures(...).text()``.

A page shows a file between two lines. It may choose columns, which come after the first one, and name files
that its sentences rest on without a table:

    <!-- table NAME -->       or   <!-- table NAME: HM, ZSL -->
    <!-- end -->
    <!-- figures NAME NAME -->

``--take`` reads a table that ``sacma reproduce`` or ``sacma draws`` wrote, or the figure4.csv of the former.

In pages with such lines, every figure of a sentence, or of a table that is written by hand, has to be in the
files that the page names, as it is or rounded. A figure is a number with a decimal point, or one beside %, ±,
points or a unit.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path

from sacma.files import write_text

DOCS = Path(__file__).parent
DATA = DOCS / "data"
BLOCK = re.compile(
    r"(?P<begin><!-- table (?P<name>[\w.-]+)(?:: (?P<columns>[^\n]+?))? -->\n).*?(?P<end><!-- end -->\n)",
    re.DOTALL,
)
NAMED = re.compile(r"<!-- figures ([^\n]+) -->")
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?"
UNIT = r"(?:%|±|points?\b|MB\b|GB\b|GiB\b|MiB\b|kB\b|ms\b|s\b|seconds\b|minutes\b|min\b)"
FIGURE = re.compile(
    rf"(?<![\w.,/-])(?:± *)?[-+]?\d[\d,]*\.\d+(?![\w.]*\w)|(?<=± )\d+|(?<![\w.,/-]){NUMBER}(?= ?{UNIT})"
)
SPREAD = re.compile(rf"({NUMBER}) ± ({NUMBER})")
INTERVAL = re.compile(rf"({NUMBER}) \(({NUMBER}) to ({NUMBER})\)")


@dataclass(frozen=True)
class Figures:
    """A file of figures.

    Attributes:
        columns: heads of the columns, with those of ``std``, ``low`` and ``high``.
        rows: cells as the pages show them.
        commands: what made the figures.
        made: day, as 2026-11-30.
        commit: state of the code that made them.
        title: a line above the table.
        notes: lines below the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    commands: Sequence[str]
    made: str
    commit: str
    title: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """The file."""
        heads = [("title", self.title)] if self.title else []
        heads += [("command", one) for one in self.commands]
        heads += [("date", self.made), ("commit", self.commit), *(("note", one) for one in self.notes)]
        cells = io.StringIO()
        csv.writer(cells, lineterminator="\n").writerows([self.columns, *self.rows])
        return "".join(f"# {key}: {value}\n" for key, value in heads) + cells.getvalue()

    def markdown(self, only: Sequence[str] = ()) -> str:
        """The table, less the columns that are not in ``only`` where that names any, with title and notes.

        The part of a note that explains a column, ``; epochs: chosen by ...``, goes with its column.

        Raises:
            SystemExit: a column of ``only`` is not there.
        """
        shown = [one for one in self.columns if not re.search(r" (std|low|high)$", one)]
        if unknown := set(only) - set(shown):
            raise SystemExit(f"no column {', '.join(sorted(unknown))}; there are {', '.join(shown)}")
        shown = [one for place, one in enumerate(shown) if not only or place == 0 or one in only]
        records = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        rules = ["---:" if _numeric(record[one] for record in records) else "---" for one in shown]
        lines = [shown, rules]
        before = ""
        for record in records:
            cells = [_cell(record, one) for one in shown]
            lines.append(["", *cells[1:]] if cells[0] == before else cells)
            before = cells[0]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        hidden = set(self.columns) - set(shown)
        notes = "\n".join(f"- {_note(one, shown, hidden)}" for one in self.notes)
        return "\n\n".join(part for part in (self.title, table, notes) if part)


def _note(note: str, shown: Iterable[str], hidden: Iterable[str]) -> str:
    def of(part: str, columns: Iterable[str]) -> bool:
        head = part.partition(":")[0]
        return any(one == head or one.startswith(f"{head} ") for one in columns)

    return "; ".join(part for part in note.split("; ") if of(part, shown) or not of(part, hidden))


def _cell(record: dict[str, str], column: str) -> str:
    cell = record[column]
    if std := record.get(f"{column} std"):
        cell += f" ± {std}"
    if low := record.get(f"{column} low"):
        cell += f" ({low} to {record[f'{column} high']})"
    return cell


def _numeric(cells: Iterable[str]) -> bool:
    given = [cell for cell in cells if cell]
    return bool(given) and all(re.fullmatch(r"[-+]?\d[\d,./]*( %)?", cell) for cell in given)


def read(path: Path) -> Figures:
    """The figures of a file.

    Raises:
        SystemExit: a key is unknown or missing, or a row has another width than the head.
    """
    heads: dict[str, list[str]] = {"title": [], "command": [], "date": [], "commit": [], "note": []}
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("# "):
        key, _, value = lines.pop(0)[2:].partition(": ")
        if key not in heads:
            raise SystemExit(f"{path}: unknown key {key!r}")
        heads[key].append(value)
    if missing := [key for key in ("command", "date", "commit") if not heads[key]]:
        raise SystemExit(f"{path}: no line '# {missing[0]}: ...'")
    columns, *rows = list(csv.reader(lines))
    for row in rows:
        if len(row) != len(columns):
            raise SystemExit(f"{path}: {len(row)} cells and not {len(columns)} in {row}")
    (made,), (commit,) = heads["date"], heads["commit"]
    return Figures(columns, rows, heads["command"], made, commit, "".join(heads["title"]), heads["note"])


def take(markdown: str, *, commands: Sequence[str], made: str, commit: str) -> Figures:
    """The figures of a page that ``sacma reproduce`` or ``sacma draws`` wrote, its heading left out.

    Several tables become one with their titles as the first column. Lists of options that no paper prints are
    left out, as the presets have them.
    """
    title = ""
    head: list[str] = []
    rows: list[list[str]] = []
    notes: list[str] = []
    titles: list[str] = []
    for line in markdown.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if set(line) <= set("|-: "):
                continue
            if not head or cells == head:
                head = cells
                titles.append(title)
            else:
                rows.append([title, *cells])
        elif line.startswith("- ") and ": not in the paper, " not in line:
            notes.append(line[2:])
        elif line and line[0] not in "#<-*":
            title = line
    head, rows = _joined(head, rows)
    several = len(titles) > 1
    own = rows if several else [row[1:] for row in rows]
    columns, unfolded = _unfolded(["data", *head] if several else head, own)
    return Figures(columns, unfolded, commands, made, commit, "" if several else title, notes)


def take_curves(text: str, *, commands: Sequence[str], made: str, commit: str) -> Figures:
    """The points of Figure 4 from ``figure4.csv``: validation's HM beside the accuracies on test."""
    from sacma.results.figure4 import GRIDS

    labels = {grid.parameter: grid.label for grid in GRIDS}
    names = ["S", "U", "HM", "ZSL"]
    columns = ["parameter", "value", "validation HM", "validation HM std"]
    columns += [column for name in names for column in (name, f"{name} std")]
    records = list(csv.DictReader(io.StringIO(text)))
    rows = []
    for one, other in zip(records[::2], records[1::2], strict=True):
        accuracies = [one["HM"], one["HM std"], *(other[column] for column in columns[4:])]
        chosen = " (chosen)" * (one["chosen"] == "True")
        cells = [f"{float(cell):.1f}" if cell else "" for cell in accuracies]
        rows.append([labels[one["parameter"]], one["value"] + chosen, *cells])
    return Figures(columns, rows, commands, made, commit)


def _joined(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Intervals of ``sacma draws``, columns ``95 %``, behind the differences to which they belong."""
    places = [place for place, name in enumerate(head) if name == "95 %"]
    for place in reversed(places):
        head = head[:place] + head[place + 1 :]
        for row in rows:  # of the title and the cells
            interval = row.pop(place + 1)
            row[place] += f" ({interval})" * bool(interval)
    return head, rows


def _unfolded(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Spreads and intervals in columns of their own."""
    columns: list[str] = []
    cells: list[list[str]] = [[] for _ in rows]
    for place, name in enumerate(head):
        own = [row[place] for row in rows]
        for pattern, more in ((SPREAD, ["std"]), (INTERVAL, ["low", "high"])):
            if any(pattern.fullmatch(cell) for cell in own):
                columns += [name, *(f"{name} {one}" for one in more)]
                for cell, row in zip(own, cells, strict=True):
                    found = pattern.fullmatch(cell)
                    row.extend(found.groups() if found else [cell, *[""] * len(more)])
                break
        else:
            columns.append(name)
            for cell, row in zip(own, cells, strict=True):
                row.append(cell)
    return columns, cells


# --- Pages ------------------------------------------------------------------------------------------


def filled(page: str, path: Path, data: Path = DATA) -> str:
    """A page with the tables of its files in their present state, each with a link to its file.

    Args:
        page: text of the page.
        path: where the page lies, from which links lead.
        data: folder of the files.
    """

    def table(block: re.Match[str]) -> str:
        file = data / f"{block['name']}.csv"
        figures = read(file)
        only = [one.strip() for one in (block["columns"] or "").split(",") if one.strip()]
        link = Path(os.path.relpath(file, path.parent)).as_posix()
        source = f"*[{file.name}]({link}), {figures.made}, commit {figures.commit}*"
        return f"{block['begin']}\n{figures.markdown(only)}\n\n{source}\n\n{block['end']}"

    return BLOCK.sub(table, page)


def names_of(page: str) -> set[str]:
    """The files that a page shows or rests on."""
    shown = {block["name"] for block in BLOCK.finditer(page)}
    return shown.union(*(line.split() for line in NAMED.findall(page)))


def strays(page: str, data: Path = DATA) -> list[str]:
    """Figures of the sentences that are in none of the files that the page names."""
    if not (names := names_of(page)):
        return []
    known: set[Decimal] = set()
    for name in names:
        figures = read(data / f"{name}.csv")
        texts = [cell for row in figures.rows for cell in row]
        for text in [*texts, figures.title, *figures.notes]:
            known.update(abs(_number(one)) for one in re.findall(NUMBER, text))
    return [one for one in _in_sentences(page) if not _known(one, known)]


def _in_sentences(page: str) -> Iterator[str]:
    text = BLOCK.sub("", page)
    text = re.sub(
        r"(<!-- measured by (\S+) -->).*?\1", "", text, flags=re.DOTALL
    )  # speed/ writes and tests it
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(?:    .*|#.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)|95 %(?=\s(?:intervals?|confidence))|Python \d\.\d+", "", text)
    for found in FIGURE.finditer(text):
        yield found[0].removeprefix("±").strip().rstrip(",")


def _known(figure: str, known: set[Decimal]) -> bool:
    value = abs(_number(figure))
    step = Decimal(1).scaleb(value.as_tuple().exponent)  # type: ignore[arg-type]
    return any(
        value == one.quantize(step, rounding)
        for one in known
        for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN)
    )


def _number(text: str) -> Decimal:
    return Decimal(text.rstrip(",").replace(",", ""))


def pages() -> list[Path]:
    """Every page of the site and of the repository's root."""
    return sorted([*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")])


def out_of_step(path: Path) -> list[str]:
    """Lines that say what of a page is not in step with its files."""
    page = path.read_text(encoding="utf-8")
    lines = [f"{path}: {one} is in none of its files" for one in strays(page)]
    if filled(page, path) != page:
        lines.append(f"{path}: tables are not those of its files; run python docs/figures.py")
    return lines


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=DOCS, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", nargs=2, metavar=("TABLE.md", "NAME"))
    parser.add_argument("--command", action="append", default=[], help="what made the table; with --take")
    given = parser.parse_args()
    if given.take:
        if not given.command:
            parser.error("--take needs --command")
        text = Path(given.take[0]).read_text(encoding="utf-8")
        reader = take_curves if given.take[0].endswith(".csv") else take
        figures = reader(text, commands=given.command, made=date.today().isoformat(), commit=_commit())
        write_text(DATA / f"{given.take[1]}.csv", figures.text())
    elif given.check:
        lines = [line for path in pages() for line in out_of_step(path)]
        sys.exit("\n".join(lines) or None)
    else:
        for path in pages():
            page = path.read_text(encoding="utf-8")
            if (text := filled(page, path)) != page:
                write_text(path, text)


if __name__ == "__main__":
    main()
