"""The table over random class splits."""

from __future__ import annotations

from sacma.metrics.gzsl import ACCURACIES
from sacma.results.draws import compare_draws
from sacma.studies.random_splits import DrawnRow
from sacma.studies.study import Row


def test_the_table_pairs_by_draw() -> None:
    def drawn(name: str, values: list[float]) -> DrawnRow:
        return DrawnRow(Row(name, name, 1, {"method": "kite"}), dict.fromkeys(ACCURACIES, values))

    table = compare_draws([drawn("ours", [0.5, 0.7, 0.6]), drawn("other", [0.4, 0.6, 0.5])], "title")
    ours, other = table.groups[0].rows
    assert ours == ["ours", *["60.0 ± 10.0"] * 4, "", "", "", ""]
    assert other == ["other", *["50.0 ± 10.0"] * 4, "+10.0", "+10.0 to +10.0", "+10.0", "+10.0 to +10.0"]
