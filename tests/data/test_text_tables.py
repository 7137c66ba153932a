"""Tables of class vectors that ``sacma text build`` makes for a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import on, result, sacma, trained
from folders import ALL, FEATURES, NAME, write_folder
from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import write_class_split
from sacma.datasets import avshapes
from sacma.text.encoders import encoder_of
from sacma.text.vectors import TextTable
from text_models import tiny_clip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("toy"))


def text_build(root: Path, *more: object) -> Any:
    return sacma("text", "build", *on(root), *more)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Word vectors of the toy classes, 5 wide."""
    draw = np.random.default_rng(0)
    lines = [f"{word} {' '.join(map(str, draw.standard_normal(5)))}" for word in ("a", *ALL)]
    (tmp_path / "words.txt").write_text("\n".join([f"{len(lines)} 5", *lines]) + "\n")
    return tmp_path / "words.txt"


def test_build_and_train(root: Path, words: Path, tmp_path: Path) -> None:
    made = text_build(root, "--encoder=word2vec", f"--model={words}", "--name=w5", "--force")
    assert made.status == 0, made.err
    path = root / "features" / FEATURES / "text" / "word_embeddings_w5_normed.npz"
    assert f"10 names, 5 numbers each: {path}" in made.out
    assert "sha256: " in made.out
    table = Benchmark.open(root, NAME, FEATURES, text="w5").text_table
    assert set(table.names) == {f"a {name}" for name in ALL}
    np.testing.assert_allclose(encoder_of(table)(["a hen"])[0], table.vectors[table.names.index("a hen")])
    run = trained(root, tmp_path / "run", "--text=w5", "--epochs=1")
    assert result(run)["text"] == "w5"
    first = path.read_bytes()
    assert text_build(root, "--encoder=word2vec", f"--model={words}", "--name=w5", "--force").status == 0
    assert path.read_bytes() == first


def test_build_elsewhere(root: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npz"
    options = ("--encoder=word2vec", f"--model={words}", "--name=other", f"--out={out}")
    assert text_build(root, *options).status == 0
    assert not list(root.rglob("*other*"))
    assert "vectors.npz exists already" in text_build(root, *options).line
    run = trained(root, tmp_path / "run", f"--text={out}", "--epochs=1")
    assert result(run)["text"] == str(out)


def test_build_with_prompts(root: Path, tmp_path: Path) -> None:
    clip_folder = tiny_clip(tmp_path / "clip")
    out = tmp_path / "clip.npz"
    prompts = ("--prompt={}", "--prompt", "the sound of {}")
    made = text_build(root, "--encoder=clip", f"--model={clip_folder}", *prompts, "--name=c", f"--out={out}")
    assert made.status == 0, made.err
    assert TextTable.read(out).provenance["prompts"] == ["{}", "the sound of {}"]  # type: ignore[index]


def test_build_for_avshapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_root: Callable[[], Path]
) -> None:
    monkeypatch.setattr(avshapes, "prepare", lambda on_progress=None: make_root())
    out = tmp_path / "shapes.npz"
    made = sacma("text", "build", "--encoder=avshapes", "--name=again", f"--out={out}")
    assert made.status == 0, made.err
    assert TextTable.read(out).names == avshapes.CLASSES


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[[], Path]:
    def make() -> Path:
        root = tmp_path / "avshapes"
        clips = [(clip.name, clip.class_name, clip.partition) for clip in avshapes.listed_clips()]
        names = {name: name for name in avshapes.CLASSES}
        write_class_split(root / "class-split", avshapes.NAME, names, clips)
        (root / "features" / "descriptors").mkdir(parents=True)
        return root

    return make


def test_build_says_what_is_wrong(root: Path, words: Path, tmp_path: Path) -> None:
    word2vec = ("--encoder=word2vec", f"--model={words}")
    text = root / "features" / FEATURES / "text"
    assert (
        f"--name {NAME} is that of the benchmark's own table"
        in text_build(root, *word2vec, f"--name={NAME}").line
    )
    assert "should be letters, digits" in text_build(root, *word2vec, "--name=../up").line
    assert (
        "a table of class vectors is a .npz file"
        in text_build(root, *word2vec, "--name=x", "--out=x.csv").line
    )
    assert "no folder missing" in text_build(root, *word2vec, "--name=x", "--features=missing").line
    assert "--root is missing" in sacma("text", "build", *word2vec, "--name=x", "--benchmark=ucf").line
    words.write_text(words.read_text().replace("\nhen ", "\nhens "))
    assert "no vector for 'hen' (nearest: 'hens'" in text_build(root, *word2vec, "--name=x").line
    (text / "word_embeddings_old_normed.npy").write_bytes(b"")
    assert "old_normed.npy has that name already" in text_build(root, *word2vec, "--name=old").line
    assert not (text / "word_embeddings_x_normed.npz").exists()


def test_a_read_only_folder_stays_as_it_is(words: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "toy")
    text = root / "features" / FEATURES / "text"
    text.chmod(0o555)
    said = text_build(root, "--encoder=word2vec", f"--model={words}", "--name=w5").line
    text.chmod(0o755)
    assert "is read-only; pass --out FILE.npz" in said
    assert len(list(text.iterdir())) == 1
