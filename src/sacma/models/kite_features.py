"""Features of clips in both versions of KITE: signed roots, covariance of sound and picture, main axes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.types import Padded, Sequences

COVARIANCE_WIDTH = 32  # of each modality
LEAST_COVARIANCE = 1e-3  # of steps of unit length; less than this is rounding, of pictures that stand still
ROWS_AT_ONCE = 8192
TINY = 1e-12


def rooted(x: Tensor) -> Tensor:
    """Signed square roots of (N, D) rows, at unit length."""
    return F.normalize(x.sign() * x.abs().sqrt(), dim=1)


def projection(width: int, *, seed: int) -> Tensor:
    """(width, min(width, 32)): the identity, or Gaussian random numbers, which keep products on average."""
    if width <= COVARIANCE_WIDTH:
        return torch.eye(width)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, COVARIANCE_WIDTH, generator=generator) / COVARIANCE_WIDTH**0.5


def covariances(audio: Sequences, video: Sequences) -> Tensor:
    """(B, Da, Dv): mean product of an audio step with the video step nearest in time, centred."""
    if isinstance(audio, Padded) and isinstance(video, Padded):
        return _padded_covariances(audio, video)
    if not len(audio.values) or not len(video.values):
        return audio.values.new_zeros(len(audio.lengths), audio.values.shape[1], video.values.shape[1])
    there = nearest_steps(audio, video)
    beside = video.values[there] * (video.clip[there] == audio.clip)[:, None]
    # It is enough that one of the factors has mean zero.
    centred = beside - audio.with_values(beside).mean()[audio.clip]
    return audio.padded().transpose(1, 2) @ audio.padded(centred / audio.lengths[audio.clip][:, None])


def _padded_covariances(audio: Padded, video: Padded) -> Tensor:
    """The same for a graph: no shape depends on a value."""
    batch = audio.lengths.shape[0]
    sound = audio.values.unflatten(0, (batch, audio.longest))  # (B, Ta, Da)
    # One more step that is never near: a clip without pictures has steps to choose from.
    picture = F.pad(video.values.unflatten(0, (batch, video.longest)), (0, 0, 0, 1))  # (B, Tv + 1, Dv)
    heard = audio.seconds.unflatten(0, (batch, audio.longest))
    seen = F.pad(video.seconds.unflatten(0, (batch, video.longest)), (0, 1))
    missing = F.pad(~video.valid, (0, 1), value=True)
    apart = (heard[:, :, None] - seen[:, None]).abs().masked_fill(missing[:, None], torch.inf)
    there = apart.argmin(2)[:, :, None]  # the first of equals
    beside = picture.gather(1, there.expand(-1, -1, picture.shape[2]))  # (B, Ta, Dv)
    kept = audio.valid[..., None] & (video.lengths > 0)[:, None, None]
    share = kept / audio.lengths.clamp(min=1)[:, None, None]
    centred = beside - (beside * share).sum(1, keepdim=True)
    return sound.transpose(1, 2) @ (centred * share)


def nearest_steps(to: Sequences, among: Sequences) -> Tensor:
    """(N,) for each of the N steps of ``to`` the step of ``among`` in the same clip that is nearest in time.

    Of two equally near ones it is the earlier one. Where a clip has none, it is one of another clip.
    """
    # Clips are further from each other than any two steps within one.
    apart = 2 * torch.maximum(to.seconds.max(), among.seconds.max()).double() + 1
    times = [steps.clip * apart + steps.seconds for steps in (to, among)]
    after = torch.searchsorted(times[1], times[0]).clamp(max=len(times[1]) - 1)
    before = (after - 1).clamp(min=0)
    nearer = (times[0] - times[1][before]).abs() <= (times[1][after] - times[0]).abs()
    return torch.where(nearer, before, after)


def principal(features: Tensor, rank: int) -> Tensor:
    """(d, r) orthonormal: the directions of (n, d) rows, the ``rank`` principal ones where there are more."""
    mean = features.double().mean(0)
    if len(features) > features.shape[1]:
        second = sum((part.T @ part for part in features.double().split(ROWS_AT_ONCE)), mean.new_zeros(()))
        return principal_of(second, mean, len(features), rank)
    rows = features.double() - mean
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    return F.normalize(rows.T @ vectors[:, _kept(values, rank)], dim=0)


def principal_of(second: Tensor, mean: Tensor, count: int, rank: int) -> Tensor:
    """(d, r) the same from the (d, d) sum of outer products and the (d,) mean of ``count`` rows."""
    values, vectors = torch.linalg.eigh(second - count * torch.outer(mean, mean))
    return vectors[:, _kept(values, rank)]


def _kept(values: Tensor, rank: int) -> Tensor:
    """Positions of the largest of (r,) ascending eigenvalues, the largest first."""
    return (values > TINY * values[-1]).nonzero().squeeze(1).flip(0)[:rank]
