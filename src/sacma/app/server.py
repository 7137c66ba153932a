"""The web page: drop a clip, type class names, read the answer. Gradio serves it, on this machine alone.

Uploads lie in a folder of their own, which only the page's server reads and which goes with it. A clip is
removed as soon as its visitor replaces or removes it, leaves, or after a quarter of an hour. Nothing is
fetched from or told to other machines: no share link, no analytics, no fonts from elsewhere, and a content
security policy that keeps the browser to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sacma.app import view as page
from sacma.app.view import Look
from sacma.datasets.avshapes import folder as avshapes
from sacma.errors import SacmaError, requires
from sacma.files import cache_folder, remove
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures
from sacma.predict import Predictor, load
from sacma.text.names import read_names
from sacma.version import __version__

AT_ONCE = 2
WAITING = 20
LONGEST_TEXT = 20_000
KEPT_SECONDS = 900
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's page has scripts in it
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)

# Classes of the clips to try: the first unseen one of each shape, and one that the demo was trained on. They
# are asked among all unseen classes and that one.
EXAMPLES = (
    "bar circling ringing paired together",
    "circle bouncing chirping galloping apart",
    "square pulsing ringing steady apart",
    "star circling buzzing paired together",
    "triangle sliding hissing scattered together",
    "square spinning hissing scattered apart",
)
EXAMPLE_NAMES = "\n".join((*avshapes.TEST_UNSEEN, EXAMPLES[-1]))


def open_run(run: Path | None, console: Console, *, max_seconds: float, **options: Any) -> Predictor:
    """The model that answers on the page.

    Args:
        run: folder of a finished run; None for the demo run, which is trained on the first start and kept.
        console: where training shows its progress.
        max_seconds: of a clip.
        options: see ``Predictor``.

    Raises:
        SacmaError: see ``load``.
    """
    limits = Limits(seconds=max_seconds, pixels=20_000_000)
    return load(run or demo_run(console), limits=limits, **options)


def demo_run(console: Console) -> Path:
    """The folder of the demo run in the cache, trained first if it is not there; about two minutes."""
    from sacma.runs.config import resolve
    from sacma.runs.folder import RunFolder
    from sacma.training import protocol

    path = cache_folder() / f"demo-run-{__version__}-{avshapes.VERSION}"
    benchmark = protocol.open_benchmark(resolve({}).data, console)
    config = resolve({}, training_clips=protocol.count_training_clips(benchmark))
    known = (path / "config.yaml").is_file() and RunFolder.open(path).config() == config
    folder = RunFolder.open(path) if known else RunFolder.create(path, config, force=True)
    if not folder.finished:
        console.print(f"no --run: training a demo run on AV-Shapes, once, in {path}", soft_wrap=True)
        protocol.run(config, benchmark, folder, console)
    return path


@dataclass(frozen=True)
class _Held:
    """A clip of a visitor, with what was made of it."""

    path: Path
    features: ClipFeatures
    look: Look


class Visitors:
    """The clip of each visitor, by the name of the session; a clip goes when the next comes."""

    def __init__(self, predictor: Predictor, uploads: Path) -> None:
        self.predictor, self.uploads = predictor, uploads
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def answer(self, clip: str | None, names: str, session: str) -> str:
        """The HTML of the answer, or of what is wrong."""
        if not clip:
            return page.render_error("Drop or record a clip first.")
        path = Path(clip)
        try:
            candidates = self.predictor.candidates(read_names(names[: LONGEST_TEXT + 1], files=False))
            if len(names) > LONGEST_TEXT:
                raise SacmaError(
                    f"more than {LONGEST_TEXT:,} characters of names; use sacma predict for these"
                )
            held = self._hold(path, session)
            prediction = self.predictor.answer(held.features, candidates, clip=path.name, top=page.TOP)
            return page.render_answer(
                prediction,
                candidates,
                held.look,
                self.predictor.attention(held.features),
                self.predictor.places(held.features, candidates),
                self.predictor,
            )
        except SacmaError as error:
            return page.render_error(str(error).replace(str(path), path.name))

    def _hold(self, path: Path, session: str) -> _Held:
        with self._lock:
            held = self._held.get(session)
        if held is None or held.path != path:
            self.drop(session)
            try:
                features = self.predictor.features(path)
                look = page.look_at(path, features, self.predictor.seconds(features), self.predictor.limits)
            except SacmaError:
                self._remove(path)
                raise
            held = _Held(path, features, look)
            with self._lock:
                self._held[session] = held
        return held

    def drop(self, session: str) -> None:
        """Forget a visitor's clip and remove its file."""
        with self._lock:
            held = self._held.pop(session, None)
        if held is not None:
            self._remove(held.path)

    def _remove(self, path: Path) -> None:
        """Nothing outside of the uploads is touched, nor what another visitor holds: equal files are one."""
        with self._lock:
            if any(held.path == path for held in self._held.values()):
                return
        if path.resolve().is_relative_to(self.uploads.resolve()):
            remove(path)


