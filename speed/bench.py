"""Speed and memory of SACMA and of a plain reference (``reference.py``), measured in one run: ``make bench``.

For each shape (``shapes.py``) it prints one line with

- the median time of a training iteration and of an evaluation pass, and the ratio reference / ours (2.0 is
  twice as fast);
- the floating-point operations of the matrix products, the rate of these products alone and the rate of the
  whole iteration, as shares of the machine's own rate (that of a square product of 1,024);
- the share of loading in an iteration, and the memory that training keeps for its backward pass.

The programs take turns on the same 64 clips. A ratio is the median over the turns, so a busy machine slows
all of them alike. Products alone are timed one by one, in processor time; attention kernels compute more than
products and are not among them.

Variant ``published`` gives the numbers of the reference, without its second forward pass, whose output is
unused. If embeddings or losses differ, nothing is timed. Variant ``paper`` is the default, a slightly
different computation. ``bfloat16`` is variant ``published`` in that precision, on processors that have its
instructions. The targets stand in ``targets.py``: each line says whether they are reached, and the last lines
sum up. Before them comes the time of an epoch of each averaged-feature method with its published preset.
Loading is timed apart: ours gathers from a memory map; the reference loads clip by clip, each with a partner
of another class, as published.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurement import Measurement
from programs import Program, check_agreement, reference_program, sacma_program
from rates import (
    CPU,
    bytes_kept,
    clocked,
    count_flops,
    matrix_rate,
    processor_clock,
    timed,
)
from reference import D
from sacma.data.batches import class_balanced, gather, other_class
from sacma.data.benchmark import Split
from sacma.errors import SacmaError
from sacma.files import write_text
from sacma.models import METHODS
from sacma.models.base import Method
from sacma.options import TrainingConfig
from sacma.precision import has_bfloat16
from sacma.runs.config import preset_options
from shapes import SHAPES, Data, Shape, synthesise, tiny
from targets import TARGETS, Target, kind, summary

EPOCH_SAMPLE = 10  # batches that the time of an epoch is estimated from


Round = dict[str, dict[str, float]]  # program -> phase -> seconds


def measure(
    shape: Shape,
    folder: Path,
    *,
    repeats: int,
    seed: int = 0,
    device: torch.device = CPU,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measurement]:
    """Check that the computations agree, count, then time the programs in turns.

    Args:
        shape: what to measure.
        folder: where the synthetic clips are written, a folder that does not exist yet.
        repeats: rounds to take the median of.
        seed: of clips and weights.
        device: where all programs compute.
        clock: seconds that the programs and the machine's rate are timed by.

    Raises:
        SacmaError: reference and variant ``published`` do not compute the same.
    """
    torch.manual_seed(seed)
    data = synthesise(shape, folder, torch.Generator().manual_seed(seed))
    check_agreement(shape, data, device)
    programs: dict[str, Program[Any]] = {
        "reference": reference_program(shape, data, device),
        "published": sacma_program(shape, data, device, variant="published"),
        "paper": sacma_program(shape, data, device, variant="paper"),
        "save_memory": sacma_program(shape, data, device, variant="published", saves_memory=True),
    }
    if has_bfloat16(device):
        programs["bfloat16"] = sacma_program(shape, data, device, variant="published", bfloat16=True)
    counts = {name: _counts(program) for name, program in programs.items()}  # warms up, too
    rounds = [_round(programs, device, clock) for _ in range(repeats)]
    return {name: _summarise(name, counts, rounds) for name in programs}


def _counts(program: Program[Any]) -> dict[str, int]:
    program.model.train()
    kept = bytes_kept(lambda: program.loss(program.training_batch()))
    train = count_flops(lambda: program.step(program.training_batch()))
    program.model.eval()
    evaluate = count_flops(lambda: program.evaluate(program.test_batch()))
    return {"train": train, "evaluate": evaluate, "kept": kept}


def _round(
    programs: dict[str, Program[Any]], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> Round:
    """Seconds of each program for one batch, and the rate of matrix products of the machine at that time."""
    types = [torch.float32, *([torch.bfloat16] if has_bfloat16(device) else [])]
    of_processor = processor_clock(device)
    times: Round = {
        "machine": {_name(one): matrix_rate(one, device, clock=clock) for one in types},
        "processor": {_name(one): matrix_rate(one, device, clock=of_processor) for one in types},
    }
    for name, program in programs.items():
        program.model.train()
        load, batch = timed(program.training_batch, clock)
        train, _ = timed(partial(program.step, batch), clock)
        program.model.eval()
        batch = program.test_batch()
        evaluate, _ = timed(partial(program.evaluate, batch), clock)
        times[name] = {"load": load, "train": train, "evaluate": evaluate}
        evaluation = clocked(partial(program.evaluate, program.test_batch()), device)
        program.model.train()
        training = clocked(partial(program.step, program.training_batch()), device)
        for phase, found in {"evaluate": evaluation, "train": training}.items():
            times[name][f"{phase}_products"] = found.flops / found.seconds
            rate = times["processor"][_rate(name)]
            times[name][f"{phase}_floor"] = found.flops / rate + found.kernels
    return times


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rate(program: str) -> str:
    """Name of the type that a program multiplies in."""
    return "bfloat16" if program == "bfloat16" else "float32"


def _summarise(name: str, counts: dict[str, dict[str, int]], rounds: list[Round]) -> Measurement:
    own = counts[name]
    rate = _rate(name)

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    def seconds(phase: str) -> float:
        return median(lambda times: times[name][phase])

    def ratio(phase: str) -> float:
        return median(lambda times: times["reference"][phase] / times[name][phase])

    def share(phase: str) -> float:
        return median(lambda times: own[phase] / times[name][phase] / times["machine"][rate])

    def products(phase: str) -> float:
        return median(lambda times: times[name][f"{phase}_products"] / times["processor"][rate])

    return Measurement(
        load=seconds("load"),
        train=seconds("train"),
        evaluate=seconds("evaluate"),
        train_ratio=ratio("train"),
        evaluate_ratio=ratio("evaluate"),
        train_flops=own["train"],
        evaluate_flops=own["evaluate"],
        train_share=share("train"),
        evaluate_share=share("evaluate"),
        train_products=products("train"),
        evaluate_products=products("evaluate"),
        train_floor=seconds("train_floor"),
        evaluate_floor=seconds("evaluate_floor"),
        kept_bytes=own["kept"],
        kept_ratio=own["kept"] / counts["reference"]["kept"],
    )


def line(name: str, measured: dict[str, Measurement], *, targets: Sequence[Target]) -> str:
    """The measurements of a shape on one line, with the verdicts on their targets."""

    def reached(program: str, measure: str) -> str:
        for one in targets:
            if (one.shape, one.program, one.measure) == (name, program, measure):
                verdict = "reached" if one.reached(measured[program]) else "missed"
                return f" (target {one.limit:g}: {verdict})"
        return ""

    def memory(program: str) -> str:
        kept = measured[program]
        return f"{kept.kept_bytes / 1e6:.0f} MB, {kept.kept_ratio:.2f} of it{reached(program, 'kept_ratio')}"

    def rates(program: str, phase: str) -> str:
        alone, whole = (getattr(measured[program], f"{phase}_{of}") for of in ("products", "share"))
        verdict = reached(program, f"{phase}_products")
        return f"products alone at {alone:.0%}{verdict}, all at {whole:.0%} of the rate"

    def of_reference(phase: str) -> str:
        alone, whole = (getattr(reference, f"{phase}_{of}") for of in ("products", "share"))
        return f"(reference {alone:.0%}, {whole:.0%})"

    reference, ours, paper, saving = (
        measured[name] for name in ("reference", "published", "paper", "save_memory")
    )
    parts = [
        f"{name}: training {_ms(reference.train)} -> {_ms(ours.train)} ms, ratio {ours.train_ratio:.2f}"
        f"{reached('published', 'train_ratio')} "
        f"(variant paper {_ms(paper.train)} ms, ratio {paper.train_ratio:.2f})",
        f"evaluation {_ms(reference.evaluate)} -> {_ms(ours.evaluate)} ms, ratio {ours.evaluate_ratio:.2f}"
        f"{reached('published', 'evaluate_ratio')} "
        f"(variant paper {_ms(paper.evaluate)} ms, ratio {paper.evaluate_ratio:.2f})",
    ]
    if half := measured.get("bfloat16"):
        parts += [
            f"bfloat16 training {_ms(half.train)} ms, ratio {half.train_ratio:.2f}"
            f"{reached('bfloat16', 'train_ratio')}, {rates('bfloat16', 'train')}",
            f"bfloat16 evaluation {_ms(half.evaluate)} ms, ratio {half.evaluate_ratio:.2f}"
            f"{reached('bfloat16', 'evaluate_ratio')}, {rates('bfloat16', 'evaluate')}",
        ]
    parts += [
        f"{_giga(reference.train_flops)} -> {_giga(ours.train_flops)} GFLOP training, "
        f"{rates('published', 'train')} {of_reference('train')}",
        f"{_giga(reference.evaluate_flops)} -> {_giga(ours.evaluate_flops)} GFLOP evaluation, "
        f"{rates('published', 'evaluate')} {of_reference('evaluate')}",
        f"loading {reference.load_share:.1%} -> {ours.load_share:.1%} of an iteration"
        f"{reached('published', 'load_share')}",
        f"kept for backward {reference.kept_bytes / 1e6:.0f} -> {memory('published')}",
        f"with --save-memory {memory('save_memory')}, training {saving.train / ours.train:.2f} times as long",
    ]
    if half:
        parts.append(f"in bfloat16 {memory('bfloat16')}")
    return "; ".join(parts)


def epoch_seconds(data: Data, *, scale: float = 1.0) -> dict[str, tuple[int, float]]:
    """Batches and seconds of an epoch of each averaged-feature method, gathering included.

    Args:
        data: clips; their averages are taken before.
        scale: part of the published preset's batches and batch size, for smoke tests.
    """
    clips = torch.arange(len(data.features))
    split = Split("train", data.features, clips, data.features.labels, data.classes).averaged()
    found = {}
    for name, method in METHODS.items():
        options = preset_options(name, "published", "ucf", "selavi")
        count = int(options.get("batches_per_epoch", TrainingConfig.batches_per_epoch))
        if method.temporal or count < 2:  # those that only fit have one
            continue
        model = method(
            audio_width=data.features.audio.width,
            video_width=data.features.video.width,
            text_width=D,
            feature_scaling="standardise",
        )
        training = TrainingConfig(learning_rate=1e-3)
        optimisers = model.optimisers(training)
        size = max(2, int(options.get("batch_size", training.batch_size) * scale))
        rows = class_balanced(split.labels, batches=EPOCH_SAMPLE + 1, batch_size=size)

        def train(chosen: Tensor, model: Method = model, optimisers: list[Any] = optimisers) -> None:
            others = other_class(split.labels, chosen) if model.needs_negatives else None
            model.step(gather(split, chosen, negatives=others), split.classes, optimisers)

        model.train()
        train(rows[0])
        seconds = statistics.median(timed(partial(train, chosen))[0] for chosen in rows[1:])
        found[name] = (count, count * seconds)
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.1f}"


def _giga(flops: int) -> str:
    return f"{flops / 1e9:.1f}" if flops >= 1e8 else f"{flops / 1e9:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU here; leave --device out", file=sys.stderr)
        return 2
    if options.processor_time and (device.type != "cpu" or torch.get_num_threads() > 1):
        print("--processor-time is for one thread of a processor; add --threads 1", file=sys.stderr)
        return 2
    clock = processor_clock(device) if options.processor_time else time.perf_counter
    rates = {"float32": matrix_rate(torch.float32, device, repeats=20, clock=clock)}
    if has_bfloat16(device):
        rates["bfloat16"] = matrix_rate(torch.bfloat16, device, repeats=20, clock=clock)
    shown = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    print(f"matrix products, GFLOP/s: {shown}; {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("each line: reference -> this package, variant published; ratio = reference / this package")
    measured: dict[str, dict[str, Measurement]] = {}
    for name in options.shape or SHAPES:
        shape = tiny(SHAPES[name]) if options.quick else SHAPES[name]
        try:
            with tempfile.TemporaryDirectory() as folder:
                measured[name] = measure(
                    shape, Path(folder) / "features", repeats=options.repeats, device=device, clock=clock
                )
        except SacmaError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        print(
            line(name, measured[name], targets=TARGETS[kind(device.type)] if not options.quick else []),
            flush=True,
        )
    wanted = options.epochs or (not options.shape and device.type == "cpu")
    epochs = _epochs(quick=options.quick) if wanted else {}
    if epochs:
        shown = ", ".join(f"{name} {seconds:.2f} s ({count})" for name, (count, seconds) in epochs.items())
        print(f"epochs of averaged-feature methods (batches), from {EPOCH_SAMPLE} batches: {shown}")
    if not options.quick and (verdicts := summary(measured, TARGETS[kind(device.type)])):
        print(verdicts)
    if options.json:
        write_text(options.json, _as_json(rates, measured, epochs, quick=options.quick))
    return 0


def _epochs(*, quick: bool) -> dict[str, tuple[int, float]]:
    shape = tiny(SHAPES["ucf"]) if quick else SHAPES["ucf"]
    with tempfile.TemporaryDirectory() as folder:
        data = synthesise(shape, Path(folder) / "features", torch.Generator().manual_seed(0))
        return epoch_seconds(data, scale=0.1 if quick else 1.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="speed and memory of SACMA beside a plain reference")
    parser.add_argument(
        "--shape", action="append", choices=list(SHAPES), help="may be repeated; default: all"
    )
    parser.add_argument("--epochs", action="store_true", help="averaged-feature methods, beside --shape too")
    parser.add_argument("--repeats", type=_positive, default=5, help="rounds to take the median of (5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")
    parser.add_argument("--tf32", action="store_true", help="let a GPU round the factors of float32 products")
    parser.add_argument("--threads", type=_positive, help="threads of PyTorch; default: its own choice")
    parser.add_argument(
        "--processor-time", action="store_true", help="not by the clock: for a busy machine, with one thread"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run, not how fast")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _as_json(
    rates: dict[str, float],
    measured: dict[str, dict[str, Measurement]],
    epochs: dict[str, tuple[int, float]],
    *,
    quick: bool,
) -> str:
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "float32_products": torch.get_float32_matmul_precision(),
        "matrix_product_flops_per_second": rates,
    }
    shapes = {
        name: {program: asdict(one) | {"load_share": one.load_share} for program, one in of.items()}
        for name, of in measured.items()
    }
    seconds = {name: {"batches": count, "seconds": total} for name, (count, total) in epochs.items()}
    found = {"machine": machine, "quick": quick, "shapes": shapes, "epochs": seconds}
    return json.dumps(found, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
