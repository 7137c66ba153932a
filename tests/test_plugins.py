"""Methods, backbones and text encoders of other packages and of files; a broken one is one line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import commands
import folders
from sacma import plugins
from sacma.errors import SacmaError
from sacma.media.backbones import open_backbone
from sacma.models import lookup
from sacma.results.run import load_run
from sacma.testing import check_method
from sacma.text.encoders import open_encoder

EXAMPLE = Path(__file__).parents[1] / "examples" / "cosine-method" / "sacma_cosine.py"
FEW = ("--epochs=2", "--batches-per-epoch=2", "--batch-size=8")

OTHERS = """
from sacma.media.backbones.catalogue import open_backbone
from sacma.text.encoders import TextEncoder
import numpy as np

def backbone(*, audio_weights, video_weights, device):
    return open_backbone("descriptors")

def lengths(spec):
    return TextEncoder({"model": None}, lambda names: np.array([[len(name), 1.0] for name in names]))

def nothing(**_):
    return 3

def failing(*_, **__):
    raise RuntimeError("no\\nweights")
"""
ENTRY_POINTS = """
[sacma.methods]
cosine = sacma_cosine:Cosine
absent = sacma_cosine:Sine
number = math:pi

[sacma.backbones]
other = other_encoders:backbone
nothing = other_encoders:nothing
failing = other_encoders:failing

[sacma.text_encoders]
lengths = other_encoders:lengths
failing = other_encoders:failing
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder and opened methods of the test alone."""
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lookup, "_OPENED", {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, installed as pip would put it; returns the folder on the path."""
    site = tmp_path / "site"
    facts = site / "sacma_cosine-0.1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: sacma-cosine\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "other_encoders.py").write_text(OTHERS)
    shutil.copy(EXAMPLE, site)
    monkeypatch.syspath_prepend(str(site))
    for name in ("sacma_cosine", "other_encoders"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return site


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy") / "root")


def trained(root: Path, out: Path, method: object) -> Path:
    outcome = commands.sacma("train", *commands.on(root), f"--method={method}", f"--out={out}", *FEW)
    assert outcome.status == 0, outcome.err
    return out


# --- A package ----------------------------------------------------------------------------------------


def test_a_method_of_a_package_is_trained_and_opened(package: Path, root: Path, tmp_path: Path) -> None:
    assert plugins.offered(plugins.METHODS) == ("absent", "cosine", "number")
    run = trained(root, tmp_path / "run", "cosine")
    origin = {"object": "sacma_cosine:Cosine", "package": "sacma-cosine", "version": "0.1"}
    assert json.loads((run / "method.json").read_text()) == origin
    opened = load_run(run)
    assert opened.config.model["dropout"] == 0.1
    assert opened.config.training.learning_rate == 3e-3  # of its own preset
    assert opened.evaluate().zsl == opened.result.test.zsl
    shown = commands.sacma("train", "--method=cosine", "--help-all")
    assert "on the joint features, in training" in " ".join(shown.out.split())


def test_a_run_says_which_package_is_missing(
    package: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(root, tmp_path / "run", "cosine")
    monkeypatch.setattr(lookup, "_OPENED", {})
    shutil.rmtree(package / "sacma_cosine-0.1.dist-info")
    (clip := tmp_path / "x.mp4").touch()
    for command in (("evaluate", run), ("train", "--resume", run), ("predict", clip, "--run", run)):
        line = commands.sacma(*command).line
        assert "is of package sacma-cosine 0.1, which is not installed; pip install sacma-cosine" in line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "'absent' of package sacma-cosine 0.1 cannot be loaded: AttributeError: module"),
        (
            "number",
            "'number' of package sacma-cosine 0.1 is no method; it must be a subclass of sacma.Method",
        ),
    ],
)
def test_a_broken_method_is_one_line_that_names_its_package(
    package: Path, root: Path, tmp_path: Path, name: str, said: str
) -> None:
    outcome = commands.sacma("train", *commands.on(root), f"--method={name}", f"--out={tmp_path / 'run'}")
    assert said in outcome.line
    assert commands.train(root, tmp_path / "other", "--epochs=1").status == 0  # others work


def test_a_package_that_raises_when_imported(package: Path, root: Path) -> None:
    (package / "sacma_cosine.py").write_text("import sys\nsys.exit('what now')\n")
    line = commands.sacma("train", *commands.on(root), "--method=cosine").line
    assert "package sacma-cosine 0.1 cannot be loaded: SystemExit: what now; update or uninstall it" in line
    assert commands.sacma("train", *commands.on(root), "--method=cosin").line.endswith("did you mean cosine?")


def test_two_packages_with_one_name(package: Path) -> None:
    second = package / "another-2.dist-info"
    second.mkdir()
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 2\n")
    (second / "entry_points.txt").write_text("[sacma.methods]\ncosine = math:pi\n")
    with pytest.raises(SacmaError, match=r"several packages offer 'cosine' \(another, sacma-cosine\)"):
        lookup.method_class("cosine")


