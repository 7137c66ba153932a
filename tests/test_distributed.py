"""Several processes that train together: losses, gradients and statistics of one, and runs that resume."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from test_contract import VARIANTS, Made
from torch import Tensor, nn

import commands
import folders
from sacma import distributed
from sacma.data import batches
from sacma.data.batches import trimming_of
from sacma.data.benchmark import Benchmark
from sacma.models.avca import AVCA
from sacma.models.layers import EmbeddingNet
from sacma.models.steps import encode_steps
from sacma.runs.folder import RunFolder
from sacma.training.deployment import Deployment
from sacma.training.evaluation import distances_by_output
from sacma.training.loop import build
from sacma.types import Batch, ClassSet, Sequences

WORLD = 2
CLIPS = 12

# --- One process and two ----------------------------------------------------------------------------


def in_two(work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Results of ``work(*arguments)`` in two processes that are connected by gloo."""
    context = multiprocessing.get_context("forkserver")
    meeting = folder / f"{work.__name__}-meeting"
    files = [folder / f"{work.__name__}-{rank}.pt" for rank in range(WORLD)]
    started = [
        context.Process(target=_connected, args=(rank, meeting, file, work, arguments))
        for rank, file in enumerate(files)
    ]
    for process in started:
        process.start()
    assert [commands.wait(process, seconds=120) for process in started] == [0] * WORLD
    return [torch.load(file, weights_only=False) for file in files]


