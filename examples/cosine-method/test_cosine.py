"""The method keeps the contract, and is trained by its name: ``pip install . pytest && pytest``."""

import subprocess
from importlib.metadata import version
from pathlib import Path

from sacma_cosine import Cosine

from sacma.testing import check_method, write_toy_benchmark


def test_command_knows_it(tmp_path: Path) -> None:
    """Needs the installed packages, as they are published."""
    assert version("sacma-cosine")
    root = write_toy_benchmark(tmp_path / "root")
    options = ["--benchmark=toy", "--features=toyfeatures", f"--root={root}", "--epochs=2"]
    run = ["sacma", "train", "--method=cosine", *options, f"--out={tmp_path / 'run'}"]
    subprocess.run(run, check=True)
    assert "sacma-cosine" in (tmp_path / "run" / "method.json").read_text()


def test_contract() -> None:
    check_method(Cosine)
