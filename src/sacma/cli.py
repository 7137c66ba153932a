"""The command line: one function a command, whose parameters are the command's options."""

from __future__ import annotations

import os
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
    from sacma import distributed, protocol, screen
    from sacma.runs import RunFolder

    if resume is not None:
        if options or out or seeds or force:
            raise SacmaError("--resume takes no other options; the run keeps those that it was started with")
        folder = RunFolder.open(resume)
        config = folder.config()
        benchmark = protocol.open_benchmark(config.data, console)
        distributed.start(config.training)
    else:
        benchmark = protocol.open_benchmark(resolve(options).data, console)
        config = resolve(options, training_clips=protocol.count_training_clips(benchmark))
        out = out or default_out(config, seeds)
        distributed.start(config.training)
        if seeds is not None:
            if seeds < 1:
                raise SacmaError(f"--seeds is {seeds}; it must be at least 1")
            summary = protocol.run_seeds(config, benchmark, out, console, seeds=seeds, force=force)
            distributed.stop()
            screen.show_summary(console, summary, out / "summary.json")
            return
        folder = RunFolder.create(out, config, force=force)
    result = protocol.run(config, benchmark, folder, console)
    distributed.stop()
    screen.show_result(console, result, folder.path)


def tune(
    options: Mapping[str, Any],
    trials: int = 50,
    space: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    out: Path | None = None,
) -> None:
    """Search hyperparameters by stage 1's validation HM, never by test; repeat the command to go on.

    Args:
        options: values of the run's configuration that differ from preset and variant.
        trials: finished trials that the study is to have, those of other processes among them.
        space: YAML file of what to search, or YAML such as '{temperature: {low: 0.01, high: 0.2, log: true},
            depth: [2, 4]}'; by default learning rate, dropout, tau and lambda_cos, where the method has them.
        storage: URL of the study database; by default search.db in the folder. Processes that share it
            search together.
        name: of the study in it; by default BENCHMARK-FEATURES-SPLIT-METHOD-VARIANT.
        out: folder for the best options, best.yaml; by default runs/tune-NAME.
    """
    from sacma import protocol, tuning

    benchmark = protocol.open_benchmark(resolve(options).data, console)
    config = resolve(options)
    data = config.data
    name = name or f"{data.benchmark}-{data.features}-{data.split}-{config.method}-{config.variant}"
    out = out or Path("runs") / f"tune-{name}"
    best = tuning.tune(
        options,
        benchmark,
        space=tuning.read_space(space),
        trials=trials,
        storage=storage or f"sqlite:///{out / 'search.db'}",
        name=name,
        console=console,
    )
    best.save(out / "best.yaml")
    console.print(f"best options: {out / 'best.yaml'}", soft_wrap=True)
    console.print(f"train with them: sacma train --config {out / 'best.yaml'} --out RUN", soft_wrap=True)


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
    benchmark: list[str] | str | None = None,
    features: list[str] | str = "selavi",
    root: str | None = None,
    row: list[str] | str | None = None,
    like: Literal["published", "ours"] = "published",
    seeds: int = 5,
    jobs: int = 1,
    split: Literal["main", "cls"] = "main",
    preset: str | None = None,
    epochs: int | None = None,
    audio_step: float | None = None,
    video_step: float | None = None,
    out: Path | None = None,
    run: Path | None = None,
    classes: str | None = None,
    storage: str | None = None,
) -> None:
    """Run the rows of a table of the paper over seeds; finished runs are kept, a killed study continues.

    Args:
        study: table1, figure3, figure4 or a folder under experiments/, such as table2.
        benchmark: ucf (the default), vggsound, activitynet, avshapes or another NAME; a list such as
            [ucf,activitynet], or all for the three of the paper (the default of table1).
        features: selavi, c3d-vggish or the name of a folder under features/, or a list of them.
        root: folder that holds class-split/ and features/, or the parent of several benchmarks' folders.
        row: row to run, or a list such as [ale,sje]; all by default.
        like: published takes the published variants, ours the corrected ones.
        seeds: of each row.
        jobs: processes at a time; each runs one seed of one row.
        split: main or cls.
        preset: published or small; by default small below 1,000 training clips.
        epochs: of stage 1, at most; by default the preset's.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        out: folder of all studies, by default runs; runs and tables go to BENCHMARK-FEATURES-SPLIT-LIKE/ in
            it.
        run: for figure3, a finished run to draw, by default into its folder; without it SACMA is trained.
        classes: for figure3, seen classes as CSV, such as 'Archery,"Run, fast"'; by default six.
        storage: for figure4, URL of the study database; by default figure4.db beside the figure. Machines
            that share it share the work.
    """
    from sacma import studies
    from sacma.report import compare, table_1

    runs = out or Path("runs")
    given: dict[str, Any] = {"root": root, "split": split, "preset": preset, "epochs": epochs}
    given |= {"audio_step": audio_step, "video_step": video_step}
    if study == "table1":
        show_table(
            table_1(studies.benchmarks_of(_listed(benchmark or "all")), split), runs / f"table1-{split}"
        )
        return
    if study == "figure3":
        figure3(
            _one_setting(benchmark, features) | given,
            run=run,
            classes=classes,
            like=like,
            out=out or run or runs,
        )
        return
    if study == "figure4":
        one = {name: value for name, value in (_one_setting(benchmark, features) | given).items() if value}
        figure4(one, like=like, seeds=seeds, jobs=jobs, storage=storage, out=runs)
        return
    rows = studies.chosen_rows(studies.read_study(study), _listed(row))
    facts = studies.read_facts(study)
    settings = studies.settings_of(_listed(benchmark or "ucf"), _listed(features), given)
    results = studies.run_study(rows, settings, like=like, seeds=seeds, jobs=jobs, out=runs, console=console)
    show_table(compare(facts, results, like=like), runs / studies.setting_name(settings, like) / study)
    if any(row.failure for result in results for row in result.rows):
        raise SacmaError("some rows failed; the notes under the table say why")


