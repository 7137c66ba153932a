"""AVFS: synthetic audio-visual features, shaped by contrastive and discriminative terms. Our reading.

Zheng, Hong and Farazi, "A generative approach to audio-visual generalized zero-shot learning: combining
contrastive and discriminative techniques", IJCNN 2023, https://doi.org/10.1109/ijcnn54540.2023.10191705.

Its code is not public and its text was not available to us. This file is NOT their method: it is built from
the title and from the SACMA paper's one sentence on it (features of unseen classes are synthesised with
contrastive and discriminative learning), in the family of CE-GZSL (Han et al., CVPR 2021,
https://arxiv.org/abs/2103.16173). Its numbers are not theirs; a table should quote theirs beside it.

With x the joint feature vector at unit length, w its class vector, generator G, critic D, an embedding h of
features and a linear map t of class vectors, D, h and t minimise

    D(G(z, w), w) - D(x, w) + 10 (|grad D| - 1)^2 + weight_dis * CE(cos(h(x), t(W)) / tau) + weight_con * C

and G minimises

    -D(G(z, w), w) + weight_dis * CE(cos(h(G(z, w)), t(W)) / tau) + weight_con * C

where W are the training classes. The cross-entropy is discriminative: features must reveal their class. C,
the InfoNCE of h(x) against h(G(z, w)) with all clips of a class as positives, is contrastive: generated
features must be close to real ones of their class. G takes a step after every ``critic_steps``-th batch.
Classifiers are then fitted as for f-VAEGAN-D2; a clip gets the most probable class, without a bias. No paper
gives any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.distributed import gathered, gathered_by_name
from sacma.models import losses
from sacma.models.configs.generative import AVFSConfig
from sacma.models.generative import Critic, GenerativeMethod, Generator, adam, critic_terms, minimise
from sacma.models.layers import Linear
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet


class AVFS(GenerativeMethod):
    """Generator, critic, an embedding for the two terms, and the classifiers that score."""

    Config = AVFSConfig

    config: AVFSConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        width = self.width
        self.generator = Generator(
            c.noise_width, c.text_width, width, hidden=c.generator_hidden, sigmoid=False
        )
        self.critic = Critic(width, c.text_width, hidden=c.critic_hidden)
        self.embedding = nn.Sequential(
            Linear(width, c.embedding_hidden),
            nn.LeakyReLU(0.2),
            Linear(c.embedding_hidden, c.embedding_width),
        )
        self.text_map = Linear(c.text_width, c.embedding_width, bias=False)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The terms that G minimises, with fresh noise; ``critic_loss`` has those of D, h and t."""
        made = self.generator.sample(batch.text)
        terms = {"generator": -self.critic(made, batch.text).mean()}
        return terms | self._shaping(self.features(batch), made, made, batch, classes)

    def critic_loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The terms that D, h and t minimise, with fresh noise."""
        x = self.features(batch)
        with torch.no_grad():
            made = self.generator.sample(batch.text)
        alpha = torch.rand(len(x), 1, device=x.device)
        gap, penalty = critic_terms(
            self.critic, x, made, batch.text, alpha=alpha, penalty=self.config.gradient_penalty
        )
        shaping = self._shaping(x, made, x, batch, classes)
        return {"critic": gap, "critic_penalty": penalty} | {f"{k}_real": v for k, v in shaping.items()}

    def _shaping(
        self, real: Tensor, made: Tensor, discriminated: Tensor, batch: Batch, classes: ClassSet
    ) -> dict[str, Tensor]:
        """The contrastive term of real and made features; the discriminative term of ``discriminated``."""
        c = self.config
        terms: dict[str, Tensor] = {}
        if c.weight_con:
            (term,) = losses.contrastive(
                gathered_by_name({"real": self.embedding(real), "made": self.embedding(made)}),
                {("real", "made"): c.weight_con},
                temperature=c.temperature,
                same_class="positive",
                labels=gathered(batch.labels),
            ).values()
            terms["contrastive"] = term
        if c.weight_dis:
            embedded = F.normalize(self.embedding(discriminated), dim=1)
            scores = embedded @ F.normalize(self.text_map(classes.vectors), dim=1).T / c.temperature  # (B, K)
            terms["discriminative"] = c.weight_dis * F.cross_entropy(scores, batch.labels)
        return terms

    def optimisers(self, config: TrainingConfig) -> list[torch.optim.Optimizer]:
        """Make Adam for critic, embedding and map, and Adam for the generator."""
        return [adam([self.critic, self.embedding, self.text_map], config), adam([self.generator], config)]

    def step(
        self, batch: Batch, classes: ClassSet, optimisers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """Update D, h and t and, on every ``critic_steps``-th batch, then G.

        Returns:
            The detached terms; those of G only where it took a step.
        """
        for_critic, for_generator = optimisers
        terms = self.critic_loss(batch, classes)
        minimise(terms, for_critic)
        if int(self.batches) % self.config.critic_steps == 0:
            made = self.loss(batch, classes)
            minimise(made, for_generator)
            terms |= made
        self.batches += 1
        return {name: term.detach() for name, term in terms.items()}
