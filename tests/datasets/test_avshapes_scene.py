"""Scenes of AV-Shapes: rhythms, and motion in step with the sound or not."""

from __future__ import annotations

import numpy as np

from sacma.datasets.avshapes.scene import draw_scene


def gaps(rhythm: str, seed: int) -> np.ndarray:
    """Time from beat to beat, as a fraction of the time of a bar without the silent ones."""
    scene = draw_scene(["bar", "sliding", "humming", rhythm, "together"], seed)
    between = np.diff(scene.notes)
    return between / between.min() if len(between) else between


def test_every_rhythm_beats_as_documented() -> None:
    allowed = {"steady": {1.0}, "paired": {1.0, 3.0}, "galloping": {1.0, 2.0}}
    for rhythm, ratios in allowed.items():
        for seed in range(20):
            found = set(np.round(gaps(rhythm, seed), 6))
            within_a_bar = {gap for gap in found if gap <= max(ratios)}  # longer ones: a silent bar
            assert within_a_bar <= ratios
    irregular = {gap for seed in range(5) for gap in np.round(gaps("scattered", seed), 3)}
    assert len(irregular) > 10


def test_together_is_in_step_and_apart_is_not() -> None:
    near = []
    for seed in range(200):
        joined = draw_scene(["star", "sliding", "humming", "paired", "together"], seed)
        assert joined.strokes is joined.notes
        split = draw_scene(["star", "sliding", "humming", "paired", "apart"], seed)
        near.append((np.abs(split.strokes[:, None] - split.notes).min(axis=1) < 0.1).mean())
        assert len(split.notes)
        assert len(split.strokes)
    assert np.mean(near) < 0.2
