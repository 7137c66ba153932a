"""Numbers equal to those of the published TCAF and SACMA code, for every file of parity vectors.

A test runs once for each file of its kind in the folder that ``SACMA_PARITY`` names, whatever its sizes and
seeds; the README there says what the arrays are. The folder's own tolerances are used.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from sacma.data.batches import Trimming, class_balanced, gather
from sacma.data.features import Track
from sacma.metrics.gzsl import best_bias, evaluate
from sacma.metrics.nearest import Nearest, nearest
from sacma.models.losses import contrastive, cosine_distance_loss, ranking, regression
from sacma.types import ClassSet, Sequences

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays(vectors_file: Path) -> Arrays:
    with np.load(vectors_file, allow_pickle=False) as file:
        return dict(file)


# --- Metrics ------------------------------------------------------------------------------------------


def scored(arrays: Arrays) -> tuple[Nearest, Tensor, ClassSet]:
    ids = np.sort(np.concatenate((arrays["seen_ids"], arrays["unseen_ids"])))
    seen = torch.from_numpy(np.isin(ids, arrays["seen_ids"]))
    classes = ClassSet(tuple(str(i) for i in ids), torch.zeros(len(ids), 1), seen)
    distances = torch.cdist(torch.from_numpy(arrays["emb"]), torch.from_numpy(arrays["class_emb"]))
    return nearest(distances, seen), torch.from_numpy(np.searchsorted(ids, arrays["targets"])), classes


def figures(scores: tuple[Nearest, Tensor, ClassSet], bias: float) -> list[float]:
    result = evaluate(*scores, bias=bias, bias_search="grid")
    return [result.seen, result.unseen, result.harmonic_mean, result.zsl]


@pytest.mark.vectors("metric_*.npz")
def test_metrics_at_each_bias_of_the_grid(arrays: Arrays) -> None:
    scores = scored(arrays)
    curve = [figures(scores, bias) for bias in arrays["betas"].tolist()]
    np.testing.assert_allclose(curve, arrays["curve"], rtol=0, atol=1e-6)


@pytest.mark.vectors("metric_*.npz")
def test_bias_search_on_the_grid(arrays: Arrays) -> None:
    scores = scored(arrays)
    found, labels, classes = scores
    bias, _ = best_bias(found, labels, classes.seen, search="grid")
    np.testing.assert_allclose([*figures(scores, bias), bias], arrays["best"], rtol=0, atol=1e-6)
    combined = arrays["combined_beta"].item()
    np.testing.assert_allclose(
        [*figures(scores, combined), combined], arrays["fixed_beta"], rtol=0, atol=1e-6
    )


@pytest.mark.vectors("metric_*.npz")
def test_exact_bias_search_is_at_least_as_good(arrays: Arrays) -> None:
    scores = scored(arrays)
    found, labels, classes = scores
    bias, warnings = best_bias(found, labels, classes.seen)
    assert figures(scores, bias)[2] >= arrays["curve"][:, 2].max() - 1e-6
    assert not warnings


@pytest.mark.vectors("metric_*.npz")
def test_zsl_accuracy_of_each_unseen_class(arrays: Arrays) -> None:
    accuracy = evaluate(*scored(arrays), bias=0, bias_search="grid").per_class_zsl
    for i in arrays["unseen_ids"]:
        assert accuracy.get(str(i), np.nan) == pytest.approx(arrays["best_recall"][i], abs=1e-6, nan_ok=True)


# --- Losses -------------------------------------------------------------------------------------------

# Ours -> theirs. Each InfoNCE term is symmetric, so the order within a pair does not matter.
PAIRS = {
    ("text", "audio"): "l_ta",
    ("text", "video"): "l_tv",
    ("audio", "video"): "l_av",
    ("text", "both"): "l_t_av",
    ("audio", "both"): "l_a_av",
    ("video", "both"): "l_v_av",
}
EMBEDDINGS = {"both": "theta_o", "audio": "theta_o_a", "video": "theta_o_v", "text": "theta_w"}
WEIGHTS = {"paper": (0.8, 0.8, 0.1, 1.0, 0.1, 0.1), "code": (0.1, 0.1, 0.1, 1.0, 0.1, 0.1)}


def sacma_losses(arrays: Arrays) -> dict[str, Tensor]:
    """Every term and sum of SACMA's loss, under its name in the file."""
    at = {name: torch.from_numpy(arrays[key]) for name, key in EMBEDDINGS.items()}
    word = torch.from_numpy(arrays["w"])
    rho = {s: torch.from_numpy(arrays[key.replace("theta", "rho")]) for s, key in EMBEDDINGS.items()}
    out = dict(zip(PAIRS.values(), contrastive(at, dict.fromkeys(PAIRS, 1.0)).values(), strict=True))
    for variant, weights in WEIGHTS.items():
        terms = contrastive(at, dict(zip(PAIRS, weights, strict=True)))
        out[f"l_ccl_{variant}"] = torch.stack(list(terms.values())).sum()
    compared = {"m_t": ("both", "text"), "a_t": ("audio", "text"), "v_t": ("video", "text")}
    compared["a_v"] = ("audio", "video")
    for name, (x, y) in compared.items():
        out[f"cos_{name}"] = cosine_distance_loss(at[x], at[y])
    for name, stream in {"m": "both", "a": "audio", "v": "video", "t": "text"}.items():
        out[f"rec_{name}"] = regression(rho[stream], word)
        if stream != "text":
            out[f"reg_{name}"] = regression(at[stream], at["text"])
    for kind in ("cos", "reg", "rec"):
        parts = [value for name, value in out.items() if name.startswith(f"{kind}_")]
        out[f"l_{kind}"] = torch.stack(parts).sum()
    for variant in WEIGHTS:
        rest = out["l_reg"] + out["l_rec"] + 0.2 * out["l_cos"]
        out[f"total_{variant}"] = out[f"l_ccl_{variant}"] + rest
    return out


