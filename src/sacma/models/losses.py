"""Losses of SACMA (equations 8 to 19 of the paper) and of the methods it is compared with: pure functions.

Every function takes embeddings of one batch, in which row i belongs to clip i, and returns a scalar to
minimise, averaged over the batch. Losses are computed in single precision at least: in half precision the
smallest norm would be zero and logits would keep three digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sacma.errors import SacmaError, printable

SameClass = Literal["negative", "masked", "positive"]
Ranking = Literal["devise", "sje", "ale"]

NORM_FLOOR = 1e-8  # so that a row of zeros has cosine 0 to everything, not NaN


def contrastive(
    embeddings: Mapping[str, Tensor],
    weights: Mapping[tuple[str, str], float],
    *,
    temperature: float = 0.05,
    same_class: SameClass = "negative",
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Weighted contrastive loss over pairs of modalities, equations (10) to (14).

    The term of a pair is its weight times the InfoNCE of each row of the first against all rows of the
    second plus that of the second against the first, on cosine similarities divided by the temperature.

    Args:
        embeddings: name -> (B, D); row i of each belongs to clip i.
        weights: (first name, second name) -> weight; these pairs and no others are compared.
        temperature: tau of (14); the paper's value is the default.
        same_class: role of other clips of the same class. ``negative``, as in the paper: negatives like any
            other. ``masked``: left out of the denominator. ``positive``: positives too; the loss of a row is
            then the mean of -log softmax over its positives (itself included), with all B columns in the
            denominator.
        labels: (B,) integers; needed unless ``same_class`` is ``negative``.

    Returns:
        "first-second" -> scalar, in the order of ``weights``; their sum is l_ccl of (13).

    Example:
        >>> same = torch.eye(2)
        >>> contrastive({"a": same, "t": same}, {("a", "t"): 1.0}, temperature=1.0)
        {'a-t': tensor(0.6265)}

    Raises:
        SacmaError: a pair names an embedding that is not given, or labels are missing.
    """
    compared = {name for pair in weights for name in pair}
    if missing := sorted(compared - set(embeddings)):
        raise SacmaError(
            f"contrastive loss: no embedding named {', '.join(missing)}; there are {', '.join(embeddings)}"
        )
    same = _same_class(same_class, labels)
    unit = {name: _unit(rows) for name, rows in embeddings.items() if name in compared}
    return {
        f"{first}-{second}": weight * _info_nce(unit[first], unit[second], temperature, same_class, same)
        for (first, second), weight in weights.items()
    }


def cosine_distance_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean over the batch of 1 - cosine of the rows of x and y, both (B, D): one term of (15) to (17).

    Example:
        >>> cosine_distance_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(1.)
    """
    _check_same_shape("cosine distance loss", x, y)
    return 1 - (_unit(x) * _unit(y)).sum(dim=1).mean()


def regression(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference over all elements of x and y, same shape: one term of (18) and of (19).

    (18) compares the embedding of a stream with that of the text, (19) a reconstruction with the class
    vector. The paper's 1/n could also mean a sum over the width; the released code takes the mean over it as
    well.

    Example:
        >>> regression(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
        tensor(5.)
    """
    _check_same_shape("regression loss", x, y)
    return F.mse_loss(_single(x), _single(y))


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """max(0, margin + |anchor - positive| - |anchor - negative|) of (B, D) embeddings, Euclidean.

    As ``torch.nn.TripletMarginLoss``: 1e-6 is added to each difference before its norm is taken.

    Returns:
        The mean over the batch, or with ``reduction="none"`` the (B,) values.
    """
    _check_same_shape("triplet loss", anchor, positive)
    _check_same_shape("triplet loss", anchor, negative)
    rows = (_single(anchor), _single(positive), _single(negative))
    return F.triplet_margin_loss(*rows, margin=margin, eps=1e-6, reduction=reduction)


def ranking(scores: Tensor, labels: Tensor, *, kind: Ranking, margin: float = 0.1) -> Tensor:
    """Ranking loss of compatibility scores: the right class should score higher than others by a margin.

    With the violations c_ij = max(0, margin + s_ij - s_iy), zero at the right class y, a clip costs

    - ``devise``: the sum of its c_ij (Frome et al., NeurIPS 2013);
    - ``sje``: the largest c_ij (Akata et al., CVPR 2015);
    - ``ale``: H(r) / r times their sum, r the number of positive c_ij and H(r) = 1 + 1/2 + ... + 1/r, so
      that a clip whose class ranks high costs more per violation (Akata et al., CVPR 2013).

    Args:
        scores: (B, K), larger is better.
        labels: (B,) positions of the right classes.
        kind: one of the three.
        margin: by default that of the released benchmark code.

    Returns:
        The mean over the batch.

    Example:
        >>> ranking(torch.tensor([[1.0, 0.95, 0.92]]), torch.tensor([0]), kind="sje")
        tensor(0.0500)
    """
    scores = _single(scores)
    right = labels[:, None]  # (B, 1)
    violations = (margin + scores - scores.gather(1, right)).clamp(min=0).scatter(1, right, 0.0)  # (B, K)
    if kind == "sje":
        return violations.max(dim=1).values.mean()
    cost = violations.sum(dim=1)
    if kind == "ale":
        rank = (violations > 0).sum(dim=1)
        counts = torch.arange(1, scores.shape[1] + 1, dtype=scores.dtype, device=scores.device)
        harmonic = F.pad(counts.reciprocal().cumsum(0), (1, 0))  # (K + 1,), H(0) = 0
        cost = cost * harmonic[rank] / rank.clamp(min=1)
    return cost.mean()


def _info_nce(x: Tensor, y: Tensor, temperature: float, same_class: SameClass, same: Tensor | None) -> Tensor:
    """(14) in both directions for unit rows x and y; ``same`` (B, B) marks pairs of clips of one class."""
    with torch.autocast(x.device.type, enabled=False):
        logits = x @ y.T / temperature  # (B, B)
    if same is None:
        clips = torch.arange(len(logits), device=logits.device)
        return F.cross_entropy(logits, clips) + F.cross_entropy(logits.T, clips)
    if same_class == "masked":
        others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(others, -torch.inf)
        log_p = logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()
        return -log_p.mean()
    log_p = logits.log_softmax(dim=1) + logits.log_softmax(
        dim=0
    )  # same is symmetric: both directions at once
    return -((log_p * same).sum(dim=1) / same.sum(dim=1)).mean()


def _same_class(same_class: SameClass, labels: Tensor | None) -> Tensor | None:
    """(B, B) bool, True for two clips of one class and on the diagonal; None for ``negative``."""
    if same_class == "negative":
        return None
    if same_class not in ("masked", "positive"):
        raise SacmaError(
            f"same_class is {printable(same_class)}; it must be one of negative, masked, positive"
        )
    if labels is None:
        raise SacmaError(
            f"contrastive loss: same_class {printable(same_class)} needs the labels of the batch"
        )
    return labels[:, None] == labels


def _single(x: Tensor) -> Tensor:
    """Convert half to single precision; other types stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _unit(x: Tensor) -> Tensor:
    return F.normalize(_single(x), dim=1, eps=NORM_FLOOR)


def _check_same_shape(name: str, x: Tensor, y: Tensor) -> None:
    # Broadcasting (B, 1) against (B,) would silently average over B x B pairs.
    if x.shape != y.shape:
        raise SacmaError(
            f"{name}: shapes {tuple(x.shape)} and {tuple(y.shape)} differ; give tensors of one shape"
        )
