"""Precision: ``auto`` follows the measured rates, and bfloat16 is refused where it is slower."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacma import precision
from sacma.errors import SacmaError
from sacma.options import TrainingConfig
from sacma.precision import Rates
from sacma.runs.config import load_options, resolve

SLOW, EQUAL, FAST = Rates(50e9, 4e9), Rates(50e9, 51e9), Rates(50e9, 200e9)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def machine(monkeypatch: pytest.MonkeyPatch, rates: Rates, *, instructions: bool = True) -> None:
    monkeypatch.setattr(precision, "measured", lambda: rates)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device=None: instructions)


@pytest.mark.parametrize(
    ("rates", "instructions", "expected"),
    [(FAST, True, "bfloat16"), (FAST, False, "float32"), (EQUAL, True, "float32"), (SLOW, True, "float32")],
)
def test_auto_is_settled_in_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rates: Rates, instructions: bool, expected: str
) -> None:
    """A file of the run names the precision that was taken, so that it repeats the run elsewhere."""
    machine(monkeypatch, rates, instructions=instructions)
    config = resolve({"precision": "auto", "device": "cpu"})
    assert config.training.precision == expected
    config.save(tmp_path / "config.yaml")
    assert load_options(tmp_path / "config.yaml")["precision"] == expected


def test_slow_bfloat16_is_refused_with_both_rates_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, SLOW, instructions=False)
    asked = TrainingConfig(precision="bfloat16", device="cpu")
    with pytest.raises(SacmaError, match=r"12\.5 times as fast in float32 \(50 against 4 GFLOP/s\)"):
        precision.check(asked)
    precision.check(TrainingConfig(precision="bfloat16", device="cpu", force_precision=True))
    precision.check(TrainingConfig(device="cpu"))
    machine(monkeypatch, FAST, instructions=False)  # the cache has the slow rates of this machine
    with pytest.raises(SacmaError, match=r"12\.5"):
        precision.check(asked)


def test_a_damaged_cache_is_measured_anew(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    machine(monkeypatch, SLOW)
    assert precision.rates() == SLOW
    machine(monkeypatch, FAST)
    assert precision.rates() == SLOW
    (kept,) = cache.glob("precision-*.json")
    for damaged in ("", "[]", '{"float32": 0, "bfloat16": 1}', '{"float32": "x"}'):
        kept.write_text(damaged)
        assert precision.rates() == FAST


def test_the_probe_measures_both() -> None:
    found = precision.measured(seconds=0.01)
    assert found.float32 > 1e8
    assert found.bfloat16 > 1e6
