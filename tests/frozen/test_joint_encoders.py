"""Joint encoders against transformers' own models and processors, on the same input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import joint_models
from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName
from sacma.frozen.joint import NAMES as NAMES_AT_A_TIME
from sacma.frozen.joint import JointModel
from sacma.frozen.opening import open_frozen, open_tower
from sacma.media.backbones import Steps, in_batches
from sacma.media.decode import LIMITS
from sacma.media.extract import ClipFeatures

transformers = pytest.importorskip("transformers")
NAMES = ["dog barking", "harp", "x" * 100]
RANDOM = np.random.default_rng(0)
FRAMES = [RANDOM.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, made = tmp_path_factory.mktemp("models"), {}
    for name, write in joint_models.MODELS.items():
        (root / name).mkdir()
        made[name] = write(root / name)
    return made


def timed(frames: list[Any]) -> Iterator[tuple[float, Any]]:
    return ((float(k), frame) for k, frame in enumerate(frames))


def tokens(folder: Path, longest: int = joint_models.LONGEST, **options: Any) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer(NAMES, truncation=True, max_length=longest, return_tensors="pt", **options)


@pytest.mark.parametrize(
    ("kind", "network", "processor", "padding"),
    [
        ("clip", "CLIPModel", "CLIPImageProcessorPil", {"padding": True}),
        ("metaclip_2", "MetaClip2Model", "CLIPImageProcessorPil", {"padding": True}),
        ("siglip", "SiglipModel", "SiglipImageProcessorPil", {"padding": "max_length"}),
        ("siglip2", "Siglip2Model", "Siglip2ImageProcessorPil", {"padding": "max_length"}),
    ],
)
def test_pictures(
    models: dict[str, Path], kind: str, network: str, processor: str, padding: dict[str, Any]
) -> None:
    folder = models[kind]
    net = getattr(transformers, network).from_pretrained(folder).eval()
    given = dict(getattr(transformers, processor).from_pretrained(folder)(images=FRAMES, return_tensors="pt"))
    text = tokens(folder, **padding)
    if kind.startswith("siglip"):
        text.pop("attention_mask")
    with torch.inference_mode():
        wanted = net(**given, **text)
    tower = open_tower(folder, kind)
    texts, cut = tower.texts(NAMES)
    assert cut == 1
    assert tower.video is not None
    steps = tower.video.encode(timed(FRAMES))
    assert steps is not None
    assert steps.values.shape == (3, tower.video.width)
    assert steps.values == pytest.approx(wanted.image_embeds.numpy(), abs=1e-5)
    assert texts["video"] == pytest.approx(wanted.text_embeds.numpy(), abs=1e-5)
    scale, bias = tower.scales["video"]
    logits = scale * steps.values @ texts["video"].T + bias
    assert logits == pytest.approx(wanted.logits_per_image.numpy(), abs=1e-4)
    assert tower.sigmoid == kind.startswith("siglip")


def test_pictures_over_time(models: dict[str, Path]) -> None:
    folder = models["xclip"]
    net = transformers.XCLIPModel.from_pretrained(folder).eval()
    prepare = transformers.VideoMAEImageProcessorPil.from_pretrained(folder)
    film = FRAMES + [FRAMES[-1]] * 5
    pixels = prepare(images=film, return_tensors="pt")["pixel_values"].reshape(1, 8, 3, 32, 32)
    with torch.inference_mode():
        wanted = net(pixel_values=pixels, **tokens(folder, padding=True)).logits_per_video
    tower = open_tower(folder, "xclip")
    texts, _ = tower.texts(NAMES)
    assert tower.video is not None
    steps = tower.video.encode(timed(FRAMES))
    assert steps is not None
    cosines = tower.cosines("video", steps.values, texts["video"])
    assert cosines is not None
    assert tower.scales["video"][0] * cosines == pytest.approx(wanted.numpy(), abs=1e-5)


def test_sound(models: dict[str, Path]) -> None:
    folder = models["clap"]
    net = transformers.ClapModel.from_pretrained(folder).eval()
    wave = RANDOM.normal(0, 0.1, 48_000 * 21).astype(np.float32)
    parts = [wave[:480_000], wave[480_000:960_000]]  # the rest, one second, is left out
    front = transformers.ClapFeatureExtractor.from_pretrained(folder)
    spectra = torch.cat(
        [front(one, sampling_rate=48_000, return_tensors="pt")["input_features"] for one in parts]
    )
    longer = torch.zeros(2, 1, dtype=torch.bool)
    with torch.inference_mode():
        wanted = net(
            input_features=spectra, is_longer=longer, **tokens(folder, joint_models.LONGEST - 1, padding=True)
        )
    tower = open_tower(folder, "clap")
    assert tower.audio is not None
    blocks = np.array_split(wave, 7)
    steps = tower.audio.encode(blocks)
    assert steps is not None
    assert steps.seconds.tolist() == [0, 10]
    assert steps.values == pytest.approx(wanted.audio_embeds.numpy(), abs=1e-5)
    texts, cut = tower.texts(NAMES)
    assert cut == 1
    logits = tower.scales["audio"][0] * steps.values @ texts["audio"].T
    assert logits == pytest.approx(wanted.logits_per_audio.numpy(), abs=1e-4)


def test_sound_and_pictures_each_pairing_with_its_own_text_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sacma.frozen.encoders import pe_av

    folder = joint_models.pe_av(tmp_path)
    net = joint_models.pe_av_network()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # The picture network that its files name is one of timm, which needs torchvision.
    monkeypatch.setattr(pe_av, "load", lambda *_: (net, tokenizer))
    tower = pe_av.PeAvTower(str(folder))
    wave = RANDOM.normal(0, 0.1, 48_000).astype(np.float32)
    square = [frame[:32, :32] for frame in FRAMES + FRAMES]
    pixels = (
        torch.from_numpy(np.stack([square[k] for k in (0, 1, 3, 5)])).permute(0, 3, 1, 2) / 255 - 0.5
    ) / 0.5
    sound = transformers.PeAudioFeatureExtractor.from_pretrained(folder)(
        wave, sampling_rate=48_000, return_tensors="pt"
    )["input_values"]
    with torch.inference_mode():
        # As many clips as texts, which this forward pass wants.
        clips = {
            "input_values": sound.repeat(3, 1, 1),
            "pixel_values_videos": pixels[None].repeat(3, 1, 1, 1, 1),
        }
        wanted = net(**clips, **tokens(folder, padding=True))
    texts, cut = tower.texts(NAMES)
    assert cut == 1
    found = tower.embeddings(wave, square)
    for space, told in (
        ("audio", wanted.logits_audio_text),
        ("video", wanted.logits_video_text),
        ("joint", wanted.logits_audio_video_text),
    ):
        scale, bias = tower.scales[space]
        logits = scale * tower.cosines(space, found[space][None], texts[space]) + bias
        assert logits == pytest.approx(told.numpy()[:1], rel=1e-5, abs=1e-5), space
    assert tower.embeddings(wave, None)["audio"] == pytest.approx(found["audio"], abs=1e-5)
    assert set(tower.embeddings(None, square)) == {"video"}


def test_frames_are_scaled_as_pillow_scales_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from sacma.frozen.encoders import pe_av

    folder = joint_models.pe_av(tmp_path)
    monkeypatch.setattr(pe_av, "load", lambda *_: (joint_models.pe_av_network(), None))
    tower = pe_av.PeAvTower(str(folder))
    found = tower.pixels([FRAMES[0]] * 4)[0, 0]
    small = Image.fromarray(FRAMES[0]).resize((32, 32), Image.Resampling.BILINEAR)
    wanted = (torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255 - 0.5) / 0.5
    assert (found - wanted).abs().max() < 1.5 / 127.5  # both round to whole numbers
    assert (found - wanted).abs().mean() < 0.25 / 127.5


# --- A pair -------------------------------------------------------------------------------------------


def test_a_pair_is_scored_by_the_weighted_cosines(models: dict[str, Path]) -> None:
    pair = open_frozen(f"{models['clip']}+{models['clap']}")
    assert isinstance(pair, JointModel)
    assert pair.modalities == ("audio", "video")
    names = pair.names([ClassName("harp", ("a plucked string instrument",)), ClassName("dog")])
    assert any("1 texts" in note for note in names.notes) is False
    sound = Steps(RANDOM.normal(size=(2, 20)).astype(np.float32), np.array([0.0, 10.0]))
    pictures = Steps(RANDOM.normal(size=(20, 24)).astype(np.float32), np.arange(20.0))
    scores = pair.scores(ClipFeatures(sound, pictures), [(0, 20), (0, 10)], names)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    clip, clap = pair.towers["video"], pair.towers["audio"]
    scales = clip.scales["video"][0], clap.scales["audio"][0]
    for row, (a, v) in enumerate(((2, 20), (1, 11))):
        cosines = []
        for tower, space, values in ((clip, "video", pictures.values[:v]), (clap, "audio", sound.values[:a])):
            texts, _ = tower.texts(["harp", "a plucked string instrument", "dog"])
            t = np.stack([unit(texts[space][:2].sum(axis=0)), texts[space][2]])
            cosines.append(unit(unit(values).mean(axis=0)) @ t.T)
        assert scores.alone["video"][row] == pytest.approx(scales[0] * cosines[0], abs=1e-4)
        assert scores.alone["audio"][row] == pytest.approx(scales[1] * cosines[1], abs=1e-4)
        wanted = np.mean(scales) * (cosines[0] + cosines[1]) / 2
        assert scores.joint[row] == pytest.approx(wanted, abs=1e-4)
    silent = pair.scores(ClipFeatures(None, pictures), [(0, 20)], names)
    assert silent.joint == pytest.approx(scores.alone["video"][:1])


def test_what_cannot_be_opened(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="both parts read video"):
        open_frozen(f"{models['clip']}+{models['siglip']}")
    with pytest.raises(SacmaError, match="no frozen model 'nobody'"):
        open_frozen("nobody")
    with pytest.raises(SacmaError, match="sacma models get nobody/nothing"):
        open_frozen("nobody/nothing")
    with pytest.raises(SacmaError, match="label-bridge cannot be one of a pair"):
        open_frozen("label-bridge+clip")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(SacmaError, match="a model of kind 'bert'; known are: clap, clip"):
        open_frozen(str(other))
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text((models["clip"] / "config.json").read_text())
    with pytest.raises(SacmaError, match=r"cannot load .*half as a model of kind CLIPModel"):
        open_frozen(str(half))


def test_a_clip_without_what_the_model_reads(models: dict[str, Path]) -> None:
    clap = open_frozen(str(models["clap"]))
    names = clap.names([ClassName("y" * 90), ClassName("dog")])
    assert names.notes == (f"1 texts are longer than {models['clap']} takes and were cut",)
    pictures = Steps(np.ones((2, 24), np.float32), np.arange(2.0))
    with pytest.raises(SacmaError, match="reads audio, and the clip has none"):
        clap.scores(ClipFeatures(None, pictures), [(0, 2)], names)


@pytest.mark.parametrize("kind", ["clip", "xclip", "clap", "siglip2"])
def test_a_real_file_through_the_whole_way(models: dict[str, Path], kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    import sacma
    from sacma.datasets.avshapes import examples as avshapes

    path = tmp_path / "clip.mp4"
    avshapes.write_mp4("circle bouncing chirping galloping apart", 3, path, size=64, fps=12)
    zero_shot = sacma.zero_shot(str(models[kind]), prompts="a video of {}.|{}")
    found = zero_shot(path, ["dog", "harp"])
    assert sum(answer.probability for answer in found.answers) == pytest.approx(1)
    assert found.windows[0].end <= 5
    missing = "pictures" if kind == "clap" else "sound"
    assert any(f"does not use {missing}" in note for note in found.notes)


# --- Many names, small memory, other precisions -----------------------------------------------------------


def test_ten_thousand_names_are_encoded_some_at_a_time(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = open_tower(models["clip"], "clip")
    model = JointModel("clip", {"video": tower}, prompts="a {}|the {}.")
    given = [ClassName(f"thing {number}") for number in range(10_000)]
    largest, told = 0, []

    def letters(texts: list[str]) -> Any:
        """Vectors of the letters, in place of the network's."""
        nonlocal largest
        largest = max(largest, len(texts))
        made = np.stack([np.frombuffer(text.ljust(24).encode(), np.uint8) for text in texts])
        return {"video": made.astype(np.float32)}, 0

    monkeypatch.setattr(tower, "texts", letters)
    names = model.names(given, on_progress=lambda done, total: told.append((done, total)))
    assert names.vectors["video"].shape == (10_000, 24)
    assert largest <= 2 * NAMES_AT_A_TIME
    assert told[0] == (NAMES_AT_A_TIME, 10_000)
    assert told[-1] == (10_000, 10_000)
    some = [0, 255, 256, 9_999]
    few = model.names([given[place] for place in some])
    assert names.vectors["video"][some] == pytest.approx(few.vectors["video"], abs=1e-6)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_batches_shrink_until_they_fit_into_the_memory(size: int) -> None:
    tried = []

    def work(some: list[int]) -> list[int]:
        tried.append(len(some))
        if len(some) > size:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * one for one in some]

    made = in_batches(work, list(range(20)), 16)
    assert [one for batch in made for one in batch] == [2 * one for one in range(20)]
    assert tried[0] == 16


