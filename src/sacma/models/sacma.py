"""SACMA: self-attention and cross-modal attention for audio-visual zero-shot learning.

Yang et al., Information Fusion 2025, https://doi.org/10.1016/j.inffus.2025.103966; equations are the paper's.

One transformer reads three inputs: audio and video with self-attention, and both together with cross-modal
attention. The class token of each is projected to a space shared with the class vectors. The loss is

    l = l_ccl + lambda_cos * l_cos + l_reg + l_rec        (8)

A clip gets the class whose phi_t is nearest (L2) to its phi_m (7). Variant ``paper`` follows the text of the
paper, ``published`` the authors' model file. The paper does not give position, time and class token (here
those of TCAF), nor widths, depth, heads and dropouts (here TCAF's main configuration for UCF).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sacma.distributed import gathered, gathered_by_name
from sacma.errors import SacmaError
from sacma.models import losses
from sacma.models.base import Method
from sacma.models.configs.sequences import SACMAConfig
from sacma.models.layers import EmbeddingNet
from sacma.models.trunk import Trunk
from sacma.types import Batch, ClassSet, Sequences

COSINE_PAIRS = (("m", "t"), ("a", "t"), ("v", "t"), ("a", "v"))


class SACMA(Method):
    """The network of 3.2 to 3.5 with the loss of 3.6."""

    Config = SACMAConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "published": {
            "weight_ta": 0.1,
            "weight_tv": 0.1,
            "projections": "shared",
            "layer_norms": "shared",
            "padding_in_batchnorm": "included",
            "eval_time": "index",
            "averaged_stream": True,
            "extra_train_forward": True,
        },
    }
    OUTPUTS: ClassVar[Sequence[str]] = ("phi_m", "phi_a", "phi_v")
    config: SACMAConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config

        def per_stream(width_in: int, width_out: int) -> nn.ModuleDict:
            names = ("shared",) if c.quirks.projections == "shared" else tuple(c.streams)
            return nn.ModuleDict(
                {
                    name: EmbeddingNet(
                        width_in, width_out, hidden=c.decoder_hidden, dropout=c.decoder_dropout
                    )
                    for name in names
                }
            )

        self.trunk = Trunk(c, shared_norm=c.quirks.layer_norms == "shared")
        self.projections = per_stream(c.width, c.common_width)
        self.reconstructions = per_stream(c.common_width, c.text_width)
        self.text_projection = EmbeddingNet(c.text_width, c.common_width, dropout=c.text_dropout)
        self.text_reconstruction = EmbeddingNet(c.common_width, c.text_width, dropout=c.text_dropout)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The terms of (8) by name; each pair of (13) is a term of its own, such as ``contrastive_t-m``."""
        c = self.config
        phi = self.embed(batch, streams=c.streams)
        phi["t"] = self.text_projection(batch.text)
        streams = list(c.streams)
        gamma = {s: self._of(self.reconstructions, s)(phi[s]) for s in streams}
        gamma["t"] = self.text_reconstruction(phi["t"])
        terms: dict[str, Tensor] = {}
        if c.weight_ccl:
            terms |= self._contrastive(phi, batch.labels)
        if c.weight_cos:
            for x, y in COSINE_PAIRS:
                if x in phi and y in phi:
                    terms[f"cosine_{x}{y}"] = c.weight_cos * losses.cosine_distance_loss(phi[x], phi[y])
        if c.weight_reg:
            for s in streams:
                terms[f"regression_{s}"] = c.weight_reg * losses.regression(phi[s], phi["t"])
        if c.weight_rec:
            for s in [*streams, "t"]:
                terms[f"reconstruction_{s}"] = c.weight_rec * losses.regression(gamma[s], batch.text)
        if not terms:
            raise SacmaError(
                "all weights of the loss are 0; give at least one of weight_ccl, _cos, _reg, _rec"
            )
        return terms

    def _contrastive(self, phi: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """l_ccl, (9) to (13)."""
        c = self.config
        weights = {
            ("t", "m"): c.weight_tm,
            ("t", "a"): c.weight_ta,
            ("t", "v"): c.weight_tv,
            ("a", "v"): c.weight_av,
            ("a", "m"): c.weight_am,
            ("v", "m"): c.weight_vm,
        }
        present = {pair: c.weight_ccl * w for pair, w in weights.items() if phi.keys() >= set(pair)}
        terms = losses.contrastive(
            gathered_by_name(phi),
            present,
            temperature=c.temperature,
            same_class=c.same_class,
            labels=gathered(labels),
        )
        return {f"contrastive_{name}": term for name, term in terms.items()}

    @property
    def outputs(self) -> Sequence[str]:
        """The phi of the streams that the model was trained with."""
        return [output for output in self.OUTPUTS if _stream(output) in self.config.streams]

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, d): phi_m, or the phi that ``output`` names; its distance (L2) to phi_t scores. (7)"""
        stream = _stream(self.scoring_output(output))
        return self.embed(batch, streams=stream)[stream]

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, d): phi_t of each class."""
        return self.text_projection(classes.vectors)

    def embed(self, batch: Batch, *, streams: str = "avm") -> dict[str, Tensor]:
        """Embed clips.

        Args:
            batch: B clips.
            streams: letters of the streams to compute, of a, v and m.

        Returns:
            (B, d) by the letter of the stream.
        """
        pooled = self._class_tokens(batch, streams)
        if self.config.quirks.averaged_stream and self.training and {"a", "v"} <= pooled.keys():
            self.projections["shared"]((pooled["v"] + pooled["a"]) / 2)
        return {s: self._of(self.projections, s)(pooled[s]) for s in streams}

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """Attention weights of the class token in the last layer, the mean over heads.

        They show where the last layer looked, not why the clip got its class.

        Returns:
            (B, L) by the letter of the stream. Column 0 is the class token itself, then come the clip's steps
            (in stream m its audio steps, then its video steps), then zeros. Rows sum to 1.
        """
        audio, video, choices = self._trunk_reads(batch, self.config.streams)
        return self.trunk.transformer.class_attention(self.trunk.inputs(audio, video, **choices))

    def _class_tokens(self, batch: Batch, streams: str) -> dict[str, Tensor]:
        """p_a, p_v, p_m of (1) to (6), (B, D) each."""
        audio, video, choices = self._trunk_reads(batch, streams)
        return self.trunk(audio, video, **choices)

    def _trunk_reads(self, batch: Batch, streams: str) -> tuple[Sequences, Sequences, dict[str, Any]]:
        c = self.config
        if c.quirks.eval_time == "index" and not self.training:
            batch = batch.by_index()
        if c.input_steps == "average":
            batch = replace(batch, audio=batch.audio.averaged(), video=batch.video.averaged())
        uniform = ("a" if c.audio_attention == "mean" else "") + ("v" if c.video_attention == "mean" else "")
        return *self.scaled(batch), {
            "streams": streams,
            "attention": "cross" if c.joint_attention == "cross" else "both",
            "uniform": uniform,
            "published_scaling": c.feature_scaling == "published",
            "with_padding": c.quirks.padding_in_batchnorm == "included",
        }

    def _of(self, modules: nn.ModuleDict, stream: str) -> nn.Module:
        return modules["shared" if self.config.quirks.projections == "shared" else stream]

    def second_forward(self, batch: Batch) -> None:
        """Project the batch again, with times by index as released."""
        pooled = self._class_tokens(batch.by_index(), self.config.streams)
        for s in self.config.streams:
            self._of(self.projections, s)(pooled[s])
        self.text_projection(batch.text)

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load a state dict with the key names of the authors' model file (and TCAF's).

        Raises:
            SacmaError: keys are missing or unknown; they are named.
        """
        if self.config.quirks.projections != "shared" or self.config.quirks.layer_norms != "shared":
            raise SacmaError(
                "published weights fit the variant 'published' only (shared projections and norms)"
            )
        super().load_published(state)

    @classmethod
    def rename_published(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate keys as ``from_published`` does."""
        return from_published(state)


