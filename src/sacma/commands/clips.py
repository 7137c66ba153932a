"""Commands on clips: make features of them, name them, and take a run elsewhere to do so."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from sacma.commands import console, note, progress
from sacma.commands.clip_sources import are_shards, is_hub, list_clips, open_hub, open_shards
from sacma.errors import SacmaError, requires

if TYPE_CHECKING:
    from sacma.datasets.hub_clips import HubClips
    from sacma.media.listing import ClipFile


def extract(
    clips: list[str],
    out: Path,
    backbone: str = "lite",
    audio_weights: str | None = None,
    video_weights: str | None = None,
    start: float | None = None,
    end: float | None = None,
    engine: Literal["local", "ray"] = "local",
    jobs: int | None = None,
    device: str = "cpu",
    max_pixels: int = 50_000_000,
    max_seconds: float = 14_400.0,
    clip_timeout: float = 600.0,
    follow_links: bool = False,
    fast: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Turn clips into features; a bad clip is listed and left out, an interrupted extraction goes on.

    Args:
        clips: files, folders (a class each), patterns, CSV files with columns path, class, start, end,
            group, WebDataset shards such as shard-{0000..0011}.tar, or a Hugging Face data set, hf:NAME,
            hf:FOLDER, hf:NAME#SPLIT or hf:NAME#SPLIT[:COUNT].
        out: folder for the features.
        backbone: descriptors, lite, lite-yamnet, clip-clap, c3d-vggish or selavi.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        start: seconds where the part of each clip begins.
        end: seconds where it ends.
        engine: local, or ray for many machines.
        jobs: processes; by default one a processor.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        clip_timeout: seconds of work on a clip before it is given up, for each ten minutes that it plays.
        follow_links: accept symbolic links as clips, and look into folders that are links.
        fast: decode key frames alone, often one in ten seconds; features of pictures are then rougher.
        force: overwrite features that are there.

    Examples:
        sacma extract clips/ --out features
        sacma extract clips.csv --out features --jobs 4 --backbone descriptors
        sacma extract hf:mteb/UCF101-51VA --out features
    """
    from sacma.commands import show as screen
    from sacma.media.decode import Limits
    from sacma.media.extract_many import extract_set
    from sacma.media.extract_stream import extract_stream
    from sacma.media.workers import Task

    options = {"audio_weights": audio_weights, "video_weights": video_weights, "device": device}
    limits = Limits(
        pixels=max_pixels,
        seconds=max_seconds,
        follow_links=follow_links,
        patience=clip_timeout,
        key_frames=fast,
    )
    task = Task(backbone, options, limits, clip_timeout)
    if is_hub(clips) or are_shards(clips):
        if (start, end) != (None, None) or engine != "local":
            raise SacmaError(f"{clips[0]}: clips of a data set are read whole, by the engine local")
        opened = open_hub(clips) if is_hub(clips) else open_shards(clips)
        with opened as stream, screen.extracting(progress, stream.total or 0) as told:
            made = extract_stream(
                stream,
                out,
                task,
                jobs=jobs,
                force=force,
                on_progress=told[0],
                on_trouble=told[1],
                on_length=told[2],
            )
    else:
        listed = list_clips(clips, start, end, follow_links, sys.stdout)
        with screen.extracting(progress, len(listed)) as told:
            made = extract_set(
                listed,
                out,
                task,
                engine=engine,
                jobs=jobs,
                force=force,
                on_progress=told[0],
                on_trouble=told[1],
                on_length=told[2],
            )
    screen.show_extraction(console, made)
    left_out = [one.clip.shown for one in made.troubles if one.left_out]
    return {"folder": str(made.folder), "clips": made.clips, "left_out": left_out}


