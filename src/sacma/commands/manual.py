"""Help of a command that fits a screen: the options that most people need, then the others on request."""

from __future__ import annotations

import shutil
import textwrap
from argparse import Action
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser

# Commands with more options than a screen has lines. All others show all of their options.
ESSENTIAL: dict[str, tuple[str, ...]] = {
    "train": (
        *("method", "variant", "preset", "seed", "seeds", "out", "resume", "force"),
        *("benchmark", "features", "root", "text", "epochs", "batch_size", "learning_rate", "device"),
    ),
    "tune": (
        *("method", "variant", "preset", "seed", "trials", "space", "storage", "out"),
        *("benchmark", "features", "root", "text", "epochs", "device"),
    ),
    "predict": (
        *("clips", "run", "model", "classes", "start", "end", "window", "top", "reject", "format", "out"),
        *("jobs", "follow_links"),
    ),
    "reproduce": (
        *("study", "benchmark", "features", "root", "row", "like", "seeds", "jobs", "epochs", "out"),
    ),
    "draws": (
        *("study", "benchmark", "features", "root", "row", "draws", "like", "seeds", "jobs", "epochs", "out"),
    ),
    "index": (
        "clips",
        "out",
        "model",
        "run",
        "window",
        "hop",
        "engine",
        "jobs",
        "watch",
        "retry",
        "follow_links",
    ),
    "learn": ("clips", "out", "classes", "model", "audio_weights", "device", "follow_links"),
    "extract": ("clips", "out", "backbone", "start", "end", "engine", "jobs", "device", "fast", "force"),
}
_ALWAYS = ("help", "help_all", "config", "quiet", "json")
_INDENT, _WIDEST = 26, 100


def manual(
    parser: ArgumentParser, name: str, *, title: str, examples: Sequence[str], everything: bool
) -> str:
    """The help of a command.

    Args:
        parser: of the command.
        name: of the command, such as ``data check``.
        title: what the command does.
        examples: commands that show how to use it.
        everything: all options, for ``--help-all``; else those of ``ESSENTIAL``.
    """
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    essential = None if everything else ESSENTIAL.get(name)
    positional = [action for action in parser._actions if not action.option_strings]
    usage = " ".join([f"usage: sacma {name}", *map(_place, positional), "[options]"])
    lines = [usage, "", *textwrap.wrap(title, width)]
    for heading, actions in _sections(parser, essential):
        lines += ["", f"{heading}:"]
        for action in actions:
            lines += _entry(action, width)
    lines += ["", "common options:"]
    for action in _common(parser):
        lines += _entry(action, width)
    if essential is not None:
        hidden = sum(1 for a in parser._actions if a.dest not in (*essential, *_ALWAYS))
        lines += ["", f"{hidden} more options: sacma {name} --help-all"]
    if examples:
        lines += ["", "examples:", *(f"  {line}" for line in examples)]
    return "\n".join(lines) + "\n"


def _sections(parser: ArgumentParser, essential: Sequence[str] | None) -> Iterator[tuple[str, list[Action]]]:
    if essential is not None:
        known = {action.dest: action for action in parser._actions}
        chosen = [known[name] for name in essential]
        yield "options", chosen
        return
    plain: list[Action] = []
    others: list[tuple[str, list[Action]]] = []
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest not in _ALWAYS]
        summary = (parser.description or "").rstrip(".")
        own = group.title in ("positional arguments", "options", summary, parser.description)
        if own:
            plain += actions
        elif actions:
            others.append((group.title or "options", actions))
    if plain:
        yield "options", sorted(plain, key=lambda action: bool(action.option_strings))
    yield from others


def _common(parser: ArgumentParser) -> list[Action]:
    return [action for action in parser._actions if action.dest in _ALWAYS]


def _entry(action: Action, width: int) -> list[str]:
    """An option and its meaning, in two columns."""
    shown = ", ".join(option_name(option) for option in action.option_strings)
    value = value_of(action)
    left = f"  {shown} {value}".rstrip() if shown else f"  {_place(action)}"
    said = " ".join((action.help or "").replace("``", "").split()).rstrip(".")
    if (default := _default(action)) and "default" not in said:
        said += f" (default: {default})"
    lines = textwrap.wrap(said, width - _INDENT, break_on_hyphens=False) or [""]
    pad = " " * _INDENT
    if len(left) < _INDENT - 1:
        return [left.ljust(_INDENT) + lines[0], *(pad + line for line in lines[1:])]
    if len(left) + 2 + len(said) <= width:
        return [f"{left}  {said}"]
    return [left, *(pad + line for line in lines)]


def option_name(option: str) -> str:
    """Written form of an option: with hyphens.

    >>> option_name("--batch_size")
    '--batch-size'
    """
    return option.replace("_", "-")


def _place(action: Action) -> str:
    return action.dest.upper() + (" ..." if action.nargs == "+" else "")


def value_of(action: Action) -> str:
    """Shown form of the value of an option; empty for one without a value."""
    if action.nargs == 0 or not action.option_strings:
        return ""
    kinds = kinds_of(action)
    if choices := choices_of(action):
        joined = "{" + ",".join(choices) + "}"
        return joined if len(joined) <= 34 else "NAME"
    names = {int: "N", float: "X", Path: "PATH"}
    return next((names[kind] for kind in kinds if kind in names), "TEXT")


def kinds_of(action: Action) -> tuple[Any, ...]:
    """The types that a value may have, without None."""
    kind = getattr(action, "_typehint", None) or action.type or str
    parts = get_args(kind) if get_origin(kind) is not Literal and get_args(kind) else (kind,)
    return tuple(part for part in parts if part is not NoneType)


def choices_of(action: Action) -> tuple[str, ...]:
    """The values that an option may have, where they are few."""
    kinds = kinds_of(action)
    if kinds == (bool,):
        return ("true", "false")
    return tuple(str(one) for kind in kinds if get_origin(kind) is Literal for one in get_args(kind))


def _default(action: Action) -> str:
    value = action.default
    if value is None or value is False or action.nargs == 0 or not action.option_strings:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
