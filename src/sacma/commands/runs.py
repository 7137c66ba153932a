"""Commands on runs: train them, search their options, evaluate, report, import released weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sacma.commands import console, progress
from sacma.errors import SacmaError
from sacma.options import DataConfig

if TYPE_CHECKING:
    from sacma.runs.config import RunConfig  # jsonargparse runs this: light enough


def demo(out: Path = Path("runs/demo"), seed: int = 0, force: bool = False) -> dict[str, Any]:
    """Train SACMA on the embedded benchmark AV-Shapes, evaluate it and show the result.

    Args:
        out: run folder.
        seed: of weights, batches and dropout.
        force: overwrite a run that is there.

    Examples:
        sacma demo
    """
    result = train({"seed": seed}, out=out, force=force)
    try:
        report([out])
    except SacmaError as error:  # the run is finished; a page is not worth failing for
        console.print(f"no report: {error}", soft_wrap=True)
    return result


def train(
    options: Mapping[str, Any],
    out: Path | None = None,
    resume: Path | None = None,
    seeds: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train a method through both stages and evaluate it on test.

    Args:
        options: values of the run's configuration that differ from preset and variant.
        out: run folder; by default a name under runs/ that says what it is.
        resume: continue this run instead; takes no other options.
        seeds: run so many seeds, from --seed on, for mean and standard deviation.
        force: overwrite a run that is there.

    Examples:
        sacma train --preset small --epochs 10
        sacma train --benchmark ucf --features selavi --root data/ucf --seeds 5
        sacma train --config runs/mine/config.yaml --out runs/again
        sacma train --resume runs/mine
    """
    from sacma import distributed
    from sacma.commands.show import Screen, show_result, show_summary
    from sacma.data.overview import Overview
    from sacma.runs.config import method_class
    from sacma.runs.folder import RunFolder
    from sacma.runs.prepare import open_benchmark, prepare
    from sacma.training.evaluation import one_step_note
    from sacma.training.protocol import run
    from sacma.training.seeds import run_seeds, start_run

    screen = Screen(progress)
    if resume is not None:
        if options or out or seeds or force:
            raise SacmaError("--resume takes no other options; the run keeps those that it was started with")
        folder = RunFolder.open(resume)
        config = folder.config()
        benchmark = open_benchmark(config.data, screen)
        distributed.start(config.training)
        result = run(config, benchmark, folder, screen)
        distributed.stop()
        show_result(console, result, folder.path)
        return {**result.to_dict(), "run": str(folder.path)}
    if seeds is not None and seeds < 1:
        raise SacmaError(f"--seeds is {seeds}; it must be at least 1")
    config, benchmark = prepare(options, screen)
    if note := one_step_note({config.method: method_class(config.method)}, benchmark.features):
        screen.say(f"note: {note}")
    for line in Overview.of(benchmark).lines():
        screen.say(line)
    out = out or _default_out(config, seeds)
    distributed.start(config.training)
    if seeds is not None:
        summary = run_seeds(config, benchmark, out, screen, seeds=seeds, force=force)
        distributed.stop()
        show_summary(console, summary, out / "summary.json")
        return {**summary.to_dict(), "run": str(out)}
    result = start_run(config, benchmark, out, screen, force=force)
    distributed.stop()
    show_result(console, result, out)
    return {**result.to_dict(), "run": str(out)}


def _default_out(config: RunConfig, seeds: int | None) -> Path:
    """runs/BENCHMARK-FEATURES-METHOD-VARIANT-SEED."""
    data = config.data
    which = f"seed-{config.seed}" if seeds is None else f"{seeds}-seeds"
    method = config.method.replace(":", "-")  # FILE.py:CLASS; no folder of Windows has a colon
    return Path("runs") / f"{data.benchmark}-{data.features}-{method}-{config.variant}-{which}"


