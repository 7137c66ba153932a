"""Base class of all methods: a module with a loss to train on and distances to the candidate classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sacma.errors import SacmaError, printable, some_of
from sacma.hub import OnHub
from sacma.models.configs.base import MethodConfig
from sacma.models.layers import InputScaling
from sacma.options import TrainingConfig, from_options, to_options
from sacma.types import Batch, ClassSet, Sequences


class Method(nn.Module, OnHub):
    """Base of all methods.

    A subclass defines ``Config``, the network, ``loss``, and either ``embed_clips`` (with ``embed_classes``
    and ``compare`` where their defaults do not fit) or ``distances``. Hyperparameters are keyword arguments
    of the constructor and stay in ``config``; ``save_pretrained`` keeps them in config.json.

    Class attributes:
        Config: dataclass of the hyperparameters, a subclass of ``MethodConfig``.
        VARIANTS: name -> hyperparameters that this variant changes; the first is the default.
        PUBLISHED_TRAINING: options of the run that the variant ``published`` changes.
        PRESETS: for methods from outside, options of the presets ``small`` and ``published``.
        OUTPUTS: the embeddings that can score, the default first; ``distances`` takes one by name.
        needs_negatives: a batch has, for each clip, a clip of another class.
        calibrated: the protocol searches for a bias on the distances of seen classes on validation.
        learns_by_gradient: batches train the method; False for closed forms and scores without training.
        needs_fit: the method overrides ``fit``: a closed form, or a classifier on generated features.
        compares_embeddings: ``distances`` is ``compare`` of ``embed_clips`` and ``embed_classes``; evaluation
            then embeds the classes once and compares in blocks. False where distances depend on the other
            candidates or are not made of two embeddings.
        fixed_candidates: scores come from a classifier limited to the candidates given to ``fit``.
        stateful: the network keeps state that an exported graph cannot hold.
        temporal: the method works on sequences; False for methods of time-averaged features.
        VALIDATED: buffers that ``calibrate`` fixes on validation; those of stage 1 hold for test too.
        needs_joint_space: the method works only where features and class vectors are in one space.
        takes_averages: a method of sequences that is meant for averages over time as well; of others, tables
            note that a clip has one step.
        PUBLISHED_NAMES: part of a key in the released code's state dict -> the same part in ours.
        UNPUBLISHED: parts of our keys that have no counterpart in the released code's state dict.
    """

    HUB_MIXIN: ClassVar[str] = "PyTorchModelHubMixin"
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"corrected": {}}
    PUBLISHED_TRAINING: ClassVar[Mapping[str, Any]] = {}
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    OUTPUTS: ClassVar[Sequence[str]] = ("embedding",)
    VALIDATED: ClassVar[Sequence[str]] = ()
    needs_negatives: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    learns_by_gradient: ClassVar[bool] = True
    needs_fit: ClassVar[bool] = False
    compares_embeddings: ClassVar[bool] = True
    fixed_candidates: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    temporal: ClassVar[bool] = True
    needs_joint_space: ClassVar[bool] = False
    takes_averages: ClassVar[bool] = False
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {}
    UNPUBLISHED: ClassVar[Sequence[str]] = ("_scaling.",)

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__()
        try:
            self.config = from_options(self.Config, hyperparameters)
        except TypeError as error:
            raise SacmaError(f"{type(self).__name__}: {error}") from error
        self.extra_train_forward = bool(to_options(self.config).get("extra_train_forward"))
        self.audio_scaling = InputScaling(self.config.audio_width, self.config.feature_scaling)
        self.video_scaling = InputScaling(self.config.video_width, self.config.feature_scaling)

    @classmethod
    def for_saved(cls, config: Mapping[str, Any]) -> type[Method]:
        """Find the class of a saved model; another one where an earlier version had the same name.

        Args:
            config: its hyperparameters by name.
        """
        return cls

    @property
    def known_vectors(self) -> Tensor | None:
        """(k, E) class vectors of the training classes, where distances of seen candidates rest on them."""
        return None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(iter(self.state_dict().values())).device

    @property
    def outputs(self) -> Sequence[str]:
        """The names in ``OUTPUTS`` that can score with these hyperparameters."""
        return self.OUTPUTS

    @property
    def default_output(self) -> str:
        """The output that scores unless another one is named."""
        return self.OUTPUTS[0]

    def scoring_output(self, output: str | None) -> str:
        """The output named, or the default one for None.

        Raises:
            SacmaError: this model cannot score with it.
        """
        if output is None:
            return self.default_output
        if output not in self.outputs:
            raise SacmaError(
                f"this {type(self).__name__} model cannot score with {printable(output)}; "
                f"choose one of {', '.join(self.outputs)}"
            )
        return output

    def searches_bias(self, output: str | None = None) -> bool:
        """True if a bias on seen classes is searched for on validation when ``output`` scores."""
        return self.calibrated

    @property
    def rescored_for_zsl(self) -> bool:
        """True if distances depend on the other candidates, so that ZSL needs a pass of its own."""
        return not self.calibrated

    def bias_outputs(self, output: str | None = None) -> Sequence[str]:
        """The outputs whose best biases on validation are averaged for test.

        Args:
            output: the output that scores, by default ``default_output``; by default it alone counts.
        """
        return (output or self.default_output,)

    def forward(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Same as ``loss``; wrappers for precision hook into ``forward``."""
        return self.loss(batch, classes)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Compute the terms of the loss.

        Args:
            batch: B clips of training classes; ``batch.labels`` are positions in ``classes``.
            classes: all training classes and no other.

        Returns:
            Scalars by name, already weighted; training minimises their sum.
        """
        raise NotImplementedError

    def distances(self, batch: Batch, classes: ClassSet, *, output: str | None = None) -> Tensor:
        """Distances of clips to the candidates, smaller is nearer.

        A method that overrides it, in place of the three methods that follow, sets ``compares_embeddings`` to
        False.

        Args:
            batch: B clips; their ``labels`` and ``text`` are not read.
            classes: K candidates.
            output: one of ``outputs`` that scores, by default ``default_output``.

        Returns:
            (B, K) distances.
        """
        return self.compare(self.embed_clips(batch, output=output), self.embed_classes(classes))

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, D) embeddings of the clips for scoring; ``output`` as in ``distances``."""
        raise NotImplementedError

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, D) embeddings of the candidates for scoring; by default their class vectors."""
        return classes.vectors

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """Distances of embeddings, (B, D) and (K, D) -> (B, K); Euclidean by default."""
        return torch.cdist(clips, classes, compute_mode="donot_use_mm_for_euclid_dist")

    def optimisers(self, config: TrainingConfig) -> list[torch.optim.Optimizer]:
        """Make the optimisers: one Adam over all parameters, unless a method overrides this.

        There is none where ``learns_by_gradient`` is False.
        """
        if not self.learns_by_gradient:
            return []
        return [
            torch.optim.Adam(
                self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            )
        ]

    def step(
        self, batch: Batch, classes: ClassSet, optimisers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """Take one optimisation step; where ``learns_by_gradient`` is False, only compute the loss.

        Args:
            batch: as in ``loss``.
            classes: as in ``loss``.
            optimisers: from ``optimisers``.

        Returns:
            The terms of the loss, detached.
        """
        terms = self(batch, classes)
        if not self.learns_by_gradient:
            return {name: term.detach() for name, term in terms.items()}
        (optimiser,) = optimisers
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        if self.extra_train_forward:
            with torch.no_grad():
                self.second_forward(batch)
        return {name: term.detach() for name, term in terms.items()}

    def second_forward(self, batch: Batch) -> None:
        """Run the networks again, as some released codes do after each step of the optimiser.

        ``step`` calls it in training mode and without gradients where the method has an option
        ``extra_train_forward`` and it is on. It moves BatchNorm's statistics and the random state once more,
        and nothing else.
        """
        raise NotImplementedError

    def fit(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Fit what gradient steps do not learn: closed forms, classifiers on generated features.

        Training calls it before each evaluation and once more before the first epoch of a stage.

        Args:
            batches: all training clips of the stage, in parts; their ``labels`` are positions in ``classes``.
                They are of seen classes, never test clips.
            classes: the candidates of the coming evaluation, seen and unseen.
        """

    def calibrate(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Fix the buffers of ``VALIDATED``; called before each scoring of validation.

        Args:
            batches: all clips of validation, some at a time.
            classes: the candidates of validation.
        """

    def choices(self) -> tuple[str, ...]:
        """Remarks on what ``calibrate`` has fixed, for the result of a run."""
        return ()

    def take_validated(self, values: Mapping[str, Tensor]) -> None:
        """Take buffers of ``VALIDATED`` that validation fixed, by name."""
        for name, value in values.items():
            self.get_buffer(name).copy_(value)

    def fit_scaling(self, audio: Iterable[Tensor], video: Iterable[Tensor]) -> None:
        """Take channel statistics from the steps of training clips, (N, Da) and (M, Dv) in parts."""
        self.audio_scaling.fit(audio)
        self.video_scaling.fit(video)

    def scaled(self, batch: Batch) -> tuple[Sequences, Sequences]:
        """Audio and video of the batch after ``feature_scaling``; ``published`` changes nothing here."""
        self._check_width("audio", batch.audio, self.config.audio_width)
        self._check_width("video", batch.video, self.config.video_width)
        return (
            batch.audio.with_values(self.audio_scaling(batch.audio.values)),
            batch.video.with_values(self.video_scaling(batch.video.values)),
        )

    def averaged(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Average audio (B, Da) and video (B, Dv) over each clip's steps, then apply ``feature_scaling``."""
        self._check_width("audio", batch.audio, self.config.audio_width)
        self._check_width("video", batch.video, self.config.video_width)
        return self.audio_scaling(batch.audio.mean()), self.video_scaling(batch.video.mean())

    @classmethod
    def rename_published(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the keys of the released code's state dict to ours; unknown keys stay as they are."""
        renamed = {}
        for key, value in state.items():
            name = key
            for published, ours in cls.PUBLISHED_NAMES.items():
                name = name.replace(published, ours)
            renamed[name] = value
        return renamed

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load a state dict with the key names of the released code.

        Raises:
            SacmaError: keys are missing or unknown, or shapes differ; they are named.
        """
        renamed = self.rename_published(state)
        own = self.state_dict()
        expected = {key for key in own if not any(part in key for part in self.UNPUBLISHED)}
        if expected != renamed.keys():
            missing, unknown = (
                some_of(sorted(map("'{}'".format, names), key=lambda name: (name.count("."), name)))
                for names in (expected - renamed.keys(), renamed.keys() - expected)
            )
            raise SacmaError(
                f"not a published {type(self).__name__} state: missing [{missing}], unknown [{unknown}]"
            )
        if wrong := [key for key, value in renamed.items() if value.shape != own[key].shape]:
            shapes = ", ".join(
                f"{key} {tuple(renamed[key].shape)} not {tuple(own[key].shape)}" for key in wrong
            )
            raise SacmaError(
                f"published {type(self).__name__} state of other sizes: {shapes}; "
                "set the widths that it was trained with"
            )
        self.load_state_dict({**own, **renamed})

    def _check_width(self, modality: str, sequences: Sequences, width: int) -> None:
        found = sequences.values.shape[-1]
        if found != width:
            raise SacmaError(
                f"{type(self).__name__} was built for {modality} features {width} wide, not {found}; "
                "use the features that it was trained with"
            )


def negatives_of(batch: Batch) -> Batch:
    """The clips of other classes that belong to a batch.

    Raises:
        SacmaError: the batch has none.
    """
    if batch.negatives is None:
        raise SacmaError(
            "this method's loss needs a clip of another class for each clip; batch.negatives is None"
        )
    return batch.negatives