def test_a_backbone_of_a_package(package: Path) -> None:
    found = open_backbone("other")
    assert (found.name, found.provenance["package"]) == ("other", "sacma-cosine 0.1")
    with pytest.raises(SacmaError, match=r"'nothing' of package sacma-cosine 0.1 gave a int, no"):
        open_backbone("nothing")
    with pytest.raises(SacmaError, match="cannot be opened: RuntimeError: no weights; update it"):
        open_backbone("failing")
    with pytest.raises(SacmaError, match=r"'unknown' is unknown; expected one of descriptors.* other"):
        open_backbone("unknown")


def test_a_text_encoder_of_a_package(package: Path) -> None:
    encoder = open_encoder({"encoder": "lengths"})
    vectors = encoder(["ant", "horse"])
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], [3, 5], rtol=1e-5)
    assert encoder.provenance == {"encoder": "lengths", "package": "sacma-cosine 0.1", "model": None}
    again = open_encoder(encoder.provenance)
    assert np.array_equal(again(["ant"]), vectors[:1])
    with pytest.raises(SacmaError, match="cannot be opened: RuntimeError: no weights"):
        open_encoder({"encoder": "failing"})
    shutil.rmtree(package / "sacma_cosine-0.1.dist-info")
    with pytest.raises(SacmaError, match=r"'lengths' is of package sacma-cosine 0.1, which is not installed"):
        open_encoder(encoder.provenance)


# --- A file -------------------------------------------------------------------------------------------


def test_a_method_of_a_file_is_trained_and_opened(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(EXAMPLE, tmp_path / "mine.py"))
    run = trained(root, tmp_path / "run", f"{file}:Cosine")
    assert commands.result(run)["method"] == "mine.py:Cosine"
    monkeypatch.setattr(lookup, "_OPENED", {})  # as in another process
    assert commands.sacma("evaluate", run).status == 0
    again = commands.sacma("train", "--config", run / "config.yaml", f"--out={tmp_path / 'again'}")
    assert again.status == 0, again.err
    assert commands.result(tmp_path / "again")["test"] == commands.result(run)["test"]


def test_a_run_folder_alone_does_not_make_a_file_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(EXAMPLE, tmp_path / "mine.py"))
    run = trained(root, tmp_path / "run", f"{file}:Cosine")
    monkeypatch.setattr(lookup, "_OPENED", {})
    mark = tmp_path / "mark"
    file.write_text(EXAMPLE.read_text() + f"\nopen({str(mark)!r}, 'w')\n")
    for command in (("evaluate", run), ("train", "--config", run / "config.yaml")):
        line = commands.sacma(*command).line
        assert "was not run on this machine in its present form; get the file, and if you trust" in line
        assert f"sacma train --method {file}:Cosine --help" in line
    assert not mark.exists()
    assert commands.sacma("train", f"--method={file}:Cosine", "--help").status == 0
    assert mark.exists()
    monkeypatch.setattr(lookup, "_OPENED", {})
    assert commands.sacma("evaluate", run).status == 0
    file.unlink()
    monkeypatch.setattr(lookup, "_OPENED", {})
    assert "which is not here; get the file" in commands.sacma("evaluate", run).line


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("import nowhere_at_all", "Cosine", "cannot be run: ModuleNotFoundError: No module named"),
        ("x = 1", "Cosine", "has no Cosine; write --method mine.py:CLASS"),
        ("Cosine = 1", "Cosine", "mine.py:Cosine is no method; it must be a subclass"),
    ],
)
def test_a_broken_file_is_one_line(root: Path, tmp_path: Path, content: str, name: str, said: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(content)
    assert said in commands.sacma("train", *commands.on(root), "--method", f"{file}:{name}").line


def test_a_file_without_a_class_or_that_is_not_there(root: Path, tmp_path: Path) -> None:
    on = commands.on(root)
    assert (
        "'mine.py' names no class; write it as FILE.py:CLASS"
        in commands.sacma("train", *on, "--method=mine.py").line
    )
    assert "no file " in commands.sacma("train", *on, f"--method={tmp_path}/mine.py:Cosine").line


# --- The contract -------------------------------------------------------------------------------------


def test_the_example_keeps_the_contract_and_a_wrong_one_is_told(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosine = lookup.method_class("cosine")
    check_method(cosine)

    class Unscaled(cosine):  # type: ignore[misc, valid-type]
        needs_fit = True

        def embed_clips(self, batch, *, output=None):  # type: ignore[no-untyped-def]
            found = super().embed_clips(batch, output=output)
            return found - found.mean(0)

    with pytest.raises(AssertionError, match="Unscaled does not keep the contract") as caught:
        check_method(Unscaled)
    assert "order and size of a batch change nothing (corrected)" in str(caught.value)
    assert "the class says what it overrides (corrected): needs_fit does not agree" in str(caught.value)
    with pytest.raises(SacmaError, match="int' is no method"):
        check_method(int)  # type: ignore[arg-type]