def show_table(table: Any, path: Path) -> None:
    """Print a table, and write it as PATH.md, .csv and .tex."""
    from sacma.files import write_text

    write_text(path.with_name(f"{path.name}.md"), table.markdown())
    write_text(path.with_name(f"{path.name}.csv"), table.csv())
    write_text(path.with_name(f"{path.name}.tex"), table.latex(label=path.name))
    console.print(table)
    console.print(f"tables: {path}.md, .csv and .tex", soft_wrap=True)


def draws(
    study: str,
    benchmark: str = "avshapes",
    features: str = "descriptors",
    root: str | None = None,
    row: list[str] | str | None = None,
    draws: int = 20,
    first: int = 0,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    like: Literal["published", "ours"] = "ours",
    seeds: int = 1,
    jobs: int = 1,
    preset: str | None = None,
    epochs: int | None = None,
    audio_step: float | None = None,
    video_step: float | None = None,
    out: Path = Path("runs"),
) -> None:
    """Run rows of a study on random class splits of a folder, and compare the first row with the others.

    Args:
        study: folder under experiments/, such as table2.
        benchmark: ucf, vggsound, activitynet, avshapes or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        root: folder that holds class-split/ and features/.
        row: row to run, or a list such as [kite,eszsl], the one to be compared first; all by default.
        draws: how many splits.
        first: seed of the first split; the others count on from it.
        train: seen classes of stage 1; with val and test, or none of them for the folder's own sizes.
        val: unseen classes of stage 1.
        test: unseen classes of stage 2.
        like: published takes the published variants, ours the corrected ones.
        seeds: of each row on each split.
        jobs: processes at a time.
        preset: published or small; by default small below 1,000 training clips.
        epochs: of stage 1, at most; by default the preset's.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        out: splits, runs and tables go to BENCHMARK-FEATURES-draws-LIKE/ in it.
    """
    from sacma import draws as drawing
    from sacma import studies
    from sacma.files import write_text

    rows = studies.chosen_rows(studies.read_study(study), _listed(row))
    given: dict[str, Any] = {"root": root, "preset": preset, "epochs": epochs}
    given |= {"audio_step": audio_step, "video_step": video_step}
    (setting,) = studies.settings_of([benchmark], [features], given)
    folder = out / studies.setting_name([{**setting, "split": "draws"}], like)
    results = drawing.run_draws(
        rows,
        setting,
        sizes=_sizes(train, val, test),
        first=first,
        draws=draws,
        like=like,
        seeds=seeds,
        jobs=jobs,
        out=folder,
        console=console,
    )
    title = f"{benchmark}, {features} features, {draws} random class splits from seed {first}, {seeds} seeds"
    table = drawing.compare_draws(results, title)
    write_text(folder / f"{study}.md", table.markdown())
    write_text(folder / f"{study}.csv", table.csv())
    console.print(table)
    console.print(f"tables: {folder / study}.md and .csv", soft_wrap=True)


