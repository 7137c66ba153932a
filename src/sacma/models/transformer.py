"""The masked transformer that TCAF and SACMA share: tokens in rows, attention, feed-forward blocks.

Packed steps (``sacma.types.Sequences``) stay packed but in the attention, which lays the tokens of an input
out in rows. Sizes are read by ``shape``, as exporters make a constant of ``len``. Sources: SACMA (Information
Fusion 2025), equations (1) to (6), and TCAF (ECCV 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.models.layers import Dropout, Linear, StepEncoder, spare_rows
from sacma.types import Padded, Sequences

JointAttention = Literal["cross", "within", "both"]


@dataclass(frozen=True)
class Tokens:
    """One input of the transformer: a class token and steps for each of B clips, laid out in rows.

    A row has room for the longest clip, and shorter ones share a row, so that next to nothing is padding.

    Attributes:
        values: (R * L, D), R rows of L places; places that no token took have zeros.
        slots: (M,) the place of each token, the B class tokens first, then the steps.
        mask: (R, 1, 1 or L, L) bool, True where a token (row) may attend to a token (column).
        clips: B.
        cells: (B,) row of each clip's class token, times ``clips_a_row``, plus a number of its own in there.
        clips_a_row: how many clips have a row in common, at most.
        uniform: attend to all visible tokens alike, in place of softmax attention.
    """

    values: Tensor
    slots: Tensor
    mask: Tensor
    clips: int
    cells: Tensor
    clips_a_row: int = 1
    uniform: bool = False

    @classmethod
    def join(
        cls,
        class_token: Tensor,
        parts: Sequence[Sequences],
        *,
        attention: JointAttention = "both",
        uniform: bool = False,
        shared: bool = False,
    ) -> Tokens:
        """Put ``class_token`` (D,) in front of the parts of each clip, one after another. (2)

        Args:
            class_token: learned token.
            parts: the sequences that make up the input, one a modality.
            attention: ``cross`` masks the scores between two steps of one modality, themselves included (3);
                ``within`` those between steps of different modalities; ``both`` none. The class token sees
                everything and is seen by everything.
            uniform: replace attention by the mean over the visible tokens.
            shared: let short clips share a row; else each has its own.
        """
        clips = torch.arange(parts[0].lengths.shape[0], device=class_token.device)
        layout = _Layout.packed(parts, clips.device) if shared else _Layout.apart(parts, clips)
        slots = [layout.row * layout.length + layout.start]
        following = slots[0] + 1  # (B,) where the clip's next token goes
        for part in parts:
            slots.append(following[part.clip] + part.step)
            following = following + part.places
        places = layout.rows * layout.length
        values = torch.cat([class_token.expand(clips.shape[0], -1), *(part.values for part in parts)])
        at = torch.cat(slots)
        if shared:
            owner = torch.full((places,), -1, device=clips.device)
            owner[at] = torch.cat([clips, *(part.clip for part in parts)])
            owner = owner.view(layout.rows, 1, layout.length)
            mask = owner[..., None] == owner[..., None, :]
        elif any(isinstance(part, Padded) for part in parts):
            visible = [torch.ones_like(clips, dtype=torch.bool)[:, None], *(part.valid for part in parts)]
            mask = torch.cat(visible, dim=1)[:, None, None, :]
        else:
            end = following - clips * layout.length
            mask = (torch.arange(layout.length, device=clips.device) < end[:, None])[:, None, None, :]
        if attention != "both":
            kind = torch.zeros(places, dtype=torch.long, device=clips.device)
            for number, part_slots in enumerate(slots):
                kind[part_slots] = number
            kind = kind.view(layout.rows, 1, layout.length)
            row, column = kind[..., None], kind[..., None, :]
            same = row == column
            linked = ~same if attention == "cross" else same | (column == 0)
            mask = mask & (linked | (row == 0))
        cells = layout.row * layout.clips_a_row + layout.number
        return cls(
            _Pad.apply(values, at, places), at, mask, clips.shape[0], cells, layout.clips_a_row, uniform
        )

    @classmethod
    def whole(cls, values: Tensor) -> Tokens:
        """(B, L, D), L tokens of each clip, the first one its class token; they all see each other."""
        clips, length, _ = values.shape
        places = torch.arange(clips * length, device=values.device).view(clips, length)
        mask = torch.ones(clips, 1, 1, length, dtype=torch.bool, device=values.device)
        return cls(values.flatten(0, 1), places.t().flatten(), mask, clips, places[:, 0] // length)

    @property
    def rows(self) -> int:
        return self.mask.shape[0]

    @property
    def length(self) -> int:
        return self.mask.shape[-1]

    def packed(self) -> Tensor:
        """(M, D) the tokens without padding, in the order of ``slots``."""
        return _Unpad.apply(self.values, self.slots)

    def laid_out(self, packed: Tensor) -> Tensor:
        """(M, N) -> (R * L, N): the reverse, for any width."""
        return _Pad.apply(packed, self.slots, self.rows * self.length)

    @property
    def class_mask(self) -> Tensor:
        """(B, L) bool: what each class token may attend to in its row."""
        if self.mask.shape[2] == 1:
            return self.mask[:, 0, 0]
        return self.mask.flatten(0, 2).index_select(0, self.slots[: self.clips])

    def class_rows(self, values: Tensor) -> Tensor:
        """(R * L, D) -> (B, D): those of the class tokens."""
        return _Unpad.apply(values, self.slots[: self.clips])


class _Layout(NamedTuple):
    """Where B clips lie.

    Attributes:
        rows: number of rows.
        length: places of a row.
        clips_a_row: clips of the row that has most.
        row: (B,) row of each clip.
        start: (B,) its first place in there.
        number: (B,) how many clips of its row come before it.
    """

    rows: int
    length: int
    clips_a_row: int
    row: Tensor
    start: Tensor
    number: Tensor

    @classmethod
    def apart(cls, parts: Sequence[Sequences], clips: Tensor) -> _Layout:
        """Each of ``clips`` (B,) in a row of its own; no size depends on a value, as exporters need it."""
        first = torch.zeros_like(clips)
        return cls(clips.shape[0], 1 + sum(part.longest for part in parts), 1, clips, first, first)

    @classmethod
    def packed(cls, parts: Sequence[Sequences], device: torch.device) -> _Layout:
        """Each clip, the longest first, in the first row with room for it (first-fit decreasing)."""
        lengths = zip(*(part.on_host.tolist() for part in parts), strict=True)
        tokens = [1 + sum(of_clip) for of_clip in lengths]
        length, shortest = max(tokens, default=1), min(tokens, default=1)
        left: list[int] = []  # places of each row
        clips_in: list[int] = []
        unfilled: list[int] = []  # rows with room for the shortest
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
        return cls(len(left), length, max(clips_in, default=1), *places.unbind(1))


class _Pad(torch.autograd.Function):
    """Rows to their slots among zeros; unlike ``index_copy``, it keeps no copy of them for backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, padded_rows: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(padded_rows, rows.shape[1]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (slots,) = ctx.saved_tensors
        return gradient.index_select(0, slots), None, None


class _Unpad(torch.autograd.Function):
    """``index_select`` of distinct rows, whose backward pass is a copy instead of a slow accumulation."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.rows = padded.shape[0]
        return padded.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (slots,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.rows, gradient.shape[1]).index_copy_(0, slots, gradient), None


# Longer rows of scores are not kept in memory.
LONGEST_OPEN = 160


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of each head, (3): (B, H, Q, d), (B, H, L, d) twice -> (B, H, Q, d).

    PyTorch's kernel, save for bfloat16 on processors: there its backward pass takes several times as long as
    in float32, and short sequences are faster yet as products in bfloat16 around a softmax in float32.

    Args:
        queries: of each token that asks.
        keys: of each token that is asked.
        values: likewise.
        mask: bool, broadcast to (B, H, Q, L); True where a row may attend to a column.
    """
    if queries.dtype != torch.bfloat16 or queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    if keys.shape[2] > LONGEST_OPEN:
        with torch.autocast("cpu", enabled=False):
            wide = F.scaled_dot_product_attention(
                queries.float(), keys.float(), values.float(), attn_mask=mask
            )
        return wide.to(queries.dtype)
    hidden = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf)
    scores = (queries @ keys.contiguous().transpose(2, 3)).float()  # (B, H, Q, L)
    scores = scores.mul_(1 / math.sqrt(queries.shape[3])).add_(hidden)
    return scores.softmax(dim=-1).to(values.dtype) @ values


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """(..., D) -> (..., D) through ``hidden`` units."""
    return nn.Sequential(
        Linear(width, hidden), nn.GELU(), Dropout(dropout), Linear(hidden, width), Dropout(dropout)
    )


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward block, (3) to (6).

    Args:
        width: D.
        heads: number of heads.
        head_width: width of a head; heads * head_width need not be D.
        hidden: width between the two linear layers of the feed-forward block.
        dropout: probability, after attention and twice in the feed-forward block.
        shared_norm: one LayerNorm used twice, as in the released code.
    """

    def __init__(
        self, width: int, *, heads: int, head_width: int, hidden: int, dropout: float, shared_norm: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.second_norm = None if shared_norm else nn.LayerNorm(width)
        self.to_queries = Linear(width, heads * head_width, bias=False)
        self.to_keys_values = Linear(width, 2 * heads * head_width, bias=False)
        self.out = Linear(heads * head_width, width)
        self.dropout = Dropout(dropout)
        self.feed_forward = feed_forward(width, hidden, dropout)

    def forward(self, values: Tensor, inputs: Sequence[Tokens], *, class_only: bool = False) -> Tensor:
        """(M, D) tokens of all inputs, one input after another -> (M, D).

        Rows after them are carried along and read by none. With ``class_only`` the result has the class
        tokens alone, (len(inputs) * B, D): all that the last layer is asked for.
        """
        if class_only:
            read = self.out(self._attend_classes(self.norm(values), inputs))
            values = _class_rows(values, inputs)
        else:
            read = self._attend_all(values, inputs)
        values = values + self.dropout(read)
        first, *others = self.feed_forward
        normed, made_again = _normed(self.norm if self.second_norm is None else self.second_norm, values)
        with made_again:
            hidden = first(normed)
        for layer in others:
            hidden = layer(hidden)
        return values + hidden

    def class_attention(self, values: Tensor, inputs: Sequence[Tokens]) -> list[Tensor]:
        """How much each class token attends to each place of its row, (B, L), the mean over heads.

        They sum to 1; places of padding and of other clips have 0.
        """
        return [weights.mean(dim=1) for weights in self._class_weights(self.norm(values), inputs)]

    def _attend_all(self, values: Tensor, inputs: Sequence[Tokens]) -> Tensor:
        """(M, D) tokens of all inputs -> (M, D) what they read."""
        normed, made_again = _normed(self.norm, values)
        with made_again:
            queries = _by_input(self.to_queries(normed), inputs)
            keys_values = _by_input(self.to_keys_values(normed), inputs)
        read = []
        for q_rows, kv_rows, tokens in zip(queries, keys_values, inputs, strict=True):
            q = self._heads(q_rows, tokens)
            k, v = self._heads(kv_rows, tokens).chunk(2, dim=1)
            if tokens.uniform:
                q = torch.zeros_like(q)
            attended = attention(q, k, v, tokens.mask).transpose(1, 2)  # (R, L, H, d)
            # Input by input: to put them together first would keep a copy of them all for the backward pass.
            read.append(self.out(attended.flatten(0, 1).flatten(1)))
        spare = values.shape[0] - sum(tokens.values.shape[0] for tokens in inputs)
        return torch.cat([*read, read[0].new_zeros(spare, read[0].shape[1])])

    def _attend_classes(self, normed: Tensor, inputs: Sequence[Tokens]) -> Tensor:
        """(M, D) tokens of all inputs -> (len(inputs) * B, H * d), what the class tokens read."""
        read = []
        weights = self._class_weights(normed, inputs)
        for of_clips, rows, tokens in zip(weights, _by_input(normed, inputs), inputs, strict=True):
            of_cells = self._to_cells(of_clips.to(rows.dtype), tokens)  # (R, clips a row * H, L)
            read.append(self._from_cells(of_cells @ rows.view(tokens.rows, tokens.length, -1), tokens))
        _, to_values = self._key_value_weights()
        values = torch.cat(read).transpose(0, 1) @ to_values.transpose(1, 2)  # (H, len(inputs) * B, d)
        return values.transpose(0, 1).flatten(1)

    def _class_weights(self, normed: Tensor, inputs: Sequence[Tokens]) -> list[Tensor]:
        """For each input its class tokens' attention to the places of their rows, (B, H, L).

        There is one query a clip, so W_k is applied to it instead of to all tokens, q (W_k x) = (q W_k) x,
        and W_v to the mean that it reads.
        """
        to_keys, _ = self._key_value_weights()
        queries = self.to_queries(_class_rows(normed, inputs)).unflatten(1, (self.heads, -1)).transpose(0, 1)
        asked = ((queries @ to_keys) / math.sqrt(queries.shape[2])).transpose(0, 1)  # (len(inputs) * B, H, D)
        clips = [tokens.clips for tokens in inputs]
        found = []
        for q, rows, tokens in zip(asked.split(clips), _by_input(normed, inputs), inputs, strict=True):
            x = rows.view(tokens.rows, tokens.length, -1)
            scores = self._from_cells(self._to_cells(q, tokens) @ x.transpose(1, 2), tokens).float()
            if tokens.uniform:
                scores = torch.zeros_like(scores)
            hidden = ~tokens.class_mask[:, None]
            found.append(scores.masked_fill(hidden, -math.inf).softmax(dim=-1))
        return found

    def _to_cells(self, of_clips: Tensor, tokens: Tokens) -> Tensor:
        """(B, H, N) of each clip -> (R, clips a row * H, N) of each row, zeros where it has fewer clips."""
        cells = _Pad.apply(of_clips.flatten(1), tokens.cells, tokens.rows * tokens.clips_a_row)
        return cells.view(tokens.rows, tokens.clips_a_row * self.heads, -1)

    def _from_cells(self, of_rows: Tensor, tokens: Tokens) -> Tensor:
        """The reverse of ``_to_cells``."""
        cells = of_rows.reshape(tokens.rows * tokens.clips_a_row, -1)
        return _Unpad.apply(cells, tokens.cells).unflatten(1, (self.heads, -1))

    def _key_value_weights(self) -> tuple[Tensor, Tensor]:
        """W_k and W_v, (H, d, D) each."""
        to_keys, to_values = self.to_keys_values.weight.unflatten(0, (2, self.heads, -1))
        return to_keys, to_values

    def _heads(self, values: Tensor, tokens: Tokens) -> Tensor:
        """(R * L, C * d) -> (R, C, L, d), C any number of heads."""
        head_width = self.to_queries.out_features // self.heads
        return values.view(tokens.rows, tokens.length, -1, head_width).transpose(1, 2)


def _normed(norm: nn.Module, values: Tensor) -> tuple[Tensor, AbstractContextManager[object]]:
    """``norm(values)``, and where its use keeps nothing for the backward pass, which makes it again there.

    That takes a hundredth of an iteration's time and saves a tenth of its memory.
    """
    normed: Tensor = norm(values)
    device = values.device.type
    if torch.is_autocast_enabled(device):
        normed = normed.to(torch.get_autocast_dtype(device))
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return normed, nullcontext()
    own, dtype = (normed.data_ptr(), normed.shape), normed.dtype

    def pack(tensor: Tensor) -> Tensor | None:
        return None if (tensor.data_ptr(), tensor.shape) == own else tensor

    @torch.no_grad()
    def unpack(kept: Tensor | None) -> Tensor:
        return norm(values).to(dtype) if kept is None else kept

    return normed, torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _class_rows(values: Tensor, inputs: Sequence[Tokens]) -> Tensor:
    parts = zip(_by_input(values, inputs), inputs, strict=True)
    return torch.cat([tokens.class_rows(part) for part, tokens in parts])


def _by_input(rows: Tensor, inputs: Sequence[Tokens]) -> Sequence[Tensor]:
    """The rows of each input's tokens."""
    sizes = [tokens.values.shape[0] for tokens in inputs]
    return rows.split([*sizes, rows.shape[0] - sum(sizes)])[:-1]


