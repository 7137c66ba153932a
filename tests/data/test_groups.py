"""Clips that belong together: in features, in lists of clips, in tables of one's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from sacma.data.checks import check
from sacma.data.class_lists import PARTITIONS
from sacma.data.clips_file import INDEX_FILE
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.groups import Siblings, listed_groups, listed_siblings, read_groups, recordings, with_groups
from sacma.errors import SacmaError

GROUPS = ["one", None, "two", "one"]


def opened_writer(folder: Path, *, resume: bool = False) -> FeaturesWriter:
    widths = {"audio_width": 2, "video_width": 3, "audio_step": 1.0, "video_step": 1.0}
    return FeaturesWriter(folder, ("Cat", "Dog"), **widths, provenance={}, resume=resume)


def write(folder: Path, groups: list[str | None], *, resume: bool = False) -> Features:
    with opened_writer(folder, resume=resume) as writer:
        for number, group in enumerate(groups):
            steps = np.full((2, 3), number, np.float32)
            writer.add(f"clip{number}.mp4@0-1", number % 2, 0, steps[:, :2], steps, group=group)
    opened = Features.open(folder)
    opened.verify()
    return opened


def test_groups_come_back(tmp_path: Path) -> None:
    opened = write(tmp_path / "a", GROUPS)
    assert opened.groups() == GROUPS
    assert opened.group_names == ("one", "two")
    assert opened.group is not None
    assert opened.group.tolist() == [0, -1, 1, 0]
    assert recordings(opened) == ["group one", "file clip1.mp4", "group two", "group one"]


def test_features_without_groups_are_as_they_were(tmp_path: Path) -> None:
    opened = write(tmp_path / "a", [None] * 4)
    assert opened.group is None
    assert opened.groups() == [None] * 4
    assert "groups" not in json.loads((tmp_path / "a" / INDEX_FILE).read_text())


def test_groups_survive_an_interruption(tmp_path: Path) -> None:
    writer = opened_writer(tmp_path / "a", resume=True)
    writer.add("first", 0, 0, np.zeros((1, 2)), np.zeros((1, 3)), group="kept")
    writer.commit("x")
    writer.abort()
    assert write(tmp_path / "a", GROUPS, resume=True).groups() == ["kept", *GROUPS]


def test_a_group_that_is_none_is_damage(tmp_path: Path) -> None:
    write(tmp_path / "a", GROUPS)
    index = json.loads((tmp_path / "a" / INDEX_FILE).read_text())
    index["groups"] = ["one"]
    (tmp_path / "a" / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(SacmaError, match="group has values outside"):
        Features.open(tmp_path / "a")


def test_a_table_of_groups(tmp_path: Path) -> None:
    opened = write(tmp_path / "a", GROUPS)
    table = tmp_path / "groups.csv"
    table.write_text(
        "filename,label,recording\nfolder/clip1.mp4@0-1,DOG,three\nclip0.mp4@0-1,Dog,wrong class\nx,Cat,\n"
    )
    found = with_groups(opened, read_groups(table, "recording"), source=table)
    assert found.groups() == ["one", "three", "two", "one"]  # those that it does not name keep theirs
    with pytest.raises(SacmaError, match=r"groups\.csv: no column group"):
        read_groups(table)
    table.write_text("filename,label,group\nother,Dog,three\n")
    with pytest.raises(SacmaError, match=r"groups\.csv: names no clip"):
        with_groups(opened, read_groups(table), source=table)
    with pytest.raises(SacmaError, match="cannot read"):
        read_groups(tmp_path / "none.csv")


def test_lists_of_clips_may_have_groups(tmp_path: Path) -> None:
    (tmp_path / f"{PARTITIONS[0]}.csv").write_text("filename,label,label_code,group\nclip0,Cat,0,one\n")
    (tmp_path / f"{PARTITIONS[1]}.csv").write_text("filename,label,label_code\nclip1,Cat,0\n")
    assert listed_groups(tmp_path) == {("cat", "clip0"): "one"}
    assert listed_groups(tmp_path / "nowhere") == {}


def test_clips_of_the_test_with_siblings_in_training_are_counted(tmp_path: Path) -> None:
    header = "filename,label,label_code,group\n"
    (tmp_path / f"{PARTITIONS[0]}.csv").write_text(header + "a,Cat,0,one\nb,Dog,1,two\nc,Cat,0,\n")
    (tmp_path / f"{PARTITIONS[3]}.csv").write_text(
        header + "d,Cat,0,one\ne,Cat,0,two\nf,Dog,1,two\ng,Cat,0,\n"
    )
    (tmp_path / f"{PARTITIONS[4]}.csv").write_text("filename,label,label_code\nh,Cow,2\n")
    assert listed_siblings(tmp_path) == Siblings(test=3, siblings=2)
    assert listed_siblings(tmp_path / "nowhere") == Siblings(0, 0)


@pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA is not set")
def test_groups_of_a_published_folder() -> None:
    root = Path(os.environ["SACMA_DATA"]) / "cy101"
    report = check(root, "cy101", "cy101")
    assert report.siblings.test == 200
    assert report.siblings.siblings == 0
    assert "groups: 0 of 200 clips of the test share one with clips of stage 1" in str(report)
