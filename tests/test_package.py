"""What is installed and what importing costs."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest
import torch

import sacma
from sacma.cli import COMMANDS, GROUPS
from sacma.models import METHODS

ROOT = Path(__file__).parents[1]
UNWANTED = re.compile(r"torchvision|torchaudio")
OF_CUDA = re.compile(r"triton|nvidia-.*|cuda-.*")


def installed() -> set[str]:
    return {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}


def required() -> set[str]:
    """Names of the packages that sacma needs without any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[^\w.-]", one, maxsplit=1)[0].lower() for one in project["dependencies"]}


def test_nothing_that_is_installed_is_unwanted() -> None:
    assert {"torch", "sacma"} <= installed()
    assert not [name for name in installed() | required() if UNWANTED.fullmatch(name)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_torch_is_the_one_for_processors() -> None:
    """A build for GPUs weighs gigabytes, and one comes along with many a package that needs torch."""
    assert torch.version.cuda is None
    assert not [name for name in installed() if OF_CUDA.fullmatch(name)]


def test_everything_that_is_imported_is_required() -> None:
    """Packages that extras bring are imported inside functions, in every module."""
    sources = sorted(Path(sacma.__file__).parent.rglob("*.py"))
    assert len(sources) > 100
    statements = [node for file in sources for node in ast.parse(file.read_text()).body]
    imported = {
        name.partition(".")[0]
        for node in statements
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        )
    }
    other = imported - set(sys.stdlib_module_names) - {"sacma"}
    assert {"torch", "yaml", "numpy"} <= other
    assert {"pyyaml" if name == "yaml" else name for name in other} <= required()


def test_no_module_imports_itself_in_the_end() -> None:
    """Deferred and type-only imports count, and so do a folder and the modules in it."""
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("sacma", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError


def test_constraints_name_every_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert required() <= pinned
    assert not [name for name in pinned if UNWANTED.fullmatch(name) or OF_CUDA.fullmatch(name)]


def test_one_version() -> None:
    assert metadata.version("sacma") == sacma.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", sacma.__version__)


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import sacma; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "torch" not in loaded
    assert "numpy" not in loaded


def test_public_names_are_found_by_completion_and_by_type_checkers() -> None:
    tree = ast.parse(Path(sacma.__file__).read_text())
    (block,) = [one for one in tree.body if isinstance(one, ast.If)]
    typed = {
        alias.name: part.module
        for part in block.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
    }
    assert {"__version__", *typed} == set(sacma.__all__) <= set(dir(sacma))
    for name, module in typed.items():
        assert module is not None
        assert getattr(sacma, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sacma.nothing


HEAVY = {"torch", "numpy", "pyarrow", "av", "transformers", "accelerate", "matplotlib", "huggingface_hub"}
LIGHT_COMMANDS = [
    ("--version", HEAVY | {"jsonargparse", "yaml"}),
    ("--help", HEAVY | {"jsonargparse", "yaml"}),
    ("data --help", HEAVY | {"jsonargparse", "yaml"}),
    ("nonsense", HEAVY | {"jsonargparse", "yaml"}),
    *((f"{name} --help", HEAVY) for name in COMMANDS),
    *((f"{group} {name} --help", HEAVY) for group in GROUPS for name in GROUPS[group].commands),
    *((f"train --method {method} --help", HEAVY) for method in ("kite", "hsp-moe", "frozen")),
    ("data info", HEAVY),
]


def loaded_by(code: str) -> set[str]:
    """Names of packages that are loaded after some code ran in a process of its own."""
    code = f"import sys\ntry:\n    {code}\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "unwanted"), LIGHT_COMMANDS)
def test_commands_without_a_network_import_little(command: str, unwanted: set[str]) -> None:
    loaded = loaded_by(f"from sacma.cli import main; main({command.split()})")
    assert "argparse" in loaded
    assert not loaded & unwanted


def test_prediction_imports_no_reader_of_other_formats_and_nothing_for_training() -> None:
    loaded = loaded_by("import sacma.predict.predictor")
    assert "torch" in loaded
    unwanted = {
        "accelerate",
        "h5py",
        "huggingface_hub",
        "pandas",
        "pyarrow",
        "rich",
        "scipy",
        "transformers",
        "av",
    }
    assert not loaded & unwanted


def test_a_method_is_imported_when_it_is_asked_for() -> None:
    assert "torch" not in loaded_by("from sacma.models import METHODS")
    code = "from sacma.models import METHODS; METHODS['kite']; assert 'sacma.models.sacma' not in sys.modules"
    assert "torch" in loaded_by(code)


def test_it_is_typed_and_has_its_data() -> None:
    package = resources.files("sacma")
    assert package.joinpath("py.typed").is_file()
    for method in METHODS:
        assert package.joinpath("presets", f"{method}.yaml").is_file()


@pytest.mark.parametrize("line", ["requires-python", "license", "readme"])
def test_the_wheel_says_what_it_is(line: str) -> None:
    description = metadata.metadata("sacma")
    field = {"requires-python": "Requires-Python", "license": "License-Expression", "readme": "Summary"}[line]
    assert description[field]


def test_each_source_file_is_tested_somewhere() -> None:
    """It has a test file of its own name, or a line in tests/README.md, whose test files exist."""
    tests, source = ROOT / "tests", ROOT / "src/sacma"
    own = {path.name.removeprefix("test_") for path in tests.rglob("test_*.py")}
    told: set[str] = set()
    for line in (tests / "README.md").read_text().splitlines():
        if not line.startswith("| `"):
            continue
        _, sources, places, _ = line.split("|")
        folder = ""
        for name in re.findall(r"`([^`]+)`", sources):
            folder = name.rpartition("/")[0] if "/" in name else folder
            told.add(name if "/" in name or not folder else f"{folder}/{name}")
        folder = ""
        for name in re.findall(r"`([^`]+\.py)`", places):
            folder = name.rpartition("/")[0] if "/" in name else folder
            stands = tests / name, tests / folder / name
            assert any(path.is_file() for path in stands) or "_x." in name, name
    for path in source.rglob("*.py"):
        name = path.relative_to(source).as_posix()
        folder = path.parent.name
        if path.name == "__init__.py" or {path.name, f"{folder}_{path.name}"} & own:
            continue
        assert name in told or f"{path.parent.relative_to(source).as_posix()}/" in told, name


def test_docstrings_say_what_a_thing_is() -> None:
    """Not how, what or whether: the first word is the thing itself, or what it does."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in (ROOT / "src/sacma").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            said = ast.get_docstring(node) if isinstance(node, kinds) else None
            assert not said or said.split()[0] not in ("What", "Whether", "How"), f"{path}: {said}"
