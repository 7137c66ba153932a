"""Forms of answers for other programs."""

from __future__ import annotations

import csv
import io
import json

import pytest

from sacma.predict import Answer, Prediction, Segment, Window
from sacma.predict.outputs import Outcome, document, fiftyone, label_studio, rows, strips, subtitles

ANT, BEE = Answer("ant", 0.75, True), Answer("bee <b>", 0.25, False)
WINDOWS = (
    Window(0.0, 3.0, (ANT, BEE), {"audio": ANT}, "audio", (0.0, 4.0)),
    Window(3.0, 6.0, (BEE, ANT), {}, None, (2.0, 6.0)),
)
COURSE = (Segment(0.0, 3.25, "ant", 0.8, "audio"), Segment(3.25, 3661.5, "bee <b>", 0.6))
FILM = Prediction(
    "in/film.mp4", (ANT, BEE), WINDOWS, True, ("a remark", "another"), because=("dog",), timeline=COURSE
)
CLIP = Prediction("in/clip.mp4", (ANT,), (Window(0.0, 2.0, (ANT,), {}, None),), True, rejected=True)
BAD = Outcome("in/bad.mp4", failure="no media file")


@pytest.mark.parametrize("one", [Outcome("in/film.mp4", FILM), Outcome("in/clip.mp4", CLIP), BAD])
def test_a_line_of_json_comes_back(one: Outcome) -> None:
    line = one.line()
    assert line.endswith("\n")
    assert Outcome.of_line(line) == one
    told = json.loads(line)
    assert (told["clip"], told["status"], told["note"]) == (one.clip, one.status, one.note)
    for damaged in (line[:-20], "{}", "[]", "3", '{"status": "ok", "note": ""}'):
        with pytest.raises(ValueError, match=r".?"):
            Outcome.of_line(damaged)


def test_csv_rows_say_what_became_of_a_clip() -> None:
    all_of_them = [Outcome("in/film.mp4", FILM), Outcome("in/clip.mp4", CLIP), BAD]
    found = list(csv.DictReader(io.StringIO(document("csv", all_of_them))))
    assert [row["status"] for row in found] == ["ok"] * 8 + ["none fits", "failed"]
    assert found[0]["note"] == "a remark; another"
    assert found[-1]["note"] == "no media file"
    assert found[-1]["clip"] == "in/bad.mp4"
    assert found[-1]["name"] == ""
    assert document("jsonl", all_of_them) == "".join(rows("jsonl", one) for one in all_of_them)


def test_subtitles() -> None:
    assert subtitles(FILM) == (
        "1\n00:00:00,000 --> 00:00:03,250\nant (80 %)\n\n2\n00:00:03,250 --> 01:01:01,500\nbee <b> (60 %)\n"
    )
    assert subtitles(CLIP) == "1\n00:00:00,000 --> 00:00:02,000\nant (75 %)\n"


def test_label_studio_counts_frames_from_one() -> None:
    (task,) = label_studio([FILM])
    assert task["data"] == {"video": "in/film.mp4"}
    (told,) = task["predictions"]
    values = [one["value"] for one in told["result"]]
    assert values[0] == {"ranges": [{"start": 1, "end": 81}], "timelinelabels": ["ant"]}
    assert values[1]["ranges"][0]["start"] == 82
    assert {one["type"] for one in told["result"]} == {"timelinelabels"}


def test_fiftyone_knows_classes_and_times() -> None:
    told = fiftyone([FILM, CLIP])
    assert told["classes"] == ["ant", "bee <b>"]
    assert told["labels"]["film"][1] == {
        "label": "bee <b>",
        "timestamps": [3.25, 3661.5],
        "confidence": 0.6,
    }
    assert told["labels"]["clip"][0]["timestamps"] == [0.0, 2.0]
    assert json.loads(document("fiftyone", [Outcome("in/film.mp4", FILM)]))["classes"] == told["classes"]


def test_a_page_of_strips_shows_shares_and_no_tags_of_names() -> None:
    page = strips([Prediction("a <i>.mp4", (ANT, BEE), WINDOWS, True, timeline=COURSE[:1]), FILM])
    assert "width:100.00%" in page
    assert "bee &lt;b&gt;" in page
    assert "<b>" not in page
    assert "a &lt;i&gt;.mp4" in page
    assert page.count('class="strip"') == 2
    assert "http" not in page  # nothing is fetched
