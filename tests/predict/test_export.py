"""Runs as ONNX graphs, as folders with a model card, and on the hub (a mock)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import commands
import folders
import sacma
from commands import sacma as run_command
from sacma.errors import SacmaError
from sacma.frozen.prior import VECTORS, open_prior
from sacma.models import METHODS
from sacma.models.base import Method
from sacma.models.fused import Fused
from sacma.predict import Predictor, export
from sacma.runs.config import resolve
from sacma.training.deployment import FILES
from sacma.types import Batch, ClassSet, Padded, Sequences

WITHOUT_GRAPH = {"avmst", "avfs", "f-vaegan-d2", "kite-0.1"}
AUDIO, VIDEO, TEXT = 6, 8, 14  # class vectors have a part for each modality


def untrained(name: str, variant: str, **options: Any) -> Method:
    """A small method with weights and statistics drawn at random."""
    torch.manual_seed(0)
    config = resolve({"method": name, "variant": variant, "preset": "small", "benchmark": "x", **options})
    video = AUDIO if name == "avmst" else VIDEO
    method = METHODS[name](audio_width=AUDIO, video_width=video, text_width=TEXT, **config.model)
    for layer in method.modules():
        if isinstance(layer, nn.BatchNorm1d) and layer.running_mean is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    if name == "kite":  # it has nothing to score with before
        method.fit([clips(20, classes=5)], ClassSet(tuple("abcde"), torch.randn(5, TEXT), torch.ones(5) > 0))
    return method.eval()


def clips(count: int, *, classes: int) -> Batch:
    """Clips of 1 to 6 steps with labels 0, 1, ..., and again."""
    lengths = torch.arange(count) % 6 + 1
    audio, video = (Sequences.from_padded(torch.randn(count, 6, width), lengths) for width in (AUDIO, VIDEO))
    return Batch(audio, video, torch.arange(count) % classes, torch.zeros(count, TEXT))


def batches_of(method: Method, kind: type[Sequences]) -> Batch:
    draw = torch.Generator().manual_seed(1)

    def sequences(width: int, lengths: list[int]) -> Sequences:
        values = torch.randn(4, 6, width, generator=draw)
        if kind is Padded:
            for row, length in enumerate(lengths):
                values[row, length:] = torch.nan  # whatever stands in the padding
        return kind.from_padded(values, torch.tensor(lengths))

    config = method.config
    audio, video = sequences(config.audio_width, [6, 2, 0, 0]), sequences(config.video_width, [1, 0, 3, 0])
    return Batch(audio, video, torch.zeros(4, dtype=torch.long), torch.zeros(4, TEXT))


VARIANTS = [
    (name, variant)
    for name, method in METHODS.items()
    for variant in method.VARIANTS
    if name not in WITHOUT_GRAPH
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=["-".join(pair) for pair in VARIANTS])
def test_padded_sequences_give_the_distances_of_packed_ones(name: str, variant: str) -> None:
    method = untrained(name, variant)
    classes = ClassSet(tuple("abc"), torch.randn(3, TEXT), torch.tensor([True, True, False]))
    with torch.no_grad():
        packed, padded = (method.distances(batches_of(method, kind), classes) for kind in (Sequences, Padded))
    torch.testing.assert_close(padded, packed, rtol=1e-5, atol=1e-5)


def test_a_fused_method_has_a_graph_where_its_prior_reads_vectors(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    method = untrained("eszsl", "corrected")
    fused = Fused(method, open_prior(method, VECTORS), kind=VECTORS, weight=0.4, ratio=2.0).eval()
    difference = export.export_onnx(fused, tmp_path / "x.onnx", audio_step=1, video_step=0.5, metadata={})
    assert difference < 1e-5
    other = Fused(method, untrained("eszsl", "corrected"), kind="label-bridge")
    with pytest.raises(SacmaError, match="the label bridge reads class names"):
        export.check_exportable(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["avca", "attention-fusion", "kite", "eszsl", "cosine-ridge"])
def test_other_methods_have_graphs_too(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    method = untrained(name, "corrected")
    difference = export.export_onnx(method, tmp_path / "x.onnx", audio_step=1, video_step=0.5, metadata={})
    assert difference < 1e-5


@pytest.mark.parametrize("name", sorted(WITHOUT_GRAPH))
def test_methods_without_a_graph_say_why(name: str, tmp_path: Path) -> None:
    if name == "avmst":
        pytest.importorskip("snntorch")
    method = untrained(name, "corrected", **({"feature_scaling": "unit"} if name != "avmst" else {}))
    with pytest.raises(SacmaError, match=r"classifier of fixed candidates|spiking neurons|seen from unseen"):
        export.export_onnx(method, tmp_path / "x.onnx", audio_step=1, video_step=1, metadata={})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return commands.trained(folders.write_folder(folder / "root"), folder / "run")


@pytest.mark.slow
def test_the_command_writes_a_graph_that_other_runtimes_can_use(run: Path, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    outcome = run_command("export", run, "--onnx", path)
    assert outcome.status == 0, outcome.err
    assert "differs from PyTorch by" in outcome.out
    assert outcome.err == ""
    model = onnx.load(path)
    onnx.checker.check_model(model)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["classes"]) == list(folders.ALL)
    assert json.loads(facts["seen"]) == [name not in folders.CLASSES["test_unseen"] for name in folders.ALL]
    predictor = sacma.load(run)
    scale = predictor.deployment.scales["phi_m"]
    assert (float(facts["bias"]), float(facts["temperature"])) == (scale.bias, scale.temperature)
    # As the documentation tells users of other runtimes to do it.
    session = runtime.InferenceSession(str(path))
    draw = np.random.default_rng(0)
    audio, video = (draw.standard_normal((1, 4, width)).astype(np.float32) for width in (12, 16))
    given = {
        "audio": audio,
        "audio_lengths": np.array([4]),
        "video": video,
        "video_lengths": np.array([0]),
        "class_vectors": predictor.deployment.classes.vectors.numpy(),
    }
    distances = session.run(["distances"], given)[0]
    logits = -(distances + float(facts["bias"]) * np.array(json.loads(facts["seen"]))) / float(
        facts["temperature"]
    )
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    from sacma.media.backbones import Steps
    from sacma.media.extract import ClipFeatures

    heard = ClipFeatures(Steps(audio[0], np.arange(4.0)), None)
    expected = {
        a.name: a.probability for a in predictor.answer(heard, predictor.candidates(), top=99).answers
    }
    assert dict(zip(folders.ALL, scores[0].tolist(), strict=True)) == pytest.approx(expected, rel=1e-4)


def test_a_graph_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    method = untrained("devise", "corrected")

    def packed(graph: export.Graph, *inputs: torch.Tensor) -> torch.Tensor:
        return 1.01 * graph(*inputs)

    monkeypatch.setattr(export, "_packed", torch.no_grad()(packed))
    with pytest.raises(SacmaError, match="differs from PyTorch"):
        export.export_onnx(method, tmp_path / "x.onnx", audio_step=1, video_step=1, metadata={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to do"),
        (["--onnx", "model.bin"], ".onnx"),
        (["--onnx", "model.onnx", "--output", "phi_x"], "no output 'phi_x'"),
    ],
)
def test_mistakes_are_one_line(run: Path, options: list[str], said: str) -> None:
    assert said in run_command("export", run, *options).line


# --- The hub ------------------------------------------------------------------------------------------


def test_a_folder_with_card_is_a_model_again(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    outcome = run_command("export", run, "--folder", folder, "--licence", "cc-by-4.0")
    assert outcome.status == 0, outcome.err
    names = {"README.md", "config.json", "model.safetensors", "result.json", *FILES}
    assert {path.name for path in folder.iterdir()} == names
    card = (folder / "README.md").read_text()
    for text in ("license: cc-by-4.0", "## Data", "## Figures", "## Scores", "## Limits", "toy", "ant, bee"):
        assert text in card
    result = commands.result(run)["test"]
    assert f"| test | {100 * result['seen']:.1f} | {100 * result['unseen']:.1f} |" in card
    one, other = sacma.load(run), Predictor.from_pretrained(folder)
    assert one.method.state_dict().keys() == other.method.state_dict().keys()
    for name, weight in one.method.state_dict().items():
        assert torch.equal(weight, other.method.state_dict()[name])
    assert one.deployment.scales == other.deployment.scales
    assert "not empty" in run_command("export", run, "--folder", folder).line


def test_a_card_tells_training_sets_and_marks_what_they_share_with_the_test(run: Path) -> None:
    predictor = sacma.load(run)
    assert "†" not in str(predictor.generate_model_card())
    video = {"name": "facebook/pe-av-small", "version": "1"}
    provenance = {**predictor.deployment.provenance, "video": video, "dataset": "mteb/VGGSound"}
    object.__setattr__(predictor.deployment, "provenance", provenance)
    card = str(predictor.generate_model_card())
    assert "trained on captions by its authors, VGGSound, Kinetics, ActivityNet" in card
    assert "| test † | " in card
    assert "| validation | " in card
    assert "facebook/pe-av-small learned from VGGSound, which has clips of this data set" in card


def test_a_fused_run_is_a_model_again_with_its_prior(tmp_path: Path) -> None:
    root = folders.write_folder(tmp_path / "root", joint=True)
    options = ("--method=eszsl", "--prior=frozen", "--epochs=1", f"--out={tmp_path / 'run'}")
    outcome = run_command("train", *commands.on(root), *options)
    assert outcome.status == 0, outcome.err
    assert "the frozen score has the weight" in outcome.out
    run_command("export", tmp_path / "run", "--folder", tmp_path / "model")
    one, other = (sacma.load(tmp_path / name).method for name in ("run", "model"))
    assert isinstance(one, Fused)
    assert isinstance(other, Fused)
    assert one.chosen() == other.chosen()
    assert list(sacma.load(tmp_path / "run").deployment.scales) == ["fused", "frozen", "embedding"]


def test_no_folder_of_this_machine_leaves_it(run: Path, tmp_path: Path) -> None:
    predictor = sacma.load(run)
    provenance = {**predictor.deployment.provenance, "weights": {"file": "/home/somebody/yamnet.tflite"}}
    object.__setattr__(predictor.deployment, "provenance", provenance)
    predictor.save_pretrained(tmp_path / "model")
    text = "".join(p.read_bytes().decode("latin-1") for p in (tmp_path / "model").iterdir())
    assert "yamnet.tflite" in text
    assert "/home/somebody" not in text
    assert str(run.parent) not in text


def test_push_creates_a_private_repository_and_uploads_the_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, Any] = {}

    class Hub:
        def __init__(self, **options: Any) -> None: ...

        def create_repo(self, repo_id: str, **options: Any) -> Any:
            calls["create"] = {"repo_id": repo_id, **options}
            return type("Repository", (), {"repo_id": repo_id})()

        def upload_folder(self, folder_path: Path, **options: Any) -> str:
            calls["files"] = {path.name for path in Path(folder_path).iterdir()}
            return "https://hub.example/commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    outcome = run_command("export", run, "--push", "somebody/toy")
    assert outcome.status == 0, outcome.err
    assert "https://hub.example/commit" in outcome.out
    assert calls["create"]["private"] is True
    assert calls["files"] == {"README.md", "config.json", "model.safetensors", "result.json", *FILES}


def test_a_hub_that_refuses_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        def __init__(self, **options: Any) -> None: ...

        def create_repo(self, **options: Any) -> Any:
            raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    assert (
        "cannot push to somebody/toy: no network" in run_command("export", run, "--push", "somebody/toy").line
    )


@pytest.mark.parametrize(
    ("found", "expected", "share"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.0, 1.0], [0.0, 0.0], float("inf")),
        ([float("nan"), 1.0], [1.0, 1.0], float("inf")),
        ([1.0, 1.0], [float("nan"), 1.0], float("inf")),
        ([float("inf"), 1.0], [float("inf"), 1.0], float("inf")),
    ],
)
def test_differences_of_distances_that_are_zero_or_no_numbers(
    found: list[float], expected: list[float], share: float
) -> None:
    """NaN compares false with everything, so it would pass a check by ``max``."""
    assert export.relative_difference(np.array(found), np.array(expected)) == share
