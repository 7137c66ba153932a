"""Trains a method for one stage: class-balanced batches, validation after each epoch, checkpoints, resume."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sacma import distributed
from sacma.data import batches
from sacma.data.batches import trimming_of
from sacma.data.benchmark import Split
from sacma.errors import SacmaError, one_line
from sacma.files import replacing
from sacma.frozen.prior import prior_kind
from sacma.machine import memory
from sacma.metrics.gzsl import MEASURES, GZSLResult
from sacma.models.base import Method
from sacma.models.bounds import COPIES, parameters_within
from sacma.models.transformer import save_memory
from sacma.progress import EpochRow, TrainingReporter
from sacma.runs.config import RunConfig
from sacma.training.checkpoint_state import (
    check_optimiser,
    check_progress,
    check_scheduler,
    check_weights,
)
from sacma.training.evaluation import result_at_best, score
from sacma.types import Batch, ClassSet

if TYPE_CHECKING:
    from accelerate import Accelerator

# Clips whose steps give the statistics of `standardise`: enough for any mean. So many are read at a time.
SCALING_CLIPS, SCALING_AT_ONCE = 20_000, 64
FITTED_AT_ONCE = 512
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.1, 3


@dataclass
class StageProgress:
    """Progress of a stage, kept in a checkpoint besides weights and random states.

    Attributes:
        epoch: epochs done.
        best_epoch: the epoch, from 0, with the largest validation HM; the first of equals.
        best: validation result of that epoch.
        learning_rates: of each epoch, one a parameter group.
    """

    epoch: int = 0
    best_epoch: int | None = None
    best: GZSLResult | None = None
    learning_rates: list[list[float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return vars(self) | {"best": self.best and self.best.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> StageProgress:
        """Read what ``to_dict`` gave."""
        best = plain["best"]
        return cls(**{**plain, "best": None if best is None else GZSLResult.from_dict(best)})


@dataclass(frozen=True)
class Stage:
    """One stage of the protocol.

    Attributes:
        number: 1 or 2.
        training: clips to learn from; all their classes are seen.
        candidates: classes that the next evaluation tells apart, for methods that fit to them.
        epochs: how many at most.
        validation: clips to choose the epoch by; None trains all epochs.
        select: keep the weights of the best epoch; else those of the last.
        learning_rates: of each epoch, to be repeated; None follows the schedule.
    """

    number: int
    training: Split
    candidates: ClassSet
    epochs: int
    validation: Split | None = None
    select: bool = False
    learning_rates: Sequence[Sequence[float]] | None = None


def train_stage(
    method: Method,
    stage: Stage,
    *,
    config: RunConfig,
    checkpoint: Path,
    accelerator: Accelerator,
    reporter: TrainingReporter,
) -> StageProgress:
    """Train ``method`` in place; on return it has the weights of the chosen epoch.

    Args:
        method: freshly initialised.
        stage: what to train on and to choose by.
        config: of the run.
        checkpoint: file that is written now and then, and continued from where it exists.
        accelerator: device and precision.
        reporter: told of every batch and epoch.

    Raises:
        SacmaError: the loss is no longer finite, or the checkpoint cannot be read.
    """
    loop = _Loop(method, stage, config, checkpoint, accelerator)
    if distributed.on_main(checkpoint.exists):
        loop.restore()
    reporter.continued(stage.number, loop.progress.epoch)
    saved = time.monotonic()
    while loop.progress.epoch < stage.epochs:
        loop.epoch(reporter)
        if distributed.from_main(time.monotonic() - saved) >= config.training.checkpoint_seconds:
            loop.save()
            saved = time.monotonic()
    loop.take_chosen_weights()
    return loop.progress


class _Loop:
    """The state of a stage in training."""

    def __init__(
        self, method: Method, stage: Stage, config: RunConfig, checkpoint: Path, accelerator: Accelerator
    ) -> None:
        self.method, self.stage, self.config, self.checkpoint = method, stage, config, checkpoint
        self.accelerator, self.device = accelerator, accelerator.device
        self.progress = StageProgress()
        self.best_weights: dict[str, Tensor] | None = None
        self.generator = torch.Generator().manual_seed(config.seed)
        self.classes = stage.training.classes.to(self.device)
        self.training, self.validation = stage.training, stage.validation
        if not method.temporal:  # average once instead of in every batch
            self.training = self.training.averaged()
            self.validation = self.validation and self.validation.averaged()
        fit_scaling(method, self.training)
        self.training, self.validation = resident(self.training, self.validation, self.device)
        # Only device and precision: its wrapper for several processes knows one loss and one backward pass.
        self.prepared: Method = accelerator.prepare_model(method, evaluation_mode=True)
        optimisers = method.optimisers(config.training)
        distributed.join(method, optimisers, seed=config.seed)
        self.optimisers = [accelerator.prepare(one) for one in optimisers]
        self.schedulers = [
            torch.optim.lr_scheduler.ReduceLROnPlateau(
                one, mode="max", factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
            )
            for one in self.optimisers
            if config.training.schedule == "plateau"
        ]

    def epoch(self, reporter: TrainingReporter) -> None:
        """Train one epoch and validate."""
        number, started = self.progress.epoch, time.monotonic()
        self._set_learning_rates(number)
        rates = self._learning_rates()
        self.method.train()
        sums: dict[str, Tensor] = {}
        for done, batch in enumerate(self._batches(), start=1):
            terms = self.prepared.step(batch.to(self.device), self.classes, self.optimisers)
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value.clone()
            reporter.batch_done(self.stage.number, number + 1, done, terms)
        losses = self._means(sums)
        result = self._validate()
        self._choose(number, result)
        self.progress.learning_rates.append(rates)
        self.progress.epoch = number + 1
        if result is not None and self.stage.learning_rates is None:
            for scheduler in self.schedulers:
                scheduler.step(result.harmonic_mean)
        reporter.epoch_done(
            EpochRow(
                stage=self.stage.number,
                epoch=number + 1,
                learning_rate=rates[0] if rates else 0.0,
                loss=sum(losses.values()),
                losses=losses,
                validation=None if result is None else {name: getattr(result, name) for name in MEASURES},
                seconds=round(time.monotonic() - started, 3),
            )
        )

    def _batches(self) -> Iterator[Batch]:
        """The batches of one epoch; a fresh draw each time, as the generator moves on."""
        config, split = self.config.training, self.training
        rows = batches.class_balanced(
            split.labels,
            batches=config.batches_per_epoch,
            batch_size=config.batch_size,
            generator=self.generator,
        )
        trimming = trimming_of(config, training=True)
        others = (
            batches.other_class(split.labels, rows, self.generator)
            if self.method.needs_negatives
            else [None] * len(rows)
        )
        for chosen, negatives in zip(rows, others, strict=True):
            yield batches.gather(
                split,
                chosen,
                trimming=trimming,
                generator=self.generator,
                negatives=negatives,
                part=distributed.share(len(chosen)),
            )

    def _means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        count = max(self.config.training.batches_per_epoch, 1)
        means = {name: float(value) / count for name, value in distributed.mean_of_all(sums).items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise SacmaError(
                    f"the loss term {name} became {value} in stage {self.stage.number}, epoch "
                    f"{self.progress.epoch + 1}; lower learning_rate or check the features (sacma data check)"
                )
        return means

    def _validate(self) -> GZSLResult | None:
        if self.validation is None:
            return None
        fit(self.method, self.training, self.validation.classes, self.device)
        config = self.config
        calibrate(self.method, self.validation, config)
        scores = score(
            self.method,
            self.validation,
            batch_size=config.training.eval_batch_size,
            trimming=trimming_of(config.training, training=False),
            bfloat16=config.training.precision == "bfloat16",
        )
        return result_at_best(
            scores,
            self.validation,
            bias_search=config.protocol.bias_search,
            calibrated=self.method.calibrated,
        )

    def _choose(self, number: int, result: GZSLResult | None) -> None:
        """Keep the weights of the epoch with the largest HM so far; the first epoch is always kept."""
        best = self.progress.best
        if result is not None and math.isnan(result.harmonic_mean):
            raise SacmaError("validation needs clips of both seen and unseen classes; see class-split/")
        if result is None or (best is not None and result.harmonic_mean <= best.harmonic_mean):
            return
        self.progress.best_epoch, self.progress.best = number, result
        if self.stage.select:
            self.best_weights = {k: v.detach().cpu().clone() for k, v in self.method.state_dict().items()}

    def take_chosen_weights(self) -> None:
        """Give the method the weights of the best epoch, or fit the last ones to the candidates."""
        if self.stage.select and self.best_weights is not None:
            self.method.load_state_dict(self.best_weights)
        elif not self.stage.select:
            fit(self.method, self.training, self.stage.candidates, self.device)

    def _learning_rates(self) -> list[float]:
        return [group["lr"] for one in self.optimisers for group in one.param_groups]

    def _set_learning_rates(self, epoch: int) -> None:
        if self.stage.learning_rates is not None:
            groups = [group for one in self.optimisers for group in one.param_groups]
            for group, rate in zip(groups, self.stage.learning_rates[epoch], strict=True):
                group["lr"] = rate

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "progress": self.progress.to_dict(),
            "method": self.method.state_dict(),
            "best_weights": self.best_weights,
            "optimisers": [one.state_dict() for one in self.optimisers],
            "schedulers": [one.state_dict() for one in self.schedulers],
            "generator": self.generator.get_state(),
            "random": distributed.from_all([distributed.random_state()]),  # one a process
        }
        distributed.on_main(lambda: self._write(state))

    def _write(self, state: dict[str, Any]) -> None:
        try:
            with replacing(self.checkpoint) as partial:
                torch.save(state, partial)
        except RuntimeError as error:  # what torch makes of a full disk
            detail = str(error).splitlines()[0]
            raise SacmaError(f"cannot write {self.checkpoint}: {detail}; free some space") from error

    def restore(self) -> None:
        """Continue from the checkpoint."""
        state = distributed.on_main(self._read)
        if not distributed.is_main():
            self._set_state(state)

    def _read(self) -> Any:
        """The state in the checkpoint, taken over."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch wonders about files that it refuses just after
                state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self._set_state(state)
            return state
        # What is wrong in a damaged file may come to light as almost any exception.
        except Exception as error:
            detail = one_line(error, limit=200) or type(error).__name__
            raise SacmaError(
                f"cannot continue from the checkpoint {self.checkpoint}: {detail}; delete it to start this "
                "stage again"
            ) from error

    def _set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise TypeError(f"it holds {type(state).__name__}, not the state of a stage")
        check_progress(state["progress"], epochs=self.stage.epochs)
        self.progress = StageProgress.from_dict(state["progress"])
        own = self.method.state_dict()
        check_weights(state["method"], own)
        self.method.load_state_dict(state["method"])
        if state["best_weights"] is not None:
            check_weights(state["best_weights"], own)
        self.best_weights = state["best_weights"]
        for one, saved in zip(self.optimisers, state["optimisers"], strict=True):
            parameters = [parameter for group in one.param_groups for parameter in group["params"]]
            one.load_state_dict(check_optimiser(saved, one.state_dict(), parameters))
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            check_scheduler(saved, scheduler.state_dict())
            scheduler.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        if len(state["random"]) != distributed.processes():
            before, now = len(state["random"]), distributed.processes()
            raise ValueError(f"the number of processes was {before} and is now {now}, start as many again")
        distributed.set_random_state(state["random"][distributed.position()])


