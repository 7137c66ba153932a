"""The table over random class splits."""

from __future__ import annotations

from sacma.frozen.leakage import KNOWN, Overlap
from sacma.results.draws import compare_draws
from sacma.studies.random_splits import FIGURES, Drawn, DrawnRow
from sacma.studies.study import Row


def drawn(name: str, values: list[float]) -> DrawnRow:
    return DrawnRow(Row(name, name, 1, {"method": "kite"}), dict.fromkeys(FIGURES, values))


def test_the_table_pairs_by_draw() -> None:
    rows = [drawn("ours", [0.5, 0.7, 0.6, 0.7, 0.5]), drawn("other", [0.4, 0.6, 0.5, 0.6, 0.4])]
    table = compare_draws(Drawn(rows, ["a note"]), "title")
    ours, other = table.groups[0].rows
    assert table.columns == [
        "method",
        *FIGURES,
        *(x for n in ("HM", "ZSL", "AUSUC") for x in (f"ours {n}", "95 %")),
    ]
    assert ours == ["ours", *["60.0 ± 10.0"] * 5, *[""] * 6]
    assert other == ["other", *["50.0 ± 10.0"] * 5, *["+10.0", "+10.0 to +10.0"] * 3]
    assert "a note" in table.notes
    assert any("other splits of the same data" in note for note in table.notes)


def test_an_overlap_with_training_data_is_marked() -> None:
    rows = [drawn("ours", [0.5]), drawn("other", [0.4])]
    table = compare_draws(Drawn(rows, [], Overlap(KNOWN, ("an encoder learned from it",))), "title")
    assert [row[0] for row in table.groups[0].rows] == ["ours †", "other †"]
    assert any("an encoder learned from it" in note for note in table.notes)


def test_few_draws_have_no_interval() -> None:
    rows = [drawn("ours", [0.5, 0.7, 0.6, 0.5]), drawn("other", [0.4, 0.6, 0.5, 0.4])]
    table = compare_draws(Drawn(rows, []), "title")
    assert table.groups[0].rows[1][6:] == ["+10.0", ""] * 3
    assert any("none for 4, from 5 draws on" in note for note in table.notes)
