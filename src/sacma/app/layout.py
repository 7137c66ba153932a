"""The parts of the page and what happens when they are used. Gradio draws them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sacma.app import view as page
from sacma.app.guard import MOST_CLIPS
from sacma.app.presets import EVERYDAY, PRESETS
from sacma.app.searching import LONGEST_PATH, LONGEST_QUERY, MODALITIES, Searching
from sacma.app.visitors import LONGEST_TEXT, Answering, Visitors
from sacma.errors import SacmaError, requires
from sacma.media.containers import SUFFIXES

AT_ONCE = 2
"""Visitors that are answered at the same time."""
WAITING = 20
"""Visitors that can wait for an answer."""


@dataclass(frozen=True)
class Panel:
    """A tab on which a model answers.

    Attributes:
        title: of the tab.
        predictor: the model.
        visitors: their clips.
        examples: class name -> clip, for a click.
        names: what stands in the box of names.
        prefix: of the names of its elements; empty for the first tab.
    """

    title: str
    predictor: Answering
    visitors: Visitors
    examples: Mapping[str, Path] = field(default_factory=dict)
    names: Sequence[str] = EVERYDAY
    prefix: str = ""


def build(panels: Sequence[Panel], searching: Searching | None = None) -> Any:
    """Build the page; where there are several panels, each has a tab.

    Args:
        panels: the models that answer.
        searching: a library that can be searched; it has a tab of its own.

    Returns:
        Gradio's blocks, with a queue.
    """
    with requires("app", "the page needs Gradio"):
        import gradio as gr

    with gr.Blocks(title="sacma: what is in this clip?", analytics_enabled=False) as blocks:
        gr.HTML(page.render_head(), padding=False)
        if len(panels) == 1 and searching is None:
            _panel(blocks, panels[0])
        else:
            with gr.Tabs():
                for panel in panels:
                    with gr.Tab(panel.title):
                        _panel(blocks, panel, searching)
                if searching is not None:
                    with gr.Tab("Search"):
                        _search(blocks, searching)
    return blocks.queue(max_size=WAITING, api_open=False)


def _panel(blocks: Any, panel: Panel, searching: Searching | None = None) -> None:
    import gradio as gr

    with gr.Row(equal_height=False, elem_classes="sx-columns"):
        with gr.Column(scale=5, min_width=300):
            given = _clips(panel)
            known = [] if searching is None else [_of_library(panel)]
            names = _names(panel)
            with gr.Row(elem_classes="sx-part"):
                start, end = (
                    gr.Textbox(
                        label=label,
                        placeholder=hint,
                        max_length=20,
                        min_width=120,
                        elem_id=f"{panel.prefix}{label.lower()}",
                    )
                    for label, hint in (("Start", "0:00"), ("End", "the end"))
                )
            ask = gr.Button("Which is it?", variant="primary", elem_id=f"{panel.prefix}ask")
            shown = _examples(panel, given[0], names)
            gr.HTML(page.render_model(panel.predictor), padding=False)
        with gr.Column(scale=7, min_width=320):
            taught = gr.HTML("", elem_id=f"{panel.prefix}taught", padding=False)
            result = gr.HTML(page.render_empty(), elem_id=f"{panel.prefix}result", padding=False)
    _connect(blocks, panel, given, (names, start, end), result)
    asked = _asking(panel, searching, [*given, *known], (names, start, end), result)
    fields = (*known, names, start, end)
    for trigger in (ask.click, *(one.submit for one in fields), *(one.then for one in shown)):
        trigger(**asked)
    if panel.visitors.teaches:
        _teaching(panel, (start, end), taught, asked)


def _search(blocks: Any, searching: Searching) -> None:
    import gradio as gr

    with gr.Row(equal_height=True, elem_classes="sx-columns"):
        text = gr.Textbox(
            label="What are you looking for?",
            info=_searched(searching),
            placeholder="dog barking in the rain",
            max_length=LONGEST_QUERY,
            scale=5,
            min_width=260,
            elem_id="query",
        )
        by = gr.Radio(list(MODALITIES), value=next(iter(MODALITIES)), label="By", scale=4, elem_id="by")
    with gr.Accordion("By an example clip or sound", open=False, elem_id="by-example"):
        like = gr.File(
            label="It looks and sounds like this; a text, if there is one, counts as well",
            file_types=["video", "audio", *sorted(SUFFIXES)],
            height=110,
            elem_id="like",
        )
        like.preprocess = _path
    if searching.opens:
        _library_field(searching, text)
    find = gr.Button("Search", variant="primary", elem_id="find")
    found = gr.HTML("", elem_id="found", padding=False)

    def answer(request: gr.Request, text: str, by: str, like: str | None) -> str:
        return searching.answer(text, by, like, request.session_hash or "")

    def claim(request: gr.Request, like: str | None) -> None:
        searching.claim(like, request.session_hash or "")

    def drop(request: gr.Request) -> None:
        searching.drop(request.session_hash or "")

    for function in (answer, claim, drop):
        function.__annotations__["request"] = gr.Request
    for trigger in (find.click, text.submit):
        trigger(answer, [text, by, like], found, concurrency_limit=AT_ONCE, concurrency_id="search")
    like.upload(claim, like, None, show_progress="hidden", queue=False)
    like.clear(drop, None, None, show_progress="hidden", queue=False)
    blocks.unload(drop)


def _library_field(searching: Searching, text: Any) -> None:
    """Where a visitor of this machine names the library to search."""
    import gradio as gr

    with gr.Accordion("Library", open=not len(searching), elem_id="of-library"):
        folder = gr.Textbox(
            label="Folder of a library",
            info="On this machine, as sacma index made it. Enter opens it.",
            placeholder="clips.library",
            value=searching.folder,
            max_length=LONGEST_PATH,
            elem_id="library",
        )
        said = gr.HTML("", elem_id="opened", padding=False)

    def opened(path: str) -> tuple[str, Any]:
        return searching.open(path), gr.update(info=_searched(searching))

    folder.submit(opened, folder, [said, text], concurrency_limit=AT_ONCE, concurrency_id="search")


def _searched(searching: Searching) -> str:
    return f"In {len(searching):,} clips. Enter searches." if len(searching) else "Open a library below."


def _path(payload: Any) -> str | None:
    """Path of a dropped file."""
    return None if payload is None else str(payload.path)


def _clips(panel: Panel) -> list[Any]:
    """Where clips are dropped or recorded."""
    import gradio as gr

    dropped = gr.File(
        label="Clips",
        file_count="multiple",
        file_types=["video", "audio", *sorted(SUFFIXES)],
        height=150,
        elem_id=f"{panel.prefix}clip",
    )
    dropped.preprocess = _paths  # Gradio's own leaves an empty temporary file for each question
    if panel.prefix:
        return [dropped]
    with gr.Accordion("Record instead", open=False, elem_id="record"):
        film = gr.Video(
            label="Camera",
            sources=["webcam"],
            include_audio=True,
            webcam_options=gr.WebcamOptions(mirror=False),
            buttons=[],
            elem_id="camera",
        )
        sound = gr.Audio(
            label="Microphone", sources=["microphone"], type="filepath", buttons=[], elem_id="microphone"
        )
    return [dropped, film, sound]


def _of_library(panel: Panel) -> Any:
    """Where a clip of the library is named."""
    import gradio as gr

    return gr.Textbox(
        label="Or a clip of the library",
        info="Its file name or path, as the tab Search tells it. Enter asks.",
        placeholder="garden.mp4",
        max_length=LONGEST_PATH,
        elem_id=f"{panel.prefix}known",
    )


def _paths(payload: Any) -> list[str] | None:
    """Paths of dropped files."""
    return None if payload is None else [file.path for file in payload]


def _names(panel: Panel) -> Any:
    import gradio as gr

    names = gr.Textbox(
        label="What may it be?",
        info="One name a line, or with commas between. Shift + Enter asks.",
        value="\n".join(panel.names),
        lines=6,
        max_lines=12,
        max_length=LONGEST_TEXT,
        elem_id=f"{panel.prefix}names",
    )
    own = tuple(str(name) for name in panel.predictor.own_names)
    presets = {"Own classes": own} if own else {}
    if not panel.examples:
        presets |= PRESETS
    if presets:
        with gr.Row(elem_classes="sx-presets"):
            for title, some in presets.items():
                button = gr.Button(title, size="sm", min_width=90)
                text = json.dumps("\n".join(some)[:LONGEST_TEXT])
                button.click(None, None, names, js=f"() => {text}")
    return names


def _examples(panel: Panel, clip: Any, names: Any) -> list[Any]:
    """A button for each example; clicked, it is asked about."""
    import gradio as gr

    def show(name: str) -> tuple[list[str], str]:
        return [str(panel.examples[name])], "\n".join(panel.names)

    shown: list[Any] = []
    if panel.examples:
        gr.HTML('<p class="sx-try">Or try one of these, rendered on this machine:</p>', padding=False)
        with gr.Row(elem_classes="sx-examples"):
            for number, name in enumerate(panel.examples):
                button = gr.Button(name, size="sm", min_width=120, elem_id=f"{panel.prefix}example-{number}")
                shown.append(button.click(partial(show, name), None, [clip, names]))
    return shown


def _asking(
    panel: Panel, searching: Searching | None, given: Sequence[Any], fields: Sequence[Any], result: Any
) -> dict[str, Any]:
    """Event of a question: function, inputs and output; with a library its clip is the last of ``given``."""
    import gradio as gr

    count = len(given)

    def answer(request: gr.Request, *values: Any) -> Iterator[str]:
        names, start, end = values[count:]
        dropped, named = list(values[:count]), ""
        if searching is not None:
            named = str(dropped.pop() or "").strip()
        clips = _flat(dropped)[:MOST_CLIPS]
        try:
            if searching is not None and named:
                clips = [*clips[: MOST_CLIPS - 1], searching.clip(named)]
        except SacmaError as error:
            yield page.render_error(str(error))
            return
        session = request.session_hash or ""
        yield from panel.visitors.answers(clips, names, session, start=start, end=end)

    answer.__annotations__["request"] = gr.Request  # Gradio needs the type itself, not its name
    return {
        "fn": answer,
        "inputs": [*given, *fields],
        "outputs": result,
        "concurrency_limit": AT_ONCE,
        "concurrency_id": "answer",
    }


def _teaching(panel: Panel, part: Sequence[Any], taught: Any, asked: dict[str, Any]) -> None:
    """Corrections: the page's script fills a field and clicks a button, neither of which is shown."""
    import gradio as gr

    def teach(request: gr.Request, lesson: str, start: str, end: str) -> str:
        return panel.visitors.teach(lesson, request.session_hash or "", start=start, end=end)

    teach.__annotations__["request"] = gr.Request
    lesson = gr.Textbox(show_label=False, max_length=2000, elem_id="lesson", elem_classes="sx-hidden")
    button = gr.Button("Teach", elem_id="teach", elem_classes="sx-hidden")
    once = {"concurrency_limit": AT_ONCE, "concurrency_id": "answer"}
    button.click(teach, [lesson, *part], taught, **once).then(**asked)


