"""Every command from end to end; what a user's mistake looks like: status 2 and one line that names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import commands
import folders
import sacma as package
from commands import console_script, contents, on, result, sacma, train, trained
from sacma.cli import COMMANDS, DATA_COMMANDS, TEXT_COMMANDS
from sacma.datasets import avshapes
from sacma.options import DataConfig
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import open_benchmark
from sacma.training.scoring import evaluate_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nobody changes."""
    return trained(root, tmp_path_factory.mktemp("runs") / "run")


# --- train ----------------------------------------------------------------------------------------


def test_train_leaves_a_run_folder(run: Path) -> None:
    found = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert found == [
        "class_vectors.npz",
        "config.json",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "prediction.json",
        "predictions.parquet",
        "result.json",
        "stage-1/config.json",
        "stage-1/model.safetensors",
        "stage-1/selection.json",
        "text_table.npz",
    ]
    options = yaml.safe_load((run / "config.yaml").read_text())
    assert options["epochs"] == 3
    assert options["variant"] == "paper"
    assert options["weight_cos"] == 0.2
    content = result(run)
    assert set(content["test"]) >= {"seen", "unseen", "harmonic_mean", "zsl", "bias", "ausuc"}
    assert content["test"]["bias"] == content["validation"]["bias"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        *((1, epoch) for epoch in (1, 2, 3)),
        *((2, epoch) for epoch in range(1, content["epochs"] + 1)),
    ]


def test_predictions_are_those_of_the_result(run: Path) -> None:
    columns = pq.read_table(run / "predictions.parquet").to_pydict()
    right = [a == b for a, b in zip(columns["class"], columns["prediction"], strict=True)]
    for name, accuracy in result(run)["test"]["per_class"].items():
        mine = [r for r, label in zip(right, columns["class"], strict=True) if label == name]
        assert np.mean(mine) == pytest.approx(accuracy)
    assert sorted({n for n, s in zip(columns["class"], columns["seen"], strict=True) if not s}) == [
        "hen",
        "ibis",
        "jay",
    ]


