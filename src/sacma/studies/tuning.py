"""Searches of hyperparameters by Optuna: TPE, pruned and chosen by the HM of stage 1's validation.

A trial is stage 1 alone: it trains on the training classes and is judged on validation. Neither stage 2 nor
test is read, so a result on test with the options found is as honest as one with any others. Trials are kept
in a database; several processes and machines that name the same one search together.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock

from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError, one_line, printable, requires
from sacma.files import parse_yaml, read_yaml
from sacma.progress import SILENT, EpochRow, Reporter, Silent
from sacma.runs.config import RunConfig, resolve
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import benchmark_of, configure
from sacma.studies.jobs import processes_of
from sacma.training.protocol import run_stage_1

if TYPE_CHECKING:
    import optuna

# Options of the method and of its training may be searched; others change what the figures mean.
DEFAULT_SPACE: Mapping[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 3e-3, "log": True},
    "temperature": {"low": 0.01, "high": 0.5, "log": True},
    "weight_cos": {"low": 0.0, "high": 1.0},
    "encoder_dropout": {"low": 0.0, "high": 0.6},
    "decoder_dropout": {"low": 0.0, "high": 0.6},
    "transformer_dropout": {"low": 0.0, "high": 0.6},
}
SQLITE = "sqlite:///"
FAILURES = 3  # in a row that end a search
STARTUP_TRIALS = 5  # that are neither pruned nor guided


def open_study(
    storage: str, name: str, *, options: Mapping[str, Any], sampler: Any, pruner: Any = None
) -> optuna.Study:
    """A study in a database, made where it is not there yet.

    Args:
        storage: URL of the database, such as sqlite:///runs/search.db.
        name: of the study in it.
        options: what all its trials have in common; a study that has others is refused.
        sampler: of Optuna.
        pruner: of Optuna.

    Raises:
        SacmaError: the database cannot be opened, or the study in it was made with other options.
    """
    try:
        with _alone(storage):
            study = _study(storage, name, sampler, pruner)
    except Exception as error:  # as many kinds as there are databases
        detail = one_line(error)[:300]
        raise SacmaError(
            f"cannot open the study database {printable(storage)}: {detail}; "
            "give a URL such as sqlite:///runs/search.db"
        ) from error
    known = study.user_attrs.get("options")
    if known is None:
        study.set_user_attr("options", dict(options))
    elif known != dict(options):
        other = [key for key in options if known.get(key) != options[key]] or [
            *(known.keys() - options.keys())
        ]
        raise SacmaError(
            f"the study {printable(name)} in {storage} was made with another {', '.join(other)}; "
            "choose another "
            "--storage or --out"
        )
    return study


@contextmanager
def _alone(storage: str) -> Iterator[None]:
    """Two processes that make the tables of one SQLite file at the same time are in each other's way."""
    if not storage.startswith(SQLITE):
        yield
        return
    path = Path(storage.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _study(storage: str, name: str, sampler: Any, pruner: Any) -> optuna.Study:
    optuna = imported_optuna()
    # In SQLite a process waits so many seconds for others that write.
    waiting = {"connect_args": {"timeout": 60}} if storage.startswith(SQLITE) else {}
    return optuna.create_study(
        storage=optuna.storages.RDBStorage(storage, engine_kwargs=waiting),
        study_name=name,
        sampler=sampler,
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )


def imported_optuna() -> Any:
    """The package.

    Raises:
        SacmaError: it is not installed.
    """
    with requires("tune", "a search needs optuna"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that fails is told by us, in one line
    return optuna


# --- The space ------------------------------------------------------------------------------------


def read_space(given: str | None) -> dict[str, Any]:
    """The space that a YAML file, or YAML on the command line, describes; empty where nothing is given.

    Raises:
        SacmaError: it is not a mapping of options.
    """
    if given is None:
        return {}
    path = Path(given)
    try:
        is_file = path.exists() and not path.is_dir()
    except OSError:  # YAML can be longer than a name may be
        is_file = False
    if not is_file and path.suffix in (".yaml", ".yml"):
        raise SacmaError(f"no file {path} with a search space")
    space = read_yaml(path) if is_file else parse_yaml(given, "the search space")
    if not isinstance(space, dict) or not space:
        raise SacmaError(
            f"the search space is {printable(given)}; it should be YAML such as "
            "{temperature: {low: 0.01, high: 0.2, log: true}, depth: [2, 4]}"
        )
    return space


def distributions(space: Mapping[str, Any], options: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """The distribution of each option for Optuna; an empty ``space`` means the default one.

    Args:
        space: option -> a list of values, or low, high and, if wanted, log and step.
        options: of the run, without those of the space.
        config: the same, resolved; an option is a whole number where it is one there.

    Raises:
        SacmaError: an option is not one of the method or of its training, or a range makes no sense.
    """
    known = {**config.model, **config.sections()["training"]}
    if not space:
        space = {name: range_ for name, range_ in DEFAULT_SPACE.items() if name in known}
    for name in space:
        if name not in known:
            raise SacmaError(
                f"{printable(name)} cannot be searched; it must be an option of {config.method} or "
                "of its training "
                "(sacma train --help)"
            )
    made = {name: _distribution(name, range_, known[name]) for name, range_ in space.items()}
    for name, ends in {name: _ends(one) for name, one in made.items()}.items():
        for value in ends:
            try:
                resolve({**options, name: value})
            except SacmaError as error:
                raise SacmaError(f"search space: {error}") from error
    return made


def _distribution(name: str, range_: Any, now: Any) -> Any:
    drawn = imported_optuna().distributions
    try:
        if isinstance(range_, list):
            if not range_ or not all(isinstance(value, str | int | float | bool) for value in range_):
                raise ValueError("a list needs single values")
            return drawn.CategoricalDistribution(range_)
        kind = drawn.IntDistribution if type(now) is int else drawn.FloatDistribution
        return kind(**range_)
    except (TypeError, ValueError) as error:
        raise SacmaError(
            f"search space: {name} is {printable(range_)} ({error}); give a list, or low, high and "
            "log or step"
        ) from error


def _ends(distribution: Any) -> list[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


# --- The search -----------------------------------------------------------------------------------


def tune(
    options: Mapping[str, Any],
    benchmark: Benchmark,
    *,
    space: Mapping[str, Any],
    trials: int,
    storage: str,
    name: str,
    jobs: int = 1,
    reporter: Reporter = SILENT,
) -> RunConfig:
    """Search until the study has so many finished trials, pruned ones among them; returns the best options.

    Args:
        options: of the runs, as of ``sacma train``.
        benchmark: of the runs, opened.
        space: as in ``distributions``.
        trials: of the study in all, whichever process made them.
        storage: URL of the database.
        name: of the study in it.
        jobs: trials at a time, each in a process of its own; the processor's threads are shared among them.
        reporter: told of each trial.

    Raises:
        SacmaError: the space or the database is no good, or trial after trial fails.
    """
    if trials < 1 or jobs < 1:
        raise SacmaError(f"--trials {trials} and --jobs {jobs} must both be at least 1")
    imported_optuna()
    config = configure(options, benchmark)
    fixed = {**options, "preset": config.preset}
    drawn = distributions(space, fixed, config)
    common = {key: value for key, value in config.options().items() if key not in drawn}
    study = open_study(storage, name, options=common, sampler=None, pruner=_pruner(config))
    if jobs > 1:
        _search_in_processes(
            study, jobs, options=options, space=space, trials=trials, storage=storage, reporter=reporter
        )
    else:
        # Processes that search together must not draw the same, nor one that goes on what was drawn before.
        apart = os.getpid() if _others_search(study) or multiprocessing.parent_process() else 0
        seed = config.seed + 1000 * len(study.trials) + apart
        _search(study, benchmark, drawn, fixed, trials=trials, seed=seed % 2**32, reporter=reporter)
    try:
        return resolve({**fixed, **study.best_params})
    except ValueError as error:
        raise SacmaError(f"no trial of {printable(name)} ran to its end; ask for more --trials") from error


def _search(
    study: optuna.Study,
    benchmark: Benchmark,
    drawn: Mapping[str, Any],
    fixed: Mapping[str, Any],
    *,
    trials: int,
    seed: int,
    reporter: Reporter,
) -> None:
    """Run one trial after another until the study has so many finished ones."""
    optuna = imported_optuna()
    study.sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True
    )
    failures = 0
    while _finished(study) < trials:
        trial = study.ask(dict(drawn))
        try:
            value = _run(trial, resolve({**fixed, **trial.params}), benchmark)
            study.tell(trial, value)
            failures = 0
            told = f"validation HM {100 * value:.1f} (best {100 * study.best_value:.1f})"
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            told = "pruned"
        except SacmaError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failures += 1
            if failures == FAILURES:
                raise SacmaError(f"{failures} trials in a row failed, the last one thus: {error}") from error
            told = f"failed: {error}"
        except BaseException:  # interrupted: it counts neither as finished nor as running
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        drawn_values = ", ".join(f"{key} {_short(value)}" for key, value in trial.params.items())
        reporter.say(f"trial {trial.number}: {told}; {drawn_values}")


def _search_in_processes(
    study: optuna.Study,
    jobs: int,
    *,
    options: Mapping[str, Any],
    space: Mapping[str, Any],
    trials: int,
    storage: str,
    reporter: Reporter,
) -> None:
    """Run so many processes that search together until each has ended; say what they say."""
    arguments = {"space": space, "trials": trials, "storage": storage, "name": study.study_name}
    threads = max(1, torch.get_num_threads() // jobs)
    failures: list[str] = []
    with processes_of(_search_of_process, [(options, arguments, threads)] * jobs) as said:
        for kind, line in said:
            if kind == "say":
                reporter.say(line)
            else:
                failures.append(line)
    if failures and _finished(study) < trials:
        raise SacmaError(failures[0])


def _search_of_process(
    tell: Callable[[tuple[str, str]], None],
    options: Mapping[str, Any],
    arguments: Mapping[str, Any],
    threads: int,
) -> None:
    class Teller(Silent):
        def say(self, line: str) -> None:
            tell(("say", line))

    torch.set_num_threads(threads)
    try:
        tune(options, benchmark_of(options), reporter=Teller(), **arguments)
    except SacmaError as error:
        tell(("failed", str(error)))


def _pruner(config: RunConfig) -> Any:
    """Ends a trial whose best epoch so far is below the median of others; not in its first fifth."""
    warmup = max(1, config.training.epochs // 5)
    return imported_optuna().pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup)


def _others_search(study: optuna.Study) -> bool:
    state = imported_optuna().trial.TrialState.RUNNING
    return bool(study.get_trials(deepcopy=False, states=(state,)))


def _finished(study: optuna.Study) -> int:
    state = imported_optuna().trial.TrialState
    return len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)))


def _run(trial: optuna.Trial, config: RunConfig, benchmark: Benchmark) -> float:
    """The best validation HM of stage 1; the trial is pruned where an epoch shows that it will not be."""

    def after_epoch(row: EpochRow) -> None:
        assert row.validation is not None, "stage 1 validates after each epoch"
        trial.report(row.validation["harmonic_mean"], row.epoch)
        # The last epoch is past saving time.
        if row.epoch < config.training.epochs and trial.should_prune():
            raise imported_optuna().TrialPruned

    with tempfile.TemporaryDirectory(prefix="sacma-trial-") as folder:
        run = RunFolder.create(Path(folder) / "run", config)
        selection = run_stage_1(config, benchmark, run, after_epoch=after_epoch)
    trial.set_user_attr("epochs", selection.epochs)
    return float(selection.validation.harmonic_mean)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
