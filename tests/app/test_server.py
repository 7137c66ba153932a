"""The web page in a real browser, served by the command in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import descriptor_run
from clip_files import write_clip
from commands import sacma as run_command
from sacma.datasets import avshapes

SEEN, UNSEEN = descriptor_run.TRAIN[0], descriptor_run.TEST_UNSEEN[0]
PATIENCE = 120_000  # milliseconds: other tests may have the processors


@dataclass
class Page:
    """The served page."""

    address: str
    temporary: Path

    def uploads(self) -> list[Path]:
        """Clips that are left of the visitors."""
        return [path for path in self.temporary.rglob("uploads/**/*") if path.is_file()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("clips") / "my clip.mp4"
    avshapes.write_mp4(SEEN, 3, path, size=64, fps=12)
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    pytest.importorskip("gradio")
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("page")
    run = descriptor_run.trained(folder)
    temporary = folder / "tmp"
    temporary.mkdir()
    program = "import sys; from sacma.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["app", f"--run={run}", "--port=0", "--max-megabytes=1", "--max-seconds=20"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        try:
            end = time.monotonic() + 120
            while not (found := re.search(r"the page is at (\S+)", (folder / "log").read_text())):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.1)
            yield Page(found[1], temporary)
            with connected(found[1]):
                process.send_signal(signal.SIGTERM)
                assert process.wait(5) == 0
            assert not list(temporary.glob("sacma-page-*"))  # nothing is left when it ends
            log.seek(0)
            assert "Traceback" not in log.read()  # Gradio tells what failed
        finally:
            process.kill()
            process.wait()


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connections of visitors who stay: one that waits, one that is sending, one that says nothing."""
    url = httpx.URL(address)
    head = f"Host: {url.netloc.decode()}\r\n"
    requests = (
        f"GET /gradio_api/heartbeat/stays HTTP/1.1\r\n{head}\r\n",
        f"POST /gradio_api/upload HTTP/1.1\r\n{head}Content-Type: multipart/form-data; boundary=b\r\n"
        'Content-Length: 9000\r\n\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="a"',
        "",
    )
    with ExitStack() as stack:
        for request in requests:
            one = stack.enter_context(socket.create_connection((url.host, url.port), timeout=30))
            one.sendall(request.encode())
            if request.startswith("GET"):
                assert b"200 OK" in one.recv(1000)
        yield


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """A browser without open pages, before and after."""
    yield chromium
    for context in chromium.contexts:
        context.close()


def wait_until_ready(page: Any) -> None:
    """Wait until the page has recalled what was written before; else it would replace what a test writes."""
    page.wait_for_selector("#ask")
    page.wait_for_selector("body[data-ready]", state="attached")


def visit(browser: Any, served: Page, *, width: int = 1280) -> Any:
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(served.address)
    wait_until_ready(page)
    return page


def upload(page: Any, clip: Path) -> None:
    page.set_input_files("#clip input[type=file]", clip)
    page.wait_for_selector("#clip .file-preview")


# What Gradio lays over an answer while the next one is made is no answer.
ANSWER = "document.querySelector('#result .sx-answer, #result .sx-error, #result .sx-empty').outerHTML"


def ask(page: Any, names: str) -> str:
    """Type names and ask from the keyboard; the text of the answer or of the error."""
    before = page.evaluate(ANSWER)
    page.fill("#names textarea", names)
    page.press("#names textarea", "Shift+Enter")
    page.wait_for_function(f"before => {ANSWER} !== before", arg=before)
    page.wait_for_selector("#result .sx-best, #result .sx-error")
    return str(page.inner_text("#result"))


def bars(page: Any) -> list[str]:
    return [element.inner_text() for element in page.query_selector_all(".sx-bars .sx-name")]


@pytest.mark.slow
def test_upload_type_and_read_the_answer(browser: Any, served: Page, clip: Path) -> None:
    page = visit(browser, served)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    wait_until_ready(page)
    upload(page, clip)
    text = ask(page, f"{SEEN}, {UNSEEN}")
    assert sorted(bars(page)) == sorted([SEEN, UNSEEN])
    assert page.query_selector(".sx-best span").inner_text() in (SEEN, UNSEEN)
    assert "of the attention" in text
    assert len(page.query_selector_all(".sx-frames img")) > 3
    assert page.query_selector(".sx-wave polygon") is not None
    own = [url for url in asked if url.startswith(served.address)]
    assert [url for url in asked if url not in own and not url.startswith(("data:", "blob:"))] == []
    # The same clip with other names: it is still there.
    ask(page, "\n".join(descriptor_run.ALL[:4]))
    assert sorted(bars(page)) == sorted(descriptor_run.ALL[:4])
    assert page.query_selector(".sx-map") is not None
    assert len(served.uploads()) == 1
    page.click("#clip button[aria-label=Clear]")
    wait_for_no_upload(served)
    page.context.close()


