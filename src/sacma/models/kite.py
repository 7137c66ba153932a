"""KITE: closed forms of two views of a clip, added up by weights learned in episodes of training clips.

Ours: neither in the SACMA paper nor in another one; docs/results/beyond.md says what it rests on and what
was left out. A clip is seen twice, with J scores and G gates from each view (``kite_forms``),

    root    (r(video), r(audio), beta C)    r(u) = sign(u) sqrt(|u|) / its norm, of averages over time
    unit    (u(video), u(audio), beta C)    u(x) = x / its norm
    C = mean_t P r(a_t) (Q r(v_t) - mean)^T / its norm      what sound and picture do together, (32 * 32,)

and its distance to a class c is

    d(x, c) = - sum_j theta_j s_j(x, c) - [c seen] (sum_g phi_g gate_g(x, c) + tau)

v_t is the step of the video nearest in time to the step t of the sound; P and Q are fixed random projections,
which keep products, of what is wider than 32. C is the covariance of both over the clip, which averages over
time lose; it is left out where no clip has more than one step.

theta, phi >= 0 and tau come from episodes within the training clips (``kite_episodes``): each hides a quarter
of the training classes and a fifth of the clips, or groups of clips, of the others. A conditional logit over
all queries gives theta and phi, drawn towards equal scores, or, of ten classes or fewer, towards the mixture
of the first view with the largest ridge. tau is the offset with the largest mean harmonic mean, taken over a
spread of offsets, as new classes will have another best one. So there is no bias from validation, and what a
score is worth is measured on classes that had no part in it.

Everything but theta, phi and tau follows from counts, sums and second moments, so ``add_clips`` takes more
clips, and classes, without the former ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.models.base import Method
from sacma.models.configs.fitted import KITEConfig
from sacma.models.kite_episodes import (
    Asked,
    Episode,
    at_most,
    draw_episodes,
    find_offset,
    first_weights,
    learn,
)
from sacma.models.kite_features import LEAST_COVARIANCE, covariances, projection, rooted
from sacma.models.kite_first import KITEFirst
from sacma.models.kite_forms import RIDGES, SCORES, Solution, Words, solve, terms
from sacma.models.kite_view import View, resize_buffers
from sacma.models.moments import Moments, Sample, Statistics
from sacma.types import Batch, ClassSet

LEAST_CLASSES = 3
HIDDEN, LEAST_HIDDEN = 4, 3  # one in so many classes is hidden, but three of a few
CELLS = 65_536  # queries times classes of an episode, at most
POOL, LEAST_POOL = 16_384, 6  # clips that episodes are made of, at most, but so many of each class
MANY, FEWER = 2**26, 512  # numbers of clips beyond which views have fewer dimensions, and how many
SAME = 1e-3  # largest difference of two vectors of one class
EXAMPLES = 8  # training clips of a class that are kept to explain answers with
TINY = 1e-12


class Neighbours(NamedTuple):
    """Nearest training classes and clips of B clips, nearest first.

    Attributes:
        classes: (B, n) training classes, in the order in which they were learned.
        class_cosines: (B, n) cosines with their means.
        clips: (B, n) training clips, numbered as they were given to ``fit`` and ``add_clips``.
        clip_cosines: (B, n) cosines with them.
    """

    classes: Tensor
    class_cosines: Tensor
    clips: Tensor
    clip_cosines: Tensor


class KITE(Method):
    """Closed forms; a hundred weights at most are learned, in a second, and no random number decides."""

    Config = KITEConfig

    OUTPUTS: ClassVar[Sequence[str]] = ("evidence",)
    calibrated = False
    learns_by_gradient = False
    needs_fit = True
    compares_embeddings = False
    takes_averages = True
    config: KITEConfig
    audio_projection: Tensor
    video_projection: Tensor
    vectors: Tensor
    score_weights: Tensor
    gate_weights: Tensor
    offset: Tensor
    examples: Tensor
    example_of: Tensor
    example_row: Tensor
    clips_seen: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        names = ("root", "unit") if c.views == "both" else (c.views,)
        self.views = nn.ModuleDict({name: View() for name in names})
        # Saved with the rest: no model depends on how a later torch draws random numbers.
        self.register_buffer("audio_projection", projection(c.audio_width, seed=0))
        self.register_buffer("video_projection", projection(c.video_width, seed=1))
        # Nothing is known before fit; then there are as many rows as training classes.
        self.register_buffer("vectors", torch.zeros(0, c.text_width))
        for name in (*(f"word_{field}" for field in Words._fields), "score_weights", "gate_weights"):
            self.register_buffer(name, torch.zeros(0))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("examples", torch.zeros(0, 0))
        for name in ("example_of", "example_row"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.long))
        self.register_buffer("clips_seen", torch.zeros((), dtype=torch.long))
        self._fitted_on: bytes | None = None

    @classmethod
    def for_saved(cls, config: Mapping[str, Any]) -> type[Method]:
        """Version 0.1 saved its models under the same name."""
        return KITEFirst if KITEFirst.is_own(config) else cls

    @property
    def words(self) -> Words:
        return Words(*(getattr(self, f"word_{name}") for name in Words._fields))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Learn the weights by episodes and solve on the training clips; unseen vectors play no part.

        One pass; of many clips only sums, second moments and a sample for the episodes are kept.

        Raises:
            SacmaError: a clip is of an unseen class, or there are clips of fewer than three classes.
        """
        seen = classes.seen.cpu()
        moments = {name: Moments(len(classes)) for name, _ in self._views()}
        pool = Sample(max(LEAST_POOL, POOL // max(1, int(seen.sum()))))
        for batch in batches:
            labels = batch.labels.cpu()
            if not seen[labels].all():
                raise SacmaError("KITE.fit got a clip of an unseen class; give training clips only")
            raw = self._rows(batch, covariance=self._uses_covariance)
            pool.add(raw, labels, None if batch.groups is None else batch.groups.cpu())
            for name, of_view in moments.items():
                of_view.add(self._view_of_rows(raw, name), labels)
        known, labels = pool.labels.unique(return_inverse=True)
        if len(known) < LEAST_CLASSES:
            raise SacmaError(
                f"KITE got training clips of {len(known)} classes; its episodes need at least {LEAST_CLASSES}"
            )
        self._fit(moments, pool, known, labels, classes.vectors.cpu()[known])

    def _fit(
        self,
        moments: Mapping[str, Moments],
        pool: Sample,
        known: Tensor,
        labels: Tensor,
        vectors: Tensor,
    ) -> None:
        """Solve on the moments of each view, learn the weights on the pool; ``labels`` are its classes."""
        digest = blake2b()
        for x in (pool.rows, labels, pool.groups, vectors, *(one.checksum for one in moments.values())):
            digest.update(b"" if x is None else x.contiguous().numpy().data)
        if digest.digest() == self._fitted_on:
            return  # training fits again before each evaluation
        self._take_words(vectors)
        words = Words.of(vectors, self.config.smoothing)
        reduced: list[Tensor] = []
        for name, view in self._views():
            view.keep("basis", self._basis(moments[name]))
            basis = view.basis.cpu()
            view.take(moments[name].along(basis).among(known), words)
            reduced.append(self._view_of_rows(pool.rows, name) @ basis)
        self._learn(reduced, labels, vectors, pool.groups)
        self._forget_examples()
        self._take_examples(reduced[-1], labels, pool.numbers)
        self.clips_seen = torch.tensor(pool.seen, device=self.device)
        self._fitted_on = digest.digest()

    @torch.no_grad()
    def add_clips(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Take more clips, of known or new classes; the former clips are not needed.

        The result is that of a fit to all clips with the axes and weights of the first one.

        Args:
            batches: the clips; ``labels`` are positions in ``classes``.
            classes: a class whose vector is that of a known class is that class, another one is new.

        Raises:
            SacmaError: the method was not fitted, or there are no clips.
        """
        self._check_fitted()
        self._fitted_on = None
        added = {name: Statistics.none(len(classes), view.basis.shape[1]) for name, view in self._views()}
        sample = Sample(EXAMPLES, start=int(self.clips_seen))
        for batch in batches:
            raw = self._raw(batch, covariance=self._has_covariance)
            for name, view in self._views():
                z = (self._view(*raw, name) @ view.basis).cpu()
                added[name].take(z, batch.labels.cpu())
            sample.add(z, batch.labels.cpu())
        if sample.seen == int(self.clips_seen):
            raise SacmaError("KITE.add_clips got no clips; give some")
        given, labels = sample.labels.unique(return_inverse=True)
        vectors = classes.vectors.cpu()[given]
        own, same = self.own(vectors.to(self.device))
        place = own.cpu().clone()
        new = (~same).nonzero().squeeze(1).cpu()
        place[new] = len(self.vectors) + torch.arange(len(new))
        self._take_words(torch.cat([self.vectors.cpu(), vectors[new]]))
        words = Words.of(self.vectors.cpu(), self.config.smoothing)
        for name, view in self._views():
            view.take(view.statistics.grown(added[name].among(given), place, len(self.vectors)), words)
        self._take_examples(sample.rows, place[labels], sample.numbers)
        self.clips_seen = torch.tensor(sample.seen, device=self.device)

    def add_class(self, batches: Iterable[Batch], vector: Tensor) -> None:
        """Take clips that are all of one class with this (E,) vector, new or known; see ``add_clips``."""
        of_one = (
            Batch(batch.audio, batch.video, torch.zeros_like(batch.labels), batch.text) for batch in batches
        )
        self.add_clips(of_one, ClassSet(("",), vector[None], torch.ones(1, dtype=torch.bool)))

    def distances(self, batch: Batch, classes: ClassSet, *, output: str | None = None) -> Tensor:
        """(B, K): d; the seen classes among the candidates are found among the training classes by vector.

        Raises:
            SacmaError: the method was not fitted.
        """
        self._check_fitted()
        candidates = self.words.of_candidates(classes.vectors)
        own, _ = self.own(classes.vectors)
        total = batch.audio.values.new_zeros(batch.labels.shape[0], classes.vectors.shape[0])
        gate = total.new_zeros(total.shape[0], self.vectors.shape[0])
        scores, gates = iter(self.score_weights.unbind()), iter(self.gate_weights.unbind())
        raw = self._raw(batch, covariance=self._has_covariance)
        for name, view in self._views():
            z = self._view(*raw, name) @ view.basis
            for _, is_gate, values in terms(view.solution, self.words, z, candidates):
                if is_gate:
                    gate = gate + next(gates) * values
                else:
                    total = total + next(scores) * values
        return -total - classes.seen * (gate[:, own] + self.offset)

    def own(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) the training class nearest to each of (K, E) vectors, and whether it is the same one."""
        apart = torch.cdist(vectors, self.vectors, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = apart.min(dim=1)
        return nearest.indices, nearest.values <= SAME

    @property
    def known_vectors(self) -> Tensor:
        """(k, E) class vectors of the training classes."""
        return self.vectors

    @torch.no_grad()
    def explain(self, batch: Batch, *, count: int = 5) -> Neighbours:
        """The training classes and the kept training clips that are nearest to each clip.

        Raises:
            SacmaError: the method was not fitted.
        """
        self._check_fitted()
        name, view = self._views()[-1]
        raw = self._raw(batch, covariance=self._has_covariance)
        z = self._view(*raw, name) @ view.basis
        z = F.normalize(z - view.solution.centre, dim=1)
        examples = F.normalize(self.examples - view.solution.centre, dim=1)
        nearest = (z @ view.solution.means.T).topk(min(count, len(self.vectors)), dim=1)
        clips = (z @ examples.T).topk(min(count, len(examples)), dim=1)
        return Neighbours(nearest.indices, nearest.values, self.example_row[clips.indices], clips.values)

    def _rows(self, batch: Batch, *, covariance: bool) -> Tensor:
        """(B, d) what views are made of: averages, and the covariance where a clip of the batch has one."""
        steps = min(batch.audio.longest, batch.video.longest)
        audio, video, together = self._raw(batch, covariance=covariance and steps > 1)
        has = together is not None and bool(together.any())
        return torch.cat(
            [audio, video, together] if has and together is not None else [audio, video], 1
        ).cpu()

    def _view_of_rows(self, rows: Tensor, name: str) -> Tensor:
        """(B, d) a view of what ``_rows`` gave."""
        c = self.config
        audio, video = rows[:, : c.audio_width], rows[:, c.audio_width : c.audio_width + c.video_width]
        together = rows[:, c.audio_width + c.video_width :]
        return self._view(audio, video, together if together.shape[1] else None, name)

    def _basis(self, moments: Moments) -> Tensor:
        """(d, r) principal axes of a view."""
        width, clips = moments.width, moments.clips
        rank = min(self.config.rank, FEWER) if clips * width > MANY else self.config.rank
        if width <= min(rank, clips):
            return torch.eye(width)  # nothing to leave out
        return moments.axes(rank).float()

    def _learn(
        self, reduced: Sequence[Tensor], labels: Tensor, vectors: Tensor, groups: Tensor | None
    ) -> None:
        k = len(vectors)
        hide = min(max(LEAST_HIDDEN, round(k / HIDDEN)), k - 2)
        drawn = draw_episodes(labels, k, self.config.episodes, hide=hide, groups=groups)
        asked = [self._ask(episode, reduced, labels, vectors) for episode in drawn]
        names = self._term_names()
        wanted = [self.config.scores in ("all", name) for name, is_gate in names if not is_gate]
        gates = [self.config.gates for _, is_gate in names if is_gate]
        robust = (len(RIDGES) - 1) * len(SCORES) + SCORES.index("mixture")  # of the first view
        scores, gate = learn(
            asked,
            shrinkage=self.config.shrinkage,
            first=first_weights(torch.tensor(wanted), robust, k),
            use_scores=torch.tensor(wanted),
            use_gates=torch.tensor(gates),
        )
        self.score_weights, self.gate_weights = self._kept(scores), self._kept(gate)
        self.offset = self._kept(torch.tensor(find_offset(asked, scores, gate)))

    def _ask(self, episode: Episode, reduced: Sequence[Tensor], labels: Tensor, vectors: Tensor) -> Asked:
        """Score the queries of an episode against all training classes."""
        k, seen = len(vectors), ~episode.hidden
        position = seen.cumsum(0) - 1
        training = episode.training.nonzero().squeeze(1)
        query = at_most(episode.query.nonzero().squeeze(1), labels, max(1, CELLS // k**2))
        if k**2 > CELLS:  # too many classes for a query of each
            query = at_most(query, episode.hidden[labels].long(), max(1, CELLS // k // 2))
        words = Words.of(vectors[seen], self.config.smoothing)
        text = Words(*(value.float() for value in words))
        candidates = text.of_candidates(vectors)
        scores, gates = [], []
        for z in reduced:
            statistics = Statistics.of(z[training], position[labels[training]], int(seen.sum()))
            solution = Solution(*(value.float() for value in solve(statistics, words, RIDGES)))
            for _, is_gate, values in terms(solution, text, z[query], candidates):
                if is_gate:
                    wide = torch.zeros(len(query), k)
                    wide[:, seen] = values
                    gates.append(wide)
                else:
                    scores.append(values)
        return Asked(torch.stack(scores, 2), torch.stack(gates, 2), episode.hidden, labels[query])

    def _term_names(self) -> list[tuple[str, bool]]:
        """Of all views: name of a score or gate, and whether it is a gate, in the order of ``terms``."""
        of_view = [("near", True)]
        for _ in RIDGES:
            of_view += [(name, False) for name in SCORES] + [("own", True), ("evidence", True)]
        return of_view * len(self.views)

    def _views(self) -> list[tuple[str, View]]:
        return [(name, view) for name, view in self.views.items() if isinstance(view, View)]

    def _take_words(self, vectors: Tensor) -> None:
        self.vectors = self._kept(vectors)
        for name, value in Words.of(vectors, self.config.smoothing)._asdict().items():
            setattr(self, f"word_{name}", self._kept(value))

    def _forget_examples(self) -> None:
        self.examples = self.examples.new_zeros(0, 0)
        self.example_of, self.example_row = (self.example_of.new_zeros(0) for _ in range(2))

    def _take_examples(self, z: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Keep some clips of each class; of classes that have enough already, none."""
        before = torch.bincount(self.example_of.cpu(), minlength=int(labels.max()) + 1)
        chosen = at_most(torch.arange(len(labels)), labels, EXAMPLES)
        chosen = chosen[before[labels[chosen]] < EXAMPLES]
        kept = self.examples.new_zeros(0, z.shape[1]) if not len(self.examples) else self.examples
        self.examples = torch.cat([kept, self._kept(z[chosen])])
        for name, values in (("example_of", labels), ("example_row", rows)):
            setattr(self, name, torch.cat([getattr(self, name), values[chosen].to(self.device)]))

    def _take_former(self, state: dict[str, Any], prefix: str) -> None:
        """Complete the state of a model that was saved before there was the last score; its weight is 0."""
        vectors = state[prefix + "vectors"].cpu()
        state[prefix + "word_likeness"] = (
            Words.of(vectors, self.config.smoothing).likeness.float() if len(vectors) else torch.zeros(0)
        )
        weights = state[prefix + "score_weights"].view(-1, len(SCORES) - 1)
        state[prefix + "score_weights"] = F.pad(weights, (0, 1)).flatten()

    def _kept(self, value: Tensor) -> Tensor:
        return value.to(device=self.device, dtype=torch.float32).contiguous()

    def _check_fitted(self) -> None:
        if not self.vectors.shape[0]:
            raise SacmaError("KITE has seen no clips yet; fit it to training clips first")

    @property
    def _uses_covariance(self) -> bool:
        return self.config.synchrony > 0 and self.config.streams == "av"

    @property
    def _has_covariance(self) -> bool:
        """True if the training clips had steps to take it from."""
        return self._views()[0][1].basis.shape[0] > self.config.audio_width + self.config.video_width

    def _raw(self, batch: Batch, *, covariance: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Averages of audio (B, Da) and video (B, Dv), and C (B, 32 * 32); None where it is not used."""
        c = self.config
        audio, video = self.scaled(batch)
        averages = audio.mean() * ("a" in c.streams), video.mean() * ("v" in c.streams)
        if not covariance:
            return *averages, None
        together = covariances(
            audio.with_values(rooted(audio.values) @ self.audio_projection),
            video.with_values(rooted(video.values) @ self.video_projection),
        )
        return *averages, F.normalize(together.flatten(1), dim=1, eps=LEAST_COVARIANCE)

    def _view(self, audio: Tensor, video: Tensor, together: Tensor | None, name: str) -> Tensor:
        """(B, Dv + Da) or (B, Dv + Da + 32 * 32): a view of averages and covariance."""
        parts = [rooted(x) if name == "root" else F.normalize(x, dim=1) for x in (video, audio)]
        if together is not None:
            parts.append(self.config.synchrony * together)
        return torch.cat(parts, dim=1)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Mean squared score, for the record; nothing follows its gradient."""
        if not self.vectors.shape[0]:
            return {"squared_score": batch.audio.values.sum() * 0}
        return {"squared_score": self.distances(batch, classes).square().mean()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "vectors" in state_dict and prefix + "word_likeness" not in state_dict:
            self._take_former(state_dict, prefix)
        resize_buffers(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
