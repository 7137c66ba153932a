"""Class vectors: each class gets its own, or, as published, a neighbour's; and tables on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sacma.data.paper import Published, published_benchmarks
from sacma.errors import SacmaError
from sacma.text.vectors import TextTable, class_vectors

NAMES = st.text(alphabet="aBc D", min_size=1, max_size=4)


def random_table(names: list[str], width: int = 4, seed: int = 0) -> TextTable:
    vectors = np.random.default_rng(seed).normal(size=(len(names), width))
    return TextTable.from_mapping(dict(zip(names, vectors.astype(np.float32), strict=True)))


def as_released(classes: list[str], table: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    """What the released loaders do, literally: values in the order of their keys, indexed by class id."""
    class_to_idx = {one: i for i, one in enumerate(sorted(classes))}
    return list(dict(sorted(table.items())).values())[class_to_idx[name]]


@st.composite
def benchmarks(draw: st.DrawFn) -> tuple[list[str], dict[str, str], list[str]]:
    """Classes, their text names (which sort in another order), and the order of the table."""
    classes = sorted(draw(st.sets(NAMES, min_size=1, max_size=12)))
    texts = draw(st.lists(NAMES, min_size=len(classes), max_size=len(classes), unique=True))
    return classes, dict(zip(classes, texts, strict=True)), draw(st.permutations(texts))


@given(benchmarks())
def test_aligned_gives_each_class_the_vector_of_its_text_name(
    case: tuple[list[str], dict[str, str], list[str]],
) -> None:
    classes, text_names, order = case
    table = random_table(order)
    vectors = class_vectors(classes, text_names, table)
    for name, vector in zip(classes, vectors, strict=True):
        np.testing.assert_array_equal(vector, table.vectors[order.index(text_names[name])])


@given(benchmarks())
def test_published_pairs_like_the_released_loaders(
    case: tuple[list[str], dict[str, str], list[str]],
) -> None:
    classes, text_names, order = case
    table = random_table(order)
    mapping = dict(zip(table.names, table.vectors, strict=True))
    vectors = class_vectors(classes, text_names, table, alignment="published")
    for name, vector in zip(classes, vectors, strict=True):
        np.testing.assert_array_equal(vector, as_released(classes, mapping, name))


def wrong(facts: Published, table: TextTable) -> set[str]:
    """The classes that get another class's vector under ``published``."""
    own, paired = (
        class_vectors(facts.classes, facts.text_names, table, alignment=alignment)
        for alignment in ("aligned", "published")
    )
    differ = (own != paired).any(axis=1)
    return {name for name, other in zip(facts.classes, differ, strict=True) if other}


# Of the specification of the protocol: all, stage-1 train, val unseen, stage-2 train, test unseen main, cls.
WRONG = {
    "ucf": (79, 23, 8, 31, 5, 4),
    "activitynet": (8, 5, 2, 7, 1, 1),
    "vggsound": (205, 84, 51, 135, 42, 38),
}


@pytest.mark.parametrize("name", WRONG)
def test_number_of_classes_with_a_wrong_vector(name: str) -> None:
    facts = published_benchmarks()[name]
    mixed = wrong(facts, random_table(list(facts.text_names.values())))
    train = facts.partition_classes("stage_1_train", "main")
    val = facts.partition_classes("stage_1_val_unseen", "main")
    groups = (
        facts.classes,
        train,
        val,
        (*train, *val),
        facts.partition_classes("stage_2_test_unseen", "main"),
        facts.partition_classes("stage_2_test_unseen", "cls"),
    )
    assert tuple(len(mixed.intersection(group)) for group in groups) == WRONG[name]


@pytest.mark.parametrize(
    ("name", "own", "released"),
    [
        ("CuttingInKitchen", "Cut Kitchen", "Diving"),
        ("PlayingFlute", "Playing Flute", "Playing Guitar"),
        ("Typing", "Typing", "Uneven Bars"),
        ("BandMarching", "Band Marching", "Band Marching"),
    ],
)
def test_pairings_of_single_classes(name: str, own: str, released: str) -> None:
    facts = published_benchmarks()["ucf"]
    table = random_table(list(facts.text_names.values()))
    row = facts.classes.index(name)
    for alignment, text_name in (("aligned", own), ("published", released)):
        vectors = class_vectors(facts.classes, facts.text_names, table, alignment=alignment)
        np.testing.assert_array_equal(vectors[row], table.vectors[table.names.index(text_name)])


