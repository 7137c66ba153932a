"""Random class splits of a folder, and methods compared over them."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import sacma
from folders import ALL, FEATURES, NAME, write_folder
from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS
from sacma.errors import SacmaError
from sacma.studies.random_splits import Sizes, draw, sizes_of, write

SIZES = Sizes(train=4, val=2, test=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("draws") / "root")


@pytest.fixture(scope="module")
def toy(root: Path) -> Benchmark:
    return Benchmark.open(root, NAME, FEATURES)


def test_a_draw_is_the_same_for_the_same_seed_and_another_for_another(toy: Benchmark) -> None:
    assert draw(toy, SIZES, seed=3) == draw(toy, SIZES, seed=3)
    assert draw(toy, SIZES, seed=3) != draw(toy, SIZES, seed=4)


def test_a_draw_keeps_classes_apart_and_holds_clips_out(toy: Benchmark) -> None:
    drawn = draw(toy, SIZES, seed=0)
    classes: dict[str, set[int]] = {}
    for row, partition in drawn.items():
        classes.setdefault(partition, set()).add(int(toy.features.labels[row]))
    train, val, test = (
        classes[part] for part in ("stage_1_train", "stage_1_val_unseen", "stage_2_test_unseen")
    )
    assert (len(train), len(val), len(test)) == (4, 2, 3)
    assert not train & val
    assert not (train | val) & test
    assert classes["stage_1_val_seen"] == train
    assert classes["stage_2_test_seen"] == train | val
    for label in train | val | test:  # all clips of a drawn class are used
        rows = (toy.features.labels == label).nonzero().flatten().tolist()
        assert all(row in drawn for row in rows)
    assert len(train | val | test) == 9 < len(ALL)


def test_a_draw_without_test_has_no_class_or_clip_of_it(toy: Benchmark) -> None:
    unseen = set(toy.partition_classes["stage_2_test_unseen"])
    rows = draw(toy, Sizes(train=3, val=2, test=len(ALL) - len(unseen) - 5), seed=0, without_test=True)
    names = {toy.features.classes[int(toy.features.labels[row])] for row in rows}
    assert names == set(ALL) - unseen
    assert {PARTITIONS[int(toy.features.partitions[row])] for row in rows} == set(PARTITIONS[:3])
    assert len(rows) == len(toy.split("train_val"))
    with pytest.raises(SacmaError, match="outside of the test"):
        draw(toy, Sizes(train=4, val=2, test=len(ALL) - 6), seed=0, without_test=True)


def test_a_written_draw_is_a_benchmark_with_the_same_clips(toy: Benchmark, tmp_path: Path) -> None:
    drawn = draw(toy, SIZES, seed=1)
    write(toy, drawn, tmp_path / "drawn")
    opened = Benchmark.open(tmp_path / "drawn", NAME, FEATURES)
    opened.features.verify()
    assert sizes_of(opened) == SIZES
    assert len(opened.features) == len(drawn)
    assert len(set(opened.features.names)) == len(drawn)  # the source has names in several partitions
    for row, source in enumerate(sorted(drawn)):
        for found, expected in (
            (opened.features.audio, toy.features.audio),
            (opened.features.video, toy.features.video),
        ):
            theirs = expected.gather(torch.tensor([source])).values
            assert torch.equal(found.gather(torch.tensor([row])).values, theirs)
    for name in opened.classes:
        assert torch.equal(opened.vectors[opened.classes.index(name)], toy.vectors[toy.classes.index(name)])
    with pytest.raises(SacmaError, match="exists already"):
        write(toy, drawn, tmp_path / "drawn")


def test_what_cannot_be_drawn(toy: Benchmark) -> None:
    with pytest.raises(SacmaError, match="11 classes are to be drawn, but there are 10"):
        draw(toy, Sizes(train=5, val=3, test=3), seed=0)
    with pytest.raises(SacmaError, match="at least one class each"):
        draw(toy, Sizes(train=5, val=0, test=3), seed=0)


def test_the_command_runs_draws_and_keeps_them(root: Path, tmp_path: Path) -> None:
    where = (
        *("draws", "table2", f"--root={root}", f"--benchmark={NAME}", f"--features={FEATURES}"),
        *("--row=[kite,eszsl]", "--draws=2", "--first=7", "--train=4", "--val=2", "--test=3"),
        f"--out={tmp_path}",
    )
    first = sacma(*where)
    assert first.status == 0, first.err
    folder = tmp_path / f"{NAME}-{FEATURES}-draws-ours"
    assert sorted(path.name for path in folder.glob("draw-*")) == ["draw-7", "draw-8"]
    (kite, eszsl) = csv.DictReader((folder / "table2.csv").open())
    assert (kite["method"], eszsl["method"]) == ("KITE", "ESZSL")
    assert eszsl["KITE HM"]
    assert eszsl["KITE AUSUC"]
    assert eszsl["95 %"] == ""  # two draws are too few
    assert "2 random class splits from seed 7" in (folder / "table2.md").read_text()
    result = next(folder.glob("draw-7/*/kite/seed-0/result.json"))
    written = result.stat().st_mtime_ns
    assert sacma(*where).out.splitlines()[-1] == first.out.splitlines()[-1]
    assert result.stat().st_mtime_ns == written


def test_other_class_vectors_for_all_rows(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "other.npz"
    own = np.load(root / "features" / FEATURES / "text" / f"word_embeddings_{NAME}_normed.npz")
    np.savez(table, names=own["names"], vectors=np.random.default_rng(0).permutation(own["vectors"]))
    where = (
        *("draws", "table2", f"--root={root}", f"--benchmark={NAME}", f"--features={FEATURES}"),
        *("--row=[kite,eszsl]", "--draws=1", "--train=4", "--val=2", "--test=3", f"--out={tmp_path}"),
    )
    assert sacma(*where).status == 0
    outcome = sacma(*where, f"--text={table}")
    assert outcome.status == 0, outcome.err
    plain = tmp_path / f"{NAME}-{FEATURES}-draws-ours"
    other = tmp_path / f"{NAME}-{FEATURES}-draws-ours-other"
    assert f"class vectors {table}" in (other / "table2.md").read_text()
    assert (plain / "table2.csv").read_text() != (other / "table2.csv").read_text()
    mistake = sacma("draws", "table4", *where[2:5], "--row=[sacma,clip]", "--draws=1", "--text=other")
    assert "w_clip: has class vectors of its own" in mistake.line


def test_the_command_says_what_is_wrong(root: Path, tmp_path: Path) -> None:
    where = ("draws", "table2", f"--root={root}", f"--benchmark={NAME}", f"--features={FEATURES}")
    assert "go together" in sacma(*where, "--row=kite", "--train=4", f"--out={tmp_path}").line
    assert "at least 1" in sacma(*where, "--row=kite", "--draws=0", f"--out={tmp_path}").line


def test_clips_of_a_group_stay_together(toy: Benchmark, tmp_path: Path) -> None:
    """The clips of a class are in three groups; where these are not known they are torn apart."""
    labels = toy.features.labels.tolist()
    seen: dict[int, int] = {}
    groups = []
    for label in labels:
        groups.append(f"{label}-{seen.get(label, 0) % 3}")
        seen[label] = seen.get(label, 0) + 1

    def torn(drawn: dict[int, str]) -> int:
        places: dict[str, set[str]] = {}
        for row, partition in drawn.items():
            places.setdefault(groups[row], set()).add(partition)
        return sum(len(where) > 1 for where in places.values())

    grouped = replace(toy, features=toy.features.grouped(groups))
    assert torn(draw(toy, SIZES, seed=0)) > 0
    drawn = draw(grouped, SIZES, seed=0)
    assert torn(drawn) == 0
    write(grouped, drawn, tmp_path / "drawn")
    again = Benchmark.open(tmp_path / "drawn", NAME, FEATURES)
    assert again.features.groups() == [groups[row] for row in sorted(drawn)]
    lists = tmp_path / "drawn" / "class-split" / "main_split"
    header, first, *_ = (lists / "stage_1_train.csv").read_text().splitlines()
    assert header == "filename,label,label_code,group"
    assert first.split(",")[3] in groups


def test_groups_of_the_lists_of_clips_are_found(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    features = Benchmark.open(root, NAME, FEATURES).features
    rows = zip(features.names, features.labels.tolist(), features.partitions.tolist(), strict=True)
    lines = [
        f"{name},{features.classes[of]},0,g" for name, of, part in rows if PARTITIONS[part] == "stage_1_train"
    ]
    lists = tmp_path / "copy" / "class-split" / "main_split" / "stage_1_train.csv"
    lists.write_text("filename,label,label_code,group\n" + "\n".join(lines) + "\n")
    found = Benchmark.open(tmp_path / "copy", NAME, FEATURES).features
    assert found.groups().count("g") >= len(lines)
