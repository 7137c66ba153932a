"""Reports of long work to the person who waits for it.

Modules that compute know no screen. They take a ``Reporter`` and tell it what happens; ``SILENT``, the
default, ignores everything. The command line passes one that draws bars and prints lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from sacma.errors import SacmaError, printable
from sacma.files import are_numbers, is_number

if TYPE_CHECKING:  # for annotations alone; libraries are asked without torch
    from torch import Tensor

OnProgress = Callable[[int, int], None]
"""Called with the pieces of work that are done and with their total number."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One epoch of training, as a line of metrics.jsonl keeps it.

    Attributes:
        stage: 1 or 2.
        epoch: number of the epoch, from 1.
        learning_rate: of the first parameter group; 0.0 for methods without an optimiser.
        loss: sum of the loss terms, each a mean over the batches.
        losses: loss terms by name.
        validation: name of a measure -> its value as a fraction; None where nothing is validated.
        seconds: time that the epoch took.
    """

    stage: int
    epoch: int
    learning_rate: float
    loss: float
    losses: Mapping[str, float]
    validation: Mapping[str, float] | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: object) -> EpochRow:
        """Read what ``to_dict`` gave.

        Raises:
            SacmaError: a field is missing, unknown or of another type; it is named.
        """
        if not isinstance(plain, dict) or not all(isinstance(name, str) for name in plain):
            raise SacmaError("a row is not an object with fields")
        for name in sorted(_FIELDS.keys() | plain.keys()):
            if name not in _FIELDS or name not in plain or not _FIELDS[name](plain[name]):
                raise SacmaError(f"field {printable(name)} of a row is not as training writes it")
        return cls(**plain)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "stage": _is_count,
    "epoch": _is_count,
    "learning_rate": is_number,
    "loss": is_number,
    "losses": are_numbers,
    "validation": lambda value: value is None or are_numbers(value),
    "seconds": is_number,
}


class TrainingReporter(Protocol):
    """Listener to the training of one run. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def stage_begins(self, stage: int, epochs: int) -> None:
        """A stage of at most so many epochs begins."""

    def batch_done(self, stage: int, epoch: int, batch: int, terms: Mapping[str, Tensor]) -> None:
        """A batch was trained on; ``terms`` may still be computing on the device."""

    def epoch_done(self, row: EpochRow) -> None:
        """An epoch is over."""

    def continued(self, stage: int, epoch: int) -> None:
        """A checkpoint after so many epochs was loaded; reports of later epochs are void."""


class Reporter(Protocol):
    """Listener to long work."""

    def say(self, line: str) -> None:
        """One line of text for the person who waits."""

    def counting(self, title: str) -> AbstractContextManager[OnProgress]:
        """Progress of countable work; call what the context gives with the pieces done and their total."""

    def training(self, *, batches_per_epoch: int) -> AbstractContextManager[TrainingReporter]:
        """Progress of one run."""


class SilentTraining:
    """A ``TrainingReporter`` that ignores everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage_begins(self, stage: int, epochs: int) -> None:
        pass

    def batch_done(self, stage: int, epoch: int, batch: int, terms: Mapping[str, Tensor]) -> None:
        pass

    def epoch_done(self, row: EpochRow) -> None:
        pass

    def continued(self, stage: int, epoch: int) -> None:
        pass


class Silent:
    """A ``Reporter`` that ignores everything."""

    def say(self, line: str) -> None:
        pass

    def counting(self, title: str) -> AbstractContextManager[OnProgress]:
        return nullcontext(lambda done, total: None)

    def training(self, *, batches_per_epoch: int) -> AbstractContextManager[TrainingReporter]:
        return SilentTraining()


SILENT: Reporter = Silent()
