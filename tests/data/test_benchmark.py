"""Benchmarks: clips and classes of each stage, and errors for folders and lists with mistakes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmark_folders import (
    ALL_CLASSES,
    CLIPS,
    LISTS,
    TEST_UNSEEN,
    TRAIN,
    VAL_UNSEEN,
    clip_name,
    vector,
    write_clips,
    write_lists,
    write_text_table,
    write_ucf,
    write_zoo,
)
from sacma.data.benchmark import Benchmark, Split
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.errors import SacmaError
from sacma.text.vectors import TextTable


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def own_zoo(tmp_path: Path) -> Path:
    """One that a test may change."""
    return write_zoo(tmp_path / "zoo")


def clips_of(split: Split) -> set[tuple[str, str]]:
    """Name and class of each clip."""
    classes = [split.classes.names[label] for label in split.labels.tolist()]
    names = [split.features.names[clip] for clip in split.clips.tolist()]
    return set(zip(names, classes, strict=True))


def expected_clips(partitions: tuple[str, ...], without: tuple[str, ...] = ()) -> set[tuple[str, str]]:
    return {
        (clip_name(partition, name, number), name)
        for partition in partitions
        for name, count in CLIPS[partition].items()
        for number in range(count)
        if name not in without
    }


STAGE_PARTITIONS = {
    "train": PARTITIONS[:1],
    "val": PARTITIONS[1:3],
    "train_val": PARTITIONS[:3],
    "test": PARTITIONS[3:],
}


@pytest.mark.parametrize(
    ("stage", "seen", "unseen"),
    [
        ("train", TRAIN, ()),
        ("val", TRAIN, VAL_UNSEEN),
        ("train_val", (*TRAIN, *VAL_UNSEEN), ()),
        ("test", (*TRAIN, *VAL_UNSEEN), TEST_UNSEEN),
    ],
)
def test_stages(zoo: Path, stage: str, seen: tuple[str, ...], unseen: tuple[str, ...]) -> None:
    split = Benchmark.open(zoo, "zoo", "own").split(stage)
    assert split.stage == stage
    assert clips_of(split) == expected_clips(STAGE_PARTITIONS[stage])
    assert len(split) == len(split.clips)
    assert split.classes.names == tuple(sorted((*seen, *unseen)))
    flags = dict(zip(split.classes.names, split.classes.seen.tolist(), strict=True))
    assert flags == {**dict.fromkeys(seen, True), **dict.fromkeys(unseen, False)}


def test_types(zoo: Path) -> None:
    split = Benchmark.open(zoo, "zoo", "own").split("val")
    assert (split.clips.dtype, split.labels.dtype) == (torch.int64, torch.int64)
    assert (split.classes.seen.dtype, split.classes.vectors.dtype) == (torch.bool, torch.float32)
    assert bool((split.clips.diff() > 0).all())


def test_cls_leaves_unseen_test_classes_out(zoo: Path) -> None:
    main = Benchmark.open(zoo, "zoo", "own", split="main")
    cls = Benchmark.open(zoo, "zoo", "own", split="cls")
    assert clips_of(cls.split("test")) == expected_clips(PARTITIONS[3:], without=("Eel",))
    assert "Eel" not in cls.split("test").classes.names
    for stage in ("train", "val", "train_val"):
        assert clips_of(cls.split(stage)) == clips_of(main.split(stage))


def test_aligned_vectors(zoo: Path) -> None:
    classes = Benchmark.open(zoo, "zoo", "own").split("test").classes
    assert classes.vectors.tolist() == [vector(name) for name in classes.names]


def test_published_vectors_go_by_the_place_among_all_classes(zoo: Path) -> None:
    classes = Benchmark.open(zoo, "zoo", "own", text_alignment="published").split("test").classes
    # Text names in order: a dog, ant, bee, cat, eel, fox, yak, z ape; classes: Ape .. Fox, Yak, ant.
    by_text_name = ["Dog", "ant", "Bee", "Cat", "Eel", "Fox", "Yak", "Ape"]
    paired = dict(zip(ALL_CLASSES, by_text_name, strict=True))
    assert classes.vectors.tolist() == [vector(paired[name]) for name in classes.names]


def test_other_table_of_vectors(own_zoo: Path) -> None:
    folder = own_zoo / "features" / "own" / "text"
    table = TextTable.read(folder / "word_embeddings_zoo_normed.npz")
    TextTable(table.names, table.vectors[:, :2] * 3).write(folder / "word_embeddings_clip_normed.npz")
    opened = Benchmark.open(own_zoo, "zoo", "own", text="clip")
    assert opened.text_source == "clip"
    assert opened.split("val").classes.vectors.tolist() == [
        [3 * number for number in vector(name)[:2]] for name in opened.split("val").classes.names
    ]
    assert Benchmark.open(own_zoo, "zoo", "own").text_source == "zoo"
    with pytest.raises(SacmaError, match=r"found word_embeddings_clip_normed\.npz, word_embeddings_zoo"):
        Benchmark.open(own_zoo, "zoo", "own", text="glove")


def test_only_used_classes_need_a_vector(own_zoo: Path) -> None:
    path = own_zoo / "features" / "own" / "text" / "word_embeddings_zoo_normed.npz"
    table = TextTable.read(path)
    for name, works in (("yak", True), ("bee", False)):
        kept = [row for row, text in enumerate(table.names) if text != name]
        TextTable(tuple(table.names[row] for row in kept), table.vectors[kept]).write(path)
        if works:
            Benchmark.open(own_zoo, "zoo", "own")
        else:
            with pytest.raises(SacmaError, match=r"no vector for class 'Bee' \(text name 'bee'\)"):
                Benchmark.open(own_zoo, "zoo", "own")


def test_spelling_of_classes_may_differ_in_case(own_zoo: Path) -> None:
    write_lists(own_zoo, lists={**LISTS, "stage_1_train": ("cat", "DOG", "ant")})
    split = Benchmark.open(own_zoo, "zoo", "own").split("train")
    assert split.classes.names == ("Cat", "Dog", "ant")
    assert clips_of(split) == expected_clips(("stage_1_train",))


def test_clips_of_unknown_classes_are_left_out(own_zoo: Path) -> None:
    write_clips(
        own_zoo / "features" / "more", {**CLIPS, "stage_1_train": {**CLIPS["stage_1_train"], "Gnu": 3}}
    )
    write_text_table(own_zoo / "features" / "more")
    split = Benchmark.open(own_zoo, "zoo", "more").split("train_val")
    assert clips_of(split) == expected_clips(PARTITIONS[:3])


def test_a_class_with_a_single_clip_is_fine(own_zoo: Path) -> None:
    write_clips(own_zoo / "features" / "few", {name: dict.fromkeys(LISTS[name], 1) for name in PARTITIONS})
    write_text_table(own_zoo / "features" / "few")
    assert len(Benchmark.open(own_zoo, "zoo", "few").split("val")) == 5


def test_a_class_without_clips_is_named(own_zoo: Path) -> None:
    write_clips(own_zoo / "features" / "few", {**CLIPS, "stage_1_val_unseen": {"Bee": 2}})
    write_text_table(own_zoo / "features" / "few")
    opened = Benchmark.open(own_zoo, "zoo", "few")
    opened.split("train")
    with pytest.raises(SacmaError, match="no clips of Fox in stage_1_val_seen or stage_1_val_unseen"):
        opened.split("val")


def test_averaged(zoo: Path) -> None:
    split = Benchmark.open(zoo, "zoo", "own").split("val")
    averaged = split.averaged()
    assert averaged.averaged() is averaged
    assert averaged is split.averaged()
    assert torch.equal(averaged.labels, split.labels)
    for which in ("audio", "video"):
        whole, mean = getattr(split.features, which), getattr(averaged.features, which)
        reference = torch.stack([whole.gather(clip[None]).mean()[0] for clip in split.clips])
        gathered = mean.gather(averaged.clips)
        torch.testing.assert_close(gathered.mean(), reference)
        assert torch.equal(gathered.lengths, (whole.lengths[split.clips] > 0).long())
        assert mean.width == whole.width
    assert (averaged.features.video.lengths == 0).any()
    again = pickle.loads(pickle.dumps(averaged))
    assert torch.equal(again.features.audio.values, averaged.features.audio.values)


def test_sightsound(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path))
    opened = Benchmark.open(
        data_dir / "sightsound",
        "sightsound",
        "main_features_non_averaged",
        audio_step=0.48,
        video_step=1.0,
    )
    assert isinstance(opened.features, Features)
    sizes = {stage: len(opened.split(stage)) for stage in STAGE_PARTITIONS}
    assert sizes == {"train": 169, "val": 118, "train_val": 287, "test": 169}
    test = opened.split("test").classes
    assert (len(test), int(test.seen.sum()), test.vectors.shape[1]) == (13, 9, 300)
    glove = Benchmark.open(
        data_dir / "sightsound", "sightsound", "selavi", text="sightsound_glove50", audio_step=0.48
    )
    assert glove.split("val").classes.vectors.shape == (9, 50)


# --- What is said when something is wrong --------------------------------------------


def lists(**changes: tuple[str, ...]) -> Callable[[Path], None]:
    return lambda root: write_lists(root, lists={**LISTS, **changes})


def gone(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ({"benchmark": "farm"}, None, "benchmark zoo, not 'farm'"),
        ({"features": "selavi"}, None, "no folder main_features_non_averaged or main_features or selavi"),
        ({"features": "theirs"}, None, "no folder theirs for features 'theirs'; found own"),
        ({"split": "dev"}, None, "split 'dev': no folder .*dev_split; the splits here are cls, main"),
        ({"text_alignment": "mixed"}, None, "'mixed' is unknown; expected one of aligned, published"),
        ({}, gone("class-split/all_class.txt"), r"all_class\.txt: no such file"),
        ({}, gone("class-split/main_split/stage_1_val_seen.txt"), r"stage_1_val_seen\.txt: no such file"),
        ({}, gone("features/own/text/word_embeddings_zoo_normed.npz"), r"word_embeddings_zoo_normed\.npz or"),
        ({}, gone("features/own/clips.json"), r"clips\.json: no such file"),
        ({}, gone("features/own/clips.safetensors"), r"clips\.safetensors: no such file"),
        ({}, lists(stage_1_train=(*TRAIN, "Gnu")), r"stage_1_train\.txt: class 'Gnu' is not in all_class"),
        ({}, lists(stage_1_val_unseen=("Bee", "Fox", "ant")), "ant must not be in stage_1_train"),
        ({}, lists(stage_2_test_unseen=("Ape", "Bee")), "Bee must not be in stage_1_train or"),
        ({}, lists(stage_1_val_seen=(*TRAIN, "Yak")), "Yak must be in stage_1_train as well"),
        ({}, lists(stage_2_test_seen=("Bee", "Yak")), "Yak must be in stage_1_train or stage_1_val_unseen"),
    ],
)
def test_mistakes(
    own_zoo: Path, arguments: dict[str, str], change: Callable[[Path], None] | None, message: str
) -> None:
    if change:
        change(own_zoo)
    arguments = {"benchmark": "zoo", "features": "own", **arguments}
    with pytest.raises(SacmaError, match=message) as raised:
        Benchmark.open(own_zoo, **arguments)
    assert "\n" not in str(raised.value)


def test_unknown_stage(zoo: Path) -> None:
    with pytest.raises(
        SacmaError, match="stage 'dev' is unknown; expected one of train, val, train_val, test"
    ):
        Benchmark.open(zoo, "zoo", "own").split("dev")


def test_no_such_root(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="no such folder"):
        Benchmark.open(tmp_path / "nowhere", "ucf", "selavi")


def test_a_root_without_the_benchmark_lists_what_is_there(tmp_path: Path) -> None:
    write_zoo(tmp_path / "VGGSound")
    with pytest.raises(SacmaError, match=r"no benchmark 'ucf'.* in UCF/, found VGGSound"):
        Benchmark.open(tmp_path, "ucf", "selavi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SacmaError, match="found no folders"):
        Benchmark.open(tmp_path / "empty", "ucf", "selavi")


def test_a_features_folder_without_clips(tmp_path: Path) -> None:
    write_ucf(tmp_path)
    for file in (tmp_path / "features" / "main_features_non_averaged").glob("clips.*"):
        file.unlink()
    with pytest.raises(SacmaError, match="audio/ and video/ in it"):
        Benchmark.open(tmp_path, "ucf", "selavi")
    write_ucf(tmp_path, "own")
    (tmp_path / "features" / "own" / "clips.json").unlink()
    (tmp_path / "features" / "own" / "clips.safetensors").unlink()
    with pytest.raises(SacmaError, match="own: no clips here"):
        Benchmark.open(tmp_path, "ucf", "own")
