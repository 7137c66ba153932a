"""None of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName, everyday_terms
from sacma.frozen.rejection import OF_BOTH, OF_ONE, RATES, Rejection
from sacma.frozen.scores import Names, Scores, Window
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures

CLIP = ClipFeatures(None, None)


class Fixed:
    """Scores a name by a table, 0 where it is not there."""

    name = "fixed"
    calibrated = True
    modalities = ("audio", "video")

    def __init__(self, table: dict[str, float], *, bias: float | None = None) -> None:
        self.table, self.sigmoid_bias = table, bias

    def names(self, given: Sequence[ClassName]) -> Names:
        return Names(tuple(given), {})

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        return Scores(np.array([[self.table.get(one.name, 0.0) for one in names.given]]), {})


def fit(model: Fixed, *names: str) -> float:
    given = model.names([ClassName(name) for name in names])
    scores = model.scores(CLIP, [(0, 1)], given).joint
    return Rejection(model, 0.05).fit(CLIP, (0, 1), given, scores)  # type: ignore[arg-type]


def test_names_compete_with_everyday_names_but_not_with_themselves() -> None:
    count = len(everyday_terms())
    assert count > 400
    model = Fixed({"quux": 10.0, "harp": 30.0})
    wanted = 10 - np.log(np.exp(30.0) + count - 1)
    assert fit(model, "quux") == pytest.approx(wanted)
    assert fit(model, "quux", "playing harp") == pytest.approx(np.log(np.exp(10) + 1) - np.log(count - 1))
    same = [term for term in everyday_terms() if set(term.split()) <= {"playing", "harp"}]
    assert same == ["harp"]


def test_near_names_are_told_by_their_vectors() -> None:
    terms = everyday_terms()
    vectors = np.eye(len(terms), dtype=np.float32)

    class Vectors(Fixed):
        def names(self, given: Sequence[ClassName]) -> Names:
            rows = [terms.index(one.name) if one.name in terms else 0 for one in given]
            return Names(tuple(given), {"text": vectors[rows]})

    model = Vectors({"quux": 5.0})
    assert fit(model, "quux") == pytest.approx(5 - np.log(len(terms) - 1))  # one is the same vector


def test_a_sigmoid_speaks_for_itself() -> None:
    assert fit(Fixed({"harp": 3.0, "dog": 1.0}, bias=-4.0), "harp", "dog") == pytest.approx(-1.0)


def test_thresholds_rise_with_the_rate_and_are_lower_for_one_modality() -> None:
    model: Any = Fixed({})
    steps = Steps(np.ones((1, 1), np.float32), np.zeros(1))
    both, one = ClipFeatures(steps, steps), ClipFeatures(None, steps)
    found = [Rejection(model, rate).threshold(both) for rate in RATES]
    assert found == pytest.approx(OF_BOTH)
    assert found == sorted(found)
    assert [Rejection(model, rate).threshold(one) for rate in RATES] == pytest.approx(OF_ONE)
    assert OF_BOTH[2] < Rejection(model, 0.07).threshold(both) < OF_BOTH[3]
    assert Rejection(model, 0.05).note is None
    model.calibrated = False
    told = Rejection(model, 0.05)
    assert told.threshold(both) == 0
    assert told.note is not None
    with pytest.raises(SacmaError, match=r"a share of 0\.5 to reject"):
        Rejection(model, 0.5)
