"""Parts of the generative methods: generator, critic, gradient penalty, classifiers of the candidates.

A conditional generator makes features of a class from noise and the class vector; a Wasserstein critic with
gradient penalty (Gulrajani et al., NeurIPS 2017, https://arxiv.org/abs/1704.00028) tells them from real
ones. Before an evaluation, features of the unseen candidates are synthesised. A linear softmax classifier is
trained on real features of seen and synthetic features of unseen classes; a second one, for ZSL, on the
synthetic ones alone (Xian et al., CVPR 2019, https://arxiv.org/abs/1903.10132).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.errors import SacmaError, printable
from sacma.models.base import Method
from sacma.models.configs.generative import GenerativeConfig
from sacma.models.layers import Linear
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet

ADAM_BETAS = (0.5, 0.999)
INITIAL_DEVIATION = 0.02

# Class vectors (N, E) -> synthetic features (N, D), one per row.
Synthesise = Callable[[Tensor], Tensor]


class Generator(nn.Module):
    """Map noise and a class vector to a feature: Linear, ReLU, Linear, and a sigmoid on request.

    Args:
        noise_width: width of the noise.
        text_width: width of a class vector.
        width: D, of a feature.
        hidden: hidden width.
        sigmoid: limit the features to 0 to 1.
    """

    def __init__(self, noise_width: int, text_width: int, width: int, *, hidden: int, sigmoid: bool) -> None:
        super().__init__()
        self.noise_width = noise_width
        self.sigmoid = sigmoid
        self.first = Linear(noise_width + text_width, hidden)
        self.last = Linear(hidden, width)

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        """(B, Z) and (B, E) -> (B, D)."""
        features = self.last(self.first(torch.cat([noise, text], dim=1)).relu())
        return features.sigmoid() if self.sigmoid else features

    def sample(self, text: Tensor) -> Tensor:
        """Synthesise a feature for each class vector, (B, E) -> (B, D), from fresh noise."""
        return self(torch.randn(len(text), self.noise_width, device=text.device), text)


class Critic(nn.Module):
    """Score a feature, high for a real one: Linear, LeakyReLU, Linear.

    Args:
        width: D, of a feature.
        text_width: width of the class vector, which the critic sees too; 0 for one that does not.
        hidden: hidden width.
    """

    SLOPE = 0.2

    def __init__(self, width: int, text_width: int, *, hidden: int) -> None:
        super().__init__()
        self.width, self.text_width = width, text_width
        self.first = Linear(width + text_width, hidden)
        self.last = Linear(hidden, 1)
        for layer in (self.first, self.last):
            nn.init.normal_(layer.weight, 0.0, INITIAL_DEVIATION)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, D) and (B, E) -> (B,) scores."""
        return self.last(F.leaky_relu(self._hidden(features, text), self.SLOPE)).squeeze(1)

    def gradient(self, features: Tensor, text: Tensor) -> Tensor:
        """Derivative of the scores by the features, (B, D), itself differentiable by the weights.

        Written out, as there is one hidden layer: half the time of a second backward pass.
        """
        active = torch.where(self._hidden(features, text) > 0, 1.0, self.SLOPE)  # (B, H)
        return (active * self.last.weight) @ self.first.weight[:, : self.width]

    def _hidden(self, features: Tensor, text: Tensor) -> Tensor:
        return self.first(torch.cat([features, text], dim=1) if self.text_width else features)