def _connect(blocks: Any, panel: Panel, given: Sequence[Any], fields: Sequence[Any], result: Any) -> None:
    """Connect the events of clips that come and go, and the values that a browser keeps over a reload."""
    import gradio as gr

    def claim(clips: Any, request: gr.Request) -> None:
        panel.visitors.claim(_flat([clips]), request.session_hash or "")

    def drop(request: gr.Request) -> None:
        panel.visitors.drop(request.session_hash or "")

    for function in (claim, drop):
        function.__annotations__["request"] = gr.Request
    # Not in the queue: its stream closes when an event ends, and an event that has just begun would be lost.
    at_once = {"show_progress": "hidden", "queue": False}
    for number, one in enumerate(given):  # so that it goes with its visitor, asked or not
        taken = one.upload if number == 0 else one.stop_recording
        taken(claim, one, None, **at_once)
    given[0].clear(drop, None, None, **at_once)
    given[0].clear(page.render_empty, None, result, **at_once)
    blocks.unload(drop)
    starts = ("\n".join(panel.names), "", "", page.render_empty())
    stores = ("localStorage", "sessionStorage", "sessionStorage", "sessionStorage")
    for one, begin, store in zip((*fields, result), starts, stores, strict=True):
        place = f"{store}, {json.dumps(one.elem_id)}"
        one.change(None, one, None, js=f"value => sacmaPage.keep({place}, value)")
        blocks.load(None, None, one, js=f"() => sacmaPage.recall({place}, {json.dumps(begin)})")
    result.change(None, None, None, js=f"() => sacmaPage.look({json.dumps(result.elem_id)})")


def _flat(values: Sequence[Any]) -> list[str]:
    """Paths of clips, out of paths and lists of paths."""
    return [str(one) for value in values for one in (value if isinstance(value, list) else [value]) if one]
