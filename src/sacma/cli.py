"""The command line: which command is asked for, help about all of them, exit statuses of what they raise.

Help and version come at once: the parser of a command is made, and what that takes is imported, when the
command is asked for.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import textwrap
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import Literal, NamedTuple, NoReturn

from sacma.commands import (
    Command,
    clips,
    data,
    library,
    models,
    runs,
    speak,
    studies,
    summary,
    teaching,
    text,
)
from sacma.errors import SacmaError, meant, one_line, printable
from sacma.machine import check_addresses, collect_seldom, out_of_memory, tell_of_shrunk_files
from sacma.version import __version__

USER_ERROR, INTERRUPTED = 2, 130


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a script that completes commands and options in a shell.

    Args:
        shell: bash, zsh or tcsh.

    Examples:
        sacma completion bash > ~/.local/share/bash-completion/completions/sacma
        sacma completion zsh > ~/.zfunc/_sacma
    """
    from sacma.commands.completion import script

    print(script(shell, COMMANDS, {name: group.commands for name, group in GROUPS.items()}))


COMMANDS: dict[str, Command] = {
    "demo": runs.demo,
    "train": runs.train,
    "evaluate": runs.evaluate,
    "reproduce": studies.reproduce,
    "tune": runs.tune,
    "draws": studies.draws,
    "report": runs.report,
    "import-weights": runs.import_weights,
    "extract": clips.extract,
    "predict": clips.predict,
    "index": library.index,
    "search": library.search,
    "learn": teaching.learn,
    "export": clips.export,
    "app": clips.app,
    "completion": completion,
}
DATA_COMMANDS: dict[str, Command] = {
    "info": data.info,
    "check": data.check,
    "import": data.import_features,
    "download": data.download,
    "render": data.render,
    "simulate": data.simulate,
    "split": data.split,
    "youtube8m": data.youtube8m,
}
TEXT_COMMANDS: dict[str, Command] = {"build": text.build}
TEACH_COMMANDS: dict[str, Command] = {
    "add-clips": teaching.add_clips,
    "add-class": teaching.add_class,
    "correct": teaching.correct,
    "undo": teaching.undo,
    "log": teaching.log,
}
MODEL_COMMANDS: dict[str, Command] = {"list": models.show, "get": models.get}


class Group(NamedTuple):
    """Commands under a name of their own.

    Attributes:
        title: for the head of the group's help.
        line: for the list of all commands.
        commands: name -> function.
    """

    title: str
    line: str
    commands: dict[str, Command]


GROUPS = {
    "data": Group(
        "Benchmarks: look, check, convert, fetch, render, simulate, split, make.",
        "benchmarks: look, check, convert, fetch, render, simulate, split, make",
        DATA_COMMANDS,
    ),
    "text": Group("Class vectors.", "class vectors from a text encoder", TEXT_COMMANDS),
    "teach": Group(
        "Teach a model that sacma learn made: more clips, classes, corrections.",
        "a learned model: more clips, classes, corrections, undo",
        TEACH_COMMANDS,
    ),
    "models": Group(
        "Frozen models, which answer without training.",
        "frozen models, which answer without training: list, fetch",
        MODEL_COMMANDS,
    ),
}


_FIRST = """examples:
  sacma predict clip.mp4 --classes "dog barking, playing guitar, rain"
  sacma app
  sacma train --help
"""
_OF_CLIPS = ("predict", "app", "learn", "teach", "index", "search", "models", "extract", "export")


def _listing(group: str, title: str, lines: Mapping[str, str]) -> str:
    """Help that lists commands.

    Args:
        group: name of the group of commands, empty for all.
        title: for the head of the help.
        lines: name of a command -> its line.
    """
    sections: dict[str, Sequence[str]] = {"commands": list(lines)}
    if not group:
        others = [name for name in lines if name not in _OF_CLIPS]
        sections = {"your clips": _OF_CLIPS, "methods and benchmarks": others}
    told = [f"usage: sacma {f'{group} '.lstrip()}COMMAND ...", "", title]
    for heading, names in sections.items():
        told += ["", f"{heading}:"]
        for name in names:
            first, *more = textwrap.wrap(lines[name].rstrip("."), 61)
            told += [f"  {name:16} {first}", *(" " * 19 + line for line in more)]
    told += ["", f"sacma {f'{group} '.lstrip()}COMMAND --help shows the options of a command."]
    return "\n".join([*told, *(() if group else ("sacma --version shows the version.", "", _FIRST.rstrip()))])


