"""Reads checkpoints that others wrote with ``torch.save``, without running anything in them.

A checkpoint is a pickle of a dictionary with the keys ``model`` (a state dict), ``epoch``, ``optimizer`` and
``metric``, or of a state dict alone. It is read with torch's ``weights_only``.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.errors import SacmaError, printable


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a released checkpoint that are used.

    Attributes:
        path: the file.
        state: the weights, under the names of the released code.
        epoch: how many epochs they had seen, where the file says so.
    """

    path: Path
    state: dict[str, Tensor]
    epoch: int | None


class _Unread:
    """Stands in for a numpy number or array among the metadata: nobody asks for it, so numpy is not run."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# A numpy scalar or array in a pickle, as numpy 1 and 2 write them; the only names besides torch's own.
HARMLESS = (
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
)
MOST_EPOCHS = 100_000


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running anything in it.

    Raises:
        SacmaError: the file is missing, damaged, no checkpoint, or asks for a type that is not plain data.
    """
    content = _load(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise SacmaError(
            f"{path} holds no weights; expected a dictionary with the key 'model', or a state dict itself"
        )
    for key, value in state.items():
        _check(path, key, value)
    epoch = content.get("epoch")
    known = type(epoch) is int and 1 <= epoch <= MOST_EPOCHS
    tensors = {key: value.detach() for key, value in state.items()}
    return Checkpoint(path, tensors, epoch if known else None)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise SacmaError(f"no checkpoint file {path}")
    try:
        allowed = torch.serialization.safe_globals([(_Unread, name) for name in HARMLESS])
        with allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces changes to come in its old formats
            return torch.load(path, map_location="cpu", weights_only=True)
    # What is wrong in a damaged file may come to light as almost any exception.
    except Exception as error:
        text = str(error)
        if asked := re.search(r"GLOBAL (\S+)", text):
            raise SacmaError(
                f"{path} was refused: it asks for {asked[1]}, but only tensors, numbers and text are read; "
                "save it again as {'model': model.state_dict()}"
            ) from error
        detail = (text.strip().splitlines() or [type(error).__name__])[0]
        raise SacmaError(f"{path} is not a readable torch checkpoint: {detail[:200]}") from error


def _check(path: Path, key: object, value: object) -> None:
    """Refuse what is no weight, and tensors larger than what the file stores of them."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        raise SacmaError(
            f"{path}: {printable(key)} is a {type(value).__name__}; a state dict has tensors by name"
        )
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain or value.nbytes > value.untyped_storage().nbytes():
        raise SacmaError(f"{path}: {key} is not a plain tensor; save it again from a model on the CPU")
    if value.is_complex() or not bool(torch.isfinite(value).all()):
        raise SacmaError(f"{path}: {key} has values that are not finite numbers; the training had diverged")