def critic_terms(
    critic: Critic, real: Tensor, fake: Tensor, text: Tensor, *, alpha: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Terms of a Wasserstein critic: mean score of fake minus that of real features, and gradient penalty.

    Args:
        critic: the critic.
        real: (B, D) real features.
        fake: (B, D) generated features, detached.
        text: (B, E) class vectors.
        alpha: (B, 1) in 0 to 1: where between real (1) and fake the gradient is taken.
        penalty: weight of (|gradient| - 1)^2.
    """
    # Two passes: where a hidden unit cannot tell real from fake, its gradients then cancel exactly. In one
    # pass their rounding differs, and Adam would make full steps of the rest.
    gap = critic(fake, text).mean() - critic(real, text).mean()
    gradient = critic.gradient(alpha * real + (1 - alpha) * fake, text)
    return gap, penalty * (gradient.norm(dim=1) - 1).square().mean()


def adam(nets: Sequence[nn.Module], config: TrainingConfig) -> torch.optim.Adam:
    """Make Adam over the parameters of ``nets``, one side of the adversarial game."""
    return torch.optim.Adam(
        [parameter for net in nets for parameter in net.parameters()],
        lr=config.learning_rate,
        betas=ADAM_BETAS,
        weight_decay=config.weight_decay,
        fused=True,  # a third of a step's time otherwise
    )


def minimise(terms: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    """Take one step on the sum of the terms; parameters of other optimisers get no gradient."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward(inputs=parameters)
    optimiser.step()


@torch.enable_grad()
def train_softmax(
    features: Tensor,
    labels: Tensor,
    *,
    initial: Tensor,
    order: Tensor,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> tuple[Tensor, Tensor]:
    """Train a linear softmax classifier by Adam on cross-entropy; the weights after the last epoch.

    Args:
        features: (N, D).
        labels: (N,) positions among the K classes.
        initial: (K, D) weights to start from; biases start from 0.
        order: (N,) permutation, the same in each epoch.
        epochs: passes over the data.
        batch_size: rows of a batch.
        learning_rate: of Adam.

    Returns:
        (K, D) weights and (K,) biases.
    """
    weight = initial.clone().requires_grad_()
    bias = torch.zeros(len(initial), device=initial.device, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=learning_rate, betas=ADAM_BETAS, fused=True)
    features, labels = features[order], labels[order]
    for _ in range(epochs):
        for rows, targets in zip(features.split(batch_size), labels.split(batch_size), strict=True):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(F.linear(rows, weight, bias), targets).backward()
            optimiser.step()
    return weight.detach(), bias.detach()


class SoftmaxClassifier(nn.Module):
    """Linear classifier over named classes: those of its last fit, none at first.

    Its weights are buffers: they are saved with the method, and no optimiser of the method moves them.
    """

    weight: Tensor
    bias: Tensor
    encoded_names: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(0, width))
        self.register_buffer("bias", torch.zeros(0))
        self.register_buffer("encoded_names", torch.zeros(0, dtype=torch.uint8))

    @property
    def names(self) -> list[str]:
        """The K classes of the last fit, in the order of the rows of ``weight``."""
        encoded = bytes(self.encoded_names.tolist())
        return json.loads(encoded) if encoded else []

    def assign(self, names: Sequence[str], weight: Tensor, bias: Tensor) -> None:
        """Set K names, (K, D) weights and (K,) biases."""
        encoded = json.dumps(list(names)).encode()
        self.encoded_names = torch.tensor(list(encoded), dtype=torch.uint8, device=weight.device)
        self.weight, self.bias = weight, bias

    def distances(self, features: Tensor, names: Sequence[str]) -> Tensor:
        """Negative log-probabilities among ``names`` alone, (B, len(names)).

        Raises:
            SacmaError: the classifier was not fitted to one of the classes.
        """
        position = {name: index for index, name in enumerate(self.names)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise SacmaError(
                f"the classifier was not fitted to class {printable(unknown[0])} (it knows "
                f"{len(position)} classes); "
                "fit the method to the candidates first"
            )
        rows = torch.tensor([position[name] for name in names], device=features.device)
        return -F.linear(features, self.weight[rows], self.bias[rows]).log_softmax(dim=1)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if saved is not None and buffer is not None:
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class CandidateClassifiers(nn.Module):
    """The two classifiers of an evaluation: one over all candidates, one over the unseen ones.

    Args:
        width: D, of a feature.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.joint = SoftmaxClassifier(width)
        self.unseen = SoftmaxClassifier(width)

    @torch.no_grad()
    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        classes: ClassSet,
        synthesise: Synthesise,
        *,
        per_class: int,
        epochs: int,
        learning_rate: float,
    ) -> None:
        """Synthesise features of the unseen candidates and train both classifiers.

        Args:
            features: (N, D) real features of seen classes, of unit length.
            labels: (N,) positions in ``classes``.
            classes: the candidates.
            synthesise: makes features of unseen classes; ``fit`` scales them to unit length.
            per_class: features to synthesise for each unseen class, and batch size of the training.
            epochs: of the training.
            learning_rate: of the training.
        """
        unseen = (~classes.seen).nonzero().flatten()
        made = features.new_empty(len(unseen), per_class, features.shape[1])
        for row, position in enumerate(unseen):
            made[row] = F.normalize(synthesise(classes.vectors[position].expand(per_class, -1)), dim=1)
        made = made.flatten(0, 1)

        def train(classifier: SoftmaxClassifier, names: Sequence[str], x: Tensor, y: Tensor) -> None:
            weight, bias = train_softmax(
                x,
                y,
                initial=INITIAL_DEVIATION * torch.randn(len(names), x.shape[1], device=x.device),
                order=torch.randperm(len(x), device=x.device),
                epochs=epochs,
                batch_size=per_class,
                learning_rate=learning_rate,
            )
            classifier.assign(names, weight, bias)

        own = torch.cat([labels, unseen.repeat_interleave(per_class)])
        train(self.joint, classes.names, torch.cat([features, made]), own)
        among = torch.arange(len(unseen), device=made.device).repeat_interleave(per_class)
        train(self.unseen, classes.only(~classes.seen).names, made, among)

    def distances(self, features: Tensor, classes: ClassSet) -> Tensor:
        """Negative log-probabilities, (B, K), by the ZSL classifier where no candidate is seen.

        Raises:
            SacmaError: the classifiers were not fitted to these classes.
        """
        classifier = self.joint if bool(classes.seen.any()) else self.unseen
        return classifier.distances(features, classes.names)


class GenerativeMethod(Method):
    """Base of the generative methods: unit-length features, a generator, classifiers that score.

    ``batches`` counts the steps taken; the generator takes a step after every ``critic_steps``-th.
    """

    OUTPUTS: ClassVar[Sequence[str]] = ("classifier",)
    calibrated: ClassVar[bool] = False
    needs_fit: ClassVar[bool] = True
    compares_embeddings: ClassVar[bool] = False
    fixed_candidates: ClassVar[bool] = True
    temporal: ClassVar[bool] = False
    config: GenerativeConfig
    generator: Generator
    batches: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        self.classifiers = CandidateClassifiers(self.width)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @property
    def width(self) -> int:
        """D, of a joint feature vector."""
        return self.config.audio_width + self.config.video_width

    def features(self, batch: Batch) -> Tensor:
        """x, (B, Da + Dv): averaged over time, audio first, unit length."""
        return F.normalize(torch.cat(self.averaged(batch), dim=1), dim=1)

    def fit(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Train the two classifiers on real seen and synthetic unseen features; moves the random state."""
        c = self.config
        features, labels = zip(*((self.features(batch), batch.labels) for batch in batches), strict=True)
        self.classifiers.fit(
            torch.cat(features),
            torch.cat(labels),
            classes,
            self.generator.sample,
            per_class=c.synthesised_per_class,
            epochs=c.classifier_epochs,
            learning_rate=c.classifier_learning_rate,
        )

    def distances(self, batch: Batch, classes: ClassSet, *, output: str | None = None) -> Tensor:
        """Negative log-probabilities, (B, K), by the ZSL classifier where no candidate is seen.

        Raises:
            SacmaError: the method was not fitted to these candidates.
        """
        return self.classifiers.distances(self.features(batch), classes)
