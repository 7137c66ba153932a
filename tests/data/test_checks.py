"""The check of a folder: complete ones pass, and every kind of gap is named."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from benchmark_folders import CLIPS, clip_name, write_clip_lists, write_clips, write_lists, write_zoo
from sacma.data.checks import CheckReport, check, clip_key
from sacma.data.class_lists import PARTITIONS
from sacma.data.paper import published_benchmarks
from sacma.datasets.simulated import simulate
from sacma.errors import SacmaError
from sacma.files import write_text


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    root = write_zoo(tmp_path / "zoo")
    write_clip_lists(root)
    return root


def again(root: Path, clips: dict[str, dict[str, int]]) -> None:
    """Features with other numbers of clips."""
    shutil.rmtree(root / "features" / "own")
    write_clips(root / "features" / "own", clips)


def body(report: CheckReport) -> list[str]:
    """The lines that say that something is not as it should be."""
    return [line for line in report.lines()[1:-1] if not line.endswith(": ok")]


@pytest.mark.parametrize("split", ["main", "cls"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_complete_folder(zoo: Path, split: str, listed: bool) -> None:
    if not listed:
        for path in (zoo / "class-split" / "main_split").glob("*.csv"):
            path.unlink()
    report = check(zoo, "zoo", "own", split=split)
    assert report.ok
    assert body(report) == []
    counts = "4 of 4" if listed else "4"
    if split == "main":
        source = "lists of the folder" if listed else "class list"
        assert f"stage_2_test_unseen: 2 of 2 classes, {counts} clips ({source}): ok" in report.lines()
    else:
        assert (report.partitions[-1].classes, report.partitions[-1].clips) == (1, 2)
    assert report.lines()[-1] == "complete"


def test_missing_and_surplus_clips_are_named(zoo: Path) -> None:
    train = {**CLIPS["stage_1_train"], "Cat": 1, "Dog": 4}
    again(zoo, {**CLIPS, "stage_1_train": train})
    report = check(zoo, "zoo", "own")
    assert not report.ok
    assert body(report) == [
        "stage_1_train: 3 of 3 classes, 7 of 6 clips (lists of the folder): NOT as expected",
        "  Cat: 1 clips, expected 2",
        f"    missing {clip_name('stage_1_train', 'Cat', 1)}",
        "  Dog: 4 clips, expected 2",
        f"    surplus {clip_name('stage_1_train', 'Dog', 2)}",
        f"    surplus {clip_name('stage_1_train', 'Dog', 3)}",
    ]
    assert report.lines()[-1] == "not complete"


def test_equal_counts_of_other_clips_are_no_match(zoo: Path) -> None:
    path = zoo / "class-split" / "main_split" / "stage_1_train.csv"
    path.write_text(path.read_text().replace(clip_name("stage_1_train", "Cat", 0), "Cat_other"))
    (cat,) = check(zoo, "zoo", "own").partitions[0].differences
    assert (cat.found, cat.expected) == (2, 2)
    assert cat.missing == ("Cat_other",)
    assert cat.surplus == (clip_name("stage_1_train", "Cat", 0),)


def test_a_class_without_clips(zoo: Path) -> None:
    for path in (zoo / "class-split" / "main_split").glob("*.csv"):
        path.unlink()
    again(zoo, {**CLIPS, "stage_1_val_unseen": {"Bee": 2}})
    report = check(zoo, "zoo", "own")
    assert body(report) == [
        "stage_1_val_unseen: 1 of 2 classes, 2 clips (class list): NOT as expected",
        "  Fox: no clips",
    ]


def test_clips_of_a_class_that_is_not_listed(zoo: Path) -> None:
    again(zoo, {**CLIPS, "stage_1_train": {**CLIPS["stage_1_train"], "Yak": 3}})
    (yak,) = check(zoo, "zoo", "own").partitions[0].differences
    assert (yak.class_name, yak.found, yak.expected) == ("Yak", 3, 0)


def test_a_share_on_purpose_is_complete(zoo: Path) -> None:
    half = {part: dict.fromkeys(counts, 1) for part, counts in CLIPS.items()}
    again(zoo, half)
    assert not check(zoo, "zoo", "own").ok
    report = check(zoo, "zoo", "own", share=0.5)
    assert report.ok, report.lines()
    line = "stage_1_train: 3 of 3 classes, 3 of 6 clips (lists of the folder, 50.0 % on purpose): ok"
    assert line in report.lines()


def test_a_share_still_needs_every_class_and_no_clip_too_many(zoo: Path) -> None:
    again(zoo, {**CLIPS, "stage_1_train": {"Cat": 1, "Dog": 3}})
    report = check(zoo, "zoo", "own", share=0.5)
    assert not report.ok
    assert "  ant: no clips, expected 2" in [line.replace("0 clips", "no clips") for line in body(report)]
    assert "  Dog: 3 clips, expected 2" in body(report)
    whole = check(zoo, "zoo", "own", share=0.01)  # far more than so small a share
    assert not whole.ok
    with pytest.raises(SacmaError, match="the share is 0; it must be above 0"):
        check(zoo, "zoo", "own", share=0)


def test_simulated_features_say_their_share(tmp_path: Path) -> None:
    simulate("ucf", tmp_path / "ucf", clips_share=0.1)
    report = check(tmp_path / "ucf", "ucf", "simulated")
    assert report.ok, report.lines()[:8]
    assert sum(part.clips for part in report.partitions) < 0.2 * sum(
        part.expected_clips or 0 for part in report.partitions
    )


def test_damaged_features(zoo: Path) -> None:
    path = zoo / "features" / "own" / "clips.safetensors"
    content = bytearray(path.read_bytes())
    at = content.rindex(b"Cat_")
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(SacmaError, match=r"clips\.safetensors: the checksum of name\.bytes"):
        check(zoo, "zoo", "own")


def test_on_screen_nothing_is_taken_for_markup(zoo: Path) -> None:
    train = zoo / "class-split" / "main_split" / "stage_1_train.csv"
    train.write_text(train.read_text() + "[red]x,Cat,2\n")
    console = Console(file=io.StringIO(), width=200, record=True)
    report = check(zoo, "zoo", "own")
    console.print(report)
    assert console.export_text().splitlines() == report.lines() == str(report).splitlines()
    assert "    missing [red]x" in report.lines()


# --- Official files -------------------------------------------------------------------------------


def write_class_file(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["data"] = np.zeros((len(names), 2), dtype=np.float32)
            file["video_urls"] = np.array(names, dtype="S80")
        return
    features = [np.zeros((3, 2), dtype=np.float32) for _ in names]
    content = {
        "features": features,
        "video_names": [name.encode() for name in names],
        "fps": [25] * len(names),
    }
    path.write_bytes(pickle.dumps(content))


@pytest.fixture(params=[".pkl", ".h5"])
def official_zoo(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The zoo in the official format; test_unseen has its clips under names with folder and extension."""
    root = tmp_path / "zoo"
    write_lists(root)
    write_clip_lists(root)
    for partition, classes in CLIPS.items():
        for name, count in classes.items():
            names = [clip_name(partition, name, number) for number in range(count)]
            if partition == "stage_2_test_unseen":
                names = [f"videos/{clip}.avi" for clip in names]
            for modality in ("audio", "video"):
                path = root / "features" / "main_features" / modality / partition / f"{name}{request.param}"
                write_class_file(path, names)
    return root


