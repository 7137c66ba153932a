"""What every method is: a module that gives a loss to train on and distances to the candidate classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_type_hints

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from sacma.errors import SacmaError
from sacma.layers import InputScaling
from sacma.types import Batch, ClassSet, Sequences

if TYPE_CHECKING:
    from sacma.config import TrainingConfig

FeatureScaling = Literal["published", "standardise", "unit"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Hyperparameters that every method has; each method adds its own in a subclass named ``Config``.

    Attributes:
        audio_width: width of an audio feature vector, from the data.
        video_width: width of a visual feature vector, from the data.
        text_width: width of a class vector, from the data.
        feature_scaling: ``published`` does what the released code does with its inputs, ``standardise``
            subtracts the mean and divides by the standard deviation of each channel over the training clips,
            ``unit`` gives each vector unit length.
    """

    audio_width: int
    video_width: int
    text_width: int
    feature_scaling: FeatureScaling = "published"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            choices = get_args(hints[field.name]) if "Literal" in str(hints[field.name]) else ()
            value = getattr(self, field.name)
            if choices and value not in choices:
                raise SacmaError(
                    f"{field.name} is {value!r}; it must be one of {', '.join(map(str, choices))}"
                )


class Method(nn.Module, PyTorchModelHubMixin):
    """Base of all methods. A subclass defines ``Config``, the network, ``loss`` and ``distances``.

    Hyperparameters are keyword arguments of the constructor and are kept as ``config``, so that
    ``save_pretrained`` and ``from_pretrained`` (safetensors and config.json) round-trip.

    Class attributes:
        Config: dataclass of the hyperparameters, a subclass of ``MethodConfig``.
        VARIANTS: name -> hyperparameters that this variant changes; the first is the default.
        OUTPUTS: the embeddings that can score, the default first; ``output`` chooses one.
        needs_negatives: batches bring one clip of another class for each clip.
        calibrated: a bias on the distances of seen classes is searched for; False for classifiers.
        temporal: works on sequences; False for methods of time-averaged features.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"corrected": {}}
    OUTPUTS: ClassVar[Sequence[str]] = ("embedding",)
    needs_negatives: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    temporal: ClassVar[bool] = True

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__()
        try:
            self.config = self.Config(**hyperparameters)
        except TypeError as error:
            raise SacmaError(f"{type(self).__name__}: {error}") from error
        self.output = self.OUTPUTS[0]
        self.audio_scaling = InputScaling(self.config.audio_width, self.config.feature_scaling)
        self.video_scaling = InputScaling(self.config.video_width, self.config.feature_scaling)

    def forward(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The loss: what precision and distribution wrappers hook into."""
        return self.loss(batch, classes)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Named terms, scalars, already weighted; their sum is minimised.

        Args:
            batch: clips of training classes; ``batch.labels`` are positions in ``classes``.
            classes: the training classes and nothing else.
        """
        raise NotImplementedError

    def distances(self, batch: Batch, classes: ClassSet) -> Tensor:
        """(B, K) distances to the candidates, smaller is nearer; ``labels`` and ``text`` are not read."""
        raise NotImplementedError

    def optimisers(self, config: TrainingConfig) -> list[torch.optim.Optimizer]:
        """One Adam over all parameters; methods with several networks override it."""
        return [
            torch.optim.Adam(self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        ]

    def step(
        self, batch: Batch, classes: ClassSet, optimisers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """One optimisation step. Returns the detached terms of the loss."""
        terms = self(batch, classes)
        (optimiser,) = optimisers
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        return {name: term.detach() for name, term in terms.items()}

    def fit(self, batch: Batch, classes: ClassSet) -> None:
        """What is not learned by gradient steps: closed forms, classifiers on generated features.

        Called once before the first epoch of a stage and again before each evaluation.

        Args:
            batch: all training clips of the stage (seen classes only), never a test clip;
                ``batch.labels`` are positions in ``classes``.
            classes: the candidates of the evaluation at hand: seen and unseen classes of the stage.
        """

    def fit_scaling(self, audio: Tensor, video: Tensor) -> None:
        """Take the channel statistics of the training clips' valid steps, (N, Da) and (M, Dv)."""
        self.audio_scaling.fit(audio)
        self.video_scaling.fit(video)

    def scaled(self, batch: Batch) -> tuple[Sequences, Sequences]:
        """Audio and video of the batch after ``feature_scaling`` other than ``published``."""
        self._check_width("audio", batch.audio, self.config.audio_width)
        self._check_width("video", batch.video, self.config.video_width)
        return (
            batch.audio.with_values(self.audio_scaling(batch.audio.values)),
            batch.video.with_values(self.video_scaling(batch.video.values)),
        )

    def averaged(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Audio (B, Da) and video (B, Dv): the mean over each clip's steps, then ``feature_scaling``."""
        self._check_width("audio", batch.audio, self.config.audio_width)
        self._check_width("video", batch.video, self.config.video_width)
        return self.audio_scaling(batch.audio.mean()), self.video_scaling(batch.video.mean())

    def _check_width(self, modality: str, sequences: Sequences, width: int) -> None:
        found = sequences.values.shape[-1]
        if found != width:
            raise SacmaError(
                f"{type(self).__name__} was built for {modality} features {width} wide, not {found}; "
                "use the features that it was trained with"
            )
