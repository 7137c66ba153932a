"""Tables of clips with several right classes: read, matched with a split, refused where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import folders
from sacma.data.benchmark import Benchmark, Split
from sacma.data.label_tables import read_labels, right_classes
from sacma.errors import SacmaError

ROWS = """video_id,label,modality,background_music,static_image,voice_over
ant_0,Ant,A,True,False,False
ant_0,bee,V,True,False,False
ant_0,people crowd,AV,True,False,False
hen_1,hen,AV,False,False,False
jay_0,people crowd,A,False,False,False
"""


@pytest.fixture(scope="module")
def test_split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    root = folders.write_folder(tmp_path_factory.mktemp("toy") / "root")
    return Benchmark.open(root, folders.NAME, folders.FEATURES).split("test")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text(ROWS)
    return tmp_path / "labels.csv"


def test_classes_of_a_clip_by_modality(table: Path) -> None:
    assert read_labels(table)["ant_0"] == ("Ant", "bee", "people crowd")
    assert read_labels(table, modality="audible")["ant_0"] == ("Ant", "people crowd")
    assert read_labels(table, modality="visible")["ant_0"] == ("bee", "people crowd")


def test_they_are_matched_with_the_clips_of_a_split(table: Path, test_split: Split) -> None:
    found = right_classes(test_split, read_labels(table), source=table)
    names = [test_split.features.names[clip] for clip in test_split.clips[found.clips].tolist()]
    of = {
        name: {test_split.classes.names[place] for place in row.nonzero()[:, 0].tolist()}
        for name, row in zip(names, found.right, strict=True)
    }
    # The toy folder names the clips of all partitions alike; those of the test are of ten classes, four each.
    assert (len(test_split), len(names)) == (40, 39)
    assert of["ant_0"] == {"ant", "bee"}
    assert of["hen_1"] == {"hen"}
    assert of["ant_1"] == {"ant"}
    assert "jay_0" not in of  # none of its classes is a candidate
    assert (found.unlisted, found.unknown) == (37, ("people crowd",))
    assert found.note.startswith("37 clips are not in the table and keep their one class; no candidates")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("clip,name\na,b\n", "columns clip, name; expected label and one of video_id, filename, clip"),
        ("video_id,label\nant_0,\n", "line 2: no video_id or no label"),
        ("video_id,label,modality\nant_0,ant,X\n", "line 2: modality 'X'; it must be A, V or AV"),
        ("video_id,label\n", "no clips in it"),
        ("", "columns none"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(SacmaError, match=said):
        read_labels(tmp_path / "t.csv")


def test_a_table_without_modalities_or_of_other_clips(tmp_path: Path, test_split: Split) -> None:
    path = tmp_path / "t.csv"
    path.write_text("video_id,label\nzzz,ant\n")
    with pytest.raises(SacmaError, match="no column modality, so it does not say what is audible"):
        read_labels(path, modality="audible")
    with pytest.raises(SacmaError, match="none of the test clips is in it, such as 'ant_0'"):
        right_classes(test_split, read_labels(path), source=path)
