"""The command line: which command is asked for, help about all of them, exit statuses of what they raise.

Help and version come at once: the parser of a command is made, and what that takes is imported, when the
command is asked for.
"""

from __future__ import annotations

import os
import sys
from argparse import Action, ArgumentError, ArgumentParser, HelpFormatter
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper
from typing import NamedTuple

from sacma.commands import clips, console, data, models, runs, studies, summary, text
from sacma.errors import SacmaError, one_line
from sacma.version import __version__

USER_ERROR, INTERRUPTED = 2, 130

COMMANDS: dict[str, Callable[..., None]] = {
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
    "export": clips.export,
    "app": clips.app,
}
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "info": data.info,
    "check": data.check,
    "import": data.import_features,
    "download": data.download,
    "render": data.render,
    "simulate": data.simulate,
    "split": data.split,
    "youtube8m": data.youtube8m,
}
TEXT_COMMANDS: dict[str, Callable[..., None]] = {"build": text.build}
MODEL_COMMANDS: dict[str, Callable[..., None]] = {"list": models.show, "get": models.get}


class Group(NamedTuple):
    """Commands under a name of their own.

    Attributes:
        title: for the head of the group's help.
        line: for the list of all commands.
        commands: name -> function.
    """

    title: str
    line: str
    commands: dict[str, Callable[..., None]]


GROUPS = {
    "data": Group(
        "Benchmarks: look, check, convert, fetch, render, simulate, split, make.",
        "benchmarks: look, check, convert, fetch, render, simulate, split, make",
        DATA_COMMANDS,
    ),
    "text": Group("Class vectors.", "class vectors from a text encoder", TEXT_COMMANDS),
    "models": Group(
        "Frozen models, which answer without training.",
        "frozen models, which answer without training: list, fetch",
        MODEL_COMMANDS,
    ),
}


class _Listing(HelpFormatter):
    """Help with a list of commands, in the look of the help that jsonargparse makes of a command."""

    def _format_action_invocation(self, action: Action) -> str:
        return (
            "Available subcommands:"
            if action.dest == "command"
            else super()._format_action_invocation(action)
        )


def _listing(group: str, title: str, lines: Mapping[str, str]) -> ArgumentParser:
    """The parser of help, version and mistakes where no command is named.

    Args:
        group: name of the group of commands, empty for all.
        title: for the head of the help.
        lines: name of a command -> its line.
    """
    parser = ArgumentParser(
        prog="sacma",
        usage=f"sacma [options] {group} COMMAND ..." if group else "sacma COMMAND ...",
        description=title,
        formatter_class=_Listing,
        exit_on_error=False,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="Show this help message and exit.")
    if not group:
        version = f"sacma {__version__}"
        parser.add_argument("--version", action="version", version=version, help="Print version and exit.")
    listed = parser.add_subparsers(
        title="subcommands",
        description="For more details of each subcommand, add it as an argument followed by --help.",
        dest="command",
        metavar="COMMAND",
        help="(required)",
    )
    for name, line in lines.items():
        listed.add_parser(name, help=line, add_help=False)
    return parser


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
    if given == ["models"]:
        given.append("list")
    if given and given[0] in GROUPS:
        path = given.pop(0)
        title, commands = GROUPS[path].title, GROUPS[path].commands
        lines = {name: summary(command) for name, command in commands.items()}
    if not given or given[0] not in commands:
        _, unknown = _listing(path, title, lines).parse_known_args(given)  # help and version end here
        if unknown:
            raise SacmaError(f"unrecognized arguments: {' '.join(unknown)}")
        raise SacmaError(f"say which command; there are: {', '.join(lines)}")
    from sacma.commands.parsers import arguments_of

    name = given.pop(0)
    commands[name](**arguments_of(commands[name], f"{path} [options] {name}" if path else name, given))


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
    process = int(os.environ.get("RANK", "0"))  # of several that train together, the first speaks
    console.quiet = process > 0
    _open_closed_streams()
    name = f"sacma, process {process}" if process else "sacma"
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except (ArgumentError, SacmaError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:  # a folder that cannot be read, a name that is too long, a full disk
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except MemoryError:
        print(f"{name}: there is not enough memory; give it more, or less to do", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        advice = "train --resume RUN goes on, other commands go on when repeated"
        print(f"{name}: interrupted; {advice}", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
