"""The web page: drop a clip, type class names, read the answer. Gradio serves it from this machine.

``uploads`` has the clips, ``visitors`` answers, ``guard`` lets through what the page needs and nothing else.
The page contacts no other host: no share link, no analytics, no foreign fonts, and a content security policy
that holds the browser to it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sacma.app import view as page
from sacma.app.guard import Guard
from sacma.app.uploads import Uploads, page_folder
from sacma.app.visitors import LONGEST_TEXT, Answering, Visitors
from sacma.datasets import avshapes
from sacma.errors import SacmaError, requires
from sacma.files import cache_folder
from sacma.media.decode import Limits
from sacma.predict import Predictor, load, zero_shot
from sacma.progress import Reporter
from sacma.version import __version__

AT_ONCE = 2
"""Visitors that are answered at the same time."""
WAITING = 20
"""Visitors that can wait for an answer."""
KEPT_SECONDS = 900
"""How long a clip is kept that nobody asks about."""
SWEPT_SECONDS = 20.0
"""From one look for such clips to the next."""
ENDING_SECONDS = 1
"""How long requests that are under way may take when the page ends."""
CONNECTIONS = 256
"""Connections at a time; more are turned away."""
SESSIONS = 100
"""Sessions that Gradio remembers."""
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
    limits = Limits(seconds=max_seconds, pixels=20_000_000, patience=60.0, memory=2 << 30)
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

    def claim(clip: str | None, request: gr.Request) -> None:
        visitors.claim(clip, request.session_hash or "")

    def drop(request: gr.Request) -> None:
        visitors.drop(request.session_hash or "")

    for function in (answer, claim, drop):  # Gradio needs the type itself, not its name
        function.__annotations__["request"] = gr.Request

    with gr.Blocks(
        title="sacma: what is in this clip?",
        analytics_enabled=False,
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
        for given in (clip.upload, clip.stop_recording):  # so that it goes with its visitor, asked or not
            given(claim, clip, None, show_progress="hidden", concurrency_limit=None)
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
    # Python would wait for the threads that are still at work on a clip that is no longer there.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def serving(
    predictor: Answering,
    *,
    host: str,
    port: int,
    max_megabytes: int,
    max_seconds: float,
    allowed_hosts: Sequence[str] = (),
) -> Iterator[str]:
    """Run the page within a context, which gives its address; at the end, uploads are removed.

    Args:
        predictor: the model that answers.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        max_megabytes: largest size of a clip.
        max_seconds: longest length of a clip.
        allowed_hosts: names by which others reach the page, besides addresses and this machine's name.

    Raises:
        SacmaError: Gradio is not installed, the model cannot see clips, or the port is taken.
    """
    if max_megabytes < 1 or not max_seconds > 0:
        raise SacmaError("--max-megabytes and --max-seconds must be above 0")
    _ = predictor.backbone  # loaded before the first visitor comes; an error stops the start
    with page_folder() as folder, _listening(host, port) as listener:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads these when it is imported
        os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(SESSIONS)
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "clips")  # it copies what lies elsewhere
        uploads = Uploads(
            folder / "clips" / "uploads", most_bytes=(WAITING + AT_ONCE) * max_megabytes * 1024 * 1024
        )
        visitors = Visitors(predictor, uploads)
        shapes = isinstance(predictor, Predictor) and predictor.deployment.benchmark == avshapes.NAME
        examples = _examples(folder / "clips" / "examples") if shapes else {}
        blocks = build(predictor, visitors, examples)
        uploads.shared.update(examples.values())
        app = Guard(
            _application(blocks),
            uploads,
            listening=host,
            hosts=allowed_hosts,
            max_bytes=max_megabytes * 1024 * 1024,
        )
        ended = threading.Event()
        sweeper = threading.Thread(target=_sweep, args=(visitors, blocks, ended), daemon=True)
        sweeper.start()
        try:
            with _running(app, listener):
                shown = f"[{host}]" if ":" in host else "localhost" if host == "0.0.0.0" else host
                yield f"http://{shown}:{listener.getsockname()[1]}/"
        finally:
            ended.set()


def _examples(folder: Path) -> dict[str, Path]:
    clips = {}
    for name in EXAMPLES:
        clips[name] = folder / f"{name.replace(' ', '-')}.mp4"
        avshapes.write_mp4(
            name, avshapes.clip_seed(name, 100), clips[name]
        )  # a clip that the benchmark lacks
    return clips


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens on a port, a free one for 0.

    Raises:
        SacmaError: the port is taken, or this machine may not listen on host and port.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            raise SacmaError(
                f"cannot listen on port {port} of {host}: {error}; choose another --port"
            ) from error
        yield listener


@contextmanager
def _running(app: Any, listener: socket.socket) -> Iterator[None]:
    """Serve an application in a thread as long as the context lasts, and a second for what is under way.

    Raises:
        SacmaError: the server did not start.
    """
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            lifespan="on",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=ENDING_SECONDS,
            server_header=False,
        )
    )
    thread = threading.Thread(target=partial(server.run, sockets=[listener]), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise SacmaError("the page did not start; what is above says why")
        time.sleep(0.01)
    try:
        yield
    finally:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it tells of each visitor it cuts off
        server.should_exit = True
        thread.join(ENDING_SECONDS + 1)


def _application(blocks: Any) -> Any:
    """The page as an ASGI application."""
    import gradio as gr
    from fastapi import FastAPI

    theme = gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800")
    blocks.state_session_capacity = SESSIONS
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        show_error=False,
        footer_links=[],
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        theme=theme,
        css=(Path(__file__).parent / "templates" / "app.css").read_text(encoding="utf-8"),
    )


def _sweep(visitors: Visitors, blocks: Any, ended: threading.Event) -> None:
    """Remove what nobody needs any more, from time to time."""
    while not ended.wait(SWEPT_SECONDS):
        visitors.sweep(KEPT_SECONDS)
        forget_unread(blocks)


def forget_unread(blocks: Any, *, sessions: int = SESSIONS) -> None:
    """Forget what Gradio keeps of sessions that never fetch their answers; it has no limit of its own.

    Args:
        blocks: the page.
        sessions: whose answers may wait.
    """
    queue = blocks._queue
    waiting = queue.pending_messages_per_session
    at_work = {event.session_hash for event in list(queue.event_ids_to_events.values())}
    for session in [s for s in list(waiting) if s not in at_work][: max(0, len(waiting) - sessions)]:
        waiting.pop(session, None)
    for session in list(queue.pending_event_ids_session):
        if session not in waiting:
            queue.pending_event_ids_session.pop(session, None)
    for block in list(blocks.blocks.values()):
        getattr(block, "temp_files", set()).clear()  # names of uploads that were asked about
