"""Hyperparameters of methods that generate features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sacma.errors import SacmaError
from sacma.models.configs.base import MethodConfig


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig(MethodConfig):
    """Hyperparameters that the generative methods share.

    Attributes:
        critic_steps: steps of the critics for each step of the generator.
        synthesised_per_class: features to generate for each unseen class, and batch size of the classifiers.
        classifier_epochs: epochs of the classifiers.
        classifier_learning_rate: of the classifiers.
    """

    critic_steps: int = 5
    synthesised_per_class: int = 1000
    classifier_epochs: int = 30
    classifier_learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_steps < 1:
            raise SacmaError(f"critic_steps is {self.critic_steps}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class FVAEGANConfig(GenerativeConfig):
    """Hyperparameters of f-VAEGAN-D2.

    Attributes:
        latent_width: Z, of the noise and of the encoder's output.
        encoder_hidden: hidden width of E.
        generator_hidden: hidden width of G.
        critic_hidden: hidden width of D and D2.
        gradient_penalty: weight of the gradient penalties.
        gan_weight: weight of the critics' scores to G and E.
        vae_weight: weight of reconstruction and divergence, sums over the channels.
        vae_reduction: mean or sum of these terms over the clips of a batch.
        unconditional_weight: weight of D2, in its own loss and in that of G.
        unconditional_critic: include D2's score in the loss of G and E, or train D2 without using it.
        likelihood: of the reconstruction: ``gaussian`` with variance 1/D, or ``bernoulli`` of sigmoids.
    """

    latent_width: int = 300
    encoder_hidden: int = 300
    generator_hidden: int = 512
    critic_hidden: int = 512
    gradient_penalty: float = 10.0
    gan_weight: float = 10.0
    vae_weight: float = 1.0
    vae_reduction: Literal["mean", "sum"] = "mean"
    unconditional_weight: float = 1.0
    unconditional_critic: Literal["scores", "idle"] = "scores"
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"


@dataclass(frozen=True, kw_only=True)
class AVFSConfig(GenerativeConfig):
    """Hyperparameters of AVFS, all ours.

    Attributes:
        noise_width: width of the noise.
        generator_hidden: hidden width of G.
        critic_hidden: hidden width of D.
        embedding_hidden: hidden width of h.
        embedding_width: of the space of h and t.
        gradient_penalty: weight of the gradient penalty.
        weight_con: of the contrastive term; 0 leaves it out.
        weight_dis: of the discriminative term; 0 leaves it out.
        temperature: tau of both.
    """

    noise_width: int = 300
    generator_hidden: int = 512
    critic_hidden: int = 512
    embedding_hidden: int = 256
    embedding_width: int = 128
    gradient_penalty: float = 10.0
    weight_con: float = 1.0
    weight_dis: float = 1.0
    temperature: float = 0.1
