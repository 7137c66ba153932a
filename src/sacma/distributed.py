"""Training of one run by several processes.

``torchrun`` or ``accelerate launch`` starts them. Each has an equal share of a batch, and the loss of the run
is the mean of the processes' losses, so gradients are averaged before an optimiser steps. Computations that
couple the clips of a batch see the whole batch: batch statistics (``SharedBatchNorm``) and terms that compare
clips with each other (``gathered``). Losses, gradients and statistics are then those of one process with the
whole batch. Only the random numbers of dropout differ between processes.

With a single process all of this does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sacma.errors import SacmaError, one_line
from sacma.options import TrainingConfig

T = TypeVar("T")

MAIN = 0
USER_ERROR = 2
_ADVICE = "start the processes again with train --resume RUN to go on from the last checkpoint"


def start(config: TrainingConfig) -> None:
    """Connect the processes of a launcher; do nothing without a launcher.

    Raises:
        SacmaError: a batch cannot be divided equally, or the others cannot be reached.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    from accelerate import PartialState

    with _in_contact():
        PartialState(cpu=on_cpu(config))
    if processes() > 1:
        signal.signal(signal.SIGTERM, _stopped)
        on_main(lambda: share(config.batch_size))


def on_cpu(config: TrainingConfig) -> bool:
    """True where Accelerate must be told to stay on the CPU; else it would not connect under a launcher."""
    launched = "LOCAL_RANK" in os.environ
    return config.device == "cpu" or (launched and not torch.cuda.is_available())


def stop() -> None:
    """Disconnect from the other processes, at the end of the work."""
    if _started():
        distributed.destroy_process_group()


def _stopped(*_: object) -> None:
    raise SacmaError(f"process {position()} of {processes()} was told to stop; {_ADVICE}")


def processes() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _started() else 1


def position() -> int:
    """Rank of this process, from 0; 0 is the main process, which writes files and prints."""
    return distributed.get_rank() if _started() else MAIN


def is_main() -> bool:
    """True for the process that writes files and prints."""
    return position() == MAIN


def share(clips: int) -> slice:
    """Slice of a batch of ``clips`` clips that belongs to this process.

    Raises:
        SacmaError: the batch cannot be divided equally.
    """
    if clips % processes():
        raise SacmaError(
            f"batch_size is {clips}, which {processes()} processes cannot share equally; choose a multiple"
        )
    own = clips // processes()
    return slice(position() * own, (position() + 1) * own)


