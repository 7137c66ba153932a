"""f-VAEGAN-D2: synthetic features of unseen classes; the generator is a VAE's decoder and a GAN's generator.

Xian et al., "f-VAEGAN-D2: a feature generating framework for any-shot learning", CVPR 2019,
https://arxiv.org/abs/1903.10132, as set up for averaged audio-visual features in AVCA's code (CVPR 2022).

With x the joint feature vector (audio first) at unit length, w its class vector, generator G, encoder E and
critics D and D2 (without w), D and D2 minimise

    D(G(z, w), w) - D(x, w) + 10 (|grad D| - 1)^2

and G and E

    -gan_weight * (D(G(E(x, w), w), w) + D(G(z, w), w)) - log p(x | G(E(x, w), w)) + KL(E(x, w) | N(0, 1)).

Then linear softmax classifiers are trained: for GZSL on real features of seen and generated features of
unseen classes, for ZSL on the generated ones alone. A clip gets the most probable class. There is no bias.

Variant ``corrected``: G and E take a step after every fifth batch; features are unbounded (Gaussian
likelihood of variance 1/D), so any input is valid; the last two terms are means over the clips; the loss of
G includes D2; and the classifiers learn ten times as fast, because 30 epochs leave them half trained
otherwise. D2 sees seen classes only: the paper trains it on unlabelled clips of unseen classes, which this
protocol does not give.

Variant ``published``: AVCA's code leaves its loop over batches after the first, so that an epoch is one step
of the critics and one of G and E (``batches_per_epoch`` 1). D2 is trained but enters no other loss. The VAE's
terms are sums over the batch beside a gan_weight of 100,000. Features need to be non-negative (Bernoulli
likelihood of values within 0 and 1). The code picks the epochs of G and of the classifier by their accuracy
on test clips, which is not repeated here: validation picks the epoch, and the classifier is that of its last
one.

The SACMA paper gives none of this; sizes and schedule are those of AVCA's code. In ``corrected``, gan_weight
is that of the public code of TF-VAEGAN (ECCV 2020), an extension of this method. Its variance (the mean
square of a channel at unit length) and the classifiers' learning rate are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.distributed import processes
from sacma.errors import SacmaError
from sacma.models.configs.generative import FVAEGANConfig
from sacma.models.generative import Critic, GenerativeMethod, Generator, adam, critic_terms, minimise
from sacma.models.layers import Linear
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step for B clips.

    Attributes:
        noise: (B, Z) normal, input of the generator.
        latent: (B, Z) normal; the encoder's latent is its mean plus this times its standard deviation.
        alpha: (B, 1) uniform in 0 to 1, for the gradient penalty of D.
        alpha_unconditional: (B, 1) the same for D2.
    """

    noise: Tensor
    latent: Tensor
    alpha: Tensor
    alpha_unconditional: Tensor

    @classmethod
    def fresh(cls, clips: int, width: int, device: torch.device) -> Draws:
        """Draw numbers from torch's global generator."""
        return cls(
            torch.randn(clips, width, device=device),
            torch.randn(clips, width, device=device),
            torch.rand(clips, 1, device=device),
            torch.rand(clips, 1, device=device),
        )


