"""The report page: what it shows, what it says about runs that it cannot show, and how a browser takes it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from commands import Outcome, on, result, sacma, train, trained
from folders import write_folder
from sacma.errors import SacmaError
from sacma.results.comparison import comparisons, over_clips, published_figures
from sacma.results.group_section import section_of
from sacma.results.page import render, write_report
from sacma.results.run_groups import RunGroup, collect, read_run

for _package in ("jinja2", "matplotlib", "sklearn"):
    pytest.importorskip(_package)

HOSTILE = "<script>alert('x')</script>&\"$x_1$"
FEW = ("--epochs=2", "--batches-per-epoch=2", "--batch-size=8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def study(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of methods, each with a folder of seeds."""
    folder = tmp_path_factory.mktemp("study")
    assert train(root, folder / "sacma", "--seeds=3", "--epochs=2").status == 0
    ale = sacma("train", *on(root), "--method=ale", *FEW, "--seeds=3", f"--out={folder / 'ale'}")
    assert ale.status == 0, ale.err
    return folder


@pytest.fixture(scope="module")
def written(study: Path) -> tuple[Path, Outcome]:
    """The page of the study, written by the command."""
    return study / "report.html", sacma("report", study)


@pytest.fixture
def run(study: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(study / "sacma" / "seed-0", tmp_path / "run"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts left empty: drawing them takes most of the time, and the words of the page are the point."""
    monkeypatch.setattr("sacma.results.charts.inline_svg", lambda figure: "<svg></svg>")


class Page(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# --- What it shows ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study(written: tuple[Path, Outcome], study: Path) -> None:
    path, outcome = written
    assert outcome.status == 0, outcome.err
    assert f"report: {path}" in outcome.out
    page = Page(path.read_text(encoding="utf-8"))
    values = [result(study / "sacma" / f"seed-{seed}")["test"]["seen"] for seed in range(3)]
    mean = sum(values) / 3
    std = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert f"{100 * mean:.1f} ± {100 * std:.1f}" in page.text
    for said in (
        "sacma, ale on toy",
        "toy, main split: 40 test clips, 10 classes",
        "Is the difference to sacma more than chance of the seed?",
        "Paired t-test over runs with the same seed",
        "Seen-unseen curve",
        "contrastive, stage 1",
        "reconstruction, stage 2",
        "t-SNE of 6 seen classes",
        "Most confused classes",
        "Accuracy of every class",
        "Wrong answers, and the names that are near",
        "learning_rate",
        "threads",
    ):
        assert said in page.text, said
    assert path.stat().st_size < 5_000_000


@pytest.mark.usefixtures("undrawn")
def test_the_area_of_rejection_is_that_of_scikit_learn(run: Path) -> None:
    from sklearn.metrics import roc_auc_score

    columns = read_run(run).predictions
    area = {
        "seen": roc_auc_score(columns["seen"], [-d for d in columns["nearest_seen_distance"]]),
        "unseen": roc_auc_score(
            [not seen for seen in columns["seen"]], [-d for d in columns["nearest_unseen_distance"]]
        ),
    }
    text = Page(render(*collect([run]))[0]).text
    assert "none of these" in text
    assert f"all seen names being offered {100 * area['seen']:.1f}" in " ".join(text.split())
    assert f"all unseen names being offered: {100 * area['unseen']:.1f}" in " ".join(text.split())


def test_it_is_complete_in_itself(written: tuple[Path, Outcome]) -> None:
    html = written[0].read_text(encoding="utf-8")
    page = Page(html)
    assert not page.of("script")
    assert not page.of("img")
    assert all(link["href"] == "data:," for link in page.of("link"))
    assert all((a["href"] or "").startswith("#") for a in page.of("a"))
    addresses = set(re.findall(r"https?://[^\"' <]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    policy = next(meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_it_can_be_read_out(written: tuple[Path, Outcome]) -> None:
    page = Page(written[0].read_text(encoding="utf-8"))
    assert page.of("html")[0]["lang"] == "en"
    assert all(th.get("scope") in ("row", "col") for th in page.of("th"))
    charts = [div for div in page.of("div") if div.get("role") == "img"]
    assert len(charts) > 20
    assert all(div["aria-label"] for div in charts)
    hidden = [svg for svg in page.of("svg") if svg.get("aria-hidden") == "true"]
    assert len(hidden) == len(page.of("svg"))
    named = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    outside = [name for name in named if name and name.startswith("run-")]
    assert len(outside) == len(set(outside))


@pytest.mark.usefixtures("undrawn")
def test_a_single_run_is_not_compared(run: Path) -> None:
    path, notes = write_report([run])
    page = Page(path.read_text(encoding="utf-8"))
    assert path == run / "report.html"
    assert not notes
    assert "Paired" not in page.text
    assert "over seeds" not in page.text
    assert "chance" in page.text


@pytest.mark.usefixtures("undrawn")
def test_chance_intervals_sizes_and_times_stand_in_the_table(study: Path) -> None:
    (table,) = comparisons(collect([study])[0])
    assert table["chance"] == {"S": 0.1, "U": 0.1, "HM": 0.1, "ZSL": 1 / 3}
    sacma_, ale = table["rows"]
    weights = load_file(study / "ale" / "seed-0" / "model.safetensors")
    assert ale["parameters"] == sum(value.size for value in weights.values())
    run = read_run(study / "sacma" / "seed-0")
    assert sacma_["seconds"] > 0.5 * sum(row.seconds for row in run.epochs)
    # Three unseen classes of four clips each: a mean of binomial shares.
    zsl = read_run(study / "ale" / "seed-0").result.test.per_class_zsl
    expected = 1.96 * sum(p * (1 - p) / 4 for p in zsl.values()) ** 0.5 / 3
    alone = over_clips(RunGroup("ale", (read_run(study / "ale" / "seed-0"),)))
    assert alone["ZSL"] == pytest.approx(expected, rel=0.1)
    assert set(alone) == {"S", "U", "HM", "ZSL"}


def test_classes_of_two_runs_are_compared(study: Path) -> None:
    (table,) = comparisons(collect([study])[0])
    found = table["differences"]
    assert (found["first"], found["second"]) == ("sacma", "ale")
    mean = {
        name: [
            sum(result(study / name / f"seed-{seed}")["test"]["per_class"][one] for seed in range(3)) / 3
            for one in ("ant", "hen")
        ]
        for name in ("sacma", "ale")
    }
    of_class = {row["name"]: row for row in found["rows"]}
    for place, one in enumerate(("ant", "hen")):
        expected = mean["ale"][place] - mean["sacma"][place]
        assert of_class[one]["difference"] == pytest.approx(expected)
    sizes = [abs(row["difference"]) for row in found["rows"]]
    assert sizes == sorted(sizes, reverse=True)
    assert found["better"] + found["worse"] + found["same"] == 10
    assert table["curves"]["svg"].count("<svg") == 1
    assert all(f">{name}<" in table["curves"]["svg"] for name in ("sacma", "ale"))


def test_published_figures_stand_beside_runs_of_their_benchmark(study: Path) -> None:
    (group, _), _ = collect([study])
    assert published_figures([group]) == []
    on_ucf = [replace(run, result=replace(run.result, benchmark="ucf")) for run in group.runs]
    (row,) = published_figures([RunGroup("sacma", tuple(on_ucf))])
    assert (row["label"], row["figures"]["HM"]) == ("SACMA", 37.71)


def test_charts_are_folded(written: tuple[Path, Outcome]) -> None:
    html = written[0].read_text(encoding="utf-8")
    assert "<details open" not in html
    outside = re.sub(r"<details.*?</details>", "", html, flags=re.DOTALL)
    assert "<figure" in html
    assert "<figure" not in outside


@pytest.mark.usefixtures("undrawn")
def test_made_up_data_have_a_banner(written: tuple[Path, Outcome], run: Path) -> None:
    assert not [p for p in Page(written[0].read_text()).of("p") if p.get("class") == "banner"]
    facts = json.loads((run / "prediction.json").read_text())
    edit(run / "prediction.json", provenance={**facts["provenance"], "simulated": True})
    text = Page(render(*collect([run]))[0]).text
    assert (
        "The features of toy are simulated, drawn around its class vectors: these figures say nothing" in text
    )


def test_thirty_runs_fit_into_one_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (group,), notes = collect([run])
    section = section_of(group, 0, None, None)
    monkeypatch.setattr(
        "sacma.results.page.section_of", lambda group, place, *_: {**section, "anchor": f"run-{place}"}
    )
    groups = [replace(group, label=f"sacma {number}") for number in range(30)]
    page, _ = render(groups, notes)
    assert len(page.encode()) < 5_000_000
    assert page.count("<h3>Accuracy of every class</h3>") == 30


@pytest.mark.usefixtures("undrawn")
def test_pictures_of_wrong_clips(run: Path, tmp_path: Path) -> None:
    clip_files = pytest.importorskip("clip_files")
    wrong = section_of(*collect([run])[0], 0, None, None)["wrong_clips"]
    clips = tmp_path / "clips" / "any"
    clips.mkdir(parents=True)
    clip_files.write_clip(clips / f"{wrong[0]['clip']}.mp4")
    (clips / f"{wrong[1]['clip']}.mp4").write_bytes(b"no video")
    outcome = sacma("report", run, f"--clips={tmp_path / 'clips'}")
    assert outcome.status == 0, outcome.err
    (picture,) = Page((run / "report.html").read_text()).of("img")
    assert (picture["src"] or "").startswith("data:image/jpeg;base64,")
    assert "no such folder of clips" in sacma("report", run, f"--clips={tmp_path / 'none'}").line


def test_the_same_runs_give_the_same_page(run: Path) -> None:
    first = write_report([run])[0].read_bytes()
    assert write_report([run])[0].read_bytes() == first


def test_a_page_that_would_be_too_large(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = render(*collect([run]))
    monkeypatch.setattr("sacma.results.page.LARGEST", len(whole.encode()) - 1000)
    page, notes = render(*collect([run]))
    assert notes == ["sacma: no t-SNE, the page would be larger than 5 MB"]
    assert len(page.encode()) < len(whole.encode()) - 1000
    assert "the page would be larger than 5 MB" in Page(page).text
    assert "contrastive, stage 1" in Page(page).text


@pytest.mark.usefixtures("undrawn")
def test_two_seeds_are_too_few(study: Path) -> None:
    seeds = [study / method / f"seed-{seed}" for method in ("sacma", "ale") for seed in (0, 1)]
    groups, notes = collect(seeds)
    assert [(group.label, len(group.runs)) for group in groups] == [("sacma", 2), ("ale", 2)]
    assert "too few seeds to test: 2 in common, at least 3 are needed" in Page(render(groups, notes)[0]).text


def test_runs_of_one_method_are_told_apart(study: Path, root: Path, tmp_path: Path) -> None:
    other = trained(root, tmp_path / "other", "--epochs=1", "--temperature=0.1")
    labels = [group.label for group in collect([study / "sacma", other])[0]]
    assert labels == [
        "sacma, temperature 0.05, epochs 2",
        "sacma, temperature 0.1, epochs 1",
    ]


# --- What it cannot show ------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_other_runs_go_on(study: Path, run: Path, tmp_path: Path) -> None:
    (run / "result.json").unlink()
    said = sacma("report", study / "ale", run, f"--out={tmp_path / 'page.html'}")
    assert said.status == 0, said.err
    assert f"note: Left out: the run {run} is not finished" in said.out
    assert f"Left out: the run {run} is not finished" in Page((tmp_path / "page.html").read_text()).text


@pytest.mark.usefixtures("undrawn")
def test_test_clips_that_differ_are_not_compared(study: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "toy", test_seed=7)
    lists = root / "class-split" / "main_split" / "stage_2_test_unseen.txt"
    lists.write_text(lists.read_text().replace("jay\n", ""))
    other = trained(root, tmp_path / "other", "--epochs=2")
    groups, notes = collect([study / "sacma", other])
    page = Page(render(groups, notes)[0])
    assert [group.label for group in groups] == [
        "sacma on toy (40 test clips)",
        "sacma on toy (36 test clips)",
    ]
    assert "These runs have different test clips" in page.text
    assert "Paired" not in page.text
    assert "36 test clips, 9 classes" in page.text


def test_the_same_run_twice(study: Path, run: Path) -> None:
    groups, notes = collect([study / "sacma" / "seed-0", study / "sacma", run])
    assert [len(group.runs) for group in groups] == [3]
    assert len(notes) == 1
    assert "repeats" in notes[0]


@pytest.mark.usefixtures("undrawn")
def test_data_that_have_gone(run: Path, study: Path, root: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(root), "/no/such/root"))
    page, notes = render(*collect([run]))
    assert "the data cannot be opened" in notes[0]
    assert "t-SNE of" not in Page(page).text
    assert "Most confused classes" in Page(page).text
    again, notes = render(*collect([run]), root=str(root))
    assert not notes
    assert "t-SNE of" in Page(again).text


def test_weights_that_were_imported_have_no_curves(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    text = Page(render(*collect([run]))[0]).text
    assert "No learning curves" in text
    assert "Seen-unseen curve" in text


def rewritten(run: Path, **columns: Any) -> None:
    path = run / "predictions.parquet"
    table = pq.ParquetFile(path).read().to_pydict()
    pq.write_table(pa.table(table | columns), path)


def damage(kind: str, run: Path) -> None:
    predictions = run / "predictions.parquet"
    lines = (run / "metrics.jsonl").read_text().splitlines()
    perfect = pq.ParquetFile(predictions).read()["class"].to_pylist()
    damaging: dict[str, Any] = {
        "no predictions": predictions.unlink,
        "cut predictions": lambda: predictions.write_bytes(predictions.read_bytes()[:-40]),
        "column missing": lambda: pq.write_table(pa.table({"clip": ["a"]}), predictions),
        "column of other type": lambda: rewritten(run, seen=["yes"] * 40),
        "no class": lambda: rewritten(run, **{"class": [None] * 40}),
        "other predictions": lambda: rewritten(run, nearest_seen=perfect, nearest_unseen=perfect),
        "no number": lambda: (run / "metrics.jsonl").write_text(
            lines[0].replace('"loss": ', '"loss": "x') + "\n"
        ),
        "NaN": lambda: (run / "metrics.jsonl").write_text(
            re.sub(r'"loss": [\d.]+', '"loss": NaN', lines[0]) + "\n"
        ),
        "no losses": lambda: (run / "metrics.jsonl").write_text('{"stage": 1, "epoch": 1, "loss": 1}\n'),
        "other version": lambda: edit(run / "result.json", format=99),
        "no figures": lambda: edit(run / "result.json", test=None),
        "broken config": lambda: (run / "config.yaml").write_text("method: [1"),
    }
    damaging[kind]()


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.usefixtures("undrawn")
def test_features_of_an_encoder_that_knows_the_unseen_classes_are_marked(study: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(study, tmp_path / "study"))
    for facts in copied.glob("sacma/*/prediction.json"):
        provenance = {"video": {"name": "facebook/pe-av-small"}, "dataset": "mteb/VGGSound"}
        edit(facts, provenance=json.loads(facts.read_text())["provenance"] | provenance)
    page = render(*collect([copied]))[0]
    assert ">sacma †</a>" in page
    assert '-title">sacma †</h2>' in page
    assert "facebook/pe-av-small learned from VGGSound, which has clips of this data set" in page
    assert ">ale</a>" in page  # its features say nothing of encoders


@pytest.mark.parametrize(
    "kind",
    [
        "no predictions",
        "cut predictions",
        "column missing",
        "column of other type",
        "no class",
        "other predictions",
        "no number",
        "NaN",
        "no losses",
        "other version",
        "no figures",
        "broken config",
    ],
)
def test_damaged_runs(kind: str, run: Path) -> None:
    damage(kind, run)
    assert str(run) in sacma("report", run).line
    assert not (run / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_environment_is_no_reason_to_stop(run: Path) -> None:
    (run / "environment.json").write_text("{")
    assert read_run(run).environment == {}
    assert "environment.json is not there or damaged" in Page(render(*collect([run]))[0]).text


def test_folders_without_runs(tmp_path: Path) -> None:
    assert "has no run in it; name a run folder" in sacma("report", tmp_path).line
    assert "no such run folder" in sacma("report", tmp_path / "missing").line
    assert "needs RUN" in sacma("report").line


def test_a_missing_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(SacmaError, match=r"pip install 'sacma\[report\]'"):
        write_report([run])


# --- In a browser -------------------------------------------------------------------------------------


def with_hostile_names(run: Path) -> None:
    """A class and a clip with names that would run, were they not escaped."""
    table = pq.ParquetFile(run / "predictions.parquet").read().to_pydict()
    names = ("class", "prediction", "prediction_zsl", "nearest_seen", "nearest_unseen")
    for column in names:
        table[column] = [HOSTILE if name == "ant" else name for name in table[column]]
    table["clip"] = [f"{HOSTILE}{number}" for number in range(len(table["clip"]))]
    # The order of class names decides ties of distance; there are none here.
    pq.write_table(pa.table(table), run / "predictions.parquet")
    text = (run / "result.json").read_text().replace('"ant":', f"{json.dumps(HOSTILE)}:")
    (run / "result.json").write_text(text)
    edit(run / "environment.json", platform=HOSTILE)


def test_hostile_names_are_text(run: Path) -> None:
    with_hostile_names(run)
    html, _ = render(*collect([run]))
    page = Page(html)
    assert not page.of("script")
    assert page.text.count(HOSTILE) > 5


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 375)])
def test_in_a_browser(
    chromium: Any, written: tuple[Path, Outcome], run: Path, scheme: str, width: int
) -> None:
    with_hostile_names(run)
    write_report([run])
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in (written[0], run / "report.html"):
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(path.as_uri())
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] == wide[1] == width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 23)"
        assert dark == (scheme == "dark")
        text = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        assert text == ("rgb(232, 235, 238)" if dark else "rgb(27, 31, 36)")
        page.close()
    context.close()
