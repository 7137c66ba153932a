"""``sacma completion``: what shells need to complete commands and options."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser
from pathlib import Path
from typing import Any, Literal

from sacma.commands import Command, summary


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a script that completes commands and options in a shell.

    Args:
        shell: bash, zsh or tcsh.

    Examples:
        sacma completion bash > ~/.local/share/bash-completion/completions/sacma
        sacma completion zsh > ~/.zfunc/_sacma
    """
    import shtab

    sys.stdout.write(shtab.complete(_all_commands(), shell) + "\n")


def _all_commands() -> ArgumentParser:
    """A parser of all commands with their options, spelt as users spell them."""
    from sacma.cli import COMMANDS, GROUPS

    parser = ArgumentParser(prog="sacma", add_help=False)
    parser.add_argument("--help", action="store_true", help="show this help")
    parser.add_argument("--version", action="store_true", help="print the version")
    listed = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        _add(listed, name, command)
    for group, (_, line, commands) in GROUPS.items():
        inner = listed.add_parser(group, help=line, add_help=False).add_subparsers(metavar="COMMAND")
        for name, command in commands.items():
            _add(inner, name, command)
    return parser


def _add(listed: Any, name: str, command: Command) -> None:
    from sacma.commands.parsers import parser_of

    line = summary(command)
    added = listed.add_parser(name, help=line, description=line, add_help=False)
    for action in parser_of(command, name)._actions:
        _copy(added, action)


def _copy(parser: ArgumentParser, action: Action) -> None:
    import shtab

    from sacma.commands.manual import choices_of, kinds_of, option_name

    options: dict[str, Any] = {"help": (action.help or "").replace("%", "%%"), "default": SUPPRESS}
    names = [option_name(option) for option in action.option_strings]
    if action.nargs == 0:
        parser.add_argument(*names, action="store_true", **options)
        return
    choices = choices_of(action) or None
    nargs = action.nargs if not names else None
    added = parser.add_argument(*names or [action.dest], choices=choices, nargs=nargs, **options)
    if Path in kinds_of(action) or action.dest in ("clips", "root"):
        added.complete = shtab.FILE  # type: ignore[attr-defined]