def test_what_does_not_fit_alone_is_one_line(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    for kind in ("clip", "xclip"):
        tower = open_tower(models[kind], kind)
        monkeypatch.setattr(tower.video._net.vision_model, "forward", full)  # type: ignore[union-attr]
        with pytest.raises(SacmaError, match="too small for this model; use --device cpu"):
            tower.video.encode(timed(FRAMES))  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["clip", "metaclip_2", "siglip", "siglip2", "xclip", "clap"])
def test_bfloat16_is_near_and_not_the_same(models: dict[str, Path], kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from clip_files import write_clip

    clip = write_clip(tmp_path / "clip.mp4", seconds=2.0)
    made = {}
    for precision in ("full", "bfloat16"):
        tower = open_tower(models[kind], kind)
        model = JointModel(kind, dict.fromkeys(tower.modalities, tower), precision=precision)
        features = model.features(clip, start=None, end=None, limits=LIMITS)
        steps = features.audio if kind == "clap" else features.video
        assert steps is not None
        assert steps.values.dtype == np.float32
        made[precision] = steps.values, next(iter(model.names([ClassName("harp")]).vectors.values()))
    for full, half in zip(*made.values(), strict=True):
        assert not np.array_equal(full, half)
        cosine = (full * half).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
        assert (cosine > 0.99).all()


def test_half_precision_needs_a_gpu(models: dict[str, Path]) -> None:
    with pytest.raises(SacmaError, match="half precision needs a GPU; take --precision bfloat16"):
        open_frozen(str(models["clip"]), precision="half")
    with pytest.raises(SacmaError, match="label-bridge computes in full precision"):
        open_frozen("label-bridge", precision="bfloat16")
