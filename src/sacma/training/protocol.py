"""The two-stage protocol: stage 1 chooses epoch and bias, stage 2 trains again with them, test is read once.

Stage 1 trains on the training classes and validates on clips held back from them and on unseen validation
classes. Stage 2 starts afresh on all of these for as many epochs, with stage 1's learning rates; its weights
are scored on test with stage 1's bias. Source: the protocol of AVCA (CVPR 2022) and TCAF (ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from sacma import distributed, precision
from sacma.data.benchmark import Benchmark
from sacma.files import remove, write_json
from sacma.frozen.prior import open_prior
from sacma.metrics.gzsl import GZSLResult
from sacma.models.base import Method
from sacma.models.fused import Fused, fused_from
from sacma.progress import SILENT, EpochRow, Reporter, SilentTraining, TrainingReporter
from sacma.runs.config import RunConfig, method_class
from sacma.runs.folder import BIASES, RunFolder, load_model, save_model
from sacma.runs.records import RunResult, StageSelection
from sacma.training.deployment import Deployment
from sacma.training.episodes import episode_biases, mean_bias
from sacma.training.fusion import fuse
from sacma.training.loop import Stage, StageProgress, build, train_stage
from sacma.training.scoring import evaluate_method, predictions
from sacma.training.trackers import Tracker, check_tracker


def run(
    config: RunConfig,
    benchmark: Benchmark,
    folder: RunFolder,
    reporter: Reporter = SILENT,
    *,
    method: Method | None = None,
) -> RunResult:
    """Train and evaluate, going on from whatever the folder holds already.

    Where several processes train together, the main one alone reads and writes the folder.

    Args:
        config: of the run.
        benchmark: of the run, opened.
        folder: of the run.
        reporter: told how training goes.
        method: as ``stage_1_method`` has just built it; None builds it here.

    Raises:
        SacmaError: the loss diverges, a stage lacks clips, a file cannot be written, or another process is at
            work in the folder.
    """
    with ExitStack() as locked:
        distributed.on_main(lambda: locked.enter_context(folder.locked()))
        if not distributed.on_main(lambda: folder.finished):
            _run(config, benchmark, folder, reporter, method)
        return distributed.on_main(lambda: _cleared(folder).result())


def stage_1_method(config: RunConfig, benchmark: Benchmark) -> Method:
    """The freshly initialised method of stage 1.

    Raises:
        SacmaError: as ``training.loop.build``.
    """
    return build(method_class(config.method), benchmark.split("train"), config)


def _cleared(folder: RunFolder) -> RunFolder:
    """The folder of a finished run without its checkpoints."""
    for number in (1, 2):
        remove(folder.stage(number) / "checkpoint.pt")
    return folder


def run_stage_1(
    config: RunConfig, benchmark: Benchmark, folder: RunFolder, *, after_epoch: Callable[[EpochRow], None]
) -> StageSelection:
    """Run stage 1 alone. Test is not read.

    Args:
        config: of the run.
        benchmark: of the run, opened.
        folder: of the run.
        after_epoch: called with the row of each epoch; an exception that it raises ends the stage.

    Raises:
        SacmaError: as ``run``.
    """
    accelerator = _accelerator(config, folder.path)
    tracker = Tracker(accelerator, config, folder, SILENT.say)
    with folder.locked():
        recorder = _Recorder(folder, SilentTraining(), tracker, after_epoch)
        selection = _Stages(config, benchmark, folder, accelerator, recorder).first()
    tracker.end()
    return selection


def _run(
    config: RunConfig, benchmark: Benchmark, folder: RunFolder, reporter: Reporter, method: Method | None
) -> None:
    accelerator = _accelerator(config, folder.path)
    tracker = Tracker(accelerator, config, folder, reporter.say)
    with reporter.training(batches_per_epoch=config.training.batches_per_epoch) as listener:
        recorder = _Recorder(folder, listener, tracker)
        stages = _Stages(config, benchmark, folder, accelerator, recorder)
        selection = stages.first(method)
        trained = stages.second(selection)
        biases = stages.biases(trained, selection)
    test = finish(trained, selection, config=config, benchmark=benchmark, folder=folder, biases=biases)
    tracker.end(test)


def finish(
    method: Method,
    selection: StageSelection,
    *,
    config: RunConfig,
    benchmark: Benchmark,
    folder: RunFolder,
    biases: list[float] | None = None,
) -> GZSLResult:
    """Score the final weights on test; write weights, predictions and result, and return the result on test.

    Args:
        method: trained in stage 2.
        selection: of stage 1, whose bias is taken where there are no others.
        config: of the run.
        benchmark: of the run, opened.
        folder: of the run.
        biases: of episodes, whose mean is taken.

    Raises:
        SacmaError: a distance is not finite, or a file cannot be written.
    """
    test = benchmark.split("test")
    bias, notes = mean_bias(biases) if biases else (selection.validation.bias, ())
    result, scores = evaluate_method(method, test, config, bias=bias)
    result = replace(result, warnings=(*result.warnings, *notes))
    deployment = deploy(method, bias, config=config, benchmark=benchmark, folder=folder)
    if distributed.is_main():
        save_model(method, folder.path)
        folder.write_predictions(predictions(scores, test, bias))
        deployment.write(folder.path)
        if biases:
            write_json(folder.path / BIASES, {"biases": biases})
        write_json(folder.result_path(), _result(config, benchmark, selection, result).to_dict())
    return result


def deploy(
    method: Method, bias: float, *, config: RunConfig, benchmark: Benchmark, folder: RunFolder
) -> Deployment:
    """The part of a run that prediction needs beside its weights; see ``sacma.training.deployment``."""

    def stage_1_model() -> Method | None:
        there = (folder.stage(1) / "model.safetensors").is_file()
        return load_model(config.method, folder.stage(1)) if there else None

    stage_1 = distributed.on_main(stage_1_model)
    if stage_1 is not None:
        stage_1.to(method.device)
    return Deployment.of_run(method, stage_1, bias, config, benchmark)


@dataclass(frozen=True)
class _Stages:
    """The training of both stages of one run."""

    config: RunConfig
    benchmark: Benchmark
    folder: RunFolder
    accelerator: Accelerator
    recorder: _Recorder

    def first(self, method: Method | None = None) -> StageSelection:
        """Train on train, choose epoch and bias on validation; a finished stage is only read."""
        if distributed.on_main(self.folder.selection_path.exists):
            return distributed.on_main(self.folder.selection)
        training, validation = self.benchmark.split("train"), self.benchmark.split("val")
        stage = Stage(
            1, training, validation.classes, self.config.training.epochs, validation=validation, select=True
        )
        method, progress = self._train(stage, method)
        best = progress.best
        assert best is not None, "the first epoch is always kept"
        if len(method.bias_outputs()) > 1:
            best, _ = evaluate_method(method, validation, self.config, bias=None)
        choices = method.choices()
        if self.config.protocol.prior == "frozen":
            method, best = fuse(method, training, validation, self.config)
        best = replace(best, warnings=(*best.warnings, *choices))
        selection = StageSelection((progress.best_epoch or 0) + 1, best, progress.learning_rates)
        if distributed.is_main():
            save_model(method, self.folder.stage(1))
            write_json(self.folder.selection_path, selection.to_dict())
        return selection

    def second(self, selection: StageSelection) -> Method:
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
        return self._with_choices_of_stage_1(self._train(stage)[0])

    def biases(self, method: Method, selection: StageSelection) -> list[float] | None:
        """The best biases of episodes, where the run asks for them and the method takes a bias."""
        if self.config.protocol.bias_from == "validation" or not method.searches_bias():
            return None
        return episode_biases(
            self.config,
            self.benchmark.split("train_val"),
            selection,
            accelerator=self.accelerator,
            complete=self._with_choices_of_stage_1,
        )

    def _with_choices_of_stage_1(self, method: Method) -> Method:
        """The method with what stage 1 fixed on validation: buffers, and the weight of a prior."""
        if not method.VALIDATED and self.config.protocol.prior == "none":
            return method

        def fixed() -> tuple[dict[str, Tensor], dict[str, Any]]:
            stage_1 = load_model(self.config.method, self.folder.stage(1))
            chosen = stage_1.chosen() if isinstance(stage_1, Fused) else {}
            state = (stage_1.method if isinstance(stage_1, Fused) else stage_1).state_dict()
            return {name: state[name] for name in method.VALIDATED}, chosen

        buffers, chosen = distributed.on_main(fixed)
        method.take_validated(buffers)
        return fused_from(method, open_prior(method, chosen["kind"]), chosen) if chosen else method

    def _train(self, stage: Stage, method: Method | None = None) -> tuple[Method, StageProgress]:
        self.recorder.stage_begins(stage.number, stage.epochs)
        method = method or build(method_class(self.config.method), stage.training, self.config)
        progress = train_stage(
            method,
            stage,
            config=self.config,
            checkpoint=self.folder.stage(stage.number) / "checkpoint.pt",
            accelerator=self.accelerator,
            reporter=self.recorder,
        )
        return method, progress


class _Recorder(SilentTraining):
    """Passes on the reports of training: to the listener, to metrics.jsonl, to the tracker."""

    def __init__(
        self,
        folder: RunFolder,
        listener: TrainingReporter,
        tracker: Tracker,
        after_epoch: Callable[[EpochRow], None] | None = None,
    ) -> None:
        self.folder, self.listener, self.tracker = folder, listener, tracker
        self.after_epoch = after_epoch

    def stage_begins(self, stage: int, epochs: int) -> None:
        self.listener.stage_begins(stage, epochs)

    def batch_done(self, stage: int, epoch: int, batch: int, terms: Mapping[str, Tensor]) -> None:
        self.listener.batch_done(stage, epoch, batch, terms)

    def epoch_done(self, row: EpochRow) -> None:
        if not distributed.is_main():
            return
        self.folder.add_metrics(row)
        self.listener.epoch_done(row)
        self.tracker.epoch(row)
        if self.after_epoch is not None:
            self.after_epoch(row)

    def continued(self, stage: int, epoch: int) -> None:
        if not distributed.is_main():
            return
        self.folder.forget_metrics_after(stage, epoch)
        self.listener.continued(stage, epoch)


def _accelerator(config: RunConfig, folder: Path) -> Accelerator:
    training = config.training
    precision.check(training)
    tracker = None if training.tracker == "none" else training.tracker
    check_tracker(training.tracker)
    AcceleratorState._reset_state()  # else a run after one of other precision in this process is refused
    return Accelerator(
        cpu=distributed.on_cpu(training),
        mixed_precision="bf16" if training.precision == "bfloat16" else "no",
        log_with=tracker,
        project_dir=str(folder) if tracker else None,
    )


def _result(
    config: RunConfig, benchmark: Benchmark, selection: StageSelection, test: GZSLResult
) -> RunResult:
    data = config.data
    return RunResult(
        benchmark=data.benchmark,
        features=data.features,
        feature_scaling=config.model["feature_scaling"],
        split=data.split,
        text=benchmark.text_source,
        text_alignment=data.text_alignment,
        method=config.method,
        variant=config.variant,
        preset=config.preset,
        seed=config.seed,
        bias_search=config.protocol.bias_search,
        epochs=selection.epochs,
        validation=selection.validation,
        test=test,
    )