PUBLISHED_NAMES = {
    "cls_token": "trunk.class_token",
    "A_enc.fc.": "trunk.steps.audio.",
    "V_enc.fc.": "trunk.steps.video.",
    "W_proj.fc.": "text_projection.",
    "D_w.fc.": "text_reconstruction.",
    "O_proj.fc.": "projections.shared.",
    "D_o.fc.": "reconstructions.shared.",
    "position_encoder_block.fourier_randn": "trunk.steps.position.frequencies",
    "position_encoder_block.fourier_embeddings.": "trunk.steps.position.time.",
    "position_encoder_block.modal_embedding.": "trunk.steps.position.modality.",
    "position_encoder_block.out_proj_audio.": "trunk.steps.position.project_audio.",
    "position_encoder_block.out_proj_video.": "trunk.steps.position.project_video.",
    "Audio_visual_transformer.layers.": "trunk.transformer.layers.",
    ".attn.to_q.": ".to_queries.",
    ".attn.to_k.": ".to_keys_values.",
    ".attn.to_out.0.": ".out.",
    ".ff.net.": ".feed_forward.",
}
# Aliases of the position block and of the last layer, and the embedding of padding, which changes no result.
PUBLISHED_UNUSED = (
    "audiovisual_embeddings.",
    "Audio_visual_transformer.layer_",
    "position_encoder_block.pad_",
)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a published SACMA or TCAF state dict; unknown ones keep their names."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        for published, ours in PUBLISHED_NAMES.items():
            name = name.replace(published, ours)
        if key.startswith(PUBLISHED_UNUSED) or ".attn.to_v." in key:
            continue
        if key == "cls_token":
            renamed[name] = value.flatten()
        elif ".attn.to_k." in key:
            renamed[name] = torch.cat([value, state[key.replace(".to_k.", ".to_v.")]])
        elif value.ndim == 3:  # a convolution of one step
            renamed[name] = value.squeeze(-1)
        else:
            renamed[name] = value
    return renamed


def _stream(output: str) -> str:
    """Letter of the stream that an output reads."""
    return output.removeprefix("phi_")
