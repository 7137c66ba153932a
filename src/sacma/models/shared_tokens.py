"""Tokens that several inputs of a transformer share, so that the first layer projects each of them once.

The inputs of SACMA and TCAF hold the same steps: m those of a and v. Before the first layer a token is the
same in each, and so are its query, key and value. They are computed from a table of the tokens of m, then
copied to the places of all inputs. Results differ by rounding alone: ``test_trunk_is_what_its_layers_say`` in
``test_transformer.py`` compares them with a clip-by-clip reference, ``test_shared_tokens.py`` the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sacma.models.layers import spare_rows
from sacma.models.tokens import Tokens

Runs = Sequence[tuple[int, int]]
"""First row and number of rows of consecutive rows of the table."""


@dataclass(frozen=True)
class Shared:
    """A table of tokens, and where the inputs have them.

    Attributes:
        values: (U, D): the class tokens, the steps of audio, those of video, and spare rows.
        source: (M,) row of the table for each place of all inputs, one input after another; any row for a
            place without a token, as no token reads it.
        slots: for each input, the places of its tokens within it.
        runs: for each input, the rows of the table of these tokens.
        sizes: for each input, its places.
    """

    values: Tensor
    source: Tensor
    slots: Sequence[Tensor]
    runs: Sequence[Runs]
    sizes: Sequence[int]

    def spread(self, rows: Tensor) -> Tensor:
        """(U, N) -> (M, N): rows of the table at the places of all inputs."""
        spread: Tensor = _Spread.apply(rows, self)
        return spread


def shared_tokens(inputs: Mapping[str, Tokens]) -> Shared | None:
    """The tokens that ``inputs`` a, v and m share; None where no input has those of another one."""
    both, clips = inputs.get("m"), next(iter(inputs.values())).clips
    if both is None or len(inputs) == 1:
        return None
    tokens = both.slots.shape[0]
    audio = inputs["a"].slots.shape[0] - clips if "a" in inputs else tokens - inputs["v"].slots.shape[0]
    runs: dict[str, Runs] = {
        "a": [(0, clips + audio)],
        "v": [(0, clips), (clips + audio, tokens - clips - audio)],
        "m": [(0, tokens)],
    }
    rows = torch.arange(tokens, device=both.slots.device)
    source = []
    for name, one in inputs.items():
        places = rows.new_zeros(one.values.shape[0])
        places[one.slots] = torch.cat([rows[first : first + count] for first, count in runs[name]])
        source.append(places)
    packed = both.packed()
    spare = packed.new_zeros(spare_rows(tokens, packed), packed.shape[1])
    return Shared(
        values=torch.cat([packed, spare]),
        source=torch.cat(source),
        slots=[one.slots for one in inputs.values()],
        runs=[runs[name] for name in inputs],
        sizes=[one.shape[0] for one in source],
    )


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, shared: Shared) -> Tensor:
        ctx.shared, ctx.count = shared, rows.shape[0]
        return rows.index_select(0, shared.source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        table = gradient.new_zeros(ctx.count, gradient.shape[1])
        # Sums in a fixed order: to add at repeated rows would depend on the device.
        places = zip(gradient.split(ctx.shared.sizes), ctx.shared.slots, ctx.shared.runs, strict=True)
        for part, slots, runs in places:
            begin, taken = 0, part.index_select(0, slots)
            for first, count in runs:
                table[first : first + count] += taken[begin : begin + count]
                begin += count
        return table, None