def tune(
    options: Mapping[str, Any],
    trials: int = 50,
    jobs: int = 1,
    space: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Search hyperparameters by stage 1's validation HM, never by test; repeat the command to go on.

    Args:
        options: values of the run's configuration that differ from preset and variant.
        trials: finished trials that the study is to have, those of other processes among them.
        jobs: trials at a time, each in a process of its own.
        space: YAML file of what to search, or YAML such as '{temperature: {low: 0.01, high: 0.2, log: true},
            depth: [2, 4]}'; by default learning rate, dropout, tau and lambda_cos, where the method has them.
        storage: URL of the study database; by default search.db in the folder. Processes that share it
            search together.
        name: of the study in it; by default BENCHMARK-FEATURES-SPLIT-METHOD-VARIANT.
        out: folder for the best options, best.yaml; by default runs/tune-NAME.

    Examples:
        sacma tune --benchmark ucf --features selavi --root data/ucf --trials 30
        sacma tune --space "{temperature: {low: 0.01, high: 0.2, log: true}}"
    """
    from sacma.commands.show import Screen
    from sacma.runs.prepare import benchmark_of, configure
    from sacma.studies import tuning

    screen = Screen(progress)
    benchmark = benchmark_of(options, screen)  # not prepared as a whole: test is never read
    config = configure(options, benchmark)
    data = config.data
    name = name or f"{data.benchmark}-{data.features}-{data.split}-{config.method}-{config.variant}".replace(
        ":", "-"
    )
    out = out or Path("runs") / f"tune-{name}"
    best = tuning.tune(
        options,
        benchmark,
        space=tuning.read_space(space),
        trials=trials,
        storage=storage or f"sqlite:///{out / 'search.db'}",
        name=name,
        jobs=jobs,
        reporter=screen,
    )
    best.save(out / "best.yaml")
    console.print(f"best options: {out / 'best.yaml'}", soft_wrap=True)
    console.print(f"train with them: sacma train --config {out / 'best.yaml'} --out RUN", soft_wrap=True)
    return {"best": str(out / "best.yaml")}


def evaluate(
    run: Path,
    output: str | None = None,
    root: str | None = None,
    retrieval: bool = False,
    labels: Path | None = None,
    modality: Literal["all", "audible", "visible"] = "all",
) -> dict[str, Any]:
    """Repeat a run's test result from its saved weights.

    Args:
        run: folder of a finished run.
        output: embedding that scores, phi_m, phi_a or phi_v for SACMA; the bias is chosen again for it.
        root: where the benchmark is now, if it has moved.
        retrieval: add mean average precision and recall of names to clips and of clips to names.
        labels: CSV of clips with several right classes, in the form of vggsounder.csv; adds their figures.
        modality: which classes of that table count, by its column modality.

    Examples:
        sacma evaluate runs/demo
        sacma evaluate runs/demo --retrieval
        sacma evaluate runs/demo --output phi_a --json
    """
    import dataclasses

    from sacma.commands.show import Screen, multilabel_table, retrieval_table, show_evaluation
    from sacma.runs.folder import RunFolder
    from sacma.runs.prepare import open_benchmark
    from sacma.training.scoring import evaluate_run

    folder = RunFolder.open(run, finished=True)
    data = folder.config().data
    benchmark = open_benchmark(dataclasses.replace(data, root=root or data.root), Screen(progress))
    result, _ = evaluate_run(folder, benchmark, output=output)
    show_evaluation(console, folder.result(), result, output)
    told = result.to_dict()
    if retrieval:
        from sacma.training.retrieval import retrieval_of_run

        found = retrieval_of_run(folder, benchmark, output=output, bias=result.bias)
        console.print(retrieval_table(found))
        told |= {"retrieval": {name: one.to_dict() for name, one in found.items()}}
    if labels is not None:
        from sacma.training.multilabel import multilabel_of_run

        several, note = multilabel_of_run(
            folder, benchmark, labels, output=output, modality=modality, bias=result.bias
        )
        console.print(multilabel_table(several))
        if note:
            console.print(f"note: {note}", soft_wrap=True, highlight=False)
        told |= {"several_classes": several.to_dict()}
    return told


def report(
    run: list[Path], out: Path | None = None, root: str | None = None, clips: Path | None = None
) -> dict[str, Any]:
    """Write one self-contained HTML page about runs: figures, comparison, curves, classes, t-SNE.

    Args:
        run: run folders, or folders of seeds or of methods.
        out: file; by default report.html in the folder, or in the current one for several.
        root: where the benchmark is now, if it has moved.
        clips: folder of the clips, to show pictures of those with wrong answers.

    Examples:
        sacma report runs/demo
        sacma report runs/seed-0 runs/seed-1 --out both.html
    """
    from sacma.results.page import write_report

    path, notes = write_report(run, out, root=root, clips=clips)
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(f"report: {path}", soft_wrap=True)
    return {"report": str(path), "notes": list(notes)}


def import_weights(
    file: Path,
    method: str = "sacma",
    benchmark: str = "ucf",
    features: str = "selavi",
    root: str | None = None,
    stage1: Path | None = None,
    bias: float | None = None,
    heads: int | None = None,
    split: Literal["main", "cls"] = "main",
    audio_step: float | None = None,
    video_step: float | None = None,
    out: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Make a run of weights released with TCAF, SACMA or AVCA's benchmark, and evaluate it on test.

    Args:
        file: checkpoint of stage 2, written by torch.save; nothing in it is run.
        method: sacma, tcaf, avca, avmst, avgzslnet, cjme, ale, devise, sje, apn or
            clipclap.
        benchmark: ucf, vggsound, activitynet or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        root: folder that holds class-split/ and features/.
        stage1: checkpoint of stage 1, whose best bias on validation is taken.
        bias: the bias, where there is no checkpoint of stage 1; one of the two is needed.
        heads: attention heads of a layer, which the weights do not show; by default those of the published
            configuration whose heads are as wide in all (8 of 64, 3 or 6 of 128; for AVCA 3 of 100).
        split: main or cls.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        out: run folder; by default runs/BENCHMARK-FEATURES-METHOD-imported.
        force: overwrite a run that is there.

    Examples:
        sacma import-weights stage2.pt --method tcaf --stage1 stage1.pt --root data/ucf
    """
    from sacma.commands.show import Screen, show_result
    from sacma.runs.prepare import open_benchmark
    from sacma.training import published_weights as released

    released.released_class(method)
    released.check_bias(stage1, bias)
    data = DataConfig(
        benchmark=benchmark,
        features=features,
        root=root,
        split=split,
        text_alignment="published",
        audio_step=audio_step,
        video_step=video_step,
    )
    folder = released.import_weights(
        file,
        method,
        data=data,
        benchmark=open_benchmark(data, Screen(progress)),
        out=out or Path("runs") / f"{benchmark}-{features}-{method}-imported",
        stage1=stage1,
        bias=bias,
        heads=heads,
        force=force,
    )
    show_result(console, folder.result(), folder.path)
    return {**folder.result().to_dict(), "run": str(folder.path)}
