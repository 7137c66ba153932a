"""Released checkpoints: what they give, what they may hold, and the run folder that they become."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import folders
from commands import on, result, sacma
from parity_folder import FIXTURES
from sacma.checkpoints import Checkpoint, read_checkpoint
from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.models import METHODS
from sacma.models.sacma import SACMA
from sacma.options import DataConfig
from sacma.runs.folder import RunFolder, load_model
from sacma.runs.prepare import open_benchmark
from sacma.testing import toy_benchmark
from sacma.training.published_weights import SHOWN, import_weights, released_config, released_method
from sacma.training.scoring import evaluate_run
from sacma.types import Batch, ClassSet, Sequences

PARITY = FIXTURES / "parity"
# Method -> the committed state, and the widths of audio and video that it was made with.
COMMITTED = {
    "sacma": ("core/sacma_small_cls", 16, 40),
    "ale": ("baselines/ale", 20, 28),
    "apn": ("baselines/apn", 20, 28),
}
HEADS = {"sacma": 2, "tcaf": 2}  # of the small parity models, which are no preset's


def state_of(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(value) for key, value in arrays.items()}


def committed(name: str) -> dict[str, Tensor]:
    return state_of(PARITY / f"{COMMITTED[name][0]}_state.npz")


def save(path: Path, state: Any, **others: Any) -> Path:
    """As the released code does: ``metric`` is a numpy number."""
    extra = {"epoch": 7, "optimizer": {"state": {}, "param_groups": []}, "metric": np.float64(0.25), **others}
    torch.save({"model": OrderedDict(state), **extra}, path)
    return path


def folder_of(name: str, path: Path) -> Path:
    """A benchmark folder whose widths are those of the committed state."""
    _, audio, video = COMMITTED[name]
    with pytest.MonkeyPatch.context() as patch:
        for constant, width in (("AUDIO_WIDTH", audio), ("VIDEO_WIDTH", video), ("TEXT_WIDTH", 300)):
            patch.setattr(toy_benchmark, constant, width)
        return folders.write_folder(path)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: folder_of(name, tmp_path_factory.mktemp(name)) for name in ("sacma", "ale")}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path / "best.pt", committed("sacma"))


def given(root: Path, out: Path, *more: object) -> list[object]:
    return [*on(root), f"--out={out}", *more]


# --- The same outputs as the released code --------------------------------------------------------


def method_of(stem: str, described: dict[str, Any]) -> str:
    return str(described.get("kind") or stem.split("_", maxsplit=1)[0])


@pytest.mark.vectors("*_state.npz", excluding=("fvaegan*",))
@torch.no_grad()
def test_imported_weights_give_the_outputs_of_the_released_code(vectors_file: Path, tmp_path: Path) -> None:
    stem = vectors_file.stem.removesuffix("_state")
    described = json.loads(vectors_file.with_name(f"{stem}.json").read_text())
    name = method_of(stem, described)
    if name == "avmst":
        pytest.importorskip("snntorch")
    with np.load(vectors_file.with_name(f"{stem}.npz")) as stored:
        arrays = {key: torch.from_numpy(value) for key, value in stored.items() if value.dtype.kind in "fib"}
    checkpoint = read_checkpoint(save(tmp_path / "best.pt", state_of(vectors_file)))
    features = "c3d-vggish" if described["params"].get("norm_inputs") else "selavi"
    config = released_config(
        name, checkpoint, data=DataConfig(benchmark="ucf", features=features), heads=heads_of(name, described)
    )
    temporal = name in ("sacma", "tcaf")
    audio = arrays["audio" if temporal else "e2e/audio"]
    model = released_method(name, checkpoint, config, audio_width=audio.shape[-1])
    if temporal:
        distances = torch.cdist(arrays["eval_emb/theta_o"], arrays["eval_emb/theta_w_classes"])
        batch = clips(arrays, "", [arrays[f"mask_{which}"].sum(1).long() for which in ("audio", "video")])
    else:
        distances = arrays["e2e/distance"]
        batch = clips(arrays, "e2e/", None)
    if isinstance(model, SACMA):
        phi = model.embed(batch, streams="m")["m"]
        torch.testing.assert_close(phi, arrays["eval_emb/theta_o"], rtol=1e-5, atol=1e-5)
    count = len(arrays["class_w"])
    classes = ClassSet(tuple(map(str, range(count))), arrays["class_w"], torch.ones(count, dtype=torch.bool))
    found = model.distances(batch, classes)
    # ClipClap's own distances, from squared norms and products, are rounded by up to 2e-5.
    tolerance = 3e-5 if name == "clipclap" else 1e-5
    torch.testing.assert_close(found, distances.to(found.dtype), rtol=tolerance, atol=tolerance)
    params = described["params"]
    if name == "clipclap":
        kept = {"audio": "wavcaps", "video": "clip"}.get(params["modality"], params["word_embeddings"])
        assert (config.model["modality"], config.model["words"]) == (params["modality"], kept)


def heads_of(name: str, described: dict[str, Any]) -> int | None:
    """None where the heads are a preset's, to see that they are found."""
    heads = described["params"].get("transformer_heads")
    return None if heads is None or heads * described["params"]["transformer_dim_head"] == 512 else int(heads)