def _sizes(train: int | None, val: int | None, test: int | None) -> Any:
    from sacma.draws import Sizes

    if train is None and val is None and test is None:
        return None
    if train is None or val is None or test is None:
        raise SacmaError("--train, --val and --test go together; give all three, or none")
    return Sizes(train=train, val=val, test=test)


def _listed(given: list[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])


def _one_setting(benchmark: Any, features: Any) -> dict[str, Any]:
    """Benchmark and features of what is drawn for one of each."""
    given = {"benchmark": _listed(benchmark or "ucf"), "features": _listed(features)}
    for name, values in given.items():
        if len(values) != 1:
            raise SacmaError(f"a figure takes one value of --{name}, not {len(values)}")
    return {name: values[0] for name, values in given.items()}


def figure4(
    given: Mapping[str, Any], *, like: str, seeds: int, jobs: int, storage: str | None, out: Path
) -> None:
    """Run the grids of Figure 4 and draw it."""
    from sacma.figure4 import reproduce_figure, table

    curves, paths = reproduce_figure(
        given, like=like, seeds=seeds, jobs=jobs, storage=storage, out=out, console=console
    )
    console.print(table(curves))
    console.print("test figures, mean over seeds, percent; *: chosen by validation HM")
    console.print(f"figure: {', '.join(map(str, paths))}", soft_wrap=True)


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


def data_simulate(
    like: Literal["ucf", "vggsound", "activitynet"],
    root: Path,
    text: Path | None = None,
    clips_share: float = 1.0,
    noise: list[float] | float = 1.0,
    seed: int = 0,
    features: str = "simulated",
) -> None:
    """Write a benchmark with the classes and clip counts of a published one and made-up features.

    Args:
        like: whose classes, clip counts and sequence lengths it has.
        root: folder to write class-split/ and features/ to; it can then be used as --root.
        text: table of class vectors, or an official folder that has one; by default one that is under
            root/features/ already, else vectors are made up.
        clips_share: share of the clips of each class, above 0 and at most 1.
        noise: standard deviation within a class relative to that between classes; of a list such as
            [0.5,1,2,4], each level is written to a folder of its own.
        seed: of all draws but the map.
        features: name of the folder under features/; it must begin with simulated.
    """
    from sacma.features import Features
    from sacma.screen import counting
    from sacma.simulation import simulate

    levels = noise if isinstance(noise, list) else [noise]
    for level in levels:
        name = features if len(levels) == 1 else f"{features}-{level:g}"
        with counting(console, f"simulating {name}") as on_progress:
            folder = simulate(
                like,
                root,
                text=text,
                clips_share=clips_share,
                noise=level,
                seed=seed,
                features=name,
                on_progress=on_progress,
            )
        made = Features.open(folder)
        console.print(f"simulated: {folder}, {len(made)} clips, noise {level:g}", soft_wrap=True)
    console.print(f"class vectors: {made.provenance['class_vectors']}", soft_wrap=True)
    console.print("its figures say nothing about real videos; see docs/simulation.md")


