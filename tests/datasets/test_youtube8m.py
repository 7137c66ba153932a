"""YT8M-GZSL: shards that the tests write byte by byte become a benchmark folder; bad ones are named."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commands import sacma
from sacma.data.benchmark import Benchmark
from sacma.data.checks import check
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.paper import known_benchmarks
from sacma.datasets.youtube8m import folder as conversion
from sacma.datasets.youtube8m.folder import Converted, convert
from sacma.datasets.youtube8m.topics import (
    EXCLUDED,
    Entry,
    Topic,
    TopicSet,
    draw_parts,
    large_topics,
    listed_topics,
    read_topics,
    read_vocabulary,
    topic_set,
)
from sacma.datasets.youtube8m.videos import dequantised, videos
from sacma.errors import SacmaError
from shards import frame_level, record, video_level, write_shard

AUDIO, VIDEO = 128, 1024
PARTS = {"Cat": "train", "Dog": "train", "Horse": "val_unseen", "Train": "test_unseen"}
LABELS = {"Cat": 170, "Dog": 67, "Horse": 87, "Train": 45}
TOPICS = TopicSet(
    "small", tuple(Topic(name, name, LABELS[name], PARTS[name]) for name in sorted(PARTS)), "for tests"
)


@pytest.fixture
def encoder(tmp_path: Path) -> Mapping[str, Any]:
    """A table of class vectors, so that no encoder has to be installed."""
    path = tmp_path / "vectors.npz"
    names = [*PARTS, "Snow board", *(topic.text_name for topic in listed_topics().topics)]
    np.savez(path, **{name: np.random.default_rng(row).normal(size=5) for row, name in enumerate(names)})
    return {"encoder": "table", "model": str(path)}


def means(name: str, labels: Sequence[int] | None, *, seed: int = 0, **changed: Any) -> bytes:
    """A record at video level."""
    random = np.random.default_rng(seed)
    held = {
        "id": name.encode(),
        "labels": labels,
        "mean_rgb": random.normal(size=VIDEO).astype(np.float32),
        "mean_audio": random.normal(size=AUDIO).astype(np.float32),
    }
    return video_level({key: value for key, value in (held | changed).items() if value is not None})


def frames(name: str, labels: Sequence[int], seconds: int = 3, *, width: int = VIDEO) -> bytes:
    """A record at frame level."""
    random = np.random.default_rng(seconds)
    lists = {
        "rgb": [random.bytes(width) for _ in range(seconds)],
        "audio": [random.bytes(AUDIO) for _ in range(seconds)],
    }
    return frame_level({"id": name.encode(), "labels": list(labels)}, lists)


Make = Callable[[str, Sequence[int]], bytes]


def write_shards(folder: Path, make: Make = means, *, each: int = 12, shards: int = 3) -> Path:
    """Shards with ``each`` videos of each topic in turn, and some that must not be taken."""
    contents = [
        make(f"{name[0]}{number:03}", [label, 2]) for number in range(each) for name, label in LABELS.items()
    ]
    contents += [
        make("both", [LABELS["Cat"], LABELS["Dog"]]),
        make("game", [LABELS["Cat"], 0]),
        make("none", [3]),
    ]
    for shard in range(shards):
        write_shard(folder / f"validate{shard:02}.tfrecord", contents[shard::shards])
    return folder


def test_videos_are_split_by_the_rule(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    made = convert(write_shards(tmp_path / "in"), tmp_path / "out", TOPICS, encoder=encoder)
    assert made.clips == {
        "stage_1_train": 2 * 9,  # of twelve, two are for the test and one for validation
        "stage_1_val_seen": 2 * 1,
        "stage_1_val_unseen": 10,
        "stage_2_test_seen": 3 * 2,
        "stage_2_test_unseen": 12,
    }
    assert (made.without_videos, made.not_found, made.skipped) == ((), 0, ())
    features = Features.open(tmp_path / "out" / "features" / "yt8m_video_level")
    assert {name[0] for name in features.names} == {"C", "D", "H", "T"}  # no "both", "game", "none"
    assert features.provenance["licence"].startswith("CC BY 4.0")
    assert "CC BY 4.0" in (tmp_path / "out" / "NOTICE.txt").read_text()


def test_what_comes_out_opens_checks_and_has_the_values(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    made = convert(write_shards(tmp_path / "in"), tmp_path / "out", TOPICS, encoder=encoder)
    assert check(made.root, "small", made.features).ok
    benchmark = Benchmark.open(made.root, "small", made.features)
    assert benchmark.split("test").classes.names == ("Cat", "Dog", "Horse", "Train")
    assert benchmark.split("test").classes.seen.tolist() == [True, True, True, False]
    row = list(benchmark.features.names).index("C004")
    random = np.random.default_rng(0)
    for track, width in ((benchmark.features.video, VIDEO), (benchmark.features.audio, AUDIO)):
        (values,) = track.values[track.offsets[row] : track.offsets[row + 1]]
        np.testing.assert_array_equal(values.numpy(), random.normal(size=width).astype(np.float32))


def test_frames_are_mapped_back_and_keep_their_seconds(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    shards = write_shards(tmp_path / "in", lambda name, labels: frames(name, labels, 2 + len(name)))
    made = convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    assert made.features == "yt8m_frame_level"
    features = Features.open(made.root / "features" / made.features)
    assert features.video.values.dtype == torch.float16
    assert features.audio.step_seconds == 1.0
    assert set(features.video.lengths.tolist()) == {6}
    random = np.random.default_rng(6)
    wanted = np.frombuffer(b"".join(random.bytes(VIDEO) for _ in range(6)), np.uint8).reshape(6, VIDEO)
    exact = wanted * (4 / 255) + 4 / 512 - 2
    np.testing.assert_allclose(features.video.values[:6].float().numpy(), exact, atol=1e-3)
    # 8-bit values are told apart in half precision: nothing is lost.
    back = np.rint((features.video.values[:6].float().numpy() + 2 - 4 / 512) * 255 / 4)
    np.testing.assert_array_equal(back, wanted)


def test_the_ends_of_the_8_bit_values() -> None:
    np.testing.assert_allclose(dequantised(np.array([0, 255], np.uint8)), [-1.9921875, 2.0078125], rtol=1e-6)


def test_at_most_so_many_videos_of_a_class(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    made = convert(write_shards(tmp_path / "in"), tmp_path / "out", TOPICS, encoder=encoder, per_class=5)
    features = Features.open(made.root / "features" / made.features)
    assert Counter(features.labels.tolist()) == dict.fromkeys(range(4), 5)
    with pytest.raises(SacmaError, match="at least 3"):
        convert(tmp_path / "in", tmp_path / "more", TOPICS, encoder=encoder, per_class=2)


# --- Resuming -------------------------------------------------------------------------------------------


class BrokenOffError(Exception):
    """Stands for a process that ends."""


def _interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Break off in the middle of a shard, as Ctrl-C would, when video ``at`` comes."""
    seen = 0

    def broken(shard: Path) -> Iterable[Any]:
        nonlocal seen
        for video in videos(shard):
            seen += 1
            if seen > at:
                raise BrokenOffError
            yield video

    monkeypatch.setattr(conversion, "videos", broken)


