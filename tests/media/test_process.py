"""The process that decodes: it may crash, hang or take too much, and it can open nothing but the clip."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

pytest.importorskip("av")

from clip_files import write_clip
from sacma.errors import SacmaError
from sacma.media import process, worker
from sacma.media.decode import Clip, Limits


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No process is left of other tests, nor for them."""
    process.end_all()
    yield
    process.end_all()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=3.0)


def decoders() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "sacma.media.worker" in child.cmdline()]


def test_one_process_serves_one_clip_after_another(path: Path) -> None:
    clip = Clip.open(path)
    (first,) = decoders()
    assert len(list(clip.frames(rate=2))) == 6
    assert sum(len(block) for block in clip.waveform(rate=8000)) > 20_000
    assert decoders() == [first]


def test_streams_of_a_clip_can_be_read_side_by_side(path: Path) -> None:
    clip = Clip.open(path)
    pairs = list(zip(clip.frames(rate=1), clip.waveform(rate=16_000), strict=False))
    assert len(pairs) == 3
    assert len(decoders()) == 2


def test_one_that_is_left_early_serves_the_next_clip(path: Path) -> None:
    clip = Clip.open(path)
    (first,) = decoders()
    for _ in clip.frames(rate=1000):
        break
    assert [round(time, 3) for time, _ in clip.frames(rate=1)] == [0, 1, 2]
    assert decoders() == [first]


@pytest.mark.parametrize("when", ["idle", "at work"])
def test_one_that_crashes_costs_its_clip_alone(path: Path, when: str) -> None:
    clip = Clip.open(path)
    (first,) = decoders()
    if when == "idle":
        first.send_signal(signal.SIGSEGV)
        first.wait(10)
        assert len(list(clip.frames(rate=1))) == 3
    else:
        frames = clip.frames(rate=20_000)
        next(frames)
        first.send_signal(signal.SIGSEGV)
        with pytest.raises(SacmaError, match=r"clip\.mp4: the decoder crashed .*status -11"):
            list(frames)
    assert len(list(clip.frames(rate=1))) == 3
    assert first not in decoders()


def test_one_that_hangs_is_given_up(path: Path) -> None:
    clip = Clip.open(path)
    (first,) = decoders()
    first.suspend()
    begun = time.monotonic()
    with pytest.raises(SacmaError, match=r"clip\.mp4: given up after 2 s"):
        list(replace(clip, limits=Limits(patience=2.0)).frames(rate=1))
    assert time.monotonic() - begun < 20
    assert not first.is_running()
    assert len(list(clip.frames(rate=1))) == 3


def test_waiting_for_whoever_asks_does_not_count(path: Path) -> None:
    clip = replace(Clip.open(path), limits=Limits(patience=5.0))
    begun = time.monotonic()
    for _ in clip.frames(rate=1):
        time.sleep(2.0)
    assert time.monotonic() - begun > 5


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit")
def test_memory_is_limited(tmp_path: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", seconds=0.3, size=(4096, 2160), audio=False)
    assert len(list(Clip.open(large).frames(rate=1))) == 1
    with pytest.raises(SacmaError, match=r"large\.mp4: .*"):
        list(Clip.open(large, limits=Limits(memory=8 << 20)).frames(rate=1))
    assert len(list(Clip.open(large).frames(rate=1))) == 1


def test_it_ends_when_whoever_asked_is_gone(path: Path) -> None:
    code = (
        "import os, sys; from sacma.media.decode import Clip; from sacma.media import process\n"
        f"frames = Clip.open({str(path)!r}).frames(rate=20_000); next(frames)\n"
        "import psutil; print(psutil.Process().children()[0].pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    number = int(asked.stdout)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_many_threads_may_ask(path: Path) -> None:
    lengths: list[int] = []

    def read() -> None:
        lengths.append(len(list(Clip.open(path).frames(rate=4))))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [12] * 6
    assert len(decoders()) <= process.KEPT


def test_a_folder_of_strangers_lends_no_modules(path: Path, tmp_path: Path) -> None:
    """Python would look for modules in the folder that one is in first."""
    for name in ("av", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'flag')!r}, 'w')")
    code = f"from sacma.media.decode import Clip; print(Clip.open({str(path)!r}).seconds)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "flag").exists()


LOCKED = """
import os, socket, sys
from sacma.media import worker
worker._import_all()
worker._lock_up()
clip = open(sys.argv[1], "rb")  # room for one
for attempt in (
    lambda: open(sys.argv[1], "rb"),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    lambda: os.pipe(),
):
    try:
        attempt()
    except OSError as error:
        print(error.errno)
os.write(1, b"written\\n")
"""


def test_nothing_can_be_opened_beside_the_clip(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, path], capture_output=True, text=True, check=False, timeout=60
    )
    assert sorted(done.stdout.split()) == [*[str(errno.EMFILE)] * 4, "written"], done.stderr


def test_answers_that_are_none_are_a_crash(
    monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    """A decoder that was taken over may write what it likes."""
    for line in (
        b"no json\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        json.dumps({"time": 0, "shape": [1 << 20, 1 << 20]}).encode() + b"\n",
        json.dumps({"time": 0, "shape": ["x", None]}).encode() + b"\n",
        json.dumps({"time": 0, "shape": None}).encode() + b"\n",
        json.dumps({"time": None, "shape": [1, 1]}).encode() + b"\nxyz",
        json.dumps({"samples": 1 << 40}).encode() + b"\n",
        json.dumps({"done": {"notes": 3}}).encode() + b"\n",
        b"x" * (2 << 20),
    ):
        answer = tmp_path / "answer"
        answer.write_bytes(line)
        code = (
            f"import sys; sys.stdin.readline(); sys.stdout.buffer.write(open({str(answer)!r}, 'rb').read())"
        )
        monkeypatch.setattr(process, "_PROGRAM", ("-c", code))
        with pytest.raises(SacmaError, match="the decoder crashed"):
            list(Clip(path, 3.0, True, True).frames(rate=1))


def test_idle_processes_end() -> None:
    code = "from sacma.media import worker; worker.IDLE = 0.2; worker.main()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.wait(30) == 0
    assert worker.IDLE > 1


@pytest.mark.parametrize(
    ("seconds", "given"),
    [(None, 60), (30.0, 60), (600.0, 60), (7200.0, 720), (1e9, 1440), (float("nan"), 60)],
)
def test_a_long_film_is_given_more_time_up_to_the_longest_that_is_read(
    seconds: float | None, given: float
) -> None:
    assert Limits(seconds=4 * 3600.0).stretched(60.0, seconds) == given
    assert Limits(seconds=float("inf")).stretched(60.0, 1e9) == 60 * 144
