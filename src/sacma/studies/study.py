"""Studies: the rows of a table of the paper, each an experiment file, run over seeds in parallel processes.

A study is a folder of ``experiments/`` with one YAML file a row: ``options`` (of a run), ``output`` (the
embedding that scores), ``expected`` (the published S, U, HM, ZSL in percent, by benchmark), ``not_in_paper``
(what was assumed) and ``notes``. Runs lie in a folder named after their configuration. So finished ones are
kept, tables share those that they have in common, a killed study continues, and a run that fails does not
stop the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from sacma.data.benchmark import Benchmark, Split
from sacma.data.paper import published_benchmarks
from sacma.errors import SacmaError, meant, one_line, printable
from sacma.files import write_json
from sacma.frozen.prior import prior_kind
from sacma.metrics.gzsl import clip_errors
from sacma.progress import SILENT, Reporter
from sacma.runs.config import PUBLISHED_RUN, RunConfig, method_class, resolve
from sacma.runs.prepare import benchmark_of, check_stages, configure
from sacma.runs.records import RunResult, RunSummary
from sacma.studies.jobs import Job, TimeLeft, run_jobs
from sacma.training.scoring import outputs_of

LIKE = ("published", "ours")
PRINTED = ("S", "U", "HM", "ZSL")
WITHOUT_SEED = "No random number is drawn: one run stands for all seeds."


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: of its file.
        label: as the table shows it.
        order: place in the table.
        options: of its run.
        output: the embedding that scores; by default the method's own.
        expected: benchmark -> the paper's S, U, HM and ZSL, in percent; empty for rows that are not in it.
        errata: benchmark -> figure -> what is wrong with the printed one.
        not_in_paper: option -> what was assumed where the paper leaves it open.
        notes: what a reader has to know.
    """

    name: str
    label: str
    order: int
    options: Mapping[str, Any]
    output: str = ""
    expected: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    errata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    not_in_paper: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """Title and notes of a study, from ``experiments/NAME.yaml``.

    Attributes:
        title: of its table.
        gains: pairs of rows, whose difference is a line of the table.
        notes: what a reader of the published figures has to know.
        rows: the study whose rows it has; by default those in the folder of its own name.
        options: of all rows, where a row says nothing else.
        choices: options to choose among by validation, the same for each row; see ``sacma.studies.choice``.
    """

    title: str
    gains: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    rows: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class RowResult:
    """Result of a row in a setting.

    Attributes:
        row: which.
        summary: mean and deviation over seeds; None where the row failed.
        clip_error: standard error over test clips of S, U, HM and ZSL, mean over seeds, as fractions.
        results: of the runs, one a seed.
        failure: why it failed; empty where it did not.
        absent: why it is not possible in the setting; empty where it is.
    """

    row: Row
    summary: RunSummary | None
    clip_error: Mapping[str, float] = field(default_factory=dict)
    results: Sequence[RunResult] = ()
    failure: str = ""
    absent: str = ""


@dataclass(frozen=True)
class SettingResult:
    """Results of the rows in a setting: on a benchmark, with a kind of features.

    Attributes:
        benchmark: opened; a row may use other class vectors than these.
        features: their name, as given.
        rows: in the order of the study.
    """

    benchmark: Benchmark
    features: str
    rows: Sequence[RowResult]


def experiments_folder() -> Path:
    """The folder of the experiment files inside the package."""
    return Path(__file__).parents[1] / "experiments"


def read_study(name: str) -> list[Row]:
    """The rows of a study, in the table's order.

    Raises:
        SacmaError: there is no such study, or a file of it is damaged.
    """
    root = experiments_folder()
    facts = read_facts(name)
    folder = root / (facts.rows or name)
    if not any(folder.glob("*.yaml")) or folder.parent != root:
        files = [path.stem for path in root.glob("*.yaml") if read_facts(path.stem).rows]
        known = sorted({path.parent.name for path in root.glob("*/*.yaml")} | set(files))
        raise SacmaError(f"no study {printable(name)}; there are: {', '.join(known)}{meant(name, known)}")
    rows = (_read_row(path) for path in folder.glob("*.yaml"))
    return sorted(
        (replace(row, options={**facts.options, **row.options}) for row in rows), key=lambda row: row.order
    )


