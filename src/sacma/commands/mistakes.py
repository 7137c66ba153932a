"""Mistakes on the command line in plain words, with what may have been meant."""

from __future__ import annotations

import re
from argparse import Action
from pathlib import Path

from jsonargparse import ArgumentParser

from sacma.commands.manual import choices_of, kinds_of, option_name
from sacma.errors import meant, one_line, printable

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}


def in_plain_words(error: Exception, parser: ArgumentParser, name: str, *, file: Path | None = None) -> str:
    """Mistake in the arguments of a command, on one line.

    Args:
        error: of the parser.
        parser: of the command.
        name: of the command.
        file: the YAML file that the options are from, where it is one.
    """
    said = one_line(error)
    actions = {action.dest: action for action in parser._actions}
    key = re.match(r'Parser key "([^"]+)":', said)
    if key and (action := actions.get(key[1])):
        return _wrong_value(action, said, in_file=file is not None)
    if found := re.match(r"argument (\S+): expected (one|at least one) argument", said):
        return f"{option_name(found[1])} needs a value"
    if found := re.match(r"argument (\S+): ignored explicit argument (.+)", said):
        return f"{option_name(found[1])} takes no value; {found[2]} was given"
    if found := re.match(r"the following arguments are required: (.+)", said):
        missing = [_shown(actions[one]) if one in actions else one for one in found[1].split(", ")]
        return f"sacma {name} needs {', '.join(missing)}; see sacma {name} --help"
    if found := re.match(r"unrecognized arguments: (.+)", said):
        return _unknown(found[1], parser, name)
    if found := re.match(r"Option '([^']+)' is not accepted", said):
        return f"there is no option {found[1]}" + meant(found[1], actions)
    return said


def _wrong_value(action: Action, said: str, *, in_file: bool) -> str:
    value = re.search(r"(?:Got value|Given value): (.*)$", said)
    given = value[1] if value else ""
    choices = choices_of(action)
    expected = [", ".join(choices)] if choices else []
    expected += [_KINDS[kind] for kind in kinds_of(action) if kind in _KINDS and not choices]
    if not expected:
        expected = ["another kind of value"]
    wanted = f"one of {expected[0]}" if len(choices) > 2 else " or ".join(expected).replace(", ", " or ")
    name = action.dest if in_file else _shown(action)
    return f"{name} is {printable(given)}; it must be {wanted}" + meant(given, choices)


def _unknown(given: str, parser: ArgumentParser, name: str) -> str:
    first = given.split(maxsplit=1)[0]
    if not first.startswith("-"):
        return f"sacma {name} does not take {printable(first)}; see sacma {name} --help"
    option = option_name(first.partition("=")[0])
    known = [option_name(one) for action in parser._actions for one in action.option_strings]
    hint = meant(option, known) or f"; see sacma {name} --help-all"
    return f"there is no option {option}{hint}"


def _shown(action: Action) -> str:
    return option_name(action.option_strings[-1]) if action.option_strings else action.dest.upper()
