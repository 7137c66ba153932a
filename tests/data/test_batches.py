"""Draws have the promised distributions, windows are those of a loop over clips, clips are kept apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sacma.data.batches import Trimming, class_balanced, gather, other_class
from sacma.data.benchmark import Split
from sacma.data.features import Features, Track
from sacma.errors import SacmaError
from sacma.types import ClassSet, Sequences

CountCalls = Callable[[Callable[[], Any]], int]

SIZES = [50, 7, 143, 6, 1]
# Classes in no order, numbers 0 and 3 without clips.
LABELS = torch.repeat_interleave(torch.tensor([5, 1, 2, 6, 4]), torch.tensor(SIZES))[
    torch.randperm(sum(SIZES), generator=torch.Generator().manual_seed(9))
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_uniform(counts: Tensor) -> None:
    """Pearson's chi-square stays within five standard deviations of its mean under uniform draws."""
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


def test_class_balanced_draws_classes_and_clips_within_them_uniformly() -> None:
    rows = class_balanced(LABELS, batches=500, batch_size=64, generator=generator())
    assert rows.shape == (500, 64)
    drawn = torch.bincount(rows.flatten(), minlength=len(LABELS))
    of_class = torch.bincount(LABELS, drawn.double())
    assert_uniform(of_class[LABELS.unique()])
    for label in LABELS.unique():
        if (label == LABELS).sum() > 1:
            assert_uniform(drawn[label == LABELS])


def test_class_balanced_repeats_with_the_seed_and_moves_on() -> None:
    first = generator(3)
    rows = class_balanced(LABELS, batches=2, batch_size=8, generator=first)
    assert torch.equal(rows, class_balanced(LABELS, batches=2, batch_size=8, generator=generator(3)))
    assert not torch.equal(rows, class_balanced(LABELS, batches=2, batch_size=8, generator=first))
    with pytest.raises(SacmaError, match="no clips"):
        class_balanced(LABELS[:0], batches=1, batch_size=8)


def test_other_class_is_uniform_over_the_other_classes_and_their_clips() -> None:
    own = 2
    chosen = (own == LABELS).nonzero()[:, 0][torch.zeros(200, 100, dtype=torch.long)]
    drawn = other_class(LABELS, chosen, generator())
    assert drawn.shape == (200, 100)
    counts = torch.bincount(drawn.flatten(), minlength=len(LABELS))
    assert counts[own == LABELS].sum() == 0
    others = LABELS.unique()[LABELS.unique() != own]
    assert_uniform(torch.bincount(LABELS, counts.double())[others])
    for label in others:
        if (label == LABELS).sum() > 1:
            assert_uniform(counts[label == LABELS])


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=12).filter(lambda x: len(set(x)) > 1), st.integers(0, 99)
)
def test_other_class_is_never_the_own(labels: list[int], seed: int) -> None:
    classes = torch.tensor(labels)
    chosen = torch.arange(len(labels)).repeat(20)
    drawn = other_class(classes, chosen, generator(seed))
    assert (classes[drawn] != classes[chosen]).all()


def test_other_class_needs_two_classes() -> None:
    with pytest.raises(SacmaError, match="only 1 class"):
        other_class(torch.zeros(4, dtype=torch.long), torch.arange(4))


def literal_window(
    audio: int, video: int, start: int, keep_audio: int, keep_video: int, ratio: float
) -> list[int]:
    audio_start, audio_length, video_start, video_length = 0, audio, 0, video
    if video > keep_video:
        video_start, video_length = start, keep_video
    if audio > keep_audio:
        audio_length = keep_audio
        if video_start > 0:
            audio_start = min(audio - keep_audio, round(video_start * ratio))
    return [audio_start, audio_length, video_start, video_length]


LENGTHS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8)
STEPS = st.sampled_from([(1.0, 1.0), (0.96, 0.64), (0.48, 1.0), (0.5, 0.25)])


