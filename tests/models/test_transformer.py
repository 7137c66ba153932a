"""Attention, masks and the whole trunk against slow references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sacma.models import transformer
from sacma.models.tcaf import TCAF
from sacma.models.transformer import JointAttention, may_attend
from sacma.models.trunk import Trunk
from sacma.types import Sequences


@pytest.mark.parametrize(
    ("attention", "steps_see"),
    [
        ("cross", {"own": False, "other": True}),
        ("within", {"own": True, "other": False}),
        ("both", {"own": True, "other": True}),
    ],
)
def test_the_class_token_sees_all_and_a_step_the_modalities_of_the_mask(
    attention: JointAttention, steps_see: dict[str, bool]
) -> None:
    kinds = torch.tensor([[0, 1, 1, 2], [0, 2, 2, 2]])
    mask = may_attend(kinds, attention)
    assert mask.shape == (2, 4, 4)
    for kind, seen in zip(kinds.tolist(), mask.tolist(), strict=True):
        for row, of_row in zip(kind, seen, strict=True):
            for column, sees in zip(kind, of_row, strict=True):
                which = "own" if row == column else "other"
                assert sees == (0 in (row, column) or steps_see[which])


def open_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """By the book, in double precision."""
    scores = q.double() @ k.double().transpose(2, 3) / q.shape[3] ** 0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v.double()


@pytest.mark.parametrize("length", [1, 9, transformer.LONGEST_OPEN + 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_and_its_gradients(dtype: torch.dtype, tolerance: float, length: int) -> None:
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, 3, length, 8).to(dtype).requires_grad_() for _ in range(3))
    mask = torch.rand(2, 1, length, length) > 0.3
    mask[..., 0] = True
    weights = torch.randn(2, 3, length, 8)
    found, exact = transformer.attention(q, k, v, mask), open_attention(q, k, v, mask)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=tolerance)
    ours = torch.autograd.grad((found.float() * weights).sum(), [q, k, v])
    theirs = torch.autograd.grad((exact * weights).sum(), [q, k, v])
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.double(), other.double(), atol=2 * tolerance, rtol=2 * tolerance)


def random_sequences(generator: torch.Generator, clips: int, width: int) -> Sequences:
    """Up to 20 steps a clip, among them none and one."""
    lengths = torch.randint(0, 21, (clips,), generator=generator)
    lengths[:2] = torch.tensor([0, 1])
    values = torch.randn(clips, 20, width, generator=generator)
    return Sequences.from_padded(values, lengths)


def plain_trunk(trunk: Trunk, audio: Sequences, video: Sequences) -> dict[str, Tensor]:
    """Result of ``trunk`` in evaluation, clip by clip and layer by layer, with a key for each token."""
    placed = trunk.steps(audio, video, published_scaling=False, with_padding=False)
    a, v = (part.values.split(part.lengths.tolist()) for part in placed)
    found: dict[str, list[Tensor]] = {"a": [], "v": [], "m": []}
    for steps_a, steps_v in zip(a, v, strict=True):
        for name, parts in {"a": [steps_a], "v": [steps_v], "m": [steps_a, steps_v]}.items():
            x = torch.cat([trunk.class_token[None], *parts])
            kind = torch.tensor([0] + [1] * len(parts[0]) + [2] * (len(x) - 1 - len(parts[0])))
            mask = torch.ones(len(x), len(x), dtype=torch.bool)
            if name == "m":
                mask = (kind[:, None] != kind) | (kind[:, None] == 0)
            for layer in trunk.transformer.layers:
                normed = layer.norm(x)
                q, k, v_ = (
                    rows.unflatten(1, (layer.heads, -1)).transpose(0, 1)[None]
                    for rows in (layer.to_queries(normed), *layer.to_keys_values(normed).chunk(2, dim=1))
                )
                read = open_attention(q, k, v_, mask).float()[0].transpose(0, 1).flatten(1)
                x = x + layer.out(read)
                x = x + layer.feed_forward(layer.second_norm(x))
            found[name].append(x[0])
    return {name: torch.stack(rows) for name, rows in found.items()}


@pytest.mark.parametrize(("seed", "clips"), [(0, 2), (1, 9), (2, 70)])
@torch.no_grad()
def test_trunk_is_what_its_layers_say(seed: int, clips: int) -> None:
    """Packing, shared rows, spare rows, class tokens alone in the last layer change rounding alone."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    sizes = {"width": 24, "depth": 3, "heads": 2, "head_width": 8, "feed_forward_hidden": 16}
    trunk = TCAF(audio_width=6, video_width=7, text_width=4, **sizes).trunk.eval()
    audio, video = random_sequences(generator, clips, 6), random_sequences(generator, clips, 7)
    plain = plain_trunk(trunk, audio, video)
    choices = {"streams": "avm", "published_scaling": False, "with_padding": False}
    found = trunk(audio, video, **choices)
    for name, rows in plain.items():
        torch.testing.assert_close(found[name], rows, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = trunk(audio, video, **choices)
    for name, rows in plain.items():
        assert float((half[name].float() - rows).norm() / rows.norm()) < 0.02
