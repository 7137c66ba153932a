"""The report: one self-contained HTML page about one or several runs, without scripts and without network.

Runs that differ by their seed alone make up a group; groups with the same test clips are compared. What
cannot be read or shown is left out, and a note says why. The page itself is ``templates/report.html``, the
section of a group ``section.html``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from sacma.errors import requires
from sacma.files import write_text
from sacma.metrics.percent import percent
from sacma.metrics.significance import LEAST_PAIRS
from sacma.results.comparison import TESTED, comparisons, duration
from sacma.results.group_section import section_of
from sacma.results.run_groups import RunGroup, collect, made_up
from sacma.version import __version__

LARGEST = 5_000_000  # bytes of a page
DROPPED: tuple[tuple[str, str, Any], ...] = (
    ("tsne", "t-SNE", None),
    ("thumbnails", "pictures of clips", {}),
    ("losses", "curves of loss terms", []),
    ("validation_curve", "curve of validation", None),
    ("seen_unseen", "seen-unseen curve", None),
)
"""Parts of a section that a page of very many runs goes without, the first ones first."""


def write_report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    root: str | None = None,
    clips: Path | None = None,
) -> tuple[Path, list[str]]:
    """Write the page of all runs below ``paths``.

    Args:
        paths: run folders, or folders of seeds or of methods.
        out: file; by default ``report.html`` in the run or folder, for several paths in the current folder.
        root: folder of the benchmark, if it has moved; t-SNE and nearest class names need it.
        clips: folder of the clips, whose pictures are shown beside wrong answers; None shows none.

    Returns:
        The file, and notes about what was left out.

    Raises:
        SacmaError: no run can be read, an extra is missing, or the file cannot be written.
    """
    groups, notes = collect(paths)
    out = out or (paths[0] if len(paths) == 1 else Path()) / "report.html"
    page, more = render(groups, notes, root=root, clips=clips)
    write_text(out, page)
    return out, [*notes, *more]


def render(
    groups: Sequence[RunGroup], notes: Sequence[str], *, root: str | None = None, clips: Path | None = None
) -> tuple[str, list[str]]:
    """Render the page.

    Args:
        groups: the runs, the first group being the one that others are compared with.
        notes: about runs that were left out.
        root: folder of the benchmark, if it has moved.
        clips: folder of the clips; None shows no pictures.

    Returns:
        The HTML, and notes about parts that could not be shown.

    Raises:
        SacmaError: Jinja2 is not installed.
    """
    templates = _templates()
    sections = [section_of(group, place, root, clips) for place, group in enumerate(groups)]
    missing = [f"{section['label']}: {note}" for section in sections for note in section["notes"]]
    draw = templates.get_template("section.html").render
    shown = [draw(section=section) for section in sections]
    content = {
        "version": __version__,
        "title": _title(groups),
        "tables": comparisons(groups),
        "sections": sections,
        "shown": shown,
        "made_up": dict.fromkeys(filter(None, map(made_up, groups))),
        "notes": notes,
        "least_pairs": LEAST_PAIRS,
        "tested": TESTED,
    }
    whole = templates.get_template("report.html").render
    size = len(whole(content).encode())
    # A page of very many runs: large parts that can be drawn for fewer runs are dropped first.
    for part, what, empty in DROPPED:
        for place, section in reversed(list(enumerate(sections))):
            if size > LARGEST and section[part]:
                section[part] = empty
                missing.append(f"{section['label']}: no {what}, the page would be larger than 5 MB")
                section["notes"].append(f"No {what} here: the page would be larger than 5 MB.")
                before, shown[place] = shown[place], draw(section=section)
                size += len(shown[place].encode()) - len(before.encode())
    return whole(content), missing


def _templates() -> Any:
    with requires("report", "the report needs Jinja2"):
        import jinja2  # noqa: F401
    return _compiled()


@cache
def _compiled() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sacma.results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": partial(percent, missing="–"),
        "signed": _signed,
        "number": _number,
        "duration": duration,
    }
    return environment


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
