"""Weights released with the code of TCAF, SACMA and AVCA's benchmark: from a checkpoint to a run folder.

A checkpoint is what ``torch.save`` wrote of a dictionary with the keys ``model`` (a state dict), ``epoch``,
``optimizer`` and ``metric``, or of a state dict alone. It is a pickle, so it is read with torch's
``weights_only``: nothing in the file runs. Sizes are read off the weights; what they do not show (the number
of heads, scaling switches) comes from the published presets. The method is built in variant ``published``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sacma.checkpoints import Checkpoint, read_checkpoint
from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.files import remove, sha256, write_json
from sacma.models.base import Method
from sacma.options import DataConfig
from sacma.runs.config import PUBLISHED_FEATURES, RunConfig, method_class, resolve
from sacma.runs.folder import RunFolder, save_model
from sacma.runs.records import StageSelection
from sacma.training.protocol import finish
from sacma.training.scoring import evaluate_method

# --- The method -----------------------------------------------------------------------------------

BEYOND = 64  # no released model has a matrix so many times larger than all its weights together

# Hyperparameter -> one of our keys and the axis of its shape that shows it.
Shown = Mapping[str, tuple[str, int]]

_TRUNK: Shown = {
    "audio_width": ("trunk.steps.audio.0.weight", 1),
    "video_width": ("trunk.steps.video.0.weight", 1),
    "encoder_hidden": ("trunk.steps.audio.0.weight", 0),
    "width": ("trunk.class_token", 0),
    "feed_forward_hidden": ("trunk.transformer.layers.0.feed_forward.0.weight", 0),
}
_SACMA: Shown = {
    **_TRUNK,
    "text_width": ("text_projection.0.weight", 1),
    "common_width": ("text_projection.0.weight", 0),
    "decoder_hidden": ("projections.shared.0.weight", 0),
}
_TCAF: Shown = {
    **_TRUNK,
    "text_width": ("space.text_projection.0.weight", 1),
    "common_width": ("space.text_projection.0.weight", 0),
    "decoder_hidden": ("space.projection.0.weight", 0),
}
_AVCA: Shown = {
    "audio_width": ("audio_encoder.0.weight", 1),
    "video_width": ("video_encoder.0.weight", 1),
    "text_width": ("text_projection.0.weight", 1),
    "width": ("position", 1),
    "common_width": ("text_projection.0.weight", 0),
    "encoder_hidden": ("audio_encoder.0.weight", 0),
    "decoder_hidden": ("audio_projection.0.weight", 0),
    "feed_forward_hidden": ("transformer.0.feed_forward.0.weight", 0),
}
_CJME: Shown = {
    "audio_width": ("audio_net.0.weight", 1),
    "video_width": ("video_net.0.weight", 1),
    "text_width": ("text_net.0.weight", 1),
    "hidden": ("audio_net.0.weight", 0),
    "text_hidden": ("text_net.0.weight", 0),
    "common_width": ("text_net.4.weight", 0),
}
_BILINEAR: Shown = {"text_width": ("bilinear.weight", 0)}

SHOWN: Mapping[str, Shown] = {
    "sacma": _SACMA,
    "tcaf": _TCAF,
    "avca": _AVCA,
    "avmst": {**_AVCA, "spiking_hidden": ("audio_spiking.hidden.weight", 0)},
    "cjme": _CJME,
    "avgzslnet": {**_CJME, "decoder_hidden": ("decoder.0.weight", 0)},
    "ale": _BILINEAR,
    "devise": _BILINEAR,
    "sje": _BILINEAR,
    "apn": {"text_width": ("attributes.weight", 0)},
    "clipclap": {
        "width": ("encoder.0.weight", 0),
        "common_width": ("text_projection.0.weight", 0),
        "decoder_hidden": ("projection.0.weight", 0),
    },
}
# ClipClap's weights show the width of what they read; its code says which of its features are so wide.
CLIPCLAP_WIDTHS = {"audio_width": 1024, "video_width": 512, "text_width": 1536}
CLIPCLAP_PARTS: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "modality": ("encoder.0.weight", {512: "video", 1024: "audio", 1536: "both"}),
    "words": ("text_encoder.0.weight", {512: "clip", 1024: "wavcaps", 1536: "both"}),
}
WIDTHS = ("audio_width", "video_width", "text_width")
# Methods with a transformer -> where its layers are.
LAYERS = {
    "sacma": "trunk.transformer.layers.",
    "tcaf": "trunk.transformer.layers.",
    "avca": "transformer.",
    "avmst": "transformer.",
}
# Methods of one matrix on video and audio together: only the sum of both widths shows.
JOINT = {
    "ale": "bilinear.weight",
    "devise": "bilinear.weight",
    "sje": "bilinear.weight",
    "apn": "attributes.weight",
}


def released_class(name: str) -> type[Method]:
    """The class of a method whose weights can be imported.

    Raises:
        SacmaError: there is no such method, or no code of its own was released with it.
    """
    method = method_class(name)
    if name not in SHOWN:
        raise SacmaError(f"weights of {name} cannot be imported; those of these can: {', '.join(SHOWN)}")
    return method


def released_config(
    name: str, checkpoint: Checkpoint, *, data: DataConfig, heads: int | None = None
) -> RunConfig:
    """The configuration that the weights of a method were trained with, as far as weights and presets tell.

    Args:
        name: of the method.
        checkpoint: its weights.
        data: what the run is to be scored on; its benchmark and features choose the preset.
        heads: of a transformer layer; None for those of the preset whose heads are as wide in all.

    Raises:
        SacmaError: no preset fits the transformer's width, or it cannot be split into so many heads.
    """
    renamed = _renamed(name, checkpoint)
    sizes = {key: size for key, size in _sizes(name, renamed).items() if key not in WIDTHS}
    # Whatever folder the features are in, the released code scales and trims as it does.
    options: dict[str, Any] = {"feature_scaling": "published", "audio_len_rule": "mul", **sizes}
    options |= {"method": name, "variant": "published", "preset": "published"}
    options |= dataclasses.asdict(data) | {"text_alignment": "published"}
    options |= _parts(checkpoint, renamed) if name == "clipclap" else {}
    if name not in LAYERS:
        if heads is not None:
            raise SacmaError(f"--heads is {heads}, but {name} has no attention heads; leave it out")
        return resolve(options)
    prefix = LAYERS[name]
    if depth := len({key[len(prefix) :].split(".")[0] for key in renamed if key.startswith(prefix)}):
        options["depth"] = depth
    if (queries := renamed.get(f"{prefix}0.to_queries.weight")) is not None and queries.ndim:
        options |= _heads(name, len(queries), heads, data)
    return resolve(options)


def _renamed(name: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    try:
        return released_class(name).rename_published(checkpoint.state)
    except KeyError as error:
        raise SacmaError(f"{checkpoint.path}: not a published {name} state: missing {error}") from error
    except (RuntimeError, ValueError) as error:
        raise SacmaError(
            f"{checkpoint.path}: not a published {name} state: {str(error).splitlines()[0]}"
        ) from error


def _sizes(name: str, renamed: Mapping[str, Tensor]) -> dict[str, int]:
    """Those sizes that show; keys that are missing are named when the weights are loaded."""
    found = {}
    for size, (key, axis) in SHOWN[name].items():
        if key in renamed and renamed[key].ndim > axis:
            found[size] = renamed[key].shape[axis]
    return found


def _parts(checkpoint: Checkpoint, renamed: Mapping[str, Tensor]) -> dict[str, str]:
    """The parts of features and class vectors that ClipClap's weights read, by their widths."""
    found = {}
    for option, (key, parts) in CLIPCLAP_PARTS.items():
        if key in renamed and renamed[key].ndim == 2:
            width = renamed[key].shape[1]
            if width not in parts:
                raise SacmaError(
                    f"{checkpoint.path}: {key} is {width} wide; ClipClap's features give one of "
                    f"{', '.join(map(str, parts))}"
                )
            found[option] = parts[width]
    return found