def predict(
    clips: list[str],
    run: Path | None = None,
    classes: str | None = None,
    start: float | None = None,
    end: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    top: int = 5,
    backbone: str | None = None,
    audio_weights: str | None = None,
    video_weights: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    prompts: str | None = None,
    reject: float | None = None,
    precision: Literal["full", "bfloat16", "half"] | None = None,
    bias: float | None = None,
    skip_unknown: bool = False,
    near_unknown: bool = False,
    format: Literal["table", "json", "jsonl", "csv", "srt", "html", "label-studio", "fiftyone"] | None = None,
    out: Path | None = None,
    mteb: Path | None = None,
    jobs: int = 1,
    device: str = "cpu",
    max_pixels: int = 50_000_000,
    max_seconds: float = 14_400.0,
    clip_timeout: float = 600.0,
    follow_links: bool = False,
) -> dict[str, Any]:
    """Tell which of some class names clips show and sound like; the names need not have been trained on.

    Args:
        clips: files, folders, patterns, CSV files with columns path, start, end, or a library or a Hugging
            Face data set with classes alone: hf:NAME, hf:FOLDER, hf:NAME#SPLIT or hf:NAME#SPLIT[:COUNT].
        run: folder of a finished run or of a model that sacma learn made; without one a frozen model answers.
        classes: names in CSV, or @FILE with one a line; by default the run's or the data set's own classes.
        start: seconds where the part of each clip begins.
        end: seconds where it ends.
        window: seconds of a window that slides over each clip, for a timeline; clips of more than five
            minutes are cut by themselves.
        hop: seconds from one window to the next; by default half a window.
        top: names to tell.
        backbone: what made the run's features, where they do not say.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        encoder: text encoder that made the class vectors, where they do not say, for names that they lack.
        model: without a run, the frozen model that answers, see sacma models, or the folder of a model that
            sacma learn made; with --encoder, its file (such as fastText's wiki.en.bin), folder or hub name.
        prompts: that a frozen model puts names into: plain, clipclap-actions, clipclap-sounds, texts with {}
            for the name and | between, or @FILE.
        reject: without a run, say where none of the names fits; the share of clips for which this may be
            wrong, such as 0.05.
        precision: without a run, of the networks of a joint encoder: full, bfloat16, or half on a GPU.
        bias: added to the distances of names that the run was trained on; by default the run's, 0 for none.
        skip_unknown: leave names out that the run's text encoder does not know, instead of ending.
        near_unknown: place such names between those of the run that mean nearly the same.
        format: how to tell it; by default a table, or what the name of --out ends in.
        out: write a file instead: .csv and .jsonl clip by clip; .json; .srt subtitles of one clip; .html with
            a strip of each timeline; .label-studio.json or .fiftyone.json. After a kill the same command goes
            on.
        mteb: of a data set, a folder for its accuracy as JSON in the form of MTEB's results.
        jobs: processes that answer at the same time; each opens the model.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        clip_timeout: seconds of decoding a stream before it is given up, for each ten minutes that it plays.
        follow_links: accept symbolic links as clips, and look into folders that are links.

    Examples:
        sacma predict clip.mp4 --classes "dog barking, playing guitar, rain"
        sacma predict film.mp4 --classes @names.txt --window 4 --reject 0.05
        sacma predict clips/ --run runs/demo --out answers.csv --jobs 4
        sacma predict film.mp4 --classes @names.txt --window 3 --out film.srt
        sacma predict hf:mteb/UCF101-51VA#test --model clip-clap --out answers.csv --mteb results
    """
    from sacma.library.store import is_library
    from sacma.predict.outputs import format_of

    kind = format_of(out, format)
    asked: dict[str, Any] = {"window": window, "hop": hop, "top": top}
    if any(map(is_library, clips)):
        of_clips = {"start": start, "end": end, "backbone": backbone, "audio_weights": audio_weights}
        of_clips |= {"video_weights": video_weights, "encoder": encoder, "prompts": prompts, "bias": bias}
        asked |= {"classes": classes, "reject": reject}
        return _from_library(clips, asked, kind=kind, out=out, model=model, run=run, of_clips=of_clips)
    from sacma.commands.predicting import Request  # its models load torch
    from sacma.media.decode import Limits
    from sacma.text.names import listed as listed_names
    from sacma.text.names import spelt_out

    if mteb is not None and not is_hub(clips):
        raise SacmaError("--mteb without a data set; name one, such as hf:mteb/UCF101-51VA#test")
    listed = [] if is_hub(clips) else list_clips(clips, start, end, follow_links, sys.stderr)
    if kind == "srt" and len(listed) != 1:
        raise SacmaError(f"subtitles of {len(listed)} clips; name one clip, each has a file of its own")
    request = Request(
        run=None if run is None else str(run),
        model=model,
        classes=None if classes is None else tuple(listed_names(classes)),
        skip_unknown=skip_unknown,
        asked=asked,
        options={
            "backbone": backbone,
            "audio_weights": audio_weights,
            "video_weights": video_weights,
            "encoder": encoder,
            "prompts": prompts,
            "reject": reject,
            "precision": precision,
            "bias": bias,
            "near_unknown": near_unknown or None,
            "device": device,
        },
        limits=Limits(
            pixels=max_pixels, seconds=max_seconds, follow_links=follow_links, patience=clip_timeout
        ),
    )
    if not is_hub(clips):
        return _predicted(request, listed, kind=kind, out=out, jobs=jobs)
    with open_hub(clips) as hub:
        if classes is None:
            request = replace(request, classes=tuple(spelt_out(name) for name in hub.classes))
        return _predicted(request, [], kind=kind, out=out, jobs=1, hub=hub, mteb=mteb)