def clips(arrays: dict[str, Tensor], prefix: str, lengths: list[Tensor] | None) -> Batch:
    audio, video = arrays[f"{prefix}audio"], arrays[f"{prefix}video"]
    if lengths is None:
        audio, video = audio[:, None], video[:, None]
        lengths = [torch.ones(len(audio), dtype=torch.long)] * 2
    count = len(audio)
    sequences = (Sequences.from_padded(x, n) for x, n in zip((audio, video), lengths, strict=True))
    return Batch(*sequences, torch.zeros(count, dtype=torch.long), torch.zeros(count, 300))


def test_every_importable_method_is_there() -> None:
    assert set(SHOWN) < set(METHODS)
    assert all("published" in METHODS[name].VARIANTS for name in SHOWN)


def test_sizes_that_differ_from_every_default() -> None:
    """A SACMA of odd sizes comes back with them, from its weights alone."""
    sizes = {
        "audio_width": 5,
        "video_width": 7,
        "width": 18,
        "common_width": 6,
        "encoder_hidden": 11,
        "decoder_hidden": 13,
        "depth": 12,
        "feed_forward_hidden": 10,
    }
    model = SACMA(
        text_width=9, **sizes, heads=3, head_width=4, **dict(list(SACMA.VARIANTS["published"].items()))
    )
    state = released_names(model)
    one = Checkpoint(Path("best.pt"), state, None)
    config = released_config("sacma", one, data=DataConfig(), heads=3)
    again = released_method("sacma", one, config)
    found = vars(again.config)
    assert {name: found[name] for name in sizes} == sizes
    assert (found["text_width"], found["heads"], found["head_width"]) == (9, 3, 4)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def released_names(model: SACMA) -> dict[str, Tensor]:
    """Its state under the released names."""
    from sacma.models.sacma import PUBLISHED_NAMES

    state = {}
    for ours, value in model.state_dict().items():
        key = ours
        for theirs, part in PUBLISHED_NAMES.items():
            if theirs != "cls_token":
                key = key.replace(part, theirs)
        if ours == "trunk.class_token":
            state["cls_token"] = value[None, None]
        elif "to_keys_values" in ours:
            keys, values = value.chunk(2)
            state[key] = keys
            state[key.replace(".to_k.", ".to_v.")] = values
        elif "project_" in ours and ours.endswith("weight"):
            state[key] = value[..., None]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("width", "features", "heads"), [(512, "selavi", 8), (384, "selavi", 3), (768, "c3d-vggish", 6)]
)
def test_heads_are_those_of_a_preset_as_wide(width: int, features: str, heads: int) -> None:
    state = dict(committed("sacma"))
    for key in [key for key in state if ".attn.to_" in key]:
        rows = state[key]
        if "to_out" not in key:
            state[key] = torch.zeros(width, rows.shape[1])
        elif key.endswith("weight"):
            state[key] = torch.zeros(len(rows), width)
    one = Checkpoint(Path("best.pt"), state, None)
    config = released_config("sacma", one, data=DataConfig(benchmark="ucf", features=features))
    assert (config.model["heads"], config.model["head_width"]) == (heads, width // heads)
    assert released_method("sacma", one, config).config.heads == heads  # type: ignore[attr-defined]


def test_scaling_is_the_released_codes_whatever_the_folder_is_called(checkpoint: Path) -> None:
    data = DataConfig(benchmark="toy", features="toyfeatures")
    config = released_config("sacma", read_checkpoint(checkpoint), data=data, heads=2)
    assert config.variant == "published"
    assert config.model["feature_scaling"] == "published"
    assert config.data.text_alignment == "published"
    assert config.training.audio_len_rule == "mul"
    assert config.protocol.bias_search == "grid"


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_formats_of_a_checkpoint(legacy: bool, bare: bool, tmp_path: Path) -> None:
    state = committed("ale")
    content = state if bare else {"model": state, "epoch": 7, "metric": np.float64(0.5), "optimizer": None}
    torch.save(content, tmp_path / "best.pt", _use_new_zipfile_serialization=not legacy)
    assert zipfile.is_zipfile(tmp_path / "best.pt") is not legacy
    found = read_checkpoint(tmp_path / "best.pt")
    assert found.epoch == (None if bare else 7)
    assert torch.equal(found.state["bilinear.weight"], state["bilinear.weight"])


@pytest.mark.parametrize(
    "metric", [np.float64(0.5), np.float32(1), np.int64(3), np.bool_(True), np.arange(4.0), [np.float64(1)]]
)
def test_numpy_among_the_metadata(metric: object, tmp_path: Path) -> None:
    found = read_checkpoint(save(tmp_path / "best.pt", committed("ale"), metric=metric))
    assert list(found.state) == ["bilinear.weight"]


def test_numbers_of_numpy_1(tmp_path: Path) -> None:
    """Numpy 2 calls its modules by other names."""
    path = save(tmp_path / "new.pt", committed("ale"))
    old = tmp_path / "best.pt"
    with zipfile.ZipFile(path) as read, zipfile.ZipFile(old, "w") as write:
        for item in read.namelist():
            content = read.read(item)
            if item.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            write.writestr(item, content)
    assert read_checkpoint(old).epoch == 7


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["metric", "model", "all"])
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_checkpoint_is_run(place: str, legacy: bool, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    content: Any = {"model": committed("ale"), "epoch": 1, "metric": 0.5}
    if place == "all":
        content = Hostile(mark)
    else:
        content[place] = Hostile(mark) if place == "metric" else {"bilinear.weight": Hostile(mark)}
    path = tmp_path / "best.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(SacmaError, match=rf"best\.pt was refused: it asks for {os.mkdir.__module__}\.mkdir"):
        read_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the file does what it is meant to
    assert mark.exists()


def test_a_plain_hostile_pickle(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    with pytest.raises(SacmaError, match=r"best\.pt"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


class Own:
    """A class of somebody's own code."""


def _expanded(path: Path) -> None:
    save(path, {"bilinear.weight": torch.zeros(1).expand(10**6, 10**6)})


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no checkpoint file"),
    "folder": (lambda path: path.mkdir(), "no checkpoint file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable torch checkpoint"),
    "text": (lambda path: path.write_text("weights\n" * 50), "not a readable torch checkpoint"),
    "archive": (lambda path: zipfile.ZipFile(path, "w").close(), "not a readable torch checkpoint"),
    "truncated": (
        lambda path: path.write_bytes(save(path, committed("ale")).read_bytes()[:9000]),
        "not a readable torch checkpoint",
    ),
    "list": (lambda path: torch.save([1, 2], path), "holds no weights"),
    "nothing": (lambda path: torch.save({}, path), "holds no weights"),
    "model is a number": (lambda path: torch.save({"model": 3}, path), "holds no weights"),
    "no tensors": (lambda path: torch.save({"epoch": 3, "loss": 0.5}, path), "'epoch' is a int"),
    "a whole model": (lambda path: torch.save({"model": Own()}, path), "asks for .*Own"),
    "expanded": (_expanded, "not a plain tensor"),
    "sparse": (lambda path: save(path, {"w": torch.eye(3).to_sparse()}), "not a plain tensor"),
    "diverged": (lambda path: save(path, {"w": torch.tensor([1.0, torch.nan])}), "w has values that are not"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_checkpoint(kind: str, tmp_path: Path) -> None:
    write, named = WRONG[kind]
    path = tmp_path / "best.pt"
    write(path)
    with pytest.raises(SacmaError, match=named) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_cut_of_a_checkpoint_is_a_users_mistake(tmp_path: Path) -> None:
    for legacy in (False, True):
        whole = tmp_path / "whole.pt"
        torch.save({"model": committed("ale")}, whole, _use_new_zipfile_serialization=not legacy)
        content = whole.read_bytes()
        for size in (1, 10, 100, 1000, len(content) // 2, len(content) - 1):
            path = tmp_path / "best.pt"
            path.write_bytes(content[:size])
            with pytest.raises(SacmaError):
                read_checkpoint(path)


# --- The run folder -------------------------------------------------------------------------------


def evaluated(run: Path) -> dict[str, Any]:
    folder = RunFolder.open(run, finished=True)
    figures, predictions = evaluate_run(folder, open_benchmark(folder.config().data))
    return {"test": figures.to_dict(), "predictions": predictions}


@pytest.mark.parametrize("name", ["sacma", "ale"])
def test_import_then_evaluate(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    file, out = save(tmp_path / "best.pt", committed(name)), tmp_path / "run"
    heads = ["--heads=2"] if name in HEADS else []
    outcome = sacma(
        "import-weights", file, f"--method={name}", *given(roots[name], out, "--bias=0.01", *heads)
    )
    assert outcome.status == 0, outcome.err
    content = result(out)
    assert (content["method"], content["variant"], content["epochs"]) == (name, "published", 7)
    assert content["test"]["bias"] == content["validation"]["bias"] == 0.01
    assert "note: imported from best.pt, SHA-256 " in outcome.out
    assert "note: the bias was given" in outcome.out
    assert evaluated(out)["test"] == content["test"]
    again = sacma("evaluate", out)
    assert again.status == 0, again.err
    found = load_model(name, out)
    renamed = type(found).rename_published(committed(name))
    assert renamed
    for key, value in renamed.items():
        assert torch.equal(found.state_dict()[key], value)


def test_bias_of_stage_1_is_chosen_on_validation_with_its_weights(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    benchmark = Benchmark.open(roots["ale"], folders.NAME, folders.FEATURES, text_alignment="published")
    other = {"bilinear.weight": fitted(benchmark)}
    first, second = (
        save(tmp_path / "1.pt", other, epoch=3),
        save(tmp_path / "2.pt", committed("ale"), epoch=9),
    )
    out = tmp_path / "run"
    outcome = sacma("import-weights", second, "--method=ale", f"--stage1={first}", *given(roots["ale"], out))
    assert outcome.status == 0, outcome.err
    content = result(out)
    assert content["epochs"] == 3
    assert content["test"]["bias"] == content["validation"]["bias"]
    # The same from the pieces: nearest class vector to B x, the best bias of the grid.
    assert content["validation"]["harmonic_mean"] == pytest.approx(best_on_grid(benchmark, other), abs=1e-9)
    assert content["validation"]["harmonic_mean"] > 0
    swapped = tmp_path / "swapped"
    outcome = sacma(
        "import-weights", first, "--method=ale", f"--stage1={second}", *given(roots["ale"], swapped)
    )
    assert outcome.status == 0, outcome.err
    assert result(swapped)["validation"] != content["validation"]
    assert load_model("ale", out / "stage-1").state_dict()["bilinear.weight"].equal(other["bilinear.weight"])
    assert evaluated(out)["test"] == content["test"]


def joint(benchmark: Benchmark, which: Tensor) -> Tensor:
    tracks = (benchmark.features.video, benchmark.features.audio)
    return torch.cat([track.gather(which).mean() for track in tracks], dim=1)


def fitted(benchmark: Benchmark) -> Tensor:
    """Weights of ALE that know something: the least squares fit of class vectors to training clips."""
    split = benchmark.split("train")
    x, w = joint(benchmark, split.clips), split.classes.vectors[split.labels]
    return torch.linalg.solve(x.T @ x + 30 * torch.eye(x.shape[1]), x.T @ w).T.contiguous()


def best_on_grid(benchmark: Benchmark, state: dict[str, Tensor]) -> float:
    """The best harmonic mean of S and U over the published biases, clip by clip."""
    split = benchmark.split("val")
    seen = split.classes.seen
    best = 0.0
    distances = torch.cdist(joint(benchmark, split.clips) @ state["bilinear.weight"].T, split.classes.vectors)
    for bias in np.linspace(0, 3, 16):
        answers = (distances.double() + bias * seen).argmin(1)
        hits: dict[bool, list[float]] = {True: [], False: []}
        for label in range(len(split.classes)):
            mine = split.labels == label
            hits[bool(seen[label])].append(float((answers[mine] == label).double().mean()))
        s, u = np.mean(hits[True]), np.mean(hits[False])
        best = max(best, float(2 * s * u / (s + u)) if s + u else 0.0)
    return best


def test_force_and_what_is_there(roots: dict[str, Path], tmp_path: Path) -> None:
    file, out = save(tmp_path / "best.pt", committed("ale")), tmp_path / "run"
    arguments = ["import-weights", file, "--method=ale", *given(roots["ale"], out)]
    assert sacma(*arguments, "--bias=0").status == 0
    assert "holds a finished run" in sacma(*arguments, "--bias=1").line
    assert result(out)["test"]["bias"] == 0
    assert sacma(*arguments, "--bias=1", "--force").status == 0
    assert result(out)["test"]["bias"] == 1


def test_a_failed_import_leaves_nothing(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SacmaError("the disk is full")

    file, out = save(tmp_path / "best.pt", committed("ale")), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("sacma.training.published_weights.finish", full)
        line = sacma("import-weights", file, "--method=ale", *given(roots["ale"], out, "--bias=0")).line
    assert "the disk is full" in line
    assert not out.exists()


# What is typed after FILE; what the line must name.
MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "no bias": (["--method=sacma", "--heads=2"], ["--stage1", "--bias"]),
    "two biases": (["--method=sacma", "--heads=2", "--bias=1", "--stage1=x.pt"], ["--stage1", "--bias"]),
    "infinite bias": (["--method=sacma", "--bias=nan"], ["bias", "nan"]),
    "another method": (
        ["--method=avca", "--bias=1"],
        ["best.pt", "missing", "audio_projection.0.weight", "unknown", "position_encoder_block"],
    ),
    "a bilinear one": (["--method=ale", "--bias=1"], ["best.pt", "bilinear.weight", "cls_token"]),
    "one of no code": (["--method=eszsl", "--bias=1"], ["eszsl", "avca"]),
    "no method": (["--method=nope", "--bias=1"], ["nope", "sacma"]),
    "no preset of these heads": (["--method=sacma", "--bias=1"], ["32", "--heads"]),
    "heads": (["--method=sacma", "--bias=1", "--heads=5"], ["--heads is 5", "32"]),
    "no stage 1": (["--method=sacma", "--heads=2", "--stage1=nowhere.pt"], ["nowhere.pt"]),
    "no root": (["--method=sacma", "--bias=1", "--heads=2", "--root=nowhere"], ["nowhere"]),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes(kind: str, checkpoint: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    arguments, named = MISTAKES[kind]
    out = tmp_path / "run"
    line = sacma("import-weights", checkpoint, *given(roots["sacma"], out, *arguments)).line
    for name in named:
        assert name in line
    assert not out.exists()


@pytest.mark.parametrize(("name", "root"), [("sacma", "ale"), ("ale", "sacma"), ("apn", "sacma")])
def test_features_of_other_widths(name: str, root: str, roots: dict[str, Path], tmp_path: Path) -> None:
    file, out = save(tmp_path / "best.pt", committed(name)), tmp_path / "run"
    heads = ["--heads=2"] if name in HEADS else []
    line = sacma(
        "import-weights", file, f"--method={name}", *given(roots[root], out, "--bias=1", *heads)
    ).line
    assert str(file) in line
    assert "wide" in line
    assert str(roots[root]) in line
    assert not out.exists()


def test_a_stage_1_of_other_sizes_is_named(checkpoint: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    first = save(
        tmp_path / "first.pt", {key: v for key, v in committed("sacma").items() if "layers.1" not in key}
    )
    line = sacma(
        "import-weights",
        checkpoint,
        "--method=sacma",
        *given(roots["sacma"], tmp_path / "run", "--heads=2", f"--stage1={first}"),
    ).line
    assert f"{first}: " in line
    assert "trunk.transformer.layers.1" in line


def test_sizes_that_contradict_each_other_are_named_before_memory_is_taken(tmp_path: Path) -> None:
    state = committed("sacma")
    state["A_enc.fc.0.weight"] = torch.zeros(10**6, 1)
    state["V_enc.fc.0.weight"] = torch.zeros(1, 10**6)
    one = read_checkpoint(save(tmp_path / "best.pt", state))
    config = released_config("sacma", one, data=DataConfig(), heads=2)
    with pytest.raises(SacmaError, match=r"contradict each other: .*encoder_hidden 1000000"):
        released_method("sacma", one, config)


def test_unknown_and_missing_keys_are_named(tmp_path: Path) -> None:
    state = committed("sacma")
    del state["O_proj.fc.0.bias"]
    state["extra.weight"] = torch.zeros(2)
    one = read_checkpoint(save(tmp_path / "best.pt", state))
    config = released_config("sacma", one, data=DataConfig(), heads=2)
    with pytest.raises(
        SacmaError, match=r"missing \['projections.shared.0.bias'\], unknown \['extra.weight'\]"
    ):
        released_method("sacma", one, config)
    values = next(key for key in state if ".to_v." in key)
    one = Checkpoint(Path("best.pt"), {key: v for key, v in state.items() if key != values}, None)
    with pytest.raises(SacmaError, match=values):
        released_config("sacma", one, data=DataConfig(), heads=2)


def test_import_from_python(roots: dict[str, Path], tmp_path: Path) -> None:
    file = save(tmp_path / "best.pt", committed("ale"))
    data = DataConfig(
        benchmark=folders.NAME,
        features=folders.FEATURES,
        root=str(roots["ale"]),
        text_alignment="published",
    )
    benchmark = open_benchmark(data)
    folder = import_weights(file, "ale", data=data, benchmark=benchmark, out=tmp_path / "run", bias=0.5)
    assert folder.config().data == data
    assert folder.result().validation.bias_search == "given"
