"""The command line: one function a command, whose parameters are the command's options."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from rich.console import Console

from sacma.config import (
    DataConfig,
    ProtocolConfig,
    TrainingConfig,
    load_options,
    method_class,
    resolve,
)
from sacma.errors import SacmaError

USER_ERROR, INTERRUPTED = 2, 130
WIDTHS = {"audio_width", "video_width", "text_width"}  # the data give them
# Names of files and classes are shown as they are, whatever they look like.
# A pipe is taken to have 80 columns, too few for the tables.
console = Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 120)


def demo(out: Path = Path("runs/demo"), seed: int = 0, force: bool = False) -> None:
    """Train SACMA on the embedded benchmark AV-Shapes, evaluate it and show the result.

    Args:
        out: run folder.
        seed: of weights, batches and dropout.
        force: overwrite a run that is there.
    """
    train({"seed": seed}, out=out, force=force)
    try:
        report([out])
    except SacmaError as error:  # the run is finished; a page is not worth failing for
        console.print(f"no report: {error}", soft_wrap=True)


def train(
    options: Mapping[str, Any],
    out: Path | None = None,
    resume: Path | None = None,
    seeds: int | None = None,
    force: bool = False,
) -> None:
    """Train a method through both stages and evaluate it on test.

    Args:
        options: values of the run's configuration that differ from preset and variant.
        out: run folder; by default a name under runs/ that says what it is.
        resume: continue this run instead; takes no other options.
        seeds: run so many seeds, from --seed on, for mean and standard deviation.
        force: overwrite a run that is there.
    """
    from sacma import protocol, screen
    from sacma.runs import RunFolder

    if resume is not None:
        if options or out or seeds or force:
            raise SacmaError("--resume takes no other options; the run keeps those that it was started with")
        folder = RunFolder.open(resume)
        config = folder.config()
        benchmark = protocol.open_benchmark(config.data, console)
    else:
        benchmark = protocol.open_benchmark(resolve(options).data, console)
        config = resolve(options, training_clips=protocol.count_training_clips(benchmark))
        out = out or default_out(config, seeds)
        if seeds is not None:
            if seeds < 1:
                raise SacmaError(f"--seeds is {seeds}; it must be at least 1")
            summary = protocol.run_seeds(config, benchmark, out, console, seeds=seeds, force=force)
            screen.show_summary(console, summary, out / "summary.json")
            return
        folder = RunFolder.create(out, config, force=force)
    result = protocol.run(config, benchmark, folder, console)
    screen.show_result(console, result, folder.path)


def evaluate(run: Path, output: str | None = None, root: str | None = None) -> None:
    """Repeat a run's test figures from its saved weights.

    Args:
        run: folder of a finished run.
        output: embedding that scores, phi_m, phi_a or phi_v for SACMA; the bias is chosen again for it.
        root: where the benchmark is now, if it has moved.
    """
    import dataclasses

    from sacma import protocol, screen
    from sacma.runs import RunFolder

    folder = RunFolder.open(run, finished=True)
    data = folder.config().data
    benchmark = protocol.open_benchmark(dataclasses.replace(data, root=root or data.root), console)
    result, _ = protocol.evaluate_run(folder, benchmark, output=output)
    stored = folder.result()
    screen.show_evaluation(console, stored, result, output)


def reproduce(
    study: str,
    benchmark: str = "ucf",
    features: str = "selavi",
    root: str | None = None,
    row: list[str] | str | None = None,
    like: Literal["published", "ours"] = "published",
    seeds: int = 5,
    jobs: int = 1,
    split: Literal["main", "cls"] = "main",
    preset: str | None = None,
    audio_step: float | None = None,
    video_step: float | None = None,
    out: Path | None = None,
    run: Path | None = None,
    classes: str | None = None,
) -> None:
    """Run the rows of a table of the paper over seeds; finished rows are kept, a killed study continues.

    Args:
        study: folder under experiments/, such as table2; or figure3.
        benchmark: ucf, vggsound, activitynet, avshapes or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        root: folder that holds class-split/ and features/.
        row: row to run, or a list such as [ale,sje]; all by default.
        like: published takes the published variants, ours the corrected ones.
        seeds: of each row.
        jobs: processes at a time.
        split: main or cls.
        preset: published or small; by default small below 1,000 training clips.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        out: folder of the study; by default runs/STUDY-BENCHMARK-FEATURES-SPLIT-LIKE.
        run: for figure3, a finished run to draw, by default into its folder; without it SACMA is trained.
        classes: for figure3, seen classes as CSV, such as 'Archery,"Run, fast"'; by default six.
    """
    from sacma import protocol, studies
    from sacma.files import write_text
    from sacma.report import compare

    given = {
        "benchmark": benchmark,
        "features": features,
        "root": root,
        "split": split,
        "preset": preset,
        "audio_step": audio_step,
        "video_step": video_step,
    }
    given = {name: value for name, value in given.items() if value is not None}
    names = [row] if isinstance(row, str) else row or []
    out = out or run or Path("runs") / f"{study}-{benchmark}-{features}-{split}-{like}"
    if study == "figure3":
        figure3(given, run=run, classes=classes, like=like, out=out)
        return
    rows = studies.chosen_rows(studies.read_study(study), names)
    results = studies.run_study(rows, given, like=like, seeds=seeds, jobs=jobs, out=out, console=console)
    opened = protocol.open_benchmark(resolve(given).data, console)
    comparable = like == "published" and features == "selavi" and split == "main"
    table = compare(
        results, benchmark=benchmark, chance=studies.chance(opened.split("test")), published=comparable
    )
    write_text(out / "table.md", table.markdown())
    write_text(out / "table.csv", table.csv())
    console.print(table)
    console.print(f"tables: {out / 'table.md'} and table.csv", soft_wrap=True)
    if any(result.failure for result in results):
        raise SacmaError("some rows failed; the notes under the table say why")


def figure3(given: Mapping[str, Any], *, run: Path | None, classes: str | None, like: str, out: Path) -> None:
    """Draw Figure 3 of a run, or of SACMA trained with ``given``, and say how clearly classes are apart."""
    from sacma.figure3 import reproduce_figure

    embedding, paths = reproduce_figure(given, run=run, classes=classes, like=like, out=out, console=console)
    for panel in embedding.panels:
        console.print(
            f"{panel.title}: silhouette {panel.silhouette:.3f}, of the map {panel.silhouette_of_points:.3f}"
        )
    console.print(f"classes: {', '.join(embedding.classes)}", soft_wrap=True)
    console.print(f"figure: {', '.join(map(str, paths))}", soft_wrap=True)


def report(run: list[Path], out: Path | None = None, root: str | None = None) -> None:
    """Write one self-contained HTML page about runs: figures, comparison, curves, classes, t-SNE.

    Args:
        run: run folders, or folders of seeds or of methods.
        out: file; by default report.html in the folder, or in the current one for several.
        root: where the benchmark is now, if it has moved.
    """
    from sacma.report_page import write_report

    path, notes = write_report(run, out, root=root)
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(f"report: {path}", soft_wrap=True)


def data_info() -> None:
    """Table 1 of the paper: classes and clips of the three benchmarks."""
    from sacma.published import info_table

    console.print(info_table())


def data_check(
    root: Path,
    benchmark: str,
    features: str,
    split: str = "main",
    audio_step: float | None = None,
    video_step: float | None = None,
) -> None:
    """Compare a folder with the published class and clip counts, and its content with its checksums.

    Args:
        root: folder that holds class-split/ and features/.
        benchmark: ucf, vggsound, activitynet or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        split: main or cls.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
    """
    from sacma.checks import check

    report = check(root, benchmark, features, split=split, audio_step=audio_step, video_step=video_step)
    for line in report.lines():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if not report.ok:
        raise SacmaError(f"{root} is not what {benchmark} should hold; the lines above say where")


def data_import(
    root: Path,
    out: Path,
    benchmark: str,
    features: str,
    audio_step: float | None = None,
    video_step: float | None = None,
) -> None:
    """Convert official features into our format, once; an interrupted import goes on where it stopped.

    Args:
        root: folder that holds class-split/ and features/, as downloaded.
        out: folder to make, in the same layout; it can then be used as --root.
        benchmark: ucf, vggsound, activitynet or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
    """
    from sacma.benchmarks import import_benchmark
    from sacma.screen import counting

    with counting(console, "importing") as on_progress:
        made = import_benchmark(
            root,
            out,
            benchmark,
            features,
            audio_step=audio_step,
            video_step=video_step,
            on_progress=on_progress,
        )
    console.print(f"imported: {made}", soft_wrap=True)


def data_download(benchmark: str, features: str, out: Path, addresses: Path | None = None) -> None:
    """Fetch and unpack a published archive of features; an interrupted download goes on where it stopped.

    Args:
        benchmark: ucf, vggsound or activitynet.
        features: selavi or c3d-vggish for sequences, averaged for time averages.
        out: folder for the archive and what is in it.
        addresses: YAML file with other addresses, as published links die.
    """
    from sacma.download import download
    from sacma.screen import downloading

    with downloading(console) as on_progress:
        done = download(benchmark, features, out, addresses=addresses, on_progress=on_progress)
    console.print(f"unpacked: {done.root}", soft_wrap=True)
    if not done.verified:
        console.print("no checksum is known for this archive, so none was compared")
    if done.missing:
        console.print(f"not in the archive: {', '.join(done.missing)}", soft_wrap=True)


def data_render(out: Path, clips: int = 12, size: int = 256) -> None:
    """Write some clips of AV-Shapes as mp4 files, to look at and listen to.

    Args:
        out: folder for the files.
        clips: how many.
        size: width and height in pixels.
    """
    from sacma.avshapes import write_examples

    for path in write_examples(out, clips, size=size):
        console.print(str(path), soft_wrap=True)


def text_build(
    encoder: str,
    name: str,
    root: Path | None = None,
    benchmark: str = "avshapes",
    features: str = "descriptors",
    model: str | None = None,
    prompt: list[str] | None = None,
    words: Literal["mean", "whole"] | None = None,
    unknown_words: Literal["error", "skip"] | None = None,
    out: Path | None = None,
    force: bool = False,
) -> None:
    """Encode the class names of a benchmark; sacma train --text NAME then uses these class vectors.

    Args:
        encoder: clip, sentence, glove, word2vec, fasttext, table or avshapes.
        name: of the table, the NAME in text/word_embeddings_NAME_normed.npz.
        root: folder that holds class-split/ and features/; AV-Shapes has its own.
        benchmark: ucf, vggsound, activitynet, avshapes or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        model: of the encoder: a file or folder, for clip and sentence also a hub name.
        prompt: text around a name, such as "a photo of a {}."; repeat it to average over several.
        words: mean of the vectors of a name's words, or one vector of the whole name (default of fasttext).
        unknown_words: skip leaves words without a vector out of the mean.
        out: write this .npz file instead, which --text FILE then reads.
        force: replace a table that is there.
    """
    from sacma import avshapes, encoders
    from sacma.screen import counting

    if root is None and benchmark == avshapes.NAME:
        with counting(console, "rendering AV-Shapes") as on_progress:
            root = avshapes.prepare(on_progress)
    if root is None:
        raise SacmaError(f"--root is missing: the folder of {benchmark} with class-split/ and features/")
    spec = {"encoder": encoder, "model": model, "prompts": prompt, "words": words}
    spec |= {"unknown_words": unknown_words}
    given = {key: value for key, value in spec.items() if value is not None}
    table, path = encoders.build_table(root, benchmark, features, name=name, spec=given, out=out, force=force)
    for key, value in (table.provenance or {}).items():
        console.print(f"{key}: {value}", soft_wrap=True, highlight=False)
    console.print(f"{len(table.names)} names, {table.vectors.shape[1]} numbers each: {path}", soft_wrap=True)


def import_weights(
    file: Path,
    method: str = "sacma",
    benchmark: str = "ucf",
    features: str = "selavi",
    root: str | None = None,
    stage1: Path | None = None,
    bias: float | None = None,
    heads: int | None = None,
    split: Literal["main", "cls"] = "main",
    audio_step: float | None = None,
    video_step: float | None = None,
    out: Path | None = None,
    force: bool = False,
) -> None:
    """Make a run of weights released with TCAF, SACMA or AVCA's benchmark, and evaluate it on test.

    Args:
        file: checkpoint of stage 2, written by torch.save; nothing in it is run.
        method: sacma, tcaf, avca, avmst, avgzslnet, cjme, ale, devise, sje or apn.
        benchmark: ucf, vggsound, activitynet or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        root: folder that holds class-split/ and features/.
        stage1: checkpoint of stage 1, whose best bias on validation is taken.
        bias: the bias, where there is no checkpoint of stage 1; one of the two is needed.
        heads: attention heads of a layer, which the weights do not show; by default those of the published
            configuration whose heads are as wide in all (8 of 64, 3 or 6 of 128; for AVCA 3 of 100).
        split: main or cls.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        out: run folder; by default runs/BENCHMARK-FEATURES-METHOD-imported.
        force: overwrite a run that is there.
    """
    from sacma import protocol, released, screen

    released.released_class(method)
    released.check_bias(stage1, bias)
    data = DataConfig(
        benchmark=benchmark,
        features=features,
        root=root,
        split=split,
        text_alignment="published",
        audio_step=audio_step,
        video_step=video_step,
    )
    folder = released.import_weights(
        file,
        method,
        data=data,
        benchmark=protocol.open_benchmark(data, console),
        out=out or Path("runs") / f"{benchmark}-{features}-{method}-imported",
        stage1=stage1,
        bias=bias,
        heads=heads,
        force=force,
    )
    screen.show_result(console, folder.result(), folder.path)


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "reproduce": reproduce,
    "report": report,
    "import-weights": import_weights,
}
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "info": data_info,
    "check": data_check,
    "import": data_import,
    "download": data_download,
    "render": data_render,
}
TEXT_COMMANDS: dict[str, Callable[..., None]] = {"build": text_build}


POSITIONAL = (evaluate, reproduce, import_weights)


def default_out(config: Any, seeds: int | None) -> Path:
    """runs/BENCHMARK-FEATURES-METHOD-VARIANT-SEED."""
    data = config.data
    which = f"seed-{config.seed}" if seeds is None else f"{seeds}-seeds"
    return Path("runs") / f"{data.benchmark}-{data.features}-{config.method}-{config.variant}-{which}"


def _train_parser(method: str) -> ArgumentParser:
    """Options of a run, those of the method among them."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, description=_summary(train))
    parser.add_argument("--config", type=Path, help="YAML file of options, such as a run's config.yaml")
    parser.add_argument("--method", type=str, help="sacma or another method (default: sacma)")
    parser.add_argument("--variant", type=str, help="variant of the method (default: its first)")
    parser.add_argument("--preset", type=str, help="published or small (default: small below 1,000 clips)")
    parser.add_argument("--seed", type=int, help="of weights, batches and dropout (default: 0)")
    parser.add_function_arguments(train, skip={"options", "force"})
    _add_force(parser)
    parser.add_class_arguments(DataConfig)
    parser.add_class_arguments(method_class(method).Config, skip=WIDTHS)
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


