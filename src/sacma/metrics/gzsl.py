"""Generalised zero-shot metrics: S, U, their harmonic mean, ZSL, AUSUC and the search for the bias.

Section 4.3 of the paper; the protocol is that of the AVCA and TCAF benchmarks. S and U are the means over the
seen and over the unseen classes of the accuracy within each class, all classes being candidates; ZSL is the
same over the unseen classes with only these as candidates. Classes without any clip are left out of every
mean. The bias (calibrated stacking, Chao et al., ECCV 2016) is added to the distances of seen classes.

All of this depends on a clip only through its nearest seen and its nearest unseen class, see ``nearest.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from sacma.errors import SacmaError, one_line, printable
from sacma.files import are_numbers, is_number
from sacma.metrics.nearest import Nearest
from sacma.types import ClassSet

if TYPE_CHECKING:
    from rich.table import Table

BiasSearch = Literal["exact", "grid", "fine-grid", "smooth"]

# Candidates for the bias: those of the benchmark's code, and those of ClipClap's.
GRIDS = {
    "grid": torch.linspace(0, 3, 16, dtype=torch.float64),
    "fine-grid": torch.linspace(0, 5, 76, dtype=torch.float64),
}
MEASURES = ("seen", "unseen", "harmonic_mean", "zsl", "bias", "ausuc")
"""Names of the numbers of a ``GZSLResult``."""

# Of ``smooth``: width as a share of the margins' standard deviation, and how many biases are tried.
SMOOTH_WIDTH, SMOOTH_BIASES = 0.5, 401

# Sums over clips are rounded differently in every order: harmonic means closer than this are ties.
TIE = 1e-12

ACCURACIES = {"S": "seen", "U": "unseen", "HM": "harmonic_mean", "ZSL": "zsl"}
"""Column of a table -> field of ``GZSLResult``."""
NORMAL_95 = 1.96
"""Standard errors on each side of a 95 % interval, where a sum over many clips is about normal."""


def per_class_accuracy(correct: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the accuracy within each class, (K,) float64; nan for a class without clips.

    Args:
        correct: (N,) bool.
        labels: (N,) int64, the class of each clip.
        classes: K.
    """
    hits = torch.bincount(labels[correct], minlength=classes)
    return hits.double() / torch.bincount(labels, minlength=classes)


def harmonic_mean(seen: Tensor, unseen: Tensor) -> Tensor:
    """Return 2SU / (S + U), 0 where both are 0; element by element."""
    # The benchmark's own guard, one unit in the last place of 1: it changes no digit that is shown.
    return 2 * unseen * seen / (unseen + seen + torch.finfo(torch.float64).eps)