@pytest.mark.parametrize("name", WRONG)
def test_official_tables(name: str, data_dir: Path) -> None:
    facts = published_benchmarks()[name]
    folder = data_dir / "benchmarks" / facts.folder / "features/main_features_non_averaged/text"
    table = TextTable.read(folder / f"word_embeddings_{facts.vectors}_normed.npy")
    assert table.vectors.shape == (len(facts.classes), 300)
    assert table.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1, atol=1e-6)
    assert set(table.names) == set(facts.text_names.values())
    assert len(wrong(facts, table)) == WRONG[name][0]


def test_a_class_without_text_name_is_looked_up_under_its_own() -> None:
    table = random_table(["b", "a"])
    np.testing.assert_array_equal(class_vectors(["a", "b"], {}, table), table.vectors[[1, 0]])


def test_a_class_without_vector_is_named() -> None:
    with pytest.raises(SacmaError, match=r"no vector for class 'Bat' \(text name 'a bat'\)"):
        class_vectors(["Ant", "Bat"], {"Ant": "ant", "Bat": "a bat"}, random_table(["ant"]))


def test_published_needs_a_vector_for_each_class() -> None:
    with pytest.raises(SacmaError, match="1 vectors for 2 classes"):
        class_vectors(["Ant", "Bat"], {}, random_table(["Ant"]), alignment="published")


def test_rotated_gives_each_class_the_vector_of_the_next() -> None:
    table = random_table(["cat", "the ant", "bat"])
    own = class_vectors(["Ant", "bat", "cat"], {"Ant": "the ant"}, table)
    rotated = class_vectors(["Ant", "bat", "cat"], {"Ant": "the ant"}, table, alignment="rotated")
    assert np.array_equal(rotated, own[[1, 2, 0]])


def test_unknown_alignment() -> None:
    with pytest.raises(SacmaError, match="'sorted' is unknown; expected one of aligned, published, rotated"):
        class_vectors(["Ant"], {}, random_table(["Ant"]), alignment="sorted")


def test_unsorted_classes_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="ascending"):
        class_vectors(["b", "a"], {}, random_table(["a", "b"]))


def test_table_round_trip(tmp_path: Path) -> None:
    table = random_table(["Tie Knot", "naïve, quoted"], width=7)
    path = tmp_path / "text" / "word_embeddings_x_normed.npz"
    table.write(path)
    read = TextTable.read(path)
    assert read.names == table.names
    np.testing.assert_array_equal(read.vectors, table.vectors)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_vectors_may_be_of_any_float(tmp_path: Path) -> None:
    path = tmp_path / "half.npz"
    np.savez(path, names=np.array(["a"]), vectors=np.array([[0.5, 2.0]], dtype=np.float16))
    assert TextTable.read(path).vectors.dtype == np.float32


@pytest.mark.parametrize(
    "arrays",
    [
        {"names": np.array(["a"])},
        {"names": np.array(["a"], dtype=object), "vectors": np.ones((1, 2))},
        {"names": np.array([1]), "vectors": np.ones((1, 2))},
        {"names": np.array(["a"]), "vectors": np.ones((2, 2))},
        {"names": np.array(["a"]), "vectors": np.ones((1, 0))},
        {"names": np.array(["a"]), "vectors": np.ones(1)},
        {"names": np.array(["a", "b"]), "vectors": np.array([[1, 2], [1, np.nan]])},
    ],
)
def test_files_that_are_no_tables(arrays: dict[str, NDArray[np.generic]], tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    np.savez(path, **arrays)
    with pytest.raises(SacmaError, match=r"table\.npz"):
        TextTable.read(path)


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        (("a",), np.ones((2, 2)), "1 names but vectors of shape"),
        (("a", "a"), np.ones((2, 2)), "'a' is there twice"),
        (("a", "b"), np.array([[1, 2], [1, np.inf]]), "vector of 'b' is not finite"),
    ],
)
def test_tables_that_cannot_be(names: tuple[str, ...], vectors: NDArray[np.float32], message: str) -> None:
    with pytest.raises(SacmaError, match=message):
        TextTable(names, vectors)


def test_damaged_and_absent_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    with pytest.raises(SacmaError, match="no such file"):
        TextTable.read(path)
    random_table(["a"]).write(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SacmaError, match=r"table\.npz"):
        TextTable.read(path)
    path.write_bytes(b"")
    with pytest.raises(SacmaError, match=r"table\.npz"):
        TextTable.read(path)


def test_vectors_of_different_widths() -> None:
    with pytest.raises(SacmaError, match="one width"):
        TextTable.from_mapping({"a": np.ones(2), "b": np.ones(3)})
