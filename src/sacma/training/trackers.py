"""Trackers of experiments: TensorBoard, Weights & Biases and MLflow, through Accelerate.

A tracker is told the options, each epoch, and the figures on test. What it needs beyond its name, such as
a project or a server, it reads from its own environment variables (``WANDB_*``, ``MLFLOW_*``). A tracker that
fails in the middle of a run is dropped with a note: a run does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sacma.errors import SacmaError, one_line, requires
from sacma.metrics.gzsl import MEASURES, GZSLResult
from sacma.progress import EpochRow
from sacma.runs.config import RunConfig
from sacma.runs.folder import RunFolder

PROJECT = "sacma"
_MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker:
    """The tracker of a run; it does nothing where the run asks for none.

    Args:
        accelerator: made with ``log_with`` of the run's option ``tracker``.
        config: of the run.
        folder: of the run.
        say: told in one line where the tracker fails later on.

    Raises:
        SacmaError: the tracker is not installed or cannot start.
    """

    def __init__(
        self, accelerator: Accelerator, config: RunConfig, folder: RunFolder, say: Callable[[str], None]
    ) -> None:
        self.accelerator, self.say, self.name = accelerator, say, config.training.tracker
        self._broken = self.name == "none"
        if self._broken:
            return
        options = {name: value for name, value in config.options().items() if value is not None}
        own: dict[str, dict[str, Any]] = {
            "wandb": {"wandb": {"name": _name(folder.path), "dir": str(folder.path)}},
            "mlflow": {"mlflow": {"run_name": _name(folder.path)}},
        }
        project = "trackers" if self.name == "tensorboard" else PROJECT
        try:
            accelerator.init_trackers(
                project,
                config=None if self.name == "tensorboard" else options,
                init_kwargs=own.get(self.name, {}),
            )
        except Exception as error:  # as many kinds as there are trackers
            raise SacmaError(
                f"the tracker {self.name} cannot start: {one_line(error, limit=200)}; set it up by its "
                "environment variables, or leave out --tracker"
            ) from error

    def epoch(self, row: EpochRow) -> None:
        """Tell the losses, the learning rate and the validation of an epoch."""
        prefix = f"stage-{row.stage}"
        values = {f"{prefix}/{name}": value for name, value in row.losses.items()}
        values |= {f"{prefix}/loss": row.loss, f"{prefix}/learning_rate": row.learning_rate}
        values |= {f"{prefix}/validation/{name}": value for name, value in (row.validation or {}).items()}
        # Steps of W&B must not go back, and stage 2 begins at 1 again; there the epoch is a value.
        values |= {f"{prefix}/epoch": row.epoch} if self.name == "wandb" else {}
        self._log(values, step=None if self.name == "wandb" else row.epoch)

    def end(self, test: GZSLResult | None = None) -> None:
        """Tell the figures on test, if there are any, and close."""
        if test is not None:
            self._log({f"test/{name}": getattr(test, name) for name in MEASURES}, step=None)
        for one in self.accelerator.trackers:
            self._guarded(one.finish)

    def _log(self, values: Mapping[str, float], step: int | None) -> None:
        self._guarded(lambda: self.accelerator.log(dict(values), step=step))

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            work()
        except Exception as error:
            self._broken = True
            self.say(f"note: the tracker {self.name} failed and is dropped: {one_line(error, limit=200)}")


def _name(run: Path) -> str:
    """The name of a run folder, with the folder above it where the name is that of a seed: ``ale/seed-0``."""
    return f"{run.parent.name}/{run.name}" if run.name.startswith("seed-") else run.name


def check_tracker(name: str) -> None:
    """Make sure that a tracker is installed; Accelerate would leave it out without a word.

    Raises:
        SacmaError: it is not.
    """
    if name in _MODULES:
        with requires(name, f"the tracker {name} is not installed"):
            import_module(_MODULES[name])