def build(predictor: Predictor, visitors: Visitors, examples: Mapping[str, Path]) -> Any:
    """The page; ``examples`` are clips by class name, all of ``EXAMPLES`` or none."""
    with requires("app", "the page needs Gradio"):
        import gradio as gr

    own = [str(name) for name in predictor.own_names]
    first = EXAMPLE_NAMES if examples else "\n".join(own[:8])

    def answer(clip: str | None, names: str, request: gr.Request) -> str:
        return visitors.answer(clip, names, request.session_hash or "")

    def show(name: str) -> tuple[str, str]:
        return str(examples[name]), EXAMPLE_NAMES

    def drop(request: gr.Request) -> None:
        visitors.drop(request.session_hash or "")

    for function in (answer, drop):  # Gradio looks the type up, and would not find it by its name
        function.__annotations__["request"] = gr.Request

    with gr.Blocks(
        title="sacma: what is in this clip?",
        analytics_enabled=False,
        delete_cache=(60, KEPT_SECONDS),
    ) as blocks:
        gr.HTML(page.render_head(predictor), padding=False)
        with gr.Row(equal_height=False, elem_classes="sx-columns"):
            with gr.Column(scale=5, min_width=300):
                clip = gr.Video(
                    label="Clip",
                    sources=["upload", "webcam"],
                    include_audio=True,
                    webcam_options=gr.WebcamOptions(mirror=False),
                    buttons=[],
                    elem_id="clip",
                )
                names = gr.Textbox(
                    label="Class names",
                    info="One a line, or with commas between. Shift + Enter asks.",
                    value=first,
                    lines=5,
                    max_lines=10,
                    max_length=LONGEST_TEXT,
                    elem_id="names",
                )
                ask = gr.Button("Which is it?", variant="primary", elem_id="ask")
                shown = []
                if examples:
                    gr.HTML(
                        '<p class="sx-try">Or try one of these, rendered on this machine:</p>', padding=False
                    )
                    with gr.Row(elem_classes="sx-examples"):
                        for number, name in enumerate(EXAMPLES):
                            button = gr.Button(name, size="sm", min_width=120, elem_id=f"example-{number}")
                            shown.append(button.click(partial(show, name), None, [clip, names]))
            with gr.Column(scale=7, min_width=320):
                result = gr.HTML(page.render_empty(), elem_id="result", padding=False)
        ask_options: dict[str, Any] = {
            "fn": answer,
            "inputs": [clip, names],
            "outputs": result,
            "concurrency_limit": AT_ONCE,
            "concurrency_id": "answer",
        }
        ask.click(**ask_options)
        names.submit(**ask_options)
        for event in shown:
            event.then(**ask_options)
        # On a phone the answer is below what is asked.
        look = (
            "() => document.getElementById('result').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
        )
        result.change(None, None, None, js=look)
        clip.clear(drop, None, None)
        clip.clear(page.render_empty, None, result)
        blocks.unload(drop)
    return blocks.queue(max_size=WAITING)


def serve(predictor: Predictor, console: Console, **options: Any) -> None:
    """Serve the page until it is interrupted; options are those of ``serving``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no upload is to be left behind
    with serving(predictor, **options) as address:
        console.print(f"the page is at {address} (Ctrl-C ends it)", soft_wrap=True, highlight=False)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextmanager
def serving(
    predictor: Predictor, *, host: str, port: int, max_megabytes: int, max_seconds: float
) -> Iterator[str]:
    """The running page: yields its address, and closes it and removes what was uploaded.

    Args:
        predictor: what answers.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        max_megabytes: of a clip.
        max_seconds: of a clip.

    Raises:
        SacmaError: Gradio is not installed, the model cannot see clips, or the port is taken.
    """
    if max_megabytes < 1 or not max_seconds > 0:
        raise SacmaError("--max-megabytes and --max-seconds must be above 0")
    port = _free_port(host, port)
    _ = predictor.backbone  # known now whether it can answer, and loaded before the first visitor
    folder = Path(tempfile.mkdtemp(prefix="sacma-page-"))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # both are read when Gradio is imported
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    blocks = None
    try:
        examples = _examples(folder / "examples") if predictor.deployment.benchmark == avshapes.NAME else {}
        blocks = build(predictor, Visitors(predictor, folder / "uploads"), examples)
        _launch(blocks, host=host, port=port, max_megabytes=max_megabytes, examples=folder / "examples")
        yield blocks.local_url
    finally:
        if blocks is not None:
            blocks.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)


def _examples(folder: Path) -> dict[str, Path]:
    clips = {}
    for name in EXAMPLES:
        clips[name] = folder / f"{name.replace(' ', '-')}.mp4"
        avshapes.write_mp4(name, avshapes.clip_seed(name, 100), clips[name])  # no clip of the benchmark
    return clips


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        SacmaError: it is taken, or host and port are not this machine's or ours to listen on.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise SacmaError(f"cannot listen on port {port} of {host}: {error}; choose another --port") from error


def _launch(blocks: Any, *, host: str, port: int, max_megabytes: int, examples: Path) -> None:
    import gradio as gr
    from starlette.middleware import Middleware

    theme = gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800")
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=max_megabytes * 1024 * 1024,
            allowed_paths=[str(examples)],
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            theme=theme,
            css=(Path(__file__).parent / "templates" / "app.css").read_text(encoding="utf-8"),
            app_kwargs={"middleware": [Middleware(_Guard)]},
        )
    except OSError as error:
        raise SacmaError(f"cannot listen on port {port} of {host}: {error}; choose another --port") from error


class _Guard:
    """ASGI middleware: tells the browser to load nothing from elsewhere."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = {
                    "content-security-policy": POLICY,
                    "referrer-policy": "no-referrer",
                    "x-content-type-options": "nosniff",
                }
                kept = [
                    (key, value) for key, value in message["headers"] if key.decode().lower() not in added
                ]
                message["headers"] = kept + [(key.encode(), value.encode()) for key, value in added.items()]
            await send(message)

        await self.app(scope, receive, guarded)
