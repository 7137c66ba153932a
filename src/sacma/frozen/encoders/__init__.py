"""Joint encoders: pretrained networks that put sound, pictures or both, and text, into one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, requires
from sacma.media.backbones import AudioEncoder, VideoEncoder, in_batches
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures
from sacma.media.sources import ClipSource
from sacma.pretrained import loading, pretrained

Vectors = NDArray[np.float32]
_T = TypeVar("_T")
_TEXTS = 256
"""Texts that are encoded at a time."""


class Tower(Protocol):
    """A model with its text side.

    Attributes:
        modalities: what it reads: ``audio``, ``video`` or both.
        audio: the encoder of sound; None where it reads none.
        video: the encoder of pictures; None where it reads none.
        scales: text space -> (scale, bias): logit = scale * cosine + bias. The spaces are the modalities, and
            ``joint`` where sound and pictures have an embedding together.
        sigmoid: a logit is that of a sigmoid for each name, not of a softmax over names.
    """

    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def audio(self) -> AudioEncoder | None: ...
    @property
    def video(self) -> VideoEncoder | None: ...
    @property
    def scales(self) -> Mapping[str, tuple[float, float]]: ...
    @property
    def sigmoid(self) -> bool: ...

    def texts(self, texts: Sequence[str]) -> tuple[Mapping[str, Vectors], int]:
        """Unit vectors (K, E) of texts in each space, and how many texts were cut to fit."""
        ...

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures | None:
        """Features of a clip, for encoders that need sound and pictures together; None for others."""
        ...

    def cosines(self, modality: str, steps: Vectors, names: Vectors) -> NDArray[np.float64] | None:
        """(T, K) cosines, for models whose text vectors depend on the clip; None for others."""
        ...


class OneModality:
    """The part of a tower that is the same for all that read one modality.

    A subclass sets the network and tokenizer of ``load``, their device, and the longest text in tokens.
    """

    sigmoid = False
    audio: AudioEncoder | None = None
    video: VideoEncoder | None = None
    modalities: tuple[str, ...] = ()
    padding: ClassVar[Mapping[str, Any]] = {"padding": True}
    _net: Any
    _tokenizer: Any
    _device: str
    _longest: int

    def texts(self, texts: Sequence[str]) -> tuple[Mapping[str, Vectors], int]:
        """Text vectors (K, E) in the space of the modality, and how many texts were cut to fit."""
        import torch

        cut = 0

        def embed(some: Sequence[str]) -> Vectors:
            nonlocal cut
            made, more = tokens(self._tokenizer, some, longest=self._longest, **self.padding)
            cut += more
            return self._finished(pooled(self._net.get_text_features(**made.to(self._device))))

        (modality,) = self.modalities
        with torch.inference_mode():
            return {modality: np.concatenate(in_batches(embed, texts, _TEXTS))}, cut

    def _finished(self, vectors: Any) -> Vectors:
        """Text vectors as the tower scores them: of unit length."""
        return unit(vectors)

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures | None:
        """None: its encoder takes the clip by itself."""
        return None

    def cosines(self, modality: str, steps: Vectors, names: Vectors) -> NDArray[np.float64] | None:
        """None: its text vectors do not depend on the clip."""
        return None


def load(folder: str, source: str, network: str) -> tuple[Any, Any]:
    """A network of transformers in eval mode, and the tokenizer of its folder.

    Args:
        folder: of the model.
        source: what it is called in messages.
        network: name of the class in transformers.

    Raises:
        SacmaError: transformers is missing or too old for the class, or the folder cannot be loaded.
    """
    with requires("text", f"{source} needs transformers"):
        import transformers
    kind = getattr(transformers, network, None)
    if kind is None:
        raise SacmaError(
            f"{source} needs a newer transformers than {transformers.__version__}; "
            "install it with: pip install -U transformers"
        )
    with loading(source, f"a model of kind {network}"):
        return pretrained(kind, folder), transformers.AutoTokenizer.from_pretrained(folder)


def load_image_processor(folder: str, source: str) -> Any:
    """Load the image processor from the model's own files; it works with Pillow.

    Raises:
        SacmaError: the folder says nothing of it.
    """
    from transformers import AutoImageProcessor

    with loading(source, "a model of pictures"):
        return AutoImageProcessor.from_pretrained(folder, backend="pil")


def pooled(output: Any) -> Any:
    """The embedding in an output of transformers, which older versions give as a tensor."""
    return getattr(output, "pooler_output", output)


def unit(vectors: Any) -> Vectors:
    """Rows of a tensor or array (..., E) scaled to unit length."""
    array = vectors.detach().float().cpu().numpy() if hasattr(vectors, "detach") else np.asarray(vectors)
    return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True), dtype=np.float32)


def tokens(tokenizer: Any, texts: Sequence[str], *, longest: int, **options: Any) -> tuple[Any, int]:
    """Tokens of texts, and how many texts were cut to ``longest`` tokens."""
    lengths = [len(ids) for ids in tokenizer(list(texts), truncation=False)["input_ids"]]
    made = tokenizer(list(texts), truncation=True, max_length=longest, return_tensors="pt", **options)
    return made, sum(length > longest for length in lengths)