def own(items: Sequence[T]) -> Sequence[T]:
    """The part of a list that belongs to this process; parts follow the order of the processes."""
    first, last = (len(items) * place // processes() for place in (position(), position() + 1))
    return items[first:last]


# --- Computations over the clips of a whole batch -------------------------------------------------


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradient of a row is the sum over the processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        return _stacked(rows).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        with _in_contact():
            distributed.all_reduce(gradient)
        return gradient[position() * ctx.rows :][: ctx.rows]


def gathered(rows: Tensor) -> Tensor:
    """Collect the rows of all processes, (B, ...) -> (processes * B, ...), differentiably.

    The rows are in the order of the batch.
    """
    if processes() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def gathered_by_name(embeddings: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """``gathered`` for several (B, D) embeddings, in one message."""
    if processes() == 1:
        return embeddings
    widths = [rows.shape[1] for rows in embeddings.values()]
    everyone = gathered(torch.cat(list(embeddings.values()), dim=1)).split(widths, dim=1)
    return dict(zip(embeddings, everyone, strict=True))


class _Normalise(torch.autograd.Function):
    """Batch normalisation with the mean and variance over the rows of all processes.

    Each process sends its number of rows, their mean and their squared deviations from it, so that a large
    mean costs no digits. There is one message in forward and one in backward.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, norm: SharedBatchNorm) -> Tensor:
        values = rows.to(weight.dtype)
        count = values.new_full((1,), len(values))
        mean = values.sum(0) / count.clamp(min=1)
        stated = torch.cat([mean, (values - mean).square().sum(0), count])
        means, squares, counts = _stacked(stated).split([len(mean), len(mean), 1], dim=1)  # (W, D), (W, 1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total.clamp(min=1)
        square = (squares + counts * (means - mean).square()).sum(0)
        # A single row has no variance: normalise it as in evaluation and keep the statistics.
        enough = total > 1
        norm.follow(mean, square / (total - 1).clamp(min=1), enough)
        mean = torch.where(enough, mean, norm.running_mean)
        variance = torch.where(enough, square / total.clamp(min=1), norm.running_var)
        scale = (variance + norm.eps).rsqrt()
        ctx.save_for_backward(rows, weight, mean, scale, enough / total.clamp(min=1))
        return torch.addcmul(bias, values - mean, weight * scale).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, weight, mean, scale, per_row = ctx.saved_tensors
        gradient = gradients[0].to(weight.dtype)
        normed = (rows.to(weight.dtype) - mean) * scale
        own = torch.stack([(gradient * normed).sum(0), gradient.sum(0)])  # of weight and bias
        whole = own.clone()
        with _in_contact():
            distributed.all_reduce(whole)
        of_weight, of_bias = whole * per_row
        of_rows = weight * scale * (gradient - of_bias - normed * of_weight)
        return of_rows.to(rows.dtype), own[0], own[1], None


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the batches of all processes; ``nn.SyncBatchNorm`` works on GPUs alone."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    @classmethod
    def replacing(cls, norm: nn.BatchNorm1d) -> SharedBatchNorm:
        """A layer with the same parameters and buffers: optimisers that hold them need no change."""
        shared = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(shared, name, getattr(norm, name))
        return shared.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """(N, D) -> (N, D); N may differ between processes and be 0."""
        if not self.training or _same_rows.get():
            return super().forward(input)
        normed: Tensor = _Normalise.apply(input, self.weight, self.bias, self)
        return normed

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, enough: Tensor) -> None:
        """Move the running statistics towards those of a batch, if it had enough rows."""
        momentum = self.momentum * enough.to(mean.dtype)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        self.num_batches_tracked += enough


_same_rows = ContextVar("_same_rows", default=False)


@contextmanager
def same_rows() -> Iterator[None]:
    """Normalise by this process's rows alone: every process has the same ones, such as all class vectors."""
    token = _same_rows.set(True)
    try:
        yield
    finally:
        _same_rows.reset(token)


def join(method: nn.Module, optimisers: list[torch.optim.Optimizer], *, seed: int) -> None:
    """Keep the processes' copies of a method equal: same weights, shared statistics, averaged gradients.

    Each ``BatchNorm1d`` within the method is replaced by a ``SharedBatchNorm`` with the same parameters.

    Args:
        method: on its device.
        optimisers: of its parameters.
        seed: of the run; the random numbers of dropout differ between the processes.
    """
    if processes() == 1:
        return
    _share_statistics(method)
    with _in_contact():
        for value in filter(torch.numel, method.state_dict().values()):
            distributed.broadcast(value, MAIN)
    for optimiser in optimisers:
        optimiser.register_step_pre_hook(_average_gradients)
    if not is_main():
        torch.manual_seed(seed * processes() + position())


def _share_statistics(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            setattr(module, name, SharedBatchNorm.replacing(child))
        else:
            _share_statistics(child)


def _average_gradients(optimiser: torch.optim.Optimizer, *_: object) -> None:
    gradients = [
        parameter.grad
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    if not gradients:
        return
    flat = parameters_to_vector(gradients)
    with _in_contact():
        distributed.all_reduce(flat)
    vector_to_parameters(flat / processes(), gradients)


# --- Messages between the processes ---------------------------------------------------------------


def mean_of_all(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Average scalars by name over the processes."""
    if processes() == 1 or not values:
        return values
    flat = torch.stack(list(values.values()))
    with _in_contact():
        distributed.all_reduce(flat)
    return dict(zip(values, flat / processes(), strict=True))


def from_all(items: list[T]) -> list[T]:
    """Give every process the items of all processes, in the order of the processes."""
    if processes() == 1:
        return items
    lists: list[Any] = [None] * processes()
    with _in_contact():
        distributed.all_gather_object(lists, items)
    return [item for one in lists for item in one]


def from_main(value: T) -> T:
    """The main process's value, in every process."""
    if processes() == 1:
        return value
    box = [value]
    with _in_contact():
        distributed.broadcast_object_list(box, MAIN)
    return box[0]


def on_main(work: Callable[[], T]) -> T:
    """Run ``work`` in the main process alone and give all processes its result.

    Raises:
        Exception: from ``work``, in the main process; the others exit, as the main process reports it.
    """
    if processes() == 1:
        return work()
    failure: Exception | None = None
    result: Any = None
    if is_main():
        try:
            result = work()
        except Exception as error:
            failure = error
    failed, result = from_main((failure is not None, result))
    if failure is not None:
        raise failure
    if failed:
        raise SystemExit(USER_ERROR)
    return result


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Draw the random numbers of the main process in all; the others then return to their own state."""
    if processes() == 1:
        yield
        return
    with torch.random.fork_rng(enabled=not is_main()):
        set_random_state(from_main(random_state()))
        yield


def random_state() -> list[Tensor]:
    """State of torch's random numbers, on the CPU and on this process's GPU if it has one."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if cuda else [])]


def set_random_state(state: list[Tensor]) -> None:
    """Restore a state from ``random_state``."""
    torch.set_rng_state(state[0])
    for cuda in state[1:]:
        torch.cuda.set_rng_state(cuda)


def _started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _stacked(values: Tensor) -> Tensor:
    """(processes, ...): the tensors of all processes, which have one shape."""
    everyone = values.new_empty(processes(), *values.shape)
    with _in_contact():
        distributed.all_gather(list(everyone.unbind()), values.contiguous())
    return everyone


@contextmanager
def _in_contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        detail = one_line(error).rpartition("] ")[2][:120]  # gloo names a line of its source
        raise SacmaError(
            f"process {position()} of {processes()} has lost another one, which failed or was killed "
            f"({detail}); {_ADVICE}"
        ) from error
