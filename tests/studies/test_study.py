"""Studies: experiment files, rows in processes of their own, the table, and errors over test clips."""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import folders
from commands import on, sacma
from sacma.errors import SacmaError
from sacma.files import read_json
from sacma.metrics.gzsl import clip_errors, harmonic_mean
from sacma.models import METHODS
from sacma.progress import SILENT, Reporter, Silent
from sacma.runs.config import PUBLISHED_RUN, RunConfig, resolve
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import open_benchmark
from sacma.studies import jobs
from sacma.studies import study as studies
from sacma.studies.study import (
    Row,
    RowResult,
    chance,
    chosen_rows,
    read_facts,
    read_study,
    row_options,
    run_name,
    run_study,
    setting_name,
)

BENCHMARKS = {"ucf", "vggsound", "activitynet"}
ROW = "order: 1\nlabel: One\noptions: {method: eszsl}\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study ``mine``, still empty, beside a whole one."""
    for name in ("mine", "whole"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
    (tmp_path / "experiments" / "whole" / "one.yaml").write_text(ROW)
    monkeypatch.setattr(studies, "experiments_folder", lambda: tmp_path / "experiments")
    return tmp_path / "experiments" / "mine"


# --- The experiment files of the project ----------------------------------------------------------


# Rows of Table 2 that are no method of their own.
NOT_METHODS = ("frozen-without-bias", "sacma-with-frozen", "kite-with-frozen", "clipclap-with-frozen")


def test_table_2_has_a_row_a_method_in_the_papers_order() -> None:
    rows = read_study("table2")
    named = [row for row in rows if row.name not in NOT_METHODS]
    assert [row.options["method"] for row in named] == [row.name for row in named]
    assert {row.name for row in named} == set(METHODS)
    assert [row.order for row in rows] == list(range(-1, len(METHODS) + len(NOT_METHODS) - 1))
    assert {row.name for row in rows} - set(METHODS) == set(NOT_METHODS)
    assert [row.options["method"] for row in rows[:2]] == [
        "frozen",
        "frozen",
    ]  # what needs no training is first
    assert len({row.label for row in rows}) == len(rows)


@pytest.mark.parametrize("like", ["published", "ours"])
@pytest.mark.parametrize("benchmark", sorted(BENCHMARKS))
@pytest.mark.parametrize("row", read_study("table2"), ids=lambda row: row.name)
def test_every_row_is_a_valid_run(row: Row, benchmark: str, like: str) -> None:
    given = {"benchmark": benchmark, "features": "selavi", "root": "anywhere"}
    config = resolve(row_options(row, given, like=like))
    assert config.method == row.name.split("-with")[0]
    assert config.data.benchmark == benchmark
    found = {name: config.options()[name] for name in PUBLISHED_RUN}
    own = METHODS[config.method].PUBLISHED_TRAINING
    published = PUBLISHED_RUN | {name: value for name, value in own.items() if name in PUBLISHED_RUN}
    assert (found == published) == (like == "published")
    if "published" in METHODS[config.method].VARIANTS:
        assert (config.variant == "published") == (like == "published")


@pytest.mark.parametrize("like", ["published", "ours"])
def test_both_variants_differ_by_their_method_alone(like: str) -> None:
    """Whatever --like says: each row names its variant."""
    both = {name for name, method in METHODS.items() if "published" in method.VARIANTS}
    pairs: dict[str, list[RunConfig]] = {}
    for row in read_study("variants"):
        config = resolve(row_options(row, {"root": "anywhere", "preset": "small"}, like=like))
        assert row.name == f"{config.method}-{config.variant}"
        pairs.setdefault(config.method, []).append(config)
    assert set(pairs) == both
    for name, (default, published) in pairs.items():
        assert [default.variant, published.variant] == [next(iter(METHODS[name].VARIANTS)), "published"]
        assert (default.data, default.protocol) == (published.data, published.protocol)
        own = METHODS[name].PUBLISHED_TRAINING.items()
        changed = {option: value for option, value in own if option not in PUBLISHED_RUN}
        assert replace(default.training, **changed) == published.training
        assert default.model != published.model
    gains = [(f"{name}-published", f"{name}-{one[0].variant}") for name, one in pairs.items()]
    assert read_facts("variants").gains == gains


def test_default_variants_share_the_runs_of_table_2() -> None:
    given = {"benchmark": "ucf", "features": "selavi", "root": "anywhere"}
    table2, both = (
        {run_name(row, given, like="ours") for row in read_study(name)} for name in ("table2", "variants")
    )
    assert {name for name in both if "published" not in name} <= table2
    assert len(both) == len(read_study("variants"))


TABLES = [f"table{number}" for number in range(2, 8)]


def test_printed_figures_agree_with_each_other() -> None:
    wrong, noted = set(), set()
    for row in (row for table in TABLES for row in read_study(table)):
        noted |= {(row.name, name) for name, errata in row.errata.items() if "HM" in errata}
        assert not row.expected or set(row.expected) == BENCHMARKS
        for benchmark, printed in row.expected.items():
            assert all(0 < value < 100 for value in printed.values())
            least, most = (
                2 / (1 / (printed["S"] + move) + 1 / (printed["U"] + move)) for move in (-0.005, 0.005)
            )
            if not least - 0.0051 <= printed["HM"] <= most + 0.0051:
                wrong.add((row.name, benchmark))
    assert wrong == noted == {("ale", "ucf"), ("tcaf", "activitynet"), ("phi-v", "vggsound")}


def test_complete_sacma_is_the_same_in_every_table() -> None:
    rows = {table: {row.name: row for row in read_study(table)} for table in TABLES}
    complete = [rows[table]["phi-m" if table == "table7" else "sacma"] for table in TABLES]
    assert {repr(row.expected) for row in complete} == {repr(complete[0].expected)}
    assert all(row.options == {"method": "sacma"} for row in complete)


def test_printed_figures_are_those_of_the_published_table(data_dir: Path) -> None:
    path = data_dir.parent / "paper" / "published_results.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open() as file:
        published = list(csv.DictReader(file))
    titles = {"UCF-GZSL": "ucf", "VGGSound-GZSL": "vggsound", "ActivityNet-GZSL": "activitynet"}
    told: dict[str, list[str]] = {}
    for line in published:
        figures = {name: float(line[name]) for name in studies.PRINTED}
        told.setdefault(line["table"].split("_")[0], []).append(f"{titles[line['dataset']]} {figures}")
    for table in TABLES:
        ours = [f"{name} {dict(f)}" for row in read_study(table) for name, f in row.expected.items()]
        assert sorted(ours) == sorted(told[table])


@pytest.mark.parametrize("table", [*TABLES, "alignment"])
def test_experiment_files_say_what_to_expect(table: str) -> None:
    facts = studies.read_facts(table)
    rows = read_study(table)
    names = {row.name for row in rows}
    assert facts.title.startswith("Table" if table != "alignment" else "Class vectors")
    assert names >= {name for gain in facts.gains for name in gain}
    for row in rows:
        head = (studies.experiments_folder() / table / f"{row.name}.yaml").read_text().split("\n\n")[0]
        assert re.search(rf"#   (run:|    )    *sacma reproduce {table} --row {row.name} ", head), row.name
        assert "#   takes:     " in head
        for benchmark, printed in row.expected.items():
            if benchmark == "ucf":
                assert f"S {printed['S']:.2f}  U {printed['U']:.2f}  HM {printed['HM']:.2f}" in head
        # What an ablation changes is an assumption, or the paper names it.
        assert row.not_in_paper.keys() <= {*row.options, "output"}


def test_wheel_has_all_data_files(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    project = Path(__file__).parents[2]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    folders_of = {
        "experiments": project / "src",
        "presets": project / "src",
        "data/facts": project / "src",
        "app/templates": project / "src",
        "results/templates": project / "src",
    }
    for folder, parent in folders_of.items():
        files = {str(path.relative_to(parent)) for path in (parent / "sacma" / folder).rglob("*.*")}
        assert files
        assert files <= held, files - held


# --- Reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table9", "", "..", "table2/..", "mine"])
def test_unknown_study(name: str, own: Path) -> None:
    with pytest.raises(SacmaError, match=r"no study .*; there are: whole$"):
        read_study(name)


DAMAGED = {
    "not YAML": "order: [1\nlabel: One\n",
    "nothing": "",
    "a list": "- 1\n",
    "an unknown key": ROW + "colour: red\n",
    "a name": ROW + "name: two\n",
    "no label": "order: 1\noptions: {method: eszsl}\n",
    "an order in words": ROW.replace("1", "first"),
    "no method": ROW.replace("method: eszsl", "depth: 1"),
    "options as a list": ROW.replace("{method: eszsl}", "[method]"),
    "notes as text": ROW + "notes: some\n",
    "expected without HM": ROW + "expected: {ucf: {S: 1.0, U: 1.0, ZSL: 1.0}}\n",
    "expected in words": ROW + "expected: {ucf: {S: 1.0, U: 1.0, HM: one, ZSL: 1.0}}\n",
    "not text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_experiment_file(kind: str, own: Path) -> None:
    content = DAMAGED[kind]
    (own / "one.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = sacma("reproduce", "mine", "--root=/nowhere").line
    assert str(own / "one.yaml") in line


def test_rows_come_in_their_order_and_by_name(own: Path) -> None:
    (own / "b.yaml").write_text(ROW)
    (own / "a.yaml").write_text(ROW.replace("1", "2"))
    rows = read_study("mine")
    assert [row.name for row in rows] == ["b", "a"]
    assert chosen_rows(rows, []) == rows
    assert [row.name for row in chosen_rows(rows, ["a", "b", "a"])] == ["a", "b"]


MISTAKES = [
    (["table9"], ["table9", "table2"]),
    (["table2", "--row=nope"], ["nope", "f-vaegan-d2"]),
    (["table2", "--row=[ale,nope]"], ["nope"]),
    (["table2", "--seeds=0"], ["seeds", "0"]),
    (["table2", "--jobs=0"], ["jobs", "0"]),
    (["table2", "--like=theirs"], ["like", "theirs"]),
    (["table2", "--preset=nope"], ["nope", "small"]),
    (["table2", "--benchmark=nope"], ["nope"]),
    (["table2", "--features=nope"], ["nope"]),
    (["table2", "--root=/no/such/folder"], ["/no/such/folder"]),
]


@pytest.mark.parametrize(("wrong", "named"), MISTAKES, ids=lambda given: " ".join(given)[:40])
def test_mistakes(
    wrong: list[str], named: list[str], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = sacma("reproduce", *on(root), *wrong).line
    for name in named:
        assert name in line
    assert not list(tmp_path.iterdir())


# --- Rows in processes, with work that takes no time ----------------------------------------------


class _Quick(jobs.Job):
    """What its configuration says instead of training."""

    def run(self) -> str:
        size = self.config.training.batch_size
        if size == DIES:
            os._exit(9)
        if size == SLEEPS:
            time.sleep(60)
        return f"{size} answers"


DIES, SLEEPS = 66, 77


def _rows(*names: str) -> list[Row]:
    return [Row(name, name.title(), order, {"method": "ale"}) for order, name in enumerate(names)]


def _sized(*sizes: int) -> list[Row]:
    options = {"method": "eszsl"}
    return [Row(str(n), str(n), order, {**options, "batch_size": n}) for order, n in enumerate(sizes)]


def _given(root: Path) -> dict[str, Any]:
    return {"benchmark": folders.NAME, "features": folders.FEATURES, "root": str(root)}


def _study(rows: list[Row], root: Path, reporter: Reporter = SILENT, **more: Any) -> list[RowResult]:
    options: dict[str, Any] = {"like": "ours", "seeds": 1, "jobs": 2, "out": Path("nowhere")}
    (result,) = run_study(rows, [_given(root)], reporter=reporter, **options | more)
    return list(result.rows)


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_run_with_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "Job", _Quick)
    results = _study(_sized(DIES, 1001, 1002), root)
    assert [result.row.name for result in results] == [str(DIES), "1001", "1002"]
    assert results[0].failure == "its process ended with status 9; run the study again"
    assert [result.failure for result in results[1:]] == ["1001 answers", "1002 answers"]


@pytest.mark.slow
def test_an_interrupted_study_leaves_no_process_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "Job", _Quick)
    reporter = Silent()
    monkeypatch.setattr(reporter, "say", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _study(_sized(SLEEPS, 1001, 1002), root, reporter)
    assert time.monotonic() - started < 45
    assert not multiprocessing.active_children()


def test_seeds_of_one_row_run_at_the_same_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two of one row wait for each other, which would never end if they ran one after the other."""
    monkeypatch.setattr(studies, "Job", _Meeting)
    rows = _study(_rows("one"), root, seeds=2, out=root.parent / "meeting")
    assert rows[0].failure == "both were there"


def test_a_closed_form_has_one_run_whatever_the_seeds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[jobs.Job] = []

    def nothing(queue: Sequence[jobs.Job], **_: Any) -> dict[Path, str]:
        queued.extend(queue)
        return {job.path: "not run" for job in queue}

    monkeypatch.setattr(studies, "run_jobs", nothing)
    rows = [Row(name, name, 0, {"method": name}) for name in ("ale", "eszsl", "kite")]
    results = _study(rows, root, seeds=3)
    assert [f"{job.config.method} {job.path.name}" for job in queued] == [
        *(f"ale seed-{seed}" for seed in range(3)),
        "eszsl seed-0",
        "kite seed-0",
    ]
    assert [studies.WITHOUT_SEED in result.row.notes for result in results] == [False, True, True]
    queued.clear()
    drawn = Row("drawn", "drawn", 0, {"method": "eszsl", "bias_from": "episodes"})  # drawn by the seed
    _study([drawn], root, seeds=3)
    assert len(queued) == 3


class _Meeting(jobs.Job):
    def run(self) -> str:
        self.path.mkdir(parents=True)
        other = self.path.with_name(f"seed-{1 - self.config.seed}")
        end = time.monotonic() + 60
        while not other.exists() and time.monotonic() < end:
            time.sleep(0.01)
        return "both were there" if other.exists() else "alone"


# --- Runs that rows and tables share --------------------------------------------------------------


def test_rows_of_the_same_configuration_share_their_runs(root: Path) -> None:
    given = {"benchmark": "ucf", "features": "selavi", "root": "anywhere"}
    names: dict[str, set[str]] = {}
    for study in ("table2", "table3", "table4", "table5", "table6", "table7"):
        for row in read_study(study):
            for like in studies.LIKE:
                config = resolve(row_options(row, given, like=like))
                names.setdefault(f"{like}/{run_name(row, given, like=like)}", set()).add(repr(config))
    assert all(len(configurations) == 1 for configurations in names.values())
    # The methods, 4 rows that are none, 4 rows of Table 3, 4 of Table 4, 4 of Table 5, 3 of
    # Table 6, none of Table 7.
    assert len(names) == 2 * (len(METHODS) + len(NOT_METHODS) + 4 + 4 + 4 + 3)
    assert {name for name in names if name.startswith("ours/sacma-a")} == {
        "ours/sacma-audio_attention=mean",
        "ours/sacma-audio_attention=mean-video_attention=mean",
    }


def test_a_default_that_is_spelled_out_makes_no_other_run(root: Path) -> None:
    plain, spelled = Row("a", "A", 1, {"method": "sacma"}), Row("b", "B", 2, {"method": "sacma", "depth": 5})
    given = {"benchmark": "ucf", "features": "selavi", "root": "anywhere"}
    assert run_name(spelled, given, like="ours") == run_name(plain, given, like="ours") == "sacma"
    # Preset small has another depth.
    assert run_name(spelled, given, like="ours", training_clips=10) == "sacma-depth=5"


@pytest.mark.slow
def test_table_7_scores_one_run_by_its_three_outputs(root: Path, tmp_path: Path) -> None:
    command = [
        "reproduce",
        "table7",
        *on(root),
        "--like=ours",
        "--seeds=1",
        "--epochs=1",
        f"--out={tmp_path}",
    ]
    outcome = sacma(*command)
    assert outcome.status == 0, outcome.err
    setting = tmp_path / setting_name([_given(root)], "ours")
    runs = [path.parent for path in setting.rglob("config.yaml")]
    assert runs == [setting / "sacma" / "seed-0"]
    folder = RunFolder(runs[0])
    records = _records(setting / "table7.csv")
    for name in ("phi_a", "phi_v", "phi_m"):
        result = folder.result(name if name != "phi_m" else "")
        shown = records[name.replace("_", "-")]
        assert float(shown["HM"]) == pytest.approx(100 * result.test.harmonic_mean, abs=1e-3)
        assert float(shown["bias"]) == pytest.approx(result.test.bias)
        # The bias is that of the output itself, from validation.
        assert result.test.bias == result.validation.bias
    evaluated = sacma("evaluate", folder.path, "--output=phi_a")
    assert f"{100 * folder.result('phi_a').test.harmonic_mean:.1f}" in evaluated.out
    kept = _times(setting)
    assert sacma(*command).status == 0
    assert _times(setting) == kept


@pytest.mark.slow
def test_a_run_with_other_options_is_left_alone_and_reported(root: Path, tmp_path: Path) -> None:
    first = ["reproduce", "table2", *on(root), "--row=eszsl", "--like=ours", "--seeds=1", f"--out={tmp_path}"]
    assert sacma(*first).status == 0
    kept = _times(tmp_path)
    outcome = sacma(*first, "--epochs=2")
    assert outcome.status == 2
    assert "seed-0 is a run with other options" in outcome.out
    assert _times(tmp_path) == kept
    (result,) = tmp_path.rglob("result.json")
    result.write_text("{}")
    outcome = sacma(*first)
    assert outcome.status == 2
    assert f"{result} is of another" in " ".join(outcome.out.split())


# --- A real study ---------------------------------------------------------------------------------

# AVMST as published needs audio and video of one width, which those of the toy folder are not.
REAL = ("--row=[devise,avmst,eszsl]", "--seeds=1", "--jobs=2")


def _records(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {record["row"]: record for record in csv.DictReader(file)}


def _times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("seed-*/**/*") if path.is_file()}


@pytest.mark.slow
def test_table_2_on_a_small_folder(root: Path, tmp_path: Path) -> None:
    runs = tmp_path / "study"
    first = sacma("reproduce", "table2", *on(root), *REAL, f"--out={runs}")
    assert first.line == "sacma: some rows failed; the notes under the table say why"
    out = runs / setting_name([_given(root)], "published")
    records = _records(out / "table2.csv")
    assert list(records) == ["devise", "avmst", "eszsl", "chance"]
    assert records["avmst"]["S"] == ""
    assert "features of one width" in records["avmst"]["failure"]
    assert [records["chance"][name] for name in studies.PRINTED] == ["10.0", "10.0", "10.0", "33.3333"]
    summary = read_json(out / "devise" / "summary.json")
    expected = 100 * summary["test"]["mean"]["harmonic_mean"]
    assert float(records["devise"]["HM"]) == pytest.approx(expected, abs=1e-3)
    assert float(records["devise"]["S se"]) + float(records["devise"]["HM se"]) > 0
    # A method without a variant `published` is compared under the published protocol all the same.
    assert {
        summary["text_alignment"],
        read_json(out / "eszsl" / "summary.json")["text_alignment"],
    } == {"published"}
    text = (out / "table2.md").read_text()
    assert (
        "\ntoy, main split, toyfeatures features (standardise or published), published class vectors" in text
    )
    assert "preset small, 1 seed\n" in text
    assert "\n- AVMST: failed, video_uses_audio_snn needs audio and video features of one width" in text
    assert "\n- ESZSL: The closed form" in text

    kept = {name: _times(out / name) for name in ("devise", "eszsl")}
    assert all(kept.values())
    # Without the row that failed the study is a success, of rows that are there already.
    again = sacma("reproduce", "table2", *on(root), "--row=[eszsl,devise]", *REAL[1:], f"--out={runs}")
    assert again.status == 0, again.err
    assert {name: _times(out / name) for name in kept} == kept
    both = _records(out / "table2.csv")
    assert list(both) == ["eszsl", "devise", "chance"]
    assert all(both[name] == records[name] for name in both)


# --- Chance and errors over clips -----------------------------------------------------------------


def test_chance_is_what_guessing_gives(root: Path) -> None:
    given = {"benchmark": folders.NAME, "features": folders.FEATURES, "root": str(root)}
    test = open_benchmark(resolve(given).data).split("test")
    expected = chance(test)
    labels = test.labels.repeat(400)
    generator = torch.Generator().manual_seed(0)
    unseen = (~test.classes.seen).nonzero()[:, 0]
    guess = torch.randint(len(test.classes), labels.shape, generator=generator)
    guess_zsl = unseen[torch.randint(len(unseen), labels.shape, generator=generator)]
    of_seen = test.classes.seen[labels]
    found = {
        "seen": (guess == labels)[of_seen].double().mean(),
        "unseen": (guess == labels)[~of_seen].double().mean(),
        "zsl": (guess_zsl == labels)[~of_seen].double().mean(),
    }
    for name, value in found.items():
        assert expected[name] == pytest.approx(float(value), abs=0.02)
    assert expected["harmonic_mean"] == expected["seen"] == expected["unseen"]


def test_clip_errors_are_those_of_a_bootstrap_over_clips() -> None:
    generator = torch.Generator().manual_seed(3)
    counts = torch.tensor([6, 11, 0, 25, 4, 17])  # a class without clips is left out
    seen = torch.tensor([True, True, True, True, False, False])
    right, right_zsl = (
        [torch.rand(int(n), generator=generator) < share for n in counts] for share in (0.5, 0.7)
    )

    def again(hits: torch.Tensor) -> torch.Tensor:
        """Accuracies of 3000 draws of the class's clips."""
        rows = torch.randint(max(len(hits), 1), (3000, len(hits)), generator=generator)
        return hits[rows].double().mean(dim=1)

    accuracy, accuracy_zsl = (torch.stack([again(hits) for hits in one]) for one in (right, right_zsl))
    S, U = accuracy[seen].nanmean(dim=0), accuracy[~seen].nanmean(dim=0)
    samples = torch.stack([S, U, harmonic_mean(S, U), accuracy_zsl[~seen].nanmean(dim=0)])
    expected = samples.std(dim=1).tolist()
    per_class = torch.stack([hits.double().mean() for hits in right])
    per_class_zsl = torch.stack([hits.double().mean() for hits in right_zsl]).masked_fill(seen, torch.nan)
    found = clip_errors(per_class, per_class_zsl, counts, seen)
    assert list(found) == ["seen", "unseen", "harmonic_mean", "zsl"]
    # The bootstrap of each side has a relative error of about 1 / sqrt(2 draws), 1.3 and 1.1 %.
    for value, wanted in zip(found.values(), expected, strict=True):
        assert value == pytest.approx(wanted, rel=0.07)
    assert found == clip_errors(per_class, per_class_zsl, counts, seen)


def test_clip_errors_where_every_clip_is_right() -> None:
    counts, seen = torch.tensor([3, 5]), torch.tensor([True, False])
    found = clip_errors(torch.ones(2), torch.tensor([math.nan, 1.0]), counts, seen)
    assert found == dict.fromkeys(("seen", "unseen", "harmonic_mean", "zsl"), 0.0)


@pytest.mark.slow
def test_a_killed_study_leaves_no_process(root: Path, tmp_path: Path) -> None:
    given = f"--benchmark {folders.NAME} --features {folders.FEATURES} --root {root} --like ours --seeds 50"
    sacma_script = Path(sys.executable).with_name("sacma")
    command = [sacma_script, "reproduce", "table2", *given.split(), "--row", "apn"]
    study = subprocess.Popen([*command, "--out", str(tmp_path / "study")], stdout=subprocess.DEVNULL)
    setting = setting_name([_given(root)], "ours")
    lock = tmp_path / "study" / setting / "apn" / "seed-0" / ".lock"
    limit = time.monotonic() + 120
    while not lock.exists():
        assert study.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    workers = psutil.Process(study.pid).children(recursive=True)
    assert workers
    study.kill()
    study.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


# --- Rows that need features of a joint encoder ---------------------------------------------------

JOINT = "--row=[frozen,frozen-without-bias,kite-with-frozen,eszsl]"


def test_rows_for_joint_encoders_are_first_and_run_where_features_allow_it(tmp_path: Path) -> None:
    root = folders.write_folder(tmp_path / "root", joint=True)
    outcome = sacma(
        *("reproduce", "table2", *on(root), JOINT, "--like=ours", "--seeds=1", f"--out={tmp_path}")
    )
    assert outcome.status == 0, outcome.out + outcome.err
    (path,) = tmp_path.rglob("table2.csv")
    records = _records(path)
    assert list(records) == ["frozen", "frozen-without-bias", "kite-with-frozen", "eszsl", "chance"]
    assert all(float(records[row]["ZSL"]) >= 0 for row in records)
    assert records["frozen-without-bias"]["bias"] == "0.0"
    (kept,) = tmp_path.rglob("frozen/seed-0/result.json")
    assert "weights equal: sound 0.5, pictures 0.5" in read_json(kept)["validation"]["warnings"]
    assert records["frozen"]["ZSL"] == records["frozen-without-bias"]["ZSL"]
    assert "not possible here" not in path.with_suffix(".md").read_text()


def test_rows_for_joint_encoders_are_left_out_elsewhere(root: Path, tmp_path: Path) -> None:
    outcome = sacma("reproduce", "table2", *on(root), JOINT, "--like=ours", "--seeds=1", f"--out={tmp_path}")
    assert outcome.status == 0, outcome.out + outcome.err
    (path,) = tmp_path.rglob("table2.csv")
    records = _records(path)
    assert {name for name, row in records.items() if row["S"] == ""} == {
        *("frozen", "frozen-without-bias", "kite-with-frozen")
    }
    text = path.with_suffix(".md").read_text()
    why = "not possible here, the frozen score needs features and class vectors of one space"
    assert f"Frozen score, Frozen score, no bias: {why}, but class vectors 10 wide" in text
    assert f"KITE + frozen score: {why}, or features of lite, but class vectors 10 wide" in text


def test_the_time_left_is_that_of_the_jobs_that_ran(tmp_path: Path) -> None:
    config = resolve({"benchmark": folders.NAME})
    queue = [jobs.Job(config, tmp_path / str(number)) for number in range(5)]
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "result.json").touch()
    now = 100.0
    left = jobs.TimeLeft(queue, clock=lambda: now)
    assert left.after(1) == ""  # it was finished before
    now = 130.0
    assert left.after(2) == ", about 90 s left"
    now = 100.0 + 2 * 4000
    assert left.after(3) == ", about 2 h left"
    assert left.after(5) == ""