def test_official_files_need_no_length_of_a_step(official_zoo: Path) -> None:
    report = check(official_zoo, "zoo", "main_features")
    assert report.ok, report
    assert report.path == official_zoo / "features" / "main_features"


def test_gaps_in_official_files(official_zoo: Path) -> None:
    folder = official_zoo / "features" / "main_features"
    (dog,) = (folder / "video" / "stage_1_train").glob("Dog.*")
    first, second = (clip_name("stage_1_train", "Dog", number) for number in range(2))
    write_class_file(dog, [second, "Dog_new"])
    for modality in ("audio", "video"):
        (bee,) = (folder / modality / "stage_1_val_unseen").glob("Bee.*")
        bee.unlink()
        shutil.rmtree(folder / modality / "stage_2_test_unseen")
    report = check(official_zoo, "zoo", "main_features")
    train, _, val_unseen, _, test_unseen = report.partitions
    (difference,) = train.differences
    assert difference.lines() == [
        "Dog: 1 clips, expected 2",
        f"  missing {first}",
        f"  audio only {first}",
        "  video only Dog_new",
    ]
    assert (val_unseen.classes, val_unseen.expected_classes, val_unseen.clips) == (1, 2, 2)
    assert [one.class_name for one in val_unseen.differences] == ["Bee"]
    assert (test_unseen.classes, test_unseen.clips) == (0, 0)
    assert not report.ok


