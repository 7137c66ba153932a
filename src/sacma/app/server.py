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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sacma.app.guard import Guard
from sacma.app.layout import AT_ONCE, WAITING, Panel, build
from sacma.app.presets import EVERYDAY
from sacma.app.searching import Searching
from sacma.app.uploads import Uploads, page_folder
from sacma.app.visitors import Answering, Visitors
from sacma.datasets import avshapes
from sacma.errors import SacmaError
from sacma.files import cache_folder
from sacma.frozen.catalogue import BRIDGE, best_here
from sacma.learn import is_learned, load_model, new_model
from sacma.media.decode import Limits
from sacma.predict import Predictor, ZeroShot, load, zero_shot
from sacma.progress import Reporter
from sacma.version import __version__

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
FIRST = 8
"""Names of a run's own that stand in the box of names at first."""
REJECT = 0.05
"""Share of clips for which "none of these fits" may be wrong."""
EXAMPLE_NAMES = (*avshapes.TEST_UNSEEN, EXAMPLES[-1])


def open_models(
    run: Path | None,
    reporter: Reporter,
    *,
    max_seconds: float,
    teach: Path | None = None,
    **options: Any,
) -> list[Answering]:
    """The models that answer on the page, one a tab.

    Args:
        run: folder of a finished run, or of a taught model; ``demo`` for the demo run on AV-Shapes, which is
            trained on its first start and kept; None for the frozen model that ``sacma.zero_shot`` takes.
            Beside a frozen model stands the demo run, once it is there.
        reporter: is told what takes its time.
        teach: folder of the model that visitors correct, made if it is not there; it answers instead of the
            frozen model.
        max_seconds: longest length of a clip.
        options: see ``Predictor``; of a frozen model only ``model`` and ``audio_weights``.

    Raises:
        SacmaError: see ``load`` and ``zero_shot``; or an option of runs without one.
    """
    limits = _limits(max_seconds)
    model = options.pop("model", None)
    demo = run == DEMO and not run.exists()
    if teach is not None and run is not None and not demo:
        raise SacmaError("--teach with --run; give one of them")
    if run is not None and is_learned(run):
        teach, run = run, None
    if run is not None and not demo:
        encoder = options.pop("encoder", None)
        if encoder is not None:
            options["encoder"] = {"encoder": encoder, "model": model}
        reporter.say(f"opening {run} and what makes its features")
        return [_warm(load(run, limits=limits, **options))]
    weights = options.pop("audio_weights", None)
    if given := [name for name, value in options.items() if value is not None]:
        raise SacmaError(f"--{given[0].replace('_', '-')} without --run; it is an option of trained runs")
    name = model or best_here()
    first = ": on its first start it encodes some thousand labels, once, in about half a minute"
    reporter.say(f"opening {name}{first if name == BRIDGE else ''}")
    settings: dict[str, Any] = {"audio_weights": weights, "reject": REJECT, "limits": limits}
    frozen: ZeroShot
    if teach is None:
        frozen = zero_shot(model, **settings)
    elif is_learned(teach):
        frozen = load_model(teach, **settings)
    else:
        frozen = new_model(teach, model=model, **settings)
    for note in frozen.unused:
        reporter.say(note)
    models = [_warm(frozen)]
    if demo or (_demo_path() / "result.json").is_file():
        reporter.say("opening the demo run on AV-Shapes")
        models.append(_warm(load(demo_run(reporter), limits=limits)))
    return models


def _warm(model: Answering) -> Answering:
    """The model with its networks loaded before the first visitor comes; an error stops the start."""
    _ = model.backbone
    return model


def _demo_path() -> Path:
    return cache_folder() / f"demo-run-{__version__}-{avshapes.VERSION}"


def demo_run(reporter: Reporter) -> Path:
    """The folder of the demo run in the cache, trained first if it is not there; about two minutes."""
    from sacma.runs.folder import RunFolder
    from sacma.runs.prepare import prepare
    from sacma.training.protocol import run

    path = _demo_path()
    config, benchmark = prepare({}, reporter)
    known = (path / "config.yaml").is_file() and RunFolder.open(path).config() == config
    folder = RunFolder.open(path) if known else RunFolder.create(path, config, force=True)
    if not folder.finished:
        reporter.say(f"training a demo run on AV-Shapes, once, in {path}")
        run(config, benchmark, folder, reporter)
    return path