def wait_for_no_upload(served: Page) -> None:
    end = time.monotonic() + 90
    while served.uploads():
        assert time.monotonic() < end, served.uploads()
        time.sleep(0.1)


def test_an_example_answers_with_one_click(browser: Any, served: Page) -> None:
    page = visit(browser, served, width=390)
    page.click("#example-1")
    page.wait_for_selector("#result .sx-best")
    assert len(bars(page)) == 10
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # a phone has nothing to push aside
    page.context.close()
    wait_for_no_upload(served)  # leaving removes it


def test_mistakes_are_told(browser: Any, served: Page, clip: Path, tmp_path: Path) -> None:
    page = visit(browser, served)
    assert "Drop or record a clip first" in ask(page, SEEN)
    named = page.locator("#known textarea, #known input")
    named.fill("garden.mp4")
    named.press("Enter")
    page.get_by_text("Open a library on the tab Search first").wait_for()
    named.fill("")
    text_file = tmp_path / "note.mp4"
    text_file.write_text("this is no video")
    page.set_input_files("#clip input[type=file]", text_file)
    page.wait_for_selector("#clip .file-preview")
    said = ask(page, SEEN)
    assert "note.mp4: not a media file" in said
    assert str(served.temporary) not in said
    wait_for_no_upload(served)
    page.reload()
    wait_until_ready(page)
    upload(page, clip)
    assert "is there twice" in ask(page, f"{SEEN}, {SEEN}")
    assert "no class names" in ask(page, "  ")
    attack = '<img src=x onerror="document.title=1">'
    assert attack in ask(page, attack.replace(",", ""))
    assert page.query_selector("#result img") is None
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret\n")
    assert "a secret" not in ask(page, f"@{secret}")
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_everybody_can_use_it(scheme: str, width: int, browser: Any, served: Page, clip: Path) -> None:
    axe = pytest.importorskip("axe_core_python.base").AXE_SCRIPT
    viewport = {"width": width, "height": 900}
    page = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(served.address)
    wait_until_ready(page)
    assert ("dark" in (page.get_attribute("body", "class") or "")) == (scheme == "dark")
    upload(page, clip)
    ask(page, "\n".join(descriptor_run.ALL[:4]))
    page.evaluate(axe)
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    gradios_own = {"exclude": [".icon-button"]}  # a button with an input in it
    run_axe = "([where, rules]) => axe.run(where, rules)"
    for tab in ("Search", "Moving shapes"):
        page.get_by_role("tab", name=tab).click()
        page.locator("#find" if tab == "Search" else "#ask").hover()
        found = page.evaluate(run_axe, [gradios_own, rules])["violations"]
        told = [(one["id"], [node["html"][:160] for node in one["nodes"]][:5]) for one in found]
        assert told == []
    # From the names to the question and its answer by keyboard alone.
    page.focus("#names textarea")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "ask":
            break
    assert page.evaluate("document.activeElement.id") == "ask"
    page.context.close()


def test_what_was_written_is_there_after_a_reload(browser: Any, served: Page, clip: Path) -> None:
    page = visit(browser, served)
    upload(page, clip)
    ask(page, f"{SEEN}, {UNSEEN}")
    page.fill("#start textarea, #start input", "0:01")
    page.wait_for_timeout(300)
    page.reload()
    wait_until_ready(page)
    page.wait_for_selector("#result .sx-best")
    assert sorted(bars(page)) == sorted([SEEN, UNSEEN])
    assert page.input_value("#names textarea") == f"{SEEN}, {UNSEEN}"
    assert page.input_value("#start textarea, #start input") == "0:01"
    page.context.close()
    wait_for_no_upload(served)


