"""A plain PyTorch version of the computation in the published SACMA program, its waste included.

``bench.py`` compares speed with it, and tests compare numbers: it shares no code with ``sacma.models``.
It keeps the costs of the published program:
batches padded to their longest clip, encoders over all B*T rows, attention written out as scores, mask,
softmax and product, three passes through one transformer, one projection for every stream, a projection with
unused output, and a second forward pass in training mode after every optimiser step. Parameters carry
the published names, so that published state dictionaries load as they are.

Sources: SACMA (its equation numbers in brackets); TCAF for position embeddings, data pipeline and loop.
Shapes: B batch, T time steps, D = 300 width of transformer and text, d = 64 common width, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D, d, POSITION = 300, 64, 64
TEMPERATURE = 0.05
PAIR_WEIGHTS = {"mt": 1.0}  # the published program has 0.1 for every other pair, the paper 0.8 for at and tv


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes and dropout rates that differ between configurations; rates default to those of UCF-GZSL."""

    audio_width: int
    video_width: int
    hidden: int
    depth: int
    heads: int
    head_width: int
    decoder_hidden: int = 512
    feed_forward: int = 128
    encoder_dropout: float = 0.4
    decoder_dropout: float = 0.2
    text_dropout: float = 0.1
    transformer_dropout: float = 0.3
    position_dropout: float = 0.2


@dataclass
class PaddedBatch:
    """B clips with zeros after the end of each; a mask is 1.0 at real steps, times are in seconds."""

    audio: Tensor  # (B, Ta, Da)
    video: Tensor  # (B, Tv, Dv)
    audio_mask: Tensor  # (B, Ta)
    video_mask: Tensor  # (B, Tv)
    audio_time: Tensor  # (B, Ta)
    video_time: Tensor  # (B, Tv)
    words: Tensor  # (B, D)
    labels: Tensor  # (B,) class ids

    def to(self, device: torch.device) -> PaddedBatch:
        """This batch on a device."""
        return PaddedBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class LinearBlocks(nn.Module):
    """Linear, BatchNorm, ReLU, Dropout, once or twice: (N, widths[0]) -> (N, widths[-1])."""

    def __init__(self, *widths: int, dropout: float) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            blocks += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU(), nn.Dropout(dropout)]
        self.fc = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


