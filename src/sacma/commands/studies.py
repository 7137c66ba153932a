"""Commands on many runs: tables and figures of the paper, and comparisons over random class splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sacma.commands import console, progress
from sacma.errors import SacmaError


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
        preset: published, medium or small; by default small below 1,000 training clips, medium below 20,000
            where the benchmark is not of the paper.
        epochs: of stage 1, at most; by default the preset's.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        out: folder of all studies, by default runs; runs and tables go to BENCHMARK-FEATURES-SPLIT-LIKE/ in
            it.
        run: for figure3, a finished run to draw, by default into its folder; without it SACMA is trained.
        classes: for figure3, seen classes as CSV, such as 'Archery,"Run, fast"'; by default six.
        storage: for figure4, URL of the study database; by default figure4.db beside the figure. Machines
            that share it share the work.

    Examples:
        sacma reproduce table1
        sacma reproduce table2 --benchmark [ucf,activitynet] --root data --seeds 5
        sacma reproduce figure3 --run runs/mine
    """
    from sacma.commands.show import Screen
    from sacma.results.tables import compare, table_1
    from sacma.studies import study as studies
    from sacma.studies.choice import run_chosen

    runs = out or Path("runs")
    given: dict[str, Any] = {"root": root, "split": split, "preset": preset, "epochs": epochs}
    given |= {"audio_step": audio_step, "video_step": video_step}
    if study == "table1":
        _show_table(
            table_1(studies.benchmarks_of(_listed(benchmark or "all")), split), runs / f"table1-{split}"
        )
        return
    if study == "figure3":
        _figure3(
            _one_setting(benchmark, features) | given,
            run=run,
            classes=classes,
            like=like,
            out=out or run or runs,
        )
        return
    if study == "figure4":
        one = {name: value for name, value in (_one_setting(benchmark, features) | given).items() if value}
        _figure4(one, like=like, seeds=seeds, jobs=jobs, storage=storage, out=runs)
        return
    rows = studies.chosen_rows(studies.read_study(study), _listed(row))
    facts = studies.read_facts(study)
    settings = studies.settings_of(_listed(benchmark or "ucf"), _listed(features), given)
    results = run_chosen(
        rows, settings, facts.choices, like=like, seeds=seeds, jobs=jobs, out=runs, reporter=Screen(progress)
    )
    _show_table(compare(facts, results, like=like), runs / studies.setting_name(settings, like) / study)
    if any(row.failure for result in results for row in result.rows):
        raise SacmaError("some rows failed; the notes under the table say why")