def build(method: type[Method], split: Split, config: RunConfig) -> Method:
    """A freshly initialised method for the features of ``split``; the same one for the same seed.

    Raises:
        SacmaError: the hyperparameters do not go together, or ask for more memory than there is; or the run
            has a prior, whose features and class vectors are of different spaces.
    """
    from accelerate.utils import set_seed  # not for prediction, which imports this module, too

    set_seed(config.seed)
    try:
        with parameters_within(memory() // COPIES):
            built = method(
                audio_width=split.features.audio.width,
                video_width=split.features.video.width,
                text_width=split.classes.vectors.shape[1],
                **config.model,
            )
    except (RuntimeError, ValueError, MemoryError) as error:
        detail = next(iter(str(error).splitlines()), type(error).__name__)
        raise SacmaError(f"cannot build {config.method} with these hyperparameters: {detail}") from error
    if config.training.save_memory:
        save_memory(built)
    if config.protocol.prior == "frozen":
        prior_kind_of(split)  # known before training
    return built


def prior_kind_of(split: Split) -> str:
    """The kind of frozen score that the features of a split have.

    Raises:
        SacmaError: they have none.
    """
    features = split.features
    return prior_kind(
        features.provenance,
        audio_width=features.audio.width,
        video_width=features.video.width,
        text_width=split.classes.vectors.shape[1],
    )


def resident(training: Split, validation: Split | None, device: torch.device) -> tuple[Split, Split | None]:
    """The same splits with their features in the memory of the GPU, where half of what is free holds them."""
    if device.type != "cuda":
        return training, validation
    splits = [split for split in (training, validation) if split is not None]
    kept = {id(split.features): split.features for split in splits}
    size = sum(track.values.nbytes for one in kept.values() for track in (one.audio, one.video))
    if size > torch.cuda.mem_get_info(device)[0] // 2:
        return training, validation
    moved = {
        key: replace(one, audio=one.audio.to(device), video=one.video.to(device)) for key, one in kept.items()
    }
    first, *rest = (replace(split, features=moved[id(split.features)]) for split in splits)
    return first, rest[0] if rest else None


def fit_scaling(method: Method, training: Split) -> None:
    """Give the method the statistics of the training clips, evenly spaced ones where there are very many."""
    if method.config.feature_scaling != "standardise":
        return
    stride = max(1, -(-len(training) // SCALING_CLIPS))
    parts = training.clips[::stride].split(SCALING_AT_ONCE)
    audio, video = training.features.audio, training.features.video
    method.fit_scaling(
        (audio.gather(clips).values for clips in parts), (video.gather(clips).values for clips in parts)
    )


def fit(method: Method, training: Split, candidates: ClassSet, device: torch.device) -> None:
    """Let a method with a closed form or a classifier fit it to the training clips and the candidates."""
    if not method.needs_fit:
        return
    position = {name: index for index, name in enumerate(candidates.names)}
    # A class may have training clips and none held back to validate with: it is no candidate then.
    own = torch.tensor([position.get(name, -1) for name in training.classes.names])
    rows = (own[training.labels] >= 0).nonzero().squeeze(1)
    clips = (batches.gather(training, some, device=device) for some in rows.split(FITTED_AT_ONCE))
    relabelled = (replace(batch, labels=own.to(device)[batch.labels]) for batch in clips)
    with distributed.same_random_numbers():
        method.fit(relabelled, candidates.to(device))


def calibrate(method: Method, validation: Split, config: RunConfig) -> None:
    """Let a method fix what it takes from validation clips, in evaluation mode."""
    if not method.VALIDATED:
        return
    trimming, device = trimming_of(config.training, training=False), method.device
    rows = torch.arange(len(validation)).split(config.training.eval_batch_size)
    clips = (batches.gather(validation, some, trimming=trimming, device=device) for some in rows)
    training = method.training
    method.eval()
    method.calibrate(clips, validation.classes.to(device))
    method.train(training)
