"""Small models of text that tests write: a CLIP model with random weights, and files of word vectors."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

VECTORS = {
    "a": [1.0, 0, 0],
    "ant": [1, 2, 2],
    "bee": [0, 3, 4],
    "playing": [2, 0, 0],
    "flute": [0, 0, 2],
    "Paris": [0, 1, 0],
}


def tiny_clip(folder: Path) -> Path:
    """Write a CLIP model with random weights and its tokenizer, as ``save_pretrained`` does."""
    transformers = pytest.importorskip("transformers")
    folder.mkdir(exist_ok=True)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **size,
        "projection_dim": 24,
        "vocab_size": len(vocabulary),
        "bos_token_id": 188,
        "eos_token_id": 189,
    }
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config={**size, "image_size": 8, "patch_size": 4},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word2vec_file(path: Path, *, binary: bool = False, header: bool = True) -> Path:
    """Write ``VECTORS`` in word2vec's format, or without ``header`` in GloVe's; a ``.gz`` is compressed."""
    head = f"{len(VECTORS)} 3\n" if header else ""
    content = head.encode()
    for word, vector in VECTORS.items():
        numbers = " ".join(map(str, vector)).encode() + b"\n"
        content += word.encode() + b" " + (np.float32(vector).tobytes() if binary else numbers)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