def _train_arguments(parser: ArgumentParser, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``train`` from the parsed ones; those of --config are checked like the command line's."""
    own: dict[str, Any] = {
        name: given.pop(name) for name in ("out", "resume", "seeds", "force") if name in given
    }
    config = given.pop("config", None)
    if config is None:
        return {"options": given, **own}
    try:
        written = parser.parse_object(load_options(config), defaults=False).as_dict()
    except ArgumentError as error:
        raise SacmaError(f"{config}: {_one_line(error)}") from error
    for name in ("method", "variant", "preset"):
        if name in given and name in written and given[name] != written[name]:
            raise SacmaError(
                f"{config} spells out the options of {name} {written[name]}; to change the {name}, start "
                "without --config or take those options out of the file"
            )
    return {"options": written | given, **own}


def _parser(train_parser: ArgumentParser) -> ArgumentParser:
    parser = ArgumentParser(
        prog="sacma",
        exit_on_error=False,
        allow_abbrev=False,
        description="Audio-visual zero-shot learning.",
        version=_version(),
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND", required=True)
    for name, function in COMMANDS.items():
        sub = train_parser if function is train else _function_parser(function)
        commands.add_subcommand(name, sub, help=_summary(function))
    data = ArgumentParser(
        exit_on_error=False,
        allow_abbrev=False,
        description="Benchmarks: look, check, convert, fetch, render.",
    )
    commands.add_subcommand("data", data, help="benchmarks: look, check, convert, fetch, render")
    data_commands = data.add_subcommands(dest="data_command", metavar="COMMAND", required=True)
    for name, function in DATA_COMMANDS.items():
        data_commands.add_subcommand(name, _function_parser(function), help=_summary(function))
    text = ArgumentParser(exit_on_error=False, allow_abbrev=False, description="Class vectors.")
    commands.add_subcommand("text", text, help="class vectors from a text encoder")
    text_commands = text.add_subcommands(dest="text_command", metavar="COMMAND", required=True)
    for name, function in TEXT_COMMANDS.items():
        text_commands.add_subcommand(name, _function_parser(function), help=_summary(function))
    return parser


def _function_parser(function: Callable[..., None]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, description=_summary(function))
    if function is report:
        parser.add_argument(
            "run", type=Path, nargs="+", help="run folders, or folders of seeds or of methods"
        )
    own = {"force", "prompt"} | ({"run"} if function is report else set())
    parser.add_function_arguments(function, as_positional=function in POSITIONAL, skip=own)
    if "force" in signature(function).parameters:
        _add_force(parser)
    if "prompt" in signature(function).parameters:
        parser.add_argument("--prompt", action="append", help="text with {} for the name; may be repeated")
    return parser


def _add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def _summary(function: Callable[..., None]) -> str:
    return (function.__doc__ or "").splitlines()[0]


def _version() -> str:
    from sacma import __version__

    return __version__


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _spelling(argument: str) -> str:
    """Options are written with underscores or hyphens alike."""
    name, equals, value = argument.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument
    )


def _run(arguments: Sequence[str]) -> None:
    arguments = [_spelling(argument) for argument in arguments]
    train_parser = _train_parser(_method_of(arguments))
    given = _parser(train_parser).parse_args(arguments, defaults=False)
    command = given.command
    chosen = given[command].as_dict()
    if command == "data":
        name = chosen["data_command"]
        DATA_COMMANDS[name](**(chosen.get(name) or {}))
    elif command == "text":
        name = chosen["text_command"]
        TEXT_COMMANDS[name](**(chosen.get(name) or {}))
    elif command == "train":
        train(**_train_arguments(train_parser, chosen))
    else:
        COMMANDS[command](**chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for a user's mistake, 130 when interrupted."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except (ArgumentError, SacmaError) as error:
        print(f"sacma: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:  # a folder that cannot be read, a name that is too long, a full disk
        print(f"sacma: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        advice = "train --resume RUN goes on, other commands go on when repeated"
        print(f"sacma: interrupted; {advice}", file=sys.stderr)
        return INTERRUPTED
    return 0
