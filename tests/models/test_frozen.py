"""The frozen score against cosines computed one by one, its choices, and the row that it is in a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sacma.errors import SacmaError
from sacma.models.configs.joint import text_parts
from sacma.models.frozen import SHARES, Frozen
from sacma.types import Batch, ClassSet, Sequences

AUDIO, VIDEO, B, K = 7, 5, 6, 4
WIDTHS = {"audio_width": AUDIO, "video_width": VIDEO, "text_width": AUDIO + VIDEO}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def sequences(width: int, lengths: list[int]) -> Sequences:
    values = torch.randn(len(lengths), max(lengths), width)
    return Sequences.from_padded(values, torch.tensor(lengths))


def clips() -> tuple[Batch, ClassSet]:
    vectors, labels = torch.randn(K, AUDIO + VIDEO), torch.tensor([0, 1, 1, 2, 3, 0])
    classes = ClassSet(tuple("abcd"), vectors, torch.tensor([True, True, False, False]))
    audio, video = sequences(AUDIO, [2, 1, 3, 0, 2, 1]), sequences(VIDEO, [1, 2, 0, 3, 1, 2])
    return Batch(audio, video, labels, vectors[labels]), classes


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def expected(batch: Batch, classes: ClassSet, share: float) -> Tensor:
    rows = []
    for clip in range(B):
        means = {}
        for name, steps in (("audio", batch.audio), ("video", batch.video)):
            own = [step / step.norm() for step in steps.values[steps.clip == clip]]
            if own:
                means[name] = torch.stack(own).mean(0)
        row = []
        for vector in classes.vectors:
            parts = {"video": vector[:VIDEO], "audio": vector[VIDEO:]}
            weights = {"audio": share, "video": 1 - share} if len(means) == 2 else dict.fromkeys(means, 1.0)
            row.append(1 - sum(weights[name] * cosine(mean, parts[name]) for name, mean in means.items()))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.3, 1.0])
def test_distances_are_weighted_cosines_of_what_a_clip_has(share: float) -> None:
    model, (batch, classes) = Frozen(**WIDTHS), clips()
    assert float(model.audio_share) == 0.5
    model.audio_share.fill_(share)
    torch.testing.assert_close(model.distances(batch, classes), expected(batch, classes, share))


def test_scaling_of_features_has_no_part() -> None:
    batch, classes = clips()
    plain, scaled = Frozen(**WIDTHS), Frozen(**WIDTHS, feature_scaling="standardise")
    scaled.fit_scaling([batch.audio.values], [batch.video.values])
    assert torch.equal(plain.distances(batch, classes), scaled.distances(batch, classes))


@pytest.mark.parametrize(
    ("widths", "streams", "parts"),
    [
        ((7, 5, 12), "auto", {"video": slice(0, 5), "audio": slice(5, 12)}),
        ((7, 5, 12), "v", {"video": slice(0, 5)}),
        ((7, 5, 12), "a", {"audio": slice(5, 12)}),
        ((7, 5, 5), "auto", {"video": slice(0, 5)}),
        ((7, 5, 7), "auto", {"audio": slice(0, 7)}),
        ((5, 5, 5), "auto", {"video": slice(0, 5)}),
        ((5, 5, 5), "av", {"video": slice(0, 5), "audio": slice(0, 5)}),
        ((5, 5, 5), "a", {"audio": slice(0, 5)}),
        ((7, 5, 5), "av", {}),
        ((7, 5, 5), "a", {}),
        ((7, 5, 9), "auto", {}),
    ],
)
def test_widths_tell_which_part_belongs_to_which_modality(
    widths: tuple[int, int, int], streams: str, parts: dict[str, slice]
) -> None:
    named: dict[str, Any] = dict(zip(("audio_width", "video_width", "text_width"), widths, strict=True))
    assert text_parts(**named, streams=streams) == parts
    if parts:
        assert Frozen(**named, streams=streams).config.parts == parts
        return
    with pytest.raises(SacmaError, match=f"class vectors {widths[2]} wide do not fit.*joint encoder"):
        Frozen(**named, streams=streams)


def told_by_sound(count: int = 60) -> tuple[Batch, ClassSet]:
    """Clips whose sound says which class they are of, and whose pictures say nothing."""
    vectors, labels = torch.randn(K, AUDIO + VIDEO), torch.arange(count) % K
    one = torch.ones(count, dtype=torch.long)
    sound = vectors[labels, VIDEO:] + 0.3 * torch.randn(count, AUDIO)
    audio = Sequences.from_padded(sound[:, None], one)
    video = Sequences.from_padded(torch.randn(count, 1, VIDEO), one)
    classes = ClassSet(tuple("abcd"), vectors, torch.tensor([True, True, False, False]))
    return Batch(audio, video, labels, vectors[labels]), classes


def test_the_share_of_sound_is_the_best_on_validation() -> None:
    batch, classes = told_by_sound()
    equal, chosen = Frozen(**WIDTHS), Frozen(**WIDTHS, modality_weights="validation")
    for model in (equal, chosen):
        model.calibrate([batch], classes)
    assert float(equal.audio_share) == 0.5
    assert equal.choices() == ("weights equal: sound 0.5, pictures 0.5",)
    share = float(chosen.audio_share)
    assert chosen.choices() == (f"weights chosen on validation: sound {share:.1f}, pictures {1 - share:.1f}",)
    assert float(chosen.audio_share) in torch.tensor(SHARES)
    assert float(chosen.audio_share) > 0.5
    means = {
        share: chosen._best(expected_many(batch, classes, share), batch.labels, classes) for share in SHARES
    }
    assert means[round(float(chosen.audio_share), 1)] == max(means.values())
    assert means[0.5] < max(means.values())


def expected_many(batch: Batch, classes: ClassSet, share: float) -> Tensor:
    cosines = [
        torch.nn.functional.normalize(steps.values, dim=1)
        @ torch.nn.functional.normalize(classes.vectors[:, part], dim=1).T
        for steps, part in ((batch.audio, slice(VIDEO, None)), (batch.video, slice(0, VIDEO)))
    ]
    return 1 - share * cosines[0] - (1 - share) * cosines[1]


def test_a_clip_without_any_modality_has_an_answer() -> None:
    model, (batch, classes) = Frozen(**WIDTHS), clips()
    nothing = [
        replace(part, values=part.values[:0], lengths=part.lengths * 0) for part in (batch.audio, batch.video)
    ]
    found = model.distances(Batch(*nothing, batch.labels, batch.text), classes)
    assert torch.equal(found, torch.ones(B, K))


def test_without_calibration_no_bias_is_searched_for() -> None:
    assert Frozen(**WIDTHS).calibrated
    assert not Frozen(**WIDTHS, calibrate_bias=False).calibrated
    assert Frozen.calibrated