class Encoder(nn.Module):
    """Map feature and class vector to mean and log-variance of the latent: Linear, ReLU, two Linear."""

    def __init__(self, width: int, text_width: int, latent: int, *, hidden: int) -> None:
        super().__init__()
        self.first = Linear(width + text_width, hidden)
        self.mean = Linear(hidden, latent)
        self.log_variance = Linear(hidden, latent)

    def forward(self, features: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) and (B, E) -> mean (B, Z) and log-variance (B, Z)."""
        hidden = self.first(torch.cat([features, text], dim=1)).relu()
        return self.mean(hidden), self.log_variance(hidden)


class FVAEGAN(GenerativeMethod):
    """Encoder, generator, two critics, and the classifiers that score."""

    Config = FVAEGANConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {
            "gan_weight": 1e5,
            "vae_reduction": "sum",
            "unconditional_critic": "idle",
            "critic_steps": 1,
            "likelihood": "bernoulli",
            "classifier_learning_rate": 1e-3,
        },
    }
    PUBLISHED_TRAINING: ClassVar[Mapping[str, Any]] = {"batches_per_epoch": 1}
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        "Encoder.MLP.L0.": "encoder.first.",
        "Encoder.linear_means.": "encoder.mean.",
        "Encoder.linear_log_var.": "encoder.log_variance.",
        "netG.MLP.L0.": "generator.first.",
        "netG.MLP.L1.": "generator.last.",
        "netD.fc1.": "critic.first.",
        "netD.fc2.": "critic.last.",
        "netD2.fc1.": "unconditional.first.",
        "netD2.fc2.": "unconditional.last.",
    }
    UNPUBLISHED: ClassVar[Sequence[str]] = ("_scaling.", "classifiers.", "batches")
    config: FVAEGANConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        width = self.width
        self.encoder = Encoder(width, c.text_width, c.latent_width, hidden=c.encoder_hidden)
        self.generator = Generator(
            c.latent_width,
            c.text_width,
            width,
            hidden=c.generator_hidden,
            sigmoid=c.likelihood == "bernoulli",
        )
        self.critic = Critic(width, c.text_width, hidden=c.critic_hidden)
        self.unconditional = Critic(width, 0, hidden=c.critic_hidden)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The terms that G and E minimise, with fresh noise; ``critic_loss`` has those of the critics."""
        x = self._real(batch)
        return self.generator_loss(x, batch.text, self._draw(x))

    def critic_loss(self, x: Tensor, text: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The terms that D and D2 minimise.

        Args:
            x: (B, D) real features.
            text: (B, E) their class vectors.
            draws: random numbers.
        """
        c = self.config
        with torch.no_grad():
            fake = self.generator(draws.noise, text)
        gap, penalty = critic_terms(self.critic, x, fake, text, alpha=draws.alpha, penalty=c.gradient_penalty)
        gap2, penalty2 = critic_terms(
            self.unconditional, x, fake, text, alpha=draws.alpha_unconditional, penalty=c.gradient_penalty
        )
        return {
            "critic": gap,
            "critic_penalty": penalty,
            "unconditional": c.unconditional_weight * gap2,
            "unconditional_penalty": c.unconditional_weight * penalty2,
        }

    def generator_loss(self, x: Tensor, text: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The terms that G and E minimise; arguments as of ``critic_loss``."""
        c = self.config
        mean, log_variance = self.encoder(x, text)
        z = mean + (0.5 * log_variance).exp() * draws.latent
        made = self.generator(torch.cat([z, draws.noise]), torch.cat([text, text]))  # (2B, D)
        recon = made[: len(x)]
        twice = torch.cat([text, text])
        score = 2 * self.critic(made, twice).mean()  # the sum of the means of both halves
        if c.unconditional_critic == "scores":
            score = score + c.unconditional_weight * 2 * self.unconditional(made, twice).mean()
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        # The loss is the mean over the processes; a sum over all clips is larger by their number.
        vae_weight = c.vae_weight / len(x) if c.vae_reduction == "mean" else c.vae_weight * processes()
        return {
            "generator": -c.gan_weight * score,
            "reconstruction": vae_weight * self._reconstruction(recon, x),
            "divergence": vae_weight * divergence,
        }

    def _reconstruction(self, recon: Tensor, x: Tensor) -> Tensor:
        """-log p(x | recon) up to a constant, summed over clips and channels."""
        if self.config.likelihood == "bernoulli":
            return F.binary_cross_entropy(recon, x, reduction="sum")
        return 0.5 * x.shape[1] * (recon - x).square().sum()

    def optimisers(self, config: TrainingConfig) -> list[torch.optim.Optimizer]:
        """Make Adam for the critics, and Adam for generator and encoder."""
        return [
            adam([self.critic, self.unconditional], config),
            adam([self.generator, self.encoder], config),
        ]

    def step(
        self,
        batch: Batch,
        classes: ClassSet,
        optimisers: Sequence[torch.optim.Optimizer],
        draws: Draws | None = None,
    ) -> dict[str, Tensor]:
        """Update the critics and, on every ``critic_steps``-th batch, then G and E.

        Args:
            batch: clips of training classes.
            classes: not read.
            optimisers: those of ``optimisers``.
            draws: random numbers to use in place of fresh ones.

        Returns:
            The detached terms; those of G and E only where they took a step.
        """
        x, text = self._real(batch), batch.text
        draws = self._draw(x) if draws is None else draws
        for_critics, for_generator = optimisers
        terms = self.critic_loss(x, text, draws)
        minimise(terms, for_critics)
        if int(self.batches) % self.config.critic_steps == 0:
            made = self.generator_loss(x, text, draws)
            minimise(made, for_generator)
            terms |= made
        self.batches += 1
        return {name: term.detach() for name, term in terms.items()}

    def _draw(self, x: Tensor) -> Draws:
        return Draws.fresh(len(x), self.config.latent_width, x.device)

    def _real(self, batch: Batch) -> Tensor:
        x = self.features(batch)
        if self.config.likelihood == "bernoulli" and bool((x < 0).any()):
            raise SacmaError(
                f"likelihood bernoulli needs features of 0 or more, these go down to {float(x.min()):.3g}; "
                "use feature_scaling published with non-negative features, or likelihood gaussian"
            )
        return x
