"""Where test data lives, and tests over every parity file of a kind.

Parity vectors are outputs of published code on random inputs (.npz). ``SACMA_PARITY`` names a folder of them,
``SACMA_DATA`` a folder of benchmark files; without the first, a small copy in ``fixtures/parity`` is used.
All workers share one cache, empty at first: what one has encoded or rendered, no other does again.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Sums depend on the number of threads in their last digits: this process and those that it starts take one.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest
import torch

from parity_folder import parity_root
from sacma.machine import processors

CHROMIUM = Path("/usr/bin/chromium")

torch.set_num_threads(1)
# A busy machine makes no test red: nothing asserts how long an example takes.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the workers have the cache of the process that started them
        cache = os.environ["SACMA_CACHE"] = tempfile.mkdtemp(prefix="sacma-cache-")
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    config.addinivalue_line(
        "markers",
        "vectors(*patterns, excluding=()): run once for each parity file matching one of the patterns, "
        "wherever in the folder it is, as the argument `vectors_file`",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than processors: a test that waits for a process or a browser leaves its own free."""
    return processors() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: one that began last would leave the other processors idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave the modules out of garbage collection: they are most of the objects, and they stay."""
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("vectors")
    if marker is None:
        return
    root, excluding = parity_root(), marker.kwargs.get("excluding", ())
    if not root.is_dir():
        pytest.exit(f"SACMA_PARITY names {root}, which is not a folder", returncode=2)
    found = {file for pattern in marker.args for file in root.rglob(pattern)}
    files = sorted(file for file in found if not any(file.match(pattern) for pattern in excluding))
    metafunc.parametrize("vectors_file", files, ids=[file.stem for file in files])


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """The folder of parity vectors."""
    return parity_root()


def folder_named_by(variable: str) -> Path:
    """The folder that an environment variable names; a test that needs it skips where it is not set."""
    chosen = os.environ.get(variable)
    if not chosen:
        pytest.skip(f"{variable} is not set; set it to a folder with the files that this test needs")
    folder = Path(chosen)
    if not folder.is_dir():
        pytest.exit(f"{variable} names {folder}, which is not a folder", returncode=2)
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of benchmark files; tests that need it skip where it is not there."""
    return folder_named_by("SACMA_DATA")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser; tests that need it skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def count_calls() -> Callable[[Callable[[], Any]], int]:
    """Counts the functions that Python calls in some work: the same for few and many clips, if none loops."""

    def count(work: Callable[[], Any]) -> int:
        calls = 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(profile)
        try:
            work()
        finally:
            sys.setprofile(None)
        return calls

    return count