def test_an_interrupted_conversion_goes_on_and_ends_the_same(
    tmp_path: Path, encoder: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "in")
    whole = convert(shards, tmp_path / "whole", TOPICS, encoder=encoder)
    with monkeypatch.context() as patch:
        _interrupt(patch, at=25)
        with pytest.raises(BrokenOffError):
            convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    assert not (tmp_path / "out" / "class-split").exists()
    read: list[str] = []
    monkeypatch.setattr(conversion, "videos", lambda shard: read.append(shard.name) or videos(shard))
    made = convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    assert read == [
        "validate00.tfrecord",
        "validate01.tfrecord",
        "validate02.tfrecord",
    ]  # the first for its level
    assert made.clips == whole.clips
    assert (made.root / "features" / made.features / "clips.safetensors").read_bytes() == (
        whole.root / "features" / whole.features / "clips.safetensors"
    ).read_bytes()


def test_other_choices_begin_anew(
    tmp_path: Path, encoder: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "in")
    with monkeypatch.context() as patch:
        _interrupt(patch, at=25)
        with pytest.raises(BrokenOffError):
            convert(shards, tmp_path / "out", TOPICS, encoder=encoder, per_class=4)
    made = convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    assert sum(made.clips.values()) == 48


def test_class_lists_that_could_not_be_written_are_made_by_the_next_call(
    tmp_path: Path, encoder: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "in")
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "write_class_split", lambda *_: (_ for _ in ()).throw(BrokenOffError))
        with pytest.raises(BrokenOffError):
            convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    made = convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    assert check(made.root, "small", made.features).ok
    with pytest.raises(SacmaError, match="holds a benchmark already"):
        convert(shards, tmp_path / "out", TOPICS, encoder=encoder)