def serve(models: Sequence[Answering], reporter: Reporter, **options: Any) -> None:
    """Serve the page until it is interrupted; options are those of ``serving``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that uploads are removed
    with serving(models, **options) as address:
        reporter.say(f"the page is at {address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    # Python would wait for the threads that are still at work on a clip that is no longer there.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _limits(max_seconds: float) -> Limits:
    """Limits on one clip of a visitor, whether it is asked about or searched by."""
    return Limits(seconds=max_seconds, pixels=20_000_000, patience=60.0, memory=2 << 30)


@contextmanager
def serving(
    models: Sequence[Answering],
    *,
    host: str,
    port: int,
    max_megabytes: int,
    max_seconds: float,
    allowed_hosts: Sequence[str] = (),
    library: Path | None = None,
) -> Iterator[str]:
    """Run the page within a context, which gives its address; at the end, uploads are removed.

    Args:
        models: those that answer, one a tab.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        max_megabytes: largest size of a clip.
        max_seconds: longest length of a clip.
        allowed_hosts: names by which others reach the page, besides addresses and this machine's name.
        library: folder of a library that visitors may search and play.

    Raises:
        SacmaError: Gradio is not installed, the model cannot see clips, or the port is taken.
    """
    if max_megabytes < 1 or not max_seconds > 0:
        raise SacmaError("--max-megabytes and --max-seconds must be above 0")
    with page_folder() as folder, _listening(host, port) as listener:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads these when it is imported
        os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(SESSIONS)
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "clips")  # it copies what lies elsewhere
        uploads = Uploads(
            folder / "clips" / "uploads", most_bytes=(WAITING + AT_ONCE) * max_megabytes * 1024 * 1024
        )
        alone = host in ("127.0.0.1", "::1", "localhost") and not allowed_hosts
        panels = _panels(models, uploads, folder / "clips" / "examples", teach=alone)
        visitors = [panel.visitors for panel in panels]
        limits = _limits(max_seconds)
        searching = Searching(library, uploads, limits=limits, opens=alone) if alone or library else None
        blocks = build(panels, searching)
        app = Guard(
            _application(blocks, max_bytes=max_megabytes * 1024 * 1024),
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


def _panels(models: Sequence[Answering], uploads: Uploads, folder: Path, *, teach: bool) -> list[Panel]:
    """A panel for each model.

    Args:
        models: those that answer.
        uploads: of the page.
        folder: for the examples of models that know AV-Shapes.
        teach: visitors may correct models.
    """
    panels = []
    for number, model in enumerate(models):
        shapes = isinstance(model, Predictor) and model.deployment.benchmark == avshapes.NAME
        prefix = f"panel-{number}-" if number else ""
        visitors = Visitors(model, uploads, name=prefix, teach=teach)
        own = [str(name) for name in model.own_names][:FIRST]
        if shapes:
            examples = _examples(folder)
            uploads.shared.update(examples.values())
            panels.append(Panel("Moving shapes", model, visitors, examples, EXAMPLE_NAMES, prefix))
        else:
            panels.append(Panel("Your clips", model, visitors, names=own or EVERYDAY, prefix=prefix))
    return panels


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


def _application(blocks: Any, *, max_bytes: int) -> Any:
    """The page as an ASGI application; its script sends no file of more than ``max_bytes``."""
    import gradio as gr
    from fastapi import FastAPI

    theme = gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )
    blocks.state_session_capacity = SESSIONS
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        show_error=False,
        footer_links=[],
        enable_monitoring=False,
        ssr_mode=False,
        max_file_size=max_bytes,
        pwa=False,
        mcp_server=False,
        run_history=False,
        theme=theme,
        css=_template("app.css"),
        head=f"<script>{_template('app.js')}</script>",
    )


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _sweep(visitors: Sequence[Visitors], blocks: Any, ended: threading.Event) -> None:
    """Remove what nobody needs any more, from time to time."""
    while not ended.wait(SWEPT_SECONDS):
        for some in visitors:
            some.sweep(KEPT_SECONDS)
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