def data_split(
    features: Path,
    out: Path | None = None,
    unseen: str | None = None,
    val_unseen: str | None = None,
    name: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    force: bool = False,
) -> None:
    """Make a two-stage benchmark of extracted features, to train on one's own classes.

    Args:
        features: folder that sacma extract wrote.
        out: folder to make, the --root of sacma train; by default FEATURES-benchmark.
        unseen: classes of the test that nothing is trained on, "cat, playing flute", or @FILE with one a
            line; by default 9 of 51, drawn by the seed.
        val_unseen: classes that stage 1 does not train on; by default 12 of 51, drawn from the rest.
        name: of the benchmark, by default that of the folder.
        encoder: of the class names: clip, sentence, glove, word2vec, fasttext, table or avshapes; by default
            glove, for features of clip-clap that model's own text encoder.
        model: of the encoder: a file or folder, for clip and sentence also a hub name.
        held_out: share of the clips of a seen class for validation, and as many for the test.
        seed: of what is drawn.
        force: replace a benchmark that is there.
    """
    from sacma import screen
    from sacma.features import Features
    from sacma.names import read_names
    from sacma.splits import make_benchmark, own_encoder

    opened = Features.open(features)
    made = make_benchmark(
        opened,
        out or features.with_name(f"{features.name}-benchmark"),
        name=name,
        unseen=None if unseen is None else read_names(unseen),
        val_unseen=None if val_unseen is None else read_names(val_unseen),
        held_out=held_out,
        seed=seed,
        encoder=own_encoder(opened) if encoder is None else {"encoder": encoder, "model": model},
        force=force,
    )
    screen.show_own_benchmark(console, made)


def extract(
    clips: list[str],
    out: Path,
    backbone: str = "lite",
    audio_weights: str | None = None,
    video_weights: str | None = None,
    start: float | None = None,
    end: float | None = None,
    engine: Literal["local", "ray"] = "local",
    jobs: int | None = None,
    device: str = "cpu",
    max_pixels: int = 50_000_000,
    max_seconds: float = 14_400.0,
    clip_timeout: float = 600.0,
    follow_links: bool = False,
    force: bool = False,
) -> None:
    """Turn clips into features; a bad clip is listed and left out, an interrupted extraction goes on.

    Args:
        clips: files, folders (a class each), patterns, or CSV files with columns path, class, start, end.
        out: folder for the features.
        backbone: descriptors, lite, lite-yamnet, clip-clap, c3d-vggish or selavi.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        start: seconds where the part of each clip begins.
        end: seconds where it ends.
        engine: local, or ray for many machines.
        jobs: processes; by default one a processor.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        clip_timeout: seconds of work on a clip before it is given up.
        follow_links: accept symbolic links as clips.
        force: overwrite features that are there.
    """
    from sacma import screen
    from sacma.media.decode import Limits
    from sacma.media.listing import find_clips
    from sacma.media.sets import extract_set
    from sacma.media.workers import Task

    listed = find_clips(clips, start=start, end=end)
    options = {"audio_weights": audio_weights, "video_weights": video_weights, "device": device}
    limits = Limits(pixels=max_pixels, seconds=max_seconds, follow_links=follow_links)
    task = Task(backbone, options, limits, clip_timeout)
    with screen.extracting(console, len(listed)) as (on_progress, on_trouble):
        made = extract_set(
            listed,
            out,
            task,
            engine=engine,
            jobs=jobs,
            force=force,
            on_progress=on_progress,
            on_trouble=on_trouble,
        )
    screen.show_extraction(console, made)


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


