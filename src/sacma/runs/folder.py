"""The run folder: its files, each written whole or not at all, and read back.

config.yaml            every option, spelled out
environment.json       versions and machine
method.json            where the method came from, if from outside of sacma
metrics.jsonl          one line an epoch
stage-1/ stage-2/      checkpoints while training; stage 1 keeps its chosen weights and what it chose
model.safetensors      final weights, with config.json
prior.json             the weight of the frozen score, with --prior frozen; stage-1/ has one too
bias.json              the biases of the episodes, with --bias-from episodes
predictions.parquet    one row a test clip
result.json            the figures; it comes last, so a run is finished exactly when it is there
result-OUTPUT.json     the figures with another embedding that scores (Table 7), where asked for
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file

from sacma import distributed
from sacma.errors import SacmaError, one_line
from sacma.files import (
    MOST_TABLE,
    parse_json,
    read_json,
    read_text,
    remove,
    replacing,
    write_json,
    write_text,
)
from sacma.frozen.prior import open_prior
from sacma.models.base import Method
from sacma.models.bounds import parameters_within
from sacma.models.fused import Fused, fused_from
from sacma.models.lookup import ORIGIN, method_class, recall_method, remember_origin
from sacma.progress import EpochRow
from sacma.runs.config import LATER, RunConfig, checked_hyperparameters, load_options, resolve
from sacma.runs.records import RunResult, StageSelection
from sacma.version import __version__

PRIOR = "prior.json"
BIASES = "bias.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths and contents of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: RunConfig, *, force: bool = False) -> RunFolder:
        """Start a run in a new folder; of several processes that train together the main one does it.

        Raises:
            SacmaError: the folder holds something already and ``force`` is off.
        """
        folder = cls(path)
        distributed.on_main(lambda: folder._start(config, force=force))
        return folder

    def _start(self, config: RunConfig, *, force: bool) -> None:
        path = self.path
        if path.exists() and (not path.is_dir() or not _is_fresh(path)):
            if not (path / "config.yaml").exists():
                raise SacmaError(f"{path} exists and is not a run folder; choose another --out")
            if not force:
                state = "holds a finished run" if self.finished else "holds an unfinished run"
                advice = "" if self.finished else f", continue it with --resume {path}"
                raise SacmaError(f"{path} {state}; choose another --out{advice}, or overwrite with --force")
            with self.locked():
                remove(path)
        write_json(path / "environment.json", environment())
        remember_origin(config.method, path)
        config.save(path / "config.yaml")  # from here on it is a run

    @classmethod
    def open(cls, path: Path, *, finished: bool = False, config: RunConfig | None = None) -> RunFolder:
        """An existing run.

        Args:
            path: its folder.
            finished: it must be finished.
            config: the options that it must have been started with; None for any.

        Raises:
            SacmaError: not a run folder, or not the run that is asked for.
        """
        folder = cls(path)
        if not (path / "config.yaml").is_file():
            raise SacmaError(f"{path} is not a run folder: it has no config.yaml")
        if finished and not folder.finished:
            raise SacmaError(f"the run {path} is not finished; continue it with sacma train --resume {path}")
        if config is not None and folder.config() != config:
            raise SacmaError(f"{path} is a run with other options; choose another --out or remove it")
        return folder

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder, and clear away what a killed one had half written.

        Raises:
            SacmaError: another process works in the folder.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SacmaError(f"another process is at work in {self.path}; wait for it or stop it") from error
        try:
            for folder in (self.path, self.stage(1), self.stage(2)):
                for path in filter(_is_partial, folder.iterdir() if folder.is_dir() else ()):
                    remove(path)
            yield
        finally:
            remove(self.path / ".lock")
            lock.release()

    def config(self) -> RunConfig:
        """The configuration that the run was started with.

        Raises:
            SacmaError: the file is damaged, or lacks an option.
        """
        path = self.path / "config.yaml"
        options = load_options(path)
        recall_method(str(options.get("method")), self.path)
        try:
            config = resolve(options)
        except SacmaError as error:
            raise SacmaError(f"{path}: {error}") from error
        # Not to be filled in with a default: the run was made with some other value.
        if missing := config.options().keys() - options.keys() - LATER.keys():
            raise SacmaError(f"{path} lacks {', '.join(sorted(missing))}; get the file again or add the line")
        return config

    def result_path(self, output: str = "") -> Path:
        return self.path / (f"result-{output}.json" if output else "result.json")

    def result(self, output: str = "") -> RunResult:
        """The content of result.json, or of result-OUTPUT.json.

        Raises:
            SacmaError: the file is missing or damaged.
        """
        return RunResult.read(self.result_path(output))

    @property
    def selection_path(self) -> Path:
        return self.stage(1) / "selection.json"

    def test_bias(self) -> float:
        """The bias on test: the mean of those of the episodes, else that of stage 1's validation.

        Raises:
            SacmaError: a file is missing or damaged.
        """
        path = self.path / BIASES
        if not path.is_file():
            return self.selection().validation.bias
        biases = read_json(path).get("biases")
        if not isinstance(biases, list) or not biases or not all(type(one) is float for one in biases):
            raise SacmaError(f"{path} is damaged: biases is not a list of numbers; train again with --force")
        return statistics.fmean(biases)

    def selection(self) -> StageSelection:
        """The choice of stage 1.

        Raises:
            SacmaError: the file is missing or damaged.
        """
        return StageSelection.read(self.selection_path)

    def stage(self, number: int) -> Path:
        return self.path / f"stage-{number}"

    def add_metrics(self, row: EpochRow) -> None:
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row.to_dict()) + "\n")
        except OSError as error:
            raise SacmaError(f"cannot write {path}: {error.strerror or error}; free some space") from error

    def metrics(self) -> list[EpochRow]:
        """The rows of metrics.jsonl; a last line that a kill cut short is left out.

        Raises:
            SacmaError: the file is damaged.
        """
        path = self.path / "metrics.jsonl"
        advice = "remove it, the run can do without"
        try:
            lines = read_text(path, limit=MOST_TABLE).splitlines(keepends=True) if path.exists() else []
            rows = [parse_json(line, "a line") for line in lines if line.endswith("\n")]
        except SacmaError as error:
            raise SacmaError(f"{path} is damaged: {error}; {advice}") from error
        try:
            return [EpochRow.from_dict(row) for row in rows]
        except SacmaError as error:
            raise SacmaError(f"{path} is damaged: {error}; {advice}") from error

    def forget_metrics_after(self, stage: int, epoch: int) -> None:
        """Drop the rows of epochs that a resumed run trains again."""
        kept = [row for row in self.metrics() if (row.stage, row.epoch) <= (stage, epoch)]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row.to_dict()) + "\n" for row in kept))

    def write_predictions(self, columns: Mapping[str, Iterable[Any]]) -> None:
        from sacma.runs import predictions

        predictions.write(self.path / "predictions.parquet", columns)

    def predictions(self) -> dict[str, list[Any]]:
        """The columns of predictions.parquet, see ``training.scoring.predictions``.

        Raises:
            SacmaError: the file is missing or damaged, or a column is missing or of another type.
        """
        from sacma.runs import predictions

        return predictions.read(self.path / "predictions.parquet")


def _is_partial(path: Path) -> bool:
    """True for a partial file that a killed process left behind."""
    return path.name.startswith(".") and path.suffix == ".partial"


def _is_fresh(folder: Path) -> bool:
    """True for a folder that is empty, or holds only the rests of a process killed before its run began."""
    left = (".lock", "environment.json", ORIGIN)
    return all(_is_partial(path) or path.name in left for path in folder.iterdir())


def environment() -> dict[str, Any]:
    """Versions and machine, for the record; no result depends on reading it."""
    packages = ("torch", "numpy", "accelerate", "safetensors")
    return {
        "sacma": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": distributed.processes(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: version(name) for name in packages},
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save_model(method: Method, folder: Path) -> None:
    """Write model.safetensors and config.json, each whole or not at all.

    Raises:
        SacmaError: the disk is full or the folder cannot be written to.
    """
    if isinstance(method, Fused):
        save_model(method.method, folder)
        write_json(folder / PRIOR, method.chosen())
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".model.", suffix=".partial") as temporary:
            method.save_pretrained(temporary)
            for name in ("config.json", "model.safetensors"):
                with replacing(folder / name) as partial:
                    shutil.copyfile(Path(temporary) / name, partial)  # with the mode of any new file
    except (OSError, SafetensorError) as error:
        raise SacmaError(f"cannot write the model to {folder}: {error}; free some space") from error


_SLACK = 64 << 20
"""Bytes by which a network may exceed twice its file, which may have half precision or shared values once."""


def load_model(name: str, folder: str | Path) -> Method:
    """Read the weights of a method back, without running anything in them.

    Raises:
        SacmaError: a file is missing or damaged, or belongs to another method.
    """
    folder = Path(folder)
    recall_method(name, folder)
    config = read_json(folder / "config.json")
    try:
        of = method_class(name).for_saved(config)
        size = (folder / "model.safetensors").stat().st_size
        with parameters_within(2 * size + _SLACK):  # before the weights are looked at
            method = of(**checked_hyperparameters(of, config))
        weights = load_file(folder / "model.safetensors")
        method.load_state_dict(weights)
    except (OSError, SafetensorError) as error:
        raise SacmaError(f"cannot read {folder / 'model.safetensors'}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        detail = one_line(error)[:200]
        raise SacmaError(f"the weights in {folder} are not those of {name}: {detail}") from error
    except SacmaError as error:
        raise SacmaError(f"{folder / 'config.json'}: {error}") from error
    prior = folder / PRIOR
    if prior.is_file():
        chosen = read_json(prior)
        return fused_from(method, open_prior(method, str(chosen.get("kind"))), chosen)
    return method.eval()
