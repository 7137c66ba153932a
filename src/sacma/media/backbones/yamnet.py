"""YAMNet's embedding of sound, 1024 numbers every 0.48 s, from a TensorFlow Lite file that the user has.

YAMNet (github.com/tensorflow/models, research/audioset/yamnet) was trained on the 521 classes of AudioSet.
The file is the int8 copy that takes the spectrogram, ``yamnet_spectra_in.tflite`` of
github.com/google-coral/coralmicro (Apache-2.0). A window is 96 frames of log-mel (0.96 s); the embedding is
the average of the last feature map, an inner tensor. The clip is scaled so that its loudest sample is 1, for
the network hears levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, requires
from sacma.files import sha256
from sacma.media.arrays import Waveform
from sacma.media.audio import YAMNET
from sacma.media.backbones.base import Steps
from sacma.media.backbones.streams import batches, regular_steps, windows

_EMBEDDING = "layer28/reduce_mean"
_HEAD = ("layer29/fc/MatMul", "layer29/fc/biases")
_FRAMES = 96


class YAMNet:
    """Sound to 1024 numbers every 0.48 s."""

    name = "yamnet"
    version = "1"
    licence = "Apache-2.0"
    width = 1024
    step_seconds = 0.48
    looks = 0.96
    rate = YAMNET.rate

    def __init__(self, weights: str | Path) -> None:
        """Load a TensorFlow Lite file.

        Raises:
            SacmaError: a package is missing, there is no such file, or it is no such network.
        """
        with requires("lite"):
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        path = Path(weights)
        if not path.is_file():
            raise SacmaError(f"{path}: no such file; expected yamnet_spectra_in.tflite")
        try:
            self._network = Interpreter(
                str(path),
                num_threads=1,
                # So that an inner tensor can be read.
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._network.allocate_tensors()
            found = {tensor["name"]: tensor for tensor in self._network.get_tensor_details()}
            self._input = self._network.get_input_details()[0]
            self._embedding = next(tensor for name, tensor in found.items() if name.endswith(_EMBEDDING))
            self._scale, self._zero = self._embedding["quantization"]
            self._head, self._bias = (self._constant(found, name) for name in _HEAD)
        except Exception as error:
            raise SacmaError(f"{path}: not YAMNet as a TensorFlow Lite file with spectra as input") from error
        if (
            tuple(self._input["shape"]) != (1, _FRAMES, YAMNET.bands)
            or self._embedding["shape"][-1] != self.width
        ):
            raise SacmaError(f"{path}: not YAMNet: it takes {self._input['shape']}, expected (1, 96, 64)")
        self.checksum = sha256(path)

    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode sound of 16,000 samples a second; goes through it twice, the first time for its peak."""
        peak = max((float(np.abs(block).max()) for block in blocks if len(block)), default=0.0)
        scale = np.float32(1 / peak if peak else 1)
        length = YAMNET.window + (_FRAMES - 1) * YAMNET.hop
        patches = (YAMNET(window * scale) for window in windows(blocks, length, _FRAMES // 2 * YAMNET.hop))
        made = [np.stack([self._embedded(patch) for patch in batch]) for batch in batches(patches, 64)]
        return regular_steps(made, self.step_seconds)

    def label_probabilities(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 521) probabilities of YAMNet's labels; ``values`` is (T, 1024).

        Computed from the embedding in floating point, so they are finer than the file's own int8 output.
        """
        logits = values @ self._head.T + self._bias
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)

    def _constant(self, found: Mapping[str, Any], ending: str) -> NDArray[np.float32]:
        """Weights whose name ends with the given text, as floating-point numbers."""
        tensor = next(tensor for name, tensor in found.items() if name.endswith(ending))
        scale, zero = tensor["quantization"]
        whole = self._network.get_tensor(tensor["index"]).astype(np.float32)
        return (whole - np.float32(zero)) * np.float32(scale)

    def _embedded(self, patch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embedding (1024,) of a patch (96, 64)."""
        self._network.set_tensor(self._input["index"], patch[None])
        self._network.invoke()
        quantised = self._network.get_tensor(self._embedding["index"]).reshape(-1).astype(np.float32)
        return (quantised - np.float32(self._zero)) * np.float32(self._scale)