@pytest.mark.vectors("loss_*.npz", excluding=("loss_zero_row*.npz",))
def test_losses(arrays: Arrays) -> None:
    ours = sacma_losses(arrays)
    theirs = {name.removeprefix("out/"): value for name, value in arrays.items() if name.startswith("out/")}
    assert set(theirs) - set(ours) <= {"tcaf_ce", "tcaf_reg", "tcaf_rec", "tcaf_total"}
    for name in set(theirs) & set(ours):
        assert ours[name].item() == pytest.approx(theirs[name].item(), rel=1e-5, abs=1e-6), name


@pytest.mark.vectors("loss_zero_row*.npz")
def test_a_row_of_zeros_is_similar_to_nothing(arrays: Arrays) -> None:
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    assert (x == 0).all(dim=1).any()
    loss = contrastive({"x": x, "y": y}, {("x", "y"): 1.0})["x-y"]
    assert loss.item() == pytest.approx(arrays["l"].item(), rel=1e-5)
    assert cosine_distance_loss(x, y).item() == pytest.approx(arrays["cos"].item(), rel=1e-5)
    # The matrix of cosines, row by row.
    similar = torch.stack([1 - torch.stack([cosine_distance_loss(a[None], b[None]) for b in y]) for a in x])
    np.testing.assert_allclose(similar, arrays["sim"], rtol=0, atol=1e-5)


@pytest.mark.vectors("ale*.npz", "devise*.npz", "sje*.npz", excluding=("*_state.npz",))
def test_ranking_losses(arrays: Arrays, vectors_file: Path) -> None:
    labels = torch.from_numpy(np.searchsorted(arrays["train_class_ids"], arrays["labels"]))
    kind = vectors_file.stem.partition("_")[0]
    for mode in ("train", "eval"):
        loss = ranking(torch.from_numpy(arrays[f"{mode}/logits"]), labels, kind=kind)
        assert loss.item() == pytest.approx(arrays[f"{mode}_loss/cost_s"].item(), rel=1e-5)