@dataclass(frozen=True)
class GZSLResult:
    """Result of an evaluation. Accuracies are fractions; nan where there is nothing to average.

    Attributes:
        seen: S, mean accuracy over seen classes, all classes being candidates.
        unseen: U, the same over unseen classes.
        harmonic_mean: 2SU / (S + U).
        zsl: mean accuracy over unseen classes, only these being candidates.
        bias: what was added to the distances of seen classes.
        ausuc: area under the curve of S against U over all biases.
        bias_search: how the bias was found: ``exact``, ``grid``, or what the caller calls it.
        per_class: name -> accuracy among all candidates, for classes with clips.
        per_class_zsl: name -> accuracy among unseen candidates, for unseen classes with clips.
        warnings: notes for readers of these numbers.
    """

    seen: float
    unseen: float
    harmonic_mean: float
    zsl: float
    bias: float
    ausuc: float
    bias_search: str
    per_class: dict[str, float] = field(default_factory=dict)
    per_class_zsl: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; nan becomes None."""
        plain = asdict(self) | {"warnings": list(self.warnings)}
        return {name: None if _is_nan(value) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: object) -> GZSLResult:
        """Read what ``to_dict`` wrote; None becomes nan.

        Raises:
            SacmaError: a field is missing, unknown, or of another type; it is named.
        """
        if not isinstance(plain, Mapping) or not all(isinstance(name, str) for name in plain):
            raise SacmaError("not a result of an evaluation; write it again with `sacma evaluate`")
        for name, value in plain.items():
            if not _FIELDS.get(name, lambda _: True)(value):
                raise SacmaError(f"{name} is not as an evaluation writes it; repeat `sacma evaluate`")
        values: dict[str, Any] = {name: math.nan if value is None else value for name, value in plain.items()}
        try:
            return cls(**values | {"warnings": tuple(values.get("warnings", ()))})
        except TypeError as error:
            raise SacmaError(
                f"not a result of an evaluation: {one_line(error, limit=200)}; write it again with "
                "`sacma evaluate`"
            ) from error

    def __str__(self) -> str:
        return "  ".join(f"{name} {value}" for name, value in self._shown().items())

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(caption="\n".join(self.warnings) or None, caption_justify="left")
        for name in self._shown():
            table.add_column(name, justify="right")
        table.add_row(*self._shown().values())
        return table

    def _shown(self) -> dict[str, str]:
        """Format accuracies in percent, and the bias as a distance."""
        shares = {
            "S": self.seen,
            "U": self.unseen,
            "HM": self.harmonic_mean,
            "ZSL": self.zsl,
            "AUSUC": self.ausuc,
        }
        percent = {name: "-" if _is_nan(share) else f"{100 * share:.2f}" for name, share in shares.items()}
        return percent | {"bias": f"{self.bias:.4g}"}


def evaluate(
    nearest: Nearest,
    labels: Tensor,
    classes: ClassSet,
    *,
    bias: float,
    bias_search: str,
    warnings: Sequence[str] = (),
) -> GZSLResult:
    """Compute all metrics of N clips at a given bias.

    Args:
        nearest: of the N clips.
        labels: (N,) positions in ``classes``.
        classes: the K candidates.
        bias: added to the distances of seen classes; from ``best_bias`` on validation, or 0.
        bias_search: how the bias was found, for the record.
        warnings: those of the search, for the record.

    Raises:
        SacmaError: no clips, not one label a clip, a label that is no class, or a bias that is not finite.
    """
    labels, seen = labels.cpu(), classes.seen.cpu()
    _check(nearest, labels, len(classes))
    if not math.isfinite(bias):
        raise SacmaError(f"the bias is {bias}; give a finite distance, 0 for none")
    answer = torch.where(nearest.predicts_seen(bias), nearest.seen_class, nearest.unseen_class)
    accuracy = per_class_accuracy(answer == labels, labels, len(classes))  # (K,)
    accuracy_zsl = per_class_accuracy(nearest.unseen_class == labels, labels, len(classes))
    S, U = accuracy[seen].nanmean(), accuracy[~seen].nanmean()
    empty = int(accuracy.isnan().sum())
    if empty:
        warnings = [
            *warnings,
            f"{empty} of {len(classes)} classes have no clip and are left out of the means",
        ]
    return GZSLResult(
        seen=S.item(),
        unseen=U.item(),
        harmonic_mean=harmonic_mean(S, U).item(),
        zsl=accuracy_zsl[~seen].nanmean().item(),
        bias=float(bias),
        ausuc=ausuc(nearest, labels, seen),
        bias_search=bias_search,
        per_class=_by_name(classes.names, accuracy),
        per_class_zsl=_by_name(classes.names, accuracy_zsl.masked_fill(seen, torch.nan)),
        warnings=tuple(warnings),
    )


def clip_errors(
    per_class: Tensor, per_class_zsl: Tensor, counts: Tensor, seen: Tensor, *, draws: int = 4000
) -> dict[str, float]:
    """Estimate standard errors of S, U, HM and ZSL over the choice of test clips: a bootstrap within classes.

    Drawing a class's n clips again from themselves leaves a binomial number of hits, so accuracies and counts
    are all that it takes. The errors of different classifiers on the same clips are correlated.

    Args:
        per_class: (K,) accuracies among all candidates; nan for classes without clips.
        per_class_zsl: (K,) accuracies among unseen candidates; nan for seen classes.
        counts: (K,) clips of each class.
        seen: (K,) bool.
        draws: bootstrap samples; their random state is fixed.
    """
    generator = torch.Generator().manual_seed(0)

    def again(accuracy: Tensor, kept: Tensor) -> Tensor:
        n = counts[kept].double().expand(draws, -1)
        p = accuracy[kept].double().nan_to_num().expand(draws, -1)
        return (torch.binomial(n, p, generator=generator) / n).nanmean(1)

    S, U, Z = again(per_class, seen), again(per_class, ~seen), again(per_class_zsl, ~seen)
    samples = {"seen": S, "unseen": U, "harmonic_mean": harmonic_mean(S, U), "zsl": Z}
    return {name: float(values.std()) for name, values in samples.items()}


def best_bias(
    nearest: Nearest, labels: Tensor, seen: Tensor, *, search: BiasSearch = "exact"
) -> tuple[float, tuple[str, ...]]:
    """Find the bias with the largest harmonic mean.

    ``exact``: S and U are constant between the margins at which a clip changes from right to wrong or back,
    so one sort gives all values that they can take. The best open interval of biases is taken, the lowest on
    ties, without its part below 0; its midpoint is the bias. (Above the largest margin nothing is answered
    with a seen class and the harmonic mean is 0: the best interval is bounded unless every one gives 0, and
    then the bias is 0.) No scale is assumed: with distances times c the bias is times c.

    ``grid``: the first best of 0, 0.2, ..., 3, as the published benchmarks do, whatever the distances' scale.
    ``fine-grid``: the same of 0, 1/15, ..., 5, as ClipClap does.

    ``smooth``: the bias around which harmonic means are largest on average, over a normal distribution half
    as wide as the margins spread. New classes have another best bias than those of validation; this one keeps
    away from biases beyond which the harmonic mean falls steeply. No scale is assumed either.

    Args:
        nearest: of N validation clips.
        labels: (N,) positions in the class set.
        seen: (K,) bool, True for seen classes.
        search: which of the four.

    Returns:
        The bias, at least 0, and warnings: an answer that says little about calibration is no error.

    Raises:
        SacmaError: no clips, not one label a clip, or a label that is no class.
    """
    labels, seen = labels.cpu(), seen.cpu()
    _check(nearest, labels, len(seen))
    for kind, mask in (("seen", seen), ("unseen", ~seen)):
        if not bool(mask[labels].any()):
            return 0.0, (f"no clip of a {kind} class: there is nothing to calibrate, the bias is 0",)
    if search in GRIDS:
        return _best_on_grid(nearest, labels, seen, GRIDS[search])
    if search == "exact":
        return _best_interval(nearest, labels, seen)
    if search == "smooth":
        return _best_on_average(nearest, labels, seen)
    raise SacmaError(
        f"bias_search is {printable(search)}; it must be one of exact, smooth, {', '.join(GRIDS)}"
    )


def ausuc(nearest: Nearest, labels: Tensor, seen: Tensor) -> float:
    """Compute the area under the curve of S against U as the bias goes from minus to plus infinity.

    The curve's points are all values of (U, S) between two margins, its ends (0, S without any unseen answer)
    and (U without any seen answer, 0); they are joined by straight lines, the trapezoid rule of Chao et al.
    Where no two clips share a margin, only S or only U changes from point to point, and staircase and
    trapezoid are the same. nan without clips of seen or of unseen classes.
    """
    labels, seen = labels.cpu(), seen.cpu()
    _check(nearest, labels, len(seen))
    steps = seen_unseen_curve(nearest, labels, seen)
    return torch.trapezoid(steps.seen, steps.unseen).item()


class Curve(NamedTuple):
    """S and U as step functions of the bias.

    Attributes:
        margins: (M,) ascending, where S or U changes.
        seen: (M + 1,) S below the first margin, between neighbouring ones, above the last.
        unseen: (M + 1,) U likewise.
    """

    margins: Tensor
    seen: Tensor
    unseen: Tensor


def seen_unseen_curve(nearest: Nearest, labels: Tensor, seen: Tensor) -> Curve:
    """Compute S and U at every bias, for N clips with ``labels`` (N,); ``seen`` (K,) on the CPU.

    One sort: a clip of a seen class is right below its margin only, one of an unseen class above only.
    """
    share, of_seen = _shares(labels, seen), seen[labels]
    lost = torch.where(
        of_seen & (nearest.seen_class == labels), share, 0.0
    )  # (N,) what S loses at the margin
    gained = torch.where(~of_seen & (nearest.unseen_class == labels), share, 0.0)  # what U gains there
    finite = torch.isfinite(nearest.margin)  # without seen or without unseen candidates nothing ever changes
    change = (lost + gained > 0) & finite
    margins, group = nearest.margin[change].unique(sorted=True, return_inverse=True)  # (M,)
    lost_at = torch.zeros_like(margins).index_add(0, group, lost[change])
    gained_at = torch.zeros_like(margins).index_add(0, group, gained[change])
    always_seen = lost[~finite & (nearest.margin > 0)].sum()
    always_unseen = gained[~finite & (nearest.margin < 0)].sum()
    S = torch.cat((lost_at.flip(0).cumsum(0).flip(0), lost_at.new_zeros(1))) + always_seen
    U = torch.cat((gained_at.new_zeros(1), gained_at.cumsum(0))) + always_unseen
    nothing = margins.new_tensor(torch.nan)
    return Curve(
        margins,
        S if bool(of_seen.any()) else nothing.expand_as(S),
        U if not bool(of_seen.all()) else nothing.expand_as(U),
    )


def _shares(labels: Tensor, seen: Tensor) -> Tensor:
    """Return the weight of each clip in S or U, (N,): 1 / (clips of its class x such classes with clips)."""
    clips = torch.bincount(labels, minlength=len(seen))  # (K,)
    with_clips = clips > 0
    classes = torch.where(seen, (with_clips & seen).sum(), (with_clips & ~seen).sum())  # (K,)
    return 1 / (clips * classes).double()[labels]


def _best_interval(nearest: Nearest, labels: Tensor, seen: Tensor) -> tuple[float, tuple[str, ...]]:
    steps = seen_unseen_curve(nearest, labels, seen)
    infinite = steps.margins.new_tensor([torch.inf])
    low = torch.cat((-infinite, steps.margins)).clamp(min=0)  # (M + 1,)
    high = torch.cat((steps.margins, infinite))
    middle = low + (high - low) / 2
    # Between neighbouring floating-point numbers there is no room for a bias.
    usable = (low < middle) & (middle < high) & torch.isfinite(high)
    HM = harmonic_mean(steps.seen, steps.unseen).masked_fill(~usable, 0.0)
    best = int(_first_best(HM))
    if HM[best] == 0:
        return 0.0, ("no bias gives a harmonic mean above 0: the bias is 0",)
    return middle[best].item(), ()


def _best_on_average(nearest: Nearest, labels: Tensor, seen: Tensor) -> tuple[float, tuple[str, ...]]:
    """Search ``smooth``; as ``exact`` where all margins are the same."""
    steps = seen_unseen_curve(nearest, labels, seen)
    margins = nearest.margin[torch.isfinite(nearest.margin)]
    width = SMOOTH_WIDTH * margins.std(correction=0) if len(margins) else margins.new_zeros(())
    if not width > 0 or not len(steps.margins):
        return _best_interval(nearest, labels, seen)
    biases = torch.linspace(0, max(float(margins.max()), float(width)), SMOOTH_BIASES, dtype=torch.float64)
    HM = harmonic_mean(steps.seen, steps.unseen)  # (M + 1,)
    # The mean of a step function: each step counts by the share of the distribution that lies beyond it.
    beyond = torch.special.ndtr((biases[:, None] - steps.margins) / width)  # (SMOOTH_BIASES, M)
    means = HM[0] + beyond @ HM.diff()
    if not means.max() > TIE:
        return 0.0, ("no bias gives a harmonic mean above 0: the bias is 0",)
    return biases[_first_best(means)].item(), ()


def _best_on_grid(
    nearest: Nearest, labels: Tensor, seen: Tensor, grid: Tensor
) -> tuple[float, tuple[str, ...]]:
    share, of_seen = _shares(labels, seen), seen[labels]
    says_seen = nearest.predicts_seen(grid[:, None])  # (M, N)
    S = (says_seen & of_seen & (nearest.seen_class == labels)).double() @ share  # (M,)
    U = (~says_seen & ~of_seen & (nearest.unseen_class == labels)).double() @ share
    best = int(_first_best(harmonic_mean(S, U)))
    bias = grid[best].item()
    if best == len(grid) - 1:
        return bias, (
            f"the best bias is the end of the grid, {bias:g}: a larger one may be better, use exact search",
        )
    return bias, ()


def _first_best(values: Tensor) -> Tensor:
    return (values >= values.max() - TIE).int().argmax()


def _check(nearest: Nearest, labels: Tensor, classes: int) -> None:
    if len(labels) != len(nearest) or not len(labels):
        raise SacmaError(
            f"{len(nearest)} clips with {len(labels)} labels; expected one label a clip and at least one clip"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise SacmaError(
            f"labels go from {int(labels.min())} to {int(labels.max())}; "
            f"expected positions among {classes} classes"
        )


def _by_name(names: Sequence[str], accuracy: Tensor) -> dict[str, float]:
    """Return accuracy by class name, without classes that have no clips."""
    return {name: a for name, a in zip(names, accuracy.tolist(), strict=True) if not math.isnan(a)}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_number(value: object) -> bool:
    return value is None or is_number(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(MEASURES, _is_number),
    "bias_search": lambda value: isinstance(value, str),
    "per_class": are_numbers,
    "per_class_zsl": are_numbers,
    "warnings": _is_texts,
}
