"""Export of a method as an ONNX graph: padded tensors with lengths in, distances to any class vectors out.

    audio           (clips, audio_steps, Da) float32    padding can have any value
    audio_lengths   (clips,) int64                      steps of each clip; 0 for a clip without sound
    video           (clips, video_steps, Dv) float32
    video_lengths   (clips,) int64
    class_vectors   (classes, E) float32                of unit length, by the text encoder of the run
    distances       (clips, classes) float32            smaller is nearer; without the calibration bias

Only the three widths are fixed; a clip can have 0 steps. The graph contains the scaling of the features and
the seconds of a step. The metadata of the file has the rest that an answer needs: bias, temperature, names of
the classes, and which of them are seen.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sacma.errors import SacmaError, one_line, printable, requires
from sacma.files import replacing
from sacma.models.base import Method
from sacma.models.frozen import Frozen
from sacma.models.fused import Fused
from sacma.types import Batch, ClassSet, Padded, Sequences
from sacma.version import __version__

if TYPE_CHECKING:
    from sacma.predict.predictor import Predictor

INPUTS = ("audio", "audio_lengths", "video", "video_lengths", "class_vectors")
_SIZES: tuple[dict[int, str], ...] = (
    {0: "clips", 1: "audio_steps"},
    {0: "clips"},
    {0: "clips", 1: "video_steps"},
    {0: "clips"},
    {0: "classes"},
)
# Sizes of the inputs that check the file: steps of audio, steps of video, classes.
_CHECKED = ((1, 1, 1), (7, 3, 5), (2, 9, 1), (30, 61, 12), (0, 4, 3), (4, 0, 3))
TOLERANCE = 1e-4
"""Largest accepted difference from PyTorch, as a fraction of the largest distance."""
SAME_VECTOR = 1e-3
"""Largest difference of two class vectors of unit length that are those of one class."""


class Graph(nn.Module):
    """The exported computation: ``distances`` of a method, from padded tensors.

    Args:
        method: the model, in evaluation mode.
        audio_step: seconds of an audio step.
        video_step: seconds of a video step.
        output: of the method, by default its default.
    """

    def __init__(
        self, method: Method, *, audio_step: float, video_step: float, output: str | None = None
    ) -> None:
        super().__init__()
        self.method, self.output = method, output
        self.audio_step, self.video_step = audio_step, video_step

    def forward(
        self,
        audio: Tensor,
        audio_lengths: Tensor,
        video: Tensor,
        video_lengths: Tensor,
        class_vectors: Tensor,
    ) -> Tensor:
        """(B, Ta, Da), (B,), (B, Tv, Dv), (B,), (K, E) -> (B, K)."""
        batch = Batch(
            Padded.from_padded(audio, audio_lengths, self._seconds(audio, self.audio_step)),
            Padded.from_padded(video, video_lengths, self._seconds(video, self.video_step)),
            torch.zeros_like(audio_lengths),  # distances depend neither on labels nor on text
            class_vectors.new_zeros(audio.shape[0], class_vectors.shape[1]),
        )
        seen = _seen(self.method, class_vectors)
        return self.method.distances(batch, ClassSet((), class_vectors, seen), output=self.output)

    @staticmethod
    def _seconds(values: Tensor, step: float) -> Tensor:
        return torch.arange(values.shape[1]).to(values.dtype) * step


def export_run(predictor: Predictor, path: Path, *, output: str | None = None) -> float:
    """Write a trained model as an ONNX file with metadata for its answers; see ``export_onnx``.

    Args:
        predictor: the model.
        path: the file, ``.onnx``.
        output: output of the method that scores; by default its own.

    Raises:
        SacmaError: the method has no such output; or see ``export_onnx``.
    """
    method, d = predictor.method, predictor.deployment
    output = output or method.default_output
    if output not in d.scales:
        raise SacmaError(f"{d.method} has no output {printable(output)}; it has: {', '.join(d.scales)}")
    scale, classes = d.scales[output], d.classes
    metadata = {
        "sacma": __version__,
        "method": d.method,
        "output": output,
        "benchmark": d.benchmark,
        "features": d.features,
        "bias": scale.bias,
        "temperature": scale.temperature,
        "audio_step_seconds": d.audio_step,
        "video_step_seconds": d.video_step,
        "classes": list(classes.names),
        "seen": classes.seen.tolist(),
    }
    steps = {"audio_step": d.audio_step, "video_step": d.video_step}
    return export_onnx(method, path, **steps, metadata=metadata, output=output)


def push(predictor: Predictor, name: str, *, private: bool, card: Mapping[str, Any]) -> str:
    """Upload a model with its card to the Hugging Face hub.

    Args:
        predictor: the model.
        name: of the repository, such as ``user/model``.
        private: True to make a new repository private.
        card: keyword arguments of ``Predictor.generate_model_card``.

    Returns:
        The address of the commit.

    Raises:
        SacmaError: the hub cannot be reached or refuses.
    """
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        return str(predictor.push_to_hub(name, private=private, model_card_kwargs=dict(card)))
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, HTTPError, OSError) as error:
        detail = one_line(error)[:300]
        raise SacmaError(f"cannot push to {name}: {detail}; log in with: hf auth login") from error


def export_onnx(
    method: Method,
    path: Path,
    *,
    audio_step: float,
    video_step: float,
    metadata: Mapping[str, Any],
    output: str | None = None,
) -> float:
    """Write a method as an ONNX file, if it computes the same as PyTorch.

    Args:
        method: the model with its weights.
        path: the file, ``.onnx``.
        audio_step: seconds of an audio step.
        video_step: seconds of a video step.
        metadata: name -> JSON value, for ``metadata_props`` of the file.
        output: of the method, by default its default.

    Returns:
        The largest difference from PyTorch on clips of varied lengths, as a fraction of the largest distance.

    Raises:
        SacmaError: the method cannot be exported, a package is missing, the file cannot be written, or the
            graph differs from PyTorch by more than ``TOLERANCE``.
    """
    check_exportable(method)
    if path.suffix != ".onnx":
        raise SacmaError(f"{path}: name the file something.onnx")
    graph = Graph(method, audio_step=audio_step, video_step=video_step, output=output).eval()
    with _quiet():
        program = _program(graph)
    for name, value in metadata.items():
        program.model.metadata_props[name] = value if isinstance(value, str) else json.dumps(value)
    with replacing(path) as partial:
        program.save(partial, external_data=False)
        difference = compare(graph, partial)
        if not difference <= TOLERANCE:
            raise SacmaError(
                f"{path}: the graph differs from PyTorch by {difference:.1e} of the largest distance, more "
                f"than {TOLERANCE:.0e}; nothing was written"
            )
    return difference


def check_exportable(method: Method) -> None:
    """Check that a method can be a graph whose candidates are an input.

    Raises:
        SacmaError: it cannot; the message says why.
    """
    if isinstance(method, Fused):
        if not isinstance(method.prior, Frozen):
            raise SacmaError("the label bridge reads class names, and a graph takes class vectors")
        method = method.method
    name = type(method).__name__
    if method.fixed_candidates:
        raise SacmaError(
            f"{name} scores by a classifier of fixed candidates; its graph cannot take class vectors"
        )
    if not method.calibrated and method.known_vectors is None:
        raise SacmaError(f"{name} separates seen from unseen classes itself, and a graph does not know them")
    if method.stateful:
        raise SacmaError(
            f"the spiking neurons of {name} keep their state outside the graph; it cannot be exported"
        )


def _seen(method: Method, vectors: Tensor) -> Tensor:
    """(K,) bool: the candidates that a method knows from training, by their vectors, where it has to know."""
    if method.known_vectors is None:
        return torch.zeros(vectors.shape[0], dtype=torch.bool)
    apart = torch.cdist(vectors, method.known_vectors, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.amin(dim=1) <= SAME_VECTOR


def _program(graph: Graph) -> Any:
    with requires("export", "ONNX files need another package"):
        import onnxruntime  # noqa: F401 - the check of the file needs it
        from onnxscript import opset18 as op

    def differences(x: Any, y: Any, p: float, compute_mode: int | None = None) -> Any:
        """``torch.cdist``, for which the exporter has no translation. (B, d), (K, d) -> (B, K)."""
        apart = op.Sub(op.Unsqueeze(x, [1]), op.Unsqueeze(y, [0]))
        return op.Sqrt(op.ReduceSumSquare(apart, [-1], keepdims=0))

    example = _example(graph, (5, 4, 6), clips=3, seed=0)
    with torch.no_grad():
        return torch.onnx.export(
            graph,
            tuple(example),
            dynamo=True,
            verbose=False,
            input_names=list(INPUTS),
            output_names=["distances"],
            dynamic_shapes=_SIZES,
            custom_translation_table={torch.ops.aten._cdist_forward.default: differences},
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks about optional packages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def compare(graph: Graph, path: Path) -> float:
    """The largest difference between the file, run by ONNX Runtime, and the packed computation in PyTorch.

    Batches have one clip or four, of various lengths; some clips lack sound, pictures or both.

    Returns:
        The difference as a fraction of the largest distance.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, sizes in enumerate(_CHECKED):
        for clips in (1, 4):
            inputs = _example(graph, sizes, clips=clips, seed=seed + 1)
            found = session.run(None, dict(zip(INPUTS, (x.numpy() for x in inputs), strict=True)))[0]
            expected = _packed(graph, *inputs).numpy()
            worst = max(worst, relative_difference(found, expected))
    return worst