def _heads(name: str, width: int, heads: int | None, data: DataConfig) -> dict[str, int]:
    """Number and width of heads that are ``width`` wide in all."""
    if heads is not None:
        if heads < 1 or width % heads:
            raise SacmaError(f"--heads is {heads}, but the weights' heads are {width} wide in all")
        return {"heads": heads, "head_width": width // heads}
    benchmarks = dict.fromkeys((data.benchmark, "ucf", "activitynet", "vggsound"))
    features = dict.fromkeys((data.features, *PUBLISHED_FEATURES))
    for benchmark in benchmarks:
        for folder in features:
            chosen = {"benchmark": benchmark, "features": folder, "preset": "published"}
            model = resolve({"method": name, "variant": "published", **chosen}).model
            if model["heads"] * model["head_width"] == width:
                return {"heads": model["heads"], "head_width": model["head_width"]}
    raise SacmaError(f"the weights' heads are {width} wide in all, as in no preset of {name}; give --heads")


def released_method(
    name: str, checkpoint: Checkpoint, config: RunConfig, *, audio_width: int | None = None
) -> Method:
    """The method with released weights, in eval mode.

    Args:
        name: of the method.
        checkpoint: its weights.
        config: as ``released_config`` gives it.
        audio_width: of the audio features, where the weights show the sum of both widths only.

    Raises:
        SacmaError: keys are missing or unknown, or sizes contradict each other; they are named.
    """
    cls, renamed = released_class(name), _renamed(name, checkpoint)
    widths = {key: size for key, size in _sizes(name, renamed).items() if key in WIDTHS}
    widths |= CLIPCLAP_WIDTHS if name == "clipclap" else {}
    if name in JOINT and audio_width is not None and JOINT[name] in renamed:
        joint = renamed[JOINT[name]].shape[-1]
        widths |= {"audio_width": audio_width, "video_width": joint - audio_width}
    # Wherever a width does not show, a key is missing, and loading says which.
    hyperparameters = {**dict.fromkeys(WIDTHS, 1), **widths, **config.model}
    _check_sizes(checkpoint, {**_sizes(name, renamed), **widths})
    try:
        method = cls(**hyperparameters)
        method.load_published(checkpoint.state)
    except (SacmaError, RuntimeError, MemoryError) as error:
        raise SacmaError(f"{checkpoint.path}: {error}") from error
    return method.eval()


def _check_sizes(checkpoint: Checkpoint, sizes: Mapping[str, int]) -> None:
    """Refuse sizes whose weights no file as small as this one holds, before memory is taken for them."""
    stored = sum(value.numel() for value in checkpoint.state.values())
    if math.prod(sorted(sizes.values())[-2:]) > BEYOND * stored:
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise SacmaError(f"{checkpoint.path}: sizes contradict each other: {shown}")


def _check_widths(method: Method, checkpoint: Checkpoint, benchmark: Benchmark) -> None:
    features = benchmark.features
    for what, made, found in (
        ("audio features", method.config.audio_width, features.audio.width),
        ("video features", method.config.video_width, features.video.width),
        ("class vectors", method.config.text_width, benchmark.vectors.shape[1]),
    ):
        if made != found:
            raise SacmaError(
                f"{checkpoint.path} was made for {what} {made} wide, but those in {features.path} are "
                f"{found} wide; give the features that it was trained with"
            )


# --- The run folder -------------------------------------------------------------------------------


def import_weights(
    file: Path,
    name: str,
    *,
    data: DataConfig,
    benchmark: Benchmark,
    out: Path,
    stage1: Path | None = None,
    bias: float | None = None,
    heads: int | None = None,
    force: bool = False,
) -> RunFolder:
    """Make a finished run of a released checkpoint, its test figures included.

    Args:
        file: the checkpoint whose weights score test, the released code's stage 2.
        name: of the method.
        data: what the run reads.
        benchmark: the same, opened with published text alignment.
        out: folder of the run.
        stage1: the checkpoint of stage 1, to choose the bias with on validation.
        bias: the bias, where there is no such checkpoint.
        heads: of a transformer layer; None for those of a preset.
        force: overwrite a run that is there.

    Raises:
        SacmaError: a file cannot be used, features are of other widths, not exactly one of ``stage1`` and
            ``bias`` is given, or the folder holds something already.
    """
    released_class(name)
    check_bias(stage1, bias)
    checkpoint = read_checkpoint(file)
    config = released_config(name, checkpoint, data=data, heads=heads)

    def ready(one: Checkpoint) -> Method:
        method = released_method(name, one, config, audio_width=_audio_width(name, one, benchmark))
        _check_widths(method, one, benchmark)
        return method

    method = ready(checkpoint)
    first = None if stage1 is None else read_checkpoint(stage1)
    stage_1 = None if first is None else ready(first)
    selection = _selection(method, checkpoint, stage_1, first, bias, config=config, benchmark=benchmark)
    folder = RunFolder.create(out, config, force=force)
    try:
        with folder.locked():
            if stage_1 is not None:
                save_model(stage_1, folder.stage(1))
            write_json(folder.selection_path, selection.to_dict())
            finish(method, selection, config=config, benchmark=benchmark, folder=folder)
    except BaseException:
        remove(out)  # half of it would look like a run to be continued
        raise
    return folder


def check_bias(stage1: Path | None, bias: float | None) -> None:
    """Make sure that exactly one of the two says where the bias comes from.

    Raises:
        SacmaError: none or both are given, or the bias is not finite.
    """
    if (stage1 is None) == (bias is None):
        raise SacmaError(
            "give either --stage1, the checkpoint of stage 1, to choose the bias with on validation, or "
            "--bias, the bias itself"
        )
    if bias is not None and not math.isfinite(bias):
        raise SacmaError(f"--bias is {bias}; give a finite distance, 0 for none")


def _audio_width(name: str, checkpoint: Checkpoint, benchmark: Benchmark) -> int | None:
    """The data's audio width, where the weights show its sum with that of the video alone."""
    if name not in JOINT:
        return None
    audio, video = benchmark.features.audio.width, benchmark.features.video.width
    matrix = _renamed(name, checkpoint).get(JOINT[name])
    if matrix is not None and matrix.shape[-1:] != (audio + video,):
        raise SacmaError(
            f"{checkpoint.path} was made for video and audio features {matrix.shape[-1]} wide together, but "
            f"those in {benchmark.features.path} are {video} and {audio}; give the features that it was "
            "trained with"
        )
    return audio


def _selection(
    method: Method,
    checkpoint: Checkpoint,
    stage_1: Method | None,
    first: Checkpoint | None,
    bias: float | None,
    *,
    config: RunConfig,
    benchmark: Benchmark,
) -> StageSelection:
    """Stage 1's choice: its weights' best bias on validation, or the bias that was given."""
    validation, _ = evaluate_method(stage_1 or method, benchmark.split("val"), config, bias=bias)
    notes = [f"imported from {checkpoint.path.name}, SHA-256 {sha256(checkpoint.path)}"]
    if first is None:
        notes.append("the bias was given; validation scores the final weights, which have seen its clips")
        validation = dataclasses.replace(validation, bias_search="given")
    else:
        notes.append(f"stage 1 imported from {first.path.name}, SHA-256 {sha256(first.path)}")
    validation = dataclasses.replace(validation, warnings=(*validation.warnings, *notes))
    epochs = (first.epoch if first else None) or checkpoint.epoch or config.training.epochs
    return StageSelection(epochs, validation, [[]] * epochs)  # the learning rates are not in the files
