"""Fixtures of the tests of data."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from download_server import Server
from sacma.data import fetching


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server; downloads from it are tried again without a pause."""
    monkeypatch.setattr(fetching, "BACKOFF_SECONDS", (0.0,))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