# --- Batches ------------------------------------------------------------------------------------------


def collated(arrays: Arrays, modality: str) -> list[Tensor]:
    """The clips that went in."""
    count = sum(name.startswith(f"in_{modality}_") for name in arrays)
    return [torch.from_numpy(arrays[f"in_{modality}_{i}"]).float() for i in range(count)]


def track(clips: list[Tensor], step_seconds: float) -> Track:
    offsets = torch.tensor([0, *(len(clip) for clip in clips)]).cumsum(0)
    return Track(torch.cat(clips), offsets, step_seconds)


def published_starts(arrays: Arrays, lengths: Tensor) -> Tensor:
    """The released collator's draws: for each long clip one, and one for its negative of the same length."""
    torch.manual_seed(arrays["seed"].item())
    starts = torch.zeros_like(lengths)
    for i, over in enumerate((lengths - arrays["max_len"].item()).tolist()):
        if over > 0:
            starts[i] = torch.randint(0, over, (1,))
            torch.randint(0, over, (1,))
    return starts


def check_padded(ours: Sequences, arrays: Arrays, modality: str) -> None:
    """The released batch has our steps where its mask is 1 and zeros after them."""
    mask = torch.from_numpy(arrays[f"{modality}_mask"]).bool()
    theirs, seconds = torch.from_numpy(arrays[modality]), torch.from_numpy(arrays[f"time_{modality}"])
    assert ours.lengths.tolist() == mask.sum(dim=1).tolist()
    torch.testing.assert_close(ours.values, theirs[mask].float(), rtol=0, atol=0)
    assert theirs[~mask].abs().sum() == 0
    torch.testing.assert_close(ours.seconds.double(), seconds[mask], rtol=1e-6, atol=1e-6)


@pytest.mark.vectors("collator_*.npz")
def test_collator(arrays: Arrays) -> None:
    audio_clips, video_clips = collated(arrays, "audio"), collated(arrays, "video")
    audio = track(audio_clips, float(arrays["rate_audio"]))
    video = track(video_clips, float(arrays["rate_video"]))
    trimming = Trimming(
        mode=str(arrays["mode"]), max_video=arrays["max_len"].item(), trim=str(arrays["trim"])
    )
    random = trimming.mode == "fixed" and trimming.trim == "random"
    windows = trimming.windows(
        audio.lengths,
        video.lengths,
        audio_step=audio.step_seconds,
        video_step=video.step_seconds,
        starts=published_starts(arrays, video.lengths) if random else None,
    )
    rows = torch.arange(len(audio_clips))
    ours_audio = audio.gather(rows, starts=windows.audio_starts, lengths=windows.audio_lengths)
    ours_video = video.gather(rows, starts=windows.video_starts, lengths=windows.video_lengths)
    check_padded(ours_audio, arrays, "audio")
    check_padded(ours_video, arrays, "video")
    if random:
        return
    # The whole way, where nothing is drawn.
    labels = torch.zeros(len(rows), dtype=torch.long)
    classes = ClassSet(("any",), torch.zeros(1, 1), torch.ones(1, dtype=torch.bool))
    split = SimpleNamespace(
        features=SimpleNamespace(audio=audio, video=video, group=None),
        clips=rows,
        labels=labels,
        classes=classes,
    )
    batch = gather(split, rows, trimming=trimming)
    check_padded(batch.audio, arrays, "audio")
    check_padded(batch.video, arrays, "video")


@pytest.mark.vectors("sampler*.npz")
def test_sampler_draws_the_same_clips(arrays: Arrays) -> None:
    sizes = torch.from_numpy(arrays["class_sizes"])
    labels = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    theirs = torch.from_numpy(arrays["batches"])
    batches, batch_size = theirs.shape
    generator = torch.Generator().manual_seed(arrays["seed"].item())
    ours = class_balanced(labels, batches=batches, batch_size=batch_size, generator=generator)
    assert torch.equal(ours, theirs)
