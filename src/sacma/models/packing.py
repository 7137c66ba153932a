"""Lays the tokens of clips out in rows: a row per clip, or short clips together in one.

Attention works on rows of equal length. With a row per clip, most places are padding where lengths vary.
Packing puts each clip, the longest first, into the first row with room for it (first-fit decreasing); a clip
without room opens one: as long as the longest clip, or half as long, or a quarter and so on if it fits. Long
rows cost more, as each token of a row is compared with all of them; the mask keeps the clips of a row apart.
Rows of equal length make a block. Some lengths are tried, as the places that stay empty depend on them. For
clips of 7, 4, 3, 3 and 1 tokens (C is a class token, a digit a step of the clip of that number):

    a row per clip       C 0 0 0 0 0 0       packed       C 0 0 0 0 0 0
                         C 1 1 1 . . .                    C 1 1 1 C 2 2
                         C 2 2 . . . .
                         C 3 3 . . . .       2nd block    C 3 3 C
                         C . . . . . .

Results differ from those of a row per clip by rounding alone: ``test_trunk_is_what_its_layers_say`` in
``test_transformer.py`` compares them with a clip-by-clip reference, ``test_packing.py`` checks the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from sacma.models.tokens import Block, Tokens, put_rows
from sacma.models.transformer import JointAttention, may_attend
from sacma.types import Padded, Sequences

SHORTEST_ROW = 16
"""Places below which a shorter row saves no time."""
MORE_PLACES = 4
"""Layouts that are tried: the longest row has 0, 1, ... places more than the longest clip needs."""
FREE_TOKENS = 400
"""Tokens in a row that take as long to be compared with one as all products of it with the weights."""


def join(
    class_token: Tensor,
    parts: Sequence[Sequences],
    *,
    attention: JointAttention = "both",
    uniform: bool = False,
    share_rows: bool = False,
) -> Tokens:
    """Put a class token in front of the parts of each clip, one part after another. (2)

    Args:
        class_token: (D,) learned token.
        parts: the sequences of B clips that make up the input, one a modality, of width D.
        attention: what the steps of a clip may attend to, see ``may_attend``.
        uniform: replace attention by the mean over the visible tokens.
        share_rows: let short clips share a row; else each has its own.

    Example:
        >>> audio = Sequences.from_padded(torch.zeros(4, 3, 8), torch.tensor([3, 1, 1, 0]))
        >>> [tuple(block.mask.shape) for block in join(torch.ones(8), [audio]).blocks]
        [(4, 1, 1, 4)]
        >>> [tuple(block.mask.shape) for block in join(torch.ones(8), [audio], share_rows=True).blocks]
        [(2, 1, 5, 5)]
    """
    clips = torch.arange(parts[0].lengths.shape[0], device=class_token.device)
    layout = _packed(parts, clips.device) if share_rows else _row_per_clip(parts, clips)
    places = sum(shape.rows * shape.length for shape in layout.shapes)
    slots = [layout.first]  # of the class tokens
    following = slots[0] + 1  # (B,) place of the clip's next token
    for part in parts:
        slots.append(following[part.clip] + part.step)
        following = following + part.places
    at = torch.cat(slots)
    if share_rows:
        owner = torch.full((places,), -1, device=clips.device)
        owner[at] = torch.cat([clips, *(part.clip for part in parts)])
        blocks = _of_one_clip(owner, layout)
    else:
        blocks = [_within_clip(parts, clips, following, layout)]
    if attention != "both":
        kind = torch.zeros(places, dtype=torch.long, device=clips.device)
        for number, part_slots in enumerate(slots):
            kind[part_slots] = number
        blocks = _restricted(blocks, kind, attention)
    values = torch.cat([class_token.expand(clips.shape[0], -1), *(part.values for part in parts)])
    return Tokens(
        values=put_rows(values, at, places),
        slots=at,
        cells=layout.cell,
        blocks=[replace(block, uniform=uniform) for block in blocks],
    )


class _Shape(NamedTuple):
    """Rows of a block, their length, and the most clips that share one of them."""

    rows: int
    length: int
    cells: int


class _Layout(NamedTuple):
    """Places of B clips.

    Attributes:
        shapes: of the blocks.
        first: (B,) first place of each clip.
        cell: (B,) cell of each clip, see ``Tokens``.
    """

    shapes: Sequence[_Shape]
    first: Tensor
    cell: Tensor


def _row_per_clip(parts: Sequence[Sequences], clips: Tensor) -> _Layout:
    """Each of ``clips`` (B,) in a row of its own; no size depends on a value, as exporters need it."""
    length = 1 + sum(part.longest for part in parts)
    return _Layout([_Shape(clips.shape[0], length, 1)], clips * length, clips)


class _Row:
    """A row that is being filled: its free places, and its clips with their tokens."""

    def __init__(self, length: int) -> None:
        self.length, self.left = length, length
        self.clips: list[int] = []


def _packed(parts: Sequence[Sequences], device: torch.device) -> _Layout:
    """The cheapest of some layouts with rows of the longest clip's length or little more."""
    lengths = zip(*(part.on_host.tolist() for part in parts), strict=True)
    tokens = [1 + sum(of_clip) for of_clip in lengths]
    longest = max(tokens, default=1)
    tried = (_first_fit(tokens, longest + more) for more in range(MORE_PLACES))
    return _placed(min(tried, key=_cost), tokens, device)


