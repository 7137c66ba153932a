"""The report: one self-contained HTML page about one or several runs, without scripts and without network.

Runs that differ by their seed alone make up a group; groups with the same test clips are compared. What
cannot be read or shown is left out, and a note says why. The page itself is ``templates/report.html``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sacma.errors import requires
from sacma.files import write_text
from sacma.metrics.percent import percent
from sacma.metrics.significance import LEAST_PAIRS, holm, paired
from sacma.results import charts
from sacma.results.group_section import section_of
from sacma.results.run_groups import SHOWN, RunGroup, collect, mean_and_values, overlap_of, settings_of
from sacma.version import __version__

TESTED = ("HM", "ZSL")
LARGEST = 5_000_000  # bytes of a page


def write_report(
    paths: Sequence[Path], out: Path | None = None, *, root: str | None = None
) -> tuple[Path, list[str]]:
    """Write the page of all runs below ``paths``.

    Args:
        paths: run folders, or folders of seeds or of methods.
        out: file; by default ``report.html`` in the run or folder, for several paths in the current folder.
        root: folder of the benchmark, if it has moved; t-SNE and nearest class names need it.

    Returns:
        The file, and notes about what was left out.

    Raises:
        SacmaError: no run can be read, an extra is missing, or the file cannot be written.
    """
    groups, notes = collect(paths)
    out = out or (paths[0] if len(paths) == 1 else Path()) / "report.html"
    page, more = render(groups, notes, root=root)
    write_text(out, page)
    return out, [*notes, *more]


def render(
    groups: Sequence[RunGroup], notes: Sequence[str], *, root: str | None = None
) -> tuple[str, list[str]]:
    """Render the page.

    Args:
        groups: the runs, the first group being the one that others are compared with.
        notes: about runs that were left out.
        root: folder of the benchmark, if it has moved.

    Returns:
        The HTML, and notes about parts that could not be shown.

    Raises:
        SacmaError: Jinja2 is not installed.
    """
    template = _template()
    sections = [section_of(group, place, root) for place, group in enumerate(groups)]
    missing = [f"{section['label']}: {note}" for section in sections for note in section["notes"]]
    content = {
        "version": __version__,
        "title": _title(groups),
        "tables": _comparisons(groups),
        "sections": sections,
        "notes": notes,
        "least_pairs": LEAST_PAIRS,
        "tested": TESTED,
    }
    page = template.render(content)
    # A page of very many runs: large parts that can be drawn for fewer runs are dropped first.
    for part, what, empty in (("tsne", "t-SNE", None), ("losses", "curves of loss terms", [])):
        for section in reversed(sections):
            if len(page.encode()) > LARGEST and section[part]:
                section[part] = empty
                missing.append(f"{section['label']}: no {what}, the page would be larger than 5 MB")
                section["notes"].append(f"No {what} here: the page would be larger than 5 MB.")
                page = template.render(content)
    return page, missing


def _template() -> Any:
    with requires("report", "the report needs Jinja2"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    environment = Environment(
        loader=PackageLoader("sacma.results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": partial(percent, missing="–"), "signed": _signed, "number": _number}
    return environment.get_template("report.html")


def _title(groups: Sequence[RunGroup]) -> str:
    benchmarks = dict.fromkeys(group.runs[0].result.benchmark for group in groups)
    methods = dict.fromkeys(group.runs[0].config.method for group in groups)
    return f"{_some(list(methods), 3)} on {_some(list(benchmarks), 3)}"


def _some(names: Sequence[str], limit: int) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _signed(share: float) -> str:
    return percent(share, missing="–", sign="+").replace("-", "−")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def _comparisons(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """One table for each set of test clips; its first group is the one that others are compared with."""
    together: dict[tuple[Any, ...], list[tuple[int, RunGroup]]] = defaultdict(list)
    for place, group in enumerate(groups):
        together[group.runs[0].test_clips].append((place, group))
    return [_comparison(members) for members in together.values()]


def _comparison(members: Sequence[tuple[int, RunGroup]]) -> dict[str, Any]:
    reference = members[0][1]
    result = reference.runs[0].result
    clips = len(reference.runs[0].predictions["clip"])
    tests = {
        name: [paired(group.values(name), reference.values(name)) for _, group in members[1:]]
        for name in TESTED
    }
    adjusted = {name: holm([test.p for test in some]) for name, some in tests.items()}
    rows = []
    for row, (place, group) in enumerate(members):
        figures_of = {name: mean_and_values(group.values(name).values()) for name in SHOWN}
        compared = {
            name: {"test": tests[name][row - 1], "p": adjusted[name][row - 1]} for name in TESTED if row
        }
        rows.append(
            {
                "anchor": f"run-{place}",
                "label": group.label,
                "mark": found.mark if (found := overlap_of(group.runs[0])) else "",
                "seeds": len(group.runs),
                "figures": figures_of,
                "compared": compared,
                "facts": settings_of(group),
            }
        )
    drawn = [
        (
            name,
            charts.comparison(name, {group.label: list(group.values(name).values()) for _, group in members}),
        )
        for name in TESTED
    ]
    return {
        "title": f"{result.benchmark}, {result.split} split",
        "clips": clips,
        "classes": len(reference.runs[0].classes),
        "reference": reference.label,
        "rows": rows,
        "charts": drawn if len(members) > 1 else [],
        "mixed": _mixed([group for _, group in members]),
    }


def _mixed(groups: Sequence[RunGroup]) -> list[str]:
    """Settings in which the rows of a table differ, besides the method."""
    what = {
        "features": "features",
        "text": "class vectors",
        "text_alignment": "alignment of class vectors",
        "bias_search": "bias search",
        "preset": "preset",
    }
    results = [group.runs[0].result for group in groups]
    found = {
        words: dict.fromkeys(str(getattr(result, key)) for result in results) for key, words in what.items()
    }
    return [f"{words}: {', '.join(values)}" for words, values in found.items() if len(values) > 1]
