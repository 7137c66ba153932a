"""Commands on clips: make features of them, name them, and take a run elsewhere to do so."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rich.console import Console

from sacma.commands import console, note, progress
from sacma.errors import SacmaError, one_line, requires

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
    force: bool = False,
) -> dict[str, Any]:
    """Turn clips into features; a bad clip is listed and left out, an interrupted extraction goes on.

    Args:
        clips: files, folders (a class each), patterns, CSV files with columns path, class, start, end,
            group, or a Hugging Face data set, hf:NAME, hf:FOLDER, hf:NAME#SPLIT or hf:NAME#SPLIT[:COUNT].
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
        clip_timeout: seconds of work on a clip before it is given up.
        follow_links: accept symbolic links as clips, and look into folders that are links.
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
    limits = Limits(pixels=max_pixels, seconds=max_seconds, follow_links=follow_links, patience=clip_timeout)
    task = Task(backbone, options, limits, clip_timeout)
    if _is_hub(clips):
        if (start, end) != (None, None) or engine != "local":
            raise SacmaError(f"{clips[0]}: clips of a data set are read whole, by the engine local")
        with _open_hub(clips) as stream, screen.extracting(progress, stream.total or 0) as told:
            made = extract_stream(
                stream, out, task, jobs=jobs, force=force, on_progress=told[0], on_trouble=told[1]
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
    format: Literal["table", "json", "csv"] = "table",
    out: Path | None = None,
    mteb: Path | None = None,
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
        format: how to tell it.
        out: write a .json or .csv file instead.
        mteb: of a data set, a folder for its accuracy as JSON in the form of MTEB's results.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        clip_timeout: seconds of decoding a stream of a clip before it is given up.
        follow_links: accept symbolic links as clips, and look into folders that are links.

    Examples:
        sacma predict clip.mp4 --classes "dog barking, playing guitar, rain"
        sacma predict film.mp4 --classes @names.txt --window 4 --reject 0.05
        sacma predict clips/ --run runs/demo --out answers.csv
        sacma predict hf:mteb/UCF101-51VA#test --model clip-clap --out answers.csv --mteb results
    """
    from sacma.commands import show as screen
    from sacma.commands.library import answered
    from sacma.learn import is_learned
    from sacma.library.store import is_library
    from sacma.media.decode import Limits
    from sacma.predict import Prediction, Predictor, ZeroShot, load, zero_shot
    from sacma.predict.answers import to_csv, to_json
    from sacma.predict.mteb import Tally, write_result
    from sacma.text.names import spelt_out

    done: list[Prediction]
    if out is not None:
        format = _format_of(out)
    if any(map(is_library, clips)):
        of_clips = {"start": start, "end": end, "backbone": backbone, "audio_weights": audio_weights}
        of_clips |= {"video_weights": video_weights, "encoder": encoder, "prompts": prompts, "bias": bias}
        asked = {"classes": classes, "window": window, "hop": hop, "reject": reject, "top": top}
        done = answered(clips, asked, model=model, run=run, of_clips=of_clips)
        if format == "table":
            for made in done:
                screen.show_prediction(console, made)
        else:
            _tell(to_json(done, {}) if format == "json" else to_csv(done), out)
        return {"predictions": [one.to_dict() for one in done]}
    limits = Limits(pixels=max_pixels, seconds=max_seconds, follow_links=follow_links, patience=clip_timeout)
    if mteb is not None and not _is_hub(clips):
        raise SacmaError("--mteb without a data set; name one, such as hf:mteb/UCF101-51VA#test")
    listed = [] if _is_hub(clips) else list_clips(clips, start, end, follow_links, sys.stderr)
    predictor: Predictor | ZeroShot
    learned = next((place for place in (run, model) if is_learned(place)), None)
    if learned is not None:
        predictor = _learned(
            learned,
            {"--run and --model": run and model, "--backbone": backbone, "--video-weights": video_weights}
            | {"--encoder": encoder, "--bias": bias, "--prompts": prompts},
            audio_weights=audio_weights,
            reject=reject,
            limits=limits,
            device=device,
        )
    elif run is None:
        of_runs = {
            "--backbone": backbone,
            "--video-weights": video_weights,
            "--encoder": encoder,
            "--bias": bias,
        }
        if given := [option for option, value in of_runs.items() if value is not None]:
            raise SacmaError(f"{given[0]} without --run; it is an option of trained runs")
        predictor = zero_shot(
            model,
            audio_weights=audio_weights,
            prompts=prompts,
            reject=reject,
            precision=precision or "full",
            limits=limits,
            device=device,
        )
        if model is None:
            name = predictor.model.name
            note(f"{name} answers, without training; others: sacma models")
    else:
        if reject is not None:
            raise SacmaError("--reject with --run; it is an option of frozen models")
        if prompts is not None:
            raise SacmaError("--prompts with --run; they are an option of frozen models")
        if precision is not None:
            raise SacmaError("--precision with --run; it is an option of frozen models")
        if model is not None and encoder is None:
            raise SacmaError(
                f"--model {model} without --encoder; say which encoder it is of, such as fasttext"
            )
        predictor = load(
            run,
            backbone=backbone,
            audio_weights=audio_weights,
            video_weights=video_weights,
            encoder=None if encoder is None else {"encoder": encoder, "model": model},
            bias=bias,
            limits=limits,
            device=device,
        )
    done = []
    failed: dict[str, str] = {}
    tally, began = Tally(), time.monotonic()
    with ExitStack() as stack:
        hub = stack.enter_context(_open_hub(clips)) if _is_hub(clips) else None
        own = None if hub is None else [spelt_out(name) for name in hub.classes]
        candidates: Any
        if isinstance(predictor, ZeroShot):
            reading = screen.counting(Console(stderr=True, quiet=progress.quiet), "reading names")
            with reading as on_names:
                candidates = predictor.candidates(classes or own, on_progress=on_names)
        else:
            candidates = predictor.candidates(classes or own)
        coming = ((str(clip.path), clip) for clip in listed) if hub is None else hub.files()
        total = len(listed) if hub is None else hub.total or 0
        on_progress = stack.enter_context(
            screen.counting(Console(stderr=True, quiet=progress.quiet), "predicting")
        )
        for number, (name, clip) in enumerate(coming, start=1):
            part = {"start": clip.start, "end": clip.end}
            answers: list[str] = []
            try:
                made = predictor.predict(clip.source, candidates, **part, window=window, hop=hop, top=top)
                answers = [one.name for one in made.answers]
            except SacmaError as error:
                if len(listed) == 1:
                    raise
                failed[name] = str(error).replace(str(clip.path), name)
                print(f"left out: {one_line(error).replace(str(clip.path), name)}", file=sys.stderr)
                continue
            finally:
                on_progress(number, max(number, total))
                if hub is not None:
                    tally.add(name.partition("/")[0], clip.class_name, answers)
                    hub.release(clip)
            done.append(replace(made, clip=name))
            if format == "table":
                screen.show_prediction(console, done[-1])
        if hub is not None:
            note(f"{100 * tally.accuracy:.1f} % of {sum(tally.clips.values())} clips named rightly")
        if hub is not None and mteb is not None:
            heard = not isinstance(predictor, ZeroShot) or "audio" in predictor.model.modalities
            written = write_result(
                mteb,
                tally,
                dataset=hub.name,
                revision=hub.revision,
                model=predictor.model.name if isinstance(predictor, ZeroShot) else str(run),
                hears=heard,
                seconds=time.monotonic() - began,
            )
            note(f"result: {written}")
    if format == "json":
        _tell(to_json(done, failed), out)
    if format == "csv":
        _tell(to_csv(done), out)
    if failed:
        raise SacmaError(
            f"{len(failed)} of {len(done) + len(failed)} clips were left out; the lines above say why"
        )
    return {"predictions": [one.to_dict() for one in done]}


def _learned(folder: Path | str, unused: dict[str, Any], **options: Any) -> Any:
    """A model that ``sacma learn`` made."""
    from sacma.learn import load_model

    if given := [name for name, value in unused.items() if value is not None]:
        raise SacmaError(f"{given[0]} with {folder}, a model that sacma learn made; leave it out")
    return load_model(folder, **options)


def _is_hub(sources: list[str]) -> bool:
    """Whether the clips are those of a Hugging Face data set, which stands alone."""
    hub = [source for source in sources if source.startswith("hf:")]
    if hub and len(sources) > 1:
        raise SacmaError(f"{hub[0]} beside other clips; name the data set alone")
    return bool(hub)


def _open_hub(sources: list[str]) -> HubClips:
    """The clips of a Hugging Face data set."""
    from sacma.datasets.hub_clips import HubClips

    return HubClips(sources[0])


def list_clips(
    sources: list[str], start: float | None, end: float | None, follow_links: bool, told: TextIO
) -> list[ClipFile]:
    """The clips; what is left out of folders is named on ``told``."""
    from sacma.media.listing import Skipped, find_clips, skipped_lines

    skipped: list[Skipped] = []
    found = find_clips(
        sources,
        start=start,
        end=end,
        follow_links=follow_links,
        left_out=skipped,
    )
    for line in skipped_lines(skipped):
        print(f"left out: {' '.join(line.split())}", file=told)
    return found


def _tell(text: str, out: Path | None) -> None:
    from sacma.files import write_text

    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
        console.print(f"predictions: {out}", soft_wrap=True)


def _format_of(out: Path) -> Literal["json", "csv"]:
    if out.suffix == ".json":
        return "json"
    if out.suffix == ".csv":
        return "csv"
    raise SacmaError(f"--out {out}: name it something.json or something.csv")


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
    backbone: str | None = None,
    audio_weights: str | None = None,
    video_weights: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: int = 200,
    max_seconds: float = 120.0,
    allowed_hosts: list[str] | None = None,
) -> None:
    """Open a web page on this machine: drop a clip, type class names, read the answer.

    Args:
        run: folder of a finished run, or demo for one on AV-Shapes, trained on its first start; without
            it a frozen model answers.
        backbone: what made the run's features, where they do not say.
        audio_weights: file, folder or hub name, for backbones that bring no weights.
        video_weights: the same for pictures.
        encoder: text encoder that made the class vectors, where they do not say, for names that they lack.
        model: without a run, the frozen model that answers, see sacma models; with --encoder, its file,
            folder or hub name.
        host: address to listen on; 127.0.0.1 is this machine alone.
        port: to listen on; 0 takes a free one.
        max_megabytes: of a clip.
        max_seconds: of a clip.
        allowed_hosts: names by which others reach the page, such as clips.example.org; addresses, localhost
            and this machine's name are allowed.

    Examples:
        sacma app
        sacma app --run runs/mine --port 8000
        sacma app --host 0.0.0.0 --allowed-hosts [clips.example.org]
    """
    with requires("app", "the page needs Gradio"):  # before the model is opened, which may take a while
        import gradio  # noqa: F401
    import sacma.app.server as page
    from sacma.commands.show import Screen

    screen = Screen(progress)
    predictor = page.open_model(
        run,
        screen,
        backbone=backbone,
        audio_weights=audio_weights,
        video_weights=video_weights,
        encoder=encoder,
        model=model,
        max_seconds=max_seconds,
    )
    page.serve(
        predictor,
        screen,
        host=host,
        port=port,
        max_megabytes=max_megabytes,
        max_seconds=max_seconds,
        allowed_hosts=allowed_hosts or (),
    )
