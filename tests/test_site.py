"""The site: every page is in its navigation, every link of the repository's own pages leads somewhere."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))

sys.path.insert(0, str(DOCS))
import site_pages  # noqa: E402

made = cache(site_pages.all_pages)


def entries(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        below = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(below, list):
            yield from entries(below)
        else:
            yield below


def test_every_page_is_in_the_navigation_once() -> None:
    nav = list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    folders = {f"{Path(page).parent}/" for page in site_pages.OF_ROOT.values()} | {
        "reference/commands/",
        "reference/of-methods/",
        "reference/api/",
    }
    assert sorted(nav) == sorted({*folders, *(str(page.relative_to(DOCS)) for page in (*PAGES, *NOTEBOOKS))})


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        path = (page.parent / target).resolve()
        is_made = path.is_relative_to(DOCS) and str(path.relative_to(DOCS)) in made()
        assert is_made or path.exists(), target


def test_a_command_is_described_by_its_own_parser() -> None:
    pages = site_pages.command_pages()
    assert pages.keys() == {
        f"reference/commands/{name.replace(' ', '-')}.md" for name in site_pages.commands()
    }
    _, text = pages["reference/commands/train.md"]
    assert "| `--batch-size` | clips of a batch. (type: int, default: 64) |" in text
    assert "## Training of a stage\n" in text
    assert "[options]" in text


def test_a_method_is_described_by_its_module_and_its_options() -> None:
    pages = site_pages.method_pages()
    assert {title for title, _ in pages.values()} == set(site_pages.METHODS)
    _, text = pages["reference/of-methods/kite.md"]
    assert "KITE: closed forms" in text
    assert "| `--smoothing` |" in text
    assert "--batch-size" not in text  # an option of training, on the page of the command


def test_every_public_name_has_a_page() -> None:
    import sacma

    pages = site_pages.name_pages()
    assert {f"sacma.{name}" for name in sacma.__all__ if name != "__version__"} <= {
        title for title, _ in pages.values()
    }


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent.name != "results"],
    ids=lambda page: str(page.relative_to(DOCS)),
)
def test_pages_are_short(page: Path) -> None:
    """Whoever needs more than 1,500 words splits the page; results may be longer."""
    assert len(page.read_text().split()) <= 1500


def test_readme_is_short_and_starts_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 120
    commands = [
        line.strip() for line in lines if line.startswith("    sacma ") or line.startswith("    make ")
    ]
    assert [command.split()[:2] for command in commands[:2]] == [["sacma", "predict"], ["make", "demo"]]
    assert sum(line.startswith("![") for line in lines) == 1


def test_version_is_the_same_in_package_citation_and_changelog() -> None:
    from sacma import __version__

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert (
        re.findall(r"^## (\d\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
        == __version__
    )


def test_page_on_installing_has_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (DOCS / "start" / "install.md").read_text()
    rows = [
        line.split("|")[1] for line in page[page.index("| extra |") :].splitlines() if line.startswith("| `")
    ]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(extras) - {"dev", "docs"}


def test_glossary_has_each_word_once_and_every_measure() -> None:
    from sacma.metrics.gzsl import ACCURACIES

    rows = re.findall(r"^\| ([^|]+) \| ", (DOCS / "reference" / "glossary.md").read_text(), re.MULTILINE)
    words = [word for row in rows if row not in ("word", "---") for word in row.split(", ")]
    assert sorted(set(words)) == sorted(words)
    assert {*ACCURACIES, "AUSUC", "bias"} <= set(words)
