"""Scripts by which shells complete commands and options."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sacma.commands import Command, summary
from sacma.commands.manual import choices_of, kinds_of, option_name
from sacma.commands.parsers import parser_of


def script(shell: str, commands: Mapping[str, Command], groups: Mapping[str, Mapping[str, Command]]) -> str:
    """The script that completes commands and options in a shell.

    Args:
        shell: bash, zsh or tcsh.
        commands: name -> function.
        groups: name of a group -> its commands.
    """
    import shtab

    parser = ArgumentParser(prog="sacma", add_help=False)
    parser.add_argument("--help", action="store_true", help="show this help")
    parser.add_argument("--version", action="store_true", help="print the version")
    listed = parser.add_subparsers(metavar="COMMAND")
    for name, command in commands.items():
        _add(listed, name, command)
    for group, members in groups.items():
        inner = listed.add_parser(group, help=group, add_help=False).add_subparsers(metavar="COMMAND")
        for name, command in members.items():
            _add(inner, name, command)
    made: str = shtab.complete(parser, shell)
    return made


def _add(listed: Any, name: str, command: Command) -> None:
    line = summary(command)
    added = listed.add_parser(name, help=line, description=line, add_help=False)
    for action in parser_of(command, name)._actions:
        _copy(added, action)


def _copy(parser: ArgumentParser, action: Action) -> None:
    import shtab

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