def _connected(
    rank: int, meeting: Path, file: Path, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    torch.save(work(*arguments), file)
    torch.distributed.destroy_process_group()


@contextmanager
def draws_of_the_whole_batch(seed: int) -> Iterator[None]:
    """Noise as one process would draw it for all clips, of which this process takes its rows."""
    generator = torch.Generator().manual_seed(seed)
    originals = {name: getattr(torch, name) for name in ("rand", "randn")}

    def drawing(name: str) -> Callable[..., Tensor]:
        def draw(rows: int, *sizes: int, device: Any = None) -> Tensor:
            whole = originals[name](rows * distributed.processes(), *sizes, generator=generator)
            return whole[distributed.share(len(whole))]

        return draw

    for name in originals:
        setattr(torch, name, drawing(name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


def steps(root: Path) -> dict[str, dict[str, Any]]:
    """Losses, gradients and statistics of two steps of every method, without dropout, in double precision."""
    toy = Benchmark.open(root, folders.NAME, folders.FEATURES)
    torch.set_default_dtype(torch.float64)
    try:
        return {f"{name}-{variant}": _steps(name, variant, toy) for name, variant in VARIANTS}
    finally:
        torch.set_default_dtype(torch.float32)


def _steps(name: str, variant: str, toy: Benchmark) -> dict[str, Any]:
    made = Made(name, variant, toy)
    method = made.method.double().train()
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimisers = method.optimisers(made.config.training)
    for group in (one for optimiser in optimisers for one in optimiser.param_groups):
        group["eps"] = 1e-3  # else Adam makes whole steps of gradients that are nothing but rounding
    distributed.join(method, optimisers, seed=0)
    classes = made.train.classes
    classes = ClassSet(classes.names, classes.vectors.double(), classes.seen)
    rows = torch.randperm(len(made.train), generator=torch.Generator().manual_seed(3))[:CLIPS]
    others = batches.other_class(made.train.labels, rows, torch.Generator().manual_seed(1))
    trimming = replace(trimming_of(made.config.training, training=True), mode="fixed", max_video=4)
    batch = batches.gather(
        made.train,
        rows,
        trimming=trimming,
        generator=torch.Generator().manual_seed(2),
        negatives=others if method.needs_negatives else None,
        part=distributed.share(CLIPS),
    )
    terms: dict[str, Tensor] = {}
    with draws_of_the_whole_batch(seed=4):
        for number in range(2):
            found = distributed.mean_of_all(method.step(doubled(batch), classes, optimisers))
            terms |= {f"{number} {key}": value for key, value in found.items()}
    return {
        "terms": terms,
        "gradients": {key: one.grad for key, one in method.named_parameters() if one.grad is not None},
        "statistics": {key: value.clone() for key, value in method.named_buffers()},
    }


def doubled(batch: Batch) -> Batch:
    audio, video = (
        replace(one, values=one.values.double(), seconds=one.seconds.double())
        for one in (batch.audio, batch.video)
    )
    negatives = None if batch.negatives is None else doubled(batch.negatives)
    return replace(batch, audio=audio, video=video, text=batch.text.double(), negatives=negatives)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"), joint=True)


@pytest.fixture(scope="module")
def alone_and_two(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any]]:
    return steps(root), in_two(steps, tmp_path_factory.mktemp("two"), root)


@pytest.mark.parametrize("which", ["-".join(one) for one in VARIANTS])
def test_two_processes_are_one_with_the_whole_batch(which: str, alone_and_two: tuple[Any, list[Any]]) -> None:
    alone, two = alone_and_two
    expected = alone[which]
    assert expected["terms"]
    for found in (one[which] for one in two):
        for part, values in expected.items():
            assert found[part].keys() == values.keys()
            for key, value in values.items():
                # One cross-entropy is in single precision by design.
                torch.testing.assert_close(
                    found[part][key].double(),
                    value.double(),
                    rtol=1e-6,
                    atol=1e-6,
                    msg=lambda text, k=key: f"{k}: {text}",
                )


# Steps of four clips, of which each process has two.
UNEVEN = {"one has none": (2, 3, 0, 0), "one step in all": (0, 1, 0, 0), "none at all": (0, 0, 0, 0)}


def encoded(lengths: tuple[int, ...]) -> dict[str, Tensor]:
    """Encoded steps of four clips, with the gradients and statistics of the encoder."""
    torch.manual_seed(0)
    net = EmbeddingNet(6, 5, hidden=4, dropout=0.0).double().train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    distributed.join(net, [optimiser], seed=0)
    padded = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    part = distributed.share(4)
    own = Sequences.from_padded(padded[part], torch.tensor(lengths)[part])
    rows = encode_steps(net, replace(own, longest=max(lengths)))
    clips = own.with_values(rows).mean()
    found = {"clips": distributed.gathered(clips).detach().clone()}
    if clips.requires_grad:
        clips.square().sum(dim=1).mean().backward()
        optimiser.step()
        found |= {f"gradient of {name}": one.grad for name, one in net.named_parameters()}
    return found | dict(net.named_buffers())


@pytest.mark.parametrize("lengths", UNEVEN.values(), ids=UNEVEN)
def test_processes_may_have_other_numbers_of_steps(lengths: tuple[int, ...], tmp_path: Path) -> None:
    expected = encoded(lengths)
    for found in in_two(encoded, tmp_path, lengths):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, msg=lambda text, k=key: f"{k}: {text}")


def distances(root: Path) -> dict[str, Tensor]:
    """Those of an untrained AVCA to the classes of validation, whose batches two processes cannot halve."""
    made = Made("avca", "corrected", Benchmark.open(root, folders.NAME, folders.FEATURES))
    method = build(AVCA, made.train, made.config)
    return distances_by_output(method, made.val, batch_size=len(made.val) // 2 - 1)


def test_all_processes_have_the_distances_of_all_clips(root: Path, tmp_path: Path) -> None:
    expected = distances(root)
    for found in in_two(distances, tmp_path, root):
        assert found.keys() == expected.keys()
        for output, values in expected.items():
            assert torch.equal(found[output], values)


# --- Runs -------------------------------------------------------------------------------------------

# The random numbers of dropout are each process's own; without it a run is that of one process.
NO_DROPOUT = [f"--{part}-dropout=0" for part in ("encoder", "decoder", "text", "transformer", "position")]


def launch(*arguments: object, log: Path) -> list[BaseProcess]:
    """Start a command in two processes, as torchrun does; what they say on stderr goes to LOG-0 and LOG-1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        commands.start(*arguments, fault=(be_process, rank, port), log=log.with_name(f"{log.name}-{rank}"))
        for rank in range(WORLD)
    ]


def be_process(rank: int, port: int) -> None:
    """The environment that torchrun gives a process."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(WORLD),
        "LOCAL_WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def arguments(root: Path, out: Path, *more: object) -> list[object]:
    return ["train", *commands.on(root), f"--out={out}", *commands.SMALL, "--checkpoint-seconds=0", *more]


def trained_by_two(root: Path, out: Path, *more: object) -> Path:
    log = out.with_name(f"{out.name}-log")
    statuses = [commands.wait(one) for one in launch(*arguments(root, out, *more), log=log)]
    assert statuses == [0] * WORLD, [log.with_name(f"{log.name}-{rank}").read_text() for rank in range(WORLD)]
    return out


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_by_two(root, tmp_path_factory.mktemp("runs") / "run")


def test_a_run_of_two_processes_is_that_of_one(root: Path, tmp_path: Path) -> None:
    two = trained_by_two(root, tmp_path / "two", *NO_DROPOUT, "--epochs=1")
    one = commands.trained(root, tmp_path / "one", *NO_DROPOUT, "--epochs=1")
    assert commands.contents(two)["files"] == commands.contents(one)["files"]
    for found, expected in zip(RunFolder(two).metrics(), RunFolder(one).metrics(), strict=True):
        assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    here, there = (Deployment.read(run).scales for run in (one, two))
    assert here.keys() == there.keys()
    # Weights differ by rounding, and so few clips say little about the temperature.
    for output, scale in here.items():
        assert there[output].temperature == pytest.approx(scale.temperature, rel=0.3)


def test_a_killed_process_ends_the_run_and_resuming_makes_up_for_it(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    for attempt in range(10):
        run = tmp_path / f"run-{attempt}"
        main, other = launch(*arguments(root, run), log=log)
        commands.wait_until(lambda: len(RunFolder(run).metrics()) >= 2, main)  # noqa: B023
        other.kill()
        assert commands.wait(other) == -9
        if commands.wait(main) == 2:
            break  # else it was over before it could be killed
    else:
        pytest.fail("ten runs ended too soon to be killed")
    (line,) = log.with_name("log-0").read_text().splitlines()
    assert "sacma: process 0 of 2 has lost another one" in line
    assert "train --resume RUN" in line
    assert not (run / "result.json").exists()
    statuses = [commands.wait(one) for one in launch("train", "--resume", run, log=log)]
    assert statuses == [0] * WORLD, log.with_name("log-0").read_text()
    found, expected = commands.contents(run), commands.contents(undisturbed)
    for name, content in expected.items():
        assert found[name] == content, name


def test_what_the_main_process_refuses_is_said_once(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for options, message in (
        (["--batch-size=9", f"--out={tmp_path / 'odd'}"], "batch-size is 9, which 2 processes cannot share"),
        ([], "holds a finished run"),
    ):
        processes = launch(*arguments(root, undisturbed, *options), log=log)
        assert [commands.wait(one) for one in processes] == [2] * WORLD
        assert message in log.with_name("log-0").read_text()
        assert not log.with_name("log-1").exists() or not log.with_name("log-1").read_text()
    assert not (tmp_path / "odd").exists()


def test_another_number_of_processes_does_not_continue(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fault = (commands.die_at_write, 5, True)
    assert commands.wait(commands.start(*arguments(root, run), fault=fault)) == -9
    processes = launch("train", "--resume", run, log=tmp_path / "log")
    assert [commands.wait(one) for one in processes] == [2] * WORLD
    assert (
        "the number of processes was 1 and is now 2, start as many again" in (tmp_path / "log-0").read_text()
    )
