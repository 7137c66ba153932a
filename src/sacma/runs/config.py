"""Everything that a run depends on, as dataclasses; one flat YAML file, its keys the command line's options.

Values are layered: defaults, then the preset, then the variant, then the file or the command line. What a run
folder keeps is the outcome, every value spelled out, so that the file alone reruns the result.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import yaml

from sacma.data.paper import published_benchmarks
from sacma.errors import SacmaError, meant, printable
from sacma.files import read_yaml, write_text
from sacma.models import METHODS
from sacma.models.configs import CONFIGS
from sacma.models.configs.base import MethodConfig
from sacma.models.lookup import method_class, name_of
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, options_of

if TYPE_CHECKING:
    from sacma.models.base import Method

SMALL_BELOW, MEDIUM_BELOW = 1_000, 20_000
PRESETS = ("published", "medium", "small")
MEDIUM_STEPS, MEDIUM_EPOCHS = 5, 15
UNSET = object()
MOST = 2**32
"""Largest whole number of any option."""
WIDEST, DEEPEST = 1_000_000, 1_000
"""Largest width, and number of layers, of a network."""
LATER: Mapping[str, Any] = {
    "prior": "none",
    "bias_from": "validation",
    "force_precision": False,
    "save_memory": False,
    "input_steps": "all",
}
"""Options that are younger than version 0.1 -> their default. Files of older runs lack them, and so do files
of runs with the default, whose bytes are those of version 0.1."""
SEEDS = 2**32  # what numpy takes
OUTSIDE_SMALL = {
    "epochs": 30,
    "batches_per_epoch": 20,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
}
"""Preset ``small`` of methods from outside, where they say nothing else."""
PUBLISHED_FEATURES = ("selavi", "c3d-vggish")
# The released scaling and trimming were made for the two extractors above.
OTHER_FEATURES = {"feature_scaling": "standardise", "audio_len_rule": "div"}


# What the variant `published` changes outside of the network, for every method.
PUBLISHED_RUN = {"text_alignment": "published", "bias_search": "grid", "stage2_schedule": "validation"}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, or several that differ by their seed.

    Attributes:
        data: what it reads.
        method: name of the method.
        variant: name of the method's variant.
        preset: published, medium or small; where the values came from.
        model: hyperparameters of the method, all of them but the widths, which the data give.
        training: how it trains.
        protocol: how it chooses.
        seed: of weights, batches and dropout.
    """

    data: DataConfig = field(default_factory=DataConfig)
    method: str = "sacma"
    variant: str = "paper"
    preset: str = "published"
    model: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < SEEDS:
            raise SacmaError(f"seed is {self.seed}; it must be from 0 to {SEEDS - 1}")

    def sections(self) -> dict[str, dict[str, Any]]:
        """The options in the groups in which the YAML file shows them."""
        run = {"method": self.method, "variant": self.variant, "preset": self.preset, "seed": self.seed}
        return {
            "run": run,
            "data": dataclasses.asdict(self.data),
            "method": dict(self.model),
            "training": dataclasses.asdict(self.training),
            "protocol": dataclasses.asdict(self.protocol),
        }

    def options(self) -> dict[str, Any]:
        """All options by name."""
        return {name: value for section in self.sections().values() for name, value in section.items()}

    def save(self, path: Path) -> None:
        """Write the YAML file that reruns this."""
        parts = []
        for title, options in self.sections().items():
            written = {name: value for name, value in options.items() if value != LATER.get(name, UNSET)}
            parts.append(f"# {title}\n{yaml.safe_dump(written, sort_keys=False)}")
        write_text(path, "\n".join(parts))


def method_config(name: str) -> type[MethodConfig]:
    """The hyperparameters of a method; those of our own methods are known without torch.

    Raises:
        SacmaError: there is no method of that name.
    """
    return CONFIGS.get(name) or method_class(name).Config


