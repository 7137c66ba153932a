"""Class lists: columns in any order are read, mistakes name file and line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sacma.data.class_lists import read_class_list, read_clip_list, read_name_mapping
from sacma.errors import SacmaError
from sacma.text.vector_files import read_word_vectors


def test_class_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffZebra \r\n\r\n  ant, red\r\nBee\n", encoding="utf-8")
    assert read_class_list(path) == ("Bee", "Zebra", "ant, red")
    for content, message in (
        (b"\n \n", "empty"),
        (b"a\nb\na\n", "'a' is there twice"),
        (b"\xff", "damaged"),
        (b"Dog\ndog\n", "'Dog' and 'dog' are one"),
    ):
        path.write_bytes(content)
        with pytest.raises(SacmaError, match=message):
            read_class_list(path)
    with pytest.raises(SacmaError, match="No such file"):
        read_class_list(tmp_path / "b.txt")


def test_name_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('original,manual,category\n"heart sounds, heartbeat","heart, beat",people\nb,c,d\n')
    assert read_name_mapping(path) == {"heart sounds, heartbeat": "heart, beat", "b": "c"}
    for content, message in (
        ("", "columns none; expected original and manual"),
        ("a,b\n1,2\n", "columns a, b; expected original and manual"),
        ("original,manual\na,b\na,c\n", "'a' is there twice"),
        ("original,manual\na,b\nc\n", "line 3: no original or no manual"),
    ):
        path.write_text(content)
        with pytest.raises(SacmaError, match=message):
            read_name_mapping(path)


@pytest.mark.parametrize(
    "header",
    [
        "filename,label,label_code",
        "filename,label_code,label",
        "youtube_id,start_seconds,label,split,filename,label_code,category",
    ],
)
def test_clip_lists(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header.split(","), restval="x")
        writer.writeheader()
        writer.writerow({"filename": "v_1", "label": "dog, barking"})
    assert read_clip_list(path) == [("v_1", "dog, barking")]


@pytest.mark.parametrize(
    ("benchmark", "folder", "vectors", "classes"),
    [
        ("ucf", "UCF", "ucf", 101),
        ("activitynet", "ActivityNet", "activity", 200),
        ("vggsound", "VGGSound", "vggsound", 309),
    ],
)
def test_lists_and_words_of_the_benchmarks(
    data_dir: Path, benchmark: str, folder: str, vectors: str, classes: int
) -> None:
    root = data_dir / "benchmarks" / folder
    path = root / "features" / "main_features_non_averaged" / "text" / f"word_embeddings_{vectors}_normed.npy"
    words = read_word_vectors(path)
    mapping = read_name_mapping(root / "class-split" / f"{benchmark}_w2v_class_names.csv")
    assert len(words) == len(mapping) == classes
    assert set(mapping.values()) == set(words)
    assert len(read_class_list(root / "class-split" / "all_class.txt")) == classes
    norms = [float(np.linalg.norm(vector)) for vector in words.values()]
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    assert {vector.shape for vector in words.values()} == {(300,)}