def test_config_of_a_run_reruns_it_exactly(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    outcome = sacma("train", "--config", run / "config.yaml", "--out", again)
    assert outcome.status == 0, outcome.err
    assert contents(again) == contents(run)
    assert (again / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()


def test_command_line_wins_over_the_file(root: Path, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"benchmark: toy\nfeatures: toyfeatures\nroot: {root}\nepochs: 2\nseed: 5\ndepth: 1\n")
    out = tmp_path / "run"
    small = [option for option in commands.SMALL if not option.startswith(("--epochs", "--depth"))]
    assert sacma("train", "--config", file, "--seed=6", "--out", out, *small).status == 0
    options = yaml.safe_load((out / "config.yaml").read_text())
    assert (options["epochs"], options["seed"], options["depth"]) == (2, 6, 1)


def test_options_with_hyphens_and_underscores(root: Path, tmp_path: Path) -> None:
    spellings = ["--batch_size", "9"], ["--batch-size", "9"], ["--batch_size=9"], ["--batch-size=9"]
    made = [
        trained(root, tmp_path / str(number), "--epochs=1", *given) for number, given in enumerate(spellings)
    ]
    options = [(out / "config.yaml").read_text() for out in made]
    assert len(set(options)) == 1
    assert "batch_size: 9" in options[0]


def test_several_seeds(root: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    outcome = train(root, out, "--seeds=2")
    assert outcome.status == 0, outcome.err
    assert contents(out / "seed-0") == contents(run)
    parts = [result(out / f"seed-{seed}") for seed in (0, 1)]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    for part in ("validation", "test"):
        values = [one[part]["ausuc"] for one in parts]
        assert values[0] != values[1]
        assert summary[part]["mean"]["ausuc"] == pytest.approx(np.mean(values))
        assert summary[part]["std"]["ausuc"] == pytest.approx(np.std(values, ddof=1))
    assert "2 seeds" in outcome.out
    assert "±" in outcome.out


def test_one_seed_has_no_spread(root: Path, tmp_path: Path) -> None:
    out = trained(root, tmp_path / "runs", "--seeds=1", "--seed=7", "--epochs=1")
    assert json.loads((out / "summary.json").read_text())["test"]["std"]["seen"] is None
    assert [path.name for path in sorted(out.iterdir())] == ["seed-7", "summary.json"]


def test_default_out_says_what_it_is(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = sacma("train", *on(root), *commands.SMALL, "--epochs=1", "--variant=published", "--seed=3")
    assert outcome.status == 0, outcome.err
    out = Path("runs/toy-toyfeatures-sacma-published-seed-3")
    assert result(out)["variant"] == "published"
    assert f"run folder: {out}" in outcome.out
    assert sacma("train", *on(root), *commands.SMALL, "--epochs=1", "--seeds=1").status == 0
    assert Path("runs/toy-toyfeatures-sacma-paper-1-seeds/summary.json").exists()


def test_screen_says_what_was_run_and_every_line_is_whole(run: Path, root: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("long " * 20).strip() / "[bold]:smile:[/red]"
    outcome = train(root, deep, "--epochs=1")
    assert outcome.status == 0, outcome.err
    assert f"run folder: {deep}\n" in outcome.out
    assert "sacma (paper) on toy, toyfeatures features (standardise), main split, aligned class vectors" in (
        outcome.out
    )
    percent = f"{100 * result(deep)['test']['zsl']:.1f}"
    assert percent in next(line for line in outcome.out.splitlines() if line.startswith("│ test"))


def test_force_overwrites_a_run_and_nothing_else(root: Path, run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(run, tmp_path / "run"))
    assert "holds a finished run" in train(root, out).line
    assert contents(out) == contents(run)
    assert train(root, out, "--force", "--seed=1", "--epochs=1").status == 0
    assert result(out)["seed"] == 1
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    assert f"{other} exists and is not a run folder" in train(root, other).line
    assert f"{other} exists and is not a run folder" in train(root, other, "--force").line
    assert (other / "chapter.txt").read_text() == "years of work"
    file = tmp_path / "file"
    file.write_text("")
    assert f"{file} exists and is not a run folder" in train(root, file, "--force").line


@pytest.mark.parametrize("method", ["sacma", "tcaf", "avca", "eszsl", "f-vaegan-d2", "cjme"])
def test_methods_by_name(method: str, root: Path, tmp_path: Path) -> None:
    quick = ["--epochs=1"] if method == "eszsl" else ["--epochs=1", "--batches-per-epoch=2", "--batch-size=8"]
    if method == "f-vaegan-d2":
        quick += ["--synthesised-per-class=4", "--classifier-epochs=1"]
    out = tmp_path / "run"
    outcome = sacma("train", *on(root), "--method", method, "--out", out, *quick)
    assert outcome.status == 0, outcome.err
    assert result(out)["method"] == method
    again = sacma("evaluate", out)
    assert again.status == 0, again.err
    assert evaluated(out)["test"] == result(out)["test"]


def test_tensorboard(root: Path, tmp_path: Path) -> None:
    out = trained(root, tmp_path / "run", "--tracker=tensorboard")
    assert [path for path in out.rglob("events.out.tfevents*") if path.stat().st_size > 500]


def test_bfloat16(root: Path, tmp_path: Path) -> None:
    """At the paper's temperature the contrastive terms of a dozen channels blow up rounding twentyfold."""
    options = [*commands.SMALL, "--temperature=1"]
    half = trained(root, tmp_path / "half", *options, "--precision=bfloat16", "--force_precision=true")
    single = trained(root, tmp_path / "single", *options)
    found, expected = (contents(one)["metrics"][0]["loss"] for one in (half, single))
    assert found != expected
    assert found == pytest.approx(expected, rel=0.05)


# --- evaluate -------------------------------------------------------------------------------------


def evaluated(run: Path, output: str | None = None, root: Path | None = None) -> dict[str, Any]:
    """What evaluating a run again gives, to the last digit."""
    folder = RunFolder.open(run, finished=True)
    data = folder.config().data
    if root is not None:
        data = DataConfig(**{**vars(data), "root": str(root)})
    figures, predictions = evaluate_run(folder, open_benchmark(data), output=output)
    return {"test": figures.to_dict(), "predictions": predictions}


def test_evaluate_repeats_the_test_figures_exactly(run: Path) -> None:
    before = contents(run)
    again = evaluated(run)
    assert again["test"] == result(run)["test"]
    assert again["predictions"] == pq.read_table(run / "predictions.parquet").to_pydict()
    outcome = sacma("evaluate", run)
    assert outcome.status == 0, outcome.err
    computed, stored = (line for line in outcome.out.splitlines() if "│ test" in line)
    assert computed.split("│")[2:] == stored.split("│")[2:]
    assert contents(run) == before


def test_evaluate_reads_the_weights(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.copy(run / "stage-1" / "model.safetensors", other / "model.safetensors")
    assert evaluated(other)["predictions"] != evaluated(run)["predictions"]


@pytest.mark.parametrize("output", ["phi_a", "phi_v"])
def test_another_output_chooses_its_own_bias(output: str, run: Path) -> None:
    figures = evaluated(run, output)["test"]
    assert figures["bias"] != result(run)["test"]["bias"]
    assert figures["ausuc"] != result(run)["test"]["ausuc"]
    outcome = sacma("evaluate", run, "--output", output)
    assert outcome.status == 0, outcome.err
    assert f"test, {output}" in outcome.out
    assert evaluated(run, "phi_m")["test"] == result(run)["test"]


def test_the_bias_of_another_output_is_from_validation_with_the_weights_of_stage_1(
    run: Path, root: Path, tmp_path: Path
) -> None:
    other_test = folders.write_folder(tmp_path / "toy", test_seed=9)
    assert evaluated(run, "phi_a", root=other_test)["test"]["bias"] == evaluated(run, "phi_a")["test"]["bias"]
    assert evaluated(run, "phi_a", root=other_test)["test"] != evaluated(run, "phi_a")["test"]
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.copy(run / "model.safetensors", changed / "stage-1" / "model.safetensors")
    assert evaluated(changed, "phi_a")["test"]["bias"] != evaluated(run, "phi_a")["test"]["bias"]


def test_evaluate_where_the_benchmark_has_moved(run: Path, root: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    assert evaluated(run, root=moved) == evaluated(run)
    assert sacma("evaluate", run, "--root", moved).status == 0
    assert str(tmp_path / "nowhere") in sacma("evaluate", run, "--root", tmp_path / "nowhere").line


# --- demo and data --------------------------------------------------------------------------------


@pytest.mark.slow
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the toy folder, quickly: rendering has tests of its own, and so has the preset."""
    root = folders.write_folder(tmp_path / "toy")
    quick = {"epochs": 6, "batches_per_epoch": 10, "depth": 1, "width": 24, "learning_rate": 0.003}
    monkeypatch.setattr(avshapes, "prepare", lambda *_: root)
    monkeypatch.setattr("sacma.runs.config.preset_options", lambda *_: quick)
    for file in (root / "class-split").glob("toy_*"):
        file.rename(file.with_name(file.name.replace("toy", "avshapes")))
    (root / "features" / folders.FEATURES).rename(root / "features" / "descriptors")
    text = root / "features" / "descriptors" / "text"
    (text / "word_embeddings_toy_normed.npz").rename(text / "word_embeddings_avshapes_normed.npz")
    out = tmp_path / "demo"
    outcome = sacma("demo", "--out", out)
    assert outcome.status == 0, outcome.err
    content = result(out)
    assert (content["benchmark"], content["preset"], content["method"]) == ("avshapes", "small", "sacma")
    assert content["test"]["harmonic_mean"] > 0.3
    assert content["test"]["zsl"] > 0.5
    assert f"report: {out / 'report.html'}" in outcome.out
    assert "Seen-unseen curve" in (out / "report.html").read_text(encoding="utf-8")
    assert "holds a finished run" in sacma("demo", "--out", out).line


def test_data_info_is_table_1() -> None:
    outcome = sacma("data", "info")
    assert outcome.status == 0
    for name in ("UCF", "VGGSound", "ActivityNet"):
        assert name in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_data_check(root: Path, tmp_path: Path) -> None:
    outcome = sacma("data", "check", *on(root))
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[-1] == "complete"
    damaged = Path(shutil.copytree(root, tmp_path / "toy"))
    file = damaged / "features" / folders.FEATURES / "clips.safetensors"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    assert f"{file}: the checksum of video.values" in sacma("data", "check", *on(damaged)).line


def test_data_check_lists_what_is_missing_and_fails(tmp_path: Path) -> None:
    root = folders.write_folder(tmp_path / "toy")
    file = root / "class-split" / "main_split" / "stage_2_test_unseen.txt"
    file.write_text(file.read_text() + "kea\n")
    lists = root / "class-split" / "all_class.txt"
    lists.write_text(lists.read_text() + "kea\n")
    outcome = sacma("data", "check", *on(root))
    assert outcome.status == 2
    assert "kea: no clips" in outcome.out
    assert outcome.line == f"sacma: {root} is not what toy should hold; the lines above say where"


def test_data_import_gives_a_root_to_train_on(
    root: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    official = commands.write_official(root, tmp_path / "official")
    out = tmp_path / "imported [x]"
    steps = ["--audio-step=0.5", "--video-step=1"]
    outcome = sacma("data", "import", *on(official), "--out", out, *steps)
    assert outcome.status == 0, outcome.err
    assert outcome.out == f"imported: {out}\n"
    again = trained(out, tmp_path / "run")
    assert result(again) == result(run)
    straight = trained(official, tmp_path / "straight", *steps)
    assert result(straight) == result(run)
    assert "exists already" in sacma("data", "import", *on(official), "--out", out, *steps).line
    assert (
        "pass --audio-step and --video-step"
        in sacma("data", "import", *on(official), "--out", tmp_path / "no").line
    )


def test_data_render(tmp_path: Path) -> None:
    pytest.importorskip("av")
    outcome = sacma("data", "render", "--out", tmp_path, "--clips=2", "--size=32")
    assert outcome.status == 0, outcome.err
    files = [Path(line) for line in outcome.out.splitlines()]
    assert len(files) == 2
    assert all(b"ftyp" in file.read_bytes()[:16] for file in files)


# --- help, version, the console script ------------------------------------------------------------


def test_version() -> None:
    outcome = sacma("--version")
    assert (outcome.status, outcome.out.strip()) == (0, f"sacma {package.__version__}")


GROUPS = {"data": DATA_COMMANDS, "text": TEXT_COMMANDS}
PATHS = [[], *([name] for name in (*COMMANDS, *GROUPS))]
PATHS += [[group, name] for group, names in GROUPS.items() for name in names]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help(path: list[str]) -> None:
    outcome = sacma(*path, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith("usage: sacma")
    assert outcome.err == ""


def test_help_of_train_has_the_options_of_the_method() -> None:
    ours, theirs = sacma("train", "--help-all").out, sacma("train", "--method", "tcaf", "--help-all").out
    for shared in ("--learning-rate", "--root", "--bias-search", "--seeds"):
        assert shared in ours
        assert shared in theirs
    assert "--same-class" in ours
    assert "--same-class" not in theirs


@pytest.mark.slow
def test_the_installed_command(root: Path, run: Path, tmp_path: Path) -> None:
    again = console_script("train", "--config", run / "config.yaml", "--out", "again", cwd=tmp_path)
    assert again.status == 0, again.err
    assert again.err == ""
    assert result(tmp_path / "again") == result(run)
    wrong = console_script("train", *on(root), "--learning-rate=fast")
    assert wrong.line.startswith("sacma: ")
    assert "learning-rate" in wrong.line
    assert "fast" in wrong.line


# --- Mistakes -------------------------------------------------------------------------------------

# What is typed after `sacma train` and the options that name the folder; what the line must name.
MISTAKES = [
    (["--no-such=3"], ["no-such"]),
    (["--epoch=3"], ["--epoch"]),  # no guessing what was meant
    (["surplus"], ["surplus"]),
    (["--epochs=many"], ["epochs", "many"]),
    (["--epochs=1.5"], ["epochs", "1.5"]),
    (["--epochs=0"], ["epochs", "0"]),
    (["--epochs"], ["epochs"]),
    (["--learning-rate=-1"], ["learning-rate", "-1"]),
    (["--learning-rate=nan"], ["learning-rate", "nan"]),
    (["--learning-rate=[1]"], ["learning-rate", "[1]"]),
    (["--averaged-stream=maybe"], ["averaged-stream", "maybe"]),
    (["--averaged-stream=true"], ["averaged-stream"]),
    (["--same-class=both"], ["same-class", "both"]),
    (["--streams=a"], ["streams", "a"]),
    (["--width=0"], ["width", "0"]),
    (["--depth=-1"], ["depth", "-1"]),
    (["--encoder-dropout=1.5"], ["encoder-dropout", "1.5"]),
    (["--width=null"], ["width"]),
    (["--batch-size=1"], ["batch-size", "1"]),
    (["--checkpoint-seconds=-1"], ["checkpoint-seconds", "-1"]),
    (["--precision=float16"], ["precision", "float16"]),
    (["--device=gpu"], ["device", "gpu"]),
    (["--seed=-1"], ["seed", "-1"]),
    (["--seed=4294967296"], ["seed", "4294967296"]),
    (["--seed=x"], ["seed", "x"]),
    (["--seeds=0"], ["seeds", "0"]),
    (["--seeds=x"], ["seeds", "x"]),
    (["--seed=4294967295", "--seeds=2", "--epochs=1"], ["seed", "4294967296"]),
    (["--method=nope"], ["nope", "sacma"]),
    (["--method="], ["method"]),
    (["--method=tcaf", "--same-class=negative"], ["same-class"]),
    (["--variant=nope"], ["nope", "paper"]),
    (["--preset=nope"], ["nope", "small"]),
    (["--benchmark=nope"], ["nope", "toy"]),
    (["--features=nope"], ["nope", "toyfeatures"]),
    (["--split=nope"], ["split", "nope"]),
    (["--split=cls"], ["cls", "main"]),
    (["--text=nope"], ["nope"]),
    (["--text-alignment=nope"], ["text-alignment", "nope"]),
    (["--root=/no/such/folder"], ["/no/such/folder"]),
    (["--audio-step=0.25"], ["audio", "0.25"]),
    (["--weight-ccl=0", "--weight-cos=0", "--weight-reg=0", "--weight-rec=0"], ["weight_ccl"]),
    (["--config=/no/such.yaml"], ["/no/such.yaml"]),
    (["--resume=/no/such/run"], ["--resume"]),
    (["--out=" + "x" * 300], ["xxx"]),
    (["--out=/dev/null/run"], ["/dev/null"]),
]


@pytest.mark.parametrize(("wrong", "named"), MISTAKES, ids=lambda given: " ".join(given)[:60])
def test_mistakes_in_training(
    wrong: list[str], named: list[str], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = sacma("train", *on(root), *commands.SMALL, *wrong).line
    for name in named:
        assert name in line
    assert not list(tmp_path.rglob("result.json"))


OTHER_MISTAKES = [
    ([], ["train"]),
    (["nonsense"], ["nonsense", "evaluate"]),
    (["data"], ["check"]),
    (["data", "nonsense"], ["nonsense", "check"]),
    (["data", "check"], ["root"]),
    (["data", "check", "--root=/", "--benchmark=ucf", "--features=selavi", "--no-such"], ["no-such"]),
    (["data", "render", "--out=r", "--clips=0"], ["0 clips"]),
    (["data", "render", "--out=r", "--clips=x"], ["clips", "x"]),
    (["data", "render", "--out=r", "--size=33"], ["33"]),
    (["data", "import", "--root=/no", "--out=r", "--benchmark=ucf", "--features=selavi"], ["/no"]),
    (["data", "download", "--benchmark=nope", "--features=selavi", "--out=r"], ["nope"]),
    (["demo", "--seed=x"], ["seed", "x"]),
    (["demo", "surplus"], ["surplus"]),
    (["evaluate"], ["RUN"]),
    (["evaluate", "/no/such/run"], ["/no/such/run"]),
    (["evaluate", "/no/such/run", "surplus"], ["surplus"]),
    (["train", "--benchmark=ucf", "--features=selavi"], ["--root"]),
    (["train", "--resume"], ["resume"]),
    (["train", "--resume=/no/such/run"], ["/no/such/run"]),
    (["train", "--resume=/"], ["/ is not a run folder"]),
]


@pytest.mark.parametrize(("wrong", "named"), OTHER_MISTAKES, ids=lambda given: " ".join(given)[:60])
def test_mistakes_in_other_commands(
    wrong: list[str], named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = sacma(*wrong).line
    for name in named:
        assert name in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more",
    [["--epochs=4"], ["--seed=1"], ["--force"], ["--seeds=2"], ["--out=x"], ["--method=tcaf"]],
    ids=" ".join,
)
def test_resume_takes_no_other_options(more: list[str], run: Path) -> None:
    line = sacma("train", "--resume", run, *more).line
    assert line.startswith("sacma: --resume takes no other options")


def test_resume_takes_no_configuration_file(run: Path) -> None:
    line = sacma("train", "--resume", run, "--config", run / "config.yaml").line
    assert line.startswith("sacma: --resume takes no other options")


@pytest.mark.parametrize("output", ["phi_x", "phi_t", ""])
def test_unknown_output(output: str, run: Path) -> None:
    line = sacma("evaluate", run, f"--output={output}").line
    assert repr(output) in line
    assert "phi_m, phi_a, phi_v" in line


def test_output_without_its_stream(root: Path, tmp_path: Path) -> None:
    out = trained(root, tmp_path / "run", "--streams=m", "--epochs=1")
    assert "phi_a" in sacma("evaluate", out, "--output=phi_a").line


def test_unfinished_run_is_not_evaluated(run: Path, tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(run, tmp_path / "run"))
    (unfinished / "result.json").unlink()
    line = sacma("evaluate", unfinished).line
    assert f"{unfinished} is not finished" in line
    assert f"sacma train --resume {unfinished}" in line


# Lines of a YAML file; what must be named besides the file.
WRONG_FILES = {
    "unknown key": ("no_such: 3", "no_such"),
    "wrong type": ("epochs: many", "epochs"),
    "wrong choice": ("same_class: both", "same_class"),
    "out of range": ("epochs: 0", "epochs"),
    "a list": ("epochs: [1, 2]", "epochs"),
    "a mapping": ("training:\n  epochs: 3", "training"),
    "another method's": ("method: tcaf\nsame_class: negative", "same_class"),
    "unknown method": ("method: nope", "nope"),
    "unknown variant": ("variant: nope", "nope"),
    "not of a run": ("force: true", "force"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_mistakes_in_a_configuration_file(kind: str, root: Path, tmp_path: Path) -> None:
    content, named = WRONG_FILES[kind]
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    line = sacma("train", *on(root), "--config", file, "--out", tmp_path / "run").line
    assert named in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--method=tcaf", "--variant=published", "--preset=published"])
def test_a_file_that_spells_options_out_is_not_of_another_variant(
    option: str, run: Path, root: Path, tmp_path: Path
) -> None:
    line = sacma("train", "--config", run / "config.yaml", option, "--out", tmp_path / "run").line
    assert "config.yaml" in line


def test_interrupted(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sacma.training.loop._Loop.epoch", interrupt)
        outcome = train(root, tmp_path / "run")
    assert outcome.status == 130
    assert outcome.err == (
        "sacma: interrupted; train --resume RUN goes on, other commands go on when repeated\n"
    )
    assert sacma("train", "--resume", tmp_path / "run").status == 0
