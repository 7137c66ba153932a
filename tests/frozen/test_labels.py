"""Labels of pretrained classifiers as evidence."""

from __future__ import annotations

import numpy as np
import pytest

from sacma.frozen.labels import Labels, audioset, imagenet


def test_imagenet_has_its_thousand_labels_in_order() -> None:
    labels = imagenet()
    assert labels.count == 1000
    some = {
        0: "tench",
        207: "golden retriever",
        401: "accordion",
        594: "harp",
        889: "violin",
        999: "toilet paper",
    }
    assert {place: labels.names[place].lower() for place in some} == some
    assert len(set(labels.names[:1000])) == 1000


def test_audioset_has_the_labels_of_yamnet_in_order() -> None:
    labels = audioset()
    assert labels.count == len(labels.names) == 521
    some = {
        0: "speech",
        67: "animal",
        132: "music",
        194: "harp",
        277: "wind",
        420: "explosion",
        494: "silence",
    }
    assert {place: labels.names[place] for place in some} == some


def test_a_group_is_true_as_often_as_its_labels_together() -> None:
    labels = imagenet()
    dogs = labels.groups[labels.names[1000:].index("dog")]
    assert {"beagle", "pug"} <= {labels.names[row].lower() for row in dogs}
    assert len(dogs) > 100
    one = np.zeros((1, 1000))
    one[0, list(dogs)] = 1 / len(dogs)
    evidence = labels.evidence(one)[0]
    assert evidence[labels.names.index("dog")] == pytest.approx(1)
    assert evidence[labels.names.index("tench")] < 0


def test_evidence_is_zero_at_the_share_and_one_at_certainty() -> None:
    labels = Labels(("a", "b", "either"), ("", "", ""), ((0, 1),), np.array([0.2, 0.1, 0.3]))
    p = np.array([[0.2, 0.1], [1.0, 0.0]])
    evidence = labels.evidence(p)
    assert evidence[0] == pytest.approx([0, 0, 0], abs=1e-12)
    assert evidence[1, 0] == pytest.approx(1)
    assert evidence[1, 1] == pytest.approx(np.log(0.01 / 0.11) / np.log(1.01 / 0.11))
    assert evidence[1, 2] == pytest.approx(1)


def test_texts_of_a_label_say_what_kind_it_is() -> None:
    labels = imagenet()
    assert labels.texts[401] == ("accordion", "accordion, free-reed instrument")
    assert labels.texts[labels.names.index("dog")] == ("dog",)
