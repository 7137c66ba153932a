"""Layout and mask of tokens: each clip in a row, or short clips together in one."""

from __future__ import annotations

import pytest
import torch

from sacma.models import packing
from sacma.models.packing import join
from sacma.types import Sequences


def test_short_clips_share_rows_and_see_only_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SHORTEST_ROW", 2)
    monkeypatch.setattr(packing, "MORE_PLACES", 1)
    audio = Sequences.from_padded(torch.zeros(5, 6, 3), torch.tensor([6, 2, 0, 1, 2]))
    video = Sequences.from_padded(torch.zeros(5, 6, 3), torch.tensor([0, 1, 0, 1, 0]))
    tokens = join(torch.ones(3), [audio, video], share_rows=True)
    # 7, 4, 1, 3 and 3 tokens: a full row, then three of half that length; one of them takes two clips
    first, second = tokens.blocks
    assert (first.rows, first.length, first.cells) == (1, 7, 1)
    assert (second.rows, second.length, second.cells) == (3, 4, 6)
    assert len(tokens.slots.unique()) == len(tokens.slots) == 18
    owner = torch.cat([torch.arange(5), audio.clip, video.clip])
    whole = torch.block_diag(*(rows for block in tokens.blocks for rows in block.mask[:, 0])).bool()
    seen = whole[tokens.slots][:, tokens.slots]
    assert seen.equal(owner[:, None] == owner)
    by_cell = torch.block_diag(*(rows for block in tokens.blocks for rows in block.class_mask)).bool()
    assert by_cell[tokens.cells].equal(whole[tokens.slots[:5]])
    assert all(block.class_mask.any(dim=2).all() for block in tokens.blocks)
    assert tokens.packed()[:5].equal(torch.ones(5, 3))
    assert tokens.values.sum() == 5 * 3
    assert tokens.laid_out(tokens.packed()).equal(tokens.values)


def test_rows_are_as_long_as_their_fullest() -> None:
    audio = Sequences.from_padded(torch.zeros(3, 99, 3), torch.tensor([99, 20, 20]))
    tokens = join(torch.ones(3), [audio], share_rows=True)
    assert [(block.rows, block.length) for block in tokens.blocks] == [(1, 100), (2, 21)]


def test_a_longer_row_is_taken_where_it_leaves_fewer_places_empty() -> None:
    audio = Sequences.from_padded(torch.zeros(6, 9, 3), torch.tensor([9, 7, 2, 2, 2, 2]))
    tokens = join(torch.ones(3), [audio], share_rows=True)
    # 10, 8 and four times 3 tokens: rows of 10 places would be four, with room for 10 tokens more
    assert [(block.rows, block.length) for block in tokens.blocks] == [(3, 11)]


def test_clips_of_one_length_leave_no_padding() -> None:
    audio = Sequences.from_padded(torch.zeros(8, 4, 3), torch.full((8,), 4))
    tokens = join(torch.ones(3), [audio], share_rows=True)
    (block,) = tokens.blocks
    assert (block.rows, block.length, block.cells) == (8, 5, 8)
    assert block.mask.all()


def test_no_clip_leaves_no_row() -> None:
    none = Sequences.from_padded(torch.zeros(0, 0, 3), torch.zeros(0, dtype=torch.long))
    assert join(torch.ones(3), [none], share_rows=True).values.shape == (0, 3)
