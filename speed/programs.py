"""The programs that ``bench.py`` times, the plain reference and SACMA, and a check that they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from rates import CPU
from reference import D, NetworkSizes, Reference, losses
from sacma.errors import SacmaError
from sacma.models.sacma import SACMA
from sacma.models.transformer import save_memory
from sacma.options import TrainingConfig
from shapes import Data, Shape

Model = TypeVar("Model", bound=nn.Module)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Program(Generic[Model]):
    """A program to be timed.

    Attributes:
        model: its network.
        training_batch: loads a batch; batches cache results, so each use takes a new one.
        test_batch: loads a batch for evaluation.
        step: a training iteration on a batch.
        evaluate: (B, K) distances of a batch to the classes.
        embed: phi_m (B, d) of a batch and phi_t (K, d).
        loss: the terms of the loss on a batch.
    """

    model: Model
    training_batch: Callable[[], Any]
    test_batch: Callable[[], Any]
    step: Callable[[Any], object]
    evaluate: Callable[[Any], Tensor]
    embed: Callable[[Any], tuple[Tensor, Tensor]]
    loss: Callable[[Any], dict[str, Tensor]]


def reference_program(shape: Shape, data: Data, device: torch.device) -> Program[Reference]:
    """The published computation, its loader included."""
    model = Reference(shape.sizes).to(device)
    words = data.words.to(device)
    adam = torch.optim.Adam(model.parameters(), lr=7e-5, weight_decay=1e-5)
    class_ids = list(range(shape.classes))
    clips = data.chosen.tolist()
    return Program(
        model=model,
        training_batch=lambda: data.clips.collate(clips, longest=shape.longest_train).to(device),
        test_batch=lambda: data.clips.collate(clips[: shape.batch_test], longest=shape.longest_test).to(
            device
        ),
        step=lambda batch: model.step(batch, class_ids, adam),
        evaluate=lambda batch: model.distances(batch, words),
        embed=lambda batch: model.embeddings(batch, words)[1:],
        loss=lambda batch: losses(model(batch)),
    )


def sacma_program(
    shape: Shape,
    data: Data,
    device: torch.device,
    *,
    variant: str,
    bfloat16: bool = False,
    saves_memory: bool = False,
) -> Program[SACMA]:
    """SACMA of this package, without the unused second forward pass of variant ``published``."""
    s = shape.sizes
    network = {
        "audio_width": s.audio_width,
        "video_width": s.video_width,
        "text_width": D,
        "encoder_hidden": s.hidden,
        "decoder_hidden": s.decoder_hidden,
        "depth": s.depth,
        "heads": s.heads,
        "head_width": s.head_width,
        "feed_forward_hidden": s.feed_forward,
        "encoder_dropout": s.encoder_dropout,
        "decoder_dropout": s.decoder_dropout,
        "text_dropout": s.text_dropout,
        "transformer_dropout": s.transformer_dropout,
        "position_dropout": s.position_dropout,
    }
    model = SACMA(**{**network, **SACMA.VARIANTS[variant], "extra_train_forward": False}).to(device)
    if saves_memory:
        save_memory(model)
    optimisers = model.optimisers(TrainingConfig())
    classes, words = data.classes.to(device), data.words.to(device)
    data = data.on(device)
    precision = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16)
    model.forward = precision(model.forward)  # type: ignore[method-assign]
    return Program(
        model=model,
        training_batch=lambda: data.batch(data.chosen, shape.longest_train).to(device),
        test_batch=lambda: data.batch(data.chosen[: shape.batch_test], shape.longest_test).to(device),
        step=lambda batch: model.step(batch, classes, optimisers),
        evaluate=torch.inference_mode()(precision(lambda batch: model.distances(batch, classes))),
        embed=lambda batch: (model.embed(batch, streams="m")["m"], model.text_projection(words)),
        loss=lambda batch: model(batch, classes),
    )


@torch.no_grad()
def check_agreement(shape: Shape, data: Data, device: torch.device = CPU) -> float:
    """The largest difference between reference and variant ``published`` with equal weights and no dropout.

    Embeddings are compared in evaluation mode (absolute), the loss in training mode (relative).

    Raises:
        SacmaError: it is above 1e-4. The times of different computations cannot be compared.
    """
    off: dict[str, Any] = dict.fromkeys(
        (field.name for field in fields(NetworkSizes) if field.name.endswith("_dropout")), 0.0
    )
    still = replace(shape, sizes=replace(shape.sizes, **off))
    reference = reference_program(still, data, device)
    ours = sacma_program(still, data, device, variant="published")
    _settle(reference)
    ours.model.load_published(reference.model.state_dict())
    reference.model.eval()
    ours.model.eval()
    pairs = zip(reference.embed(reference.test_batch()), ours.embed(ours.test_batch()), strict=True)
    differences = {"embeddings": max(float((theirs - own).abs().max()) for theirs, own in pairs)}
    reference.model.train()
    ours.model.train()
    loss = float(sum(reference.loss(reference.training_batch()).values()))
    differences["losses"] = abs(1 - float(sum(ours.loss(ours.training_batch()).values())) / loss)
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise SacmaError(
                f"{name} of reference and variant published differ by {difference:.2g}, more than "
                f"{TOLERANCE:g}: not the same computation, so nothing was timed"
            )
    return max(differences.values())


def _settle(program: Program[Reference]) -> None:
    """Give BatchNorm the statistics of a batch; with its initial ones all embeddings are nearly equal."""
    norms = [module for module in program.model.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    program.loss(program.training_batch())
    for norm in norms:
        norm.momentum = 0.1
