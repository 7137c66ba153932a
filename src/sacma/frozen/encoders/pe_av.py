"""PE-AV: sound, pictures and both together (Vyas et al., "Pushing the Frontier of Audiovisual Perception with
Large-Scale Multimodal Correspondence Learning", 2025).

A window of at most thirty seconds has three embeddings: of its sound, of its pictures, and of both
together. The text encoder has a head for each of the three, and each pairing uses its own. A logit is scale
* dot product + bias for each name by itself, without scaling vectors to unit length, as in training; so
text vectors and steps keep their lengths here.

A model takes sixteen evenly spaced frames of a window where its files say so, else all frames, here those
at 25 a second. Pictures are prepared by the numbers in the model's files: scaled bilinearly, rounded,
normalised. The picture network is one of timm, which must be installed (``pip install timm``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from sacma.errors import SacmaError
from sacma.files import read_json
from sacma.frozen.encoders import Vectors, load, tokens
from sacma.frozen.scores import FrozenFeatures
from sacma.media.arrays import Frame, TimedFrame, Waveform
from sacma.media.backbones import Steps, in_batches
from sacma.media.decode import Limits
from sacma.media.extract import part_seconds
from sacma.media.sources import ClipSource, name_of, opened
from sacma.pretrained import loading, weights_checksum

_SECONDS = 30.0
_RATE = 25.0
_TEXTS = 64
_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")


class PeAvTower:
    """A PE-AV model; a sigmoid for each name.

    Args:
        folder: of the model.
        source: what it is called in messages; by default the folder.
        device: where it runs.

    Raises:
        SacmaError: transformers is missing or too old, or the folder is no such model.
    """

    modalities = ("audio", "video")
    sigmoid = True

    def __init__(self, folder: str, *, source: str | None = None, device: str = "cpu") -> None:
        source = source or folder
        net, self._tokenizer = load(folder, source, "PeAudioVideoModel")
        from transformers import PeAudioFeatureExtractor

        with loading(source, "a PE-AV model"):
            self._front = PeAudioFeatureExtractor.from_pretrained(folder)
        self._pixels = _picture_facts(Path(folder), source)
        self._net, self._device = net.to(device), device
        self._longest = int(net.config.text_config.max_position_embeddings)
        checksum, width = weights_checksum(net), int(net.config.text_config.hidden_size)
        frames = self._pixels.get("num_frames")
        rate = 4 * frames / _SECONDS if frames else _RATE
        self.audio = _Part(source, checksum, width, rate=int(self._front.sampling_rate))
        self.video = _Part(source, checksum, width, rate=rate)
        self.scales: Mapping[str, tuple[float, float]] = {
            "audio": _scale(net.audio_model.text_audio_logit_scale, net.audio_model.text_audio_logit_bias),
            "video": _scale(net.video_model.text_video_logit_scale, net.video_model.text_video_logit_bias),
            "joint": _scale(net.text_audio_video_logit_scale, net.text_audio_video_logit_bias),
        }

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> tuple[Mapping[str, Vectors], int]:
        """Text vectors by each of the three heads, and how many texts were cut."""
        net, cut = self._net, 0
        heads = {
            "audio": net.audio_model.text_audio_head,
            "video": net.video_model.text_video_head,
            "joint": net.text_audio_video_head,
        }

        def embed(some: Sequence[str]) -> list[Vectors]:
            nonlocal cut
            made, more = tokens(self._tokenizer, some, longest=self._longest, padding=True)
            cut += more
            ids, mask = made["input_ids"].to(self._device), made["attention_mask"].to(self._device)
            states = net.text_model(
                input_ids=ids, attention_mask=mask, output_hidden_states=True
            ).hidden_states
            return [_array(head(states[-1][:, 0])) for head in heads.values()]

        parts = in_batches(embed, texts, _TEXTS)
        return {space: np.concatenate([part[k] for part in parts]) for k, space in enumerate(heads)}, cut

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> FrozenFeatures:
        """Features of a clip in windows of thirty seconds.

        Raises:
            SacmaError: see ``sacma.media.sources.opened``, ``Clip.frames``, ``Clip.waveform``.
        """
        part = {"start": start, "end": end}
        rate = round(self.audio.rate)
        made: dict[str, list[Vectors]] = {"audio": [], "video": [], "joint": []}
        with opened(clip, limits=limits) as source:
            sound = _cut_sound(source.waveform(rate=rate, **part), round(_SECONDS * self.audio.rate))
            films = _cut_film(source.frames(rate=self.video.rate, size=self._least_side, **part))
            for wave, film in zip(*_same_length(sound, films), strict=True):
                (found,) = in_batches(lambda pairs: self.embeddings(*pairs[0]), [(wave, film)], 1)
                for space, vector in found.items():
                    made[space].append(vector)
            notes, seconds = tuple(source.notes), part_seconds(source, **part)
        if not made["audio"] and not made["video"]:
            raise SacmaError(
                f"{name_of(clip)}: no sound and no pictures in the part asked for; choose another part"
            )
        steps = {space: _steps(rows) for space, rows in made.items()}
        if len(made["joint"]) < max(len(made["audio"]), len(made["video"])):
            steps["joint"] = None
        return FrozenFeatures(steps["audio"], steps["video"], notes, seconds, joint=steps["joint"])

    @torch.inference_mode()
    def embeddings(self, wave: Waveform | None, film: Sequence[Frame] | None) -> dict[str, Vectors]:
        """Embeddings (E,) of a window by ``audio``, ``video`` and ``joint``; without those it lacks.

        Args:
            wave: (S,) samples at the model's rate.
            film: frames (H, W, 3).
        """
        net, given = self._net, {}
        if wave is not None:
            front = self._front(wave, sampling_rate=self.audio.rate, return_tensors="pt")
            given["input_values"] = front["input_values"].to(self._device)
        if film is not None:
            given["pixel_values_videos"] = self.pixels(film).to(self._device)
        if wave is not None and film is not None:
            both = net.get_audio_video_embeds(**given, return_audio_embeds=True, return_video_embeds=True)
            found = {"audio": both.audio_embeds, "video": both.video_embeds, "joint": both.audio_video_embeds}
        elif wave is not None:
            part = net.audio_model
            found = {"audio": part.audio_head(part.audio_encoder(**given).pooler_output)}
        else:
            part = net.video_model
            found = {"video": part.video_head(part.video_encoder(**given).pooler_output)}
        return {space: _array(vectors)[0] for space, vectors in found.items()}

    def pixels(self, film: Sequence[Frame]) -> Tensor:
        """(1, F, 3, H, W) of frames (H, W, 3): evenly spaced ones where the model wants a number of them."""
        count = self._pixels.get("num_frames")
        if count:
            places = [int(k * (len(film) - 1) / max(count - 1, 1)) for k in range(count)]
            film = [film[place] for place in places]
        x = torch.from_numpy(np.stack(film)).permute(0, 3, 1, 2).float()  # (F, 3, H, W)
        size = _target(self._pixels["size"], x.shape[-2], x.shape[-1])
        if tuple(x.shape[-2:]) != size:
            x = interpolate(x, size=size, mode="bilinear", antialias=True).round().clamp(0, 255)
        x = x * self._pixels.get("rescale_factor", 1 / 255)
        if self._pixels.get("do_normalize", True):
            mean, std = (torch.tensor(self._pixels[k]).view(1, 3, 1, 1) for k in ("image_mean", "image_std"))
            x = (x - mean) / std
        return x[None]

    def cosines(self, modality: str, steps: Vectors, names: Vectors) -> NDArray[np.float64]:
        """(T, K) dot products, which take the place of cosines here."""
        return np.asarray(steps.astype(np.float64) @ names.T.astype(np.float64))

    @property
    def _least_side(self) -> int | None:
        size = self._pixels["size"]
        return max(size.values()) if size else None


class _Part:
    """Facts about one modality. Its clips are read by ``PeAvTower.features``."""

    version = "1"
    licence = "that of the model, see its card"
    step_seconds = _SECONDS
    size = None

    def __init__(self, name: str, checksum: str, width: int, *, rate: float) -> None:
        self.name, self.checksum, self.width, self.rate = name, checksum, width, rate

    def encode(self, stream: Iterable[Any]) -> Steps | None:
        raise SacmaError(
            f"{self.name} reads sound and pictures together; it is no backbone for sacma extract"
        )


def _picture_facts(folder: Path, source: str) -> dict[str, Any]:
    """Read from the model's files the preparation of pictures."""
    found = folder / "processor_config.json"
    if found.is_file() and "video_processor" in (facts := read_json(found)):
        return dict(facts["video_processor"])
    for name in _FILES:
        if (folder / name).is_file() and "size" in (facts := read_json(folder / name)):
            return facts
    raise SacmaError(f"{source} has no {_FILES[0]}; fetch it again: sacma models get NAME")