class Transformer(nn.Module):
    """L layers shared by all inputs; their matrix products run over the tokens of all inputs at once.

    Args:
        width: D.
        depth: number of layers, at least 1.
        layer: keyword arguments of ``TransformerLayer``.
    """

    def __init__(self, width: int, *, depth: int, **layer: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, **layer) for _ in range(depth))

    def forward(self, inputs: Mapping[str, Tokens]) -> dict[str, Tensor]:
        """Each input's class token after the last layer, (B, D), by the input's name."""
        tokens = list(inputs.values())
        values = self._rows(tokens)
        for number, layer in enumerate(self.layers, start=1):
            values = layer(values, tokens, class_only=number == len(self.layers))
        return dict(zip(inputs, values.split([one.clips for one in tokens]), strict=True))

    def class_attention(self, inputs: Mapping[str, Tokens]) -> dict[str, Tensor]:
        """Attention of each input's class token in the last layer, (B, L), by the input's name."""
        tokens = list(inputs.values())
        values = self._rows(tokens)
        for layer in self.layers[:-1]:
            values = layer(values, tokens)
        last = cast(TransformerLayer, self.layers[-1])
        return dict(zip(inputs, last.class_attention(values, tokens), strict=True))

    def _rows(self, tokens: Sequence[Tokens]) -> Tensor:
        """(M, D) the tokens of all inputs, and some spare rows."""
        parts = [one.values for one in tokens]
        spare = spare_rows(sum(part.shape[0] for part in parts), parts[0])
        return torch.cat([*parts, parts[0].new_zeros(spare, parts[0].shape[1])])


