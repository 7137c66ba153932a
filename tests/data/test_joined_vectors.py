"""ClipClap's released folders: one vector a clip, two tables of class vectors, an own list of text names."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS
from sacma.data.joined_vectors import joined
from sacma.data.paper import published_benchmarks
from sacma.errors import SacmaError
from sacma.runs.config import resolve
from sacma.runs.folder import RunFolder
from sacma.text.vectors import TextTable
from sacma.training.protocol import run

UCF = published_benchmarks()["ucf"]
CLIP, WAVCAPS = 4, 6
# Text names of another list than that of the word2vec table; one moves in the order of names.
RENAMED = {
    "HandstandPushups": "Hand Stand Pushups",
    "CleanAndJerk": "Clean And Jerk",
    "CuttingInKitchen": "Cutting In Kitchen",
    "Archery": "Zen Archery",
}
NAMES = {name: RENAMED.get(name, UCF.text_names[name]) for name in UCF.classes}


def save_vectors(path: Path, names: Iterable[str], width: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    vectors = {}
    for name in names:
        vector = generator.standard_normal(width)
        vectors[name] = (vector / np.linalg.norm(vector)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(vectors, dtype=object), allow_pickle=True)
    return vectors


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("downloaded") / "UCF"
    features = root / "features" / "cls_features_non_averaged"
    clip = save_vectors(features / "text" / "word_embeddings_ucf_normed.npy", NAMES.values(), CLIP, 1)
    # The second table in another order: names pair them.
    other = reversed(list(NAMES.values()))
    wavcaps = save_vectors(features / "text" / "wavcaps_word_embeddings_ucf_normed.npy", other, WAVCAPS, 2)
    lists = root / "class-split"
    lists.mkdir()
    with (lists / "ucf_clip_class_names.csv").open("w", newline="") as file:
        # The released list spells a class otherwise than the lists of the split.
        spelt = {"HandstandPushups": "HandStandPushups"}
        rows = [(spelt.get(name, name), UCF.text_names[name], NAMES[name]) for name in UCF.classes]
        csv.writer(file).writerows([("original", "manual", "clip_class_name"), *rows])
    (lists / "all_class.txt").write_text("\n".join(UCF.classes))
    for split in ("main", "cls"):
        for partition in PARTITIONS:
            path = lists / f"{split}_split" / f"{partition}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(UCF.partition_classes(partition, split)))
    generator = np.random.default_rng(3)
    for partition in PARTITIONS:
        for name in UCF.partition_classes(partition, "cls"):
            for modality, table in (("video", clip), ("audio", wavcaps)):
                noise = generator.standard_normal((3, len(table[NAMES[name]])))
                vectors = [(table[NAMES[name]] + 0.4 * one).astype(np.float32) for one in noise]
                content = {
                    "features": [one / np.linalg.norm(one) for one in vectors],
                    "video_names": [f"{name}_{partition}_{number}".encode() for number in range(3)],
                    "fps": [25] * 3,
                }
                path = features / modality / partition / f"{name}.pkl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(content))
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))


def tables(root: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    folder = root / "features" / "cls_features_non_averaged" / "text"
    first, second = (
        np.load(folder / f"{prefix}word_embeddings_ucf_normed.npy", allow_pickle=True).item()
        for prefix in ("", "wavcaps_")
    )
    return first, second


def test_a_downloaded_folder_is_read_as_it_is(downloaded: Path) -> None:
    opened = Benchmark.open(downloaded, "ucf", "clip-clap", split="cls")
    assert (opened.features.audio.width, opened.features.video.width) == (WAVCAPS, CLIP)
    assert set(opened.features.audio.lengths.tolist()) == {1}
    first, second = tables(downloaded)
    for place, name in enumerate(opened.classes):
        expected = np.concatenate([first[NAMES[name]], second[NAMES[name]]])
        np.testing.assert_array_equal(opened.vectors[place].numpy(), expected)
    assert "CuttingInKitchen" in opened.classes
    assert opened.text_source == "ucf"


def test_published_alignment_pairs_both_tables_by_their_order(downloaded: Path) -> None:
    opened = Benchmark.open(downloaded, "ucf", "clip-clap", split="cls", text_alignment="published")
    first, second = tables(downloaded)
    order = sorted(first)
    for place, name in enumerate(opened.classes):
        own = order[sorted(UCF.classes).index(name)]
        expected = np.concatenate([first[own], second[own]])
        np.testing.assert_array_equal(opened.vectors[place].numpy(), expected)
    aligned = Benchmark.open(downloaded, "ucf", "clip-clap", split="cls")
    assert not torch.equal(aligned.vectors, opened.vectors)


def test_one_table_by_its_path_and_a_second_that_lacks_a_name(downloaded: Path) -> None:
    path = downloaded / "features" / "cls_features_non_averaged" / "text" / "word_embeddings_ucf_normed.npy"
    opened = Benchmark.open(downloaded, "ucf", "clip-clap", split="cls", text=str(path))
    assert opened.vectors.shape[1] == CLIP
    one, other = (
        TextTable(names, np.ones((len(names), 2), np.float32)) for names in (("a", "b"), ("a", "c"))
    )
    with pytest.raises(SacmaError, match="only one of them has 'b'; get both again"):
        joined(one, other)


def test_c3d_features_are_not_taken_for_clip_and_clap(downloaded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "UCF" / "features" / "cls_features_non_averaged" / "text"
    folder.mkdir(parents=True)
    save_vectors(folder / "word_embeddings_ucf_normed.npy", UCF.text_names.values(), 5, 0)
    with pytest.raises(SacmaError, match="no folder clip-clap or cls_features_non_averaged"):
        Benchmark.open(tmp_path / "UCF", "ucf", "clip-clap")


@pytest.mark.parametrize("method", ["clipclap", "hsp-moe"])
def test_a_downloaded_folder_is_trained_on(method: str, downloaded: Path, tmp_path: Path) -> None:
    given = {"benchmark": "ucf", "features": "clip-clap", "root": str(downloaded), "split": "cls"}
    config = resolve(
        {**given, "method": method, "variant": "published", "epochs": 2, "batches_per_epoch": 20, "width": 32}
    )
    assert config.model["feature_scaling"] == "published"
    assert (config.training.learning_rate, config.training.schedule) == (7e-5, "plateau")
    config = resolve({**config.options(), "learning_rate": 3e-3, "text_alignment": "aligned"})
    opened = Benchmark.open(downloaded, "ucf", "clip-clap", split="cls")
    folder = RunFolder.create(tmp_path / "run", config)
    result = run(config, opened, folder)
    assert result.test.zsl > 2 / 6
