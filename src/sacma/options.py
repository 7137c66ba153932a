"""Options of a run outside its method: data, training, protocol.

They are plain dataclasses below the methods, so that a method can be given the options it is trained with.
``sacma.runs.config`` joins them to the configuration of a run.

A dataclass of options may hold another one, as SACMA's configuration holds its published quirks. Users see no
level: on the command line, in YAML and in config.json the inner options stand among the outer ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

from sacma.errors import SacmaError, meant, printable

Section = TypeVar("Section")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data of a run.

    Attributes:
        benchmark: avshapes, ucf, vggsound, activitynet, or the NAME of another folder in their layout.
        features: selavi, c3d-vggish, clip-clap, or the name of a folder under features/.
        root: the folder that holds class-split/ and features/.
        split: the class split, main (the paper's tables) or cls.
        text: another table of class vectors, NAME of text/word_embeddings_NAME_normed.npz or .npy, or a file.
        text_alignment: aligned gives each class its own vector, published repeats the released code's mix-up,
            rotated gives each class the next one's.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
    """

    benchmark: str = "avshapes"
    features: str = "descriptors"
    root: str | None = None
    split: Literal["main", "cls"] = "main"
    text: str | None = None
    text_alignment: Literal["aligned", "published", "rotated"] = "aligned"
    audio_step: float | None = None
    video_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training of a stage.

    Attributes:
        epochs: epochs of stage 1, at most; stage 2 trains as many as the best had.
        batches_per_epoch: class-balanced batches that make up an epoch; 0 for methods that only fit.
        batch_size: clips of a batch.
        learning_rate: of Adam.
        weight_decay: of Adam, in the gradient.
        schedule: constant, or plateau (a tenth after 3 epochs without a better validation HM).
        trimming: max pads to the longest clip, fixed cuts clips to so many steps.
        max_steps_train: video steps kept in training, with trimming fixed.
        max_steps_test: video steps kept in evaluation, with trimming fixed.
        audio_len_rule: audio steps kept for the video steps kept: mul as the released code, div as time says.
        eval_batch_size: clips of a batch in evaluation.
        precision: float32; bfloat16; or auto, bfloat16 where this machine multiplies faster in it.
        save_memory: keep only the inputs of transformer layers for the backward pass, which runs the layers
            again; slower, with the same results.
        force_precision: train in bfloat16 also on a processor that is slower in it.
        device: auto takes a GPU where there is one; cpu does not.
        tracker: where metrics go besides metrics.jsonl.
        checkpoint_seconds: least time between two checkpoints; 0 keeps one after each epoch.
    """

    epochs: int = 50
    batches_per_epoch: int = 300
    batch_size: int = 64
    learning_rate: float = 7e-5
    weight_decay: float = 1e-5
    schedule: Literal["constant", "plateau"] = "constant"
    trimming: Literal["max", "fixed"] = "max"
    max_steps_train: int = 60
    max_steps_test: int = 300
    audio_len_rule: Literal["mul", "div"] = "mul"
    eval_batch_size: int = 256
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    force_precision: bool = False
    save_memory: bool = False
    device: Literal["auto", "cpu"] = "auto"
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"
    checkpoint_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batches_per_epoch", 0),
            ("batch_size", 2),
            ("eval_batch_size", 1),
            ("max_steps_train", 1),
            ("max_steps_test", 1),
        ):
            if getattr(self, name) < least:
                raise SacmaError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("learning_rate", "weight_decay", "checkpoint_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SacmaError(f"{name} is {getattr(self, name)}; it must be a finite number, 0 or more")


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Choices of the two stages.

    Attributes:
        bias_search: exact finds the best bias at any scale; grid tries 0 to 3 in steps of 0.2 as published,
            fine-grid 0 to 5 in steps of 1/15 as ClipClap does; smooth takes the one around which harmonic
            means are largest on average, as new classes have another best bias.
        stage2_schedule: replay repeats stage 1's learning rates; validation follows the HM on clips that
            stage 2 trains on, as published.
        prior: frozen scores with the frozen score of the features too, at the weight that is best on
            validation; the features then have to be those of a joint encoder, or of lite.
        bias_from: validation carries stage 1's bias over to test; episodes finds it on classes hidden from
            three more training runs on stage 2's clips.
    """

    bias_search: Literal["exact", "grid", "fine-grid", "smooth"] = "exact"
    stage2_schedule: Literal["replay", "validation"] = "replay"
    prior: Literal["none", "frozen"] = "none"
    bias_from: Literal["validation", "episodes"] = "validation"


class Option(NamedTuple):
    """An option of a dataclass.

    Attributes:
        type: the type of its value.
        default: its default, ``dataclasses.MISSING`` where it has none.
    """

    type: Any
    default: Any


# mypy does not see that classes are hashable.
_types_of = cast("Callable[[type[Any]], Mapping[str, Any]]", cache(get_type_hints))


def options_of(section: type[Any]) -> dict[str, Option]:
    """The options of a dataclass by name, in order; those of an inner dataclass stand in its place.

    Example:
        >>> list(options_of(ProtocolConfig))
        ['bias_search', 'stage2_schedule', 'prior', 'bias_from']
    """
    inner, types = inner_sections(section), _types_of(section)
    found: dict[str, Option] = {}
    for field in dataclasses.fields(section):
        if field.name in inner:
            found |= options_of(inner[field.name])
        else:
            found[field.name] = Option(types[field.name], field.default)
    return found


def inner_sections(section: type[Any]) -> dict[str, type[Any]]:
    """The dataclasses within a dataclass of options, by the name of their field."""
    types = _types_of(section)
    names = [field.name for field in dataclasses.fields(section)]
    return {name: types[name] for name in names if dataclasses.is_dataclass(types[name])}


def from_options(section: type[Section], options: Mapping[str, Any]) -> Section:
    """Make a dataclass from options by name; the reverse of ``to_options``.

    Raises:
        TypeError: an option is unknown or missing.
        SacmaError: a value is out of range.
    """
    left, inner = dict(options), {}
    for name, kind in inner_sections(section).items():
        inner[name] = from_options(kind, {key: left.pop(key) for key in options_of(kind) if key in left})
    return section(**left, **inner)


def to_options(section: Any) -> dict[str, Any]:
    """The values of a dataclass by the names of its options.

    Example:
        >>> to_options(ProtocolConfig(bias_search="grid"))["bias_search"]
        'grid'
    """
    inner = inner_sections(type(section))
    found: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        found |= to_options(value) if field.name in inner else {field.name: value}
    return found


def check_choices(section: Any) -> None:
    """Refuse a value that is none of the choices of its option.

    Raises:
        SacmaError: there is one; it names the option and the choices.
    """
    types = _types_of(type(section))
    for field in dataclasses.fields(section):
        kind, value = types[field.name], getattr(section, field.name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            hint = meant(str(value), map(str, get_args(kind)))
            raise SacmaError(f"{field.name} is {printable(value)}; it must be one of {choices}{hint}")