def _predicted(
    request: Any,
    listed: list[ClipFile],
    *,
    kind: str,
    out: Path | None,
    jobs: int,
    hub: HubClips | None = None,
    mteb: Path | None = None,
) -> dict[str, Any]:
    """Ask for each clip, of a list or of a data set, and tell or write what becomes of it as it comes."""
    from contextlib import nullcontext

    from sacma.commands import show as screen
    from sacma.commands.predicting import Answers, Asker, OfHub, outcomes
    from sacma.predict.outputs import STREAMED, document, head, rows

    with screen.counting(Console(stderr=True, quiet=progress.quiet), "reading names") as on_names:
        asker = Asker(request, on_names=on_names)
    for name, why in asker.unknown.items():
        note(f"left out: {name}: {why}")
    if request.run is None and request.model is None:
        note(f"{asker.predictor.model.name} answers, without training; others: sacma models")
    told, failed = [], dict[str, str]()
    digest = request.digest(listed) if hub is None else None
    with (
        nullcontext() if out is None else Answers(out, kind, digest) as file,
        screen.counting(Console(stderr=True, quiet=progress.quiet), "predicting") as on_progress,
    ):
        before = [] if file is None else list(file.done)
        if before:
            note(f"{len(before)} clips were done before; going on")
        if out is None and kind in STREAMED:
            sys.stdout.write(head(kind))
        failed |= {one.clip: one.note for one in before if one.prediction is None}
        of_hub = None if hub is None else OfHub(asker, hub)
        coming = outcomes(asker, listed[len(before) :], jobs=jobs) if of_hub is None else of_hub.outcomes()
        total = len(listed) if hub is None else hub.total or 0
        done = len(before)
        for done, one in enumerate(coming, start=len(before) + 1):
            on_progress(done, max(done, total))
            if one.failure is not None:
                failed[one.clip] = one.failure
                if len(listed) != 1:
                    print(f"left out: {' '.join(one.failure.split())}", file=sys.stderr)
            if file is not None:
                file.add(one)
                continue
            told.append(one)
            if kind in STREAMED:
                sys.stdout.write(rows(kind, one))
                sys.stdout.flush()
            elif kind == "table" and one.prediction is not None:
                screen.show_prediction(console, one.prediction)
        if of_hub is not None:
            for line in of_hub.told(mteb):
                note(line)
        if file is not None:
            file.finish()
            if len(failed) < done:
                console.print(f"predictions: {out}", soft_wrap=True)
        elif kind not in (*STREAMED, "table") and len(failed) < done:
            sys.stdout.write(document(kind, told))
    if failed and len(listed) == 1:
        raise SacmaError(next(iter(failed.values())))
    if failed:
        raise SacmaError(f"{len(failed)} of {done} clips were left out; the lines above say why")
    return {"predictions": [one.prediction.to_dict() for one in told if one.prediction is not None]}


def _from_library(
    clips: list[str], asked: dict[str, Any], *, kind: str, out: Path | None, **model: Any
) -> dict[str, Any]:
    """Answers for the clips of a library."""
    from sacma.commands import show as screen
    from sacma.commands.library import answered
    from sacma.files import write_text
    from sacma.predict.outputs import Outcome, document

    done = answered(clips, asked, **model)
    if kind == "table":
        for made in done:
            screen.show_prediction(console, made)
    else:
        text = document(kind, [Outcome(one.clip, one) for one in done])
        if out is None:
            sys.stdout.write(text)
        else:
            write_text(out, text)
            console.print(f"predictions: {out}", soft_wrap=True)
    return {"predictions": [one.to_dict() for one in done]}


