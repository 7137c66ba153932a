"""The parser of a command, made by jsonargparse of the function's parameters and docstring.

Options are also read from a YAML file (``--config``) and from the environment (``SACMA_TRAIN_EPOCHS`` for
``sacma train --epochs``); what is typed wins over the environment, and that over the file.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Action, ArgumentError
from argparse import ArgumentParser as PlainParser
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from sacma.commands import Command, clips, data, examples, library, models, runs, studies, summary, teaching
from sacma.commands.manual import manual
from sacma.commands.mistakes import in_plain_words
from sacma.errors import SacmaError, meant
from sacma.models.lookup import method_from_file, recall_method
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, inner_sections
from sacma.plugins import names_file
from sacma.runs.config import load_options, method_config

WIDTHS = {"audio_width", "video_width", "text_width"}  # the data give them
POSITIONAL = (
    runs.evaluate,
    studies.reproduce,
    studies.draws,
    runs.import_weights,
    data.split,
    clips.export,
    models.get,
    teaching.add_clips,
    teaching.add_class,
    teaching.correct,
    teaching.undo,
    teaching.log,
)
SEVERAL_CLIPS = (clips.extract, clips.predict, library.index)
FLAGS = {
    clips.extract: {"fast": "decode key frames alone; features of pictures get rougher"},
    clips.predict: {
        "skip_unknown": "leave out names that the run's text encoder does not know",
        "near_unknown": "place such names between those that mean nearly the same",
    },
    runs.evaluate: {"retrieval": "add figures of retrieval, names to clips and back"},
    library.index: {
        "retry": "read clips again that failed before",
        "watch": "keep it current until interrupted",
    },
    library.search: {"sound": "go by sound alone", "pictures": "go by pictures alone", "csv": "print CSV"},
}
"""Command -> options without a value, each with its help."""
OF_RUNS = (runs.train, runs.tune)


def arguments_of(command: Command, name: str, given: Sequence[str]) -> dict[str, Any]:
    """The arguments of a command, parsed; asked for help, it prints that and exits.

    Args:
        command: the function.
        name: of the command, as it is typed.
        given: what is typed after that.

    Returns:
        The function's arguments, and whether ``quiet`` and ``json`` were asked for.

    Raises:
        SacmaError: an argument is unknown, missing or of another type; see also
            ``sacma.runs.config.load_options`` and ``method_class``.
    """
    if command in OF_RUNS:
        given = _with_method_opened(given)
    parser = parser_of(command, name, given)
    if asked := {"-h", "--help", "--help_all"}.intersection(given):
        everything = "--help_all" in asked
        sys.stdout.write(
            manual(parser, name, title=summary(command), examples=examples(command), everything=everything)
        )
        raise SystemExit(0)
    given = [*_from_environment(parser, name, os.environ), *given]
    try:
        if command in OF_RUNS:
            return _run_arguments(command, parser, name, given)
        given = [*_from_file(parser, given), *given]
        parsed = _parsed(parser, given)
    except ArgumentError as error:
        raise SacmaError(in_plain_words(error, parser, name)) from error
    parsed.pop("config", None)
    return parsed


def parser_of(command: Command, name: str, given: Sequence[str] = ()) -> ArgumentParser:
    """The parser of a command.

    Args:
        command: the function.
        name: of the command, as it is typed.
        given: what is typed after that; the method named there has options of its own.

    Raises:
        SacmaError: see ``sacma.runs.config.load_options`` and ``method_class``.
    """
    if command in OF_RUNS:
        return _run_parser(command, name, _method_of(given))
    return _function_parser(command, name)


def _parsed(parser: ArgumentParser, given: Sequence[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = parser.parse_args(given, defaults=False).as_dict()
    return parsed


def _from_environment(parser: ArgumentParser, name: str, environment: Mapping[str, str]) -> list[str]:
    """Arguments that variables such as ``SACMA_DATA_CHECK_ROOT`` give."""
    prefix = "_".join(["SACMA", *name.upper().replace("-", "_").split()])
    found = []
    for action in parser._actions:
        value = environment.get(f"{prefix}_{action.dest.upper()}")
        if value and action.option_strings and action.dest not in ("help", "help_all"):
            found += _as_argument(action, value)
    return found


def _from_file(parser: ArgumentParser, given: Sequence[str]) -> list[str]:
    """Arguments of the file that ``--config`` names.

    Raises:
        SacmaError: see ``load_options``; or an option is unknown.
    """
    peek = PlainParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    peek.add_argument("--config", type=Path)
    known, _ = peek.parse_known_args(given)
    if known.config is None:
        return []
    options = {action.dest: action for action in parser._actions if action.option_strings}
    written = load_options(known.config)
    for key in written:
        if key not in options or key == "config":
            raise SacmaError(f"{known.config}: there is no option {key}{meant(key, options)}")
    return [part for key, value in written.items() for part in _as_argument(options[key], value)]


def _as_argument(action: Action, value: Any) -> list[str]:
    option = action.option_strings[-1]
    if action.nargs == 0:
        return [option] if str(value).lower() in ("1", "true", "yes") else []
    repeated = isinstance(value, list) and type(action).__name__ == "_AppendAction"
    values = value if repeated else [value]
    return [f"{option}={one if isinstance(one, str) else json.dumps(one)}" for one in values]


def _empty(command: Command, name: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"sacma {name}",
        exit_on_error=False,
        allow_abbrev=False,
        add_help=False,
        description=summary(command),
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help")
    parser.add_argument("--help_all", action="store_true", help="show all options")
    parser.add_argument("--config", type=Path, help="YAML file of options")
    parser.add_argument("--quiet", action="store_true", help="no progress and no notes")
    if signature(command).return_annotation != "None":
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def _run_parser(command: Command, name: str, method: str) -> ArgumentParser:
    """The parser of a command that takes the options of a run, those of the method among them."""
    parser = _empty(command, name)
    parser.add_argument(
        "--method", type=str, help="sacma, another method, or path/to/file.py:Class (default: sacma)"
    )
    parser.add_argument("--variant", type=str, help="variant of the method (default: its first)")
    parser.add_argument(
        "--preset", type=str, help="published, medium or small (default: by the number of clips)"
    )
    parser.add_argument("--seed", type=int, help="of weights, batches and dropout (default: 0)")
    parser.add_function_arguments(command, skip={"options", "force"})
    if "force" in signature(command).parameters:
        _add_force(parser)
    parser.add_class_arguments(DataConfig)
    hyperparameters = method_config(method)
    inner = inner_sections(hyperparameters)
    parser.add_class_arguments(hyperparameters, skip=WIDTHS | inner.keys())
    for section in inner.values():
        parser.add_class_arguments(section)
    parser.add_class_arguments(TrainingConfig)
    parser.add_class_arguments(ProtocolConfig)
    return parser


def _method_of(arguments: Sequence[str]) -> str:
    """The method decides which options there are, so it is looked for first."""
    peek = PlainParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    peek.add_argument("--method")
    peek.add_argument("--config", type=Path)
    known, _ = peek.parse_known_args(arguments)
    if known.method or not known.config:
        return str(known.method or "sacma")
    method = str(load_options(known.config).get("method", "sacma"))
    recall_method(method, known.config.parent)
    return method


def _with_method_opened(arguments: Sequence[str]) -> list[str]:
    """The same arguments with the name of the method where --method PATH.py:CLASS is typed; the file is run.

    Raises:
        SacmaError: see ``sacma.models.lookup.method_from_file``.
    """
    opened = list(arguments)
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option != "--method":
            continue
        if equals and names_file(value):
            opened[place] = f"--method={method_from_file(value)}"
        elif not equals and place + 1 < len(arguments) and names_file(arguments[place + 1]):
            opened[place + 1] = method_from_file(arguments[place + 1])
    return opened


def _run_arguments(
    command: Command, parser: ArgumentParser, name: str, typed: Sequence[str]
) -> dict[str, Any]:
    """Those of a command from the parsed ones; those of --config are checked like the command line's.

    Raises:
        SacmaError: an option of the file is unknown or of another type, or of another method.
        ArgumentError: an argument is.
    """
    given = _parsed(parser, typed)
    own: dict[str, Any] = {
        key: given.pop(key) for key in (*signature(command).parameters, "quiet", "json") if key in given
    }
    config = given.pop("config", None)
    if config is None:
        return {"options": given, **own}
    try:
        written = parser.parse_object(load_options(config), defaults=False).as_dict()
    except ArgumentError as error:
        said = in_plain_words(error, parser, name, file=config)
        raise SacmaError(f"{config}: {said}") from error
    for key in ("method", "variant", "preset"):
        if key in given and key in written and given[key] != written[key]:
            raise SacmaError(
                f"{config} spells out the options of {key} {written[key]}; to change the {key}, start "
                "without --config or take those options out of the file"
            )
    return {"options": written | given, **own}


def _function_parser(function: Command, name: str) -> ArgumentParser:
    parser = _empty(function, name)
    skip = {"follow_links", "force", "keep_going", "prompt"}
    if function in SEVERAL_CLIPS:
        parser.add_argument("clips", nargs="+", type=str, help="files, folders, patterns or CSV files")
        skip.add("clips")
    if function is teaching.learn:
        parser.add_argument("clips", nargs="*", type=str, help="files, folders, patterns or CSV files")
        skip.add("clips")
    if function is teaching.add_clips:
        skip.add("clips")  # they come last
    if function is data.youtube8m:
        parser.add_argument("shards", type=Path, help="folder of *.tfrecord files, or one such file")
        skip.add("shards")
    if function is runs.report:
        parser.add_argument(
            "run", type=Path, nargs="+", help="run folders, or folders of seeds or of methods"
        )
        skip.add("run")
    if function is library.search:
        parser.add_argument("library", type=Path, help="folder that sacma index made")
        parser.add_argument("text", type=str, nargs="?", help='what is looked for, such as "dog barking"')
        skip |= {"library", "text"}
    flags = FLAGS.get(function, {})
    skip |= flags.keys()
    parser.add_function_arguments(
        function, as_positional=function in POSITIONAL or name == "completion", skip=skip
    )
    if function is teaching.add_clips:
        parser.add_argument("clips", nargs="+", type=str, help="files, folders or patterns")
    if "force" in signature(function).parameters:
        _add_force(parser)
    if "follow_links" in signature(function).parameters:
        parser.add_argument("--follow_links", action="store_true", help="accept symbolic links as clips")
    if "keep_going" in signature(function).parameters:
        parser.add_argument("--keep_going", action="store_true", help="leave out and name what is unusable")
    for flag, told in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=told)
    if "prompt" in signature(function).parameters:
        parser.add_argument("--prompt", action="append", help="text with {} for the name; may be repeated")
    return parser


def _add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
