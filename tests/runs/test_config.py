"""How defaults, presets, variants and options make up a run's configuration, and its file."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sacma.errors import SacmaError
from sacma.models import METHODS
from sacma.models.configs import CONFIGS
from sacma.models.sacma import SACMA
from sacma.options import DataConfig, ProtocolConfig, TrainingConfig, from_options, to_options
from sacma.runs.config import (
    LATER,
    MEDIUM_BELOW,
    OTHER_FEATURES,
    PUBLISHED_RUN,
    SMALL_BELOW,
    RunConfig,
    checked_hyperparameters,
    hyperparameters,
    load_options,
    method_class,
    preset_options,
    resolve,
)

PUBLISHED = [
    f"{benchmark}/{features}"
    for benchmark in ("ucf", "vggsound", "activitynet")
    for features in ("selavi", "c3d-vggish")
]
RUN_SECTIONS = (DataConfig, TrainingConfig, ProtocolConfig)
RUN_OPTIONS = {field.name for section in RUN_SECTIONS for field in dataclasses.fields(section)}


def preset_file(method: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        resources.files("sacma").joinpath(f"presets/{method}.yaml").read_text()
    )
    return content


# --- Presets --------------------------------------------------------------------------------------


def test_hyperparameters_known_without_torch_are_those_of_the_methods() -> None:
    assert list(CONFIGS) == list(METHODS)
    assert all(CONFIGS[name] is method.Config for name, method in METHODS.items())


@pytest.mark.parametrize("method", METHODS)
def test_presets_cover_the_published_benchmarks_with_options_that_exist(method: str) -> None:
    content = preset_file(method)
    of_joint_encoders = {name for name in content if name.endswith("/clip-clap")}
    assert content.keys() - of_joint_encoders == {*PUBLISHED, "small", "not_in_paper"}
    known = RUN_OPTIONS | hyperparameters(METHODS[method]).keys()
    for name in (*PUBLISHED, *of_joint_encoders, "small"):
        assert content[name].keys() <= known, name
    assert set(content["not_in_paper"]) <= known


@pytest.mark.parametrize("variant", ["first", "last"])
@pytest.mark.parametrize("preset", ["published", "medium", "small"])
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_and_variant_builds_its_method(method: str, preset: str, variant: str) -> None:
    cls = METHODS[method]
    chosen = list(cls.VARIANTS)[0 if variant == "first" else -1]
    for name in PUBLISHED:
        benchmark, features = name.split("/")
        options = {"benchmark": benchmark, "features": features, "method": method}
        config = resolve({**options, "variant": chosen, "preset": preset})
        assert (config.method, config.preset, config.variant) == (method, preset, chosen)
        widths = {"audio_width": 3, "video_width": 3, "text_width": 3}
        assert to_options(from_options(cls.Config, {**widths, **config.model})) == {**widths, **config.model}
        expected = preset_options(method, preset, benchmark, features)
        expected |= (PUBLISHED_RUN | cls.PUBLISHED_TRAINING) if chosen == "published" else {}
        expected |= cls.VARIANTS[chosen]
        found = config.options()
        assert {option: found[option] for option in expected} == expected


@pytest.mark.parametrize("method", METHODS)
def test_options_of_a_method_and_of_a_run_have_names_of_their_own(method: str) -> None:
    assert not RUN_OPTIONS & hyperparameters(METHODS[method]).keys()


def test_published_values_of_sacma() -> None:
    """Section 4.2 of the paper."""
    ucf, vggsound = (
        resolve({"benchmark": benchmark, "features": "selavi"}) for benchmark in ("ucf", "vggsound")
    )
    assert (ucf.training.learning_rate, vggsound.training.learning_rate) == (7e-5, 6e-5)
    assert (ucf.training.schedule, vggsound.training.schedule) == ("constant", "plateau")
    assert ucf.training.weight_decay == 1e-5
    assert (ucf.model["temperature"], ucf.model["weight_cos"]) == (0.05, 0.2)
    assert (ucf.model["weight_tm"], ucf.model["weight_ta"], ucf.model["weight_av"]) == (1.0, 0.8, 0.1)


def test_a_benchmark_of_ones_own_has_the_preset_of_ucf() -> None:
    mine = resolve({"benchmark": "mine", "features": "selavi"})
    ucf = resolve({"benchmark": "ucf", "features": "selavi"})
    assert dataclasses.replace(mine, data=ucf.data) == ucf


def test_features_of_ones_own_are_scaled_by_their_statistics() -> None:
    mine = resolve({"benchmark": "ucf", "features": "mine"})
    ucf = resolve({"benchmark": "ucf", "features": "c3d-vggish"})
    assert mine.model["feature_scaling"] == OTHER_FEATURES["feature_scaling"] == "standardise"
    assert mine.training.audio_len_rule == "div"
    assert (ucf.model["feature_scaling"], ucf.training.audio_len_rule) == ("published", "mul")


@pytest.mark.parametrize(
    ("clips", "preset"),
    [
        (SMALL_BELOW - 1, "small"),
        (SMALL_BELOW, "medium"),
        (MEDIUM_BELOW - 1, "medium"),
        (MEDIUM_BELOW, "published"),
        (None, "published"),
    ],
)
def test_the_number_of_clips_decides_on_the_preset(clips: int | None, preset: str) -> None:
    assert resolve({"benchmark": "mine"}, training_clips=clips).preset == preset
    of_the_paper = "small" if preset == "small" else "published"
    assert resolve({"benchmark": "ucf"}, training_clips=clips).preset == of_the_paper
    assert resolve({"preset": "published"}, training_clips=clips).preset == "published"


def test_medium_is_small_with_more_steps_and_features_of_unit_length() -> None:
    for method in METHODS:
        small, medium = (preset_options(method, name, "mine", "mine") for name in ("small", "medium"))
        if "learning_rate" not in small:  # a closed form
            assert medium == small
            continue
        changed = {name for name in medium if medium[name] != small.get(name)}
        assert changed <= {"epochs", "batches_per_epoch", "feature_scaling"}, method
        assert medium["batches_per_epoch"] == 5 * small["batches_per_epoch"]
        assert medium["epochs"] == min(15, small["epochs"])
        config = resolve({"method": method, "preset": "medium", "benchmark": "mine", "features": "mine"})
        assert config.model["feature_scaling"] == "unit"


def test_the_published_variant_changes_the_run_too() -> None:
    paper, published = resolve({}), resolve({"variant": "published"})
    assert (paper.variant, paper.protocol, paper.data.text_alignment) == (
        "paper",
        ProtocolConfig(),
        "aligned",
    )
    assert published.protocol == ProtocolConfig(bias_search="grid", stage2_schedule="validation")
    assert published.data.text_alignment == "published"
    assert published.model["projections"] == "shared"


# --- Layers ---------------------------------------------------------------------------------------


def test_what_is_given_wins_over_variant_preset_and_default() -> None:
    options = {"variant": "published", "preset": "small", "projections": "separate", "epochs": 7}
    config = resolve({**options, "bias_search": "exact", "averaged_stream": False, "temperature": 1})
    assert config.model["projections"] == "separate"
    assert config.model["layer_norms"] == "shared"  # of the variant
    assert config.model["depth"] == 2  # of the preset
    assert config.model["width"] == 300  # by default
    assert config.training.epochs == 7
    assert config.training.batches_per_epoch == 10
    assert config.protocol.bias_search == "exact"
    assert config.model["temperature"] == 1.0
    assert type(config.model["temperature"]) is float


def test_none_is_as_if_it_were_not_given() -> None:
    assert resolve(dict.fromkeys([*RUN_OPTIONS, "method", "variant", "preset", "seed", "width"])) == resolve(
        {}
    )


def test_methods_by_name() -> None:
    assert method_class("sacma") is SACMA
    assert resolve({"method": "avca"}).variant == "corrected"
    with pytest.raises(SacmaError, match=r"no method 'nope'; there are: sacma, tcaf, "):
        method_class("nope")


# --- What is refused ------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"no_such": 1}, "unknown option 'no_such' for method sacma"),
    ({"audio_width": 3}, "unknown option 'audio_width'"),  # the data give it
    ({"method": "tcaf", "same_class": "negative"}, "unknown option 'same_class' for method tcaf"),
    ({"variant": "nope"}, "sacma has no variant 'nope'; it has: paper, published"),
    ({"preset": "nope"}, "no preset 'nope'; there are: published, medium, small"),
    ({"epochs": 0}, "epochs is 0; it must be at least 1"),
    ({"epochs": 1.5}, "epochs is 1.5; it must be a whole number"),
    ({"epochs": True}, "epochs is True; it must be a whole number"),
    ({"epochs": "3"}, "epochs is '3'; it must be a whole number"),
    ({"batches_per_epoch": -1}, "batches_per_epoch is -1"),
    ({"batch_size": 1}, "batch_size is 1; it must be at least 2"),
    ({"eval_batch_size": 0}, "eval_batch_size is 0"),
    ({"max_steps_train": 0}, "max_steps_train is 0"),
    ({"learning_rate": -1e-9}, "learning_rate is -1e-09"),
    ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number"),
    ({"weight_decay": float("inf")}, "weight_decay is inf; it must be a finite number"),
    ({"weight_cos": 10**400}, "weight_cos is a whole number of .* bits; it must be a finite number"),
    ({"checkpoint_seconds": -1}, "checkpoint_seconds is -1"),
    ({"schedule": "cosine"}, "schedule is 'cosine'; it must be one of constant, plateau"),
    ({"same_class": 3}, "same_class is 3; it must be one of negative, masked, positive"),
    ({"averaged_stream": "yes"}, "averaged_stream is 'yes'; it must be true or false"),
    ({"averaged_stream": 1}, "averaged_stream is 1; it must be true or false"),
    ({"root": 3}, "root is 3; it must be text"),
    ({"audio_step": "long"}, "audio_step is 'long'; it must be a number"),
    ({"width": 0}, "width is 0; it must be at least 1"),
    ({"encoder_dropout": 1}, "encoder_dropout is 1.0; it must be a probability"),
    ({"decoder_dropout": -0.1}, "decoder_dropout is -0.1; it must be a probability"),
    ({"seed": -1}, "seed is -1; it must be from 0 to 4294967295"),
    ({"seed": 2**32}, "seed is 4294967296"),
    ({"seed": "x"}, "seed is 'x'; it must be a whole number"),
    ({"width": [[1] * 10**6] * 10}, "width is .{0,200}; it must be a whole number"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SacmaError, match=message) as caught:
        resolve(options)
    assert "\n" not in str(caught.value)


def test_limits_are_allowed() -> None:
    config = resolve({"learning_rate": 0, "seed": 2**32 - 1, "encoder_dropout": 0, "audio_step": 1})
    assert config.training.learning_rate == 0
    assert config.data.audio_step == 1.0


def test_hyperparameters_of_saved_models_are_checked_with_their_widths() -> None:
    widths = {"audio_width": 3, "video_width": 4, "text_width": 5}
    assert checked_hyperparameters(SACMA, widths) == widths
    with pytest.raises(SacmaError, match="audio_width is 0"):
        checked_hyperparameters(SACMA, {**widths, "audio_width": 0})


# --- The file -------------------------------------------------------------------------------------


def test_the_file_holds_every_option_once_and_reads_back(tmp_path: Path) -> None:
    config = resolve({"benchmark": "ucf", "features": "selavi", "root": "somewhere: else", "seed": 3})
    config.save(tmp_path / "config.yaml")
    options = load_options(tmp_path / "config.yaml")
    names = [line.partition(":")[0] for line in (tmp_path / "config.yaml").read_text().splitlines()]
    assert len(set(options)) == sum(1 for name in names if name in options)
    expected = {"method", "variant", "preset", "seed"} | RUN_OPTIONS | config.model.keys()
    assert options.keys() == expected - LATER.keys()
    assert resolve(options) == config
    assert resolve(options, training_clips=1) == config  # it says which preset


@given(
    numbers=st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 1e6, allow_subnormal=True),
            "temperature": st.floats(allow_nan=False, allow_infinity=False),
            "seed": st.integers(0, 2**32 - 1),
            "epochs": st.integers(1, 2**32),
            "audio_step": st.none() | st.floats(1e-9, 1e9),
        }
    ),
    root=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
)
@settings(max_examples=60, deadline=None)
def test_any_values_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, Any], root: str | None
) -> None:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    config = resolve({**numbers, "root": root})
    config.save(file)
    assert resolve(load_options(file)) == config


@pytest.mark.parametrize("content", ["", "~", "- 1", "text", "a: [1]", "a: {b: 1}", "1: 2", "a: 2020-01-01"])
def test_files_that_are_no_flat_mapping(content: str, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(content)
    with pytest.raises(SacmaError, match=r"my\.yaml"):
        load_options(file)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match=f"no configuration file {tmp_path / 'none.yaml'}"):
        load_options(tmp_path / "none.yaml")


@pytest.mark.parametrize("section", RUN_SECTIONS)
def test_every_option_is_explained(section: type[Any]) -> None:
    for field in dataclasses.fields(section):
        assert f"        {field.name}: " in f"    {section.__doc__}"


def test_a_run_is_a_value() -> None:
    assert RunConfig(model={"a": 1}) == RunConfig(model={"a": 1})
    assert RunConfig(seed=1) != RunConfig(seed=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 3  # type: ignore[misc]
