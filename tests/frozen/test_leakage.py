"""Overlap of encoders' training data with benchmarks: the one rule that tables, reports and cards ask."""

from __future__ import annotations

from typing import Any

import pytest

from sacma.frozen.catalogue import known_models
from sacma.frozen.leakage import KNOWN, POSSIBLE, Overlap, encoders_of, known_encoders, overlap, trained_on

LITE = {"audio": {"name": "yamnet"}, "video": {"name": "efficientnet-lite0"}}
CLIP = {
    "audio": {"name": "clap", "model": "laion/clap-htsat-unfused"},
    "video": {"name": "clip", "model": "openai/clip-vit-base-patch32"},
}


def found(provenance: dict[str, Any], **more: Any) -> Overlap | None:
    given = {"benchmark": "own", "features": "any", "split": "main", "unseen": ("erhu",)}
    return overlap(provenance, **(given | more))


def marked(one: Overlap | None) -> str:
    return one.mark if one else ""


@pytest.mark.parametrize(
    ("given", "mark", "said"),
    [
        ({"benchmark": "vggsound", "features": "selavi"}, KNOWN, "VGGSound without labels, which has clips"),
        ({"benchmark": "ucf", "features": "selavi"}, "", ""),
        ({"benchmark": "ucf", "features": "c3d-vggish"}, KNOWN, "Sports-1M, whose labels name classes"),
        ({"benchmark": "ucf", "features": "c3d-vggish", "split": "cls"}, "", ""),
        ({"benchmark": "yt8m", "features": "yt8m"}, KNOWN, "vggish learned from YouTube-8M"),
        ({"benchmark": "avshapes", "features": "descriptors"}, "", ""),
    ],
)
def test_published_features(given: dict[str, Any], mark: str, said: str) -> None:
    one = found({}, **given)
    assert marked(one) == mark
    assert said in (one.note if one else "")


def test_features_name_their_encoders() -> None:
    video = {"video": {"name": "facebook/pe-av-small"}}
    assert marked(found(video, benchmark="vggsound")) == KNOWN
    assert marked(found(video, benchmark="ucf")) == KNOWN  # by Kinetics
    assert marked(found(CLIP, benchmark="ucf")) == POSSIBLE
    assert marked(found(CLIP)) == ""  # own clips are in no list, and CLIP's data have no names
    assert "no list" in found(CLIP, benchmark="ucf").note  # type: ignore[union-attr]


def test_labels_in_the_package_tell_which_classes_are_known() -> None:
    one = found(LITE, unseen=("playing_cello", "erhu", "PlayingTabla", "boxcello"))
    assert one is not None
    assert "AudioSet, whose labels name playing_cello, PlayingTabla" in one.note
    assert "efficientnet-lite0 learned from ImageNet, whose labels name playing_cello" in one.note
    assert "boxcello" not in one.note
    assert found(LITE) is None  # no label names an erhu


def test_clips_of_a_named_data_set_count_as_of_it() -> None:
    assert marked(found(CLIP | {"dataset": "mteb/UCF101-51VA"})) == POSSIBLE
    assert marked(found({"video": {"name": "facebook/pe-av-small"}, "dataset": "mteb/VGGSound"})) == KNOWN
    assert found(CLIP | {"dataset": "someone/else"}) is None


def test_simulated_features_have_no_overlap() -> None:
    assert found({"simulated": True}, benchmark="vggsound", features="selavi") is None


def test_a_folder_of_the_cache_is_its_network() -> None:
    folder = "/home/x/hub/models--openai--clip-vit-base-patch32/snapshots/0123"
    assert encoders_of({"video": {"name": "clip", "model": folder}}, "own") == [
        "openai/clip-vit-base-patch32"
    ]
    assert trained_on({"model": folder}) == ("400 million pictures with text of the web",)
    assert trained_on({"name": "unheard of"}) == ()


def test_every_part_of_a_model_is_a_known_encoder() -> None:
    encoders = known_encoders()
    for model in known_models().values():
        for source in model.sources.values():
            assert set(encoders[source].trained_on) <= set(model.trained_on)
            assert encoders[source].licence in model.licence
