"""The backbone that a run needs: its recorded name, and a check that a backbone fits the run."""

from __future__ import annotations

import math

from sacma import plugins
from sacma.errors import SacmaError, printable
from sacma.media.backbones import BACKBONES, Backbone
from sacma.media.backbones.clip_clap import ClipImages
from sacma.media.backbones.lite import EfficientNetLite0, SpeechEmbedding
from sacma.media.backbones.yamnet import YAMNet
from sacma.models.base import Method
from sacma.training.deployment import Deployment


def recorded_backbone(deployment: Deployment) -> str:
    """The name of the backbone that made the run's features.

    Raises:
        SacmaError: the features do not say.
    """
    origin = deployment.provenance
    encoders = {part.get("name") for part in map(origin.get, ("audio", "video")) if isinstance(part, dict)}
    found = origin.get("backbone") or (encoders.pop() if len(encoders) == 1 else None)
    found = found or (deployment.features if deployment.features in BACKBONES else None)
    if found is None:
        raise SacmaError(
            f"the run's features, {deployment.features} of {deployment.benchmark}, do not say which backbone "
            f"made them; name it with --backbone: {', '.join(BACKBONES)}"
        )
    return str(found)


def check_installed(name: str, deployment: Deployment) -> None:
    """Check that the package of a backbone from outside is installed.

    Raises:
        SacmaError: it is not; the package that made the run's features is named.
    """
    package = deployment.provenance.get("package")
    if package and name not in (*BACKBONES, *plugins.offered(plugins.BACKBONES)):
        package, _, version = str(package).rpartition(" ")
        origin = plugins.Origin(object=name, package=package, version=version)
        raise plugins.missing(origin, f"backbone {printable(name)} of the run's features")


def check_backbone(backbone: Backbone, deployment: Deployment, method: Method) -> None:
    """Check that a backbone gives features of the kind that the run was trained on.

    Raises:
        SacmaError: it does not; the message lists the differences.
    """
    origin, config = deployment.provenance, method.config
    recorded = origin.get("backbone")
    different = [f"backbone {recorded}"] if recorded not in (None, backbone.name) else []
    for kind, encoder in (("audio", backbone.audio), ("video", backbone.video)):
        width, step = getattr(config, f"{kind}_width"), getattr(deployment, f"{kind}_step")
        if encoder.width != width:
            different.append(f"{kind} features {width} wide, not {encoder.width}")
        if not math.isclose(encoder.step_seconds, step, rel_tol=1e-3):
            different.append(f"{kind} steps of {step:g} s, not {encoder.step_seconds:g} s")
        made_by = origin.get(kind)
        for fact in ("name", "version", "checksum"):
            was = made_by.get(fact) if isinstance(made_by, dict) else None
            if was not in (None, getattr(encoder, fact)):
                different.append(f"{kind} encoder of {fact} {was}, not {getattr(encoder, fact)}")
    if different:
        raise SacmaError(
            f"backbone {backbone.name} does not fit the run, which was trained on {'; '.join(different)}; "
            "use the backbone of its features, or train on features of this one (sacma extract)"
        )


def recorded_looks(deployment: Deployment, modality: str) -> float | None:
    """Seconds that a step of the run's features looks at, by the encoder's name; None for a step's length."""
    made_by = deployment.provenance.get(modality)
    name = made_by.get("name") if isinstance(made_by, dict) else None
    known = (EfficientNetLite0, SpeechEmbedding, YAMNet, ClipImages)
    return next((encoder.looks for encoder in known if encoder.name == name), None)