def read_facts(name: str) -> Study:
    """Read what a study says beside its rows.

    Raises:
        SacmaError: the file is damaged.
    """
    path = experiments_folder() / f"{name}.yaml"
    if not path.is_file():
        return Study(name)
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        gains = [(str(gain["of"]), str(gain["over"])) for gain in facts.pop("gains", ())]
        return Study(gains=gains, **facts)
    # As in the files of rows.
    except Exception as error:
        raise SacmaError(f"{path} is not a file about a study: {one_line(error)}") from error


def _read_row(path: Path) -> Row:
    try:
        row = Row(name=path.stem, **yaml.safe_load(path.read_text(encoding="utf-8")))
    # What is wrong in a damaged file may come to light as almost any exception.
    except Exception as error:
        raise SacmaError(f"{path} is not an experiment file: {one_line(error)}") from error
    right = {
        "label": isinstance(row.label, str),
        "order": isinstance(row.order, int),
        "options": isinstance(row.options, dict) and "method" in row.options,
        "output": isinstance(row.output, str),
        "expected": isinstance(row.expected, dict) and all(map(_is_printed, row.expected.values())),
        "errata": isinstance(row.errata, dict) and all(map(_is_text, row.errata.values())),
        "not_in_paper": _is_text(row.not_in_paper),
        "notes": isinstance(row.notes, list | tuple) and all(isinstance(note, str) for note in row.notes),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise SacmaError(f"{path}: {', '.join(wrong)} is not as in the other experiment files; correct it")
    return row


def _is_text(texts: Any) -> bool:
    return isinstance(texts, dict) and all(isinstance(text, str) for pair in texts.items() for text in pair)


def _is_printed(figures: Any) -> bool:
    numbers = isinstance(figures, dict) and all(isinstance(value, int | float) for value in figures.values())
    return numbers and figures.keys() == set(PRINTED)


def chosen_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of these names, each once; all where there are none.

    Raises:
        SacmaError: a name is not that of a row.
    """
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            raise SacmaError(
                f"no row {printable(name)} in this study; there are: {', '.join(known)}{meant(name, known)}"
            )
    return [known[name] for name in dict.fromkeys(names)] if names else list(rows)


def row_options(row: Row, given: Mapping[str, Any], *, like: str) -> dict[str, Any]:
    """Options of a row's run: those of its file, those given, and the variant that ``like`` asks for.

    A row whose file names a variant keeps it.

    A method without the variant ``published`` still gets the published vectors, bias search and schedule, so
    that the rows of a table differ by their method alone.

    Raises:
        SacmaError: ``like`` is neither published nor ours.
    """
    if like not in LIKE:
        raise SacmaError(f"--like is {printable(like)}; it must be one of {', '.join(LIKE)}")
    options = {**row.options, **given}
    if like == "ours" or "variant" in row.options:
        return options
    if "published" in method_class(str(options["method"])).VARIANTS:
        return {**options, "variant": "published"}
    return {**PUBLISHED_RUN, **options}


def benchmarks_of(names: Sequence[str]) -> list[str]:
    """The benchmarks of these names, each once; ``all`` stands for the three of the paper."""
    return list(published_benchmarks()) if "all" in names else list(dict.fromkeys(names))


def settings_of(
    benchmarks: Sequence[str], features: Sequence[str], given: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Options of all rows, one mapping for each benchmark with each kind of features."""
    options = {name: value for name, value in given.items() if value is not None}
    benchmarks = benchmarks_of(benchmarks)
    return [{"benchmark": one, "features": kind, **options} for one in benchmarks for kind in features]


def setting_name(settings: Sequence[Mapping[str, Any]], like: str) -> str:
    """BENCHMARK-FEATURES-SPLIT-LIKE: the folder of the runs of a setting, and of the tables of several."""

    def of(key: str) -> str:
        return "+".join(dict.fromkeys(str(one.get(key, "main")) for one in settings))

    return f"{of('benchmark')}-{of('features')}-{of('split')}-{like}"


def run_name(row: Row, given: Mapping[str, Any], *, like: str, training_clips: int | None = None) -> str:
    """The folder of a row's runs: its method and what the row changes of it.

    Rows of different tables that come to the same configuration have the same name, so they share their runs.
    """
    plain = Row("", "", 0, {"method": row.options["method"]})
    own, default = (
        resolve(row_options(one, given, like=like), training_clips=training_clips).options()
        for one in (row, plain)
    )
    changed = [name for name in sorted(row.options) if own[name] != default[name]]
    return "-".join([str(own["method"]), *(f"{name}={own[name]}".replace("/", "_") for name in changed)])


def row_config(
    row: Row, given: Mapping[str, Any], benchmark: Benchmark, *, like: str
) -> tuple[RunConfig, str]:
    """Configuration of a row's runs, and the name of their folder.

    Raises:
        SacmaError: an option is unknown or out of range.
    """
    clips = len(benchmark.split("train_val"))
    config = configure(row_options(row, given, like=like), benchmark)
    return config, run_name(row, given, like=like, training_clips=clips)


def check_counts(*, seeds: int, jobs: int) -> None:
    """Raise SacmaError where one is below 1."""
    if seeds < 1 or jobs < 1:
        raise SacmaError(f"--seeds {seeds} and --jobs {jobs} must both be at least 1")


def run_study(
    rows: Sequence[Row],
    settings: Sequence[Mapping[str, Any]],
    *,
    like: str,
    seeds: int,
    jobs: int,
    out: Path,
    reporter: Reporter = SILENT,
) -> list[SettingResult]:
    """Run rows over seeds in each setting.

    Args:
        rows: to run.
        settings: options for all rows, such as benchmark, features and root.
        like: ``published`` or ``ours``.
        seeds: of each row; a method that draws no random number has one run.
        jobs: processes at a time; the processor's cores are shared among them.
        out: folder of runs; those of a row are in ``out/SETTING/RUN/seed-N``.
        reporter: told of each run that ends.

    Raises:
        SacmaError: seeds or jobs below 1, or a benchmark cannot be opened.
    """
    check_counts(seeds=seeds, jobs=jobs)
    opened = [(given, benchmark_of(given, reporter)) for given in settings]
    for _, benchmark in opened:
        check_stages(benchmark)
    planned = [
        [_plan(row, given, like, seeds, out, benchmark) for row in rows] for given, benchmark in opened
    ]
    plans = [plan for of_setting in planned for plan in of_setting]
    queue = _without_repetition(job for plan in plans for job in plan.jobs)
    done, left = 0, TimeLeft(queue)

    def tell(job: Job, failure: str) -> None:
        nonlocal done
        done += 1
        run = "/".join(job.path.parts[-3:])
        reporter.say(f"{done}/{len(queue)} {run}: {failure or 'done'}{left.after(done)}")

    failures = run_jobs(queue, processes=jobs, on_end=tell)
    return [
        SettingResult(benchmark, given["features"], [plan.result(benchmark, failures) for plan in of_setting])
        for (given, benchmark), of_setting in zip(opened, planned, strict=True)
    ]


@dataclass(frozen=True)
class _Plan:
    """The runs of a row in a setting.

    Attributes:
        row: which.
        jobs: one a seed; none where the row is no valid run.
        failure: why it is none.
        absent: why it is not possible in the setting.
    """

    row: Row
    jobs: Sequence[Job] = ()
    failure: str = ""
    absent: str = ""

    def result(self, benchmark: Benchmark, failures: Mapping[Path, str]) -> RowResult:
        if self.absent:
            return RowResult(self.row, None, absent=self.absent)
        failed = {job.config.seed: why for job in self.jobs if (why := failures[job.path])}
        if self.failure or failed:
            return RowResult(self.row, None, failure=self.failure or _in_one(failed, len(self.jobs)))
        output = next(iter(self.jobs[0].outputs), "")
        try:
            results = [job.results()[output] for job in self.jobs]
        except SacmaError as error:
            return RowResult(self.row, None, failure=one_line(error))
        summary = RunSummary.of(results)
        if not output:
            write_json(self.jobs[0].path.parent / "summary.json", summary.to_dict())
        return RowResult(self.row, summary, _clip_error(benchmark, results), results)


def _in_one(failed: Mapping[int, str], seeds: int) -> str:
    """Why a row failed; its seeds are named where they failed in different ways."""
    reasons = set(failed.values())
    if len(reasons) == 1 and len(failed) == seeds:
        return reasons.pop()
    return "; ".join(f"seed {seed}: {why}" for seed, why in failed.items())


def why_absent(row: Row, given: Mapping[str, Any], benchmark: Benchmark) -> str:
    """Why a row is not possible on a benchmark, whose spaces it may need to be one; else empty."""
    config = resolve({**row.options, **given})
    features = benchmark.features
    widths = {
        "audio_width": features.audio.width,
        "video_width": features.video.width,
        "text_width": benchmark.vectors.shape[1],
    }
    try:
        if method_class(config.method).needs_joint_space:
            method_class(config.method).Config(**{**config.model, **widths})
        if config.protocol.prior == "frozen":
            prior_kind(features.provenance, **widths)
    except SacmaError as error:
        return one_line(error)
    return ""


def _plan(
    row: Row, given: Mapping[str, Any], like: str, seeds: int, out: Path, benchmark: Benchmark
) -> _Plan:
    try:
        if why := why_absent(row, given, benchmark):
            return _Plan(row, absent=why)
        config, name = row_config(row, given, benchmark, like=like)
        known = outputs_of(config)
        if row.output and row.output not in known:
            raise SacmaError(
                f"{config.method} has no output {printable(row.output)}; it has: {', '.join(known)}"
            )
    except SacmaError as error:
        return _Plan(row, failure=one_line(error))
    outputs = (row.output,) if row.output not in ("", known[0]) else ()
    folder = out / setting_name([given], like) / name
    if seeds > 1 and not _has_seed(config):
        seeds, row = 1, replace(row, notes=(*row.notes, WITHOUT_SEED))
    each = [replace(config, seed=seed) for seed in range(config.seed, config.seed + seeds)]
    return _Plan(row, [Job(one, folder / f"seed-{one.seed}", outputs) for one in each])


def _has_seed(config: RunConfig) -> bool:
    """False where no random number is drawn, so that runs of all seeds are one."""
    return method_class(config.method).learns_by_gradient or config.protocol.bias_from == "episodes"


def _without_repetition(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, with the outputs of all rows that share it."""
    merged: dict[Path, Job] = {}
    for job in jobs:
        outputs = (*(merged[job.path].outputs if job.path in merged else ()), *job.outputs)
        merged[job.path] = replace(job, outputs=tuple(dict.fromkeys(outputs)))
    return list(merged.values())


def _clip_error(benchmark: Benchmark, results: Sequence[RunResult]) -> dict[str, float]:
    test = benchmark.split("test")
    counts = torch.bincount(test.labels, minlength=len(test.classes))
    errors = []
    for result in results:
        per_class, per_class_zsl = (
            torch.tensor([accuracies.get(name, torch.nan) for name in test.classes.names])
            for accuracies in (result.test.per_class, result.test.per_class_zsl)
        )
        errors.append(clip_errors(per_class, per_class_zsl, counts, test.classes.seen))
    return {key: sum(one[key] for one in errors) / len(errors) for key in errors[0]}


def chance(test: Split) -> dict[str, float]:
    """S, U, HM and ZSL of guessing uniformly among the candidates, as fractions."""
    share = 1 / len(test.classes)
    unseen = int((~test.classes.seen).sum())
    return {"seen": share, "unseen": share, "harmonic_mean": share, "zsl": 1 / unseen}