@given(LENGTHS, STEPS, st.integers(1, 30), st.sampled_from(["mul", "div"]), st.integers(0, 99))
def test_windows_are_those_of_a_loop_over_clips(
    lengths: list[tuple[int, int]], steps: tuple[float, float], keep: int, rule: str, seed: int
) -> None:
    audio, video = torch.tensor(lengths).unbind(1)
    audio_step, video_step = steps
    keep_audio = round(keep * video_step * audio_step if rule == "mul" else keep * video_step / audio_step)
    keep_audio = max(keep_audio, 1)
    over = (video - keep).clamp(min=1)
    drawn = torch.rand(len(video), generator=generator(seed)).mul(over).long()
    for trim, starts in (("center", over // 2), ("random", drawn)):
        windows = Trimming(mode="fixed", max_video=keep, audio_len_rule=rule, trim=trim).windows(
            audio,
            video,
            audio_step=audio_step,
            video_step=video_step,
            starts=drawn if trim == "random" else None,
        )
        expected = [
            literal_window(a, v, int(s), keep_audio, keep, video_step / audio_step)
            for (a, v), s in zip(lengths, starts, strict=True)
        ]
        assert torch.stack(list(windows), dim=1).tolist() == expected


def test_a_step_of_audio_is_always_kept() -> None:
    assert Trimming(mode="fixed", max_video=1).max_audio(audio_step=0.48, video_step=0.5) == 1


def test_max_keeps_clips_whole() -> None:
    lengths = torch.tensor([3, 400])
    windows = Trimming(mode="max", max_video=2).windows(lengths, lengths + 1, audio_step=1, video_step=1)
    assert [column.tolist() for column in windows] == [[0, 0], [3, 400], [0, 0], [4, 401]]


def test_random_windows_are_uniform_but_never_the_last() -> None:
    video = torch.full((6000,), 16)
    trimming = Trimming(mode="fixed", max_video=10)
    windows = trimming.windows(video, video, audio_step=1, video_step=1, generator=generator())
    counts = torch.bincount(windows.video_starts, minlength=7)
    assert counts[6] == 0
    assert_uniform(counts[:6].double())
    assert torch.equal(windows.audio_starts, windows.video_starts)


@pytest.mark.parametrize(("rule", "train", "test"), [("mul", 37, 184), ("div", 40, 200)])
def test_published_audio_lengths(rule: str, train: int, test: int) -> None:
    for keep, expected in ((60, train), (300, test)):
        trimming = Trimming(mode="fixed", max_video=keep, audio_len_rule=rule)
        assert trimming.max_audio(audio_step=0.96, video_step=0.64) == expected
        assert trimming.max_audio(audio_step=1, video_step=1) == keep


@pytest.mark.parametrize(
    "wrong", [{"mode": "whole"}, {"audio_len_rule": "add"}, {"trim": "centre"}, {"max_video": 0}]
)
def test_trimming_names_a_wrong_value(wrong: dict[str, Any]) -> None:
    with pytest.raises(SacmaError, match=str(next(iter(wrong.values())))):
        Trimming(**wrong)


def track(lengths: list[int], step_seconds: float, sign: int) -> Track:
    """Value of step t of clip i: i + t / 100, so that each step can be told from any other."""
    clip = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    step = torch.arange(len(clip)) - offsets[clip]
    return Track(sign * (clip + step / 100)[:, None].expand(-1, 2).contiguous(), offsets, step_seconds)


def split(audio: list[int], video: list[int]) -> Split:
    """Every clip but the first, in reverse; three classes."""
    labels = torch.arange(len(audio)) % 3
    features = Features(
        path=Path(),
        classes=("a", "b", "c"),
        labels=labels,
        partitions=torch.zeros(len(audio), dtype=torch.int8),
        names=[f"clip {i}" for i in range(len(audio))],
        audio=track(audio, 0.96, 1),
        video=track(video, 0.64, -1),
        provenance={},
    )
    clips = torch.arange(1, len(audio)).flip(0)
    classes = ClassSet(features.classes, torch.eye(3) + 0.5, torch.ones(3, dtype=torch.bool))
    return Split("train", features, clips, labels[clips], classes)


def steps(sequences: Sequences, i: int) -> list[float]:
    return sequences.values[sequences.clip == i, 0].tolist()


AUDIO, VIDEO = [3, 8, 0, 5, 10], [4, 11, 6, 7, 0]


def test_gather_takes_the_clips_asked_for() -> None:
    data = split(AUDIO, VIDEO)
    batch = gather(data, torch.tensor([3, 0, 3]), negatives=torch.tensor([1, 2, 2]))  # clips 1, 4, 1; 3, 2, 2
    assert batch.labels.tolist() == [1, 1, 1]
    assert batch.text.tolist() == [[0.5, 1.5, 0.5]] * 3
    for i, clip in enumerate([1, 4, 1]):
        assert steps(batch.audio, i) == pytest.approx([clip + t / 100 for t in range(AUDIO[clip])])
        assert steps(batch.video, i) == pytest.approx([-clip - t / 100 for t in range(VIDEO[clip])])
    assert batch.audio.seconds[:3].tolist() == pytest.approx([0, 0.96, 1.92])
    assert batch.negatives is not None
    assert batch.negatives.labels.tolist() == [0, 2, 2]
    assert steps(batch.negatives.audio, 0) == pytest.approx([3 + t / 100 for t in range(5)])
    assert batch.negatives.negatives is None


def test_gather_trims_both_modalities_together() -> None:
    data = split(AUDIO, VIDEO)
    trimming = Trimming(mode="fixed", max_video=5, audio_len_rule="div", trim="center")
    batch = gather(data, torch.tensor([3, 2]), trimming=trimming)  # clips 1 and 2; 5 x .64 / .96 = 3 steps
    assert steps(batch.video, 0) == pytest.approx([-1.03, -1.04, -1.05, -1.06, -1.07])
    assert steps(batch.audio, 0) == pytest.approx([1.02, 1.03, 1.04])
    assert steps(batch.video, 1) == pytest.approx([-2.00, -2.01, -2.02, -2.03, -2.04])
    assert steps(batch.audio, 1) == []
    assert batch.video.seconds[:3].tolist() == pytest.approx([0, 0.64, 1.28])  # restarts at 0
    assert (batch.audio.longest, batch.video.longest) == (3, 5)


def test_random_trimming_follows_the_generator() -> None:
    data = split([200] * 9, [200] * 9)
    rows, trimming = torch.arange(8), Trimming(mode="fixed", max_video=5)
    batches = [
        gather(data, rows, trimming=trimming, generator=generator(seed), negatives=rows.flip(0))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(batches[0].video.values, batches[1].video.values)
    assert not torch.equal(batches[0].video.values, batches[2].video.values)
    assert torch.equal(batches[0].negatives.video.values, batches[1].negatives.video.values)


def test_no_python_loop_over_clips(count_calls: CountCalls) -> None:
    data = split([20] * 400, [30] * 400)
    trimming = Trimming(mode="fixed", max_video=5)

    def work(batch_size: int) -> None:
        rows = class_balanced(data.labels, batches=1, batch_size=batch_size, generator=generator())[0]
        negatives = other_class(data.labels, rows, generator())
        gather(data, rows, trimming=trimming, generator=generator(), negatives=negatives)

    work(4)
    assert count_calls(lambda: work(400)) == count_calls(lambda: work(4))
