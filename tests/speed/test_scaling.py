"""What keeps memory small while sets grow, and the script that shows it."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "speed"
sys.path.insert(0, str(SCRIPTS))

import scaling  # noqa: E402
import traffic  # noqa: E402
from sacma.models.layers import InputScaling  # noqa: E402


def test_scaling_in_parts_is_that_of_all_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    values = 1e3 + torch.randn(501, 7, generator=generator, dtype=torch.float64).float()
    values[:, 3] = 5.0  # a constant
    layer = InputScaling(7, "standardise")
    layer.fit([values[:1], values[1:1], values[1:200], values[200:]])
    exact = values.double()
    torch.testing.assert_close(layer.mean.double(), exact.mean(0), rtol=1e-6, atol=0)
    expected = exact.std(0, correction=0)
    expected[3] = 1.0
    torch.testing.assert_close(layer.deviation.double(), expected, rtol=1e-4, atol=0)


def test_import_needs_less_memory_than_a_class_file(tmp_path: Path) -> None:
    (point,) = scaling.measure("import", 64, tmp_path)
    assert point.size == 64
    assert point.megabytes < 64
    assert (tmp_path / "imported" / "features" / "f" / "clips.json").exists()


def test_script_writes_table_and_plot_and_keeps_other_axes(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--folder", str(tmp_path)]
    assert scaling.main([*arguments, "--axis", "clips", "--sizes", "100", "200"]) == 0
    assert scaling.main([*arguments, "--axis", "classes", "--sizes", "60"]) == 0
    found = scaling.read_csv(tmp_path / "scaling.csv")
    assert {(one.axis, one.size) for one in found} == {("clips", 100), ("clips", 200), ("classes", 60)}
    assert all(one.seconds > 0 and one.megabytes >= 0 for one in found)
    assert (tmp_path / "images" / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "scaling.csv"]


def test_closed_forms_are_fitted_and_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaling.prepare("score", 40, tmp_path)
    ((work, action, _),) = scaling._score(40, tmp_path)
    assert "10,000 names" in work
    assert len(action().labels) == 40  # type: ignore[attr-defined]
    scaling.write_averages(tmp_path / "fit" / "features", 60, classes=6, width=10)
    monkeypatch.setattr(scaling, "FIT_WIDTH", 10)
    for work, action, _ in scaling._fit(60, tmp_path / "fit"):
        assert work.startswith("fit ")
        action()


def test_axes_without_a_plot_are_measured_alone(tmp_path: Path) -> None:
    arguments = ["--axis", "score", "--sizes", "20", "--out", str(tmp_path), "--folder", str(tmp_path)]
    assert scaling.main(arguments) == 0
    assert not (tmp_path / "images").exists()


def test_exponents_of_growth() -> None:
    points = [scaling.Point("fit", size, "a", size**1.5, 1.0) for size in (10, 100, 1000)]
    text = scaling.exponents([*points, scaling.Point("fit", 10, "b", 1.0, 1.0)])
    assert text == "fit, a: time grows with size^1.50 (10 to 1,000)"


def test_memory_is_that_of_the_process_and_not_of_mapped_files() -> None:
    with scaling.Memory().watched() as memory:
        for _ in range(2):  # 64 MB, given back and taken anew, past the allocator and what it keeps
            with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
                held[:: mmap.PAGESIZE] = b"1" * (len(held) // mmap.PAGESIZE)
                scaling.time.sleep(0.05)
    assert memory.added > 60


def test_traffic_counts_gradients() -> None:
    table = traffic.traffic()
    assert "| 64 |" in table
    assert "| ucf/selavi |" in table


def test_page_has_the_table_of_the_file_of_measurements() -> None:
    folder = SCRIPTS.parent / "docs" / "results"
    _, table, _ = (folder / "scaling.md").read_text().split(scaling.MARK)
    assert table.strip() == scaling.table(scaling.read_csv(folder / "scaling.csv"))


def test_the_page_has_the_table_of_its_file() -> None:
    results = SCRIPTS.parent / "docs" / "results"
    assert scaling.table(scaling.read_csv(results / "scaling.csv")) in (results / "scaling.md").read_text()