class Trunk(nn.Module):
    """The network that TCAF and SACMA share: encoded steps, a class token, one transformer. (1) to (6)

    Args:
        audio_width: of an audio feature vector.
        video_width: of a visual feature vector.
        width: D, of a token.
        encoder_hidden: hidden width of the encoders.
        encoder_dropout: in the encoders.
        position_dropout: after the positions are added.
        transformer: keyword arguments of ``Transformer``.
    """

    def __init__(
        self,
        audio_width: int,
        video_width: int,
        width: int,
        *,
        encoder_hidden: int,
        encoder_dropout: float,
        position_dropout: float,
        **transformer: Any,
    ) -> None:
        super().__init__()
        self.steps = StepEncoder(
            audio_width,
            video_width,
            width,
            hidden=encoder_hidden,
            dropout=encoder_dropout,
            position_dropout=position_dropout,
        )
        self.class_token = nn.Parameter(torch.randn(width))
        self.transformer = Transformer(width, **transformer)

    def forward(self, audio: Sequences, video: Sequences, **choices: Any) -> dict[str, Tensor]:
        """The class token of each asked input after the last layer, (B, D), by the letter of its stream.

        Args:
            audio: audio features.
            video: visual features.
            choices: see ``inputs``.
        """
        return self.transformer(self.inputs(audio, video, shared=True, **choices))

    def inputs(
        self,
        audio: Sequences,
        video: Sequences,
        *,
        streams: str = "m",
        attention: JointAttention = "cross",
        uniform: str = "",
        published_scaling: bool,
        with_padding: bool,
        shared: bool = False,
    ) -> dict[str, Tokens]:
        """What the transformer reads, by the letter of its stream.

        Args:
            audio: audio features.
            video: visual features.
            streams: of a (audio alone), v (video alone), m (both together).
            attention: who sees whom within m, see ``Tokens.join``.
            uniform: of a and v, those with the mean over the steps in place of attention.
            published_scaling: scale the inputs first, as released, see ``StepEncoder.forward``.
            with_padding: let padded steps into the encoders' batch statistics, as released.
            shared: let short clips share a row, see ``Tokens.join``.
        """
        a, v = self.steps(audio, video, published_scaling=published_scaling, with_padding=with_padding)
        return {
            s: Tokens.join(
                self.class_token,
                {"a": [a], "v": [v], "m": [a, v]}[s],
                attention=attention if s == "m" else "both",
                uniform=s in uniform,
                shared=shared and not isinstance(audio, Padded),
            )
            for s in streams
        }
