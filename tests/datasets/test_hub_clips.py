"""Hugging Face data sets with clips inside: features, answers, a benchmark with the published classes."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from commands import Outcome, sacma

pytest.importorskip("datasets")
pytest.importorskip("av")

import datasets
from clip_files import write_clip
from sacma.data.benchmark import Benchmark
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.paper import published_benchmarks
from sacma.datasets.hub_clips import HubClips
from sacma.datasets.own_clips import make_benchmark, own_encoder
from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName
from sacma.frozen.scores import Names, Scores
from sacma.media import extract_stream as streaming
from sacma.media import workers
from sacma.media.backbones import open_backbone
from sacma.media.decode import Clip, Film, Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.media.sources import ClipSource
from sacma.media.workers import Task
from sacma.predict import frozen_predictor

CLASSES = ("Archery", "PlayingCello")
KINDS = {"video": "clip", "audio": "clap"}
DESCRIPTORS = Task("descriptors", {}, Limits())


def _bytes(folder: Path, number: int, *, suffix: str, **options: bool) -> bytes:
    path = folder / f"{number}{suffix}"
    write_clip(path, seconds=1.0, quadrant=number % 4, pitch=300.0 * (number + 1), **options)
    return path.read_bytes()


def write_set(root: Path, scratch: Path, *, sound: bool = True, labels: Sequence[int] = (0, 1, 0)) -> Path:
    """A data set as it lies on the hub: silent videos, their sound in a column of its own, a class label."""
    features = {"video": datasets.Video(), "label": datasets.ClassLabel(names=list(CLASSES))}
    features |= {"audio": datasets.Audio(sampling_rate=16_000)} if sound else {}
    scratch.mkdir(exist_ok=True)
    rows: dict[str, list[object]] = {
        "video": [
            {
                "bytes": _bytes(scratch, number, suffix=".mp4", audio=not sound),
                "path": f"v_{CLASSES[label]}_g{number:02d}_c01.avi",
            }
            for number, label in enumerate(labels)
        ],
        "label": list(labels),
    }
    if sound:
        rows["audio"] = [
            {"bytes": _bytes(scratch, number, suffix=".m4a", video=False), "path": None}
            for number in range(len(labels))
        ]
    schema = datasets.Features(features).arrow_schema
    (root / "data").mkdir(parents=True)
    for split, picked in (("train", slice(0, 2)), ("test", slice(2, None))):
        table = pa.Table.from_pydict({name: rows[name][picked] for name in schema.names}, schema=schema)
        pq.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet")
    return root


def extract(folder: Path, out: Path) -> Outcome:
    return sacma("extract", f"hf:{folder}", "--backbone=descriptors", f"--out={out}", "--jobs=1")


class AlwaysTheFirst:
    """A frozen model that hears every clip and gives the first name the highest score."""

    name, modalities, calibrated, sigmoid_bias, advice = "first", ("audio", "video"), False, None, ""
    backbone = open_backbone("descriptors")

    def features(self, clip: ClipSource, **part: Any) -> ClipFeatures:
        made = extract_clip(clip, self.backbone, **part)
        assert made.audio is not None
        return made

    def names(self, given: Sequence[ClassName], *, on_progress: Any = None) -> Names:
        return Names(tuple(given), {})

    def scores(self, features: ClipFeatures, windows: Sequence[Any], names: Names) -> Scores:
        return Scores(np.tile(-np.arange(len(names), dtype=np.float64), (len(windows), 1)), {})

    def because(self, *_: object) -> tuple[str, ...]:
        return ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("scratch")
    return write_set(tmp_path_factory.mktemp("set"), scratch)


def test_rows_become_files_with_class_and_group_that_go_when_they_are_done(folder: Path) -> None:
    with HubClips(f"hf:{folder}") as clips:
        assert clips.classes == CLASSES
        assert clips.splits == ("train", "test")
        names = []
        for name, clip in clips.files():
            names.append((name, clip.class_name, clip.group))
            opened = Clip.open(clip.source)
            assert isinstance(clip.source, Film)
            assert (opened.has_audio, opened.has_video) == (True, True)
            assert sum(map(len, opened.waveform(rate=8000))) > 6000
            clips.release(clip)
            assert not clip.path.exists()
            assert not clip.source.sound.exists()
        assert names == [
            ("train/000000", "Archery", "v_Archery_g00"),
            ("train/000001", "PlayingCello", "v_PlayingCello_g01"),
            ("test/000000", "Archery", "v_Archery_g02"),
        ]
        assert [name for name, _ in clips.files(2)] == ["test/000000"]


def test_a_part_and_a_number_of_clips_can_be_named(folder: Path) -> None:
    with HubClips(f"hf:{folder}#train[:1]") as clips:
        assert [name for name, _ in clips.files()] == ["train/000000"]
        assert clips.provenance["dataset_splits"] == {"train": 1}


def test_a_saved_set_is_read_as_well(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "data" / "test-00000-of-00001.parquet")
    datasets.DatasetDict(test=datasets.Dataset(table)).save_to_disk(str(tmp_path / "saved"))
    with HubClips(f"hf:{tmp_path / 'saved'}") as clips:
        assert [clip.class_name for _, clip in clips.files()] == ["Archery"]


def test_features_of_a_set_are_those_of_its_files(folder: Path, tmp_path: Path) -> None:
    outcome = sacma(
        "extract", f"hf:{folder}", "--backbone=descriptors", f"--out={tmp_path / 'out'}", "--jobs=1"
    )
    assert outcome.status == 0, outcome.err
    features = Features.open(tmp_path / "out")
    features.verify()
    assert list(features.names) == ["train/000000", "train/000001", "test/000000"]
    assert features.provenance["dataset"] == str(folder)
    assert features.provenance["backbone"] == "descriptors"
    assert features.groups() == ["v_Archery_g00", "v_PlayingCello_g01", "v_Archery_g02"]
    backbone = DESCRIPTORS.open()
    with HubClips(f"hf:{folder}") as clips:
        for row, (_, clip) in enumerate(clips.files()):
            opened = Clip.open(clip.source)
            heard = backbone.audio.encode(opened.waveform(rate=backbone.audio.rate))
            assert heard is not None
            assert np.array_equal(features.audio.gather(torch.tensor([row])).values.numpy(), heard.values)


def test_a_set_that_does_not_say_how_large_it_is_is_never_said_to_be_done(
    folder: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    with HubClips(f"hf:{folder}") as clips:
        assert clips.total is None
        on_progress = lambda done, total: told.append((done, total))  # noqa: E731
        streaming.extract_stream(clips, tmp_path / "out", DESCRIPTORS, jobs=1, on_progress=on_progress)
    assert told == [(1, 2), (2, 3), (3, 4)]


def test_an_extraction_that_was_broken_off_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HubClips.files

    def breaking(self: HubClips, start: int = 0):  # type: ignore[no-untyped-def]
        for number, found in enumerate(real(self, start), start=start):
            if number == 2:
                raise SacmaError("the line is cut")
            yield found

    with monkeypatch.context() as patched, HubClips(f"hf:{folder}") as clips:
        patched.setattr(workers, "_AHEAD", 1)
        patched.setattr(HubClips, "files", breaking)
        with pytest.raises(SacmaError, match="the line is cut"):
            streaming.extract_stream(clips, tmp_path / "out", DESCRIPTORS, jobs=1)
    asked = []
    with HubClips(f"hf:{folder}") as clips:
        monkeypatch.setattr(HubClips, "files", lambda self, start=0: asked.append(start) or real(self, start))
        made = streaming.extract_stream(clips, tmp_path / "out", DESCRIPTORS, jobs=1)
    assert made.clips == 3
    assert asked[0] > 0


def test_a_broken_clip_costs_itself_alone(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", tmp_path / "scratch", sound=False)
    file = root / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(file)
    rows = table.to_pydict()
    rows["video"][1]["bytes"] = b"no film" * 50
    pq.write_table(pa.Table.from_pydict(rows, schema=table.schema), file)
    outcome = sacma(
        "extract", f"hf:{root}", "--backbone=descriptors", f"--out={tmp_path / 'out'}", "--jobs=1"
    )
    assert outcome.status == 0, outcome.err
    assert list(Features.open(tmp_path / "out").names) == ["train/000000", "test/000000"]
    assert "train/000001: not a media file" in (tmp_path / "out" / "failures.csv").read_text()


def test_answers_for_a_set_and_their_accuracy_as_mteb_takes_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_predictor, "open_frozen", lambda *_, **__: AlwaysTheFirst())
    out, results = tmp_path / "answers.json", tmp_path / "results"
    outcome = sacma("predict", f"hf:{folder}", f"--out={out}", f"--mteb={results}")
    assert outcome.status == 0, outcome.err
    answers = json.loads(out.read_text())["predictions"]
    assert [one["clip"] for one in answers] == ["train/000000", "train/000001", "test/000000"]
    assert answers[0]["answers"][0]["name"] == "Archery"
    assert "66.7 % of 3 clips named rightly" in outcome.err
    (file,) = (path for path in results.rglob("*.json") if path.name != "model_meta.json")
    result = json.loads(file.read_text())
    score = {"hf_subset": "default", "languages": ["eng-Latn"], "top_5_accuracy": 1.0}
    assert result["scores"]["train"] == [score | {"accuracy": 0.5, "main_score": 0.5}]
    assert result["scores"]["test"] == [score | {"accuracy": 1.0, "main_score": 1.0}]
    assert (result["dataset_revision"], result["mteb_version"]) == ("local", None)
    assert json.loads((file.parent / "model_meta.json").read_text())["name"] == "sacma/first"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:{folder}#valid", "no part 'valid'; it has: train, test"),
        ("hf:{folder}#test[1:]", "expected hf:NAME"),
        ("hf:{empty}", "cannot read the data set"),
    ],
)
def test_mistakes_are_one_line(folder: Path, tmp_path: Path, source: str, said: str) -> None:
    named = source.format(folder=folder, empty=tmp_path)
    assert said in sacma("extract", named, f"--out={tmp_path / 'out'}").line


def test_a_set_without_videos_or_classes_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "set" / "train.parquet")
    with pytest.raises(SacmaError, match="no column of videos; its columns: text"):
        HubClips(f"hf:{tmp_path / 'set'}")


def test_a_set_stands_alone_and_is_read_whole(folder: Path, tmp_path: Path) -> None:
    assert "name the data set alone" in sacma("extract", f"hf:{folder}", "x.mp4", f"--out={tmp_path}").line
    assert "read whole" in sacma("extract", f"hf:{folder}", "--start=1", f"--out={tmp_path / 'o'}").line
    assert "--mteb without a data set" in sacma("predict", "x.mp4", f"--mteb={tmp_path}").line


@pytest.mark.parametrize("split", ["main", "cls"])
def test_a_benchmark_has_the_published_classes(tmp_path: Path, split: str) -> None:
    facts = published_benchmarks()["ucf"]
    names = [*(name for name, part in facts.parts.items() if part != "unused"), "Juggling2"]
    with FeaturesWriter(
        tmp_path / "features",
        names,
        audio_width=2,
        video_width=2,
        audio_step=1.0,
        video_step=1.0,
        provenance={"dataset": "mteb/UCF101-51VA"},
    ) as writer:
        for label in range(len(names)):
            for number in range(4):
                step = np.full((1, 2), label, np.float32)
                writer.add(f"{label}-{number}", label, -1, step, step, group=f"{label}-{number // 2 * 2}")
                writer.add(f"{label}-{number}b", label, -1, step, step, group=f"{label}-{number + 10}")
    made = make_benchmark(
        Features.open(tmp_path / "features"),
        tmp_path / "UCF",
        like=("ucf", split),
        encoder={"encoder": "glove"},
    )
    benchmark = Benchmark.open(made.root, "ucf", made.features, split=split)
    for partition, classes in benchmark.partition_classes.items():
        assert set(classes) == set(facts.partition_classes(partition, split)), partition
    assert "Juggling2" not in benchmark.classes
    assert benchmark.split_name == split
    assert len(benchmark.split("test")) > 0


def test_a_published_split_names_the_classes_that_are_missing(folder: Path, tmp_path: Path) -> None:
    extract(folder, tmp_path / "out")
    outcome = sacma("data", "split", tmp_path / "out", "--like=ucf")
    assert "classes of the split main of UCF-GZSL; extract all parts" in outcome.line


def test_features_of_clip_and_clap_get_the_frozen_row(tmp_path: Path) -> None:
    """Class vectors come from the text encoders of both models, pictures first, as the towers encode them."""
    pytest.importorskip("transformers")
    import joint_models
    from sacma.frozen.encoders.clap import ClapTower
    from sacma.frozen.encoders.clip import ClipTower

    models = {
        "video": joint_models.clip(tmp_path / "clip"),
        "audio": joint_models.clap(tmp_path / "clap"),
    }
    towers = {"video": ClipTower(str(models["video"])), "audio": ClapTower(str(models["audio"]))}
    names = [f"{first} {second}" for first in ("ant", "bee", "cow") for second in ("sings", "runs", "sits")]
    text = {kind: tower.texts(names)[0][kind] for kind, tower in towers.items()}
    made_by = {kind: {"name": name, "model": str(models[kind])} for kind, name in KINDS.items()}
    draw = np.random.default_rng(0)
    with FeaturesWriter(
        tmp_path / "features",
        names,
        audio_width=text["audio"].shape[1],
        video_width=text["video"].shape[1],
        audio_step=1.0,
        video_step=1.0,
        provenance={"backbone": "clip-clap", **made_by},
    ) as writer:
        for label in range(len(names)):
            for number in range(4):
                steps = [
                    rows[label][None] + 0.001 * draw.standard_normal((2, rows.shape[1]), dtype=np.float32)
                    for rows in (text["audio"], text["video"])
                ]
                writer.add(f"{label}-{number}", label, -1, *steps)
    opened = Features.open(tmp_path / "features")
    made = make_benchmark(opened, tmp_path / "own", encoder=own_encoder(opened))
    benchmark = Benchmark.open(made.root, made.name, made.features)
    expected = np.concatenate([text["video"], text["audio"]], axis=1) / np.sqrt(2)
    rows = [names.index(name) for name in benchmark.classes]
    assert np.allclose(benchmark.vectors.numpy(), expected[rows], atol=1e-5)
    options = ("--benchmark=own", "--features=clip-clap", f"--root={made.root}", "--like=ours", "--seeds=1")
    outcome = sacma("reproduce", "table2", "--row=frozen", *options, f"--out={tmp_path / 'runs'}")
    assert outcome.status == 0, outcome.err
    (table,) = (tmp_path / "runs").rglob("table2.csv")
    row = next(csv.DictReader(table.read_text().splitlines()))
    assert (row["row"], row["ZSL"]) == ("frozen", "100.0")
    assert float(row["HM"]) > 80  # the bias of validation costs a seen clip
