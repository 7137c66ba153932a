"""What the documentation says about methods is what the code does; its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sacma.models import METHODS
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, options_of
from sacma.runs import config

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = DOCS.parent / "examples" / "cosine-method"
SECTIONS = (DataConfig, TrainingConfig, ProtocolConfig, *(method.Config for method in METHODS.values()))
OPTIONS = {name for section in SECTIONS for name in options_of(section)}


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the rows of the table whose first column is headed so."""
    lines = text[text.index(f"| {first} |") :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def methods() -> str:
    """The pages on methods, one after the other."""
    pages = ("methods", "each-method", "variants", "presets")
    return "\n".join((DOCS / "reference" / f"{page}.md").read_text() for page in pages)


def test_overview_is_what_the_methods_say(methods: str) -> None:
    rows = {names_in(name)[0]: facts for name, *facts in table(methods, "method")}
    assert set(rows) == set(METHODS)
    for name, (given, negatives, _, bias) in rows.items():
        method = METHODS[name]
        assert given == ("sequences" if method.temporal else "averages"), name
        assert negatives == ("yes" if method.needs_negatives else "no"), name
        assert bias == ("yes" if method.calibrated else "no"), name


def test_variants_are_those_of_the_methods(methods: str) -> None:
    rows = table(methods[methods.index("# Variants") :], "method")
    told: dict[str, dict[str, str]] = {}
    of: list[str] = []
    for name, changes, _ in rows:
        of = names_in(name) or of
        for change in names_in(changes):
            option, _, value = change.partition(": ")
            for one in of:
                told.setdefault(one, {})[option] = value
    for name, method in METHODS.items():
        assert next(iter(method.VARIANTS)) == ("paper" if name == "sacma" else "corrected")
        expected = {**method.PUBLISHED_TRAINING, **method.VARIANTS.get("published", {})}
        found = told.get(name, {})
        assert found.keys() == expected.keys(), name
        for option, value in expected.items():
            written = yaml.safe_load(found[option])
            assert (float(written) if isinstance(value, float) else written) == value, (name, option)
    without = {name for name in METHODS if "published" not in METHODS[name].VARIANTS}
    assert set(names_in(rows[-1][0])) == without
    for option, value in config.PUBLISHED_RUN.items():
        assert f"`{option}: {value}`" in methods


def test_options_are_spelled_as_in_the_code(methods: str) -> None:
    for name in names_in(methods):
        option = name.partition(":")[0]
        if re.fullmatch("[a-z]+(_[a-z0-9]+)+|[a-z_]+: .*", name):
            assert option in OPTIONS | {"not_in_paper", "phi_a", "phi_v"}, name


def test_where_the_numbers_come_from_is_told_of_all(methods: str) -> None:
    rows = table(methods[methods.index("# Presets") :], "method")
    assert sorted(name for row in rows for name in names_in(row[0])) == sorted(METHODS)


# --- The example of adding-a-method.md --------------------------------------------------------------


def test_example_of_the_document_is_the_package_that_is_tested() -> None:
    text = (DOCS / "howto" / "adding-a-method.md").read_text()
    code, check = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert code == (EXAMPLE / "sacma_cosine.py").read_text()
    assert check in (EXAMPLE / "test_cosine.py").read_text()
    (project,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert project in (EXAMPLE / "pyproject.toml").read_text()


# --- Files that pages name --------------------------------------------------------------------------

MADE_BY_READERS = {"cosine.yaml"}  # files of a method that a reader adds


def test_files_that_pages_name_are_there() -> None:
    named = {
        (page.name, path)
        for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
        for path in re.findall(r"`((?:src|tests|speed|docs|examples)/[\w./*-]+)`", page.read_text())
        if Path(path).name not in MADE_BY_READERS and not re.search("TABLE|METHOD|NAME", path)
    }
    assert len(named) > 30
    assert [one for one in sorted(named) if not list(DOCS.parent.glob(one[1]))] == []
