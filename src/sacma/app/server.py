"""The web page: drop a clip, type class names, read the answer. Gradio serves it from this machine.

Uploads lie in a temporary folder that is removed with the server. A clip is removed when its visitor replaces
it, removes it or leaves, and after a quarter of an hour at the latest. The page contacts no other host: no
share link, no analytics, no foreign fonts, and a content security policy that holds the browser to it.
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

from sacma.app import view as page
from sacma.app.view import Look
from sacma.datasets import avshapes
from sacma.errors import SacmaError, requires
from sacma.files import cache_folder, remove
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures
from sacma.predict import Predictor, ZeroShot, load, zero_shot
from sacma.progress import Reporter
from sacma.text.names import read_names
from sacma.version import __version__

AT_ONCE = 2
"""Visitors that are answered at the same time."""
WAITING = 20
"""Visitors that can wait for an answer."""
LONGEST_TEXT = 20_000
"""Letters in the field of class names."""
KEPT_SECONDS = 900
"""Longest time that a clip is kept."""
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

# Classes of the example clips: the first unseen class of each shape, and one seen class. The candidates are
# all unseen classes and that seen one.
EXAMPLES = (
    "bar circling ringing paired together",
    "circle bouncing chirping galloping apart",
    "square pulsing ringing steady apart",
    "star circling buzzing paired together",
    "triangle sliding hissing scattered together",
    "square spinning hissing scattered apart",
)
DEMO = Path("demo")
REJECT = 0.05
"""Share of clips for which "none of these fits" may be wrong."""
Answering = Predictor | ZeroShot
FIRST_NAMES = ("dog barking", "playing guitar", "playing piano", "person talking", "car engine", "waterfall")
"""What stands in the box of names where the model has none of its own."""
EXAMPLE_NAMES = "\n".join((*avshapes.TEST_UNSEEN, EXAMPLES[-1]))


def open_model(run: Path | None, reporter: Reporter, *, max_seconds: float, **options: Any) -> Answering:
    """The model that answers on the page.

    Args:
        run: folder of a finished run; ``demo`` for the demo run on AV-Shapes, which is trained on its first
            start and kept; None for the frozen model that ``sacma.zero_shot`` takes.
        reporter: shows progress of training.
        max_seconds: longest length of a clip.
        options: see ``Predictor``; of a frozen model only ``model`` and ``audio_weights``.

    Raises:
        SacmaError: see ``load`` and ``zero_shot``; or an option of runs without one.
    """
    limits = Limits(seconds=max_seconds, pixels=20_000_000)
    model = options.pop("model", None)
    if run is None:
        weights = options.pop("audio_weights", None)
        if given := [name for name, value in options.items() if value is not None]:
            raise SacmaError(f"--{given[0].replace('_', '-')} without --run; it is an option of trained runs")
        return zero_shot(model, audio_weights=weights, reject=REJECT, limits=limits)
    encoder = options.pop("encoder", None)
    if encoder is not None:
        options["encoder"] = {"encoder": encoder, "model": model}
    path = demo_run(reporter) if run == DEMO and not run.exists() else run
    return load(path, limits=limits, **options)


def demo_run(reporter: Reporter) -> Path:
    """The folder of the demo run in the cache, trained first if it is not there; about two minutes."""
    from sacma.runs.folder import RunFolder
    from sacma.runs.prepare import prepare
    from sacma.training.protocol import run

    path = cache_folder() / f"demo-run-{__version__}-{avshapes.VERSION}"
    config, benchmark = prepare({}, reporter)
    known = (path / "config.yaml").is_file() and RunFolder.open(path).config() == config
    folder = RunFolder.open(path) if known else RunFolder.create(path, config, force=True)
    if not folder.finished:
        reporter.say(f"training a demo run on AV-Shapes, once, in {path}")
        run(config, benchmark, folder, reporter)
    return path


@dataclass(frozen=True)
class _Held:
    """A clip of a visitor, with its features and its pictures."""

    path: Path
    features: ClipFeatures
    look: Look


class Visitors:
    """The clip of each visitor, by session; a new clip replaces the old one.

    Args:
        predictor: the model that answers.
        uploads: folder of the uploaded clips.
    """

    def __init__(self, predictor: Answering, uploads: Path) -> None:
        self.predictor, self.uploads = predictor, uploads
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def answer(self, clip: str | None, names: str, session: str) -> str:
        """The HTML of the answer to a visitor, or of an error."""
        if not clip:
            return page.render_error("Drop or record a clip first.")
        path = Path(clip)
        try:
            candidates: Any = self.predictor.candidates(read_names(names[: LONGEST_TEXT + 1], files=False))
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
        """Remove an upload, unless another visitor has the same file: Gradio stores equal files once."""
        with self._lock:
            if any(held.path == path for held in self._held.values()):
                return
        if path.resolve().is_relative_to(self.uploads.resolve()):
            remove(path)


def build(predictor: Answering, visitors: Visitors, examples: Mapping[str, Path]) -> Any:
    """Build the page.

    Args:
        predictor: the model that answers.
        visitors: clips of the visitors.
        examples: class name -> clip, for all of ``EXAMPLES`` or none.

    Returns:
        Gradio's blocks, with a queue.
    """
    with requires("app", "the page needs Gradio"):
        import gradio as gr

    own = [str(name) for name in predictor.own_names or FIRST_NAMES]
    first = EXAMPLE_NAMES if examples else "\n".join(own[:8])

    def answer(clip: str | None, names: str, request: gr.Request) -> str:
        return visitors.answer(clip, names, request.session_hash or "")

    def show(name: str) -> tuple[str, str]:
        return str(examples[name]), EXAMPLE_NAMES

    def drop(request: gr.Request) -> None:
        visitors.drop(request.session_hash or "")

    for function in (answer, drop):  # Gradio needs the type itself, not its name
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


def serve(predictor: Answering, reporter: Reporter, **options: Any) -> None:
    """Serve the page until it is interrupted; options are those of ``serving``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that uploads are removed
    with serving(predictor, **options) as address:
        reporter.say(f"the page is at {address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextmanager
def serving(
    predictor: Answering, *, host: str, port: int, max_megabytes: int, max_seconds: float
) -> Iterator[str]:
    """Run the page within a context, which gives its address; at the end, uploads are removed.

    Args:
        predictor: the model that answers.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        max_megabytes: largest size of a clip.
        max_seconds: longest length of a clip.

    Raises:
        SacmaError: Gradio is not installed, the model cannot see clips, or the port is taken.
    """
    if max_megabytes < 1 or not max_seconds > 0:
        raise SacmaError("--max-megabytes and --max-seconds must be above 0")
    port = _free_port(host, port)
    _ = predictor.backbone  # loaded before the first visitor comes; an error stops the start
    folder = Path(tempfile.mkdtemp(prefix="sacma-page-"))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads both when it is imported
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    blocks = None
    try:
        shapes = isinstance(predictor, Predictor) and predictor.deployment.benchmark == avshapes.NAME
        examples = _examples(folder / "examples") if shapes else {}
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
        avshapes.write_mp4(
            name, avshapes.clip_seed(name, 100), clips[name]
        )  # a clip that the benchmark lacks
    return clips


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        SacmaError: the port is taken, or this machine may not listen on host and port.
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
    """ASGI middleware that adds the headers of the content security policy."""

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
