"""Hook of mkdocs: makes the pages of commands, methods and public names from the package itself.

No list is kept by hand: a command is described by its own parser, a method by its module and its options, a
name by its docstring. Files of the repository's root that belong to the site are shown there as well.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from argparse import SUPPRESS
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sacma
from sacma import cli
from sacma.commands import Command, examples, runs, summary
from sacma.commands.parsers import OF_RUNS, parser_of
from sacma.models import METHODS

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
# Beside the names of `sacma` itself: modules whose public names researchers build on.
MODULES = (
    "sacma.metrics.gzsl",
    "sacma.metrics.calibration",
    "sacma.metrics.significance",
    "sacma.data.batches",
)
OF_ROOT = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
}
Pages = dict[str, tuple[str, str]]
"""Address of a page in the site -> its title in the navigation, its text."""


def commands() -> dict[str, Command]:
    """Every command, by the words that call it."""
    return cli.COMMANDS | {
        f"{group} {name}": command
        for group, of in cli.GROUPS.items()
        for name, command in of.commands.items()
    }


def command_pages() -> Pages:
    """One page for each command: usage, and a table for each group of its options."""
    pages = {}
    for name, command in commands().items():
        parser = parser_of(command, name)
        text = f"# sacma {name}\n\n{summary(command)}\n\n```text\n{_usage(parser)}\n```\n"
        groups: dict[str, list[tuple[str, str]]] = {}
        for title, options in _groups(parser):
            heading = "options" if title.startswith(summary(command).rstrip(".")) else title
            groups.setdefault(heading[0].upper() + heading[1:], []).extend(options)
        if shown := examples(command):
            text += f"\n## Examples\n\n```text\n{chr(10).join(shown)}\n```\n"
        for heading, options in groups.items():
            text += f"\n## {heading}\n\n{_table(options)}"
        if command in OF_RUNS:
            text += "\nHyperparameters are those of `sacma`; each [method](../methods.md) has its own.\n"
        pages[f"reference/commands/{name.replace(' ', '-')}.md"] = (name, text)
    return pages


def method_pages() -> Pages:
    """One page for each method: what its module says, and its hyperparameters."""
    pages = {}
    for name in METHODS:
        method = METHODS[name]
        about = (sys.modules[method.__module__].__doc__ or "").strip()
        text = f"# {name}\n\n`sacma train --method {name}`\n\n```text\n{about}\n```\n"
        for title, options in _own_groups(name):
            text += f"\n## {title}\n\n{_table(options)}"
        pages[f"reference/of-methods/{name}.md"] = (name, text)
    return pages


def _own_groups(method: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The groups of options between those of the data and those of the training."""
    groups = _groups(parser_of(runs.train, "train", ["--method", method]))
    titles = [title for title, _ in groups]
    return groups[titles.index("Data of a run") + 1 : titles.index("Training of a stage")]


def name_pages() -> Pages:
    """One page for each public name of ``sacma``, and one for each of ``MODULES``."""
    pages = {}
    for name in sacma.__all__:
        if name == "__version__":
            continue
        home = sacma._HOMES[name]
        pages[f"reference/api/{name}.md"] = (f"sacma.{name}", f"# sacma.{name}\n\n::: {home}.{name}\n")
    answers = [name for name in import_module("sacma.predict").__all__ if name not in sacma.__all__]
    blocks = "\n".join(f"::: sacma.predict.{name}\n" for name in answers)
    pages["reference/api/answers.md"] = ("Parts of an answer", f"# Parts of an answer\n\n{blocks}")
    for module in MODULES:
        pages[f"reference/api/{module.partition('.')[2]}.md"] = (module, f"# {module}\n\n::: {module}\n")
    return pages


def root_pages() -> Pages:
    """Files of the repository's root, with links that hold within the site."""
    pages = {}
    for name, page in OF_ROOT.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for other, target in OF_ROOT.items():
            text = text.replace(f"]({other})", f"]({Path(target).name})")
        text = text.replace("](docs/", "](../")
        pages[page] = (text.partition("\n")[0].lstrip("# "), text)
    return pages


def _usage(parser: Any) -> str:
    positional = [one.metavar or one.dest for one in parser._actions if not one.option_strings]
    return " ".join([parser.prog, *positional, "[options]"])


def _groups(parser: Any) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title and options of each group that has any, but for help; an option: how it is written, its help."""
    groups = []
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        options = [
            (_written(one), _one_line(formatter._expand_help(one)))
            for one in group._group_actions
            if one.dest not in ("help", "help_all") and one.help not in (None, SUPPRESS)
        ]
        if options:
            groups.append((group.title, options))
    return groups


def _written(action: Any) -> str:
    return ", ".join(one.replace("_", "-") for one in action.option_strings) or action.dest


def _one_line(text: str) -> str:
    text = re.sub(r"\s+", " ", text.replace("``", "`")).strip()
    text = re.sub(r"<class '(\w+)'>", r"\1", text)
    text = re.sub(r"type: Literal\[([^]]*)\]", lambda found: f"one of: {found[1].replace(chr(39), '')}", text)
    text = text.replace(", default: null)", ")").replace("type: str)", "text)")
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{}", "`{}`").replace("[", "\\[")


def _table(options: Iterable[tuple[str, str]]) -> str:
    lines = [f"| `{option}` | {text} |" for option, text in options]
    return "\n".join(["| option | meaning |", "| --- | --- |", *lines]) + "\n"


def all_pages() -> Pages:
    """Every page that is made."""
    return command_pages() | method_pages() | name_pages() | root_pages()


# --- What mkdocs calls ------------------------------------------------------------------------------

_made: Pages = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made into the navigation, where it says ``made: FOLDER``.

    Notebooks call commands: those of the environment that builds the site come first, without moving bars.
    """
    os.environ |= {"TERM": "dumb", "PYTHONWARNINGS": "ignore"}
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    _made.clear()
    _made.update(all_pages())
    config.nav = _filled(config.nav or [])
    return config


def _filled(nav: list[Any]) -> list[Any]:
    entries: list[Any] = []
    for entry in nav:
        ((title, below),) = entry.items() if isinstance(entry, dict) else (("", ""),)
        if isinstance(below, list):
            entries.append({title: _filled(below)})
        elif title == "made":
            entries += [{name: page} for page, (name, _) in _made.items() if page.startswith(below)]
        else:
            entries.append(entry)
    return entries


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for page, (_, text) in _made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to files of the repository's root lead to their pages in the site."""
    for name, page in OF_ROOT.items():
        markdown = markdown.replace(f"](../../{name})", f"](../{page})")
    return markdown