def predict(
    clips: list[str],
    run: Path,
    classes: str | None = None,
    start: float | None = None,
    end: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    top: int = 5,
    backbone: str | None = None,
    audio_weights: str | None = None,
    video_weights: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    bias: float | None = None,
    format: Literal["table", "json", "csv"] = "table",
    out: Path | None = None,
    device: str = "cpu",
    max_pixels: int = 50_000_000,
    max_seconds: float = 14_400.0,
    follow_links: bool = False,
) -> None:
    """Tell which of some class names clips show and sound like, names that were never trained on among them.

    Args:
        clips: files, folders, patterns, or CSV files with columns path, start, end.
        run: folder of a finished run.
        classes: names in CSV, or @FILE with one a line; by default the run's own classes.
        start: seconds where the part of each clip begins.
        end: seconds where it ends.
        window: seconds of a window that slides over each clip, for a timeline.
        hop: seconds from one window to the next; by default half a window.
        top: names to tell.
        backbone: what made the run's features, where they do not say.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        encoder: text encoder that made the class vectors, where they do not say, for names that they lack.
        model: of the encoder: a file, such as fastText's wiki.en.bin, a folder or a hub name.
        bias: added to the distances of names that the run was trained on; by default the run's, 0 for none.
        format: how to tell it.
        out: write a .json or .csv file instead.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        follow_links: accept symbolic links as clips.
    """
    from sacma import predict as prediction
    from sacma import screen
    from sacma.files import write_text
    from sacma.media.decode import Limits
    from sacma.media.listing import find_clips

    if out is not None:
        format = _format_of(out)
    if model is not None and encoder is None:
        raise SacmaError(f"--model {model} without --encoder; say which encoder it is of, such as fasttext")
    listed = find_clips(clips, start=start, end=end)
    predictor = prediction.load(
        run,
        backbone=backbone,
        audio_weights=audio_weights,
        video_weights=video_weights,
        encoder=None if encoder is None else {"encoder": encoder, "model": model},
        bias=bias,
        limits=Limits(pixels=max_pixels, seconds=max_seconds, follow_links=follow_links),
        device=device,
    )
    candidates = predictor.candidates(classes)
    done: list[prediction.Prediction] = []
    failed: dict[str, str] = {}
    with screen.counting(Console(stderr=True), "predicting") as on_progress:
        for number, clip in enumerate(listed, start=1):
            part = {"start": clip.start, "end": clip.end}
            try:
                made = predictor.predict(clip.path, candidates, **part, window=window, hop=hop, top=top)
            except SacmaError as error:
                if len(listed) == 1:
                    raise
                failed[str(clip.path)] = str(error)
                print(f"left out: {_one_line(error)}", file=sys.stderr)
                continue
            finally:
                on_progress(number, len(listed))
            done.append(made)
            if format == "table":
                screen.show_prediction(console, made)
    if format != "table":
        text = prediction.to_json(done, failed) if format == "json" else prediction.to_csv(done)
        if out is None:
            sys.stdout.write(text)
        else:
            write_text(out, text)
            console.print(f"predictions: {out}", soft_wrap=True)
    if failed:
        raise SacmaError(f"{len(failed)} of {len(listed)} clips were left out; the lines above say why")


def _format_of(out: Path) -> Literal["json", "csv"]:
    if out.suffix == ".json":
        return "json"
    if out.suffix == ".csv":
        return "csv"
    raise SacmaError(f"--out {out}: name it something.json or something.csv")


def export(
    run: Path,
    onnx: Path | None = None,
    folder: Path | None = None,
    push: str | None = None,
    public: bool = False,
    licence: str | None = None,
    output: str | None = None,
) -> None:
    """Write a run as an ONNX file, as a folder with a model card, or to the Hugging Face hub.

    Args:
        run: folder of a finished run.
        onnx: file to write, checked against PyTorch; see docs/predict.md for what goes in and out.
        folder: folder to write, with weights, what prediction needs, figures and a model card.
        push: repository on the hub that gets this folder, such as user/model; private if it is new.
        public: make a new repository public.
        licence: of the weights, for the card, such as cc-by-4.0.
        output: of the method, for ONNX: phi_m, phi_a or phi_v for SACMA.
    """
    from sacma import export as exporting
    from sacma import predict as prediction

    if onnx is None and folder is None and push is None:
        raise SacmaError("nothing to do; give --onnx FILE, --folder DIR or --push NAME")
    predictor = prediction.load(run)
    if onnx is not None:
        difference = exporting.export_run(predictor, onnx, output=output)
        console.print(
            f"{onnx}: differs from PyTorch by {difference:.1e} of the largest distance", soft_wrap=True
        )
    card = {"licence": licence}
    if folder is not None:
        if folder.exists() and any(folder.iterdir()):
            raise SacmaError(f"{folder} exists and is not empty; choose another folder")
        predictor.save_pretrained(folder, model_card_kwargs=card)
        console.print(f"model and card: {folder}", soft_wrap=True)
    if push is not None:
        console.print(exporting.push(predictor, push, private=not public, card=card), soft_wrap=True)


