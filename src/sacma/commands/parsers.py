"""The parser of a command, made by jsonargparse of the function's parameters and docstring."""

from __future__ import annotations

from argparse import ArgumentError
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from sacma.commands import clips, data, models, runs, studies, summary
from sacma.errors import SacmaError, one_line
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, inner_sections
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
)
SEVERAL_CLIPS = (clips.extract, clips.predict)
OF_RUNS = (runs.train, runs.tune)


def arguments_of(command: Callable[..., None], name: str, given: Sequence[str]) -> dict[str, Any]:
    """The arguments of a command, parsed; asked for help, it prints that and exits.

    Args:
        command: the function.
        name: of the command, as its usage shows it.
        given: what is typed after that.

    Raises:
        SacmaError: see ``sacma.runs.config.load_options`` and ``method_class``.
        ArgumentError: an argument is unknown, missing or of another type.
    """
    if command not in OF_RUNS:
        parsed: dict[str, Any] = _function_parser(command, name).parse_args(given, defaults=False).as_dict()
        return parsed
    parser = _run_parser(command, name, _method_of(given))
    return _run_arguments(command, parser, parser.parse_args(given, defaults=False).as_dict())


def _empty(command: Callable[..., None], name: str) -> ArgumentParser:
    return ArgumentParser(
        prog=f"sacma [options] {name}",
        exit_on_error=False,
        allow_abbrev=False,
        description=summary(command),
    )


def _run_parser(command: Callable[..., None], name: str, method: str) -> ArgumentParser:
    """The parser of a command that takes the options of a run, those of the method among them."""
    parser = _empty(command, name)
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
    return str(load_options(known.config).get("method", "sacma"))


def _run_arguments(
    command: Callable[..., None], parser: ArgumentParser, given: dict[str, Any]
) -> dict[str, Any]:
    """Those of a command from the parsed ones; those of --config are checked like the command line's."""
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


def _function_parser(function: Callable[..., None], name: str) -> ArgumentParser:
    parser = _empty(function, name)
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