def test_several_clips_in_containers_that_browsers_lack(browser: Any, served: Page, tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{n}.mkv", seconds=3.0, codec="libx264", fps=5) for n in ("one", "two")]
    page = visit(browser, served)
    page.set_input_files("#clip input[type=file]", clips)
    page.wait_for_selector("#clip .file-preview")
    ask(page, f"{SEEN}, {UNSEEN}")
    page.wait_for_selector("#result .sx-save")
    assert [one.inner_text() for one in page.query_selector_all(".sx-file")] == ["one.mkv", "two.mkv"]
    page.wait_for_function("document.querySelector('.sx-player').readyState > 0")  # it can be played
    address = page.get_attribute(".sx-player", "src")
    assert address.partition("#")[0].endswith("one-preview.mp4")
    with page.expect_download() as download:
        page.click(".sx-save a")
    table = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert "two.mkv,clip,0,3,1," in table
    page.context.close()
    wait_for_no_upload(served)


def test_too_large_a_file_is_refused(browser: Any, served: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(b"x" * 2_000_000)
    page = visit(browser, served)
    page.set_input_files("#clip input[type=file]", large)
    page.wait_for_selector("text=/maximum allowed size|too large|exceeds/i")
    assert page.query_selector("#clip .file-preview") is None
    assert [path for path in served.uploads() if path.name == "large.mp4"] == []
    page.context.close()


def test_two_visitors_at_once_get_their_own_answers(browser: Any, served: Page, clip: Path) -> None:
    pages = [visit(browser, served) for _ in range(2)]
    wanted = [descriptor_run.ALL[:3], descriptor_run.ALL[5:8]]
    for page, names in zip(pages, wanted, strict=True):
        upload(page, clip)
        page.fill("#names textarea", "\n".join(names))
    for page in pages:
        page.click("#ask")
    for page, names in zip(pages, wanted, strict=True):
        page.wait_for_selector("#result .sx-best")
        assert sorted(bars(page)) == sorted(names)
    # Equal files are one on disk: when one visitor leaves, the other still has it.
    pages[0].context.close()
    time.sleep(1)
    ask(pages[1], "\n".join(wanted[0]))
    assert sorted(bars(pages[1])) == sorted(wanted[0])
    pages[1].context.close()
    wait_for_no_upload(served)


def test_nothing_but_uploads_and_examples_can_be_read(served: Page) -> None:
    with httpx.Client(base_url=served.address, timeout=30) as client:
        front = client.get("/")
        assert "default-src 'self'" in front.headers["content-security-policy"]
        inside = next(served.temporary.glob("sacma-page-*"))
        for path in ("/etc/passwd", f"{inside}/uploads/../../../run/config.yaml", str(Path(__file__))):
            assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)
        # A clip that was not uploaded, named to the function behind the button.
        config = client.get("/config").json()
        parts = {one["id"]: one for one in config["components"]}
        ids = {one["props"].get("elem_id"): number for number, one in parts.items()}
        asks = next(one for one in config["dependencies"] if {ids["clip"], ids["names"]} <= {*one["inputs"]})
        empty = {"textbox": ""}
        given = {
            ids["clip"]: [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
            ids["names"]: SEEN,
        }
        data = [given.get(one, empty.get(parts[one]["type"])) for one in asks["inputs"]]
        body = {"data": data, "fn_index": asks["id"], "session_hash": "x"}
        joined = client.post("/gradio_api/queue/join", json=body)
        if joined.status_code == 200:
            with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "x"}) as stream:
                told = ""
                for line in stream.iter_lines():
                    told += line
                    if "process_completed" in line or "unexpected_error" in line:
                        break
            assert "root:" not in told
            assert '"success":false' in told.replace(" ", "")


def test_a_question_cannot_skip_the_queue(served: Page) -> None:
    functions = httpx.get(f"{served.address}config", timeout=60).json()["dependencies"]
    waiting = [one["id"] for one in functions if one["backend_fn"] and one["queue"] is not False]
    assert waiting
    for number in waiting:
        asked = {"data": [], "fn_index": number, "session_hash": "stranger", "trigger_id": None}
        sent = httpx.post(f"{served.address}gradio_api/run/predict", json=asked, timeout=60)
        assert sent.status_code == 404
        assert "join the queue" in sent.text


def test_a_taken_port_and_other_mistakes_are_one_line(served: Page, tmp_path: Path) -> None:
    run = served.temporary.parent / "run"
    port = served.address.rstrip("/").rsplit(":", 1)[1]
    assert f"port {port}" in run_command("app", "--run", run, "--port", port).line
    assert "no finished run" in run_command("app", "--run", tmp_path).line
    assert "must be above 0" in run_command("app", "--run", run, "--max-megabytes=0").line
