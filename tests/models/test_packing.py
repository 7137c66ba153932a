"""Layout and mask of tokens: each clip in a row, or short clips together in one."""

from __future__ import annotations

import torch

from sacma.models.packing import join
from sacma.types import Sequences


def test_short_clips_share_rows_and_see_only_their_own() -> None:
    audio = Sequences.from_padded(torch.zeros(5, 6, 3), torch.tensor([6, 2, 0, 1, 2]))
    video = Sequences.from_padded(torch.zeros(5, 6, 3), torch.tensor([0, 1, 0, 1, 0]))
    tokens = join(torch.ones(3), [audio, video], share_rows=True)
    # 7, 4, 1, 3 and 3 tokens: the first row is full, the second takes two clips, and so does the third
    assert (tokens.rows, tokens.length, tokens.clips_a_row) == (3, 7, 2)
    assert len(tokens.slots.unique()) == len(tokens.slots) == 18
    owner = torch.cat([torch.arange(5), audio.clip, video.clip])
    mask = tokens.mask[:, 0]
    row, place = tokens.slots // 7, tokens.slots % 7
    for token in range(18):
        seen = [
            other
            for other in range(18)
            if row[other] == row[token] and mask[row[token], place[token], place[other]]
        ]
        assert seen == (owner == owner[token]).nonzero().flatten().tolist()
        assert int(mask[row[token], place[token]].sum()) == len(seen)
    assert tokens.packed()[:5].equal(torch.ones(5, 3))
    assert tokens.values.sum() == 5 * 3
    assert tokens.laid_out(tokens.packed()).equal(tokens.values)


def test_clips_of_one_length_leave_no_padding() -> None:
    audio = Sequences.from_padded(torch.zeros(8, 4, 3), torch.full((8,), 4))
    tokens = join(torch.ones(3), [audio], share_rows=True)
    assert (tokens.rows, tokens.length, tokens.clips_a_row) == (8, 5, 1)
    assert tokens.mask.all()


def test_no_clip_leaves_no_row() -> None:
    none = Sequences.from_padded(torch.zeros(0, 0, 3), torch.zeros(0, dtype=torch.long))
    assert join(torch.ones(3), [none], share_rows=True).values.shape == (0, 3)
