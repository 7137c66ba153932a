"""The definition of AV-Shapes: classes, class split, lists of clips."""

from __future__ import annotations

import itertools

import pytest

from sacma.datasets.avshapes.definition import (
    CLASSES,
    TEST_UNSEEN,
    TRAIN,
    VAL_UNSEEN,
    listed_clips,
)
from sacma.text.avshapes_words import BINDINGS

ORDERED = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)


def test_the_classes_split_like_ucf() -> None:
    assert (len(TRAIN), len(VAL_UNSEEN), len(TEST_UNSEEN)) == (30, 12, 9)
    assert len(set(CLASSES)) == 51


@pytest.mark.parametrize("unseen", [VAL_UNSEEN, TEST_UNSEEN])
def test_unseen_classes_are_new_combinations_of_words_that_stage_1_trains_on(unseen: tuple[str, ...]) -> None:
    known = {word for name in TRAIN for word in name.split()}
    assert {word for name in unseen for word in name.split()} <= known
    assert not set(unseen) & set(TRAIN)


def test_classes_differ_in_two_words_or_in_the_binding_alone() -> None:
    alone = 0
    for one, other in itertools.combinations(CLASSES, 2):
        differing = [a for a, b in zip(one.split(), other.split(), strict=True) if a != b]
        alone += len(differing) == 1
        assert len(differing) > 1 or differing[0] in BINDINGS
    assert alone == 8


def test_the_lists_have_the_documented_sizes() -> None:
    clips = listed_clips()
    sizes = [sum(clip.partition == name for clip in clips) for name in ORDERED]
    assert sizes == [480, 120, 168, 126, 90]
    assert sum(sizes[:3]) < 1000
    assert len({clip.name for clip in clips}) == len({clip.seed for clip in clips}) == len(clips) == 984
