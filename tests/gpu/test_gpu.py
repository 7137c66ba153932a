"""What holds on a GPU alone: the numbers of the processor, features that stay there, no waiting in a step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "speed"))

import bench
from sacma.data import batches
from sacma.data.benchmark import Split
from sacma.metrics.nearest import Nearest
from sacma.models.sacma import SACMA
from sacma.options import TrainingConfig
from sacma.training import evaluation
from sacma.training import loop as training
from sacma.types import Batch
from shapes import SHAPES, synthesise, tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
NETWORK = {"audio_width": 16, "video_width": 24, "text_width": 300, "depth": 2, "heads": 2, "head_width": 16}
STILL = dict.fromkeys(
    ("encoder_dropout", "decoder_dropout", "text_dropout", "transformer_dropout", "position_dropout"), 0.0
)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    data = synthesise(tiny(SHAPES["ucf"]), tmp_path / "features", torch.Generator().manual_seed(0))
    clips = torch.arange(len(data.features))
    return Split("train", data.features, clips, data.features.labels, data.classes)


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_features_on_the_gpu_give_the_same_batch(split: Split) -> None:
    resident, _ = training.resident(split, None, GPU)
    assert resident.features.audio.values.is_cuda
    rows = torch.tensor([3, 0, 3])
    there = batches.gather(resident, rows, device=GPU)
    here = batches.gather(split, rows)
    assert there.audio.values.is_cuda
    for own, other in ((there.audio, here.audio), (there.video, here.video)):
        assert own.values.cpu().equal(other.values)
        assert own.seconds.cpu().equal(other.seconds)
        assert own.longest == other.longest


def test_training_and_validation_share_what_is_on_the_gpu(split: Split) -> None:
    first, second = training.resident(split, replace(split, stage="val"), GPU)
    assert second is not None
    assert first.features is second.features


def test_losses_and_distances_are_those_of_the_processor(split: Split) -> None:
    torch.manual_seed(0)
    here = SACMA(**NETWORK, **STILL)
    there = SACMA(**NETWORK, **STILL).to(GPU)
    there.load_state_dict(here.state_dict())
    batch = batches.gather(split, torch.arange(8))
    ours = here.loss(batch, split.classes)
    theirs = there.loss(batch.to(GPU), split.classes.to(GPU))
    for name, term in ours.items():
        torch.testing.assert_close(theirs[name].cpu(), term, atol=1e-4, rtol=1e-3)
    distances = here.eval().distances(batch, split.classes)
    found = there.eval().distances(batch.to(GPU), split.classes.to(GPU))
    torch.testing.assert_close(found.cpu(), distances, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.usefixtures("waiting_is_an_error")
def test_a_step_does_not_wait_for_the_gpu(split: Split, variant: str) -> None:
    resident, _ = training.resident(split, None, GPU)
    model = SACMA(**{**SACMA.VARIANTS[variant], **NETWORK}).to(GPU).train()
    optimisers, classes = model.optimisers(TrainingConfig()), split.classes.to(GPU)
    rows = torch.arange(8)
    model.step(batches.gather(resident, rows, device=GPU), classes, optimisers)  # warms up
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    model.step(batches.gather(resident, rows, device=GPU), classes, optimisers)


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.usefixtures("waiting_is_an_error")
def test_scoring_waits_for_the_gpu_when_it_is_done(
    split: Split, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident, _ = training.resident(split, None, GPU)
    model = SACMA(**{**SACMA.VARIANTS[variant], **NETWORK}).to(GPU)
    expected = evaluation.score(model, resident, batch_size=3).gzsl  # warms up
    gather, on_host = batches.gather, Nearest.on_host

    def from_here_on(*arguments: Any, **options: Any) -> Batch:
        torch.cuda.set_sync_debug_mode("error")
        return gather(*arguments, **options)

    def until_here(found: Nearest) -> Nearest:
        torch.cuda.set_sync_debug_mode("default")
        return on_host(found)

    monkeypatch.setattr(evaluation, "gather", from_here_on)
    monkeypatch.setattr(Nearest, "on_host", until_here)
    found = evaluation.score(model, resident, batch_size=3).gzsl
    assert found.seen_class.equal(expected.seen_class)
    assert found.unseen_class.equal(expected.unseen_class)


def test_bench_runs_on_the_gpu() -> None:
    assert bench.main(["--quick", "--repeats", "1", "--device", "cuda"]) == 0