def hyperparameters(method: type[Method]) -> dict[str, Any]:
    """Names and defaults of a method's hyperparameters, less the widths, which the data give."""
    options = options_of(method.Config)
    return {name: one.default for name, one in options.items() if one.default is not dataclasses.MISSING}


def resolve(options: Mapping[str, Any], *, training_clips: int | None = None) -> RunConfig:
    """Fill in what ``options`` leave open from preset and variant.

    Args:
        options: values by option name, from a file and the command line.
        training_clips: clips of the benchmark's stage-2 training set; see ``default_preset``.

    Raises:
        SacmaError: an unknown method, variant, preset or option, or a value out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    name = given.pop("method", "sacma")
    method = method_class(name).for_saved(given)
    if method is not method_class(name):  # an earlier version under the same name; only then all are imported
        name = name_of(method)
    variant = given.pop("variant", next(iter(method.VARIANTS)))
    if variant not in method.VARIANTS:
        raise SacmaError(f"{name} has no variant {printable(variant)}; it has: {', '.join(method.VARIANTS)}")
    preset = given.pop("preset", default_preset(training_clips, given.get("benchmark", DataConfig.benchmark)))
    seed = _typed("seed", given.pop("seed", 0), int)
    features = given.get("features", DataConfig.features)
    values: dict[str, Any] = {} if features in PUBLISHED_FEATURES else dict(OTHER_FEATURES)
    values |= preset_options(name, preset, given.get("benchmark", DataConfig.benchmark), features)
    values |= PUBLISHED_RUN if variant == "published" else {}
    values |= method.PUBLISHED_TRAINING if variant == "published" else {}
    values |= method.VARIANTS[variant]
    values = _checked(values | given, DataConfig, method.Config, TrainingConfig, ProtocolConfig)
    chosen = {n: values.pop(n) if n in values else own for n, own in hyperparameters(method).items()}
    config = RunConfig(
        data=DataConfig(**_take(values, DataConfig)),
        method=name,
        variant=variant,
        preset=preset,
        model=checked_hyperparameters(method, chosen),
        training=TrainingConfig(**_take(values, TrainingConfig)),
        protocol=ProtocolConfig(**_take(values, ProtocolConfig)),
        seed=seed,
    )
    if values:
        raise SacmaError(
            f"unknown option {printable(next(iter(values)))} for method {name}; see sacma train --help"
        )
    return _settled(config)


def _settled(config: RunConfig) -> RunConfig:
    """Replace precision ``auto`` by the one that it stands for here: a file of the run must repeat it."""
    if config.training.precision != "auto":
        return config
    from sacma import precision

    return replace(config, training=replace(config.training, precision=precision.chosen(config.training)))


def checked_hyperparameters(method: type[Method], values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters of a method, of the right types and in range; whole numbers become floats where needed.

    Raises:
        SacmaError: a value is of another type or out of range; it is named.
    """
    values = _checked(values, method.Config)
    for name, value in values.items():
        if type(value) is int and value < 1:
            raise SacmaError(f"{name} is {value}; it must be at least 1")
        most = DEEPEST if "depth" in name or "layers" in name else WIDEST
        if type(value) is int and value > most:
            raise SacmaError(f"{name} is {value}; it must be at most {most}")
        if name.endswith("dropout") and not 0 <= value < 1:
            raise SacmaError(f"{name} is {value}; it must be a probability, 0 or more and below 1")
    return values


def _checked(values: Mapping[str, Any], *sections: type[Any]) -> dict[str, Any]:
    """The values, each of the type that its option has in one of the dataclasses."""
    hints = {name: one.type for section in sections for name, one in options_of(section).items()}
    return {n: _typed(n, value, hints[n]) if n in hints else value for n, value in values.items()}


def _typed(name: str, value: Any, hint: Any) -> Any:
    kinds = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
    if type(value) is int and not -MOST <= value <= MOST and float not in kinds:
        raise SacmaError(f"{name} is {printable(value)}; it must be a whole number of at most {MOST}")
    for kind in kinds:
        if type(value) is kind:
            return value if kind is not float else _finite(name, value)
        if kind is float and type(value) is int:
            return _finite(name, value)
        if get_origin(kind) is Literal and value in get_args(kind):
            return value
    expected = " or ".join(_in_words(kind) for kind in kinds if kind is not NoneType)
    raise SacmaError(f"{name} is {printable(value)}; it must be {expected}")