def test_sightsound(data_dir: Path) -> None:
    report = check(data_dir / "sightsound", "sightsound", "main_features_non_averaged")
    assert report.ok, report
    assert [part.clips for part in report.partitions] == [169, 23, 95, 36, 133]


# --- The benchmarks of the paper ------------------------------------------------------------------


def published_folder(root: Path, name: str, clips: dict[str, dict[str, int]]) -> Path:
    write_clips(root / "features" / "own", clips)
    return root


def as_published(name: str) -> dict[str, dict[str, int]]:
    return {partition: dict(counts) for partition, counts in published_benchmarks()[name].class_clips.items()}


@pytest.mark.parametrize("split", ["main", "cls"])
def test_published_counts(tmp_path: Path, split: str) -> None:
    clips = as_published("ucf")
    report = check(published_folder(tmp_path, "ucf", clips), "ucf", "own", split=split)
    assert report.ok, report
    last = report.partitions[-1]
    assert (last.classes, last.clips) == ((9, 1267) if split == "main" else (6, 845))
    assert last.source == "as published"


def test_published_counts_of_classes(tmp_path: Path) -> None:
    clips = as_published("ucf")
    clips["stage_1_train"]["Archery"] -= 1
    clips["stage_1_train"]["Biking"] = clips["stage_1_train"].get("Biking", 0) + 1
    report = check(published_folder(tmp_path, "ucf", clips), "ucf", "own")
    named = {one.class_name: (one.found, one.expected) for one in report.partitions[0].differences}
    assert named["Archery"] == (116, 117)
    assert set(named) == {"Archery", "Biking"}
    assert not report.ok


def test_vggsound_has_totals_only(tmp_path: Path) -> None:
    facts = published_benchmarks()["vggsound"]
    clips = {one: dict.fromkeys(facts.partition_classes(one, "main"), 1) for one in PARTITIONS}
    clips["stage_2_test_unseen"] = dict.fromkeys(facts.partition_classes(PARTITIONS[-1], "main"), 50)
    report = check(published_folder(tmp_path, "vggsound", clips), "vggsound", "own")
    assert [part.ok for part in report.partitions] == [False, False, False, False, True]
    assert body(report)[0].startswith("stage_1_train: 138 of 138 classes, 138 of 70351 clips (as published)")
    assert not any(part.differences for part in report.partitions)


def test_class_lists_that_are_not_the_published_ones(tmp_path: Path) -> None:
    facts = published_benchmarks()["ucf"]
    root = published_folder(tmp_path, "ucf", as_published("ucf"))
    write_text(root / "class-split" / "all_class.txt", "\n".join(facts.classes))
    for partition in PARTITIONS:
        names = set(facts.partition_classes(partition, "main"))
        if partition == "stage_2_test_unseen":
            names = names - {"Typing"} | {"Biking"}
        write_text(root / "class-split" / "main_split" / f"{partition}.txt", "\n".join(names))
    report = check(root, "ucf", "own")
    assert [part.ok for part in report.partitions] == [True] * 4 + [False]
    assert report.partitions[-1].class_list == ("class list lacks Typing", "class list has Biking too")


def test_official_lists_name_the_clips(data_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dir / "benchmarks" / "UCF" / "class-split", tmp_path / "class-split")
    published_folder(tmp_path, "ucf", as_published("ucf"))
    train = check(tmp_path, "ucf", "own").partitions[0]
    assert (train.classes, train.clips) == (30, 3174)
    archery = next(one for one in train.differences if one.class_name == "Archery")
    assert (archery.found, archery.expected) == (117, 117)
    assert len(archery.missing) == len(archery.surplus) == 117
    assert archery.missing[0] == "v_Archery_g01_c01"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("v_Archery_g01_c01", "v_Archery_g01_c01"),
        ("v_Archery_g01_c01.avi", "v_Archery_g01_c01"),
        ("Archery/v_Archery_g01_c01.AVI", "v_Archery_g01_c01"),
        ("C:\\clips\\v_Archery_g01_c01.mp4", "v_Archery_g01_c01"),
        ("b'v_Archery_g01_c01.avi'", "v_Archery_g01_c01"),
        ("-0pJqpNjft4_000267", "-0pJqpNjft4_000267"),
        ("mr. smith", "mr. smith"),
        ("take.2", "take.2"),
        (".mp4", ".mp4"),
        ("b'", "b'"),
    ],
)
def test_names_of_clips(name: str, key: str) -> None:
    assert clip_key(name) == key
