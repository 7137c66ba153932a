"""The two-stage protocol: stage 1 chooses epoch and bias, stage 2 trains again with them, test is read once.

Stage 1 trains on the training classes and validates on clips held back from them and on unseen validation
classes. Stage 2 starts afresh on all of these for as many epochs, with stage 1's learning rates; its weights
are scored on test with stage 1's bias. Source: the protocol of AVCA (CVPR 2022) and TCAF (ECCV 2022).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from torch import Tensor

from sacma import distributed
from sacma.commands.show import Screen, counting
from sacma.data.benchmark import STAGES, Benchmark, Split
from sacma.datasets.avshapes import folder as avshapes
from sacma.errors import SacmaError
from sacma.files import read_json, remove, write_json
from sacma.metrics.gzsl import MEASURES, GZSLResult, best_bias
from sacma.models.base import Method
from sacma.options import DataConfig
from sacma.runs.config import RunConfig, method_class
from sacma.runs.folder import FORMAT, RunFolder, are_figures, load_model, save_model
from sacma.training.deployment import Deployment
from sacma.training.evaluation import Scores, result_at, result_at_best, score
from sacma.training.loop import Progress, Stage, build, train_stage, trimming_of

SELECTION = "selection.json"


@dataclass(frozen=True)
class Selection:
    """What stage 1 chose, and by what.

    Attributes:
        epochs: how many epochs the best weights had seen.
        validation: the figures, bias included, that chose them.
        learning_rates: of each epoch, one a parameter group.
    """

    epochs: int
    validation: GZSLResult
    learning_rates: Sequence[Sequence[float]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "validation": self.validation.to_dict(),
            "learning_rates": [list(rates) for rates in self.learning_rates],
        }


def run(config: RunConfig, benchmark: Benchmark, folder: RunFolder, console: Console) -> dict[str, Any]:
    """Train and evaluate, going on from whatever the folder holds already; returns what result.json says.

    Where several processes train together, the main one alone reads and writes the folder.

    Raises:
        SacmaError: the loss diverges, a stage lacks clips, a file cannot be written, or another process is at
            work in the folder.
    """
    with ExitStack() as locked:
        distributed.on_main(lambda: locked.enter_context(folder.locked()))
        if not distributed.on_main(lambda: folder.finished):
            _run(config, benchmark, folder, console)
        return distributed.on_main(lambda: _cleared(folder).result())


def _cleared(folder: RunFolder) -> RunFolder:
    """The folder of a finished run without its checkpoints."""
    for number in (1, 2):
        remove(folder.stage(number) / "checkpoint.pt")
    return folder


def run_stage_1(
    config: RunConfig,
    benchmark: Benchmark,
    folder: RunFolder,
    console: Console,
    *,
    after_epoch: Callable[[dict[str, Any]], None],
) -> Selection:
    """Stage 1 alone: what it chooses. Test is not read.

    Args:
        config: of the run.
        benchmark: of the run, opened.
        folder: of the run.
        console: shows how it goes.
        after_epoch: called with the row of metrics of each epoch; what it raises ends the stage.

    Raises:
        SacmaError: as ``run``.
    """
    accelerator = _accelerator(config, folder.path)
    with folder.locked(), Screen(console, batches_per_epoch=config.training.batches_per_epoch) as screen:
        reporter = _Reporter(folder, screen, accelerator, after_epoch)
        return _Stages(config, benchmark, folder, accelerator, reporter).first()


def _run(config: RunConfig, benchmark: Benchmark, folder: RunFolder, console: Console) -> None:
    accelerator = _accelerator(config, folder.path)
    with Screen(console, batches_per_epoch=config.training.batches_per_epoch) as screen:
        reporter = _Reporter(folder, screen, accelerator)
        stages = _Stages(config, benchmark, folder, accelerator, reporter)
        selection = stages.first()
        method = stages.second(selection)
    for tracker in accelerator.trackers:
        tracker.finish()
    finish(method, selection, config=config, benchmark=benchmark, folder=folder)


def finish(
    method: Method, selection: Selection, *, config: RunConfig, benchmark: Benchmark, folder: RunFolder
) -> None:
    """Score the final weights on test with stage 1's bias; write weights, predictions and result.

    Raises:
        SacmaError: a distance is not finite, or a file cannot be written.
    """
    test = benchmark.split("test")
    bias = selection.validation.bias
    result, scores = evaluate_method(method, test, config, bias=bias)
    deployment = deploy(method, selection, config=config, benchmark=benchmark, folder=folder)
    if distributed.is_main():
        save_model(method, folder.path)
        folder.write_predictions(predictions(scores, test, bias))
        deployment.write(folder.path)
        write_json(folder.path / "result.json", _result(config, benchmark, selection, result))


def deploy(
    method: Method, selection: Selection, *, config: RunConfig, benchmark: Benchmark, folder: RunFolder
) -> Deployment:
    """What prediction needs of a run beside its weights; see ``sacma.training.deployment``."""

    def stage_1_model() -> Method | None:
        there = (folder.stage(1) / "model.safetensors").is_file()
        return load_model(config.method, folder.stage(1)) if there else None

    stage_1 = distributed.on_main(stage_1_model)
    if stage_1 is not None:
        stage_1.to(method.device)
    return Deployment.of_run(method, stage_1, selection.validation.bias, config, benchmark)


@dataclass(frozen=True)
class _Stages:
    """The training of both stages of one run."""

    config: RunConfig
    benchmark: Benchmark
    folder: RunFolder
    accelerator: Accelerator
    reporter: _Reporter

    def first(self) -> Selection:
        """Train on train, choose epoch and bias on validation; a finished stage is only read."""
        chosen = self.folder.stage(1) / SELECTION
        if distributed.on_main(chosen.exists):
            return distributed.on_main(lambda: read_selection(self.folder))
        training, validation = self.benchmark.split("train"), self.benchmark.split("val")
        stage = Stage(
            1, training, validation.classes, self.config.training.epochs, validation=validation, select=True
        )
        method, progress = self._train(stage)
        # The first epoch is always kept, so there is a best one.
        best = GZSLResult.from_dict(progress.best or {})
        if len(method.bias_outputs()) > 1:
            best, _ = evaluate_method(method, validation, self.config, bias=None)
        selection = Selection((progress.best_epoch or 0) + 1, best, progress.learning_rates)
        if distributed.is_main():
            save_model(method, self.folder.stage(1))
            write_json(chosen, selection.to_dict())
        return selection

    def second(self, selection: Selection) -> Method:
        """Train on train and validation for as many epochs as stage 1 chose."""
        follows = self.config.protocol.stage2_schedule == "validation"
        watch = follows and self.config.training.schedule == "plateau"
        stage = Stage(
            2,
            self.benchmark.split("train_val"),
            self.benchmark.split("test").classes,
            selection.epochs,
            validation=self.benchmark.split("val") if watch else None,
            learning_rates=None if follows else selection.learning_rates[: selection.epochs],
        )
        method = self._train(stage)[0]
        self._take_validated(method)
        return method

    def _take_validated(self, method: Method) -> None:
        """Give the method what stage 1 fixed on validation, as it is given stage 1's bias."""
        if not method.VALIDATED:
            return

        def fixed() -> dict[str, Tensor]:
            state = load_model(self.config.method, self.folder.stage(1)).state_dict()
            return {name: state[name] for name in method.VALIDATED}

        for name, value in distributed.on_main(fixed).items():
            method.get_buffer(name).copy_(value)

    def _train(self, stage: Stage) -> tuple[Method, Progress]:
        self.reporter.screen.stage_begins(stage.number, stage.epochs)
        method = build(method_class(self.config.method), stage.training, self.config)
        progress = train_stage(
            method,
            stage,
            config=self.config,
            checkpoint=self.folder.stage(stage.number) / "checkpoint.pt",
            accelerator=self.accelerator,
            reporter=self.reporter,
        )
        return method, progress


