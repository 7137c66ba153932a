"""What the documentation says about methods is what the code does; its example works."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import test_contract as contract
import yaml

from folders import FEATURES, NAME, write_folder
from sacma.data.benchmark import Benchmark
from sacma.models import METHODS
from sacma.models.base import Method
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, options_of
from sacma.runs import config
from sacma.studies import study as studies

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = (DataConfig, TrainingConfig, ProtocolConfig, *(method.Config for method in METHODS.values()))
OPTIONS = {name for section in SECTIONS for name in options_of(section)}


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the rows of the table whose first column is headed so."""
    lines = text[text.index(f"| {first} |") :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def methods() -> str:
    """The pages on methods, one after the other."""
    pages = ("methods", "each-method", "variants", "presets")
    return "\n".join((DOCS / "reference" / f"{page}.md").read_text() for page in pages)


def test_overview_is_what_the_methods_say(methods: str) -> None:
    rows = {names_in(name)[0]: facts for name, *facts in table(methods, "method")}
    assert set(rows) == set(METHODS)
    for name, (given, negatives, _, bias) in rows.items():
        method = METHODS[name]
        assert given == ("sequences" if method.temporal else "averages"), name
        assert negatives == ("yes" if method.needs_negatives else "no"), name
        assert bias == ("yes" if method.calibrated else "no"), name


def test_variants_are_those_of_the_methods(methods: str) -> None:
    rows = table(methods[methods.index("# Variants") :], "method")
    told: dict[str, dict[str, str]] = {}
    of: list[str] = []
    for name, changes, _ in rows:
        of = names_in(name) or of
        for change in names_in(changes):
            option, _, value = change.partition(": ")
            for one in of:
                told.setdefault(one, {})[option] = value
    for name, method in METHODS.items():
        assert next(iter(method.VARIANTS)) == ("paper" if name == "sacma" else "corrected")
        expected = {**method.PUBLISHED_TRAINING, **method.VARIANTS.get("published", {})}
        found = told.get(name, {})
        assert found.keys() == expected.keys(), name
        for option, value in expected.items():
            written = yaml.safe_load(found[option])
            assert (float(written) if isinstance(value, float) else written) == value, (name, option)
    without = {name for name in METHODS if "published" not in METHODS[name].VARIANTS}
    assert set(names_in(rows[-1][0])) == without
    for option, value in config.PUBLISHED_RUN.items():
        assert f"`{option}: {value}`" in methods


def test_options_are_spelled_as_in_the_code(methods: str) -> None:
    for name in names_in(methods):
        option = name.partition(":")[0]
        if re.fullmatch("[a-z]+(_[a-z0-9]+)+|[a-z_]+: .*", name):
            assert option in OPTIONS | {"not_in_paper", "phi_a", "phi_v"}, name


def test_where_the_numbers_come_from_is_told_of_all(methods: str) -> None:
    rows = table(methods[methods.index("# Presets") :], "method")
    assert sorted(name for row in rows for name in names_in(row[0])) == sorted(METHODS)


# --- The example of adding-a-method.md --------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    """The method in the document, with its preset and experiment file, as if it were one of ours."""
    text = (DOCS / "howto" / "adding-a-method.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    preset, experiment = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for path, content in {
        "cosine.py": code,
        "presets/cosine.yaml": preset,
        "experiments/table2/cosine.yaml": experiment,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    spec = importlib.util.spec_from_file_location("cosine_of_the_document", tmp_path / "cosine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(METHODS, "cosine", module.Cosine)
    monkeypatch.setattr(config, "resources", SimpleNamespace(files=lambda _: tmp_path))
    monkeypatch.setattr(studies, "experiments_folder", lambda: tmp_path / "experiments")
    assert '    "cosine": "cosine:Cosine",\n' in text
    return module.Cosine


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return Benchmark.open(write_folder(tmp_path_factory.mktemp("toy") / "root"), NAME, FEATURES)


@pytest.mark.parametrize(
    "check",
    [
        contract.test_distances_have_a_row_a_clip_and_a_column_a_class,
        contract.test_order_and_size_of_a_batch_change_nothing,
        contract.test_padding_changes_nothing,
    ],
)
def test_example_keeps_the_contract(check: object, example: type[Method], toy: Benchmark) -> None:
    assert callable(check)
    check(contract.Made("cosine", "corrected", toy))


def test_example_is_trained_and_saved(example: type[Method], toy: Benchmark, tmp_path: Path) -> None:
    contract.test_every_parameter_is_trained(contract.Made("cosine", "corrected", toy), "cosine")
    contract.test_the_loss_falls(contract.Made("cosine", "corrected", toy), "cosine")
    contract.test_saving_and_loading_change_nothing(
        contract.Made("cosine", "corrected", toy), "cosine", tmp_path / "saved"
    )
    contract.test_same_seed_same_result("cosine", "corrected", toy)
    contract.test_wrong_width_is_one_clear_error("cosine", toy)
    contract.test_bias_search_is_that_of_the_reference("cosine", toy)


def test_preset_and_experiment_of_the_example(example: type[Method], tmp_path: Path) -> None:
    table = yaml.safe_load((tmp_path / "presets" / "cosine.yaml").read_text())
    ours = yaml.safe_load((Path(config.__file__).parents[1] / "presets" / "ale.yaml").read_text())
    assert set(table) == set(ours)
    assert set(table["ucf/selavi"]) == set(table["not_in_paper"])
    (row,) = studies.read_study("table2")
    resolved = config.resolve(studies.row_options(row, {"benchmark": "ucf", "root": "x"}, like="ours"))
    assert (resolved.method, resolved.model["dropout"]) == ("cosine", 0.1)
    assert resolved.training.learning_rate == table["ucf/selavi"]["learning_rate"]
    assert row.order == len(METHODS) + 2