def relative_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference as a fraction of the largest distance; infinite where something is no number."""
    with np.errstate(invalid="ignore"):
        apart, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if apart == 0:  # distances that are all 0 included
        return 0.0
    share = apart / largest if largest else math.inf
    return math.inf if math.isnan(share) else share


def _example(graph: Graph, sizes: tuple[int, int, int], *, clips: int, seed: int) -> list[Tensor]:
    """Random inputs: the first clip has all steps, the others a random number of them, 0 included."""
    config, generator = graph.method.config, torch.Generator().manual_seed(seed)
    inputs: list[Tensor] = []
    for steps, width in zip(sizes, (config.audio_width, config.video_width), strict=False):
        lengths = torch.randint(0, steps + 1, (clips,), generator=generator)
        lengths[0] = steps
        inputs += [torch.rand(clips, steps, width, generator=generator), lengths]
    vectors = torch.randn(sizes[2], config.text_width, generator=generator)
    known = graph.method.known_vectors
    if known is not None:  # every other candidate is one that training had clips of
        vectors[::2] = known[torch.arange(len(vectors[::2])) % len(known)]
    return [*inputs, vectors]


@torch.no_grad()
def _packed(
    graph: Graph, audio: Tensor, audio_lengths: Tensor, video: Tensor, video_lengths: Tensor, vectors: Tensor
) -> Tensor:
    """The distances by packed sequences, the form that evaluation uses."""

    def packed(values: Tensor, lengths: Tensor, step: float) -> Sequences:
        seconds = graph._seconds(values, step).expand(len(lengths), -1)
        return Sequences.from_padded(values, lengths, seconds)

    batch = Batch(
        packed(audio, audio_lengths, graph.audio_step),
        packed(video, video_lengths, graph.video_step),
        torch.zeros_like(audio_lengths),
        vectors.new_zeros(len(audio), vectors.shape[1]),
    )
    names = tuple(str(row) for row in range(len(vectors)))
    classes = ClassSet(names, vectors, _seen(graph.method, vectors))
    return graph.method.distances(batch, classes, output=graph.output)