# --- Hostile shards -------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _holding(*contents: bytes) -> Callable[[Path], None]:
    good = [means(f"x{number}", [LABELS["Cat"]]) for number in range(3)]
    return lambda path: path.write_bytes(b"".join(map(record, [*good, *contents])))


CAT = [LABELS["Cat"]]
NAN = np.full(VIDEO, np.nan, dtype=np.float32)
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut short": (_cut, "cut short in the record"),
    "wrong checksum": (_flipped, "checksum"),
    "a web page": (lambda path: path.write_text("<html>404</html>"), "no TFRecord file"),
    "empty": (lambda path: path.write_bytes(b""), "no records"),
    "no message": (_holding(b"\xff\xff"), "is no video of YouTube-8M"),
    "other names": (_holding(means("z", CAT, mean_rgb=None)), "expected mean_rgb and mean_audio"),
    "no id": (_holding(means("z", CAT, id=None)), "without a name"),
    "other width": (_holding(means("z", CAT, mean_rgb=np.ones(512))), "video features are 512 wide"),
    "numbers for bytes": (_holding(means("z", CAT, mean_audio=[1] * AUDIO)), "audio features are 0 wide"),
    "no number": (_holding(means("z", CAT, mean_rgb=NAN)), "NaN"),
    "the test part": (_holding(means("z", [])), "has no labels, as in the test part"),
    "labels missing": (_holding(means("z", None)), "has no labels, as in the test part"),
    "another release": (_holding(means("z", [*CAT, 3862])), "are not below 3,862, as in the 2018 release"),
    "twice": (_holding(means("x0", CAT)), "it is there twice"),
    "two levels": (_holding(frames("z", CAT)), "at frame level"),
    "frame level": (
        lambda path: write_shard(path, [frames("z", CAT)]) and None,
        "the first shard is at video",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_shard_is_named_and_the_rest_goes_on_when_asked_to(
    tmp_path: Path, encoder: Mapping[str, Any], kind: str
) -> None:
    shards = write_shards(tmp_path / "in")
    spoil, message = BAD[kind]
    path = write_shard(shards / "validate99.tfrecord", [means(f"y{number}", CAT) for number in range(9)])
    spoil(path)
    with pytest.raises(SacmaError) as error:
        convert(shards, tmp_path / "out", TOPICS, encoder=encoder)
    assert "validate99.tfrecord" in str(error.value)
    assert message in str(error.value)
    made = convert(shards, tmp_path / "out", TOPICS, encoder=encoder, keep_going=True)
    (trouble,) = made.skipped
    assert "validate99.tfrecord" in trouble
    assert sum(made.clips.values()) == 48  # nothing of the bad shard
    assert check(made.root, "small", made.features).ok


def test_a_bad_first_shard_is_left_out_too(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    shards = write_shards(tmp_path / "in")
    (shards / "validate-0.tfrecord").write_bytes(b"nothing")
    made = convert(shards, tmp_path / "out", TOPICS, encoder=encoder, keep_going=True)
    assert len(made.skipped) == 1
    assert sum(made.clips.values()) == 48


def test_seconds_of_another_width_are_named(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    path = write_shard(tmp_path / "x.tfrecord", [frames("z", CAT, width=1000)])
    with pytest.raises(SacmaError, match=r"x\.tfrecord: video 'z': a second of its video .* 1024 bytes"):
        convert(path, tmp_path / "out", TOPICS, encoder=encoder)


def test_no_shards_and_shards_twice(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    with pytest.raises(SacmaError, match="no such file, or no"):
        convert(tmp_path / "in", tmp_path / "out", TOPICS, encoder=encoder)
    write_shards(tmp_path / "in" / "a")
    write_shards(tmp_path / "in" / "b")
    with pytest.raises(SacmaError, match=r"validate00\.tfrecord is there more than once"):
        convert(tmp_path / "in", tmp_path / "out", TOPICS, encoder=encoder)


def test_topics_without_videos_are_named(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    topics = TopicSet("small", (*TOPICS.topics, Topic("Snow_board", "Snow board", 999, "train")), "for tests")
    shards = write_shards(tmp_path / "in")
    with pytest.raises(SacmaError, match="no videos of Snow_board"):
        convert(shards, tmp_path / "out", topics, encoder=encoder)
    made = convert(shards, tmp_path / "out", topics, encoder=encoder, keep_going=True)
    assert made.without_videos == ("Snow_board",)
    assert Benchmark.open(made.root, "small", made.features).split("test").classes.names == tuple(
        sorted(PARTS)
    )


# --- The 89 topics --------------------------------------------------------------------------------------


def test_the_89_topics_and_their_videos() -> None:
    chosen = listed_topics()
    assert chosen.videos is not None
    assert len(chosen.topics) == 89
    assert len({topic.label for topic in chosen.topics}) == 89
    assert not {topic.label for topic in chosen.topics} & EXCLUDED
    assert Counter(topic.part for topic in chosen.topics) == {
        "train": 53,
        "val_unseen": 20,
        "test_unseen": 16,
    }
    counts = Counter(partition for _, partition in chosen.videos.values())
    facts = known_benchmarks()["yt8m"]
    assert counts == {partition: facts.clips(partition, "main") for partition in PARTITIONS}
    of_class = Counter((name, partition) for name, partition in chosen.videos.values())
    for partition in PARTITIONS:
        assert facts.class_clips[partition] == {
            name: number for (name, where), number in of_class.items() if where == partition
        }
    assert max(Counter(name for name, _ in chosen.videos.values()).values()) == 400


def _listed_shards(folder: Path, *, left_out: int = 0, relabelled: bool = False) -> Path:
    """All 10,529 videos would be 48 MB: the list is cut in the test instead; a third are others."""
    chosen = listed_topics()
    labels = {topic.name: topic.label for topic in chosen.topics}
    contents = [
        means(video, [3, 999 if relabelled else labels[of]])
        for video, (of, _) in (chosen.videos or {}).items()
    ]
    others = [means(f"#{number:03}", [labels["Cat"]]) for number in range(20)]
    write_shard(folder / "validate00.tfrecord", [*contents[left_out:], *others])
    return folder


@pytest.fixture
def few_listed(monkeypatch: pytest.MonkeyPatch) -> TopicSet:
    """The 89 topics with at most two videos a class and partition."""
    chosen = listed_topics()
    kept: Counter[tuple[str, str]] = Counter()
    videos: dict[str, tuple[str, str]] = {}
    for video, place in (chosen.videos or {}).items():
        kept[place] += 1
        if kept[place] <= 2:
            videos[video] = place
    few = TopicSet(chosen.name, chosen.topics, chosen.rule, videos)
    monkeypatch.setitem(globals(), "listed_topics", lambda: few)
    return few


def test_listed_videos_alone_are_taken(
    tmp_path: Path, encoder: Mapping[str, Any], few_listed: TopicSet
) -> None:
    made = convert(_listed_shards(tmp_path / "in"), tmp_path / "out", few_listed, encoder=encoder)
    benchmark = Benchmark.open(made.root, "yt8m", "yt8m")
    features = benchmark.features
    rows = zip(features.names, features.labels.tolist(), features.partitions.tolist(), strict=True)
    assert {name: (features.classes[of], PARTITIONS[part]) for name, of, part in rows} == few_listed.videos
    assert len(benchmark.split("test").classes.names) == 89
    report = check(made.root, "yt8m", "yt8m")  # most of the clips are missing here, and it says so
    assert not report.ok
    assert "of 5252 clips (as published): NOT as expected" in str(report)


def test_listed_videos_that_are_not_there_are_counted(
    tmp_path: Path, encoder: Mapping[str, Any], few_listed: TopicSet
) -> None:
    shards = _listed_shards(tmp_path / "in", left_out=1)
    with pytest.raises(SacmaError, match=r"1 of the .* listed videos are not in the shards"):
        convert(shards, tmp_path / "out", few_listed, encoder=encoder)
    made = convert(shards, tmp_path / "out", few_listed, encoder=encoder, keep_going=True)
    assert made.not_found == 1


def test_shards_of_another_release_are_found_out(
    tmp_path: Path, encoder: Mapping[str, Any], few_listed: TopicSet
) -> None:
    shards = _listed_shards(tmp_path / "in", relabelled=True)
    with pytest.raises(SacmaError, match="use the 2018 release"):
        convert(shards, tmp_path / "out", few_listed, encoder=encoder)


# --- Other topics ---------------------------------------------------------------------------------------

HEADER = ("Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "WikiUrl", "Vertical1", "WikiDescription")


def entry(
    label: int, name: str, vertical: str = "Sports", videos: int = 5000, description: str = ""
) -> Entry:
    return Entry(label, videos, name, vertical, description)


def write_vocabulary(path: Path, entries: Iterable[Entry]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for one in entries:
            rows.writerow((one.label, one.videos, "/m/0", one.name, "", one.vertical, one.description))
    return path


def test_the_table_of_topics_comes_back(tmp_path: Path) -> None:
    entries = (entry(3, "Concert", "Arts & Entertainment", 378135, 'Music, "live"'), entry(120, ""))
    assert read_vocabulary(write_vocabulary(tmp_path / "v.csv", entries)) == entries


@pytest.mark.parametrize("content", ["", "label_id,label_name\n0,Game\n", ",".join(HEADER) + "\nx,1,,,,,\n"])
def test_other_tables_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "v.csv"
    path.write_text(content)
    with pytest.raises(SacmaError, match=r"v\.csv: .*vocabulary\.csv"):
        read_vocabulary(path)


def test_the_rule_of_the_large_set() -> None:
    wanted = [
        entry(100 + number, name)
        for number, name in enumerate(["Rowing", "Horse racing", "Water polo", "Judo", "Go-kart"])
    ]
    drum = entry(200, "Drum", "Arts & Entertainment", description="The drum is a musical instrument.")
    unwanted = [
        entry(0, "Game"),
        entry(201, "Goku", "Arts & Entertainment", description="A character of a manga."),
        entry(202, "Volkswagen Golf", "Autos & Vehicles"),
        entry(203, "FIFA 15"),
        entry(204, "Minecraft", "Games"),
        entry(205, "Vehicle", "Autos & Vehicles", 300_000),
        entry(206, "Curling", videos=999),
        entry(207, ""),
    ]
    chosen = large_topics([*unwanted, *wanted, drum])
    assert {topic.label for topic in chosen.topics} == {one.label for one in (*wanted, drum)}
    assert {"Go-kart", "Water_polo"} <= {topic.name for topic in chosen.topics}
    assert [topic.name for topic in chosen.topics] == sorted(topic.name for topic in chosen.topics)
    with pytest.raises(SacmaError, match="0 topics"):
        large_topics(unwanted)


def test_parts_are_drawn_in_the_shares_of_the_89_topics_and_never_differ() -> None:
    parts = draw_parts(range(89), {})
    assert Counter(parts.values()) == {"train": 53, "val_unseen": 20, "test_unseen": 16}
    assert parts == draw_parts(list(reversed(range(89))), {})
    assert [label for label, part in parts.items() if part == "test_unseen"][:4] == [66, 37, 1, 16]
    given = draw_parts(range(89), {1: "test_unseen", 2: "train"})
    assert (given[1], given[2]) == ("test_unseen", "train")
    assert Counter(given.values()) == Counter(parts.values())


def test_a_list_of_topics(tmp_path: Path) -> None:
    table = [entry(label, name) for name, label in LABELS.items()] + [entry(7, "Drifting (motorsport)")]
    path = tmp_path / "mine.csv"
    path.write_text("topic,part\ncat,\n67,train\nDRIFTING (motorsport),test_unseen\nHorse,\nTrain,\n")
    chosen = read_topics(path, table)
    assert chosen.name == "mine"
    assert {topic.name: topic.label for topic in chosen.topics}["Drifting_motorsport"] == 7
    assert next(topic for topic in chosen.topics if topic.label == 7).text_name == "Drifting motorsport"
    parts = {topic.label: topic.part for topic in chosen.topics}
    assert (parts[67], parts[7]) == ("train", "test_unseen")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("topic\nCat\nDgo\n", "line 3: no topic 'Dgo'"),
        ("name\nCat\n", "line 2: no topic ''"),
        ("topic\nCat\n170\n", "line 3: topic '170' is there twice"),
        ("topic,part\nCat,test\n", "line 2: part 'test'"),
        ("topic\nCat\nDog\n", "2 topics; a benchmark needs at least 4"),
        ("topic,part\nCat,train\nDog,train\nHorse,train\nTrain,train\n", "topics in part val_unseen"),
    ],
)
def test_bad_lists_of_topics(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(lines)
    with pytest.raises(SacmaError, match=message):
        read_topics(path, [entry(label, name) for name, label in LABELS.items()])


def test_a_name_of_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="no such file; give yt8m, yt8m-large"):
        topic_set(str(tmp_path / "mine.csv"))
    with pytest.raises(SacmaError, match=r"needs --vocabulary vocabulary\.csv"):
        topic_set("yt8m-large")
    assert topic_set("yt8m") is listed_topics()


def test_the_command(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    table = write_vocabulary(
        tmp_path / "vocabulary.csv", [entry(label, name) for name, label in LABELS.items()]
    )
    (tmp_path / "mine.csv").write_text(
        "topic,part\n" + "".join(f"{name},{part}\n" for name, part in PARTS.items())
    )
    shards = write_shards(tmp_path / "in")
    (shards / "validate99.tfrecord").write_bytes(b"x")
    arguments = ["data", "youtube8m", str(shards), "--out", str(tmp_path / "out")]
    arguments += ["--topics", str(tmp_path / "mine.csv"), "--vocabulary", str(table)]
    arguments += ["--encoder", "table", "--model", str(encoder["model"])]
    failed = sacma(*arguments)
    assert "validate99.tfrecord" in failed.line
    done = sacma(*arguments, "--keep-going")
    assert done.status == 0, done.err
    assert "left out: " in done.out
    assert "sacma train --benchmark mine --features yt8m_video_level" in done.out


def test_converted_is_whole(tmp_path: Path, encoder: Mapping[str, Any]) -> None:
    made = convert(write_shards(tmp_path / "in"), tmp_path / "out", TOPICS, encoder=encoder)
    assert isinstance(made, Converted)
    assert sorted(path.name for path in made.root.iterdir()) == ["NOTICE.txt", "class-split", "features"]


@pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA is not set")
def test_the_89_topics_are_those_of_the_published_folder() -> None:
    lists = Path(os.environ["SACMA_DATA"]) / "yt8m" / "class-split"
    names = dict(csv.reader((lists / "yt8m_w2v_class_names.csv").read_text().splitlines()[1:]))
    assert {topic.name: topic.text_name for topic in listed_topics().topics} == names
    found: dict[str, tuple[str, str]] = {}
    for partition in PARTITIONS:
        rows = csv.DictReader((lists / "main_split" / f"{partition}.csv").read_text().splitlines())
        found |= {row["filename"].split("_")[0]: (row["label"], partition) for row in rows}
    assert found == listed_topics().videos


@pytest.mark.slow
@pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA is not set")
def test_the_published_folder_is_known_to_be_complete() -> None:
    report = check(Path(os.environ["SACMA_DATA"]) / "yt8m", "yt8m", "yt8m")
    assert report.ok, str(report)
    assert "5252 of 5252 clips (as published): ok" in str(report)
