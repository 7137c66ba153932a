"""Simulated benchmarks: counts, labels, repeatability, resume, noise, bad input, and a run on one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commands import sacma
from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.paper import published_benchmarks
from sacma.datasets import simulated as simulation
from sacma.datasets.aligned import AlignedMaps
from sacma.datasets.simulated import LENGTHS, Maps, simulate
from sacma.errors import SacmaError
from sacma.files import read_json
from sacma.runs.config import resolve
from sacma.studies.study import read_study, row_options
from sacma.text.vectors import TextTable

SHARE = 0.01


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class vectors of UCF of our own, near each other as real ones are."""
    names = tuple(sorted(published_benchmarks()["ucf"].text_names.values()))
    draw = np.random.default_rng(1)
    vectors = (draw.standard_normal((len(names), 20)) + draw.standard_normal(20)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("text") / "table.npz"
    TextTable(names, vectors).write(path)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    root = tmp_path_factory.mktemp("simulated")
    outcome = sacma(
        *("data", "simulate", "--like=ucf", f"--root={root}", f"--text={table}", f"--clips-share={SHARE}"),
        "--noise=[0.5,2]",
    )
    assert outcome.status == 0, outcome.err
    assert "say nothing about real videos" in outcome.out
    return root


def test_it_is_a_benchmark_with_the_published_classes(root: Path, table: Path) -> None:
    facts = published_benchmarks()["ucf"]
    for split in ("main", "cls"):
        benchmark = Benchmark.open(root, "ucf", "simulated-2", split=split)
        for partition in PARTITIONS:
            assert benchmark.partition_classes[partition] == facts.partition_classes(partition, split)
        assert {len(benchmark.split(stage)) > 0 for stage in ("train", "val", "train_val", "test")} == {True}
    aligned = Benchmark.open(root, "ucf", "simulated-2")
    given = TextTable.read(table)
    rows = dict(zip(given.names, given.vectors, strict=True))
    for name, vector in zip(aligned.classes, aligned.vectors, strict=True):
        assert np.array_equal(vector.numpy(), rows[facts.text_names[name]])
    published = Benchmark.open(root, "ucf", "simulated-2", text_alignment="published")
    wrong = (aligned.vectors != published.vectors).any(dim=1)
    assert int(wrong.sum()) == 36  # of the 51: 31 that stage 2 trains on, 5 test-unseen


def test_clip_counts_are_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, facts in published_benchmarks().items():
        counts = list(simulation.clip_counts(facts, 1.0))
        for number, partition in enumerate(PARTITIONS):
            of = {facts.classes[label]: count for part, label, count in counts if part == number}
            assert sum(of.values()) == facts.clips(partition, "main"), (name, partition)
            assert set(of) == set(facts.partition_classes(partition, "main"))
            assert all(of[one] == count for one, count in facts.class_clips.get(partition, {}).items())
        tenth = sum(count for _, _, count in simulation.clip_counts(facts, 0.1))
        assert tenth == pytest.approx(sum(count for _, _, count in counts) / 10, rel=0.05)
        assert min(count for _, _, count in simulation.clip_counts(facts, 1e-9)) == 1


def test_a_whole_one_passes_the_check(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "WIDTH", 4)
    monkeypatch.setattr(simulation, "HIDDEN", 4)
    simulate("ucf", tmp_path, text=table)
    outcome = sacma("data", "check", f"--root={tmp_path}", "--benchmark=ucf", "--features=simulated")
    assert outcome.status == 0, outcome.out + outcome.err
    assert "3174 of 3174 clips" in outcome.out


@pytest.mark.parametrize("like", LENGTHS)
def test_lengths(like: str) -> None:
    lengths = LENGTHS[like]
    seconds = lengths.draw(20_000, np.random.default_rng(0))
    assert seconds.min() >= lengths.least
    assert seconds.max() <= lengths.most
    assert seconds.mean() == pytest.approx(lengths.mean, rel=0.05)
    assert (len(np.unique(seconds)) == 1) == (like == "vggsound")


def test_it_is_labelled(root: Path) -> None:
    features = Features.open(root / "features" / "simulated-0.5")
    told = features.provenance
    assert told["simulated"] is True
    assert (told["like"], told["noise"], told["clips_share"], told["seed"]) == ("ucf", 0.5, SHARE, 0)
    assert told["definition"] == simulation.VERSION
    assert all(name.startswith("simulated") for name in features.names[:])
    assert features.audio.width == features.video.width == 512
    assert features.audio.step_seconds == 1
    shorter = features.video.lengths - features.audio.lengths
    assert set(shorter.tolist()) == {0, 1}


def test_noise_is_the_spread_within_a_class(table: Path) -> None:
    """Without noise all clips of a class agree but for the channels' own; more noise moves them apart."""
    vectors = TextTable.read(table).vectors
    maps = Maps(vectors)

    def means(label: int, noise: float, clips: int = 40) -> np.ndarray[Any, Any]:
        generator = np.random.default_rng([label, 5])
        made = maps.clips(label, np.full(clips, 30), noise, generator)
        return np.stack([video.mean(axis=0) for _, video in made])

    within = [means(0, noise).std(axis=0).mean() for noise in (0.0, 0.5, 1.0, 2.0)]
    assert within[0] == pytest.approx(0.5 / np.sqrt(30), rel=0.1)
    assert within == sorted(within)
    # A channel has mean 0 and deviation 1 over the classes.
    centres = np.concatenate([means(label, 0.0, clips=1) for label in range(len(vectors))])
    assert np.abs(centres.mean(axis=0)).max() < 0.06
    assert centres.std(axis=0) == pytest.approx(1, rel=0.1)
    drawn = maps.noise(50_000, np.random.default_rng(0))
    assert np.cov(drawn.T) == pytest.approx(np.cov(vectors.T, bias=True), abs=1e-3)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_same_seed_same_features_and_noise_alone_differs(root: Path, tmp_path: Path, table: Path) -> None:
    again = simulate("ucf", tmp_path, text=table, clips_share=SHARE, noise=2, features="simulated-2")
    assert _content(again) == _content(root / "features" / "simulated-2")
    less, more = (Features.open(root / "features" / f"simulated-{noise}") for noise in ("0.5", "2"))
    assert torch.equal(less.video.offsets, more.video.offsets)
    assert not torch.equal(less.video.values, more.video.values)
    other = simulate("ucf", tmp_path, text=table, clips_share=SHARE, noise=2, seed=1, features="simulated-b")
    assert not torch.equal(Features.open(other).video.offsets, more.video.offsets)


def test_an_interrupted_simulation_goes_on(root: Path, tmp_path: Path, table: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    def go(**more: Any) -> Path:
        given: dict[str, Any] = {"clips_share": SHARE, "noise": 2.0, "features": "simulated-2"}
        return simulate("ucf", tmp_path, text=table, **given | more)

    for more in ({}, {"noise": 1.0}):  # what was left with other arguments is not mixed in
        with pytest.raises(KeyboardInterrupt):
            go(on_progress=interrupt, **more)
        assert not (tmp_path / "features" / "simulated-2" / "clips.json").exists()
    told: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        go(on_progress=interrupt)
    made = go(on_progress=lambda done, total: told.append((done, total)))
    assert _content(made) == _content(root / "features" / "simulated-2")
    assert told[-1][0] == told[-1][1]


def test_class_vectors_are_taken_from_where_they_are(tmp_path: Path, root: Path, table: Path) -> None:
    official = tmp_path / "official" / "UCF"
    vectors = official / "features" / "main_features_non_averaged" / "text"
    vectors.mkdir(parents=True)
    (vectors / "word_embeddings_ucf_normed.npz").write_bytes(table.read_bytes())
    expected = _content(root / "features" / "simulated-2")["clips.safetensors"]
    given: dict[str, Any] = {"clips_share": SHARE, "noise": 2}
    for where, text in ((tmp_path / "out", tmp_path / "official"), (official, None)):
        made = simulate("ucf", where, text=text, **given)
        assert _content(made)["clips.safetensors"] == expected
        assert str(vectors) in Features.open(made).provenance["class_vectors"]


def test_made_up_vectors_are_said_to_be(tmp_path: Path) -> None:
    outcome = sacma("data", "simulate", "--like=ucf", f"--root={tmp_path}", "--clips-share=1e-9")
    assert outcome.status == 0, outcome.err
    assert "class vectors: made up: random directions" in outcome.out
    assert len(Benchmark.open(tmp_path, "ucf", "simulated").split("test").classes) == 51


MISTAKES = [
    (["--like=kinetics"], "kinetics"),
    (["--clips-share=0"], "--clips-share is 0"),
    (["--clips-share=1.5"], "--clips-share is 1.5"),
    (["--noise=-1"], "noise is -1"),
    (["--noise=loud"], "noise"),
    (["--seed=-1"], "seed is -1"),
    (["--features=selavi"], "begin with 'simulated'"),
    (["--features=simulated/../x"], "begin with 'simulated'"),
    (["--text=/no/such/table.npz"], "/no/such/table.npz"),
]


@pytest.mark.parametrize(("wrong", "named"), MISTAKES, ids=lambda given: " ".join(given)[:40])
def test_mistakes(wrong: list[str], named: str, tmp_path: Path) -> None:
    line = sacma("data", "simulate", "--like=ucf", f"--root={tmp_path / 'x'}", *wrong).line
    assert named in line
    assert not list(tmp_path.iterdir())


def test_a_table_without_a_class_is_refused(tmp_path: Path, table: Path) -> None:
    whole = TextTable.read(table)
    TextTable(whole.names[1:], whole.vectors[1:]).write(tmp_path / "part.npz")
    with pytest.raises(SacmaError, match="no vector for class 'ApplyEyeMakeup'"):
        simulate("ucf", tmp_path / "x", text=tmp_path / "part.npz", clips_share=SHARE)
    folder = tmp_path / "empty" / "UCF" / "features"
    folder.mkdir(parents=True)
    with pytest.raises(SacmaError, match="word_embeddings_ucf_normed"):
        simulate("ucf", tmp_path / "x", text=tmp_path / "empty", clips_share=SHARE)


def test_what_is_there_is_kept(root: Path, table: Path) -> None:
    kept = _content(root / "features" / "simulated-2")
    with pytest.raises(SacmaError, match="holds a set of clips already"):
        simulate("ucf", root, text=table, noise=1, features="simulated-2")
    assert _content(root / "features" / "simulated-2") == kept


@pytest.mark.slow
def test_results_on_it_are_labelled(root: Path, tmp_path: Path) -> None:
    given = ("--benchmark=ucf", f"--root={root}", f"--out={tmp_path}", "--row=eszsl", "--seeds=1")
    outcome = sacma("reproduce", "table2", *given, "--features=[simulated-0.5,simulated-2]")
    assert outcome.status == 0, outcome.err
    assert "SIMULATED ucf, main split, simulated-0.5 features" in outcome.out
    with (tmp_path / "ucf-simulated-0.5+simulated-2-main-published" / "table2.csv").open() as file:
        records = list(csv.DictReader(file))
    assert [(record["row"], record["features"]) for record in records] == [
        *(("eszsl", "simulated-0.5"), ("chance", "simulated-0.5")),
        *(("eszsl", "simulated-2"), ("chance", "simulated-2")),
    ]
    assert {record["simulated"] for record in records} == {"True"}
    assert "printed HM" not in records[0]


@pytest.mark.parametrize("like", ["published", "ours"])
def test_rows_of_the_study_differ_by_the_pairing_alone(like: str) -> None:
    given = {"benchmark": "ucf", "features": "simulated", "root": "anywhere"}
    for method in ("sacma", "tcaf"):
        rows = [row for row in read_study("alignment") if row.options["method"] == method]
        found = [resolve(row_options(row, given, like=like)).options() for row in rows]
        pairings = [options.pop("text_alignment") for options in found]
        assert pairings == ["aligned", "published", "rotated"]
        assert found[0] == found[1] == found[2]


# --- Features that share a space with the class vectors -------------------------------------------


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    root = tmp_path_factory.mktemp("aligned")
    outcome = sacma(
        *("data", "simulate", "--like=ucf", f"--root={root}", f"--text={table}", f"--clips-share={SHARE}"),
        "--noise=2",
        "--aligned=0.5",
    )
    assert outcome.status == 0, outcome.err
    return root


def test_aligned_features_have_class_vectors_of_their_space(aligned: Path, table: Path) -> None:
    opened = Benchmark.open(aligned, "ucf", "simulated")
    told = opened.features.provenance
    assert (told["aligned"], told["definition"], told["simulated"]) == (0.5, "aligned 1", True)
    width = TextTable.read(table).vectors.shape[1]
    assert (opened.features.audio.width, opened.features.video.width) == (width, width)
    assert opened.vectors.shape[1] == 2 * width
    for part in (opened.vectors[:, :width], opened.vectors[:, width:]):  # rotations keep all products
        rows = dict(zip(TextTable.read(table).names, TextTable.read(table).vectors, strict=True))
        names = published_benchmarks()["ucf"].text_names
        given = torch.tensor(np.stack([rows[names[name]] for name in opened.classes]))
        torch.testing.assert_close(part @ part.T, given @ given.T, rtol=1e-4, atol=1e-5)
    steps = opened.features.video.values[:50].float()
    torch.testing.assert_close(steps.norm(dim=1), torch.ones(len(steps)), rtol=1e-3, atol=1e-3)


def test_the_share_is_that_of_the_direction(table: Path) -> None:
    """Without noise and gap a step is as near to its class vector as the share says; the gap moves it."""
    vectors = TextTable.read(table).vectors
    near = {}
    for share in (0.0, 0.5, 1.0):
        maps = AlignedMaps(vectors, aligned=share, shifted=frozenset({1}))
        own = maps.class_vectors(vectors)[:, : vectors.shape[1]]  # of video
        cosines = []
        for label in (0, 1):
            ((_, video),) = maps.clips(label, np.array([1]), 0.0, np.random.default_rng(0))
            cosines.append(float(video[0] @ own[label]))
        near[share] = cosines
    assert near[1.0][0] == pytest.approx(1, abs=1e-5)
    assert near[0.0][0] < near[0.5][0] < near[1.0][0]
    assert near[1.0][1] < 0.99


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_named(share: float, tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match=f"aligned is {share}; it must be a share"):
        simulate("ucf", tmp_path, aligned=share)


def test_the_frozen_score_needs_no_training_on_them(table: Path, tmp_path: Path) -> None:
    root = simulate("ucf", tmp_path / "sim", text=table, clips_share=SHARE, noise=0.5, aligned=1.0).parents[1]
    outcome = sacma(
        *("train", "--method=frozen", "--benchmark=ucf", "--features=simulated", f"--root={root}"),
        f"--out={tmp_path / 'run'}",
    )
    assert outcome.status == 0, outcome.err
    assert read_json(tmp_path / "run" / "result.json")["test"]["zsl"] > 0.9
