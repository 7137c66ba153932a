"""Commands in the pages are those of the package, with their options; how-to pages start with one."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from sacma import cli
from sacma.commands.parsers import parser_of
from sacma.models import METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])

sys.path.insert(0, str(DOCS))
import site_pages  # noqa: E402

COMMANDS = site_pages.commands()
OF_ALL = {"--help", "--help-all", "--quiet", "--json"}
ALONE = {"--version", "--help", "completion", *cli.GROUPS}


@cache
def options(name: str, method: str) -> set[str]:
    given = ["--method", method] if method else []
    actions = parser_of(COMMANDS[name], name, given)._actions
    return {one.replace("_", "-") for action in actions for one in action.option_strings} | OF_ALL


def commands_in(text: str) -> list[str]:
    """Lines of code that call sacma, long ones put together, without variables and launchers before it."""
    whole = re.sub(r" *\\\n +", " ", text)
    code = "\n".join(re.sub(r"^    .* -m sacma\.cli ", "    sacma ", line) for line in whole.splitlines())
    return re.findall(r"^    (?:[A-Z_]+=\S+ )?(sacma [a-z-].*)$", code, re.MULTILINE)


def wrong_in(line: str) -> list[str]:
    """What a command line has that the command does not know."""
    words = shlex.split(line, comments=True)
    name = " ".join(words[1:3])
    if name not in COMMANDS:
        name = words[1]
    if name not in COMMANDS:
        return [] if name in ALONE else [name]
    typed = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    methods = [word for before, word in pairwise(words) if before == "--method"]
    method = next((one for one in methods if one in METHODS), "")
    return [one for one in typed if one not in options(name, method)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_the_options_that_pages_give_them(page: Path) -> None:
    wrong = {line: found for line in commands_in(page.read_text()) if (found := wrong_in(line))}
    assert wrong == {}


def test_a_wrong_option_and_a_wrong_command_are_found() -> None:
    assert wrong_in("sacma predict clip.mp4 --classes 'a, b' --tops 3  # --nothing") == ["--tops"]
    assert wrong_in("sacma train --method kite --views unit --heads 3") == ["--heads"]
    assert wrong_in("sacma prodict clip.mp4") == ["prodict"]


@pytest.mark.parametrize("page", sorted((DOCS / "howto").glob("*.md")), ids=lambda page: page.stem)
def test_a_how_to_page_says_what_one_gets_and_then_how(page: Path) -> None:
    """One paragraph of words below the title, and within the first screen code that runs."""
    title, *lines = page.read_text().splitlines()
    assert title.startswith("# ")
    first = next(line for line in lines if line)
    assert re.match(r"[A-Z]|`[a-z]", first), "the page has to begin with a sentence"
    start = "\n".join(lines[:16])
    assert commands_in(start) or "```python" in start