def export(
    run: Path,
    onnx: Path | None = None,
    folder: Path | None = None,
    push: str | None = None,
    public: bool = False,
    licence: str | None = None,
    output: str | None = None,
) -> None:
    """Write a run as an ONNX file, as a folder with a model card, or to the Hugging Face hub.

    Args:
        run: folder of a finished run.
        onnx: file to write, checked against PyTorch; see docs/howto/predict.md for what goes in and out.
        folder: folder to write, with weights, what prediction needs, figures and a model card.
        push: repository on the hub that gets this folder, such as user/model; private if it is new.
        public: make a new repository public.
        licence: of the weights, for the card, such as cc-by-4.0.
        output: of the method, for ONNX: phi_m, phi_a or phi_v for SACMA.

    Examples:
        sacma export runs/demo --onnx demo.onnx
        sacma export runs/demo --folder demo-model --licence cc-by-4.0
    """
    from sacma.files import replacing
    from sacma.predict import export as exporting
    from sacma.predict import load

    if onnx is None and folder is None and push is None:
        raise SacmaError("nothing to do; give --onnx FILE, --folder DIR or --push NAME")
    predictor = load(run)
    if onnx is not None:
        difference = exporting.export_run(predictor, onnx, output=output)
        console.print(
            f"{onnx}: differs from PyTorch by {difference:.1e} of the largest distance", soft_wrap=True
        )
    card = {"licence": licence}
    if folder is not None:
        if folder.exists() and any(folder.iterdir()):
            raise SacmaError(f"{folder} exists and is not empty; choose another folder")
        if folder.exists():
            folder.rmdir()
        with replacing(folder) as partial:  # whole or not at all
            predictor.save_pretrained(partial, model_card_kwargs=card)
        console.print(f"model and card: {folder}", soft_wrap=True)
    if push is not None:
        console.print(exporting.push(predictor, push, private=not public, card=card), soft_wrap=True)


def app(
    run: Path | None = None,
    library: Path | None = None,
    teach: Path | None = None,
    backbone: str | None = None,
    audio_weights: str | None = None,
    video_weights: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: int = 200,
    max_seconds: float = 600.0,
    allowed_hosts: list[str] | None = None,
) -> None:
    """Open a web page on this machine: drop clips, say what they may be, read which it is.

    Args:
        run: folder of a finished run or of a taught model; without it a frozen model answers. demo adds a
            tab with a small run on AV-Shapes, which is trained on its first start.
        library: folder of a library that sacma index made, for a tab that searches it; whoever reaches the
            page can play its clips.
        teach: folder of the model that corrections on the page go to, made if it is not there. Only a page
            for this machine alone takes corrections.
        backbone: what made the run's features, where they do not say.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        encoder: text encoder that made the class vectors, where they do not say, for names that they lack.
        model: without a run, the frozen model that answers, see sacma models; with --encoder, its file,
            folder or hub name.
        host: address to listen on; 127.0.0.1 is this machine alone.
        port: to listen on; 0 takes a free one.
        max_megabytes: of a clip, or of clips that are dropped together.
        max_seconds: of a clip, or of the part of it that is asked about.
        allowed_hosts: names by which others reach the page, such as clips.example.org; addresses, localhost
            and this machine's name are allowed.

    Examples:
        sacma app
        sacma app --library clips.library
        sacma app --teach mine
        sacma app --run runs/mine --port 8000
        sacma app --host 0.0.0.0 --allowed-hosts [clips.example.org]
    """
    with requires("app", "the page needs Gradio"):  # before the model is opened, which may take a while
        import gradio  # noqa: F401
    import sacma.app.server as page
    from sacma.commands.show import Screen
    from sacma.library.search import open_library

    if library is not None:
        open_library(library).close()  # an error stops the start
    screen = Screen(progress)
    models = page.open_models(
        run,
        screen,
        backbone=backbone,
        audio_weights=audio_weights,
        video_weights=video_weights,
        encoder=encoder,
        model=model,
        max_seconds=max_seconds,
        teach=teach,
    )
    page.serve(
        models,
        screen,
        host=host,
        port=port,
        max_megabytes=max_megabytes,
        max_seconds=max_seconds,
        allowed_hosts=allowed_hosts or (),
        library=library,
    )