def _in_words(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words[kind] if kind in words else "one of " + ", ".join(map(str, get_args(kind)))


def _finite(name: str, value: float) -> float:
    if not abs(value) <= sys.float_info.max:
        raise SacmaError(f"{name} is {printable(value)}; it must be a finite number")
    return float(value)


def _take(values: dict[str, Any], section: type[Any]) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(section)]
    return {name: values.pop(name) for name in names if name in values}


def default_preset(training_clips: int | None, benchmark: str) -> str:
    """The preset for a number of training clips of stage 2: the published one for the paper's benchmarks.

    Example:
        >>> [default_preset(clips, "mine") for clips in (300, 8_000, 50_000, None)]
        ['small', 'medium', 'published', 'published']
        >>> default_preset(8_000, "ucf")
        'published'
    """
    if training_clips is None or training_clips >= MEDIUM_BELOW:
        return "published"
    if training_clips < SMALL_BELOW:
        return "small"
    return "published" if benchmark in published_benchmarks() else "medium"


def preset_options(method: str, preset: str, benchmark: str, features: str) -> dict[str, Any]:
    """The options that a preset sets for a method on a benchmark.

    A benchmark of your own has no published preset; it gets that of UCF-GZSL with SeLaVi features. ``medium``
    is ``small`` with ``MEDIUM_STEPS`` times the batches an epoch, ``MEDIUM_EPOCHS`` at most, and features at
    unit length, for methods that are trained by batches; docs/reference/methods.md says what it rests on.

    Raises:
        SacmaError: no such preset.
    """
    if preset not in PRESETS:
        raise SacmaError(
            f"no preset {printable(preset)}; there are: {', '.join(PRESETS)}{meant(preset, PRESETS)}"
        )
    table = _presets(method)
    if preset in ("small", "medium"):
        small = dict(table["small"])
        if preset == "medium" and "learning_rate" in small:
            small["batches_per_epoch"] *= MEDIUM_STEPS
            small |= {"epochs": min(small["epochs"], MEDIUM_EPOCHS), "feature_scaling": "unit"}
        return small
    return dict(table.get(f"{benchmark}/{features}", table["ucf/selavi"]))


def assumed_options(method: str) -> list[str]:
    """The options of a method whose preset values are not in the paper."""
    return list(_presets(method)["not_in_paper"])


def _presets(method: str) -> dict[str, Any]:
    return _own_presets(method) if method in METHODS else _outside_presets(method_class(method))


@cache
def _own_presets(method: str) -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(
        resources.files("sacma").joinpath(f"presets/{method}.yaml").read_text()
    )
    return table


def _outside_presets(method: type[Method]) -> dict[str, Any]:
    """The presets that the class of a method brings, in place of a file of ours."""
    small: dict[str, Any] = dict(OUTSIDE_SMALL)
    if not method.learns_by_gradient:
        small = {"epochs": 1, "batches_per_epoch": 0}
    published = {} if method.learns_by_gradient else small
    own = method.PRESETS
    return {
        "not_in_paper": [],
        "small": {**small, **own.get("small", {})},
        "ucf/selavi": {**published, **own.get("published", {})},
    }


def load_options(path: Path) -> dict[str, Any]:
    """The options in a YAML file.

    Raises:
        SacmaError: the file is missing, is not YAML or is not a flat mapping.
    """
    if not path.exists():
        raise SacmaError(f"no configuration file {path}")
    options = read_yaml(path)
    if not isinstance(options, dict) or not options:
        raise SacmaError(f"{path} has no options; it should have lines like 'epochs: 30'")
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | None):
            raise SacmaError(f"{path}: {printable(name)} should be an option with a single value")
    return options
