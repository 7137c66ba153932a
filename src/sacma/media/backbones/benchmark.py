"""Extractors of the published features of the benchmarks, for own clips that must match them.

They follow what the code of AVCA and SeLaVi says of the extraction, and are not verified against the released
features. Weights come from files that the user has:

    c3d-vggish    audio: ``vggish-10086976.pth`` (names ``features``, ``embeddings``) or
                  ``pytorch_vggish.pth`` (names ``conv1`` to ``fc3``), with ``vggish_pca_params`` (.npz or
                  .pth) in the same folder
                  video: ``c3d.pickle``, C3D trained on Sports-1M
    selavi        audio and video: a checkpoint of SeLaVi, names ``audio_network.base`` and
                  ``video_network.base``; the same file may be given for both
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from sacma.checkpoints import read_checkpoint
from sacma.errors import SacmaError
from sacma.files import sha256
from sacma.media.arrays import Frames, TimedFrame, Waveform
from sacma.media.audio import VGGISH, log_filter_bank
from sacma.media.backbones.base import Steps
from sacma.media.backbones.networks import C3D, R2Plus1D18, ResNet9, VGGish, load_released
from sacma.media.backbones.streams import batches, middle, regular_steps, windows

_PATCH = 96
_VGGISH_NAMES = {
    theirs: f"features.{place}"
    for theirs, place in zip(
        ("conv1", "conv2", "conv3_1", "conv3_2", "conv4_1", "conv4_2"), (0, 3, 6, 8, 11, 13), strict=True
    )
} | {"fc1": "embeddings.0", "fc2": "embeddings.2", "fc3": "embeddings.4"}


class VGGishSound:
    """Sound to 128 numbers of 0 to 255 every 0.96 s: VGGish, then its PCA with whitening and 8-bit codes."""

    name = "vggish"
    version = "1"
    licence = "Apache-2.0"
    width = 128
    step_seconds = 0.96
    rate = VGGISH.rate

    def __init__(self, weights: str | Path, *, device: str = "cpu") -> None:
        """Load the network and, from the same folder, the PCA.

        Raises:
            SacmaError: a file is missing or holds something else.
        """
        path = Path(weights)
        self._net = load_released(VGGish(), path, other_names=_VGGISH_NAMES).to(device)
        self._device = device
        pca = next(iter(sorted(path.parent.glob("vggish_pca_params*"))), None)
        if pca is None:
            raise SacmaError(
                f"{path.parent}: no vggish_pca_params.npz or .pth beside {path.name}; put it there"
            )
        self._vectors, self._means = _pca(pca)
        self.checksum = f"{sha256(path)} {sha256(pca)}"

    @torch.inference_mode()
    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode sound of 16,000 samples a second."""
        length = VGGISH.window + (_PATCH - 1) * VGGISH.hop
        made = []
        for batch in batches(windows(blocks, length, _PATCH * VGGISH.hop), 32):
            patches = torch.from_numpy(np.stack([VGGISH(window) for window in batch]))  # (B, 96, 64)
            made.append(self.quantised(self._net(patches[:, None].to(self._device)).cpu().numpy()))
        return regular_steps(made, self.step_seconds)

    def quantised(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 128) codes of embeddings (B, 128): -2 to 2 after the PCA, as whole numbers of 0 to 255."""
        projected = (embeddings - self._means) @ self._vectors.T
        return np.floor((np.clip(projected, -2, 2) + 2) * (255 / 4)).astype(np.float32)


def _pca(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Eigenvectors (128, 128), one a row, and means (128,)."""
    keys = ("pca_eigen_vectors", "pca_means")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                vectors, means = (np.asarray(arrays[key], dtype=np.float32) for key in keys)
        else:
            tensors = read_checkpoint(path).state
            vectors, means = (tensors[key].float().numpy() for key in keys)
        return vectors.reshape(128, 128), means.reshape(128)
    except (OSError, ValueError, KeyError) as error:
        raise SacmaError(f"{path}: not the PCA of VGGish ({error})") from error


