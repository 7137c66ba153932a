"""Checks of the state in a checkpoint before a loop takes it over.

A fused optimiser reads beyond its memory where a moment has another shape than its parameter, and a count of
epochs of another type fails long after the checkpoint was read. So all of it is compared with the state of
the loop that is about to take it over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def check_progress(plain: Any, *, epochs: int) -> None:
    """Check the progress of a stage.

    Args:
        plain: as ``StageProgress.to_dict`` gives it.
        epochs: of the stage, at most.

    Raises:
        ValueError: a field is of another type or out of range.
    """
    fields = {"epoch", "best_epoch", "best", "learning_rates"}
    if not isinstance(plain, dict) or plain.keys() != fields:
        raise ValueError("its progress has other fields")
    epoch, best, rates = plain["epoch"], plain["best_epoch"], plain["learning_rates"]
    if not _is_count(epoch) or epoch > epochs:
        raise ValueError(f"its epoch is no whole number up to {epochs}")
    if (best is None) != (plain["best"] is None) or not (best is None or (_is_count(best) and best < epoch)):
        raise ValueError("its best epoch is none of those done")
    if not isinstance(rates, list) or len(rates) != epoch or not all(map(_are_rates, rates)):
        raise ValueError("its learning rates are not numbers, a list of them for each epoch")


def check_weights(weights: Any, own: Mapping[str, Any]) -> None:
    """Check weights against the state of a method, by name and shape.

    Raises:
        ValueError: they are not those of this method.
    """
    if not isinstance(weights, dict) or weights.keys() != own.keys():
        raise ValueError("its weights have other names than those of this method")
    for name, value in own.items():
        if isinstance(value, Tensor) and not _is_like(weights[name], value):
            raise ValueError(f"its weights {name} have another shape or type than those of this method")


def check_optimiser(saved: Any, own: Mapping[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """Check the state of an optimiser.

    Args:
        saved: what the checkpoint has, as ``state_dict`` gives it.
        own: the ``state_dict`` of the optimiser that is to continue.
        parameters: of that optimiser, in the order of its groups.

    Returns:
        The state, its tensors copied, each in memory of its own.

    Raises:
        ValueError: it is that of another optimiser, or a tensor has not the shape of its parameter.
    """
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        raise ValueError("it holds no state of an optimiser")
    groups, state = saved["param_groups"], saved["state"]
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]) or not isinstance(state, dict):
        raise ValueError("its optimiser has another number of groups")
    for group, mine in zip(groups, own["param_groups"], strict=True):
        if not isinstance(group, dict) or not mine.keys() <= group.keys():
            raise ValueError("a group of its optimiser lacks an option")
        for name, value in group.items():
            same = (
                _is_rate(value)
                if name in ("lr", "initial_lr")
                else name in mine and _equal(value, mine[name])
            )
            if not same:
                raise ValueError("a group of its optimiser has another option than this run")
    return {
        "param_groups": groups,
        "state": {place: _moments(place, one, parameters) for place, one in state.items()},
    }


def _moments(place: Any, moments: Any, parameters: Sequence[Tensor]) -> dict[str, Any]:
    if not _is_count(place) or place >= len(parameters) or not isinstance(moments, dict):
        raise ValueError("its optimiser has a state without a parameter")
    checked: dict[str, Any] = {}
    for name, value in moments.items():
        step = name == "step"
        if not isinstance(value, Tensor) or not (step or _is_like(value, parameters[place])):
            raise ValueError("a state of its optimiser has not the shape of its parameter")
        if step and (value.shape != () or not value.is_floating_point() or not 0 <= float(value) < math.inf):
            raise ValueError("a state of its optimiser has a wrong number of steps")
        checked[name] = value.detach().clone(memory_format=torch.contiguous_format)
    if checked and not {"step", "exp_avg", "exp_avg_sq"} <= checked.keys():
        raise ValueError("a state of its optimiser is not complete")
    return checked


def check_scheduler(saved: Any, own: Mapping[str, Any]) -> None:
    """Check the state of a schedule against the one that is to continue.

    Raises:
        ValueError: it has other fields, or a field is of another type.
    """
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        raise ValueError("its schedule has other fields")
    for name, mine in own.items():
        value = saved[name]
        numbers = isinstance(mine, int | float) and isinstance(value, int | float)
        if not numbers and type(value) is not type(mine):
            raise ValueError("its schedule has a field of another type")
        if isinstance(value, list) and not all(isinstance(one, int | float) for one in value):
            raise ValueError("its schedule has a field of another type")


def _is_like(value: Any, own: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.shape == own.shape
        and value.is_floating_point() == own.is_floating_point()
        and not value.is_complex()
    )


def _equal(value: Any, own: Any) -> bool:
    return type(value) is type(own) and (isinstance(value, Tensor) or bool(value == own))


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _are_rates(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_rate, value))