class _Reporter:
    """Passes on what training tells: to the screen, to metrics.jsonl, to the tracker."""

    def __init__(
        self,
        folder: RunFolder,
        screen: Screen,
        accelerator: Accelerator,
        after_epoch: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.folder, self.screen, self.accelerator = folder, screen, accelerator
        self.after_epoch = after_epoch
        self.batch_done = screen.batch_done

    def epoch_done(self, row: dict[str, Any]) -> None:
        if not distributed.is_main():
            return
        self.folder.add_metrics(row)
        self.screen.epoch_done(row)
        prefix = f"stage-{row['stage']}"
        flat = {f"{prefix}/{name}": value for name, value in row["losses"].items()}
        flat |= {f"{prefix}/{name}": row[name] for name in ("loss", "learning_rate")}
        flat |= {f"{prefix}/validation/{name}": value for name, value in (row["validation"] or {}).items()}
        self.accelerator.log(flat, step=row["epoch"])
        if self.after_epoch is not None:
            self.after_epoch(row)

    def continued(self, stage: int, epoch: int) -> None:
        if not distributed.is_main():
            return
        self.folder.forget_metrics_after(stage, epoch)
        self.screen.continued(stage, epoch)


def _accelerator(config: RunConfig, folder: Path) -> Accelerator:
    training = config.training
    tracker = None if training.tracker == "none" else training.tracker
    AcceleratorState._reset_state()  # else a run after one of other precision in this process is refused
    accelerator = Accelerator(
        cpu=distributed.on_cpu(training),
        mixed_precision="bf16" if training.precision == "bfloat16" else "no",
        log_with=tracker,
        project_dir=str(folder) if tracker else None,
    )
    if tracker:
        accelerator.init_trackers("trackers")
    return accelerator


def evaluate_method(
    method: Method, split: Split, config: RunConfig, *, bias: float | None, output: str | None = None
) -> tuple[GZSLResult, Scores]:
    """Score a split with a method; at ``bias``, or at the split's own best where it is None.

    The best is the mean over the method's ``bias_outputs``, where these are several. ``output`` is the one of
    the method's outputs that scores, by default its default.
    """
    scores = _scored(method, split, config, output)
    search = config.protocol.bias_search
    if bias is not None:
        return result_at(scores, split, bias=bias, bias_search=search), scores
    if len(outputs := method.bias_outputs(output)) > 1:
        bias, notes = _mean_bias(method, split, config, outputs)
        result = result_at(scores, split, bias=bias, bias_search=search)
        return dataclasses.replace(result, warnings=(*result.warnings, *notes)), scores
    return result_at_best(scores, split, bias_search=search, calibrated=method.calibrated), scores


def _scored(method: Method, split: Split, config: RunConfig, output: str | None) -> Scores:
    return score(
        method,
        split,
        batch_size=config.training.eval_batch_size,
        output=output,
        trimming=trimming_of(config.training, training=False),
        bfloat16=config.training.precision == "bfloat16",
    )


def _mean_bias(
    method: Method, split: Split, config: RunConfig, outputs: Sequence[str]
) -> tuple[float, list[str]]:
    """The mean of the best biases of ``outputs``; which they were, and warnings on them."""
    search = config.protocol.bias_search
    biases: dict[str, float] = {}
    notes: list[str] = []
    for output in outputs:
        found = _scored(method, split, config, output)
        biases[output], warnings = best_bias(found.gzsl, found.labels, split.classes.seen, search=search)
        notes += [f"{output}: {warning}" for warning in warnings]
    each = ", ".join(f"{bias:.4g} for {output}" for output, bias in biases.items())
    return statistics.fmean(biases.values()), [*notes, f"the bias is the mean of the best ones: {each}"]


def evaluate_run(
    folder: RunFolder, benchmark: Benchmark, *, output: str | None = None
) -> tuple[GZSLResult, dict[str, Any]]:
    """Repeat a run's test figures from its saved weights.

    Args:
        folder: a finished run.
        benchmark: the run's benchmark, opened.
        output: the embedding that scores, by default the method's own. For another one the bias is chosen
            again on stage-1 validation, with stage 1's weights.

    Raises:
        SacmaError: the method has no such output, or the weights cannot be read.
    """
    _, result, table = _evaluate(folder, benchmark, output)
    return result, table


def run_output(folder: RunFolder, benchmark: Benchmark, output: str) -> dict[str, Any]:
    """The figures of a finished run scored by one of its embeddings; kept in result-OUTPUT.json. (Table 7)

    Raises:
        SacmaError: the method has no such output, the weights cannot be read, or a file cannot be written.
    """
    path = folder.result_path(output)
    if not path.is_file():
        validation, test, _ = _evaluate(folder, benchmark, output)
        write_json(path, folder.result() | {"validation": validation.to_dict(), "test": test.to_dict()})
    return folder.result(output)


def _evaluate(
    folder: RunFolder, benchmark: Benchmark, output: str | None
) -> tuple[GZSLResult, GZSLResult, dict[str, Any]]:
    """Figures on validation and on test, and the predictions on test."""
    config = folder.config()
    method = load_run_model(folder, benchmark)
    validation = _validation(folder, benchmark, output or method.default_output)
    test = benchmark.split("test")
    result, scores = evaluate_method(method, test, config, bias=validation.bias, output=output)
    return validation, result, predictions(scores, test, validation.bias)


def _validation(folder: RunFolder, benchmark: Benchmark, output: str) -> GZSLResult:
    """What stage 1's weights reach on validation with an output, at the bias that is best for it."""
    config = folder.config()
    known = method_class(config.method).OUTPUTS
    if output not in known:
        raise SacmaError(f"{config.method} has no output {output!r}; it has: {', '.join(known)}")
    if output == known[0]:
        return read_selection(folder).validation
    stage_1 = load_model(config.method, folder.stage(1))
    return evaluate_method(stage_1, benchmark.split("val"), config, bias=None, output=output)[0]


def load_run_model(folder: RunFolder, benchmark: Benchmark) -> Method:
    """The final weights of a run, for features and class vectors as wide as those that it was trained on.

    Raises:
        SacmaError: the weights cannot be read, or the benchmark is of other widths.
    """
    method = load_model(folder.config().method, folder.path)
    _check_widths(method, benchmark)
    return method


def _check_widths(method: Method, benchmark: Benchmark) -> None:
    found = {
        "audio": benchmark.features.audio.width,
        "video": benchmark.features.video.width,
        "text": benchmark.vectors.shape[1],
    }
    for kind, width in found.items():
        expected = getattr(method.config, f"{kind}_width")
        if width != expected:
            what = "class vectors" if kind == "text" else f"{kind} features"
            raise SacmaError(
                f"{benchmark.features.path}: {what} are {width} wide, but the run was trained on "
                f"{expected}; use what it was trained on"
            )


def predictions(scores: Scores, split: Split, bias: float) -> dict[str, Any]:
    """Columns of predictions.parquet: clip, class, answers among all and among unseen classes, distances."""
    names = split.classes.names

    def named(positions: Tensor) -> list[str | None]:
        return [names[p] if p >= 0 else None for p in positions.tolist()]

    near = scores.gzsl
    return {
        "clip": [spelt_out(split.features.names[clip]) for clip in split.clips.tolist()],
        "class": named(scores.labels),
        "seen": split.classes.seen[scores.labels].tolist(),
        "prediction": named(torch.where(near.predicts_seen(bias), near.seen_class, near.unseen_class)),
        "prediction_zsl": named(scores.zsl.unseen_class),
        "nearest_seen": named(near.seen_class),
        "nearest_seen_distance": near.seen_distance.tolist(),
        "nearest_unseen": named(near.unseen_class),
        "nearest_unseen_distance": near.unseen_distance.tolist(),
    }


def spelt_out(name: str) -> str:
    """A file name need not be text; what is not is spelt out, as Parquet holds nothing else."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_selection(folder: RunFolder) -> Selection:
    """What stage 1 of a run chose.

    Raises:
        SacmaError: the file is missing or damaged.
    """
    path = folder.stage(1) / SELECTION
    content = read_json(path)
    epochs, validation, rates = (content.get(key, 0) for key in ("epochs", "validation", "learning_rates"))
    whole = type(epochs) is int and isinstance(rates, list) and 1 <= epochs <= len(rates)
    if not whole or not are_figures(validation) or not all(isinstance(one, list) for one in rates):
        raise SacmaError(f"{path} is damaged; train again with --force")
    return Selection(epochs, GZSLResult.from_dict(validation), rates)


def _result(
    config: RunConfig, benchmark: Benchmark, selection: Selection, test: GZSLResult
) -> dict[str, Any]:
    data = config.data
    return {
        "format": FORMAT,
        "benchmark": data.benchmark,
        "features": data.features,
        "feature_scaling": config.model["feature_scaling"],
        "split": data.split,
        "text": benchmark.text_source,
        "text_alignment": data.text_alignment,
        "method": config.method,
        "variant": config.variant,
        "preset": config.preset,
        "seed": config.seed,
        "bias_search": config.protocol.bias_search,
        "epochs": selection.epochs,
        "validation": selection.validation.to_dict(),
        "test": test.to_dict(),
    }


def count_training_clips(benchmark: Benchmark) -> int:
    """Clips that stage 2 trains on. All stages are looked at: what one lacks is better known before training.

    Raises:
        SacmaError: a class of a stage has no clip.
    """
    return len({stage: benchmark.split(stage) for stage in STAGES}["train_val"])


def check(config: RunConfig, benchmark: Benchmark) -> None:
    """Build the method once for nothing: what cannot be trained is better known before there is a run folder.

    Raises:
        SacmaError: as ``training.build``.
    """
    build(method_class(config.method), benchmark.split("train"), config)


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over the seeds of one configuration, as in summary.json."""
    shared = {k: v for k, v in results[0].items() if k not in ("seed", "epochs", "validation", "test")}
    summary: dict[str, Any] = shared | {
        "seeds": [r["seed"] for r in results],
        "epochs": [r["epochs"] for r in results],
    }
    for part in ("validation", "test"):
        values = torch.tensor([[r[part][key] for key in MEASURES] for r in results], dtype=torch.float64)
        spread = values.std(dim=0).tolist() if len(results) > 1 else [None] * len(MEASURES)
        summary[part] = {
            "mean": dict(zip(MEASURES, values.mean(dim=0).tolist(), strict=True)),
            "std": dict(zip(MEASURES, spread, strict=True)),
        }
    return summary


def run_seeds(
    config: RunConfig,
    benchmark: Benchmark,
    folder: Path,
    console: Console,
    *,
    seeds: int,
    force: bool = False,
) -> dict[str, Any]:
    """Run the seeds from config.seed on, each in its own folder; returns what summary.json says.

    Finished seeds are kept and unfinished ones continued.

    Raises:
        SacmaError: the folder holds runs with other options, or a seed is too large.
    """
    configs = [dataclasses.replace(config, seed=seed) for seed in range(config.seed, config.seed + seeds)]
    results = []
    for one in configs:
        console.print(f"seed {one.seed}")
        results.append(run_seed(one, benchmark, folder / f"seed-{one.seed}", console, force=force))
    summary = summarise(results)
    if distributed.is_main():
        write_json(folder / "summary.json", summary)
    return summary


def run_seed(
    config: RunConfig, benchmark: Benchmark, path: Path, console: Console, *, force: bool = False
) -> dict[str, Any]:
    """Run one configuration in a folder: started, continued, or only read where it is finished.

    Raises:
        SacmaError: the folder holds a run with other options.
    """
    fresh = force or not distributed.on_main((path / "config.yaml").exists)
    folder = RunFolder.create(path, config, force=force) if fresh else RunFolder.open(path)
    if folder.config() != config:
        raise SacmaError(f"{path} is a run with other options; choose another --out or remove it")
    return run(config, benchmark, folder, console)


def open_benchmark(data: DataConfig, console: Console) -> Benchmark:
    """Open what a run reads; AV-Shapes is rendered first where that has not happened yet.

    Raises:
        SacmaError: no root is given, or the folder lacks something.
    """
    root = data.root
    if data.benchmark == "avshapes" and root is None:
        with counting(console, "rendering AV-Shapes") as on_progress:
            root = str(avshapes.prepare(on_progress))
    if root is None:
        raise SacmaError(
            f"--root is missing: the folder of {data.benchmark} that holds class-split/ and features/"
        )
    with counting(console, "importing features") as on_progress:
        return Benchmark.open(
            root,
            data.benchmark,
            data.features,
            split=data.split,
            text_alignment=data.text_alignment,
            text=data.text,
            audio_step=data.audio_step,
            video_step=data.video_step,
            on_progress=on_progress,
        )
