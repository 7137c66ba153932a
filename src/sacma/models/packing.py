"""Lays the tokens of clips out in rows: a row per clip, or short clips together in one.

Attention works on rows of equal length. With a row per clip, most places are padding where lengths vary.
Packing puts each clip into the first row with room for it, the longest clip first (first-fit decreasing), and
the mask keeps the clips of a row apart. For clips of 7, 4, 3, 3 and 1 tokens (C is a class token, a digit a
step of the clip of that number):

    a row per clip       C 0 0 0 0 0 0       packed       C 0 0 0 0 0 0
                         C 1 1 1 . . .                    C 1 1 1 C 2 2
                         C 2 2 . . . .                    C 3 3 C . . .
                         C 3 3 . . . .
                         C . . . . . .

Results differ from those of a row per clip by rounding alone: ``test_trunk_is_what_its_layers_say`` in
``test_transformer.py`` compares them with a clip-by-clip reference, ``test_packing.py`` checks the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sacma.models.tokens import Tokens, put_rows
from sacma.models.transformer import JointAttention, may_attend
from sacma.types import Padded, Sequences


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
        >>> tokens = join(torch.ones(8), [audio])
        >>> tokens.rows, tokens.length
        (4, 4)
        >>> tokens = join(torch.ones(8), [audio], share_rows=True)
        >>> tokens.rows, tokens.length
        (3, 4)
    """
    clips = torch.arange(parts[0].lengths.shape[0], device=class_token.device)
    layout = _packed(parts, clips.device) if share_rows else _row_per_clip(parts, clips)
    places = layout.rows * layout.length
    slots = [layout.row * layout.length + layout.start]  # of the class tokens
    following = slots[0] + 1  # (B,) place of the clip's next token
    for part in parts:
        slots.append(following[part.clip] + part.step)
        following = following + part.places
    at = torch.cat(slots)
    if share_rows:
        mask = _of_one_clip(torch.cat([clips, *(part.clip for part in parts)]), at, layout)
    else:
        mask = _within_clip(parts, clips, following, layout)
    if attention != "both":
        kind = torch.zeros(places, dtype=torch.long, device=clips.device)
        for number, part_slots in enumerate(slots):
            kind[part_slots] = number
        mask = mask & may_attend(kind.view(layout.rows, 1, layout.length), attention)
    values = torch.cat([class_token.expand(clips.shape[0], -1), *(part.values for part in parts)])
    return Tokens(
        values=put_rows(values, at, places),
        slots=at,
        mask=mask,
        clips=clips.shape[0],
        cells=layout.row * layout.clips_a_row + layout.number,
        clips_a_row=layout.clips_a_row,
        uniform=uniform,
    )


class _Layout(NamedTuple):
    """Rows of B clips.

    Attributes:
        rows: R.
        length: L, places of a row.
        clips_a_row: the most clips that share a row.
        row: (B,) row of each clip.
        start: (B,) first place of each clip in its row.
        number: (B,) position of each clip among those of its row.
    """

    rows: int
    length: int
    clips_a_row: int
    row: Tensor
    start: Tensor
    number: Tensor


def _row_per_clip(parts: Sequence[Sequences], clips: Tensor) -> _Layout:
    """Each of ``clips`` (B,) in a row of its own; no size depends on a value, as exporters need it."""
    first = torch.zeros_like(clips)
    return _Layout(clips.shape[0], 1 + sum(part.longest for part in parts), 1, clips, first, first)


def _packed(parts: Sequence[Sequences], device: torch.device) -> _Layout:
    """Each clip, the longest first, in the first row with room for it."""
    lengths = zip(*(part.on_host.tolist() for part in parts), strict=True)
    tokens = [1 + sum(of_clip) for of_clip in lengths]
    length, shortest = max(tokens, default=1), min(tokens, default=1)
    left: list[int] = []  # free places of each row
    clips_in: list[int] = []
    unfilled: list[int] = []  # rows with room for the shortest clip
    found = [(0, 0, 0)] * len(tokens)
    for clip in sorted(range(len(tokens)), key=lambda clip: -tokens[clip]):
        row = next((row for row in unfilled if left[row] >= tokens[clip]), len(left))
        if row == len(left):
            left.append(length)
            clips_in.append(0)
            unfilled.append(row)
        found[clip] = (row, length - left[row], clips_in[row])
        left[row] -= tokens[clip]
        clips_in[row] += 1
        if left[row] < shortest:
            unfilled.remove(row)
    places = torch.tensor(found, dtype=torch.long).view(-1, 3).to(device, non_blocking=True)
    return _Layout(len(left), length, max(clips_in, default=1), *places.unbind(1))


def _of_one_clip(owner: Tensor, slots: Tensor, layout: _Layout) -> Tensor:
    """(R, 1, L, L) bool: places of the same clip; ``owner`` (M,) is the clip of the token at each slot."""
    owners = torch.full((layout.rows * layout.length,), -1, device=slots.device)
    owners[slots] = owner
    owners = owners.view(layout.rows, 1, layout.length)
    return owners[..., None] == owners[..., None, :]


def _within_clip(parts: Sequence[Sequences], clips: Tensor, end: Tensor, layout: _Layout) -> Tensor:
    """(B, 1, 1, L) bool: places with a token, in rows of one clip each; ``end`` (B,) is the place after."""
    if any(isinstance(part, Padded) for part in parts):
        visible = [torch.ones_like(clips, dtype=torch.bool)[:, None], *(part.valid for part in parts)]
        return torch.cat(visible, dim=1)[:, None, None, :]
    ends = end - clips * layout.length
    return (torch.arange(layout.length, device=clips.device) < ends[:, None])[:, None, None, :]
