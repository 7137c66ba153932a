"""Traffic of distributed training: what several processes exchange in a step of SACMA, counted on paper.

python speed/scaling.py --traffic
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from rates import count_flops
from sacma.models.sacma import SACMA
from sacma.runs.config import resolve
from simulated_clips import TEXT_WIDTH, WIDTH, simulated, some_classes


@dataclass(frozen=True)
class Exchange:
    """Contribution of one process to the messages of a training step of SACMA.

    Attributes:
        parameters: trained numbers.
        statistics: bytes of the batch statistics, forward and backward.
        embedding: bytes of a clip's embeddings, forward and backward.
        messages: number of collective operations; each waits for all processes.
        flops: floating-point operations of a clip's matrix products.
    """

    parameters: int
    statistics: int
    embedding: int
    messages: int
    flops: float


def exchange(benchmark: str, features: str) -> Exchange:
    """Counts for the network of a preset and clips of 7 + 7 steps, the mean of UCF101."""
    config = resolve({"benchmark": benchmark, "features": features, "root": "."})
    audio, video = (128, 4096) if features == "c3d-vggish" else (WIDTH, WIDTH)
    method = SACMA(audio_width=audio, video_width=video, text_width=TEXT_WIDTH, **config.model)
    norms = [module for module in method.modules() if isinstance(module, nn.BatchNorm1d)]
    optimisers, classes = method.optimisers(config.training), some_classes(51)
    batch = simulated(16, 7, audio_width=audio, video_width=video)
    return Exchange(
        parameters=sum(one.numel() for one in method.parameters() if one.requires_grad),
        # mean, deviations and count there, two sums back
        statistics=sum(4 * (2 * norm.num_features + 1) + 8 * norm.num_features for norm in norms),
        embedding=2 * 4 * (len(config.model["streams"]) + 1) * config.model["common_width"],
        messages=2 * len(norms) + 2 + 1 + 1,  # embeddings there and back, labels, gradients
        flops=count_flops(lambda: method.step(batch, classes, optimisers)) / len(batch),
    )


def traffic() -> str:
    """Two Markdown tables: the data that is exchanged, and the estimated time of a step."""
    lines = [
        "| preset | parameters | gradients, MB | statistics, kB | embeddings, kB a clip | messages | "
        "GFLOP a clip |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for preset in ("ucf/selavi", "vggsound/selavi", "activitynet/selavi", "ucf/c3d-vggish"):
        one = exchange(*preset.split("/"))
        lines.append(
            f"| {preset} | {one.parameters / 1e6:.2f} M | {4 * one.parameters / 1e6:.1f} | "
            f"{one.statistics / 1e3:.0f} | {one.embedding / 1e3:.1f} | {one.messages} | "
            f"{one.flops / 1e9:.2f} |"
        )
    return "\n".join([*lines, "", *_on_paper(exchange("ucf", "selavi"))])


# Assumed, not measured: what a GPU does in such small products, and two kinds of links, each with bytes a
# second and the seconds that a message takes however small it is.
GPU_FLOPS = 30e12
WITHIN, BETWEEN = (300e9, 20e-6), (50e9, 50e-6)


def _on_paper(one: Exchange) -> Iterator[str]:
    """Table rows: milliseconds of a step and the share of it in which GPUs compute."""
    shares = {"64 in all": None, "64 a GPU": 64, "512 a GPU": 512}
    yield "| GPUs | " + " | ".join(f"batch {name}: ms, efficiency" for name in shares) + " |"
    yield "| --- |" + " --- |" * len(shares)
    for gpus in (1, 2, 4, 8, 16, 32, 64):
        cells = []
        for own in shares.values():
            clips = own or 64 / gpus
            compute = clips * one.flops / GPU_FLOPS
            total = compute + _waiting(one, gpus, clips)
            cells.append(f"{1e3 * total:.2f}, {compute / total:.0%}")
        yield f"| {gpus} | " + " | ".join(cells) + " |"


def _waiting(one: Exchange, gpus: int, clips: float) -> float:
    """Seconds in messages. A ring sends data that is summed twice, and data that is gathered once."""
    if gpus == 1:
        return 0.0
    rate, latency = WITHIN if gpus <= 8 else BETWEEN
    summed = 2 * (gpus - 1) / gpus * (4 * one.parameters + one.statistics / 2)
    gathered = (gpus - 1) * (one.statistics / 2 + clips * one.embedding / 2)
    summed += 2 * (gpus - 1) * clips * one.embedding / 2  # gradients of the gathered embeddings
    return one.messages * latency + (summed + gathered) / rate