def _target(size: Mapping[str, int], height: int, width: int) -> tuple[int, int]:
    """Height and width of the pictures that the model's ``size`` asks for."""
    if "shortest_edge" in size:
        scale = size["shortest_edge"] / min(height, width)
        return round(height * scale), round(width * scale)
    return size["height"], size["width"]


def _cut_sound(blocks: Iterable[Waveform], length: int) -> list[Waveform]:
    whole = [*blocks]
    joined = np.concatenate(whole) if whole else np.zeros(0, np.float32)
    return [joined[k : k + length] for k in range(0, len(joined), length)]


def _cut_film(frames: Iterable[TimedFrame]) -> list[list[Frame]]:
    films: list[list[Frame]] = []
    for seconds, frame in frames:
        while len(films) <= int(seconds / _SECONDS):
            films.append([])
        films[-1].append(frame)
    return [film for film in films if film]


def _same_length(sound: list[Any], films: list[Any]) -> tuple[list[Any], list[Any]]:
    """Both lists with None where one is shorter."""
    count = max(len(sound), len(films))
    return sound + [None] * (count - len(sound)), films + [None] * (count - len(films))


def _steps(rows: list[Vectors]) -> Steps | None:
    return Steps(np.stack(rows), np.arange(len(rows), dtype=np.float64) * _SECONDS) if rows else None


def _scale(scale: Tensor, bias: Tensor) -> tuple[float, float]:
    return scale.item(), bias.item()


def _array(vectors: Tensor) -> Vectors:
    return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)