def _spelling(argument: str) -> str:
    """Options are written with underscores or hyphens alike."""
    name, equals, value = argument.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument
    )


def _run(arguments: Sequence[str]) -> None:
    path, commands = "", COMMANDS
    title = "Audio-visual zero-shot learning."
    lines = {name: summary(command) for name, command in COMMANDS.items()}
    lines |= {name: group.line for name, group in GROUPS.items()}
    given = [_spelling(argument) for argument in arguments]
    before = list(itertools.takewhile(lambda argument: argument in ("--quiet", "--json"), given))
    given = given[len(before) :]
    if given == ["models"]:
        given.append("list")
    if given and given[0] in GROUPS:
        path = given.pop(0)
        title, commands = GROUPS[path].title, GROUPS[path].commands
        lines = {name: summary(command) for name, command in commands.items()}
    if not given or given[0] not in commands:
        _help_or_mistake(path, title, lines, given)
    from sacma.commands.parsers import arguments_of

    name = given.pop(0)
    typed = [*before, *given]
    parsed = arguments_of(commands[name], f"{path} {name}".strip(), typed)
    as_json = parsed.pop("json", False)
    speak(process=_process(), quiet=parsed.pop("quiet", False), as_json=as_json)
    check_addresses()
    try:
        result = commands[name](**parsed)
    except SacmaError as error:
        raise SacmaError(_as_typed(str(error), typed)) from error
    if as_json and not _process():
        print(json.dumps(result, indent=1, default=str))


def _help_or_mistake(path: str, title: str, lines: Mapping[str, str], given: Sequence[str]) -> NoReturn:
    """Help or version, which end here, or a mistake in the name of a command.

    Raises:
        SacmaError: there is no such command, or none is named.
    """
    first = given[0] if given else ""
    if first and not first.startswith("-"):
        hint = meant(first, lines) or f"; there are: {', '.join(lines)}"
        raise SacmaError(f"there is no command {printable(f'{path} {first}'.strip())}{hint}")
    if first in ("-h", "--help", "--help_all"):
        print(_listing(path, title, lines))
        raise SystemExit(0)
    if first == "--version" and not path:
        print(f"sacma {__version__}")
        raise SystemExit(0)
    if first:
        raise SacmaError(f"there is no option {first.replace('_', '-')}; see sacma {path} --help")
    raise SacmaError(f"say which command; there are: {', '.join(lines)}")


def _as_typed(message: str, typed: Sequence[str]) -> str:
    """A message that begins with the name of an option which was typed, with the option as it is typed."""
    name = re.match(r"[a-z0-9_]+(?= is )|[a-z0-9]+_[a-z0-9_]+(?= )", message)
    if name and any(one.partition("=")[0] == f"--{name[0]}" for one in typed):
        return f"--{name[0].replace('_', '-')}{message[name.end() :]}"
    return message


def _process() -> int:
    """Number of this process; of several that train together, the first speaks."""
    return int(os.environ.get("RANK", "0"))


def _open_closed_streams() -> None:
    """Where the shell closed a standard stream (``>&-``), no file that we open may take its place."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # what the terminal cannot show is shown as numbers
        if isinstance(stream, TextIOWrapper) and not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for a user's mistake, 130 when interrupted."""
    collect_seldom()
    process = _process()
    speak(process=process, quiet=False, as_json=False)
    _open_closed_streams()
    name = f"sacma, process {process}" if process else "sacma"
    tell_of_shrunk_files(name)
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except (ArgumentError, SacmaError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:  # a folder that cannot be read, a name that is too long, a full disk
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except (MemoryError, ImportError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print(f"{name}: there is not enough memory; give it more, or less to do", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        advice = "train --resume RUN goes on, other commands go on when repeated"
        print(f"{name}: interrupted; {advice}", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