def draws(
    study: str,
    benchmark: str = "avshapes",
    features: str = "descriptors",
    root: str | None = None,
    text: str | None = None,
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
    groups: Path | None = None,
    group_column: str = "group",
    without_test: bool = False,
    out: Path = Path("runs"),
) -> None:
    """Run rows of a study on random class splits of a folder, and compare the first row with the others.

    Args:
        study: folder under experiments/, such as table2.
        benchmark: ucf, vggsound, activitynet, avshapes or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        root: folder that holds class-split/ and features/.
        text: class vectors of all rows, NAME of text/word_embeddings_NAME_normed.npz or .npy, or a file.
        row: row to run, or a list such as [kite,eszsl], the one to be compared first; all by default.
        draws: how many splits; from 5 on there are intervals.
        first: seed of the first split; the others count on from it.
        train: seen classes of stage 1; with val and test, or none of them for the folder's own sizes.
        val: unseen classes of stage 1.
        test: unseen classes of stage 2.
        like: published takes the published variants, ours the corrected ones.
        seeds: of each row on each split.
        jobs: processes at a time.
        preset: published, medium or small; by default small below 1,000 training clips, medium below 20,000
            where the benchmark is not of the paper.
        epochs: of stage 1, at most; by default the preset's.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        groups: CSV file with the columns filename, label and group; clips of a group stay together. By
            default the groups that the features or the folder's own lists of clips have.
        group_column: name of the column of the groups there.
        without_test: draw from classes and clips outside of the folder's own test, which stays unread.
        out: splits, runs and tables go to BENCHMARK-FEATURES-draws-LIKE[-TEXT][-GROUPS]/ in it.

    Examples:
        sacma draws table2 --benchmark ucf --features selavi --root data/ucf --row [kite,eszsl]
    """
    from sacma.commands.show import Screen
    from sacma.files import write_text
    from sacma.metrics.significance import LEAST_DRAWS, mean_interval
    from sacma.results.draws import compare_draws
    from sacma.results.tables import counted
    from sacma.studies import random_splits as drawing
    from sacma.studies import study as studies

    if draws >= LEAST_DRAWS:
        mean_interval([0.0] * draws)  # fails now, not after hours, where scipy is missing
    rows = studies.chosen_rows(studies.read_study(study), _listed(row))
    given: dict[str, Any] = {"root": root, "preset": preset, "epochs": epochs}
    given |= {"audio_step": audio_step, "video_step": video_step, "text": text}
    (setting,) = studies.settings_of([benchmark], [features], given)
    own = [one.label for one in rows if text and "text" in one.options]
    if own:
        raise SacmaError(f"{', '.join(own)}: has class vectors of its own; leave out the row, or --text")
    name = studies.setting_name([{**setting, "split": "draws"}], like)
    chosen = [Path(part).stem for part in (text, groups) if part] + ["without-test"] * without_test
    folder = out / "-".join([name, *chosen])
    results = drawing.run_draws(
        rows,
        setting,
        sizes=drawing.chosen_sizes(train, val, test),
        first=first,
        draws=draws,
        like=like,
        seeds=seeds,
        jobs=jobs,
        out=folder,
        reporter=Screen(progress),
        groups=groups,
        group_column=group_column,
        without_test=without_test,
        choices=studies.read_facts(study).choices,
    )
    title = f"{benchmark}, {features} features, {counted(draws, 'random class split')} from seed {first}, "
    title += counted(seeds, "seed") + (f", class vectors {text}" if text else "")
    title += ", no class or clip of the folder's own test" if without_test else ""
    table = compare_draws(results, title)
    write_text(folder / f"{study}.md", table.markdown())
    write_text(folder / f"{study}.csv", table.csv())
    console.print(table)
    console.print(f"tables: {folder / study}.md and .csv", soft_wrap=True)


def _show_table(table: Any, path: Path) -> None:
    """Print a table, and write it as PATH.md, .csv and .tex."""
    from sacma.files import write_text

    write_text(path.with_name(f"{path.name}.md"), table.markdown())
    write_text(path.with_name(f"{path.name}.csv"), table.csv())
    write_text(path.with_name(f"{path.name}.tex"), table.latex(label=path.name))
    console.print(table)
    console.print(f"tables: {path}.md, .csv and .tex", soft_wrap=True)


def _figure3(
    given: Mapping[str, Any], *, run: Path | None, classes: str | None, like: str, out: Path
) -> None:
    """Draw Figure 3 of a run, or of SACMA trained with ``given``, and say how clearly classes are apart."""
    from sacma.commands.show import Screen
    from sacma.results.figure3 import reproduce_figure

    embedding, paths = reproduce_figure(
        given, run=run, classes=classes, like=like, out=out, reporter=Screen(progress)
    )
    for panel in embedding.panels:
        console.print(
            f"{panel.title}: silhouette {panel.silhouette:.3f}, of the map {panel.silhouette_of_points:.3f}"
        )
    console.print(f"classes: {', '.join(embedding.classes)}", soft_wrap=True)
    console.print(f"figure: {', '.join(map(str, paths))}", soft_wrap=True)


def _figure4(
    given: Mapping[str, Any], *, like: str, seeds: int, jobs: int, storage: str | None, out: Path
) -> None:
    """Run the grids of Figure 4 and draw it."""
    from sacma.commands.show import Screen
    from sacma.results.figure4 import reproduce_figure, table

    curves, paths = reproduce_figure(
        given, like=like, seeds=seeds, jobs=jobs, storage=storage, out=out, reporter=Screen(progress)
    )
    console.print(table(curves))
    console.print("test figures, mean over seeds, percent; *: chosen by validation HM")
    console.print(f"figure: {', '.join(map(str, paths))}", soft_wrap=True)


def _listed(given: list[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])


def _one_setting(benchmark: Any, features: Any) -> dict[str, Any]:
    """Benchmark and features of what is drawn for one of each."""
    given = {"benchmark": _listed(benchmark or "ucf"), "features": _listed(features)}
    for name, values in given.items():
        if len(values) != 1:
            raise SacmaError(f"a figure takes one value of --{name}, not {len(values)}")
    return {name: values[0] for name, values in given.items()}
