"""The encoder of steps that TCAF and SACMA share: A_enc, V_enc, and the modality and time of each step. (1)

Steps are packed (``sacma.types.Sequences``): no network sees padding, unless asked to do as released. Source:
TCAF (ECCV 2022), from which SACMA takes them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sacma.distributed import processes
from sacma.models.layers import Dropout, EmbeddingNet, Linear
from sacma.models.tokens import take_rows
from sacma.types import Sequences


class StepEncoder(nn.Module):
    """Encode each step, then add its modality and time. (1)

    Args:
        audio_width: of an audio feature vector.
        video_width: of a visual feature vector.
        width: D, of a token.
        hidden: hidden width of both encoders.
        dropout: in the encoders.
        position_dropout: after the positions are added.
    """

    def __init__(
        self,
        audio_width: int,
        video_width: int,
        width: int,
        *,
        hidden: int,
        dropout: float,
        position_dropout: float,
    ) -> None:
        super().__init__()
        self.audio = EmbeddingNet(audio_width, width, hidden=hidden, dropout=dropout)
        self.video = EmbeddingNet(video_width, width, hidden=hidden, dropout=dropout)
        self.position = Position(width, dropout=position_dropout)

    def forward(
        self, audio: Sequences, video: Sequences, *, published_scaling: bool, with_padding: bool
    ) -> tuple[Sequences, Sequences]:
        """Feature vectors to tokens of width D.

        Args:
            audio: audio features.
            video: visual features.
            published_scaling: first divide audio by 255 and ``normalise_over_time`` video, as released.
            with_padding: see ``encode_steps``.
        """
        if published_scaling:
            audio = audio.with_values(audio.values / 255)
            video = normalise_over_time(video)
        return self.position(
            audio.with_values(encode_steps(self.audio, audio, with_padding=with_padding)),
            video.with_values(encode_steps(self.video, video, with_padding=with_padding)),
        )


class Position(nn.Module):
    """Add modality and time to each step: concatenate an embedding of both and project back to the width.

    The time t in seconds enters as sine and cosine of 2 pi t (r_0 + r_1), followed by a linear layer; the
    frequencies r are random and fixed. The released code also embeds padding, which only changes padded steps
    and is left out.

    Args:
        width: D, of the steps.
        embedding: width of the embedding, even.
        scale: standard deviation of the frequencies.
        dropout: probability, on the result.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, embedding: int = 64, scale: float = 10.0, dropout: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(2, embedding // 2))
        self.time = Linear(embedding, embedding)
        self.modality = nn.Embedding(2, embedding)
        self.project_audio = Linear(width + embedding, width)
        self.project_video = Linear(width + embedding, width)
        self.dropout = Dropout(dropout)

    def forward(self, audio: Sequences, video: Sequences) -> tuple[Sequences, Sequences]:
        """Steps of width D -> steps of width D; the time of a step is read from ``seconds``."""
        return (
            audio.with_values(self._place(audio, 0, self.project_audio)),
            video.with_values(self._place(video, 1, self.project_video)),
        )

    def _place(self, sequences: Sequences, modality: int, project: nn.Module) -> Tensor:
        angle = 2 * math.pi * sequences.seconds[:, None] * self.frequencies.sum(0)  # (N, 32)
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))  # (N, 64)
        placed = project(torch.cat([sequences.values, time + self.modality.weight[modality]], dim=-1))
        return self.dropout(placed)


def normalise_over_time(sequences: Sequences) -> Sequences:
    """Divide each channel of a clip by its norm over the clip's steps, as TCAF and SACMA do with video."""
    square = sequences.values.new_zeros(sequences.lengths.shape[0], sequences.values.shape[1])
    norm = square.index_add(0, sequences.clip, sequences.values.square()).sqrt()
    return sequences.with_values(sequences.values / norm.clamp(min=1e-12)[sequences.clip])


def encode_steps(net: EmbeddingNet, sequences: Sequences, *, with_padding: bool = False) -> Tensor:
    """Apply a network to each step.

    Args:
        net: of rows, (N, D) -> (N, D').
        sequences: N steps of width D.
        with_padding: in training, include the padded batch's rows of zeros in the BatchNorm statistics, as
            the released code does.

    Returns:
        (N, D').
    """
    if with_padding and net.training and sequences.longest:
        return _among_padding(net, sequences)
    # BatchNorm would turn its running statistics into NaN on a batch without a single row.
    if sequences.longest == 0:
        return _no_rows(net, sequences.values)
    if sequences.values.shape[0] == 1 and net.training and processes() == 1:
        return _one_row(net, sequences.values)
    return net(sequences.values)


def _among_padding(net: EmbeddingNet, sequences: Sequences) -> Tensor:
    """Apply ``net`` to the padded batch, (B * T, D), and keep the rows of steps, (N, D').

    The first layer multiplies steps alone: of a row of zeros it makes its bias.
    """
    first, *others = net
    assert isinstance(first, nn.Linear)
    places = sequences.clip * sequences.longest + sequences.step
    steps = first(sequences.values)
    padding = first.bias.to(steps.dtype).expand(sequences.lengths.shape[0] * sequences.longest, -1)
    rows = padding.index_copy(0, places, steps)
    for layer in others:
        rows = layer(rows)
    return take_rows(rows, places)


def _no_rows(net: nn.Module, values: Tensor) -> Tensor:
    width = [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    return values.new_zeros(0, width)


def _one_row(net: nn.Module, values: Tensor) -> Tensor:
    """Normalise a single row, which has no variance, as in evaluation; the statistics stay as they are."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]
    for norm in norms:
        norm.eval()
    try:
        rows: Tensor = net(values)
    finally:
        for norm in norms:
            norm.train()
    return rows