class PositionBlock(nn.Module):
    """Joins modality, time and padding embeddings to each step and projects back: (B, T, D) -> (B, T, D)."""

    fourier_randn: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.register_buffer("fourier_randn", 10 * torch.randn(2, POSITION // 2))
        self.modal_embedding = nn.Embedding(2, POSITION)
        self.fourier_embeddings = nn.Linear(POSITION, POSITION)
        self.pad_embedding = nn.Embedding(1, POSITION)
        self.out_proj_audio = nn.Conv1d(D + POSITION, D, kernel_size=1)
        self.out_proj_video = nn.Conv1d(D + POSITION, D, kernel_size=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, audio: Tensor, video: Tensor, batch: PaddedBatch, *, timed: bool) -> list[Tensor]:
        """Audio and video with their positions; without ``timed`` the time of a step is its index."""
        extras = [
            self._embed(0, batch.audio_mask, batch.audio_time if timed else None),
            self._embed(1, batch.video_mask, batch.video_time if timed else None),
        ]
        projections = [self.out_proj_audio, self.out_proj_video]
        return [
            self.dropout(projection(torch.cat([x, extra], 2).transpose(1, 2)).transpose(1, 2))
            for x, extra, projection in zip([audio, video], extras, projections, strict=True)
        ]

    def _embed(self, modality: int, mask: Tensor, time: Tensor | None) -> Tensor:
        if time is None:
            time = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        angles = 2 * math.pi * time.float()[..., None] * self.fourier_randn.sum(0)  # (B, T, 32)
        seconds: Tensor = self.fourier_embeddings(torch.cat([angles.sin(), angles.cos()], -1))  # (B, T, 64)
        padding = (1 - mask)[..., None] * self.pad_embedding.weight[0]
        return seconds + self.modal_embedding.weight[modality] + padding


class MaskedAttention(nn.Module):
    """Multi-head attention (3) of x (B, T, D); ``allowed`` (B, T, T) is True where a row may see a column."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head_width
        self.to_q, self.to_k, self.to_v = (nn.Linear(D, inner, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(inner, D), nn.Dropout(sizes.transformer_dropout))

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        q, k, v = (  # (B, heads, T, head width)
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # (B, heads, T, T)
        scores = scores.masked_fill(~allowed[:, None], -torch.finfo(scores.dtype).max)
        out: Tensor = self.to_out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return out


class Layer(nn.Module):
    """Pre-norm attention and feed-forward (5), (6), with one LayerNorm for both."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.attn, self.norm = MaskedAttention(sizes), nn.LayerNorm(D)
        first, second = nn.Linear(D, sizes.feed_forward), nn.Linear(sizes.feed_forward, D)
        drop = nn.Dropout(sizes.transformer_dropout)
        self.ff = nn.ModuleDict({"net": nn.Sequential(first, nn.GELU(), drop, second, drop)})

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        x = self.attn(self.norm(x), allowed) + x
        out: Tensor = self.ff["net"](self.norm(x)) + x
        return out


class PlainTransformer(nn.Module):
    """(B, T, D) -> (B, D), the class token. The last layer has a second name, as in published checkpoints."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(sizes) for _ in range(sizes.depth)])
        self.add_module(f"layer_{sizes.depth - 1}", self.layers[-1])

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, allowed)
        return x[:, 0]


class Reference(nn.Module):
    """The published network with its training step and its evaluation pass."""

    def __init__(self, s: NetworkSizes) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, D))
        self.A_enc = LinearBlocks(s.audio_width, s.hidden, D, dropout=s.encoder_dropout)
        self.V_enc = LinearBlocks(s.video_width, s.hidden, D, dropout=s.encoder_dropout)
        self.W_proj = LinearBlocks(D, d, dropout=s.text_dropout)
        self.D_w = LinearBlocks(d, D, dropout=s.text_dropout)
        self.position_encoder_block = PositionBlock(s.position_dropout)
        self.audiovisual_embeddings = self.position_encoder_block  # two names for one module, as published
        self.Audio_visual_transformer = PlainTransformer(s)
        self.O_proj = LinearBlocks(D, s.decoder_hidden, d, dropout=s.decoder_dropout)
        self.D_o = LinearBlocks(d, s.decoder_hidden, D, dropout=s.decoder_dropout)

    def streams(self, batch: PaddedBatch, *, timed: bool) -> dict[str, Tensor]:
        """The class tokens c_a, c_v and c_m (B, D) of the three passes (2)-(4)."""
        video = F.normalize(batch.video)  # over dimension 1, which is time
        video = self.V_enc(video.flatten(0, 1)).unflatten(0, batch.video.shape[:2])
        audio = self.A_enc((batch.audio / 255).flatten(0, 1)).unflatten(0, batch.audio.shape[:2])
        audio, video = self.position_encoder_block(audio, video, batch, timed=timed)
        token, run = self.cls_token.expand(len(audio), -1, -1), self.Audio_visual_transformer
        both = torch.cat([batch.audio_mask, batch.video_mask], 1)
        return {
            "a": run(torch.cat([token, audio], 1), attention_mask(batch.audio_mask)),
            "v": run(torch.cat([token, video], 1), attention_mask(batch.video_mask)),
            "m": run(torch.cat([token, audio, video], 1), attention_mask(both, border=audio.shape[1])),
        }

    def forward(self, batch: PaddedBatch) -> dict[str, Tensor]:
        """Inputs of the training loss: w, theta_x (B, d) and rho_x (B, D) for x in a, v, m, t."""
        c = self.streams(batch, timed=True)
        self.O_proj((c["v"] + c["a"]) / 2)  # unused, but it moves the running statistics of BatchNorm
        out = {f"theta_{x}": self.O_proj(c[x]) for x in "avm"}
        out |= {f"rho_{x}": self.D_o(out[f"theta_{x}"]) for x in "avm"}
        out["theta_t"] = self.W_proj(batch.words)
        out["rho_t"] = self.D_w(out["theta_t"])
        return out | {"w": batch.words} | {f"c_{x}": c[x] for x in "avm"}

    def embeddings(self, batch: PaddedBatch, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi_m (B, d), once as "audio" and once as "video", and phi_t (K, d) of ``words`` (K, D); (7).

        The audio-only and the video-only pass are computed and not used; the time of a step is its index.
        """
        c = self.streams(batch, timed=False)
        _, _, theta_m = (self.O_proj(c[x]) for x in "avm")
        return theta_m, theta_m, self.W_proj(words)

    def step(
        self, batch: PaddedBatch, class_ids: list[int], adam: torch.optim.Optimizer, *, extra: bool = True
    ) -> dict[str, Tensor]:
        """One iteration of the published loop: labels, loss, Adam, and an unused ``extra`` forward pass."""
        for row in range(len(batch.labels)):
            batch.labels[row] = class_ids.index(int(batch.labels[row].item()))
        terms = losses(self(batch))
        adam.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        adam.step()
        if extra:
            self.embeddings(batch, batch.words)
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def distances(self, batch: PaddedBatch, class_vectors: Tensor) -> Tensor:
        """(B, K) distances of the evaluation pass; class vectors (K, D) are projected anew for each batch."""
        phi_m, _, phi_t = self.embeddings(batch, class_vectors)
        return torch.cdist(phi_m, phi_t)


def losses(out: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weighted loss terms, from the output of ``Reference.forward``; equations (8), (13)-(19)."""
    theta = {x: out[f"theta_{x}"] for x in "amtv"}
    contrastive = [
        PAIR_WEIGHTS.get(x + y, 0.1) * _info_nce(theta[x], theta[y]) for x, y in combinations("amtv", 2)
    ]
    cosine = [0.2 * (1 - F.cosine_similarity(theta[x], theta[y])).mean() for x, y in ("mt", "at", "tv", "av")]
    regression = [F.mse_loss(theta[x], theta["t"]) for x in "mav"]
    reconstruction = [F.mse_loss(out[f"rho_{x}"], out["w"]) for x in "mavt"]
    terms = {"contrastive": contrastive + cosine, "regression": regression, "reconstruction": reconstruction}
    return {name: torch.stack(parts).sum() for name, parts in terms.items()}


def _info_nce(x: Tensor, y: Tensor) -> Tensor:
    x, y = (z / z.norm(dim=1, keepdim=True).clamp(min=1e-8) for z in (x, y))
    logits, own = x @ y.T / TEMPERATURE, torch.arange(len(x), device=x.device)
    return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)


def attention_mask(valid: Tensor, border: int | None = None) -> Tensor:
    """Mask of attention, (B, 1 + T, 1 + T) bool, from valid steps (B, T).

    With ``border``, steps before it attend only to steps after it, and the reverse.
    """
    valid = F.pad(valid, (1, 0), value=1).bool()
    allowed = valid[:, :, None] & valid[:, None, :]
    if border is not None:
        allowed[:, 1 : 1 + border, 1 : 1 + border] = False
        allowed[:, 1 + border :, 1 + border :] = False
    return allowed


@dataclass
class Clips:
    """Clips in memory, like the published loader: one array for each clip and modality."""

    audio: list[Tensor]  # (Ta, Da) each
    video: list[Tensor]  # (Tv, Dv) each
    labels: list[int]
    words: Tensor  # (K, D), a row for each class id
    seconds: dict[str, float]  # how long a step is, by modality

    def collate(self, chosen: list[int], *, longest: int | None = None) -> PaddedBatch:
        """Pad to the longest clip of the batch, or keep the middle of each and pad to ``longest`` steps.

        A clip of another class is drawn and padded for each one, and dropped, as published.
        """
        self._pad([self._other_class(clip) for clip in chosen], longest)
        labels = torch.tensor([self.labels[clip] for clip in chosen])
        return PaddedBatch(**self._pad(chosen, longest), words=self.words[labels], labels=labels)

    def _pad(self, chosen: list[int], longest: int | None) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for name, sequences in {"audio": self.audio, "video": self.video}.items():
            values = [_middle(sequences[clip], longest) for clip in chosen]
            T = longest or max(len(value) for value in values)
            out[name] = torch.stack([F.pad(value, (0, 0, 0, T - len(value))) for value in values])
            out[f"{name}_mask"] = torch.stack([(torch.arange(T) < len(value)).float() for value in values])
            out[f"{name}_time"] = torch.stack([torch.arange(T) * self.seconds[name] for _ in chosen])
        return out

    def _other_class(self, clip: int) -> int:
        other = clip
        while self.labels[other] == self.labels[clip]:
            other = int(torch.randint(len(self.labels), ()).item())
        return other


def _middle(values: Tensor, longest: int | None) -> Tensor:
    keep = longest or len(values)
    return values[max(0, len(values) - keep) // 2 :][:keep]