class C3DPictures:
    """Pictures to 4096 numbers every 0.64 s: fc7 of C3D over 16 frames at 25 a second.

    Frames are 128 x 171, their middle 112 x 112; the last 16 are filled up with zeros. The published code
    hands its pictures over as numbers from 0 to 255 where 0 to 1 is expected, so that a value v reaches the
    network as 256 - v modulo 256, a negative, and blue comes first. That is repeated here.
    """

    name = "c3d"
    version = "1"
    licence = "that of the weights"
    width = 4096
    step_seconds = 0.64
    rate = 25.0
    size = 128

    def __init__(self, weights: str | Path, *, device: str = "cpu") -> None:
        """Load the network.

        Raises:
            SacmaError: the file is missing or holds something else.
        """
        self._net = load_released(C3D(), Path(weights)).to(device)
        self._device = device
        self.checksum = sha256(Path(weights))

    _frames = 16

    @torch.inference_mode()
    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames of 25 a second."""
        made = []
        for batch in batches(frames, self._frames):
            clip = torch.zeros(3, self._frames, 112, 112)
            clip[:, : len(batch)] = prepared(np.stack([frame for _, frame in batch]))
            made.append(self._net(clip[None].to(self._device)).cpu().numpy())
        return regular_steps(made, self.step_seconds)


def prepared(frames: Frames) -> Tensor:
    """Input (3, F, 112, 112) of C3D from frames (F, H, W, 3)."""
    negative = torch.from_numpy(np.ascontiguousarray((-frames)[..., ::-1]))  # blue, green, red
    x = negative.permute(0, 3, 1, 2).float()  # (F, 3, H, W)
    x = interpolate(x, size=(128, 171), mode="bilinear", antialias=True).round()[:, :, 8:120, 30:142] / 255
    mean = torch.tensor([0.43216, 0.394666, 0.37645]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.22803, 0.22145, 0.216989]).view(1, 3, 1, 1)
    return ((x - mean) / deviation).transpose(0, 1)


class SelaviSound:
    """Sound to 512 numbers a second: SeLaVi's ResNet-9 on 257 bands of log energy at 24 kHz."""

    name = "selavi-resnet9"
    version = "1"
    licence = "CC-BY-NC-4.0"
    width = 512
    step_seconds = 1.0
    rate = 24_000

    def __init__(self, weights: str | Path, *, device: str = "cpu") -> None:
        """Load the network.

        Raises:
            SacmaError: the file is missing or holds something else.
        """
        self._net = load_released(ResNet9(), Path(weights), prefix="audio_network.base.").to(device)
        self._device = device
        self.checksum = sha256(Path(weights))

    @torch.inference_mode()
    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode sound of 24,000 samples a second."""
        made = []
        for batch in batches(windows(blocks, self.rate, self.rate), 16):
            bands = [log_filter_bank(window * np.float32(32768), rate=self.rate) for window in batch]
            spectra = torch.from_numpy(np.stack(bands).transpose(0, 2, 1).copy())  # (B, 257, 99)
            made.append(self._net(((spectra - 1.93) / 17.89)[:, None].to(self._device)).cpu().numpy())
        return regular_steps(made, self.step_seconds)


class SelaviPictures:
    """Pictures to 512 numbers a second: SeLaVi's R(2+1)D-18 on 30 frames, their middle 112 x 112."""

    name = "selavi-r2plus1d-18"
    version = "1"
    licence = "CC-BY-NC-4.0"
    width = 512
    step_seconds = 1.0
    rate = 30.0
    size = 112

    def __init__(self, weights: str | Path, *, device: str = "cpu") -> None:
        """Load the network.

        Raises:
            SacmaError: the file is missing or holds something else.
        """
        self._net = load_released(R2Plus1D18(), Path(weights), prefix="video_network.base.").to(device)
        self._device = device
        self.checksum = sha256(Path(weights))

    _frames = 30

    @torch.inference_mode()
    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames of 30 a second; less than half a second at the end is left out."""
        made: list[NDArray[np.float32]] = []
        for batch in batches(frames, self._frames):
            if made and len(batch) < self._frames // 2:
                break
            shown = np.stack([middle(frame) for _, frame in batch])
            shown = np.concatenate([shown, np.repeat(shown[-1:], self._frames - len(shown), axis=0)])
            x = torch.from_numpy(shown).permute(3, 0, 1, 2).float() / 255  # (3, 30, S, S)
            if x.shape[-1] != self.size:
                x = interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
            made.append(self._net(((x - 0.45) / 0.225)[None].to(self._device)).cpu().numpy())
        return regular_steps(made, self.step_seconds)
