"""Frozen models by name: what is known of them, what is here, and fetching one from a local server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import joint_models
from commands import sacma as run_command
from sacma.errors import SacmaError
from sacma.frozen import catalogue

COMMIT = "0123456789" * 4
NAME = "some/clip"


def test_every_model_says_what_a_table_needs() -> None:
    models = catalogue.known_models()
    assert list(models)[-2:] == ["label-bridge", "clap"]
    for facts in models.values():
        assert facts.licence
        assert facts.trained_on
        assert facts.sources or facts.name == "label-bridge"
    assert models["clip-clap"].reads == "pictures and sound"
    assert models["clap"].reads == "sound"
    assert "VGGSound" in models["pe-av-small"].trained_on


class Hub(BaseHTTPRequestHandler):
    """What fetching a repository takes of the Hugging Face hub; the first large file breaks off once."""

    files: ClassVar[dict[str, bytes]] = {}
    broken: ClassVar[bool] = False

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        if self.path.startswith(f"/api/models/{NAME}"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            facts = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            content = json.dumps(tree if "/tree/" in self.path else facts).encode()
            self._send(200, content, {"Content-Type": "application/json"}, body)
            return
        name = self.path.partition("?")[0].rsplit("/", 1)[-1]
        if name not in self.files:
            self._send(404, b"", {}, body)
            return
        content = self.files[name]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        start, status = 0, 200
        if (given := self.headers.get("Range")) and body:
            start, status = int(given.removeprefix("bytes=").split("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, content[start:], headers, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if len(content) > 20_000 and not Hub.broken:
            Hub.broken = True
            self.wfile.write(content[:10_000])
            self.close_connection = True
            return
        self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    folder = joint_models.clip(tmp_path / "model")
    Hub.files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"weights.bin": b"a pickle"}
    Hub.broken = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_model_is_fetched_through_a_break_and_then_opens_offline(hub: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "*",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sacma.cli", "models", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    before = run("get", "some/other")
    assert before.returncode == 2
    assert "cannot fetch some/other" in before.stderr
    done = run("get", NAME)
    assert done.returncode == 0, done.stderr
    assert Hub.broken
    place = Path(done.stdout.split("here: ")[1].strip())
    assert {path.name for path in place.iterdir()} == set(Hub.files) - {"weights.bin"}
    for path in place.iterdir():
        assert path.read_bytes() == Hub.files[path.name]
    opened = subprocess.run(
        [sys.executable, "-c", f"import sacma; print(sacma.zero_shot({NAME!r}).model.modalities)"],
        env=environment | {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert opened.stdout.strip() == "('video',)", opened.stderr


def test_the_list_says_what_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path))
    monkeypatch.delenv("SACMA_YAMNET", raising=False)
    monkeypatch.setattr(catalogue, "cached", lambda source: None)
    told = run_command("models")
    assert told.status == 0, told.err
    assert "without --model, label-bridge answers" in told.out
    assert "sacma models get yamnet" in told.out
    assert run_command("models", "list").out == told.out
    monkeypatch.setattr(catalogue, "cached", lambda source: tmp_path)
    assert catalogue.best_here() == "pe-av-large"


def test_sound_labels_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path))
    monkeypatch.delenv("SACMA_YAMNET", raising=False)
    assert catalogue.sound_labels() is None
    kept = tmp_path / "models" / catalogue.YAMNET_FILE
    kept.parent.mkdir()
    kept.write_bytes(b"x")
    assert catalogue.sound_labels() == kept
    monkeypatch.setenv("SACMA_YAMNET", "elsewhere.tflite")
    assert catalogue.sound_labels() == Path("elsewhere.tflite")


def test_yamnet_is_fetched_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    content = b"labels of sounds"
    Hub.files[catalogue.YAMNET_FILE] = content
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "YAMNET_URL", f"{hub}/{catalogue.YAMNET_FILE}")
    with pytest.raises(SacmaError, match="checksum"):
        catalogue.get("yamnet")
    monkeypatch.setattr(catalogue, "YAMNET_SHA256", hashlib.sha256(content).hexdigest())
    (place,) = catalogue.get("label-bridge")
    assert place.read_bytes() == content


def test_what_cannot_be_fetched() -> None:
    with pytest.raises(SacmaError, match="no model 'nobody'"):
        catalogue.get("nobody")
