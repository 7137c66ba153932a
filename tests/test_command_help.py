"""Help that fits a screen, plain messages, options from files and from the environment, results as JSON."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

import folders
from commands import console_script, on, sacma
from sacma.cli import COMMANDS, GROUPS
from sacma.commands import examples, summary
from sacma.commands.manual import ESSENTIAL
from sacma.commands.parsers import arguments_of, parser_of

EACH = {
    **COMMANDS,
    **{f"{group} {name}": one for group in GROUPS for name, one in GROUPS[group].commands.items()},
}
SCREEN = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", EACH)
def test_help_fits_a_screen_and_ends_with_examples(name: str) -> None:
    lines = sacma(*name.split(), "--help").out.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 100
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert (
        summary(EACH[name]).rstrip(".") + ":" not in headings
    )  # the options of the command itself are "options"
    own = examples(EACH[name])
    assert own
    assert [line.strip() for line in lines[-len(own) :]] == own


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_the_list_of_commands_fits_a_screen_and_has_each(group: str) -> None:
    lines = sacma(*group.split(), "--help").out.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert set(GROUPS[group].commands if group else {**COMMANDS, **GROUPS}) <= set(listed)


@pytest.mark.parametrize("name", EACH)
def test_all_options_are_listed_with_hyphens(name: str) -> None:
    told = sacma(*name.split(), "--help-all").out
    for action in parser_of(EACH[name], name)._actions:
        for option in action.option_strings:
            assert f"  {option.replace('_', '-')}" in told or f", {option.replace('_', '-')}" in told
    assert "--" not in [word[:3] for word in told.split() if "_" in word and word.startswith("--")]
    assert "type:" not in told


def test_examples_are_understood() -> None:
    for name, command in EACH.items():
        lines = examples(command)
        assert lines[0].removeprefix("sacma ").startswith(name.removesuffix(" list"))
        for line in lines:
            _, *typed = shlex.split(line.partition(" > ")[0])
            path = typed.pop(0)
            if path in GROUPS:
                path += f" {typed.pop(0)}" if typed else " list"
            if "--config" not in typed:  # that file is not there
                arguments_of(EACH[path], path, [_underscored(one) for one in typed])
    for name in ESSENTIAL:
        known = {action.dest for action in parser_of(EACH[name], name)._actions}
        assert set(ESSENTIAL[name]) <= known


def _underscored(word: str) -> str:
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if word.startswith("--") else word


MISTAKES = [
    (["trian"], "there is no command 'trian'; did you mean train?"),
    (["data", "chek"], "there is no command 'data chek'; did you mean check?"),
    (["train", "--epoch=3"], "there is no option --epoch; did you mean --epochs?"),
    (
        ["train", "--schedule=platea"],
        "--schedule is 'platea'; it must be constant or plateau; did you mean plateau?",
    ),
    (["train", "--method=sacm"], "did you mean sacma?"),
    (["train", "--width=null"], "--width is 'None'; it must be a whole number"),
    (["predict"], "sacma predict needs CLIPS; see sacma predict --help"),
    (["predict", "a", "--top=x"], "--top is 'x'; it must be a whole number"),
    (["predict", "a", "--window=x"], "--window is 'x'; it must be a number"),
    (["predict", "a", "--top"], "--top needs a value"),
    (["predict", "a", "--follow-links=3"], "--follow-links takes no value; '3' was given"),
    (["text", "build", "--name=x"], "sacma text build needs --encoder"),
    (["evaluate", "a", "b"], "sacma evaluate does not take 'b'"),
]


@pytest.mark.parametrize(("typed", "said"), MISTAKES, ids=lambda one: " ".join(one)[:40])
def test_mistakes_are_plain(typed: list[str], said: str) -> None:
    assert said in sacma(*typed).line


def test_typed_wins_over_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("top: 3\nformat: csv\nwindow: 2.5\nfollow_links: true\n")
    monkeypatch.setenv("SACMA_PREDICT_CONFIG", str(file))
    monkeypatch.setenv("SACMA_PREDICT_TOP", "4")
    monkeypatch.setenv("SACMA_PREDICT_FORMAT", "json")
    parsed = arguments_of(COMMANDS["predict"], "predict", ["clip.mp4", "--format=table"])
    assert (parsed["top"], parsed["format"], parsed["window"]) == (4, "table", 2.5)
    assert parsed["follow_links"] is True
    monkeypatch.setenv("SACMA_TRAIN_BATCH_SIZE", "12")
    given = arguments_of(COMMANDS["train"], "train", ["--epochs=3"])
    assert given["options"] == {"batch_size": 12, "epochs": 3}
    file.write_text("topp: 3\n")
    assert "mine.yaml: there is no option topp; did you mean top?" in sacma("predict", "clip.mp4").line
    config = tmp_path / "run.yaml"
    config.write_text("epochs: many\n")
    assert f"{config}: epochs is 'many'; it must be a whole number" in sacma("train", "--config", config).line


def test_json_is_alone_on_standard_output(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = sacma("--json", "train", *on(root), f"--out={run}", "--method=eszsl")
    assert done.status == 0
    assert json.loads(done.out)["test"] == json.loads((run / "result.json").read_text())["test"]
    assert "run folder" in done.err
    again = sacma("evaluate", run, "--json", "--quiet")
    assert json.loads(again.out)["harmonic_mean"] == json.loads(done.out)["test"]["harmonic_mean"]
    assert "--json" in sacma("data", "render", "--out", tmp_path / "r", "--json").line


def test_quiet_leaves_the_result(root: Path, tmp_path: Path) -> None:
    loud, quiet = (
        sacma("train", *on(root), f"--out={tmp_path / name}", "--method=ale", "--epochs=1", *more)
        for name, more in (("a", ()), ("b", ("--quiet",)))
    )
    assert "stage 1 epoch" in loud.out
    assert "stage 1 epoch" not in quiet.out
    assert "HM" in quiet.out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell: str) -> None:
    script = sacma("completion", shell).out
    for word in ("import-weights", "--help-all", "--batch-size", "plateau", "youtube8m"):
        assert word in script


def test_bash_completes(tmp_path: Path) -> None:
    file = tmp_path / "sacma"
    file.write_text(sacma("completion", "bash").out)
    ask = f"source {file}; COMP_WORDS=(sacma tr); COMP_CWORD=1; _shtab_sacma; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["train"]


def test_the_module_is_the_command() -> None:
    done = console_script("--version")
    assert done.status == 0