def _first_fit(tokens: Sequence[int], longest: int) -> list[_Row]:
    """Each clip, the longest first, in the first row with room for it; rows of at most ``longest`` places."""
    shortest = min(tokens, default=1)
    rows: list[_Row] = []
    unfilled: list[_Row] = []  # those with room for the shortest clip
    for clip in sorted(range(len(tokens)), key=lambda clip: -tokens[clip]):
        row = next((row for row in unfilled if row.left >= tokens[clip]), None)
        if row is None:
            row = _Row(_row_length(tokens[clip], longest))
            rows.append(row)
            unfilled.append(row)
        row.clips.append(clip)
        row.left -= tokens[clip]
        if row.left < shortest:
            unfilled.remove(row)
    return rows


def _row_length(tokens: int, longest: int) -> int:
    """Length of the row that a clip opens: the longest one, halved as long as the clip fits."""
    length = longest
    while length >= 2 * SHORTEST_ROW and tokens <= -(-length // 2):
        length = -(-length // 2)
    return length


def _blocks(rows: Sequence[_Row]) -> list[tuple[int, list[_Row]]]:
    """Rows opened with the same length, and the tokens of the fullest of them; the longest rows first."""
    alike = [list(of_length) for _, of_length in groupby(rows, key=lambda row: row.length)]
    return [(max(row.length - row.left for row in block), block) for block in alike]


def _cost(rows: Sequence[_Row]) -> float:
    """Time that the rows take, in that of all products with the weights for a place."""
    return sum(len(block) * length * (1 + length / FREE_TOKENS) for length, block in _blocks(rows))


def _placed(rows: Sequence[_Row], tokens: Sequence[int], device: torch.device) -> _Layout:
    """Places of the clips; ``rows`` are ordered by length, ``tokens`` (B,) are those of each clip."""
    shapes, found = [], [(0, 0)] * len(tokens)
    place = cell = 0
    for length, block in _blocks(rows):
        cells = max(len(row.clips) for row in block)
        shapes.append(_Shape(len(block), length, cells))
        for row in block:
            following = place
            for number, clip in enumerate(row.clips):
                found[clip] = (following, cell + number)
                following += tokens[clip]
            place, cell = place + length, cell + cells
    first, cell_of = torch.tensor(found, dtype=torch.long).view(-1, 2).to(device, non_blocking=True).unbind(1)
    return _Layout(shapes or [_Shape(0, 1, 1)], first, cell_of)


def _of_one_clip(owner: Tensor, layout: _Layout) -> list[Block]:
    """Blocks in which the tokens of a clip see each other; ``owner`` is the clip of each place, else -1."""
    cell_owner = torch.full((sum(one.rows * one.cells for one in layout.shapes),), -1, device=owner.device)
    cell_owner[layout.cell] = torch.arange(layout.cell.shape[0], device=owner.device)
    of_blocks = zip(
        owner.split([one.rows * one.length for one in layout.shapes]),
        cell_owner.split([one.rows * one.cells for one in layout.shapes]),
        layout.shapes,
        strict=True,
    )
    blocks = []
    for of_places, of_cells, shape in of_blocks:
        place, cell = of_places.view(shape.rows, 1, shape.length), of_cells.view(shape.rows, shape.cells, 1)
        mask = place[..., None] == place[..., None, :]  # (R, 1, L, L)
        blocks.append(Block(mask, (place == cell) | (cell == -1)))
    return blocks


def _within_clip(parts: Sequence[Sequences], clips: Tensor, end: Tensor, layout: _Layout) -> Block:
    """Rows of one clip each, whose tokens see each other; ``end`` (B,) is the place after the clip."""
    if any(isinstance(part, Padded) for part in parts):
        visible = torch.cat(
            [torch.ones_like(clips, dtype=torch.bool)[:, None], *(part.valid for part in parts)], dim=1
        )
    else:
        length = layout.shapes[0].length
        visible = torch.arange(length, device=clips.device) < (end - layout.first)[:, None]
    return Block(visible[:, None, None], visible[:, None])


def _restricted(blocks: Sequence[Block], kind: Tensor, attention: JointAttention) -> list[Block]:
    """Let steps attend to some kinds of steps alone; ``kind`` (P,) see ``may_attend``."""
    found = []
    for block, of_block in zip(blocks, kind.split([block.places for block in blocks]), strict=True):
        allowed = may_attend(of_block.view(block.rows, 1, block.length), attention)
        found.append(replace(block, mask=block.mask & allowed))
    return found