def app(
    run: Path | None = None,
    backbone: str | None = None,
    audio_weights: str | None = None,
    video_weights: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: int = 200,
    max_seconds: float = 120.0,
) -> None:
    """Open a web page on this machine: drop a clip, type class names, read the answer.

    Args:
        run: folder of a finished run; by default a demo run on AV-Shapes, trained on the first start.
        backbone: what made the run's features, where they do not say.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        encoder: text encoder that made the class vectors, where they do not say, for names that they lack.
        model: of the encoder: a file, a folder or a hub name.
        host: address to listen on; 127.0.0.1 is this machine alone.
        port: to listen on; 0 takes a free one.
        max_megabytes: of a clip.
        max_seconds: of a clip.
    """
    import sacma.app as page

    predictor = page.open_run(
        run,
        console,
        backbone=backbone,
        audio_weights=audio_weights,
        video_weights=video_weights,
        encoder=None if encoder is None else {"encoder": encoder, "model": model},
        max_seconds=max_seconds,
    )
    page.serve(predictor, console, host=host, port=port, max_megabytes=max_megabytes, max_seconds=max_seconds)


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "reproduce": reproduce,
    "tune": tune,
    "draws": draws,
    "report": report,
    "import-weights": import_weights,
    "extract": extract,
    "predict": predict,
    "export": export,
    "app": app,
}
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "info": data_info,
    "check": data_check,
    "import": data_import,
    "download": data_download,
    "render": data_render,
    "simulate": data_simulate,
    "split": data_split,
}
TEXT_COMMANDS: dict[str, Callable[..., None]] = {"build": text_build}


POSITIONAL = (evaluate, reproduce, draws, import_weights, data_split, export)
SEVERAL_CLIPS = (extract, predict)


def default_out(config: Any, seeds: int | None) -> Path:
    """runs/BENCHMARK-FEATURES-METHOD-VARIANT-SEED."""
    data = config.data
    which = f"seed-{config.seed}" if seeds is None else f"{seeds}-seeds"
    return Path("runs") / f"{data.benchmark}-{data.features}-{config.method}-{config.variant}-{which}"


def _run_parser(command: Callable[..., None], method: str) -> ArgumentParser:
    """The parser of a command that takes the options of a run, those of the method among them."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, description=_summary(command))
    parser.add_argument("--config", type=Path, help="YAML file of options, such as a run's config.yaml")
    parser.add_argument("--method", type=str, help="sacma or another method (default: sacma)")
    parser.add_argument("--variant", type=str, help="variant of the method (default: its first)")
    parser.add_argument("--preset", type=str, help="published or small (default: small below 1,000 clips)")
    parser.add_argument("--seed", type=int, help="of weights, batches and dropout (default: 0)")
    parser.add_function_arguments(command, skip={"options", "force"})
    if "force" in signature(command).parameters:
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
        raise SacmaError(f"{config}: {_one_line(error)}") from error
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
        version=_version(),
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND", required=True)
    for name, function in COMMANDS.items():
        sub = run_parsers[function] if function in run_parsers else _function_parser(function)
        commands.add_subcommand(name, sub, help=_summary(function))
    data = ArgumentParser(
        exit_on_error=False,
        allow_abbrev=False,
        description="Benchmarks: look, check, convert, fetch, render, simulate, split.",
    )
    commands.add_subcommand(
        "data", data, help="benchmarks: look, check, convert, fetch, render, simulate, split"
    )
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
    skip = {"follow_links", "force", "prompt"}
    if function in SEVERAL_CLIPS:
        parser.add_argument("clips", nargs="+", type=str, help="files, folders, patterns or CSV files")
        skip.add("clips")
    if function is report:
        parser.add_argument(
            "run", type=Path, nargs="+", help="run folders, or folders of seeds or of methods"
        )
        skip.add("run")
    parser.add_function_arguments(function, as_positional=function in POSITIONAL, skip=skip)
    if "force" in signature(function).parameters:
        _add_force(parser)
    if "follow_links" in signature(function).parameters:
        parser.add_argument("--follow_links", action="store_true", help="accept symbolic links as clips")
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
    method = _method_of(arguments)
    run_parsers = {function: _run_parser(function, method) for function in (train, tune)}
    given = _parser(run_parsers).parse_args(arguments, defaults=False)
    command = given.command
    chosen = given[command].as_dict()
    if command == "data":
        name = chosen["data_command"]
        DATA_COMMANDS[name](**(chosen.get(name) or {}))
    elif command == "text":
        name = chosen["text_command"]
        TEXT_COMMANDS[name](**(chosen.get(name) or {}))
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
        print(f"{name}: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:  # a folder that cannot be read, a name that is too long, a full disk
        print(f"{name}: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        advice = "train --resume RUN goes on, other commands go on when repeated"
        print(f"{name}: interrupted; {advice}", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
