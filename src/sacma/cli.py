"""The command line: parsers made of the functions in ``sacma.commands``, exit statuses of what they raise."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from sacma.commands import clips, console, data, models, runs, studies, text
from sacma.errors import SacmaError, one_line
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, inner_sections
from sacma.runs.config import load_options, method_class
from sacma.version import __version__

USER_ERROR, INTERRUPTED = 2, 130
WIDTHS = {"audio_width", "video_width", "text_width"}  # the data give them

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
GROUPS = {"data": DATA_COMMANDS, "text": TEXT_COMMANDS, "models": MODEL_COMMANDS}

POSITIONAL = (
    runs.evaluate,
    studies.reproduce,
    studies.draws,
    runs.import_weights,
    data.split,
    clips.export,
    models.get,
)
SEVERAL_CLIPS = (clips.extract, clips.predict)


def _run_parser(command: Callable[..., None], method: str) -> ArgumentParser:
    """The parser of a command that takes the options of a run, those of the method among them."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, description=_summary(command))
    parser.add_argument("--config", type=Path, help="YAML file of options, such as a run's config.yaml")
    parser.add_argument("--method", type=str, help="sacma or another method (default: sacma)")
    parser.add_argument("--variant", type=str, help="variant of the method (default: its first)")
    parser.add_argument(
        "--preset", type=str, help="published, medium or small (default: by the number of clips)"
    )
    parser.add_argument("--seed", type=int, help="of weights, batches and dropout (default: 0)")
    parser.add_function_arguments(command, skip={"options", "force"})
    if "force" in signature(command).parameters:
        _add_force(parser)
    parser.add_class_arguments(DataConfig)
    hyperparameters = method_class(method).Config
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
    return str(load_options(known.config).get("method", "sacma"))


def _run_arguments(
    command: Callable[..., None], parser: ArgumentParser, given: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a command from the parsed ones; those of --config are checked like the command line's."""
    own: dict[str, Any] = {name: given.pop(name) for name in signature(command).parameters if name in given}
    config = given.pop("config", None)
    if config is None:
        return {"options": given, **own}
    try:
        written = parser.parse_object(load_options(config), defaults=False).as_dict()
    except ArgumentError as error:
        raise SacmaError(f"{config}: {one_line(error)}") from error
    for name in ("method", "variant", "preset"):
        if name in given and name in written and given[name] != written[name]:
            raise SacmaError(
                f"{config} spells out the options of {name} {written[name]}; to change the {name}, start "
                "without --config or take those options out of the file"
            )
    return {"options": written | given, **own}


def _parser(run_parsers: Mapping[Callable[..., None], ArgumentParser]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="sacma",
        exit_on_error=False,
        allow_abbrev=False,
        description="Audio-visual zero-shot learning.",
        version=__version__,
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND", required=True)
    for name, function in COMMANDS.items():
        sub = run_parsers[function] if function in run_parsers else _function_parser(function)
        commands.add_subcommand(name, sub, help=_summary(function))
    _add_group(
        commands,
        "data",
        description="Benchmarks: look, check, convert, fetch, render, simulate, split, make.",
        help="benchmarks: look, check, convert, fetch, render, simulate, split, make",
    )
    _add_group(commands, "text", description="Class vectors.", help="class vectors from a text encoder")
    _add_group(
        commands,
        "models",
        description="Frozen models, which answer without training.",
        help="frozen models, which answer without training: list, fetch",
    )
    return parser


def _add_group(commands: Any, group: str, *, description: str, help: str) -> None:
    """Add a command that has commands of its own."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, description=description)
    commands.add_subcommand(group, parser, help=help)
    own = parser.add_subcommands(dest=f"{group}_command", metavar="COMMAND", required=True)
    for name, function in GROUPS[group].items():
        own.add_subcommand(name, _function_parser(function), help=_summary(function))


def _function_parser(function: Callable[..., None]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, description=_summary(function))
    skip = {"follow_links", "force", "keep_going", "prompt"}
    if function in SEVERAL_CLIPS:
        parser.add_argument("clips", nargs="+", type=str, help="files, folders, patterns or CSV files")
        skip.add("clips")
    if function is data.youtube8m:
        parser.add_argument("shards", type=Path, help="folder of *.tfrecord files, or one such file")
        skip.add("shards")
    if function is runs.report:
        parser.add_argument(
            "run", type=Path, nargs="+", help="run folders, or folders of seeds or of methods"
        )
        skip.add("run")
    parser.add_function_arguments(function, as_positional=function in POSITIONAL, skip=skip)
    if "force" in signature(function).parameters:
        _add_force(parser)
    if "follow_links" in signature(function).parameters:
        parser.add_argument("--follow_links", action="store_true", help="accept symbolic links as clips")
    if "keep_going" in signature(function).parameters:
        parser.add_argument("--keep_going", action="store_true", help="leave out and name what is unusable")
    if "prompt" in signature(function).parameters:
        parser.add_argument("--prompt", action="append", help="text with {} for the name; may be repeated")
    return parser


def _add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def _summary(function: Callable[..., None]) -> str:
    return (function.__doc__ or "").splitlines()[0]


def _spelling(argument: str) -> str:
    """Options are written with underscores or hyphens alike."""
    name, equals, value = argument.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument
    )


def _run(arguments: Sequence[str]) -> None:
    arguments = [_spelling(argument) for argument in arguments]
    if list(arguments) == ["models"]:
        arguments = ["models", "list"]
    method = _method_of(arguments)
    run_parsers = {function: _run_parser(function, method) for function in (runs.train, runs.tune)}
    given = _parser(run_parsers).parse_args(arguments, defaults=False)
    command = given.command
    chosen = given[command].as_dict()
    if command in GROUPS:
        name = chosen[f"{command}_command"]
        GROUPS[command][name](**(chosen.get(name) or {}))
    elif (function := COMMANDS[command]) in run_parsers:
        function(**_run_arguments(function, run_parsers[function], chosen))
    else:
        COMMANDS[command](**chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for a user's mistake, 130 when interrupted."""
    process = int(os.environ.get("RANK", "0"))  # of several that train together, the first speaks
    console.quiet = process > 0
    name = f"sacma, process {process}" if process else "sacma"
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except (ArgumentError, SacmaError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:  # a folder that cannot be read, a name that is too long, a full disk
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        advice = "train --resume RUN goes on, other commands go on when repeated"
        print(f"{name}: interrupted; {advice}", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
