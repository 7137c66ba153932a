"""The page under many predictions: 20 visitors at once, one bad upload in five. Run by ``make soak``.

It prints how many predictions came back, how long they took, and the memory of the page over time, and fails
if one was lost or answered wrongly, or if memory grows. Half of the sessions leave without a word.

Variables: ``SOAK_PREDICTIONS`` (1000), ``SOAK_VISITORS`` (20).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

import descriptor_run
from sacma.datasets import avshapes

PREDICTIONS = int(os.environ.get("SOAK_PREDICTIONS", "1000"))
VISITORS = int(os.environ.get("SOAK_VISITORS", "20"))
BAD = 5
"""One upload in so many is bad."""
GROWTH = 30.0
"""MiB that memory may grow from a quarter of the predictions to the end: what malloc keeps, no more."""
PATIENCE = 300.0
"""Seconds for one answer."""
NAMES = "\n".join(descriptor_run.ALL)


@dataclass
class Told:
    """What came of the predictions.

    Attributes:
        counts: outcomes: right, refused (a bad clip that was named), lost, wrong.
        seconds: of each prediction.
        wrong: what was not expected.
        memory: MiB of the page with its decoders, after each prediction.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """MiB from about a quarter of the predictions to the end, as medians of a tenth each."""
        some = max(1, len(self.memory) // 10)
        early = self.memory[len(self.memory) // 4 :][:some]
        return float(np.median(self.memory[-some:]) - np.median(early))


def clips(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Good clips and bad ones."""
    good = []
    for number, name in enumerate(avshapes.TRAIN[:4]):
        path = folder / f"{number}.mp4"
        avshapes.write_mp4(name, number, path, size=64, fps=12)
        good.append(path.read_bytes())
    draw = np.random.default_rng(0)
    bad = [
        b"this is no video",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        good[0][: len(good[0]) // 3],
        bytes(draw.integers(0, 256, 5000, np.uint8)),
        b"",
    ]
    return good, bad


@contextmanager
def page(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The page in a process of its own: its address and the process."""
    run = descriptor_run.trained(folder)
    program = "import sys; from sacma.cli import main; sys.exit(main(sys.argv[1:]))"
    log = folder / "log"
    with log.open("w") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", program, "app", f"--run={run}", "--port=0"],
            stdout=file,
            stderr=file,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            while not (found := re.search(r"the page is at (\S+)", log.read_text())):
                if running.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            yield found[1], psutil.Process(running.pid)
            begun = time.monotonic()
            running.send_signal(signal.SIGTERM)
            running.wait(PATIENCE)
            print(f"ended {time.monotonic() - begun:.1f} s after SIGTERM")
        finally:
            running.kill()
            running.wait()
    if "Traceback" in log.read_text():
        raise SystemExit(log.read_text())


def ask(client: httpx.Client, number: int, session: str, clip: bytes) -> str:
    """Upload a clip, ask about it and wait for the answer, as HTML; empty if none comes."""
    name = f"clip-{number}.mp4"
    uploaded = client.post("/gradio_api/upload", files={"files": (name, clip, "video/mp4")})
    (path,) = uploaded.raise_for_status().json()
    given = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    function = next(
        one["id"] for one in client.get("/config").json()["dependencies"] if len(one["inputs"]) == 6
    )
    body = {"data": [[given], None, None, NAMES, "", ""], "fn_index": function, "session_hash": session}
    while (joined := client.post("/gradio_api/queue/join", json=body)).status_code == 503:
        time.sleep(0.2)  # the queue is full
    joined.raise_for_status()
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                message = json.loads(line.removeprefix("data: "))
                if message["msg"] == "process_completed":
                    return str((message["output"].get("data") or [""])[0])
    return ""


def outcome(html: str, number: int, bad: bool) -> str:
    """The kind of an answer: right, refused, lost or wrong."""
    if not html:
        return "lost"
    if bad:
        return "refused" if "sx-error" in html and f"clip-{number}.mp4" in html else "wrong"
    return "right" if "sx-best" in html else "wrong"


def soak(predictions: int, visitors: int) -> Told:
    """Run it; see the module."""
    told, lock, left = Told(), threading.Lock(), iter(range(predictions))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        good, bad = clips(folder)
        with page(folder) as (address, process):

            def visit(_: int) -> None:
                with httpx.Client(base_url=address, timeout=PATIENCE) as client:
                    while True:
                        with lock:
                            number = next(left, None)
                        if number is None:
                            return
                        one_visit(client, number)

            def one_visit(client: httpx.Client, number: int) -> None:
                is_bad, session, begun = number % BAD == BAD - 1, secrets.token_hex(8), time.monotonic()
                clip = bad[number // BAD % len(bad)] if is_bad else good[number % len(good)]
                try:
                    if number % 2:
                        with client.stream("GET", f"/gradio_api/heartbeat/{session}"):
                            html = ask(client, number, session, clip)
                    else:
                        html = ask(client, number, session, clip)
                except (httpx.HTTPError, ValueError) as error:
                    html = ""
                    print(f"prediction {number}: {error!r}", file=sys.stderr)
                kind, used = outcome(html, number, is_bad), memory(process)
                with lock:
                    told.counts[kind] += 1
                    told.seconds.append(time.monotonic() - begun)
                    told.memory.append(used)
                    if kind in ("lost", "wrong"):
                        told.wrong.append(f"{number}: {kind}: {html[:300]}")
                    if len(told.memory) % 100 == 0:
                        print(f"{len(told.memory)} predictions, {used:.0f} MiB", flush=True)

            with ThreadPoolExecutor(visitors) as pool:
                list(pool.map(visit, range(visitors)))
            kept = sum(path.is_file() for path in folder.rglob("uploads/**/*"))
            print(f"{kept} clips of sessions that left without a word wait for their removal")
        if list(folder.glob("sacma-page-*")):
            raise SystemExit("uploads were left when the page ended")
    return told


def memory(process: psutil.Process) -> float:
    """MiB of a process and those that it started."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def main() -> None:
    """Run it, print the figures, and end with status 1 if something was lost, wrong or grew."""
    begun = time.monotonic()
    told = soak(PREDICTIONS, VISITORS)
    took, times = time.monotonic() - begun, np.sort(told.seconds)
    counts = ", ".join(f"{told.counts[kind]} {kind}" for kind in ("right", "refused", "wrong", "lost"))
    print(f"{PREDICTIONS} predictions by {VISITORS} visitors in {took:.0f} s: {counts}")
    print(f"an answer took {np.median(times):.1f} s (median), {times[int(0.95 * len(times))]:.1f} s (95 %)")
    print(
        f"memory: {told.memory[0]:.0f} MiB after the first, {max(told.memory):.0f} at most, "
        f"{told.memory[-1]:.0f} at the end; {told.growth:+.1f} MiB over the last three quarters"
    )
    for line in told.wrong[:10]:
        print(line)
    if told.wrong or sum(told.counts.values()) != PREDICTIONS or told.growth > GROWTH:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
